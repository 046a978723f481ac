/* The table of results: a row for each variant, in the paper's form, with its difference to the baseline as
 * an interval. */
#include "train/report/report_internal.h"

#include <math.h>
#include <string.h>

/* Members of that object of any row, in the order in which they are first met; "all" comes first. */
enum { MOST_COLUMNS = 64 };
typedef struct names {
    const char *of[MOST_COLUMNS];
    int count;
} names;

static void add_name(names *n, const char *name) {
    for (int i = 0; i < n->count; i++)
        if (strcmp(n->of[i], name) == 0) return;
    if (n->count < MOST_COLUMNS) n->of[n->count++] = name;
}

static names members(const report *r, const char *object) {
    names n = {.count = 0};
    const json_t *row;
    const char *key;
    json_t *value;
    size_t i;
    json_array_foreach(r->rows, i, row) if (json_object_get(json_object_get(row, object), "all"))
        add_name(&n, "all");
    json_array_foreach(r->rows, i, row) json_object_foreach(json_object_get(row, object), key, value)
        add_name(&n, key);
    return n;
}

/* ---- intervals ---- */
static const struct {
    const char *key, *title, *what;
} differences[] = {{"heldout", "held-out text", "the same sequences, mean over seeds"},
                   {"train", "training, last quarter", "the same batches"},
                   {"seeds", "over seeds", "held-out, one pair for each seed"}};
enum { DIFFERENCES = 3, HALF = 70 };

static const json_t *difference(const json_t *row, int kind) {
    return json_object_get(json_object_get(row, "difference"), differences[kind].key);
}

/* How far intervals reach from 0; 0: there are none of that kind. */
static double reach(const report *r, int kind) {
    double most = 0;
    size_t i;
    const json_t *row;
    json_array_foreach(r->rows, i, row) {
        const json_t *d = difference(row, kind);
        double ends[] = {report_member(d, "mean"), report_member(d, "low"), report_member(d, "high")};
        for (int k = 0; k < 3; k++)
            if (isfinite(ends[k])) most = fmax(most, fabs(ends[k]));
    }
    return most;
}

static double across(double v, double most) {
    return 75 + HALF * fmin(fmax(v / most, -1), 1);
}

static void interval_cell(FILE *out, const json_t *d, int style, bool baseline, double most) {
    double mean = report_member(d, "mean"), low = report_member(d, "low"), high = report_member(d, "high");
    if (!isfinite(mean)) {
        fprintf(out, "<td class=\"z\">%s</td>", baseline ? "baseline" : "\xe2\x80\x93");
        return;
    }
    fputs("<td><svg class=\"interval\" viewBox=\"0 0 150 20\" role=\"img\"><title>", out);
    report_interval(out, d);
    fputs("</title><path class=\"zero\" d=\"M75 0V20\"/>", out);
    report_style_begin(out, style < 0 ? 0 : style);
    if (isfinite(low) && isfinite(high))
        fprintf(out, "<path class=\"whisker\" d=\"M%.1f 10H%.1fM%.1f 6V14M%.1f 6V14\"/>", across(low, most),
                across(high, most), across(low, most), across(high, most));
    report_mark(out, style < 0 ? 0 : style, across(mean, most), 10, 4);
    fprintf(out, "</path></g></svg><small>%s", report_signed(mean, 4).text);
    if (isfinite(low) && isfinite(high))
        fprintf(out, " [%s, %s]", report_signed(low, 4).text, report_signed(high, 4).text);
    double pairs = report_member(d, "pairs");
    fprintf(out, "; %s pair%s</small></td>", report_number(pairs, 6).text, pairs == 1 ? "" : "s");
}

/* ---- the table ---- */
typedef struct table {
    names domains, tasks;
    bool params, flops;
} table;

static bool any_row(const report *r, const char *key) {
    bool any = false;
    size_t i;
    const json_t *row;
    json_array_foreach(r->rows, i, row) any = any || isfinite(report_member(row, key));
    return any;
}

static void group_heads(FILE *out, const table *t) {
    int plain = t->params + t->flops + 1;
    fprintf(out, "<tr class=\"groups\"><th></th><th colspan=\"%d\"></th>", plain);
    if (t->domains.count)
        fprintf(out, "<th class=\"edge\" colspan=\"%d\">Log-probability per byte, held-out</th>",
                t->domains.count);
    if (t->tasks.count)
        fprintf(out, "<th class=\"edge\" colspan=\"%d\">Tasks, right answers %%</th>", t->tasks.count);
    fputs("</tr>\n", out);
}

static void head_cell(FILE *out, const char *name, bool edge) {
    char text[64];
    snprintf(text, sizeof text, "%s", name);
    for (char *c = text; *c; c++)
        if (*c == '_') *c = ' ';
    fprintf(out, "<th class=\"n%s\">", edge ? " edge" : "");
    weft_page_string(out, text);
    fputs("</th>", out);
}

static void heads(FILE *out, const table *t) {
    fputs("<thead>", out);
    group_heads(out, t);
    fputs("<tr><th>Variant</th>", out);
    if (t->params) fputs("<th class=\"n\">parameters<small>active</small></th>", out);
    if (t->flops) fputs("<th class=\"n\">FLOPs per token</th>", out);
    fputs("<th class=\"n\">training loss</th>", out);
    for (int i = 0; i < t->domains.count; i++) {
        fprintf(out, "<th class=\"n%s\">", i == 0 ? " edge" : "");
        weft_page_string(out, t->domains.of[i]);
        fputs("</th>", out);
    }
    for (int i = 0; i < t->tasks.count; i++) head_cell(out, t->tasks.of[i], i == 0);
    fputs("</tr></thead>\n", out);
}

/* The greatest of a column is set in bold, where rows differ. */
static bool is_best(const report *r, const char *object, const char *name, const char *what, double v) {
    double most = -INFINITY, least = INFINITY;
    size_t i;
    const json_t *row;
    json_array_foreach(r->rows, i, row) {
        const json_t *of = json_object_get(json_object_get(row, object), name);
        double other = what ? report_member(of, what) : report_real(of);
        most = fmax(most, other);
        least = fmin(least, other);
    }
    return v == most && most > least;
}

static void score(FILE *out, weft_page_number text, bool best, bool edge) {
    fprintf(out, best ? "<td class=\"n%s\"><b>%s</b></td>" : "<td class=\"n%s\">%s</td>", edge ? " edge" : "",
            text.text);
}

static void number_cell(FILE *out, weft_page_number text) {
    fprintf(out, "<td class=\"n\">%s</td>", text.text);
}

static void table_row(FILE *out, const report *r, const table *t, const json_t *row, size_t at) {
    int style = report_row_group(r, row, at);
    fputs("<tr><th scope=\"row\">", out);
    report_who(out, style, report_row_name(r, row, at), report_string(row, "matched"));
    fputs("</th>", out);
    if (t->params)
        fprintf(out, "<td class=\"n\">%s<small>%s</small></td>",
                report_number(report_member(row, "params"), 3).text,
                report_number(report_member(row, "active"), 3).text);
    if (t->flops) number_cell(out, report_number(report_member(row, "flops_per_token"), 3));
    number_cell(out, report_fixed(report_member(row, "train_loss"), 4));
    for (int i = 0; i < t->domains.count; i++) {
        double v = report_heldout(row, t->domains.of[i], "log_prob_per_byte");
        score(out, report_fixed(v, 4), is_best(r, "heldout", t->domains.of[i], "log_prob_per_byte", v),
              i == 0);
    }
    for (int i = 0; i < t->tasks.count; i++) {
        double v = report_member(json_object_get(row, "tasks"), t->tasks.of[i]);
        score(out, report_fixed(100 * v, 1), is_best(r, "tasks", t->tasks.of[i], NULL, v), i == 0);
    }
    fputs("</tr>\n", out);
}

static void score_table(FILE *out, const report *r) {
    table t = {.domains = members(r, "heldout"),
               .tasks = members(r, "tasks"),
               .params = any_row(r, "params"),
               .flops = any_row(r, "flops_per_token")};
    size_t i;
    const json_t *row;
    if (json_array_size(r->rows) > 1)
        fputs("<p class=\"note\">Means over seeds. The greatest log-probability (nats per byte, nearest to "
              "0) and the "
              "most right answers of each column are bold.</p>\n",
              out);
    fputs("<div class=\"wide\"><table class=\"scores\">\n", out);
    heads(out, &t);
    fputs("<tbody>\n", out);
    json_array_foreach(r->rows, i, row) table_row(out, r, &t, row, i);
    fputs("</tbody></table></div>\n", out);
}

/* ---- differences to the baseline ---- */
static void difference_head(FILE *out, const report *r, const double reaches[DIFFERENCES]) {
    fputs("<h3>Difference to ", out);
    weft_page_string(out, r->groups[r->baseline].name);
    fputs("</h3>\n<p class=\"note\">Loss in nats per token less the baseline's: a mark is the mean, whiskers "
          "are its 95 % "
          "interval (Student's t over the pairs), the dashed line is no difference, left of it is better. "
          "Each column "
          "has its own scale.</p>\n<div class=\"wide\"><table>\n<thead><tr><th>Variant</th>",
          out);
    for (int k = 0; k < DIFFERENCES; k++)
        if (reaches[k] > 0)
            fprintf(out,
                    "<th>%s<small>%s</small><span "
                    "class=\"ends\"><span>%s</span><span>0</span><span>%s</span></span></th>",
                    differences[k].title, differences[k].what, report_signed(-reaches[k], 3).text,
                    report_signed(reaches[k], 3).text);
    fputs("</tr></thead>\n<tbody>\n", out);
}

static void difference_table(FILE *out, const report *r) {
    double reaches[DIFFERENCES], most = 0;
    size_t i;
    const json_t *row;
    for (int k = 0; k < DIFFERENCES; k++) most = fmax(most, reaches[k] = reach(r, k));
    if (!(most > 0) || r->baseline < 0) return;
    difference_head(out, r, reaches);
    json_array_foreach(r->rows, i, row) {
        int style = report_row_group(r, row, i);
        fputs("<tr><th scope=\"row\">", out);
        report_who(out, style, report_row_name(r, row, i), "");
        fputs("</th>", out);
        for (int k = 0; k < DIFFERENCES; k++)
            if (reaches[k] > 0)
                interval_cell(out, difference(row, k), style, style == r->baseline, reaches[k]);
        fputs("</tr>\n", out);
    }
    fputs("</tbody></table></div>\n", out);
}

void report_results(FILE *out, report *r) {
    if (members(r, "heldout").count == 0 && members(r, "tasks").count == 0 && !any_row(r, "train_loss"))
        return;
    score_table(out, r);
    difference_table(out, r);
}
