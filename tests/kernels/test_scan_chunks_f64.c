/* Chunks of context parallelism in double: what is left are rounding errors. */
#include "kernels/seq_case.h"
#include "support/suite.h"

START_TEST(carry) {
    for (int cp = 1; cp <= 4; cp++) seq_carry(&(carry_shape){2, 37, 16, cp, 1e-13});
    seq_carry(&(carry_shape){3, 130, 3, 3, 1e-13});
}
END_TEST

/* Every way documents may lie, for every number of ranks. */
START_TEST(chunks_make_the_whole) {
    static const int64_t lengths[] = {37, 3, 67};
    for (int cp = 1; cp <= 4; cp++)
        for (int documents = CHUNKS_NO_TABLE; documents <= CHUNKS_AT_BORDERS; documents++)
            for (int i = 0; i < 3; i++)
                seq_chunks(&(chunk_shape){2, lengths[i], 70, i == 1 ? 3 : 16, 4, cp, documents, 1e-12});
}
END_TEST

SUITE_MAIN("scan_chunks_f64", carry, chunks_make_the_whole)
