/* kernels/runtime: arena, hash, RNG. */
#include "runtime/arena.h"
#include "runtime/hash.h"
#include "runtime/rng.h"
#include "runtime/text.h"
#include "support/suite.h"

#include <math.h>
#include <string.h>

START_TEST(arena_measures_what_it_needs) {
    weft_arena dry = {0}, real = {0};
    ck_assert_int_eq(weft_arena_init_measuring(&dry, "test"), WEFT_OK);
    for (int pass = 0; pass < 2; pass++) {
        weft_arena *a = pass ? &real : &dry;
        if (pass) ck_assert_int_eq(weft_arena_init(&real, "test", dry.peak), WEFT_OK);
        char *p = weft_arena_push(a, 100);
        size_t mark = weft_arena_mark(a);
        char *q = weft_arena_push(a, 1);
        ck_assert_int_eq((q - p) % WEFT_ARENA_ALIGN, 0);
        weft_arena_release(a, mark);
        char *r = weft_arena_push(a, 1000);
        ck_assert_ptr_eq(q, r);
        if (pass) memset(r, 1, 1000);
        ck_assert_uint_eq(a->peak, 128 + 1024);
    }
    weft_arena_destroy(&dry);
    weft_arena_destroy(&real);
}
END_TEST

START_TEST(philox_known_answers) {
    /* Random123's kat_vectors for philox4x32-10: counter and key zero. */
    uint32_t w[4];
    weft_rng_block((weft_rng){.key = 0}, 0, w);
    ck_assert_uint_eq(w[0], 0x6627e8d5u);
    ck_assert_uint_eq(w[1], 0xe169c58du);
    ck_assert_uint_eq(w[2], 0xbc57ac4cu);
    ck_assert_uint_eq(w[3], 0x9b00dbd8u);
}
END_TEST

START_TEST(normal_has_its_moments) {
    weft_rng r = weft_rng_make(1, "moments");
    double s1 = 0, s2 = 0, s4 = 0;
    const int n = 200000;
    for (int i = 0; i < n; i++) {
        double x = weft_rng_normal(r, (uint64_t)i);
        s1 += x, s2 += x * x, s4 += x * x * x * x;
    }
    ck_assert_double_lt(fabs(s1 / n), 0.01);
    ck_assert_double_lt(fabs(s2 / n - 1), 0.02);
    ck_assert_double_lt(fabs(s4 / n - 3), 0.1);
}
END_TEST

START_TEST(permutation_is_one) {
    for (uint64_t n = 1; n < 300; n = n * 3 / 2 + 1) {
        char seen[512] = {0};
        weft_rng r = weft_rng_make(n, "perm");
        int fixed = 0;
        for (uint64_t i = 0; i < n; i++) {
            uint64_t j = weft_rng_permute(r, i, n);
            ck_assert_uint_lt(j, n);
            ck_assert_int_eq(seen[j], 0);
            seen[j] = 1;
            fixed += i == j;
        }
        if (n > 100) ck_assert_int_lt(fixed, 10);
    }
    ck_assert_uint_ne(weft_rng_permute(weft_rng_make(1, "a"), 5, 1u << 20),
                      weft_rng_permute(weft_rng_make(1, "b"), 5, 1u << 20));
}
END_TEST

START_TEST(hash_and_names) {
    ck_assert_uint_eq(weft_hash64("", 0, 0),
                      0x2d06800538d394c2ull); /* XXH3's published value of the empty input */
    ck_assert_uint_ne(weft_rng_make(1, "x").key, weft_rng_make(2, "x").key);
    const char *const names[] = {"train.steps", "train.seq_len", "optim.lr"};
    ck_assert_int_eq(weft_nearest("train.step", names, 3), 0);
    ck_assert_int_eq(weft_nearest("zzz", names, 3), -1);
}
END_TEST

SUITE_MAIN("runtime", arena_measures_what_it_needs, philox_known_answers, normal_has_its_moments,
           permutation_is_one, hash_and_names)
