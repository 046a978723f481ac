/* Exact substrings of at least `length` tokens that occur more than once (Lee et al. 2022, "Deduplicating
 * training data makes language models better"): every copy but the first in input order is found, to be
 * masked or cut.
 *
 * The token stream is cut into parts, each of whole documents, so that the suffix array of two of them fits
 * in memory (libdivsufsort, over the tokens' bytes). Every part alone and every pair of parts is searched:
 * exact, in (parts + 1) * parts / 2 pieces of work. A match lies in one document and its copy in one
 * document: neither reaches across an end. */
#ifndef WEFT_SUBSTRING_H
#define WEFT_SUBSTRING_H

#include "data/dedup/exact.h"

/* 2 bytes when the vocabulary has at most 65536 tokens, else 4. */
size_t weft_substring_token_bytes(int64_t vocab_size);

/* Tokens that a part may have so that the search of two such parts takes at most `memory` bytes, the callers'
 * `tokens` of both included (4 bytes a token) and their `ends` and `ids` (16 bytes a document) not: for each
 * token the suffix array and its bytes, 5 bytes a byte, and two bits. 0: `memory` is too small, less than
 * WEFT_SUBSTRING_OVERHEAD and some. Never so many that two parts have 2^31 bytes, the suffix array's limit. A
 * document with more tokens is searched, as a part of its own, in more memory as long as it and any other
 * part stay below that limit (WEFT_EINTERNAL). */
#define WEFT_SUBSTRING_OVERHEAD ((size_t)4 << 20) /* divsufsort's buckets, writing the output */
int64_t weft_substring_part_tokens(size_t memory, size_t token_bytes);

/* Tokens of a document that repeat earlier ones. Spills of these are partitioned by unit and read sorted. */
typedef struct weft_repeat {
    weft_doc_id id;
    uint32_t first, count; /* tokens of the document */
} weft_repeat;
enum { WEFT_REPEAT_BYTES = 16 };
void weft_repeat_pack(const weft_repeat *r, unsigned char out[WEFT_REPEAT_BYTES]);
void weft_repeat_unpack(const unsigned char in[WEFT_REPEAT_BYTES], weft_repeat *r);

typedef struct weft_substring_part {
    const int32_t *tokens;
    const int64_t *ends; /* [documents] one past each document's last token, ascending; empty ones repeat */
    const weft_doc_id *ids; /* [documents] ascending, also from the first part to the second */
    int64_t documents;
} weft_substring_part;
typedef struct weft_substring_counts {
    int64_t tokens, repeated; /* of the second part (of the only one, when alone) */
} weft_substring_counts;
/* Writes to `out` the tokens that lie in a run of `length` that occurs earlier: of part `a`, for what occurs
 * earlier in `a` (b NULL); of part `b`, for what occurs in `a` or earlier in `b`. Over all parts and pairs of
 * parts the union is what one search of everything gives. Ranges of a document that overlap or touch are one.
 */
weft_status weft_substring_search(const weft_dedup_job *job, int64_t length, int64_t vocab_size,
                                  const weft_substring_part *a, const weft_substring_part *b, const char *out,
                                  weft_substring_counts *counts);

#endif
