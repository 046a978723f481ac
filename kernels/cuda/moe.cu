/* Moving tokens to experts and back: a warp takes a row, 16 bytes a lane at a time where rows allow it. */
#include "cuda/moe.cuh"

/* ---- gather ---- */

template <class T, int N>
static __global__ void MOE_BOUNDS gather_kernel(T *y, const T *x, const int32_t *row_of, int64_t n,
                                                int64_t D) {
    for (int64_t i = moe_first_row(); i < n; i += moe_row_step()) {
        const T *from = x + row_of[i] * D;
        T *to = y + i * D;
        for (int64_t j = threadIdx.x % 32 * N; j < D; j += 32 * N)
            *reinterpret_cast<group<T, N> *>(to + j) = *reinterpret_cast<const group<T, N> *>(from + j);
    }
}

extern "C" void cuda_gather_rows(weft_device *d, weft_act *y, const weft_act *x, const int32_t *row_of,
                                 int64_t n, int64_t D) {
    if (d->dry || n == 0) return;
    moe_with_width(d, {x, y}, D, [&](auto zero, auto size) {
        using T = decltype(zero);
        launch(gather_kernel<T, decltype(size)::value>, cuda_blocks(n, MOE_WARPS), MOE_THREADS, 0, d,
               static_cast<T *>(y), static_cast<const T *>(x), row_of, n, D);
    });
}

/* ---- sums over a token's slots ---- */

/* y[m] = sum_s w[m,s] * x[slot_of[m,s]] (+ y if accumulate), s in order; w NULL: all 1. */
template <class T, int N>
static __global__ void MOE_BOUNDS sum_slots_kernel(T *y, const T *x, const float *w, const int32_t *slot_of,
                                                   int64_t M, int64_t k, int64_t D, bool accumulate) {
    for (int64_t m = moe_first_row(); m < M; m += moe_row_step()) {
        const int32_t *slot = slot_of + m * k;
        for (int64_t j = threadIdx.x % 32 * N; j < D; j += 32 * N) {
            floats<N> sum = {};
            for (int64_t s = 0; s < k; s++) {
                const float share = w ? w[m * k + s] : 1;
                const floats<N> part = load_floats<N>(x + slot[s] * D + j);
                for (int e = 0; e < N; e++) sum.v[e] += share * part.v[e];
            }
            if (accumulate) {
                const floats<N> before = load_floats<N>(y + m * D + j);
                for (int e = 0; e < N; e++) sum.v[e] += before.v[e];
            }
            store_floats<N>(y + m * D + j, sum);
        }
    }
}

static void sum_slots(weft_device *d, weft_act *y, const weft_act *x, const weft_real *w,
                      const int32_t *slot_of, int64_t M, int64_t k, int64_t D, bool accumulate) {
    if (d->dry || M == 0) return;
    moe_with_width(d, {x, y}, D, [&](auto zero, auto size) {
        using T = decltype(zero);
        launch(sum_slots_kernel<T, decltype(size)::value>, cuda_blocks(M, MOE_WARPS), MOE_THREADS, 0, d,
               static_cast<T *>(y), static_cast<const T *>(x), w, slot_of, M, k, D, accumulate);
    });
}

extern "C" void cuda_gather_rows_bwd(weft_device *d, weft_act *dx, const weft_act *dy, const int32_t *slot_of,
                                     int64_t M, int64_t k, int64_t D, bool accumulate) {
    sum_slots(d, dx, dy, NULL, slot_of, M, k, D, accumulate);
}

extern "C" void cuda_moe_combine(weft_device *d, weft_act *y, const weft_act *x, const weft_real *w,
                                 const int32_t *slot_of, int64_t M, int64_t k, int64_t D) {
    sum_slots(d, y, x, w, slot_of, M, k, D, false);
}

/* ---- backward of the weighted sum ---- */

/* A warp takes a slot. dx may be x: a lane writes what it has just read, and slots share no row. */
template <class T, int N>
static __global__ void MOE_BOUNDS combine_bwd_kernel(T *dx, float *dw, const T *dy, const T *x,
                                                     const float *w, const int32_t *slot_of, int64_t slots,
                                                     int64_t k, int64_t D) {
    const int lane = threadIdx.x % 32;
    for (int64_t i = moe_first_row(); i < slots; i += moe_row_step()) {
        const int64_t row = slot_of[i] * D;
        const T *from = dy + i / k * D;
        const float share = w[i];
        float sum = 0;
        for (int64_t j = lane * N; j < D; j += 32 * N) {
            const floats<N> g = load_floats<N>(from + j), out = load_floats<N>(x + row + j);
            floats<N> to;
            for (int e = 0; e < N; e++) {
                sum += g.v[e] * out.v[e];
                to.v[e] = share * g.v[e];
            }
            store_floats<N>(dx + row + j, to);
        }
        sum = warp_sum(sum);
        if (lane == 0) dw[i] = sum;
    }
}

extern "C" void cuda_moe_combine_bwd(weft_device *d, weft_act *dx, weft_real *dw, const weft_act *dy,
                                     const weft_act *x, const weft_real *w, const int32_t *slot_of, int64_t M,
                                     int64_t k, int64_t D) {
    const int64_t slots = M * k;
    if (d->dry || slots == 0) return;
    moe_with_width(d, {dx, x, dy}, D, [&](auto zero, auto size) {
        using T = decltype(zero);
        launch(combine_bwd_kernel<T, decltype(size)::value>, cuda_blocks(slots, MOE_WARPS), MOE_THREADS, 0, d,
               static_cast<T *>(dx), dw, static_cast<const T *>(dy), static_cast<const T *>(x), w, slot_of,
               slots, k, D);
    });
}
