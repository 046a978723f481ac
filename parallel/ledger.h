/* The ledger: what each rank did last, in a file that outlives it.
 *
 * One file a rank, DIR/rank_00005.ledger: a header and a ring of the last WEFT_LEDGER_RECORDS collectives,
 * mapped shared, so that every store is in the page cache at once and survives SIGKILL of the process.
 * Writing a record is a few stores; nothing is allocated, locked or synced. The owner holds a lock (fcntl,
 * of the open file description) on its file until its process ends: others on the same host see its death by
 * the lock.
 *
 * Nothing here is collective, and nothing here calls MPI. */
#ifndef WEFT_LEDGER_H
#define WEFT_LEDGER_H

#include "parallel/mesh.h"

#include <stddef.h>
#include <stdio.h>

#define WEFT_LEDGER_RECORDS 4096

typedef enum weft_collective {
    WEFT_ALL_REDUCE,
    WEFT_ALL_GATHER,
    WEFT_REDUCE_SCATTER,
    WEFT_ALL_TO_ALL,
    WEFT_BROADCAST,
    WEFT_SEND_RECV,
    WEFT_AGREE, /* of the ranks on a status */
    WEFT_BARRIER,
    WEFT_COLLECTIVES
} weft_collective;
const char *weft_collective_name(weft_collective c); /* "all_reduce" ... */

typedef struct weft_ledger weft_ledger;

/* Creates (or replaces) this rank's file in `dir`, which exists; WEFT_EINPUT when the owner of the file that
 * stands there is running. Rank 0 also removes what an earlier job left: its verdict.txt, and the files of
 * ranks that this job does not have. One thread of the process writes. */
weft_status weft_ledger_open(weft_ledger **out, const char *dir, const weft_mesh *mesh, int kv_ranks);
/* Marks the file as finished in order and unmaps it. NULL is allowed. */
void weft_ledger_close(weft_ledger *l);

/* All of these accept l == NULL and do nothing then.
 * enter: this rank enters a collective (or starts one that it will wait for later): appends a record with the
 * group's own counter; wait:  it blocks now in the record that enter returned;  leave: the collective is
 * complete. `tensor` is copied (47 characters of it are kept). */
uint64_t weft_ledger_enter(weft_ledger *l, weft_group_kind group, weft_collective op, const char *tensor,
                           int64_t bytes);
void weft_ledger_wait(weft_ledger *l, uint64_t record);
/* Where a device runs what the host has queued: this record is the oldest that the host does not know to be
 * done. The device may wait in it; that counts as this rank's waiting until the host says what else it does:
 * weft_ledger_activity, or a wait of its own. To be called as often as the host looks. */
void weft_ledger_wait_device(weft_ledger *l, uint64_t record);
void weft_ledger_leave(weft_ledger *l, uint64_t record);
/* What the rank does between collectives: "step 12: reading the batch". A static or longer-lived string is
 * not needed: 63 characters are copied. */
void weft_ledger_activity(weft_ledger *l, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Begin and end of a training step: the bytes of the records between them are summed by axis (index
 * WEFT_AXES: control, that is world). The sums of the last whole step stay readable. */
void weft_ledger_step_begin(weft_ledger *l, int64_t step);
void weft_ledger_step_end(weft_ledger *l);
/* Bytes of the last whole step. */
void weft_ledger_step_bytes(const weft_ledger *l, int64_t bytes[WEFT_AXES + 1]);

/* ---- reading ---- */

typedef enum weft_record_state {
    WEFT_RECORD_STARTED, /* entered; nobody waits for it yet */
    WEFT_RECORD_WAITING,
    WEFT_RECORD_COMPLETE
} weft_record_state;

typedef struct weft_ledger_record {
    uint64_t sequence;       /* of the rank, from 1 */
    uint64_t group_sequence; /* of the group, from 1: equal on all its members for the same collective */
    weft_group_kind group;
    weft_collective op;
    int64_t bytes;
    weft_record_state state;
    double entered, waited, left; /* seconds since the epoch; 0: not yet */
    char tensor[48];
} weft_ledger_record;

/* One verdict about a job from all ranks' files in DIR, in words, such as:
 *
 *   rank 5 never entered layers.12.moe.dispatch (all_to_all, ep group of ranks 4 5 6 7, number 381): ranks 4
 * 6 7 have waited in it for 12.3 s; rank 5 (alive, process 4711 on node1) was at: step 3: reading the batch
 *   (for 12.4 s); last: all_gather of layers.12 (number 380 of fsdp), complete 12.4 s ago
 *
 *   rank 1 parts from the others at number 17 of the fsdp group of ranks 0 1 2 3: ranks 0 2 3 all_gather of
 *   layers.3 (64 bytes), rank 1 all_gather of layers.4 (64 bytes); rank 1 left out the all_gather of layers.3
 *
 *   rank 3 died (process 4711 on node1): it was at ... | rank 3 is stopped by a signal ... |
 *   all ranks finished | all ranks are in step: last complete collective ...
 *
 * Within each group, ranks are compared by group_sequence. The earliest collective that members entered
 * differently (op, tensor, or the bytes of an all_reduce, all_gather or reduce_scatter) is where they part. A
 * rank that is absent from a collective because it waits in another one is followed there: the rank named is
 * one that waits in none, or ranks that wait for each other. *parted is set when ranks part, have waited for
 * one of them for 5 seconds, or one died or is stopped. A verdict.txt that a watchdog has left in DIR is the
 * verdict: the ranks that ended because of it have died since. WEFT_EINPUT when DIR holds no ledger, a file
 * is damaged (named), or ranks are missing. */
weft_status weft_ledger_examine(const char *dir, char *verdict, size_t size, bool *parted);
/* The last `count` records of every rank (or of one, rank >= 0) as a table, and with count 0 one line a rank;
 * then the bytes of the last whole step by axis. For `weft ledger DIR`. */
weft_status weft_ledger_print(const char *dir, int rank, int count, FILE *out);

/* ---- watchdog ---- */

typedef struct weft_watchdog weft_watchdog;
/* A thread, off the hot path: ten times a second it looks whether this rank has been waiting in one
 * collective for longer than `limit_seconds` (0: never too long), and whether the next rank on this
 * host (in the order of ranks, going round) has died without finishing. Either way one rank of the job prints
 * the ledger's verdict (the first that creates DIR/verdict.txt with O_EXCL, which then holds it), and the
 * process ends at once with status 1 (_exit), which makes mpirun end the others. */
/* Every rank's ledger is open. Stop the watchdog before the ledger is closed. */
weft_status weft_watchdog_start(weft_watchdog **out, weft_ledger *l, const char *dir, double limit_seconds);
void weft_watchdog_stop(weft_watchdog *w); /* NULL is allowed */

#endif
