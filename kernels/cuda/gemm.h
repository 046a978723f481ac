/* One matrix product as cuBLASLt is told of it.
 *
 * cuBLASLt counts in columns: a row-major [m,n] array with row stride ld is to it a matrix of n rows, m
 * columns and leading dimension ld. So a product is asked for with its factors swapped, and nothing is
 * transposed:
 *
 *   y[m,n] = x[m,k] w[n,k]^T     D (n x m) = A^T B    A = w (k x n)    B = x (k x m)
 *   dx[m,k] = dy[m,n] w[n,k]     D (k x m) = A B      A = w (k x n)    B = dy (n x m)
 *   dw[n,k] = dy[m,n]^T x[m,k]   D (k x n) = A B^T    A = x (k x m)    B = dy (n x m)
 *
 * A bias of y's columns is thus one of D's rows, which is what the library's epilogue adds. */
#ifndef WEFT_CUDA_GEMM_H
#define WEFT_CUDA_GEMM_H

#include <cublasLt.h>

#ifdef __cplusplus
extern "C" {
#endif

#include "runtime/device.h"

/* D = op(A) op(B) + beta D, op(A) [rows,depth], op(B) [depth,cols]: all that the choice of an algorithm
 * depends on. Compared byte by byte, so it has no padding. */
typedef struct weft_gemm {
    int64_t rows, cols, depth;
    int64_t lda, ldb, ldd;
    int32_t trans_a, trans_b;          /* 0 or 1 */
    int32_t in, out;                   /* cudaDataType_t of A and B, of D and the bias */
    int32_t tf32;                      /* float factors may be rounded to TF32 */
    int32_t bias;                      /* a vector is added to every column of D */
    int32_t align_a, align_b, align_d; /* of the addresses, in bytes */
    int32_t zero;                      /* fills the last word */
} weft_gemm;

typedef struct weft_gemm_plan {
    cublasLtMatmulDesc_t product;
    cublasLtMatrixLayout_t a, b, d;
    cublasLtMatmulPreference_t preference;
} weft_gemm_plan;

/* What an algorithm may use beyond its operands. */
#define WEFT_GEMM_WORKSPACE ((size_t)32 << 20)

/* The descriptors of a product, which need no GPU. `bias` is only an example of its alignment. What was made
 * stays in *t also after a failure. */
cublasStatus_t weft_gemm_describe(weft_gemm_plan *t, const weft_gemm *p, const void *bias);
void weft_gemm_forget(weft_gemm_plan *t); /* also of a zeroed one */

/* One product on d's stream: factors of d->act_dtype, D and the bias of out_type. The bias [rows], or NULL,
 * is added to every column; it must be 16-byte aligned. No size is 0. Workspace comes from d->act. */
typedef struct weft_gemm_call {
    int64_t rows, cols, depth, lda, ldb, ldd;
    bool trans_a, trans_b;
    bool add; /* beta is 1 */
    weft_dtype out_type;
    const void *a, *b, *bias;
    void *d;
} weft_gemm_call;
void weft_gemm_run(weft_device *d, const weft_gemm_call *c);

#ifdef __cplusplus
}
#endif
#endif
