#include "model/params.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ALIGN_ELEMENTS = 16 };

static int64_t round_up(int64_t n, int64_t to) {
    return (n + to - 1) / to * to;
}

/* The part of the tensor that this rank holds. */
static void take_slice(weft_param *r, const weft_params *p) {
    int tp = p->mesh.size[WEFT_AXIS_TP], index = p->mesh.index[WEFT_AXIS_TP];
    r->numel = r->held = 1;
    r->copies = r->split == WEFT_REPLICATED ? tp : 1;
    r->copy = r->split == WEFT_REPLICATED ? index : 0;
    for (int d = 0; d < r->ndim; d++) {
        r->start[d] = 0, r->extent[d] = r->shape[d];
        r->numel *= r->shape[d];
    }
    if (r->split == WEFT_SHARD) {
        int64_t units = r->split_units ? r->split_units : r->shape[r->split_dim];
        int64_t width = r->shape[r->split_dim] / units;
        weft_part part = weft_part_of(units, tp, index);
        if (units < tp) { /* neighbours hold the same unit */
            part = (weft_part){index * units / tp, 1};
            r->copies = (int)(tp / units);
            r->copy = index % r->copies;
        }
        r->start[r->split_dim] = part.start * width;
        r->extent[r->split_dim] = part.count * width;
    }
    for (int d = 0; d < r->ndim; d++) r->held *= r->extent[d];
    if (r->expert >= 0) {
        weft_part mine = weft_part_of(p->experts, p->mesh.size[WEFT_AXIS_EP], p->mesh.index[WEFT_AXIS_EP]);
        if (r->expert < mine.start || r->expert >= mine.start + mine.count) r->held = 0;
    }
}

static int add_bucket(weft_params *p, const char *name, bool expert, bool full, int unit) {
    if (p->bucket_count == p->bucket_capacity) {
        int capacity = p->bucket_capacity ? 2 * p->bucket_capacity : 32;
        weft_bucket *buckets = realloc(p->buckets, (size_t)capacity * sizeof *buckets);
        WEFT_CHECK(buckets, "no memory for %d buckets of parameters", capacity);
        p->buckets = buckets;
        p->bucket_capacity = capacity;
    }
    weft_bucket *b = &p->buckets[p->bucket_count];
    *b = (weft_bucket){.expert = expert, .full = full, .unit = unit, .late_grads = unit == WEFT_UNIT_ALWAYS};
    snprintf(b->name, sizeof b->name, "%s", name);
    return p->bucket_count++;
}

/* Buckets of one unit are neighbours, so that the search need not look far. */
static int bucket_of(weft_params *p, const weft_param *r) {
    char name[WEFT_BUCKET_NAME];
    bool expert = r->expert >= 0, full = r->full && p->act != WEFT_REAL_DTYPE;
    int unit = (int)r->layer + 1;
    if (p->bucket_count == 0) add_bucket(p, "shared", false, false, WEFT_UNIT_ALWAYS);
    if (r->split == WEFT_REPLICATED && !expert) return 0;
    if (r->layer < 0) {
        snprintf(name, sizeof name, "%.*s", (int)sizeof name - 1, r->name);
        unit = p->bucket_count == 1 ? 0 : (int)p->layers + 1;
    } else {
        snprintf(name, sizeof name, "layers.%lld%s", (long long)r->layer,
                 expert ? ".experts"
                 : full ? ".full"
                        : "");
    }
    for (int b = p->bucket_count - 1; b > 0 && b > p->bucket_count - 4; b--)
        if (strcmp(p->buckets[b].name, name) == 0) return b;
    return add_bucket(p, name, expert, full, unit);
}

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
    take_slice(r, p);
    r->bucket = bucket_of(p, r);
    weft_bucket *b = &p->buckets[r->bucket];
    if (!joined) b->elements = round_up(b->elements, ALIGN_ELEMENTS);
    r->offset = b->elements;
    b->elements += r->held;
    return p->count++;
}

void weft_params_place(weft_params *p) {
    p->flat = p->shards = 0;
    for (int i = 0; i < p->bucket_count; i++) {
        weft_bucket *b = &p->buckets[i];
        int mine = 0, ranks = weft_mesh_group(&p->mesh, weft_bucket_shards(b), 1, NULL, &mine);
        b->elements = round_up(b->elements, WEFT_SHARD_GRAIN);
        b->shard = weft_shard_of(b->elements, ranks, mine);
        b->offset = p->flat;
        b->shard_at = p->shards;
        p->flat += b->elements;
        p->shards += b->shard.count;
    }
    for (int64_t i = 0; i < p->count; i++) {
        weft_bucket *b = &p->buckets[p->rows[i].bucket];
        p->rows[i].at = b->offset + p->rows[i].offset;
        b->copied |= p->rows[i].copies > 1;
    }
}

void weft_params_free(weft_params *p) {
    free(p->rows);
    free(p->buckets);
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

bool weft_params_piece(const weft_params *p, const weft_param *r, weft_piece *out) {
    const weft_bucket *b = &p->buckets[r->bucket];
    int64_t begin = b->shard.start, end = begin + b->shard.count;
    if (begin < r->offset) begin = r->offset;
    if (end > r->offset + r->held) end = r->offset + r->held;
    if (begin >= end) return false;
    *out = (weft_piece){begin - r->offset, end - begin, b->shard_at + begin - b->shard.start};
    return true;
}

/* The delta that dt_bias stands for, log-uniform in [0.001, 0.1], not below 1e-4; then the inverse of
 * softplus. */
static double dt_bias_value(double uniform) {
    double dt = exp(uniform * (log(0.1) - log(0.001)) + log(0.001));
    if (dt < 1e-4) dt = 1e-4;
    return dt + log(-expm1(-dt));
}

/* Index in the whole tensor of element i of this rank's slice. */
static int64_t whole_index(const weft_param *r, int64_t i) {
    int64_t at = 0, stride = 1;
    for (int d = r->ndim - 1; d >= 0; d--) {
        at += (r->start[d] + i % r->extent[d]) * stride;
        i /= r->extent[d];
        stride *= r->shape[d];
    }
    return at;
}

/* Elements first .. first + count of the row's slice. */
static void init_row(const weft_param *r, int64_t first, int64_t count, weft_real *out, uint64_t seed) {
    weft_rng rng = weft_rng_make(seed, r->name);
    int64_t last = r->shape[r->ndim - 1];
#pragma omp parallel for schedule(static)
    for (int64_t k = 0; k < count; k++) {
        int64_t i = whole_index(r, first + k);
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
        out[k] = (weft_real)(float)v; /* the same values in the double build */
    }
}

void weft_params_init(const weft_params *p, weft_real *flat, uint64_t seed) {
    memset(flat, 0, (size_t)p->flat * sizeof *flat);
    for (int64_t i = 0; i < p->count; i++)
        init_row(&p->rows[i], 0, p->rows[i].held, flat + p->rows[i].at, seed);
}

void weft_params_init_shards(const weft_params *p, weft_real *shards, uint64_t seed) {
    weft_piece piece;
    memset(shards, 0, (size_t)p->shards * sizeof *shards);
    for (int64_t i = 0; i < p->count; i++)
        if (weft_params_piece(p, &p->rows[i], &piece))
            init_row(&p->rows[i], piece.first, piece.count, shards + piece.at, seed);
}
