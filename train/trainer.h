/* The training step: memory, microbatches, the sum of gradients, clipping, AdamW, on any mesh. */
#ifndef WEFT_TRAINER_H
#define WEFT_TRAINER_H

#include "data/loader/loader.h"
#include "model/config.h"
#include "model/model.h"
#include "parallel/world.h"
#include "train/checkpoint.h"

#define WEFT_MAX_GRADIENTS 42

typedef struct weft_step_result {
    int64_t step;       /* its number */
    double loss;        /* mean cross-entropy over the global batch's targets */
    double aux, z, act; /* means over microbatches: see weft_loss */
    double grad_norm, lr;
    int64_t tokens; /* of the global batch */
    bool finite;    /* false: the update was skipped */
} weft_step_result;

/* What a step leaves for the host to read: of a step that is queued. */
typedef struct weft_step_pending {
    bool waiting;
    int64_t step, targets;
    double lr;
    weft_loss *losses; /* pinned: copies of the device's losses_all, */
    weft_clip *clip;   /* and of its clip */
    weft_mark done;
} weft_step_pending;

/* The step's batch on its way to the device: host memory that uploads read from. */
typedef struct weft_staging {
    int32_t *tokens, *targets, *doc_start, *doc_local;
    weft_mark sent;
} weft_staging;

typedef struct weft_trainer {
    const weft_config *config;
    weft_world world;
    weft_comm comm;
    weft_device device;
    weft_model model;
    weft_store *store;

    /* Microbatches of a step: all, and those that this rank works on, in `blocks` parts: see trainer_tree.c.
     */
    int64_t micro_total, micro_local, blocks;
    int64_t traffic[WEFT_AXES + 1]; /* bytes of a step on this rank, by axis; the last: control */

    weft_arena state; /* device memory: what follows, down to the batch; the parameters etc. are shards */
    weft_real *params, *adam_m, *adam_v;
    weft_act *params_act;                 /* working copy of params; NULL where activations are weft_real */
    weft_real *grads[WEFT_MAX_GRADIENTS]; /* buffers of the gradient tree */
    int grads_count;
    weft_loss *losses_local, *losses_all; /* of this rank's microbatches, and of all ranks' */
    weft_exact *squares;
    weft_clip *clip;
    /* This rank's part of the batch [micro_local][B*T/cp]; doc_* NULL without document masks, doc_local
     * without cp. */
    weft_staging batch;

    /* The host's; two of each take turns. On the CPU `staging` is `batch` itself. */
    weft_staging staging[2];
    weft_step_pending pending[2];
    weft_loss *losses; /* of all microbatches, in their global order */
    int64_t queued;    /* steps so far */
    int64_t targets;   /* of the step that is computed */

    /* Counters that a checkpoint keeps. */
    int64_t step, tokens;
    uint64_t samples;
} weft_trainer;

/* Sizes and allocates everything. With dry = true nothing is allocated: the arenas only measure, and
 * weft_trainer_bytes tells what a run of this configuration would use on rank w->rank of w->size,
 * weft_trainer.traffic what it would receive. Otherwise collective; the status is agreed. The configuration
 * is kept by reference. Fails with WEFT_EINPUT when the mesh does not fit the ranks or the model, or the
 * batch does not divide over the ranks. */
weft_status weft_trainer_open(weft_trainer *t, const weft_config *c, const weft_world *w, bool dry);
void weft_trainer_close(weft_trainer *t); /* collective unless dry */
/* Of a dry trainer: a whole step, the update included, by the operations that t->device has and the
 * collectives of t->comm. What counts them sees it (kernels/tally.h, weft_comm.see). */
void weft_trainer_dry_step(weft_trainer *t);

/* Bytes on one rank; the first rank of a mesh has the most. */
typedef struct weft_trainer_memory {
    size_t parameters, optimizer; /* this rank's shards */
    size_t gradients;             /* shards: the buffers of the gradient tree */
    size_t gathered;              /* whole weights and gradients of the layers in use (FSDP) */
    size_t buffers;               /* losses, a microbatch's part of the sequence */
    size_t activations;           /* what the forward pass keeps for the backward pass */
    size_t workspace;             /* of operations and collectives, on top of it at the peak */
    size_t total;
} weft_trainer_memory;
weft_trainer_memory weft_trainer_bytes(const weft_trainer *t);

/* Initial weights from the seed. */
weft_status weft_trainer_init(weft_trainer *t);
void weft_trainer_params_changed(weft_trainer *t); /* by others than the update */

/* Number of samples that this rank loads for a step, and their global numbers for the step that starts at
 * `samples`. Ranks that share a microbatch (cp, tp) load the same ones. */
int64_t weft_trainer_batch_size(const weft_trainer *t);
void weft_trainer_batch_samples(const weft_trainer *t, uint64_t samples, uint64_t *out);
/* How the configuration wants its training data loaded, but for max_batch. `weights` holds what the options
 * point to. */
typedef struct weft_trainer_weights {
    struct {
        const char *name;
        double weight;
    } domains[WEFT_MAX_DOMAINS];
} weft_trainer_weights;
weft_loader_options weft_trainer_loader_options(const weft_config *c, weft_trainer_weights *weights);
/* The loader of the configuration's training data, for batches of that size. Collective on the mesh; refuses
 * data that is not the same on every rank. */
weft_status weft_trainer_open_loader(const weft_trainer *t, weft_loader **out);
/* The global number of microbatch i of those of data rank (dp, fsdp). */
int64_t weft_trainer_micro(const weft_trainer *t, int dp, int fsdp, int64_t i);

/* One update on this rank's part of the batch, which may be reused afterwards. Collective. No allocation.
 * On a GPU the step is queued, and the result is that of the step before: false when there is none yet. On
 * the CPU the result is this step's. */
bool weft_trainer_step(weft_trainer *t, const weft_batch *batch, weft_step_result *out);
/* The result that weft_trainer_step has not told yet; false when there is none. The host waits for it. */
bool weft_trainer_finish(weft_trainer *t, weft_step_result *out);
/* The two halves of a step: gradients of the whole batch, this rank's shards, before clipping, in device
 * memory (they stay valid until the next step); the update with them, and the counters. */
const weft_real *weft_trainer_gradients(weft_trainer *t, const weft_batch *batch);
void weft_trainer_update(weft_trainer *t, const weft_real *grads);

/* Checkpoints. Collective. `loader` gives the digests that a resumed run must match. */
weft_status weft_trainer_save(weft_trainer *t, const weft_loader *loader, const char *run);
weft_status weft_trainer_load(weft_trainer *t, const weft_loader *loader, const char *path);

/* trainer_tree.c: how the microbatches are divided and their gradients summed. */
weft_status weft_trainer_divide(weft_trainer *t);
weft_real *weft_trainer_sum_gradients(weft_trainer *t, const weft_objective *o);

/* trainer_batch.c: the batch on its way to the device. */
void weft_trainer_place_batch(weft_trainer *t, weft_arena *a);
weft_status weft_trainer_open_staging(weft_trainer *t);
void weft_trainer_close_staging(weft_trainer *t);
void weft_trainer_send_batch(weft_trainer *t, const weft_batch *batch); /* no allocation */
weft_microbatch weft_trainer_microbatch(const weft_trainer *t, int64_t i);

/* trainer_result.c: losses and norms on their way back. */
weft_status weft_trainer_open_results(weft_trainer *t);
void weft_trainer_close_results(weft_trainer *t);
void weft_trainer_send_result(weft_trainer *t, int64_t targets, double lr); /* no allocation */
bool weft_trainer_take_result(weft_trainer *t, bool newest, weft_step_result *out);

#endif
