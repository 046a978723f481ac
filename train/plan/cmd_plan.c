/* `weft plan CONFIG [key=value ...]`: what a run will need, before it starts. */
#include "train/commands.h"
#include "train/options.h"
#include "train/plan/plan.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MAX_CONTEXT (INT64_C(1) << 30)
#define MAX_RANKS (INT64_C(1) << 20)
#define MAX_GIB 8192.0
#define GIB ((double)(1 << 30))

typedef struct request {
    bool json, search, inference;
    int64_t context, ranks, gpus, weight_bits, kv_bits, prompt;
    double memory, reserve;
    const char *machine;
} request;

/* ---- one mesh ----------------------------------------------------------------------------------- */

/* The memory of a run on one rank, for comparison. */
static weft_status plan_alone(const weft_config *c, weft_trainer_memory *out) {
    const weft_world one = {.size = 1, .local_size = 1};
    weft_config *same = malloc(sizeof *same);
    weft_trainer t;
    if (!same) WEFT_FAIL(WEFT_ENOMEM, "no memory for the configuration");
    *same = *c;
    for (weft_axis a = 0; a < WEFT_AXES; a++) same->mesh.sizes.size[a] = 1;
    weft_status st = weft_trainer_open(&t, same, &one, true);
    if (st == WEFT_OK) {
        *out = weft_trainer_bytes(&t);
        weft_trainer_close(&t);
    }
    free(same);
    return st;
}

/* By axis the most that a rank receives in a step. With more than two cp ranks the first and the last have
 * one neighbour, those between them two: beside the first rank (`t`) the second of cp is looked at. */
static weft_status plan_traffic(const weft_trainer *t, int64_t most[WEFT_AXES]) {
    const weft_mesh *mesh = &t->comm.mesh;
    weft_world second = t->world;
    weft_trainer other;
    memcpy(most, t->traffic, WEFT_AXES * sizeof *most);
    if (mesh->size[WEFT_AXIS_CP] <= 2) return WEFT_OK;
    second.rank = mesh->size[WEFT_AXIS_TP];
    WEFT_TRY(weft_trainer_open(&other, t->config, &second, true));
    for (weft_axis a = 0; a < WEFT_AXES; a++)
        if (other.traffic[a] > most[a]) most[a] = other.traffic[a];
    weft_trainer_close(&other);
    return WEFT_OK;
}

static weft_status fill(weft_plan *p, weft_trainer *t, const request *r) {
    p->total = weft_params_total(&t->model.table);
    p->active = weft_model_active_params(&t->model);
    p->context = r->context;
    p->kv_bits = r->kv_bits;
    p->kv_bytes = weft_model_kv_bytes(&t->model, r->context, r->kv_bits);
    p->state_bytes = weft_model_state_bytes(&t->model, 16);
    p->train_flops_per_token = weft_model_train_flops(&t->model, t->config->train.seq_len);
    p->mesh = t->comm.mesh;
    p->memory = weft_trainer_bytes(t);
    WEFT_TRY(plan_traffic(t, p->traffic));
    if (!r->json && !r->inference && p->mesh.ranks > 1) WEFT_TRY(plan_alone(t->config, &p->alone));
    return p->machine ? weft_estimate_step(p->machine, t, &p->estimate) : WEFT_OK;
}

static weft_status plan_mesh(const weft_world *w, const weft_config *c, const weft_machine *machine,
                             const request *r) {
    weft_trainer t;
    const weft_world planned = {.size = (int)r->ranks, .local_size = w->local_size};
    weft_fit fit = {.memory = r->memory * GIB,
                    .reserve = r->reserve * GIB,
                    .weight_bits = r->weight_bits,
                    .kv_bits = r->kv_bits,
                    .prompt = r->prompt};
    weft_plan p = {.config = c, .machine = machine, .fit = r->inference ? &fit : NULL};
    WEFT_TRY(weft_trainer_open(&t, c, &planned, true));
    weft_status st = fill(&p, &t, r);
    weft_trainer_close(&t);
    if (st == WEFT_OK && r->inference) st = weft_plan_fit(c, &fit);
    if (st != WEFT_OK) return st;
    return r->json ? weft_plan_print_json(&p) : weft_plan_print_text(&p);
}

/* ---- the command -------------------------------------------------------------------------------- */

static weft_status check_int(const char *option, int64_t value, int64_t least, int64_t most) {
    if (value >= least && value <= most) return WEFT_OK;
    WEFT_FAIL(WEFT_EINPUT, "%s %lld: must be from %lld to %lld", option, (long long)value, (long long)least,
              (long long)most);
}

static weft_status check(const request *r) {
    WEFT_TRY(check_int("--context", r->context, 1, MAX_CONTEXT));
    WEFT_TRY(check_int("--ranks", r->ranks, 1, MAX_RANKS));
    WEFT_TRY(check_int("--weight-bits", r->weight_bits, 1, 64));
    WEFT_TRY(check_int("--kv-bits", r->kv_bits, 1, 64));
    WEFT_TRY(check_int("--prefill", r->prompt, 1, 1 << 20));
    if (r->search) WEFT_TRY(check_int("--gpus", r->gpus, 1, MAX_RANKS));
    if (r->search && r->inference)
        WEFT_FAIL(WEFT_EINPUT, "--search is for training and --inference for one GPU: ask for one of them");
    if (r->gpus && !r->search) WEFT_FAIL(WEFT_EINPUT, "--gpus goes with --search; without it, say --ranks");
    if (!(r->memory > 0) || r->memory > MAX_GIB)
        WEFT_FAIL(WEFT_EINPUT, "--memory %g: must be above 0 and at most %g", r->memory, MAX_GIB);
    if (r->reserve < 0 || r->reserve >= r->memory)
        WEFT_FAIL(WEFT_EINPUT, "--reserve %g: must be from 0 to less than --memory, which is %g", r->reserve,
                  r->memory);
    return WEFT_OK;
}

static const weft_usage usage = {
    .command = "weft plan",
    .positional = "CONFIG.yaml [key=value ...]",
    .text = "Counts parameters, caches, and the exact memory and traffic of a training run: the run's\n"
            "own step, against a device that holds nothing and ranks that are not there. Memory is of\n"
            "the rank that has most, traffic by axis of the rank that receives most. Of the bytes that\n"
            "experts' tokens move (ep), those that stay on their rank are counted as well.\n"
            "With --machine it also estimates how long a step takes, and says what it assumes. With\n"
            "--search it lists the best meshes that fit. With --inference it says how long a context\n"
            "one GPU can hold.",
    .min_positional = 1,
    .max_positional = -1};

static weft_status parse(request *r, int argc, char **argv, int *n, bool *help) {
    const weft_option options[] = {
        {"context", WEFT_OPT_INT, &r->context, "TOKENS",
         "length of the sequence whose caches are counted (262144)"},
        {"ranks", WEFT_OPT_INT, &r->ranks, "N", "plan for mpirun -n N (1)"},
        {"machine", WEFT_OPT_STRING, &r->machine, "NAME|FILE",
         "estimate a step's time on this machine: a file of `weft bench machine`, or one of "
         "configs/machines"},
        {"search", WEFT_OPT_FLAG, &r->search, NULL,
         "list the meshes, microbatches and recomputations that fit, by estimated time (--machine h100)"},
        {"gpus", WEFT_OPT_INT, &r->gpus, "N", "how many ranks --search has"},
        {"memory", WEFT_OPT_REAL, &r->memory, "GIB",
         "of one GPU, for --search and --inference (the machine's, or 80)"},
        {"reserve", WEFT_OPT_REAL, &r->reserve, "GIB",
         "of it left free for driver, libraries and fragmentation (2)"},
        {"inference", WEFT_OPT_FLAG, &r->inference, NULL, "the longest context on one GPU"},
        {"weight-bits", WEFT_OPT_INT, &r->weight_bits, "BITS", "of a parameter in inference (8)"},
        {"kv-bits", WEFT_OPT_INT, &r->kv_bits, "BITS", "of a key's or value's number in caches (16)"},
        {"prefill", WEFT_OPT_INT, &r->prompt, "TOKENS",
         "of a prompt that go through the model at a time (4096)"},
        {"json", WEFT_OPT_FLAG, &r->json, NULL, "print one JSON object"},
    };
    return weft_options_parse(&usage, options, sizeof options / sizeof *options, argc, argv, n, help);
}

static weft_status run(const weft_world *w, const char *path, int count, char **overrides, request *r,
                       weft_config *c) {
    weft_machine machine;
    WEFT_TRY(weft_config_read(c, path, count, overrides));
    if (r->search && !r->machine) r->machine = "h100";
    if (r->machine) WEFT_TRY(weft_machine_find(&machine, r->machine, path));
    if (isnan(r->memory)) r->memory = r->machine && machine.memory > 0 ? machine.memory / GIB : 80;
    WEFT_TRY(check(r));
    if (r->search)
        return weft_plan_search(c, &machine, (int)r->gpus, r->memory * GIB, r->reserve * GIB, r->json);
    return plan_mesh(w, c, r->machine ? &machine : NULL, r);
}

weft_status weft_cmd_plan(const weft_world *w, int argc, char **argv) {
    request r = {.context = 262144,
                 .ranks = 1,
                 .weight_bits = 8,
                 .kv_bits = 16,
                 .prompt = 4096,
                 .memory = NAN,
                 .reserve = 2};
    bool help = false;
    int n = 0;
    WEFT_TRY(parse(&r, argc, argv, &n, &help));
    if (help) return WEFT_OK;
    weft_config *c = malloc(sizeof *c);
    if (!c) WEFT_FAIL(WEFT_ENOMEM, "no memory for the configuration");
    weft_status st = run(w, argv[1], n - 1, argv + 2, &r, c);
    free(c);
    return st;
}
