/* manifest.json of a data directory: what it holds, how it was made, and the hash of every shard.
 *
 * DIR/manifest.json, DIR/tokenizer/, DIR/train/DOMAIN-00000.h5, DIR/heldout/DOMAIN-00000.h5 */
#ifndef WEFT_MANIFEST_H
#define WEFT_MANIFEST_H

#include "data/loader/loader.h"
#include "data/shard/shard.h"
#include "runtime/hash.h"
#include "runtime/status.h"

#include <stdint.h>

#define WEFT_MANIFEST_VERSION 1

enum { WEFT_SPLIT_TRAIN, WEFT_SPLIT_HELDOUT, WEFT_SPLITS };
extern const char *const weft_split_names[WEFT_SPLITS];
int weft_split_of(const char *name); /* -1: no such split */

typedef struct weft_manifest_file {
    char *name; /* relative to the directory */
    uint64_t size;
    weft_hash128 hash; /* XXH3-128 of the file */
    int64_t documents, tokens, bytes;
    weft_hash128 content; /* the shard's */
} weft_manifest_file;

typedef struct weft_manifest_split {
    int64_t documents, tokens, bytes; /* bytes of text */
    weft_manifest_file *files;        /* in the order of the token stream */
    int count;
} weft_manifest_split;

typedef struct weft_manifest_domain {
    char name[WEFT_DOMAIN_NAME];
    weft_manifest_split split[WEFT_SPLITS];
} weft_manifest_domain;

typedef struct weft_manifest_source {
    char *file; /* as given */
    int64_t documents, bytes, malformed, empty;
} weft_manifest_source;

typedef struct weft_manifest {
    int64_t vocab_size;
    int32_t bos, eos;
    double heldout;
    double
        unigram_entropy; /* nats: of the training tokens' frequencies, what a model without context reaches */
    weft_hash128 tokenizer, pipeline;
    weft_hash128 content; /* of all shards' content in order, see weft_manifest_content */
    weft_manifest_domain *domains;
    int domain_count; /* at most WEFT_LOADER_MAX_DOMAINS, sorted by name */
    weft_manifest_source *sources;
    int source_count;
} weft_manifest;

weft_status weft_manifest_read(weft_manifest *m, const char *dir);
/* Writes and syncs DIR/manifest.json, which must not exist. */
weft_status weft_manifest_write(const weft_manifest *m, const char *dir);
void weft_manifest_free(weft_manifest *m); /* a zeroed one is allowed */

/* XXH3-128 over the tokenizer's digest and each shard's name and content, in the manifest's order. */
weft_status weft_manifest_content(const weft_manifest *m, weft_hash128 *out);
/* Opens a shard of the manifest: what its header says, then its size, must be what the manifest says. */
weft_status weft_manifest_open_shard(const weft_manifest *m, const char *dir,
                                     const weft_manifest_domain *domain, const weft_manifest_file *file,
                                     weft_shard **out);

#endif
