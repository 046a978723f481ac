/* The tasks of the suite. Private to train/suite. */
#ifndef WEFT_SUITE_INTERNAL_H
#define WEFT_SUITE_INTERNAL_H

#include "data/loader/loader.h"
#include "train/suite/suite.h"

typedef enum weft_suite_number { /* of weft_suite_tasks */
                                 WEFT_SUITE_BITS,
                                 WEFT_SUITE_RECALL,
                                 WEFT_SUITE_COPY,
                                 WEFT_SUITE_LABELS,
                                 WEFT_SUITE_NEEDLE,
                                 WEFT_SUITE_CHOICES,
                                 WEFT_SUITE_INDUCTION,
                                 WEFT_SUITE_ACTIVATIONS,
                                 WEFT_SUITE_CONTEXT,
                                 WEFT_SUITE_TASKS
} weft_suite_number;

typedef struct weft_suite_questions weft_suite_questions; /* of choices.file; suite_questions.h */

typedef struct weft_suite_job {
    const weft_suite *suite;
    weft_modelfile *file;
    const weft_world *world;
    weft_tokenizer *tokenizer;       /* NULL where no task of the suite reads text */
    weft_suite_questions *questions; /* NULL without choices */
    const json_t *known;             /* of rank 0: see weft_suite_run */
} weft_suite_job;

/* Which tasks a finished suite names; of "all", those that need no file of the user's, or have it. */
void weft_suite_wanted(const weft_suite *s, bool wanted[WEFT_SUITE_TASKS]);
bool weft_suite_wants_all(const weft_suite *s);
/* Whether an earlier result (or NULL) holds the task, asked with the same settings. */
bool weft_suite_known(const json_t *known, const weft_suite *s, int task);
/* Directory of the text that is scored: bits.data or the run's. */
const char *weft_suite_data(const weft_suite_job *j);

/* The split of a directory of shards, or "random", as the run has its data; refuses shards of another
 * tokenizer than the model's. */
weft_status weft_suite_open_data(const weft_suite_job *j, const char *data, int64_t seq_len, int64_t batch,
                                 weft_loader **out);

/* Documents are dealt: number i is rank i % size's. `values` [documents, each] holds this rank's; afterwards
 * every rank holds all. Collective. */
weft_status weft_suite_share(const weft_suite_job *j, double *values, int64_t documents, int64_t each);

/* Each collective; *out on every rank (rank 0's is what counts), set on success, owned by the caller. */
weft_status weft_suite_bits(weft_suite_job *j, json_t **out);        /* suite_bits.c */
weft_status weft_suite_recall(weft_suite_job *j, json_t **out);      /* suite_answers.c */
weft_status weft_suite_copy(weft_suite_job *j, json_t **out);        /* suite_answers.c */
weft_status weft_suite_labels(weft_suite_job *j, json_t **out);      /* suite_labels.c */
weft_status weft_suite_needle(weft_suite_job *j, json_t **out);      /* suite_needle.c */
weft_status weft_suite_choices(weft_suite_job *j, json_t **out);     /* suite_choices.c */
weft_status weft_suite_induction(weft_suite_job *j, json_t **out);   /* suite_induction.c */
weft_status weft_suite_activations(weft_suite_job *j, json_t **out); /* suite_activations.c */
weft_status weft_suite_experts(weft_suite_job *j, json_t **out);     /* suite_activations.c; with that task */
weft_status weft_suite_context(weft_suite_job *j, json_t **out);     /* suite_context.c */

#endif
