#include "data/dedup/near_edge.h"
#include "data/dedup/pass.h"

#include <stdlib.h>

typedef struct node {
    weft_doc_id id, kept; /* kept: if it is dropped */
    float similarity;
    bool dropped;
} node;

/* The documents of one component, and where they are by id: open addressing. */
typedef struct component {
    weft_doc_id label;
    node *nodes;
    size_t count, room, most; /* most: that memory allows */
    uint32_t *slots;          /* [SLOTS_PER_NODE * room] a node's place plus 1, or 0 */
} component;
enum { SLOTS_PER_NODE = 2, NODE_BYTES = sizeof(node) + SLOTS_PER_NODE * sizeof(uint32_t), FIRST_ROOM = 256 };

typedef struct resolver {
    weft_pass pass;
    const weft_dedup_job *job;
    component component;
    weft_resolve_counts counts;
} resolver;

static size_t home_of(const component *c, weft_doc_id id) {
    uint64_t hash = weft_hash64(&id, sizeof id, 0);
    return (size_t)((unsigned __int128)hash * (c->room * SLOTS_PER_NODE) >> 64);
}

static size_t next_slot(const component *c, size_t slot) {
    return ++slot == c->room * SLOTS_PER_NODE ? 0 : slot;
}

static size_t slot_of(const component *c, weft_doc_id id) {
    size_t slot = home_of(c, id);
    while (c->slots[slot] && c->nodes[c->slots[slot] - 1].id != id) slot = next_slot(c, slot);
    return slot;
}

static weft_status grow(component *c) {
    size_t room = c->room ? 2 * c->room : FIRST_ROOM;
    if (room > c->most) room = c->most;
    if (room == c->room)
        WEFT_FAIL(
            WEFT_ENOMEM,
            "near duplicates: the component of document %llu has more than %zu documents, the most that the "
            "memory given is enough for; give more, or raise the threshold",
            (unsigned long long)c->label, room);
    node *nodes = realloc(c->nodes, room * sizeof *nodes);
    if (nodes) c->nodes = nodes;
    free(c->slots);
    c->slots = nodes ? calloc(room * SLOTS_PER_NODE, sizeof *c->slots) : NULL;
    if (!c->slots) WEFT_FAIL(WEFT_ENOMEM, "no memory for a component of %zu near duplicates", room);
    c->room = room;
    for (size_t i = 0; i < c->count; i++) c->slots[slot_of(c, c->nodes[i].id)] = (uint32_t)(i + 1);
    return WEFT_OK;
}

static weft_status find(component *c, weft_doc_id id, size_t *place) {
    size_t slot = c->room ? slot_of(c, id) : 0;
    if (c->room && c->slots[slot]) {
        *place = c->slots[slot] - 1;
        return WEFT_OK;
    }
    if (c->count == c->room) {
        WEFT_TRY(grow(c));
        slot = slot_of(c, id);
    }
    c->nodes[c->count] = (node){.id = id};
    *place = c->count++;
    c->slots[slot] = (uint32_t)c->count;
    return WEFT_OK;
}

/* Every slot in use lies in a run that begins at a home. A small component must not pay for the room that a
 * large one needed. */
static void clear(component *c) {
    for (size_t i = 0; i < c->count; i++)
        for (size_t slot = home_of(c, c->nodes[i].id); c->slots[slot]; slot = next_slot(c, slot))
            c->slots[slot] = 0;
    c->count = 0;
}

static weft_status end_component(resolver *r) {
    component *c = &r->component;
    if (c->count == 0) return WEFT_OK;
    int64_t dropped = 0;
    for (size_t i = 0; i < c->count; i++) {
        const node *n = &c->nodes[i];
        unsigned char packed[WEFT_DROP_BYTES];
        weft_drop d = {n->id, n->id, c->label, (uint32_t)c->count, 1};
        if (n->dropped) d.kept = n->kept, d.similarity = n->similarity;
        weft_drop_pack(&d, packed);
        WEFT_TRY(weft_spill_add(r->pass.out, weft_doc_partition(n->id, r->job->units, r->job->partitions),
                                packed, sizeof packed));
        dropped += n->dropped;
    }
    int64_t size = (int64_t)c->count;
    r->counts.clusters++;
    r->counts.documents += size;
    r->counts.dropped += dropped;
    if (size > r->counts.largest) r->counts.largest = size;
    r->counts.sizes[63 - __builtin_clzll((unsigned long long)size)]++;
    clear(c);
    return WEFT_OK;
}

/* Edges arrive by the place of u in the policy's order, and u comes before v. So whatever could drop u has
 * passed by when the first edge that begins with u arrives, and the first kept document that reaches v is the
 * best one. */
static weft_status decide(component *c, const weft_edge *e) {
    size_t u, v;
    WEFT_TRY(find(c, e->u, &u));
    WEFT_TRY(find(c, e->v, &v));
    if (c->nodes[u].dropped || c->nodes[v].dropped) return WEFT_OK;
    c->nodes[v].dropped = true;
    c->nodes[v].kept = e->u;
    c->nodes[v].similarity = e->similarity;
    return WEFT_OK;
}

static weft_status read_components(resolver *r) {
    for (;;) {
        const unsigned char *record;
        weft_doc_id label;
        weft_edge e;
        WEFT_TRY(weft_pass_next(r->pass.in, WEFT_LABELLED_BYTES, &record));
        if (!record) return end_component(r);
        weft_labelled_unpack(record, &label, &e);
        if (label != r->component.label) {
            WEFT_TRY(end_component(r));
            r->component.label = label;
        }
        WEFT_TRY(decide(&r->component, &e));
    }
}

weft_status weft_near_resolve(const weft_dedup_job *job, int partition, char *const *labelled, int files,
                              const char *out, weft_resolve_counts *counts) {
    resolver r = {.job = job};
    size_t most = job->memory / 2 / NODE_BYTES;
    r.component.most = most < UINT32_MAX ? most : UINT32_MAX - 1;
    WEFT_TRY(
        weft_pass_open(&r.pass, job, partition, labelled, files, WEFT_LABELLED_BYTES, out, WEFT_DROP_BYTES));
    weft_status st = read_components(&r);
    free(r.component.nodes);
    free(r.component.slots);
    WEFT_TRY(weft_pass_close(&r.pass, st));
    *counts = r.counts;
    return WEFT_OK;
}
