/* Repeated substrings: the texts that are left as tokens, in parts whose suffix array fits in memory, and the
 * search of each pair of parts. */
#include "data/build/decisions.h"

#include <stdlib.h>
#include <string.h>

/* ---- tokens of a unit: a store whose texts are ids ---- */
static weft_status tokens_piece(void *arg, int64_t piece, int thread, int64_t *counters) {
    (void)thread;
    build *b = arg;
    char path[WEFT_PATH_SIZE];
    build_decisions d = {0};
    weft_docs *in = NULL;
    weft_docs_writer *out = NULL;
    int32_t *ids = NULL;
    size_t count, capacity = 0;
    weft_status st = WEFT_OK;
    if (b->r->has_near) st = build_load_drops(b, &d, "near", "drops", b->job.partitions, (uint64_t)piece);
    if (st == WEFT_OK) st = build_text_path(b, (uint64_t)piece, path);
    if (st == WEFT_OK) st = weft_docs_open(&in, path);
    if (st == WEFT_OK) st = weft_work_path(&b->work, path, "substring", piece, "tokens");
    if (st == WEFT_OK) st = weft_docs_create(&out, path);
    for (int64_t i = 0; st == WEFT_OK && i < weft_docs_count(in); i++) {
        const weft_docs_row *row = weft_docs_about(in, i);
        const char *text;
        const void *extra;
        if (build_goes(&d, weft_doc_id_of((uint64_t)piece, row->index))) continue;
        st = weft_docs_read(in, i, &text, &extra);
        if (st == WEFT_OK)
            st = weft_tokenizer_encode(b->tokenizer, text, row->text_bytes, &ids, &count, &capacity);
        if (st == WEFT_OK) st = weft_docs_add(out, row, (const char *)ids, count * sizeof *ids, NULL, 0);
        if (st != WEFT_OK) break;
        counters[0] += (int64_t)count;
        counters[1]++;
    }
    if (st == WEFT_OK && (st = weft_docs_finish(out)) == WEFT_OK) out = NULL;
    weft_docs_abandon(out);
    weft_docs_close(in);
    build_decisions_free(&d);
    free(ids);
    return st;
}

/* ---- parts ---- */
typedef struct part {
    int64_t first, units, tokens, documents; /* units [first, first + units) */
} part;

typedef struct searching {
    build *b;
    part *parts;
    int count;
} searching;

/* Parts must not depend on the number of threads, which may be another when a build goes on: a quarter of the
 * memory each, and up to four searches at once. */
enum { SEARCHES = 4 };
static size_t search_memory(const build *b) {
    return ((size_t)b->r->memory_mib << 20) / SEARCHES;
}

/* Consecutive units up to what memory allows. */
static weft_status make_parts(searching *s, const int64_t *each) {
    build *b = s->b;
    int64_t most = weft_substring_part_tokens(
        search_memory(b), weft_shard_token_bytes(weft_tokenizer_vocab_size(b->tokenizer)));
    s->parts = calloc((size_t)b->units, sizeof *s->parts);
    if (!s->parts) WEFT_FAIL(WEFT_ENOMEM, "no memory for %lld parts", (long long)b->units);
    for (int64_t u = 0; u < b->units; u++) {
        int64_t tokens = each[2 * u];
        if (tokens > most)
            WEFT_FAIL(WEFT_EINPUT,
                      "unit %lld has %lld tokens, but the substring step can search %lld at once: a larger "
                      "memory_mib "
                      "or a smaller unit_kib is needed",
                      (long long)u, (long long)tokens, (long long)most);
        part *p = s->count ? &s->parts[s->count - 1] : NULL;
        if (!p || p->tokens + tokens > most) {
            p = &s->parts[s->count++];
            p->first = u;
        }
        p->units++;
        p->tokens += tokens;
        p->documents += each[2 * u + 1];
    }
    return WEFT_OK;
}

typedef struct loaded {
    int32_t *tokens;
    int64_t *ends;
    weft_doc_id *ids;
    weft_substring_part view;
} loaded;

static void unload(loaded *l) {
    free(l->tokens);
    free(l->ends);
    free(l->ids);
    *l = (loaded){0};
}

static weft_status load_unit(const build *b, int64_t unit, loaded *l, int64_t *tokens) {
    char path[WEFT_PATH_SIZE];
    weft_docs *in = NULL;
    WEFT_TRY(weft_work_path(&b->work, path, "substring", unit, "tokens"));
    weft_status st = weft_docs_open(&in, path);
    for (int64_t i = 0; st == WEFT_OK && i < weft_docs_count(in); i++) {
        const weft_docs_row *row = weft_docs_about(in, i);
        const char *text;
        const void *extra;
        st = weft_docs_read(in, i, &text, &extra);
        if (st != WEFT_OK) break;
        memcpy(l->tokens + *tokens, text, row->text_bytes);
        *tokens += (int64_t)(row->text_bytes / sizeof *l->tokens);
        l->ends[l->view.documents] = *tokens;
        l->ids[l->view.documents++] = weft_doc_id_of((uint64_t)unit, row->index);
    }
    weft_docs_close(in);
    return st;
}

static weft_status load_part(const build *b, const part *p, loaded *l) {
    int64_t tokens = 0;
    *l = (loaded){.tokens = malloc(((size_t)p->tokens + 1) * sizeof *l->tokens),
                  .ends = malloc(((size_t)p->documents + 1) * sizeof *l->ends),
                  .ids = malloc(((size_t)p->documents + 1) * sizeof *l->ids)};
    if (!l->tokens || !l->ends || !l->ids)
        WEFT_FAIL(WEFT_ENOMEM, "no memory for a part of %lld tokens", (long long)p->tokens);
    for (int64_t u = 0; u < p->units; u++) WEFT_TRY(load_unit(b, p->first + u, l, &tokens));
    l->view.tokens = l->tokens;
    l->view.ends = l->ends;
    l->view.ids = l->ids;
    return WEFT_OK;
}

/* Pairs (a, b) with a <= b, by b. */
static void pair_of(int64_t piece, int *a, int *b) {
    *b = 0;
    while ((int64_t)(*b + 1) * (*b + 2) / 2 <= piece) ++*b;
    *a = (int)(piece - (int64_t)*b * (*b + 1) / 2);
}

static weft_status search_piece(void *arg, int64_t piece, int thread, int64_t *counters) {
    (void)thread;
    const searching *s = arg;
    build *b = s->b;
    char out[WEFT_PATH_SIZE];
    int first, second;
    loaded x = {0}, y = {0};
    weft_substring_counts counts = {0};
    pair_of(piece, &first, &second);
    WEFT_TRY(weft_work_path(&b->work, out, "substring", piece, "repeats"));
    weft_status st = load_part(b, &s->parts[first], &x);
    if (st == WEFT_OK && second != first) st = load_part(b, &s->parts[second], &y);
    weft_dedup_job job = b->job;
    job.memory = search_memory(b);
    if (st == WEFT_OK)
        st = weft_substring_search(&job, b->r->substring_length, (int)weft_tokenizer_vocab_size(b->tokenizer),
                                   &x.view, second != first ? &y.view : NULL, out, &counts);
    unload(&x);
    unload(&y);
    memcpy(counters, &counts, sizeof counts);
    return st;
}

weft_status build_substring(build *b) {
    if (!b->r->has_substring) return WEFT_OK;
    searching s = {.b = b};
    int64_t total[2], *each = calloc((size_t)b->units * 2, sizeof *each);
    const weft_stage tokens = {
        .name = "tokens", .pieces = b->units, .counters = 2, .each_count = 2, .run = tokens_piece};
    weft_status st = b->team->agree(each ? WEFT_OK : weft_fail(WEFT_ENOMEM, "no memory for the counts"));
    if (st == WEFT_OK) st = weft_work_folder(&b->work, "substring");
    if (st == WEFT_OK) st = build_stage(b, &tokens, b, total, each);
    if (st == WEFT_OK) st = b->team->agree(make_parts(&s, each));
    if (st == WEFT_OK) {
        b->substring_parts = s.count;
        const weft_stage search = {.name = "substring",
                                   .pieces = (int64_t)s.count * (s.count + 1) / 2,
                                   .counters = 2,
                                   .max_threads = SEARCHES,
                                   .run = search_piece};
        _Static_assert(sizeof(weft_substring_counts) == 2 * sizeof(int64_t), "its counters");
        st = build_stage(b, &search, &s, (int64_t *)(void *)&b->substring, NULL);
    }
    free(s.parts);
    free(each);
    return st == WEFT_OK ? build_discard(b, "substring", "tokens") : st;
}
