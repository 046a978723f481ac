/* cpu/vec.h: functions of vectors against libm in double, and the moves between lanes. */
#include "cpu/vec.h"
#include "support/suite.h"

#include <math.h>

static double softplus(double x) {
    return x > 20 ? x : log1p(exp(x));
}
static double sigmoid(double x) {
    return 1 / (1 + exp(-x));
}

typedef struct function {
    const char *name;
    vreal (*vector)(vreal);
    double (*exact)(double);
    double low, high, tolerance; /* relative */
} function;

static vreal apply_exp(vreal x) {
    return v_exp(x);
}
static vreal apply_exp2(vreal x) {
    return v_exp2(x);
}
static vreal apply_sigmoid(vreal x) {
    return v_sigmoid(x);
}
static vreal apply_softplus(vreal x) {
    return v_softplus(x);
}
static vreal apply_slope(vreal x) {
    vreal slope;
    v_softplus_slope(x, &slope);
    return slope;
}

static const function functions[] = {
    {"exp", apply_exp, exp, -87, 88, 1.2e-7},
    {"exp2", apply_exp2, exp2, -126, 126.9, 1.2e-7},
    {"sigmoid", apply_sigmoid, sigmoid, -86, 86, 2e-7},
    {"softplus", apply_softplus, softplus, -86, 86, 4e-7},
    {"slope of softplus", apply_slope, sigmoid, -86, 86, 4e-7},
};

START_TEST(functions_are_accurate) {
    for (int f = 0; f < (int)(sizeof functions / sizeof *functions); f++) {
        const function *fn = &functions[f];
        for (double x = fn->low; x < fn->high; x += 1.37e-3) {
            const weft_real at = (weft_real)x;
            const double want = fn->exact((double)at), got = (double)fn->vector(v_set1(at))[VLEN - 1];
            ck_assert_msg(fabs(got - want) <= fn->tolerance * want, "%s(%.9g) = %.9g, should be %.9g",
                          fn->name, (double)at, got, want);
        }
        ck_assert(isnan((double)fn->vector(v_set1((weft_real)NAN))[0]));
    }
}
END_TEST

START_TEST(ends_do_not_wrap_around) {
    ck_assert_double_ge((double)v_exp(v_set1(1000))[0], 1e38);
    ck_assert_double_le((double)v_exp(v_set1(-1000))[0], 2e-38);
    ck_assert_double_ge((double)v_exp(v_set1(-1000))[0], 0);
    ck_assert_double_eq((double)v_sigmoid(v_set1(200))[0], 1);
    ck_assert_double_le((double)v_sigmoid(v_set1(-200))[0], 1e-38);
    ck_assert_double_eq((double)v_softplus(v_set1(300))[0], 300);
    /* A NaN with bits of its own, as memory may hold it. */
    union {
        uint32_t bits;
        float value;
    } odd = {0x7fc00123};
    ck_assert(isnan((double)v_exp(v_set1((weft_real)odd.value))[0]));
    ck_assert(isnan((double)v_exp2(v_set1((weft_real)odd.value))[0]));
}
END_TEST

START_TEST(lanes_are_moved_and_summed) {
    vreal x[V_LANES], y[V_LANES];
    for (int64_t i = 0; i < VLEN; i++)
        for (int64_t j = 0; j < VLEN; j++) x[i][j] = (weft_real)(i * 100 + j);
    for (int64_t i = 0; i < VLEN; i++) y[i] = x[i];
    v_transpose(y);
    for (int64_t i = 0; i < VLEN; i++)
        for (int64_t j = 0; j < VLEN; j++) ck_assert_double_eq((double)y[i][j], (double)x[j][i]);
    for (int64_t i = 0; i < VLEN; i++) y[i] = x[i];
    const vreal sums = v_sum_each(y);
    for (int64_t i = 0; i < VLEN; i++) {
        ck_assert_double_eq((double)sums[i], (double)(i * 100 * VLEN + VLEN * (VLEN - 1) / 2));
        ck_assert_double_eq((double)v_sum(x[i]), (double)sums[i]);
        ck_assert_double_eq((double)v_hmax(x[i]), (double)(i * 100 + VLEN - 1));
    }
}
END_TEST

START_TEST(tails_touch_their_lanes_only) {
    weft_real from[V_LANES + 2], to[V_LANES + 2];
    for (int64_t n = 1; n <= VLEN; n++) {
        for (int64_t i = 0; i < VLEN + 2; i++) from[i] = (weft_real)(i + 1), to[i] = -1;
        const vreal v = v_load_n(from + 1, n);
        for (int64_t i = 0; i < VLEN; i++) ck_assert_double_eq((double)v[i], i < n ? (double)(i + 2) : 0);
        v_store_n(to + 1, v, n);
        for (int64_t i = 0; i < VLEN + 2; i++)
            ck_assert_double_eq((double)to[i], i >= 1 && i <= n ? (double)(i + 1) : -1);
    }
}
END_TEST

SUITE_MAIN("vec", functions_are_accurate, ends_do_not_wrap_around, lanes_are_moved_and_summed,
           tails_touch_their_lanes_only)
