/* Reads documents of the synthetic tasks again, knowing their form only, and says what can be answered. */
#ifndef WEFT_TEST_PARSED_SYNTHETIC_H
#define WEFT_TEST_PARSED_SYNTHETIC_H

#include "data/source/synthetic.h"

enum { PARSED_WORD = 16 };

/* Of a document, whatever its task. */
typedef struct parsed {
    int64_t items;      /* pairs, words of a line, sentences of filler, lines of examples */
    int64_t groups;     /* needles; groups of words that are shown */
    int64_t first_at;   /* needle: the line of the body with the needle that is asked for first */
    bool same_order;    /* recall, needle: the second order is the first one */
    bool repeats;       /* recall: of values; copy: of words */
    bool last_answered; /* labels */
} parsed;

/* Fails the test where the text has another form, or where the document's answers are not those that follow
 * from it, at their places. */
parsed parsed_recall(const weft_synthetic_document *d);
parsed parsed_copy(const weft_synthetic_document *d);
parsed parsed_needle(const weft_synthetic_document *d);
parsed parsed_labels(const weft_synthetic_document *d, bool random_labels);

/* Its number in the list, or -1. */
int parsed_word(const char *word);

#endif
