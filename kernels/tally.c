/* Every operation once: what it works, in the letters of ops.h. */
#include "tally.h"

const char *weft_work_name(weft_work_kind k) {
    static const char *const names[] = {
        "matrix products", "experts' products", "attention", "scan", "convolution", "norms",
        "elementwise",     "routing",           "embedding", "loss", "optimizer"};
    return names[k];
}

/* ---- one call ----------------------------------------------------------------------------------- */

static weft_tally *tally_of(const weft_device *d) {
    return (weft_tally *)(uintptr_t)d->ops;
}

static double begin(const weft_tally *t) {
    return t->clock ? t->clock() : 0;
}

static void end(weft_tally *t, weft_work w, double began) {
    weft_work *sum = &t->sum[w.kind];
    if (t->clock) w.seconds = t->clock() - began;
    t->calls[w.kind]++;
    sum->product += w.product;
    sum->vector += w.vector;
    sum->special += w.special;
    sum->bytes += w.bytes;
    sum->seconds += w.seconds;
    if (t->see) t->see(t->of, &w);
}

/* tally_NAME, which is told by `WORK` and does what the table beneath does. */
#define TALLY(NAME, PARAMETERS, ARGUMENTS, WORK)                                                             \
    static void tally_##NAME PARAMETERS {                                                                    \
        weft_tally *t = tally_of(d);                                                                         \
        double began = begin(t);                                                                             \
        t->inner->NAME ARGUMENTS;                                                                            \
        weft_work w = WORK;                                                                                  \
        w.op = #NAME;                                                                                        \
        end(t, w, began);                                                                                    \
    }

static double act(const weft_device *d) { /* bytes of an activation */
    return (double)weft_dtype_size(d->act_dtype);
}
#define REAL ((double)sizeof(weft_real))
#define INDEX ((double)sizeof(int32_t))

/* `n` elements: of each so many bytes, additions and multiplications, special functions. */
static weft_work each(weft_work_kind kind, double n, double bytes, double vector, double special) {
    return (weft_work){.kind = kind, .bytes = n * bytes, .vector = n * vector, .special = n * special};
}

/* ---- products ----------------------------------------------------------------------------------- */

/* C[m,n] of depth k; in_out bytes for each element of C. */
static weft_work product(const weft_device *d, int64_t m, int64_t n, int64_t k, double in_out) {
    const double rows = (double)m, cols = (double)n, depth = (double)k;
    tally_of(d)->expert_rows = false;
    return (weft_work){.kind = WEFT_WORK_PRODUCT,
                       .m = m,
                       .n = n,
                       .k = k,
                       .groups = 1,
                       .product = 2 * rows * cols * depth,
                       .bytes = act(d) * depth * (rows + cols) + in_out * rows * cols};
}

static weft_work with_bias(weft_work w, double bytes, double vector) {
    w.bytes += bytes;
    w.vector += vector;
    return w;
}

TALLY(linear_fwd,
      (weft_device * d, weft_act *y, int64_t ldy, const weft_act *x, int64_t ldx, const weft_act *w_,
       const weft_act *bias, int64_t m, int64_t n, int64_t k, bool accumulate),
      (d, y, ldy, x, ldx, w_, bias, m, n, k, accumulate),
      with_bias(product(d, m, n, k, (accumulate ? 2 : 1) * act(d)), bias ? (double)n *act(d) : 0,
                bias ? (double)(m *n) : 0))
TALLY(linear_fwd_real,
      (weft_device * d, weft_real *y, int64_t ldy, const weft_act *x, int64_t ldx, const weft_act *w_,
       int64_t m, int64_t n, int64_t k),
      (d, y, ldy, x, ldx, w_, m, n, k), product(d, m, n, k, REAL))
TALLY(linear_dgrad,
      (weft_device * d, weft_act *dx, int64_t lddx, const weft_act *dy, int64_t lddy, const weft_act *w_,
       int64_t m, int64_t n, int64_t k, bool accumulate),
      (d, dx, lddx, dy, lddy, w_, m, n, k, accumulate), product(d, m, k, n, (accumulate ? 2 : 1) * act(d)))
TALLY(linear_wgrad,
      (weft_device * d, weft_real *dw, weft_real *dbias, const weft_act *dy, int64_t lddy, const weft_act *x,
       int64_t ldx, int64_t m, int64_t n, int64_t k),
      (d, dw, dbias, dy, lddy, x, ldx, m, n, k),
      with_bias(product(d, n, k, m, 2 * REAL), dbias ? 2 * REAL *(double)n + act(d) * (double)(m *n) : 0,
                dbias ? (double)(m *n) : 0))

/* Of the rows of experts: where members exchange them a dry device makes room for all that could come; an
 * even share is as many as each of them sends. */
static int64_t share(const weft_tally *t, const weft_device *d, int64_t rows) {
    return d->dry && t->came ? t->slots : rows;
}

/* rows[,n] of depth k in g groups, each with a matrix [n,k] of its own; or, `weights`, the gradients of
 * these.
 */
static weft_work groups(const weft_device *d, int64_t g, int64_t rows, int64_t n, int64_t k, bool forward,
                        bool weights) {
    weft_tally *t = tally_of(d);
    const int64_t m = share(t, d, rows), count = g > 0 ? g : 1, of_each = (m + count - 1) / count;
    const double wide = (double)m * (double)(n + k) * act(d), matrices = (double)(g * n) * (double)k;
    t->expert_rows = true;
    return (weft_work){.kind = WEFT_WORK_EXPERTS,
                       .m = weights ? n : of_each,
                       .n = forward ? n : k,
                       .k = weights   ? of_each
                            : forward ? k
                                      : n,
                       .groups = g,
                       .product = 2 * (double)m * (double)n * (double)k,
                       .bytes = wide + matrices * (weights ? 2 * REAL : act(d))};
}
TALLY(grouped_fwd,
      (weft_device * d, weft_act *y, const weft_act *x, const weft_act *w_, int64_t stride,
       const int64_t *offsets, int64_t g, int64_t m_max, int64_t n, int64_t k),
      (d, y, x, w_, stride, offsets, g, m_max, n, k), groups(d, g, m_max, n, k, true, false))
TALLY(grouped_dgrad,
      (weft_device * d, weft_act *dx, const weft_act *dy, const weft_act *w_, int64_t stride,
       const int64_t *offsets, int64_t g, int64_t m_max, int64_t n, int64_t k),
      (d, dx, dy, w_, stride, offsets, g, m_max, n, k), groups(d, g, m_max, n, k, false, false))
TALLY(grouped_wgrad,
      (weft_device * d, weft_real *dw, int64_t stride, const weft_act *dy, const weft_act *x,
       const int64_t *offsets, int64_t g, int64_t m_max, int64_t n, int64_t k),
      (d, dw, stride, dy, x, offsets, g, m_max, n, k), groups(d, g, m_max, n, k, false, true))

/* ---- embedding, norms, positions ------------------------------------------------------------------ */

TALLY(embedding_fwd,
      (weft_device * d, weft_act *y, const weft_act *table, const int32_t *ids, int64_t M, int64_t D,
       int64_t first, int64_t V),
      (d, y, table, ids, M, D, first, V), each(WEFT_WORK_EMBEDDING, (double)(M *D), 2 * act(d), 0, 0))
TALLY(embedding_bwd,
      (weft_device * d, weft_real *dtable, const weft_act *dy, const int32_t *ids, int64_t M, int64_t D,
       int64_t first, int64_t V),
      (d, dtable, dy, ids, M, D, first, V),
      each(WEFT_WORK_EMBEDDING, (double)(M *D), act(d) + 2 * REAL, 1, 0))
TALLY(rmsnorm_fwd,
      (weft_device * d, weft_act *y, int64_t ldy, weft_real *rstd, weft_act *h, const weft_act *x,
       int64_t ldx, const weft_act *delta, const weft_act *w_, weft_real eps, int64_t M, int64_t D),
      (d, y, ldy, rstd, h, x, ldx, delta, w_, eps, M, D),
      each(WEFT_WORK_NORM, (double)(M *D), (delta ? 4 : 2) * act(d), delta ? 5 : 4, 0))
TALLY(rmsnorm_bwd,
      (weft_device * d, weft_act *dh, int64_t lddh, weft_real *dw, const weft_act *dy, int64_t lddy,
       const weft_act *h, int64_t ldh, const weft_real *rstd, const weft_act *w_, int64_t M, int64_t D,
       bool accumulate),
      (d, dh, lddh, dw, dy, lddy, h, ldh, rstd, w_, M, D, accumulate),
      each(WEFT_WORK_NORM, (double)(M *D), (accumulate ? 4 : 3) * act(d), accumulate ? 10 : 9, 0))
TALLY(rope,
      (weft_device * d, weft_act *x, int64_t ldx, int64_t B, int64_t T, int64_t heads, int64_t head_dim,
       weft_real theta, int64_t pos0, const int32_t *doc_start, bool inverse),
      (d, x, ldx, B, T, heads, head_dim, theta, pos0, doc_start, inverse),
      each(WEFT_WORK_ELEMENTWISE, (double)(B *T *heads *head_dim), 2 * act(d), 3, 0))

/* ---- sequences ---------------------------------------------------------------------------------- */

/* Of each element K multiply-adds and a sigmoid; back, the same again and those of dx and dw. */
static weft_work conv(const weft_conv *a, double bytes, double vector) {
    weft_work w = each(WEFT_WORK_CONV, (double)(a->B * a->T * a->E), bytes, vector, 2);
    w.m = a->B * a->T;
    w.n = a->E;
    w.k = w.groups = 1;
    return w;
}
TALLY(conv_fwd, (weft_device * d, const weft_conv *a), (d, a), conv(a, 2 * act(d), 2 * (double)a->K + 1))
TALLY(conv_bwd, (weft_device * d, const weft_conv *a), (d, a), conv(a, 3 * act(d), 6 * (double)a->K + 5))

/* Of each state an exponential and `state` additions and multiplications; of each channel `channel` and
 * `special`, and so many activations read and written. */
static weft_work scan(const weft_device *d, const weft_scan *a, double state, double channel, double special,
                      double arrays, double bc_arrays, bool states) {
    const double rows = (double)(a->B * a->T), channels = rows * (double)a->E,
                 cells = channels * (double)a->N;
    const double saved = (double)weft_scan_states_size(a->B, a->T, a->E, a->N);
    return (weft_work){.kind = WEFT_WORK_SCAN,
                       .m = a->B * a->T,
                       .n = a->E,
                       .k = a->N,
                       .groups = 1,
                       .vector = cells * state + channels * channel,
                       .special = cells + channels * special,
                       .bytes = act(d) * (channels * arrays + rows * (double)a->N * bc_arrays) +
                                (states ? REAL * saved : 0)};
}
/* softplus is 2, the gate 2; u, dt, z, y, out. Without outputs neither z nor C is read. */
TALLY(scan_fwd, (weft_device * d, const weft_scan *a), (d, a),
      a->out ? scan(d, a, 6, 6, 4, 5, 2, a->states != NULL) : scan(d, a, 4, 2, 2, 2, 1, false))
/* u, dt, z, y, dout; du, ddt, dz. States are computed again. */
TALLY(scan_bwd, (weft_device * d, const weft_scan *a), (d, a), scan(d, a, 18, 16, 6, 8, 4, true))
TALLY(scan_bwd_state, (weft_device * d, const weft_scan *a), (d, a), scan(d, a, 4, 4, 4, 3, 1, false))
TALLY(scan_carry, (weft_device * d, const weft_carry *a), (d, a),
      each(WEFT_WORK_SCAN, (double)(a->B * a->E * a->N), (double)(2 * a->cp + 2) * REAL, 2 * (double)a->cp,
           2 * (double)a->cp))

/* Pairs of a query and a key that it sees, of one head of one sequence. */
static double pairs(const weft_attention *a) {
    const double first = (double)(a->q_pos0 + 1), last = (double)(a->q_pos0 + a->Tq), keys = (double)a->Tk;
    double seen = (first + last) / 2 * (double)a->Tq;
    if (last > keys) { /* queries behind the last key see all */
        const double beyond = last - (first > keys ? first - 1 : keys);
        seen -= beyond * (last + (last - beyond + 1)) / 2 - beyond * keys;
    }
    return seen;
}
/* `products` of depth d for each pair, an exponential; so many rows of q and of k. */
static weft_work attention(const weft_device *d, const weft_attention *a, double products, double q_arrays,
                           double k_arrays) {
    const double all = pairs(a) * (double)(a->B * a->H);
    return (weft_work){.kind = WEFT_WORK_ATTENTION,
                       .m = a->Tq,
                       .n = a->Tk,
                       .k = a->d,
                       .groups = a->B * a->H,
                       .product = 2 * products * all * (double)a->d,
                       .vector = (products + 1) * all,
                       .special = all,
                       .bytes = act(d) * (double)(a->B * a->d) *
                                    (q_arrays * (double)(a->Tq * a->H) + k_arrays * (double)(a->Tk * a->G)) +
                                REAL * (double)(a->B * a->Tq * a->H)};
}
TALLY(attention_fwd, (weft_device * d, const weft_attention *a), (d, a), attention(d, a, 2, 2, 2))
TALLY(attention_bwd, (weft_device * d, const weft_attention *a), (d, a), attention(d, a, 5, 4, 4))

/* ---- feed-forward ------------------------------------------------------------------------------- */

/* Rows that experts work on follow their products. */
static double rows_of(const weft_device *d, int64_t rows) {
    const weft_tally *t = tally_of(d);
    return (double)(t->expert_rows ? share(t, d, rows) : rows);
}
TALLY(swiglu_fwd, (weft_device * d, weft_act *y, const weft_act *gu, int64_t M, int64_t F), (d, y, gu, M, F),
      each(WEFT_WORK_ELEMENTWISE, rows_of(d, M) * (double)F, 3 * act(d), 2, 2))
TALLY(swiglu_bwd,
      (weft_device * d, weft_act *dgu, const weft_act *dy, const weft_act *gu, int64_t M, int64_t F),
      (d, dgu, dy, gu, M, F), each(WEFT_WORK_ELEMENTWISE, rows_of(d, M) * (double)F, 5 * act(d), 8, 2))
TALLY(swiglu_weighted_bwd,
      (weft_device * d, weft_act *dgu, weft_real *dw, weft_act *du, const weft_act *gu, const weft_real *w_,
       int64_t M, int64_t F),
      (d, dgu, dw, du, gu, w_, M, F),
      each(WEFT_WORK_ELEMENTWISE, rows_of(d, M) * (double)F, 6 * act(d), 13, 2))

/* ---- routing ------------------------------------------------------------------------------------ */

TALLY(router_fwd, (weft_device * d, const weft_router *a), (d, a),
      each(WEFT_WORK_ROUTING, (double)(a->M * a->X), 2 * REAL, 3 + (double)a->k, 1))
TALLY(router_bwd, (weft_device * d, const weft_router *a), (d, a),
      each(WEFT_WORK_ROUTING, (double)(a->M * a->X), REAL + act(d), 4, 0))
TALLY(router_stats,
      (weft_device * d, int64_t *counts, weft_real *prob_sum, weft_real *lse2_sum, const weft_router *a),
      (d, counts, prob_sum, lse2_sum, a), each(WEFT_WORK_ROUTING, (double)(a->M * a->X), REAL, 1, 0))
TALLY(moe_balance,
      (weft_device * d, weft_real *dprob, double *loss, const int64_t *counts, const weft_real *prob_sum,
       int64_t L, int64_t k, int64_t X, int64_t M, weft_real coef),
      (d, dprob, loss, counts, prob_sum, L, k, X, M, coef),
      each(WEFT_WORK_ROUTING, (double)(L *X), (double)k * 8 + REAL, 2 * (double)k, 0))
static weft_work sort(weft_device *d, int64_t slots) {
    tally_of(d)->slots = slots;
    return each(WEFT_WORK_ROUTING, (double)slots, 4 * INDEX, 2, 0);
}
TALLY(moe_sort,
      (weft_device * d, int64_t *offsets, int32_t *slot_of, int32_t *row_of, const int32_t *ids, int64_t M,
       int64_t k, int64_t X),
      (d, offsets, slot_of, row_of, ids, M, k, X), sort(d, M *k))

static weft_work regroup(weft_device *d, int64_t n) {
    weft_tally *t = tally_of(d);
    t->came = n;
    return each(WEFT_WORK_ROUTING, (double)share(t, d, n), 2 * INDEX, 1, 0);
}
TALLY(moe_regroup,
      (weft_device * d, int64_t *offsets, int32_t *row_of, int32_t *place_of, const int64_t *all,
       int64_t sources, int64_t X, int64_t first, int64_t count, int64_t n),
      (d, offsets, row_of, place_of, all, sources, X, first, count, n), regroup(d, n))

static double moved(const weft_device *d, int64_t rows) {
    const weft_tally *t = tally_of(d);
    return (double)(rows == t->came ? share(t, d, rows) : rows);
}
TALLY(gather_rows,
      (weft_device * d, weft_act *y, const weft_act *x, const int32_t *row_of, int64_t n, int64_t D),
      (d, y, x, row_of, n, D), each(WEFT_WORK_ROUTING, moved(d, n) * (double)D, 2 * act(d), 0, 0))
TALLY(gather_rows_bwd,
      (weft_device * d, weft_act *dx, const weft_act *dy, const int32_t *slot_of, int64_t M, int64_t k,
       int64_t D, bool accumulate),
      (d, dx, dy, slot_of, M, k, D, accumulate),
      each(WEFT_WORK_ROUTING, (double)(M *D), ((double)k + (accumulate ? 2 : 1)) * act(d), (double)k, 0))
TALLY(permute_real,
      (weft_device * d, weft_real *y, const weft_real *x, const int32_t *place_of, int64_t n, bool inverse),
      (d, y, x, place_of, n, inverse), each(WEFT_WORK_ROUTING, moved(d, n), 2 * REAL + INDEX, 0, 0))
TALLY(moe_combine,
      (weft_device * d, weft_act *y, const weft_act *x, const weft_real *w_, const int32_t *slot_of,
       int64_t M, int64_t k, int64_t D),
      (d, y, x, w_, slot_of, M, k, D),
      each(WEFT_WORK_ROUTING, (double)(M *D), ((double)k + 1) * act(d), 2 * (double)k, 0))
TALLY(moe_combine_bwd,
      (weft_device * d, weft_act *dx, weft_real *dw, const weft_act *dy, const weft_act *x,
       const weft_real *w_, const int32_t *slot_of, int64_t M, int64_t k, int64_t D),
      (d, dx, dw, dy, x, w_, slot_of, M, k, D),
      each(WEFT_WORK_ROUTING, (double)(M *D), (2 * (double)k + 1) * act(d), 3 * (double)k, 0))

/* ---- loss --------------------------------------------------------------------------------------- */

TALLY(cross_entropy,
      (weft_device * d, weft_real *loss, weft_act *logits, const int32_t *targets, int64_t M, int64_t V,
       weft_real scale, bool with_grad),
      (d, loss, logits, targets, M, V, scale, with_grad),
      each(WEFT_WORK_LOSS, (double)(M *V), (with_grad ? 2 : 1) * act(d), with_grad ? 4 : 3, 1))
TALLY(cross_entropy_partial,
      (weft_device * d, weft_real *part, const weft_act *logits, const int32_t *targets, int64_t M,
       int64_t first, int64_t V),
      (d, part, logits, targets, M, first, V), each(WEFT_WORK_LOSS, (double)(M *V), act(d), 3, 1))
TALLY(cross_entropy_merge,
      (weft_device * d, weft_real *loss, weft_act *logits, const weft_real *all_parts, int64_t parts,
       const int32_t *targets, int64_t M, int64_t first, int64_t V, weft_real scale, bool with_grad),
      (d, loss, logits, all_parts, parts, targets, M, first, V, scale, with_grad),
      each(WEFT_WORK_LOSS, (double)(M *(with_grad ? V : parts)), with_grad ? 2 * act(d) : 3 * REAL, 2, 1))

/* ---- flat arrays -------------------------------------------------------------------------------- */

TALLY(add, (weft_device * d, weft_act *y, const weft_act *a, const weft_act *b, int64_t n), (d, y, a, b, n),
      each(WEFT_WORK_ELEMENTWISE, (double)n, 3 * act(d), 1, 0))
TALLY(axpy, (weft_device * d, weft_act *y, weft_real alpha, const weft_act *x, int64_t n),
      (d, y, alpha, x, n), each(WEFT_WORK_ELEMENTWISE, (double)n, 3 * act(d), 2, 0))
TALLY(zero, (weft_device * d, void *p, size_t bytes), (d, p, bytes),
      each(WEFT_WORK_ELEMENTWISE, (double)bytes, 1, 0, 0))
TALLY(copy, (weft_device * d, void *dst, const void *src, size_t bytes), (d, dst, src, bytes),
      each(WEFT_WORK_ELEMENTWISE, (double)bytes, 2, 0, 0))
TALLY(copy_rows,
      (weft_device * d, weft_act *y, int64_t ldy, const weft_act *x, int64_t ldx, int64_t M, int64_t D),
      (d, y, ldy, x, ldx, M, D), each(WEFT_WORK_ELEMENTWISE, (double)(M *D), 2 * act(d), 0, 0))
TALLY(sumsq, (weft_device * d, weft_exact *sum, const weft_real *x, int64_t n), (d, sum, x, n),
      each(WEFT_WORK_OPTIMIZER, (double)n, REAL, 2, 0))
TALLY(exact_carry, (weft_device * d, weft_exact *sum), (d, sum),
      each(WEFT_WORK_OPTIMIZER, 1, 2 * (double)sizeof *sum, 0, 0))
TALLY(clip, (weft_device * d, weft_clip *out, const weft_exact *sum, double max_norm),
      (d, out, sum, max_norm), each(WEFT_WORK_OPTIMIZER, 1, (double)(sizeof *sum + sizeof *out), 2, 2))
TALLY(sumsq_act, (weft_device * d, double *out, const weft_act *x, int64_t n, double scale, bool accumulate),
      (d, out, x, n, scale, accumulate), each(WEFT_WORK_LOSS, (double)n, act(d), 2, 0))
TALLY(sum_real, (weft_device * d, double *out, const weft_real *x, int64_t n, double scale, bool accumulate),
      (d, out, x, n, scale, accumulate), each(WEFT_WORK_LOSS, (double)n, REAL, 1, 0))
TALLY(add_real, (weft_device * d, weft_real *y, const weft_real *x, int64_t n), (d, y, x, n),
      each(WEFT_WORK_OPTIMIZER, (double)n, 3 * REAL, 1, 0))
TALLY(tree_sum,
      (weft_device * d, void *out, weft_dtype out_type, const void *parts, weft_dtype type, int64_t stride,
       int64_t count, int64_t n, bool accumulate),
      (d, out, out_type, parts, type, stride, count, n, accumulate),
      each(WEFT_WORK_OPTIMIZER, (double)n,
           (double)count *(double)weft_dtype_size(type) +
               (accumulate ? 2 : 1) * (double)weft_dtype_size(out_type),
           (double)count, 0))
TALLY(cast, (weft_device * d, void *y, weft_dtype to, const void *x, weft_dtype from, int64_t n),
      (d, y, to, x, from, n),
      each(WEFT_WORK_OPTIMIZER, (double)n, (double)(weft_dtype_size(to) + weft_dtype_size(from)), 0, 0))
/* p, m, v in and out, g in. */
TALLY(adamw,
      (weft_device * d, weft_real *p, weft_act *p_act, const weft_real *g, weft_real *m, weft_real *v,
       int64_t n, const weft_adamw *a),
      (d, p, p_act, g, m, v, n, a),
      each(WEFT_WORK_OPTIMIZER, (double)n, 7 * REAL + (p_act ? act(d) : 0), 13, 2))

/* ---- the table ---------------------------------------------------------------------------------- */

#define TALLY_FIELD(NAME) .NAME = tally_##NAME,
static const weft_ops table = {WEFT_OPS_LIST(TALLY_FIELD)};

void weft_tally_start(weft_tally *t, weft_device *d) {
    t->ops = table;
    t->ops.name = d->ops->name;
    t->inner = d->ops;
    d->ops = &t->ops;
}

void weft_tally_stop(weft_tally *t, weft_device *d) {
    d->ops = t->inner;
}
