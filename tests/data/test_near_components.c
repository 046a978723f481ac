/* data/dedup: components by rounds of stars, against union-find. */
#include "made_data.h"
#include "made_spill.h"
#include "data/dedup/near_edge.h"
#include "runtime/rng.h"
#include "support/suite.h"

typedef struct graph {
    const char *name;
    size_t nodes, edges;
    size_t (*ends)[2];
    weft_doc_id *ids; /* of the nodes, distinct */
} graph;

/* ---- union-find ---- */
static size_t root_of(size_t *parent, size_t x) {
    while (parent[x] != x) x = parent[x] = parent[parent[x]];
    return x;
}

/* The smallest id of each node's component. */
static weft_doc_id *smallest_ids(const graph *g) {
    size_t *parent = malloc(g->nodes * sizeof *parent);
    weft_doc_id *smallest = malloc(g->nodes * sizeof *smallest);
    for (size_t i = 0; i < g->nodes; i++) {
        parent[i] = i;
        smallest[i] = UINT64_MAX;
    }
    for (size_t e = 0; e < g->edges; e++)
        parent[root_of(parent, g->ends[e][0])] = root_of(parent, g->ends[e][1]);
    for (size_t i = 0; i < g->nodes; i++) {
        weft_doc_id *s = &smallest[root_of(parent, i)];
        if (g->ids[i] < *s) *s = g->ids[i];
    }
    for (size_t i = 0; i < g->nodes; i++)
        if (parent[i] != i) smallest[i] = smallest[root_of(parent, i)];
    free(parent);
    return smallest;
}

/* ---- graphs ---- */
static graph graph_of(const char *name, size_t nodes, size_t edges) {
    return (graph){name, nodes, edges, malloc((edges + 1) * sizeof(size_t[2])),
                   malloc(nodes * sizeof(weft_doc_id))};
}

static void free_graph(graph *g) {
    free(g->ends);
    free(g->ids);
}

static void join(graph *g, size_t edge, size_t a, size_t b) {
    g->ends[edge][0] = a;
    g->ends[edge][1] = b;
}

typedef enum numbering { ASCENDING, SHUFFLED, DESCENDING, NUMBERINGS } numbering;

static void number(graph *g, numbering how) {
    weft_rng r = weft_rng_make(3, "numbering");
    for (size_t i = 0; i < g->nodes; i++) {
        size_t place = how == ASCENDING    ? i
                       : how == DESCENDING ? g->nodes - 1 - i
                                           : (size_t)weft_rng_permute(r, i, g->nodes);
        g->ids[i] = weft_doc_id_of(place % 11, place);
        if (how != SHUFFLED) g->ids[i] = 7 + 3 * place;
    }
}

static graph path(size_t nodes) {
    graph g = graph_of("path", nodes, nodes - 1);
    for (size_t i = 0; i + 1 < nodes; i++) join(&g, i, i, i + 1);
    return g;
}

static graph star(size_t nodes) {
    graph g = graph_of("star", nodes, nodes - 1);
    for (size_t i = 0; i + 1 < nodes; i++) join(&g, i, nodes / 2, i < nodes / 2 ? i : i + 1);
    return g;
}

static graph cliques(size_t count, size_t of) {
    graph g = graph_of("cliques", count * of, count * of * (of - 1) / 2);
    size_t edge = 0;
    for (size_t c = 0; c < count; c++)
        for (size_t i = 0; i < of; i++)
            for (size_t j = 0; j < i; j++) join(&g, edge++, c * of + i, c * of + j);
    return g;
}

static graph random_graph(size_t nodes, size_t edges, uint64_t seed) {
    graph g = graph_of("random", nodes, edges);
    weft_rng r = weft_rng_make(seed, "edges");
    for (size_t e = 0; e < edges; e++) {
        size_t a = (size_t)weft_rng_below(r, 2 * e, nodes),
               b = (size_t)weft_rng_below(r, 2 * e + 1, nodes - 1);
        join(&g, e, a, b + (b >= a));
    }
    return g;
}

/* ---- rounds ---- */
static int by_node(const unsigned char *record, const void *partitions) {
    return weft_node_partition(weft_get_u64(record), *(const int *)partitions);
}

static void write_edges(const graph *g, const made_spills *to) {
    unsigned char *records = malloc(2 * g->edges * WEFT_EDGE_BYTES + 1);
    for (size_t e = 0; e < g->edges; e++) {
        weft_doc_id u = g->ids[g->ends[e][0]], v = g->ids[g->ends[e][1]];
        weft_edge_pack(&(weft_edge){u, v, 0, 0, (float)e}, records + 2 * e * WEFT_EDGE_BYTES);
        weft_edge_pack(&(weft_edge){v, u, 0, 0, (float)e}, records + (2 * e + 1) * WEFT_EDGE_BYTES);
    }
    made_spills_write(to, records, 2 * g->edges, WEFT_EDGE_BYTES, by_node, &to->partitions);
    free(records);
}

/* What a round leaves. The sum of the ends of all distinct edges must fall for the rounds to end. */
typedef struct state {
    unsigned __int128 sum;
    size_t records, distinct; /* edges, the larger end first */
} state;

static state state_after(const made_spills *s, int round) {
    size_t count;
    unsigned char *records = made_spills_read(s, WEFT_PAIR_BYTES, &count);
    state now = {0};
    for (size_t i = 0; i < count; i++) {
        const unsigned char *at = records + i * WEFT_PAIR_BYTES;
        uint64_t a = weft_get_u64(at), b = weft_get_u64(at + 8);
        made_must(a > b || round % 2 == 1);
        if (a < b) continue;
        now.records++;
        if (i > 0 && memcmp(at, at - WEFT_PAIR_BYTES, WEFT_PAIR_BYTES) == 0) continue;
        now.distinct++;
        now.sum += a;
        now.sum += b;
    }
    free(records);
    return now;
}

/* Runs rounds until two in a row change nothing; in *last the output of the last. */
static int run_rounds(const char *dir, const weft_dedup_job *job, const made_spills *edges, bool check_state,
                      made_spills *last) {
    int still = 0, round = 0;
    state before = {0};
    made_spills in = {0};
    for (; still < 2; round++) {
        made_spills out =
            made_spills_named(dir, round % 2 ? "odd" : "even", job->partitions, job->partitions);
        bool changed = false;
        for (int p = 0; p < job->partitions; p++) {
            bool here;
            const made_spills *from = round ? &in : edges;
            ck_assert_int_eq(
                weft_components_round(job, round, p, from->paths, from->count, out.paths[p], &here), WEFT_OK);
            changed |= here;
        }
        if (check_state) {
            state now = state_after(&out, round);
            if (round > 0) ck_assert(changed ? now.sum < before.sum : now.sum == before.sum);
            if (round > 0) ck_assert_uint_le(now.records, before.distinct);
            before = now;
        }
        still = changed ? 0 : still + 1;
        made_spills_free(&in);
        in = out;
    }
    *last = in;
    return round;
}

static void check_labels(const graph *g, const made_spills *labelled) {
    weft_doc_id *smallest = smallest_ids(g);
    size_t count;
    unsigned char *records = made_spills_read(labelled, WEFT_LABELLED_BYTES, &count);
    bool *seen = calloc(g->edges + 1, sizeof *seen);
    ck_assert_uint_eq(count, g->edges); /* one of the two records of each */
    for (size_t i = 0; i < count; i++) {
        weft_doc_id component;
        weft_edge e;
        weft_labelled_unpack(records + i * WEFT_LABELLED_BYTES, &component, &e);
        size_t edge = (size_t)e.similarity, a = g->ends[edge][0], b = g->ends[edge][1];
        made_must(!seen[edge]);
        seen[edge] = true;
        made_must(e.u == (g->ids[a] < g->ids[b] ? g->ids[a] : g->ids[b]));
        made_must(e.v == (g->ids[a] < g->ids[b] ? g->ids[b] : g->ids[a]));
        if (component != smallest[a])
            ck_abort_msg("%s: component %llu of edge %zu, not %llu", g->name, (unsigned long long)component,
                         edge, (unsigned long long)smallest[a]);
    }
    free(seen);
    free(records);
    free(smallest);
}

static int components_of(const graph *g, int partitions, size_t memory, bool check_state) {
    static const char *dir;
    if (!dir) dir = made_dir();
    weft_dedup_job job = {.partitions = partitions, .units = 11, .memory = memory};
    made_spills edges = made_spills_named(dir, "edges", 3, partitions), last;
    made_spills labelled = made_spills_named(dir, "labelled", partitions, partitions);
    write_edges(g, &edges);
    int rounds = run_rounds(dir, &job, &edges, check_state, &last);
    for (int p = 0; p < partitions; p++)
        ck_assert_int_eq(
            weft_near_label(&job, p, edges.paths, edges.count, last.paths, last.count, labelled.paths[p]),
            WEFT_OK);
    check_labels(g, &labelled);
    made_spills_free(&edges);
    made_spills_free(&last);
    made_spills_free(&labelled);
    return rounds;
}

static void check_graph(graph g, int partitions, size_t memory) {
    for (int how = 0; how < NUMBERINGS; how++) {
        number(&g, (numbering)how);
        components_of(&g, partitions, memory, true);
    }
    free_graph(&g);
}

START_TEST(components_are_those_of_union_find) {
    for (int partitions = 1; partitions <= 7; partitions += 2) {
        size_t memory = partitions == 3 ? 1 << 14 : 1 << 22;
        check_graph(path(2), partitions, memory);
        check_graph(path(1000), partitions, memory);
        check_graph(star(700), partitions, memory);
        check_graph(cliques(9, 13), partitions, memory);
    }
}
END_TEST

/* Parallel edges are among the random ones; few edges leave many components. */
START_TEST(random_graphs_too) {
    for (int i = 0; i < 8; i++)
        check_graph(random_graph(300, 40u + 60u * (unsigned)i, (uint64_t)i), 1 + i % 7, 1 << 22);
}
END_TEST

START_TEST(no_edges_end_after_two_rounds) {
    graph g = graph_of("empty", 1, 0);
    number(&g, ASCENDING);
    ck_assert_int_eq(components_of(&g, 3, 1 << 20, true), 2);
    free_graph(&g);
}
END_TEST

SUITE_MAIN("near_components", components_are_those_of_union_find, random_graphs_too,
           no_edges_end_after_two_rounds)
