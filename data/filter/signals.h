/* What the filters share: characters, lines, sets of hashes, options, and scratch that threads lend each
 * other. Private to data/filter. Texts are valid UTF-8; a character is a code point. */
#ifndef WEFT_SIGNALS_H
#define WEFT_SIGNALS_H

#include "data/filter/filter.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

extern const weft_filter_kind weft_filter_gopher_quality, weft_filter_gopher_repetition, weft_filter_c4,
    weft_filter_fineweb, weft_filter_code, weft_filter_language, weft_filter_url_list, weft_filter_word_list;

/* ---- characters ---- */
typedef struct weft_span {
    const char *at;
    size_t bytes;
} weft_span;

size_t weft_characters(const char *text, size_t bytes);
size_t weft_count_byte(const char *text, size_t bytes, char which);
/* The character at p < end; *bytes is its length. */
static inline uint32_t weft_character(const char *p, size_t *bytes) {
    const unsigned char *c = (const unsigned char *)p;
    if (c[0] < 0x80) return *bytes = 1, c[0];
    if (c[0] < 0xe0) return *bytes = 2, (c[0] & 0x1fu) << 6 | (c[1] & 0x3fu);
    if (c[0] < 0xf0) return *bytes = 3, (c[0] & 0xfu) << 12 | (c[1] & 0x3fu) << 6 | (c[2] & 0x3fu);
    return *bytes = 4, (c[0] & 7u) << 18 | (c[1] & 0x3fu) << 12 | (c[2] & 0x3fu) << 6 | (c[3] & 0x3fu);
}
static inline char weft_lower(char c) {
    return c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
} /* ASCII only */

/* Bytes of the white-space character at p (Unicode White_Space and U+001C..001F: what Python strips), 0:
 * none. */
size_t weft_space_at(const char *p, const char *end);
weft_span weft_strip(weft_span s); /* without white space at both ends */
bool weft_starts(weft_span s, const char *beginning);
bool weft_ends(weft_span s, const char *ending);
/* Whether the last character ends a sentence: . ! ? and the rest of Unicode's Sentence_Terminal. */
bool weft_ends_sentence(weft_span s);
bool weft_sentence_terminal(uint32_t character);

/* ---- lines ---- */
/* Takes the next line off *rest; false at the end. Lines end as in Python's str.splitlines: at LF, CR, CRLF,
 * VT, FF, U+001C..001E, NEL, LS and PS; an end behind the last line makes no empty one. */
bool weft_next_line(weft_span *rest, weft_span *line);
/* The same, but cut at runs of at least `newlines` LF; pieces are not empty. */
bool weft_next_piece(weft_span *rest, size_t newlines, weft_span *piece);

/* Scratch above this size is not kept for the next document: few are that large. */
#define WEFT_SCRATCH_KEPT ((size_t)64 << 20)

/* ---- sets of 64-bit hashes ---- */
typedef struct weft_hash_set {
    uint64_t *slots; /* 0: free */
    size_t mask, capacity;
} weft_hash_set;

/* Empties it and makes room for `count` hashes. Zero a set first; weft_hash_set_free when done. */
weft_status weft_hash_set_clear(weft_hash_set *s, size_t count);
void weft_hash_set_free(weft_hash_set *s);
void weft_hash_set_shrink(weft_hash_set *s); /* frees it if it is above WEFT_SCRATCH_KEPT */
/* Whether it was there already; then it is. */
static inline bool weft_hash_set_add(weft_hash_set *s, uint64_t hash) {
    hash += hash == 0;
    size_t at = hash & s->mask;
    for (; s->slots[at]; at = (at + 1) & s->mask)
        if (s->slots[at] == hash) return true;
    s->slots[at] = hash;
    return false;
}
static inline bool weft_hash_set_has(const weft_hash_set *s, uint64_t hash) {
    hash += hash == 0;
    for (size_t at = hash & s->mask; s->slots[at]; at = (at + 1) & s->mask)
        if (s->slots[at] == hash) return true;
    return false;
}

/* Pieces of a text (lines, paragraphs): how many, how many repeat an earlier one, and the characters of
 * those. */
typedef struct weft_repeats {
    size_t pieces, repeated, repeated_characters;
} weft_repeats;
void weft_repeats_add(weft_repeats *r, weft_hash_set *seen, weft_span piece);

/* ---- options ---- */
/* Text made of parts separated by commas: takes the next, stripped, off *rest. */
bool weft_next_part(weft_span *rest, weft_span *part);
weft_status weft_whole_number(const char *filter, const char *option, const char *value, int64_t otherwise,
                              int64_t *out);

/* ---- scratch ---- */
/* What one call needs and the next can use again: taken and given back by threads. */
typedef struct weft_pool weft_pool;
weft_status weft_pool_new(weft_pool **out, weft_status (*make)(void **item), void (*destroy)(void *item));
void weft_pool_free(weft_pool *p); /* and all that was given back; NULL is allowed */
weft_status weft_pool_take(weft_pool *p, void **item);
void weft_pool_give(weft_pool *p, void *item);

#endif
