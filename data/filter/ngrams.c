#define XXH_INLINE_ALL
#include "data/filter/ngrams.h"

#include <stdbool.h>
#include <stdlib.h>
#include <xxhash.h>

enum { FIRST_CAPACITY = 1 << 12, FILTER_BITS = 16 /* for each run */ };

void weft_words_rolled_start(weft_words_rolled *r) {
    r->powers[0] = 1;
    for (int i = 0; i < WEFT_NGRAM_MAX; i++) r->powers[i + 1] = r->powers[i] * WEFT_NGRAM_BASE;
    r->sums[0] = 0;
    r->count = 0;
}

void weft_words_rolled_add(weft_words_rolled *r, const char *word, size_t bytes) {
    uint64_t before = r->sums[r->count % WEFT_NGRAM_RING];
    r->count++;
    r->sums[r->count % WEFT_NGRAM_RING] = before * WEFT_NGRAM_BASE + XXH3_64bits(word, bytes);
}

/* Where a hash is, or the free slot that it would take. */
static size_t slot_of(const weft_ngram *slots, size_t capacity, uint64_t hash) {
    size_t at = hash & (capacity - 1);
    while (slots[at].origin && slots[at].hash != hash) at = (at + 1) & (capacity - 1);
    return at;
}

static weft_status no_memory(size_t count) {
    WEFT_FAIL(WEFT_ENOMEM, "no memory for %zu n-grams of evaluation texts", count);
}

static weft_status grow(weft_ngram_set *s) {
    size_t more = s->capacity ? 2 * s->capacity : FIRST_CAPACITY;
    weft_ngram *slots = calloc(more, sizeof *slots);
    if (!slots) return no_memory(more);
    for (size_t i = 0; i < s->capacity; i++)
        if (s->slots[i].origin) slots[slot_of(slots, more, s->slots[i].hash)] = s->slots[i];
    free(s->slots);
    s->slots = slots;
    s->capacity = more;
    return WEFT_OK;
}

weft_status weft_ngram_set_add(weft_ngram_set *s, uint64_t hash, int length, uint64_t prefix,
                               uint64_t origin) {
    if (s->count >= s->capacity / 3 * 2) WEFT_TRY(grow(s));
    size_t at = slot_of(s->slots, s->capacity, hash);
    if (s->slots[at].origin) return WEFT_OK;
    if (s->prefix_count == s->prefix_capacity) {
        size_t more = s->prefix_capacity ? 2 * s->prefix_capacity : FIRST_CAPACITY;
        uint64_t *prefixes = realloc(s->prefixes, more * sizeof *prefixes);
        if (!prefixes) return no_memory(more);
        s->prefixes = prefixes;
        s->prefix_capacity = more;
    }
    s->prefixes[s->prefix_count++] = prefix;
    s->slots[at] = (weft_ngram){hash, origin};
    s->count++;
    s->lengths |= UINT64_C(1) << (length - 1);
    return WEFT_OK;
}

weft_status weft_ngram_set_finish(weft_ngram_set *s) {
    s->filter_words = 64;
    while (s->filter_words * 64 < s->prefix_count * FILTER_BITS) s->filter_words *= 2;
    s->filter = calloc(s->filter_words, sizeof *s->filter);
    if (!s->filter) return no_memory(s->count);
    for (size_t i = 0; i < s->prefix_count; i++)
        s->filter[s->prefixes[i] >> 12 & (s->filter_words - 1)] |= weft_ngram_filter_bits(s->prefixes[i]);
    free(s->prefixes);
    s->prefixes = NULL;
    return WEFT_OK;
}

void weft_ngram_set_free(weft_ngram_set *s) {
    free(s->slots);
    free(s->prefixes);
    free(s->filter);
    *s = (weft_ngram_set){0};
}

uint64_t weft_ngram_set_find(const weft_ngram_set *s, uint64_t hash) {
    return s->slots[slot_of(s->slots, s->capacity, hash)].origin;
}
