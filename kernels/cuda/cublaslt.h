/* The functions of cuBLASLt that weft calls, loaded when the first is needed: the library has half a
 * gigabyte, and linked to the program it would cost every start a sixth of a second. */
#ifndef WEFT_CUDA_CUBLASLT_H
#define WEFT_CUDA_CUBLASLT_H

#include <cublasLt.h>

#ifdef __cplusplus
extern "C" {
#endif

#define WEFT_CUBLASLT(X)                                                                                     \
    X(Create)                                                                                                \
    X(Destroy)                                                                                               \
    X(GetStatusString)                                                                                       \
    X(Matmul)                                                                                                \
    X(MatmulAlgoGetHeuristic)                                                                                \
    X(MatmulDescCreate)                                                                                      \
    X(MatmulDescDestroy)                                                                                     \
    X(MatmulDescSetAttribute)                                                                                \
    X(MatmulPreferenceCreate)                                                                                \
    X(MatmulPreferenceDestroy)                                                                               \
    X(MatmulPreferenceSetAttribute)                                                                          \
    X(MatrixLayoutCreate)                                                                                    \
    X(MatrixLayoutDestroy)

typedef struct weft_cublaslt {
#define WEFT_CUBLASLT_FIELD(f) __typeof__(&cublasLt##f) f;
    WEFT_CUBLASLT(WEFT_CUBLASLT_FIELD)
#undef WEFT_CUBLASLT_FIELD
} weft_cublaslt;

/* Panics when the library is not there. */
const weft_cublaslt *weft_cublaslt_load(void);

#ifdef __cplusplus
}
#endif
#endif
