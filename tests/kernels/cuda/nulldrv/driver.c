/* A CUDA driver without a GPU: cuDNN may build execution plans with it, for a GPU that is described to it,
 * and cannot run them.
 *
 * A finished plan holds machine code that cuDNN has compiled and hands to the driver to load. Here loading
 * succeeds and does nothing. All other entry points, which `stubs` generates, fail. */
#include <cuda.h>

enum { VERSION = 13000 };

/* Handles that are never looked into. */
static int library, kernel;

CUresult CUDAAPI cuInit(unsigned flags) {
    (void)flags;
    return CUDA_ERROR_NO_DEVICE;
}

CUresult CUDAAPI cuDriverGetVersion(int *version) {
    *version = VERSION;
    return CUDA_SUCCESS;
}

CUresult CUDAAPI cuGetErrorName(CUresult error, const char **name) {
    (void)error;
    *name = "CUDA_ERROR_NO_DEVICE";
    return CUDA_SUCCESS;
}

CUresult CUDAAPI cuGetErrorString(CUresult error, const char **text) {
    (void)error;
    *text = "there is no GPU: this is the tests' driver";
    return CUDA_SUCCESS;
}

CUresult CUDAAPI cuLibraryLoadData(CUlibrary *out, const void *code, CUjit_option *jit, void **jit_values,
                                   unsigned jit_count, CUlibraryOption *options, void **values,
                                   unsigned count) {
    (void)code, (void)jit, (void)jit_values, (void)jit_count, (void)options, (void)values, (void)count;
    *out = (CUlibrary)&library;
    return CUDA_SUCCESS;
}

CUresult CUDAAPI cuLibraryUnload(CUlibrary l) {
    (void)l;
    return CUDA_SUCCESS;
}

CUresult CUDAAPI cuLibraryGetKernel(CUkernel *out, CUlibrary l, const char *name) {
    (void)l, (void)name;
    *out = (CUkernel)&kernel;
    return CUDA_SUCCESS;
}

CUresult CUDAAPI cuKernelGetFunction(CUfunction *out, CUkernel k) {
    *out = (CUfunction)k;
    return CUDA_SUCCESS;
}

CUresult CUDAAPI cuKernelGetAttribute(int *value, CUfunction_attribute attribute, CUkernel k,
                                      CUdevice device) {
    (void)attribute, (void)k, (void)device;
    *value = 0;
    return CUDA_SUCCESS;
}

CUresult CUDAAPI cuKernelSetAttribute(CUfunction_attribute attribute, int value, CUkernel k,
                                      CUdevice device) {
    (void)attribute, (void)value, (void)k, (void)device;
    return CUDA_SUCCESS;
}

CUresult CUDAAPI cuFuncSetAttribute(CUfunction f, CUfunction_attribute attribute, int value) {
    (void)f, (void)attribute, (void)value;
    return CUDA_SUCCESS;
}
