/* Selective scan on a CUDA device against the CPU; a sequence in the chunks of context parallelism against
 * the whole; the carry between them. */
#include "kernels/cuda/documents.h"
#include "support/suite.h"

#include <math.h>
#include <string.h>

#define COUNT(table) (int)(sizeof(table) / sizeof *(table))

/* Recurrences and sums in float in the same or another order; what is in bf16 is rounded once besides. */
#define TOLERANCE 1e-5

typedef struct scan_shape {
    int64_t B, T, E, N, wide; /* strides are wider than the rows by `wide` elements */
    int state,
        documents; /* state: with h0, dhT; 2 for those of a chunk. documents: mean length, 0 for none */
} scan_shape;

static const scan_shape shapes[] = {
    {1, 1, 8, 16, 0, 0, 0},
    {2, 1, 24, 4, 1, 1, 1},
    {2, 37, 24, 16, 8, 1, 0},
    {1, 65, 100, 16, 3, 0, 9},
    {3, 32, 8, 1, 0, 1, 0},
    {1, 70, 24, 20, 0, 1, 30},
    {2, 64, 40, 4, 8, 0, 0},
    {1, 45, 130, 16, 1, 1, 50},
    {3, 61, 72, 16, 0, 2, 40},
    {2, 37, 24, 5, 0, 2, 300},
    {1, 9, 3, 256, 0, 1, 4},
    {2, 0, 8, 16, 0, 1, 0},
    {1, 40, 8, 33, 0, 0, 1},
    /* walked in several stretches at the same time */
    {1, 600, 8, 16, 0, 1, 150},
    {2, 530, 5, 3, 1, 0, 0},
    {1, 545, 9, 20, 0, 2, 120},
    {1, 641, 8, 16, 0, 1, 1},
};

/* The arrays of a problem. hT, sigma, dh0 ...: of the whole pass, and of the one that gives nothing else. */
typedef struct problem {
    int64_t B, T, E, N, wide, pos0;
    pair_array u, dt, z, Bm, Cm, dt_bias, A_log, D, doc_start, h0, dout, y_in, dhT;
    pair_array y, out, hT, sigma, states, du, ddt, dz, dB, dC, ddt_bias, dA_log, dD, dh0;
    pair_array y_alone, out_alone, sigma_with, hT_alone, sigma_alone, sigma_only, dh0_alone;
} problem;

static void set(pair *p, pair_array a, int64_t i, float x) {
    ((float *)p->arrays[a].before)[i] = x;
}

static problem make(pair *p, const scan_shape *s) {
    const int64_t M = s->B * s->T, E = s->E, N = s->N, wide = s->wide, states = s->B * E * N;
    problem q = {.B = s->B, .T = s->T, .E = E, .N = N, .wide = wide, .pos0 = s->state == 1 ? 6 : 0};
    q.u = pair_act(p, M * (E + wide), PAIR_UNIFORM(-1, 1));
    q.dt = pair_act(p, M * (E + wide), PAIR_UNIFORM(-6, 2));
    q.z = pair_act(p, M * 2 * (E + wide), PAIR_UNIFORM(-3, 3)); /* half of a row, as in the model */
    q.Bm = pair_act(p, M * (N + wide), PAIR_UNIFORM(-1, 1));
    q.Cm = pair_act(p, M * (N + wide), PAIR_UNIFORM(-1, 1));
    q.dt_bias = pair_real(p, E, PAIR_UNIFORM(-1, 1));
    set(p, q.dt_bias, E / 2, 21); /* a channel on the straight part of softplus */
    q.A_log = pair_real(p, E * N, PAIR_UNIFORM(-1, 2.8));
    q.D = pair_real(p, E, PAIR_UNIFORM(-1, 1));
    q.doc_start = s->documents ? pair_documents(p, s->B, s->T, q.pos0, s->state ? 2 : 0, s->documents) : -1;
    q.h0 = s->state ? pair_real(p, states, PAIR_UNIFORM(-1, 1)) : -1;
    q.dhT = s->state ? pair_real(p, states, PAIR_UNIFORM(-1, 1)) : -1;
    q.dout = pair_act(p, M * (E + wide), PAIR_UNIFORM(-1, 1));
    q.y_in = pair_act(p, M * (E + wide), PAIR_UNIFORM(-2, 2));

    q.y = pair_act_out(p, M * (E + wide)), q.out = pair_act_out(p, M * (E + wide));
    q.hT = pair_real_out(p, states), q.sigma = pair_real_out(p, s->B * E);
    q.states = pair_real_out(p, weft_scan_states_size(s->B, s->T, E, N));
    q.du = pair_act_out(p, M * (E + wide)), q.ddt = pair_act_out(p, M * (E + wide));
    q.dz = pair_act_out(p, M * 2 * (E + wide));
    q.dB = pair_act_out(p, M * (N + wide)), q.dC = pair_act_out(p, M * (N + wide));
    q.ddt_bias = pair_real(p, E, PAIR_UNIFORM(-1, 1)), q.dA_log = pair_real(p, E * N, PAIR_UNIFORM(-1, 1));
    q.dD = pair_real(p, E, PAIR_UNIFORM(-1, 1));
    q.dh0 = pair_real_out(p, states);

    q.y_alone = pair_act_out(p, M * (E + wide)), q.out_alone = pair_act_out(p, M * (E + wide));
    q.sigma_with = pair_real_out(p, s->B * E), q.sigma_only = pair_real_out(p, s->B * E);
    q.hT_alone = pair_real_out(p, states), q.sigma_alone = pair_real_out(p, s->B * E);
    q.dh0_alone = pair_real_out(p, states);
    return q;
}

/* The tokens from `row` on, of all sequences; of the side that runs now. */
static weft_scan scan_of(const pair *p, const problem *q, int64_t row) {
    const int64_t ld = q->E + q->wide, ldbc = q->N + q->wide, at = row * ld;
    return (weft_scan){.B = q->B,
                       .T = q->T,
                       .E = q->E,
                       .N = q->N,
                       .ldu = ld,
                       .lddt = ld,
                       .ldz = 2 * ld,
                       .ldbc = ldbc,
                       .ldy = ld,
                       .u = pair_shift(p, q->u, at),
                       .dt = pair_shift(p, q->dt, at),
                       .z = pair_shift(p, q->z, 2 * at + ld),
                       .Bm = pair_shift(p, q->Bm, row * ldbc),
                       .Cm = pair_shift(p, q->Cm, row * ldbc),
                       .dt_bias = pair_at(p, q->dt_bias),
                       .A_log = pair_at(p, q->A_log),
                       .D = pair_at(p, q->D),
                       .doc_start = pair_shift(p, q->doc_start, row),
                       .pos0 = q->pos0,
                       .h0 = pair_at(p, q->h0),
                       .y = pair_shift(p, q->y, at),
                       .out = pair_shift(p, q->out, at),
                       .states = pair_at(p, q->states),
                       .hT = pair_at(p, q->hT),
                       .sigma = pair_at(p, q->sigma),
                       .dout = pair_shift(p, q->dout, at),
                       .dhT = pair_at(p, q->dhT),
                       .du = pair_shift(p, q->du, at),
                       .ddt = pair_shift(p, q->ddt, at),
                       .dz = pair_shift(p, q->dz, 2 * at + ld),
                       .dB = pair_shift(p, q->dB, row * ldbc),
                       .dC = pair_shift(p, q->dC, row * ldbc),
                       .ddt_bias = pair_at(p, q->ddt_bias),
                       .dA_log = pair_at(p, q->dA_log),
                       .dD = pair_at(p, q->dD),
                       .dh0 = pair_at(p, q->dh0)};
}

/* The passes that give a state and nothing else: what they must not read is not there. */
static weft_scan state_forward(const weft_scan *whole) {
    weft_scan a = *whole;
    a.z = a.Cm = NULL, a.D = NULL, a.y = a.out = NULL, a.states = NULL;
    return a;
}
static weft_scan state_backward(const weft_scan *w) {
    return (weft_scan){.B = w->B,
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
                       .dhT = w->dhT,
                       .dh0 = w->dh0};
}

static void check_gradients(const pair *p, const problem *q) {
    pair_check(p, q->du, "du", TOLERANCE);
    pair_check(p, q->ddt, "ddt", TOLERANCE);
    pair_check(p, q->dz, "dz", TOLERANCE);
    pair_check(p, q->dB, "dB", TOLERANCE);
    pair_check(p, q->dC, "dC", TOLERANCE);
    pair_check(p, q->ddt_bias, "ddt_bias", TOLERANCE);
    pair_check(p, q->dA_log, "dA_log", TOLERANCE);
    pair_check(p, q->dD, "dD", TOLERANCE);
}

static void run_all(weft_device *d, const pair *p, const problem *q) {
    const weft_scan whole = scan_of(p, q, 0);
    d->ops->scan_fwd(d, &whole);
    weft_scan outputs = whole;
    outputs.states = outputs.hT = outputs.sigma = NULL;
    outputs.y = pair_at(p, q->y_alone), outputs.out = pair_at(p, q->out_alone);
    d->ops->scan_fwd(d, &outputs);
    outputs.sigma = pair_at(p, q->sigma_with);
    d->ops->scan_fwd(d, &outputs);
    weft_scan forward = state_forward(&whole);
    forward.hT = pair_at(p, q->hT_alone), forward.sigma = pair_at(p, q->sigma_alone);
    d->ops->scan_fwd(d, &forward);
    forward.hT = NULL, forward.sigma = pair_at(p, q->sigma_only);
    d->ops->scan_fwd(d, &forward);
    weft_scan backward = whole;
    backward.y = pair_at(p, q->y_in); /* not this side's own, which is rounded in bf16 */
    d->ops->scan_bwd(d, &backward);
    weft_scan state = state_backward(&whole);
    state.dh0 = pair_at(p, q->dh0_alone);
    d->ops->scan_bwd_state(d, &state);
}

static void check_scan(weft_dtype type, const scan_shape *s) {
    pair p;
    pair_open(&p, type);
    const problem q = make(&p, s);
    PAIR_RUN(&p, run_all(d, &p, &q));
    pair_check(&p, q.y, "y", TOLERANCE);
    pair_check(&p, q.out, "out", TOLERANCE);
    pair_check(&p, q.hT, "hT", TOLERANCE);
    pair_check(&p, q.sigma, "sigma", TOLERANCE);
    pair_check(&p, q.y_alone, "y alone", TOLERANCE);
    pair_check(&p, q.out_alone, "out alone", TOLERANCE);
    pair_check(&p, q.sigma_with, "sigma with outputs", TOLERANCE);
    pair_check(&p, q.sigma_only, "sigma only", TOLERANCE);
    pair_check(&p, q.hT_alone, "hT alone", TOLERANCE);
    pair_check(&p, q.sigma_alone, "sigma alone", TOLERANCE);
    check_gradients(&p, &q);
    pair_check(&p, q.dh0, "dh0", TOLERANCE);
    pair_check(&p, q.dh0_alone, "dh0 alone", TOLERANCE);
    pair_close(&p);
}

START_TEST(scan) {
    for (int i = 0; i < COUNT(shapes); i++) {
        check_scan(WEFT_F32, &shapes[i]);
        check_scan(WEFT_BF16, &shapes[i]);
    }
}
END_TEST

/* The backward pass in several pieces: of walks, of many sequences. */
START_TEST(pieces) {
    check_scan(WEFT_F32, &(scan_shape){8, 544, 2, 2, 0, 1, 300});
    check_scan(WEFT_F32, &(scan_shape){66, 33, 2, 17, 0, 1, 20});
}
END_TEST

/* As decoding has it: the state is replaced by the next one. */
START_TEST(state_in_place) {
    static const scan_shape in_place[] = {
        {2, 1, 24, 16, 0, 1, 0}, {1, 70, 8, 20, 0, 1, 30}, {1, 520, 8, 16, 0, 1, 0}};
    for (int i = 0; i < 2 * COUNT(in_place); i++) {
        pair p;
        pair_open(&p, i % 2 ? WEFT_BF16 : WEFT_F32);
        const problem q = make(&p, &in_place[i / 2]);
        PAIR_RUN(&p, {
            weft_scan a = scan_of(&p, &q, 0);
            a.hT = pair_at(&p, q.h0);
            a.states = NULL;
            ops->scan_fwd(d, &a);
        });
        pair_check(&p, q.out, "out", TOLERANCE);
        pair_check(&p, q.h0, "state", TOLERANCE);
        pair_check(&p, q.sigma, "sigma", TOLERANCE);
        pair_close(&p);
    }
}
END_TEST

/* ---- the carry ---- */

typedef struct carry_shape {
    int64_t B, E, N;
    int cp;
} carry_shape;

static void check_carry(const carry_shape *s, int rank, bool reverse) {
    pair p;
    pair_open(&p, WEFT_F32);
    const int64_t states = s->B * 2 * s->E * s->N, sigmas = s->B * 2 * s->E, stride = states + sigmas + 3;
    const pair_array parts = pair_real(&p, s->cp * stride, PAIR_UNIFORM(-1, 1));
    const pair_array A_log = pair_real(&p, s->E * s->N, PAIR_UNIFORM(-3, 1)), out = pair_real_out(&p, states);
    set(&p, A_log, 0, -1000); /* a state that does not decay */
    for (int64_t i = 0; i < s->cp * sigmas; i++) {
        const float usual = (float)(i % 31) * 0.1f;
        /* A document starts; nothing is left. */
        set(&p, parts, i / sigmas * stride + states + i % sigmas,
            i % 5 == 3   ? INFINITY
            : i % 7 == 1 ? 9e9f
                         : usual);
    }
    weft_carry a = {
        .B = s->B, .E = s->E, .N = s->N, .cp = s->cp, .rank = rank, .reverse = reverse, .stride = stride};
    PAIR_RUN(&p, {
        a.parts = PAIR(parts);
        a.A_log = PAIR(A_log);
        a.out = PAIR(out);
        ops->scan_carry(d, &a);
    });
    pair_check(&p, out, "out", TOLERANCE);
    pair_close(&p);
}

START_TEST(carry) {
    static const carry_shape carries[] = {
        {1, 1, 1, 1}, {2, 24, 16, 1}, {3, 7, 5, 2}, {2, 70, 16, 4}, {1, 130, 20, 3}};
    for (int i = 0; i < COUNT(carries); i++)
        for (int rank = 0; rank < carries[i].cp; rank++)
            for (int reverse = 0; reverse < 2; reverse++) check_carry(&carries[i], rank, reverse);
}
END_TEST

/* ---- chunks make the whole ---- */

/* A sequence of 2*cp chunks of T tokens, chunk k on rank k or 2*cp-1-k. */
typedef struct chunks {
    int cp;
    int64_t T, states, stride;               /* elements of the states of a chunk; of a rank's part */
    pair_array doc_start;                    /* as the chunks count positions, or -1 */
    pair_array parts, before, behind, saved; /* [cp][stride]; states of [cp,2]; states for backward */
} chunks;

static int64_t owner(const chunks *c, int k) {
    return k < c->cp ? k : 2 * c->cp - 1 - k;
}
static int64_t place(const chunks *c, int k) {
    return owner(c, k) * 2 + (k >= c->cp);
}
static weft_real *part_of(const pair *p, const chunks *c, int k) {
    return pair_shift(p, c->parts, owner(c, k) * c->stride + (k >= c->cp) * c->states);
}

static weft_scan chunk_of(const pair *p, const problem *q, const chunks *c, int k) {
    weft_scan a = scan_of(p, q, k * c->T);
    a.T = c->T, a.doc_start = pair_shift(p, c->doc_start, k * c->T);
    a.h0 = pair_shift(p, c->before, place(c, k) * c->states);
    a.dhT = pair_shift(p, c->behind, place(c, k) * c->states);
    a.states = pair_shift(p, c->saved, k * weft_scan_states_size(1, c->T, q->E, q->N));
    a.hT = a.sigma = a.dh0 = NULL;
    return a;
}

static void carry_all(weft_device *d, const pair *p, const problem *q, const chunks *c, bool reverse) {
    for (int rank = 0; rank < c->cp; rank++) {
        const weft_carry a = {.B = 1,
                              .E = q->E,
                              .N = q->N,
                              .cp = c->cp,
                              .rank = rank,
                              .reverse = reverse,
                              .parts = pair_at(p, c->parts),
                              .A_log = pair_at(p, q->A_log),
                              .stride = c->stride,
                              .out = pair_shift(p, reverse ? c->behind : c->before, rank * 2 * c->states)};
        d->ops->scan_carry(d, &a);
    }
}

static void run_chunks(weft_device *d, const pair *p, const problem *q, const chunks *c) {
    const int count = 2 * c->cp;
    for (int k = 0; k < count; k++) {
        const weft_scan chunk = chunk_of(p, q, c, k);
        weft_scan a = state_forward(&chunk);
        a.h0 = NULL, a.hT = part_of(p, c, k);
        a.sigma = part_of(p, c, k) + (k < c->cp ? 2 * c->states : c->states + q->E);
        d->ops->scan_fwd(d, &a);
    }
    carry_all(d, p, q, c, false);
    for (int k = 0; k < count; k++) {
        const weft_scan a = chunk_of(p, q, c, k);
        d->ops->scan_fwd(d, &a);
    }
    for (int k = 0; k < count; k++) {
        const weft_scan chunk = chunk_of(p, q, c, k);
        weft_scan a = state_backward(&chunk);
        a.dhT = NULL, a.dh0 = part_of(p, c, k);
        d->ops->scan_bwd_state(d, &a);
    }
    carry_all(d, p, q, c, true);
    for (int k = 0; k < count; k++) {
        weft_scan a = chunk_of(p, q, c, k);
        a.y = pair_shift(p, q->y_in, k * c->T * a.ldy);
        d->ops->scan_bwd(d, &a);
    }
}

static void run_whole(weft_device *d, const pair *p, const problem *q) {
    weft_scan a = scan_of(p, q, 0);
    d->ops->scan_fwd(d, &a);
    a.y = pair_at(p, q->y_in);
    d->ops->scan_bwd(d, &a);
}

typedef struct chunk_shape {
    int64_t T, E, N;
    int cp, documents; /* documents: mean length, 0 for none */
} chunk_shape;

/* The device gets the chunks, the CPU the whole. */
static void check_chunks(weft_dtype type, const chunk_shape *s) {
    pair p;
    pair_open(&p, type);
    const problem q = make(&p, &(scan_shape){1, 2 * s->cp * s->T, s->E, s->N, 0, 0, s->documents});
    const int64_t states = s->E * s->N, count = 2 * s->cp;
    chunks c = {.cp = s->cp, .T = s->T, .states = states, .stride = 2 * (states + s->E) + 5, .doc_start = -1};
    if (s->documents) {
        int32_t *start = malloc((size_t)q.T * sizeof *start);
        for (int64_t t = 0; t < q.T; t++)
            start[t] = ((const int32_t *)p.arrays[q.doc_start].cpu)[t] - (int32_t)(t / s->T * s->T);
        c.doc_start = pair_i32(&p, start, q.T);
        free(start);
    }
    c.parts = pair_real_out(&p, s->cp * c.stride);
    c.before = pair_real_out(&p, count * states), c.behind = pair_real_out(&p, count * states);
    c.saved = pair_real_out(&p, count * weft_scan_states_size(1, s->T, s->E, s->N));
    PAIR_RUN(&p, {
        if (p.on_gpu)
            run_chunks(d, &p, &q, &c);
        else
            run_whole(d, &p, &q);
    });
    pair_check(&p, q.y, "y", TOLERANCE);
    pair_check(&p, q.out, "out", TOLERANCE);
    check_gradients(&p, &q);
    pair_close(&p);
}

START_TEST(chunks_make_the_whole) {
    static const chunk_shape chunk_shapes[] = {{37, 24, 16, 1, 20}, {33, 12, 5, 2, 0}, {3, 24, 20, 3, 2},
                                               {41, 8, 16, 2, 60},  {1, 8, 2, 2, 1},   {150, 8, 16, 1, 500}};
    for (int i = 0; i < COUNT(chunk_shapes); i++) {
        check_chunks(WEFT_F32, &chunk_shapes[i]);
        check_chunks(WEFT_BF16, &chunk_shapes[i]);
    }
}
END_TEST

SUITE_MAIN("cuda_scan", scan, pieces, state_in_place, carry, chunks_make_the_whole)
