/* SwiGLU. Every thread reads its gate and up before it writes there: gradients may replace them. */
#include "cuda/walk.cuh"

/* silu(gate) and its slope. */
static __device__ __forceinline__ float silu(float gate, float *slope) {
    const float s = sigmoid(gate), y = gate * s;
    *slope = s + y * (1 - s);
    return y;
}

template <class T> struct swiglu_op {
    T *y;
    const T *gu;
    int64_t F;
    template <int N> __device__ __forceinline__ void at(int64_t m, int64_t j) const {
        const T *gate = gu + 2 * m * F + j;
        floats<N> x = load_floats<N>(gate);
        const floats<N> up = load_floats<N>(gate + F);
        float slope;
        for (int k = 0; k < N; k++) x.v[k] = silu(x.v[k], &slope) * up.v[k];
        store_floats(y + m * F + j, x);
    }
};

extern "C" void cuda_swiglu_fwd(weft_device *d, weft_act *y, const weft_act *gu, int64_t M, int64_t F) {
    if (d->dry) return;
    cuda_with_act(d, [&](auto t) {
        typedef decltype(t) T;
        constexpr int N = pack<T>::size;
        const swiglu_op<T> f = {static_cast<T *>(y), static_cast<const T *>(gu), F};
        walk_rows<N>(d, f, M, F, fits<N>(f.y, F, F) && fits<N>(f.gu, F, F));
    });
}

template <class T> struct swiglu_bwd_op {
    T *dgu;
    const T *dy, *gu;
    int64_t F;
    template <int N> __device__ __forceinline__ void at(int64_t m, int64_t j) const {
        const int64_t at = 2 * m * F + j;
        floats<N> gate = load_floats<N>(gu + at), up = load_floats<N>(gu + at + F);
        const floats<N> out = load_floats<N>(dy + m * F + j);
        for (int k = 0; k < N; k++) {
            float slope;
            const float y = silu(gate.v[k], &slope);
            gate.v[k] = out.v[k] * up.v[k] * slope;
            up.v[k] = out.v[k] * y;
        }
        store_floats(dgu + at, gate);
        store_floats(dgu + at + F, up);
    }
};

extern "C" void cuda_swiglu_bwd(weft_device *d, weft_act *dgu, const weft_act *dy, const weft_act *gu,
                                int64_t M, int64_t F) {
    if (d->dry) return;
    cuda_with_act(d, [&](auto t) {
        typedef decltype(t) T;
        constexpr int N = pack<T>::size;
        const swiglu_bwd_op<T> f = {static_cast<T *>(dgu), static_cast<const T *>(dy),
                                    static_cast<const T *>(gu), F};
        walk_rows<N>(d, f, M, F, fits<N>(f.dgu, F, F) && fits<N>(f.dy, F, F) && fits<N>(f.gu, F, F));
    });
}

template <int N, bool WIDE, class T>
static __global__ void WALK_BOUNDS weighted_kernel(T *dgu, float *dw, T *du, const T *gu, const float *w,
                                                   int64_t M, int64_t F) {
    SHARED(float, scratch, WALK_BLOCK / 32);
    const int lane = threadIdx.x % ROW_LANES;
    FOR_MY_ROWS(m, M) {
        const float share = w[m];
        float sum = 0;
        for (int64_t j = lane * N; j < F; j += ROW_LANES * N) {
            const int64_t at = 2 * m * F + j;
            floats<N> gate = load_floats<N>(gu + at), up = load_floats<N>(gu + at + F);
            floats<N> inner = load_floats<N>(du + m * F + j);
            for (int k = 0; k < N; k++) {
                float slope;
                const float y = silu(gate.v[k], &slope), a = y * up.v[k], da = share * inner.v[k];
                sum += inner.v[k] * a;
                gate.v[k] = da * up.v[k] * slope;
                up.v[k] = da * y;
                inner.v[k] = share * a;
            }
            store_floats(dgu + at, gate);
            store_floats(dgu + at + F, up);
            store_floats(du + m * F + j, inner);
        }
        sum = row_sum<WIDE>(sum, scratch);
        if (lane == 0) dw[m] = sum;
    }
}

extern "C" void cuda_swiglu_weighted_bwd(weft_device *d, weft_act *dgu_, weft_real *dw, weft_act *du_,
                                         const weft_act *gu_, const weft_real *w, int64_t M, int64_t F) {
    if (d->dry) return;
    cuda_with_act(d, [&](auto t) {
        typedef decltype(t) T;
        constexpr int N = pack<T>::size;
        T *dgu = static_cast<T *>(dgu_), *du = static_cast<T *>(du_);
        const T *gu = static_cast<const T *>(gu_);
        const bool packs = fits<N>(dgu, F, F) && fits<N>(du, F, F) && fits<N>(gu, F, F);
        launch(ROW_KERNEL(weighted_kernel, N, T, packs, F), row_blocks(M, F), WALK_BLOCK, 0, d, dgu, dw, du,
               gu, w, M, F);
    });
}
