/* Attention against the reference; the reference against finite differences. */
#include "kernels/seq_case.h"
#include "support/suite.h"

static const attention_shape shapes[] = {
    /* B, Tq, Tk, H, G, d, documents, forward, gradient */
    {1, 1, 1, 1, 1, 8, 0, 2e-6, 5e-6},       {2, 37, 37, 4, 1, 24, 0, 2e-6, 5e-6},
    {1, 65, 65, 4, 2, 32, 10, 2e-6, 5e-6},   {1, 257, 257, 2, 2, 64, 0, 2e-6, 5e-6},
    {2, 257, 257, 4, 2, 16, 60, 2e-6, 5e-6}, {1, 130, 130, 2, 1, 128, 0, 2e-6, 5e-6},
    {1, 40, 300, 2, 1, 20, 15, 2e-6, 5e-6},  {3, 1, 65, 4, 2, 64, 0, 2e-6, 5e-6},
    {1, 1, 2000, 4, 1, 32, 0, 2e-6, 5e-6},   {1, 3, 1500, 6, 2, 40, 2, 2e-6, 5e-6},
    {1, 400, 400, 1, 1, 7, 200, 2e-6, 5e-6}, {1, 9, 600, 16, 1, 8, 0, 2e-6, 5e-6},
};

START_TEST(attention) {
    for (int i = 0; i < (int)(sizeof shapes / sizeof *shapes); i++) seq_attention(&shapes[i]);
}
END_TEST

static double loss(void *argument) {
    const ref_attention *a = argument;
    double sum = 0;
    ref_attention_fwd(a);
    for (int64_t i = 0; i < a->B * a->Tq * a->H * a->d; i++) sum += a->o[i] * a->dout[i];
    return sum;
}

START_TEST(reference_has_its_gradient) {
    seq_case c = {.seed = 50};
    int32_t *documents = seq_documents(51, 2, 6, 3, 4);
    ref_attention a = {
        .B = 2, .Tq = 6, .Tk = 9, .H = 2, .G = 1, .d = 4, .q_pos0 = 3, .scale = 0.5, .doc_start = documents};
    seq_input(&c, &a.q, 12, 8, 8, -2, 2);
    seq_input(&c, &a.k, 18, 4, 4, -2, 2);
    seq_input(&c, &a.v, 18, 4, 4, -2, 2);
    seq_input(&c, &a.dout, 12, 8, 8, -2, 2);
    seq_output(&c, "o", &a.o, 12, 8, 8, 0);
    seq_output(&c, "lse", &a.lse, 12, 2, 2, 0);
    seq_output(&c, "dq", &a.dq, 12, 8, 8, 0);
    seq_output(&c, "dk", &a.dk, 18, 4, 4, 0);
    seq_output(&c, "dv", &a.dv, 18, 4, 4, 0);
    ref_attention_fwd(&a);
    ref_attention_bwd(&a);
    seq_finite_difference(loss, &a, a.q, a.dq, 96, "q");
    seq_finite_difference(loss, &a, a.k, a.dk, 72, "k");
    seq_finite_difference(loss, &a, a.v, a.dv, 72, "v");
    seq_free(&c);
    free(documents);
}
END_TEST

/* A token's result does not depend on what stands outside its document: weights there are exactly 0, however
 * large the values. */
START_TEST(documents_are_apart) {
    enum { T = 200, D = 16, CUT = 77 };
    weft_device d;
    ck_assert_int_eq(weft_device_open_cpu(&d), WEFT_OK);
    ck_assert_int_eq(weft_device_size(&d, 16 << 20), WEFT_OK);
    seq_case c = {.seed = 52};
    double *unused;
    int32_t documents[T];
    for (int t = 0; t < T; t++) documents[t] = t < CUT ? 0 : CUT;
    weft_attention a = {.B = 1,
                        .Tq = T,
                        .Tk = T,
                        .H = 1,
                        .G = 1,
                        .d = D,
                        .ldq = D,
                        .ldk = D,
                        .ldv = D,
                        .ldo = D,
                        .scale = (weft_real)0.25,
                        .doc_start = documents};
    weft_real *q = seq_input(&c, &unused, T, D, D, -2, 2), *k = seq_input(&c, &unused, T, D, D, -2, 2);
    weft_real *v = seq_input(&c, &unused, T, D, D, -2, 2), o[2][T * D];
    a.q = q, a.k = k, a.v = v, a.o = o[0];
    d.ops->attention_fwd(&d, &a);
    for (int i = 0; i < CUT * D; i++) q[i] = -q[i], k[i] = 3, v[i] = (weft_real)1e37;
    a.o = o[1];
    d.ops->attention_fwd(&d, &a);
    ck_assert_mem_eq(o[0] + CUT * D, o[1] + CUT * D, (T - CUT) * D * sizeof(weft_real));
    ck_assert_mem_ne(o[0], o[1], CUT * D * sizeof(weft_real));
    seq_free(&c);
    weft_device_close(&d);
}
END_TEST

SUITE_MAIN("attention", attention, reference_has_its_gradient, documents_are_apart)
