/* Ablations: a family of runs that differ in a few keys of the configuration, trained on the same batches in
 * the same order, evaluated with one suite, and compared in pairs.
 *
 * The file (keys not listed here are refused with file:line):
 *   out: runs/ablations/ratio         directory of everything; default runs/ablations/NAME-OF-THE-FILE
 *   title: Attention to Mamba         of the report; default the file's name
 *   base: base.yaml                   a configuration (relative to the file), required
 *   set: {train: {steps: 300}}        keys of the configuration, for all runs; nested or dotted as in one
 *   variants:                         at least one, or a grid
 *     attention: {model: {attn_layer_period: 1, attn_layer_offset: 0}}
 *     mamba: {model: {attn_layer_period: 0}}
 *   grid: {model: {num_experts: "4, 8", num_experts_per_tok: "1, 2"}}   the product; variants are then named
 *                                     "num_experts=4,num_experts_per_tok=1"; crossed with `variants` if both
 *   seeds: 1, 2                       default: the configuration's
 *   baseline: attention               variant that the others are compared with; default the first
 *   match:                            makes variants comparable by changing a key of theirs
 *     by: active | flops              parameters of a token (embedding and head not counted) | FLOPs of the
 * run key: model.intermediate_size | train.steps      (flops may take either; active takes the first)
 *     multiple: 16                    of intermediate_size; default 8
 *   eval: {tasks: "bits, recall", recall: {pairs: "4, 8"}}              keys of the suite (suite.h)
 *
 * A run is (variant, seed), in the directory OUT/VARIANT-sSEED: what `weft train` writes there, and
 * eval.json, the suite's result, which appears whole and last. What is done is not done again: runs are taken
 * by whoever locks OUT/locks/RUN first (fcntl: a killed process's locks are gone), so parts of one MPI job,
 * tasks of a Slurm array and processes started by hand can share OUT. A run whose configuration or suite is
 * not what the file now says is refused by name. When every run is done, results.json, results.md and
 * report.html are written; they depend on the runs' files alone. */
#ifndef WEFT_ABLATION_H
#define WEFT_ABLATION_H

#include "model/config.h"
#include "train/suite/suite.h"

typedef struct weft_ablation_run {
    char *name;  /* "attention-s1" */
    char *dir;   /* OUT/NAME */
    int variant; /* index */
    int64_t seed;
    weft_config config; /* finished; config.run is dir */
} weft_ablation_run;

typedef struct weft_ablation_variant {
    char *name;
    char *matched; /* "model.intermediate_size=272", what `match` set; "" */
    int64_t params, active;
    double flops_per_token;
} weft_ablation_variant;

typedef struct weft_ablation {
    char *path, *title, *out;
    weft_ablation_variant *variants;
    int variant_count, baseline;
    weft_ablation_run **runs; /* by variant, then by seed */
    int run_count, seed_count;
    weft_suite suite;
} weft_ablation;

/* Not collective; reads the file and checks every run's configuration. `overrides` ("key=value") hold for all
 * runs, over `set` and under variants. */
weft_status weft_ablation_read(weft_ablation *a, const char *path, int count, char **overrides);
void weft_ablation_free(weft_ablation *a); /* also of a zeroed one, or after a failure */

/* Collective on w (a part of the job, or all). Trains and evaluates run i unless done; *busy: another process
 * has it, nothing was done. */
weft_status weft_ablation_do(const weft_ablation *a, int i, const weft_world *w, bool *busy);
bool weft_ablation_done(const weft_ablation *a, int i);

/* Not collective. Reads every run's metrics.jsonl and eval.json; WEFT_EINPUT names the first that is missing.
 * Deterministic: the same files give the same bytes. The object:
 * { "title", "baseline": NAME, "seeds": [1, 2], "steps": n, "tokens": n,
 *   "variants": [ { "name", "runs": ["attention-s1", ...], "params", "active", "flops_per_token", "matched",
 *      "changed": {"model.attn_layer_period": "1", ...},     against the base
 *      "train_loss": x,                                      mean over the last tenth of the steps, and seeds
 *      "heldout": {"all": {"loss", "log_prob_per_byte", "bits_per_byte"}, DOMAIN: {...}},    means over seeds
 *      "tasks": { "recall": x, "copy": x, "labels": x, "labels_format": x, "needle": x, "choices": x }, means
 * over settings and seeds of accuracy, those in eval.json "spikes": n, steps whose loss is above the median
 * of the 50 before by more than 6 times their median deviation "not_finite": n, "activation_max": x, the
 * largest of any layer, over seeds "difference": null for the baseline, else { "train":   {"mean", "low",
 * "high", "pairs": blocks},     loss of the same batch, last quarter of the steps in blocks of ten, paired,
 * 95 % by Student's t "heldout": {"mean", "low", "high", "pairs": sequences},  nats a token of the same
 * sequence, mean over seeds, paired "seeds":   {"mean", "low", "high", "pairs": seeds} } } ] }  heldout means
 * of the seeds; low and high null for one seed */
weft_status weft_ablation_results(const weft_ablation *a, json_t **out);
/* The table in the paper's form: a row for each variant, log-probability per byte of each domain, task
 * columns, difference with its interval; Markdown. */
void weft_ablation_table(const json_t *results, FILE *out);

#endif
