/* What the parts of the report's page are made of. Private to data/build/report_html*.c. */
#ifndef WEFT_REPORT_HTML_PARTS_H
#define WEFT_REPORT_HTML_PARTS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

extern const char page_style[];

/* ---- members; 0, "" or false where there is none ---- */
int64_t page_integer(const json_t *object, const char *key);
double page_real(const json_t *object, const char *key);
bool page_is(const json_t *object, const char *key, const char *value);
int64_t page_sum(const json_t *objects, const char *key);

/* ---- texts: of the web, never markup ---- */
/* UTF-8 as HTML and as XML have it; control characters as pictures of themselves, newline and tab as they
 * are. */
void page_text(FILE *out, const char *text, size_t bytes);
void page_string(FILE *out, const json_t *string);
void page_member(FILE *out, const json_t *object, const char *key);

/* ---- numbers: printf("%s", page_count(n).text) ---- */
typedef struct page_number {
    char text[48];
} page_number;
page_number page_count(int64_t n);                   /* 1,234,567 */
page_number page_signed(int64_t n);                  /* the same with its sign */
page_number page_bytes(int64_t n);                   /* 12.3 GB */
page_number page_share(int64_t part, int64_t whole); /* 12.3 %; 0 % and 100 % are exact */
page_number page_seconds(double seconds);            /* 1 h 02 min */

/* ---- blocks ---- */
void page_section(FILE *out, const char *id, const char *title); /* closed by "</section>" */
void page_cell(FILE *out, int64_t n);                            /* of a table */
/* A figure with its name and a note, both markup; between <div class="tiles"> and </div>. */
void page_tile(FILE *out, const char *name, const char *value, const char *note);
void page_tile_count(FILE *out, const char *name, int64_t n, const char *note);
/* A bar: `first` of it in one colour, `second` behind that in the colour of what goes. Shares. */
void page_bar(FILE *out, double first, double second);

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
