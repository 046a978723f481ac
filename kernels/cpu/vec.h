/* Vectors of weft_real as wide as the instruction set, in the compiler's vector extension (gcc and clang), so that
 * one source serves SSE, AVX2, AVX-512, float and double. Tails: v_load_n / v_store_n. */
#ifndef WEFT_CPU_VEC_H
#define WEFT_CPU_VEC_H

#include "runtime/real.h"

#include <math.h>
#include <string.h>

#if defined(__AVX512F__)
#define VBYTES 64
#elif defined(__AVX__)
#define VBYTES 32
#else
#define VBYTES 16
#endif
#define VLEN ((int64_t)(VBYTES / sizeof(weft_real)))

typedef weft_real vreal __attribute__((vector_size(VBYTES)));
#if WEFT_REAL_IS_DOUBLE
typedef int64_t vint __attribute__((vector_size(VBYTES)));
#else
typedef int32_t vint __attribute__((vector_size(VBYTES)));
#endif

#define V_INLINE static inline __attribute__((always_inline, unused))

V_INLINE vreal v_load(const weft_real *p) {
    vreal v;
    memcpy(&v, p, sizeof v);
    return v;
}
V_INLINE void v_store(weft_real *p, vreal v) { memcpy(p, &v, sizeof v); }
V_INLINE vreal v_set1(weft_real x) { return (vreal){0} + x; }
/* First n (0 < n <= VLEN) lanes; the others are 0 / not written. */
V_INLINE vreal v_load_n(const weft_real *p, int64_t n) {
    vreal v = {0};
    memcpy(&v, p, (size_t)n * sizeof(weft_real));
    return v;
}
V_INLINE void v_store_n(weft_real *p, vreal v, int64_t n) { memcpy(p, &v, (size_t)n * sizeof(weft_real)); }

V_INLINE vreal v_select(vint mask, vreal a, vreal b) { return (vreal)((mask & (vint)a) | (~mask & (vint)b)); }
V_INLINE vreal v_max(vreal a, vreal b) { return v_select(a > b, a, b); }
V_INLINE vreal v_min(vreal a, vreal b) { return v_select(a < b, a, b); }

/* Horizontal, in a fixed order (pairs at distance VLEN/2, VLEN/4, ...). */
V_INLINE weft_real v_sum(vreal v) {
    weft_real x[VLEN];
    v_store(x, v);
    for (int64_t w = VLEN / 2; w > 0; w /= 2)
        for (int64_t i = 0; i < w; i++) x[i] += x[i + w];
    return x[0];
}
V_INLINE weft_real v_hmax(vreal v) {
    weft_real x[VLEN], m;
    v_store(x, v);
    m = x[0];
    for (int64_t i = 1; i < VLEN; i++) m = x[i] > m ? x[i] : m;
    return m;
}

/* 2^x for x in about [-126, 126], clamped below; NaN stays NaN. Float: round to nearest n, 2^(x-n) by a minimax
 * polynomial of degree 6 (relative error about 1e-7), 2^n by adding to the exponent bits. */
V_INLINE vreal v_exp2(vreal x) {
#if WEFT_REAL_IS_DOUBLE
    weft_real t[VLEN];
    v_store(t, x);
    for (int64_t i = 0; i < VLEN; i++) t[i] = exp2(t[i]);
    return v_load(t);
#else
    const vreal magic = v_set1(0x1.8p23f);
    x = v_select(x < v_set1(-126.f), v_set1(-126.f), x);
    x = v_select(x > v_set1(126.99f), v_set1(126.99f), x);
    vreal m = x + magic, r = x - (m - magic);
    vreal p = v_set1(1.5353362e-4f);
    p = p * r + v_set1(1.3398874e-3f);
    p = p * r + v_set1(9.6184373e-3f);
    p = p * r + v_set1(5.5503324e-2f);
    p = p * r + v_set1(2.4022648e-1f);
    p = p * r + v_set1(6.9314720e-1f);
    p = p * r + v_set1(1.f);
    return (vreal)((vint)p + ((vint)m << 23));
#endif
}

V_INLINE vreal v_exp(vreal x) {
#if WEFT_REAL_IS_DOUBLE
    weft_real t[VLEN];
    v_store(t, x);
    for (int64_t i = 0; i < VLEN; i++) t[i] = exp(t[i]);
    return v_load(t);
#else
    /* n = round(x / ln 2); x - n ln 2 in two pieces keeps the relative error at 1e-7 for large |x| as well. */
    const vreal magic = v_set1(0x1.8p23f);
    x = v_select(x < v_set1(-87.f), v_set1(-87.f), x);
    x = v_select(x > v_set1(88.f), v_set1(88.f), x);
    vreal m = x * v_set1(1.44269504f) + magic, n = m - magic;
    vreal r = (x - n * v_set1(0.693359375f)) - n * v_set1(-2.12194440e-4f);
    vreal p = v_set1(1.9875691500e-4f);
    p = p * r + v_set1(1.3981999507e-3f);
    p = p * r + v_set1(8.3334519073e-3f);
    p = p * r + v_set1(4.1665795894e-2f);
    p = p * r + v_set1(1.6666665459e-1f);
    p = p * r + v_set1(5.0000001201e-1f);
    p = p * (r * r) + r + v_set1(1.f);
    return (vreal)((vint)p + ((vint)m << 23));
#endif
}

V_INLINE vreal v_sigmoid(vreal x) { return v_set1(1) / (v_set1(1) + v_exp(-x)); }

#endif
