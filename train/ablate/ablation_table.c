/* The results as a Markdown table whose columns are aligned, for people and for pages. */
#include "train/ablate/ablation.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { CELL = 96, MAX_COLUMNS = 64 };

typedef enum column_kind {
    NAME,
    ACTIVE,
    LOG_PROB, /* key: a domain */
    TASK,     /* key: a task */
    TRAIN_LOSS,
    DIFFERENCE, /* key: heldout, train */
    SPIKES,
    NOT_FINITE,
    ACTIVATION
} column_kind;

typedef struct column {
    column_kind kind;
    const char *key;
    char title[CELL];
    size_t width;
} column;

typedef struct table {
    const json_t *results, *variants;
    column columns[MAX_COLUMNS];
    int count;
} table;

/* ---- cells -------------------------------------------------------------------------------------- */

/* What is printed as 0 has no sign. */
static double rounded(const json_t *value) {
    double x = round(json_number_value(value) * 1e4) / 1e4;
    return x == 0 ? 0 : x;
}

static void number(const json_t *value, const char *format, char *cell) {
    if (json_is_number(value))
        snprintf(cell, CELL, format, json_number_value(value));
    else
        snprintf(cell, CELL, "-");
}

static void interval(const json_t *d, char *cell) {
    const json_t *mean = json_object_get(d, "mean"), *low = json_object_get(d, "low");
    if (!json_is_number(mean))
        snprintf(cell, CELL, "-");
    else if (json_is_number(low))
        snprintf(cell, CELL, "%+.4f [%+.4f, %+.4f]", rounded(mean), rounded(low),
                 rounded(json_object_get(d, "high")));
    else
        snprintf(cell, CELL, "%+.4f", rounded(mean));
}

/* 1234567 -> "1.23M" */
static void parameters(double n, char *cell) {
    if (n >= 1e9)
        snprintf(cell, CELL, "%.3gB", n / 1e9);
    else if (n >= 1e6)
        snprintf(cell, CELL, "%.3gM", n / 1e6);
    else
        snprintf(cell, CELL, "%.3gK", n / 1e3);
}

static void make_cell(const table *t, const json_t *v, const column *c, char *cell) {
    const char *name = json_string_value(json_object_get(v, "name"));
    switch (c->kind) {
    case NAME:
        snprintf(cell, CELL, "%s", name);
        break;
    case ACTIVE:
        parameters(json_number_value(json_object_get(v, "active")), cell);
        break;
    case LOG_PROB:
        number(json_object_get(json_object_get(json_object_get(v, "heldout"), c->key), "log_prob_per_byte"),
               "%.4f", cell);
        break;
    case TASK:
        number(json_object_get(json_object_get(v, "tasks"), c->key), "%.3f", cell);
        break;
    case TRAIN_LOSS:
        number(json_object_get(v, "train_loss"), "%.4f", cell);
        break;
    case DIFFERENCE:
        interval(json_object_get(json_object_get(v, "difference"), c->key), cell);
        if (strcmp(name, json_string_value(json_object_get(t->results, "baseline"))) == 0)
            snprintf(cell, CELL, "baseline");
        break;
    case SPIKES:
        number(json_object_get(v, "spikes"), "%.0f", cell);
        break;
    case NOT_FINITE:
        number(json_object_get(v, "not_finite"), "%.0f", cell);
        break;
    case ACTIVATION:
        number(json_object_get(v, "activation_max"), "%.3g", cell);
        break;
    }
}

/* ---- columns ------------------------------------------------------------------------------------ */

static void add(table *t, column_kind kind, const char *key, const char *title) {
    size_t i;
    json_t *v;
    char cell[CELL];
    if (t->count == MAX_COLUMNS) return; /* more than all domains and tasks need */
    column *c = &t->columns[t->count++];
    *c = (column){.kind = kind, .key = key};
    snprintf(c->title, sizeof c->title, "%s", title);
    c->width = strlen(c->title);
    json_array_foreach(t->variants, i, v) {
        make_cell(t, v, c, cell);
        if (strlen(cell) > c->width) c->width = strlen(cell);
    }
}

/* Whether any variant has a number there: not 0 with `above_zero`. */
static bool any(const table *t, const char *key, const char *member, bool above_zero) {
    size_t i;
    json_t *v;
    json_array_foreach(t->variants, i, v) {
        const json_t *value = json_object_get(v, key);
        if (member) value = json_object_get(value, member);
        if (json_is_object(value)) value = json_object_get(value, "mean");
        if (json_is_number(value) && (!above_zero || json_number_value(value) > 0)) return true;
    }
    return false;
}

static void choose_columns(table *t) {
    static const char *const tasks[][2] = {{"recall", "recall"}, {"copy", "copy"},
                                           {"labels", "labels"}, {"labels_format", "label format"},
                                           {"needle", "needle"}, {"choices", "choices"}};
    const json_t *heldout = json_object_get(json_array_get(t->variants, 0), "heldout");
    const char *name;
    json_t *value;
    add(t, NAME, NULL, "variant");
    add(t, ACTIVE, NULL, "active");
    json_object_foreach((json_t *)heldout, name, value) if (strcmp(name, "all") != 0)
        add(t, LOG_PROB, name, name);
    if (json_object_get(heldout, "all")) add(t, LOG_PROB, "all", "all text");
    for (size_t i = 0; i < sizeof tasks / sizeof *tasks; i++)
        if (any(t, "tasks", tasks[i][0], false)) add(t, TASK, tasks[i][0], tasks[i][1]);
    add(t, TRAIN_LOSS, NULL, "training loss");
    if (any(t, "difference", "heldout", false)) add(t, DIFFERENCE, "heldout", "held-out loss, difference");
    if (any(t, "difference", "train", false)) add(t, DIFFERENCE, "train", "training loss, difference");
    if (any(t, "spikes", NULL, true)) add(t, SPIKES, NULL, "spikes");
    if (any(t, "not_finite", NULL, true)) add(t, NOT_FINITE, NULL, "not finite");
    if (any(t, "activation_max", NULL, false)) add(t, ACTIVATION, NULL, "activation max");
}

/* ---- printing ----------------------------------------------------------------------------------- */

static void print_cell(const table *t, int i, const char *cell, FILE *out) {
    const column *c = &t->columns[i];
    fprintf(out, c->kind == NAME ? "| %-*s " : "| %*s ", (int)c->width, cell);
    if (i + 1 == t->count) fputs("|\n", out);
}

static void print_rule(const table *t, FILE *out) {
    for (int i = 0; i < t->count; i++) {
        bool left = t->columns[i].kind == NAME;
        fputs(left ? "|:" : "|-", out);
        for (size_t k = 0; k < t->columns[i].width; k++) fputc('-', out);
        fputs(left ? "-" : ":", out);
    }
    fputs("|\n", out);
}

static void print_heading(const table *t, FILE *out) {
    size_t i;
    json_t *seed;
    const char *title = json_string_value(json_object_get(t->results, "title"));
    fputs("# ", out);
    for (const char *p = title; *p; p++) fputc(*p == '\n' ? ' ' : *p, out);
    fprintf(out, "\n\n%lld steps, %lld tokens a run, seed%s",
            (long long)json_integer_value(json_object_get(t->results, "steps")),
            (long long)json_integer_value(json_object_get(t->results, "tokens")),
            json_array_size(json_object_get(t->results, "seeds")) > 1 ? "s" : "");
    json_array_foreach(json_object_get(t->results, "seeds"), i, seed)
        fprintf(out, "%s %lld", i ? "," : "", (long long)json_integer_value(seed));
    fputs(".", out);
    if (json_object_size(json_object_get(json_array_get(t->variants, 0), "heldout")))
        fputs(" Under a domain's name: natural log-probability per byte of its held-out text (higher is "
              "better).",
              out);
    fprintf(
        out,
        " Differences are to `%s`, in nats a token, paired, with their 95 %% interval where there is more "
        "than one pair (lower is better).\n\n",
        json_string_value(json_object_get(t->results, "baseline")));
}

/* What `match` did, below the table. */
static void print_matches(const table *t, FILE *out) {
    size_t i;
    json_t *v;
    bool first = true;
    json_array_foreach(t->variants, i, v) {
        const char *matched = json_string_value(json_object_get(v, "matched"));
        if (!*matched) continue;
        fprintf(out, "%s`%s`: %s (%+.2f %%)", first ? "\nMatched to the baseline: " : "; ",
                json_string_value(json_object_get(v, "name")), matched,
                100 * json_number_value(json_object_get(v, "match_off")));
        first = false;
    }
    if (!first) fputs(".\n", out);
}

void weft_ablation_table(const json_t *results, FILE *out) {
    table t = {.results = results, .variants = json_object_get(results, "variants")};
    char cell[CELL];
    size_t row;
    json_t *v;
    choose_columns(&t);
    print_heading(&t, out);
    for (int i = 0; i < t.count; i++) print_cell(&t, i, t.columns[i].title, out);
    print_rule(&t, out);
    json_array_foreach(t.variants, row, v) for (int i = 0; i < t.count; i++) {
        make_cell(&t, v, &t.columns[i], cell);
        print_cell(&t, i, cell, out);
    }
    print_matches(&t, out);
}
