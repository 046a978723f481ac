/* Cases of linear layers, plain and grouped. */
#include "kernels/seq_case.h"
#include "support/suite.h"

#include <stdio.h>
#include <stdlib.h>

enum pass { FORWARD, DGRAD, WGRAD };

typedef struct linear_argument {
    const linear_shape *s;
    enum pass pass;
    weft_real *y, *dbias;
    const weft_real *a, *b, *bias;
    int64_t ldy, lda, ldb;
} linear_argument;

static void run_linear(weft_device *d, void *argument) {
    const linear_argument *p = argument;
    const linear_shape *s = p->s;
    if (p->pass == FORWARD)
        d->ops->linear_fwd(d, p->y, p->ldy, p->a, p->lda, p->b, p->bias, s->m, s->n, s->k, s->accumulate);
    else if (p->pass == DGRAD)
        d->ops->linear_dgrad(d, p->y, p->ldy, p->a, p->lda, p->b, s->m, s->n, s->k, s->accumulate);
    else
        d->ops->linear_wgrad(d, p->y, p->dbias, p->a, p->lda, p->b, p->ldb, s->m, s->n, s->k);
}

/* An array that is assigned, or added to with accumulate. */
static weft_real *result(seq_case *c, const char *name, double **ref, int64_t rows, int64_t width,
                         int64_t *ld, const linear_shape *s) {
    *ld = s->accumulate ? width : width + SEQ_PAD;
    return s->accumulate ? seq_sum(c, name, ref, rows, width, s->tolerance)
                         : seq_output(c, name, ref, rows, width, *ld, s->tolerance);
}

/* seq_sum hands out an array that holds what stood there before; the references add to zeros. */
static void clear(double *x, int64_t n) {
    for (int64_t i = 0; i < n; i++) x[i] = 0;
}

void seq_linear(const linear_shape *s) {
    const int64_t m = s->m, n = s->n, k = s->k;
    char what[120];
    snprintf(what, sizeof what, "linear m=%d n=%d k=%d bias=%d accumulate=%d", (int)m, (int)n, (int)k,
             s->bias, s->accumulate);
    seq_case in = {.seed = 20}, out = {.seed = 21};
    linear_argument p = {.s = s};
    double *x, *w, *bias = NULL, *dy, *y, *dbias;
    const weft_real *xv = seq_input(&in, &x, m, k, k + 1, -1, 1), *wv = seq_input(&in, &w, n, k, k, -1, 1);
    const weft_real *dyv = seq_input(&in, &dy, m, n, n + 2, -1, 1);
    if (s->bias) p.bias = seq_input(&in, &bias, 1, n, n, -1, 1);

    p.y = result(&out, "y", &y, m, n, &p.ldy, s);
    p.a = xv, p.lda = k + 1, p.b = wv;
    clear(y, m * n);
    ref_matmul(y, x, k, 1, w, 1, k, m, n, k);
    for (int64_t i = 0; i < m * n && bias; i++) y[i] += bias[i % n];
    seq_run(&out, run_linear, &p, what);
    seq_free(&out);

    p.pass = DGRAD;
    p.y = result(&out, "dx", &y, m, k, &p.ldy, s);
    p.a = dyv, p.lda = n + 2;
    clear(y, m * k);
    ref_matmul(y, dy, n, 1, w, k, 1, m, k, n);
    seq_run(&out, run_linear, &p, what);
    seq_free(&out);

    p.pass = WGRAD;
    p.y = seq_sum(&out, "dw", &y, n, k, s->tolerance);
    p.b = xv, p.ldb = k + 1;
    clear(y, n * k);
    ref_matmul(y, dy, 1, n, x, k, 1, n, k, m);
    if (s->bias) {
        p.dbias = seq_sum(&out, "dbias", &dbias, 1, n, s->tolerance);
        for (int64_t j = 0; j < n; j++) {
            dbias[j] = 0;
            for (int64_t i = 0; i < m; i++) dbias[j] += dy[i * n + j];
        }
    }
    seq_run(&out, run_linear, &p, what);
    seq_free(&out), seq_free(&in);
}

typedef struct grouped_argument {
    const grouped_shape *s;
    enum pass pass;
    const int64_t *offsets;
    weft_real *y;
    const weft_real *a, *b;
    int64_t stride;
} grouped_argument;

static void run_grouped(weft_device *d, void *argument) {
    const grouped_argument *p = argument;
    const grouped_shape *s = p->s;
    const int64_t m = p->offsets ? p->offsets[s->g] : 0;
    if (p->pass == FORWARD)
        d->ops->grouped_fwd(d, p->y, p->a, p->b, p->stride, p->offsets, s->g, m, s->n, s->k);
    else if (p->pass == DGRAD)
        d->ops->grouped_dgrad(d, p->y, p->a, p->b, p->stride, p->offsets, s->g, m, s->n, s->k);
    else
        d->ops->grouped_wgrad(d, p->y, p->stride, p->a, p->b, p->offsets, s->g, m, s->n, s->k);
}

void seq_grouped(const grouped_shape *s) {
    const int64_t g = s->g, n = s->n, k = s->k, stride = n * k + 7;
    int64_t offsets[9] = {0};
    for (int64_t i = 0; i < g; i++) offsets[i + 1] = offsets[i] + s->rows[i];
    const int64_t m = offsets[g];
    seq_case in = {.seed = 22}, out = {.seed = 23};
    grouped_argument p = {.s = s, .offsets = offsets, .stride = stride};
    double *x, *w, *dy, *y;
    const weft_real *xv = seq_input(&in, &x, m, k, k, -1, 1),
                    *wv = seq_input(&in, &w, g, n * k, stride, -1, 1);
    const weft_real *dyv = seq_input(&in, &dy, m, n, n, -1, 1);

    p.y = seq_output(&out, "y", &y, m, n, n, s->tolerance);
    p.a = xv, p.b = wv;
    for (int64_t i = 0; i < g; i++)
        ref_matmul(y + offsets[i] * n, x + offsets[i] * k, k, 1, w + i * n * k, 1, k, s->rows[i], n, k);
    seq_run(&out, run_grouped, &p, "grouped_fwd");
    seq_free(&out);

    p.pass = DGRAD;
    p.y = seq_output(&out, "dx", &y, m, k, k, s->tolerance);
    p.a = dyv;
    for (int64_t i = 0; i < g; i++)
        ref_matmul(y + offsets[i] * k, dy + offsets[i] * n, n, 1, w + i * n * k, k, 1, s->rows[i], k, n);
    seq_run(&out, run_grouped, &p, "grouped_dgrad");
    seq_free(&out);

    p.pass = WGRAD;
    p.stride = n * k;
    p.y = seq_sum(&out, "dw", &y, g, n * k, s->tolerance);
    p.b = xv;
    clear(y, g * n * k);
    for (int64_t i = 0; i < g; i++)
        ref_matmul(y + i * n * k, dy + offsets[i] * n, 1, n, x + offsets[i] * k, k, 1, n, k, s->rows[i]);
    seq_run(&out, run_grouped, &p, "grouped_wgrad");
    seq_free(&out), seq_free(&in);
}
