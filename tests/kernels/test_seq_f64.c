/* The kernels in double against the reference: what is left are rounding errors, so the formulas are the
 * same. */
#include "kernels/seq_case.h"
#include "support/suite.h"

#define COUNT(table) (int)(sizeof(table) / sizeof *(table))

START_TEST(mixers) {
    const conv_shape convs[] = {{2, 37, 24, 4, 1, 1, 9, 1e-13, 1e-13},
                                {1, 257, 9, 2, 0, 0, 30, 1e-13, 1e-13},
                                {3, 61, 24, 4, 1, 2, 40, 1e-13, 1e-13}};
    const scan_shape scans[] = {{2, 37, 24, 16, 1, 0, 1e-12, 1e-12},
                                {1, 257, 70, 5, 1, 30, 1e-12, 1e-12},
                                {3, 61, 70, 16, 2, 40, 1e-12, 1e-12}};
    const attention_shape attentions[] = {{1, 130, 130, 4, 2, 20, 30, 1e-12, 1e-12},
                                          {2, 2, 700, 4, 1, 32, 0, 1e-12, 1e-12}};
    const rope_shape ropes[] = {{2, 130, 2, 24, 100, 1e4, 20, 1e-11}};
    for (int i = 0; i < COUNT(convs); i++) seq_conv(&convs[i]);
    for (int i = 0; i < COUNT(scans); i++) seq_scan(&scans[i]);
    for (int i = 0; i < COUNT(attentions); i++) seq_attention(&attentions[i]);
    for (int i = 0; i < COUNT(ropes); i++) seq_rope(&ropes[i]);
}
END_TEST

START_TEST(layers) {
    const linear_shape linears[] = {{37, 65, 16, 1, 0, 1e-13}, {257, 100, 65, 1, 1, 1e-13}};
    const grouped_shape groups[] = {{4, 65, 33, {0, 137, 1, 0}, 1e-13}};
    for (int i = 0; i < COUNT(linears); i++) seq_linear(&linears[i]);
    for (int i = 0; i < COUNT(groups); i++) seq_grouped(&groups[i]);
}
END_TEST

SUITE_MAIN("seq_f64", mixers, layers)
