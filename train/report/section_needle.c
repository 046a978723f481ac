/* Heat maps: needles found by length and depth, and the load of experts. */
#include "train/report/report_internal.h"

#include <math.h>
#include <stdlib.h>

enum { MOST_CELLS = 1 << 16 };

/* ---- needle ---- */
static const json_t *needle_of(const report *r, int group, int i) {
    return json_object_get(r->runs[r->groups[group].runs[i]].eval, "needle");
}

/* Of the seeds, as they measured the same lengths and depths. accuracy is by length, then depth; the drawing
 * has a row for each depth. */
static void average(const report *r, int group, report_heat *h, double *mean, double *low, double *high) {
    for (int64_t depth = 0; depth < h->rows; depth++)
        for (int64_t length = 0; length < h->columns; length++) {
            int64_t at = depth * h->columns + length, n = 0;
            double sum = 0;
            low[at] = INFINITY, high[at] = -INFINITY;
            for (int i = 0; i < r->groups[group].count; i++) {
                const json_t *rows = json_object_get(needle_of(r, group, i), "accuracy");
                double v = report_real(json_array_get(json_array_get(rows, (size_t)length), (size_t)depth));
                if (!isfinite(v)) continue;
                sum += v, n++;
                low[at] = fmin(low[at], v);
                high[at] = fmax(high[at], v);
            }
            mean[at] = n > 0 ? sum / (double)n : NAN;
        }
}

static void needle_map(FILE *out, report *r, int group) {
    const json_t *first = NULL;
    for (int i = 0; i < r->groups[group].count && !json_is_array(json_object_get(first, "accuracy")); i++)
        first = needle_of(r, group, i);
    const json_t *lengths = json_object_get(first, "lengths"), *depths = json_object_get(first, "depths");
    report_heat h = {.label = "share of needles found by depth and length",
                     .row_label = "depth",
                     .column_label = "length, tokens",
                     .unit = " %",
                     .rows = (int64_t)json_array_size(depths),
                     .columns = (int64_t)json_array_size(lengths),
                     .most = 1,
                     .shown_scale = 100,
                     .level = NAN};
    if (h.rows < 1 || h.columns < 1 || h.rows * h.columns > MOST_CELLS) return;
    double *mean = report_reals(r, h.rows * h.columns), *low = report_reals(r, h.rows * h.columns),
           *high = report_reals(r, h.rows * h.columns);
    weft_page_number *names = calloc((size_t)(h.rows + h.columns), sizeof *names);
    if (mean && low && high && names) {
        for (int64_t i = 0; i < h.rows; i++)
            snprintf(names[i].text, sizeof names[i].text, "%.0f %%",
                     fmin(fmax(100 * json_number_value(json_array_get(depths, (size_t)i)), 0), 100));
        for (int64_t i = 0; i < h.columns; i++)
            names[h.rows + i] = report_length(json_number_value(json_array_get(lengths, (size_t)i)));
        h.row_names = names, h.column_names = names + h.rows;
        h.values = mean, h.low = low, h.high = high;
        average(r, group, &h, mean, low, high);
        report_figure_open(
            out, group, r->groups[group].name,
            "needles found, %, by where the needle stands (0 %: at the beginning) and the length of the "
            "text.");
        report_heat_write(out, &h);
        report_figure_close(out);
    }
    r->no_memory = r->no_memory || !names;
    free(names);
}

void report_needle(FILE *out, report *r) {
    report_charts(out, r, false, needle_map);
    report_skips(out, r, "needle");
}

/* ---- experts ---- */
static const json_t *experts_of(const report *r, int group, int i) {
    return json_object_get(r->runs[r->groups[group].runs[i]].eval, "experts");
}

static double share(const json_t *layers, int64_t layer, int64_t expert) {
    const json_t *shares = json_object_get(json_array_get(layers, (size_t)layer), "share");
    return report_real(json_array_get(shares, (size_t)expert));
}

/* Means over the seeds that have this layer. */
static void average_shares(const report *r, int group, report_heat *h, double *mean) {
    for (int64_t at = 0; at < h->rows * h->columns; at++) {
        double sum = 0;
        int n = 0;
        for (int i = 0; i < r->groups[group].count; i++) {
            double v = share(experts_of(r, group, i), at / h->columns, at % h->columns);
            if (isfinite(v) && v >= 0) sum += v, n++;
        }
        mean[at] = n > 0 ? sum / n : NAN;
        if (mean[at] > h->most) h->most = mean[at];
    }
}

static void expert_map(FILE *out, report *r, int group) {
    const json_t *first = NULL, *layer;
    size_t at;
    report_heat h = {.label = "share of tokens of each expert, by layer",
                     .row_label = "layer",
                     .column_label = "expert",
                     .unit = " %",
                     .shown_scale = 100,
                     .decimals = 1};
    for (int i = 0; i < r->groups[group].count && json_array_size(first) == 0; i++)
        first = experts_of(r, group, i);
    json_array_foreach(first, at, layer) {
        int64_t experts = (int64_t)json_array_size(json_object_get(layer, "share"));
        if (experts > h.columns) h.columns = experts;
    }
    h.rows = (int64_t)json_array_size(first);
    if (h.rows < 1 || h.columns < 1 || h.rows * h.columns > MOST_CELLS) return;
    h.level = 1.0 / (double)h.columns;
    h.most = 1.5 * h.level; /* at least, so that small differences stay small */
    double *mean = report_reals(r, h.rows * h.columns);
    weft_page_number *names = calloc((size_t)(h.rows + h.columns), sizeof *names);
    if (mean && names) {
        for (int64_t i = 0; i < h.rows; i++)
            names[i] = report_number(report_member(json_array_get(first, (size_t)i), "layer"), 4);
        for (int64_t i = 0; i < h.columns; i++) names[h.rows + i] = weft_page_count(i);
        h.row_names = names, h.column_names = names + h.rows, h.values = mean;
        average_shares(r, group, &h, mean);
        report_figure_open(out, group, r->groups[group].name,
                           "share of the token slots that each expert took, %, by layer.");
        report_heat_write(out, &h);
        report_figure_close(out);
    }
    r->no_memory = r->no_memory || !names;
    free(names);
}

void report_experts(FILE *out, report *r) {
    report_charts(out, r, false, expert_map);
}
