/* Products of bf16 tiles on the tensor cores: the one place with inline PTX.
 *
 * A warp of a one-dimensional block computes D[16,8] += A[16,16] B[16,8] with mma.m16n8k16 (PTX ISA, "Matrix
 * fragments for mma.m16n8k16"). The matrices are spread over the lanes in registers; with g = lane / 4 and
 * t = lane % 4:
 *
 *   d[0] d[1]   D[g    ][2t], D[g    ][2t+1]         floats
 *   d[2] d[3]   D[g + 8][2t], D[g + 8][2t+1]
 *   a[0]        A[g    ][2t, 2t+1]                   two bf16 in a register, the first in the lower half
 *   a[1]        A[g + 8][2t, 2t+1]
 *   a[2] a[3]   the same rows, columns 2t+8, 2t+9
 *   b[0]        B[2t,   2t+1][g]
 *   b[1]        B[2t+8, 2t+9][g]
 *
 * So the D of two products side by side (16 columns), packed, is the A of the next product.
 *
 * The mma_load_* functions gather fragments from a tile in shared memory with ldmatrix, which fetches four
 * 8x8 matrices: lane l gives the address of row l % 8 of matrix l / 8. Every row must begin at a multiple of
 * 16 bytes; a row stride of 16 bytes modulo 128 makes the access free of bank conflicts. All lanes of the
 * warp must take part. Writes of other lanes to the tile must lie behind a __syncwarp or __syncthreads.
 *
 * In emulation the products go through the emulator's warp exchange, and loads read what the lane would get.
 */
#ifndef WEFT_CUDA_MMA_CUH
#define WEFT_CUDA_MMA_CUH

#include "cuda/cuda.cuh"

/* d += a b. */
static __device__ __forceinline__ void mma_bf16(float (&d)[4], const uint32_t (&a)[4],
                                                const uint32_t (&b)[2]) {
#ifdef WEFT_EMULATED
    simt::mma_m16n8k16_bf16(d, a, b, d, __FILE__, __LINE__);
#else
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
        "{%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
}

/* Two floats, rounded to nearest even, in a register of a fragment. */
static __device__ __forceinline__ uint32_t mma_pack(float first, float second) {
    const __nv_bfloat162 pair = __floats2bfloat162_rn(first, second);
    uint32_t bits;
    memcpy(&bits, &pair, sizeof bits);
    return bits;
}

/* The D of columns 0..7 and of columns 8..15 as an A. */
static __device__ __forceinline__ void mma_pack_a(uint32_t (&a)[4], const float (&left)[4],
                                                  const float (&right)[4]) {
    a[0] = mma_pack(left[0], left[1]);
    a[1] = mma_pack(left[2], left[3]);
    a[2] = mma_pack(right[0], right[1]);
    a[3] = mma_pack(right[2], right[3]);
}

#ifdef WEFT_EMULATED
/* Elements p[0] and p[step] as a register. */
static inline uint32_t mma_gather(const bf16 *p, int step) {
    uint16_t x[2];
    memcpy(&x[0], p, sizeof x[0]);
    memcpy(&x[1], p + step, sizeof x[1]);
    return x[0] | static_cast<uint32_t>(x[1]) << 16;
}
#else
static __device__ __forceinline__ void mma_ldmatrix(uint32_t &r0, uint32_t &r1, uint32_t &r2, uint32_t &r3,
                                                    const bf16 *row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r0), "=r"(r1), "=r"(r2), "=r"(r3)
                 : "r"(static_cast<uint32_t>(__cvta_generic_to_shared(row)))
                 : "memory");
}
/* Each 8x8 matrix transposed. */
static __device__ __forceinline__ void mma_ldmatrix_t(uint32_t &r0, uint32_t &r1, uint32_t &r2, uint32_t &r3,
                                                      const bf16 *row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r0), "=r"(r1), "=r"(r2), "=r"(r3)
                 : "r"(static_cast<uint32_t>(__cvta_generic_to_shared(row)))
                 : "memory");
}
#endif

/* A[m][k] = tile[m * ld + k]. */
static __device__ __forceinline__ void mma_load_a(uint32_t (&a)[4], const bf16 *tile, int ld) {
    const int lane = threadIdx.x % 32;
#ifdef WEFT_EMULATED
    const int g = lane / 4, t = lane % 4;
    for (int i = 0; i < 4; i++) a[i] = mma_gather(tile + (g + i % 2 * 8) * ld + 2 * t + i / 2 * 8, 1);
#else
    mma_ldmatrix(a[0], a[1], a[2], a[3], tile + lane % 16 * ld + lane / 16 * 8);
#endif
}

/* The same from a tile that holds columns as rows: A[m][k] = tile[k * ld + m]. */
static __device__ __forceinline__ void mma_load_a_columns(uint32_t (&a)[4], const bf16 *tile, int ld) {
    const int lane = threadIdx.x % 32;
#ifdef WEFT_EMULATED
    const int g = lane / 4, t = lane % 4;
    for (int i = 0; i < 4; i++) a[i] = mma_gather(tile + (2 * t + i / 2 * 8) * ld + g + i % 2 * 8, ld);
#else
    mma_ldmatrix_t(a[0], a[1], a[2], a[3], tile + (lane / 16 * 8 + lane % 8) * ld + lane / 8 % 2 * 8);
#endif
}

/* B of 16 columns, as two fragments, from a tile that holds columns as rows: B[k][n] = tile[n * ld + k]. */
static __device__ __forceinline__ void mma_load_b(uint32_t (&left)[2], uint32_t (&right)[2], const bf16 *tile,
                                                  int ld) {
    const int lane = threadIdx.x % 32;
#ifdef WEFT_EMULATED
    const int g = lane / 4, t = lane % 4;
    for (int i = 0; i < 2; i++) {
        left[i] = mma_gather(tile + g * ld + 2 * t + i * 8, 1);
        right[i] = mma_gather(tile + (g + 8) * ld + 2 * t + i * 8, 1);
    }
#else
    mma_ldmatrix(left[0], left[1], right[0], right[1],
                 tile + (lane / 16 * 8 + lane % 8) * ld + lane / 8 % 2 * 8);
#endif
}

/* The same from a tile that holds rows as rows: B[k][n] = tile[k * ld + n]. */
static __device__ __forceinline__ void mma_load_b_rows(uint32_t (&left)[2], uint32_t (&right)[2],
                                                       const bf16 *tile, int ld) {
    const int lane = threadIdx.x % 32;
#ifdef WEFT_EMULATED
    const int g = lane / 4, t = lane % 4;
    for (int i = 0; i < 2; i++) {
        left[i] = mma_gather(tile + (2 * t + i * 8) * ld + g, ld);
        right[i] = mma_gather(tile + (2 * t + i * 8) * ld + g + 8, ld);
    }
#else
    mma_ldmatrix_t(left[0], left[1], right[0], right[1], tile + lane % 16 * ld + lane / 16 * 8);
#endif
}

#endif
