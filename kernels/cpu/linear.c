/* Linear layers. */
#include "cpu/blas.h"
#include "cpu/tile.h"

/* Up to this depth BLAS spends much of its time on finding out, packing and horizontal sums, and the loops of
 * tile.h on w transposed are up to three times as fast (dt_proj of a small model has k = 16). */
#define THIN_K 128
#define THIN_M 16 /* below, the transposition costs more than it saves */

static void set_bias(weft_real *y, int64_t ldy, const weft_real *bias, int64_t m, int64_t n,
                     bool accumulate) {
    for (int64_t i = 0; i < m; i++) {
        weft_real *row = y + i * ldy;
        if (accumulate)
            V_LOOP(j, l, n, v_store_n(row + j, v_load_n(row + j, l) + v_load_n(bias + j, l), l););
        else
            memcpy(row, bias, (size_t)n * sizeof *row);
    }
}

void CPU_OP(linear_fwd)(weft_device *d, weft_act *y_, int64_t ldy, const weft_act *x_, int64_t ldx,
                        const weft_act *w_, const weft_act *bias_, int64_t m, int64_t n, int64_t k,
                        bool accumulate) {
    weft_real *y = y_;
    const weft_real *x = x_, *w = w_, *bias = bias_;
    const bool thin = k <= THIN_K && m >= THIN_M;
    size_t mark = weft_arena_mark(&d->act);
    weft_real *w_t = thin ? weft_arena_push(&d->act, (size_t)(n * k) * sizeof *w_t) : NULL;
    if (!d->dry) {
        const blas_grid grid = blas_tiles(m, n, k, ldx, k);
        const int64_t tiles = grid.rows * grid.cols;
        int threads = blas_begin();
#pragma omp parallel num_threads(tiles > 1 ? d->threads : 1)
        {
            if (thin) {
#pragma omp for schedule(static)
                for (int64_t j = 0; j < n; j += 64)
                    tile_transpose(w_t + j, n, w + j * k, k, n - j < 64 ? n - j : 64, k);
            }
#pragma omp for schedule(dynamic, 1)
            for (int64_t index = 0; index < tiles; index++) {
                const blas_tile t = blas_tile_at(&grid, index, m, n);
                weft_real *out = y + t.i * ldy + t.j;
                if (bias) set_bias(out, ldy, bias + t.j, t.m, t.n, accumulate);
                const bool add = accumulate || bias;
                if (thin)
                    tile_gemm(t.m, t.n, k, x + t.i * ldx, ldx, w_t + t.j, n, out, ldy, add);
                else
                    blas_gemm(false, true, t.m, t.n, k, x + t.i * ldx, ldx, w + t.j * k, k, out, ldy, add);
            }
        }
        blas_end(threads);
    }
    weft_arena_release(&d->act, mark);
}

void CPU_OP(linear_fwd_real)(weft_device *d, weft_real *y, int64_t ldy, const weft_act *x, int64_t ldx,
                             const weft_act *w, int64_t m, int64_t n, int64_t k) {
    CPU_OP(linear_fwd)(d, y, ldy, x, ldx, w, NULL, m, n, k, false);
}

void CPU_OP(linear_dgrad)(weft_device *d, weft_act *dx_, int64_t lddx, const weft_act *dy_, int64_t lddy,
                          const weft_act *w_, int64_t m, int64_t n, int64_t k, bool accumulate) {
    if (d->dry) return;
    weft_real *dx = dx_;
    const weft_real *dy = dy_, *w = w_;
    const blas_grid grid = blas_tiles(m, k, n, lddy, k);
    const int64_t tiles = grid.rows * grid.cols;
    int threads = blas_begin();
#pragma omp parallel for schedule(dynamic, 1) num_threads(tiles > 1 ? d->threads : 1)
    for (int64_t index = 0; index < tiles; index++) {
        const blas_tile t = blas_tile_at(&grid, index, m, k);
        blas_gemm(false, false, t.m, t.n, n, dy + t.i * lddy, lddy, w + t.j, k, dx + t.i * lddx + t.j, lddx,
                  accumulate);
    }
    blas_end(threads);
}

/* dbias[0 .. n) += sum over the m rows of dy, in runs of 256 rows so that rounding errors stay small. */
static void add_column_sums(weft_real *dbias, const weft_real *dy, int64_t lddy, int64_t m, int64_t n) {
    V_LOOP(j, l, n, {
        vreal total = {0};
        for (int64_t i0 = 0; i0 < m; i0 += 256) {
            const int64_t end = i0 + 256 < m ? i0 + 256 : m;
            vreal sum = {0};
            for (int64_t i = i0; i < end; i++) sum += v_load_n(dy + i * lddy + j, l);
            total += sum;
        }
        v_store_n(dbias + j, v_load_n(dbias + j, l) + total, l);
    });
}

void CPU_OP(linear_wgrad)(weft_device *d, weft_real *dw, weft_real *dbias, const weft_act *dy_, int64_t lddy,
                          const weft_act *x_, int64_t ldx, int64_t m, int64_t n, int64_t k) {
    if (d->dry) return;
    const weft_real *dy = dy_, *x = x_;
    const blas_grid grid = blas_tiles(n, k, m, lddy, ldx);
    const int64_t tiles = grid.rows * grid.cols;
    int threads = blas_begin();
#pragma omp parallel num_threads(tiles > 1 ? d->threads : 1)
    {
#pragma omp for schedule(dynamic, 1) nowait
        for (int64_t index = 0; index < tiles; index++) {
            const blas_tile t = blas_tile_at(&grid, index, n, k);
            blas_gemm(true, false, t.m, t.n, m, dy + t.i, lddy, x + t.j, ldx, dw + t.i * k + t.j, k, true);
        }
        if (dbias) {
#pragma omp for schedule(dynamic, 1)
            for (int64_t j = 0; j < n; j += 64)
                add_column_sums(dbias + j, dy + j, lddy, m, n - j < 64 ? n - j : 64);
        }
    }
    blas_end(threads);
}
