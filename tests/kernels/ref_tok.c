#include "kernels/ref_tok.h"

/* ---- running an operation ---- */

void ref_tok_run(const char *what, void (*call)(weft_device *d, void *of), void *of, const ref_tok_out *outs,
                 int count) {
    size_t bytes = 0;
    for (int i = 0; i < count; i++) bytes += outs[i].bytes;
    char *before = malloc(bytes + 1), *first = malloc(bytes + 1);
    size_t at = 0;
    for (int i = 0; i < count; at += outs[i++].bytes) memcpy(before + at, outs[i].p, outs[i].bytes);

    weft_device d = {0};
    ck_assert_int_eq(weft_device_open_cpu(&d), WEFT_OK);
    ck_assert_int_eq(weft_device_measure(&d), WEFT_OK);
    d.threads = 3;
    call(&d, of);
    at = 0;
    for (int i = 0; i < count; at += outs[i++].bytes)
        ck_assert_msg(memcmp(before + at, outs[i].p, outs[i].bytes) == 0, "%s: a dry run wrote output %d",
                      what, i);
    ck_assert_uint_eq(d.act.top, 0);
    size_t peak = d.act.peak;

    for (int threads = 3; threads >= 1; threads--) {
        at = 0;
        for (int i = 0; i < count; at += outs[i++].bytes) memcpy(outs[i].p, before + at, outs[i].bytes);
        ck_assert_int_eq(weft_device_size(&d, peak), WEFT_OK);
        d.threads = threads;
        if (peak) memset(d.act.base, 0xff, peak); /* workspace is not zero: NaN */
        call(&d, of);
        ck_assert_msg(d.act.top == 0 && d.act.peak == peak,
                      "%s: %zu bytes of workspace, the dry run took %zu; %zu left", what, d.act.peak, peak,
                      d.act.top);
        at = 0;
        for (int i = 0; i < count; at += outs[i++].bytes) {
            if (threads == 3)
                memcpy(first + at, outs[i].p, outs[i].bytes);
            else
                ck_assert_msg(memcmp(first + at, outs[i].p, outs[i].bytes) == 0,
                              "%s: output %d with %d threads differs from 3 threads", what, i, threads);
        }
    }
    weft_device_close(&d);
    free(before);
    free(first);
}

/* ---- references ---- */

static double row_rstd(const double *h, double eps, int64_t D) {
    double sum = 0;
    for (int64_t j = 0; j < D; j++) sum += h[j] * h[j];
    return 1 / sqrt(sum / (double)D + eps);
}

void ref_tok_rmsnorm(double *y, int64_t ldy, double *rstd, double *h, const double *x, int64_t ldx,
                     const double *delta, const double *w, double eps, int64_t M, int64_t D) {
    for (int64_t m = 0; m < M; m++) {
        const double *row = x + m * ldx;
        if (delta) {
            for (int64_t j = 0; j < D; j++) h[m * ldx + j] = x[m * ldx + j] + delta[m * D + j];
            row = h + m * ldx;
        }
        rstd[m] = row_rstd(row, eps, D);
        for (int64_t j = 0; j < D; j++) y[m * ldy + j] = w[j] * (row[j] * rstd[m]);
    }
}

void ref_tok_rmsnorm_bwd(double *dh, int64_t lddh, double *dw, const double *dy, int64_t lddy,
                         const double *h, int64_t ldh, const double *w, double eps, int64_t M, int64_t D,
                         bool accumulate) {
    for (int64_t m = 0; m < M; m++) {
        double r = row_rstd(h + m * ldh, eps, D), dot = 0;
        for (int64_t j = 0; j < D; j++) dot += w[j] * dy[m * lddy + j] * h[m * ldh + j];
        for (int64_t j = 0; j < D; j++) {
            double g = dy[m * lddy + j];
            dw[j] += g * h[m * ldh + j] * r;
            g = r * (w[j] * g - h[m * ldh + j] * r * r * dot / (double)D);
            dh[m * lddh + j] = accumulate ? dh[m * lddh + j] + g : g;
        }
    }
}

static double sigmoid(double x) {
    return 1 / (1 + exp(-x));
}

void ref_tok_swiglu(double *y, const double *gu, int64_t M, int64_t F) {
    for (int64_t m = 0; m < M; m++)
        for (int64_t j = 0; j < F; j++) {
            double g = gu[2 * m * F + j], u = gu[(2 * m + 1) * F + j];
            y[m * F + j] = g * sigmoid(g) * u;
        }
}

void ref_tok_swiglu_bwd(double *dgu, const double *dy, const double *gu, int64_t M, int64_t F) {
    for (int64_t m = 0; m < M; m++)
        for (int64_t j = 0; j < F; j++) {
            double g = gu[2 * m * F + j], u = gu[(2 * m + 1) * F + j], s = sigmoid(g), dv = dy[m * F + j];
            dgu[2 * m * F + j] = dv * u * (s + g * s * (1 - s));
            dgu[(2 * m + 1) * F + j] = dv * g * s;
        }
}

void ref_tok_swiglu_weighted_bwd(double *dgu, double *dw, double *du, const double *gu, const double *w,
                                 int64_t M, int64_t F) {
    double *a = malloc((size_t)(M * F) * sizeof *a);
    ref_tok_swiglu(a, gu, M, F);
    for (int64_t m = 0; m < M; m++) {
        dw[m] = 0;
        for (int64_t i = m * F; i < (m + 1) * F; i++) {
            dw[m] += du[i] * a[i];
            du[i] *= w[m];
        }
    }
    ref_tok_swiglu_bwd(dgu, du, gu, M, F);
    for (int64_t i = 0; i < M * F; i++) du[i] = w[i / F] * a[i];
    free(a);
}

static double softmax(double *p, const double *x, int64_t n) {
    double top = x[0], sum = 0;
    for (int64_t j = 0; j < n; j++) top = fmax(top, x[j]);
    for (int64_t j = 0; j < n; j++) sum += exp(x[j] - top);
    for (int64_t j = 0; j < n; j++) p[j] = exp(x[j] - top) / sum;
    return top + log(sum);
}

void ref_tok_router(double *probs, double *lse, int32_t *ids, double *w, const double *logits, int64_t M,
                    int64_t X, int64_t k, bool normalise) {
    bool *taken = malloc((size_t)X * sizeof *taken);
    for (int64_t m = 0; m < M; m++) {
        double *p = probs + m * X, sum = 0;
        lse[m] = softmax(p, logits + m * X, X);
        memset(taken, 0, (size_t)X * sizeof *taken);
        for (int64_t s = 0; s < k; s++) {
            int64_t best = -1;
            for (int64_t j = 0; j < X; j++)
                if (!taken[j] && (best < 0 || p[j] > p[best])) best = j;
            taken[best] = true;
            ids[m * k + s] = (int32_t)best;
            w[m * k + s] = p[best];
            sum += p[best];
        }
        for (int64_t s = 0; s < k && normalise; s++) w[m * k + s] /= sum;
    }
    free(taken);
}

/* Through the full Jacobians: dw -> dp -> dlogits. */
void ref_tok_router_bwd(double *dlogits, const double *logits, const int32_t *ids, const double *dw,
                        const double *dprob, double dlse2, int64_t M, int64_t X, int64_t k, bool normalise) {
    double *p = malloc((size_t)X * sizeof *p), *dp = malloc((size_t)X * sizeof *dp);
    for (int64_t m = 0; m < M; m++) {
        double lse = softmax(p, logits + m * X, X), sum = 0;
        const int32_t *id = ids + m * k;
        for (int64_t s = 0; s < k; s++) sum += p[id[s]];
        for (int64_t j = 0; j < X; j++) dp[j] = dprob ? dprob[j] : 0;
        for (int64_t s = 0; s < k; s++)
            for (int64_t t = 0; t < k; t++) {
                double slope = normalise ? (s == t ? 1 / sum : 0) - p[id[s]] / (sum * sum) : s == t;
                dp[id[t]] += dw[m * k + s] * slope;
            }
        for (int64_t i = 0; i < X; i++) {
            double g = 2 * dlse2 * lse * p[i];
            for (int64_t j = 0; j < X; j++) g += dp[j] * p[j] * ((i == j) - p[i]);
            dlogits[m * X + i] = g;
        }
    }
    free(p);
    free(dp);
}

void ref_tok_cross_entropy(double *loss, double *dlogits, const double *logits, const int32_t *targets,
                           int64_t M, int64_t V, double scale) {
    for (int64_t m = 0; m < M; m++) {
        double *g = dlogits + m * V, lse = softmax(g, logits + m * V, V);
        bool counts = targets[m] >= 0;
        loss[m] = counts ? lse - logits[m * V + targets[m]] : 0;
        for (int64_t j = 0; j < V; j++) g[j] = counts ? scale * (g[j] - (j == targets[m])) : 0;
    }
}

void ref_tok_adamw(double *p, const double *g, double *m, double *v, int64_t n, const weft_adamw *a) {
    double b1 = (double)a->beta1, b2 = (double)a->beta2;
    for (int64_t i = 0; i < n; i++) {
        double grad = (double)a->clip->scale * g[i];
        m[i] = b1 * m[i] + (1 - b1) * grad;
        v[i] = b2 * v[i] + (1 - b2) * grad * grad;
        double first = m[i] / (1 - pow(b1, (double)a->step)), second = v[i] / (1 - pow(b2, (double)a->step));
        p[i] -= (double)a->lr * (first / (sqrt(second) + (double)a->eps) + (double)a->weight_decay * p[i]);
    }
}
