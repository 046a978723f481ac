/* Rotary embedding against the reference, far positions included. */
#include "kernels/seq_case.h"
#include "support/suite.h"

#include <math.h>

static const rope_shape shapes[] = {
    /* B, T, heads, d, pos0, theta, documents, forward */
    {1, 1, 1, 2, 0, 1e4, 0, 2e-7},         {2, 37, 3, 24, 0, 1e4, 0, 2e-7},
    {1, 257, 2, 64, 5, 5e5, 0, 2e-7},      {2, 130, 4, 10, 9, 1e4, 20, 2e-7},
    {1, 65, 1, 128, 262079, 1e6, 0, 2e-7}, {1, 1, 8, 32, 262143, 1e4, 0, 2e-7},
};

START_TEST(rope) {
    for (int i = 0; i < (int)(sizeof shapes / sizeof *shapes); i++) seq_rope(&shapes[i]);
}
END_TEST

/* The product of a turned query and a turned key depends on their distance only. */
START_TEST(only_distance_matters) {
    enum { T = 90, D = 8 };
    weft_device d;
    ck_assert_int_eq(weft_device_open_cpu(&d), WEFT_OK);
    ck_assert_int_eq(weft_device_size(&d, 1 << 20), WEFT_OK);
    weft_real x[2][T * D];
    for (int i = 0; i < T * D; i++) x[0][i] = x[1][i] = (weft_real)(i % D - 3);
    d.ops->rope(&d, x[0], D, 1, T, 1, D, 10000, 0, NULL, false);
    d.ops->rope(&d, x[1], D, 1, T, 1, D, 10000, 1000, NULL, false);
    for (int t = 0; t + 7 < T; t++) {
        double near = 0, far = 0;
        for (int i = 0; i < D; i++) {
            near += (double)x[0][t * D + i] * (double)x[0][(t + 7) * D + i];
            far += (double)x[1][t * D + i] * (double)x[1][(t + 7) * D + i];
        }
        ck_assert_double_lt(fabs(near - far), 2e-5);
    }
    weft_device_close(&d);
}
END_TEST

SUITE_MAIN("rope", rope, only_distance_matters)
