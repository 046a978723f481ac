/* `weft plan CONFIG [key=value ...]`: what a run will need, before it starts. */
#include "train/commands.h"
#include "train/options.h"
#include "train/output.h"
#include "train/trainer.h"

#include <stdio.h>
#include <stdlib.h>

#define MAX_CONTEXT (INT64_C(1) << 30)
#define MAX_RANKS (INT64_C(1) << 20)

typedef struct plan {
    int64_t total, active, context, kv_bytes, state_bytes;
    double train_flops_per_token;
    int ranks;
    weft_trainer_memory memory;
} plan;

static weft_status print_json(const plan *p) {
    json_t *o = json_pack(
        "{s:{s:I,s:I}, s:I, s:I, s:I, s:f, s:i, s:{s:I,s:I,s:I,s:I,s:I,s:I}}", "parameters", "total",
        (json_int_t)p->total, "active", (json_int_t)p->active, "context", (json_int_t)p->context,
        "kv_cache_bytes", (json_int_t)p->kv_bytes, "state_bytes", (json_int_t)p->state_bytes,
        "train_flops_per_token", p->train_flops_per_token, "ranks", p->ranks, "memory", "per_rank_bytes",
        (json_int_t)p->memory.total, "parameters", (json_int_t)p->memory.parameters, "gradients",
        (json_int_t)p->memory.gradients, "optimizer", (json_int_t)p->memory.optimizer, "communication",
        (json_int_t)p->memory.communication, "activations", (json_int_t)p->memory.activations);
    return weft_output_json(o, JSON_INDENT(2));
}

static void print_bytes(const char *what, double bytes) {
    if (bytes >= (1 << 30))
        printf("  %-28s %18.0f  %9.2f GiB\n", what, bytes, bytes / (1 << 30));
    else
        printf("  %-28s %18.0f  %9.2f MiB\n", what, bytes, bytes / (1 << 20));
}

static weft_status print_text(const plan *p) {
    printf("parameters\n  %-28s %18lld\n  %-28s %18lld\n", "total", (long long)p->total, "active per token",
           (long long)p->active);
    printf("  %-28s %18.3e  FLOP (matrix products, forward and backward)\n", "training, per token",
           p->train_flops_per_token);
    printf("caches of one sequence of %lld tokens\n", (long long)p->context);
    print_bytes("keys and values, 16 bit", (double)p->kv_bytes);
    print_bytes("Mamba state (fp32) and conv", (double)p->state_bytes);
    printf("memory of each of %d rank%s\n", p->ranks, p->ranks == 1 ? "" : "s");
    print_bytes("parameters", (double)p->memory.parameters);
    print_bytes("gradients", (double)p->memory.gradients);
    print_bytes("optimizer", (double)p->memory.optimizer);
    print_bytes("communication, losses", (double)p->memory.communication);
    print_bytes("activations and workspace", (double)p->memory.activations);
    print_bytes("total", (double)p->memory.total);
    return weft_output_finish();
}

weft_status weft_cmd_plan(const weft_world *w, int argc, char **argv) {
    bool json = false, help = false;
    int64_t context = 262144, ranks = 1;
    int n = 0;
    const weft_usage usage = {
        .command = "weft plan",
        .positional = "CONFIG.yaml [key=value ...]",
        .text = "Counts parameters, caches and the exact memory of a training run: the run's own\n"
                "sizing, against a device that holds nothing.",
        .min_positional = 1,
        .max_positional = -1};
    const weft_option options[] = {
        {"context", WEFT_OPT_INT, &context, "TOKENS",
         "length of the sequence whose caches are counted (262144)"},
        {"ranks", WEFT_OPT_INT, &ranks, "N", "plan for mpirun -n N (1)"},
        {"json", WEFT_OPT_FLAG, &json, NULL, "print one JSON object"},
    };
    WEFT_TRY(weft_options_parse(&usage, options, 3, argc, argv, &n, &help));
    if (help) return WEFT_OK;
    if (context < 1 || context > MAX_CONTEXT)
        WEFT_FAIL(WEFT_EINPUT, "--context %lld: must be from 1 to %lld", (long long)context,
                  (long long)MAX_CONTEXT);
    if (ranks < 1 || ranks > MAX_RANKS)
        WEFT_FAIL(WEFT_EINPUT, "--ranks %lld: must be from 1 to %lld", (long long)ranks,
                  (long long)MAX_RANKS);
    weft_config *c = malloc(sizeof *c);
    if (!c) WEFT_FAIL(WEFT_ENOMEM, "no memory for the configuration");
    weft_trainer t;
    weft_world planned = {.rank = 0, .size = (int)ranks, .local_rank = 0, .local_size = w->local_size};
    weft_status st = weft_config_read(c, argv[1], n - 1, argv + 2);
    if (st == WEFT_OK) st = weft_trainer_open(&t, c, &planned, true);
    if (st == WEFT_OK) {
        plan p = {.total = weft_params_total(&t.model.table),
                  .active = weft_model_active_params(&t.model),
                  .context = context,
                  .kv_bytes = weft_model_kv_bytes(&t.model, context, 16),
                  .state_bytes = weft_model_state_bytes(&t.model, 16),
                  .train_flops_per_token = weft_model_train_flops(&t.model, c->train.seq_len),
                  .ranks = (int)ranks,
                  .memory = weft_trainer_bytes(&t)};
        st = json ? print_json(&p) : print_text(&p);
        weft_trainer_close(&t);
    }
    free(c);
    return st;
}
