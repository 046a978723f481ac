/* Running the suite: what is refused and skipped, the tasks in order, and the exchange between ranks. */
#include "train/suite/suite.h"
#include "runtime/hash.h"
#include "runtime/log.h"
#include "train/suite/suite_internal.h"
#include "train/suite/suite_questions.h"

#include <stdlib.h>
#include <string.h>

typedef struct runner {
    weft_status (*run)(weft_suite_job *j, json_t **out);
    bool reads_text;
} runner;

static const runner runners[WEFT_SUITE_TASKS] = {
    [WEFT_SUITE_BITS] = {weft_suite_bits, false},
    [WEFT_SUITE_RECALL] = {weft_suite_recall, true},
    [WEFT_SUITE_COPY] = {weft_suite_copy, true},
    [WEFT_SUITE_LABELS] = {weft_suite_labels, true},
    [WEFT_SUITE_NEEDLE] = {weft_suite_needle, true},
    [WEFT_SUITE_CHOICES] = {weft_suite_choices, true},
    [WEFT_SUITE_INDUCTION] = {weft_suite_induction, false},
    [WEFT_SUITE_ACTIVATIONS] = {weft_suite_activations, false},
    [WEFT_SUITE_CONTEXT] = {weft_suite_context, false},
};

/* ---- ranks -------------------------------------------------------------------------------------- */

/* Each rank sends its documents one behind the other. */
weft_status weft_suite_share(const weft_suite_job *j, double *values, int64_t documents, int64_t each) {
    int64_t size = j->world->size, rank = j->world->rank, rows = (documents + size - 1) / size;
    if (size == 1 || documents == 0) return WEFT_OK;
    size_t row = (size_t)each * sizeof *values, part = (size_t)(rows * each);
    double *mine = calloc(part, sizeof *mine), *all = malloc((size_t)size * part * sizeof *all);
    weft_status st = WEFT_OK;
    if (!mine || !all)
        st = weft_fail(WEFT_ENOMEM, "no memory for the results of %lld documents", (long long)documents);
    st = weft_world_agree(st);
    for (int64_t i = rank; i < documents && st == WEFT_OK; i += size)
        memcpy(mine + i / size * each, values + i * each, row);
    if (st == WEFT_OK) weft_world_allgather(mine, all, part * sizeof *mine);
    for (int64_t i = 0; i < documents && st == WEFT_OK; i++)
        memcpy(values + i * each, all + (i % size * rows + i / size) * each, row);
    free(mine);
    free(all);
    return st;
}

/* Ranks that were started with different settings would wait for each other for ever. Paths may differ. */
static weft_status same_everywhere(const weft_suite *s, const char *const unfit[WEFT_SUITE_TASKS]) {
    weft_suite *copy = malloc(sizeof *copy);
    char *text = NULL;
    uint64_t skipped = 0;
    if (copy) {
        *copy = *s;
        copy->bits.data[0] = '\0';
        if (copy->choices.file[0]) copy->choices.file[0] = '/', copy->choices.file[1] = '\0';
        text = weft_suite_text(copy);
    }
    free(copy);
    for (int i = 0; i < WEFT_SUITE_TASKS; i++) skipped |= (uint64_t)(unfit[i] != NULL) << i;
    weft_status st = weft_world_agree(text ? WEFT_OK : weft_fail(WEFT_ENOMEM, "no memory for the settings"));
    if (st == WEFT_OK) st = weft_world_same(weft_hash64_str(text, skipped), "the settings of the evaluation");
    free(text);
    return st;
}

/* ---- before the first task ---------------------------------------------------------------------- */

const char *weft_suite_data(const weft_suite_job *j) {
    return *j->suite->bits.data ? j->suite->bits.data : j->file->config.data.path;
}

weft_status weft_suite_open_data(const weft_suite_job *j, const char *data, int64_t seq_len, int64_t batch,
                                 weft_loader **out) {
    const weft_config *c = &j->file->config;
    weft_loader_options o = {.path = data,
                             .split = j->suite->bits.split,
                             .seed = (uint64_t)c->seed,
                             .seq_len = seq_len,
                             .max_batch = batch,
                             .cache_bytes = 64 << 20,
                             .vocab_size = c->model.vocab_size,
                             .bos = (int32_t)c->model.bos_token_id,
                             .whole = c->data.packing == WEFT_PACKING_WHOLE};
    WEFT_TRY(weft_loader_open(out, &o));
    if (strcmp(data, "random") != 0 && !weft_modelfile_fits(j->file, weft_loader_tokenizer_digest(*out)))
        WEFT_FAIL(WEFT_EINPUT, "%s: its shards were made with another tokenizer than the model of %s", data,
                  j->file->path);
    return WEFT_OK;
}

static bool has_attention(const weft_model *m) {
    for (int64_t i = 0; i < m->block_count; i++)
        if (m->blocks[i].kind == &weft_block_attention) return true;
    return false;
}

static bool reads_text(const weft_suite_job *j, int task) {
    return runners[task].reads_text ||
           (task == WEFT_SUITE_INDUCTION && strcmp(j->suite->induction.text, "copy") == 0);
}

/* Why this model or its data cannot do a task; NULL: they can. */
static const char *unfit_for(const weft_suite_job *j, int task) {
    const char *data = weft_suite_data(j);
    if (reads_text(j, task) && !*j->file->tokenizer)
        return "holds no tokenizer.model (trained on random tokens?), which tasks on text need";
    if (task == WEFT_SUITE_BITS && !*data) return "names no data; add --data DIR";
    if (task == WEFT_SUITE_BITS && strcmp(data, "random") == 0)
        return "data.path=random has no held-out text; add --data DIR";
    if (task == WEFT_SUITE_INDUCTION && !has_attention(&j->file->model)) return "has no attention layer";
    return NULL;
}

/* Induction is asked of families of models, some of which have no attention: that is no mistake. */
static weft_status check_task(const weft_suite_job *j, int task, const char **unfit) {
    *unfit = unfit_for(j, task);
    if (*unfit && task != WEFT_SUITE_INDUCTION && !weft_suite_wants_all(j->suite))
        WEFT_FAIL(WEFT_EINPUT, "%s: %s", j->file->path, *unfit);
    return WEFT_OK;
}

static weft_status prepare(weft_suite_job *j, const bool wanted[WEFT_SUITE_TASKS],
                           const char *unfit[WEFT_SUITE_TASKS]) {
    for (int i = 0; i < WEFT_SUITE_TASKS; i++) {
        if (!wanted[i]) continue;
        WEFT_TRY(check_task(j, i, &unfit[i]));
        if (reads_text(j, i) && !unfit[i] && !j->tokenizer)
            WEFT_TRY(weft_modelfile_tokenizer(j->file, &j->tokenizer));
    }
    if (wanted[WEFT_SUITE_CHOICES] && !unfit[WEFT_SUITE_CHOICES])
        WEFT_TRY(weft_suite_questions_read(&j->questions, j->suite->choices.file));
    return WEFT_OK;
}

/* ---- the result --------------------------------------------------------------------------------- */

static json_t *settings_json(const weft_suite *s) {
    char *text = weft_suite_text(s), *rest = text, *line;
    json_t *o = json_object();
    int bad = !text || !o;
    while (!bad && (line = strsep(&rest, "\n")) && *line) {
        char *equals = strchr(line, '=');
        *equals = '\0';
        bad = json_object_set_new(o, line, json_string(equals + 1));
    }
    free(text);
    if (!bad) return o;
    json_decref(o);
    return NULL;
}

/* Takes the value; only rank 0 keeps results. */
static weft_status keep(json_t *result, const char *name, json_t *value) {
    if (!result)
        json_decref(value);
    else if (json_object_set_new(result, name, value) != 0)
        WEFT_FAIL(WEFT_ENOMEM, "no memory for the result");
    return WEFT_OK;
}

static weft_status run_task(weft_suite_job *j, int task, const char *unfit, json_t *result) {
    const char *name = weft_suite_tasks[task].name;
    json_t *value = NULL;
    weft_status st;
    if (unfit) {
        weft_info("%s is skipped: %s", name, unfit);
        return weft_world_agree(keep(result, name, json_pack("{s:s}", "skipped", unfit)));
    }
    if (weft_world_any(weft_suite_known(j->known, j->suite, task))) {
        st = keep(result, name, json_incref(json_object_get(j->known, name)));
        if (st == WEFT_OK && task == WEFT_SUITE_ACTIVATIONS)
            st = keep(result, "experts", json_incref(json_object_get(j->known, "experts")));
        return weft_world_agree(st);
    }
    WEFT_TRY(weft_world_agree(runners[task].run(j, &value)));
    st = keep(result, name, value);
    if (task != WEFT_SUITE_ACTIVATIONS) return weft_world_agree(st);
    WEFT_TRY(weft_world_agree(st));
    WEFT_TRY(weft_world_agree(weft_suite_experts(j, &value)));
    return weft_world_agree(keep(result, "experts", value));
}

static weft_status run_tasks(weft_suite_job *j, const bool wanted[WEFT_SUITE_TASKS],
                             const char *const unfit[WEFT_SUITE_TASKS], json_t **out) {
    weft_status st = WEFT_OK;
    json_t *result = NULL;
    if (j->world->rank == 0) {
        result = json_pack("{s:s, s:I, s:o}", "model", j->file->path, "step", (json_int_t)j->file->step,
                           "suite", settings_json(j->suite));
        if (!result) st = weft_fail(WEFT_ENOMEM, "no memory for the result");
    }
    st = weft_world_agree(st);
    for (int i = 0; i < WEFT_SUITE_TASKS && st == WEFT_OK; i++)
        if (wanted[i]) st = run_task(j, i, unfit[i], result);
    if (st == WEFT_OK)
        *out = result;
    else
        json_decref(result);
    return st;
}

weft_status weft_suite_run(const weft_suite *s, weft_modelfile *f, const weft_world *w, const json_t *known,
                           json_t **out) {
    weft_suite_job j = {.suite = s, .file = f, .world = w, .known = w->rank == 0 ? known : NULL};
    bool wanted[WEFT_SUITE_TASKS];
    const char *unfit[WEFT_SUITE_TASKS] = {NULL};
    weft_suite_wanted(s, wanted);
    weft_log_replicated(true);
    weft_status st = prepare(&j, wanted, unfit);
    weft_log_replicated(false);
    st = weft_world_agree(st);
    if (st == WEFT_OK) st = same_everywhere(s, unfit);
    if (st == WEFT_OK) st = run_tasks(&j, wanted, unfit, out);
    weft_suite_questions_free(j.questions);
    weft_tokenizer_close(j.tokenizer);
    return st;
}
