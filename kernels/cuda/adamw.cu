/* AdamW in one pass over its arrays. */
#include "cuda/walk.cuh"

#include <cmath>

template <class T> struct adamw_op {
    float *p;
    T *p_act; /* or NULL */
    const float *g;
    float *m, *v;
    const weft_clip *clip;
    float lr, beta1, rest1, fix1, beta2, rest2, fix2, eps, decay;

    template <int N> __device__ __forceinline__ void at(int64_t i) const {
        if (!clip->finite) return;
        const float scale = clip->scale;
        const floats<N> grad = load_floats<N>(g + i);
        floats<N> first = load_floats<N>(m + i), second = load_floats<N>(v + i), x = load_floats<N>(p + i);
        for (int k = 0; k < N; k++) {
            const float gk = scale * grad.v[k];
            first.v[k] = beta1 * first.v[k] + rest1 * gk;
            second.v[k] = beta2 * second.v[k] + rest2 * (gk * gk);
            const float step = first.v[k] * fix1 / (sqrtf(second.v[k] * fix2) + eps) + decay * x.v[k];
            x.v[k] -= lr * step;
        }
        store_floats(m + i, first);
        store_floats(v + i, second);
        store_floats(p + i, x);
        if (p_act) store_floats(p_act + i, x);
    }
};

extern "C" void cuda_adamw(weft_device *d, weft_real *p, weft_act *p_act, const weft_real *g, weft_real *m,
                           weft_real *v, int64_t n, const weft_adamw *a) {
    if (d->dry) return;
    /* In double, as on the CPU: at step 1 and beta2 = 0.999 float would be off in the fifth digit. */
    const double t = static_cast<double>(a->step), b1 = a->beta1, b2 = a->beta2;
    cuda_with_act(d, [&](auto type) {
        typedef decltype(type) T;
        const adamw_op<T> f = {p,
                               static_cast<T *>(p_act),
                               g,
                               m,
                               v,
                               a->clip,
                               a->lr,
                               a->beta1,
                               static_cast<float>(1 - b1),
                               static_cast<float>(1 / (1 - pow(b1, t))),
                               a->beta2,
                               static_cast<float>(1 - b2),
                               static_cast<float>(1 / (1 - pow(b2, t))),
                               a->eps,
                               a->weight_decay};
        walk_flat<4>(d, f, n,
                     fits<4>(p, 0, 0) && fits<4>(f.p_act, 0, 0) && fits<4>(g, 0, 0) && fits<4>(m, 0, 0) &&
                         fits<4>(v, 0, 0));
    });
}
