/* Mamba-1 mixer (Gu and Dao, arXiv 2312.00752) with Jamba's RMSNorms of dt, B and C (arXiv 2403.19887,
 * section 6.4).
 *   x|z = in_proj(h);  u = silu(conv(x));  dt|B|C = x_proj(u);  dt, B, C = RMSNorm each
 *   delta = softplus(dt_proj(dt) + bias);  y = scan(u, delta, A, B, C) + D u;  out = out_proj(y silu(z))
 *
 * Split over tp by inner channels E (x and z halves apart), x_proj by columns: its products dt|B|C are summed
 * over tp before the norms, and their gradients are, once, behind the norms; so the norms do the same on
 * every rank.
 *
 * Split over cp by tokens: a chunk's convolution needs the K-1 rows before it (the halo), its scan the state
 * before it. Each chunk scans from zeros first; from the ends of these scans and the sums of delta every rank
 * works out the states before its chunks and scans again. Backward likewise, from the sequence's end. */
#include "model/block.h"

#include <math.h>
#include <stdio.h>

enum {
    ROW_X,
    ROW_Z,
    ROW_X_BIAS,
    ROW_Z_BIAS,
    ROW_CONV,
    ROW_CONV_BIAS,
    ROW_X_PROJ,
    ROW_DT_NORM,
    ROW_B_NORM,
    ROW_C_NORM,
    ROW_DT,
    ROW_DT_BIAS,
    ROW_A_LOG,
    ROW_D,
    ROW_OUT,
    ROW_OUT_BIAS,
    ROWS
};
enum {
    SAVED_XZ,
    SAVED_U,
    SAVED_XDBC,
    SAVED_NORMED,
    SAVED_RSTD,
    SAVED_DT,
    SAVED_Y,
    SAVED_GATED,
    SAVED_STATES,
    SAVED_HALO, /* with cp: rows of x before each chunk [B*C,K-1,E]; NULL: zeros */
    SAVED_SIGMA /* with cp: sums of delta [B*C,E] */
};

typedef struct dims {
    int64_t D, E, N, K, R, W; /* W = R + 2N */
    weft_real eps;
} dims;

static dims dims_of_model(const weft_block *b) {
    const weft_model_config *c = b->config;
    dims n = {.D = c->hidden_size,
              .E = weft_d_inner(c),
              .N = c->mamba_d_state,
              .K = c->mamba_d_conv,
              .R = weft_dt_rank(c),
              .eps = (weft_real)c->rms_norm_eps};
    n.W = n.R + 2 * n.N;
    return n;
}

/* Of this rank's slice. */
static dims dims_of(const weft_block *b) {
    dims n = dims_of_model(b);
    n.E = b->table->rows[b->row[ROW_X]].extent[0];
    return n;
}

static void add(weft_block *b, weft_params *p, int i, weft_param row, const char *gguf, bool joined) {
    snprintf(row.gguf_name, sizeof row.gguf_name, "blk.%lld.%s", (long long)b->layer, gguf);
    b->row[i] = weft_params_add(p, &row, joined);
}

static weft_param split_channels(weft_param row) {
    row.split = WEFT_SHARD, row.split_dim = 0;
    return row;
}

/* Tensors whose Hugging Face name has no ".weight", or is a bias. */
static weft_param renamed(weft_block *b, weft_param row, const char *hf_tail) {
    snprintf(row.hf_name, sizeof row.hf_name, "model.layers.%lld.mamba.%s", (long long)b->layer, hf_tail);
    return row;
}

static void declare(weft_block *b, const weft_model_config *c, weft_params *p) {
    dims n = dims_of_model(b);
    double range = c->initializer_range;
    int64_t l = b->layer;
    char hf[WEFT_PARAM_NAME];
    for (int i = 0; i < ROWS; i++) b->row[i] = -1;

    snprintf(hf, sizeof hf, "model.layers.%lld.mamba.in_proj.weight", (long long)l);
    weft_param x = weft_param_matrix(l, "mamba.in_proj.x", n.E, n.D, 0, range);
    weft_param z = weft_param_matrix(l, "mamba.in_proj.z", n.E, n.D, 0, range);
    weft_param_hf_part(&x, hf, 0, 2 * n.E);
    weft_param_hf_part(&z, hf, n.E, 2 * n.E);
    add(b, p, ROW_X, x, "ssm_in.weight", false);
    add(b, p, ROW_Z, z, "ssm_in.weight", true); /* x and z: one matrix [2E, D] */
    if (c->mamba_proj_bias) {
        snprintf(hf, sizeof hf, "model.layers.%lld.mamba.in_proj.bias", (long long)l);
        x = split_channels(weft_param_vector(l, "mamba.in_proj.x_bias", n.E, WEFT_INIT_ZEROS));
        z = split_channels(weft_param_vector(l, "mamba.in_proj.z_bias", n.E, WEFT_INIT_ZEROS));
        weft_param_hf_part(&x, hf, 0, 2 * n.E);
        weft_param_hf_part(&z, hf, n.E, 2 * n.E);
        add(b, p, ROW_X_BIAS, x, "ssm_in.bias", false);
        add(b, p, ROW_Z_BIAS, z, "ssm_in.bias", true);
    }

    weft_param conv = weft_param_matrix(l, "mamba.conv1d", n.E, n.K, 0, 1 / sqrt((double)n.K));
    conv.init = WEFT_INIT_UNIFORM;
    conv.hf_ndim = 3;
    conv.hf_shape[1] = 1, conv.hf_shape[2] = n.K;
    add(b, p, ROW_CONV, conv, "ssm_conv1d.weight", false);
    if (c->mamba_conv_bias) {
        weft_param bias = split_channels(weft_param_vector(l, "mamba.conv1d_bias", n.E, WEFT_INIT_UNIFORM));
        bias.init_scale = 1 / sqrt((double)n.K);
        add(b, p, ROW_CONV_BIAS, renamed(b, bias, "conv1d.bias"), "ssm_conv1d.bias", false);
    }
    add(b, p, ROW_X_PROJ, weft_param_matrix(l, "mamba.x_proj", n.W, n.E, 1, range), "ssm_x.weight", false);
    if (c->mamba_inner_norm) {
        add(b, p, ROW_DT_NORM, weft_param_vector(l, "mamba.dt_layernorm", n.R, WEFT_INIT_ONES),
            "ssm_dt_norm.weight", false);
        add(b, p, ROW_B_NORM, weft_param_vector(l, "mamba.b_layernorm", n.N, WEFT_INIT_ONES),
            "ssm_b_norm.weight", false);
        add(b, p, ROW_C_NORM, weft_param_vector(l, "mamba.c_layernorm", n.N, WEFT_INIT_ONES),
            "ssm_c_norm.weight", false);
    }
    weft_param dt = weft_param_matrix(l, "mamba.dt_proj", n.E, n.R, 0, 1 / sqrt((double)n.R));
    dt.init = WEFT_INIT_UNIFORM;
    add(b, p, ROW_DT, dt, "ssm_dt.weight", false);
    weft_param dt_bias = split_channels(weft_param_vector(l, "mamba.dt_bias", n.E, WEFT_INIT_DT_BIAS));
    dt_bias.full = true;
    add(b, p, ROW_DT_BIAS, renamed(b, dt_bias, "dt_proj.bias"), "ssm_dt.bias", false);
    weft_param a_log = weft_param_matrix(l, "mamba.A_log", n.E, n.N, 0, 0);
    a_log.init = WEFT_INIT_A_LOG;
    a_log.decay = false;
    a_log.full = true;
    add(b, p, ROW_A_LOG, renamed(b, a_log, "A_log"), "ssm_a", false);
    weft_param d = split_channels(weft_param_vector(l, "mamba.D", n.E, WEFT_INIT_ONES));
    d.full = true;
    add(b, p, ROW_D, renamed(b, d, "D"), "ssm_d", false);
    add(b, p, ROW_OUT, weft_param_matrix(l, "mamba.out_proj", n.D, n.E, 1, weft_residual_scale(c)),
        "ssm_out.weight", false);
    if (c->mamba_proj_bias)
        add(b, p, ROW_OUT_BIAS,
            renamed(b, weft_param_vector(l, "mamba.out_proj_bias", n.D, WEFT_INIT_ZEROS), "out_proj.bias"),
            "ssm_out.bias", false);
}

static const weft_act *optional(const weft_block *b, const weft_pass *s, int i) {
    return b->row[i] < 0 ? NULL : weft_weight(b, s, i);
}
static weft_real *optional_grad(const weft_block *b, const weft_pass *s, int i) {
    return b->row[i] < 0 ? NULL : weft_grad(b, s, i);
}

/* What all tp ranks hold alike, and add once to the sum over tp, is the first one's. */
static bool first_of_tp(const weft_pass *s) {
    return weft_axis_index(s, WEFT_AXIS_TP) == 0;
}

static weft_conv conv_problem(weft_block *b, weft_pass *s) {
    dims n = dims_of(b);
    return (weft_conv){.B = s->B * s->C,
                       .T = s->L,
                       .E = n.E,
                       .K = n.K,
                       .ldx = 2 * n.E,
                       .ldy = n.E,
                       .x = b->saved[SAVED_XZ],
                       .w = weft_weight(b, s, ROW_CONV),
                       .bias = optional(b, s, ROW_CONV_BIAS),
                       .doc_start = s->doc_local,
                       .pos0 = s->pos0,
                       .halo = b->saved[SAVED_HALO]};
}

/* dt|B|C as they go into the scan: without inner norms the products of x_proj as they are. */
static weft_act *dbc_of(const weft_block *b) {
    return b->saved[b->config->mamba_inner_norm ? SAVED_NORMED : SAVED_XDBC];
}

static weft_scan scan_problem(weft_block *b, weft_pass *s) {
    dims n = dims_of(b);
    return (weft_scan){.B = s->B * s->C,
                       .T = s->L,
                       .E = n.E,
                       .N = n.N,
                       .ldu = n.E,
                       .lddt = n.E,
                       .ldz = 2 * n.E,
                       .ldbc = n.W,
                       .ldy = n.E,
                       .u = b->saved[SAVED_U],
                       .dt = b->saved[SAVED_DT],
                       .z = weft_at(s, b->saved[SAVED_XZ], n.E),
                       .Bm = weft_at(s, dbc_of(b), n.R),
                       .Cm = weft_at(s, dbc_of(b), n.R + n.N),
                       .dt_bias = weft_weight_real(b, s, ROW_DT_BIAS),
                       .A_log = weft_weight_real(b, s, ROW_A_LOG),
                       .D = weft_weight_real(b, s, ROW_D),
                       .doc_start = s->doc_local,
                       .pos0 = s->pos0,
                       .y = b->saved[SAVED_Y],
                       .states = b->saved[SAVED_STATES]};
}

/* The three slices of dt|B|C: row of the norm, first column, width. */
typedef struct slice {
    int row;
    int64_t at, width;
} slice;
static void slices_of(dims n, slice out[3]) {
    out[0] = (slice){ROW_DT_NORM, 0, n.R};
    out[1] = (slice){ROW_B_NORM, n.R, n.N};
    out[2] = (slice){ROW_C_NORM, n.R + n.N, n.N};
}

/* ---- between the chunks of a sequence (cp) ------------------------------------------------------- */

static void pass_halo(weft_block *b, weft_pass *s) {
    dims n = dims_of(b);
    int64_t chunks = s->B * s->C, taps = n.K - 1;
    size_t mark = weft_arena_mark(&s->dev->act);
    weft_act *tail = weft_push_act(s, chunks * taps * n.E);
    for (int64_t i = 0; i < chunks; i++) {
        const weft_act *last = weft_cat(s, b->saved[SAVED_XZ], ((i + 1) * s->L - taps) * 2 * n.E);
        s->dev->ops->copy_rows(s->dev, weft_at(s, tail, i * taps * n.E), n.E, last, 2 * n.E, taps, n.E);
    }
    weft_pass_halo(s->comm, s->dev, weft_label(b, "conv").text, b->saved[SAVED_HALO], tail, s->B, taps * n.E);
    weft_arena_release(&s->dev->act, mark);
}

/* The gradients of the halos go back to the rows that they are copies of; they are added to dx. */
static void return_halo(weft_block *b, weft_pass *s, weft_act *dx, const weft_act *dhalo) {
    dims n = dims_of(b);
    int64_t chunks = s->B * s->C, taps = n.K - 1;
    size_t mark = weft_arena_mark(&s->dev->act);
    weft_act *tail = weft_push_act(s, chunks * taps * n.E);
    weft_return_halo(s->comm, s->dev, weft_label(b, "dconv").text, tail, dhalo, s->B, taps * n.E);
    for (int64_t i = 0; i < chunks; i++)
        for (int64_t k = 0; k < taps; k++) {
            weft_act *row = weft_at(s, dx, ((i + 1) * s->L - taps + k) * 2 * n.E);
            s->dev->ops->add(s->dev, row, row, weft_cat(s, tail, (i * taps + k) * n.E), n.E);
        }
    weft_arena_release(&s->dev->act, mark);
}

/* The states before this rank's chunks [B,C,E,N]; reverse: the gradients of the states after them, for which
 * scan.dout is given. Pushed. */
static weft_real *carried_states(weft_block *b, weft_pass *s, weft_scan scan, bool reverse) {
    const weft_ops *ops = s->dev->ops;
    int cp = weft_axis_size(s, WEFT_AXIS_CP), rank = weft_axis_index(s, WEFT_AXIS_CP);
    int64_t sums = scan.B * scan.E, states = sums * scan.N, block = states + sums;
    weft_real *out = weft_push_real(s, states), *sigma = b->saved[SAVED_SIGMA];
    size_t mark = weft_arena_mark(&s->dev->act);
    weft_real *parts = weft_push_real(s, cp * block), *own = parts + rank * block;
    if (reverse) {
        scan.dh0 = own;
        ops->scan_bwd_state(s->dev, &scan);
    } else {
        scan.y = scan.out = NULL;
        scan.states = NULL;
        scan.hT = own;
        scan.sigma = sigma;
        ops->scan_fwd(s->dev, &scan);
    }
    ops->copy(s->dev, own + states, sigma, (size_t)sums * sizeof *sigma);
    weft_gather_states(s->comm, weft_label(b, reverse ? "dstate" : "state").text, parts, block);
    weft_carry carry = {.B = s->B,
                        .E = scan.E,
                        .N = scan.N,
                        .cp = cp,
                        .rank = rank,
                        .reverse = reverse,
                        .parts = parts,
                        .A_log = scan.A_log,
                        .stride = block,
                        .out = out};
    ops->scan_carry(s->dev, &carry);
    weft_arena_release(&s->dev->act, mark);
    return out;
}

/* ---- forward ------------------------------------------------------------------------------------ */

/* Everything that backward needs. States are needed by nothing else. */
static void push_saved(weft_block *b, weft_pass *s) {
    dims n = dims_of(b);
    int64_t chunks = s->B * s->C;
    bool norm = b->config->mamba_inner_norm;
    b->saved[SAVED_XZ] = weft_push_act(s, s->M * 2 * n.E);
    b->saved[SAVED_U] = weft_push_act(s, s->M * n.E);
    b->saved[SAVED_XDBC] = weft_push_act(s, s->M * n.W);
    b->saved[SAVED_DT] = weft_push_act(s, s->M * n.E);
    b->saved[SAVED_Y] = weft_push_act(s, s->M * n.E);
    b->saved[SAVED_GATED] = weft_push_act(s, s->M * n.E);
    b->saved[SAVED_NORMED] = norm ? weft_push_act(s, s->M * n.W) : NULL;
    b->saved[SAVED_RSTD] = norm ? weft_push_real(s, 3 * s->M) : NULL;
    b->saved[SAVED_STATES] =
        s->training ? weft_push_real(s, weft_scan_states_size(chunks, s->L, n.E, n.N)) : NULL;
    b->saved[SAVED_HALO] = s->C > 1 && n.K > 1 ? weft_push_act(s, chunks * (n.K - 1) * n.E) : NULL;
    b->saved[SAVED_SIGMA] = s->C > 1 ? weft_push_real(s, chunks * n.E) : NULL;
}

static void project_in(weft_block *b, weft_pass *s, const weft_act *x) {
    dims n = dims_of(b);
    size_t mark = weft_arena_mark(&s->dev->act);
    x = weft_gather_tokens(s->comm, s->dev, weft_label(b, "x").text, x, s->rows, n.D);
    s->dev->ops->linear_fwd(s->dev, b->saved[SAVED_XZ], 2 * n.E, x, n.D, weft_weight(b, s, ROW_X),
                            optional(b, s, ROW_X_BIAS), s->M, 2 * n.E, n.D, false);
    weft_arena_release(&s->dev->act, mark);
}

static void convolve(weft_block *b, weft_pass *s, const weft_block_cache *cache) {
    if (b->saved[SAVED_HALO]) pass_halo(b, s);
    weft_conv conv = conv_problem(b, s);
    conv.y = b->saved[SAVED_U];
    if (cache) conv.halo = conv.halo_out = cache->conv;
    s->dev->ops->conv_fwd(s->dev, &conv);
}

/* dt|B|C, normalised, and dt_proj. */
static void project_dbc(weft_block *b, weft_pass *s) {
    dims n = dims_of(b);
    const weft_ops *ops = s->dev->ops;
    weft_act *xdbc = b->saved[SAVED_XDBC], *normed = b->saved[SAVED_NORMED];
    weft_real *rstd = b->saved[SAVED_RSTD];
    ops->linear_fwd(s->dev, xdbc, n.W, b->saved[SAVED_U], n.E, weft_weight(b, s, ROW_X_PROJ), NULL, s->M, n.W,
                    n.E, false);
    weft_sum_partial(s->comm, s->dev, weft_label(b, "x_proj").text, xdbc, s->M * n.W);
    slice part[3];
    slices_of(n, part);
    for (int i = 0; normed && i < 3; i++)
        ops->rmsnorm_fwd(s->dev, weft_at(s, normed, part[i].at), n.W, rstd + i * s->M, NULL,
                         weft_at(s, xdbc, part[i].at), n.W, NULL, weft_weight(b, s, part[i].row), n.eps, s->M,
                         part[i].width);
    ops->linear_fwd(s->dev, b->saved[SAVED_DT], n.E, dbc_of(b), n.W, weft_weight(b, s, ROW_DT), NULL, s->M,
                    n.E, n.R, false);
}

static void scan_forward(weft_block *b, weft_pass *s, const weft_block_cache *cache) {
    size_t mark = weft_arena_mark(&s->dev->act);
    weft_scan scan = scan_problem(b, s);
    if (s->C > 1) scan.h0 = carried_states(b, s, scan, false);
    if (cache) scan.h0 = scan.hT = cache->state;
    scan.out = b->saved[SAVED_GATED];
    s->dev->ops->scan_fwd(s->dev, &scan);
    weft_arena_release(&s->dev->act, mark);
}

static void project_out(weft_block *b, weft_pass *s, weft_act *out) {
    dims n = dims_of(b);
    const weft_act *bias = first_of_tp(s) ? optional(b, s, ROW_OUT_BIAS) : NULL;
    size_t mark = weft_arena_mark(&s->dev->act);
    weft_act *all = weft_partial_rows(s->comm, s->dev, out, s->rows, n.D);
    s->dev->ops->linear_fwd(s->dev, all, n.D, b->saved[SAVED_GATED], n.E, weft_weight(b, s, ROW_OUT), bias,
                            s->M, n.D, n.E, false);
    weft_scatter_tokens(s->comm, s->dev, weft_label(b, "out").text, out, all, s->rows, n.D);
    weft_arena_release(&s->dev->act, mark);
}

static void watch_inside(const weft_block *b, const weft_pass *s) {
    dims n = dims_of(b);
    weft_watch_inside(b, s, "u", b->saved[SAVED_U], n.E, s->M, n.E);
    weft_watch_inside(b, s, "x_proj", b->saved[SAVED_XDBC], n.W, s->M, n.W);
    weft_watch_inside(b, s, "dbc", dbc_of(b), n.W, s->M, n.W);
    weft_watch_inside(b, s, "gated", b->saved[SAVED_GATED], n.E, s->M, n.E);
}

static void forward(weft_block *b, weft_pass *s, weft_act *out, const weft_act *x) {
    const weft_block_cache *cache = s->caches ? &s->caches[b->index] : NULL;
    size_t mark = weft_arena_mark(&s->dev->act);
    push_saved(b, s);
    project_in(b, s, x);
    convolve(b, s, cache);
    project_dbc(b, s);
    scan_forward(b, s, cache);
    watch_inside(b, s);
    if (out) project_out(b, s, out);
    if (!s->training) weft_arena_release(&s->dev->act, mark);
}

/* ---- backward ----------------------------------------------------------------------------------- */

/* Gradients of activations between the steps of backward. */
typedef struct gradients {
    weft_act *xz, *u, *dt, *gated;
    weft_act *dbc; /* of the normalised dt|B|C, then of the raw one */
} gradients;

static void project_out_backward(weft_block *b, weft_pass *s, const gradients *g, const weft_act *dout) {
    dims n = dims_of(b);
    const weft_ops *ops = s->dev->ops;
    weft_real *bias = first_of_tp(s) ? optional_grad(b, s, ROW_OUT_BIAS) : NULL;
    size_t mark = weft_arena_mark(&s->dev->act);
    dout = weft_gather_tokens(s->comm, s->dev, weft_label(b, "dout").text, dout, s->rows, n.D);
    ops->linear_wgrad(s->dev, weft_grad(b, s, ROW_OUT), bias, dout, n.D, b->saved[SAVED_GATED], n.E, s->M,
                      n.D, n.E);
    ops->linear_dgrad(s->dev, g->gated, n.E, dout, n.D, weft_weight(b, s, ROW_OUT), s->M, n.D, n.E, false);
    weft_arena_release(&s->dev->act, mark);
}

static void scan_backward(weft_block *b, weft_pass *s, const gradients *g) {
    dims n = dims_of(b);
    size_t mark = weft_arena_mark(&s->dev->act);
    weft_scan scan = scan_problem(b, s);
    scan.dout = g->gated;
    if (s->C > 1) scan.dhT = carried_states(b, s, scan, true);
    scan.du = g->u;
    scan.ddt = g->dt;
    scan.dz = weft_at(s, g->xz, n.E);
    scan.dB = weft_at(s, g->dbc, n.R);
    scan.dC = weft_at(s, g->dbc, n.R + n.N);
    scan.ddt_bias = weft_grad(b, s, ROW_DT_BIAS);
    scan.dA_log = weft_grad(b, s, ROW_A_LOG);
    scan.dD = weft_grad(b, s, ROW_D);
    s->dev->ops->scan_bwd(s->dev, &scan);
    weft_arena_release(&s->dev->act, mark);
}

/* The norms' weights have the same gradient on every tp rank: the others' goes nowhere. */
static void norms_backward(weft_block *b, weft_pass *s, weft_act *dbc) {
    dims n = dims_of(b);
    slice part[3];
    slices_of(n, part);
    size_t mark = weft_arena_mark(&s->dev->act);
    const weft_real *rstd = b->saved[SAVED_RSTD];
    weft_real *unused = weft_axis_size(s, WEFT_AXIS_TP) > 1 ? weft_push_real(s, n.W) : NULL;
    if (unused) s->dev->ops->zero(s->dev, unused, (size_t)n.W * sizeof *unused);
    for (int i = 0; i < 3; i++) {
        weft_act *d = weft_at(s, dbc, part[i].at);
        weft_real *dw = first_of_tp(s) ? weft_grad(b, s, part[i].row) : unused;
        s->dev->ops->rmsnorm_bwd(s->dev, d, n.W, dw, d, n.W, weft_at(s, b->saved[SAVED_XDBC], part[i].at),
                                 n.W, rstd + i * s->M, weft_weight(b, s, part[i].row), s->M, part[i].width,
                                 false);
    }
    weft_arena_release(&s->dev->act, mark);
}

/* Through dt_proj, norms and x_proj. */
static void project_dbc_backward(weft_block *b, weft_pass *s, const gradients *g) {
    dims n = dims_of(b);
    const weft_ops *ops = s->dev->ops;
    ops->linear_wgrad(s->dev, weft_grad(b, s, ROW_DT), NULL, g->dt, n.E, dbc_of(b), n.W, s->M, n.E, n.R);
    ops->linear_dgrad(s->dev, g->dbc, n.W, g->dt, n.E, weft_weight(b, s, ROW_DT), s->M, n.E, n.R, false);
    /* dt, B and C serve all channels: each rank has its channels' part of their gradients. */
    weft_sum_partial(s->comm, s->dev, weft_label(b, "dx_proj").text, g->dbc, s->M * n.W);
    if (b->config->mamba_inner_norm) norms_backward(b, s, g->dbc);
    ops->linear_wgrad(s->dev, weft_grad(b, s, ROW_X_PROJ), NULL, g->dbc, n.W, b->saved[SAVED_U], n.E, s->M,
                      n.W, n.E);
    ops->linear_dgrad(s->dev, g->u, n.E, g->dbc, n.W, weft_weight(b, s, ROW_X_PROJ), s->M, n.W, n.E, true);
}

static void convolve_backward(weft_block *b, weft_pass *s, const gradients *g) {
    dims n = dims_of(b);
    size_t mark = weft_arena_mark(&s->dev->act);
    weft_conv conv = conv_problem(b, s);
    conv.dy = g->u;
    conv.dx = g->xz;
    conv.dw = weft_grad(b, s, ROW_CONV);
    conv.dbias = optional_grad(b, s, ROW_CONV_BIAS);
    if (conv.halo) conv.dhalo = weft_push_act(s, conv.B * (n.K - 1) * n.E);
    s->dev->ops->conv_bwd(s->dev, &conv);
    if (conv.halo) return_halo(b, s, g->xz, conv.dhalo);
    weft_arena_release(&s->dev->act, mark);
}

static void project_in_backward(weft_block *b, weft_pass *s, weft_act *dx, const gradients *g,
                                const weft_act *x) {
    dims n = dims_of(b);
    const weft_ops *ops = s->dev->ops;
    size_t mark = weft_arena_mark(&s->dev->act);
    x = weft_gather_tokens(s->comm, s->dev, weft_label(b, "x").text, x, s->rows, n.D);
    ops->linear_wgrad(s->dev, weft_grad(b, s, ROW_X), optional_grad(b, s, ROW_X_BIAS), g->xz, 2 * n.E, x, n.D,
                      s->M, 2 * n.E, n.D);
    weft_arena_release(&s->dev->act, mark);
    weft_act *all = weft_partial_rows(s->comm, s->dev, dx, s->rows, n.D);
    ops->linear_dgrad(s->dev, all, n.D, g->xz, 2 * n.E, weft_weight(b, s, ROW_X), s->M, 2 * n.E, n.D, false);
    weft_scatter_tokens(s->comm, s->dev, weft_label(b, "dx").text, dx, all, s->rows, n.D);
    weft_arena_release(&s->dev->act, mark);
}

static void backward(weft_block *b, weft_pass *s, weft_act *dx, const weft_act *dout, const weft_act *x) {
    dims n = dims_of(b);
    size_t mark = weft_arena_mark(&s->dev->act);
    gradients g;
    g.xz = weft_push_act(s, s->M * 2 * n.E);
    g.u = weft_push_act(s, s->M * n.E);
    g.dt = weft_push_act(s, s->M * n.E);
    g.gated = weft_push_act(s, s->M * n.E);
    g.dbc = weft_push_act(s, s->M * n.W);
    project_out_backward(b, s, &g, dout);
    scan_backward(b, s, &g);
    project_dbc_backward(b, s, &g);
    convolve_backward(b, s, &g);
    project_in_backward(b, s, dx, &g, x);
    weft_arena_release(&s->dev->act, mark);
}

static void cache(const weft_block *b, weft_block_cache *out, weft_arena *a, int64_t capacity,
                  weft_dtype act) {
    dims n = dims_of(b);
    (void)capacity; /* constant size: that is the point of it */
    out->conv = weft_arena_push(a, (size_t)((n.K - 1) * n.E) * weft_dtype_size(act));
    out->state = weft_arena_push(a, (size_t)(n.E * n.N) * sizeof(weft_real));
}

static double flops(const weft_block *b, int64_t T) {
    dims n = dims_of_model(b);
    (void)T;
    return 2.0 * (double)(2 * n.E * n.D + n.E * n.K + n.W * n.E + n.E * n.R + n.D * n.E);
}

const weft_block_kind weft_block_mamba = {.name = "mamba",
                                          .norm = "input_layernorm",
                                          .declare = declare,
                                          .forward = forward,
                                          .backward = backward,
                                          .cache = cache,
                                          .flops = flops};
