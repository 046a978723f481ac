/* The maths of the graphs that cuDNN is given: computed on the host by the emulation's interpreter, against
 * the CPU backend's attention. */
#include "emulation/graph_eval.h"
#include "runtime/rng.h"
#include "support/suite.h"

#include <math.h>
#include <string.h>

typedef struct shape {
    int64_t B, H, G, T, d, pad; /* pad: columns behind a row's heads */
} shape;

static const shape shapes[] = {
    {1, 1, 1, 1, 8, 0},  {2, 2, 2, 7, 8, 8},    {1, 4, 1, 33, 24, 0},  {2, 6, 2, 64, 16, 16},
    {1, 8, 8, 65, 8, 0}, {1, 8, 1, 40, 128, 8}, {1, 4, 2, 128, 64, 0},
};

/* ---- arrays: what bf16 holds, as bf16 and as float ---- */

typedef struct twin {
    int64_t n;
    uint16_t *narrow;
    float *wide, *got;
} twin;

static uint64_t seed;

static uint16_t to_bf16(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}
static float from_bf16(uint16_t x) {
    const uint32_t bits = (uint32_t)x << 16;
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static void *memory(int64_t bytes) {
    void *p = calloc(1, (size_t)bytes);
    ck_assert(p != NULL);
    return p;
}

static twin random_twin(int64_t n) {
    twin t = {n, memory(n * 2), memory(n * 4), NULL};
    const weft_rng rng = weft_rng_make(++seed, "graph");
    for (int64_t i = 0; i < n; i++) {
        t.narrow[i] = to_bf16((float)(4 * weft_rng_uniform(rng, (uint64_t)i) - 2));
        t.wide[i] = from_bf16(t.narrow[i]);
    }
    return t;
}
static twin empty_twin(int64_t n) {
    twin t = {n, memory(n * 2), memory(n * 4), NULL};
    memset(t.narrow, 0xff, (size_t)n * 2); /* NaN */
    memset(t.wide, 0xff, (size_t)n * 4);
    return t;
}
/* From here on both hold what the CPU backend found, rounded. */
static void settle(twin *t) {
    for (int64_t i = 0; i < t->n; i++)
        t->narrow[i] = to_bf16(t->wide[i]), t->wide[i] = from_bf16(t->narrow[i]);
}
static void drop(twin *t) {
    free(t->narrow);
    free(t->wide);
}

/* ---- comparing: `width` columns of rows with stride ld; the others must still be NaN ---- */

static void compare(const char *name, const shape *s, const float *cpu, const float *graph, int64_t rows,
                    int64_t width, int64_t ld, double tolerance) {
    double squares = 0;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < width; c++) squares += (double)cpu[r * ld + c] * cpu[r * ld + c];
    const double rms = sqrt(squares / (double)(rows * width));
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < ld; c++) {
            const double x = cpu[r * ld + c], y = graph[r * ld + c];
            if (c >= width ? isnan(y) : fabs(x - y) <= tolerance * (rms + fabs(x))) continue;
            ck_abort_msg(
                "%s, T %d, d %d, heads %d over %d: row %d, column %d: %g, and by the graph %g (rms %g)", name,
                (int)s->T, (int)s->d, (int)s->H, (int)s->G, (int)r, (int)c, x, y, rms);
        }
}

static void compare_twin(const char *name, const shape *s, const twin *t, int64_t width, double tolerance) {
    float *graph = memory(t->n * 4);
    const int64_t ld = width + s->pad;
    for (int64_t i = 0; i < t->n; i++) graph[i] = from_bf16(t->narrow[i]);
    compare(name, s, t->wide, graph, t->n / ld, width, ld, tolerance);
    free(graph);
}

/* [B,H,T] and [B*T,H]. */
static void turn_statistics(const shape *s, float *bht, float *bth, bool to_bht) {
    for (int64_t b = 0; b < s->B; b++)
        for (int64_t h = 0; h < s->H; h++)
            for (int64_t t = 0; t < s->T; t++) {
                float *x = bht + (b * s->H + h) * s->T + t, *y = bth + (b * s->T + t) * s->H + h;
                if (to_bht)
                    *x = *y;
                else
                    *y = *x;
            }
}

/* ---- one shape ---- */

/* The results are rounded to bf16 (2^-9), and so are P, dS and the gradients of the single heads, of which up
 * to eight are added. The statistics stay float. */
static const double OUTPUT = 1.2e-2, GRADIENT = 3e-2, STATISTIC = 2e-6;

static void run(weft_device *d, const shape *s) {
    const int64_t rows = s->B * s->T, wide = s->H * s->d, narrow = s->G * s->d, statistics = rows * s->H;
    const int64_t ldq = wide + s->pad, ldk = narrow + s->pad;
    twin q = random_twin(rows * ldq), k = random_twin(rows * ldk), v = random_twin(rows * ldk);
    twin dout = random_twin(rows * ldq), o = empty_twin(rows * ldq), dq = empty_twin(rows * ldq);
    twin dk = empty_twin(rows * ldk), dv = empty_twin(rows * ldk);
    float *lse = memory(statistics * 4), *lse_bht = memory(statistics * 4), *lse_bth = memory(statistics * 4);
    float *delta = memory(statistics * 4);
    weft_graph g;
    weft_graph_shape of = {s->B, s->H, s->G, s->T, s->d, ldq, ldk, ldk, ldq, 1 / sqrtf((float)s->d), 0};
    weft_attention a = {
        .B = s->B, .Tq = s->T, .Tk = s->T, .H = s->H, .G = s->G, .d = s->d, .ldq = ldq, .ldk = ldk};
    a.ldv = ldk, a.ldo = ldq, a.scale = of.scale, a.lse = lse;
    a.q = q.wide, a.k = k.wide, a.v = v.wide, a.o = o.wide, a.dout = dout.wide;
    a.dq = dq.wide, a.dk = dk.wide, a.dv = dv.wide;
    void *const arrays[WEFT_GRAPH_ROLES] = {
        [WEFT_GRAPH_Q] = q.narrow,   [WEFT_GRAPH_K] = k.narrow,   [WEFT_GRAPH_V] = v.narrow,
        [WEFT_GRAPH_O] = o.narrow,   [WEFT_GRAPH_LSE] = lse_bht,  [WEFT_GRAPH_DOUT] = dout.narrow,
        [WEFT_GRAPH_DQ] = dq.narrow, [WEFT_GRAPH_DK] = dk.narrow, [WEFT_GRAPH_DV] = dv.narrow,
        [WEFT_GRAPH_DELTA] = delta,
    };

    d->ops->attention_fwd(d, &a);
    weft_graph_attention(&g, &of);
    ck_assert_ptr_null(graph_fault(&g));
    graph_eval(&g, arrays);
    turn_statistics(s, lse_bht, lse_bth, false);
    compare_twin("o", s, &o, wide, OUTPUT);
    compare("lse", s, lse, lse_bth, rows, s->H, s->H, STATISTIC);

    settle(&o);
    turn_statistics(s, lse_bht, lse, true);
    d->ops->attention_bwd(d, &a);
    of.backward = 1;
    weft_graph_attention(&g, &of);
    ck_assert_ptr_null(graph_fault(&g));
    graph_eval(&g, arrays);
    compare_twin("dq", s, &dq, wide, GRADIENT);
    compare_twin("dk", s, &dk, narrow, GRADIENT);
    compare_twin("dv", s, &dv, narrow, GRADIENT);

    twin *const all[] = {&q, &k, &v, &dout, &o, &dq, &dk, &dv};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) drop(all[i]);
    free(lse), free(lse_bht), free(lse_bth), free(delta);
}

START_TEST(graphs_compute_attention) {
    weft_device d;
    ck_assert(weft_device_open_cpu(&d) == WEFT_OK && weft_device_size(&d, 64 << 20) == WEFT_OK);
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) run(&d, &shapes[i]);
    weft_device_close(&d);
}
END_TEST

/* Parts are as large as the limit allows, divide what they are parts of, and keep heads and groups together.
 */
START_TEST(slices_fit) {
    const weft_graph_shape whole = {6, 24, 6, 512, 64, 1536, 384, 384, 1536, 1, 1};
    const struct {
        size_t limit;
        int64_t B, G; /* B 0: none fits */
    } expected[] = {{SIZE_MAX, 6, 6}, {0, 0, 0}};
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) {
        weft_graph_shape s = whole;
        ck_assert_int_eq(weft_graph_slice(&s, expected[i].limit), expected[i].B > 0);
        if (expected[i].B) ck_assert(s.B == expected[i].B && s.G == expected[i].G && s.H == 4 * s.G);
    }
    const size_t all = weft_graph_workspace(&whole);
    for (size_t parts = 2; parts < 60; parts++) {
        weft_graph_shape s = whole;
        const size_t limit = all / parts;
        if (!weft_graph_slice(&s, limit)) {
            ck_assert(s.B == 1 && s.G == 1 && s.H == 4 && weft_graph_workspace(&s) > limit);
            continue;
        }
        ck_assert(weft_graph_workspace(&s) <= limit && 6 % s.B == 0 && 6 % s.G == 0 && s.H == 4 * s.G);
        ck_assert(s.G == 6 || s.B == 1);
        ck_assert_int_eq(s.T, whole.T);
    }
}
END_TEST

SUITE_MAIN("cuDNN's graphs", graphs_compute_attention, slices_fit)
