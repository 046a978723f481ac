/* Where a model's weights and gradients are during a pass: sharded over ranks and gathered just in time
 * (FSDP, ZeRO-3: Rajbhandari et al., arXiv 1910.02054; Zhao et al., arXiv 2304.11277), or simply there.
 *
 * Weights lie in buckets. A *unit* is what is gathered and freed together: a layer's bucket and its experts'
 * bucket, the embedding, the head. Units are used in an order known beforehand (0, 1, ..., last, ..., 1, 0):
 * while one is used, the next is gathered. Two places take turns (even positions of that order at the low end
 * of a region, odd ones at its high end), so that the region is as large as the largest two neighbours.
 *
 * On a device whose streams overlap, gradients are reduced beside the computing of the next unit: their
 * memory is there twice, taken in turn, and the reductions' workspace is the store's. */
#ifndef WEFT_STORE_H
#define WEFT_STORE_H

#include "parallel/comm.h"
#include "runtime/device.h"

#define WEFT_BUCKET_NAME 64
#define WEFT_UNIT_ALWAYS (-1) /* gathered once a step and kept: small buckets that everything needs */

typedef struct weft_bucket {
    char name[WEFT_BUCKET_NAME];
    bool expert;
    int unit;         /* or WEFT_UNIT_ALWAYS */
    bool late_grads;  /* more than one unit adds to its gradient (shared, tied embedding): reduced at the end
                         of a pass */
    bool full;        /* used in weft_real, also where activations are not */
    int64_t elements; /* of this rank's slice; a multiple of WEFT_SHARD_GRAIN */
    bool copied;      /* holds slices that several tp ranks hold alike */
    int64_t offset;   /* in an array of whole slices */
    weft_part shard;  /* this rank's part of the elements */
    int64_t shard_at; /* in an array of shards */
} weft_bucket;

/* The group that cuts a bucket into shards, and the one whose ranks hold the same shard. */
static inline weft_group_kind weft_bucket_shards(const weft_bucket *b) {
    return b->expert ? WEFT_GROUP_EXPERT_SHARD : WEFT_GROUP_SHARD;
}
static inline weft_group_kind weft_bucket_replicas(const weft_bucket *b) {
    return b->expert ? WEFT_GROUP_EXPERT_REPLICA : WEFT_GROUP_REPLICA;
}

typedef enum weft_reshard {
    WEFT_RESHARD_ALWAYS,         /* gathered for forward and again for backward */
    WEFT_RESHARD_AFTER_BACKWARD, /* kept from forward to backward of a microbatch */
    WEFT_RESHARD_NEVER           /* kept until the weights change */
} weft_reshard;

typedef struct weft_store weft_store;

typedef struct weft_store_options {
    weft_comm *comm;
    weft_device *device;
    const weft_bucket *buckets;
    int bucket_count, units;
    weft_reshard reshard;
    bool prefetch;
    weft_dtype act; /* what buckets are used in that are not `full`; weft_real's: the parameters themselves */
    weft_dtype reduce; /* what gradients travel in: weft_real's, or WEFT_BF16 */
} weft_store_options;

/* Allocates bookkeeping only; arrays come from `arena` (or are counted by a measuring one): gathered weights,
 * whole gradients. `shards`: this rank's parameters; `shards_act`: the same in the type `act`, element by
 * element (NULL where that is weft_real's). May be called again on another arena (weft_store_place). */
weft_status weft_store_open(weft_store **out, const weft_store_options *o);
void weft_store_place(weft_store *s, weft_arena *arena, const weft_real *shards, const void *shards_act);
/* A store whose weights (and gradients, or NULL) are whole arrays of weft_real that the caller owns. Nothing
 * is collective. */
weft_status weft_store_open_whole(weft_store **out, const weft_bucket *buckets, int bucket_count);
void weft_store_set_whole(weft_store *s, const void *weights, weft_real *grads);
void weft_store_close(weft_store *s);

/* The slices of a bucket: valid from the enter of its unit on until its place is taken by another unit
 * (`always`), to the end of the pass (`after_backward`), or until the weights change (`never`; and the
 * buckets that are always needed). What still lies in its place is not gathered again. */
const void *weft_store_weights(const weft_store *s, int bucket);
weft_dtype weft_store_bucket_type(const weft_store *s, int bucket); /* of its weights */
weft_real *weft_store_grads(const weft_store *s, int bucket);       /* NULL in a forward-only pass */

/* A pass: begin with the array of shards that gradients of this pass go to (NULL: forward only; assigned, or
 * added when `accumulate`). Collective, as all below. */
void weft_store_pass_begin(weft_store *s, weft_real *grad_shards, bool accumulate);
/* Position `at` of the pass's order uses unit `unit`; `next` is the unit at position next_at, or -1. */
void weft_store_enter(weft_store *s, int unit, int at, int next, int next_at);
void weft_store_grads_begin(weft_store *s, int unit); /* zeroed whole gradients of the unit */
void weft_store_grads_end(weft_store *s, int unit);   /* reduced to shards, at the latest by the pass's end */
void weft_store_pass_end(weft_store *s);              /* reduces what is left */
/* The weights' shards have changed: everything gathered is out of date. */
void weft_store_changed(weft_store *s);

typedef struct weft_store_bytes {
    size_t weights, gradients; /* of the arena */
} weft_store_bytes;
weft_store_bytes weft_store_memory(const weft_store *s);

#endif
