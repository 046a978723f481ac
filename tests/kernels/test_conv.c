/* Causal convolution against the reference; the reference against finite differences; parts against the
 * whole. */
#include "kernels/seq_case.h"
#include "support/suite.h"

#include <string.h>

static const conv_shape shapes[] = {
    /* B, T, E, K, bias, halo, documents, forward, gradient */
    {1, 1, 8, 4, 1, 0, 0, 5e-7, 1e-6},     {2, 1, 24, 4, 1, 1, 0, 5e-7, 1e-6},
    {2, 2, 100, 4, 0, 1, 1, 5e-7, 1e-6},   {3, 37, 24, 2, 1, 0, 5, 5e-7, 1e-6},
    {1, 65, 100, 4, 1, 1, 9, 5e-7, 1e-6},  {2, 257, 8, 4, 1, 0, 40, 5e-7, 2e-6},
    {1, 300, 200, 4, 0, 0, 0, 5e-7, 2e-6}, {2, 40, 129, 3, 1, 1, 3, 5e-7, 1e-6},
    {1, 37, 24, 1, 1, 0, 4, 5e-7, 1e-6},   {1, 600, 16, 7, 1, 1, 30, 5e-7, 2e-6},
    {3, 61, 24, 4, 1, 2, 40, 5e-7, 1e-6},  {2, 9, 129, 5, 1, 2, 300, 5e-7, 1e-6},
};

START_TEST(convolution) {
    for (int i = 0; i < (int)(sizeof shapes / sizeof *shapes); i++) seq_conv(&shapes[i]);
}
END_TEST

static double loss(void *argument) {
    const ref_conv *a = argument;
    double sum = 0;
    ref_conv_fwd(a);
    for (int64_t i = 0; i < a->B * a->T * a->E; i++) sum += a->y[i] * a->dy[i];
    return sum;
}

START_TEST(reference_has_its_gradient) {
    seq_case c = {.seed = 30};
    int32_t *documents = seq_documents(31, 2, 11, 5, 4);
    ref_conv a = {.B = 2, .T = 11, .E = 3, .K = 4, .pos0 = 5, .doc_start = documents};
    seq_input(&c, &a.x, 22, 3, 3, -2, 2);
    seq_input(&c, &a.w, 3, 4, 4, -1, 1);
    seq_input(&c, &a.bias, 1, 3, 3, -1, 1);
    seq_input(&c, &a.halo, 6, 3, 3, -2, 2);
    seq_input(&c, &a.dy, 22, 3, 3, -1, 1);
    seq_output(&c, "y", &a.y, 22, 3, 3, 0);
    seq_output(&c, "halo_out", &a.halo_out, 6, 3, 3, 0);
    seq_output(&c, "dx", &a.dx, 22, 3, 3, 0);
    seq_output(&c, "dhalo", &a.dhalo, 6, 3, 3, 0);
    seq_output(&c, "dw", &a.dw, 3, 4, 4, 0);
    seq_output(&c, "dbias", &a.dbias, 1, 3, 3, 0);
    ref_conv_bwd(&a);
    seq_finite_difference(loss, &a, a.x, a.dx, 66, "x");
    seq_finite_difference(loss, &a, a.halo, a.dhalo, 18, "halo");
    seq_finite_difference(loss, &a, a.w, a.dw, 12, "w");
    seq_finite_difference(loss, &a, a.bias, a.dbias, 3, "bias");
    seq_free(&c);
    free(documents);
}
END_TEST

/* Rows 0 .. 20 and 20 .. 50 through halo_out and halo give, bit for bit, what all 50 give. */
START_TEST(parts_make_the_whole) {
    enum { T = 50, CUT = 20, E = 24, K = 4 };
    weft_device d;
    ck_assert_int_eq(weft_device_open_cpu(&d), WEFT_OK);
    ck_assert_int_eq(weft_device_size(&d, 1 << 20), WEFT_OK);
    seq_case c = {.seed = 32};
    double *unused;
    int32_t *documents = seq_documents(33, 1, T, 0, 7);
    weft_real whole[T * E], parts[T * E], halo[(K - 1) * E], last[(K - 1) * E], last_whole[(K - 1) * E];
    weft_conv a = {.B = 1, .T = T, .E = E, .K = K, .ldx = E, .ldy = E, .doc_start = documents};
    const weft_real *x = seq_input(&c, &unused, T, E, E, -2, 2);
    a.x = x;
    a.w = seq_input(&c, &unused, E, K, K, -1, 1);
    a.y = whole, a.halo_out = last_whole;
    d.ops->conv_fwd(&d, &a);
    a.T = CUT, a.y = parts, a.halo_out = halo;
    d.ops->conv_fwd(&d, &a);
    a.T = T - CUT, a.pos0 = CUT, a.x = x + CUT * E, a.y = parts + CUT * E, a.halo = halo, a.halo_out = last;
    a.doc_start = documents + CUT;
    d.ops->conv_fwd(&d, &a);
    ck_assert_mem_eq(whole, parts, sizeof whole);
    ck_assert_mem_eq(last_whole, last, sizeof last);
    seq_free(&c);
    free(documents);
    weft_device_close(&d);
}
END_TEST

SUITE_MAIN("conv", convolution, reference_has_its_gradient, parts_make_the_whole)
