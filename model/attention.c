/* Grouped-query causal attention (arXiv 2305.13245), no bias; no positions, or RoPE.
 *   q|k|v = x W_qkv^T;  o = attention(q, k, v);  out = o W_o^T
 *
 * Split over tp by heads: a rank has H/tp query heads and the key/value heads that they read. With more ranks
 * than key/value heads, neighbours hold copies of one, and each has a part of its weights' gradient.
 *
 * Split over cp by tokens: queries stay, keys and values are gathered head by head in the order of the
 * sequence, and each chunk of queries attends to the keys up to its own end. Nothing gathered is kept for the
 * backward pass. */
#include "model/block.h"

#include <math.h>
#include <stdio.h>

enum { ROW_Q, ROW_K, ROW_V, ROW_O };
enum { SAVED_QKV, SAVED_O, SAVED_LSE };

typedef struct dims {
    int64_t D, H, G, d, Q, KV, W; /* Q = H*d, KV = G*d, W = Q + 2*KV */
} dims;

static dims dims_with(const weft_model_config *c, int64_t H, int64_t G) {
    dims n = {.D = c->hidden_size, .H = H, .G = G, .d = weft_head_dim(c)};
    n.Q = n.H * n.d;
    n.KV = n.G * n.d;
    n.W = n.Q + 2 * n.KV;
    return n;
}

static dims dims_of_model(const weft_block *b) {
    return dims_with(b->config, b->config->num_attention_heads, b->config->num_key_value_heads);
}

/* Of this rank's slice. */
static dims dims_of(const weft_block *b) {
    const weft_param *rows = b->table->rows;
    int64_t d = weft_head_dim(b->config);
    return dims_with(b->config, rows[b->row[ROW_Q]].extent[0] / d, rows[b->row[ROW_K]].extent[0] / d);
}

static void declare(weft_block *b, const weft_model_config *c, weft_params *p) {
    dims n = dims_of_model(b);
    double range = c->initializer_range;
    static const char *const gguf[] = {"attn_q", "attn_k", "attn_v", "attn_output"};
    const int64_t units[] = {n.H, n.G, n.G, n.H};
    weft_param rows[] = {
        weft_param_matrix(b->layer, "self_attn.q_proj", n.Q, n.D, 0, range),
        weft_param_matrix(b->layer, "self_attn.k_proj", n.KV, n.D, 0, range),
        weft_param_matrix(b->layer, "self_attn.v_proj", n.KV, n.D, 0, range),
        weft_param_matrix(b->layer, "self_attn.o_proj", n.D, n.Q, 1, weft_residual_scale(c)),
    };
    for (int i = 0; i < 4; i++) {
        snprintf(rows[i].gguf_name, sizeof rows[i].gguf_name, "blk.%lld.%s.weight", (long long)b->layer,
                 gguf[i]);
        rows[i].split_units = units[i];
        b->row[i] = weft_params_add(p, &rows[i], i == ROW_K || i == ROW_V); /* q, k, v: one matrix [W, D] */
    }
}

static void rope(weft_block *b, weft_pass *s, weft_act *qkv, bool inverse) {
    dims n = dims_of(b);
    weft_real theta = (weft_real)b->config->rope_theta;
    const weft_ops *ops = s->dev->ops;
    if (b->config->positions != WEFT_POS_ROPE) return;
    /* Attention sees differences of positions within a document only: counting from the sequence's start will
     * do. */
    if (s->C == 1) {
        ops->rope(s->dev, qkv, n.W, s->B, s->T, n.H + n.G, n.d, theta, s->pos0, NULL, inverse);
        return;
    }
    for (int64_t i = 0; i < s->B * s->C; i++)
        ops->rope(s->dev, weft_at(s, qkv, i * s->L * n.W), n.W, 1, s->L, n.H + n.G, n.d, theta,
                  weft_chunk_start(s, i % s->C), NULL, inverse);
}

/* ---- every key is on this rank ------------------------------------------------------------------ */

static weft_attention problem(weft_block *b, weft_pass *s) {
    dims n = dims_of(b);
    const weft_act *qkv = b->saved[SAVED_QKV];
    return (weft_attention){.B = s->B,
                            .Tq = s->T,
                            .Tk = s->T,
                            .H = n.H,
                            .G = n.G,
                            .d = n.d,
                            .ldq = n.W,
                            .ldk = n.W,
                            .ldv = n.W,
                            .ldo = n.Q,
                            .scale = (weft_real)(1 / sqrt((double)n.d)),
                            .q = qkv,
                            .k = weft_cat(s, qkv, n.Q),
                            .v = weft_cat(s, qkv, n.Q + n.KV),
                            .doc_start = s->doc_start,
                            .o = b->saved[SAVED_O],
                            .lse = b->saved[SAVED_LSE]};
}

/* Decoding: the new rows of k and v go behind those of earlier tokens, and all are attended to. */
static void use_cache(weft_block *b, weft_pass *s, weft_attention *a) {
    dims n = dims_of(b);
    weft_block_cache *cache = &s->caches[b->index];
    const weft_ops *ops = s->dev->ops;
    ops->copy_rows(s->dev, weft_at(s, cache->k, s->pos0 * n.KV), n.KV, a->k, n.W, s->T, n.KV);
    ops->copy_rows(s->dev, weft_at(s, cache->v, s->pos0 * n.KV), n.KV, a->v, n.W, s->T, n.KV);
    a->k = cache->k;
    a->v = cache->v;
    a->ldk = a->ldv = n.KV;
    a->Tk = s->pos0 + s->T;
    a->q_pos0 = s->pos0;
}

static void attend(weft_block *b, weft_pass *s) {
    weft_attention a = problem(b, s);
    if (s->caches) use_cache(b, s, &a);
    s->dev->ops->attention_fwd(s->dev, &a);
}

static void attend_backward(weft_block *b, weft_pass *s, weft_act *dqkv, const weft_act *d_o) {
    dims n = dims_of(b);
    weft_attention a = problem(b, s);
    a.dout = d_o;
    a.dq = dqkv;
    a.dk = weft_at(s, dqkv, n.Q);
    a.dv = weft_at(s, dqkv, n.Q + n.KV);
    s->dev->ops->attention_bwd(s->dev, &a);
}

/* ---- the keys are spread over cp ---------------------------------------------------------------- */

/* Tokens of a whole sequence. */
static int64_t sequence(const weft_pass *s) {
    return weft_axis_size(s, WEFT_AXIS_CP) * s->T;
}

/* The columns of key/value head g in q|k|v, to and from k|v [M,2d]. */
static void pack_head(weft_pass *s, dims n, weft_act *kv, const weft_act *qkv, int64_t g) {
    const weft_ops *ops = s->dev->ops;
    const weft_act *k = weft_cat(s, qkv, n.Q + g * n.d), *v = weft_cat(s, k, n.KV);
    ops->copy_rows(s->dev, kv, 2 * n.d, k, n.W, s->M, n.d);
    ops->copy_rows(s->dev, weft_at(s, kv, n.d), 2 * n.d, v, n.W, s->M, n.d);
}
static void unpack_head(weft_pass *s, dims n, weft_act *qkv, const weft_act *kv, int64_t g) {
    const weft_ops *ops = s->dev->ops;
    weft_act *k = weft_at(s, qkv, n.Q + g * n.d), *v = weft_at(s, k, n.KV);
    ops->copy_rows(s->dev, k, n.W, kv, 2 * n.d, s->M, n.d);
    ops->copy_rows(s->dev, v, n.W, weft_cat(s, kv, n.d), 2 * n.d, s->M, n.d);
}

/* all[B, sequence, 2d] = k|v of head g. `local` [M,2d] is workspace. */
static void gather_head(weft_block *b, weft_pass *s, weft_act *all, weft_act *local, int64_t g) {
    dims n = dims_of(b);
    pack_head(s, n, local, b->saved[SAVED_QKV], g);
    weft_gather_sequence(s->comm, s->dev, weft_label(b, "kv").text, all, local, 2 * n.d, s->B, s->L, 2 * n.d);
}

/* The queries of chunk slot c of sequence i that read key/value head g: position and row of the first, how
 * many heads, and where they start in arrays like q|k|v and like o. */
typedef struct chunk {
    int64_t start, row, heads, in_qkv, in_o;
} chunk;

static chunk chunk_at(const weft_pass *s, dims n, int64_t g, int64_t i, int64_t c) {
    chunk q = {.start = weft_chunk_start(s, c), .row = (i * s->C + c) * s->L, .heads = n.H / n.G};
    q.in_qkv = q.row * n.W + g * q.heads * n.d;
    q.in_o = q.row * n.Q + g * q.heads * n.d;
    return q;
}

/* These queries against the sequence's k|v [sequence, 2d] of head g. lse is kept densely: [G][B][C][L, H/G].
 */
static weft_attention chunk_problem(weft_block *b, weft_pass *s, chunk q, const weft_act *kv, int64_t g) {
    dims n = dims_of(b);
    weft_attention a = problem(b, s);
    a.B = a.G = 1;
    a.H = q.heads;
    a.Tq = s->L;
    a.Tk = q.start + s->L;
    a.q_pos0 = q.start;
    a.ldk = a.ldv = 2 * n.d;
    a.q = weft_cat(s, a.q, q.in_qkv);
    a.k = kv;
    a.v = weft_cat(s, kv, n.d);
    a.o = weft_at(s, a.o, q.in_o);
    a.lse += (g * s->M + q.row) * q.heads;
    if (a.doc_start) a.doc_start += q.row;
    return a;
}

static void attend_in_chunks(weft_block *b, weft_pass *s) {
    dims n = dims_of(b);
    int64_t length = sequence(s);
    size_t mark = weft_arena_mark(&s->dev->act);
    weft_act *all = weft_push_act(s, s->B * length * 2 * n.d), *local = weft_push_act(s, s->M * 2 * n.d);
    for (int64_t g = 0; g < n.G; g++) {
        gather_head(b, s, all, local, g);
        for (int64_t i = 0; i < s->B; i++)
            for (int64_t c = 0; c < s->C; c++) {
                const weft_act *kv = weft_cat(s, all, i * length * 2 * n.d);
                weft_attention a = chunk_problem(b, s, chunk_at(s, n, g, i, c), kv, g);
                s->dev->ops->attention_fwd(s->dev, &a);
            }
    }
    weft_arena_release(&s->dev->act, mark);
}

/* Of chunk q: dq, and the gradient of the k|v that it sees, assigned to dkv. Returns how many elements those
 * are. */
static int64_t chunk_backward(weft_block *b, weft_pass *s, chunk q, weft_act *dqkv, const weft_act *d_o,
                              const weft_act *kv, weft_act *dkv, int64_t g) {
    weft_attention a = chunk_problem(b, s, q, kv, g);
    a.dout = weft_cat(s, d_o, q.in_o);
    a.dq = weft_at(s, dqkv, q.in_qkv);
    a.dk = dkv;
    a.dv = weft_at(s, dkv, a.d);
    s->dev->ops->attention_bwd(s->dev, &a);
    return a.Tk * a.ldk;
}

/* The later chunk sees more: its gradient of k|v is assigned, with zeros behind, and the earlier one's added.
 * That one lies in the first half of the sequence, and so does all that it sees. */
static void attend_in_chunks_backward(weft_block *b, weft_pass *s, weft_act *dqkv, const weft_act *d_o) {
    dims n = dims_of(b);
    const weft_ops *ops = s->dev->ops;
    int64_t size = sequence(s) * 2 * n.d; /* of k|v of one head and sequence */
    size_t mark = weft_arena_mark(&s->dev->act);
    weft_act *all = weft_push_act(s, s->B * size), *dall = weft_push_act(s, s->B * size);
    weft_act *local = weft_push_act(s, s->M * 2 * n.d), *earlier = weft_push_act(s, size / 2);
    for (int64_t g = 0; g < n.G; g++) {
        gather_head(b, s, all, local, g);
        for (int64_t i = 0; i < s->B; i++) {
            const weft_act *kv = weft_cat(s, all, i * size);
            weft_act *dkv = weft_at(s, dall, i * size);
            int64_t seen = chunk_backward(b, s, chunk_at(s, n, g, i, 1), dqkv, d_o, kv, dkv, g);
            ops->zero(s->dev, weft_at(s, dkv, seen),
                      (size_t)(size - seen) * weft_dtype_size(s->dev->act_dtype));
            seen = chunk_backward(b, s, chunk_at(s, n, g, i, 0), dqkv, d_o, kv, earlier, g);
            ops->add(s->dev, dkv, dkv, earlier, seen);
        }
        weft_scatter_sequence(s->comm, s->dev, weft_label(b, "dkv").text, local, 2 * n.d, dall, s->B, s->L,
                              2 * n.d);
        unpack_head(s, n, dqkv, local, g);
    }
    weft_arena_release(&s->dev->act, mark);
}

/* ---- the block ---------------------------------------------------------------------------------- */

static void project_qkv(weft_block *b, weft_pass *s, const weft_act *x) {
    dims n = dims_of(b);
    size_t mark = weft_arena_mark(&s->dev->act);
    x = weft_gather_tokens(s->comm, s->dev, weft_label(b, "x").text, x, s->rows, n.D);
    s->dev->ops->linear_fwd(s->dev, b->saved[SAVED_QKV], n.W, x, n.D, weft_weight(b, s, ROW_Q), NULL, s->M,
                            n.W, n.D, false);
    weft_arena_release(&s->dev->act, mark);
}

static void project_out(weft_block *b, weft_pass *s, weft_act *out) {
    dims n = dims_of(b);
    size_t mark = weft_arena_mark(&s->dev->act);
    weft_act *all = weft_partial_rows(s->comm, s->dev, out, s->rows, n.D);
    s->dev->ops->linear_fwd(s->dev, all, n.D, b->saved[SAVED_O], n.Q, weft_weight(b, s, ROW_O), NULL, s->M,
                            n.D, n.Q, false);
    weft_scatter_tokens(s->comm, s->dev, weft_label(b, "out").text, out, all, s->rows, n.D);
    weft_arena_release(&s->dev->act, mark);
}

static void forward(weft_block *b, weft_pass *s, weft_act *out, const weft_act *x) {
    dims n = dims_of(b);
    size_t mark = weft_arena_mark(&s->dev->act);
    weft_act *qkv = b->saved[SAVED_QKV] = weft_push_act(s, s->M * n.W);
    b->saved[SAVED_O] = weft_push_act(s, s->M * n.Q);
    b->saved[SAVED_LSE] = weft_push_real(s, s->M * n.H);
    project_qkv(b, s, x);
    rope(b, s, qkv, false);
    weft_watch_inside(b, s, "qkv", qkv, n.W, s->M, n.W);
    if (s->C == 1)
        attend(b, s);
    else
        attend_in_chunks(b, s);
    if (out) project_out(b, s, out);
    if (!s->training) weft_arena_release(&s->dev->act, mark);
}

/* Of W_o; d_o [M,Q] assigned. */
static void project_out_backward(weft_block *b, weft_pass *s, weft_act *d_o, const weft_act *dout) {
    dims n = dims_of(b);
    const weft_ops *ops = s->dev->ops;
    size_t mark = weft_arena_mark(&s->dev->act);
    dout = weft_gather_tokens(s->comm, s->dev, weft_label(b, "dout").text, dout, s->rows, n.D);
    ops->linear_dgrad(s->dev, d_o, n.Q, dout, n.D, weft_weight(b, s, ROW_O), s->M, n.D, n.Q, false);
    ops->linear_wgrad(s->dev, weft_grad(b, s, ROW_O), NULL, dout, n.D, b->saved[SAVED_O], n.Q, s->M, n.D,
                      n.Q);
    weft_arena_release(&s->dev->act, mark);
}

/* The gradient of W_k|W_v where other ranks hold copies: each has the part of its own query heads. */
static void shared_kv_gradient(weft_block *b, weft_pass *s, const weft_act *dqkv, const weft_act *x) {
    dims n = dims_of(b);
    const weft_ops *ops = s->dev->ops;
    int64_t size = 2 * n.KV * n.D;
    size_t mark = weft_arena_mark(&s->dev->act);
    weft_real *sum = weft_push_real(s, size);
    ops->zero(s->dev, sum, (size_t)size * sizeof *sum);
    ops->linear_wgrad(s->dev, sum, NULL, weft_cat(s, dqkv, n.Q), n.W, x, n.D, s->M, 2 * n.KV, n.D);
    weft_all_reduce(s->comm, WEFT_GROUP_KV, weft_label(b, "kv_proj").text, WEFT_REAL_DTYPE, sum, size,
                    &s->dev->act);
    ops->add_real(s->dev, weft_grad(b, s, ROW_K), sum, size);
    weft_arena_release(&s->dev->act, mark);
}

static void project_qkv_backward(weft_block *b, weft_pass *s, weft_act *dx, const weft_act *dqkv,
                                 const weft_act *x) {
    dims n = dims_of(b);
    const weft_ops *ops = s->dev->ops;
    bool shared = b->table->rows[b->row[ROW_K]].copies > 1;
    size_t mark = weft_arena_mark(&s->dev->act);
    x = weft_gather_tokens(s->comm, s->dev, weft_label(b, "x").text, x, s->rows, n.D);
    ops->linear_wgrad(s->dev, weft_grad(b, s, ROW_Q), NULL, dqkv, n.W, x, n.D, s->M, shared ? n.Q : n.W, n.D);
    if (shared) shared_kv_gradient(b, s, dqkv, x);
    weft_arena_release(&s->dev->act, mark);
    weft_act *all = weft_partial_rows(s->comm, s->dev, dx, s->rows, n.D);
    ops->linear_dgrad(s->dev, all, n.D, dqkv, n.W, weft_weight(b, s, ROW_Q), s->M, n.W, n.D, false);
    weft_scatter_tokens(s->comm, s->dev, weft_label(b, "dx").text, dx, all, s->rows, n.D);
    weft_arena_release(&s->dev->act, mark);
}

static void backward(weft_block *b, weft_pass *s, weft_act *dx, const weft_act *dout, const weft_act *x) {
    dims n = dims_of(b);
    size_t mark = weft_arena_mark(&s->dev->act);
    weft_act *d_o = weft_push_act(s, s->M * n.Q), *dqkv = weft_push_act(s, s->M * n.W);
    project_out_backward(b, s, d_o, dout);
    if (s->C == 1)
        attend_backward(b, s, dqkv, d_o);
    else
        attend_in_chunks_backward(b, s, dqkv, d_o);
    rope(b, s, dqkv, true);
    project_qkv_backward(b, s, dx, dqkv, x);
    weft_arena_release(&s->dev->act, mark);
}

static void cache(const weft_block *b, weft_block_cache *out, weft_arena *a, int64_t capacity,
                  weft_dtype act) {
    dims n = dims_of(b);
    out->k = weft_arena_push(a, (size_t)(capacity * n.KV) * weft_dtype_size(act));
    out->v = weft_arena_push(a, (size_t)(capacity * n.KV) * weft_dtype_size(act));
}

static double flops(const weft_block *b, int64_t T) {
    dims n = dims_of_model(b);
    double projections = 2.0 * (double)(n.W * n.D + n.Q * n.D);
    double scores = 2.0 * 2.0 * (double)n.Q * (double)(T + 1) / 2; /* QK^T and PV over the causal half */
    return projections + scores;
}

const weft_block_kind weft_block_attention = {.name = "attention",
                                              .norm = "input_layernorm",
                                              .declare = declare,
                                              .forward = forward,
                                              .backward = backward,
                                              .cache = cache,
                                              .flops = flops};
