/* How long a context fits on one GPU: memory less weights, state and workspace, over the bytes of a token.
 * The activations are those of weft's own decoding, run against a device that holds nothing. */
#include "train/plan/plan.h"

#include <stdlib.h>

#define MOST_TOKENS (INT64_C(1) << 31)

typedef struct room {
    weft_model model;
    weft_device device;
    const weft_fit *fit;
    int64_t at_a_time; /* tokens of the prompt */
} room;

/* Bytes that a context of `tokens` takes. */
static weft_status needed(room *r, int64_t tokens, double *bytes) {
    const weft_fit *f = r->fit;
    size_t work;
    int64_t part = tokens < r->at_a_time ? tokens : r->at_a_time;
    WEFT_TRY(weft_model_prompt_bytes(&r->model, &r->device, part, &work));
    *bytes = f->reserve + f->weights + f->state + (double)weft_model_kv_bytes(&r->model, tokens, f->kv_bits) +
             (double)work;
    return WEFT_OK;
}

/* The most tokens that fit; 0: not one, -1: as many as there may be. */
static weft_status longest(room *r, int64_t at_a_time, int64_t *tokens) {
    int64_t fits = 0, too_long = MOST_TOKENS + 1, next = 1;
    double bytes;
    r->at_a_time = at_a_time;
    while (too_long - fits > 1) { /* never far beyond what fits: the measuring arena is finite as well */
        WEFT_TRY(needed(r, next, &bytes));
        if (bytes <= r->fit->memory)
            fits = next;
        else
            too_long = next;
        next = fits + (too_long - fits) / 2 < 2 * fits ? fits + (too_long - fits) / 2 : 2 * fits;
        if (next <= fits) next = fits + 1;
    }
    *tokens = fits == MOST_TOKENS ? -1 : fits;
    return WEFT_OK;
}

static weft_status find(room *r, weft_fit *f) {
    size_t work = 0;
    f->weights = (double)weft_params_total(&r->model.table) * (double)f->weight_bits / 8;
    f->state = (double)weft_model_state_bytes(&r->model, 16);
    f->kv_per_token = (double)weft_model_kv_bytes(&r->model, 1, 16) * (double)f->kv_bits / 16;
    WEFT_TRY(weft_model_prompt_bytes(&r->model, &r->device, f->prompt, &work));
    f->in_parts = (double)work;
    WEFT_TRY(longest(r, f->prompt, &f->longest));
    WEFT_TRY(longest(r, MOST_TOKENS, &f->longest_at_once));
    int64_t whole = f->longest_at_once > 0 ? f->longest_at_once : f->prompt;
    WEFT_TRY(weft_model_prompt_bytes(&r->model, &r->device, whole, &work));
    f->at_once = (double)work / (double)whole;
    return WEFT_OK;
}

weft_status weft_plan_fit(const weft_config *c, weft_fit *f) {
    room *r = calloc(1, sizeof *r);
    if (!r) WEFT_FAIL(WEFT_ENOMEM, "no memory for the model");
    r->fit = f;
    weft_status st = weft_model_build(&r->model, &c->model, WEFT_RECOMPUTE_NONE, "", 0, WEFT_BF16, NULL);
    if (st == WEFT_OK) {
        st = weft_device_open_cpu(&r->device);
        if (st == WEFT_OK) {
            r->device.act_dtype = WEFT_BF16;
            st = weft_device_measure(&r->device);
        }
        if (st == WEFT_OK) st = find(r, f);
        weft_device_close(&r->device);
        weft_model_free(&r->model);
    }
    free(r);
    return st;
}
