#include "data/shard/sample.h"
#include "data/loader/loader_cache.h"
#include "data/shard/manifest.h"
#include "data/tokenizer/tokenizer.h"
#include "runtime/fs.h"
#include "runtime/rng.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct sampler {
    const weft_sample_options *o;
    weft_manifest manifest;
    int split;
    weft_tokenizer *tokenizer;
    weft_streams streams;
    weft_cache *cache;
    int32_t *ids; /* [o->max_tokens] */
} sampler;

static bool wanted(const sampler *s, int domain) {
    return !s->o->domain || strcmp(s->manifest.domains[domain].name, s->o->domain) == 0;
}

static weft_status count_documents(const sampler *s, int64_t *documents) {
    bool known = false;
    char names[1024] = "";
    size_t used = 0;
    *documents = 0;
    for (int d = 0; d < s->manifest.domain_count; d++) {
        if (used < sizeof names)
            used += (size_t)snprintf(names + used, sizeof names - used, "%s%s", d ? ", " : "",
                                     s->manifest.domains[d].name);
        if (!wanted(s, d)) continue;
        known = true;
        *documents += s->manifest.domains[d].split[s->split].documents;
    }
    if (!known)
        WEFT_FAIL(WEFT_EINPUT, "%s: there is no domain '%s'; it has: %s", s->o->dir, s->o->domain, names);
    if (*documents == 0) WEFT_FAIL(WEFT_EINPUT, "%s: no document in the %s split", s->o->dir, s->o->split);
    return WEFT_OK;
}

/* Document `number` of all wanted ones: its domain, shard, number in the shard, and where the shard begins in
 * the domain's stream. */
static void find(const sampler *s, int64_t number, int *domain, const weft_manifest_file **file,
                 int64_t *inside, int64_t *start) {
    for (int d = 0; d < s->manifest.domain_count; d++) {
        const weft_manifest_split *split = &s->manifest.domains[d].split[s->split];
        int64_t before = 0;
        if (!wanted(s, d)) continue;
        for (int f = 0; f < split->count; f++) {
            if (number < split->files[f].documents) {
                *domain = d;
                *file = &split->files[f];
                *inside = number;
                *start = before;
                return;
            }
            number -= split->files[f].documents;
            before += split->files[f].tokens;
        }
    }
}

static weft_status show_document(sampler *s, int64_t number, weft_status (*show)(void *, const weft_sample *),
                                 void *arg) {
    int domain = 0;
    int64_t inside = 0, start = 0;
    const weft_manifest_file *file = NULL;
    weft_shard *shard;
    uint64_t *ends;
    uint32_t *sizes;
    find(s, number, &domain, &file, &inside, &start);
    const weft_manifest_domain *d = &s->manifest.domains[domain];
    WEFT_TRY(weft_manifest_open_shard(&s->manifest, s->o->dir, d, file, &shard));
    weft_status st = weft_shard_read_documents(shard, &ends, &sizes);
    weft_shard_close(shard);
    WEFT_TRY(st);
    int64_t first = (inside > 0 ? (int64_t)ends[inside - 1] : 0) + 1,
            tokens = (int64_t)ends[inside] - 1 - first;
    weft_sample sample = {
        .domain = d->name, .file = file->name, .document = inside, .tokens = tokens, .bytes = sizes[inside]};
    free(ends);
    free(sizes);
    if (tokens > s->o->max_tokens) tokens = s->o->max_tokens;
    WEFT_TRY(weft_cache_read(s->cache, domain, start + first, tokens, s->ids));
    WEFT_TRY(weft_tokenizer_decode(s->tokenizer, s->ids, (size_t)tokens, &sample.text, &sample.text_bytes));
    st = show(arg, &sample);
    free(sample.text);
    return st;
}

static weft_status run(sampler *s, weft_status (*show)(void *, const weft_sample *), void *arg) {
    const weft_sample_options *o = s->o;
    int64_t documents;
    WEFT_TRY(weft_manifest_read(&s->manifest, o->dir));
    WEFT_TRY(count_documents(s, &documents));
    char *model = weft_format("%s/tokenizer/tokenizer.model", o->dir);
    s->ids = malloc((size_t)o->max_tokens * sizeof *s->ids);
    weft_status st = model && s->ids ? weft_tokenizer_open(&s->tokenizer, model)
                                     : weft_fail(WEFT_ENOMEM, "%s: no memory to read it", o->dir);
    free(model);
    WEFT_TRY(st);
    weft_hash128 digest = weft_tokenizer_digest(s->tokenizer);
    if (digest.hi != s->manifest.tokenizer.hi || digest.lo != s->manifest.tokenizer.lo)
        WEFT_FAIL(WEFT_EINPUT, "%s/tokenizer: not the tokenizer that made the shards beside it", o->dir);
    WEFT_TRY(weft_streams_open(&s->streams, o->dir, &s->manifest, s->split));
    WEFT_TRY(weft_cache_open(&s->cache, &s->streams, 0));
    weft_rng draw = weft_rng_make(o->seed, "data/sample");
    for (int64_t i = 0; i < o->count && i < documents; i++)
        WEFT_TRY(
            show_document(s, (int64_t)weft_rng_permute(draw, (uint64_t)i, (uint64_t)documents), show, arg));
    return WEFT_OK;
}

weft_status weft_data_sample(const weft_sample_options *o, weft_status (*show)(void *, const weft_sample *),
                             void *arg) {
    sampler s = {.o = o, .split = weft_split_of(o->split)};
    if (s.split < 0)
        WEFT_FAIL(WEFT_EINPUT, "there is no split '%s'; the splits are train and heldout", o->split);
    if (o->count < 1 || o->max_tokens < 1 || o->max_tokens > 1 << 28)
        WEFT_FAIL(WEFT_EINPUT, "a sample has at least one document of at least one token");
    weft_status st = run(&s, show, arg);
    weft_cache_close(s.cache);
    weft_streams_close(&s.streams);
    weft_tokenizer_close(s.tokenizer);
    weft_manifest_free(&s.manifest);
    free(s.ids);
    return st;
}
