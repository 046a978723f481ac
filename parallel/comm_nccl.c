/* Moves bytes between GPUs. All of a device's communicators are used on one stream, in the order in which the
 * host queues, which is the same on all members; so they cannot wait for each other in a circle. */
#include "parallel/comm_backend.h"
#include "cuda/stream.h"

#include <nccl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct member {
    ncclComm_t comm; /* NULL: the place is free */
    weft_group_kind kind;
    int rank, size;
    cudaStream_t stream;
} member;

static struct {
    member *all; /* a handle is an index */
    int count;
    bool grouped; /* between ncclGroupStart and ncclGroupEnd */
} g_nccl;

/* ---- failures ---- */

static void say(char *text, size_t size, const member *m, const char *call, ncclResult_t code) {
    const char *last = ncclGetLastError(m ? m->comm : NULL);
    char who[64] = "";
    if (m)
        snprintf(who, sizeof who, " in the %s group as %d of %d", weft_group_name(m->kind), m->rank, m->size);
    snprintf(text, size, "%s%s: %s%s%s", call, who, ncclGetErrorString(code), last && *last ? ": " : "",
             last ? last : "");
}

static weft_status failed(const member *m, const char *call, ncclResult_t code) {
    char text[512];
    say(text, sizeof text, m, call, code);
    WEFT_FAIL(WEFT_EINTERNAL, "NCCL: %s (NCCL_DEBUG=WARN tells more)", text);
}

/* Of a collective, which cannot report: ends the process, and with it the job. */
static void check(const member *m, const char *call, ncclResult_t code) {
    if (code == ncclSuccess) return;
    (void)failed(m, call, code);
    weft_nccl_abort();
    _exit(1);
}

bool weft_nccl_failed(char *why, size_t size) {
    for (int i = 0; i < g_nccl.count; i++) {
        const member *m = &g_nccl.all[i];
        ncclResult_t state = ncclSuccess;
        if (!m->comm) continue;
        ncclResult_t code = ncclCommGetAsyncError(m->comm, &state);
        if (code == ncclSuccess) code = state;
        if (code == ncclSuccess || code == ncclInProgress) continue;
        say(why, size, m, "a collective", code);
        return true;
    }
    return false;
}

void weft_nccl_abort(void) {
    for (int i = 0; i < g_nccl.count; i++)
        if (g_nccl.all[i].comm) {
            (void)ncclCommAbort(g_nccl.all[i].comm);
            g_nccl.all[i].comm = NULL;
        }
}

/* ---- bytes ---- */

static void begin_group(void) {
    if (!g_nccl.grouped) check(NULL, "ncclGroupStart", ncclGroupStart());
    g_nccl.grouped = true;
}

static void complete(void) {
    if (g_nccl.grouped) check(NULL, "ncclGroupEnd", ncclGroupEnd());
    g_nccl.grouped = false;
}

static void post_recv(int handle, int from, void *data, int64_t bytes) {
    const member *m = &g_nccl.all[handle];
    begin_group();
    check(m, "ncclRecv", ncclRecv(data, (size_t)bytes, ncclUint8, from, m->comm, m->stream));
}

static void post_send(int handle, int to, const void *data, int64_t bytes) {
    const member *m = &g_nccl.all[handle];
    begin_group();
    check(m, "ncclSend", ncclSend(data, (size_t)bytes, ncclUint8, to, m->comm, m->stream));
}

static void broadcast(int handle, void *data, int64_t bytes, int root) {
    const member *m = &g_nccl.all[handle];
    if (bytes > 0)
        check(m, "ncclBroadcast",
              ncclBroadcast(data, data, (size_t)bytes, ncclUint8, root, m->comm, m->stream));
}

static void gather(int handle, void *all, int64_t each, int64_t total) {
    const member *m = &g_nccl.all[handle];
    if (total == m->size * each) {
        if (each > 0)
            check(m, "ncclAllGather",
                  ncclAllGather((char *)all + m->rank * each, all, (size_t)each, ncclUint8, m->comm,
                                m->stream));
        return;
    }
    begin_group();
    for (int64_t r = 0; r * each < total; r++) {
        int64_t left = total - r * each;
        broadcast(handle, (char *)all + r * each, left < each ? left : each, (int)r);
    }
    complete();
}

static void sum_i64(int handle, int64_t *x, int64_t n) {
    const member *m = &g_nccl.all[handle];
    if (n > 0)
        check(m, "ncclAllReduce", ncclAllReduce(x, x, (size_t)n, ncclInt64, ncclSum, m->comm, m->stream));
}

static const weft_comm_backend backend_nccl = {
    .post_recv = post_recv,
    .post_send = post_send,
    .complete = complete,
    .gather = gather,
    .broadcast = broadcast,
    .sum_i64 = sum_i64,
};

/* ---- open and close ---- */

static weft_status free_place(int *handle) {
    for (*handle = 0; *handle < g_nccl.count; ++*handle)
        if (!g_nccl.all[*handle].comm) return WEFT_OK;
    member *grown = realloc(g_nccl.all, (size_t)(g_nccl.count + 1) * sizeof *grown);
    if (!grown) WEFT_FAIL(WEFT_ENOMEM, "no memory for %d communicators", g_nccl.count + 1);
    g_nccl.all = grown;
    g_nccl.all[g_nccl.count++] = (member){0};
    return WEFT_OK;
}

/* The first member's id, unless one of them passes an error: none is then to enter NCCL. */
static weft_status share_id(const weft_group *g, weft_status mine, ncclUniqueId *id) {
    if (mine == WEFT_OK && g->rank == 0) {
        ncclResult_t code = ncclGetUniqueId(id);
        if (code != ncclSuccess) mine = failed(NULL, "ncclGetUniqueId", code);
    }
    int64_t worst = mine;
    weft_mpi_reduce_i64(g->host, &worst, 1, WEFT_I64_MAX);
    if (worst != WEFT_OK) return mine != WEFT_OK ? mine : WEFT_EREMOTE;
    weft_backend_mpi.broadcast(g->host, id, sizeof *id, 0);
    return WEFT_OK;
}

weft_status weft_nccl_open(weft_device *side, const weft_group *g, const weft_comm_backend **backend,
                           int *handle) {
    ncclUniqueId id;
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    member m = {.kind = g->kind, .rank = g->rank, .size = g->size, .stream = weft_cuda_stream(side)};
    WEFT_TRY(share_id(g, free_place(handle), &id));
    config.blocking = 1;
    ncclComm_t comm;
    /* Ends the process where it fails: other members may be inside, from where no status calls them back. */
    check(&m, "ncclCommInitRankConfig", ncclCommInitRankConfig(&comm, g->size, id, g->rank, &config));
    m.comm = comm;
    g_nccl.all[*handle] = m;
    *backend = &backend_nccl;
    return WEFT_OK;
}

void weft_nccl_close(int handle) {
    member *m = &g_nccl.all[handle];
    ncclResult_t code = ncclCommDestroy(m->comm);
    m->comm = NULL;
    check(m, "ncclCommDestroy", code);
    for (int i = 0; i < g_nccl.count; i++)
        if (g_nccl.all[i].comm) return;
    free(g_nccl.all);
    g_nccl.all = NULL;
    g_nccl.count = 0;
}
