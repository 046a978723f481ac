/* The whole CUDA backend trains the model that the CPU trains: on 1, 2 and 4 ranks, in fp32 step by step, in
 * bf16 without drift. In an emulated build everything but the libraries is the code that a GPU would run. */
#include "runtime/log.h"
#include "support/suite.h"
#include "train/layouts.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TOLERANCE 1e-5

static weft_world g_w;

static bool long_suite(void) {
    const char *wanted = getenv("WEFT_LONG");
    return wanted && strcmp(wanted, "1") == 0;
}

/* An emulated microbatch takes a good part of a second. */
static const char *batch(void) {
    return long_suite() ? "" : "train.global_batch=4";
}

static void compare(const layout_model *m, const char *more, const char *mesh, int steps) {
    layout_curve want, got;
    char cpu[256], cuda[256];
    snprintf(cpu, sizeof cpu, "%s %s device=cpu mesh.fsdp=1", batch(), more);
    snprintf(cuda, sizeof cuda, "%s %s device=cuda %s", batch(), more, mesh);
    if (g_w.rank == 0 && getenv("WEFT_VERBOSE")) fprintf(stderr, "%s: %s\n", m->name, cuda);
    layout_reference(&want, m, cpu, &g_w, steps);
    layout_train(&got, m, cuda, &g_w, steps);
    layout_same(&got, &want, steps, TOLERANCE, cuda);
}

typedef struct mesh_case {
    int ranks;
    const layout_model *model;
    const char *more, *mesh;
} mesh_case;

static const mesh_case cases[] = {
    {1, &layout_hybrid, "", ""},
    {1, &layout_packed, "train.micro_batch=2 train.recompute=all", ""},
    {1, &layout_mamba, "", ""},
    {1, &layout_attention, "train.deterministic=run", ""},
    {2, &layout_hybrid, "", "mesh.fsdp=2"},
    {2, &layout_packed, "", "mesh.tp=2"},
    {2, &layout_hybrid, "", "mesh.cp=2"},
    {2, &layout_packed, "", "mesh.fsdp=2 mesh.ep=2"},
    {2, &layout_hybrid, "", "mesh.dp=2 mesh.fsdp=1 mesh.prefetch=false"},
    {4, &layout_hybrid, "", "mesh.fsdp=4 mesh.ep=4"},
    {4, &layout_packed, "", "mesh.tp=2 mesh.cp=2"},
    {4, &layout_hybrid, "train.recompute=mixer", "mesh.fsdp=2 mesh.tp=2 mesh.ep=2"},
    {4, &layout_packed, "", "mesh.dp=2 mesh.cp=2 mesh.ep=4 mesh.ep_passes=2"},
    {4, &layout_mamba, "", "mesh.fsdp=4 mesh.reshard=after_backward"},
    {4, &layout_attention, "", "mesh.tp=4"},
};

START_TEST(fp32_follows_the_cpu) {
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (cases[i].ranks == g_w.size)
            compare(cases[i].model, cases[i].more, cases[i].mesh, long_suite() ? LAYOUT_STEPS : 3);
    if (!long_suite() && g_w.size == 1) compare(&layout_hybrid, "", "mesh.fsdp=auto", LAYOUT_STEPS);
}
END_TEST

/* The mean of the differences must stay as small as the differences: rounding may scatter, not pull. */
START_TEST(bf16_stays_near_fp32) {
    static const char *const meshes[] = {"mesh.fsdp=auto", "mesh.tp=2",
                                         "mesh.fsdp=2 mesh.ep=2 mesh.reduce=bf16"};
    const int steps = long_suite() ? 100 : g_w.size == 1 ? 20 : 6;
    for (int i = 0; i < 3; i++) {
        layout_run fp32, bf16;
        weft_step_result a, b;
        double drift = 0;
        char more[192];
        if ((i > 0 && g_w.size != 2) || g_w.size > 2) continue;
        snprintf(more, sizeof more, "%s device=cuda optim.lr=1e-2 optim.warmup=10 %s", batch(), meshes[i]);
        layout_open(&fp32, &layout_packed, more, &g_w);
        snprintf(more, sizeof more, "%s device=cuda precision=bf16 optim.lr=1e-2 optim.warmup=10 %s", batch(),
                 meshes[i]);
        layout_open(&bf16, &layout_packed, more, &g_w);
        for (int s = 0; s < steps; s++) {
            layout_step(&fp32, &a);
            layout_step(&bf16, &b);
            double apart = (b.loss - a.loss) / a.loss;
            ck_assert_msg(fabs(apart) <= 0.01, "%s, step %d: loss %g in bf16, %g in fp32", meshes[i], s + 1,
                          b.loss, a.loss);
            if (s >= steps / 2) drift += apart / (steps - steps / 2);
        }
        ck_assert_msg(fabs(drift) <= 0.003, "%s: losses differ by %g in the mean", meshes[i], drift);
        ck_assert_msg(a.loss != b.loss, "%s: bf16 changes nothing", meshes[i]);
        layout_close(&fp32);
        layout_close(&bf16);
    }
}
END_TEST

/* Arenas hold what was planned without a device. */
START_TEST(a_dry_device_plans_the_real_one) {
    static const char *const meshes[] = {"precision=bf16 mesh.fsdp=auto", "mesh.fsdp=auto"};
    for (int i = 0; i < 2; i++) {
        char more[192];
        weft_trainer dry;
        layout_run real;
        weft_step_result result;
        snprintf(more, sizeof more, "%s device=cuda %s", batch(), meshes[i]);
        layout_open(&real, &layout_hybrid, more, &g_w);
        weft_config *c = layout_config(&layout_hybrid, more);
        ck_assert_int_eq(weft_trainer_open(&dry, c, &g_w, true), WEFT_OK);
        layout_step(&real, &result);
        weft_trainer_memory planned = weft_trainer_bytes(&dry), used = weft_trainer_bytes(&real.trainer);
        ck_assert_uint_eq(planned.total, used.total);
        ck_assert_uint_eq(real.trainer.device.act.peak, real.trainer.device.act.capacity);
        ck_assert_mem_eq(dry.traffic, real.trainer.comm.bytes, sizeof dry.traffic);
        weft_trainer_close(&dry);
        layout_close(&real);
        free(c);
    }
}
END_TEST

/* As parity does: batch after batch is staged before the device has begun, and only the last one counts. */
START_TEST(a_batch_is_staged_when_the_one_before_has_left) {
    weft_step_result results[2];
    for (int several = 0; several < 2; several++) {
        layout_run r;
        const weft_real *grads = NULL;
        layout_open(&r, &layout_hybrid, "train.global_batch=4 device=cuda mesh.fsdp=auto", &g_w);
        for (int i = several ? 0 : 3; i < 4; i++) {
            weft_batch b = layout_batch(&r);
            int32_t *tokens = r.tokens; /* the batch's own: other tokens each time */
            for (int64_t k = 0; k < b.count * r.config->train.seq_len; k++)
                tokens[k] = (int32_t)((tokens[k] + i) % r.config->model.vocab_size);
            grads = weft_trainer_gradients(&r.trainer, &b);
        }
        weft_trainer_update(&r.trainer, grads);
        ck_assert(weft_trainer_finish(&r.trainer, &results[several]));
        layout_close(&r);
    }
    ck_assert(results[0].loss == results[1].loss && results[0].grad_norm == results[1].grad_norm);
}
END_TEST

int main(int argc, char **argv) {
    const TTest *const tests[] = {a_batch_is_staged_when_the_one_before_has_left, fp32_follows_the_cpu,
                                  bf16_stays_near_fp32, a_dry_device_plans_the_real_one};
    if (weft_world_init(&argc, &argv, &g_w) != WEFT_OK) return 1;
    int code = 77;
    if (weft_world_any(weft_cuda_devices() < g_w.local_size)) {
        if (g_w.rank == 0)
            printf("skipped: %d CUDA devices for %d ranks\n", weft_cuda_devices(), g_w.local_size);
    } else {
        code = weft_world_exit_code(suite_run("CUDA training", tests, (int)(sizeof tests / sizeof *tests)));
    }
    weft_world_finalize();
    return code;
}
