#include "data/dedup/near_edge.h"
#include "data/dedup/pass.h"

typedef struct step {
    weft_pass pass;
    const weft_dedup_job *job;
    bool changed;
} step;

static weft_status add(step *s, weft_doc_id node, weft_doc_id neighbour) {
    unsigned char packed[WEFT_PAIR_BYTES];
    weft_pair_pack(node, neighbour, packed);
    return weft_spill_add(s->pass.out, weft_node_partition(node, s->job->partitions), packed, sizeof packed);
}

/* A node's neighbours arrive in ascending order, so the first tells the smallest. Both kinds of round put one
 * edge in place of each distinct one, and the sum of its two ends is smaller than before wherever anything
 * changes: the rounds end. */

/* Every larger neighbour of a node is tied to the smallest of its neighbours and itself. Reads edges both
 * ways round, writes (larger, smaller). */
static weft_status large_star(step *s, weft_doc_id node, weft_doc_id smallest, weft_doc_id neighbour) {
    weft_doc_id centre = smallest < node ? smallest : node;
    if (neighbour < node) return WEFT_OK;
    s->changed |= centre != node;
    return add(s, neighbour, centre);
}

/* Smaller neighbours of a node and itself are tied to the smallest of them. Reads (larger, smaller), writes
 * edges both ways round. */
static weft_status small_star(step *s, weft_doc_id node, weft_doc_id smallest, weft_doc_id neighbour) {
    weft_doc_id end = neighbour == smallest ? node : neighbour;
    s->changed |= neighbour != smallest;
    WEFT_TRY(add(s, end, smallest));
    return add(s, smallest, end);
}

static weft_status read_edges(step *s, int round) {
    bool large = round % 2 == 0;
    size_t bytes = round == 0 ? WEFT_EDGE_BYTES : WEFT_PAIR_BYTES;
    weft_doc_id node = 0, smallest = 0, last = 0;
    for (bool first = true;; first = false) {
        const unsigned char *record;
        WEFT_TRY(weft_pass_next(s->pass.in, bytes, &record));
        if (!record) return WEFT_OK;
        weft_doc_id u = weft_get_u64(record), v = weft_get_u64(record + 8);
        if (first || u != node) {
            node = u;
            smallest = v;
        } else if (v == last)
            continue; /* two nodes gave the same edge */
        last = v;
        WEFT_TRY((large ? large_star : small_star)(s, node, smallest, v));
    }
}

weft_status weft_components_round(const weft_dedup_job *job, int round, int partition, char *const *in,
                                  int files, const char *out, bool *changed) {
    step s = {.job = job};
    WEFT_TRY(weft_pass_open(&s.pass, job, partition, in, files,
                            round == 0 ? WEFT_EDGE_BYTES : WEFT_PAIR_BYTES, out, WEFT_PAIR_BYTES));
    WEFT_TRY(weft_pass_close(&s.pass, read_edges(&s, round)));
    *changed = s.changed;
    return WEFT_OK;
}

/* ---- labels ---- */
/* The component of a node: its smallest neighbour in the stars, or itself when it is a centre. A centre has
 * records (centre, others) or, after a large star, none. */
typedef struct labels {
    weft_spilled *in;
    const unsigned char *record; /* the next; NULL at the end */
} labels;

static weft_status component_of(labels *l, weft_doc_id node, weft_doc_id *component) {
    while (l->record && weft_get_u64(l->record) < node)
        WEFT_TRY(weft_pass_next(l->in, WEFT_PAIR_BYTES, &l->record));
    *component = node;
    if (l->record && weft_get_u64(l->record) == node && weft_get_u64(l->record + 8) < node)
        *component = weft_get_u64(l->record + 8);
    return WEFT_OK;
}

static weft_status join(const weft_pass *p, const weft_dedup_job *job, labels *l) {
    WEFT_TRY(weft_pass_next(l->in, WEFT_PAIR_BYTES, &l->record));
    for (;;) {
        const unsigned char *record;
        unsigned char packed[WEFT_LABELLED_BYTES];
        weft_doc_id component;
        weft_edge e;
        WEFT_TRY(weft_pass_next(p->in, WEFT_EDGE_BYTES, &record));
        if (!record) return WEFT_OK;
        weft_edge_unpack(record, &e);
        /* Of the two records of an edge, the one that begins with the better document. */
        if (e.order_u > e.order_v || (e.order_u == e.order_v && e.u > e.v)) continue;
        WEFT_TRY(component_of(l, e.u, &component));
        weft_labelled_pack(component, &e, packed);
        WEFT_TRY(
            weft_spill_add(p->out, weft_node_partition(component, job->partitions), packed, sizeof packed));
    }
}

weft_status weft_near_label(const weft_dedup_job *job, int partition, char *const *edges, int edge_files,
                            char *const *components, int component_files, const char *out) {
    weft_pass p;
    labels l = {0};
    WEFT_TRY(
        weft_pass_open(&p, job, partition, edges, edge_files, WEFT_EDGE_BYTES, out, WEFT_LABELLED_BYTES));
    weft_status st = weft_pass_reader(&l.in, job, partition, components, component_files, WEFT_PAIR_BYTES,
                                      out, "components");
    if (st == WEFT_OK) {
        st = join(&p, job, &l);
        weft_spilled_close(l.in);
    }
    return weft_pass_close(&p, st);
}
