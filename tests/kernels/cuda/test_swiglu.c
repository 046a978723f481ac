/* SwiGLU. */
#include "kernels/cuda/pair.h"
#include "support/suite.h"

static const weft_dtype types[] = {WEFT_F32, WEFT_BF16};
#define FOR_TYPES(t) for (int t = 0; t < 2; t++)

static const struct {
    int64_t M, F;
    double size; /* of the gates: at 100 their exponentials overflow */
    bool in_place;
} cases[] = {{0, 8, 1, false},    {1, 1, 1, false},   {1, 24, 1, true},   {3, 65, 2, false},
             {3, 256, 10, true},  {70, 24, 1, true},  {20, 193, 3, true}, {9, 130, 100, false},
             {2, 1032, 3, false}, {3, 2051, 1, true}, {5, 8, 30, true}};
#define CASES ((int)(sizeof cases / sizeof *cases))

/* Beside the rounding of bf16 outputs, float on both sides. */
#define TOLERANCE 1e-6

START_TEST(forward_and_backward) {
    FOR_TYPES(t) for (int i = 0; i < CASES; i++) {
        const int64_t M = cases[i].M, F = cases[i].F;
        pair p;
        pair_open(&p, types[t]);
        pair_array gu = pair_act(&p, 2 * M * F, PAIR_UNIFORM(-cases[i].size, cases[i].size));
        pair_array y = pair_act_out(&p, M * F), dy = pair_act(&p, M * F, PAIR_UNIFORM(-1, 1));
        pair_array dgu = cases[i].in_place ? gu : pair_act_out(&p, 2 * M * F);
        PAIR_RUN(&p, ops->swiglu_fwd(d, PAIR(y), PAIR(gu), M, F));
        pair_check(&p, y, "y", TOLERANCE);
        PAIR_RUN(&p, ops->swiglu_bwd(d, PAIR(dgu), PAIR(dy), PAIR(gu), M, F));
        pair_check(&p, dgu, "dgu", TOLERANCE);
        pair_check(&p, gu, "gu", TOLERANCE);
        pair_close(&p);
    }
}
END_TEST

START_TEST(weighted_backward) {
    FOR_TYPES(t) for (int i = 0; i < CASES; i++) {
        const int64_t M = cases[i].M, F = cases[i].F;
        pair p;
        pair_open(&p, types[t]);
        pair_array gu = pair_act(&p, 2 * M * F, PAIR_UNIFORM(-cases[i].size, cases[i].size));
        pair_array du = pair_act(&p, M * F, PAIR_UNIFORM(-1, 1)), w = pair_real(&p, M, PAIR_UNIFORM(0, 1));
        pair_array dw = pair_real_out(&p, M), dgu = cases[i].in_place ? gu : pair_act_out(&p, 2 * M * F);
        PAIR_RUN(&p, ops->swiglu_weighted_bwd(d, PAIR(dgu), PAIR(dw), PAIR(du), PAIR(gu), PAIR(w), M, F));
        pair_check(&p, dgu, "dgu", TOLERANCE);
        pair_check(&p, gu, "gu", TOLERANCE);
        pair_check(&p, du, "du", TOLERANCE);
        pair_check(&p, dw, "dw", 2e-6); /* a sum over F */
        pair_close(&p);
    }
}
END_TEST

SUITE_MAIN("cuda swiglu", forward_and_backward, weighted_backward)
