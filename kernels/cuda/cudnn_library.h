/* The functions of cuDNN that weft calls, loaded when the first is needed: attention does without the library
 * where it is not installed. */
#ifndef WEFT_CUDA_CUDNN_LIBRARY_H
#define WEFT_CUDA_CUDNN_LIBRARY_H

#include "cuda/cudnn.h"

#include <cudnn.h>

#define WEFT_CUDNN_FUNCTIONS(X)                                                                              \
    X(Create)                                                                                                \
    X(Destroy)                                                                                               \
    X(SetStream)                                                                                             \
    X(GetVersion)                                                                                            \
    X(GetErrorString)                                                                                        \
    X(GetLastErrorString)                                                                                    \
    X(BackendCreateDescriptor)                                                                               \
    X(BackendDestroyDescriptor)                                                                              \
    X(BackendSetAttribute)                                                                                   \
    X(BackendGetAttribute)                                                                                   \
    X(BackendFinalize)                                                                                       \
    X(BackendExecute)

typedef struct weft_cudnn_library {
#define WEFT_CUDNN_FIELD(f) __typeof__(&cudnn##f) f;
    WEFT_CUDNN_FUNCTIONS(WEFT_CUDNN_FIELD)
#undef WEFT_CUDNN_FIELD
} weft_cudnn_library;

/* NULL and why. */
const weft_cudnn_library *weft_cudnn_load(weft_cudnn_reason *why);

#endif
