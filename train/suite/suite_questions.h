/* Multiple-choice questions from a jsonl file; what a line may hold is said in suite_fields.c. Private to
 * train/suite. */
#ifndef WEFT_SUITE_QUESTIONS_H
#define WEFT_SUITE_QUESTIONS_H

#include "train/suite/suite_internal.h"

typedef struct weft_suite_question {
    json_t *object; /* owns the texts */
    const char *before;
    json_t *choices; /* strings */
    int64_t count, right;
} weft_suite_question;

struct weft_suite_questions {
    weft_suite_question *of;
    int64_t count, capacity;
    int64_t most; /* choices of one */
};

/* Not collective. WEFT_EINPUT with FILE:LINE for a line that is no question, and for a file without any. */
weft_status weft_suite_questions_read(weft_suite_questions **out, const char *path);
void weft_suite_questions_free(weft_suite_questions *q); /* NULL is allowed */

#endif
