/* Charts of lines and marks, one colour and one mark for each group; names stand at the lines' ends where
 * there are few. */
#include "train/report/report_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { COLOURS = 7, MARKS = 8, DASHES = 4, NAMED_LINES = 8, NAME_COLUMNS = 13 };
static const double LETTER = 6.2, LINE = 11.5; /* room for a text of names, in units of the drawing */

/* ---- texts ---- */
int report_columns(const char *text) {
    int n = 0;
    for (; *text; text++) n += ((unsigned char)*text & 0xc0) != 0x80;
    return n;
}

void report_cut(FILE *out, const char *text, int columns) {
    if (report_columns(text) <= columns) {
        weft_page_string(out, text);
        return;
    }
    const char *end = text;
    for (int n = 0; *end; end++)
        if (((unsigned char)*end & 0xc0) != 0x80 && ++n == columns) break;
    weft_page_text(out, text, (size_t)(end - text));
    fputs("\xe2\x80\xa6", out);
}

/* ---- a group's look ---- */
void report_style_begin(FILE *out, int style) {
    fprintf(out, "<g class=\"s%d d%d\">", style % COLOURS, style / COLOURS % DASHES);
}

/* The mark's outline around (0, 0), of size 1. */
static const char *const outlines[MARKS] = {
    "M-1 0a1 1 0 1 0 2 0a1 1 0 1 0-2 0z",
    "M-.9-.9h1.8v1.8h-1.8z",
    "M0-1.2L1.1.8H-1.1z",
    "M0-1.3L1.3 0L0 1.3L-1.3 0z",
    "M0 1.2L1.1-.8H-1.1z",
    "M-1.1-.4H-.4V-1.1H.4V-.4H1.1V.4H.4V1.1H-.4V.4H-1.1z",
    "M0-1.3L.4-.4L1.3-.3L.6.3L.8 1.2L0 .7L-.8 1.2L-.6.3L-1.3-.3L-.4-.4z",
    "M-1-.6L0-1.2L1-.6V.6L0 1.2L-1 .6z"};

void report_mark(FILE *out, int style, double x, double y, double size) {
    fprintf(out, "<path class=\"mk\" transform=\"translate(%.1f %.1f) scale(%.3g)\" d=\"%s\">", x, y, size,
            outlines[style % MARKS]);
}

void report_swatch(FILE *out, int style) {
    fputs("<svg class=\"key\" viewBox=\"0 0 24 10\" aria-hidden=\"true\">", out);
    report_style_begin(out, style);
    fputs("<path class=\"ln\" d=\"M0 5H24\"/>", out);
    report_mark(out, style, 12, 5, 3.6);
    fputs("</path></g></svg>", out);
}

void report_who(FILE *out, int style, const char *name, const char *note) {
    fputs("<span class=\"who\">", out);
    if (style >= 0) report_swatch(out, style);
    fputs("<span>", out);
    weft_page_string(out, name);
    if (*note) {
        fputs("<small>", out);
        weft_page_string(out, note);
        fputs("</small>", out);
    }
    fputs("</span></span>", out);
}

void report_legend(FILE *out, const report *r) {
    if (r->group_count < 2) return;
    fputs("<ul class=\"legend\">", out);
    for (int g = 0; g < r->group_count; g++) {
        fputs("<li>", out);
        report_who(out, g, r->groups[g].name, "");
        fputs("</li>", out);
    }
    fputs("</ul>\n", out);
}

void report_figure_open(FILE *out, int style, const char *name, const char *title) {
    fputs("<figure><figcaption>", out);
    if (style >= 0) {
        report_swatch(out, style);
        fputs("<b>", out);
        weft_page_string(out, name);
        fputs("</b>: ", out);
    }
    weft_page_string(out, title);
    fputs("</figcaption>\n", out);
}

void report_figure_close(FILE *out) {
    fputs("</figure>\n", out);
}

/* ---- series ---- */
void report_chart_add(report *r, report_chart *c, report_series s) {
    bool any = false;
    for (int64_t k = 0; k < s.curve.count; k++) any = any || isfinite(s.curve.y[k]);
    if (!any) return;
    if (c->count == c->capacity) {
        int capacity = c->capacity ? 2 * c->capacity : 8;
        report_series *series = realloc(c->series, (size_t)capacity * sizeof *series);
        if (!series) {
            r->no_memory = true;
            return;
        }
        c->series = series;
        c->capacity = capacity;
    }
    c->series[c->count++] = s;
}

static bool visible(const report_frame *f, double x, double y) {
    return isfinite(x) && isfinite(y) && (!f->x.log || x > 0) && (!f->y.log || y > 0);
}

/* In the plot, whose limits may have been given. */
static bool within(const report_frame *f, double x, double y) {
    double px = report_place(&f->x, x), py = report_place(&f->y, y);
    return px > -0.01 && px < 1.01 && py > -0.01 && py < 1.01;
}

/* Points of one place stand beside each other, their lines with them. */
static double aside(const report_chart *c, const report_series *s, int groups) {
    return s->marks >= 0 || !c->x.ticks || groups < 2
               ? 0
               : (s->style - (groups - 1) / 2.0) * fmin(3, 18.0 / groups);
}

static void draw_line(FILE *out, const report_frame *f, const report_series *s, double dx) {
    bool open = false;
    fprintf(out, "<path class=\"ln%s\" d=\"", s->thin ? " thin" : "");
    for (int64_t k = 0; k < s->curve.count; k++) {
        double x = s->curve.x[k], y = s->curve.y[k];
        bool there = visible(f, x, y);
        if (there) fprintf(out, "%s%.1f %.1f", open ? "L" : "M", report_x(f, x) + dx, report_y(f, y));
        open = there;
    }
    fputs("\"/>\n", out);
}

static void point_title(FILE *out, const report_frame *f, const report_series *s, int64_t k) {
    fputs("<title>", out);
    weft_page_string(out, s->name);
    fprintf(out, ": %s at %s ", report_number(s->curve.y[k], 4).text, report_number(s->curve.x[k], 4).text);
    weft_page_string(out, f->x.label);
    if (s->curve.low && s->curve.low[k] < s->curve.high[k])
        fprintf(out, "; from %s to %s over the seeds", report_number(s->curve.low[k], 4).text,
                report_number(s->curve.high[k], 4).text);
    fputs("</title>", out);
}

static void draw_points(FILE *out, const report_frame *f, const report_series *s, double dx) {
    int64_t each = s->marks > 0 ? (s->curve.count + s->marks - 1) / s->marks : 1;
    int64_t first = s->marks > 0 ? (s->style * 7 + 3) % each : 0; /* not all groups at the same places */
    for (int64_t k = first; s->marks && k < s->curve.count; k += each) {
        if (!visible(f, s->curve.x[k], s->curve.y[k]) || !within(f, s->curve.x[k], s->curve.y[k])) continue;
        double x = report_x(f, s->curve.x[k]) + dx, y = report_y(f, s->curve.y[k]);
        if (s->curve.low && s->curve.low[k] < s->curve.high[k] && visible(f, s->curve.x[k], s->curve.low[k]))
            fprintf(out, "<path class=\"range\" d=\"M%.1f %.1fV%.1f\"/>", x, report_y(f, s->curve.low[k]),
                    report_y(f, s->curve.high[k]));
        report_mark(out, s->style, x, y, s->thin ? 2.4 : 3.4);
        point_title(out, f, s, k);
        fputs("</path>\n", out);
    }
}

/* ---- names at the ends of lines ---- */
typedef struct end_name {
    const report_series *series;
    double y, at; /* the line's, the text's */
} end_name;

static int by_height(const void *a, const void *b) {
    const end_name *x = a, *y = b;
    return x->y != y->y ? (x->y > y->y) - (x->y < y->y) : (x->series > y->series) - (x->series < y->series);
}

/* Names are pushed down where they would lie on each other, then all up where the last fell out. */
static int place_names(const report_frame *f, const report_chart *c, end_name names[NAMED_LINES]) {
    int n = 0;
    for (int i = 0; i < c->count && n < NAMED_LINES; i++) {
        const report_series *s = &c->series[i];
        int64_t k = s->curve.count - 1;
        while (k >= 0 && !visible(f, s->curve.x[k], s->curve.y[k])) k--;
        if (s->thin || s->no_line || k < 0) continue;
        double y = report_y(f, s->curve.y[k]);
        y = y < f->top ? f->top : y > f->bottom ? f->bottom : y;
        names[n++] = (end_name){s, y, y};
    }
    qsort(names, (size_t)n, sizeof *names, by_height);
    for (int i = 1; i < n; i++) names[i].at = fmax(names[i].at, names[i - 1].at + LINE);
    if (n > 0 && names[n - 1].at > f->bottom) names[n - 1].at = f->bottom;
    for (int i = n - 2; i >= 0; i--) names[i].at = fmin(names[i].at, names[i + 1].at - LINE);
    return n;
}

static void draw_names(FILE *out, const report_frame *f, const report_chart *c) {
    end_name names[NAMED_LINES];
    int n = place_names(f, c, names);
    for (int i = 0; i < n; i++) {
        report_style_begin(out, names[i].series->style);
        fprintf(out,
                "<path class=\"tie\" d=\"M%.1f %.1fL%.1f %.1f\"/><text class=\"own\" x=\"%.1f\" y=\"%.1f\">",
                f->right + 1, names[i].y, f->right + 7, names[i].at, f->right + 9, names[i].at + 4);
        report_cut(out, names[i].series->name, NAME_COLUMNS);
        fputs("</text></g>\n", out);
    }
}

/* Room for the names at the right; 0: they are left to the legend. */
static double names_room(const report *r, const report_chart *c) {
    int lines = 0, widest = 0;
    for (int i = 0; i < c->count; i++) {
        int columns = report_columns(c->series[i].name);
        if (c->series[i].thin || c->series[i].no_line) continue;
        lines++;
        if (columns > widest) widest = columns;
    }
    if (r->group_count < 2 || lines == 0 || lines > NAMED_LINES) return 0;
    return 11 + LETTER * (widest < NAME_COLUMNS ? widest : NAME_COLUMNS);
}

/* ---- the chart ---- */
static bool fit(report_frame *f, const report_chart *c) {
    bool x_given = c->x.low <= c->x.high, y_given = c->y.low <= c->y.high;
    for (int i = 0; i < c->count; i++) {
        const report_curve *k = &c->series[i].curve;
        for (int64_t j = 0; j < k->count; j++) {
            if (!isfinite(k->y[j])) continue;
            if (!x_given) report_axis_hold(&f->x, k->x[j]);
            if (y_given) continue;
            report_axis_hold(&f->y, k->y[j]);
            if (k->low) report_axis_hold(&f->y, k->low[j]), report_axis_hold(&f->y, k->high[j]);
        }
    }
    if (!y_given && c->count) report_axis_hold(&f->y, c->line);
    return (x_given || report_axis_finish(&f->x)) && (y_given || report_axis_finish(&f->y));
}

static void draw_level(FILE *out, const report_frame *f, const report_chart *c) {
    if (!isfinite(c->line) || report_place(&f->y, c->line) < 0 || report_place(&f->y, c->line) > 1) return;
    double y = report_y(f, c->line);
    fprintf(out, "<path class=\"mark\" d=\"M%.1f %.1fH%.1f\">", f->left, y, f->right);
    if (c->line_label) {
        fputs("<title>", out);
        weft_page_string(out, c->line_label);
        fprintf(out, ": %s</title></path><text x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\">",
                report_number(c->line, 3).text, f->right, y < f->top + 14 ? y + 12 : y - 4);
        weft_page_string(out, c->line_label);
        fputs("</text>\n", out);
    } else
        fputs("</path>\n", out);
}

/* Lines may leave the plot where its limits were given: they are cut at its edges. */
static void draw_lines(FILE *out, const report_frame *f, const report_chart *c, int groups) {
    double w = f->right - f->left, h = f->bottom - f->top + 4;
    fprintf(out,
            "<svg x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" viewBox=\"%.1f %.1f %.1f %.1f\">\n",
            f->left, f->top - 2, w, h, f->left, f->top - 2, w, h);
    for (int pass = 1; pass >= 0; pass--) /* thin ones lie below */
        for (int i = 0; i < c->count; i++) {
            if (c->series[i].no_line || c->series[i].thin != (pass == 1)) continue;
            report_style_begin(out, c->series[i].style);
            draw_line(out, f, &c->series[i], aside(c, &c->series[i], groups));
            fputs("</g>", out);
        }
    fputs("</svg>\n", out);
}

void report_chart_write(FILE *out, const report *r, report_chart *c) {
    double room = names_room(r, c);
    report_frame f = {.label = c->title,
                      .x = c->x,
                      .y = c->y,
                      .left = 46,
                      .right = REPORT_WIDTH - fmax(room, 10),
                      .top = 20,
                      .bottom = 196,
                      .height = 232};
    if (c->count > 0 && fit(&f, c)) {
        report_figure_open(out, -1, NULL, c->title);
        report_frame_open(out, &f);
        draw_level(out, &f, c);
        draw_lines(out, &f, c, r->group_count);
        for (int i = 0; i < c->count; i++) {
            report_style_begin(out, c->series[i].style);
            draw_points(out, &f, &c->series[i], aside(c, &c->series[i], r->group_count));
            fputs("</g>", out);
        }
        if (room > 0) draw_names(out, &f, c);
        report_frame_close(out);
        report_figure_close(out);
    }
    free(c->series);
    c->series = NULL;
    c->count = c->capacity = 0;
}

void report_charts(FILE *out, report *r, bool legend, void (*one)(FILE *out, report *r, int group)) {
    char *text = NULL;
    size_t size = 0;
    FILE *charts = open_memstream(&text, &size);
    if (!charts) {
        r->no_memory = true;
        return;
    }
    for (int g = 0; g < r->group_count; g++) one(charts, r, g);
    r->no_memory = fclose(charts) != 0 || r->no_memory;
    if (size > 0) {
        if (legend) report_legend(out, r);
        fprintf(out, "<div class=\"charts\">\n%s</div>\n", text);
    }
    free(text);
}
