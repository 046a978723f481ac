/* A block is one residual branch: x <- x + f(RMSNorm(x)), where f is of some kind: attention, Mamba, dense
 * MLP or mixture of experts. A layer of Jamba is a mixer block and a feed-forward block.
 *
 * Each kind is one file: it declares its parameters, runs forward, saving on the device's arena what backward
 * needs, and runs backward. There is no autograd; buffers have names.
 *
 * Layout of the tokens of a microbatch over the ranks that share it (cp x tp): each of the B sequences is cut
 * into zig-zag chunks over cp (parallel/mesh.h); a rank's M = B*T tokens lie as [sequence][chunk
 * slot][token]. The rows of the residual stream are split over tp besides: member r holds the `rows` = M/tp
 * rows from r*rows on. A block gathers them, works on its slice of the parameters, and scatters the sum
 * (parallel/moves.h). */
#ifndef WEFT_BLOCK_H
#define WEFT_BLOCK_H

#include "model/config.h"
#include "model/params.h"
#include "ops.h"
#include "parallel/moves.h"

#include <stdio.h>

typedef struct weft_block weft_block;
typedef struct weft_pass weft_pass;

/* State of one block while tokens are generated one by one (B = 1). */
typedef struct weft_block_cache {
    weft_act *k, *v;  /* attention: [capacity, G*d] */
    weft_act *conv;   /* Mamba: [K-1, E] */
    weft_real *state; /* Mamba: [E, N] */
} weft_block_cache;

typedef struct weft_block_kind {
    const char *name; /* "attention" */
    const char *norm; /* name of the norm before it: "input_layernorm" */
    /* Adds this block's rows to the table and remembers where they lie. */
    void (*declare)(weft_block *b, const weft_model_config *c, weft_params *p);
    /* out [rows,D] = f(x), x [rows,D] normalised. With s->training, pushes what backward needs onto
     * s->dev->act and leaves it there (nothing else), otherwise leaves nothing. out NULL: recomputation, only
     * what is saved is wanted. Collective. */
    void (*forward)(weft_block *b, weft_pass *s, weft_act *out, const weft_act *x);
    /* dx [rows,D] = (df/dx)^T dout, assigned; parameter gradients are added. Reads what forward saved.
     * Collective. */
    void (*backward)(weft_block *b, weft_pass *s, weft_act *dx, const weft_act *dout, const weft_act *x);
    /* Pushes an empty cache for `capacity` tokens onto `a`. NULL: needs none. */
    void (*cache)(const weft_block *b, weft_block_cache *cache, weft_arena *a, int64_t capacity,
                  weft_dtype act);
    /* Multiply-adds x 2 of one token's forward pass in matrix products, at sequence length T (mean over
     * positions). */
    double (*flops)(const weft_block *b, int64_t T);
} weft_block_kind;

extern const weft_block_kind weft_block_attention, weft_block_mamba, weft_block_mlp, weft_block_moe;

/* Sees the tensors of a pass as they come, in the device's memory; each function or NULL. */
typedef struct weft_watch {
    /* The residual stream's branches and their gradients: this rank's rows [rows, width] of `name`. For `weft
     * parity`. */
    void (*see)(void *of, const char *name, const weft_act *x, int64_t rows, int64_t width);
    /* What a forward pass computes on the way, [rows, width] with row stride ld; for evaluation on one rank.
     * Of a block: "qkv" (attention: q|k|v behind RoPE), "u" (Mamba: behind the convolution), "x_proj" (dt|B|C
     * as they come out of the product), "dbc" (as the scan reads them), "gated" (out of the scan), "out"
     * (what is added to the residual stream), "residual" (the stream before the block). b NULL: "logits" of
     * the rows [first, first + rows) of the microbatch, before any of them is changed. */
    void (*inside)(void *of, const weft_block *b, const char *name, const weft_act *x, int64_t ld,
                   int64_t first, int64_t rows, int64_t width);
    /* The experts of a router's rows, ids [rows, k]. */
    void (*routed)(void *of, const weft_block *b, const int32_t *ids, int64_t rows, int64_t k);
    void *of;
} weft_watch;

/* What a pass over a microbatch needs. */
struct weft_pass {
    weft_device *dev;
    weft_comm *comm;   /* never NULL */
    weft_store *store; /* parameters and gradients */
    int64_t B, T, M;   /* sequences, tokens of each that this rank holds, B*T */
    int64_t C, L;      /* chunks of a sequence on this rank (2 with cp, else 1), tokens of each: T = C*L */
    int64_t rows;      /* of the residual stream on this rank: M / tp */
    int64_t ep_passes; /* with ep: parts of the M tokens that go through the experts one by one, >= 1 */
    const int32_t
        *doc_start; /* [M] position in the sequence of the first token of the token's document, or NULL */
    const int32_t *doc_local; /* [M] the same counted from the chunk's first token: negative where the
                                 document began before it. doc_start itself without cp */
    int64_t pos0;             /* position of the first token (decoding) */
    bool training;
    bool recomputing;         /* the forward pass of a block is run again: statistics are not */
    weft_block_cache *caches; /* one a block, or NULL */
    const weft_watch *watch;  /* NULL: nobody looks */
    /* Router statistics of the MoE blocks, in order: counts [L,k,X], prob_sum [L,X], lse2 [L]; of this rank's
     * rows until the model sums them over cp x tp. */
    int64_t *moe_counts;
    weft_real *moe_prob_sum, *moe_lse2;
    int64_t
        *host_counts; /* pinned [ep,X+1], where device memory is not the host's: what it waits for with ep */
    weft_mark *host_mark;
    weft_real *moe_dprob; /* [X] gradient of the load-balance loss by every row of p */
    weft_real moe_dlse2;  /* coefficient of the z-loss */
};

struct weft_block {
    const weft_block_kind *kind;
    const weft_model_config *config;
    const weft_params *table; /* knows the mesh */
    char name[48];            /* "layers.3.mamba": for the ledger */
    int64_t layer, index;     /* layer number; number among all blocks */
    int64_t moe_index;        /* number among the MoE blocks */
    bool recompute;
    int64_t norm;    /* row of the norm's weight */
    int64_t row[16]; /* rows of the parameters, by the kind's own enum */
    void *saved[16]; /* buffers on the arena between forward and backward, by the kind's own enum */
    int64_t
        *host_rows; /* experts over several ranks: rows sent and received [2,ep] of the last pass; owned */
    /* of the model: this rank's rows of the residual stream before the block, of it normalised, and of the
     * block's output (activation loss) */
    weft_act *h, *y, *delta;
    weft_real *rstd;
    size_t mark; /* the arena's top before the block's first buffer */
};

/* This rank's slice of row i, of a `full` row in weft_real; and its gradient (NULL in a forward-only pass).
 */
static inline const weft_act *weft_weight(const weft_block *b, const weft_pass *s, int i) {
    return weft_params_weights(b->table, s->store, b->row[i]);
}
static inline const weft_real *weft_weight_real(const weft_block *b, const weft_pass *s, int i) {
    return weft_weight(b, s, i);
}
static inline weft_real *weft_grad(const weft_block *b, const weft_pass *s, int i) {
    return weft_params_grads(b->table, s->store, b->row[i]);
}
/* Size of a mesh axis, and this rank's place on it. */
static inline int weft_axis_size(const weft_pass *s, weft_axis a) {
    return s->comm->mesh.size[a];
}
static inline int weft_axis_index(const weft_pass *s, weft_axis a) {
    return s->comm->mesh.index[a];
}
/* What the ledger calls one of a block's moves: weft_label(b, "x_proj").text is "layers.3.mamba.x_proj". */
typedef struct weft_name {
    char text[64];
} weft_name;
static inline weft_name weft_label(const weft_block *b, const char *suffix) {
    weft_name name;
    snprintf(name.text, sizeof name.text, "%s.%s", b->name, suffix);
    return name;
}
/* Position in its sequence of the first token of chunk slot c. */
static inline int64_t weft_chunk_start(const weft_pass *s, int64_t c) {
    return weft_chunk_of(weft_axis_size(s, WEFT_AXIS_CP), weft_axis_index(s, WEFT_AXIS_CP), (int)c) * s->L;
}

static inline void weft_watch_inside(const weft_block *b, const weft_pass *s, const char *name,
                                     const weft_act *x, int64_t ld, int64_t rows, int64_t width) {
    if (s->watch && s->watch->inside && !s->dev->dry && !s->recomputing)
        s->watch->inside(s->watch->of, b, name, x, ld, 0, rows, width);
}

static inline weft_act *weft_push_act(const weft_pass *s, int64_t n) {
    return weft_arena_push(&s->dev->act, (size_t)n * weft_dtype_size(s->dev->act_dtype));
}
static inline weft_real *weft_push_real(const weft_pass *s, int64_t n) {
    return weft_arena_push(&s->dev->act, (size_t)n * sizeof(weft_real));
}
static inline weft_act *weft_at(const weft_pass *s, weft_act *p, int64_t n) {
    return weft_act_at(p, s->dev->act_dtype, n);
}
static inline const weft_act *weft_cat(const weft_pass *s, const weft_act *p, int64_t n) {
    return weft_act_cat(p, s->dev->act_dtype, n);
}

/* Builds a row; the Hugging Face tensor is "model." + name + ".weight" unless told otherwise afterwards. */
weft_param weft_param_make(const char *name, int ndim, const int64_t *shape, weft_init init, double scale);
/* The common case: a matrix [rows, cols] split over tp along `dim`. */
weft_param weft_param_matrix(int64_t layer, const char *name, int64_t rows, int64_t cols, int split_dim,
                             double scale);
weft_param weft_param_vector(int64_t layer, const char *name, int64_t n, weft_init init);
/* Makes the row `part` of a Hugging Face tensor of `rows` rows in all, starting at `row`. */
void weft_param_hf_part(weft_param *p, const char *hf_name, int64_t row, int64_t rows);
/* Standard deviation of projections that write into the residual stream: init_range / sqrt(2 * layers). */
double weft_residual_scale(const weft_model_config *c);

#endif
