/* Fills a shard: cuts the token stream into chunks, compresses them, and closes the file with its indexes. */
#include "data/shard/shard_format.h"

#include "runtime/fs.h"
#include "runtime/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

enum { ZSTD_LEVEL = 3 };

struct weft_shard_writer {
    char *path;
    weft_shard_info info;
    weft_shard_h5 *h5;
    ZSTD_CCtx *zstd;
    size_t token_bytes;
    void *chunk; /* the chunk being filled: u16 or u32 */
    size_t filled;
    void *frame; /* that chunk compressed */
    size_t frame_capacity;
    weft_shard_chunk *rows; /* [info.chunks] */
    uint64_t *plain_hashes; /* [info.chunks] XXH3-64 of the tokens */
    size_t rows_capacity;
    uint64_t *doc_end; /* [info.documents], and so the next two */
    uint32_t *doc_bytes;
    weft_shard_origin *doc_origin;
    size_t docs_capacity;
    weft_shard_range *masked; /* [masked_count] */
    size_t masked_count, masked_capacity;
};

static void free_writer(weft_shard_writer *w) {
    ZSTD_freeCCtx(w->zstd);
    free(w->chunk);
    free(w->frame);
    free(w->rows);
    free(w->plain_hashes);
    free(w->doc_end);
    free(w->doc_bytes);
    free(w->doc_origin);
    free(w->masked);
    free(w->path);
    free(w);
}

weft_status weft_shard_writer_open(weft_shard_writer **out, const char *path, const weft_shard_info *info) {
    bool sound = info->vocab_size >= 2 && info->vocab_size <= INT32_MAX && info->bos >= 0 && info->eos >= 0 &&
                 info->bos != info->eos && info->bos < info->vocab_size && info->eos < info->vocab_size &&
                 weft_domain_name_ok(info->domain, strlen(info->domain));
    if (!sound)
        WEFT_FAIL(WEFT_EINPUT,
                  "%s: no shard can have a vocabulary of %lld with BOS %d, EOS %d and the domain '%s'", path,
                  (long long)info->vocab_size, info->bos, info->eos, info->domain);
    weft_shard_writer *w = calloc(1, sizeof *w);
    if (!w) WEFT_FAIL(WEFT_ENOMEM, "%s: no memory to write it", path);
    w->info = (weft_shard_info){.vocab_size = info->vocab_size,
                                .bos = info->bos,
                                .eos = info->eos,
                                .tokenizer = info->tokenizer,
                                .pipeline = info->pipeline};
    memcpy(w->info.domain, info->domain, strlen(info->domain) + 1);
    w->token_bytes = weft_shard_token_bytes(info->vocab_size);
    size_t bytes = weft_shard_chunk_bytes(info->vocab_size);
    w->frame_capacity = ZSTD_compressBound(bytes);
    w->path = weft_format("%s", path);
    w->zstd = ZSTD_createCCtx();
    w->chunk = calloc(1, bytes);
    w->frame = malloc(w->frame_capacity);
    if (!w->path || !w->zstd || !w->chunk || !w->frame) {
        free_writer(w);
        WEFT_FAIL(WEFT_ENOMEM, "%s: no memory to write it", path);
    }
    size_t a = ZSTD_CCtx_setParameter(w->zstd, ZSTD_c_compressionLevel, ZSTD_LEVEL);
    size_t b = ZSTD_CCtx_setParameter(w->zstd, ZSTD_c_checksumFlag, 1);
    weft_status st = ZSTD_isError(a) || ZSTD_isError(b)
                         ? weft_fail(WEFT_EINTERNAL, "zstd refuses its parameters")
                         : WEFT_OK;
    if (st == WEFT_OK) st = weft_shard_h5_create(&w->h5, path, w->token_bytes);
    if (st != WEFT_OK) {
        free_writer(w);
        return st;
    }
    *out = w;
    return WEFT_OK;
}

static weft_status flush_chunk(weft_shard_writer *w) {
    size_t bytes = weft_shard_chunk_bytes(w->info.vocab_size), index = (size_t)w->info.chunks;
    if (index == w->rows_capacity) {
        size_t more = index ? 2 * index : 64;
        weft_shard_chunk *rows = realloc(w->rows, more * sizeof *rows);
        if (rows) w->rows = rows;
        uint64_t *hashes = realloc(w->plain_hashes, more * sizeof *hashes);
        if (hashes) w->plain_hashes = hashes;
        if (!rows || !hashes) WEFT_FAIL(WEFT_ENOMEM, "%s: no memory for the index of its chunks", w->path);
        w->rows_capacity = more;
    }
    memset((char *)w->chunk + w->filled * w->token_bytes, 0, bytes - w->filled * w->token_bytes);
    size_t n = ZSTD_compress2(w->zstd, w->frame, w->frame_capacity, w->chunk, bytes);
    if (ZSTD_isError(n))
        WEFT_FAIL(WEFT_EINTERNAL, "%s: zstd cannot compress a chunk: %s", w->path, ZSTD_getErrorName(n));
    WEFT_TRY(weft_shard_h5_chunk(w->h5, index, (uint64_t)w->info.tokens, w->frame, n));
    w->rows[index] = (weft_shard_chunk){.bytes = n, .xxh3 = weft_hash64(w->frame, n, 0)};
    w->plain_hashes[index] = weft_hash64(w->chunk, bytes, 0);
    w->info.chunks++;
    w->filled = 0;
    return WEFT_OK;
}

static weft_status put_token(weft_shard_writer *w, int32_t id) {
    if (w->token_bytes == 2)
        ((uint16_t *)w->chunk)[w->filled++] = (uint16_t)id;
    else
        ((uint32_t *)w->chunk)[w->filled++] = (uint32_t)id;
    w->info.tokens++;
    return w->filled == WEFT_SHARD_CHUNK_TOKENS ? flush_chunk(w) : WEFT_OK;
}

static weft_status check_document(const weft_shard_writer *w, const int32_t *ids, size_t count,
                                  size_t text_bytes, const weft_shard_range *masked, size_t masked_count) {
    if (text_bytes > UINT32_MAX)
        WEFT_FAIL(WEFT_EINPUT, "%s: a document of %zu bytes is too long for a shard", w->path, text_bytes);
    for (size_t i = 0; i < count; i++)
        if (ids[i] < 0 || ids[i] >= w->info.vocab_size || ids[i] == w->info.bos || ids[i] == w->info.eos)
            WEFT_FAIL(WEFT_EINTERNAL, "%s: token %d inside a document (vocabulary %lld, BOS %d, EOS %d)",
                      w->path, ids[i], (long long)w->info.vocab_size, w->info.bos, w->info.eos);
    uint64_t before = 0;
    for (size_t i = 0; i < masked_count; i++) {
        if (masked[i].first < before || masked[i].first >= count || masked[i].count == 0 ||
            masked[i].count > count - masked[i].first)
            WEFT_FAIL(WEFT_EINTERNAL, "%s: masked range %zu (%llu ids from %llu) in a document of %zu ids",
                      w->path, i, (unsigned long long)masked[i].count, (unsigned long long)masked[i].first,
                      count);
        before = masked[i].first + masked[i].count;
    }
    return WEFT_OK;
}

static weft_status make_room(weft_shard_writer *w, size_t masked_count) {
    size_t docs = (size_t)w->info.documents;
    if (docs == w->docs_capacity) {
        size_t more = docs ? 2 * docs : 1024;
        uint64_t *ends = realloc(w->doc_end, more * sizeof *ends);
        if (ends) w->doc_end = ends;
        uint32_t *bytes = realloc(w->doc_bytes, more * sizeof *bytes);
        if (bytes) w->doc_bytes = bytes;
        weft_shard_origin *origins = realloc(w->doc_origin, more * sizeof *origins);
        if (origins) w->doc_origin = origins;
        if (!ends || !bytes || !origins)
            WEFT_FAIL(WEFT_ENOMEM, "%s: no memory for the index of its documents", w->path);
        w->docs_capacity = more;
    }
    size_t ranges = w->masked_count + masked_count;
    if (ranges > w->masked_capacity) {
        size_t more = 2 * ranges;
        weft_shard_range *masked = realloc(w->masked, more * sizeof *masked);
        if (!masked) WEFT_FAIL(WEFT_ENOMEM, "%s: no memory for its masked ranges", w->path);
        w->masked = masked;
        w->masked_capacity = more;
    }
    return WEFT_OK;
}

weft_status weft_shard_writer_add(weft_shard_writer *w, const int32_t *ids, size_t count, size_t text_bytes,
                                  const weft_shard_origin *origin, const weft_shard_range *masked,
                                  size_t masked_count) {
    WEFT_TRY(check_document(w, ids, count, text_bytes, masked, masked_count));
    WEFT_TRY(make_room(w, masked_count));
    size_t docs = (size_t)w->info.documents;
    WEFT_TRY(put_token(w, w->info.bos));
    uint64_t start = (uint64_t)w->info.tokens;
    for (size_t i = 0; i < count; i++) WEFT_TRY(put_token(w, ids[i]));
    WEFT_TRY(put_token(w, w->info.eos));
    for (size_t i = 0; i < masked_count; i++)
        w->masked[w->masked_count++] =
            (weft_shard_range){.first = start + masked[i].first, .count = masked[i].count};
    w->doc_end[docs] = (uint64_t)w->info.tokens;
    w->doc_bytes[docs] = (uint32_t)text_bytes;
    w->doc_origin[docs] = *origin;
    w->info.documents++;
    w->info.bytes += (int64_t)text_bytes;
    return WEFT_OK;
}

static weft_status content_of(const weft_shard_writer *w, weft_hash128 *content) {
    size_t chunks = (size_t)w->info.chunks * 8, docs = (size_t)w->info.documents * 8;
    size_t masked = w->masked_count * sizeof *w->masked;
    char *all = malloc(chunks + docs + masked);
    if (!all) WEFT_FAIL(WEFT_ENOMEM, "%s: no memory to hash it", w->path);
    memcpy(all, w->plain_hashes, chunks);
    memcpy(all + chunks, w->doc_end, docs);
    if (masked > 0) memcpy(all + chunks + docs, w->masked, masked);
    *content = weft_hash128_of(all, chunks + docs + masked);
    free(all);
    return WEFT_OK;
}

static weft_status write_user_block(const weft_shard_writer *w, weft_shard_header *header) {
    struct stat info;
    char block[WEFT_SHARD_USER_BLOCK] = {0};
    int fd = open(w->path, O_WRONLY | O_CLOEXEC);
    if (fd < 0) WEFT_FAIL(WEFT_EIO, "%s: cannot be opened: %s", w->path, strerror(errno));
    bool ok = fstat(fd, &info) == 0;
    if (ok) {
        header->file_bytes = (uint64_t)info.st_size;
        header->xxh3 = weft_hash64(header, offsetof(weft_shard_header, xxh3), 0);
        memcpy(block, header, sizeof *header);
        ok = pwrite(fd, block, sizeof block, 0) == sizeof block && fsync(fd) == 0;
    }
    weft_status st =
        ok ? WEFT_OK : weft_fail(WEFT_EIO, "%s: cannot be written: %s", w->path, strerror(errno));
    if (close(fd) != 0 && st == WEFT_OK)
        st = weft_fail(WEFT_EIO, "%s: cannot be closed: %s", w->path, strerror(errno));
    return st;
}

static weft_status read_back_documents(const weft_shard *s) {
    uint64_t *ends = NULL;
    uint32_t *bytes = NULL;
    weft_shard_origin *origins = NULL;
    weft_shard_range *masked = NULL;
    size_t count;
    weft_status st = weft_shard_read_documents(s, &ends, &bytes);
    if (st == WEFT_OK) st = weft_shard_read_origins(s, &origins);
    if (st == WEFT_OK) st = weft_shard_read_masked(s, &masked, &count);
    free(ends);
    free(bytes);
    free(origins);
    free(masked);
    return st;
}

/* What the disk holds must be what was meant: all that is stored is hashed again, and chunks are decoded for
 * good measure. */
static weft_status read_back(const weft_shard_writer *w) {
    weft_shard *s = NULL;
    weft_shard_decoder *d = NULL;
    weft_status st = weft_shard_open(&s, w->path);
    if (st == WEFT_OK) st = weft_shard_decoder_new(&d, w->info.vocab_size);
    for (int64_t i = 0; st == WEFT_OK && i < w->info.chunks; i++) {
        st = weft_shard_read_chunk(s, i, d, w->chunk);
        if (st == WEFT_OK &&
            weft_hash64(w->chunk, weft_shard_chunk_bytes(w->info.vocab_size), 0) != w->plain_hashes[i])
            st = weft_fail(WEFT_EIO, "%s: chunk %lld does not read back as it was written", w->path,
                           (long long)i);
    }
    if (st == WEFT_OK) st = read_back_documents(s);
    weft_shard_decoder_free(d);
    weft_shard_close(s);
    return st;
}

static weft_shard_header make_header(const weft_shard_writer *w) {
    weft_shard_header h = {.version = WEFT_SHARD_VERSION,
                           .token_bytes = (uint32_t)w->token_bytes,
                           .tokens = (uint64_t)w->info.tokens,
                           .documents = (uint64_t)w->info.documents,
                           .bytes = (uint64_t)w->info.bytes,
                           .chunks = (uint64_t)w->info.chunks,
                           .chunk_tokens = WEFT_SHARD_CHUNK_TOKENS,
                           .vocab_size = (uint64_t)w->info.vocab_size,
                           .bos = w->info.bos,
                           .eos = w->info.eos,
                           .tokenizer = w->info.tokenizer,
                           .pipeline = w->info.pipeline,
                           .content = w->info.content};
    memcpy(h.magic, WEFT_SHARD_MAGIC, sizeof h.magic);
    memcpy(h.domain, w->info.domain, sizeof h.domain);
    return h;
}

/* A dataset, and where it lies in the header. */
static weft_status write_region(const weft_shard_writer *w, const char *name, const void *data, uint64_t rows,
                                uint64_t columns, size_t width, weft_shard_region *region) {
    size_t bytes = rows * columns * width;
    *region = (weft_shard_region){.bytes = bytes, .xxh3 = weft_hash64(data, bytes, 0)};
    return weft_shard_h5_dataset(w->h5, name, data, rows, columns, width, &region->offset);
}

weft_status weft_shard_writer_finish(weft_shard_writer *w, weft_shard_info *info) {
    if (w->info.documents == 0) WEFT_FAIL(WEFT_EINTERNAL, "%s: a shard needs a document", w->path);
    if (w->filled > 0) WEFT_TRY(flush_chunk(w));
    WEFT_TRY(content_of(w, &w->info.content));
    uint64_t chunks = (uint64_t)w->info.chunks, docs = (uint64_t)w->info.documents;
    WEFT_TRY(weft_shard_h5_locate(w->h5, w->rows, chunks));
    weft_shard_header h = make_header(w);
    WEFT_TRY(write_region(w, "chunk_index", w->rows, chunks, 3, 8, &h.index));
    WEFT_TRY(write_region(w, "doc_end", w->doc_end, docs, 1, 8, &h.doc_end));
    WEFT_TRY(write_region(w, "doc_bytes", w->doc_bytes, docs, 1, 4, &h.doc_bytes));
    WEFT_TRY(write_region(w, "doc_origin", w->doc_origin, docs, 4, 8, &h.doc_origin));
    WEFT_TRY(write_region(w, "masked", w->masked, w->masked_count, 2, 8, &h.masked));
    weft_shard_h5 *h5 = w->h5;
    w->h5 = NULL;
    WEFT_TRY(weft_shard_h5_finish(h5, &w->info));
    WEFT_TRY(write_user_block(w, &h));
    WEFT_TRY(read_back(w));
    *info = w->info;
    free_writer(w);
    return WEFT_OK;
}

void weft_shard_writer_abandon(weft_shard_writer *w) {
    if (!w) return;
    weft_shard_h5_abandon(w->h5);
    if (unlink(w->path) != 0 && errno != ENOENT)
        weft_warn("%s: cannot be removed: %s", w->path, strerror(errno));
    free_writer(w);
}
