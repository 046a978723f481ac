/* Few-shot classification: is the right label the likeliest of those shown, and does the model answer with a
 * label at all (the paper's finding on pure Mamba, section 6.2)? Each label is put in the place of the last
 * answer, and its whole log-probability counts. */
#include "data/text/normalise.h"
#include "train/output.h"
#include "train/suite/suite_quiz.h"

#include <stdlib.h>
#include <string.h>

enum { LABELS = 8, /* of a document, at most */ RIGHT = 0, FORMAT, EXACT, NATS, CHANCE, NUMBERS };

typedef struct task {
    weft_suite_job *job;
    weft_synthetic options;
    weft_synthetic_document document;
    weft_text text; /* the document up to its last answer, and a label */
} task;

/* A sheet for each label; tag: it is the document's own. */
static weft_status fill_labels(task *t, weft_suite_sheet *sheets, int64_t *count) {
    const weft_synthetic_document *d = &t->document;
    WEFT_CHECK(d->answers_count > 0, "a document of labels has no answer");
    weft_answer last = d->answers[d->answers_count - 1];
    size_t word = last.begin + (d->text[last.begin] == ' ');
    for (int i = 0; i < d->choices_count; i++) {
        size_t n = strlen(d->choices[i]);
        weft_answer answer = {last.begin, word + n};
        t->text.bytes = 0;
        WEFT_TRY(weft_text_append(&t->text, d->text, word));
        WEFT_TRY(weft_text_append(&t->text, d->choices[i], n));
        WEFT_TRY(weft_suite_sheet_fill(&sheets[i], t->job->tokenizer, t->text.data, answer.end, &answer, 1));
        sheets[i].tag = n == last.end - word && memcmp(d->choices[i], d->text + word, n) == 0;
    }
    *count = d->choices_count;
    return WEFT_OK;
}

static weft_status fill(void *of, int64_t setting, int64_t number, weft_suite_sheet *sheets, int64_t *count) {
    task *t = of;
    int64_t examples = t->job->suite->labels.examples.of[setting];
    t->options.examples = (weft_range){examples, examples};
    WEFT_TRY(weft_synthetic_make(&t->options, weft_suite_document(examples, 0, number), &t->document));
    return fill_labels(t, sheets, count);
}

static void mark(void *of, int64_t setting, int64_t number, const weft_suite_sheet *sheets, int64_t count,
                 double *values) {
    (void)of, (void)setting, (void)number;
    const weft_suite_answer *best = sheets[0].answers;
    for (int64_t i = 0; i < count; i++) {
        const weft_suite_answer *a = sheets[i].answers;
        if (a->nll < best->nll) best = a;
        /* what stands before the labels is the same, and so is the guess */
        if (a->guess == sheets[i].ids[a->first]) values[FORMAT] = 1;
        if (!sheets[i].tag) continue;
        values[EXACT] = a->right;
        values[NATS] = a->nll;
    }
    for (int64_t i = 0; i < count; i++)
        if (sheets[i].answers == best) values[RIGHT] = sheets[i].tag && best->nll == best->nll;
    values[CHANCE] = 1 / (double)count;
}

static json_t *summary(int64_t examples, const double *values, int64_t documents) {
    double sum[NUMBERS] = {0};
    json_t *o = json_pack("{s:I, s:I}", "examples", (json_int_t)examples, "answers", (json_int_t)documents);
    static const char *const names[NUMBERS] = {
        [RIGHT] = "accuracy", [FORMAT] = "format", [EXACT] = "exact", [NATS] = "nll", [CHANCE] = "chance"};
    for (int64_t d = 0; d < documents; d++)
        for (int k = 0; k < NUMBERS; k++) sum[k] += values[NUMBERS * d + k];
    int bad = 0;
    for (int k = 0; k < NUMBERS; k++)
        bad |= json_object_set_new(o, names[k], weft_output_real(sum[k] / (double)documents));
    if (!bad) return o;
    json_decref(o);
    return NULL;
}

static weft_status run(task *t, bool random_labels, json_t **out) {
    const weft_suite *s = t->job->suite;
    int64_t documents = s->labels.documents;
    double *values = NULL;
    weft_suite_quiz q = {.settings = s->labels.examples.count,
                         .documents = documents,
                         .group = s->batch < documents ? s->batch : documents,
                         .sheets = LABELS,
                         .each = NUMBERS,
                         .of = t,
                         .fill = fill,
                         .mark = mark};
    t->options.random_labels = random_labels;
    WEFT_TRY(weft_suite_ask(t->job, &q, &values));
    json_t *list = json_array();
    int bad = !list;
    for (int i = 0; i < s->labels.examples.count; i++)
        bad |= json_array_append_new(
            list, summary(s->labels.examples.of[i], values + i * documents * NUMBERS, documents));
    free(values);
    if (!bad) {
        *out = list;
        return WEFT_OK;
    }
    json_decref(list);
    WEFT_FAIL(WEFT_ENOMEM, "no memory for the result");
}

weft_status weft_suite_labels(weft_suite_job *j, json_t **out) {
    task t = {.job = j, .options = weft_suite_synthetic(j, WEFT_SYNTHETIC_LABELS)};
    json_t *random = NULL, *named = NULL, *o = NULL;
    t.options.classes = (weft_range){j->suite->labels.classes, j->suite->labels.classes};
    weft_status st = run(&t, true, &random);
    if (st == WEFT_OK) st = run(&t, false, &named);
    if (st == WEFT_OK && !(o = json_pack("{s:O, s:O}", "random", random, "named", named)))
        st = weft_fail(WEFT_ENOMEM, "no memory for the result");
    json_decref(random);
    json_decref(named);
    weft_synthetic_free(&t.document);
    weft_text_free(&t.text);
    if (st == WEFT_OK) *out = o;
    return st;
}
