/* The verdict about a job: which ranks part, died, are stopped or missing; or that all is well. */
#include "parallel/ledger_verdict.h"

#include <stdlib.h>
#include <string.h>

/* How long live ranks may wait for one of them before `weft ledger` calls that a parting. */
static const double PATIENCE = 5;
/* Watchdogs look ten times a second: signs of life this far apart tell which rank died first. */
static const double APART = 0.35;

static int count_state(const examination *x, weft_rank_state s) {
    int n = 0;
    for (int r = 0; r < x->ranks; r++) n += state_of(x, r) == s;
    return n;
}

/* ---- ranks that died or are stopped ---- */

/* The dead rank whose last sign of life is clearly older than that of the other dead; -1 when none is. */
static int find_first_dead(const examination *x) {
    int first = -1;
    double seen = 0, second = 0;
    for (int r = 0; r < x->ranks; r++) {
        const weft_ledger_rank *k = weft_ledger_job_rank(x->job, r);
        if (k->state != WEFT_RANK_DIED) continue;
        if (k->seen <= 0) return -1;
        if (first < 0 || k->seen < seen) {
            second = first < 0 ? k->seen + 2 * APART : seen;
            first = r;
            seen = k->seen;
        } else if (k->seen < second)
            second = k->seen;
    }
    return first >= 0 && second - seen >= APART ? first : -1;
}

static void say_fate(examination *x, int rank, const char *fate) {
    const weft_ledger_rank *k = weft_ledger_job_rank(x->job, rank);
    say_next(x);
    say(x, "rank %d %s (process %lld on %s): it was at ", rank, fate, (long long)k->pid, k->host);
    say_place(x, rank);
    x->told[rank] = true;
}

/* False when so many died that none stands out. */
static bool say_deaths(examination *x) {
    enum { MOST = 4 };
    int died = count_state(x, WEFT_RANK_DIED), named = 0;
    if (x->first_dead >= 0) {
        say_fate(x, x->first_dead, died > 1 ? "died first" : "died");
        for (int r = 0; r < x->ranks; r++)
            x->missing[r] = state_of(x, r) == WEFT_RANK_DIED && r != x->first_dead;
        if (died == 1) return true;
        say_next(x);
        say_set(x, x->missing);
        say(x, " died after it");
    } else if (died == x->ranks && died > 1) {
        say_next(x);
        say(x, "all ranks died");
        return false;
    } else {
        for (int r = 0; r < x->ranks && named < MOST; r++) {
            if (state_of(x, r) != WEFT_RANK_DIED) continue;
            say_fate(x, r, "died");
            named++;
        }
        if (died > MOST) say(x, "; %d ranks more died", died - MOST);
    }
    return true;
}

static bool say_stopped(examination *x) {
    bool any = false;
    for (int r = 0; r < x->ranks; r++) {
        if (!weft_ledger_job_rank(x->job, r)->stopped) continue;
        say_fate(x, r, "is stopped by a signal");
        any = true;
    }
    return any;
}

/* ---- all well ---- */

void say_in_step(examination *x) {
    int finished = count_state(x, WEFT_RANK_FINISHED);
    weft_ledger_record last;
    say_next(x);
    if (finished == x->ranks) {
        say(x, x->ranks == 1 ? "the rank finished" : "all ranks finished");
        return;
    }
    say(x, x->ranks == 1 ? "the rank %s alive" : "all ranks %s in step",
        x->frozen       ? "were"
        : x->ranks == 1 ? "is"
                        : "are");
    if (weft_ledger_job_record(x->job, 0, weft_ledger_job_rank(x->job, 0)->complete, &last)) {
        say(x, ": last complete collective ");
        say_record(x, 0, &last);
    }
    if (finished == 0) return;
    for (int r = 0; r < x->ranks; r++) x->missing[r] = state_of(x, r) == WEFT_RANK_FINISHED;
    say_next(x);
    say_set(x, x->missing);
    say(x, " finished");
}

/* ---- the verdict ---- */

static void examine(examination *x) {
    parting p = find_parting(x);
    bool died = count_state(x, WEFT_RANK_DIED) > 0;
    find_waits(x);
    if (p.found) say_parting(x, &p);
    bool explained = died && say_deaths(x);
    bool stopped = say_stopped(x);
    x->parted = p.found || died || stopped;
    if (p.found) return; /* the waits follow from it */
    if (!say_waits(x) && !explained && !stopped) say_in_step(x);
}

void weft_ledger_job_examine(const weft_ledger_job *j, double patience, char *verdict, size_t size,
                             bool *parted) {
    int n = weft_ledger_job_mesh(j)->ranks;
    examination x = {.job = j,
                     .ranks = n,
                     .now = weft_ledger_job_time(j),
                     .patience = patience,
                     .frozen = true,
                     .out = verdict,
                     .size = size};
    verdict[0] = '\0';
    x.waits = calloc((size_t)n, sizeof *x.waits);
    bool *sets = calloc((size_t)n, 4 * sizeof *sets);
    int *lists = calloc((size_t)n, 3 * sizeof *lists);
    if (!x.waits || !sets || !lists)
        say(&x, "no memory to examine %d ranks", n);
    else {
        x.blocked = sets;
        x.told = sets + n;
        x.missing = sets + 2 * n;
        x.waiting = sets + 3 * n;
        x.list = lists;
        x.side = lists + n;
        x.members = lists + 2 * n;
        for (int r = 0; r < n; r++) x.frozen &= has_ended(&x, r);
        x.first_dead = find_first_dead(&x);
        examine(&x);
    }
    free(x.waits);
    free(sets);
    free(lists);
    *parted = x.parted;
}

weft_status weft_ledger_examine(const char *dir, char *verdict, size_t size, bool *parted) {
    weft_ledger_job *j;
    WEFT_TRY(weft_ledger_job_open(&j, dir, NULL, 0));
    if (weft_ledger_verdict(dir, verdict, size))
        *parted = true;
    else
        weft_ledger_job_examine(j, PATIENCE, verdict, size, parted);
    weft_ledger_job_close(j);
    return WEFT_OK;
}
