/* The configuration: one struct, filled from YAML files, `key=value` overrides and defaults by one field
 * table (config_fields.c), which also validates, documents and prints it. */
#ifndef WEFT_CONFIG_H
#define WEFT_CONFIG_H

#include "parallel/mesh.h"
#include "runtime/device.h"
#include "parallel/store.h"
#include "runtime/status.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#define WEFT_CONFIG_STR 1024
#define WEFT_MAX_LAYERS 1024
#define WEFT_MAX_DOMAINS 32

typedef enum weft_mixer { WEFT_MIXER_NONE, WEFT_MIXER_ATTENTION, WEFT_MIXER_MAMBA } weft_mixer;
typedef enum weft_ffn { WEFT_FFN_NONE, WEFT_FFN_DENSE, WEFT_FFN_MOE } weft_ffn;
typedef enum weft_positions { WEFT_POS_NONE, WEFT_POS_ROPE } weft_positions;
typedef enum weft_schedule_kind { WEFT_SCHED_COSINE, WEFT_SCHED_WSD, WEFT_SCHED_CONSTANT } weft_schedule_kind;
typedef enum weft_device_kind { WEFT_DEVICE_AUTO, WEFT_DEVICE_CPU, WEFT_DEVICE_CUDA } weft_device_kind;
typedef enum weft_precision { WEFT_PRECISION_FP32, WEFT_PRECISION_BF16 } weft_precision;
typedef enum weft_recompute {
    WEFT_RECOMPUTE_NONE,
    WEFT_RECOMPUTE_MIXER,
    WEFT_RECOMPUTE_FFN,
    WEFT_RECOMPUTE_ALL
} weft_recompute;
typedef enum weft_packing { WEFT_PACKING_CONCAT, WEFT_PACKING_WHOLE } weft_packing;
typedef enum weft_deterministic { WEFT_DET_LAYOUT, WEFT_DET_RUN } weft_deterministic;

/* Names follow Hugging Face's JambaConfig where it has one. */
typedef struct weft_model_config {
    int64_t vocab_size, hidden_size, intermediate_size, num_hidden_layers;
    int64_t num_attention_heads, num_key_value_heads;
    int64_t head_dim;                                 /* 0: hidden_size / num_attention_heads */
    int64_t attn_layer_period, attn_layer_offset;     /* period 0: no attention layer */
    int64_t expert_layer_period, expert_layer_offset; /* period 0: no MoE layer */
    char mixer_pattern[WEFT_MAX_LAYERS +
                       1]; /* one symbol a layer: A attention, M Mamba, . none; "": by period */
    char ffn_pattern[WEFT_MAX_LAYERS + 1]; /* one symbol a layer: D dense, E experts, . none; "": by period */
    int64_t num_experts, num_experts_per_tok;
    bool norm_topk_prob;
    double router_aux_loss_coef, router_z_loss_coef, activation_loss_coef;
    int64_t mamba_d_state, mamba_d_conv, mamba_expand;
    int64_t mamba_dt_rank; /* 0 ("auto"): ceil(hidden_size / 16) */
    bool mamba_conv_bias, mamba_proj_bias, mamba_inner_norm;
    weft_positions positions;
    double rope_theta;
    double rms_norm_eps, initializer_range;
    bool tie_word_embeddings;
    int64_t bos_token_id, eos_token_id, pad_token_id;

    /* Derived by weft_config_finish. */
    weft_mixer mixer[WEFT_MAX_LAYERS];
    weft_ffn ffn[WEFT_MAX_LAYERS];
} weft_model_config;

typedef struct weft_domain_weight {
    char name[64];
    double weight;
} weft_domain_weight;

typedef struct weft_config {
    char run[WEFT_CONFIG_STR];
    int64_t seed;
    weft_device_kind device;
    weft_precision precision;
    bool tf32;
    weft_attention_kernel attention; /* on a GPU */
    weft_model_config model;
    struct {
        char path[WEFT_CONFIG_STR]; /* directory of shards, or "random" */
        int64_t
            weights_count; /* mapping data.weights: {books: 2.0, code: 1.0}; none: in proportion to tokens */
        weft_domain_weight weights[WEFT_MAX_DOMAINS];
        weft_packing packing; /* how documents become sequences */
        int64_t max_epochs;   /* no domain comes more often; 0: no limit */
        bool document_mask;   /* packed documents do not see each other */
        int64_t cache_mib;    /* decoded chunks kept in memory */
    } data;
    struct {
        int64_t steps, global_batch, micro_batch, seq_len;
        int64_t global_batch_tokens; /* 0: global_batch counts; else finish derives it: tokens / seq_len */
        weft_deterministic deterministic;
        weft_recompute recompute;
        char recompute_layers[WEFT_CONFIG_STR]; /* "" all layers, or "0-3,8" */
        int64_t loss_chunk;                     /* rows of logits that exist at a time */
    } train;
    struct {
        double lr, min_lr, beta1, beta2, eps, weight_decay, clip;
        weft_schedule_kind schedule;
        int64_t warmup;      /* steps */
        int64_t decay_steps; /* WSD: length of the final decay; 0: a tenth of train.steps */
    } optim;
    struct {
        weft_mesh_sizes sizes; /* 0: auto */
        weft_reshard reshard;
        int64_t ep_passes;     /* 0 (auto): as many as ep */
        bool prefetch;         /* the next layer's weights are gathered while this one computes */
        weft_precision reduce; /* type in which gradients travel */
        double timeout;        /* seconds that a collective may take; 0: any */
    } mesh;
    struct {
        int64_t every, keep, keep_every; /* steps; newest K; every Nth kept for ever (0: none) */
        bool compress;                   /* shuffle + zstd-1 on float data */
    } checkpoint;
    struct {
        char resume[WEFT_CONFIG_STR]; /* auto | never | a checkpoint directory */
    } start;                          /* keys at top level: resume */
    struct {
        int64_t every; /* console lines, steps */
    } log;
} weft_config;

/* Defaults for everything. */
void weft_config_defaults(weft_config *c);

/* YAML file: nested mappings of the table's keys, on top of what c holds; `include: other.yaml` (relative to
 * the file) is read first. Errors (unknown key with the nearest known key, wrong type, out of range,
 * duplicate key, syntax) are reported with file:line:column; c is then unchanged. data.weights adds to the
 * mapping in c, {} empties it. */
weft_status weft_config_load(weft_config *c, const char *path);
/* One "key=value" from the command line; `where` names the source in errors ("command line", "checkpoint").
 */
weft_status weft_config_override(weft_config *c, const char *assignment, const char *where);
/* Derives the layers (mixer, ffn), checks the range of every key and every rule that joins several. Call
 * after load and overrides; calling it again is harmless. */
weft_status weft_config_finish(weft_config *c);

/* Defaults + file + overrides + finish. argv: remaining arguments, each "key=value". */
weft_status weft_config_read(weft_config *c, const char *path, int argc, char **argv);
/* From YAML text kept in a checkpoint; `name` for errors. Refuses `include`. Does not finish. */
weft_status weft_config_parse(weft_config *c, const char *text, size_t bytes, const char *name);

/* Writes every key as YAML that weft_config_load reads back to the same bytes (floats: the shortest exact
 * text). */
void weft_config_print_yaml(const weft_config *c, FILE *out);
char *weft_config_to_yaml(const weft_config *c); /* malloc'ed, NULL when out of memory */
void weft_config_print_doc(FILE *out);           /* reference: key, type, default, unit, range, text */
/* The same as JSON (auto stays the word); malloc'ed, NULL when out of memory. */
char *weft_config_to_json(const weft_config *c);

/* Derived sizes. */
static inline int64_t weft_head_dim(const weft_model_config *m) {
    return m->head_dim ? m->head_dim : m->hidden_size / m->num_attention_heads;
}
static inline int64_t weft_d_inner(const weft_model_config *m) {
    return m->mamba_expand * m->hidden_size;
}
static inline int64_t weft_dt_rank(const weft_model_config *m) {
    return m->mamba_dt_rank ? m->mamba_dt_rank : (m->hidden_size + 15) / 16;
}

#endif
