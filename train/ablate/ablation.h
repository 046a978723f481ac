/* Ablations: a family of runs that differ in a few keys of the configuration, trained on the same batches in
 * the same order, evaluated with one suite, and compared in pairs.
 *
 * The file (keys not listed here are refused with file:line:column):
 *   out: runs/ablations/ratio         directory of everything; default runs/ablations/NAME-OF-THE-FILE
 *   runs: runs/ablations/shared       directory of the runs; default the same as out. Ablations that share it
 *                                     share the runs whose variant has one name, and one configuration
 *   title: Attention to Mamba         of the report; default the file's name
 *   base: base.yaml                   a configuration (relative to the file), required
 *   set: {train: {steps: 300}}        keys of the configuration, for all runs; nested or dotted as in one
 *   variants:                         at least one, or a grid; names of letters, digits, - and _
 *     attention: {model: {attn_layer_period: 1, attn_layer_offset: 0}}
 *     mamba: {model: {attn_layer_period: 0}}
 *   grid:                             the product of the lists; variants are then named
 *     model: {num_experts: "4, 8"}    "num_experts=4,num_experts_per_tok=1"; with `variants` besides, each
 *     model.num_experts_per_tok: 1,2  of those is crossed with it: "mamba,num_experts=4,..."
 *   seeds: 1, 2                       default: the configuration's
 *   baseline: attention               variant that the others are compared with; default the first
 *   match:                            makes variants comparable by changing a key of theirs
 *     by: active                      parameters of a token (embedding and head not counted); or
 *     key: model.intermediate_size    flops: FLOPs of the run; its key may also be train.steps
 *     multiple: 16                    of intermediate_size; default 8
 *   eval: {tasks: "bits, recall", recall: {pairs: "4, 8"}}              keys of the suite (suite.h)
 *
 * A run is (variant, seed), in the directory RUNS/VARIANT-sSEED: what `weft train` writes there, and
 * eval.json, the suite's result, which appears whole and last. What is done is not done again: runs are taken
 * by whoever locks RUNS/locks/RUN first (the lock of a killed process is gone), so parts of one MPI job,
 * tasks of a Slurm array and processes started by hand can share it. A run that was begun with another
 * configuration than the file now gives is refused by name; one that was evaluated with another suite is
 * evaluated again. When every run is done, results.json, results.md and report.html are written; they depend
 * on the runs' files alone. */
#ifndef WEFT_ABLATION_H
#define WEFT_ABLATION_H

#include "model/config.h"
#include "train/suite/suite.h"

typedef struct weft_ablation_run {
    char *name;  /* "attention-s1" */
    char *dir;   /* RUNS/NAME */
    int variant; /* index */
    int64_t seed;
    weft_config config; /* finished; config.run is dir */
} weft_ablation_run;

typedef struct weft_ablation_variant {
    char *name;
    char *matched;    /* "model.intermediate_size=272", what `match` set; "" */
    double match_off; /* what was matched, over the baseline's, less 1; 0 without match */
    int64_t params, active;
    double flops_per_token;
} weft_ablation_variant;

typedef struct weft_ablation {
    char *path, *title, *out, *folder; /* folder: of the runs */
    char *text;                        /* the definition, and the overrides behind it as comments */
    weft_config *shared;               /* what all variants begin with: base, set, overrides */
    weft_ablation_variant *variants;
    int variant_count, baseline;
    weft_ablation_run **runs; /* by variant, then by seed */
    int run_count, seed_count;
    weft_suite suite;
    /* Of one start of the command, the same on its ranks; zero otherwise. A run that failed in job N is not
     * tried again in it. With `logs` what a run says on stderr goes to OUT/RUN/log.txt. */
    uint64_t job;
    bool logs;
} weft_ablation;

/* Not collective; reads the file and checks every run's configuration. `overrides` ("key=value") hold for all
 * runs, over `set` and under variants; those of the file's own keys ("out=DIR", "eval.tasks=bits") replace
 * the file's. */
weft_status weft_ablation_read(weft_ablation *a, const char *path, int count, char **overrides);
void weft_ablation_free(weft_ablation *a); /* also of a zeroed one, or after a failure */

/* Not collective. WEFT_EINPUT, by name, when run i's directory was begun with another configuration. Keys
 * that change nothing of what is computed (where and how often is saved, how ranks share the work) may
 * differ. */
weft_status weft_ablation_check(const weft_ablation *a, int i);

typedef enum weft_ablation_outcome {
    WEFT_ABLATION_DONE,   /* now */
    WEFT_ABLATION_BEFORE, /* had been done */
    WEFT_ABLATION_BUSY,   /* another process has it; nothing was done */
    WEFT_ABLATION_FAILED  /* another part of this job tried and failed; nothing was done */
} weft_ablation_outcome;

/* Collective on w (a part of the job, or all). Trains and evaluates run i unless done. A failure is that of
 * this run; others may be tried. WEFT_ESTOPPED: a signal came, and what can be kept is kept. */
weft_status weft_ablation_do(const weft_ablation *a, int i, const weft_world *w, weft_ablation_outcome *out);
/* Not collective: evaluated with the suite of the file. */
bool weft_ablation_done(const weft_ablation *a, int i);
/* Not collective. "done", "running", "begun" or "-". */
const char *weft_ablation_state(const weft_ablation *a, int i);

/* Not collective. The directories and the copy of the definition, OUT/ablation.yaml. */
weft_status weft_ablation_prepare(const weft_ablation *a);
/* Not collective. results.json, results.md and report.html from what the runs left; *results is the
 * caller's. Several processes may come here at once: they take turns. */
weft_status weft_ablation_conclude(const weft_ablation *a, json_t **results);

/* Not collective. Reads every run's metrics.jsonl and eval.json; WEFT_EINPUT names the first that is missing.
 * Deterministic: the same files give the same bytes. The object:
 * { "title", "baseline": NAME, "seeds": [1, 2], "steps": n, "tokens": n,           both of a baseline's run
 *   "variants": [ {
 *      "name", "runs": ["attention-s1", ...], "params", "active", "flops_per_token",
 *      "steps", "tokens",                                    of each of its runs
 *      "matched": "model.intermediate_size=272", "match_off": x,
 *      "changed": {"model.attn_layer_period": "1", ...},     against what all share, as text
 *      "train_loss": x,                                      mean over the last tenth of the steps, and seeds
 *      "heldout": {"all": {"loss", "log_prob_per_byte", "bits_per_byte"}, DOMAIN: {...}},    means over seeds
 *      "tasks": {"recall", "copy", "labels", "labels_format", "needle", "choices"},  those in eval.json:
 *                                                            mean of accuracy over settings and seeds
 *      "spikes": n,                                          steps whose loss is above the median of the 50
 *                                                            before by more than 6 times their median
 *                                                            absolute deviation, of all seeds
 *      "not_finite": n,                                      steps that were skipped, of all seeds
 *      "activation_max": x,                                  of any layer and seed; null when not asked for
 *      "difference": null for the baseline, else {
 *         "train":   {"mean", "low", "high", "pairs"},       loss of the same batch, last quarter of the
 *                                                            steps, in blocks of ten; pairs: blocks
 *         "heldout": {"mean", "low", "high", "pairs"},       nats a token, by sequences, mean over
 *                                                            seeds; pairs: sequences
 *         "seeds":   {"mean", "low", "high", "pairs"} } } ] }   held-out loss, all domains; pairs: seeds
 * Intervals are paired, 95 %, by Student's t. low and high are null for one pair; mean is null too, and pairs
 * 0, where there is nothing to pair: other batches or steps than the baseline's, no task `bits`. */
weft_status weft_ablation_results(const weft_ablation *a, json_t **out);
/* The table in the paper's form: a row for each variant, log-probability per byte of each domain, task
 * columns, difference with its interval; Markdown. */
void weft_ablation_table(const json_t *results, FILE *out);

#endif
