#include "runtime/rng.h"
#include "runtime/hash.h"

#include <math.h>

weft_rng weft_rng_make(uint64_t seed, const char *name) {
    return (weft_rng){.key = weft_hash64_str(name, seed)};
}

void weft_rng_block(weft_rng r, uint64_t index, uint32_t out[4]) {
    uint32_t c0 = (uint32_t)index, c1 = (uint32_t)(index >> 32), c2 = 0, c3 = 0;
    uint32_t k0 = (uint32_t)r.key, k1 = (uint32_t)(r.key >> 32);
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;
        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)p1;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = c0, out[1] = c1, out[2] = c2, out[3] = c3;
}

static double unit(uint32_t hi, uint32_t lo) {
    uint64_t bits = ((uint64_t)hi << 32 | lo) >> 11;
    return (double)bits * 0x1p-53;
}

uint64_t weft_rng_u64(weft_rng r, uint64_t index) {
    uint32_t w[4];
    weft_rng_block(r, index, w);
    return (uint64_t)w[0] << 32 | w[1];
}

double weft_rng_uniform(weft_rng r, uint64_t index) {
    uint32_t w[4];
    weft_rng_block(r, index, w);
    return unit(w[0], w[1]);
}

double weft_rng_normal(weft_rng r, uint64_t index) {
    uint32_t w[4];
    weft_rng_block(r, index, w);
    double u1 = 1.0 - unit(w[0], w[1]), u2 = unit(w[2], w[3]);
    return sqrt(-2.0 * log(u1)) * cos(6.283185307179586476925286766559 * u2);
}

uint64_t weft_rng_below(weft_rng r, uint64_t index, uint64_t bound) {
    return (uint64_t)(((unsigned __int128)weft_rng_u64(r, index) * bound) >> 64);
}

uint64_t weft_rng_permute(weft_rng r, uint64_t i, uint64_t n) {
    if (n <= 1) return 0;
    int half = 1;
    while (half < 32 && ((uint64_t)1 << (2 * half)) < n) half++;
    uint64_t mask = ((uint64_t)1 << half) - 1;
    do {
        uint64_t left = i >> half, right = i & mask;
        for (uint64_t round = 0; round < 6; round++) {
            uint32_t w[4];
            weft_rng_block(r, right | round << 56, w);
            uint64_t next = left ^ (((uint64_t)w[0] << 32 | w[1]) & mask);
            left = right;
            right = next;
        }
        i = left << half | right;
    } while (i >= n);
    return i;
}
