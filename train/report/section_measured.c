/* What was measured: times, rates and memory. The one section that differs between runs that computed the
 * same. */
#include "train/report/report_internal.h"

#include <math.h>

static double sum_of(const report_run *run, report_column c) {
    double sum = 0;
    for (int64_t i = 0; i < run->count; i++) {
        double v = report_step(run, i, c);
        if (isfinite(v) && v > 0) sum += v;
    }
    return sum;
}

static double most_of(const report_run *run, report_column c) {
    double most = 0;
    for (int64_t i = 0; i < run->count; i++) most = fmax(most, report_step(run, i, c));
    return most;
}

/* Of those that say it, weighted by their time. */
static double mean_mfu(const report_run *run) {
    double sum = 0, seconds = 0;
    for (int64_t i = 0; i < run->count; i++) {
        double v = report_step(run, i, REPORT_MFU), s = report_step(run, i, REPORT_SECONDS);
        if (isfinite(v) && s > 0) sum += v * s, seconds += s;
    }
    return seconds > 0 ? sum / seconds : NAN;
}

static void run_row(FILE *out, int group, const report_run *run) {
    double seconds = sum_of(run, REPORT_SECONDS), data = sum_of(run, REPORT_DATA_SECONDS),
           memory = most_of(run, REPORT_MEMORY),
           tokens = run->count ? report_step(run, run->count - 1, REPORT_TOKENS) : 0;
    fputs("<tr><th scope=\"row\">", out);
    report_who(out, group, run->of->name, "");
    fprintf(out, "</th><td class=\"n\">%s</td><td class=\"n\">%s</td>", weft_page_seconds(seconds).text,
            seconds > 0 && tokens / seconds < 1e15 ? weft_page_count((int64_t)(tokens / seconds + 0.5)).text
                                                   : "\xe2\x80\x93");
    fprintf(out, "<td class=\"n\">%s</td><td class=\"n\">%s</td><td class=\"n\">%s</td></tr>\n",
            report_fixed(100 * mean_mfu(run), 1).text,
            report_fixed(seconds > 0 ? 100 * data / seconds : NAN, 1).text,
            weft_page_bytes(memory < 9e18 ? (int64_t)memory : INT64_MAX).text);
}

static void run_table(FILE *out, const report *r) {
    fputs("<div class=\"wide\"><table>\n<thead><tr><th>Run</th><th class=\"n\">time in steps</th><th "
          "class=\"n\">tokens "
          "per second</th><th class=\"n\">MFU, %</th><th class=\"n\">waiting for data, %</th><th "
          "class=\"n\">memory of "
          "rank 0</th></tr></thead>\n<tbody>\n",
          out);
    for (int g = 0; g < r->group_count; g++)
        for (int i = 0; i < r->groups[g].count; i++)
            if (r->runs[r->groups[g].runs[i]].count > 0) run_row(out, g, &r->runs[r->groups[g].runs[i]]);
    fputs("</tbody></table></div>\n", out);
}

static void rate_chart(FILE *out, report *r, const report_grid *g) {
    char smoothing[160], title[300];
    report_chart c = {.title = title, .x = report_axis_empty, .y = report_axis_empty, .line = NAN};
    report_smoothing(r, g, smoothing, sizeof smoothing);
    snprintf(title, sizeof title, "Training throughput over the run: %s.", smoothing);
    report_over_run(r, &c, g, REPORT_RATE);
    report_axis_hold(&c.y, 0);
    for (int i = 0; i < c.count; i++)
        for (int64_t k = 0; k < c.series[i].curve.count; k++) report_axis_hold(&c.y, c.series[i].curve.y[k]);
    report_axis_finish(&c.y);
    c.x.label = report_run_axis(g);
    c.y.label = "tokens per second";
    report_chart_write(out, r, &c);
}

static const struct {
    const char *key, *label, *title;
} contexts[] = {
    {"prefill_tokens_per_second", "tokens per second",
     "Reading a text (prefill): tokens per second by its length."},
    {"decode_tokens_per_second", "tokens per second",
     "Writing behind a text (decoding): tokens per second by its length."},
    {"cache_bytes", "bytes", "Caches of one sequence (keys and values, Mamba states) by its length."},
    {"activation_bytes", "bytes", "Activations of one pass by the length of the text."}};

static void context_chart(FILE *out, report *r, size_t which) {
    report_chart c = {
        .title = contexts[which].title, .x = report_axis_empty, .y = report_axis_empty, .line = NAN};
    report_curve widest = {0};
    for (int g = 0; g < r->group_count; g++) {
        report_curve points =
            report_points(r, g, (report_list){"context", NULL, "tokens", contexts[which].key, 1});
        if (points.count > widest.count) widest = points;
        report_chart_add(
            r, &c, (report_series){.style = g, .name = r->groups[g].name, .marks = -1, .curve = points});
    }
    c.x.log = widest.count > 1 && widest.x[0] > 0;
    c.x.ticks = widest.x;
    c.x.tick_count = widest.count;
    c.x.binary = true;
    c.x.label = "context, tokens (K: 1,024)";
    c.y.label = contexts[which].label;
    c.y.log = true;
    report_chart_write(out, r, &c);
}

static void all_charts(FILE *out, report *r, int group) {
    report_grid g = report_grid_of(r, false);
    if (group > 0) return;
    if (g.count > 0) rate_chart(out, r, &g);
    for (size_t i = 0; i < sizeof contexts / sizeof *contexts; i++) context_chart(out, r, i);
}

void report_measured(FILE *out, report *r) {
    bool steps = false, context = false;
    for (int i = 0; i < r->run_count; i++) {
        steps = steps || r->runs[i].count > 0;
        context = context || json_array_size(json_object_get(r->runs[i].eval, "context")) > 0;
    }
    if (!steps && !context) return;
    fputs("<p class=\"note\">Times and rates are those of the machines that the runs had; everything else on "
          "this page "
          "is the same wherever they run.</p>\n",
          out);
    if (steps) run_table(out, r);
    report_charts(out, r, true, all_charts);
    report_skips(out, r, "context");
}
