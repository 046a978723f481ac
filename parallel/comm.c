#include "parallel/comm_backend.h"
#include "parallel/comm_order.h"
#include "ops.h"

#define PIECE ((int64_t)1 << 18) /* elements that a sum receives at a time, from all members together */
#define PIECE_QUEUED ((int64_t)1 << 24) /* ... on a device that queues, where a small piece costs as much */
#define PIECE_LEAST 16384               /* ... and from one of them at least */
#define SMALL 16384                     /* up to so many elements in all, an all-reduce is one all-gather */

static int64_t least(int64_t a, int64_t b) {
    return a < b ? a : b;
}
static int64_t size_of(weft_dtype type) {
    return (int64_t)weft_dtype_size(type);
}

/* ---- begin and end ---- */

/* In the place of a dry communicator's collective. */
static void pretend(weft_comm *c, weft_group_kind g, weft_collective op, int64_t bytes) {
    weft_comm_count(c, g, bytes);
    if (c->see) c->see(c->see_of, &c->group[g], op, bytes);
}

/* For groups of more than one member. False: nothing is to be moved. */
static bool enter(weft_comm *c, weft_group_kind g, weft_collective op, const char *tensor, int64_t bytes,
                  uint64_t *record) {
    if (c->dry) {
        pretend(c, g, op, bytes);
        return false;
    }
    if (!c->order) return weft_comm_enter(c, g, op, tensor, bytes, record);
    if (!weft_comm_begin(c, g, op, tensor, bytes, record)) return false;
    weft_order_begin(c->order, *record);
    return true;
}

static void leave(weft_comm *c, weft_group_kind g, const char *tensor, uint64_t record) {
    if (c->order)
        weft_order_wait(c->order, weft_order_end(c->order, g, tensor, record));
    else
        weft_comm_leave(c, record);
}

/* Ends what was begun, for weft_comm_finish to wait for. */
static void leave_later(weft_comm *c, weft_group_kind g, const char *tensor, uint64_t record,
                        weft_request *r) {
    *r = (weft_request){c->order, weft_order_end(c->order, g, tensor, record)};
}

void weft_comm_finish(weft_comm *c, weft_request *r) {
    if (!r->handle) return;
    if (c->order) {
        weft_order_wait(c->order, r->record);
    } else {
        weft_ledger_wait(c->ledger, r->record);
        weft_mpi_wait(r->handle);
        weft_ledger_leave(c->ledger, r->record);
    }
    *r = (weft_request){0};
}

/* The device that the operations between begin and end are queued on. */
static weft_device *worker(weft_comm *c) {
    return c->order ? weft_order_side(c->order) : c->device;
}

static void copy(weft_device *d, void *to, const void *from, int64_t bytes) {
    if (to != from && bytes > 0) d->ops->copy(d, to, from, (size_t)bytes);
}

/* ---- parts and sums ---- */

/* `total` elements cut into parts of `each`, the last ones shorter or empty. weft_shard_of cuts so. */
static weft_part part(int64_t each, int64_t total, int index) {
    int64_t start = least(index * each, total);
    return (weft_part){start, least(start + each, total) - start};
}

static int64_t shard_each(int64_t n, int size) {
    WEFT_CHECK(n % WEFT_SHARD_GRAIN == 0, "%lld elements are not whole grains of %d", (long long)n,
               WEFT_SHARD_GRAIN);
    return weft_shard_of(n, size, 0).count;
}

/* A sum of x[total], of which each member gets its part. */
typedef struct reduction {
    const weft_group *g;
    weft_dtype from, wire, to; /* of x, of what travels, of the result */
    int64_t each, total;
    int64_t piece;      /* elements of each part that are summed at a time */
    char *parts, *sent; /* [size, piece] of `wire`: what came; x rounded, where wire is not x's type */
} reduction;

static reduction reduction_of(const weft_comm *c, weft_group_kind g, weft_dtype from, weft_dtype wire,
                              weft_dtype to, int64_t each, int64_t total) {
    const weft_group *group = &c->group[g];
    int64_t piece = (weft_device_on_host(c->device) ? PIECE : PIECE_QUEUED) / group->size;
    return (reduction){.g = group,
                       .from = from,
                       .wire = wire,
                       .to = to,
                       .each = each,
                       .total = total,
                       .piece = least(each, piece > PIECE_LEAST ? piece : PIECE_LEAST)};
}

/* Whole lines of the arena: `sent` begins at one, behind `parts`. */
static size_t parts_bytes(const reduction *r) {
    return weft_arena_round((size_t)(r->g->size * r->piece * size_of(r->wire)));
}
static size_t work_bytes(const reduction *r) {
    return (r->wire == r->from ? 1 : 2) * parts_bytes(r);
}
static void push_work(reduction *r, weft_arena *work) {
    r->parts = weft_arena_push(work, work_bytes(r));
    r->sent = r->parts + parts_bytes(r);
}

/* What goes to member `to` of its part's elements from `at` on, in the type that travels. */
static const void *outgoing(const reduction *r, weft_device *d, const void *x, int to, int64_t start,
                            int64_t n) {
    const void *piece = weft_act_cat(x, r->from, start);
    if (r->wire == r->from) return piece;
    void *rounded = r->sent + to * r->piece * size_of(r->wire);
    d->ops->cast(d, rounded, r->wire, piece, r->from, n);
    return rounded;
}

/* Elements [at, at + piece) of each member's part of x go to that member; parts[m] <- those of this member's
 * part from member m. Returns how many they are. */
static int64_t exchange_piece(const reduction *r, const weft_comm_backend *b, weft_device *d, const void *x,
                              int64_t at) {
    const weft_group *g = r->g;
    int64_t bytes = size_of(r->wire);
    weft_part own = part(r->each, r->total, g->rank);
    int64_t mine = least(own.count - at, r->piece);
    for (int k = 1; k < g->size && mine > 0; k++) {
        int from = (g->rank + g->size - k) % g->size;
        b->post_recv(g->handle, from, r->parts + from * r->piece * bytes, mine * bytes);
    }
    for (int k = 1; k < g->size; k++) {
        int to = (g->rank + k) % g->size;
        weft_part theirs = part(r->each, r->total, to);
        int64_t n = least(theirs.count - at, r->piece);
        if (n > 0) b->post_send(g->handle, to, outgoing(r, d, x, to, theirs.start + at, n), n * bytes);
    }
    if (mine > 0)
        copy(d, r->parts + g->rank * r->piece * bytes, outgoing(r, d, x, g->rank, own.start + at, mine),
             mine * bytes);
    b->complete();
    return mine;
}

/* out <- this member's part of the sum of x (+ out); out may be that part of x. */
static void reduce_parts(weft_comm *c, const reduction *r, void *out, const void *x, bool accumulate) {
    weft_device *d = worker(c);
    for (int64_t at = 0; at < r->each; at += r->piece) {
        int64_t mine = exchange_piece(r, c->backend, d, x, at);
        if (mine > 0)
            d->ops->tree_sum(d, weft_act_at(out, r->to, at), r->to, r->parts, r->wire, r->piece, r->g->size,
                             mine, accumulate);
    }
}

/* ---- all-reduce ---- */

static bool is_small(const weft_group *g, int64_t n) {
    return n <= SMALL / g->size;
}

/* What every member counts: the other members' elements, or two halves of this member's part from each of the
 * others. */
static int64_t all_reduce_elements(const weft_group *g, int64_t n) {
    return is_small(g, n) ? (g->size - 1) * n : 2 * (g->size - 1) * ((n + g->size - 1) / g->size);
}

static void all_reduce_small(weft_comm *c, const reduction *r, void *x, int64_t n) {
    weft_device *d = worker(c);
    int64_t bytes = n * size_of(r->wire);
    copy(d, r->parts + r->g->rank * bytes, x, bytes);
    c->backend->gather(r->g->handle, r->parts, bytes, r->g->size * bytes);
    d->ops->tree_sum(d, x, r->to, r->parts, r->wire, n, r->g->size, n, false);
}

void weft_all_reduce(weft_comm *c, weft_group_kind g, const char *tensor, weft_dtype type, void *x, int64_t n,
                     weft_arena *work) {
    const weft_group *group = &c->group[g];
    if (group->size == 1) return;
    bool small = is_small(group, n);
    int64_t each = small ? n : (n + group->size - 1) / group->size;
    size_t mark = weft_arena_mark(work);
    reduction r = reduction_of(c, g, type, type, type, each, n);
    push_work(&r, work);
    uint64_t record;
    if (enter(c, g, WEFT_ALL_REDUCE, tensor, all_reduce_elements(group, n) * size_of(type), &record)) {
        if (small) {
            all_reduce_small(c, &r, x, n);
        } else {
            reduce_parts(c, &r, weft_act_at(x, type, part(each, n, group->rank).start), x, false);
            c->backend->gather(group->handle, x, each * size_of(type), n * size_of(type));
        }
        leave(c, g, tensor, record);
    }
    weft_arena_release(work, mark);
}

/* No workspace of ours: the order of an integer sum does not matter, so the backend has its own way. */
void weft_all_reduce_i64(weft_comm *c, weft_group_kind g, const char *tensor, int64_t *x, int64_t n) {
    const weft_group *group = &c->group[g];
    uint64_t record;
    if (group->size == 1) return;
    int64_t bytes = all_reduce_elements(group, n) * (int64_t)sizeof *x;
    if (!enter(c, g, WEFT_ALL_REDUCE, tensor, bytes, &record)) return;
    c->backend->sum_i64(group->handle, x, n);
    leave(c, g, tensor, record);
}

void weft_all_reduce_i64_host(weft_comm *c, weft_group_kind g, const char *tensor, int64_t *x, int64_t n) {
    const weft_group *group = &c->group[g];
    uint64_t record;
    if (group->size == 1) return;
    int64_t bytes = all_reduce_elements(group, n) * (int64_t)sizeof *x;
    if (c->dry)
        pretend(c, g, WEFT_ALL_REDUCE, bytes);
    else if (weft_comm_enter(c, g, WEFT_ALL_REDUCE, tensor, bytes, &record)) {
        weft_mpi_reduce_i64(group->host, x, n, WEFT_I64_SUM);
        weft_comm_leave(c, record);
    }
}

/* ---- equal blocks ---- */

void weft_all_gather(weft_comm *c, weft_group_kind g, const char *tensor, void *all, int64_t bytes) {
    const weft_group *group = &c->group[g];
    uint64_t record;
    if (group->size == 1 || !enter(c, g, WEFT_ALL_GATHER, tensor, (group->size - 1) * bytes, &record)) return;
    c->backend->gather(group->handle, all, bytes, group->size * bytes);
    leave(c, g, tensor, record);
}

void weft_reduce_scatter(weft_comm *c, weft_group_kind g, const char *tensor, weft_dtype type, void *out,
                         const void *x, int64_t n, weft_arena *work) {
    const weft_group *group = &c->group[g];
    if (group->size == 1) {
        if (!c->dry) copy(c->device, out, x, n * size_of(type));
        return;
    }
    size_t mark = weft_arena_mark(work);
    reduction r = reduction_of(c, g, type, type, type, n, group->size * n);
    push_work(&r, work);
    uint64_t record;
    if (enter(c, g, WEFT_REDUCE_SCATTER, tensor, (group->size - 1) * n * size_of(type), &record)) {
        reduce_parts(c, &r, out, x, false);
        leave(c, g, tensor, record);
    }
    weft_arena_release(work, mark);
}

/* ---- shards ---- */

static void put_in_place(const weft_group *g, weft_device *d, weft_dtype type, void *all, const void *mine,
                         int64_t n) {
    weft_part own = weft_shard_of(n, g->size, g->rank);
    copy(d, weft_act_at(all, type, own.start), mine, own.count * size_of(type));
}

static int64_t other_shards(const weft_group *g, weft_dtype type, int64_t n) {
    return (g->size - 1) * shard_each(n, g->size) * size_of(type);
}

void weft_gather_shards_start(weft_comm *c, weft_group_kind g, const char *tensor, weft_dtype type, void *all,
                              const void *mine, int64_t n, weft_request *r) {
    const weft_group *group = &c->group[g];
    int64_t bytes = other_shards(group, type, n), each = shard_each(n, group->size) * size_of(type);
    *r = (weft_request){0};
    if (group->size > 1 && c->dry) pretend(c, g, WEFT_ALL_GATHER, bytes);
    if (c->dry) return;
    if (group->size > 1) weft_comm_count(c, g, bytes);
    if (group->size == 1) {
        put_in_place(group, c->device, type, all, mine, n);
        return;
    }
    weft_order_poll(c->order);
    uint64_t record = weft_ledger_enter(c->ledger, g, WEFT_ALL_GATHER, tensor, bytes);
    if (c->order) weft_order_begin(c->order, record);
    put_in_place(group, worker(c), type, all, mine, n);
    if (c->order) {
        c->backend->gather(group->handle, all, each, n * size_of(type));
        leave_later(c, g, tensor, record, r);
    } else
        *r = (weft_request){weft_mpi_gather_start(group->handle, all, each, n * size_of(type)), record};
}

void weft_gather_shards(weft_comm *c, weft_group_kind g, const char *tensor, weft_dtype type, void *all,
                        const void *mine, int64_t n) {
    const weft_group *group = &c->group[g];
    int64_t bytes = other_shards(group, type, n), each = shard_each(n, group->size) * size_of(type);
    uint64_t record;
    if (!c->dry) put_in_place(group, c->device, type, all, mine, n);
    if (group->size == 1 || !enter(c, g, WEFT_ALL_GATHER, tensor, bytes, &record)) return;
    c->backend->gather(group->handle, all, each, n * size_of(type));
    leave(c, g, tensor, record);
}

static reduction shard_reduction(const weft_comm *c, weft_group_kind g, int64_t n, weft_dtype wire) {
    return reduction_of(c, g, WEFT_REAL_DTYPE, wire, WEFT_REAL_DTYPE, shard_each(n, c->group[g].size), n);
}

size_t weft_reduce_shards_bytes(const weft_comm *c, weft_group_kind g, int64_t n, weft_dtype wire) {
    reduction r = shard_reduction(c, g, n, wire);
    return r.g->size == 1 ? 0 : work_bytes(&r);
}

/* With `later`, which is idle, on a device that queues: to be finished. */
static void reduce_shards(weft_comm *c, weft_group_kind g, const char *tensor, weft_real *mine,
                          const weft_real *x, int64_t n, weft_dtype wire, bool accumulate, weft_arena *work,
                          weft_request *later) {
    const weft_group *group = &c->group[g];
    weft_device *d = c->device;
    if (group->size == 1) {
        if (c->dry) return;
        if (accumulate)
            d->ops->add_real(d, mine, x, n);
        else
            copy(d, mine, x, n * (int64_t)sizeof *x);
        return;
    }
    size_t mark = weft_arena_mark(work);
    reduction r = shard_reduction(c, g, n, wire);
    push_work(&r, work);
    uint64_t record;
    if (enter(c, g, WEFT_REDUCE_SCATTER, tensor, other_shards(group, wire, n), &record)) {
        reduce_parts(c, &r, mine, x, accumulate);
        if (later && c->order)
            leave_later(c, g, tensor, record, later);
        else
            leave(c, g, tensor, record);
    }
    weft_arena_release(work, mark);
}

void weft_reduce_shards(weft_comm *c, weft_group_kind g, const char *tensor, weft_real *mine,
                        const weft_real *x, int64_t n, weft_dtype wire, bool accumulate, weft_arena *work) {
    reduce_shards(c, g, tensor, mine, x, n, wire, accumulate, work, NULL);
}

void weft_reduce_shards_start(weft_comm *c, weft_group_kind g, const char *tensor, weft_real *mine,
                              const weft_real *x, int64_t n, weft_dtype wire, bool accumulate,
                              weft_arena *work, weft_request *r) {
    *r = (weft_request){0};
    reduce_shards(c, g, tensor, mine, x, n, wire, accumulate, work, r);
}

/* ---- tokens, broadcast, neighbours ---- */

static void exchange_rows(weft_comm *c, const weft_group *g, char *recv, const int64_t *recv_rows,
                          const char *send, const int64_t *send_rows, int64_t row_bytes) {
    const weft_comm_backend *b = c->backend;
    const char *own_from = NULL;
    char *own_to = NULL;
    for (int i = 0; i < g->size; recv += recv_rows[i++] * row_bytes)
        if (i == g->rank)
            own_to = recv;
        else if (recv_rows[i] > 0)
            b->post_recv(g->handle, i, recv, recv_rows[i] * row_bytes);
    for (int i = 0; i < g->size; send += send_rows[i++] * row_bytes)
        if (i == g->rank)
            own_from = send;
        else if (send_rows[i] > 0)
            b->post_send(g->handle, i, send, send_rows[i] * row_bytes);
    copy(worker(c), own_to, own_from, send_rows[g->rank] * row_bytes);
    b->complete();
}

void weft_all_to_all(weft_comm *c, weft_group_kind g, const char *tensor, void *recv,
                     const int64_t *recv_rows, const void *send, const int64_t *send_rows, int64_t row_bytes,
                     int64_t home_rows) {
    const weft_group *group = &c->group[g];
    uint64_t record;
    if (group->size == 1) {
        if (!c->dry) copy(c->device, recv, send, send_rows[0] * row_bytes);
        return;
    }
    if (!enter(c, g, WEFT_ALL_TO_ALL, tensor, home_rows * row_bytes, &record)) return;
    exchange_rows(c, group, recv, recv_rows, send, send_rows, row_bytes);
    leave(c, g, tensor, record);
}

void weft_broadcast(weft_comm *c, weft_group_kind g, const char *tensor, void *data, int64_t bytes,
                    int root) {
    const weft_group *group = &c->group[g];
    uint64_t record;
    if (group->size == 1 || !enter(c, g, WEFT_BROADCAST, tensor, group->rank == root ? 0 : bytes, &record))
        return;
    c->backend->broadcast(group->handle, data, bytes, root);
    leave(c, g, tensor, record);
}

void weft_send_recv(weft_comm *c, weft_group_kind g, const char *tensor, void *recv, int from,
                    const void *send, int to, int64_t bytes) {
    const weft_group *group = &c->group[g];
    uint64_t record;
    bool own = to == group->rank, receives = from >= 0 && from != group->rank;
    WEFT_CHECK(own == (from == group->rank), "%s: sent to %d and received from %d by %d", tensor, to, from,
               group->rank);
    if (!c->dry && own) copy(c->device, recv, send, bytes);
    if (group->size == 1 || !enter(c, g, WEFT_SEND_RECV, tensor, receives ? bytes : 0, &record)) return;
    if (receives && bytes > 0) c->backend->post_recv(group->handle, from, recv, bytes);
    if (!own && to >= 0 && bytes > 0) c->backend->post_send(group->handle, to, send, bytes);
    c->backend->complete();
    leave(c, g, tensor, record);
}
