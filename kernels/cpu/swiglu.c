/* SwiGLU. */
#include "cpu/rows.h"

void CPU_OP(swiglu_fwd)(weft_device *d, weft_act *y_, const weft_act *gu_, int64_t M, int64_t F) {
    if (d->dry) return;
    weft_real *y = y_;
    const weft_real *gu = gu_;
#pragma omp parallel for schedule(static) num_threads(cpu_team(d, M *F))
    for (int64_t m = 0; m < M; m++) {
        const weft_real *gate = gu + 2 * m * F, *up = gate + F;
        weft_real *out = y + m * F;
        V_LOOP(j, n, F, {
            vreal g = v_load_n(gate + j, n);
            v_store_n(out + j, g * v_sigmoid(g) * v_load_n(up + j, n), n);
        });
    }
}

void CPU_OP(swiglu_bwd)(weft_device *d, weft_act *dgu_, const weft_act *dy_, const weft_act *gu_, int64_t M,
                        int64_t F) {
    if (d->dry) return;
    weft_real *dgu = dgu_;
    const weft_real *dy = dy_, *gu = gu_;
#pragma omp parallel for schedule(static) num_threads(cpu_team(d, M *F))
    for (int64_t m = 0; m < M; m++) {
        const weft_real *gate = gu + 2 * m * F, *up = gate + F, *dout = dy + m * F;
        weft_real *dgate = dgu + 2 * m * F, *dup = dgate + F;
        V_LOOP(j, n, F, {
            vreal g = v_load_n(gate + j, n), u = v_load_n(up + j, n), dv = v_load_n(dout + j, n);
            vreal s = v_sigmoid(g), silu = g * s;
            v_store_n(dgate + j, dv * u * (s + silu * (v_set1(1) - s)), n);
            v_store_n(dup + j, dv * silu, n);
        });
    }
}

void CPU_OP(swiglu_weighted_bwd)(weft_device *d, weft_act *dgu_, weft_real *dw, weft_act *du_,
                                 const weft_act *gu_, const weft_real *w, int64_t M, int64_t F) {
    if (d->dry) return;
    weft_real *dgu = dgu_, *du = du_;
    const weft_real *gu = gu_;
#pragma omp parallel for schedule(static) num_threads(cpu_team(d, M *F))
    for (int64_t m = 0; m < M; m++) {
        const weft_real *gate = gu + 2 * m * F, *up = gate + F;
        weft_real *dgate = dgu + 2 * m * F, *dup = dgate + F, *inner = du + m * F;
        vreal share = v_set1(w[m]), sums[4] = {{0}};
        V_LOOP_SUM(j, n, acc, sums, F, {
            vreal g = v_load_n(gate + j, n), u = v_load_n(up + j, n), before = v_load_n(inner + j, n);
            vreal s = v_sigmoid(g), silu = g * s, dv = share * before;
            *acc += before * (silu * u);
            v_store_n(dgate + j, dv * u * (s + silu * (v_set1(1) - s)), n);
            v_store_n(dup + j, dv * silu, n);
            v_store_n(inner + j, share * (silu * u), n);
        });
        dw[m] = v_sum4(sums);
    }
}
