/* `weft ablate FILE.yaml [key=value ...]`: collective. A family of runs, compared. */
#include "runtime/hash.h"
#include "runtime/log.h"
#include "train/ablate/ablation_internal.h"
#include "train/commands.h"
#include "train/options.h"
#include "train/output.h"
#include "train/signals.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

typedef struct request {
    weft_ablation ablation;
    int64_t at_once, run; /* run -1: all */
    bool list, slurm, report, json, help;
    int override_count;
    char **overrides;
} request;

/* ---- arguments ---------------------------------------------------------------------------------- */

static weft_status parse(request *q, int argc, char **argv, const char **path) {
    const weft_usage usage = {.command = "weft ablate",
                              .positional = "FILE.yaml [key=value ...]",
                              .text = "Trains and evaluates a family of variants on the same batches, "
                                      "compares them in pairs, and writes\n"
                                      "results.json, results.md and report.html. What is done is not done "
                                      "again: the same command goes\n"
                                      "on where it stopped, and may run several times at once (Slurm tasks, "
                                      "other machines) on one `out`.",
                              .min_positional = 1,
                              .max_positional = -1};
    const weft_option options[] = {
        {"at-once", WEFT_OPT_INT, &q->at_once, "N",
         "parts of the MPI job that work side by side, each on a run (1)"},
        {"run", WEFT_OPT_INT, &q->run, "NUMBER", "only that one, as --list numbers them"},
        {"list", WEFT_OPT_FLAG, &q->list, NULL, "print the runs, their sizes, and what is done; do nothing"},
        {"slurm", WEFT_OPT_FLAG, &q->slurm, NULL, "print a script that submits the runs as a Slurm array"},
        {"report", WEFT_OPT_FLAG, &q->report, NULL, "only write results and report of what is there"},
        {"json", WEFT_OPT_FLAG, &q->json, NULL, "print results (or the list) as JSON"},
    };
    int n = 0;
    q->at_once = 1;
    q->run = -1;
    WEFT_TRY(weft_options_parse(&usage, options, 6, argc, argv, &n, &q->help));
    *path = argv[1];
    q->override_count = n - 1;
    q->overrides = argv + 2;
    return WEFT_OK;
}

static weft_status check(const request *q, const weft_world *w) {
    if (q->list + q->slurm + q->report + (q->run >= 0) > 1)
        WEFT_FAIL(WEFT_EINPUT, "weft ablate: --list, --slurm, --report and --run are for one at a time");
    if (q->slurm && q->json) WEFT_FAIL(WEFT_EINPUT, "weft ablate: --slurm prints a script, not --json");
    if (q->run < -1 || q->run >= q->ablation.run_count)
        WEFT_FAIL(WEFT_EINPUT, "weft ablate: --run %lld: the runs are numbered 0 to %d", (long long)q->run,
                  q->ablation.run_count - 1);
    if (q->at_once < 1 || q->at_once > w->size)
        WEFT_FAIL(WEFT_EINPUT,
                  "weft ablate: --at-once %lld: the job has %d rank%s, and each part needs one%s",
                  (long long)q->at_once, w->size, w->size == 1 ? "" : "s",
                  w->size == 1 ? ": start it with mpirun -n N" : "");
    if (q->at_once > 1 && q->run >= 0)
        WEFT_FAIL(WEFT_EINPUT, "weft ablate: --run does one run; leave --at-once out");
    return WEFT_OK;
}

static weft_status read_request(request *q, const weft_world *w, int argc, char **argv) {
    const char *path;
    WEFT_TRY(parse(q, argc, argv, &path));
    if (q->help) return WEFT_OK;
    WEFT_TRY(weft_ablation_read(&q->ablation, path, q->override_count, q->overrides));
    return check(q, w);
}

/* ---- --list ------------------------------------------------------------------------------------- */

static weft_status list_json(const weft_ablation *a) {
    json_t *list = json_array();
    for (int i = 0; i < a->run_count; i++) {
        const weft_ablation_run *r = a->runs[i];
        const weft_ablation_variant *v = &a->variants[r->variant];
        json_array_append_new(
            list, json_pack("{s:i, s:s, s:s, s:I, s:I, s:I, s:f, s:I, s:s, s:f, s:s}", "number", i, "run",
                            r->name, "variant", v->name, "seed", (json_int_t)r->seed, "params",
                            (json_int_t)v->params, "active", (json_int_t)v->active, "flops_per_token",
                            v->flops_per_token, "steps", (json_int_t)r->config.train.steps, "matched",
                            v->matched, "match_off", v->match_off, "state", weft_ablation_state(a, i)));
    }
    return weft_output_json(list, JSON_INDENT(2));
}

static weft_status list_text(const weft_ablation *a) {
    int width = 3;
    for (int i = 0; i < a->run_count; i++)
        if ((int)strlen(a->runs[i]->name) > width) width = (int)strlen(a->runs[i]->name);
    printf("%6s  %-*s %15s %15s %11s %8s  %-8s %s\n", "number", width, "run", "parameters", "active",
           "FLOP/token", "steps", "state", "matched");
    for (int i = 0; i < a->run_count; i++) {
        const weft_ablation_run *r = a->runs[i];
        const weft_ablation_variant *v = &a->variants[r->variant];
        printf("%6d  %-*s %15" PRId64 " %15" PRId64 " %11.3e %8" PRId64 "  %-8s", i, width, r->name,
               v->params, v->active, v->flops_per_token, r->config.train.steps, weft_ablation_state(a, i));
        if (*v->matched) printf(" %s (%+.2f %%)", v->matched, 100 * v->match_off);
        if (r->variant == a->baseline) printf(" baseline");
        printf("\n");
    }
    return weft_output_finish();
}

/* ---- running ------------------------------------------------------------------------------------ */

/* A part's work: every run that nobody does, until none is left. Statuses of runs that failed are in
 * `failed`. */
static weft_status work(const weft_ablation *a, const weft_world *w, int first, int last,
                        weft_status *failed) {
    bool any = true;
    while (any) {
        any = false;
        for (int i = first; i < last; i++) {
            weft_ablation_outcome outcome = WEFT_ABLATION_BEFORE;
            if (failed[i] != WEFT_OK) continue;
            weft_status st = weft_ablation_do(a, i, w, &outcome);
            if (st == WEFT_ESTOPPED) return st;
            failed[i] = st;
            any |= outcome == WEFT_ABLATION_DONE;
            if (weft_world_any(weft_signals_pending() != NULL)) return WEFT_ESTOPPED;
        }
    }
    return WEFT_OK;
}

/* The names of runs that are not done, or failed, for a message. */
static char *names_of(const weft_ablation *a, const bool *which) {
    enum { SHOWN = 8 };
    char *text = NULL;
    int count = 0;
    for (int i = 0; i < a->run_count; i++) {
        if (!which[i] || count++ >= SHOWN) continue;
        char *longer = weft_format("%s%s%s", text ? text : "", text ? ", " : "", a->runs[i]->name);
        free(text);
        if (!(text = longer)) return NULL;
    }
    if (count <= SHOWN) return text;
    char *longer = weft_format("%s and %d more", text, count - SHOWN);
    free(text);
    return longer;
}

/* Rank 0's. */
static weft_status print_results(const request *q) {
    json_t *results = NULL;
    const weft_ablation *a = &q->ablation;
    WEFT_TRY(weft_ablation_conclude(a, &results));
    weft_info("%s: results.json, results.md and report.html are written", a->out);
    if (q->json) return weft_output_json(results, JSON_INDENT(2));
    weft_ablation_table(results, stdout);
    json_decref(results);
    return weft_output_finish();
}

/* Rank 0's last act. `failed` counts those of all parts. */
static weft_status conclude(const request *q, bool *failed, int failures, bool stopped) {
    const weft_ablation *a = &q->ablation;
    bool *left = calloc((size_t)a->run_count, sizeof *left);
    int count = 0;
    if (!left) WEFT_FAIL(WEFT_ENOMEM, "%s: no memory", a->path);
    for (int i = 0; i < a->run_count; i++) {
        /* Another process may have done what failed here. */
        left[i] = !weft_ablation_done(a, i);
        failures -= failed[i] && !left[i];
        failed[i] &= left[i];
        count += left[i];
    }
    char *names = names_of(a, failures ? failed : left);
    weft_status st = WEFT_OK;
    if (stopped && count)
        st = WEFT_ESTOPPED;
    else if (failures)
        st = weft_fail(WEFT_EINPUT, "%d of %d runs failed: %s (%s); what they say stands %s", failures,
                       a->run_count, names ? names : "", a->out, a->logs ? "in their log.txt" : "above");
    else if (count && q->run < 0)
        weft_info("%d of %d runs are busy in another process: %s; whoever ends last writes the report", count,
                  a->run_count, names ? names : "");
    else if (count)
        weft_info("%d of %d runs are left: %s", count, a->run_count, names ? names : "");
    else
        st = print_results(q);
    free(names);
    free(left);
    return st;
}

/* What the parts met, on all ranks, and the end. Collective on all ranks. */
static weft_status finish(const request *q, const weft_world *w, const weft_status *of_part, bool stopped) {
    const weft_ablation *a = &q->ablation;
    bool *failed = calloc((size_t)a->run_count, sizeof *failed);
    int failures = 0;
    WEFT_TRY(weft_world_agree(failed ? WEFT_OK : weft_fail(WEFT_ENOMEM, "%s: no memory", a->path)));
    for (int i = 0; i < a->run_count; i++) {
        failed[i] = weft_world_any(of_part[i] != WEFT_OK);
        failures += failed[i];
    }
    stopped = weft_world_any(stopped);
    weft_status st = w->rank == 0 ? conclude(q, failed, failures, stopped) : WEFT_OK;
    free(failed);
    return weft_world_agree(st);
}

/* A number for this start of the command, the same on all ranks. */
static uint64_t job_number(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    int64_t parts[] = {now.tv_sec, now.tv_nsec, getpid()};
    uint64_t number = weft_hash64(parts, sizeof parts, 0) | 1;
    weft_world_bcast(&number, sizeof number, 0);
    return number;
}

static weft_status prepare(const weft_ablation *a) {
    WEFT_TRY(weft_ablation_prepare(a));
    for (int i = 0; i < a->run_count; i++) WEFT_TRY(weft_ablation_check(a, i));
    return WEFT_OK;
}

static weft_status run_all(request *q, const weft_world *w) {
    weft_ablation *a = &q->ablation;
    weft_world part_of_w;
    int part;
    weft_status st = w->rank == 0 ? prepare(a) : WEFT_OK;
    WEFT_TRY(weft_world_agree(st));
    weft_status *failed = calloc((size_t)a->run_count, sizeof *failed);
    WEFT_TRY(weft_world_agree(failed ? WEFT_OK : weft_fail(WEFT_ENOMEM, "%s: no memory", a->path)));
    a->job = job_number();
    a->logs = q->at_once > 1;
    weft_signals_install();
    weft_world_split(w, (int)q->at_once, &part_of_w, &part);
    int first = q->run >= 0 ? (int)q->run : 0, last = q->run >= 0 ? first + 1 : a->run_count;
    st = work(a, &part_of_w, first, last, failed);
    weft_world_join(w);
    st = finish(q, w, failed, st == WEFT_ESTOPPED);
    free(failed);
    return st;
}

/* Rank 0's. */
static weft_status report_only(const request *q) {
    const weft_ablation *a = &q->ablation;
    bool *left = calloc((size_t)a->run_count, sizeof *left);
    int count = 0;
    if (!left) WEFT_FAIL(WEFT_ENOMEM, "%s: no memory", a->path);
    for (int i = 0; i < a->run_count; i++) count += left[i] = !weft_ablation_done(a, i);
    char *names = names_of(a, left);
    weft_status st = WEFT_OK;
    if (count)
        st = weft_fail(WEFT_EINPUT, "%s: %d of %d runs are not done: %s", a->out, count, a->run_count,
                       names ? names : "");
    for (int i = 0; i < a->run_count && st == WEFT_OK; i++) st = weft_ablation_check(a, i);
    if (st == WEFT_OK) st = weft_ablation_prepare(a);
    if (st == WEFT_OK) st = print_results(q);
    free(names);
    free(left);
    return st;
}

/* All ranks have read the same file, or they would train different models. */
static weft_status same_everywhere(const weft_ablation *a) {
    uint64_t hash = weft_hash64_str(a->text, 0);
    for (int i = 0; i < a->run_count; i++)
        hash = weft_hash64(&a->runs[i]->config, sizeof a->runs[i]->config, hash);
    return weft_world_same(hash, "the ablation");
}

weft_status weft_cmd_ablate(const weft_world *w, int argc, char **argv) {
    request *q = calloc(1, sizeof *q);
    weft_log_replicated(true);
    weft_status st =
        weft_world_agree(q ? read_request(q, w, argc, argv) : weft_fail(WEFT_ENOMEM, "no memory"));
    if (st == WEFT_OK && !q->help) st = same_everywhere(&q->ablation);
    weft_log_replicated(false);
    if (st == WEFT_OK && !q->help) {
        weft_ablation *a = &q->ablation;
        if (q->list || q->slurm || q->report) {
            if (w->rank == 0)
                st = q->report  ? report_only(q)
                     : q->slurm ? weft_ablation_slurm(a, q->override_count, q->overrides)
                     : q->json  ? list_json(a)
                                : list_text(a);
            st = weft_world_agree(st);
        } else {
            st = run_all(q, w);
        }
    }
    if (q) weft_ablation_free(&q->ablation);
    free(q);
    return st;
}
