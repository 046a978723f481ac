/* Order of records: by the first `limit` bytes, eight at a time; what a record lacks of them counts as zeros.
 */
#ifndef WEFT_SPILL_SORT_H
#define WEFT_SPILL_SORT_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Bytes [at, at + 8) of a record as a number, zeros from `limit` and from the record's end on. */
static inline uint64_t weft_record_word(const void *record, size_t bytes, size_t limit, size_t at) {
    uint64_t x = 0;
    size_t end = bytes < limit ? bytes : limit;
    if (at + 8 <= end)
        memcpy(&x, (const char *)record + at, 8);
    else if (at < end)
        memcpy(&x, (const char *)record + at, end - at);
    return __builtin_bswap64(x);
}

/* Sorts `count` records of `width` bytes by all their bytes, in place but for scratch[width]: radix sort from
 * the first byte on (McIlroy, Bostic, McIlroy 1993, "Engineering radix sort"). */
void weft_record_sort(void *records, size_t count, size_t width, void *scratch);

#endif
