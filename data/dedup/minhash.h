/* MinHash signatures and their bands (Broder 1997; Leskovec, Rajaraman, Ullman: Mining of Massive
 * Datasets, 3.4).
 *
 * Hash i of a shingle x is ((a_i x + b_i) mod 2^64) mod (2^61 - 1), its low 32 bits; a signature holds, for
 * each i, the least over the document's shingles. a and b are drawn as numpy's RandomState(seed).randint
 * draws them, so that with seed 1 the signature of the same shingles is datatrove's of 32 bits. A band is
 * `rows` consecutive values of it; two documents are candidates when one band agrees, which at Jaccard
 * similarity s has the probability 1 - (1 - s^rows)^bands. */
#ifndef WEFT_MINHASH_H
#define WEFT_MINHASH_H

#include "runtime/status.h"

#include <stddef.h>
#include <stdint.h>

typedef struct weft_minhash weft_minhash; /* read-only once made: shared by threads */
/* 1 to 1024 bands and rows, at most 4096 together. */
weft_status weft_minhash_new(weft_minhash **out, int bands, int rows, uint32_t seed);
void weft_minhash_free(weft_minhash *m);

/* signature[bands * rows] of `count` >= 1 shingle hashes (repetitions change nothing). */
void weft_minhash_sign(const weft_minhash *m, const uint64_t *shingles, size_t count, uint32_t *signature);
/* keys[bands]: XXH3-64 of each band of a signature, seeded by the band's number. */
void weft_minhash_bands(const weft_minhash *m, const uint32_t *signature, uint64_t *keys);
double weft_minhash_probability(int bands, int rows, double similarity);

#endif
