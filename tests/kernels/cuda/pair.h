/* One case of an operation, run on the CPU and on a CUDA device with the same numbers, and compared.
 *
 * Arrays come in pairs: the CPU's in weft_real (float), the device's in its own type. Inputs are rounded to
 * the device's type first, so that both sides see the same numbers; the arithmetic of both is float. Use:
 *
 *   pair p;  pair_open(&p, WEFT_BF16);
 *   pair_array x = pair_act(&p, n, PAIR_UNIFORM(-1, 1)), y = pair_act_out(&p, n), dw = pair_real_sum(&p, n);
 *   PAIR_RUN(&p, ops->rmsnorm_fwd(d, PAIR(y), ...));     runs with d, ops of either side
 *   pair_check(&p, y, "y", 1e-5);                         NaN-safe; prints the worst element when it fails
 *   pair_close(&p);
 *
 * Outputs start as NaN on both sides; sums start from the same numbers. Device arrays have 64 elements of a
 * known pattern before and behind them, which pair_close checks. The workspace arena of the device is exactly
 * as large as a dry run of the same call asks for. */
#ifndef WEFT_TEST_PAIR_H
#define WEFT_TEST_PAIR_H

#include "ops.h"

#define PAIR_ARRAYS 64
#define PAIR_STAGES 16

typedef struct pair_fill {
    double low, high;
} pair_fill;
#define PAIR_UNIFORM(a, b) ((pair_fill){(a), (b)})

typedef int pair_array; /* index; -1: NULL */

typedef struct pair_one {
    int64_t n;
    weft_dtype cpu_type, type;
    void *cpu, *gpu; /* gpu: behind its guard */
    void *before;    /* CPU copy of what a run starts from */
    size_t guard;
} pair_one;

typedef struct pair {
    weft_device cpu, gpu;
    weft_mark ready;
    bool on_gpu; /* which side PAIR() means at the moment */
    uint64_t seed;
    int count;
    pair_one arrays[PAIR_ARRAYS];
    /* Pinned memory for moves, each twice the one before; freed at the end only, for to free it waits for all streams,
     * and would hide work that an operation left on another. */
    void *stage[PAIR_STAGES];
    size_t stage_bytes;
    int stages;
} pair;

/* act: WEFT_F32 or WEFT_BF16. Exits with status 77 (skipped) when this machine has no CUDA device. */
void pair_open(pair *p, weft_dtype act);
void pair_close(pair *p);

pair_array pair_act(pair *p, int64_t n, pair_fill f);  /* activations: an input, or read and written */
pair_array pair_real(pair *p, int64_t n, pair_fill f); /* weft_real */
pair_array pair_act_out(pair *p, int64_t n);           /* NaN */
pair_array pair_real_out(pair *p, int64_t n);
void pair_put(pair *p, pair_array a, int64_t i, double x); /* one number of an input, before a run; rounded */
pair_array pair_i32(pair *p, const int32_t *x, int64_t n); /* copied; NULL: an output of -1 */
pair_array pair_i64(pair *p, const int64_t *x, int64_t n);
pair_array pair_f64(pair *p, const double *x, int64_t n);     /* NULL: NaN */
pair_array pair_bytes(pair *p, const void *x, int64_t bytes); /* a struct; NULL: zeros. Compared exactly */

/* The array of the side that runs now. */
void *pair_at(const pair *p, pair_array a);
#define PAIR(a) pair_at(pair_now, (a))
void *pair_shift(const pair *p, pair_array a, int64_t elements); /* at an element, in the side's own type */
#define PAIR_AT(a, n) pair_shift(pair_now, (a), (n))

/* The device's result, converted to double; the CPU's. */
double pair_gpu_value(const pair *p, pair_array a, int64_t i);
double pair_cpu_value(const pair *p, pair_array a, int64_t i);

/* Runs `call` (which uses d, ops and PAIR()) on the CPU, dry on the device, then on the device, and reads
 * back. */
#define PAIR_RUN(p, call)                                                                                    \
    do {                                                                                                     \
        pair *pair_now = (p);                                                                                \
        for (int pair_phase_ = 0; pair_phase_ < 3; pair_phase_++) {                                          \
            weft_device *d = pair_begin(pair_now, pair_phase_);                                              \
            const weft_ops *ops = d->ops;                                                                    \
            call;                                                                                            \
            (void)ops;                                                                                       \
            pair_end(pair_now, pair_phase_);                                                                 \
        }                                                                                                    \
    } while (0)
weft_device *pair_begin(pair *p, int phase);
void pair_end(pair *p, int phase);

/* Fails unless every element is within tolerance * (rms of the CPU's array + |element|), neither side being
 * NaN where the other is not; integers exactly. For bf16 outputs the rounding of the result itself (2^-8 of
 * it) is allowed besides. */
void pair_check(const pair *p, pair_array a, const char *name, double tolerance);
/* Fails unless every element is the CPU's, rounded to the device's type (a NaN for a NaN, -0 for -0). */
void pair_same(const pair *p, pair_array a, const char *name);

#endif
