/* data/dedup: candidates of band keys, decisions in a component. */
#include "made_data.h"
#include "made_memory.h"
#include "made_spill.h"
#include "data/dedup/near_edge.h"
#include "runtime/rng.h"
#include "support/capture.h"
#include "support/suite.h"

#include <string.h>

enum { UNITS = 9 };

static const char *shared_dir(void) {
    static const char *dir;
    if (!dir) dir = made_dir();
    return dir;
}

static int by_hash(const unsigned char *record, const void *partitions) {
    return weft_spill_partition(weft_get_u64(record), *(const int *)partitions);
}

static int by_node(const unsigned char *record, const void *partitions) {
    return weft_node_partition(weft_get_u64(record), *(const int *)partitions);
}

/* ---- candidates ---- */
typedef struct member {
    uint64_t key;
    uint32_t order;
    weft_doc_id id;
} member;

static int by_policy(const void *a, const void *b) {
    const member *x = a, *y = b;
    if (x->key != y->key) return x->key < y->key ? -1 : 1;
    if (x->order != y->order) return x->order < y->order ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

/* Groups of the given sizes, members in no order. */
static size_t make_groups(const int *sizes, int groups, member *members) {
    weft_rng r = weft_rng_make(8, "groups");
    size_t n = 0;
    for (int g = 0; g < groups; g++)
        for (int i = 0; i < sizes[g]; i++, n++)
            members[n] = (member){.key = weft_rng_u64(weft_rng_make(8, "key"), (uint64_t)g),
                                  .order = (uint32_t)weft_rng_below(r, 2 * n, 3),
                                  .id = weft_doc_id_of(weft_rng_below(r, 2 * n + 1, UNITS), n)};
    return n;
}

typedef struct pair {
    weft_doc_id u, v;
} pair;

static int by_ids(const void *a, const void *b) {
    const pair *x = a, *y = b;
    if (x->u != y->u) return x->u < y->u ? -1 : 1;
    return x->v < y->v ? -1 : x->v > y->v;
}

/* What the contract says, pair by pair; members sorted. */
static size_t expected_pairs(const member *members, size_t count, pair *pairs) {
    size_t n = 0;
    for (size_t from = 0, to; from < count; from = to) {
        for (to = from; to < count && members[to].key == members[from].key;) to++;
        for (size_t i = from; i < to; i++)
            for (size_t j = from; j < i; j++) {
                weft_doc_id a = members[i].id, b = members[j].id;
                if (to - from > WEFT_GROUP_FULL && j - from >= WEFT_GROUP_STARS && i - j > WEFT_GROUP_STARS)
                    continue;
                pairs[n++] = a < b ? (pair){a, b} : (pair){b, a};
            }
    }
    qsort(pairs, n, sizeof *pairs, by_ids);
    return n;
}

static weft_candidate_counts candidates_of(const member *members, size_t count, int partitions, size_t memory,
                                           made_spills *out) {
    made_spills bands = made_spills_named(shared_dir(), "bands", 3, partitions);
    *out = made_spills_named(shared_dir(), "pairs", partitions, partitions);
    unsigned char *records = malloc(count * WEFT_BAND_BYTES);
    for (size_t i = 0; i < count; i++)
        weft_band_pack(members[i].key, members[i].order, members[i].id, records + i * WEFT_BAND_BYTES);
    made_spills_write(&bands, records, count, WEFT_BAND_BYTES, by_hash, &partitions);
    free(records);
    weft_dedup_job job = {.partitions = partitions, .units = UNITS, .memory = memory};
    weft_candidate_counts total = {0};
    made_memory_reset();
    for (int p = 0; p < partitions; p++) {
        weft_candidate_counts n;
        ck_assert_int_eq(weft_near_candidates(&job, p, bands.paths, bands.count, out->paths[p], &n), WEFT_OK);
        total.keys += n.keys;
        total.groups += n.groups;
        total.pairs += n.pairs;
        if (n.largest > total.largest) total.largest = n.largest;
    }
    made_spills_free(&bands);
    return total;
}

START_TEST(groups_give_the_pairs_that_are_stated) {
    static const int sizes[] = {1, 2, 3, 31, 32, 33, 34, 41, 200, 1, 1, 16};
    enum { GROUPS = sizeof sizes / sizeof *sizes, MOST = 400 };
    static member members[MOST];
    static pair want[MOST * MOST / 2];
    size_t count = make_groups(sizes, GROUPS, members);
    for (int partitions = 1; partitions <= 5; partitions += 4) {
        made_spills out;
        size_t got;
        weft_candidate_counts n = candidates_of(members, count, partitions, 1 << 20, &out);
        unsigned char *pairs = made_spills_read(&out, WEFT_PAIR_BYTES, &got);
        member sorted[MOST];
        memcpy(sorted, members, sizeof sorted);
        qsort(sorted, count, sizeof *sorted, by_policy);
        size_t wanted = expected_pairs(sorted, count, want);
        ck_assert_uint_eq(got, wanted);
        /* Partitions hold ranges of units, so that the whole is sorted. */
        for (size_t i = 0; i < got; i++) {
            made_must(weft_get_u64(pairs + i * WEFT_PAIR_BYTES) == want[i].u);
            made_must(weft_get_u64(pairs + i * WEFT_PAIR_BYTES + 8) == want[i].v);
        }
        ck_assert_int_eq(n.keys, GROUPS);
        ck_assert_int_eq(n.groups, GROUPS - 3);
        ck_assert_int_eq(n.pairs, (int64_t)wanted);
        ck_assert_int_eq(n.largest, 200);
        free(pairs);
        made_spills_free(&out);
    }
}
END_TEST

START_TEST(memory_does_not_grow_with_a_group) {
    enum { MANY = 300000, MEMORY = 1 << 20 };
    member *members = malloc(MANY * sizeof *members);
    made_spills out;
    for (size_t i = 0; i < MANY; i++) members[i] = (member){.key = 5, .id = weft_doc_id_of(i % UNITS, i)};
    weft_candidate_counts n = candidates_of(members, MANY, 1, MEMORY, &out);
    ck_assert_uint_le(made_memory_largest, MEMORY);
    ck_assert_int_eq(n.largest, MANY);
    ck_assert_int_eq(n.pairs, 16LL * MANY - 8 * 9 / 2 - 8 * 9 / 2 - 8 * 8);
    made_spills_free(&out);
    free(members);
}
END_TEST

/* ---- decisions ---- */
typedef struct decision {
    weft_dedup_job job;
    char *const *files;
    int count;
    const char *out;
    weft_resolve_counts counts;
    weft_status status;
} decision;

/* Edges (u before v) of one component; those that go, sorted by id. Every other document names itself. */
static size_t decide(const weft_edge *edges, size_t count, weft_doc_id label, size_t memory, weft_drop *drops,
                     decision *d) {
    int partitions = 1;
    made_spills in = made_spills_named(shared_dir(), "labelled", 2, partitions);
    made_spills out = made_spills_named(shared_dir(), "drops", 1, partitions);
    unsigned char *records = malloc(count * WEFT_LABELLED_BYTES);
    for (size_t i = 0; i < count; i++)
        weft_labelled_pack(label, &edges[i], records + i * WEFT_LABELLED_BYTES);
    made_spills_write(&in, records, count, WEFT_LABELLED_BYTES, by_node, &partitions);
    free(records);
    *d = (decision){.job = {.partitions = 1, .units = UNITS, .memory = memory}};
    d->status = weft_near_resolve(&d->job, 0, in.paths, in.count, out.paths[0], &d->counts);
    size_t n = 0, all = 0;
    if (d->status == WEFT_OK) {
        unsigned char *packed = made_spills_read(&out, WEFT_DROP_BYTES, &all);
        for (size_t i = 0; i < all; i++) {
            weft_drop one;
            weft_drop_unpack(packed + i * WEFT_DROP_BYTES, &one);
            made_must(one.cluster == label && one.size == all);
            if (one.kept == one.id)
                made_must(one.similarity == 1);
            else if (drops)
                drops[n++] = one;
            else
                n++;
        }
        free(packed);
        made_must((int64_t)all == d->counts.documents);
    }
    made_spills_free(&in);
    made_spills_free(&out);
    return n;
}

static void expect_drop(const weft_drop *d, weft_doc_id id, weft_doc_id kept, float similarity,
                        weft_doc_id cluster, uint32_t size) {
    ck_assert_uint_eq(d->id, id);
    ck_assert_uint_eq(d->kept, kept);
    ck_assert(d->similarity == similarity);
    ck_assert_uint_eq(d->cluster, cluster);
    ck_assert_uint_eq(d->size, size);
}

START_TEST(a_chain_does_not_drag_its_far_end_along) {
    weft_drop drops[8];
    decision d;
    /* 1 - 2 - 3: 2 goes for 1, 3 stays. */
    ck_assert_uint_eq(
        decide((weft_edge[]){{2, 3, 0, 0, 0.75f}, {1, 2, 0, 0, 0.875f}}, 2, 1, 1 << 20, drops, &d), 1);
    expect_drop(&drops[0], 2, 1, 0.875f, 1, 3);
    ck_assert_int_eq(d.counts.clusters, 1);
    ck_assert_int_eq(d.counts.documents, 3);
    ck_assert_int_eq(d.counts.dropped, 1);
    ck_assert_int_eq(d.counts.largest, 3);
    ck_assert_int_eq(d.counts.sizes[1], 1);
    /* The policy prefers 2, to which both others are similar; 3 before 1. */
    ck_assert_uint_eq(
        decide((weft_edge[]){{2, 3, 4, 5, 0.75f}, {2, 1, 4, 6, 0.875f}}, 2, 1, 1 << 20, drops, &d), 2);
    expect_drop(&drops[0], 1, 2, 0.875f, 1, 3);
    expect_drop(&drops[1], 3, 2, 0.75f, 1, 3);
    /* 1 - 2 - 3 - 4 - 5 and 1 - 4: 1, 3 and 5 stay, 4 goes for the first of the two that it is similar to. */
    ck_assert_uint_eq(decide((weft_edge[]){{1, 2, 0, 0, 0.5f},
                                           {2, 3, 0, 0, 0.5f},
                                           {3, 4, 0, 0, 0.875f},
                                           {4, 5, 0, 0, 0.5f},
                                           {1, 4, 0, 0, 0.625f}},
                             5, 1, 1 << 20, drops, &d),
                      2);
    expect_drop(&drops[0], 2, 1, 0.5f, 1, 5);
    expect_drop(&drops[1], 4, 1, 0.625f, 1, 5);
}
END_TEST

START_TEST(a_component_too_large_is_said_so) {
    enum { NODES = 5000 };
    weft_edge *edges = malloc((NODES - 1) * sizeof *edges);
    decision d;
    for (size_t i = 0; i < NODES - 1; i++) edges[i] = (weft_edge){70, 71 + i, 0, 0, 1};
    ck_assert_uint_eq(decide(edges, NODES - 1, 70, 2 * 32 * NODES, NULL, &d), NODES - 1);
    ck_assert_int_eq(d.counts.sizes[12], 1);
    capture();
    decide(edges, NODES - 1, 70, 2 * 32 * NODES - 1, NULL, &d);
    release();
    ck_assert_int_eq(d.status, WEFT_ENOMEM);
    ck_assert_int_eq(lines(message), 1);
    ck_assert_ptr_nonnull(strstr(message, "component of document 70 has more than 4999 documents"));
    free(edges);
}
END_TEST

/* Components of all sizes one after the other, large before small: the table of one must leave nothing to the
 * next. */
START_TEST(components_do_not_mix) {
    enum { COMPONENTS = 60, PARTITIONS = 4 };
    int partitions = PARTITIONS;
    made_spills in = made_spills_named(shared_dir(), "many", 3, partitions);
    made_spills out = made_spills_named(shared_dir(), "dropped", partitions, partitions);
    unsigned char *records = malloc(COMPONENTS * 2000 * WEFT_LABELLED_BYTES);
    size_t n = 0, documents = 0, dropped = 0;
    for (uint64_t c = 0; c < COMPONENTS; c++) {
        /* Document c is similar to `size` others, whose ids other components use as well. */
        uint64_t size = c % 3 == 0 ? 1500 - 20 * c : 1 + c % 5;
        for (uint64_t i = 0; i < size; i++, n++)
            weft_labelled_pack(c, &(weft_edge){c, 1000 + i, 0, 0, 1}, records + n * WEFT_LABELLED_BYTES);
        documents += size + 1;
        dropped += size;
    }
    made_spills_write(&in, records, n, WEFT_LABELLED_BYTES, by_node, &partitions);
    weft_dedup_job job = {.partitions = partitions, .units = UNITS, .memory = 1 << 20};
    weft_resolve_counts total = {0};
    for (int p = 0; p < partitions; p++) {
        weft_resolve_counts r;
        ck_assert_int_eq(weft_near_resolve(&job, p, in.paths, in.count, out.paths[p], &r), WEFT_OK);
        total.clusters += r.clusters;
        total.documents += r.documents;
        total.dropped += r.dropped;
    }
    ck_assert_int_eq(total.clusters, COMPONENTS);
    ck_assert_int_eq(total.documents, (int64_t)documents);
    ck_assert_int_eq(total.dropped, (int64_t)dropped);
    free(records);
    made_spills_free(&in);
    made_spills_free(&out);
}
END_TEST

SUITE_MAIN("near", groups_give_the_pairs_that_are_stated, memory_does_not_grow_with_a_group,
           a_chain_does_not_drag_its_far_end_along, a_component_too_large_is_said_so, components_do_not_mix)
