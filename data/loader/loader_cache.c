#include "data/loader/loader_cache.h"

#include <stdlib.h>
#include <string.h>

enum { NONE = -1 };

typedef struct slot {
    int64_t chunk;        /* number over all shards, or NONE */
    int32_t newer, older; /* the list from the most to the least recently used */
} slot;

struct weft_cache {
    const weft_streams *streams;
    size_t chunk_bytes;
    int64_t *first_chunk[WEFT_LOADER_MAX_DOMAINS]; /* [shards] number of each shard's first chunk */
    int32_t *slot_of;                              /* [chunks] or NONE */
    slot *slots;
    int32_t slot_count, newest, oldest;
    char *data; /* [slot_count, chunk_bytes] */
    weft_shard_decoder *decoder;
};

void weft_cache_close(weft_cache *c) {
    if (!c) return;
    for (int d = 0; d < WEFT_LOADER_MAX_DOMAINS; d++) free(c->first_chunk[d]);
    weft_shard_decoder_free(c->decoder);
    free(c->slot_of);
    free(c->slots);
    free(c->data);
    free(c);
}

static weft_status number_chunks(weft_cache *c, int64_t *chunks) {
    *chunks = 0;
    for (int d = 0; d < c->streams->count; d++) {
        const weft_stream *s = &c->streams->of[d];
        c->first_chunk[d] = malloc(((size_t)s->count + 1) * sizeof **c->first_chunk);
        if (!c->first_chunk[d]) WEFT_FAIL(WEFT_ENOMEM, "no memory to number the chunks of the shards");
        for (int i = 0; i < s->count; i++) {
            c->first_chunk[d][i] = *chunks;
            *chunks += weft_shard_about(s->shards[i])->chunks;
        }
    }
    return WEFT_OK;
}

static weft_status make_slots(weft_cache *c, int64_t chunks, int64_t cache_bytes) {
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
                  "no memory for %lld decoded chunks of %zu bytes; make the cache of the data smaller",
                  (long long)want, c->chunk_bytes);
    for (int64_t i = 0; i < chunks; i++) c->slot_of[i] = NONE;
    c->slot_count = (int32_t)want;
    for (int32_t i = 0; i < c->slot_count; i++)
        c->slots[i] = (slot){.chunk = NONE, .newer = i - 1, .older = i + 1 < c->slot_count ? i + 1 : NONE};
    c->newest = 0;
    c->oldest = c->slot_count - 1;
    return WEFT_OK;
}

weft_status weft_cache_open(weft_cache **out, const weft_streams *streams, int64_t cache_bytes) {
    weft_status st;
    int64_t chunks;
    weft_cache *c = calloc(1, sizeof *c);
    if (!c) WEFT_FAIL(WEFT_ENOMEM, "no memory for the cache of the data");
    c->streams = streams;
    c->chunk_bytes = weft_shard_chunk_bytes(streams->vocab_size);
    WEFT_GOTO(st, failed, number_chunks(c, &chunks));
    WEFT_GOTO(st, failed, make_slots(c, chunks, cache_bytes));
    WEFT_GOTO(st, failed, weft_shard_decoder_new(&c->decoder, streams->vocab_size));
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

/* A hash says that the bytes are those written, not that the writer was sound. */
static weft_status check_tokens(const weft_cache *c, int domain, const void *chunk) {
    uint16_t largest16 = 0;
    uint32_t largest = 0;
    if (c->chunk_bytes == 2 * WEFT_SHARD_CHUNK_TOKENS) {
        const uint16_t *p = chunk;
        for (int i = 0; i < WEFT_SHARD_CHUNK_TOKENS; i++) largest16 = p[i] > largest16 ? p[i] : largest16;
        largest = largest16;
    } else {
        const uint32_t *p = chunk;
        for (int i = 0; i < WEFT_SHARD_CHUNK_TOKENS; i++) largest = p[i] > largest ? p[i] : largest;
    }
    if (largest >= c->streams->vocab_size)
        WEFT_FAIL(WEFT_EINPUT, "a shard of domain %d holds token %lld, but its vocabulary has %lld", domain,
                  (long long)largest, (long long)c->streams->vocab_size);
    return WEFT_OK;
}

static weft_status get_chunk(weft_cache *c, int domain, int shard, int64_t chunk, const void **tokens) {
    int64_t number = c->first_chunk[domain][shard] + chunk;
    int32_t i = c->slot_of[number];
    if (i == NONE) {
        i = c->oldest;
        void *data = c->data + (size_t)i * c->chunk_bytes;
        if (c->slots[i].chunk != NONE) c->slot_of[c->slots[i].chunk] = NONE;
        c->slots[i].chunk = NONE; /* until the new content is there */
        WEFT_TRY(weft_shard_read_chunk(c->streams->of[domain].shards[shard], chunk, c->decoder, data));
        WEFT_TRY(check_tokens(c, domain, data));
        c->slots[i].chunk = number;
        c->slot_of[number] = i;
    }
    move_to_front(c, i);
    *tokens = c->data + (size_t)i * c->chunk_bytes;
    return WEFT_OK;
}

static void widen(const weft_cache *c, const void *chunk, int64_t from, int64_t count, int32_t *out) {
    if (c->chunk_bytes == 2 * WEFT_SHARD_CHUNK_TOKENS) {
        const uint16_t *p = (const uint16_t *)chunk + from;
        for (int64_t i = 0; i < count; i++) out[i] = p[i];
    } else {
        memcpy(out, (const int32_t *)chunk + from, (size_t)count * sizeof *out);
    }
}

weft_status weft_cache_read(weft_cache *c, int domain, int64_t first, int64_t count, int32_t *tokens) {
    const weft_stream *s = &c->streams->of[domain];
    if (first < 0 || count < 0 || first + count > s->start[s->count])
        WEFT_FAIL(WEFT_EINTERNAL, "domain %d has no tokens %lld to %lld", domain, (long long)first,
                  (long long)(first + count));
    int shard = count > 0 ? weft_stream_shard(s, first) : 0;
    while (count > 0) {
        const void *chunk;
        int64_t at = first - s->start[shard], left = s->start[shard + 1] - first;
        int64_t from = at % WEFT_SHARD_CHUNK_TOKENS, n = WEFT_SHARD_CHUNK_TOKENS - from;
        if (n > left) n = left;
        if (n > count) n = count;
        WEFT_TRY(get_chunk(c, domain, shard, at / WEFT_SHARD_CHUNK_TOKENS, &chunk));
        widen(c, chunk, from, n, tokens);
        tokens += n;
        first += n;
        count -= n;
        if (n == left) shard++;
    }
    return WEFT_OK;
}
