/* The whole model: embedding, blocks, final norm, head; one microbatch forward and backward,
 * log-probabilities, and decoding with caches. Forward and backward are collective on the communicator's
 * ranks that share a microbatch (cp x tp), exchange experts' tokens (ep) and shard parameters (fsdp). */
#ifndef WEFT_MODEL_H
#define WEFT_MODEL_H

#include "model/block.h"

typedef struct weft_model {
    weft_model_config config;
    weft_params table;
    weft_block *blocks;
    int64_t block_count, moe_count;
    int64_t embed, final_norm, head; /* rows; head == embed when tied */
    weft_comm *comm, alone;          /* `alone`: of a model on one rank */
    weft_store *whole;               /* see weft_model_whole */
    int64_t ep_passes;               /* see block.h */
    int units;                       /* of the store: embedding, layers, head */
    int64_t *host_counts;            /* of block.h's pass: see weft_model_counts */
    weft_mark host_mark;
    size_t kept_bytes; /* of the last pass: what forward kept for backward */
    weft_watch watch;  /* of every pass */
} weft_model;

/* Blocks and parameter table of a configuration, this rank's slices on `comm`'s mesh (NULL: one rank).
 * `recompute` says which blocks forget their activations and run forward again in backward, `layers` in which
 * layers ("" all, or "0-3,8"); `ep_passes` in how many parts tokens go through the experts (0: as many as
 * ep); `act` the type of activations and working copies of the parameters. The model keeps its own copy of c
 * and must not be moved afterwards. Not collective. */
weft_status weft_model_build(weft_model *m, const weft_model_config *c, weft_recompute recompute,
                             const char *layers, int64_t ep_passes, weft_dtype act, weft_comm *comm);
void weft_model_free(weft_model *m);
/* Pinned memory for the numbers of rows that experts get from other ranks: needed, and taken, only on a
 * device whose memory is not the host's. Given back by weft_model_counts_free, before the device is closed.
 */
weft_status weft_model_counts(weft_model *m, weft_device *d);
void weft_model_counts_free(weft_model *m, weft_device *d);

/* A store over whole arrays of table.flat elements: gradients (or NULL) are added. One for each model. */
weft_store *weft_model_whole(weft_model *m, const weft_real *params, weft_real *grads);

typedef struct weft_microbatch {
    int64_t B, T;                    /* sequences, tokens of each that this rank holds (block.h) */
    const int32_t *tokens, *targets; /* [B*T]; target -1: does not count */
    const int32_t *doc_start;        /* [B*T] or NULL: see block.h */
    const int32_t *doc_local;        /* the same, counted within the chunk; ignored without cp */
} weft_microbatch;

/* What is minimised, over a global batch of n microbatches:
 *   sum of cross-entropy * ce_scale + extra_scale * (router_aux_loss_coef * aux + router_z_loss_coef * z
 *                                                    + activation_loss_coef * act)
 * with ce_scale = 1 / (targets of the global batch) and extra_scale = 1/n. */
typedef struct weft_objective {
    double ce_scale, extra_scale;
    int64_t loss_chunk; /* rows of logits that exist at a time */
} weft_objective;

/* This rank's part: the sums over the ranks that share the microbatch (cp x tp) are the microbatch's. */
typedef struct weft_loss {
    double ce_sum; /* natural log, over counted targets */
    double aux; /* load balance: X * sum over slots and experts of f * P, over all MoE layers' tokens together
                   (Jamba) */
    double z;   /* mean over MoE layers and tokens of logsumexp(router logits)^2 */
    double act; /* mean over blocks of the mean square of the block's output (Jamba-1.5, arXiv
                   2408.12570, 3.4); 0 when off */
} weft_loss;

/* Forward and backward with the store's weights, gradients into the store, between weft_store_pass_begin and
 * _end. Everything that mb points to, and `out`, is device memory. On a dry device only the arena moves. */
void weft_model_train(weft_model *m, weft_device *d, weft_store *store, const weft_microbatch *mb,
                      const weft_objective *o, weft_loss *out);

/* The following are for a model on one rank, with whole arrays of parameters.
 * Forward only: loss[m] = -log p(target m | before), natural; 0 where the target is -1. `loss` has B*T
 * elements. */
void weft_model_losses(weft_model *m, weft_device *d, const weft_real *params, const weft_microbatch *mb,
                       int64_t loss_chunk, weft_real *loss);

/* Forward only: logits [B*T, V], all of them at once, for short sequences. */
void weft_model_logits(weft_model *m, weft_device *d, const weft_real *params, const weft_microbatch *mb,
                       weft_act *logits);

/* Decoding one sequence: caches for `capacity` tokens are pushed onto `a` and zeroed (unless measuring). */
void weft_model_make_caches(const weft_model *m, weft_arena *a, int64_t capacity, weft_dtype act,
                            weft_block_cache *caches);
/* Runs `count` tokens that stand at positions pos0.. and writes the last one's logits [V]. */
void weft_model_decode(weft_model *m, weft_device *d, const weft_real *params, weft_block_cache *caches,
                       const int32_t *tokens, int64_t count, int64_t pos0, weft_real *logits);

/* Cost (cost.c). */
int64_t weft_model_active_params(const weft_model *m);         /* parameters that one token uses */
double weft_model_train_flops(const weft_model *m, int64_t T); /* per token, forward and backward */
int64_t weft_model_kv_bytes(const weft_model *m, int64_t T,
                            int64_t bits); /* keys and values of one sequence */
int64_t weft_model_state_bytes(const weft_model *m,
                               int64_t conv_bits); /* Mamba: fp32 state and conv taps of one sequence */
/* What `tokens` of a prompt that go through weft_model_decode at once take besides weights and caches:
 * activations and workspace of `dry`, a dry device of the activations' type. */
weft_status weft_model_prompt_bytes(weft_model *m, weft_device *dry, int64_t tokens, size_t *bytes);

#endif
