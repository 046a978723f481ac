/* Linear layers: the products are cuBLASLt's (gemm.h), what remains is here. */
#include "cuda/cuda.cuh"
#include "cuda/gemm.h"

/* ---- kernels ---- */

/* y[m,n] = bias, or zero (+ y if add): a product over nothing, and a start for one that adds. */
template <class T>
static __global__ void start_rows(T *y, int64_t ldy, const T *bias, int64_t m, int64_t n, bool add) {
    const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
    for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < m * n; i += step) {
        T *at = y + i / n * ldy + i % n;
        *at = from_float<T>((bias ? to_float(bias[i % n]) : 0.0f) + (add ? to_float(*at) : 0.0f));
    }
}

template <class T>
static void start(weft_device *d, void *y, int64_t ldy, const void *bias, int64_t m, int64_t n, bool add) {
    if (d->dry || (add && !bias)) return;
    launch(start_rows<T>, dim3(cuda_blocks(m * n, 256)), dim3(256), 0, d, static_cast<T *>(y), ldy,
           static_cast<const T *>(bias), m, n, add);
}
static void start_act(weft_device *d, void *y, int64_t ldy, const void *bias, int64_t m, int64_t n,
                      bool add) {
    cuda_with_act(d, [&](auto zero) { start<decltype(zero)>(d, y, ldy, bias, m, n, add); });
}

/* part[c,j] = sum of x[i,j] over the `rows` rows of chunk c. A warp reads W elements a lane of every eighth
 * row; the eight sums are added in order. */
enum { SUM_WARPS = 8 };

template <class T, int W>
static __global__ void __launch_bounds__(SUM_WARPS * 32)
    column_sums(float *part, const T *x, int64_t ld, int64_t m, int64_t n, int64_t rows) {
    SHARED(float, sums, SUM_WARPS *W * 32);
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int64_t j = (static_cast<int64_t>(blockIdx.x) * 32 + lane) * W;
    const int64_t first = blockIdx.y * rows, end = first + rows < m ? first + rows : m;
    float sum[W] = {};
    for (int64_t i = first + warp; i < end && j < n; i += SUM_WARPS) {
        if constexpr (W == 1) {
            sum[0] += to_float(x[i * ld + j]);
        } else {
            const pack<T> v = load_pack(x + i * ld + j);
            for (int w = 0; w < W; w++) sum[w] += to_float(v.v[w]);
        }
    }
    for (int w = 0; w < W; w++) sums[(warp * W + w) * 32 + lane] = sum[w];
    __syncthreads();
    if (warp > 0 || j >= n) return;
    for (int w = 0; w < W; w++) {
        float total = 0;
        for (int of = 0; of < SUM_WARPS; of++) total += sums[(of * W + w) * 32 + lane];
        part[blockIdx.y * n + j + w] = total;
    }
}

static __global__ void add_parts(float *out, const float *part, int64_t parts, int64_t n) {
    const int64_t j = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (j >= n) return;
    float total = 0;
    for (int64_t c = 0; c < parts; c++) total += part[c * n + j];
    out[j] += total;
}

template <class T, int W>
static void sum_parts(weft_device *d, float *part, int64_t parts, const T *x, int64_t ld, int64_t m,
                      int64_t n, int64_t rows) {
    launch(column_sums<T, W>, dim3(cuda_blocks(n, 32 * W, INT32_MAX), static_cast<unsigned>(parts)),
           dim3(SUM_WARPS * 32), 0, d, part, x, ld, m, n, rows);
}

/* out[n] += sum over the m rows of x, in at most 64 parts that depend on m only. */
static void add_column_sums(weft_device *d, float *out, const void *x_, int64_t ld, int64_t m, int64_t n) {
    const int64_t least = 256, rows = (m + 63) / 64 > least ? (m + 63) / 64 : least;
    const int64_t parts = (m + rows - 1) / rows;
    const size_t mark = weft_arena_mark(&d->act);
    float *part =
        static_cast<float *>(weft_arena_push(&d->act, static_cast<size_t>(parts * n) * sizeof *part));
    if (!d->dry) {
        cuda_with_act(d, [&](auto zero) {
            typedef decltype(zero) T;
            const T *x = static_cast<const T *>(x_);
            if (in_packs(x, n, ld))
                sum_parts<T, pack<T>::size>(d, part, parts, x, ld, m, n, rows);
            else
                sum_parts<T, 1>(d, part, parts, x, ld, m, n, rows);
        });
        launch(add_parts, dim3(cuda_blocks(n, 256, INT32_MAX)), dim3(256), 0, d, out, part, parts, n);
    }
    weft_arena_release(&d->act, mark);
}

/* ---- operations ---- */

void cuda_linear_fwd(weft_device *d, weft_act *y, int64_t ldy, const weft_act *x, int64_t ldx,
                     const weft_act *w, const weft_act *bias, int64_t m, int64_t n, int64_t k,
                     bool accumulate) {
    if (!m || !n) return;
    /* The epilogue is only sure of an aligned bias. One that is not is put into y first; then, if y was a sum
     * already, it is rounded once more. */
    const bool epilogue = k && bias && reinterpret_cast<uintptr_t>(bias) % 16 == 0;
    const bool started = !k || (bias && !epilogue);
    if (started) start_act(d, y, ldy, bias, m, n, accumulate);
    if (!k) return;
    weft_gemm_call c = {};
    c.rows = n, c.cols = m, c.depth = k;
    c.trans_a = true;
    c.a = w, c.lda = k;
    c.b = x, c.ldb = ldx;
    c.d = y, c.ldd = ldy, c.out_type = d->act_dtype;
    c.bias = epilogue ? bias : NULL;
    c.add = accumulate || started;
    weft_gemm_run(d, &c);
}

void cuda_linear_fwd_real(weft_device *d, weft_real *y, int64_t ldy, const weft_act *x, int64_t ldx,
                          const weft_act *w, int64_t m, int64_t n, int64_t k) {
    if (!m || !n) return;
    if (!k) {
        start<float>(d, y, ldy, NULL, m, n, false);
        return;
    }
    weft_gemm_call c = {};
    c.rows = n, c.cols = m, c.depth = k;
    c.trans_a = true;
    c.a = w, c.lda = k;
    c.b = x, c.ldb = ldx;
    c.d = y, c.ldd = ldy, c.out_type = WEFT_F32;
    weft_gemm_run(d, &c);
}

void cuda_linear_dgrad(weft_device *d, weft_act *dx, int64_t lddx, const weft_act *dy, int64_t lddy,
                       const weft_act *w, int64_t m, int64_t n, int64_t k, bool accumulate) {
    if (!m || !k) return;
    if (!n) {
        start_act(d, dx, lddx, NULL, m, k, accumulate);
        return;
    }
    weft_gemm_call c = {};
    c.rows = k, c.cols = m, c.depth = n;
    c.a = w, c.lda = k;
    c.b = dy, c.ldb = lddy;
    c.d = dx, c.ldd = lddx, c.out_type = d->act_dtype;
    c.add = accumulate;
    weft_gemm_run(d, &c);
}

void cuda_linear_wgrad(weft_device *d, weft_real *dw, weft_real *dbias, const weft_act *dy, int64_t lddy,
                       const weft_act *x, int64_t ldx, int64_t m, int64_t n, int64_t k) {
    if (!m || !n) return;
    if (dbias) add_column_sums(d, dbias, dy, lddy, m, n);
    if (!k) return;
    weft_gemm_call c = {};
    c.rows = k, c.cols = n, c.depth = m;
    c.trans_b = true;
    c.a = x, c.lda = ldx;
    c.b = dy, c.ldb = lddy;
    c.d = dw, c.ldd = k, c.out_type = WEFT_F32;
    c.add = true;
    weft_gemm_run(d, &c);
}
