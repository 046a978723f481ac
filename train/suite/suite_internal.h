/* The tasks of the suite. Private to train/suite. */
#ifndef WEFT_SUITE_INTERNAL_H
#define WEFT_SUITE_INTERNAL_H

#include "train/suite/suite.h"

typedef struct weft_suite_job {
    const weft_suite *suite;
    weft_modelfile *file;
    const weft_world *world;
    weft_tokenizer *tokenizer; /* NULL where no task of the suite reads text */
} weft_suite_job;

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
