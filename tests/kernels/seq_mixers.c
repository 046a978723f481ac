/* Cases of the operations along the sequence: convolution, scan, attention, rotary embedding. */
#include "kernels/seq_case.h"
#include "support/suite.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static void run_conv_fwd(weft_device *d, void *a) {
    d->ops->conv_fwd(d, a);
}
static void run_conv_bwd(weft_device *d, void *a) {
    d->ops->conv_bwd(d, a);
}
static void run_scan_fwd(weft_device *d, void *a) {
    d->ops->scan_fwd(d, a);
}
static void run_scan_bwd(weft_device *d, void *a) {
    d->ops->scan_bwd(d, a);
}
static void run_scan_bwd_state(weft_device *d, void *a) {
    d->ops->scan_bwd_state(d, a);
}
static void run_attention_fwd(weft_device *d, void *a) {
    d->ops->attention_fwd(d, a);
}
static void run_attention_bwd(weft_device *d, void *a) {
    d->ops->attention_bwd(d, a);
}

void seq_conv(const conv_shape *s) {
    const int64_t M = s->B * s->T, E = s->E, K = s->K, ld = E + SEQ_PAD, pos0 = s->halo == 1 ? 9 : 0;
    seq_case in = {.seed = 1}, out = {.seed = 2};
    ref_conv r = {.B = s->B, .T = s->T, .E = E, .K = K, .pos0 = pos0};
    weft_conv a = {.B = s->B, .T = s->T, .E = E, .K = K, .ldx = ld, .ldy = ld, .pos0 = pos0};
    char what[160];
    snprintf(what, sizeof what, "conv B=%d T=%d E=%d K=%d bias=%d halo=%d documents=%d", (int)s->B, (int)s->T,
             (int)E, (int)K, s->bias, s->halo, s->documents);
    int32_t *documents = !s->documents  ? NULL
                         : s->halo == 2 ? seq_chunk_documents(3, s->B, s->T, s->documents)
                                        : seq_documents(3, s->B, s->T, pos0, s->documents);
    a.doc_start = r.doc_start = documents;
    a.x = seq_input(&in, &r.x, M, E, ld, -2, 2);
    a.w = seq_input(&in, &r.w, E, K, K, -1, 1);
    if (s->bias) a.bias = seq_input(&in, &r.bias, 1, E, E, -1, 1);
    if (s->halo) a.halo = seq_input(&in, &r.halo, s->B * (K - 1), E, E, -2, 2);
    a.dy = seq_input(&in, &r.dy, M, E, ld, -1, 1);

    a.y = seq_output(&out, "y", &r.y, M, E, ld, s->forward);
    a.halo_out = seq_output(&out, "halo_out", &r.halo_out, s->B * (K - 1), E, E, 0);
    ref_conv_fwd(&r);
    seq_run(&out, run_conv_fwd, &a, what);
    seq_free(&out);

    a.dx = seq_output(&out, "dx", &r.dx, M, E, ld, s->gradient);
    if (s->halo) a.dhalo = seq_output(&out, "dhalo", &r.dhalo, s->B * (K - 1), E, E, s->gradient);
    a.dw = seq_sum(&out, "dw", &r.dw, E, K, s->gradient);
    if (s->bias) a.dbias = seq_sum(&out, "dbias", &r.dbias, 1, E, s->gradient);
    ref_conv_bwd(&r);
    seq_run(&out, run_conv_bwd, &a, what);
    seq_free(&out);
    seq_free(&in);
    free(documents);
}

/* The passes that give a state and nothing else: what they must not read is not there. */
static void scan_state_forward(const weft_scan *whole, const ref_scan *r, double tolerance,
                               const char *what) {
    seq_case c = {.seed = 15};
    weft_scan a = *whole;
    a.z = a.Cm = NULL, a.D = NULL, a.y = a.out = NULL;
    a.hT = seq_again(&c, "hT alone", r->hT, a.B * a.E, a.N, tolerance);
    a.sigma = seq_again(&c, "sigma alone", r->sigma, a.B, a.E, tolerance);
    seq_run(&c, run_scan_fwd, &a, what);
    seq_free(&c);
}
static void scan_state_backward(const weft_scan *whole, const ref_scan *r, double tolerance,
                                const char *what) {
    seq_case c = {.seed = 16};
    const weft_scan *w = whole;
    weft_scan a = {.B = w->B,
                   .T = w->T,
                   .E = w->E,
                   .N = w->N,
                   .lddt = w->lddt,
                   .ldz = w->ldz,
                   .ldbc = w->ldbc,
                   .ldy = w->ldy,
                   .dt = w->dt,
                   .z = w->z,
                   .Cm = w->Cm,
                   .dt_bias = w->dt_bias,
                   .A_log = w->A_log,
                   .doc_start = w->doc_start,
                   .pos0 = w->pos0,
                   .dout = w->dout,
                   .dhT = w->dhT};
    a.dh0 = seq_again(&c, "dh0 alone", r->dh0, a.B * a.E, a.N, tolerance);
    seq_run(&c, run_scan_bwd_state, &a, what);
    seq_free(&c);
}

void seq_scan(const scan_shape *s) {
    const int64_t B = s->B, T = s->T, E = s->E, N = s->N, M = B * T, pos0 = s->state == 1 ? 6 : 0;
    seq_case in = {.seed = 4}, out = {.seed = 5};
    ref_scan r = {.B = B, .T = T, .E = E, .N = N, .pos0 = pos0};
    weft_scan a = {.B = B, .T = T, .E = E, .N = N, .pos0 = pos0};
    char what[160];
    snprintf(what, sizeof what, "scan B=%d T=%d E=%d N=%d state=%d documents=%d", (int)B, (int)T, (int)E,
             (int)N, s->state, s->documents);
    a.ldu = E + 1, a.lddt = E + 2, a.ldz = 2 * E + 3, a.ldbc = N + 5, a.ldy = E + SEQ_PAD;
    int32_t *documents = !s->documents   ? NULL
                         : s->state == 2 ? seq_chunk_documents(6, B, T, s->documents)
                                         : seq_documents(6, B, T, pos0, s->documents);
    a.doc_start = r.doc_start = documents;
    a.u = seq_input(&in, &r.u, M, E, a.ldu, -1, 1);
    a.dt = seq_input(&in, &r.dt, M, E, a.lddt, -6, 2);
    a.z = seq_input(&in, &r.z, M, E, a.ldz, -3, 3);
    a.Bm = seq_input(&in, &r.Bm, M, N, a.ldbc, -1, 1);
    a.Cm = seq_input(&in, &r.Cm, M, N, a.ldbc, -1, 1);
    weft_real *bias = seq_input(&in, &r.dt_bias, 1, E, E, -1, 1);
    bias[E / 2] = (weft_real)(r.dt_bias[E / 2] = 21); /* a channel on the straight part of softplus */
    a.dt_bias = bias;
    a.A_log = seq_input(&in, &r.A_log, E, N, N, -1, 2.8);
    a.D = seq_input(&in, &r.D, 1, E, E, -1, 1);
    if (s->state) a.h0 = seq_input(&in, &r.h0, B * E, N, N, -1, 1);
    if (s->state) a.dhT = seq_input(&in, &r.dhT, B * E, N, N, -1, 1);
    a.dout = seq_input(&in, &r.dout, M, E, a.ldy, -1, 1);

    double *unused;
    a.y = seq_output(&out, "y", &r.y, M, E, a.ldy, s->forward);
    a.out = seq_output(&out, "out", &r.out, M, E, a.ldy, s->forward);
    a.hT = seq_output(&out, "hT", &r.hT, B * E, N, N, s->forward);
    a.sigma = seq_output(&out, "sigma", &r.sigma, B, E, E, s->forward);
    ref_scan_fwd(&r);
    seq_run(&out, run_scan_fwd, &a, what);
    scan_state_forward(&a, &r, s->forward, what);
    /* With the states saved, hT and sigma not wanted, the rest is the same; the backward pass checks the
     * states. */
    seq_case kept = {.seed = 7};
    a.states = seq_input(&kept, &unused, 1, weft_scan_states_size(B, T, E, N),
                         weft_scan_states_size(B, T, E, N), 0, 1);
    a.hT = a.sigma = NULL;
    out.arrays[2].name = out.arrays[3].name = NULL;
    seq_run(&out, run_scan_fwd, &a, what);
    seq_give(&out, a.y);

    seq_case grad = {.seed = 8};
    a.du = seq_output(&grad, "du", &r.du, M, E, a.ldu, s->gradient);
    a.ddt = seq_output(&grad, "ddt", &r.ddt, M, E, a.lddt, s->gradient);
    a.dz = seq_output(&grad, "dz", &r.dz, M, E, a.ldz, s->gradient);
    a.dB = seq_output(&grad, "dB", &r.dB, M, N, a.ldbc, s->gradient);
    a.dC = seq_output(&grad, "dC", &r.dC, M, N, a.ldbc, s->gradient);
    a.ddt_bias = seq_sum(&grad, "ddt_bias", &r.ddt_bias, 1, E, s->gradient);
    a.dA_log = seq_sum(&grad, "dA_log", &r.dA_log, E, N, s->gradient);
    a.dD = seq_sum(&grad, "dD", &r.dD, 1, E, s->gradient);
    weft_real *dh0 = seq_output(&grad, "dh0", &r.dh0, B * E, N, N, s->gradient);
    a.dh0 = dh0;
    ref_scan_bwd(&r);
    seq_run(&grad, run_scan_bwd, &a, what);
    scan_state_backward(&a, &r, s->gradient, what);
    seq_free(&grad), seq_free(&kept), seq_free(&out), seq_free(&in);
    free(documents);
}

void seq_attention(const attention_shape *s) {
    const int64_t B = s->B, Tq = s->Tq, Tk = s->Tk, H = s->H, G = s->G, d = s->d;
    const int64_t qw = H * d, kw = G * d, before = Tk - Tq;
    seq_case in = {.seed = 9}, out = {.seed = 10}, grad = {.seed = 11};
    ref_attention r = {
        .B = B, .Tq = Tq, .Tk = Tk, .H = H, .G = G, .d = d, .q_pos0 = before, .scale = 1 / sqrt((double)d)};
    weft_attention a = {.B = B, .Tq = Tq, .Tk = Tk, .H = H, .G = G, .d = d, .q_pos0 = before};
    char what[160];
    snprintf(what, sizeof what, "attention B=%d Tq=%d Tk=%d H=%d G=%d d=%d documents=%d", (int)B, (int)Tq,
             (int)Tk, (int)H, (int)G, (int)d, s->documents);
    a.scale = (weft_real)r.scale;
    a.ldq = qw + 1, a.ldk = kw + 2, a.ldv = kw + SEQ_PAD, a.ldo = qw + 5;
    int32_t *documents = s->documents ? seq_documents(12, B, Tq, before, s->documents) : NULL;
    a.doc_start = r.doc_start = documents;
    a.q = seq_input(&in, &r.q, B * Tq, qw, a.ldq, -3, 3);
    a.k = seq_input(&in, &r.k, B * Tk, kw, a.ldk, -3, 3);
    a.v = seq_input(&in, &r.v, B * Tk, kw, a.ldv, -1, 1);
    a.dout = seq_input(&in, &r.dout, B * Tq, qw, a.ldo, -1, 1);

    a.o = seq_output(&out, "o", &r.o, B * Tq, qw, a.ldo, s->forward);
    a.lse = seq_output(&out, "lse", &r.lse, B * Tq, H, H, s->forward);
    ref_attention_fwd(&r);
    seq_run(&out, run_attention_fwd, &a, what);
    seq_give(&out, a.o);
    seq_give(&out, a.lse);

    a.dq = seq_output(&grad, "dq", &r.dq, B * Tq, qw, a.ldq, s->gradient);
    a.dk = seq_output(&grad, "dk", &r.dk, B * Tk, kw, a.ldk, s->gradient);
    a.dv = seq_output(&grad, "dv", &r.dv, B * Tk, kw, a.ldv, s->gradient);
    ref_attention_bwd(&r);
    seq_run(&grad, run_attention_bwd, &a, what);
    seq_free(&grad), seq_free(&out), seq_free(&in);
    free(documents);
}

typedef struct rope_argument {
    const rope_shape *s;
    weft_real *x;
    int64_t ldx;
    const int32_t *documents;
    bool inverse;
} rope_argument;

static void run_rope(weft_device *d, void *argument) {
    const rope_argument *p = argument;
    d->ops->rope(d, p->x, p->ldx, p->s->B, p->s->T, p->s->heads, p->s->d, (weft_real)p->s->theta, p->s->pos0,
                 p->documents, p->inverse);
}

void seq_rope(const rope_shape *s) {
    const int64_t M = s->B * s->T, width = s->heads * s->d, ld = width + SEQ_PAD;
    int32_t *documents = s->documents ? seq_documents(13, s->B, s->T, s->pos0, s->documents) : NULL;
    for (int inverse = 0; inverse < 2; inverse++) {
        seq_case c = {.seed = 14};
        rope_argument p = {.s = s, .ldx = ld, .documents = documents, .inverse = inverse};
        double *x;
        p.x = seq_input(&c, &x, M, width, ld, -1, 1);
        c.arrays[0].name = "x", c.arrays[0].tolerance = s->forward; /* in place: an input that is checked */
        ref_rope(x, s->B, s->T, s->heads, s->d, s->theta, s->pos0, documents, inverse ? -1 : 1);
        seq_run(&c, run_rope, &p, inverse ? "rope, inverse" : "rope");
        seq_free(&c);
    }
    free(documents);
}
