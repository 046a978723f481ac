/* Who waits for whom: chains of ranks, circles of them, and collectives that all have entered. */
#include "parallel/ledger_verdict.h"

#include <string.h>

/* For ranks that have all died: what they waited for in their last moment may have been under way. */
static const double FROZEN_PATIENCE = 1;

static bool has_entered(const examination *x, int rank, const weft_ledger_record *r) {
    return weft_ledger_job_rank(x->job, rank)->group_last[r->group] >= r->group_sequence;
}

static bool is_stopped(const examination *x, int rank) {
    return weft_ledger_job_rank(x->job, rank)->stopped;
}

void find_waits(examination *x) {
    for (int r = 0; r < x->ranks; r++) {
        weft_ledger_record *w = &x->waits[r];
        uint64_t sequence = weft_ledger_job_rank(x->job, r)->waits_in;
        /* A live rank may have gone on since its file was indexed. */
        if (!weft_ledger_job_record(x->job, r, sequence, w) || w->state != WEFT_RECORD_WAITING)
            w->sequence = 0;
        bool never_goes_on = has_ended(x, r) && (!x->frozen || r == x->first_dead);
        if (!w->sequence || never_goes_on || is_stopped(x, r)) continue;
        int count = members_of(x, r, w->group, x->members);
        for (int i = 0; i < count; i++) x->blocked[r] |= !has_entered(x, x->members[i], w);
    }
}

/* Whether a wait is long enough to mean something. */
static bool is_long(const examination *x, double since) {
    return age(x, since) >= (x->frozen && x->patience > FROZEN_PATIENCE ? FROZEN_PATIENCE : x->patience);
}

/* ---- a rank that is missing from a collective ---- */

typedef struct absence {
    int rank, waiter;          /* -1: none */
    weft_ledger_record missed; /* the first collective of the waiter's group that the rank has not entered */
    bool all_in_it;            /* the waiting ranks wait in that one, not in a later one */
    double since;              /* the first of them */
} absence;

static int weight_of(const examination *x, int rank) {
    weft_rank_state s = state_of(x, rank);
    return s == WEFT_RANK_DIED ? 2 : s == WEFT_RANK_FINISHED || is_stopped(x, rank) ? 1 : 0;
}

/* A rank that is waited for and waits for none: the dead one, else one that has finished or is stopped, else
 * the one that has been waited for longest. */
static absence find_absence(const examination *x) {
    absence best = {.rank = -1, .waiter = -1};
    for (int r = 0; r < x->ranks; r++) {
        if (!x->blocked[r]) continue;
        int count = members_of(x, r, x->waits[r].group, x->members);
        for (int i = 0; i < count; i++) {
            int a = x->members[i];
            if (x->blocked[a] || has_entered(x, a, &x->waits[r])) continue;
            int more = best.rank < 0 ? 1 : weight_of(x, a) - weight_of(x, best.rank);
            if (more > 0 || (more == 0 && x->waits[r].waited < x->waits[best.waiter].waited))
                best = (absence){.rank = a, .waiter = r};
        }
    }
    return best;
}

/* Completes the absence; x->missing <- the ranks that are absent like this one, x->waiting <- those that wait
 * for them there. Returns how many wait. */
static int survey(examination *x, absence *a) {
    weft_group_kind kind = x->waits[a->waiter].group;
    uint64_t number = weft_ledger_job_rank(x->job, a->rank)->group_last[kind] + 1;
    int count = members_of(x, a->waiter, kind, x->members), waiting = 0;
    if (!weft_ledger_job_group_record(x->job, a->waiter, kind, number, &a->missed))
        a->missed = x->waits[a->waiter];
    a->all_in_it = true;
    a->since = x->waits[a->waiter].waited;
    memset(x->missing, 0, (size_t)x->ranks * sizeof *x->missing);
    memset(x->waiting, 0, (size_t)x->ranks * sizeof *x->waiting);
    for (int i = 0; i < count; i++) {
        int m = x->members[i];
        const weft_ledger_record *w = &x->waits[m];
        x->missing[m] = m == a->rank || (!x->blocked[m] && !has_entered(x, m, &a->missed));
        if (!x->blocked[m] || w->group != kind || w->group_sequence < a->missed.group_sequence) continue;
        x->waiting[m] = true;
        waiting++;
        a->all_in_it &= w->group_sequence == a->missed.group_sequence;
        if (w->waited < a->since) a->since = w->waited;
    }
    return waiting;
}

/* "rank 5 never entered X: ranks 4 6 7 have waited in it for 12.3 s" */
static int say_absence(examination *x, const absence *a, bool late) {
    int missing = say_set(x, x->missing);
    say(x, late ? " never entered " : missing == 1 ? " has not entered " : " have not entered ");
    say_record(x, a->waiter, &a->missed);
    say(x, ": ");
    int waiting = say_set(x, x->waiting);
    say(x, waiting == 1 ? " has waited " : " have waited ");
    if (a->all_in_it)
        say(x, "in it");
    else {
        say(x, "behind it, in ");
        say_record(x, a->waiter, &x->waits[a->waiter]);
    }
    say(x, " for %.1f s", age(x, a->since));
    return waiting;
}

/* The blocked ranks that are neither waiting nor missing; x->waiting is theirs afterwards. */
static void say_behind(examination *x, int named) {
    int behind = 0;
    for (int r = 0; r < x->ranks; r++) {
        x->waiting[r] = x->blocked[r] && !x->waiting[r] && !x->missing[r];
        behind += x->waiting[r];
    }
    if (behind == 0) return;
    say_next(x);
    say_set(x, x->waiting);
    say(x, " %s behind %s", behind == 1 ? "waits" : "wait", named == 1 ? "it" : "them");
}

static void say_missing(examination *x, absence *a) {
    weft_rank_state s = state_of(x, a->rank);
    bool never_comes =
        s == WEFT_RANK_FINISHED || (s == WEFT_RANK_DIED && (!x->frozen || a->rank == x->first_dead));
    survey(x, a);
    bool late = never_comes || is_long(x, a->since);
    if (!late && !x->parted) {
        say_in_step(x);
        survey(x, a); /* its sets are used there */
    }
    x->parted |= late;
    say_next(x);
    say_behind(x, say_absence(x, a, late));
    say_places(x, x->missing);
}

/* ---- ranks that wait for each other ---- */

static int first_absent(const examination *x, int rank) {
    members_of(x, rank, x->waits[rank].group, x->members);
    int i = 0;
    while (has_entered(x, x->members[i], &x->waits[rank])) i++; /* a blocked rank waits for one */
    return x->members[i];
}

/* When every blocked rank waits for blocked ones, following them must come back. Writes the circle to
 * x->list. */
static int find_circle(const examination *x) {
    int at = 0, n = 0;
    while (at < x->ranks && !x->blocked[at]) at++;
    if (at == x->ranks) return 0;
    for (;; at = first_absent(x, at)) {
        for (int i = 0; i < n; i++)
            if (x->list[i] == at) {
                memmove(x->list, x->list + i, (size_t)(n - i) * sizeof *x->list);
                return n - i;
            }
        x->list[n++] = at;
    }
}

/* Of two skews in reading live files neither makes a circle whose every wait is long. */
static bool circle_is_long(const examination *x, int count) {
    for (int i = 0; i < count; i++)
        if (!is_long(x, x->waits[x->list[i]].waited)) return false;
    return true;
}

/* The rank that most others wait for is named as missing; then the way back from it. */
static void say_circle(examination *x, int count) {
    enum { MOST = 4 };
    int start = 0, most = 0;
    for (int i = 0; i < count; i++) {
        absence a = {.waiter = x->list[i], .rank = x->list[(i + 1) % count]};
        int waiting = survey(x, &a);
        if (waiting > most) most = waiting, start = i;
    }
    absence a = {.waiter = x->list[start], .rank = x->list[(start + 1) % count]};
    survey(x, &a);
    say_next(x);
    say_absence(x, &a, true);
    say(x, "; they wait for each other");
    for (int i = 1; i < count && i <= MOST; i++) {
        int rank = x->list[(start + i) % count], next = x->list[(start + i + 1) % count];
        say(x, "%s rank %d has waited for rank %d in ", i > 1 ? "," : ":", rank, next);
        say_record(x, rank, &x->waits[rank]);
        say(x, " for %.1f s", age(x, x->waits[rank].waited));
        x->missing[rank] = true;
    }
    say_behind(x, count);
    memset(x->missing, 0, (size_t)x->ranks * sizeof *x->missing);
    x->missing[a.rank] = true;
    say_places(x, x->missing);
    x->parted = true;
}

/* ---- a collective that all its members have entered ---- */

static bool say_slow(examination *x) {
    int slowest = -1;
    for (int r = 0; r < x->ranks; r++) {
        const weft_ledger_record *w = &x->waits[r];
        if (w->sequence && !x->blocked[r] && !has_ended(x, r) &&
            (slowest < 0 || w->waited < x->waits[slowest].waited))
            slowest = r;
    }
    if (slowest < 0 || !is_long(x, x->waits[slowest].waited)) return false;
    const weft_ledger_record *w = &x->waits[slowest];
    int count = members_of(x, slowest, w->group, x->members);
    memset(x->waiting, 0, (size_t)x->ranks * sizeof *x->waiting);
    memset(x->missing, 0, (size_t)x->ranks * sizeof *x->missing);
    for (int i = 0; i < count; i++) {
        weft_ledger_record r;
        int m = x->members[i];
        x->waiting[m] = x->waits[m].group == w->group && x->waits[m].group_sequence == w->group_sequence;
        bool known = weft_ledger_job_group_record(x->job, m, w->group, w->group_sequence, &r);
        x->missing[m] = known && r.state == WEFT_RECORD_STARTED;
    }
    say_next(x);
    say(x, "no rank is missing: ");
    count = say_set(x, x->waiting);
    say(x, count == 1 ? " has waited in " : " have waited in ");
    say_record(x, slowest, w);
    say(x, " for %.1f s, which all its members have entered", age(x, w->waited));
    say_places(x, x->missing); /* those that have started it and do not wait for it yet */
    return true;
}

bool say_waits(examination *x) {
    absence a = find_absence(x);
    if (a.rank >= 0) {
        say_missing(x, &a);
        return true;
    }
    int circle = find_circle(x);
    if (circle == 0) return say_slow(x);
    if (!circle_is_long(x, circle)) return false;
    say_circle(x, circle);
    return true;
}
