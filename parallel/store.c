#include "parallel/store.h"
#include "ops.h"

#include <stdlib.h>
#include <string.h>

enum {
    NOWHERE = -1,
    KEPT = 2
}; /* where a unit lies besides the low (0) and the high end (1) of the region */

struct weft_store {
    weft_store_options o;
    bool whole; /* the caller's arrays */
    const weft_real *shards;
    weft_real **weights, **grads;
    weft_real **memory, **grad_memory; /* of buckets with a place of their own */
    weft_real *region, *grad_region;
    int64_t region_size;
    int *place;   /* of a unit: NOWHERE, 0, 1 or KEPT */
    int owner[2]; /* unit that lies at an end of the region, or NOWHERE */
    bool always;  /* the buckets that are always needed are gathered and up to date */
    weft_request *pending;
    weft_real *grad_shards;
    bool accumulate;
    weft_store_bytes bytes;
};

/* Is the bucket cut over more than this rank? Otherwise its shard is the whole slice and nothing moves. */
static bool is_cut(const weft_store *s, const weft_bucket *b) {
    return s->o.comm->group[weft_bucket_shards(b)].size > 1;
}

static weft_status allocate(weft_store **out, const weft_store_options *o) {
    weft_store *s = calloc(1, sizeof *s);
    size_t n = (size_t)o->bucket_count;
    if (s) {
        s->o = *o;
        s->weights = calloc(4 * n, sizeof *s->weights);
        s->pending = calloc(n, sizeof *s->pending);
        s->place = malloc(((size_t)o->units + 1) * sizeof *s->place);
    }
    if (!s || !s->weights || !s->pending || !s->place) {
        weft_store_close(s);
        WEFT_FAIL(WEFT_ENOMEM, "no memory for %d buckets of parameters", o->bucket_count);
    }
    s->grads = s->weights + n;
    s->memory = s->grads + n;
    s->grad_memory = s->memory + n;
    *out = s;
    return WEFT_OK;
}

weft_status weft_store_open(weft_store **out, const weft_store_options *o) {
    return allocate(out, o);
}

weft_status weft_store_open_whole(weft_store **out, const weft_bucket *buckets, int bucket_count) {
    WEFT_TRY(allocate(out, &(weft_store_options){.buckets = buckets, .bucket_count = bucket_count}));
    (*out)->whole = true;
    return WEFT_OK;
}

void weft_store_set_whole(weft_store *s, const weft_real *weights, weft_real *grads) {
    for (int b = 0; b < s->o.bucket_count; b++) {
        s->weights[b] = (weft_real *)weights + s->o.buckets[b].offset; /* read only: see weft_store_weights */
        s->grads[b] = grads ? grads + s->o.buckets[b].offset : NULL;
    }
}

void weft_store_close(weft_store *s) {
    if (!s) return;
    free(s->weights);
    free(s->pending);
    free(s->place);
    free(s);
}

/* ---- memory ---- */

/* Elements of the unit's cut buckets; of those whose gradient is reduced as the unit ends. */
static int64_t unit_size(const weft_store *s, int unit, bool grads) {
    int64_t n = 0;
    for (int i = 0; i < s->o.bucket_count; i++) {
        const weft_bucket *b = &s->o.buckets[i];
        if (b->unit == unit && is_cut(s, b) && !(grads && b->late_grads)) n += b->elements;
    }
    return n;
}

/* Room for any two units that are used one after the other; the head may be the embedding's. */
static int64_t region_needed(const weft_store *s) {
    int64_t most = 0;
    for (int u = 0; u < s->o.units; u++) {
        int64_t size = unit_size(s, u, false);
        if (s->o.prefetch) {
            int64_t next = u + 1 < s->o.units ? unit_size(s, u + 1, false) : 0;
            if (next < unit_size(s, 0, false) && u + 2 == s->o.units) next = unit_size(s, 0, false);
            size += next;
        }
        if (size > most) most = size;
    }
    return most;
}

static weft_real *push(weft_arena *a, int64_t elements, size_t *bytes) {
    *bytes += (size_t)elements * sizeof(weft_real);
    return weft_arena_push(a, (size_t)elements * sizeof(weft_real));
}

void weft_store_place(weft_store *s, weft_arena *arena, const weft_real *shards) {
    int64_t most = 0;
    bool keep = s->o.reshard != WEFT_RESHARD_ALWAYS;
    s->shards = shards;
    s->bytes = (weft_store_bytes){0};
    s->always = false;
    s->owner[0] = s->owner[1] = NOWHERE;
    for (int u = 0; u < s->o.units; u++) {
        int64_t size = unit_size(s, u, true);
        s->place[u] = NOWHERE;
        if (size > most) most = size;
    }
    s->region_size = keep ? 0 : region_needed(s);
    s->region = push(arena, s->region_size, &s->bytes.weights);
    s->grad_region = push(arena, most, &s->bytes.gradients);
    for (int i = 0; i < s->o.bucket_count; i++) {
        const weft_bucket *b = &s->o.buckets[i];
        s->weights[i] = s->grads[i] = NULL;
        if (!is_cut(s, b)) continue;
        bool own = keep || b->unit == WEFT_UNIT_ALWAYS;
        s->memory[i] = own ? push(arena, b->elements, &s->bytes.weights) : NULL;
        s->grad_memory[i] = b->late_grads ? push(arena, b->elements, &s->bytes.gradients) : NULL;
    }
}

weft_store_bytes weft_store_memory(const weft_store *s) {
    return s->bytes;
}

/* ---- weights ---- */

const weft_real *weft_store_weights(const weft_store *s, int bucket) {
    return s->weights[bucket];
}
weft_real *weft_store_grads(const weft_store *s, int bucket) {
    return s->grads[bucket];
}

/* Starts to gather a bucket into `all`; one that is not cut lies whole in the shards. */
static void provide(weft_store *s, int i, weft_real *all) {
    const weft_bucket *b = &s->o.buckets[i];
    if (!is_cut(s, b)) {
        s->weights[i] = (weft_real *)s->shards + b->shard_at; /* read only */
        return;
    }
    s->weights[i] = all;
    weft_gather_shards_start(s->o.comm, weft_bucket_shards(b), b->name, all, s->shards + b->shard_at,
                             b->elements, &s->pending[i]);
}

/* Where the unit at position `at` of the order begins in the region. Whoever lies there is out. */
static int64_t take_place(weft_store *s, int unit, int at) {
    int end = s->o.prefetch ? at & 1 : 0;
    int64_t size = unit_size(s, unit, false), start = end ? s->region_size - size : 0;
    for (int e = 0; e < 2; e++) {
        int other = s->owner[e];
        if (other == NOWHERE) continue;
        int64_t begin = e ? s->region_size - unit_size(s, other, false) : 0,
                stop = begin + unit_size(s, other, false);
        if (e == end || (begin < start + size && start < stop)) s->place[other] = s->owner[e] = NOWHERE;
    }
    s->owner[end] = unit;
    s->place[unit] = end;
    return start;
}

static void bring(weft_store *s, int unit, int at) {
    if (s->place[unit] != NOWHERE) return;
    int64_t start = 0;
    if (s->o.reshard == WEFT_RESHARD_ALWAYS)
        start = take_place(s, unit, at);
    else
        s->place[unit] = KEPT;
    for (int i = 0; i < s->o.bucket_count; i++) {
        const weft_bucket *b = &s->o.buckets[i];
        if (b->unit != unit) continue;
        provide(s, i, s->memory[i] ? s->memory[i] : s->region + start);
        if (is_cut(s, b)) start += b->elements;
    }
}

static void wait_for(weft_store *s, int unit) {
    for (int i = 0; i < s->o.bucket_count; i++)
        if (s->o.buckets[i].unit == unit) weft_comm_finish(s->o.comm, &s->pending[i]);
}

void weft_store_enter(weft_store *s, int unit, int at, int next, int next_at) {
    if (s->whole) return;
    bring(s, unit, at);
    wait_for(s, unit);
    if (s->o.prefetch && next >= 0) bring(s, next, next_at);
}

/* Forgets what is gathered; the buckets that are always needed only when the weights have changed. */
static void forget(weft_store *s) {
    for (int u = 0; u < s->o.units; u++) s->place[u] = NOWHERE;
    s->owner[0] = s->owner[1] = NOWHERE;
}

void weft_store_changed(weft_store *s) {
    if (s->whole) return;
    forget(s);
    s->always = false;
}

/* ---- gradients ---- */

static void zero(weft_store *s, weft_real *x, int64_t n) {
    s->o.device->ops->zero(s->o.device, x, (size_t)n * sizeof *x);
}

/* A bucket that is not cut is added to where its shard lies. */
static void begin_bucket(weft_store *s, int i, weft_real *whole) {
    const weft_bucket *b = &s->o.buckets[i];
    bool cut = is_cut(s, b);
    s->grads[i] = cut ? whole : s->grad_shards + b->shard_at;
    if (cut || !s->accumulate) zero(s, s->grads[i], b->elements);
}

static void end_bucket(weft_store *s, int i) {
    const weft_bucket *b = &s->o.buckets[i];
    if (is_cut(s, b))
        weft_reduce_shards(s->o.comm, weft_bucket_shards(b), b->name, s->grad_shards + b->shard_at,
                           s->grads[i], b->elements, s->accumulate, &s->o.device->act);
    s->grads[i] = NULL;
}

void weft_store_pass_begin(weft_store *s, weft_real *grad_shards, bool accumulate) {
    if (s->whole) return;
    s->grad_shards = grad_shards;
    s->accumulate = accumulate;
    for (int i = 0; i < s->o.bucket_count; i++) {
        const weft_bucket *b = &s->o.buckets[i];
        if (b->unit == WEFT_UNIT_ALWAYS && !s->always) provide(s, i, s->memory[i]);
        if (b->late_grads && grad_shards) begin_bucket(s, i, s->grad_memory[i]);
    }
    wait_for(s, WEFT_UNIT_ALWAYS);
    s->always = true;
}

void weft_store_grads_begin(weft_store *s, int unit) {
    if (s->whole) return;
    weft_real *whole = s->grad_region;
    for (int i = 0; i < s->o.bucket_count; i++) {
        const weft_bucket *b = &s->o.buckets[i];
        if (b->unit != unit || b->late_grads) continue;
        begin_bucket(s, i, whole);
        if (is_cut(s, b)) whole += b->elements;
    }
}

void weft_store_grads_end(weft_store *s, int unit) {
    if (s->whole) return;
    for (int i = 0; i < s->o.bucket_count; i++)
        if (s->o.buckets[i].unit == unit && !s->o.buckets[i].late_grads) end_bucket(s, i);
}

void weft_store_pass_end(weft_store *s) {
    if (s->whole) return;
    for (int i = 0; i < s->o.bucket_count; i++) {
        if (s->o.buckets[i].late_grads && s->grads[i]) end_bucket(s, i);
        weft_comm_finish(s->o.comm, &s->pending[i]);
    }
    if (s->o.reshard == WEFT_RESHARD_AFTER_BACKWARD) forget(s);
}
