#include "cuda/cudnn_library.h"

#include <dlfcn.h>
#include <stdio.h>

#define TEXT_OF(x) #x
#define TEXT(x) TEXT_OF(x)
#define LIBRARY "libcudnn.so." TEXT(CUDNN_MAJOR)

static bool symbol(void *library, const char *name, void *out, weft_cudnn_reason *why) {
    void *p = dlsym(library, name);
    if (!p) snprintf(why->text, sizeof why->text, "%s has no %s", LIBRARY, name);
    *(void **)out = p;
    return p != NULL;
}

const weft_cudnn_library *weft_cudnn_load(weft_cudnn_reason *why) {
    static weft_cudnn_library loaded;
    static bool ready;
    if (ready) return &loaded;
    void *library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        snprintf(why->text, sizeof why->text, "%s", dlerror());
        return NULL;
    }
#define LOAD(f)                                                                                              \
    if (!symbol(library, "cudnn" #f, &loaded.f, why)) return NULL;
    WEFT_CUDNN_FUNCTIONS(LOAD)
    ready = true;
    return &loaded;
}
