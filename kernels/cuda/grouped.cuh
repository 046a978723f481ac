/* The tile of a product that one block computes:  sum over c of A(i, c) B(j, c), i, j < EDGE, in float.
 *
 * A and B lie in memory in either of two ways: `contiguous`, with c along a row (element (i, c) at i * ld +
 * c), or `strided`, with c from row to row (at c * ld + i). DEPTH values of c at a time go from memory
 * through registers to shared memory, into the half of it that is not being multiplied: one barrier a step.
 * What lies outside counts as 0 on both sides. The sum runs over c in order, so the result depends on nothing
 * else.
 *
 * Of bf16, the tensor cores multiply (mma.cuh): 8 warps, each 64 x 32 of a tile of 128 x 128. Of float, plain
 * multiply-adds: 256 threads, each 4 x 4 of a tile of 64 x 64. */
#ifndef WEFT_CUDA_GROUPED_CUH
#define WEFT_CUDA_GROUPED_CUH

#include "cuda/mma.cuh"

#define GROUPED_THREADS 256

/* A or B, from the tile's first line (i or j) on. */
template <class T> struct grouped_side {
    const T *at;
    int64_t ld;
    int lines;   /* of this tile; the rest is 0 */
    bool packed; /* at and ld are multiples of 16 bytes, and so is a row's length */
};

/* row[first] .., as many as make 16 bytes, 0 from `limit` on. */
template <class T>
static __device__ __forceinline__ pack<T> grouped_read(const T *row, int first, int limit, bool packed) {
    if (packed && first < limit) return load_pack(row + first);
    pack<T> x;
#pragma unroll
    for (int e = 0; e < pack<T>::size; e++) x.v[e] = first + e < limit ? row[first + e] : from_float<T>(0);
    return x;
}

/* ---- the arithmetic of a step, by type ---- */

template <class T> struct grouped_tile;

template <> struct grouped_tile<bf16> {
    static constexpr int EDGE = 128, DEPTH = 32, STORAGE = EDGE * (DEPTH + 8); /* elements of one side */
    float sum[4][4][4] = {};

    /* Shared memory holds a side as memory does. 16 bytes more a row spread the rows over the banks. */
    template <bool STRIDED> static __device__ constexpr int ld() { return (STRIDED ? EDGE : DEPTH) + 8; }
    template <bool STRIDED>
    static __device__ __forceinline__ void save(bf16 *tile, int line, int c, const pack<bf16> &x) {
        store_pack(tile + (STRIDED ? c * ld<true>() + line : line * ld<false>() + c), x);
    }

    static __device__ __forceinline__ int first_line() { /* of this warp's A */
        return static_cast<int>(threadIdx.x) / 32 % 2 * 64;
    }
    static __device__ __forceinline__ int first_column() { /* of its B */
        return static_cast<int>(threadIdx.x) / 64 * 32;
    }

    template <bool A_STRIDED, bool B_STRIDED>
    __device__ __forceinline__ void multiply(const bf16 *a_tile, const bf16 *b_tile) {
        constexpr int lda = ld<A_STRIDED>(), ldb = ld<B_STRIDED>();
#pragma unroll
        for (int c = 0; c < DEPTH; c += 16) {
            uint32_t a[4][4], b[4][2];
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const int line = first_line() + i * 16;
                if (A_STRIDED)
                    mma_load_a_columns(a[i], a_tile + c * lda + line, lda);
                else
                    mma_load_a(a[i], a_tile + line * lda + c, lda);
            }
#pragma unroll
            for (int j = 0; j < 4; j += 2) {
                const int line = first_column() + j * 8;
                if (B_STRIDED)
                    mma_load_b_rows(b[j], b[j + 1], b_tile + c * ldb + line, ldb);
                else
                    mma_load_b(b[j], b[j + 1], b_tile + line * ldb + c, ldb);
            }
#pragma unroll
            for (int i = 0; i < 4; i++)
#pragma unroll
                for (int j = 0; j < 4; j++) mma_bf16(sum[i][j], a[i], b[j]);
        }
    }

    template <class F> __device__ __forceinline__ void each_pair(F f) const {
        const int lane = threadIdx.x % 32;
#pragma unroll
        for (int i = 0; i < 4; i++)
#pragma unroll
            for (int j = 0; j < 4; j++) {
                const int line = first_line() + i * 16 + lane / 4,
                          column = first_column() + j * 8 + lane % 4 * 2;
                f(line, column, sum[i][j][0], sum[i][j][1]);
                f(line + 8, column, sum[i][j][2], sum[i][j][3]);
            }
    }
};

template <> struct grouped_tile<float> {
    static constexpr int EDGE = 64, DEPTH = 16, LD = EDGE + 4, STORAGE = DEPTH * LD;
    float sum[4][4] = {};

    /* Shared memory holds c from row to row, whatever memory does. */
    template <bool STRIDED>
    static __device__ __forceinline__ void save(float *tile, int line, int c, const pack<float> &x) {
        if (STRIDED) {
            store_pack(tile + c * LD + line, x);
        } else {
#pragma unroll
            for (int e = 0; e < pack<float>::size; e++) tile[(c + e) * LD + line] = x.v[e];
        }
    }

    static __device__ __forceinline__ int first_line() {
        return static_cast<int>(threadIdx.x) / 16 * 4;
    }
    static __device__ __forceinline__ int first_column() {
        return static_cast<int>(threadIdx.x) % 16 * 4;
    }

    template <bool A_STRIDED, bool B_STRIDED>
    __device__ __forceinline__ void multiply(const float *a_tile, const float *b_tile) {
#pragma unroll
        for (int c = 0; c < DEPTH; c++) {
            const pack<float> a = load_pack(a_tile + c * LD + first_line());
            const pack<float> b = load_pack(b_tile + c * LD + first_column());
#pragma unroll
            for (int i = 0; i < 4; i++)
#pragma unroll
                for (int j = 0; j < 4; j++) sum[i][j] += a.v[i] * b.v[j];
        }
    }

    template <class F> __device__ __forceinline__ void each_pair(F f) const {
#pragma unroll
        for (int i = 0; i < 4; i++)
#pragma unroll
            for (int j = 0; j < 4; j += 2) f(first_line() + i, first_column() + j, sum[i][j], sum[i][j + 1]);
    }
};

/* ---- from memory to shared memory ---- */

/* This thread's part of a step of one side: pieces of 16 bytes along the rows of memory. */
template <class T, bool STRIDED> struct grouped_step {
    static constexpr int EDGE = grouped_tile<T>::EDGE, DEPTH = grouped_tile<T>::DEPTH, N = pack<T>::size;
    static constexpr int ROW = (STRIDED ? EDGE : DEPTH) / N, PIECES = EDGE * DEPTH / N / GROUPED_THREADS;
    pack<T> piece[PIECES];

    static __device__ __forceinline__ int row(int p) {
        return (p * GROUPED_THREADS + static_cast<int>(threadIdx.x)) / ROW;
    }
    static __device__ __forceinline__ int column() { return static_cast<int>(threadIdx.x) % ROW * N; }
    __device__ __forceinline__ void load(const grouped_side<T> &side, int64_t c, int64_t depth) {
        const int left = depth - c < DEPTH ? static_cast<int>(depth - c) : DEPTH;
        const T *at = side.at + (STRIDED ? c * side.ld : c);
        const int rows = STRIDED ? left : side.lines, width = STRIDED ? side.lines : left;
#pragma unroll
        for (int p = 0; p < PIECES; p++)
            piece[p] = grouped_read(at + row(p) * side.ld, column(), row(p) < rows ? width : 0, side.packed);
    }
    __device__ __forceinline__ void save(T *tile) const {
#pragma unroll
        for (int p = 0; p < PIECES; p++)
            grouped_tile<T>::template save<STRIDED>(tile, STRIDED ? column() : row(p),
                                                    STRIDED ? row(p) : column(), piece[p]);
    }
};

/* All threads of the block take part. */
template <bool A_STRIDED, bool B_STRIDED, class T>
static __device__ __forceinline__ void grouped_product(grouped_tile<T> &out, const grouped_side<T> &a,
                                                       const grouped_side<T> &b, int64_t depth) {
    typedef grouped_tile<T> tile;
    SHARED(pack<T>, a_packs, 2 * tile::STORAGE / pack<T>::size);
    SHARED(pack<T>, b_packs, 2 * tile::STORAGE / pack<T>::size);
    T *const a_tiles = a_packs[0].v, *const b_tiles = b_packs[0].v;
    const bool idle = tile::first_line() >= a.lines || tile::first_column() >= b.lines;
    grouped_step<T, A_STRIDED> a_step;
    grouped_step<T, B_STRIDED> b_step;
    a_step.load(a, 0, depth), b_step.load(b, 0, depth);
    a_step.save(a_tiles), b_step.save(b_tiles);
    __syncthreads();
    int now = 0;
    for (int64_t c = 0; c < depth; c += tile::DEPTH, now = tile::STORAGE - now) {
        const bool more = c + tile::DEPTH < depth;
        if (more) a_step.load(a, c + tile::DEPTH, depth), b_step.load(b, c + tile::DEPTH, depth);
        if (!idle) out.template multiply<A_STRIDED, B_STRIDED>(a_tiles + now, b_tiles + now);
        if (!more) break;
        a_step.save(a_tiles + tile::STORAGE - now), b_step.save(b_tiles + tile::STORAGE - now);
        __syncthreads();
    }
}

/* ---- which tile ---- */

struct grouped_place {
    int64_t group, first, rows; /* its rows of all */
    int64_t row, column;        /* of the tile: in the group, in the result */
};

/* Tile number `index` of all groups': group by group, column by column, so that blocks that run together
 * share weights. false: there are not that many. Every warp finds it by itself, 32 groups at a time. */
static __device__ __forceinline__ bool grouped_find(grouped_place *p, const int64_t *offsets, int64_t g,
                                                    int64_t index, int edge, int64_t columns) {
    const int lane = threadIdx.x % 32;
    for (int64_t base = 0; base < g; base += 32) {
        const int64_t group = base + lane, first = group < g ? offsets[group] : 0;
        const int64_t rows = group < g ? offsets[group + 1] - first : 0;
        const int64_t tiles = (rows + edge - 1) / edge * columns;
        int64_t end = tiles;
        for (int by = 1; by < 32; by *= 2) {
            const int64_t lower = __shfl_up_sync(WARP_ALL, end, by);
            if (lane >= by) end += lower;
        }
        const unsigned behind = __ballot_sync(WARP_ALL, index < end);
        if (behind) {
            const int from = __ffs(static_cast<int>(behind)) - 1;
            p->group = base + from;
            p->first = __shfl_sync(WARP_ALL, first, from);
            p->rows = __shfl_sync(WARP_ALL, rows, from);
            index -= __shfl_sync(WARP_ALL, end - tiles, from);
            const int64_t down = (p->rows + edge - 1) / edge;
            p->row = index % down * edge;
            p->column = index / down * edge;
            return true;
        }
        index -= __shfl_sync(WARP_ALL, end, 31);
    }
    return false;
}

#endif
