/* Which kernel computes attention: cuDNN's or our own (flash.h). */
#ifndef WEFT_CUDA_ATTENTION_H
#define WEFT_CUDA_ATTENTION_H

#include "cuda/cuda.cuh"

extern "C" {
#include "cuda/cudnn.h"
}

/* For weft_device_open_cuda: where cuDNN was asked for (WEFT_ATTENTION_CUDNN), says at once that it is not
 * there: WEFT_EINPUT. */
weft_status cuda_attention_open(weft_device *d);
/* Frees the handle and the plans; d's streams are done. */
void cuda_cudnn_close(weft_cuda *c);

/* ---- between attention.cu and attention_probe.cu ---- */

/* The part of *a that begins at sequence b and key/value head g and has the shape of the plan, by cuDNN.
 * Workspace comes from d->act. False and why. */
bool attention_part(weft_device *d, weft_cudnn *cudnn, const weft_cudnn_plan *plan, const weft_graph_shape &s,
                    const weft_attention &a, int64_t b, int64_t g, weft_cudnn_reason *why);

/* Does cuDNN compute on this GPU what our kernel does? For heads as in `like`, on a small problem whose
 * numbers are known. Waits for the GPU, and takes memory of its own for a moment. False and why. */
bool attention_probe(weft_device *d, weft_cudnn *cudnn, const weft_graph_shape &like, weft_cudnn_reason *why);

#endif
