/* The CUDA backend's table of operations. */
#include "ops.h"

#define CUDA_DECLARE(op) __typeof__(*((weft_ops *)0)->op) cuda_##op;
WEFT_OPS_LIST(CUDA_DECLARE)
#define CUDA_FIELD(op) .op = cuda_##op,

extern const weft_ops weft_ops_cuda;
const weft_ops weft_ops_cuda = {.name = "cuda", WEFT_OPS_LIST(CUDA_FIELD)};
