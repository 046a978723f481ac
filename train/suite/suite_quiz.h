/* Scoring answers: documents become sheets of tokens, sheets are scored some at a time, and what they say is
 * shared between the ranks. Private to train/suite. */
#ifndef WEFT_SUITE_QUIZ_H
#define WEFT_SUITE_QUIZ_H

#include "data/source/synthetic.h"
#include "train/suite/suite_internal.h"

typedef struct weft_suite_answer {
    int64_t first, behind; /* its tokens: all that overlap its bytes */
    double nll;            /* -log p of them all, natural */
    bool right;            /* each is the likeliest */
    int32_t guess;         /* the likeliest in the place of its first */
} weft_suite_answer;

/* A document's tokens, without BOS, up to the last answer. Memory is reused; zero it before the first use. */
typedef struct weft_suite_sheet {
    int32_t *ids;
    int64_t count;
    int64_t tokens; /* of the whole document */
    weft_suite_answer *answers;
    int64_t answers_count;
    int64_t tag; /* the task's own */
    size_t ids_capacity, answers_capacity;
} weft_suite_sheet;

/* WEFT_ENOMEM; each answer has at least one byte of the text, and they are in its order. */
weft_status weft_suite_sheet_fill(weft_suite_sheet *s, const weft_tokenizer *t, const char *text,
                                  size_t bytes, const weft_answer *answers, size_t count);

/* `settings` times `documents` documents. `group` of them, all of one setting, are filled and scored
 * together, so that results do not depend on who scores them. */
typedef struct weft_suite_quiz {
    int64_t settings, documents, group;
    int64_t sheets; /* at most, of a document */
    int64_t each;   /* numbers that a document gives */
    void *of;
    /* Makes the sheets of a document, *count of them. */
    weft_status (*fill)(void *of, int64_t setting, int64_t document, weft_suite_sheet *sheets,
                        int64_t *count);
    /* Its numbers, from the sheets when they are scored. */
    void (*mark)(void *of, int64_t setting, int64_t document, const weft_suite_sheet *sheets, int64_t count,
                 double *values);
} weft_suite_quiz;

/* Collective; the status is agreed. *values: [settings, documents, each] on every rank, malloc'ed. */
weft_status weft_suite_ask(weft_suite_job *j, const weft_suite_quiz *q, double **values);

/* The options of a task's held-out documents under the suite's seed. */
weft_synthetic weft_suite_synthetic(const weft_suite_job *j, weft_synthetic_task task);
/* The document's number under that seed: more documents of a setting go on from fewer. part < 256. */
uint64_t weft_suite_document(int64_t value, int64_t part, int64_t document);

#endif
