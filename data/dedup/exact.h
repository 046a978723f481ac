/* Exact duplicates: whole documents, and lines or paragraphs. Each function is one piece of work of a build:
 * it reads one partition of the spills that its inputs are, and writes one spill. Its output depends on the
 * inputs only. */
#ifndef WEFT_EXACT_DEDUP_H
#define WEFT_EXACT_DEDUP_H

#include "data/dedup/drops.h"
#include "runtime/hash.h"

typedef struct weft_dedup_job {
    int partitions; /* of every spill */
    uint64_t units;
    size_t memory; /* that one piece of work may take to sort and to cache */
} weft_dedup_job;

/* ---- documents ---- */
/* Key of a document: XXH3-128 of its text in lower case with every run of white space as one space and none
 * at the ends (ASCII case and space only), so that copies that differ in layout are one. *characters (may be
 * NULL): code points of that form. `scratch` is kept from call to call, to save the allocation. */
weft_status weft_exact_key(const char *text, size_t bytes, weft_text *scratch, weft_hash128 *key,
                           int64_t *characters);
/* Record of a spill partitioned by the key's high half: key, order of the policy, id. */
enum { WEFT_EXACT_BYTES = 28 };
void weft_exact_pack(weft_hash128 key, uint32_t order, weft_doc_id id, unsigned char out[WEFT_EXACT_BYTES]);

typedef struct weft_exact_counts {
    int64_t documents, clusters, dropped;
} weft_exact_counts;
/* For each key of several documents, all but the first by the policy go: a record for each of them,
 * partitioned by unit, to `out`. Memory does not grow with the copies of a document. */
weft_status weft_exact_reduce(const weft_dedup_job *job, int partition, char *const *keys, int files,
                              const char *out, weft_exact_counts *counts);

/* ---- lines and paragraphs ---- */
typedef struct weft_lines_options {
    bool paragraphs;        /* pieces are separated by an empty line, not by a newline */
    int64_t min_characters; /* shorter pieces are not looked at */
} weft_lines_options;
/* Adds a record for each piece of a document, to the partition of the hash: hash of the piece (high half of
 * its weft_exact_key), id, number of the piece in the document. Pieces of white space are never looked at. A
 * line that holds nothing but white space is empty. */
weft_status weft_lines_emit(const weft_lines_options *o, weft_spill *keys, int partitions, weft_doc_id id,
                            const char *text, size_t bytes, weft_text *scratch);
enum { WEFT_LINES_BYTES = 20 };
typedef struct weft_lines_counts {
    int64_t pieces, dropped;
} weft_lines_counts;
/* A piece of a document that goes. */
typedef struct weft_line_drop {
    weft_doc_id id;
    uint32_t number;
} weft_line_drop;
enum { WEFT_LINE_DROP_BYTES = 12 };
void weft_line_drop_unpack(const unsigned char in[WEFT_LINE_DROP_BYTES], weft_line_drop *d);
/* The first occurrence in input order stays; the others go, partitioned by unit, to `out`. A piece counts as
 * repeated from `copies` occurrences on (2: every repetition); the first stays then too. Memory does not grow
 * with a piece's occurrences: of those not yet known to be repetitions, at most `copies` are held. */
weft_status weft_lines_reduce(const weft_dedup_job *job, int partition, int64_t copies, char *const *keys,
                              int files, const char *out, weft_lines_counts *counts);
/* `out` is the text without the pieces of these numbers (ascending); the separators behind them go too, and
 * when the last piece goes, the one before it. WEFT_EINTERNAL when the text has no such piece. */
weft_status weft_lines_cut(const weft_lines_options *o, const char *text, size_t bytes,
                           const uint32_t *numbers, size_t count, weft_text *out);

#endif
