#include "data/dedup/substring.h"

#include <divsufsort.h>
#include <stdlib.h>
#include <string.h>

enum {
    SPILL_BUFFER = 1 << 20,
    AHEAD = 16, /* suffixes: what they point at lies anywhere, and is asked for that early */
};

size_t weft_substring_token_bytes(int64_t vocab_size) {
    return vocab_size <= 65536 ? 2 : 4;
}

int64_t weft_substring_part_tokens(size_t memory, size_t token_bytes) {
    if (memory < WEFT_SUBSTRING_OVERHEAD) return 0;
    /* Two parts, in quarters of a byte: bytes and their suffixes, the caller's tokens, two bits. */
    size_t four_tokens = 2 * (4 * 5 * token_bytes + 4 * sizeof(int32_t) + 1);
    size_t fits = (memory - WEFT_SUBSTRING_OVERHEAD) / four_tokens * 4;
    size_t most = INT32_MAX / (2 * token_bytes);
    return (int64_t)(fits < most ? fits : most);
}

void weft_repeat_pack(const weft_repeat *r, unsigned char out[WEFT_REPEAT_BYTES]) {
    weft_put_u64(out, r->id);
    weft_put_u32(out + 8, r->first);
    weft_put_u32(out + 12, r->count);
}

void weft_repeat_unpack(const unsigned char in[WEFT_REPEAT_BYTES], weft_repeat *r) {
    r->id = weft_get_u64(in);
    r->first = weft_get_u32(in + 8);
    r->count = weft_get_u32(in + 12);
}

typedef struct searching {
    const weft_substring_part *a, *b;
    int64_t length, vocab_size;
    size_t token_bytes;
    int64_t a_tokens, tokens; /* of the first part, of both */
    unsigned char *bytes;     /* [tokens * token_bytes] big-endian */
    int32_t *suffixes;        /* [tokens * token_bytes] */
    uint64_t *begins;         /* bits: `length` tokens of one document follow */
    uint64_t *repeats;        /* bits: they occur earlier too */
} searching;

static inline bool bit(const uint64_t *bits, int64_t i) {
    return bits[i >> 6] >> (i & 63) & 1;
}
static inline void set_bit(uint64_t *bits, int64_t i) {
    bits[i >> 6] |= UINT64_C(1) << (i & 63);
}

static int64_t tokens_of(const weft_substring_part *p) {
    return p && p->documents > 0 ? p->ends[p->documents - 1] : 0;
}

/* ---- before the sort ---- */
static weft_status put_tokens(const searching *s, const weft_substring_part *p, int64_t at) {
    int64_t count = tokens_of(p);
    unsigned char *out = s->bytes + (size_t)at * s->token_bytes;
    bool inside = true;
    for (int64_t i = 0; i < count; i++, out += s->token_bytes) {
        uint32_t t = (uint32_t)p->tokens[i];
        inside &= (int64_t)t < s->vocab_size;
        if (s->token_bytes == 4)
            weft_put_u32(out, t);
        else {
            out[0] = (unsigned char)(t >> 8);
            out[1] = (unsigned char)t;
        }
    }
    if (!inside)
        WEFT_FAIL(WEFT_EINTERNAL, "repeated substrings: a token is outside the vocabulary of %lld",
                  (long long)s->vocab_size);
    return WEFT_OK;
}

static void mark_begins(const searching *s, const weft_substring_part *p, int64_t at) {
    int64_t start = 0;
    for (int64_t d = 0; p && d < p->documents; start = p->ends[d++])
        for (int64_t i = start; i <= p->ends[d] - s->length; i++) set_bit(s->begins, at + i);
}

static weft_status prepare(searching *s) {
    size_t words = (size_t)s->tokens / 64 + 1, bytes = (size_t)s->tokens * s->token_bytes;
    if (bytes > INT32_MAX)
        WEFT_FAIL(WEFT_EINTERNAL,
                  "repeated substrings: %lld tokens at once; weft_substring_part_tokens allows fewer",
                  (long long)s->tokens);
    s->bytes = malloc(bytes + 1);
    s->suffixes = malloc((bytes + 1) * sizeof *s->suffixes);
    s->begins = calloc(words, sizeof *s->begins);
    s->repeats = calloc(words, sizeof *s->repeats);
    if (!s->bytes || !s->suffixes || !s->begins || !s->repeats)
        WEFT_FAIL(WEFT_ENOMEM, "repeated substrings: no memory for the suffix array of %lld tokens",
                  (long long)s->tokens);
    WEFT_TRY(put_tokens(s, s->a, 0));
    WEFT_TRY(put_tokens(s, s->b, s->a_tokens));
    mark_begins(s, s->a, 0);
    mark_begins(s, s->b, s->a_tokens);
    return WEFT_OK;
}

/* ---- runs of equal windows ---- */
/* In the order of suffixes, windows that begin with the same `length` tokens are neighbours. The first in the
 * input of such a run stays; all others are repeats. Suffixes that begin inside a token, or whose window
 * reaches into the next document, are passed over: what is between two neighbours in the order cannot part
 * equal ones. */
static void mark_repeats(searching *s) {
    size_t window = (size_t)s->length * s->token_bytes;
    int32_t count = (int32_t)((size_t)s->tokens * s->token_bytes), shift = s->token_bytes == 4 ? 2 : 1;
    int64_t before = -1, first = -1;
    for (int32_t i = 0; i < count; i++) {
        if (i + AHEAD < count) {
            int32_t next = s->suffixes[i + AHEAD];
            __builtin_prefetch(s->bytes + next);
            __builtin_prefetch(s->begins + (next >> shift >> 6));
        }
        int32_t at = s->suffixes[i];
        int64_t token = at >> shift;
        if (token << shift != at || !bit(s->begins, token)) continue;
        bool same = before >= 0 && memcmp(s->bytes + (before << shift), s->bytes + at, window) == 0;
        before = token;
        if (!same)
            first = token;
        else if (token < first) {
            set_bit(s->repeats, first);
            first = token;
        } else
            set_bit(s->repeats, token);
    }
}

/* ---- ranges ---- */
/* The next repeat from `from` on, if it is before `end`; otherwise something from `end` on. */
static int64_t next_repeat(const searching *s, int64_t from, int64_t end) {
    if (from >= end) return end;
    int64_t word = from >> 6;
    uint64_t bits = s->repeats[word] & ~UINT64_C(0) << (from & 63);
    while (!bits && ++word << 6 < end) bits = s->repeats[word];
    return bits ? (word << 6) + __builtin_ctzll(bits) : end;
}

/* The document at [start, end) of the stream. */
static weft_status put_document(const searching *s, const weft_dedup_job *job, weft_doc_id id, int64_t start,
                                int64_t end, weft_spill *out, int64_t *repeated) {
    int partition = weft_doc_partition(id, job->units, job->partitions);
    for (int64_t at = next_repeat(s, start, end); at < end;) {
        int64_t first = at, stop;
        do {
            stop = at + s->length;
            at = next_repeat(s, at + 1, end);
        } while (at < end && at <= stop);
        weft_repeat range = {.id = id, .first = (uint32_t)(first - start), .count = (uint32_t)(stop - first)};
        unsigned char record[WEFT_REPEAT_BYTES];
        weft_repeat_pack(&range, record);
        WEFT_TRY(weft_spill_add(out, partition, record, sizeof record));
        *repeated += stop - first;
    }
    return WEFT_OK;
}

static weft_status put_ranges(const searching *s, const weft_dedup_job *job, const char *path,
                              int64_t *repeated) {
    const weft_substring_part *p = s->b ? s->b : s->a;
    int64_t base = s->b ? s->a_tokens : 0, start = 0;
    weft_spill *out;
    WEFT_TRY(weft_spill_create(&out, path, job->partitions, WEFT_REPEAT_BYTES, SPILL_BUFFER));
    weft_status st = WEFT_OK;
    for (int64_t d = 0; st == WEFT_OK && d < p->documents; start = p->ends[d++])
        st = put_document(s, job, p->ids[d], base + start, base + p->ends[d], out, repeated);
    if (st == WEFT_OK) st = weft_spill_finish(out);
    if (st != WEFT_OK) weft_spill_abandon(out);
    return st;
}

static weft_status search(searching *s) {
    WEFT_TRY(prepare(s));
    if (s->tokens == 0) return WEFT_OK;
    if (divsufsort(s->bytes, s->suffixes, (saidx_t)((size_t)s->tokens * s->token_bytes)) != 0)
        WEFT_FAIL(WEFT_ENOMEM, "repeated substrings: no memory to sort the suffixes of %lld tokens",
                  (long long)s->tokens);
    mark_repeats(s);
    return WEFT_OK;
}

weft_status weft_substring_search(const weft_dedup_job *job, int64_t length, int64_t vocab_size,
                                  const weft_substring_part *a, const weft_substring_part *b, const char *out,
                                  weft_substring_counts *counts) {
    if (length < 1 || length > INT32_MAX)
        WEFT_FAIL(WEFT_EINPUT, "repeated substrings of %lld tokens: 1 to %d", (long long)length, INT32_MAX);
    searching s = {.a = a,
                   .b = b,
                   .length = length,
                   .vocab_size = vocab_size,
                   .token_bytes = weft_substring_token_bytes(vocab_size),
                   .a_tokens = tokens_of(a),
                   .tokens = tokens_of(a) + tokens_of(b)};
    int64_t repeated = 0;
    weft_status st = search(&s);
    free(s.bytes);
    free(s.suffixes);
    free(s.begins);
    if (st == WEFT_OK) st = put_ranges(&s, job, out, &repeated);
    free(s.repeats);
    if (st == WEFT_OK)
        *counts = (weft_substring_counts){.tokens = tokens_of(b ? b : a), .repeated = repeated};
    return st;
}
