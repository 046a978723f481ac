/* A filter opened for a test, and what it says of a text. */
#ifndef WEFT_TEST_FILTERED_H
#define WEFT_TEST_FILTERED_H

#include "data/filter/filter.h"

typedef struct filtered {
    const weft_filter_kind *kind;
    void *state;
    weft_words *words;
    double values[WEFT_FILTER_MAX_RULES];
    weft_text changed;
    bool has_changed;
} filtered;

const weft_filter_kind *filtered_kind(const char *name);
int filtered_rule(const weft_filter_kind *k, const char *rule);
/* `options`: pairs of name and value, NULL at the end; NULL: none. */
weft_status filtered_try(filtered *f, const char *kind, const char *const *options);
void filtered_open(filtered *f, const char *kind, const char *const *options);
void filtered_close(filtered *f);
/* Fills values, changed and has_changed. url and file NULL: "". */
void filtered_run(filtered *f, const char *text, size_t bytes, const char *url, const char *file);
double filtered_value(filtered *f, const char *rule);
/* A new file with this content in a folder of its own; the path stays valid. */
const char *filtered_file(const char *content);

#endif
