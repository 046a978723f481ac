/* The words of a verdict. */
#include "parallel/ledger_verdict.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void say(examination *x, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(x->out + x->length, x->size - x->length, fmt, ap);
    va_end(ap);
    size_t room = x->size - x->length - 1;
    x->length += n < 0 ? 0 : (size_t)n < room ? (size_t)n : room;
}

void say_ranks(examination *x, const int *ranks, int count) {
    enum { SHORT = 8 };
    say(x, count == 1 ? "rank" : "ranks");
    for (int i = 0, end; i < count; i = end) {
        for (end = i + 1; end < count && ranks[end] == ranks[end - 1] + 1;) end++;
        if (count <= SHORT || end - i < 3) end = i + 1;
        say(x, end - i > 1 ? " %d-%d" : " %d", ranks[i], ranks[end - 1]);
    }
}

void say_next(examination *x) {
    if (x->length > 0) say(x, "; ");
}

int say_set(examination *x, const bool *set) {
    int count = 0;
    for (int r = 0; r < x->ranks; r++)
        if (set[r]) x->members[count++] = r;
    say_ranks(x, x->members, count);
    return count;
}

int members_of(const examination *x, int rank, weft_group_kind kind, int *ranks) {
    weft_mesh m = weft_mesh_of_rank(weft_ledger_job_mesh(x->job), rank);
    return weft_mesh_group(&m, kind, weft_ledger_job_kv_ranks(x->job), ranks, NULL);
}

static void say_group(examination *x, int rank, weft_group_kind kind, uint64_t number) {
    int count = members_of(x, rank, kind, x->members);
    say(x, "%s group of ", weft_group_name(kind));
    say_ranks(x, x->members, count);
    say(x, ", number %llu", (unsigned long long)number);
}

void say_record(examination *x, int rank, const weft_ledger_record *r) {
    const char *op = weft_collective_name(r->op);
    if (*r->tensor)
        say(x, "%s (%s, ", r->tensor, op);
    else
        say(x, "%s (", op);
    say_group(x, rank, r->group, r->group_sequence);
    say(x, ")");
}

void say_operation(examination *x, const weft_ledger_record *r) {
    say(x, *r->tensor ? "%s of %s" : "%s%s", weft_collective_name(r->op), r->tensor);
}

double age(const examination *x, double since) {
    return x->now > since ? x->now - since : 0;
}

/* Returns whether there was anything to say. */
static bool say_activity(examination *x, const weft_ledger_rank *k) {
    bool has_step = strncmp(k->activity, "step ", 5) == 0;
    if (k->step >= 0 && !has_step) say(x, *k->activity ? "step %lld, " : "step %lld", (long long)k->step);
    if (*k->activity) say(x, "%s (for %.1f s)", k->activity, age(x, k->activity_since));
    return *k->activity || k->step >= 0;
}

void say_place(examination *x, int rank) {
    const weft_ledger_rank *k = weft_ledger_job_rank(x->job, rank);
    const weft_ledger_record *w = &x->waits[rank];
    weft_ledger_record last;
    bool said = say_activity(x, k);
    if (w->sequence) {
        say(x, said ? ", waiting in " : "waiting in ");
        say_record(x, rank, w);
        say(x, " for %.1f s", age(x, w->waited));
    } else if (!said)
        say(x, k->last ? "between collectives" : "the start");
    if (!k->last)
        say(x, "; it has entered no collective yet");
    else if (weft_ledger_job_record(x->job, rank, k->complete, &last)) {
        say(x, "; last: ");
        say_operation(x, &last);
        say(x, " (number %llu of %s), complete %.1f s ago", (unsigned long long)last.group_sequence,
            weft_group_name(last.group), age(x, last.left));
    }
}

void say_places(examination *x, const bool *set) {
    enum { MOST = 4 };
    for (int r = 0, n = 0; r < x->ranks && n < MOST; r++) {
        const weft_ledger_rank *k = weft_ledger_job_rank(x->job, r);
        if (!set[r] || x->told[r]) continue;
        say_next(x);
        say(x, "rank %d (%s, process %lld on %s) was at: ", r, weft_rank_state_name(k->state),
            (long long)k->pid, k->host);
        say_place(x, r);
        x->told[r] = true;
        n++;
    }
}

weft_rank_state state_of(const examination *x, int rank) {
    return weft_ledger_job_rank(x->job, rank)->state;
}

bool has_ended(const examination *x, int rank) {
    return state_of(x, rank) == WEFT_RANK_DIED || state_of(x, rank) == WEFT_RANK_FINISHED;
}
