/* Operations on single tokens (norms, SwiGLU, router, moving rows to experts, embedding, loss, element-wise,
 * AdamW): plain references in double, written from the formulas of ops.h, and what their tests share.
 *
 * ref_tok_check_* run an operation of the CPU backend on one case and compare it with the reference; the
 * float tests and the double test (test_tok_f64.c) call the same ones with different tolerances. */
#ifndef WEFT_TEST_REF_TOK_H
#define WEFT_TEST_REF_TOK_H

#include "ops.h"
#include "runtime/rng.h"
#include "support/suite.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- arrays ---- */

/* The same numbers twice: what the operation works on, and what the reference works on. */
typedef struct ref_tok_array {
    int64_t n;
    weft_real *x;
    double *ref;
} ref_tok_array;

/* Normal numbers of the given deviation, rounded to weft_real in both; `name` picks the stream. */
static inline ref_tok_array ref_tok_random(const char *name, int64_t n, double deviation) {
    ref_tok_array a = {n, malloc((size_t)n * sizeof *a.x + 1), malloc((size_t)n * sizeof *a.ref + 1)};
    weft_rng rng = weft_rng_make((uint64_t)n, name);
    for (int64_t i = 0; i < n; i++) {
        a.x[i] = (weft_real)(deviation * weft_rng_normal(rng, (uint64_t)i));
        a.ref[i] = (double)a.x[i];
    }
    return a;
}

static inline void ref_tok_free(ref_tok_array a) {
    free(a.x);
    free(a.ref);
}

static inline int32_t *ref_tok_ids(const char *name, int64_t n, int64_t bound) {
    int32_t *ids = malloc((size_t)n * sizeof *ids + 1);
    weft_rng rng = weft_rng_make((uint64_t)n, name);
    for (int64_t i = 0; i < n; i++) ids[i] = (int32_t)weft_rng_below(rng, (uint64_t)i, (uint64_t)bound);
    return ids;
}

/* Every |x - ref| <= tol * (|ref| + scale). NaN fails. */
static inline void ref_tok_within(const char *what, ref_tok_array a, double tol, double scale) {
    for (int64_t i = 0; i < a.n; i++)
        ck_assert_msg(fabs((double)a.x[i] - a.ref[i]) <= tol * (fabs(a.ref[i]) + scale),
                      "%s: element %lld of %lld is %.9g, should be %.9g (tolerance %g)", what, (long long)i,
                      (long long)a.n, (double)a.x[i], a.ref[i], tol);
}

/* With the root mean square of ref as the scale. */
static inline void ref_tok_close(const char *what, ref_tok_array a, double tol) {
    double square = 0;
    for (int64_t i = 0; i < a.n; i++) square += a.ref[i] * a.ref[i];
    ref_tok_within(what, a, tol, a.n ? sqrt(square / (double)a.n) : 0);
}

/* Slope of f at *x, by differences of fourth order. */
static inline double ref_tok_slope(double (*f)(void *), void *of, double *x) {
    const double h = 1e-3, at = *x;
    double v[5];
    for (int i = -2; i <= 2; i++) {
        *x = at + i * h;
        v[i + 2] = f(of);
    }
    *x = at;
    return (8 * (v[3] - v[1]) - (v[4] - v[0])) / (12 * h);
}

/* The analytic gradient `got` of n variables x against slopes of f. */
static inline void ref_tok_slopes(const char *what, double (*f)(void *), void *of, double *x,
                                  const double *got, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        double want = ref_tok_slope(f, of, x + i);
        ck_assert_msg(fabs(got[i] - want) <= 1e-8 * (1 + fabs(want)),
                      "%s: gradient %lld is %.12g, slope is %.12g", what, (long long)i, got[i], want);
    }
}

/* ---- running an operation ---- */

/* Bytes that the operation may write. */
typedef struct ref_tok_out {
    void *p;
    size_t bytes;
} ref_tok_out;
#define REF_TOK_OUT(array) ((ref_tok_out){(array).x, (size_t)(array).n * sizeof(weft_real)})

/* Calls the operation on a dry device (nothing may change), then with 3, 2 and 1 threads on the same input,
 * with an arena of just the bytes that the dry run asked for: the outputs must agree bit for bit, the peaks
 * must be equal, the arena must be empty afterwards. */
void ref_tok_run(const char *what, void (*call)(weft_device *d, void *of), void *of, const ref_tok_out *outs,
                 int count);

/* ---- references ---- */

void ref_tok_rmsnorm(double *y, int64_t ldy, double *rstd, double *h, const double *x, int64_t ldx,
                     const double *delta, const double *w, double eps, int64_t M, int64_t D);
void ref_tok_rmsnorm_bwd(double *dh, int64_t lddh, double *dw, const double *dy, int64_t lddy,
                         const double *h, int64_t ldh, const double *w, double eps, int64_t M, int64_t D,
                         bool accumulate);
void ref_tok_swiglu(double *y, const double *gu, int64_t M, int64_t F);
void ref_tok_swiglu_bwd(double *dgu, const double *dy, const double *gu, int64_t M, int64_t F);
/* du becomes w * swiglu(gu). */
void ref_tok_swiglu_weighted_bwd(double *dgu, double *dw, double *du, const double *gu, const double *w,
                                 int64_t M, int64_t F);
void ref_tok_router(double *probs, double *lse, int32_t *ids, double *w, const double *logits, int64_t M,
                    int64_t X, int64_t k, bool normalise);
/* ids: the choice, which has no gradient. */
void ref_tok_router_bwd(double *dlogits, const double *logits, const int32_t *ids, const double *dw,
                        const double *dprob, double dlse2, int64_t M, int64_t X, int64_t k, bool normalise);
void ref_tok_cross_entropy(double *loss, double *dlogits, const double *logits, const int32_t *targets,
                           int64_t M, int64_t V, double scale);
void ref_tok_adamw(double *p, const double *g, double *m, double *v, int64_t n, const weft_adamw *a);

/* ---- checks ---- */

typedef struct ref_tok_norm_case {
    int64_t M, D, pad;                /* pad: how much strides exceed D */
    bool delta, accumulate, in_place; /* in_place: dh is dy */
    double tol;
} ref_tok_norm_case;
void ref_tok_check_norm(const ref_tok_norm_case *c);

typedef struct ref_tok_swiglu_case {
    int64_t M, F;
    double deviation; /* of gate and up */
    bool in_place;    /* dgu is gu */
    double tol;
} ref_tok_swiglu_case;
void ref_tok_check_swiglu(const ref_tok_swiglu_case *c);

typedef struct ref_tok_router_case {
    int64_t M, X, k;
    bool normalise, dprob;
    double dlse2, deviation; /* deviation of the logits; 0: all equal */
    double tol;
} ref_tok_router_case;
void ref_tok_check_router(const ref_tok_router_case *c);

typedef struct ref_tok_moe_case {
    int64_t M, k, X, D;
    enum { REF_TOK_ANY, REF_TOK_ONE_EXPERT, REF_TOK_EVEN_ONLY } choice; /* which experts are chosen */
    bool accumulate, in_place; /* in_place: dx is x in moe_combine_bwd */
    double tol;
} ref_tok_moe_case;
void ref_tok_check_moe(const ref_tok_moe_case *c);

/* moe_regroup of rows that came from `sources`, 0 .. most of each to an expert. */
void ref_tok_check_regroup(int64_t sources, int64_t X, int64_t most);

typedef struct ref_tok_loss_case {
    int64_t M, V;
    double deviation, shift; /* of the logits */
    bool with_grad;
    double tol;
} ref_tok_loss_case;
void ref_tok_check_loss(const ref_tok_loss_case *c);
/* The same with the vocabulary cut at cuts[0] = 0 <= cuts[1] <= ... <= cuts[parts] = V. */
void ref_tok_check_loss_parts(const ref_tok_loss_case *c, const int64_t *cuts, int64_t parts);

typedef struct ref_tok_embedding_case {
    int64_t M, D, V;
    int64_t first, words; /* row 0 of the table is word `first` of a vocabulary of `words` */
    double tol;
} ref_tok_embedding_case;
void ref_tok_check_embedding(const ref_tok_embedding_case *c);

void ref_tok_check_elementwise(int64_t n, double tol);

typedef struct ref_tok_adamw_case {
    int64_t n;
    weft_adamw a;
    weft_real scale; /* of gradients */
    double tol;
} ref_tok_adamw_case;
void ref_tok_check_adamw(const ref_tok_adamw_case *c);

#endif
