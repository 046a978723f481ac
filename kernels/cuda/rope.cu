/* Rotary position embedding.
 *
 * Angles grow to pos * 1, far beyond what float resolves, so they are formed in double: once a row for all of
 * its heads. A block has a few rows at a time; the frequencies are the same for all of them. */
#include "cuda/walk.cuh"

#include <cmath>

#define ROPE_ROWS 4
#define ROPE_ROUNDS 4 /* so often at least a block takes new rows, if there are any */

static inline size_t rope_shared(int64_t half) {
    return half * (sizeof(double) + 2 * ROPE_ROWS * sizeof(float));
}

template <int N, class T>
static __global__ void WALK_BOUNDS rope_kernel(T *x, int64_t ldx, int64_t rows, int64_t length, int64_t heads,
                                               int64_t head_dim, double theta, int64_t pos0,
                                               const int32_t *doc_start, float sign) {
    SHARED_DYN(double, frequency); /* [half] */
    const int half = static_cast<int>(head_dim / 2), steps = half / N, all = static_cast<int>(heads) * steps;
    float *c = reinterpret_cast<float *>(frequency + half), *s = c + ROPE_ROWS * half; /* [ROPE_ROWS, half] */
    for (int i = threadIdx.x; i < half; i += WALK_BLOCK)
        frequency[i] = pow(theta, -static_cast<double>(i) / static_cast<double>(half));
    __syncthreads();
    for (int64_t first = static_cast<int64_t>(blockIdx.x) * ROPE_ROWS; first < rows;
         first += static_cast<int64_t>(gridDim.x) * ROPE_ROWS) {
        const int count = static_cast<int>(rows - first < ROPE_ROWS ? rows - first : ROPE_ROWS);
        for (int e = threadIdx.x; e < count * half; e += WALK_BLOCK) {
            const int64_t m = first + e / half, pos = pos0 + m % length - (doc_start ? doc_start[m] : 0);
            double sine, cosine;
            sincos(static_cast<double>(pos) * frequency[e % half], &sine, &cosine);
            c[e] = static_cast<float>(cosine);
            s[e] = sign * static_cast<float>(sine);
        }
        __syncthreads();
        for (int r = 0; r < count; r++)
            for (int e = threadIdx.x; e < all; e += WALK_BLOCK) {
                const int i = e % steps * N;
                T *low = x + (first + r) * ldx + e / steps * head_dim + i, *high = low + half;
                floats<N> a = load_floats<N>(low), b = load_floats<N>(high);
                const floats<N> cosine = load_floats<N>(c + r * half + i);
                const floats<N> sine = load_floats<N>(s + r * half + i);
                for (int k = 0; k < N; k++) {
                    const float turned = a.v[k] * cosine.v[k] - b.v[k] * sine.v[k];
                    b.v[k] = b.v[k] * cosine.v[k] + a.v[k] * sine.v[k];
                    a.v[k] = turned;
                }
                store_floats(low, a);
                store_floats(high, b);
            }
        __syncthreads();
    }
}

extern "C" void cuda_rope(weft_device *d, weft_act *x_, int64_t ldx, int64_t B, int64_t T_, int64_t heads,
                          int64_t head_dim, weft_real theta, int64_t pos0, const int32_t *doc_start,
                          bool inverse) {
    if (d->dry) return;
    cuda_with_act(d, [&](auto t) {
        typedef decltype(t) T;
        constexpr int N = pack<T>::size;
        T *x = static_cast<T *>(x_);
        const bool packs = fits<N>(x, head_dim / 2, ldx) && head_dim % 2 == 0;
        const unsigned blocks = cuda_blocks(B * T_, ROPE_ROWS * ROPE_ROUNDS, cuda_state(d)->processors * 8);
        launch(packs ? rope_kernel<N, T> : rope_kernel<1, T>, blocks, WALK_BLOCK, rope_shared(head_dim / 2),
               d, x, ldx, B * T_, T_, heads, head_dim, static_cast<double>(theta), pos0, doc_start,
               inverse ? -1.0f : 1.0f);
    });
}
