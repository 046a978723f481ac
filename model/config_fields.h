/* The field table of the configuration, for the config_*.c files: what keys exist, and text <-> value of one
 * key. */
#ifndef WEFT_CONFIG_FIELDS_H
#define WEFT_CONFIG_FIELDS_H

#include "model/config.h"

#include <stddef.h>

typedef enum weft_field_type {
    WEFT_FIELD_INT,     /* int64_t */
    WEFT_FIELD_REAL,    /* double */
    WEFT_FIELD_BOOL,    /* bool */
    WEFT_FIELD_TEXT,    /* char[size] */
    WEFT_FIELD_CHOICE,  /* an enum: index into choices */
    WEFT_FIELD_WEIGHTS, /* weft_domain_weight[WEFT_MAX_DOMAINS] and its count: a mapping name -> number */
} weft_field_type;

typedef struct weft_field_range {
    double low, high;         /* -INFINITY, INFINITY: no bound */
    bool low_open, high_open; /* the bound itself is outside */
} weft_field_range;

typedef struct weft_field {
    const char *key; /* dotted; "section.name" or a top-level name */
    weft_field_type type;
    size_t offset;              /* in weft_config */
    size_t size;                /* TEXT: bytes of the array */
    const char *preset;         /* the default, as text */
    weft_field_range range;     /* INT, REAL, and each weight */
    const char *const *choices; /* CHOICE: by enum value, NULL at the end */
    bool has_auto;              /* INT: the word auto stands for 0 */
    const char *unit;           /* NULL: none */
    const char *doc;
} weft_field;

/* Fields of one section are neighbours; top-level keys are the section "". */
extern const weft_field weft_fields[];
extern const int weft_fields_count;

typedef struct weft_section {
    const char *name, *doc;
} weft_section;
extern const weft_section weft_sections[]; /* in the table's order */
extern const int weft_sections_count;

/* Is the field in this section? `*name` is then its key without the section. */
bool weft_field_in(const weft_field *f, const char *section, const char **name);
/* The field a key names, NULL when there is none. For "data.weights.NAME" the field data.weights, and *domain
 * NAME (otherwise NULL). */
const weft_field *weft_field_find(const char *key, const char **domain);

/* Reads `text` as the field's value, or as the weight of `domain`. `quoted`: it stood in quotes, so it is no
 * number, bool or choice. `where` begins the message of a failure; c is unchanged then. */
weft_status weft_field_set(weft_config *c, const weft_field *f, const char *domain, const char *text,
                           bool quoted, const char *where);
/* Is the value the struct holds inside the table's range? Reports as weft_field_set does. */
weft_status weft_field_check(const weft_config *c, const weft_field *f, const char *where);

/* The value as text that weft_field_set reads back to the same bits; not for WEIGHTS. buffer:
 * WEFT_FIELD_VALUE bytes. */
#define WEFT_FIELD_VALUE (WEFT_CONFIG_STR + 64)
void weft_field_get(const weft_config *c, const weft_field *f, char *buffer);

/* The shortest decimal text that reads back to x; whole numbers below 1e15 without an exponent. buffer: 32
 * bytes. */
void weft_real_text(double x, char *buffer);
/* "an integer", "a number" ... for messages and the reference. */
const char *weft_field_type_name(const weft_field *f);
/* "from 1 to 1024", "at least 1"; "" without bounds; choices as "none, mixer, ffn or all". */
void weft_field_range_text(const weft_field *f, char *buffer, size_t bytes);

#endif
