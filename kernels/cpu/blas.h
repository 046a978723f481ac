/* Matrix products through CBLAS, on the calling thread only. Threads belong to weft: a product is cut into tiles by
 * its shape, each tile is one single-threaded BLAS call, so the result does not depend on the number of threads. */
#ifndef WEFT_CPU_BLAS_H
#define WEFT_CPU_BLAS_H

#include "cpu/rows.h"

#include <cblas.h>
#include <omp.h>

/* BLIS has a switch of its own; OpenBLAS asks OpenMP. A BLAS that has neither is single-threaded or obeys OpenMP
 * within a parallel region. */
extern void bli_thread_set_num_threads(int64_t) __attribute__((weak));

/* Around parallel regions that call blas_gemm: until the end, BLAS starts no threads. Pass the result on. */
static inline int blas_begin(void) {
    int threads = omp_get_max_threads();
    if (bli_thread_set_num_threads) bli_thread_set_num_threads(1);
    omp_set_num_threads(1);
    return threads;
}
static inline void blas_end(int threads) { omp_set_num_threads(threads); }

/* C[m,n] = op(A) op(B) (+ C if add), row-major; a_t: A is [k,m]; b_t: B is [n,k]. */
static inline void blas_gemm(bool a_t, bool b_t, int64_t m, int64_t n, int64_t k, const weft_real *a, int64_t lda,
                             const weft_real *b, int64_t ldb, weft_real *c, int64_t ldc, bool add) {
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

/* Halves the longer side until no side is above 512 and there are 32 tiles (16 threads find two each), but makes no
 * tile smaller than 32 x 32 or 2^19 multiplications, about 5 microseconds. */
static inline blas_grid blas_tiles(int64_t m, int64_t n, int64_t k) {
    blas_grid g = {m, n, 1, 1};
    for (;;) {
        int64_t *side = g.m >= g.n ? &g.m : &g.n;
        bool enough = g.rows * g.cols >= 32 && *side <= 512;
        if (enough || *side <= 32 || (double)g.m * (double)g.n * (double)k < 1 << 20) return g;
        *side = (*side / 2 + 31) / 32 * 32;
        g.rows = (m + g.m - 1) / g.m;
        g.cols = (n + g.n - 1) / g.n;
    }
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
