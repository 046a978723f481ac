/* Pages of train/report, for its tests. */
#ifndef WEFT_TEST_REPORT_PAGE_H
#define WEFT_TEST_REPORT_PAGE_H

#include "support/markup.h"
#include "train/report/report.h"

#include <stdbool.h>

#define MINUS "\xe2\x88\x92"
#define SECTION(id) "//section[@id='" id "']"
#define INTERVALS SECTION("results") "//table[not(@class)]/tbody"

enum { REPORT_IDS = 10 };
extern const char *const report_ids[REPORT_IDS]; /* of all sections */

page page_of(const char *title, const weft_report_run *runs, int number, const json_t *results);
weft_report_run run_of(const char *name, const char *group);

/* Two variants of two seeds, whose steps take `second`. Accuracies of the second seeds are greater by 0.25,
 * b's losses less by 0.5. */
void make_four(double second);
extern const char results_text[]; /* of their ablation, for json_of */
page four_page(bool with_results);
/* The page of one run with that evaluation alone. */
page one_page(const char *eval);

/* These sections and no others, each with a link; `wanted` has their ids between blanks. */
void sections_are(const page *p, const char *wanted);
/* Nothing that runs, nothing from elsewhere, no number that is none. */
void is_self_contained(const page *p);

#endif
