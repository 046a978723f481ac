/* YAML text -> flat list of dotted keys, by libyaml's event interface (its marks give every message a place).
 */
#include "runtime/yaml.h"

#include <stdlib.h>
#include <string.h>
#include <yaml.h>

/* Deeper than any key of weft; bounds the recursion on hostile text. */
enum { MAX_DEPTH = 8 };

typedef struct reader {
    yaml_parser_t parser;
    const char *text, *name;
    size_t bytes;
    weft_yaml *out;
} reader;

#define PLACE "%s:%zu:%zu: "
#define AT(r, mark) (r)->name, (mark).line + 1, (mark).column + 1

/* ---- the list ----------------------------------------------------------------------------------- */

void weft_yaml_free(weft_yaml *y) {
    for (int i = 0; i < y->count; i++) {
        free(y->entries[i].key);
        free(y->entries[i].value);
    }
    free(y->entries);
    *y = (weft_yaml){0};
}

/* Takes over the key; NULL when out of memory. */
static weft_yaml_entry *append(weft_yaml *y, char *key, yaml_mark_t mark) {
    if (y->count == y->capacity) {
        int capacity = y->capacity ? 2 * y->capacity : 64;
        weft_yaml_entry *entries = realloc(y->entries, (size_t)capacity * sizeof *entries);
        if (!entries) return NULL;
        y->entries = entries;
        y->capacity = capacity;
    }
    weft_yaml_entry *e = &y->entries[y->count++];
    *e = (weft_yaml_entry){.key = key, .line = mark.line + 1, .column = mark.column + 1};
    return e;
}

/* ---- syntax errors ------------------------------------------------------------------------------ */

/* libyaml gives a byte offset instead of a mark for bytes that are not legal text. */
static yaml_mark_t mark_of_offset(const reader *r, size_t offset) {
    yaml_mark_t m = {0};
    for (size_t i = 0; i < offset && i < r->bytes; i++) {
        m.column++;
        if (r->text[i] == '\n') m.line++, m.column = 0;
    }
    return m;
}

/* Does the line hold a tab before its first other character? */
static bool tab_in_indentation(const reader *r, size_t line, size_t *column) {
    const char *p = r->text, *end = r->text + r->bytes;
    for (size_t i = 0; i < line && p < end; p++) i += *p == '\n';
    for (*column = 0; p < end && (*p == ' ' || *p == '\t'); p++, ++*column)
        if (*p == '\t') return true;
    return false;
}

static weft_status syntax_failure(const reader *r) {
    const yaml_parser_t *p = &r->parser;
    const char *problem = p->problem ? p->problem : "not YAML";
    size_t column;
    if (p->error == YAML_MEMORY_ERROR) WEFT_FAIL(WEFT_ENOMEM, "%s: out of memory", r->name);
    if (p->error == YAML_READER_ERROR)
        WEFT_FAIL(WEFT_EINPUT, PLACE "%s; a configuration is UTF-8 text",
                  AT(r, mark_of_offset(r, p->problem_offset)), problem);
    if (tab_in_indentation(r, p->problem_mark.line, &column))
        WEFT_FAIL(WEFT_EINPUT, PLACE "a tab in the indentation; YAML allows spaces only", r->name,
                  p->problem_mark.line + 1, column + 1);
    if (p->context)
        WEFT_FAIL(WEFT_EINPUT, PLACE "YAML syntax: %s (%s that began on line %zu)", AT(r, p->problem_mark),
                  problem, p->context, p->context_mark.line + 1);
    WEFT_FAIL(WEFT_EINPUT, PLACE "YAML syntax: %s", AT(r, p->problem_mark), problem);
}

static weft_status next(reader *r, yaml_event_t *event) {
    if (!yaml_parser_parse(&r->parser, event)) return syntax_failure(r);
    return WEFT_OK;
}

/* ---- events ------------------------------------------------------------------------------------- */

/* What weft's files do not use, though YAML has it. */
static weft_status refuse_extras(const reader *r, const yaml_event_t *e) {
    const yaml_char_t *tag = NULL, *anchor = NULL;
    if (e->type == YAML_SCALAR_EVENT) tag = e->data.scalar.tag, anchor = e->data.scalar.anchor;
    if (e->type == YAML_MAPPING_START_EVENT)
        tag = e->data.mapping_start.tag, anchor = e->data.mapping_start.anchor;
    if (e->type == YAML_SEQUENCE_START_EVENT)
        WEFT_FAIL(WEFT_EINPUT, PLACE "a list; no key takes one", AT(r, e->start_mark));
    if (e->type == YAML_ALIAS_EVENT || anchor)
        WEFT_FAIL(WEFT_EINPUT,
                  PLACE "anchors (&x) and aliases (*x) are not supported; use `include`, or repeat the value",
                  AT(r, e->start_mark));
    if (tag)
        WEFT_FAIL(WEFT_EINPUT, PLACE "tags (!x) are not supported; leave %s out", AT(r, e->start_mark), tag);
    return WEFT_OK;
}

static weft_status read_mapping(reader *r, const char *prefix, int depth);

/* The dotted key of a key event, malloc'ed, checked to be new. */
static weft_status make_key(const reader *r, const yaml_event_t *e, const char *prefix, char **out) {
    WEFT_TRY(refuse_extras(r, e));
    if (e->type != YAML_SCALAR_EVENT)
        WEFT_FAIL(WEFT_EINPUT, PLACE "a key must be a plain name", AT(r, e->start_mark));
    const char *name = (const char *)e->data.scalar.value;
    size_t n = e->data.scalar.length, p = strlen(prefix);
    if (n == 0 || memchr(name, '\0', n))
        WEFT_FAIL(WEFT_EINPUT, PLACE "a key must be a plain name", AT(r, e->start_mark));
    char *key = malloc(p + n + 2);
    if (!key) WEFT_FAIL(WEFT_ENOMEM, "%s: out of memory", r->name);
    sprintf(key, "%s%s%s", prefix, p ? "." : "", name);
    for (int i = 0; i < r->out->count; i++)
        if (strcmp(r->out->entries[i].key, key) == 0) {
            weft_status st =
                weft_fail(WEFT_EINPUT, PLACE "%s was given before, on line %zu; keep one of them",
                          AT(r, e->start_mark), key, r->out->entries[i].line);
            free(key);
            return st;
        }
    *out = key;
    return WEFT_OK;
}

/* One value, whose key is the entry at `index` (by index: the list may move while members are added). */
static weft_status read_value(reader *r, int index, const yaml_event_t *e, int depth) {
    weft_yaml_entry *entry = &r->out->entries[index];
    entry->value_line = e->start_mark.line + 1;
    entry->value_column = e->start_mark.column + 1;
    WEFT_TRY(refuse_extras(r, e));
    if (e->type == YAML_MAPPING_START_EVENT) {
        if (depth == MAX_DEPTH)
            WEFT_FAIL(WEFT_EINPUT, PLACE "mappings are nested too deeply", AT(r, e->start_mark));
        WEFT_TRY(read_mapping(r, entry->key, depth + 1));
        r->out->entries[index].empty = r->out->count == index + 1;
        return WEFT_OK;
    }
    const char *text = (const char *)e->data.scalar.value;
    if (memchr(text, '\0', e->data.scalar.length))
        WEFT_FAIL(WEFT_EINPUT, PLACE "%s has a NUL character in its value", AT(r, e->start_mark), entry->key);
    entry->value = strdup(text);
    entry->quoted = e->data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
    if (!entry->value) WEFT_FAIL(WEFT_ENOMEM, "%s: out of memory", r->name);
    return WEFT_OK;
}

/* The members of a mapping whose start has been read, up to its end. */
static weft_status read_mapping(reader *r, const char *prefix, int depth) {
    for (;;) {
        yaml_event_t event;
        char *key = NULL;
        WEFT_TRY(next(r, &event));
        if (event.type == YAML_MAPPING_END_EVENT) {
            yaml_event_delete(&event);
            return WEFT_OK;
        }
        yaml_mark_t mark = event.start_mark;
        weft_status st = make_key(r, &event, prefix, &key);
        yaml_event_delete(&event);
        WEFT_TRY(st);
        if (!append(r->out, key, mark)) {
            free(key);
            WEFT_FAIL(WEFT_ENOMEM, "%s: out of memory", r->name);
        }
        WEFT_TRY(next(r, &event));
        st = read_value(r, r->out->count - 1, &event, depth);
        yaml_event_delete(&event);
        WEFT_TRY(st);
    }
}

/* The root must be a mapping, and the only document. */
static weft_status read_stream(reader *r) {
    bool seen = false;
    for (;;) {
        yaml_event_t event;
        WEFT_TRY(next(r, &event));
        yaml_event_type_t type = event.type;
        yaml_mark_t mark = event.start_mark;
        weft_status st = WEFT_OK;
        if (type == YAML_DOCUMENT_START_EVENT && seen) {
            st = weft_fail(WEFT_EINPUT, PLACE "a second document; a configuration is one", AT(r, mark));
        } else if (type == YAML_MAPPING_START_EVENT) {
            st = refuse_extras(r, &event);
            seen = true;
        } else if (type == YAML_SCALAR_EVENT || type == YAML_SEQUENCE_START_EVENT ||
                   type == YAML_ALIAS_EVENT) {
            st = weft_fail(WEFT_EINPUT,
                           PLACE "not a mapping of keys to values; lines look like `train:` or `steps: 100`",
                           AT(r, mark));
        }
        yaml_event_delete(&event);
        WEFT_TRY(st);
        if (type == YAML_MAPPING_START_EVENT) WEFT_TRY(read_mapping(r, "", 0));
        if (type == YAML_STREAM_END_EVENT) return WEFT_OK;
    }
}

weft_status weft_yaml_parse(weft_yaml *y, const char *text, size_t bytes, const char *name) {
    reader r = {.text = text, .name = name, .bytes = bytes, .out = y};
    *y = (weft_yaml){0};
    if (!yaml_parser_initialize(&r.parser)) WEFT_FAIL(WEFT_ENOMEM, "%s: out of memory", name);
    yaml_parser_set_input_string(&r.parser, (const unsigned char *)text, bytes);
    weft_status st = read_stream(&r);
    yaml_parser_delete(&r.parser);
    return st;
}
