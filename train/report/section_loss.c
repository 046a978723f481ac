/* The loss over the run, and its difference to the baseline. */
#include "runtime/fs.h"
#include "train/report/report_internal.h"

#include <math.h>
#include <stdlib.h>

/* The mean of each group's curves, and the curves where it has several. */
static void add_groups(report *r, report_chart *c, const report_curve *curves) {
    report_curve *of = malloc((size_t)r->run_count * sizeof *of);
    if (!of) {
        r->no_memory = true;
        return;
    }
    for (int g = 0; g < r->group_count; g++) {
        const report_group *group = &r->groups[g];
        int n = 0;
        for (int i = 0; i < group->count; i++)
            if (curves[group->runs[i]].count) of[n++] = curves[group->runs[i]];
        for (int i = 0; i < n && n > 1; i++)
            report_chart_add(r, c,
                             (report_series){.style = g, .name = group->name, .thin = true, .curve = of[i]});
        report_chart_add(
            r, c,
            (report_series){.style = g, .name = group->name, .marks = 6, .curve = report_mean(r, of, n)});
    }
    free(of);
}

void report_over_run(report *r, report_chart *c, const report_grid *g, report_column column) {
    report_curve *curves = calloc((size_t)r->run_count, sizeof *curves);
    if (!curves) {
        r->no_memory = true;
        return;
    }
    for (int i = 0; i < r->run_count; i++) curves[i] = report_smooth(r, &r->runs[i], g, column);
    add_groups(r, c, curves);
    free(curves);
}

const char *report_run_axis(const report_grid *g) {
    return g->tokens ? "tokens" : "steps";
}

/* "; thin lines are single seeds, thick ones their mean", where there are such. */
static const char *about_seeds(const report *r) {
    for (int g = 0; g < r->group_count; g++)
        if (r->groups[g].count > 1) return "; thin lines are single seeds, thick ones their mean";
    return "";
}

void report_smoothing(const report *r, const report_grid *g, char *out, size_t size) {
    int64_t window = g->window / 2 * 2 + 1;
    if (window > 1)
        snprintf(out, size, "each point is the mean of %lld steps around it%s", (long long)window,
                 about_seeds(r));
    else
        snprintf(out, size, "every step as it is%s", about_seeds(r));
}

/* Limits without the steep beginning, that hold `level` (NaN: none); *cut: the curves go beyond. */
static report_axis without_beginning(const report_chart *c, double level, bool *cut) {
    report_axis most = report_axis_empty, all = report_axis_empty, x = report_axis_empty;
    for (int i = 0; i < c->count; i++)
        for (int64_t k = 0; k < c->series[i].curve.count; k++) report_axis_hold(&x, c->series[i].curve.x[k]);
    for (int i = 0; i < c->count; i++) {
        const report_curve *curve = &c->series[i].curve;
        for (int64_t k = 0; k < curve->count; k++) {
            report_axis_hold(&all, curve->y[k]);
            if (curve->x[k] >= 0.1 * x.high) report_axis_hold(&most, curve->y[k]);
        }
    }
    report_axis_hold(&most, level);
    *cut = report_axis_finish(&most) && all.high > most.high;
    return most;
}

static void loss_chart(FILE *out, report *r, const report_grid *g) {
    char smoothing[160], title[320];
    bool cut = false;
    report_chart c = {.title = title, .x = report_axis_empty, .y = report_axis_empty, .line = NAN};
    report_smoothing(r, g, smoothing, sizeof smoothing);
    report_over_run(r, &c, g, REPORT_LOSS);
    c.x.log = g->by_ratio;
    if (!g->by_ratio) c.y = without_beginning(&c, NAN, &cut);
    c.x.label = report_run_axis(g);
    c.y.label = "training loss, nats per token";
    if (g->by_ratio)
        snprintf(title, sizeof title, "The same with %s on a logarithmic scale, from the first step on.",
                 c.x.label);
    else
        snprintf(title, sizeof title, "Training loss over %s: %s.%s", c.x.label, smoothing,
                 cut ? " The steep beginning is cut off above." : "");
    report_chart_write(out, r, &c);
}

static void difference_chart(FILE *out, report *r, const report_grid *g) {
    if (r->baseline < 0 || r->group_count < 2 || !report_same_batches(r)) return;
    report_curve *curves = calloc((size_t)r->run_count, sizeof *curves);
    char *title =
        weft_format("Training loss less that of %s on the same batches, smoothed as above: below 0 is "
                    "better.",
                    r->groups[r->baseline].name);
    r->no_memory = r->no_memory || !curves || !title;
    for (int i = 0; curves && i < r->run_count; i++) {
        const report_run *base = report_partner(r, &r->runs[i]);
        if (base && base != &r->runs[i])
            curves[i] = report_difference(r, report_smooth(r, &r->runs[i], g, REPORT_LOSS),
                                          report_smooth(r, base, g, REPORT_LOSS));
    }
    bool cut;
    report_chart c = {.title = title, .x = report_axis_empty, .y = report_axis_empty, .line = 0};
    if (curves) add_groups(r, &c, curves);
    c.y = without_beginning(&c, 0, &cut);
    c.x.label = report_run_axis(g);
    c.y.label = "difference, nats per token";
    report_chart_write(out, r, &c);
    free(curves);
    free(title);
}

void report_loss(FILE *out, report *r) {
    report_grid even = report_grid_of(r, false), ratio = report_grid_of(r, true);
    if (even.count == 0) return;
    report_legend(out, r);
    fputs("<div class=\"charts\">\n", out);
    loss_chart(out, r, &even);
    if (ratio.count > 3) loss_chart(out, r, &ratio);
    difference_chart(out, r, &even);
    fputs("</div>\n", out);
}
