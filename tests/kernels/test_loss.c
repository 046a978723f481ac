/* Softmax cross-entropy. */
#include "kernels/ref_tok.h"

static const ref_tok_loss_case cases[] = {
    /* M, V, deviation and shift of logits, gradient, tolerance */
    {1, 1, 1, 0, true, 1e-6},      {1, 3, 1, 0, true, 1e-6},      {3, 3, 4, 0, false, 1e-6},
    {257, 3, 1, -500, true, 1e-6}, {5, 17, 1, 300, false, 1e-6},  {7, 65, 20, 0, true, 1e-6},
    {3, 1000, 3, 0, false, 1e-6},  {257, 1000, 3, 0, true, 1e-6}, {1, 1000, 1, -200, true, 1e-6},
    {6, 65537, 2, 0, false, 1e-6}, {6, 65537, 2, 0, true, 1e-6},  {5, 2047, 40, 0, true, 1e-6},
    {1, 262144, 1, 0, true, 1e-6},
};

START_TEST(agrees_with_reference) {
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) ref_tok_check_loss(&cases[i]);
}
END_TEST

/* In one part, and in uneven ones: words without a neighbour, an empty part at the start, between and at the
 * end. */
START_TEST(parts_agree_with_reference) {
    const int64_t one[] = {0, 1000}, two[] = {0, 512, 1000}, five[] = {0, 17, 17, 400, 999, 1000};
    const int64_t edge[] = {0, 0, 65536, 65537, 65537}, small[] = {0, 1, 3};
    static const double tol = 2e-6;
    ref_tok_check_loss_parts(&(ref_tok_loss_case){257, 1000, 3, 0, true, tol}, one, 1);
    ref_tok_check_loss_parts(&(ref_tok_loss_case){5, 1000, 3, 0, false, tol}, one, 1);
    ref_tok_check_loss_parts(&(ref_tok_loss_case){257, 1000, 3, 0, true, tol}, two, 2);
    ref_tok_check_loss_parts(&(ref_tok_loss_case){257, 1000, 3, 0, true, tol}, five, 5);
    ref_tok_check_loss_parts(&(ref_tok_loss_case){7, 1000, 1, -200, false, tol}, five, 5);
    ref_tok_check_loss_parts(&(ref_tok_loss_case){7, 1000, 30, 300, true, tol}, five, 5);
    ref_tok_check_loss_parts(&(ref_tok_loss_case){6, 65537, 2, 0, true, tol}, edge, 4);
    ref_tok_check_loss_parts(&(ref_tok_loss_case){257, 3, 1, 0, true, tol}, small, 2);
}
END_TEST

enum { M = 3, V = 6 };
typedef struct small {
    double logits[M * V];
    int32_t targets[M];
} small;

static double total(void *of) {
    small *s = of;
    double loss[M], gradient[M * V], sum = 0;
    ref_tok_cross_entropy(loss, gradient, s->logits, s->targets, M, V, 1);
    for (int m = 0; m < M; m++) sum += 0.7 * loss[m];
    return sum;
}

START_TEST(reference_gradient_is_the_slope) {
    ref_tok_array logits = ref_tok_random("logits", M * V, 1);
    small s = {.targets = {V - 1, -1, 0}};
    memcpy(s.logits, logits.ref, sizeof s.logits);
    double loss[M], gradient[M * V];
    ref_tok_cross_entropy(loss, gradient, s.logits, s.targets, M, V, 0.7);
    ref_tok_slopes("cross entropy", total, &s, s.logits, gradient, M * V);
    ref_tok_free(logits);
}
END_TEST

/* A NaN or an infinity anywhere in the row, also one with a payload, makes the loss and the whole gradient
 * NaN; rows beside it and rows without a target are as ever. */
START_TEST(nan_is_seen) {
    enum { WORDS = 71 };
    weft_device d = {0};
    ck_assert_int_eq(weft_device_open_cpu(&d), WEFT_OK);
    weft_real bad[4] = {(weft_real)NAN, -(weft_real)NAN, (weft_real)INFINITY};
    memset(&bad[3], 0xff, sizeof bad[3]); /* a NaN whose payload has every bit set */
    for (int at = 0; at < WORDS; at++)
        for (int b = 0; b < 4; b++)
            for (int with_grad = 0; with_grad < 2; with_grad++) {
                weft_real logits[3 * WORDS] = {0}, loss[3];
                const int32_t targets[3] = {5, 5, -1};
                logits[at] = logits[2 * WORDS + at] = bad[b];
                d.ops->cross_entropy(&d, loss, logits, targets, 3, WORDS, 1, with_grad);
                ck_assert_msg(isnan(loss[0]), "NaN %d at %d gives a loss of %g", b, at, (double)loss[0]);
                ck_assert_double_eq_tol((double)loss[1], log(WORDS), 1e-5);
                ck_assert(loss[2] == 0);
                for (int j = 0; j < WORDS && with_grad; j++) {
                    ck_assert(isnan(logits[j]) && !isnan(logits[WORDS + j]));
                    ck_assert(logits[2 * WORDS + j] == 0);
                }
            }
    weft_device_close(&d);
}
END_TEST

/* A row in two parts, merged: loss and gradient replace it. */
static weft_real in_two_parts(weft_device *d, weft_real *row, int32_t target, int64_t cut, int64_t words) {
    weft_real parts[6], loss[2];
    d->ops->cross_entropy_partial(d, parts, row, &target, 1, 0, cut);
    d->ops->cross_entropy_partial(d, parts + 3, row + cut, &target, 1, cut, words - cut);
    d->ops->cross_entropy_merge(d, &loss[0], row, parts, 2, &target, 1, 0, cut, 1, true);
    d->ops->cross_entropy_merge(d, &loss[1], row + cut, parts, 2, &target, 1, cut, words - cut, 1, true);
    ck_assert_mem_eq(&loss[0], &loss[1], sizeof *loss);
    return loss[0];
}

/* ... in one part makes the gradient of both NaN. */
START_TEST(nan_is_seen_in_parts) {
    enum { WORDS = 71, CUT = 29 };
    weft_device d = {0};
    ck_assert_int_eq(weft_device_open_cpu(&d), WEFT_OK);
    const weft_real bad[2] = {(weft_real)NAN, (weft_real)INFINITY}, others[2] = {0, -(weft_real)INFINITY};
    for (int at = 0; at < WORDS; at++)
        for (int i = 0; i < 4; i++) {
            weft_real row[WORDS];
            for (int j = 0; j < WORDS; j++) row[j] = others[i / 2];
            row[at] = bad[i % 2];
            ck_assert(isnan(in_two_parts(&d, row, 40, CUT, WORDS)));
            for (int j = 0; j < WORDS; j++) ck_assert(isnan(row[j]));
        }
    weft_device_close(&d);
}
END_TEST

/* A part without a possible word: as if it were not there. */
START_TEST(masked_part) {
    enum { WORDS = 30, CUT = 20 };
    weft_device d = {0};
    ck_assert_int_eq(weft_device_open_cpu(&d), WEFT_OK);
    weft_real row[WORDS];
    for (int j = 0; j < WORDS; j++) row[j] = j < CUT ? -(weft_real)INFINITY : -300;
    ck_assert_double_eq_tol((double)in_two_parts(&d, row, CUT, CUT, WORDS), log(WORDS - CUT), 1e-6);
    for (int j = 0; j < WORDS; j++)
        ck_assert_double_eq_tol((double)row[j], j == CUT ? -0.9 : j < CUT ? 0 : 0.1, 1e-6);
    weft_device_close(&d);
}
END_TEST

/* -inf masks a word out: probability 0, no NaN. */
START_TEST(masked_words) {
    weft_device d = {0};
    ck_assert_int_eq(weft_device_open_cpu(&d), WEFT_OK);
    weft_real logits[20], loss;
    for (int j = 0; j < 20; j++) logits[j] = j % 2 ? (weft_real)-INFINITY : 0;
    const int32_t target = 4;
    d.ops->cross_entropy(&d, &loss, logits, &target, 1, 20, 1, true);
    ck_assert_double_eq_tol((double)loss, log(10), 1e-6);
    for (int j = 0; j < 20; j++)
        ck_assert_double_eq_tol((double)logits[j], j == 4 ? -0.9 : j % 2 ? 0 : 0.1, 1e-6);
    weft_device_close(&d);
}
END_TEST

/* The gradient alone: loss is optional. */
START_TEST(without_loss) {
    weft_device d = {0};
    ck_assert_int_eq(weft_device_open_cpu(&d), WEFT_OK);
    weft_real logits[2] = {0, 0};
    const int32_t target = 1;
    d.ops->cross_entropy(&d, NULL, logits, &target, 1, 2, 2, true);
    ck_assert_double_eq_tol((double)logits[0], 1, 1e-6);
    ck_assert_double_eq_tol((double)logits[1], -1, 1e-6);
    weft_device_close(&d);
}
END_TEST

SUITE_MAIN("loss", agrees_with_reference, parts_agree_with_reference, reference_gradient_is_the_slope,
           nan_is_seen, nan_is_seen_in_parts, masked_part, masked_words, without_loss)
