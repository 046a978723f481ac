/* Linear layers of groups of rows on a CUDA device. */
#include "kernels/cuda/pair.h"
#include "support/suite.h"

#include <math.h>

#define COUNT(table) (sizeof(table) / sizeof *(table))
#define MOST_GROUPS 80

typedef struct shape {
    int64_t g, n, k;
    int64_t gap, slack; /* elements between weights; rows that m_max is too large by */
    int64_t rows[MOST_GROUPS];
} shape;

static const shape shapes[] = {
    {1, 20, 30, 0, 0, {9}},
    {1, 1, 1, 0, 0, {1}},
    {4, 65, 33, 7, 3, {0, 37, 1, 0}},
    {3, 24, 40, 0, 0, {0, 0, 0}},
    {3, 24, 40, 0, 50, {0, 0, 0}},
    {5, 72, 64, 8, 0, {5, 0, 70, 1, 17}}, /* 16 bytes at a time */
    {2, 72, 64, 3, 0, {5, 6}},            /* but for the second expert's weights */
    {2, 136, 133, 1, 200, {130, 3}},      /* several tiles and steps */
    {2, 144, 168, 0, 0, {3, 130}},
    {70, 8, 8, 0, 5, {0, 0, 1, 0, 2, 3, [31] = 65, [32] = 1, [33] = 0, [40] = 129, [64] = 2, [69] = 4}},
};

typedef struct arrays {
    pair_array offsets, x, w, dy, y, dx, dw;
} arrays;

static void run(weft_device *d, const pair *p, const shape *s, const arrays *a) {
    const int64_t stride = s->n * s->k + s->gap, *offsets = pair_at(p, a->offsets),
                  m_max = p->arrays[a->y].n / s->n;
    d->ops->grouped_fwd(d, pair_at(p, a->y), pair_at(p, a->x), pair_at(p, a->w), stride, offsets, s->g, m_max,
                        s->n, s->k);
    d->ops->grouped_dgrad(d, pair_at(p, a->dx), pair_at(p, a->dy), pair_at(p, a->w), stride, offsets, s->g,
                          m_max, s->n, s->k);
    d->ops->grouped_wgrad(d, pair_at(p, a->dw), stride, pair_at(p, a->dy), pair_at(p, a->x), offsets, s->g,
                          m_max, s->n, s->k);
}

static arrays arrays_of(pair *p, const shape *s) {
    int64_t offsets[MOST_GROUPS + 1] = {0}, weights = s->g * (s->n * s->k + s->gap);
    const pair_fill unit = PAIR_UNIFORM(-1, 1);
    for (int64_t i = 0; i < s->g; i++) offsets[i + 1] = offsets[i] + s->rows[i];
    const int64_t m_max = offsets[s->g] + s->slack;
    return (arrays){.offsets = pair_i64(p, offsets, s->g + 1),
                    .x = pair_act(p, m_max * s->k, unit),
                    .w = pair_act(p, weights, unit),
                    .dy = pair_act(p, m_max * s->n, unit),
                    .y = pair_act_out(p, m_max * s->n),
                    .dx = pair_act_out(p, m_max * s->k),
                    .dw = pair_real(p, weights, unit)};
}

/* Products of bf16 are exact in float, but tensor cores cut their sums off where a float would be rounded.
 * Rows that belong to no group stay as they were. */
static void check(const pair *p, const arrays *a) {
    const double tolerance = p->gpu.act_dtype == WEFT_BF16 ? 2e-5 : 2e-6;
    pair_check(p, a->y, "y", tolerance);
    pair_check(p, a->dx, "dx", tolerance);
    pair_check(p, a->dw, "dw", tolerance);
}

static void agree(weft_dtype type) {
    for (size_t i = 0; i < COUNT(shapes); i++) {
        pair p;
        pair_open(&p, type);
        arrays a = arrays_of(&p, &shapes[i]);
        PAIR_RUN(&p, run(d, pair_now, &shapes[i], &a));
        check(&p, &a);
        pair_close(&p);
    }
}

START_TEST(agrees_with_cpu_f32) {
    agree(WEFT_F32);
}
END_TEST

START_TEST(agrees_with_cpu_bf16) {
    agree(WEFT_BF16);
}
END_TEST

/* A NaN in a row reaches that row's results and its expert's gradients; in the weights of an expert that
 * nobody chose, nothing. */
START_TEST(nan_stays_in_its_group) {
    static const shape s = {4, 20, 24, 0, 0, {3, 2, 0, 4}};
    static const weft_dtype types[] = {WEFT_F32, WEFT_BF16};
    for (size_t t = 0; t < COUNT(types); t++) {
        pair p;
        pair_open(&p, types[t]);
        arrays a = arrays_of(&p, &s);
        ((float *)p.arrays[a.x].before)[4 * s.k + 1] = NAN;
        ((float *)p.arrays[a.dy].before)[4 * s.n + 2] = NAN;
        ((float *)p.arrays[a.w].before)[2 * s.n * s.k + 3] = NAN;
        PAIR_RUN(&p, run(d, pair_now, &s, &a));
        for (int64_t m = 0; m < 9; m++) {
            ck_assert(isnan(pair_gpu_value(&p, a.y, m * s.n + 5)) == (m == 4));
            ck_assert(isnan(pair_gpu_value(&p, a.dx, m * s.k + 5)) == (m == 4));
        }
        check(&p, &a);
        pair_close(&p);
    }
}
END_TEST

SUITE_MAIN("cuda grouped", agrees_with_cpu_f32, agrees_with_cpu_bf16, nan_stays_in_its_group)
