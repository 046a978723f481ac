/* Rules that join several keys, and what is derived from them: the layers. */
#include "model/config.h"
#include "model/config_fields.h"

#include <stdlib.h>
#include <string.h>

#define LL(x) ((long long)(x))

/* ---- layers ------------------------------------------------------------------------------------- */

static weft_status check_period(const char *kind, int64_t period, int64_t offset) {
    if (period > 0 && offset >= period)
        WEFT_FAIL(WEFT_EINPUT, "model.%s_layer_offset %lld must be smaller than model.%s_layer_period %lld",
                  kind, LL(offset), kind, LL(period));
    return WEFT_OK;
}

/* Finds each symbol's index in `symbols` and stores it. */
static weft_status read_pattern(const char *key, const char *pattern, const char *symbols, const char *legend,
                                int64_t layers, int *kinds) {
    size_t n = strlen(pattern);
    for (size_t i = 0; i < n; i++) {
        const char *s = strchr(symbols, pattern[i]);
        if (!s)
            WEFT_FAIL(WEFT_EINPUT, "%s '%.64s%s': symbol '%c' at position %zu (layer %zu) is not one of %s",
                      key, pattern, n > 64 ? "..." : "", pattern[i], i + 1, i, legend);
        if ((int64_t)i < layers) kinds[i] = (int)(s - symbols);
    }
    if ((int64_t)n != layers)
        WEFT_FAIL(WEFT_EINPUT,
                  "%s has %zu symbols, but model.num_hidden_layers is %lld; give one symbol a layer", key, n,
                  LL(layers));
    return WEFT_OK;
}

static weft_status derive_layers(weft_model_config *m) {
    static const weft_mixer mixers[] = {WEFT_MIXER_ATTENTION, WEFT_MIXER_MAMBA, WEFT_MIXER_NONE};
    static const weft_ffn ffns[] = {WEFT_FFN_DENSE, WEFT_FFN_MOE, WEFT_FFN_NONE};
    int kinds[WEFT_MAX_LAYERS];
    int64_t layers = m->num_hidden_layers;
    memset(m->mixer, 0, sizeof m->mixer);
    memset(m->ffn, 0, sizeof m->ffn);

    if (m->mixer_pattern[0]) {
        WEFT_TRY(read_pattern("model.mixer_pattern", m->mixer_pattern, "AM.",
                              "A (attention), M (Mamba), . (none)", layers, kinds));
        for (int64_t i = 0; i < layers; i++) m->mixer[i] = mixers[kinds[i]];
    } else {
        int64_t period = m->attn_layer_period, offset = m->attn_layer_offset;
        WEFT_TRY(check_period("attn", period, offset));
        for (int64_t i = 0; i < layers; i++)
            m->mixer[i] = period && i % period == offset ? WEFT_MIXER_ATTENTION : WEFT_MIXER_MAMBA;
    }

    if (m->ffn_pattern[0]) {
        WEFT_TRY(read_pattern("model.ffn_pattern", m->ffn_pattern, "DE.", "D (dense), E (experts), . (none)",
                              layers, kinds));
        for (int64_t i = 0; i < layers; i++) m->ffn[i] = ffns[kinds[i]];
    } else {
        int64_t period = m->expert_layer_period, offset = m->expert_layer_offset;
        WEFT_TRY(check_period("expert", period, offset));
        for (int64_t i = 0; i < layers; i++)
            m->ffn[i] = period && i % period == offset && m->num_experts > 1 ? WEFT_FFN_MOE : WEFT_FFN_DENSE;
    }
    return WEFT_OK;
}

/* ---- the model ---------------------------------------------------------------------------------- */

static weft_status check_attention(const weft_model_config *m) {
    int64_t heads = m->num_attention_heads, kv = m->num_key_value_heads;
    if (m->head_dim == 0 && m->hidden_size % heads != 0)
        WEFT_FAIL(
            WEFT_EINPUT,
            "model.hidden_size %lld is not a multiple of model.num_attention_heads %lld; change one, or set "
            "model.head_dim",
            LL(m->hidden_size), LL(heads));
    if (heads % kv != 0)
        WEFT_FAIL(WEFT_EINPUT,
                  "model.num_attention_heads %lld is not a multiple of model.num_key_value_heads %lld",
                  LL(heads), LL(kv));
    if (m->positions == WEFT_POS_ROPE && weft_head_dim(m) % 2 != 0)
        WEFT_FAIL(WEFT_EINPUT,
                  "model.positions rope rotates pairs: the head width %lld (model.head_dim) must be even",
                  LL(weft_head_dim(m)));
    return WEFT_OK;
}

static weft_status check_experts(const weft_model_config *m) {
    if (m->num_experts < 2)
        WEFT_FAIL(WEFT_EINPUT,
                  "model.ffn_pattern has layers with experts (E), but model.num_experts is %lld; it must be "
                  "at least 2",
                  LL(m->num_experts));
    if (m->num_experts_per_tok > m->num_experts)
        WEFT_FAIL(WEFT_EINPUT, "model.num_experts_per_tok %lld is more than model.num_experts %lld",
                  LL(m->num_experts_per_tok), LL(m->num_experts));
    return WEFT_OK;
}

static weft_status check_token(const char *key, int64_t id, int64_t vocab) {
    if (id >= vocab)
        WEFT_FAIL(WEFT_EINPUT, "model.%s %lld must be smaller than model.vocab_size %lld", key, LL(id),
                  LL(vocab));
    return WEFT_OK;
}

static weft_status check_model(const weft_model_config *m) {
    bool attention = false, experts = false, any_ffn = false;
    for (int64_t i = 0; i < m->num_hidden_layers; i++) {
        attention |= m->mixer[i] == WEFT_MIXER_ATTENTION;
        experts |= m->ffn[i] == WEFT_FFN_MOE;
        any_ffn |= m->ffn[i] != WEFT_FFN_NONE;
    }
    if (attention) WEFT_TRY(check_attention(m));
    if (experts) WEFT_TRY(check_experts(m));
    if (any_ffn && m->intermediate_size == 0)
        WEFT_FAIL(WEFT_EINPUT,
                  "model.intermediate_size is 0, but layers have a feed-forward part; give its width, or "
                  "a model.ffn_pattern of dots");
    WEFT_TRY(check_token("bos_token_id", m->bos_token_id, m->vocab_size));
    WEFT_TRY(check_token("eos_token_id", m->eos_token_id, m->vocab_size));
    return check_token("pad_token_id", m->pad_token_id, m->vocab_size);
}

/* Sizes are computed in 64-bit integers everywhere; here, in floating point, is where absurd ones are found.
 */
static weft_status check_sizes(const weft_config *c) {
    const weft_model_config *m = &c->model;
    double d = (double)m->hidden_size, f = (double)m->intermediate_size, x = (double)m->num_experts;
    double e = (double)weft_d_inner(m), n = (double)m->mamba_d_state, r = (double)weft_dt_rank(m);
    double attention = (double)m->num_attention_heads * (double)weft_head_dim(m);
    double layer = 4 * d * attention + e * (3 * d + 2 * r + 4 * n + 256) + x * (3 * d * f + d);
    double parameters = 2 * (double)m->vocab_size * d + (double)m->num_hidden_layers * layer;
    if (parameters > 1e15)
        WEFT_FAIL(WEFT_EINPUT, "the model section describes up to %.0e parameters; check its sizes",
                  parameters);

    double widths[] = {(double)m->vocab_size, f * (double)m->num_experts_per_tok, 2 * e, e * n, attention, d},
           width = 0;
    for (size_t i = 0; i < sizeof widths / sizeof *widths; i++)
        if (widths[i] > width) width = widths[i];
    double microbatch = (double)c->train.micro_batch * (double)c->train.seq_len;
    if (microbatch * width > 1e13)
        WEFT_FAIL(WEFT_EINPUT,
                  "train.micro_batch %lld times train.seq_len %lld is too large for a model of this width",
                  LL(c->train.micro_batch), LL(c->train.seq_len));
    if ((double)c->train.steps * (double)c->train.global_batch * (double)c->train.seq_len > 1e18)
        WEFT_FAIL(WEFT_EINPUT,
                  "train.steps %lld times train.global_batch %lld times train.seq_len %lld is more than "
                  "10^18 tokens",
                  LL(c->train.steps), LL(c->train.global_batch), LL(c->train.seq_len));
    return WEFT_OK;
}

/* ---- recompute_layers --------------------------------------------------------------------------- */

/* Reads one "N" or "N-M" and moves *text behind it. */
static bool read_span(const char **text, int64_t *first, int64_t *last) {
    char *end;
    if (**text < '0' || **text > '9') return false;
    *first = *last = strtoll(*text, &end, 10); /* out of range saturates, which the caller's bound refuses */
    *text = end;
    if (*end != '-') return true;
    if (end[1] < '0' || end[1] > '9') return false;
    *last = strtoll(end + 1, &end, 10);
    *text = end;
    return true;
}

static weft_status check_recompute_layers(const weft_config *c) {
    const char *list = c->train.recompute_layers, *p = list;
    int64_t layers = c->model.num_hidden_layers, first, last;
    while (*p) {
        if (!read_span(&p, &first, &last) || (*p && (*p != ',' || !p[1])))
            WEFT_FAIL(WEFT_EINPUT,
                      "train.recompute_layers '%.200s' has a mistake at position %zu; write it as 0-3,8",
                      list, (size_t)(p - list) + 1);
        if (first > last || last >= layers)
            WEFT_FAIL(WEFT_EINPUT,
                      "train.recompute_layers '%.200s': %lld-%lld is no range of layers 0 to %lld", list,
                      LL(first), LL(last), LL(layers - 1));
        p += *p == ',';
    }
    return WEFT_OK;
}

/* ---- training ----------------------------------------------------------------------------------- */

static weft_status derive_batch(weft_config *c) {
    int64_t tokens = c->train.global_batch_tokens, T = c->train.seq_len;
    if (tokens == 0) return WEFT_OK;
    if (tokens % T != 0)
        WEFT_FAIL(WEFT_EINPUT, "train.global_batch_tokens %lld is not a multiple of train.seq_len %lld",
                  LL(tokens), LL(T));
    c->train.global_batch = tokens / T;
    return WEFT_OK;
}

static weft_status check_training(const weft_config *c) {
    char lr[32], min_lr[32];
    if (c->train.global_batch % c->train.micro_batch != 0)
        WEFT_FAIL(WEFT_EINPUT, "train.global_batch %lld is not a multiple of train.micro_batch %lld",
                  LL(c->train.global_batch), LL(c->train.micro_batch));
    if (c->optim.schedule == WEFT_SCHED_WSD && c->optim.decay_steps > 0 &&
        c->optim.decay_steps > c->train.steps - c->optim.warmup)
        WEFT_FAIL(WEFT_EINPUT,
                  "optim.warmup %lld and optim.decay_steps %lld together are longer than train.steps %lld",
                  LL(c->optim.warmup), LL(c->optim.decay_steps), LL(c->train.steps));
    if (c->optim.min_lr > c->optim.lr) {
        weft_real_text(c->optim.lr, lr);
        weft_real_text(c->optim.min_lr, min_lr);
        WEFT_FAIL(WEFT_EINPUT, "optim.min_lr %s is larger than optim.lr %s", min_lr, lr);
    }
    return check_recompute_layers(c);
}

static weft_status check_weights(const weft_config *c) {
    double sum = 0;
    for (int64_t i = 0; i < c->data.weights_count; i++) sum += c->data.weights[i].weight;
    if (c->data.weights_count > 0 && !(sum > 0 && sum <= 1e300))
        WEFT_FAIL(WEFT_EINPUT, "the weights in data.weights must have a sum above 0 (and below 1e300)");
    return WEFT_OK;
}

weft_status weft_config_finish(weft_config *c) {
    /* Values may also have come from elsewhere than files, so the ranges of single keys are checked again. */
    for (int i = 0; i < weft_fields_count; i++)
        WEFT_TRY(weft_field_check(c, &weft_fields[i], "configuration"));
    WEFT_TRY(derive_batch(c));
    WEFT_TRY(derive_layers(&c->model));
    WEFT_TRY(check_model(&c->model));
    WEFT_TRY(check_sizes(c));
    WEFT_TRY(check_weights(c));
    return check_training(c);
}
