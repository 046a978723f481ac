/* Mamba-1 mixer (Gu and Dao, arXiv 2312.00752) with Jamba's RMSNorms of dt, B and C (arXiv 2403.19887,
 * section 6.4). x|z = in_proj(h);  u = silu(conv(x));  dt|B|C = x_proj(u);  dt, B, C = RMSNorm each delta =
 * softplus(dt_proj(dt) + bias);  y = scan(u, delta, A, B, C) + D u;  out = out_proj(y silu(z)) Split over tp:
 * by inner channels E (x and z halves apart), x_proj by columns. */
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
    SAVED_STATES
};

typedef struct dims {
    int64_t D, E, N, K, R, W; /* W = R + 2N */
    weft_real eps;
} dims;

static dims dims_of(const weft_block *b) {
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

static void add(weft_block *b, weft_params *p, int i, weft_param row, const char *gguf, bool joined) {
    snprintf(row.gguf_name, sizeof row.gguf_name, "blk.%lld.%s", (long long)b->layer, gguf);
    b->row[i] = weft_params_add(p, &row, joined);
}

static weft_param split_channels(weft_param row) {
    row.split = WEFT_SHARD, row.split_axis = WEFT_AXIS_TP, row.split_dim = 0;
    return row;
}

/* Tensors whose Hugging Face name has no ".weight", or is a bias. */
static weft_param renamed(weft_block *b, weft_param row, const char *hf_tail) {
    snprintf(row.hf_name, sizeof row.hf_name, "model.layers.%lld.mamba.%s", (long long)b->layer, hf_tail);
    return row;
}

static void declare(weft_block *b, const weft_model_config *c, weft_params *p) {
    dims n = dims_of(b);
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

static weft_conv conv_problem(weft_block *b, weft_pass *s) {
    dims n = dims_of(b);
    return (weft_conv){.B = s->B,
                       .T = s->T,
                       .E = n.E,
                       .K = n.K,
                       .ldx = 2 * n.E,
                       .ldy = n.E,
                       .x = b->saved[SAVED_XZ],
                       .w = weft_weight(b, s, ROW_CONV),
                       .bias = optional(b, s, ROW_CONV_BIAS),
                       .doc_start = s->doc_start,
                       .pos0 = s->pos0};
}

static weft_scan scan_problem(weft_block *b, weft_pass *s) {
    dims n = dims_of(b);
    /* Without inner norms the products of x_proj are used as they are. */
    weft_act *dbc = b->saved[b->config->mamba_inner_norm ? SAVED_NORMED : SAVED_XDBC];
    return (weft_scan){.B = s->B,
                       .T = s->T,
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
                       .Bm = weft_at(s, dbc, n.R),
                       .Cm = weft_at(s, dbc, n.R + n.N),
                       .dt_bias = weft_weight_real(b, s, ROW_DT_BIAS),
                       .A_log = weft_weight_real(b, s, ROW_A_LOG),
                       .D = weft_weight_real(b, s, ROW_D),
                       .doc_start = s->doc_start,
                       .pos0 = s->pos0,
                       .y = b->saved[SAVED_Y]};
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

static void forward(weft_block *b, weft_pass *s, weft_act *out, const weft_act *x) {
    dims n = dims_of(b);
    const weft_ops *ops = s->dev->ops;
    size_t mark = weft_arena_mark(&s->dev->act);
    weft_act *xz = b->saved[SAVED_XZ] = weft_push_act(s, s->M * 2 * n.E);
    weft_act *u = b->saved[SAVED_U] = weft_push_act(s, s->M * n.E);
    weft_act *xdbc = b->saved[SAVED_XDBC] = weft_push_act(s, s->M * n.W);
    weft_act *dt = b->saved[SAVED_DT] = weft_push_act(s, s->M * n.E);
    b->saved[SAVED_Y] = weft_push_act(s, s->M * n.E);
    weft_act *gated = b->saved[SAVED_GATED] = weft_push_act(s, s->M * n.E);

    ops->linear_fwd(s->dev, xz, 2 * n.E, x, n.D, weft_weight(b, s, ROW_X), optional(b, s, ROW_X_BIAS), s->M,
                    2 * n.E, n.D, false);
    weft_conv conv = conv_problem(b, s);
    conv.y = u;
    weft_block_cache *cache = s->caches ? &s->caches[b->index] : NULL;
    if (cache) conv.halo = conv.halo_out = cache->conv;
    ops->conv_fwd(s->dev, &conv);
    ops->linear_fwd(s->dev, xdbc, n.W, u, n.E, weft_weight(b, s, ROW_X_PROJ), NULL, s->M, n.W, n.E, false);
    const weft_act *dt_in = xdbc;
    if (b->config->mamba_inner_norm) {
        weft_act *normed = b->saved[SAVED_NORMED] = weft_push_act(s, s->M * n.W);
        weft_real *rstd = b->saved[SAVED_RSTD] = weft_push_real(s, 3 * s->M);
        slice part[3];
        slices_of(n, part);
        for (int i = 0; i < 3; i++)
            ops->rmsnorm_fwd(s->dev, weft_at(s, normed, part[i].at), n.W, rstd + i * s->M, NULL,
                             weft_at(s, xdbc, part[i].at), n.W, NULL, weft_weight(b, s, part[i].row), n.eps,
                             s->M, part[i].width);
        dt_in = normed;
    }
    ops->linear_fwd(s->dev, dt, n.E, dt_in, n.W, weft_weight(b, s, ROW_DT), NULL, s->M, n.E, n.R, false);
    weft_scan scan = scan_problem(b, s);
    scan.out = gated;
    if (s->training) {
        int64_t size = weft_scan_states_size(s->B, s->T, n.E, n.N);
        scan.states = b->saved[SAVED_STATES] = weft_push_real(s, size);
    }
    if (cache) scan.h0 = scan.hT = cache->state;
    ops->scan_fwd(s->dev, &scan);
    if (out)
        ops->linear_fwd(s->dev, out, n.D, gated, n.E, weft_weight(b, s, ROW_OUT),
                        optional(b, s, ROW_OUT_BIAS), s->M, n.D, n.E, false);
    if (!s->training) weft_arena_release(&s->dev->act, mark);
}

static void backward(weft_block *b, weft_pass *s, weft_act *dx, const weft_act *dout, const weft_act *x) {
    dims n = dims_of(b);
    const weft_ops *ops = s->dev->ops;
    bool normed = b->config->mamba_inner_norm;
    size_t mark = weft_arena_mark(&s->dev->act);
    weft_act *dxz = weft_push_act(s, s->M * 2 * n.E), *du = weft_push_act(s, s->M * n.E);
    weft_act *ddt = weft_push_act(s, s->M * n.E), *dgated = weft_push_act(s, s->M * n.E);
    weft_act *dxdbc =
        weft_push_act(s, s->M * n.W); /* gradient of the normalised dt|B|C, then of the raw one */

    ops->linear_wgrad(s->dev, weft_grad(b, s, ROW_OUT), optional_grad(b, s, ROW_OUT_BIAS), dout, n.D,
                      b->saved[SAVED_GATED], n.E, s->M, n.D, n.E);
    ops->linear_dgrad(s->dev, dgated, n.E, dout, n.D, weft_weight(b, s, ROW_OUT), s->M, n.D, n.E, false);

    weft_scan scan = scan_problem(b, s);
    scan.states = b->saved[SAVED_STATES];
    scan.dout = dgated;
    scan.du = du;
    scan.ddt = ddt;
    scan.dz = weft_at(s, dxz, n.E);
    scan.dB = weft_at(s, dxdbc, n.R);
    scan.dC = weft_at(s, dxdbc, n.R + n.N);
    scan.ddt_bias = weft_grad(b, s, ROW_DT_BIAS);
    scan.dA_log = weft_grad(b, s, ROW_A_LOG);
    scan.dD = weft_grad(b, s, ROW_D);
    ops->scan_bwd(s->dev, &scan);

    const weft_act *dt_in = b->saved[normed ? SAVED_NORMED : SAVED_XDBC];
    ops->linear_wgrad(s->dev, weft_grad(b, s, ROW_DT), NULL, ddt, n.E, dt_in, n.W, s->M, n.E, n.R);
    ops->linear_dgrad(s->dev, dxdbc, n.W, ddt, n.E, weft_weight(b, s, ROW_DT), s->M, n.E, n.R, false);
    if (normed) {
        const weft_real *rstd = b->saved[SAVED_RSTD];
        slice part[3];
        slices_of(n, part);
        for (int i = 0; i < 3; i++) {
            weft_act *d = weft_at(s, dxdbc, part[i].at);
            ops->rmsnorm_bwd(s->dev, d, n.W, weft_grad(b, s, part[i].row), d, n.W,
                             weft_at(s, b->saved[SAVED_XDBC], part[i].at), n.W, rstd + i * s->M,
                             weft_weight(b, s, part[i].row), s->M, part[i].width, false);
        }
    }
    ops->linear_wgrad(s->dev, weft_grad(b, s, ROW_X_PROJ), NULL, dxdbc, n.W, b->saved[SAVED_U], n.E, s->M,
                      n.W, n.E);
    ops->linear_dgrad(s->dev, du, n.E, dxdbc, n.W, weft_weight(b, s, ROW_X_PROJ), s->M, n.W, n.E, true);

    weft_conv conv = conv_problem(b, s);
    conv.dy = du;
    conv.dx = dxz;
    conv.dw = weft_grad(b, s, ROW_CONV);
    conv.dbias = optional_grad(b, s, ROW_CONV_BIAS);
    ops->conv_bwd(s->dev, &conv);
    ops->linear_wgrad(s->dev, weft_grad(b, s, ROW_X), optional_grad(b, s, ROW_X_BIAS), dxz, 2 * n.E, x, n.D,
                      s->M, 2 * n.E, n.D);
    ops->linear_dgrad(s->dev, dx, n.D, dxz, 2 * n.E, weft_weight(b, s, ROW_X), s->M, 2 * n.E, n.D, false);
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
    dims n = dims_of(b);
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
