/* Reads shards with pread and zstd: nothing in the file is trusted before its hash is checked. */
#include "data/shard/shard_format.h"

#include "runtime/fs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

struct weft_shard {
    char *path;
    weft_shard_header header;
    weft_shard_info info;
    weft_shard_chunk *rows; /* [chunks] */
};

struct weft_shard_decoder {
    ZSTD_DCtx *zstd;
    size_t chunk_bytes;
    void *frame;
    size_t frame_capacity;
};

static weft_status read_at(const char *path, int fd, void *data, size_t bytes, uint64_t offset) {
    char *p = data;
    while (bytes > 0) {
        ssize_t n = pread(fd, p, bytes, (off_t)offset);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0)
            WEFT_FAIL(WEFT_EIO, "%s: read error at byte %llu: %s", path, (unsigned long long)offset,
                      strerror(errno));
        if (n == 0)
            WEFT_FAIL(WEFT_EINPUT, "%s: truncated shard: it ends at byte %llu", path,
                      (unsigned long long)offset);
        p += n;
        offset += (uint64_t)n;
        bytes -= (size_t)n;
    }
    return WEFT_OK;
}

static weft_status open_file(const char *path, int *fd) {
    *fd = open(path, O_RDONLY | O_CLOEXEC);
    if (*fd < 0)
        WEFT_FAIL(errno == ENOENT ? WEFT_EINPUT : WEFT_EIO, "%s: cannot be opened: %s", path,
                  strerror(errno));
    return WEFT_OK;
}

static bool region_ok(const weft_shard_header *h, weft_shard_region r, uint64_t rows, size_t width) {
    return rows <= h->file_bytes / width && r.bytes == rows * width && r.offset <= h->file_bytes &&
           r.bytes <= h->file_bytes - r.offset;
}

static bool header_sound(const weft_shard_header *h) {
    return h->vocab_size >= 2 && h->vocab_size <= INT32_MAX && h->chunk_tokens == WEFT_SHARD_CHUNK_TOKENS &&
           h->token_bytes == weft_shard_token_bytes((int64_t)h->vocab_size) && h->tokens <= INT64_MAX / 8 &&
           h->chunks == (h->tokens + WEFT_SHARD_CHUNK_TOKENS - 1) / WEFT_SHARD_CHUNK_TOKENS &&
           memchr(h->domain, 0, sizeof h->domain) && weft_domain_name_ok(h->domain, strlen(h->domain)) &&
           region_ok(h, h->index, h->chunks, sizeof(weft_shard_chunk)) &&
           region_ok(h, h->doc_end, h->documents, 8) && region_ok(h, h->doc_bytes, h->documents, 4) &&
           region_ok(h, h->doc_origin, h->documents, sizeof(weft_shard_origin)) &&
           region_ok(h, h->masked, h->masked.bytes / sizeof(weft_shard_range), sizeof(weft_shard_range));
}

static weft_status check_header(const char *path, uint64_t size, const weft_shard_header *h) {
    static const char hdf5_magic[8] = "\x89HDF\r\n\x1a\n", zeros[8] = {0};
    if (memcmp(h->magic, hdf5_magic, 8) == 0)
        WEFT_FAIL(WEFT_EINPUT, "%s: an HDF5 file, but not a weft shard", path);
    if (memcmp(h->magic, zeros, 8) == 0) WEFT_FAIL(WEFT_EINPUT, "%s: a shard that was never finished", path);
    if (memcmp(h->magic, WEFT_SHARD_MAGIC, 8) != 0) WEFT_FAIL(WEFT_EINPUT, "%s: not a weft shard", path);
    if (h->version != WEFT_SHARD_VERSION)
        WEFT_FAIL(WEFT_EINPUT, "%s: shard version %u; this weft reads version %d: build the data again", path,
                  h->version, WEFT_SHARD_VERSION);
    if (h->xxh3 != weft_hash64(h, offsetof(weft_shard_header, xxh3), 0))
        WEFT_FAIL(WEFT_EINPUT, "%s: damaged shard: the header's hash does not match", path);
    if (size != h->file_bytes)
        WEFT_FAIL(WEFT_EINPUT, "%s: truncated shard: %llu bytes instead of %llu", path,
                  (unsigned long long)size, (unsigned long long)h->file_bytes);
    if (!header_sound(h))
        WEFT_FAIL(WEFT_EINPUT, "%s: not a weft shard: the numbers in its header do not agree", path);
    return WEFT_OK;
}

static weft_status read_region(const weft_shard *s, int fd, weft_shard_region r, const char *what,
                               void **out) {
    void *data = malloc(r.bytes + 1);
    if (!data) WEFT_FAIL(WEFT_ENOMEM, "%s: no memory for %s", s->path, what);
    weft_status st = read_at(s->path, fd, data, r.bytes, r.offset);
    if (st == WEFT_OK && weft_hash64(data, r.bytes, 0) != r.xxh3)
        st = weft_fail(WEFT_EINPUT, "%s: damaged shard: the hash of %s does not match", s->path, what);
    if (st == WEFT_OK)
        *out = data;
    else
        free(data);
    return st;
}

static weft_status check_rows(const weft_shard *s) {
    size_t most = ZSTD_compressBound(weft_shard_chunk_bytes(s->info.vocab_size));
    for (uint64_t i = 0; i < s->header.chunks; i++)
        if (s->rows[i].bytes > most || s->rows[i].bytes > s->header.file_bytes ||
            s->rows[i].offset > s->header.file_bytes - s->rows[i].bytes)
            WEFT_FAIL(WEFT_EINPUT, "%s: not a weft shard: chunk %llu lies outside the file", s->path,
                      (unsigned long long)i);
    return WEFT_OK;
}

static void fill_info(weft_shard *s) {
    const weft_shard_header *h = &s->header;
    s->info = (weft_shard_info){.vocab_size = (int64_t)h->vocab_size,
                                .bos = h->bos,
                                .eos = h->eos,
                                .tokenizer = h->tokenizer,
                                .pipeline = h->pipeline,
                                .tokens = (int64_t)h->tokens,
                                .documents = (int64_t)h->documents,
                                .bytes = (int64_t)h->bytes,
                                .chunks = (int64_t)h->chunks,
                                .content = h->content};
    memcpy(s->info.domain, h->domain, sizeof s->info.domain);
}

weft_status weft_shard_open(weft_shard **out, const char *path) {
    weft_status st;
    struct stat info;
    int fd;
    WEFT_TRY(open_file(path, &fd));
    weft_shard *s = calloc(1, sizeof *s);
    if (!s || !(s->path = weft_format("%s", path))) {
        st = weft_fail(WEFT_ENOMEM, "%s: no memory to read it", path);
        goto done;
    }
    if (fstat(fd, &info) != 0) {
        st = weft_fail(WEFT_EIO, "%s: %s", path, strerror(errno));
        goto done;
    }
    if (!S_ISREG(info.st_mode) || (size_t)info.st_size < WEFT_SHARD_USER_BLOCK) {
        st = weft_fail(WEFT_EINPUT, "%s: truncated, or not a weft shard: %lld bytes", path,
                       (long long)info.st_size);
        goto done;
    }
    WEFT_GOTO(st, done, read_at(path, fd, &s->header, sizeof s->header, 0));
    WEFT_GOTO(st, done, check_header(path, (uint64_t)info.st_size, &s->header));
    fill_info(s);
    void *rows;
    WEFT_GOTO(st, done, read_region(s, fd, s->header.index, "the index of its chunks", &rows));
    s->rows = rows;
    WEFT_GOTO(st, done, check_rows(s));
    *out = s;
    s = NULL;
done:
    close(fd);
    weft_shard_close(s);
    return st;
}

void weft_shard_close(weft_shard *s) {
    if (!s) return;
    free(s->rows);
    free(s->path);
    free(s);
}

const weft_shard_info *weft_shard_about(const weft_shard *s) {
    return &s->info;
}

weft_status weft_shard_decoder_new(weft_shard_decoder **out, int64_t vocab_size) {
    weft_shard_decoder *d = calloc(1, sizeof *d);
    if (!d) WEFT_FAIL(WEFT_ENOMEM, "no memory to decode shards");
    d->chunk_bytes = weft_shard_chunk_bytes(vocab_size);
    d->frame_capacity = ZSTD_compressBound(d->chunk_bytes);
    d->frame = malloc(d->frame_capacity);
    d->zstd = ZSTD_createDCtx();
    if (!d->frame || !d->zstd) {
        weft_shard_decoder_free(d);
        WEFT_FAIL(WEFT_ENOMEM, "no memory to decode shards");
    }
    *out = d;
    return WEFT_OK;
}

void weft_shard_decoder_free(weft_shard_decoder *d) {
    if (!d) return;
    ZSTD_freeDCtx(d->zstd);
    free(d->frame);
    free(d);
}

weft_status weft_shard_read_chunk(const weft_shard *s, int64_t chunk, weft_shard_decoder *d, void *tokens) {
    if (chunk < 0 || chunk >= s->info.chunks || d->chunk_bytes != weft_shard_chunk_bytes(s->info.vocab_size))
        WEFT_FAIL(WEFT_EINTERNAL, "%s: there is no chunk %lld, or the decoder is another vocabulary's",
                  s->path, (long long)chunk);
    const weft_shard_chunk *row = &s->rows[chunk];
    int fd;
    WEFT_TRY(open_file(s->path, &fd));
    weft_status st = read_at(s->path, fd, d->frame, row->bytes, row->offset);
    close(fd);
    WEFT_TRY(st);
    if (weft_hash64(d->frame, row->bytes, 0) != row->xxh3)
        WEFT_FAIL(WEFT_EINPUT,
                  "%s: damaged shard: the hash of chunk %lld (%llu bytes at byte %llu) does not match",
                  s->path, (long long)chunk, (unsigned long long)row->bytes, (unsigned long long)row->offset);
    size_t n = ZSTD_decompressDCtx(d->zstd, tokens, d->chunk_bytes, d->frame, row->bytes);
    if (ZSTD_isError(n) || n != d->chunk_bytes)
        WEFT_FAIL(WEFT_EINPUT, "%s: damaged shard: chunk %lld does not decode: %s", s->path, (long long)chunk,
                  ZSTD_isError(n) ? ZSTD_getErrorName(n) : "wrong size");
    return WEFT_OK;
}

/* ---- documents ---- */
static weft_status check_ends(const weft_shard *s, const uint64_t *ends) {
    uint64_t before = 0;
    for (int64_t i = 0; i < s->info.documents; i++) {
        if (ends[i] < before + 2 || ends[i] > s->header.tokens)
            WEFT_FAIL(WEFT_EINPUT, "%s: not a weft shard: document %lld ends before it begins", s->path,
                      (long long)i);
        before = ends[i];
    }
    return WEFT_OK;
}

weft_status weft_shard_read_documents(const weft_shard *s, uint64_t **ends, uint32_t **bytes) {
    int fd;
    void *e = NULL, *b = NULL;
    WEFT_TRY(open_file(s->path, &fd));
    weft_status st = read_region(s, fd, s->header.doc_end, "the documents' ends", &e);
    if (st == WEFT_OK && bytes) st = read_region(s, fd, s->header.doc_bytes, "the documents' sizes", &b);
    close(fd);
    if (st == WEFT_OK) st = check_ends(s, e);
    if (st != WEFT_OK) {
        free(e);
        free(b);
        return st;
    }
    *ends = e;
    if (bytes) *bytes = b;
    return WEFT_OK;
}

weft_status weft_shard_read_origins(const weft_shard *s, weft_shard_origin **origins) {
    int fd;
    void *o = NULL;
    WEFT_TRY(open_file(s->path, &fd));
    weft_status st = read_region(s, fd, s->header.doc_origin, "the documents' origins", &o);
    close(fd);
    if (st == WEFT_OK) *origins = o;
    return st;
}

weft_status weft_shard_read_masked(const weft_shard *s, weft_shard_range **ranges, size_t *count) {
    size_t n = s->header.masked.bytes / sizeof **ranges;
    uint64_t before = 0;
    void *data = NULL;
    int fd;
    if (n > 0) {
        WEFT_TRY(open_file(s->path, &fd));
        weft_status st = read_region(s, fd, s->header.masked, "the masked tokens", &data);
        close(fd);
        WEFT_TRY(st);
    }
    const weft_shard_range *r = data;
    for (size_t i = 0; i < n; i++) {
        if (r[i].first < before || r[i].first >= s->header.tokens || r[i].count == 0 ||
            r[i].count > s->header.tokens - r[i].first) {
            free(data);
            WEFT_FAIL(WEFT_EINPUT, "%s: not a weft shard: masked range %zu is out of order", s->path, i);
        }
        before = r[i].first + r[i].count;
    }
    *ranges = data;
    *count = n;
    return WEFT_OK;
}

static weft_status read_end(const weft_shard *s, int fd, int64_t document, uint64_t *end) {
    return read_at(s->path, fd, end, sizeof *end,
                   s->header.doc_end.offset + (uint64_t)document * sizeof *end);
}

static weft_status read_document(const weft_shard *s, int fd, int64_t document, uint64_t *first,
                                 uint64_t *end, weft_shard_origin *origin) {
    *first = 0;
    if (document > 0) WEFT_TRY(read_end(s, fd, document - 1, first));
    WEFT_TRY(read_end(s, fd, document, end));
    WEFT_TRY(read_at(s->path, fd, origin, sizeof *origin,
                     s->header.doc_origin.offset + (uint64_t)document * sizeof *origin));
    if (*end > s->header.tokens || *end < 2 || *first > *end - 2)
        WEFT_FAIL(WEFT_EINPUT, "%s: not a weft shard: document %lld ends before it begins", s->path,
                  (long long)document);
    return WEFT_OK;
}

weft_status weft_shard_document(const weft_shard *s, int64_t document, uint64_t *first, uint64_t *end,
                                weft_shard_origin *origin) {
    int fd;
    if (document < 0 || document >= s->info.documents)
        WEFT_FAIL(WEFT_EINTERNAL, "%s: there is no document %lld", s->path, (long long)document);
    WEFT_TRY(open_file(s->path, &fd));
    weft_status st = read_document(s, fd, document, first, end, origin);
    close(fd);
    return st;
}

static weft_status find_document(const weft_shard *s, int fd, uint64_t token, int64_t *document,
                                 uint64_t *first, weft_shard_origin *origin) {
    int64_t low = 0, high = s->info.documents - 1;
    uint64_t end;
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        WEFT_TRY(read_end(s, fd, middle, &end));
        if (end > token)
            high = middle;
        else
            low = middle + 1;
    }
    WEFT_TRY(read_document(s, fd, low, first, &end, origin));
    if (token < *first || token >= end)
        WEFT_FAIL(WEFT_EINPUT, "%s: not a weft shard: token %llu is in no document", s->path,
                  (unsigned long long)token);
    *document = low;
    return WEFT_OK;
}

weft_status weft_shard_find(const weft_shard *s, uint64_t token, int64_t *document, uint64_t *first,
                            weft_shard_origin *origin) {
    int fd;
    if (token >= s->header.tokens || s->info.documents == 0)
        WEFT_FAIL(WEFT_EINTERNAL, "%s: there is no token %llu", s->path, (unsigned long long)token);
    WEFT_TRY(open_file(s->path, &fd));
    weft_status st = find_document(s, fd, token, document, first, origin);
    close(fd);
    return st;
}
