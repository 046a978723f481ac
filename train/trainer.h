/* The training step: memory, microbatches, the sum of gradients, clipping, AdamW. */
#ifndef WEFT_TRAINER_H
#define WEFT_TRAINER_H

#include "data/loader.h"
#include "model/config.h"
#include "model/model.h"
#include "parallel/world.h"
#include "train/checkpoint.h"

#define WEFT_MAX_GRADIENTS 40

typedef struct weft_step_result {
    double loss;        /* mean cross-entropy over the global batch's targets */
    double aux, z, act; /* means over microbatches: see weft_loss */
    double grad_norm, lr;
    int64_t tokens; /* of the global batch */
    bool finite;    /* false: the update was skipped */
} weft_step_result;

typedef struct weft_trainer {
    const weft_config *config;
    weft_world world;
    weft_device device;
    weft_model model;

    int64_t micro_total, micro_local; /* microbatches of a step: all, and this rank's (a contiguous range) */
    int64_t groups, group_size;       /* this rank's leaves of the gradient tree, and microbatches in each */

    weft_arena state; /* everything below lives here */
    weft_real *params, *adam_m, *adam_v;
    weft_real *grads[WEFT_MAX_GRADIENTS]; /* buffers of the gradient tree: see trainer.c */
    int grads_count;
    void *sum_work;
    weft_loss *losses_local, *losses;

    /* Counters that a checkpoint keeps. */
    int64_t step, tokens;
    uint64_t samples;
} weft_trainer;

/* Sizes and allocates everything. Not collective: the ranks agree on the status afterwards. With dry = true
 * nothing is allocated: the arenas only measure, and weft_trainer_bytes tells what a run of this
 * configuration would use on each rank of w. The configuration is kept by reference. Fails with WEFT_EINPUT
 * when the batch does not divide over the ranks.
 */
weft_status weft_trainer_open(weft_trainer *t, const weft_config *c, const weft_world *w, bool dry);
void weft_trainer_close(weft_trainer *t);

typedef struct weft_trainer_memory {
    size_t parameters, gradients, optimizer, communication, activations, total; /* bytes on one rank */
} weft_trainer_memory;
weft_trainer_memory weft_trainer_bytes(const weft_trainer *t);

/* Initial weights from the seed. */
void weft_trainer_init(weft_trainer *t);

/* Number of samples that this rank loads for a step, and their global numbers for the step that starts at
 * `samples`. */
int64_t weft_trainer_batch_size(const weft_trainer *t);
void weft_trainer_batch_samples(const weft_trainer *t, uint64_t samples, uint64_t *out);

/* One update on this rank's part of the batch. Collective. No allocation. */
void weft_trainer_step(weft_trainer *t, const weft_batch *batch, weft_step_result *out);

/* Checkpoints. Collective. `loader` gives the digests that a resumed run must match. */
weft_status weft_trainer_save(weft_trainer *t, const weft_loader *loader, const char *run);
weft_status weft_trainer_load(weft_trainer *t, const weft_loader *loader, const char *path);

#endif
