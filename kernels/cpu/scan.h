/* What the passes of the selective scan share: how channels lie in vectors.
 *
 * A piece of work is one sequence and SCAN_WIDTH channels; it walks the sequence in chunks of WEFT_SCAN_CHUNK
 * tokens. Elementwise quantities of a chunk lie as [token][SCAN_WIDTH]; states and A as [vector of
 * channels][N][VLEN], so that no sum runs across a vector. Channels beyond E are lanes of zeros. */
#ifndef WEFT_CPU_SCAN_H
#define WEFT_CPU_SCAN_H

#include "cpu/rows.h"

#include <omp.h>

#define SCAN_WIDTH 64
#define LOG2_E ((weft_real)1.44269504088896340736)
#define LN_2 ((weft_real)0.693147180559945309417)

V_INLINE int64_t scan_min(int64_t a, int64_t b) {
    return a < b ? a : b;
}

/* 2^x for x <= 0. Float: as v_exp2, with a polynomial of degree 5 (relative error 2e-7) and one product less,
 * which is a tenth of the whole scan. Below 2^-126 the result is some number near 0. */
V_INLINE vreal scan_decay(vreal x) {
#if WEFT_REAL_IS_DOUBLE
    return v_exp2(x);
#else
    x = v_max(v_set1(-126.f), x);
    vreal m = x + v_set1(0x1.8p23f), r = x - (m - v_set1(0x1.8p23f));
    vreal p = v_set1(1.32647273e-3f);
    p = p * r + v_set1(9.67151299e-3f);
    p = p * r + v_set1(5.55073358e-2f);
    p = p * r + v_set1(2.40222424e-1f);
    p = p * r + v_set1(6.93147004e-1f);
    p = p * r + v_set1(1.f);
    return (vreal)((vint)p + ((vint)m << 23));
#endif
}

/* Whether row t of sequence b starts a document: the state before it is cut off. */
V_INLINE bool scan_starts(const weft_scan *a, int64_t b, int64_t t) {
    return a->doc_start && a->doc_start[b * a->T + t] == a->pos0 + t;
}
V_INLINE void scan_resets(bool *reset, const weft_scan *a, int64_t b, int64_t t0, int64_t rows) {
    for (int64_t t = 0; t < rows; t++) reset[t] = scan_starts(a, b, t0 + t);
}

/* [count][N] (one row per channel) to [N][VLEN] with zeros behind, and back. */
V_INLINE void scan_to_lanes(weft_real *lanes, const weft_real *rows, int64_t count, int64_t N) {
    if (count < VLEN) memset(lanes, 0, (size_t)(N * VLEN) * sizeof *lanes);
    for (int64_t l = 0; l < count; l++)
        for (int64_t n = 0; n < N; n++) lanes[n * VLEN + l] = rows[l * N + n];
}
V_INLINE void scan_from_lanes(weft_real *rows, const weft_real *lanes, int64_t count, int64_t N) {
    for (int64_t l = 0; l < count; l++)
        for (int64_t n = 0; n < N; n++) rows[l * N + n] = lanes[n * VLEN + l];
}

/* A * log2(e) of channels e0 .. e0 + width. */
V_INLINE void scan_load_A(weft_real *A2, const weft_scan *a, int64_t e0, int64_t width) {
    weft_real row[VLEN];
    memset(A2, 0, (size_t)(SCAN_WIDTH * a->N) * sizeof *A2);
    for (int64_t e = 0; e < width; e++)
        for (int64_t n0 = 0; n0 < a->N; n0 += VLEN) {
            const int64_t count = scan_min(VLEN, a->N - n0);
            v_store(row, v_exp(v_load_n(a->A_log + (e0 + e) * a->N + n0, count)) * v_set1(-LOG2_E));
            weft_real *out = A2 + (e / VLEN * a->N + n0) * VLEN + e % VLEN;
            for (int64_t n = 0; n < count; n++) out[n * VLEN] = row[n];
        }
}

/* Where the saved states of channel e (a multiple of VLEN) before chunk c of sequence b lie, as [N][lanes]:
 * as many lanes as the vector has channels. */
V_INLINE int64_t scan_state_at(const weft_scan *a, int64_t b, int64_t c, int64_t e) {
    const int64_t chunks = (a->T + WEFT_SCAN_CHUNK - 1) / WEFT_SCAN_CHUNK;
    return ((b * chunks + c) * a->E + e) * a->N;
}

/* Rows that will be needed soon (from the first token of a chunk on) and their strides: those read, then
 * those written. They are fetched during the recurrence, which hardly touches memory, and are there when the
 * elementwise loops want them. */
typedef struct scan_ahead {
    const weft_real *row[8];
    int64_t ld[8];
} scan_ahead;
V_INLINE void scan_fetch(const scan_ahead *s, const int reads, const int writes, int64_t t) {
    V_UNROLL(8)
    for (int i = 0; i < reads; i++) __builtin_prefetch(s->row[i] + t * s->ld[i], 0, 3);
    V_UNROLL(8)
    for (int i = reads; i < reads + writes; i++) __builtin_prefetch(s->row[i] + t * s->ld[i], 1, 3);
}

/* One sequence, channels e0 .. e0 + width; state and A2 are workspace of SCAN_WIDTH * N each. */
typedef void scan_piece_fn(const weft_scan *a, int64_t b, int64_t e0, int64_t width, weft_real *state,
                           weft_real *A2);

/* All pieces, shared by the threads. */
static inline void scan_pieces(weft_device *d, const weft_scan *a, scan_piece_fn *piece) {
    const int64_t groups = (a->E + SCAN_WIDTH - 1) / SCAN_WIDTH, size = SCAN_WIDTH * a->N;
    const int threads = cpu_team(d, a->B * a->T * a->E * a->N / 4);
    size_t mark = weft_arena_mark(&d->act);
    weft_real *work = weft_arena_push(&d->act, (size_t)(d->threads * 2 * size) * sizeof *work);
    if (!d->dry) {
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
        for (int64_t task = 0; task < a->B * groups; task++) {
            weft_real *state = work + omp_get_thread_num() * 2 * size;
            const int64_t e0 = task % groups * SCAN_WIDTH;
            piece(a, task / groups, e0, scan_min(SCAN_WIDTH, a->E - e0), state, state + size);
        }
    }
    weft_arena_release(&d->act, mark);
}

#endif
