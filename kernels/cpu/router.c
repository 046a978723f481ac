/* Router of a mixture of experts: softmax, top-k, gradients, statistics of the auxiliary losses. */
#include "cpu/rows.h"

#include <math.h>

/* p = softmax(x), returns logsumexp(x). */
static weft_real softmax_row(weft_real *p, const weft_real *x, int64_t X) {
    weft_real top = x[0];
    for (int64_t j = 1; j < X; j++) top = x[j] > top ? x[j] : top; /* passes over a NaN: v_exp does not */
    vreal shift = v_set1(top), sum = {0};
    V_LOOP(j, n, X, {
        vreal e = v_first(v_exp(v_load_n(x + j, n) - shift), n);
        v_store_n(p + j, e, n);
        sum += e;
    });
    weft_real total = v_sum(sum);
    vreal inverse = v_set1(1 / total);
    V_LOOP(j, n, X, v_store_n(p + j, v_load_n(p + j, n) * inverse, n););
    return (weft_real)((double)top + log((double)total));
}

/* The k largest, falling, ties to the lower id: each is the first in that order after the one before it. A
 * row of NaN has no order: it takes the ids 0 .. k-1, so that what follows stays within bounds. */
static void top_k(int32_t *ids, weft_real *w, const weft_real *p, int64_t X, int64_t k) {
    int64_t last = -1;
    for (int64_t s = 0; s < k; s++) {
        int64_t best = -1;
        for (int64_t j = 0; j < X; j++) {
            bool left = last < 0 || p[j] < p[last] || (p[j] == p[last] && j > last);
            if (left && (best < 0 || p[j] > p[best])) best = j;
        }
        if (best < 0) best = s;
        ids[s] = (int32_t)best;
        w[s] = p[best];
        last = best;
    }
}

void CPU_OP(router_fwd)(weft_device *d, const weft_router *a) {
    if (d->dry) return;
    const weft_real *logits = a->logits;
    int64_t X = a->X, k = a->k;
#pragma omp parallel for schedule(static) num_threads(cpu_team(d, a->M *X))
    for (int64_t m = 0; m < a->M; m++) {
        weft_real *p = a->probs + m * X, *w = a->w + m * k;
        a->lse[m] = softmax_row(p, logits + m * X, X);
        top_k(a->ids + m * k, w, p, X, k);
        if (a->normalise) {
            weft_real sum = 0;
            for (int64_t s = 0; s < k; s++) sum += w[s];
            for (int64_t s = 0; s < k; s++) w[s] /= sum;
        }
    }
}

/* With g the gradient of p:  dlogits_j = p_j * (g_j - sum_i p_i g_i + 2 c lse).
 * g comes from dprob and from w: w_s = p_s, or p_s / S with S = sum_s p_s, whose gradient is
 * (dw_s - sum_t dw_t w_t) / S. It is built up in dlogits. */
static void bwd_row(const weft_router *a, int64_t m) {
    int64_t X = a->X, k = a->k;
    const weft_real *p = a->probs + m * X, *w = a->w + m * k, *dw = a->dw + m * k;
    const int32_t *ids = a->ids + m * k;
    weft_real *g = (weft_real *)a->dlogits + m * X;
    if (a->dprob)
        memcpy(g, a->dprob, (size_t)X * sizeof *g);
    else
        memset(g, 0, (size_t)X * sizeof *g);
    weft_real mean = 0, inverse = 1;
    if (a->normalise) {
        weft_real sum = 0;
        for (int64_t s = 0; s < k; s++) {
            mean += dw[s] * w[s];
            sum += p[ids[s]];
        }
        inverse = 1 / sum;
    }
    for (int64_t s = 0; s < k; s++) g[ids[s]] += (dw[s] - mean) * inverse;
    vreal sums = {0};
    V_LOOP(j, n, X, sums += v_load_n(p + j, n) * v_load_n(g + j, n););
    vreal shift = v_set1(2 * a->dlse2 * a->lse[m] - v_sum(sums));
    V_LOOP(j, n, X, v_store_n(g + j, v_load_n(p + j, n) * (v_load_n(g + j, n) + shift), n););
}

void CPU_OP(router_bwd)(weft_device *d, const weft_router *a) {
    if (d->dry) return;
#pragma omp parallel for schedule(static) num_threads(cpu_team(d, a->M * a->X))
    for (int64_t m = 0; m < a->M; m++) bwd_row(a, m);
}

void CPU_OP(router_stats)(weft_device *d, int64_t *counts, weft_real *prob_sum, weft_real *lse2_sum,
                          const weft_router *a) {
    int64_t M = a->M, X = a->X, k = a->k;
    int64_t size = cpu_block_rows(M), blocks = cpu_blocks(M);
    size_t mark = weft_arena_mark(&d->act);
    int64_t *some_counts = weft_arena_push(&d->act, (size_t)(blocks * k * X) * sizeof *some_counts);
    weft_real *some_probs = weft_arena_push(&d->act, (size_t)(blocks * X) * sizeof *some_probs);
    double *some_lse2 = weft_arena_push(&d->act, (size_t)blocks * sizeof *some_lse2);
    if (d->dry) {
        weft_arena_release(&d->act, mark);
        return;
    }
#pragma omp parallel for schedule(static) num_threads(cpu_team(d, M *X))
    for (int64_t b = 0; b < blocks; b++) {
        int64_t end = (b + 1) * size < M ? (b + 1) * size : M, *count = some_counts + b * k * X;
        weft_real *prob = some_probs + b * X;
        double lse2 = 0;
        memset(count, 0, (size_t)(k * X) * sizeof *count);
        memset(prob, 0, (size_t)X * sizeof *prob);
        for (int64_t m = b * size; m < end; m++) {
            const weft_real *p = a->probs + m * X;
            for (int64_t s = 0; s < k; s++) count[s * X + a->ids[m * k + s]]++;
            V_LOOP(j, n, X, v_store_n(prob + j, v_load_n(prob + j, n) + v_load_n(p + j, n), n););
            lse2 += (double)a->lse[m] * (double)a->lse[m];
        }
        some_lse2[b] = lse2;
    }
    memset(counts, 0, (size_t)(k * X) * sizeof *counts);
    for (int64_t b = 0; b < blocks; b++)
        for (int64_t i = 0; i < k * X; i++) counts[i] += some_counts[b * k * X + i];
    for (int64_t j = 0; j < X; j++) {
        double sum = 0;
        for (int64_t b = 0; b < blocks; b++) sum += (double)some_probs[b * X + j];
        prob_sum[j] = (weft_real)sum;
    }
    double lse2 = 0;
    for (int64_t b = 0; b < blocks; b++) lse2 += some_lse2[b];
    *lse2_sum = (weft_real)lse2;
    weft_arena_release(&d->act, mark);
}
