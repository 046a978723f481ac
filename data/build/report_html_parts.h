/* What the parts of the report's page are made of. Private to data/build/report_html*.c. */
#ifndef WEFT_REPORT_HTML_PARTS_H
#define WEFT_REPORT_HTML_PARTS_H

#include "runtime/page.h"

#include <jansson.h>
#include <stdbool.h>

extern const char page_style[];

/* ---- members; 0, "" or false where there is none ---- */
int64_t page_integer(const json_t *object, const char *key);
double page_real(const json_t *object, const char *key);
bool page_is(const json_t *object, const char *key, const char *value);
int64_t page_sum(const json_t *objects, const char *key);

/* ---- texts: of the web, never markup; nothing where there is none ---- */
void page_string(FILE *out, const json_t *string);
void page_member(FILE *out, const json_t *object, const char *key);

/* ---- sections; each writes nothing where the report has nothing for it ---- */
typedef struct page_totals {
    int64_t read, read_bytes, kept, kept_bytes, tokens;
} page_totals;
/* Of one domain, or of all (NULL), as the steps and the final counts say. */
page_totals page_account_totals(const json_t *report, const char *domain);
void page_account(FILE *out, const json_t *report);
void page_files(FILE *out, const json_t *report);
void page_filters(FILE *out, const json_t *report);
void page_duplicates(FILE *out, const json_t *report);
void page_changes(FILE *out, const json_t *report);
void page_final(FILE *out, const json_t *report);
void page_times(FILE *out, const json_t *times);

/* The histogram of a rule's signal, its bound marked. */
void page_histogram(FILE *out, const json_t *rule);
/* Candidate pairs by similarity, the threshold, and the probability to become a candidate. */
void page_similarity(FILE *out, const json_t *near);

#endif
