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
    weft_param norm = weft_param_vector(layer, kind->norm, m->config.hidden_size, WEFT_INIT_ONES);
    bool mixer = strcmp(kind->norm, "input_layernorm") == 0;
    snprintf(norm.gguf_name, sizeof norm.gguf_name, "blk.%lld.%s.weight", (long long)layer,
             mixer ? "attn_norm" : "ffn_norm");
    b->norm = weft_params_add(&m->table, &norm, false);
    kind->declare(b, &m->config, &m->table);
    m->block_count++;
}

weft_status weft_model_build(weft_model *m, const weft_model_config *c, weft_recompute recompute,
                             const char *layers) {
    int64_t shape[] = {c->vocab_size, c->hidden_size};
    *m = (weft_model){.config = *c};
    m->blocks = calloc((size_t)(2 * c->num_hidden_layers), sizeof *m->blocks);
    if (!m->blocks) WEFT_FAIL(WEFT_ENOMEM, "no memory for %lld layers", (long long)c->num_hidden_layers);

    weft_param embed = weft_param_make("embed_tokens", 2, shape, WEFT_INIT_NORMAL, c->initializer_range);
    embed.split = WEFT_SHARD, embed.split_axis = WEFT_AXIS_TP, embed.split_dim = 0;
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
        head.split = WEFT_SHARD, head.split_axis = WEFT_AXIS_TP, head.split_dim = 0;
        snprintf(head.hf_name, sizeof head.hf_name, "lm_head.weight");
        snprintf(head.gguf_name, sizeof head.gguf_name, "output.weight");
        m->head = weft_params_add(&m->table, &head, false);
    }
    return WEFT_OK;
}

void weft_model_free(weft_model *m) {
    free(m->blocks);
    weft_params_free(&m->table);
    *m = (weft_model){0};
}

static const weft_real *row_of(const weft_model *m, const weft_real *flat, int64_t row) {
    return flat + m->table.rows[row].offset;
}
static weft_real *grad_row(const weft_model *m, weft_real *flat, int64_t row) {
    return flat + m->table.rows[row].offset;
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
    s->dev->ops->rmsnorm_fwd(s->dev, b->y, D, b->rstd, b->h, x, D, delta, row_of(m, s->params, b->norm),
                             (weft_real)m->config.rms_norm_eps, s->M, D);
}

/* Embedding and blocks. In training every block leaves h, rstd and what it saves on the arena; otherwise two
 * buffers take turns. */
static trunk run_blocks(weft_model *m, weft_pass *s, const int32_t *ids) {
    const weft_ops *ops = s->dev->ops;
    weft_arena *arena = &s->dev->act;
    int64_t D = m->config.hidden_size, n = s->M * D;
    bool keep_delta = s->training && m->config.activation_loss_coef > 0;
    trunk t = {.delta = weft_push_act(s, n)};
    weft_act *turn[2] = {NULL, NULL}, *y = NULL;
    weft_real *rstd = NULL;
    if (!s->training) {
        turn[0] = weft_push_act(s, n), turn[1] = weft_push_act(s, n);
        y = weft_push_act(s, n);
        rstd = weft_push_real(s, s->M);
    }
    weft_act *x = s->training ? weft_push_act(s, n) : turn[0], *delta = NULL;
    ops->embedding_fwd(s->dev, x, row_of(m, s->params, m->embed), ids, s->M, D);
    for (int64_t i = 0; i < m->block_count; i++) {
        weft_block *b = &m->blocks[i];
        b->mark = weft_arena_mark(arena);
        /* With no branch before it the block reads the embedding as it is. */
        b->h = !delta ? x : s->training ? weft_push_act(s, n) : turn[x == turn[0]];
        b->rstd = s->training ? weft_push_real(s, s->M) : rstd;
        if (keep_delta) t.delta = weft_push_act(s, n);
        b->delta = t.delta;
        size_t kept = weft_arena_mark(arena);
        b->y = s->training ? weft_push_act(s, n) : y;
        norm_block(m, s, b, x, delta);
        b->kind->forward(b, s, t.delta, b->y);
        if (b->recompute && s->training) weft_arena_release(arena, kept);
        x = b->h;
        delta = t.delta;
    }
    t.mark = weft_arena_mark(arena);
    t.h = !delta ? x : s->training ? weft_push_act(s, n) : turn[x == turn[0]];
    t.rstd = weft_push_real(s, s->M);
    t.y = weft_push_act(s, n);
    ops->rmsnorm_fwd(s->dev, t.y, D, t.rstd, t.h, x, D, delta, row_of(m, s->params, m->final_norm),
                     (weft_real)m->config.rms_norm_eps, s->M, D);
    return t;
}

/* Logits exist for `chunk` rows at a time. Without dy only losses are wanted; with it logits turn into
 * gradients at once: dy (assigned) and the head's weights. */
static void run_head(weft_model *m, weft_pass *s, const trunk *t, const int32_t *targets, int64_t chunk,
                     weft_real *loss, weft_act *dy, double scale) {
    const weft_ops *ops = s->dev->ops;
    int64_t D = m->config.hidden_size, V = m->config.vocab_size;
    const weft_act *w = row_of(m, s->params, m->head);
    size_t mark = weft_arena_mark(&s->dev->act);
    if (chunk > s->M) chunk = s->M;
    weft_act *logits = weft_push_act(s, chunk * V);
    for (int64_t at = 0; at < s->M; at += chunk) {
        int64_t rows = s->M - at < chunk ? s->M - at : chunk;
        const weft_act *y = weft_cat(s, t->y, at * D);
        ops->linear_fwd(s->dev, logits, V, y, D, w, NULL, rows, V, D, false);
        /* A measuring pass has no targets and needs no losses. */
        weft_real *loss_rows = loss ? loss + at : NULL;
        const int32_t *target_rows = targets ? targets + at : NULL;
        ops->cross_entropy(s->dev, loss_rows, logits, target_rows, rows, V, (weft_real)scale, dy != NULL);
        if (!dy) continue;
        ops->linear_dgrad(s->dev, weft_at(s, dy, at * D), D, logits, V, w, rows, V, D, false);
        ops->linear_wgrad(s->dev, grad_row(m, s->grads, m->head), NULL, logits, V, y, D, rows, V, D);
    }
    weft_arena_release(&s->dev->act, mark);
}

static void backward_block(weft_model *m, weft_pass *s, weft_block *b, weft_act *dh, double act_scale) {
    const weft_ops *ops = s->dev->ops;
    int64_t D = m->config.hidden_size, n = s->M * D;
    if (b->recompute) {
        b->y = weft_push_act(s, n);
        s->recomputing = true;
        ops->rmsnorm_fwd(s->dev, b->y, D, b->rstd, NULL, b->h, D, NULL, row_of(m, s->params, b->norm),
                         (weft_real)m->config.rms_norm_eps, s->M, D);
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
    ops->rmsnorm_bwd(s->dev, dh, D, grad_row(m, s->grads, b->norm), dy, D, b->h, D, b->rstd,
                     row_of(m, s->params, b->norm), s->M, D, true);
    weft_arena_release(&s->dev->act, b->mark); /* nothing of this block is needed any more */
}

/* Values and gradients of the losses besides cross-entropy. */
static double extra_losses(weft_model *m, weft_pass *s, const weft_objective *o, weft_loss *out) {
    const weft_model_config *c = &m->config;
    const weft_ops *ops = s->dev->ops;
    double act_scale = 0;
    if (m->moe_count) {
        double count = (double)(m->moe_count * s->M);
        ops->moe_balance(s->dev, s->moe_dprob, &out->aux, s->moe_counts, s->moe_prob_sum, m->moe_count,
                         c->num_experts_per_tok, c->num_experts, s->M,
                         (weft_real)(c->router_aux_loss_coef * o->extra_scale));
        s->moe_dlse2 = (weft_real)(c->router_z_loss_coef * o->extra_scale / count);
        if (!s->dev->dry)
            for (int64_t i = 0; i < m->moe_count; i++) out->z += (double)s->moe_lse2[i] / count;
    }
    if (c->activation_loss_coef > 0 && m->block_count) {
        double elements = (double)(m->block_count * s->M * c->hidden_size);
        for (int64_t i = 0; i < m->block_count; i++) {
            double sum = 0;
            ops->sumsq_act(s->dev, &sum, m->blocks[i].delta, s->M * c->hidden_size);
            out->act += sum / elements;
        }
        act_scale = 2 * c->activation_loss_coef * o->extra_scale / elements;
    }
    return act_scale;
}

static weft_pass pass_of(weft_device *d, const weft_real *params, const weft_microbatch *mb) {
    return (weft_pass){
        .dev = d, .params = params, .B = mb->B, .T = mb->T, .M = mb->B * mb->T, .doc_start = mb->doc_start};
}

void weft_model_train(weft_model *m, weft_device *d, const weft_real *params, weft_real *grads,
                      const weft_microbatch *mb, const weft_objective *o, weft_loss *out) {
    const weft_model_config *c = &m->config;
    weft_pass s = pass_of(d, params, mb);
    int64_t D = c->hidden_size;
    size_t mark = weft_arena_mark(&d->act);
    s.grads = grads;
    s.training = true;
    *out = (weft_loss){0};

    weft_act *dh = weft_push_act(&s, s.M * D);
    weft_real *loss = weft_push_real(&s, s.M);
    if (m->moe_count) {
        s.moe_counts = weft_arena_push(
            &d->act, (size_t)(m->moe_count * c->num_experts_per_tok * c->num_experts) * sizeof *s.moe_counts);
        s.moe_prob_sum = weft_push_real(&s, m->moe_count * c->num_experts);
        s.moe_lse2 = weft_push_real(&s, m->moe_count);
        s.moe_dprob = weft_push_real(&s, c->num_experts);
    }
    trunk t = run_blocks(m, &s, mb->tokens);
    run_head(m, &s, &t, mb->targets, o->loss_chunk, loss, dh, o->ce_scale);
    double act_scale = extra_losses(m, &s, o, out);
    if (!d->dry)
        for (int64_t i = 0; i < s.M; i++) out->ce_sum += (double)loss[i];

    d->ops->rmsnorm_bwd(d, dh, D, grad_row(m, grads, m->final_norm), dh, D, t.h, D, t.rstd,
                        row_of(m, params, m->final_norm), s.M, D, false);
    weft_arena_release(&d->act, t.mark);
    for (int64_t i = m->block_count - 1; i >= 0; i--) backward_block(m, &s, &m->blocks[i], dh, act_scale);
    d->ops->embedding_bwd(d, grad_row(m, grads, m->embed), dh, mb->tokens, s.M, D, c->vocab_size);
    weft_arena_release(&d->act, mark);
}

void weft_model_losses(weft_model *m, weft_device *d, const weft_real *params, const weft_microbatch *mb,
                       int64_t loss_chunk, weft_real *loss) {
    weft_pass s = pass_of(d, params, mb);
    size_t mark = weft_arena_mark(&d->act);
    trunk t = run_blocks(m, &s, mb->tokens);
    run_head(m, &s, &t, mb->targets, loss_chunk, loss, NULL, 0);
    weft_arena_release(&d->act, mark);
}

void weft_model_logits(weft_model *m, weft_device *d, const weft_real *params, const weft_microbatch *mb,
                       weft_act *logits) {
    weft_pass s = pass_of(d, params, mb);
    int64_t D = m->config.hidden_size, V = m->config.vocab_size;
    size_t mark = weft_arena_mark(&d->act);
    trunk t = run_blocks(m, &s, mb->tokens);
    d->ops->linear_fwd(d, logits, V, t.y, D, row_of(m, params, m->head), NULL, s.M, V, D, false);
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
    weft_pass s = pass_of(d, params, &mb);
    int64_t D = m->config.hidden_size, V = m->config.vocab_size;
    size_t mark = weft_arena_mark(&d->act);
    s.caches = caches;
    s.pos0 = pos0;
    trunk t = run_blocks(m, &s, tokens);
    const weft_act *last = weft_act_cat(t.y, d->act_dtype, (count - 1) * D);
    d->ops->linear_fwd(d, logits, V, last, D, row_of(m, params, m->head), NULL, 1, V, D, false);
    weft_arena_release(&d->act, mark);
}
