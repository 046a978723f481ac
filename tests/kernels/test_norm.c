/* RMSNorm with its residual addition. */
#include "kernels/ref_tok.h"

static const ref_tok_norm_case cases[] = {
    /* M, D, pad, delta, accumulate, in place, tolerance */
    {1, 1, 0, false, false, false, 2e-6},    {1, 24, 0, true, false, true, 2e-6},
    {3, 5, 2, true, true, false, 2e-6},      {3, 16, 0, false, false, true, 2e-6},
    {3, 65, 7, false, true, false, 2e-6},    {3, 256, 0, true, false, false, 2e-6},
    {257, 24, 3, true, false, true, 2e-6},   {257, 65, 0, true, true, false, 2e-6},
    {257, 256, 9, true, false, true, 2e-6},  {257, 256, 0, false, true, false, 2e-6},
    {20000, 7, 0, true, false, false, 4e-6}, /* more than 64 rows a block */
    {2, 8191, 1, true, false, false, 2e-6},
};

START_TEST(agrees_with_reference) {
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) ref_tok_check_norm(&cases[i]);
}
END_TEST

enum { M = 3, D = 7 };
typedef struct small {
    double h[M * D], w[D], r[M * D];
} small;

/* <r, y(h, w)> */
static double weighted(void *of) {
    small *s = of;
    double y[M * D], rstd[M], sum = 0;
    ref_tok_rmsnorm(y, D, rstd, NULL, s->h, D, NULL, s->w, 1e-3, M, D);
    for (int i = 0; i < M * D; i++) sum += s->r[i] * y[i];
    return sum;
}

START_TEST(reference_gradient_is_the_slope) {
    ref_tok_array h = ref_tok_random("h", M * D, 1), w = ref_tok_random("w", D, 1),
                  r = ref_tok_random("r", M * D, 1);
    small s;
    memcpy(s.h, h.ref, sizeof s.h);
    memcpy(s.w, w.ref, sizeof s.w);
    memcpy(s.r, r.ref, sizeof s.r);
    double dh[M * D], dw[D] = {0};
    ref_tok_rmsnorm_bwd(dh, D, dw, s.r, D, s.h, D, s.w, 1e-3, M, D, false);
    ref_tok_slopes("rmsnorm dh", weighted, &s, s.h, dh, M * D);
    ref_tok_slopes("rmsnorm dw", weighted, &s, s.w, dw, D);
    ref_tok_free(h);
    ref_tok_free(w);
    ref_tok_free(r);
}
END_TEST

/* A row of zeros stays finite: eps is inside the root. */
START_TEST(zero_row) {
    weft_device d = {0};
    ck_assert_int_eq(weft_device_open_cpu(&d), WEFT_OK);
    weft_real x[5] = {0}, w[5] = {1, 1, 1, 1, 1}, y[5] = {9, 9, 9, 9, 9}, rstd;
    d.ops->rmsnorm_fwd(&d, y, 5, &rstd, NULL, x, 5, NULL, w, (weft_real)1e-6, 1, 5);
    for (int i = 0; i < 5; i++) ck_assert(y[i] == 0);
    ck_assert_double_eq_tol((double)rstd, 1000, 1e-2);
    weft_device_close(&d);
}
END_TEST

SUITE_MAIN("rmsnorm", agrees_with_reference, reference_gradient_is_the_slope, zero_row)
