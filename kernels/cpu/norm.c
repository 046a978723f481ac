/* RMSNorm with the residual addition before it. One pass over the row for the sum of squares, one for the
 * result: the row is in the first-level cache by then. */
#include "cpu/rows.h"

#include <math.h>

/* Adds delta, stores h, returns sum h^2. */
static weft_real add_and_square(weft_real *h, const weft_real *x, const weft_real *delta, int64_t D) {
    vreal sums[4] = {{0}};
    V_LOOP_SUM(j, n, acc, sums, D, {
        vreal v = v_load_n(x + j, n) + v_load_n(delta + j, n);
        v_store_n(h + j, v, n);
        *acc += v * v;
    });
    return v_sum4(sums);
}

static weft_real square(const weft_real *x, int64_t D) {
    vreal sums[4] = {{0}};
    V_LOOP_SUM(j, n, acc, sums, D, {
        vreal v = v_load_n(x + j, n);
        *acc += v * v;
    });
    return v_sum4(sums);
}

void CPU_OP(rmsnorm_fwd)(weft_device *d, weft_act *y_, int64_t ldy, weft_real *rstd, weft_act *h_,
                         const weft_act *x_, int64_t ldx, const weft_act *delta_, const weft_act *w_,
                         weft_real eps, int64_t M, int64_t D) {
    if (d->dry) return;
    weft_real *y = y_, *h = h_;
    const weft_real *x = x_, *delta = delta_, *w = w_;
#pragma omp parallel for schedule(static) num_threads(cpu_team(d, M *D))
    for (int64_t m = 0; m < M; m++) {
        const weft_real *row = x + m * ldx;
        weft_real *out = y + m * ldy, sum;
        if (delta) {
            sum = add_and_square(h + m * ldx, row, delta + m * D, D);
            row = h + m * ldx;
        } else {
            sum = square(row, D);
        }
        weft_real r = (weft_real)(1 / sqrt((double)sum / (double)D + (double)eps));
        rstd[m] = r;
        vreal scale = v_set1(r);
        V_LOOP(j, n, D, v_store_n(out + j, v_load_n(w + j, n) * (v_load_n(row + j, n) * scale), n););
    }
}

static void bwd_row(weft_real *dh, weft_real *dw, const weft_real *dy, const weft_real *h, weft_real rstd,
                    const weft_real *w, int64_t D, bool accumulate) {
    vreal r = v_set1(rstd), sums[4] = {{0}};
    V_LOOP_SUM(j, n, acc, sums, D, {
        vreal dyh = v_load_n(dy + j, n) * v_load_n(h + j, n);
        *acc += dyh * v_load_n(w + j, n);
        v_store_n(dw + j, v_load_n(dw + j, n) + dyh * r, n);
    });
    vreal c = v_set1((weft_real)((double)v_sum4(sums) / (double)D * (double)rstd * (double)rstd));
    if (accumulate)
        V_LOOP(j, n, D, {
            vreal g = r * (v_load_n(w + j, n) * v_load_n(dy + j, n) - v_load_n(h + j, n) * c);
            v_store_n(dh + j, v_load_n(dh + j, n) + g, n);
        });
    else
        V_LOOP(j, n, D, {
            v_store_n(dh + j, r * (v_load_n(w + j, n) * v_load_n(dy + j, n) - v_load_n(h + j, n) * c), n);
        });
}

void CPU_OP(rmsnorm_bwd)(weft_device *d, weft_act *dh_, int64_t lddh, weft_real *dw, const weft_act *dy_,
                         int64_t lddy, const weft_act *h_, int64_t ldh, const weft_real *rstd,
                         const weft_act *w_, int64_t M, int64_t D, bool accumulate) {
    weft_real *dh = dh_;
    const weft_real *dy = dy_, *h = h_, *w = w_;
    int64_t size = cpu_block_rows(M), blocks = cpu_blocks(M);
    size_t mark = weft_arena_mark(&d->act);
    weft_real *partial = weft_arena_push(&d->act, (size_t)(blocks * D) * sizeof *partial);
    if (!d->dry) {
#pragma omp parallel num_threads(cpu_team(d, M *D))
        {
#pragma omp for schedule(static)
            for (int64_t b = 0; b < blocks; b++) {
                weft_real *sum = partial + b * D;
                int64_t end = (b + 1) * size < M ? (b + 1) * size : M;
                memset(sum, 0, (size_t)D * sizeof *sum);
                for (int64_t m = b * size; m < end; m++)
                    bwd_row(dh + m * lddh, sum, dy + m * lddy, h + m * ldh, rstd[m], w, D, accumulate);
            }
#pragma omp for schedule(static)
            for (int64_t j = 0; j < D; j += VLEN) {
                int64_t n = D - j < VLEN ? D - j : VLEN;
                vreal sum = {0};
                for (int64_t b = 0; b < blocks; b++) sum += v_load_n(partial + b * D + j, n);
                v_store_n(dw + j, v_load_n(dw + j, n) + sum, n);
            }
        }
    }
    weft_arena_release(&d->act, mark);
}
