/* Groups side by side: whose steps may be compared, and the rows of the table of results where no ablation
 * has made them. */
#include "train/ablate/compare.h"
#include "train/output.h"
#include "train/report/report_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- pairs ---- */
/* What the batches depend on, besides the seed. */
static bool shapes_batches(const char *key) {
    static const char *const keys[] = {"train.global_batch", "train.global_batch_tokens", "train.seq_len",
                                       "model.vocab_size"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (strcmp(key, keys[i]) == 0) return true;
    return strncmp(key, "data.", 5) == 0 && strcmp(key, "data.cache_mib") != 0;
}

/* All that shapes a's batches stands in b as well. */
static bool holds(const report_run *b, const report_run *a) {
    for (int i = 0; i < a->config.count; i++) {
        const weft_yaml_entry *e = &a->config.entries[i];
        const char *other = report_config(b, e->key);
        if (e->value && shapes_batches(e->key) && (!other || strcmp(other, e->value) != 0)) return false;
    }
    return true;
}

bool report_same_batches(const report *r) {
    const report_run *first = &r->runs[0];
    for (int i = 0; i < r->run_count; i++)
        if (r->runs[i].config.count == 0 || !holds(first, &r->runs[i]) || !holds(&r->runs[i], first))
            return false;
    return true;
}

const report_run *report_partner(const report *r, const report_run *run) {
    const report_group *base = &r->groups[r->baseline];
    const char *seed = report_config(run, "seed"), *other;
    for (int i = 0; i < base->count; i++) {
        other = report_config(&r->runs[base->runs[i]], "seed");
        if (seed && other && strcmp(seed, other) == 0) return &r->runs[base->runs[i]];
    }
    return NULL;
}

/* ---- rows ---- */
/* A run as the ablation's means and differences take it; the evaluation is the run's. */
static bool record_of(const report_run *run, weft_ablation_record *out) {
    *out = (weft_ablation_record){.loss = malloc((size_t)(run->count + 1) * sizeof(double)),
                                  .steps = run->count,
                                  .not_finite = report_skipped(run),
                                  .eval = run->eval};
    for (int64_t i = 0; out->loss && i < run->count; i++) out->loss[i] = report_step(run, i, REPORT_LOSS);
    return out->loss != NULL;
}

typedef struct records {
    weft_ablation_record *of, *base; /* base: the baseline's run of the same seed; none without loss */
    int count;
    bool paired, same_steps;
} records;

static void records_free(records *k) {
    for (int i = 0; i < k->count; i++) {
        if (k->of) free(k->of[i].loss);
        if (k->base) free(k->base[i].loss);
    }
    free(k->of);
    free(k->base);
}

static bool records_of(const report *r, int group, records *k) {
    const report_group *g = &r->groups[group];
    *k = (records){.of = calloc((size_t)g->count, sizeof *k->of),
                   .base = calloc((size_t)g->count, sizeof *k->base),
                   .count = g->count,
                   .paired = r->baseline >= 0 && group != r->baseline,
                   .same_steps = true};
    for (int i = 0; i < g->count; i++) {
        const report_run *run = &r->runs[g->runs[i]], *partner = k->paired ? report_partner(r, run) : NULL;
        if (!k->of || !k->base || !record_of(run, &k->of[i])) return false;
        if (partner && !record_of(partner, &k->base[i])) return false;
        k->paired = partner != NULL;
        k->same_steps = k->same_steps && partner && partner->count == run->count && run->count > 0;
    }
    return true;
}

static json_t *mean_final_loss(const records *k) {
    double sum = 0;
    int n = 0;
    for (int i = 0; i < k->count; i++) {
        double loss = weft_ablation_final_loss(&k->of[i]);
        if (isfinite(loss)) sum += loss, n++;
    }
    return weft_output_real(n > 0 ? sum / n : NAN);
}

static json_t *row_of(const report *r, int group) {
    const report_run *first = &r->runs[r->groups[group].runs[0]];
    records k;
    json_t *row = NULL;
    if (records_of(r, group, &k)) {
        json_t *difference =
            k.paired ? weft_ablation_difference(k.of, k.base, k.count, k.same_steps && report_same_batches(r))
                     : json_null();
        row = json_pack("{s:o, s:o, s:o, s:o}", "train_loss", mean_final_loss(&k), "heldout",
                        weft_ablation_heldout(k.of, k.count), "tasks", weft_ablation_tasks(k.of, k.count),
                        "difference", difference);
    }
    if (first->params > 0) {
        json_object_set_new(row, "params", json_integer((json_int_t)first->params));
        json_object_set_new(row, "active", json_integer((json_int_t)first->active));
    }
    records_free(&k);
    return row;
}

json_t *report_rows(const report *r) {
    json_t *rows = json_array();
    for (int g = 0; g < r->group_count; g++)
        if (json_array_append_new(rows, row_of(r, g)) != 0) {
            json_decref(rows);
            return NULL;
        }
    return rows;
}

/* ---- what rows say ---- */
/* Rows of an ablation have names; others stand in the order of the groups. */
int report_row_group(const report *r, const json_t *row, size_t at) {
    const char *name = report_string(row, "name");
    if (!r->results) return (int)at;
    for (int g = 0; g < r->group_count; g++)
        if (strcmp(r->groups[g].name, name) == 0) return g;
    return -1;
}

const char *report_row_name(const report *r, const json_t *row, size_t at) {
    return r->results ? report_string(row, "name") : r->groups[at].name;
}

double report_heldout(const json_t *row, const char *domain, const char *what) {
    return report_member(json_object_get(json_object_get(row, "heldout"), domain), what);
}

void report_interval(FILE *out, const json_t *d) {
    fputs(report_signed(report_member(d, "mean"), 4).text, out);
    if (isfinite(report_member(d, "low")))
        fprintf(out, " (95 %%: %s to %s)", report_signed(report_member(d, "low"), 4).text,
                report_signed(report_member(d, "high"), 4).text);
}
