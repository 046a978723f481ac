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
    bool masked;   /* some tokens are: made_masked */
} made_domain;

enum { MADE_SOURCES = 5, MADE_MASKED = 2 };

/* Ids of document `doc` of a domain's split, without BOS (1) and EOS (2): count in *count, at most `longest`.
 */
int32_t *made_document(int64_t vocab, const made_domain *d, int split, int doc, size_t *count);
/* Ranges of that document's ids that are masked, in out; returns their count. */
size_t made_masked(const made_domain *d, int doc, size_t ids, weft_shard_range out[MADE_MASKED]);
/* Where document `doc` of a domain, by its number in the list, is said to come from; id is unlike any
 * other's. */
weft_shard_origin made_origin(int domain, int split, int doc);
/* Documents of a domain's split. */
int made_documents(const made_domain *d, int split);
/* The whole token stream of a domain's split. The caller frees. */
int32_t *made_stream(int64_t vocab, const made_domain *d, int split, int64_t *count);
/* Which of its tokens are masked. The caller frees. */
char *made_stream_masks(int64_t vocab, const made_domain *d, int split);
/* Writes shards, a stand-in for the tokenizer, and the manifest with MADE_SOURCES files into `dir`. */
void made_write(const char *dir, int64_t vocab, const made_domain *domains, int count);

/* Makes the manifest say that its shards are as they lie there now, and that it lists `sources` files. */
void made_manifest_again(const char *dir, int sources);

/* Changes one bit, or cuts the file to `size`. */
void made_flip(const char *path, long at);
void made_cut(const char *path, long size);
long made_size(const char *path);
/* The largest that a file of this process may become, as on a full disk; to write more is an error, not a
 * signal. */
void made_limit_files(unsigned long long bytes);
/* Runs `f` with stderr caught; the text is valid until the next call. */
const char *made_errors(void (*f)(void *), void *arg);

#endif
