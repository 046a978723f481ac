/* Attention, forward, bf16: 64 queries of a head a block, 16 a warp. */
#include "cuda/flash_mma.cuh"

enum { WARPS = 4, ROWS = 16 * WARPS };

/* Wide heads take fewer keys at a time, so that nothing spills. */
template <int D> static constexpr int keys_of = D > 128 ? 32 : 64;
template <int D> static constexpr size_t shared_of = (ROWS + 2 * keys_of<D>)*flash_ld<bf16, D> * sizeof(bf16);

/* What this thread holds of two rows, g and g + 8 of its warp's strip: sum is of this thread's columns. */
struct softmax_rows {
    float top[2], sum[2];
};

/* Turns scores (in units of log 2) into weights relative to the highest score so far. o and the sums, which
 * are relative to the highest score before, follow. */
template <int KEYS, int D>
static __device__ __forceinline__ void soften(softmax_rows &rows, float (&s)[KEYS / 8][4],
                                              float (&o)[D / 8][4]) {
#pragma unroll
    for (int r = 0; r < 2; r++) {
        float top = rows.top[r];
#pragma unroll
        for (int n = 0; n < KEYS / 8; n++) top = fmaxf(top, fmaxf(s[n][2 * r], s[n][2 * r + 1]));
        for (int by = 1; by < 4; by *= 2) top = fmaxf(top, __shfl_xor_sync(WARP_ALL, top, by));
        const float base = top == -INFINITY ? 0 : top; /* no key yet: all weights become 0 */
        const float shrink = exp2f(rows.top[r] - base);
        float sum = rows.sum[r] * shrink;
#pragma unroll
        for (int n = 0; n < KEYS / 8; n++)
#pragma unroll
            for (int i = 2 * r; i < 2 * r + 2; i++) {
                s[n][i] = exp2f(s[n][i] - base);
                sum += s[n][i];
            }
#pragma unroll
        for (int c = 0; c < D / 8; c++) {
            o[c][2 * r] *= shrink;
            o[c][2 * r + 1] *= shrink;
        }
        rows.top[r] = top;
        rows.sum[r] = sum;
    }
}

template <int D>
static __global__ void __launch_bounds__(32 * WARPS) forward_kernel(weft_attention a, bool packs) {
    constexpr int KEYS = keys_of<D>, LD = flash_ld<bf16, D>;
    SHARED_DYN(bf16, q);
    bf16 *k = q + ROWS * LD, *v = k + KEYS * LD;
    const flash_work at = flash_work_at(blockIdx.x, a.H, a.B);
    const int tiles = gridDim.x / static_cast<unsigned>(a.H * a.B);
    const int i0 = (tiles - 1 - at.tile) * ROWS; /* later queries see more keys: longest first */
    const int Tq = static_cast<int>(a.Tq), Tk = static_cast<int>(a.Tk), pos0 = static_cast<int>(a.q_pos0);
    const int d = static_cast<int>(a.d), group = at.head / static_cast<int>(a.H / a.G);
    const int warp = threadIdx.x / 32, g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
    const bf16 *k_all = static_cast<const bf16 *>(a.k) + at.b * a.Tk * a.ldk + group * d;
    const bf16 *v_all = static_cast<const bf16 *>(a.v) + at.b * a.Tk * a.ldv + group * d;
    bf16 *strip = q + 16 * warp * LD;

    flash_load<ROWS, D, 32 * WARPS>(q,
                                    static_cast<const bf16 *>(a.q) + (at.b * a.Tq + i0) * a.ldq + at.head * d,
                                    a.ldq, Tq - i0, d, packs);
    const flash_span span = flash_first_keys<ROWS>(a, at.b, i0);
    int row[2], first[2], last[2];
    for (int r = 0; r < 2; r++) {
        row[r] = i0 + 16 * warp + g + 8 * r;
        first[r] = flash_first(a, at.b, row[r]);
        last[r] = min(Tk - 1, pos0 + row[r]);
    }
    float o[D / 8][4];
#pragma unroll
    for (int c = 0; c < D / 8; c++)
        for (int i = 0; i < 4; i++) o[c][i] = 0;
    softmax_rows rows = {{-INFINITY, -INFINITY}, {0, 0}};

    const float unit = a.scale * FLASH_LOG2_E;
    const int end = min(Tk, pos0 + min(i0 + ROWS, Tq));
    for (int j0 = max(span.low, 0) / KEYS * KEYS; j0 < end; j0 += KEYS) {
        __syncthreads();
        flash_load<KEYS, D, 32 * WARPS>(k, k_all + j0 * a.ldk, a.ldk, Tk - j0, d, packs);
        flash_load<KEYS, D, 32 * WARPS>(v, v_all + j0 * a.ldv, a.ldv, Tk - j0, d, packs);
        __syncthreads();
        float s[KEYS / 8][4];
        flash_scores<KEYS, D>(s, strip, k);
        const bool whole = j0 >= span.high && j0 + KEYS - 1 <= min(Tk - 1, pos0 + i0);
#pragma unroll
        for (int n = 0; n < KEYS / 8; n++)
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const int j = j0 + n * 8 + 2 * t + i % 2;
                const bool seen = whole || (first[i / 2] <= j && j <= last[i / 2]);
                s[n][i] = seen ? s[n][i] * unit : -INFINITY;
            }
        soften<KEYS, D>(rows, s, o);
        flash_add_product<KEYS, D, LD>(o, s, v);
    }

    float share[2];
    for (int r = 0; r < 2; r++) {
        for (int by = 1; by < 4; by *= 2) rows.sum[r] += __shfl_xor_sync(WARP_ALL, rows.sum[r], by);
        share[r] = 1 / rows.sum[r];
        if (a.lse && t == 0 && row[r] < Tq)
            a.lse[(at.b * a.Tq + row[r]) * a.H + at.head] = (rows.top[r] + log2f(rows.sum[r])) * FLASH_LN_2;
    }
    const int from = i0 + 16 * warp;
    __syncwarp();
    flash_store<D, LD>(static_cast<bf16 *>(a.o) + (at.b * a.Tq + from) * a.ldo + at.head * d, a.ldo,
                       Tq - from, 0, d, packs, o, share, strip);
}

void flash_fwd_bf16(const weft_device *d, const weft_attention &a, bool packs) {
    flash_with_width(a.d, [&](auto width) {
        constexpr int D = decltype(width)::value;
        launch(forward_kernel<D>, flash_tiles(a.Tq, ROWS) * static_cast<unsigned>(a.B * a.H), 32 * WARPS,
               shared_of<D>, d, a, packs);
    });
}
