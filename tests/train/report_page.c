#include "train/report_page.h"
#include "runtime/fs.h"
#include "train/report_fixture.h"

const char *const report_ids[REPORT_IDS] = {"results",   "loss",      "bits",    "tasks",    "needle",
                                            "induction", "stability", "experts", "measured", "configuration"};

#define CONFIG                                                                                               \
    "run: runs/x\nseed: %d\nmodel:\n  vocab_size: 64\n  hidden_size: 32\n  num_hidden_layers: 4\n"           \
    "  attn_layer_period: %d\n  attn_layer_offset: 0\n  num_attention_heads: 4\n"                            \
    "  num_key_value_heads: 2\n  num_experts: 1\ndata:\n  path: random\ntrain:\n  steps: 100\n"

/* ---- pages ---- */

page page_of(const char *title, const weft_report_run *runs, int number, const json_t *results) {
    char *html = NULL;
    size_t bytes = 0;
    const char *path = fixture_path("page.html");
    ck_assert_int_eq(weft_report_write(path, title, runs, number, results), WEFT_OK);
    ck_assert_int_eq(weft_fs_read_file(path, (size_t)1 << 30, &html, &bytes), WEFT_OK);
    return page_parse(html, bytes);
}

weft_report_run run_of(const char *name, const char *group) {
    return (weft_report_run){name, group, fixture_path(name)};
}

/* Two variants of two seeds. Accuracies of the second seeds are greater by 0.25, b's losses less by 0.5. */
void make_four(double second) {
    static const char *const names[] = {"a-s1", "a-s2", "b-s1", "b-s2"};
    for (int i = 0; i < 4; i++) {
        char config[600];
        snprintf(config, sizeof config, CONFIG, 1 + i % 2, i < 2 ? 1 : 0);
        fixture_run_write(&(fixture_run){.name = names[i],
                                         .eval = fixture_eval(i % 2 * 0.25 + i / 2 * 0.125),
                                         .config = config,
                                         .steps = 100,
                                         .offset = i < 2 ? 0 : -0.5,
                                         .second = second,
                                         .spike = i == 3 ? 80 : 0,
                                         .skipped = i == 2 ? 70 : 0});
    }
}

const char results_text[] =
    "{'title': 'T', 'baseline': 'a', 'seeds': [1, 2], 'steps': 100, 'tokens': 100000, 'variants': ["
    "{'name': 'a', 'runs': ['a-s1', 'a-s2'], 'params': 1234567, 'active': 1000000, 'flops_per_token': "
    "6000000,"
    " 'matched': '', 'train_loss': 3.25, 'heldout': {'all': {'loss': 2, 'log_prob_per_byte': -0.7, "
    "'bits_per_byte': 1.01}, 'books': {'loss': 2, 'log_prob_per_byte': -0.5, 'bits_per_byte': 1.01}},"
    " 'tasks': {'recall': 0.5, 'labels_format': 1}, 'difference': null},"
    "{'name': 'b', 'runs': ['b-s1', 'b-s2'], 'params': 1234567, 'active': 1000000, 'flops_per_token': "
    "6000000,"
    " 'matched': 'model.intermediate_size=272', 'train_loss': 2.75, 'heldout': {'all': {'loss': 2, "
    "'log_prob_per_byte': -0.6, 'bits_per_byte': 0.99}, 'books': {'loss': 2, 'log_prob_per_byte': -0.6, "
    "'bits_per_byte': 1.01}}, 'tasks': {'recall': 0.25, 'labels_format': 1}, 'difference': {"
    "  'train': {'mean': -0.5, 'low': null, 'high': null, 'pairs': 1},"
    "  'heldout': {'mean': -0.25, 'low': -0.5, 'high': 0.125, 'pairs': 30},"
    "  'seeds': {'mean': null, 'low': null, 'high': null, 'pairs': 0}}}]}";

page four_page(bool with_results) {
    weft_report_run runs[] = {run_of("a-s1", "a"), run_of("a-s2", "a"), run_of("b-s1", "b"),
                              run_of("b-s2", "b")};
    json_t *results = with_results ? json_of(results_text) : NULL;
    page p = page_of("Four", runs, 4, results);
    json_decref(results);
    return p;
}

/* The page of one run with that evaluation alone. */
page one_page(const char *eval) {
    fixture_remove("one");
    fixture_run_write(&(fixture_run){.name = "one", .eval = eval, .steps = -1});
    weft_report_run run = run_of("one", "");
    return page_of("One", &run, 1, NULL);
}

/* These sections and no others, each with a link; `wanted` has their ids between blanks. */
void sections_are(const page *p, const char *wanted) {
    int number = 0;
    for (int i = 0; i < REPORT_IDS; i++) {
        char id[40], path[120];
        snprintf(id, sizeof id, " %s ", report_ids[i]);
        bool there = strstr(wanted, id) != NULL;
        number += there;
        snprintf(path, sizeof path, "//main/section[@id='%s'][h2]", report_ids[i]);
        ck_assert_msg(count(p, path) == there, "%s: %d", report_ids[i], count(p, path));
        snprintf(path, sizeof path, "//nav/a[@href='#%s']", report_ids[i]);
        ck_assert_msg(count(p, path) == there, "%s: %d links", report_ids[i], count(p, path));
    }
    ck_assert_int_eq(count(p, "//section"), number);
    ck_assert_int_eq(count(p, "//nav/a"), number);
}

/* Nothing that runs, nothing from elsewhere. */
void is_self_contained(const page *p) {
    ck_assert_int_eq(count(p, "//script | //img | //link | //iframe | //object | //*[@src] | //@onerror"), 0);
    ck_assert_int_eq(count(p, "//@href[not(starts-with(., '#'))]"), 0);
    ck_assert_ptr_null(strstr(p->html, "url("));
    ck_assert_ptr_null(strstr(p->html, "nan"));
    ck_assert_ptr_null(strstr(p->html, "inf\""));
}
