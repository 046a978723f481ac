/* Reading multiple-choice questions. */
#include "train/suite/suite_questions.h"

#include <stdlib.h>
#include <string.h>

#define MOST_BYTES ((size_t)1 << 30)

typedef struct line {
    const char *path;
    long long number;
} line;

/* The first of the members that is there; NULL: none. */
static json_t *first_of(json_t *object, const char *const names[3], const char **name) {
    for (int i = 0; i < 3; i++) {
        json_t *value = json_object_get(object, names[i]);
        *name = names[i];
        if (value) return value;
    }
    return NULL;
}

static weft_status read_before(const line *l, weft_suite_question *q) {
    static const char *const names[3] = {"query", "context", "question"};
    const char *name;
    const json_t *text = first_of(q->object, names, &name);
    if (!text) WEFT_FAIL(WEFT_EINPUT, "%s:%lld: has no 'query', 'context' or 'question'", l->path, l->number);
    if (!json_is_string(text)) WEFT_FAIL(WEFT_EINPUT, "%s:%lld: '%s' is no string", l->path, l->number, name);
    if (strcmp(name, "context") == 0 && json_object_get(q->object, "question"))
        WEFT_FAIL(WEFT_EINPUT,
                  "%s:%lld: has both 'context' and 'question'; say in 'query' what stands before the choices",
                  l->path, l->number);
    q->before = json_string_value(text);
    return WEFT_OK;
}

static weft_status read_choices(const line *l, weft_suite_question *q) {
    q->choices = json_object_get(q->object, "choices");
    q->count = (int64_t)json_array_size(q->choices); /* 0 of what is no list */
    if (q->count < 2)
        WEFT_FAIL(WEFT_EINPUT, "%s:%lld: 'choices' must be a list of two or more strings", l->path,
                  l->number);
    for (int64_t i = 0; i < q->count; i++) {
        const char *text = json_string_value(json_array_get(q->choices, (size_t)i));
        if (!text || !text[strspn(text, " ")])
            WEFT_FAIL(WEFT_EINPUT, "%s:%lld: choice %lld is %s", l->path, l->number, (long long)i,
                      text ? "empty" : "no string");
    }
    return WEFT_OK;
}

/* The choice that a text names: by its own text, by its letter, by its index. -1: none. */
static int64_t named(const weft_suite_question *q, const char *text) {
    for (int64_t i = 0; i < q->count; i++)
        if (strcmp(text, json_string_value(json_array_get(q->choices, (size_t)i))) == 0) return i;
    int64_t letter = text[0] >= 'a' && text[0] <= 'z'   ? text[0] - 'a'
                     : text[0] >= 'A' && text[0] <= 'Z' ? text[0] - 'A'
                                                        : -1;
    if (letter >= 0) return !text[1] && letter < q->count ? letter : -1;
    size_t n = strspn(text, "0123456789");
    if (n == 0 || n > 9 || text[n]) return -1;
    int64_t index = strtoll(text, NULL, 10);
    return index < q->count ? index : -1;
}

static weft_status read_right(const line *l, weft_suite_question *q) {
    static const char *const names[3] = {"gold", "answer", "label"};
    const char *name;
    const json_t *value = first_of(q->object, names, &name);
    if (!value) WEFT_FAIL(WEFT_EINPUT, "%s:%lld: has no 'gold', 'answer' or 'label'", l->path, l->number);
    q->right = -1;
    if (json_is_string(value))
        q->right = named(q, json_string_value(value));
    else if (json_is_integer(value) && json_integer_value(value) < q->count)
        q->right = json_integer_value(value);
    if (q->right < 0)
        WEFT_FAIL(WEFT_EINPUT, "%s:%lld: '%s' is not the index, text or letter of one of the %lld choices",
                  l->path, l->number, name, (long long)q->count);
    return WEFT_OK;
}

static weft_status read_question(const line *l, const char *text, size_t bytes, weft_suite_question *q) {
    json_error_t error;
    q->object = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &error);
    if (!q->object)
        WEFT_FAIL(WEFT_EINPUT, "%s:%lld:%d: no JSON: %s", l->path, l->number, error.column, error.text);
    if (!json_is_object(q->object)) WEFT_FAIL(WEFT_EINPUT, "%s:%lld: is no object", l->path, l->number);
    WEFT_TRY(read_before(l, q));
    WEFT_TRY(read_choices(l, q));
    return read_right(l, q);
}

static weft_status add_question(weft_suite_questions *q, const line *l, const char *text, size_t bytes) {
    if (q->count == q->capacity) {
        int64_t more = q->capacity ? 2 * q->capacity : 256;
        void *bigger = realloc(q->of, (size_t)more * sizeof *q->of);
        if (!bigger) WEFT_FAIL(WEFT_ENOMEM, "%s: no memory for %lld questions", l->path, (long long)more);
        q->of = bigger;
        q->capacity = more;
    }
    weft_suite_question *next = &q->of[q->count++]; /* counted first: it owns what it has read */
    *next = (weft_suite_question){.object = NULL};
    WEFT_TRY(read_question(l, text, bytes, next));
    if (next->count > q->most) q->most = next->count;
    return WEFT_OK;
}

static weft_status read_lines(weft_suite_questions *q, const char *path, const char *text, size_t bytes) {
    line l = {path, 1};
    for (const char *end = text + bytes; text < end; l.number++) {
        const char *newline = memchr(text, '\n', (size_t)(end - text)), *behind = newline ? newline : end;
        size_t blank = 0, n = (size_t)(behind - text);
        while (blank < n && strchr(" \t\r", text[blank]) && text[blank]) blank++;
        if (blank < n) WEFT_TRY(add_question(q, &l, text, n));
        text = behind + 1;
    }
    if (q->count == 0) WEFT_FAIL(WEFT_EINPUT, "%s: holds no question", path);
    return WEFT_OK;
}

weft_status weft_suite_questions_read(weft_suite_questions **out, const char *path) {
    char *text = NULL;
    size_t bytes = 0;
    WEFT_TRY(weft_fs_read_file(path, MOST_BYTES, &text, &bytes));
    weft_suite_questions *q = calloc(1, sizeof *q);
    weft_status st = q ? read_lines(q, path, text, bytes) : weft_fail(WEFT_ENOMEM, "%s: no memory", path);
    free(text);
    if (st == WEFT_OK)
        *out = q;
    else
        weft_suite_questions_free(q);
    return st;
}

void weft_suite_questions_free(weft_suite_questions *q) {
    for (int64_t i = 0; q && i < q->count; i++) json_decref(q->of[i].object);
    if (q) free(q->of);
    free(q);
}
