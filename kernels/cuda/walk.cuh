/* How the simple kernels walk over arrays: N elements of any type at a time, as floats.
 *
 * N elements side by side are read and written at once where `fits` says so (16 bytes, or less where another
 * array has the wider type); otherwise the same kernel runs with N = 1. */
#ifndef WEFT_CUDA_WALK_CUH
#define WEFT_CUDA_WALK_CUH

#include "cuda/cuda.cuh"

template <class T, int N> struct alignas(N * sizeof(T) < 16 ? N * sizeof(T) : 16) group { T v[N]; };
template <int N> struct floats { float v[N]; };

template <int N, class T> static __device__ __forceinline__ floats<N> load_floats(const T *p) {
    const group<T, N> x = *reinterpret_cast<const group<T, N> *>(p);
    floats<N> f;
    for (int i = 0; i < N; i++) f.v[i] = to_float(x.v[i]);
    return f;
}
template <int N, class T> static __device__ __forceinline__ void store_floats(T *p, const floats<N> &f) {
    group<T, N> x;
    for (int i = 0; i < N; i++) x.v[i] = from_float<T>(f.v[i]);
    *reinterpret_cast<group<T, N> *>(p) = x;
}

/* Can N at a time be read from every row, of `width` elements at a stride of `ld`? Also of NULL. */
template <int N, class T> static inline bool fits(const T *p, int64_t width, int64_t ld) {
    return reinterpret_cast<uintptr_t>(p) % alignof(group<T, N>) == 0 && width % N == 0 && ld % N == 0;
}

#define WALK_BLOCK 256
/* Two blocks a multiprocessor are enough: unless told, ptxas spills registers to make room for more. */
#define WALK_BOUNDS __launch_bounds__(WALK_BLOCK, 2)

/* ---- flat arrays ---- */

/* f.at<N>(i): the work on the elements i .. i+N. */
template <int N, class F> static __global__ void WALK_BOUNDS flat_kernel(F f, int64_t n) {
    const int64_t all = static_cast<int64_t>(gridDim.x) * WALK_BLOCK;
    const int64_t me = static_cast<int64_t>(blockIdx.x) * WALK_BLOCK + threadIdx.x;
    const int64_t whole = n - n % N;
    for (int64_t i = me * N; i < whole; i += all * N) f.template at<N>(i);
    if (N > 1)
        for (int64_t i = whole + me; i < n; i += all) f.template at<1>(i);
}

/* n elements, N at a time if `wide`: every array begins at a multiple of N of its elements (or of 16 bytes).
 */
template <int N, class F> static inline void walk_flat(const weft_device *d, F f, int64_t n, bool wide) {
    if (wide)
        launch(flat_kernel<N, F>, cuda_blocks(n, static_cast<int64_t>(N) * WALK_BLOCK), WALK_BLOCK, 0, d, f,
               n);
    else
        launch(flat_kernel<1, F>, cuda_blocks(n, WALK_BLOCK), WALK_BLOCK, 0, d, f, n);
}

/* ---- rows ---- */

/* f.at<N>(m, j): the work on the elements j .. j+N of row m. */
template <int N, class F> static __global__ void WALK_BOUNDS rows_kernel(F f, int64_t rows, int64_t width) {
    const int64_t all = static_cast<int64_t>(gridDim.x) * blockDim.y;
    for (int64_t m = static_cast<int64_t>(blockIdx.x) * blockDim.y + threadIdx.y; m < rows; m += all)
        for (int64_t j = static_cast<int64_t>(threadIdx.x) * N; j < width; j += blockDim.x * N)
            f.template at<N>(m, j);
}

/* Threads side by side in a row as far as it goes, and then rows side by side. */
static inline dim3 rows_block(int64_t steps) {
    unsigned x = 1;
    while (x < WALK_BLOCK && x < steps) x *= 2;
    return dim3(x, WALK_BLOCK / x);
}

template <int N, class F>
static inline void walk_rows(const weft_device *d, F f, int64_t rows, int64_t width, bool wide) {
    const dim3 block = rows_block(wide ? width / N : width), grid = cuda_blocks(rows, block.y);
    if (wide)
        launch(rows_kernel<N, F>, grid, block, 0, d, f, rows, width);
    else
        launch(rows_kernel<1, F>, grid, block, 0, d, f, rows, width);
}

/* ---- rows with a sum ---- */

/* A row belongs to a block (WIDE) or to a warp; m walks over the rows of the calling thread, `lane` is its
 * place in the row and LANES its stride. Every thread gets the sum; scratch: WALK_BLOCK / 32 elements. */
#define ROW_LANES (WIDE ? WALK_BLOCK : 32)
#define FOR_MY_ROWS(m, M)                                                                                    \
    for (int64_t m = static_cast<int64_t>(blockIdx.x) * (WALK_BLOCK / ROW_LANES) + threadIdx.x / ROW_LANES;  \
         m < (M); m += static_cast<int64_t>(gridDim.x) * (WALK_BLOCK / ROW_LANES))

template <bool WIDE> static __device__ __forceinline__ float row_sum(float x, float *scratch) {
    return WIDE ? block_sum(x, scratch) : warp_sum(x);
}
static inline bool row_is_wide(int64_t width) {
    return width > 1024;
}
/* kernel<N or 1, WIDE, T> */
#define ROW_KERNEL(kernel, N, T, packs, width)                                                               \
    (row_is_wide(width) ? ((packs) ? kernel<N, true, T> : kernel<1, true, T>)                                \
                        : ((packs) ? kernel<N, false, T> : kernel<1, false, T>))
static inline unsigned row_blocks(int64_t rows, int64_t width) {
    return cuda_blocks(rows, row_is_wide(width) ? 1 : WALK_BLOCK / 32);
}

#endif
