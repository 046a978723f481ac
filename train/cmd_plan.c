/* `weft plan CONFIG [key=value ...]`: what a run will need, before it starts. */
#include "train/commands.h"
#include "train/options.h"
#include "train/output.h"
#include "train/trainer.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_CONTEXT (INT64_C(1) << 30)
#define MAX_RANKS (INT64_C(1) << 20)

typedef struct plan {
    int64_t total, active, context, kv_bytes, state_bytes;
    double train_flops_per_token;
    weft_mesh mesh;
    weft_trainer_memory memory, alone; /* on the mesh, and on one rank */
    int64_t traffic[WEFT_AXES];        /* what a rank receives in a step, at most */
} plan;

/* What the memory consists of, in the order of the table. */
typedef struct part {
    const char *key, *text;
    size_t offset;
} part;
#define PART(k, t)                                                                                           \
    { #k, t, offsetof(weft_trainer_memory, k) }
static const part parts[] = {
    PART(parameters, "parameters"),    PART(gradients, "gradients"),       PART(optimizer, "optimizer"),
    PART(gathered, "gathered layers"), PART(buffers, "losses, sequences"), PART(activations, "activations"),
    PART(workspace, "workspace"),
};
enum { PARTS = sizeof parts / sizeof *parts };

static size_t part_of(const weft_trainer_memory *m, int i) {
    return *(const size_t *)((const char *)m + parts[i].offset);
}

static weft_status print_json(const plan *p) {
    json_t *memory = json_pack("{s:I}", "per_rank_bytes", (json_int_t)p->memory.total);
    json_t *mesh = json_object(), *bytes = json_object();
    for (int i = 0; i < PARTS; i++)
        json_object_set_new(memory, parts[i].key, json_integer((json_int_t)part_of(&p->memory, i)));
    for (weft_axis a = 0; a < WEFT_AXES; a++) {
        json_object_set_new(mesh, weft_axis_name(a), json_integer(p->mesh.size[a]));
        json_object_set_new(bytes, weft_axis_name(a), json_integer(p->traffic[a]));
    }
    json_t *o =
        json_pack("{s:{s:I,s:I}, s:I, s:I, s:I, s:f, s:i, s:o, s:o, s:{s:o}}", "parameters", "total",
                  (json_int_t)p->total, "active", (json_int_t)p->active, "context", (json_int_t)p->context,
                  "kv_cache_bytes", (json_int_t)p->kv_bytes, "state_bytes", (json_int_t)p->state_bytes,
                  "train_flops_per_token", p->train_flops_per_token, "ranks", p->mesh.ranks, "mesh", mesh,
                  "memory", memory, "traffic", "per_step_bytes", bytes);
    return weft_output_json(o, JSON_INDENT(2));
}

static const char *with_unit(double bytes, char *out, size_t size) {
    if (bytes >= (1 << 30))
        snprintf(out, size, "%.2f GiB", bytes / (1 << 30));
    else if (bytes >= (1 << 20))
        snprintf(out, size, "%.2f MiB", bytes / (1 << 20));
    else
        snprintf(out, size, "%.2f KiB", bytes / (1 << 10));
    return out;
}

static void print_bytes(const char *what, double bytes) {
    char text[32];
    printf("  %-28s %18.0f  %13s\n", what, bytes, with_unit(bytes, text, sizeof text));
}

/* One line of the memory table; beside it what one rank alone would need. */
static void print_memory(const plan *p, const char *what, size_t bytes, size_t alone) {
    char text[32];
    if (p->mesh.ranks == 1) {
        print_bytes(what, (double)bytes);
        return;
    }
    printf("  %-28s %18zu  %13s %18zu", what, bytes, with_unit((double)bytes, text, sizeof text), alone);
    if (alone)
        printf("  %6.3f\n", (double)bytes / (double)alone);
    else
        printf("\n");
}

static weft_status print_text(const plan *p) {
    char mesh[128];
    printf("parameters\n  %-28s %18lld\n  %-28s %18lld\n", "total", (long long)p->total, "active per token",
           (long long)p->active);
    printf("  %-28s %18.3e  FLOP (matrix products, forward and backward)\n", "training, per token",
           p->train_flops_per_token);
    printf("caches of one sequence of %lld tokens\n", (long long)p->context);
    print_bytes("keys and values, 16 bit", (double)p->kv_bytes);
    print_bytes("Mamba state (fp32) and conv", (double)p->state_bytes);
    if (p->mesh.ranks == 1)
        printf("memory of 1 rank\n");
    else
        printf("%-30s %18s  %13s %18s  %6s\n", "memory of each rank", "this mesh", "", "one rank", "ratio");
    for (int i = 0; i < PARTS; i++)
        print_memory(p, parts[i].text, part_of(&p->memory, i), part_of(&p->alone, i));
    print_memory(p, "total", p->memory.total, p->alone.total);
    if (p->mesh.ranks > 1) {
        printf("received by a rank in a step, at most (%s)\n", weft_mesh_text(&p->mesh, mesh, sizeof mesh));
        for (weft_axis a = 0; a < WEFT_AXES; a++)
            if (p->traffic[a]) print_bytes(weft_axis_name(a), (double)p->traffic[a]);
    }
    return weft_output_finish();
}

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

weft_status weft_cmd_plan(const weft_world *w, int argc, char **argv) {
    bool json = false, help = false;
    int64_t context = 262144, ranks = 1;
    int n = 0;
    const weft_usage usage = {
        .command = "weft plan",
        .positional = "CONFIG.yaml [key=value ...]",
        .text = "Counts parameters, caches, and the exact memory and traffic of a training run: the run's\n"
                "own step, against a device that holds nothing and ranks that are not there. Memory is of\n"
                "the rank that has most, traffic by axis of the rank that receives most. Of the bytes that\n"
                "experts' tokens move (ep), those that stay on their rank are counted as well.",
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
                  .mesh = t.comm.mesh,
                  .memory = weft_trainer_bytes(&t)};
        st = plan_traffic(&t, p.traffic);
        if (st == WEFT_OK && !json && ranks > 1) st = plan_alone(c, &p.alone);
        if (st == WEFT_OK) st = json ? print_json(&p) : print_text(&p);
        weft_trainer_close(&t);
    }
    free(c);
    return st;
}
