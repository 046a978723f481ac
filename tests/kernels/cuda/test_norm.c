/* RMSNorm with its residual addition. */
#include "kernels/cuda/pair.h"
#include "support/suite.h"

#include <math.h>

static const weft_dtype types[] = {WEFT_F32, WEFT_BF16};
#define FOR_TYPES(t) for (int t = 0; t < 2; t++)

static const struct {
    int64_t M, D, pad, off; /* off: elements before the arrays, so that they begin off a pack */
    bool delta, accumulate, in_place;
} cases[] = {
    {0, 8, 0, 0, true, false, false},    {1, 1, 0, 0, false, false, false},
    {1, 24, 0, 0, true, false, true},    {3, 5, 2, 0, true, true, false},
    {3, 16, 0, 0, false, false, true},   {3, 65, 7, 0, false, true, false},
    {3, 256, 0, 1, true, false, false},  {35, 24, 3, 0, true, false, true},
    {35, 65, 0, 0, true, true, false},   {20, 264, 8, 0, true, false, true},
    {9, 256, 0, 0, false, true, true},   {2, 1027, 1, 0, true, false, false},
    {11, 2056, 8, 0, true, true, false}, {4099, 2, 0, 0, false, false, false}, /* two rounds of eight rows */
};
#define CASES ((int)(sizeof cases / sizeof *cases))

/* Multiples of 1/64, so that sums of two are numbers of bf16: the device squares the h that it stores. */
static pair_array coarse(pair *p, int64_t n, double most) {
    pair_array a = pair_act(p, n, PAIR_UNIFORM(-most, most));
    for (int64_t i = 0; i < n; i++) pair_put(p, a, i, round(pair_cpu_value(p, a, i) * 64) / 64);
    return a;
}

START_TEST(forward) {
    FOR_TYPES(t) for (int i = 0; i < CASES; i++) {
        const int64_t M = cases[i].M, D = cases[i].D, off = cases[i].off, ldx = D + cases[i].pad;
        const int64_t ldy = ldx + (cases[i].pad % 8 ? 1 : 8);
        const bool delta = cases[i].delta;
        pair p;
        pair_open(&p, types[t]);
        pair_array x = coarse(&p, off + M * ldx, 2), more = delta ? coarse(&p, off + M * D, 1) : -1;
        pair_array h = delta ? pair_act_out(&p, off + M * ldx) : -1, y = pair_act_out(&p, off + M * ldy);
        pair_array w = pair_act(&p, off + D, PAIR_UNIFORM(-1, 1)), rstd = pair_real_out(&p, M);
        PAIR_RUN(&p, ops->rmsnorm_fwd(d, PAIR_AT(y, off), ldy, PAIR(rstd), PAIR_AT(h, off), PAIR_AT(x, off),
                                      ldx, PAIR_AT(more, off), PAIR_AT(w, off), 1e-6f, M, D));
        pair_check(&p, y, "y", 1e-6);
        pair_check(&p, rstd, "rstd", 1e-6);
        if (delta) pair_same(&p, h, "h");
        pair_close(&p);
    }
}
END_TEST

/* ... which is the rounded sum: y is what the stored h gives. */
START_TEST(sum_is_rounded) {
    enum { M = 4, D = 72 };
    FOR_TYPES(t) {
        pair p;
        pair_open(&p, types[t]);
        pair_array x = pair_act(&p, M * D, PAIR_UNIFORM(-2, 2)),
                   more = pair_act(&p, M * D, PAIR_UNIFORM(-1, 1));
        pair_array h = pair_act_out(&p, M * D), w = pair_act(&p, D, PAIR_UNIFORM(-1, 1));
        pair_array y = pair_act_out(&p, M * D), rstd = pair_real_out(&p, M);
        pair_array again = pair_act_out(&p, M * D), rstd_again = pair_real_out(&p, M);
        PAIR_RUN(&p, ops->rmsnorm_fwd(d, PAIR(y), D, PAIR(rstd), PAIR(h), PAIR(x), D, PAIR(more), PAIR(w),
                                      1e-6f, M, D);
                 ops->rmsnorm_fwd(d, PAIR(again), D, PAIR(rstd_again), NULL, PAIR(h), D, NULL, PAIR(w), 1e-6f,
                                  M, D));
        pair_same(&p, h, "h");
        for (int i = 0; i < M * D; i++) ck_assert(pair_gpu_value(&p, y, i) == pair_gpu_value(&p, again, i));
        for (int i = 0; i < M; i++)
            ck_assert(pair_gpu_value(&p, rstd, i) == pair_gpu_value(&p, rstd_again, i));
        pair_close(&p);
    }
}
END_TEST

START_TEST(zero_row) {
    FOR_TYPES(t) {
        pair p;
        pair_open(&p, types[t]);
        pair_array x = pair_act(&p, 16, PAIR_UNIFORM(0, 0)), w = pair_act(&p, 8, PAIR_UNIFORM(1, 1));
        pair_array y = pair_act_out(&p, 16), rstd = pair_real_out(&p, 2);
        PAIR_RUN(&p,
                 ops->rmsnorm_fwd(d, PAIR(y), 8, PAIR(rstd), NULL, PAIR(x), 8, NULL, PAIR(w), 1e-6f, 2, 8));
        pair_same(&p, y, "y");
        pair_check(&p, rstd, "rstd", 1e-6);
        pair_close(&p);
    }
}
END_TEST

START_TEST(backward) {
    FOR_TYPES(t) for (int i = 0; i < CASES; i++) {
        const int64_t M = cases[i].M, D = cases[i].D, off = cases[i].off, ld = D + cases[i].pad;
        const int64_t ldh = ld + (cases[i].pad % 8 ? 1 : 8);
        pair p;
        pair_open(&p, types[t]);
        pair_array dy = pair_act(&p, off + M * ld, PAIR_UNIFORM(-1, 1)),
                   h = pair_act(&p, off + M * ldh, PAIR_UNIFORM(-2, 2));
        pair_array dh = dy, w = pair_act(&p, off + D, PAIR_UNIFORM(-1, 1));
        if (!cases[i].in_place)
            dh = cases[i].accumulate ? pair_act(&p, off + M * ld, PAIR_UNIFORM(-1, 1))
                                     : pair_act_out(&p, off + M * ld);
        pair_array rstd = pair_real(&p, M, PAIR_UNIFORM(0.5, 1)), dw = pair_real(&p, D, PAIR_UNIFORM(-1, 1));
        PAIR_RUN(&p,
                 ops->rmsnorm_bwd(d, PAIR_AT(dh, off), ld, PAIR(dw), PAIR_AT(dy, off), ld, PAIR_AT(h, off),
                                  ldh, PAIR(rstd), PAIR_AT(w, off), M, D, cases[i].accumulate));
        pair_check(&p, dh, "dh", 1e-6);
        pair_check(&p, dw, "dw", 2e-6);
        pair_close(&p);
    }
}
END_TEST

SUITE_MAIN("cuda rmsnorm", forward, sum_is_rounded, zero_row, backward)
