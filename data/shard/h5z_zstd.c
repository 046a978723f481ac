#include "data/shard/h5z_zstd.h"

#include <hdf5.h>
#include <zstd.h>

/* A chunk of HDF5 is smaller than 4 GiB; a frame that claims more is damaged. */
static const unsigned long long max_chunk = 0xffffffffull;

static size_t compress_chunk(int level, size_t bytes, size_t *room, void **buf) {
    size_t bound = ZSTD_compressBound(bytes);
    void *out = H5allocate_memory(bound, 0);
    ZSTD_CCtx *ctx = ZSTD_createCCtx();
    size_t n = 0;
    if (out && ctx && !ZSTD_isError(ZSTD_CCtx_setParameter(ctx, ZSTD_c_compressionLevel, level)) &&
        !ZSTD_isError(ZSTD_CCtx_setParameter(ctx, ZSTD_c_checksumFlag, 1))) {
        n = ZSTD_compress2(ctx, out, bound, *buf, bytes);
        if (ZSTD_isError(n)) n = 0;
    }
    ZSTD_freeCCtx(ctx);
    if (n == 0) {
        H5free_memory(out);
        return 0;
    }
    H5free_memory(*buf);
    *buf = out;
    *room = bound;
    return n;
}

static size_t decompress_chunk(size_t bytes, size_t *room, void **buf) {
    unsigned long long size = ZSTD_getFrameContentSize(*buf, bytes);
    if (size == 0 || size > max_chunk) return 0; /* unknown sizes and errors are above max_chunk too */
    void *out = H5allocate_memory((size_t)size, 0);
    if (!out) return 0;
    size_t n = ZSTD_decompress(out, (size_t)size, *buf, bytes);
    if (ZSTD_isError(n) || n != (size_t)size) {
        H5free_memory(out);
        return 0;
    }
    H5free_memory(*buf);
    *buf = out;
    *room = (size_t)size;
    return n;
}

/* The contract of H5Z_func_t: the number of valid bytes, 0 on failure with *buf untouched. */
static size_t filter(unsigned flags, size_t count, const unsigned values[], size_t bytes, size_t *room,
                     void **buf) {
    if (flags & H5Z_FLAG_REVERSE) return decompress_chunk(bytes, room, buf);
    return compress_chunk(count > 0 ? (int)values[0] : ZSTD_CLEVEL_DEFAULT, bytes, room, buf);
}

weft_status weft_h5z_zstd_register(void) {
    static const H5Z_class2_t filter_class = {
        .version = H5Z_CLASS_T_VERS,
        .id = WEFT_H5Z_ZSTD,
        .encoder_present = 1,
        .decoder_present = 1,
        .name = "zstd",
        .filter = filter,
    };
    if (H5Zfilter_avail(WEFT_H5Z_ZSTD) > 0) return WEFT_OK;
    if (H5Zregister(&filter_class) < 0) WEFT_FAIL(WEFT_EINTERNAL, "HDF5 does not take the zstd filter");
    return WEFT_OK;
}
