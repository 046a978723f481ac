/* Attention: the entry points, and what the backward pass begins with. */
#include "cuda/flash.h"
#include "cuda/flash.cuh"

enum { DELTA_WARPS = 4 };

/* delta[i,h] = <dO[i,h], o[i,h]>, which is sum_j P[i,j] dP[i,j] (arXiv 2307.08691, section 3.1.2): a warp
 * each. */
template <class T> static __global__ void delta_kernel(weft_attention a, float *delta) {
    const int64_t at = static_cast<int64_t>(blockIdx.x) * DELTA_WARPS + threadIdx.x / 32;
    if (at >= a.B * a.Tq * a.H) return;
    const int64_t from = at / a.H * a.ldo + at % a.H * a.d;
    const T *o = static_cast<const T *>(a.o) + from, *dout = static_cast<const T *>(a.dout) + from;
    float sum = 0;
    for (int e = threadIdx.x % 32; e < a.d; e += 32) sum += to_float(o[e]) * to_float(dout[e]);
    sum = warp_sum(sum);
    if (threadIdx.x % 32 == 0) delta[at] = sum;
}

template <class T> static bool rows_in_packs(const weft_attention &a) {
    return in_packs(static_cast<const T *>(a.q), a.d, a.ldq) &&
           in_packs(static_cast<const T *>(a.k), a.d, a.ldk) &&
           in_packs(static_cast<const T *>(a.v), a.d, a.ldv) &&
           in_packs(static_cast<const T *>(a.o), a.d, a.ldo);
}
template <class T> static bool gradients_in_packs(const weft_attention &a) {
    return rows_in_packs<T>(a) && in_packs(static_cast<const T *>(a.dout), a.d, a.ldo) &&
           in_packs(static_cast<const T *>(a.dq), a.d, a.ldq) &&
           in_packs(static_cast<const T *>(a.dk), a.d, a.ldk) &&
           in_packs(static_cast<const T *>(a.dv), a.d, a.ldv);
}

extern "C" void cuda_flash_fwd(weft_device *d, const weft_attention *a) {
    if (d->dry || a->B * a->Tq == 0) return;
    if (d->act_dtype == WEFT_BF16)
        flash_fwd_bf16(d, *a, rows_in_packs<bf16>(*a));
    else
        flash_fwd_f32(d, *a, rows_in_packs<float>(*a));
}

extern "C" void cuda_flash_bwd(weft_device *d, const weft_attention *a) {
    const int64_t rows = a->B * a->Tq * a->H;
    const size_t mark = weft_arena_mark(&d->act);
    float *delta = static_cast<float *>(weft_arena_push(&d->act, rows * sizeof *delta));
    if (!d->dry) {
        if (rows > 0)
            cuda_with_act(d, [&](auto type) {
                launch(delta_kernel<decltype(type)>,
                       static_cast<unsigned>((rows + DELTA_WARPS - 1) / DELTA_WARPS), DELTA_WARPS * 32, 0, d,
                       *a, delta);
            });
        if (d->act_dtype == WEFT_BF16)
            flash_bwd_bf16(d, *a, gradients_in_packs<bf16>(*a), delta);
        else
            flash_bwd_f32(d, *a, gradients_in_packs<float>(*a), delta);
    }
    weft_arena_release(&d->act, mark);
}
