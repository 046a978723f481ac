/* The token streams of the domains, read through a cache of decoded chunks. Private to data/loader and
 * data/shard/sample.c. One thread. */
#ifndef WEFT_LOADER_CACHE_H
#define WEFT_LOADER_CACHE_H

#include "data/loader/loader_streams.h"

typedef struct weft_cache weft_cache;

/* Allocates everything: room for `cache_bytes` of decoded chunks, but at least two chunks and at most all.
 * `streams` must outlive the cache. */
weft_status weft_cache_open(weft_cache **out, const weft_streams *streams, int64_t cache_bytes);
void weft_cache_close(weft_cache *c); /* NULL is allowed */

/* Tokens [first, first + count) of a domain's stream; each is below the vocabulary's size. */
weft_status weft_cache_read(weft_cache *c, int domain, int64_t first, int64_t count, int32_t *tokens);

#endif
