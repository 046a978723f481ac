/* The verdict: who waits for whom, and why. */
#include "parallel/ledger_verdict.h"

#include <stdlib.h>
#include <string.h>

/* How long live ranks may wait for one of them before `weft ledger` calls that a parting. */
static const double PATIENCE = 5;
/* The same for ranks that have all died: what they waited for in their last moment may have come. */
static const double FROZEN_PATIENCE = 1;
/* Watchdogs look ten times a second: signs of life this far apart tell which rank died first. */
static const double APART = 0.35;

/* ---- ranks that wait ---- */

static bool has_entered(const examination *x, int rank, const weft_ledger_record *r) {
    return weft_ledger_job_rank(x->job, rank)->group_last[r->group] >= r->group_sequence;
}

static bool has_ended(const examination *x, int rank) {
    return state_of(x, rank) == WEFT_RANK_DIED || state_of(x, rank) == WEFT_RANK_FINISHED;
}

static void find_blocked(examination *x) {
    for (int r = 0; r < x->ranks; r++) {
        weft_ledger_record *w = &x->waits[r];
        uint64_t sequence = weft_ledger_job_rank(x->job, r)->waits_in;
        /* A live rank may have gone on since its file was indexed. */
        if (!weft_ledger_job_record(x->job, r, sequence, w) || w->state != WEFT_RECORD_WAITING)
            w->sequence = 0;
        if (!w->sequence || (has_ended(x, r) && (!x->frozen || r == x->first_dead))) continue;
        int count = members_of(x, r, w->group, x->members);
        for (int i = 0; i < count; i++) x->blocked[r] |= !has_entered(x, x->members[i], w);
    }
}

/* The rank at the end of a chain of waiting ranks: it waits for none. */
typedef struct culprit {
    int rank, waiter; /* -1: no rank waits for another */
} culprit;

static int weight_of(weft_rank_state s) {
    return s == WEFT_RANK_DIED ? 2 : s == WEFT_RANK_FINISHED ? 1 : 0;
}

/* The dead one, else a finished one, else the one that has been waited for longest. */
static culprit find_culprit(const examination *x) {
    culprit c = {-1, -1};
    for (int r = 0; r < x->ranks; r++) {
        if (!x->blocked[r]) continue;
        int count = members_of(x, r, x->waits[r].group, x->members);
        for (int i = 0; i < count; i++) {
            int a = x->members[i];
            if (x->blocked[a] || has_entered(x, a, &x->waits[r])) continue;
            int more = c.rank < 0 ? 1 : weight_of(state_of(x, a)) - weight_of(state_of(x, c.rank));
            if (more > 0 || (more == 0 && x->waits[r].waited < x->waits[c.waiter].waited))
                c = (culprit){a, r};
        }
    }
    return c;
}

/* Lists of ranks that have to do with the collective `missed` of the group of `waiter`. */
static int waiters_of(const examination *x, int waiter, const weft_ledger_record *missed, int *out,
                      bool *all_in_it, double *since) {
    int count = members_of(x, waiter, missed->group, x->members), n = 0;
    *all_in_it = true;
    *since = x->waits[waiter].waited;
    for (int i = 0; i < count; i++) {
        int m = x->members[i];
        const weft_ledger_record *w = &x->waits[m];
        if (!x->blocked[m] || w->group != missed->group || w->group_sequence < missed->group_sequence)
            continue;
        out[n++] = m;
        *all_in_it &= w->group_sequence == missed->group_sequence;
        if (w->waited < *since) *since = w->waited;
    }
    return n;
}

static int absent_from(const examination *x, int waiter, const weft_ledger_record *missed, int *out) {
    int count = members_of(x, waiter, missed->group, x->members), n = 0;
    for (int i = 0; i < count; i++)
        if (!x->blocked[x->members[i]] && !has_entered(x, x->members[i], missed)) out[n++] = x->members[i];
    return n;
}

/* The first collective of the group that the culprit has not entered, as its waiter's file knows it. */
static weft_ledger_record missed_by(const examination *x, culprit c) {
    weft_ledger_record r;
    weft_group_kind kind = x->waits[c.waiter].group;
    uint64_t number = weft_ledger_job_rank(x->job, c.rank)->group_last[kind] + 1;
    return weft_ledger_job_group_record(x->job, c.waiter, kind, number, &r) ? r : x->waits[c.waiter];
}

/* The blocked ranks that are not among `named` (of x->list, in rising order). */
static void say_others_behind(examination *x, int named) {
    int others = 0;
    for (int r = 0; r < x->ranks; r++) {
        bool is_named = false;
        for (int i = 0; i < named; i++) is_named |= x->list[i] == r;
        if (x->blocked[r] && !is_named) x->list2[others++] = r;
    }
    if (others == 0) return;
    say(x, "; ");
    say_ranks(x, x->list2, others);
    say(x, " %s behind %s", others == 1 ? "waits" : "wait", named == 1 ? "it" : "them");
}

/* ": ranks 4 6 7 have waited in it for 12.3 s; ranks 0 1 wait behind them" */
static void say_waiters(examination *x, culprit c, const weft_ledger_record *missed) {
    bool all_in_it;
    double since;
    int n = waiters_of(x, c.waiter, missed, x->list, &all_in_it, &since);
    say(x, ": ");
    say_ranks(x, x->list, n);
    say(x, " %s waited ", n == 1 ? "has" : "have");
    if (all_in_it)
        say(x, "in it");
    else {
        say(x, "behind it, in ");
        say_record(x, c.waiter, &x->waits[c.waiter]);
    }
    say(x, " for %.1f s", age(x, since));
    say_others_behind(x, n);
}

static void say_missing(examination *x, culprit c, bool late) {
    weft_ledger_record missed = missed_by(x, c);
    int n = absent_from(x, c.waiter, &missed, x->list);
    say_ranks(x, x->list, n);
    say(x, late ? " never entered " : n == 1 ? " has not entered " : " have not entered ");
    say_record(x, c.waiter, &missed);
    say_waiters(x, c, &missed);
    n = absent_from(x, c.waiter, &missed, x->list);
    for (int i = 0, named = 0; i < n && named < VERDICT_NAMED; i++) {
        if (x->deaths_told && state_of(x, x->list[i]) == WEFT_RANK_DIED) continue;
        say(x, "; ");
        say_who(x, x->list[i]);
        say(x, " was at: ");
        say_place(x, x->list[i]);
        named++;
    }
}

/* Every blocked rank waits for blocked ones: following them must come back. Writes the circle to x->list. */
static int find_circle(const examination *x) {
    int start = 0, n = 0;
    while (start < x->ranks && !x->blocked[start]) start++;
    if (start == x->ranks) return 0;
    for (int at = start;;) {
        for (int i = 0; i < n; i++)
            if (x->list[i] == at) {
                memmove(x->list, x->list + i, (size_t)(n - i) * sizeof *x->list);
                return n - i;
            }
        x->list[n++] = at;
        int count = members_of(x, at, x->waits[at].group, x->members), i = 0;
        while (i < count && has_entered(x, x->members[i], &x->waits[at])) i++;
        at = x->members[i];
    }
}

/* The one that has waited longest comes first: the next one has gone past its collective, or will come to it.
 */
static void say_circle(examination *x, int count) {
    int first = 0, named = count < VERDICT_NAMED ? count : VERDICT_NAMED;
    for (int i = 1; i < count; i++)
        if (x->waits[x->list[i]].waited < x->waits[x->list[first]].waited) first = i;
    say_ranks(x, x->list, count);
    say(x, " wait for each other");
    for (int i = 0; i < named; i++) {
        int rank = x->list[(first + i) % count], next = x->list[(first + i + 1) % count];
        say(x, "%s rank %d has waited for rank %d in ", i ? "," : ":", rank, next);
        say_record(x, rank, &x->waits[rank]);
        say(x, " for %.1f s", age(x, x->waits[rank].waited));
    }
    say_others_behind(x, count);
}

/* The shortest wait in the circle. */
static double circle_age(const examination *x, int count) {
    double shortest = age(x, x->waits[x->list[0]].waited);
    for (int i = 1; i < count; i++) {
        double a = age(x, x->waits[x->list[i]].waited);
        if (a < shortest) shortest = a;
    }
    return shortest;
}

/* ---- ranks that died ---- */

static int list_state(const examination *x, weft_rank_state s, int *out) {
    int n = 0;
    for (int r = 0; r < x->ranks; r++)
        if (state_of(x, r) == s) out[n++] = r;
    return n;
}

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

static void say_death(examination *x, int rank, const char *verb) {
    const weft_ledger_rank *k = weft_ledger_job_rank(x->job, rank);
    say(x, "rank %d %s (process %lld on %s): it was at ", rank, verb, (long long)k->pid, k->host);
    say_place(x, rank);
}

static void say_deaths(examination *x) {
    int n = list_state(x, WEFT_RANK_DIED, x->list);
    x->deaths_told = x->first_dead >= 0 || n < x->ranks || n == 1;
    if (x->first_dead >= 0) {
        say_death(x, x->first_dead, n > 1 ? "died first" : "died");
        if (n == 1) return;
        int others = 0;
        for (int i = 0; i < n; i++)
            if (x->list[i] != x->first_dead) x->list[others++] = x->list[i];
        say(x, "; ");
        say_ranks(x, x->list, others);
        say(x, " died after it");
        return;
    }
    if (n == x->ranks && n > 1) {
        say(x, "all ranks died");
        return;
    }
    for (int i = 0; i < n && i < VERDICT_NAMED; i++) {
        if (i) say(x, "; ");
        say_death(x, x->list[i], "died");
    }
    if (n > VERDICT_NAMED) say(x, "; %d ranks more died", n - VERDICT_NAMED);
}

/* ---- all well ---- */

static void say_in_step(examination *x) {
    int finished = list_state(x, WEFT_RANK_FINISHED, x->list);
    weft_ledger_record last;
    if (finished == x->ranks) {
        say(x, x->ranks == 1 ? "the rank finished" : "all ranks finished");
        return;
    }
    if (x->ranks == 1)
        say(x, "the rank is alive");
    else
        say(x, "all ranks %s in step", x->frozen ? "were" : "are");
    if (weft_ledger_job_record(x->job, 0, weft_ledger_job_rank(x->job, 0)->complete, &last)) {
        say(x, ": last complete collective ");
        say_record(x, 0, &last);
    }
    if (finished) {
        say(x, "; ");
        list_state(x, WEFT_RANK_FINISHED, x->list);
        say_ranks(x, x->list, finished);
        say(x, " finished");
    }
}

/* A collective that all its members have entered, and in which a rank has waited for long. */
static void say_slow(examination *x) {
    int slowest = -1;
    for (int r = 0; r < x->ranks; r++)
        if (x->waits[r].sequence && !x->blocked[r] && !has_ended(x, r) &&
            (slowest < 0 || x->waits[r].waited < x->waits[slowest].waited))
            slowest = r;
    if (slowest < 0 || age(x, x->waits[slowest].waited) < x->patience) return;
    say(x, "; rank %d has waited for %.1f s in ", slowest, age(x, x->waits[slowest].waited));
    say_record(x, slowest, &x->waits[slowest]);
    say(x, ", which all its members have entered");
}

/* ---- the verdict ---- */

/* Whether a wait is long enough to mean something. */
static bool is_long(const examination *x, double waited) {
    return waited >= (x->frozen && x->patience > FROZEN_PATIENCE ? FROZEN_PATIENCE : x->patience);
}

static void say_culprit(examination *x, culprit c) {
    weft_rank_state s = state_of(x, c.rank);
    bool never_comes =
        s == WEFT_RANK_FINISHED || (s == WEFT_RANK_DIED && (!x->frozen || c.rank == x->first_dead));
    bool late = never_comes || is_long(x, age(x, x->waits[c.waiter].waited));
    x->parted |= late;
    if (!late) {
        say_in_step(x);
        say(x, "; ");
    }
    say_missing(x, c, late);
}

static void say_waits(examination *x, bool died) {
    culprit c = find_culprit(x);
    int circle = c.rank < 0 ? find_circle(x) : 0;
    const char *glue = died ? "; " : "";
    if (c.rank >= 0) {
        say(x, "%s", glue);
        say_culprit(x, c);
    } else if (circle > 0 && is_long(x, circle_age(x, circle))) {
        x->parted = true;
        say(x, "%s", glue);
        say_circle(x, circle);
    } else if (!died || !x->deaths_told) {
        say(x, "%s", glue);
        say_in_step(x);
        say_slow(x);
    }
}

static void examine(examination *x) {
    parting p = find_parting(x);
    bool died = list_state(x, WEFT_RANK_DIED, x->list) > 0;
    x->parted = p.found || died;
    find_blocked(x);
    if (p.found) say_parting(x, &p);
    if (p.found && died) say(x, "; ");
    if (died) say_deaths(x);
    if (!p.found) say_waits(x, died); /* otherwise they follow from it */
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
    x.blocked = calloc((size_t)n, sizeof *x.blocked);
    x.waits = calloc((size_t)n, sizeof *x.waits);
    int *lists = malloc(3 * (size_t)n * sizeof *lists);
    if (!x.blocked || !x.waits || !lists)
        say(&x, "no memory to examine %d ranks", n);
    else {
        x.list = lists;
        x.list2 = lists + n;
        x.members = lists + 2 * n;
        for (int r = 0; r < n; r++) x.frozen &= has_ended(&x, r);
        x.first_dead = find_first_dead(&x);
        examine(&x);
    }
    free(x.blocked);
    free(x.waits);
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
