/* The head of the page: what was trained, and what came best out of it. */
#include "train/report/report_internal.h"

#include <math.h>
#include <string.h>

/* Row of the least held-out loss by the byte, or -1. */
static int best_row(const report *r) {
    int best = -1;
    double least = INFINITY;
    size_t i;
    const json_t *row;
    json_array_foreach(r->rows, i, row) {
        double bits = report_heldout(row, "all", "bits_per_byte");
        if (bits < least) least = bits, best = (int)i;
    }
    return best;
}

typedef struct extent {
    double low, high;
} extent;

static void hold(extent *e, double v) {
    if (!isfinite(v)) return;
    e->low = fmin(e->low, v);
    e->high = fmax(e->high, v);
}

static weft_page_number extent_text(const extent *e) {
    weft_page_number low = report_number(e->low, 3), high = report_number(e->high, 3), r;
    if (strcmp(low.text, high.text) == 0) return low;
    snprintf(r.text, sizeof r.text, "%.18s \xe2\x80\x93 %.18s", low.text, high.text);
    return r;
}

/* Of steps, which are counted. */
static weft_page_number steps_text(const extent *e) {
    weft_page_number low = weft_page_count((int64_t)e->low), r;
    if (e->low == e->high) return low;
    snprintf(r.text, sizeof r.text, "%.20s \xe2\x80\x93 %.20s", low.text,
             weft_page_count((int64_t)e->high).text);
    return r;
}

static extent last_of(const report *r, report_column c) {
    extent e = {INFINITY, -INFINITY};
    for (int i = 0; i < r->run_count; i++)
        if (r->runs[i].count) hold(&e, report_step(&r->runs[i], r->runs[i].count - 1, c));
    return e;
}

static void group_name(FILE *out, const report *r, int row) {
    fputs("<b>", out);
    weft_page_string(out, report_row_name(r, json_array_get(r->rows, (size_t)row), (size_t)row));
    fputs("</b>", out);
}

static void lead(FILE *out, const report *r) {
    extent tokens = last_of(r, REPORT_TOKENS), steps = last_of(r, REPORT_STEP);
    int best = best_row(r);
    fputs("<p class=\"lead\">", out);
    if (r->run_count == 1)
        fputs("One run", out);
    else if (r->group_count == r->run_count)
        fprintf(out, "%d runs", r->run_count);
    else
        fprintf(out, "%d variants in %d runs", r->group_count, r->run_count);
    if (steps.low <= steps.high)
        fprintf(out, " of %s steps, %s tokens.", steps_text(&steps).text, extent_text(&tokens).text);
    else
        fputs(" without a finished step.", out);
    if (best >= 0) {
        const json_t *row = json_array_get(r->rows, (size_t)best);
        const json_t *d = json_object_get(json_object_get(row, "difference"), "heldout");
        fputs(json_array_size(r->rows) > 1 ? " Of all, " : " On held-out text, ", out);
        group_name(out, r, best);
        fprintf(out,
                json_array_size(r->rows) > 1 ? " is best on held-out text: %s bits per byte"
                                             : " has %s bits per byte",
                report_fixed(report_heldout(row, "all", "bits_per_byte"), 4).text);
        if (isfinite(report_member(d, "mean")) && r->baseline >= 0) {
            fputs(", ", out);
            report_interval(out, d);
            fputs(" nats per token against ", out);
            weft_page_string(out, r->groups[r->baseline].name);
        }
        fputs(".", out);
    }
    fputs("</p>\n", out);
}

/* Runs that have not come to their last step. */
static void running(FILE *out, const report *r) {
    bool any = false;
    for (int i = 0; i < r->run_count; i++) {
        const report_run *run = &r->runs[i];
        const char *planned = report_config(run, "train.steps");
        double steps = 0, at = run->count ? report_step(run, run->count - 1, REPORT_STEP) : 0;
        if (!planned || sscanf(planned, "%lf", &steps) != 1 || !(at < steps) || steps > 1e15) continue;
        fputs(any ? ", " : "<p class=\"warning\">Not at the end: ", out);
        weft_page_string(out, run->of->name);
        fprintf(out, " (step %s of %s)", weft_page_count((int64_t)at).text,
                weft_page_count((int64_t)steps).text);
        any = true;
    }
    if (any) fputs(".</p>\n", out);
}

static void tiles(FILE *out, const report *r) {
    extent tokens = last_of(r, REPORT_TOKENS), steps = last_of(r, REPORT_STEP),
           params = {INFINITY, -INFINITY}, active = params, loss = params;
    int best = best_row(r);
    char note[160];
    size_t i;
    const json_t *row;
    json_array_foreach(r->rows, i, row) {
        hold(&params, report_member(row, "params"));
        hold(&active, report_member(row, "active"));
        hold(&loss, report_member(row, "train_loss"));
    }
    fputs("<div class=\"tiles\">\n", out);
    snprintf(note, sizeof note, "%d %s", r->group_count, r->group_count == 1 ? "variant" : "variants");
    weft_page_tile_count(out, "Runs", r->run_count, note);
    if (params.low <= params.high) {
        snprintf(note, sizeof note, "%s active for a token", extent_text(&active).text);
        weft_page_tile(out, "Parameters", extent_text(&params).text, note);
    }
    if (tokens.low <= tokens.high) {
        snprintf(note, sizeof note, "of each run, in %s steps", steps_text(&steps).text);
        weft_page_tile(out, "Tokens", extent_text(&tokens).text, note);
    }
    if (loss.low <= loss.high)
        weft_page_tile(out, "Training loss", report_fixed(loss.low, 4).text,
                       json_array_size(r->rows) > 1
                           ? "nats per token, the least of the variants; mean of the last tenth"
                           : "nats per token, mean of the last tenth");
    if (best >= 0) {
        snprintf(note, sizeof note, "bits per byte, the least; %s nats per token",
                 report_fixed(report_heldout(json_array_get(r->rows, (size_t)best), "all", "loss"), 4).text);
        weft_page_tile(
            out, "Held-out loss",
            report_fixed(report_heldout(json_array_get(r->rows, (size_t)best), "all", "bits_per_byte"), 4)
                .text,
            note);
    }
    fputs("</div>\n", out);
}

void report_header(FILE *out, report *r) {
    lead(out, r);
    running(out, r);
    tiles(out, r);
}
