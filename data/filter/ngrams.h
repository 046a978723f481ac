/* Runs of words by their hashes, and a set of such runs. Private to data/filter. */
#ifndef WEFT_NGRAMS_H
#define WEFT_NGRAMS_H

#include "runtime/status.h"

#include <stddef.h>
#include <stdint.h>

enum { WEFT_NGRAM_MAX = 64, WEFT_NGRAM_RING = 2 * WEFT_NGRAM_MAX };

/* ---- hashes ----
 * Of words w0 ... wm: sum of XXH3-64(wi) * BASE^(m - i), modulo 2^64. Of the last WEFT_NGRAM_MAX words that
 * were added, any run's hash takes one product. Two different runs share a hash with a probability of 2^-64,
 * and of at most 2^-59 when one is the other with two words exchanged. */
#define WEFT_NGRAM_BASE                                                                                      \
    UINT64_C(0x9e3779b97f4a7c1b) /* odd; its square minus 1 is divisible by 8, not by 16 */

typedef struct weft_words_rolled {
    uint64_t powers[WEFT_NGRAM_MAX + 1];
    uint64_t sums[WEFT_NGRAM_RING]; /* of the words before each, by number */
    int64_t count;                  /* words added */
} weft_words_rolled;
void weft_words_rolled_start(weft_words_rolled *r);
void weft_words_rolled_add(weft_words_rolled *r, const char *word, size_t bytes);
/* `first` is among the last WEFT_NGRAM_MAX words, first + length <= count. */
static inline uint64_t weft_words_rolled_hash(const weft_words_rolled *r, int64_t first, int length) {
    return r->sums[(first + length) % WEFT_NGRAM_RING] - r->sums[first % WEFT_NGRAM_RING] * r->powers[length];
}

/* ---- the set ---- */
typedef struct weft_ngram {
    uint64_t hash;
    uint64_t origin; /* not 0 */
} weft_ngram;

/* Runs of at least `prefix` words. What is looked for is asked in `filter` first, by the hash of its first
 * `prefix` words: a run that is not there costs one look into memory whatever lengths the set has. */
typedef struct weft_ngram_set {
    weft_ngram *slots; /* [capacity], a power of two; an origin of 0 is free */
    size_t capacity, count;
    uint64_t lengths;   /* bit m - 1: there are runs of m words */
    uint64_t *prefixes; /* of the runs, until the set is finished */
    size_t prefix_count, prefix_capacity;
    uint64_t *filter; /* [filter_words], a power of two; Bloom's, with two bits of one word */
    size_t filter_words;
} weft_ngram_set;

/* The first origin of a hash stays. */
weft_status weft_ngram_set_add(weft_ngram_set *s, uint64_t hash, int length, uint64_t prefix,
                               uint64_t origin);
/* Makes the filter; nothing is added afterwards. */
weft_status weft_ngram_set_finish(weft_ngram_set *s);
void weft_ngram_set_free(weft_ngram_set *s);
/* 0: not there. */
uint64_t weft_ngram_set_find(const weft_ngram_set *s, uint64_t hash);

static inline uint64_t weft_ngram_filter_bits(uint64_t hash) {
    return UINT64_C(1) << (hash & 63) | UINT64_C(1) << (hash >> 6 & 63);
}
/* Whether runs with this prefix may be there. */
static inline int weft_ngram_set_may_have(const weft_ngram_set *s, uint64_t prefix) {
    uint64_t bits = weft_ngram_filter_bits(prefix);
    return (s->filter[prefix >> 12 & (s->filter_words - 1)] & bits) == bits;
}

#endif
