/* What moves bytes beneath comm.c and world.c. comm_mpi.c does so between the host's memory of all ranks, and
 * is the one file that includes mpi.h; comm_nccl.c between their GPUs, and is the one that includes nccl.h.
 *
 * A handle names a group of ranks. Nothing here knows a mesh, the ledger, traffic counts or dry runs.
 * Functions without a status cannot fail: MPI aborts the job, and so does comm_nccl.c. All but post_* and
 * complete are collective on the group; sizes are bytes and may exceed 2^31. */
#ifndef WEFT_COMM_BACKEND_H
#define WEFT_COMM_BACKEND_H

#include "parallel/comm.h"
#include "parallel/world.h"

/* MPI's are done when they return; NCCL's are queued on the device's stream for communication. */
typedef struct weft_comm_backend {
    /* Point to point, any number of them at once: posted, then completed together. Between two ranks,
     * messages match in the order in which they are posted. No message has 0 bytes, and none goes to the rank
     * itself. */
    void (*post_recv)(int handle, int from, void *data, int64_t bytes);
    void (*post_send)(int handle, int to, const void *data, int64_t bytes);
    void (*complete)(void);

    /* `all` [total] is cut into blocks of `each` bytes (the last ones shorter or empty); member r has filled
     * block r. */
    void (*gather)(int handle, void *all, int64_t each, int64_t total);
    void (*broadcast)(int handle, void *data, int64_t bytes, int root);
    void (*sum_i64)(int handle, int64_t *x, int64_t n);
} weft_comm_backend;

/* ---- MPI ---- */

extern const weft_comm_backend weft_backend_mpi;

/* Starts MPI and numbers the job's ranks so that those of one machine are consecutive, whatever mpirun's
 * mapping was; *handle is the group of all. */
weft_status weft_mpi_start(int *argc, char ***argv, weft_world *w, int *handle);
void weft_mpi_stop(void); /* also when it was not started */
const char *weft_mpi_library(void);

/* Collective on the job. A group of the ranks that pass the same color (>= 0), ordered by key. */
int weft_mpi_split(int color, int key);
void weft_mpi_use(int handle); /* from now on the world that weft_mpi_split cuts */
void weft_mpi_release(int handle);

void *weft_mpi_gather_start(int handle, void *all, int64_t each, int64_t total); /* never NULL */
void weft_mpi_wait(void *started);

typedef enum weft_i64_op { WEFT_I64_SUM, WEFT_I64_MIN, WEFT_I64_MAX } weft_i64_op;
void weft_mpi_reduce_i64(int handle, int64_t *x, int64_t n, weft_i64_op op);
void weft_mpi_barrier(int handle);

/* ---- NCCL ---- */

/* The same group for the memory of `side`, a device with memory of its own, whose stream is the one for
 * communication. Collective on the group, whose host handle it is told; *backend <- NCCL's. */
weft_status weft_nccl_open(weft_device *side, const weft_group *g, const weft_comm_backend **backend,
                           int *handle);
void weft_nccl_close(int handle);
/* Whether a communicator of this process has failed since; `why` then says which, and how. */
bool weft_nccl_failed(char *why, size_t size);
void weft_nccl_abort(void); /* all of this process; what is queued on them ends */

/* ---- comm_open.c ---- */

void weft_comm_count(weft_comm *c, weft_group_kind g, int64_t bytes);
/* Counts `bytes` under the group's axis and enters the ledger's record. False when an injected fault makes
 * this rank skip the collective. c may be NULL. */
bool weft_comm_begin(weft_comm *c, weft_group_kind g, weft_collective op, const char *tensor, int64_t bytes,
                     uint64_t *record);
/* The same where the host waits in the collective; unless it is false, weft_comm_leave follows it. */
bool weft_comm_enter(weft_comm *c, weft_group_kind g, weft_collective op, const char *tensor, int64_t bytes,
                     uint64_t *record);
void weft_comm_leave(weft_comm *c, uint64_t record);

/* ---- world.c ---- */

int weft_world_rank(void);
int weft_world_ranks(void);
void weft_world_detach(const weft_comm *c); /* if it is the one attached */

#endif
