/* The parameter table's tensors as fragments of a checkpoint. */
#ifndef WEFT_FRAGMENTS_H
#define WEFT_FRAGMENTS_H

#include "model/params.h"
#include "train/checkpoint.h"

typedef struct weft_fragment_list {
    weft_fragment *fragments;
    int64_t count;
    char (*names)[WEFT_PARAM_NAME + 16];
} weft_fragment_list;

/* What a checkpoint holds of each parameter, in this order: its value and AdamW's two moments. */
enum { WEFT_FRAGMENT_PARAM, WEFT_FRAGMENT_ADAM_M, WEFT_FRAGMENT_ADAM_V, WEFT_FRAGMENT_KINDS };

/* Lists the rows first, first + stride, ... of the table, whole, for the first `kinds` kinds; their data lies
 * in flats[kind] at the row's offset. */
weft_status weft_fragments_make(weft_fragment_list *out, const weft_params *p, weft_real *const *flats,
                                int kinds, int64_t first, int64_t stride);
void weft_fragments_free(weft_fragment_list *l);

#endif
