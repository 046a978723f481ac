/* The part of cuBLASLt that weft uses, on the CPU: products run on the emulated streams, in plain loops.
 *
 * Stricter than the library: what it would refuse on some GPU only, or take and compute something else, ends
 * the process here. Its one algorithm wants all the workspace that it may have, and the alignment that it was
 * promised. */
#include "emulation/streams.h"

#include <cublasLt.h>
#include <cuda_bf16.h>

#include <cstring>
#include <vector>

/* This file is not instrumented for TSan: it says itself which elements it reads and writes. */
#ifdef SIMT_TSAN
extern "C" void __tsan_read_range(void *p, unsigned long bytes);
extern "C" void __tsan_write_range(void *p, unsigned long bytes);
#endif

namespace {

/* ---- the library's opaque structures ---- */

enum kind : uint32_t { HANDLE = 0x57454654, PRODUCT, LAYOUT, PREFERENCE };

struct object {
    kind is;
    explicit object(kind k) : is(k) {}
    ~object() { is = static_cast<kind>(0); }
};

struct handle : object {
    handle() : object(HANDLE) {}
};

struct product : object {
    cublasComputeType_t compute;
    int32_t trans_a = CUBLAS_OP_N, trans_b = CUBLAS_OP_N;
    uint32_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
    const void *bias = nullptr;
    explicit product(cublasComputeType_t c) : object(PRODUCT), compute(c) {}
};

struct layout : object {
    cudaDataType_t type;
    int64_t rows, cols, ld;
    layout(cudaDataType_t t, int64_t r, int64_t c, int64_t l)
        : object(LAYOUT), type(t), rows(r), cols(c), ld(l) {}
    int64_t element() const { return type == CUDA_R_16BF ? 2 : 4; }
    size_t bytes() const { return static_cast<size_t>(((cols - 1) * ld + rows) * element()); }
};

struct preference : object {
    uint64_t workspace = 0;
    uint32_t reductions = CUBLASLT_REDUCTION_SCHEME_MASK;
    uint32_t align[4] = {256, 256, 256, 256};
    preference() : object(PREFERENCE) {}
};

template <class T, class P> T *as(P *p, kind k, const char *function) {
    T *x = reinterpret_cast<T *>(p);
    if (!x || x->is != k) emu_fail("%s: not a live object of its kind", function);
    return x;
}

/* What the algorithm remembers of the problem that it was chosen for. */
struct algorithm {
    uint64_t problem, workspace;
    uint32_t align[4];
    uint64_t unused[4];
};
static_assert(sizeof(algorithm) == sizeof(cublasLtMatmulAlgo_t), "");

/* ---- the problem ---- */

struct problem {
    product of;
    layout a, b, c, d;

    size_t bias_bytes() const { return static_cast<size_t>(d.rows * d.element()); }
    int64_t depth() const { return of.trans_a == CUBLAS_OP_N ? a.cols : a.rows; }

    uint64_t key() const {
        const int64_t parts[] = {a.type,     a.rows,     a.cols,      a.ld,      b.type, b.rows,
                                 b.cols,     b.ld,       d.type,      d.rows,    d.cols, d.ld,
                                 of.trans_a, of.trans_b, of.epilogue, of.compute};
        uint64_t hash = 0xcbf29ce484222325;
        for (int64_t part : parts) hash = (hash ^ static_cast<uint64_t>(part)) * 0x100000001b3;
        return hash;
    }

    void check(const char *function) const {
        const bool at = of.trans_a == CUBLAS_OP_T, bt = of.trans_b == CUBLAS_OP_T;
        if ((at ? a.cols : a.rows) != d.rows || (bt ? b.rows : b.cols) != d.cols ||
            (bt ? b.cols : b.rows) != depth())
            emu_fail("%s: the shapes do not fit: A %ld x %ld%s, B %ld x %ld%s, D %ld x %ld", function, a.rows,
                     a.cols, at ? "^T" : "", b.rows, b.cols, bt ? "^T" : "", d.rows, d.cols);
        if (c.type != d.type || c.rows != d.rows || c.cols != d.cols || c.ld != d.ld)
            emu_fail("%s: C and D differ", function);
        const bool narrow = a.type == CUDA_R_16BF;
        if (a.type != b.type || (!narrow && d.type != CUDA_R_32F))
            emu_fail("%s: no product of types %d and %d to %d", function, a.type, b.type, d.type);
        if (narrow && of.compute != CUBLAS_COMPUTE_32F) emu_fail("%s: TF32 for factors in bf16", function);
        if (of.epilogue == CUBLASLT_EPILOGUE_BIAS && reinterpret_cast<uintptr_t>(of.bias) % 16)
            emu_fail("%s: the bias %p is not 16-byte aligned", function, of.bias);
        if (of.epilogue == CUBLASLT_EPILOGUE_BIAS && !emu_on_device(of.bias, bias_bytes()))
            emu_fail("%s: the bias %p is not %ld numbers on the device", function, of.bias, d.rows);
    }
};

/* ---- the arithmetic ---- */

float tf32(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    bits = (bits + 0xfff + (bits >> 13 & 1)) & ~0x1fffu;
    memcpy(&x, &bits, sizeof bits);
    return x;
}

void note(const layout &l, const void *p, bool write) {
#ifdef SIMT_TSAN
    for (int64_t j = 0; j < l.cols; j++) {
        char *column = static_cast<char *>(const_cast<void *>(p)) + j * l.ld * l.element();
        const unsigned long bytes = static_cast<unsigned long>(l.rows * l.element());
        if (write)
            __tsan_write_range(column, bytes);
        else
            __tsan_read_range(column, bytes);
    }
#else
    (void)l, (void)p, (void)write;
#endif
}

float load(const layout &l, const void *p, int64_t row, int64_t col) {
    const int64_t at = col * l.ld + row;
    if (l.type == CUDA_R_16BF) return __bfloat162float(static_cast<const __nv_bfloat16 *>(p)[at]);
    return static_cast<const float *>(p)[at];
}

void store(const layout &l, void *p, int64_t row, int64_t col, float x) {
    const int64_t at = col * l.ld + row;
    if (l.type == CUDA_R_16BF)
        static_cast<__nv_bfloat16 *>(p)[at] = __float2bfloat16(x);
    else
        static_cast<float *>(p)[at] = x;
}

/* The matrix, or its transpose, densely and column by column. */
std::vector<float> unpack(const layout &l, const void *p, bool transposed, bool round) {
    std::vector<float> out;
    const int64_t rows = transposed ? l.cols : l.rows, cols = transposed ? l.rows : l.cols;
    out.reserve(static_cast<size_t>(rows * cols));
    for (int64_t j = 0; j < cols; j++)
        for (int64_t i = 0; i < rows; i++) {
            const float x = transposed ? load(l, p, j, i) : load(l, p, i, j);
            out.push_back(round ? tf32(x) : x);
        }
    return out;
}

struct operands {
    float alpha, beta;
    const void *a, *b;
    void *d;
    char *workspace;
    uint64_t workspace_bytes;
};

void multiply(const problem &p, const operands &o) {
    const bool round = p.of.compute == CUBLAS_COMPUTE_32F_FAST_TF32;
    const int64_t rows = p.d.rows, depth = p.depth();
    const std::vector<float> a = unpack(p.a, o.a, p.of.trans_a == CUBLAS_OP_T, round);
    const std::vector<float> b = unpack(p.b, o.b, p.of.trans_b == CUBLAS_OP_T, round);
    std::vector<float> sum(static_cast<size_t>(rows));
    note(p.a, o.a, false);
    note(p.b, o.b, false);
    note(p.d, o.d, true);
    if (p.of.epilogue == CUBLASLT_EPILOGUE_BIAS)
        note(layout(p.d.type, p.d.rows, 1, p.d.rows), p.of.bias, false);
    const uint64_t edge = o.workspace_bytes < 64 ? o.workspace_bytes : 64;
    memset(o.workspace, 0xff, edge);
    memset(o.workspace + o.workspace_bytes - edge, 0xff, edge);
    for (int64_t j = 0; j < p.d.cols; j++) {
        sum.assign(sum.size(), 0);
        for (int64_t k = 0; k < depth; k++) {
            const float by = b[static_cast<size_t>(j * depth + k)], *column = a.data() + k * rows;
            for (int64_t i = 0; i < rows; i++) sum[static_cast<size_t>(i)] += column[i] * by;
        }
        for (int64_t i = 0; i < rows; i++) {
            float y = o.alpha * sum[static_cast<size_t>(i)];
            if (o.beta != 0) y += o.beta * load(p.d, o.d, i, j);
            if (p.of.epilogue == CUBLASLT_EPILOGUE_BIAS) y += load(p.d, p.of.bias, i, 0);
            store(p.d, o.d, i, j, y);
        }
    }
}

/* ---- attributes ---- */

template <class T>
cublasStatus_t put(T *field, const void *value, size_t bytes, const char *function, int attribute) {
    if (!value || bytes != sizeof *field)
        emu_fail("%s: attribute %d has %zu bytes, not %zu", function, attribute, sizeof *field, bytes);
    memcpy(field, value, bytes);
    return CUBLAS_STATUS_SUCCESS;
}

bool meet(const void *a, size_t a_bytes, const void *b, size_t b_bytes) {
    const char *x = static_cast<const char *>(a), *y = static_cast<const char *>(b);
    return x < y + b_bytes && y < x + a_bytes;
}

/* Matrices may be columns of the same rows. */
bool meet(const layout &l, const void *p, const layout &m, const void *q) {
    if (!meet(p, l.bytes(), q, m.bytes())) return false;
    const int64_t stride = l.ld * l.element(), other = m.ld * m.element();
    if (stride != other) return true;
    const int64_t by = static_cast<const char *>(q) - static_cast<const char *>(p);
    const int64_t behind = (by % stride + stride) % stride;
    return behind < l.rows * l.element() || behind + m.rows * m.element() > stride;
}

} // namespace

/* ---- the library's functions ---- */

cublasStatus_t cublasLtCreate(cublasLtHandle_t *out) {
    *out = reinterpret_cast<cublasLtHandle_t>(new handle);
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtDestroy(cublasLtHandle_t h) {
    delete as<handle>(h, HANDLE, __func__);
    return CUBLAS_STATUS_SUCCESS;
}

const char *cublasLtGetStatusString(cublasStatus_t status) {
    return status == CUBLAS_STATUS_SUCCESS ? "CUBLAS_STATUS_SUCCESS" : "an error";
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *out, cublasComputeType_t compute,
                                        cudaDataType_t scale) {
    if ((compute != CUBLAS_COMPUTE_32F && compute != CUBLAS_COMPUTE_32F_FAST_TF32) || scale != CUDA_R_32F)
        emu_fail("%s: compute type %d, scale type %d", __func__, compute, scale);
    *out = reinterpret_cast<cublasLtMatmulDesc_t>(new product(compute));
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t p) {
    delete as<product>(p, PRODUCT, __func__);
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t p,
                                              cublasLtMatmulDescAttributes_t attribute, const void *value,
                                              size_t bytes) {
    product *x = as<product>(p, PRODUCT, __func__);
    switch (attribute) {
    case CUBLASLT_MATMUL_DESC_TRANSA:
        return put(&x->trans_a, value, bytes, __func__, attribute);
    case CUBLASLT_MATMUL_DESC_TRANSB:
        return put(&x->trans_b, value, bytes, __func__, attribute);
    case CUBLASLT_MATMUL_DESC_EPILOGUE:
        put(&x->epilogue, value, bytes, __func__, attribute);
        if (x->epilogue != CUBLASLT_EPILOGUE_DEFAULT && x->epilogue != CUBLASLT_EPILOGUE_BIAS)
            emu_fail("%s: epilogue %u", __func__, x->epilogue);
        return CUBLAS_STATUS_SUCCESS;
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER:
        return put(&x->bias, value, bytes, __func__, attribute);
    default:
        emu_fail("%s: attribute %d", __func__, attribute);
    }
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *out, cudaDataType_t type, uint64_t rows,
                                          uint64_t cols, int64_t ld) {
    const int64_t r = static_cast<int64_t>(rows), c = static_cast<int64_t>(cols);
    if ((type != CUDA_R_16BF && type != CUDA_R_32F) || r < 1 || c < 1 || ld < r)
        emu_fail("%s: type %d, %ld x %ld, leading dimension %ld", __func__, type, r, c, ld);
    *out = reinterpret_cast<cublasLtMatrixLayout_t>(new layout(type, r, c, ld));
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t l) {
    delete as<layout>(l, LAYOUT, __func__);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *out) {
    *out = reinterpret_cast<cublasLtMatmulPreference_t>(new preference);
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t p) {
    delete as<preference>(p, PREFERENCE, __func__);
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t p,
                                                    cublasLtMatmulPreferenceAttributes_t attribute,
                                                    const void *value, size_t bytes) {
    preference *x = as<preference>(p, PREFERENCE, __func__);
    switch (attribute) {
    case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES:
        return put(&x->workspace, value, bytes, __func__, attribute);
    case CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK:
        return put(&x->reductions, value, bytes, __func__, attribute);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES:
        return put(&x->align[0], value, bytes, __func__, attribute);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES:
        return put(&x->align[1], value, bytes, __func__, attribute);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES:
        return put(&x->align[2], value, bytes, __func__, attribute);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES:
        return put(&x->align[3], value, bytes, __func__, attribute);
    default:
        emu_fail("%s: attribute %d", __func__, attribute);
    }
}

static problem problem_of(cublasLtMatmulDesc_t of, cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                          cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d, const char *function) {
    const problem p = {*as<product>(of, PRODUCT, function), *as<layout>(a, LAYOUT, function),
                       *as<layout>(b, LAYOUT, function), *as<layout>(c, LAYOUT, function),
                       *as<layout>(d, LAYOUT, function)};
    p.check(function);
    return p;
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t h, cublasLtMatmulDesc_t of,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t wish, int wanted,
                                              cublasLtMatmulHeuristicResult_t *out, int *found) {
    as<handle>(h, HANDLE, __func__);
    const preference *x = as<preference>(wish, PREFERENCE, __func__);
    const problem p = problem_of(of, a, b, c, d, __func__);
    algorithm chosen = {};
    if (wanted < 1) return CUBLAS_STATUS_INVALID_VALUE;
    if (x->reductions & ~(CUBLASLT_REDUCTION_SCHEME_NONE | CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE))
        emu_fail("%s: reductions in place or in the output's type are allowed", __func__);
    chosen.problem = p.key();
    chosen.workspace = x->workspace;
    memcpy(chosen.align, x->align, sizeof chosen.align);
    *out = cublasLtMatmulHeuristicResult_t{};
    memcpy(&out->algo, &chosen, sizeof chosen);
    out->workspaceSize = x->workspace;
    out->state = CUBLAS_STATUS_SUCCESS;
    *found = 1;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t h, cublasLtMatmulDesc_t of, const void *alpha, const void *A,
                              cublasLtMatrixLayout_t a, const void *B, cublasLtMatrixLayout_t b,
                              const void *beta, const void *C, cublasLtMatrixLayout_t c, void *D,
                              cublasLtMatrixLayout_t d, const cublasLtMatmulAlgo_t *algo, void *workspace,
                              size_t workspace_bytes, cudaStream_t stream) {
    as<handle>(h, HANDLE, __func__);
    const problem p = problem_of(of, a, b, c, d, __func__);
    algorithm chosen;
    memcpy(&chosen, algo, sizeof chosen);
    if (chosen.problem != p.key()) emu_fail("%s: the algorithm was chosen for another problem", __func__);

    const struct {
        const layout &l;
        const void *p;
        const char *name;
    } all[] = {{p.a, A, "A"}, {p.b, B, "B"}, {p.c, C, "C"}, {p.d, D, "D"}};
    for (int i = 0; i < 4; i++) {
        const auto &m = all[i];
        if (reinterpret_cast<uintptr_t>(m.p) % chosen.align[i])
            emu_fail("%s: %s at %p was promised to be %u-byte aligned", __func__, m.name, m.p,
                     chosen.align[i]);
        if (!emu_on_device(m.p, m.l.bytes()))
            emu_fail("%s: %s at %p is not %zu bytes on the device", __func__, m.name, m.p, m.l.bytes());
        if (i < 2 && meet(m.l, m.p, p.d, D)) emu_fail("%s: %s and D overlap", __func__, m.name);
        if (meet(m.p, m.l.bytes(), workspace, workspace_bytes))
            emu_fail("%s: %s and the workspace overlap", __func__, m.name);
    }
    if (C != D) emu_fail("%s: C is not in D's place", __func__);
    if (p.of.epilogue == CUBLASLT_EPILOGUE_BIAS && meet(p.of.bias, p.bias_bytes(), D, p.d.bytes()))
        emu_fail("%s: the bias and D overlap", __func__);
    if (workspace_bytes < chosen.workspace || !emu_on_device(workspace, workspace_bytes) ||
        reinterpret_cast<uintptr_t>(workspace) % 256)
        emu_fail("%s: the workspace of %zu bytes at %p must be %lu aligned bytes on the device", __func__,
                 workspace_bytes, workspace, chosen.workspace);

    operands o = {0, 0, A, B, D, static_cast<char *>(workspace), chosen.workspace};
    memcpy(&o.alpha, alpha, sizeof o.alpha);
    memcpy(&o.beta, beta, sizeof o.beta);
    emu_enqueue(stream, "cublasLtMatmul", [p, o] { multiply(p, o); });
    return CUBLAS_STATUS_SUCCESS;
}
