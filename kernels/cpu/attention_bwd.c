/* Attention, backward (arXiv 2307.08691, algorithm 2):
 *   P = exp(s - lse);  dV = P^T dO;  dP = dO V^T;  dS = P (dP - rowsum(dO o)) scale;  dQ = dS K;  dK = dS^T
 * Q.
 *
 * A task is a pair of a key block and a query block; it adds to the gradients of both. Pairs are run in
 * stages such that no block occurs twice in a stage: no locks, no copies of gradients, and every sum has one
 * order. */
#include "cpu/attention.h"

#include <omp.h>

/* Workspace of one thread: [rows][d], [d][ATT_KEYS], [rows][ATT_KEYS]. */
typedef struct scratch {
    weft_real *q, *dout, *k_t, *v_t, *p, *ds;
} scratch;

static size_t scratch_size(const weft_attention *a) {
    return (size_t)(2 * (att_rows(a) * (a->d + ATT_KEYS) + a->d * ATT_KEYS));
}
static scratch scratch_at(const weft_attention *a, weft_real *p) {
    const int64_t rows = att_rows(a), d = a->d;
    scratch w = {.q = p};
    w.dout = w.q + rows * d;
    w.k_t = w.dout + rows * d;
    w.v_t = w.k_t + d * ATT_KEYS;
    w.p = w.v_t + d * ATT_KEYS;
    w.ds = w.p + rows * ATT_KEYS;
    return w;
}

/* p holds scores without scale and becomes P; ds holds dP and becomes dS. Keys outside [from, to) get 0. */
static void weights_row(weft_real *p, weft_real *ds, weft_real scale, weft_real lse, weft_real dot,
                        int64_t from, int64_t to, int64_t n) {
    if (from >= to) {
        memset(p, 0, (size_t)n * sizeof *p);
        memset(ds, 0, (size_t)n * sizeof *ds);
        return;
    }
    const vreal unit = v_set1((weft_real)((double)scale * LOG2_E)),
                shift = v_set1((weft_real)((double)lse * LOG2_E));
    for (int64_t j = 0; j < n; j += VLEN) {
        const vreal w = v_exp2(v_load(p + j) * unit - shift);
        v_store(p + j, w);
        v_store(ds + j, w * (v_load(ds + j) - v_set1(dot)) * v_set1(scale));
    }
    att_outside(p, from, to, n, 0);
    att_outside(ds, from, to, n, 0);
}

static void strip_scores(const weft_attention *a, att_strip p, const scratch *w) {
    const int64_t d = a->d, at = p.row * ATT_KEYS + p.first, seen = p.last - p.first;
    if (seen <= 0) return;
    tile_gemm(p.count, seen, d, w->q + p.row * d, d, w->k_t + p.first, ATT_KEYS, w->p + at, ATT_KEYS, false);
    tile_gemm(p.count, seen, d, w->dout + p.row * d, d, w->v_t + p.first, ATT_KEYS, w->ds + at, ATT_KEYS,
              false);
}

/* Keys j0 .. j0 + n against the block's queries. dots: rowsum(dO o) [B*Tq, H]. */
static void pair(const weft_attention *a, const att_block *q, int64_t j0, int64_t n, const weft_real *dots,
                 const scratch *w) {
    const int64_t d = a->d, rows = q->count * q->rep, key = q->b * a->Tk + j0, column = q->g * d;
    const weft_real *k = (const weft_real *)a->k + key * a->ldk + column;
    const weft_real *v = (const weft_real *)a->v + key * a->ldv + column;
    const int64_t strips = att_strips(q) * q->rep;
    weft_real *dq = (weft_real *)a->dq + (q->b * a->Tq + q->i0) * a->ldq + q->g * q->rep * d;
    att_gather(w->q, a, q, a->q, a->ldq);
    att_gather(w->dout, a, q, a->dout, a->ldo);
    tile_transpose(w->k_t, ATT_KEYS, k, a->ldk, n, d);
    tile_transpose(w->v_t, ATT_KEYS, v, a->ldv, n, d);
    const bool whole = att_sees_all(a, q, j0, n);
    if (whole) {
        tile_gemm(rows, n, d, w->q, d, w->k_t, ATT_KEYS, w->p, ATT_KEYS, false);
        tile_gemm(rows, n, d, w->dout, d, w->v_t, ATT_KEYS, w->ds, ATT_KEYS, false);
    } else {
        for (int64_t s = 0; s < strips; s++) strip_scores(a, att_strip_at(a, q, s, j0, n), w);
    }
    for (int64_t i = 0; i < q->count; i++) {
        const att_span sees = att_sees(a, q, i);
        for (int64_t h = 0; h < q->rep; h++) {
            const int64_t r = (h * q->count + i) * ATT_KEYS,
                          at = (q->b * a->Tq + q->i0 + i) * a->H + q->g * q->rep + h;
            weights_row(w->p + r, w->ds + r, a->scale, a->lse[at], dots[at], att_max(sees.first - j0, 0),
                        att_min(sees.end - j0, n), n);
        }
    }
    weft_real *dk = (weft_real *)a->dk + key * a->ldk + column,
              *dv = (weft_real *)a->dv + key * a->ldv + column;
    if (whole) {
        tile_gemm_t(n, d, rows, w->p, ATT_KEYS, w->dout, d, dv, a->ldv, true);
        tile_gemm_t(n, d, rows, w->ds, ATT_KEYS, w->q, d, dk, a->ldk, true);
        for (int64_t h = 0; h < q->rep; h++)
            tile_gemm(q->count, d, n, w->ds + h * q->count * ATT_KEYS, ATT_KEYS, k, a->ldk, dq + h * d,
                      a->ldq, true);
        return;
    }
    for (int64_t s = 0; s < strips; s++) {
        const att_strip p = att_strip_at(a, q, s, j0, n);
        const int64_t h = p.row / q->count, i = p.row % q->count, at = p.row * ATT_KEYS + p.first;
        const int64_t seen = p.last - p.first;
        if (seen <= 0) continue;
        tile_gemm_t(seen, d, p.count, w->p + at, ATT_KEYS, w->dout + p.row * d, d, dv + p.first * a->ldv,
                    a->ldv, true);
        tile_gemm_t(seen, d, p.count, w->ds + at, ATT_KEYS, w->q + p.row * d, d, dk + p.first * a->ldk,
                    a->ldk, true);
        tile_gemm(p.count, d, seen, w->ds + at, ATT_KEYS, k + p.first * a->ldk, a->ldk,
                  dq + i * a->ldq + h * d, a->ldq, true);
    }
}

static void zero_rows(weft_real *x, int64_t ldx, int64_t row, int64_t width) {
    memset(x + row * ldx, 0, (size_t)width * sizeof *x);
}

/* dots[row, h] = <dO, o> and dq = 0. */
static void begin_query(const weft_attention *a, int64_t row, weft_real *dots) {
    const weft_real *o = a->o, *dout = a->dout;
    for (int64_t h = 0; h < a->H; h++) {
        vreal sum = {0};
        V_LOOP(e, n, a->d,
               sum += v_load_n(o + row * a->ldo + h * a->d + e, n) *
                      v_load_n(dout + row * a->ldo + h * a->d + e, n););
        dots[row * a->H + h] = v_sum(sum);
    }
    zero_rows(a->dq, a->ldq, row, a->H * a->d);
}

static void run(const weft_attention *a, weft_real *dots, weft_real *scratches, int threads) {
    const int64_t query_blocks = (a->Tq + att_positions(a) - 1) / att_positions(a);
    const int64_t key_blocks = (a->Tk + ATT_KEYS - 1) / ATT_KEYS, stages = att_max(query_blocks, key_blocks);
#pragma omp parallel num_threads(threads)
    {
        const scratch w = scratch_at(a, scratches + (size_t)omp_get_thread_num() * scratch_size(a));
#pragma omp for schedule(static) nowait
        for (int64_t row = 0; row < a->B * a->Tq; row++) begin_query(a, row, dots);
#pragma omp for schedule(static)
        for (int64_t row = 0; row < a->B * a->Tk; row++) {
            zero_rows(a->dk, a->ldk, row, a->G * a->d);
            zero_rows(a->dv, a->ldv, row, a->G * a->d);
        }
        for (int64_t stage = 0; stage < stages; stage++) {
#pragma omp for schedule(dynamic, 1)
            for (int64_t task = 0; task < a->B * a->G * key_blocks; task++) {
                const int64_t bg = task / key_blocks, block = task % key_blocks,
                              with = (block + stage) % stages;
                if (with >= query_blocks) continue;
                const att_block q = att_block_at(a, bg / a->G, bg % a->G, with);
                const att_span all = att_all_see(a, &q);
                const int64_t j0 = block * ATT_KEYS, end = att_min(all.end, j0 + ATT_KEYS);
                if (end > j0 && all.first < end) pair(a, &q, j0, end - j0, dots, &w);
            }
        }
    }
}

void CPU_OP(attention_bwd)(weft_device *d, const weft_attention *a) {
    size_t mark = weft_arena_mark(&d->act);
    weft_real *dots = weft_arena_push(&d->act, (size_t)(a->B * a->Tq * a->H) * sizeof *dots);
    weft_real *scratches = weft_arena_push(&d->act, (size_t)d->threads * scratch_size(a) * sizeof *scratches);
    if (!d->dry) run(a, dots, scratches, cpu_team(d, a->B * a->H * a->Tq * a->Tk * a->d / 16));
    weft_arena_release(&d->act, mark);
}
