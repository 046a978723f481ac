/* Sequences in the chunks of context parallelism against whole ones; the carry against its reference. */
#include "kernels/seq_case.h"
#include "support/suite.h"

#define COUNT(table) (int)(sizeof(table) / sizeof *(table))

START_TEST(carry) {
    const carry_shape shapes[] = {
        {1, 1, 1, 1, 1e-6},   {2, 24, 16, 1, 1e-6},  {3, 7, 5, 2, 1e-6},
        {2, 70, 16, 4, 1e-6}, {1, 300, 20, 3, 1e-6}, {4, 130, 16, 4, 1e-6},
    };
    for (int i = 0; i < COUNT(shapes); i++) seq_carry(&shapes[i]);
}
END_TEST

START_TEST(chunks_make_the_whole) {
    const chunk_shape shapes[] = {
        /* B, T of a chunk, E, N, K */
        {2, 37, 24, 16, 4, 1, CHUNKS_RANDOM, 5e-6},
        {2, 37, 24, 16, 4, 2, CHUNKS_AT_BORDERS, 5e-6},
        {2, 75, 70, 16, 4, 3, CHUNKS_RANDOM, 5e-6},
        {2, 33, 70, 5, 4, 4, CHUNKS_AT_BORDERS, 5e-6},
        {2, 41, 40, 16, 4, 4, CHUNKS_NO_TABLE, 5e-6},
        {2, 129, 9, 3, 4, 3, CHUNKS_ONE, 5e-6},
        {2, 3, 24, 4, 4, 4, CHUNKS_AT_BORDERS, 5e-6},
        {3, 5, 130, 16, 2, 4, CHUNKS_RANDOM, 5e-6},
        {2, 1, 8, 2, 1, 2, CHUNKS_ONE, 5e-6},
        {1, 1025, 16, 16, 4, 2, CHUNKS_NO_TABLE, 5e-6},
        {2, 257, 40, 16, 4, 4, CHUNKS_AT_BORDERS, 5e-6},
        {2, 64, 64, 16, 4, 1, CHUNKS_NO_TABLE, 5e-6},
    };
    for (int i = 0; i < COUNT(shapes); i++) seq_chunks(&shapes[i]);
}
END_TEST

SUITE_MAIN("scan_chunks", carry, chunks_make_the_whole)
