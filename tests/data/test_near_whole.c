/* data/dedup: near duplicates from documents to drops, against what can be computed without any of it. */
#include "made_data.h"
#include "made_spill.h"
#include "data/dedup/minhash.h"
#include "data/dedup/near_edge.h"
#include "runtime/fs.h"
#include "runtime/rng.h"
#include "support/suite.h"

#include <stdio.h>
#include <string.h>

enum { SHINGLE = 5, BANDS = 14, ROWS = 8, MOST_WORDS = 300, DOCUMENTS = 330, UNITS = 5, SHORT_ONES = 6 };
static const double THRESHOLD = 0.7;

/* ---- documents: numbers of words ---- */
typedef struct made_text {
    int words[MOST_WORDS];
    int count;
    weft_doc_id id;
    float quality;
    size_t bytes; /* of its text */
} made_text;

static made_text g_texts[DOCUMENTS];
static weft_rng g_rng;
static uint64_t g_at;

static int below(int bound) {
    return (int)weft_rng_below(g_rng, g_at++, (uint64_t)bound);
}

static void fresh(made_text *t, int words) {
    t->count = words;
    for (int i = 0; i < words; i++) t->words[i] = below(20000);
}

/* Replaces words in a row: the shingles over them, and none else, are new. */
static void replace(made_text *t, int at, int words) {
    for (int i = at; i < at + words; i++) t->words[i] = below(20000);
}

/* A family is ten documents: an original, copies ever less similar, an exact copy, and a chain whose links
 * are about 0.8 and whose ends are about 0.64 similar. */
static void make_family(made_text *t, int words) {
    static const int percent[] = {1, 4, 8, 12, 16, 25};
    fresh(&t[0], words);
    for (int i = 0; i < 6; i++) {
        t[i + 1] = t[0];
        replace(&t[i + 1], below(words - words * percent[i] / 100), words * percent[i] / 100);
    }
    t[7] = t[0];
    t[8] = t[0];
    replace(&t[8], 0, words / 10);
    t[9] = t[8];
    replace(&t[9], words - words / 10, words / 10);
}

static void make_texts(void) {
    g_rng = weft_rng_make(11, "texts");
    g_at = 0;
    for (int i = 0; i + 10 <= DOCUMENTS - 3 * SHORT_ONES; i += 10) make_family(&g_texts[i], 100 + below(200));
    for (int i = (DOCUMENTS - 3 * SHORT_ONES) / 10 * 10; i < DOCUMENTS; i++)
        fresh(&g_texts[i], i < DOCUMENTS - SHORT_ONES ? 60 : 1 + i % (SHINGLE - 1));
    /* Families lie across the units. */
    static made_text shuffled[DOCUMENTS];
    for (int i = 0; i < DOCUMENTS; i++) {
        int to = (int)weft_rng_permute(weft_rng_make(11, "place"), (uint64_t)i, DOCUMENTS);
        shuffled[to] = g_texts[i];
        shuffled[to].id = weft_doc_id_of((uint64_t)to * UNITS / DOCUMENTS, (uint64_t)to * 3);
        shuffled[to].quality = (float)below(4);
    }
    memcpy(g_texts, shuffled, sizeof g_texts);
}

/* Words of letters alone, some in upper case, with punctuation that the compared form ignores. */
static size_t spell(const made_text *t, char *out) {
    size_t n = 0;
    for (int i = 0; i < t->count; i++) {
        int w = t->words[i];
        for (int k = 0; k < 4; k++, w /= 12) out[n++] = (char)((i % 9 ? 'a' : 'A') + w % 12 + k);
        if (i % 13 == 5) out[n++] = ',';
        out[n++] = i % 17 == 3 ? '\n' : ' ';
    }
    return n;
}

/* ---- Jaccard similarity, without weft ---- */
typedef struct made_shingle {
    int words[SHINGLE];
} made_shingle;

static int by_words(const void *a, const void *b) {
    return memcmp(a, b, sizeof(made_shingle));
}

static int shingles_of(const made_text *t, made_shingle *out) {
    int n = 0, distinct = 0;
    for (; n + SHINGLE <= t->count; n++) memcpy(out[n].words, t->words + n, sizeof out[n].words);
    qsort(out, (size_t)n, sizeof *out, by_words);
    for (int i = 0; i < n; i++)
        if (i == 0 || by_words(&out[i], &out[distinct - 1]) != 0) out[distinct++] = out[i];
    return distinct;
}

static made_shingle g_shingles[DOCUMENTS][MOST_WORDS];
static int g_shingle_count[DOCUMENTS];

static double similarity_of(int a, int b) {
    const made_shingle *x = g_shingles[a], *y = g_shingles[b];
    int nx = g_shingle_count[a], ny = g_shingle_count[b], both = 0;
    for (int i = 0, j = 0; i < nx && j < ny;) {
        int order = by_words(&x[i], &y[j]);
        both += order == 0;
        i += order <= 0;
        j += order >= 0;
    }
    return nx + ny ? (double)both / (nx + ny - both) : 0;
}

static int place_of(weft_doc_id id) {
    int i = 0;
    while (i < DOCUMENTS && g_texts[i].id != id) i++;
    made_must(i < DOCUMENTS);
    return i;
}

/* ---- the stages ---- */
typedef struct build {
    const char *dir;
    weft_dedup_job job;
    weft_verify_options verify;
    bool reversed;
    made_spills bands, pairs, edges, components, labelled, drops;
    weft_verify_counts verified;
    weft_resolve_counts resolved;
} build;

static weft_status unit_path(void *arg, uint64_t unit, char path[]) {
    return weft_fs_path(path, "%s/unit.%llu", (const char *)arg, (unsigned long long)unit);
}

static void sign(const made_text *t, const weft_minhash *m, weft_shingler *shingler, const char *text,
                 size_t bytes, uint32_t order, weft_spill *bands, int partitions) {
    uint32_t signature[BANDS * ROWS];
    uint64_t keys[BANDS];
    const uint64_t *hashes;
    size_t count;
    ck_assert_int_eq(weft_shingle_set(shingler, text, bytes, &hashes, &count), WEFT_OK);
    made_must(count > 0 || t->count < SHINGLE);
    if (count == 0) return;
    weft_minhash_sign(m, hashes, count, signature);
    weft_minhash_bands(m, signature, keys);
    for (int b = 0; b < BANDS; b++) {
        unsigned char record[WEFT_BAND_BYTES];
        weft_band_pack(keys[b], order, t->id, record);
        made_must(weft_spill_add(bands, weft_spill_partition(keys[b], partitions), record, sizeof record) ==
                  WEFT_OK);
    }
}

static void sign_units(build *b) {
    static char text[MOST_WORDS * 8];
    weft_minhash *m;
    weft_shingler *shingler;
    ck_assert_int_eq(weft_minhash_new(&m, BANDS, ROWS, 1), WEFT_OK);
    ck_assert_int_eq(weft_shingler_new(&shingler, SHINGLE), WEFT_OK);
    for (int unit = 0, i = 0; unit < UNITS; unit++) {
        char path[WEFT_PATH_SIZE];
        weft_docs_writer *w;
        weft_spill *bands;
        unit_path((void *)b->dir, (uint64_t)unit, path);
        ck_assert_int_eq(weft_docs_create(&w, path), WEFT_OK);
        ck_assert_int_eq(
            weft_spill_create(&bands, b->bands.paths[unit], b->job.partitions, WEFT_BAND_BYTES, 4096),
            WEFT_OK);
        for (; i < DOCUMENTS && weft_doc_unit(g_texts[i].id) == (uint64_t)unit; i++) {
            made_text *t = &g_texts[i];
            t->bytes = spell(t, text);
            weft_docs_row about = {.index = (uint32_t)weft_doc_index(t->id), .quality = t->quality};
            ck_assert_int_eq(weft_docs_add(w, &about, text, t->bytes, NULL, 0), WEFT_OK);
            about.text_bytes = (uint32_t)t->bytes;
            sign(t, m, shingler, text, t->bytes, weft_keep_order(b->verify.keep, &about), bands,
                 b->job.partitions);
        }
        ck_assert_int_eq(weft_docs_finish(w), WEFT_OK);
        ck_assert_int_eq(weft_spill_finish(bands), WEFT_OK);
    }
    weft_shingler_free(shingler);
    weft_minhash_free(m);
}

static made_spills stage(const build *b, const char *name) {
    return made_spills_named(b->dir, name, b->job.partitions, b->job.partitions);
}

static void find_components(build *b) {
    int still = 0;
    for (int round = 0; still < 2; round++) {
        bool changed = false;
        made_spills out = stage(b, round % 2 ? "odd" : "even");
        const made_spills *in = round ? &b->components : &b->edges;
        for (int p = 0; p < b->job.partitions; p++) {
            bool here;
            ck_assert_int_eq(
                weft_components_round(&b->job, round, p, in->paths, in->count, out.paths[p], &here), WEFT_OK);
            changed |= here;
        }
        still = changed ? 0 : still + 1;
        made_spills_free(&b->components);
        b->components = out;
        if (b->reversed) made_spills_reverse(&b->components);
    }
}

static void run_stages(build *b) {
    weft_docs_pool *stores;
    ck_assert_int_eq(weft_docs_pool_new(&stores, 2, unit_path, (void *)b->dir), WEFT_OK);
    for (int p = 0; p < b->job.partitions; p++) {
        weft_candidate_counts n;
        ck_assert_int_eq(
            weft_near_candidates(&b->job, p, b->bands.paths, b->bands.count, b->pairs.paths[p], &n), WEFT_OK);
    }
    if (b->reversed) made_spills_reverse(&b->pairs);
    for (int p = 0; p < b->job.partitions; p++) {
        weft_verify_counts n;
        ck_assert_int_eq(weft_near_verify(&b->job, p, &b->verify, b->pairs.paths, b->pairs.count, stores,
                                          b->edges.paths[p], &n),
                         WEFT_OK);
        b->verified.pairs += n.pairs;
        b->verified.verified += n.verified;
        for (int i = 0; i < WEFT_SIMILARITY_BINS; i++) b->verified.similarity[i] += n.similarity[i];
    }
    weft_docs_pool_free(stores);
    if (b->reversed) made_spills_reverse(&b->edges);
    find_components(b);
    for (int p = 0; p < b->job.partitions; p++)
        ck_assert_int_eq(weft_near_label(&b->job, p, b->edges.paths, b->edges.count, b->components.paths,
                                         b->components.count, b->labelled.paths[p]),
                         WEFT_OK);
    if (b->reversed) made_spills_reverse(&b->labelled);
    for (int p = 0; p < b->job.partitions; p++) {
        weft_resolve_counts n;
        ck_assert_int_eq(
            weft_near_resolve(&b->job, p, b->labelled.paths, b->labelled.count, b->drops.paths[p], &n),
            WEFT_OK);
        b->resolved.clusters += n.clusters;
        b->resolved.documents += n.documents;
        b->resolved.dropped += n.dropped;
    }
}

static build run(weft_keep keep, int partitions, size_t memory, bool reversed) {
    build b = {.dir = made_dir(),
               .job = {.partitions = partitions, .units = UNITS, .memory = memory},
               .verify = {.shingle_words = SHINGLE, .threshold = THRESHOLD, .keep = keep},
               .reversed = reversed};
    b.bands = made_spills_named(b.dir, "bands", UNITS, partitions);
    b.pairs = stage(&b, "pairs");
    b.edges = stage(&b, "edges");
    b.labelled = stage(&b, "labelled");
    b.drops = stage(&b, "drops");
    sign_units(&b);
    if (reversed) made_spills_reverse(&b.bands);
    run_stages(&b);
    return b;
}

static void free_build(build *b) {
    made_spills_free(&b->bands);
    made_spills_free(&b->pairs);
    made_spills_free(&b->edges);
    made_spills_free(&b->components);
    made_spills_free(&b->labelled);
    made_spills_free(&b->drops);
}

/* ---- what must hold ---- */
typedef struct verdict {
    bool linked[DOCUMENTS][DOCUMENTS]; /* by a verified edge */
    int kept[DOCUMENTS];               /* -1: the document stays */
    int component[DOCUMENTS];          /* its smallest member */
    uint32_t size[DOCUMENTS];          /* of a component */
} verdict;
static verdict g_verdict;

/* Edges are the candidates at or above the threshold, each both ways round and with its exact similarity. */
static void check_edges(const build *b) {
    size_t edges, pairs, distinct = 0, above = 0;
    int64_t bins[WEFT_SIMILARITY_BINS] = {0};
    unsigned char *records = made_spills_read(&b->edges, WEFT_EDGE_BYTES, &edges);
    unsigned char *candidates = made_spills_read(&b->pairs, WEFT_PAIR_BYTES, &pairs);
    memset(g_verdict.linked, 0, sizeof g_verdict.linked);
    for (size_t i = 0; i < edges; i++) {
        weft_edge e;
        weft_edge_unpack(records + i * WEFT_EDGE_BYTES, &e);
        int u = place_of(e.u), v = place_of(e.v);
        made_must(!g_verdict.linked[u][v]);
        made_must(e.similarity == (float)similarity_of(u, v));
        g_verdict.linked[u][v] = true;
    }
    for (size_t i = 0; i < pairs; i++) {
        const unsigned char *at = candidates + i * WEFT_PAIR_BYTES;
        if (i > 0 && memcmp(at, at - WEFT_PAIR_BYTES, WEFT_PAIR_BYTES) == 0) continue;
        int u = place_of(weft_get_u64(at)), v = place_of(weft_get_u64(at + 8));
        double similarity = similarity_of(u, v);
        made_must(g_verdict.linked[u][v] == (similarity >= THRESHOLD));
        made_must(g_verdict.linked[v][u] == g_verdict.linked[u][v]);
        distinct++;
        above += similarity >= THRESHOLD;
        bins[similarity < 1 ? (int)(similarity * WEFT_SIMILARITY_BINS) : WEFT_SIMILARITY_BINS - 1]++;
    }
    ck_assert_uint_eq(edges, 2 * above);
    ck_assert_int_eq(b->verified.pairs, (int64_t)distinct);
    ck_assert_int_eq(b->verified.verified, (int64_t)above);
    for (int i = 0; i < WEFT_SIMILARITY_BINS; i++) ck_assert_int_eq(b->verified.similarity[i], bins[i]);
    free(records);
    free(candidates);
}

static bool better(weft_keep keep, const made_text *a, const made_text *b) {
    if (keep == WEFT_KEEP_LONGEST && a->bytes != b->bytes) return a->bytes > b->bytes;
    if (keep == WEFT_KEEP_BEST && a->quality != b->quality) return a->quality > b->quality;
    return a->id < b->id;
}

static weft_keep g_keep;
static int by_policy(const void *a, const void *b) {
    return better(g_keep, &g_texts[*(const int *)a], &g_texts[*(const int *)b]) ? -1 : 1;
}

/* Documents in the policy's order: one that has a verified edge to a kept one goes for the first of those. */
static void decide(weft_keep keep) {
    int order[DOCUMENTS];
    verdict *v = &g_verdict;
    g_keep = keep;
    for (int i = 0; i < DOCUMENTS; i++) order[i] = v->component[i] = i;
    qsort(order, DOCUMENTS, sizeof *order, by_policy);
    for (int i = 0; i < DOCUMENTS; i++) {
        int d = order[i];
        v->kept[d] = -1;
        for (int j = 0; j < i && v->kept[d] < 0; j++)
            if (v->linked[d][order[j]] && v->kept[order[j]] < 0) v->kept[d] = order[j];
    }
    for (bool changed = true; changed;) {
        changed = false;
        for (int i = 0; i < DOCUMENTS; i++)
            for (int j = 0; j < DOCUMENTS; j++)
                if (v->linked[i][j] && v->component[j] < v->component[i]) {
                    v->component[i] = v->component[j];
                    changed = true;
                }
    }
    memset(v->size, 0, sizeof v->size);
    for (int i = 0; i < DOCUMENTS; i++) v->size[v->component[i]]++;
}

/* No two kept documents share a verified edge, and each that goes has one to the document it goes for. */
static size_t check_drops(const build *b) {
    size_t drops, goes = 0, stays = 0;
    unsigned char *records = made_spills_read(&b->drops, WEFT_DROP_BYTES, &drops);
    verdict *v = &g_verdict;
    bool dropped[DOCUMENTS] = {false};
    for (size_t i = 0; i < drops; i++) {
        weft_drop d;
        weft_drop_unpack(records + i * WEFT_DROP_BYTES, &d);
        int id = place_of(d.id), kept = place_of(d.kept);
        made_must(d.cluster == g_texts[v->component[id]].id);
        made_must(d.size == v->size[v->component[id]]);
        if (kept == id) {
            made_must(d.similarity == 1 && v->kept[id] < 0 && d.size > 1);
            stays++;
            continue;
        }
        double similarity = similarity_of(id, kept);
        made_must(similarity >= THRESHOLD && d.similarity == (float)similarity);
        made_must(v->linked[id][kept] && !dropped[id]);
        made_must(kept == v->kept[id]);
        dropped[id] = true;
    }
    for (int i = 0; i < DOCUMENTS; i++) {
        goes += v->kept[i] >= 0;
        for (int j = 0; j < DOCUMENTS; j++) made_must(dropped[i] || dropped[j] || !v->linked[i][j]);
    }
    ck_assert_uint_eq(drops - stays, goes);
    ck_assert_int_eq(b->resolved.dropped, (int64_t)goes);
    ck_assert_int_eq(b->resolved.documents, (int64_t)drops);
    free(records);
    return goes;
}

/* The planted ones: LSH finds what is very similar, chains are there, and one end of some stays although the
 * other end and the middle are in its cluster. */
static void check_plants(void) {
    const verdict *v = &g_verdict;
    int chains = 0, spared = 0, pairs = 0;
    for (int i = 0; i < DOCUMENTS; i++)
        for (int j = 0; j < i; j++) {
            double similarity = similarity_of(i, j);
            pairs += similarity == 1;
            made_must(similarity < 0.93 || v->linked[i][j]);
            bool chained = similarity < THRESHOLD && v->component[i] == v->component[j];
            chains += chained;
            spared += chained && v->kept[i] < 0 && v->kept[j] < 0;
        }
    ck_assert_int_ge(pairs, 31);
    ck_assert_int_ge(chains, 30);
    ck_assert_int_ge(spared, 5);
}

static bool same_drops(const build *a, const build *b) {
    size_t na, nb;
    unsigned char *x = made_spills_read(&a->drops, WEFT_DROP_BYTES, &na);
    unsigned char *y = made_spills_read(&b->drops, WEFT_DROP_BYTES, &nb);
    bool same = na == nb && memcmp(x, y, na * WEFT_DROP_BYTES) == 0;
    free(x);
    free(y);
    return same;
}

/* One and five partitions, files in either order, memory for everything and for next to nothing. */
static void whole(weft_keep keep) {
    make_texts();
    for (int i = 0; i < DOCUMENTS; i++) g_shingle_count[i] = shingles_of(&g_texts[i], g_shingles[i]);
    build one = run(keep, 1, 1 << 24, false), five = run(keep, 5, 1 << 24, true),
          tight = run(keep, 5, 1 << 13, true);
    const build *builds[] = {&one, &five, &tight};
    for (int i = 0; i < 3; i++) {
        check_edges(builds[i]);
        decide(keep);
        ck_assert_uint_ge(check_drops(builds[i]), 120);
        ck_assert(same_drops(&one, builds[i]));
    }
    check_plants();
    free_build(&one);
    free_build(&five);
    free_build(&tight);
}

START_TEST(the_first_of_similar_documents_stays) {
    whole(WEFT_KEEP_FIRST);
}
END_TEST
START_TEST(the_longest_of_similar_documents_stays) {
    whole(WEFT_KEEP_LONGEST);
}
END_TEST
START_TEST(the_best_of_similar_documents_stays) {
    whole(WEFT_KEEP_BEST);
}
END_TEST

SUITE_MAIN("near_whole", the_first_of_similar_documents_stays, the_longest_of_similar_documents_stays,
           the_best_of_similar_documents_stays)
