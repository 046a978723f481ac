/* How long a training step takes here, without reading data or saving; and how that compares with an
 * estimate. */
#include "runtime/log.h"
#include "train/clock.h"
#include "train/options.h"
#include "train/output.h"
#include "train/plan/bench.h"
#include "train/statistics.h"
#include "train/plan/estimate.h"
#include "train/plan/plan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct request {
    const char *machine;
    int64_t steps, warmup;
    bool operations, json;
} request;

typedef struct measured {
    double *seconds; /* of each step, of the slowest rank */
    double median, least, most, load;
    double processor; /* mean of the process's own time in a step; 0: not known (bench.h) */
    weft_tally tally; /* of `steps` steps more, with the time of each operation */
    weft_estimate estimate;
} measured;

enum { MOST_STEPS = 10000 };

/* ---- the run ------------------------------------------------------------------------------------ */

typedef struct session {
    weft_trainer trainer;
    weft_loader *loader;
    weft_batch batch;
} session;

/* Tokens at random: what they are makes no difference. */
static weft_status take_batch(session *s) {
    const weft_trainer *t = &s->trainer;
    int64_t count = weft_trainer_batch_size(t);
    uint64_t *samples = malloc((size_t)count * sizeof *samples);
    weft_status st = weft_trainer_open_loader(t, &s->loader);
    if (st == WEFT_OK && !samples) st = weft_fail(WEFT_ENOMEM, "no memory for a batch");
    if (st == WEFT_OK) {
        weft_trainer_batch_samples(t, 0, samples);
        st = weft_loader_request(s->loader, samples, count);
    }
    if (st == WEFT_OK) st = weft_loader_take(s->loader, &s->batch, NULL);
    free(samples);
    return weft_world_agree(st);
}

static double time_step(session *s) {
    weft_step_result result;
    weft_world_barrier();
    double began = weft_clock();
    (void)weft_trainer_step(&s->trainer, &s->batch, &result);
    weft_device_finish(&s->trainer.device);
    return (double)weft_world_max_i64((int64_t)(1e9 * (weft_clock() - began))) / 1e9;
}

static weft_status run_steps(session *s, const request *r, measured *m) {
    weft_device *d = &s->trainer.device;
    WEFT_TRY(take_batch(s));
    WEFT_TRY(weft_world_agree(weft_trainer_init(&s->trainer)));
    if (getloadavg(&m->load, 1) != 1) m->load = 0;
    for (int64_t i = 0; i < r->warmup; i++) (void)time_step(s);
    weft_bench_clock *clock = weft_bench_clock_of(d);
    double before = clock();
    for (int64_t i = 0; i < r->steps; i++) m->seconds[i] = time_step(s);
    if (weft_bench_own_time(d)) m->processor = (clock() - before) / (double)r->steps;
    if (r->operations) {
        m->tally.clock = clock;
        weft_tally_start(&m->tally, d);
        for (int64_t i = 0; i < r->steps; i++) (void)time_step(s);
        weft_tally_stop(&m->tally, d);
    }
    m->median = weft_median(m->seconds, r->steps);
    m->least = m->seconds[0];
    m->most = m->seconds[r->steps - 1];
    return WEFT_OK;
}

static weft_status measure(const weft_world *w, const weft_config *c, const request *r, measured *m) {
    session *s = calloc(1, sizeof *s);
    weft_status st = s && (m->seconds = calloc((size_t)r->steps, sizeof *m->seconds))
                         ? WEFT_OK
                         : weft_fail(WEFT_ENOMEM, "no memory for %lld steps", (long long)r->steps);
    st = weft_world_agree(st);
    if (st == WEFT_OK) st = weft_trainer_open(&s->trainer, c, w, false);
    if (st == WEFT_OK) {
        if (r->operations && !weft_device_on_host(&s->trainer.device))
            st =
                weft_fail(WEFT_EINPUT,
                          "--operations: a GPU's are queued, and take no time of the host's; ask on the CPU");
        if (st == WEFT_OK) st = run_steps(s, r, m);
        weft_loader_close(s->loader);
        weft_trainer_close(&s->trainer);
    }
    free(s);
    return st;
}

static weft_status estimate(const weft_world *w, const weft_config *c, const weft_machine *machine,
                            measured *m) {
    weft_trainer t;
    WEFT_TRY(weft_trainer_open(&t, c, w, true));
    weft_status st = weft_estimate_step(machine, &t, &m->estimate);
    weft_trainer_close(&t);
    return st;
}

/* ---- the result --------------------------------------------------------------------------------- */

static weft_status print_json(const weft_config *c, const weft_machine *machine, const request *r,
                              const measured *m) {
    const double tokens = (double)c->train.global_batch * (double)c->train.seq_len;
    json_t *o = json_pack("{s:I, s:f, s:f, s:f, s:f, s:f}", "steps", (json_int_t)r->steps, "median_seconds",
                          m->median, "least_seconds", m->least, "most_seconds", m->most, "tokens_per_second",
                          tokens / m->median, "load_average", m->load);
    json_t *operations = json_object();
    if (o && m->processor > 0) json_object_set_new(o, "processor_seconds", json_real(m->processor));
    for (int k = 0; k < WEFT_WORK_KINDS && r->operations; k++)
        json_object_set_new(operations, weft_work_name((weft_work_kind)k),
                            json_pack("{s:f, s:f}", "seconds", m->tally.sum[k].seconds / (double)r->steps,
                                      "estimated_seconds", m->estimate.work[k].seconds));
    if (o && r->operations) json_object_set(o, "operations", operations);
    json_decref(operations);
    if (o && machine)
        json_object_set_new(o, "estimate",
                            json_pack("{s:s, s:f, s:f}", "machine", machine->name, "step_seconds",
                                      m->estimate.step, "median_over_estimated",
                                      m->median / m->estimate.step));
    return weft_output_json(o, JSON_INDENT(2));
}

static void print_operations(const weft_machine *machine, const request *r, const measured *m) {
    double sum = 0;
    printf("  %-28s %12s %12s\n", "of rank 0, in a step", "seconds", machine ? "estimated" : "");
    for (int k = 0; k < WEFT_WORK_KINDS; k++) {
        double seconds = m->tally.sum[k].seconds / (double)r->steps;
        if (!m->tally.calls[k]) continue;
        sum += seconds;
        printf("  %-28s %12.5f", weft_work_name((weft_work_kind)k), seconds);
        if (machine) printf(" %12.5f", m->estimate.work[k].seconds);
        printf("\n");
    }
    printf("  %-28s %12.5f", "all operations", sum);
    if (machine)
        printf(" %12.5f\n  %-28s %12s %12.5f", m->estimate.compute, "collectives", "",
               m->estimate.blocking + m->estimate.exposed);
    printf("\n");
}

static weft_status print_text(const weft_config *c, const weft_machine *machine, const request *r,
                              const measured *m) {
    const double tokens = (double)c->train.global_batch * (double)c->train.seq_len;
    printf("step: median %.5f s, fastest %.5f s, slowest %.5f s of %lld; %.0f tokens/s; load average before "
           "%.1f\n",
           m->median, m->least, m->most, (long long)r->steps, tokens / m->median, m->load);
    if (m->processor > 0) printf("processor time of a step: %.5f s\n", m->processor);
    if (machine)
        printf("estimated on %s: %.5f s; measured / estimated: %.3f\n", machine->name, m->estimate.step,
               m->median / m->estimate.step);
    if (machine && m->processor > 0)
        printf("processor time / estimated: %.3f\n", m->processor / m->estimate.step);
    if (r->operations) print_operations(machine, r, m);
    return weft_output_finish();
}

/* ---- the command -------------------------------------------------------------------------------- */

static weft_status read_all(weft_config *c, weft_machine *machine, request *r, int argc, char **argv,
                            bool *help) {
    const weft_usage usage = {
        .command = "weft bench step",
        .positional = "CONFIG.yaml [key=value ...]",
        .text = "Trains some steps on random tokens, without reading data or saving, and says how long one\n"
                "takes: the median. With --machine it compares that with what `weft plan` estimates.",
        .min_positional = 1,
        .max_positional = -1};
    const weft_option options[] = {
        {"steps", WEFT_OPT_INT, &r->steps, "N", "steps that are measured (10)"},
        {"warmup", WEFT_OPT_INT, &r->warmup, "N", "steps before them (2)"},
        {"machine", WEFT_OPT_STRING, &r->machine, "NAME|FILE", "compare with an estimate for this machine"},
        {"operations", WEFT_OPT_FLAG, &r->operations, NULL,
         "the time of each kind of operation, in as many steps more (CPU)"},
        {"json", WEFT_OPT_FLAG, &r->json, NULL, "print one JSON object"},
    };
    int n = 0;
    WEFT_TRY(weft_options_parse(&usage, options, sizeof options / sizeof *options, argc, argv, &n, help));
    if (*help) return WEFT_OK;
    if (r->steps < 1 || r->steps > MOST_STEPS || r->warmup < 0 || r->warmup > MOST_STEPS)
        WEFT_FAIL(WEFT_EINPUT, "--steps %lld --warmup %lld: must be from 1, and from 0, to %d",
                  (long long)r->steps, (long long)r->warmup, (int)MOST_STEPS);
    WEFT_TRY(weft_config_read(c, argv[1], n - 1, argv + 2));
    snprintf(c->data.path, sizeof c->data.path, "random");
    c->data.weights_count = 0;
    c->data.packing = WEFT_PACKING_CONCAT;
    return *r->machine ? weft_machine_find(machine, r->machine, argv[1]) : WEFT_OK;
}

weft_status weft_cmd_bench_step(const weft_world *w, int argc, char **argv) {
    request r = {.machine = "", .steps = 10, .warmup = 2};
    weft_config *c = malloc(sizeof *c);
    weft_machine machine;
    measured *m = calloc(1, sizeof *m);
    bool help = false;
    weft_log_replicated(true);
    weft_status st = c && m ? WEFT_OK : weft_fail(WEFT_ENOMEM, "no memory for the configuration");
    if (st == WEFT_OK) st = read_all(c, &machine, &r, argc, argv, &help);
    st = weft_world_agree(st);
    if (st == WEFT_OK && !help) {
        if (*r.machine) st = weft_world_agree(estimate(w, c, &machine, m));
        if (st == WEFT_OK) st = measure(w, c, &r, m);
        const weft_machine *shown = *r.machine ? &machine : NULL;
        if (st == WEFT_OK && w->rank == 0)
            st = r.json ? print_json(c, shown, &r, m) : print_text(c, shown, &r, m);
    }
    if (m) free(m->seconds);
    free(m);
    free(c);
    return st;
}
