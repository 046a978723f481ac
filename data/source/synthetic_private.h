/* What the files of the synthetic tasks share. Private to data/source/synthetic*.c. */
#ifndef WEFT_SYNTHETIC_PRIVATE_H
#define WEFT_SYNTHETIC_PRIVATE_H

#include "data/source/synthetic.h"
#include "runtime/rng.h"

enum {
    WEFT_SYNTHETIC_TASKS = 4,
    WEFT_SYNTHETIC_WORDS = 256,
    WEFT_SYNTHETIC_GROUPS = 8,
    WEFT_SYNTHETIC_GROUP_WORDS = 12 /* group g: words[12 g] and the eleven behind it */
};

extern const char *const weft_synthetic_group_names[WEFT_SYNTHETIC_GROUPS];

/* The ranges that a task draws from. */
typedef struct weft_synthetic_field {
    const char *name;
    weft_synthetic_task task;
    size_t offset; /* of a weft_range in weft_synthetic */
    weft_range bounds, preset;
} weft_synthetic_field;
extern const weft_synthetic_field weft_synthetic_fields[];
extern const int weft_synthetic_field_count;
weft_status weft_synthetic_check_range(const weft_synthetic_field *f, weft_range range, const char *where);

/* A document that is being made: its draws are numbered from 0, in the order in which it asks for them. */
typedef struct weft_making {
    const weft_synthetic *s;
    weft_synthetic_document *d;
    weft_rng rng;
    uint64_t next;
} weft_making;

uint64_t weft_making_below(weft_making *m, uint64_t bound);
int64_t weft_making_from(weft_making *m, weft_range range);
/* count <= of different ones of 0..of-1, in a drawn order; of <= WEFT_SYNTHETIC_WORDS. */
void weft_making_choose(weft_making *m, int count, int of, int *out);
weft_status weft_making_text(weft_making *m, const char *text);
/* The same of a space and a word, which are an answer where `answer`. */
weft_status weft_making_word(weft_making *m, const char *word, bool answer);

/* ---- synthetic_tasks.c, synthetic_needle.c ---- */

weft_status weft_making_recall(weft_making *m);
weft_status weft_making_copy(weft_making *m);
weft_status weft_making_needle(weft_making *m);
weft_status weft_making_labels(weft_making *m);

#endif
