/* Curves: of the steps of runs, smoothed, and of what eval.json says, averaged over seeds. */
#include "train/ablate/compare.h"
#include "train/report/report_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { GRID = 161 };

/* ---- memory ---- */
typedef struct block {
    struct block *next;
    double reals[];
} block;

double *report_reals(report *r, int64_t count) {
    block *b = count < (INT64_C(1) << 40) ? malloc(sizeof *b + (size_t)count * sizeof(double)) : NULL;
    if (!b) {
        r->no_memory = true;
        return NULL;
    }
    b->next = r->pool;
    r->pool = b;
    return b->reals;
}

void report_pool_free(report *r) {
    for (block *b = r->pool, *next; b; b = next) {
        next = b->next;
        free(b);
    }
    r->pool = NULL;
}

static report_curve new_curve(report *r, int64_t count) {
    report_curve c = {.x = report_reals(r, count), .y = report_reals(r, count)};
    if (c.x && c.y) c.count = count;
    return c;
}

/* ---- over the run ---- */
static double last_step(const report_run *run) {
    return run->count ? report_step(run, run->count - 1, REPORT_STEP) : 0;
}

report_grid report_grid_of(report *r, bool by_ratio) {
    report_grid g = {.by_ratio = by_ratio, .tokens = true};
    double last = 0, at = 0;
    for (int i = 0; i < r->run_count; i++) {
        const report_run *run = &r->runs[i];
        last = fmax(last, last_step(run));
        if (run->count && report_step(run, run->count - 1, REPORT_TOKENS) <= 0) g.tokens = false;
    }
    if (last < 1 || !(g.step = report_reals(r, GRID))) return g;
    for (int i = 0; i < GRID; i++) {
        double part = i / (GRID - 1.0);
        double step = floor(by_ratio ? pow(last, part) + 0.5 : 1 + part * (last - 1) + 0.5);
        if (step > at) g.step[g.count++] = at = step;
    }
    g.window = (int64_t)(last / 50);
    return g;
}

/* Index of the record of that step, or -1. */
static int64_t find(const report_run *run, double step) {
    int64_t low = 0, high = run->count - 1;
    while (low <= high) {
        int64_t middle = low + (high - low) / 2;
        double at = report_step(run, middle, REPORT_STEP);
        if (at == step) return middle;
        if (at < step)
            low = middle + 1;
        else
            high = middle - 1;
    }
    return -1;
}

/* Records around record `i` that are looked at: from i - half to i + half. */
static int64_t half_window(const report_run *run, const report_grid *g, int64_t i) {
    int64_t half = g->window / 2;
    if (half > i) half = i;
    if (half > run->count - 1 - i) half = run->count - 1 - i;
    return g->by_ratio && half > i / 20 ? i / 20 : half;
}

static double summary(const report_run *run, int64_t from, int64_t to, report_column c, bool peak) {
    double sum = 0, most = NAN;
    int64_t count = 0;
    for (int64_t i = from; i <= to; i++) {
        double v = report_step(run, i, c);
        if (!isfinite(v)) continue;
        sum += v;
        count++;
        most = count == 1 || v > most ? v : most;
    }
    return peak ? most : count > 0 ? sum / (double)count : NAN;
}

static report_curve over_run(report *r, const report_run *run, const report_grid *g, report_column c,
                             bool peak) {
    report_curve curve = run->count ? new_curve(r, g->count) : (report_curve){0};
    for (int64_t k = 0; k < curve.count; k++) {
        int64_t i = find(run, g->step[k]);
        int64_t half = i < 0 ? 0 : half_window(run, g, i);
        curve.x[k] = i < 0 ? NAN : g->tokens ? report_step(run, i, REPORT_TOKENS) : g->step[k];
        curve.y[k] = i < 0 ? NAN : summary(run, i - half, i + half, c, peak);
    }
    return curve;
}

report_curve report_smooth(report *r, const report_run *run, const report_grid *g, report_column c) {
    return over_run(r, run, g, c, false);
}

report_curve report_peaks(report *r, const report_run *run, const report_grid *g, report_column c) {
    return over_run(r, run, g, c, true);
}

report_curve report_mean(report *r, const report_curve *curves, int count) {
    report_curve mean = {0};
    int used = 0;
    for (int i = 0; i < count; i++) {
        if (curves[i].count == 0) continue;
        if (used++ == 0 && (mean = new_curve(r, curves[i].count)).count) {
            memcpy(mean.x, curves[i].x, (size_t)mean.count * sizeof(double));
            memcpy(mean.y, curves[i].y, (size_t)mean.count * sizeof(double));
            continue;
        }
        for (int64_t k = 0; k < mean.count; k++) mean.y[k] += curves[i].y[k];
    }
    for (int64_t k = 0; k < mean.count; k++) mean.y[k] /= used;
    return mean;
}

report_curve report_difference(report *r, report_curve a, report_curve b) {
    report_curve d = a.count > 0 && a.count == b.count ? new_curve(r, a.count) : (report_curve){0};
    for (int64_t k = 0; k < d.count; k++) {
        d.x[k] = b.x[k];
        d.y[k] = a.y[k] - b.y[k];
    }
    return d;
}

/* ---- spikes ---- */
int64_t report_spikes(report *r, const report_run *run, double **at) {
    int64_t count = 0;
    double *loss = report_reals(r, run->count);
    *at = report_reals(r, run->count);
    for (int64_t i = 0; loss && i < run->count; i++) loss[i] = report_step(run, i, REPORT_LOSS);
    for (int64_t i = 0; loss && *at && i < run->count; i++)
        if (weft_ablation_spike(loss, i)) (*at)[count++] = (double)i;
    return count;
}

int64_t report_skipped(const report_run *run) {
    int64_t n = 0;
    for (int64_t i = 0; i < run->count; i++) n += report_step(run, i, REPORT_UPDATED) == 0;
    return n;
}

/* ---- of eval.json ---- */
static const json_t *list_of(const report_run *run, report_list l) {
    const json_t *task = json_object_get(run->eval, l.task);
    return l.part ? json_object_get(task, l.part) : task;
}

/* Adds a place to the sorted ones. */
static void add_place(report_curve *c, double x) {
    int64_t at = 0;
    while (at < c->count && c->x[at] < x) at++;
    if (at < c->count && c->x[at] == x) return;
    memmove(c->x + at + 1, c->x + at, (size_t)(c->count - at) * sizeof *c->x);
    c->x[at] = x;
    c->count++;
}

static void mean_at(const report *r, int group, report_list l, report_curve *c, int64_t at) {
    double sum = 0;
    int64_t n = 0;
    c->low[at] = INFINITY, c->high[at] = -INFINITY;
    for (int i = 0; i < r->groups[group].count; i++) {
        const json_t *list = list_of(&r->runs[r->groups[group].runs[i]], l), *one;
        size_t j;
        json_array_foreach(list, j, one) {
            double v = report_member(one, l.key) * l.scale;
            if (report_member(one, l.at) != c->x[at] || !isfinite(v)) continue;
            sum += v;
            n++;
            c->low[at] = fmin(c->low[at], v);
            c->high[at] = fmax(c->high[at], v);
        }
    }
    c->y[at] = n > 0 ? sum / (double)n : NAN;
}

report_curve report_points(report *r, int group, report_list l) {
    const report_group *g = &r->groups[group];
    int64_t most = 0;
    for (int i = 0; i < g->count; i++) most += (int64_t)json_array_size(list_of(&r->runs[g->runs[i]], l));
    report_curve c = most > 0 ? new_curve(r, most) : (report_curve){0};
    if (c.count == 0) return c;
    c.count = 0;
    for (int i = 0; i < g->count; i++) {
        const json_t *list = list_of(&r->runs[g->runs[i]], l), *one;
        size_t j;
        json_array_foreach(list, j, one) {
            double x = report_member(one, l.at);
            if (isfinite(x)) add_place(&c, x);
        }
    }
    c.low = report_reals(r, most);
    c.high = report_reals(r, most);
    if (!c.low || !c.high) return (report_curve){0};
    for (int64_t k = 0; k < c.count; k++) mean_at(r, group, l, &c, k);
    return c;
}

static void skipped_by(FILE *out, const report *r, int group, const char *task) {
    const report_group *g = &r->groups[group];
    for (int i = 0; i < g->count; i++) {
        const char *why = report_string(json_object_get(r->runs[g->runs[i]].eval, task), "skipped");
        if (!*why) continue;
        fputs("<p class=\"note\">", out);
        weft_page_string(out, g->name);
        fprintf(out, ": %s was skipped: ", task);
        weft_page_string(out, why);
        fputs("</p>\n", out);
        return; /* seeds skip for the same reason */
    }
}

void report_skips(FILE *out, const report *r, const char *task) {
    for (int g = 0; g < r->group_count; g++) skipped_by(out, r, g, task);
}
