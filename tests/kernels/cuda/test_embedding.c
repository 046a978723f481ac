/* Embedding table: rows, and gradients in the CPU's bits, which are those of the order of m. */
#include "kernels/cuda/pair.h"
#include "runtime/rng.h"
#include "support/suite.h"

#include <stdlib.h>

static const weft_dtype types[] = {WEFT_F32, WEFT_BF16};
#define FOR_TYPES(t) for (int t = 0; t < 2; t++)

static const struct {
    int64_t M, D, V, first, words, off; /* V rows of a vocabulary of `words` */
} cases[] = {
    {0, 8, 5, 0, 5, 0},
    {1, 1, 1, 0, 1, 0},
    {3, 24, 5, 0, 5, 0},
    {257, 65, 3, 0, 3, 0},
    {70, 264, 1000, 0, 1000, 0},
    {1500, 8, 1, 0, 1, 0},
    {2500, 4, 700, 0, 700, 0},
    {1100, 1, 300000, 0, 300000, 0},
    {1025, 3, 512, 0, 512, 0},
    {300, 2, 65537, 0, 65537, 0},
    /* Parts of a vocabulary: the first, one between, the last, an empty one. */
    {257, 65, 20, 0, 50, 0},
    {257, 64, 13, 20, 50, 0},
    {1030, 40, 17, 33, 50, 1},
    {257, 65, 0, 50, 50, 0},
    {3, 1032, 2, 0, 3, 0},
};
#define CASES ((int)(sizeof cases / sizeof *cases))

static pair_array tokens(pair *p, int64_t M, int64_t words) {
    const weft_rng r = weft_rng_make(p->seed++, "ids");
    int32_t *ids = malloc((size_t)M * sizeof *ids + 1);
    for (int64_t m = 0; m < M; m++) ids[m] = (int32_t)weft_rng_below(r, (uint64_t)m, (uint64_t)words);
    pair_array a = pair_i32(p, ids, M);
    free(ids);
    return a;
}

START_TEST(rows) {
    FOR_TYPES(t) for (int i = 0; i < CASES; i++) {
        const int64_t M = cases[i].M, D = cases[i].D, V = cases[i].V, off = cases[i].off;
        pair p;
        pair_open(&p, types[t]);
        pair_array ids = tokens(&p, M, cases[i].words), y = pair_act_out(&p, off + M * D);
        pair_array table = pair_act(&p, off + V * D, PAIR_UNIFORM(-1, 1));
        PAIR_RUN(&p, ops->embedding_fwd(d, PAIR_AT(y, off), PAIR_AT(table, off), PAIR(ids), M, D,
                                        cases[i].first, V));
        pair_same(&p, y, "y");
        pair_close(&p);
    }
}
END_TEST

START_TEST(gradients) {
    FOR_TYPES(t) for (int i = 0; i < CASES; i++) {
        const int64_t M = cases[i].M, D = cases[i].D, V = cases[i].V, off = cases[i].off;
        pair p;
        pair_open(&p, types[t]);
        pair_array ids = tokens(&p, M, cases[i].words), dy = pair_act(&p, off + M * D, PAIR_UNIFORM(-1, 1));
        pair_array dtable = pair_real(&p, off + V * D, PAIR_UNIFORM(-1, 1));
        PAIR_RUN(&p, ops->embedding_bwd(d, PAIR_AT(dtable, off), PAIR_AT(dy, off), PAIR(ids), M, D,
                                        cases[i].first, V));
        pair_same(&p, dtable, "dtable");
        pair_close(&p);
    }
}
END_TEST

SUITE_MAIN("cuda embedding", rows, gradients)
