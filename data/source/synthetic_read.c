/* The file NAME.synthetic. */
#include "data/source/synthetic_private.h"
#include "runtime/fs.h"
#include "runtime/text.h"
#include "runtime/yaml.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_BYTES = 1 << 16, WHERE = WEFT_PATH_SIZE + 32 };
#define MOST_DOCUMENTS ((int64_t)1000000000000)
#define MOST_SEED ((int64_t)9000000000000000)

/* The digits at *p as a number, behind which *p then stands; -1 where there are none. Of more digits than any
 * number here has, the rest is left, which nothing takes. */
static int64_t number_at(const char **p) {
    const char *from = *p;
    int64_t number = 0;
    while (isdigit((unsigned char)**p) && *p - from < 17) number = 10 * number + (*(*p)++ - '0');
    return *p == from ? -1 : number;
}

static weft_status read_number(const weft_yaml_entry *e, int64_t low, int64_t high, const char *where,
                               int64_t *out) {
    const char *p = e->value;
    int64_t number = number_at(&p);
    if (*p || number < low || number > high)
        WEFT_FAIL(WEFT_EINPUT, "%s: %s is '%s'; it must be a whole number from %lld to %lld", where, e->key,
                  e->value, (long long)low, (long long)high);
    *out = number;
    return WEFT_OK;
}

static weft_status read_range(weft_synthetic *s, const weft_synthetic_field *f, const weft_yaml_entry *e,
                              const char *where) {
    const char *p = e->value;
    weft_range range = {.low = number_at(&p)};
    bool two = *p == '-' && range.low >= 0;
    p += two;
    range.high = two ? number_at(&p) : range.low;
    if (*p || range.low < 0 || range.high < 0)
        WEFT_FAIL(WEFT_EINPUT, "%s: %s is '%s'; it must be a number, or a range as %lld-%lld", where, e->key,
                  e->value, (long long)f->preset.low, (long long)f->preset.high);
    WEFT_TRY(weft_synthetic_check_range(f, range, where));
    memcpy((char *)s + f->offset, &range, sizeof range);
    return WEFT_OK;
}

static weft_status read_depth(weft_synthetic *s, const weft_yaml_entry *e, const char *where) {
    char *end;
    if (strcmp(e->value, "drawn") == 0) {
        s->depth = -1;
        return WEFT_OK;
    }
    s->depth = strtod(e->value, &end);
    if (!*e->value || *end || !(s->depth >= 0 && s->depth <= 1))
        WEFT_FAIL(WEFT_EINPUT, "%s: depth is '%s'; it must be a number from 0 to 1, or drawn", where,
                  e->value);
    return WEFT_OK;
}

static weft_status read_loss(weft_synthetic *s, const weft_yaml_entry *e, const char *where) {
    s->answers_only = strcmp(e->value, "answers") == 0;
    if (!s->answers_only && strcmp(e->value, "all") != 0)
        WEFT_FAIL(WEFT_EINPUT, "%s: loss is '%s'; it must be all or answers", where, e->value);
    return WEFT_OK;
}

static weft_status read_vocabulary(weft_synthetic *s, const weft_yaml_entry *e, const char *where) {
    if (s->task == WEFT_SYNTHETIC_LABELS)
        WEFT_FAIL(WEFT_EINPUT,
                  "%s: vocabulary is not a key of task labels, whose words are those of its groups", where);
    return read_number(e, 2, WEFT_SYNTHETIC_WORDS, where, &s->vocabulary);
}

static weft_status read_labels(weft_synthetic *s, const weft_yaml_entry *e, const char *where) {
    s->random_labels = strcmp(e->value, "random") == 0;
    if (!s->random_labels && strcmp(e->value, "named") != 0)
        WEFT_FAIL(WEFT_EINPUT, "%s: labels is '%s'; it must be random or named", where, e->value);
    return WEFT_OK;
}

/* ---- keys ---- */

static weft_status of_task(const weft_synthetic *s, weft_synthetic_task task, const weft_yaml_entry *e,
                           const char *where) {
    if (s->task == task) return WEFT_OK;
    WEFT_FAIL(WEFT_EINPUT, "%s: %s is a key of task %s; this file's task is %s", where, e->key,
              weft_synthetic_name(task), weft_synthetic_name(s->task));
}

static weft_status unknown(const char *key, const char *where) {
    const char *names[16] = {"task", "documents", "seed", "depth", "labels", "loss", "vocabulary"};
    int count = 7;
    for (int i = 0; i < weft_synthetic_field_count; i++) names[count++] = weft_synthetic_fields[i].name;
    int near = weft_nearest(key, names, count);
    if (near >= 0)
        WEFT_FAIL(WEFT_EINPUT, "%s: unknown key '%s'; did you mean '%s'?", where, key, names[near]);
    WEFT_FAIL(WEFT_EINPUT, "%s: unknown key '%s'", where, key);
}

static weft_status read_entry(weft_synthetic *s, int64_t *documents, const weft_yaml_entry *e,
                              const char *where) {
    if (!e->value) WEFT_FAIL(WEFT_EINPUT, "%s: '%s' takes a value, nothing below it", where, e->key);
    if (strcmp(e->key, "task") == 0) return WEFT_OK; /* it was read first */
    if (strcmp(e->key, "documents") == 0) return read_number(e, 1, MOST_DOCUMENTS, where, documents);
    if (strcmp(e->key, "seed") == 0) {
        int64_t seed = 0;
        WEFT_TRY(read_number(e, 0, MOST_SEED, where, &seed));
        s->seed = (uint64_t)seed;
        return WEFT_OK;
    }
    if (strcmp(e->key, "loss") == 0) return read_loss(s, e, where);
    if (strcmp(e->key, "vocabulary") == 0) return read_vocabulary(s, e, where);
    if (strcmp(e->key, "depth") == 0) {
        WEFT_TRY(of_task(s, WEFT_SYNTHETIC_NEEDLE, e, where));
        return read_depth(s, e, where);
    }
    if (strcmp(e->key, "labels") == 0) {
        WEFT_TRY(of_task(s, WEFT_SYNTHETIC_LABELS, e, where));
        return read_labels(s, e, where);
    }
    for (int i = 0; i < weft_synthetic_field_count; i++) {
        const weft_synthetic_field *f = &weft_synthetic_fields[i];
        if (strcmp(e->key, f->name) != 0) continue;
        WEFT_TRY(of_task(s, f->task, e, where));
        return read_range(s, f, e, where);
    }
    return unknown(e->key, where);
}

static weft_status read_task(weft_synthetic *s, const weft_yaml *yaml, const char *path) {
    static const char all[] = "recall, copy, needle or labels";
    for (int i = 0; i < yaml->count; i++) {
        const weft_yaml_entry *e = &yaml->entries[i];
        if (strcmp(e->key, "task") != 0) continue;
        int task = e->value ? weft_synthetic_task_of(e->value) : -1;
        if (task < 0)
            WEFT_FAIL(WEFT_EINPUT, "%s:%zu: task is '%s'; it must be %s", path, e->line,
                      e->value ? e->value : "", all);
        weft_synthetic_defaults(s, (weft_synthetic_task)task);
        return WEFT_OK;
    }
    WEFT_FAIL(WEFT_EINPUT, "%s: it has no task; it must be %s", path, all);
}

static weft_status read_entries(weft_synthetic *s, int64_t *documents, const weft_yaml *yaml,
                                const char *path) {
    char where[WHERE];
    WEFT_TRY(read_task(s, yaml, path));
    for (int i = 0; i < yaml->count; i++) {
        snprintf(where, sizeof where, "%s:%zu", path, yaml->entries[i].line);
        WEFT_TRY(read_entry(s, documents, &yaml->entries[i], where));
    }
    WEFT_TRY(weft_synthetic_check(s, path));
    if (*documents == 0) WEFT_FAIL(WEFT_EINPUT, "%s: it does not say how many documents", path);
    return WEFT_OK;
}

weft_status weft_synthetic_read(weft_synthetic *s, int64_t *documents, const char *path) {
    char *text = NULL;
    size_t bytes;
    weft_yaml yaml = {0};
    weft_synthetic found = {0};
    int64_t count = 0;
    WEFT_TRY(weft_fs_read_file(path, MOST_BYTES, &text, &bytes));
    weft_status st = weft_yaml_parse(&yaml, text, bytes, path);
    if (st == WEFT_OK) st = read_entries(&found, &count, &yaml, path);
    weft_yaml_free(&yaml);
    free(text);
    WEFT_TRY(st);
    *s = found;
    *documents = count;
    return WEFT_OK;
}
