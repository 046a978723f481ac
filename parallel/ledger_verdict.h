/* Inside the verdict: what ledger_verdict.c, ledger_waits.c, ledger_parting.c and ledger_words.c share. */
#ifndef WEFT_LEDGER_VERDICT_H
#define WEFT_LEDGER_VERDICT_H

#include "parallel/ledger_read.h"

typedef struct examination {
    const weft_ledger_job *job;
    int ranks;
    double now, patience;
    bool frozen;    /* no rank lives: what they waited for at their end is what matters */
    int first_dead; /* -1: none, or unknown which */
    bool parted;
    weft_ledger_record *waits; /* by rank: the record it waits in; sequence 0: none */
    /* Sets of ranks: */
    bool *blocked;           /* waits in a collective that another member has not entered */
    bool *told;              /* its place has been said */
    bool *missing, *waiting; /* to work with */
    /* Lists of ranks: to work with, and for the say_ functions below. */
    int *list, *side, *members;
    char *out;
    size_t size, length;
} examination;

int members_of(const examination *x, int rank, weft_group_kind kind,
               int *ranks); /* of its group; returns how many */
weft_rank_state state_of(const examination *x, int rank);
bool has_ended(const examination *x, int rank); /* died or finished */
double age(const examination *x, double since); /* seconds */

/* ---- words, appended to the verdict ---- */

void say(examination *x, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Between two sentences; nothing at the beginning. */
void say_next(examination *x);
void say_ranks(examination *x, const int *ranks, int count); /* "rank 3", "ranks 0 1 3", "ranks 0-7 12" */
int say_set(examination *x, const bool *set);                /* the same; returns how many */
/* "layers.3 (all_gather, fsdp group of ranks 0 1, number 17)" */
void say_record(examination *x, int rank, const weft_ledger_record *r);
void say_operation(examination *x, const weft_ledger_record *r); /* "all_gather of layers.3" */
/* What a rank was doing: its activity, the collective it waits in, the last one it completed. */
void say_place(examination *x, int rank);
/* "; rank 3 (alive, process 4711 on node1) was at: ..." of a few ranks of the set that have not been told
 * yet. */
void say_places(examination *x, const bool *set);

/* ---- ranks that entered different collectives under the same number ---- */

typedef struct parting {
    bool found;
    int rank; /* one of the group */
    weft_group_kind group;
    uint64_t number;
    double entered;
} parting;
parting find_parting(const examination *x); /* the earliest of all groups */
void say_parting(examination *x, const parting *p);

void say_in_step(examination *x);

/* ---- ranks that wait ---- */

void find_waits(examination *x); /* sets waits and blocked */
/* Who waits for whom. False when no rank is missing from a collective, and none has waited for long. */
bool say_waits(examination *x);

#endif
