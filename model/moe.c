/* Mixture of SwiGLU experts, dropless (arXiv 2403.19887, section 3.1; router: softmax over all experts, then
 * top-k). p = softmax(x W_r^T);  out = sum over the k largest of p_e * expert_e(x). Tokens are sorted by
 * expert, so that each expert is one matrix product.
 *
 * Split over tp: the router works on this rank's rows; its choices are gathered with the tokens, and each
 * expert is cut as the MLP is. Over ep: a rank holds neighbouring experts. Slots sorted by expert are sorted
 * by rank as well; they go to the ranks of their experts (dispatch), are sorted by expert again there, and
 * the outputs come back the same way (collect).
 *
 * All may choose the experts of one rank, and none is dropped, so buffers are for all that the ep group can
 * send. To bound them the tokens go in passes, one part of them after the other (weft_pass.ep_passes). With
 * one pass, what the experts compute is saved for backward. With several nothing of it is: backward sends the
 * inputs again together with the gradients. It then needs no output y of an expert, since for a slot of
 * weight w and its token's gradient dout dw = <y, dout> = <W_down act, dout> = <act, W_down^T dout>, where
 * the right factor, times w, is the gradient of act. */
#include "model/block.h"

#include <stdio.h>
#include <stdlib.h>

enum { ROW_ROUTER, ROW_GATE, ROW_DOWN }; /* of the first expert held; the next one lies a stride behind */
enum {
    SAVED_PROBS, /* of this rank's rows */
    SAVED_LSE,
    SAVED_IDS, /* of all M tokens */
    SAVED_W,
    SAVED_SLOT, /* of a pass, from here on: kept if it is the only one */
    SAVED_ROW,
    SAVED_OFFSETS, /* of the experts held, in SAVED_XS */
    SAVED_SENT,    /* ep: rows for each member, and from each; order of the latter as moe_regroup tells it */
    SAVED_RECEIVED,
    SAVED_HELD_ROW,
    SAVED_HELD_PLACE,
    SAVED_XS, /* inputs of the experts held, then what they compute */
    SAVED_GU,
    SAVED_ACT,
    SAVED_YS /* outputs for the slots */
};

static void declare(weft_block *b, const weft_model_config *c, weft_params *p) {
    int64_t D = c->hidden_size, F = c->intermediate_size, X = c->num_experts;
    static const char *const parts[] = {"gate_proj", "up_proj", "down_proj"}, *const gguf[] = {"gate", "up",
                                                                                               "down"};
    weft_part held = weft_part_of(X, p->mesh.size[WEFT_AXIS_EP], p->mesh.index[WEFT_AXIS_EP]);
    int64_t first = held.count ? held.start : 0; /* a rank without experts never reads the row */
    weft_param router = weft_param_matrix(b->layer, "feed_forward.router", X, D, -1, c->initializer_range);
    snprintf(router.gguf_name, sizeof router.gguf_name, "blk.%lld.ffn_gate_inp.weight", (long long)b->layer);
    b->row[ROW_ROUTER] = weft_params_add(p, &router, false);
    int ep = p->mesh.size[WEFT_AXIS_EP];
    if (ep > 1) b->host_rows = malloc(2 * (size_t)ep * sizeof *b->host_rows);
    WEFT_CHECK(ep == 1 || b->host_rows, "no memory for the rows of %d ranks", ep);
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
            int64_t at = weft_params_add(p, &row, j > 0 || i > 0); /* no gaps: the stride is 3*F*D */
            if (j == first && i == 0) b->row[ROW_GATE] = at;
            if (j == first && i == 2) b->row[ROW_DOWN] = at;
        }
    }
}

typedef struct dims {
    int64_t D, F, X, k; /* F: this rank's part of an expert's inner width */
    int64_t stride;     /* elements from an expert to the next */
    int64_t own;        /* first of this rank's rows among the M tokens */
    int ep;
    weft_part held; /* experts on this rank */
    int passes;
    weft_part tokens; /* of a pass; with one pass all M */
    int64_t slots;    /* their choices: tokens*k */
    int64_t rows;     /* that the experts of this rank work on: rows_held */
} dims;

static void take_pass(dims *n, const weft_pass *s, int pass) {
    n->tokens = weft_part_of(s->M, n->passes, pass);
    n->slots = n->tokens.count * n->k;
}

static dims dims_of(const weft_block *b, const weft_pass *s) {
    const weft_model_config *c = b->config;
    dims n = {.D = c->hidden_size,
              .F = b->table->rows[b->row[ROW_GATE]].extent[0],
              .X = c->num_experts,
              .k = c->num_experts_per_tok,
              .own = weft_axis_index(s, WEFT_AXIS_TP) * s->rows,
              .ep = weft_axis_size(s, WEFT_AXIS_EP)};
    n.stride = 3 * n.F * n.D;
    n.held = weft_part_of(n.X, n.ep, weft_axis_index(s, WEFT_AXIS_EP));
    n.passes = n.ep == 1 ? 1 : (int)(s->ep_passes < s->M ? s->ep_passes : s->M);
    take_pass(&n, s, 0);
    return n;
}

static int32_t *push_i32(weft_pass *s, int64_t n) {
    return weft_arena_push(&s->dev->act, (size_t)n * sizeof(int32_t));
}
static int64_t *push_i64(weft_pass *s, int64_t n) {
    return weft_arena_push(&s->dev->act, (size_t)n * sizeof(int64_t));
}

/* ---- router ------------------------------------------------------------------------------------------ */

static weft_router router_problem(weft_block *b, weft_pass *s, const dims *n) {
    return (weft_router){.M = s->rows,
                         .X = n->X,
                         .k = n->k,
                         .normalise = b->config->norm_topk_prob,
                         .probs = b->saved[SAVED_PROBS],
                         .lse = b->saved[SAVED_LSE],
                         .ids = (int32_t *)b->saved[SAVED_IDS] + n->own * n->k,
                         .w = (weft_real *)b->saved[SAVED_W] + n->own * n->k};
}

/* Chooses experts for this rank's rows, and learns all tokens' choices. Leaves what it saves. */
static void route(weft_block *b, weft_pass *s, const dims *n, const weft_act *x) {
    weft_device *dev = s->dev;
    const weft_ops *ops = dev->ops;
    int64_t own = s->rows * n->k, all = s->M * n->k;
    b->saved[SAVED_PROBS] = weft_push_real(s, s->rows * n->X);
    b->saved[SAVED_LSE] = weft_push_real(s, s->rows);
    weft_real *w = b->saved[SAVED_W] = weft_push_real(s, all);
    int32_t *ids = b->saved[SAVED_IDS] = push_i32(s, all);
    size_t kept = weft_arena_mark(&dev->act);
    weft_real *logits = weft_push_real(s, s->rows * n->X);

    ops->linear_fwd_real(dev, logits, n->X, x, n->D, weft_weight(b, s, ROW_ROUTER), s->rows, n->X, n->D);
    weft_router r = router_problem(b, s, n);
    r.logits = logits;
    ops->router_fwd(dev, &r);
    if (s->watch && s->watch->routed && !dev->dry && !s->recomputing)
        s->watch->routed(s->watch->of, b, r.ids, s->rows, n->k);
    if (s->training && !s->recomputing)
        ops->router_stats(dev, s->moe_counts + b->moe_index * n->k * n->X,
                          s->moe_prob_sum + b->moe_index * n->X, s->moe_lse2 + b->moe_index, &r);
    weft_arena_release(&dev->act, kept);
    weft_all_gather(s->comm, WEFT_GROUP_TP, weft_label(b, "ids").text, ids, own * (int64_t)sizeof *ids);
    weft_all_gather(s->comm, WEFT_GROUP_TP, weft_label(b, "w").text, w, own * (int64_t)sizeof *w);
}

/* dw [M,k] is partial over tp. Adds to dx [rows,D]. */
static void route_backward(weft_block *b, weft_pass *s, const dims *n, weft_act *dx, weft_real *dw,
                           const weft_act *x) {
    weft_device *dev = s->dev;
    const weft_ops *ops = dev->ops;
    size_t mark = weft_arena_mark(&dev->act);
    weft_act *dlogits = weft_push_act(s, s->rows * n->X);
    weft_router r = router_problem(b, s, n);
    weft_real *own_dw = dw + n->own * n->k;
    weft_reduce_scatter(s->comm, WEFT_GROUP_TP, weft_label(b, "dw").text, WEFT_REAL_DTYPE, own_dw, dw,
                        s->rows * n->k, &dev->act);
    r.dw = own_dw;
    r.dprob = s->moe_dprob;
    r.dlse2 = s->moe_dlse2;
    r.dlogits = dlogits;
    ops->router_bwd(dev, &r);
    ops->linear_wgrad(dev, weft_grad(b, s, ROW_ROUTER), NULL, dlogits, n->X, x, n->D, s->rows, n->X, n->D);
    ops->linear_dgrad(dev, dx, n->D, dlogits, n->X, weft_weight(b, s, ROW_ROUTER), s->rows, n->X, n->D, true);
    weft_arena_release(&dev->act, mark);
}

/* ---- ep: tokens to their experts, and back ----------------------------------------------------------- */

/* Rows that this rank's experts work on. Known once counts are exchanged; a dry device, whose arena is
 * measured, takes the most that the ep group can send: each token chooses an expert at most once. */
static int64_t rows_held(const weft_block *b, const weft_pass *s, const dims *n) {
    const int64_t *received = b->saved[SAVED_RECEIVED];
    int64_t rows = 0;
    if (n->ep == 1) return n->slots;
    if (s->dev->dry) return n->ep * n->tokens.count * (n->k < n->held.count ? n->k : n->held.count);
    for (int e = 0; e < n->ep; e++) rows += received[e];
    return rows;
}

/* Rows that this rank sends to each member and receives from it: of every member's offsets [ep,X+1]. */
static void count_rows(const dims *n, int me, const int64_t *all, int64_t *sent, int64_t *received) {
    for (int e = 0; e < n->ep; e++) {
        weft_part theirs = weft_part_of(n->X, n->ep, e);
        const int64_t *mine = all + me * (n->X + 1) + theirs.start,
                      *from = all + e * (n->X + 1) + n->held.start;
        sent[e] = mine[theirs.count] - mine[0];
        received[e] = from[n->held.count] - from[0];
    }
}

/* Every member of the ep group learns how many rows go from whom to which expert, and works out the order of
 * what arrives. The host waits for these numbers. From here on the saved offsets are those of the experts
 * held. */
static void exchange_counts(weft_block *b, weft_pass *s, const dims *n) {
    weft_device *dev = s->dev;
    int me = weft_axis_index(s, WEFT_AXIS_EP);
    int64_t block = n->X + 1;
    const int64_t *slot_offsets = b->saved[SAVED_OFFSETS];
    int64_t *offsets = b->saved[SAVED_OFFSETS] = push_i64(s, n->held.count + 1);
    int64_t *all = push_i64(s, n->ep * block);
    b->saved[SAVED_SENT] = b->host_rows;
    b->saved[SAVED_RECEIVED] = b->host_rows + n->ep;
    dev->ops->copy(dev, all + me * block, slot_offsets, (size_t)block * sizeof *all);
    weft_all_gather(s->comm, WEFT_GROUP_EP, weft_label(b, "counts").text, all, block * (int64_t)sizeof *all);
    const int64_t *seen = all;
    if (!weft_device_on_host(dev)) {
        seen = s->host_counts;
        weft_download(dev, s->host_counts, all, (size_t)(n->ep * block) * sizeof *all);
        weft_mark_set(dev, s->host_mark);
        weft_host_wait(dev, s->host_mark);
    }
    if (!dev->dry) count_rows(n, me, seen, b->host_rows, b->host_rows + n->ep);
    int64_t rows = rows_held(b, s, n);
    int32_t *row_of = b->saved[SAVED_HELD_ROW] = push_i32(s, rows);
    int32_t *place_of = b->saved[SAVED_HELD_PLACE] = push_i32(s, rows);
    dev->ops->moe_regroup(dev, offsets, row_of, place_of, all, n->ep, n->X, n->held.start, n->held.count,
                          rows);
}

/* Sorts the choices of a pass's tokens; then tells the ranks of the experts. */
static void arrange(weft_block *b, weft_pass *s, dims *n) {
    const int32_t *ids = (const int32_t *)b->saved[SAVED_IDS] + n->tokens.start * n->k;
    int32_t *slot_of = b->saved[SAVED_SLOT] = push_i32(s, n->slots);
    int32_t *row_of = b->saved[SAVED_ROW] = push_i32(s, n->slots);
    int64_t *offsets = b->saved[SAVED_OFFSETS] = push_i64(s, n->X + 1);
    s->dev->ops->moe_sort(s->dev, offsets, slot_of, row_of, ids, n->tokens.count, n->k, n->X);
    if (n->ep > 1) exchange_counts(b, s, n);
    n->rows = rows_held(b, s, n);
}

/* held [rows,D], in the order of this rank's experts, from every member's slots [slots,D]. */
static void dispatch(weft_block *b, weft_pass *s, const dims *n, const char *suffix, weft_act *held,
                     const weft_act *slots) {
    weft_device *dev = s->dev;
    int64_t row_bytes = n->D * (int64_t)weft_dtype_size(dev->act_dtype);
    size_t mark = weft_arena_mark(&dev->act);
    weft_act *arrived = weft_push_act(s, n->rows * n->D);
    weft_all_to_all(s->comm, WEFT_GROUP_EP, weft_label(b, suffix).text, arrived, b->saved[SAVED_RECEIVED],
                    slots, b->saved[SAVED_SENT], row_bytes, n->slots);
    dev->ops->gather_rows(dev, held, arrived, b->saved[SAVED_HELD_ROW], n->rows, n->D);
    weft_arena_release(&dev->act, mark);
}

/* The way back, which is also the dual of dispatch. */
static void collect(weft_block *b, weft_pass *s, const dims *n, const char *suffix, weft_act *slots,
                    const weft_act *held) {
    weft_device *dev = s->dev;
    int64_t row_bytes = n->D * (int64_t)weft_dtype_size(dev->act_dtype);
    size_t mark = weft_arena_mark(&dev->act);
    weft_act *leaving = weft_push_act(s, n->rows * n->D);
    dev->ops->gather_rows(dev, leaving, held, b->saved[SAVED_HELD_PLACE], n->rows, n->D);
    weft_all_to_all(s->comm, WEFT_GROUP_EP, weft_label(b, suffix).text, slots, b->saved[SAVED_SENT], leaving,
                    b->saved[SAVED_RECEIVED], row_bytes, n->slots);
    weft_arena_release(&dev->act, mark);
}

/* held <- the rows of all tokens' x [M,D] that this rank's experts work on. */
static void fetch_rows(weft_block *b, weft_pass *s, const dims *n, const char *suffix, weft_act *held,
                       const weft_act *x) {
    weft_device *dev = s->dev;
    size_t mark = weft_arena_mark(&dev->act);
    weft_act *slots = n->ep > 1 ? weft_push_act(s, n->slots * n->D) : held;
    dev->ops->gather_rows(dev, slots, weft_cat(s, x, n->tokens.start * n->D), b->saved[SAVED_ROW], n->slots,
                          n->D);
    if (n->ep > 1) dispatch(b, s, n, suffix, held, slots);
    weft_arena_release(&dev->act, mark);
}

/* The same for the weights of the slots, and back for their gradients. */
static void fetch_weights(weft_block *b, weft_pass *s, const dims *n, weft_real *held) {
    weft_device *dev = s->dev;
    const weft_real *w = (const weft_real *)b->saved[SAVED_W] + n->tokens.start * n->k;
    size_t mark = weft_arena_mark(&dev->act);
    weft_real *slots = weft_push_real(s, n->slots), *arrived = weft_push_real(s, n->rows);
    dev->ops->permute_real(dev, slots, w, b->saved[SAVED_SLOT], n->slots, false);
    weft_all_to_all(s->comm, WEFT_GROUP_EP, weft_label(b, "dispatch.w").text, arrived,
                    b->saved[SAVED_RECEIVED], slots, b->saved[SAVED_SENT], sizeof *w, n->slots);
    dev->ops->permute_real(dev, held, arrived, b->saved[SAVED_HELD_PLACE], n->rows, false);
    weft_arena_release(&dev->act, mark);
}
static void return_weights(weft_block *b, weft_pass *s, const dims *n, weft_real *dw, const weft_real *held) {
    weft_device *dev = s->dev;
    size_t mark = weft_arena_mark(&dev->act);
    weft_real *slots = weft_push_real(s, n->slots), *leaving = weft_push_real(s, n->rows);
    dev->ops->permute_real(dev, leaving, held, b->saved[SAVED_HELD_PLACE], n->rows, true);
    weft_all_to_all(s->comm, WEFT_GROUP_EP, weft_label(b, "dispatch.dw").text, slots, b->saved[SAVED_SENT],
                    leaving, b->saved[SAVED_RECEIVED], sizeof *dw, n->slots);
    dev->ops->permute_real(dev, dw + n->tokens.start * n->k, slots, b->saved[SAVED_SLOT], n->slots, true);
    weft_arena_release(&dev->act, mark);
}

/* ---- experts ----------------------------------------------------------------------------------------- */

static void push_buffers(weft_block *b, weft_pass *s, const dims *n) {
    b->saved[SAVED_XS] = weft_push_act(s, n->rows * n->D);
    b->saved[SAVED_GU] = weft_push_act(s, n->rows * 2 * n->F);
    b->saved[SAVED_ACT] = weft_push_act(s, n->rows * n->F);
    b->saved[SAVED_YS] = weft_push_act(s, n->slots * n->D);
}

/* ys [slots,D], partial over tp: the experts' outputs for the slots. */
static void experts(weft_block *b, weft_pass *s, const dims *n) {
    weft_device *dev = s->dev;
    const weft_ops *ops = dev->ops;
    const int64_t *offsets = b->saved[SAVED_OFFSETS];
    int64_t rows = n->rows, g = n->held.count;
    weft_act *gu = b->saved[SAVED_GU], *act = b->saved[SAVED_ACT], *ys = b->saved[SAVED_YS];
    size_t mark = weft_arena_mark(&dev->act);
    weft_act *y = n->ep > 1 ? weft_push_act(s, rows * n->D) : ys;
    ops->grouped_fwd(dev, gu, b->saved[SAVED_XS], weft_weight(b, s, ROW_GATE), n->stride, offsets, g, rows,
                     2 * n->F, n->D);
    ops->swiglu_fwd(dev, act, gu, rows, n->F);
    ops->grouped_fwd(dev, y, act, weft_weight(b, s, ROW_DOWN), n->stride, offsets, g, rows, n->D, n->F);
    if (n->ep > 1) collect(b, s, n, "collect", ys, y);
    weft_arena_release(&dev->act, mark);
}

/* Their outputs' weighted sums: out [tokens,D], partial over tp. */
static void combine(const weft_block *b, weft_pass *s, const dims *n, weft_act *out) {
    const weft_real *w = (const weft_real *)b->saved[SAVED_W] + n->tokens.start * n->k;
    s->dev->ops->moe_combine(s->dev, out, b->saved[SAVED_YS], w, b->saved[SAVED_SLOT], n->tokens.count, n->k,
                             n->D);
}

/* From dgu [rows,2F], the gradient of the experts' first product, and its inputs xs: that of the weights, and
 * of the inputs in the place of xs. */
static void inputs_backward(weft_block *b, weft_pass *s, const dims *n, const weft_act *dgu, weft_act *xs) {
    const int64_t *offsets = b->saved[SAVED_OFFSETS];
    int64_t rows = n->rows, g = n->held.count;
    const weft_ops *ops = s->dev->ops;
    ops->grouped_wgrad(s->dev, weft_grad(b, s, ROW_GATE), n->stride, dgu, xs, offsets, g, rows, 2 * n->F,
                       n->D);
    ops->grouped_dgrad(s->dev, xs, dgu, weft_weight(b, s, ROW_GATE), n->stride, offsets, g, rows, 2 * n->F,
                       n->D);
}

/* From dys [slots,D], the gradient of ys, that of the slots' inputs [slots,D]: in the place of dys or of xs.
 */
static weft_act *experts_backward(weft_block *b, weft_pass *s, const dims *n, weft_act *dys) {
    weft_device *dev = s->dev;
    const weft_ops *ops = dev->ops;
    const int64_t *offsets = b->saved[SAVED_OFFSETS];
    int64_t rows = n->rows, g = n->held.count;
    weft_act *gu = b->saved[SAVED_GU], *xs = b->saved[SAVED_XS];
    size_t mark = weft_arena_mark(&dev->act);
    weft_act *dy = n->ep > 1 ? weft_push_act(s, rows * n->D) : dys;
    if (n->ep > 1) dispatch(b, s, n, "collect.grad", dy, dys);
    weft_act *dact = weft_push_act(s, rows * n->F);
    ops->grouped_wgrad(dev, weft_grad(b, s, ROW_DOWN), n->stride, dy, b->saved[SAVED_ACT], offsets, g, rows,
                       n->D, n->F);
    ops->grouped_dgrad(dev, dact, dy, weft_weight(b, s, ROW_DOWN), n->stride, offsets, g, rows, n->D, n->F);
    ops->swiglu_bwd(dev, gu, dact, gu, rows, n->F);
    inputs_backward(b, s, n, gu, xs);
    weft_arena_release(&dev->act, mark);
    if (n->ep == 1) return xs;
    collect(b, s, n, "dispatch.grad", dys, xs);
    return dys;
}

/* The same where nothing is saved: from all tokens' inputs x and gradients dout [M,D] the gradient of the
 * slots' inputs dxs [slots,D], and that of the weights in dw [M,k]. */
static void experts_again(weft_block *b, weft_pass *s, const dims *n, weft_act *dxs, weft_real *dw,
                          const weft_act *dout, const weft_act *x) {
    weft_device *dev = s->dev;
    const weft_ops *ops = dev->ops;
    const int64_t *offsets = b->saved[SAVED_OFFSETS];
    int64_t rows = n->rows, g = n->held.count;
    size_t mark = weft_arena_mark(&dev->act);
    weft_act *xs = weft_push_act(s, rows * n->D), *dy = weft_push_act(s, rows * n->D);
    weft_act *gu = weft_push_act(s, rows * 2 * n->F), *dact = weft_push_act(s, rows * n->F);
    weft_real *w = weft_push_real(s, rows), *dw_held = weft_push_real(s, rows);
    fetch_rows(b, s, n, "dispatch", xs, x);
    fetch_rows(b, s, n, "collect.grad", dy, dout);
    fetch_weights(b, s, n, w);
    ops->grouped_fwd(dev, gu, xs, weft_weight(b, s, ROW_GATE), n->stride, offsets, g, rows, 2 * n->F, n->D);
    ops->grouped_dgrad(dev, dact, dy, weft_weight(b, s, ROW_DOWN), n->stride, offsets, g, rows, n->D, n->F);
    ops->swiglu_weighted_bwd(dev, gu, dw_held, dact, gu, w, rows, n->F); /* dact <- w * act */
    ops->grouped_wgrad(dev, weft_grad(b, s, ROW_DOWN), n->stride, dy, dact, offsets, g, rows, n->D, n->F);
    inputs_backward(b, s, n, gu, xs);
    collect(b, s, n, "dispatch.grad", dxs, xs);
    return_weights(b, s, n, dw, dw_held);
    weft_arena_release(&dev->act, mark);
}

/* ---- the block --------------------------------------------------------------------------------------- */

/* Leaves what backward needs. */
static void forward_at_once(weft_block *b, weft_pass *s, dims *n, weft_act *out, const weft_act *x) {
    weft_device *dev = s->dev;
    arrange(b, s, n);
    push_buffers(b, s, n);
    size_t mark = weft_arena_mark(&dev->act);
    const weft_act *all_x = weft_gather_tokens(s->comm, dev, weft_label(b, "x").text, x, s->rows, n->D);
    fetch_rows(b, s, n, "dispatch", b->saved[SAVED_XS], all_x);
    weft_arena_release(&dev->act, mark);
    experts(b, s, n);
    if (out) {
        weft_act *part = weft_partial_rows(s->comm, dev, out, s->rows, n->D);
        combine(b, s, n, part);
        weft_scatter_tokens(s->comm, dev, weft_label(b, "out").text, out, part, s->rows, n->D);
    }
    weft_arena_release(&dev->act, mark);
}

/* Leaves nothing. */
static void forward_in_passes(weft_block *b, weft_pass *s, dims *n, weft_act *out, const weft_act *x) {
    weft_device *dev = s->dev;
    size_t mark = weft_arena_mark(&dev->act);
    weft_act *part = weft_partial_rows(s->comm, dev, out, s->rows, n->D);
    const weft_act *all_x = weft_gather_tokens(s->comm, dev, weft_label(b, "x").text, x, s->rows, n->D);
    size_t kept = weft_arena_mark(&dev->act);
    for (int i = 0; i < n->passes; i++) {
        take_pass(n, s, i);
        arrange(b, s, n);
        push_buffers(b, s, n);
        fetch_rows(b, s, n, "dispatch", b->saved[SAVED_XS], all_x);
        experts(b, s, n);
        combine(b, s, n, weft_at(s, part, n->tokens.start * n->D));
        weft_arena_release(&dev->act, kept);
    }
    weft_scatter_tokens(s->comm, dev, weft_label(b, "out").text, out, part, s->rows, n->D);
    weft_arena_release(&dev->act, mark);
}

static void forward(weft_block *b, weft_pass *s, weft_act *out, const weft_act *x) {
    dims n = dims_of(b, s);
    size_t mark = weft_arena_mark(&s->dev->act);
    route(b, s, &n, x);
    if (n.passes == 1)
        forward_at_once(b, s, &n, out, x);
    else if (out)
        forward_in_passes(b, s, &n, out, x);
    if (!s->training) weft_arena_release(&s->dev->act, mark);
}

/* dx [rows,D] without what comes through the router; dw [M,k], partial over tp. */
static void backward_at_once(weft_block *b, weft_pass *s, dims *n, weft_act *dx, weft_real *dw,
                             const weft_act *dout) {
    weft_device *dev = s->dev;
    const int32_t *slot_of = b->saved[SAVED_SLOT];
    weft_act *ys = b->saved[SAVED_YS];
    size_t mark = weft_arena_mark(&dev->act);
    n->rows = rows_held(b, s, n);
    const weft_act *dy = weft_gather_tokens(s->comm, dev, weft_label(b, "dout").text, dout, s->rows, n->D);
    /* The outputs are not needed again: their gradient takes their place. */
    dev->ops->moe_combine_bwd(dev, ys, dw, dy, ys, b->saved[SAVED_W], slot_of, s->M, n->k, n->D);
    weft_arena_release(&dev->act, mark);
    const weft_act *dxs = experts_backward(b, s, n, ys);
    weft_act *part = weft_partial_rows(s->comm, dev, dx, s->rows, n->D);
    dev->ops->gather_rows_bwd(dev, part, dxs, slot_of, s->M, n->k, n->D, false);
    weft_scatter_tokens(s->comm, dev, weft_label(b, "dx").text, dx, part, s->rows, n->D);
    weft_arena_release(&dev->act, mark);
}

static void backward_in_passes(weft_block *b, weft_pass *s, dims *n, weft_act *dx, weft_real *dw,
                               const weft_act *dout, const weft_act *x) {
    weft_device *dev = s->dev;
    size_t mark = weft_arena_mark(&dev->act);
    weft_act *part = weft_partial_rows(s->comm, dev, dx, s->rows, n->D);
    const weft_act *all_x = weft_gather_tokens(s->comm, dev, weft_label(b, "x").text, x, s->rows, n->D);
    const weft_act *dy = weft_gather_tokens(s->comm, dev, weft_label(b, "dout").text, dout, s->rows, n->D);
    size_t kept = weft_arena_mark(&dev->act);
    for (int i = 0; i < n->passes; i++) {
        take_pass(n, s, i);
        arrange(b, s, n);
        weft_act *dxs = weft_push_act(s, n->slots * n->D);
        experts_again(b, s, n, dxs, dw, dy, all_x);
        dev->ops->gather_rows_bwd(dev, weft_at(s, part, n->tokens.start * n->D), dxs, b->saved[SAVED_SLOT],
                                  n->tokens.count, n->k, n->D, false);
        weft_arena_release(&dev->act, kept);
    }
    weft_scatter_tokens(s->comm, dev, weft_label(b, "dx").text, dx, part, s->rows, n->D);
    weft_arena_release(&dev->act, mark);
}

static void backward(weft_block *b, weft_pass *s, weft_act *dx, const weft_act *dout, const weft_act *x) {
    dims n = dims_of(b, s);
    size_t mark = weft_arena_mark(&s->dev->act);
    weft_real *dw = weft_push_real(s, s->M * n.k);
    if (n.passes == 1)
        backward_at_once(b, s, &n, dx, dw, dout);
    else
        backward_in_passes(b, s, &n, dx, dw, dout, x);
    route_backward(b, s, &n, dx, dw, x);
    weft_arena_release(&s->dev->act, mark);
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
