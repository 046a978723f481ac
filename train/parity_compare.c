#include "runtime/log.h"
#include "train/parity.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Most bytes that rank 0 receives at a time. */
#define GATHER_BYTES (INT64_C(1) << 28)
/* Of the rms of a gradient: see the measure of the update. */
#define LEAST_GRADIENT 0.25

#if WEFT_REAL_IS_DOUBLE
#define REAL_EPSILON DBL_EPSILON
#else
#define REAL_EPSILON FLT_EPSILON
#endif

const char *weft_parity_phase_name(weft_parity_phase p) {
    static const char *const names[] = {"forward", "backward", "gradient", "update"};
    return names[p];
}

/* ---- one tensor on rank 0 ------------------------------------------------------------------------------ */

/* What a rank sends: elements [first, first + count) of those that it holds of the tensor, which follow. Of a
 * parameter they are elements of its slice, a box in the whole tensor. */
typedef struct part {
    int64_t rank, first, count;
    int64_t start[WEFT_PARAM_DIMS], extent[WEFT_PARAM_DIMS];
} part;

/* The element was too far off on one of the ranks that hold it; so it counts once. */
enum { BEYOND = 0x8000 };

/* A tensor that is being compared. What only rank 0 has is NULL elsewhere. */
typedef struct comparison {
    weft_parity_tensor *out;
    const weft_parity_side *mesh;
    double tolerance;
    int64_t elements;
    const weft_real *want;           /* whole, from one rank */
    const weft_real *before, *grads; /* of an update */
    double least;                    /* smaller gradients are left out */
    uint16_t *arrived;               /* times that each element came, and BEYOND */
} comparison;

static double rms_of(const weft_real *x, const weft_real *minus, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        double v = (double)x[i] - (minus ? (double)minus[i] : 0);
        sum += v * v;
    }
    return sqrt(sum / (double)n);
}

static double relative_of(double difference, double rms) {
    if (difference == 0 && isfinite(rms)) return 0;
    double r = difference / rms;
    return isfinite(r) ? r : INFINITY;
}

static double difference_of(const comparison *c, int64_t at, weft_real got) {
    double want = (double)c->want[at], d = fabs((double)got - want);
    if (!isfinite(d)) return INFINITY;
    if (c->before) {
        double g = fabs((double)c->grads[at]);
        if (g > 0 && g < c->least) return 0;
        d = fmax(0, d - 2 * REAL_EPSILON * fabs((double)c->before[at]));
    }
    return d;
}

static void note(comparison *c, int64_t at, double difference, int64_t rank) {
    weft_parity_tensor *t = c->out;
    if (relative_of(difference, t->rms) > c->tolerance && !(c->arrived && c->arrived[at] & BEYOND)) {
        t->beyond++;
        if (c->arrived) c->arrived[at] |= BEYOND;
    }
    if (difference > t->difference) {
        t->difference = difference;
        t->worst = at;
        t->worst_rank = (int)rank;
    }
}

/* `count` neighbouring elements of the whole tensor. */
static void compare_run(comparison *c, int64_t at, const weft_real *got, int64_t count, int64_t rank) {
    WEFT_CHECK(at >= 0 && at + count <= c->elements, "parity: %s has no element %lld", c->out->name,
               (long long)(at + count));
    for (int64_t i = 0; i < count; i++) {
        c->arrived[at + i]++;
        note(c, at + i, difference_of(c, at + i, got[i]), rank);
    }
}

static void place_param(comparison *c, const part *p, const weft_real *data) {
    const weft_parity_tensor *t = c->out;
    int last = t->ndim - 1;
    for (int64_t done = 0; done < p->count;) {
        int64_t at = 0, stride = 1, i = p->first + done, n = p->extent[last] - i % p->extent[last];
        for (int d = last; d >= 0; d--) {
            at += (p->start[d] + i % p->extent[d]) * stride;
            i /= p->extent[d];
            stride *= t->shape[d];
        }
        if (n > p->count - done) n = p->count - done;
        compare_run(c, at, data + done, n, p->rank);
        done += n;
    }
}

/* Rows [micro][rows][width] of the rank's microbatches. */
static void place_rows(comparison *c, const part *p, const weft_real *data) {
    const weft_trainer *t = &c->mesh->trainer;
    const weft_parity_record *r = &c->mesh->record;
    weft_mesh at = weft_mesh_of_rank(&t->comm.mesh, (int)p->rank);
    int64_t tokens = t->config->train.micro_batch * t->config->train.seq_len;
    for (int64_t done = 0; done < p->count;) {
        int64_t i = p->first + done, row = i / r->width, n = r->width - i % r->width;
        int64_t micro =
            weft_trainer_micro(t, at.index[WEFT_AXIS_DP], at.index[WEFT_AXIS_FSDP], row / r->rows);
        int64_t whole = micro * tokens + weft_parity_row(t->config, &at, row % r->rows);
        if (n > p->count - done) n = p->count - done;
        compare_run(c, whole * r->width + i % r->width, data + done, n, p->rank);
        done += n;
    }
}

/* ---- from all ranks to rank 0 -------------------------------------------------------------------------- */

static void place(comparison *c, const char *all, size_t bytes) {
    for (size_t at = 0; at < bytes;) {
        part p;
        memcpy(&p, all + at, sizeof p);
        const weft_real *data = (const weft_real *)(all + at + sizeof p);
        if (p.extent[0])
            place_param(c, &p, data);
        else
            place_rows(c, &p, data);
        at += sizeof p + (size_t)p.count * sizeof *data;
    }
}

/* Compares this rank's elements of the tensor, `mine` described by `all`, with those of all other ranks;
 * every element must come `times`. Collective; the status is agreed. */
static weft_status compare(comparison *c, const weft_real *mine, part all, int64_t times) {
    int64_t most = GATHER_BYTES / c->mesh->trainer.world.size / (int64_t)sizeof *mine,
            end = all.first + all.count;
    int64_t rounds = weft_world_max_i64((all.count + most - 1) / most);
    weft_status st = WEFT_OK;
    char *message = malloc(sizeof all + (size_t)(all.count < most ? all.count : most) * sizeof *mine),
         *got = NULL;
    c->arrived = c->want ? calloc((size_t)c->elements, sizeof *c->arrived) : NULL;
    if (!message || (c->want && !c->arrived))
        st = weft_fail(WEFT_ENOMEM, "no memory to compare %s; make the model or the batch smaller",
                       c->out->name);
    st = weft_world_agree(st);
    for (int64_t i = 0; i < rounds && st == WEFT_OK; i++) {
        size_t bytes = 0;
        part p = all;
        p.first += i * most;
        p.count = end - p.first < 0 ? 0 : end - p.first < most ? end - p.first : most;
        memcpy(message, &p, sizeof p);
        if (p.count) memcpy(message + sizeof p, mine + i * most, (size_t)p.count * sizeof *mine);
        st = weft_world_gather_bytes(message, sizeof p + (size_t)p.count * sizeof *mine, &got, &bytes);
        if (st == WEFT_OK && c->want) place(c, got, bytes);
        free(got);
        got = NULL;
    }
    for (int64_t i = 0; c->arrived && i < c->elements && st == WEFT_OK; i++)
        if ((c->arrived[i] & ~BEYOND) != times)
            st = weft_fail(WEFT_EINTERNAL, "element %lld of %s came from %d ranks, not from %lld",
                           (long long)i, c->out->name, c->arrived[i] & ~BEYOND, (long long)times);
    free(message);
    free(c->arrived);
    c->arrived = NULL;
    return weft_world_agree(st);
}

/* ---- the tensors --------------------------------------------------------------------------------------- */

typedef struct both {
    weft_parity_report *report;
    const weft_parity_side *mesh, *one; /* one: rank 0 only */
} both;

/* There is room: see weft_parity_compare. */
static weft_parity_tensor *add(weft_parity_report *r, weft_parity_phase phase, const char *name, int ndim,
                               const int64_t *shape) {
    weft_parity_tensor *t = &r->tensors[r->count++];
    *t = (weft_parity_tensor){.phase = phase, .ndim = ndim, .layer = -1};
    snprintf(t->name, sizeof t->name, "%s", name);
    for (int d = 0; d < ndim; d++) t->shape[d] = shape[d];
    return t;
}

/* Tensor i of the records. */
static weft_status compare_rows(const both *b, int64_t i) {
    const weft_parity_record *r = &b->mesh->record;
    const weft_trainer *t = &b->mesh->trainer;
    int64_t shape[] = {t->config->train.global_batch, t->config->train.seq_len, r->width},
            n = r->rows * r->width * r->micro, whole = shape[0] * shape[1] * shape[2];
    weft_parity_tensor *out = add(b->report, i < r->tensors / 2 ? WEFT_PARITY_FORWARD : WEFT_PARITY_BACKWARD,
                                  weft_parity_name(&t->model, i), 3, shape);
    comparison c = {.out = out, .mesh = b->mesh, .tolerance = b->report->tolerance, .elements = whole};
    if (b->one) {
        c.want = b->one->record.data + i * whole;
        out->rms = rms_of(c.want, NULL, whole);
    }
    WEFT_TRY(compare(&c, r->data + i * n, (part){.rank = t->world.rank, .count = n}, 1));
    out->relative = relative_of(out->difference, out->rms);
    return WEFT_OK;
}

/* Row i of the parameter table: its gradient, or its value behind the update. */
static weft_status compare_param(const both *b, int64_t i, bool update) {
    const weft_trainer *t = &b->mesh->trainer;
    const weft_params *table = &t->model.table;
    const weft_param *row = &table->rows[i];
    const weft_real *shards = update ? b->mesh->params : b->mesh->grads;
    weft_parity_tensor *out =
        add(b->report, update ? WEFT_PARITY_UPDATE : WEFT_PARITY_GRADIENT, row->name, row->ndim, row->shape);
    out->layer = row->expert >= 0 ? row->layer : -1;
    comparison c = {.out = out, .mesh = b->mesh, .tolerance = b->report->tolerance, .elements = row->numel};
    if (b->one) {
        const weft_parity_side *one = b->one;
        weft_piece whole;
        WEFT_CHECK(weft_params_piece(&one->trainer.model.table, &one->trainer.model.table.rows[i], &whole) &&
                       whole.count == row->numel,
                   "parity: one rank does not hold all of %s", row->name);
        c.want = (update ? one->params : one->grads) + whole.at;
        if (update) {
            c.before = one->before + whole.at;
            c.grads = one->grads + whole.at;
            c.least = LEAST_GRADIENT * rms_of(c.grads, NULL, row->numel);
        }
        out->rms = rms_of(c.want, c.before, row->numel);
    }
    part all = {.rank = t->world.rank};
    weft_piece piece = {0};
    if (weft_params_piece(table, row, &piece)) all.first = piece.first, all.count = piece.count;
    for (int d = 0; d < row->ndim; d++) all.start[d] = row->start[d], all.extent[d] = row->extent[d];
    int replicas = t->comm.group[row->expert >= 0 ? WEFT_GROUP_EXPERT_REPLICA : WEFT_GROUP_REPLICA].size;
    WEFT_TRY(compare(&c, shards + piece.at, all, (int64_t)row->copies * replicas));
    out->relative = relative_of(out->difference, out->rms);
    return WEFT_OK;
}

/* Numbers that every rank has: a loss of each microbatch, or one. They lie `stride` bytes apart. Not
 * collective. */
static void compare_known(const both *b, weft_parity_phase phase, const char *name, const double *got,
                          const double *want, size_t stride, int64_t n) {
    weft_parity_tensor *out = add(b->report, phase, name, 1, &n);
    comparison c = {.out = out, .tolerance = b->report->tolerance};
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        double x = *(const double *)((const char *)want + (size_t)i * stride);
        sum += x * x;
    }
    out->rms = sqrt(sum / (double)n);
    for (int64_t i = 0; i < n; i++) {
        double d = fabs(*(const double *)((const char *)got + (size_t)i * stride) -
                        *(const double *)((const char *)want + (size_t)i * stride));
        note(&c, i, isfinite(d) ? d : INFINITY, -1);
    }
    out->relative = relative_of(out->difference, out->rms);
}

static void compare_losses(const both *b) {
    const weft_model *m = &b->mesh->trainer.model;
    const weft_loss *got = b->mesh->trainer.losses, *want = b->one->trainer.losses;
    int64_t n = b->mesh->trainer.micro_total;
    compare_known(b, WEFT_PARITY_FORWARD, "cross-entropy", &got->ce_sum, &want->ce_sum, sizeof *got, n);
    if (m->moe_count) {
        compare_known(b, WEFT_PARITY_FORWARD, "load balance", &got->aux, &want->aux, sizeof *got, n);
        compare_known(b, WEFT_PARITY_FORWARD, "router z", &got->z, &want->z, sizeof *got, n);
    }
    if (m->config.activation_loss_coef > 0)
        compare_known(b, WEFT_PARITY_FORWARD, "activation loss", &got->act, &want->act, sizeof *got, n);
}

/* In the order of execution: the gradient of a parameter is complete when those behind it are. */
static weft_status compare_all(const both *b) {
    int64_t tensors = b->mesh->record.tensors, params = b->mesh->trainer.model.table.count;
    for (int64_t i = 0; i < tensors / 2; i++) WEFT_TRY(compare_rows(b, i));
    if (b->one) compare_losses(b);
    for (int64_t i = tensors / 2; i < tensors; i++) WEFT_TRY(compare_rows(b, i));
    for (int64_t i = params; i-- > 0;) WEFT_TRY(compare_param(b, i, false));
    if (b->one)
        compare_known(b, WEFT_PARITY_GRADIENT, "gradient norm", &b->mesh->result.grad_norm,
                      &b->one->result.grad_norm, sizeof(double), 1);
    for (int64_t i = 0; i < params; i++) WEFT_TRY(compare_param(b, i, true));
    return WEFT_OK;
}

weft_status weft_parity_compare(weft_parity_report *r, const weft_parity_side *mesh,
                                const weft_parity_side *one, double tolerance) {
    enum { SCALARS = 5 }; /* losses, gradient norm */
    int64_t most = mesh->record.tensors + 2 * mesh->trainer.model.table.count + SCALARS;
    *r = (weft_parity_report){.tolerance = tolerance, .first = -1};
    r->tensors = calloc((size_t)most, sizeof *r->tensors);
    weft_status st = r->tensors
                         ? WEFT_OK
                         : weft_fail(WEFT_ENOMEM, "no memory for a table of %lld tensors", (long long)most);
    st = weft_world_agree(st);
    if (st == WEFT_OK) st = compare_all(&(both){r, mesh, one});
    if (st != WEFT_OK) {
        weft_parity_report_free(r);
        return st;
    }
    for (int64_t i = 0; i < r->count; i++) {
        if (r->first < 0 && r->tensors[i].relative > tolerance) r->first = i;
        if (r->tensors[i].relative > r->tensors[r->worst].relative) r->worst = i;
    }
    return WEFT_OK;
}

void weft_parity_report_free(weft_parity_report *r) {
    free(r->tensors);
    *r = (weft_parity_report){0};
}
