#include "parallel/comm_backend.h"
#include "runtime/log.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const weft_comm_backend *const g_backend = &weft_backend_mpi;

static struct {
    int rank, size, handle;
    int whole; /* handle of the world that is split */
    weft_comm *attached;
} g_world = {.size = 1};

/* Started by mpirun or srun? Open MPI's, PMIx's and PMI's launchers each leave a mark. */
static bool launched(void) {
    const char *const marks[] = {"OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "PMI_RANK"};
    for (size_t i = 0; i < sizeof marks / sizeof *marks; i++)
        if (getenv(marks[i])) return true;
    return false;
}

weft_status weft_world_init(int *argc, char ***argv, weft_world *w) {
    if (!launched()) { /* alone: starting MPI would cost half a second and give nothing */
        *w = (weft_world){.size = 1, .local_size = 1};
        weft_log_set_rank(0, 1);
        return WEFT_OK;
    }
    /* A rank that waits gives its core away: with more ranks than cores a small all-reduce takes 16 ms
     * otherwise. A single machine's ranks talk through shared memory. Both are defaults that the user's
     * environment overrides. */
    setenv("OMPI_MCA_mpi_yield_when_idle", "1", 0);
    setenv("OMPI_MCA_btl_base_warn_component_unused", "0", 0);
    WEFT_TRY(weft_mpi_start(argc, argv, w, &g_world.handle));
    g_world.rank = w->rank;
    g_world.size = w->size;
    weft_log_set_rank(w->rank, w->size);
    return WEFT_OK;
}

static void use(int rank, int size, int handle) {
    g_world.rank = rank;
    g_world.size = size;
    g_world.handle = handle;
    weft_log_set_rank(rank, size);
}

void weft_world_split(const weft_world *w, int parts, weft_world *sub, int *part) {
    int mine = (int)((int64_t)w->rank * parts / w->size), size = 0, rank = 0;
    WEFT_CHECK(parts >= 1 && parts <= w->size && !g_world.attached, "a world of %d cannot be cut into %d",
               w->size, parts);
    for (int r = 0; r < w->size; r++) {
        if ((int)((int64_t)r * parts / w->size) != mine) continue;
        rank += r < w->rank;
        size++;
    }
    *part = mine;
    *sub = (weft_world){.rank = rank, .size = size, .local_rank = w->local_rank, .local_size = w->local_size};
    if (w->size == 1) return;
    g_world.whole = g_world.handle;
    use(rank, size, weft_mpi_split(mine, w->rank));
    weft_mpi_use(g_world.handle);
}

void weft_world_join(const weft_world *w) {
    if (w->size == 1) return;
    int part = g_world.handle;
    use(w->rank, w->size, g_world.whole);
    weft_mpi_use(g_world.whole);
    weft_mpi_release(part);
    weft_world_barrier();
}

const char *weft_world_library(void) {
    return weft_mpi_library();
}

int weft_world_threads(const weft_world *w) {
    cpu_set_t set;
    const char *wanted = getenv("OMP_NUM_THREADS");
    bool by_mpirun = getenv("OMPI_COMM_WORLD_SIZE") != NULL;
    if (by_mpirun && !getenv("OMPI_MCA_hwloc_base_binding_policy") &&
        sched_getaffinity(getppid(), sizeof set, &set) == 0)
        (void)sched_setaffinity(0, sizeof set, &set);
    if (wanted && atoi(wanted) > 0) return atoi(wanted);
    int cores =
        sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : (int)sysconf(_SC_NPROCESSORS_ONLN);
    return cores > w->local_size ? cores / w->local_size : 1;
}

void weft_world_finalize(void) {
    g_world.attached = NULL;
    weft_mpi_stop();
}

int weft_world_rank(void) {
    return g_world.rank;
}
int weft_world_ranks(void) {
    return g_world.size;
}

void weft_world_attach(weft_comm *c) {
    g_world.attached = c && !c->dry ? c : NULL;
}
void weft_world_detach(const weft_comm *c) {
    if (g_world.attached == c) g_world.attached = NULL;
}

/* ---- control collectives: recorded for the group of all ranks -------------------------------------------
 */

/* False: nothing to do. */
static bool enter(weft_collective op, const char *word, int64_t bytes, uint64_t *record) {
    return g_world.size > 1 && weft_comm_enter(g_world.attached, WEFT_GROUP_WORLD, op, word, bytes, record);
}
static void leave(uint64_t record) {
    weft_comm_leave(g_world.attached, record);
}

static int64_t reduce(weft_collective op, const char *word, int64_t x, weft_i64_op how) {
    uint64_t record;
    if (!enter(op, word, (g_world.size - 1) * (int64_t)sizeof x, &record)) return x;
    weft_mpi_reduce_i64(g_world.handle, &x, 1, how);
    leave(record);
    return x;
}

weft_status weft_world_agree(weft_status mine) {
    int64_t first = reduce(WEFT_AGREE, "status", mine != WEFT_OK ? g_world.rank : g_world.size, WEFT_I64_MIN);
    /* An error held back by another thread may come before the status that tells of it: it is kept. */
    if (first == g_world.size) return WEFT_OK;
    weft_log_settle_held(first == g_world.rank);
    return mine != WEFT_OK ? mine : WEFT_EREMOTE;
}

int weft_world_exit_code(int mine) {
    return (int)reduce(WEFT_ALL_REDUCE, "exit code", mine, WEFT_I64_MAX);
}
int64_t weft_world_sum_i64(int64_t x) {
    return reduce(WEFT_ALL_REDUCE, "sum", x, WEFT_I64_SUM);
}
int64_t weft_world_max_i64(int64_t x) {
    return reduce(WEFT_ALL_REDUCE, "max", x, WEFT_I64_MAX);
}
weft_status weft_world_same(uint64_t x, const char *what) {
    int64_t mine = (int64_t)x;
    if (!weft_world_any(weft_world_max_i64(mine) != mine)) return WEFT_OK;
    weft_log_replicated(true);
    WEFT_FAIL(WEFT_EINPUT, "%s is not the same on every rank: do all machines see the same files?", what);
}

bool weft_world_any(bool x) {
    return weft_world_max_i64(x) != 0;
}

void weft_world_barrier(void) {
    uint64_t record;
    if (!enter(WEFT_BARRIER, "", 0, &record)) return;
    weft_mpi_barrier(g_world.handle);
    leave(record);
}

void weft_world_bcast(void *data, size_t bytes, int root) {
    uint64_t record;
    if (!enter(WEFT_BROADCAST, "", g_world.rank == root ? 0 : (int64_t)bytes, &record)) return;
    g_backend->broadcast(g_world.handle, data, (int64_t)bytes, root);
    leave(record);
}

void weft_world_allgather(const void *mine, void *all, size_t bytes_each) {
    uint64_t record;
    char *place = (char *)all + (size_t)g_world.rank * bytes_each;
    if (mine != place) memcpy(place, mine, bytes_each);
    if (!enter(WEFT_ALL_GATHER, "", (g_world.size - 1) * (int64_t)bytes_each, &record)) return;
    g_backend->gather(g_world.handle, all, (int64_t)bytes_each, g_world.size * (int64_t)bytes_each);
    leave(record);
}

/* sizes[r] bytes from every rank r, in rank order, to rank 0's `all`. */
static void send_to_first(const void *mine, char *all, const int64_t *sizes, int64_t total) {
    uint64_t record;
    if (g_world.rank == 0 && sizes[0] > 0) memcpy(all, mine, (size_t)sizes[0]);
    if (!enter(WEFT_SEND_RECV, "gather", g_world.rank == 0 ? total - sizes[0] : 0, &record)) return;
    int64_t at = sizes[0];
    for (int r = 1; r < g_world.size && g_world.rank == 0; at += sizes[r], r++)
        if (sizes[r] > 0) g_backend->post_recv(g_world.handle, r, all + at, sizes[r]);
    if (g_world.rank > 0 && sizes[g_world.rank] > 0)
        g_backend->post_send(g_world.handle, 0, mine, sizes[g_world.rank]);
    g_backend->complete();
    leave(record);
}

weft_status weft_world_gather_bytes(const void *mine, size_t bytes, char **all, size_t *all_bytes) {
    weft_status st = WEFT_OK;
    char *out = NULL;
    int64_t total = 0, own = (int64_t)bytes, *sizes = calloc((size_t)g_world.size, sizeof *sizes);
    if (!sizes) st = weft_fail(WEFT_ENOMEM, "no memory to gather from %d ranks", g_world.size);
    WEFT_GOTO(st, done, weft_world_agree(st));
    weft_world_allgather(&own, sizes, sizeof own);
    for (int r = 0; r < g_world.size; r++) total += sizes[r];
    if (g_world.rank == 0 && !(out = malloc(total ? (size_t)total : 1)))
        st = weft_fail(WEFT_ENOMEM, "no memory to gather %lld bytes", (long long)total);
    WEFT_GOTO(st, done, weft_world_agree(st));
    send_to_first(mine, out, sizes, total);
    *all = out;
    *all_bytes = g_world.rank == 0 ? (size_t)total : 0;
    out = NULL;
done:
    free(out);
    free(sizes);
    return st;
}
