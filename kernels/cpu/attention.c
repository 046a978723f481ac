/* Attention, forward: blocks of queries meet blocks of keys with a running maximum and sum (arXiv
 * 2307.08691). Scores are kept in units of log 2. When there are few blocks of queries (decoding), the keys
 * are split as well and the pieces are put together at the end. */
#include "cpu/attention.h"

#include <omp.h>

#define FEW_ROWS 8     /* up to here scores are dot products; above, keys are transposed first */
#define MIN_TASKS 32   /* split the keys when there are fewer pieces of work */
#define SPLIT_KEYS 512 /* but give each at least so many */

/* Running state of a block: o [rows][d] not yet divided by sum, top the largest score so far. */
typedef struct state {
    weft_real *o, *top, *sum;
} state;

/* Workspace of one thread. */
typedef struct scratch {
    weft_real *q, *k_t, *s; /* [rows][d] scaled, [d][ATT_KEYS], [rows][ATT_KEYS] */
    state own;
} scratch;

static size_t state_size(const weft_attention *a) {
    return (size_t)(att_rows(a) * (a->d + 2));
}
static state state_at(const weft_attention *a, weft_real *p) {
    const int64_t rows = att_rows(a);
    return (state){p, p + rows * a->d, p + rows * (a->d + 1)};
}
static size_t scratch_size(const weft_attention *a) {
    return (size_t)(att_rows(a) * (a->d + ATT_KEYS) + a->d * ATT_KEYS) + state_size(a);
}
static scratch scratch_at(const weft_attention *a, weft_real *p) {
    const int64_t rows = att_rows(a);
    scratch w = {.q = p, .k_t = p + rows * a->d, .s = p + (rows + ATT_KEYS) * a->d};
    w.own = state_at(a, w.s + rows * ATT_KEYS);
    return w;
}

/* Few rows: keys and values are read once, in order, at the speed of memory; nothing is transposed. A row of
 * keys of one head is short and the next is far away, so the processor does not foresee it: it is fetched
 * PREFETCH keys ahead. */
#define PREFETCH 16
V_INLINE void fetch_row(const weft_real *row, int64_t d) {
    for (int64_t e = 0; e < d; e += 64 / (int64_t)sizeof *row) __builtin_prefetch(row + e, 0, 3);
}

/* s[r][j] = <q[r], k[j]> for VLEN (or count) keys. */
V_INLINE void dot_keys(weft_real *s, const weft_real *q, const weft_real *k, int64_t ldk, int64_t rows,
                       int64_t count, int64_t d) {
    for (int64_t r = 0; r < rows; r++) {
        vreal sum[V_LANES];
        V_UNROLL(16)
        for (int64_t j = 0; j < VLEN; j++) sum[j] = v_set1(0);
        V_LOOP(e, l, d, {
            const vreal x = v_load_n(q + r * d + e, l);
            V_UNROLL(16)
            for (int64_t j = 0; j < VLEN; j++) sum[j] += x * v_load_n(k + (j < count ? j : 0) * ldk + e, l);
        });
        v_store(s + r * ATT_KEYS, v_sum_each(sum));
    }
}

static void dot_scores(weft_real *s, const weft_real *q, const weft_real *k, int64_t ldk, int64_t rows,
                       int64_t n, int64_t d) {
    for (int64_t j = 0; j < n; j += VLEN) {
        for (int64_t i = 0; i < VLEN && j + PREFETCH + i < n; i++) fetch_row(k + (j + PREFETCH + i) * ldk, d);
        if (j + VLEN <= n)
            dot_keys(s + j, q, k + j * ldk, ldk, rows, VLEN, d);
        else
            dot_keys(s + j, q, k + j * ldk, ldk, rows, n - j, d);
    }
}

/* o[r] += sum_j s[r][j] v[j], for nr rows and nv vectors (constants where inlined; only `lanes` of the last
 * count). */
V_INLINE void weigh_values(const int nr, const int nv, const int64_t lanes, weft_real *o, const weft_real *s,
                           const weft_real *v, int64_t ldv, int64_t n, int64_t d) {
    vreal sum[4][4];
    V_UNROLL(4)
    for (int r = 0; r < nr; r++) {
        V_UNROLL(4)
        for (int i = 0; i < nv; i++) sum[r][i] = v_load_n(o + r * d + i * VLEN, i == nv - 1 ? lanes : VLEN);
    }
    for (int64_t j = 0; j < n; j++) {
        if (j + PREFETCH < n) fetch_row(v + (j + PREFETCH) * ldv, nv * VLEN);
        V_UNROLL(4)
        for (int i = 0; i < nv; i++) {
            const vreal x = v_load_n(v + j * ldv + i * VLEN, i == nv - 1 ? lanes : VLEN);
            V_UNROLL(4)
            for (int r = 0; r < nr; r++) sum[r][i] += v_set1(s[r * ATT_KEYS + j]) * x;
        }
    }
    V_UNROLL(4)
    for (int r = 0; r < nr; r++) {
        V_UNROLL(4)
        for (int i = 0; i < nv; i++) v_store_n(o + r * d + i * VLEN, sum[r][i], i == nv - 1 ? lanes : VLEN);
    }
}

V_INLINE void sum_columns(const int nv, const int64_t lanes, weft_real *o, const weft_real *s,
                          const weft_real *v, int64_t ldv, int64_t rows, int64_t n, int64_t d) {
    int64_t r = 0;
    for (; r + 4 <= rows; r += 4) weigh_values(4, nv, lanes, o + r * d, s + r * ATT_KEYS, v, ldv, n, d);
    for (; r < rows; r++) weigh_values(1, nv, lanes, o + r * d, s + r * ATT_KEYS, v, ldv, n, d);
}

static void sum_values(weft_real *o, const weft_real *s, const weft_real *v, int64_t ldv, int64_t rows,
                       int64_t n, int64_t d) {
    int64_t e = 0;
    for (; e + 4 * VLEN <= d; e += 4 * VLEN) sum_columns(4, VLEN, o + e, s, v + e, ldv, rows, n, d);
    for (; e + VLEN <= d; e += VLEN) sum_columns(1, VLEN, o + e, s, v + e, ldv, rows, n, d);
    if (e < d) sum_columns(1, d - e, o + e, s, v + e, ldv, rows, n, d);
}

/* Turns the scores of row r against keys [0, n) of a block into weights, those outside [from, to) into 0, and
 * brings the row's state up to date. */
static void soften_row(const state *st, int64_t r, weft_real *s, int64_t from, int64_t to, int64_t n,
                       int64_t d) {
    if (from >= to) {
        memset(s, 0, (size_t)n * sizeof *s);
        return;
    }
    const int64_t whole = (n + VLEN - 1) / VLEN * VLEN;
    att_outside(s, from, to, whole, -(weft_real)INFINITY);
    vreal high = v_load(s);
    for (int64_t j = VLEN; j < whole; j += VLEN) high = v_max(high, v_load(s + j));
    const weft_real block_top = v_hmax(high), old = st->top[r], top = block_top > old ? block_top : old;
    vreal sum = {0};
    for (int64_t j = 0; j < whole; j += VLEN) {
        const vreal p = v_exp2(v_load(s + j) - v_set1(top));
        v_store(s + j, p);
        sum += p;
    }
    att_outside(s, from, to, whole, 0);
    if (top != old) {
        const weft_real shrink = v_exp2(v_set1(old - top))[0];
        V_LOOP(e, l, d, v_store_n(st->o + r * d + e, v_load_n(st->o + r * d + e, l) * v_set1(shrink), l););
        st->sum[r] *= shrink;
        st->top[r] = top;
    }
    st->sum[r] += v_sum(sum);
}

/* Scores of the block against keys j0 .. j0 + n from w->k_t, and back from the weights to o. */
static void scores(const weft_attention *a, const att_block *q, const scratch *w, int64_t j0, int64_t n) {
    if (att_sees_all(a, q, j0, n)) {
        tile_gemm(q->count * q->rep, n, a->d, w->q, a->d, w->k_t, ATT_KEYS, w->s, ATT_KEYS, false);
        return;
    }
    for (int64_t s = 0; s < att_strips(q) * q->rep; s++) {
        const att_strip p = att_strip_at(a, q, s, j0, n);
        if (p.first < p.last)
            tile_gemm(p.count, p.last - p.first, a->d, w->q + p.row * a->d, a->d, w->k_t + p.first, ATT_KEYS,
                      w->s + p.row * ATT_KEYS + p.first, ATT_KEYS, false);
    }
}
static void sums(const weft_attention *a, const att_block *q, const scratch *w, const state *st,
                 const weft_real *v, int64_t j0, int64_t n) {
    if (att_sees_all(a, q, j0, n)) {
        tile_gemm(q->count * q->rep, a->d, n, w->s, ATT_KEYS, v, a->ldv, st->o, a->d, true);
        return;
    }
    for (int64_t s = 0; s < att_strips(q) * q->rep; s++) {
        const att_strip p = att_strip_at(a, q, s, j0, n);
        if (p.first < p.last)
            tile_gemm(p.count, a->d, p.last - p.first, w->s + p.row * ATT_KEYS + p.first, ATT_KEYS,
                      v + p.first * a->ldv, a->ldv, st->o + p.row * a->d, a->d, true);
    }
}

/* The block's queries against keys [from, to). */
static void attend(const weft_attention *a, const att_block *q, int64_t from, int64_t to, const scratch *w,
                   const state *st) {
    const int64_t d = a->d, rows = q->count * q->rep;
    const weft_real *k = (const weft_real *)a->k + q->b * a->Tk * a->ldk + q->g * d;
    const weft_real *v = (const weft_real *)a->v + q->b * a->Tk * a->ldv + q->g * d;
    const weft_real scale = (weft_real)((double)a->scale * LOG2_E);
    att_gather(w->q, a, q, a->q, a->ldq);
    for (int64_t i = 0; i < rows * d; i++) w->q[i] *= scale;
    memset(st->o, 0, (size_t)(rows * d) * sizeof *st->o);
    for (int64_t r = 0; r < rows; r++) st->top[r] = -(weft_real)INFINITY, st->sum[r] = 0;
    const att_span all = att_all_see(a, q);
    from = att_max(from, all.first / ATT_KEYS * ATT_KEYS);
    to = att_min(to, all.end);
    for (int64_t j0 = from; j0 < to; j0 += ATT_KEYS) {
        const int64_t n = att_min(ATT_KEYS, to - j0);
        if (rows <= FEW_ROWS) {
            dot_scores(w->s, w->q, k + j0 * a->ldk, a->ldk, rows, n, d);
        } else {
            tile_transpose(w->k_t, ATT_KEYS, k + j0 * a->ldk, a->ldk, n, d);
            scores(a, q, w, j0, n);
        }
        for (int64_t i = 0; i < q->count; i++) {
            const att_span sees = att_sees(a, q, i);
            for (int64_t h = 0; h < q->rep; h++)
                soften_row(st, h * q->count + i, w->s + (h * q->count + i) * ATT_KEYS,
                           att_max(sees.first - j0, 0), att_min(sees.end - j0, n), n, d);
        }
        if (rows <= FEW_ROWS)
            sum_values(st->o, w->s, v + j0 * a->ldv, a->ldv, rows, n, d);
        else
            sums(a, q, w, st, v + j0 * a->ldv, j0, n);
    }
}

/* Writes o and lse of the block from its `pieces` states, `step` elements apart. */
static void finish(const weft_attention *a, const att_block *q, state st, int64_t pieces, size_t step) {
    const int64_t d = a->d;
    weft_real *out = a->o;
    for (int64_t h = 0; h < q->rep; h++)
        for (int64_t i = 0; i < q->count; i++) {
            const int64_t r = h * q->count + i, row = q->b * a->Tq + q->i0 + i, head = q->g * q->rep + h;
            weft_real top = st.top[r], sum = 0, *o = out + row * a->ldo + head * d;
            for (int64_t p = 1; p < pieces; p++)
                if (st.top[r + p * (int64_t)step] > top) top = st.top[r + p * (int64_t)step];
            memset(o, 0, (size_t)d * sizeof *o);
            for (int64_t p = 0; p < pieces; p++) {
                const int64_t at = p * (int64_t)step;
                const vreal share = v_exp2(v_set1(st.top[r + at] - top));
                sum += share[0] * st.sum[r + at];
                V_LOOP(e, l, d,
                       v_store_n(o + e, v_load_n(o + e, l) + share * v_load_n(st.o + r * d + at + e, l), l););
            }
            V_LOOP(e, l, d, v_store_n(o + e, v_load_n(o + e, l) / v_set1(sum), l););
            if (a->lse) a->lse[row * a->H + head] = (weft_real)(((double)top + log2((double)sum)) * LN_2);
        }
}

void CPU_OP(attention_fwd)(weft_device *d, const weft_attention *a) {
    const int64_t blocks = (a->Tq + att_positions(a) - 1) / att_positions(a), units = a->B * a->G * blocks;
    const int threads = cpu_team(d, a->B * a->H * a->Tq * a->Tk * a->d / 16);
    int64_t splits = att_min((MIN_TASKS + units - 1) / units, (a->Tk + SPLIT_KEYS - 1) / SPLIT_KEYS);
    const int64_t keys = (a->Tk + splits - 1) / splits;
    const int64_t split = (keys + ATT_KEYS - 1) / ATT_KEYS * ATT_KEYS; /* keys of one piece */
    const size_t mark = weft_arena_mark(&d->act), each = scratch_size(a), step = state_size(a);
    weft_real *scratches = weft_arena_push(&d->act, (size_t)d->threads * each * sizeof *scratches);
    weft_real *states =
        splits > 1 ? weft_arena_push(&d->act, (size_t)(units * splits) * step * sizeof *states) : NULL;
    if (!d->dry) {
#pragma omp parallel num_threads(threads)
        {
            const scratch w = scratch_at(a, scratches + (size_t)omp_get_thread_num() * each);
            /* Later blocks see more keys: longest first. */
#pragma omp for schedule(dynamic, 1)
            for (int64_t task = 0; task < units * splits; task++) {
                const int64_t unit = task / splits, s = task % splits, bg = unit % (a->B * a->G);
                const att_block q = att_block_at(a, bg / a->G, bg % a->G, blocks - 1 - unit / (a->B * a->G));
                const state st = states ? state_at(a, states + (size_t)task * step) : w.own;
                attend(a, &q, s * split, att_min(a->Tk, (s + 1) * split), &w, &st);
                if (!states) finish(a, &q, st, 1, step);
            }
            if (states) {
#pragma omp for schedule(static)
                for (int64_t unit = 0; unit < units; unit++) {
                    const int64_t bg = unit % (a->B * a->G);
                    const att_block q =
                        att_block_at(a, bg / a->G, bg % a->G, blocks - 1 - unit / (a->B * a->G));
                    finish(a, &q, state_at(a, states + (size_t)(unit * splits) * step), splits, step);
                }
            }
        }
    }
    weft_arena_release(&d->act, mark);
}
