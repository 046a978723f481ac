/* Needle in a haystack (the paper's figure 4): documents of a length, with the fact that is asked for first
 * at a depth. */
#include "train/output.h"
#include "train/suite/suite_quiz.h"

#include <stdlib.h>

enum { RIGHT, NATS, TOKENS, NUMBERS };
#define MOST_SENTENCES 1000000 /* the generator's */
#define USUAL_TOKENS 16        /* of a sentence: where the search begins, for every document alike */

typedef struct task {
    weft_suite_job *job;
    weft_synthetic options;
    weft_synthetic_document document;
    int64_t length; /* tokens, at most */
} task;

static double depth_of(const task *t, int64_t i) {
    int64_t depths = t->job->suite->needle.depths;
    return depths == 1 ? 0.5 : (double)i / (double)(depths - 1);
}

/* The document with so many sentences; *tokens: its own and BOS. */
static weft_status make(task *t, uint64_t number, int64_t sentences, weft_suite_sheet *sheet,
                        int64_t *tokens) {
    weft_synthetic_document *d = &t->document;
    t->options.sentences = (weft_range){sentences, sentences};
    WEFT_TRY(weft_synthetic_make(&t->options, number, d));
    WEFT_TRY(weft_suite_sheet_fill(sheet, t->job->tokenizer, d->text, d->bytes, d->answers, 1));
    *tokens = sheet->tokens + 1;
    return WEFT_OK;
}

/* As many sentences as fit: more of them are more tokens, nearly always. Guesses by the tokens of a sentence
 * until `fits` fits and the next number does not. */
static weft_status search(task *t, uint64_t number, int64_t shortest, weft_suite_sheet *sheet,
                          int64_t *fits) {
    int64_t too_many = MOST_SENTENCES + 1, tokens, guess = (t->length - shortest) / USUAL_TOKENS;
    for (*fits = 0; too_many - *fits > 1;) {
        if (guess <= *fits) guess = *fits + 1;
        if (guess >= too_many) guess = too_many - 1;
        WEFT_TRY(make(t, number, guess, sheet, &tokens));
        double each = (double)(tokens - shortest) / (double)guess;
        if (tokens <= t->length)
            *fits = guess;
        else
            too_many = guess;
        guess += (int64_t)((double)(t->length - tokens) / (each < 1 ? 1 : each));
    }
    return WEFT_OK;
}

static weft_status fill(void *of, int64_t setting, int64_t document, weft_suite_sheet *sheet,
                        int64_t *count) {
    task *t = of;
    int64_t sentences, tokens;
    uint64_t number = weft_suite_document(t->length, setting, document);
    t->options.depth = depth_of(t, setting);
    WEFT_TRY(make(t, number, 0, sheet, &tokens));
    if (tokens > t->length)
        WEFT_FAIL(WEFT_EINPUT,
                  "needle.lengths: %lld tokens are too few: one document without filler has %lld",
                  (long long)t->length, (long long)tokens);
    WEFT_TRY(search(t, number, tokens, sheet, &sentences));
    WEFT_TRY(make(t, number, sentences, sheet, &tokens));
    sheet->tag = tokens;
    *count = 1;
    return WEFT_OK;
}

static void mark(void *of, int64_t setting, int64_t document, const weft_suite_sheet *sheet, int64_t count,
                 double *values) {
    (void)of, (void)setting, (void)document, (void)count;
    values[RIGHT] = sheet->answers[0].right;
    values[NATS] = sheet->answers[0].nll;
    values[TOKENS] = (double)sheet->tag;
}

static double mean(const double *values, int64_t documents, int number) {
    double sum = 0;
    for (int64_t d = 0; d < documents; d++) sum += values[d * NUMBERS + number];
    return sum / (double)documents;
}

/* One length: a row of the heat map. */
static weft_status run_length(task *t, json_t *accuracy, json_t *nll, json_t *tokens) {
    const weft_suite *s = t->job->suite;
    int64_t depths = s->needle.depths, documents = s->needle.documents;
    int64_t group = s->batch * t->job->file->config.train.seq_len / t->length; /* as are scored at a time */
    if (group > s->batch) group = s->batch;
    if (group > documents) group = documents;
    double *values = NULL;
    weft_suite_quiz q = {.settings = depths,
                         .documents = documents,
                         .group = group < 1 ? 1 : group,
                         .sheets = 1,
                         .each = NUMBERS,
                         .of = t,
                         .fill = fill,
                         .mark = mark};
    WEFT_TRY(weft_suite_ask(t->job, &q, &values));
    json_t *rights = json_array(), *nats = json_array();
    int bad = !rights || !nats;
    for (int64_t i = 0; i < depths && !bad; i++) {
        const double *cell = values + i * documents * NUMBERS;
        bad |= json_array_append_new(rights, weft_output_real(mean(cell, documents, RIGHT)));
        bad |= json_array_append_new(nats, weft_output_real(mean(cell, documents, NATS)));
    }
    bad |= json_array_append_new(tokens, weft_output_real(mean(values, depths * documents, TOKENS)));
    free(values);
    bad |= json_array_append_new(accuracy, rights);
    bad |= json_array_append_new(nll, nats);
    if (bad) WEFT_FAIL(WEFT_ENOMEM, "no memory for the result");
    return WEFT_OK;
}

/* The axes of the heat map. */
static int add_axes(const task *t, json_t *lengths, json_t *depths) {
    const weft_suite *s = t->job->suite;
    int bad = 0;
    for (int i = 0; i < s->needle.lengths.count; i++)
        bad |= json_array_append_new(lengths, json_integer(s->needle.lengths.of[i]));
    for (int64_t i = 0; i < s->needle.depths; i++)
        bad |= json_array_append_new(depths, weft_output_real(depth_of(t, i)));
    return bad;
}

weft_status weft_suite_needle(weft_suite_job *j, json_t **out) {
    task t = {.job = j, .options = weft_suite_synthetic(j, WEFT_SYNTHETIC_NEEDLE)};
    json_t *lengths = json_array(), *depths = json_array(), *accuracy = json_array(), *nll = json_array(),
           *tokens = json_array();
    json_t *o = json_pack("{s:o, s:o, s:o, s:o, s:I, s:o}", "lengths", lengths, "depths", depths, "accuracy",
                          accuracy, "nll", nll, "documents", (json_int_t)j->suite->needle.documents, "tokens",
                          tokens);
    weft_status st = WEFT_OK;
    t.options.needles = (weft_range){j->suite->needle.needles, j->suite->needle.needles};
    if (!o || add_axes(&t, lengths, depths)) st = weft_fail(WEFT_ENOMEM, "no memory for the result");
    st = weft_world_agree(st);
    for (int i = 0; i < j->suite->needle.lengths.count && st == WEFT_OK; i++) {
        t.length = j->suite->needle.lengths.of[i];
        st = weft_world_agree(run_length(&t, accuracy, nll, tokens));
    }
    weft_synthetic_free(&t.document);
    if (st == WEFT_OK)
        *out = o;
    else
        json_decref(o);
    return st;
}
