/* A store's file, little-endian:
 *
 *   blocks    zstd frames; unpacked, whole documents up to WEFT_DOCS_BLOCK bytes (one document when it alone
 * has more): each its extra, its text, and zeros up to a multiple of 8 table     one weft_docs_block a block
 *   rows      one weft_docs_row a document
 *   footer
 *
 * The table and the rows have an XXH3-64 in the footer, the footer and each block its own. */
#ifndef WEFT_DOCS_FORMAT_H
#define WEFT_DOCS_FORMAT_H

#include "data/work/docs.h"
#include "runtime/hash.h"

#include <stddef.h>

#define WEFT_DOCS_MAGIC "weftstor"
#define WEFT_DOCS_VERSION 1
enum { WEFT_DOCS_BLOCK = 1 << 17 };

typedef struct weft_docs_block {
    uint64_t offset, stored; /* in the file */
    uint64_t bytes;          /* unpacked */
    uint64_t rows;           /* documents */
    uint64_t xxh3;           /* of what is stored */
} weft_docs_block;

typedef struct weft_docs_footer {
    char magic[8];
    uint32_t version, row_bytes;
    uint64_t blocks, rows;
    uint64_t table_xxh3, rows_xxh3;
    uint64_t file_bytes;
    uint64_t xxh3;
} weft_docs_footer;

/* Of block number `index`. */
static inline uint64_t weft_docs_check(uint64_t index, const void *stored, size_t bytes) {
    return weft_hash64(stored, bytes, index);
}
static inline uint64_t weft_docs_footer_check(const weft_docs_footer *f) {
    return weft_hash64(f, offsetof(weft_docs_footer, xxh3), 0);
}

/* Bytes of a document in its block. */
static inline uint64_t weft_docs_extent(const weft_docs_row *row) {
    return ((uint64_t)row->extra_bytes + row->text_bytes + 7) / 8 * 8;
}

#endif
