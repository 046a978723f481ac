/* The parameter table: each tensor of the model is one row, declared by the file of its layer kind. The table
 * alone drives allocation, initialisation, sharding, the optimizer, checkpoints, import, export and `weft
 * plan`.
 *
 * A rank of a mesh holds a *slice* of each tensor: its part along split_dim over tp (heads, channels,
 * columns, words), or all of it; of an expert, everything or nothing (ep). Slices lie in *buckets*, the units
 * of FSDP: "shared"           what every tp rank holds alike: norms, routers, biases of output projections
 *   "embed_tokens", "layers.3", "layers.3.full", "layers.3.experts", ..., "lm_head"
 * ("full": what is kept in weft_real where the other working copies are bf16.)
 * Within a bucket a slice starts at `offset`; a bucket is a multiple of 64 elements, cut into shards over its
 * group. */
#ifndef WEFT_PARAMS_H
#define WEFT_PARAMS_H

#include "parallel/store.h"
#include "runtime/device.h"
#include "runtime/rng.h"

#define WEFT_PARAM_NAME 128
#define WEFT_PARAM_DIMS 3

typedef enum weft_split {
    /* The same on every tp rank. Its gradient is computed in parts, one by each tp rank (for its rows of the
     * residual stream, or all of it by rank 0), and summed over tp once a step. */
    WEFT_REPLICATED,
    WEFT_SHARD, /* along split_dim over tp */
} weft_split;

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
    int64_t shape[WEFT_PARAM_DIMS]; /* of the whole tensor */
    int64_t numel;                  /* of the whole tensor */
    weft_split split;
    int split_dim;
    int64_t split_units; /* things along split_dim that stay whole (heads); 0: single rows. With fewer of them
                            than ranks, tp/units neighbouring ranks hold the same one */
    /* This rank's slice, filled by weft_params_add: box in the whole tensor; held = 0: another rank's expert.
     */
    int64_t start[WEFT_PARAM_DIMS], extent[WEFT_PARAM_DIMS];
    int64_t held; /* elements */
    int bucket;
    int64_t offset;   /* first element in the bucket */
    int64_t at;       /* first element in an array of whole slices (weft_params.flat), once placed */
    int copies, copy; /* tp ranks that hold this same slice, and this rank's number among them */
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
    weft_mesh mesh;
    weft_dtype act;  /* type of the working copies of all rows but the `full` ones */
    int64_t layers;  /* of the model */
    int64_t experts; /* of an expert layer: row.expert counts to it */
    weft_param *rows;
    int64_t count, capacity;
    weft_bucket *buckets;
    int bucket_count, bucket_capacity;
    int64_t flat;   /* elements of all buckets: of an array that holds this rank's whole slices */
    int64_t shards; /* elements of this rank's shards of all buckets: of parameters, gradients, moments */
} weft_params;

/* Adds a row (copied), works out its slice on p->mesh and places it: 16-element aligned, or directly behind
 * the row before when `joined`, so that one GEMM can use both as one matrix. Returns its index. Panics when
 * out of memory. */
int64_t weft_params_add(weft_params *p, const weft_param *row, bool joined);
/* Fixes the buckets' places; no row may be added afterwards. */
void weft_params_place(weft_params *p);
void weft_params_free(weft_params *p);
const weft_param *weft_params_find(const weft_params *p, const char *name); /* NULL when absent */

/* Elements of the whole model, without padding. */
int64_t weft_params_total(const weft_params *p);

/* Row r's slice among a store's weights, and among its gradients (NULL in a forward-only pass). */
static inline const void *weft_params_weights(const weft_params *p, const weft_store *s, int64_t r) {
    int bucket = p->rows[r].bucket;
    return weft_act_cat(weft_store_weights(s, bucket), weft_store_bucket_type(s, bucket), p->rows[r].offset);
}
static inline weft_real *weft_params_grads(const weft_params *p, const weft_store *s, int64_t r) {
    weft_real *grads = weft_store_grads(s, p->rows[r].bucket);
    return grads ? grads + p->rows[r].offset : NULL;
}

/* The part of row r that lies in this rank's shard: elements [first, first + count) of its slice, at element
 * `at` of an array of p->shards elements. False when there is none. */
typedef struct weft_piece {
    int64_t first, count, at;
} weft_piece;
bool weft_params_piece(const weft_params *p, const weft_param *r, weft_piece *out);

/* Fills an array of p->flat (or p->shards) elements, padding zero, from the counter-based RNG: a value
 * depends on (seed, tensor name, index in the whole tensor) only. */
void weft_params_init(const weft_params *p, weft_real *flat, uint64_t seed);
void weft_params_init_shards(const weft_params *p, weft_real *shards, uint64_t seed);

#endif
