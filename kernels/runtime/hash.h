/* XXH3 (xxhash library): integrity of files and fragments, keys of the RNG, content splits. */
#ifndef WEFT_HASH_H
#define WEFT_HASH_H

#include "runtime/status.h"

#include <stddef.h>
#include <stdint.h>

typedef struct weft_hash128 {
    uint64_t hi, lo;
} weft_hash128;

uint64_t weft_hash64(const void *data, size_t bytes, uint64_t seed);
uint64_t weft_hash64_str(const char *s, uint64_t seed);
weft_hash128 weft_hash128_of(const void *data, size_t bytes);

#define WEFT_HASH128_HEX 33 /* 32 digits and the terminating zero */
void weft_hash128_hex(weft_hash128 h, char out[WEFT_HASH128_HEX]);

/* Hash of a file's content. Not collective. Fails with WEFT_EIO and a message when it cannot be read. */
weft_status weft_hash_file(const char *path, weft_hash128 *out, uint64_t *bytes);

#endif
