/* What a run left: config.yaml, metrics.jsonl as far as it goes, eval.json. */
#include "model/model.h"
#include "runtime/fs.h"
#include "train/report/report_internal.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_CONFIG ((size_t)1 << 20)

/* ---- members ---- */
double report_real(const json_t *number) {
    return json_is_number(number) ? json_number_value(number) : NAN;
}

double report_member(const json_t *object, const char *key) {
    return report_real(json_object_get(object, key));
}

const char *report_string(const json_t *object, const char *key) {
    const char *s = json_string_value(json_object_get(object, key));
    return s ? s : "";
}

const char *report_config(const report_run *run, const char *key) {
    for (int i = 0; i < run->config.count; i++)
        if (strcmp(run->config.entries[i].key, key) == 0) return run->config.entries[i].value;
    return NULL;
}

/* ---- metrics.jsonl ---- */
static weft_status grow(report_run *run, const char *path) {
    if (run->count < run->capacity) return WEFT_OK;
    int64_t capacity = run->capacity ? 2 * run->capacity : 256;
    double *steps = realloc(run->steps, (size_t)capacity * REPORT_COLUMNS * sizeof *steps);
    if (!steps) WEFT_FAIL(WEFT_ENOMEM, "%s: no memory for %lld steps", path, (long long)capacity);
    run->steps = steps;
    run->capacity = capacity;
    return WEFT_OK;
}

/* Tokens are still of this step alone. */
static void fill_row(double *row, const json_t *record) {
    static const char *const keys[REPORT_COLUMNS] = {[REPORT_STEP] = "step",
                                                     [REPORT_TOKENS] = "tokens",
                                                     [REPORT_LOSS] = "loss",
                                                     [REPORT_MFU] = "mfu",
                                                     [REPORT_GRAD_NORM] = "grad_norm",
                                                     [REPORT_RATE] = "tokens_per_s",
                                                     [REPORT_MEMORY] = "mem_bytes",
                                                     [REPORT_SECONDS] = "step_seconds",
                                                     [REPORT_DATA_SECONDS] = "data_seconds",
                                                     [REPORT_UPDATED] = "updated"};
    for (int c = 0; c < REPORT_COLUMNS; c++) row[c] = report_member(record, keys[c]);
    const json_t *updated = json_object_get(record, keys[REPORT_UPDATED]);
    if (json_is_boolean(updated)) row[REPORT_UPDATED] = json_is_true(updated);
}

static weft_status add_record(report_run *run, const char *path, int64_t line, const json_t *record) {
    double row[REPORT_COLUMNS];
    fill_row(row, record);
    if (!(row[REPORT_STEP] >= 1 && row[REPORT_STEP] < 1e15))
        WEFT_FAIL(WEFT_EINPUT, "%s:%lld: is no record of a step", path, (long long)line);
    /* Steps that were done again replace what they were before. */
    while (run->count > 0 && report_step(run, run->count - 1, REPORT_STEP) >= row[REPORT_STEP]) run->count--;
    double before = run->count > 0 ? report_step(run, run->count - 1, REPORT_TOKENS) : 0;
    row[REPORT_TOKENS] = before + (row[REPORT_TOKENS] > 0 ? row[REPORT_TOKENS] : 0);
    WEFT_TRY(grow(run, path));
    memcpy(run->steps + run->count++ * REPORT_COLUMNS, row, sizeof row);
    return WEFT_OK;
}

static weft_status read_lines(report_run *run, FILE *f, const char *path) {
    weft_status st = WEFT_OK;
    char *line = NULL;
    size_t capacity = 0;
    ssize_t n;
    for (int64_t number = 1; st == WEFT_OK && (n = getline(&line, &capacity, f)) > 0; number++) {
        json_error_t error;
        if (line[n - 1] != '\n') break; /* a run is at work: this record is not whole yet */
        json_t *record = json_loadb(line, (size_t)n, 0, &error);
        st = record ? add_record(run, path, number, record)
                    : weft_fail(WEFT_EINPUT, "%s:%lld: %s", path, (long long)number, error.text);
        json_decref(record);
    }
    if (st == WEFT_OK && ferror(f)) st = weft_fail(WEFT_EIO, "%s: cannot be read: %s", path, strerror(errno));
    free(line);
    return st;
}

static weft_status read_metrics(report_run *run, bool *there) {
    char path[WEFT_PATH_SIZE];
    WEFT_TRY(weft_fs_path(path, "%s/metrics.jsonl", run->of->dir));
    FILE *f = fopen(path, "r");
    *there = f != NULL;
    if (!f && errno != ENOENT && errno != ENOTDIR)
        WEFT_FAIL(WEFT_EIO, "%s: cannot be read: %s", path, strerror(errno));
    if (!f) return WEFT_OK;
    weft_status st = read_lines(run, f, path);
    fclose(f);
    return st;
}

/* ---- config.yaml, eval.json ---- */
static weft_status parameters(report_run *run, const char *path) {
    weft_config *c = malloc(sizeof *c);
    weft_model *m = calloc(1, sizeof *m);
    weft_status st = WEFT_OK;
    if (!c || !m) WEFT_GOTO(st, done, weft_fail(WEFT_ENOMEM, "%s: no memory for a configuration", path));
    weft_config_defaults(c);
    WEFT_GOTO(st, done, weft_config_load(c, path));
    WEFT_GOTO(st, done, weft_config_finish(c));
    WEFT_GOTO(st, done, weft_model_build(m, &c->model, WEFT_RECOMPUTE_NONE, "", 0, WEFT_REAL_DTYPE, NULL));
    run->params = weft_params_total(&m->table);
    run->active = weft_model_active_params(m);
    weft_model_free(m);
done:
    free(m);
    free(c);
    return st;
}

static weft_status read_config(report_run *run, bool count_parameters, bool *there) {
    char path[WEFT_PATH_SIZE], *text = NULL;
    size_t bytes = 0;
    WEFT_TRY(weft_fs_path(path, "%s/config.yaml", run->of->dir));
    *there = access(path, F_OK) == 0;
    if (!*there) return WEFT_OK;
    WEFT_TRY(weft_fs_read_file(path, MAX_CONFIG, &text, &bytes));
    weft_status st = weft_yaml_parse(&run->config, text, bytes, path);
    free(text);
    if (st == WEFT_OK && count_parameters) st = parameters(run, path);
    return st;
}

static weft_status read_eval(report_run *run, bool *there) {
    char path[WEFT_PATH_SIZE];
    json_error_t error;
    WEFT_TRY(weft_fs_path(path, "%s/eval.json", run->of->dir));
    *there = access(path, F_OK) == 0;
    if (!*there) return WEFT_OK;
    run->eval = json_load_file(path, 0, &error);
    if (!run->eval) WEFT_FAIL(WEFT_EINPUT, "%s:%d:%d: %s", path, error.line, error.column, error.text);
    return WEFT_OK;
}

weft_status report_read(report_run *run, const weft_report_run *of, bool count_parameters) {
    bool metrics = false, config = false, eval = false;
    *run = (report_run){.of = of};
    WEFT_TRY(read_config(run, count_parameters, &config));
    WEFT_TRY(read_metrics(run, &metrics));
    WEFT_TRY(read_eval(run, &eval));
    if (!metrics && !config && !eval)
        WEFT_FAIL(WEFT_EINPUT, "%s: is no run: it holds no metrics.jsonl, config.yaml or eval.json", of->dir);
    return WEFT_OK;
}

void report_run_free(report_run *run) {
    weft_yaml_free(&run->config);
    free(run->steps);
    json_decref(run->eval);
    *run = (report_run){0};
}
