/* cuDNN's descriptors: made, given attributes, and finalised, bottom up. */
#ifndef WEFT_CUDA_CUDNN_BUILDER_H
#define WEFT_CUDA_CUDNN_BUILDER_H

#include "cuda/cudnn_library.h"

typedef cudnnBackendDescriptor_t dnn_descriptor;

/* All that were made for one plan, which lives as long as they. */
typedef struct dnn_descriptors {
    int count;
    dnn_descriptor made[WEFT_GRAPH_TENSORS + 2 * WEFT_GRAPH_OPS + 32];
} dnn_descriptors;

/* A plan on its way. After the first failure nothing more is done. */
typedef struct dnn_builder {
    const weft_cudnn_library *lib;
    cudnnHandle_t handle;      /* of a GPU, or NULL */
    dnn_descriptor properties; /* then: of one that is described */
    dnn_descriptors *all;
    weft_cudnn_reason *why;
    bool failed;
} dnn_builder;

void dnn_say(weft_cudnn_reason *why, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Did it succeed? Else says what was being done, cuDNN's name of the failure, and its words if it has any. */
bool dnn_ok(const weft_cudnn_library *lib, cudnnStatus_t status, const char *doing, weft_cudnn_reason *why);
void dnn_check(dnn_builder *b, cudnnStatus_t status, const char *doing);

dnn_descriptor dnn_make(dnn_builder *b, cudnnBackendDescriptorType_t type);
void dnn_set(dnn_builder *b, dnn_descriptor d, cudnnBackendAttributeName_t name,
             cudnnBackendAttributeType_t type, int64_t n, const void *values);
void dnn_set_descriptor(dnn_builder *b, dnn_descriptor d, cudnnBackendAttributeName_t name,
                        dnn_descriptor value);
void dnn_set_int(dnn_builder *b, dnn_descriptor d, cudnnBackendAttributeName_t name, int64_t value);
void dnn_free(const weft_cudnn_library *lib, dnn_descriptors *all);
dnn_descriptor dnn_finalize(dnn_builder *b, dnn_descriptor d, const char *doing);

/* The whole of a graph. cuDNN knows tensor i by the number dnn_name(i). */
dnn_descriptor dnn_lower(dnn_builder *b, const weft_graph *g);
int64_t dnn_name(int tensor);

#endif
