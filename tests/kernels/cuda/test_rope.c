/* Rotary position embedding, far positions included. */
#include "kernels/cuda/documents.h"
#include "support/suite.h"

static const weft_dtype types[] = {WEFT_F32, WEFT_BF16};
#define FOR_TYPES(t) for (int t = 0; t < 2; t++)

static const struct {
    int64_t B, T, heads, d, pad, pos0, off;
    float theta;
    int64_t documents; /* mean length, or 0 */
    bool inverse;
} cases[] = {
    {1, 0, 1, 8, 0, 0, 0, 1e4f, 0, false},       {1, 1, 1, 2, 0, 0, 0, 1e4f, 0, false},
    {2, 37, 3, 24, 0, 0, 0, 1e4f, 0, true},      {1, 70, 2, 64, 16, 5, 0, 5e5f, 0, false},
    {2, 65, 4, 10, 3, 9, 0, 1e4f, 20, false},    {2, 33, 1, 16, 8, 0, 0, 1e4f, 5, true},
    {1, 17, 2, 32, 0, 262127, 1, 1e6f, 0, true}, {1, 40, 1, 128, 0, 262104, 0, 1e6f, 0, false},
    {1, 1, 8, 32, 0, 262143, 0, 1e4f, 0, false}, {1, 3, 2, 2050, 6, 7, 0, 1e4f, 0, false}, /* over 48 KiB */
};

START_TEST(agrees_with_cpu) {
    FOR_TYPES(t) for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const int64_t B = cases[i].B, T = cases[i].T, heads = cases[i].heads, width = cases[i].d,
                      off = cases[i].off;
        const int64_t ld = heads * width + cases[i].pad, pos0 = cases[i].pos0;
        pair p;
        pair_open(&p, types[t]);
        pair_array x = pair_act(&p, off + B * T * ld, PAIR_UNIFORM(-1, 1));
        pair_array starts = cases[i].documents ? pair_documents(&p, B, T, pos0, 0, cases[i].documents) : -1;
        PAIR_RUN(&p, ops->rope(d, PAIR_AT(x, off), ld, B, T, heads, width, cases[i].theta, pos0, PAIR(starts),
                               cases[i].inverse));
        pair_check(&p, x, "x", 5e-7);
        pair_close(&p);
    }
}
END_TEST

SUITE_MAIN("cuda rope", agrees_with_cpu)
