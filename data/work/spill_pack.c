#include "data/work/spill_pack.h"

#include <stdlib.h>
#include <zstd.h>

enum { LEVEL = 1, GAIN = 8 }; /* packed when it is an eighth smaller */

struct weft_packer {
    ZSTD_CCtx *pack; /* one of the two */
    ZSTD_DCtx *unpack;
    char turned[WEFT_SPILL_BLOCK], packed[WEFT_SPILL_BLOCK];
};

weft_status weft_packer_new(weft_packer **out, bool unpack) {
    weft_packer *p = calloc(1, sizeof *p);
    bool ok = p && (unpack ? (p->unpack = ZSTD_createDCtx()) != NULL : (p->pack = ZSTD_createCCtx()) != NULL);
    if (!ok) {
        free(p);
        WEFT_FAIL(WEFT_ENOMEM, "no memory to pack records");
    }
    *out = p;
    return WEFT_OK;
}

void weft_packer_free(weft_packer *p) {
    if (!p) return;
    ZSTD_freeCCtx(p->pack);
    ZSTD_freeDCtx(p->unpack);
    free(p);
}

/* to[j][i] = from[i][j] */
static void transpose(char *to, const char *from, size_t rows, size_t columns) {
    for (size_t j = 0; j < columns; j++)
        for (size_t i = 0; i < rows; i++) to[j * rows + i] = from[i * columns + j];
}

size_t weft_pack(weft_packer *p, size_t record_bytes, const char *data, size_t bytes, const char **packed) {
    if (bytes > WEFT_SPILL_BLOCK) return 0;
    if (record_bytes) transpose(p->turned, data, bytes / record_bytes, record_bytes);
    size_t n = ZSTD_compressCCtx(p->pack, p->packed, bytes - bytes / GAIN, record_bytes ? p->turned : data,
                                 bytes, LEVEL);
    *packed = p->packed;
    return ZSTD_isError(n) ? 0 : n; /* the only error there can be: it does not fit */
}

char *weft_packer_input(weft_packer *p) {
    return p->packed;
}

bool weft_unpack(weft_packer *p, size_t record_bytes, size_t packed, char *data, size_t bytes) {
    char *to = record_bytes ? p->turned : data;
    size_t n = ZSTD_decompressDCtx(p->unpack, to, bytes, p->packed, packed);
    if (n != bytes) return false;
    if (record_bytes) transpose(data, p->turned, record_bytes, bytes / record_bytes);
    return true;
}
