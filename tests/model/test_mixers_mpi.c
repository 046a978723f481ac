/* Attention and Mamba blocks over tp and cp against the same block on one rank: outputs, gradients of inputs
 * and of every parameter. Each rank works out the reference as well. */
#include "model/block.h"
#include "model/layout.h"
#include "parallel/world.h"
#include "support/ranks.h"
#include "support/suite.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* Of the largest element of a tensor. */
#define TOLERANCE (WEFT_REAL_IS_DOUBLE ? 1e-12 : 2e-5)

static weft_world g_world;

/* A block with everything that it needs, and what it made of x and dout. */
typedef struct side {
    weft_comm comm;
    weft_device device;
    weft_params table;
    weft_block block;
    weft_store *store;
    weft_real *params, *grads;
    weft_pass pass;
    int32_t *doc_start, *doc_local;
    weft_real *x, *dout, *out, *dx; /* [rows, D] */
} side;

static void *array(int64_t n, size_t size) {
    void *p = calloc((size_t)n + 1, size);
    ck_assert_ptr_nonnull(p);
    return p;
}
static weft_real noise(const char *name, int64_t i) {
    return (weft_real)weft_rng_normal(weft_rng_make(5, name), (uint64_t)i);
}

/* ---- a rank's part of tokens and parameters ----------------------------------------------------- */

/* Where this rank's token m stands among all tokens [B, sequence]. */
static int64_t token_of(const weft_pass *s, int64_t m) {
    int64_t b = m / s->T, c = m % s->T / s->L, cp = weft_axis_size(s, WEFT_AXIS_CP);
    return b * cp * s->T + weft_chunk_start(s, c) + m % s->L;
}
/* The same of row r of this rank's residual stream. */
static int64_t token_of_row(const weft_pass *s, int64_t r) {
    return token_of(s, weft_axis_index(s, WEFT_AXIS_TP) * s->rows + r);
}
static int64_t whole_index(const weft_param *r, int64_t i) {
    int64_t columns = r->ndim > 1 ? r->extent[1] : 1, width = r->ndim > 1 ? r->shape[1] : 1;
    return (r->start[0] + i / columns) * width + (r->ndim > 1 ? r->start[1] : 0) + i % columns;
}

static void fill_params(side *a) {
    weft_params_init(&a->table, a->params, 7);
    for (int64_t i = 0; i < a->table.count; i++) {
        const weft_param *r = &a->table.rows[i];
        double spread = r->init == WEFT_INIT_NORMAL ? 0.25 : 0.2;
        for (int64_t k = 0; k < r->held; k++)
            a->params[r->at + k] += (weft_real)(spread * (double)noise(r->name, whole_index(r, k)));
    }
}

/* A document of about `length` tokens follows another; length 0: one each sequence, and no doc_start. */
static void fill_tokens(side *a, int64_t length) {
    weft_pass *s = &a->pass;
    int64_t D = a->block.config->hidden_size, cp = weft_axis_size(s, WEFT_AXIS_CP);
    for (int64_t i = 0; i < s->rows * D; i++) {
        int64_t at = token_of_row(s, i / D) * D + i % D;
        a->x[i] = noise("x", at);
        a->dout[i] = noise("dout", at);
    }
    for (int64_t m = 0; m < s->M; m++) {
        int64_t token = token_of(s, m), position = token % (cp * s->T), start = position;
        while (start > 0 &&
               weft_rng_below(weft_rng_make(3, "documents"), (uint64_t)(token - position + start),
                              (uint64_t)(length ? length : 1)) != 0)
            start--;
        a->doc_start[m] = (int32_t)start;
        a->doc_local[m] = (int32_t)(start - weft_chunk_start(s, m % s->T / s->L));
    }
    s->doc_start = length ? a->doc_start : NULL;
    s->doc_local = length ? a->doc_local : NULL;
}

/* ---- running ------------------------------------------------------------------------------------ */

static void run_training(side *a) {
    weft_arena *arena = &a->device.act;
    weft_pass *s = &a->pass;
    s->training = true;
    a->block.kind->forward(&a->block, s, a->out, a->x);
    weft_arena_release(arena, 0);
    a->block.kind->forward(&a->block, s, NULL, a->x); /* as recomputation does */
    size_t kept = weft_arena_mark(arena);
    a->block.kind->backward(&a->block, s, a->dx, a->dout, a->x);
    expect(weft_arena_mark(arena) == kept, "%s: backward leaves something on the arena", a->block.name);
    weft_arena_release(arena, 0);
}

/* The forward pass alone: the same bits, nothing is left. */
static void run_evaluation(side *a) {
    weft_pass *s = &a->pass;
    int64_t n = s->rows * a->block.config->hidden_size;
    weft_real *out = array(n, sizeof *out);
    s->training = false;
    a->block.kind->forward(&a->block, s, out, a->x);
    expect(weft_arena_mark(&a->device.act) == 0, "%s: forward leaves something on the arena", a->block.name);
    expect(memcmp(out, a->out, (size_t)n * sizeof *out) == 0, "%s: evaluation differs", a->block.name);
    free(out);
}

/* A dry pass on a dry communicator says how much memory the real one takes. */
static void size_device(side *a, int kv_ranks) {
    weft_comm dry = {0};
    ck_assert_int_eq(weft_comm_open(&dry, &a->table.mesh, kv_ranks, true, NULL), WEFT_OK);
    ck_assert_int_eq(weft_device_measure(&a->device), WEFT_OK);
    a->pass.comm = &dry;
    run_training(a);
    weft_comm_close(&dry);
    a->pass.comm = &a->comm;
    ck_assert_int_eq(weft_device_size(&a->device, a->device.act.peak), WEFT_OK);
}

static void open_side(side *a, const weft_block_kind *kind, const weft_config *c, const weft_mesh *mesh,
                      int64_t B, int64_t T, int64_t length) {
    int kv_ranks = weft_layout_kv_ranks(&c->model, mesh);
    int64_t cp = mesh->size[WEFT_AXIS_CP], D = c->model.hidden_size, held = weft_chunks_held((int)cp);
    *a = (side){.table = {.mesh = *mesh, .act = WEFT_REAL_DTYPE},
                .block = {.kind = kind, .config = &c->model}};
    snprintf(a->block.name, sizeof a->block.name, "layers.0.%s", kind->name);
    a->block.table = &a->table;
    ck_assert_int_eq(weft_comm_open(&a->comm, mesh, kv_ranks, false, NULL), WEFT_OK);
    kind->declare(&a->block, &c->model, &a->table);
    weft_params_place(&a->table);
    a->params = array(a->table.flat, sizeof *a->params);
    a->grads = array(a->table.flat, sizeof *a->grads);
    ck_assert_int_eq(weft_store_open_whole(&a->store, a->table.buckets, a->table.bucket_count), WEFT_OK);
    weft_store_set_whole(a->store, a->params, a->grads);
    a->pass = (weft_pass){.dev = &a->device,
                          .comm = &a->comm,
                          .store = a->store,
                          .B = B,
                          .T = T / cp,
                          .M = B * T / cp,
                          .C = held,
                          .L = T / cp / held,
                          .rows = B * T / cp / mesh->size[WEFT_AXIS_TP]};
    a->doc_start = array(a->pass.M, sizeof *a->doc_start);
    a->doc_local = array(a->pass.M, sizeof *a->doc_local);
    weft_real **arrays[] = {&a->x, &a->dout, &a->out, &a->dx};
    for (int i = 0; i < 4; i++) *arrays[i] = array(a->pass.rows * D, sizeof **arrays[i]);
    fill_params(a);
    fill_tokens(a, length);
    ck_assert_int_eq(weft_device_open_cpu(&a->device), WEFT_OK);
    size_device(a, kv_ranks);
    run_training(a);
    expect(a->device.act.peak == a->device.act.capacity, "%s: %zu bytes planned, %zu used", a->block.name,
           a->device.act.capacity, a->device.act.peak);
    run_evaluation(a);
}

static void close_side(side *a) {
    void *arrays[] = {a->params, a->grads, a->doc_start, a->doc_local, a->x, a->dout, a->out, a->dx};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++) free(arrays[i]);
    weft_store_close(a->store);
    weft_params_free(&a->table);
    weft_device_close(&a->device);
    weft_comm_close(&a->comm);
}

/* ---- comparing ---------------------------------------------------------------------------------- */

static void compare(const char *what, const char *tensor, const weft_mesh *mesh, double got, double want,
                    double largest) {
    char text[64];
    expect(fabs(got - want) <= TOLERANCE * largest, "%s of %s, %s: %.9g, on one rank %.9g (largest %.3g)",
           what, tensor, weft_mesh_text(mesh, text, sizeof text), got, want, largest);
}
static double largest_of(const weft_real *x, int64_t n) {
    double largest = 0;
    for (int64_t i = 0; i < n; i++) largest = fmax(largest, fabs((double)x[i]));
    return largest;
}

static void compare_rows(const char *what, const side *one, const side *a, const weft_real *whole,
                         const weft_real *mine) {
    int64_t D = one->block.config->hidden_size;
    double largest = largest_of(whole, one->pass.rows * D);
    for (int64_t i = 0; i < a->pass.rows * D; i++)
        compare(what, a->block.name, &a->table.mesh, (double)mine[i],
                (double)whole[token_of_row(&a->pass, i / D) * D + i % D], largest);
}

/* Every cp rank has its tokens' part of a gradient; of replicated parameters every tp rank has a part as
 * well. */
static void compare_gradients(const side *one, side *a) {
    weft_arena work;
    ck_assert_int_eq(weft_arena_init(&work, "sums", 8 << 20), WEFT_OK);
    weft_all_reduce(&a->comm, WEFT_GROUP_CP, "gradients", WEFT_REAL_DTYPE, a->grads, a->table.flat, &work);
    for (int64_t i = 0; i < a->table.count; i++) {
        const weft_param *r = &a->table.rows[i], *whole = &one->table.rows[i];
        const weft_real *want = one->grads + whole->at;
        weft_real *mine = a->grads + r->at;
        if (r->split == WEFT_REPLICATED)
            weft_all_reduce(&a->comm, WEFT_GROUP_TP, r->name, WEFT_REAL_DTYPE, mine, r->held, &work);
        double largest = largest_of(want, whole->held);
        expect(largest > 0, "the gradient of %s is zero", r->name);
        for (int64_t k = 0; k < r->held; k++)
            compare("gradient", r->name, &a->table.mesh, (double)mine[k], (double)want[whole_index(r, k)],
                    largest);
    }
    weft_arena_destroy(&work);
}

static void check_layout(const weft_block_kind *kind, const weft_config *c, const side *one, int cp, int tp,
                         int64_t length) {
    weft_mesh mesh;
    weft_mesh_sizes want = {{[WEFT_AXIS_DP] = 1,
                             [WEFT_AXIS_FSDP] = 1,
                             [WEFT_AXIS_CP] = cp,
                             [WEFT_AXIS_TP] = tp,
                             [WEFT_AXIS_EP] = 1}};
    side a;
    ck_assert_int_eq(weft_mesh_make(&mesh, &want, g_world.size, g_world.rank), WEFT_OK);
    ck_assert_int_eq(weft_layout_check(&c->model, one->pass.B, one->pass.T, &mesh), WEFT_OK);
    open_side(&a, kind, c, &mesh, one->pass.B, one->pass.T, length);
    compare_rows("output", one, &a, one->out, a.out);
    compare_rows("input gradient", one, &a, one->dx, a.dx);
    compare_gradients(one, &a);
    close_side(&a);
}

/* `length`: see fill_tokens. */
static void check_block(const weft_block_kind *kind, int64_t B, int64_t T, int64_t length,
                        const char *const *overrides, int count) {
    static const char *const base[] = {
        "model.hidden_size=24",        "model.num_hidden_layers=1", "model.num_attention_heads=4",
        "model.num_key_value_heads=2", "model.head_dim=6",          "model.intermediate_size=20",
        "model.ffn_pattern=.",         "model.mamba_d_state=5",     "model.mamba_dt_rank=3"};
    weft_config *c = array(1, sizeof *c);
    weft_mesh single = weft_mesh_single();
    side one;
    weft_config_defaults(c);
    for (size_t i = 0; i < sizeof base / sizeof *base; i++)
        ck_assert_int_eq(weft_config_override(c, base[i], "test"), WEFT_OK);
    ck_assert_int_eq(
        weft_config_override(c, kind == &weft_block_mamba ? "model.mixer_pattern=M" : "model.mixer_pattern=A",
                             "test"),
        WEFT_OK);
    for (int i = 0; i < count; i++) ck_assert_int_eq(weft_config_override(c, overrides[i], "test"), WEFT_OK);
    ck_assert_int_eq(weft_config_finish(c), WEFT_OK);
    open_side(&one, kind, c, &single, B, T, length);
    for (int tp = 1; tp <= g_world.size; tp *= 2) check_layout(kind, c, &one, g_world.size / tp, tp, length);
    close_side(&one);
    free(c);
    none_is_wrong();
}
#define CHECK_BLOCK(kind, B, T, length, ...)                                                                 \
    do {                                                                                                     \
        const char *const overrides[] = {__VA_ARGS__};                                                       \
        check_block(kind, B, T, length, overrides, (int)(sizeof overrides / sizeof *overrides));             \
    } while (0)

START_TEST(attention) {
    CHECK_BLOCK(&weft_block_attention, 2, 48, 0, "model.positions=none");
    CHECK_BLOCK(&weft_block_attention, 2, 48, 9, "model.positions=rope");
    CHECK_BLOCK(&weft_block_attention, 1, 304, 100, "model.positions=rope", "model.num_key_value_heads=4");
}
END_TEST

START_TEST(attention_with_shared_key_value_heads) {
    CHECK_BLOCK(&weft_block_attention, 2, 48, 9, "model.positions=rope", "model.num_key_value_heads=1");
}
END_TEST

START_TEST(mamba) {
    CHECK_BLOCK(&weft_block_mamba, 2, 48, 0, "model.mamba_inner_norm=true");
    CHECK_BLOCK(&weft_block_mamba, 2, 48, 9, "model.mamba_inner_norm=true");
    CHECK_BLOCK(&weft_block_mamba, 1, 304, 100,
                "model.mamba_d_conv=3"); /* a chunk is longer than a scan chunk */
}
END_TEST

START_TEST(mamba_with_biases) {
    CHECK_BLOCK(&weft_block_mamba, 2, 48, 30, "model.mamba_proj_bias=true");
}
END_TEST

START_TEST(mamba_without_inner_norms_and_halo) {
    CHECK_BLOCK(&weft_block_mamba, 2, 48, 30, "model.mamba_inner_norm=false", "model.mamba_conv_bias=false",
                "model.mamba_d_conv=1");
}
END_TEST

START_TEST(mamba_with_unequal_slices) {
    CHECK_BLOCK(&weft_block_mamba, 2, 48, 30, "model.hidden_size=25");
}
END_TEST

int main(int argc, char **argv) {
    const TTest *const tests[] = {
        attention,         attention_with_shared_key_value_heads, mamba,
        mamba_with_biases, mamba_without_inner_norms_and_halo,    mamba_with_unequal_slices};
    if (weft_world_init(&argc, &argv, &g_world) != WEFT_OK) return 1;
    int code = weft_world_exit_code(suite_run("mixers", tests, (int)(sizeof tests / sizeof *tests)));
    weft_world_finalize();
    return code;
}
