#include "model/params.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ALIGN_ELEMENTS = 16 };

int64_t weft_params_add(weft_params *p, const weft_param *row, bool joined) {
    if (p->count == p->capacity) {
        int64_t capacity = p->capacity ? 2 * p->capacity : 64;
        weft_param *rows = realloc(p->rows, (size_t)capacity * sizeof *rows);
        WEFT_CHECK(rows, "no memory for the parameter table of %lld rows", (long long)capacity);
        p->rows = rows;
        p->capacity = capacity;
    }
    weft_param *r = &p->rows[p->count];
    *r = *row;
    r->numel = 1;
    for (int i = 0; i < r->ndim; i++) r->numel *= r->shape[i];
    if (!joined) p->flat = (p->flat + ALIGN_ELEMENTS - 1) / ALIGN_ELEMENTS * ALIGN_ELEMENTS;
    r->offset = p->flat;
    p->flat += r->numel;
    return p->count++;
}

void weft_params_free(weft_params *p) {
    free(p->rows);
    *p = (weft_params){0};
}

const weft_param *weft_params_find(const weft_params *p, const char *name) {
    for (int64_t i = 0; i < p->count; i++)
        if (strcmp(p->rows[i].name, name) == 0) return &p->rows[i];
    return NULL;
}

int64_t weft_params_total(const weft_params *p) {
    int64_t total = 0;
    for (int64_t i = 0; i < p->count; i++) total += p->rows[i].numel;
    return total;
}

/* The delta that dt_bias stands for, log-uniform in [0.001, 0.1], not below 1e-4; then the inverse of
 * softplus. */
static double dt_bias_value(double uniform) {
    double dt = exp(uniform * (log(0.1) - log(0.001)) + log(0.001));
    if (dt < 1e-4) dt = 1e-4;
    return dt + log(-expm1(-dt));
}

static void init_row(const weft_param *r, weft_real *out, uint64_t seed) {
    weft_rng rng = weft_rng_make(seed, r->name);
    int64_t last = r->shape[r->ndim - 1];
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < r->numel; i++) {
        double v = 0;
        switch (r->init) {
        case WEFT_INIT_NORMAL:
            v = r->init_scale * weft_rng_normal(rng, (uint64_t)i);
            break;
        case WEFT_INIT_UNIFORM:
            v = r->init_scale * (2 * weft_rng_uniform(rng, (uint64_t)i) - 1);
            break;
        case WEFT_INIT_ONES:
            v = 1;
            break;
        case WEFT_INIT_ZEROS:
            v = 0;
            break;
        case WEFT_INIT_A_LOG:
            v = log((double)(i % last + 1));
            break;
        case WEFT_INIT_DT_BIAS:
            v = dt_bias_value(weft_rng_uniform(rng, (uint64_t)i));
            break;
        }
        out[i] = (weft_real)(float)v; /* the same values in the double build */
    }
}

void weft_params_init(const weft_params *p, weft_real *flat, uint64_t seed) {
    memset(flat, 0, (size_t)p->flat * sizeof *flat);
    for (int64_t i = 0; i < p->count; i++) init_row(&p->rows[i], flat + p->rows[i].offset, seed);
}
