/* AdamW, with what the clip on the device says, and the copy of the parameters. */
#include "kernels/cuda/pair.h"
#include "support/suite.h"

#include <math.h>

static const weft_dtype types[] = {WEFT_F32, WEFT_BF16};
#define FOR_TYPES(t) for (int t = 0; t < 2; t++)

static const struct {
    int64_t n, off;
    weft_adamw a;
    weft_clip clip;
} cases[] = {
    {0, 0, {1e-3f, 0.9f, 0.95f, 1e-8f, 0.1f, 1, NULL}, {1, 1, 1}},
    {1, 0, {1e-3f, 0.9f, 0.95f, 1e-8f, 0.1f, 1, NULL}, {1, 1, 1}},
    {24, 0, {1e-3f, 0.9f, 0.999f, 1e-8f, 0, 1, NULL}, {4, 0.25f, 1}},
    {65, 1, {1e-2f, 0.9f, 0.999f, 1e-8f, 0.1f, 2, NULL}, {1, 3, 1}},
    {1025, 0, {1e-1f, 0.8f, 0.95f, 1e-5f, 0.01f, 1000, NULL}, {1e3, 1e-3f, 1}},
    {2051, 0, {1e-3f, 0.9f, 0.999f, 1e-8f, 0.1f, 1000000, NULL}, {1, 1, 1}},
    {65, 0, {1e-2f, 0.9f, 0.999f, 1e-8f, 0.1f, 2, NULL}, {NAN, 1, 0}}, /* nothing changes */
};

/* The CPU has no copy: the device's is its own p, rounded; before the first update, nothing. */
static void check_copy(const pair *p, pair_array copy, pair_array of, int64_t off, bool updated) {
    for (int64_t i = 0; i < p->arrays[copy].n; i++) {
        double got = pair_gpu_value(p, copy, i), want = pair_gpu_value(p, of, i);
        if (i < off || !updated)
            ck_assert(isnan(got));
        else
            ck_assert_double_le(fabs(got - want), p->gpu.act_dtype == WEFT_BF16 ? fabs(want) / 256 : 0);
    }
}

static void update(weft_dtype type, size_t i, bool with_copy) {
    const int64_t n = cases[i].n, off = cases[i].off;
    pair p;
    pair_open(&p, type);
    pair_array param = pair_real(&p, n + off, PAIR_UNIFORM(-1, 1)),
               g = pair_real(&p, n + off, PAIR_UNIFORM(-1, 1));
    pair_array m = pair_real(&p, n + off, PAIR_UNIFORM(-0.1, 0.1)),
               v = pair_real(&p, n + off, PAIR_UNIFORM(0, 1));
    pair_array act = pair_act_out(&p, n + off), clip = pair_bytes(&p, &cases[i].clip, sizeof(weft_clip));
    PAIR_RUN(&p, weft_adamw a = cases[i].a; a.clip = PAIR(clip);
             ops->adamw(d, PAIR_AT(param, off), with_copy && p.on_gpu ? PAIR_AT(act, off) : NULL,
                        PAIR_AT(g, off), PAIR_AT(m, off), PAIR_AT(v, off), n, &a));
    pair_check(&p, param, "p", 1e-6);
    pair_check(&p, m, "m", 1e-6);
    pair_check(&p, v, "v", 1e-6);
    check_copy(&p, act, param, off, with_copy && cases[i].clip.finite);
    if (!cases[i].clip.finite) {
        pair_same(&p, param, "p as it was");
        pair_same(&p, m, "m as it was");
        pair_same(&p, v, "v as it was");
    }
    pair_close(&p);
}

START_TEST(agrees_with_cpu) {
    FOR_TYPES(t)
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int copy = 0; copy < 2; copy++) update(types[t], i, copy);
}
END_TEST

SUITE_MAIN("cuda adamw", agrees_with_cpu)
