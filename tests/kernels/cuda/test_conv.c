/* Causal convolution on a CUDA device against the CPU; parts of a sequence against the whole. */
#include "kernels/cuda/documents.h"
#include "support/suite.h"

#include <math.h>

#define COUNT(table) (int)(sizeof(table) / sizeof *(table))

/* Sums of a few products, in the same order; the parameters' over all rows, in another. */
#define TOLERANCE 1e-5

typedef struct conv_shape {
    int64_t B, T, E, K, wide;  /* strides are wider than the rows by `wide` elements */
    int bias, halo, documents; /* halo: 2 for that of a chunk; documents: mean length, 0 for none */
} conv_shape;

static const conv_shape shapes[] = {
    {1, 1, 8, 4, 0, 1, 0, 0},     {2, 1, 24, 4, 0, 1, 1, 0},   {2, 2, 100, 4, 4, 0, 1, 1},
    {3, 37, 24, 2, 1, 1, 0, 5},   {1, 65, 40, 4, 8, 1, 1, 9},  {2, 257, 8, 4, 0, 1, 0, 40},
    {1, 130, 200, 4, 8, 0, 0, 0}, {2, 40, 129, 3, 3, 1, 1, 3}, {1, 37, 24, 1, 0, 1, 0, 4},
    {1, 200, 16, 7, 0, 1, 1, 30}, {3, 61, 24, 4, 8, 1, 2, 40}, {2, 9, 129, 5, 2, 1, 2, 300},
    {1, 300, 5, 4, 0, 1, 0, 1},   {70, 3, 8, 4, 0, 1, 1, 2},   {1, 17000, 8, 4, 0, 1, 0, 999},
    {2, 5, 3, 33, 0, 1, 1, 0},    {2, 0, 8, 4, 0, 1, 1, 0},    {1, 33, 16, 4, 1, 1, 1, 9},
    {2, 20, 16, 4, 4, 1, 0, 6},   {1, 70, 3, 80, 0, 1, 1, 0},
};

/* The arrays of a problem; the halo's are none without one. */
typedef struct problem {
    int64_t B, T, E, K, ld, pos0;
    pair_array x, w, bias, doc_start, halo, dy, y, halo_out, dx, dhalo, dw, dbias;
} problem;

static problem make(pair *p, const conv_shape *s) {
    const int64_t halo = s->B * (s->K - 1) * s->E;
    problem q = {.B = s->B, .T = s->T, .E = s->E, .K = s->K, .ld = s->E + s->wide};
    q.pos0 = s->halo == 1 ? 9 : 0;
    q.x = pair_act(p, s->B * s->T * q.ld, PAIR_UNIFORM(-2, 2));
    q.w = pair_act(p, s->E * s->K, PAIR_UNIFORM(-1, 1));
    q.bias = s->bias ? pair_act(p, s->E, PAIR_UNIFORM(-1, 1)) : -1;
    q.doc_start = s->documents ? pair_documents(p, s->B, s->T, q.pos0, s->halo ? 2 : 0, s->documents) : -1;
    q.halo = s->halo ? pair_act(p, halo, PAIR_UNIFORM(-2, 2)) : -1;
    q.dy = pair_act(p, s->B * s->T * q.ld, PAIR_UNIFORM(-1, 1));
    q.y = pair_act_out(p, s->B * s->T * q.ld), q.dx = pair_act_out(p, s->B * s->T * q.ld);
    q.halo_out = pair_act_out(p, halo);
    q.dhalo = s->halo ? pair_act_out(p, halo) : -1;
    q.dw = pair_real(p, s->E * s->K, PAIR_UNIFORM(-1, 1));
    q.dbias = s->bias ? pair_real(p, s->E, PAIR_UNIFORM(-1, 1)) : -1;
    return q;
}

/* Of the side that runs now. */
static weft_conv conv_of(const pair *p, const problem *q) {
    return (weft_conv){.B = q->B,
                       .T = q->T,
                       .E = q->E,
                       .K = q->K,
                       .ldx = q->ld,
                       .ldy = q->ld,
                       .pos0 = q->pos0,
                       .x = pair_at(p, q->x),
                       .w = pair_at(p, q->w),
                       .bias = pair_at(p, q->bias),
                       .doc_start = pair_at(p, q->doc_start),
                       .halo = pair_at(p, q->halo),
                       .dy = pair_at(p, q->dy),
                       .y = pair_at(p, q->y),
                       .halo_out = pair_at(p, q->halo_out),
                       .dx = pair_at(p, q->dx),
                       .dhalo = pair_at(p, q->dhalo),
                       .dw = pair_at(p, q->dw),
                       .dbias = pair_at(p, q->dbias)};
}

static void check_parameters(const pair *p, const problem *q) {
    pair_check(p, q->dw, "dw", TOLERANCE);
    if (q->dbias >= 0) pair_check(p, q->dbias, "dbias", TOLERANCE);
}

static void check_conv(weft_dtype type, const conv_shape *s) {
    pair p;
    pair_open(&p, type);
    const problem q = make(&p, s);
    PAIR_RUN(&p, {
        const weft_conv a = conv_of(&p, &q);
        ops->conv_fwd(d, &a);
        ops->conv_bwd(d, &a);
    });
    pair_check(&p, q.y, "y", TOLERANCE);
    pair_check(&p, q.halo_out, "halo_out", 0);
    pair_check(&p, q.dx, "dx", TOLERANCE);
    if (q.dhalo >= 0 && s->T > 0) pair_check(&p, q.dhalo, "dhalo", TOLERANCE);
    check_parameters(&p, &q);
    pair_close(&p);
}

START_TEST(convolution) {
    for (int i = 0; i < COUNT(shapes); i++) {
        check_conv(WEFT_F32, &shapes[i]);
        check_conv(WEFT_BF16, &shapes[i]);
    }
}
END_TEST

/* A cache of decoding: the halo is replaced by the next one in place, with fewer and more rows than it has.
 */
static void check_halo_in_place(weft_dtype type, int64_t T) {
    pair p;
    pair_open(&p, type);
    const problem q = make(&p, &(conv_shape){2, T, 24, 4, 0, 1, 1, 0});
    PAIR_RUN(&p, {
        weft_conv a = conv_of(&p, &q);
        a.halo_out = pair_at(&p, q.halo);
        ops->conv_fwd(d, &a);
    });
    pair_check(&p, q.y, "y", TOLERANCE);
    pair_check(&p, q.halo, "halo", 0);
    pair_close(&p);
}

START_TEST(halo_in_place) {
    for (int64_t T = 0; T <= 5; T++) {
        check_halo_in_place(WEFT_F32, T);
        check_halo_in_place(WEFT_BF16, T);
    }
}
END_TEST

/* ---- parts make the whole ---- */

/* Rows from .. to of the only sequence, with the halo between the parts; shifted: as a chunk of context
 * parallelism, which counts positions from its own row 0. */
static weft_conv part_of(const pair *p, const problem *q, int64_t from, int64_t to, pair_array halo,
                         pair_array dhalo, pair_array shifted) {
    weft_conv a = conv_of(p, q);
    a.T = to - from;
    a.x = pair_shift(p, q->x, from * q->ld), a.y = pair_shift(p, q->y, from * q->ld);
    a.dy = pair_shift(p, q->dy, from * q->ld), a.dx = pair_shift(p, q->dx, from * q->ld);
    a.pos0 = shifted < 0 ? from : 0;
    a.doc_start = pair_shift(p, shifted < 0 ? q->doc_start : shifted, from);
    a.halo = from ? pair_at(p, halo) : NULL, a.halo_out = from ? NULL : pair_at(p, halo);
    a.dhalo = from ? pair_at(p, dhalo) : NULL;
    return a;
}

/* doc_start as the part from `cut` on counts positions. */
static pair_array shifted_documents(pair *p, const problem *q, int64_t cut) {
    int32_t *start = malloc((size_t)q->T * sizeof *start);
    for (int64_t t = 0; t < q->T; t++)
        start[t] = (int32_t)(pair_cpu_value(p, q->doc_start, t) - (t < cut ? 0 : (double)cut));
    const pair_array a = pair_i32(p, start, q->T);
    free(start);
    return a;
}

/* The device gets two parts, the CPU the whole. */
static void check_parts(weft_dtype type, int64_t T, int64_t cut, bool chunks) {
    pair p;
    pair_open(&p, type);
    const problem q = make(&p, &(conv_shape){1, T, 24, 4, 8, 1, 0, 7});
    const int64_t taps = (q.K - 1) * q.E;
    const pair_array halo = pair_act_out(&p, taps), dhalo = pair_act_out(&p, taps);
    const pair_array shifted = chunks ? shifted_documents(&p, &q, cut) : -1;
    PAIR_RUN(&p, {
        const weft_conv whole = conv_of(&p, &q);
        const weft_conv first = p.on_gpu ? part_of(&p, &q, 0, cut, halo, dhalo, shifted) : whole;
        const weft_conv second = part_of(&p, &q, cut, T, halo, dhalo, shifted);
        ops->conv_fwd(d, &first);
        if (p.on_gpu) ops->conv_fwd(d, &second);
        if (p.on_gpu) ops->conv_bwd(d, &second);
        ops->conv_bwd(d, &first);
    });
    pair_check(&p, q.y, "y", TOLERANCE);
    check_parameters(&p, &q);
    /* The last rows of the first part also get what the second one gives to its halo, in the activations'
     * type. */
    const double rounding = type == WEFT_BF16 ? 0x1p-8 : 1e-6;
    for (int64_t i = 0; i < T * q.ld; i++) {
        const int64_t row = i / q.ld, e = i % q.ld, late = row - (cut - (q.K - 1));
        if (e >= q.E) continue;
        const double more = late >= 0 && row < cut ? pair_gpu_value(&p, dhalo, late * q.E + e) : 0;
        const double is = pair_gpu_value(&p, q.dx, i), want = pair_cpu_value(&p, q.dx, i);
        ck_assert_msg(fabs(is + more - want) <= rounding * (fabs(is) + fabs(more) + 1),
                      "dx[%d,%d] with the halo's: %g, whole %g", (int)row, (int)e, is + more, want);
    }
    pair_close(&p);
}

START_TEST(parts_make_the_whole) {
    for (int chunks = 0; chunks < 2; chunks++) {
        check_parts(WEFT_F32, 50, 20, chunks);
        check_parts(WEFT_BF16, 50, 20, chunks);
        check_parts(WEFT_F32, 70, 67, chunks);
    }
}
END_TEST

SUITE_MAIN("cuda_conv", convolution, halo_in_place, parts_make_the_whole)
