/* Selective scan, forward. */
#include "cpu/scan.h"

typedef weft_real buffer[WEFT_SCAN_CHUNK * SCAN_WIDTH];

/* delta = softplus(dt + bias), x = delta * u. */
static void prepare(weft_real *delta, weft_real *x, const weft_scan *a, int64_t row0, int64_t rows,
                    int64_t e0, int64_t width) {
    const weft_real *u = a->u, *dt = a->dt;
    for (int64_t t = 0; t < rows; t++) {
        const weft_real *ut = u + (row0 + t) * a->ldu + e0, *dtt = dt + (row0 + t) * a->lddt + e0;
        V_LOOP(e, n, width, {
            vreal v = v_softplus(v_load_n(dtt + e, n) + v_load_n(a->dt_bias + e0 + e, n));
            v_store(delta + t * SCAN_WIDTH + e, v);
            v_store(x + t * SCAN_WIDTH + e, v * v_load_n(ut + e, n));
        });
    }
}

/* y = (sum over n, given) + D u; out = y silu(z). */
static void finish(const weft_real *sum, const weft_scan *a, int64_t row0, int64_t rows, int64_t e0,
                   int64_t width) {
    const weft_real *u = a->u, *z = a->z;
    weft_real *y = a->y, *out = a->out;
    for (int64_t t = 0; t < rows; t++) {
        const weft_real *ut = u + (row0 + t) * a->ldu + e0, *zt = z + (row0 + t) * a->ldz + e0;
        weft_real *yt = y + (row0 + t) * a->ldy + e0, *outt = out + (row0 + t) * a->ldy + e0;
        V_LOOP(e, n, width, {
            vreal v = v_load(sum + t * SCAN_WIDTH + e) + v_load_n(a->D + e0 + e, n) * v_load_n(ut + e, n);
            vreal gate = v_load_n(zt + e, n);
            v_store_n(yt + e, v, n);
            v_store_n(outt + e, v * gate * v_sigmoid(gate), n);
        });
    }
}

/* u and dt of the next chunk; z, y and out of this one. */
static scan_ahead look_ahead(const bool outputs, const weft_scan *a, int64_t row, int64_t e) {
    const weft_real *u = a->u, *dt = a->dt, *z = a->z, *y = a->y, *out = a->out;
    const int64_t next = row + WEFT_SCAN_CHUNK;
    if (!outputs) return (scan_ahead){{u + next * a->ldu + e, dt + next * a->lddt + e}, {a->ldu, a->lddt}};
    return (scan_ahead){{u + next * a->ldu + e, dt + next * a->lddt + e, z + row * a->ldz + e,
                         y + row * a->ldy + e, out + row * a->ldy + e},
                        {a->ldu, a->lddt, a->ldz, a->ldy, a->ldy}};
}

/* The recurrence of one vector of channels for `count` states (a constant where inlined, as is `outputs`)
 * over a chunk. h and A2 are [count][VLEN]; Bm and Cm point to the first of the states in the chunk's first
 * token. With outputs, `sum` is added to unless `first`; without, sum and Cm are not touched. */
V_INLINE void recur(const int count, const bool outputs, weft_real *h, const weft_real *A2,
                    const weft_real *delta, const weft_real *x, const weft_real *Bm, const weft_real *Cm,
                    int64_t ldbc, const bool *reset, int64_t rows, weft_real *sum, bool first,
                    const scan_ahead *soon) {
    vreal state[8];
    V_UNROLL(8)
    for (int i = 0; i < count; i++) state[i] = v_load(h + i * VLEN);
    for (int64_t t = 0; t < rows; t++) {
        const vreal dl = v_load(delta + t * SCAN_WIDTH), xt = v_load(x + t * SCAN_WIDTH);
        vreal even = first || !outputs ? v_set1(0) : v_load(sum + t * SCAN_WIDTH), odd = v_set1(0);
        if (first) scan_fetch(soon, outputs ? 3 : 2, outputs ? 2 : 0, t);
        if (reset[t]) {
            V_UNROLL(8)
            for (int i = 0; i < count; i++) state[i] = v_set1(0);
        }
        V_UNROLL(8)
        for (int i = 0; i < count; i++) {
            state[i] = scan_decay(dl * v_load(A2 + i * VLEN)) * state[i] + xt * v_set1(Bm[t * ldbc + i]);
            if (!outputs) continue;
            if (i % 2)
                odd += state[i] * v_set1(Cm[t * ldbc + i]);
            else
                even += state[i] * v_set1(Cm[t * ldbc + i]);
        }
        if (outputs) v_store(sum + t * SCAN_WIDTH, even + odd);
    }
    V_UNROLL(8)
    for (int i = 0; i < count; i++) v_store(h + i * VLEN, state[i]);
}

V_INLINE void recur_all(const bool outputs, weft_real *h, const weft_real *A2, const weft_real *delta,
                        const weft_real *x, const weft_real *Bm, const weft_real *Cm, int64_t ldbc, int64_t N,
                        const bool *reset, int64_t rows, weft_real *sum, const scan_ahead *soon) {
    int64_t n = 0;
    for (; n + 8 <= N; n += 8)
        recur(8, outputs, h + n * VLEN, A2 + n * VLEN, delta, x, Bm + n, outputs ? Cm + n : NULL, ldbc, reset,
              rows, sum, n == 0, soon);
    for (; n + 2 <= N; n += 2)
        recur(2, outputs, h + n * VLEN, A2 + n * VLEN, delta, x, Bm + n, outputs ? Cm + n : NULL, ldbc, reset,
              rows, sum, n == 0, soon);
    if (n < N)
        recur(1, outputs, h + n * VLEN, A2 + n * VLEN, delta, x, Bm + n, outputs ? Cm + n : NULL, ldbc, reset,
              rows, sum, n == 0, soon);
}

static void save_states(weft_real *states, const weft_real *h, int64_t lanes, int64_t N) {
    for (int64_t n = 0; n < N; n++) v_store_n(states + n * lanes, v_load(h + n * VLEN), lanes);
}

/* sigma += sum of delta over a chunk: sums of short sums lose the least. */
static void add_delta(weft_real *sigma, const weft_real *delta, int64_t rows, int64_t width) {
    for (int64_t e = 0; e < width; e += VLEN) {
        vreal sum = v_set1(0);
        for (int64_t t = 0; t < rows; t++) sum += v_load(delta + t * SCAN_WIDTH + e);
        v_store(sigma + e, v_load(sigma + e) + sum);
    }
}

/* Rows from `from` on of sequence b, channels e0 .. e0 + width. sigma [SCAN_WIDTH] is added to, or NULL. */
V_INLINE void walk(const bool outputs, const weft_scan *a, int64_t b, int64_t from, int64_t e0, int64_t width,
                   weft_real *h, const weft_real *A2, weft_real *sigma) {
    const int64_t N = a->N;
    buffer delta, x, sum;
    bool reset[WEFT_SCAN_CHUNK];
    for (int64_t t0 = from; t0 < a->T; t0 += WEFT_SCAN_CHUNK) {
        const int64_t rows = scan_min(WEFT_SCAN_CHUNK, a->T - t0), row0 = b * a->T + t0;
        const weft_real *Bm = (const weft_real *)a->Bm + row0 * a->ldbc,
                        *Cm = outputs ? (const weft_real *)a->Cm + row0 * a->ldbc : NULL;
        scan_resets(reset, a, b, t0, rows);
        prepare(delta, x, a, row0, rows, e0, width);
        if (sigma) add_delta(sigma, delta, rows, width);
        for (int64_t e = 0; e < width; e += VLEN) {
            if (outputs && a->states)
                save_states(a->states + scan_state_at(a, b, t0 / WEFT_SCAN_CHUNK, e0 + e), h + e * N,
                            scan_min(VLEN, width - e), N);
            const scan_ahead soon = look_ahead(outputs, a, row0, e0 + e);
            recur_all(outputs, h + e * N, A2 + e * N, delta + e, x + e, Bm, Cm, a->ldbc, N, reset, rows,
                      sum + e, &soon);
        }
        if (outputs) finish(sum, a, row0, rows, e0, width);
    }
}

/* The last row of sequence b that starts a document, or -1. */
static int64_t last_start(const weft_scan *a, int64_t b) {
    int64_t t = a->T - 1;
    while (t >= 0 && !scan_starts(a, b, t)) t--;
    return t;
}

/* One sequence, channels e0 .. e0 + width. h and A2 are workspace of SCAN_WIDTH * N each. */
static void scan_piece(const weft_scan *a, int64_t b, int64_t e0, int64_t width, weft_real *h,
                       weft_real *A2) {
    const int64_t N = a->N, cut = a->sigma || !a->y ? last_start(a, b) : -1;
    weft_real sigma[SCAN_WIDTH] = {0}, *sums = a->sigma && cut < 0 ? sigma : NULL;
    scan_load_A(A2, a, e0, width);
    memset(h, 0, (size_t)(SCAN_WIDTH * N) * sizeof *h);
    for (int64_t e = 0; e < width && a->h0; e += VLEN)
        scan_to_lanes(h + e * N, a->h0 + (b * a->E + e0 + e) * N, scan_min(VLEN, width - e), N);
    if (a->y)
        walk(true, a, b, 0, e0, width, h, A2, sums);
    else
        walk(false, a, b, cut < 0 ? 0 : cut, e0, width, h, A2, sums); /* what lies before is cut off */
    for (int64_t e = 0; e < width && a->hT; e += VLEN)
        scan_from_lanes(a->hT + (b * a->E + e0 + e) * N, h + e * N, scan_min(VLEN, width - e), N);
    for (int64_t e = 0; e < width && a->sigma; e++)
        a->sigma[b * a->E + e0 + e] = cut < 0 ? sigma[e] : (weft_real)INFINITY;
}

void CPU_OP(scan_fwd)(weft_device *d, const weft_scan *a) {
    scan_pieces(d, a, scan_piece);
}
