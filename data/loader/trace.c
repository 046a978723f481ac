#include "data/loader/trace.h"
#include "data/loader/loader_corpus.h"

#include <stdlib.h>
#include <string.h>

struct weft_trace {
    weft_manifest manifest;
    int split;
    weft_corpus corpus;
    weft_trace_part *parts; /* [count] */
    int64_t count, capacity;
};

weft_status weft_trace_open(weft_trace **out, const weft_loader_options *o) {
    weft_status st;
    WEFT_TRY(weft_corpus_check_options(o));
    if (strcmp(o->path, "random") == 0)
        WEFT_FAIL(WEFT_EINPUT, "random tokens come from nowhere; give a directory made by weft data build");
    weft_trace *t = calloc(1, sizeof *t);
    if (!t) WEFT_FAIL(WEFT_ENOMEM, "%s: no memory to trace it", o->path);
    t->split = weft_split_of(o->split);
    WEFT_GOTO(st, failed, weft_manifest_read(&t->manifest, o->path));
    if (o->vocab_size != 0 && t->manifest.vocab_size != o->vocab_size) {
        st = weft_fail(WEFT_EINPUT, "%s: made with a tokenizer of %lld tokens, not %lld", o->path,
                       (long long)t->manifest.vocab_size, (long long)o->vocab_size);
        goto failed;
    }
    WEFT_GOTO(st, failed, weft_corpus_open(&t->corpus, o, &t->manifest));
    *out = t;
    return WEFT_OK;
failed:
    weft_trace_close(t);
    return st;
}

void weft_trace_close(weft_trace *t) {
    if (!t) return;
    weft_corpus_close(&t->corpus);
    weft_manifest_free(&t->manifest);
    free(t->parts);
    free(t);
}

const weft_loader_domain *weft_trace_domains(const weft_trace *t, int *count) {
    *count = t->corpus.domain_count;
    return t->corpus.domains;
}

static weft_status add_part(weft_trace *t, const weft_trace_part *part) {
    if (part->origin.file >= (uint64_t)t->manifest.source_count)
        WEFT_FAIL(WEFT_EINPUT, "%s: document %lld comes from file %llu, but the manifest lists %d",
                  part->shard, (long long)part->document, (unsigned long long)part->origin.file,
                  t->manifest.source_count);
    if (t->count == t->capacity) {
        int64_t more = t->capacity ? 2 * t->capacity : 64;
        weft_trace_part *parts = realloc(t->parts, (size_t)more * sizeof *parts);
        if (!parts) WEFT_FAIL(WEFT_ENOMEM, "no memory for %lld documents of a sequence", (long long)more);
        t->parts = parts;
        t->capacity = more;
    }
    t->parts[t->count] = *part;
    t->parts[t->count++].source = t->manifest.sources[part->origin.file].file;
    return WEFT_OK;
}

/* The documents of tokens [first, first + count) of a domain's stream, which stand at `at` of the sequence.
 * The first is searched for; the others follow it. */
static weft_status add_run(weft_trace *t, int domain, int64_t first, int64_t count, int64_t at) {
    const weft_stream *s = &t->corpus.streams.of[domain];
    int shard = weft_stream_shard(s, first);
    int64_t document = -1;
    while (count > 0) {
        uint64_t begin, end, inside = (uint64_t)(first - s->start[shard]);
        weft_trace_part p = {.shard = t->manifest.domains[domain].split[t->split].files[shard].name,
                             .first = (int64_t)inside,
                             .at = at};
        if (document < 0) WEFT_TRY(weft_shard_find(s->shards[shard], inside, &document, &begin, &p.origin));
        WEFT_TRY(weft_shard_document(s->shards[shard], document, &begin, &end, &p.origin));
        p.document = document;
        p.document_at = (int64_t)(inside - begin);
        p.document_tokens = (int64_t)(end - begin);
        p.tokens = (int64_t)(end - inside) < count ? (int64_t)(end - inside) : count;
        WEFT_TRY(add_part(t, &p));
        at += p.tokens;
        first += p.tokens;
        count -= p.tokens;
        document++;
        if (first == s->start[shard + 1]) shard++, document = 0;
    }
    return WEFT_OK;
}

weft_status weft_trace_sequence(weft_trace *t, int domain, int64_t index, weft_traced *out) {
    const weft_corpus *c = &t->corpus;
    int64_t at = 0;
    if (domain < 0 || domain >= c->domain_count || index < 0 || index >= c->domains[domain].samples)
        WEFT_FAIL(WEFT_EINPUT, "domain %d has no sequence %lld", domain, (long long)index);
    t->count = 0;
    if (c->whole) {
        const weft_pack *pack = &c->packs[domain];
        for (uint64_t i = pack->begin[index]; i < pack->begin[index + 1]; i++) {
            weft_pack_piece p = weft_pack_get(pack, i);
            WEFT_TRY(add_run(t, domain, p.first, p.count, at));
            at += p.count;
        }
    } else {
        WEFT_TRY(add_run(t, domain, index * c->seq_len, c->seq_len, 0));
        at = c->seq_len;
    }
    *out = (weft_traced){.domain = domain,
                         .domain_name = c->domains[domain].name,
                         .index = index,
                         .parts = t->parts,
                         .count = t->count,
                         .padded = c->seq_len - at};
    return WEFT_OK;
}

weft_status weft_trace_sample(weft_trace *t, uint64_t sample, weft_traced *out) {
    int domain;
    int64_t index, epoch;
    WEFT_TRY(weft_corpus_check(&t->corpus, sample));
    weft_order_locate(&t->corpus.order, sample, &domain, &index, &epoch);
    WEFT_TRY(weft_trace_sequence(t, domain, index, out));
    out->epoch = epoch;
    return WEFT_OK;
}
