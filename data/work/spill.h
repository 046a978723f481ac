/* Records in partitions on disk: what takes the place of an all-to-all between the ranks of a build. Each
 * piece of work writes one file with its records cut into partitions; whoever owns a partition reads it out
 * of all files, sorted. The files outlive the job, so that a build goes on where it was killed, and nothing
 * depends on how many ranks there are. */
#ifndef WEFT_SPILL_H
#define WEFT_SPILL_H

#include "runtime/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WEFT_SPILL_MAX_PARTITIONS 4096

/* ---- writing: one file, one thread ---- */
typedef struct weft_spill weft_spill;
/* Writes PATH.tmp and renames it to PATH when it is finished; what a killed job left of it is replaced. Keeps
 * up to `buffer_bytes` of records in memory, or 256 bytes a partition or one record where that is more: 64
 * KiB a partition is all that it can use; besides that some 100 bytes for each block written (64 KiB, or what
 * a partition had when the memory was used up) and 1 MiB. A record has record_bytes bytes, or any number when
 * record_bytes is 0 (below 4 GiB; then it is stored with its length). */
weft_status weft_spill_create(weft_spill **out, const char *path, int partitions, size_t record_bytes,
                              size_t buffer_bytes);
weft_status weft_spill_add(weft_spill *s, int partition, const void *record, size_t bytes);
/* Writes index and checksums, syncs, renames. Frees the writer on success; otherwise weft_spill_abandon. */
weft_status weft_spill_finish(weft_spill *s);
void weft_spill_abandon(weft_spill *s); /* removes what was written; NULL is allowed */

/* ---- reading: one partition of many files ---- */
typedef struct weft_spilled weft_spilled;
/* All records of the partition in ascending order of their bytes (memcmp; so keys are stored big-endian, see
 * below), or for records of any length, of their first `key_bytes` bytes (at most 4096; a shorter record
 * counts as if zeros followed; 0: as they come), equal ones in the order of the files and within a file as
 * added. All files must have been made with the same partitions and record size. Every block is checked
 * against its XXH3; damage is WEFT_EINPUT naming the file.
 *
 * Sorts in memory up to `memory` bytes (at least 512 KiB are taken; a record with a length takes 20 bytes
 * more than its own), beyond that through sorted runs on disk, in TEMP.0 and TEMP.1. These lose their names
 * as soon as they are made, so that nothing stays of a killed job. Besides `memory` 1 MiB is used;
 * but a record larger than a third of `memory` takes three times its size. `paths` and `temp` are not needed
 * after opening. */
weft_status weft_spilled_open(weft_spilled **out, char *const *paths, int count, int partition,
                              size_t key_bytes, size_t memory, const char *temp);
void weft_spilled_close(weft_spilled *s); /* NULL is allowed */
/* The next record, valid until the next call, or NULL at the end. */
weft_status weft_spilled_next(weft_spilled *s, const void **record, size_t *bytes);

/* Partition of a key that is already a hash: its high bits, so that partitions hold ascending ranges. */
static inline int weft_spill_partition(uint64_t hash, int partitions) {
    return (int)((unsigned __int128)hash * (unsigned)partitions >> 64);
}
static inline void weft_put_u64(void *at, uint64_t x) { /* big-endian: memcmp orders as the numbers */
    x = __builtin_bswap64(x);
    __builtin_memcpy(at, &x, 8);
}
static inline uint64_t weft_get_u64(const void *at) {
    uint64_t x;
    __builtin_memcpy(&x, at, 8);
    return __builtin_bswap64(x);
}
static inline void weft_put_u32(void *at, uint32_t x) {
    x = __builtin_bswap32(x);
    __builtin_memcpy(at, &x, 4);
}
static inline uint32_t weft_get_u32(const void *at) {
    uint32_t x;
    __builtin_memcpy(&x, at, 4);
    return __builtin_bswap32(x);
}

#endif
