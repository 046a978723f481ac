/* Sums, copies and norms of flat arrays. */
#include "kernels/ref_tok.h"

static const struct {
    int64_t n;
    double tol;
} cases[] = {{1, 3e-7},   {3, 3e-7},    {24, 3e-7},    {65, 3e-7},
             {257, 3e-7}, {1023, 3e-7}, {70001, 3e-7}, {262147, 3e-7}};

START_TEST(agrees_with_reference) {
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        ref_tok_check_elementwise(cases[i].n, cases[i].tol);
}
END_TEST

/* Squares beyond weft_real's range and far apart in size: the sum is in double. */
START_TEST(sum_of_squares_is_double) {
    weft_device d = {0};
    ck_assert_int_eq(weft_device_open_cpu(&d), WEFT_OK);
    ck_assert_int_eq(weft_device_size(&d, 1 << 16), WEFT_OK);
    weft_real x[300];
    double want = 0, got;
    for (int i = 0; i < 300; i++) {
        x[i] = (weft_real)(i % 2 ? 1e25 : 1e-25);
        want += (double)x[i] * (double)x[i];
    }
    d.ops->sumsq(&d, &got, x, 300);
    ck_assert_double_eq_tol(got / want, 1, 1e-14);
    for (int i = 0; i < 300; i++) x[i] = (weft_real)1e-30;
    d.ops->sumsq(&d, &got, x, 300);
    ck_assert_double_eq_tol(got / 3e-58, 1, 1e-6);
    x[299] = (weft_real)NAN;
    d.ops->sumsq(&d, &got, x, 300);
    ck_assert(isnan(got));
    d.ops->sumsq(&d, &got, x, 0);
    ck_assert(got == 0);
    weft_device_close(&d);
}
END_TEST

/* More elements than 1024 blocks of 16K hold: blocks grow. */
START_TEST(many_blocks) {
    const int64_t n = (int64_t)1024 * 16384 + 12345;
    weft_device d = {0};
    ck_assert_int_eq(weft_device_open_cpu(&d), WEFT_OK);
    ck_assert_int_eq(weft_device_size(&d, 1 << 16), WEFT_OK);
    weft_real *x = malloc((size_t)n * sizeof *x);
    for (int64_t i = 0; i < n; i++) x[i] = (weft_real)(i % 7);
    double want = 0, got;
    for (int64_t i = 0; i < n; i++) want += (double)(x[i] * x[i]);
    d.ops->sumsq(&d, &got, x, n);
    ck_assert(got == want); /* whole numbers below 2^53 */
    free(x);
    weft_device_close(&d);
}
END_TEST

SUITE_MAIN("elementwise", agrees_with_reference, sum_of_squares_is_double, many_blocks)
