/* Sums, copies, casts and trees of sums: the CPU's bits, or those rounded to bf16. */
#include "kernels/cuda/pair.h"
#include "support/suite.h"

#include <math.h>

static const weft_dtype types[] = {WEFT_F32, WEFT_BF16};
#define FOR_TYPES(t) for (int t = 0; t < 2; t++)

/* Sizes around a pack and a block; at `off` elements from where a pack begins. */
static const struct {
    int64_t n, off;
} flats[] = {{0, 0}, {1, 0}, {3, 1}, {8, 0}, {24, 0}, {65, 0}, {257, 1}, {1023, 0}, {2056, 3}, {5001, 0}};
#define FLATS ((int)(sizeof flats / sizeof *flats))

START_TEST(sums) {
    FOR_TYPES(t) for (int i = 0; i < FLATS; i++) {
        const int64_t n = flats[i].n, off = flats[i].off;
        pair p;
        pair_open(&p, types[t]);
        pair_array a = pair_act(&p, n + off, PAIR_UNIFORM(-1, 1)),
                   b = pair_act(&p, n + off, PAIR_UNIFORM(-1, 1));
        pair_array y = pair_act_out(&p, n + off), z = pair_act(&p, n + off, PAIR_UNIFORM(-1, 1));
        pair_array r = pair_real(&p, n + off, PAIR_UNIFORM(-1, 1)),
                   s = pair_real(&p, n + off, PAIR_UNIFORM(-1, 1));
        PAIR_RUN(&p, ops->add(d, PAIR_AT(y, off), PAIR_AT(a, off), PAIR_AT(b, off), n);
                 ops->axpy(d, PAIR_AT(z, off), -0.3f, PAIR_AT(a, off), n);
                 ops->add_real(d, PAIR_AT(r, off), PAIR_AT(s, off), n));
        pair_same(&p, y, "a + b");
        pair_check(&p, z, "y + alpha x", 1e-7); /* one rounding or two */
        pair_same(&p, r, "y + x");
        PAIR_RUN(&p, ops->add(d, PAIR_AT(a, off), PAIR_AT(a, off), PAIR_AT(b, off), n));
        pair_same(&p, a, "a + b in a");
        PAIR_RUN(&p, ops->add(d, PAIR_AT(b, off), PAIR_AT(a, off), PAIR_AT(b, off), n));
        pair_same(&p, b, "a + b in b");
        pair_close(&p);
    }
}
END_TEST

START_TEST(copies) {
    FOR_TYPES(t) for (int i = 0; i < FLATS; i++) {
        const int64_t n = flats[i].n, off = flats[i].off;
        pair p;
        pair_open(&p, types[t]);
        pair_array x = pair_act(&p, n + off, PAIR_UNIFORM(-1, 1)), y = pair_act_out(&p, n + off);
        pair_array z = pair_act(&p, n + off, PAIR_UNIFORM(-1, 1));
        PAIR_RUN(&p, const size_t bytes = (size_t)n * weft_dtype_size(d->act_dtype);
                 ops->copy(d, PAIR_AT(y, off), PAIR_AT(x, off), bytes); ops->zero(d, PAIR_AT(z, off), bytes));
        pair_same(&p, y, "copy");
        pair_same(&p, z, "zero");
        pair_close(&p);
    }
}
END_TEST

START_TEST(copies_of_rows) {
    static const struct {
        int64_t M, D, ldy, ldx, off;
    } cases[] = {{0, 8, 8, 8, 0},       {1, 1, 1, 1, 0},          {3, 5, 7, 6, 0},
                 {70, 8, 16, 24, 0},    {70, 8, 16, 25, 0},       {9, 16, 24, 16, 1},
                 {5, 264, 272, 264, 0}, {2, 2056, 2056, 4112, 0}, {3, 1001, 1001, 1008, 0}};
    FOR_TYPES(t) for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const int64_t M = cases[i].M, D = cases[i].D, off = cases[i].off;
        pair p;
        pair_open(&p, types[t]);
        pair_array x = pair_act(&p, M * cases[i].ldx + off, PAIR_UNIFORM(-1, 1));
        pair_array y = pair_act_out(&p, M * cases[i].ldy + off);
        PAIR_RUN(&p, ops->copy_rows(d, PAIR_AT(y, off), cases[i].ldy, PAIR_AT(x, off), cases[i].ldx, M, D));
        pair_same(&p, y, "copy of rows");
        pair_close(&p);
    }
}
END_TEST

START_TEST(permutation) {
    enum { N = 300 };
    int32_t place_of[N];
    for (int i = 0; i < N; i++) place_of[i] = i * 7 % N;
    for (int inverse = 0; inverse < 2; inverse++) {
        pair p;
        pair_open(&p, WEFT_F32);
        pair_array x = pair_real(&p, N, PAIR_UNIFORM(-1, 1)), y = pair_real_out(&p, N);
        pair_array place = pair_i32(&p, place_of, N);
        PAIR_RUN(&p, ops->permute_real(d, PAIR(y), PAIR(x), PAIR(place), N, inverse);
                 ops->permute_real(d, PAIR(y), PAIR(x), PAIR(place), 0, inverse));
        pair_same(&p, y, "permuted");
        pair_close(&p);
    }
}
END_TEST

/* Numbers that lie between two of bf16: ties both ways, what becomes infinite, subnormal ones. */
static const double between[] = {
    0x1.01p0,   0x1.03p0,       0x1.010002p0, 0x1.00fffep0, -0x1.01p3, 0x1.fffp3,      0x1.ffp127,
    0x1.fep127, 0x1.fefffep127, -0x1.ffp127,  0x1p-133,     0x1p-134,  0x1.8p-134,     0x1p-149,
    0.0,        -0.0,           INFINITY,     -INFINITY,    NAN,       0x1.fefffep-127};
#define BETWEEN ((int64_t)(sizeof between / sizeof *between))

START_TEST(casts) {
    FOR_TYPES(t) for (int i = 0; i < FLATS; i++) {
        const int64_t n = flats[i].n, off = flats[i].off;
        pair p;
        pair_open(&p, types[t]);
        pair_array real = pair_real(&p, n + off, PAIR_UNIFORM(-9, 9)), y = pair_act_out(&p, n + off);
        pair_array act = pair_act(&p, n + off, PAIR_UNIFORM(-9, 9)), wide = pair_real_out(&p, n + off);
        pair_array same = pair_act_out(&p, n + off), copy = pair_real_out(&p, n + off);
        for (int64_t k = 0; k < BETWEEN && off + k < n; k++) {
            pair_put(&p, real, off + k, between[k]);
            pair_put(&p, act, off + k, between[k]);
        }
        PAIR_RUN(&p, const weft_dtype type = d->act_dtype;
                 ops->cast(d, PAIR_AT(y, off), type, PAIR_AT(real, off), WEFT_F32, n);
                 ops->cast(d, PAIR_AT(wide, off), WEFT_F32, PAIR_AT(act, off), type, n);
                 ops->cast(d, PAIR_AT(same, off), type, PAIR_AT(act, off), type, n);
                 ops->cast(d, PAIR_AT(copy, off), WEFT_F32, PAIR_AT(real, off), WEFT_F32, n));
        pair_same(&p, y, "narrowed");
        pair_same(&p, wide, "widened");
        pair_same(&p, same, "as it is");
        pair_same(&p, copy, "float");
        pair_close(&p);
    }
}
END_TEST

static void tree(weft_dtype type, int64_t count, int64_t n, int64_t stride, bool accumulate) {
    pair p;
    pair_open(&p, type);
    pair_array real = pair_real(&p, count * stride, PAIR_UNIFORM(-1, 1));
    pair_array act = pair_act(&p, count * stride, PAIR_UNIFORM(-1, 1));
    pair_array real_of_real = pair_real(&p, n, PAIR_UNIFORM(-1, 1)), act_of_real = pair_act_out(&p, n);
    pair_array real_of_act = pair_real(&p, n, PAIR_UNIFORM(-1, 1)), act_of_act = pair_act_out(&p, n);
    const weft_dtype f = WEFT_F32;
    PAIR_RUN(&p, const weft_dtype t = d->act_dtype;
             ops->tree_sum(d, PAIR(real_of_real), f, PAIR(real), f, stride, count, n, accumulate);
             ops->tree_sum(d, PAIR(act_of_real), t, PAIR(real), f, stride, count, n, false);
             ops->tree_sum(d, PAIR(real_of_act), f, PAIR(act), t, stride, count, n, accumulate);
             ops->tree_sum(d, PAIR(act_of_act), t, PAIR(act), t, stride, count, n, false));
    pair_same(&p, real_of_real, "float of float");
    pair_same(&p, act_of_real, "act of float");
    pair_same(&p, real_of_act, "float of act");
    pair_same(&p, act_of_act, "act of act");
    PAIR_RUN(&p, ops->tree_sum(d, PAIR(real), f, PAIR(real), f, stride, count, n, accumulate);
             ops->tree_sum(d, PAIR(act), d->act_dtype, PAIR(act), d->act_dtype, stride, count, n, false));
    pair_same(&p, real, "in part 0");
    pair_same(&p, act, "act in part 0");
    pair_close(&p);
}

START_TEST(trees) {
    FOR_TYPES(t) {
        for (int64_t count = 1; count <= 34; count++)
            tree(types[t], count, 13, count % 2 ? 16 : 15, count % 3 == 0);
        tree(types[t], 63, 40, 40, false);
        tree(types[t], 64, 40, 40, true);
        tree(types[t], 203, 3, 3, true);
        tree(types[t], 3, 2100, 2104, true);
        tree(types[t], 5, 0, 0, false);
    }
}
END_TEST

SUITE_MAIN("cuda elementwise", sums, copies, copies_of_rows, permutation, casts, trees)
