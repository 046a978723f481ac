/* Multiple choice: the choice of the highest log-probability behind the text, whole, per byte and per token
 * (lm-evaluation-harness' acc, and acc_norm with bytes). */
#include "data/text/normalise.h"
#include "train/output.h"
#include "train/suite/suite_questions.h"
#include "train/suite/suite_quiz.h"

#include <stdlib.h>
#include <string.h>

enum { WHOLE, PER_BYTE, PER_TOKEN, NUMBERS };

typedef struct task {
    weft_suite_job *job;
    weft_text text;
} task;

static bool is_space(char c) {
    return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

/* Spaces before the choice belong to it, also those that end the text: a token begins with its space. */
static weft_status fill_choice(task *t, const char *before, const char *choice, weft_suite_sheet *sheet) {
    size_t n = strlen(before), more = strlen(choice);
    size_t begin = n;
    while (begin > 0 && before[begin - 1] == ' ') begin--;
    t->text.bytes = 0;
    WEFT_TRY(weft_text_append(&t->text, before, n));
    if (n > 0 && !is_space(before[n - 1]) && !is_space(choice[0]))
        WEFT_TRY(weft_text_append(&t->text, " ", 1));
    WEFT_TRY(weft_text_append(&t->text, choice, more));
    weft_answer answer = {begin, t->text.bytes};
    WEFT_TRY(weft_suite_sheet_fill(sheet, t->job->tokenizer, t->text.data, answer.end, &answer, 1));
    sheet->tag = (int64_t)(more - strspn(choice, " "));
    return WEFT_OK;
}

static weft_status fill(void *of, int64_t setting, int64_t number, weft_suite_sheet *sheets, int64_t *count) {
    task *t = of;
    const weft_suite_question *q = &t->job->questions->of[number];
    (void)setting;
    for (int64_t i = 0; i < q->count; i++)
        WEFT_TRY(
            fill_choice(t, q->before, json_string_value(json_array_get(q->choices, (size_t)i)), &sheets[i]));
    *count = q->count;
    return WEFT_OK;
}

static double cost(const weft_suite_sheet *s, int number) {
    const weft_suite_answer *a = s->answers;
    return number == WHOLE      ? a->nll
           : number == PER_BYTE ? a->nll / (double)s->tag
                                : a->nll / (double)(a->behind - a->first);
}

/* Of equal choices the first counts; not a number is never right. */
static void mark(void *of, int64_t setting, int64_t number, const weft_suite_sheet *sheets, int64_t count,
                 double *values) {
    const task *t = of;
    int64_t right = t->job->questions->of[number].right;
    (void)setting;
    for (int k = 0; k < NUMBERS; k++) {
        int64_t best = 0;
        for (int64_t i = 1; i < count; i++)
            if (cost(&sheets[i], k) < cost(&sheets[best], k)) best = i;
        values[k] = best == right && sheets[best].answers->nll == sheets[best].answers->nll;
    }
}

weft_status weft_suite_choices(weft_suite_job *j, json_t **out) {
    task t = {.job = j};
    int64_t documents = j->questions->count, batch = j->suite->batch;
    double *values = NULL, sum[NUMBERS] = {0};
    weft_suite_quiz q = {.settings = 1,
                         .documents = documents,
                         .group = batch < documents ? batch : documents,
                         .sheets = j->questions->most,
                         .each = NUMBERS,
                         .of = &t,
                         .fill = fill,
                         .mark = mark};
    weft_status st = weft_suite_ask(j, &q, &values);
    weft_text_free(&t.text);
    WEFT_TRY(st);
    for (int64_t d = 0; d < documents; d++)
        for (int k = 0; k < NUMBERS; k++) sum[k] += values[d * NUMBERS + k];
    free(values);
    for (int k = 0; k < NUMBERS; k++) sum[k] /= (double)documents;
    json_t *o = json_pack("{s:s, s:I, s:f, s:f, s:f}", "file", j->suite->choices.file, "documents",
                          (json_int_t)documents, "accuracy", sum[WHOLE], "accuracy_per_byte", sum[PER_BYTE],
                          "accuracy_per_token", sum[PER_TOKEN]);
    if (!o) WEFT_FAIL(WEFT_ENOMEM, "no memory for the result");
    *out = o;
    return WEFT_OK;
}
