#include "data/work/docs_format.h"
#include "data/work/work_file.h"
#include "runtime/fs.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zstd.h>

enum { KEPT = 1 << 20 }; /* a larger buffer is given back when a much smaller one does */

typedef struct buffer {
    char *data;
    size_t capacity;
} buffer;

struct weft_docs {
    char *path;
    int fd;
    ZSTD_DCtx *zstd;
    uint64_t blocks, rows;
    weft_docs_block *table; /* [blocks] */
    uint64_t *first;        /* [blocks] its first row */
    weft_docs_row *about;   /* [rows] */
    uint64_t *place;        /* [rows] where in its block */
    buffer frame, block;
    uint64_t decoded; /* the block that is in `block`; `blocks`: none is */
};

static weft_status no_memory(const char *path) {
    WEFT_FAIL(WEFT_ENOMEM, "%s: no memory to read it", path);
}

static bool reserve(buffer *b, size_t bytes) {
    bool wasteful = b->capacity > KEPT && bytes < b->capacity / 4;
    if (b->data && bytes <= b->capacity && !wasteful) return true;
    free(b->data);
    b->data = malloc(bytes + 1);
    b->capacity = b->data ? bytes : 0;
    return b->data != NULL;
}

/* ---- opening ---- */

static weft_status read_footer(weft_docs *s, weft_docs_footer *f) {
    uint64_t size;
    const char *path = s->path;
    WEFT_TRY(weft_work_open(path, &s->fd, &size));
    if (size < sizeof *f) return weft_work_damaged(path, "not a weft store, or not all of it");
    WEFT_TRY(weft_work_read_at(s->fd, path, f, sizeof *f, size - sizeof *f));
    if (memcmp(f->magic, WEFT_DOCS_MAGIC, sizeof f->magic) != 0)
        return weft_work_damaged(path, "not a weft store, or not all of it");
    if (f->version != WEFT_DOCS_VERSION) return weft_work_damaged(path, "a store of another version of weft");
    if (f->xxh3 != weft_docs_footer_check(f))
        return weft_work_damaged(path, "the hash of its footer does not match");
    if (f->file_bytes != size) return weft_work_damaged(path, "not as long as it was written");
    uint64_t left = size - sizeof *f;
    if (f->row_bytes != sizeof(weft_docs_row) || f->blocks > left / sizeof(weft_docs_block) ||
        f->rows > (left - f->blocks * sizeof(weft_docs_block)) / sizeof(weft_docs_row))
        return weft_work_damaged(path, "the numbers in its footer do not agree");
    return WEFT_OK;
}

static weft_status read_index(weft_docs *s, const weft_docs_footer *f) {
    size_t table_bytes = f->blocks * sizeof *s->table, rows_bytes = f->rows * sizeof *s->about;
    uint64_t at = f->file_bytes - sizeof *f - rows_bytes - table_bytes;
    s->blocks = s->decoded = f->blocks;
    s->rows = f->rows;
    s->table = malloc(table_bytes + 1);
    s->about = malloc(rows_bytes + 1);
    s->first = malloc((f->blocks + 1) * sizeof *s->first);
    s->place = malloc((f->rows + 1) * sizeof *s->place);
    if (!s->table || !s->about || !s->first || !s->place) return no_memory(s->path);
    WEFT_TRY(weft_work_read_at(s->fd, s->path, s->table, table_bytes, at));
    WEFT_TRY(weft_work_read_at(s->fd, s->path, s->about, rows_bytes, at + table_bytes));
    if (weft_hash64(s->table, table_bytes, 0) != f->table_xxh3 ||
        weft_hash64(s->about, rows_bytes, 0) != f->rows_xxh3)
        return weft_work_damaged(s->path, "the hash of its index does not match");
    return WEFT_OK;
}

/* Finds where documents lie; false when the index contradicts itself. */
static bool locate(weft_docs *s, uint64_t blocks_end) {
    uint64_t row = 0;
    for (uint64_t b = 0; b < s->blocks; b++) {
        const weft_docs_block *block = &s->table[b];
        uint64_t bytes = 0;
        if (block->stored > blocks_end || block->offset > blocks_end - block->stored ||
            block->rows > s->rows - row)
            return false;
        s->first[b] = row;
        for (uint64_t end = row + block->rows; row < end; row++) {
            s->place[row] = bytes;
            bytes += weft_docs_extent(&s->about[row]);
            if (row > 0 && s->about[row].index <= s->about[row - 1].index) return false;
        }
        if (bytes != block->bytes) return false;
    }
    return row == s->rows;
}

weft_status weft_docs_open(weft_docs **out, const char *path) {
    weft_docs_footer footer;
    weft_docs *s = calloc(1, sizeof *s);
    if (!s) return no_memory(path);
    s->fd = -1;
    s->path = weft_format("%s", path);
    s->zstd = ZSTD_createDCtx();
    weft_status st = s->path && s->zstd ? WEFT_OK : no_memory(path);
    if (st == WEFT_OK) st = read_footer(s, &footer);
    if (st == WEFT_OK) st = read_index(s, &footer);
    if (st == WEFT_OK && !locate(s, footer.file_bytes))
        st = weft_work_damaged(path, "its index contradicts itself");
    if (st != WEFT_OK) {
        weft_docs_close(s);
        return st;
    }
    *out = s;
    return WEFT_OK;
}

void weft_docs_close(weft_docs *s) {
    if (!s) return;
    if (s->fd >= 0) close(s->fd);
    ZSTD_freeDCtx(s->zstd);
    free(s->table);
    free(s->first);
    free(s->about);
    free(s->place);
    free(s->frame.data);
    free(s->block.data);
    free(s->path);
    free(s);
}

/* ---- documents ---- */

int64_t weft_docs_count(const weft_docs *s) {
    return (int64_t)s->rows;
}

const weft_docs_row *weft_docs_about(const weft_docs *s, int64_t row) {
    return &s->about[row];
}

int64_t weft_docs_find(const weft_docs *s, uint32_t index) {
    uint64_t low = 0, high = s->rows;
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        if (s->about[middle].index < index)
            low = middle + 1;
        else
            high = middle;
    }
    return low < s->rows && s->about[low].index == index ? (int64_t)low : -1;
}

static uint64_t block_of(const weft_docs *s, uint64_t row) {
    uint64_t low = 0, high = s->blocks;
    while (high - low > 1) {
        uint64_t middle = low + (high - low) / 2;
        if (s->first[middle] <= row)
            low = middle;
        else
            high = middle;
    }
    return low;
}

static weft_status decode(weft_docs *s, uint64_t b) {
    const weft_docs_block *block = &s->table[b];
    s->decoded = s->blocks;
    if (!reserve(&s->frame, block->stored) || !reserve(&s->block, block->bytes)) return no_memory(s->path);
    WEFT_TRY(weft_work_read_at(s->fd, s->path, s->frame.data, block->stored, block->offset));
    if (weft_docs_check(b, s->frame.data, block->stored) != block->xxh3 ||
        ZSTD_decompressDCtx(s->zstd, s->block.data, block->bytes, s->frame.data, block->stored) !=
            block->bytes)
        return weft_work_damaged(s->path, "the hash of a block does not match");
    s->decoded = b;
    return WEFT_OK;
}

weft_status weft_docs_read(weft_docs *s, int64_t row, const char **text, const void **extra) {
    if (row < 0 || (uint64_t)row >= s->rows)
        WEFT_FAIL(WEFT_EINTERNAL, "%s: row %lld of %llu", s->path, (long long)row,
                  (unsigned long long)s->rows);
    uint64_t b = block_of(s, (uint64_t)row);
    if (b != s->decoded) WEFT_TRY(decode(s, b));
    const weft_docs_row *about = &s->about[row];
    const char *at = s->block.data + s->place[row];
    *extra = about->extra_bytes ? at : NULL;
    *text = at + about->extra_bytes;
    return WEFT_OK;
}
