/* Tensors whose every element follows from its place, cut into boxes in any way: what was read can be checked
 * without keeping what was written. */
#ifndef WEFT_MADE_CKPT_H
#define WEFT_MADE_CKPT_H

#include "train/checkpoint.h"

/* A cut: dim 0 in `rows` parts, the last dim in `columns` parts (empty parts where there are too many). */
typedef struct made_cut {
    int64_t rows, columns;
} made_cut;

typedef struct made_fragments {
    weft_fragment *list;
    int64_t count;
} made_fragments;

extern const int made_tensors;        /* one of each dtype, one to four dims */
weft_fragment made_tensor(int index); /* whole, without data */

/* This rank's share of all boxes: those whose number modulo `size` is `rank`. Filled with the values of
 * `salt`, or with 0xEE bytes when salt < 0. */
made_fragments made_new(made_cut cut, int rank, int size, int salt);
void made_free(made_fragments f);
/* Whether every element has the value of `salt`. */
bool made_equals(made_fragments f, int salt);

/* A run directory of its own under $TMPDIR, given to every rank; removed by made_remove. */
void made_run(const weft_world *w, char out[256]);
void made_remove(const char *path); /* with all below it */

weft_ckpt_state made_state(int64_t step); /* config_yaml is a constant: not to be freed */

#endif
