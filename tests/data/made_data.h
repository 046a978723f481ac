/* Data directories made without a tokenizer, for tests of shards and loader: ids are a formula. */
#ifndef WEFT_TEST_MADE_DATA_H
#define WEFT_TEST_MADE_DATA_H

#include "data/shard/manifest.h"

/* A new empty directory below $TMPDIR; removed at exit. */
const char *made_dir(void);

typedef struct made_domain {
    const char *name;
    int documents; /* of the train split; heldout gets a quarter */
    int longest;   /* ids in the longest document */
    int per_shard; /* documents in one shard */
} made_domain;

/* Ids of document `doc` of a domain's split, without BOS (1) and EOS (2): count in *count, at most `longest`.
 */
int32_t *made_document(int64_t vocab, const made_domain *d, int split, int doc, size_t *count);
/* The whole token stream of a domain's split. The caller frees. */
int32_t *made_stream(int64_t vocab, const made_domain *d, int split, int64_t *count);
/* Writes shards, a stand-in for the tokenizer, and the manifest into `dir`. */
void made_write(const char *dir, int64_t vocab, const made_domain *domains, int count);

/* Changes one bit, or cuts the file to `size`. */
void made_flip(const char *path, long at);
void made_cut(const char *path, long size);
long made_size(const char *path);
/* Runs `f` with stderr caught; the text is valid until the next call. */
const char *made_errors(void (*f)(void *), void *arg);

#endif
