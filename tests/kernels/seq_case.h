/* One case of an operation along the sequence, run on the CPU and compared with its reference.
 *
 * A case owns arrays in pairs: what the operation sees (weft_real, rows with padding of NaN behind them) and
 * what the reference sees (double, dense). seq_run() runs the operation with 1, 2 and 3 threads on a device
 * whose arena is exactly as large as a dry run asked for, and checks the outputs: near the reference, the
 * padding untouched, and equal bit for bit for every number of threads. */
#ifndef WEFT_TEST_SEQ_CASE_H
#define WEFT_TEST_SEQ_CASE_H

#include "kernels/ref_seq.h"
#include "ops.h"

#include <stdint.h>

#define SEQ_PAD 3 /* elements behind each row of a strided array */

typedef struct seq_array {
    const char *name; /* NULL: an input */
    int64_t rows, width, ld;
    weft_real *x, *start, *first; /* now; before the operation; after the run with one thread */
    double *ref;
    double *before; /* what a sum starts from, else NULL */
    double tolerance;
} seq_array;

typedef struct seq_case {
    uint64_t seed;
    int count;
    seq_array arrays[48];
} seq_case;

/* Arrays of rows x width with the stride ld. Inputs are uniform in [low, high). `*ref` receives the
 * reference's. */
weft_real *seq_input(seq_case *c, double **ref, int64_t rows, int64_t width, int64_t ld, double low,
                     double high);
/* Assigned by the operation: starts as NaN. tolerance: largest error over the largest element of the
 * reference. */
weft_real *seq_output(seq_case *c, const char *name, double **ref, int64_t rows, int64_t width, int64_t ld,
                      double tolerance);
/* Added to by the operation; the reference assigns. */
weft_real *seq_sum(seq_case *c, const char *name, double **ref, int64_t rows, int64_t width,
                   double tolerance);
/* An output of which the reference is known: ref [rows, width] is copied. */
weft_real *seq_again(seq_case *c, const char *name, const double *ref, int64_t rows, int64_t width,
                     double tolerance);
/* The reference's array of an input or output, as weft_real values: what one operation hands to another. */
void seq_give(seq_case *c, const weft_real *x);
void seq_free(seq_case *c);

/* Documents of random lengths, the first one begun before position pos0: doc_start [B*T]. To be freed. */
int32_t *seq_documents(uint64_t seed, int64_t B, int64_t T, int64_t pos0, int64_t mean_length);
/* The same as a chunk of a sequence sees it: positions from its row 0 on, starts before it negative. */
int32_t *seq_chunk_documents(uint64_t seed, int64_t B, int64_t T, int64_t mean_length);

typedef void (*seq_op)(weft_device *d, void *argument);
void seq_run(seq_case *c, seq_op op, void *argument, const char *what);

/* Central differences of loss() by `count` of the n elements of x against gradient[]. */
void seq_finite_difference(double (*loss)(void *), void *argument, double *x, const double *gradient,
                           int64_t n, const char *name);

/* The cases. Tolerances are for the build at hand. */
typedef struct conv_shape {
    int64_t B, T, E, K;
    int bias, halo, documents; /* halo: 2 for that of a chunk; documents: mean length, 0 for none */
    double forward, gradient;
} conv_shape;
void seq_conv(const conv_shape *s);

typedef struct scan_shape {
    int64_t B, T, E, N;
    int state, documents; /* state: with h0, hT, dhT, dh0; 2 for those of a chunk */
    double forward, gradient;
} scan_shape;
void seq_scan(const scan_shape *s);

typedef struct carry_shape {
    int64_t B, E, N;
    int cp;
    double tolerance;
} carry_shape;
void seq_carry(const carry_shape *s);

/* Convolution and scan over 2 * cp chunks as the ranks of a context parallel group run them, against one call
 * over the whole sequences. */
typedef enum chunk_documents {
    CHUNKS_NO_TABLE,
    CHUNKS_ONE,
    CHUNKS_RANDOM,
    CHUNKS_AT_BORDERS
} chunk_documents;
typedef struct chunk_shape {
    int64_t B, T, E, N, K; /* T: of a chunk */
    int cp;
    chunk_documents documents;
    double tolerance; /* largest difference over the largest element */
} chunk_shape;
void seq_chunks(const chunk_shape *s);

typedef struct attention_shape {
    int64_t B, Tq, Tk, H, G, d;
    int documents;
    double forward, gradient;
} attention_shape;
void seq_attention(const attention_shape *s);

typedef struct rope_shape {
    int64_t B, T, heads, d, pos0;
    double theta;
    int documents;
    double forward;
} rope_shape;
void seq_rope(const rope_shape *s);

typedef struct linear_shape {
    int64_t m, n, k;
    int bias, accumulate;
    double tolerance;
} linear_shape;
void seq_linear(const linear_shape *s);

typedef struct grouped_shape {
    int64_t g, n, k, rows[8];
    double tolerance;
} grouped_shape;
void seq_grouped(const grouped_shape *s);

#endif
