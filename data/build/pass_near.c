/* Near duplicates: the stages of dedup/near.h over all partitions. */
#include "data/build/build_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OPEN_STORES = 32, MAX_ROUNDS = 1000 };

/* ---- pieces ---- */
static weft_status candidates_piece(void *arg, int64_t piece, int thread, int64_t *counters) {
    (void)thread;
    build *b = arg;
    char **bands, out[WEFT_PATH_SIZE];
    weft_candidate_counts counts = {0};
    WEFT_TRY(weft_work_path(&b->work, out, "near", piece, "pairs"));
    WEFT_TRY(build_paths(b, "sign", "bands", b->units, &bands));
    weft_status st = weft_near_candidates(&b->job, (int)piece, bands, (int)b->units, out, &counts);
    build_paths_free(bands, b->units);
    memcpy(counters, &counts, sizeof counts);
    return st;
}

static weft_status verify_piece(void *arg, int64_t piece, int thread, int64_t *counters) {
    (void)thread;
    build *b = arg;
    char **pairs, out[WEFT_PATH_SIZE];
    weft_docs_pool *stores = NULL;
    weft_verify_counts counts = {0};
    const weft_verify_options o = {.shingle_words = (int)b->r->near_shingle,
                                   .threshold = b->r->near_threshold,
                                   .keep = (weft_keep)b->r->near_keep};
    WEFT_TRY(weft_work_path(&b->work, out, "near", piece, "edges"));
    WEFT_TRY(build_paths(b, "near", "pairs", b->job.partitions, &pairs));
    weft_status st = weft_docs_pool_new(&stores, OPEN_STORES, build_text_path, b);
    if (st == WEFT_OK)
        st = weft_near_verify(&b->job, (int)piece, &o, pairs, b->job.partitions, stores, out, &counts);
    weft_docs_pool_free(stores);
    build_paths_free(pairs, b->job.partitions);
    memcpy(counters, &counts, sizeof counts);
    return st;
}

typedef struct round {
    build *b;
    int number;
} round_of;

static const char *round_ending(int round, char text[16]) {
    if (round < 0) return "edges";
    snprintf(text, 16, "round%d", round);
    return text;
}

static weft_status round_piece(void *arg, int64_t piece, int thread, int64_t *counters) {
    (void)thread;
    const round_of *r = arg;
    build *b = r->b;
    char **in, out[WEFT_PATH_SIZE], text[16];
    bool changed = false;
    WEFT_TRY(weft_work_path(&b->work, out, "near", piece, round_ending(r->number, text)));
    WEFT_TRY(build_paths(b, "near", round_ending(r->number - 1, text), b->job.partitions, &in));
    weft_status st =
        weft_components_round(&b->job, r->number, (int)piece, in, b->job.partitions, out, &changed);
    build_paths_free(in, b->job.partitions);
    counters[0] = changed;
    return st;
}

static weft_status label_piece(void *arg, int64_t piece, int thread, int64_t *counters) {
    (void)thread;
    (void)counters;
    const round_of *r = arg;
    build *b = r->b;
    char **edges, **labels = NULL, out[WEFT_PATH_SIZE], text[16];
    WEFT_TRY(weft_work_path(&b->work, out, "near", piece, "labelled"));
    WEFT_TRY(build_paths(b, "near", "edges", b->job.partitions, &edges));
    weft_status st = build_paths(b, "near", round_ending(r->number, text), b->job.partitions, &labels);
    if (st == WEFT_OK)
        st = weft_near_label(&b->job, (int)piece, edges, b->job.partitions, labels, b->job.partitions, out);
    build_paths_free(edges, b->job.partitions);
    build_paths_free(labels, b->job.partitions);
    return st;
}

static weft_status resolve_piece(void *arg, int64_t piece, int thread, int64_t *counters) {
    (void)thread;
    build *b = arg;
    char **in, out[WEFT_PATH_SIZE];
    weft_resolve_counts counts = {0};
    WEFT_TRY(weft_work_path(&b->work, out, "near", piece, "drops"));
    WEFT_TRY(build_paths(b, "near", "labelled", b->job.partitions, &in));
    weft_status st = weft_near_resolve(&b->job, (int)piece, in, b->job.partitions, out, &counts);
    build_paths_free(in, b->job.partitions);
    memcpy(counters, &counts, sizeof counts);
    return st;
}

/* ---- the stages ---- */
#define WORDS(type) ((int)(sizeof(type) / sizeof(int64_t)))

/* A stage whose counters are a struct of sums, but for one that is the largest of all pieces'. */
static weft_status stage_with_largest(build *b, weft_stage s, int64_t *total, int largest) {
    int64_t *each = calloc((size_t)s.pieces, sizeof *each);
    weft_status st = b->team->agree(each ? WEFT_OK : weft_fail(WEFT_ENOMEM, "no memory for the counts"));
    s.each_first = largest;
    s.each_count = 1;
    if (st == WEFT_OK) st = build_stage(b, &s, b, total, each);
    if (st == WEFT_OK) total[largest] = 0;
    for (int64_t i = 0; st == WEFT_OK && i < s.pieces; i++)
        if (each[i] > total[largest]) total[largest] = each[i];
    free(each);
    return st;
}

/* Until neither kind of star changes anything; *last is the round whose output is the components. */
static weft_status components(build *b, int *last) {
    int quiet = 0;
    for (int i = 0; i < MAX_ROUNDS; i++) {
        char name[32], text[16];
        int64_t changed = 0;
        round_of r = {b, i};
        b->work.stages += i > 0; /* one was expected */
        snprintf(name, sizeof name, "near-components-%d", i);
        const weft_stage s = {.name = name, .pieces = b->job.partitions, .counters = 1, .run = round_piece};
        WEFT_TRY(build_stage_of(b, "near-components", &s, &r, &changed, NULL));
        if (i >= 2) WEFT_TRY(build_discard(b, "near", round_ending(i - 2, text)));
        quiet = changed ? 0 : quiet + 1;
        *last = i;
        if (quiet == 2) return WEFT_OK;
    }
    WEFT_FAIL(WEFT_EINTERNAL, "the components are not found after %d rounds", MAX_ROUNDS);
}

weft_status build_near(build *b) {
    const int64_t p = b->job.partitions;
    const weft_stage candidates = {.name = "near-candidates",
                                   .pieces = p,
                                   .counters = WORDS(weft_candidate_counts),
                                   .run = candidates_piece};
    const weft_stage verify = {
        .name = "near-verify", .pieces = p, .counters = WORDS(weft_verify_counts), .run = verify_piece};
    const weft_stage label = {.name = "near-label", .pieces = p, .run = label_piece};
    const weft_stage resolve = {
        .name = "near-resolve", .pieces = p, .counters = WORDS(weft_resolve_counts), .run = resolve_piece};
    round_of last = {b, 0};
    if (!b->r->has_near) return WEFT_OK;
    WEFT_TRY(weft_work_folder(&b->work, "near"));
    WEFT_TRY(stage_with_largest(b, candidates, (int64_t *)(void *)&b->candidates,
                                offsetof(weft_candidate_counts, largest) / sizeof(int64_t)));
    WEFT_TRY(build_discard(b, "sign", "bands"));
    WEFT_TRY(build_stage(b, &verify, b, (int64_t *)(void *)&b->verify, NULL));
    WEFT_TRY(build_discard(b, "near", "pairs"));
    WEFT_TRY(components(b, &last.number));
    b->component_rounds = last.number + 1;
    WEFT_TRY(build_stage(b, &label, &last, NULL, NULL));
    return stage_with_largest(b, resolve, (int64_t *)(void *)&b->resolve,
                              offsetof(weft_resolve_counts, largest) / sizeof(int64_t));
}
