#include "model/model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Is `layer` in "0-3,8"? The configuration has checked the syntax. */
static bool in_ranges(const char *ranges, int64_t layer) {
    if (!*ranges) return true;
    for (const char *p = ranges; *p;) {
        char *end;
        long long first = strtoll(p, &end, 10), last = first;
        if (*end == '-') last = strtoll(end + 1, &end, 10);
        if (layer >= first && layer <= last) return true;
        p = *end == ',' ? end + 1 : end;
        if (*end != ',' && *end) return false;
    }
    return false;
}

static void add_block(weft_model *m, const weft_block_kind *kind, int64_t layer, bool recompute) {
    weft_block *b = &m->blocks[m->block_count];
    *b = (weft_block){.kind = kind,
                      .config = &m->config,
                      .table = &m->table,
                      .layer = layer,
                      .index = m->block_count,
                      .moe_index = kind == &weft_block_moe ? m->moe_count++ : -1,
                      .recompute = recompute};
    snprintf(b->name, sizeof b->name, "layers.%lld.%s", (long long)layer, kind->name);
    weft_param norm = weft_param_vector(layer, kind->norm, m->config.hidden_size, WEFT_INIT_ONES);
    bool mixer = strcmp(kind->norm, "input_layernorm") == 0;
    snprintf(norm.gguf_name, sizeof norm.gguf_name, "blk.%lld.%s.weight", (long long)layer,
             mixer ? "attn_norm" : "ffn_norm");
    b->norm = weft_params_add(&m->table, &norm, false);
    kind->declare(b, &m->config, &m->table);
    m->block_count++;
}

weft_status weft_model_build(weft_model *m, const weft_model_config *c, weft_recompute recompute,
                             const char *layers, int64_t ep_passes, weft_dtype act, weft_comm *comm) {
    int64_t shape[] = {c->vocab_size, c->hidden_size};
    *m = (weft_model){.config = *c, .comm = comm, .units = (int)c->num_hidden_layers + 2};
    weft_comm_single(&m->alone);
    if (!comm) m->comm = &m->alone;
    m->ep_passes = ep_passes ? ep_passes : m->comm->mesh.size[WEFT_AXIS_EP];
    m->table.mesh = m->comm->mesh;
    m->table.act = act;
    m->table.layers = c->num_hidden_layers;
    m->table.experts = c->num_experts;
    m->blocks = calloc((size_t)(2 * c->num_hidden_layers), sizeof *m->blocks);
    if (!m->blocks) WEFT_FAIL(WEFT_ENOMEM, "no memory for %lld layers", (long long)c->num_hidden_layers);

    weft_param embed = weft_param_make("embed_tokens", 2, shape, WEFT_INIT_NORMAL, c->initializer_range);
    embed.split = WEFT_SHARD, embed.split_dim = 0;
    snprintf(embed.gguf_name, sizeof embed.gguf_name, "token_embd.weight");
    m->embed = m->head = weft_params_add(&m->table, &embed, false);
    for (int64_t l = 0; l < c->num_hidden_layers; l++) {
        bool chosen = recompute != WEFT_RECOMPUTE_NONE && in_ranges(layers, l);
        bool mixer = chosen && recompute != WEFT_RECOMPUTE_FFN,
             ffn = chosen && recompute != WEFT_RECOMPUTE_MIXER;
        if (c->mixer[l] == WEFT_MIXER_ATTENTION) add_block(m, &weft_block_attention, l, mixer);
        if (c->mixer[l] == WEFT_MIXER_MAMBA) add_block(m, &weft_block_mamba, l, mixer);
        if (c->ffn[l] == WEFT_FFN_DENSE) add_block(m, &weft_block_mlp, l, ffn);
        if (c->ffn[l] == WEFT_FFN_MOE) add_block(m, &weft_block_moe, l, ffn);
    }
    weft_param norm = weft_param_make("final_layernorm", 1, &shape[1], WEFT_INIT_ONES, 0);
    snprintf(norm.gguf_name, sizeof norm.gguf_name, "output_norm.weight");
    m->final_norm = weft_params_add(&m->table, &norm, false);
    if (!c->tie_word_embeddings) {
        weft_param head = weft_param_make("lm_head", 2, shape, WEFT_INIT_NORMAL, c->initializer_range);
        head.split = WEFT_SHARD, head.split_dim = 0;
        snprintf(head.hf_name, sizeof head.hf_name, "lm_head.weight");
        snprintf(head.gguf_name, sizeof head.gguf_name, "output.weight");
        m->head = weft_params_add(&m->table, &head, false);
    } else {
        m->table.buckets[m->table.rows[m->embed].bucket].late_grads = true;
    }
    weft_params_place(&m->table);
    weft_status st = weft_store_open_whole(&m->whole, m->table.buckets, m->table.bucket_count);
    if (st != WEFT_OK) weft_model_free(m);
    return st;
}

weft_store *weft_model_whole(weft_model *m, const weft_real *params, weft_real *grads) {
    weft_store_set_whole(m->whole, params, grads);
    return m->whole;
}

void weft_model_free(weft_model *m) {
    weft_store_close(m->whole);
    for (int64_t i = 0; i < m->block_count; i++) free(m->blocks[i].host_rows);
    free(m->blocks);
    weft_params_free(&m->table);
    *m = (weft_model){0};
}

weft_status weft_model_counts(weft_model *m, weft_device *d) {
    int ep = m->comm->mesh.size[WEFT_AXIS_EP];
    void *counts;
    if (weft_device_on_host(d) || ep == 1 || !m->moe_count) return WEFT_OK;
    WEFT_TRY(
        weft_host_memory(d, (size_t)(ep * (m->config.num_experts + 1)) * sizeof *m->host_counts, &counts));
    m->host_counts = counts;
    return weft_mark_make(d, &m->host_mark);
}
void weft_model_counts_free(weft_model *m, weft_device *d) {
    weft_host_memory_free(d, m->host_counts);
    weft_mark_free(d, &m->host_mark);
    m->host_counts = NULL;
}

static const weft_act *row_of(const weft_model *m, const weft_pass *s, int64_t row) {
    return weft_params_weights(&m->table, s->store, row);
}
static weft_real *grad_row(const weft_model *m, const weft_pass *s, int64_t row) {
    return weft_params_grads(&m->table, s->store, row);
}

static void watch(const weft_model *m, const weft_pass *s, const char *name, const weft_act *x) {
    if (m->watch.see && !s->dev->dry) m->watch.see(m->watch.of, name, x, s->rows, m->config.hidden_size);
}

/* ---- units of the store: 0 the embedding, l+1 layer l, the last the head (the embedding again when tied),
 * in this order in forward and the other way in backward. */

static int head_unit(const weft_model *m) {
    return m->head == m->embed ? 0 : m->units - 1;
}
static int unit_at(const weft_model *m, int at) {
    return at == m->units - 1 ? head_unit(m) : at;
}
/* Enters the unit at position `at`; `step` is 1 in forward and -1 in backward, 0 when nothing follows. */
static void enter(weft_model *m, weft_pass *s, int at, int step) {
    int next = at + step;
    /* On the way back the embedding is not read again, only added to. */
    bool more = step > 0 ? next < m->units : step < 0 && next > 0;
    weft_store_enter(s->store, unit_at(m, at), at, more ? unit_at(m, next) : -1, next);
}
static bool first_of_layer(const weft_model *m, int64_t i) {
    return i == 0 || m->blocks[i].layer != m->blocks[i - 1].layer;
}
static bool last_of_layer(const weft_model *m, int64_t i) {
    return i == m->block_count - 1 || m->blocks[i].layer != m->blocks[i + 1].layer;
}

/* The residual stream behind the last block, normalised. */
typedef struct trunk {
    weft_act *h, *y;
    weft_real *rstd;
    weft_act *delta;
    size_t mark; /* the arena's top behind the blocks */
} trunk;

static void norm_block(weft_model *m, weft_pass *s, weft_block *b, const weft_act *x, const weft_act *delta) {
    int64_t D = m->config.hidden_size;
    s->dev->ops->rmsnorm_fwd(s->dev, b->y, D, b->rstd, b->h, x, D, delta, row_of(m, s, b->norm),
                             (weft_real)m->config.rms_norm_eps, s->rows, D);
}

/* x [rows, D]: each tp rank looks up the words that it holds, the sum over tp is the embedding. */
static void embed(weft_model *m, weft_pass *s, weft_act *x, const int32_t *ids) {
    const weft_param *table = &m->table.rows[m->embed];
    int64_t D = m->config.hidden_size;
    size_t mark = weft_arena_mark(&s->dev->act);
    weft_act *all = weft_partial_rows(s->comm, s->dev, x, s->rows, D);
    s->dev->ops->embedding_fwd(s->dev, all, row_of(m, s, m->embed), ids, s->M, D, table->start[0],
                               table->extent[0]);
    weft_scatter_tokens(s->comm, s->dev, "embed_tokens", x, all, s->rows, D);
    weft_arena_release(&s->dev->act, mark);
}

static void embed_backward(weft_model *m, weft_pass *s, const weft_act *dx, const int32_t *ids) {
    const weft_param *table = &m->table.rows[m->embed];
    int64_t D = m->config.hidden_size;
    size_t mark = weft_arena_mark(&s->dev->act);
    const weft_act *all = weft_gather_tokens(s->comm, s->dev, "embed_tokens", dx, s->rows, D);
    s->dev->ops->embedding_bwd(s->dev, grad_row(m, s, m->embed), all, ids, s->M, D, table->start[0],
                               table->extent[0]);
    weft_arena_release(&s->dev->act, mark);
}

/* Embedding and blocks. In training every block leaves h, rstd and what it saves on the arena; otherwise two
 * buffers take turns. */
static trunk run_blocks(weft_model *m, weft_pass *s, const int32_t *ids) {
    const weft_ops *ops = s->dev->ops;
    weft_arena *arena = &s->dev->act;
    int64_t D = m->config.hidden_size, n = s->rows * D;
    bool keep_delta = s->training && m->config.activation_loss_coef > 0;
    trunk t = {.delta = weft_push_act(s, n)};
    weft_act *turn[2] = {NULL, NULL}, *y = NULL;
    weft_real *rstd = NULL;
    if (!s->training) {
        turn[0] = weft_push_act(s, n), turn[1] = weft_push_act(s, n);
        y = weft_push_act(s, n);
        rstd = weft_push_real(s, s->rows);
    }
    weft_act *x = s->training ? weft_push_act(s, n) : turn[0], *delta = NULL;
    enter(m, s, 0, 1);
    embed(m, s, x, ids);
    watch(m, s, "embed_tokens", x);
    for (int64_t i = 0; i < m->block_count; i++) {
        weft_block *b = &m->blocks[i];
        if (first_of_layer(m, i)) enter(m, s, (int)b->layer + 1, 1);
        b->mark = weft_arena_mark(arena);
        /* With no branch before it the block reads the embedding as it is. */
        b->h = !delta ? x : s->training ? weft_push_act(s, n) : turn[x == turn[0]];
        b->rstd = s->training ? weft_push_real(s, s->rows) : rstd;
        if (keep_delta) t.delta = weft_push_act(s, n);
        b->delta = t.delta;
        size_t kept = weft_arena_mark(arena);
        b->y = s->training ? weft_push_act(s, n) : y;
        norm_block(m, s, b, x, delta);
        b->kind->forward(b, s, t.delta, b->y);
        watch(m, s, b->name, t.delta);
        weft_watch_inside(b, s, "residual", b->h, D, s->rows, D);
        weft_watch_inside(b, s, "out", t.delta, D, s->rows, D);
        if (b->recompute && s->training) weft_arena_release(arena, kept);
        x = b->h;
        delta = t.delta;
    }
    t.mark = weft_arena_mark(arena);
    t.h = !delta ? x : s->training ? weft_push_act(s, n) : turn[x == turn[0]];
    t.rstd = weft_push_real(s, s->rows);
    t.y = weft_push_act(s, n);
    ops->rmsnorm_fwd(s->dev, t.y, D, t.rstd, t.h, x, D, delta, row_of(m, s, m->final_norm),
                     (weft_real)m->config.rms_norm_eps, s->rows, D);
    watch(m, s, "final_layernorm", t.y);
    return t;
}

/* Rows of the head's matrix products at a time, on this rank and on all of tp. */
typedef struct head_chunk {
    int64_t at, rows, all;
} head_chunk;

/* Targets of a chunk's rows, from every tp rank's part of the residual stream. */
static const int32_t *chunk_targets(weft_pass *s, const head_chunk *h, const int32_t *targets) {
    int tp = weft_axis_size(s, WEFT_AXIS_TP);
    if (tp == 1) return targets ? targets + h->at : NULL;
    int32_t *out = weft_arena_push(&s->dev->act, (size_t)h->all * sizeof *out);
    for (int r = 0; r < tp && targets; r++)
        s->dev->ops->copy(s->dev, out + r * h->rows, targets + r * s->rows + h->at,
                          (size_t)h->rows * sizeof *out);
    return out;
}

/* Losses of a chunk, and with `grad` the gradient in place of the logits. The vocabulary may be cut over tp:
 * then each rank's maximum and sum are exchanged. */
static void chunk_loss(weft_model *m, weft_pass *s, const head_chunk *h, weft_act *logits,
                       const int32_t *targets, weft_real *loss, double scale, bool grad) {
    const weft_ops *ops = s->dev->ops;
    const weft_param *head = &m->table.rows[m->head];
    int tp = weft_axis_size(s, WEFT_AXIS_TP);
    if (tp == 1) {
        ops->cross_entropy(s->dev, loss, logits, targets, h->all, head->extent[0], (weft_real)scale, grad);
        return;
    }
    weft_real *parts = weft_push_real(s, tp * h->all * 3);
    ops->cross_entropy_partial(s->dev, parts + weft_axis_index(s, WEFT_AXIS_TP) * h->all * 3, logits, targets,
                               h->all, head->start[0], head->extent[0]);
    weft_all_gather(s->comm, WEFT_GROUP_TP, "cross_entropy", parts, h->all * 3 * (int64_t)sizeof *parts);
    ops->cross_entropy_merge(s->dev, loss, logits, parts, tp, targets, h->all, head->start[0],
                             head->extent[0], (weft_real)scale, grad);
}

/* Logits in chunks of rows. loss [M] (on tp, chunk by chunk); with dy [rows, D], gradients. */
static void run_head(weft_model *m, weft_pass *s, const trunk *t, const int32_t *targets, int64_t chunk,
                     weft_real *loss, weft_act *dy, double scale) {
    const weft_ops *ops = s->dev->ops;
    const weft_act *w = row_of(m, s, m->head);
    int64_t D = m->config.hidden_size, V = m->table.rows[m->head].extent[0];
    int tp = weft_axis_size(s, WEFT_AXIS_TP);
    size_t mark = weft_arena_mark(&s->dev->act);
    int64_t most = (chunk + tp - 1) / tp < s->rows ? (chunk + tp - 1) / tp : s->rows;
    weft_act *logits = weft_push_act(s, most * tp * V);
    size_t scratch = weft_arena_mark(&s->dev->act);
    for (int64_t at = 0; at < s->rows; at += most) {
        head_chunk h = {.at = at, .rows = s->rows - at < most ? s->rows - at : most};
        h.all = h.rows * tp;
        const weft_act *y =
            weft_gather_tokens(s->comm, s->dev, "lm_head", weft_cat(s, t->y, at * D), h.rows, D);
        ops->linear_fwd(s->dev, logits, V, y, D, w, NULL, h.all, V, D, false);
        if (m->watch.inside && !s->dev->dry)
            m->watch.inside(m->watch.of, NULL, "logits", logits, V, at, h.rows, V);
        /* A measuring pass has no targets and needs no losses. */
        const int32_t *target_rows = chunk_targets(s, &h, targets);
        chunk_loss(m, s, &h, logits, target_rows, loss ? loss + at * tp : NULL, scale, dy != NULL);
        if (dy) {
            weft_act *mine = weft_at(s, dy, at * D),
                     *all = weft_partial_rows(s->comm, s->dev, mine, h.rows, D);
            ops->linear_dgrad(s->dev, all, D, logits, V, w, h.all, V, D, false);
            weft_scatter_tokens(s->comm, s->dev, "lm_head", mine, all, h.rows, D);
            ops->linear_wgrad(s->dev, grad_row(m, s, m->head), NULL, logits, V, y, D, h.all, V, D);
        }
        weft_arena_release(&s->dev->act, scratch);
    }
    weft_arena_release(&s->dev->act, mark);
}

static void backward_block(weft_model *m, weft_pass *s, weft_block *b, weft_act *dh, double act_scale) {
    const weft_ops *ops = s->dev->ops;
    int64_t D = m->config.hidden_size, n = s->rows * D;
    if (b->recompute) {
        b->y = weft_push_act(s, n);
        s->recomputing = true;
        ops->rmsnorm_fwd(s->dev, b->y, D, b->rstd, NULL, b->h, D, NULL, row_of(m, s, b->norm),
                         (weft_real)m->config.rms_norm_eps, s->rows, D);
        b->kind->forward(b, s, NULL, b->y);
        s->recomputing = false;
    }
    weft_act *dy = weft_push_act(s, n), *dout = dh;
    if (act_scale >
        0) { /* the output's own loss: its gradient belongs to the branch, not to the residual stream */
        dout = weft_push_act(s, n);
        ops->copy(s->dev, dout, dh, (size_t)n * weft_dtype_size(s->dev->act_dtype));
        ops->axpy(s->dev, dout, (weft_real)act_scale, b->delta, n);
    }
    b->kind->backward(b, s, dy, dout, b->y);
    ops->rmsnorm_bwd(s->dev, dh, D, grad_row(m, s, b->norm), dy, D, b->h, D, b->rstd, row_of(m, s, b->norm),
                     s->rows, D, true);
    watch(m, s, b->name, dh);
    weft_arena_release(&s->dev->act, b->mark); /* nothing of this block is needed any more */
}

/* The router's statistics are of this rank's rows; the load-balance loss is of the whole microbatch. */
static void sum_router_stats(weft_model *m, weft_pass *s) {
    const weft_model_config *c = &m->config;
    weft_arena *work = &s->dev->act;
    weft_all_reduce_i64(s->comm, WEFT_GROUP_TOKENS, "router counts", s->moe_counts,
                        m->moe_count * c->num_experts_per_tok * c->num_experts);
    weft_all_reduce(s->comm, WEFT_GROUP_TOKENS, "router probabilities", WEFT_REAL_DTYPE, s->moe_prob_sum,
                    m->moe_count * c->num_experts, work);
    weft_all_reduce(s->comm, WEFT_GROUP_TOKENS, "router logsumexp", WEFT_REAL_DTYPE, s->moe_lse2,
                    m->moe_count, work);
}

/* Values and gradients of the losses besides cross-entropy. */
static double extra_losses(weft_model *m, weft_pass *s, const weft_objective *o, weft_loss *out) {
    const weft_model_config *c = &m->config;
    const weft_ops *ops = s->dev->ops;
    int64_t tokens = s->M * weft_axis_size(s, WEFT_AXIS_CP); /* of the microbatch */
    bool first = s->comm->group[WEFT_GROUP_TOKENS].rank == 0;
    double act_scale = 0;
    if (m->moe_count) {
        double count = (double)(m->moe_count * tokens);
        sum_router_stats(m, s);
        /* Every rank of the microbatch knows these two; one tells. */
        double *aux = first ? &out->aux : weft_arena_push(&s->dev->act, sizeof *aux);
        ops->moe_balance(s->dev, s->moe_dprob, aux, s->moe_counts, s->moe_prob_sum, m->moe_count,
                         c->num_experts_per_tok, c->num_experts, tokens,
                         (weft_real)(c->router_aux_loss_coef * o->extra_scale));
        s->moe_dlse2 = (weft_real)(c->router_z_loss_coef * o->extra_scale / count);
        if (first) ops->sum_real(s->dev, &out->z, s->moe_lse2, m->moe_count, 1 / count, false);
    }
    if (c->activation_loss_coef > 0 && m->block_count) {
        double elements = (double)(m->block_count * tokens * c->hidden_size);
        for (int64_t i = 0; i < m->block_count; i++)
            ops->sumsq_act(s->dev, &out->act, m->blocks[i].delta, s->rows * c->hidden_size, 1 / elements,
                           i > 0);
        act_scale = 2 * c->activation_loss_coef * o->extra_scale / elements;
    }
    return act_scale;
}

static weft_pass pass_of(weft_model *m, weft_device *d, weft_store *store, const weft_microbatch *mb) {
    const weft_mesh *mesh = &m->comm->mesh;
    weft_pass s = {.dev = d,
                   .comm = m->comm,
                   .store = store,
                   .B = mb->B,
                   .T = mb->T,
                   .M = mb->B * mb->T,
                   .C = weft_chunks_held(mesh->size[WEFT_AXIS_CP]),
                   .ep_passes = m->ep_passes,
                   .host_counts = m->host_counts,
                   .host_mark = &m->host_mark,
                   .watch = &m->watch,
                   .doc_start = mb->doc_start,
                   .doc_local = mesh->size[WEFT_AXIS_CP] > 1 ? mb->doc_local : mb->doc_start};
    s.L = s.T / s.C;
    s.rows = s.M / mesh->size[WEFT_AXIS_TP];
    return s;
}

/* Everything behind the blocks: head, losses, and back to the gradient of the blocks' output. */
static void turn_round(weft_model *m, weft_pass *s, const weft_microbatch *mb, const weft_objective *o,
                       const trunk *t, weft_act *dh, weft_loss *out, double *act_scale) {
    int64_t D = m->config.hidden_size;
    size_t mark = weft_arena_mark(&s->dev->act);
    weft_real *loss = weft_push_real(s, s->M);
    enter(m, s, m->units - 1, -1);
    weft_store_grads_begin(s->store, m->units - 1);
    run_head(m, s, t, mb->targets, o->loss_chunk, loss, dh, o->ce_scale);
    weft_store_grads_end(s->store, m->units - 1);
    *act_scale = extra_losses(m, s, o, out);
    if (weft_axis_index(s, WEFT_AXIS_TP) == 0)
        s->dev->ops->sum_real(s->dev, &out->ce_sum, loss, s->M, 1, false);
    s->dev->ops->rmsnorm_bwd(s->dev, dh, D, grad_row(m, s, m->final_norm), dh, D, t->h, D, t->rstd,
                             row_of(m, s, m->final_norm), s->rows, D, false);
    watch(m, s, "final_layernorm", dh);
    weft_arena_release(&s->dev->act, mark);
}

void weft_model_train(weft_model *m, weft_device *d, weft_store *store, const weft_microbatch *mb,
                      const weft_objective *o, weft_loss *out) {
    const weft_model_config *c = &m->config;
    weft_pass s = pass_of(m, d, store, mb);
    size_t mark = weft_arena_mark(&d->act);
    double act_scale;
    s.training = true;
    d->ops->zero(d, out, sizeof *out);

    weft_act *dh = weft_push_act(&s, s.rows * c->hidden_size);
    if (m->moe_count) {
        s.moe_counts = weft_arena_push(
            &d->act, (size_t)(m->moe_count * c->num_experts_per_tok * c->num_experts) * sizeof *s.moe_counts);
        s.moe_prob_sum = weft_push_real(&s, m->moe_count * c->num_experts);
        s.moe_lse2 = weft_push_real(&s, m->moe_count);
        s.moe_dprob = weft_push_real(&s, c->num_experts);
    }
    trunk t = run_blocks(m, &s, mb->tokens);
    m->kept_bytes = weft_arena_mark(&d->act) - mark;
    turn_round(m, &s, mb, o, &t, dh, out, &act_scale);
    weft_arena_release(&d->act, t.mark);
    for (int64_t i = m->block_count - 1; i >= 0; i--) {
        int unit = (int)m->blocks[i].layer + 1;
        if (last_of_layer(m, i)) {
            enter(m, &s, unit, -1);
            weft_store_grads_begin(store, unit);
        }
        backward_block(m, &s, &m->blocks[i], dh, act_scale);
        if (first_of_layer(m, i)) weft_store_grads_end(store, unit);
    }
    watch(m, &s, "embed_tokens", dh);
    weft_store_grads_begin(store, 0);
    embed_backward(m, &s, dh, mb->tokens);
    weft_store_grads_end(store, 0);
    weft_arena_release(&d->act, mark);
}

void weft_model_losses(weft_model *m, weft_device *d, const weft_real *params, const weft_microbatch *mb,
                       int64_t loss_chunk, weft_real *loss) {
    weft_pass s = pass_of(m, d, weft_model_whole(m, params, NULL), mb);
    size_t mark = weft_arena_mark(&d->act);
    trunk t = run_blocks(m, &s, mb->tokens);
    run_head(m, &s, &t, mb->targets, loss_chunk, loss, NULL, 0);
    weft_arena_release(&d->act, mark);
}

void weft_model_logits(weft_model *m, weft_device *d, const weft_real *params, const weft_microbatch *mb,
                       weft_act *logits) {
    weft_pass s = pass_of(m, d, weft_model_whole(m, params, NULL), mb);
    int64_t D = m->config.hidden_size, V = m->config.vocab_size;
    size_t mark = weft_arena_mark(&d->act);
    trunk t = run_blocks(m, &s, mb->tokens);
    d->ops->linear_fwd(d, logits, V, t.y, D, row_of(m, &s, m->head), NULL, s.M, V, D, false);
    weft_arena_release(&d->act, mark);
}

void weft_model_make_caches(const weft_model *m, weft_arena *a, int64_t capacity, weft_dtype act,
                            weft_block_cache *caches) {
    size_t mark = weft_arena_mark(a);
    for (int64_t i = 0; i < m->block_count; i++) {
        caches[i] = (weft_block_cache){0};
        if (m->blocks[i].kind->cache) m->blocks[i].kind->cache(&m->blocks[i], &caches[i], a, capacity, act);
    }
    if (!a->measuring) memset(a->base + mark, 0, weft_arena_mark(a) - mark);
}

void weft_model_decode(weft_model *m, weft_device *d, const weft_real *params, weft_block_cache *caches,
                       const int32_t *tokens, int64_t count, int64_t pos0, weft_real *logits) {
    weft_microbatch mb = {.B = 1, .T = count};
    weft_pass s = pass_of(m, d, weft_model_whole(m, params, NULL), &mb);
    int64_t D = m->config.hidden_size, V = m->config.vocab_size;
    size_t mark = weft_arena_mark(&d->act);
    s.caches = caches;
    s.pos0 = pos0;
    trunk t = run_blocks(m, &s, tokens);
    const weft_act *last = weft_act_cat(t.y, d->act_dtype, (count - 1) * D);
    d->ops->linear_fwd(d, logits, V, last, D, row_of(m, &s, m->head), NULL, 1, V, D, false);
    weft_arena_release(&d->act, mark);
}
