/* What cuBLASLt is told of products, put before the library itself: every attribute must be accepted and come
 * back as it was meant. Needs no GPU. */
#include "cuda/gemm.h"
#include "support/suite.h"

#define COUNT(table) (int)(sizeof(table) / sizeof *(table))

typedef struct shape {
    int64_t m, n, k, wide;
    int align;
} shape;

static const shape shapes[] = {
    {1, 1, 1, 0, 2}, {37, 65, 33, 0, 4}, {65, 257, 1, 3, 8}, {4096, 14336, 4096, 0, 16}, {17, 24, 40, 1, 16},
};

/* As the operations of linear.cu ask. */
enum { FORWARD, FORWARD_REAL, DGRAD, WGRAD, PRODUCTS };

static weft_gemm product(const shape *s, int which, int in, int tf32) {
    const int64_t ldx = s->k + s->wide, ldy = s->n + s->wide;
    const bool to_real = which == FORWARD_REAL || which == WGRAD;
    weft_gemm p = {.in = in,
                   .out = to_real ? CUDA_R_32F : in,
                   .tf32 = tf32,
                   .bias = which == FORWARD,
                   .align_a = s->align,
                   .align_b = s->align,
                   .align_d = s->align};
    if (which == FORWARD || which == FORWARD_REAL) {
        p.rows = s->n, p.cols = s->m, p.depth = s->k;
        p.lda = s->k, p.ldb = ldx, p.ldd = ldy, p.trans_a = 1;
    } else if (which == DGRAD) {
        p.rows = s->k, p.cols = s->m, p.depth = s->n;
        p.lda = s->k, p.ldb = ldy, p.ldd = ldx;
    } else {
        p.rows = s->k, p.cols = s->n, p.depth = s->m;
        p.lda = ldx, p.ldb = ldy, p.ldd = s->k, p.trans_b = 1;
    }
    return p;
}

#define EXPECT(T, object, of, attribute, value)                                                              \
    do {                                                                                                     \
        T got_;                                                                                              \
        size_t written_;                                                                                     \
        ck_assert_int_eq(cublasLt##object##GetAttribute(of, attribute, &got_, sizeof got_, &written_),       \
                         CUBLAS_STATUS_SUCCESS);                                                             \
        ck_assert_msg(written_ == sizeof got_ && got_ == (T)(value), "%s did not come back", #attribute);    \
    } while (0)

static void check_layout(cublasLtMatrixLayout_t l, int type, int64_t rows, int64_t cols, int64_t ld) {
    EXPECT(uint32_t, MatrixLayout, l, CUBLASLT_MATRIX_LAYOUT_TYPE, type);
    EXPECT(int32_t, MatrixLayout, l, CUBLASLT_MATRIX_LAYOUT_ORDER, CUBLASLT_ORDER_COL);
    EXPECT(uint64_t, MatrixLayout, l, CUBLASLT_MATRIX_LAYOUT_ROWS, rows);
    EXPECT(uint64_t, MatrixLayout, l, CUBLASLT_MATRIX_LAYOUT_COLS, cols);
    EXPECT(int64_t, MatrixLayout, l, CUBLASLT_MATRIX_LAYOUT_LD, ld);
}

static void check_product(const weft_gemm *p) {
    static const float bias[4] __attribute__((aligned(16)));
    weft_gemm_plan t;
    ck_assert_int_eq(weft_gemm_describe(&t, p, bias), CUBLAS_STATUS_SUCCESS);

    EXPECT(int32_t, MatmulDesc, t.product, CUBLASLT_MATMUL_DESC_COMPUTE_TYPE,
           p->tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F);
    EXPECT(int32_t, MatmulDesc, t.product, CUBLASLT_MATMUL_DESC_SCALE_TYPE, CUDA_R_32F);
    EXPECT(int32_t, MatmulDesc, t.product, CUBLASLT_MATMUL_DESC_POINTER_MODE, CUBLASLT_POINTER_MODE_HOST);
    EXPECT(int32_t, MatmulDesc, t.product, CUBLASLT_MATMUL_DESC_TRANSA,
           p->trans_a ? CUBLAS_OP_T : CUBLAS_OP_N);
    EXPECT(int32_t, MatmulDesc, t.product, CUBLASLT_MATMUL_DESC_TRANSB,
           p->trans_b ? CUBLAS_OP_T : CUBLAS_OP_N);
    EXPECT(uint32_t, MatmulDesc, t.product, CUBLASLT_MATMUL_DESC_EPILOGUE,
           p->bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT);
    EXPECT(const void *, MatmulDesc, t.product, CUBLASLT_MATMUL_DESC_BIAS_POINTER, p->bias ? bias : NULL);

    if (p->trans_a)
        check_layout(t.a, p->in, p->depth, p->rows, p->lda);
    else
        check_layout(t.a, p->in, p->rows, p->depth, p->lda);
    if (p->trans_b)
        check_layout(t.b, p->in, p->cols, p->depth, p->ldb);
    else
        check_layout(t.b, p->in, p->depth, p->cols, p->ldb);
    check_layout(t.d, p->out, p->rows, p->cols, p->ldd);

    EXPECT(uint64_t, MatmulPreference, t.preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
           WEFT_GEMM_WORKSPACE);
    EXPECT(uint32_t, MatmulPreference, t.preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
           CUBLASLT_REDUCTION_SCHEME_NONE | CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE);
    EXPECT(uint32_t, MatmulPreference, t.preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, p->align_a);
    EXPECT(uint32_t, MatmulPreference, t.preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, p->align_b);
    EXPECT(uint32_t, MatmulPreference, t.preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, p->align_d);
    EXPECT(uint32_t, MatmulPreference, t.preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, p->align_d);

    weft_gemm_forget(&t);
    weft_gemm_forget(&t);
}

START_TEST(descriptors) {
    for (int i = 0; i < COUNT(shapes); i++)
        for (int which = 0; which < PRODUCTS; which++)
            for (int type = 0; type < 3; type++) { /* bf16, float, float in TF32 */
                const weft_gemm p = product(&shapes[i], which, type ? CUDA_R_32F : CUDA_R_16BF, type == 2);
                check_product(&p);
            }
}
END_TEST

SUITE_MAIN("what cuBLASLt is told", descriptors)
