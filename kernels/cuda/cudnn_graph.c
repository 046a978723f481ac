#include "cuda/cudnn_graph.h"

#include <math.h>
#include <string.h>

/* ---- tensors ---- */

typedef struct dims {
    int64_t n[4];
} dims;

static int add_tensor(weft_graph *g, weft_graph_kind kind, weft_graph_type type, dims dim, dims stride) {
    WEFT_CHECK(g->tensors < WEFT_GRAPH_TENSORS, "graph: more than %d tensors", WEFT_GRAPH_TENSORS);
    weft_graph_tensor *t = &g->tensor[g->tensors];
    *t = (weft_graph_tensor){.kind = kind, .type = type};
    memcpy(t->dim, dim.n, sizeof t->dim);
    memcpy(t->stride, stride.n, sizeof t->stride);
    return g->tensors++;
}

static dims dense(dims d) {
    return (dims){{d.n[1] * d.n[2] * d.n[3], d.n[2] * d.n[3], d.n[3], 1}};
}

static int virtual(weft_graph *g, weft_graph_type type, dims dim) {
    return add_tensor(g, WEFT_GRAPH_VIRTUAL, type, dim, dense(dim));
}

static int scalar(weft_graph *g, float value) {
    const dims one = {{1, 1, 1, 1}};
    int t = add_tensor(g, WEFT_GRAPH_SCALAR, WEFT_GRAPH_F32, one, one);
    g->tensor[t].value = value;
    return t;
}

static int array(weft_graph *g, weft_graph_role role, weft_graph_type type, dims dim, dims stride) {
    const int end = g->tensors;
    g->tensors = role;
    add_tensor(g, WEFT_GRAPH_ARRAY, type, dim, stride);
    g->tensors = end;
    return role;
}

/* Rows of T tokens with `heads` heads of d side by side, as [B,heads,T,d]. */
static int rows(weft_graph *g, weft_graph_role role, const weft_graph_shape *s, int64_t heads, int64_t ld) {
    return array(g, role, WEFT_GRAPH_BF16, (dims){{s->B, heads, s->T, s->d}},
                 (dims){{s->T * ld, s->d, ld, 1}});
}
/* The same as [B,heads,d,T]. */
static int columns(weft_graph *g, weft_graph_role role, const weft_graph_shape *s, int64_t heads,
                   int64_t ld) {
    return array(g, role, WEFT_GRAPH_BF16, (dims){{s->B, heads, s->d, s->T}},
                 (dims){{s->T * ld, s->d, 1, ld}});
}
/* A number for every query and head. */
static int statistic(weft_graph *g, weft_graph_role role, const weft_graph_shape *s) {
    const dims dim = {{s->B, s->H, s->T, 1}};
    return array(g, role, WEFT_GRAPH_F32, dim, dense(dim));
}

/* ---- operations ---- */

static int op(weft_graph *g, weft_graph_mode mode, int x, int b, int y) {
    WEFT_CHECK(g->ops < WEFT_GRAPH_OPS, "graph: more than %d operations", WEFT_GRAPH_OPS);
    g->op[g->ops++] = (weft_graph_op){.mode = mode, .axis = -1, .x = x, .b = b, .t = -1, .y = y};
    return y;
}

static int transpose(weft_graph *g, weft_graph_type type, int x) {
    const weft_graph_tensor *from = &g->tensor[x];
    const dims dim = {{from->dim[0], from->dim[1], from->dim[3], from->dim[2]}};
    const dims stride = {{from->stride[0], from->stride[1], from->stride[3], from->stride[2]}};
    return op(g, WEFT_GRAPH_TRANSPOSE, x, -1, add_tensor(g, WEFT_GRAPH_VIRTUAL, type, dim, stride));
}

static int place(weft_graph *g, int x, int axis, dims dim) {
    int y = op(g, WEFT_GRAPH_INDEX, x, -1, virtual(g, WEFT_GRAPH_I32, dim));
    g->op[g->ops - 1].axis = axis;
    return y;
}

/* x where the key does not come after the query, minus infinity elsewhere. */
static int causal(weft_graph *g, int x, dims scores) {
    int query = place(g, x, 2, scores), key = place(g, x, 3, scores);
    int seen = op(g, WEFT_GRAPH_NOT_LESS, query, key, virtual(g, WEFT_GRAPH_BOOL, scores));
    int y = op(g, WEFT_GRAPH_SELECT, x, scalar(g, -INFINITY), virtual(g, WEFT_GRAPH_F32, scores));
    g->op[g->ops - 1].t = seen;
    return y;
}

/* ---- attention ---- */

static void forward(weft_graph *g, const weft_graph_shape *s) {
    const dims scores = {{s->B, s->H, s->T, s->T}}, each = {{s->B, s->H, s->T, 1}};
    const weft_graph_type f32 = WEFT_GRAPH_F32;
    int q = rows(g, WEFT_GRAPH_Q, s, s->H, s->ldq), k = columns(g, WEFT_GRAPH_K, s, s->G, s->ldk);
    int v = rows(g, WEFT_GRAPH_V, s, s->G, s->ldv), o = rows(g, WEFT_GRAPH_O, s, s->H, s->ldo);
    int lse = statistic(g, WEFT_GRAPH_LSE, s);

    int products = op(g, WEFT_GRAPH_MATMUL, q, k, virtual(g, f32, scores));
    int scaled = op(g, WEFT_GRAPH_MUL, products, scalar(g, s->scale), virtual(g, f32, scores));
    int masked = causal(g, scaled, scores);
    int top = op(g, WEFT_GRAPH_MAX, masked, -1, virtual(g, f32, each));
    int below = op(g, WEFT_GRAPH_SUB, masked, top, virtual(g, f32, scores));
    int weight = op(g, WEFT_GRAPH_EXP, below, -1, virtual(g, f32, scores));
    int sum = op(g, WEFT_GRAPH_SUM, weight, -1, virtual(g, f32, each));
    int log_sum = op(g, WEFT_GRAPH_LOG, sum, -1, virtual(g, f32, each));
    op(g, WEFT_GRAPH_ADD, top, log_sum, lse);
    int p = op(g, WEFT_GRAPH_DIV, weight, sum, virtual(g, WEFT_GRAPH_BF16, scores));
    op(g, WEFT_GRAPH_MATMUL, p, v, o);
}

/* dk or dv = x y: the gradient of a key head is the sum over the query heads that use it. */
static void keys_gradient(weft_graph *g, const weft_graph_shape *s, int x, int y, weft_graph_role role,
                          int64_t ld) {
    int out = rows(g, role, s, s->G, ld);
    if (s->G == s->H) {
        op(g, WEFT_GRAPH_MATMUL, x, y, out);
        return;
    }
    const dims dim = {{s->B, s->H, s->T, s->d}};
    int each = op(g, WEFT_GRAPH_MATMUL, x, y, virtual(g, WEFT_GRAPH_BF16, dim));
    op(g, WEFT_GRAPH_SUM, each, -1, out);
}

static void backward(weft_graph *g, const weft_graph_shape *s) {
    const dims scores = {{s->B, s->H, s->T, s->T}}, each = {{s->B, s->H, s->T, 1}};
    const dims heads = {{s->B, s->H, s->T, s->d}};
    const weft_graph_type f32 = WEFT_GRAPH_F32, bf16 = WEFT_GRAPH_BF16;
    int q = rows(g, WEFT_GRAPH_Q, s, s->H, s->ldq), k = columns(g, WEFT_GRAPH_K, s, s->G, s->ldk);
    int v = columns(g, WEFT_GRAPH_V, s, s->G, s->ldv), o = rows(g, WEFT_GRAPH_O, s, s->H, s->ldo);
    int dout = rows(g, WEFT_GRAPH_DOUT, s, s->H, s->ldo), dq = rows(g, WEFT_GRAPH_DQ, s, s->H, s->ldq);
    int lse = statistic(g, WEFT_GRAPH_LSE, s), delta = statistic(g, WEFT_GRAPH_DELTA, s);

    /* delta = sum_e dO o. The factor 1 stands where dropout would: cuDNN looks for it. */
    int products = op(g, WEFT_GRAPH_MUL, dout, o, virtual(g, f32, heads));
    int sums = op(g, WEFT_GRAPH_SUM, products, -1, virtual(g, f32, each));
    op(g, WEFT_GRAPH_MUL, sums, scalar(g, 1), delta);

    /* P = exp(scale q k^T - lse);  dV = P^T dO */
    const int scale = scalar(g, s->scale);
    int dots = op(g, WEFT_GRAPH_MATMUL, q, k, virtual(g, f32, scores));
    int scaled = op(g, WEFT_GRAPH_MUL, dots, scale, virtual(g, f32, scores));
    int below = op(g, WEFT_GRAPH_SUB, scaled, lse, virtual(g, f32, scores));
    int p = op(g, WEFT_GRAPH_EXP, causal(g, below, scores), -1, virtual(g, f32, scores));
    keys_gradient(g, s, transpose(g, bf16, p), dout, WEFT_GRAPH_DV, s->ldv);

    /* dP = dO V^T;  dS = scale P (dP - delta);  dK = dS^T q;  dQ = dS K */
    int dp = op(g, WEFT_GRAPH_MATMUL, dout, v, virtual(g, f32, scores));
    int centred = op(g, WEFT_GRAPH_SUB, dp, delta, virtual(g, f32, scores));
    int weighted = op(g, WEFT_GRAPH_MUL, centred, p, virtual(g, f32, scores));
    int ds = op(g, WEFT_GRAPH_MUL, weighted, scale, virtual(g, f32, scores));
    keys_gradient(g, s, transpose(g, bf16, ds), q, WEFT_GRAPH_DK, s->ldk);
    op(g, WEFT_GRAPH_MATMUL, ds, transpose(g, bf16, k), dq);
}

void weft_graph_attention(weft_graph *g, const weft_graph_shape *s) {
    *g = (weft_graph){.tensors = WEFT_GRAPH_ROLES};
    if (s->backward)
        backward(g, s);
    else
        forward(g, s);
}

/* ---- workspace ---- */

/* Backward: dS in bf16, whole tiles of it, and for grouped heads dK and dV of every query head in float. The
 * engines for Ampere and Hopper ask for this (with bf16 for the second part), that for Blackwell for the
 * second part only. Forward plans ask for 256 bytes at most. */
size_t weft_graph_workspace(const weft_graph_shape *s) {
    enum { FEW = 4096, QUERIES = 64, KEYS = 128 };
    if (!s->backward) return FEW;
    const int64_t queries = (s->T + QUERIES - 1) / QUERIES * QUERIES, keys = (s->T + KEYS - 1) / KEYS * KEYS;
    const int64_t scores = s->B * s->H * queries * keys, each = s->G < s->H ? s->B * s->H * s->T * s->d : 0;
    return FEW + (size_t)scores * 2 + (size_t)each * 2 * sizeof(float);
}

/* The largest divisor of *n, as which it is put in its place, that keeps s within the limit; or 1. */
static bool shrink(weft_graph_shape *s, int64_t *n, int64_t *along, int64_t each, size_t limit) {
    const int64_t all = *n;
    for (int64_t parts = 1; parts <= all; parts++) {
        if (all % parts) continue;
        *n = all / parts;
        if (along) *along = *n * each;
        if (weft_graph_workspace(s) <= limit) return true;
    }
    return false;
}

bool weft_graph_slice(weft_graph_shape *s, size_t limit) {
    return shrink(s, &s->B, NULL, 0, limit) || shrink(s, &s->G, &s->H, s->H / s->G, limit);
}
