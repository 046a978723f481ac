/* What C code needs of a CUDA device: the stream that d->stream stands for, a cudaStream_t. */
#ifndef WEFT_CUDA_STREAM_H
#define WEFT_CUDA_STREAM_H

#include "runtime/device.h"

void *weft_cuda_stream(const weft_device *d);

#endif
