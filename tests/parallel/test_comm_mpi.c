/* The collectives of every group of several meshes, on 1, 2 and 4 ranks (and by hand on any other number). */
#include "parallel/comm.h"
#include "parallel/world.h"
#include "support/suite.h"

#include <stdio.h>
#include <string.h>

static weft_world g_w;
static weft_arena g_work;

/* dp, fsdp, cp, tp, ep; those whose ranks are not this job's are left out. */
static const weft_mesh_sizes g_meshes[] = {
    {{1, 1, 1, 1, 1}}, {{2, 1, 1, 1, 1}}, {{1, 2, 1, 1, 2}}, {{1, 1, 1, 2, 1}}, {{1, 1, 2, 1, 2}},
    {{4, 1, 1, 1, 2}}, {{1, 4, 1, 1, 1}}, {{1, 1, 4, 1, 4}}, {{1, 1, 1, 4, 1}}, {{1, 1, 2, 2, 2}},
    {{2, 2, 1, 1, 2}}, {{2, 1, 2, 1, 4}}, {{1, 2, 1, 2, 2}}, {{0, 1, 1, 1, 1}}, {{1, 0, 1, 1, 1}},
};
enum { MESHES = sizeof g_meshes / sizeof *g_meshes, WORK = 8 << 20 };

static bool make_mesh(weft_mesh *m, int i) {
    int64_t product = 1;
    for (int a = 0; a < WEFT_AXIS_EP; a++) product *= g_meshes[i].size[a];
    if (product != 0 && product != g_w.size) return false;
    ck_assert_int_eq(weft_mesh_make(m, &g_meshes[i], g_w.size, g_w.rank), WEFT_OK);
    return true;
}
/* kv_ranks: the largest that tp allows, halved once. */
static int kv_of(const weft_mesh *m) {
    return m->size[WEFT_AXIS_TP] > 2 ? m->size[WEFT_AXIS_TP] / 2 : m->size[WEFT_AXIS_TP];
}

/* Runs body(c, group kind) for every group of every mesh. */
static void each_group(void (*body)(weft_comm *, weft_group_kind)) {
    for (int i = 0; i < MESHES; i++) {
        weft_mesh mesh;
        weft_comm c;
        if (!make_mesh(&mesh, i)) continue;
        ck_assert_int_eq(weft_comm_open(&c, &mesh, kv_of(&mesh), false, NULL), WEFT_OK);
        for (int k = 0; k < WEFT_GROUPS; k++) body(&c, (weft_group_kind)k);
        weft_comm_close(&c);
    }
}

/* What world rank r holds at i. Sums of such values round, so that they tell one order from another. */
static weft_real leaf(int r, int64_t i) {
    uint64_t u = ((uint64_t)i * 64 + (uint64_t)r + 1) * 0x9e3779b97f4a7c15u;
    u ^= u >> 29;
    return (weft_real)((double)(int64_t)(u * 0xbf58476d1ce4e5b9u) * 0x1p-63 * (double)(1 + (u & 7)));
}
static weft_real *leaves(int64_t n) {
    weft_real *x = malloc((size_t)(n ? n : 1) * sizeof *x);
    for (int64_t i = 0; i < n; i++) x[i] = leaf(g_w.rank, i);
    return x;
}

/* The tree, top down: the first 2^k members (2^k the largest power below their number) plus the others. */
static weft_real tree(const int *ranks, int count, int64_t i) {
    int half = 1;
    if (count == 1) return leaf(ranks[0], i);
    while (2 * half < count) half *= 2;
    return tree(ranks, half, i) + tree(ranks + half, count - half, i);
}

/* got[0..count) holds the group's sums of the elements from `start` on (plus `before` of them). Every element
 * of a short array is compared, some of a long one. */
static void check_sums(const weft_comm *c, weft_group_kind k, const char *what, const weft_real *got,
                       int64_t start, int64_t count, int64_t n, const weft_real *before) {
    int ranks[64], mine, size = weft_mesh_group(&c->mesh, k, c->kv_ranks, ranks, &mine);
    int64_t stride = count > 5000 ? 13 : 1;
    char wrong[256] = "";
    for (int64_t i = 0; i < count && !*wrong; i += stride) {
        weft_real want = tree(ranks, size, start + i);
        if (before) want += before[i];
        if (memcmp(&want, &got[i], sizeof want) != 0)
            snprintf(wrong, sizeof wrong, "%s of %lld over %s (%d): element %lld is %.17g, not %.17g", what,
                     (long long)n, weft_group_name(k), size, (long long)(start + i), (double)got[i],
                     (double)want);
    }
    /* All ranks leave the test together: one alone would keep the others waiting. */
    if (weft_world_any(*wrong)) ck_abort_msg("%s", *wrong ? wrong : "another rank's sum is wrong");
}
/* (Check writes to a file at every assertion: a loop over elements is one.) */
static bool are_leaves(const weft_real *x, int r, int64_t start, int64_t count) {
    for (int64_t i = 0; i < count; i++)
        if (x[i] != leaf(r, start + i)) return false;
    return true;
}

/* ---- sums -----------------------------------------------------------------------------------------------
 */

static void all_reduces(weft_comm *c, weft_group_kind k) {
    const int64_t sizes[] = {0, 1, 3, 1000, 4096, 4097, 8193, 16385, 70001, (1 << 19) + 13};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        weft_real *x = leaves(sizes[s]);
        weft_all_reduce(c, k, "x", WEFT_REAL_DTYPE, x, sizes[s], &g_work);
        check_sums(c, k, "all_reduce", x, 0, sizes[s], sizes[s], NULL);
        free(x);
    }
    int64_t many[3] = {g_w.rank, -1, (int64_t)1 << 40};
    int ranks[64], mine, size = weft_mesh_group(&c->mesh, k, c->kv_ranks, ranks, &mine);
    int64_t sum = 0;
    for (int r = 0; r < size; r++) sum += ranks[r];
    weft_all_reduce_i64(c, k, "many", many, 3);
    ck_assert_int_eq(many[0], sum);
    ck_assert_int_eq(many[1], -size);
    ck_assert_int_eq(many[2], (int64_t)size << 40);
    weft_all_reduce_i64_host(c, k, "many", many, 3);
    ck_assert_int_eq(many[0], size * sum);
    ck_assert_int_eq(many[1], -size * size);
}

static void reduce_scatters(weft_comm *c, weft_group_kind k) {
    const int64_t sizes[] = {1, 50, 5001, (1 << 17) + 3};
    const weft_group *g = &c->group[k];
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        int64_t n = sizes[s], all = n * g->size;
        weft_real *x = leaves(all), *out = malloc((size_t)n * sizeof *out), *own = x + g->rank * n;
        weft_reduce_scatter(c, k, "x", WEFT_REAL_DTYPE, out, x, n, &g_work);
        check_sums(c, k, "reduce_scatter", out, g->rank * n, n, all, NULL);
        ck_assert(are_leaves(x, g_w.rank, 0, all)); /* kept */
        weft_reduce_scatter(c, k, "x", WEFT_REAL_DTYPE, own, x, n, &g_work);
        check_sums(c, k, "reduce_scatter in place", own, g->rank * n, n, all, NULL);
        free(out);
        free(x);
    }
}

static void shard_sums(weft_comm *c, weft_group_kind k) {
    const int64_t sizes[] = {64, 128, 192, 4096 + 64, (1 << 19) + 192};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        int64_t n = sizes[s];
        weft_part part = weft_shard_of(n, c->group[k].size, c->group[k].rank);
        weft_real *x = leaves(n), *mine = malloc((size_t)n * sizeof *mine), *before = leaves(n);
        weft_reduce_shards(c, k, "x", mine, x, n, WEFT_REAL_DTYPE, false, &g_work);
        check_sums(c, k, "reduce_shards", mine, part.start, part.count, n, NULL);
        memcpy(mine, before, (size_t)n * sizeof *mine);
        weft_reduce_shards(c, k, "x", mine, x, n, WEFT_REAL_DTYPE, true, &g_work);
        check_sums(c, k, "reduce_shards, added", mine, part.start, part.count, n, before);
        weft_request r;
        memcpy(mine, before, (size_t)n * sizeof *mine);
        weft_reduce_shards_start(c, k, "x", mine, x, n, WEFT_REAL_DTYPE, true, &g_work, &r);
        weft_comm_finish(c, &r);
        check_sums(c, k, "reduce_shards_start", mine, part.start, part.count, n, before);
        /* Beyond the shard: untouched. */
        ck_assert(are_leaves(mine + part.count, g_w.rank, part.count, n - part.count));
        ck_assert(are_leaves(x, g_w.rank, 0, n));
        free(before);
        free(mine);
        free(x);
    }
}

START_TEST(sums_follow_the_tree) {
    each_group(all_reduces);
    each_group(reduce_scatters);
    each_group(shard_sums);
    ck_assert_uint_eq(g_work.top, 0);
}
END_TEST

/* ---- gathers --------------------------------------------------------------------------------------------
 */

/* `all` of n elements: element i is its owner's leaf. */
static void check_gathered(const weft_comm *c, weft_group_kind k, weft_real *all, int64_t n) {
    int ranks[64], mine, size = weft_mesh_group(&c->mesh, k, c->kv_ranks, ranks, &mine);
    for (int r = 0; r < size; r++) {
        weft_part part = weft_shard_of(n, size, r);
        ck_assert_msg(are_leaves(all + part.start, ranks[r], part.start, part.count), "%s, n %lld: member %d",
                      weft_group_name(k), (long long)n, r);
    }
    memset(all, 0xff, (size_t)n * sizeof *all);
}

static void shard_gathers(weft_comm *c, weft_group_kind k) {
    const int64_t sizes[] = {64, 128, 192, 4096 + 64, 100032};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        int64_t n = sizes[s];
        weft_part part = weft_shard_of(n, c->group[k].size, c->group[k].rank);
        weft_real *own = leaves(n), *all[3];
        for (int i = 0; i < 3; i++) all[i] = malloc((size_t)n * sizeof(weft_real));
        weft_gather_shards(c, k, "elsewhere", WEFT_REAL_DTYPE, all[0], own + part.start, n);
        check_gathered(c, k, all[0], n);
        memcpy(all[0] + part.start, own + part.start, (size_t)part.count * sizeof *own);
        weft_gather_shards(c, k, "in place", WEFT_REAL_DTYPE, all[0], all[0] + part.start, n);
        check_gathered(c, k, all[0], n);
        /* Two started ones with a sum and a whole one between, finished in the other order; twice, so that
         * requests are used again. */
        for (int turn = 0; turn < 2; turn++) {
            weft_request a, b, idle = {0};
            weft_real x = leaf(g_w.rank, 0);
            weft_gather_shards_start(c, k, "a", WEFT_REAL_DTYPE, all[0], own + part.start, n, &a);
            memcpy(all[1] + part.start, own + part.start, (size_t)part.count * sizeof *own);
            weft_gather_shards_start(c, k, "b", WEFT_REAL_DTYPE, all[1], all[1] + part.start, n, &b);
            weft_all_reduce(c, k, "x", WEFT_REAL_DTYPE, &x, 1, &g_work);
            check_sums(c, k, "all_reduce between", &x, 0, 1, 1, NULL);
            weft_gather_shards(c, k, "whole", WEFT_REAL_DTYPE, all[2], own + part.start, n);
            weft_comm_finish(c, &b);
            weft_comm_finish(c, &a);
            weft_comm_finish(c, &a); /* idle by now */
            weft_comm_finish(c, &idle);
            ck_assert_ptr_null(a.handle);
            for (int i = 0; i < 3; i++) check_gathered(c, k, all[i], n);
        }
        for (int i = 0; i < 3; i++) free(all[i]);
        free(own);
    }
}

static void block_gathers(weft_comm *c, weft_group_kind k) {
    const int64_t sizes[] = {0, 1, 7, 48, 100000};
    int ranks[64], mine, size = weft_mesh_group(&c->mesh, k, c->kv_ranks, ranks, &mine);
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        int64_t n = sizes[s];
        unsigned char *all = calloc((size_t)(n * size + 1), 1);
        memset(all + mine * n, 1 + g_w.rank, (size_t)n);
        weft_all_gather(c, k, "blocks", all, n);
        int64_t wrong = 0;
        for (int64_t i = 0; i < n * size; i++) wrong += all[i] != 1 + ranks[i / n];
        ck_assert_int_eq(wrong, 0);
        ck_assert_int_eq(all[n * size], 0);
        free(all);
    }
}

START_TEST(gathers_hold_every_members_part) {
    each_group(shard_gathers);
    each_group(block_gathers);
}
END_TEST

/* ---- tokens, broadcast, neighbours ----------------------------------------------------------------------
 */

static int64_t rows_between(int from, int to, int turn) {
    return turn == 0 ? (3 * from + 5 * to) % 4 : turn == 1 ? (from == to ? 3 : 0) : (from == 0 ? 100000 : 0);
}

static void token_exchanges(weft_comm *c, weft_group_kind k) {
    enum { WORDS = 3 };
    const weft_group *g = &c->group[k];
    for (int turn = 0; turn < 3; turn++) {
        int64_t send_rows[64], recv_rows[64], sent = 0, received = 0, wrong = 0;
        for (int i = 0; i < g->size; i++) {
            sent += send_rows[i] = rows_between(g->rank, i, turn);
            received += recv_rows[i] = rows_between(i, g->rank, turn);
        }
        int32_t *send = malloc((size_t)(sent + 1) * WORDS * sizeof *send);
        int32_t *recv = calloc((size_t)(received + 1) * WORDS, sizeof *recv), *at = send;
        for (int i = 0; i < g->size; i++)
            for (int64_t r = 0; r < send_rows[i]; r++, at += WORDS)
                at[0] = g->rank, at[1] = i, at[2] = (int32_t)r;
        weft_all_to_all(c, k, "tokens", recv, recv_rows, send, send_rows, WORDS * sizeof *send, sent);
        at = recv;
        for (int i = 0; i < g->size; i++)
            for (int64_t r = 0; r < recv_rows[i]; r++, at += WORDS)
                wrong += at[0] != i || at[1] != g->rank || at[2] != r;
        ck_assert_int_eq(wrong, 0);
        ck_assert(at[0] == 0 && at[1] == 0 && at[2] == 0);
        free(send);
        free(recv);
    }
}

static void neighbours(weft_comm *c, weft_group_kind k) {
    const weft_group *g = &c->group[k];
    int next = (g->rank + 1) % g->size, last = (g->rank + g->size - 1) % g->size;
    int32_t mine[5] = {g->rank, 1, 2, 3, 4}, got[5] = {-1}, whole[300];
    weft_send_recv(c, k, "ring", got, last, mine, next, sizeof mine);
    ck_assert(got[0] == last && got[4] == 4);
    got[0] = -7;
    weft_send_recv(c, k, "line", got, g->rank == 0 ? -1 : last, mine, g->rank == g->size - 1 ? -1 : next,
                   sizeof mine);
    ck_assert_int_eq(got[0], g->rank == 0 ? -7 : last);
    weft_send_recv(c, k, "self", got, g->rank, mine, g->rank, sizeof mine);
    ck_assert_int_eq(got[0], g->rank);
    weft_send_recv(c, k, "none", got, -1, NULL, -1, sizeof mine);
    for (int i = 0; i < 300; i++) whole[i] = g->rank == g->size - 1 ? i : 0;
    weft_broadcast(c, k, "whole", whole, sizeof whole, g->size - 1);
    int wrong = 0;
    for (int i = 0; i < 300; i++) wrong += whole[i] != i;
    ck_assert_int_eq(wrong, 0);
}

START_TEST(rows_reach_their_members) {
    each_group(token_exchanges);
    each_group(neighbours);
}
END_TEST

/* ---- dry runs and records -------------------------------------------------------------------------------
 */

/* One call of each kind. A dry communicator gets addresses that must not be touched. */
static void one_of_each(weft_comm *c, weft_group_kind k, char *memory, weft_arena *work) {
    const weft_group *g = &c->group[k];
    weft_real *x = (weft_real *)memory, *y = (weft_real *)(memory + ((size_t)4 << 20));
    int64_t rows[512], n = 4096 + 192;
    weft_request r;
    for (int i = 0; i < g->size; i++) rows[i] = 2;
    weft_all_reduce(c, k, "small", WEFT_REAL_DTYPE, x, 100, work);
    weft_all_reduce(c, k, "large", WEFT_REAL_DTYPE, x, 77777, work);
    weft_all_reduce_i64(c, k, "many", (int64_t *)memory, 25);
    weft_all_reduce_i64_host(c, k, "some", (int64_t *)memory, 7);
    weft_all_gather(c, k, "blocks", x, 1001);
    weft_reduce_scatter(c, k, "rows", WEFT_REAL_DTYPE, y, x, 999, work);
    weft_gather_shards(c, k, "weights", WEFT_REAL_DTYPE, y, x, n);
    weft_gather_shards_start(c, k, "weights", WEFT_REAL_DTYPE, y, x, n, &r);
    weft_comm_finish(c, &r);
    weft_reduce_shards(c, k, "grads", y, x, n, WEFT_REAL_DTYPE, true, work);
    weft_all_to_all(c, k, "tokens", y, c->dry ? NULL : rows, x, c->dry ? NULL : rows, 24, 2 * g->size);
    weft_broadcast(c, k, "batch", x, 333, 0);
    weft_send_recv(c, k, "halo", y, g->rank - 1, x, g->rank + 1 < g->size ? g->rank + 1 : -1, 555);
}

START_TEST(a_dry_run_counts_what_a_real_one_moves) {
    char *memory = calloc((size_t)8 << 20, 1);
    weft_arena measured;
    ck_assert_int_eq(weft_arena_init_measuring(&measured, "measured"), WEFT_OK);
    for (int i = 0; i < MESHES; i++) {
        weft_mesh mesh;
        weft_comm real, dry;
        if (!make_mesh(&mesh, i)) continue;
        ck_assert_int_eq(weft_comm_open(&real, &mesh, kv_of(&mesh), false, NULL), WEFT_OK);
        ck_assert_int_eq(weft_comm_open(&dry, &mesh, kv_of(&mesh), true, NULL), WEFT_OK);
        g_work.peak = measured.peak = 0;
        for (int k = 0; k < WEFT_GROUPS; k++) {
            ck_assert_int_eq(real.group[k].size, dry.group[k].size);
            one_of_each(&dry, (weft_group_kind)k, (char *)64, &measured);
            one_of_each(&real, (weft_group_kind)k, memory, &g_work);
        }
        for (int a = 0; a <= WEFT_AXES; a++) ck_assert_int_eq(real.bytes[a], dry.bytes[a]);
        ck_assert_uint_eq(g_work.peak, measured.peak);
        ck_assert_uint_eq(measured.top, 0);
        ck_assert(g_w.size == 1 || (measured.peak > 0 && real.bytes[WEFT_AXES] > 0));
        weft_comm_close(&dry);
        weft_comm_close(&real);
    }
    weft_arena_destroy(&measured);
    free(memory);
}
END_TEST

START_TEST(a_plan_needs_no_ranks) {
    weft_mesh_sizes want = {{4, 8, 4, 4, 16}};
    weft_mesh mesh;
    weft_comm c;
    weft_arena work;
    ck_assert_int_eq(weft_mesh_make(&mesh, &want, 512, 511), WEFT_OK);
    ck_assert_int_eq(weft_comm_open(&c, &mesh, 1, true, NULL), WEFT_OK);
    ck_assert_int_eq(weft_arena_init_measuring(&work, "work"), WEFT_OK);
    for (int k = 0; k < WEFT_GROUPS; k++) one_of_each(&c, (weft_group_kind)k, (char *)64, &work);
    memset(c.bytes, 0, sizeof c.bytes);
    const int64_t real = sizeof(weft_real), shards = 32;
    weft_gather_shards(&c, WEFT_GROUP_SHARD, "", WEFT_REAL_DTYPE, NULL, NULL, 3200 * 64);
    ck_assert_int_eq(c.bytes[WEFT_AXIS_FSDP], (shards - 1) * 100 * 64 * real);
    weft_reduce_shards(&c, WEFT_GROUP_SHARD, "", NULL, NULL, 3201 * 64, WEFT_REAL_DTYPE, false,
                       &work); /* the largest has 101 grains */
    ck_assert_int_eq(c.bytes[WEFT_AXIS_FSDP], (shards - 1) * 201 * 64 * real);
    weft_all_reduce(&c, WEFT_GROUP_TP, "", WEFT_REAL_DTYPE, NULL, 4096, &work);
    ck_assert_int_eq(c.bytes[WEFT_AXIS_TP], 3 * 4096 * real);
    weft_all_reduce(&c, WEFT_GROUP_REPLICA, "", WEFT_REAL_DTYPE, NULL, 40001, &work);
    ck_assert_int_eq(c.bytes[WEFT_AXIS_DP], 2 * 3 * 10001 * real);
    weft_all_to_all(&c, WEFT_GROUP_EP, "", NULL, NULL, NULL, NULL, 10, 12);
    ck_assert_int_eq(c.bytes[WEFT_AXIS_EP], 120);
    weft_send_recv(&c, WEFT_GROUP_CP, "", NULL, 0, NULL, -1, 9);
    weft_send_recv(&c, WEFT_GROUP_CP, "", NULL, c.group[WEFT_GROUP_CP].rank, NULL,
                   c.group[WEFT_GROUP_CP].rank, 9);
    ck_assert_int_eq(c.bytes[WEFT_AXIS_CP], 9);
    ck_assert_uint_le(work.peak, (size_t)512 * (1 << 14) * sizeof(weft_real)); /* in the group of all ranks */
    weft_arena_destroy(&work);
    weft_comm_close(&c);
    weft_comm_close(&c); /* a zeroed struct */
}
END_TEST

START_TEST(the_ledger_counts_the_same) {
    char dir[] = "/tmp/weft_comm_XXXXXX", command[64], verdict[512];
    char *memory = calloc((size_t)8 << 20, 1);
    ck_assert(g_w.rank != 0 || mkdtemp(dir));
    weft_world_bcast(dir, sizeof dir, 0);
    for (int i = 0; i < MESHES; i++) {
        weft_mesh mesh;
        weft_comm c;
        bool parted = true;
        if (!make_mesh(&mesh, i)) continue;
        ck_assert_int_eq(weft_comm_open(&c, &mesh, kv_of(&mesh), false, NULL), WEFT_OK);
        weft_ledger *ledger = NULL;
        ck_assert_int_eq(weft_ledger_open(&ledger, dir, &mesh, kv_of(&mesh)), WEFT_OK);
        c.ledger = ledger;
        weft_ledger_step_begin(ledger, 1);
        for (int k = 0; k < WEFT_GROUPS; k++) one_of_each(&c, (weft_group_kind)k, memory, &g_work);
        weft_ledger_step_end(ledger);
        int64_t step[WEFT_AXES + 1];
        weft_ledger_step_bytes(ledger, step);
        for (int a = 0; a <= WEFT_AXES; a++) ck_assert_int_eq(step[a], c.bytes[a]);
        weft_world_barrier();
        ck_assert_int_eq(weft_ledger_examine(dir, verdict, sizeof verdict, &parted), WEFT_OK);
        ck_assert_msg(!parted, "%s", verdict);
        weft_world_barrier();
        c.ledger = NULL;
        weft_ledger_close(ledger);
        weft_comm_close(&c);
    }
    snprintf(command, sizeof command, "rm -r %s", dir);
    weft_world_barrier();
    if (g_w.rank == 0) ck_assert_int_eq(system(command), 0);
    free(memory);
}
END_TEST

/* ---- faults ---------------------------------------------------------------------------------------------
 */

START_TEST(an_injected_fault_skips_one_collective) {
    weft_mesh_sizes want = {{0, 1, 1, 1, 1}};
    weft_mesh mesh;
    weft_comm c;
    if (g_w.size == 1) return;
    ck_assert_int_eq(weft_mesh_make(&mesh, &want, g_w.size, g_w.rank), WEFT_OK);
    setenv("WEFT_FAULT", "stumble:1:halo", 1);
    ck_assert_int_eq(weft_comm_open(&c, &mesh, 1, false, NULL), WEFT_EINPUT);
    setenv("WEFT_FAULT", "skip:1:layers.0:halo", 1);
    ck_assert_int_eq(weft_comm_open(&c, &mesh, 1, false, NULL), WEFT_OK);
    unsetenv("WEFT_FAULT");
    /* Rank 0 sends 1, 2, 3 to rank 1, which skips the second: it finds 2 when it looks for the third. */
    const char *const names[] = {"halo", "layers.0:halo", "layers.0:halo"};
    int got[3] = {0}, extra = 0;
    for (int i = 0; i < 3; i++) {
        int value = i + 1;
        weft_send_recv(&c, WEFT_GROUP_WORLD, names[i], &got[i], g_w.rank == 1 ? 0 : -1, &value,
                       g_w.rank == 0 ? 1 : -1, sizeof value);
    }
    if (g_w.rank == 1) {
        weft_send_recv(&c, WEFT_GROUP_WORLD, "rest", &extra, 0, NULL, -1, sizeof extra);
        ck_assert(got[0] == 1 && got[1] == 0 && got[2] == 2 && extra == 3);
    }
    weft_comm_close(&c);
}
END_TEST

START_TEST(one_rank_copies_where_it_must) {
    weft_comm c;
    weft_comm_single(&c);
    weft_real x[64], y[64] = {0};
    int64_t rows = 2;
    weft_request r;
    for (int i = 0; i < 64; i++) x[i] = (weft_real)i;
    weft_gather_shards_start(&c, WEFT_GROUP_SHARD, "", WEFT_REAL_DTYPE, y, x, 64, &r);
    weft_comm_finish(&c, &r);
    ck_assert_mem_eq(x, y, sizeof x);
    weft_reduce_shards(&c, WEFT_GROUP_SHARD, "", y, x, 64, WEFT_REAL_DTYPE, true, &g_work);
    for (int i = 0; i < 64; i++) ck_assert(y[i] == 2 * x[i]);
    weft_reduce_scatter(&c, WEFT_GROUP_TP, "", WEFT_REAL_DTYPE, y, x, 64, &g_work);
    ck_assert_mem_eq(x, y, sizeof x);
    memset(y, 0, sizeof y);
    weft_all_to_all(&c, WEFT_GROUP_EP, "", y, &rows, x, &rows, sizeof *x, 2);
    ck_assert(y[1] == x[1] && y[2] == 0);
    for (int a = 0; a <= WEFT_AXES; a++) ck_assert_int_eq(c.bytes[a], 0);
}
END_TEST

int main(int argc, char **argv) {
    const TTest *const tests[] = {sums_follow_the_tree,
                                  gathers_hold_every_members_part,
                                  rows_reach_their_members,
                                  a_dry_run_counts_what_a_real_one_moves,
                                  a_plan_needs_no_ranks,
                                  the_ledger_counts_the_same,
                                  an_injected_fault_skips_one_collective,
                                  one_rank_copies_where_it_must};
    if (weft_world_init(&argc, &argv, &g_w) != WEFT_OK) return 1;
    if (weft_arena_init(&g_work, "work", WORK) != WEFT_OK) return 1;
    int code = weft_world_exit_code(suite_run("comm", tests, (int)(sizeof tests / sizeof *tests)));
    weft_arena_destroy(&g_work);
    weft_world_finalize();
    return code;
}
