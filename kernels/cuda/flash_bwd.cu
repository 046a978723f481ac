/* Attention, backward, bf16 (arXiv 2307.08691, algorithm 2), without atomics:
 *   P = exp(s - lse);  dV = P^T dO;  dP = dO V^T;  dS = P (dP - delta);  dQ = dS K scale;  dK = dS^T Q scale
 * in two kernels, each of which computes P and dP anew: one keeps keys and walks over the queries of all
 * heads of the group, the other keeps queries and walks over keys.
 *
 * Shared memory stays within 99 KiB, which all GPUs with bf16 tensor cores have. __launch_bounds__(n, 1):
 * else ptxas spills a few registers to fit another block on a multiprocessor. */
#include "cuda/flash_mma.cuh"

enum { STRIPS = 4, ROWS = 16 * STRIPS };

/* ---- dK, dV ---- */

/* A block keeps ROWS keys of a group. A warp computes the transposes of P and dS for a strip of 16 keys
 * against QUERIES queries, and sums dK and dV of the strip; where these would not fit into registers, of half
 * the columns, and two warps share a strip. */
template <int D> struct keys_shape {
    static constexpr int QUERIES = D > 128 ? 16 : 32, PARTS = D > 128 ? 2 : 1, C = D / PARTS;
    static constexpr int LD = flash_ld<bf16, D>, WARPS = STRIPS * PARTS;
    static constexpr size_t shared = 2 * (ROWS + QUERIES) * LD * sizeof(bf16) + 3 * QUERIES * sizeof(float);
};

/* What belongs to a query, by its place in the tile. */
struct query_rows {
    float *lse, *delta; /* lse in units of log 2 */
    int *first;
};

/* p = P^T, ds = dS^T from the transposed scores and dP of the keys j[0], j[1] (this thread's rows) and the
 * queries from position pos on. What is not seen is 0 even where dP is infinite. */
template <int N>
static __device__ __forceinline__ void weights_of_keys(float (&p)[N / 8][4], float (&ds)[N / 8][4],
                                                       const query_rows &of, float unit, bool whole,
                                                       const int (&j)[2], int pos) {
    const int t = threadIdx.x % 4;
#pragma unroll
    for (int n = 0; n < N / 8; n++)
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const int q = n * 8 + 2 * t + i % 2, key = j[i / 2];
            const bool seen = whole || (of.first[q] <= key && key <= pos + q);
            p[n][i] = seen ? exp2f(p[n][i] * unit - of.lse[q]) : 0;
            ds[n][i] = seen ? p[n][i] * (ds[n][i] - of.delta[q]) : 0;
        }
}

template <int D>
static __global__ void __launch_bounds__(32 * keys_shape<D>::WARPS, 1)
    keys_kernel(weft_attention a, bool packs, const float *delta) {
    typedef keys_shape<D> shape;
    constexpr int QUERIES = shape::QUERIES, LD = shape::LD, C = shape::C, THREADS = 32 * shape::WARPS;
    SHARED_DYN(bf16, k);
    bf16 *v = k + ROWS * LD, *q = v + ROWS * LD, *dout = q + QUERIES * LD;
    query_rows of;
    of.lse = reinterpret_cast<float *>(dout + QUERIES * LD);
    of.delta = of.lse + QUERIES;
    of.first = reinterpret_cast<int *>(of.delta + QUERIES);

    const flash_work at = flash_work_at(blockIdx.x, a.G, a.B);
    const int j0 = at.tile * ROWS, reps = static_cast<int>(a.H / a.G);
    const int Tq = static_cast<int>(a.Tq), Tk = static_cast<int>(a.Tk), pos0 = static_cast<int>(a.q_pos0);
    const int d = static_cast<int>(a.d), warp = threadIdx.x / 32, g = threadIdx.x % 32 / 4;
    const int strip = warp % STRIPS * 16, c0 = warp / STRIPS * C;
    const int j[2] = {j0 + strip + g, j0 + strip + g + 8};
    const float unit = a.scale * FLASH_LOG2_E;

    const int64_t keys = (at.b * a.Tk + j0) * a.ldk + at.head * d,
                  values = (at.b * a.Tk + j0) * a.ldv + at.head * d;
    flash_load<ROWS, D, THREADS>(k, static_cast<const bf16 *>(a.k) + keys, a.ldk, Tk - j0, d, packs);
    flash_load<ROWS, D, THREADS>(v, static_cast<const bf16 *>(a.v) + values, a.ldv, Tk - j0, d, packs);
    float dk[C / 8][4], dv[C / 8][4];
#pragma unroll
    for (int c = 0; c < C / 8; c++)
        for (int i = 0; i < 4; i++) dk[c][i] = dv[c][i] = 0;

    for (int i0 = max(j0 - pos0, 0) / QUERIES * QUERIES; i0 < Tq; i0 += QUERIES) {
        const flash_span span = flash_first_keys<QUERIES>(a, at.b, i0);
        if (span.low > min(j0 + ROWS, Tk) - 1) continue;
        const bool whole = span.high <= j0 && j0 + ROWS - 1 <= pos0 + i0;
        for (int rep = 0; rep < reps; rep++) {
            const int head = at.head * reps + rep;
            const int64_t row = at.b * a.Tq + i0;
            __syncthreads();
            flash_load<QUERIES, D, THREADS>(q, static_cast<const bf16 *>(a.q) + row * a.ldq + head * d, a.ldq,
                                            Tq - i0, d, packs);
            flash_load<QUERIES, D, THREADS>(dout, static_cast<const bf16 *>(a.dout) + row * a.ldo + head * d,
                                            a.ldo, Tq - i0, d, packs);
            if (threadIdx.x < QUERIES) {
                const int r = threadIdx.x;
                const bool there = i0 + r < Tq;
                of.first[r] = flash_first(a, at.b, i0 + r);
                of.lse[r] = there ? a.lse[(row + r) * a.H + head] * FLASH_LOG2_E : 0;
                of.delta[r] = there ? delta[(row + r) * a.H + head] : 0;
            }
            __syncthreads();
            float p[QUERIES / 8][4], ds[QUERIES / 8][4];
            flash_scores<QUERIES, D>(p, k + strip * LD, q);
            flash_scores<QUERIES, D>(ds, v + strip * LD, dout);
            weights_of_keys<QUERIES>(p, ds, of, unit, whole, j, pos0 + i0);
            flash_add_product<QUERIES, C, LD>(dv, p, dout + c0);
            flash_add_product<QUERIES, C, LD>(dk, ds, q + c0);
        }
    }

    __syncthreads(); /* k and v have been read: here they become the way out */
    const float one[2] = {1, 1}, scale[2] = {a.scale, a.scale};
    const int rows = Tk - j0 - strip;
    flash_store<C, LD>(static_cast<bf16 *>(a.dk) + keys + strip * a.ldk, a.ldk, rows, c0, d, packs, dk, scale,
                       k + strip * LD + c0);
    flash_store<C, LD>(static_cast<bf16 *>(a.dv) + values + strip * a.ldv, a.ldv, rows, c0, d, packs, dv, one,
                       v + strip * LD + c0);
}

/* ---- dQ ---- */

/* A block keeps ROWS queries of a head, a warp a strip of 16 of them. */
template <int D> struct queries_shape {
    static constexpr int KEYS = D > 64 ? 32 : 64, LD = flash_ld<bf16, D>, WARPS = STRIPS;
    static constexpr size_t shared = 2 * (ROWS + KEYS) * LD * sizeof(bf16);
};

template <int D>
static __global__ void __launch_bounds__(32 * queries_shape<D>::WARPS, 1)
    queries_kernel(weft_attention a, bool packs, const float *delta) {
    typedef queries_shape<D> shape;
    constexpr int KEYS = shape::KEYS, LD = shape::LD, THREADS = 32 * shape::WARPS;
    SHARED_DYN(bf16, q);
    bf16 *dout = q + ROWS * LD, *k = dout + ROWS * LD, *v = k + KEYS * LD;

    const flash_work at = flash_work_at(blockIdx.x, a.H, a.B);
    const int tiles = gridDim.x / static_cast<unsigned>(a.H * a.B);
    const int i0 = (tiles - 1 - at.tile) * ROWS; /* longest first */
    const int Tq = static_cast<int>(a.Tq), Tk = static_cast<int>(a.Tk), pos0 = static_cast<int>(a.q_pos0);
    const int d = static_cast<int>(a.d), group = at.head / static_cast<int>(a.H / a.G);
    const int strip = threadIdx.x / 32 * 16, g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
    const float unit = a.scale * FLASH_LOG2_E;
    const bf16 *k_all = static_cast<const bf16 *>(a.k) + at.b * a.Tk * a.ldk + group * d;
    const bf16 *v_all = static_cast<const bf16 *>(a.v) + at.b * a.Tk * a.ldv + group * d;

    const int64_t rows = at.b * a.Tq + i0, queries = rows * a.ldq + at.head * d;
    flash_load<ROWS, D, THREADS>(q, static_cast<const bf16 *>(a.q) + queries, a.ldq, Tq - i0, d, packs);
    flash_load<ROWS, D, THREADS>(dout, static_cast<const bf16 *>(a.dout) + rows * a.ldo + at.head * d, a.ldo,
                                 Tq - i0, d, packs);
    const flash_span span = flash_first_keys<ROWS>(a, at.b, i0);
    int first[2], last[2];
    float lse[2], dot[2];
    for (int r = 0; r < 2; r++) {
        const int i = strip + g + 8 * r;
        const bool there = i0 + i < Tq;
        first[r] = flash_first(a, at.b, i0 + i);
        last[r] = min(Tk - 1, pos0 + i0 + i);
        lse[r] = there ? a.lse[(rows + i) * a.H + at.head] * FLASH_LOG2_E : 0;
        dot[r] = there ? delta[(rows + i) * a.H + at.head] : 0;
    }
    float dq[D / 8][4];
#pragma unroll
    for (int c = 0; c < D / 8; c++)
        for (int i = 0; i < 4; i++) dq[c][i] = 0;

    const int end = min(Tk, pos0 + min(i0 + ROWS, Tq));
    for (int j0 = max(span.low, 0) / KEYS * KEYS; j0 < end; j0 += KEYS) {
        __syncthreads();
        flash_load<KEYS, D, THREADS>(k, k_all + j0 * a.ldk, a.ldk, Tk - j0, d, packs);
        flash_load<KEYS, D, THREADS>(v, v_all + j0 * a.ldv, a.ldv, Tk - j0, d, packs);
        __syncthreads();
        float p[KEYS / 8][4], ds[KEYS / 8][4];
        flash_scores<KEYS, D>(p, q + strip * LD, k);
        flash_scores<KEYS, D>(ds, dout + strip * LD, v);
        const bool whole = j0 >= span.high && j0 + KEYS - 1 <= min(Tk - 1, pos0 + i0);
#pragma unroll
        for (int n = 0; n < KEYS / 8; n++)
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const int j = j0 + n * 8 + 2 * t + i % 2, r = i / 2;
                const bool seen = whole || (first[r] <= j && j <= last[r]);
                ds[n][i] = seen ? exp2f(p[n][i] * unit - lse[r]) * (ds[n][i] - dot[r]) : 0;
            }
        flash_add_product<KEYS, D, LD>(dq, ds, k);
    }

    const float scale[2] = {a.scale, a.scale};
    __syncwarp(); /* q has been read, by this warp alone */
    flash_store<D, LD>(static_cast<bf16 *>(a.dq) + queries + strip * a.ldq, a.ldq, Tq - i0 - strip, 0, d,
                       packs, dq, scale, q + strip * LD);
}

void flash_bwd_bf16(const weft_device *d, const weft_attention &a, bool packs, const float *delta) {
    const unsigned B = static_cast<unsigned>(a.B), G = static_cast<unsigned>(a.G),
                   H = static_cast<unsigned>(a.H);
    flash_with_width(a.d, [&](auto width) {
        constexpr int D = decltype(width)::value;
        typedef keys_shape<D> keys;
        typedef queries_shape<D> queries;
        if (a.B * a.Tk > 0)
            launch(keys_kernel<D>, flash_tiles(a.Tk, ROWS) * B * G, 32 * keys::WARPS, keys::shared, d, a,
                   packs, delta);
        if (a.B * a.Tq > 0)
            launch(queries_kernel<D>, flash_tiles(a.Tq, ROWS) * B * H, 32 * queries::WARPS, queries::shared,
                   d, a, packs, delta);
    });
}
