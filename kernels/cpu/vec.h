/* Vectors of weft_real as wide as the instruction set, in the compiler's vector extension (gcc and clang), so
 * that one source serves SSE, AVX2, AVX-512, float and double. Tails: v_load_n / v_store_n.
 *
 * Intrinsics stand only where the extension has no word for what the processor does in one instruction
 * (maximum, masked loads), and always beside a portable twin. */
#ifndef WEFT_CPU_VEC_H
#define WEFT_CPU_VEC_H

#include "runtime/real.h"

#include <math.h>
#include <string.h>
#if defined(__SSE2__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
#define VBYTES 64
#elif defined(__AVX__)
#define VBYTES 32
#else
#define VBYTES 16
#endif
#if WEFT_REAL_IS_DOUBLE
#define V_LANES (VBYTES / 8) /* for the preprocessor */
#else
#define V_LANES (VBYTES / 4)
#endif
#define VLEN ((int64_t)V_LANES)

typedef weft_real vreal __attribute__((vector_size(VBYTES)));
#if WEFT_REAL_IS_DOUBLE
typedef int64_t vint __attribute__((vector_size(VBYTES)));
#else
typedef int32_t vint __attribute__((vector_size(VBYTES)));
#endif

#define V_INLINE static inline __attribute__((always_inline, unused))

/* Before a loop of constant length: unroll it completely, so that arrays of vectors live in registers. */
#define V_PRAGMA(x) _Pragma(#x)
#if defined(__clang__)
#define V_UNROLL(n) V_PRAGMA(unroll n)
#else
#define V_UNROLL(n) V_PRAGMA(GCC unroll n)
#endif

/* V_PICK(op): the intrinsic `op` of this width and type. */
#if VBYTES == 64
#define V_PREFIX _mm512_
#elif VBYTES == 32
#define V_PREFIX _mm256_
#elif defined(__SSE2__)
#define V_PREFIX _mm_
#endif
#if WEFT_REAL_IS_DOUBLE
#define V_SUFFIX _pd
#else
#define V_SUFFIX _ps
#endif
#define V_PASTE3(a, b, c) a##b##c
#define V_PASTE(a, b, c) V_PASTE3(a, b, c)
#define V_PICK(op) V_PASTE(V_PREFIX, op, V_SUFFIX)

V_INLINE vreal v_load(const weft_real *p) {
    vreal v;
    memcpy(&v, p, sizeof v);
    return v;
}
V_INLINE void v_store(weft_real *p, vreal v) {
    memcpy(p, &v, sizeof v);
}
V_INLINE vreal v_set1(weft_real x) {
    return x - (vreal){0};
} /* x + 0 would not be x for -0: an instruction more */

V_INLINE vreal v_select(vint mask, vreal a, vreal b) {
    return (vreal)((mask & (vint)a) | (~mask & (vint)b));
}

/* First n (0 < n <= VLEN) lanes; the others are 0 / not written. */
V_INLINE vreal v_load_n(const weft_real *p, int64_t n) {
    if (n >= VLEN) return v_load(p);
#if VBYTES == 64
    return (vreal)V_PICK(maskz_loadu)((1u << n) - 1, p);
#else
    vreal v = {0};
    for (int64_t i = 0; i < VLEN - 1; i++)
        if (i < n) v[i] = p[i];
    return v;
#endif
}
V_INLINE void v_store_n(weft_real *p, vreal v, int64_t n) {
    if (n >= VLEN) {
        v_store(p, v);
        return;
    }
#if VBYTES == 64
    V_PICK(mask_storeu)(p, (1u << n) - 1, v);
#else
    for (int64_t i = 0; i < VLEN - 1; i++)
        if (i < n) p[i] = v[i];
#endif
}

/* a > b ? a : b, and a < b ? a : b: of a NaN and a number, b is the result. */
V_INLINE vreal v_max(vreal a, vreal b) {
#ifdef V_PREFIX
    return (vreal)V_PICK(max)(a, b);
#else
    return v_select(a > b, a, b);
#endif
}
V_INLINE vreal v_min(vreal a, vreal b) {
#ifdef V_PREFIX
    return (vreal)V_PICK(min)(a, b);
#else
    return v_select(a < b, a, b);
#endif
}

/* One lane from each of two vectors of a pair: V_EVEN(s) takes groups of s lanes at even places of a, then of
 * b; V_ODD(s) those at odd places. EVEN + ODD adds neighbours, keeping a's and b's sums apart. */
#if V_LANES == 16
#define V_EVEN1 0, 16, 2, 18, 4, 20, 6, 22, 8, 24, 10, 26, 12, 28, 14, 30
#define V_ODD1 1, 17, 3, 19, 5, 21, 7, 23, 9, 25, 11, 27, 13, 29, 15, 31
#define V_EVEN2 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29
#define V_ODD2 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31
#define V_EVEN4 0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27
#define V_ODD4 4, 5, 6, 7, 20, 21, 22, 23, 12, 13, 14, 15, 28, 29, 30, 31
#define V_EVEN8 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23
#define V_ODD8 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31
#elif V_LANES == 8
#define V_EVEN1 0, 8, 2, 10, 4, 12, 6, 14
#define V_ODD1 1, 9, 3, 11, 5, 13, 7, 15
#define V_EVEN2 0, 1, 8, 9, 4, 5, 12, 13
#define V_ODD2 2, 3, 10, 11, 6, 7, 14, 15
#define V_EVEN4 0, 1, 2, 3, 8, 9, 10, 11
#define V_ODD4 4, 5, 6, 7, 12, 13, 14, 15
#elif V_LANES == 4
#define V_EVEN1 0, 4, 2, 6
#define V_ODD1 1, 5, 3, 7
#define V_EVEN2 0, 1, 4, 5
#define V_ODD2 2, 3, 6, 7
#else
#define V_EVEN1 0, 2
#define V_ODD1 1, 3
#endif
#define V_SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#define V_FOLD(a, b, s) (V_SHUFFLE(a, b, V_EVEN##s) + V_SHUFFLE(a, b, V_ODD##s))
#define V_FOLD_ALL(x, s)                                                                                     \
    V_UNROLL(16) for (int64_t i = 0; i < VLEN / (2 * s); i++) x[i] = V_FOLD(x[2 * i], x[2 * i + 1], s)

/* Lane i of the result is the sum of x[i]'s lanes, added as a tree of neighbours. x[VLEN] is used up. */
V_INLINE vreal v_sum_each(vreal *x) {
    V_FOLD_ALL(x, 1);
#if V_LANES >= 4
    V_FOLD_ALL(x, 2);
#endif
#if V_LANES >= 8
    V_FOLD_ALL(x, 4);
#endif
#if V_LANES >= 16
    V_FOLD_ALL(x, 8);
#endif
    return x[0];
}

/* Lane j of x[i] changes places with lane i of x[j]: groups of 1, 2, 4 ... lanes in turn. */
#define V_SWAP_ALL(x, s)                                                                                     \
    V_UNROLL(16) for (int64_t i = 0; i < VLEN; i++) if (!(i & s)) {                                          \
        const vreal a = x[i], b = x[i + s];                                                                  \
        x[i] = V_SHUFFLE(a, b, V_EVEN##s);                                                                   \
        x[i + s] = V_SHUFFLE(a, b, V_ODD##s);                                                                \
    }
V_INLINE void v_transpose(vreal *x) {
    V_SWAP_ALL(x, 1)
#if V_LANES >= 4
    V_SWAP_ALL(x, 2)
#endif
#if V_LANES >= 8
    V_SWAP_ALL(x, 4)
#endif
#if V_LANES >= 16
    V_SWAP_ALL(x, 8)
#endif
}

/* Horizontal, in a fixed order (a tree of neighbours). */
V_INLINE weft_real v_sum(vreal v) {
    v = V_FOLD(v, v, 1);
#if V_LANES >= 4
    v = V_FOLD(v, v, 2);
#endif
#if V_LANES >= 8
    v = V_FOLD(v, v, 4);
#endif
#if V_LANES >= 16
    v = V_FOLD(v, v, 8);
#endif
    return v[0];
}
V_INLINE weft_real v_hmax(vreal v) {
    weft_real x[VLEN], m;
    v_store(x, v);
    m = x[0];
    for (int64_t i = 1; i < VLEN; i++) m = x[i] > m ? x[i] : m;
    return m;
}

#if WEFT_REAL_IS_DOUBLE
/* The reference build takes libm's word, lane by lane. */
#define V_BY_LANE(x, f)                                                                                      \
    do {                                                                                                     \
        for (int64_t i = 0; i < VLEN; i++) (x)[i] = f((x)[i]);                                               \
    } while (0)
#else
/* Adding this to |x| < 2^22 rounds x to the nearest integer n and leaves n + 127, the exponent field of 2^n,
 * in the low bits. */
#define V_ROUND (0x1.8p23f + 127.f)
#define V_POW2(rounded) ((vreal)((vint)(rounded) << 23))
#endif

/* 2^x for x in about [-126, 126], clamped outside; NaN stays NaN. Float: relative error 8e-8 (1e-7 without
 * fused multiply-add): 2^n times a minimax polynomial of degree 6 in x - n. */
V_INLINE vreal v_exp2(vreal x) {
#if WEFT_REAL_IS_DOUBLE
    V_BY_LANE(x, exp2);
    return x;
#else
    x = v_min(v_set1(126.99f), v_max(v_set1(-126.f), x));
    vreal m = x + v_set1(V_ROUND), r = x - (m - v_set1(V_ROUND));
    vreal p = v_set1(1.53533573e-4f);
    p = p * r + v_set1(1.33988739e-3f);
    p = p * r + v_set1(9.61843692e-3f);
    p = p * r + v_set1(5.55033237e-2f);
    p = p * r + v_set1(2.40226477e-1f);
    p = p * r + v_set1(6.93147182e-1f);
    p = p * r + v_set1(1.f);
    return p * V_POW2(m);
#endif
}

/* e^x for x in about [-87, 88], clamped outside; NaN stays NaN. Float: relative error 9e-8. */
V_INLINE vreal v_exp(vreal x) {
#if WEFT_REAL_IS_DOUBLE
    V_BY_LANE(x, exp);
    return x;
#else
    /* n = round(x / ln 2); x - n ln 2 in two pieces keeps the relative error at 1e-7 for large |x| as well.
     */
    x = v_min(v_set1(88.f), v_max(v_set1(-87.f), x));
    vreal m = x * v_set1(1.44269504f) + v_set1(V_ROUND), n = m - v_set1(V_ROUND);
    vreal r = (x - n * v_set1(0.693359375f)) - n * v_set1(-2.12194440e-4f);
    vreal p = v_set1(1.9875691500e-4f);
    p = p * r + v_set1(1.3981999507e-3f);
    p = p * r + v_set1(8.3334519073e-3f);
    p = p * r + v_set1(4.1665795894e-2f);
    p = p * r + v_set1(1.6666665459e-1f);
    p = p * r + v_set1(5.0000001201e-1f);
    p = p * (r * r) + r + v_set1(1.f);
    return p * V_POW2(m);
#endif
}

V_INLINE vreal v_sigmoid(vreal x) {
    return v_set1(1) / (v_set1(1) + v_exp(-x));
}

/* log(1 + e^x), identity above 20, and its derivative. Float: max(x, 0) + log1p(e^-|x|), relative error 3e-7;
 * with s = e/(2 + e) in [0, 1/3], log1p(e) = 2 atanh(s) = s * (minimax polynomial in s^2). */
V_INLINE vreal v_softplus_slope(vreal x, vreal *slope) {
#if WEFT_REAL_IS_DOUBLE
    vreal y = x, dy = x;
    for (int64_t i = 0; i < VLEN; i++) {
        y[i] = x[i] > 20 ? x[i] : log1p(exp(x[i]));
        dy[i] = x[i] > 20 ? 1 : 1 / (1 + exp(-x[i]));
    }
    *slope = dy;
    return y;
#else
    const vreal one = v_set1(1), two = v_set1(2);
    const vreal top = v_max(v_set1(0), x),
                e = v_exp(x - top - top); /* x - 2 max(x, 0) = -|x|, and NaN for NaN */
    const vreal both = one / ((one + e) * (two + e)), s = e * (one + e) * both, z = s * s;
    *slope = v_select(x < v_set1(0), e, one) * (two + e) * both;
    vreal p = v_set1(2.81783342e-1f);
    p = p * z + v_set1(2.79606015e-1f);
    p = p * z + v_set1(4.00249094e-1f);
    p = p * z + v_set1(6.66663170e-1f);
    p = p * z + v_set1(2.f);
    return top + s * p; /* above 20 the second term is less than half a unit in the last place of the first */
#endif
}
V_INLINE vreal v_softplus(vreal x) {
    vreal slope;
    return v_softplus_slope(x, &slope);
}

#endif
