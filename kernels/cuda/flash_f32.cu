/* Attention in float: the blocks and walks of flash_fwd.cu and flash_bwd.cu, products by FMA. 16 x 16 threads
 * hold a square of scores: thread (ty, tx) the rows ty + 16i and the columns tx + 16c, and the same rows and
 * columns of the results. Weights pass through shared memory to the product that follows.
 *
 * Shared memory stays within 99 KiB. */
#include "cuda/flash.cuh"

enum { SIDE = 16, THREADS = SIDE * SIDE };

template <int D> struct shape {
    static constexpr int N = D > 128 ? 1 : 2; /* rows, and columns of scores, of a thread */
    static constexpr int ROWS = SIDE * N, C = D / SIDE, LD = flash_ld<float, D>, LDP = ROWS + 1;
    static constexpr size_t bytes(int tiles, int weights) {
        return (tiles * ROWS * LD + weights * ROWS * LDP) * sizeof(float);
    }
};

static __device__ __forceinline__ int row_of_thread() {
    return threadIdx.x / SIDE;
}
static __device__ __forceinline__ int column_of_thread() {
    return threadIdx.x % SIDE;
}

template <int N, int C> static __device__ __forceinline__ void clear(float (&x)[N][C]) {
#pragma unroll
    for (int i = 0; i < N; i++)
#pragma unroll
        for (int c = 0; c < C; c++) x[i][c] = 0;
}

/* s = a b^T, both tiles of D columns. */
template <int D, int N>
static __device__ __forceinline__ void scores(float (&s)[N][N], const float *a, const float *b) {
    constexpr int LD = shape<D>::LD, P = pack<float>::size;
    clear(s);
    for (int e = 0; e < D; e += P) {
        pack<float> x[N], y[N];
#pragma unroll
        for (int i = 0; i < N; i++) {
            x[i] = load_pack(a + (row_of_thread() + SIDE * i) * LD + e);
            y[i] = load_pack(b + (column_of_thread() + SIDE * i) * LD + e);
        }
#pragma unroll
        for (int i = 0; i < N; i++)
#pragma unroll
            for (int c = 0; c < N; c++)
#pragma unroll
                for (int u = 0; u < P; u++) s[i][c] += x[i].v[u] * y[c].v[u];
    }
}

/* To shared memory, for add_product. */
template <int D, int N> static __device__ __forceinline__ void put(float *p, const float (&s)[N][N]) {
#pragma unroll
    for (int i = 0; i < N; i++)
#pragma unroll
        for (int c = 0; c < N; c++)
            p[(row_of_thread() + SIDE * i) * shape<D>::LDP + column_of_thread() + SIDE * c] = s[i][c];
}

/* sum += p tile. */
template <int D, int N>
static __device__ __forceinline__ void add_product(float (&sum)[N][D / SIDE], const float *p,
                                                   const float *tile) {
    typedef shape<D> S;
    for (int j = 0; j < S::ROWS; j++) {
        float w[N];
#pragma unroll
        for (int i = 0; i < N; i++) w[i] = p[(row_of_thread() + SIDE * i) * S::LDP + j];
#pragma unroll
        for (int c = 0; c < S::C; c++) {
            const float x = tile[j * S::LD + column_of_thread() + SIDE * c];
#pragma unroll
            for (int i = 0; i < N; i++) sum[i][c] += w[i] * x;
        }
    }
}

/* Rows of d elements, of which there are `rows`. */
template <int D, int N>
static __device__ __forceinline__ void store(float *to, int64_t ld, int rows, int d,
                                             const float (&x)[N][D / SIDE], const float (&scale)[N]) {
#pragma unroll
    for (int i = 0; i < N; i++) {
        const int r = row_of_thread() + SIDE * i;
#pragma unroll
        for (int c = 0; c < D / SIDE; c++) {
            const int e = column_of_thread() + SIDE * c;
            if (r < rows && e < d) to[r * ld + e] = x[i][c] * scale[i];
        }
    }
}

/* Over the 16 threads of a row. */
static __device__ __forceinline__ float row_max(float x) {
    for (int by = SIDE / 2; by > 0; by /= 2) x = fmaxf(x, __shfl_xor_sync(WARP_ALL, x, by));
    return x;
}
static __device__ __forceinline__ float row_sum(float x) {
    for (int by = SIDE / 2; by > 0; by /= 2) x += __shfl_xor_sync(WARP_ALL, x, by);
    return x;
}

/* ---- forward ---- */

template <int D>
static __global__ void __launch_bounds__(THREADS, 1) forward_kernel(weft_attention a, bool packs) {
    typedef shape<D> S;
    constexpr int N = S::N, ROWS = S::ROWS;
    SHARED_DYN(float, q);
    float *k = q + ROWS * S::LD, *v = k + ROWS * S::LD, *weights = v + ROWS * S::LD;
    const flash_work at = flash_work_at(blockIdx.x, a.H, a.B);
    const int tiles = gridDim.x / static_cast<unsigned>(a.H * a.B);
    const int i0 = (tiles - 1 - at.tile) * ROWS; /* longest first */
    const int Tq = static_cast<int>(a.Tq), Tk = static_cast<int>(a.Tk), pos0 = static_cast<int>(a.q_pos0);
    const int d = static_cast<int>(a.d), group = at.head / static_cast<int>(a.H / a.G);
    const float *k_all = static_cast<const float *>(a.k) + at.b * a.Tk * a.ldk + group * d;
    const float *v_all = static_cast<const float *>(a.v) + at.b * a.Tk * a.ldv + group * d;
    const int64_t rows = at.b * a.Tq + i0;

    flash_load<ROWS, D, THREADS>(q, static_cast<const float *>(a.q) + rows * a.ldq + at.head * d, a.ldq,
                                 Tq - i0, d, packs);
    const flash_span span = flash_first_keys<ROWS>(a, at.b, i0);
    const float unit = a.scale * FLASH_LOG2_E;
    float o[N][S::C], top[N], sum[N];
    int first[N], last[N];
    clear(o);
    for (int i = 0; i < N; i++) {
        const int r = i0 + row_of_thread() + SIDE * i;
        first[i] = flash_first(a, at.b, r);
        last[i] = min(Tk - 1, pos0 + r);
        top[i] = -INFINITY;
        sum[i] = 0;
    }
    const int end = min(Tk, pos0 + min(i0 + ROWS, Tq));
    for (int j0 = max(span.low, 0) / ROWS * ROWS; j0 < end; j0 += ROWS) {
        __syncthreads();
        flash_load<ROWS, D, THREADS>(k, k_all + j0 * a.ldk, a.ldk, Tk - j0, d, packs);
        flash_load<ROWS, D, THREADS>(v, v_all + j0 * a.ldv, a.ldv, Tk - j0, d, packs);
        __syncthreads();
        float s[N][N];
        scores<D>(s, q, k);
        for (int i = 0; i < N; i++) {
            float high = top[i];
            for (int c = 0; c < N; c++) {
                const int j = j0 + column_of_thread() + SIDE * c;
                s[i][c] = first[i] <= j && j <= last[i] ? s[i][c] * unit : -INFINITY;
                high = fmaxf(high, s[i][c]);
            }
            high = row_max(high);
            const float base = high == -INFINITY ? 0 : high; /* no key yet: all weights become 0 */
            const float shrink = exp2f(top[i] - base);
            sum[i] *= shrink;
            for (int c = 0; c < N; c++) {
                s[i][c] = exp2f(s[i][c] - base);
                sum[i] += s[i][c];
            }
            for (int c = 0; c < S::C; c++) o[i][c] *= shrink;
            top[i] = high;
        }
        put<D>(weights, s);
        __syncthreads();
        add_product<D>(o, weights, v);
    }

    float share[N];
    for (int i = 0; i < N; i++) {
        const int r = row_of_thread() + SIDE * i;
        const float whole = row_sum(sum[i]);
        share[i] = 1 / whole;
        if (a.lse && column_of_thread() == 0 && i0 + r < Tq)
            a.lse[(rows + r) * a.H + at.head] = (top[i] + log2f(whole)) * FLASH_LN_2;
    }
    store<D>(static_cast<float *>(a.o) + rows * a.ldo + at.head * d, a.ldo, Tq - i0, d, o, share);
}

void flash_fwd_f32(const weft_device *d, const weft_attention &a, bool packs) {
    flash_with_width(a.d, [&](auto width) {
        constexpr int D = decltype(width)::value;
        launch(forward_kernel<D>, flash_tiles(a.Tq, shape<D>::ROWS) * static_cast<unsigned>(a.B * a.H),
               THREADS, shape<D>::bytes(3, 1), d, a, packs);
    });
}

/* ---- backward: dK, dV ---- */

/* Rows of the squares are keys, columns queries. */
template <int D>
static __global__ void __launch_bounds__(THREADS, 1)
    keys_kernel(weft_attention a, bool packs, const float *delta) {
    typedef shape<D> S;
    constexpr int N = S::N, ROWS = S::ROWS;
    SHARED_DYN(float, k);
    float *v = k + ROWS * S::LD, *q = v + ROWS * S::LD, *dout = q + ROWS * S::LD;
    float *weights = dout + ROWS * S::LD, *gradients = weights + ROWS * S::LDP;
    const flash_work at = flash_work_at(blockIdx.x, a.G, a.B);
    const int j0 = at.tile * ROWS, reps = static_cast<int>(a.H / a.G);
    const int Tq = static_cast<int>(a.Tq), Tk = static_cast<int>(a.Tk), pos0 = static_cast<int>(a.q_pos0);
    const int d = static_cast<int>(a.d);
    const float unit = a.scale * FLASH_LOG2_E;
    const int64_t keys = (at.b * a.Tk + j0) * a.ldk + at.head * d,
                  values = (at.b * a.Tk + j0) * a.ldv + at.head * d;

    flash_load<ROWS, D, THREADS>(k, static_cast<const float *>(a.k) + keys, a.ldk, Tk - j0, d, packs);
    flash_load<ROWS, D, THREADS>(v, static_cast<const float *>(a.v) + values, a.ldv, Tk - j0, d, packs);
    float dk[N][S::C], dv[N][S::C];
    clear(dk);
    clear(dv);
    for (int i0 = max(j0 - pos0, 0) / ROWS * ROWS; i0 < Tq; i0 += ROWS) {
        const flash_span span = flash_first_keys<ROWS>(a, at.b, i0);
        if (span.low > min(j0 + ROWS, Tk) - 1) continue;
        for (int rep = 0; rep < reps; rep++) {
            const int head = at.head * reps + rep;
            const int64_t row = at.b * a.Tq + i0;
            __syncthreads();
            flash_load<ROWS, D, THREADS>(q, static_cast<const float *>(a.q) + row * a.ldq + head * d, a.ldq,
                                         Tq - i0, d, packs);
            flash_load<ROWS, D, THREADS>(dout, static_cast<const float *>(a.dout) + row * a.ldo + head * d,
                                         a.ldo, Tq - i0, d, packs);
            __syncthreads();
            float p[N][N], ds[N][N];
            scores<D>(p, k, q);
            scores<D>(ds, v, dout);
            for (int c = 0; c < N; c++) {
                const int i = column_of_thread() + SIDE * c, first = flash_first(a, at.b, i0 + i);
                const bool there = i0 + i < Tq;
                const float lse = there ? a.lse[(row + i) * a.H + head] * FLASH_LOG2_E : 0;
                const float dot = there ? delta[(row + i) * a.H + head] : 0;
                for (int r = 0; r < N; r++) {
                    const int j = j0 + row_of_thread() + SIDE * r;
                    const bool seen = first <= j && j <= pos0 + i0 + i;
                    p[r][c] = seen ? exp2f(p[r][c] * unit - lse) : 0;
                    ds[r][c] = seen ? p[r][c] * (ds[r][c] - dot) : 0;
                }
            }
            put<D>(weights, p);
            put<D>(gradients, ds);
            __syncthreads();
            add_product<D>(dv, weights, dout);
            add_product<D>(dk, gradients, q);
        }
    }
    float one[N], scale[N];
    for (int i = 0; i < N; i++) one[i] = 1, scale[i] = a.scale;
    store<D>(static_cast<float *>(a.dk) + keys, a.ldk, Tk - j0, d, dk, scale);
    store<D>(static_cast<float *>(a.dv) + values, a.ldv, Tk - j0, d, dv, one);
}

/* ---- backward: dQ ---- */

template <int D>
static __global__ void __launch_bounds__(THREADS, 1)
    queries_kernel(weft_attention a, bool packs, const float *delta) {
    typedef shape<D> S;
    constexpr int N = S::N, ROWS = S::ROWS;
    SHARED_DYN(float, q);
    float *dout = q + ROWS * S::LD, *k = dout + ROWS * S::LD, *v = k + ROWS * S::LD,
          *gradients = v + ROWS * S::LD;
    const flash_work at = flash_work_at(blockIdx.x, a.H, a.B);
    const int tiles = gridDim.x / static_cast<unsigned>(a.H * a.B);
    const int i0 = (tiles - 1 - at.tile) * ROWS; /* longest first */
    const int Tq = static_cast<int>(a.Tq), Tk = static_cast<int>(a.Tk), pos0 = static_cast<int>(a.q_pos0);
    const int d = static_cast<int>(a.d), group = at.head / static_cast<int>(a.H / a.G);
    const float unit = a.scale * FLASH_LOG2_E;
    const float *k_all = static_cast<const float *>(a.k) + at.b * a.Tk * a.ldk + group * d;
    const float *v_all = static_cast<const float *>(a.v) + at.b * a.Tk * a.ldv + group * d;
    const int64_t rows = at.b * a.Tq + i0, queries = rows * a.ldq + at.head * d;

    flash_load<ROWS, D, THREADS>(q, static_cast<const float *>(a.q) + queries, a.ldq, Tq - i0, d, packs);
    flash_load<ROWS, D, THREADS>(dout, static_cast<const float *>(a.dout) + rows * a.ldo + at.head * d, a.ldo,
                                 Tq - i0, d, packs);
    const flash_span span = flash_first_keys<ROWS>(a, at.b, i0);
    int first[N], last[N];
    float lse[N], dot[N], dq[N][S::C];
    clear(dq);
    for (int r = 0; r < N; r++) {
        const int i = row_of_thread() + SIDE * r;
        const bool there = i0 + i < Tq;
        first[r] = flash_first(a, at.b, i0 + i);
        last[r] = min(Tk - 1, pos0 + i0 + i);
        lse[r] = there ? a.lse[(rows + i) * a.H + at.head] * FLASH_LOG2_E : 0;
        dot[r] = there ? delta[(rows + i) * a.H + at.head] : 0;
    }
    const int end = min(Tk, pos0 + min(i0 + ROWS, Tq));
    for (int j0 = max(span.low, 0) / ROWS * ROWS; j0 < end; j0 += ROWS) {
        __syncthreads();
        flash_load<ROWS, D, THREADS>(k, k_all + j0 * a.ldk, a.ldk, Tk - j0, d, packs);
        flash_load<ROWS, D, THREADS>(v, v_all + j0 * a.ldv, a.ldv, Tk - j0, d, packs);
        __syncthreads();
        float p[N][N], ds[N][N];
        scores<D>(p, q, k);
        scores<D>(ds, dout, v);
        for (int r = 0; r < N; r++)
            for (int c = 0; c < N; c++) {
                const int j = j0 + column_of_thread() + SIDE * c;
                const bool seen = first[r] <= j && j <= last[r];
                ds[r][c] = seen ? exp2f(p[r][c] * unit - lse[r]) * (ds[r][c] - dot[r]) : 0;
            }
        put<D>(gradients, ds);
        __syncthreads();
        add_product<D>(dq, gradients, k);
    }
    float scale[N];
    for (int i = 0; i < N; i++) scale[i] = a.scale;
    store<D>(static_cast<float *>(a.dq) + queries, a.ldq, Tq - i0, d, dq, scale);
}

void flash_bwd_f32(const weft_device *d, const weft_attention &a, bool packs, const float *delta) {
    const unsigned B = static_cast<unsigned>(a.B), G = static_cast<unsigned>(a.G),
                   H = static_cast<unsigned>(a.H);
    flash_with_width(a.d, [&](auto width) {
        constexpr int D = decltype(width)::value;
        typedef shape<D> S;
        if (a.B * a.Tk > 0)
            launch(keys_kernel<D>, flash_tiles(a.Tk, S::ROWS) * B * G, THREADS, S::bytes(4, 2), d, a, packs,
                   delta);
        if (a.B * a.Tq > 0)
            launch(queries_kernel<D>, flash_tiles(a.Tq, S::ROWS) * B * H, THREADS, S::bytes(4, 1), d, a,
                   packs, delta);
    });
}
