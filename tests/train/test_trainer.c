/* The trainer and the schedules. */
#include "made_config.h"
#include "support/suite.h"
#include "train/schedule.h"
#include "train/trainer.h"

#include <math.h>

static weft_config *config(const char *const *overrides, int count) {
    static const char *const base[] = {"model.hidden_size=48",
                                       "model.num_hidden_layers=4",
                                       "model.num_attention_heads=4",
                                       "model.num_key_value_heads=2",
                                       "model.intermediate_size=64",
                                       "model.vocab_size=101",
                                       "model.attn_layer_period=4",
                                       "model.attn_layer_offset=2",
                                       "model.num_experts=4",
                                       "train.seq_len=32",
                                       "train.global_batch=4",
                                       "train.micro_batch=1",
                                       "train.steps=60",
                                       "optim.warmup=5",
                                       "optim.lr=5e-3",
                                       "optim.min_lr=1e-3"};
    return made_config(base, (int)(sizeof base / sizeof *base), overrides, count);
}

/* Every part of the model must learn for a batch of random tokens to be learned by heart. */
START_TEST(a_batch_is_learned_by_heart) {
    static int32_t tokens[4 * 32], targets[4 * 32], start[4 * 32];
    const weft_world w = {.size = 1, .local_size = 1};
    weft_config *c = config(NULL, 0);
    weft_trainer t;
    weft_step_result first = {0}, r = {0};
    ck_assert_int_eq(weft_trainer_open(&t, c, &w, false), WEFT_OK);
    ck_assert_int_eq(weft_trainer_init(&t), WEFT_OK);
    weft_rng rng = weft_rng_make(1, "tokens");
    for (int i = 0; i < 4 * 32; i++) {
        tokens[i] = (int32_t)weft_rng_below(rng, (uint64_t)i, 101);
        targets[i] = (int32_t)weft_rng_below(rng, (uint64_t)i + 1000, 101);
    }
    weft_batch batch = {
        .count = 4, .tokens = tokens, .targets = targets, .doc_start = start, .targets_counted = 4 * 32};
    for (int step = 0; step < 60; step++) {
        weft_trainer_step(&t, &batch, &r);
        ck_assert(r.finite);
        if (step == 0) first = r;
    }
    ck_assert_double_gt(first.loss, log(101) - 0.2);
    ck_assert_msg(r.loss < 0.1, "loss %g behind 60 steps", r.loss);
    ck_assert_int_eq(t.step, 60);
    ck_assert_uint_eq(t.samples, 240);
    weft_trainer_close(&t);
    free(c);
}
END_TEST

START_TEST(a_step_that_is_not_finite_changes_nothing) {
    static int32_t tokens[4 * 32], targets[4 * 32], start[4 * 32];
    const weft_world w = {.size = 1, .local_size = 1};
    weft_config *c = config(NULL, 0);
    weft_trainer t;
    weft_step_result r;
    ck_assert_int_eq(weft_trainer_open(&t, c, &w, false), WEFT_OK);
    ck_assert_int_eq(weft_trainer_init(&t), WEFT_OK);
    const weft_param *norm = weft_params_find(&t.model.table, "layers.1.mamba.b_layernorm");
    ck_assert_ptr_nonnull(norm);
    weft_real kept = t.params[0];
    t.params[norm->offset] = (weft_real)NAN;
    weft_batch batch = {
        .count = 4, .tokens = tokens, .targets = targets, .doc_start = start, .targets_counted = 4 * 32};
    weft_trainer_step(&t, &batch, &r);
    ck_assert(!r.finite);
    ck_assert(t.params[0] == kept);
    ck_assert(t.adam_m[0] == 0);
    weft_trainer_close(&t);
    free(c);
}
END_TEST

START_TEST(the_dry_trainer_plans_the_real_one) {
    const char *const overrides[] = {"train.global_batch=8", "train.micro_batch=2", "train.recompute=mixer"};
    const weft_world w = {.size = 1, .local_size = 1};
    weft_config *c = config(overrides, 3);
    weft_trainer dry, real;
    ck_assert_int_eq(weft_trainer_open(&dry, c, &w, true), WEFT_OK);
    ck_assert_int_eq(weft_trainer_open(&real, c, &w, false), WEFT_OK);
    ck_assert_uint_eq(weft_trainer_bytes(&dry).total, weft_trainer_bytes(&real).total);
    ck_assert_uint_eq(weft_trainer_bytes(&real).total, real.state.capacity + real.device.act.capacity);
    /* 4 microbatches in a tree: 3 buffers. */
    ck_assert_int_eq(real.grads_count, 3);
    weft_trainer_close(&dry);
    weft_trainer_close(&real);
    const weft_world three = {.size = 3, .local_size = 3};
    ck_assert_int_eq(weft_trainer_open(&dry, c, &three, true),
                     WEFT_EINPUT); /* 4 microbatches do not divide by 3 */
    free(c);
}
END_TEST

static double lr(const char *schedule, int64_t step) {
    const char *const overrides[] = {schedule, "train.steps=100", "optim.warmup=10", "optim.lr=1",
                                     "optim.min_lr=0.1"};
    weft_config *c = config(overrides, 5);
    double v = weft_schedule_lr(c, step);
    free(c);
    return v;
}

START_TEST(schedules) {
    ck_assert_double_eq_tol(lr("optim.schedule=cosine", 1), 0.1, 1e-12);
    ck_assert_double_eq_tol(lr("optim.schedule=cosine", 10), 1, 1e-12);
    ck_assert_double_eq_tol(lr("optim.schedule=cosine", 55), 0.55, 1e-12);
    ck_assert_double_eq_tol(lr("optim.schedule=cosine", 100), 0.1, 1e-12);
    ck_assert_double_eq_tol(lr("optim.schedule=cosine", 130), 0.1, 1e-12);
    ck_assert_double_eq_tol(lr("optim.schedule=wsd", 90), 1, 1e-12);
    ck_assert_double_eq_tol(lr("optim.schedule=wsd", 95), 0.55, 1e-12);
    ck_assert_double_eq_tol(lr("optim.schedule=wsd", 100), 0.1, 1e-12);
    ck_assert_double_eq_tol(lr("optim.schedule=constant", 100), 1, 1e-12);
}
END_TEST

int main(int argc, char **argv) {
    weft_world w;
    const TTest *const tests[] = {a_batch_is_learned_by_heart, a_step_that_is_not_finite_changes_nothing,
                                  the_dry_trainer_plans_the_real_one, schedules};
    if (weft_world_init(&argc, &argv, &w) != WEFT_OK) return 1;
    int code = suite_run("trainer", tests, 4);
    weft_world_finalize();
    return code;
}
