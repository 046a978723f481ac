#include "cuda/cublaslt.h"

#include "runtime/status.h"

#ifdef WEFT_EMULATED

const weft_cublaslt *weft_cublaslt_load(void) {
#define FIELD(f) .f = cublasLt##f,
    static const weft_cublaslt emulated = {WEFT_CUBLASLT(FIELD)};
    return &emulated;
}

#else

#include <dlfcn.h>

#define TEXT_OF(x) #x
#define TEXT(x) TEXT_OF(x)
#define LIBRARY "libcublasLt.so." TEXT(CUBLAS_VER_MAJOR)

static void *symbol(void *library, const char *name) {
    void *p = dlsym(library, name);
    WEFT_CHECK(p, "%s: %s", LIBRARY, dlerror());
    return p;
}

const weft_cublaslt *weft_cublaslt_load(void) {
    static weft_cublaslt loaded;
    if (loaded.Create) return &loaded;
    void *library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
    WEFT_CHECK(library,
               "device=cuda: %s (is the CUDA toolkit that weft was built with installed? "
               "LD_LIBRARY_PATH may name its folder)",
               dlerror());
#define LOAD(f) loaded.f = (__typeof__(loaded.f))symbol(library, "cublasLt" #f);
    WEFT_CUBLASLT(LOAD)
    return &loaded;
}

#endif
