/* The evaluation suite: what a model can do, as one JSON object. Tasks are named, each has a few settings in
 * one table (suite_fields.c) that parses, checks and documents them, as the configuration does.
 *
 * Every task is deterministic: its result depends on the model and the settings, not on ranks or threads,
 * except for what `context` measures. What is computed together is dealt to the ranks in turn, and sums are
 * taken in the order of documents.
 *
 * Answers are scored with the text as it is (teacher forcing): one forward pass gives the probability of
 * every token of every answer. An answer is right when each of its tokens is the likeliest: what greedy
 * decoding would have written. `nll` is the mean over answers of -log p(answer), natural. */
#ifndef WEFT_SUITE_H
#define WEFT_SUITE_H

#include "parallel/world.h"
#include "train/modelfile.h"

#include <jansson.h>

#define WEFT_SUITE_MAX 16 /* numbers in a list */

typedef struct weft_suite_list {
    int64_t of[WEFT_SUITE_MAX];
    int count;
} weft_suite_list;

/* Settings "task.key"; lists are "4, 8, 16". What is run is in `tasks`. */
typedef struct weft_suite {
    char tasks[256];    /* "bits, recall, ..." or "all" */
    int64_t seed;       /* of synthetic documents */
    int64_t vocabulary; /* of the documents of recall, copy, needle: synthetic.h */
    int64_t batch;      /* sequences at a time */
    struct {
        char data[1024]; /* directory of shards; "": the run's data.path */
        char split[16];
        int64_t seq_len, max_sequences; /* 0: the run's; 0: all. Of each domain */
    } bits;
    struct {
        weft_suite_list pairs;
        int64_t documents;
    } recall;
    struct {
        weft_suite_list words;
        int64_t documents;
    } copy;
    struct {
        weft_suite_list examples;
        int64_t classes, documents;
    } labels;
    struct {
        weft_suite_list lengths;            /* tokens of the document and BOS, at most */
        int64_t depths, documents, needles; /* depths: evenly from 0 to 1; documents of each cell */
    } needle;
    struct {
        char text[16];             /* random: ids, then the same again; copy: documents of that task */
        int64_t tokens, documents; /* of copy: words */
    } induction;
    struct {
        char file[1024]; /* jsonl */
    } choices;
    struct {
        int64_t sequences; /* of bits.data, of bits.seq_len */
    } activations;
    struct {
        weft_suite_list lengths;
        int64_t decode; /* tokens decoded behind each */
    } context;
} weft_suite;

/* The tasks, in the order in which they are run and stand in the result. */
typedef struct weft_suite_task {
    const char *name, *doc;
} weft_suite_task;
extern const weft_suite_task weft_suite_tasks[];
extern const int weft_suite_tasks_count;

void weft_suite_defaults(weft_suite *s);
/* One "key=value"; `where` names the source in errors. */
weft_status weft_suite_set(weft_suite *s, const char *assignment, const char *where);
/* Every key of a YAML file, nested or dotted. Not collective. */
weft_status weft_suite_read(weft_suite *s, const char *path);
/* Checks what joins several keys, and the names of the tasks, which are put in order. */
weft_status weft_suite_finish(weft_suite *s);
/* The table of tasks and settings, as Markdown. */
void weft_suite_print_doc(FILE *out);
/* Every key as "key=value" lines: for the record, and to see whether two suites are the same. malloc'ed,
 * NULL: no memory. */
char *weft_suite_text(const weft_suite *s);

/* Collective; the status is agreed. Runs the tasks of a finished suite on an open model, whose device's arena
 * is resized. *out: on rank 0 the result, NULL on the others. A task that this model or its data cannot do
 * (no tokenizer, no held-out text) is refused before anything is run; with tasks=all it is only skipped, as
 * is induction on a model without attention. The result then says {"skipped": REASON} in the task's place.
 *
 * { "model": PATH, "step": n, "suite": {"recall.pairs": "4, 8", ...},
 *   "bits": { "split", "seq_len",
 *             "domains": {NAME: {"loss", "perplexity", "tokens", "bytes", "bits_per_byte"}}, "all": {...},
 *             "sequences": {NAME: [[nats, targets], ...]} },
 *                    in the order of the data, for paired differences
 *   "recall": [ {"pairs": n, "answers": n, "accuracy": x, "nll": x}, ... ],
 *   "copy":   [ {"words": n, "answers", "accuracy", "nll"}, ... ],
 *   "labels": { "random": [ {"examples": n, "answers", "accuracy", "format", "exact", "nll",
 *                            "chance"}, ... ],
 *               "named": [...] },
 *                    the last answer of each document; accuracy: of the labels of the document the right one
 *                    is the likeliest; format: the likeliest token of all begins one of the labels; exact: as
 *                    accuracy elsewhere
 *   "needle": { "lengths": [...], "depths": [0, .25, ...], "accuracy": [[of each depth], of each length],
 *               "nll": [[...]], "documents": n, "tokens": [mean of each length] },
 *   "choices": { "file", "documents", "accuracy", "accuracy_per_byte", "accuracy_per_token" },
 *   "induction": { "text", "tokens": n, "chance": x, "heads": [ {"layer", "head", "score"} ] },
 *   "activations": { "data", "seq_len", "sequences",
 *                    "layers": [ {"layer", "name": "mamba.dbc", "max", "rms"} ] },
 *   "experts": [ {"layer", "share": [of each expert's token slots]} ],
 *                    with activations
 *   "context": [ {"tokens", "prefill_tokens_per_second", "decode_tokens_per_second", "cache_bytes",
 *                 "activation_bytes"} ] }
 * Tasks that were not asked for are absent; numbers that are not finite are null.
 * `known`: an earlier result of the same model, or NULL; tasks whose settings have not changed are taken from
 * it. Rank 0's counts. */
weft_status weft_suite_run(const weft_suite *s, weft_modelfile *f, const weft_world *w, const json_t *known,
                           json_t **out);

/* The result as tables of text; and of its member "bits" alone. */
void weft_suite_print(const json_t *result, FILE *out);
void weft_suite_print_bits(const json_t *bits, FILE *out);

/* Whether a result is of these settings: each, and no other. NULL is of none. */
bool weft_suite_same(const json_t *known, const weft_suite *s);

#endif
