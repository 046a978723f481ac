/* Selective scan, backward: the gradient of the state before the first row, and nothing else.
 *
 *   dh[t] = C[t] g[t] + a[t+1] dh[t+1],  g = dout silu(z);  dh0 = a[0] dh[0]
 *
 * No state enters. Rows from the first start of a document on do not count. */
#include "cpu/scan.h"

typedef weft_real buffer[WEFT_SCAN_CHUNK * SCAN_WIDTH];

static void prepare(weft_real *delta, weft_real *g, const weft_scan *a, int64_t row0, int64_t rows,
                    int64_t e0, int64_t width) {
    const weft_real *dt = a->dt, *z = a->z, *dout = a->dout;
    for (int64_t t = 0; t < rows; t++) {
        const weft_real *dtt = dt + (row0 + t) * a->lddt + e0, *zt = z + (row0 + t) * a->ldz + e0,
                        *doutt = dout + (row0 + t) * a->ldy + e0;
        V_LOOP(e, n, width, {
            const vreal gate = v_load_n(zt + e, n);
            v_store(delta + t * SCAN_WIDTH + e,
                    v_softplus(v_load_n(dtt + e, n) + v_load_n(a->dt_bias + e0 + e, n)));
            v_store(g + t * SCAN_WIDTH + e, v_load_n(doutt + e, n) * gate * v_sigmoid(gate));
        });
    }
}

/* dt, z and dout of the chunk before. */
static scan_ahead look_ahead(const weft_scan *a, int64_t b, int64_t t0, int64_t e) {
    const weft_real *dt = a->dt, *z = a->z, *dout = a->dout;
    const int64_t row = b * a->T + (t0 ? t0 - WEFT_SCAN_CHUNK : 0);
    return (scan_ahead){{dt + row * a->lddt + e, z + row * a->ldz + e, dout + row * a->ldy + e},
                        {a->lddt, a->ldz, a->ldy}};
}

/* The recurrence of one vector of channels for `count` states (a constant where inlined) over a chunk, back
 * from its last row. dh, which is a[t+1] dh[t+1], and A2 are [count][VLEN]. */
V_INLINE void recur(const int count, weft_real *dh, const weft_real *A2, const weft_real *delta,
                    const weft_real *g, const weft_real *Cm, int64_t ldbc, int64_t rows, bool first,
                    const scan_ahead *soon) {
    vreal state[8];
    V_UNROLL(8)
    for (int i = 0; i < count; i++) state[i] = v_load(dh + i * VLEN);
    for (int64_t t = rows - 1; t >= 0; t--) {
        const vreal dl = v_load(delta + t * SCAN_WIDTH), gt = v_load(g + t * SCAN_WIDTH);
        if (first) scan_fetch(soon, 3, 0, t);
        V_UNROLL(8)
        for (int i = 0; i < count; i++)
            state[i] = (state[i] + gt * v_set1(Cm[t * ldbc + i])) * scan_decay(dl * v_load(A2 + i * VLEN));
    }
    V_UNROLL(8)
    for (int i = 0; i < count; i++) v_store(dh + i * VLEN, state[i]);
}

static void recur_all(weft_real *dh, const weft_real *A2, const weft_real *delta, const weft_real *g,
                      const weft_real *Cm, int64_t ldbc, int64_t N, int64_t rows, const scan_ahead *soon) {
    int64_t n = 0;
    for (; n + 8 <= N; n += 8)
        recur(8, dh + n * VLEN, A2 + n * VLEN, delta, g, Cm + n, ldbc, rows, n == 0, soon);
    for (; n + 2 <= N; n += 2)
        recur(2, dh + n * VLEN, A2 + n * VLEN, delta, g, Cm + n, ldbc, rows, n == 0, soon);
    if (n < N) recur(1, dh + n * VLEN, A2 + n * VLEN, delta, g, Cm + n, ldbc, rows, n == 0, soon);
}

/* The first row of sequence b that starts a document, or T. */
static int64_t first_start(const weft_scan *a, int64_t b) {
    int64_t t = 0;
    while (t < a->T && !scan_starts(a, b, t)) t++;
    return t;
}

/* One sequence, channels e0 .. e0 + width. dh and A2 are workspace of SCAN_WIDTH * N each. */
static void state_piece(const weft_scan *a, int64_t b, int64_t e0, int64_t width, weft_real *dh,
                        weft_real *A2) {
    const int64_t N = a->N, cut = first_start(a, b);
    buffer delta, g;
    scan_load_A(A2, a, e0, width);
    memset(dh, 0, (size_t)(SCAN_WIDTH * N) * sizeof *dh);
    for (int64_t e = 0; e < width && a->dhT && cut == a->T; e += VLEN)
        scan_to_lanes(dh + e * N, a->dhT + (b * a->E + e0 + e) * N, scan_min(VLEN, width - e), N);
    for (int64_t end = cut; end > 0;) {
        const int64_t t0 = (end - 1) / WEFT_SCAN_CHUNK * WEFT_SCAN_CHUNK, row0 = b * a->T + t0;
        const weft_real *Cm = (const weft_real *)a->Cm + row0 * a->ldbc;
        prepare(delta, g, a, row0, end - t0, e0, width);
        for (int64_t e = 0; e < width; e += VLEN) {
            const scan_ahead soon = look_ahead(a, b, t0, e0 + e);
            recur_all(dh + e * N, A2 + e * N, delta + e, g + e, Cm, a->ldbc, N, end - t0, &soon);
        }
        end = t0;
    }
    for (int64_t e = 0; e < width; e += VLEN)
        scan_from_lanes(a->dh0 + (b * a->E + e0 + e) * N, dh + e * N, scan_min(VLEN, width - e), N);
}

void CPU_OP(scan_bwd_state)(weft_device *d, const weft_scan *a) {
    scan_pieces(d, a, state_piece);
}
