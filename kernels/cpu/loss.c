/* Softmax cross-entropy: a pass for the maximum, a pass for the exponentials and their sum, and, for the
 * gradient, a pass that scales the exponentials where the logits were. A row stays in the second-level cache
 * meanwhile. Over a vocabulary in parts, the exponentials are computed again when the whole sum is known. */
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

/* sum exp(x - top); the terms go to `terms` (may be x) unless NULL. Short sums in weft_real, the sum of those
 * in double: a vocabulary of 256K terms would lose three digits in float. */
V_INLINE double exp_sum(weft_real *terms, const weft_real *x, int64_t V, weft_real top) {
    const int64_t chunk = 2048;
    vreal shift = v_set1(top);
    double total = 0;
    for (int64_t begin = 0; begin < V; begin += chunk) {
        vreal sums[4] = {{0}};
        V_LOOP_SUM(j, n, acc, sums, V - begin < chunk ? V - begin : chunk, {
            vreal e = v_exp(v_load_n(x + begin + j, n) - shift);
            if (terms) v_store_n(terms + begin + j, e, n);
            *acc += v_first(e, n);
        });
        total += (double)v_sum4(sums);
    }
    return total;
}

static weft_real row_loss(weft_real *x, int64_t V, int32_t target, weft_real scale, bool with_grad) {
    weft_real top = row_max(x, V), wanted = x[target];
    double sum = with_grad ? exp_sum(x, x, V, top) : exp_sum(NULL, x, V, top);
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

/* A maximum of -infinity (no word, or none that is possible) cannot be subtracted; 0 does as well, and shows
 * a NaN that the maximum has passed over. */
void CPU_OP(cross_entropy_partial)(weft_device *d, weft_real *part, const weft_act *logits_,
                                   const int32_t *targets, int64_t M, int64_t first, int64_t V) {
    if (d->dry) return;
    const weft_real *logits = logits_;
#pragma omp parallel for schedule(static) num_threads(cpu_team(d, M *V))
    for (int64_t m = 0; m < M; m++) {
        const weft_real *row = logits + m * V, top = row_max(row, V);
        const int64_t target = targets[m] - first;
        part[3 * m] = top;
        part[3 * m + 1] = (weft_real)exp_sum(NULL, row, V, top == -(weft_real)INFINITY ? 0 : top);
        part[3 * m + 2] = targets[m] >= 0 && target >= 0 && target < V ? row[target] : 0;
    }
}

/* The whole of a row from its parts, which lie `stride` apart. */
typedef struct row_total {
    weft_real top;
    double sum, wanted;
} row_total;

static row_total add_parts(const weft_real *part, int64_t parts, int64_t stride) {
    row_total t = {-(weft_real)INFINITY, 0, 0};
    for (int64_t p = 0; p < parts; p++) t.top = part[p * stride] > t.top ? part[p * stride] : t.top;
    for (int64_t p = 0; p < parts; p++) {
        t.sum += (double)part[p * stride + 1] * exp((double)part[p * stride] - (double)t.top);
        t.wanted += (double)part[p * stride + 2];
    }
    return t;
}

/* x = factor * exp(x - top) */
static void exp_scale(weft_real *x, int64_t V, weft_real top, weft_real factor) {
    vreal shift = v_set1(top), by = v_set1(factor);
    V_LOOP(j, n, V, v_store_n(x + j, v_exp(v_load_n(x + j, n) - shift) * by, n););
}

void CPU_OP(cross_entropy_merge)(weft_device *d, weft_real *loss, weft_act *logits_,
                                 const weft_real *all_parts, int64_t parts, const int32_t *targets, int64_t M,
                                 int64_t first, int64_t V, weft_real scale, bool with_grad) {
    if (d->dry) return;
    weft_real *logits = logits_;
#pragma omp parallel for schedule(static) num_threads(cpu_team(d, M *(parts + V)))
    for (int64_t m = 0; m < M; m++) {
        weft_real *row = logits + m * V, value = 0;
        if (targets[m] >= 0) {
            const row_total t = add_parts(all_parts + 3 * m, parts, 3 * M);
            const int64_t target = targets[m] - first;
            if (with_grad) exp_scale(row, V, t.top, (weft_real)((double)scale / t.sum));
            if (with_grad && target >= 0 && target < V) row[target] -= scale;
            value = (weft_real)(log(t.sum) + ((double)t.top - t.wanted));
        } else if (with_grad) {
            memset(row, 0, (size_t)V * sizeof *row);
        }
        if (loss) loss[m] = value;
    }
}
