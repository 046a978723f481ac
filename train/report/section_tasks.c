/* Bits per byte by domain, and the tasks against their difficulty. */
#include "train/report/report_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- bits per byte ---- */
enum { MOST_DOMAINS = 32, ROW = 17, NAME_COLUMNS = 18 };
typedef struct domains {
    const char *of[MOST_DOMAINS]; /* "" is all of them together */
    int count;
} domains;

static domains domains_of(const report *r) {
    domains d = {.count = 0};
    for (int i = 0; i < r->run_count; i++) {
        const json_t *bits = json_object_get(r->runs[i].eval, "bits");
        const char *name;
        json_t *one;
        if (d.count == 0 && json_is_object(json_object_get(bits, "all"))) d.of[d.count++] = "";
        json_object_foreach(json_object_get(bits, "domains"), name, one) {
            bool known = false;
            for (int k = 0; k < d.count; k++) known = known || strcmp(d.of[k], name) == 0;
            if (!known && d.count < MOST_DOMAINS) d.of[d.count++] = name;
        }
    }
    return d;
}

typedef struct spread {
    double mean, low, high, loss;
} spread;

static spread bits_of(const report *r, int group, const char *domain) {
    spread s = {0, INFINITY, -INFINITY, 0};
    const report_group *g = &r->groups[group];
    int n = 0;
    for (int i = 0; i < g->count; i++) {
        const json_t *bits = json_object_get(r->runs[g->runs[i]].eval, "bits");
        const json_t *one = *domain ? json_object_get(json_object_get(bits, "domains"), domain)
                                    : json_object_get(bits, "all");
        double v = report_member(one, "bits_per_byte");
        if (!isfinite(v)) continue;
        n++;
        s.mean += v;
        s.loss += report_member(one, "loss");
        s.low = fmin(s.low, v);
        s.high = fmax(s.high, v);
    }
    s.mean = n > 0 ? s.mean / n : NAN;
    s.loss = n > 0 ? s.loss / n : NAN;
    return s;
}

/* A row: the group's name, its mean, and the reach of its seeds. */
static void bits_row(FILE *out, const report *r, const report_frame *f, int group, const spread *s,
                     double y) {
    report_style_begin(out, group);
    fprintf(out, "<path class=\"axis\" d=\"M%.1f %.1fH%.1f\"/>", f->left, y, f->right);
    if (s->low < s->high)
        fprintf(out, "<path class=\"range\" d=\"M%.1f %.1fH%.1f\"/>", report_x(f, s->low), y,
                report_x(f, s->high));
    report_mark(out, group, report_x(f, s->mean), y, 3.8);
    fputs("<title>", out);
    weft_page_string(out, r->groups[group].name);
    fprintf(out, ": %s bits per byte (loss %s nats per token)", report_fixed(s->mean, 4).text,
            report_fixed(s->loss, 4).text);
    if (s->low < s->high)
        fprintf(out, "; from %s to %s over the seeds", report_fixed(s->low, 4).text,
                report_fixed(s->high, 4).text);
    fprintf(out, "</title></path><text class=\"own\" x=\"2\" y=\"%.1f\">", y + 4);
    report_cut(out, r->groups[group].name, NAME_COLUMNS);
    fputs("</text></g>\n", out);
}

static void bits_panel(FILE *out, report *r, const char *domain) {
    report_frame f = {.label = "bits per byte of held-out text",
                      .x = report_axis_empty,
                      .right = REPORT_WIDTH - 10,
                      .top = 4};
    spread *all = calloc((size_t)r->group_count, sizeof *all);
    int widest = 0, rows = 0;
    r->no_memory = r->no_memory || !all;
    for (int g = 0; all && g < r->group_count; g++) {
        int columns = report_columns(r->groups[g].name);
        all[g] = bits_of(r, g, domain);
        if (!isfinite(all[g].mean)) continue;
        report_axis_hold(&f.x, all[g].low);
        report_axis_hold(&f.x, all[g].high);
        rows++;
        if (columns > widest) widest = columns;
    }
    if (report_axis_finish(&f.x)) {
        f.left = 12 + 6.6 * (widest < NAME_COLUMNS ? widest : NAME_COLUMNS);
        f.bottom = f.top + rows * ROW;
        f.height = f.bottom + 36;
        f.x.label = "bits per byte (less is better)";
        report_figure_open(out, -1, NULL, *domain ? domain : "all domains together");
        report_frame_open(out, &f);
        for (int g = 0, at = 0; g < r->group_count; g++)
            if (isfinite(all[g].mean)) bits_row(out, r, &f, g, &all[g], f.top + (at++ + 0.5) * ROW);
        report_frame_close(out);
        report_figure_close(out);
    }
    free(all);
}

static void all_bits(FILE *out, report *r, int group) {
    domains d = domains_of(r);
    for (int i = 0; group == 0 && i < d.count; i++) bits_panel(out, r, d.of[i]);
}

void report_bits(FILE *out, report *r) {
    if (domains_of(r).count == 0) return;
    fputs("<p class=\"note\">How many bits the model needs for a byte of held-out text, in each domain: "
          "marks are means, "
          "lines reach over the seeds.</p>\n",
          out);
    report_charts(out, r, false, all_bits);
    report_skips(out, r, "bits");
}

/* ---- tasks by difficulty ---- */
static const struct {
    report_list list;
    const char *title, *axis;
    bool chance; /* one of the classes is right */
} tasks[] = {
    {{"recall", NULL, "pairs", "accuracy", 100},
     "Multi-query associative recall: right values of keys, by the number of pairs to remember.",
     "pairs",
     false},
    {{"copy", NULL, "words", "accuracy", 100},
     "Copying: words repeated right, by the number of words.",
     "words",
     false},
    {{"labels", "random", "examples", "accuracy", 100},
     "Few-shot labels with random names: the right one is likeliest of those shown, by examples seen.",
     "examples",
     true},
    {{"labels", "named", "examples", "accuracy", 100},
     "Few-shot labels with fixed names: the right one is likeliest of those shown, by examples seen.",
     "examples",
     true},
    {{"labels", "random", "examples", "format", 100},
     "Format, random names: the answer begins one of the labels shown, whether right or not.",
     "examples",
     false},
    {{"labels", "named", "examples", "format", 100},
     "Format, fixed names: the answer begins one of the labels shown, whether right or not.",
     "examples",
     false}};

/* Share of right answers by chance, in percent; NaN where it is not known. */
static double chance(const report *r) {
    double classes = 0;
    for (int i = 0; i < r->run_count; i++) {
        const json_t *suite = json_object_get(r->runs[i].eval, "suite");
        if (sscanf(report_string(suite, "labels.classes"), "%lf", &classes) == 1 && classes >= 1)
            return 100 / classes;
    }
    return NAN;
}

static void task_chart(FILE *out, report *r, size_t task) {
    report_chart c = {.title = tasks[task].title,
                      .x = report_axis_empty,
                      .y = {.low = 0, .high = 104},
                      .line = tasks[task].chance ? chance(r) : NAN,
                      .line_label = "chance"};
    report_curve widest = {0};
    for (int g = 0; g < r->group_count; g++) {
        report_curve points = report_points(r, g, tasks[task].list);
        if (points.count > widest.count) widest = points;
        report_chart_add(
            r, &c, (report_series){.style = g, .name = r->groups[g].name, .marks = -1, .curve = points});
    }
    c.x.log = widest.count > 1 && widest.x[0] > 0;
    c.x.ticks = widest.x;
    c.x.tick_count = widest.count;
    c.x.label = tasks[task].axis;
    c.y.label = "right, %";
    report_chart_write(out, r, &c);
}

static bool any_choices(const report *r) {
    bool any = false;
    for (int i = 0; i < r->run_count; i++)
        any = any || isfinite(report_member(json_object_get(r->runs[i].eval, "choices"), "accuracy"));
    return any;
}

static double mean_choice(const report *r, int group, const char *key) {
    const report_group *g = &r->groups[group];
    double sum = 0;
    int n = 0;
    for (int i = 0; i < g->count; i++) {
        double v = report_member(json_object_get(r->runs[g->runs[i]].eval, "choices"), key);
        if (isfinite(v)) sum += v, n++;
    }
    return n > 0 ? sum / n : NAN;
}

static void choices(FILE *out, const report *r) {
    static const char *const keys[] = {"accuracy", "accuracy_per_byte", "accuracy_per_token"};
    if (!any_choices(r)) return;
    fputs("<h3>Multiple choice</h3>\n<p class=\"note\">The right answer has the greatest log-likelihood, as "
          "it is, by "
          "the byte, by the token; per cent of the questions.</p>\n<div class=\"wide\"><table>\n"
          "<thead><tr><th>Variant</th><th class=\"n\">questions</th><th class=\"n\">whole</th><th "
          "class=\"n\">by the "
          "byte</th><th class=\"n\">by the token</th></tr></thead>\n<tbody>\n",
          out);
    for (int g = 0; g < r->group_count; g++) {
        fputs("<tr><th scope=\"row\">", out);
        report_who(out, g, r->groups[g].name, "");
        fprintf(out, "</th><td class=\"n\">%s</td>", report_number(mean_choice(r, g, "documents"), 4).text);
        for (int k = 0; k < 3; k++)
            fprintf(out, "<td class=\"n\">%s</td>", report_fixed(100 * mean_choice(r, g, keys[k]), 1).text);
        fputs("</tr>\n", out);
    }
    fputs("</tbody></table></div>\n", out);
}

static void all_tasks(FILE *out, report *r, int group) {
    for (size_t i = 0; group == 0 && i < sizeof tasks / sizeof *tasks; i++) task_chart(out, r, i);
}

void report_tasks(FILE *out, report *r) {
    report_charts(out, r, true, all_tasks);
    choices(out, r);
    report_skips(out, r, "recall");
    report_skips(out, r, "copy");
    report_skips(out, r, "labels");
    report_skips(out, r, "choices");
}
