/* What a run left: the loss of every step, and its evaluation. */
#include "runtime/fs.h"
#include "train/ablate/ablation_internal.h"
#include "train/statistics.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BEFORE = 50, TIMES = 6 }; /* of a spike */

/* One line of metrics.jsonl: step, loss (NaN where it was not finite), whether the weights were updated. */
static bool parse_line(const char *line, size_t bytes, int64_t *step, double *loss, bool *updated) {
    json_t *o = json_loadb(line, bytes, 0, NULL);
    const json_t *value = json_object_get(o, "loss");
    *step = (int64_t)json_integer_value(json_object_get(o, "step"));
    *loss = json_is_number(value) ? json_number_value(value) : NAN;
    *updated = json_is_true(json_object_get(o, "updated"));
    json_decref(o);
    return *step > 0;
}

static weft_status read_lines(FILE *f, const char *path, weft_ablation_record *r) {
    char *line = NULL;
    size_t capacity = 0;
    ssize_t n;
    int64_t have = 0, step;
    double loss;
    bool updated;
    while (have < r->steps && (n = getline(&line, &capacity, f)) > 0) {
        if (!parse_line(line, (size_t)n, &step, &loss, &updated) || step != have + 1) break;
        r->loss[have++] = loss;
        r->not_finite += !updated;
    }
    bool failed = ferror(f) != 0;
    free(line);
    if (failed) WEFT_FAIL(WEFT_EIO, "%s: cannot be read: %s", path, strerror(errno));
    if (have < r->steps)
        WEFT_FAIL(WEFT_EINPUT,
                  "%s: holds %lld of %lld steps; remove the run's directory to train it again, or train it "
                  "to its end",
                  path, (long long)have, (long long)r->steps);
    return WEFT_OK;
}

static weft_status read_metrics(const weft_ablation_run *run, weft_ablation_record *r) {
    char path[WEFT_PATH_SIZE];
    WEFT_TRY(weft_fs_path(path, "%s/metrics.jsonl", run->dir));
    r->steps = run->config.train.steps;
    if (!(r->loss = malloc((size_t)r->steps * sizeof *r->loss)))
        WEFT_FAIL(WEFT_ENOMEM, "%s: no memory", path);
    FILE *f = fopen(path, "r");
    if (!f && errno == ENOENT) WEFT_FAIL(WEFT_EINPUT, "%s: is missing: the run is not done", path);
    if (!f) WEFT_FAIL(WEFT_EIO, "%s: cannot be opened: %s", path, strerror(errno));
    weft_status st = read_lines(f, path, r);
    fclose(f);
    return st;
}

static weft_status read_eval(const weft_ablation_run *run, weft_ablation_record *r) {
    char path[WEFT_PATH_SIZE];
    json_error_t error;
    WEFT_TRY(weft_fs_path(path, "%s/eval.json", run->dir));
    r->eval = json_load_file(path, 0, &error);
    if (!r->eval && json_error_code(&error) == json_error_cannot_open_file)
        WEFT_FAIL(WEFT_EINPUT, "%s: is missing: the run is not evaluated", path);
    if (!json_is_object(r->eval)) WEFT_FAIL(WEFT_EINPUT, "%s: is no JSON object: %s", path, error.text);
    return WEFT_OK;
}

weft_status weft_ablation_record_read(const weft_ablation *a, int i, weft_ablation_record *out) {
    *out = (weft_ablation_record){0};
    weft_status st = read_metrics(a->runs[i], out);
    if (st == WEFT_OK) st = read_eval(a->runs[i], out);
    if (st != WEFT_OK) weft_ablation_record_free(out);
    return st;
}

void weft_ablation_record_free(weft_ablation_record *r) {
    free(r->loss);
    json_decref(r->eval);
    *r = (weft_ablation_record){0};
}

double weft_ablation_final_loss(const weft_ablation_record *r) {
    int64_t first = r->steps - (r->steps + 9) / 10, counted = 0;
    double sum = 0;
    for (int64_t i = first; i < r->steps; i++)
        if (isfinite(r->loss[i])) sum += r->loss[i], counted++;
    return counted ? sum / (double)counted : NAN;
}

bool weft_ablation_spike(const double *loss, int64_t i) {
    double before[BEFORE], off[BEFORE];
    int64_t n = 0;
    if (i < BEFORE || !isfinite(loss[i])) return false;
    for (int64_t k = i - BEFORE; k < i; k++)
        if (isfinite(loss[k])) before[n++] = loss[k];
    double median = weft_median(before, n);
    for (int64_t k = 0; k < n; k++) off[k] = fabs(before[k] - median);
    return n > 0 && loss[i] - median > TIMES * weft_median(off, n);
}

int64_t weft_ablation_spikes(const weft_ablation_record *r) {
    int64_t spikes = 0;
    for (int64_t i = 0; i < r->steps; i++) spikes += weft_ablation_spike(r->loss, i);
    return spikes;
}
