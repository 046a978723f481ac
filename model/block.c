#include "model/block.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

weft_param weft_param_make(const char *name, int ndim, const int64_t *shape, weft_init init, double scale) {
    weft_param p = {
        .ndim = ndim, .init = init, .init_scale = scale, .decay = ndim > 1, .layer = -1, .expert = -1};
    snprintf(p.name, sizeof p.name, "%s", name);
    snprintf(p.hf_name, sizeof p.hf_name, "model.%.*s.weight", (int)(sizeof p.hf_name - 14), name);
    p.hf_ndim = ndim;
    for (int i = 0; i < ndim; i++) p.shape[i] = p.hf_shape[i] = shape[i];
    return p;
}

static weft_param in_layer(int64_t layer, const char *name, int ndim, const int64_t *shape, weft_init init,
                           double scale) {
    char full[WEFT_PARAM_NAME];
    snprintf(full, sizeof full, "layers.%lld.%s", (long long)layer, name);
    weft_param p = weft_param_make(full, ndim, shape, init, scale);
    p.layer = layer;
    return p;
}

weft_param weft_param_matrix(int64_t layer, const char *name, int64_t rows, int64_t cols, int split_dim,
                             double scale) {
    weft_param p = in_layer(layer, name, 2, (int64_t[]){rows, cols}, WEFT_INIT_NORMAL, scale);
    if (split_dim >= 0) p.split = WEFT_SHARD, p.split_dim = split_dim;
    return p;
}

weft_param weft_param_vector(int64_t layer, const char *name, int64_t n, weft_init init) {
    return in_layer(layer, name, 1, &n, init, 0);
}

void weft_param_hf_part(weft_param *p, const char *hf_name, int64_t row, int64_t rows) {
    snprintf(p->hf_name, sizeof p->hf_name, "%s", hf_name);
    p->hf_row = row;
    p->hf_shape[0] = rows;
}

double weft_residual_scale(const weft_model_config *c) {
    return c->initializer_range / sqrt(2.0 * (double)c->num_hidden_layers);
}
