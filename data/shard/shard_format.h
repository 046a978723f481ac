/* The user block of a shard as it lies in the file, and the HDF5 calls that write what follows it. Private to
 * data/shard_*.c. */
#ifndef WEFT_SHARD_FORMAT_H
#define WEFT_SHARD_FORMAT_H

#include "data/shard/shard.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "shards are little-endian, and so must be the machine"
#endif

#define WEFT_SHARD_MAGIC "WEFTSHRD"
#define WEFT_SHARD_USER_BLOCK 1024

typedef struct weft_shard_region {
    uint64_t offset, bytes, xxh3;
} weft_shard_region;

typedef struct weft_shard_header {
    char magic[8];
    uint32_t version, token_bytes;
    uint64_t file_bytes;
    uint64_t tokens, documents, bytes, chunks;
    uint64_t chunk_tokens;
    uint64_t vocab_size;
    int32_t bos, eos;
    weft_hash128 tokenizer, pipeline, content;
    char domain[WEFT_DOMAIN_NAME];
    weft_shard_region index, doc_end, doc_bytes, doc_origin, masked;
    uint64_t xxh3; /* of all above */
} weft_shard_header;
_Static_assert(sizeof(weft_shard_header) == 320, "no padding: the header is a file format");

typedef struct weft_shard_chunk {
    uint64_t offset, bytes, xxh3; /* a row of chunk_index */
} weft_shard_chunk;

/* The HDF5 file under construction: shard_hdf5.c. */
typedef struct weft_shard_h5 weft_shard_h5;
weft_status weft_shard_h5_create(weft_shard_h5 **out, const char *path, size_t token_bytes);
/* Appends chunk number `chunk`; `tokens` is the dataset's length with it. The length only ever grows: to
 * shorten it would make the library rewrite the last chunk. */
weft_status weft_shard_h5_chunk(weft_shard_h5 *h, uint64_t chunk, uint64_t tokens, const void *frame,
                                size_t bytes);
/* Offset in the file of each chunk written, into rows[].offset. The rows' bytes and xxh3 must be set. */
weft_status weft_shard_h5_locate(weft_shard_h5 *h, weft_shard_chunk *rows, uint64_t chunks);
/* A dataset stored in one piece, [rows] or, with columns > 1, [rows, columns], of u64 (width 8) or u32 (width
 * 4). *offset: where it lies in the file; 0 when it has no rows. */
weft_status weft_shard_h5_dataset(weft_shard_h5 *h, const char *name, const void *data, uint64_t rows,
                                  uint64_t columns, size_t width, uint64_t *offset);
/* Writes the attributes and closes. The handle is freed in any case. */
weft_status weft_shard_h5_finish(weft_shard_h5 *h, const weft_shard_info *info);
/* Closes a file that nobody wants any more; NULL is allowed. */
void weft_shard_h5_abandon(weft_shard_h5 *h);

#endif
