/* Recall and copying: documents all of whose answers count alike. */
#include "train/output.h"
#include "train/suite/suite_quiz.h"

#include <stdlib.h>

typedef struct task {
    weft_suite_job *job;
    weft_synthetic options;
    weft_range *varied; /* the option that the settings are about */
    const weft_suite_list *list;
    weft_synthetic_document document;
} task;

static weft_status fill(void *of, int64_t setting, int64_t number, weft_suite_sheet *sheets, int64_t *count) {
    task *t = of;
    weft_synthetic_document *d = &t->document;
    int64_t value = t->list->of[setting];
    *t->varied = (weft_range){value, value};
    WEFT_TRY(weft_synthetic_make(&t->options, weft_suite_document(value, 0, number), d));
    *count = 1;
    return weft_suite_sheet_fill(sheets, t->job->tokenizer, d->text, d->bytes, d->answers, d->answers_count);
}

/* Answers, right ones, nats. */
static void mark(void *of, int64_t setting, int64_t number, const weft_suite_sheet *sheets, int64_t count,
                 double *values) {
    (void)of, (void)setting, (void)number, (void)count;
    for (int64_t a = 0; a < sheets->answers_count; a++) {
        values[0] += 1;
        values[1] += sheets->answers[a].right;
        values[2] += sheets->answers[a].nll;
    }
}

static json_t *summary(const char *name, int64_t value, const double *values, int64_t documents) {
    double sum[3] = {0, 0, 0};
    for (int64_t d = 0; d < documents; d++)
        for (int k = 0; k < 3; k++) sum[k] += values[3 * d + k];
    return json_pack("{s:I, s:I, s:o, s:o}", name, (json_int_t)value, "answers", (json_int_t)sum[0],
                     "accuracy", weft_output_real(sum[1] / sum[0]), "nll", weft_output_real(sum[2] / sum[0]));
}

static weft_status run(task *t, const char *name, int64_t documents, json_t **out) {
    double *values = NULL;
    int64_t batch = t->job->suite->batch;
    weft_suite_quiz q = {.settings = t->list->count,
                         .documents = documents,
                         .group = batch < documents ? batch : documents,
                         .sheets = 1,
                         .each = 3,
                         .of = t,
                         .fill = fill,
                         .mark = mark};
    weft_status st = weft_suite_ask(t->job, &q, &values);
    weft_synthetic_free(&t->document);
    WEFT_TRY(st);
    json_t *list = json_array();
    for (int i = 0; list && i < t->list->count; i++)
        if (json_array_append_new(
                list, summary(name, t->list->of[i], values + i * documents * 3, documents)) != 0) {
            json_decref(list);
            list = NULL;
        }
    free(values);
    if (!list) WEFT_FAIL(WEFT_ENOMEM, "no memory for the result");
    *out = list;
    return WEFT_OK;
}

weft_status weft_suite_recall(weft_suite_job *j, json_t **out) {
    task t = {
        .job = j, .options = weft_suite_synthetic(j, WEFT_SYNTHETIC_RECALL), .list = &j->suite->recall.pairs};
    t.varied = &t.options.pairs;
    return run(&t, "pairs", j->suite->recall.documents, out);
}

weft_status weft_suite_copy(weft_suite_job *j, json_t **out) {
    task t = {
        .job = j, .options = weft_suite_synthetic(j, WEFT_SYNTHETIC_COPY), .list = &j->suite->copy.words};
    t.varied = &t.options.words;
    return run(&t, "words", j->suite->copy.documents, out);
}
