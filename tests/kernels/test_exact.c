/* The exact sum: against 128-bit integers, in any order, at the ends of its range. */
#include "runtime/exact.h"
#include "runtime/rng.h"
#include "support/suite.h"

#include <math.h>
#include <string.h>

static weft_exact sum_of(const double *terms, int n) {
    weft_exact sum = {{0}, 0};
    for (int i = 0; i < n; i++) weft_exact_add(&sum, terms[i]);
    return sum;
}
#define SUM(...)                                                                                             \
    sum_of((const double[]){__VA_ARGS__}, (int)(sizeof((const double[]){__VA_ARGS__}) / sizeof(double)))
#define VALUE(...) value_of(SUM(__VA_ARGS__))
static double value_of(weft_exact sum) {
    return weft_exact_value(&sum);
}

/* Terms of 53 bits at random places within 60, of both signs: their sum is a 128-bit integer, which the
 * compiler rounds to nearest. Everywhere in the range. */
START_TEST(agrees_with_integers) {
    weft_rng rng = weft_rng_make(1, "terms");
    uint64_t at = 0;
    for (int low = -320; low <= 320; low += 5)
        for (int n = 1; n <= 64; n *= 4) {
            weft_exact sum = {{0}, 0};
            __int128 want = 0;
            for (int i = 0; i < n; i++) {
                int64_t mantissa = (int64_t)weft_rng_below(rng, at++, (uint64_t)1 << 53);
                int place = (int)weft_rng_below(rng, at++, 61);
                if (weft_rng_below(rng, at++, 2)) mantissa = -mantissa;
                weft_exact_add(&sum, ldexp((double)mantissa, low + place));
                want += (__int128)mantissa * ((__int128)1 << place);
            }
            double got = weft_exact_value(&sum);
            ck_assert_msg(got == ldexp((double)want, low), "%d terms from 2^%d on: %a, should be %a", n, low,
                          got, ldexp((double)want, low));
        }
}
END_TEST

/* Terms of all sizes: whatever the order and however they are shared out, the words are the same. */
START_TEST(order_does_not_matter) {
    enum { N = 1000, RANKS = 7 };
    weft_rng rng = weft_rng_make(2, "order");
    double terms[N];
    for (int i = 0; i < N; i++) {
        double exponent = (double)weft_rng_below(rng, (uint64_t)i, 760) - 315;
        terms[i] = ldexp(weft_rng_normal(rng, (uint64_t)i), (int)exponent);
    }
    weft_exact want = sum_of(terms, N);
    for (uint64_t round = 0; round < 20; round++) {
        weft_exact ranks[RANKS] = {{{0}, 0}}, got = {{0}, 0};
        for (int i = N - 1; i >= 0; i--) {
            int j = (int)weft_rng_below(rng, N * round + (uint64_t)i, (uint64_t)i + 1);
            double term = terms[j];
            terms[j] = terms[i];
            terms[i] = term;
            weft_exact_add(&ranks[weft_rng_below(rng, (uint64_t)i, RANKS)], term);
        }
        for (int r = 0; r < RANKS; r++) weft_exact_merge(&got, &ranks[r]);
        ck_assert_mem_eq(&got, &want, sizeof want);
    }
    for (int i = 0; i < N; i++) weft_exact_add(&want, -terms[i]);
    ck_assert(weft_exact_value(&want) == 0);
}
END_TEST

START_TEST(small_terms_survive_large_ones) {
    ck_assert(VALUE(0x1p447, 0x1p-320, -0x1p447) == 0x1p-320);
    ck_assert(VALUE(-0x1p447, -0x1.8p-300, 0x1p447) == -0x1.8p-300);
    ck_assert(VALUE(1e100, 1, -1e100) == 1);
    ck_assert(VALUE(0x1p32, -1) == 0xffffffffp0);
    ck_assert(VALUE(-0x1p64, 1) == -0x1p64);
    ck_assert(VALUE(1, -1) == 0 && VALUE(0.) == 0);
}
END_TEST

/* To nearest, ties to even; a bit far below decides. */
START_TEST(value_is_rounded_to_nearest) {
    for (int place = -200; place <= 300; place++)
        for (int sign = -1; sign <= 1; sign += 2) {
            double one = ldexp(sign, place), half = ldexp(one, -53), tiny = ldexp(sign, -320);
            double next = one + 2 * half, after = one + 4 * half;
            ck_assert(VALUE(one, half) == one);
            ck_assert(VALUE(one, half, tiny) == next);
            ck_assert(VALUE(next, half) == after);
            ck_assert(VALUE(next, half, -tiny) == next);
        }
}
END_TEST

START_TEST(ends_of_the_range) {
    const double largest = nextafter(0x1p448, 0);
    ck_assert(VALUE(largest) == largest && VALUE(-largest) == -largest);
    ck_assert(VALUE(largest, largest, largest) == 3 * largest);
    ck_assert(VALUE(0x1p-320) == 0x1p-320);
    /* Bits below the lowest are dropped. */
    ck_assert(VALUE(0x1.8p-320) == 0x1p-320 && VALUE(-0x1.8p-320) == -0x1p-320);
    ck_assert(VALUE(0x1.fp-321) == 0 && VALUE(0x1p-500, 0x1p-1074, 0x1p-1022, -0.) == 0);
    const double odd[] = {0x1p448, -0x1p448, 1e308, INFINITY, -INFINITY, NAN, -NAN};
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
        weft_exact sum = SUM(1, odd[i], -odd[i]);
        ck_assert(sum.odd == 2 && isnan(weft_exact_value(&sum)));
        weft_exact other = SUM(2);
        weft_exact_merge(&other, &sum);
        ck_assert(other.odd == 2 && isnan(weft_exact_value(&other)));
    }
}
END_TEST

/* 2^31 terms whose digits are all ones lose no carry. */
START_TEST(room_for_carries) {
    for (int sign = -1; sign <= 1; sign += 2)
        for (int place = 0; place < 32; place++) {
            const double term = ldexp(sign * 0x1.fffffffffffffp52, place);
            weft_exact sum = SUM(term);
            for (int i = 0; i < 31; i++) {
                weft_exact same = sum;
                weft_exact_merge(&sum, &same);
            }
            ck_assert(weft_exact_value(&sum) == ldexp(term, 31));
        }
}
END_TEST

SUITE_MAIN("exact", agrees_with_integers, order_does_not_matter, small_terms_survive_large_ones,
           value_is_rounded_to_nearest, ends_of_the_range, room_for_carries)
