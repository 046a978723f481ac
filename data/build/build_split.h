/* Writes tokenised documents into the shards of their domain and split, and notes them in a manifest. Private
 * to data/build*.c. */
#ifndef WEFT_BUILD_SPLIT_H
#define WEFT_BUILD_SPLIT_H

#include "data/shard/manifest.h"

typedef struct weft_splitter {
    const char *dir;       /* with the folders train/ and heldout/ */
    weft_shard_info about; /* domain: of no meaning */
    int64_t shard_tokens;
    int64_t *counts;         /* [vocabulary] training tokens by id; the caller's, zeroed */
    weft_manifest *manifest; /* gets domains and files */
    weft_shard_writer *open[WEFT_LOADER_MAX_DOMAINS][WEFT_SPLITS]; /* NULL: none yet, or just closed */
} weft_splitter;

/* Number of a domain, new or known; WEFT_EINPUT for one too many. `where` is for the message. */
weft_status weft_splitter_domain(weft_splitter *s, const char *name, const char *where, int *out);
weft_status weft_splitter_add(weft_splitter *s, int domain, int split, const int32_t *ids, size_t count,
                              size_t text_bytes);
/* Closes all shards, sorts the manifest's domains by name and notes the training tokens' entropy. */
weft_status weft_splitter_finish(weft_splitter *s);
void weft_splitter_abandon(weft_splitter *s); /* after a failure; the manifest is the caller's */

#endif
