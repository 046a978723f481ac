/* Attention by our own kernels: what cuda_attention_fwd and _bwd run where cuDNN does not.
 *
 * The contract is that of attention_fwd and attention_bwd in ops.h, for head widths up to 256 and positions
 * below 2^31. Backward takes B * Tq * H floats of workspace, forward none. The results do not depend on the
 * run: every sum has one order. */
#ifndef WEFT_CUDA_FLASH_H
#define WEFT_CUDA_FLASH_H

#ifdef __cplusplus
extern "C" {
#endif

#include "ops.h"

void cuda_flash_fwd(weft_device *d, const weft_attention *a);
void cuda_flash_bwd(weft_device *d, const weft_attention *a);

#ifdef __cplusplus
}
#endif

#endif
