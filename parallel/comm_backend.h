/* What moves bytes beneath comm.c and world.c; comm_mpi.c fills the table, and is the one file that includes
 * mpi.h.
 *
 * A handle names a group of ranks. Nothing here knows a mesh, the ledger, traffic counts or dry runs.
 * Functions without a status cannot fail: MPI aborts the job. All but post_* and complete are collective on
 * the group; sizes are bytes and may exceed 2^31. */
#ifndef WEFT_COMM_BACKEND_H
#define WEFT_COMM_BACKEND_H

#include "parallel/comm.h"
#include "parallel/world.h"

typedef enum weft_i64_op { WEFT_I64_SUM, WEFT_I64_MIN, WEFT_I64_MAX } weft_i64_op;

typedef struct weft_comm_backend {
    /* Collective on the job. A group of the ranks that pass the same color (>= 0), ordered by key. */
    int (*split)(int color, int key);
    void (*release)(int handle);

    /* Point to point, any number of them at once: posted, then completed together. Between two ranks,
     * messages match in the order in which they are posted. No message has 0 bytes, and none goes to the rank
     * itself. */
    void (*post_recv)(int handle, int from, void *data, int64_t bytes);
    void (*post_send)(int handle, int to, const void *data, int64_t bytes);
    void (*complete)(void);

    /* `all` [total] is cut into blocks of `each` bytes (the last ones shorter or empty); member r has filled
     * block r. */
    void (*gather)(int handle, void *all, int64_t each, int64_t total);
    void *(*gather_start)(int handle, void *all, int64_t each, int64_t total); /* never NULL */
    void (*wait)(void *started);

    void (*broadcast)(int handle, void *data, int64_t bytes, int root);
    void (*reduce_i64)(int handle, int64_t *x, int64_t n, weft_i64_op op);
    void (*barrier)(int handle);
} weft_comm_backend;
extern const weft_comm_backend weft_backend_mpi;

/* Starts MPI and numbers the job's ranks so that those of one machine are consecutive, whatever mpirun's
 * mapping was; *handle is the group of all. */
weft_status weft_mpi_start(int *argc, char ***argv, weft_world *w, int *handle);
void weft_mpi_stop(void); /* also when it was not started */
const char *weft_mpi_library(void);

/* comm.c: counts `bytes` under the group's axis and enters the ledger's record, waiting. False when an
 * injected fault makes this rank skip the collective; otherwise weft_comm_leave follows it. c may be NULL. */
bool weft_comm_enter(weft_comm *c, weft_group_kind g, weft_collective op, const char *tensor, int64_t bytes,
                     uint64_t *record);
void weft_comm_leave(weft_comm *c, uint64_t record);

/* world.c */
int weft_world_rank(void);
int weft_world_ranks(void);
void weft_world_detach(const weft_comm *c); /* if it is the one attached */

#endif
