/* What a model costs: counted from the same table and blocks that run. */
#include "model/model.h"

#include <stdlib.h>

int64_t weft_model_active_params(const weft_model *m) {
    int64_t total = 0;
    for (int64_t i = 0; i < m->table.count; i++) {
        const weft_param *p = &m->table.rows[i];
        /* Which experts a token meets varies, how many does not; all have one size. */
        if (p->expert < m->config.num_experts_per_tok) total += p->numel;
    }
    return total;
}

double weft_model_train_flops(const weft_model *m, int64_t T) {
    double forward = 2.0 * (double)(m->config.hidden_size * m->config.vocab_size);
    for (int64_t i = 0; i < m->block_count; i++) forward += m->blocks[i].kind->flops(&m->blocks[i], T);
    return 3 * forward; /* backward: one product for the data, one for the weights */
}

int64_t weft_model_kv_bytes(const weft_model *m, int64_t T, int64_t bits) {
    int64_t layers = 0;
    for (int64_t i = 0; i < m->block_count; i++) layers += m->blocks[i].kind == &weft_block_attention;
    return 2 * layers * m->config.num_key_value_heads * weft_head_dim(&m->config) * T * bits / 8;
}

int64_t weft_model_state_bytes(const weft_model *m, int64_t conv_bits) {
    const weft_model_config *c = &m->config;
    int64_t layers = 0, E = weft_d_inner(c);
    for (int64_t i = 0; i < m->block_count; i++) layers += m->blocks[i].kind == &weft_block_mamba;
    return layers * (E * c->mamba_d_state * 4 + E * (c->mamba_d_conv - 1) * conv_bits / 8);
}

weft_status weft_model_prompt_bytes(weft_model *m, weft_device *dry, int64_t tokens, size_t *bytes) {
    weft_block_cache *caches = calloc((size_t)(m->block_count ? m->block_count : 1), sizeof *caches);
    weft_arena held = {0};
    if (!caches) WEFT_FAIL(WEFT_ENOMEM, "no memory for %lld blocks", (long long)m->block_count);
    weft_status st = weft_arena_init_measuring(&held, "caches");
    if (st == WEFT_OK) {
        weft_model_make_caches(m, &held, tokens, dry->act_dtype, caches);
        dry->act.top = dry->act.peak = 0;
        weft_model_decode(m, dry, NULL, caches, NULL, tokens, 0, NULL);
        *bytes = dry->act.peak;
    }
    weft_arena_destroy(&held);
    free(caches);
    return st;
}
