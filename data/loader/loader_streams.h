/* The token streams of the domains: each domain's shards of one split, one behind the other. Private to
 * data/loader and data/shard/sample.c. */
#ifndef WEFT_LOADER_STREAMS_H
#define WEFT_LOADER_STREAMS_H

#include "data/shard/manifest.h"

typedef struct weft_stream {
    weft_shard **shards; /* [count] */
    int64_t *start;      /* [count + 1] tokens before each shard; the last: all */
    int count;
} weft_stream;

typedef struct weft_streams {
    weft_stream of[WEFT_LOADER_MAX_DOMAINS]; /* by the manifest's domains */
    int count;
    int64_t vocab_size;
} weft_streams;

/* Opens the shards of a split. `dir` and `m` are not kept. *s is to be closed after a failure as well. */
weft_status weft_streams_open(weft_streams *s, const char *dir, const weft_manifest *m, int split);
void weft_streams_close(weft_streams *s); /* zeroed ones are allowed */

/* The shard that holds token `at` of the stream. */
int weft_stream_shard(const weft_stream *s, int64_t at);

#endif
