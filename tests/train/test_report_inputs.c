/* train/report: names of all kinds, whatever is missing, what is refused, and the command. */
#include "runtime/fs.h"
#include "support/capture.h"
#include "support/suite.h"
#include "train/commands.h"
#include "train/report_fixture.h"
#include "train/report_page.h"

/* ---- names ---- */

#define HOSTILE "</b></title><script>alert(1)</script><img src=x onerror=alert(1)>&amp;\"'"

START_TEST(test_hostile_names) {
    make_four(0.5);
    fixture_file("a-s1/config.yaml", "\"<b>\": \"<script>1</script>\"\nseed: 1\n");
    fixture_file(
        "b-s1/eval.json",
        "{\"bits\": {\"domains\": {\"<script>\": {\"bits_per_byte\": 1}}}, \"activations\": {\"layers\": "
        "[{\"layer\": 0, \"name\": \"<script>\", \"max\": 1}]}, \"needle\": {\"lengths\": [\"<b>\"], "
        "\"depths\": [\"<b>\"], \"accuracy\": [[1]]}}");
    weft_report_run runs[] = {{HOSTILE, HOSTILE, fixture_path("a-s1")},
                              {HOSTILE "2", HOSTILE, fixture_path("a-s2")},
                              {"x\xff\xe9\x01", "\xff", fixture_path("b-s1")}};
    json_t *results = json_of(results_text);
    json_t *first = json_array_get(json_object_get(results, "variants"), 0);
    json_object_set_new(first, "name", json_string(HOSTILE));
    json_object_set_new(results, "baseline", json_string(HOSTILE));
    json_object_set_new(json_object_get(first, "tasks"), "<script>", json_real(0.5));
    json_object_set_new(json_object_get(first, "heldout"), "<script>",
                        json_pack("{s:f}", "log_prob_per_byte", -1.0));
    page p = page_of(HOSTILE, runs, 3, results);
    is_self_contained(&p);
    says(&p, "//h1", HOSTILE);
    says(&p, "/html/head/title", HOSTILE);
    ck_assert_int_gt(count(&p,
                           SECTION("loss") "//li[. = concat('</b></title><script>alert(1)</script><img src=x "
                                           "onerror=alert(1)>&amp;\"', \"'\")]"),
                     0);
    says(&p, SECTION("stability") "//tbody/tr[3]/th", "x\xef\xbf\xbd\xef\xbf\xbd\xe2\x90\x81");
    says(&p, SECTION("bits") "//figcaption[. = '<script>']", "<script>");
    page_end(&p);
    json_decref(results);
}
END_TEST

START_TEST(test_many_variants) {
    enum { MANY = 30 };
    static char names[MANY][400];
    weft_report_run runs[MANY];
    fixture_run_write(&(fixture_run){.name = "many", .eval = fixture_eval(0), .steps = 20, .second = 1});
    const char *dir = fixture_path("many"); /* a path is kept while few others are asked for */
    for (int i = 0; i < MANY; i++) {
        snprintf(names[i], sizeof names[i], "%0*d", i % 2 ? 300 : 3, i);
        runs[i] = (weft_report_run){names[i], "", dir};
    }
    page p = page_of("Many", runs, MANY, NULL);
    ck_assert_int_eq(count(&p, SECTION("loss") "//li"), MANY);
    /* No two look the same: colour, dashes, mark. */
    for (int i = 1; i <= MANY; i++)
        for (int j = 1; j < i; j++) {
            char path[400];
            snprintf(path, sizeof path,
                     SECTION("loss") "//li[%d][.//g/@class = " SECTION("loss") "//li[%d]//g/@class and "
                                                                               ".//path[@class='mk']/@d "
                                                                               "= " SECTION(
                                                                                   "loss") "//li[%d]//path"
                                                                                           "[@class='mk']/"
                                                                                           "@d]",
                     i, j, j);
            ck_assert_msg(count(&p, path) == 0, "%d and %d look the same", i, j);
        }
    ck_assert_int_eq(count(&p, "//svg//text[string-length(.) > 45]"), 0);
    page_end(&p);
}
END_TEST

/* ---- what may be missing ---- */

START_TEST(test_sections_alone) {
    static const struct {
        const char *eval, *sections;
    } cases[] = {
        {"{}", " "},
        {"{'bits': {'all': {'loss': 1, 'bits_per_byte': 0.5}}}", " results bits "},
        {"{'bits': {'domains': {'x': {'loss': null, 'bits_per_byte': null}}}}", " bits "},
        {"{'recall': [{'pairs': 4, 'accuracy': 0.5}]}", " results tasks "},
        {"{'recall': []}", " "},
        {"{'labels': {'named': [{'examples': 1, 'accuracy': 1, 'format': 1}]}}", " results tasks "},
        {"{'needle': {'lengths': [64], 'depths': [0.5], 'accuracy': [[0.5]]}}", " results needle "},
        {"{'needle': {'lengths': [64, 128], 'depths': [0.5, 1], 'accuracy': [[null], 3]}}", " needle "},
        {"{'needle': {'lengths': [], 'depths': [], 'accuracy': []}}", " "},
        {"{'induction': {'heads': [{'layer': 0, 'head': 0, 'score': 0.5}]}}", " induction "},
        {"{'induction': {'heads': []}}", " "},
        {"{'activations': {'layers': [{'layer': 2, 'name': 'x', 'max': 3}]}}", " stability "},
        {"{'experts': [{'layer': 1, 'share': [1]}]}", " experts "},
        {"{'experts': [{'layer': 1, 'share': []}, 3]}", " "},
        {"{'choices': {'accuracy': 0.5}}", " results tasks "},
        {"{'context': [{'tokens': 64, 'cache_bytes': 0}]}", " measured "},
        {"{'bits': 1, 'recall': 'x', 'copy': {}, 'labels': [1], 'needle': [], 'induction': 2, 'choices': [], "
         "'activations': {'layers': 5}, 'experts': {}, 'context': {}, 'suite': 3}",
         " "},
        {"{'recall': [{'pairs': -3, 'accuracy': 1e300}, {'pairs': 1e300, 'accuracy': -1e300}, 4, null]}",
         " results tasks "},
        {"{'activations': {'layers': [{'layer': 1e18, 'max': 1}, {'layer': -1, 'max': 1}, {'layer': 0.5, "
         "'max': "
         "1e308}]}}",
         " stability "}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        page p = one_page(cases[i].eval);
        for (int k = 0; k < REPORT_IDS; k++) { /* for the message */
            char path[80], id[40];
            snprintf(path, sizeof path, "//section[@id='%s']", report_ids[k]);
            snprintf(id, sizeof id, " %s ", report_ids[k]);
            ck_assert_msg(count(&p, path) == (strstr(cases[i].sections, id) != NULL), "%s: %s", cases[i].eval,
                          report_ids[k]);
        }
        sections_are(&p, cases[i].sections);
        is_self_contained(&p);
        page_end(&p);
    }
}
END_TEST

static page metrics_page(const char *metrics) {
    fixture_remove("metrics");
    fixture_directory("metrics");
    fixture_file("metrics/metrics.jsonl", metrics);
    weft_report_run run = run_of("metrics", "");
    return page_of("Metrics", &run, 1, NULL);
}

START_TEST(test_metrics_of_all_kinds) {
    page p = metrics_page("");
    sections_are(&p, " ");
    says(&p, "//p[@class='lead']", "One run without a finished step.");
    page_end(&p);

    p = metrics_page("{\"step\": 1, \"loss\": 2.5, \"grad_norm\": 1, \"tokens\": 10, \"updated\": true}\n");
    sections_are(&p, " results loss stability measured ");
    is_self_contained(&p);
    ck_assert_int_eq(count(&p, SECTION("loss") "//path[@class='mk']/title"), 1);
    row_says(&p, SECTION("measured") "//tbody/tr",
             "metrics|0.00 s|\xe2\x80\x93|\xe2\x80\x93|\xe2\x80\x93|0 bytes");
    page_end(&p);

    /* Nothing finite; nothing but the step. */
    p = metrics_page("{\"step\": 1, \"loss\": null, \"tokens\": 10, \"updated\": false}\n{\"step\": 2}\n");
    ck_assert_int_eq(count(&p, SECTION("loss") "//svg[@class='chart']"), 0);
    row_says(&p, SECTION("stability") "//tbody/tr", "metrics|2|0|1|\xe2\x80\x93|\xe2\x80\x93");
    is_self_contained(&p);
    page_end(&p);

    /* A run at work; a step that was done again. */
    p = metrics_page(
        "{\"step\": 1, \"loss\": 3, \"tokens\": 10}\n{\"step\": 2, \"loss\": 9, \"tokens\": 10}\n"
        "{\"step\": 2, \"loss\": 2, \"tokens\": 10}\n{\"step\": 3, \"loss\": 1, \"tok");
    says(&p, "//p[@class='lead']", "One run of 2 steps, 20 tokens.");
    says(&p, "//div[@class='tile'][span='Training loss']/b", "2.0000");
    page_end(&p);
    fixture_file("metrics/config.yaml", "train:\n  steps: 2000\n");
    weft_report_run run = run_of("metrics", "");
    p = page_of("Metrics", &run, 1, NULL);
    says(&p, "//p[@class='warning']", "Not at the end: metrics (step 2 of 2,000).");
    page_end(&p);
}
END_TEST

/* Runs of different lengths, one that has not begun, one without an evaluation. */
START_TEST(test_unequal_runs) {
    make_four(0.5);
    fixture_run_write(
        &(fixture_run){.name = "a-s2", .eval = "{}", .config = "seed: 2\n", .steps = 30, .second = 1});
    fixture_remove("b-s2/metrics.jsonl");
    fixture_remove("b-s2/eval.json");
    page p = four_page(false);
    is_self_contained(&p);
    ck_assert_int_eq(count(&p, SECTION("loss") "//figure[1]//path[@class='ln thin']"), 2);
    ck_assert_int_eq(count(&p, SECTION("stability") "//tbody/tr"), 4);
    ck_assert_int_eq(count(&p, SECTION("measured") "//tbody/tr"), 3);
    page_end(&p);
}
END_TEST

/* ---- failures ---- */

static void refused(const char *name, weft_status expected, const char *why) {
    weft_report_run runs[] = {run_of("a-s1", ""), run_of(name, "")};
    const char *path = fixture_path("old.html");
    char *html = NULL;
    size_t bytes = 0;
    fixture_file("old.html", "old");
    capture();
    weft_status st = weft_report_write(path, "T", runs, 2, NULL);
    release();
    ck_assert_int_eq(st, expected);
    ck_assert_msg(strstr(message, why) != NULL && lines(message) == 1, "%s", message);
    ck_assert_int_eq(weft_fs_read_file(path, 1000, &html, &bytes), WEFT_OK);
    ck_assert_str_eq(html, "old"); /* whole or not at all */
    free(html);
}

START_TEST(test_failures) {
    make_four(0.5);
    refused("nowhere", WEFT_EINPUT, "nowhere: is no run");
    fixture_directory("empty");
    refused("empty", WEFT_EINPUT, "empty: is no run");
    fixture_directory("bad");
    fixture_file("bad/metrics.jsonl", "{\"step\": 1}\n{\"step\": 2, \"lo\n{\"step\": 3}\n");
    refused("bad", WEFT_EINPUT, "bad/metrics.jsonl:2: ");
    fixture_file("bad/metrics.jsonl", "{\"step\": 1}\n[]\n");
    refused("bad", WEFT_EINPUT, "bad/metrics.jsonl:2: is no record of a step");
    fixture_file("bad/metrics.jsonl", "");
    fixture_file("bad/eval.json", "{\"a\": }");
    refused("bad", WEFT_EINPUT, "bad/eval.json:1:");
    fixture_remove("bad/eval.json");
    fixture_file("bad/config.yaml", "a: [1]\n");
    refused("bad", WEFT_EINPUT, "bad/config.yaml:1:");
    fixture_file("bad/config.yaml", "model:\n  hiden_size: 3\n");
    refused("bad", WEFT_EINPUT, "bad/config.yaml:2:");
    capture();
    weft_report_run run = run_of("a-s1", "");
    ck_assert_int_eq(weft_report_write(fixture_path("nowhere/page.html"), "T", &run, 1, NULL), WEFT_EIO);
    release();
}
END_TEST

/* ---- the command ---- */

static weft_status command(const char *a, const char *b, const char *c, const char *d, const char *e) {
    const char *given[] = {"report", a, b, c, d, e};
    char *argv[6];
    int argc = 0;
    while (argc < 6 && given[argc]) argv[argc] = (char *)given[argc], argc++;
    capture();
    weft_status st = weft_cmd_report(NULL, argc, argv);
    release();
    return st;
}

static page written(const char *name) {
    char *html = NULL;
    size_t bytes = 0;
    ck_assert_int_eq(weft_fs_read_file(fixture_path(name), (size_t)1 << 30, &html, &bytes), WEFT_OK);
    return page_parse(html, bytes);
}

START_TEST(test_command) {
    make_four(0.5);
    ck_assert_int_eq(command(fixture_path("a-s1"), NULL, NULL, NULL, NULL), WEFT_OK);
    page p = written("a-s1/report.html");
    says(&p, "//h1", "a-s1");
    ck_assert_ptr_nonnull(strstr(message, "a-s1/report.html: 1 run\n"));
    page_end(&p);
    ck_assert_int_eq(command(fixture_path("a-s1/"), fixture_path("b-s1"), NULL, NULL, NULL), WEFT_EINPUT);
    ck_assert_ptr_nonnull(strstr(message, "-o FILE.html"));
    ck_assert_int_eq(
        command(fixture_path("a-s1/"), fixture_path("b-s1"), "-o", fixture_path("two.html"), "--title=Two"),
        WEFT_OK);
    p = written("two.html");
    says(&p, "//h1", "Two");
    says(&p, SECTION("loss") "//ul/li[1]", "a-s1");
    says(&p, SECTION("loss") "//ul/li[2]", "b-s1");
    page_end(&p);
    ck_assert_int_eq(command(fixture_path("a-s1"), fixture_path("a-s1"), "-o", fixture_path("x.html"), NULL),
                     WEFT_EINPUT);
    ck_assert_ptr_nonnull(strstr(message, "given twice"));
    ck_assert_int_eq(command(fixture_path("none"), NULL, NULL, NULL, NULL), WEFT_EINPUT);
    ck_assert_int_eq(lines(message), 1);
}
END_TEST

START_TEST(test_command_of_an_ablation) {
    make_four(0.5);
    json_t *results = json_of(results_text);
    ck_assert_int_eq(json_dump_file(results, fixture_path("results.json"), 0), 0);
    const char *dir = fixture_path(".");
    ck_assert_int_eq(command(dir, NULL, NULL, NULL, NULL), WEFT_OK);
    page p = written("report.html");
    says(&p, "//h1", "T");
    ck_assert_int_eq(count(&p, SECTION("loss") "//ul/li"), 2);
    says(&p, INTERVALS "/tr[2]/td[1]//path[@class='whisker']/@d", "M5.0 10H92.5M5.0 6V14M92.5 6V14");
    page_end(&p);
    /* Beside another run it has no results of its own, and its runs bear its name. */
    ck_assert_int_eq(command(dir, fixture_path("a-s1"), "-o", fixture_path("two.html"), NULL), WEFT_OK);
    p = written("two.html");
    ck_assert_int_eq(count(&p, SECTION("loss") "//ul/li"), 3);
    ck_assert_int_eq(count(&p, SECTION("loss") "//ul/li[1][contains(., '/a')]"), 1);
    page_end(&p);
    json_t *runs = json_object_get(json_array_get(json_object_get(results, "variants"), 0), "runs");
    json_array_set_new(runs, 0, json_string("../x"));
    ck_assert_int_eq(json_dump_file(results, fixture_path("results.json"), 0), 0);
    ck_assert_int_eq(command(dir, NULL, NULL, NULL, NULL), WEFT_EINPUT);
    ck_assert_ptr_nonnull(strstr(message, "is no name of a run"));
    fixture_file("results.json", "{}");
    ck_assert_int_eq(command(dir, NULL, NULL, NULL, NULL), WEFT_EINPUT);
    ck_assert_ptr_nonnull(strstr(message, "names no runs"));
    fixture_file("results.json", "{");
    ck_assert_int_eq(command(dir, NULL, NULL, NULL, NULL), WEFT_EINPUT);
    fixture_remove("results.json");
    json_decref(results);
}
END_TEST

SUITE_MAIN("report_inputs", test_hostile_names, test_many_variants, test_sections_alone,
           test_metrics_of_all_kinds, test_unequal_runs, test_failures, test_command,
           test_command_of_an_ablation)
