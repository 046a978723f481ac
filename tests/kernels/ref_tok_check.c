/* One case of an operation against its reference. Arrays that an operation writes start with random contents,
 * so that what it should leave alone (gaps between rows) or add to is compared as well. */
#include "kernels/ref_tok.h"

#define NAMED(what, ...)                                                                                     \
    char what[160];                                                                                          \
    snprintf(what, sizeof what, __VA_ARGS__)
#define LL(x) ((long long)(x))

/* ---- RMSNorm ---- */

typedef struct norm_args {
    const ref_tok_norm_case *c;
    int64_t ld;
    ref_tok_array x, delta, w, y, rstd, h, dh, dy, dw;
} norm_args;
static const weft_real norm_eps = (weft_real)1e-6;

static void call_norm_fwd(weft_device *d, void *of) {
    norm_args *a = of;
    bool delta = a->c->delta;
    d->ops->rmsnorm_fwd(d, a->y.x, a->ld + 1, a->rstd.x, delta ? a->h.x : NULL, a->x.x, a->ld,
                        delta ? a->delta.x : NULL, a->w.x, norm_eps, a->c->M, a->c->D);
}

static void call_norm_bwd(weft_device *d, void *of) {
    norm_args *a = of;
    d->ops->rmsnorm_bwd(d, a->c->in_place ? a->dy.x : a->dh.x, a->ld, a->dw.x, a->dy.x, a->ld,
                        a->c->delta ? a->h.x : a->x.x, a->ld, a->rstd.x, a->w.x, a->c->M, a->c->D,
                        a->c->accumulate);
}

void ref_tok_check_norm(const ref_tok_norm_case *c) {
    NAMED(what, "rmsnorm M %lld D %lld pad %lld delta %d accumulate %d in place %d", LL(c->M), LL(c->D),
          LL(c->pad), c->delta, c->accumulate, c->in_place);
    int64_t ld = c->D + c->pad, n = c->M * ld;
    norm_args a = {c,
                   ld,
                   ref_tok_random("x", n, 2),
                   ref_tok_random("delta", c->M * c->D, 1),
                   ref_tok_random("w", c->D, 1),
                   ref_tok_random("y", n + c->M, 1),
                   ref_tok_random("rstd", c->M, 1),
                   ref_tok_random("h", n, 1),
                   ref_tok_random("dh", n, 1),
                   ref_tok_random("dy", n, 1),
                   ref_tok_random("dw", c->D, 1)};
    ref_tok_run(what, call_norm_fwd, &a,
                (ref_tok_out[]){REF_TOK_OUT(a.y), REF_TOK_OUT(a.rstd), REF_TOK_OUT(a.h)}, 3);
    ref_tok_rmsnorm(a.y.ref, ld + 1, a.rstd.ref, a.h.ref, a.x.ref, ld, c->delta ? a.delta.ref : NULL, a.w.ref,
                    (double)norm_eps, c->M, c->D);
    ref_tok_close(what, a.y, c->tol);
    ref_tok_close(what, a.rstd, c->tol);
    ref_tok_close(what, a.h, c->tol);

    ref_tok_run(what, call_norm_bwd, &a,
                (ref_tok_out[]){REF_TOK_OUT(a.dh), REF_TOK_OUT(a.dw), REF_TOK_OUT(a.dy)}, 3);
    ref_tok_rmsnorm_bwd(c->in_place ? a.dy.ref : a.dh.ref, ld, a.dw.ref, a.dy.ref, ld,
                        c->delta ? a.h.ref : a.x.ref, ld, a.w.ref, (double)norm_eps, c->M, c->D,
                        c->accumulate);
    /* dh is a difference of two terms of the size of rstd, and next to nothing when D is 1. */
    double scale = 0;
    for (int64_t m = 0; m < c->M; m++) scale = fmax(scale, a.rstd.ref[m]);
    ref_tok_within(what, a.dh, c->tol, scale);
    ref_tok_within(what, a.dy, c->tol, scale);
    ref_tok_close(what, a.dw, c->tol);
    ref_tok_array *all[] = {&a.x, &a.delta, &a.w, &a.y, &a.rstd, &a.h, &a.dh, &a.dy, &a.dw};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) ref_tok_free(*all[i]);
}

/* ---- SwiGLU ---- */

typedef struct swiglu_args {
    const ref_tok_swiglu_case *c;
    ref_tok_array gu, y, dy, dgu, w, dw;
} swiglu_args;

static void call_swiglu_fwd(weft_device *d, void *of) {
    swiglu_args *a = of;
    d->ops->swiglu_fwd(d, a->y.x, a->gu.x, a->c->M, a->c->F);
}

static void call_swiglu_bwd(weft_device *d, void *of) {
    swiglu_args *a = of;
    d->ops->swiglu_bwd(d, a->c->in_place ? a->gu.x : a->dgu.x, a->dy.x, a->gu.x, a->c->M, a->c->F);
}

static void call_swiglu_weighted_bwd(weft_device *d, void *of) {
    swiglu_args *a = of;
    d->ops->swiglu_weighted_bwd(d, a->c->in_place ? a->gu.x : a->dgu.x, a->dw.x, a->dy.x, a->gu.x, a->w.x,
                                a->c->M, a->c->F);
}

static void check_swiglu_weighted(const char *what, const ref_tok_swiglu_case *c) {
    int64_t n = c->M * c->F;
    swiglu_args a = {.c = c,
                     .gu = ref_tok_random("gu", 2 * n, c->deviation),
                     .dy = ref_tok_random("dy", n, 1),
                     .dgu = ref_tok_random("dgu", 2 * n, 1),
                     .w = ref_tok_random("w", c->M, 1),
                     .dw = ref_tok_random("dw", c->M, 1)};
    ref_tok_run(what, call_swiglu_weighted_bwd, &a,
                (ref_tok_out[]){REF_TOK_OUT(a.dgu), REF_TOK_OUT(a.gu), REF_TOK_OUT(a.dw), REF_TOK_OUT(a.dy)},
                4);
    ref_tok_swiglu_weighted_bwd(c->in_place ? a.gu.ref : a.dgu.ref, a.dw.ref, a.dy.ref, a.gu.ref, a.w.ref,
                                c->M, c->F);
    ref_tok_array all[] = {a.dgu, a.gu, a.dw, a.dy, a.w};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        ref_tok_close(what, all[i], c->tol);
        ref_tok_free(all[i]);
    }
}

void ref_tok_check_swiglu(const ref_tok_swiglu_case *c) {
    NAMED(what, "swiglu M %lld F %lld deviation %g in place %d", LL(c->M), LL(c->F), c->deviation,
          c->in_place);
    int64_t n = c->M * c->F;
    swiglu_args a = {.c = c,
                     .gu = ref_tok_random("gu", 2 * n, c->deviation),
                     .y = ref_tok_random("y", n, 1),
                     .dy = ref_tok_random("dy", n, 1),
                     .dgu = ref_tok_random("dgu", 2 * n, 1)};
    ref_tok_run(what, call_swiglu_fwd, &a, (ref_tok_out[]){REF_TOK_OUT(a.y)}, 1);
    ref_tok_swiglu(a.y.ref, a.gu.ref, c->M, c->F);
    ref_tok_close(what, a.y, c->tol);

    ref_tok_run(what, call_swiglu_bwd, &a, (ref_tok_out[]){REF_TOK_OUT(a.dgu), REF_TOK_OUT(a.gu)}, 2);
    ref_tok_swiglu_bwd(c->in_place ? a.gu.ref : a.dgu.ref, a.dy.ref, a.gu.ref, c->M, c->F);
    ref_tok_close(what, a.dgu, c->tol);
    ref_tok_close(what, a.gu, c->tol);
    ref_tok_free(a.gu);
    ref_tok_free(a.y);
    ref_tok_free(a.dy);
    ref_tok_free(a.dgu);
    check_swiglu_weighted(what, c);
}

/* ---- router ---- */

typedef struct router_args {
    weft_router a;
    int64_t *counts;
    ref_tok_array prob_sum, lse2_sum;
} router_args;

static void call_router_fwd(weft_device *d, void *of) {
    d->ops->router_fwd(d, of);
}
static void call_router_bwd(weft_device *d, void *of) {
    d->ops->router_bwd(d, of);
}
static void call_router_stats(weft_device *d, void *of) {
    router_args *r = of;
    d->ops->router_stats(d, r->counts, r->prob_sum.x, r->lse2_sum.x, &r->a);
}

static void check_router_stats(const char *what, const ref_tok_router_case *c, router_args *r,
                               const double *probs, const double *lse, const int32_t *ids) {
    size_t bytes = (size_t)(c->k * c->X) * sizeof(int64_t);
    ref_tok_run(what, call_router_stats, r,
                (ref_tok_out[]){{r->counts, bytes}, REF_TOK_OUT(r->prob_sum), REF_TOK_OUT(r->lse2_sum)}, 3);
    int64_t *counts = calloc((size_t)(c->k * c->X), sizeof *counts);
    memset(r->prob_sum.ref, 0, (size_t)c->X * sizeof(double));
    *r->lse2_sum.ref = 0;
    for (int64_t m = 0; m < c->M; m++) {
        for (int64_t s = 0; s < c->k; s++) counts[s * c->X + ids[m * c->k + s]]++;
        for (int64_t j = 0; j < c->X; j++) r->prob_sum.ref[j] += probs[m * c->X + j];
        *r->lse2_sum.ref += lse[m] * lse[m];
    }
    ck_assert_msg(memcmp(counts, r->counts, bytes) == 0, "%s: counts", what);
    ref_tok_close(what, r->prob_sum, c->tol);
    ref_tok_close(what, r->lse2_sum, c->tol);
    free(counts);
}

void ref_tok_check_router(const ref_tok_router_case *c) {
    NAMED(what, "router M %lld X %lld k %lld normalise %d dprob %d deviation %g", LL(c->M), LL(c->X),
          LL(c->k), c->normalise, c->dprob, c->deviation);
    ref_tok_array logits = ref_tok_random("logits", c->M * c->X, c->deviation);
    ref_tok_array probs = ref_tok_random("probs", c->M * c->X, 1), lse = ref_tok_random("lse", c->M, 1);
    ref_tok_array w = ref_tok_random("w", c->M * c->k, 1), dw = ref_tok_random("dw", c->M * c->k, 1);
    ref_tok_array dprob = ref_tok_random("dprob", c->X, 1),
                  dlogits = ref_tok_random("dlogits", c->M * c->X, 1);
    int32_t *ids = ref_tok_ids("ids", c->M * c->k, c->X), *want = ref_tok_ids("ids", c->M * c->k, c->X);
    size_t id_bytes = (size_t)(c->M * c->k) * sizeof *ids;
    router_args r = {.a = {.M = c->M,
                           .X = c->X,
                           .k = c->k,
                           .normalise = c->normalise,
                           .logits = logits.x,
                           .probs = probs.x,
                           .lse = lse.x,
                           .ids = ids,
                           .w = w.x,
                           .dw = dw.x,
                           .dprob = c->dprob ? dprob.x : NULL,
                           .dlse2 = (weft_real)c->dlse2,
                           .dlogits = dlogits.x},
                     .counts = calloc((size_t)(c->k * c->X), sizeof(int64_t)),
                     .prob_sum = ref_tok_random("prob_sum", c->X, 1),
                     .lse2_sum = ref_tok_random("lse2_sum", 1, 1)};
    ref_tok_run(what, call_router_fwd, &r.a,
                (ref_tok_out[]){REF_TOK_OUT(probs), REF_TOK_OUT(lse), {ids, id_bytes}, REF_TOK_OUT(w)}, 4);
    ref_tok_router(probs.ref, lse.ref, want, w.ref, logits.ref, c->M, c->X, c->k, c->normalise);
    ref_tok_close(what, probs, c->tol);
    ref_tok_close(what, lse, c->tol);
    ref_tok_close(what, w, c->tol);
    ck_assert_msg(memcmp(ids, want, id_bytes) == 0, "%s: ids", what);

    check_router_stats(what, c, &r, probs.ref, lse.ref, want);

    ref_tok_run(what, call_router_bwd, &r.a, (ref_tok_out[]){REF_TOK_OUT(dlogits)}, 1);
    ref_tok_router_bwd(dlogits.ref, logits.ref, ids, dw.ref, c->dprob ? dprob.ref : NULL, (double)r.a.dlse2,
                       c->M, c->X, c->k, c->normalise);
    ref_tok_close(what, dlogits, 4 * c->tol);

    ref_tok_array all[] = {logits, probs, lse, w, dw, dprob, dlogits, r.prob_sum, r.lse2_sum};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) ref_tok_free(all[i]);
    free(ids);
    free(want);
    free(r.counts);
}

/* ---- moving rows to experts and back ---- */

typedef struct moe_args {
    const ref_tok_moe_case *c;
    int32_t *ids, *slot_of, *row_of;
    int64_t *offsets;
    ref_tok_array x, y, w, dw, out;
} moe_args;

static void call_sort(weft_device *d, void *of) {
    moe_args *a = of;
    d->ops->moe_sort(d, a->offsets, a->slot_of, a->row_of, a->ids, a->c->M, a->c->k, a->c->X);
}
static void call_gather(weft_device *d, void *of) {
    moe_args *a = of;
    d->ops->gather_rows(d, a->y.x, a->x.x, a->row_of, a->c->M * a->c->k, a->c->D);
}
static void call_gather_bwd(weft_device *d, void *of) {
    moe_args *a = of;
    d->ops->gather_rows_bwd(d, a->x.x, a->y.x, a->slot_of, a->c->M, a->c->k, a->c->D, a->c->accumulate);
}
static void call_combine(weft_device *d, void *of) {
    moe_args *a = of;
    d->ops->moe_combine(d, a->x.x, a->y.x, a->w.x, a->slot_of, a->c->M, a->c->k, a->c->D);
}
static void call_combine_bwd(weft_device *d, void *of) {
    moe_args *a = of;
    d->ops->moe_combine_bwd(d, a->c->in_place ? a->y.x : a->out.x, a->dw.x, a->x.x, a->y.x, a->w.x,
                            a->slot_of, a->c->M, a->c->k, a->c->D);
}

static void call_permute(weft_device *d, void *of) {
    moe_args *a = of;
    d->ops->permute_real(d, a->dw.x, a->w.x, a->slot_of, a->c->M * a->c->k, false);
}
static void call_permute_inverse(weft_device *d, void *of) {
    moe_args *a = of;
    d->ops->permute_real(d, a->dw.x, a->w.x, a->slot_of, a->c->M * a->c->k, true);
}

static void check_permute(const char *what, moe_args *a) {
    int64_t slots = a->c->M * a->c->k;
    ref_tok_run(what, call_permute, a, (ref_tok_out[]){REF_TOK_OUT(a->dw)}, 1);
    for (int64_t i = 0; i < slots; i++) a->dw.ref[a->slot_of[i]] = a->w.ref[i];
    ref_tok_close(what, a->dw, 0);
    ref_tok_run(what, call_permute_inverse, a, (ref_tok_out[]){REF_TOK_OUT(a->dw)}, 1);
    for (int64_t i = 0; i < slots; i++) a->dw.ref[i] = a->w.ref[a->slot_of[i]];
    ref_tok_close(what, a->dw, 0);
}

static void check_sort(const char *what, moe_args *a) {
    int64_t slots = a->c->M * a->c->k, at = 0;
    size_t bytes = (size_t)slots * sizeof(int32_t);
    ref_tok_run(what, call_sort, a,
                (ref_tok_out[]){{a->offsets, (size_t)(a->c->X + 1) * sizeof *a->offsets},
                                {a->slot_of, bytes},
                                {a->row_of, bytes}},
                3);
    for (int64_t x = 0; x < a->c->X; x++) {
        ck_assert_msg(a->offsets[x] == at, "%s: offset %lld", what, LL(x));
        for (int64_t i = 0; i < slots; i++) {
            if (a->ids[i] != x) continue;
            ck_assert_msg(a->slot_of[i] == at && a->row_of[at] == i / a->c->k, "%s: slot %lld", what, LL(i));
            at++;
        }
    }
    ck_assert_msg(a->offsets[a->c->X] == slots, "%s: last offset", what);
}

void ref_tok_check_moe(const ref_tok_moe_case *c) {
    NAMED(what, "moe M %lld k %lld X %lld D %lld choice %d accumulate %d in place %d", LL(c->M), LL(c->k),
          LL(c->X), LL(c->D), c->choice, c->accumulate, c->in_place);
    int64_t slots = c->M * c->k, D = c->D;
    moe_args a = {c,
                  ref_tok_ids("ids", slots, c->X),
                  ref_tok_ids("slot_of", slots, slots),
                  ref_tok_ids("row_of", slots, c->M),
                  calloc((size_t)c->X + 1, sizeof(int64_t)),
                  ref_tok_random("x", c->M * D, 1),
                  ref_tok_random("y", slots * D, 1),
                  ref_tok_random("w", slots, 1),
                  ref_tok_random("dw", slots, 1),
                  ref_tok_random("out", slots * D, 1)};
    for (int64_t i = 0; i < slots; i++) {
        if (c->choice == REF_TOK_ONE_EXPERT) a.ids[i] = (int32_t)(c->X - 1);
        if (c->choice == REF_TOK_EVEN_ONLY) a.ids[i] &= ~1;
    }
    check_sort(what, &a);
    check_permute(what, &a);

    ref_tok_run(what, call_gather, &a, (ref_tok_out[]){REF_TOK_OUT(a.y)}, 1);
    for (int64_t i = 0; i < slots * D; i++) a.y.ref[i] = a.x.ref[a.row_of[i / D] * D + i % D];
    ref_tok_close(what, a.y, 0);

    ref_tok_array fresh = ref_tok_random("dy", slots * D, 1);
    ref_tok_free(a.y);
    a.y = fresh;
    ref_tok_run(what, call_gather_bwd, &a, (ref_tok_out[]){REF_TOK_OUT(a.x)}, 1);
    for (int64_t i = 0; i < c->M * D; i++) {
        double sum = c->accumulate ? a.x.ref[i] : 0;
        for (int64_t s = 0; s < c->k; s++) sum += a.y.ref[a.slot_of[i / D * c->k + s] * D + i % D];
        a.x.ref[i] = sum;
    }
    ref_tok_close(what, a.x, c->tol);

    ref_tok_run(what, call_combine, &a, (ref_tok_out[]){REF_TOK_OUT(a.x)}, 1);
    for (int64_t i = 0; i < c->M * D; i++) {
        a.x.ref[i] = 0;
        for (int64_t s = 0; s < c->k; s++) {
            int64_t slot = i / D * c->k + s;
            a.x.ref[i] += a.w.ref[slot] * a.y.ref[a.slot_of[slot] * D + i % D];
        }
    }
    ref_tok_close(what, a.x, c->tol);

    ref_tok_run(what, call_combine_bwd, &a,
                (ref_tok_out[]){REF_TOK_OUT(a.out), REF_TOK_OUT(a.dw), REF_TOK_OUT(a.y)}, 3);
    double *dx = c->in_place ? a.y.ref : a.out.ref;
    for (int64_t i = 0; i < slots; i++) {
        a.dw.ref[i] = 0;
        for (int64_t j = 0; j < D; j++) {
            double dy = a.x.ref[i / c->k * D + j];
            a.dw.ref[i] += a.y.ref[a.slot_of[i] * D + j] * dy;
            dx[a.slot_of[i] * D + j] = a.w.ref[i] * dy;
        }
    }
    ref_tok_close(what, a.out, c->tol);
    ref_tok_close(what, a.dw, c->tol);
    ref_tok_close(what, a.y, c->tol);

    ref_tok_array all[] = {a.x, a.y, a.w, a.dw, a.out};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) ref_tok_free(all[i]);
    free(a.ids);
    free(a.slot_of);
    free(a.row_of);
    free(a.offsets);
}

typedef struct regroup_args {
    int64_t sources, X, n, *all, *offsets;
    int32_t *row_of, *place_of;
} regroup_args;
enum { SPARE = 2 }; /* experts of others: one before those that are regrouped, one behind */

static void call_regroup(weft_device *d, void *of) {
    regroup_args *a = of;
    d->ops->moe_regroup(d, a->offsets, a->row_of, a->place_of, a->all, a->sources, a->X + SPARE, 1, a->X,
                        a->n);
}

/* Rows are in the order of sources already, so the wanted order is theirs, stably sorted by expert. */
void ref_tok_check_regroup(int64_t sources, int64_t X, int64_t most) {
    NAMED(what, "regroup %lld sources %lld experts up to %lld rows", LL(sources), LL(X), LL(most));
    int32_t *drawn = ref_tok_ids("counts", sources * X, most + 1), *expert;
    int64_t n = 0, row = 0, at = 0;
    for (int64_t i = 0; i < sources * X; i++) n += drawn[i];
    expert = malloc((size_t)n * sizeof *expert + 1);
    regroup_args a = {sources,
                      X,
                      n,
                      calloc((size_t)(sources * (X + SPARE + 1)), sizeof(int64_t)),
                      calloc((size_t)X + 1, sizeof(int64_t)),
                      ref_tok_ids("row_of", n, 7),
                      ref_tok_ids("place_of", n, 7)};
    for (int64_t i = 0; i < sources * X; i++) {
        int64_t *offset = a.all + i / X * (X + SPARE + 1) + i % X + 1;
        if (i % X == 0) offset[0] = 3; /* rows for the expert before */
        offset[1] = offset[0] + drawn[i];
        if (i % X == X - 1) offset[2] = offset[1] + 1;
        for (int64_t r = 0; r < drawn[i]; r++) expert[row++] = (int32_t)(i % X);
    }
    const size_t bytes = (size_t)n * sizeof(int32_t);
    ref_tok_run(what, call_regroup, &a,
                (ref_tok_out[]){
                    {a.offsets, (size_t)(X + 1) * sizeof *a.offsets}, {a.row_of, bytes}, {a.place_of, bytes}},
                3);
    for (int64_t x = 0; x < X; x++) {
        ck_assert_msg(a.offsets[x] == at, "%s: offset %lld", what, LL(x));
        for (row = 0; row < n; row++) {
            if (expert[row] != x) continue;
            ck_assert_msg(a.row_of[at] == row && a.place_of[row] == at, "%s: row %lld", what, LL(row));
            at++;
        }
    }
    ck_assert_msg(a.offsets[X] == n, "%s: last offset", what);
    free(drawn);
    free(expert);
    free(a.all);
    free(a.offsets);
    free(a.row_of);
    free(a.place_of);
}

/* ---- loss ---- */

typedef struct loss_args {
    const ref_tok_loss_case *c;
    ref_tok_array loss, logits;
    int32_t *targets;
} loss_args;
static const weft_real loss_scale = (weft_real)0.37;

static void call_loss(weft_device *d, void *of) {
    loss_args *a = of;
    d->ops->cross_entropy(d, a->loss.x, a->logits.x, a->targets, a->c->M, a->c->V, loss_scale,
                          a->c->with_grad);
}

/* Some rows do not count, some want the last word. */
static loss_args loss_case(const ref_tok_loss_case *c) {
    loss_args a = {c, ref_tok_random("loss", c->M, 1), ref_tok_random("logits", c->M * c->V, c->deviation),
                   ref_tok_ids("targets", c->M, c->V)};
    for (int64_t i = 0; i < c->M * c->V; i++) {
        a.logits.x[i] += (weft_real)c->shift;
        a.logits.ref[i] = (double)a.logits.x[i];
    }
    for (int64_t m = 0; m < c->M; m++) {
        if (m % 5 == 2) a.targets[m] = -1;
        if (m % 5 == 3) a.targets[m] = (int32_t)(c->V - 1);
    }
    return a;
}

/* Holds loss and logits to the reference. Without a gradient the logits must be untouched. A softmax far
 * below the row's mean is off by the rounding of its logit, so the gradient is held to the largest logit's
 * error. */
static void compare_loss(const char *what, loss_args *a) {
    const ref_tok_loss_case *c = a->c;
    ref_tok_array gradient = ref_tok_random("gradient", c->M * c->V, 1);
    ref_tok_cross_entropy(a->loss.ref, gradient.ref, a->logits.ref, a->targets, c->M, c->V,
                          (double)loss_scale);
    ref_tok_close(what, a->loss, c->tol);
    if (c->with_grad) memcpy(a->logits.ref, gradient.ref, (size_t)a->logits.n * sizeof(double));
    ref_tok_close(what, a->logits, c->with_grad ? c->tol * fmax(1, fabs(c->shift) + 4 * c->deviation) : 0);
    for (int64_t m = 0; m < c->M; m++) ck_assert(a->targets[m] >= 0 || a->loss.x[m] == 0);
    ref_tok_free(gradient);
}

static void free_loss(loss_args a) {
    ref_tok_free(a.loss);
    ref_tok_free(a.logits);
    free(a.targets);
}

void ref_tok_check_loss(const ref_tok_loss_case *c) {
    NAMED(what, "cross entropy M %lld V %lld deviation %g shift %g gradient %d", LL(c->M), LL(c->V),
          c->deviation, c->shift, c->with_grad);
    loss_args a = loss_case(c);
    ref_tok_run(what, call_loss, &a, (ref_tok_out[]){REF_TOK_OUT(a.loss), REF_TOK_OUT(a.logits)}, 2);
    compare_loss(what, &a);
    free_loss(a);
}

typedef struct part_args {
    const loss_args *whole;
    int64_t parts, part, first, V;
    ref_tok_array loss, logits, all_parts;
} part_args;

static void call_partial(weft_device *d, void *of) {
    part_args *a = of;
    const int64_t M = a->whole->c->M;
    d->ops->cross_entropy_partial(d, a->all_parts.x + a->part * M * 3, a->logits.x, a->whole->targets, M,
                                  a->first, a->V);
}
static void call_merge(weft_device *d, void *of) {
    part_args *a = of;
    d->ops->cross_entropy_merge(d, a->loss.x, a->logits.x, a->all_parts.x, a->parts, a->whole->targets,
                                a->whole->c->M, a->first, a->V, loss_scale, a->whole->c->with_grad);
}

/* The columns of a part, out of the whole or (back) into it. */
static void move_columns(const part_args *a, bool back) {
    const int64_t M = a->whole->c->M, V = a->whole->c->V;
    for (int64_t m = 0; m < M; m++) {
        weft_real *part = a->logits.x + m * a->V, *whole = a->whole->logits.x + m * V + a->first;
        memcpy(back ? whole : part, back ? part : whole, (size_t)a->V * sizeof *part);
    }
}

/* Every part gives the same loss, and its columns of the gradient. */
void ref_tok_check_loss_parts(const ref_tok_loss_case *c, const int64_t *cuts, int64_t parts) {
    NAMED(what, "cross entropy M %lld V %lld deviation %g shift %g gradient %d in %lld parts", LL(c->M),
          LL(c->V), c->deviation, c->shift, c->with_grad, LL(parts));
    loss_args whole = loss_case(c);
    ref_tok_array all = ref_tok_random("parts", parts * c->M * 3, 1);
    part_args *a = calloc((size_t)parts, sizeof *a);
    for (int64_t p = 0; p < parts; p++) {
        a[p] = (part_args){&whole,
                           parts,
                           p,
                           cuts[p],
                           cuts[p + 1] - cuts[p],
                           ref_tok_random("loss", c->M, 1),
                           ref_tok_random("part", c->M * (cuts[p + 1] - cuts[p]), 1),
                           all};
        move_columns(&a[p], false);
        ref_tok_run(what, call_partial, &a[p], (ref_tok_out[]){REF_TOK_OUT(all), REF_TOK_OUT(a[p].logits)},
                    2);
    }
    for (int64_t p = 0; p < parts; p++) {
        ref_tok_run(what, call_merge, &a[p],
                    (ref_tok_out[]){REF_TOK_OUT(a[p].loss), REF_TOK_OUT(a[p].logits), REF_TOK_OUT(all)}, 3);
        move_columns(&a[p], true);
        ck_assert_msg(memcmp(a[p].loss.x, a[0].loss.x, (size_t)c->M * sizeof(weft_real)) == 0,
                      "%s: part %lld has another loss", what, LL(p));
    }
    memcpy(whole.loss.x, a[0].loss.x, (size_t)c->M * sizeof(weft_real));
    compare_loss(what, &whole);
    for (int64_t p = 0; p < parts; p++) {
        ref_tok_free(a[p].loss);
        ref_tok_free(a[p].logits);
    }
    ref_tok_free(all);
    free(a);
    free_loss(whole);
}

/* ---- embedding ---- */

typedef struct embedding_args {
    const ref_tok_embedding_case *c;
    int32_t *ids;
    ref_tok_array table, y;
} embedding_args;

static void call_embedding_fwd(weft_device *d, void *of) {
    embedding_args *a = of;
    d->ops->embedding_fwd(d, a->y.x, a->table.x, a->ids, a->c->M, a->c->D, a->c->first, a->c->V);
}
static void call_embedding_bwd(weft_device *d, void *of) {
    embedding_args *a = of;
    d->ops->embedding_bwd(d, a->table.x, a->y.x, a->ids, a->c->M, a->c->D, a->c->first, a->c->V);
}

/* Place of element i of y in the table, or -1. */
static int64_t place_of(const embedding_args *a, int64_t i) {
    const int64_t D = a->c->D, row = a->ids[i / D] - a->c->first;
    return row < 0 || row >= a->c->V ? -1 : row * D + i % D;
}

void ref_tok_check_embedding(const ref_tok_embedding_case *c) {
    NAMED(what, "embedding M %lld D %lld rows %lld from %lld of %lld", LL(c->M), LL(c->D), LL(c->V),
          LL(c->first), LL(c->words));
    embedding_args a = {c, ref_tok_ids("ids", c->M, c->words), ref_tok_random("table", c->V * c->D, 1),
                        ref_tok_random("y", c->M * c->D, 1)};
    a.ids[c->M - 1] = (int32_t)(c->words - 1);
    ref_tok_run(what, call_embedding_fwd, &a, (ref_tok_out[]){REF_TOK_OUT(a.y)}, 1);
    for (int64_t i = 0; i < c->M * c->D; i++)
        a.y.ref[i] = place_of(&a, i) < 0 ? 0 : a.table.ref[place_of(&a, i)];
    ref_tok_close(what, a.y, 0);

    ref_tok_array dy = ref_tok_random("dy", c->M * c->D, 1);
    ref_tok_free(a.y);
    a.y = dy;
    ref_tok_run(what, call_embedding_bwd, &a, (ref_tok_out[]){REF_TOK_OUT(a.table)}, 1);
    for (int64_t i = 0; i < c->M * c->D; i++)
        if (place_of(&a, i) >= 0) a.table.ref[place_of(&a, i)] += dy.ref[i];
    ref_tok_close(what, a.table, c->tol);
    ref_tok_free(a.table);
    ref_tok_free(a.y);
    free(a.ids);
}

/* ---- flat arrays ---- */

typedef struct flat_args {
    int64_t n, D, ld; /* the rows of copy_rows */
    ref_tok_array a, b, y;
    weft_exact exact;
    double sum, plain;
    bool in_place;
} flat_args;

static void call_add(weft_device *d, void *of) {
    flat_args *f = of;
    d->ops->add(d, f->in_place ? f->a.x : f->y.x, f->a.x, f->b.x, f->n);
}
static void call_axpy(weft_device *d, void *of) {
    flat_args *f = of;
    d->ops->axpy(d, f->y.x, (weft_real)-0.75, f->a.x, f->n);
}
static void call_add_real(weft_device *d, void *of) {
    flat_args *f = of;
    d->ops->add_real(d, f->y.x, f->a.x, f->n);
}
static void call_copy(weft_device *d, void *of) {
    flat_args *f = of;
    d->ops->copy(d, f->y.x, f->b.x, (size_t)f->n * sizeof(weft_real));
}
static void call_copy_rows(weft_device *d, void *of) {
    flat_args *f = of;
    d->ops->copy_rows(d, f->y.x, f->ld, f->a.x, f->D, f->n / f->ld, f->D);
}
static void call_zero(weft_device *d, void *of) {
    flat_args *f = of;
    d->ops->zero(d, f->y.x, (size_t)(f->n - 1) * sizeof(weft_real));
}
static void call_sumsq(weft_device *d, void *of) {
    flat_args *f = of;
    d->ops->sumsq(d, &f->exact, f->a.x, f->n);
    d->ops->sumsq_act(d, &f->sum, f->b.x, f->n, 1, false);
    d->ops->sum_real(d, &f->plain, f->b.x, f->n, 3, false);
    d->ops->sum_real(d, &f->plain, f->b.x, f->n, -1, true);
}

void ref_tok_check_elementwise(int64_t n, double tol) {
    NAMED(what, "element-wise n %lld", LL(n));
    int64_t ld = n < 66 ? 1 : 66;
    flat_args f = {n,
                   ld < 2 ? ld : ld - 1,
                   ld,
                   ref_tok_random("a", n, 1),
                   ref_tok_random("b", n, 1),
                   ref_tok_random("y", n, 1),
                   {{0}, 0},
                   1,
                   1,
                   false};
    const ref_tok_out y[] = {REF_TOK_OUT(f.y)}, a[] = {REF_TOK_OUT(f.a)};

    weft_exact_add(&f.exact, 3); /* is added to */
    ref_tok_run(
        what, call_sumsq, &f,
        (ref_tok_out[]){{&f.exact, sizeof f.exact}, {&f.sum, sizeof f.sum}, {&f.plain, sizeof f.plain}}, 3);
    double want[3] = {3, 0, 0}, got[3] = {weft_exact_value(&f.exact), f.sum, f.plain};
    for (int64_t i = 0; i < n; i++) {
        want[0] += f.a.ref[i] * f.a.ref[i];
        want[1] += f.b.ref[i] * f.b.ref[i];
        want[2] += 2 * f.b.ref[i];
    }
    for (int i = 0; i < 3; i++)
        ck_assert_msg(fabs(got[i] - want[i]) <= 1e-12 * (i < 2 ? want[i] : (double)n),
                      "%s: sum %d is %.17g, should be %.17g", what, i, got[i], want[i]);

    ref_tok_run(what, call_add, &f, y, 1);
    for (int64_t i = 0; i < n; i++) f.y.ref[i] = f.a.ref[i] + f.b.ref[i];
    ref_tok_close(what, f.y, tol);
    f.in_place = true;
    ref_tok_run(what, call_add, &f, a, 1);
    for (int64_t i = 0; i < n; i++) f.a.ref[i] += f.b.ref[i];
    ref_tok_close(what, f.a, tol);

    ref_tok_run(what, call_axpy, &f, y, 1);
    for (int64_t i = 0; i < n; i++) f.y.ref[i] += -0.75 * f.a.ref[i];
    ref_tok_close(what, f.y, tol);
    ref_tok_run(what, call_add_real, &f, y, 1);
    for (int64_t i = 0; i < n; i++) f.y.ref[i] += f.a.ref[i];
    ref_tok_close(what, f.y, tol);

    ref_tok_run(what, call_copy, &f, y, 1);
    memcpy(f.y.ref, f.b.ref, (size_t)n * sizeof(double));
    ref_tok_close(what, f.y, 0);
    ref_tok_run(what, call_copy_rows, &f, y, 1);
    for (int64_t i = 0; i < n / ld * f.D; i++) f.y.ref[i / f.D * ld + i % f.D] = (double)f.a.x[i];
    ref_tok_close(what, f.y, 0);
    ref_tok_run(what, call_zero, &f, y, 1);
    memset(f.y.ref, 0, (size_t)(n - 1) * sizeof(double));
    ref_tok_close(what, f.y, 0);
    ref_tok_free(f.a);
    ref_tok_free(f.b);
    ref_tok_free(f.y);
}

/* ---- AdamW ---- */

typedef struct adamw_args {
    const ref_tok_adamw_case *c;
    ref_tok_array p, g, m, v;
    weft_clip clip;
    weft_adamw a;
} adamw_args;

static void call_adamw(weft_device *d, void *of) {
    adamw_args *a = of;
    d->ops->adamw(d, a->p.x, NULL, a->g.x, a->m.x, a->v.x, a->c->n, &a->a);
}

void ref_tok_check_adamw(const ref_tok_adamw_case *c) {
    NAMED(what, "adamw n %lld step %lld", LL(c->n), LL(c->a.step));
    adamw_args a = {.c = c,
                    .p = ref_tok_random("p", c->n, 1),
                    .g = ref_tok_random("g", c->n, 1),
                    .m = ref_tok_random("m", c->n, 1),
                    .v = ref_tok_random("v", c->n, 1),
                    .clip = {.scale = c->scale, .finite = 1},
                    .a = c->a};
    a.a.clip = &a.clip;
    for (int64_t i = 0; i < c->n; i++) {
        double second = c->a.step == 1 ? 0 : a.v.ref[i] * a.v.ref[i];
        a.v.x[i] = (weft_real)second;
        a.v.ref[i] = (double)a.v.x[i];
        if (c->a.step == 1) a.m.x[i] = 0, a.m.ref[i] = 0;
    }
    ref_tok_run(what, call_adamw, &a, (ref_tok_out[]){REF_TOK_OUT(a.p), REF_TOK_OUT(a.m), REF_TOK_OUT(a.v)},
                3);
    ref_tok_adamw(a.p.ref, a.g.ref, a.m.ref, a.v.ref, c->n, &a.a);
    ref_tok_close(what, a.p, c->tol);
    ref_tok_close(what, a.m, c->tol);
    ref_tok_close(what, a.v, c->tol);
    ref_tok_free(a.p);
    ref_tok_free(a.g);
    ref_tok_free(a.m);
    ref_tok_free(a.v);
}
