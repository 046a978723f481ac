/* What the tests of the evaluation suite share: a folder, a tokenizer, models for it, and scores computed by
 * hand. */
#ifndef WEFT_MADE_SUITE_H
#define WEFT_MADE_SUITE_H

#include "data/source/synthetic.h"
#include "made_model.h"
#include "train/suite/suite.h"

#include <jansson.h>

extern weft_tokenizer *made_suite_tokenizer; /* of the folder */

/* An empty folder and the tokenizer's training; the first test of a program. Words are one token or a few. */
void made_suite_open(void);
void made_suite_close(void);
/* FOLDER/name; the last four stay valid. */
const char *made_suite_path(const char *name);
void made_suite_file(const char *path, const char *text);

/* made_model for the tokenizer, with sequences of 128 tokens. */
weft_modelfile *made_suite_model(const char *words);
weft_real *made_suite_row(weft_modelfile *f, const char *name, int64_t row);
/* A model that only looks at the last token, and says what `next` has for it: as wide as its vocabulary, its
 * only layer adds nothing. */
weft_modelfile *made_suite_planted(const int32_t *next);

typedef struct made_suite_score {
    double nll;
    bool right;
    int32_t guess, first; /* the likeliest token in the place of the first, and that one */
} made_suite_score;
/* The answers of a text as suite.h defines them, from the logits of the whole text. */
void made_suite_scores(weft_modelfile *f, const char *text, size_t bytes, const weft_answer *answers,
                       size_t count, made_suite_score *out);

/* Runs the suite of "key=value" settings on one rank; it leaves the model as it was. */
json_t *made_suite_result(weft_modelfile *f, const char *const *settings, int count);
#define MADE_SUITE_RESULT(f, ...)                                                                            \
    made_suite_result(f, (const char *const[]){__VA_ARGS__},                                                 \
                      sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *))
double made_suite_number(const json_t *o, const char *key);
void made_suite_same(double got, double want, const char *what); /* but for rounding */

#endif
