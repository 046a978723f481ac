/* Sums, copies and norms of flat arrays. */
#include "kernels/ref_tok.h"

static const struct {
    int64_t n;
    double tol;
} cases[] = {{1, 3e-7},   {3, 3e-7},    {24, 3e-7},    {65, 3e-7},
             {257, 3e-7}, {1023, 3e-7}, {70001, 3e-7}, {262147, 3e-7}};

START_TEST(agrees_with_reference) {
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        ref_tok_check_elementwise(cases[i].n, cases[i].tol);
}
END_TEST

static double sumsq(weft_device *d, const weft_real *x, int64_t n) {
    weft_exact sum = {{0}, 0};
    d->ops->sumsq(d, &sum, x, n);
    return weft_exact_value(&sum);
}

/* Squares beyond weft_real's range and far apart in size: the sum is in double. */
START_TEST(sum_of_squares_is_double) {
    weft_device d = {0};
    ck_assert_int_eq(weft_device_open_cpu(&d), WEFT_OK);
    weft_real x[300];
    double want = 0;
    for (int i = 0; i < 300; i++) {
        x[i] = (weft_real)(i % 2 ? 1e25 : 1e-25);
        want += (double)x[i] * (double)x[i];
    }
    ck_assert_double_eq_tol(sumsq(&d, x, 300) / want, 1, 1e-14);
    for (int i = 0; i < 300; i++) x[i] = (weft_real)1e-30;
    ck_assert_double_eq_tol(sumsq(&d, x, 300) / 3e-58, 1, 1e-6);
    for (int i = 0; i < 300; i++) {
        x[i] = (weft_real)NAN;
        ck_assert(isnan(sumsq(&d, x, 300)));
        x[i] = -(weft_real)INFINITY;
        ck_assert(isnan(sumsq(&d, x, 300)));
        x[i] = 0;
    }
    ck_assert(sumsq(&d, x, 0) == 0);
    weft_device_close(&d);
}
END_TEST

START_TEST(many_blocks) {
    const int64_t n = (int64_t)1024 * 16384 + 12345;
    weft_device d = {0};
    ck_assert_int_eq(weft_device_open_cpu(&d), WEFT_OK);
    weft_real *x = malloc((size_t)n * sizeof *x);
    for (int64_t i = 0; i < n; i++) x[i] = (weft_real)(i % 7);
    double want = 0, got;
    for (int64_t i = 0; i < n; i++) want += (double)(x[i] * x[i]);
    ck_assert(sumsq(&d, x, n) == want); /* whole numbers below 2^53 */
    d.ops->sumsq_act(&d, &got, x, n, 1, false);
    ck_assert(got == want);
    d.ops->sumsq_act(&d, &got, x, n, 0.5, true);
    ck_assert(got == 1.5 * want);
    free(x);
    weft_device_close(&d);
}
END_TEST

/* One order of addition for every width of vectors: sixteen sums, then halves on halves. Terms differ in
 * size, so that another order would round otherwise. */
START_TEST(order_within_a_block) {
    enum { N = 50 * WEFT_SUM_BLOCK + 23 };
    weft_device d = {0};
    ck_assert_int_eq(weft_device_open_cpu(&d), WEFT_OK);
    ref_tok_array a = ref_tok_random("a", N, 1);
    weft_exact want = {{0}, 0}, got = {{0}, 0};
    for (int i = 0; i < N; i++) a.x[i] = (weft_real)ldexp((double)a.x[i], i * i % 23);
    for (int64_t begin = 0; begin < N; begin += WEFT_SUM_BLOCK) {
        double sums[16] = {0};
        for (int64_t i = begin; i < begin + WEFT_SUM_BLOCK && i < N; i++)
            sums[i % 16] += (double)a.x[i] * (double)a.x[i];
        for (int half = 8; half > 0; half /= 2)
            for (int i = 0; i < half; i++) sums[i] += sums[i + half];
        weft_exact_add(&want, sums[0]);
    }
    d.ops->sumsq(&d, &got, a.x, N);
    ck_assert_mem_eq(&got, &want, sizeof want);
    ref_tok_free(a);
    weft_device_close(&d);
}
END_TEST

/* Cut at any multiples of a block, summed in any order and with any number of threads, at any address: the
 * same bits. */
START_TEST(pieces_make_the_whole) {
    enum { N = 150000, MOST = 64 };
    weft_device d = {0};
    ck_assert_int_eq(weft_device_open_cpu(&d), WEFT_OK);
    ref_tok_array a = ref_tok_random("a", N, 1e-3);
    weft_real *moved = malloc((N + 1) * sizeof *moved);
    memcpy(moved + 1, a.x, N * sizeof *moved);
    weft_exact want = {{0}, 0};
    d.threads = 1;
    d.ops->sumsq(&d, &want, a.x, N);
    weft_rng rng = weft_rng_make(3, "cuts");
    for (int round = 0; round < 40; round++) {
        int64_t begin[MOST + 1], at = 0;
        int pieces = 0, order[MOST];
        const uint64_t longest = (uint64_t)1 << weft_rng_below(rng, (uint64_t)(100 * round), 13);
        for (; at < N && pieces < MOST; pieces++) {
            begin[pieces] = at;
            uint64_t blocks = 1 + weft_rng_below(rng, (uint64_t)(100 * round + pieces + 1), longest);
            at = pieces == MOST - 1 ? N : at + (int64_t)blocks * WEFT_SUM_BLOCK;
        }
        begin[pieces] = N;
        for (int i = 0; i < pieces; i++) {
            int j = (int)weft_rng_below(rng, (uint64_t)(9999 * round + i), (uint64_t)i + 1);
            order[i] = order[j];
            order[j] = i;
        }
        weft_exact got = {{0}, 0};
        for (int i = 0; i < pieces; i++) {
            const int64_t from = begin[order[i]];
            d.threads = 1 + (round + i) % 4;
            d.ops->sumsq(&d, &got, round % 2 ? moved + 1 + from : a.x + from, begin[order[i] + 1] - from);
        }
        ck_assert_mem_eq(&got, &want, sizeof want);
    }
    free(moved);
    ref_tok_free(a);
    weft_device_close(&d);
}
END_TEST

/* ((0+1)+(2+3))+(4+5) and so on, level by level: sums whose rounding tells the order. */
START_TEST(tree_of_sums) {
    enum { N = 5000, PARTS = 13 };
    weft_device d = {0};
    ck_assert_int_eq(weft_device_open_cpu(&d), WEFT_OK);
    weft_real *parts = malloc((size_t)N * PARTS * sizeof *parts),
              *levels = malloc((size_t)N * PARTS * sizeof *parts), *out = malloc((size_t)N * sizeof *out);
    for (int count = 1; count <= PARTS; count++) {
        for (int64_t i = 0; i < N * PARTS; i++)
            levels[i] = parts[i] = (weft_real)((double)(i * 7919 % 1009) / 997 * (i % 3 ? 1 : 1e6));
        for (int step = 1; step < count; step *= 2)
            for (int r = 0; r + step < count; r += 2 * step)
                for (int64_t i = 0; i < N; i++) levels[r * N + i] += levels[(r + step) * N + i];
        for (int accumulate = 0; accumulate < 2; accumulate++) {
            for (int64_t i = 0; i < N; i++) out[i] = (weft_real)(accumulate ? 1 : NAN);
            d.ops->tree_sum(&d, out, WEFT_REAL_DTYPE, parts, WEFT_REAL_DTYPE, N, count, N, accumulate);
            for (int64_t i = 0; i < N; i++) ck_assert(out[i] == (weft_real)accumulate + levels[i]);
        }
        d.ops->tree_sum(&d, parts, WEFT_REAL_DTYPE, parts, WEFT_REAL_DTYPE, N, count, N, false);
        ck_assert_mem_eq(parts, levels, N * sizeof *parts);
    }
    free(parts);
    free(levels);
    free(out);
    weft_device_close(&d);
}
END_TEST

START_TEST(clipping) {
    weft_device d = {0};
    weft_exact sum = {{0}, 0};
    weft_clip c;
    ck_assert_int_eq(weft_device_open_cpu(&d), WEFT_OK);
    weft_exact_add(&sum, 16);
    d.ops->exact_carry(&d, &sum);
    d.ops->clip(&d, &c, &sum, 1);
    ck_assert(c.norm == 4 && c.scale == (weft_real)0.25 && c.finite);
    d.ops->clip(&d, &c, &sum, 5);
    ck_assert(c.scale == 1);
    d.ops->clip(&d, &c, &sum, 0); /* no clipping */
    ck_assert(c.scale == 1 && c.finite);
    weft_exact_add(&sum, INFINITY);
    d.ops->clip(&d, &c, &sum, 1);
    ck_assert(!c.finite);
    weft_device_close(&d);
}
END_TEST

SUITE_MAIN("elementwise", tree_of_sums, clipping, agrees_with_reference, sum_of_squares_is_double,
           many_blocks, order_within_a_block, pieces_make_the_whole)
