/* Selective scan, backward. Nothing but the state before every chunk was kept; chunks are walked from the
 * last to the first, each recomputes its states. The recurrence is never inverted: the decay underflows.
 *
 *   g = dout silu(z);  dh[t] = C[t] g[t] + a[t+1] dh[t+1];  dC = sum_e g h;  dB = sum_e dh delta u
 *   du = D g + delta sum_n dh B;  q = a h[t-1];  ddelta = u sum_n dh B + sum_n A dh q;  dA = sum_t delta dh q
 *
 * dB and dC are summed over the channels of a piece here, and over pieces in order afterwards; so that these
 * partial sums do not grow with T, the sequence is cut into slabs. */
#include "cpu/scan.h"

#include <omp.h>

#define CHUNK WEFT_SCAN_CHUNK
#define SLAB_TOKENS 4096 /* of all sequences together */
#define STATES 8         /* walked together */

typedef weft_real buffer[CHUNK * SCAN_WIDTH];

/* Elementwise quantities of a chunk, [token][SCAN_WIDTH]. */
typedef struct chunk {
    int64_t b, t0, rows, e0, width;
    bool reset[CHUNK];
    buffer delta, x, g; /* x = delta * u */
    buffer slope;       /* d delta / d dt */
    buffer dh_B, dh_qA; /* sum_n dh B;  sum_n A dh q / ln 2 */
} chunk;

/* What lasts from chunk to chunk, per sequence and piece: [vector][N][VLEN] and [SCAN_WIDTH]. */
typedef struct carry {
    weft_real *dh; /* a[t+1] dh[t+1] */
    weft_real *dA, *dD, *dbias;
} carry;

static void prepare(chunk *c, const weft_scan *a, const carry *sums) {
    const weft_real *u = a->u, *dt = a->dt, *z = a->z, *y = a->y, *dout = a->dout;
    weft_real *dz = a->dz, dD[SCAN_WIDTH] = {0};
    const vreal one = v_set1(1);
    for (int64_t t = 0; t < c->rows; t++) {
        const int64_t row = c->b * a->T + c->t0 + t;
        V_LOOP(e, n, c->width, {
            const int64_t at = c->e0 + e, i = t * SCAN_WIDTH + e;
            const vreal ut = v_load_n(u + row * a->ldu + at, n), gate = v_load_n(z + row * a->ldz + at, n);
            const vreal dy = v_load_n(dout + row * a->ldy + at, n), open = v_sigmoid(gate);
            const vreal g = dy * gate * open;
            vreal slope;
            const vreal delta =
                v_softplus_slope(v_load_n(dt + row * a->lddt + at, n) + v_load_n(a->dt_bias + at, n), &slope);
            v_store(c->delta + i, delta);
            v_store(c->x + i, delta * ut);
            v_store(c->g + i, g);
            v_store(c->slope + i, slope);
            v_store(dD + e, v_load(dD + e) + g * ut);
            v_store_n(dz + row * a->ldz + at,
                      dy * v_load_n(y + row * a->ldy + at, n) * open * (one + gate * (one - open)), n);
        });
    }
    V_LOOP(e, n, c->width, v_store_n(sums->dD + e, v_load_n(sums->dD + e, n) + v_load_n(dD + e, n), n););
}

static void finish(const chunk *c, const weft_scan *a, const carry *sums) {
    const weft_real *u = a->u;
    weft_real *du = a->du, *ddt = a->ddt, dbias[SCAN_WIDTH] = {0};
    for (int64_t t = 0; t < c->rows; t++) {
        const int64_t row = c->b * a->T + c->t0 + t;
        V_LOOP(e, n, c->width, {
            const int64_t at = c->e0 + e, i = t * SCAN_WIDTH + e;
            const vreal dh_B = v_load(c->dh_B + i);
            const vreal ddelta =
                v_load_n(u + row * a->ldu + at, n) * dh_B + v_load(c->dh_qA + i) * v_set1(LN_2);
            const vreal out = ddelta * v_load(c->slope + i);
            v_store_n(du + row * a->ldu + at,
                      v_load_n(a->D + at, n) * v_load(c->g + i) + v_load(c->delta + i) * dh_B, n);
            v_store_n(ddt + row * a->lddt + at, out, n);
            v_store(dbias + e, v_load(dbias + e) + out);
        });
    }
    V_LOOP(e, n, c->width,
           v_store_n(sums->dbias + e, v_load_n(sums->dbias + e, n) + v_load_n(dbias + e, n), n););
}

/* u, dt, z, y, dout and dz of the chunk before; du and ddt of this one. */
static scan_ahead look_ahead(const chunk *c, const weft_scan *a, int64_t e) {
    const weft_real *u = a->u, *dt = a->dt, *z = a->z, *y = a->y, *dout = a->dout;
    const weft_real *dz = a->dz, *du = a->du, *ddt = a->ddt;
    const int64_t row = c->b * a->T + c->t0, next = c->t0 ? row - CHUNK : row, at = c->e0 + e;
    return (scan_ahead){{u + next * a->ldu + at, dt + next * a->lddt + at, z + next * a->ldz + at,
                         y + next * a->ldy + at, dout + next * a->ldy + at, dz + next * a->ldz + at,
                         du + row * a->ldu + at, ddt + row * a->lddt + at},
                        {a->ldu, a->lddt, a->ldz, a->ldy, a->ldy, a->ldz, a->ldu, a->lddt}};
}

/* The states n .. n + count of one vector of channels. `h0` [count][lanes]; the sums dB, dC are
 * [token][count][VLEN]. Forward: h[t] before token t, and its decay (0 where a document starts: all that lies
 * before is cut off). */
V_INLINE void adjoint(const int count, chunk *c, int64_t e, const weft_real *h0, int64_t lanes,
                      const weft_real *A2, const weft_real *Bm, const weft_real *Cm, int64_t ldbc,
                      weft_real *dh, weft_real *dA, weft_real *dB, weft_real *dC, bool first,
                      const scan_ahead *soon) {
    weft_real h[(CHUNK + 1) * STATES * V_LANES], decay[CHUNK * STATES * V_LANES];
    vreal state[STATES], sum[STATES];
    V_UNROLL(8)
    for (int i = 0; i < count; i++) state[i] = v_load_n(h0 + i * lanes, lanes);
    for (int64_t t = 0; t < c->rows; t++) {
        const vreal delta = v_load(c->delta + t * SCAN_WIDTH + e), x = v_load(c->x + t * SCAN_WIDTH + e);
        const bool reset = c->reset[t];
        if (first) scan_fetch(soon, 5, 3, t);
        V_UNROLL(8)
        for (int i = 0; i < count; i++) {
            const vreal a = reset ? v_set1(0) : scan_decay(delta * v_load(A2 + i * VLEN));
            v_store(h + (t * count + i) * VLEN, state[i]);
            v_store(decay + (t * count + i) * VLEN, a);
            state[i] = a * state[i] + x * v_set1(Bm[t * ldbc + i]);
        }
    }
    V_UNROLL(8)
    for (int i = 0; i < count; i++) {
        v_store(h + (c->rows * count + i) * VLEN, state[i]);
        state[i] = v_load(dh + i * VLEN);
        sum[i] = v_set1(0);
    }
    for (int64_t t = c->rows - 1; t >= 0; t--) {
        const int64_t at = t * SCAN_WIDTH + e;
        const vreal delta = v_load(c->delta + at), x = v_load(c->x + at), g = v_load(c->g + at);
        vreal dh_B = first ? v_set1(0) : v_load(c->dh_B + at),
              dh_qA = first ? v_set1(0) : v_load(c->dh_qA + at);
        V_UNROLL(8)
        for (int i = 0; i < count; i++) {
            const int64_t k = (t * count + i) * VLEN;
            const vreal b = v_set1(Bm[t * ldbc + i]);
            const vreal dht = state[i] + g * v_set1(Cm[t * ldbc + i]);
            v_store(dC + k, v_load(dC + k) + g * v_load(h + k + count * VLEN));
            v_store(dB + k, v_load(dB + k) + dht * x);
            dh_B += dht * b;
            state[i] = dht * v_load(decay + k);
            const vreal dh_q = state[i] * v_load(h + k);
            dh_qA += dh_q * v_load(A2 + i * VLEN);
            sum[i] += dh_q * delta;
        }
        v_store(c->dh_B + at, dh_B);
        v_store(c->dh_qA + at, dh_qA);
    }
    V_UNROLL(8)
    for (int i = 0; i < count; i++) {
        v_store(dh + i * VLEN, state[i]);
        v_store(dA + i * VLEN, v_load(dA + i * VLEN) + sum[i]);
    }
}

/* out[t * ld + i] = sum over lanes of sums[t][i]. */
V_INLINE void add_lanes(const int count, weft_real *out, int64_t ld, weft_real *sums, int64_t rows) {
    weft_real total[CHUNK * STATES];
    for (int64_t k = 0; k < rows * count; k += VLEN) {
        vreal group[V_LANES];
        V_UNROLL(16)
        for (int64_t i = 0; i < VLEN; i++) group[i] = v_load(sums + (k + i) * VLEN);
        v_store(total + k, v_sum_each(group));
    }
    for (int64_t t = 0; t < rows; t++)
        for (int i = 0; i < count; i++) out[t * ld + i] = total[t * count + i];
}

/* States n .. n + count of all channels of the piece. partial: [token of the slab][dB N | dC N]. */
V_INLINE void chunk_states(const int count, chunk *c, const weft_scan *a, const weft_real *A2,
                           const carry *sums, int64_t n, weft_real *partial) {
    weft_real dB[CHUNK * STATES * V_LANES], dC[CHUNK * STATES * V_LANES];
    const int64_t N = a->N, row0 = (c->b * a->T + c->t0) * a->ldbc;
    memset(dB, 0, sizeof dB);
    memset(dC, 0, sizeof dC);
    for (int64_t e = 0; e < c->width; e += VLEN) {
        const int64_t lanes = scan_min(VLEN, c->width - e), at = e * N + n * VLEN;
        const weft_real *h0 = a->states + scan_state_at(a, c->b, c->t0 / CHUNK, c->e0 + e) + n * lanes;
        const scan_ahead soon = look_ahead(c, a, e);
        adjoint(count, c, e, h0, lanes, A2 + at, (const weft_real *)a->Bm + row0 + n,
                (const weft_real *)a->Cm + row0 + n, a->ldbc, sums->dh + at, sums->dA + at, dB, dC, n == 0,
                &soon);
    }
    add_lanes(count, partial + n, 2 * N, dB, c->rows);
    add_lanes(count, partial + N + n, 2 * N, dC, c->rows);
}

static void chunk_bwd(chunk *c, const weft_scan *a, const weft_real *A2, const carry *sums,
                      weft_real *partial) {
    int64_t n = 0;
    scan_resets(c->reset, a, c->b, c->t0, c->rows);
    prepare(c, a, sums);
    for (; n + STATES <= a->N; n += STATES) chunk_states(STATES, c, a, A2, sums, n, partial);
    for (; n < a->N; n++) chunk_states(1, c, a, A2, sums, n, partial);
    finish(c, a, sums);
}

/* Tokens from .. to of sequence b, backwards. partial: of token `from` on. */
static void slab_bwd(const weft_scan *a, int64_t b, int64_t e0, int64_t from, int64_t to, const weft_real *A2,
                     const carry *sums, weft_real *partial) {
    chunk c;
    c.b = b, c.e0 = e0, c.width = scan_min(SCAN_WIDTH, a->E - e0);
    for (c.t0 = (to - 1) / CHUNK * CHUNK; c.t0 >= from; c.t0 -= CHUNK) {
        c.rows = scan_min(CHUNK, to - c.t0);
        chunk_bwd(&c, a, A2, sums, partial + (c.t0 - from) * 2 * a->N);
    }
}

/* dh = dhT; the sums are 0. */
static void start(const weft_scan *a, int64_t b, int64_t e0, const carry *sums) {
    const int64_t N = a->N, width = scan_min(SCAN_WIDTH, a->E - e0);
    memset(sums->dh, 0, (size_t)(SCAN_WIDTH * (2 * N + 2)) * sizeof *sums->dh); /* dh, dA, dD, dbias */
    for (int64_t e = 0; e < width && a->dhT; e += VLEN)
        scan_to_lanes(sums->dh + e * N, a->dhT + (b * a->E + e0 + e) * N, scan_min(VLEN, width - e), N);
}

/* Workspace of the whole operation. */
typedef struct work {
    int64_t groups, size;    /* pieces of SCAN_WIDTH channels; elements of one carry */
    weft_real *A2, *carries; /* [groups][SCAN_WIDTH * N], [B][groups][size] */
    weft_real *partials;     /* [groups][B][slab][2N] */
    int64_t slab;
} work;

static carry carry_of(const work *w, const weft_scan *a, int64_t b, int64_t group) {
    weft_real *p = w->carries + (b * w->groups + group) * w->size;
    const int64_t n = SCAN_WIDTH * a->N;
    return (carry){p, p + n, p + 2 * n, p + 2 * n + SCAN_WIDTH};
}

/* dB and dC of one token: the pieces' shares in order. */
static void add_partials(const work *w, const weft_scan *a, int64_t b, int64_t from, int64_t i) {
    const int64_t N = a->N, row = b * a->T + from + i;
    weft_real *dB = (weft_real *)a->dB + row * a->ldbc, *dC = (weft_real *)a->dC + row * a->ldbc;
    const weft_real *share = w->partials + (b * w->slab + i) * 2 * N;
    for (int64_t n = 0; n < N; n++) {
        weft_real sum_B = 0, sum_C = 0;
        for (int64_t g = 0; g < w->groups; g++) {
            const weft_real *s = share + g * a->B * w->slab * 2 * N;
            sum_B += s[n];
            sum_C += s[N + n];
        }
        dB[n] = sum_B;
        dC[n] = sum_C;
    }
}

/* The parameters' gradients of one channel, over sequences in order; and its dh0. */
static void end_channel(const work *w, const weft_scan *a, int64_t e) {
    const int64_t N = a->N, group = e / SCAN_WIDTH, in = e % SCAN_WIDTH,
                  at = in / VLEN * VLEN * N + in % VLEN;
    weft_real dD = 0, dbias = 0;
    for (int64_t b = 0; b < a->B; b++) {
        const carry c = carry_of(w, a, b, group);
        dD += c.dD[in];
        dbias += c.dbias[in];
        for (int64_t n = 0; n < N && a->dh0; n++) a->dh0[(b * a->E + e) * N + n] = c.dh[at + n * VLEN];
    }
    a->dD[e] += dD;
    a->ddt_bias[e] += dbias;
    for (int64_t n = 0; n < N; n++) {
        weft_real dA = 0;
        for (int64_t b = 0; b < a->B; b++) dA += carry_of(w, a, b, group).dA[at + n * VLEN];
        a->dA_log[e * N + n] += dA * w->A2[group * SCAN_WIDTH * N + at + n * VLEN] * LN_2;
    }
}

static void run(const weft_scan *a, const work *w, int threads) {
    const int64_t tasks = a->B * w->groups, slabs = (a->T + w->slab - 1) / w->slab;
#pragma omp parallel num_threads(threads)
    {
#pragma omp for schedule(static) nowait
        for (int64_t g = 0; g < w->groups; g++)
            scan_load_A(w->A2 + g * SCAN_WIDTH * a->N, a, g * SCAN_WIDTH,
                        scan_min(SCAN_WIDTH, a->E - g * SCAN_WIDTH));
#pragma omp for schedule(static)
        for (int64_t task = 0; task < tasks; task++) {
            const carry sums = carry_of(w, a, task / w->groups, task % w->groups);
            start(a, task / w->groups, task % w->groups * SCAN_WIDTH, &sums);
        }
        for (int64_t s = slabs - 1; s >= 0; s--) {
            const int64_t from = s * w->slab, to = scan_min(from + w->slab, a->T);
#pragma omp for schedule(dynamic, 1)
            for (int64_t task = 0; task < tasks; task++) {
                const int64_t b = task / w->groups, g = task % w->groups;
                const carry sums = carry_of(w, a, b, g);
                slab_bwd(a, b, g * SCAN_WIDTH, from, to, w->A2 + g * SCAN_WIDTH * a->N, &sums,
                         w->partials + (g * a->B + b) * w->slab * 2 * a->N);
            }
#pragma omp for schedule(static)
            for (int64_t row = 0; row < a->B * (to - from); row++)
                add_partials(w, a, row / (to - from), from, row % (to - from));
        }
#pragma omp for schedule(static)
        for (int64_t e = 0; e < a->E; e++) end_channel(w, a, e);
    }
}

void CPU_OP(scan_bwd)(weft_device *d, const weft_scan *a) {
    const int64_t N = a->N, whole = (a->T + CHUNK - 1) / CHUNK * CHUNK;
    work w = {.groups = (a->E + SCAN_WIDTH - 1) / SCAN_WIDTH, .size = SCAN_WIDTH * (2 * N + 2)};
    w.slab = scan_min(whole, (SLAB_TOKENS / a->B + CHUNK - 1) / CHUNK * CHUNK);
    if (w.slab < CHUNK) w.slab = CHUNK;
    size_t mark = weft_arena_mark(&d->act);
    w.A2 = weft_arena_push(&d->act, (size_t)(w.groups * SCAN_WIDTH * N) * sizeof *w.A2);
    w.carries = weft_arena_push(&d->act, (size_t)(a->B * w.groups * w.size) * sizeof *w.carries);
    w.partials = weft_arena_push(&d->act, (size_t)(w.groups * a->B * w.slab * 2 * N) * sizeof *w.partials);
    if (!d->dry) run(a, &w, cpu_team(d, a->B * a->T * a->E * N / 2));
    weft_arena_release(&d->act, mark);
}
