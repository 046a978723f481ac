/* What `weft plan` finds out, and how it says it. */
#ifndef WEFT_PLAN_H
#define WEFT_PLAN_H

#include "train/plan/estimate.h"

#include <jansson.h>

/* The longest context of one sequence on one GPU. */
typedef struct weft_fit {
    double memory, reserve;               /* bytes */
    int64_t weight_bits, kv_bits, prompt; /* prompt: tokens that go through the model at once */
    double weights, state, kv_per_token;  /* bytes */
    double in_parts, at_once; /* activations and workspace: of `prompt` tokens; for each token of the longest
                                 prompt that goes through at once */
    int64_t longest, longest_at_once; /* tokens; -1: no limit */
} weft_fit;

typedef struct weft_plan {
    const weft_config *config;
    int64_t total, active, context, kv_bits, kv_bytes, state_bytes;
    double train_flops_per_token;
    weft_mesh mesh;
    weft_trainer_memory memory, alone; /* on the mesh, and on one rank */
    int64_t traffic[WEFT_AXES];        /* what a rank receives in a step, at most */
    const weft_machine *machine;       /* or NULL: no estimate */
    weft_estimate estimate;
    const weft_fit *fit; /* or NULL */
} weft_plan;

/* Of a step's estimate. */
double weft_plan_tokens_per_second(const weft_config *c, const weft_estimate *e);
double weft_plan_mfu(const weft_config *c, const weft_estimate *e, double flops_per_token, int ranks);
/* The lines of what an estimate assumes, each malloc'ed and the caller's; at most WEFT_ASSUMPTIONS. Returns
 * how many; -1 without memory. */
enum { WEFT_ASSUMPTIONS = 16 };
int weft_plan_assumptions(const weft_config *c, const weft_machine *m, const weft_mesh *mesh, char **lines);

weft_status weft_plan_print_text(const weft_plan *p);
weft_status weft_plan_print_json(const weft_plan *p);
/* "12.00 GiB". Returns out. */
const char *weft_plan_bytes(double bytes, char *out, size_t size);

/* inference.c: fills the rest of what `f` asks for. */
weft_status weft_plan_fit(const weft_config *c, weft_fit *f);

/* search.c: every mesh of `gpus` ranks that fits into memory - reserve (bytes), by estimated step time;
 * prints the best. */
weft_status weft_plan_search(const weft_config *c, const weft_machine *m, int gpus, double memory,
                             double reserve, bool json);

#endif
