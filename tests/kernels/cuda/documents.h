/* Documents of random lengths for tests of operations along the sequence. */
#ifndef WEFT_TEST_DOCUMENTS_H
#define WEFT_TEST_DOCUMENTS_H

#include "kernels/cuda/pair.h"
#include "runtime/rng.h"

#include <stdlib.h>

/* doc_start [B*T] in positions of a sequence of which row 0 is position pos0; a document lasts `mean` tokens
 * on average. The first one began `before` positions earlier: before > pos0 gives negative starts, as the
 * chunks of context parallelism have them. */
static inline pair_array pair_documents(pair *p, int64_t B, int64_t T, int64_t pos0, int64_t before,
                                        int64_t mean) {
    const weft_rng r = weft_rng_make(p->seed++, "documents");
    int32_t *start = malloc((size_t)(B * T) * sizeof *start + 1);
    for (int64_t b = 0; b < B; b++) {
        int64_t now = pos0 - before;
        for (int64_t t = 0; t < T; t++) {
            if (weft_rng_below(r, (uint64_t)(b * T + t), (uint64_t)mean) == 0) now = pos0 + t;
            start[b * T + t] = (int32_t)now;
        }
    }
    const pair_array a = pair_i32(p, start, B * T);
    free(start);
    return a;
}

#endif
