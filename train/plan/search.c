/* `weft plan --search`: the meshes of so many ranks that fit, by estimated step time.
 *
 * What a mesh takes and how fast it is, a dry step on it says; one costs some 20 ms for a large model. So
 * what cannot be among the best is not tried: a layout that the model or the batch does not allow parameters,
 * gradients and moments alone beyond the memory more recomputation, where less fits: it only costs time a
 * larger microbatch, where the smaller one does not fit even with everything recomputed more cp, where a
 * sequence of this cp fits without recomputation: it only costs traffic tp beyond a node */
#include "model/layout.h"
#include "runtime/log.h"
#include "train/clock.h"
#include "train/output.h"
#include "train/plan/plan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BEST = 10, MOST_MICRO = 64 };

typedef struct candidate {
    weft_mesh_sizes sizes;
    int64_t micro;
    weft_recompute recompute;
    double seconds, memory, tokens, mfu;
} candidate;

typedef struct search {
    const weft_config *base;
    weft_config *config; /* the base with a candidate's sizes */
    const weft_machine *machine;
    int gpus;
    double room;        /* bytes */
    double state_bytes; /* of parameters, gradients and moments of the whole model */
    int tried, fit;
    candidate best[BEST], smallest; /* smallest: of those that do not fit */
    int count;
    double flops_per_token;
} search;

/* ---- one candidate ------------------------------------------------------------------------------ */

static void keep(search *s, const candidate *c) {
    int place = s->count < BEST ? s->count++ : BEST;
    while (place > 0 && s->best[place - 1].seconds > c->seconds) {
        if (place < BEST) s->best[place] = s->best[place - 1];
        place--;
    }
    if (place < BEST) s->best[place] = *c;
}

/* Its memory and time. *fits: the memory is there. */
static weft_status try_one(search *s, candidate *c, bool *fits) {
    const weft_world world = {.size = s->gpus, .local_size = (int)s->machine->node};
    weft_estimate e;
    weft_trainer t;
    s->config->mesh.sizes = c->sizes;
    s->config->train.micro_batch = c->micro;
    s->config->train.recompute = c->recompute;
    WEFT_TRY(weft_trainer_open(&t, s->config, &world, true));
    s->tried++;
    c->memory = (double)weft_trainer_bytes(&t).total;
    *fits = c->memory <= s->room;
    weft_status st = WEFT_OK;
    if (*fits) {
        s->fit++;
        st = weft_estimate_step(s->machine, &t, &e);
        c->seconds = e.step;
        c->tokens = weft_plan_tokens_per_second(s->config, &e);
        c->mfu = weft_plan_mfu(s->config, &e, s->flops_per_token, s->gpus);
        if (st == WEFT_OK) keep(s, c);
    } else if (!s->smallest.memory || c->memory < s->smallest.memory) {
        s->smallest = *c;
    }
    weft_trainer_close(&t);
    return st;
}

/* The same with as little recomputation as fits. */
static weft_status try_recompute(search *s, candidate *c, bool *fits, bool *without) {
    static const weft_recompute ways[] = {WEFT_RECOMPUTE_NONE, WEFT_RECOMPUTE_MIXER, WEFT_RECOMPUTE_FFN,
                                          WEFT_RECOMPUTE_ALL};
    bool some = false;
    for (int i = 0; i < 4; i++) {
        if (some && (i == 1 || i == 3)) break;
        c->recompute = ways[i];
        WEFT_TRY(try_one(s, c, fits));
        if (i == 0) *without = *fits;
        some |= *fits;
    }
    *fits = some;
    return WEFT_OK;
}

/* ---- all of them -------------------------------------------------------------------------------- */

static int64_t axis(const candidate *c, weft_axis a) {
    return c->sizes.size[a];
}

/* Whether the rules allow it. They would say what is wrong with a mesh that somebody asked for; here nobody
 * did. */
static bool allowed(const search *s, const candidate *c) {
    const weft_config *b = s->base;
    int64_t data = axis(c, WEFT_AXIS_DP) * axis(c, WEFT_AXIS_FSDP);
    weft_mesh mesh;
    if (b->train.global_batch % (c->micro * data)) return false;
    weft_log_set_level((weft_log_level)(WEFT_LOG_ERROR + 1));
    bool ok = weft_mesh_make(&mesh, &c->sizes, s->gpus, 0) == WEFT_OK &&
              weft_layout_check(&b->model, c->micro, b->train.seq_len, &mesh) == WEFT_OK;
    weft_log_set_level(WEFT_LOG_INFO);
    return ok;
}

/* Ranks over which the state is spread at most. */
static double spread(const candidate *c) {
    double dense = (double)(axis(c, WEFT_AXIS_FSDP) * axis(c, WEFT_AXIS_CP) * axis(c, WEFT_AXIS_TP));
    double experts = (double)(axis(c, WEFT_AXIS_EP) * axis(c, WEFT_AXIS_TP));
    return dense > experts ? dense : experts;
}

/* *without: a microbatch of the smallest size fits without recomputation. */
static weft_status try_micros(search *s, candidate *c, bool *without) {
    bool first = true;
    for (c->micro = 1; c->micro <= MOST_MICRO; c->micro *= 2) {
        bool fits = false, plain = false;
        if (!allowed(s, c)) continue;
        WEFT_TRY(try_recompute(s, c, &fits, &plain));
        if (first) *without |= plain;
        first = false;
        if (!fits) break;
    }
    return WEFT_OK;
}

static weft_status try_ep(search *s, candidate *c, bool *without) {
    int64_t outer = axis(c, WEFT_AXIS_DP) * axis(c, WEFT_AXIS_FSDP) * axis(c, WEFT_AXIS_CP);
    for (int64_t ep = 1; ep <= outer; ep++) {
        c->sizes.size[WEFT_AXIS_EP] = ep;
        if (outer % ep || (ep > 1 && ep > s->base->model.num_experts)) continue;
        if (s->state_bytes / spread(c) > s->room) continue;
        WEFT_TRY(try_micros(s, c, without));
    }
    return WEFT_OK;
}

static weft_status try_all(search *s) {
    candidate c = {0};
    for (int64_t tp = 1; tp <= s->gpus && tp <= (int64_t)s->machine->node; tp++) {
        bool without = false;
        if (s->gpus % tp) continue;
        for (int64_t cp = 1; cp <= s->gpus / tp && !without; cp++) {
            int64_t data = s->gpus / tp / cp;
            if (s->gpus / tp % cp) continue;
            for (int64_t dp = 1; dp <= data; dp++) {
                if (data % dp) continue;
                c.sizes = (weft_mesh_sizes){{dp, data / dp, cp, tp, 1}};
                WEFT_TRY(try_ep(s, &c, &without));
            }
        }
    }
    return WEFT_OK;
}

/* What is known beforehand, from a model on one rank. */
static weft_status prepare(search *s) {
    weft_model m;
    const weft_config *b = s->base;
    WEFT_TRY(weft_model_build(&m, &b->model, WEFT_RECOMPUTE_NONE, "", 0, WEFT_REAL_DTYPE, NULL));
    s->flops_per_token = weft_model_train_flops(&m, b->train.seq_len);
    s->state_bytes = (double)weft_params_total(&m.table) * 4 * sizeof(weft_real);
    weft_model_free(&m);
    return WEFT_OK;
}

/* ---- the result --------------------------------------------------------------------------------- */

static const char *recompute_name(weft_recompute r) {
    static const char *const names[] = {"none", "mixer", "ffn", "all"};
    return names[r];
}

static weft_mesh mesh_of(const search *s, const candidate *c) {
    weft_mesh mesh = {.ranks = s->gpus};
    for (weft_axis a = 0; a < WEFT_AXES; a++) mesh.size[a] = (int)c->sizes.size[a];
    return mesh;
}

static weft_status print_json(const search *s, double seconds) {
    json_t *meshes = json_array();
    for (int i = 0; i < s->count; i++) {
        const candidate *c = &s->best[i];
        json_t *sizes = json_object();
        for (weft_axis a = 0; a < WEFT_AXES; a++)
            json_object_set_new(sizes, weft_axis_name(a), json_integer(axis(c, a)));
        json_array_append_new(meshes,
                              json_pack("{s:o, s:I, s:s, s:I, s:f, s:f, s:f}", "mesh", sizes, "micro_batch",
                                        (json_int_t)c->micro, "recompute", recompute_name(c->recompute),
                                        "per_rank_bytes", (json_int_t)c->memory, "step_seconds", c->seconds,
                                        "tokens_per_second", c->tokens, "mfu", c->mfu));
    }
    return weft_output_json(json_pack("{s:s, s:i, s:f, s:i, s:i, s:f, s:o}", "machine", s->machine->name,
                                      "gpus", s->gpus, "room_bytes", s->room, "tried", s->tried, "fit",
                                      s->fit, "search_seconds", seconds, "meshes", meshes),
                            JSON_INDENT(2));
}

static weft_status print_text(const search *s, double seconds) {
    char text[128], bytes[32];
    char *lines[WEFT_ASSUMPTIONS];
    printf("%d GPUs of %s, %s of memory each for the run: %d layouts tried in %.1f s, %d fit\n", s->gpus,
           s->machine->name, weft_plan_bytes(s->room, bytes, sizeof bytes), s->tried, seconds, s->fit);
    printf("%4s  %-36s %6s  %-9s %12s %11s %12s %6s\n", "", "mesh", "micro", "recompute", "memory", "step, s",
           "tokens/s", "mfu");
    for (int i = 0; i < s->count; i++) {
        const candidate *c = &s->best[i];
        weft_mesh mesh = mesh_of(s, c);
        printf("%4d  %-36s %6lld  %-9s %12s %11.3f %12.0f %6.3f\n", i + 1,
               weft_mesh_text(&mesh, text, sizeof text), (long long)c->micro, recompute_name(c->recompute),
               weft_plan_bytes(c->memory, bytes, sizeof bytes), c->seconds, c->tokens, c->mfu);
    }
    const weft_mesh mesh = mesh_of(s, &s->best[0]);
    int count = weft_plan_assumptions(s->base, s->machine, &mesh, lines);
    if (count < 0) WEFT_FAIL(WEFT_ENOMEM, "no memory for the plan's text");
    printf("assumed\n");
    for (int i = 0; i < count; i++) {
        printf("  %s\n", lines[i]);
        free(lines[i]);
    }
    return weft_output_finish();
}

static weft_status report(const search *s, double seconds, bool json) {
    char text[128], room[32], needed[32];
    weft_mesh mesh = mesh_of(s, &s->smallest);
    if (s->count) return json ? print_json(s, seconds) : print_text(s, seconds);
    weft_plan_bytes(s->room, room, sizeof room);
    if (!s->tried)
        WEFT_FAIL(WEFT_EINPUT,
                  "no mesh of %d ranks suits: their parts of parameters, gradients and moments are beyond %s "
                  "each, or "
                  "train.global_batch=%lld does not divide over them",
                  s->gpus, room, (long long)s->base->train.global_batch);
    WEFT_FAIL(WEFT_EINPUT,
              "none of %d layouts of %d ranks fits into %s each; the smallest (%s, train.micro_batch=%lld, "
              "train.recompute=%s) needs %s",
              s->tried, s->gpus, room, weft_mesh_text(&mesh, text, sizeof text), (long long)s->smallest.micro,
              recompute_name(s->smallest.recompute),
              weft_plan_bytes(s->smallest.memory, needed, sizeof needed));
}

weft_status weft_plan_search(const weft_config *c, const weft_machine *m, int gpus, double memory,
                             double reserve, bool json) {
    search *s = calloc(1, sizeof *s);
    double began = weft_clock();
    if (!s || !(s->config = malloc(sizeof *s->config))) {
        free(s);
        WEFT_FAIL(WEFT_ENOMEM, "no memory for the search");
    }
    *s->config = *c;
    s->base = c;
    s->machine = m;
    s->gpus = gpus;
    s->room = memory - reserve;
    weft_status st = prepare(s);
    if (st == WEFT_OK) st = try_all(s);
    if (st == WEFT_OK) st = report(s, weft_clock() - began, json);
    free(s->config);
    free(s);
    return st;
}
