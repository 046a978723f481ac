/* From a step's operations and collectives to its time; the description of a machine. */
#include "made_config.h"
#include "runtime/fs.h"
#include "runtime/log.h"
#include "support/suite.h"
#include "train/plan/estimate.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { D = 64, LAYERS = 4, T = 32, TOKENS = 4 * T, MAMBAS = 3, TAPS = 4 };

static weft_config *config(const char *const *overrides, int count) {
    static const char *const base[] = {"model.hidden_size=64",        "model.num_hidden_layers=4",
                                       "model.num_attention_heads=4", "model.num_key_value_heads=2",
                                       "model.intermediate_size=96",  "model.vocab_size=128",
                                       "model.attn_layer_period=4",   "model.attn_layer_offset=2",
                                       "model.num_experts=4",         "train.seq_len=32",
                                       "train.global_batch=4",        "train.micro_batch=1"};
    return made_config(base, (int)(sizeof base / sizeof *base), overrides, count);
}

/* One of everything a second, so that seconds are amounts. */
static weft_machine unit_machine(void) {
    weft_machine m = {.name = "unit",
                      .node = 4,
                      .bandwidth = 1,
                      .special = 1,
                      .vector = 1,
                      .efficiency = {1, 1, 1, 1, 1, 1}};
    for (int i = 0; i < WEFT_DIRECTIONS; i++) weft_rates_add(&m.products[WEFT_PRODUCT_FP32][i], 0, 1);
    m.link[WEFT_NODE] = (weft_link){8, 4, 0};
    m.link[WEFT_NETWORK] = (weft_link){2, 1, 0};
    return m;
}

typedef struct step {
    weft_estimate e;
    double product, flops, params; /* of operations; as the model tells them */
} step;

static step step_of(const char *const *overrides, int count, int ranks, const weft_machine *m) {
    const weft_world w = {.size = ranks, .local_size = ranks};
    weft_config *c = config(overrides, count);
    weft_trainer t;
    step s = {0};
    ck_assert_int_eq(weft_trainer_open(&t, c, &w, true), WEFT_OK);
    size_t bytes = weft_trainer_bytes(&t).total;
    int64_t traffic[WEFT_AXES + 1];
    memcpy(traffic, t.comm.bytes, sizeof traffic);
    ck_assert_int_eq(weft_estimate_step(m, &t, &s.e), WEFT_OK);
    ck_assert_uint_eq(weft_trainer_bytes(&t).total, bytes); /* counting changes nothing */
    ck_assert_mem_eq(t.comm.bytes, traffic, sizeof traffic);
    for (int k = 0; k < WEFT_WORK_KINDS; k++) s.product += s.e.work[k].product;
    s.flops = weft_model_train_flops(&t.model, T) * TOKENS;
    s.params = (double)weft_params_total(&t.model.table);
    weft_trainer_close(&t);
    free(c);
    return s;
}

/* The model's count, less the convolution, which it counts among matrices, and with the fifth product of
 * attention's backward pass, which computes the scores again. */
START_TEST(products_are_those_of_the_model) {
    const weft_machine m = unit_machine();
    step s = step_of(NULL, 0, 1, &m);
    double conv = 3.0 * 2 * (2 * D) * TAPS * MAMBAS * TOKENS, again = 2.0 * D * (T + 1) / 2 * TOKENS;
    ck_assert_double_eq_tol(s.product, s.flops - conv + again, 1e-9 * s.flops);
    /* 13 of AdamW, 2 of the norm, 3 additions of microbatches. */
    ck_assert_double_ge(s.e.work[WEFT_WORK_OPTIMIZER].vector, 18 * s.params);
    ck_assert_double_le(s.e.work[WEFT_WORK_OPTIMIZER].vector, 18 * s.params + 10000);
}
END_TEST

/* A recomputed block runs forward once more, without its last product. */
START_TEST(recomputation_costs_products) {
    const weft_machine m = unit_machine();
    const char *all[] = {"train.recompute=all"}, *mixer[] = {"train.recompute=mixer"};
    double none = step_of(NULL, 0, 1, &m).product, some = step_of(mixer, 1, 1, &m).product,
           most = step_of(all, 1, 1, &m).product;
    ck_assert_double_gt(some, 1.02 * none);
    ck_assert_double_gt(most, 1.02 * some);
    ck_assert_double_lt(most, none * 4 / 3);
}
END_TEST

/* However a step is shared, together the ranks compute what one computes. */
START_TEST(ranks_share_the_products) {
    const weft_machine m = unit_machine();
    const char *meshes[][2] = {{"mesh.fsdp=2", "mesh.ep=1"},
                               {"mesh.tp=2", "mesh.ep=1"},
                               {"mesh.cp=2", "mesh.ep=1"},
                               {"mesh.dp=2", "mesh.ep=1"},
                               {"mesh.fsdp=2", "mesh.ep=2"}};
    step one = step_of(NULL, 0, 1, &m);
    ck_assert_double_eq(one.e.blocking + one.e.beside, 0);
    for (size_t i = 0; i < sizeof meshes / sizeof *meshes; i++) {
        const char *overrides[] = {meshes[i][0], meshes[i][1], "mesh.ep_passes=1"};
        step s = step_of(overrides, 3, 2, &m);
        ck_assert_msg(s.product * 2 > 0.99 * one.product && s.product * 2 < 1.01 * one.product,
                      "%s %s: %g of %g", meshes[i][0], meshes[i][1], 2 * s.product, one.product);
        ck_assert_double_gt(s.e.blocking, 0);
    }
}
END_TEST

START_TEST(a_step_is_the_sum_of_its_parts) {
    weft_machine m = unit_machine();
    const char *mesh[] = {"mesh.fsdp=4"};
    step waits = step_of(mesh, 1, 4, &m);
    ck_assert_double_eq(waits.e.beside, 0);
    ck_assert_double_eq_tol(waits.e.step, waits.e.compute + waits.e.blocking, 1e-9 * waits.e.step);
    m.overlap = true;
    step beside = step_of(mesh, 1, 4, &m);
    ck_assert_double_gt(beside.e.beside, 0.9 * waits.e.blocking); /* nearly all is fsdp's */
    ck_assert_double_eq_tol(beside.e.beside + beside.e.blocking, waits.e.blocking, 1e-9 * waits.e.blocking);
    ck_assert_double_eq(beside.e.exposed, 0); /* computing takes longer */
    ck_assert_double_eq_tol(beside.e.step, beside.e.compute + beside.e.blocking, 1e-9 * beside.e.step);
    m.link[WEFT_NODE] = (weft_link){8e-6, 4e-6, 0}; /* links so slow that they decide */
    step slow = step_of(mesh, 1, 4, &m);
    ck_assert_double_eq_tol(slow.e.exposed, slow.e.beside - slow.e.compute, 1e-9 * slow.e.step);
    ck_assert_double_gt(slow.e.step, slow.e.beside);
    m.link[WEFT_NODE] = (weft_link){8, 4, 1000};
    ck_assert_double_gt(step_of(mesh, 1, 4, &m).e.beside, beside.e.beside + 10000); /* each call costs */
}
END_TEST

START_TEST(an_operation_takes_the_longest_of_its_parts) {
    weft_machine m = unit_machine();
    weft_work w = {.kind = WEFT_WORK_PRODUCT,
                   .op = "linear_fwd",
                   .m = 64,
                   .n = 16,
                   .k = 256,
                   .product = 100,
                   .bytes = 30};
    ck_assert_double_eq(weft_estimate_work(&m, WEFT_PRODUCT_FP32, &w), 100);
    w.bytes = 130;
    ck_assert_double_eq(weft_estimate_work(&m, WEFT_PRODUCT_FP32, &w), 130);
    m.launch = 5;
    m.efficiency.bandwidth = 0.5;
    ck_assert_double_eq(weft_estimate_work(&m, WEFT_PRODUCT_FP32, &w), 265);
    weft_rates_add(&m.products[WEFT_PRODUCT_BF16][WEFT_BACKWARD_WEIGHTS], 16, 0.1); /* by the smallest size */
    weft_rates_add(&m.products[WEFT_PRODUCT_BF16][WEFT_BACKWARD_WEIGHTS], 64, 100);
    w.op = "linear_wgrad";
    ck_assert_double_eq_tol(weft_estimate_work(&m, WEFT_PRODUCT_BF16, &w), 1005, 1e-9);
    weft_work e = {
        .kind = WEFT_WORK_ELEMENTWISE, .op = "swiglu_fwd", .bytes = 10, .special = 70, .vector = 60};
    ck_assert_double_eq(weft_estimate_work(&m, WEFT_PRODUCT_FP32, &e), 75);
    weft_work s = {.kind = WEFT_WORK_SCAN, .op = "scan_bwd", .m = 4, .n = 5, .k = 2, .special = 500};
    ck_assert_double_eq(weft_estimate_work(&m, WEFT_PRODUCT_FP32, &s), 505);
    weft_rates_add(&m.scan[1], 0, 0.5); /* measured: exponentials are among it */
    ck_assert_double_eq(weft_estimate_work(&m, WEFT_PRODUCT_FP32, &s), 85);
}
END_TEST

START_TEST(collectives) {
    weft_machine m = unit_machine(); /* node: gather 8, reduce 4; network: 2, 1 */
    ck_assert_double_eq(weft_estimate_collective(&m, WEFT_ALL_GATHER, 1, 1, 800), 0);
    ck_assert_double_eq(weft_estimate_collective(&m, WEFT_ALL_GATHER, 4, 4, 800), 100);
    ck_assert_double_eq(weft_estimate_collective(&m, WEFT_REDUCE_SCATTER, 4, 4, 800), 200);
    ck_assert_double_eq(weft_estimate_collective(&m, WEFT_ALL_REDUCE, 4, 4, 1600), 300);
    /* 9 ranks, one of them here: all comes through its link; 3 here: a ring's comes through three. */
    ck_assert_double_eq(weft_estimate_collective(&m, WEFT_ALL_GATHER, 9, 1, 800), 400);
    ck_assert_double_eq(weft_estimate_collective(&m, WEFT_ALL_GATHER, 9, 3, 800), 100);
    ck_assert_double_eq(weft_estimate_collective(&m, WEFT_REDUCE_SCATTER, 9, 3, 800), 600);
    /* Of tokens to experts, those that stay are counted but not moved. */
    ck_assert_double_eq(weft_estimate_collective(&m, WEFT_ALL_TO_ALL, 4, 4, 800), 75);
    m.link[WEFT_NODE].latency = 7;
    m.link[WEFT_NETWORK].latency = 11;
    ck_assert_double_eq(weft_estimate_collective(&m, WEFT_ALL_GATHER, 4, 4, 800), 114);
    ck_assert_double_eq(weft_estimate_collective(&m, WEFT_ALL_GATHER, 9, 1, 800), 444);
    m.efficiency.links = 0.5;
    ck_assert_double_eq(weft_estimate_collective(&m, WEFT_ALL_GATHER, 4, 4, 800), 214);
}
END_TEST

START_TEST(what_the_machine_lacks_is_said) {
    weft_machine m = unit_machine();
    const weft_world w = {.size = 4, .local_size = 4};
    const char *mesh[] = {"mesh.fsdp=4"};
    weft_config *c = config(mesh, 1);
    weft_trainer t;
    weft_estimate e;
    ck_assert_int_eq(weft_trainer_open(&t, c, &w, true), WEFT_OK);
    weft_log_set_level((weft_log_level)(WEFT_LOG_ERROR + 1));
    m.node = 2;
    ck_assert_int_eq(weft_estimate_step(&m, &t, &e), WEFT_OK);
    m.link[WEFT_NETWORK] = (weft_link){0};
    ck_assert_int_eq(weft_estimate_step(&m, &t, &e), WEFT_EINPUT);
    m.node = 4;
    ck_assert_int_eq(weft_estimate_step(&m, &t, &e), WEFT_OK);
    m.link[WEFT_NODE] = (weft_link){0};
    ck_assert_int_eq(weft_estimate_step(&m, &t, &e), WEFT_EINPUT);
    m = unit_machine();
    memset(m.products[WEFT_PRODUCT_FP32], 0, sizeof m.products[WEFT_PRODUCT_FP32]);
    ck_assert_int_eq(weft_estimate_step(&m, &t, &e), WEFT_EINPUT);
    weft_log_set_level(WEFT_LOG_INFO);
    weft_trainer_close(&t);
    free(c);
}
END_TEST

START_TEST(rates_lie_between_points) {
    weft_rates r = {0};
    ck_assert_double_eq(weft_rates_at(&r, 10), 0);
    ck_assert(weft_rates_add(&r, 1024, 800));
    ck_assert(weft_rates_add(&r, 16, 100));
    ck_assert(weft_rates_add(&r, 64, 400));
    ck_assert(!weft_rates_add(&r, 64, 500)); /* there already */
    ck_assert(!weft_rates_add(&r, 0, 500));  /* for all sizes, beside some */
    ck_assert_double_eq(weft_rates_at(&r, 4), 100);
    ck_assert_double_eq_tol(weft_rates_at(&r, 32), 200, 1e-9);
    ck_assert_double_eq_tol(weft_rates_at(&r, 64), 400, 1e-9);
    ck_assert_double_eq_tol(weft_rates_at(&r, 256), 565.685, 1e-2);
    ck_assert_double_eq(weft_rates_at(&r, 4096), 800);
    ck_assert_double_eq(weft_rates_most(&r), 800);
}
END_TEST

/* What is written is read again. */
START_TEST(a_description_survives_its_file) {
    char dir[] = "/tmp/weft-machine.XXXXXX", path[64];
    weft_machine m = unit_machine(), back;
    ck_assert_ptr_nonnull(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/m.yaml", dir);
    snprintf(m.name, sizeof m.name, "a \"quoted\" back\\slash");
    snprintf(m.source, sizeof m.source, "measured: here");
    m.memory = 4096, m.launch = 2.5e-6, m.overlap = true;
    m.link[WEFT_NODE].latency = 0.5;
    m.products[WEFT_PRODUCT_FP32][1] = (weft_rates){0};
    weft_rates_add(&m.products[WEFT_PRODUCT_FP32][1], 8, 3);
    weft_rates_add(&m.products[WEFT_PRODUCT_FP32][1], 64, 5);
    weft_rates_add(&m.scan[0], 0, 7);
    weft_rates_add(&m.conv[1], 0, 9);
    weft_rates_add(&m.attention[1], 512, 11);
    FILE *f = fopen(path, "w");
    ck_assert_ptr_nonnull(f);
    weft_machine_print(&m, f);
    ck_assert_int_eq(fclose(f), 0);
    ck_assert_int_eq(weft_machine_read(&back, path), WEFT_OK);
    ck_assert_str_eq(back.name, m.name);
    ck_assert_str_eq(back.source, m.source);
    ck_assert_double_eq(back.launch, m.launch);
    ck_assert_double_eq(back.memory, m.memory);
    ck_assert(back.overlap);
    ck_assert_mem_eq(back.products, m.products, sizeof m.products);
    ck_assert_mem_eq(back.attention, m.attention, sizeof m.attention);
    ck_assert_mem_eq(back.scan, m.scan, sizeof m.scan);
    ck_assert_mem_eq(back.conv, m.conv, sizeof m.conv);
    ck_assert_mem_eq(back.link, m.link, sizeof m.link);
    ck_assert_double_eq(back.efficiency.links, 1);
    unlink(path);
    rmdir(dir);
}
END_TEST

int main(int argc, char **argv) {
    weft_world w;
    const TTest *const tests[] = {products_are_those_of_the_model,
                                  recomputation_costs_products,
                                  ranks_share_the_products,
                                  a_step_is_the_sum_of_its_parts,
                                  an_operation_takes_the_longest_of_its_parts,
                                  collectives,
                                  what_the_machine_lacks_is_said,
                                  rates_lie_between_points,
                                  a_description_survives_its_file};
    if (weft_world_init(&argc, &argv, &w) != WEFT_OK) return 1;
    int code = suite_run("estimate", tests, (int)(sizeof tests / sizeof *tests));
    weft_world_finalize();
    return code;
}
