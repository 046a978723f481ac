/* RMSNorm with the residual addition before it. */
#include "cuda/walk.cuh"

/* ---- forward ---- */

/* Sums in bf16 are rounded before they are squared: y and rstd belong to the h that is stored, from which the
 * backward pass starts. */
template <int N, bool WIDE, class T>
static __global__ void WALK_BOUNDS rmsnorm_fwd_kernel(T *y, int64_t ldy, float *rstd, T *h, const T *x,
                                                      int64_t ldx, const T *delta, const T *w, float eps,
                                                      int64_t M, int64_t D) {
    SHARED(float, scratch, WALK_BLOCK / 32);
    const int lane = threadIdx.x % ROW_LANES;
    FOR_MY_ROWS(m, M) {
        const T *row = (delta ? h : x) + m * ldx;
        float sum = 0;
        for (int64_t j = lane * N; j < D; j += ROW_LANES * N) {
            floats<N> a = load_floats<N>(x + m * ldx + j);
            if (delta) {
                const floats<N> more = load_floats<N>(delta + m * D + j);
                for (int k = 0; k < N; k++) a.v[k] = to_float(from_float<T>(a.v[k] + more.v[k]));
                store_floats(h + m * ldx + j, a);
            }
            for (int k = 0; k < N; k++) sum += a.v[k] * a.v[k];
        }
        sum = row_sum<WIDE>(sum, scratch);
        const float r = 1 / sqrtf(sum / static_cast<float>(D) + eps);
        if (lane == 0) rstd[m] = r;
        for (int64_t j = lane * N; j < D; j += ROW_LANES * N) {
            floats<N> a = load_floats<N>(row + j);
            const floats<N> weight = load_floats<N>(w + j);
            for (int k = 0; k < N; k++) a.v[k] = weight.v[k] * (a.v[k] * r);
            store_floats(y + m * ldy + j, a);
        }
    }
}

extern "C" void cuda_rmsnorm_fwd(weft_device *d, weft_act *y_, int64_t ldy, weft_real *rstd, weft_act *h_,
                                 const weft_act *x_, int64_t ldx, const weft_act *delta_, const weft_act *w_,
                                 weft_real eps, int64_t M, int64_t D) {
    if (d->dry) return;
    cuda_with_act(d, [&](auto t) {
        typedef decltype(t) T;
        constexpr int N = pack<T>::size;
        T *y = static_cast<T *>(y_), *h = static_cast<T *>(h_);
        const T *x = static_cast<const T *>(x_), *delta = static_cast<const T *>(delta_);
        const T *w = static_cast<const T *>(w_);
        const bool packs = fits<N>(y, D, ldy) && fits<N>(h, D, ldx) && fits<N>(x, D, ldx) &&
                           fits<N>(delta, D, D) && fits<N>(w, D, D);
        launch(ROW_KERNEL(rmsnorm_fwd_kernel, N, T, packs, D), row_blocks(M, D), WALK_BLOCK, 0, d, y, ldy,
               rstd, h, x, ldx, delta, w, eps, M, D);
    });
}

/* ---- backward ---- */

/* A block has a stretch of rows, eight at a time: first a warp each for the sum over the row, and then every
 * thread a few columns of all eight. What a column adds to dw is summed over the stretch in `partial`. */
#define NORM_ROWS (WALK_BLOCK / 32)
#define NORM_BLOCKS 512

template <int N, class T>
static __global__ void WALK_BOUNDS rmsnorm_bwd_kernel(T *dh, int64_t lddh, float *partial, const T *dy,
                                                      int64_t lddy, const T *h, int64_t ldh,
                                                      const float *rstd, const T *w, int64_t M, int64_t D,
                                                      int64_t stretch, bool accumulate) {
    SHARED(float, scale, NORM_ROWS); /* rstd */
    SHARED(float, share, NORM_ROWS); /* of h in the gradient: rstd^2 * mean(w*dy*h) */
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const int64_t begin = blockIdx.x * stretch, end = begin + stretch < M ? begin + stretch : M;
    partial += blockIdx.x * D;
    for (int64_t m = begin; m < end; m += NORM_ROWS) {
        const int count = static_cast<int>(end - m < NORM_ROWS ? end - m : NORM_ROWS);
        if (warp < count) {
            float sum = 0;
            for (int64_t j = lane * N; j < D; j += 32 * N) {
                const floats<N> g = load_floats<N>(dy + (m + warp) * lddy + j);
                const floats<N> x = load_floats<N>(h + (m + warp) * ldh + j), weight = load_floats<N>(w + j);
                for (int k = 0; k < N; k++) sum += g.v[k] * x.v[k] * weight.v[k];
            }
            sum = warp_sum(sum);
            if (lane == 0) {
                const float r = rstd[m + warp];
                scale[warp] = r;
                share[warp] = sum / static_cast<float>(D) * r * r;
            }
        }
        __syncthreads();
        for (int64_t j = threadIdx.x * N; j < D; j += WALK_BLOCK * N) {
            const floats<N> weight = load_floats<N>(w + j);
            floats<N> dw = {};
            if (m > begin) dw = load_floats<N>(partial + j);
            for (int i = 0; i < count; i++) {
                floats<N> g = load_floats<N>(dy + (m + i) * lddy + j), before = {};
                const floats<N> x = load_floats<N>(h + (m + i) * ldh + j);
                T *to = dh + (m + i) * lddh + j;
                if (accumulate) before = load_floats<N>(to);
                for (int k = 0; k < N; k++) {
                    dw.v[k] += g.v[k] * x.v[k] * scale[i];
                    g.v[k] = before.v[k] + scale[i] * (weight.v[k] * g.v[k] - x.v[k] * share[i]);
                }
                store_floats(to, g);
            }
            store_floats(partial + j, dw);
        }
        __syncthreads();
    }
}

/* dw += the blocks' sums: 32 columns a block, and eight threads a column, whose sums are added in order. */
static __global__ void WALK_BOUNDS rmsnorm_dw_kernel(float *dw, const float *partial, int64_t blocks,
                                                     int64_t D) {
    SHARED(float, sums, WALK_BLOCK);
    const int64_t j = blockIdx.x * 32 + threadIdx.x % 32;
    float sum = 0;
    if (j < D)
        for (int64_t b = threadIdx.x / 32; b < blocks; b += WALK_BLOCK / 32) sum += partial[b * D + j];
    sums[threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.x >= 32 || j >= D) return;
    for (int i = 32; i < WALK_BLOCK; i += 32) sum += sums[i + threadIdx.x];
    dw[j] += sum;
}

extern "C" void cuda_rmsnorm_bwd(weft_device *d, weft_act *dh_, int64_t lddh, weft_real *dw,
                                 const weft_act *dy_, int64_t lddy, const weft_act *h_, int64_t ldh,
                                 const weft_real *rstd, const weft_act *w_, int64_t M, int64_t D,
                                 bool accumulate) {
    /* The shape alone decides how the sums over rows are cut. */
    const int64_t rounds = (M + NORM_ROWS * NORM_BLOCKS - 1) / (NORM_ROWS * NORM_BLOCKS);
    const int64_t stretch = NORM_ROWS * (rounds > 1 ? rounds : 1), blocks = (M + stretch - 1) / stretch;
    const size_t mark = weft_arena_mark(&d->act);
    float *partial = static_cast<float *>(weft_arena_push(&d->act, blocks * D * sizeof *partial));
    if (!d->dry && blocks > 0)
        cuda_with_act(d, [&](auto t) {
            typedef decltype(t) T;
            constexpr int N = pack<T>::size;
            T *dh = static_cast<T *>(dh_);
            const T *dy = static_cast<const T *>(dy_), *h = static_cast<const T *>(h_);
            const T *w = static_cast<const T *>(w_);
            const bool packs =
                fits<N>(dh, D, lddh) && fits<N>(dy, D, lddy) && fits<N>(h, D, ldh) && fits<N>(w, D, D);
            launch(packs ? rmsnorm_bwd_kernel<N, T> : rmsnorm_bwd_kernel<1, T>, static_cast<unsigned>(blocks),
                   WALK_BLOCK, 0, d, dh, lddh, partial, dy, lddy, h, ldh, rstd, w, M, D, stretch, accumulate);
            launch(rmsnorm_dw_kernel, static_cast<unsigned>((D + 31) / 32), WALK_BLOCK, 0, d, dw, partial,
                   blocks, D);
        });
    weft_arena_release(&d->act, mark);
}
