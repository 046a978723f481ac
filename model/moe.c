/* Mixture of SwiGLU experts, dropless (arXiv 2403.19887, section 3.1; router: softmax over all experts, then
 * top-k). p = softmax(x W_r^T);  out = sum over the k largest of p_e * expert_e(x) Tokens are sorted by
 * expert, so that each expert is one matrix product. Split: experts over ep, inside as the MLP. */
#include "model/block.h"

#include <stdio.h>

enum { ROW_ROUTER, ROW_GATE, ROW_DOWN }; /* of expert 0; expert j lies j * stride behind */
enum {
    SAVED_PROBS,
    SAVED_LSE,
    SAVED_IDS,
    SAVED_W,
    SAVED_SLOT,
    SAVED_ROW,
    SAVED_OFFSETS,
    SAVED_XS,
    SAVED_GU,
    SAVED_ACT,
    SAVED_YS
};

static void declare(weft_block *b, const weft_model_config *c, weft_params *p) {
    int64_t D = c->hidden_size, F = c->intermediate_size, X = c->num_experts;
    static const char *const parts[] = {"gate_proj", "up_proj", "down_proj"}, *const gguf[] = {"gate", "up",
                                                                                               "down"};
    weft_param router = weft_param_matrix(b->layer, "feed_forward.router", X, D, -1, c->initializer_range);
    snprintf(router.gguf_name, sizeof router.gguf_name, "blk.%lld.ffn_gate_inp.weight", (long long)b->layer);
    b->row[ROW_ROUTER] = weft_params_add(p, &router, false);
    for (int64_t j = 0; j < X; j++) {
        for (int i = 0; i < 3; i++) {
            char name[WEFT_PARAM_NAME];
            bool down = i == 2;
            snprintf(name, sizeof name, "feed_forward.experts.%lld.%s", (long long)j, parts[i]);
            weft_param row = weft_param_matrix(b->layer, name, down ? D : F, down ? F : D, down ? 1 : 0,
                                               down ? weft_residual_scale(c) : c->initializer_range);
            row.expert = j;
            snprintf(row.gguf_name, sizeof row.gguf_name, "blk.%lld.ffn_%s_exps.weight", (long long)b->layer,
                     gguf[i]);
            int64_t at = weft_params_add(p, &row, j > 0 || i > 0); /* no gaps: the experts' stride is 3*F*D */
            if (j == 0 && i == 0) b->row[ROW_GATE] = at;
            if (j == 0 && i == 2) b->row[ROW_DOWN] = at;
        }
    }
}

static weft_router router_problem(weft_block *b, weft_pass *s) {
    const weft_model_config *c = b->config;
    return (weft_router){.M = s->M,
                         .X = c->num_experts,
                         .k = c->num_experts_per_tok,
                         .normalise = c->norm_topk_prob,
                         .probs = b->saved[SAVED_PROBS],
                         .lse = b->saved[SAVED_LSE],
                         .ids = b->saved[SAVED_IDS],
                         .w = b->saved[SAVED_W]};
}

static void forward(weft_block *b, weft_pass *s, weft_act *out, const weft_act *x) {
    const weft_model_config *c = b->config;
    int64_t D = c->hidden_size, F = c->intermediate_size, X = c->num_experts, k = c->num_experts_per_tok,
            S = s->M * k;
    int64_t stride = 3 * F * D;
    weft_device *dev = s->dev;
    const weft_ops *ops = dev->ops;
    size_t mark = weft_arena_mark(&dev->act);
    b->saved[SAVED_PROBS] = weft_push_real(s, s->M * X);
    b->saved[SAVED_LSE] = weft_push_real(s, s->M);
    b->saved[SAVED_W] = weft_push_real(s, S);
    int32_t *ids = b->saved[SAVED_IDS] = weft_arena_push(&dev->act, (size_t)S * sizeof *ids);
    int32_t *slot_of = b->saved[SAVED_SLOT] = weft_arena_push(&dev->act, (size_t)S * sizeof *slot_of);
    int32_t *row_of = b->saved[SAVED_ROW] = weft_arena_push(&dev->act, (size_t)S * sizeof *row_of);
    int64_t *offsets = b->saved[SAVED_OFFSETS] =
        weft_arena_push(&dev->act, (size_t)(X + 1) * sizeof *offsets);
    weft_act *xs = b->saved[SAVED_XS] = weft_push_act(s, S * D);
    weft_act *gu = b->saved[SAVED_GU] = weft_push_act(s, S * 2 * F);
    weft_act *act = b->saved[SAVED_ACT] = weft_push_act(s, S * F);
    weft_act *ys = b->saved[SAVED_YS] = weft_push_act(s, S * D);
    size_t scratch = weft_arena_mark(&dev->act);
    weft_act *logits = weft_push_act(s, s->M * X);

    ops->linear_fwd(dev, logits, X, x, D, weft_weight(b, s, ROW_ROUTER), NULL, s->M, X, D, false);
    weft_router r = router_problem(b, s);
    r.logits = logits;
    ops->router_fwd(dev, &r);
    if (s->training && !s->recomputing)
        ops->router_stats(dev, s->moe_counts + b->moe_index * k * X, s->moe_prob_sum + b->moe_index * X,
                          s->moe_lse2 + b->moe_index, &r);
    ops->moe_sort(dev, offsets, slot_of, row_of, ids, s->M, k, X);
    ops->gather_rows(dev, xs, x, row_of, S, D);
    ops->grouped_fwd(dev, gu, xs, weft_weight(b, s, ROW_GATE), stride, offsets, X, S, 2 * F, D);
    ops->swiglu_fwd(dev, act, gu, S, F);
    ops->grouped_fwd(dev, ys, act, weft_weight(b, s, ROW_DOWN), stride, offsets, X, S, D, F);
    if (out) ops->moe_combine(dev, out, ys, r.w, slot_of, s->M, k, D);
    weft_arena_release(&dev->act, s->training ? scratch : mark);
}

static void backward(weft_block *b, weft_pass *s, weft_act *dx, const weft_act *dout, const weft_act *x) {
    const weft_model_config *c = b->config;
    int64_t D = c->hidden_size, F = c->intermediate_size, X = c->num_experts, k = c->num_experts_per_tok,
            S = s->M * k;
    int64_t stride = 3 * F * D;
    weft_device *dev = s->dev;
    const weft_ops *ops = dev->ops;
    const int64_t *offsets = b->saved[SAVED_OFFSETS];
    const int32_t *slot_of = b->saved[SAVED_SLOT];
    weft_act *gu = b->saved[SAVED_GU], *ys = b->saved[SAVED_YS], *xs = b->saved[SAVED_XS];
    size_t mark = weft_arena_mark(&dev->act);
    weft_act *dact = weft_push_act(s, S * F), *dlogits = weft_push_act(s, s->M * X);
    weft_real *dw = weft_push_real(s, S);

    ops->moe_combine_bwd(dev, ys, dw, dout, ys, b->saved[SAVED_W], slot_of, s->M, k,
                         D); /* ys becomes its gradient */
    ops->grouped_wgrad(dev, weft_grad(b, s, ROW_DOWN), stride, ys, b->saved[SAVED_ACT], offsets, X, S, D, F);
    ops->grouped_dgrad(dev, dact, ys, weft_weight(b, s, ROW_DOWN), stride, offsets, X, S, D, F);
    ops->swiglu_bwd(dev, gu, dact, gu, S, F);
    ops->grouped_wgrad(dev, weft_grad(b, s, ROW_GATE), stride, gu, xs, offsets, X, S, 2 * F, D);
    ops->grouped_dgrad(dev, xs, gu, weft_weight(b, s, ROW_GATE), stride, offsets, X, S, 2 * F,
                       D); /* and xs its own */
    ops->gather_rows_bwd(dev, dx, xs, slot_of, s->M, k, D, false);

    weft_router r = router_problem(b, s);
    r.dw = dw;
    r.dprob = s->moe_dprob;
    r.dlse2 = s->moe_dlse2;
    r.dlogits = dlogits;
    ops->router_bwd(dev, &r);
    ops->linear_wgrad(dev, weft_grad(b, s, ROW_ROUTER), NULL, dlogits, X, x, D, s->M, X, D);
    ops->linear_dgrad(dev, dx, D, dlogits, X, weft_weight(b, s, ROW_ROUTER), s->M, X, D, true);
    weft_arena_release(&dev->act, mark);
}

static double flops(const weft_block *b, int64_t T) {
    const weft_model_config *c = b->config;
    (void)T;
    return 2.0 * (double)c->hidden_size *
           (3.0 * (double)(c->intermediate_size * c->num_experts_per_tok) + (double)c->num_experts);
}

const weft_block_kind weft_block_moe = {.name = "moe",
                                        .norm = "pre_ff_layernorm",
                                        .declare = declare,
                                        .forward = forward,
                                        .backward = backward,
                                        .flops = flops};
