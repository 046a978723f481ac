/* SwiGLU. */
#include "kernels/ref_tok.h"

static const ref_tok_swiglu_case cases[] = {
    /* M, F, deviation, in place, tolerance */
    {1, 1, 1, false, 1e-6},    {1, 24, 1, true, 1e-6},      {3, 65, 2, false, 1e-6},
    {3, 256, 10, true, 1e-6},  {257, 24, 1, true, 1e-6},    {257, 256, 1, false, 1e-6},
    {257, 193, 3, true, 1e-6}, {257, 130, 30, false, 1e-6},
};

START_TEST(agrees_with_reference) {
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) ref_tok_check_swiglu(&cases[i]);
}
END_TEST

enum { M = 2, F = 5 };
typedef struct small {
    double gu[2 * M * F], r[M * F];
} small;

static double weighted(void *of) {
    small *s = of;
    double y[M * F], sum = 0;
    ref_tok_swiglu(y, s->gu, M, F);
    for (int i = 0; i < M * F; i++) sum += s->r[i] * y[i];
    return sum;
}

START_TEST(reference_gradient_is_the_slope) {
    ref_tok_array gu = ref_tok_random("gu", 2 * M * F, 1), r = ref_tok_random("r", M * F, 1);
    small s;
    memcpy(s.gu, gu.ref, sizeof s.gu);
    memcpy(s.r, r.ref, sizeof s.r);
    double dgu[2 * M * F];
    ref_tok_swiglu_bwd(dgu, s.r, s.gu, M, F);
    ref_tok_slopes("swiglu dgu", weighted, &s, s.gu, dgu, 2 * M * F);
    ref_tok_free(gu);
    ref_tok_free(r);
}
END_TEST

/* Of sum r * w * swiglu(gu), by gu and by w. */
typedef struct shares {
    small s;
    double w[M];
} shares;

static double shared(void *of) {
    shares *a = of;
    small s = a->s;
    for (int i = 0; i < M * F; i++) s.r[i] *= a->w[i / F];
    return weighted(&s);
}

START_TEST(reference_weighted_gradient_is_the_slope) {
    ref_tok_array gu = ref_tok_random("gu", 2 * M * F, 1), r = ref_tok_random("r", M * F, 1);
    ref_tok_array w = ref_tok_random("w", M, 1);
    shares a;
    memcpy(a.s.gu, gu.ref, sizeof a.s.gu);
    memcpy(a.s.r, r.ref, sizeof a.s.r);
    memcpy(a.w, w.ref, sizeof a.w);
    double dgu[2 * M * F], dw[M], du[M * F];
    memcpy(du, r.ref, sizeof du);
    ref_tok_swiglu_weighted_bwd(dgu, dw, du, a.s.gu, a.w, M, F);
    ref_tok_slopes("swiglu weighted dgu", shared, &a, a.s.gu, dgu, 2 * M * F);
    ref_tok_slopes("swiglu weighted dw", shared, &a, a.w, dw, M);
    ref_tok_free(gu);
    ref_tok_free(r);
    ref_tok_free(w);
}
END_TEST

/* Far out, where exp overflows: silu(x) is x or 0. */
START_TEST(large_gates) {
    weft_device d = {0};
    ck_assert_int_eq(weft_device_open_cpu(&d), WEFT_OK);
    weft_real gu[8] = {1000, -1000, 90, -90, 2, 2, 2, 2}, y[4], dy[4] = {1, 1, 1, 1}, dgu[8];
    const double silu[4] = {1000, 0, 90, 0}, slope[4] = {1, 0, 1, 0};
    d.ops->swiglu_fwd(&d, y, gu, 1, 4);
    d.ops->swiglu_bwd(&d, dgu, dy, gu, 1, 4);
    for (int i = 0; i < 4; i++) {
        ck_assert_double_eq_tol((double)y[i], 2 * silu[i], 1e-4);
        ck_assert_double_eq_tol((double)dgu[i], 2 * slope[i], 1e-4);
        ck_assert_double_eq_tol((double)dgu[4 + i], silu[i], 1e-4);
    }
    weft_device_close(&d);
}
END_TEST

SUITE_MAIN("swiglu", agrees_with_reference, reference_gradient_is_the_slope,
           reference_weighted_gradient_is_the_slope, large_gates)
