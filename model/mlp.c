/* SwiGLU feed-forward (Shazeer, arXiv 2002.05202): out = (silu(x W_gate^T) * x W_up^T) W_down^T.
 * Split over tp: gate and up by rows, down by columns. Each rank works on all M tokens with its part of F,
 * and the outputs are summed. */
#include "model/block.h"

#include <stdio.h>

enum { ROW_GATE, ROW_UP, ROW_DOWN };
enum { SAVED_GU, SAVED_ACT };

static void declare(weft_block *b, const weft_model_config *c, weft_params *p) {
    int64_t D = c->hidden_size, F = c->intermediate_size;
    static const char *const gguf[] = {"ffn_gate", "ffn_up", "ffn_down"};
    weft_param rows[] = {
        weft_param_matrix(b->layer, "feed_forward.gate_proj", F, D, 0, c->initializer_range),
        weft_param_matrix(b->layer, "feed_forward.up_proj", F, D, 0, c->initializer_range),
        weft_param_matrix(b->layer, "feed_forward.down_proj", D, F, 1, weft_residual_scale(c)),
    };
    for (int i = 0; i < 3; i++) {
        snprintf(rows[i].gguf_name, sizeof rows[i].gguf_name, "blk.%lld.%s.weight", (long long)b->layer,
                 gguf[i]);
        b->row[i] = weft_params_add(p, &rows[i], i == ROW_UP); /* gate and up: one matrix [2F, D] */
    }
}

/* This rank's part of the inner width. */
static int64_t width(const weft_block *b) {
    return b->table->rows[b->row[ROW_GATE]].extent[0];
}

static void forward(weft_block *b, weft_pass *s, weft_act *out, const weft_act *x) {
    int64_t D = b->config->hidden_size, F = width(b);
    weft_device *dev = s->dev;
    const weft_ops *ops = dev->ops;
    size_t mark = weft_arena_mark(&dev->act);
    weft_act *gu = b->saved[SAVED_GU] = weft_push_act(s, s->M * 2 * F);
    weft_act *act = b->saved[SAVED_ACT] = weft_push_act(s, s->M * F);
    size_t kept = weft_arena_mark(&dev->act);

    const weft_act *all_x = weft_gather_tokens(s->comm, dev, weft_label(b, "x").text, x, s->rows, D);
    ops->linear_fwd(dev, gu, 2 * F, all_x, D, weft_weight(b, s, ROW_GATE), NULL, s->M, 2 * F, D, false);
    weft_arena_release(&dev->act, kept);
    ops->swiglu_fwd(dev, act, gu, s->M, F);
    if (out) {
        weft_act *part = weft_partial_rows(s->comm, dev, out, s->rows, D);
        ops->linear_fwd(dev, part, D, act, F, weft_weight(b, s, ROW_DOWN), NULL, s->M, D, F, false);
        weft_scatter_tokens(s->comm, dev, weft_label(b, "out").text, out, part, s->rows, D);
    }
    weft_arena_release(&dev->act, s->training ? kept : mark);
}

static void backward(weft_block *b, weft_pass *s, weft_act *dx, const weft_act *dout, const weft_act *x) {
    int64_t D = b->config->hidden_size, F = width(b);
    weft_device *dev = s->dev;
    const weft_ops *ops = dev->ops;
    weft_act *gu = b->saved[SAVED_GU];
    size_t mark = weft_arena_mark(&dev->act);
    weft_act *dact = weft_push_act(s, s->M * F);
    size_t kept = weft_arena_mark(&dev->act);

    const weft_act *dy = weft_gather_tokens(s->comm, dev, weft_label(b, "dout").text, dout, s->rows, D);
    ops->linear_wgrad(dev, weft_grad(b, s, ROW_DOWN), NULL, dy, D, b->saved[SAVED_ACT], F, s->M, D, F);
    ops->linear_dgrad(dev, dact, F, dy, D, weft_weight(b, s, ROW_DOWN), s->M, D, F, false);
    weft_arena_release(&dev->act, kept);
    /* gate|up is not needed again: its gradient takes its place */
    ops->swiglu_bwd(dev, gu, dact, gu, s->M, F);
    const weft_act *all_x = weft_gather_tokens(s->comm, dev, weft_label(b, "x").text, x, s->rows, D);
    ops->linear_wgrad(dev, weft_grad(b, s, ROW_GATE), NULL, gu, 2 * F, all_x, D, s->M, 2 * F, D);
    weft_arena_release(&dev->act, mark); /* neither x nor dact */
    weft_act *part = weft_partial_rows(s->comm, dev, dx, s->rows, D);
    ops->linear_dgrad(dev, part, D, gu, 2 * F, weft_weight(b, s, ROW_GATE), s->M, 2 * F, D, false);
    weft_scatter_tokens(s->comm, dev, weft_label(b, "dx").text, dx, part, s->rows, D);
    weft_arena_release(&dev->act, mark);
}

static double flops(const weft_block *b, int64_t T) {
    (void)T;
    return 2.0 * 3.0 * (double)(b->config->hidden_size * b->config->intermediate_size);
}

const weft_block_kind weft_block_mlp = {.name = "mlp",
                                        .norm = "pre_ff_layernorm",
                                        .declare = declare,
                                        .forward = forward,
                                        .backward = backward,
                                        .flops = flops};
