/* Softmax cross-entropy: a pass for the maximum, a pass for the exponentials and their sum, and, for the
 * gradient, a pass that scales the exponentials where the logits were. A row stays in the second-level cache
 * meanwhile. */
#include "cpu/rows.h"

#include <math.h>

/* May pass over a NaN: the exponentials do not. */
static weft_real row_max(const weft_real *x, int64_t V) {
    vreal top[4];
    for (int i = 0; i < 4; i++) top[i] = v_set1(-INFINITY);
    int64_t j = 0;
    for (; j + 4 * VLEN <= V; j += 4 * VLEN)
        for (int i = 0; i < 4; i++) top[i] = v_max(top[i], v_load(x + j + i * VLEN));
    weft_real most = v_hmax(v_max(v_max(top[0], top[1]), v_max(top[2], top[3])));
    for (; j < V; j++) most = x[j] > most ? x[j] : most;
    return most;
}

/* sum exp(x - top); the terms replace x when `store`. Short sums in weft_real, the sum of those in double: a
 * vocabulary of 256K terms would lose three digits in float. */
V_INLINE double exp_sum(weft_real *x, int64_t V, weft_real top, bool store) {
    const int64_t chunk = 2048;
    vreal shift = v_set1(top);
    double total = 0;
    for (int64_t begin = 0; begin < V; begin += chunk) {
        weft_real *part = x + begin;
        vreal sums[4] = {{0}};
        V_LOOP_SUM(j, n, acc, sums, V - begin < chunk ? V - begin : chunk, {
            vreal e = v_exp(v_load_n(part + j, n) - shift);
            if (store) v_store_n(part + j, e, n);
            *acc += v_first(e, n);
        });
        total += (double)v_sum4(sums);
    }
    return total;
}

static weft_real row_loss(weft_real *x, int64_t V, int32_t target, weft_real scale, bool with_grad) {
    weft_real top = row_max(x, V), wanted = x[target];
    double sum = with_grad ? exp_sum(x, V, top, true) : exp_sum(x, V, top, false);
    if (with_grad) {
        vreal factor = v_set1((weft_real)((double)scale / sum));
        V_LOOP(j, n, V, v_store_n(x + j, v_load_n(x + j, n) * factor, n););
        x[target] -= scale;
    }
    return (weft_real)(log(sum) + ((double)top - (double)wanted));
}

void CPU_OP(cross_entropy)(weft_device *d, weft_real *loss, weft_act *logits_, const int32_t *targets,
                           int64_t M, int64_t V, weft_real scale, bool with_grad) {
    if (d->dry) return;
    weft_real *logits = logits_;
#pragma omp parallel for schedule(static) num_threads(cpu_team(d, M *V))
    for (int64_t m = 0; m < M; m++) {
        weft_real *row = logits + m * V, value = 0;
        if (targets[m] >= 0)
            value = row_loss(row, V, targets[m], scale, with_grad);
        else if (with_grad)
            memset(row, 0, (size_t)V * sizeof *row);
        if (loss) loss[m] = value;
    }
}
