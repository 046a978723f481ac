/* The parameter table: each tensor of the model is one row, declared by the file of its layer kind. The table
 * alone drives allocation, initialisation, the optimizer, checkpoints, import, export and `weft plan`. */
#ifndef WEFT_PARAMS_H
#define WEFT_PARAMS_H

#include "runtime/device.h"
#include "runtime/rng.h"

#define WEFT_PARAM_NAME 128
#define WEFT_PARAM_DIMS 3

typedef enum weft_split { /* how a tensor lies over the mesh axis tp (or ep for experts) */
                          WEFT_REPLICATED,
                          WEFT_SHARD, /* along split_dim */
} weft_split;

typedef enum weft_axis { WEFT_AXIS_NONE, WEFT_AXIS_TP, WEFT_AXIS_EP } weft_axis;

typedef enum weft_init {
    WEFT_INIT_NORMAL,  /* N(0, init_scale^2) */
    WEFT_INIT_UNIFORM, /* U(-init_scale, init_scale) */
    WEFT_INIT_ONES,
    WEFT_INIT_ZEROS,
    WEFT_INIT_A_LOG,   /* A_log[e,n] = log(n+1) (S4D-real, arXiv 2206.11893) */
    WEFT_INIT_DT_BIAS, /* inverse softplus of a log-uniform delta in [0.001, 0.1] (Gu and Dao, arXiv
                          2312.00752, 3.6) */
} weft_init;

typedef struct weft_param {
    char name[WEFT_PARAM_NAME]; /* canonical: "layers.3.mamba.in_proj.x" */
    int ndim;
    int64_t shape[WEFT_PARAM_DIMS];
    int64_t numel;
    int64_t offset; /* first element in the flat arrays (parameters, gradients, moments) */
    weft_split split;
    weft_axis split_axis;
    int split_dim;
    weft_init init;
    double init_scale;
    bool decay;     /* weight decay applies */
    bool full;      /* kept in weft_real even where activations are bf16 (A_log, D, dt bias) */
    int64_t layer;  /* -1: not in a layer */
    int64_t expert; /* -1: not in an expert */
    /* Hugging Face: this tensor is rows [hf_row, hf_row + shape[0]) of a tensor with hf_rows rows; hf_shape
     * is that tensor's shape. */
    char hf_name[WEFT_PARAM_NAME];
    int hf_ndim;
    int64_t hf_shape[WEFT_PARAM_DIMS];
    int64_t hf_row;
    char gguf_name[WEFT_PARAM_NAME]; /* of the GGUF tensor that holds it */
} weft_param;

typedef struct weft_params {
    weft_param *rows;
    int64_t count, capacity;
    int64_t flat; /* elements of the flat arrays, padding between tensors included */
} weft_params;

/* Adds a row (copied) and places it: 16-element aligned, or directly behind the row before when `joined`, so
 * that one GEMM can use both as one matrix. Returns its index. Panics when out of memory. */
int64_t weft_params_add(weft_params *p, const weft_param *row, bool joined);
void weft_params_free(weft_params *p);
const weft_param *weft_params_find(const weft_params *p, const char *name); /* NULL when absent */

/* Elements without padding. */
int64_t weft_params_total(const weft_params *p);

/* Fills `flat` (p->flat elements; padding zero) from the counter-based RNG: a value depends on (seed, tensor
 * name, index in the tensor) only. */
void weft_params_init(const weft_params *p, weft_real *flat, uint64_t seed);

#endif
