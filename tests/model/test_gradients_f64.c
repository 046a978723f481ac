/* Gradients of whole models against central finite differences, in the reference build (double). Each
 * parameter tensor is moved along a random direction, so that every element takes part. */
#include "support/suite.h"
#include "toy.h"

#include <math.h>
#include <string.h>

/* (f(p + e d) - f(p - e d)) / 2e by Richardson from steps e and e/2: error O(e^4). */
static double slope(toy *t, weft_real *p, const double *direction, int64_t n, double e) {
    double f[4];
    const double steps[] = {e, -e, e / 2, -e / 2};
    for (int i = 0; i < 4; i++) {
        for (int64_t k = 0; k < n; k++) p[k] += steps[i] * direction[k];
        f[i] = toy_loss(t);
        for (int64_t k = 0; k < n; k++) p[k] -= steps[i] * direction[k];
    }
    double coarse = (f[0] - f[1]) / (2 * e), fine = (f[2] - f[3]) / e;
    return (4 * fine - coarse) / 3;
}

static void check_gradients(const char *const *overrides, int count, int64_t B, int64_t T, bool packed) {
    toy t;
    toy_open(&t, overrides, count, B, T, packed);
    toy_loss(&t);
    const weft_params *p = &t.model.table;
    size_t bytes = (size_t)p->flat * sizeof(weft_real);
    weft_real *grads = malloc(bytes);
    memcpy(grads, t.grads, bytes);
    for (int64_t i = 0; i < p->count; i++) {
        const weft_param *r = &p->rows[i];
        double *direction = malloc((size_t)r->numel * sizeof *direction), norm = 0, analytic = 0, size = 0;
        weft_rng rng = weft_rng_make(5, r->name);
        for (int64_t k = 0; k < r->numel; k++)
            norm += pow(direction[k] = weft_rng_normal(rng, (uint64_t)k), 2);
        for (int64_t k = 0; k < r->numel; k++) {
            direction[k] /= sqrt(norm);
            analytic += direction[k] * grads[r->at + k];
            size += grads[r->at + k] * grads[r->at + k];
        }
        double numeric = slope(&t, t.params + r->at, direction, r->numel, 1e-4);
        /* An expert that no token chose has no gradient at all. */
        ck_assert_msg(r->expert >= 0 || size > 0, "%s: gradient is zero", r->name);
        ck_assert_msg(fabs(numeric - analytic) <= 1e-6 * (sqrt(size) + 1e-3),
                      "%s: analytic %.12g, finite difference %.12g (norm %.3g)", r->name, analytic, numeric,
                      sqrt(size));
        free(direction);
    }
    free(grads);
    toy_close(&t);
}
#define CHECK_GRADIENTS(B, T, packed, ...)                                                                   \
    do {                                                                                                     \
        const char *const overrides[] = {__VA_ARGS__};                                                       \
        check_gradients(overrides, (int)(sizeof overrides / sizeof *overrides), B, T, packed);               \
    } while (0)

START_TEST(hybrid) {
    CHECK_GRADIENTS(2, 11, false, "model.router_aux_loss_coef=0.1", "model.router_z_loss_coef=0.05",
                    "model.activation_loss_coef=0.03");
    CHECK_GRADIENTS(1, 37, true, "model.router_aux_loss_coef=0.1");
}
END_TEST

START_TEST(tied_with_biases_and_normalised_router) {
    CHECK_GRADIENTS(2, 9, false, "model.tie_word_embeddings=true", "model.mamba_proj_bias=true",
                    "model.norm_topk_prob=true", "model.router_aux_loss_coef=0.02");
}
END_TEST

START_TEST(without_inner_norms_and_conv_bias) {
    CHECK_GRADIENTS(1, 40, true, "model.mamba_inner_norm=false", "model.mamba_conv_bias=false",
                    "model.mamba_d_conv=3", "model.num_experts=7", "model.num_experts_per_tok=3");
}
END_TEST

START_TEST(attention_only_with_rope) {
    CHECK_GRADIENTS(2, 13, true, "model.mixer_pattern=AAAA", "model.ffn_pattern=DEDE", "model.positions=rope",
                    "model.num_key_value_heads=1");
}
END_TEST

START_TEST(mamba_only_and_layers_without_parts) {
    CHECK_GRADIENTS(2, 35, true, "model.mixer_pattern=MM.M", "model.ffn_pattern=.D.D");
}
END_TEST

START_TEST(recompute) {
    CHECK_GRADIENTS(1, 21, true, "train.recompute=all", "model.router_aux_loss_coef=0.1",
                    "model.activation_loss_coef=0.01");
}
END_TEST

SUITE_MAIN("gradients", hybrid, tied_with_biases_and_normalised_router, without_inner_norms_and_conv_bias,
           attention_only_with_rope, mamba_only_and_layers_without_parts, recompute)
