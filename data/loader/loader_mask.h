/* The masked tokens of a domain: read, but no target. 16 bytes a range stay in memory. Private to
 * data/loader. */
#ifndef WEFT_LOADER_MASK_H
#define WEFT_LOADER_MASK_H

#include "data/loader/loader_streams.h"

typedef struct weft_mask {
    weft_shard_range *ranges; /* [count] of the domain's stream, ascending, without overlap */
    size_t count;
} weft_mask;

/* *m is to be freed after a failure as well. */
weft_status weft_mask_read(weft_mask *m, const weft_stream *s);
void weft_mask_free(weft_mask *m); /* a zeroed one is allowed */

/* targets[i] is token first + i of the stream, or -1: makes those that are masked -1. Returns how many were
 * not. */
int64_t weft_mask_apply(const weft_mask *m, int64_t first, int64_t count, int32_t *targets);

#endif
