#include "parallel/world.h"
#include "runtime/log.h"

#include <mpi.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#if WEFT_REAL_IS_DOUBLE
#define MPI_REAL_TYPE MPI_DOUBLE
#else
#define MPI_REAL_TYPE MPI_FLOAT
#endif

static struct {
    int rank, size;
    bool started; /* MPI was */
} g_world = {0, 1, false};

static weft_status mpi_failed(const char *what, int code) {
    char text[MPI_MAX_ERROR_STRING];
    int length = 0;
    MPI_Error_string(code, text, &length);
    WEFT_FAIL(WEFT_EINTERNAL, "%s failed: %s", what, text);
}

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
    int provided = 0, code = MPI_Init_thread(argc, argv, MPI_THREAD_FUNNELED, &provided);
    if (code != MPI_SUCCESS) return mpi_failed("MPI_Init_thread", code);
    MPI_Comm_rank(MPI_COMM_WORLD, &w->rank);
    MPI_Comm_size(MPI_COMM_WORLD, &w->size);
    MPI_Comm node;
    code = MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &node);
    if (code != MPI_SUCCESS) return mpi_failed("MPI_Comm_split_type", code);
    MPI_Comm_rank(node, &w->local_rank);
    MPI_Comm_size(node, &w->local_size);
    MPI_Comm_free(&node);
    g_world.started = true;
    g_world.rank = w->rank;
    g_world.size = w->size;
    weft_log_set_rank(w->rank, w->size);
    return WEFT_OK;
}

const char *weft_world_library(void) {
    static char text[MPI_MAX_LIBRARY_VERSION_STRING];
    int length = 0;
    MPI_Get_library_version(text, &length);
    text[strcspn(text, ",\n")] = '\0';
    return text;
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
    if (g_world.started) MPI_Finalize();
}

weft_status weft_world_agree(weft_status mine) {
    int bad = mine != WEFT_OK ? g_world.rank : g_world.size, first = bad;
    if (g_world.size > 1) MPI_Allreduce(&bad, &first, 1, MPI_INT, MPI_MIN, MPI_COMM_WORLD);
    weft_log_settle_held(first == g_world.rank);
    if (first == g_world.size) return WEFT_OK;
    return mine != WEFT_OK ? mine : WEFT_EREMOTE;
}

int weft_world_exit_code(int mine) {
    int all = mine;
    if (g_world.size > 1) MPI_Allreduce(&mine, &all, 1, MPI_INT, MPI_MAX, MPI_COMM_WORLD);
    return all;
}

void weft_world_barrier(void) {
    if (g_world.size > 1) MPI_Barrier(MPI_COMM_WORLD);
}

void weft_world_bcast(void *data, size_t bytes, int root) {
    const size_t piece = (size_t)1 << 30; /* MPI counts are int */
    if (g_world.size == 1) return;
    for (size_t at = 0; at < bytes; at += piece) {
        size_t n = bytes - at < piece ? bytes - at : piece;
        MPI_Bcast((char *)data + at, (int)n, MPI_BYTE, root, MPI_COMM_WORLD);
    }
}

void weft_world_allgather(const void *mine, void *all, size_t bytes_each) {
    WEFT_CHECK(bytes_each < ((size_t)1 << 31), "all-gather of %zu bytes a rank", bytes_each);
    if (g_world.size == 1)
        memcpy(all, mine, bytes_each);
    else
        MPI_Allgather(mine, (int)bytes_each, MPI_BYTE, all, (int)bytes_each, MPI_BYTE, MPI_COMM_WORLD);
}

int64_t weft_world_sum_i64(int64_t x) {
    int64_t all = x;
    if (g_world.size > 1) MPI_Allreduce(&x, &all, 1, MPI_INT64_T, MPI_SUM, MPI_COMM_WORLD);
    return all;
}

int64_t weft_world_max_i64(int64_t x) {
    int64_t all = x;
    if (g_world.size > 1) MPI_Allreduce(&x, &all, 1, MPI_INT64_T, MPI_MAX, MPI_COMM_WORLD);
    return all;
}

bool weft_world_any(bool x) {
    return weft_world_max_i64(x) != 0;
}

weft_status weft_world_gather_bytes(const void *mine, size_t bytes, char **all, size_t *all_bytes) {
    weft_status st = WEFT_OK;
    int n = (int)bytes, *counts = NULL, *starts = NULL;
    char *out = NULL;
    size_t total = 0;
    if (bytes >= ((size_t)1 << 31))
        st = weft_fail(WEFT_EINTERNAL, "gather of %zu bytes from one rank", bytes);
    if (g_world.rank == 0) {
        counts = malloc((size_t)g_world.size * sizeof *counts);
        starts = malloc((size_t)g_world.size * sizeof *starts);
        if (!counts || !starts)
            st = weft_fail(WEFT_ENOMEM, "no memory to gather from %d ranks", g_world.size);
    }
    WEFT_GOTO(st, done, weft_world_agree(st));
    if (g_world.size == 1)
        counts[0] = n;
    else
        MPI_Gather(&n, 1, MPI_INT, counts, 1, MPI_INT, 0, MPI_COMM_WORLD);
    if (g_world.rank == 0) {
        for (int r = 0; r < g_world.size; r++) starts[r] = (int)total, total += (size_t)counts[r];
        if (total >= ((size_t)1 << 31))
            st = weft_fail(WEFT_EINTERNAL, "gather of %zu bytes in all", total);
        else if (!(out = malloc(total ? total : 1)))
            st = weft_fail(WEFT_ENOMEM, "no memory to gather %zu bytes", total);
    }
    WEFT_GOTO(st, done, weft_world_agree(st));
    if (g_world.size == 1)
        memcpy(out, mine, bytes);
    else
        MPI_Gatherv(mine, n, MPI_BYTE, out, counts, starts, MPI_BYTE, 0, MPI_COMM_WORLD);
    *all = out;
    *all_bytes = total;
    out = NULL;
done:
    free(out);
    free(counts);
    free(starts);
    return st;
}

/* ---- the sum of gradients
 * -------------------------------------------------------------------------------------- Pieces of at most
 * PIECE elements. Of each, every rank gets one share from all ranks (all-to-all), adds the shares in the
 * tree's order, and the sums are gathered: 2(R-1)/R of the data sent per rank, as in a ring, but in an order
 * that is stated. */
enum { PIECE = 1 << 20 };

static int64_t share_of(int64_t n, int ranks) {
    return (n + ranks - 1) / ranks;
}

size_t weft_world_sum_work(int64_t n, int ranks) {
    if (ranks == 1) return 0;
    int64_t piece = n < PIECE ? n : PIECE, share = share_of(piece, ranks);
    /* The padded piece, and the shares of all ranks. */
    return (size_t)(2 * share * ranks) * sizeof(weft_real);
}

/* parts[r] (r < count) at stride `share`: sums them pairwise by rank number into parts[0]. */
static void tree_sum(weft_real *parts, int64_t share, int count) {
    for (int step = 1; step < count; step *= 2)
        for (int r = 0; r + step < count; r += 2 * step) {
            weft_real *restrict a = parts + r * share;
            const weft_real *restrict b = parts + (r + step) * share;
            for (int64_t i = 0; i < share; i++) a[i] += b[i];
        }
}

void weft_world_sum_real(weft_real *x, int64_t n, void *work) {
    if (g_world.size == 1) return;
    int64_t full = share_of(n < PIECE ? n : PIECE, g_world.size);
    weft_real *padded = work, *shares = padded + full * g_world.size;
    for (int64_t at = 0; at < n; at += PIECE) {
        int64_t piece = n - at < PIECE ? n - at : PIECE, share = share_of(piece, g_world.size);
        memcpy(padded, x + at, (size_t)piece * sizeof *x);
        memset(padded + piece, 0, (size_t)(share * g_world.size - piece) * sizeof *x);
        MPI_Alltoall(padded, (int)share, MPI_REAL_TYPE, shares, (int)share, MPI_REAL_TYPE, MPI_COMM_WORLD);
        tree_sum(shares, share, g_world.size);
        MPI_Allgather(shares, (int)share, MPI_REAL_TYPE, padded, (int)share, MPI_REAL_TYPE, MPI_COMM_WORLD);
        memcpy(x + at, padded, (size_t)piece * sizeof *x);
    }
}
