/* Inside the models: induction heads, and the largest activations, by layer. */
#include "train/report/report_internal.h"

#include <math.h>
#include <string.h>

enum { MOST_NAMES = 12 };

/* ---- induction heads ---- */
static const json_t *induction_of(const report *r, int group, int i) {
    return json_object_get(r->runs[r->groups[group].runs[i]].eval, "induction");
}

/* The greatest score of any group: all drawings have one scale; 0: there is none. */
static double most_score(const report *r, double *last_layer) {
    double most = 0;
    *last_layer = 0;
    for (int g = 0; g < r->group_count; g++)
        for (int i = 0; i < r->groups[g].count; i++) {
            size_t k;
            const json_t *head;
            json_array_foreach(json_object_get(induction_of(r, g, i), "heads"), k, head) {
                double layer = report_member(head, "layer"), score = report_member(head, "score");
                if (isfinite(score)) most = fmax(most, score);
                if (isfinite(layer) && layer < 1e6) *last_layer = fmax(*last_layer, layer);
            }
        }
    return most;
}

static double layers_of(const report *r, double at_least) {
    double most = at_least;
    for (int i = 0; i < r->run_count; i++) {
        const char *layers = report_config(&r->runs[i], "model.num_hidden_layers");
        double n = 0;
        if (layers && sscanf(layers, "%lf", &n) == 1 && n <= 1e6) most = fmax(most, n - 1);
    }
    return most;
}

static void heads_of_run(FILE *out, const report_frame *f, const json_t *heads, int style,
                         double heads_a_layer) {
    size_t k;
    const json_t *one;
    json_array_foreach(heads, k, one) {
        double layer = report_member(one, "layer"), head = report_member(one, "head"),
               score = report_member(one, "score");
        if (!isfinite(layer) || !isfinite(score) || !isfinite(head) || layer < 0 || layer > f->x.high)
            continue;
        /* Heads of one layer stand side by side. */
        double dx = heads_a_layer > 1 ? (fmin(fmax(head / (heads_a_layer - 1), 0), 1) - 0.5) *
                                            fmin(14, 0.7 * (f->right - f->left) / (f->x.high + 1))
                                      : 0;
        report_mark(out, style, report_x(f, layer) + dx, report_y(f, fmax(score, 0)), 2.8);
        fprintf(out, "<title>layer %s, head %s: %s</title></path>\n", report_number(layer, 4).text,
                report_number(head, 4).text, report_number(score, 3).text);
    }
}

static double most_heads(const json_t *heads) {
    double most = 0;
    size_t k;
    const json_t *one;
    json_array_foreach(heads, k, one) most = fmax(most, report_member(one, "head") + 1);
    return most;
}

static void heads_chart(FILE *out, report *r, int group) {
    double last = 0, most = most_score(r, &last), chance = NAN;
    bool any = false;
    report_frame f = {.label = "induction score of attention heads by layer",
                      .x = {.label = "layer", .whole = true, .low = -0.7, .high = layers_of(r, last) + 0.7},
                      .y = {.label = "induction score", .low = 0, .high = most * 1.06},
                      .left = 46,
                      .right = REPORT_WIDTH - 10,
                      .top = 20,
                      .bottom = 156,
                      .height = 192};
    for (int i = 0; i < r->groups[group].count; i++) {
        any = any || json_array_size(json_object_get(induction_of(r, group, i), "heads")) > 0;
        if (!isfinite(chance)) chance = report_member(induction_of(r, group, i), "chance");
    }
    if (!any || !(most > 0)) return;
    report_figure_open(
        out, group, r->groups[group].name,
        "how much each attention head looks at what followed the same token before (1: at nothing "
        "else), a mark for each head and seed.");
    report_frame_open(out, &f);
    if (chance >= 0 && chance <= f.y.high)
        fprintf(out, "<path class=\"mark\" d=\"M%.1f %.1fH%.1f\"><title>chance: %s</title></path>\n", f.left,
                report_y(&f, chance), f.right, report_number(chance, 3).text);
    report_style_begin(out, group);
    for (int i = 0; i < r->groups[group].count; i++) {
        const json_t *heads = json_object_get(induction_of(r, group, i), "heads");
        heads_of_run(out, &f, heads, group, most_heads(heads));
    }
    fputs("</g>", out);
    report_frame_close(out);
    report_figure_close(out);
}

void report_induction(FILE *out, report *r) {
    report_charts(out, r, false, heads_chart);
    report_skips(out, r, "induction");
}

/* ---- activations ---- */
static const json_t *layers_list(const report_run *run) {
    return json_object_get(json_object_get(run->eval, "activations"), "layers");
}

/* The largest of each layer over the group's seeds, of that name or (NULL) of all. */
static report_curve activation_curve(report *r, int group, const char *name, double last_layer) {
    int64_t layers = (int64_t)last_layer + 1;
    report_curve c = {.x = report_reals(r, layers), .y = report_reals(r, layers)};
    if (!c.x || !c.y) return (report_curve){0};
    c.count = layers;
    for (int64_t i = 0; i < layers; i++) c.x[i] = (double)i, c.y[i] = NAN;
    for (int i = 0; i < r->groups[group].count; i++) {
        size_t k;
        const json_t *one;
        json_array_foreach(layers_list(&r->runs[r->groups[group].runs[i]]), k, one) {
            double layer = report_member(one, "layer"), max = report_member(one, "max");
            if (!(layer >= 0 && layer <= last_layer) || !isfinite(max)) continue;
            if (name && strcmp(report_string(one, "name"), name) != 0) continue;
            double *y = &c.y[(int64_t)layer];
            *y = isfinite(*y) ? fmax(*y, max) : max;
        }
    }
    /* Only layers that have it: the line joins them. */
    c.count = 0;
    for (int64_t i = 0; i < layers; i++)
        if (isfinite(c.y[i])) c.x[c.count] = c.x[i], c.y[c.count++] = c.y[i];
    return c;
}

static double last_activation_layer(const report *r) {
    double last = -1;
    for (int i = 0; i < r->run_count; i++) {
        size_t k;
        const json_t *one;
        json_array_foreach(layers_list(&r->runs[i]), k, one) {
            double layer = report_member(one, "layer");
            if (layer < 1e5) last = fmax(last, layer);
        }
    }
    return last;
}

static void activation_chart(FILE *out, report *r, const char *name, double last) {
    char title[200] = "The largest activation of each layer, over all that was looked at and all seeds.";
    if (name) {
        snprintf(title, sizeof title, "Largest ");
        snprintf(title + 8, sizeof title - 8, "%.150s, by layer.", name);
    }
    report_chart c = {.title = title, .x = report_axis_empty, .y = report_axis_empty, .line = NAN};
    for (int g = 0; g < r->group_count; g++)
        report_chart_add(r, &c,
                         (report_series){.style = g,
                                         .name = r->groups[g].name,
                                         .marks = -1,
                                         .curve = activation_curve(r, g, name, last)});
    c.x.label = "layer";
    c.x.whole = true;
    c.x.low = -0.4, c.x.high = last + 0.4;
    c.y.label = "largest absolute value";
    c.y.log = true;
    report_chart_write(out, r, &c);
}

/* Names of what was looked at, in the order in which they are first met. */
static int activation_names(const report *r, const char *names[MOST_NAMES]) {
    int count = 0;
    for (int i = 0; i < r->run_count; i++) {
        size_t k;
        const json_t *one;
        json_array_foreach(layers_list(&r->runs[i]), k, one) {
            const char *name = report_string(one, "name");
            bool known = !*name;
            for (int n = 0; n < count; n++) known = known || strcmp(names[n], name) == 0;
            if (!known && count < MOST_NAMES) names[count++] = name;
        }
    }
    return count;
}

void report_activations(FILE *out, report *r) {
    const char *names[MOST_NAMES];
    double last = last_activation_layer(r);
    int count = activation_names(r, names);
    if (last < 0) return;
    activation_chart(out, r, NULL, last);
    for (int i = 0; i < count && count > 1; i++) activation_chart(out, r, names[i], last);
}
