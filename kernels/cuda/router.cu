/* Router of a mixture of experts: softmax, top-k, gradients, statistics of the auxiliary losses.
 *
 * Forward and backward: a warp takes a row; its lanes walk the experts. The statistics are sums over rows in
 * two stages, blocks of rows first, in double; the counts are integers, whose sum needs no order. */
#include "cuda/moe.cuh"

/* ---- forward ---- */

/* Orders the experts of a row: larger p first, then lower id; no two are equal. A NaN comes before all
 * numbers, so that a row of NaN takes the ids 0 .. k-1 and what follows stays within bounds. Below
 * ROUTER_FIRST, above 0. */
#define ROUTER_FIRST UINT64_MAX
static __device__ __forceinline__ uint64_t order_of(float p, int64_t id) {
    const uint32_t bits = p == p ? __float_as_uint(p) : INT32_MAX; /* p >= 0: its bits are in its order */
    return static_cast<uint64_t>(bits) << 32 | (UINT32_MAX - static_cast<uint32_t>(id));
}

static __device__ __forceinline__ uint64_t warp_max_order(uint64_t x) {
    for (int by = 16; by > 0; by /= 2) {
        const uint64_t other = __shfl_xor_sync(WARP_ALL, x, by);
        x = other > x ? other : x;
    }
    return x;
}

/* p = softmax(x), returns logsumexp(x). A NaN is passed over by the maximum, but not by expf. */
static __device__ float softmax_row(float *p, const float *x, int64_t X, int lane) {
    float top = -INFINITY, sum = 0;
    for (int64_t j = lane; j < X; j += 32) top = fmaxf(top, x[j]);
    top = warp_max(top);
    for (int64_t j = lane; j < X; j += 32) {
        p[j] = expf(x[j] - top);
        sum += p[j];
    }
    sum = warp_sum(sum);
    const float inverse = 1 / sum;
    for (int64_t j = lane; j < X; j += 32) p[j] *= inverse;
    return top + logf(sum);
}

/* A lane reads only the probabilities that it wrote itself. */
static __global__ void MOE_BOUNDS router_fwd_kernel(const weft_router a) {
    const int lane = threadIdx.x % 32;
    for (int64_t m = moe_first_row(); m < a.M; m += moe_row_step()) {
        float *p = a.probs + m * a.X, *w = a.w + m * a.k;
        const float lse = softmax_row(p, a.logits + m * a.X, a.X, lane);
        if (lane == 0) a.lse[m] = lse;

        uint64_t last = ROUTER_FIRST;
        float sum = 0;
        for (int64_t s = 0; s < a.k; s++) {
            uint64_t best = 0;
            for (int64_t j = lane; j < a.X; j += 32) {
                const uint64_t order = order_of(p[j], j);
                if (order < last && order > best) best = order;
            }
            last = warp_max_order(best);
            const float chosen = __uint_as_float(static_cast<uint32_t>(last >> 32));
            sum += chosen;
            if (s % 32 == lane) {
                a.ids[m * a.k + s] = static_cast<int32_t>(UINT32_MAX - static_cast<uint32_t>(last));
                w[s] = chosen;
            }
        }
        if (a.normalise)
            for (int64_t s = lane; s < a.k; s += 32) w[s] /= sum;
    }
}

extern "C" void cuda_router_fwd(weft_device *d, const weft_router *a) {
    if (d->dry || a->M == 0) return;
    launch(router_fwd_kernel, cuda_blocks(a->M, MOE_WARPS), MOE_THREADS, 0, d, *a);
}

/* ---- backward ---- */

/* With g the gradient of p:  dlogits_j = p_j * (g_j - sum_i p_i g_i + 2 c lse).
 * g comes from dprob and from w: w_s = p_s, or p_s / S with S = sum_s p_s, whose gradient is
 * (dw_s - sum_t dw_t w_t) / S. All are written as if none were chosen, then the chosen ones again. */
template <class T> static __global__ void MOE_BOUNDS router_bwd_kernel(const weft_router a) {
    const int lane = threadIdx.x % 32;
    for (int64_t m = moe_first_row(); m < a.M; m += moe_row_step()) {
        const float *p = a.probs + m * a.X, *w = a.w + m * a.k, *dw = a.dw + m * a.k;
        const int32_t *ids = a.ids + m * a.k;
        T *dlogits = static_cast<T *>(a.dlogits) + m * a.X;
        float mean = 0, inverse = 1;
        if (a.normalise) {
            float sum = 0;
            for (int64_t s = lane; s < a.k; s += 32) {
                mean += dw[s] * w[s];
                sum += p[ids[s]];
            }
            mean = warp_sum(mean);
            inverse = 1 / warp_sum(sum);
        }
        float sum = 0;
        for (int64_t s = lane; s < a.k; s += 32) sum += p[ids[s]] * ((dw[s] - mean) * inverse);
        if (a.dprob)
            for (int64_t j = lane; j < a.X; j += 32) sum += p[j] * a.dprob[j];
        const float shift = 2 * a.dlse2 * a.lse[m] - warp_sum(sum);
        for (int64_t j = lane; j < a.X; j += 32)
            dlogits[j] = from_float<T>(p[j] * ((a.dprob ? a.dprob[j] : 0) + shift));
        __syncwarp();
        for (int64_t s = lane; s < a.k; s += 32) {
            const int32_t j = ids[s];
            const float g = (a.dprob ? a.dprob[j] : 0) + (dw[s] - mean) * inverse;
            dlogits[j] = from_float<T>(p[j] * (g + shift));
        }
    }
}

extern "C" void cuda_router_bwd(weft_device *d, const weft_router *a) {
    if (d->dry || a->M == 0) return;
    cuda_with_act(d, [&](auto zero) {
        launch(router_bwd_kernel<decltype(zero)>, cuda_blocks(a->M, MOE_WARPS), MOE_THREADS, 0, d, *a);
    });
}

/* ---- statistics ---- */

#define STATS_ROWS 256 /* of a block */

/* part[block, X+1]: a block of rows' sums of the probabilities, and in column X of lse^2. A block has 32
 * columns, each warp every MOE_WARPS-th row of them. Clears the counts for the next kernel. */
static __global__ void MOE_BOUNDS stats_part_kernel(double *part, int64_t *counts, const weft_router a) {
    SHARED(double, sums, MOE_THREADS);
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int64_t column = static_cast<int64_t>(blockIdx.y) * 32 + lane;
    const int64_t first = static_cast<int64_t>(blockIdx.x) * STATS_ROWS;
    const int64_t end = first + STATS_ROWS < a.M ? first + STATS_ROWS : a.M;
    if (blockIdx.x == 0 && blockIdx.y == 0)
        for (int64_t i = threadIdx.x; i < a.k * a.X; i += MOE_THREADS) counts[i] = 0;
    double sum = 0;
    for (int64_t m = first + warp; m < end; m += MOE_WARPS) {
        if (column < a.X)
            sum += static_cast<double>(a.probs[m * a.X + column]);
        else if (column == a.X)
            sum += static_cast<double>(a.lse[m]) * static_cast<double>(a.lse[m]);
    }
    sums[threadIdx.x] = sum;
    __syncthreads();
    if (warp > 0 || column > a.X) return;
    for (int other = 1; other < MOE_WARPS; other++) sum += sums[other * 32 + lane];
    part[blockIdx.x * (a.X + 1) + column] = sum;
}

static __global__ void MOE_BOUNDS stats_count_kernel(unsigned long long *counts, const int32_t *ids,
                                                     int64_t slots, int64_t k, int64_t X) {
    const int64_t step = static_cast<int64_t>(gridDim.x) * MOE_THREADS;
    for (int64_t i = static_cast<int64_t>(blockIdx.x) * MOE_THREADS + threadIdx.x; i < slots; i += step)
        atomicAdd(&counts[i % k * X + ids[i]], 1ull);
}

/* A warp takes a column of part. */
static __global__ void MOE_BOUNDS stats_whole_kernel(float *prob_sum, float *lse2_sum, const double *part,
                                                     int64_t blocks, int64_t X) {
    const int lane = threadIdx.x % 32;
    for (int64_t column = moe_first_row(); column <= X; column += moe_row_step()) {
        double sum = 0;
        for (int64_t b = lane; b < blocks; b += 32) sum += part[b * (X + 1) + column];
        sum = warp_sum(sum);
        if (lane == 0) *(column < X ? prob_sum + column : lse2_sum) = static_cast<float>(sum);
    }
}

extern "C" void cuda_router_stats(weft_device *d, int64_t *counts, weft_real *prob_sum, weft_real *lse2_sum,
                                  const weft_router *a) {
    const int64_t slots = a->M * a->k;
    const unsigned blocks = cuda_blocks(a->M, STATS_ROWS, INT32_MAX);
    size_t mark = weft_arena_mark(&d->act);
    double *part = static_cast<double *>(
        weft_arena_push(&d->act, static_cast<size_t>(blocks * (a->X + 1)) * sizeof *part));
    if (!d->dry) {
        launch(stats_part_kernel, dim3(blocks, cuda_blocks(a->X + 1, 32, UINT16_MAX)), MOE_THREADS, 0, d,
               part, counts, *a);
        if (slots > 0)
            launch(stats_count_kernel, cuda_blocks(slots, MOE_THREADS), MOE_THREADS, 0, d,
                   reinterpret_cast<unsigned long long *>(counts), a->ids, slots, a->k, a->X);
        launch(stats_whole_kernel, cuda_blocks(a->X + 1, MOE_WARPS, INT32_MAX), MOE_THREADS, 0, d, prob_sum,
               lse2_sum, part, static_cast<int64_t>(blocks), a->X);
    }
    weft_arena_release(&d->act, mark);
}

/* ---- load balance ---- */

static __global__ void MOE_BOUNDS balance_kernel(float *dprob, double *loss, const int64_t *counts,
                                                 const float *prob_sum, int64_t L, int64_t k, int64_t X,
                                                 double rows, double coef) {
    SHARED(double, scratch, MOE_WARPS);
    double sum = 0;
    for (int64_t x = threadIdx.x; x < X; x += MOE_THREADS) {
        double f = 0, p = 0;
        for (int64_t l = 0; l < L; l++) {
            for (int64_t s = 0; s < k; s++) f += static_cast<double>(counts[(l * k + s) * X + x]);
            p += static_cast<double>(prob_sum[l * X + x]);
        }
        f /= rows, p /= rows;
        sum += f * p;
        dprob[x] = static_cast<float>(coef * static_cast<double>(X) * f / rows);
    }
    sum = block_sum(sum, scratch);
    if (threadIdx.x == 0) *loss = static_cast<double>(X) * sum;
}

extern "C" void cuda_moe_balance(weft_device *d, weft_real *dprob, double *loss, const int64_t *counts,
                                 const weft_real *prob_sum, int64_t L, int64_t k, int64_t X, int64_t M,
                                 weft_real coef) {
    if (d->dry) return;
    launch(balance_kernel, 1, MOE_THREADS, 0, d, dprob, loss, counts, prob_sum, L, k, X,
           static_cast<double>(L) * static_cast<double>(M), static_cast<double>(coef));
}
