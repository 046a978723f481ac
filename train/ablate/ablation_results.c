/* All runs' files as one JSON object, and what is written of it. */
#include "runtime/fs.h"
#include "train/ablate/ablation_internal.h"
#include "train/output.h"
#include "train/report/report.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- one variant -------------------------------------------------------------------------------- */

static int64_t tokens_of(const weft_config *c) {
    return c->train.steps * c->train.global_batch * c->train.seq_len;
}

/* The run's seed and directory are no change. */
static weft_status changes(const weft_ablation *a, const weft_ablation_run *run, json_t **out) {
    WEFT_TRY(weft_ablation_differences(a->shared, &run->config, out));
    json_object_del(*out, "run");
    json_object_del(*out, "seed");
    return WEFT_OK;
}

/* Whether two runs of one seed saw the same batches at the same learning rate's progress. */
static weft_status same_batches(const weft_config *x, const weft_config *y, bool *same) {
    static const char *const free_keys[] = {"data.cache_mib", "data.document_mask"};
    static const char *const bound_keys[] = {"train.steps", "train.global_batch", "train.seq_len",
                                             "model.vocab_size"};
    json_t *differences, *value;
    const char *key;
    WEFT_TRY(weft_ablation_differences(x, y, &differences));
    *same = true;
    json_object_foreach(differences, key, value) {
        bool matters = strncmp(key, "data.", 5) == 0;
        for (size_t i = 0; i < sizeof free_keys / sizeof *free_keys; i++)
            matters &= strcmp(key, free_keys[i]) != 0;
        for (size_t i = 0; i < sizeof bound_keys / sizeof *bound_keys; i++)
            matters |= strcmp(key, bound_keys[i]) == 0;
        *same &= !matters;
    }
    json_decref(differences);
    return WEFT_OK;
}

static json_t *run_names(const weft_ablation *a, int variant) {
    json_t *out = json_array();
    for (int s = 0; s < a->seed_count; s++)
        json_array_append_new(out, json_string(a->runs[variant * a->seed_count + s]->name));
    return out;
}

/* `records` of the variant's runs, `base` of the baseline's. */
static weft_status variant_json(const weft_ablation *a, int i, const weft_ablation_record *records,
                                const weft_ablation_record *base, json_t **out) {
    const weft_ablation_variant *v = &a->variants[i];
    const weft_ablation_run *run = a->runs[i * a->seed_count], *other = a->runs[a->baseline * a->seed_count];
    double loss = 0;
    int64_t spikes = 0, not_finite = 0;
    bool same;
    json_t *changed;
    WEFT_TRY(same_batches(&other->config, &run->config, &same));
    WEFT_TRY(changes(a, run, &changed));
    for (int s = 0; s < a->seed_count; s++) {
        loss += weft_ablation_final_loss(&records[s]) / a->seed_count;
        spikes += weft_ablation_spikes(&records[s]);
        not_finite += records[s].not_finite;
    }
    json_t *difference =
        i == a->baseline ? json_null() : weft_ablation_difference(records, base, a->seed_count, same);
    *out = json_pack(
        "{s:s, s:o, s:I, s:I, s:f, s:I, s:I, s:s, s:o, s:o, s:o, s:o, s:o, s:I, s:I, s:o, s:o}", "name",
        v->name, "runs", run_names(a, i), "params", (json_int_t)v->params, "active", (json_int_t)v->active,
        "flops_per_token", v->flops_per_token, "steps", (json_int_t)run->config.train.steps, "tokens",
        (json_int_t)tokens_of(&run->config), "matched", v->matched, "match_off",
        weft_output_real(v->match_off), "changed", changed, "train_loss", weft_output_real(loss), "heldout",
        weft_ablation_heldout(records, a->seed_count), "tasks", weft_ablation_tasks(records, a->seed_count),
        "spikes", (json_int_t)spikes, "not_finite", (json_int_t)not_finite, "activation_max",
        weft_output_real(weft_ablation_activation_max(records, a->seed_count)), "difference", difference);
    return *out ? WEFT_OK : weft_fail(WEFT_ENOMEM, "%s: no memory for the results", a->path);
}

/* ---- all ---------------------------------------------------------------------------------------- */

static weft_status assemble(const weft_ablation *a, const weft_ablation_record *records, json_t **out) {
    const weft_ablation_record *base = &records[a->baseline * a->seed_count];
    const weft_config *c = &a->runs[a->baseline * a->seed_count]->config;
    json_t *seeds = json_array(), *variants = json_array();
    for (int s = 0; s < a->seed_count; s++) json_array_append_new(seeds, json_integer(a->runs[s]->seed));
    json_t *o = json_pack("{s:s, s:s, s:o, s:I, s:I, s:O}", "title", a->title, "baseline",
                          a->variants[a->baseline].name, "seeds", seeds, "steps", (json_int_t)c->train.steps,
                          "tokens", (json_int_t)tokens_of(c), "variants", variants);
    weft_status st = o ? WEFT_OK : weft_fail(WEFT_ENOMEM, "%s: no memory for the results", a->path);
    for (int i = 0; i < a->variant_count && st == WEFT_OK; i++) {
        json_t *v = NULL;
        st = variant_json(a, i, &records[i * a->seed_count], base, &v);
        if (st == WEFT_OK && json_array_append_new(variants, v) != 0)
            st = weft_fail(WEFT_ENOMEM, "%s: no memory for the results", a->path);
    }
    json_decref(variants);
    if (st == WEFT_OK)
        *out = o;
    else
        json_decref(o);
    return st;
}

weft_status weft_ablation_results(const weft_ablation *a, json_t **out) {
    weft_ablation_record *records = calloc((size_t)a->run_count, sizeof *records);
    weft_status st = records ? WEFT_OK : weft_fail(WEFT_ENOMEM, "%s: no memory", a->path);
    for (int i = 0; i < a->run_count && st == WEFT_OK; i++) st = weft_ablation_record_read(a, i, &records[i]);
    if (st == WEFT_OK) st = assemble(a, records, out);
    for (int i = 0; records && i < a->run_count; i++) weft_ablation_record_free(&records[i]);
    free(records);
    return st;
}

/* ---- files -------------------------------------------------------------------------------------- */

/* Takes the text. */
static weft_status write_text(const weft_ablation *a, const char *name, char *text) {
    char path[WEFT_PATH_SIZE];
    weft_status st = weft_fs_path(path, "%s/%s", a->out, name);
    if (st == WEFT_OK && !text) st = weft_fail(WEFT_ENOMEM, "%s: no memory for its text", path);
    if (st == WEFT_OK) st = weft_fs_replace_file(path, text, strlen(text));
    free(text);
    return st;
}

static char *table_text(const json_t *results) {
    char *text = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&text, &bytes);
    if (!out) return NULL;
    weft_ablation_table(results, out);
    bool failed = ferror(out) != 0;
    if (fclose(out) == 0 && !failed) return text;
    free(text);
    return NULL;
}

static char *json_text(const json_t *results) {
    char *dump = json_dumps(results, JSON_INDENT(2)), *text = dump ? weft_format("%s\n", dump) : NULL;
    free(dump);
    return text;
}

static weft_status write_report(const weft_ablation *a, const json_t *results) {
    char path[WEFT_PATH_SIZE];
    WEFT_TRY(weft_fs_path(path, "%s/report.html", a->out));
    weft_report_run *runs = calloc((size_t)a->run_count, sizeof *runs);
    if (!runs) WEFT_FAIL(WEFT_ENOMEM, "%s: no memory", path);
    for (int i = 0; i < a->run_count; i++)
        runs[i] = (weft_report_run){a->runs[i]->name, a->variants[a->runs[i]->variant].name, a->runs[i]->dir};
    weft_status st = weft_report_write(path, a->title, runs, a->run_count, results);
    free(runs);
    return st;
}

weft_status weft_ablation_conclude(const weft_ablation *a, json_t **out) {
    json_t *results = NULL;
    int fd = -1;
    WEFT_TRY(weft_ablation_lock(a, "report", true, &fd));
    weft_status st = weft_ablation_results(a, &results);
    if (st == WEFT_OK) st = write_text(a, "results.json", json_text(results));
    if (st == WEFT_OK) st = write_text(a, "results.md", table_text(results));
    if (st == WEFT_OK) st = write_report(a, results);
    close(fd);
    if (st == WEFT_OK)
        *out = results;
    else
        json_decref(results);
    return st;
}

/* The definition is copied by whoever comes first; the same text is not written again. */
weft_status weft_ablation_prepare(const weft_ablation *a) {
    char path[WEFT_PATH_SIZE], *old = NULL;
    size_t bytes;
    int fd = -1;
    WEFT_TRY(weft_fs_path(path, "%s/locks", a->folder));
    WEFT_TRY(weft_fs_mkdirs(path));
    WEFT_TRY(weft_fs_mkdirs(a->out));
    WEFT_TRY(weft_fs_path(path, "%s/ablation.yaml", a->out));
    WEFT_TRY(weft_ablation_lock(a, "definition", true, &fd));
    weft_status st = access(path, F_OK) == 0 ? weft_fs_read_file(path, 1 << 24, &old, &bytes) : WEFT_OK;
    if (st == WEFT_OK && (!old || strcmp(old, a->text) != 0))
        st = weft_fs_replace_file(path, a->text, strlen(a->text));
    free(old);
    close(fd);
    return st;
}
