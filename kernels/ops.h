/* The contract of every operation: formula, shapes, types, aliasing, workspace, determinism, source.
 *
 * Letters: M rows (tokens of all sequences), B sequences, T tokens of a sequence (M = B*T), D width, E inner
 * width of Mamba, N state, K conv taps, H query heads, G key/value heads, d head width, F feed-forward width,
 * X experts, k experts per token, V vocabulary. Arrays are row-major; `ld*` are row strides in elements, >=
 * the row's width. Offsets and sizes are 64 bit.
 *
 * Types: see runtime/real.h. weft_act arrays are of d->act_dtype: weft_real on the CPU; on a GPU float or
 * bf16. Arithmetic and sums run in weft_real or wider whatever the arrays hold. Token ids, document starts
 * and expert ids are int32.
 *
 * Memory: all arrays lie in the device's memory, results of one number (`double *`, weft_exact, weft_clip)
 * too; only the structs of arguments themselves are the host's. Work is queued on d->stream, in order; the
 * host does not wait for it (runtime/device.h).
 *
 * Gradients: of parameters they are added (`+=`) to weft_real arrays; of activations they are assigned (`=`)
 * unless the operation says "added" or takes `accumulate`.
 *
 * Workspace comes from d->act and is given back before the operation returns. On a dry device an operation
 * takes its workspace and returns without touching an array.
 *
 * Determinism: the result depends on the arguments only, not on the number of threads and not on the run.
 * Unless stated, no two arguments may overlap. Nothing is collective. Nothing can fail: sizes are the
 * caller's duty. */
#ifndef WEFT_OPS_H
#define WEFT_OPS_H

#include "runtime/device.h"
#include "runtime/exact.h"

/* Depthwise causal convolution with SiLU (Gu and Dao, arXiv 2312.00752, section 3.4; Jamba's mixer step 2).
 *   c[t,e] = bias[e] + sum_{j<K} w[e,j] * x[t-(K-1)+j, e];  y = c * sigmoid(c)
 * A tap that lies before the token's document (or before the sequence, unless `halo` holds it) counts as 0.
 */
typedef struct weft_conv {
    int64_t B, T, E, K;
    int64_t ldx, ldy;             /* row strides of x (and dx) and of y (and dy) */
    const weft_act *x, *w, *bias; /* [B*T,E] [E,K] [E] or NULL */
    const int32_t *doc_start; /* [B*T] position in the sequence of the first token of this token's document,
                                 or NULL: one document */
    int64_t pos0;          /* position in the sequence of row 0 of each b (context parallelism, decoding) */
    const weft_act *halo;  /* [B,K-1,E] the rows of x before pos0, oldest first, or NULL: zeros */
    weft_act *y;           /* forward: [B*T,E] */
    weft_act *halo_out;    /* forward: [B,K-1,E] last rows of (halo, x), or NULL; may be halo itself */
    const weft_act *dy;    /* backward */
    weft_act *dx, *dhalo;  /* backward: assigned; dhalo [B,K-1,E] or NULL */
    weft_real *dw, *dbias; /* backward: added; dbias NULL when bias is */
} weft_conv;

/* Selective scan of Mamba-1 with its gate (arXiv 2312.00752, algorithm 2; Jamba's mixer steps 4, 5).
 *   delta = softplus(dt + dt_bias) (identity above 20);  a = exp(delta * A), A = -exp(A_log)
 *   h[t] = a * h[t-1] + delta * B[t] * u[t];  y = sum_n C[t] * h[t] + D * u;  out = y * silu(z)
 * h is reset to 0 before a token that starts a document. States are weft_real. Memory for the backward pass:
 * `states` holds h before every WEFT_SCAN_CHUNK-th token; the rest is recomputed chunk by chunk. */
#define WEFT_SCAN_CHUNK 32
typedef struct weft_scan {
    int64_t B, T, E, N;
    int64_t ldu, lddt, ldz, ldbc, ldy; /* rows of u, du | dt, ddt | z, dz | B, C, dB, dC | y, out, dout */
    const weft_act *u, *dt, *z;        /* [B*T,E] */
    const weft_act *Bm, *Cm;           /* [B*T,N] */
    const weft_real *dt_bias;          /* [E] */
    const weft_real *A_log;            /* [E,N] */
    const weft_real *D;                /* [E] */
    const int32_t *doc_start;          /* as in weft_conv */
    int64_t pos0;
    const weft_real *h0; /* [B,E,N] state before row 0, or NULL: zeros */
    weft_act *y;         /* forward out, backward in: [B*T,E] before the gate */
    weft_act *out;     /* forward: [B*T,E]; y and out NULL: only hT and sigma are wanted (z, Cm, D unused) */
    weft_real *states; /* forward out, backward in: weft_scan_states_size() elements, or NULL in forward: not
                          saved */
    weft_real *hT;     /* forward: [B,E,N] state after the last row, or NULL; may be h0 */
    weft_real *sigma; /* forward: [B,E] sum of delta over the rows, +infinity where a document starts in them,
                         or NULL: hT depends on h0 as exp(A sigma) h0 */
    const weft_act *dout;              /* backward */
    const weft_real *dhT;              /* backward: [B,E,N] gradient of hT, or NULL: zeros */
    weft_act *du, *ddt, *dz, *dB, *dC; /* backward: assigned */
    weft_real *ddt_bias, *dA_log, *dD; /* backward: added */
    weft_real *dh0;                    /* backward: [B,E,N] assigned, or NULL */
} weft_scan;

/* The state carried over the chunks of a sequence under context parallelism (sequence = 2*cp zig-zag chunks;
 * rank r holds chunks r, in slot 0, and 2*cp-1-r, in slot 1). `parts` holds cp blocks of `stride` elements,
 * block r: S [B,2,E,N] (slot after b), then sigma [B,2,E].  With P_k = exp(A sigma_k), A = -exp(A_log) (0
 * where sigma is infinite): forward:  h_0 = 0, h_{k+1} = P_k h_k + S_k;      out[b,slot] = h_k of this rank's
 * chunks: the state before them reverse:  g_last = 0, g_{k-1} = P_k g_k + S_k;   out = g_k: the gradient of
 * the state after them (S: hT from zeros in forward, dh0 from zero dhT in reverse). */
typedef struct weft_carry {
    int64_t B, E, N;
    int cp, rank;
    bool reverse;
    const weft_real *parts, *A_log; /* [E,N] */
    int64_t stride;
    weft_real *out; /* [B,2,E,N] */
} weft_carry;
static inline int64_t weft_scan_states_size(int64_t B, int64_t T, int64_t E, int64_t N) {
    return B * ((T + WEFT_SCAN_CHUNK - 1) / WEFT_SCAN_CHUNK) * E * N;
}

/* Causal attention with grouped key/value heads (Ainslie et al., arXiv 2305.13245), without a Tq x Tk matrix
 * (Dao, arXiv 2307.08691).
 *   query i of a sequence stands at position q_pos0 + i, key j at position j.
 *   s[h,i,j] = scale * <q[i,h], k[j,h/(H/G)]>  for  doc_start[i] <= j <= q_pos0 + i,  otherwise -inf
 *   o[i,h] = sum_j softmax_j(s) v[j,h/(H/G)];  lse[i,h] = log sum_j exp(s)
 * Rows: q, o [B*Tq, H*d]; k, v [B*Tk, G*d]; head h of a row at offset h*d. */
typedef struct weft_attention {
    int64_t B, Tq, Tk, H, G, d, q_pos0;
    int64_t ldq, ldk, ldv, ldo; /* also of dq, dk, dv, do */
    weft_real scale;            /* 1/sqrt(d) */
    const weft_act *q, *k, *v;
    const int32_t *doc_start; /* [B*Tq] per query, or NULL: all zero */
    weft_act *o;              /* forward out, backward in */
    weft_real *lse;           /* [B*Tq, H] forward out (may be NULL there), backward in */
    const weft_act *dout;     /* backward */
    weft_act *dq, *dk, *dv;   /* backward: assigned */
} weft_attention;

/* Router of a mixture of experts (Shazeer et al., arXiv 1701.06538; Jamba: softmax over all experts, then
 * top-k). p = softmax(logits);  (id, w) = k largest p, ties to the lower id, in falling order of p;  w /=
 * sum(w) if normalise lse = logsumexp(logits). */
typedef struct weft_router {
    int64_t M, X, k;
    bool normalise;
    const weft_real *logits; /* [M,X] of linear_fwd_real */
    weft_real *probs;        /* forward out, backward in: [M,X] */
    weft_real *lse;          /* forward out, backward in: [M] */
    int32_t *ids;            /* forward out, backward in: [M,k] */
    weft_real *w;            /* forward out, backward in: [M,k] */
    const weft_real *dw;     /* backward: [M,k] */
    const weft_real *dprob;  /* backward: [X] added to every row's gradient of p (load balance), or NULL */
    weft_real dlse2;         /* backward: coefficient c of the loss c * sum_m lse[m]^2 (z-loss) */
    weft_act *dlogits;       /* backward: [M,X] assigned */
} weft_router;

typedef struct weft_adamw {
    weft_real lr, beta1, beta2, eps, weight_decay;
    int64_t step;                 /* 1 for the first */
    const struct weft_clip *clip; /* on the device: gradients are multiplied by its scale first; without
                                     `finite` nothing is changed */
} weft_adamw;

/* What the update needs to know of all gradients. */
typedef struct weft_clip {
    double norm;     /* of the gradient */
    weft_real scale; /* max_norm / norm when that is below 1 and max_norm above 0, else 1 */
    int32_t finite;  /* is the norm a number? */
} weft_clip;
weft_clip weft_clip_of(double squared_norm, double max_norm);

typedef struct weft_ops {
    const char *name; /* "cpu-v3" ... */

    /* Linear layer, w [n,k]:  y[m,n] = x[m,k] w^T (+ bias[n] unless NULL) (+ y if accumulate). */
    void (*linear_fwd)(weft_device *d, weft_act *y, int64_t ldy, const weft_act *x, int64_t ldx,
                       const weft_act *w, const weft_act *bias, int64_t m, int64_t n, int64_t k,
                       bool accumulate);
    /* The same with y in weft_real, without bias and accumulation: router logits. */
    void (*linear_fwd_real)(weft_device *d, weft_real *y, int64_t ldy, const weft_act *x, int64_t ldx,
                            const weft_act *w, int64_t m, int64_t n, int64_t k);
    /* dx[m,k] = dy[m,n] w (+ dx if accumulate). */
    void (*linear_dgrad)(weft_device *d, weft_act *dx, int64_t lddx, const weft_act *dy, int64_t lddy,
                         const weft_act *w, int64_t m, int64_t n, int64_t k, bool accumulate);
    /* dw[n,k] += dy^T x;  dbias[n] += sum_m dy unless NULL. */
    void (*linear_wgrad)(weft_device *d, weft_real *dw, weft_real *dbias, const weft_act *dy, int64_t lddy,
                         const weft_act *x, int64_t ldx, int64_t m, int64_t n, int64_t k);

    /* The same for g groups of rows: rows offsets[i] .. offsets[i+1] (offsets [g+1], on the device) use
     * w + i*stride (elements), and dw + i*stride. Rows lie densely (ld = width). A group may be empty. m_max
     * bounds offsets[g]. */
    void (*grouped_fwd)(weft_device *d, weft_act *y, const weft_act *x, const weft_act *w, int64_t stride,
                        const int64_t *offsets, int64_t g, int64_t m_max, int64_t n, int64_t k);
    void (*grouped_dgrad)(weft_device *d, weft_act *dx, const weft_act *dy, const weft_act *w, int64_t stride,
                          const int64_t *offsets, int64_t g, int64_t m_max, int64_t n, int64_t k);
    void (*grouped_wgrad)(weft_device *d, weft_real *dw, int64_t stride, const weft_act *dy,
                          const weft_act *x, const int64_t *offsets, int64_t g, int64_t m_max, int64_t n,
                          int64_t k);

    /* A table of the rows first .. first+V of a vocabulary: y[m] = table[ids[m] - first], zeros where that
     * row is not in the table;  dtable[ids[m] - first] += dy[m] where it is, equal ids in order of m. */
    void (*embedding_fwd)(weft_device *d, weft_act *y, const weft_act *table, const int32_t *ids, int64_t M,
                          int64_t D, int64_t first, int64_t V);
    void (*embedding_bwd)(weft_device *d, weft_real *dtable, const weft_act *dy, const int32_t *ids,
                          int64_t M, int64_t D, int64_t first, int64_t V);

    /* RMSNorm (Zhang and Sennrich, arXiv 1910.07467), with the residual addition before it:
     *   h = x + delta (stored to h; with delta NULL h is x itself and `h` is ignored);
     *   rstd = 1/sqrt(mean(h^2) + eps);  y = w * (h * rstd).   rows [M,D]; h has the stride ldx, delta the
     * width D. */
    void (*rmsnorm_fwd)(weft_device *d, weft_act *y, int64_t ldy, weft_real *rstd, weft_act *h,
                        const weft_act *x, int64_t ldx, const weft_act *delta, const weft_act *w,
                        weft_real eps, int64_t M, int64_t D);
    /* dh = rstd * (w*dy - h * rstd^2 * mean(w*dy*h)) (+ dh if accumulate);  dw += sum_m dy*h*rstd.
     * dh may be dy. */
    void (*rmsnorm_bwd)(weft_device *d, weft_act *dh, int64_t lddh, weft_real *dw, const weft_act *dy,
                        int64_t lddy, const weft_act *h, int64_t ldh, const weft_real *rstd,
                        const weft_act *w, int64_t M, int64_t D, bool accumulate);

    void (*conv_fwd)(weft_device *d, const weft_conv *a);
    void (*conv_bwd)(weft_device *d, const weft_conv *a);
    void (*scan_fwd)(weft_device *d, const weft_scan *a);
    void (*scan_bwd)(weft_device *d, const weft_scan *a);
    /* dh0 only (from dout, z, dt, dt_bias, A_log, Cm, doc_start, dhT; the rest is not read): the gradient of
     * the state before row 0, without the states. */
    void (*scan_bwd_state)(weft_device *d, const weft_scan *a);
    void (*scan_carry)(weft_device *d, const weft_carry *a);
    void (*attention_fwd)(weft_device *d, const weft_attention *a);
    void (*attention_bwd)(weft_device *d, const weft_attention *a);

    /* Rotary position embedding (Su et al., arXiv 2104.09864), in place, the halves of a head rotated as in
     * GPT-NeoX and Llama: for i < d/2, angle = pos * theta^(-2i/d), (x[i], x[i+d/2]) turned by it. Row (b,t)
     * has pos = pos0 + t, less doc_start of the row unless NULL (positions count from the document's first
     * token). inverse: by -angle, which is the backward pass. heads*d columns of x are used. */
    void (*rope)(weft_device *d, weft_act *x, int64_t ldx, int64_t B, int64_t T, int64_t heads,
                 int64_t head_dim, weft_real theta, int64_t pos0, const int32_t *doc_start, bool inverse);

    /* SwiGLU (Shazeer, arXiv 2002.05202): gu [M,2F] = (gate | up);  y[M,F] = silu(gate) * up.
     * Backward: dgu [M,2F]; dgu may be gu itself. */
    void (*swiglu_fwd)(weft_device *d, weft_act *y, const weft_act *gu, int64_t M, int64_t F);
    void (*swiglu_bwd)(weft_device *d, weft_act *dgu, const weft_act *dy, const weft_act *gu, int64_t M,
                       int64_t F);
    /* Backward of y[m] = w[m] * (a[m] W^T), a = swiglu(gu), without a and y: from du [M,F] = dy W, the
     * gradient of a before the weight,
     *   dw[m] = <du[m], a[m]>;  dgu = gradient of gu from w[m] * du[m], may be gu;
     *   du[m] <- w[m] * a[m], whose product with dy is the gradient of W. */
    void (*swiglu_weighted_bwd)(weft_device *d, weft_act *dgu, weft_real *dw, weft_act *du,
                                const weft_act *gu, const weft_real *w, int64_t M, int64_t F);

    void (*router_fwd)(weft_device *d, const weft_router *a);
    void (*router_bwd)(weft_device *d, const weft_router *a);
    /* counts[k,X] (int64): how many rows chose expert x in slot s;  prob_sum[X] = sum_m probs;  *lse2_sum =
     * sum lse^2. All assigned. Rows in fixed order. */
    void (*router_stats)(weft_device *d, int64_t *counts, weft_real *prob_sum, weft_real *lse2_sum,
                         const weft_router *a);

    /* Load-balance loss over L MoE layers taken together (Fedus et al., arXiv 2101.03961; Jamba concatenates
     * the layers' tokens): f[s,x] = sum_l counts[l,s,x] / (L*M), P[x] = sum_l prob_sum[l,x] / (L*M); *loss =
     * X * sum_s sum_x f[s,x] * P[x];  dprob[x] = coef * X * sum_s f[s,x] / (L*M), the gradient of coef * loss
     * by every row's probability of x. counts [L,k,X], prob_sum [L,X]: L results of router_stats. */
    void (*moe_balance)(weft_device *d, weft_real *dprob, double *loss, const int64_t *counts,
                        const weft_real *prob_sum, int64_t L, int64_t k, int64_t X, int64_t M,
                        weft_real coef);

    /* Dispatch order: slots (m, s) sorted stably by expert. offsets[X+1]: first slot of each expert;
     * slot_of[M*k]: place of (m,s) in that order; row_of[M*k]: token m of each place. */
    void (*moe_sort)(weft_device *d, int64_t *offsets, int32_t *slot_of, int32_t *row_of, const int32_t *ids,
                     int64_t M, int64_t k, int64_t X);
    /* Rows that came from `sources` ranks, source by source and each sorted by expert, put into the order of
     * experts (within an expert: of sources, then as they came). The experts are first .. first+count of X;
     * all[sources,X+1]: every source's offsets of moe_sort, so that source s sent all[s][x+1] - all[s][x]
     * rows for expert x. offsets[count+1]: first place of each expert; row_of[n]: the row at each place;
     * place_of[n]: the place of each row. n: the rows that came, in all; the host knows it. */
    void (*moe_regroup)(weft_device *d, int64_t *offsets, int32_t *row_of, int32_t *place_of,
                        const int64_t *all, int64_t sources, int64_t X, int64_t first, int64_t count,
                        int64_t n);
    /* y[i] = x[row_of[i]], i < n. */
    void (*gather_rows)(weft_device *d, weft_act *y, const weft_act *x, const int32_t *row_of, int64_t n,
                        int64_t D);
    /* dx[m] = sum_s dy[slot_of[m,s]] (the dual of gather_rows) (+ dx if accumulate), s in order. */
    void (*gather_rows_bwd)(weft_device *d, weft_act *dx, const weft_act *dy, const int32_t *slot_of,
                            int64_t M, int64_t k, int64_t D, bool accumulate);
    /* y[place_of[i]] = x[i], i < n, for a permutation of weft_real numbers; inverse: y[i] = x[place_of[i]].
     */
    void (*permute_real)(weft_device *d, weft_real *y, const weft_real *x, const int32_t *place_of, int64_t n,
                         bool inverse);
    /* y[m] = sum_s w[m,s] * x[slot_of[m,s]]. */
    void (*moe_combine)(weft_device *d, weft_act *y, const weft_act *x, const weft_real *w,
                        const int32_t *slot_of, int64_t M, int64_t k, int64_t D);
    /* dx[slot_of[m,s]] = w[m,s] * dy[m];  dw[m,s] = <x[slot_of[m,s]], dy[m]>.  dx may be x. */
    void (*moe_combine_bwd)(weft_device *d, weft_act *dx, weft_real *dw, const weft_act *dy,
                            const weft_act *x, const weft_real *w, const int32_t *slot_of, int64_t M,
                            int64_t k, int64_t D);

    /* Softmax cross-entropy over rows of logits [M,V] (stride V); a target of -1 does not count:
     *   loss[m] = logsumexp(logits[m]) - logits[m,target]  (0 when it does not count), unless loss is NULL.
     * With with_grad, logits are replaced by their gradient: scale * (softmax - onehot), zero rows where the
     * target does not count. */
    void (*cross_entropy)(weft_device *d, weft_real *loss, weft_act *logits, const int32_t *targets,
                          int64_t M, int64_t V, weft_real scale, bool with_grad);

    /* The same over a vocabulary cut into `parts` (tensor parallelism). partial: logits of the words first ..
     * first+V; part[m] = (maximum, sum of exp(logit - maximum), logit of the target, or 0 when it is not
     * among them); V may be 0: (-infinity, 0, 0). merge: all_parts [parts,M,3]; loss as above; with
     * with_grad, logits are replaced by their gradient. */
    void (*cross_entropy_partial)(weft_device *d, weft_real *part, const weft_act *logits,
                                  const int32_t *targets, int64_t M, int64_t first, int64_t V);
    void (*cross_entropy_merge)(weft_device *d, weft_real *loss, weft_act *logits, const weft_real *all_parts,
                                int64_t parts, const int32_t *targets, int64_t M, int64_t first, int64_t V,
                                weft_real scale, bool with_grad);

    /* y = a + b (y may be a or b);  y += alpha*x. Flat arrays of n. */
    void (*add)(weft_device *d, weft_act *y, const weft_act *a, const weft_act *b, int64_t n);
    void (*axpy)(weft_device *d, weft_act *y, weft_real alpha, const weft_act *x, int64_t n);
    void (*zero)(weft_device *d, void *p, size_t bytes);
    void (*copy)(weft_device *d, void *dst, const void *src, size_t bytes);
    /* Rows with strides: y[m] = x[m]. */
    void (*copy_rows)(weft_device *d, weft_act *y, int64_t ldy, const weft_act *x, int64_t ldx, int64_t M,
                      int64_t D);
    /* sum += x^2 over blocks of WEFT_SUM_BLOCK elements: each block's sum in double in fixed order, the
     * blocks' sums added exactly (runtime/exact.h), so that an array cut at multiples of a block, and summed
     * by ranks in any order, gives the same bits. For weft_real arrays (gradients). */
    void (*sumsq)(weft_device *d, weft_exact *sum, const weft_real *x, int64_t n);
    /* weft_exact_carry of *sum; then words of several ranks may be added. */
    void (*exact_carry)(weft_device *d, weft_exact *sum);
    /* The norm whose square is *sum, and what follows from it. */
    void (*clip)(weft_device *d, weft_clip *out, const weft_exact *sum, double max_norm);
    /* *out = scale * sum x^2, or sum x (+ *out if accumulate), in double, in fixed order. */
    void (*sumsq_act)(weft_device *d, double *out, const weft_act *x, int64_t n, double scale,
                      bool accumulate);
    void (*sum_real)(weft_device *d, double *out, const weft_real *x, int64_t n, double scale,
                     bool accumulate);
    /* y += x for weft_real arrays (the tree of gradient sums). */
    void (*add_real)(weft_device *d, weft_real *y, const weft_real *x, int64_t n);
    /* The sum of `count` parts of n elements at a stride of `stride`, pairwise by number:
     * ((0+1)+(2+3))+..., level by level, one left over waits; in weft_real. parts: weft_real, or of `type`;
     * out [n] likewise of `out_type`: assigned, or added to (weft_real only). out may be part 0. */
    void (*tree_sum)(weft_device *d, void *out, weft_dtype out_type, const void *parts, weft_dtype type,
                     int64_t stride, int64_t count, int64_t n, bool accumulate);
    /* y[i] = x[i] in another type, rounded to nearest even. Types: weft_real's and d->act_dtype's. */
    void (*cast)(weft_device *d, void *y, weft_dtype to, const void *x, weft_dtype from, int64_t n);
    /* AdamW (Loshchilov and Hutter, arXiv 1711.05101) on flat arrays:
     *   g = clip.scale*g; m = b1*m + (1-b1)*g; v = b2*v + (1-b2)*g^2;
     *   p -= lr * ( m/(1-b1^t) / (sqrt(v/(1-b2^t)) + eps) + weight_decay*p );   p_act = p, unless NULL:
     * the working copy of the parameters where activations are not weft_real. */
    void (*adamw)(weft_device *d, weft_real *p, weft_act *p_act, const weft_real *g, weft_real *m,
                  weft_real *v, int64_t n, const weft_adamw *a);
} weft_ops;

/* Every operation once: the backends fill their tables from this list, so a missing one fails to link. */
#define WEFT_OPS_LIST(X)                                                                                     \
    X(linear_fwd)                                                                                            \
    X(linear_fwd_real) X(linear_dgrad) X(linear_wgrad) X(grouped_fwd) X(grouped_dgrad) X(grouped_wgrad)      \
        X(embedding_fwd) X(embedding_bwd) X(rmsnorm_fwd) X(rmsnorm_bwd) X(conv_fwd) X(conv_bwd) X(scan_fwd)  \
            X(scan_bwd) X(scan_bwd_state) X(scan_carry) X(attention_fwd) X(attention_bwd) X(rope)            \
                X(swiglu_fwd) X(swiglu_bwd) X(swiglu_weighted_bwd) X(router_fwd) X(router_bwd)               \
                    X(router_stats) X(moe_balance) X(moe_sort) X(moe_regroup) X(gather_rows)                 \
                        X(gather_rows_bwd) X(permute_real) X(moe_combine) X(moe_combine_bwd)                 \
                            X(cross_entropy) X(cross_entropy_partial) X(cross_entropy_merge) X(add) X(axpy)  \
                                X(zero) X(copy) X(copy_rows) X(sumsq) X(exact_carry) X(clip) X(sumsq_act)    \
                                    X(sum_real) X(add_real) X(tree_sum) X(cast) X(adamw)

#endif
