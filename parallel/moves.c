#include "parallel/moves.h"

static size_t act_bytes(const weft_device *d, int64_t n) {
    return (size_t)n * weft_dtype_size(d->act_dtype);
}
static weft_act *push_act(weft_device *d, int64_t n) {
    return weft_arena_push(&d->act, act_bytes(d, n));
}
static weft_act *at(const weft_device *d, weft_act *p, int64_t n) {
    return weft_act_at(p, d->act_dtype, n);
}
static const weft_act *cat(const weft_device *d, const weft_act *p, int64_t n) {
    return weft_act_cat(p, d->act_dtype, n);
}

/* ---- tp: rows --------------------------------------------------------------------------------------- */

const weft_act *weft_gather_tokens(weft_comm *c, weft_device *d, const char *tensor, const weft_act *x,
                                   int64_t rows, int64_t width) {
    const weft_group *tp = &c->group[WEFT_GROUP_TP];
    int64_t n = rows * width;
    if (tp->size == 1) return x;
    weft_act *all = push_act(d, tp->size * n);
    d->ops->copy(d, at(d, all, tp->rank * n), x, act_bytes(d, n));
    weft_all_gather(c, WEFT_GROUP_TP, tensor, all, (int64_t)act_bytes(d, n));
    return all;
}

weft_act *weft_partial_rows(weft_comm *c, weft_device *d, weft_act *out, int64_t rows, int64_t width) {
    int size = c->group[WEFT_GROUP_TP].size;
    return size == 1 ? out : push_act(d, size * rows * width);
}
void weft_scatter_tokens(weft_comm *c, weft_device *d, const char *tensor, weft_act *out, weft_act *all,
                         int64_t rows, int64_t width) {
    weft_reduce_scatter(c, WEFT_GROUP_TP, tensor, d->act_dtype, out, all, rows * width, &d->act);
}

void weft_sum_partial(weft_comm *c, weft_device *d, const char *tensor, weft_act *x, int64_t n) {
    weft_all_reduce(c, WEFT_GROUP_TP, tensor, d->act_dtype, x, n, &d->act);
}

/* ---- cp: sequences ---------------------------------------------------------------------------------- */

/* Where the ranks' blocks [cp][B][slot] have chunk `chunk` of sequence b; in sequence order it is b * 2*cp +
 * chunk. */
static int64_t place_of(int cp, int64_t B, int64_t b, int chunk) {
    return (weft_chunk_owner(cp, chunk) * B + b) * 2 + weft_chunk_slot(cp, chunk);
}

void weft_gather_sequence(weft_comm *c, weft_device *d, const char *tensor, weft_act *out,
                          const weft_act *local, int64_t ld, int64_t B, int64_t L, int64_t width) {
    const weft_group *cp = &c->group[WEFT_GROUP_CP];
    int64_t n = L * width, block = B * 2 * n; /* elements of a chunk and of a rank */
    size_t mark = weft_arena_mark(&d->act);
    weft_act *blocks = push_act(d, cp->size * block);
    d->ops->copy_rows(d, at(d, blocks, cp->rank * block), width, local, ld, B * 2 * L, width);
    weft_all_gather(c, WEFT_GROUP_CP, tensor, blocks, (int64_t)act_bytes(d, block));
    for (int64_t b = 0; b < B; b++)
        for (int k = 0; k < 2 * cp->size; k++)
            d->ops->copy(d, at(d, out, (b * 2 * cp->size + k) * n),
                         at(d, blocks, place_of(cp->size, B, b, k) * n), act_bytes(d, n));
    weft_arena_release(&d->act, mark);
}

void weft_scatter_sequence(weft_comm *c, weft_device *d, const char *tensor, weft_act *local, int64_t ld,
                           const weft_act *all, int64_t B, int64_t L, int64_t width) {
    const weft_group *cp = &c->group[WEFT_GROUP_CP];
    int64_t n = L * width, block = B * 2 * n;
    size_t mark = weft_arena_mark(&d->act);
    weft_act *blocks = push_act(d, cp->size * block), *mine = at(d, blocks, cp->rank * block);
    for (int64_t b = 0; b < B; b++)
        for (int k = 0; k < 2 * cp->size; k++)
            d->ops->copy(d, at(d, blocks, place_of(cp->size, B, b, k) * n),
                         cat(d, all, (b * 2 * cp->size + k) * n), act_bytes(d, n));
    weft_reduce_scatter(c, WEFT_GROUP_CP, tensor, d->act_dtype, mine, blocks, block, &d->act);
    d->ops->copy_rows(d, local, ld, mine, width, B * 2 * L, width);
    weft_arena_release(&d->act, mark);
}

/* ---- cp: halos -------------------------------------------------------------------------------------- */

/* The rank of a chunk, -1 of one beyond the ends of the sequence. */
static int holder(int cp, int chunk) {
    return chunk < 0 || chunk >= 2 * cp ? -1 : weft_chunk_owner(cp, chunk);
}

/* out of chunk k = in of chunk k - by (by is 1 or -1), zeros where there is none. Neighbouring chunks of two
 * ranks are in the same slot of both; the one pair of neighbours in different slots, cp-1 and cp, is on one
 * rank. */
static void shift_chunks(weft_comm *c, weft_device *d, const char *tensor, weft_act *out, const weft_act *in,
                         int64_t B, int64_t n, int by) {
    int cp = c->group[WEFT_GROUP_CP].size, me = c->group[WEFT_GROUP_CP].rank;
    if (cp == 1) {
        d->ops->zero(d, out, act_bytes(d, B * n));
        return;
    }
    size_t mark = weft_arena_mark(&d->act);
    weft_act *sent = push_act(d, B * n), *received = push_act(d, B * n);
    for (int slot = 0; slot < 2; slot++) {
        int chunk = weft_chunk_of(cp, me, slot);
        int from = holder(cp, chunk - by), to = holder(cp, chunk + by);
        d->ops->copy_rows(d, sent, n, cat(d, in, slot * n), 2 * n, B, n);
        if (from < 0) d->ops->zero(d, received, act_bytes(d, B * n));
        if (from == me) d->ops->copy_rows(d, received, n, cat(d, in, (1 - slot) * n), 2 * n, B, n);
        weft_send_recv(c, WEFT_GROUP_CP, tensor, received, from == me ? -1 : from, sent, to == me ? -1 : to,
                       (int64_t)act_bytes(d, B * n));
        d->ops->copy_rows(d, at(d, out, slot * n), 2 * n, received, n, B, n);
    }
    weft_arena_release(&d->act, mark);
}

void weft_pass_halo(weft_comm *c, weft_device *d, const char *tensor, weft_act *halo, const weft_act *tail,
                    int64_t B, int64_t n) {
    shift_chunks(c, d, tensor, halo, tail, B, n, 1);
}
void weft_return_halo(weft_comm *c, weft_device *d, const char *tensor, weft_act *dtail,
                      const weft_act *dhalo, int64_t B, int64_t n) {
    shift_chunks(c, d, tensor, dtail, dhalo, B, n, -1);
}

/* ---- cp: states ------------------------------------------------------------------------------------- */

void weft_gather_states(weft_comm *c, const char *tensor, weft_real *all, int64_t n) {
    weft_all_gather(c, WEFT_GROUP_CP, tensor, all, n * (int64_t)sizeof *all);
}
