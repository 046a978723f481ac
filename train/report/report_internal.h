/* What the page about runs is made of. Private to train/report. */
#ifndef WEFT_REPORT_INTERNAL_H
#define WEFT_REPORT_INTERNAL_H

#include "runtime/page.h"
#include "runtime/yaml.h"
#include "train/report/report.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

extern const char report_style[]; /* behind weft_page_style */

/* ---- what was read (report_read.c) ---- */
/* Of each step. What is not in a record, or null, is NaN. */
typedef enum report_column {
    REPORT_STEP,
    REPORT_TOKENS, /* of this step and those before */
    REPORT_LOSS,
    REPORT_GRAD_NORM,
    REPORT_UPDATED, /* 1, or 0: the step was skipped */
    /* Measured: for the section "measured" alone. */
    REPORT_RATE,
    REPORT_MFU,
    REPORT_MEMORY,
    REPORT_SECONDS,
    REPORT_DATA_SECONDS,
    REPORT_COLUMNS
} report_column;

typedef struct report_run {
    const weft_report_run *of;
    weft_yaml config; /* no entries without config.yaml */
    double *steps;    /* [count, REPORT_COLUMNS] */
    int64_t count, capacity;
    json_t *eval;           /* NULL without eval.json */
    int64_t params, active; /* 0: not known */
} report_run;

typedef struct report_group { /* runs that differ in the seed only: a variant */
    const char *name;
    int *runs;
    int count;
} report_group;

typedef struct report {
    report_run *runs;
    report_group *groups;
    int run_count, group_count, baseline; /* baseline: a group, or -1 */
    const json_t *results;                /* of the ablation, or NULL */
    json_t *rows;                         /* its "variants", or what eval.json says of each group */
    void *pool;                           /* of report_reals */
    bool no_memory;                       /* something was left out: the page is not to be used */
} report;

weft_status report_read(report_run *run, const weft_report_run *of, bool count_parameters);
void report_run_free(report_run *run);
const char *report_config(const report_run *run, const char *key); /* NULL: not there */
static inline double report_step(const report_run *run, int64_t i, report_column c) {
    return run->steps[i * REPORT_COLUMNS + c];
}
/* What results.json says of variants, for runs without it: from eval.json and metrics.jsonl. NULL: no memory.
 */
json_t *report_rows(const report *r);
/* Of row number `at` of r->rows: its group, -1 for none, its name, what it says of held-out text. */
int report_row_group(const report *r, const json_t *row, size_t at);
const char *report_row_name(const report *r, const json_t *row, size_t at);
double report_heldout(const json_t *row, const char *domain, const char *what);
/* "-0.0312 (95 %: -0.0400 to -0.0220)" */
void report_interval(FILE *out, const json_t *difference);
/* The runs may be compared step by step: with the same seed they saw the same batches in the same order. */
bool report_same_batches(const report *r);
/* The baseline's run of the same seed, or NULL. */
const report_run *report_partner(const report *r, const report_run *run);

/* ---- members of JSON, of any type or missing ---- */
double report_real(const json_t *number); /* NaN */
double report_member(const json_t *object, const char *key);
const char *report_string(const json_t *object, const char *key); /* "" */

/* ---- numbers as text (frame.c) ---- */
weft_page_number report_number(double x, int digits);  /* 1.23M, 0.0123; a dash for what is none */
weft_page_number report_fixed(double x, int decimals); /* -0.543 with a true minus sign */
weft_page_number report_signed(double x, int decimals);
weft_page_number report_length(double tokens); /* 8K, of 1024 */

/* ---- curves (curves.c) ---- */
/* Memory that lives until report_pool_free; NULL when there is none, with r->no_memory set. */
double *report_reals(report *r, int64_t count);
void report_pool_free(report *r);

typedef struct report_curve {
    int64_t count;      /* 0: nothing */
    double *x, *y;      /* y NaN: a gap */
    double *low, *high; /* of the seeds; NULL: one seed */
} report_curve;

/* Steps at which curves over the run are drawn, evenly or by ratio, and the steps around each that are
 * averaged. */
typedef struct report_grid {
    int64_t count, window;
    double *step;
    bool by_ratio, tokens; /* tokens: x is tokens, not steps */
} report_grid;
report_grid report_grid_of(report *r, bool by_ratio);
/* The mean of the steps around each of the grid's; the window shrinks towards the ends, and with `by_ratio`
 * towards small steps, so that it stays centred. */
report_curve report_smooth(report *r, const report_run *run, const report_grid *g, report_column c);
/* The largest of these steps. */
report_curve report_peaks(report *r, const report_run *run, const report_grid *g, report_column c);
/* The mean of curves of one grid where all have a value. */
report_curve report_mean(report *r, const report_curve *curves, int count);
/* y of a less y of b. */
report_curve report_difference(report *r, report_curve a, report_curve b);

/* The points of a list of objects, `key` over `at`, averaged over the group's runs: eval[task], or
 * eval[task][part] with a part. `scale` multiplies. */
typedef struct report_list {
    const char *task, *part, *at, *key;
    double scale;
} report_list;
report_curve report_points(report *r, int group, report_list list);
/* Paragraphs that say which groups skipped the task and why. */
void report_skips(FILE *out, const report *r, const char *task);

/* Steps whose loss is above the median of the 50 before by more than 6 times their median absolute deviation.
 * *at: their places in the records. */
int64_t report_spikes(report *r, const report_run *run, double **at);
int64_t report_skipped(const report_run *run); /* steps without an update */

/* ---- drawings ---- */
/* Text of a group's or a file's choosing, escaped and cut to `columns` characters. */
void report_cut(FILE *out, const char *text, int columns);
int report_columns(const char *text); /* characters of UTF-8 */

typedef struct report_axis {
    const char *label; /* with its unit */
    bool log, binary;  /* binary: ticks are written in K of 1024 */
    bool whole;        /* ticks stand at whole numbers only */
    double low, high;
    const double *ticks; /* where ticks stand; NULL: chosen */
    int64_t tick_count;
} report_axis;
typedef struct report_frame {
    const char *label; /* for readers that see no drawing */
    report_axis x, y;
    double left, right, top, bottom, height; /* the plot's edges in the drawing */
} report_frame;
#define REPORT_WIDTH 360 /* of all drawings: a phone's */
void report_frame_open(FILE *out, const report_frame *f);
void report_frame_close(FILE *out);
double report_x(const report_frame *f, double x);
double report_y(const report_frame *f, double y);
double report_place(const report_axis *a, double value); /* 0 to 1 within the axis */
/* Widens an axis to hold the value; an empty axis has low > high. Values that cannot stand on it are passed
 * over. */
void report_axis_hold(report_axis *a, double value);
bool report_axis_finish(report_axis *a); /* with room at the ends; false: it is empty */
extern const report_axis report_axis_empty;

/* A group's mark, <path> that is left open for its <title>; closed by </path>. */
void report_mark(FILE *out, int style, double x, double y, double size);
void report_style_begin(FILE *out, int style); /* <g> with the group's colour and dashes; closed by </g> */
void report_who(FILE *out, int style, const char *name,
                const char *note);        /* swatch (style 0 and up), name, small note */
void report_swatch(FILE *out, int style); /* a small drawing of line and mark, for text and tables */
void report_legend(FILE *out, const report *r);

typedef struct report_series {
    int style;
    const char *name;
    bool thin, no_line;
    int marks; /* about so many of the points are marked; -1: each */
    report_curve curve;
} report_series;
typedef struct report_chart {
    const char *title; /* a sentence, text */
    report_axis x, y;  /* labels; limits only where they are wanted: else report_axis_empty's */
    double line;       /* a level that is marked, NaN: none */
    const char *line_label;
    report_series *series;
    int count, capacity;
} report_chart;
/* Adds a series unless it has no points. */
void report_chart_add(report *r, report_chart *c, report_series series);
/* In a <figure>; writes nothing without series. Frees the chart's list. */
void report_chart_write(FILE *out, const report *r, report_chart *c);

/* A drawing's frame and its title, a sentence; with `style` 0 or more of that group alone, by name. Closed by
 * report_figure_close. */
void report_figure_open(FILE *out, int style, const char *name, const char *title);
void report_figure_close(FILE *out);
/* What `one` writes for each group, side by side, below the legend if that is wanted; nothing where it
 * writes nothing. */
void report_charts(FILE *out, report *r, bool legend, void (*one)(FILE *out, report *r, int group));

/* A table of numbers from 0 to `most` as coloured cells. `values` is [rows, columns]; NaN: an empty cell.
 * low and high (NULL: none) are those of the seeds, for tooltips. */
typedef struct report_heat {
    const char *label, *row_label, *column_label, *unit;
    int64_t rows, columns;
    const double *values, *low, *high;
    weft_page_number *row_names, *column_names;
    double most, shown_scale; /* cells show value * shown_scale */
    int decimals;
    double level; /* marked on the scale, NaN: none */
} report_heat;
void report_heat_write(FILE *out, const report_heat *h);

/* ---- over the run (section_loss.c) ---- */
/* The mean of each group, smoothed, and its seeds' curves where it has several. */
void report_over_run(report *r, report_chart *c, const report_grid *g, report_column column);
const char *report_run_axis(const report_grid *g); /* tokens or steps */
/* How it is smoothed: "each point is the mean of 13 steps around it". */
void report_smoothing(const report *r, const report_grid *g, char *out, size_t size);

/* ---- sections: each writes its content, or nothing ---- */
void report_header(FILE *out, report *r);
void report_results(FILE *out, report *r);
void report_loss(FILE *out, report *r);
void report_bits(FILE *out, report *r);
void report_tasks(FILE *out, report *r);
void report_needle(FILE *out, report *r);
void report_induction(FILE *out, report *r);
void report_stability(FILE *out, report *r);
void report_experts(FILE *out, report *r);
void report_activations(FILE *out, report *r); /* charts, of the section on stability */
void report_measured(FILE *out, report *r);
void report_configuration(FILE *out, report *r);

#endif
