/* Matrix products through CBLAS, on the calling thread only. Threads belong to weft: a product is cut into
 * tiles by its shape, each tile is one single-threaded BLAS call, so the result does not depend on the number
 * of threads. */
#ifndef WEFT_CPU_BLAS_H
#define WEFT_CPU_BLAS_H

#include "cpu/rows.h"

#include <cblas.h>
#include <omp.h>

/* BLIS has a switch of its own; OpenBLAS asks OpenMP. A BLAS that has neither is single-threaded or obeys
 * OpenMP within a parallel region. */
extern void bli_thread_set_num_threads(int64_t) __attribute__((weak));

/* Around parallel regions that call blas_gemm: until the end, BLAS starts no threads. Pass the result on. */
static inline int blas_begin(void) {
    int threads = omp_get_max_threads();
    if (bli_thread_set_num_threads) bli_thread_set_num_threads(1);
    omp_set_num_threads(1);
    return threads;
}
static inline void blas_end(int threads) {
    omp_set_num_threads(threads);
}

/* C[m,n] = op(A) op(B) (+ C if add), row-major; a_t: A is [k,m]; b_t: B is [n,k]. */
static inline void blas_gemm(bool a_t, bool b_t, int64_t m, int64_t n, int64_t k, const weft_real *a,
                             int64_t lda, const weft_real *b, int64_t ldb, weft_real *c, int64_t ldc,
                             bool add) {
    const enum CBLAS_TRANSPOSE ta = a_t ? CblasTrans : CblasNoTrans, tb = b_t ? CblasTrans : CblasNoTrans;
    const int im = (int)m, in = (int)n, ik = (int)k, ia = (int)lda, ib = (int)ldb, ic = (int)ldc;
#if WEFT_REAL_IS_DOUBLE
    cblas_dgemm(CblasRowMajor, ta, tb, im, in, ik, 1, a, ia, b, ib, add ? 1 : 0, c, ic);
#else
    cblas_sgemm(CblasRowMajor, ta, tb, im, in, ik, 1, a, ia, b, ib, add ? 1 : 0, c, ic);
#endif
}

/* The tiles of a product C[m,n] over k: `rows` x `cols` of them, each m x n (smaller at the edges). */
typedef struct blas_grid {
    int64_t m, n, rows, cols;
} blas_grid;

static inline int64_t blas_share(int64_t n, int64_t parts) {
    return ((n + parts - 1) / parts + 31) / 32 * 32;
}

/* Rows of A or B that lie whole pages apart fall on the same few places of the cache. */
static inline bool blas_bad_stride(int64_t ld) {
    return ld * (int64_t)sizeof(weft_real) % 4096 == 0;
}

/* lda, ldb: strides of the arrays that are read.
 *
 * Tiles of 512 x 256 or more are as fast as the whole product (BLIS packs those, and reads smaller ones in
 * place, which is slow with bad strides). Where that leaves too few tiles for many threads, the longer side
 * is halved until there are 32, but no tile gets smaller than 32 x 32 or 2^19 multiplications, about 5
 * microseconds. */
static inline blas_grid blas_tiles(int64_t m, int64_t n, int64_t k, int64_t lda, int64_t ldb) {
    const int64_t rows = m / 512, cols = n / 256,
                  enough = blas_bad_stride(lda) || blas_bad_stride(ldb) ? 4 : 16;
    blas_grid g = {m, n, 1, 1};
    if (k >= 256 && rows * cols >= enough) {
        g.m = blas_share(m, rows);
        g.n = blas_share(n, cols);
    } else {
        while (m && n && (m + g.m - 1) / g.m * ((n + g.n - 1) / g.n) < 32) {
            int64_t *side = g.m >= g.n ? &g.m : &g.n;
            if (*side <= 32 || (double)g.m * (double)g.n * (double)k < 1 << 20) break;
            *side = blas_share(*side, 2);
        }
    }
    g.rows = m ? (m + g.m - 1) / g.m : 0;
    g.cols = n ? (n + g.n - 1) / g.n : 0;
    return g;
}

/* The part of C that tile `index` covers. */
typedef struct blas_tile {
    int64_t i, j, m, n;
} blas_tile;
static inline blas_tile blas_tile_at(const blas_grid *g, int64_t index, int64_t m, int64_t n) {
    blas_tile t = {.i = index / g->cols * g->m, .j = index % g->cols * g->n};
    t.m = m - t.i < g->m ? m - t.i : g->m;
    t.n = n - t.j < g->n ? n - t.j : g->n;
    return t;
}

#endif
