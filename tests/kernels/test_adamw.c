/* AdamW. */
#include "kernels/ref_tok.h"

static const ref_tok_adamw_case cases[] = {
    /* n, (lr, beta1, beta2, eps, decay, step), scale of gradients, tolerance */
    {1, {1e-3f, 0.9f, 0.95f, 1e-8f, 0.1f, 1, NULL}, 1, 1e-6},
    {24, {1e-3f, 0.9f, 0.999f, 1e-8f, 0, 1, NULL}, 0.25f, 1e-6},
    {65, {1e-2f, 0.9f, 0.999f, 1e-8f, 0.1f, 2, NULL}, 3, 1e-6},
    {1025, {1e-1f, 0.8f, 0.95f, 1e-5f, 0.01f, 1000, NULL}, 1e-3f, 1e-6},
    {70001, {1e-3f, 0.9f, 0.999f, 1e-8f, 0.1f, 1000000, NULL}, 1, 1e-6},
};

START_TEST(agrees_with_reference) {
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) ref_tok_check_adamw(&cases[i]);
}
END_TEST

/* The first step moves every weight by lr against the gradient's sign, whatever its size; decay alone
 * shrinks. */
START_TEST(first_step) {
    weft_device d = {0};
    ck_assert_int_eq(weft_device_open_cpu(&d), WEFT_OK);
    weft_real p[4] = {1, 1, 1, 1}, g[4] = {1e-3f, -1e3f, 5, 0}, m[4] = {0}, v[4] = {0};
    const double want[4] = {0.99, 1.01, 0.99, 1};
    weft_clip clip = {.scale = 1, .finite = 1};
    weft_adamw a = {.lr = 0.01f, .beta1 = 0.9f, .beta2 = 0.999f, .eps = 1e-12f, .step = 1, .clip = &clip};
    d.ops->adamw(&d, p, NULL, g, m, v, 4, &a);
    for (int i = 0; i < 4; i++) ck_assert_double_eq_tol((double)p[i], want[i], 1e-6);
    memset(g, 0, sizeof g);
    memset(m, 0, sizeof m);
    a.weight_decay = 0.5f;
    d.ops->adamw(&d, p, NULL, g, m, v, 4, &a);
    for (int i = 0; i < 4; i++) ck_assert_double_eq_tol((double)p[i], want[i] * 0.995, 1e-6);
    clip.finite = 0; /* the gradient is not a number: nothing changes */
    d.ops->adamw(&d, p, NULL, g, m, v, 4, &a);
    for (int i = 0; i < 4; i++) ck_assert_double_eq_tol((double)p[i], want[i] * 0.995, 1e-6);
    weft_device_close(&d);
}
END_TEST

SUITE_MAIN("adamw", agrees_with_reference, first_step)
