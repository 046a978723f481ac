#include "data/loader/loader_pack.h"

#include <stdlib.h>
#include <string.h>

#define GOES_ON ((uint32_t)1 << 31)

/* A sequence that still has room. */
typedef struct open_sequence {
    uint64_t *first;
    uint32_t *count;
    size_t pieces, capacity;
} open_sequence;

typedef struct packer {
    weft_pack *out;
    size_t sequence_capacity, piece_capacity;
    uint32_t length;
    uint32_t room[WEFT_PACK_OPEN]; /* 0: no sequence is open here */
    open_sequence open[WEFT_PACK_OPEN];
} packer;

static weft_status no_memory(void) {
    return weft_fail(WEFT_ENOMEM, "no memory for the table of whole documents in sequences; take "
                                  "data.packing=concat");
}

/* Two arrays that grow together. */
static bool grow(uint64_t **first, uint32_t **count, size_t *capacity, size_t wanted) {
    if (wanted <= *capacity) return true;
    size_t more = 2 * wanted;
    uint64_t *f = realloc(*first, more * sizeof *f);
    if (f) *first = f;
    uint32_t *c = realloc(*count, more * sizeof *c);
    if (c) *count = c;
    if (!f || !c) return false;
    *capacity = more;
    return true;
}

static weft_status close_sequence(packer *k, const uint64_t *first, const uint32_t *count, size_t pieces) {
    weft_pack *p = k->out;
    size_t n = (size_t)p->sequences, total = (size_t)p->pieces + pieces;
    if (n + 2 > k->sequence_capacity) {
        size_t more = 2 * (n + 2);
        uint64_t *begin = realloc(p->begin, more * sizeof *begin);
        if (!begin) return no_memory();
        p->begin = begin;
        k->sequence_capacity = more;
    }
    if (!grow(&p->first, &p->count, &k->piece_capacity, total)) return no_memory();
    memcpy(p->first + p->pieces, first, pieces * sizeof *first);
    memcpy(p->count + p->pieces, count, pieces * sizeof *count);
    p->begin[n] = (uint64_t)p->pieces;
    p->begin[n + 1] = total;
    p->pieces = (int64_t)total;
    p->sequences++;
    return WEFT_OK;
}

static weft_status close_open(packer *k, int i) {
    open_sequence *s = &k->open[i];
    WEFT_TRY(close_sequence(k, s->first, s->count, s->pieces));
    s->pieces = 0;
    k->room[i] = 0;
    return WEFT_OK;
}

/* The least room that holds `need`, or -1. Loops without branches: they run for every document. */
static int best_fit(const uint32_t *room, uint32_t need) {
    uint32_t best = UINT32_MAX;
    for (int i = 0; i < WEFT_PACK_OPEN; i++) {
        uint32_t r = room[i] >= need ? room[i] : UINT32_MAX;
        best = r < best ? r : best;
    }
    if (best == UINT32_MAX) return -1;
    int i = 0;
    while (room[i] != best) i++;
    return i;
}

/* A place for a new sequence: an unused one, or the one of the fullest. */
static weft_status open_place(packer *k, int *out) {
    int place = 0;
    for (int i = 1; i < WEFT_PACK_OPEN; i++)
        if (k->room[i] < k->room[place]) place = i;
    if (k->room[place] > 0) WEFT_TRY(close_open(k, place));
    k->room[place] = k->length;
    *out = place;
    return WEFT_OK;
}

static weft_status pack_piece(packer *k, uint64_t first, uint32_t count) {
    if (count == k->length) return close_sequence(k, &first, &count, 1);
    int i = best_fit(k->room, count);
    if (i < 0) WEFT_TRY(open_place(k, &i));
    open_sequence *s = &k->open[i];
    if (!grow(&s->first, &s->count, &s->capacity, s->pieces + 1)) return no_memory();
    s->first[s->pieces] = first;
    s->count[s->pieces++] = count;
    k->room[i] -= count;
    return k->room[i] == 0 ? close_open(k, i) : WEFT_OK;
}

static weft_status pack_document(packer *k, uint64_t first, uint64_t end) {
    uint32_t whole = k->length | GOES_ON;
    for (; end - first > k->length; first += k->length) WEFT_TRY(close_sequence(k, &first, &whole, 1));
    return pack_piece(k, first, (uint32_t)(end - first));
}

static weft_status pack_stream(packer *k, const weft_stream *s) {
    for (int i = 0; i < s->count; i++) {
        uint64_t *ends, start = (uint64_t)s->start[i], before = 0;
        weft_status st = weft_shard_read_documents(s->shards[i], &ends, NULL);
        WEFT_TRY(st);
        int64_t documents = weft_shard_about(s->shards[i])->documents;
        for (int64_t d = 0; st == WEFT_OK && d < documents; d++) {
            st = pack_document(k, start + before, start + ends[d]);
            before = ends[d];
        }
        free(ends);
        WEFT_TRY(st);
    }
    for (int i = 0; i < WEFT_PACK_OPEN; i++)
        if (k->room[i] > 0) WEFT_TRY(close_open(k, i));
    return WEFT_OK;
}

weft_status weft_pack_make(weft_pack *p, const weft_stream *s, int64_t sequence_length) {
    packer k = {.out = p, .length = (uint32_t)sequence_length};
    *p = (weft_pack){0};
    weft_status st = pack_stream(&k, s);
    for (int i = 0; i < WEFT_PACK_OPEN; i++) {
        free(k.open[i].first);
        free(k.open[i].count);
    }
    WEFT_TRY(st);
    if (p->pieces == 0) return WEFT_OK;
    /* What doubling took too much is given back; a failure leaves the larger piece of memory. */
    uint64_t *begin = realloc(p->begin, ((size_t)p->sequences + 1) * sizeof *begin);
    if (begin) p->begin = begin;
    uint64_t *first = realloc(p->first, (size_t)p->pieces * sizeof *first);
    if (first) p->first = first;
    uint32_t *count = realloc(p->count, (size_t)p->pieces * sizeof *count);
    if (count) p->count = count;
    return WEFT_OK;
}

void weft_pack_free(weft_pack *p) {
    free(p->begin);
    free(p->first);
    free(p->count);
    *p = (weft_pack){0};
}
