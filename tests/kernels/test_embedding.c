/* Embedding. */
#include "kernels/ref_tok.h"

static const ref_tok_embedding_case cases[] = {
    /* M, D, rows, first, vocabulary, tolerance */
    {1, 1, 1, 0, 1, 1e-6},           {3, 24, 5, 0, 5, 1e-6},       {257, 65, 3, 0, 3, 2e-6},
    {257, 256, 1000, 0, 1000, 1e-6}, {257, 256, 1, 0, 1, 1e-5},    {3, 9, 65537, 0, 65537, 1e-6},
    {20000, 3, 7, 0, 7, 2e-4},                                   /* long sums in float, by one order */
    {2000, 40, 50, 0, 50, 4e-6},     {257, 65, 20, 0, 50, 2e-6}, /* parts of a vocabulary: the first, one
                                                                    between, the last, an empty one */
    {257, 65, 13, 20, 50, 2e-6},     {2000, 40, 17, 33, 50, 4e-6}, {257, 65, 0, 50, 50, 2e-6},
};

START_TEST(agrees_with_reference) {
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) ref_tok_check_embedding(&cases[i]);
}
END_TEST

/* Equal ids are added in the order of m: 2^24 swallows every 1 that comes after it, and none that comes
 * before. */
START_TEST(order_of_equal_ids) {
#if !WEFT_REAL_IS_DOUBLE
    weft_device d = {0};
    ck_assert_int_eq(weft_device_open_cpu(&d), WEFT_OK);
    const weft_real dy[6] = {1, 1, 16777216, 16777216, 1, 1};
    const int32_t ids[6] = {0, 0, 0, 1, 1, 1};
    weft_real table[2] = {0, 0};
    d.ops->embedding_bwd(&d, table, dy, ids, 6, 1, 0, 2);
    ck_assert(table[0] == 16777218.f && table[1] == 16777216.f);
    weft_device_close(&d);
#endif
}
END_TEST

/* The tables of two ranks, added, are the whole table: of rows and of gradients, bit for bit. */
START_TEST(parts_make_the_whole) {
    enum { M = 300, D = 19, V = 40, CUT = 27 };
    weft_device d = {0};
    ck_assert_int_eq(weft_device_open_cpu(&d), WEFT_OK);
    int32_t *ids = ref_tok_ids("ids", M, V);
    ref_tok_array table = ref_tok_random("table", V * D, 1), y[3], gradient[2];
    for (int i = 0; i < 3; i++) y[i] = ref_tok_random("y", M * D, 1);
    for (int i = 0; i < 2; i++) gradient[i] = ref_tok_random("gradient", V * D, 1);
    d.ops->embedding_fwd(&d, y[0].x, table.x, ids, M, D, 0, V);
    d.ops->embedding_fwd(&d, y[1].x, table.x, ids, M, D, 0, CUT);
    d.ops->embedding_fwd(&d, y[2].x, table.x + CUT * D, ids, M, D, CUT, V - CUT);
    for (int i = 0; i < M * D; i++) ck_assert(y[0].x[i] == y[1].x[i] + y[2].x[i]);
    d.ops->embedding_bwd(&d, gradient[0].x, y[0].x, ids, M, D, 0, V);
    d.ops->embedding_bwd(&d, gradient[1].x, y[0].x, ids, M, D, 0, CUT);
    d.ops->embedding_bwd(&d, gradient[1].x + CUT * D, y[0].x, ids, M, D, CUT, V - CUT);
    ck_assert_mem_eq(gradient[0].x, gradient[1].x, V * D * sizeof(weft_real));
    for (int i = 0; i < 3; i++) ref_tok_free(y[i]);
    for (int i = 0; i < 2; i++) ref_tok_free(gradient[i]);
    ref_tok_free(table);
    free(ids);
    weft_device_close(&d);
}
END_TEST

SUITE_MAIN("embedding", agrees_with_reference, order_of_equal_ids, parts_make_the_whole)
