/* The token streams of the domains, read through a cache of decoded chunks. Private to data/loader*.c. One
 * thread. */
#ifndef WEFT_LOADER_CACHE_H
#define WEFT_LOADER_CACHE_H

#include "data/shard/manifest.h"

typedef struct weft_cache weft_cache;

/* Opens the shards of one split and allocates everything: room for `cache_bytes` of decoded chunks, but at
 * least two chunks and at most all. `dir` and `m` are not kept. */
weft_status weft_cache_open(weft_cache **out, const char *dir, const weft_manifest *m, int split,
                            int64_t cache_bytes);
void weft_cache_close(weft_cache *c); /* NULL is allowed */

/* Tokens [first, first + count) of a domain's stream: its shards one behind the other. */
weft_status weft_cache_read(weft_cache *c, int domain, int64_t first, int64_t count, int32_t *tokens);

#endif
