#include "kernels/ref_seq.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static double sigmoid(double x) {
    return 1 / (1 + exp(-x));
}

/* ---- convolution ---- */

/* Where x[b, t-(K-1)+j] lies, or NULL when that tap counts as 0; grad: the same place in dx, dhalo. */
static double *tap(const ref_conv *a, int64_t b, int64_t t, int64_t j, int64_t e, int grad) {
    int64_t s = t - (a->K - 1) + j;
    if (a->doc_start && a->pos0 + s < a->doc_start[b * a->T + t]) return NULL;
    if (s >= 0) return (grad ? a->dx : a->x) + (b * a->T + s) * a->E + e;
    if (!a->halo) return NULL;
    return (grad ? a->dhalo : a->halo) + (b * (a->K - 1) + a->K - 1 + s) * a->E + e;
}

static double pre_activation(const ref_conv *a, int64_t b, int64_t t, int64_t e) {
    double c = a->bias ? a->bias[e] : 0;
    for (int64_t j = 0; j < a->K; j++) {
        const double *x = tap(a, b, t, j, e, 0);
        if (x) c += a->w[e * a->K + j] * *x;
    }
    return c;
}

void ref_conv_fwd(const ref_conv *a) {
    for (int64_t b = 0; b < a->B; b++)
        for (int64_t e = 0; e < a->E; e++) {
            for (int64_t t = 0; t < a->T; t++) {
                double c = pre_activation(a, b, t, e);
                a->y[(b * a->T + t) * a->E + e] = c * sigmoid(c);
            }
            for (int64_t i = 0; i < a->K - 1; i++) {
                int64_t s = a->T - (a->K - 1) + i;
                double x = 0;
                if (s >= 0)
                    x = a->x[(b * a->T + s) * a->E + e];
                else if (a->halo)
                    x = a->halo[(b * (a->K - 1) + a->K - 1 + s) * a->E + e];
                a->halo_out[(b * (a->K - 1) + i) * a->E + e] = x;
            }
        }
}

void ref_conv_bwd(const ref_conv *a) {
    memset(a->dx, 0, (size_t)(a->B * a->T * a->E) * sizeof(double));
    memset(a->dw, 0, (size_t)(a->E * a->K) * sizeof(double));
    if (a->halo) memset(a->dhalo, 0, (size_t)(a->B * (a->K - 1) * a->E) * sizeof(double));
    if (a->bias) memset(a->dbias, 0, (size_t)a->E * sizeof(double));
    for (int64_t b = 0; b < a->B; b++)
        for (int64_t t = 0; t < a->T; t++)
            for (int64_t e = 0; e < a->E; e++) {
                double c = pre_activation(a, b, t, e), s = sigmoid(c);
                double dc = a->dy[(b * a->T + t) * a->E + e] * s * (1 + c * (1 - s));
                if (a->bias) a->dbias[e] += dc;
                for (int64_t j = 0; j < a->K; j++) {
                    const double *x = tap(a, b, t, j, e, 0);
                    if (!x) continue;
                    a->dw[e * a->K + j] += dc * *x;
                    *tap(a, b, t, j, e, 1) += dc * a->w[e * a->K + j];
                }
            }
}

/* ---- scan ---- */

static double softplus(double x) {
    return x > 20 ? x : log1p(exp(x));
}

static int starts(const ref_scan *a, int64_t b, int64_t t) {
    return a->doc_start && a->doc_start[b * a->T + t] == a->pos0 + t;
}

void ref_scan_fwd(const ref_scan *a) {
    const int64_t N = a->N, E = a->E;
    for (int64_t i = 0; i < a->B * a->T * E; i++) a->y[i] = a->D[i % E] * a->u[i];
    for (int64_t b = 0; b < a->B; b++)
        for (int64_t e = 0; e < E; e++)
            for (int64_t n = 0; n < N; n++) {
                double h = a->h0 ? a->h0[(b * E + e) * N + n] : 0, A = -exp(a->A_log[e * N + n]);
                for (int64_t t = 0; t < a->T; t++) {
                    int64_t row = b * a->T + t, i = row * E + e;
                    double delta = softplus(a->dt[i] + a->dt_bias[e]);
                    if (starts(a, b, t)) h = 0;
                    h = exp(delta * A) * h + delta * a->Bm[row * N + n] * a->u[i];
                    a->y[i] += a->Cm[row * N + n] * h;
                }
                a->hT[(b * E + e) * N + n] = h;
            }
    for (int64_t i = 0; i < a->B * E && a->sigma; i++) {
        a->sigma[i] = 0;
        for (int64_t t = 0; t < a->T; t++)
            a->sigma[i] += starts(a, i / E, t)
                               ? INFINITY
                               : softplus(a->dt[(i / E * a->T + t) * E + i % E] + a->dt_bias[i % E]);
    }
    for (int64_t i = 0; i < a->B * a->T * E; i++) a->out[i] = a->y[i] * a->z[i] * sigmoid(a->z[i]);
}

/* Assumes y of the forward pass. */
void ref_scan_bwd(const ref_scan *a) {
    const int64_t N = a->N, E = a->E, T = a->T;
    double *h = malloc((size_t)(T + 1) * sizeof(double));
    memset(a->dB, 0, (size_t)(a->B * T * N) * sizeof(double));
    memset(a->dC, 0, (size_t)(a->B * T * N) * sizeof(double));
    memset(a->ddt_bias, 0, (size_t)E * sizeof(double));
    memset(a->dD, 0, (size_t)E * sizeof(double));
    memset(a->dA_log, 0, (size_t)(E * N) * sizeof(double));
    for (int64_t i = 0; i < a->B * T * E; i++) {
        double s = sigmoid(a->z[i]), g = a->dout[i] * a->z[i] * s;
        a->dz[i] = a->dout[i] * a->y[i] * s * (1 + a->z[i] * (1 - s));
        a->dD[i % E] += g * a->u[i];
        a->du[i] = a->D[i % E] * g;
        a->ddt[i] = 0; /* gradient of delta first */
    }
    for (int64_t b = 0; b < a->B; b++)
        for (int64_t e = 0; e < E; e++)
            for (int64_t n = 0; n < N; n++) {
                double A = -exp(a->A_log[e * N + n]), dA = 0;
                double dh = a->dhT ? a->dhT[(b * E + e) * N + n] : 0;
                h[0] = a->h0 ? a->h0[(b * E + e) * N + n] : 0;
                for (int64_t t = 0; t < T; t++) {
                    int64_t row = b * T + t, i = row * E + e;
                    double delta = softplus(a->dt[i] + a->dt_bias[e]);
                    h[t + 1] =
                        (starts(a, b, t) ? 0 : exp(delta * A) * h[t]) + delta * a->Bm[row * N + n] * a->u[i];
                }
                for (int64_t t = T - 1; t >= 0; t--) {
                    int64_t row = b * T + t, i = row * E + e;
                    double s = sigmoid(a->z[i]), g = a->dout[i] * a->z[i] * s;
                    double delta = softplus(a->dt[i] + a->dt_bias[e]),
                           decay = starts(a, b, t) ? 0 : exp(delta * A);
                    dh += g * a->Cm[row * N + n];
                    a->dC[row * N + n] += g * h[t + 1];
                    a->dB[row * N + n] += dh * delta * a->u[i];
                    a->du[i] += dh * delta * a->Bm[row * N + n];
                    a->ddt[i] += dh * (a->Bm[row * N + n] * a->u[i] + A * decay * h[t]);
                    dA += dh * delta * decay * h[t];
                    dh *= decay;
                }
                a->dA_log[e * N + n] += dA * A;
                a->dh0[(b * E + e) * N + n] = dh;
            }
    for (int64_t i = 0; i < a->B * T * E; i++) {
        double raw = a->dt[i] + a->dt_bias[i % E];
        a->ddt[i] *= raw > 20 ? 1 : sigmoid(raw);
        a->ddt_bias[i % E] += a->ddt[i];
    }
    free(h);
}

void ref_scan_carry(const ref_carry *a) {
    const int64_t states = a->B * a->E * a->N;
    for (int64_t i = 0; i < states; i++) {
        double state = 0;
        for (int64_t step = 0; step < a->chunks; step++) {
            const int64_t k = a->reverse ? a->chunks - 1 - step : step;
            a->out[k * states + i] = state;
            const double sigma = a->sigma[(k * states + i) / a->N];
            state *= isinf(sigma) ? 0 : exp(-exp(a->A_log[i % (a->E * a->N)]) * sigma);
            state += a->S[k * states + i];
        }
    }
}

/* ---- attention ---- */

static double dot(const double *x, const double *y, int64_t n) {
    double s = 0;
    for (int64_t i = 0; i < n; i++) s += x[i] * y[i];
    return s;
}

/* Probabilities of query (b, i, h) over keys [*from, *to). Returns the logarithm of their sum. */
static double probabilities(const ref_attention *a, int64_t b, int64_t i, int64_t h, double *p, int64_t *from,
                            int64_t *to) {
    const double *q = a->q + ((b * a->Tq + i) * a->H + h) * a->d;
    double top = -INFINITY, sum = 0;
    *from = a->doc_start ? a->doc_start[b * a->Tq + i] : 0;
    *to = a->q_pos0 + i + 1;
    for (int64_t j = *from; j < *to; j++) {
        p[j] = a->scale * dot(q, a->k + ((b * a->Tk + j) * a->G + h / (a->H / a->G)) * a->d, a->d);
        if (p[j] > top) top = p[j];
    }
    for (int64_t j = *from; j < *to; j++) sum += p[j] = exp(p[j] - top);
    for (int64_t j = *from; j < *to; j++) p[j] /= sum;
    return top + log(sum);
}

void ref_attention_fwd(const ref_attention *a) {
    double *p = malloc((size_t)a->Tk * sizeof(double));
    int64_t from, to;
    for (int64_t b = 0; b < a->B; b++)
        for (int64_t i = 0; i < a->Tq; i++)
            for (int64_t h = 0; h < a->H; h++) {
                int64_t at = (b * a->Tq + i) * a->H + h;
                a->lse[at] = probabilities(a, b, i, h, p, &from, &to);
                for (int64_t e = 0; e < a->d; e++) {
                    double sum = 0;
                    for (int64_t j = from; j < to; j++)
                        sum += p[j] * a->v[((b * a->Tk + j) * a->G + h / (a->H / a->G)) * a->d + e];
                    a->o[at * a->d + e] = sum;
                }
            }
    free(p);
}

void ref_attention_bwd(const ref_attention *a) {
    double *p = malloc((size_t)a->Tk * sizeof(double));
    int64_t from, to;
    memset(a->dq, 0, (size_t)(a->B * a->Tq * a->H * a->d) * sizeof(double));
    memset(a->dk, 0, (size_t)(a->B * a->Tk * a->G * a->d) * sizeof(double));
    memset(a->dv, 0, (size_t)(a->B * a->Tk * a->G * a->d) * sizeof(double));
    for (int64_t b = 0; b < a->B; b++)
        for (int64_t i = 0; i < a->Tq; i++)
            for (int64_t h = 0; h < a->H; h++) {
                int64_t at = ((b * a->Tq + i) * a->H + h) * a->d;
                probabilities(a, b, i, h, p, &from, &to);
                const double mean = dot(a->dout + at, a->o + at, a->d);
                for (int64_t j = from; j < to; j++) {
                    int64_t key = ((b * a->Tk + j) * a->G + h / (a->H / a->G)) * a->d;
                    double ds = p[j] * (dot(a->dout + at, a->v + key, a->d) - mean) * a->scale;
                    for (int64_t e = 0; e < a->d; e++) {
                        a->dv[key + e] += p[j] * a->dout[at + e];
                        a->dq[at + e] += ds * a->k[key + e];
                        a->dk[key + e] += ds * a->q[at + e];
                    }
                }
            }
    free(p);
}

/* ---- the rest ---- */

void ref_rope(double *x, int64_t B, int64_t T, int64_t heads, int64_t d, double theta, int64_t pos0,
              const int32_t *doc_start, double sign) {
    for (int64_t row = 0; row < B * T; row++) {
        double pos = (double)(pos0 + row % T - (doc_start ? doc_start[row] : 0));
        for (int64_t h = 0; h < heads; h++)
            for (int64_t i = 0; i < d / 2; i++) {
                double angle = sign * pos * pow(theta, -2.0 * (double)i / (double)d);
                double *p = x + (row * heads + h) * d + i, a = p[0], b = p[d / 2];
                p[0] = a * cos(angle) - b * sin(angle);
                p[d / 2] = b * cos(angle) + a * sin(angle);
            }
    }
}

void ref_matmul(double *c, const double *a, int64_t a_row, int64_t a_col, const double *b, int64_t b_row,
                int64_t b_col, int64_t m, int64_t n, int64_t k) {
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++)
            for (int64_t p = 0; p < k; p++)
                c[i * n + j] += a[i * a_row + p * a_col] * b[p * b_row + j * b_col];
}
