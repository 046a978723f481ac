/* Router: softmax, top-k, gradients, statistics. */
#include "kernels/ref_tok.h"

static const ref_tok_router_case cases[] = {
    /* M, X, k, normalise, dprob, dlse2, deviation of logits, tolerance */
    {1, 2, 1, false, false, 0, 1, 1e-6},      {1, 2, 2, true, true, 0.5, 1, 1e-6},
    {3, 3, 2, false, true, 0, 1, 1e-6},       {3, 4, 2, true, false, 0.1, 1, 1e-6},
    {257, 8, 2, false, true, 0.1, 1, 1e-6},   {257, 16, 2, true, true, 0.1, 1, 1e-6},
    {257, 17, 3, true, false, 0, 3, 1e-6},    {3, 17, 17, false, true, 0, 1, 1e-6},
    {3, 17, 17, true, true, 0.2, 1, 1e-6},    {257, 5, 2, false, true, 0.1, 30, 1e-6},
    {3000, 17, 2, false, true, 0.1, 1, 2e-6}, {3000, 16, 1, false, true, 0, 1, 2e-6},
    {20000, 3, 2, true, true, 0, 1, 4e-6}, /* more than 64 rows a block */
    {5, 17, 4, true, true, 0.1, 0, 1e-6},  /* all equal: ties to the lower id, across the vector's end */
    {40, 256, 8, true, true, 0.1, 1, 1e-6},
};

START_TEST(agrees_with_reference) {
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) ref_tok_check_router(&cases[i]);
}
END_TEST

enum { M = 3, X = 5, K = 2 };
typedef struct small {
    double logits[M * X], r[M * K], dprob[X], dlse2;
    int32_t ids[M * K];
    bool normalise;
} small;

/* <r, w> + sum_m <dprob, p[m]> + dlse2 * sum_m lse[m]^2, the choice held. */
static double weighted(void *of) {
    small *s = of;
    double p[M * X], lse[M], w[M * K], sum = 0;
    int32_t ids[M * K];
    ref_tok_router(p, lse, ids, w, s->logits, M, X, K, s->normalise);
    ck_assert(memcmp(ids, s->ids, sizeof ids) == 0);
    for (int i = 0; i < M * K; i++) sum += s->r[i] * w[i];
    for (int i = 0; i < M * X; i++) sum += s->dprob[i % X] * p[i];
    for (int m = 0; m < M; m++) sum += s->dlse2 * lse[m] * lse[m];
    return sum;
}

START_TEST(reference_gradient_is_the_slope) {
    ref_tok_array logits = ref_tok_random("logits", M * X, 1), r = ref_tok_random("r", M * K, 1),
                  dprob = ref_tok_random("dprob", X, 1);
    for (int normalise = 0; normalise < 2; normalise++) {
        small s = {.dlse2 = 0.3, .normalise = normalise};
        memcpy(s.logits, logits.ref, sizeof s.logits);
        memcpy(s.r, r.ref, sizeof s.r);
        memcpy(s.dprob, dprob.ref, sizeof s.dprob);
        double p[M * X], lse[M], w[M * K], dlogits[M * X];
        ref_tok_router(p, lse, s.ids, w, s.logits, M, X, K, s.normalise);
        ref_tok_router_bwd(dlogits, s.logits, s.ids, s.r, s.dprob, s.dlse2, M, X, K, s.normalise);
        ref_tok_slopes("router dlogits", weighted, &s, s.logits, dlogits, M * X);
    }
    ref_tok_free(logits);
    ref_tok_free(r);
    ref_tok_free(dprob);
}
END_TEST

/* Equal logits in any places: falling order, ties to the lower id. */
START_TEST(ties) {
    weft_device d = {0};
    ck_assert_int_eq(weft_device_open_cpu(&d), WEFT_OK);
    weft_real logits[19] = {0}, p[19], lse, w[5];
    int32_t ids[5];
    const int32_t want[5] = {6, 18, 2, 11, 17};
    logits[18] = logits[6] = 3;
    logits[2] = logits[11] = logits[17] = 1;
    weft_router a = {.M = 1, .X = 19, .k = 5, .logits = logits, .probs = p, .lse = &lse, .ids = ids, .w = w};
    d.ops->router_fwd(&d, &a);
    for (int s = 0; s < 5; s++) ck_assert_int_eq(ids[s], want[s]);
    weft_device_close(&d);
}
END_TEST

/* A NaN shows in every probability of its row and in no other row; ids stay within bounds and distinct. */
START_TEST(nan_is_seen) {
    weft_device d = {0};
    ck_assert_int_eq(weft_device_open_cpu(&d), WEFT_OK);
    enum { EXPERTS = 17, CHOSEN = 3 };
    for (int at = 0; at < EXPERTS; at++) {
        weft_real logits[2 * EXPERTS] = {0}, p[2 * EXPERTS], lse[2], w[2 * CHOSEN];
        int32_t ids[2 * CHOSEN];
        memset(&logits[at], 0xff, sizeof logits[at]); /* a NaN whose payload has every bit set */
        weft_router a = {
            .M = 2, .X = EXPERTS, .k = CHOSEN, .logits = logits, .probs = p, .lse = lse, .ids = ids, .w = w};
        d.ops->router_fwd(&d, &a);
        for (int j = 0; j < EXPERTS; j++) ck_assert(isnan(p[j]) && !isnan(p[EXPERTS + j]));
        ck_assert(isnan(lse[0]) && !isnan(lse[1]));
        for (int s = 0; s < CHOSEN; s++) ck_assert(ids[s] == s && isnan(w[s]));
    }
    weft_device_close(&d);
}
END_TEST

/* Even routing gives a loss of k; the loss is linear in prob_sum, and dprob is coef times its slope there. */
START_TEST(balance) {
    enum { LAYERS = 2, SLOTS = 2, EXPERTS = 3, ROWS = 5 };
    weft_device d = {0};
    ck_assert_int_eq(weft_device_open_cpu(&d), WEFT_OK);
    const weft_real coef = (weft_real)0.25;
    int64_t counts[LAYERS * SLOTS * EXPERTS] = {1, 2, 2, 0, 5, 0, 5, 0, 0, 1, 1, 3};
    weft_real probs[LAYERS * EXPERTS] = {1, 1.5, 2.5, 3, 0.5, 1.5}, dprob[EXPERTS], same[EXPERTS];
    double loss, want = 0, more;
    for (int x = 0; x < EXPERTS; x++)
        for (int i = 0; i < LAYERS * SLOTS; i++)
            want +=
                (double)counts[i * EXPERTS + x] / 10 * (double)(probs[x] + probs[EXPERTS + x]) / 10 * EXPERTS;
    d.ops->moe_balance(&d, dprob, &loss, counts, probs, LAYERS, SLOTS, EXPERTS, ROWS, coef);
    ck_assert_double_eq_tol(loss, want, 1e-12);
    for (int i = 0; i < LAYERS * EXPERTS; i++) {
        probs[i] += 1;
        d.ops->moe_balance(&d, same, &more, counts, probs, LAYERS, SLOTS, EXPERTS, ROWS, coef);
        probs[i] -= 1;
        ck_assert_double_eq_tol((double)dprob[i % EXPERTS], (double)coef * (more - loss), 1e-6);
    }
    for (int i = 0; i < LAYERS * SLOTS * EXPERTS; i++) counts[i] = 2;
    for (int i = 0; i < LAYERS * EXPERTS; i++) probs[i] = 2;
    d.ops->moe_balance(&d, dprob, &loss, counts, probs, LAYERS, SLOTS, EXPERTS, 6, coef);
    ck_assert_double_eq_tol(loss, SLOTS, 1e-12);
    weft_device_close(&d);
}
END_TEST

SUITE_MAIN("router", agrees_with_reference, reference_gradient_is_the_slope, ties, nan_is_seen, balance)
