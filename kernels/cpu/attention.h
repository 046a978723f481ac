/* What forward and backward attention share: blocks and the mask.
 *
 * The heads of a group share keys and values, so a block of queries holds the same positions of all of them:
 * row r = head_in_group * positions + position. */
#ifndef WEFT_CPU_ATTENTION_H
#define WEFT_CPU_ATTENTION_H

#include "cpu/rows.h"
#include "cpu/tile.h"

#define ATT_ROWS 128
#define ATT_KEYS 128
#define LOG2_E 1.44269504088896340736
#define LN_2 0.693147180559945309417

V_INLINE int64_t att_min(int64_t a, int64_t b) {
    return a < b ? a : b;
}
V_INLINE int64_t att_max(int64_t a, int64_t b) {
    return a > b ? a : b;
}

/* Positions of a query block, and the most rows that one has. */
V_INLINE int64_t att_positions(const weft_attention *a) {
    return att_min(a->Tq, att_max(1, ATT_ROWS / (a->H / a->G)));
}
V_INLINE int64_t att_rows(const weft_attention *a) {
    return att_positions(a) * (a->H / a->G);
}

/* Queries i0 .. i0 + count of sequence b, heads of group g. */
typedef struct att_block {
    int64_t b, g, i0, count, rep;
} att_block;

V_INLINE att_block att_block_at(const weft_attention *a, int64_t b, int64_t g, int64_t block) {
    const int64_t positions = att_positions(a);
    return (att_block){b, g, block * positions, att_min(positions, a->Tq - block * positions), a->H / a->G};
}

/* Keys [first, end) that query i of the block sees. */
typedef struct att_span {
    int64_t first, end;
} att_span;
V_INLINE att_span att_sees(const weft_attention *a, const att_block *q, int64_t i) {
    const int64_t row = q->b * a->Tq + q->i0 + i;
    return (att_span){a->doc_start ? a->doc_start[row] : 0, att_min(a->Tk, a->q_pos0 + q->i0 + i + 1)};
}
/* Keys that any query of the block sees. */
V_INLINE att_span att_all_see(const weft_attention *a, const att_block *q) {
    att_span all = att_sees(a, q, 0);
    for (int64_t i = 1; i < q->count; i++) {
        const att_span s = att_sees(a, q, i);
        all.first = att_min(all.first, s.first);
        all.end = att_max(all.end, s.end);
    }
    return all;
}

/* A strip: ATT_STRIP positions of one head. Where a block of queries meets keys that not all of its rows see
 * (on the diagonal, at the edge of a document), products are taken strip by strip, over what the strip sees.
 */
#define ATT_STRIP 32
typedef struct att_strip {
    int64_t row, count;  /* rows of the block */
    int64_t first, last; /* keys from j0 on, of n, that the strip sees any of: [first, last) */
} att_strip;

/* Strips per head, and strip s of the block against keys j0 .. j0 + n; `first` is cut at a multiple of VLEN.
 */
V_INLINE int64_t att_strips(const att_block *q) {
    return (q->count + ATT_STRIP - 1) / ATT_STRIP;
}
V_INLINE att_strip att_strip_at(const weft_attention *a, const att_block *q, int64_t s, int64_t j0,
                                int64_t n) {
    const int64_t h = s / att_strips(q), i0 = s % att_strips(q) * ATT_STRIP;
    att_strip strip = {h * q->count + i0, att_min(ATT_STRIP, q->count - i0), n, 0};
    for (int64_t i = i0; i < i0 + strip.count; i++) {
        const att_span sees = att_sees(a, q, i);
        strip.first = att_min(strip.first, att_max(sees.first - j0, 0) / VLEN * VLEN);
        strip.last = att_max(strip.last, att_min(sees.end - j0, n));
    }
    return strip;
}
/* Whether every query of the block sees all keys j0 .. j0 + n. */
V_INLINE bool att_sees_all(const weft_attention *a, const att_block *q, int64_t j0, int64_t n) {
    for (int64_t i = 0; i < q->count; i++) {
        const att_span sees = att_sees(a, q, i);
        if (sees.first > j0 || sees.end < j0 + n) return false;
    }
    return true;
}

/* out [rows][d] = the block's rows of an array like q. */
V_INLINE void att_gather(weft_real *out, const weft_attention *a, const att_block *q, const weft_real *x,
                         int64_t ldx) {
    for (int64_t h = 0; h < q->rep; h++)
        for (int64_t i = 0; i < q->count; i++)
            memcpy(out + (h * q->count + i) * a->d,
                   x + (q->b * a->Tq + q->i0 + i) * ldx + (q->g * q->rep + h) * a->d,
                   (size_t)a->d * sizeof *out);
}

/* Sets x[0 .. from) and x[to .. n) to value. */
V_INLINE void att_outside(weft_real *x, int64_t from, int64_t to, int64_t n, weft_real value) {
    for (int64_t j = 0; j < from; j++) x[j] = value;
    for (int64_t j = to; j < n; j++) x[j] = value;
}

#endif
