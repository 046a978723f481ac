/* Groups and what moves their bytes; faults on purpose; counting and recording. */
#include "parallel/comm_backend.h"
#include "parallel/comm_order.h"
#include "ops.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- a fault on purpose ---- */

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

/* ---- the device ---- */

/* In place of none: the host's memory. */
static weft_device *host_device(void) {
    static weft_device host;
    if (!host.ops && weft_device_open_cpu(&host) != WEFT_OK)
        weft_panic(__FILE__, __LINE__, "the CPU cannot be opened");
    return &host;
}

/* ---- opening ---- */

static void set_group(weft_comm *c, weft_group_kind kind, bool split, int *ranks) {
    weft_group *g = &c->group[kind];
    *g = (weft_group){.kind = kind, .axis = weft_group_axis(&c->mesh, kind), .host = -1, .handle = -1};
    g->size = weft_mesh_group(&c->mesh, kind, c->kv_ranks, ranks, &g->rank);
    if (split && g->size > 1) g->handle = g->host = weft_mpi_split(ranks[0], g->rank);
}

/* An earlier group of the same ranks, or none. Members of one see the same. */
static const weft_group *same_group(const weft_comm *c, weft_group_kind kind, int *ranks) {
    int count = weft_mesh_group(&c->mesh, kind, c->kv_ranks, ranks, NULL), *others = ranks + c->mesh.ranks;
    for (int k = 0; k < (int)kind; k++)
        if (weft_mesh_group(&c->mesh, (weft_group_kind)k, c->kv_ranks, others, NULL) == count &&
            memcmp(ranks, others, (size_t)count * sizeof *ranks) == 0)
            return &c->group[k];
    return NULL;
}

/* Communicators of NCCL take memory of the device, so groups of the same ranks share theirs. Agreed after
 * each group: a rank that failed would be missing from the next. */
static weft_status open_device(weft_comm *c, int *ranks) {
    for (int k = 0; k < WEFT_GROUPS; k++) c->group[k].handle = -1;
    weft_status st = weft_order_open(&c->order, c);
    for (int k = 0; k < WEFT_GROUPS; k++) {
        weft_group *g = &c->group[k];
        if (g->size == 1) continue;
        WEFT_TRY(weft_world_agree(st));
        const weft_group *same = same_group(c, (weft_group_kind)k, ranks);
        if (same)
            g->handle = same->handle;
        else
            st = weft_nccl_open(weft_order_side(c->order), g, &c->backend, &g->handle);
    }
    return weft_world_agree(st);
}

weft_status weft_comm_open(weft_comm *c, const weft_mesh *mesh, int kv_ranks, bool dry, weft_device *device) {
    bool real = !dry && mesh->ranks > 1;
    if (real && (mesh->ranks != weft_world_ranks() || mesh->rank != weft_world_rank()))
        WEFT_FAIL(WEFT_EINTERNAL, "a mesh with rank %d of %d on rank %d of %d of the job", mesh->rank,
                  mesh->ranks, weft_world_rank(), weft_world_ranks());
    int *ranks = NULL;
    if (real) {
        weft_status st = read_fault();
        if (st == WEFT_OK && !(ranks = malloc(2 * (size_t)mesh->ranks * sizeof *ranks)))
            st = weft_fail(WEFT_ENOMEM, "no memory for the groups of %d ranks", mesh->ranks);
        st = weft_world_agree(st);
        if (st != WEFT_OK) {
            free(ranks);
            return st;
        }
    }
    *c = (weft_comm){.mesh = *mesh,
                     .kv_ranks = kv_ranks,
                     .dry = dry,
                     .device = device ? device : host_device(),
                     .backend = &weft_backend_mpi};
    for (int k = 0; k < WEFT_GROUPS; k++) set_group(c, (weft_group_kind)k, real, ranks);
    weft_status st = real && !weft_device_on_host(c->device) ? open_device(c, ranks) : WEFT_OK;
    free(ranks);
    if (st != WEFT_OK) weft_comm_close(c);
    return st;
}

void weft_comm_single(weft_comm *c) {
    *c = (weft_comm){
        .mesh = weft_mesh_single(), .kv_ranks = 1, .device = host_device(), .backend = &weft_backend_mpi};
    for (int k = 0; k < WEFT_GROUPS; k++) set_group(c, (weft_group_kind)k, false, NULL);
}

/* Of several groups that share a handle the first closes it. */
static void close_device(weft_comm *c) {
    weft_order_close(c->order);
    for (int k = 0; k < WEFT_GROUPS; k++) {
        int handle = c->group[k].handle;
        if (handle < 0) continue;
        for (int j = k; j < WEFT_GROUPS; j++)
            if (c->group[j].handle == handle) c->group[j].handle = -1;
        weft_nccl_close(handle);
    }
}

void weft_comm_close(weft_comm *c) {
    weft_world_detach(c);
    if (c->order) close_device(c);
    for (int k = 0; k < WEFT_GROUPS && !c->dry; k++)
        if (c->group[k].size > 1) weft_mpi_release(c->group[k].host);
    *c = (weft_comm){0};
}

/* ---- counting and recording ---- */

void weft_comm_count(weft_comm *c, weft_group_kind g, int64_t bytes) {
    weft_axis axis = c->group[g].axis;
    c->bytes[axis == WEFT_AXIS_NONE ? WEFT_AXES : axis] += bytes;
}

bool weft_comm_begin(weft_comm *c, weft_group_kind g, weft_collective op, const char *tensor, int64_t bytes,
                     uint64_t *record) {
    *record = 0;
    if (!c) return true;
    weft_order_poll(c->order);
    weft_comm_count(c, g, bytes);
    if (fault_here(c->mesh.rank, tensor)) return false;
    *record = weft_ledger_enter(c->ledger, g, op, tensor, bytes);
    return true;
}

bool weft_comm_enter(weft_comm *c, weft_group_kind g, weft_collective op, const char *tensor, int64_t bytes,
                     uint64_t *record) {
    if (!weft_comm_begin(c, g, op, tensor, bytes, record)) return false;
    if (c) weft_ledger_wait(c->ledger, *record);
    return true;
}

void weft_comm_leave(weft_comm *c, uint64_t record) {
    if (c) weft_ledger_leave(c->ledger, record);
}
