#include "data/loader/loader_fill.h"

#include <stdlib.h>
#include <string.h>

weft_status weft_filler_open(weft_filler *f, const weft_corpus *corpus, int64_t cache_bytes) {
    *f = (weft_filler){.corpus = corpus};
    f->sequence = malloc(((size_t)corpus->seq_len + 1) * sizeof *f->sequence);
    if (!f->sequence)
        WEFT_FAIL(WEFT_ENOMEM, "no memory for a sequence of %lld tokens", (long long)corpus->seq_len);
    for (int d = 0; d < corpus->domain_count; d++)
        WEFT_TRY(weft_mask_read(&f->masks[d], &corpus->streams.of[d]));
    return weft_cache_open(&f->cache, &corpus->streams, cache_bytes);
}

void weft_filler_close(weft_filler *f) {
    for (int d = 0; d < WEFT_LOADER_MAX_DOMAINS; d++) weft_mask_free(&f->masks[d]);
    weft_cache_close(f->cache);
    free(f->sequence);
    *f = (weft_filler){0};
}

static void set_all(int32_t *x, int64_t from, int64_t to, int32_t value) {
    for (int64_t i = from; i < to; i++) x[i] = value;
}

/* The first place of `id` in x[from, to), or `to`. Sixteen at a time: documents are long. */
static int64_t find_id(const int32_t *x, int64_t from, int64_t to, int32_t id) {
    for (; to - from >= 16; from += 16) {
        int32_t any = 0;
        for (int i = 0; i < 16; i++) any |= x[from + i] == id;
        if (any) break;
    }
    while (from < to && x[from] != id) from++;
    return from;
}

/* Tokens [index * T, index * T + T] of the stream; documents end where they end. */
static weft_status fill_cut(weft_filler *f, int domain, int64_t index, int32_t *tokens, int32_t *targets,
                            int32_t *doc_start, int64_t *counted) {
    const weft_corpus *c = f->corpus;
    int64_t n = c->seq_len, start = 0, left = n;
    const int32_t *x = f->sequence;
    WEFT_TRY(weft_cache_read(f->cache, domain, index * n, n + 1, f->sequence));
    memcpy(tokens, x, (size_t)n * sizeof *tokens);
    memcpy(targets, x + 1, (size_t)n * sizeof *targets);
    /* Shards hold BOS at the start of documents and nowhere else. */
    for (int64_t at = find_id(x, 1, n + 1, c->bos); at <= n; at = find_id(x, at + 1, n + 1, c->bos)) {
        targets[at - 1] = -1;
        left--;
        set_all(doc_start, start, at, (int32_t)start);
        start = at;
    }
    set_all(doc_start, start, n, (int32_t)start);
    *counted = left - weft_mask_apply(&f->masks[domain], index * n + 1, n, targets);
    return WEFT_OK;
}

/* A part of a document at `at` of the row. The last token has a target when the document goes on. */
static weft_status fill_piece(weft_filler *f, int domain, weft_pack_piece p, int64_t at, int32_t *tokens,
                              int32_t *targets, int64_t *counted) {
    int64_t known = p.goes_on ? p.count : p.count - 1;
    WEFT_TRY(weft_cache_read(f->cache, domain, p.first, known + 1, f->sequence));
    memcpy(tokens + at, f->sequence, (size_t)p.count * sizeof *tokens);
    memcpy(targets + at, f->sequence + 1, (size_t)known * sizeof *targets);
    if (!p.goes_on) targets[at + known] = -1;
    *counted += known - weft_mask_apply(&f->masks[domain], p.first + 1, known, targets + at);
    return WEFT_OK;
}

static weft_status fill_whole(weft_filler *f, int domain, int64_t index, int32_t *tokens, int32_t *targets,
                              int32_t *doc_start, int64_t *counted) {
    const weft_corpus *c = f->corpus;
    const weft_pack *pack = &c->packs[domain];
    int64_t at = 0;
    *counted = 0;
    for (uint64_t i = pack->begin[index]; i < pack->begin[index + 1]; i++) {
        weft_pack_piece p = weft_pack_get(pack, i);
        WEFT_TRY(fill_piece(f, domain, p, at, tokens, targets, counted));
        set_all(doc_start, at, at + p.count, (int32_t)at);
        at += p.count;
    }
    set_all(tokens, at, c->seq_len, c->eos);
    set_all(targets, at, c->seq_len, -1);
    for (; at < c->seq_len; at++) doc_start[at] = (int32_t)at;
    return WEFT_OK;
}

weft_status weft_filler_sample(weft_filler *f, int domain, int64_t index, int32_t *tokens, int32_t *targets,
                               int32_t *doc_start, int64_t *counted) {
    return (f->corpus->whole ? fill_whole : fill_cut)(f, domain, index, tokens, targets, doc_start, counted);
}
