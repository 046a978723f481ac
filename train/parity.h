/* `weft parity`: the same step on the mesh and on one rank, and where the two first differ.
 *
 * A side is a trainer that has done one step on the batch of step 0, with all that its model saw on the way.
 * The ranks of the job do the mesh's side together; then rank 0 does the other alone, and the ranks send it
 * what they hold, tensor by tensor.
 *
 * The measure. For a tensor of values b on one rank and a on the mesh, over the whole global batch:
 *   difference = max |a - b|
 *   relative   = difference / rms(b); 0 where both are zero, infinite where only b is or a number is
 *                not finite
 * Every element must come from all ranks that hold it, replicas and copies too, and each is compared.
 *
 *   forward    output of the embedding, of each block, of the final norm [samples, T, D]; the losses of
 *              each microbatch
 *   backward   gradient of the same tensors; of a block: of the residual stream before it
 *   gradient   of each parameter, before clipping; their norm
 *   update     here a and b are the change of a parameter by AdamW's first step,
 *              -lr * (g / (|g| + eps) + decay * w). Two units in the last place of the parameter are taken
 *              off |a - b|: so much the rounding of the sum makes. Elements whose gradient is below a quarter
 *              of its tensor's rms, but not 0, are left out: the division would magnify the relative
 *              difference of the gradients, which has been judged before.
 *
 * To see that it finds a fault: with WEFT_PARITY_FAULT=RANK:TENSOR in the environment, that rank of the job
 * multiplies the first element of the forward tensor TENSOR ("embed_tokens", "layers.3.mamba",
 * "final_layernorm") by 1.5 after it has been recorded, in each microbatch. The next tensor that depends on
 * it is then the first that differs. */
#ifndef WEFT_PARITY_H
#define WEFT_PARITY_H

#include "train/trainer.h"

/* In single precision correct layouts of models with up to 32 layers differ by 2e-5 at most, in gradients of
 * small Mamba tensors, which are sums over the whole batch in another order. Mistakes tried show 1e-3 and
 * more somewhere, most of them 1e-2 at once. */
#define WEFT_PARITY_TOLERANCE 1e-4

/* ---- one side (parity_side.c) -------------------------------------------------------------------------- */

/* What the model saw: its tensors in the order of execution, of each this rank's rows of its microbatches. */
typedef struct weft_parity_record {
    int64_t tensors;      /* of forward and backward together: an even number */
    int64_t micro;        /* microbatches on this rank */
    int64_t rows, width;  /* of a tensor of one microbatch */
    weft_real *data;      /* [tensors][micro][rows][width] */
    int64_t seen;         /* tensors so far, of all microbatches */
    weft_device *device;  /* where they are when they are seen */
    int64_t spoiled;      /* forward tensor that WEFT_PARITY_FAULT names, or -1 */
    const weft_model *of; /* whose tensors these are */
} weft_parity_record;

typedef struct weft_parity_side {
    weft_trainer trainer; /* after the step */
    weft_parity_record record;
    weft_step_result result;
    /* The host's copies of the trainer's shards. */
    weft_real *grads;  /* before clipping */
    weft_real *params; /* after the step */
    weft_real *before; /* and before it; only of one rank alone */
} weft_parity_side;

/* Opens a trainer and does the step. Collective, and the status is agreed; with w->size == 1 it concerns
 * nobody else. The configuration is kept by reference and names a mesh of w->size ranks. */
weft_status weft_parity_run(weft_parity_side *s, const weft_config *c, const weft_world *w);
void weft_parity_close(weft_parity_side *s); /* also of a zeroed struct; collective as weft_parity_run */

/* Bytes that a side of this configuration takes on rank w->rank; fails as weft_trainer_open does. Not
 * collective. */
weft_status weft_parity_bytes(const weft_config *c, const weft_world *w, size_t *bytes);

/* Name of tensor i of a record. */
const char *weft_parity_name(const weft_model *m, int64_t i);
/* Where a rank's row of the residual stream stands in its microbatch [B*T]: of row `row` of a mesh's rank. */
int64_t weft_parity_row(const weft_config *c, const weft_mesh *at, int64_t row);

/* ---- comparison (parity_compare.c) --------------------------------------------------------------------- */

typedef enum weft_parity_phase {
    WEFT_PARITY_FORWARD,
    WEFT_PARITY_BACKWARD,
    WEFT_PARITY_GRADIENT,
    WEFT_PARITY_UPDATE
} weft_parity_phase;
const char *weft_parity_phase_name(weft_parity_phase p); /* "forward" ... */

typedef struct weft_parity_tensor {
    weft_parity_phase phase;
    char name[WEFT_PARAM_NAME];
    int ndim;
    int64_t shape[WEFT_PARAM_DIMS]; /* of the whole tensor */
    double rms;                     /* of one rank's values */
    double difference, relative;    /* see above */
    int64_t beyond;                 /* elements whose relative difference is beyond the tolerance */
    int64_t worst;                  /* element with the largest difference */
    int worst_rank;                 /* that holds it; -1: all know it */
    int64_t layer;                  /* of a parameter of experts, else -1 */
} weft_parity_tensor;

typedef struct weft_parity_report {
    weft_parity_tensor *tensors; /* in the order of execution */
    int64_t count;
    double tolerance;
    int64_t first; /* tensor beyond the tolerance, or -1 */
    int64_t worst; /* tensor with the largest relative difference */
} weft_parity_report;

/* Compares the mesh's side with one rank's, which rank 0 has (NULL elsewhere). Collective; the status is
 * agreed, and the report is filled on rank 0. A difference is no failure of this function. */
weft_status weft_parity_compare(weft_parity_report *r, const weft_parity_side *mesh,
                                const weft_parity_side *one, double tolerance);
void weft_parity_report_free(weft_parity_report *r); /* also of a zeroed struct */

/* ---- report (parity_report.c) -------------------------------------------------------------------------- */

/* Prints the table, or one JSON object; of the experts of a layer the table shows the worst tensor. */
weft_status weft_parity_print(const weft_parity_report *r, const weft_mesh *mesh, bool json);
/* What differs first, where and by how much: a sentence for the error. Returns out. */
const char *weft_parity_first(const weft_parity_report *r, const weft_mesh *mesh, char *out, size_t size);

#endif
