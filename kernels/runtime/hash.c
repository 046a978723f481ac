#include "runtime/hash.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

uint64_t weft_hash64(const void *data, size_t bytes, uint64_t seed) {
    return XXH3_64bits_withSeed(data, bytes, seed);
}

uint64_t weft_hash64_str(const char *s, uint64_t seed) {
    return weft_hash64(s, strlen(s), seed);
}

static weft_hash128 from_xxh(XXH128_hash_t h) {
    return (weft_hash128){.hi = h.high64, .lo = h.low64};
}

weft_hash128 weft_hash128_of(const void *data, size_t bytes) {
    return from_xxh(XXH3_128bits(data, bytes));
}

void weft_hash128_hex(weft_hash128 h, char out[WEFT_HASH128_HEX]) {
    snprintf(out, WEFT_HASH128_HEX, "%016llx%016llx", (unsigned long long)h.hi, (unsigned long long)h.lo);
}

weft_status weft_hash_file(const char *path, weft_hash128 *out, uint64_t *bytes) {
    enum { CHUNK = 1 << 20 };
    weft_status st = WEFT_OK;
    uint64_t total = 0;
    size_t n;
    FILE *f = fopen(path, "rb");
    if (!f) WEFT_FAIL(WEFT_EIO, "%s: cannot be opened: %s", path, strerror(errno));
    XXH3_state_t *state = XXH3_createState();
    char *buf = malloc(CHUNK);
    if (!state || !buf) {
        st = weft_fail(WEFT_ENOMEM, "%s: no memory to hash it", path);
        goto done;
    }
    XXH3_128bits_reset(state);
    while ((n = fread(buf, 1, CHUNK, f)) > 0) {
        XXH3_128bits_update(state, buf, n);
        total += n;
    }
    if (ferror(f)) {
        st = weft_fail(WEFT_EIO, "%s: read error: %s", path, strerror(errno));
        goto done;
    }
    *out = from_xxh(XXH3_128bits_digest(state));
    if (bytes) *bytes = total;
done:
    free(buf);
    XXH3_freeState(state);
    fclose(f);
    return st;
}
