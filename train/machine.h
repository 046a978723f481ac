/* What this machine can do, measured. */
#ifndef WEFT_MACHINE_H
#define WEFT_MACHINE_H

#include "ops.h"

/* FLOP/s of a 1024-row matrix product through the device, all ranks at once, summed over them: what mfu is a
 * share of. Takes some 50 ms. Collective; the same value on every rank. */
double weft_machine_gemm_flops(weft_device *d);

#endif
