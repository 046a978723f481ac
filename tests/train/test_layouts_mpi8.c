/* Every layout trains the same model: loss, gradient norm and load-balance loss of 8 ranks on many meshes
 * against one rank, over 20 steps. In double (test_layouts_mpi8_f64.c) rounding cannot hide an error: that
 * build is the judge.
 *
 * WEFT_LONG=1 in the environment: all meshes of 8 ranks with every model, instead of some. */
#include "layouts.h"
#include "runtime/fs.h"
#include "runtime/log.h"
#include "support/suite.h"

#include <stdio.h>
#include <string.h>

#if WEFT_REAL_IS_DOUBLE
#define TOLERANCE 1e-10
#else
#define TOLERANCE 1e-5
#endif

static weft_world g_w;

static const layout_model *const models[] = {&layout_hybrid, &layout_attention, &layout_mamba,
                                             &layout_packed};
enum { MODELS = sizeof models / sizeof *models };

static bool long_suite(void) {
    const char *wanted = getenv("WEFT_LONG");
    return wanted && strcmp(wanted, "1") == 0;
}

static void compare(const layout_model *m, const char *mesh, const char *more, const layout_curve *want) {
    layout_curve got;
    char all[256], what[320];
    snprintf(all, sizeof all, "%s %s", mesh, more);
    snprintf(what, sizeof what, "%s: %s", m->name, all);
    if (g_w.rank == 0 && getenv("WEFT_VERBOSE")) fprintf(stderr, "%s\n", what);
    layout_train(&got, m, all, &g_w, LAYOUT_STEPS);
    layout_same(&got, want, LAYOUT_STEPS, TOLERANCE, what);
}

/* Every mesh of 8 ranks: dp x fsdp x cp x tp, and each ep that it allows. */
static void all_meshes(const layout_model *m, const char *more, const layout_curve *want) {
    static const int sizes[] = {1, 2, 4, 8};
    for (int i = 0; i < 4 * 4 * 4 * 4 * 4; i++) {
        int dp = sizes[i % 4], fsdp = sizes[i / 4 % 4], cp = sizes[i / 16 % 4], tp = sizes[i / 64 % 4],
            ep = sizes[i / 256];
        if (dp * fsdp * cp * tp != 8 || dp * fsdp * cp % ep) continue;
        if (fsdp * cp % ep && ep % (fsdp * cp)) continue;
        char mesh[128];
        snprintf(mesh, sizeof mesh, "mesh.dp=%d mesh.fsdp=%d mesh.cp=%d mesh.tp=%d mesh.ep=%d", dp, fsdp, cp,
                 tp, ep);
        compare(m, mesh, more, want);
    }
}

START_TEST(meshes) {
    static const struct {
        const layout_model *model;
        const char *mesh;
    } some[] = {
        {&layout_hybrid, "mesh.fsdp=8"},
        {&layout_hybrid, "mesh.dp=2 mesh.fsdp=4"},
        {&layout_hybrid, "mesh.tp=8"},
        {&layout_hybrid, "mesh.cp=8"},
        {&layout_hybrid, "mesh.fsdp=8 mesh.ep=8"},
        {&layout_hybrid, "mesh.dp=4 mesh.fsdp=2 mesh.ep=4"},
        {&layout_hybrid, "mesh.tp=2 mesh.cp=2 mesh.fsdp=2"},
        {&layout_hybrid, "mesh.tp=2 mesh.cp=2 mesh.fsdp=2 mesh.ep=4"},
        {&layout_attention, "mesh.tp=4 mesh.cp=2"},
        {&layout_attention, "mesh.cp=4 mesh.fsdp=2 mesh.ep=2"},
        {&layout_mamba, "mesh.tp=4 mesh.cp=2"},
        {&layout_mamba, "mesh.dp=2 mesh.cp=4 mesh.ep=8"},
        {&layout_packed, "mesh.cp=4 mesh.tp=2"},
        {&layout_packed, "mesh.dp=2 mesh.fsdp=2 mesh.tp=2 mesh.ep=2"},
        {&layout_packed, "mesh.dp=2 mesh.cp=2 mesh.tp=2 mesh.ep=4"},
        {&layout_packed, "mesh.dp=2 mesh.cp=2 mesh.tp=2 mesh.ep=4 mesh.ep_passes=3"},
        {&layout_attention, "mesh.fsdp=8 mesh.ep=8 mesh.ep_passes=1"},
    };
    layout_curve want;
    for (int m = 0; m < MODELS; m++) {
        layout_reference(&want, models[m], "mesh.fsdp=1", &g_w, LAYOUT_STEPS);
        if (long_suite()) all_meshes(models[m], "", &want);
        for (size_t i = 0; i < sizeof some / sizeof *some && !long_suite(); i++)
            if (some[i].model == models[m]) compare(models[m], some[i].mesh, "", &want);
    }
}
END_TEST

/* Accumulation over two microbatches a rank, recomputation, packed sequences, two sequences a microbatch, and
 * what FSDP keeps and when. Recomputation and FSDP's choices change no number. */
START_TEST(accumulation_and_recomputation) {
    static const char *const some[] = {"mesh.fsdp=4 mesh.tp=2 mesh.reshard=never",
                                       "mesh.dp=2 mesh.cp=2 mesh.tp=2 mesh.reshard=after_backward",
                                       "mesh.fsdp=4 mesh.cp=2 mesh.ep=8 mesh.prefetch=false",
                                       "mesh.fsdp=4 mesh.tp=2 mesh.ep=4 mesh.ep_passes=1",
                                       "mesh.dp=2 mesh.fsdp=4 mesh.ep=2 mesh.ep_passes=3",
                                       "mesh.fsdp=2 mesh.tp=4"};
    const char *batch = "train.global_batch=32 train.micro_batch=2 train.deterministic=run";
    layout_curve want;
    for (int m = 0; m < MODELS; m++) {
        if (!long_suite() && models[m] != &layout_packed) continue;
        layout_reference(&want, models[m], batch, &g_w, LAYOUT_STEPS);
        char more[256];
        snprintf(more, sizeof more, "%s train.recompute=all", batch);
        if (long_suite()) all_meshes(models[m], more, &want);
        for (size_t i = 0; i < sizeof some / sizeof *some; i++) compare(models[m], some[i], more, &want);
    }
}
END_TEST

/* Layers without a mixer, without a feed-forward part, the last one without both. */
START_TEST(layers_without_parts) {
    static const layout_model gaps = {
        "gaps",
        {"model.num_hidden_layers=5", "model.mixer_pattern=.AM..", "model.ffn_pattern=D.DE.", NULL},
        false};
    static const char *const some[] = {"mesh.fsdp=8", "mesh.fsdp=4 mesh.tp=2 mesh.ep=2 mesh.prefetch=false",
                                       "mesh.cp=2 mesh.fsdp=4 mesh.reshard=after_backward"};
    layout_curve want;
    layout_reference(&want, &gaps, "mesh.fsdp=1", &g_w, LAYOUT_STEPS);
    for (size_t i = 0; i < sizeof some / sizeof *some; i++) compare(&gaps, some[i], "", &want);
}
END_TEST

/* train.deterministic = layout: the same bits for all powers of two of dp and fsdp, and again for the same
 * layout. */
START_TEST(bits_do_not_depend_on_dp_and_fsdp) {
    static const char *const some[] = {"mesh.fsdp=8", "mesh.dp=8", "mesh.dp=2 mesh.fsdp=4",
                                       "mesh.dp=4 mesh.fsdp=2"};
    const char *batch =
        "train.global_batch=24 optim.clip=0.01"; /* three blocks of 8; clipping, so that the norm counts */
    layout_curve want, got;
    char more[256];
    layout_reference(&want, &layout_hybrid, batch, &g_w, 6);
    for (size_t i = 0; i < sizeof some / sizeof *some; i++) {
        snprintf(more, sizeof more, "%s %s", batch, some[i]);
        layout_train(&got, &layout_hybrid, more, &g_w, 6);
        layout_same(&got, &want, 6, 0, more);
    }
    /* With tp as well, where tp ranks share key/value heads or not. Large gradients of the router, whose sum
     * of squares is cut between its rows. */
    static const char *const cut[][2] = {{"mesh.tp=2 mesh.fsdp=4", "mesh.tp=2 mesh.dp=4"},
                                         {"mesh.tp=4 mesh.fsdp=2", "mesh.tp=4 mesh.dp=2"}};
    for (int i = 0; i < 2; i++) {
        layout_curve *of[] = {&want, &got};
        for (int k = 0; k < 2; k++) {
            snprintf(more, sizeof more, "optim.clip=0.01 model.router_z_loss_coef=30 seed=1 %s", cut[i][k]);
            layout_train(of[k], &layout_hybrid, more, &g_w, LAYOUT_STEPS);
        }
        layout_same(&got, &want, LAYOUT_STEPS, 0, more);
    }
}
END_TEST

START_TEST(a_layout_gives_the_same_bits_again) {
    const char *more = "mesh.tp=2 mesh.cp=2 mesh.fsdp=2 mesh.ep=2";
    layout_curve first, second;
    layout_train(&first, &layout_packed, more, &g_w, 4);
    layout_train(&second, &layout_packed, more, &g_w, 4);
    layout_same(&second, &first, 4, 0, more);
}
END_TEST

/* ---- checkpoints ---- */

static weft_loader *open_random(const weft_config *c) {
    weft_loader *l = NULL;
    const weft_loader_options o = {.path = "random",
                                   .split = "train",
                                   .seq_len = c->train.seq_len,
                                   .max_batch = 1,
                                   .cache_bytes = 1 << 20,
                                   .vocab_size = c->model.vocab_size};
    ck_assert_int_eq(weft_loader_open(&l, &o), WEFT_OK);
    return l;
}

/* Trains `steps` steps on a mesh, from the checkpoint of step `from` (0: the beginning) to one of step from +
 * steps. */
static void continue_on(layout_curve *out, const char *dir, const char *mesh, int from, int steps) {
    layout_run r;
    weft_step_result result;
    char run[128], path[160];
    layout_open(&r, &layout_packed, mesh, &g_w);
    weft_loader *loader = open_random(r.config);
    snprintf(run, sizeof run, "%s/run", dir);
    if (from > 0) {
        snprintf(path, sizeof path, "%s/checkpoints/step_%08d", run, from);
        ck_assert_msg(weft_trainer_load(&r.trainer, loader, path) == WEFT_OK, "load on %s", mesh);
    }
    for (int s = from; s < from + steps; s++) {
        layout_step(&r, &result);
        out->loss[s] = result.loss;
        out->norm[s] = result.grad_norm;
        out->aux[s] = result.aux;
    }
    ck_assert_msg(weft_trainer_save(&r.trainer, loader, run) == WEFT_OK, "save on %s", mesh);
    weft_loader_close(loader);
    layout_close(&r);
}

/* Each mesh goes on where another one stopped. */
START_TEST(a_checkpoint_of_one_mesh_is_read_by_another) {
    static const char *const some[] = {
        "mesh.fsdp=8",         "mesh.tp=8",           "mesh.dp=2 mesh.fsdp=2 mesh.cp=2 mesh.ep=8",
        "mesh.cp=2 mesh.tp=4", "mesh.dp=8 mesh.ep=4", "mesh.tp=2 mesh.cp=2 mesh.fsdp=2 mesh.ep=2"};
    char dir[64] = "";
    layout_curve want, got;
    layout_reference(&want, &layout_packed, "mesh.fsdp=1", &g_w, 12);
    if (g_w.rank == 0) {
        snprintf(dir, sizeof dir, "/tmp/weft-layouts-XXXXXX");
        ck_assert_ptr_nonnull(mkdtemp(dir));
    }
    weft_world_bcast(dir, sizeof dir, 0);
    for (int i = 0; i < 6; i++) continue_on(&got, dir, some[i], 2 * i, 2);
    layout_same(&got, &want, 12, TOLERANCE, "one mesh after the other");
    weft_world_barrier();
    if (g_w.rank == 0) weft_fs_remove_tree(dir);
}
END_TEST

/* ---- memory and traffic ---- */

/* What the plan of a rank says is what the rank has and receives. */
START_TEST(plans_are_exact) {
    static const char *const some[] = {"mesh.fsdp=8",
                                       "mesh.dp=2 mesh.fsdp=2 mesh.tp=2 mesh.reshard=after_backward",
                                       "mesh.tp=4 mesh.cp=2 mesh.reshard=never",
                                       "mesh.fsdp=4 mesh.cp=2 mesh.ep=8",
                                       "mesh.fsdp=4 mesh.tp=2 mesh.ep=4 mesh.ep_passes=1",
                                       "mesh.fsdp=4 mesh.tp=2 mesh.ep=2 mesh.ep_passes=3 train.recompute=all",
                                       "mesh.dp=2 mesh.cp=4 train.recompute=all train.global_batch=16"};
    for (size_t i = 0; i < sizeof some / sizeof *some; i++) {
        weft_config *c = layout_config(&layout_packed, some[i]);
        weft_trainer plan;
        layout_run r;
        weft_step_result result;
        ck_assert_int_eq(weft_trainer_open(&plan, c, &g_w, true), WEFT_OK);
        layout_open(&r, &layout_packed, some[i], &g_w);
        for (int s = 0; s < 2; s++) layout_step(&r, &result);
        weft_trainer_memory planned = weft_trainer_bytes(&plan), used = weft_trainer_bytes(&r.trainer);
        ck_assert_uint_eq(planned.total, used.total);
        ck_assert_uint_eq(used.total, r.trainer.state.capacity + r.trainer.device.act.capacity);
        ck_assert_uint_le(r.trainer.device.act.peak, r.trainer.device.act.capacity);
        /* Without experts' tokens, whose number is not known before, the peak itself is met. */
        if (!strstr(some[i], "ep="))
            ck_assert_uint_eq(r.trainer.device.act.peak, r.trainer.device.act.capacity);
        for (int a = 0; a <= WEFT_AXES; a++)
            ck_assert_msg(plan.traffic[a] == r.trainer.comm.bytes[a],
                          "%s: axis %d: planned %lld bytes, counted %lld", some[i], a,
                          (long long)plan.traffic[a], (long long)r.trainer.comm.bytes[a]);
        weft_trainer_close(&plan);
        layout_close(&r);
        free(c);
    }
}
END_TEST

START_TEST(what_a_mesh_cannot_do_is_refused) {
    static const struct {
        const layout_model *model;
        const char *mesh;
    } bad[] = {{&layout_hybrid, "mesh.tp=3"},
               {&layout_hybrid, "mesh.dp=16"},
               {&layout_hybrid, "mesh.fsdp=8 mesh.ep=3"},
               {&layout_hybrid, "mesh.cp=8 train.seq_len=40"},
               {&layout_hybrid, "mesh.fsdp=8 train.global_batch=12"},
               {&layout_attention, "mesh.tp=8 model.num_attention_heads=4"},
               {&layout_attention, "mesh.fsdp=8 mesh.ep=8 model.num_experts=4"}};
    weft_log_replicated(true);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        weft_config *c = layout_config(bad[i].model, bad[i].mesh);
        weft_trainer t;
        ck_assert_msg(weft_trainer_open(&t, c, &g_w, false) == WEFT_EINPUT, "%s", bad[i].mesh);
        free(c);
    }
    weft_log_replicated(false);
}
END_TEST

int main(int argc, char **argv) {
    const TTest *const tests[] = {meshes,
                                  accumulation_and_recomputation,
                                  layers_without_parts,
                                  bits_do_not_depend_on_dp_and_fsdp,
                                  a_layout_gives_the_same_bits_again,
                                  a_checkpoint_of_one_mesh_is_read_by_another,
                                  plans_are_exact,
                                  what_a_mesh_cannot_do_is_refused};
    if (weft_world_init(&argc, &argv, &g_w) != WEFT_OK) return 1;
    int code = weft_world_exit_code(suite_run("layouts", tests, (int)(sizeof tests / sizeof *tests)));
    weft_world_finalize();
    return code;
}
