/* A plan as text and as JSON. */
#include "train/output.h"
#include "train/plan/plan.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

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

static const char *wire_name(int axis) {
    return axis == WEFT_AXES ? "control" : weft_axis_name((weft_axis)axis);
}
static double days(const weft_plan *p) {
    return (double)p->config->train.steps * p->estimate.step / 86400;
}
/* FLOP of products that are computed, recomputation included, for a token. */
static double computed_per_token(const weft_plan *p) {
    const weft_config *c = p->config;
    double sum = 0;
    for (int k = 0; k < WEFT_WORK_KINDS; k++) sum += p->estimate.work[k].product;
    return sum * p->mesh.ranks / ((double)c->train.global_batch * (double)c->train.seq_len);
}

/* ---- JSON --------------------------------------------------------------------------------------- */

static json_t *operations_json(const weft_estimate *e) {
    json_t *o = json_object();
    for (int k = 0; k < WEFT_WORK_KINDS; k++)
        json_object_set_new(o, weft_work_name((weft_work_kind)k),
                            json_pack("{s:I, s:f, s:f, s:f}", "calls", (json_int_t)e->calls[k],
                                      "product_flops", e->work[k].product, "bytes", e->work[k].bytes,
                                      "seconds", e->work[k].seconds));
    return o;
}

static json_t *estimate_json(const weft_plan *p) {
    const weft_estimate *e = &p->estimate;
    char *lines[WEFT_ASSUMPTIONS];
    int count = weft_plan_assumptions(p->config, p->machine, &p->mesh, lines);
    json_t *wire = json_object(), *assumed = json_array();
    for (int a = 0; a <= WEFT_AXES; a++) json_object_set_new(wire, wire_name(a), json_real(e->wire[a]));
    for (int i = 0; i < count; i++) {
        json_array_append_new(assumed, json_string(lines[i]));
        free(lines[i]);
    }
    return json_pack("{s:s, s:s, s:f, s:f, s:f, s:f, s:f, s:o, s:o, s:{s:f, s:f, s:f, s:f}, s:o}", "machine",
                     p->machine->name, "products", weft_product_type_name(e->type), "step_seconds", e->step,
                     "tokens_per_second", weft_plan_tokens_per_second(p->config, e), "mfu",
                     weft_plan_mfu(p->config, e, p->train_flops_per_token, p->mesh.ranks), "days", days(p),
                     "computed_flops_per_token", computed_per_token(p), "operations", operations_json(e),
                     "collectives", wire, "seconds", "operations", e->compute, "collectives_waited_for",
                     e->blocking, "collectives_beside", e->beside, "not_covered", e->exposed, "assumptions",
                     assumed);
}

static json_t *limit_json(int64_t tokens) {
    return tokens < 0 ? json_null() : json_integer(tokens);
}

static json_t *fit_json(const weft_fit *f) {
    return json_pack("{s:f, s:f, s:I, s:I, s:f, s:f, s:f, s:I, s:f, s:o, s:f, s:o}", "memory_bytes",
                     f->memory, "reserve_bytes", f->reserve, "weight_bits", (json_int_t)f->weight_bits,
                     "kv_bits", (json_int_t)f->kv_bits, "weight_bytes", f->weights, "state_bytes", f->state,
                     "kv_bytes_per_token", f->kv_per_token, "prefill_tokens", (json_int_t)f->prompt,
                     "prefill_bytes", f->in_parts, "longest_context", limit_json(f->longest),
                     "at_once_bytes_per_token", f->at_once, "longest_context_at_once",
                     limit_json(f->longest_at_once));
}

weft_status weft_plan_print_json(const weft_plan *p) {
    json_t *memory = json_pack("{s:I}", "per_rank_bytes", (json_int_t)p->memory.total);
    json_t *mesh = json_object(), *bytes = json_object();
    for (int i = 0; i < PARTS; i++)
        json_object_set_new(memory, parts[i].key, json_integer((json_int_t)part_of(&p->memory, i)));
    for (weft_axis a = 0; a < WEFT_AXES; a++) {
        json_object_set_new(mesh, weft_axis_name(a), json_integer(p->mesh.size[a]));
        json_object_set_new(bytes, weft_axis_name(a), json_integer(p->traffic[a]));
    }
    json_t *o =
        json_pack("{s:{s:I,s:I}, s:I, s:I, s:I, s:I, s:f, s:i, s:o, s:o, s:{s:o}}", "parameters", "total",
                  (json_int_t)p->total, "active", (json_int_t)p->active, "context", (json_int_t)p->context,
                  "kv_bits", (json_int_t)p->kv_bits, "kv_cache_bytes", (json_int_t)p->kv_bytes, "state_bytes",
                  (json_int_t)p->state_bytes, "train_flops_per_token", p->train_flops_per_token, "ranks",
                  p->mesh.ranks, "mesh", mesh, "memory", memory, "traffic", "per_step_bytes", bytes);
    if (o && p->machine) json_object_set_new(o, "estimate", estimate_json(p));
    if (o && p->fit) json_object_set_new(o, "inference", fit_json(p->fit));
    return weft_output_json(o, JSON_INDENT(2));
}

/* ---- text --------------------------------------------------------------------------------------- */

const char *weft_plan_bytes(double bytes, char *out, size_t size) {
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
    printf("  %-28s %18.0f  %13s\n", what, bytes, weft_plan_bytes(bytes, text, sizeof text));
}

/* One line of the memory table; beside it what one rank alone would need. */
static void print_memory(const weft_plan *p, const char *what, size_t bytes, size_t alone) {
    char text[32];
    if (p->mesh.ranks == 1) {
        print_bytes(what, (double)bytes);
        return;
    }
    printf("  %-28s %18zu  %13s %18zu", what, bytes, weft_plan_bytes((double)bytes, text, sizeof text),
           alone);
    if (alone)
        printf("  %6.3f\n", (double)bytes / (double)alone);
    else
        printf("\n");
}

static void print_class(const weft_estimate *e, const char *what, int64_t calls, double flops, double bytes,
                        double seconds) {
    printf("  %-28s %10lld  %10.3e  %10.3e  %10.4f  %5.1f %%\n", what, (long long)calls, flops, bytes,
           seconds, 100 * seconds / e->step);
}

static void print_collectives(const weft_plan *p) {
    const weft_estimate *e = &p->estimate;
    char name[64];
    for (int a = 0; a <= WEFT_AXES; a++) {
        if (!(e->wire[a] > 0)) continue;
        snprintf(name, sizeof name, "collectives of %s", a == WEFT_AXES ? "all ranks" : wire_name(a));
        printf("  %-28s %10s  %10s  %10s  %10.4f  %5.1f %%\n", name, "", "", "", e->wire[a],
               100 * e->wire[a] / e->step);
    }
    if (e->beside > 0)
        printf("  %-28s %10s  %10s  %10s  %10.4f  %5.1f %%\n", "less what operations cover", "", "", "",
               e->exposed - e->beside, 100 * (e->exposed - e->beside) / e->step);
}

static weft_status print_estimate(const weft_plan *p) {
    const weft_estimate *e = &p->estimate;
    char *lines[WEFT_ASSUMPTIONS];
    int count = weft_plan_assumptions(p->config, p->machine, &p->mesh, lines);
    if (count < 0) WEFT_FAIL(WEFT_ENOMEM, "no memory for the plan's text");
    printf("a step on %s, products in %s\n", p->machine->name, weft_product_type_name(e->type));
    printf("  %-28s %10s  %10s  %10s  %10s  %7s\n", "of each rank", "calls", "FLOP", "bytes", "seconds",
           "share");
    for (int k = 0; k < WEFT_WORK_KINDS; k++)
        if (e->calls[k])
            print_class(e, weft_work_name((weft_work_kind)k), e->calls[k], e->work[k].product,
                        e->work[k].bytes, e->work[k].seconds);
    print_collectives(p);
    printf("  %-28s %10s  %10s  %10s  %10.4f  %5.1f %%\n", "step", "", "", "", e->step, 100.0);
    printf("  %-28s %18.0f\n", "tokens a second", weft_plan_tokens_per_second(p->config, e));
    printf("  %-28s %18.3e  (of them needed without recomputing: %.3e)\n", "FLOP of products, per token",
           computed_per_token(p), p->train_flops_per_token);
    printf("  %-28s %18.3f  of %.3e FLOP/s a rank\n", "model FLOP utilisation",
           weft_plan_mfu(p->config, e, p->train_flops_per_token, p->mesh.ranks), e->peak);
    printf("  %-28s %18.2f  for train.steps=%lld\n", "days", days(p), (long long)p->config->train.steps);
    printf("assumed\n");
    for (int i = 0; i < count; i++) {
        printf("  %s\n", lines[i]);
        free(lines[i]);
    }
    return WEFT_OK;
}

static void print_longest(const char *what, int64_t tokens) {
    if (tokens < 0)
        printf("  %-44s %18s\n", what, "no limit");
    else
        printf("  %-44s %18lld  tokens\n", what, (long long)tokens);
}

static void print_size(const char *what, double bytes) {
    char text[32];
    printf("  %-44s %18.0f  %13s\n", what, bytes, weft_plan_bytes(bytes, text, sizeof text));
}

static void print_fit(const weft_fit *f) {
    char name[64];
    printf("longest context of one sequence on one GPU\n");
    print_size("memory", f->memory);
    print_size("left free", f->reserve);
    snprintf(name, sizeof name, "weights, %lld bit", (long long)f->weight_bits);
    print_size(name, f->weights);
    print_size("Mamba state (fp32) and conv", f->state);
    snprintf(name, sizeof name, "keys and values of a token, %lld bit", (long long)f->kv_bits);
    print_size(name, f->kv_per_token);
    snprintf(name, sizeof name, "activations of %lld tokens", (long long)f->prompt);
    print_size(name, f->in_parts);
    print_size("activations of a token, all at once", f->at_once);
    snprintf(name, sizeof name, "longest, prompt in parts of %lld tokens", (long long)f->prompt);
    print_longest(name, f->longest);
    print_longest("longest, prompt at once", f->longest_at_once);
    printf("assumed\n"
           "  one sequence; %lld bits for each parameter, without scales of a quantisation\n"
           "  activations in 16 bit, and workspace, as weft decodes; only the last token's logits\n"
           "  what is left free is for the driver, libraries and fragmentation\n",
           (long long)f->weight_bits);
}

weft_status weft_plan_print_text(const weft_plan *p) {
    char mesh[128], name[64];
    printf("parameters\n  %-28s %18lld\n  %-28s %18lld\n", "total", (long long)p->total, "active per token",
           (long long)p->active);
    printf("  %-28s %18.3e  FLOP (matrix products, forward and backward)\n", "training, per token",
           p->train_flops_per_token);
    printf("caches of one sequence of %lld tokens\n", (long long)p->context);
    snprintf(name, sizeof name, "keys and values, %lld bit", (long long)p->kv_bits);
    print_bytes(name, (double)p->kv_bytes);
    print_bytes("Mamba state (fp32) and conv", (double)p->state_bytes);
    if (p->fit) {
        print_fit(p->fit);
        return weft_output_finish();
    }
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
    if (p->machine) WEFT_TRY(print_estimate(p));
    return weft_output_finish();
}
