/* Depthwise causal convolution with SiLU.
 *
 * Row t of the result needs K rows of x. They are given as K pointers, and a tap that does not count points
 * to a row of zeros, so that the loop over channels has no branch. */
#include "cpu/rows.h"

#include <omp.h>

/* Channels and rows of one piece of work of the backward pass; rows whose gradients are summed before they
 * are added to the total of the piece. */
#define CHANNELS 128
#define STRIP 256
#define RUN 16
#define AHEAD                                                                                                \
    8 /* rows of x and dy are fetched so far ahead: a piece of a row is too short for the processor to       \
         foresee */

/* Tap i (0: the newest) of row t of sequence b counts if i <= valid_taps. */
static int64_t valid_taps(const weft_conv *a, int64_t b, int64_t t) {
    int64_t taps = a->K - 1;
    if (!a->halo && t < taps) taps = t;
    if (a->doc_start) {
        int64_t within = a->pos0 + t - a->doc_start[b * a->T + t];
        if (within < taps) taps = within;
    }
    return taps;
}

/* Row t of sequence b of x, also for the K-1 rows before it, from channel e on. */
static const weft_real *row_of_x(const weft_conv *a, int64_t b, int64_t t, int64_t e) {
    const weft_real *x = a->x, *halo = a->halo;
    return t >= 0 ? x + (b * a->T + t) * a->ldx + e : halo + (b * (a->K - 1) + a->K - 1 + t) * a->E + e;
}

/* row[j], j < K: the row that w[e,j] multiplies; `zeros` where the tap does not count. */
static void taps_of_row(const weft_conv *a, int64_t b, int64_t t, int64_t e, const weft_real *zeros,
                        const weft_real **row) {
    const int64_t valid = valid_taps(a, b, t);
    for (int64_t i = 0; i < a->K; i++) row[a->K - 1 - i] = i <= valid ? row_of_x(a, b, t - i, e) : zeros;
}

/* w_t[K,E] = w[E,K] transposed, and a row of zeros behind it. */
static void transpose_taps(weft_real *w_t, const weft_real *w, int64_t E, int64_t K) {
    for (int64_t j = 0; j < K; j++)
        for (int64_t e = 0; e < E; e++) w_t[j * E + e] = w[e * K + j];
    memset(w_t + K * E, 0, (size_t)E * sizeof *w_t);
}

V_INLINE vreal convolve(const int64_t K, const weft_real *const *row, const weft_real *w_t, int64_t ldw,
                        const weft_real *bias, int64_t e, int64_t n) {
    vreal c = bias ? v_load_n(bias + e, n) : v_set1(0);
    V_UNROLL(4)
    for (int64_t j = 0; j < K; j++) c += v_load_n(w_t + j * ldw + e, n) * v_load_n(row[j] + e, n);
    return c;
}

V_INLINE void fwd_row(const int64_t K, weft_real *y, const weft_real *const *row, const weft_real *w_t,
                      const weft_real *bias, int64_t E) {
    V_LOOP(e, n, E, {
        vreal c = convolve(K, row, w_t, E, bias, e, n);
        v_store_n(y + e, c * v_sigmoid(c), n);
    });
}

static void save_halo(const weft_conv *a, int64_t b) {
    weft_real *out = a->halo_out;
    for (int64_t i = 0; i < a->K - 1; i++) {
        int64_t t = a->T - (a->K - 1) + i;
        weft_real *row = out + (b * (a->K - 1) + i) * a->E;
        if (t >= 0 || a->halo)
            memcpy(row, row_of_x(a, b, t, 0), (size_t)a->E * sizeof *row);
        else
            memset(row, 0, (size_t)a->E * sizeof *row);
    }
}

void CPU_OP(conv_fwd)(weft_device *d, const weft_conv *a) {
    const int64_t E = a->E, K = a->K, rows = a->B * a->T;
    const int threads = cpu_team(d, rows * E);
    size_t mark = weft_arena_mark(&d->act);
    weft_real *w_t = weft_arena_push(&d->act, (size_t)((K + 1) * E) * sizeof *w_t);
    const weft_real **taps = weft_arena_push(&d->act, (size_t)(d->threads * K) * sizeof *taps);
    if (!d->dry) {
        weft_real *y = a->y;
        transpose_taps(w_t, a->w, E, K);
#pragma omp parallel num_threads(threads)
        {
            const weft_real **row = taps + omp_get_thread_num() * K;
#pragma omp for schedule(static)
            for (int64_t m = 0; m < rows; m++) {
                taps_of_row(a, m / a->T, m % a->T, 0, w_t + K * E, row);
                if (K == 4)
                    fwd_row(4, y + m * a->ldy, row, w_t, a->bias, E);
                else
                    fwd_row(K, y + m * a->ldy, row, w_t, a->bias, E);
            }
        }
        for (int64_t b = 0; b < a->B && a->halo_out; b++) save_halo(a, b);
    }
    weft_arena_release(&d->act, mark);
}

/* One piece of the backward pass: rows t0 .. t1 of sequence b, channels e0 .. e0 + n, and its workspace. */
typedef struct piece {
    int64_t b, t0, t1, e0, n;
    const weft_real *w_t, *zeros; /* [K,E] from e0 on; a row of zeros */
    weft_real *dc; /* [RUN + K-1, CHANNELS] gradient of the pre-activation, rows t .. t + RUN + K-1 */
    const weft_real **taps; /* [RUN + K-1, K] */
    weft_real *dw;          /* [K+1, n] sums of dw and, in the last row, of dbias */
} piece;

/* dc = dy * silu'(c) for one row; c is computed again. */
V_INLINE void dc_row(const int64_t K, const weft_conv *a, const piece *p, weft_real *dc, const weft_real *dy,
                     const weft_real *const *row) {
    const weft_real *bias = a->bias ? (const weft_real *)a->bias + p->e0 : NULL;
    V_LOOP(e, n, p->n, {
        __builtin_prefetch(row[K - 1] + e + AHEAD * a->ldx);
        __builtin_prefetch(dy + e + AHEAD * a->ldy);
        vreal c = convolve(K, row, p->w_t, a->E, bias, e, n);
        vreal s = v_sigmoid(c);
        v_store_n(dc + e, v_load_n(dy + e, n) * s * (v_set1(1) + c * (v_set1(1) - s)), n);
    });
}

/* The gradient of the row of x that stands at index i of the run's rows (i < 0: of the halo): the sum over
 * the rows that it was a tap of. */
static void dx_row(const weft_conv *a, const piece *p, weft_real *dx, int64_t t, int64_t i, int64_t last) {
    const int64_t K = a->K, first = i < 0 ? -i : 0;
    int64_t end = first; /* the rows whose tap counts follow each other: documents are contiguous */
    while (end < K && t + end < last && valid_taps(a, p->b, t + end) >= end) end++;
    V_LOOP(e, n, p->n, {
        vreal sum = {0};
        for (int64_t j = first; j < end; j++)
            sum += v_load_n(p->w_t + (K - 1 - j) * a->E + e, n) * v_load_n(p->dc + (i + j) * CHANNELS + e, n);
        v_store_n(dx + e, sum, n);
    });
}

V_INLINE void add_dw(const int64_t K, const piece *p, int64_t rows) {
    V_LOOP(e, n, p->n, {
        vreal bias = {0};
        for (int64_t i = 0; i < rows; i++) bias += v_load_n(p->dc + i * CHANNELS + e, n);
        weft_real *out = p->dw + K * p->n + e;
        v_store_n(out, v_load_n(out, n) + bias, n);
        for (int64_t j = 0; j < K; j++) {
            vreal sum = {0};
            for (int64_t i = 0; i < rows; i++)
                sum += v_load_n(p->dc + i * CHANNELS + e, n) * v_load_n(p->taps[i * K + j] + e, n);
            out = p->dw + j * p->n + e;
            v_store_n(out, v_load_n(out, n) + sum, n);
        }
    });
}

V_INLINE void bwd_piece(const int64_t K, const weft_conv *a, const piece *p) {
    const weft_real *dy = a->dy;
    weft_real *dx = a->dx, *dhalo = a->dhalo;
    memset(p->dw, 0, (size_t)((K + 1) * p->n) * sizeof *p->dw);
    for (int64_t t = p->t0; t < p->t1; t += RUN) {
        const int64_t end = t + RUN < p->t1 ? t + RUN : p->t1;
        const int64_t last = end + K - 1 < a->T ? end + K - 1 : a->T;
        for (int64_t i = 0; i < last - t; i++) {
            taps_of_row(a, p->b, t + i, p->e0, p->zeros, p->taps + i * K);
            dc_row(K, a, p, p->dc + i * CHANNELS, dy + (p->b * a->T + t + i) * a->ldy + p->e0,
                   p->taps + i * K);
        }
        for (int64_t i = 0; i < end - t; i++)
            dx_row(a, p, dx + (p->b * a->T + t + i) * a->ldx + p->e0, t + i, i, last);
        for (int64_t i = 1; t == 0 && dhalo && i < K; i++)
            dx_row(a, p, dhalo + (p->b * (K - 1) + K - 1 - i) * a->E + p->e0, -i, -i, last);
        add_dw(K, p, end - t);
    }
}

void CPU_OP(conv_bwd)(weft_device *d, const weft_conv *a) {
    const int64_t E = a->E, K = a->K, T = a->T;
    const int threads = cpu_team(d, a->B * T * E);
    const int64_t strips = (T + STRIP - 1) / STRIP, blocks = (E + CHANNELS - 1) / CHANNELS,
                  pieces = a->B * strips;
    size_t mark = weft_arena_mark(&d->act);
    weft_real *w_t = weft_arena_push(&d->act, (size_t)((K + 1) * E) * sizeof *w_t);
    weft_real *sums = weft_arena_push(&d->act, (size_t)(pieces * (K + 1) * E) * sizeof *sums);
    const int64_t window = RUN + K - 1;
    weft_real *dcs = weft_arena_push(&d->act, (size_t)(d->threads * window * CHANNELS) * sizeof *dcs);
    const weft_real **taps = weft_arena_push(&d->act, (size_t)(d->threads * window * K) * sizeof *taps);
    if (!d->dry) {
        transpose_taps(w_t, a->w, E, K);
#pragma omp parallel num_threads(threads)
        {
            const int64_t me = omp_get_thread_num();
#pragma omp for schedule(dynamic, 1)
            for (int64_t task = 0; task < pieces * blocks; task++) {
                const int64_t s = task / blocks, e0 = task % blocks * CHANNELS, t0 = s % strips * STRIP;
                const piece p = {.b = s / strips,
                                 .t0 = t0,
                                 .t1 = t0 + STRIP < T ? t0 + STRIP : T,
                                 .e0 = e0,
                                 .n = E - e0 < CHANNELS ? E - e0 : CHANNELS,
                                 .w_t = w_t + e0,
                                 .zeros = w_t + K * E,
                                 .dc = dcs + me * window * CHANNELS,
                                 .taps = taps + me * window * K,
                                 .dw = sums + (s * E + e0) * (K + 1)};
                if (K == 4)
                    bwd_piece(4, a, &p);
                else
                    bwd_piece(K, a, &p);
            }
            /* Pieces of the same channels lie E * (K+1) apart; they are added in order. */
#pragma omp for schedule(static)
            for (int64_t e = 0; e < E; e++) {
                const int64_t e0 = e / CHANNELS * CHANNELS, n = E - e0 < CHANNELS ? E - e0 : CHANNELS;
                for (int64_t j = 0; j <= K; j++) {
                    const weft_real *from = sums + e0 * (K + 1) + j * n + e - e0;
                    weft_real sum = 0;
                    for (int64_t s = 0; s < pieces; s++) sum += from[s * E * (K + 1)];
                    if (j < K)
                        a->dw[e * K + j] += sum;
                    else if (a->dbias)
                        a->dbias[e] += sum;
                }
            }
        }
    }
    weft_arena_release(&d->act, mark);
}
