#include "toy.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

static void random_params(toy *t) {
    const weft_params *p = &t->model.table;
    weft_params_init(p, t->params, 7);
    for (int64_t i = 0; i < p->count; i++) {
        const weft_param *r = &p->rows[i];
        weft_rng rng = weft_rng_make(11, r->name);
        /* Wide enough that every path matters; norms and D around their initial value. */
        double spread = r->init == WEFT_INIT_NORMAL ? 0.25 : r->init == WEFT_INIT_UNIFORM ? 0 : 0.2;
        for (int64_t k = 0; k < r->numel; k++)
            t->params[r->at + k] += (weft_real)(spread * weft_rng_normal(rng, (uint64_t)k));
    }
}

static void random_batch(toy *t, int64_t B, int64_t T, bool packed) {
    weft_rng rng = weft_rng_make(3, "batch");
    int64_t n = B * T;
    t->tokens = malloc((size_t)n * sizeof *t->tokens);
    t->targets = malloc((size_t)n * sizeof *t->targets);
    t->doc_start = malloc((size_t)n * sizeof *t->doc_start);
    ck_assert(t->tokens && t->targets && t->doc_start);
    for (int64_t i = 0; i < n; i++) {
        int64_t pos = i % T;
        bool starts = packed && pos > 0 && weft_rng_below(rng, (uint64_t)(4 * i + 2), 6) == 0;
        t->tokens[i] = (int32_t)weft_rng_below(rng, (uint64_t)(4 * i), (uint64_t)t->config.model.vocab_size);
        t->targets[i] =
            (int32_t)weft_rng_below(rng, (uint64_t)(4 * i + 1), (uint64_t)t->config.model.vocab_size);
        t->doc_start[i] = pos == 0 ? 0 : starts ? (int32_t)pos : t->doc_start[i - 1];
        if (starts) t->targets[i - 1] = -1;
    }
    t->mb = (weft_microbatch){.B = B,
                              .T = T,
                              .tokens = t->tokens,
                              .targets = t->targets,
                              .doc_start = packed ? t->doc_start : NULL};
}

void toy_open(toy *t, const char *const *overrides, int count, int64_t B, int64_t T, bool packed) {
    static const char *const base[] = {
        "model.hidden_size=24",        "model.num_hidden_layers=4",  "model.num_attention_heads=4",
        "model.num_key_value_heads=2", "model.intermediate_size=20", "model.vocab_size=37",
        "model.attn_layer_period=4",   "model.attn_layer_offset=2",  "model.num_experts=4",
        "model.num_experts_per_tok=2", "model.mamba_d_state=5",      "model.mamba_dt_rank=3",
        "train.loss_chunk=7",
    };
    memset(t, 0, sizeof *t);
    weft_config_defaults(&t->config);
    for (size_t i = 0; i < sizeof base / sizeof *base; i++)
        ck_assert_int_eq(weft_config_override(&t->config, base[i], "test"), WEFT_OK);
    for (int i = 0; i < count; i++)
        ck_assert_int_eq(weft_config_override(&t->config, overrides[i], "test"), WEFT_OK);
    ck_assert_int_eq(weft_config_finish(&t->config), WEFT_OK);
    ck_assert_int_eq(weft_model_build(&t->model, &t->config.model, t->config.train.recompute,
                                      t->config.train.recompute_layers, 0, WEFT_REAL_DTYPE, NULL),
                     WEFT_OK);
    ck_assert_int_eq(weft_device_open_cpu(&t->device), WEFT_OK);
    size_t bytes = (size_t)t->model.table.flat * sizeof(weft_real);
    t->params = malloc(bytes);
    t->grads = malloc(bytes);
    ck_assert(t->params && t->grads);
    random_params(t);
    random_batch(t, B, T, packed);
    t->objective = (weft_objective){
        .ce_scale = 1.0 / (double)(B * T), .extra_scale = 1, .loss_chunk = t->config.train.loss_chunk};

    weft_loss loss;
    ck_assert_int_eq(weft_device_measure(&t->device), WEFT_OK);
    weft_model_train(&t->model, &t->device, weft_model_whole(&t->model, t->params, t->grads), &t->mb,
                     &t->objective, &loss);
    ck_assert_int_eq(weft_device_size(&t->device, t->device.act.peak), WEFT_OK);
}

void toy_close(toy *t) {
    free(t->params);
    free(t->grads);
    free(t->tokens);
    free(t->targets);
    free(t->doc_start);
    weft_model_free(&t->model);
    weft_device_close(&t->device);
}

double toy_loss(toy *t) {
    weft_loss loss;
    const weft_model_config *c = &t->config.model;
    memset(t->grads, 0, (size_t)t->model.table.flat * sizeof(weft_real));
    weft_model_train(&t->model, &t->device, weft_model_whole(&t->model, t->params, t->grads), &t->mb,
                     &t->objective, &loss);
    return loss.ce_sum * t->objective.ce_scale +
           t->objective.extra_scale * (c->router_aux_loss_coef * loss.aux + c->router_z_loss_coef * loss.z +
                                       c->activation_loss_coef * loss.act);
}
