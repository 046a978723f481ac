/* Runs of one variant, which differ in the seed, and their differences to the baseline's. */
#include "train/ablate/ablation_internal.h"
#include "train/statistics.h"
#include "train/output.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define LEVEL 0.95
enum { BLOCK = 10 }; /* steps */

/* A mean that is being taken. */
typedef struct mean {
    double sum;
    int64_t count;
} mean;

static void add(mean *m, const json_t *value) {
    if (!json_is_number(value)) return;
    m->sum += json_number_value(value);
    m->count++;
}
static double mean_of(mean m) {
    return m.count ? m.sum / (double)m.count : NAN;
}

/* ---- means over seeds --------------------------------------------------------------------------- */

static const json_t *bits_of(const weft_ablation_record *r) {
    return json_object_get(r->eval, "bits");
}
static const json_t *domain_of(const weft_ablation_record *r, const char *name) {
    const json_t *bits = bits_of(r);
    return strcmp(name, "all") == 0 ? json_object_get(bits, "all")
                                    : json_object_get(json_object_get(bits, "domains"), name);
}

static json_t *domain_means(const weft_ablation_record *runs, int seeds, const char *name) {
    mean loss = {0}, bits = {0};
    for (int s = 0; s < seeds; s++) {
        add(&loss, json_object_get(domain_of(&runs[s], name), "loss"));
        add(&bits, json_object_get(domain_of(&runs[s], name), "bits_per_byte"));
    }
    return json_pack("{s:o, s:o, s:o}", "loss", weft_output_real(mean_of(loss)), "log_prob_per_byte",
                     weft_output_real(-mean_of(bits) * M_LN2), "bits_per_byte",
                     weft_output_real(mean_of(bits)));
}

json_t *weft_ablation_heldout(const weft_ablation_record *runs, int seeds) {
    json_t *out = json_object(), *value;
    const char *name;
    if (!json_object_get(bits_of(&runs[0]), "all")) return out;
    json_object_set_new(out, "all", domain_means(runs, seeds, "all"));
    json_object_foreach(json_object_get(bits_of(&runs[0]), "domains"), name, value)
        json_object_set_new(out, name, domain_means(runs, seeds, name));
    return out;
}

/* `key` of every object of a list: settings of a task. */
static void add_list(mean *m, const json_t *list, const char *key) {
    size_t i;
    json_t *o;
    json_array_foreach(list, i, o) add(m, json_object_get(o, key));
}

static void add_rows(mean *m, const json_t *rows) {
    size_t i, k;
    json_t *row, *value;
    json_array_foreach(rows, i, row) json_array_foreach(row, k, value) add(m, value);
}

json_t *weft_ablation_tasks(const weft_ablation_record *runs, int seeds) {
    mean recall = {0}, copy = {0}, labels = {0}, format = {0}, needle = {0}, choices = {0};
    for (int s = 0; s < seeds; s++) {
        const json_t *eval = runs[s].eval, *label = json_object_get(eval, "labels");
        add_list(&recall, json_object_get(eval, "recall"), "accuracy");
        add_list(&copy, json_object_get(eval, "copy"), "accuracy");
        for (int named = 0; named < 2; named++) {
            const json_t *list = json_object_get(label, named ? "named" : "random");
            add_list(&labels, list, "accuracy");
            add_list(&format, list, "format");
        }
        add_rows(&needle, json_object_get(json_object_get(eval, "needle"), "accuracy"));
        add(&choices, json_object_get(json_object_get(eval, "choices"), "accuracy"));
    }
    const struct {
        const char *name;
        mean value;
    } tasks[] = {{"recall", recall},        {"copy", copy},     {"labels", labels},
                 {"labels_format", format}, {"needle", needle}, {"choices", choices}};
    json_t *out = json_object();
    for (size_t i = 0; i < sizeof tasks / sizeof *tasks; i++)
        if (tasks[i].value.count)
            json_object_set_new(out, tasks[i].name, weft_output_real(mean_of(tasks[i].value)));
    return out;
}

double weft_ablation_activation_max(const weft_ablation_record *runs, int seeds) {
    double most = NAN;
    for (int s = 0; s < seeds; s++) {
        size_t i;
        json_t *layer;
        json_array_foreach(json_object_get(json_object_get(runs[s].eval, "activations"), "layers"), i,
                           layer) {
            const json_t *max = json_object_get(layer, "max");
            if (json_is_number(max) && !(json_number_value(max) <= most)) most = json_number_value(max);
        }
    }
    return most;
}

/* ---- differences -------------------------------------------------------------------------------- */

/* Values in pairs, growing. */
typedef struct pairs {
    double *x, *y, *weight;
    int64_t count, capacity;
    bool no_memory;
} pairs;

static void add_pair(pairs *p, double x, double y, double weight) {
    if (p->count == p->capacity) {
        int64_t capacity = p->capacity ? 2 * p->capacity : 256;
        double *xs = realloc(p->x, (size_t)capacity * sizeof *xs);
        if (xs) p->x = xs;
        double *ys = realloc(p->y, (size_t)capacity * sizeof *ys);
        if (ys) p->y = ys;
        double *weights = realloc(p->weight, (size_t)capacity * sizeof *weights);
        if (weights) p->weight = weights;
        p->no_memory |= !xs || !ys || !weights;
        if (p->no_memory) return;
        p->capacity = capacity;
    }
    p->x[p->count] = x;
    p->weight[p->count] = weight;
    p->y[p->count++] = y;
}

/* Takes the pairs; NULL when there was no memory. */
static json_t *interval_of(pairs *p) {
    weft_interval i = weft_paired_difference(p->x, p->y, p->weight, p->count, LEVEL);
    free(p->x);
    free(p->y);
    free(p->weight);
    if (p->no_memory) return NULL;
    return json_pack("{s:o, s:o, s:o, s:I}", "mean", weft_output_real(i.mean), "low", weft_output_real(i.low),
                     "high", weft_output_real(i.high), "pairs", (json_int_t)i.pairs);
}

/* The last quarter of the steps, from its end, in whole blocks; a run of fewer steps is one block. Steps that
 * were not finite in one of the two are left out of both. */
static void add_blocks(pairs *p, const weft_ablation_record *x, const weft_ablation_record *y) {
    int64_t quarter = (x->steps + 3) / 4, block = quarter < BLOCK ? quarter : BLOCK;
    int64_t first = x->steps - quarter / block * block;
    for (int64_t at = first; at < x->steps; at += block) {
        mean mx = {0}, my = {0};
        for (int64_t i = at; i < at + block; i++) {
            if (!isfinite(x->loss[i]) || !isfinite(y->loss[i])) continue;
            mx.sum += x->loss[i], mx.count++;
            my.sum += y->loss[i], my.count++;
        }
        if (mx.count) add_pair(p, mean_of(mx), mean_of(my), 1);
    }
}

static const json_t *sequence(const weft_ablation_record *r, const char *domain, size_t i) {
    return json_array_get(json_object_get(json_object_get(bits_of(r), "sequences"), domain), i);
}

/* Nats a token of one sequence; false when it has none, or not `targets` of them. */
static bool sequence_loss(const weft_ablation_record *r, const char *domain, size_t i, double targets,
                          double *loss) {
    const json_t *pair = sequence(r, domain, i), *nats = json_array_get(pair, 0);
    if (!json_is_number(nats) || !(targets > 0) || json_number_value(json_array_get(pair, 1)) != targets)
        return false;
    *loss = json_number_value(nats) / targets;
    return true;
}

static void add_sequences(pairs *p, const weft_ablation_record *x, const weft_ablation_record *y, int seeds,
                          const char *domain, size_t count) {
    for (size_t i = 0; i < count; i++) {
        double targets = json_number_value(json_array_get(sequence(y, domain, i), 1)), sx = 0, sy = 0, lx, ly;
        bool fine = true;
        for (int s = 0; s < seeds && fine; s++) {
            fine = sequence_loss(&x[s], domain, i, targets, &lx) &&
                   sequence_loss(&y[s], domain, i, targets, &ly);
            if (fine) sx += lx, sy += ly;
        }
        if (fine) add_pair(p, sx / seeds, sy / seeds, targets);
    }
}

json_t *weft_ablation_difference(const weft_ablation_record *x, const weft_ablation_record *base, int seeds,
                                 bool same_batches) {
    pairs train = {0}, heldout = {0}, by_seed = {0};
    const char *domain;
    json_t *list;
    for (int s = 0; s < seeds && same_batches; s++) add_blocks(&train, &x[s], &base[s]);
    json_object_foreach(json_object_get(bits_of(&base[0]), "sequences"), domain, list)
        add_sequences(&heldout, x, base, seeds, domain, json_array_size(list));
    for (int s = 0; s < seeds; s++) {
        const json_t *lx = json_object_get(domain_of(&x[s], "all"), "loss"),
                     *ly = json_object_get(domain_of(&base[s], "all"), "loss");
        if (json_is_number(lx) && json_is_number(ly))
            add_pair(&by_seed, json_number_value(lx), json_number_value(ly), 1);
    }
    return json_pack("{s:o, s:o, s:o}", "train", interval_of(&train), "heldout", interval_of(&heldout),
                     "seeds", interval_of(&by_seed));
}
