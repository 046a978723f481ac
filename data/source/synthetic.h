/* Synthetic tasks: documents of text made by a fixed generator, a function of (options, number) alone, the
 * same on every machine. They are trained on as a source of data (a file NAME.synthetic, below) and asked for
 * by `weft eval` from another stream of the same generator.
 *
 * Words come from one list of 256 common English nouns (weft_synthetic_words). `answers` are the places of
 * the text that follow from what stands before them; everything else is drawn.
 *
 *   recall        multi-query associative recall (Arora et al., arXiv 2312.04927): `pairs` lines "KEY VALUE"
 *                 behind "pairs", keys all different, values drawn with replacement; then, behind "recall",
 *                 the same lines in a drawn order. Answers: the values behind "recall".
 *   copy          induction: "copy", a line of `words` words, drawn with replacement, "again", the line
 *                 again. Answers: the words of the second line but the first (Olsson et al., arXiv
 *                 2209.11895).
 *   needle        retrieval from a long text (RULER, arXiv 2404.06654; the paper's figure 4): `sentences`
 *                 sentences of filler, a line each, with `needles` sentences "The magic word of KEY is
 *                 VALUE." among them at drawn places, keys and values all different; at the end the
 *                 needles again, in a drawn order. Answers: the values of these, without the period.
 *   labels        few-shot classification (the paper's section 6.2): "sort"; `classes` of 8 groups of 12
 *                 words each are drawn; each of `examples` lines shows two words of one group, " => ", and
 *                 the group's label. Labels are drawn for each document among the words of none of its
 *                 groups (`random`), or are the groups' names ("animal"), which are none of the words.
 *                 Answers: labels of groups shown before; the last line's always is. */
#ifndef WEFT_SYNTHETIC_H
#define WEFT_SYNTHETIC_H

#include "runtime/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum weft_synthetic_task {
    WEFT_SYNTHETIC_RECALL,
    WEFT_SYNTHETIC_COPY,
    WEFT_SYNTHETIC_NEEDLE,
    WEFT_SYNTHETIC_LABELS
} weft_synthetic_task;

typedef struct weft_range { /* drawn evenly from low..high */
    int64_t low, high;
} weft_range;

/* One document a number; a task reads its own fields only. */
typedef struct weft_synthetic {
    weft_synthetic_task task;
    uint64_t seed;
    bool held_out;        /* another stream of documents than that of training, for every seed */
    int64_t vocabulary;   /* words come from the first so many of the list; recall, copy: 2..256, needle:
                             twice the needles at least; default 256 */
    bool answers_only;    /* of a source: the rest of the text is read, but is no target of the loss */
    weft_range pairs;     /* recall: 1..vocabulary; default 4-24 */
    weft_range words;     /* copy: 2..100000; default 8-64 */
    weft_range sentences; /* needle: 0..1000000; default 10-70 */
    weft_range needles;   /* needle: 1..64; default 2-4 */
    double depth; /* needle: where the one that is asked first stands, 0 (start) .. 1 (end); below 0, the
                     default: drawn */
    weft_range classes;  /* labels: 2..8; default 2-4 */
    weft_range examples; /* labels: 2..100000; default 8-24 */
    bool random_labels;  /* labels; default true */
} weft_synthetic;

typedef struct weft_answer {
    size_t begin, end; /* bytes of the text; begins with the space before the word where there is one */
} weft_answer;

/* A document; its memory is reused by the next. Zero it before the first, free it after the last. */
typedef struct weft_synthetic_document {
    char *text; /* zero-terminated */
    size_t bytes, text_capacity;
    weft_answer *answers; /* in the order of the text */
    size_t answers_count, answers_capacity;
    const char *choices[8]; /* labels: those that the text shows, without the space before */
    int choices_count;      /* 0: any word may be an answer */
} weft_synthetic_document;

extern const char *const weft_synthetic_words[256];
/* "recall", ...; the task of a name, or -1. */
const char *weft_synthetic_name(weft_synthetic_task task);
int weft_synthetic_task_of(const char *name);

void weft_synthetic_defaults(weft_synthetic *s, weft_synthetic_task task);
/* WEFT_EINPUT for a range of the task that is out of bounds, and a depth over 1; `where` begins the message.
 */
weft_status weft_synthetic_check(const weft_synthetic *s, const char *where);
/* Document `number`, of options that were checked. WEFT_ENOMEM. */
weft_status weft_synthetic_make(const weft_synthetic *s, uint64_t number, weft_synthetic_document *d);
void weft_synthetic_free(weft_synthetic_document *d);

/* A source (source.h) reads files that end in .synthetic: YAML
 *   task: needle       # required
 *   documents: 20000   # required
 *   seed: 1            # default 0
 *   sentences: 10-70   # or one number; a task takes its own keys only
 *   needles: 2-4
 *   depth: drawn       # or a number from 0 to 1
 *   vocabulary: 256    # of all tasks but labels
 *   loss: all          # or answers: what is drawn at random is not trained on
 *   labels: random     # of task labels; or named
 * (A recipe's steps `lines` and `substring` take out what is said twice: they do not go with these.)
 * Document number i (from 0) is line i + 1. Never a held-out one. *documents: how many. WEFT_EINPUT, with
 * path:line, for what is none of this. */
weft_status weft_synthetic_read(weft_synthetic *s, int64_t *documents, const char *path);

#endif
