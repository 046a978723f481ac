/* What every file of the CUDA backend begins with.
 *
 * The files compile twice: with nvcc, and with the host's C++ compiler for the SIMT emulation of
 * tests/emulation (WEFT_EMULATED), which runs every CUDA thread as a fiber and finds what a GPU would not
 * tell: races, divergent barriers, indices out of bounds. So kernels keep to what both understand:
 *
 *   - kernels start through launch(kernel, grid, block, dynamic shared bytes, device, arguments...)
 *   - shared memory is SHARED(T, name, n) and SHARED_DYN(T, name) (one a kernel, 16-byte aligned)
 *   - warp intrinsics with explicit masks; no cub, no cooperative groups, no waiting between blocks
 *   - inline PTX only in mma.cuh, beside its emulated body
 *   - no floating-point atomics: sums have a fixed order
 *   - index arithmetic that may pass 2^31 is int64_t
 *
 * Operations are `extern "C" void cuda_NAME(...)`, declared here for all of ops.h; each is a template over
 * the type of weft_act (float or bf16) that computes in float. */
#ifndef WEFT_CUDA_CUH
#define WEFT_CUDA_CUH

#include <type_traits>

#ifdef WEFT_EMULATED
#include "emulation/simt.h"
#else
#include <cuda_bf16.h>
#include <cuda_runtime.h>
#endif

extern "C" {
#include "ops.h"
}
#if WEFT_REAL_IS_DOUBLE
#error "the CUDA backend computes in float"
#endif

/* ---- the device ---- */

typedef struct weft_cuda {
    int ordinal;
    int processors; /* streaming multiprocessors; of a dry device: of the largest that is known */
    bool tf32;
    weft_attention_kernel attention;
    cudaStream_t stream[WEFT_STREAMS];
    struct weft_cuda_gemm *gemm;   /* gemm.cu: handle, cached algorithms */
    struct weft_cuda_cudnn *cudnn; /* attention.cu: handle, cached plans */
} weft_cuda;

void cuda_gemm_close(weft_cuda *s); /* gemm.cu; also where nothing was opened */

static inline weft_cuda *cuda_state(const weft_device *d) {
    return static_cast<weft_cuda *>(d->state);
}
static inline cudaStream_t cuda_stream(const weft_device *d) {
    return cuda_state(d)->stream[d->stream];
}

/* Ends the process with what failed: an operation cannot report, and nothing on this GPU can be trusted. */
#define CUDA_CHECK(call)                                                                                     \
    do {                                                                                                     \
        cudaError_t cuda_check_ = (call);                                                                    \
        if (cuda_check_ != cudaSuccess)                                                                      \
            weft_panic(__FILE__, __LINE__, "%s: %s", #call, cudaGetErrorString(cuda_check_));                \
    } while (0)

#define CUDA_DECLARE(op) extern "C" std::remove_pointer_t<decltype(weft_ops::op)> cuda_##op;
WEFT_OPS_LIST(CUDA_DECLARE)
#undef CUDA_DECLARE

/* ---- starting kernels ---- */

#ifndef WEFT_EMULATED
#define SHARED(T, name, n) __shared__ T name[n]
#define SHARED_DYN(T, name)                                                                                  \
    extern __shared__ __align__(16) unsigned char cuda_dynamic_[];                                           \
    T *name = reinterpret_cast<T *>(cuda_dynamic_)
/* More than 48 KiB of dynamic shared memory must be asked for, once a kernel and device. */
template <class... P, class... A>
static inline void launch(void (*kernel)(P...), dim3 grid, dim3 block, size_t shared, const weft_device *d,
                          A... a) {
    if (shared > 48 << 10)
        CUDA_CHECK(cudaFuncSetAttribute(reinterpret_cast<const void *>(kernel),
                                        cudaFuncAttributeMaxDynamicSharedMemorySize,
                                        static_cast<int>(shared)));
    kernel<<<grid, block, shared, cuda_stream(d)>>>(static_cast<P>(a)...);
    CUDA_CHECK(cudaGetLastError());
}
#endif

/* Blocks for n items, `each` a block; at most `most` (a kernel then strides over the rest). */
/* The emulation starts few, so that its tests see blocks go on to further work. */
#ifdef WEFT_EMULATED
enum { CUDA_MOST_BLOCKS = 3 };
#else
enum { CUDA_MOST_BLOCKS = 1 << 20 };
#endif
static inline unsigned cuda_blocks(int64_t n, int64_t each, int64_t most = CUDA_MOST_BLOCKS) {
    int64_t blocks = (n + each - 1) / each;
    return static_cast<unsigned>(blocks < 1 ? 1 : blocks > most ? most : blocks);
}

/* f(T()) with T the type of d's activations. */
template <class F> static inline void cuda_with_act(const weft_device *d, F f) {
    if (d->act_dtype == WEFT_BF16)
        f(__nv_bfloat16());
    else
        f(float());
}

/* ---- numbers ---- */

typedef __nv_bfloat16 bf16;

static __device__ __forceinline__ float to_float(float x) {
    return x;
}
static __device__ __forceinline__ float to_float(bf16 x) {
    return __bfloat162float(x);
}
template <class T> static __device__ __forceinline__ T from_float(float x);
template <> __device__ __forceinline__ float from_float<float>(float x) {
    return x;
}
template <> __device__ __forceinline__ bf16 from_float<bf16>(float x) {
    return __float2bfloat16(x);
}

static __device__ __forceinline__ float sigmoid(float x) {
    return 1 / (1 + expf(-x));
}

/* 16 bytes of T at once: 4 floats or 8 bf16. The address must be a multiple of 16. */
template <class T> struct alignas(16) pack {
    static constexpr int size = 16 / sizeof(T);
    T v[size];
};
template <class T> static __device__ __forceinline__ pack<T> load_pack(const T *p) {
    return *reinterpret_cast<const pack<T> *>(p);
}
template <class T> static __device__ __forceinline__ void store_pack(T *p, const pack<T> &x) {
    *reinterpret_cast<pack<T> *>(p) = x;
}
/* Can an array with this row stride be walked in packs? */
template <class T> static inline bool in_packs(const T *p, int64_t width, int64_t ld) {
    return reinterpret_cast<uintptr_t>(p) % 16 == 0 && width % pack<T>::size == 0 && ld % pack<T>::size == 0;
}

/* ---- sums over a warp and a block, in fixed order ---- */

#define WARP_ALL 0xffffffffu

template <class T> static __device__ __forceinline__ T warp_sum(T x) {
    for (int by = 16; by > 0; by /= 2) x += __shfl_xor_sync(WARP_ALL, x, by);
    return x;
}
static __device__ __forceinline__ float warp_max(float x) {
    for (int by = 16; by > 0; by /= 2) x = fmaxf(x, __shfl_xor_sync(WARP_ALL, x, by));
    return x;
}

/* Every thread gets the sum over the block. `scratch`: blockDim.x / 32 elements of shared memory, free again
 * for the next call. blockDim.x is a multiple of 32, blockDim.y is 1. */
template <class T> static __device__ __forceinline__ T block_sum(T x, T *scratch) {
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
    x = warp_sum(x);
    if (lane == 0) scratch[warp] = x;
    __syncthreads();
    T sum = 0;
    for (int w = 0; w < warps; w++) sum += scratch[w];
    __syncthreads();
    return sum;
}

#endif
