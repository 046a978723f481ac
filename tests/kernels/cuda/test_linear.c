/* Linear layers on a CUDA device against the CPU. */
#include "kernels/cuda/pair.h"
#include "support/suite.h"

#include <math.h>
#include <string.h>

#define COUNT(table) (int)(sizeof(table) / sizeof *(table))

/* The strides are wider than the rows by `wide` elements; arrays begin `shift` elements behind an aligned
 * address. */
typedef struct linear_shape {
    int64_t m, n, k, wide, shift;
    bool bias, accumulate;
} linear_shape;

static const linear_shape shapes[] = {
    {1, 1, 1, 0, 0, 0, 0},
    {1, 64, 48, 0, 0, 1, 0},
    {37, 65, 33, 0, 0, 1, 0},
    {65, 257, 1, 3, 0, 0, 0},
    {100, 100, 16, 8, 0, 1, 1},
    {300, 64, 16, 0, 0, 1, 0},
    {130, 31, 32, 0, 1, 0, 1},
    {64, 8, 100, 5, 4, 0, 1},
    {257, 24, 65, 0, 0, 1, 0},
    {33, 120, 90, 16, 8, 1, 1},
    {600, 16, 70, 0, 2, 1, 0},
    {17, 24, 40, 1, 3, 1, 1},
    /* nothing to sum, nothing to write (BLAS wants strides above 0) */
    {20, 7, 0, 2, 0, 1, 0},
    {20, 7, 0, 2, 0, 1, 1},
    {20, 7, 0, 2, 1, 0, 0},
    {20, 7, 0, 2, 0, 0, 1},
    {5, 0, 7, 2, 0, 1, 0},
    {5, 0, 7, 2, 0, 0, 1},
    {0, 5, 7, 0, 0, 1, 0},
    /* enough rows for every part of the bias's gradient */
    {16500, 3, 2, 0, 0, 1, 0},
    {800, 264, 2, 8, 0, 1, 0},
};

static pair_array input(pair *p, int64_t rows, int64_t ld, int64_t shift) {
    return pair_act(p, rows * ld + shift, PAIR_UNIFORM(-1, 1));
}

/* Sums run in float in another order: 1e-5. A result in bf16 is rounded once, which pair_check allows for. */
static void check_linear(weft_dtype type, const linear_shape *s) {
    pair p;
    pair_open(&p, type);
    const int64_t m = s->m, n = s->n, k = s->k, at = s->shift, ldx = k + s->wide, ldy = n + s->wide;
    const pair_array x = input(&p, m, ldx, at), w = input(&p, n, k, at), dy = input(&p, m, ldy, at);
    const pair_array bias = s->bias ? input(&p, 1, n, at) : -1;
    const pair_array y = s->accumulate ? input(&p, m, ldy, at) : pair_act_out(&p, m * ldy + at);
    const pair_array dx = s->accumulate ? input(&p, m, ldx, at) : pair_act_out(&p, m * ldx + at);
    const pair_array logits = pair_real_out(&p, m * ldy + at);
    const pair_array dw = pair_real(&p, n * k + at, PAIR_UNIFORM(-1, 1));
    const pair_array dbias = s->bias ? pair_real(&p, n + at, PAIR_UNIFORM(-1, 1)) : -1;
    PAIR_RUN(&p, {
        ops->linear_fwd(d, PAIR_AT(y, at), ldy, PAIR_AT(x, at), ldx, PAIR_AT(w, at), PAIR_AT(bias, at), m, n,
                        k, s->accumulate);
        ops->linear_fwd_real(d, PAIR_AT(logits, at), ldy, PAIR_AT(x, at), ldx, PAIR_AT(w, at), m, n, k);
        ops->linear_dgrad(d, PAIR_AT(dx, at), ldx, PAIR_AT(dy, at), ldy, PAIR_AT(w, at), m, n, k,
                          s->accumulate);
        ops->linear_wgrad(d, PAIR_AT(dw, at), PAIR_AT(dbias, at), PAIR_AT(dy, at), ldy, PAIR_AT(x, at), ldx,
                          m, n, k);
    });
    /* y + a bias that is not aligned is rounded before the product is added. */
    const bool twice = type == WEFT_BF16 && s->bias && s->accumulate && at % 8;
    pair_check(&p, y, "y", twice ? 4e-3 : 1e-5);
    pair_check(&p, logits, "logits", 1e-5);
    pair_check(&p, dx, "dx", 1e-5);
    pair_check(&p, dw, "dw", 1e-5);
    if (s->bias) pair_check(&p, dbias, "dbias", 1e-5);
    pair_close(&p);
}

START_TEST(layers_in_float) {
    for (int i = 0; i < COUNT(shapes); i++) check_linear(WEFT_F32, &shapes[i]);
}
END_TEST

START_TEST(layers_in_bf16) {
    for (int i = 0; i < COUNT(shapes); i++) check_linear(WEFT_BF16, &shapes[i]);
}
END_TEST

/* The second product of a shape finds what the first has left: nothing of the first's arrays may be in it,
 * nor of other shapes. The workspace begins anywhere. */
START_TEST(many_shapes_again) {
    enum { M = 64, N = 16, K = 32 };
    pair p;
    pair_open(&p, WEFT_BF16);
    pair_array x[2], w[2], bias[2], y[2];
    for (int i = 0; i < 2; i++) {
        x[i] = input(&p, M, K, 0), w[i] = input(&p, N, K, 0), bias[i] = input(&p, 1, N, 0);
        y[i] = pair_act_out(&p, M * (M + 1) / 2 * N);
    }
    PAIR_RUN(&p, {
        const size_t mark = weft_arena_mark(&d->act);
        weft_arena_push(&d->act, 64);
        for (int i = 0; i < 4; i++)
            for (int m = 1, row = 0; m <= M; row += m++)
                ops->linear_fwd(d, PAIR_AT(y[i % 2], row * N), N, PAIR(x[i % 2]), K, PAIR(w[i % 2]),
                                PAIR(bias[i % 2]), m, N, K, false);
        weft_arena_release(&d->act, mark);
    });
    pair_check(&p, y[0], "y", 1e-5);
    pair_check(&p, y[1], "y of the second", 1e-5);
    pair_close(&p);
}
END_TEST

/* Factors keep 11 bits of their fractions in TF32; those in bf16 have fewer. */
static double layer_in_tf32(weft_dtype type) {
    enum { M = 64, N = 32, K = 64 };
    const weft_cuda_options o = {.act = type, .tf32 = true, .attention = WEFT_ATTENTION_WEFT};
    double worst = 0;
    pair p;
    pair_open(&p, type);
    weft_device_close(&p.gpu);
    ck_assert(weft_device_open_cuda(&p.gpu, &o) == WEFT_OK);
    const pair_array x = input(&p, M, K, 0), w = input(&p, N, K, 0), y = pair_real_out(&p, M * N);
    PAIR_RUN(&p, ops->linear_fwd_real(d, PAIR(y), N, PAIR(x), K, PAIR(w), M, N, K));
    pair_check(&p, y, "y", 1e-3);
    for (int64_t i = 0; i < M * N; i++)
        worst = fmax(worst, fabs(pair_gpu_value(&p, y, i) - pair_cpu_value(&p, y, i)));
    pair_close(&p);
    return worst;
}

START_TEST(layers_in_tf32) {
    ck_assert(layer_in_tf32(WEFT_BF16) < 1e-5);
    const double apart = layer_in_tf32(WEFT_F32);
    /* A GPU may multiply more exactly than it was told to. */
    if (strstr(weft_cuda_version(), "emulated")) ck_assert_msg(apart > 1e-5, "the factors were not rounded");
}
END_TEST

SUITE_MAIN("linear on CUDA", layers_in_float, layers_in_bf16, many_shapes_again, layers_in_tf32)
