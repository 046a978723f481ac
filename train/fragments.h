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

/* Whole tensors of a table on one rank, for the first `kinds` kinds; their data lies in flats[kind], arrays
 * of p->flat elements. */
weft_status weft_fragments_whole(weft_fragment_list *out, const weft_params *p, weft_real *const *flats,
                                 int kinds);
/* What this rank's shards hold of each tensor (a run of elements of its slice: up to three boxes), for all
 * kinds; shards[kind] are arrays of p->shards elements. `replicas` ranks hold the same shard (dp), this is
 * number `replica` of them (expert: of the shards of experts). With `save`, of those that hold the same
 * elements one lists them, so that each is written once and the work is shared; otherwise all do. */
typedef struct weft_replica {
    int ranks, rank;
} weft_replica;
weft_status weft_fragments_shards(weft_fragment_list *out, const weft_params *p, weft_real *const *shards,
                                  weft_replica dense, weft_replica expert, bool save);
void weft_fragments_free(weft_fragment_list *l);

#endif
