/* What a device does in a second, through the operations that training uses. */
#include "ops.h"
#include "train/clock.h"
#include "train/plan/bench.h"
#include "train/statistics.h"

#include <math.h>
#include <stdlib.h>

enum { MOST_PROBES = 64, HEAD = 64, HEADS = 8, STATES = 16, TAPS = 4 };
#define LONG_ENOUGH 0.002 /* seconds of one measurement, at least */

/* The device, and its memory that the probes work in. */
typedef struct bench {
    weft_device *d;
    weft_bench_clock *clock;
    weft_arena memory;
} bench;

typedef struct probe probe;
struct probe {
    void (*run)(bench *b, const probe *p); /* queues the work once */
    double amount;                         /* of it: FLOP, bytes, states, ... */
    weft_rates *rates;                     /* the result: a point of these, */
    double size;
    double *number; /* or this number: amount a second, */
    bool seconds;   /* or seconds of one */
    int64_t m, n, k;
    weft_direction direction;
    int runs; /* at a time */
    double got[WEFT_BENCH_ROUNDS];
};

static weft_act *array(bench *b, int64_t at) { /* `at` in elements of the largest type */
    return b->memory.base + (size_t)at * sizeof(weft_real);
}

/* ---- the probes --------------------------------------------------------------------------------- */

/* Rows of width k and n: y = x w^T, dx = dy w, dw += dy^T x. */
static void product(bench *b, weft_direction direction, int64_t m, int64_t n, int64_t k) {
    const weft_ops *ops = b->d->ops;
    weft_act *x = array(b, 0), *y = array(b, m * k), *w = array(b, m * (n + k));
    if (direction == WEFT_FORWARD) ops->linear_fwd(b->d, y, n, x, k, w, NULL, m, n, k, false);
    if (direction == WEFT_BACKWARD_DATA) ops->linear_dgrad(b->d, x, k, y, n, w, m, n, k, false);
    if (direction == WEFT_BACKWARD_WEIGHTS)
        ops->linear_wgrad(b->d, (weft_real *)w, NULL, y, n, x, k, m, n, k);
}
/* One way and the other: layers widen and narrow. */
static void run_product(bench *b, const probe *p) {
    product(b, p->direction, p->m, p->n, p->k);
    product(b, p->direction, p->m, p->k, p->n);
}

/* y = a + b: three arrays of n elements. */
static void run_triad(bench *b, const probe *p) {
    b->d->ops->add(b->d, array(b, 0), array(b, p->n), array(b, 2 * p->n), p->n);
}

static void run_swiglu(bench *b, const probe *p) {
    b->d->ops->swiglu_fwd(b->d, array(b, 0), array(b, p->m * p->n), p->m, p->n);
}

static void run_norm(bench *b, const probe *p) {
    weft_act *dh = array(b, 0), *dy = array(b, p->m * p->n), *h = array(b, 2 * p->m * p->n);
    weft_real *rest = (weft_real *)array(b, 3 * p->m * p->n);
    b->d->ops->rmsnorm_bwd(b->d, dh, p->n, rest, dy, p->n, h, p->n, rest + p->n, rest + p->n + p->m, p->m,
                           p->n, false);
}

/* m tokens in sequences of k. */
static void run_attention(bench *b, const probe *p) {
    const int64_t rows = p->m, width = HEADS * HEAD;
    weft_attention a = {.B = rows / p->k, .Tq = p->k, .Tk = p->k, .H = HEADS, .G = HEADS, .d = HEAD};
    a.ldq = a.ldk = a.ldv = a.ldo = width;
    a.scale = (weft_real)(1 / sqrt((double)HEAD));
    a.q = array(b, 0), a.k = array(b, rows * width), a.v = array(b, 2 * rows * width),
    a.o = array(b, 3 * rows * width);
    a.dout = array(b, 4 * rows * width), a.dq = array(b, 5 * rows * width), a.dk = array(b, 6 * rows * width);
    a.dv = array(b, 7 * rows * width);
    a.lse = (weft_real *)array(b, 8 * rows * width);
    if (p->direction == WEFT_FORWARD)
        b->d->ops->attention_fwd(b->d, &a);
    else
        b->d->ops->attention_bwd(b->d, &a);
}

/* m tokens, n channels. */
static void run_scan(bench *b, const probe *p) {
    const int64_t rows = p->m, E = p->n, N = STATES, T = p->k, all = rows * E;
    weft_scan a = {
        .B = rows / T, .T = T, .E = E, .N = N, .ldu = E, .lddt = E, .ldz = E, .ldy = E, .ldbc = 2 * N};
    weft_act *bc = array(b, 8 * all), *dbc = array(b, 8 * all + 2 * rows * N);
    a.u = array(b, 0), a.dt = array(b, all), a.z = array(b, 2 * all), a.y = array(b, 3 * all),
    a.out = array(b, 4 * all);
    a.dout = a.out, a.du = array(b, 5 * all), a.ddt = array(b, 6 * all), a.dz = array(b, 7 * all);
    a.Bm = bc, a.Cm = weft_act_at(bc, b->d->act_dtype, N);
    a.dB = dbc, a.dC = weft_act_at(dbc, b->d->act_dtype, N);
    weft_real *real = (weft_real *)array(b, 8 * all + 4 * rows * N);
    a.dt_bias = real, a.A_log = real + E, a.D = real + E + E * N;
    real += E * N + 2 * E;
    a.ddt_bias = real, a.dA_log = real + E, a.dD = real + E + E * N;
    a.states = real + E * N + 2 * E;
    if (p->direction == WEFT_FORWARD)
        b->d->ops->scan_fwd(b->d, &a);
    else
        b->d->ops->scan_bwd(b->d, &a);
}

/* m tokens, n channels. */
static void run_conv(bench *b, const probe *p) {
    const int64_t all = p->m * p->n;
    weft_conv a = {.B = p->m / p->k, .T = p->k, .E = p->n, .K = TAPS, .ldx = p->n, .ldy = p->n};
    weft_act *w = array(b, 4 * all);
    weft_real *dw = (weft_real *)array(b, 4 * all + p->n * (TAPS + 1));
    a.x = array(b, 0), a.y = array(b, all), a.dy = array(b, 2 * all), a.dx = array(b, 3 * all);
    a.w = w, a.bias = weft_act_at(w, b->d->act_dtype, p->n * TAPS);
    a.dw = dw, a.dbias = dw + p->n * TAPS;
    if (p->direction == WEFT_FORWARD)
        b->d->ops->conv_fwd(b->d, &a);
    else
        b->d->ops->conv_bwd(b->d, &a);
}

/* ---- which probes, of what sizes ---------------------------------------------------------------- */

typedef struct list {
    probe *p;
    int count;
} list;

static probe *add(list *l, probe p) {
    WEFT_CHECK(l->count < MOST_PROBES, "more than %d probes", (int)MOST_PROBES);
    l->p[l->count] = p;
    return &l->p[l->count++];
}

/* Products of `tokens` rows and two widths, the smaller of which goes through the sizes. */
static void add_products(list *l, weft_rates rates[WEFT_DIRECTIONS], int64_t tokens, int64_t wide,
                         int64_t most) {
    for (int64_t size = 8; size <= most; size *= 2)
        for (int i = 0; i < WEFT_DIRECTIONS; i++) {
            int64_t other = size > wide ? size : wide;
            add(l, (probe){.run = run_product,
                           .amount = 4 * (double)tokens * (double)size * (double)other,
                           .rates = &rates[i],
                           .size = (double)size,
                           .m = tokens,
                           .n = size,
                           .k = other,
                           .direction = (weft_direction)i});
        }
}

static void add_sequences(list *l, weft_machine *out, int64_t tokens, int64_t channels) {
    for (int back = 0; back < 2; back++) {
        const weft_direction direction = back ? WEFT_BACKWARD_DATA : WEFT_FORWARD;
        for (int64_t T = 128; T <= tokens; T *= 4)
            add(l,
                (probe){.run = run_attention,
                        .amount = (back ? 10.0 : 4.0) * HEAD * HEADS * (double)tokens * (double)(T + 1) / 2,
                        .rates = &out->attention[back],
                        .size = (double)T,
                        .m = tokens,
                        .k = T,
                        .direction = direction});
        add(l, (probe){.run = run_scan,
                       .amount = (double)(tokens * channels) * STATES,
                       .rates = &out->scan[back],
                       .m = tokens,
                       .n = channels,
                       .k = 256,
                       .direction = direction});
        add(l, (probe){.run = run_conv,
                       .amount = (double)(tokens * channels),
                       .rates = &out->conv[back],
                       .m = tokens,
                       .n = channels,
                       .k = 256,
                       .direction = direction});
    }
}

static void add_rest(list *l, weft_machine *out, int64_t element, int64_t scale) {
    const int64_t rows = 64 * scale, width = 512, large = (INT64_C(1) << 23) * scale; /* beyond any cache */
    add(l, (probe){.run = run_triad,
                   .amount = 3 * (double)(large * element),
                   .number = &out->bandwidth,
                   .n = large});
    add(l, (probe){.run = run_swiglu,
                   .amount = 2 * (double)(rows * width),
                   .number = &out->special,
                   .m = rows,
                   .n = width});
    add(l, (probe){.run = run_norm,
                   .amount = 9 * (double)(rows * width),
                   .number = &out->vector,
                   .m = rows,
                   .n = width});
    add(l, (probe){.run = run_triad, .amount = 1, .number = &out->launch, .seconds = true, .n = 64});
}

/* ---- clocks ------------------------------------------------------------------------------------- */

static double processor(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}
static double wall(void) {
    return weft_clock();
}
bool weft_bench_own_time(const weft_device *d) {
    return weft_device_on_host(d) && d->threads == 1;
}
weft_bench_clock *weft_bench_clock_of(const weft_device *d) {
    return weft_bench_own_time(d) ? processor : wall;
}

/* ---- measuring ---------------------------------------------------------------------------------- */

static double time_runs(bench *b, const probe *p, int runs) {
    weft_device_finish(b->d);
    weft_world_barrier();
    double began = b->clock();
    for (int i = 0; i < runs; i++) p->run(b, p);
    weft_device_finish(b->d);
    return b->clock() - began;
}

/* As many runs as are long enough; on all ranks alike. The first loads libraries and kernels. */
static void calibrate(bench *b, probe *p) {
    (void)time_runs(b, p, 1);
    for (p->runs = 1; p->runs < 1 << 20; p->runs *= 2) {
        int64_t microseconds = (int64_t)(1e6 * time_runs(b, p, p->runs));
        if ((double)weft_world_max_i64(microseconds) >= 1e6 * LONG_ENOUGH) return;
    }
}

static double mean_over_ranks(const weft_world *w, double x) {
    double sum = 0, *all = malloc((size_t)w->size * sizeof *all);
    WEFT_CHECK(all, "no memory for %d numbers", w->size);
    weft_world_allgather(&x, all, sizeof x);
    for (int r = 0; r < w->size; r++) sum += all[r];
    free(all);
    return sum / w->size;
}

static void conclude(const weft_world *w, probe *p, int rounds) {
    double x = mean_over_ranks(w, weft_median(p->got, rounds));
    if (p->number)
        *p->number = x;
    else
        WEFT_CHECK(weft_rates_add(p->rates, p->size, x), "a rate of size %g is there already", p->size);
}

/* The memory that a probe reaches into, by running all of them against nothing. */
static int64_t elements_needed(const list *l) {
    int64_t most = 0;
    for (int i = 0; i < l->count; i++) {
        const probe *p = &l->p[i];
        int64_t n = p->run == run_product  ? p->m * (p->n + p->k) + p->n * p->k
                    : p->run == run_triad  ? 3 * p->n
                    : p->run == run_swiglu ? 3 * p->m * p->n
                    : p->run == run_norm   ? 3 * p->m * p->n + 2 * p->n + p->m
                    : p->run == run_conv   ? 4 * p->m * p->n + 2 * p->n * (TAPS + 1)
                    : p->run == run_attention
                        ? p->m * HEADS * (8 * HEAD + 1)
                        : 8 * p->m * p->n + 4 * p->m * STATES + 2 * p->n * (STATES + 2) +
                              weft_scan_states_size(p->m / p->k, p->k, p->n, STATES);
        if (n > most) most = n;
    }
    return most;
}

static weft_status open_memory(bench *b, const list *l) {
    WEFT_TRY(weft_device_measure(b->d));
    for (int i = 0; i < l->count; i++) l->p[i].run(b, &l->p[i]);
    WEFT_TRY(weft_device_size(b->d, b->d->act.peak));
    size_t bytes = (size_t)elements_needed(l) * sizeof(weft_real);
    WEFT_TRY(weft_device_arena(b->d, &b->memory, "benchmark", bytes));
    b->d->ops->zero(b->d, b->memory.base, bytes);
    return WEFT_OK;
}

static weft_status run_all(const weft_world *w, bench *b, list *l, int rounds) {
    weft_status st = weft_world_agree(open_memory(b, l));
    if (st == WEFT_OK) {
        for (int i = 0; i < l->count; i++) calibrate(b, &l->p[i]);
        for (int r = 0; r < rounds; r++)
            for (int i = 0; i < l->count; i++) {
                probe *p = &l->p[i];
                double each = time_runs(b, p, p->runs) / p->runs;
                p->got[r] = p->seconds ? each : p->amount / each;
            }
        for (int i = 0; i < l->count; i++) conclude(w, &l->p[i], rounds);
    }
    weft_device_arena_free(b->d, &b->memory);
    return st;
}

weft_status weft_bench_machine(const weft_world *w, weft_device *d, weft_product_type type, int rounds,
                               weft_machine *out) {
    const bool host = weft_device_on_host(d), first = out->bandwidth == 0;
    const int64_t tokens = host ? 1024 : 8192;
    list l = {.p = calloc(MOST_PROBES, sizeof *l.p)};
    bench b = {.d = d, .clock = weft_bench_clock_of(d)};
    WEFT_CHECK(rounds <= WEFT_BENCH_ROUNDS, "%d rounds", rounds);
    weft_status st = weft_world_agree(l.p ? WEFT_OK : weft_fail(WEFT_ENOMEM, "no memory"));
    if (st == WEFT_OK) {
        add_products(&l, out->products[type], tokens, host ? 512 : 4096, host ? 1024 : 8192);
        if (first) {
            add_sequences(&l, out, host ? 2048 : 8192, host ? 512 : 4096);
            add_rest(&l, out, (int64_t)weft_dtype_size(d->act_dtype), host ? 1 : 16);
        }
        st = run_all(w, &b, &l, rounds);
    }
    free(l.p);
    return st;
}
