/* Sums of whole arrays: exact ones in the CPU's bits. */
#include "kernels/cuda/pair.h"
#include "runtime/rng.h"
#include "support/suite.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const weft_dtype types[] = {WEFT_F32, WEFT_BF16};
#define FOR_TYPES(t) for (int t = 0; t < 2; t++)

/* Around a block of the sum, the span of a warp's half, and what a block takes in one round. */
static const int64_t sizes[] = {0, 1, 63, 64, 65, 500, 1023, 1024, 1025, 2049, 9001, 70001};
#define SIZES ((int)(sizeof sizes / sizeof *sizes))

/* Sizes of terms from 2^-70 to 2^60, whose squares touch many words; at `off` nothing is aligned. */
START_TEST(sum_of_squares) {
    for (int i = 0; i < SIZES; i++) {
        const int64_t n = sizes[i], off = i % 3;
        const weft_exact start = {{3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3, 2, 3, 8, 4, 6, 2, 6, 4},
                                  0};
        pair p;
        pair_open(&p, WEFT_F32);
        pair_array x = pair_real(&p, off + n, PAIR_UNIFORM(-1, 1)),
                   wide = pair_real(&p, off + n, PAIR_UNIFORM(-1, 1));
        pair_array sum = pair_bytes(&p, &start, sizeof start), other = pair_bytes(&p, NULL, sizeof start);
        const weft_rng r = weft_rng_make(1, "sizes");
        for (int64_t k = 0; k < n; k++) {
            const int place = (int)weft_rng_below(r, (uint64_t)k, 131) - 70;
            pair_put(&p, wide, off + k, ldexp(weft_rng_uniform(r, (uint64_t)k), place));
        }
        PAIR_RUN(&p, ops->sumsq(d, PAIR(sum), PAIR_AT(x, off), n);
                 ops->sumsq(d, PAIR(other), PAIR_AT(wide, off), n);
                 ops->sumsq(d, PAIR(other), PAIR_AT(x, off), n / 2));
        pair_same(&p, sum, "sum");
        pair_same(&p, other, "sum of many sizes");
        pair_close(&p);
    }
}
END_TEST

START_TEST(odd_terms) {
    enum { N = 3000 };
    const double odd[] = {NAN, INFINITY, -INFINITY, 0, 0x1.fffffep127};
    pair p;
    pair_open(&p, WEFT_F32);
    pair_array x = pair_real(&p, N, PAIR_UNIFORM(-1, 1)), sum = pair_bytes(&p, NULL, sizeof(weft_exact));
    for (int i = 0; i < 40; i++) pair_put(&p, x, i * 71, odd[i % 5]);
    /* Blocks of the smallest numbers, whose squares begin below the lowest digit. */
    for (int i = 1000; i < 1900; i++) pair_put(&p, x, i, i % 3 * ldexp(1, i < 1500 ? -149 : -136));
    PAIR_RUN(&p, ops->sumsq(d, PAIR(sum), PAIR(x), N));
    pair_same(&p, sum, "sum");
    pair_close(&p);
}
END_TEST

/* ---- carry and clip, over many sums at once ---- */

enum { SUMS = 400 };

/* Of up to nine terms; ties between two doubles, with and without a bit below that decides; words that are
 * not carried; nothing at all; not finite. */
static void make_sums(weft_exact *sums) {
    const weft_rng r = weft_rng_make(2, "terms");
    for (uint64_t i = 0; i < SUMS; i++) {
        weft_exact *sum = &sums[i];
        const int place = (int)weft_rng_below(r, 50 * i, 700) - 300,
                  low = (int)weft_rng_below(r, 50 * i + 1, 60);
        *sum = (weft_exact){{0}, 0};
        if (i == 0) continue;
        for (uint64_t k = 0; k < i % 10; k++)
            weft_exact_add(sum, ldexp(weft_rng_uniform(r, 50 * i + 2 + k), place - (int)k * low));
        if (i % 3 == 1) {
            weft_exact_add(sum, ldexp(1 + ldexp((double)(i % 2), -52), place));
            weft_exact_add(sum, ldexp(1, place - 53));
        }
        if (i % 9 == 4) weft_exact_add(sum, ldexp(1, -320));
        for (uint64_t k = 0; k < 3 && i % 4 == 2; k++)
            sum->digit[(i + 5 * k) % WEFT_EXACT_DIGITS] += (int64_t)(weft_rng_u64(r, 50 * i + 20 + k) >> 2);
        if (i % 50 == 49) sum->odd = 1;
    }
}

static weft_clip clip_at(const pair *p, pair_array a, int i, bool gpu) {
    unsigned char bytes[sizeof(weft_clip)];
    weft_clip clip;
    for (size_t k = 0; k < sizeof clip; k++) {
        const int64_t at = i * (int64_t)sizeof clip + (int64_t)k;
        bytes[k] = (unsigned char)(gpu ? pair_gpu_value(p, a, at) : pair_cpu_value(p, a, at));
    }
    memcpy(&clip, bytes, sizeof clip);
    return clip;
}

START_TEST(carry_and_clip) {
    static weft_exact sums[SUMS];
    static const double most[] = {1, 0, 1e-30, 1e40};
    make_sums(sums);
    pair p;
    pair_open(&p, WEFT_F32);
    pair_array sum = pair_bytes(&p, sums, sizeof sums), carried = pair_bytes(&p, sums, sizeof sums);
    pair_array clips = pair_bytes(&p, NULL, SUMS * sizeof(weft_clip));
    PAIR_RUN(
        &p, for (int i = 0; i < SUMS; i++) {
            ops->clip(d, PAIR_AT(clips, i * (int64_t)sizeof(weft_clip)),
                      PAIR_AT(sum, i * (int64_t)sizeof *sums), most[i / 10 % 4]);
            ops->exact_carry(d, PAIR_AT(carried, i * (int64_t)sizeof *sums));
        });
    pair_same(&p, sum, "sum");
    pair_same(&p, carried, "carried");
    for (int i = 0; i < SUMS; i++) {
        const weft_clip want = clip_at(&p, clips, i, false), got = clip_at(&p, clips, i, true);
        ck_assert_msg(isnan(want.norm) ? isnan(got.norm) : want.norm == got.norm, "norm %d: %a, not %a", i,
                      got.norm, want.norm);
        ck_assert_msg(want.scale == got.scale && !want.finite == !got.finite, "clip %d: %a %d", i,
                      (double)got.scale, got.finite);
    }
    pair_close(&p);
}
END_TEST

/* ---- sums of activations and of numbers ---- */

START_TEST(sums_in_double) {
    FOR_TYPES(t) for (int i = 0; i < SIZES; i++) {
        const int64_t n = sizes[i], off = i % 3;
        pair p;
        pair_open(&p, types[t]);
        const double before = 0.25;
        pair_array x = pair_act(&p, off + n, PAIR_UNIFORM(-1, 1)),
                   r = pair_real(&p, off + n, PAIR_UNIFORM(-1, 2));
        pair_array set = pair_f64(&p, NULL, 1), add = pair_f64(&p, &before, 1);
        pair_array set_real = pair_f64(&p, NULL, 1), add_real = pair_f64(&p, &before, 1);
        PAIR_RUN(&p, ops->sumsq_act(d, PAIR(set), PAIR_AT(x, off), n, 0.3, false);
                 ops->sumsq_act(d, PAIR(add), PAIR_AT(x, off), n, 0.3, true);
                 ops->sum_real(d, PAIR(set_real), PAIR_AT(r, off), n, 0.3, false);
                 ops->sum_real(d, PAIR(add_real), PAIR_AT(r, off), n, 0.3, true));
        pair_check(&p, set, "squares", 1e-15);
        pair_check(&p, add, "squares, added", 1e-15);
        pair_check(&p, set_real, "sum", 1e-12);
        pair_check(&p, add_real, "sum, added", 1e-12);
        pair_close(&p);
    }
}
END_TEST

SUITE_MAIN("cuda sums", sum_of_squares, odd_terms, carry_and_clip, sums_in_double)
