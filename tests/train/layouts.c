#include "layouts.h"
#include "support/suite.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* 8 heads and 2 key/value heads, so that tp = 4 and 8 copy these; words, channels of the dense part and
 * experts' widths that do not divide by 8. A long warm-up and a large epsilon: AdamW's first steps would
 * otherwise divide rounding by rounding. */
static const char *const base[] = {
    "model.hidden_size=32",
    "model.num_hidden_layers=4",
    "model.num_attention_heads=8",
    "model.num_key_value_heads=2",
    "model.head_dim=8",
    "model.intermediate_size=44",
    "model.vocab_size=101",
    "model.attn_layer_period=4",
    "model.attn_layer_offset=2",
    "model.num_experts=8",
    "model.num_experts_per_tok=2",
    "model.mamba_d_state=5",
    "model.mamba_dt_rank=3",
    "model.router_aux_loss_coef=0.01",
    "model.router_z_loss_coef=0.001",
    "model.activation_loss_coef=0.001",
    "train.seq_len=64",
    "train.global_batch=8",
    "train.micro_batch=1",
    "train.steps=1000",
    "train.loss_chunk=24",
    "optim.warmup=200",
    "optim.lr=2e-3",
    "optim.eps=1e-4",
    "data.path=random",
};

const layout_model layout_hybrid = {"hybrid", {NULL}, false};
const layout_model layout_attention = {
    "attention", {"model.mixer_pattern=AAAA", "model.ffn_pattern=DEDE", "model.positions=rope", NULL}, false};
const layout_model layout_mamba = {
    "mamba",
    {"model.mixer_pattern=MMMM", "model.ffn_pattern=D.DE", "model.mamba_proj_bias=true", NULL},
    false};
const layout_model layout_packed = {
    "packed", {"model.tie_word_embeddings=true", "model.positions=rope", NULL}, true};

static void override(weft_config *c, const char *word) {
    ck_assert_msg(weft_config_override(c, word, "test") == WEFT_OK, "%s", word);
}

weft_config *layout_config(const layout_model *m, const char *more) {
    weft_config *c = malloc(sizeof *c);
    ck_assert_ptr_nonnull(c);
    weft_config_defaults(c);
    for (size_t i = 0; i < sizeof base / sizeof *base; i++) override(c, base[i]);
    for (int i = 0; m->overrides[i]; i++) override(c, m->overrides[i]);
    char words[512], *rest = words, *word;
    snprintf(words, sizeof words, "%s", more);
    while ((word = strtok_r(rest, " ", &rest))) override(c, word);
    ck_assert_int_eq(weft_config_finish(c), WEFT_OK);
    return c;
}

void layout_open(layout_run *r, const layout_model *m, const char *more, const weft_world *w) {
    *r = (layout_run){.config = layout_config(m, more), .packed = m->packed};
    ck_assert_msg(weft_trainer_open(&r->trainer, r->config, w, false) == WEFT_OK, "%s %s", m->name, more);
    ck_assert_int_eq(weft_trainer_init(&r->trainer), WEFT_OK);
    size_t n = (size_t)weft_trainer_batch_size(&r->trainer), tokens = n * (size_t)r->config->train.seq_len;
    r->samples = malloc(n * sizeof *r->samples);
    r->tokens = malloc(tokens * sizeof *r->tokens);
    r->targets = malloc(tokens * sizeof *r->targets);
    r->doc_start = malloc(tokens * sizeof *r->doc_start);
    ck_assert(r->samples && r->tokens && r->targets && r->doc_start);
}

void layout_close(layout_run *r) {
    weft_trainer_close(&r->trainer);
    free(r->samples);
    free(r->tokens);
    free(r->targets);
    free(r->doc_start);
    free(r->config);
}

/* Sequence number `sample`: words with some order in them, some targets left out; packed: documents of 1 to
 * about 40 tokens. */
static int64_t make_sample(const layout_run *r, uint64_t sample, int32_t *tokens, int32_t *targets,
                           int32_t *start) {
    weft_rng rng = weft_rng_make(sample, "sample");
    int64_t T = r->config->train.seq_len, V = r->config->model.vocab_size, counted = 0, begin = 0;
    for (int64_t t = 0; t < T; t++) {
        uint64_t k = (uint64_t)(4 * t);
        if (r->packed && t > 0 && weft_rng_below(rng, k + 2, 24) == 0) {
            begin = t;
            targets[t - 1] = -1;
        }
        tokens[t] = (int32_t)((weft_rng_below(rng, k, 12) * 7 + (uint64_t)(3 * t)) % (uint64_t)V);
        targets[t] = weft_rng_below(rng, k + 1, 10) == 0 ? -1 : (int32_t)((tokens[t] * 5 + t) % V);
        start[t] = (int32_t)begin;
    }
    for (int64_t t = 0; t < T; t++) counted += targets[t] >= 0;
    return counted;
}

weft_batch layout_batch(layout_run *r) {
    int64_t n = weft_trainer_batch_size(&r->trainer), T = r->config->train.seq_len, counted = 0;
    weft_trainer_batch_samples(&r->trainer, r->trainer.samples, r->samples);
    for (int64_t i = 0; i < n; i++)
        counted += make_sample(r, r->samples[i], r->tokens + i * T, r->targets + i * T, r->doc_start + i * T);
    return (weft_batch){.count = n,
                        .tokens = r->tokens,
                        .targets = r->targets,
                        .doc_start = r->doc_start,
                        .targets_counted = counted};
}

void layout_step(layout_run *r, weft_step_result *out) {
    weft_batch batch = layout_batch(r);
    if (!weft_trainer_step(&r->trainer, &batch, out)) weft_trainer_finish(&r->trainer, out);
}

void layout_train(layout_curve *out, const layout_model *m, const char *more, const weft_world *w,
                  int steps) {
    layout_run r;
    weft_step_result result;
    layout_open(&r, m, more, w);
    for (int s = 0; s < steps; s++) {
        layout_step(&r, &result);
        out->loss[s] = result.loss;
        out->norm[s] = result.grad_norm;
        out->aux[s] = result.aux;
    }
    layout_close(&r);
}

void layout_reference(layout_curve *out, const layout_model *m, const char *more, const weft_world *w,
                      int steps) {
    const weft_world one = {.size = 1, .local_size = 1};
    if (w->rank == 0) layout_train(out, m, more, &one, steps);
    weft_world_bcast(out, sizeof *out, 0);
}

static double apart(double a, double b) {
    return fabs(a - b) / (fabs(b) + 1e-300);
}

void layout_same(const layout_curve *got, const layout_curve *want, int steps, double tolerance,
                 const char *what) {
    for (int s = 0; s < steps; s++)
        ck_assert_msg(apart(got->loss[s], want->loss[s]) <= tolerance &&
                          apart(got->norm[s], want->norm[s]) <= tolerance &&
                          (want->aux[s] == 0 || apart(got->aux[s], want->aux[s]) <= tolerance),
                      "%s, step %d: loss %.12g wanted %.12g (%.1e), norm %.12g wanted %.12g (%.1e), aux "
                      "%.12g wanted %.12g",
                      what, s + 1, got->loss[s], want->loss[s], apart(got->loss[s], want->loss[s]),
                      got->norm[s], want->norm[s], apart(got->norm[s], want->norm[s]), got->aux[s],
                      want->aux[s]);
}
