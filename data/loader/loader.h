/* Batches of token sequences from a directory of shards (or random tokens), in an order that depends on the
 * seed and on the global sample number only, never on ranks or on time. A background thread decodes ahead. */
#ifndef WEFT_LOADER_H
#define WEFT_LOADER_H

#include "runtime/hash.h"
#include "runtime/status.h"

#include <stdbool.h>
#include <stdint.h>

#define WEFT_LOADER_MAX_DOMAINS 32

typedef struct weft_loader_domain {
    char name[64];
    int64_t documents, tokens, bytes; /* of the split */
    int64_t samples; /* sequences in one epoch; cut from the stream: of seq_len + 1 tokens, stride seq_len */
    int64_t padded;  /* tokens that fill up sequences of whole documents in one epoch; 0 when cut */
    double weight;   /* share of the samples drawn, while no domain is used up; sums to 1 */
} weft_loader_domain;

typedef struct weft_loader_options {
    const char *path;  /* directory made by `weft data build`, or "random" */
    const char *split; /* "train" or "heldout" */
    uint64_t seed;
    int64_t seq_len;     /* T */
    int64_t max_batch;   /* most samples in one weft_loader_request */
    int64_t cache_bytes; /* decoded chunks kept */
    int64_t vocab_size;  /* the model's; a directory made with a tokenizer of another size is refused */
    int32_t bos;         /* only for path "random": first token of each sample; below 0: random as well */
    /* false: sequences are cut from the stream of documents. true: a sequence holds whole documents, or a
     * part of one that is longer than seq_len, and is filled up with EOS. A table of them is made at opening:
     * 12 bytes for each document and each seq_len tokens of it, 8 for each sequence. */
    bool whole;
    int64_t max_epochs; /* no domain comes more often; 0: no limit. Domains used up leave their turns to the
                           others in proportion to their weights. Path "random" has no epochs. */
    int weights_count;  /* 0: in proportion to tokens. Otherwise others get 0; an unknown name is an
                           error, and so is a domain too small for one sample. Path "random" needs none. */
    const struct {
        const char *name;
        double weight;
    } * weights;
} weft_loader_options;

typedef struct weft_batch {
    int64_t count;          /* samples, in the order of the request */
    const int32_t *tokens;  /* [count, T] */
    const int32_t *targets; /* [count, T] next token; -1 where it belongs to another document, is masked (the
                               shard says so) or where there is none: of a filler and before one */
    const int32_t *doc_start; /* [count, T] position in the sample of the first token of the token's document
                                 (of its first one here, if it began before); a filler's own position */
    const int32_t *domain;    /* [count] index into weft_loader_domains */
    int64_t targets_counted;  /* targets that are not -1 */
} weft_batch;

typedef struct weft_loader weft_loader;

/* Not collective. All memory that loading needs is allocated here. */
weft_status weft_loader_open(weft_loader **out, const weft_loader_options *o);
void weft_loader_close(weft_loader *l); /* stops the thread; NULL is allowed */

int weft_loader_domain_count(const weft_loader *l);
const weft_loader_domain *weft_loader_domains(const weft_loader *l);
/* Digest of the tokenizer that made the shards; zero for "random". */
weft_hash128 weft_loader_tokenizer_digest(const weft_loader *l);
/* Path of the tokenizer.model that lies beside the shards; "" for "random". */
const char *weft_loader_tokenizer_path(const weft_loader *l);
/* Digest of the data (manifest's content hash): a resumed run compares it. Zero for "random". */
weft_hash128 weft_loader_content_digest(const weft_loader *l);

/* Samples before the data are used up (max_epochs); UINT64_MAX: no end. */
uint64_t weft_loader_samples(const weft_loader *l);
/* Whether the samples before this one are the same with another limit of epochs. */
bool weft_loader_same_order(const weft_loader *l, uint64_t samples, int64_t max_epochs);
/* Which sequence global sample number `sample` (below weft_loader_samples) is: domain, and index among that
 * domain's samples. Domain by a cycle of 4096 slots holding each domain in proportion to its weight, in keyed
 * order, another one from each sample on that would draw a domain too often; within a domain a keyed
 * permutation of (seed, domain, epoch). The same for any length of a run and any place to go on from. */
void weft_loader_locate(const weft_loader *l, uint64_t sample, int *domain, int64_t *index, int64_t *epoch);

/* Starts decoding `count` samples in the background (numbers as in locate); then weft_loader_take waits for
 * them. One more request may be made before the last is taken: the batch taken stays valid until the second
 * request after its own. No allocation. WEFT_EINPUT for a sample behind the last. */
weft_status weft_loader_request(weft_loader *l, const uint64_t *samples, int64_t count);
/* The same for sequences in file order: indices in one domain (evaluation). */
weft_status weft_loader_request_sequential(weft_loader *l, int domain, int64_t first, int64_t count);
/* Fails with the reader's status when a shard is damaged. *waited_seconds (may be NULL): spent waiting. */
weft_status weft_loader_take(weft_loader *l, weft_batch *out, double *waited_seconds);

#endif
