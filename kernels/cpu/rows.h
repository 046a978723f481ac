/* What the row-wise operations share: walking a row in vectors, how many threads a piece of work is worth,
 * and the blocks of a sum over rows. */
#ifndef WEFT_CPU_ROWS_H
#define WEFT_CPU_ROWS_H

#include "cpu/cpu.h"
#include "cpu/vec.h"

/* Below this many elements a parallel region costs more than it saves. */
#define CPU_SMALL 32768

/* One thread or all of them. Never a number between: OpenMP runtimes end threads when a team shrinks. */
static inline int cpu_team(const weft_device *d, int64_t elements) {
    return elements < CPU_SMALL || d->threads < 1 ? 1 : d->threads;
}

/* Sums over rows go block by block, and the blocks' sums are added in order: the shape alone decides the
 * result. At least 64 rows a block, at most 256 blocks. */
static inline int64_t cpu_block_rows(int64_t rows) {
    return rows > 64 * 256 ? (rows + 255) / 256 : 64;
}
static inline int64_t cpu_blocks(int64_t rows) {
    int64_t size = cpu_block_rows(rows);
    return (rows + size - 1) / size;
}

/* Fetches n elements that an index names: the processor cannot foresee them. CPU_AHEAD rows before they are
 * used. */
#define CPU_AHEAD 4
static inline void cpu_prefetch(const weft_real *p, int64_t n) {
    for (int64_t j = 0; j < n; j += 64 / (int64_t)sizeof *p) __builtin_prefetch(p + j);
}

/* Runs the body for j = 0, VLEN, 2*VLEN, ... < D with n = VLEN (a constant to the compiler), then once with
 * the n elements left over. Loads and stores in the body are v_load_n(.., n) and v_store_n(.., n). */
#define V_LOOP(j, n, D, ...)                                                                                 \
    do {                                                                                                     \
        int64_t j = 0;                                                                                       \
        for (; j + VLEN <= (D); j += VLEN) {                                                                 \
            const int64_t n = VLEN;                                                                          \
            __VA_ARGS__                                                                                      \
        }                                                                                                    \
        if (j < (D)) {                                                                                       \
            const int64_t n = (D)-j;                                                                         \
            __VA_ARGS__                                                                                      \
        }                                                                                                    \
    } while (0)

/* The same for sums: `acc` is one of four accumulators in turn, so that additions do not wait for each other.
 */
#define V_LOOP_SUM(j, n, acc, sums, D, ...)                                                                  \
    do {                                                                                                     \
        int64_t j = 0;                                                                                       \
        while (j + 4 * VLEN <= (D)) {                                                                        \
            const int64_t n = VLEN;                                                                          \
            {                                                                                                \
                vreal *const acc = &(sums)[0];                                                               \
                __VA_ARGS__                                                                                  \
            }                                                                                                \
            j += VLEN;                                                                                       \
            {                                                                                                \
                vreal *const acc = &(sums)[1];                                                               \
                __VA_ARGS__                                                                                  \
            }                                                                                                \
            j += VLEN;                                                                                       \
            {                                                                                                \
                vreal *const acc = &(sums)[2];                                                               \
                __VA_ARGS__                                                                                  \
            }                                                                                                \
            j += VLEN;                                                                                       \
            {                                                                                                \
                vreal *const acc = &(sums)[3];                                                               \
                __VA_ARGS__                                                                                  \
            }                                                                                                \
            j += VLEN;                                                                                       \
        }                                                                                                    \
        for (; j + VLEN <= (D); j += VLEN) {                                                                 \
            const int64_t n = VLEN;                                                                          \
            vreal *const acc = &(sums)[0];                                                                   \
            __VA_ARGS__                                                                                      \
        }                                                                                                    \
        if (j < (D)) {                                                                                       \
            const int64_t n = (D)-j;                                                                         \
            vreal *const acc = &(sums)[1];                                                                   \
            __VA_ARGS__                                                                                      \
        }                                                                                                    \
    } while (0)

V_INLINE weft_real v_sum4(const vreal sums[4]) {
    return v_sum((sums[0] + sums[1]) + (sums[2] + sums[3]));
}

/* Zero in the lanes from n on. */
V_INLINE vreal v_first(vreal v, int64_t n) {
    for (int64_t i = n; i < VLEN; i++) v[i] = 0;
    return v;
}

#endif
