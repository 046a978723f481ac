#include "model/layout.h"

#include <stdio.h>

#define LL(x) ((long long)(x))

/* The kinds of layers that a model has. */
typedef struct kinds {
    bool attention, mamba, ffn, experts;
} kinds;

static kinds kinds_of(const weft_model_config *m) {
    kinds k = {0};
    for (int64_t i = 0; i < m->num_hidden_layers; i++) {
        k.attention |= m->mixer[i] == WEFT_MIXER_ATTENTION;
        k.mamba |= m->mixer[i] == WEFT_MIXER_MAMBA;
        k.ffn |= m->ffn[i] != WEFT_FFN_NONE;
        k.experts |= m->ffn[i] == WEFT_FFN_MOE;
    }
    return k;
}

int weft_layout_kv_ranks(const weft_model_config *m, const weft_mesh *mesh) {
    int64_t tp = mesh->size[WEFT_AXIS_TP];
    return kinds_of(m).attention && tp > m->num_key_value_heads ? (int)(tp / m->num_key_value_heads) : 1;
}

/* ---- tensor parallelism ------------------------------------------------------------------------- */

/* Sizes that are cut into tp parts, none of them empty. */
typedef struct cut {
    const char *what;
    int64_t size;
} cut;
enum { CUTS = 3 };

static int cuts_of(const weft_model_config *m, kinds k, cut *cuts) {
    int n = 0;
    cuts[n++] = (cut){"model.vocab_size", m->vocab_size};
    if (k.mamba) cuts[n++] = (cut){"the inner width of Mamba", weft_d_inner(m)};
    if (k.ffn) cuts[n++] = (cut){"model.intermediate_size", m->intermediate_size};
    return n;
}

static bool kv_heads_fit(int64_t heads, int64_t tp) {
    return heads % tp == 0 || tp % heads == 0;
}

static bool tp_works(const weft_model_config *m, kinds k, int64_t tp) {
    cut cuts[CUTS];
    int n = cuts_of(m, k, cuts);
    for (int i = 0; i < n; i++)
        if (tp > cuts[i].size) return false;
    return !k.attention || (m->num_attention_heads % tp == 0 && kv_heads_fit(m->num_key_value_heads, tp));
}

/* "4", or "4 or 8": the nearest sizes below and above that work. 1 always does. */
static const char *tp_remedy(const weft_model_config *m, kinds k, int64_t tp, char *out, size_t bytes) {
    int64_t below = tp - 1, above = tp + 1, most = k.attention ? m->num_attention_heads : 0;
    while (!tp_works(m, k, below)) below--;
    while (above <= most && !tp_works(m, k, above)) above++;
    if (above <= most)
        snprintf(out, bytes, "%lld or %lld", LL(below), LL(above));
    else
        snprintf(out, bytes, "%lld", LL(below));
    return out;
}

static weft_status check_tp(const weft_model_config *m, kinds k, int64_t tp) {
    int64_t heads = m->num_attention_heads, kv = m->num_key_value_heads;
    cut cuts[CUTS];
    int n = cuts_of(m, k, cuts);
    char remedy[64];
    if (tp == 1 || tp_works(m, k, tp)) return WEFT_OK;
    tp_remedy(m, k, tp, remedy, sizeof remedy);
    for (int i = 0; i < n; i++)
        if (tp > cuts[i].size)
            WEFT_FAIL(WEFT_EINPUT, "mesh.tp %lld is more than %s %lld, which it cuts; mesh.tp could be %s",
                      LL(tp), cuts[i].what, LL(cuts[i].size), remedy);
    if (heads % tp != 0)
        WEFT_FAIL(WEFT_EINPUT,
                  "model.num_attention_heads %lld is not a multiple of mesh.tp %lld; mesh.tp could be %s",
                  LL(heads), LL(tp), remedy);
    WEFT_FAIL(WEFT_EINPUT,
              "of model.num_key_value_heads %lld and mesh.tp %lld neither is a multiple of the other; "
              "mesh.tp could "
              "be %s",
              LL(kv), LL(tp), remedy);
}

/* ---- expert and context parallelism, rows ------------------------------------------------------- */

static weft_status check_ep(const weft_model_config *m, kinds k, int64_t ep) {
    if (ep > 1 && !k.experts)
        WEFT_FAIL(WEFT_EINPUT, "mesh.ep is %lld, but the model has no layer with experts; leave it at 1",
                  LL(ep));
    if (ep > 1 && ep > m->num_experts)
        WEFT_FAIL(WEFT_EINPUT,
                  "mesh.ep %lld is more than model.num_experts %lld; mesh.ep can be at most that", LL(ep),
                  LL(m->num_experts));
    return WEFT_OK;
}

/* Tokens that a chunk must have at least. */
static int64_t least_chunk(const weft_model_config *m, kinds k) {
    return k.mamba && m->mamba_d_conv > 2 ? m->mamba_d_conv - 1 : 1;
}

static weft_status check_cp(const weft_model_config *m, kinds k, int64_t seq_len, int64_t cp) {
    int64_t chunks = 2 * cp, least = least_chunk(m, k);
    if (cp == 1 || (seq_len % chunks == 0 && seq_len / chunks >= least)) return WEFT_OK;
    int64_t fewer = cp - 1, longer = (seq_len + chunks - 1) / chunks * chunks;
    while (fewer > 1 && (seq_len % (2 * fewer) != 0 || seq_len / (2 * fewer) < least)) fewer--;
    if (longer < chunks * least) longer = chunks * least;
    if (seq_len % chunks != 0)
        WEFT_FAIL(WEFT_EINPUT,
                  "train.seq_len %lld is not a multiple of 2 * mesh.cp, which is %lld; train.seq_len could "
                  "be %lld, or "
                  "mesh.cp %lld",
                  LL(seq_len), LL(chunks), LL(longer), LL(fewer));
    WEFT_FAIL(WEFT_EINPUT,
              "train.seq_len %lld over 2 * mesh.cp, which is %lld, makes chunks of %lld tokens, but Mamba's "
              "convolution "
              "looks back %lld (model.mamba_d_conv - 1); train.seq_len could be %lld, or mesh.cp %lld",
              LL(seq_len), LL(chunks), LL(seq_len / chunks), LL(least), LL(longer), LL(fewer));
}

static int64_t common_divisor(int64_t a, int64_t b) {
    while (b) {
        int64_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

static weft_status check_rows(int64_t micro_batch, int64_t seq_len, int64_t cp, int64_t tp) {
    int64_t tokens = seq_len / cp, step = tp / common_divisor(tokens, tp);
    if (micro_batch % step == 0) return WEFT_OK;
    WEFT_FAIL(WEFT_EINPUT,
              "train.micro_batch %lld times train.seq_len %lld over mesh.cp %lld is %lld tokens, not a "
              "multiple of mesh.tp "
              "%lld; train.micro_batch could be %lld",
              LL(micro_batch), LL(seq_len), LL(cp), LL(micro_batch * tokens), LL(tp),
              LL((micro_batch + step - 1) / step * step));
}

weft_status weft_layout_check(const weft_model_config *m, int64_t micro_batch, int64_t seq_len,
                              const weft_mesh *mesh) {
    kinds k = kinds_of(m);
    int64_t cp = mesh->size[WEFT_AXIS_CP], tp = mesh->size[WEFT_AXIS_TP];
    WEFT_TRY(check_tp(m, k, tp));
    WEFT_TRY(check_ep(m, k, mesh->size[WEFT_AXIS_EP]));
    WEFT_TRY(check_cp(m, k, seq_len, cp));
    return check_rows(micro_batch, seq_len, cp, tp);
}
