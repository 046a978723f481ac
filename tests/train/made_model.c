#include "made_model.h"

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

weft_modelfile *made_model(const char *words) {
    static const char base[] =
        "model.hidden_size=24 model.num_attention_heads=4 model.num_key_value_heads=2 model.head_dim=8 "
        "model.intermediate_size=20 model.vocab_size=23 model.num_experts=4 model.num_experts_per_tok=2 "
        "model.mamba_d_state=5 model.mamba_dt_rank=3 train.loss_chunk=7 train.seq_len=19";
    weft_modelfile *f = calloc(1, sizeof *f);
    char text[1024], *rest = text, *word;
    ck_assert_ptr_nonnull(f);
    snprintf(f->path, sizeof f->path, "model");
    weft_config_defaults(&f->config);
    snprintf(text, sizeof text, "%s %s", base, words);
    while ((word = strtok_r(rest, " ", &rest)))
        ck_assert_int_eq(weft_config_override(&f->config, word, "test"), WEFT_OK);
    ck_assert_int_eq(weft_config_finish(&f->config), WEFT_OK);
    ck_assert_int_eq(
        weft_model_build(&f->model, &f->config.model, WEFT_RECOMPUTE_NONE, "", 0, WEFT_REAL_DTYPE, NULL),
        WEFT_OK);
    ck_assert_int_eq(weft_device_open_cpu(&f->device), WEFT_OK);
    ck_assert_int_eq(weft_arena_init(&f->arena, "parameter", (size_t)f->model.table.flat * sizeof *f->params),
                     WEFT_OK);
    f->params = (weft_real *)(void *)f->arena.base;
    weft_params_init(&f->model.table, f->params, 7);
    for (int64_t i = 0; i < f->model.table.count; i++) {
        const weft_param *p = &f->model.table.rows[i];
        weft_rng rng = weft_rng_make(11, p->name);
        for (int64_t k = 0; k < p->numel; k++)
            f->params[p->at + k] += (weft_real)(0.4 * weft_rng_normal(rng, (uint64_t)k));
    }
    return f;
}

void made_model_close(weft_modelfile *f) {
    weft_modelfile_close(f);
    free(f);
}

/* layer -1: in none */
static const weft_real *weights(const weft_modelfile *f, int64_t layer, const char *name) {
    char full[128];
    snprintf(full, sizeof full, "layers.%lld.%s", (long long)layer, name);
    const weft_param *p = weft_params_find(&f->model.table, layer >= 0 ? full : name);
    ck_assert_msg(p != NULL, "no parameter %s", name);
    return f->params + p->at;
}

static void project(const weft_modelfile *f, int64_t layer, const char *name, int64_t rows, const double *x,
                    int64_t cols, double *y) {
    const weft_real *w = weights(f, layer, name);
    for (int64_t r = 0; r < rows; r++) {
        y[r] = 0;
        for (int64_t c = 0; c < cols; c++) y[r] += (double)w[r * cols + c] * x[c];
    }
}

static void rotate(const weft_modelfile *f, double *head, int position) {
    if (f->config.model.positions != WEFT_POS_ROPE) return;
    for (int i = 0; i < d / 2; i++) {
        double angle = position * pow(f->config.model.rope_theta, -2.0 * i / d), a = head[i];
        double b = head[i + d / 2];
        head[i] = a * cos(angle) - b * sin(angle);
        head[i + d / 2] = a * sin(angle) + b * cos(angle);
    }
}

static void attend(hand *w, int64_t layer, int h, int i, double q[MOST][H * d], double k[MOST][G * d],
                   double v[MOST][G * d], double *o) {
    double *p = w->attention[layer][h][i], sum = 0;
    int g = h / (H / G);
    for (int j = 0; j <= i; j++) {
        double score = 0;
        for (int c = 0; c < d; c++) score += q[i][h * d + c] * k[j][g * d + c];
        sum += p[j] = exp(score / sqrt(d));
    }
    for (int j = 0; j <= i; j++) p[j] /= sum;
    for (int c = 0; c < d; c++) {
        o[c] = 0;
        for (int j = 0; j <= i; j++) o[c] += p[j] * v[j][g * d + c];
    }
}

static void attention_layer(hand *w, const weft_modelfile *f, int64_t layer, int T) {
    static double q[MOST][H * d], k[MOST][G * d], v[MOST][G * d];
    const weft_real *norm = weights(f, layer, "input_layernorm");
    double o[H * d];
    for (int t = 0; t < T; t++) {
        double y[D], square = 0;
        for (int c = 0; c < D; c++) square += w->stream[t][c] * w->stream[t][c] / D;
        for (int c = 0; c < D; c++)
            y[c] = w->stream[t][c] / sqrt(square + f->config.model.rms_norm_eps) * (double)norm[c];
        project(f, layer, "self_attn.q_proj", H * d, y, D, q[t]);
        project(f, layer, "self_attn.k_proj", G * d, y, D, k[t]);
        project(f, layer, "self_attn.v_proj", G * d, y, D, v[t]);
        for (int h = 0; h < H; h++) rotate(f, q[t] + h * d, t);
        for (int g = 0; g < G; g++) rotate(f, k[t] + g * d, t);
    }
    for (int t = 0; t < T; t++) {
        for (int h = 0; h < H; h++) attend(w, layer, h, t, q, k, v, o + h * d);
        project(f, layer, "self_attn.o_proj", D, o, H * d, w->out[t]);
    }
}

void by_hand(hand *w, const weft_modelfile *f, const int32_t *tokens, int T) {
    const weft_real *words = weights(f, -1, "embed_tokens");
    for (int t = 0; t < T; t++)
        for (int c = 0; c < D; c++) w->stream[t][c] = (double)words[tokens[t] * D + c];
    for (int layer = 0; layer < LAYERS; layer += 2) {
        attention_layer(w, f, layer, T);
        for (int t = 0; t < T; t++)
            for (int c = 0; c < D; c++) {
                double x = w->stream[t][c], out = w->out[t][c];
                w->residual_max[layer] = fmax(w->residual_max[layer], fabs(x));
                w->out_max[layer] = fmax(w->out_max[layer], fabs(out));
                w->residual_sum[layer] += x * x;
                w->out_sum[layer] += out * out;
                w->stream[t][c] += out;
            }
    }
}
