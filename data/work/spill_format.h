/* A spill's file, little-endian:
 *
 *   blocks      of one partition each, up to WEFT_SPILL_BLOCK bytes of whole records (one record when it
 * alone has more); records of any length stand behind their length, u32 rows        one a block, sorted by
 * partition, within it as written entries     one for each partition that has records, sorted footer
 *
 * A reader of one partition reads the footer, its entry, its rows and its blocks, whatever else the file
 * holds. Every byte is covered by an XXH3-64: the footer's and an entry's their own; a block's covers its row
 * too, being seeded with it. */
#ifndef WEFT_SPILL_FORMAT_H
#define WEFT_SPILL_FORMAT_H

#include "data/work/spill.h"
#include "runtime/hash.h"

#define WEFT_SPILL_MAGIC "weftspil"
#define WEFT_SPILL_VERSION 1
enum { WEFT_SPILL_BLOCK = 1 << 16, WEFT_SPILL_LENGTH = 4 };

typedef struct weft_spill_row {
    uint64_t offset, stored; /* in the file; fewer than `bytes`: packed (spill_pack.h) */
    uint64_t bytes, records;
    uint64_t xxh3; /* of what is stored */
} weft_spill_row;

typedef struct weft_spill_entry {
    uint64_t first, rows; /* of the file's rows */
    uint64_t bytes, records;
    uint64_t xxh3; /* of what is before, seeded with the partition */
} weft_spill_entry;

typedef struct weft_spill_footer {
    char magic[8];
    uint32_t version, partitions;
    uint64_t record_bytes;
    uint64_t rows, entries;
    uint64_t file_bytes;
    uint64_t present[WEFT_SPILL_MAX_PARTITIONS / 64]; /* bit p: partition p has an entry */
    uint64_t xxh3;
} weft_spill_footer;

/* A record as it is stored: bytes before its own, and bytes in all. */
static inline size_t weft_stored_skip(size_t record_bytes) {
    return record_bytes ? 0 : WEFT_SPILL_LENGTH;
}
static inline size_t weft_stored_bytes(const char *stored, size_t record_bytes) {
    uint32_t length;
    if (record_bytes) return record_bytes;
    __builtin_memcpy(&length, stored, WEFT_SPILL_LENGTH);
    return (size_t)length + WEFT_SPILL_LENGTH;
}

/* Of block number `index` of a partition. */
static inline uint64_t weft_spill_check(uint32_t partition, uint64_t index, const weft_spill_row *row,
                                        const void *stored) {
    uint64_t about[6] = {partition, index, row->offset, row->stored, row->bytes, row->records};
    return weft_hash64(stored, row->stored, weft_hash64(about, sizeof about, 0));
}
static inline uint64_t weft_spill_entry_check(uint32_t partition, const weft_spill_entry *e) {
    return weft_hash64(e, offsetof(weft_spill_entry, xxh3), partition);
}
static inline uint64_t weft_spill_footer_check(const weft_spill_footer *f) {
    return weft_hash64(f, offsetof(weft_spill_footer, xxh3), 0);
}

#endif
