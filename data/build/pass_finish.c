/* What happens to the documents that are left: near duplicates go, repeated substrings are cut or masked,
 * contaminated documents go, personal data are replaced; then tokens, in the order of the shards. */
#include "data/build/answers.h"
#include "data/build/decisions.h"
#include "runtime/hash.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

/* ---- the order of the shards ---- */
enum { FINER = 8 }; /* buckets for each shard that is expected */

/* Buckets are ranges of the order, finer than shards, whose tokens are counted before shards are made of
 * them. Expected at four bytes of text a token. */
static weft_status make_buckets(build *b) {
    int64_t wanted[WEFT_LOADER_MAX_DOMAINS][WEFT_SPLITS], total = 0;
    int finer = FINER;
    for (;; finer--) {
        total = 0;
        for (int d = 0; d < b->domain_count; d++)
            for (int s = 0; s < WEFT_SPLITS; s++) {
                const int64_t *kept = b->kept + ((int64_t)d * WEFT_SPLITS + s) * 2;
                int64_t shards =
                    kept[1] / (b->r->shard_tokens < INT64_MAX / 4 ? 4 * b->r->shard_tokens : INT64_MAX) + 1;
                wanted[d][s] = kept[0] ? shards * finer : 0;
                total += wanted[d][s];
            }
        if (total <= WEFT_SPILL_MAX_PARTITIONS || finer == 1) break;
    }
    if (total > WEFT_SPILL_MAX_PARTITIONS)
        WEFT_FAIL(WEFT_EINPUT, "%lld shards are too many; a larger shard_tokens makes fewer",
                  (long long)total);
    if (total == 0)
        WEFT_FAIL(WEFT_EINPUT, "no document is left for training: the filters dropped all of them");
    b->buckets = calloc((size_t)total + 1, sizeof *b->buckets);
    if (!b->buckets) WEFT_FAIL(WEFT_ENOMEM, "no memory for %lld shards", (long long)total);
    for (int d = 0; d < b->domain_count; d++)
        for (int s = 0; s < WEFT_SPLITS; s++) {
            b->first_bucket[d][s] = b->bucket_count;
            b->buckets_of[d][s] = (int)wanted[d][s];
            for (int64_t i = 0; i < wanted[d][s]; i++)
                b->buckets[b->bucket_count++] = (build_bucket){.domain = d, .split = s};
        }
    return WEFT_OK;
}

/* ---- one unit ---- */
typedef struct finisher {
    build *b;
    int64_t unit;
    int64_t *counters;
    build_decisions near, repeats;
    build_answers answers;
    weft_spill *out, *evidence;
    weft_words *words;
    weft_text cut, scrubbed, record;
    int32_t *ids;
    size_t id_count, id_capacity;
    size_t *ranges; /* masked bytes: begin and end of each */
    size_t range_count, range_capacity;
    int64_t before[WEFT_LOADER_MAX_DOMAINS][WEFT_SPLITS]; /* text before this place, in input order */
    json_t *contaminated, *tagged;
} finisher;

/* The document's repeated tokens as ranges of bytes. */
static weft_status find_ranges(finisher *f, weft_doc_id id, const build_passage *p) {
    int64_t count, first = build_find_repeats(&f->repeats, id, &count);
    f->range_count = 0;
    if (count == 0) return WEFT_OK;
    if (f->range_capacity < 2 * (size_t)count) {
        size_t *ranges = realloc(f->ranges, 2 * (size_t)count * sizeof *ranges);
        if (!ranges) WEFT_FAIL(WEFT_ENOMEM, "no memory for the repeats of a document");
        f->ranges = ranges;
        f->range_capacity = 2 * (size_t)count;
    }
    const weft_tokenizer *t = f->b->tokenizer;
    WEFT_TRY(weft_tokenizer_encode(t, p->text, p->bytes, &f->ids, &f->id_count, &f->id_capacity));
    size_t token = 0, byte = 0;
    for (int64_t i = 0; i < count; i++) {
        const weft_repeat *r = &f->repeats.repeats[first + i];
        size_t end = (size_t)r->first + r->count;
        if (end > f->id_count)
            WEFT_FAIL(WEFT_EINTERNAL, "a repeated substring ends at token %zu of a document of %zu", end,
                      f->id_count);
        for (; token < r->first; token++) byte += (size_t)weft_tokenizer_piece_bytes(t, f->ids[token]);
        f->ranges[f->range_count++] = byte;
        for (; token < end; token++) byte += (size_t)weft_tokenizer_piece_bytes(t, f->ids[token]);
        f->ranges[f->range_count++] = byte;
    }
    return WEFT_OK;
}

static bool inside_character(const build_passage *p, size_t at) {
    return at < p->bytes && ((unsigned char)p->text[at] & 0xc0) == 0x80;
}

/* Takes the ranges out; a character cut in two by byte tokens goes with the range. */
static weft_status cut_ranges(finisher *f, const weft_docs_row *row, build_passage *p) {
    size_t from = 0;
    if (f->range_count == 0) return WEFT_OK;
    f->cut.bytes = 0;
    for (size_t i = 0; i < f->range_count; i += 2) {
        size_t begin = f->ranges[i], end = f->ranges[i + 1];
        while (begin > from && inside_character(p, begin)) begin--;
        while (inside_character(p, end)) end++;
        if (begin > from) WEFT_TRY(weft_text_append(&f->cut, p->text + from, begin - from));
        if (end > from) from = end;
    }
    WEFT_TRY(weft_text_append(&f->cut, p->text + from, p->bytes - from));
    f->range_count = 0;
    if (f->cut.bytes == 0)
        build_drop(f->counters, STEP_SUBSTRING, row->domain, p);
    else
        build_change(f->counters, STEP_SUBSTRING, row->domain, p, &f->cut);
    return WEFT_OK;
}

static weft_status decontaminate(finisher *f, const weft_docs_row *row, build_passage *p) {
    weft_contamination found;
    WEFT_TRY(weft_contaminated(f->b->contaminants, f->words, p->text, p->bytes, &found));
    if (found.matches == 0) return WEFT_OK;
    f->counters[COUNT_CONTAMINATED] += found.matches;
    bool goes = found.matches > f->b->r->decontaminate_max_matches;
    json_t *hit = json_pack("{s:s, s:I, s:b, s:I, s:f, s:i, s:I, s:s}", "file", f->b->files[row->file].shown,
                            "place", (json_int_t)row->place, "dropped", goes, "matches",
                            (json_int_t)found.matches, "share", found.share, "evaluation_file", found.file,
                            "evaluation_text", (json_int_t)found.text, "excerpt", found.excerpt);
    if (!hit || json_array_append_new(f->contaminated, hit) != 0)
        WEFT_FAIL(WEFT_ENOMEM, "no memory to note a contaminated document");
    if (goes) build_drop(f->counters, STEP_DECONTAMINATE, row->domain, p);
    return WEFT_OK;
}

static weft_status scrub(finisher *f, const weft_docs_row *row, build_passage *p) {
    int64_t counts[3] = {0};
    WEFT_TRY(weft_scrub(f->b->scrubber, p->text, p->bytes, &f->scrubbed, counts, f->ranges, f->range_count));
    for (int i = 0; i < 3; i++) f->counters[COUNT_SCRUBBED + i] += counts[i];
    build_change(f->counters, STEP_SCRUB, row->domain, p, &f->scrubbed);
    return WEFT_OK;
}

/* ---- tokens ---- */
static weft_status append_mask(finisher *f, uint32_t first, uint32_t count, uint32_t *masked) {
    uint32_t pair[2] = {first, count};
    if (count == 0) return WEFT_OK;
    f->counters[COUNT_MASKED] += count;
    ++*masked;
    return weft_text_append(&f->record, (const char *)pair, sizeof pair);
}

/* The tokens that lie in the ranges whole, as pairs in the record. */
static weft_status append_masks(finisher *f, uint32_t *masked) {
    size_t byte = 0, range = 0;
    uint32_t first = 0, count = 0;
    *masked = 0;
    for (size_t i = 0; i < f->id_count && f->range_count > 0; i++) {
        size_t end = byte + (size_t)weft_tokenizer_piece_bytes(f->b->tokenizer, f->ids[i]);
        while (range < f->range_count && f->ranges[range + 1] < end) range += 2;
        bool in = range < f->range_count && byte >= f->ranges[range];
        if (!in) {
            WEFT_TRY(append_mask(f, first, count, masked));
            count = 0;
        } else if (count++ == 0)
            first = (uint32_t)i;
        byte = end;
    }
    return append_mask(f, first, count, masked);
}

static int bucket_of(finisher *f, const weft_docs_row *row, int split, uint64_t *key) {
    const build *b = f->b;
    weft_doc_id id = weft_doc_id_of((uint64_t)f->unit, row->index);
    int buckets = b->buckets_of[row->domain][split], first = b->first_bucket[row->domain][split];
    if (b->r->shuffle) {
        *key = weft_hash64(&id, sizeof id, (uint64_t)b->r->seed);
        return first + weft_spill_partition(*key, buckets);
    }
    int64_t *before = &f->before[row->domain][split];
    int64_t total = b->kept[((int64_t)row->domain * WEFT_SPLITS + split) * 2 + 1];
    int at = (int)((__int128)*before * buckets / (total > 0 ? total : 1));
    *key = id;
    return first + (at < buckets ? at : buckets - 1);
}

static weft_status add_tokens(finisher *f, const weft_docs_row *row, const build_passage *p) {
    build *b = f->b;
    uint64_t key;
    weft_doc_id id = weft_doc_id_of((uint64_t)f->unit, row->index);
    const weft_drop *cluster = build_find_drop(&f->near, id);
    int split = build_split_of(b, row->hash), bucket = bucket_of(f, row, split, &key);
    unsigned char head[FINISHED_KEY + sizeof(build_finished)] = {0};
    build_finished about = {.place = row->place,
                            .id = id,
                            .cluster = cluster ? cluster->cluster + 1 : 0,
                            .file = row->file,
                            .text_bytes = (uint32_t)p->bytes};
    WEFT_TRY(weft_tokenizer_encode(b->tokenizer, p->text, p->bytes, &f->ids, &f->id_count, &f->id_capacity));
    weft_put_u64(head, key);
    weft_put_u64(head + 8, id);
    f->record.bytes = 0;
    WEFT_TRY(weft_text_append(&f->record, (const char *)head, sizeof head));
    WEFT_TRY(append_masks(f, &about.masked));
    about.ids = (uint32_t)f->id_count;
    memcpy(f->record.data + FINISHED_KEY, &about, sizeof about);
    if (weft_shard_token_bytes(weft_tokenizer_vocab_size(b->tokenizer)) == 2) {
        uint16_t *narrow =
            (uint16_t *)(void *)f->ids; /* in place: ids are read before they are written over */
        for (size_t i = 0; i < f->id_count; i++) narrow[i] = (uint16_t)f->ids[i];
        WEFT_TRY(weft_text_append(&f->record, (const char *)narrow, f->id_count * sizeof *narrow));
    } else
        WEFT_TRY(weft_text_append(&f->record, (const char *)f->ids, f->id_count * sizeof *f->ids));
    int64_t *kept = count_kept(f->counters, row->domain, split);
    kept[0]++;
    kept[1] += (int64_t)p->bytes;
    f->counters[COUNT_BUCKETS + bucket] += (int64_t)f->id_count + 2;
    return weft_spill_add(f->out, bucket, f->record.data, f->record.bytes);
}

/* What a filter with `tag` said of a document that is in the shards. */
static weft_status note_tags(finisher *f, const weft_docs_row *row) {
    json_t *names = json_array();
    for (int i = 0; i < f->b->r->filter_count; i++)
        if (row->tags >> i & 1) json_array_append_new(names, json_string(f->b->r->filters[i].kind->name));
    json_t *one = json_pack("{s:s, s:I, s:I, s:o}", "file", f->b->files[row->file].shown, "place",
                            (json_int_t)row->place, "id",
                            (json_int_t)weft_doc_id_of((uint64_t)f->unit, row->index), "tags", names);
    if (!one || json_array_append_new(f->tagged, one) != 0) WEFT_FAIL(WEFT_ENOMEM, "no memory to note tags");
    return WEFT_OK;
}

static weft_status finish_document(finisher *f, const weft_docs_row *row, const char *text) {
    build *b = f->b;
    weft_doc_id id = weft_doc_id_of((uint64_t)f->unit, row->index);
    const weft_drop *d = build_find_drop(&f->near, id);
    build_passage p = {text, row->text_bytes};
    if (d) WEFT_TRY(build_note_evidence(f->evidence, STEP_NEAR, d, row));
    if (d && d->kept != id) {
        build_drop(f->counters, STEP_NEAR, row->domain, &p);
        return WEFT_OK;
    }
    WEFT_TRY(find_ranges(f, id, &p));
    if (b->r->substring_cut) WEFT_TRY(cut_ranges(f, row, &p));
    if (p.bytes > 0 && b->contaminants) WEFT_TRY(decontaminate(f, row, &p));
    if (p.bytes > 0 && b->scrubber) WEFT_TRY(scrub(f, row, &p));
    if (p.bytes == 0) return WEFT_OK;
    WEFT_TRY(build_mask_drawn(&f->answers, b, row, &p, &f->ranges, &f->range_count, &f->range_capacity));
    if (row->tags) WEFT_TRY(note_tags(f, row));
    return add_tokens(f, row, &p);
}

/* ---- the stage ---- */
static weft_status finish_begin(finisher *f) {
    build *b = f->b;
    char path[WEFT_PATH_SIZE];
    if (b->r->has_near)
        WEFT_TRY(build_load_drops(b, &f->near, "near", "drops", b->job.partitions, (uint64_t)f->unit));
    if (b->r->has_substring)
        WEFT_TRY(build_load_repeats(
            b, &f->repeats, (int64_t)b->substring_parts * (b->substring_parts + 1) / 2, (uint64_t)f->unit));
    WEFT_TRY(weft_work_path(&b->work, path, "finish", f->unit, "tokens"));
    WEFT_TRY(weft_spill_create(&f->out, path, b->bucket_count, 0, b->job.memory / 2));
    WEFT_TRY(weft_work_path(&b->work, path, "evidence", f->unit, "near"));
    WEFT_TRY(weft_spill_create(&f->evidence, path, EVIDENCE_PARTS, EVIDENCE_BYTES, 1 << 20));
    f->contaminated = json_array();
    f->tagged = json_array();
    if (!f->contaminated || !f->tagged) WEFT_FAIL(WEFT_ENOMEM, "no memory to note documents");
    const int64_t *before = b->clean_each + f->unit * (COUNT_KEPT_END - COUNT_KEPT);
    for (int d = 0; d < b->domain_count; d++)
        for (int s = 0; s < WEFT_SPLITS; s++) f->before[d][s] = before[(d * WEFT_SPLITS + s) * 2 + 1];
    return b->contaminants ? weft_words_new(&f->words) : WEFT_OK;
}

static weft_status finish_unit(finisher *f) {
    char path[WEFT_PATH_SIZE];
    weft_docs *in = NULL;
    WEFT_TRY(build_text_path(f->b, (uint64_t)f->unit, path));
    weft_status st = weft_docs_open(&in, path);
    for (int64_t i = 0; st == WEFT_OK && i < weft_docs_count(in); i++) {
        const weft_docs_row *row = weft_docs_about(in, i);
        const char *text;
        const void *extra;
        st = weft_docs_read(in, i, &text, &extra);
        if (st == WEFT_OK) st = finish_document(f, row, text);
        f->before[row->domain][build_split_of(f->b, row->hash)] += row->text_bytes;
    }
    weft_docs_close(in);
    return st;
}

static weft_status write_list(finisher *f, const json_t *list, const char *name) {
    char path[WEFT_PATH_SIZE];
    if (json_array_size(list) == 0) return WEFT_OK;
    char *text = json_dumps(list, JSON_COMPACT | JSON_SORT_KEYS | JSON_REAL_PRECISION(6));
    weft_status st = text ? weft_work_path(&f->b->work, path, "evidence", f->unit, name)
                          : weft_fail(WEFT_ENOMEM, "no memory to note %s documents", name);
    if (st == WEFT_OK) st = weft_work_put_text(path, text, strlen(text));
    free(text);
    return st;
}

static weft_status finish_end(finisher *f) {
    WEFT_TRY(write_list(f, f->contaminated, "contaminated"));
    WEFT_TRY(write_list(f, f->tagged, "tagged"));
    WEFT_TRY(weft_spill_finish(f->evidence));
    f->evidence = NULL;
    WEFT_TRY(weft_spill_finish(f->out));
    f->out = NULL;
    return WEFT_OK;
}

static weft_status finish_piece(void *arg, int64_t piece, int thread, int64_t *counters) {
    (void)thread;
    finisher *f = calloc(1, sizeof *f);
    if (!f) WEFT_FAIL(WEFT_ENOMEM, "no memory to finish a unit");
    f->b = arg;
    f->unit = piece;
    f->counters = counters;
    weft_status st = finish_begin(f);
    if (st == WEFT_OK) st = finish_unit(f);
    if (st == WEFT_OK) st = finish_end(f);
    weft_spill_abandon(f->out);
    weft_spill_abandon(f->evidence);
    weft_words_free(f->words);
    weft_text_free(&f->cut);
    weft_text_free(&f->scrubbed);
    weft_text_free(&f->record);
    build_decisions_free(&f->near);
    build_decisions_free(&f->repeats);
    build_answers_free(&f->answers);
    json_decref(f->contaminated);
    json_decref(f->tagged);
    free(f->ids);
    free(f->ranges);
    free(f);
    return st;
}

/* Each unit's counts become the sums over the units before it. */
static void sum_before(build *b) {
    enum { N = COUNT_KEPT_END - COUNT_KEPT };
    int64_t sum[N] = {0};
    for (int64_t u = 0; u < b->units; u++)
        for (int i = 0; i < N; i++) {
            int64_t own = b->clean_each[u * N + i];
            b->clean_each[u * N + i] = sum[i];
            sum[i] += own;
        }
}

weft_status build_open_tools(build *b) {
    const weft_recipe *r = b->r;
    for (int i = 0; i < r->filter_count; i++) {
        const weft_recipe_filter *f = &r->filters[i];
        if (f->kind->open) WEFT_TRY(f->kind->open(&b->filter_state[i], (const char *const *)f->options));
    }
    if (r->has_decontaminate)
        WEFT_TRY(weft_contaminants_open(&b->contaminants, r->decontaminate_files, (int)r->decontaminate_ngram,
                                        (int)r->decontaminate_shortest));
    return r->has_scrub ? weft_scrubber_new(&b->scrubber, r->scrub_kinds) : WEFT_OK;
}

weft_status build_finish(build *b) {
    WEFT_TRY(b->team->agree(make_buckets(b)));
    sum_before(b);
    int counters = COUNT_BUCKETS + b->bucket_count;
    const weft_stage s = {.name = "finish", .pieces = b->units, .counters = counters, .run = finish_piece};
    int64_t *total = calloc((size_t)counters, sizeof *total);
    weft_status st = b->team->agree(total ? WEFT_OK : weft_fail(WEFT_ENOMEM, "no memory for the counts"));
    if (st == WEFT_OK) st = weft_work_folder(&b->work, "finish");
    if (st == WEFT_OK) st = weft_work_folder(&b->work, "evidence");
    if (st == WEFT_OK) st = build_stage(b, &s, b, total, NULL);
    if (st == WEFT_OK) {
        for (int i = 0; i < COUNT_FLOW_END; i++) b->counters[i] += total[i];
        memcpy(b->finished, total + COUNT_KEPT, sizeof b->finished);
        memcpy(b->scrubbed, total + COUNT_SCRUBBED, sizeof b->scrubbed);
        b->masked = total[COUNT_MASKED];
        b->contaminated = total[COUNT_CONTAMINATED];
        for (int i = 0; i < b->bucket_count; i++) b->buckets[i].tokens = total[COUNT_BUCKETS + i];
        st = build_discard(b, b->texts, "docs");
    }
    free(total);
    return st;
}
