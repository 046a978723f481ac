/* What the attention kernels share: tiles in shared memory, and the mask.
 *
 * FlashAttention-2 (Dao, arXiv 2307.08691): a block of threads keeps a tile of queries and walks over tiles
 * of keys (forward, dQ), or keeps a tile of keys and walks over tiles of queries (dK, dV); scores live in
 * registers only. bf16 runs on the tensor cores (flash_fwd.cu, flash_bwd.cu), float by FMA (flash_f32.cu).
 *
 * Query i of a sequence sees the keys first <= j <= last, first = doc_start[i], last = q_pos0 + i. Tiles
 * outside of every row's span are not visited; those inside of all rows' spans are not masked. */
#ifndef WEFT_CUDA_FLASH_CUH
#define WEFT_CUDA_FLASH_CUH

#include "cuda/cuda.cuh"

#include <limits.h>

#define FLASH_LOG2_E 1.44269504088896340736f
#define FLASH_LN_2 0.693147180559945309417f

/* By type; on a device that is not dry, with at least one query (forward) or key or query (backward).
 * packs: can all rows be read and written 16 bytes at a time? delta: [B*Tq, H] of flash.cu. */
void flash_fwd_bf16(const weft_device *d, const weft_attention &a, bool packs);
void flash_bwd_bf16(const weft_device *d, const weft_attention &a, bool packs, const float *delta);
void flash_fwd_f32(const weft_device *d, const weft_attention &a, bool packs);
void flash_bwd_f32(const weft_device *d, const weft_attention &a, bool packs, const float *delta);

/* f(std::integral_constant<int, D>()), D the padded width of a head. */
template <class F> static inline void flash_with_width(int64_t d, F f) {
    if (d <= 32)
        f(std::integral_constant<int, 32>());
    else if (d <= 64)
        f(std::integral_constant<int, 64>());
    else if (d <= 96)
        f(std::integral_constant<int, 96>());
    else if (d <= 128)
        f(std::integral_constant<int, 128>());
    else if (d <= 256)
        f(std::integral_constant<int, 256>());
    else
        weft_panic(__FILE__, __LINE__, "attention with heads of %lld elements: 256 is the most",
                   static_cast<long long>(d));
}

/* ---- the work of a block ---- */

/* Block n of a one-dimensional grid: heads (or groups) vary fastest, so that blocks which share keys run
 * together; then sequences, then tiles. */
struct flash_work {
    int head, tile;
    int64_t b;
};
static __device__ __forceinline__ flash_work flash_work_at(unsigned block, int64_t heads, int64_t B) {
    const unsigned h = static_cast<unsigned>(heads), bh = h * static_cast<unsigned>(B);
    return {static_cast<int>(block % h), static_cast<int>(block / bh), block % bh / h};
}
static inline unsigned flash_tiles(int64_t rows, int64_t tile) {
    return static_cast<unsigned>((rows + tile - 1) / tile);
}

/* ---- the mask ---- */

/* First key that query i of sequence b sees; none when there is no such query. */
static __device__ __forceinline__ int flash_first(const weft_attention &a, int64_t b, int i) {
    if (i >= a.Tq) return INT_MAX;
    return a.doc_start ? a.doc_start[b * a.Tq + i] : 0;
}

/* The lowest and the highest first key of the queries i0 .. i0 + ROWS. Every warp finds them by itself. */
struct flash_span {
    int low, high;
};
template <int ROWS>
static __device__ __forceinline__ flash_span flash_first_keys(const weft_attention &a, int64_t b, int i0) {
    flash_span s = {INT_MAX, INT_MIN};
    for (int r = threadIdx.x % 32; r < ROWS; r += 32) {
        const int first = flash_first(a, b, i0 + r);
        s.low = min(s.low, first);
        s.high = max(s.high, first);
    }
    for (int by = 16; by > 0; by /= 2) {
        s.low = min(s.low, __shfl_xor_sync(WARP_ALL, s.low, by));
        s.high = max(s.high, __shfl_xor_sync(WARP_ALL, s.high, by));
    }
    return s;
}

/* ---- tiles in shared memory ---- */

/* Rows of D elements lie 16 bytes further apart than they are long: 8 rows at the same column then touch all
 * banks once. D is a multiple of 32. */
template <class T, int D> static constexpr int flash_ld = D + pack<T>::size;

/* tile[ROWS][D] = `rows` rows of d elements, zeros around them: what is masked must be finite as well. */
template <int ROWS, int D, int THREADS, class T>
static __device__ __forceinline__ void flash_load(T *tile, const T *from, int64_t ld, int rows, int d,
                                                  bool packs) {
    constexpr int N = pack<T>::size, LD = flash_ld<T, D>;
#pragma unroll
    for (int i = threadIdx.x; i < ROWS * D / N; i += THREADS) {
        const int r = i / (D / N), c = i % (D / N) * N;
        const T *p = from + r * ld + c;
        pack<T> x;
#pragma unroll
        for (int e = 0; e < N; e++) x.v[e] = from_float<T>(0);
        if (r < rows && c < d) {
            if (packs) {
                x = load_pack(p);
            } else {
#pragma unroll
                for (int e = 0; e < N; e++)
                    if (c + e < d) x.v[e] = p[e];
            }
        }
        store_pack(tile + r * LD + c, x);
    }
}

#endif
