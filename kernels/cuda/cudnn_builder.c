#include "cuda/cudnn_builder.h"

#include <stdarg.h>
#include <stdio.h>

void dnn_say(weft_cudnn_reason *why, const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(why->text, sizeof why->text, format, args);
    va_end(args);
}

bool dnn_ok(const weft_cudnn_library *lib, cudnnStatus_t status, const char *doing, weft_cudnn_reason *why) {
    char words[256] = "";
    if (status == CUDNN_STATUS_SUCCESS) return true;
    lib->GetLastErrorString(words, sizeof words);
    for (char *p = words; *p; p++)
        if (*p == '\n') *p = ' ';
    dnn_say(why, "%s: %s%s%s", doing, lib->GetErrorString(status), *words ? ": " : "", words);
    return false;
}

void dnn_check(dnn_builder *b, cudnnStatus_t status, const char *doing) {
    if (!b->failed && !dnn_ok(b->lib, status, doing, b->why)) b->failed = true;
}

dnn_descriptor dnn_make(dnn_builder *b, cudnnBackendDescriptorType_t type) {
    const int most = (int)(sizeof b->all->made / sizeof *b->all->made);
    dnn_descriptor d = NULL;
    if (b->failed) return NULL;
    WEFT_CHECK(b->all->count < most, "cuDNN: more than %d descriptors", most);
    dnn_check(b, b->lib->BackendCreateDescriptor(type, &d), "making a descriptor");
    if (d) b->all->made[b->all->count++] = d;
    return d;
}

void dnn_set(dnn_builder *b, dnn_descriptor d, cudnnBackendAttributeName_t name,
             cudnnBackendAttributeType_t type, int64_t n, const void *values) {
    char doing[64];
    if (b->failed) return;
    snprintf(doing, sizeof doing, "setting attribute %d", (int)name);
    dnn_check(b, b->lib->BackendSetAttribute(d, name, type, n, values), doing);
}

void dnn_set_descriptor(dnn_builder *b, dnn_descriptor d, cudnnBackendAttributeName_t name,
                        dnn_descriptor value) {
    dnn_set(b, d, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &value);
}

void dnn_set_int(dnn_builder *b, dnn_descriptor d, cudnnBackendAttributeName_t name, int64_t value) {
    dnn_set(b, d, name, CUDNN_TYPE_INT64, 1, &value);
}

dnn_descriptor dnn_finalize(dnn_builder *b, dnn_descriptor d, const char *doing) {
    if (!b->failed) dnn_check(b, b->lib->BackendFinalize(d), doing);
    return d;
}

void dnn_free(const weft_cudnn_library *lib, dnn_descriptors *all) {
    while (all->count > 0) lib->BackendDestroyDescriptor(all->made[--all->count]);
}
