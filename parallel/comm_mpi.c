#include "parallel/comm_backend.h"

#include <mpi.h>
#include <stdlib.h>
#include <string.h>

enum { TAG = 1, UNIT_LOG_MAX = 12 };
#define MESSAGE_MAX ((int64_t)1 << 30) /* MPI counts are int */

/* A started gather. Its counts stay in place until it is complete, so each has its own; idle ones are kept.
 */
typedef struct started {
    MPI_Request request;
    int *counts, *starts;
    struct started *next_idle;
} started;

static struct {
    bool running;
    MPI_Comm world;
    MPI_Datatype unit[UNIT_LOG_MAX + 1]; /* 2^i bytes; made on first use */
    MPI_Request *posted;
    int posted_count, posted_capacity;
    started blocking, *idle;
} g_mpi;

/* ---- start and end ---- */

static weft_status failed(const char *what, int code) {
    char text[MPI_MAX_ERROR_STRING];
    int length = 0;
    MPI_Error_string(code, text, &length);
    WEFT_FAIL(WEFT_EINTERNAL, "%s failed: %s", what, text);
}

/* Key: the lowest rank of the machine. Equal keys keep the order of MPI_COMM_WORLD, so a machine's ranks stay
 * in the order of their local ranks. */
static weft_status number_by_machine(weft_world *w) {
    MPI_Comm machine;
    int lowest = 0;
    MPI_Comm_rank(MPI_COMM_WORLD, &w->rank);
    int code = MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &machine);
    if (code != MPI_SUCCESS) return failed("MPI_Comm_split_type", code);
    MPI_Comm_rank(machine, &w->local_rank);
    MPI_Comm_size(machine, &w->local_size);
    MPI_Allreduce(&w->rank, &lowest, 1, MPI_INT, MPI_MIN, machine);
    MPI_Comm_free(&machine);
    code = MPI_Comm_split(MPI_COMM_WORLD, 0, lowest, &g_mpi.world);
    if (code != MPI_SUCCESS) return failed("MPI_Comm_split", code);
    MPI_Comm_rank(g_mpi.world, &w->rank);
    MPI_Comm_size(g_mpi.world, &w->size);
    return WEFT_OK;
}

weft_status weft_mpi_start(int *argc, char ***argv, weft_world *w, int *handle) {
    int provided = 0, code = MPI_Init_thread(argc, argv, MPI_THREAD_FUNNELED, &provided);
    if (code != MPI_SUCCESS) return failed("MPI_Init_thread", code);
    WEFT_TRY(number_by_machine(w));
    for (int i = 0; i <= UNIT_LOG_MAX; i++) g_mpi.unit[i] = MPI_DATATYPE_NULL;
    g_mpi.running = true;
    *handle = MPI_Comm_c2f(g_mpi.world);
    return WEFT_OK;
}

static void free_started(started *s) {
    free(s->counts);
    free(s->starts);
}

void weft_mpi_stop(void) {
    if (!g_mpi.running) return;
    for (int i = 0; i <= UNIT_LOG_MAX; i++)
        if (g_mpi.unit[i] != MPI_DATATYPE_NULL) MPI_Type_free(&g_mpi.unit[i]);
    for (started *s = g_mpi.idle, *next; s; s = next) {
        next = s->next_idle;
        free_started(s);
        free(s);
    }
    free_started(&g_mpi.blocking);
    free(g_mpi.posted);
    MPI_Comm_free(&g_mpi.world);
    memset(&g_mpi, 0, sizeof g_mpi);
    MPI_Finalize();
}

const char *weft_mpi_library(void) {
    static char text[MPI_MAX_LIBRARY_VERSION_STRING];
    int length = 0;
    MPI_Get_library_version(text, &length);
    text[strcspn(text, ",\n")] = '\0';
    return text;
}

/* ---- groups ---- */

int weft_mpi_split(int color, int key) {
    MPI_Comm group;
    MPI_Comm_split(g_mpi.world, color, key, &group);
    return MPI_Comm_c2f(group);
}

void weft_mpi_use(int handle) {
    g_mpi.world = MPI_Comm_f2c(handle);
}

void weft_mpi_release(int handle) {
    MPI_Comm group = MPI_Comm_f2c(handle);
    if (g_mpi.running) MPI_Comm_free(&group);
}

/* ---- point to point ---- */

static MPI_Request *next_request(void) {
    if (g_mpi.posted_count == g_mpi.posted_capacity) {
        /* One message from and to each rank, at first: large messages are sent in several. */
        int capacity = g_mpi.posted_capacity ? 2 * g_mpi.posted_capacity : 2 * weft_world_ranks() + 64;
        MPI_Request *grown = realloc(g_mpi.posted, (size_t)capacity * sizeof *grown);
        WEFT_CHECK(grown, "no memory for %d messages", capacity);
        g_mpi.posted = grown;
        g_mpi.posted_capacity = capacity;
    }
    return &g_mpi.posted[g_mpi.posted_count++];
}

static int message_bytes(int64_t left) {
    return (int)(left < MESSAGE_MAX ? left : MESSAGE_MAX);
}

static void post_recv(int handle, int from, void *data, int64_t bytes) {
    for (int64_t at = 0; at < bytes; at += MESSAGE_MAX)
        MPI_Irecv((char *)data + at, message_bytes(bytes - at), MPI_BYTE, from, TAG, MPI_Comm_f2c(handle),
                  next_request());
}

static void post_send(int handle, int to, const void *data, int64_t bytes) {
    for (int64_t at = 0; at < bytes; at += MESSAGE_MAX)
        MPI_Isend((const char *)data + at, message_bytes(bytes - at), MPI_BYTE, to, TAG, MPI_Comm_f2c(handle),
                  next_request());
}

static void complete(void) {
    MPI_Waitall(g_mpi.posted_count, g_mpi.posted, MPI_STATUSES_IGNORE);
    g_mpi.posted_count = 0;
}

/* ---- gather ---- */

/* Blocks move in the largest unit of 2^i bytes that divides them: counts and places, which MPI takes as int,
 * then reach far beyond 2^31 bytes (2^39 for blocks of whole grains of 64 floats). */
static int unit_log(int64_t each, int64_t total) {
    int64_t bits = each | total;
    int log = bits ? __builtin_ctzll((unsigned long long)bits) : 0;
    return log < UNIT_LOG_MAX ? log : UNIT_LOG_MAX;
}

static MPI_Datatype unit_type(int log) {
    if (g_mpi.unit[log] == MPI_DATATYPE_NULL) {
        MPI_Type_contiguous(1 << log, MPI_BYTE, &g_mpi.unit[log]);
        MPI_Type_commit(&g_mpi.unit[log]);
    }
    return g_mpi.unit[log];
}

static void cut(started *s, int size, int64_t each, int64_t total, int log) {
    if (!s->counts) { /* for any group of the job */
        s->counts = malloc((size_t)weft_world_ranks() * sizeof(int));
        s->starts = malloc((size_t)weft_world_ranks() * sizeof(int));
        WEFT_CHECK(s->counts && s->starts, "no memory to gather from %d ranks", weft_world_ranks());
    }
    for (int r = 0; r < size; r++) {
        int64_t start = r * each < total ? r * each : total,
                end = start + each < total ? start + each : total;
        s->starts[r] = (int)(start >> log);
        s->counts[r] = (int)((end - start) >> log);
    }
}

/* For blocks that int cannot count: every member to every other. */
static void gather_posted(int handle, char *all, int64_t each, int64_t total, int rank, int size) {
    for (int k = 1; k < size; k++) {
        int from = (rank + size - k) % size;
        int64_t left = total - from * each;
        if (left > 0) post_recv(handle, from, all + from * each, left < each ? left : each);
    }
    int64_t mine = total - rank * each < each ? total - rank * each : each;
    if (mine > 0)
        for (int k = 1; k < size; k++) post_send(handle, (rank + k) % size, all + rank * each, mine);
    complete();
}

static void gather(int handle, void *all, int64_t each, int64_t total) {
    MPI_Comm group = MPI_Comm_f2c(handle);
    int rank, size, log = unit_log(each, total);
    MPI_Comm_rank(group, &rank);
    MPI_Comm_size(group, &size);
    if (total >> log > INT32_MAX) {
        gather_posted(handle, all, each, total, rank, size);
    } else if (total == size * each) {
        MPI_Allgather(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, all, (int)(each >> log), unit_type(log), group);
    } else {
        cut(&g_mpi.blocking, size, each, total, log);
        MPI_Allgatherv(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, all, g_mpi.blocking.counts, g_mpi.blocking.starts,
                       unit_type(log), group);
    }
}

void *weft_mpi_gather_start(int handle, void *all, int64_t each, int64_t total) {
    MPI_Comm group = MPI_Comm_f2c(handle);
    int size, log = unit_log(each, total);
    MPI_Comm_size(group, &size);
    WEFT_CHECK(total >> log <= INT32_MAX, "gather of %lld bytes in units of %d", (long long)total, 1 << log);
    started *s = g_mpi.idle;
    if (s)
        g_mpi.idle = s->next_idle;
    else
        s = calloc(1, sizeof *s);
    WEFT_CHECK(s, "no memory to start a gather");
    cut(s, size, each, total, log);
    MPI_Iallgatherv(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, all, s->counts, s->starts, unit_type(log), group,
                    &s->request);
    return s;
}

void weft_mpi_wait(void *handle) {
    started *s = handle;
    MPI_Wait(&s->request, MPI_STATUS_IGNORE);
    s->next_idle = g_mpi.idle;
    g_mpi.idle = s;
}

/* ---- the rest ---- */

static void broadcast(int handle, void *data, int64_t bytes, int root) {
    for (int64_t at = 0; at < bytes; at += MESSAGE_MAX)
        MPI_Bcast((char *)data + at, message_bytes(bytes - at), MPI_BYTE, root, MPI_Comm_f2c(handle));
}

void weft_mpi_reduce_i64(int handle, int64_t *x, int64_t n, weft_i64_op op) {
    MPI_Op mpi_op = op == WEFT_I64_SUM ? MPI_SUM : op == WEFT_I64_MIN ? MPI_MIN : MPI_MAX;
    for (int64_t at = 0; at < n; at += MESSAGE_MAX)
        MPI_Allreduce(MPI_IN_PLACE, x + at, message_bytes(n - at), MPI_INT64_T, mpi_op, MPI_Comm_f2c(handle));
}

static void sum_i64(int handle, int64_t *x, int64_t n) {
    weft_mpi_reduce_i64(handle, x, n, WEFT_I64_SUM);
}

void weft_mpi_barrier(int handle) {
    MPI_Barrier(MPI_Comm_f2c(handle));
}

const weft_comm_backend weft_backend_mpi = {
    .post_recv = post_recv,
    .post_send = post_send,
    .complete = complete,
    .gather = gather,
    .broadcast = broadcast,
    .sum_i64 = sum_i64,
};
