/* The ranks of this job and the control collectives between all of them; the model's own are in comm.h.
 *
 * Ranks of one machine have consecutive numbers, whatever mpirun's mapping is. "Collective" functions must be
 * entered by every rank. Without mpirun (or srun) there is one rank, every collective is the identity, and
 * MPI is not started.
 *
 * Once a communicator is attached (weft_world_attach in comm.h), each collective here is recorded in its
 * ledger for the group of all ranks, and counted as control traffic: what this rank receives; a reduction as
 * if every rank received every other's number. */
#ifndef WEFT_WORLD_H
#define WEFT_WORLD_H

#include "runtime/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct weft_world {
    int rank, size;
    int local_rank, local_size; /* within this machine (MPI_COMM_TYPE_SHARED) */
} weft_world;

weft_status weft_world_init(int *argc, char ***argv, weft_world *w); /* collective; sets the log's rank */
/* Host threads for this rank: OMP_NUM_THREADS if set, else this machine's cores over its ranks. mpirun binds
 * each of one or two ranks to a single core unless told otherwise: without a binding policy of the user's,
 * this first gives the rank the cores that mpirun itself may use. Call before the first parallel region. */
int weft_world_threads(const weft_world *w);
/* Collective. From here on to weft_world_join this rank's world is one of `parts` (at most w->size): the ranks
 * are cut into runs of neighbours, as even as can be. *part is which; *sub replaces *w. Everything that says
 * "all ranks" then means those of the part, and parts know nothing of each other. Not while a communicator is
 * open or attached; parts are not split again. Host threads are still shared by all ranks of the machine. */
void weft_world_split(const weft_world *w, int parts, weft_world *sub, int *part);
void weft_world_join(const weft_world *w); /* collective on all ranks of *w, which is whole again */
const char *weft_world_library(void); /* name and version of the MPI library */
void weft_world_finalize(void);       /* collective */

/* Collective. OK when every rank passes OK; otherwise the lowest failing rank's status on the ranks that
 * failed and WEFT_EREMOTE (with no message) on the others. Call it before any collective that one rank alone
 * could miss. The process exit code is then the same on every rank: see weft_world_exit_code. */
weft_status weft_world_agree(weft_status mine);
/* Collective. The largest weft_status_exit_code() of any rank. */
int weft_world_exit_code(int mine);

void weft_world_barrier(void);
void weft_world_bcast(void *data, size_t bytes, int root);
void weft_world_allgather(const void *mine, void *all, size_t bytes_each); /* in rank order */
int64_t weft_world_sum_i64(int64_t x);
int64_t weft_world_max_i64(int64_t x);
bool weft_world_any(bool x);
/* Collective. WEFT_EINPUT, naming `what` ("the configuration"), unless x is the same on every rank. */
weft_status weft_world_same(uint64_t x, const char *what);

/* Variable-size gather to rank 0: `all` is malloc'ed on rank 0 (others NULL, 0 bytes), `bytes` per rank; the
 * caller frees. */
weft_status weft_world_gather_bytes(const void *mine, size_t bytes, char **all, size_t *all_bytes);

#endif
