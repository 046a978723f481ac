/* The products of the bf16 attention kernels: strips of 16 rows, one a warp, in fragments of mma.cuh.
 *
 * A strip [16,N] is float s[N/8][4]: with g = lane / 4, t = lane % 4, element s[n][i] stands in row
 * g + i / 2 * 8 and column n * 8 + 2t + i % 2. */
#ifndef WEFT_CUDA_FLASH_MMA_CUH
#define WEFT_CUDA_FLASH_MMA_CUH

#include "cuda/flash.cuh"
#include "cuda/mma.cuh"

/* s[16,N] = strip[16,D] tile[N,D]^T, both in shared memory. */
template <int N, int D>
static __device__ __forceinline__ void flash_scores(float (&s)[N / 8][4], const bf16 *strip,
                                                    const bf16 *tile) {
    constexpr int LD = flash_ld<bf16, D>;
#pragma unroll
    for (int n = 0; n < N / 8; n++)
        for (int i = 0; i < 4; i++) s[n][i] = 0;
#pragma unroll
    for (int e = 0; e < D; e += 16) {
        uint32_t a[4], left[2], right[2];
        mma_load_a(a, strip + e, LD);
#pragma unroll
        for (int n = 0; n < N / 8; n += 2) {
            mma_load_b(left, right, tile + n * 8 * LD + e, LD);
            mma_bf16(s[n], a, left);
            mma_bf16(s[n + 1], a, right);
        }
    }
}

/* sum[16,C] += p[16,N] tile[N,C], p rounded to bf16, tile with the row stride LD. */
template <int N, int C, int LD>
static __device__ __forceinline__ void flash_add_product(float (&sum)[C / 8][4], const float (&p)[N / 8][4],
                                                         const bf16 *tile) {
#pragma unroll
    for (int n = 0; n < N; n += 16) {
        uint32_t a[4], left[2], right[2];
        mma_pack_a(a, p[n / 8], p[n / 8 + 1]);
#pragma unroll
        for (int c = 0; c < C / 8; c += 2) {
            mma_load_b_rows(left, right, tile + n * LD + c * 8, LD);
            mma_bf16(sum[c], a, left);
            mma_bf16(sum[c + 1], a, right);
        }
    }
}

/* Writes columns c0 .. c0 + C of `rows` rows of d elements: the strip, row r of it times scale[r / 8]. It
 * passes through shared memory (`stage`, 16 rows at stride LD, this warp's own), so that rows leave in one
 * piece. */
template <int C, int LD>
static __device__ __forceinline__ void flash_store(bf16 *to, int64_t ld, int rows, int c0, int d, bool packs,
                                                   const float (&strip)[C / 8][4], const float (&scale)[2],
                                                   bf16 *stage) {
    constexpr int N = pack<bf16>::size;
    const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
#pragma unroll
    for (int c = 0; c < C / 8; c++)
#pragma unroll
        for (int i = 0; i < 4; i++)
            stage[(g + i / 2 * 8) * LD + c * 8 + 2 * t + i % 2] =
                from_float<bf16>(strip[c][i] * scale[i / 2]);
    __syncwarp();
    for (int i = lane; i < 16 * C / N; i += 32) {
        const int r = i / (C / N), c = i % (C / N) * N;
        if (r >= rows || c0 + c >= d) continue;
        bf16 *p = to + r * ld + c0 + c;
        const bf16 *from = stage + r * LD + c;
        if (packs) {
            store_pack(p, load_pack(from));
        } else {
            for (int e = 0; e < N && c0 + c + e < d; e++) p[e] = from[e];
        }
    }
}

#endif
