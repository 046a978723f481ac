/* Softmax cross-entropy, a block a row: one pass for the maximum and the sum of exponentials together, and,
 * for the gradient, one that replaces the logits. */
#include "cuda/walk.cuh"

#include <cmath>

/* A maximum of -infinity (no word, or none that is possible) cannot be subtracted; 0 does as well, and shows
 * a NaN that the maximum has passed over. */
static __device__ __forceinline__ float shift_of(float top) {
    return top == -INFINITY ? 0 : top;
}

typedef struct row_total {
    float top;
    double sum; /* of exp(x - shift_of(top)) */
} row_total;

/* Every thread gets the row's. The threads' sums, of a few hundred terms, are in float, and the sum of those
 * in double: a vocabulary of 256K terms would lose three digits in float. */
template <int N, class T>
static __device__ __forceinline__ row_total sum_row(const T *x, int64_t V, float *tops, double *sums) {
    float top = -INFINITY, sum = 0;
    for (int64_t j = threadIdx.x * N; j < V; j += WALK_BLOCK * N) {
        const floats<N> f = load_floats<N>(x + j);
        float more = top;
        for (int k = 0; k < N; k++) more = fmaxf(more, f.v[k]);
        if (more > top) {
            sum *= expf(top - more);
            top = more;
        }
        for (int k = 0; k < N; k++) sum += expf(f.v[k] - shift_of(top));
    }
    float most = warp_max(top);
    if (threadIdx.x % 32 == 0) tops[threadIdx.x / 32] = most;
    __syncthreads();
    for (int w = 0; w < WALK_BLOCK / 32; w++) most = fmaxf(most, tops[w]);
    sum *= expf(top - shift_of(most));
    return {most, block_sum(static_cast<double>(sum), sums)};
}

/* x = factor * exp(x - top), less `scale` at the target if that is in [0, V). */
template <int N, class T>
static __device__ __forceinline__ void replace_row(T *x, int64_t V, float top, float factor, int64_t target,
                                                   float scale) {
    for (int64_t j = threadIdx.x * N; j < V; j += WALK_BLOCK * N) {
        floats<N> f = load_floats<N>(x + j);
        for (int k = 0; k < N; k++) f.v[k] = expf(f.v[k] - top) * factor - (j + k == target ? scale : 0);
        store_floats(x + j, f);
    }
}
template <int N, class T> static __device__ __forceinline__ void zero_row(T *x, int64_t V) {
    for (int64_t j = threadIdx.x * N; j < V; j += WALK_BLOCK * N) store_floats(x + j, floats<N>{});
}

#define FOR_MY_ROW(m, M) for (int64_t m = blockIdx.x; m < (M); m += gridDim.x)

/* ---- the whole vocabulary ---- */

template <int N, class T>
static __global__ void WALK_BOUNDS cross_entropy_kernel(float *loss, T *logits, const int32_t *targets,
                                                        int64_t M, int64_t V, float scale, bool with_grad) {
    SHARED(float, tops, WALK_BLOCK / 32);
    SHARED(double, sums, WALK_BLOCK / 32);
    FOR_MY_ROW(m, M) {
        T *row = logits + m * V;
        const int32_t target = targets[m];
        float value = 0;
        if (target >= 0) {
            const float wanted = to_float(row[target]); /* before it is replaced */
            const row_total t = sum_row<N>(row, V, tops, sums);
            if (with_grad) replace_row<N>(row, V, t.top, static_cast<float>(scale / t.sum), target, scale);
            if (threadIdx.x == 0)
                value = static_cast<float>(log(t.sum) + (static_cast<double>(t.top) - wanted));
        } else if (with_grad) {
            zero_row<N>(row, V);
        }
        if (loss && threadIdx.x == 0) loss[m] = value;
    }
}

extern "C" void cuda_cross_entropy(weft_device *d, weft_real *loss, weft_act *logits_, const int32_t *targets,
                                   int64_t M, int64_t V, weft_real scale, bool with_grad) {
    if (d->dry) return;
    cuda_with_act(d, [&](auto t) {
        typedef decltype(t) T;
        constexpr int N = pack<T>::size;
        T *logits = static_cast<T *>(logits_);
        launch(fits<N>(logits, V, V) ? cross_entropy_kernel<N, T> : cross_entropy_kernel<1, T>,
               cuda_blocks(M, 1), WALK_BLOCK, 0, d, loss, logits, targets, M, V, scale, with_grad);
    });
}

/* ---- in parts ---- */

template <int N, class T>
static __global__ void WALK_BOUNDS partial_kernel(float *part, const T *logits, const int32_t *targets,
                                                  int64_t M, int64_t first, int64_t V) {
    SHARED(float, tops, WALK_BLOCK / 32);
    SHARED(double, sums, WALK_BLOCK / 32);
    FOR_MY_ROW(m, M) {
        const T *row = logits + m * V;
        const row_total t = sum_row<N>(row, V, tops, sums);
        if (threadIdx.x > 0) continue;
        const int64_t target = targets[m] - first;
        part[3 * m] = t.top;
        part[3 * m + 1] = static_cast<float>(t.sum);
        part[3 * m + 2] = targets[m] >= 0 && target >= 0 && target < V ? to_float(row[target]) : 0;
    }
}

extern "C" void cuda_cross_entropy_partial(weft_device *d, weft_real *part, const weft_act *logits_,
                                           const int32_t *targets, int64_t M, int64_t first, int64_t V) {
    if (d->dry) return;
    cuda_with_act(d, [&](auto t) {
        typedef decltype(t) T;
        constexpr int N = pack<T>::size;
        const T *logits = static_cast<const T *>(logits_);
        launch(fits<N>(logits, V, V) ? partial_kernel<N, T> : partial_kernel<1, T>, cuda_blocks(M, 1),
               WALK_BLOCK, 0, d, part, logits, targets, M, first, V);
    });
}

/* The first thread adds the parts, which lie `stride` apart; the block then replaces its logits. */
template <int N, class T>
static __global__ void WALK_BOUNDS merge_kernel(float *loss, T *logits, const float *all_parts, int64_t parts,
                                                const int32_t *targets, int64_t M, int64_t first, int64_t V,
                                                float scale, bool with_grad) {
    SHARED(float, whole, 2);
    FOR_MY_ROW(m, M) {
        T *row = logits + m * V;
        float value = 0;
        if (targets[m] >= 0) {
            if (threadIdx.x == 0) {
                const float *part = all_parts + 3 * m;
                const int64_t stride = 3 * M;
                float top = -INFINITY;
                double sum = 0, wanted = 0;
                for (int64_t p = 0; p < parts; p++) top = fmaxf(top, part[p * stride]);
                for (int64_t p = 0; p < parts; p++) {
                    const double below = static_cast<double>(part[p * stride]) - top;
                    sum += part[p * stride + 1] * exp(below);
                    wanted += part[p * stride + 2];
                }
                whole[0] = top;
                whole[1] = static_cast<float>(scale / sum);
                value = static_cast<float>(log(sum) + (top - wanted));
            }
            __syncthreads();
            if (with_grad) replace_row<N>(row, V, whole[0], whole[1], targets[m] - first, scale);
            __syncthreads();
        } else if (with_grad) {
            zero_row<N>(row, V);
        }
        if (loss && threadIdx.x == 0) loss[m] = value;
    }
}

extern "C" void cuda_cross_entropy_merge(weft_device *d, weft_real *loss, weft_act *logits_,
                                         const weft_real *all_parts, int64_t parts, const int32_t *targets,
                                         int64_t M, int64_t first, int64_t V, weft_real scale,
                                         bool with_grad) {
    if (d->dry) return;
    cuda_with_act(d, [&](auto t) {
        typedef decltype(t) T;
        constexpr int N = pack<T>::size;
        T *logits = static_cast<T *>(logits_);
        launch(fits<N>(logits, V, V) ? merge_kernel<N, T> : merge_kernel<1, T>, cuda_blocks(M, 1),
               with_grad ? WALK_BLOCK : 32, 0, d, loss, logits, all_parts, parts, targets, M, first, V, scale,
               with_grad);
    });
}
