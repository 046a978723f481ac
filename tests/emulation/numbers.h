/* Functions of numbers that CUDA has and C++ lacks. */
#ifndef WEFT_EMULATION_NUMBERS_H
#define WEFT_EMULATION_NUMBERS_H

#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

template <class T> inline T __ldg(const T *p) {
    return *p;
}
template <class A, class B> inline constexpr std::common_type_t<A, B> max(A a, B b) {
    return a < b ? b : a;
}
template <class A, class B> inline constexpr std::common_type_t<A, B> min(A a, B b) {
    return b < a ? b : a;
}

inline float rsqrtf(float x) {
    return 1.0f / sqrtf(x);
}

namespace simt {
template <class To, class From> inline To bits(From x) {
    static_assert(sizeof(To) == sizeof(From));
    To y;
    memcpy(&y, &x, sizeof y);
    return y;
}
} // namespace simt

inline unsigned __float_as_uint(float x) {
    return simt::bits<unsigned>(x);
}
inline int __float_as_int(float x) {
    return simt::bits<int>(x);
}
inline float __uint_as_float(unsigned x) {
    return simt::bits<float>(x);
}
inline float __int_as_float(int x) {
    return simt::bits<float>(x);
}
inline long long __double_as_longlong(double x) {
    return simt::bits<long long>(x);
}
inline double __longlong_as_double(long long x) {
    return simt::bits<double>(x);
}
inline int __popc(unsigned x) {
    return __builtin_popcount(x);
}
inline int __popcll(unsigned long long x) {
    return __builtin_popcountll(x);
}
inline int __ffs(int x) {
    return __builtin_ffs(x);
}
inline int __ffsll(long long x) {
    return __builtin_ffsll(x);
}
inline int __clz(int x) {
    return x ? __builtin_clz(static_cast<unsigned>(x)) : 32;
}
inline int __clzll(long long x) {
    return x ? __builtin_clzll(static_cast<unsigned long long>(x)) : 64;
}

#endif
