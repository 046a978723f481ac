#include "data/dedup/minhash.h"
#include "runtime/hash.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Hashes are taken LANES at a time, so that their least values stay in registers while the shingles go by. */
enum { LANES = 16, MOST_BANDS = 1024, MOST_ROWS = 1024, MOST_HASHES = 4096 };
static const uint64_t PRIME = (UINT64_C(1) << 61) - 1;

typedef void sign_kernel(const weft_minhash *m, const uint64_t *shingles, size_t count, uint32_t *signature);

struct weft_minhash {
    int bands, rows;
    size_t hashes;
    uint64_t *a, *b; /* [hashes, rounded up to LANES] */
    sign_kernel *sign;
};

/* ---- the parameters ---- */

/* MT19937 (Matsumoto and Nishimura 1998). */
enum { STATE = 624, SHIFT = 397 };
typedef struct twister {
    uint32_t state[STATE];
    int used;
} twister;

static void seed_twister(twister *t, uint32_t seed) {
    for (uint32_t i = 0; i < STATE; i++) {
        t->state[i] = seed;
        seed = 1812433253u * (seed ^ seed >> 30) + i + 1;
    }
    t->used = STATE;
}

static uint32_t twist(uint32_t a, uint32_t b) {
    uint32_t y = (a & 0x80000000u) | (b & 0x7fffffffu);
    return y >> 1 ^ (y & 1 ? 0x9908b0dfu : 0);
}

static uint32_t next_word(twister *t) {
    if (t->used == STATE) {
        for (int i = 0; i < STATE; i++)
            t->state[i] = t->state[(i + SHIFT) % STATE] ^ twist(t->state[i], t->state[(i + 1) % STATE]);
        t->used = 0;
    }
    uint32_t y = t->state[t->used++];
    y ^= y >> 11;
    y ^= y << 7 & 0x9d2c5680u;
    y ^= y << 15 & 0xefc60000u;
    return y ^ y >> 18;
}

/* numpy's legacy randint(low, PRIME) of 64 bits: the high word first, masked to the range's 61 bits, and
 * drawn again when it falls outside. */
static uint64_t draw(twister *t, uint64_t low) {
    for (;;) {
        uint64_t high = next_word(t);
        uint64_t value = (high << 32 | next_word(t)) & PRIME;
        if (value <= PRIME - 1 - low) return low + value;
    }
}

/* ---- signing ---- */

/* x mod 2^61-1 is the sum of x's low 61 and high 3 bits, less the prime once where that is in it. */
static inline __attribute__((always_inline)) void
least(const weft_minhash *m, const uint64_t *restrict shingles, size_t count, uint32_t *restrict signature) {
    for (size_t first = 0; first < m->hashes; first += LANES) {
        const uint64_t *restrict a = m->a + first, *restrict b = m->b + first;
        uint32_t lowest[LANES];
        memset(lowest, 0xff, sizeof lowest);
        for (size_t i = 0; i < count; i++)
            for (int l = 0; l < LANES; l++) {
                uint64_t x = a[l] * shingles[i] + b[l], sum = (x & PRIME) + (x >> 61);
                uint32_t hash = (uint32_t)(sum + ((sum + 1) >> 61));
                lowest[l] = hash < lowest[l] ? hash : lowest[l];
            }
        size_t left = m->hashes - first;
        memcpy(signature + first, lowest, (left < LANES ? left : LANES) * sizeof *lowest);
    }
}

static void sign_any(const weft_minhash *m, const uint64_t *shingles, size_t count, uint32_t *signature) {
    least(m, shingles, count, signature);
}

#ifdef __x86_64__
__attribute__((target("avx2"))) static void sign_avx2(const weft_minhash *m, const uint64_t *shingles,
                                                      size_t count, uint32_t *signature) {
    least(m, shingles, count, signature);
}
__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl"))) static void
sign_avx512(const weft_minhash *m, const uint64_t *shingles, size_t count, uint32_t *signature) {
    least(m, shingles, count, signature);
}
#endif

/* The best that this processor can run; all give the same signature. */
static sign_kernel *choose(void) {
#ifdef __x86_64__
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
        return sign_avx512;
    if (__builtin_cpu_supports("avx2")) return sign_avx2;
#endif
    return sign_any;
}

weft_status weft_minhash_new(weft_minhash **out, int bands, int rows, uint32_t seed) {
    if (bands < 1 || bands > MOST_BANDS || rows < 1 || rows > MOST_ROWS || bands * rows > MOST_HASHES)
        WEFT_FAIL(WEFT_EINPUT,
                  "MinHash of %d bands of %d rows: each is 1 to %d, and there are at most %d hashes", bands,
                  rows, MOST_BANDS, MOST_HASHES);
    size_t hashes = (size_t)(bands * rows), room = (hashes + LANES - 1) / LANES * LANES;
    weft_minhash *m = malloc(sizeof *m);
    uint64_t *parameters = calloc(2 * room, sizeof *parameters);
    if (!m || !parameters) {
        free(m);
        free(parameters);
        WEFT_FAIL(WEFT_ENOMEM, "no memory for the %zu hashes of MinHash", hashes);
    }
    *m = (weft_minhash){.bands = bands,
                        .rows = rows,
                        .hashes = hashes,
                        .a = parameters,
                        .b = parameters + room,
                        .sign = choose()};
    twister t;
    seed_twister(&t, seed);
    for (size_t i = 0; i < hashes; i++) m->a[i] = draw(&t, 1);
    for (size_t i = 0; i < hashes; i++) m->b[i] = draw(&t, 0);
    *out = m;
    return WEFT_OK;
}

void weft_minhash_free(weft_minhash *m) {
    if (!m) return;
    free(m->a);
    free(m);
}

void weft_minhash_sign(const weft_minhash *m, const uint64_t *shingles, size_t count, uint32_t *signature) {
    m->sign(m, shingles, count, signature);
}

void weft_minhash_bands(const weft_minhash *m, const uint32_t *signature, uint64_t *keys) {
    size_t rows = (size_t)m->rows;
    for (int i = 0; i < m->bands; i++)
        keys[i] = weft_hash64(signature + (size_t)i * rows, rows * sizeof *signature, (uint64_t)i);
}

double weft_minhash_probability(int bands, int rows, double similarity) {
    return 1 - pow(1 - pow(similarity, rows), bands);
}
