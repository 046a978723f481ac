/* Ranks as coordinates along named axes, and which of them form a group. */
#include "parallel/mesh.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const char *const axis_names[WEFT_AXES] = {[WEFT_AXIS_DP] = "dp",
                                                  [WEFT_AXIS_FSDP] = "fsdp",
                                                  [WEFT_AXIS_CP] = "cp",
                                                  [WEFT_AXIS_TP] = "tp",
                                                  [WEFT_AXIS_EP] = "ep"};
/* The axes that multiply to the ranks, slowest first. */
static const weft_axis grid[] = {WEFT_AXIS_DP, WEFT_AXIS_FSDP, WEFT_AXIS_CP, WEFT_AXIS_TP};
enum { GRID = sizeof grid / sizeof *grid };

const char *weft_axis_name(weft_axis a) {
    return a >= 0 && a < WEFT_AXES ? axis_names[a] : "none";
}

/* ---- coordinates -------------------------------------------------------------------------------- */

weft_mesh weft_mesh_of_rank(const weft_mesh *m, int rank) {
    weft_mesh at = *m;
    int q = rank / m->size[WEFT_AXIS_TP];
    at.rank = rank;
    at.index[WEFT_AXIS_TP] = rank % m->size[WEFT_AXIS_TP];
    at.index[WEFT_AXIS_CP] = q % m->size[WEFT_AXIS_CP];
    at.index[WEFT_AXIS_FSDP] = q / m->size[WEFT_AXIS_CP] % m->size[WEFT_AXIS_FSDP];
    at.index[WEFT_AXIS_DP] = q / m->size[WEFT_AXIS_CP] / m->size[WEFT_AXIS_FSDP];
    at.index[WEFT_AXIS_EP] = q % m->size[WEFT_AXIS_EP];
    return at;
}

weft_mesh weft_mesh_single(void) {
    return (weft_mesh){.ranks = 1, .size = {1, 1, 1, 1, 1}};
}

/* ---- text --------------------------------------------------------------------------------------- */

static void put_axis(char *out, int bytes, weft_axis a, int64_t size) {
    size_t at = strlen(out), room = (size_t)bytes - at;
    const char *space = at ? " " : "";
    if (size)
        snprintf(out + at, room, "%s%s=%lld", space, axis_names[a], (long long)size);
    else
        snprintf(out + at, room, "%s%s=auto", space, axis_names[a]);
}

const char *weft_mesh_text(const weft_mesh *m, char *out, int size) {
    out[0] = '\0';
    for (int a = 0; a < WEFT_AXES; a++)
        if (m->size[a] > 1) put_axis(out, size, (weft_axis)a, m->size[a]);
    if (!out[0]) snprintf(out, (size_t)size, "1 rank");
    return out;
}

/* ---- the nearest mesh that works ---------------------------------------------------------------- */

/* What a factor of two away from the size that was asked for costs. Growing cp or tp where nobody asked for
 * them is the worst advice: they cost traffic. */
static const double stretch[WEFT_AXES] = {
    [WEFT_AXIS_DP] = 1.1, [WEFT_AXIS_FSDP] = 1, [WEFT_AXIS_CP] = 2, [WEFT_AXIS_TP] = 2, [WEFT_AXIS_EP] = 0.5};
/* Changing an axis that was set at all costs this besides; the size of an auto axis costs next to nothing. */
static const double change_cost = 0.5, auto_cost = 1e-3;

enum { DIVISORS = 1600 }; /* no int has more than 2095133040 has */
typedef struct search {
    const int64_t *want;
    int divisor[DIVISORS], divisors; /* of the ranks */
    int size[WEFT_AXES];             /* being tried */
    int best[WEFT_AXES];             /* 0: none found yet */
    double best_cost;
} search;

static double axis_cost(const search *s, weft_axis a, int size) {
    int64_t want = s->want[a];
    if (want == 0) return auto_cost * stretch[a] * log2(size);
    if (want == size) return 0;
    return stretch[a] * fabs(log2(size) - log2(want > 1 ? (double)want : 1)) + (want > 1 ? change_cost : 0);
}

static bool ep_fits(int64_t outer, int64_t per_replica, int64_t ep) {
    return outer % ep == 0 && (per_replica % ep == 0 || ep % per_replica == 0);
}

/* Gives an axis a size and adds its cost. False: some mesh that was found costs no more already. */
static bool place(search *s, weft_axis a, int size, double *cost) {
    s->size[a] = size;
    *cost += axis_cost(s, a, size);
    return *cost < s->best_cost - 1e-9; /* of equals the first is kept */
}

static void try_experts(search *s, double cost) {
    int64_t per_replica = s->size[WEFT_AXIS_FSDP] * s->size[WEFT_AXIS_CP];
    int64_t outer = s->size[WEFT_AXIS_DP] * per_replica;
    for (int k = 0; k < s->divisors && s->divisor[k] <= outer; k++) {
        double sum = cost;
        if (!ep_fits(outer, per_replica, s->divisor[k]) || !place(s, WEFT_AXIS_EP, s->divisor[k], &sum))
            continue;
        s->best_cost = sum;
        memcpy(s->best, s->size, sizeof s->best);
    }
}

/* Shares `left` ranks out among the axes from grid[i] on in every way. */
static void try_axes(search *s, int i, int left, double cost) {
    if (i == GRID - 1) {
        if (place(s, grid[i], left, &cost)) try_experts(s, cost);
        return;
    }
    for (int k = 0; k < s->divisors && s->divisor[k] <= left; k++) {
        double sum = cost;
        if (left % s->divisor[k] == 0 && place(s, grid[i], s->divisor[k], &sum))
            try_axes(s, i + 1, left / s->divisor[k], sum);
    }
}

static void find_nearest(search *s, const int64_t *want, int ranks) {
    *s = (search){.want = want};
    int d = 1, low = 0;
    for (; d <= ranks / d; d++)
        if (ranks % d == 0) s->divisor[low++] = d;
    s->divisors = low;
    for (int k = low - 1; k >= 0; k--)
        if (ranks / s->divisor[k] != s->divisor[k]) s->divisor[s->divisors++] = ranks / s->divisor[k];
    /* A small bound first: it keeps the search short. All ranks on one axis is a mesh, so one is found. */
    for (double bound = 1; s->best[WEFT_AXIS_DP] == 0; bound *= 2) {
        s->best_cost = bound;
        try_axes(s, 0, ranks, 0);
    }
}

/* Fails with the rule that is broken. `resolved`: what was asked for, fsdp's auto decided. */
static weft_status refuse(const weft_mesh_sizes *want, const weft_mesh_sizes *resolved, int ranks,
                          const char *rule) {
    char asked[192] = "", nearest[192] = "";
    search s;
    find_nearest(&s, resolved->size, ranks);
    for (int a = 0; a < WEFT_AXES; a++) {
        if (a != WEFT_AXIS_EP || want->size[a] != 1)
            put_axis(asked, sizeof asked, (weft_axis)a, want->size[a]);
        if (s.best[a] > 1 || s.best[a] != want->size[a])
            put_axis(nearest, sizeof nearest, (weft_axis)a, s.best[a]);
    }
    WEFT_FAIL(WEFT_EINPUT, "mesh %s%s; nearest that works: %s", asked, rule, nearest);
}

/* ---- from what is asked for to a mesh ----------------------------------------------------------- */

enum { RULE = 160 };

/* Gives the auto axis, if any, its size. False, with the rule, when the sizes cannot make up the ranks. */
static bool resolve_grid(int64_t *size, int ranks, char *rule) {
    weft_axis open = WEFT_AXIS_NONE;
    double product = 1; /* never less than a factor of it, so large ones are not taken for `ranks` */
    bool others = size[WEFT_AXIS_DP] == 0 || size[WEFT_AXIS_CP] == 0 || size[WEFT_AXIS_TP] == 0;
    if (size[WEFT_AXIS_FSDP] == 0 && others) size[WEFT_AXIS_FSDP] = 1;
    for (int i = 0; i < GRID; i++) {
        weft_axis a = grid[i];
        if (size[a] < 0) {
            snprintf(rule, RULE, ": %s must be at least 1", axis_names[a]);
            return false;
        }
        if (size[a] == 0 && open != WEFT_AXIS_NONE) {
            snprintf(rule, RULE, ": only one axis can be auto, not both %s and %s", axis_names[open],
                     axis_names[a]);
            return false;
        }
        if (size[a] == 0)
            open = a;
        else
            product *= (double)size[a];
    }
    bool fits = open == WEFT_AXIS_NONE ? product == ranks : product <= ranks && ranks % (int)product == 0;
    if (!fits) {
        snprintf(rule, RULE, " takes %s%.0f rank%s, but there %s %d",
                 open == WEFT_AXIS_NONE ? "" : "a multiple of ", product, product == 1 ? "" : "s",
                 ranks == 1 ? "is" : "are", ranks);
        return false;
    }
    if (open != WEFT_AXIS_NONE) size[open] = ranks / (int)product;
    return true;
}

static bool check_experts(const int64_t *size, char *rule) {
    int64_t per_replica = size[WEFT_AXIS_FSDP] * size[WEFT_AXIS_CP], outer = size[WEFT_AXIS_DP] * per_replica;
    int64_t ep = size[WEFT_AXIS_EP];
    if (ep < 1)
        snprintf(rule, RULE, ": ep must be at least 1, and cannot be auto");
    else if (outer % ep != 0)
        snprintf(rule, RULE, ": ep must divide dp*fsdp*cp, which is %lld", (long long)outer);
    else if (!ep_fits(outer, per_replica, ep))
        snprintf(rule, RULE, ": ep must divide fsdp*cp, which is %lld, or be a multiple of it",
                 (long long)per_replica);
    else
        return true;
    return false;
}

weft_status weft_mesh_make(weft_mesh *m, const weft_mesh_sizes *want, int ranks, int rank) {
    weft_mesh_sizes resolved = *want;
    char rule[RULE];
    if (ranks < 1) WEFT_FAIL(WEFT_EINPUT, "a mesh needs at least one rank, not %d", ranks);
    if (rank < 0 || rank >= ranks)
        WEFT_FAIL(WEFT_EINPUT, "a mesh of %d ranks has no rank %d; they are 0 to %d", ranks, rank, ranks - 1);
    if (!resolve_grid(resolved.size, ranks, rule) || !check_experts(resolved.size, rule))
        return refuse(want, &resolved, ranks, rule);
    weft_mesh made = {.ranks = ranks};
    for (int a = 0; a < WEFT_AXES; a++) made.size[a] = (int)resolved.size[a];
    *m = weft_mesh_of_rank(&made, rank);
    return WEFT_OK;
}

/* ---- groups ------------------------------------------------------------------------------------- */

const char *weft_group_name(weft_group_kind k) {
    static const char *const names[WEFT_GROUPS] = {[WEFT_GROUP_WORLD] = "world",
                                                   [WEFT_GROUP_TP] = "tp",
                                                   [WEFT_GROUP_KV] = "kv",
                                                   [WEFT_GROUP_CP] = "cp",
                                                   [WEFT_GROUP_TOKENS] = "tokens",
                                                   [WEFT_GROUP_EP] = "ep",
                                                   [WEFT_GROUP_SHARD] = "fsdp",
                                                   [WEFT_GROUP_REPLICA] = "dp",
                                                   [WEFT_GROUP_EXPERT_SHARD] = "expert fsdp",
                                                   [WEFT_GROUP_EXPERT_REPLICA] = "expert dp"};
    return names[k];
}

weft_axis weft_group_axis(const weft_mesh *m, weft_group_kind k) {
    switch (k) {
    case WEFT_GROUP_TP:
    case WEFT_GROUP_KV:
        return WEFT_AXIS_TP;
    case WEFT_GROUP_CP:
        return WEFT_AXIS_CP;
    case WEFT_GROUP_TOKENS:
        return m->size[WEFT_AXIS_CP] > 1 ? WEFT_AXIS_CP : WEFT_AXIS_TP;
    case WEFT_GROUP_EP:
        return WEFT_AXIS_EP;
    case WEFT_GROUP_SHARD:
    case WEFT_GROUP_EXPERT_SHARD:
        return WEFT_AXIS_FSDP;
    case WEFT_GROUP_REPLICA:
    case WEFT_GROUP_EXPERT_REPLICA:
        return WEFT_AXIS_DP;
    default:
        return WEFT_AXIS_NONE;
    }
}

/* Two ranks are in the same group when their keys are equal. Within every kind of group the order that its
 * use wants is the order of the ranks. */
static int group_key(const weft_mesh *m, weft_group_kind k, int kv_ranks, int rank) {
    int tp = m->size[WEFT_AXIS_TP], cp = m->size[WEFT_AXIS_CP], ep = m->size[WEFT_AXIS_EP];
    int P = m->size[WEFT_AXIS_FSDP] * cp; /* outer ranks of a dp replica */
    int t = rank % tp, q = rank / tp;
    bool experts_sharded = P % ep == 0; /* otherwise P divides ep, and each rank holds its experts whole */
    switch (k) {
    case WEFT_GROUP_TP:
        return q;
    case WEFT_GROUP_KV:
        return rank / kv_ranks;
    case WEFT_GROUP_CP: /* same dp, fsdp and tp */
        return q / cp * tp + t;
    case WEFT_GROUP_TOKENS: /* same dp and fsdp */
        return q / cp;
    case WEFT_GROUP_EP:
        return q / ep * tp + t;
    case WEFT_GROUP_SHARD: /* same dp and tp */
        return q / P * tp + t;
    case WEFT_GROUP_REPLICA: /* same place in SHARD, and tp */
        return q % P * tp + t;
    case WEFT_GROUP_EXPERT_SHARD: /* same experts, dp and tp */
        return experts_sharded ? (q / P * ep + q % ep) * tp + t : rank;
    case WEFT_GROUP_EXPERT_REPLICA: /* same experts, place in EXPERT_SHARD and tp; q % P states the first two
                                     */
        return (experts_sharded ? q % P : q % ep) * tp + t;
    default:
        return 0;
    }
}

int weft_mesh_group(const weft_mesh *m, weft_group_kind k, int kv_ranks, int *ranks, int *mine) {
    WEFT_CHECK(kv_ranks > 0 && m->size[WEFT_AXIS_TP] % kv_ranks == 0,
               "%d ranks of tp %d hold a key/value head", kv_ranks, m->size[WEFT_AXIS_TP]);
    int key = group_key(m, k, kv_ranks, m->rank), size = 0, place = 0;
    for (int r = 0; r < m->ranks; r++) {
        if (group_key(m, k, kv_ranks, r) != key) continue;
        if (r == m->rank) place = size;
        if (ranks) ranks[size] = r;
        size++;
    }
    if (mine) *mine = place;
    return size;
}
