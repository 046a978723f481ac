/* Softmax cross-entropy, whole and in parts. */
#include "kernels/cuda/pair.h"
#include "runtime/rng.h"
#include "support/suite.h"

#include <math.h>
#include <stdlib.h>

static const weft_dtype types[] = {WEFT_F32, WEFT_BF16};
#define FOR_TYPES(t) for (int t = 0; t < 2; t++)

/* Float on both sides; gradients in bf16 are rounded once. */
#define TOLERANCE 1e-6

static const struct {
    int64_t M, V, off;
    double low, high;
    bool with_grad;
} cases[] = {
    {0, 8, 0, -1, 1, true},         {1, 1, 0, -1, 1, true},       {1, 3, 0, -1, 1, true},
    {3, 3, 0, -4, 4, false},        {40, 3, 0, -501, -499, true}, {5, 17, 0, 299, 301, false},
    {7, 65, 0, -20, 20, true},      {3, 1000, 0, -3, 3, false},   {20, 1000, 0, -3, 3, true},
    {3, 2056, 1, -200, -199, true}, {2, 2047, 0, -40, 40, true},  {2, 70001, 0, -2, 2, true},
    {1, 65536, 0, -1, 1, true},
};

/* The first and the last word, none, and any. */
static pair_array targets_of(pair *p, int64_t M, int64_t V) {
    const weft_rng r = weft_rng_make(p->seed++, "targets");
    int32_t *targets = malloc((size_t)M * sizeof *targets + 1);
    for (int64_t m = 0; m < M; m++)
        targets[m] = (int32_t)(m == 0   ? V - 1
                               : m == 1 ? 0
                                        : (int64_t)weft_rng_below(r, (uint64_t)m, (uint64_t)V + 1) - 1);
    if (M > 2) targets[2] = -1;
    pair_array a = pair_i32(p, targets, M);
    free(targets);
    return a;
}

START_TEST(whole) {
    FOR_TYPES(t) for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const int64_t M = cases[i].M, V = cases[i].V, off = cases[i].off;
        pair p;
        pair_open(&p, types[t]);
        pair_array logits = pair_act(&p, off + M * V, PAIR_UNIFORM(cases[i].low, cases[i].high));
        pair_array loss = pair_real_out(&p, M), targets = targets_of(&p, M, V);
        PAIR_RUN(&p, ops->cross_entropy(d, PAIR(loss), PAIR_AT(logits, off), PAIR(targets), M, V, 0.7f,
                                        cases[i].with_grad));
        pair_check(&p, loss, "loss", TOLERANCE);
        pair_check(&p, logits, "gradient", TOLERANCE);
        PAIR_RUN(&p, ops->cross_entropy(d, NULL, PAIR_AT(logits, off), PAIR(targets), M, V, 0.7f,
                                        cases[i].with_grad));
        pair_check(&p, logits, "gradient without loss", TOLERANCE);
        pair_close(&p);
    }
}
END_TEST

#define MOST_PARTS 5
/* The logits of every part lie apart, as on ranks; each merges its own. `of` holds the first words, and V. */
typedef struct split {
    pair_array logits[MOST_PARTS], partial, targets, loss[MOST_PARTS];
} split;

static split split_make(pair *p, int64_t M, const int64_t *of, int parts, double low, double high) {
    split s;
    for (int i = 0; i < parts; i++) {
        s.logits[i] = pair_act(p, M * (of[i + 1] - of[i]), PAIR_UNIFORM(low, high));
        s.loss[i] = pair_real_out(p, M);
    }
    s.targets = targets_of(p, M, of[parts]);
    s.partial = pair_real_out(p, parts * M * 3);
    return s;
}

static void split_run(pair *p, const split *s, int64_t M, const int64_t *of, int parts, bool with_grad) {
    PAIR_RUN(p, for (int i = 0; i < parts; i++)
                    ops->cross_entropy_partial(d, PAIR_AT(s->partial, i * M * 3), PAIR(s->logits[i]),
                                               PAIR(s->targets), M, of[i], of[i + 1] - of[i]);
             for (int i = 0; i < parts; i++) ops->cross_entropy_merge(
                 d, i < parts - 1 || parts == 1 ? PAIR(s->loss[i]) : NULL, PAIR(s->logits[i]),
                 PAIR(s->partial), parts, PAIR(s->targets), M, of[i], of[i + 1] - of[i], 0.7f, with_grad));
    pair_check(p, s->partial, "partial", TOLERANCE);
    for (int i = 0; i < parts; i++) {
        pair_check(p, s->loss[i], "loss", TOLERANCE);
        pair_check(p, s->logits[i], "gradient", TOLERANCE);
    }
}

START_TEST(in_parts) {
    static const struct {
        int64_t M, of[MOST_PARTS + 1];
        int parts;
        double low, high;
        bool with_grad;
    } splits[] = {
        {9, {0, 1000}, 1, -3, 3, true},
        {5, {0, 1000}, 1, -3, 3, false},
        {9, {0, 512, 1000}, 2, -3, 3, true},
        {9, {0, 17, 17, 400, 999, 1000}, 5, -3, 3, true},
        {4, {0, 17, 17, 400, 999, 1000}, 5, -201, -199, false},
        {4, {0, 17, 17, 400, 999, 1000}, 5, 270, 330, true},
        {2, {0, 0, 4096, 4097, 4097}, 4, -2, 2, true},
        {40, {0, 1, 3}, 2, -1, 1, true},
        {0, {0, 1, 3}, 2, -1, 1, true},
    };
    FOR_TYPES(t) for (size_t i = 0; i < sizeof splits / sizeof *splits; i++) {
        pair p;
        pair_open(&p, types[t]);
        const split s =
            split_make(&p, splits[i].M, splits[i].of, splits[i].parts, splits[i].low, splits[i].high);
        split_run(&p, &s, splits[i].M, splits[i].of, splits[i].parts, splits[i].with_grad);
        pair_close(&p);
    }
}
END_TEST

/* A NaN, an infinity, or one with a mask around it, at any thread's place: row by row as on the CPU. */
enum { WORDS = 2200 };
static const double odd[] = {NAN, INFINITY, -INFINITY};
static void put_odd(pair *p, pair_array logits, int64_t words) {
    for (int64_t m = 0; m < 12; m++) {
        if (m >= 3) /* all but one word are masked out; from 6 on, that one as well */
            for (int64_t j = 0; j < words; j++) pair_put(p, logits, m * words + j, -INFINITY);
        if (m >= 3 && m < 6) pair_put(p, logits, m * words + words / 2, -300);
        if (m < 9 && words) pair_put(p, logits, m * words + m * 271 % words, odd[m % 3]);
    }
}

START_TEST(not_finite) {
    FOR_TYPES(t) for (int with_grad = 0; with_grad < 2; with_grad++) {
        pair p;
        pair_open(&p, types[t]);
        pair_array logits = pair_act(&p, 13 * WORDS, PAIR_UNIFORM(-1, 1)), loss = pair_real_out(&p, 13);
        pair_array targets = targets_of(&p, 13, WORDS);
        put_odd(&p, logits, WORDS);
        PAIR_RUN(&p, ops->cross_entropy(d, PAIR(loss), PAIR(logits), PAIR(targets), 13, WORDS, 1, with_grad));
        pair_check(&p, loss, "loss", TOLERANCE);
        pair_check(&p, logits, "gradient", TOLERANCE);
        const int64_t of[] = {0, 900, 1001, 1700};
        for (int part = 0; part < 3; part++) {
            const split s = split_make(&p, 13, of, 3, -1, 1);
            put_odd(&p, s.logits[part], of[part + 1] - of[part]);
            split_run(&p, &s, 13, of, 3, with_grad);
        }
        pair_close(&p);
    }
}
END_TEST

SUITE_MAIN("cuda loss", whole, in_parts, not_finite)
