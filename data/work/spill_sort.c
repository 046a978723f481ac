#include "data/work/spill_sort.h"

#include <stdbool.h>

enum { FEW = 24, RADIX = 256 }; /* so few records are sorted by insertion */

#define ALWAYS_INLINE static inline __attribute__((always_inline))

/* a < b, equal in the bytes before `at`. */
ALWAYS_INLINE bool before(const unsigned char *a, const unsigned char *b, size_t width, size_t at) {
    if (width < 8) return memcmp(a + at, b + at, width - at) < 0;
    size_t word = at < width - 8 ? at : width - 8;
    uint64_t x, y;
    memcpy(&x, a + word, 8);
    memcpy(&y, b + word, 8);
    if (x != y) return __builtin_bswap64(x) < __builtin_bswap64(y);
    return memcmp(a + word + 8, b + word + 8, width - word - 8) < 0;
}

ALWAYS_INLINE void insertion(unsigned char *r, size_t n, size_t width, size_t at, unsigned char *held) {
    for (size_t i = 1; i < n; i++) {
        size_t j = i;
        if (!before(r + i * width, r + (i - 1) * width, width, at)) continue;
        memcpy(held, r + i * width, width);
        do {
            memcpy(r + j * width, r + (j - 1) * width, width);
            j--;
        } while (j > 0 && before(held, r + (j - 1) * width, width, at));
        memcpy(r + j * width, held, width);
    }
}

/* Moves every record into the bucket of its byte `at`; next[] are the buckets' starts, and end as their ends.
 */
ALWAYS_INLINE void permute(unsigned char *r, const size_t *count, size_t *next, size_t width, size_t at,
                           unsigned char *held) {
    size_t end = 0;
    for (int b = 0; b < RADIX; b++) {
        end += count[b];
        while (next[b] < end) {
            unsigned char *here = r + next[b] * width;
            int digit = here[at];
            if (digit == b) {
                next[b]++;
                continue;
            }
            unsigned char *there = r + next[digit]++ * width;
            memcpy(held, there, width);
            memcpy(there, here, width);
            memcpy(here, held, width);
        }
    }
}

/* Width as a constant for the records that builds sort, so that copies are moves. */
#define FOR_WIDTH(call, width)                                                                               \
    switch (width) {                                                                                         \
    case 16:                                                                                                 \
        call(16);                                                                                            \
        break;                                                                                               \
    case 20:                                                                                                 \
        call(20);                                                                                            \
        break;                                                                                               \
    case 24:                                                                                                 \
        call(24);                                                                                            \
        break;                                                                                               \
    case 28:                                                                                                 \
        call(28);                                                                                            \
        break;                                                                                               \
    case 32:                                                                                                 \
        call(32);                                                                                            \
        break;                                                                                               \
    default:                                                                                                 \
        call(width);                                                                                         \
        break;                                                                                               \
    }

static void sort_few(unsigned char *r, size_t n, size_t width, size_t at, unsigned char *held) {
#define CALL(w) insertion(r, n, w, at, held)
    FOR_WIDTH(CALL, width)
#undef CALL
}

static void sort_digit(unsigned char *r, const size_t *count, size_t *next, size_t width, size_t at,
                       unsigned char *held) {
#define CALL(w) permute(r, count, next, w, at, held)
    FOR_WIDTH(CALL, width)
#undef CALL
}

/* All records equal in the bytes before `at`. Goes on with the largest bucket itself, so that the depth is at
 * most log2(n). */
static void sort_from(unsigned char *r, size_t n, size_t width, size_t at, unsigned char *held) {
    while (at < width) {
        if (n <= FEW) {
            sort_few(r, n, width, at, held);
            return;
        }
        size_t count[RADIX] = {0}, next[RADIX], start = 0;
        int largest = 0;
        for (size_t i = 0; i < n; i++) count[r[i * width + at]]++;
        for (int b = 0; b < RADIX; b++) {
            next[b] = start;
            start += count[b];
            if (count[b] > count[largest]) largest = b;
        }
        if (count[largest] < n) sort_digit(r, count, next, width, at, held);
        at++;
        if (count[largest] == n) continue;
        for (int b = 0; b < RADIX; b++)
            if (b != largest && count[b] > 1)
                sort_from(r + (next[b] - count[b]) * width, count[b], width, at, held);
        r += (next[largest] - count[largest]) * width;
        n = count[largest];
    }
}

void weft_record_sort(void *records, size_t count, size_t width, void *scratch) {
    sort_from(records, count, width, 0, scratch);
}
