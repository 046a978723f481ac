/* The scan under context parallelism: the carry against its reference, and chunks against the whole. */
#include "kernels/seq_case.h"
#include "runtime/rng.h"
#include "support/suite.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- the carry ---- */

static void run_scan_carry(weft_device *d, void *a) {
    d->ops->scan_carry(d, a);
}

/* parts[r] = S [B,2,E,N], sigma [B,2,E] of the chunks that rank r holds. */
static void carry_parts(weft_real *parts, const carry_shape *s, int64_t stride, const ref_carry *r) {
    const int64_t B = s->B, E = s->E, N = s->N;
    for (int64_t k = 0; k < 2 * s->cp; k++)
        for (int64_t b = 0; b < B; b++) {
            weft_real *part = parts + (k < s->cp ? k : 2 * s->cp - 1 - k) * stride;
            const int64_t to = b * 2 + (k >= s->cp), from = k * B + b;
            for (int64_t i = 0; i < E * N; i++) part[to * E * N + i] = (weft_real)r->S[from * E * N + i];
            for (int64_t e = 0; e < E; e++)
                part[2 * B * E * N + to * E + e] = (weft_real)r->sigma[from * E + e];
        }
}

/* Both chunks of a rank: out[b,slot]. */
static void carry_rank(weft_carry *a, const carry_shape *s, const ref_carry *r) {
    const int64_t width = s->E * s->N;
    seq_case c = {.seed = 18};
    double *want;
    char what[100];
    snprintf(what, sizeof what, "carry B=%d E=%d N=%d cp=%d rank %d reverse=%d", (int)s->B, (int)s->E,
             (int)s->N, s->cp, a->rank, a->reverse);
    a->out = seq_output(&c, "out", &want, 2 * s->B, width, width, s->tolerance);
    for (int64_t i = 0; i < 2 * s->B; i++) {
        const int64_t k = i % 2 ? 2 * s->cp - 1 - a->rank : a->rank;
        for (int64_t j = 0; j < width; j++) want[i * width + j] = r->out[(k * s->B + i / 2) * width + j];
    }
    seq_run(&c, run_scan_carry, a, what);
    seq_free(&c);
}

void seq_carry(const carry_shape *s) {
    const int64_t B = s->B, E = s->E, N = s->N, chunks = 2 * s->cp, stride = 2 * B * E * (N + 1) + SEQ_PAD;
    seq_case in = {.seed = 17};
    double *S, *sigma, *A_log, *out, *unused;
    seq_input(&in, &S, chunks * B, E * N, E * N, -1, 1);
    seq_input(&in, &sigma, chunks * B, E, E, 0, 3);
    seq_input(&in, &out, chunks * B, E * N, E * N, 0, 1);
    weft_real *A = seq_input(&in, &A_log, E, N, N, -3, 1);
    weft_real *parts = seq_input(&in, &unused, s->cp, stride, stride, 0, 1);
    A[0] = (weft_real)(A_log[0] = -1000); /* a state that does not decay */
    for (int64_t i = 0; i < chunks * B * E; i++) {
        if (i / E % 5 == 3) sigma[i] = INFINITY; /* a document starts */
        if (i / E == 1) sigma[i] = 9e9;          /* nothing is left */
    }
    for (int reverse = 0; reverse < 2; reverse++)
        for (int rank = 0; rank < s->cp; rank++) {
            ref_carry r = {B, E, N, chunks, reverse, S, sigma, A_log, out};
            weft_carry a = {.B = B, .E = E, .N = N, .cp = s->cp, .rank = rank, .reverse = reverse};
            a.parts = parts, a.stride = stride, a.A_log = A;
            ref_scan_carry(&r);
            carry_parts(parts, s, stride, &r);
            carry_rank(&a, s, &r);
        }
    seq_free(&in);
}

/* ---- convolution and scan ---- */

/* The middle of a Mamba block, over whole sequences or over the chunks that one rank holds: u = conv(x), then
 * the scan. Rows are dense. */
typedef enum rows { X, DT, Z, B_ROWS, C_ROWS, DOUT, U, Y, OUT, DU, DDT, DZ, DB, DC, DX, ROWS } rows;
typedef enum parameters { W, BIAS, DT_BIAS, A_LOG, SKIP, PARAMETERS } parameters;
static const char *const row_names[ROWS] = {"x",   "dt", "z",   "B",  "C",  "dout", "u", "y",
                                            "out", "du", "ddt", "dz", "dB", "dC",   "dx"};
static const char *const parameter_names[PARAMETERS] = {"dw", "dbias", "ddt_bias", "dA_log", "dD"};

typedef struct mixer {
    int64_t B, T, E, N, K;
    int32_t *doc_start; /* or NULL */
    weft_real *row[ROWS], *parameter[PARAMETERS], *gradient[PARAMETERS];
    weft_real *halo, *dhalo;                         /* [B,K-1,E] */
    weft_real *h0, *hT, *sigma, *states, *dhT, *dh0; /* [B,E,N], sigma [B,E] */
} mixer;

static weft_real *array(int64_t n) {
    weft_real *x = malloc((size_t)n * sizeof *x);
    for (int64_t i = 0; i < n; i++) x[i] = (weft_real)NAN;
    return x;
}
static int64_t row_width(const mixer *m, int i) {
    return i == B_ROWS || i == C_ROWS || i == DB || i == DC ? m->N : m->E;
}
static int64_t parameter_size(const mixer *m, int i) {
    return i == W ? m->E * m->K : i == A_LOG ? m->E * m->N : m->E;
}

static mixer new_mixer(const chunk_shape *s, int64_t B, int64_t T) {
    mixer m = {.B = B, .T = T, .E = s->E, .N = s->N, .K = s->K};
    const int64_t states = B * s->E * s->N, halo = B * (s->K - 1) * s->E;
    for (int i = 0; i < ROWS; i++) m.row[i] = array(B * T * row_width(&m, i));
    if (s->documents != CHUNKS_NO_TABLE) m.doc_start = calloc((size_t)(B * T), sizeof *m.doc_start);
    m.halo = array(halo), m.dhalo = array(halo);
    m.h0 = array(states), m.hT = array(states), m.dhT = array(states), m.dh0 = array(states);
    m.sigma = array(B * s->E);
    m.states = array(weft_scan_states_size(B, T, s->E, s->N));
    return m;
}

static void free_mixer(mixer *m) {
    for (int i = 0; i < ROWS; i++) free(m->row[i]);
    free(m->doc_start), free(m->halo), free(m->dhalo), free(m->sigma), free(m->states);
    free(m->h0), free(m->hT), free(m->dhT), free(m->dh0);
}

static void new_gradients(mixer *m) {
    for (int i = 0; i < PARAMETERS; i++)
        m->gradient[i] = calloc((size_t)parameter_size(m, i), sizeof(weft_real));
}

static void random_fill(weft_real *x, int64_t n, int what, double low, double high) {
    const weft_rng r = weft_rng_make((uint64_t)what, "seq_chunks");
    for (int64_t i = 0; i < n; i++) x[i] = (weft_real)(low + (high - low) * weft_rng_uniform(r, (uint64_t)i));
}

/* Starts of documents: at, shortly before and shortly after the borders of chunks; the other sequence's last
 * over several chunks. */
static void documents_at_borders(const mixer *m, int64_t chunk) {
    static const int offsets[2][4] = {{0, -1, 1, 2}, {-2, 0, 0, 0}};
    for (int64_t b = 0; b < m->B; b++)
        for (int64_t t = 0, now = 0; t < m->T; t++) {
            for (int64_t border = chunk; border < m->T; border += chunk)
                if (t == border + offsets[b % 2][border / chunk % 4] &&
                    (b % 2 == 0 || border / chunk % 3 == 1))
                    now = t;
            m->doc_start[b * m->T + t] = (int32_t)now;
        }
}

static mixer whole_mixer(const chunk_shape *s) {
    static const double low[] = {-1, -6, -3, -1, -1, -1}, high[] = {1, -1, 3, 1, 1, 1};
    static const double low_parameter[] = {-1, -1, -1, -3, -1}, high_parameter[] = {1, 1, 1, 1, 1};
    mixer m = new_mixer(s, s->B, 2 * s->cp * s->T);
    for (int i = X; i <= DOUT; i++)
        random_fill(m.row[i], m.B * m.T * row_width(&m, i), 10 + i, low[i], high[i]);
    for (int i = 0; i < PARAMETERS; i++) {
        const int64_t n = parameter_size(&m, i);
        m.parameter[i] = array(n);
        random_fill(m.parameter[i], n, 30 + i, low_parameter[i], high_parameter[i]);
    }
    if (s->documents == CHUNKS_AT_BORDERS) documents_at_borders(&m, s->T);
    if (s->documents == CHUNKS_RANDOM) {
        free(m.doc_start);
        m.doc_start = seq_documents(50, m.B, m.T, 0, s->T + s->T / 2);
    }
    new_gradients(&m);
    return m;
}

/* Chunk k of sequence b of the whole, and the place it has on its rank. */
typedef struct place {
    int64_t b, k, rank, row, whole_row; /* row: of the rank's 2B sequences; whole_row: of the whole's rows */
} place;
static place place_of(const chunk_shape *s, int64_t b, int64_t k) {
    const int64_t late = k >= s->cp;
    return (place){b, k, late ? 2 * s->cp - 1 - k : k, 2 * b + late, (b * 2 * s->cp + k) * s->T};
}

/* The inputs of every rank, cut out of the whole. */
static void hand_out(mixer *ranks, const mixer *whole, const chunk_shape *s, const place *p) {
    mixer *m = &ranks[p->rank];
    for (int i = X; i <= DOUT; i++) {
        const int64_t width = row_width(m, i);
        memcpy(m->row[i] + p->row * s->T * width, whole->row[i] + p->whole_row * width,
               (size_t)(s->T * width) * sizeof(weft_real));
    }
    for (int64_t t = 0; t < s->T && m->doc_start; t++)
        m->doc_start[p->row * s->T + t] = whole->doc_start[p->whole_row + t] - (int32_t)(p->k * s->T);
}

/* The last rows of x of the chunk before, or zeros. */
static void hand_halo(mixer *ranks, const chunk_shape *s, const place *p) {
    const int64_t size = (s->K - 1) * s->E;
    weft_real *halo = ranks[p->rank].halo + p->row * size;
    if (p->k == 0) {
        memset(halo, 0, (size_t)size * sizeof *halo);
        return;
    }
    const place from = place_of(s, p->b, p->k - 1);
    memcpy(halo, ranks[from.rank].row[X] + (from.row + 1) * s->T * s->E - size, (size_t)size * sizeof *halo);
}

/* ... and their gradient on the way back. */
static void return_halo(mixer *ranks, const chunk_shape *s, const place *p) {
    if (p->k == 0) return;
    const place to = place_of(s, p->b, p->k - 1);
    const int64_t size = (s->K - 1) * s->E;
    weft_real *dx = ranks[to.rank].row[DX] + (to.row + 1) * s->T * s->E - size;
    for (int64_t i = 0; i < size; i++) dx[i] += ranks[p->rank].dhalo[p->row * size + i];
}

static weft_conv conv_of(const mixer *m, bool chunks) {
    weft_conv a = {.B = m->B, .T = m->T, .E = m->E, .K = m->K, .ldx = m->E, .ldy = m->E};
    a.x = m->row[X], a.w = m->parameter[W], a.bias = m->parameter[BIAS], a.doc_start = m->doc_start;
    a.y = m->row[U], a.dy = m->row[DU], a.dx = m->row[DX];
    a.dw = m->gradient[W], a.dbias = m->gradient[BIAS];
    if (chunks) a.halo = m->halo, a.dhalo = m->dhalo;
    return a;
}

static weft_scan scan_of(const mixer *m, bool chunks) {
    weft_scan a = {.B = m->B, .T = m->T, .E = m->E, .N = m->N};
    a.ldu = a.lddt = a.ldz = a.ldy = m->E, a.ldbc = m->N;
    a.u = m->row[U], a.dt = m->row[DT], a.z = m->row[Z], a.Bm = m->row[B_ROWS], a.Cm = m->row[C_ROWS];
    a.dt_bias = m->parameter[DT_BIAS], a.A_log = m->parameter[A_LOG], a.D = m->parameter[SKIP];
    a.doc_start = m->doc_start, a.states = m->states, a.y = m->row[Y], a.out = m->row[OUT];
    a.dout = m->row[DOUT], a.du = m->row[DU], a.ddt = m->row[DDT], a.dz = m->row[DZ];
    a.dB = m->row[DB], a.dC = m->row[DC];
    a.ddt_bias = m->gradient[DT_BIAS], a.dA_log = m->gradient[A_LOG], a.dD = m->gradient[SKIP];
    if (chunks) a.h0 = m->h0, a.dhT = m->dhT;
    return a;
}

static void run_whole(weft_device *d, const mixer *m) {
    const weft_conv conv = conv_of(m, false);
    const weft_scan scan = scan_of(m, false);
    d->ops->conv_fwd(d, &conv);
    d->ops->scan_fwd(d, &scan);
    d->ops->scan_bwd(d, &scan);
    d->ops->conv_bwd(d, &conv);
}

/* Gathers the parts (states and sigma of every rank) and carries them to every rank's `out`. */
static void carry_all(weft_device *d, mixer *ranks, const chunk_shape *s, bool reverse) {
    const int64_t states = 2 * s->B * s->E * s->N, sigmas = 2 * s->B * s->E, stride = states + sigmas;
    weft_real *parts = array(s->cp * stride);
    for (int r = 0; r < s->cp; r++) {
        const mixer *m = &ranks[r];
        memcpy(parts + r * stride, reverse ? m->dh0 : m->hT, (size_t)states * sizeof *parts);
        memcpy(parts + r * stride + states, m->sigma, (size_t)sigmas * sizeof *parts);
    }
    for (int r = 0; r < s->cp; r++) {
        weft_carry a = {.B = s->B, .E = s->E, .N = s->N, .cp = s->cp, .rank = r, .reverse = reverse};
        a.parts = parts, a.stride = stride, a.A_log = ranks[r].parameter[A_LOG];
        a.out = reverse ? ranks[r].dhT : ranks[r].h0;
        d->ops->scan_carry(d, &a);
    }
    free(parts);
}

static void for_each_chunk(mixer *ranks, const chunk_shape *s,
                           void (*move)(mixer *, const chunk_shape *, const place *)) {
    for (int64_t b = 0; b < s->B; b++)
        for (int64_t k = 0; k < 2 * s->cp; k++) {
            const place p = place_of(s, b, k);
            move(ranks, s, &p);
        }
}

static void run_chunks(weft_device *d, mixer *ranks, const chunk_shape *s) {
    for_each_chunk(ranks, s, hand_halo);
    for (int r = 0; r < s->cp; r++) {
        const weft_conv conv = conv_of(&ranks[r], true);
        weft_scan scan = scan_of(&ranks[r], true);
        d->ops->conv_fwd(d, &conv);
        scan.h0 = NULL, scan.hT = ranks[r].hT, scan.sigma = ranks[r].sigma;
        scan.y = scan.out = NULL, scan.states = NULL;
        d->ops->scan_fwd(d, &scan);
    }
    carry_all(d, ranks, s, false);
    for (int r = 0; r < s->cp; r++) {
        weft_scan scan = scan_of(&ranks[r], true);
        d->ops->scan_fwd(d, &scan);
        scan.dhT = NULL, scan.dh0 = ranks[r].dh0;
        d->ops->scan_bwd_state(d, &scan);
    }
    carry_all(d, ranks, s, true);
    for (int r = 0; r < s->cp; r++) {
        const weft_conv conv = conv_of(&ranks[r], true);
        const weft_scan scan = scan_of(&ranks[r], true);
        d->ops->scan_bwd(d, &scan);
        d->ops->conv_bwd(d, &conv);
    }
    for_each_chunk(ranks, s, return_halo);
}

/* The largest difference in elements [0, n), and the largest element. */
typedef struct difference {
    double worst, scale;
} difference;
static void measure(difference *d, const weft_real *is, const weft_real *want, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        const double error = fabs((double)(is[i] - want[i]));
        if (!(error <= d->worst)) d->worst = isnan(error) ? INFINITY : error;
        d->scale = fmax(d->scale, fabs((double)want[i]));
    }
}
static void judge(const difference *d, const chunk_shape *s, const char *name) {
    ck_assert_msg(d->worst <= s->tolerance * d->scale,
                  "chunks T=%d E=%d N=%d cp=%d documents=%d: %s is off by %.3g, largest %.3g", (int)s->T,
                  (int)s->E, (int)s->N, s->cp, s->documents, name, d->worst, d->scale);
}

static void compare_all(const mixer *ranks, const mixer *whole, const chunk_shape *s) {
    for (int i = U; i < ROWS; i++) {
        const int64_t width = row_width(whole, i);
        difference d = {0};
        for (int64_t j = 0; j < 2 * s->cp * s->B; j++) {
            const place p = place_of(s, j / (2 * s->cp), j % (2 * s->cp));
            measure(&d, ranks[p.rank].row[i] + p.row * s->T * width, whole->row[i] + p.whole_row * width,
                    s->T * width);
        }
        judge(&d, s, row_names[i]);
    }
    for (int i = 0; i < PARAMETERS; i++) {
        difference d = {0};
        measure(&d, ranks[0].gradient[i], whole->gradient[i], parameter_size(whole, i));
        judge(&d, s, parameter_names[i]);
    }
}

void seq_chunks(const chunk_shape *s) {
    weft_device d;
    ck_assert_int_eq(weft_device_open_cpu(&d), WEFT_OK);
    ck_assert_int_eq(weft_device_size(&d, 32 << 20), WEFT_OK);
    mixer whole = whole_mixer(s), ranks[8];
    ck_assert_int_le(s->cp, 8);
    for (int r = 0; r < s->cp; r++) {
        ranks[r] = new_mixer(s, 2 * s->B, s->T);
        memcpy(ranks[r].parameter, whole.parameter, sizeof whole.parameter);
        if (r == 0) new_gradients(&ranks[0]); /* every rank's are added to the same arrays */
        memcpy(ranks[r].gradient, ranks[0].gradient, sizeof whole.gradient);
    }
    for (int64_t j = 0; j < 2 * s->cp * s->B; j++) {
        const place p = place_of(s, j / (2 * s->cp), j % (2 * s->cp));
        hand_out(ranks, &whole, s, &p);
    }
    run_whole(&d, &whole);
    run_chunks(&d, ranks, s);
    compare_all(ranks, &whole, s);
    for (int i = 0; i < PARAMETERS; i++) {
        free(whole.parameter[i]), free(whole.gradient[i]), free(ranks[0].gradient[i]);
    }
    for (int r = 0; r < s->cp; r++) free_mixer(&ranks[r]);
    free_mixer(&whole);
    weft_device_close(&d);
}
