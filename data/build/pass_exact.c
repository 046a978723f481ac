/* Exact duplicates: which copies go, and which lines. */
#include "data/build/decisions.h"

#include <stdlib.h>
#include <string.h>

/* ---- whole documents ---- */
static weft_status exact_piece(void *arg, int64_t piece, int thread, int64_t *counters) {
    (void)thread;
    build *b = arg;
    char **keys, out[WEFT_PATH_SIZE];
    weft_exact_counts counts = {0};
    WEFT_TRY(weft_work_path(&b->work, out, "exact", piece, "drops"));
    WEFT_TRY(build_paths(b, "clean", "exact", b->units, &keys));
    weft_status st = weft_exact_reduce(&b->job, (int)piece, keys, (int)b->units, out, &counts);
    build_paths_free(keys, b->units);
    memcpy(counters, &counts, sizeof counts);
    return st;
}

/* ---- lines ---- */
static weft_lines_options lines_options(const build *b) {
    return (weft_lines_options){.paragraphs = b->r->lines_paragraphs,
                                .min_characters = b->r->lines_min_characters};
}

static weft_status emit_unit(build *b, int64_t unit, const build_decisions *d, weft_spill *keys) {
    char path[WEFT_PATH_SIZE];
    weft_docs *in = NULL;
    weft_text scratch = {0};
    const weft_lines_options o = lines_options(b);
    WEFT_TRY(build_text_path(b, (uint64_t)unit, path));
    weft_status st = weft_docs_open(&in, path);
    for (int64_t i = 0; st == WEFT_OK && i < weft_docs_count(in); i++) {
        const weft_docs_row *row = weft_docs_about(in, i);
        weft_doc_id id = weft_doc_id_of((uint64_t)unit, row->index);
        const char *text;
        const void *extra;
        if (build_goes(d, id)) continue;
        st = weft_docs_read(in, i, &text, &extra);
        if (st == WEFT_OK)
            st = weft_lines_emit(&o, keys, b->job.partitions, id, text, row->text_bytes, &scratch);
    }
    weft_docs_close(in);
    weft_text_free(&scratch);
    return st;
}

static weft_status line_keys_piece(void *arg, int64_t piece, int thread, int64_t *counters) {
    (void)thread;
    (void)counters;
    build *b = arg;
    char path[WEFT_PATH_SIZE];
    build_decisions d = {0};
    weft_spill *keys = NULL;
    WEFT_TRY(weft_work_path(&b->work, path, "lines", piece, "keys"));
    weft_status st = WEFT_OK;
    if (b->r->has_exact) st = build_load_drops(b, &d, "exact", "drops", b->job.partitions, (uint64_t)piece);
    if (st == WEFT_OK)
        st = weft_spill_create(&keys, path, b->job.partitions, WEFT_LINES_BYTES, b->job.memory / 2);
    if (st == WEFT_OK) st = emit_unit(b, piece, &d, keys);
    if (st == WEFT_OK && (st = weft_spill_finish(keys)) == WEFT_OK) keys = NULL;
    weft_spill_abandon(keys);
    build_decisions_free(&d);
    return st;
}

static weft_status lines_piece(void *arg, int64_t piece, int thread, int64_t *counters) {
    (void)thread;
    build *b = arg;
    char **keys, out[WEFT_PATH_SIZE];
    weft_lines_counts counts = {0};
    WEFT_TRY(weft_work_path(&b->work, out, "lines", piece, "drops"));
    WEFT_TRY(build_paths(b, "lines", "keys", b->units, &keys));
    weft_status st =
        weft_lines_reduce(&b->job, (int)piece, b->r->lines_copies, keys, (int)b->units, out, &counts);
    build_paths_free(keys, b->units);
    memcpy(counters, &counts, sizeof counts);
    return st;
}

weft_status build_exact(build *b) {
    const weft_stage exact = {
        .name = "exact", .pieces = b->job.partitions, .counters = 3, .run = exact_piece};
    const weft_stage keys = {.name = "line-keys", .pieces = b->units, .run = line_keys_piece};
    const weft_stage lines = {
        .name = "lines", .pieces = b->job.partitions, .counters = 2, .run = lines_piece};
    _Static_assert(sizeof(weft_exact_counts) == 3 * sizeof(int64_t), "its counters");
    _Static_assert(sizeof(weft_lines_counts) == 2 * sizeof(int64_t), "its counters");
    if (b->r->has_exact) {
        WEFT_TRY(weft_work_folder(&b->work, "exact"));
        WEFT_TRY(build_stage(b, &exact, b, (int64_t *)(void *)&b->exact, NULL));
    }
    if (!b->r->has_lines) return WEFT_OK;
    WEFT_TRY(weft_work_folder(&b->work, "lines"));
    WEFT_TRY(build_stage(b, &keys, b, NULL, NULL));
    return build_stage(b, &lines, b, (int64_t *)(void *)&b->lines, NULL);
}

/* ---- the texts without them, and their MinHash bands ---- */
typedef struct signer {
    build *b;
    int64_t unit;
    int64_t *counters;
    build_decisions exact, lines;
    weft_docs_writer *out;
    weft_spill *bands, *evidence;
    weft_shingler *shingler;
    weft_text cut;
    uint32_t *signature, *numbers;
    uint64_t *keys;
} signer;

static weft_status sign_document(signer *s, const weft_docs_row *about, const char *text, size_t bytes) {
    build *b = s->b;
    const uint64_t *hashes;
    size_t count;
    unsigned char record[WEFT_BAND_BYTES];
    WEFT_TRY(weft_shingles(s->shingler, text, bytes, &hashes, &count));
    if (count == 0) return WEFT_OK;
    weft_minhash_sign(b->minhash, hashes, count, s->signature);
    weft_minhash_bands(b->minhash, s->signature, s->keys);
    uint32_t order = weft_keep_order((weft_keep)b->r->near_keep, about);
    for (int64_t i = 0; i < b->r->near_bands; i++) {
        weft_band_pack(s->keys[i], order, weft_doc_id_of((uint64_t)s->unit, about->index), record);
        WEFT_TRY(weft_spill_add(s->bands, weft_spill_partition(s->keys[i], b->job.partitions), record,
                                sizeof record));
    }
    return WEFT_OK;
}

/* The document without its repeated lines; empty when none is left. */
static weft_status cut_lines(signer *s, const weft_docs_row *row, build_passage *p) {
    int64_t count, first = build_find_lines(&s->lines, weft_doc_id_of((uint64_t)s->unit, row->index), &count);
    const weft_lines_options o = lines_options(s->b);
    if (count == 0) return WEFT_OK;
    uint32_t *numbers = realloc(s->numbers, (size_t)count * sizeof *numbers);
    if (!numbers) WEFT_FAIL(WEFT_ENOMEM, "no memory for the lines of a document");
    s->numbers = numbers;
    for (int64_t i = 0; i < count; i++) numbers[i] = s->lines.lines[first + i].number;
    WEFT_TRY(weft_lines_cut(&o, p->text, p->bytes, numbers, (size_t)count, &s->cut));
    size_t left = 0; /* a text of white space is none */
    while (left < s->cut.bytes && strchr(" \t\r\n", s->cut.data[left])) left++;
    if (left == s->cut.bytes)
        build_drop(s->counters, STEP_LINES, row->domain, p);
    else
        build_change(s->counters, STEP_LINES, row->domain, p, &s->cut);
    return WEFT_OK;
}

static weft_status sign_row(signer *s, weft_docs *in, int64_t i) {
    const weft_docs_row *row = weft_docs_about(in, i);
    build_passage p = {"", row->text_bytes};
    const void *extra;
    const weft_drop *d = build_find_drop(&s->exact, weft_doc_id_of((uint64_t)s->unit, row->index));
    if (d) WEFT_TRY(build_note_evidence(s->evidence, STEP_EXACT, d, row));
    if (d && d->kept != d->id) {
        build_drop(s->counters, STEP_EXACT, row->domain, &p);
        return WEFT_OK;
    }
    WEFT_TRY(weft_docs_read(in, i, &p.text, &extra));
    WEFT_TRY(cut_lines(s, row, &p));
    if (p.bytes == 0) return WEFT_OK;
    if (s->bands) WEFT_TRY(sign_document(s, row, p.text, p.bytes));
    return weft_docs_add(s->out, row, p.text, p.bytes, NULL, 0);
}

static weft_status sign_begin(signer *s) {
    build *b = s->b;
    char path[WEFT_PATH_SIZE];
    if (b->r->has_exact)
        WEFT_TRY(build_load_drops(b, &s->exact, "exact", "drops", b->job.partitions, (uint64_t)s->unit));
    if (b->r->has_exact) {
        WEFT_TRY(weft_work_path(&b->work, path, "evidence", s->unit, "exact"));
        WEFT_TRY(weft_spill_create(&s->evidence, path, EVIDENCE_PARTS, EVIDENCE_BYTES, 1 << 20));
    }
    if (b->r->has_lines) WEFT_TRY(build_load_lines(b, &s->lines, (uint64_t)s->unit));
    WEFT_TRY(weft_work_path(&b->work, path, "sign", s->unit, "docs"));
    WEFT_TRY(weft_docs_create(&s->out, path));
    if (!b->r->has_near) return WEFT_OK;
    WEFT_TRY(weft_work_path(&b->work, path, "sign", s->unit, "bands"));
    WEFT_TRY(weft_spill_create(&s->bands, path, b->job.partitions, WEFT_BAND_BYTES, b->job.memory / 2));
    s->signature = malloc((size_t)(b->r->near_bands * b->r->near_rows) * sizeof *s->signature);
    s->keys = malloc((size_t)b->r->near_bands * sizeof *s->keys);
    if (!s->signature || !s->keys) WEFT_FAIL(WEFT_ENOMEM, "no memory for a signature");
    return weft_shingler_new(&s->shingler, (int)b->r->near_shingle);
}

static weft_status sign_unit(signer *s) {
    char path[WEFT_PATH_SIZE];
    weft_docs *in = NULL;
    WEFT_TRY(build_text_path(s->b, (uint64_t)s->unit, path));
    weft_status st = weft_docs_open(&in, path);
    for (int64_t i = 0; st == WEFT_OK && i < weft_docs_count(in); i++) st = sign_row(s, in, i);
    weft_docs_close(in);
    if (st == WEFT_OK && s->bands && (st = weft_spill_finish(s->bands)) == WEFT_OK) s->bands = NULL;
    if (st == WEFT_OK && s->evidence && (st = weft_spill_finish(s->evidence)) == WEFT_OK) s->evidence = NULL;
    if (st == WEFT_OK && (st = weft_docs_finish(s->out)) == WEFT_OK) s->out = NULL;
    return st;
}

static weft_status sign_piece(void *arg, int64_t piece, int thread, int64_t *counters) {
    (void)thread;
    signer s = {.b = arg, .unit = piece, .counters = counters};
    weft_status st = sign_begin(&s);
    if (st == WEFT_OK) st = sign_unit(&s);
    weft_docs_abandon(s.out);
    weft_spill_abandon(s.bands);
    weft_spill_abandon(s.evidence);
    weft_shingler_free(s.shingler);
    weft_text_free(&s.cut);
    build_decisions_free(&s.exact);
    build_decisions_free(&s.lines);
    free(s.signature);
    free(s.numbers);
    free(s.keys);
    return st;
}

weft_status build_sign(build *b) {
    const weft_stage s = {.name = "sign", .pieces = b->units, .counters = COUNT_FLOW_END, .run = sign_piece};
    if (!b->r->has_exact && !b->r->has_lines && !b->r->has_near) return WEFT_OK;
    int64_t *total = calloc(COUNT_FLOW_END, sizeof *total);
    weft_status st = total ? WEFT_OK : weft_fail(WEFT_ENOMEM, "no memory for the counts");
    if (st == WEFT_OK && b->r->has_near)
        st = weft_minhash_new(&b->minhash, (int)b->r->near_bands, (int)b->r->near_rows,
                              (uint32_t)b->r->near_seed);
    st = b->team->agree(st);
    if (st == WEFT_OK) st = weft_work_folder(&b->work, "sign");
    if (st == WEFT_OK) st = weft_work_folder(&b->work, "evidence");
    if (st == WEFT_OK) st = build_stage(b, &s, b, total, NULL);
    for (int i = 0; st == WEFT_OK && i < COUNT_FLOW_END; i++) b->counters[i] += total[i];
    free(total);
    if (st != WEFT_OK) return st;
    b->texts = "sign";
    return build_discard(b, "clean", "docs");
}
