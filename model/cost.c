/* What a model costs: counted from the same table and blocks that run. */
#include "model/model.h"

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
