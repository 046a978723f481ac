/* Counter-based random numbers: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3",
 * SC 2011). A number is a pure function of (key, index): it depends on no state, no order and no rank. */
#ifndef WEFT_RNG_H
#define WEFT_RNG_H

#include <stdint.h>

typedef struct weft_rng {
    uint64_t key;
} weft_rng;

/* Independent streams for different names (a tensor's name, a purpose) under one seed. */
weft_rng weft_rng_make(uint64_t seed, const char *name);

/* Four words for block `index`. */
void weft_rng_block(weft_rng r, uint64_t index, uint32_t out[4]);

uint64_t weft_rng_u64(weft_rng r, uint64_t index);
double weft_rng_uniform(weft_rng r, uint64_t index);                 /* [0, 1), 53 bits */
double weft_rng_normal(weft_rng r, uint64_t index);                  /* N(0, 1), Box-Muller */
uint64_t weft_rng_below(weft_rng r, uint64_t index, uint64_t bound); /* [0, bound), bound > 0 */

/* A keyed permutation of [0, n): the image of i. Feistel network over the next power of four, walking the
 * cycle until it falls inside (Black and Rogaway, "Ciphers with arbitrary finite domains", 2002). */
uint64_t weft_rng_permute(weft_rng r, uint64_t i, uint64_t n);

#endif
