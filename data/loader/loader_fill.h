/* One sample of a corpus as rows of a batch. Private to data/loader. One thread. */
#ifndef WEFT_LOADER_FILL_H
#define WEFT_LOADER_FILL_H

#include "data/loader/loader_cache.h"
#include "data/loader/loader_corpus.h"
#include "data/loader/loader_mask.h"

typedef struct weft_filler {
    const weft_corpus *corpus;
    weft_cache *cache;
    weft_mask masks[WEFT_LOADER_MAX_DOMAINS];
    int32_t *sequence; /* [seq_len + 1] */
} weft_filler;

/* `corpus` must outlive the filler, which is to be closed after a failure as well. */
weft_status weft_filler_open(weft_filler *f, const weft_corpus *corpus, int64_t cache_bytes);
void weft_filler_close(weft_filler *f); /* a zeroed one is allowed */

/* Sequence `index` of a domain into three rows of seq_len, as weft_batch describes them. *counted: targets
 * that are not -1. Allocates nothing. */
weft_status weft_filler_sample(weft_filler *f, int domain, int64_t index, int32_t *tokens, int32_t *targets,
                               int32_t *doc_start, int64_t *counted);

#endif
