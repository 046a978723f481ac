#include "train/schedule.h"

#include <math.h>

double weft_schedule_lr(const weft_config *c, int64_t step) {
    double lr = c->optim.lr, min_lr = c->optim.min_lr;
    int64_t steps = c->train.steps, warmup = c->optim.warmup;
    if (step <= warmup) return lr * (double)step / (double)warmup;
    switch (c->optim.schedule) {
    case WEFT_SCHED_COSINE: {
        double progress = steps > warmup ? (double)(step - warmup) / (double)(steps - warmup) : 1;
        if (progress > 1) progress = 1;
        return min_lr + (lr - min_lr) * 0.5 * (1 + cos(M_PI * progress));
    }
    case WEFT_SCHED_WSD: {
        int64_t decay = c->optim.decay_steps ? c->optim.decay_steps : (steps + 9) / 10, left = steps - step;
        if (left >= decay) return lr;
        return min_lr + (lr - min_lr) * (double)(left > 0 ? left : 0) / (double)decay;
    }
    case WEFT_SCHED_CONSTANT:
        break;
    }
    return lr;
}
