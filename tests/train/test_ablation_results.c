/* Paired differences, and the results of an ablation whose files are made by hand. */
#include "runtime/fs.h"
#include "support/capture.h"
#include "support/suite.h"
#include "train/ablate/ablation.h"
#include "train/statistics.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- paired ------------------------------------------------------------------------------------- */

/* Quantiles as tables print them (Abramowitz and Stegun 26.10, and the normal's for many degrees). */
static const struct {
    double p, df, t;
} quantiles[] = {
    {0.75, 1, 1},
    {0.975, 1, 12.7062047},
    {0.995, 1, 63.6567412},
    {0.975, 2, 4.3026527},
    {0.9, 3, 1.6377444},
    {0.995, 4, 4.6040949},
    {0.975, 5, 2.5705818},
    {0.975, 10, 2.2281389},
    {0.95, 20, 1.7247182},
    {0.975, 30, 2.0422725},
    {0.975, 100, 1.9839715},
    {0.975, 1000, 1.9623391},
    {0.9995, 10, 4.5868939},
    {0.975, 1e7, 1.9599642},
    {0.6, 60, 0.2544734},
};

START_TEST(student) {
    for (size_t i = 0; i < sizeof quantiles / sizeof *quantiles; i++) {
        double p = quantiles[i].p, df = quantiles[i].df, t = quantiles[i].t;
        ck_assert_double_eq_tol(weft_student_quantile(p, df), t, 1e-7 * (1 + t));
        ck_assert_double_eq_tol(weft_student_quantile(1 - p, df), -t, 1e-6 * (1 + t));
    }
    ck_assert_double_eq(weft_student_quantile(0.5, 3), 0);
    /* df 1 is Cauchy's: tan(pi (p - 1/2)); df 2 has a closed form too. */
    ck_assert_double_eq_tol(weft_student_quantile(0.9, 1), tan(M_PI * 0.4), 1e-9);
    ck_assert_double_eq_tol(weft_student_quantile(0.9, 2), 0.8 * sqrt(2 / (1 - 0.64)), 1e-9);
    ck_assert(isnan(weft_student_quantile(0, 3)) && isnan(weft_student_quantile(1, 3)));
    ck_assert(isnan(weft_student_quantile(0.9, 0)) && isnan(weft_student_quantile(NAN, 3)));
}
END_TEST

START_TEST(differences) {
    const double x[] = {1, 2, 4}, y[] = {0, 0, 1};
    weft_interval i = weft_paired_difference(x, y, NULL, 3, 0.95);
    ck_assert_int_eq(i.pairs, 3);
    ck_assert_double_eq(i.mean, 2);
    ck_assert_double_eq_tol(i.low, 2 - 4.3026527 / sqrt(3), 1e-6);
    ck_assert_double_eq_tol(i.high, 2 + 4.3026527 / sqrt(3), 1e-6);
    i = weft_paired_difference(x, y, NULL, 1, 0.95);
    ck_assert_int_eq(i.pairs, 1);
    ck_assert_double_eq(i.mean, 1);
    ck_assert(isnan(i.low) && isnan(i.high));
    i = weft_paired_difference(x, y, NULL, 0, 0.95);
    ck_assert(i.pairs == 0 && isnan(i.mean) && isnan(i.low));
}
END_TEST

START_TEST(medians) {
    double odd[] = {3, 1, 2}, even[] = {4, 1, 3, 2}, one[] = {5};
    ck_assert_double_eq(weft_median(odd, 3), 2);
    ck_assert_double_eq(weft_median(even, 4), 2.5);
    ck_assert_double_eq(weft_median(one, 1), 5);
    ck_assert(isnan(weft_median(one, 0)));
}
END_TEST

/* ---- files made by hand ------------------------------------------------------------------------- */

enum { STEPS = 80 };
static char g_dir[64];
static weft_ablation g_a;

static void put(const char *dir, const char *name, const char *text) {
    char path[WEFT_PATH_SIZE];
    ck_assert_int_eq(weft_fs_mkdirs(dir), WEFT_OK);
    ck_assert_int_eq(weft_fs_path(path, "%s/%s", dir, name), WEFT_OK);
    ck_assert_int_eq(weft_fs_replace_file(path, text, strlen(text)), WEFT_OK);
}

static void read_definition(const char *extra) {
    char *text = weft_format(
        "base: base.yaml\nout: %s/out\nseeds: 1, 2\nvariants: {a: {}, b: {model.positions: rope%s}}\n"
        "eval: {tasks: bits}\n",
        g_dir, extra);
    char *path = weft_format("%s/x.yaml", g_dir);
    put(g_dir, "base.yaml",
        "model: {vocab_size: 100, hidden_size: 16, intermediate_size: 32, num_hidden_layers: 2, num_experts: "
        "1}\n"
        "model.num_attention_heads: 2\nmodel.num_key_value_heads: 1\nmodel.attn_layer_period: 2\n"
        "model.attn_layer_offset: 1\ndata: {path: random}\n"
        "train: {steps: 80, global_batch: 4, seq_len: 32}\n");
    put(g_dir, "x.yaml", text);
    weft_ablation_free(&g_a);
    ck_assert_int_eq(weft_ablation_read(&g_a, path, 0, NULL), WEFT_OK);
    free(text);
    free(path);
}

/* Loss of a step. Seed and variant move it; b has a spike at step 60 of seed 1, and no number at 70 of
 * seed 2. Within the last quarter (61..80), blocks 61-70 and 71-80 of b - a are 0.1, 0.2 (seed 1), 0.3, 0.4
 * (seed 2). */
static double loss_of(int variant, int seed, int step) {
    double loss = 3 + seed + 0.01 * (step % 2);
    if (variant == 1 && step > 60) loss += 0.2 * (seed - 1) + (step > 70 ? 0.2 : 0.1);
    if (variant == 1 && seed == 1 && step == 60) loss += 5;
    return loss;
}

static void put_metrics(int run, int steps) {
    char *text = NULL;
    size_t bytes;
    int variant = g_a.runs[run]->variant, seed = (int)g_a.runs[run]->seed;
    FILE *f = open_memstream(&text, &bytes);
    for (int step = 1; step <= steps; step++) {
        bool bad = variant == 1 && seed == 2 && step == 70;
        if (bad)
            fprintf(f, "{\"step\": %d, \"loss\": null, \"updated\": false}\n", step);
        else
            fprintf(f, "{\"step\": %d, \"loss\": %.17g, \"tokens\": 5, \"updated\": true}\n", step,
                    loss_of(variant, seed, step));
    }
    fclose(f);
    put(g_a.runs[run]->dir, "metrics.jsonl", text);
    free(text);
}

/* Domains books (two sequences) and code (one): b is better by 0.5 and 0.25 a token in the first two. */
static char *eval_text(int variant, int seed, const char *suite) {
    double shift = variant == 1 ? -0.5 : 0, nats = 20.0 + 2 * seed;
    return weft_format(
        "{\"step\": 80, \"suite\": %s,\n"
        "\"bits\": {\"domains\": {\"books\": {\"loss\": %.17g, \"bits_per_byte\": %.17g},\n"
        "\"code\": {\"loss\": 1, \"bits_per_byte\": null}},\n"
        "\"all\": {\"loss\": %.17g, \"bits_per_byte\": 1.5},\n"
        "\"sequences\": {\"books\": [[%.17g, 10], [%.17g, 10]], \"code\": [[3, 3], [0, 0]]}},\n"
        "\"recall\": [{\"accuracy\": 0.5}, {\"accuracy\": %.17g}], \"copy\": {\"skipped\": \"why\"},\n"
        "\"labels\": {\"random\": [{\"accuracy\": 0.25, \"format\": 0.5}],\n"
        "\"named\": [{\"accuracy\": 0.75, \"format\": 1}]},\n"
        "\"needle\": {\"accuracy\": [[1, 0], [0, 0]]}, \"choices\": {\"accuracy\": 0.125},\n"
        "\"activations\": {\"layers\": [{\"max\": %d}, {\"max\": 2.5}, {\"max\": null}]}}\n",
        suite, 2.0 + seed + shift, 2.0 * seed, 1.0 + seed + shift, nats + 10 * shift, nats + 5 * shift,
        seed == 1 ? 0.5 : 1.0, variant == 1 ? 7 : 1);
}

/* The suite's settings as an evaluation holds them. */
static char *suite_json(void) {
    char *text = weft_suite_text(&g_a.suite), *rest = text, *line;
    json_t *o = json_object();
    while ((line = strsep(&rest, "\n"))) {
        char *equals = strchr(line, '=');
        if (!equals) continue;
        *equals = '\0';
        json_object_set_new(o, line, json_string(equals + 1));
    }
    char *dump = json_dumps(o, 0);
    json_decref(o);
    free(text);
    return dump;
}

static void put_all(void) {
    char *suite = suite_json();
    for (int i = 0; i < g_a.run_count; i++) {
        char *text = eval_text(g_a.runs[i]->variant, (int)g_a.runs[i]->seed, suite);
        put_metrics(i, STEPS);
        put(g_a.runs[i]->dir, "eval.json", text);
        free(text);
    }
    free(suite);
}

static double real_at(const json_t *o, const char *path) {
    char copy[128], *rest = copy, *name;
    snprintf(copy, sizeof copy, "%s", path);
    while ((name = strsep(&rest, "/")))
        o = *name >= '0' && *name <= '9' ? json_array_get(o, (size_t)atoi(name)) : json_object_get(o, name);
    return json_is_number(o) ? json_number_value(o) : NAN;
}
#define EQUAL(path, value) ck_assert_double_eq_tol(real_at(results, path), value, 1e-9)

static json_t *results_of(void) {
    json_t *results = NULL;
    ck_assert_int_eq(weft_ablation_results(&g_a, &results), WEFT_OK);
    return results;
}

START_TEST(known_results) {
    read_definition("");
    put_all();
    json_t *results = results_of();
    ck_assert_str_eq(json_string_value(json_object_get(results, "baseline")), "a");
    EQUAL("seeds/1", 2);
    EQUAL("steps", 80);
    EQUAL("tokens", 80 * 4 * 32);
    EQUAL("variants/0/train_loss", 4.505);
    EQUAL("variants/1/train_loss", 4.505 + 0.3);
    EQUAL("variants/0/spikes", 0);
    EQUAL("variants/1/spikes", 1 + 20 + 19); /* the last quarter is a step of its own */
    EQUAL("variants/0/not_finite", 0);
    EQUAL("variants/1/not_finite", 1);
    EQUAL("variants/0/heldout/books/loss", 3.5);
    EQUAL("variants/1/heldout/books/loss", 3);
    EQUAL("variants/0/heldout/books/bits_per_byte", 3);
    EQUAL("variants/0/heldout/books/log_prob_per_byte", -3 * M_LN2);
    EQUAL("variants/0/heldout/all/loss", 2.5);
    ck_assert(json_is_null(json_object_get(
        json_object_get(json_object_get(json_array_get(json_object_get(results, "variants"), 0), "heldout"),
                        "code"),
        "bits_per_byte")));
    EQUAL("variants/0/tasks/recall", 0.625);
    EQUAL("variants/0/tasks/labels", 0.5);
    EQUAL("variants/0/tasks/labels_format", 0.75);
    EQUAL("variants/0/tasks/needle", 0.25);
    EQUAL("variants/0/tasks/choices", 0.125);
    ck_assert(isnan(real_at(results, "variants/0/tasks/copy")));
    EQUAL("variants/0/activation_max", 2.5);
    EQUAL("variants/1/activation_max", 7);
    const json_t *b = json_array_get(json_object_get(results, "variants"), 1);
    ck_assert_str_eq(json_string_value(json_array_get(json_object_get(b, "runs"), 1)), "b-s2");
    ck_assert_str_eq(json_string_value(json_object_get(json_object_get(b, "changed"), "model.positions")),
                     "rope");
    ck_assert_uint_eq(json_object_size(json_object_get(b, "changed")), 1);
    json_decref(results);
}
END_TEST

START_TEST(known_differences) {
    read_definition("");
    put_all();
    json_t *results = results_of();
    const json_t *variants = json_object_get(results, "variants");
    ck_assert(json_is_null(json_object_get(json_array_get(variants, 0), "difference")));
    /* Blocks 0.1, 0.2, 0.3, 0.4: mean 0.25, deviation 0.1290994, t(0.975, 3) = 3.1824463. */
    EQUAL("variants/1/difference/train/pairs", 4);
    ck_assert_double_eq_tol(real_at(results, "variants/1/difference/train/mean"), 0.25, 1e-9);
    ck_assert_double_eq_tol(real_at(results, "variants/1/difference/train/high"),
                            0.25 + 3.1824463 * 0.1290994 / 2, 1e-6);
    /* Sequences of 10, 10 and 3 tokens: -0.5, -0.25, 0 a token (the one without targets does not count), so
     * -7.5 in
     * 23. Weighted deviations 3 w/23 (d + 7.5/23): -0.2268431, 0.0992439, 0.1275992; t(0.975, 2) = 4.3026527.
     */
    EQUAL("variants/1/difference/heldout/pairs", 3);
    EQUAL("variants/1/difference/heldout/mean", -7.5 / 23);
    ck_assert_double_eq_tol(
        real_at(results, "variants/1/difference/heldout/low"),
        -7.5 / 23 -
            4.3026527 * sqrt((0.2268431 * 0.2268431 + 0.0992439 * 0.0992439 + 0.1275992 * 0.1275992) / 6),
        1e-6);
    EQUAL("variants/1/difference/seeds/pairs", 2);
    EQUAL("variants/1/difference/seeds/mean", -0.5);
    json_decref(results);
    /* Other batches: nothing to pair by step, but the same held-out text. */
    read_definition(", train.global_batch: 8");
    results = results_of();
    EQUAL("variants/1/difference/train/pairs", 0);
    ck_assert(isnan(real_at(results, "variants/1/difference/train/mean")));
    EQUAL("variants/1/difference/heldout/pairs", 3);
    EQUAL("variants/1/tokens", 80 * 8 * 32);
    json_decref(results);
}
END_TEST

static weft_status failing(void) {
    json_t *results = NULL;
    capture();
    weft_status st = weft_ablation_results(&g_a, &results);
    release();
    ck_assert_ptr_null(results);
    return st;
}

START_TEST(missing_files) {
    char path[WEFT_PATH_SIZE];
    read_definition("");
    put_all();
    put_metrics(3, 79);
    ck_assert_int_eq(failing(), WEFT_EINPUT);
    ck_assert_ptr_nonnull(strstr(message, "out/b-s2/metrics.jsonl: holds 79 of 80 steps"));
    ck_assert_int_eq(weft_fs_path(path, "%s/eval.json", g_a.runs[2]->dir), WEFT_OK);
    ck_assert_int_eq(remove(path), 0);
    ck_assert_int_eq(failing(), WEFT_EINPUT);
    ck_assert_ptr_nonnull(strstr(message, "out/b-s1/eval.json: is missing"));
    put(g_a.runs[1]->dir, "eval.json", "{\"step\": ");
    ck_assert_int_eq(failing(), WEFT_EINPUT);
    ck_assert_ptr_nonnull(strstr(message, "out/a-s2/eval.json: is no JSON object"));
    ck_assert_int_eq(weft_fs_path(path, "%s/metrics.jsonl", g_a.runs[0]->dir), WEFT_OK);
    ck_assert_int_eq(remove(path), 0);
    ck_assert_int_eq(failing(), WEFT_EINPUT);
    ck_assert_ptr_nonnull(strstr(message, "out/a-s1/metrics.jsonl: is missing"));
}
END_TEST

START_TEST(done_or_not) {
    read_definition("");
    put_all();
    for (int i = 0; i < 4; i++) ck_assert(weft_ablation_done(&g_a, i));
    ck_assert_str_eq(weft_ablation_state(&g_a, 0), "done");
    put(g_a.runs[0]->dir, "eval.json", "{\"step\": 80, \"suite\": {}}");
    ck_assert(!weft_ablation_done(&g_a, 0));
    char *suite = suite_json(),
         *more = weft_format("{\"step\": 80, \"suite\": {\"new\": \"1\", %s}", suite + 1);
    put(g_a.runs[0]->dir, "eval.json", more);
    ck_assert(!weft_ablation_done(&g_a, 0));
    free(more);
    free(suite);
    put(g_a.runs[1]->dir, "eval.json", "{\"step\": 80, \"sui");
    ck_assert(!weft_ablation_done(&g_a, 1));
    put(g_a.runs[1]->dir, "config.yaml", "");
    ck_assert_str_eq(weft_ablation_state(&g_a, 1), "begun");
    ck_assert_int_eq(weft_suite_set(&g_a.suite, "recall.documents=31", "test"), WEFT_OK);
    ck_assert(!weft_ablation_done(&g_a, 2));
}
END_TEST

START_TEST(table) {
    char *text = NULL;
    size_t bytes;
    read_definition("");
    put_all();
    json_t *results = results_of();
    FILE *f = open_memstream(&text, &bytes);
    weft_ablation_table(results, f);
    fclose(f);
    static const char *const parts[] = {
        "# x\n", "seeds 1, 2.",  "| variant |", " books | code |", " -2.0794 |",
        " copy", "baseline",     "-0.3261 [",   "recall |",        "+0.2500 [+0.0446, +0.4554]",
        "| b  ", "label format", "not finite"};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        ck_assert_msg((strstr(text, parts[i]) != NULL) == (strcmp(parts[i], " copy") != 0), "'%s' in\n%s",
                      parts[i], text);
    free(text);
    json_decref(results);
}
END_TEST

int main(void) {
    const TTest *const tests[] = {student,           differences,   medians,     known_results,
                                  known_differences, missing_files, done_or_not, table};
    const char *tmp = getenv("TMPDIR");
    snprintf(g_dir, sizeof g_dir, "%.40s/weft-results.XXXXXX", tmp ? tmp : "/tmp");
    if (!mkdtemp(g_dir)) return EXIT_FAILURE;
    int failed = suite_run("ablation results", tests, (int)(sizeof tests / sizeof *tests));
    weft_ablation_free(&g_a);
    weft_fs_remove_tree(g_dir);
    return failed;
}
