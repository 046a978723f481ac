#include "data/loader/loader_cache.h"

#include <stdlib.h>
#include <string.h>

enum { NONE = -1 };

typedef struct stream {
    int first_shard, shards;
    int64_t *start; /* [shards + 1] tokens before each shard */
} stream;

typedef struct slot {
    int64_t chunk;        /* number over all shards, or NONE */
    int32_t newer, older; /* the list from the most to the least recently used */
} slot;

struct weft_cache {
    int64_t vocab_size;
    size_t chunk_bytes;
    stream streams[WEFT_LOADER_MAX_DOMAINS];
    int stream_count;
    weft_shard **shards;
    int64_t *first_chunk; /* [shards] number of each shard's first chunk */
    int shard_count;
    int32_t *slot_of; /* [chunks] or NONE */
    slot *slots;
    int32_t slot_count, newest, oldest;
    char *data; /* [slot_count, chunk_bytes] */
    weft_shard_decoder *decoder;
};

void weft_cache_close(weft_cache *c) {
    if (!c) return;
    for (int i = 0; i < c->shard_count; i++) weft_shard_close(c->shards[i]);
    for (int i = 0; i < c->stream_count; i++) free(c->streams[i].start);
    weft_shard_decoder_free(c->decoder);
    free(c->shards);
    free(c->first_chunk);
    free(c->slot_of);
    free(c->slots);
    free(c->data);
    free(c);
}

static weft_status open_streams(weft_cache *c, const char *dir, const weft_manifest *m, int split,
                                int64_t *chunks) {
    *chunks = 0;
    for (int d = 0; d < m->domain_count; d++) {
        const weft_manifest_domain *domain = &m->domains[d];
        const weft_manifest_split *files = &domain->split[split];
        stream *s = &c->streams[d];
        *s = (stream){.first_shard = c->shard_count,
                      .start = calloc((size_t)files->count + 1, sizeof *s->start)};
        c->stream_count = d + 1;
        if (!s->start) WEFT_FAIL(WEFT_ENOMEM, "%s: no memory to read it", dir);
        for (int f = 0; f < files->count; f++) {
            WEFT_TRY(weft_manifest_open_shard(m, dir, domain, &files->files[f], &c->shards[c->shard_count]));
            const weft_shard_info *info = weft_shard_about(c->shards[c->shard_count]);
            c->first_chunk[c->shard_count++] = *chunks;
            s->start[++s->shards] = s->start[f] + info->tokens;
            *chunks += info->chunks;
        }
    }
    return WEFT_OK;
}

static weft_status make_slots(weft_cache *c, const char *dir, int64_t chunks, int64_t cache_bytes) {
    int64_t want = cache_bytes / (int64_t)c->chunk_bytes;
    if (want < 2) want = 2;
    if (want > chunks) want = chunks;
    if (want > INT32_MAX) want = INT32_MAX;
    if (want == 0) return WEFT_OK;
    c->slot_of = malloc((size_t)chunks * sizeof *c->slot_of);
    c->slots = malloc((size_t)want * sizeof *c->slots);
    c->data = malloc((size_t)want * c->chunk_bytes);
    if (!c->slot_of || !c->slots || !c->data)
        WEFT_FAIL(WEFT_ENOMEM,
                  "%s: no memory for %lld decoded chunks of %zu bytes; make data's cache smaller", dir,
                  (long long)want, c->chunk_bytes);
    for (int64_t i = 0; i < chunks; i++) c->slot_of[i] = NONE;
    c->slot_count = (int32_t)want;
    for (int32_t i = 0; i < c->slot_count; i++)
        c->slots[i] = (slot){.chunk = NONE, .newer = i - 1, .older = i + 1 < c->slot_count ? i + 1 : NONE};
    c->newest = 0;
    c->oldest = c->slot_count - 1;
    return WEFT_OK;
}

weft_status weft_cache_open(weft_cache **out, const char *dir, const weft_manifest *m, int split,
                            int64_t cache_bytes) {
    weft_status st;
    int64_t chunks;
    size_t files = 0;
    weft_cache *c = calloc(1, sizeof *c);
    if (!c) WEFT_FAIL(WEFT_ENOMEM, "%s: no memory to read it", dir);
    c->vocab_size = m->vocab_size;
    c->chunk_bytes = weft_shard_chunk_bytes(m->vocab_size);
    for (int d = 0; d < m->domain_count; d++) files += (size_t)m->domains[d].split[split].count;
    c->shards = calloc(files + 1, sizeof *c->shards);
    c->first_chunk = calloc(files + 1, sizeof *c->first_chunk);
    if (!c->shards || !c->first_chunk) {
        st = weft_fail(WEFT_ENOMEM, "%s: no memory to read it", dir);
        goto failed;
    }
    WEFT_GOTO(st, failed, open_streams(c, dir, m, split, &chunks));
    WEFT_GOTO(st, failed, make_slots(c, dir, chunks, cache_bytes));
    WEFT_GOTO(st, failed, weft_shard_decoder_new(&c->decoder, m->vocab_size));
    *out = c;
    return WEFT_OK;
failed:
    weft_cache_close(c);
    return st;
}

static void move_to_front(weft_cache *c, int32_t i) {
    slot *s = &c->slots[i];
    if (c->newest == i) return;
    c->slots[s->newer].older = s->older;
    if (s->older != NONE)
        c->slots[s->older].newer = s->newer;
    else
        c->oldest = s->newer;
    *s = (slot){.chunk = s->chunk, .newer = NONE, .older = c->newest};
    c->slots[c->newest].newer = i;
    c->newest = i;
}

static weft_status get_chunk(weft_cache *c, int shard, int64_t chunk, const void **tokens) {
    int64_t number = c->first_chunk[shard] + chunk;
    int32_t i = c->slot_of[number];
    if (i == NONE) {
        i = c->oldest;
        if (c->slots[i].chunk != NONE) c->slot_of[c->slots[i].chunk] = NONE;
        c->slots[i].chunk = NONE; /* until the new content is there */
        WEFT_TRY(
            weft_shard_read_chunk(c->shards[shard], chunk, c->decoder, c->data + (size_t)i * c->chunk_bytes));
        c->slots[i].chunk = number;
        c->slot_of[number] = i;
    }
    move_to_front(c, i);
    *tokens = c->data + (size_t)i * c->chunk_bytes;
    return WEFT_OK;
}

/* The shard that holds token `at`: the last one that starts at or before it. */
static int find_shard(const stream *s, int64_t at) {
    int low = 0, high = s->shards - 1;
    while (low < high) {
        int middle = (low + high + 1) / 2;
        if (s->start[middle] <= at)
            low = middle;
        else
            high = middle - 1;
    }
    return low;
}

static int64_t widen(const weft_cache *c, const void *chunk, int64_t from, int64_t count, int32_t *out) {
    uint32_t largest = 0;
    if (c->chunk_bytes == 2 * WEFT_SHARD_CHUNK_TOKENS) {
        const uint16_t *p = (const uint16_t *)chunk + from;
        for (int64_t i = 0; i < count; i++) {
            out[i] = p[i];
            largest = p[i] > largest ? p[i] : largest;
        }
    } else {
        const uint32_t *p = (const uint32_t *)chunk + from;
        for (int64_t i = 0; i < count; i++) {
            out[i] = (int32_t)p[i];
            largest = p[i] > largest ? p[i] : largest;
        }
    }
    return largest;
}

weft_status weft_cache_read(weft_cache *c, int domain, int64_t first, int64_t count, int32_t *tokens) {
    const stream *s = &c->streams[domain];
    if (first < 0 || count < 0 || first + count > s->start[s->shards])
        WEFT_FAIL(WEFT_EINTERNAL, "domain %d has no tokens %lld to %lld", domain, (long long)first,
                  (long long)(first + count));
    int shard = count > 0 ? find_shard(s, first) : 0;
    while (count > 0) {
        const void *chunk;
        int64_t at = first - s->start[shard], left = s->start[shard + 1] - first;
        int64_t from = at % WEFT_SHARD_CHUNK_TOKENS, n = WEFT_SHARD_CHUNK_TOKENS - from;
        if (n > left) n = left;
        if (n > count) n = count;
        WEFT_TRY(get_chunk(c, s->first_shard + shard, at / WEFT_SHARD_CHUNK_TOKENS, &chunk));
        /* A hash says that the bytes are those written, not that the writer was sound. */
        int64_t largest = widen(c, chunk, from, n, tokens);
        if (largest >= c->vocab_size)
            WEFT_FAIL(WEFT_EINPUT, "a shard of domain %d holds token %lld, but its vocabulary has %lld",
                      domain, (long long)largest, (long long)c->vocab_size);
        tokens += n;
        first += n;
        count -= n;
        if (n == left) shard++;
    }
    return WEFT_OK;
}
