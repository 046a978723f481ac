/* config.json of JambaForCausalLM (transformers, configuration_jamba.py; Lieber et al., arXiv 2403.19887).
 *
 * Keys that the format has and weft does not: written with the value of the published model, ignored when
 * read: use_cache, num_logits_to_keep, output_router_logits   how transformers runs the model, not what it
 * computes max_position_embeddings                               without positions in the model it limits
 * nothing attention_dropout                                     weft trains without dropout use_mamba_kernels
 * written as false: with true, transformers refuses to run unless its CUDA kernels are there; set it to true
 * for speed Keys that would change what the model computes (sliding_window, hidden_act, quantization_config)
 * must have the one value that weft computes. */
#include "train/hf_files.h"

#include <stdlib.h>
#include <string.h>

/* ---- writing ------------------------------------------------------------------------------------------ */

/* Does `i % period == offset` give exactly the layers where wanted[i]? */
static bool schedule_fits(const bool *wanted, int64_t layers, int64_t period, int64_t offset) {
    if (period <= 0 || offset < 0 || offset >= period) return false;
    for (int64_t i = 0; i < layers; i++)
        if (wanted[i] != (i % period == offset)) return false;
    return true;
}

/* Period and offset of the wanted layers, the ones of the configuration if they fit. No layer at all: one
 * past the end, since the format demands an offset below the period. */
static bool find_schedule(const bool *wanted, int64_t layers, int64_t *period, int64_t *offset) {
    if (schedule_fits(wanted, layers, *period, *offset)) return true;
    for (int64_t p = 1; p <= layers + 1; p++)
        for (int64_t o = 0; o < p; o++)
            if (schedule_fits(wanted, layers, p, o)) {
                *period = p;
                *offset = o;
                return true;
            }
    return false;
}

typedef struct weft_schedules {
    bool attention[WEFT_MAX_LAYERS], experts[WEFT_MAX_LAYERS];
    int64_t attention_layers, mamba_layers, expert_layers, empty_mixers, empty_ffns;
    int64_t attn_period, attn_offset, expert_period, expert_offset;
    bool attn_found, expert_found;
} weft_schedules;

static void find_schedules(const weft_model_config *m, weft_schedules *s) {
    *s = (weft_schedules){.attn_period = m->attn_layer_period,
                          .attn_offset = m->attn_layer_offset,
                          .expert_period = m->expert_layer_period,
                          .expert_offset = m->expert_layer_offset};
    for (int64_t i = 0; i < m->num_hidden_layers; i++) {
        s->attention[i] = m->mixer[i] == WEFT_MIXER_ATTENTION;
        s->experts[i] = m->ffn[i] == WEFT_FFN_MOE;
        s->attention_layers += s->attention[i];
        s->mamba_layers += m->mixer[i] == WEFT_MIXER_MAMBA;
        s->expert_layers += s->experts[i];
        s->empty_mixers += m->mixer[i] == WEFT_MIXER_NONE;
        s->empty_ffns += m->ffn[i] == WEFT_FFN_NONE;
    }
    s->attn_found = find_schedule(s->attention, m->num_hidden_layers, &s->attn_period, &s->attn_offset);
    s->expert_found = find_schedule(s->experts, m->num_hidden_layers, &s->expert_period, &s->expert_offset);
}

weft_status weft_hf_check_model(const weft_model_config *m) {
    weft_schedules s;
    weft_status status = WEFT_OK;
    find_schedules(m, &s);
#define REFUSE(cond, ...)                                                                                    \
    if (cond) status = weft_fail(WEFT_EINPUT, "JambaForCausalLM cannot express " __VA_ARGS__)
    REFUSE(s.empty_mixers, "layers without a mixer (there are %lld)", (long long)s.empty_mixers);
    REFUSE(s.empty_ffns, "layers without a feed-forward part (there are %lld)", (long long)s.empty_ffns);
    REFUSE(!s.empty_mixers && !s.attn_found,
           "this pattern of attention layers: no period and offset gives it");
    REFUSE(!s.empty_ffns && !s.expert_found, "this pattern of expert layers: no period and offset gives it");
    REFUSE(s.expert_layers && m->num_experts == 1, "an expert layer with one expert");
    REFUSE(s.expert_layers && m->norm_topk_prob, "renormalised top-k probabilities (model.norm_topk_prob)");
    REFUSE(s.attention_layers && m->positions != WEFT_POS_NONE, "rotary positions (model.positions)");
    REFUSE(s.attention_layers && weft_head_dim(m) * m->num_attention_heads != m->hidden_size,
           "a head_dim of %lld: it takes hidden_size / num_attention_heads", (long long)weft_head_dim(m));
    REFUSE(s.mamba_layers && !m->mamba_inner_norm,
           "Mamba without the norms on dt, B and C (model.mamba_inner_norm: false)");
#undef REFUSE
    return status;
}

weft_status weft_hf_write_config(const char *dir, const weft_model_config *m, weft_dtype dtype) {
    weft_schedules s;
    find_schedules(m, &s);
    bool experts = s.expert_layers > 0; /* one expert makes every layer dense there, whatever the period */
    json_t *root = json_pack("{s:[s], s:s, s:s}", "architectures", "JambaForCausalLM", "model_type", "jamba",
                             "torch_dtype", weft_dtype_name(dtype));
    bool ok = root != NULL;
#define PUT(key, value) ok = ok && json_object_set_new(root, key, value) == 0
    PUT("vocab_size", json_integer(m->vocab_size));
    PUT("tie_word_embeddings", json_boolean(m->tie_word_embeddings));
    PUT("hidden_size", json_integer(m->hidden_size));
    PUT("intermediate_size", json_integer(m->intermediate_size));
    PUT("num_hidden_layers", json_integer(m->num_hidden_layers));
    PUT("num_attention_heads", json_integer(m->num_attention_heads));
    PUT("num_key_value_heads", json_integer(m->num_key_value_heads));
    PUT("hidden_act", json_string("silu"));
    PUT("initializer_range", json_real(m->initializer_range));
    PUT("rms_norm_eps", json_real(m->rms_norm_eps));
    PUT("use_cache", json_true());
    PUT("num_logits_to_keep", json_integer(1));
    PUT("output_router_logits", json_false());
    PUT("router_aux_loss_coef", json_real(m->router_aux_loss_coef));
    PUT("pad_token_id", json_integer(m->pad_token_id));
    PUT("bos_token_id", json_integer(m->bos_token_id));
    PUT("eos_token_id", json_integer(m->eos_token_id));
    PUT("sliding_window", json_null());
    PUT("max_position_embeddings", json_integer(262144));
    PUT("attention_dropout", json_real(0.0));
    PUT("num_experts", json_integer(experts ? m->num_experts : 1));
    PUT("num_experts_per_tok", json_integer(experts ? m->num_experts_per_tok : 1));
    PUT("expert_layer_period", json_integer(experts ? s.expert_period : 2));
    PUT("expert_layer_offset", json_integer(experts ? s.expert_offset : 1));
    PUT("attn_layer_period", json_integer(s.attn_period));
    PUT("attn_layer_offset", json_integer(s.attn_offset));
    PUT("use_mamba_kernels", json_false());
    PUT("mamba_d_state", json_integer(m->mamba_d_state));
    PUT("mamba_d_conv", json_integer(m->mamba_d_conv));
    PUT("mamba_expand", json_integer(m->mamba_expand));
    PUT("mamba_dt_rank", json_integer(weft_dt_rank(m)));
    PUT("mamba_conv_bias", json_boolean(m->mamba_conv_bias));
    PUT("mamba_proj_bias", json_boolean(m->mamba_proj_bias));
#undef PUT
    if (!ok) {
        json_decref(root);
        WEFT_FAIL(WEFT_ENOMEM, "%s: no memory for %s", dir, WEFT_HF_CONFIG);
    }
    WEFT_TRY(weft_hf_write_json(dir, WEFT_HF_CONFIG, root));
    return weft_hf_write_json(dir, "generation_config.json",
                              json_pack("{s:b, s:I, s:I, s:I}", "_from_model_config", 1, "bos_token_id",
                                        (json_int_t)m->bos_token_id, "eos_token_id",
                                        (json_int_t)m->eos_token_id, "pad_token_id",
                                        (json_int_t)m->pad_token_id));
}

/* ---- reading ------------------------------------------------------------------------------------------ */

typedef enum weft_key_type { KEY_INT, KEY_REAL, KEY_BOOL, KEY_TOKEN, KEY_RANK } weft_key_type;

/* Keys that map onto a field of the same name. `preset` is JambaConfig's default for a key that is not there.
 */
typedef struct weft_key {
    const char *name;
    weft_key_type type;
    size_t offset; /* in weft_model_config */
    double preset;
} weft_key;

#define KEY(type, name, preset)                                                                              \
    { #name, type, offsetof(weft_model_config, name), preset }
static const weft_key g_keys[] = {
    KEY(KEY_INT, vocab_size, 65536),
    KEY(KEY_INT, hidden_size, 4096),
    KEY(KEY_INT, intermediate_size, 14336),
    KEY(KEY_INT, num_hidden_layers, 32),
    KEY(KEY_INT, num_attention_heads, 32),
    KEY(KEY_INT, num_key_value_heads, 8),
    KEY(KEY_INT, attn_layer_period, 8),
    KEY(KEY_INT, attn_layer_offset, 4),
    KEY(KEY_INT, expert_layer_period, 2),
    KEY(KEY_INT, expert_layer_offset, 1),
    KEY(KEY_INT, num_experts, 16),
    KEY(KEY_INT, num_experts_per_tok, 2),
    KEY(KEY_REAL, router_aux_loss_coef, 0.001),
    KEY(KEY_INT, mamba_d_state, 16),
    KEY(KEY_INT, mamba_d_conv, 4),
    KEY(KEY_INT, mamba_expand, 2),
    KEY(KEY_RANK, mamba_dt_rank, 0),
    KEY(KEY_BOOL, mamba_conv_bias, 1),
    KEY(KEY_BOOL, mamba_proj_bias, 0),
    KEY(KEY_REAL, rms_norm_eps, 1e-6),
    KEY(KEY_REAL, initializer_range, 0.02),
    KEY(KEY_BOOL, tie_word_embeddings, 0),
    KEY(KEY_TOKEN, bos_token_id, 1),
    KEY(KEY_TOKEN, eos_token_id, 2),
    KEY(KEY_TOKEN, pad_token_id, 0),
};

static weft_status read_key(const char *dir, const json_t *root, const weft_key *k, weft_model_config *m) {
    const json_t *v = json_object_get(root, k->name);
    void *field = (char *)m + k->offset;
    /* A model may have no such token; the number is then not used. */
    if (k->type == KEY_TOKEN && json_is_null(v)) v = NULL;
    if (k->type == KEY_RANK && json_is_string(v) && strcmp(json_string_value(v), "auto") == 0) v = NULL;
    switch (k->type) {
    case KEY_REAL:
        if (v && !json_is_number(v))
            WEFT_FAIL(WEFT_EINPUT, "%s/%s: %s must be a number", dir, WEFT_HF_CONFIG, k->name);
        *(double *)field = v ? json_number_value(v) : k->preset;
        break;
    case KEY_BOOL:
        if (v && !json_is_boolean(v))
            WEFT_FAIL(WEFT_EINPUT, "%s/%s: %s must be true or false", dir, WEFT_HF_CONFIG, k->name);
        *(bool *)field = v ? json_is_true(v) : k->preset != 0;
        break;
    default:
        if (v && !json_is_integer(v))
            WEFT_FAIL(WEFT_EINPUT, "%s/%s: %s must be an integer", dir, WEFT_HF_CONFIG, k->name);
        *(int64_t *)field = v ? json_integer_value(v) : (int64_t)k->preset;
    }
    return WEFT_OK;
}

/* Is this a model that weft computes as transformers does? */
static weft_status check_kind(const char *dir, const json_t *root) {
    const char *type = json_string_value(json_object_get(root, "model_type"));
    if (!type || strcmp(type, "jamba") != 0)
        WEFT_FAIL(WEFT_EINPUT, "%s/%s: model_type is \"%s\"; only \"jamba\" can be read", dir, WEFT_HF_CONFIG,
                  type ? type : "");
    const json_t *names = json_object_get(root, "architectures");
    const char *name = json_string_value(json_array_get(names, 0));
    if (json_array_size(names) > 0 && (!name || strcmp(name, "JambaForCausalLM") != 0))
        WEFT_FAIL(WEFT_EINPUT, "%s/%s: architectures is \"%s\"; only \"JambaForCausalLM\" can be read", dir,
                  WEFT_HF_CONFIG, name ? name : "");
    const json_t *act = json_object_get(root, "hidden_act");
    if (act && (!json_is_string(act) || strcmp(json_string_value(act), "silu") != 0))
        WEFT_FAIL(WEFT_EINPUT, "%s/%s: hidden_act must be \"silu\"", dir, WEFT_HF_CONFIG);
    const json_t *window = json_object_get(root, "sliding_window");
    if (window && !json_is_null(window))
        WEFT_FAIL(WEFT_EINPUT, "%s/%s: sliding_window must be null: weft's attention sees all earlier tokens",
                  dir, WEFT_HF_CONFIG);
    const json_t *quantized = json_object_get(root, "quantization_config");
    if (quantized && !json_is_null(quantized))
        WEFT_FAIL(WEFT_EINPUT,
                  "%s/%s: quantization_config: quantised weights cannot be read; take the original model",
                  dir, WEFT_HF_CONFIG);
    return WEFT_OK;
}

/* The format allows periods longer than the model; weft writes "no such layer" as period 0. */
static weft_status fit_schedule(const char *dir, const char *what, int64_t layers, int64_t *period,
                                int64_t *offset) {
    if (*period < 1 || *offset < 0 || *offset >= *period)
        WEFT_FAIL(WEFT_EINPUT,
                  "%s/%s: %s_layer_offset %lld must be smaller than %s_layer_period %lld, and not negative",
                  dir, WEFT_HF_CONFIG, what, (long long)*offset, what, (long long)*period);
    if (*offset >= layers)
        *period = *offset = 0;
    else if (*period > layers)
        *period = layers;
    return WEFT_OK;
}

static weft_status read_model(const char *dir, const json_t *root, weft_model_config *m) {
    WEFT_TRY(check_kind(dir, root));
    for (size_t i = 0; i < sizeof g_keys / sizeof *g_keys; i++) {
        /* null: as many key/value heads as query heads, which were read before. */
        if (g_keys[i].offset == offsetof(weft_model_config, num_key_value_heads) &&
            json_is_null(json_object_get(root, "num_key_value_heads")))
            m->num_key_value_heads = m->num_attention_heads;
        else
            WEFT_TRY(read_key(dir, root, &g_keys[i], m));
    }
    WEFT_TRY(fit_schedule(dir, "attn", m->num_hidden_layers, &m->attn_layer_period, &m->attn_layer_offset));
    WEFT_TRY(
        fit_schedule(dir, "expert", m->num_hidden_layers, &m->expert_layer_period, &m->expert_layer_offset));
    if (m->num_experts == 1) m->num_experts_per_tok = 1;
    m->head_dim = 0;
    m->mixer_pattern[0] = m->ffn_pattern[0] = '\0';
    m->norm_topk_prob = false;
    m->mamba_inner_norm = true;
    m->positions = WEFT_POS_NONE;
    return WEFT_OK;
}

weft_status weft_hf_read_config(const char *dir, weft_config *c) {
    json_t *root = NULL;
    WEFT_TRY(weft_hf_read_json(dir, WEFT_HF_CONFIG, &root));
    weft_config read = *c;
    weft_status status = read_model(dir, root, &read.model);
    json_decref(root);
    WEFT_TRY(status);
    WEFT_TRY(weft_config_finish(&read));
    *c = read;
    return WEFT_OK;
}
