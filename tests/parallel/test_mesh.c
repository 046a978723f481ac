/* The mesh: coordinates, groups of every kind against their definitions on many meshes, and what is refused.
 */
#include "parallel/mesh.h"
#include "support/capture.h"
#include "support/suite.h"

#include <limits.h>
#include <string.h>

enum {
    MOST = 64,
    DP = WEFT_AXIS_DP,
    FSDP = WEFT_AXIS_FSDP,
    CP = WEFT_AXIS_CP,
    TP = WEFT_AXIS_TP,
    EP = WEFT_AXIS_EP
};

static weft_mesh_sizes sizes(int64_t dp, int64_t fsdp, int64_t cp, int64_t tp, int64_t ep) {
    return (weft_mesh_sizes){.size = {[DP] = dp, [FSDP] = fsdp, [CP] = cp, [TP] = tp, [EP] = ep}};
}

/* Calls `check` with every legal mesh of `ranks` ranks; returns how many there are. */
static int for_each_mesh(int ranks, void (*check)(const weft_mesh *)) {
    int count = 0;
    for (int dp = 1; dp <= ranks; dp++)
        for (int fsdp = 1; dp * fsdp <= ranks; fsdp++)
            for (int cp = 1; dp * fsdp * cp <= ranks; cp++) {
                if (ranks % (dp * fsdp * cp) != 0) continue;
                int outer = dp * fsdp * cp, P = fsdp * cp;
                for (int ep = 1; ep <= outer; ep++) {
                    if (outer % ep != 0 || (P % ep != 0 && ep % P != 0)) continue;
                    weft_mesh m;
                    weft_mesh_sizes want = sizes(dp, fsdp, cp, ranks / outer, ep);
                    ck_assert_int_eq(weft_mesh_make(&m, &want, ranks, ranks - 1), WEFT_OK);
                    check(&m);
                    count++;
                }
            }
    return count;
}

/* Numbers of ranks with many factors, and a few with none. */
static void for_many_meshes(void (*check)(const weft_mesh *)) {
    static const int ranks[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 15, 16, 18, 24, 30, 32, 36, 48, 64};
    int count = 0;
    for (size_t i = 0; i < sizeof ranks / sizeof *ranks; i++) count += for_each_mesh(ranks[i], check);
    ck_assert_int_gt(count, 1500);
}

/* As an assertion, but without Check's system call for each: there are millions. */
#define HOLDS(m, condition)                                                                                  \
    do {                                                                                                     \
        char mesh_text[128];                                                                                 \
        if (!(condition))                                                                                    \
            ck_abort_msg("%s: %s", weft_mesh_text(m, mesh_text, sizeof mesh_text), #condition);              \
    } while (0)

/* ---- coordinates -------------------------------------------------------------------------------- */

static void check_coordinates(const weft_mesh *m) {
    const int *size = m->size;
    HOLDS(m, m->ranks == size[DP] * size[FSDP] * size[CP] * size[TP]);
    HOLDS(m, m->rank == m->ranks - 1);
    for (int rank = 0; rank < m->ranks; rank++) {
        weft_mesh at = weft_mesh_of_rank(m, rank);
        const int *index = at.index;
        for (int a = 0; a < WEFT_AXES; a++) {
            HOLDS(m, at.size[a] == size[a]);
            HOLDS(m, index[a] >= 0 && index[a] < size[a]);
        }
        int q = index[CP] + size[CP] * (index[FSDP] + size[FSDP] * index[DP]);
        HOLDS(m, at.rank == rank);
        HOLDS(m, index[TP] + size[TP] * q == rank);
        HOLDS(m, index[EP] == q % size[EP]);
        weft_mesh back = weft_mesh_of_rank(&at, m->rank);
        HOLDS(m, memcmp(&back, m, sizeof back) == 0);
    }
}

START_TEST(coordinates_round_trip) {
    for_many_meshes(check_coordinates);
    weft_mesh one = weft_mesh_single();
    ck_assert_int_eq(one.ranks, 1);
    check_coordinates(&one);
}
END_TEST

/* ---- groups ------------------------------------------------------------------------------------- */

typedef struct group {
    int size, mine, ranks[MOST];
} group;

static group group_of(const weft_mesh *m, weft_group_kind k, int kv_ranks, int rank) {
    group g;
    weft_mesh at = weft_mesh_of_rank(m, rank);
    g.size = weft_mesh_group(&at, k, kv_ranks, g.ranks, &g.mine);
    HOLDS(m, weft_mesh_group(&at, k, kv_ranks, NULL, NULL) == g.size);
    HOLDS(m, g.size >= 1 && g.size <= m->ranks && g.mine >= 0 && g.mine < g.size);
    HOLDS(m, g.ranks[g.mine] == rank);
    return g;
}

/* By coordinates: does rank b belong to rank a's group, and at what place in its order? -1: it does not.
 * `places`: in EXPERT_SHARD, by rank. -2: a member; the order is by q, which the caller checks. */
static int place_in_group(const weft_mesh *m, weft_group_kind k, int kv_ranks, int a, int b,
                          const int *places) {
    weft_mesh x = weft_mesh_of_rank(m, a), y = weft_mesh_of_rank(m, b);
    const int *i = x.index, *j = y.index, *n = m->size;
    int P = n[FSDP] * n[CP], qx = a / n[TP], qy = b / n[TP], ep = n[EP];
    bool dp = i[DP] == j[DP], fsdp = i[FSDP] == j[FSDP], cp = i[CP] == j[CP], tp = i[TP] == j[TP];
    bool same = true;
    int place = b;
    switch (k) {
    case WEFT_GROUP_TP:
        same = dp && fsdp && cp, place = j[TP];
        break;
    case WEFT_GROUP_KV:
        same = dp && fsdp && cp && i[TP] / kv_ranks == j[TP] / kv_ranks, place = j[TP] % kv_ranks;
        break;
    case WEFT_GROUP_CP:
        same = dp && fsdp && tp, place = j[CP];
        break;
    case WEFT_GROUP_TOKENS:
        same = dp && fsdp, place = j[CP] * n[TP] + j[TP];
        break;
    case WEFT_GROUP_EP:
        same = tp && qx / ep == qy / ep, place = j[EP];
        break;
    case WEFT_GROUP_SHARD:
        same = dp && tp, place = j[CP] + n[CP] * j[FSDP];
        break;
    case WEFT_GROUP_REPLICA:
        same = tp && fsdp && cp, place = j[DP];
        break;
    case WEFT_GROUP_EXPERT_SHARD:
        same = P % ep == 0 ? tp && dp && i[EP] == j[EP] : a == b;
        place = P % ep == 0 ? qy % P / ep : 0;
        break;
    case WEFT_GROUP_EXPERT_REPLICA:
        same = tp && i[EP] == j[EP] && places[a] == places[b], place = -2;
        break;
    default:
        break;
    }
    return same ? place : -1;
}

/* Every rank's groups of one kind, and its places in EXPERT_SHARD. */
static group groups[MOST];
static int shard_place[MOST];

static void check_group_kind(const weft_mesh *m, weft_group_kind k, int kv_ranks) {
    for (int r = 0; r < m->ranks; r++) groups[r] = group_of(m, k, kv_ranks, r);
    for (int r = 0; r < m->ranks; r++) {
        const group *g = &groups[r];
        bool member[MOST] = {false};
        for (int i = 0; i < g->size; i++) {
            int other = g->ranks[i], place = place_in_group(m, k, kv_ranks, r, other, shard_place);
            member[other] = true;
            if (place == -2)
                HOLDS(m, i == 0 || other / m->size[TP] > g->ranks[i - 1] / m->size[TP]);
            else
                HOLDS(m, place == i);
            /* Members agree; so groups of a kind part the ranks among them. */
            HOLDS(m, groups[other].size == g->size && groups[other].mine == i);
            HOLDS(m, memcmp(groups[other].ranks, g->ranks, (size_t)g->size * sizeof *g->ranks) == 0);
        }
        for (int other = 0; other < m->ranks; other++)
            if (!member[other]) HOLDS(m, place_in_group(m, k, kv_ranks, r, other, shard_place) == -1);
    }
}

static void check_groups(const weft_mesh *m) {
    for (int r = 0; r < m->ranks; r++) shard_place[r] = group_of(m, WEFT_GROUP_EXPERT_SHARD, 1, r).mine;
    for (int k = 0; k < WEFT_GROUPS; k++)
        if (k != WEFT_GROUP_KV) check_group_kind(m, (weft_group_kind)k, 1);
    for (int kv = 1; kv <= m->size[TP]; kv++)
        if (m->size[TP] % kv == 0) check_group_kind(m, WEFT_GROUP_KV, kv);
}

START_TEST(groups_follow_their_definitions) {
    for_many_meshes(check_groups);
}
END_TEST

/* Sizes, and that going along one kind of group after another reaches all of dp x fsdp x cp, each rank once.
 */
static void check_cover(const weft_mesh *m, const weft_group_kind *kinds, int count) {
    static group table[3][MOST];
    int tp = m->size[TP], outer = m->ranks / tp;
    for (int k = 0; k < count; k++)
        for (int r = 0; r < m->ranks; r++) table[k][r] = group_of(m, kinds[k], 1, r);
    for (int start = 0; start < m->ranks; start++) {
        int reached[MOST] = {start}, n = 1;
        bool seen[MOST] = {false};
        for (int k = 0; k < count; k++)
            for (int i = 0, from = n; i < from; i++) {
                const group *g = &table[k][reached[i]];
                HOLDS(m, n + g->size - 1 <= outer);
                for (int j = 0; j < g->size; j++)
                    if (j != g->mine) reached[n++] = g->ranks[j];
            }
        HOLDS(m, n == outer);
        for (int i = 0; i < n; i++) {
            HOLDS(m, reached[i] % tp == start % tp && !seen[reached[i]]);
            seen[reached[i]] = true;
        }
    }
}

static void check_covers(const weft_mesh *m) {
    static const weft_group_kind dense[] = {WEFT_GROUP_SHARD, WEFT_GROUP_REPLICA};
    static const weft_group_kind expert[] = {WEFT_GROUP_EP, WEFT_GROUP_EXPERT_SHARD,
                                             WEFT_GROUP_EXPERT_REPLICA};
    int P = m->size[FSDP] * m->size[CP], ep = m->size[EP];
    check_cover(m, dense, 2);
    check_cover(m, expert, 3);
    HOLDS(m, group_of(m, WEFT_GROUP_SHARD, 1, 0).size == P);
    HOLDS(m, group_of(m, WEFT_GROUP_EP, 1, 0).size == ep);
    HOLDS(m, group_of(m, WEFT_GROUP_EXPERT_SHARD, 1, 0).size == (P % ep == 0 ? P / ep : 1));
    HOLDS(m, group_of(m, WEFT_GROUP_WORLD, 1, 0).size == m->ranks);
}

START_TEST(groups_cover_the_outer_ranks_once) {
    for_many_meshes(check_covers);
}
END_TEST

/* Spelt out by hand: dp 2, fsdp 2, cp 2, tp 2 with ep 2 (divides fsdp*cp) and 8 (a multiple of it). */
static void expect_group(const weft_mesh *m, weft_group_kind k, int kv_ranks, int rank, int size,
                         const int *ranks) {
    group g = group_of(m, k, kv_ranks, rank);
    ck_assert_int_eq(g.size, size);
    for (int i = 0; i < size; i++) ck_assert_int_eq(g.ranks[i], ranks[i]);
}
#define EXPECT(m, k, kv, rank, ...)                                                                          \
    expect_group(m, k, kv, rank, sizeof((int[]){__VA_ARGS__}) / sizeof(int), (int[]){__VA_ARGS__})

START_TEST(groups_by_hand) {
    weft_mesh m;
    weft_mesh_sizes want = sizes(2, 2, 2, 2, 2);
    ck_assert_int_eq(weft_mesh_make(&m, &want, 16, 0), WEFT_OK);
    EXPECT(&m, WEFT_GROUP_TP, 1, 5, 4, 5);
    EXPECT(&m, WEFT_GROUP_KV, 1, 5, 5);
    EXPECT(&m, WEFT_GROUP_KV, 2, 5, 4, 5);
    EXPECT(&m, WEFT_GROUP_CP, 1, 5, 5, 7);
    EXPECT(&m, WEFT_GROUP_TOKENS, 1, 5, 4, 5, 6, 7);
    EXPECT(&m, WEFT_GROUP_EP, 1, 5, 5, 7);
    EXPECT(&m, WEFT_GROUP_SHARD, 1, 5, 1, 3, 5, 7);
    EXPECT(&m, WEFT_GROUP_REPLICA, 1, 5, 5, 13);
    EXPECT(&m, WEFT_GROUP_EXPERT_SHARD, 1, 5, 1, 5);
    EXPECT(&m, WEFT_GROUP_EXPERT_REPLICA, 1, 5, 5, 13);
    want.size[EP] = 8;
    ck_assert_int_eq(weft_mesh_make(&m, &want, 16, 0), WEFT_OK);
    EXPECT(&m, WEFT_GROUP_EP, 1, 5, 1, 3, 5, 7, 9, 11, 13, 15);
    EXPECT(&m, WEFT_GROUP_EXPERT_SHARD, 1, 5, 5);
    EXPECT(&m, WEFT_GROUP_EXPERT_REPLICA, 1, 5, 5);
    want = sizes(4, 2, 1, 1, 4);
    ck_assert_int_eq(weft_mesh_make(&m, &want, 8, 0), WEFT_OK);
    EXPECT(&m, WEFT_GROUP_EP, 1, 5, 4, 5, 6, 7);
    EXPECT(&m, WEFT_GROUP_EXPERT_REPLICA, 1, 5, 1, 5);
}
END_TEST

START_TEST(traffic_counts_under_an_axis) {
    static const weft_axis axes[WEFT_GROUPS] = {[WEFT_GROUP_WORLD] = WEFT_AXIS_NONE,
                                                [WEFT_GROUP_TP] = WEFT_AXIS_TP,
                                                [WEFT_GROUP_KV] = WEFT_AXIS_TP,
                                                [WEFT_GROUP_CP] = WEFT_AXIS_CP,
                                                [WEFT_GROUP_TOKENS] = WEFT_AXIS_CP,
                                                [WEFT_GROUP_EP] = WEFT_AXIS_EP,
                                                [WEFT_GROUP_SHARD] = WEFT_AXIS_FSDP,
                                                [WEFT_GROUP_REPLICA] = WEFT_AXIS_DP,
                                                [WEFT_GROUP_EXPERT_SHARD] = WEFT_AXIS_FSDP,
                                                [WEFT_GROUP_EXPERT_REPLICA] = WEFT_AXIS_DP};
    weft_mesh m;
    weft_mesh_sizes want = sizes(1, 1, 2, 2, 1);
    ck_assert_int_eq(weft_mesh_make(&m, &want, 4, 0), WEFT_OK);
    for (int k = 0; k < WEFT_GROUPS; k++) ck_assert_int_eq(weft_group_axis(&m, (weft_group_kind)k), axes[k]);
    m = weft_mesh_single();
    ck_assert_int_eq(weft_group_axis(&m, WEFT_GROUP_TOKENS), WEFT_AXIS_TP);
    ck_assert_str_eq(weft_group_name(WEFT_GROUP_EXPERT_SHARD), "expert fsdp");
    ck_assert_str_eq(weft_group_name(WEFT_GROUP_REPLICA), "dp");
    ck_assert_str_eq(weft_axis_name(WEFT_AXIS_FSDP), "fsdp");
    ck_assert_str_eq(weft_axis_name(WEFT_AXIS_NONE), "none");
    for (int k = 0; k < WEFT_GROUPS; k++) ck_assert_ptr_nonnull(weft_group_name((weft_group_kind)k));
}
END_TEST

/* ---- parts and chunks --------------------------------------------------------------------------- */

START_TEST(parts_and_chunks) {
    for (int64_t n = 0; n < 40; n++)
        for (int parts = 1; parts < 12; parts++) {
            int64_t at = 0;
            for (int i = 0; i < parts; i++) {
                weft_part p = weft_part_of(n, parts, i);
                ck_assert_int_eq(p.start, at);
                ck_assert_int_eq(p.count, n / parts + (i < n % parts));
                at += p.count;
            }
            ck_assert_int_eq(at, n);
        }
    for (int cp = 1; cp <= 8; cp++) {
        int seen[16] = {0}, held = weft_chunks_held(cp);
        ck_assert_int_eq(held, cp == 1 ? 1 : 2);
        for (int r = 0; r < cp; r++)
            for (int slot = 0; slot < held; slot++) {
                int chunk = weft_chunk_of(cp, r, slot);
                ck_assert_int_eq(seen[chunk]++, 0);
                ck_assert_int_eq(weft_chunk_owner(cp, chunk), r);
                ck_assert_int_eq(weft_chunk_slot(cp, chunk), slot);
            }
        for (int chunk = 0; chunk < cp * held; chunk++) ck_assert_int_eq(seen[chunk], 1);
    }
}
END_TEST

/* ---- sizes asked for ---------------------------------------------------------------------------- */

static void accept(weft_mesh_sizes want, int ranks, const char *expected) {
    weft_mesh m;
    char text[128];
    ck_assert_int_eq(weft_mesh_make(&m, &want, ranks, 0), WEFT_OK);
    ck_assert_str_eq(weft_mesh_text(&m, text, sizeof text), expected);
}

START_TEST(auto_takes_the_ranks_left_over) {
    accept(sizes(1, 0, 1, 1, 1), 1, "1 rank");
    accept(sizes(1, 0, 1, 1, 1), 8, "fsdp=8");
    accept(sizes(1, 0, 1, 2, 1), 8, "fsdp=4 tp=2");
    accept(sizes(1, 0, 2, 4, 2), 8, "cp=2 tp=4 ep=2");
    accept(sizes(0, 0, 1, 2, 1), 8, "dp=4 tp=2");
    accept(sizes(0, 2, 1, 2, 1), 8, "dp=2 fsdp=2 tp=2");
    accept(sizes(2, 0, 0, 2, 1), 8, "dp=2 cp=2 tp=2");
    accept(sizes(1, 1, 1, 0, 1), 6, "tp=6");
    accept(sizes(2, 4, 1, 1, 2), 8, "dp=2 fsdp=4 ep=2");
    accept(sizes(1, 0, 1, 1, 3), INT_MAX / 3 * 3, "fsdp=2147483646 ep=3");
    weft_mesh m = weft_mesh_single();
    char little[8];
    m.size[DP] = 123456, m.size[TP] = 2;
    ck_assert_str_eq(weft_mesh_text(&m, little, sizeof little), "dp=1234");
}
END_TEST

static void refuse(weft_mesh_sizes want, int ranks, const char *expected) {
    weft_mesh m, before;
    memset(&m, 0x5a, sizeof m);
    memcpy(&before, &m, sizeof m);
    capture();
    weft_status st = weft_mesh_make(&m, &want, ranks, 0);
    release();
    if (!strstr(message, expected)) ck_abort_msg("expected '%s', got: %.2000s", expected, message);
    ck_assert_int_eq(st, WEFT_EINPUT);
    ck_assert_int_eq(lines(message), 1);
    ck_assert_int_eq(memcmp(&m, &before, sizeof m), 0);
}

START_TEST(refusals_say_the_rule_and_the_nearest) {
    refuse(sizes(1, 3, 1, 2, 1), 8,
           "mesh dp=1 fsdp=3 cp=1 tp=2 takes 6 ranks, but there are 8; nearest that works: fsdp=4 tp=2\n");
    refuse(sizes(1, 1, 1, 1, 1), 8, "takes 1 rank, but there are 8; nearest that works: fsdp=8\n");
    refuse(sizes(1, 1, 1, 2, 1), 1, "takes 2 ranks, but there is 1; nearest that works: tp=1\n");
    refuse(sizes(1, 0, 1, 3, 1), 8,
           "mesh dp=1 fsdp=auto cp=1 tp=3 takes a multiple of 3 ranks, but there are 8; nearest that works: "
           "fsdp=2 "
           "tp=4\n");
    refuse(sizes(1, 0, 1, 16, 1), 8,
           "takes a multiple of 16 ranks, but there are 8; nearest that works: fsdp=1 tp=8\n");
    refuse(sizes(1, 3, 1, 2, 1), 12, "nearest that works: dp=2 fsdp=3 tp=2\n");
    refuse(sizes(2, 2, 1, 1, 1), 8, "nearest that works: dp=2 fsdp=4\n");
    refuse(sizes(1, 5, 1, 1, 1), 7, "nearest that works: fsdp=7\n");
    refuse(sizes(0, 0, 0, 2, 1), 8,
           "mesh dp=auto fsdp=auto cp=auto tp=2: only one axis can be auto, not both dp and cp; nearest that "
           "works: "
           "dp=4 fsdp=1 cp=1 tp=2\n");
    refuse(sizes(1, 8, 1, 1, 3), 8,
           "mesh dp=1 fsdp=8 cp=1 tp=1 ep=3: ep must divide dp*fsdp*cp, which is 8; nearest that works: "
           "fsdp=8 ep=4\n");
    refuse(sizes(2, 0, 1, 1, 4), 12,
           "mesh dp=2 fsdp=auto cp=1 tp=1 ep=4: ep must divide fsdp*cp, which is 6, or be a multiple of it; "
           "nearest "
           "that works: dp=2 fsdp=6 ep=");
    refuse(sizes(1, 8, 1, 1, 0), 8,
           "ep=auto: ep must be at least 1, and cannot be auto; nearest that works: fsdp=8");
    refuse(sizes(1, 0, 1, -2, 1), 8, "tp=-2: tp must be at least 1; nearest that works: fsdp=8 tp=1\n");
    refuse(sizes(INT64_MAX, INT64_MAX, INT64_MAX, INT64_MAX, INT64_MAX), 4,
           "ranks, but there are 4; nearest");
    refuse(sizes(1LL << 32, 1LL << 32, 1, 1, 1), 1, "takes 18446744073709551616 ranks");
    refuse(sizes(1, 0, 1, 1, 1), 0, "a mesh needs at least one rank, not 0");
    refuse(sizes(7, 7, 7, 7, 7), 2095133040, "nearest that works: ");

    weft_mesh m;
    weft_mesh_sizes want = sizes(1, 0, 1, 1, 1);
    capture();
    weft_status st = weft_mesh_make(&m, &want, 4, 4);
    release();
    ck_assert_int_eq(st, WEFT_EINPUT);
    ck_assert_ptr_nonnull(strstr(message, "a mesh of 4 ranks has no rank 4; they are 0 to 3"));
}
END_TEST

/* The advice, laid over what was asked for, is accepted. */
START_TEST(the_nearest_works) {
    static const int64_t tries[] = {0, 1, 2, 3, 4, 6};
    static const int all_ranks[] = {1, 6, 7, 8, 12};
    enum { T = sizeof tries / sizeof *tries };
    int refused = 0;
    for (size_t n = 0; n < sizeof all_ranks / sizeof *all_ranks; n++)
        for (int code = 0; code < T * T * T * T * T; code += 7) {
            weft_mesh_sizes want;
            weft_mesh m;
            for (int a = 0, rest = code; a < WEFT_AXES; a++, rest /= T) want.size[a] = tries[rest % T];
            capture();
            weft_status st = weft_mesh_make(&m, &want, all_ranks[n], 0);
            release();
            if (st == WEFT_OK) continue;
            const char *advice = strstr(message, "nearest that works: ");
            ck_assert_ptr_nonnull(advice);
            for (int a = 0; a < WEFT_AXES; a++) {
                char key[16];
                snprintf(key, sizeof key, " %s=", weft_axis_name((weft_axis)a));
                const char *value = strstr(advice, key);
                if (value) want.size[a] = strtoll(value + strlen(key), NULL, 10);
            }
            if (weft_mesh_make(&m, &want, all_ranks[n], 0) != WEFT_OK)
                ck_abort_msg("bad advice: %s", message);
            refused++;
        }
    ck_assert_int_gt(refused, 1000);
}
END_TEST

SUITE_MAIN("mesh", coordinates_round_trip, groups_follow_their_definitions, groups_cover_the_outer_ranks_once,
           groups_by_hand, traffic_counts_under_an_axis, parts_and_chunks, auto_takes_the_ranks_left_over,
           refusals_say_the_rule_and_the_nearest, the_nearest_works)
