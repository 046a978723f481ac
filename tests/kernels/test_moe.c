/* Moving rows to experts and back. */
#include "kernels/ref_tok.h"

static const ref_tok_moe_case cases[] = {
    /* M, k, X, D, experts chosen, accumulate, in place, tolerance */
    {1, 1, 2, 1, REF_TOK_ANY, false, false, 1e-6},
    {1, 2, 3, 24, REF_TOK_ANY, true, true, 1e-6},
    {3, 2, 16, 65, REF_TOK_ANY, true, false, 1e-6}, /* more experts than slots */
    {3, 17, 17, 5, REF_TOK_ANY, false, true, 1e-6},
    {257, 2, 4, 256, REF_TOK_ANY, true, false, 1e-6},
    {257, 2, 4, 66, REF_TOK_ONE_EXPERT, false, true, 1e-6},
    {257, 3, 17, 65, REF_TOK_EVEN_ONLY, true, true, 1e-6},
    {20000, 2, 5, 3, REF_TOK_ANY, false, false, 1e-6}, /* several blocks of slots */
    {20000, 2, 5, 1, REF_TOK_ONE_EXPERT, true, true, 1e-6},
};

START_TEST(agrees_with_reference) {
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) ref_tok_check_moe(&cases[i]);
}
END_TEST

/* gather_rows_bwd is the dual of gather_rows, and moe_combine_bwd the gradient of the bilinear moe_combine:
 * <gather x, y> = <x, gather_bwd y>;  <combine(w, x), r> = <w, dw> = <x, dx>. */
START_TEST(backward_is_the_dual) {
    enum { M = 33, K = 3, X = 7, D = 41 };
    weft_device d = {0};
    ck_assert_int_eq(weft_device_open_cpu(&d), WEFT_OK);
    ck_assert_int_eq(weft_device_size(&d, 1 << 16), WEFT_OK);
    int32_t *ids = ref_tok_ids("ids", M * K, X), slot_of[M * K], row_of[M * K];
    int64_t offsets[X + 1];
    d.ops->moe_sort(&d, offsets, slot_of, row_of, ids, M, K, X);
    ref_tok_array x = ref_tok_random("x", M * D, 1), y = ref_tok_random("y", M * K * D, 1);
    ref_tok_array w = ref_tok_random("w", M * K, 1), wide = ref_tok_random("wide", M * K * D, 1);
    ref_tok_array r = ref_tok_random("r", M * D, 1), dw = ref_tok_random("dw", M * K, 1);
    double a[5] = {0};
    d.ops->gather_rows(&d, wide.x, x.x, row_of, M * K, D);
    for (int i = 0; i < M * K * D; i++) a[0] += (double)wide.x[i] * (double)y.x[i];
    d.ops->gather_rows_bwd(&d, x.x, y.x, slot_of, M, K, D, false);
    for (int i = 0; i < M * D; i++) a[1] += x.ref[i] * (double)x.x[i];
    ck_assert_double_eq_tol(a[0], a[1], 1e-4 * fabs(a[0]));

    d.ops->moe_combine(&d, x.x, y.x, w.x, slot_of, M, K, D);
    for (int i = 0; i < M * D; i++) a[2] += (double)x.x[i] * (double)r.x[i];
    d.ops->moe_combine_bwd(&d, wide.x, dw.x, r.x, y.x, w.x, slot_of, M, K, D);
    for (int i = 0; i < M * K; i++) a[3] += w.ref[i] * (double)dw.x[i];
    for (int i = 0; i < M * K * D; i++) a[4] += (double)wide.x[i] * y.ref[i];
    ck_assert_double_eq_tol(a[2], a[3], 1e-4 * fabs(a[2]));
    ck_assert_double_eq_tol(a[2], a[4], 1e-4 * fabs(a[2]));
    ref_tok_array all[] = {x, y, w, wide, r, dw};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) ref_tok_free(all[i]);
    free(ids);
    weft_device_close(&d);
}
END_TEST

/* One source, one expert, no rows at all, pairs without rows. */
START_TEST(regroup_sorts_by_expert) {
    const int64_t cases[][3] = {{1, 1, 0}, {1, 1, 5},   {4, 1, 3}, {1, 8, 3},
                                {2, 4, 1}, {5, 16, 40}, {16, 3, 0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        ref_tok_check_regroup(cases[i][0], cases[i][1], cases[i][2]);
}
END_TEST

SUITE_MAIN("moe", agrees_with_reference, backward_is_the_dual, regroup_sorts_by_expert)
