/* Documents on disk between two steps of a build: a unit is a file of some tens of MiB of text, packed with
 * zstd in blocks, in which every document can also be read alone. */
#ifndef WEFT_DOCS_H
#define WEFT_DOCS_H

#include "data/source/source.h"
#include "data/text/normalise.h"
#include "runtime/status.h"

#include <stdint.h>

/* A document's number in a build: its unit, counted over all sources in the recipe's order, and its place in
 * it as it was read. Ascending numbers are the order of the input, and stay a document's own to the end. */
typedef uint64_t weft_doc_id;
#define WEFT_DOC_INDEX_BITS 26
#define WEFT_DOC_MAX_INDEX (((uint64_t)1 << WEFT_DOC_INDEX_BITS) - 1)
#define WEFT_DOC_MAX_UNIT (((uint64_t)1 << 22) - 1)
static inline weft_doc_id weft_doc_id_of(uint64_t unit, uint64_t index) {
    return unit << WEFT_DOC_INDEX_BITS | index;
}
static inline uint64_t weft_doc_unit(weft_doc_id id) {
    return id >> WEFT_DOC_INDEX_BITS;
}
static inline uint64_t weft_doc_index(weft_doc_id id) {
    return id & WEFT_DOC_MAX_INDEX;
}

/* What is kept of a document besides its text. */
typedef struct weft_docs_row {
    uint32_t index;  /* of its id */
    uint32_t domain; /* number in the build's list */
    uint32_t file;   /* number of its source file */
    uint32_t tags;   /* bit i: the filter of that place in the recipe would reject it, but tags */
    uint64_t place;  /* where in the file: line of jsonl and from 1, byte of the unpacked WARC record; 0: all
                        of it */
    uint64_t hash;   /* XXH3-64 of the normalised text, WEFT_SPLIT_SEED: decides the held-out split */
    float quality;   /* larger is better: minus the number of tags */
    uint32_t text_bytes;  /* set by the store */
    uint32_t extra_bytes; /* set by the store */
} weft_docs_row;

/* ---- writing: one thread; PATH.tmp, renamed when finished, as spills are ---- */
typedef struct weft_docs_writer weft_docs_writer;
weft_status weft_docs_create(weft_docs_writer **out, const char *path);
/* Keeps a block and the rows in memory. Ascending by index. `extra`: bytes that go with the document (its
 * URL; ranges of its text), may be NULL. */
weft_status weft_docs_add(weft_docs_writer *w, const weft_docs_row *about, const char *text, size_t bytes,
                          const void *extra, size_t extra_bytes);
int64_t weft_docs_text_bytes(const weft_docs_writer *w); /* so far */
weft_status weft_docs_finish(weft_docs_writer *w);       /* frees on success; otherwise: */
void weft_docs_abandon(weft_docs_writer *w);             /* NULL is allowed */

/* ---- reading ---- */
typedef struct weft_docs weft_docs;
/* Reads and checks the index (one row a document); WEFT_EINPUT naming the file when it is damaged or none.
 * One thread per opened store. */
weft_status weft_docs_open(weft_docs **out, const char *path);
void weft_docs_close(weft_docs *s); /* NULL is allowed */
int64_t weft_docs_count(const weft_docs *s);
const weft_docs_row *weft_docs_about(const weft_docs *s, int64_t row);
int64_t weft_docs_find(const weft_docs *s, uint32_t index); /* the row with that index, -1: none */
/* Text and extra of a row, valid until the next call; extra is aligned to 8 bytes, NULL when there is none.
 * Every block is checked against its XXH3; damage is WEFT_EINPUT naming the file. Rows read one after the
 * other decode each block once: it stays, so that an opened store takes 56 bytes a document and twice its
 * last block (128 KiB, or one longer document). */
weft_status weft_docs_read(weft_docs *s, int64_t row, const char **text, const void **extra);

/* ---- a few stores held open, for reading documents at random by id ---- */
typedef struct weft_docs_pool weft_docs_pool;
/* path_of(arg, unit, path) gives a unit's path. At most `open` stores are open at once, the one longest not
 * used closes first. One thread. */
weft_status weft_docs_pool_new(weft_docs_pool **out, int open,
                               weft_status (*path_of)(void *arg, uint64_t unit, char path[]), void *arg);
void weft_docs_pool_free(weft_docs_pool *s);
/* WEFT_EINTERNAL when there is no such document. Valid until the next call. */
weft_status weft_docs_pool_read(weft_docs_pool *s, weft_doc_id id, const weft_docs_row **about,
                                const char **text, const void **extra);

#endif
