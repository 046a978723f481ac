#include "data/work/docs_format.h"
#include "data/work/work_file.h"

#include <stdlib.h>
#include <string.h>
#include <zstd.h>

enum { LEVEL = 1 };

struct weft_docs_writer {
    weft_work_file file;
    ZSTD_CCtx *zstd;
    char *block; /* being filled */
    size_t bytes, capacity;
    uint64_t block_rows;
    char *frame; /* the block packed */
    size_t frame_capacity;
    weft_docs_block *table;
    size_t table_count, table_capacity;
    weft_docs_row *rows;
    size_t row_count, row_capacity;
    int64_t text_bytes;
};

static weft_status no_memory(const weft_docs_writer *w) {
    WEFT_FAIL(WEFT_ENOMEM, "%s: no memory to write it", w->file.path);
}

/* Room for `count` members of `width` bytes in an array that doubles. */
static bool reserve(void *array, size_t *capacity, size_t count, size_t width) {
    void *old, *grown;
    if (count <= *capacity) return true;
    size_t more = 2 * *capacity > count ? 2 * *capacity : count;
    memcpy(&old, array, sizeof old);
    if (!(grown = realloc(old, more * width))) return false;
    memcpy(array, &grown, sizeof grown);
    *capacity = more;
    return true;
}

weft_status weft_docs_create(weft_docs_writer **out, const char *path) {
    weft_docs_writer *w = calloc(1, sizeof *w);
    if (!w) WEFT_FAIL(WEFT_ENOMEM, "%s: no memory to write it", path);
    w->zstd = ZSTD_createCCtx();
    weft_status st = w->zstd ? WEFT_OK : weft_fail(WEFT_ENOMEM, "%s: no memory to write it", path);
    if (st == WEFT_OK) st = weft_work_create(&w->file, path);
    if (st != WEFT_OK) {
        weft_docs_abandon(w);
        return st;
    }
    *out = w;
    return WEFT_OK;
}

static weft_status flush(weft_docs_writer *w) {
    if (w->block_rows == 0) return WEFT_OK;
    if (!reserve(&w->frame, &w->frame_capacity, ZSTD_compressBound(w->bytes), 1) ||
        !reserve(&w->table, &w->table_capacity, w->table_count + 1, sizeof *w->table))
        return no_memory(w);
    size_t n = ZSTD_compressCCtx(w->zstd, w->frame, w->frame_capacity, w->block, w->bytes, LEVEL);
    if (ZSTD_isError(n))
        WEFT_FAIL(WEFT_EINTERNAL, "%s: zstd cannot compress a block: %s", w->file.path, ZSTD_getErrorName(n));
    w->table[w->table_count] = (weft_docs_block){.offset = w->file.bytes,
                                                 .stored = n,
                                                 .bytes = w->bytes,
                                                 .rows = w->block_rows,
                                                 .xxh3 = weft_docs_check(w->table_count, w->frame, n)};
    w->table_count++;
    w->bytes = 0;
    w->block_rows = 0;
    return weft_work_write(&w->file, w->frame, n);
}

/* The row member by member: what the compiler pads with is zero in the file. */
static const weft_docs_row *add_row(weft_docs_writer *w, const weft_docs_row *about, size_t text_bytes,
                                    size_t extra_bytes) {
    weft_docs_row *row = &w->rows[w->row_count++];
    memset(row, 0, sizeof *row);
    row->index = about->index;
    row->domain = about->domain;
    row->file = about->file;
    row->tags = about->tags;
    row->place = about->place;
    row->hash = about->hash;
    row->quality = about->quality;
    row->text_bytes = (uint32_t)text_bytes;
    row->extra_bytes = (uint32_t)extra_bytes;
    return row;
}

weft_status weft_docs_add(weft_docs_writer *w, const weft_docs_row *about, const char *text, size_t bytes,
                          const void *extra, size_t extra_bytes) {
    if (bytes > UINT32_MAX || extra_bytes > UINT32_MAX)
        WEFT_FAIL(WEFT_EINPUT, "%s: a document of %zu bytes (and %zu of its URL and ranges) is too long",
                  w->file.path, bytes, extra_bytes);
    if (w->row_count > 0 && about->index <= w->rows[w->row_count - 1].index)
        WEFT_FAIL(WEFT_EINTERNAL, "%s: document %u after document %u", w->file.path, about->index,
                  w->rows[w->row_count - 1].index);
    if (!reserve(&w->rows, &w->row_capacity, w->row_count + 1, sizeof *w->rows)) return no_memory(w);
    weft_docs_row sizes = {.text_bytes = (uint32_t)bytes, .extra_bytes = (uint32_t)extra_bytes};
    size_t extent = weft_docs_extent(&sizes);
    if (w->bytes + extent > WEFT_DOCS_BLOCK) WEFT_TRY(flush(w));
    size_t least = w->bytes + extent > WEFT_DOCS_BLOCK ? w->bytes + extent : WEFT_DOCS_BLOCK;
    if (!reserve(&w->block, &w->capacity, least, 1)) return no_memory(w);
    char *at = w->block + w->bytes;
    if (extra_bytes > 0) memcpy(at, extra, extra_bytes);
    if (bytes > 0) memcpy(at + extra_bytes, text, bytes);
    memset(at + extra_bytes + bytes, 0, extent - extra_bytes - bytes);
    add_row(w, about, bytes, extra_bytes);
    w->bytes += extent;
    w->block_rows++;
    w->text_bytes += (int64_t)bytes;
    return WEFT_OK;
}

int64_t weft_docs_text_bytes(const weft_docs_writer *w) {
    return w->text_bytes;
}

weft_status weft_docs_finish(weft_docs_writer *w) {
    WEFT_TRY(flush(w));
    size_t table_bytes = w->table_count * sizeof *w->table, rows_bytes = w->row_count * sizeof *w->rows;
    weft_docs_footer footer = {.version = WEFT_DOCS_VERSION,
                               .row_bytes = sizeof *w->rows,
                               .blocks = w->table_count,
                               .rows = w->row_count,
                               .table_xxh3 = weft_hash64(w->table, table_bytes, 0),
                               .rows_xxh3 = weft_hash64(w->rows, rows_bytes, 0),
                               .file_bytes = w->file.bytes + table_bytes + rows_bytes + sizeof footer};
    memcpy(footer.magic, WEFT_DOCS_MAGIC, sizeof footer.magic);
    footer.xxh3 = weft_docs_footer_check(&footer);
    WEFT_TRY(weft_work_write(&w->file, w->table, table_bytes));
    WEFT_TRY(weft_work_write(&w->file, w->rows, rows_bytes));
    WEFT_TRY(weft_work_write(&w->file, &footer, sizeof footer));
    WEFT_TRY(weft_work_publish(&w->file));
    weft_docs_abandon(w); /* nothing is left to remove */
    return WEFT_OK;
}

void weft_docs_abandon(weft_docs_writer *w) {
    if (!w) return;
    weft_work_discard(&w->file);
    ZSTD_freeCCtx(w->zstd);
    free(w->block);
    free(w->frame);
    free(w->table);
    free(w->rows);
    free(w);
}
