/* Embedding. */
#include "kernels/ref_tok.h"

static const ref_tok_embedding_case cases[] = {
    /* M, D, V, tolerance */
    {1, 1, 1, 1e-6},      {3, 24, 5, 1e-6},    {257, 65, 3, 2e-6},  {257, 256, 1000, 1e-6},
    {257, 256, 1, 1e-5},  {3, 9, 65537, 1e-6}, {20000, 3, 7, 2e-4}, /* long sums in float, by one order */
    {2000, 40, 50, 4e-6},
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
    d.ops->embedding_bwd(&d, table, dy, ids, 6, 1, 2);
    ck_assert(table[0] == 16777218.f && table[1] == 16777216.f);
    weft_device_close(&d);
#endif
}
END_TEST

SUITE_MAIN("embedding", agrees_with_reference, order_of_equal_ids)
