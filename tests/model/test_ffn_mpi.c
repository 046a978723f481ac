/* The feed-forward blocks over tp and ep: on every mesh of the job's ranks, each rank's rows of the output
 * and of the input's gradient, and its slices of the parameters' gradients, against the same block on one
 * rank with whole parameters. */
#include "model/block.h"
#include "parallel/world.h"
#include "support/suite.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { D = 12, F = 10, M = 24, MAX_EXPERTS = 5, K = 2 };

static weft_world g_world;
static weft_arena g_work;
static int g_wrong;

/* A rank that left a test at its first failure would let the others wait in the next collective. */
static void expect(bool ok, const char *what, double got, double wanted) {
    if (!ok && g_wrong++ == 0)
        fprintf(stderr, "rank %d: %s: %.9g instead of %.9g\n", g_world.rank, what, got, wanted);
}
static void expect_close(const char *what, const weft_real *got, const weft_real *wanted, int64_t n) {
    double largest = 1e-3;
    for (int64_t i = 0; i < n; i++) largest = fmax(largest, fabs((double)wanted[i]));
    for (int64_t i = 0; i < n; i++)
        expect(fabs((double)(got[i] - wanted[i])) <= 1e-5 * largest, what, (double)got[i], (double)wanted[i]);
}

/* One block on one rank of a mesh, and what a pass leaves behind. */
typedef struct bench {
    weft_model_config config;
    weft_params table;
    weft_block block;
    weft_store *store;
    weft_device device;
    weft_pass pass;
    weft_real *params, *grads, *out, *dx;
    int64_t counts[K * MAX_EXPERTS];
    weft_real prob_sum[MAX_EXPERTS], lse2, dprob[MAX_EXPERTS];
} bench;

static weft_real *array(int64_t n) {
    weft_real *x = calloc((size_t)n + 1, sizeof *x);
    ck_assert_ptr_nonnull(x);
    return x;
}

/* All rows that the tp group of `outer` works on. Alike rows choose the same experts, and leave the others
 * idle. */
static weft_real *random_rows(const char *name, int outer, bool alike) {
    weft_real *x = array(M * D);
    weft_rng rng = weft_rng_make(alike ? 7 : (uint64_t)(8 + outer), name);
    for (int64_t i = 0; i < M * D; i++) x[i] = (weft_real)weft_rng_normal(rng, (uint64_t)(alike ? i % D : i));
    return x;
}

static void forward(bench *b, weft_act *out, const weft_real *x, bool training, bool recomputing) {
    b->pass.training = training;
    b->pass.recomputing = recomputing;
    b->block.kind->forward(&b->block, &b->pass, out, x);
}

/* Forward with and without training, then again as recomputation, and backward; each leaves what it should.
 */
static void run(bench *b, weft_comm *comm, const weft_real *x, const weft_real *dout) {
    weft_arena *arena = &b->device.act;
    b->pass.comm = comm;
    forward(b, b->out, x, false, false);
    expect(arena->top == 0, "left by inference", (double)arena->top, 0);
    memset(b->out, 0, sizeof *b->out);
    forward(b, b->out, x, true, false);
    weft_arena_release(arena, 0);
    forward(b, NULL, x, true, true);
    size_t top = arena->top;
    memset(b->grads, 0, (size_t)b->table.flat * sizeof *b->grads);
    b->block.kind->backward(&b->block, &b->pass, b->dx, dout, x);
    expect(arena->top == top, "left by backward", (double)arena->top, (double)top);
    weft_arena_release(arena, 0);
}

/* Sizes the arena by a dry pass, which the real one must not exceed, and runs. */
static void bench_run(bench *b, const weft_block_kind *kind, int experts, int passes, weft_comm *comm,
                      const weft_real *x, const weft_real *dout) {
    const weft_mesh *mesh = &comm->mesh;
    *b = (bench){.config = {.hidden_size = D,
                            .intermediate_size = F,
                            .num_hidden_layers = 1,
                            .num_experts = experts,
                            .num_experts_per_tok = K,
                            .norm_topk_prob = true,
                            .initializer_range = 0.4},
                 .table = {.mesh = *mesh, .act = WEFT_REAL_DTYPE, .experts = experts}};
    b->block = (weft_block){.kind = kind, .config = &b->config, .table = &b->table};
    snprintf(b->block.name, sizeof b->block.name, "layers.0.%s", kind->name);
    kind->declare(&b->block, &b->config, &b->table);
    weft_params_place(&b->table);
    b->params = array(b->table.flat), b->grads = array(b->table.flat);
    weft_params_init(&b->table, b->params, 5);
    ck_assert_int_eq(weft_store_open_whole(&b->store, b->table.buckets, b->table.bucket_count), WEFT_OK);
    weft_store_set_whole(b->store, b->params, b->grads);
    ck_assert_int_eq(weft_device_open_cpu(&b->device), WEFT_OK);
    int64_t rows = M / mesh->size[WEFT_AXIS_TP], own = rows * mesh->index[WEFT_AXIS_TP] * D;
    b->out = array(rows * D), b->dx = array(rows * D);
    b->pass = (weft_pass){.dev = &b->device,
                          .store = b->store,
                          .B = 1,
                          .T = M,
                          .M = M,
                          .C = 1,
                          .L = M,
                          .rows = rows,
                          .ep_passes = passes,
                          .moe_counts = b->counts,
                          .moe_prob_sum = b->prob_sum,
                          .moe_lse2 = &b->lse2,
                          .moe_dprob = b->dprob,
                          .moe_dlse2 = (weft_real)0.01};
    for (int j = 0; j < experts; j++) b->dprob[j] = (weft_real)(0.1 * (j + 1));

    weft_comm dry;
    ck_assert_int_eq(weft_comm_open(&dry, mesh, 1, true, NULL), WEFT_OK);
    ck_assert_int_eq(weft_device_measure(&b->device), WEFT_OK);
    memset(comm->bytes, 0, sizeof comm->bytes);
    run(b, &dry, x + own, dout + own);
    ck_assert_int_eq(weft_device_size(&b->device, b->device.act.peak), WEFT_OK);
    run(b, comm, x + own, dout + own);
    for (int a = 0; a <= WEFT_AXES; a++)
        expect(dry.bytes[a] == comm->bytes[a], "bytes", (double)comm->bytes[a], (double)dry.bytes[a]);
    weft_comm_close(&dry);
}

static void bench_close(bench *b) {
    free(b->block.host_rows);
    weft_store_close(b->store);
    weft_params_free(&b->table);
    weft_device_close(&b->device);
    free(b->params);
    free(b->grads);
    free(b->out);
    free(b->dx);
}

/* The gradients of this rank's slices: of experts summed over the tokens of the whole ep group. */
static void check_grads(bench *b, const bench *one, weft_comm *comm) {
    const weft_params *whole = &one->table;
    weft_real *all = array(whole->flat);
    memcpy(all, one->grads, (size_t)whole->flat * sizeof *all);
    weft_all_reduce(comm, WEFT_GROUP_EP, "reference", WEFT_REAL_DTYPE, all, whole->flat, &g_work);
    for (int64_t i = 0; i < b->table.count; i++) {
        const weft_param *r = &b->table.rows[i], *w = &whole->rows[i];
        weft_real *got = b->grads + r->at, *wanted = array(r->held);
        const weft_real *from = (r->expert >= 0 ? all : one->grads) + w->at;
        if (r->split == WEFT_REPLICATED)
            weft_all_reduce(comm, WEFT_GROUP_TP, "router", WEFT_REAL_DTYPE, got, r->held, &g_work);
        for (int64_t k = 0; k < r->held; k++)
            wanted[k] = from[(r->start[0] + k / r->extent[1]) * r->shape[1] + r->start[1] + k % r->extent[1]];
        expect_close(r->name, got, wanted, r->held);
        free(wanted);
    }
    free(all);
}

static void check_statistics(bench *b, const bench *one, weft_comm *comm, int experts) {
    weft_all_reduce_i64(comm, WEFT_GROUP_TP, "counts", b->counts, K * experts);
    weft_all_reduce(comm, WEFT_GROUP_TP, "probabilities", WEFT_REAL_DTYPE, b->prob_sum, experts, &g_work);
    for (int i = 0; i < K * experts; i++)
        expect(b->counts[i] == one->counts[i], "counts", (double)b->counts[i], (double)one->counts[i]);
    expect_close("probabilities", b->prob_sum, one->prob_sum, experts);
}

/* The tokens in `passes` parts against all at once on one rank. Returns the memory that the former took. */
static size_t compare_in(int passes, const weft_block_kind *kind, int experts, int fsdp, int tp, int ep,
                         bool alike) {
    weft_mesh mesh;
    weft_comm comm, single;
    weft_mesh_sizes want = {{1, fsdp, 1, tp, ep}};
    if (fsdp * tp != g_world.size) return 0;
    ck_assert_int_eq(weft_mesh_make(&mesh, &want, g_world.size, g_world.rank), WEFT_OK);
    ck_assert_int_eq(weft_comm_open(&comm, &mesh, 1, false, NULL), WEFT_OK);
    weft_comm_single(&single);
    weft_real *x = random_rows("x", mesh.index[WEFT_AXIS_FSDP], alike);
    weft_real *dout = random_rows("dout", mesh.index[WEFT_AXIS_FSDP], false);
    bench one, many;
    bench_run(&one, kind, experts, 1, &single, x, dout);
    bench_run(&many, kind, experts, passes, &comm, x, dout);
    int64_t n = M / tp * D, own = n * mesh.index[WEFT_AXIS_TP];
    expect_close("output", many.out, one.out + own, n);
    expect_close("input's gradient", many.dx, one.dx + own, n);
    check_grads(&many, &one, &comm);
    if (kind == &weft_block_moe) check_statistics(&many, &one, &comm, experts);
    size_t bytes = many.device.act.capacity;
    bench_close(&one);
    bench_close(&many);
    free(x);
    free(dout);
    weft_comm_close(&comm);
    ck_assert_msg(!weft_world_any(g_wrong > 0), "fsdp=%d tp=%d ep=%d, %d experts, %d passes: see above", fsdp,
                  tp, ep, experts, passes);
    return bytes;
}

/* With ep in several passes as well, which take less memory: even and uneven parts, of one token each, and no
 * more than there are tokens. */
static void compare(const weft_block_kind *kind, int experts, int fsdp, int tp, int ep, bool alike) {
    static const int passes[] = {2, 3, 5, M, M + 1};
    size_t at_once = compare_in(1, kind, experts, fsdp, tp, ep, alike);
    for (size_t i = 0; ep > 1 && i < sizeof passes / sizeof *passes; i++) {
        size_t bytes = compare_in(passes[i], kind, experts, fsdp, tp, ep, alike);
        ck_assert(bytes < at_once || at_once == 0);
    }
}

START_TEST(mlp) {
    compare(&weft_block_mlp, 1, g_world.size, 1, 1, false);
    compare(&weft_block_mlp, 1, 1, g_world.size, 1, false);
    compare(&weft_block_mlp, 1, 2, 2, 1, false);
}
END_TEST

START_TEST(experts_in_slices) {
    compare(&weft_block_moe, 5, g_world.size, 1, 1, false);
    compare(&weft_block_moe, 5, 1, g_world.size, 1, false);
}
END_TEST

START_TEST(experts_on_different_ranks) {
    compare(&weft_block_moe, 5, g_world.size, 1, g_world.size, false);
    compare(&weft_block_moe, 4, 4, 1, 2, false);
    compare(&weft_block_moe, 5, 2, 2, 2, false);
}
END_TEST

START_TEST(idle_experts_and_ranks) {
    compare(&weft_block_moe, 5, g_world.size, 1, g_world.size, true);
    compare(&weft_block_moe, 3, g_world.size, 1, g_world.size, false); /* with 4 ranks one has no expert */
    compare(&weft_block_moe, 3, 2, 2, 2, true);
}
END_TEST

int main(int argc, char **argv) {
    const TTest *const tests[] = {mlp, experts_in_slices, experts_on_different_ranks, idle_experts_and_ranks};
    if (weft_world_init(&argc, &argv, &g_world) != WEFT_OK) return 1;
    if (weft_arena_init(&g_work, "test", 1 << 20) != WEFT_OK) return 1;
    int rc = suite_run("feed-forward over ranks", tests, sizeof tests / sizeof *tests);
    weft_arena_destroy(&g_work);
    weft_world_finalize();
    return rc;
}
