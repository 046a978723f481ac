/* Products of small matrices that lie in cache, on the calling thread: what attention and thin linear layers
 * are made of, where a BLAS call would spend its time on packing.
 *
 *   tile_gemm: C[m,n] = A[m,k] B[k,n] (+ C if add);  tile_gemm_t: A is [k,m]. All row-major.
 *
 * B's rows are read as vectors, A's elements are broadcast; an accumulator holds TILE_M x 2 vectors of C. */
#ifndef WEFT_CPU_TILE_H
#define WEFT_CPU_TILE_H

#include "cpu/vec.h"

#include <stdbool.h>

/* As many accumulators as the registers hold beside two vectors of B. */
#if VBYTES == 64
#define TILE_M 8
#else
#define TILE_M 6
#endif

/* mr x nv vectors of C; only the first `lanes` lanes of the last vector count. mr, nv and (mostly) lanes are
 * constants where this is inlined. */
V_INLINE void tile_block(const int mr, const int nv, const int64_t lanes, const bool trans, int64_t k,
                         const weft_real *a, int64_t lda, const weft_real *b, int64_t ldb, weft_real *c,
                         int64_t ldc, bool add) {
    vreal acc[TILE_M][2];
    V_UNROLL(8)
    for (int r = 0; r < mr; r++) V_UNROLL(2) for (int v = 0; v < nv; v++) acc[r][v] = v_set1(0);
    for (int64_t p = 0; p < k; p++) {
        vreal row[2];
        row[0] = v_load_n(b + p * ldb, nv == 1 ? lanes : VLEN);
        if (nv == 2) row[1] = v_load_n(b + p * ldb + VLEN, lanes);
        V_UNROLL(8)
        for (int r = 0; r < mr; r++) {
            vreal x = v_set1(trans ? a[p * lda + r] : a[r * lda + p]);
            V_UNROLL(2)
            for (int v = 0; v < nv; v++) acc[r][v] += x * row[v];
        }
    }
    V_UNROLL(8)
    for (int r = 0; r < mr; r++) {
        V_UNROLL(2)
        for (int v = 0; v < nv; v++) {
            int64_t n = v == nv - 1 ? lanes : VLEN;
            weft_real *out = c + r * ldc + v * VLEN;
            v_store_n(out, add ? v_load_n(out, n) + acc[r][v] : acc[r][v], n);
        }
    }
}

/* All rows of one panel of C's columns. */
V_INLINE void tile_panel(const int nv, const int64_t lanes, const bool trans, int64_t m, int64_t k,
                         const weft_real *a, int64_t lda, const weft_real *b, int64_t ldb, weft_real *c,
                         int64_t ldc, bool add) {
    const int64_t step = trans ? 1 : lda;
    int64_t i = 0;
    for (; i + TILE_M <= m; i += TILE_M)
        tile_block(TILE_M, nv, lanes, trans, k, a + i * step, lda, b, ldb, c + i * ldc, ldc, add);
    for (; i + 2 <= m; i += 2)
        tile_block(2, nv, lanes, trans, k, a + i * step, lda, b, ldb, c + i * ldc, ldc, add);
    if (i < m) tile_block(1, nv, lanes, trans, k, a + i * step, lda, b, ldb, c + i * ldc, ldc, add);
}

V_INLINE void tile_panels(const bool trans, int64_t m, int64_t n, int64_t k, const weft_real *a, int64_t lda,
                          const weft_real *b, int64_t ldb, weft_real *c, int64_t ldc, bool add) {
    int64_t j = 0;
    for (; j + 2 * VLEN <= n; j += 2 * VLEN)
        tile_panel(2, VLEN, trans, m, k, a, lda, b + j, ldb, c + j, ldc, add);
    for (; j + VLEN <= n; j += VLEN) tile_panel(1, VLEN, trans, m, k, a, lda, b + j, ldb, c + j, ldc, add);
    if (j < n) tile_panel(1, n - j, trans, m, k, a, lda, b + j, ldb, c + j, ldc, add);
}

/* C = A B (+ C), and C = A^T B (+ C). */
static __attribute__((noinline, unused)) void tile_gemm(int64_t m, int64_t n, int64_t k, const weft_real *a,
                                                        int64_t lda, const weft_real *b, int64_t ldb,
                                                        weft_real *c, int64_t ldc, bool add) {
    tile_panels(false, m, n, k, a, lda, b, ldb, c, ldc, add);
}
static __attribute__((noinline, unused)) void tile_gemm_t(int64_t m, int64_t n, int64_t k, const weft_real *a,
                                                          int64_t lda, const weft_real *b, int64_t ldb,
                                                          weft_real *c, int64_t ldc, bool add) {
    tile_panels(true, m, n, k, a, lda, b, ldb, c, ldc, add);
}

/* out[k,n] (stride ldo) = the transpose of rows [n,k] (stride ld). */
V_INLINE void tile_transpose(weft_real *out, int64_t ldo, const weft_real *rows, int64_t ld, int64_t n,
                             int64_t k) {
    for (int64_t j0 = 0; j0 < n; j0 += VLEN) {
        const int64_t end = n - j0 < VLEN ? n : j0 + VLEN;
        int64_t p = 0;
        for (; p + VLEN <= k && end - j0 == VLEN; p += VLEN) {
            vreal x[V_LANES];
            V_UNROLL(16)
            for (int64_t i = 0; i < VLEN; i++) x[i] = v_load(rows + (j0 + i) * ld + p);
            v_transpose(x);
            V_UNROLL(16)
            for (int64_t i = 0; i < VLEN; i++) v_store(out + (p + i) * ldo + j0, x[i]);
        }
        for (; p < k; p++)
            for (int64_t j = j0; j < end; j++) out[p * ldo + j] = rows[j * ld + p];
    }
}

#endif
