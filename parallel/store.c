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
    const void *shards_act;
    void **weights, **memory;         /* memory: of buckets with a place of their own */
    weft_real **grads, **grad_memory; /* likewise */
    char *region;                     /* of gathered weights */
    weft_real *grad_region[2];        /* the same one twice, where nothing overlaps */
    int grad_turn;
    int64_t region_size;
    int *place;                         /* of a unit: NOWHERE, 0, 1 or KEPT */
    int owner[2];                       /* unit that lies at an end of the region, or NOWHERE */
    bool always;                        /* the buckets that are always needed are gathered and up to date */
    weft_request *gathers, *reductions; /* under way, by bucket */
    int *reduced_from;                  /* the region that a bucket's reduction reads */
    weft_arena reduction_work;          /* of those that overlap, which run one after the other */
    weft_real *grad_shards;
    bool accumulate;
    weft_store_bytes bytes;
};

/* Is the bucket cut over more than this rank? Otherwise its shard is the whole slice and nothing moves. */
static bool is_cut(const weft_store *s, const weft_bucket *b) {
    return s->o.comm->group[weft_bucket_shards(b)].size > 1;
}

/* Do reductions run beside the computing? */
static bool overlaps(const weft_store *s) {
    return s->o.device && s->o.device->driver && s->o.device->driver->overlaps;
}

weft_dtype weft_store_bucket_type(const weft_store *s, int bucket) {
    return s->o.buckets[bucket].full ? WEFT_REAL_DTYPE : s->o.act;
}

static int64_t weight_bytes(const weft_store *s, int bucket) {
    return s->o.buckets[bucket].elements * (int64_t)weft_dtype_size(weft_store_bucket_type(s, bucket));
}

static weft_status allocate(weft_store **out, const weft_store_options *o) {
    weft_store *s = calloc(1, sizeof *s);
    size_t n = (size_t)o->bucket_count;
    if (s) {
        s->o = *o;
        s->weights = calloc(2 * n, sizeof *s->weights);
        s->grads = calloc(2 * n, sizeof *s->grads);
        s->gathers = calloc(2 * n, sizeof *s->gathers);
        s->reduced_from = calloc(n, sizeof *s->reduced_from);
        s->place = malloc(((size_t)o->units + 1) * sizeof *s->place);
    }
    if (!s || !s->weights || !s->grads || !s->gathers || !s->reduced_from || !s->place) {
        weft_store_close(s);
        WEFT_FAIL(WEFT_ENOMEM, "no memory for %d buckets of parameters", o->bucket_count);
    }
    s->memory = s->weights + n;
    s->grad_memory = s->grads + n;
    s->reductions = s->gathers + n;
    *out = s;
    return WEFT_OK;
}

weft_status weft_store_open(weft_store **out, const weft_store_options *o) {
    return allocate(out, o);
}

weft_status weft_store_open_whole(weft_store **out, const weft_bucket *buckets, int bucket_count) {
    weft_store_options o = {
        .buckets = buckets, .bucket_count = bucket_count, .act = WEFT_REAL_DTYPE, .reduce = WEFT_REAL_DTYPE};
    WEFT_TRY(allocate(out, &o));
    (*out)->whole = true;
    return WEFT_OK;
}

void weft_store_set_whole(weft_store *s, const void *weights, weft_real *grads) {
    for (int b = 0; b < s->o.bucket_count; b++) {
        s->weights[b] = (weft_real *)weights + s->o.buckets[b].offset; /* read only: see weft_store_weights */
        s->grads[b] = grads ? grads + s->o.buckets[b].offset : NULL;
    }
}

void weft_store_close(weft_store *s) {
    if (!s) return;
    free(s->weights);
    free(s->grads);
    free(s->gathers);
    free(s->reduced_from);
    free(s->place);
    free(s);
}

/* ---- memory ---- */

/* Bytes of the unit's cut buckets, gathered. */
static int64_t unit_size(const weft_store *s, int unit) {
    int64_t bytes = 0;
    for (int i = 0; i < s->o.bucket_count; i++)
        if (s->o.buckets[i].unit == unit && is_cut(s, &s->o.buckets[i])) bytes += weight_bytes(s, i);
    return bytes;
}

/* Elements of those whose gradient is reduced as the unit ends. */
static int64_t unit_gradients(const weft_store *s, int unit) {
    int64_t n = 0;
    for (int i = 0; i < s->o.bucket_count; i++) {
        const weft_bucket *b = &s->o.buckets[i];
        if (b->unit == unit && is_cut(s, b) && !b->late_grads) n += b->elements;
    }
    return n;
}

/* Room for any two units that are used one after the other; the head may be the embedding's. */
static int64_t region_needed(const weft_store *s) {
    int64_t most = 0;
    for (int u = 0; u < s->o.units; u++) {
        int64_t size = unit_size(s, u);
        if (s->o.prefetch) {
            int64_t next = u + 1 < s->o.units ? unit_size(s, u + 1) : 0;
            if (next < unit_size(s, 0) && u + 2 == s->o.units) next = unit_size(s, 0);
            size += next;
        }
        if (size > most) most = size;
    }
    return most;
}

static void *push(weft_arena *a, int64_t bytes, size_t *sum) {
    *sum += (size_t)bytes;
    return weft_arena_push(a, (size_t)bytes);
}

/* Twice and with a workspace of their own where reductions run beside the computing. */
static void place_gradients(weft_store *s, weft_arena *arena) {
    int64_t most = 0;
    size_t work = 0;
    for (int u = 0; u < s->o.units; u++) {
        int64_t n = unit_gradients(s, u);
        if (n > most) most = n;
    }
    most *= (int64_t)sizeof(weft_real);
    s->grad_region[0] = s->grad_region[1] = push(arena, most, &s->bytes.gradients);
    if (!overlaps(s)) return;
    s->grad_region[1] = push(arena, most, &s->bytes.gradients);
    for (int i = 0; i < s->o.bucket_count; i++) {
        const weft_bucket *b = &s->o.buckets[i];
        size_t bytes = weft_reduce_shards_bytes(s->o.comm, weft_bucket_shards(b), b->elements, s->o.reduce);
        if (bytes > work) work = bytes;
    }
    void *base = push(arena, (int64_t)work, &s->bytes.gradients);
    s->reduction_work = (weft_arena){.name = "reduction", .base = base, .capacity = work, .foreign = true};
}

void weft_store_place(weft_store *s, weft_arena *arena, const weft_real *shards, const void *shards_act) {
    bool keep = s->o.reshard != WEFT_RESHARD_ALWAYS;
    s->shards = shards;
    s->shards_act = shards_act;
    s->bytes = (weft_store_bytes){0};
    s->always = false;
    s->owner[0] = s->owner[1] = NOWHERE;
    for (int u = 0; u < s->o.units; u++) s->place[u] = NOWHERE;
    s->region_size = keep ? 0 : region_needed(s);
    s->region = push(arena, s->region_size, &s->bytes.weights);
    place_gradients(s, arena);
    for (int i = 0; i < s->o.bucket_count; i++) {
        const weft_bucket *b = &s->o.buckets[i];
        int64_t whole = b->elements * (int64_t)sizeof(weft_real);
        s->weights[i] = NULL;
        s->grads[i] = NULL;
        if (!is_cut(s, b)) continue;
        bool own = keep || b->unit == WEFT_UNIT_ALWAYS;
        s->memory[i] = own ? push(arena, weight_bytes(s, i), &s->bytes.weights) : NULL;
        s->grad_memory[i] = b->late_grads ? push(arena, whole, &s->bytes.gradients) : NULL;
    }
}

weft_store_bytes weft_store_memory(const weft_store *s) {
    return s->bytes;
}

/* ---- weights ---- */

const void *weft_store_weights(const weft_store *s, int bucket) {
    return s->weights[bucket];
}
weft_real *weft_store_grads(const weft_store *s, int bucket) {
    return s->grads[bucket];
}

/* This rank's shard of a bucket, in the type that it is used in. */
static const void *shard(const weft_store *s, int i) {
    weft_dtype type = weft_store_bucket_type(s, i);
    return weft_act_cat(type == WEFT_REAL_DTYPE ? s->shards : s->shards_act, type, s->o.buckets[i].shard_at);
}

/* Starts to gather a bucket into `all`; one that is not cut lies whole in the shards. */
static void provide(weft_store *s, int i, void *all) {
    const weft_bucket *b = &s->o.buckets[i];
    if (!is_cut(s, b)) {
        s->weights[i] = (void *)shard(s, i); /* read only */
        return;
    }
    s->weights[i] = all;
    weft_gather_shards_start(s->o.comm, weft_bucket_shards(b), b->name, weft_store_bucket_type(s, i), all,
                             shard(s, i), b->elements, &s->gathers[i]);
}

/* Where the unit at position `at` of the order begins in the region. Whoever lies there is out. */
static int64_t take_place(weft_store *s, int unit, int at) {
    int end = s->o.prefetch ? at & 1 : 0;
    int64_t size = unit_size(s, unit), start = end ? s->region_size - size : 0;
    for (int e = 0; e < 2; e++) {
        int other = s->owner[e];
        if (other == NOWHERE) continue;
        int64_t begin = e ? s->region_size - unit_size(s, other) : 0, stop = begin + unit_size(s, other);
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
        if (is_cut(s, b)) start += weight_bytes(s, i);
    }
}

static void wait_for(weft_store *s, int unit) {
    for (int i = 0; i < s->o.bucket_count; i++)
        if (s->o.buckets[i].unit == unit) weft_comm_finish(s->o.comm, &s->gathers[i]);
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
    weft_real *mine = s->grad_shards + b->shard_at;
    if (is_cut(s, b) && overlaps(s))
        weft_reduce_shards_start(s->o.comm, weft_bucket_shards(b), b->name, mine, s->grads[i], b->elements,
                                 s->o.reduce, s->accumulate, &s->reduction_work, &s->reductions[i]);
    else if (is_cut(s, b))
        weft_reduce_shards(s->o.comm, weft_bucket_shards(b), b->name, mine, s->grads[i], b->elements,
                           s->o.reduce, s->accumulate, &s->o.device->act);
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

/* Until the region is no longer read. */
static void wait_for_region(weft_store *s, int turn) {
    for (int i = 0; i < s->o.bucket_count; i++)
        if (s->reduced_from[i] == turn) weft_comm_finish(s->o.comm, &s->reductions[i]);
}

void weft_store_grads_begin(weft_store *s, int unit) {
    if (s->whole) return;
    s->grad_turn = !s->grad_turn;
    wait_for_region(s, s->grad_turn);
    weft_real *whole = s->grad_region[s->grad_turn];
    for (int i = 0; i < s->o.bucket_count; i++) {
        const weft_bucket *b = &s->o.buckets[i];
        if (b->unit != unit || b->late_grads) continue;
        begin_bucket(s, i, whole);
        s->reduced_from[i] = s->grad_turn;
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
    for (int i = 0; i < s->o.bucket_count; i++)
        if (s->o.buckets[i].late_grads && s->grads[i]) end_bucket(s, i);
    for (int i = 0; i < s->o.bucket_count; i++) {
        weft_comm_finish(s->o.comm, &s->reductions[i]);
        weft_comm_finish(s->o.comm, &s->gathers[i]);
    }
    if (s->o.reshard == WEFT_RESHARD_AFTER_BACKWARD) forget(s);
}
