/* Collectives in the memory of a CUDA device, on 1, 2 and 4 ranks, against those in the host's: sums of
 * floats bit by bit, of bf16 but for the last rounding; and their order with what the device computes
 * meanwhile. */
#include "ops.h"
#include "parallel/comm.h"
#include "parallel/ledger_read.h"
#include "parallel/store.h"
#include "parallel/world.h"
#include "support/ranks.h"
#include "support/suite.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static weft_world g_w;
static weft_device g_cpu, g_gpu, g_dry;
static weft_arena g_memory; /* of the GPU, for arrays */
static char *g_pinned;
enum { MEMORY = 16 << 20, PINNED = 1 << 20, WORK = 4 << 20 };

/* dp, fsdp, cp, tp, ep; those whose ranks are not this job's are left out. */
static const weft_mesh_sizes g_meshes[] = {
    {{1, 1, 1, 1, 1}}, {{1, 2, 1, 1, 2}}, {{1, 1, 1, 2, 1}}, {{1, 4, 1, 1, 2}},
    {{1, 2, 1, 2, 1}}, {{2, 1, 2, 1, 4}}, {{1, 1, 1, 4, 1}},
};
enum { MESHES = sizeof g_meshes / sizeof *g_meshes };

static bool make_mesh(weft_mesh *m, int i) {
    int64_t product = 1;
    for (int a = 0; a < WEFT_AXIS_EP; a++) product *= g_meshes[i].size[a];
    return product == g_w.size && weft_mesh_make(m, &g_meshes[i], g_w.size, g_w.rank) == WEFT_OK;
}

/* ---- numbers and where they lie ---- */

/* To the nearest that bf16 has, ties to even. */
static float rounded(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    bits = (bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* n numbers, one sequence for each rank and seed, whose sums round; of bf16 those that it has. */
static float *numbers_of(int rank, weft_dtype type, uint64_t seed, int64_t n) {
    float *x = malloc((size_t)(n + 1) * sizeof *x);
    ck_assert_ptr_nonnull(x);
    for (int64_t i = 0; i < n; i++) {
        uint64_t u = ((uint64_t)i * 64 + (uint64_t)rank + seed * 4099 + 1) * 0x9e3779b97f4a7c15u;
        u ^= u >> 29;
        x[i] = (float)((double)(int64_t)(u * 0xbf58476d1ce4e5b9u) * 0x1p-63 * (double)(1 + (u & 7)));
        if (type == WEFT_BF16) x[i] = rounded(x[i]);
    }
    return x;
}

static float *numbers(weft_dtype type, uint64_t seed, int64_t n) {
    return numbers_of(g_w.rank, type, seed, n);
}

static void to_bytes(weft_dtype type, char *to, const float *x, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &x[i], sizeof bits);
        if (type == WEFT_BF16)
            ((uint16_t *)to)[i] = (uint16_t)(bits >> 16);
        else
            ((uint32_t *)to)[i] = bits;
    }
}

/* On the GPU; NULL: not set. */
static void *on_device(weft_dtype type, const float *x, int64_t n) {
    size_t bytes = (size_t)n * weft_dtype_size(type);
    void *p = weft_arena_push(&g_memory, bytes);
    ck_assert_uint_le(bytes, PINNED);
    if (!x) return p;
    to_bytes(type, g_pinned, x, n);
    weft_upload(&g_gpu, p, g_pinned, bytes);
    weft_device_finish(&g_gpu);
    return p;
}

static void from_device(void *to, const void *p, size_t bytes) {
    weft_download(&g_gpu, g_pinned, p, bytes);
    weft_device_finish(&g_gpu);
    memcpy(to, g_pinned, bytes);
}

/* The GPU's array holds x[n], in its own type. */
static void check(const char *what, weft_dtype type, const void *p, const float *x, int64_t n) {
    size_t size = weft_dtype_size(type);
    char *got = malloc((size_t)n * size + 1), *want = malloc((size_t)n * size + 1);
    ck_assert(got && want);
    from_device(got, p, (size_t)n * size);
    float *y = calloc((size_t)n + 1, sizeof *y);
    for (int64_t i = 0; i < n; i++) y[i] = type == WEFT_BF16 ? rounded(x[i]) : x[i];
    to_bytes(type, want, y, n);
    for (int64_t i = 0; i < n; i++)
        if (memcmp(got + i * (int64_t)size, want + i * (int64_t)size, size) != 0) {
            uint32_t bits = 0;
            float is;
            memcpy((char *)&bits + (sizeof bits - size), got + i * (int64_t)size, size);
            memcpy(&is, &bits, sizeof is);
            expect(false, "%s of %lld %s: element %lld is %.9g, not %.9g", what, (long long)n,
                   weft_dtype_name(type), (long long)i, (double)is, (double)y[i]);
            break;
        }
    free(got);
    free(want);
    free(y);
}

static void check_bytes(const char *what, const void *p, const void *want, size_t bytes) {
    char *got = malloc(bytes + 1);
    from_device(got, p, bytes);
    expect(memcmp(got, want, bytes) == 0, "%s of %zu bytes", what, bytes);
    free(got);
}

/* ---- every collective against the host's ---- */

typedef struct pair {
    weft_comm cpu, gpu, dry;
    weft_group_kind k;
} pair;

static const weft_dtype g_types[] = {WEFT_F32, WEFT_BF16};

static void sums(pair *p, weft_dtype type) {
    const int64_t sizes[] = {0, 1, 3, 1000, 8193, 20001};
    weft_group *g = &p->gpu.group[p->k];
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        int64_t n = sizes[s], each = n / g->size;
        size_t mark = weft_arena_mark(&g_memory);
        float *x = numbers(type, s, n), *y = numbers(type, s, n),
              *out = malloc((size_t)(n + 1) * sizeof *out);
        void *gx = on_device(type, x, n), *gy = on_device(type, x, n), *gout = on_device(type, NULL, n);
        weft_all_reduce(&p->cpu, p->k, "x", WEFT_F32, x, n, &g_cpu.act);
        weft_all_reduce(&p->gpu, p->k, "x", type, gx, n, &g_gpu.act);
        weft_all_reduce(&p->dry, p->k, "x", type, NULL, n, &g_dry.act);
        check("all_reduce", type, gx, x, n);
        weft_reduce_scatter(&p->cpu, p->k, "x", WEFT_F32, out, y, each, &g_cpu.act);
        weft_reduce_scatter(&p->gpu, p->k, "x", type, gout, gy, each, &g_gpu.act);
        weft_reduce_scatter(&p->dry, p->k, "x", type, NULL, gy, each, &g_dry.act);
        check("reduce_scatter", type, gout, out, each);
        check("reduce_scatter's x", type, gy, y, n);
        void *own = weft_act_at(gy, type, g->rank * each);
        weft_reduce_scatter(&p->gpu, p->k, "x", type, own, gy, each, &g_gpu.act);
        weft_reduce_scatter(&p->dry, p->k, "x", type, (void *)64, gy, each, &g_dry.act);
        check("reduce_scatter in place", type, own, out, each);
        free(x);
        free(y);
        free(out);
        weft_arena_release(&g_memory, mark);
    }
}

static void shards(pair *p, weft_dtype type) {
    const int64_t sizes[] = {64, 192, 4096 + 64, 100032};
    weft_group *g = &p->gpu.group[p->k];
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        int64_t n = sizes[s];
        weft_part own = weft_shard_of(n, g->size, g->rank);
        size_t mark = weft_arena_mark(&g_memory);
        float *x = numbers(type, s, n), *all = malloc((size_t)n * sizeof *all),
              *sum = numbers(WEFT_F32, 77, n);
        void *mine = on_device(type, x + own.start, own.count), *gall = on_device(type, NULL, n);
        weft_request r;
        weft_gather_shards(&p->cpu, p->k, "w", WEFT_F32, all, x + own.start, n);
        weft_gather_shards(&p->gpu, p->k, "w", type, gall, mine, n);
        weft_gather_shards(&p->dry, p->k, "w", type, NULL, NULL, n);
        check("gather_shards", type, gall, all, n);
        gall = on_device(type, NULL, n);
        weft_gather_shards_start(&p->gpu, p->k, "w", type, gall, mine, n, &r);
        weft_comm_finish(&p->gpu, &r);
        weft_gather_shards_start(&p->dry, p->k, "w", type, NULL, NULL, n, &r);
        weft_comm_finish(&p->dry, &r);
        check("gather_shards_start", type, gall, all, n);

        /* Rounded to bf16 on the way: as if x had been. In a group of one nothing travels. */
        float *full = numbers(WEFT_F32, s, n);
        void *gx = on_device(WEFT_F32, g->size == 1 ? x : full, n),
             *gsum = on_device(WEFT_F32, sum, own.count);
        for (int turn = 0; turn < 2; turn++) {
            weft_reduce_shards(&p->cpu, p->k, "g", sum, x, n, WEFT_F32, turn > 0, &g_cpu.act);
            weft_reduce_shards_start(&p->gpu, p->k, "g", gsum, gx, n, type, turn > 0, &g_gpu.act, &r);
            weft_comm_finish(&p->gpu, &r);
            weft_reduce_shards(&p->dry, p->k, "g", NULL, NULL, n, type, turn > 0, &g_dry.act);
            check(turn ? "reduce_shards, added" : "reduce_shards", WEFT_F32, gsum, sum, own.count);
        }
        weft_reduce_shards(&p->gpu, p->k, "g", gsum, gx, n, type, false, &g_gpu.act);
        weft_reduce_shards(&p->cpu, p->k, "g", sum, x, n, WEFT_F32, false, &g_cpu.act);
        weft_reduce_shards(&p->dry, p->k, "g", NULL, NULL, n, type, false, &g_dry.act);
        check("reduce_shards, not started", WEFT_F32, gsum, sum, own.count);
        free(full);
        free(x);
        free(all);
        free(sum);
        weft_arena_release(&g_memory, mark);
    }
}

static void numbers_of_integers(pair *p) {
    int64_t x[40], y[40];
    for (int i = 0; i < 40; i++) x[i] = y[i] = (int64_t)(g_w.rank + 1) << i;
    memcpy(g_pinned, x, sizeof x);
    int64_t *gx = weft_arena_push(&g_memory, sizeof x);
    weft_upload(&g_gpu, gx, g_pinned, sizeof x);
    weft_all_reduce_i64(&p->gpu, p->k, "i", gx, 40);
    weft_all_reduce_i64(&p->cpu, p->k, "i", x, 40);
    weft_all_reduce_i64_host(&p->gpu, p->k, "i", y, 40);
    weft_all_reduce_i64(&p->dry, p->k, "i", NULL, 40);
    weft_all_reduce_i64_host(&p->dry, p->k, "i", NULL, 40);
    check_bytes("all_reduce_i64", gx, x, sizeof x);
    expect(memcmp(x, y, sizeof x) == 0, "all_reduce_i64_host");
}

static int64_t rows_between(int from, int to, int turn) {
    return turn == 0 ? (3 * from + 5 * to) % 4 : from == 0 ? 500 : 0;
}

static void rows(pair *p) {
    weft_group *g = &p->gpu.group[p->k];
    for (int turn = 0; turn < 2; turn++) {
        int64_t send_rows[8], recv_rows[8], sent = 0, received = 0;
        for (int i = 0; i < g->size; i++) {
            sent += send_rows[i] = rows_between(g->rank, i, turn);
            received += recv_rows[i] = rows_between(i, g->rank, turn);
        }
        float *x = numbers(WEFT_F32, 5, 3 * sent), *y = malloc((size_t)(3 * received + 1) * sizeof *y);
        void *gx = on_device(WEFT_F32, x, 3 * sent), *gy = on_device(WEFT_F32, NULL, 3 * received);
        weft_all_to_all(&p->cpu, p->k, "t", y, recv_rows, x, send_rows, 12, sent);
        weft_all_to_all(&p->gpu, p->k, "t", gy, recv_rows, gx, send_rows, 12, sent);
        weft_all_to_all(&p->dry, p->k, "t", NULL, NULL, NULL, NULL, 12, sent);
        check("all_to_all", WEFT_F32, gy, y, 3 * received);
        free(x);
        free(y);
    }
}

static void blocks_and_neighbours(pair *p) {
    weft_group *g = &p->gpu.group[p->k];
    enum { N = 333 };
    int next = (g->rank + 1) % g->size, last = (g->rank + g->size - 1) % g->size;
    float *x = numbers(WEFT_F32, 9, N * g->size), *y = numbers(WEFT_F32, 10, N);
    void *gx = on_device(WEFT_F32, x, N * g->size), *gy = on_device(WEFT_F32, y, N);
    weft_all_gather(&p->cpu, p->k, "b", x, N * 4);
    weft_all_gather(&p->gpu, p->k, "b", gx, N * 4);
    weft_all_gather(&p->dry, p->k, "b", NULL, N * 4);
    check("all_gather", WEFT_F32, gx, x, N * g->size);
    for (int turn = 0; turn < 3; turn++) { /* a ring, a line, itself */
        int from = turn == 2 ? g->rank : turn == 1 && g->rank == 0 ? -1 : last;
        int to = turn == 2 ? g->rank : turn == 1 && g->rank == g->size - 1 ? -1 : next;
        weft_send_recv(&p->cpu, p->k, "n", x, from, y, to, N * 4);
        weft_send_recv(&p->gpu, p->k, "n", gx, from, gy, to, N * 4);
        weft_send_recv(&p->dry, p->k, "n", (void *)64, from, (void *)64, to, N * 4);
        check("send_recv", WEFT_F32, gx, x, N);
    }
    weft_broadcast(&p->cpu, p->k, "w", y, N * 4, g->size - 1);
    weft_broadcast(&p->gpu, p->k, "w", gy, N * 4, g->size - 1);
    weft_broadcast(&p->dry, p->k, "w", NULL, N * 4, g->size - 1);
    check("broadcast", WEFT_F32, gy, y, N);
    free(x);
    free(y);
}

START_TEST(the_gpu_moves_what_the_host_moves) {
    for (int i = 0; i < MESHES; i++) {
        weft_mesh mesh;
        pair p;
        if (!make_mesh(&mesh, i)) continue;
        ck_assert_int_eq(weft_comm_open(&p.cpu, &mesh, 1, false, NULL), WEFT_OK);
        ck_assert_int_eq(weft_comm_open(&p.gpu, &mesh, 1, false, &g_gpu), WEFT_OK);
        ck_assert_int_eq(weft_comm_open(&p.dry, &mesh, 1, true, &g_dry), WEFT_OK);
        g_gpu.act.peak = g_dry.act.peak = 0;
        for (int k = 0; k < WEFT_GROUPS; k++) {
            size_t mark = weft_arena_mark(&g_memory);
            p.k = (weft_group_kind)k;
            for (int t = 0; t < 2; t++) {
                sums(&p, g_types[t]);
                shards(&p, g_types[t]);
            }
            numbers_of_integers(&p);
            rows(&p);
            blocks_and_neighbours(&p);
            weft_arena_release(&g_memory, mark);
        }
        expect(g_gpu.act.peak == g_dry.act.peak && g_gpu.act.top == 0, "%zu bytes of workspace, planned %zu",
               g_gpu.act.peak, g_dry.act.peak);
        for (int a = 0; a <= WEFT_AXES; a++)
            expect(p.gpu.bytes[a] == p.dry.bytes[a], "%lld bytes on axis %d, planned %lld",
                   (long long)p.gpu.bytes[a], a, (long long)p.dry.bytes[a]);
        none_is_wrong();
        weft_comm_close(&p.cpu);
        weft_comm_close(&p.gpu);
        weft_comm_close(&p.dry);
    }
}
END_TEST

/* ---- the order of what is queued ---- */

/* The world as one group that cuts parameters into shards. */
static void open_flat(weft_comm *c) {
    const weft_mesh_sizes flat = {{1, g_w.size, 1, 1, 1}};
    weft_mesh mesh;
    ck_assert_int_eq(weft_mesh_make(&mesh, &flat, g_w.size, g_w.rank), WEFT_OK);
    ck_assert_int_eq(weft_comm_open(c, &mesh, 1, false, &g_gpu), WEFT_OK);
}

/* Whether the host may look into the device's memory, and what nothing waits for has not been done. */
static bool can_look(void) {
#ifdef __SANITIZE_THREAD__
    return false;
#else
    return strstr(weft_cuda_version(), "emulated") && !getenv("WEFT_EMULATED_STREAMS");
#endif
}

/* Waits for the computing alone, without a look at what communicates. */
static void until(weft_device *d, const weft_mark *m) {
    while (m->event && !d->driver->reached(d, m)) {
    }
}

static const float *ones(int64_t n, float value) {
    static float x[8192];
    for (int64_t i = 0; i < n; i++) x[i] = value;
    return x;
}

/* all <- 1 (by the computing stream), gathered anew meanwhile, read before and after. */
START_TEST(a_started_gather_runs_beside_the_computing) {
    enum { N = 4096 };
    weft_comm c;
    weft_request r;
    weft_mark computed;
    open_flat(&c);
    weft_part own = weft_shard_of(N, g_w.size, g_w.rank);
    float *x = numbers(WEFT_F32, 1, N), *want = malloc(N * sizeof *want);
    float *all = on_device(WEFT_F32, ones(N, 1), N), *mine = on_device(WEFT_F32, NULL, N);
    float *before = on_device(WEFT_F32, NULL, N), *beside = on_device(WEFT_F32, NULL, N);
    float *after = on_device(WEFT_F32, NULL, N), *source = on_device(WEFT_F32, x, N);
    ck_assert_int_eq(weft_mark_make(&g_gpu, &computed), WEFT_OK);
    for (int q = 0; q < g_w.size; q++) {
        weft_part part = weft_shard_of(N, g_w.size, q);
        float *theirs = numbers_of(q, WEFT_F32, 1, N);
        memcpy(want + part.start, theirs + part.start, (size_t)part.count * sizeof *want);
        free(theirs);
    }
    g_gpu.ops->copy(&g_gpu, mine, source + own.start, own.count * sizeof *mine); /* to be waited for */
    g_gpu.ops->copy(&g_gpu, before, all, N * sizeof *all); /* reads what will be overwritten */
    weft_gather_shards_start(&c, WEFT_GROUP_WORLD, "w", WEFT_F32, all, mine, N, &r);
    g_gpu.ops->copy(&g_gpu, beside, source, N * sizeof *all);
    weft_mark_set(&g_gpu, &computed);
    until(&g_gpu, &computed);
    expect(!can_look() || g_w.size == 1 || memcmp(all, ones(N, 1), N * sizeof *all) == 0,
           "what is computed beside a gather waits for it");
    weft_comm_finish(&c, &r);
    g_gpu.ops->copy(&g_gpu, after, all, N * sizeof *all);
    check("beside", WEFT_F32, beside, x, N);
    check("before", WEFT_F32, before, ones(N, 1), N);
    check("after", WEFT_F32, after, want, N);
    weft_mark_free(&g_gpu, &computed);
    free(x);
    free(want);
    weft_comm_close(&c);
    none_is_wrong();
}
END_TEST

/* More collectives than can be open at once, each using what the one before has made, while a gather that was
 * started first is still to be finished. */
START_TEST(hosts_run_far_ahead) {
    enum { MANY = 700, N = 64 };
    weft_comm c;
    weft_request r;
    open_flat(&c);
    float *x = on_device(WEFT_F32, ones(N, 1), N), *y = on_device(WEFT_F32, NULL, N);
    float *all = on_device(WEFT_F32, NULL, N), *sum = on_device(WEFT_F32, ones(N, 0), N);
    weft_gather_shards_start(&c, WEFT_GROUP_WORLD, "w", WEFT_F32, all, x, N, &r);
    for (int i = 0; i < MANY; i++) {
        g_gpu.ops->copy(&g_gpu, y, x, N * sizeof *x);
        weft_all_reduce(&c, WEFT_GROUP_WORLD, "x", WEFT_F32, y, N, &g_gpu.act);
        g_gpu.ops->add_real(&g_gpu, sum, y, N);
    }
    weft_comm_finish(&c, &r);
    g_gpu.ops->add_real(&g_gpu, sum, all, N);
    check("the sum", WEFT_F32, sum, ones(N, (float)(MANY * g_w.size + 1)), N);
    weft_comm_close(&c);
    none_is_wrong();
}
END_TEST

/* ---- the store ---- */

enum { UNITS = 4, BUCKETS = 7 };

/* Two buckets in some units, one that is always needed, one whose gradient several units add to; one of
 * weft_real. */
static void make_buckets(weft_bucket *b, const weft_comm *c) {
    const struct {
        int unit;
        int64_t elements;
        bool late, full;
    } of[BUCKETS] = {{WEFT_UNIT_ALWAYS, 128, true, true},
                     {0, 640, true, false},
                     {1, 1024, false, false},
                     {1, 256, false, true},
                     {2, 704, false, false},
                     {3, 64, false, false},
                     {3, 1152, false, false}};
    int64_t offset = 0, at = 0;
    for (int i = 0; i < BUCKETS; i++) {
        weft_part shard =
            weft_shard_of(of[i].elements, c->group[WEFT_GROUP_SHARD].size, c->group[WEFT_GROUP_SHARD].rank);
        b[i] = (weft_bucket){.unit = of[i].unit,
                             .late_grads = of[i].late,
                             .full = of[i].full,
                             .elements = of[i].elements,
                             .offset = offset,
                             .shard = shard,
                             .shard_at = at};
        snprintf(b[i].name, sizeof b[i].name, "bucket.%d", i);
        offset += of[i].elements;
        at += shard.count;
    }
}

typedef struct side {
    weft_store *store;
    weft_device *d;
    weft_bucket buckets[BUCKETS];
    weft_arena memory;
    void *params, *act, *grads; /* shards */
    int64_t shards;
    weft_mark computed;
    void *used; /* sum over all uses of the weights, in weft_real, by element */
} side;

static void *push_real(side *s, int64_t n) {
    return weft_arena_push(&s->memory, (size_t)n * sizeof(weft_real));
}

/* x (in the host's memory) -> a new array of the side's. */
static void *give(side *s, const float *x, int64_t n) {
    void *p = push_real(s, n);
    memcpy(g_pinned, x, (size_t)n * sizeof *x);
    weft_upload(s->d, p, g_pinned, (size_t)n * sizeof *x);
    weft_device_finish(s->d);
    return p;
}

static void open_side(side *s, weft_comm *c, weft_device *d, weft_dtype act, weft_dtype reduce,
                      weft_reshard reshard, bool prefetch) {
    *s = (side){.d = d};
    ck_assert_int_eq(weft_device_arena(d, &s->memory, "store", 1 << 20), WEFT_OK);
    ck_assert_int_eq(weft_mark_make(d, &s->computed), WEFT_OK);
    make_buckets(s->buckets, c);
    int64_t whole = s->buckets[BUCKETS - 1].offset + s->buckets[BUCKETS - 1].elements;
    s->shards = s->buckets[BUCKETS - 1].shard_at + s->buckets[BUCKETS - 1].shard.count;
    float *x = numbers(WEFT_BF16, 20, s->shards), *zeros = calloc((size_t)whole, sizeof *zeros);
    s->params = give(s, x, s->shards);
    s->act = act == WEFT_F32 ? NULL : push_real(s, s->shards);
    if (s->act) d->ops->cast(d, s->act, act, s->params, WEFT_F32, s->shards);
    s->grads = give(s, zeros, s->shards);
    s->used = give(s, zeros, whole);
    free(x);
    free(zeros);
    weft_store_options o = {.comm = c,
                            .device = d,
                            .buckets = s->buckets,
                            .bucket_count = BUCKETS,
                            .units = UNITS,
                            .reshard = reshard,
                            .prefetch = prefetch,
                            .act = act,
                            .reduce = reduce};
    ck_assert_int_eq(weft_store_open(&s->store, &o), WEFT_OK);
    weft_store_place(s->store, &s->memory, s->params, s->act);
}

static void close_side(side *s) {
    weft_store_close(s->store);
    weft_mark_free(s->d, &s->computed);
    weft_device_arena_free(s->d, &s->memory);
}

/* "Computes" with a unit: notes its weights, and adds a gradient that depends on them. */
static void use_unit(side *s, int unit, bool backward) {
    weft_device *d = s->d;
    for (int i = 0; i < BUCKETS; i++) {
        const weft_bucket *b = &s->buckets[i];
        if (b->unit != unit && b->unit != WEFT_UNIT_ALWAYS) continue;
        size_t mark = weft_arena_mark(&d->act);
        weft_real *w = weft_arena_push(&d->act, (size_t)b->elements * sizeof *w);
        d->ops->cast(d, w, WEFT_F32, weft_store_weights(s->store, i), weft_store_bucket_type(s->store, i),
                     b->elements);
        d->ops->add_real(d, (weft_real *)s->used + b->offset, w, b->elements);
        if (backward) d->ops->add_real(d, weft_store_grads(s->store, i), w, b->elements);
        if (backward)
            d->ops->add_real(d, weft_store_grads(s->store, i), (weft_real *)s->used + b->offset, b->elements);
        weft_arena_release(&d->act, mark);
    }
}

/* hasty: the device computes as soon as it may, whatever still communicates. */
static void pass(side *s, bool accumulate, bool hasty) {
    const int last = 2 * UNITS - 2;
    weft_store_pass_begin(s->store, s->grads, accumulate);
    for (int at = 0; at <= last; at++) {
        int unit = at < UNITS ? at : last - at, next = at + 1 < UNITS ? at + 1 : last - at - 1;
        weft_store_enter(s->store, unit, at, next, at + 1);
        if (at >= UNITS - 1) weft_store_grads_begin(s->store, unit);
        use_unit(s, unit, at >= UNITS - 1);
        if (hasty) {
            weft_mark_set(s->d, &s->computed);
            until(s->d, &s->computed);
        }
        if (at >= UNITS - 1) weft_store_grads_end(s->store, unit);
    }
    weft_store_pass_end(s->store);
}

/* Three passes, the weights changing after the first; the last adds to the second. The gradients and all
 * weights used, as floats. */
static float *results(side *s) {
    int64_t whole = s->buckets[BUCKETS - 1].offset + s->buckets[BUCKETS - 1].elements;
    float *out = malloc((size_t)(s->shards + whole) * sizeof *out);
    for (int i = 0; i < 3; i++) {
        pass(s, i == 2, i < 2);
        if (i > 0) continue;
        s->d->ops->add_real(s->d, s->params, s->params, s->shards);
        if (s->act) s->d->ops->cast(s->d, s->act, WEFT_BF16, s->params, WEFT_F32, s->shards);
        weft_store_changed(s->store);
    }
    memset(g_pinned, 0, PINNED);
    weft_download(s->d, g_pinned, s->grads, (size_t)s->shards * sizeof *out);
    weft_download(s->d, g_pinned + s->shards * 4, s->used, (size_t)whole * sizeof *out);
    weft_device_finish(s->d);
    memcpy(out, g_pinned, (size_t)(s->shards + whole) * sizeof *out);
    close_side(s);
    return out;
}

static void stores(weft_comm *cpu, weft_comm *gpu, weft_device *in_turn, weft_dtype type,
                   weft_reshard reshard, bool prefetch) {
    side a, b, host;
    open_side(&host, cpu, &g_cpu, WEFT_F32, WEFT_F32, reshard, prefetch);
    int64_t n = host.shards + host.buckets[BUCKETS - 1].offset + host.buckets[BUCKETS - 1].elements;
    open_side(&a, gpu, &g_gpu, type, type, reshard, prefetch);
    weft_store_bytes beside = weft_store_memory(a.store);
    float *x = results(&a);
    open_side(&b, gpu, in_turn, type, type, reshard, prefetch);
    weft_store_bytes plain = weft_store_memory(b.store);
    float *y = results(&b), *z = results(&host);
    expect(memcmp(x, y, (size_t)n * sizeof *x) == 0, "overlapping reductions give something else");
    expect(gpu->group[WEFT_GROUP_SHARD].size == 1 || beside.gradients > plain.gradients,
           "overlapping reductions take no memory");
    for (int64_t i = 0; i < n;
         i++) { /* weights are numbers of bf16 here; gradients are rounded once or twice */
        float near = type == WEFT_F32 || i >= host.shards ? 0 : 0.02f * (fabsf(z[i]) + 10);
        expect(fabsf(x[i] - z[i]) <= near, "the store, %s, element %lld: %g, not %g", weft_dtype_name(type),
               (long long)i, (double)x[i], (double)z[i]);
    }
    free(x);
    free(y);
    free(z);
}

START_TEST(overlapping_reductions_change_nothing) {
    weft_driver alone = *g_gpu.driver;
    weft_device in_turn = g_gpu;
    alone.overlaps = false;
    in_turn.driver = &alone;
    for (int i = 0; i < MESHES; i++) {
        weft_mesh mesh;
        weft_comm cpu, gpu;
        if (!make_mesh(&mesh, i)) continue;
        ck_assert_int_eq(weft_comm_open(&cpu, &mesh, 1, false, NULL), WEFT_OK);
        ck_assert_int_eq(weft_comm_open(&gpu, &mesh, 1, false, &g_gpu), WEFT_OK);
        for (int t = 0; t < 2; t++)
            for (int r = WEFT_RESHARD_ALWAYS; r <= WEFT_RESHARD_NEVER; r++)
                for (int prefetch = 0; prefetch < 2; prefetch++)
                    stores(&cpu, &gpu, &in_turn, g_types[t], (weft_reshard)r, prefetch);
        weft_comm_close(&cpu);
        weft_comm_close(&gpu);
    }
    none_is_wrong();
}
END_TEST

/* ---- the ledger ---- */

static weft_ledger_rank rank_of(const char *dir) {
    weft_ledger_job *job;
    ck_assert_int_eq(weft_ledger_job_open(&job, dir, NULL, 0), WEFT_OK);
    weft_ledger_rank r = *weft_ledger_job_rank(job, g_w.rank);
    weft_ledger_job_close(job);
    return r;
}

/* A flat communicator whose collectives are recorded in a directory of their own, and the end of its ledger.
 */
static weft_ledger *open_recorded(weft_comm *c, char dir[]) {
    weft_ledger *ledger = NULL;
    ck_assert(g_w.rank != 0 || mkdtemp(dir));
    weft_world_bcast(dir, strlen(dir) + 1, 0);
    open_flat(c);
    ck_assert_int_eq(weft_ledger_open(&ledger, dir, &c->mesh, 1), WEFT_OK);
    weft_world_barrier();
    c->ledger = ledger;
    return ledger;
}

static void remove_records(weft_ledger *ledger, const char *dir) {
    char command[64];
    weft_ledger_close(ledger);
    snprintf(command, sizeof command, "rm -r %s", dir);
    weft_world_barrier();
    if (g_w.rank == 0) ck_assert_int_eq(system(command), 0);
}

START_TEST(a_record_is_open_until_the_gpu_is_done) {
    enum { N = 64 };
    char dir[] = "/tmp/weft_nccl_XXXXXX";
    weft_comm c;
    if (g_w.size == 1 || getenv("WEFT_EMULATED_STREAMS")) return;
    weft_ledger *ledger = open_recorded(&c, dir);
    float *x = on_device(WEFT_F32, ones(N, 1), N);
    weft_mark end;
    ck_assert_int_eq(weft_mark_make(&g_gpu, &end), WEFT_OK);
    weft_all_reduce(&c, WEFT_GROUP_WORLD, "first", WEFT_F32, x, N, &g_gpu.act);
    weft_all_reduce(&c, WEFT_GROUP_WORLD, "second", WEFT_F32, x, N, &g_gpu.act);
    weft_mark_set(&g_gpu, &end);
    weft_ledger_rank now = rank_of(dir);
    expect(now.last == 2 && now.complete == 0 && now.waits_in == 1,
           "queued: record %llu of %llu complete, waits in %llu", (unsigned long long)now.complete,
           (unsigned long long)now.last, (unsigned long long)now.waits_in);
    weft_ledger_activity(ledger, "reading the batch"); /* the host does not wait */
    now = rank_of(dir);
    expect(now.complete == 0 && now.waits_in == 0, "waits in %llu while it reads",
           (unsigned long long)now.waits_in);
    weft_host_wait(&g_gpu, &end);
    now = rank_of(dir);
    expect(now.complete == 2 && now.waits_in == 0, "done: record %llu complete, waits in %llu",
           (unsigned long long)now.complete, (unsigned long long)now.waits_in);
    weft_world_barrier();
    c.ledger = NULL;
    weft_mark_free(&g_gpu, &end);
    remove_records(ledger, dir);
    weft_comm_close(&c);
    none_is_wrong();
}
END_TEST

/* More collectives than the communicator can follow: the host waits for the oldest before its record is
 * closed; and closing the communicator closes them all. What was done shows in numbers that are copied out
 * behind each. */
START_TEST(records_close_when_the_gpu_is_done) {
    enum { N = 8, MANY = 300 };
    char dir[] = "/tmp/weft_nccl_XXXXXX";
    weft_comm c;
    void *pinned;
    if (g_w.size == 1 || getenv("WEFT_EMULATED_STREAMS")) return;
    weft_ledger *ledger = open_recorded(&c, dir);
    float *x = on_device(WEFT_F32, ones(N, 0), N);
    ck_assert_int_eq(weft_host_memory(&g_gpu, MANY * sizeof(float), &pinned), WEFT_OK);
    volatile float *seen = pinned;
    for (int i = 0; i < MANY; i++) seen[i] = -1;
    for (int i = 0; i < MANY; i++) {
        weft_all_reduce(&c, WEFT_GROUP_WORLD, "many", WEFT_F32, x, N, &g_gpu.act);
        weft_download(&g_gpu, (float *)pinned + i, x, sizeof(float));
    }
    weft_ledger_rank now = rank_of(dir);
    expect(now.last == MANY && now.complete > 1 && now.complete < MANY, "record %llu of %llu complete",
           (unsigned long long)now.complete, (unsigned long long)now.last);
    expect(seen[now.complete - 2] >= 0, "record %llu is closed, but its collective is not done",
           (unsigned long long)now.complete - 1);
    weft_comm_close(&c);
    now = rank_of(dir);
    expect(now.complete == MANY, "closed: record %llu of %llu complete", (unsigned long long)now.complete,
           (unsigned long long)now.last);
    weft_world_barrier();
    weft_host_memory_free(&g_gpu, pinned);
    remove_records(ledger, dir);
    none_is_wrong();
}
END_TEST

/* ---- a communicator that fails ---- */

/* In a child process, which may end. */
START_TEST(a_failed_communicator_ends_the_process) {
    weft_comm c;
    int ends[2], status = 0;
    char text[1024] = "", error[32];
    if (g_w.size == 1 || !strstr(weft_cuda_version(), "emulated")) return;
    open_flat(&c);
    snprintf(error, sizeof error, "%d:0", g_w.rank);
    ck_assert_int_eq(pipe(ends), 0);
    pid_t child = fork();
    if (child == 0) {
        setenv("WEFT_EMULATED_NCCL_ERROR", error, 1);
        dup2(ends[1], STDERR_FILENO);
        weft_all_gather(&c, WEFT_GROUP_WORLD, "layers.3", NULL, 0);
        _exit(0);
    }
    close(ends[1]);
    for (ssize_t at = 0, n; (n = read(ends[0], text + at, sizeof text - 1 - (size_t)at)) > 0;) at += n;
    close(ends[0]);
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    expect(WIFEXITED(status) && WEXITSTATUS(status) == 1, "the process did not end with status 1");
    expect(strstr(text, "NCCL") && strstr(text, "world group") && strstr(text, "remote process exited"), "%s",
           text);
    weft_comm_close(&c);
    none_is_wrong();
}
END_TEST

static weft_status set_up(int *argc, char ***argv) {
    weft_cuda_options o = {.act = WEFT_BF16, .attention = WEFT_ATTENTION_WEFT};
    void *pinned;
    WEFT_TRY(weft_world_init(argc, argv, &g_w));
    o.local_rank = g_w.local_rank;
    WEFT_TRY(weft_device_open_cpu(&g_cpu));
    WEFT_TRY(weft_device_size(&g_cpu, WORK));
    WEFT_TRY(weft_device_open_cuda(&g_gpu, &o));
    WEFT_TRY(weft_device_size(&g_gpu, WORK));
    WEFT_TRY(weft_device_arena(&g_gpu, &g_memory, "test", MEMORY));
    WEFT_TRY(weft_host_memory(&g_gpu, PINNED, &pinned));
    g_pinned = pinned;
    o.dry = true;
    WEFT_TRY(weft_device_open_cuda(&g_dry, &o));
    return weft_device_measure(&g_dry);
}

int main(int argc, char **argv) {
    const TTest *const tests[] = {the_gpu_moves_what_the_host_moves,
                                  a_started_gather_runs_beside_the_computing,
                                  hosts_run_far_ahead,
                                  overlapping_reductions_change_nothing,
                                  a_record_is_open_until_the_gpu_is_done,
                                  records_close_when_the_gpu_is_done,
                                  a_failed_communicator_ends_the_process};
    if (weft_cuda_devices() == 0) {
        puts("skipped: no CUDA device");
        return 77;
    }
    if (set_up(&argc, &argv) != WEFT_OK) return 1;
    int code = weft_world_exit_code(suite_run("nccl", tests, (int)(sizeof tests / sizeof *tests)));
    weft_host_memory_free(&g_gpu, g_pinned);
    weft_device_arena_free(&g_gpu, &g_memory);
    weft_device_close(&g_dry);
    weft_device_close(&g_gpu);
    weft_device_close(&g_cpu);
    weft_world_finalize();
    return code;
}
