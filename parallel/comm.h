/* Collectives between the ranks of a mesh's groups. Counting, recording and the order of sums are comm.c's; a
 * backend (comm_backend.h) moves the bytes: NCCL those of a device that has memory of its own, MPI the
 * host's.
 *
 * Arrays lie in the device's memory; counts of rows, and what is named _host, in the host's. On a device that
 * queues its work (runtime/device.h) a collective is queued as well: it runs on the stream for communication,
 * after all that was queued on d->stream before, and what is queued there next runs after it. So "complete"
 * below means that d->stream is beyond it, not that the host knows.
 *
 * A communicator holds one group of every kind (mesh.h). In a group of one rank every call returns at once
 * and moves nothing. A dry communicator has groups of the planned sizes but no other ranks: calls take their
 * workspace from the (measuring) arena, count their bytes and return without touching an array. So one path
 * serves a run and its plan.
 *
 * Every call is collective on its group, blocks until this rank's part is complete unless it is named _start,
 * cannot fail (MPI or NCCL ends the job), and is recorded in the ledger under `tensor`. All members pass the
 * same sizes except where counts are given. Nothing is allocated after the first call with given sizes.
 *
 * Traffic. Each call counts the bytes that this rank receives from others (a reduction: what it receives for
 * its partial sums; an all-reduce: both halves), with one exception: of an all-to-all of tokens it counts the
 * home rank's rows, its own included (`home_rows`), because how many of them leave is decided by the router,
 * token by token. So bytes depend on the layout only, and a plan's are a run's. Where members' parts differ
 * in size, each counts as if all were the largest; so all members of a reduction or a gather count the same.
 *
 * Sums run in a fixed binary tree over the members' numbers, ((0+1)+(2+3))+..., and every member gets the
 * same bits. With 5 members it is ((0+1)+(2+3))+4, with 6 ((0+1)+(2+3))+(4+5): level by level, neighbours are
 * added and one left over waits. They take workspace for at most 2^18 elements (2^24 on a device with memory
 * of its own; at least 2^14 a member), twice that where x is rounded before it travels.
 *
 * For tests, the environment may inject a fault, read when a communicator of several ranks is opened: with
 * WEFT_FAULT=skip:RANK:TENSOR that rank of the job does not enter its first blocking collective named TENSOR
 * in a group of several ranks (the control collectives of world.c included, when attached) and goes on as if
 * it were done; with exit:RANK:TENSOR it calls _exit(7) there, with kill:RANK:TENSOR it raises SIGKILL. */
#ifndef WEFT_COMM_H
#define WEFT_COMM_H

#include "parallel/ledger.h"
#include "parallel/mesh.h"
#include "runtime/device.h"

struct weft_comm_backend;
struct weft_comm_order;

typedef struct weft_group {
    weft_group_kind kind;
    weft_axis axis;
    int rank, size; /* this rank's place, members */
    int host;       /* handle for memory of the host (MPI) */
    int handle;     /* of the backend: for memory of the device */
} weft_group;

typedef struct weft_comm {
    weft_mesh mesh;
    int kv_ranks;
    bool dry;
    weft_device *device; /* whose memory is moved */
    const struct weft_comm_backend *backend;
    struct weft_comm_order *order; /* of a device that queues, or NULL */
    weft_group group[WEFT_GROUPS];
    int64_t bytes[WEFT_AXES + 1]; /* counted since it was last cleared, by axis; WEFT_AXES: control */
    weft_ledger *ledger;          /* or NULL; the caller's: NULL it before closing the ledger */
    /* Of a dry communicator: told of each collective and the bytes that it counts, or NULL. */
    void (*see)(void *of, const weft_group *g, weft_collective op, int64_t bytes);
    void *see_of;
} weft_comm;

/* Collective on all ranks of the job unless dry or the mesh has one rank; a dry one needs no MPI. kv_ranks:
 * see WEFT_GROUP_KV. `device`: whose memory is moved; it is kept and outlives the communicator; NULL: the
 * host's memory. *c stays where it is until it is closed. */
weft_status weft_comm_open(weft_comm *c, const weft_mesh *mesh, int kv_ranks, bool dry, weft_device *device);
void weft_comm_single(weft_comm *c); /* a mesh of one rank, memory of the host; needs no close */
void weft_comm_close(weft_comm *c);  /* collective; also of a zeroed struct */

/* x[n] <- sum over the group, in weft_real, rounded to x's type. Workspace from `work`. Counts (size-1)*n
 * elements up to size*n = 16384, where it is one all-gather, and 2*(size-1)*ceil(n/size) above. */
void weft_all_reduce(weft_comm *c, weft_group_kind g, const char *tensor, weft_dtype type, void *x, int64_t n,
                     weft_arena *work);
void weft_all_reduce_i64(weft_comm *c, weft_group_kind g, const char *tensor, int64_t *x, int64_t n);
/* The same in the host's memory; the host waits for it. */
void weft_all_reduce_i64_host(weft_comm *c, weft_group_kind g, const char *tensor, int64_t *x, int64_t n);

/* `all` holds size blocks of `bytes`; member r has filled block r; afterwards all are filled. Counts size-1
 * blocks. */
void weft_all_gather(weft_comm *c, weft_group_kind g, const char *tensor, void *all, int64_t bytes);
/* sum over the group of x[size * n]; member r gets block r, in `out` [n], which may be block r of x. x is
 * kept (but for that). Counts size-1 blocks. */
void weft_reduce_scatter(weft_comm *c, weft_group_kind g, const char *tensor, weft_dtype type, void *out,
                         const void *x, int64_t n, weft_arena *work);

/* Blocks of unequal sizes: `n` elements (a multiple of WEFT_SHARD_GRAIN) cut by weft_shard_of. */
#define WEFT_SHARD_GRAIN 64
static inline weft_part weft_shard_of(int64_t n, int parts, int index) {
    int64_t grains = n / WEFT_SHARD_GRAIN, each = (grains + parts - 1) / parts * WEFT_SHARD_GRAIN;
    int64_t start = index * each < n ? index * each : n, end = start + each < n ? start + each : n;
    return (weft_part){start, end - start};
}
typedef struct weft_request {
    void *handle;    /* NULL: nothing is under way */
    uint64_t record; /* of the ledger; on a device that queues, the ticket of comm_order.h */
} weft_request;
/* all[n] from every member's shard `mine`, which may lie in its place in `all`. Counts size-1 shards. The
 * started form: `all` is not touched until it is finished, nor `mine` changed; several may be under way,
 * started and finished in any order that all members share. On a device that queues, it waits for what was
 * queued on d->stream before, and what is queued there between start and finish runs beside it. */
void weft_gather_shards_start(weft_comm *c, weft_group_kind g, const char *tensor, weft_dtype type, void *all,
                              const void *mine, int64_t n, weft_request *r);
void weft_gather_shards(weft_comm *c, weft_group_kind g, const char *tensor, weft_dtype type, void *all,
                        const void *mine, int64_t n);
/* mine <- this member's shard of the sum of x[n] (+ mine if accumulate). x is kept; `mine` does not overlap
 * it. It travels as `wire`, weft_real's type or WEFT_BF16 (every member's x, this one's too, is then rounded
 * first); the sum is of weft_real. Counts size-1 shards of that type. The started form: x, mine and what lies
 * in `work` above its top are not touched until it is finished; where nothing is queued it is complete at
 * once. */
void weft_reduce_shards(weft_comm *c, weft_group_kind g, const char *tensor, weft_real *mine,
                        const weft_real *x, int64_t n, weft_dtype wire, bool accumulate, weft_arena *work);
void weft_reduce_shards_start(weft_comm *c, weft_group_kind g, const char *tensor, weft_real *mine,
                              const weft_real *x, int64_t n, weft_dtype wire, bool accumulate,
                              weft_arena *work, weft_request *r);
/* The workspace of either. */
size_t weft_reduce_shards_bytes(const weft_comm *c, weft_group_kind g, int64_t n, weft_dtype wire);
/* Waits for a started operation; of an idle request nothing. */
void weft_comm_finish(weft_comm *c, weft_request *r);

/* Rows of `row_bytes` bytes: send_rows[i] rows go to member i, in order and dense; recv_rows[i] come from it.
 * home_rows: see traffic; a dry call needs no counts (NULL). recv is not send, unless the group has one rank.
 */
void weft_all_to_all(weft_comm *c, weft_group_kind g, const char *tensor, void *recv,
                     const int64_t *recv_rows, const void *send, const int64_t *send_rows, int64_t row_bytes,
                     int64_t home_rows);
/* Counts `bytes`, but for the root nothing. */
void weft_broadcast(weft_comm *c, weft_group_kind g, const char *tensor, void *data, int64_t bytes, int root);
/* Sends `bytes` to member `to` and receives as many from member `from`; either may be -1: none; itself is
 * allowed, as both. Counts what comes from another. */
void weft_send_recv(weft_comm *c, weft_group_kind g, const char *tensor, void *recv, int from,
                    const void *send, int to, int64_t bytes);

/* The communicator whose ledger the control collectives of world.h are recorded in, and whose
 * bytes[WEFT_AXES] they count in; NULL (or a dry one): none. weft_comm_close and weft_world_finalize detach
 * it. */
void weft_world_attach(weft_comm *c);

#endif
