/* Linear layers of groups of rows (experts), whose sizes only the device knows.
 *
 * Why not a library: cuBLAS 13.1 has grouped products (cublasGemmGroupedBatchedEx), but reads the groups' m,
 * n and k from the host's memory; cuBLASLt has batches at a stride or by an array of pointers
 * (CUBLASLT_MATRIX_LAYOUT_BATCH_MODE), whose members share one shape, set on the host. Either would have the
 * host wait for the router in every layer. cuDNN's grouped product takes the first row of each expert on the
 * device, but has no gradient of the weights, and needs a plan for each shape and GPU.
 *
 * So the grid is as large as any sizes could need, and a block finds its tile from the offsets; those that
 * find none leave. A block computes a whole sum: none is split, and the order of the terms is fixed. Products
 * of float are in float, never TF32. */
#include "cuda/grouped.cuh"

template <class T> struct alignas(2 * sizeof(T)) grouped_pair { T v[2]; };

/* Two neighbours of a row: assigned, or added to. `whole`: pairs are aligned, and the row's end cuts none. */
template <bool ADD, class T>
static __device__ __forceinline__ void put_pair(T *row, int column, int columns, float x, float y,
                                                bool whole) {
    if (column >= columns) return;
    T *at = row + column;
    if (whole) {
        grouped_pair<T> *both = reinterpret_cast<grouped_pair<T> *>(at);
        const grouped_pair<T> old = ADD ? *both : grouped_pair<T>{};
        *both = {{from_float<T>(ADD ? to_float(old.v[0]) + x : x),
                  from_float<T>(ADD ? to_float(old.v[1]) + y : y)}};
        return;
    }
    at[0] = from_float<T>(ADD ? to_float(at[0]) + x : x);
    if (column + 1 < columns) at[1] = from_float<T>(ADD ? to_float(at[1]) + y : y);
}

static __device__ __forceinline__ int left_of(int64_t all, int64_t first, int edge) {
    return all - first < edge ? static_cast<int>(all - first) : edge;
}

/* c[rows, columns] = a[rows, depth] times w of the group, [columns, depth], or [depth, columns] if STRIDED.
 * Two blocks a multiprocessor: 128 registers a thread. */
template <class T, bool STRIDED>
static __global__ void __launch_bounds__(GROUPED_THREADS, 2)
    grouped_rows_kernel(T *c, const T *a, const T *w, int64_t stride, const int64_t *offsets, int64_t g,
                        int64_t columns, int64_t depth, bool a_packed, bool w_packed, bool c_whole) {
    constexpr int EDGE = grouped_tile<T>::EDGE;
    grouped_place p;
    if (!grouped_find(&p, offsets, g, blockIdx.x, EDGE, (columns + EDGE - 1) / EDGE)) return;
    const int64_t first = p.first + p.row;
    const grouped_side<T> rows = {a + first * depth, depth, left_of(p.rows, p.row, EDGE), a_packed};
    const grouped_side<T> weights = {w + p.group * stride + (STRIDED ? p.column : p.column * depth),
                                     STRIDED ? columns : depth, left_of(columns, p.column, EDGE), w_packed};
    grouped_tile<T> tile;
    grouped_product<false, STRIDED>(tile, rows, weights, depth);
    T *out = c + first * columns + p.column;
    tile.each_pair([&](int line, int column, float x, float y) {
        if (line < rows.lines) put_pair<false>(out + line * columns, column, weights.lines, x, y, c_whole);
    });
}

/* dw[n, k] of the group += dy^T x over its rows. */
template <class T>
static __global__ void __launch_bounds__(GROUPED_THREADS, 2)
    grouped_weights_kernel(float *dw, int64_t stride, const T *dy, const T *x, const int64_t *offsets,
                           int64_t n, int64_t k, bool dy_packed, bool x_packed, bool dw_whole) {
    constexpr int EDGE = grouped_tile<T>::EDGE;
    const int64_t down = (n + EDGE - 1) / EDGE, across = (k + EDGE - 1) / EDGE;
    const int64_t group = blockIdx.x / (down * across), tile_index = blockIdx.x % (down * across);
    const int64_t row = tile_index % down * EDGE, column = tile_index / down * EDGE;
    const int64_t first = offsets[group], depth = offsets[group + 1] - first;
    if (depth == 0) return;
    const grouped_side<T> a = {dy + first * n + row, n, left_of(n, row, EDGE), dy_packed};
    const grouped_side<T> b = {x + first * k + column, k, left_of(k, column, EDGE), x_packed};
    grouped_tile<T> tile;
    grouped_product<true, true>(tile, a, b, depth);
    float *out = dw + group * stride + row * k + column;
    tile.each_pair([&](int line, int at, float s, float t) {
        if (line < a.lines) put_pair<true>(out + line * k, at, b.lines, s, t, dw_whole);
    });
}

/* ---- the operations ---- */

template <class T> static bool pairs(const T *p, int64_t columns) {
    return reinterpret_cast<uintptr_t>(p) % (2 * sizeof(T)) == 0 && columns % 2 == 0;
}

/* A tile has at least one row, and every group less than one tile more than its rows fill. */
static int64_t tiles_of_rows(int64_t m_max, int64_t g, int edge) {
    const int64_t most = (m_max + g * (edge - 1)) / edge;
    return most < m_max ? most : m_max;
}

template <bool STRIDED>
static void rows_product(weft_device *d, weft_act *c_, const weft_act *a_, const weft_act *w_, int64_t stride,
                         const int64_t *offsets, int64_t g, int64_t m_max, int64_t columns, int64_t depth) {
    if (d->dry || g == 0 || m_max == 0 || columns == 0) return;
    cuda_with_act(d, [&](auto zero) {
        using T = decltype(zero);
        constexpr int EDGE = grouped_tile<T>::EDGE;
        T *c = static_cast<T *>(c_);
        const T *a = static_cast<const T *>(a_), *w = static_cast<const T *>(w_);
        const int64_t ldw = STRIDED ? columns : depth;
        const int64_t blocks = tiles_of_rows(m_max, g, EDGE) * ((columns + EDGE - 1) / EDGE);
        launch(grouped_rows_kernel<T, STRIDED>, static_cast<unsigned>(blocks), GROUPED_THREADS, 0, d, c, a, w,
               stride, offsets, g, columns, depth, in_packs(a, depth, depth), in_packs(w, ldw, stride),
               pairs(c, columns));
    });
}

extern "C" void cuda_grouped_fwd(weft_device *d, weft_act *y, const weft_act *x, const weft_act *w,
                                 int64_t stride, const int64_t *offsets, int64_t g, int64_t m_max, int64_t n,
                                 int64_t k) {
    rows_product<false>(d, y, x, w, stride, offsets, g, m_max, n, k);
}

extern "C" void cuda_grouped_dgrad(weft_device *d, weft_act *dx, const weft_act *dy, const weft_act *w,
                                   int64_t stride, const int64_t *offsets, int64_t g, int64_t m_max,
                                   int64_t n, int64_t k) {
    rows_product<true>(d, dx, dy, w, stride, offsets, g, m_max, k, n);
}

extern "C" void cuda_grouped_wgrad(weft_device *d, weft_real *dw, int64_t stride, const weft_act *dy_,
                                   const weft_act *x_, const int64_t *offsets, int64_t g, int64_t m_max,
                                   int64_t n, int64_t k) {
    if (d->dry || g == 0 || m_max == 0 || n == 0 || k == 0) return;
    cuda_with_act(d, [&](auto zero) {
        using T = decltype(zero);
        constexpr int EDGE = grouped_tile<T>::EDGE;
        const T *dy = static_cast<const T *>(dy_), *x = static_cast<const T *>(x_);
        const int64_t blocks = g * ((n + EDGE - 1) / EDGE) * ((k + EDGE - 1) / EDGE);
        launch(grouped_weights_kernel<T>, static_cast<unsigned>(blocks), GROUPED_THREADS, 0, d, dw, stride,
               dy, x, offsets, n, k, in_packs(dy, n, n), in_packs(x, k, k), pairs(dw, k) && stride % 2 == 0);
    });
}
