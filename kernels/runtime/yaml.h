/* YAML text as a flat list of dotted keys, for configurations and recipes. */
#ifndef WEFT_YAML_H
#define WEFT_YAML_H

#include "runtime/status.h"

#include <stdbool.h>
#include <stddef.h>

typedef struct weft_yaml_entry {
    char *key;                       /* dotted */
    char *value;                     /* NULL: the key opens a mapping; its members are entries of their own */
    bool quoted;                     /* the value stood in quotes, or in a block of text */
    bool empty;                      /* a mapping without members: {} */
    size_t line, column;             /* of the key, from 1 */
    size_t value_line, value_column; /* of the value */
} weft_yaml_entry;

typedef struct weft_yaml {
    weft_yaml_entry *entries; /* in the order of the text */
    int count, capacity;
} weft_yaml;

/* Parses one document of nested mappings and scalars; anything else (lists, anchors, tags, a second document)
 * and a key given twice fail with NAME:LINE:COLUMN. An empty text has no entries. Free the result also after
 * a failure. */
weft_status weft_yaml_parse(weft_yaml *y, const char *text, size_t bytes, const char *name);
void weft_yaml_free(weft_yaml *y);

#endif
