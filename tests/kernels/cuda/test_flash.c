/* Attention by our own CUDA kernels against the CPU's. */
#include "cuda/flash.h"
#include "kernels/cuda/pair.h"
#include "runtime/rng.h"
#include "support/suite.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Which instructions move the rows: 16 bytes at a time need widths, strides and heads that are multiples. */
typedef enum rows { DENSE, WIDE, ODD } rows;

/* Attention to few keys leaves small differences of large gradients, of which bf16 rounds each. */
typedef struct shape {
    int B, Tq, Tk, H, G, d;
    int documents; /* mean length; 0: no table */
    rows rows;
    double gradient_bf16; /* tolerance */
} shape;

static const shape shapes[] = {
    {1, 1, 1, 1, 1, 8, 0, DENSE, 1e-2},        {2, 37, 37, 4, 1, 24, 0, ODD, 1.5e-2},
    {1, 63, 63, 2, 2, 16, 0, DENSE, 1e-2},     {1, 64, 64, 1, 1, 64, 0, DENSE, 1e-2},
    {1, 65, 65, 4, 1, 16, 10, WIDE, 2.5e-2},   {1, 130, 130, 2, 1, 64, 60, DENSE, 2e-2},
    {1, 130, 130, 2, 2, 32, 0, DENSE, 1.5e-2}, {2, 65, 65, 8, 2, 16, 5, DENSE, 1.5e-2},
    {1, 70, 70, 4, 4, 40, 0, WIDE, 2e-2},      {1, 66, 66, 1, 1, 80, 25, DENSE, 1.5e-2},
    {1, 65, 65, 2, 1, 128, 0, WIDE, 2e-2},     {1, 20, 150, 2, 1, 20, 15, ODD, 1.5e-2},
    {3, 1, 65, 4, 2, 64, 0, DENSE, 1e-2},      {1, 40, 100, 2, 2, 96, 30, WIDE, 2e-2},
    {1, 34, 66, 2, 1, 160, 9, ODD, 1.5e-2},    {1, 65, 65, 1, 1, 256, 0, DENSE, 1.5e-2},
    {1, 150, 150, 1, 1, 7, 70, ODD, 1e-2},     {1, 5, 9, 6, 1, 33, 2, ODD, 1e-2},
};

/* Documents of random lengths, by the position at which each token's began. The first began before the first
 * query. */
static int32_t *documents_of(const shape *s) {
    if (s->documents == 0) return NULL;
    const weft_rng rng = weft_rng_make(7, "documents");
    const int before = s->Tk - s->Tq;
    int32_t *start = malloc((size_t)(s->B * s->Tq) * sizeof *start);
    ck_assert_ptr_nonnull(start);
    for (int b = 0; b < s->B; b++) {
        int32_t now = (int32_t)(before * weft_rng_uniform(rng, (uint64_t)b));
        for (int i = 0; i < s->Tq; i++) {
            const uint64_t at = (uint64_t)(s->B + b * s->Tq + i);
            if (i > 0 && weft_rng_uniform(rng, at) * s->documents < 1) now = before + i;
            start[b * s->Tq + i] = now;
        }
    }
    return start;
}

typedef struct arrays {
    pair_array q, k, v, o, lse, dout, dq, dk, dv, documents;
} arrays;

static weft_attention problem(const shape *s, const arrays *x, pair *pair_now) {
    static const int wide[] = {0, 16, 3};
    const int more = wide[s->rows];
    return (weft_attention){.B = s->B,
                            .Tq = s->Tq,
                            .Tk = s->Tk,
                            .H = s->H,
                            .G = s->G,
                            .d = s->d,
                            .q_pos0 = s->Tk - s->Tq,
                            .ldq = s->H * s->d + more,
                            .ldk = s->G * s->d + 2 * more,
                            .ldv = s->G * s->d + more,
                            .ldo = s->H * s->d + 3 * more,
                            .scale = (weft_real)(1 / sqrt(s->d)),
                            .q = PAIR(x->q),
                            .k = PAIR(x->k),
                            .v = PAIR(x->v),
                            .doc_start = PAIR(x->documents),
                            .o = PAIR(x->o),
                            .lse = PAIR(x->lse),
                            .dout = PAIR(x->dout),
                            .dq = PAIR(x->dq),
                            .dk = PAIR(x->dk),
                            .dv = PAIR(x->dv)};
}

/* The kernels are called by name, whatever attention the device would choose. */
static void forward(const shape *s, const arrays *x, pair *p) {
    PAIR_RUN(p, {
        const weft_attention a = problem(s, x, pair_now);
        if (pair_now->on_gpu)
            cuda_flash_fwd(d, &a);
        else
            ops->attention_fwd(d, &a);
    });
}
static void backward(const shape *s, const arrays *x, pair *p) {
    PAIR_RUN(p, {
        const weft_attention a = problem(s, x, pair_now);
        if (pair_now->on_gpu)
            cuda_flash_bwd(d, &a);
        else
            ops->attention_bwd(d, &a);
    });
}

/* The backward pass of both sides starts from the CPU's o, as the device can hold it, and lse. */
static void give(pair *p, pair_array array) {
    pair_one *x = &p->arrays[array];
    for (int64_t i = 0; i < x->n; i++) {
        uint32_t bits;
        memcpy(&bits, (float *)x->cpu + i, sizeof bits);
        if (x->type == WEFT_BF16) bits = (bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000;
        memcpy((float *)x->before + i, &bits, sizeof bits);
    }
}

/* With one key its weight is 1 whatever the scores: the gradients of q and k are what rounding leaves of 0.
 */
static void check_zero(const pair *p, pair_array array, const char *name) {
    for (int64_t i = 0; i < p->arrays[array].n; i++)
        ck_assert_msg(fabs(pair_gpu_value(p, array, i)) < 1e-5, "%s[%d]: %g", name, (int)i,
                      pair_gpu_value(p, array, i));
}

typedef struct tolerances {
    double o, lse, gradient;
} tolerances;

static void run(const shape *s, weft_dtype type, tolerances within) {
    pair p;
    pair_open(&p, type);
    int32_t *documents = documents_of(s);
    arrays x = {.o = -1, .lse = -1, .dout = -1, .dq = -1, .dk = -1, .dv = -1};
    const weft_attention ld = problem(s, &x, &p);
    const int64_t queries = s->B * s->Tq, keys = s->B * s->Tk;
    x.q = pair_act(&p, queries * ld.ldq, PAIR_UNIFORM(-3, 3));
    x.k = pair_act(&p, keys * ld.ldk, PAIR_UNIFORM(-3, 3));
    x.v = pair_act(&p, keys * ld.ldv, PAIR_UNIFORM(-1, 1));
    x.documents = documents ? pair_i32(&p, documents, queries) : -1;
    x.o = pair_act_out(&p, queries * ld.ldo);
    forward(s, &x, &p);
    pair_check(&p, x.o, "o without lse", within.o);

    x.lse = pair_real_out(&p, queries * s->H);
    forward(s, &x, &p);
    pair_check(&p, x.o, "o", within.o);
    pair_check(&p, x.lse, "lse", within.lse);

    give(&p, x.o);
    give(&p, x.lse);
    x.dout = pair_act(&p, queries * ld.ldo, PAIR_UNIFORM(-1, 1));
    x.dq = pair_act_out(&p, queries * ld.ldq);
    x.dk = pair_act_out(&p, keys * ld.ldk);
    x.dv = pair_act_out(&p, keys * ld.ldv);
    backward(s, &x, &p);
    if (s->Tk == 1) {
        check_zero(&p, x.dq, "dq");
        check_zero(&p, x.dk, "dk");
    } else {
        pair_check(&p, x.dq, "dq", within.gradient);
        pair_check(&p, x.dk, "dk", within.gradient);
    }
    pair_check(&p, x.dv, "dv", within.gradient);
    free(documents);
    pair_close(&p);
}

/* Says which shape it was that fails. */
static void announce(const shape *s, weft_dtype type) {
    printf("%s B=%d Tq=%d Tk=%d H=%d G=%d d=%d documents=%d rows=%d\n", weft_dtype_name(type), s->B, s->Tq,
           s->Tk, s->H, s->G, s->d, s->documents, s->rows);
    fflush(stdout);
}

START_TEST(attention_f32) {
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        announce(&shapes[i], WEFT_F32);
        run(&shapes[i], WEFT_F32, (tolerances){1e-5, 1e-5, 1e-5});
    }
}
END_TEST

/* o comes of weights rounded to 8 bits; the gradients of weights and gradients of weights so rounded. */
START_TEST(attention_bf16) {
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        announce(&shapes[i], WEFT_BF16);
        run(&shapes[i], WEFT_BF16, (tolerances){3e-3, 1e-5, shapes[i].gradient_bf16});
    }
}
END_TEST

static void fill(pair *p, pair_array array, int64_t n, float value) {
    for (int64_t i = 0; i < n; i++) ((float *)p->arrays[array].before)[i] = value;
}

/* Keys and values outside of the document have no influence at all, though their scores are infinite. */
static void run_apart(weft_dtype type, double tolerance) {
    enum { T = 40, HIDDEN = 25, D = 16 };
    const shape s = {.B = 1, .Tq = T - HIDDEN, .Tk = T, .H = 2, .G = 1, .d = D};
    int32_t documents[T - HIDDEN];
    for (int i = 0; i < T - HIDDEN; i++) documents[i] = HIDDEN;
    pair p;
    pair_open(&p, type);
    arrays x = {.q = pair_act(&p, s.Tq * 2 * D, PAIR_UNIFORM(1, 3)),
                .k = pair_act(&p, s.Tk * D, PAIR_UNIFORM(-1, 1)),
                .v = pair_act(&p, s.Tk * D, PAIR_UNIFORM(-1, 1)),
                .o = pair_act_out(&p, s.Tq * 2 * D),
                .lse = pair_real_out(&p, s.Tq * 2),
                .dout = pair_act(&p, s.Tq * 2 * D, PAIR_UNIFORM(1, 3)),
                .dq = pair_act_out(&p, s.Tq * 2 * D),
                .dk = pair_act_out(&p, s.Tk * D),
                .dv = pair_act_out(&p, s.Tk * D),
                .documents = pair_i32(&p, documents, s.Tq)};
    fill(&p, x.k, HIDDEN * D, 0x1p127f);
    fill(&p, x.v, HIDDEN * D, 0x1p127f);
    forward(&s, &x, &p);
    pair_check(&p, x.o, "o", tolerance);
    give(&p, x.o);
    give(&p, x.lse);
    backward(&s, &x, &p);
    pair_check(&p, x.dq, "dq", tolerance);
    pair_check(&p, x.dk, "dk", tolerance);
    pair_check(&p, x.dv, "dv", tolerance);
    for (int64_t i = 0; i < HIDDEN * D; i++) {
        ck_assert(pair_gpu_value(&p, x.dk, i) == 0);
        ck_assert(pair_gpu_value(&p, x.dv, i) == 0);
    }
    pair_close(&p);
}

START_TEST(documents_are_apart) {
    run_apart(WEFT_F32, 1e-5);
    run_apart(WEFT_BF16, 1e-2);
}
END_TEST

SUITE_MAIN("CUDA attention", attention_f32, attention_bf16, documents_are_apart)
