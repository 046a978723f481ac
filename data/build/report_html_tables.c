/* The report's page: what was read from each file, what is left of each domain, and the time of stages. */
#include "data/build/report_html_parts.h"

#include <string.h>

enum { OPEN_FILES = 12, MOST_FILES = 500 }; /* more than OPEN_FILES are folded */

/* ---- files ---- */
static const struct {
    const char *key, *title;
    bool wrong; /* a file that has any of these is shown however many there are */
} counts[] = {{"documents", "documents", false}, {"bytes", "bytes", false},
              {"malformed", "malformed", true},  {"empty", "empty", true},
              {"oversize", "too long", true},    {"invalid", "invalid", true},
              {"repaired", "repaired", true},    {"other", "other records", false},
              {"damaged", "damaged", true},      {"skipped_bytes", "bytes skipped", true}};
enum { COUNTS = sizeof counts / sizeof *counts };

static bool went_wrong(const json_t *file) {
    bool wrong = false;
    for (int i = 0; i < COUNTS; i++)
        wrong = wrong || (counts[i].wrong && page_integer(file, counts[i].key) != 0);
    return wrong;
}

static void files_table(FILE *out, const json_t *files) {
    size_t total = json_array_size(files), shown = 0, i;
    const json_t *one;
    fputs("<div class=\"wide\"><table>\n<thead><tr><th>File</th>", out);
    for (int c = 0; c < COUNTS; c++) fprintf(out, "<th class=\"n\">%s</th>", counts[c].title);
    fputs("</tr></thead>\n<tbody>\n", out);
    json_array_foreach(files, i, one) {
        if (shown == MOST_FILES || (total > MOST_FILES && !went_wrong(one))) continue;
        fputs("<tr><th scope=\"row\" class=\"file\"><bdi>", out);
        page_member(out, one, "file");
        fputs("</bdi></th>", out);
        for (int c = 0; c < COUNTS; c++) weft_page_cell(out, page_integer(one, counts[c].key));
        fputs("</tr>\n", out);
        shown++;
    }
    fprintf(out, "<tr class=\"sum\"><th scope=\"row\">all %s</th>", weft_page_count((int64_t)total).text);
    for (int c = 0; c < COUNTS; c++) weft_page_cell(out, page_sum(files, counts[c].key));
    fputs("</tr>\n</tbody></table></div>\n", out);
    if (shown < total)
        fprintf(
            out,
            "<p class=\"note\">%s of %s files are shown, the first of those where something was left out or "
            "repaired; all are in report.json.</p>\n",
            weft_page_count((int64_t)shown).text, weft_page_count((int64_t)total).text);
}

void page_files(FILE *out, const json_t *report) {
    const json_t *files = json_object_get(report, "files");
    size_t total = json_array_size(files), wrong = 0, i;
    const json_t *one;
    if (total == 0) return;
    json_array_foreach(files, i, one) wrong += went_wrong(one);
    weft_page_section(out, "files", "What was read");
    fputs("<p class=\"note\">Malformed, empty, too long and invalid (no UTF-8, or with a zero byte) are "
          "documents that were passed over; repaired ones were read. Other records are those of WARC that "
          "hold no text. A damaged file was read up to its damage.</p>\n",
          out);
    if (total > OPEN_FILES)
        fprintf(out,
                "<details><summary>%s files, <small>%s of them with something left out or "
                "repaired</small></summary><div>\n",
                weft_page_count((int64_t)total).text, weft_page_count((int64_t)wrong).text);
    files_table(out, files);
    if (total > OPEN_FILES) fputs("</div></details>\n", out);
    fputs("</section>\n", out);
}

/* ---- what is left ---- */
typedef struct left {
    int64_t documents, bytes, tokens, shards;
} left;

static void add(left *sum, const json_t *one) {
    sum->documents += page_integer(one, "documents");
    sum->bytes += page_integer(one, "bytes");
    sum->tokens += page_integer(one, "tokens");
    sum->shards += page_integer(one, "shards");
}

static void left_row(FILE *out, const left *l, int64_t all_tokens) {
    weft_page_cell(out, l->documents);
    weft_page_cell(out, l->bytes);
    weft_page_cell(out, l->tokens);
    fprintf(out, "<td class=\"n\">%s</td>", weft_page_share(l->tokens, all_tokens).text);
    if (l->tokens > 0)
        fprintf(out, "<td class=\"n\">%.2f</td>", (double)l->bytes / (double)l->tokens);
    else
        fputs("<td class=\"n z\">\xe2\x80\x93</td>", out);
    weft_page_cell(out, l->shards);
    fputs("<td class=\"edge\">", out);
    weft_page_bar(out, all_tokens > 0 ? (double)l->tokens / (double)all_tokens : 0, 0);
    fputs("</td></tr>\n", out);
}

/* The sum of each split, where it is first named. */
static void split_rows(FILE *out, const json_t *domains, int64_t all_tokens) {
    size_t i, j;
    const json_t *one, *other;
    json_array_foreach(domains, i, one) {
        const char *split = json_string_value(json_object_get(one, "split"));
        left sum = {0};
        size_t first = i;
        json_array_foreach(domains, j, other) {
            if (!split || !page_is(other, "split", split)) continue;
            if (j < first) first = j;
            add(&sum, other);
        }
        if (!split || first < i) continue;
        fputs("<tr class=\"sum\"><th scope=\"row\">all domains</th><td>", out);
        page_member(out, one, "split");
        fputs("</td>", out);
        left_row(out, &sum, all_tokens);
    }
}

void page_final(FILE *out, const json_t *report) {
    const json_t *domains = json_object_get(report, "domains");
    int64_t all_tokens = page_sum(domains, "tokens");
    size_t i;
    const json_t *one;
    if (json_array_size(domains) == 0) return;
    weft_page_section(out, "kept", "What is left");
    fputs(
        "<div class=\"wide\"><table>\n"
        "<thead><tr><th>Domain</th><th>Split</th><th class=\"n\">documents</th><th class=\"n\">bytes</th><th "
        "class=\"n\">tokens</th><th class=\"n\">share of tokens</th><th class=\"n\">bytes a token</th><th "
        "class=\"n\">shards</th><th class=\"edge\">Tokens</th></tr></thead>\n<tbody>\n",
        out);
    json_array_foreach(domains, i, one) {
        left l = {0};
        add(&l, one);
        fputs("<tr><th scope=\"row\">", out);
        page_member(out, one, "domain");
        fputs("</th><td>", out);
        page_member(out, one, "split");
        fputs("</td>", out);
        left_row(out, &l, all_tokens);
    }
    split_rows(out, domains, all_tokens);
    fputs("</tbody></table></div>\n</section>\n", out);
}

/* ---- time ---- */
static double seconds_of(const json_t *stage) {
    double s = json_number_value(json_array_get(stage, 1));
    return s > 0 ? s : 0;
}

void page_times(FILE *out, const json_t *times) {
    double sum = 0, most = 0;
    size_t i;
    const json_t *one;
    if (json_array_size(times) == 0) return;
    json_array_foreach(times, i, one) {
        sum += seconds_of(one);
        if (seconds_of(one) > most) most = seconds_of(one);
    }
    weft_page_section(out, "times", "Time");
    fprintf(out,
            "<p class=\"note\">%s in all stages. A stage that an earlier, interrupted build had done took "
            "none.</p>\n"
            "<div class=\"wide\"><table>\n"
            "<thead><tr><th>Stage</th><th class=\"n\">time</th><th "
            "class=\"n\">share</th><th></th></tr></thead>\n<tbody>\n",
            weft_page_seconds(sum).text);
    json_array_foreach(times, i, one) {
        double s = seconds_of(one);
        fputs("<tr><th scope=\"row\">", out);
        page_string(out, json_array_get(one, 0));
        fprintf(out, "</th><td class=\"n%s\">%s</td><td class=\"n\">%.1f %%</td><td>", s > 0 ? "" : " z",
                s > 0 ? weft_page_seconds(s).text : "done before", sum > 0 ? 100 * s / sum : 0);
        weft_page_bar(out, most > 0 ? s / most : 0, 0);
        fputs("</td></tr>\n", out);
    }
    fputs("</tbody></table></div>\n</section>\n", out);
}
