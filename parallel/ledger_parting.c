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

/* ---- the words ---- */

/* Members that entered the same collective. */
typedef struct side {
    weft_ledger_record record;
    int count, first; /* members; place of the first one among them all */
} side;

enum { SIDES = 4 };

/* Sorts the members x->list[count] by what they entered under the number of `p`: x->side <- each one's side,
 * -1 for more than SIDES of them. Returns how many sides there are. */
static int find_sides(const examination *x, const parting *p, int count, side sides[SIDES]) {
    int n = 0;
    for (int i = 0; i < count; i++) {
        weft_ledger_record r;
        int k = 0;
        x->side[i] = -1;
        if (!weft_ledger_job_group_record(x->job, x->list[i], p->group, p->number, &r)) continue;
        while (k < n && !same_operation(&sides[k].record, &r)) k++;
        if (k == SIDES) continue;
        if (k == n) sides[n++] = (side){r, 0, i};
        sides[k].count++;
        x->side[i] = k;
    }
    return n;
}

/* The side that more than half of the members are on; -1 when there is none. */
static int majority_of(const side *sides, int n, int count) {
    for (int k = 0; k < n; k++)
        if (2 * sides[k].count > count) return k;
    return -1;
}

/* Whether this rank entered `after` straight after `before` in its group, after the number `from`. */
static bool has_in_turn(const examination *x, int rank, uint64_t from, const weft_ledger_record *before,
                        const weft_ledger_record *after) {
    const weft_ledger_rank *k = weft_ledger_job_rank(x->job, rank);
    weft_ledger_record a = {0}, b;
    for (uint64_t n = from; n <= k->group_last[before->group]; n++, a = b) {
        if (!weft_ledger_job_group_record(x->job, rank, before->group, n, &b)) return false;
        if (a.sequence && same_operation(&a, before) && same_operation(&b, after)) return true;
    }
    return false;
}

/* Whether the ranks on side `b` left out what those on side `a` entered: the latter came to b's collective
 * next, or b did so earlier. */
static bool left_out(const examination *x, const side *a, const side *b) {
    int ra = x->list[a->first], rb = x->list[b->first];
    return has_in_turn(x, ra, a->record.group_sequence, &a->record, &b->record) ||
           has_in_turn(x, rb, weft_ledger_job_rank(x->job, rb)->group_first[b->record.group], &a->record,
                       &b->record);
}

/* x->missing <- the members on this side, or on the others. */
static const bool *members_on(examination *x, int count, int of_side, bool others) {
    memset(x->missing, 0, (size_t)x->ranks * sizeof *x->missing);
    for (int i = 0; i < count; i++) x->missing[x->list[i]] = (x->side[i] == of_side) != others;
    return x->missing;
}

static void say_sides(examination *x, const side *sides, int n, int count) {
    for (int k = 0; k < n; k++) {
        say(x, k ? ", " : ": ");
        say_set(x, members_on(x, count, k, false));
        say(x, " ");
        say_operation(x, &sides[k].record);
        say(x, " (%lld bytes)", (long long)sides[k].record.bytes);
    }
}

static void say_left_out(examination *x, const side *sides, int n, int most, int count) {
    if (n != 2) return;
    bool first = most != 0 && left_out(x, &sides[1], &sides[0]);
    bool second = most != 1 && left_out(x, &sides[0], &sides[1]);
    if (first == second) return;
    say(x, "; ");
    say_set(x, members_on(x, count, second, false));
    say(x, " left out the ");
    say_operation(x, &sides[!second].record);
}

void say_parting(examination *x, const parting *p) {
    side sides[SIDES];
    int count = members_of(x, p->rank, p->group, x->list), n = find_sides(x, p, count, sides);
    int most = majority_of(sides, n, count);
    int odd = say_set(x, members_on(x, count, most < 0 ? SIDES : most, true));
    say(x, " %s%s at number %llu of the %s group of ", odd == 1 ? "parts" : "part",
        most < 0 ? "" : " from the others", (unsigned long long)p->number, weft_group_name(p->group));
    say_ranks(x, x->list, count);
    say_sides(x, sides, n, count);
    say_left_out(x, sides, n, most, count);
    say_places(x, members_on(x, count, most < 0 ? SIDES : most, true));
}
