/* The suite's result as tables of text. */
#include "train/suite/suite.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { WIDTH = 10, MOST_HEADS = 10 };

/* ---- cells -------------------------------------------------------------------------------------- */

enum { CELL = 64 };

static const char *cell_text(const json_t *x, char buffer[CELL]) {
    double v = json_number_value(x);
    if (json_is_string(x)) return json_string_value(x);
    if (json_is_integer(x))
        snprintf(buffer, CELL, "%" JSON_INTEGER_FORMAT, json_integer_value(x));
    else if (json_is_real(x))
        snprintf(buffer, CELL, fabs(v) < 1e4 ? "%.4f" : fabs(v) < 1e15 ? "%.0f" : "%.3e", v);
    else
        snprintf(buffer, CELL, "-");
    return buffer;
}

static void print_cell(const json_t *x, int width, FILE *out) {
    char buffer[CELL];
    fprintf(out, "%*s", width, cell_text(x, buffer));
}

static int width_of(const json_t *rows, const char *name) {
    char buffer[CELL];
    json_t *row;
    size_t i, most = strlen(name) > WIDTH ? strlen(name) : WIDTH;
    json_array_foreach(rows, i, row) {
        size_t n = strlen(cell_text(json_object_get(row, name), buffer));
        if (n > most) most = n;
    }
    return (int)most;
}

/* Objects of the same members, one a row; the members' names are the columns'. */
static void print_rows(const json_t *rows, FILE *out) {
    json_t *first = json_array_get(rows, 0), *row, *value;
    const char *name;
    size_t i;
    json_object_foreach(first, name, value) fprintf(out, "  %*s", width_of(rows, name), name);
    fputs(first ? "\n" : "  none\n", out);
    json_array_foreach(rows, i, row) {
        json_object_foreach(first, name, value) {
            fputs("  ", out);
            print_cell(json_object_get(row, name), width_of(rows, name), out);
        }
        fputc('\n', out);
    }
}

static void print_members(const json_t *object, FILE *out) {
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)object, name, value) {
        fprintf(out, "  %-20s ", name);
        print_cell(value, 0, out);
        fputc('\n', out);
    }
}

/* ---- tasks -------------------------------------------------------------------------------------- */

static void print_score(const char *name, const json_t *score, FILE *out) {
    const json_t *loss = json_object_get(score, "loss"), *bits = json_object_get(score, "bits_per_byte");
    int64_t tokens = json_integer_value(json_object_get(score, "tokens"));
    fprintf(out, "%-16s %12" PRId64 " ", name, tokens);
    if (!tokens) {
        fprintf(out, "%10s %12s %14s\n", "-", "-", "-");
        return;
    }
    double nats = json_is_real(loss) ? json_real_value(loss) : NAN;
    fprintf(out, "%10.4f %12.3f %14.4f\n", nats, exp(nats), json_is_real(bits) ? json_real_value(bits) : NAN);
}

void weft_suite_print_bits(const json_t *bits, FILE *out) {
    const char *name;
    json_t *score;
    fprintf(out, "%s, sequences of %" JSON_INTEGER_FORMAT " tokens\n%-16s %12s %10s %12s %14s\n",
            json_string_value(json_object_get(bits, "split")),
            json_integer_value(json_object_get(bits, "seq_len")), "domain", "tokens", "loss", "perplexity",
            "bits per byte");
    json_object_foreach(json_object_get(bits, "domains"), name, score) print_score(name, score, out);
    print_score("all", json_object_get(bits, "all"), out);
}

static void print_labels(const json_t *labels, FILE *out) {
    fputs("  drawn labels\n", out);
    print_rows(json_object_get(labels, "random"), out);
    fputs("  names of the groups\n", out);
    print_rows(json_object_get(labels, "named"), out);
}

/* Accuracy: a row for each length, a column for each depth. */
static void print_needle(const json_t *needle, FILE *out) {
    json_t *lengths = json_object_get(needle, "lengths"), *depths = json_object_get(needle, "depths"),
           *accuracy = json_object_get(needle, "accuracy"), *x;
    size_t i, k;
    fprintf(out, "  %*s", WIDTH, "depth");
    json_array_foreach(depths, k, x) fprintf(out, " %7.2f", json_number_value(x));
    fprintf(out, "\n  %*s\n", WIDTH, "length");
    for (i = 0; i < json_array_size(lengths); i++) {
        fputs("  ", out);
        print_cell(json_array_get(lengths, i), WIDTH, out);
        json_array_foreach(json_array_get(accuracy, i), k, x) {
            fputc(' ', out);
            print_cell(x, 7, out);
        }
        fputc('\n', out);
    }
}

static double score_of(const json_t *head) {
    const json_t *score = json_object_get(head, "score");
    return json_is_number(score) ? json_number_value(score) : -1;
}

/* The heads of the highest scores, each one's place found by counting those before it. */
static void print_induction(const json_t *induction, FILE *out) {
    json_t *heads = json_object_get(induction, "heads"), *head, *other, *best = json_array();
    size_t count = json_array_size(heads), shown = count < MOST_HEADS ? count : MOST_HEADS, i, k;
    for (size_t place = 0; best && place < shown; place++) json_array_foreach(heads, i, head) {
            size_t before = 0;
            json_array_foreach(heads, k, other) before +=
                score_of(other) > score_of(head) || (k < i && score_of(other) == score_of(head));
            if (before == place) json_array_append(best, head);
        }
    fprintf(out, "  %zu heads; the highest scores (chance %.4f):\n", count,
            json_number_value(json_object_get(induction, "chance")));
    print_rows(best, out);
    json_decref(best);
}

static void print_experts(const json_t *experts, FILE *out) {
    json_t *layer, *share;
    size_t i, k;
    if (json_array_size(experts) == 0) fputs("  none\n", out);
    json_array_foreach(experts, i, layer) {
        fprintf(out, "  layer %" JSON_INTEGER_FORMAT ":",
                json_integer_value(json_object_get(layer, "layer")));
        json_array_foreach(json_object_get(layer, "share"), k, share) {
            fputc(' ', out);
            print_cell(share, 0, out);
        }
        fputc('\n', out);
    }
}

static void print_task(const char *name, const json_t *value, FILE *out) {
    const char *skipped = json_string_value(json_object_get(value, "skipped"));
    fprintf(out, "\n%s: ", name);
    if (strcmp(name, "bits") == 0 && !skipped) {
        weft_suite_print_bits(value, out);
        return;
    }
    fputs(skipped ? "skipped: " : "\n", out);
    if (skipped)
        fprintf(out, "%s\n", skipped);
    else if (strcmp(name, "labels") == 0)
        print_labels(value, out);
    else if (strcmp(name, "needle") == 0)
        print_needle(value, out);
    else if (strcmp(name, "induction") == 0)
        print_induction(value, out);
    else if (strcmp(name, "activations") == 0)
        print_rows(json_object_get(value, "layers"), out);
    else if (strcmp(name, "experts") == 0)
        print_experts(value, out);
    else if (json_is_array(value))
        print_rows(value, out);
    else
        print_members(value, out);
}

void weft_suite_print(const json_t *result, FILE *out) {
    const char *name;
    json_t *value;
    fprintf(out, "%s, step %" JSON_INTEGER_FORMAT "\n", json_string_value(json_object_get(result, "model")),
            json_integer_value(json_object_get(result, "step")));
    json_object_foreach((json_t *)result, name, value) {
        bool task = json_is_array(value) || (json_is_object(value) && strcmp(name, "suite") != 0);
        if (task) print_task(name, value, out);
    }
}
