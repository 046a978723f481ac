/* Shared by the ablation_*.c files. */
#ifndef WEFT_ABLATION_INTERNAL_H
#define WEFT_ABLATION_INTERNAL_H

#include "runtime/yaml.h"
#include "train/ablate/ablation.h"
#include "train/ablate/compare.h"

/* The file's own keys that have one value. */
typedef enum weft_ablation_key {
    WEFT_ABLATION_OUT,
    WEFT_ABLATION_RUNS,
    WEFT_ABLATION_TITLE,
    WEFT_ABLATION_BASE,
    WEFT_ABLATION_SEEDS,
    WEFT_ABLATION_BASELINE,
    WEFT_ABLATION_MATCH_BY,
    WEFT_ABLATION_MATCH_KEY,
    WEFT_ABLATION_MATCH_MULTIPLE,
    WEFT_ABLATION_KEYS
} weft_ablation_key;

typedef struct weft_ablation_given {
    char *text, *where; /* NULL: not given; where: "FILE:LINE:COLUMN" or "command line" */
} weft_ablation_given;

typedef struct weft_ablation_match_rule {
    bool wanted, by_flops, steps; /* steps: the key is train.steps, not model.intermediate_size */
    int64_t multiple;
    const char *where;
} weft_ablation_match_rule;

/* The file as it was read. */
typedef struct weft_ablation_file {
    weft_yaml yaml;
    const char *path;
    weft_ablation_given own[WEFT_ABLATION_KEYS];
} weft_ablation_file;

/* Items of "a, b, c", each without the blanks around it: *text moves behind the item; false at the end.
 * `item` has `size` bytes; a longer one is cut. */
bool weft_ablation_item(const char **text, char *item, size_t size);

/* Sets a key of a run's configuration; refuses those that the ablation sets itself. */
weft_status weft_ablation_assign(weft_config *c, const char *key, const char *value, const char *where);
/* Every key of the file below `prefix` ("set.", "variants.mamba."). */
weft_status weft_ablation_apply(weft_config *c, const weft_ablation_file *f, const char *prefix);

/* Fills a->variants (names only) and *configs (malloc'ed, one finished configuration for each) from
 * a->shared. */
weft_status weft_ablation_variants(weft_ablation *a, const weft_ablation_file *f, weft_config **configs);
/* a->baseline, the rule of `match`, and a->runs, as the file gives them. */
weft_status weft_ablation_baseline(weft_ablation *a, const weft_ablation_file *f);
weft_status weft_ablation_match_read(weft_ablation_match_rule *m, const weft_ablation_file *f);
weft_status weft_ablation_runs(weft_ablation *a, const weft_ablation_file *f, const weft_config *configs);
/* Counts every variant, and matches those that are not the baseline. */
weft_status weft_ablation_match(weft_ablation *a, const weft_ablation_match_rule *rule, weft_config *configs);

/* Keys of `b` whose value is another in `a`: {KEY: b's value as text}. */
weft_status weft_ablation_differences(const weft_config *a, const weft_config *b, json_t **out);

/* The lock OUT/locks/NAME. *fd holds it until it is closed; -1: another process has it, which is waited for
 * with `wait`. */
weft_status weft_ablation_lock(const weft_ablation *a, const char *name, bool wait, int *fd);

/* Run i, from its files. */
weft_status weft_ablation_record_read(const weft_ablation *a, int i, weft_ablation_record *out);
void weft_ablation_record_free(weft_ablation_record *r);

/* A script for bash that submits the runs as a Slurm array, and the report behind it. */
weft_status weft_ablation_slurm(const weft_ablation *a, int count, char **overrides);

#endif
