#include "train/plan/estimate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- operations --------------------------------------------------------------------------------- */

static double over(double amount, double rate) {
    return amount > 0 && rate > 0 ? amount / rate : 0;
}

static bool ends_with(const char *text, const char *end) {
    size_t n = strlen(text), k = strlen(end);
    return n >= k && strcmp(text + n - k, end) == 0;
}

static double product_seconds(const weft_machine *m, weft_product_type type, const weft_work *w) {
    double least = fmin((double)w->m, fmin((double)w->n, (double)w->k));
    weft_direction d = ends_with(w->op, "_dgrad")   ? WEFT_BACKWARD_DATA
                       : ends_with(w->op, "_wgrad") ? WEFT_BACKWARD_WEIGHTS
                                                    : WEFT_FORWARD;
    return over(w->product, weft_rates_at(&m->products[type][d], least) * m->efficiency.products);
}

static double attention_seconds(const weft_machine *m, weft_product_type type, const weft_work *w) {
    const weft_rates *r = &m->attention[ends_with(w->op, "_bwd")];
    if (!r->count) r = &m->products[type][WEFT_FORWARD];
    return over(w->product, weft_rates_at(r, (double)w->n) * m->efficiency.attention);
}

double weft_estimate_work(const weft_machine *m, weft_product_type type, const weft_work *w) {
    const bool back = ends_with(w->op, "_bwd");
    const weft_rates *rates = w->kind == WEFT_WORK_SCAN   ? m->scan
                              : w->kind == WEFT_WORK_CONV ? m->conv
                                                          : NULL;
    double seconds = over(w->bytes, m->bandwidth * m->efficiency.bandwidth);
    if (w->kind == WEFT_WORK_PRODUCT || w->kind == WEFT_WORK_EXPERTS)
        return m->launch + fmax(seconds, product_seconds(m, type, w));
    if (rates && rates[back].count && w->m)
        return m->launch + fmax(seconds, over((double)w->m * (double)w->n * (double)w->k,
                                              weft_rates_at(&rates[back], (double)w->n)));
    if (w->kind == WEFT_WORK_ATTENTION) {
        seconds = fmax(seconds, attention_seconds(m, type, w));
        if (m->attention[back].count)
            return m->launch + seconds; /* its exponentials are among what was measured */
    }
    seconds = fmax(seconds, over(w->special, m->special * m->efficiency.special));
    return m->launch + fmax(seconds, over(w->vector, m->vector * m->efficiency.vector));
}

/* ---- collectives -------------------------------------------------------------------------------- */

double weft_estimate_collective(const weft_machine *m, weft_collective op, int size, int near, double bytes) {
    const weft_link *in = &m->link[WEFT_NODE], *out = &m->link[WEFT_NETWORK];
    const bool ring = op == WEFT_ALL_GATHER, reduces = op == WEFT_REDUCE_SCATTER;
    if (size <= 1) return 0;
    if (op == WEFT_ALL_REDUCE) /* of `bytes`, half are partial sums and half are results */
        return weft_estimate_collective(m, WEFT_REDUCE_SCATTER, size, near, bytes / 2) +
               weft_estimate_collective(m, WEFT_ALL_GATHER, size, near, bytes / 2);
    double far = (double)(size - near) / (double)(size - 1) * bytes;
    double within = (ring ? bytes : bytes - far) / m->efficiency.links, between = far / m->efficiency.links;
    if (op == WEFT_ALL_TO_ALL) { /* counted with what stays */
        within *= (double)(size - 1) / (double)size;
        between *= (double)(size - 1) / (double)size;
    }
    if (ring) between /= (double)near;
    double latency = (far > 0 ? out : in)->latency * ceil(log2((double)size));
    return latency + fmax(near > 1 ? over(within, reduces ? in->reduce : in->gather) : 0,
                          over(between, reduces ? out->reduce : out->gather));
}

/* ---- a step ------------------------------------------------------------------------------------- */

typedef struct sums {
    const weft_machine *machine;
    weft_estimate *out;
    bool prefetch;
    int near[WEFT_GROUPS];
} sums;

static void see_work(void *of, const weft_work *w) {
    sums *s = of;
    weft_work *sum = &s->out->work[w->kind];
    s->out->calls[w->kind]++;
    sum->product += w->product;
    sum->vector += w->vector;
    sum->special += w->special;
    sum->bytes += w->bytes;
    sum->seconds += weft_estimate_work(s->machine, s->out->type, w);
}

static void see_collective(void *of, const weft_group *g, weft_collective op, int64_t bytes) {
    sums *s = of;
    const bool sharded = g->kind == WEFT_GROUP_SHARD || g->kind == WEFT_GROUP_EXPERT_SHARD;
    double seconds = weft_estimate_collective(s->machine, op, g->size, s->near[g->kind], (double)bytes);
    s->out->wire[g->axis == WEFT_AXIS_NONE ? WEFT_AXES : g->axis] += seconds;
    if (s->machine->overlap && sharded && (op == WEFT_REDUCE_SCATTER || s->prefetch))
        s->out->beside += seconds;
    else
        s->out->blocking += seconds;
}

/* How many members of each of this rank's groups are on its node; and are there links to all? */
static weft_status find_near(sums *s, const weft_trainer *t) {
    const weft_mesh *mesh = &t->comm.mesh;
    const weft_machine *m = s->machine;
    int *ranks = malloc((size_t)mesh->ranks * sizeof *ranks);
    if (!ranks) WEFT_FAIL(WEFT_ENOMEM, "no memory for the groups of %d ranks", mesh->ranks);
    bool inside = false, beyond = false;
    for (int k = 0; k < WEFT_GROUPS; k++) {
        int size = weft_mesh_group(mesh, (weft_group_kind)k, t->comm.kv_ranks, ranks, NULL),
            node = (int)m->node;
        s->near[k] = 0;
        for (int i = 0; i < size; i++) s->near[k] += ranks[i] / node == mesh->rank / node;
        inside |= s->near[k] > 1;
        beyond |= s->near[k] < size;
    }
    free(ranks);
    if (inside && !m->link[WEFT_NODE].gather)
        WEFT_FAIL(WEFT_EINPUT, "%s: describes no link.node, which %d ranks want", m->name, mesh->ranks);
    if (beyond && !m->link[WEFT_NETWORK].gather)
        WEFT_FAIL(WEFT_EINPUT,
                  "%s: describes no link.network, and %d ranks are more than a node has (node: %.0f)",
                  m->name, mesh->ranks, m->node);
    return WEFT_OK;
}

static weft_status find_type(const weft_machine *m, const weft_trainer *t, weft_estimate *out) {
    out->type = t->device.act_dtype == WEFT_BF16                             ? WEFT_PRODUCT_BF16
                : t->config->tf32 && m->products[WEFT_PRODUCT_TF32][0].count ? WEFT_PRODUCT_TF32
                                                                             : WEFT_PRODUCT_FP32;
    if (!m->products[out->type][0].count)
        WEFT_FAIL(WEFT_EINPUT, "%s: has no products.%s, which this configuration computes in", m->name,
                  weft_product_type_name(out->type));
    for (int i = 0; i < WEFT_DIRECTIONS; i++)
        out->peak = fmax(out->peak, weft_rates_most(&m->products[out->type][i]));
    return WEFT_OK;
}

weft_status weft_estimate_step(const weft_machine *m, weft_trainer *dry, weft_estimate *out) {
    sums s = {.machine = m, .out = out, .prefetch = dry->config->mesh.prefetch};
    weft_tally tally = {.see = see_work, .of = &s};
    *out = (weft_estimate){0};
    WEFT_TRY(find_type(m, dry, out));
    WEFT_TRY(find_near(&s, dry));
    dry->comm.see = see_collective;
    dry->comm.see_of = &s;
    weft_tally_start(&tally, &dry->device);
    weft_trainer_dry_step(dry);
    weft_tally_stop(&tally, &dry->device);
    dry->comm.see = NULL;
    for (int k = 0; k < WEFT_WORK_KINDS; k++) out->compute += out->work[k].seconds;
    out->exposed = fmax(out->beside - out->compute, 0);
    out->step = out->compute + out->blocking + out->exposed;
    return WEFT_OK;
}
