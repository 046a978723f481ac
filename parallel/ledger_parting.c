/* Ranks of a group that entered different collectives under the same number. */
#include "parallel/ledger_verdict.h"

#include <string.h>

/* In the others, what a rank receives is a matter of its own. */
static bool bytes_agree(weft_collective op) {
    return op == WEFT_ALL_REDUCE || op == WEFT_ALL_GATHER || op == WEFT_REDUCE_SCATTER;
}

static bool same_operation(const weft_ledger_record *a, const weft_ledger_record *b) {
    return a->op == b->op && strcmp(a->tensor, b->tensor) == 0 &&
           (a->bytes == b->bytes || !bytes_agree(a->op));
}

/* Whether members entered different collectives under this number; *entered: the earliest entry. */
static bool differ_at(const examination *x, const int *members, int count, weft_group_kind kind,
                      uint64_t number, double *entered) {
    weft_ledger_record first, other;
    bool differ = false;
    if (!weft_ledger_job_group_record(x->job, members[0], kind, number, &first)) return false;
    *entered = first.entered;
    for (int i = 1; i < count; i++) {
        if (!weft_ledger_job_group_record(x->job, members[i], kind, number, &other)) return false;
        differ |= !same_operation(&first, &other);
        if (other.entered < *entered) *entered = other.entered;
    }
    return differ;
}

/* The earliest parting in the group that `rank` is the first member of. */
static void find_in_group(const examination *x, int rank, weft_group_kind kind, parting *p) {
    int count = members_of(x, rank, kind, x->list);
    uint64_t low = 1, high = UINT64_MAX;
    double entered;
    if (count < 2 || x->list[0] != rank) return;
    for (int i = 0; i < count; i++) {
        const weft_ledger_rank *k = weft_ledger_job_rank(x->job, x->list[i]);
        if (k->group_first[kind] > low) low = k->group_first[kind];
        if (k->group_last[kind] < high) high = k->group_last[kind];
    }
    for (uint64_t n = low; n <= high; n++) {
        if (!differ_at(x, x->list, count, kind, n, &entered)) continue;
        if (!p->found || entered < p->entered) *p = (parting){true, rank, kind, n, entered};
        return;
    }
}

parting find_parting(const examination *x) {
    parting p = {0};
    for (int k = 0; k < WEFT_GROUPS; k++)
        for (int r = 0; r < x->ranks; r++) find_in_group(x, r, (weft_group_kind)k, &p);
    return p;
}

/* Whether the rank's own history has `skipped` followed by `entered`: then it may have left the former out.
 */
static bool follows(const examination *x, int rank, const weft_ledger_record *skipped,
                    const weft_ledger_record *entered) {
    const weft_ledger_rank *k = weft_ledger_job_rank(x->job, rank);
    weft_ledger_record a, b;
    for (uint64_t n = entered->group_sequence - 1; n > k->group_first[entered->group]; n--) {
        if (!weft_ledger_job_group_record(x->job, rank, entered->group, n, &b)) return false;
        if (!same_operation(&b, entered)) continue;
        if (!weft_ledger_job_group_record(x->job, rank, entered->group, n - 1, &a)) return false;
        if (same_operation(&a, skipped)) return true;
    }
    return false;
}

/* Whether one of `count` members of x->list2 that entered `skipped` has gone on to `entered`. */
static bool others_went_on(const examination *x, int count, const weft_ledger_record *skipped,
                           const weft_ledger_record *entered) {
    weft_ledger_record r;
    for (int i = 0; i < count; i++) {
        if (!weft_ledger_job_group_record(x->job, x->list2[i], skipped->group, skipped->group_sequence, &r) ||
            !same_operation(&r, skipped))
            continue;
        if (weft_ledger_job_group_record(x->job, x->list2[i], skipped->group, skipped->group_sequence + 1,
                                         &r) &&
            same_operation(&r, entered))
            return true;
    }
    return false;
}

/* Members of x->list2 whose record `p` names is like `like`, into `out`. */
static int alike(const examination *x, const parting *p, int count, const weft_ledger_record *like,
                 int *out) {
    weft_ledger_record r;
    int n = 0;
    for (int i = 0; i < count; i++)
        if (weft_ledger_job_group_record(x->job, x->list2[i], p->group, p->number, &r) &&
            same_operation(&r, like))
            out[n++] = x->list2[i];
    return n;
}

static bool is_first_of_its_kind(const examination *x, const parting *p, int i, weft_ledger_record *mine) {
    weft_ledger_record r;
    if (!weft_ledger_job_group_record(x->job, x->list2[i], p->group, p->number, mine)) return false;
    for (int k = 0; k < i; k++)
        if (weft_ledger_job_group_record(x->job, x->list2[k], p->group, p->number, &r) &&
            same_operation(&r, mine))
            return false;
    return true;
}

/* The collective that most members entered; 0 when no kind has a majority. */
static int majority(const examination *x, const parting *p, int count, weft_ledger_record *out) {
    weft_ledger_record r;
    for (int i = 0; i < count; i++) {
        if (!is_first_of_its_kind(x, p, i, &r)) continue;
        int n = alike(x, p, count, &r, x->list);
        if (2 * n <= count) continue;
        *out = r;
        return n;
    }
    return 0;
}

static void say_side(examination *x, const parting *p, int count, const weft_ledger_record *r) {
    int n = alike(x, p, count, r, x->list);
    say_ranks(x, x->list, n);
    say(x, " ");
    say_operation(x, r);
    say(x, " (%lld bytes)", (long long)r->bytes);
}

void say_parting(examination *x, const parting *p) {
    int count = members_of(x, p->rank, p->group, x->list2), sides = 0, odd_count = 0;
    weft_ledger_record most, r, odd = {0};
    int most_count = majority(x, p, count, &most);
    if (most_count) { /* those that are not like most others are named */
        for (int i = 0; i < count; i++)
            if (weft_ledger_job_group_record(x->job, x->list2[i], p->group, p->number, &r) &&
                !same_operation(&r, &most)) {
                if (odd_count == 0) odd = r;
                x->list[odd_count++] = x->list2[i];
            }
        say_ranks(x, x->list, odd_count);
        say(x, odd_count == 1 ? " parts from the others" : " part from the others");
    } else {
        say_ranks(x, x->list2, count);
        say(x, " part");
    }
    say(x, " at number %llu of the %s group of ", (unsigned long long)p->number, weft_group_name(p->group));
    say_ranks(x, x->list2, count);
    bool left_out =
        odd_count == 1 && (follows(x, x->list[0], &most, &odd) || others_went_on(x, count, &most, &odd));
    int odd_rank = odd_count ? x->list[0] : -1;
    for (int i = 0; i < count && sides < VERDICT_NAMED; i++) {
        if (!is_first_of_its_kind(x, p, i, &r)) continue;
        say(x, sides++ ? ", " : ": ");
        say_side(x, p, count, &r);
    }
    if (left_out) {
        say(x, "; rank %d left out the ", odd_rank);
        say_operation(x, &most);
    }
    if (odd_rank >= 0) {
        say(x, "; ");
        say_who(x, odd_rank);
        say(x, " was at: ");
        say_place(x, odd_rank);
    }
}
