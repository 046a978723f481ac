/* The file of an ablation: variants, grid, seeds, matching, and what is refused. */
#include "model/model.h"
#include "runtime/fs.h"
#include "support/capture.h"
#include "support/suite.h"
#include "train/ablate/ablation.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char g_dir[64];
static weft_ablation g_a;

static const char *const base = "model: {vocab_size: 100, hidden_size: 16, intermediate_size: 64}\n"
                                "model.num_hidden_layers: 4\n"
                                "model.num_attention_heads: 2\n"
                                "model.num_key_value_heads: 1\n"
                                "model.attn_layer_period: 4\n"
                                "model.attn_layer_offset: 1\n"
                                "model.num_experts: 1\n"
                                "seed: 7\n"
                                "data: {path: random}\n"
                                "train: {steps: 100, global_batch: 4, seq_len: 32}\n";

static void put(const char *name, const char *text) {
    char path[WEFT_PATH_SIZE];
    ck_assert_int_eq(weft_fs_path(path, "%s/%s", g_dir, name), WEFT_OK);
    ck_assert_int_eq(weft_fs_replace_file(path, text, strlen(text)), WEFT_OK);
}

static weft_status read_with(const char *text, int count, char **overrides) {
    char path[WEFT_PATH_SIZE];
    put("ratio.yaml", text);
    put("base.yaml", base);
    ck_assert_int_eq(weft_fs_path(path, "%s/ratio.yaml", g_dir), WEFT_OK);
    weft_ablation_free(&g_a);
    return weft_ablation_read(&g_a, path, count, overrides);
}

static void read_well(const char *text) {
    ck_assert_int_eq(read_with(text, 0, NULL), WEFT_OK);
}

START_TEST(variants_and_seeds) {
    read_well("base: base.yaml\n"
              "title: Attention to Mamba\n"
              "out: some/where/\n"
              "set: {train: {steps: 30}, model.hidden_size: 32}\n"
              "variants:\n"
              "  hybrid: {}\n"
              "  attention: {model: {attn_layer_period: 1}, model.attn_layer_offset: 0}\n"
              "  mamba:\n"
              "    model:\n"
              "      attn_layer_period: 0\n"
              "      attn_layer_offset: 0\n"
              "    train: {steps: 40}\n"
              "seeds: 3, 1\n"
              "baseline: mamba\n"
              "eval: {tasks: \"bits, recall\", recall: {pairs: \"4, 8\"}, copy.documents: 5}\n");
    ck_assert_str_eq(g_a.title, "Attention to Mamba");
    ck_assert_str_eq(g_a.out, "some/where");
    ck_assert_int_eq(g_a.variant_count, 3);
    ck_assert_int_eq(g_a.seed_count, 2);
    ck_assert_int_eq(g_a.run_count, 6);
    ck_assert_int_eq(g_a.baseline, 2);
    ck_assert_str_eq(g_a.variants[1].name, "attention");
    ck_assert_str_eq(g_a.variants[1].matched, "");
    const weft_ablation_run *r = g_a.runs[2];
    ck_assert_str_eq(r->name, "attention-s3");
    ck_assert_str_eq(r->dir, "some/where/attention-s3");
    ck_assert_str_eq(r->config.run, "some/where/attention-s3");
    ck_assert_int_eq(r->variant, 1);
    ck_assert_int_eq(r->config.seed, 3);
    ck_assert_int_eq(r->config.train.steps, 30);
    ck_assert_int_eq(r->config.model.hidden_size, 32);
    ck_assert_int_eq(r->config.model.mixer[0], WEFT_MIXER_ATTENTION); /* finished */
    ck_assert_int_eq(g_a.runs[0]->config.model.mixer[0], WEFT_MIXER_MAMBA);
    ck_assert_int_eq(g_a.runs[5]->config.train.steps, 40);
    ck_assert_int_eq(g_a.runs[5]->seed, 1);
    ck_assert_int_eq(g_a.suite.recall.pairs.count, 2);
    ck_assert_int_eq(g_a.suite.recall.pairs.of[1], 8);
    ck_assert_int_eq(g_a.suite.copy.documents, 5);
}
END_TEST

START_TEST(defaults) {
    read_well("base: base.yaml\nvariants:\n  a: {}\n  b:\n");
    ck_assert_str_eq(g_a.title, "ratio");
    ck_assert_str_eq(g_a.out, "runs/ablations/ratio");
    ck_assert_int_eq(g_a.run_count, 2);
    ck_assert_int_eq(g_a.baseline, 0);
    ck_assert_str_eq(g_a.runs[1]->name, "b-s7");
    ck_assert_int_eq(g_a.runs[1]->config.seed, 7);
}
END_TEST

/* Over `set`, under variants; the file's own keys too. */
START_TEST(overrides) {
    char *given[] = {"train.steps=50",  "optim.lr=0.5",          "out=else",        "seeds=4,5",
                     "eval.tasks=copy", "eval.copy.documents=9", "optim.warmup=11", "data.weights.web=0.5"};
    ck_assert_int_eq(
        read_with("base: base.yaml\nset: {train.steps: 20}\nvariants: {a: {optim.lr: 0.25}, b: {}}\n", 8,
                  given),
        WEFT_OK);
    ck_assert_str_eq(g_a.runs[3]->name, "b-s5");
    ck_assert_str_eq(g_a.runs[3]->dir, "else/b-s5");
    ck_assert_int_eq(g_a.runs[3]->config.train.steps, 50);
    ck_assert_double_eq(g_a.runs[0]->config.optim.lr, 0.25);
    ck_assert_double_eq(g_a.runs[2]->config.optim.lr, 0.5);
    ck_assert_int_eq(g_a.runs[0]->config.optim.warmup, 11);
    ck_assert_int_eq(g_a.runs[0]->config.data.weights_count, 1);
    ck_assert_str_eq(g_a.suite.tasks, "copy");
    ck_assert_int_eq(g_a.suite.copy.documents, 9);
    ck_assert_ptr_nonnull(strstr(g_a.text, "# command line: optim.lr=0.5\n"));
}
END_TEST

START_TEST(grid) {
    read_well("base: base.yaml\n"
              "grid: {model: {num_experts: \"4, 8\"}, model.num_experts_per_tok: \"1 ,2,  4\", optim: {lr: "
              "1e-3}}\n");
    ck_assert_int_eq(g_a.variant_count, 6);
    ck_assert_str_eq(g_a.variants[0].name, "num_experts=4,num_experts_per_tok=1,lr=1e-3");
    ck_assert_str_eq(g_a.variants[1].name, "num_experts=4,num_experts_per_tok=2,lr=1e-3");
    ck_assert_str_eq(g_a.variants[5].name, "num_experts=8,num_experts_per_tok=4,lr=1e-3");
    ck_assert_int_eq(g_a.runs[5]->config.model.num_experts, 8);
    ck_assert_int_eq(g_a.runs[2]->config.model.num_experts_per_tok, 4);
    ck_assert_double_eq(g_a.runs[2]->config.optim.lr, 1e-3);
    read_well("base: base.yaml\n"
              "variants: {a: {}, b: {optim.lr: 0.5, train.seq_len: 8}}\n"
              "baseline: \"b,seq_len=16\"\n"
              "grid: {train.seq_len: \"16, 64\"}\n");
    ck_assert_int_eq(g_a.variant_count, 4);
    ck_assert_int_eq(g_a.baseline, 2);
    ck_assert_str_eq(g_a.runs[3]->name, "b,seq_len=64-s7");
    ck_assert_int_eq(g_a.runs[3]->config.train.seq_len, 64); /* the grid's comes last */
    ck_assert_double_eq(g_a.runs[3]->config.optim.lr, 0.5);
}
END_TEST

/* ---- match -------------------------------------------------------------------------------------- */

static void count(const weft_config *c, double *inner, double *flops) {
    weft_model m;
    ck_assert_int_eq(weft_model_build(&m, &c->model, WEFT_RECOMPUTE_NONE, "", 0, WEFT_REAL_DTYPE, NULL),
                     WEFT_OK);
    *inner = (double)weft_model_active_params(&m) - 2.0 * 100 * (double)c->model.hidden_size;
    *flops = weft_model_train_flops(&m, c->train.seq_len) * (double)(c->train.steps * 4 * c->train.seq_len);
    weft_model_free(&m);
}

#define MATCHED                                                                                              \
    "base: base.yaml\n"                                                                                      \
    "variants:\n"                                                                                            \
    "  hybrid: {}\n"                                                                                         \
    "  mamba: {model: {attn_layer_period: 0, attn_layer_offset: 0}}\n"                                       \
    "  experts: {model: {num_experts: 4, num_experts_per_tok: 2, expert_layer_period: 2, "                   \
    "expert_layer_offset: 1}}\n"                                                                             \
    "  same: {model: {positions: rope}}\n"

/* The width is a multiple, its neighbours are farther from the baseline, and what is told is what is. */
static void check_width(int variant, int64_t multiple, bool by_flops) {
    double target[2], have[2], other[2];
    weft_config c = g_a.runs[variant]->config;
    int64_t width = c.model.intermediate_size;
    char told[64];
    count(&g_a.runs[0]->config, &target[0], &target[1]);
    count(&c, &have[0], &have[1]);
    ck_assert_int_eq(width % multiple, 0);
    for (int side = -1; side <= 1; side += 2) {
        c.model.intermediate_size = width + side * multiple;
        count(&c, &other[0], &other[1]);
        ck_assert_double_le(fabs(have[by_flops] - target[by_flops]),
                            fabs(other[by_flops] - target[by_flops]));
    }
    snprintf(told, sizeof told, "model.intermediate_size=%lld", (long long)width);
    ck_assert_str_eq(g_a.variants[variant].matched, told);
    ck_assert_double_eq_tol(g_a.variants[variant].match_off, have[by_flops] / target[by_flops] - 1, 1e-12);
    ck_assert_double_le(fabs(g_a.variants[variant].match_off), 0.05);
}

/* Multiples of all kinds, so that the nearest lies now above, now below. */
START_TEST(match_width) {
    for (int by_flops = 0; by_flops < 2; by_flops++)
        for (int multiple = 1; multiple <= 6; multiple++) {
            char *text = weft_format(MATCHED "match: {by: %s, multiple: %d}\n", by_flops ? "flops" : "active",
                                     multiple);
            read_well(text);
            free(text);
            ck_assert_int_eq(g_a.runs[0]->config.model.intermediate_size, 64);
            ck_assert_str_eq(g_a.variants[0].matched, "");
            check_width(1, multiple, by_flops);
            check_width(2, multiple, by_flops);
            /* Positions have no parameters: nothing is to be matched. */
            ck_assert_str_eq(g_a.variants[3].matched, "");
            ck_assert_int_eq(g_a.runs[3]->config.model.intermediate_size, 64);
        }
    read_well(MATCHED "match: {by: active}\n");
    ck_assert_int_eq(g_a.runs[2]->config.model.intermediate_size % 8, 0);
    ck_assert_int_eq(g_a.variants[0].params, g_a.variants[0].active);
    ck_assert_int_gt(g_a.variants[2].params, g_a.variants[2].active);
}
END_TEST

START_TEST(match_steps) {
    double target[2], have[2];
    read_well(MATCHED "match: {by: flops, key: train.steps}\n");
    count(&g_a.runs[0]->config, &target[0], &target[1]);
    for (int i = 1; i < 3; i++) {
        const weft_config *c = &g_a.runs[i]->config;
        count(c, &have[0], &have[1]);
        ck_assert_int_ne(c->train.steps, 100);
        ck_assert_double_le(fabs(have[1] - target[1]), have[1] / (double)c->train.steps / 2 * (1 + 1e-9));
    }
    ck_assert_int_eq(g_a.runs[0]->config.train.steps, 100);
    ck_assert_int_eq(g_a.runs[1]->config.model.intermediate_size, 64);
}
END_TEST

/* ---- what is refused ---------------------------------------------------------------------------- */

#define TWO "base: base.yaml\nvariants: {a: {}, b: {}}\n"
static const struct {
    const char *text, *message;
} mistakes[] = {
    {"variants: {a: {}}\n", "ratio.yaml: no base"},
    {"base: base.yaml\n", "ratio.yaml: nothing varies"},
    {"base: nowhere.yaml\nvariants: {a: {}}\n", "nowhere.yaml"},
    {TWO "titel: x\n", "ratio.yaml:3:1: unknown key 'titel'; did you mean 'title'?"},
    {TWO "train: {steps: 3}\n", "ratio.yaml:3:1: unknown key 'train'"},
    {TWO "out: {x: 1}\n", "ratio.yaml:3:1: out wants one value"},
    {TWO "out:\n", "ratio.yaml:3:1: out has no value"},
    {TWO "set: 3\n", "ratio.yaml:3:1: set wants keys"},
    {TWO "set: {train: {stepz: 3}}\n",
     "ratio.yaml:3:15: unknown key 'train.stepz'; did you mean 'train.steps'?"},
    {TWO "set: {train: {steps: x}}\n", "ratio.yaml:3:15: train.steps wants an integer"},
    {TWO "set: {run: x}\n", "ratio.yaml:3:7: run is made from"},
    {TWO "set: {resume: never}\n", "ratio.yaml:3:7: an ablation always goes on"},
    {"base: base.yaml\nvariants: {a: {seed: 3}}\n", "ratio.yaml:2:16: a variant has the seeds of all"},
    {"base: base.yaml\nvariants: {a: {modle: {num_experts: 3}}}\n", "ratio.yaml:2:24: unknown key"},
    {"base: base.yaml\nvariants: {a/b: {}}\n", "ratio.yaml:2:12: 'a/b' cannot name a variant"},
    {"base: base.yaml\nvariants: {a.b: {}}\n", "ratio.yaml:2:12: 'a.b' cannot name a variant"},
    {"base: base.yaml\nvariants: {-a: {}}\n", "'-a' cannot name a variant"},
    {"base: base.yaml\nvariants: {a: 3}\n", "ratio.yaml:2:12: the variant a wants keys"},
    {"base: base.yaml\nvariants: {a: {}, b: {train.global_batch: 4, train.micro_batch: 3}}\n",
     "ratio.yaml:2:19: the variant 'b' has no valid configuration"},
    {"base: base.yaml\ngrid: {data.path: \"a/b, c\"}\n",
     "ratio.yaml:2:8: 'a/b' cannot be a value of the grid"},
    {"base: base.yaml\ngrid: {train.steps: \"3, 3\"}\n", "3 stands twice"},
    {"base: base.yaml\ngrid: {train.steps: \"\"}\n", "has no values"},
    {"base: base.yaml\ngrid: {seed: \"1, 2\"}\n", "use `seeds`"},
    {"base: base.yaml\ngrid: {model.attn_layer_period: \"1, 2\", model.x: 1}\n", "unknown key 'model.x'"},
    {TWO "seeds: 1, b\n", "ratio.yaml:3:1: seeds: 'b' is no seed"},
    {TWO "seeds: -1\n", "'-1' is no seed"},
    {TWO "seeds: 1, 1\n", "seed 1 stands twice"},
    {TWO "seeds: 1,, 2\n", "'' is no seed"},
    {TWO "baseline: c\n", "ratio.yaml:3:1: baseline 'c' is no variant"},
    {TWO "match: {by: params}\n", "match.by is 'params'; it must be active or flops"},
    {TWO "match: {multiple: 8}\n", "match has no `by`"},
    {TWO "match: {by: active, key: train.steps}\n", "changes no active parameters"},
    {TWO "match: {by: flops, key: model.hidden_size}\n", "match.key is 'model.hidden_size'"},
    {TWO "match: {by: flops, multiple: 0}\n", "match.multiple is '0'"},
    {TWO "match: {bye: flops}\n", "did you mean 'match.by'?"},
    {TWO "eval: {tasks: nothing}\n", "unknown task 'nothing'"},
    {TWO "eval: {recall: {pears: 3}}\n", "ratio.yaml:3:17: unknown setting 'recall.pears'"},
    {TWO "eval: {recall: {pairs: x}}\n", "ratio.yaml:3:17: recall.pairs"},
    {"base: base.yaml\nvariants: {a: {}, b: {model: {hidden_size: 64}}}\nmatch: {by: active}\n",
     "the variant 'b' cannot match the baseline"},
    {"base: base.yaml\nvariants: {a: {}, b: {model: {ffn_pattern: \"....\"}}}\nmatch: {by: active}\n",
     "the variant 'b' has no feed-forward part"},
};

START_TEST(refused) {
    for (size_t i = 0; i < sizeof mistakes / sizeof *mistakes; i++) {
        capture();
        weft_status st = read_with(mistakes[i].text, 0, NULL);
        release();
        ck_assert_msg(st == WEFT_EINPUT || st == WEFT_EIO, "%s was accepted", mistakes[i].text);
        ck_assert_msg(strstr(message, mistakes[i].message), "%s\nsays: %s\nnot: %s", mistakes[i].text,
                      message, mistakes[i].message);
    }
}
END_TEST

START_TEST(refused_overrides) {
    static const char *const lines[][2] = {{"train.stepz=3", "command line: unknown key"},
                                           {"run=x", "command line: run is made"},
                                           {"seeds=x", "command line: seeds"},
                                           {"eval.tasks=x", "unknown task"},
                                           {"steps", "is not key=value"}};
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        char text[64], *one[] = {text};
        snprintf(text, sizeof text, "%s", lines[i][0]);
        capture();
        weft_status st = read_with(TWO, 1, one);
        release();
        ck_assert_int_eq(st, WEFT_EINPUT);
        ck_assert_msg(strstr(message, lines[i][1]), "%s says: %s", lines[i][0], message);
    }
}
END_TEST

/* ---- a directory that was begun with another configuration -------------------------------------- */

static weft_status check_after(const char *text) {
    char *out = weft_format("out=%s/o", g_dir), *given[] = {out};
    ck_assert_int_eq(read_with(text, 1, given), WEFT_OK);
    free(out);
    capture();
    weft_status st = weft_ablation_check(&g_a, 1);
    release();
    return st;
}

/* The directory of b as it is when its run begins. */
static void begin(const char *text) {
    char path[WEFT_PATH_SIZE];
    ck_assert_int_eq(check_after(text), WEFT_OK);
    char *yaml = weft_config_to_yaml(&g_a.runs[1]->config);
    ck_assert_int_eq(weft_fs_mkdirs(g_a.runs[1]->dir), WEFT_OK);
    ck_assert_int_eq(weft_fs_path(path, "%s/config.yaml", g_a.runs[1]->dir), WEFT_OK);
    ck_assert_int_eq(weft_fs_replace_file(path, yaml, strlen(yaml)), WEFT_OK);
    free(yaml);
}

START_TEST(begun_otherwise) {
    begin(TWO);
    ck_assert_int_eq(check_after(TWO), WEFT_OK);
    ck_assert_int_eq(check_after(TWO "set: {checkpoint.every: 3, mesh.tp: 2, log.every: 1}\n"), WEFT_OK);
    ck_assert_int_eq(check_after(TWO "set: {mesh.reduce: bf16}\n"), WEFT_EINPUT);
    ck_assert_ptr_nonnull(strstr(message, "o/b-s7 was begun with mesh.reduce: fp32, and "));
    ck_assert_int_eq(check_after(TWO "set: {data.weights.web: 2}\n"), WEFT_EINPUT);
    ck_assert_ptr_nonnull(strstr(message, "data.weights.web: \"\", and "));
    ck_assert_ptr_nonnull(strstr(message, " now says 2;"));
    ck_assert_int_eq(check_after("base: base.yaml\nvariants: {a: {}, b: {optim: {lr: 0.5}}}\n"), WEFT_EINPUT);
    weft_fs_remove_tree(g_a.runs[1]->dir);
    begin(TWO "set: {data.weights: {web: 2, code: 1}}\n");
    ck_assert_int_eq(check_after(TWO "set: {data.weights: {code: 1}}\n"), WEFT_EINPUT);
    ck_assert_ptr_nonnull(strstr(message, "data.weights.web: 2, and "));
}
END_TEST

int main(void) {
    const TTest *const tests[] = {variants_and_seeds, defaults,          overrides,       grid,   match_width,
                                  match_steps,        refused_overrides, begun_otherwise, refused};
    const char *tmp = getenv("TMPDIR");
    snprintf(g_dir, sizeof g_dir, "%.40s/weft-ablation.XXXXXX", tmp ? tmp : "/tmp");
    if (!mkdtemp(g_dir)) return EXIT_FAILURE;
    int failed = suite_run("ablation", tests, (int)(sizeof tests / sizeof *tests));
    weft_ablation_free(&g_a);
    weft_fs_remove_tree(g_dir);
    return failed;
}
