#include "parallel/comm_backend.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const weft_comm_backend *const g_backend = &weft_backend_mpi;

#define REAL_BYTES ((int64_t)sizeof(weft_real))
#define PIECE ((int64_t)1 << 18) /* elements that a sum receives at a time, from all members together */
#define PIECE_LEAST 16384        /* ... and from one of them at least */
#define PARALLEL 32768           /* additions from which on threads share them */
#define SMALL 16384              /* up to so many elements in all, an all-reduce is one all-gather */

static int64_t least(int64_t a, int64_t b) {
    return a < b ? a : b;
}

/* ---- a fault on purpose ---------------------------------------------------------------------------------
 */

static struct {
    enum { NO_FAULT, FAULT_SKIP, FAULT_EXIT, FAULT_KILL } what;
    int rank;
    char tensor[64];
} g_fault;

static weft_status read_fault(void) {
    const char *text = getenv("WEFT_FAULT"), *const verbs[] = {"", "skip", "exit", "kill"};
    char verb[8] = "";
    memset(&g_fault, 0, sizeof g_fault);
    if (!text || !*text) return WEFT_OK;
    int end = 0;
    if (sscanf(text, "%7[a-z]:%d:%n", verb, &g_fault.rank, &end) == 2 && end > 0 &&
        strlen(text + end) < sizeof g_fault.tensor)
        for (int i = FAULT_SKIP; i <= FAULT_KILL; i++)
            if (strcmp(verb, verbs[i]) == 0) g_fault.what = i;
    if (g_fault.what == NO_FAULT)
        WEFT_FAIL(
            WEFT_EINPUT,
            "WEFT_FAULT is \"%s\": write skip:RANK:TENSOR, exit:RANK:TENSOR or kill:RANK:TENSOR, or unset it",
            text);
    memcpy(g_fault.tensor, text + end, strlen(text + end) + 1);
    return WEFT_OK;
}

/* True: skip this collective. */
static bool fault_here(int rank, const char *tensor) {
    if (g_fault.what == NO_FAULT || g_fault.rank != rank || strcmp(g_fault.tensor, tensor) != 0) return false;
    if (g_fault.what == FAULT_EXIT) _exit(7);
    if (g_fault.what == FAULT_KILL) raise(SIGKILL);
    g_fault.what = NO_FAULT;
    return true;
}

/* ---- opening --------------------------------------------------------------------------------------------
 */

static void set_group(weft_comm *c, weft_group_kind kind, bool split, int *ranks) {
    weft_group *g = &c->group[kind];
    *g = (weft_group){.kind = kind, .axis = weft_group_axis(&c->mesh, kind), .handle = -1};
    g->size = weft_mesh_group(&c->mesh, kind, c->kv_ranks, ranks, &g->rank);
    if (split && g->size > 1) g->handle = g_backend->split(ranks[0], g->rank);
}

weft_status weft_comm_open(weft_comm *c, const weft_mesh *mesh, int kv_ranks, bool dry) {
    bool real = !dry && mesh->ranks > 1;
    if (real && (mesh->ranks != weft_world_ranks() || mesh->rank != weft_world_rank()))
        WEFT_FAIL(WEFT_EINTERNAL, "a mesh with rank %d of %d on rank %d of %d of the job", mesh->rank,
                  mesh->ranks, weft_world_rank(), weft_world_ranks());
    int *ranks = NULL;
    if (real) {
        weft_status st = read_fault();
        if (st == WEFT_OK && !(ranks = malloc((size_t)mesh->ranks * sizeof *ranks)))
            st = weft_fail(WEFT_ENOMEM, "no memory for the groups of %d ranks", mesh->ranks);
        st = weft_world_agree(st);
        if (st != WEFT_OK) {
            free(ranks);
            return st;
        }
    }
    *c = (weft_comm){.mesh = *mesh, .kv_ranks = kv_ranks, .dry = dry};
    for (int k = 0; k < WEFT_GROUPS; k++) set_group(c, (weft_group_kind)k, real, ranks);
    free(ranks);
    return WEFT_OK;
}

void weft_comm_single(weft_comm *c) {
    *c = (weft_comm){.mesh = weft_mesh_single(), .kv_ranks = 1};
    for (int k = 0; k < WEFT_GROUPS; k++) set_group(c, (weft_group_kind)k, false, NULL);
}

void weft_comm_close(weft_comm *c) {
    weft_world_detach(c);
    for (int k = 0; k < WEFT_GROUPS && !c->dry; k++)
        if (c->group[k].size > 1) g_backend->release(c->group[k].handle);
    *c = (weft_comm){0};
}

/* ---- counting and recording -----------------------------------------------------------------------------
 */

static void count(weft_comm *c, weft_group_kind g, int64_t bytes) {
    weft_axis axis = c->group[g].axis;
    c->bytes[axis == WEFT_AXIS_NONE ? WEFT_AXES : axis] += bytes;
}

bool weft_comm_enter(weft_comm *c, weft_group_kind g, weft_collective op, const char *tensor, int64_t bytes,
                     uint64_t *record) {
    *record = 0;
    if (!c) return true;
    count(c, g, bytes);
    if (fault_here(c->mesh.rank, tensor)) return false;
    *record = weft_ledger_enter(c->ledger, g, op, tensor, bytes);
    weft_ledger_wait(c->ledger, *record);
    return true;
}

void weft_comm_leave(weft_comm *c, uint64_t record) {
    if (c) weft_ledger_leave(c->ledger, record);
}

/* The same for the calls below, whose groups have more than one member: false when dry as well. */
static bool enter(weft_comm *c, weft_group_kind g, weft_collective op, const char *tensor, int64_t bytes,
                  uint64_t *record) {
    if (!c->dry) return weft_comm_enter(c, g, op, tensor, bytes, record);
    count(c, g, bytes);
    return false;
}

/* ---- parts and sums -------------------------------------------------------------------------------------
 */

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

/* x[r] (r < count) at stride `stride`: summed pairwise by member number into x[0]. */
static void tree_sum(weft_real *x, int64_t stride, int count, int64_t n) {
    for (int step = 1; step < count; step *= 2)
        for (int r = 0; r + step < count; r += 2 * step) {
            weft_real *restrict a = x + r * stride;
            const weft_real *restrict b = x + (r + step) * stride;
#pragma omp parallel for simd schedule(static) if (n >= PARALLEL)
            for (int64_t i = 0; i < n; i++) a[i] += b[i];
        }
}

/* Elements of each part that a sum takes at a time; its workspace is that for every member. */
static int64_t piece_of(const weft_group *g, int64_t each) {
    int64_t piece = PIECE / g->size;
    return least(each, piece > PIECE_LEAST ? piece : PIECE_LEAST);
}
static weft_real *push_pieces(const weft_group *g, int64_t each, weft_arena *work) {
    return weft_arena_push(work, (size_t)(g->size * piece_of(g, each) * REAL_BYTES));
}

/* Elements [at, at+piece) of each member's part of x go to that member; parts[r] <- those of this member's
 * part from member r. Returns how many they are. */
static int64_t exchange_piece(const weft_group *g, weft_real *parts, const weft_real *x, int64_t each,
                              int64_t total, int64_t at, int64_t piece) {
    weft_part own = part(each, total, g->rank);
    int64_t mine = least(own.count - at, piece);
    for (int k = 1; k < g->size && mine > 0; k++) {
        int from = (g->rank + g->size - k) % g->size;
        g_backend->post_recv(g->handle, from, parts + from * piece, mine * REAL_BYTES);
    }
    for (int k = 1; k < g->size; k++) {
        int to = (g->rank + k) % g->size;
        weft_part theirs = part(each, total, to);
        int64_t n = least(theirs.count - at, piece);
        if (n > 0) g_backend->post_send(g->handle, to, x + theirs.start + at, n * REAL_BYTES);
    }
    if (mine > 0) memcpy(parts + g->rank * piece, x + own.start + at, (size_t)(mine * REAL_BYTES));
    g_backend->complete();
    return mine;
}

static void add_or_copy(weft_real *out, const weft_real *x, int64_t n, bool accumulate) {
    if (!accumulate)
        memcpy(out, x, (size_t)(n * REAL_BYTES));
    else
        for (int64_t i = 0; i < n; i++) out[i] += x[i];
}

/* out <- this member's part of the sum of x (+ out); out may be that part of x. */
static void reduce_parts(const weft_group *g, weft_real *out, const weft_real *x, int64_t each, int64_t total,
                         bool accumulate, weft_real *parts) {
    int64_t piece = piece_of(g, each);
    for (int64_t at = 0; at < each; at += piece) {
        int64_t mine = exchange_piece(g, parts, x, each, total, at, piece);
        if (mine <= 0) continue;
        tree_sum(parts, piece, g->size, mine);
        add_or_copy(out + at, parts, mine, accumulate);
    }
}

/* ---- all-reduce -----------------------------------------------------------------------------------------
 */

static bool is_small(const weft_group *g, int64_t n) {
    return n <= SMALL / g->size;
}

/* What every member counts: the other members' elements, or two halves of this member's part from each of the
 * others. */
static int64_t all_reduce_elements(const weft_group *g, int64_t n) {
    return is_small(g, n) ? (g->size - 1) * n : 2 * (g->size - 1) * ((n + g->size - 1) / g->size);
}

static void all_reduce_small(const weft_group *g, weft_real *x, int64_t n, weft_real *parts) {
    memcpy(parts + g->rank * n, x, (size_t)(n * REAL_BYTES));
    g_backend->gather(g->handle, parts, n * REAL_BYTES, g->size * n * REAL_BYTES);
    tree_sum(parts, n, g->size, n);
    memcpy(x, parts, (size_t)(n * REAL_BYTES));
}

void weft_all_reduce(weft_comm *c, weft_group_kind g, const char *tensor, weft_real *x, int64_t n,
                     weft_arena *work) {
    const weft_group *group = &c->group[g];
    if (group->size == 1) return;
    bool small = is_small(group, n);
    int64_t each = small ? n : (n + group->size - 1) / group->size;
    size_t mark = weft_arena_mark(work);
    weft_real *parts = push_pieces(group, each, work);
    uint64_t record;
    if (enter(c, g, WEFT_ALL_REDUCE, tensor, all_reduce_elements(group, n) * REAL_BYTES, &record)) {
        if (small) {
            all_reduce_small(group, x, n, parts);
        } else {
            reduce_parts(group, x + part(each, n, group->rank).start, x, each, n, false, parts);
            g_backend->gather(group->handle, x, each * REAL_BYTES, n * REAL_BYTES);
        }
        weft_comm_leave(c, record);
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
    g_backend->reduce_i64(group->handle, x, n, WEFT_I64_SUM);
    weft_comm_leave(c, record);
}

/* ---- equal blocks ---------------------------------------------------------------------------------------
 */

void weft_all_gather(weft_comm *c, weft_group_kind g, const char *tensor, void *all, int64_t bytes) {
    const weft_group *group = &c->group[g];
    uint64_t record;
    if (group->size == 1 || !enter(c, g, WEFT_ALL_GATHER, tensor, (group->size - 1) * bytes, &record)) return;
    g_backend->gather(group->handle, all, bytes, group->size * bytes);
    weft_comm_leave(c, record);
}

void weft_reduce_scatter(weft_comm *c, weft_group_kind g, const char *tensor, weft_real *out,
                         const weft_real *x, int64_t n, weft_arena *work) {
    const weft_group *group = &c->group[g];
    if (group->size == 1) {
        if (!c->dry && out != x) memcpy(out, x, (size_t)(n * REAL_BYTES));
        return;
    }
    size_t mark = weft_arena_mark(work);
    weft_real *parts = push_pieces(group, n, work);
    uint64_t record;
    if (enter(c, g, WEFT_REDUCE_SCATTER, tensor, (group->size - 1) * n * REAL_BYTES, &record)) {
        reduce_parts(group, out, x, n, group->size * n, false, parts);
        weft_comm_leave(c, record);
    }
    weft_arena_release(work, mark);
}

/* ---- shards ---------------------------------------------------------------------------------------------
 */

static void put_in_place(const weft_group *g, weft_real *all, const weft_real *mine, int64_t n) {
    weft_part own = weft_shard_of(n, g->size, g->rank);
    if (own.count > 0 && mine != all + own.start)
        memcpy(all + own.start, mine, (size_t)(own.count * REAL_BYTES));
}

void weft_gather_shards_start(weft_comm *c, weft_group_kind g, const char *tensor, weft_real *all,
                              const weft_real *mine, int64_t n, weft_request *r) {
    const weft_group *group = &c->group[g];
    int64_t each = shard_each(n, group->size), bytes = (group->size - 1) * each * REAL_BYTES;
    *r = (weft_request){0};
    if (group->size > 1) count(c, g, bytes);
    if (c->dry) return;
    put_in_place(group, all, mine, n);
    if (group->size == 1) return;
    r->record = weft_ledger_enter(c->ledger, g, WEFT_ALL_GATHER, tensor, bytes);
    r->handle = g_backend->gather_start(group->handle, all, each * REAL_BYTES, n * REAL_BYTES);
}

void weft_comm_finish(weft_comm *c, weft_request *r) {
    if (!r->handle) return;
    weft_ledger_wait(c->ledger, r->record);
    g_backend->wait(r->handle);
    weft_ledger_leave(c->ledger, r->record);
    *r = (weft_request){0};
}

void weft_gather_shards(weft_comm *c, weft_group_kind g, const char *tensor, weft_real *all,
                        const weft_real *mine, int64_t n) {
    const weft_group *group = &c->group[g];
    int64_t each = shard_each(n, group->size), bytes = (group->size - 1) * each * REAL_BYTES;
    uint64_t record;
    if (!c->dry) put_in_place(group, all, mine, n);
    if (group->size == 1 || !enter(c, g, WEFT_ALL_GATHER, tensor, bytes, &record)) return;
    g_backend->gather(group->handle, all, each * REAL_BYTES, n * REAL_BYTES);
    weft_comm_leave(c, record);
}

void weft_reduce_shards(weft_comm *c, weft_group_kind g, const char *tensor, weft_real *mine,
                        const weft_real *x, int64_t n, bool accumulate, weft_arena *work) {
    const weft_group *group = &c->group[g];
    int64_t each = shard_each(n, group->size);
    if (group->size == 1) {
        if (!c->dry) add_or_copy(mine, x, n, accumulate);
        return;
    }
    size_t mark = weft_arena_mark(work);
    weft_real *parts = push_pieces(group, each, work);
    uint64_t record;
    if (enter(c, g, WEFT_REDUCE_SCATTER, tensor, (group->size - 1) * each * REAL_BYTES, &record)) {
        reduce_parts(group, mine, x, each, n, accumulate, parts);
        weft_comm_leave(c, record);
    }
    weft_arena_release(work, mark);
}

/* ---- tokens, broadcast, neighbours ----------------------------------------------------------------------
 */

static void exchange_rows(const weft_group *g, char *recv, const int64_t *recv_rows, const char *send,
                          const int64_t *send_rows, int64_t row_bytes) {
    const char *own_from = NULL;
    char *own_to = NULL;
    for (int i = 0; i < g->size; recv += recv_rows[i++] * row_bytes)
        if (i == g->rank)
            own_to = recv;
        else if (recv_rows[i] > 0)
            g_backend->post_recv(g->handle, i, recv, recv_rows[i] * row_bytes);
    for (int i = 0; i < g->size; send += send_rows[i++] * row_bytes)
        if (i == g->rank)
            own_from = send;
        else if (send_rows[i] > 0)
            g_backend->post_send(g->handle, i, send, send_rows[i] * row_bytes);
    if (send_rows[g->rank] > 0 && own_to != own_from)
        memcpy(own_to, own_from, (size_t)(send_rows[g->rank] * row_bytes));
    g_backend->complete();
}

void weft_all_to_all(weft_comm *c, weft_group_kind g, const char *tensor, void *recv,
                     const int64_t *recv_rows, const void *send, const int64_t *send_rows, int64_t row_bytes,
                     int64_t home_rows) {
    const weft_group *group = &c->group[g];
    uint64_t record;
    if (group->size == 1) {
        if (!c->dry && recv != send && send_rows[0] > 0)
            memcpy(recv, send, (size_t)(send_rows[0] * row_bytes));
        return;
    }
    if (!enter(c, g, WEFT_ALL_TO_ALL, tensor, home_rows * row_bytes, &record)) return;
    exchange_rows(group, recv, recv_rows, send, send_rows, row_bytes);
    weft_comm_leave(c, record);
}

void weft_broadcast(weft_comm *c, weft_group_kind g, const char *tensor, void *data, int64_t bytes,
                    int root) {
    const weft_group *group = &c->group[g];
    uint64_t record;
    if (group->size == 1 || !enter(c, g, WEFT_BROADCAST, tensor, group->rank == root ? 0 : bytes, &record))
        return;
    g_backend->broadcast(group->handle, data, bytes, root);
    weft_comm_leave(c, record);
}

void weft_send_recv(weft_comm *c, weft_group_kind g, const char *tensor, void *recv, int from,
                    const void *send, int to, int64_t bytes) {
    const weft_group *group = &c->group[g];
    uint64_t record;
    bool own = to == group->rank, receives = from >= 0 && from != group->rank;
    WEFT_CHECK(own == (from == group->rank), "%s: sent to %d and received from %d by %d", tensor, to, from,
               group->rank);
    if (!c->dry && own && recv != send && bytes > 0) memcpy(recv, send, (size_t)bytes);
    if (group->size == 1 || !enter(c, g, WEFT_SEND_RECV, tensor, receives ? bytes : 0, &record)) return;
    if (receives && bytes > 0) g_backend->post_recv(group->handle, from, recv, bytes);
    if (!own && to >= 0 && bytes > 0) g_backend->post_send(group->handle, to, send, bytes);
    g_backend->complete();
    weft_comm_leave(c, record);
}
