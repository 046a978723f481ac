/* Linear layers, plain and grouped, against the reference. */
#include "kernels/seq_case.h"
#include "support/suite.h"

#define COUNT(table) (int)(sizeof(table) / sizeof *(table))

static const linear_shape shapes[] = {
    /* m, n, k, bias, accumulate, tolerance */
    {1, 1, 1, 0, 0, 1e-6},      {1, 64, 48, 1, 0, 1e-6},    {37, 65, 33, 1, 0, 1e-6},
    {65, 257, 1, 0, 0, 1e-6},   {257, 100, 16, 1, 1, 1e-6}, {300, 256, 16, 1, 0, 1e-6},
    {130, 31, 32, 0, 1, 1e-6},  {64, 8, 100, 0, 1, 1e-6},   {257, 24, 65, 1, 0, 2e-6},
    {400, 190, 70, 1, 0, 2e-6}, {33, 520, 90, 0, 1, 1e-6},  {600, 16, 70, 1, 0, 2e-6},
};

START_TEST(linear_layers) {
    for (int i = 0; i < COUNT(shapes); i++) seq_linear(&shapes[i]);
}
END_TEST

static const grouped_shape groups[] = {
    /* g, n, k, rows of each group, tolerance */
    {1, 20, 30, {40}, 1e-6},
    {4, 65, 33, {0, 37, 1, 0}, 1e-6},
    {3, 24, 100, {0, 0, 0}, 1e-6},
    {8, 96, 64, {5, 0, 300, 64, 1, 0, 130, 17}, 2e-6},
};

START_TEST(grouped_layers) {
    for (int i = 0; i < COUNT(groups); i++) seq_grouped(&groups[i]);
}
END_TEST

SUITE_MAIN("linear", linear_layers, grouped_layers)
