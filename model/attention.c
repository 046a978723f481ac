/* Grouped-query causal attention (arXiv 2305.13245), no bias; no positions, or RoPE.
 *   q|k|v = x W_qkv^T;  o = attention(q, k, v);  out = o W_o^T
 * Split over tp: by heads. */
#include "model/block.h"

#include <math.h>
#include <stdio.h>

enum { ROW_Q, ROW_K, ROW_V, ROW_O };
enum { SAVED_QKV, SAVED_O, SAVED_LSE };

typedef struct dims {
    int64_t D, H, G, d, Q, KV, W; /* Q = H*d, KV = G*d, W = Q + 2*KV */
} dims;

static dims dims_of(const weft_block *b) {
    const weft_model_config *c = b->config;
    dims n = {
        .D = c->hidden_size, .H = c->num_attention_heads, .G = c->num_key_value_heads, .d = weft_head_dim(c)};
    n.Q = n.H * n.d;
    n.KV = n.G * n.d;
    n.W = n.Q + 2 * n.KV;
    return n;
}

static void declare(weft_block *b, const weft_model_config *c, weft_params *p) {
    dims n = dims_of(b);
    double range = c->initializer_range;
    static const char *const gguf[] = {"attn_q", "attn_k", "attn_v", "attn_output"};
    weft_param rows[] = {
        weft_param_matrix(b->layer, "self_attn.q_proj", n.Q, n.D, 0, range),
        weft_param_matrix(b->layer, "self_attn.k_proj", n.KV, n.D, 0, range),
        weft_param_matrix(b->layer, "self_attn.v_proj", n.KV, n.D, 0, range),
        weft_param_matrix(b->layer, "self_attn.o_proj", n.D, n.Q, 1, weft_residual_scale(c)),
    };
    for (int i = 0; i < 4; i++) {
        snprintf(rows[i].gguf_name, sizeof rows[i].gguf_name, "blk.%lld.%s.weight", (long long)b->layer,
                 gguf[i]);
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
    ops->rope(s->dev, qkv, n.W, s->B, s->T, n.H + n.G, n.d, theta, s->pos0, NULL, inverse);
}

static weft_attention problem(weft_block *b, weft_pass *s, const weft_act *qkv) {
    dims n = dims_of(b);
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
                            .doc_start = s->doc_start};
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

static void forward(weft_block *b, weft_pass *s, weft_act *out, const weft_act *x) {
    dims n = dims_of(b);
    const weft_ops *ops = s->dev->ops;
    size_t mark = weft_arena_mark(&s->dev->act);
    weft_act *qkv = b->saved[SAVED_QKV] = weft_push_act(s, s->M * n.W);
    weft_act *o = b->saved[SAVED_O] = weft_push_act(s, s->M * n.Q);
    weft_real *lse = b->saved[SAVED_LSE] = weft_push_real(s, s->M * n.H);
    ops->linear_fwd(s->dev, qkv, n.W, x, n.D, weft_weight(b, s, ROW_Q), NULL, s->M, n.W, n.D, false);
    rope(b, s, qkv, false);
    weft_attention a = problem(b, s, qkv);
    a.o = o;
    a.lse = lse;
    if (s->caches) use_cache(b, s, &a);
    ops->attention_fwd(s->dev, &a);
    if (out) ops->linear_fwd(s->dev, out, n.D, o, n.Q, weft_weight(b, s, ROW_O), NULL, s->M, n.D, n.Q, false);
    if (!s->training) weft_arena_release(&s->dev->act, mark);
}

static void backward(weft_block *b, weft_pass *s, weft_act *dx, const weft_act *dout, const weft_act *x) {
    dims n = dims_of(b);
    const weft_ops *ops = s->dev->ops;
    size_t mark = weft_arena_mark(&s->dev->act);
    weft_act *d_o = weft_push_act(s, s->M * n.Q), *dqkv = weft_push_act(s, s->M * n.W);
    ops->linear_dgrad(s->dev, d_o, n.Q, dout, n.D, weft_weight(b, s, ROW_O), s->M, n.D, n.Q, false);
    ops->linear_wgrad(s->dev, weft_grad(b, s, ROW_O), NULL, dout, n.D, b->saved[SAVED_O], n.Q, s->M, n.D,
                      n.Q);
    weft_attention a = problem(b, s, b->saved[SAVED_QKV]);
    a.o = b->saved[SAVED_O];
    a.lse = b->saved[SAVED_LSE];
    a.dout = d_o;
    a.dq = dqkv;
    a.dk = weft_at(s, dqkv, n.Q);
    a.dv = weft_at(s, dqkv, n.Q + n.KV);
    ops->attention_bwd(s->dev, &a);
    rope(b, s, dqkv, true);
    ops->linear_wgrad(s->dev, weft_grad(b, s, ROW_Q), NULL, dqkv, n.W, x, n.D, s->M, n.W, n.D);
    ops->linear_dgrad(s->dev, dx, n.D, dqkv, n.W, weft_weight(b, s, ROW_Q), s->M, n.W, n.D, false);
    weft_arena_release(&s->dev->act, mark);
}

static void cache(const weft_block *b, weft_block_cache *out, weft_arena *a, int64_t capacity,
                  weft_dtype act) {
    dims n = dims_of(b);
    out->k = weft_arena_push(a, (size_t)(capacity * n.KV) * weft_dtype_size(act));
    out->v = weft_arena_push(a, (size_t)(capacity * n.KV) * weft_dtype_size(act));
}

static double flops(const weft_block *b, int64_t T) {
    dims n = dims_of(b);
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
