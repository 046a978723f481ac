/* Router on a CUDA device: softmax, top-k, gradients, statistics, load balance. */
#include "kernels/cuda/pair.h"
#include "support/suite.h"

#include <math.h>

#define COUNT(table) (sizeof(table) / sizeof *(table))

static const weft_dtype types[] = {WEFT_F32, WEFT_BF16};

typedef struct shape {
    int64_t M, X, k;
    bool normalise, dprob;
    double dlse2, spread; /* of logits: uniform in +-spread */
} shape;

static const shape shapes[] = {
    {0, 4, 2, false, true, 0.1, 1},   {1, 1, 1, false, false, 0, 1},   {1, 1, 1, true, true, 0.1, 1},
    {1, 2, 2, true, true, 0.5, 1},    {3, 4, 2, true, false, 0.1, 1},  {19, 16, 2, false, true, 0.1, 1},
    {19, 17, 3, true, false, 0, 3},   {3, 17, 17, false, true, 0, 1},  {3, 17, 17, true, true, 0.2, 1},
    {17, 5, 2, false, true, 0.1, 30}, {5, 40, 35, true, true, 0.1, 1}, /* more chosen than lanes */
    {9, 100, 8, true, true, 0.1, 2},  {5, 40, 4, true, true, 0.1, 0},  /* all equal: ties to the lower id */
    {700, 3, 2, false, true, 0.1, 1},                                  /* several blocks of rows */
};

typedef struct arrays {
    pair_array logits, probs, lse, ids, w, dw, dprob, dlogits, counts, prob_sum, lse2_sum;
} arrays;

static void run(weft_device *d, const pair *p, const shape *s, const arrays *x) {
    const weft_router a = {.M = s->M,
                           .X = s->X,
                           .k = s->k,
                           .normalise = s->normalise,
                           .logits = pair_at(p, x->logits),
                           .probs = pair_at(p, x->probs),
                           .lse = pair_at(p, x->lse),
                           .ids = pair_at(p, x->ids),
                           .w = pair_at(p, x->w),
                           .dw = pair_at(p, x->dw),
                           .dprob = pair_at(p, x->dprob),
                           .dlse2 = (weft_real)s->dlse2,
                           .dlogits = pair_at(p, x->dlogits)};
    d->ops->router_fwd(d, &a);
    d->ops->router_stats(d, pair_at(p, x->counts), pair_at(p, x->prob_sum), pair_at(p, x->lse2_sum), &a);
    d->ops->router_bwd(d, &a);
}

static arrays arrays_of(pair *p, const shape *s) {
    const int64_t rows = s->M * s->X, slots = s->M * s->k;
    return (arrays){.logits = pair_real(p, rows, PAIR_UNIFORM(-s->spread, s->spread)),
                    .probs = pair_real_out(p, rows),
                    .lse = pair_real_out(p, s->M),
                    .ids = pair_i32(p, NULL, slots),
                    .w = pair_real_out(p, slots),
                    .dw = pair_real(p, slots, PAIR_UNIFORM(-1, 1)),
                    .dprob = s->dprob ? pair_real(p, s->X, PAIR_UNIFORM(-1, 1)) : -1,
                    .dlogits = pair_act_out(p, rows),
                    .counts = pair_i64(p, NULL, s->k * s->X),
                    .prob_sum = pair_real_out(p, s->X),
                    .lse2_sum = pair_real_out(p, 1)};
}

/* The numbers are float on both sides, but for dlogits. */
static void check(const pair *p, const arrays *x) {
    pair_check(p, x->probs, "probs", 2e-6);
    pair_check(p, x->lse, "lse", 2e-6);
    pair_check(p, x->ids, "ids", 0);
    pair_check(p, x->w, "w", 2e-6);
    pair_check(p, x->counts, "counts", 0);
    pair_check(p, x->prob_sum, "prob_sum", 2e-6);
    pair_check(p, x->lse2_sum, "lse2_sum", 4e-6);
    pair_check(p, x->dlogits, "dlogits", 1e-5);
}

START_TEST(agrees_with_cpu) {
    for (size_t t = 0; t < COUNT(types); t++)
        for (size_t i = 0; i < COUNT(shapes); i++) {
            pair p;
            pair_open(&p, types[t]);
            arrays x = arrays_of(&p, &shapes[i]);
            PAIR_RUN(&p, run(d, pair_now, &shapes[i], &x));
            check(&p, &x);
            pair_close(&p);
        }
}
END_TEST

/* Equal logits in any places: falling order, ties to the lower id. */
START_TEST(ties) {
    const shape s = {.M = 1, .X = 70, .k = 5, .spread = 0};
    const int32_t want[] = {6, 68, 2, 11, 33};
    pair p;
    pair_open(&p, WEFT_F32);
    arrays x = arrays_of(&p, &s);
    float *logits = p.arrays[x.logits].before;
    logits[68] = logits[6] = 3;
    logits[2] = logits[11] = logits[33] = logits[65] = 1;
    PAIR_RUN(&p, run(d, pair_now, &s, &x));
    for (int i = 0; i < 5; i++) ck_assert_double_eq(pair_gpu_value(&p, x.ids, i), want[i]);
    check(&p, &x);
    pair_close(&p);
}
END_TEST

/* A NaN shows in its row only; ids stay within bounds and distinct. An infinity makes a NaN. */
START_TEST(nan_is_seen) {
    static const shape s = {.M = 4, .X = 37, .k = 3, .dprob = true, .spread = 1};
    for (size_t t = 0; t < COUNT(types); t++) {
        pair p;
        pair_open(&p, types[t]);
        arrays x = arrays_of(&p, &s);
        float *logits = p.arrays[x.logits].before;
        memset(&logits[0], 0xff, sizeof *logits); /* a NaN with every bit set */
        logits[2 * s.X + 36] = NAN;
        logits[3 * s.X + 5] = INFINITY;
        PAIR_RUN(&p, run(d, pair_now, &s, &x));
        for (int i = 0; i < 12; i++) {
            ck_assert(isnan(pair_gpu_value(&p, x.w, i)) == (i / 3 != 1));
            if (i / 3 != 1) ck_assert_double_eq(pair_gpu_value(&p, x.ids, i), i % 3);
        }
        check(&p, &x);
        pair_close(&p);
    }
}
END_TEST

START_TEST(balance) {
    static const struct { int64_t L, k, X, M; } cases[] = {{1, 1, 1, 3}, {2, 2, 3, 5}, {3, 2, 300, 40}};
    for (size_t i = 0; i < COUNT(cases); i++) {
        const int64_t L = cases[i].L, k = cases[i].k, X = cases[i].X;
        int64_t counts[3 * 2 * 300];
        for (int64_t j = 0; j < L * k * X; j++) counts[j] = j * 7 % 11;
        pair p;
        pair_open(&p, WEFT_F32);
        pair_array n = pair_i64(&p, counts, L * k * X), sums = pair_real(&p, L * X, PAIR_UNIFORM(0, 2));
        pair_array dprob = pair_real_out(&p, X), loss = pair_f64(&p, NULL, 1);
        PAIR_RUN(&p, ops->moe_balance(d, PAIR(dprob), PAIR(loss), PAIR(n), PAIR(sums), L, k, X, cases[i].M,
                                      (weft_real)0.25));
        pair_check(&p, dprob, "dprob", 1e-7);
        pair_check(&p, loss, "loss", 1e-14);
        pair_close(&p);
    }
}
END_TEST

SUITE_MAIN("cuda router", agrees_with_cpu, ties, nan_is_seen, balance)
