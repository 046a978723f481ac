/* A job as its ledger files tell it: what `weft ledger` prints and the verdict is made of. Reading works
 * while the ranks run: each record is whole, but the ranks are seen one after the other. Not collective. */
#ifndef WEFT_LEDGER_READ_H
#define WEFT_LEDGER_READ_H

#include "parallel/ledger.h"

typedef enum weft_rank_state {
    WEFT_RANK_ALIVE,
    WEFT_RANK_DIED, /* its process ended without weft_ledger_close */
    WEFT_RANK_FINISHED,
    WEFT_RANK_ELSEWHERE /* on another host, from where its lock does not reach: alive or dead */
} weft_rank_state;

typedef struct weft_ledger_rank {
    weft_rank_state state;
    bool stopped; /* alive, but held by a signal (SIGSTOP) or a debugger */
    int64_t pid;
    char host[64];
    double started, seen; /* seconds since the epoch; seen: by the watchdog's looks, 0 without */
    char activity[64];
    double activity_since;
    int64_t step, whole_step;     /* begun last, ended last; -1: none */
    int64_t bytes[WEFT_AXES + 1]; /* of the whole step */
    uint64_t first, last;         /* sequence numbers of the records kept; last 0: none */
    uint64_t group_first[WEFT_GROUPS], group_last[WEFT_GROUPS]; /* numbers kept of each group; last 0: none */
    uint64_t waits_in,
        complete; /* sequence numbers: of the record it waits in, of the last complete one; 0: none */
} weft_ledger_rank;

typedef struct weft_ledger_job weft_ledger_job;

/* Opens the files of all ranks. WEFT_EINPUT as weft_ledger_examine says; the message goes to the log, or to
 * `problem` (of `size` bytes) when that is not NULL. */
weft_status weft_ledger_job_open(weft_ledger_job **out, const char *dir, char *problem, size_t size);
/* The same for the log; WEFT_EINPUT also when `rank` (below 0: all) is not one of the job's. */
weft_status weft_ledger_job_open_for(weft_ledger_job **out, const char *dir, int rank);
void weft_ledger_job_close(weft_ledger_job *j); /* NULL is allowed */

const weft_mesh *weft_ledger_job_mesh(const weft_ledger_job *j); /* of rank 0 */
int weft_ledger_job_kv_ranks(const weft_ledger_job *j);
const weft_ledger_rank *weft_ledger_job_rank(const weft_ledger_job *j, int rank);
/* The moment that the files tell of: now, or the last sign of life when no rank lives. Seconds since the
 * epoch. */
double weft_ledger_job_time(const weft_ledger_job *j);

/* A record by its sequence number, or by its number in a group; false when it is not (or no longer) kept. */
bool weft_ledger_job_record(const weft_ledger_job *j, int rank, uint64_t sequence, weft_ledger_record *out);
bool weft_ledger_job_group_record(const weft_ledger_job *j, int rank, weft_group_kind group, uint64_t number,
                                  weft_ledger_record *out);

/* weft_ledger_examine without an earlier verdict.txt. Live ranks that wait for less than `patience` seconds
 * count as being in step. */
void weft_ledger_job_examine(const weft_ledger_job *j, double patience, char *verdict, size_t size,
                             bool *parted);
/* Content of DIR/verdict.txt, which a watchdog has left; false when there is none. */
bool weft_ledger_verdict(const char *dir, char *verdict, size_t size);

const char *weft_rank_state_name(weft_rank_state s); /* "alive", "died", "finished", "elsewhere" */

#endif
