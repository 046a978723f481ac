/* What the kernels that move rows share: a warp takes a row. */
#ifndef WEFT_CUDA_MOE_CUH
#define WEFT_CUDA_MOE_CUH

#include "cuda/walk.cuh"

#include <initializer_list>

#define MOE_WARPS 8
#define MOE_THREADS (MOE_WARPS * 32)
/* Two blocks a multiprocessor are enough: unless told, ptxas spills registers to make room for more. */
#define MOE_BOUNDS __launch_bounds__(MOE_THREADS, 2)

/* The rows of a warp: for (int64_t m = moe_first_row(); m < M; m += moe_row_step()). */
static __device__ __forceinline__ int64_t moe_first_row() {
    return static_cast<int64_t>(blockIdx.x) * MOE_WARPS + threadIdx.x / 32;
}
static __device__ __forceinline__ int64_t moe_row_step() {
    return static_cast<int64_t>(gridDim.x) * MOE_WARPS;
}

/* f(T(), N) with T the type of the activations, and N how many of them are read and written at once: 16 bytes
 * if the rows of D of all these arrays allow it, else one. */
template <class F>
static inline void moe_with_width(const weft_device *d, std::initializer_list<const void *> arrays, int64_t D,
                                  F f) {
    cuda_with_act(d, [&](auto zero) {
        using T = decltype(zero);
        bool wide = true;
        for (const void *x : arrays) wide = wide && in_packs(static_cast<const T *>(x), D, D);
        if (wide)
            f(zero, std::integral_constant<int, pack<T>::size>());
        else
            f(zero, std::integral_constant<int, 1>());
    });
}

#endif
