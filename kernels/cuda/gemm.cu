/* Linear layers through cuBLASLt.
 *
 * The library is asked once per problem for the algorithm that it thinks best; that and the descriptors are
 * kept for the life of the device, so that a step allocates nothing from the second on. Its answer depends on
 * the problem, the GPU and the library's version, and on nothing that is measured: runs repeat bit for bit.
 * Where an algorithm splits the sum over k, the parts must be written in float and added in a step of their
 * own (CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE); in-place reduction, whose order nobody promises, and parts
 * rounded to bf16 are excluded.
 *
 * Sums run in float. Float factors are multiplied as they are, or in TF32 where the user allows it. */
#include "cuda/cublaslt.h"
#include "cuda/cuda.cuh"
#include "cuda/gemm.h"

extern "C" {
#include "runtime/hash.h"
}

static_assert(std::has_unique_object_representations<weft_gemm>::value, "padding");

static const weft_cublaslt *lt() {
    return weft_cublaslt_load();
}

/* ---- descriptors ---- */

#define TRY(call)                                                                                            \
    do {                                                                                                     \
        cublasStatus_t status_ = (call);                                                                     \
        if (status_ != CUBLAS_STATUS_SUCCESS) return status_;                                                \
    } while (0)

template <class T>
static cublasStatus_t tell(weft_gemm_plan *t, cublasLtMatmulDescAttributes_t attribute, T value) {
    return lt()->MatmulDescSetAttribute(t->product, attribute, &value, sizeof value);
}
template <class T>
static cublasStatus_t prefer(weft_gemm_plan *t, cublasLtMatmulPreferenceAttributes_t attribute, T value) {
    return lt()->MatmulPreferenceSetAttribute(t->preference, attribute, &value, sizeof value);
}

static cublasStatus_t make_layout(cublasLtMatrixLayout_t *layout, int32_t type, int64_t rows, int64_t cols,
                                  int64_t ld) {
    return lt()->MatrixLayoutCreate(layout, static_cast<cudaDataType_t>(type), static_cast<uint64_t>(rows),
                                    static_cast<uint64_t>(cols), ld);
}

static int32_t transposed(int32_t yes) {
    return yes ? CUBLAS_OP_T : CUBLAS_OP_N;
}

cublasStatus_t weft_gemm_describe(weft_gemm_plan *t, const weft_gemm *p, const void *bias) {
    *t = weft_gemm_plan{};
    TRY(lt()->MatmulDescCreate(&t->product, p->tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F,
                               CUDA_R_32F));
    TRY(tell<int32_t>(t, CUBLASLT_MATMUL_DESC_TRANSA, transposed(p->trans_a)));
    TRY(tell<int32_t>(t, CUBLASLT_MATMUL_DESC_TRANSB, transposed(p->trans_b)));
    if (p->bias) {
        TRY(tell<uint32_t>(t, CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS));
        TRY(tell<const void *>(t, CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias));
    }
    TRY(make_layout(&t->a, p->in, p->trans_a ? p->depth : p->rows, p->trans_a ? p->rows : p->depth, p->lda));
    TRY(make_layout(&t->b, p->in, p->trans_b ? p->cols : p->depth, p->trans_b ? p->depth : p->cols, p->ldb));
    TRY(make_layout(&t->d, p->out, p->rows, p->cols, p->ldd));
    TRY(lt()->MatmulPreferenceCreate(&t->preference));
    TRY(prefer<uint64_t>(t, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, WEFT_GEMM_WORKSPACE));
    TRY(prefer<uint32_t>(t, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
                         CUBLASLT_REDUCTION_SCHEME_NONE | CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
    TRY(prefer<uint32_t>(t, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, static_cast<uint32_t>(p->align_a)));
    TRY(prefer<uint32_t>(t, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, static_cast<uint32_t>(p->align_b)));
    TRY(prefer<uint32_t>(t, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, static_cast<uint32_t>(p->align_d)));
    return prefer<uint32_t>(t, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, static_cast<uint32_t>(p->align_d));
}

void weft_gemm_forget(weft_gemm_plan *t) {
    if (t->preference) lt()->MatmulPreferenceDestroy(t->preference);
    if (t->d) lt()->MatrixLayoutDestroy(t->d);
    if (t->b) lt()->MatrixLayoutDestroy(t->b);
    if (t->a) lt()->MatrixLayoutDestroy(t->a);
    if (t->product) lt()->MatmulDescDestroy(t->product);
    *t = weft_gemm_plan{};
}

/* ---- the library's handle, and what is known of each problem ---- */

struct gemm_known {
    weft_gemm problem;
    weft_gemm_plan plan;
    cublasLtMatmulAlgo_t algorithm;
    gemm_known *next;
};

enum { GEMM_BUCKETS = 512 };

struct weft_cuda_gemm {
    cublasLtHandle_t handle;
    gemm_known *known[GEMM_BUCKETS];
};

static void check(cublasStatus_t status, const char *what, const weft_gemm *p) {
    if (status == CUBLAS_STATUS_SUCCESS) return;
    weft_panic(
        __FILE__, __LINE__,
        "cuBLASLt: %s: %s (column-major: %lld x %lld over %lld, %s%s, leading dimensions %lld, %lld, %lld, "
        "%s to %s%s%s, addresses at multiples of %d, %d, %d)",
        what, lt()->GetStatusString(status), static_cast<long long>(p->rows), static_cast<long long>(p->cols),
        static_cast<long long>(p->depth), p->trans_a ? "T" : "N", p->trans_b ? "T" : "N",
        static_cast<long long>(p->lda), static_cast<long long>(p->ldb), static_cast<long long>(p->ldd),
        p->in == CUDA_R_16BF ? "bf16" : "float", p->out == CUDA_R_16BF ? "bf16" : "float",
        p->tf32 ? ", TF32" : "", p->bias ? ", bias" : "", p->align_a, p->align_b, p->align_d);
}

template <class T> static T *allocate() {
    T *p = static_cast<T *>(calloc(1, sizeof(T)));
    WEFT_CHECK(p, "no memory for %zu bytes", sizeof(T));
    return p;
}

static gemm_known *find(weft_cuda *s, const weft_gemm *p, const void *bias) {
    if (!s->gemm) {
        s->gemm = allocate<weft_cuda_gemm>();
        check(lt()->Create(&s->gemm->handle), "opening the library", p);
    }
    gemm_known **bucket = &s->gemm->known[weft_hash64(p, sizeof *p, 0) % GEMM_BUCKETS];
    for (gemm_known *k = *bucket; k; k = k->next)
        if (memcmp(&k->problem, p, sizeof *p) == 0) return k;

    gemm_known *k = allocate<gemm_known>();
    cublasLtMatmulHeuristicResult_t best;
    int found = 0;
    k->problem = *p;
    check(weft_gemm_describe(&k->plan, p, bias), "describing a product", p);
    cublasStatus_t status =
        lt()->MatmulAlgoGetHeuristic(s->gemm->handle, k->plan.product, k->plan.a, k->plan.b, k->plan.d,
                                     k->plan.d, k->plan.preference, 1, &best, &found);
    if (status == CUBLAS_STATUS_SUCCESS) status = found ? best.state : CUBLAS_STATUS_NOT_SUPPORTED;
    check(status, "choosing an algorithm", p);
    k->algorithm = best.algo;
    k->next = *bucket;
    return *bucket = k;
}

void cuda_gemm_close(weft_cuda *s) {
    if (!s->gemm) return;
    for (gemm_known *k : s->gemm->known)
        while (k) {
            gemm_known *next = k->next;
            weft_gemm_forget(&k->plan);
            free(k);
            k = next;
        }
    lt()->Destroy(s->gemm->handle);
    free(s->gemm);
    s->gemm = NULL;
}

/* ---- a product ---- */

/* No algorithm gains from more than 16, and fewer kinds of problems are told apart. */
static int32_t alignment(const void *p) {
    const uintptr_t address = reinterpret_cast<uintptr_t>(p) | 16;
    return static_cast<int32_t>(address & -address);
}

static int32_t cuda_type(weft_dtype type) {
    return type == WEFT_BF16 ? CUDA_R_16BF : CUDA_R_32F;
}

void weft_gemm_run(weft_device *d, const weft_gemm_call *c) {
    const size_t mark = weft_arena_mark(&d->act), line = 256; /* bytes; what the library aligns to */
    char *workspace = static_cast<char *>(weft_arena_push(&d->act, WEFT_GEMM_WORKSPACE + line));
    if (!d->dry) {
        weft_cuda *s = cuda_state(d);
        const float alpha = 1, beta = c->add ? 1 : 0;
        weft_gemm p = {};
        p.rows = c->rows, p.cols = c->cols, p.depth = c->depth;
        p.lda = c->lda, p.ldb = c->ldb, p.ldd = c->ldd;
        p.trans_a = c->trans_a, p.trans_b = c->trans_b;
        p.in = cuda_type(d->act_dtype), p.out = cuda_type(c->out_type);
        p.tf32 = s->tf32 && p.in == CUDA_R_32F;
        p.bias = c->bias != NULL;
        p.align_a = alignment(c->a), p.align_b = alignment(c->b), p.align_d = alignment(c->d);
        gemm_known *k = find(s, &p, c->bias);
        if (c->bias)
            check(tell(&k->plan, CUBLASLT_MATMUL_DESC_BIAS_POINTER, c->bias), "setting the bias", &p);
        workspace += (line - reinterpret_cast<uintptr_t>(workspace) % line) % line;
        check(lt()->Matmul(s->gemm->handle, k->plan.product, &alpha, c->a, k->plan.a, c->b, k->plan.b, &beta,
                           c->d, k->plan.d, c->d, k->plan.d, &k->algorithm, workspace, WEFT_GEMM_WORKSPACE,
                           cuda_stream(d)),
              "a product", &p);
    }
    weft_arena_release(&d->act, mark);
}
