/* train/report: the page says what the runs hold, section by section. */
#include "support/suite.h"
#include "train/report_fixture.h"
#include "train/report/report_internal.h"
#include "train/report_page.h"

#include <math.h>

/* ---- what all sections say ---- */

START_TEST(test_whole) {
    make_four(0.5);
    page p = four_page(true);
    sections_are(&p, " results loss bits tasks needle induction stability experts measured configuration ");
    is_self_contained(&p);
    says(&p, "//h1", "Four");
    says(&p, "//p[@class='lead']",
         "2 variants in 4 runs of 100 steps, 100k tokens. Of all, b is best on held-out text: 0.9900 bits "
         "per byte, " MINUS "0.2500 (95 %: " MINUS "0.5000 to +0.1250) nats per token against a.");
    says(&p, "//div[@class='tile'][span='Parameters']/b", "1.23M");
    says(&p, "//div[@class='tile'][span='Tokens']/b", "100k");
    ck_assert_int_eq(count(&p, "//p[@class='warning']"), 0);
    ck_assert_int_eq(count(&p, "//svg[not(ancestor::svg or @aria-label or @aria-hidden or title)]"), 0);
    ck_assert_int_eq(count(&p, "//figure[not(figcaption)]"), 0);
    page_end(&p);
}
END_TEST

START_TEST(test_scores) {
    make_four(0.5);
    page p = four_page(true);
    row_says(&p, SECTION("results") "//table[1]/thead/tr[2]",
             "Variant|parametersactive|FLOPs per token|training loss|all|books|recall|labels format");
    row_says(&p, "//table[@class='scores']/tbody/tr[2]",
             "bmodel.intermediate_size=272|1.23M1M|6M|2.7500|" MINUS "0.6000|" MINUS "0.6000|25.0|100.0");
    /* The best of a column that has one. */
    row_says(&p, "//table[@class='scores']/tbody[1]",
             "a1.23M1M6M3.2500" MINUS "0.7000" MINUS
             "0.500050.0100.0|bmodel.intermediate_size=2721.23M1M6M2.7500" MINUS "0.6000" MINUS
             "0.600025.0100.0");
    ck_assert_int_eq(count(&p, "//table[@class='scores']//td/b"), 3);
    ck_assert_int_eq(count(&p, "//table[@class='scores']/tbody/tr[1]/td[5]/b"), 1);
    ck_assert_int_eq(count(&p, "//table[@class='scores']/tbody/tr[2]/td[4]/b"), 1);
    page_end(&p);
}
END_TEST

START_TEST(test_intervals) {
    make_four(0.5);
    page p = four_page(true);
    ck_assert_int_eq(count(&p, INTERVALS "/tr[1]/td[. = 'baseline']"), 2); /* none over seeds: no column */
    row_says(&p, INTERVALS "/tr[2]",
             "b|" MINUS "0.2500 (95 %: " MINUS "0.5000 to +0.1250)" MINUS "0.2500 [" MINUS
             "0.5000, +0.1250]; 30 pairs|" MINUS "0.5000" MINUS "0.5000; 1 pair");
    /* 75 is 0, 5 is the least end. */
    says(&p, INTERVALS "/tr[2]/td[1]//path[@class='mk']/@transform", "translate(40.0 10.0) scale(4)");
    says(&p, INTERVALS "/tr[2]/td[1]//path[@class='whisker']/@d", "M5.0 10H92.5M5.0 6V14M92.5 6V14");
    ck_assert_int_eq(count(&p, INTERVALS "/tr[2]/td[2]//path[@class='whisker']"), 0);
    page_end(&p);
}
END_TEST

/* Without an ablation's results the same figures are made of what the runs left. */
START_TEST(test_rows_without_results) {
    make_four(0.5);
    page p = four_page(false);
    row_says(&p, SECTION("results") "//table[1]/thead/tr[2]",
             "Variant|parametersactive|training loss|all|books|code|recall|copy|labels|labels "
             "format|needle|choices");
    /* Bits of a: (2 / 2 + 1.75 / 2) / 2 = 0.9375, times ln 2. */
    says(&p, "//table[@class='scores']/tbody/tr[1]/td[3]", MINUS "0.6498");
    says(&p, "//table[@class='scores']/tbody/tr[1]/td[6]", "43.8"); /* recall: 0.5, 0.75, 0.25, 0.25 */
    says(&p, "//table[@class='scores']/tbody/tr[1]/td[2]", "3.0450");
    ck_assert_ptr_nonnull(strstr(p.html, "same sequences"));
    ck_assert_int_eq(count(&p, INTERVALS "/tr[2]//path[@class='mk']"), 3 + 1);
    /* On the same sequences b is 0.125 below, on the same batches, in two blocks of each seed, 0.5. */
    says(&p, INTERVALS "/tr[2]/td[1]/small", MINUS "0.1250 [" MINUS "0.1250, " MINUS "0.1250]; 3 pairs");
    says(&p, INTERVALS "/tr[2]/td[2]/small", MINUS "0.5000 [" MINUS "0.5000, " MINUS "0.5000]; 4 pairs");
    page_end(&p);
}
END_TEST

/* ---- curves ---- */

/* Of 100 steps, on a straight line: smoothing does not change it. */
START_TEST(test_loss_curve) {
    make_four(0.5);
    page p = four_page(true);
    const char *chart = SECTION("loss") "//figure[1]//";
    char path[300];
    snprintf(path, sizeof path, "%sg[@class='s0 d0']/path[@class='ln thin']", chart);
    ck_assert_int_eq(count(&p, path), 2);
    snprintf(path, sizeof path, "%sg[@class='s0 d0']/path[@class='ln']", chart);
    ck_assert_int_eq(count(&p, path), 1);
    snprintf(path, sizeof path, "%spath[@class='mk']/title[starts-with(., 'a: 3.45 at 55k tokens')]", chart);
    ck_assert_msg(count(&p, path) == 1, "%s", path);
    ck_assert_ptr_nonnull(
        strstr(p.html, "each point is the mean of 3 steps around it; thin lines are single seeds"));
    page_end(&p);
}
END_TEST

/* A step of its own loss is seen as the mean of those around it. */
START_TEST(test_smoothing) {
    report r = {.run_count = 1};
    double steps[200 * REPORT_COLUMNS];
    report_run run = {.steps = steps, .count = 200};
    for (int i = 0; i < 200 * REPORT_COLUMNS; i++) steps[i] = NAN;
    for (int i = 0; i < 200; i++) {
        steps[i * REPORT_COLUMNS + REPORT_STEP] = i + 1;
        steps[i * REPORT_COLUMNS + REPORT_TOKENS] = 10 * (i + 1);
        steps[i * REPORT_COLUMNS + REPORT_LOSS] = i == 0 ? 99 : i == 100 ? 7 : i == 150 ? NAN : 2;
    }
    r.runs = &run;
    report_grid g = report_grid_of(&r, false);
    ck_assert_int_eq(g.window, 4);
    report_curve mean = report_smooth(&r, &run, &g, REPORT_LOSS),
                 most = report_peaks(&r, &run, &g, REPORT_LOSS);
    ck_assert_int_eq(mean.count, g.count);
    ck_assert_double_eq(mean.y[0], 99); /* the window shrinks at the ends */
    ck_assert_double_eq_tol(mean.y[2], g.step[2] <= 3 ? 2 + 97.0 / 5 : 2, 1e-12);
    bool seen = false;
    for (int64_t k = 3; k < mean.count; k++) {
        bool near = fabs(g.step[k] - 101) <= 2;
        ck_assert_double_eq(mean.x[k], 10 * g.step[k]);
        ck_assert_double_eq_tol(mean.y[k], near ? 3 : 2, 1e-12);
        ck_assert_double_eq(most.y[k], near ? 7 : 2);
        seen = seen || near;
    }
    ck_assert(seen);
    report_grid ratio = report_grid_of(&r, true);
    for (int64_t k = 1; k < ratio.count; k++) ck_assert(ratio.step[k] > ratio.step[k - 1]);
    ck_assert_double_eq(ratio.step[1], 2);
    ck_assert_double_eq(ratio.step[ratio.count - 1], 200);
    report_pool_free(&r);
}
END_TEST

/* b is 0.5 below a on the same batches; where batches differ, there is no such drawing. */
START_TEST(test_difference_curve) {
    make_four(0.5);
    page p = four_page(false);
    const char *marks =
        SECTION("loss") "//figure[3]//path[@class='mk']/title[starts-with(., 'b: " MINUS "0.5 at')]";
    ck_assert_int_gt(count(&p, marks), 2);
    ck_assert_int_eq(count(&p, SECTION("loss") "//figure[3]//g[@class='s0 d0']/path"), 0);
    page_end(&p);
    fixture_file("b-s2/config.yaml", "seed: 2\ntrain:\n  global_batch: 16\n");
    p = four_page(true);
    ck_assert_int_eq(count(&p, SECTION("loss") "//figure"), 2);
    page_end(&p);
}
END_TEST

START_TEST(test_stability) {
    make_four(0.5);
    page p = four_page(true);
    row_says(&p, SECTION("stability") "//tbody/tr[1]", "a-s1|100|0|0|2|50");
    row_says(&p, SECTION("stability") "//tbody/tr[3]", "b-s1|100|0|1|2|62.5");
    row_says(&p, SECTION("stability") "//tbody/tr[4]", "b-s2|100|1at 80|0|30|87.5");
    says(&p, SECTION("stability") "//figure[1]//path[@class='mk']/title", "b: 30 at 80k tokens");
    /* The largest of each layer, over names and seeds; then each name. */
    ck_assert_int_eq(count(&p, SECTION("stability") "//figure"), 2 + 3);
    says(&p, SECTION("stability") "//figure[2]//title[starts-with(., 'b') and contains(., 'at 0')]",
         "b: 87.5 at 0 layer");
    says(&p, SECTION("stability") "//figure[2]//title[starts-with(., 'b') and contains(., 'at 1')]",
         "b: 11 at 1 layer");
    page_end(&p);
}
END_TEST

/* ---- evaluations ---- */

START_TEST(test_bits) {
    make_four(0.5);
    page p = four_page(true);
    ck_assert_int_eq(count(&p, SECTION("bits") "//figure"), 3);
    says(&p, SECTION("bits") "//figure[2]/figcaption", "books");
    says(&p, SECTION("bits") "//figure[2]//g[@class='s1 d0']//title",
         "b: 0.8750 bits per byte (loss 1.7500 nats per token); from 0.8125 to 0.9375 over the seeds");
    page_end(&p);
}
END_TEST

START_TEST(test_tasks) {
    make_four(0.5);
    page p = four_page(true);
    ck_assert_int_eq(count(&p, SECTION("tasks") "//figure"), 6);
    says(&p, SECTION("tasks") "//figure[1]//g[@class='s0 d0']/path[@class='mk'][1]/title",
         "a: 62.5 at 4 pairs; from 50 to 75 over the seeds");
    says(&p, SECTION("tasks") "//figure[1]//g[@class='s0 d0']/path[@class='mk'][2]/title",
         "a: 25 at 16 pairs");
    ck_assert_int_eq(count(&p, SECTION("tasks") "//path[@class='mark']/title[. = 'chance: 25']"),
                     2); /* labels */
    row_says(&p, SECTION("tasks") "//tbody/tr[2]", "b|40|75.0|50.0|25.0");
    page_end(&p);
}
END_TEST

START_TEST(test_needle) {
    make_four(0.5);
    page p = four_page(true);
    ck_assert_int_eq(count(&p, SECTION("needle") "//figure"), 2);
    ck_assert_int_eq(count(&p, SECTION("needle") "//figure[1]//rect[@class='cell']"), 6);
    says(&p,
         SECTION("needle") "//figure[1]//g[title[starts-with(., 'depth 25 %, length, tokens 1K:')]]/title",
         "depth 25 %, length, tokens 1K: 62.5 % (50 to 75 over the seeds)");
    says(&p, SECTION("needle") "//figure[1]//g[title[starts-with(., 'depth 0 %, length, tokens 1K:')]]/text",
         "50");
    says(&p,
         SECTION(
             "needle") "//figure[1]//g[title[starts-with(., 'depth 0 %, length, tokens 512:')]]/rect/@fill",
         "#fde725");
    says(&p,
         SECTION(
             "needle") "//figure[1]//g[title[starts-with(., 'depth 100 %, length, tokens 1K:')]]/rect/@fill",
         "#440154");
    page_end(&p);
}
END_TEST

START_TEST(test_inside) {
    make_four(0.5);
    page p = four_page(true);
    ck_assert_int_eq(
        count(&p, SECTION("induction") "//figure[2]//path[@class='mk']/title[starts-with(., 'layer 1, "
                                       "head ')]"),
        4);
    ck_assert_int_eq(count(&p, SECTION("induction") "//title[. = 'layer 1, head 0: 0.625']"), 1);
    says(&p, SECTION("induction") "//figure[1]//path[@class='mark']/title", "chance: 0.02");
    ck_assert_int_eq(count(&p, SECTION("induction") "//text[. = '1' or . = '3']"),
                     4); /* layers, not halves */
    ck_assert_int_eq(count(&p, SECTION("induction") "//figure[1]//text[@text-anchor = 'middle']"), 4 + 1);
    says(&p, SECTION("experts") "//figure[1]//g[title[. = 'layer 1, expert 1: 75 %']]/text", "75.0");
    ck_assert_int_eq(count(&p, SECTION("experts") "//text[. = 'even: 50 %']"), 2);
    page_end(&p);
}
END_TEST

START_TEST(test_skipped) {
    page p = one_page("{'induction': {'skipped': 'no <attention>'}, 'recall': {'skipped': 'no tokenizer'}}");
    sections_are(&p, " tasks induction ");
    says(&p, SECTION("induction") "/p", "one: induction was skipped: no <attention>");
    says(&p, SECTION("tasks") "/p", "one: recall was skipped: no tokenizer");
    page_end(&p);
}
END_TEST

START_TEST(test_configuration) {
    make_four(0.5);
    page p = four_page(true);
    ck_assert_int_eq(count(&p, SECTION("configuration") "/div//tbody/tr"), 1);
    row_says(&p, SECTION("configuration") "/div//tbody/tr", "model.attn_layer_period|1|0");
    ck_assert_int_eq(count(&p, SECTION("configuration") "/details//th[code = 'run']"), 0);
    says(&p, SECTION("configuration") "/details//tr[th/code = 'seed']/td", "1, 2");
    says(&p, SECTION("configuration") "/details//tr[th/code = 'train.steps']/td", "100");
    page_end(&p);
}
END_TEST

START_TEST(test_measured) {
    make_four(0.5);
    page p = four_page(true);
    row_says(&p, SECTION("measured") "//tbody/tr[1]", "a-s1|50.0 s|2,000|100.0|10.0|4.10 MB");
    ck_assert_int_eq(count(&p, SECTION("measured") "//figure"), 5);
    ck_assert_int_eq(
        count(&p, SECTION("measured") "//title[. = 'a: 262.1k at 4096 context, tokens (K: 1,024)']"), 1);
    page_end(&p);
}
END_TEST

/* The page without its section "measured"; malloc'ed. */
static char *unmeasured(const char *html) {
    const char *from = strstr(html, "<section id=\"measured\">");
    ck_assert_ptr_nonnull(from);
    const char *to = strstr(from, "</section>");
    ck_assert_ptr_nonnull(to);
    char *rest = NULL;
    ck_assert_int_gt(asprintf(&rest, "%.*s%s", (int)(from - html), html, to), 0);
    return rest;
}

START_TEST(test_times_stand_alone) {
    make_four(0.5);
    page p = four_page(true), same = four_page(true);
    ck_assert_str_eq(p.html, same.html);
    page_end(&same);
    fixture_remove("a-s1");
    make_four(0.75);
    page other = four_page(true);
    ck_assert_str_ne(p.html, other.html);
    char *a = unmeasured(p.html), *b = unmeasured(other.html);
    ck_assert_str_eq(a, b);
    free(a);
    free(b);
    page_end(&p);
    page_end(&other);
}
END_TEST

/* ---- numbers ---- */

START_TEST(test_numbers) {
    ck_assert_str_eq(report_number(0, 3).text, "0");
    ck_assert_str_eq(report_number(999.6, 3).text, "1k");
    ck_assert_str_eq(report_number(123456789, 3).text, "123M");
    ck_assert_str_eq(report_number(-0.01234, 3).text, MINUS "0.0123");
    ck_assert_str_eq(report_number(1234.4, 4).text, "1234");
    ck_assert_str_eq(report_number(120, 2).text, "120");
    ck_assert_str_eq(report_number(1.5e-7, 3).text, "1.50e-07");
    ck_assert_str_eq(report_number(2.5e30, 2).text, "2.5e+30");
    ck_assert_str_eq(report_number(NAN, 3).text, "\xe2\x80\x93");
    ck_assert_str_eq(report_number(INFINITY, 3).text, "\xe2\x80\x93");
    ck_assert_str_eq(report_fixed(-0.5431, 3).text, MINUS "0.543");
    ck_assert_str_eq(report_fixed(-0.0001, 3).text, "0.000");
    ck_assert_str_eq(report_signed(0.25, 2).text, "+0.25");
    ck_assert_str_eq(report_signed(1e-9, 2).text, "0.00");
    ck_assert_str_eq(report_length(512).text, "512");
    ck_assert_str_eq(report_length(1536).text, "1536");
    ck_assert_str_eq(report_length(262144).text, "256K");
    ck_assert_str_eq(report_length(1048576).text, "1M");
}
END_TEST

SUITE_MAIN("report", test_whole, test_scores, test_intervals, test_rows_without_results, test_loss_curve,
           test_smoothing, test_difference_curve, test_stability, test_bits, test_tasks, test_needle,
           test_inside, test_skipped, test_configuration, test_measured, test_times_stand_alone, test_numbers)
