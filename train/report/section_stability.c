/* Stability: gradient norms, spikes of the loss, skipped steps, and the largest activations. */
#include "train/report/report_internal.h"

#include <math.h>
#include <stdlib.h>

enum { MOST_MARKS = 60, SHOWN_STEPS = 4 };

/* ---- the table ---- */
typedef struct counts {
    int64_t spikes, skipped;
    double norm, activation, first[SHOWN_STEPS];
} counts;

static double largest_activation(const report_run *run) {
    double most = NAN;
    size_t i;
    const json_t *one;
    json_array_foreach(json_object_get(json_object_get(run->eval, "activations"), "layers"), i, one) {
        double max = report_member(one, "max");
        if (isfinite(max)) most = isfinite(most) ? fmax(most, max) : max;
    }
    return most;
}

static counts count_run(report *r, const report_run *run) {
    double *at = NULL;
    counts c = {.spikes = report_spikes(r, run, &at), .skipped = report_skipped(run), .norm = NAN};
    for (int64_t i = 0; i < c.spikes && i < SHOWN_STEPS; i++)
        c.first[i] = report_step(run, (int64_t)at[i], REPORT_STEP);
    for (int64_t i = 0; i < run->count; i++) {
        double v = report_step(run, i, REPORT_GRAD_NORM);
        if (isfinite(v)) c.norm = isfinite(c.norm) ? fmax(c.norm, v) : v;
    }
    c.activation = largest_activation(run);
    return c;
}

static void table_row(FILE *out, int group, const report_run *run, const counts *c) {
    fputs("<tr><th scope=\"row\">", out);
    report_who(out, group, run->of->name, "");
    fputs("</th>", out);
    weft_page_cell(out, run->count);
    fprintf(out, "<td class=\"n%s\">%s", c->spikes == 0 ? " z" : "", weft_page_count(c->spikes).text);
    for (int64_t i = 0; i < c->spikes && i < SHOWN_STEPS; i++)
        fprintf(out, "%s%.0f%s", i == 0 ? "<small>at " : ", ", c->first[i],
                i + 1 == c->spikes     ? "</small>"
                : i + 1 == SHOWN_STEPS ? ", \xe2\x80\xa6</small>"
                                       : "");
    fputs("</td>", out);
    weft_page_cell(out, c->skipped);
    fprintf(out, "<td class=\"n\">%s</td><td class=\"n\">%s</td></tr>\n", report_number(c->norm, 3).text,
            report_number(c->activation, 3).text);
}

static void table(FILE *out, report *r) {
    fputs(
        "<div class=\"wide\"><table>\n<thead><tr><th>Run</th><th class=\"n\">steps</th><th class=\"n\">loss "
        "spikes</th><th class=\"n\">skipped steps</th><th class=\"n\">largest gradient norm</th><th "
        "class=\"n\">largest activation</th></tr></thead>\n<tbody>\n",
        out);
    for (int g = 0; g < r->group_count; g++)
        for (int i = 0; i < r->groups[g].count; i++) {
            const report_run *run = &r->runs[r->groups[g].runs[i]];
            counts c = count_run(r, run);
            table_row(out, g, run, &c);
        }
    fputs("</tbody></table></div>\n", out);
}

/* ---- gradient norms ---- */
/* Marks at the steps whose loss spiked, or that were skipped with a norm. */
static report_curve spike_marks(report *r, const report_run *run, const report_grid *g) {
    double *at = NULL;
    int64_t n = report_spikes(r, run, &at);
    if (n > MOST_MARKS) n = MOST_MARKS;
    report_curve c = {.x = report_reals(r, n), .y = report_reals(r, n)};
    if (!c.x || !c.y) return (report_curve){0};
    c.count = n;
    for (int64_t i = 0; i < n; i++) {
        c.x[i] = report_step(run, (int64_t)at[i], g->tokens ? REPORT_TOKENS : REPORT_STEP);
        c.y[i] = report_step(run, (int64_t)at[i], REPORT_GRAD_NORM);
    }
    return c;
}

static void norm_chart(FILE *out, report *r, const report_grid *g) {
    char title[320];
    report_chart c = {.title = title, .x = report_axis_empty, .y = report_axis_empty, .line = NAN};
    report_curve *smooth = calloc((size_t)r->run_count, sizeof *smooth);
    if (!smooth) {
        r->no_memory = true;
        return;
    }
    for (int i = 0; i < r->group_count; i++) {
        const report_group *group = &r->groups[i];
        for (int k = 0; k < group->count; k++) {
            const report_run *run = &r->runs[group->runs[k]];
            smooth[k] = report_smooth(r, run, g, REPORT_GRAD_NORM);
            report_chart_add(r, &c,
                             (report_series){.style = i,
                                             .name = group->name,
                                             .thin = true,
                                             .curve = report_peaks(r, run, g, REPORT_GRAD_NORM)});
            report_chart_add(r, &c,
                             (report_series){.style = i,
                                             .name = group->name,
                                             .thin = true,
                                             .no_line = true,
                                             .marks = -1,
                                             .curve = spike_marks(r, run, g)});
        }
        report_chart_add(r, &c,
                         (report_series){.style = i,
                                         .name = group->name,
                                         .marks = g->count == 1,
                                         .curve = report_mean(r, smooth, group->count)});
    }
    free(smooth);
    snprintf(title, sizeof title,
             "Gradient norm before clipping: thick, the mean of %lld steps and the seeds; thin, the largest "
             "of these "
             "steps in each run; marks, steps whose loss was a spike.",
             (long long)(g->window / 2 * 2 + 1));
    c.x.label = report_run_axis(g);
    c.y.label = "gradient norm";
    c.y.log = true;
    report_chart_write(out, r, &c);
}

void report_stability(FILE *out, report *r) {
    report_grid g = report_grid_of(r, false);
    bool any = g.count > 0;
    for (int i = 0; i < r->run_count; i++) any = any || isfinite(largest_activation(&r->runs[i]));
    if (!any) return;
    fputs(
        "<p class=\"note\">A spike is a step whose loss is above the median of the 50 before it by more than "
        "6 times "
        "their median absolute deviation. A step whose loss or gradient is not finite is skipped: nothing is "
        "updated.</p>\n",
        out);
    table(out, r);
    report_legend(out, r);
    fputs("<div class=\"charts\">\n", out);
    if (g.count > 0) norm_chart(out, r, &g);
    report_activations(out, r);
    fputs("</div>\n", out);
}
