/* Sums of whole arrays into one number: exactly (runtime/exact.h), or in double in a fixed order. */
#include "cuda/walk.cuh"

#include <cmath>

/* ---- the exact sum, as in runtime/exact.c, of squares ---- */

#define EXACT_LOWEST (-320) /* exponent of the lowest bit */
#define EXACT_WORDS (WEFT_EXACT_DIGITS + 1)
#define LOW32 0xffffffffu

static_assert(sizeof(weft_exact) == EXACT_WORDS * sizeof(int64_t), "digits, then the count of odd terms");

/* Adds x to a sum whose words lie `stride` apart. Squares of floats end far below the highest digit. */
static __device__ __forceinline__ void exact_add(int64_t *word, int stride, double x) {
    const uint64_t bits = static_cast<uint64_t>(__double_as_longlong(x));
    const int exponent = static_cast<int>(bits >> 52 & 0x7ff);
    if (exponent == 0x7ff) { /* not finite */
        word[WEFT_EXACT_DIGITS * stride]++;
        return;
    }
    int place = exponent - 1075 - EXACT_LOWEST;
    if (place <= -53) return; /* zeros */
    uint64_t mantissa = (bits & 0xfffffffffffffu) | 0x10000000000000u;
    if (place < 0) {
        mantissa >>= -place;
        place = 0;
    }
    /* 53 bits that start somewhere in a digit: three digits at most. */
    const int shift = place % 32;
    const uint64_t low = mantissa << shift, high = shift ? mantissa >> (64 - shift) : 0;
    word += place / 32 * stride;
    word[0] += static_cast<int64_t>(low & LOW32);
    word[stride] += static_cast<int64_t>(low >> 32);
    word[2 * stride] += static_cast<int64_t>(high);
}

/* Brings the first n words below 2^32. */
static __device__ void exact_carry(int64_t *word, int n) {
    for (int i = 0; i < n; i++) {
        word[i + 1] += word[i] >> 32;
        word[i] &= LOW32;
    }
}

static __device__ double exact_value(const weft_exact *sum) {
    if (sum->odd) return NAN;
    int64_t digit[2 + EXACT_WORDS] = {0};
    for (int i = 0; i < WEFT_EXACT_DIGITS; i++) digit[2 + i] = sum->digit[i];
    exact_carry(digit + 2, WEFT_EXACT_DIGITS);
    int top = 2 + WEFT_EXACT_DIGITS;
    while (top > 2 && digit[top] == 0) top--;
    /* The highest 64 bits from the first 1 on; a 1 below them is kept in the last bit, where it decides ties.
     */
    uint64_t high = static_cast<uint64_t>(digit[top]) << 32 | static_cast<uint64_t>(digit[top - 1]);
    if (high == 0) return 0;
    const int zeros = __clzll(static_cast<long long>(high));
    const uint64_t low = static_cast<uint64_t>(digit[top - 2]) << 32;
    bool more = low << zeros != 0;
    for (int i = 0; i < top - 2; i++) more |= digit[i] != 0;
    high = high << zeros | (zeros ? low >> (64 - zeros) : 0) | more;
    return ldexp(static_cast<double>(high), 32 * (top - 3) + EXACT_LOWEST - zeros);
}

/* ---- sums of squares ---- */

/* Sixteen lanes have SQUARE_SPAN elements: block after block of WEFT_SUM_BLOCK they add its squares, and when
 * every lane has the sum of one block, each adds that to an exact sum of its own, without a collision. Words
 * are added to words in the end: integers, whose sum has no order. */
#define SQUARE_BLOCK 128
#define SQUARE_LANES 16
#define SQUARE_SPAN (SQUARE_LANES * WEFT_SUM_BLOCK)
#define SQUARE_ROUNDS 4 /* so often at least a warp takes new spans, if there are any */

template <class T>
static __global__ void __launch_bounds__(SQUARE_BLOCK)
    sumsq_kernel(unsigned long long *sum, const T *x, int64_t n) {
    SHARED(int64_t, words, EXACT_WORDS * SQUARE_BLOCK);
    int64_t *mine = words + threadIdx.x;
    for (int i = 0; i < EXACT_WORDS; i++) mine[i * SQUARE_BLOCK] = 0;
    const int lane = threadIdx.x % SQUARE_LANES;
    /* A warp has two spans, so that its lanes stay together. */
    const int64_t all = static_cast<int64_t>(gridDim.x) * (SQUARE_BLOCK / SQUARE_LANES) * SQUARE_SPAN;
    int64_t at = (static_cast<int64_t>(blockIdx.x) * SQUARE_BLOCK + threadIdx.x) / 32 * 2 * SQUARE_SPAN;
    for (; at < n; at += all) {
        const int64_t span = at + threadIdx.x % 32 / SQUARE_LANES * SQUARE_SPAN;
        double kept = 0;
#pragma unroll 4
        for (int b = 0; b < SQUARE_LANES; b++) {
            double squares = 0;
            for (int k = 0; k < WEFT_SUM_BLOCK; k += SQUARE_LANES) {
                const int64_t i = span + b * WEFT_SUM_BLOCK + k + lane;
                const double value = i < n ? static_cast<double>(to_float(x[i])) : 0;
                squares += value * value;
            }
            for (int by = SQUARE_LANES / 2; by > 0; by /= 2)
                squares += __shfl_xor_sync(WARP_ALL, squares, by, SQUARE_LANES);
            if (lane == b) kept = squares;
        }
        exact_add(mine, SQUARE_BLOCK, kept);
    }
    __syncthreads();
    for (int i = threadIdx.x / 32; i < EXACT_WORDS; i += SQUARE_BLOCK / 32) {
        long long word = 0;
        for (int k = threadIdx.x % 32; k < SQUARE_BLOCK; k += 32) word += words[i * SQUARE_BLOCK + k];
        word = warp_sum(word);
        if (threadIdx.x % 32 == 0 && word != 0) atomicAdd(sum + i, static_cast<unsigned long long>(word));
    }
}

template <class T> static void sumsq(const weft_device *d, weft_exact *sum, const T *x, int64_t n) {
    const int64_t each = SQUARE_BLOCK / SQUARE_LANES * SQUARE_SPAN;
    launch(sumsq_kernel<T>, cuda_blocks(n, SQUARE_ROUNDS * each, cuda_state(d)->processors * 8), SQUARE_BLOCK,
           0, d, reinterpret_cast<unsigned long long *>(sum), x, n);
}

extern "C" void cuda_sumsq(weft_device *d, weft_exact *sum, const weft_real *x, int64_t n) {
    if (!d->dry) sumsq(d, sum, x, n);
}

static __global__ void exact_scale_kernel(double *out, const weft_exact *sum, double scale, bool accumulate) {
    *out = (accumulate ? *out : 0) + scale * exact_value(sum);
}

extern "C" void cuda_sumsq_act(weft_device *d, double *out, const weft_act *x, int64_t n, double scale,
                               bool accumulate) {
    const size_t mark = weft_arena_mark(&d->act);
    weft_exact *sum = static_cast<weft_exact *>(weft_arena_push(&d->act, sizeof *sum));
    if (!d->dry) {
        CUDA_CHECK(cudaMemsetAsync(sum, 0, sizeof *sum, cuda_stream(d)));
        cuda_with_act(d, [&](auto t) { sumsq(d, sum, static_cast<const decltype(t) *>(x), n); });
        launch(exact_scale_kernel, 1, 1, 0, d, out, sum, scale, accumulate);
    }
    weft_arena_release(&d->act, mark);
}

/* ---- what follows from one ---- */

static __global__ void exact_carry_kernel(weft_exact *sum) {
    exact_carry(sum->digit, WEFT_EXACT_DIGITS - 1);
}

extern "C" void cuda_exact_carry(weft_device *d, weft_exact *sum) {
    if (!d->dry) launch(exact_carry_kernel, 1, 1, 0, d, sum);
}

static __global__ void clip_kernel(weft_clip *out, const weft_exact *sum, double max_norm) {
    const double norm = sqrt(exact_value(sum));
    out->norm = norm;
    out->scale = static_cast<float>(max_norm > 0 && norm > max_norm ? max_norm / norm : 1);
    out->finite = norm < INFINITY; /* a NaN is not */
}

extern "C" void cuda_clip(weft_device *d, weft_clip *out, const weft_exact *sum, double max_norm) {
    if (!d->dry) launch(clip_kernel, 1, 1, 0, d, out, sum, max_norm);
}

/* ---- sums of numbers ---- */

/* One block: these are sums of a number a token, or of fewer. */
#define SUM_BLOCK 1024
static __global__ void __launch_bounds__(SUM_BLOCK)
    sum_kernel(double *out, const float *x, int64_t n, double scale, bool accumulate) {
    SHARED(double, scratch, SUM_BLOCK / 32);
    double sum = 0;
    for (int64_t i = threadIdx.x; i < n; i += SUM_BLOCK) sum += static_cast<double>(x[i]);
    sum = block_sum(sum, scratch);
    if (threadIdx.x == 0) *out = (accumulate ? *out : 0) + scale * sum;
}

extern "C" void cuda_sum_real(weft_device *d, double *out, const weft_real *x, int64_t n, double scale,
                              bool accumulate) {
    if (!d->dry) launch(sum_kernel, 1, SUM_BLOCK, 0, d, out, x, n, scale, accumulate);
}
