/* Learning rate by step. */
#ifndef WEFT_SCHEDULE_H
#define WEFT_SCHEDULE_H

#include "model/config.h"

/* Rate of update `step` (1 = first) of train.steps. Warm-up: lr * step / warmup. Then
 *   cosine    min_lr + (lr - min_lr) * (1 + cos(pi * progress)) / 2   (Loshchilov and Hutter, arXiv
 * 1608.03983) wsd       lr, and over the last decay_steps (0: a tenth) linear to min_lr   (Hu et al., arXiv
 * 2404.06395) constant  lr */
double weft_schedule_lr(const weft_config *c, int64_t step);

#endif
