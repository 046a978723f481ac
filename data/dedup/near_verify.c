#include "data/dedup/near_edge.h"
#include "data/dedup/pass.h"

#include <stdlib.h>

/* Documents cost most when they are read at random, so pairs are verified in batches: the shingles of as many
 * first ids as memory holds, which arrive in ascending order, and then all their partners in ascending order
 * as well. */
typedef struct shingled {
    weft_doc_id id;
    uint32_t order; /* of the policy */
    size_t count;
    const uint64_t *shingles; /* a sorted set */
} shingled;

typedef struct candidate {
    weft_doc_id v;
    size_t u; /* place among those held */
} candidate;

typedef struct batch {
    shingled *held; /* ascending */
    size_t held_count, held_room;
    candidate *pairs;
    size_t pair_count, pair_room;
    size_t bytes, limit;
} batch;
/* Memory of each, with an array's room to grow, what malloc adds, and what qsort takes. */
enum { HELD_BYTES = 2 * sizeof(shingled) + 16, CANDIDATE_BYTES = 3 * sizeof(candidate), FIRST_ROOM = 256 };

typedef struct verifier {
    weft_pass pass;
    const weft_dedup_job *job;
    const weft_verify_options *options;
    weft_docs_pool *stores;
    weft_shingler *shingler;
    batch batch;
    weft_verify_counts counts;
} verifier;

/* An array with room for one element more, or NULL. */
static void *with_room(void *array, size_t count, size_t *room, size_t bytes) {
    if (count < *room) return array;
    size_t more = *room ? 2 * *room : FIRST_ROOM;
    void *grown = realloc(array, more * bytes);
    if (grown) *room = more;
    return grown;
}

static weft_status no_memory(const batch *b) {
    WEFT_FAIL(WEFT_ENOMEM, "no memory for %zu pairs of near duplicates and the shingles of %zu documents",
              b->pair_count, b->held_count);
}

/* Its shingles are the shingler's, until the next call. */
static weft_status read_document(verifier *y, weft_doc_id id, shingled *d) {
    const weft_docs_row *about;
    const char *text;
    const void *extra;
    const uint64_t *hashes;
    WEFT_TRY(weft_docs_pool_read(y->stores, id, &about, &text, &extra));
    WEFT_TRY(weft_shingle_set(y->shingler, text, about->text_bytes, &hashes, &d->count));
    d->id = id;
    d->order = weft_keep_order(y->options->keep, about);
    d->shingles = hashes;
    return WEFT_OK;
}

static weft_status hold(verifier *y, weft_doc_id id) {
    batch *b = &y->batch;
    shingled d;
    shingled *held = with_room(b->held, b->held_count, &b->held_room, sizeof *b->held);
    if (!held) return no_memory(b);
    b->held = held;
    WEFT_TRY(read_document(y, id, &d));
    size_t bytes = d.count * sizeof *d.shingles;
    uint64_t *own = malloc(bytes ? bytes : 1);
    if (!own) return no_memory(b);
    if (bytes) memcpy(own, d.shingles, bytes);
    d.shingles = own;
    b->held[b->held_count++] = d;
    b->bytes += HELD_BYTES + bytes;
    return WEFT_OK;
}

static void forget(batch *b) {
    for (size_t i = 0; i < b->held_count; i++) free((void *)b->held[i].shingles);
    b->held_count = b->pair_count = b->bytes = 0;
}

static weft_status add_edge(verifier *y, const weft_edge *e) {
    weft_edge back = {e->v, e->u, e->order_v, e->order_u, e->similarity};
    unsigned char packed[WEFT_EDGE_BYTES];
    weft_edge_pack(e, packed);
    WEFT_TRY(
        weft_spill_add(y->pass.out, weft_node_partition(e->u, y->job->partitions), packed, sizeof packed));
    weft_edge_pack(&back, packed);
    return weft_spill_add(y->pass.out, weft_node_partition(e->v, y->job->partitions), packed, sizeof packed);
}

static weft_status verify_pair(verifier *y, const shingled *u, const shingled *v) {
    double similarity = weft_jaccard(u->shingles, u->count, v->shingles, v->count);
    int bin = (int)(similarity * WEFT_SIMILARITY_BINS);
    y->counts.pairs++;
    y->counts.similarity[bin < WEFT_SIMILARITY_BINS ? bin : WEFT_SIMILARITY_BINS - 1]++;
    if (similarity < y->options->threshold) return WEFT_OK;
    y->counts.verified++;
    return add_edge(y, &(weft_edge){u->id, v->id, u->order, v->order, (float)similarity});
}

static int by_partner(const void *a, const void *b) {
    const candidate *x = a, *y = b;
    if (x->v != y->v) return x->v < y->v ? -1 : 1;
    return x->u < y->u ? -1 : x->u > y->u;
}

/* A partner that is held itself is not read again. */
static weft_status verify_batch(verifier *y) {
    batch *b = &y->batch;
    if (b->pair_count) qsort(b->pairs, b->pair_count, sizeof *b->pairs, by_partner);
    for (size_t i = 0, h = 0; i < b->pair_count;) {
        weft_doc_id id = b->pairs[i].v;
        shingled read;
        const shingled *v = &read;
        while (h < b->held_count && b->held[h].id < id) h++;
        if (h < b->held_count && b->held[h].id == id)
            v = &b->held[h];
        else
            WEFT_TRY(read_document(y, id, &read));
        for (; i < b->pair_count && b->pairs[i].v == id; i++)
            WEFT_TRY(verify_pair(y, &b->held[b->pairs[i].u], v));
    }
    forget(b);
    return WEFT_OK;
}

static weft_status add_pair(verifier *y, weft_doc_id u, weft_doc_id v) {
    batch *b = &y->batch;
    if (b->bytes >= b->limit) WEFT_TRY(verify_batch(y));
    if (b->held_count == 0 || b->held[b->held_count - 1].id != u) WEFT_TRY(hold(y, u));
    candidate *pairs = with_room(b->pairs, b->pair_count, &b->pair_room, sizeof *b->pairs);
    if (!pairs) return no_memory(b);
    b->pairs = pairs;
    b->pairs[b->pair_count++] = (candidate){v, b->held_count - 1};
    b->bytes += CANDIDATE_BYTES;
    return WEFT_OK;
}

/* Several bands, and several groups of one band, give the same pair: equal ones follow one another. */
static weft_status verify_pairs(verifier *y) {
    weft_doc_id last_u = 0, last_v = 0; /* u < v: no pair */
    for (;;) {
        const unsigned char *record;
        WEFT_TRY(weft_pass_next(y->pass.in, WEFT_PAIR_BYTES, &record));
        if (!record) return verify_batch(y);
        weft_doc_id u = weft_get_u64(record), v = weft_get_u64(record + 8);
        if (u == last_u && v == last_v) continue;
        WEFT_TRY(add_pair(y, u, v));
        last_u = u;
        last_v = v;
    }
}

weft_status weft_near_verify(const weft_dedup_job *job, int partition, const weft_verify_options *o,
                             char *const *pairs, int files, weft_docs_pool *stores, const char *out,
                             weft_verify_counts *counts) {
    verifier y = {.job = job, .options = o, .stores = stores, .batch.limit = job->memory / 2};
    WEFT_TRY(weft_pass_open(&y.pass, job, partition, pairs, files, WEFT_PAIR_BYTES, out, WEFT_EDGE_BYTES));
    weft_status st = weft_shingler_new(&y.shingler, o->shingle_words);
    if (st == WEFT_OK) {
        st = verify_pairs(&y);
        weft_shingler_free(y.shingler);
    }
    forget(&y.batch);
    free(y.batch.held);
    free(y.batch.pairs);
    WEFT_TRY(weft_pass_close(&y.pass, st));
    *counts = y.counts;
    return WEFT_OK;
}
