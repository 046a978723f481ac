#include "data/work/spill_blocks.h"
#include "data/work/spill_pack.h"
#include "data/work/work_file.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { WINDOW = 256 }; /* rows read at once */

typedef struct spill_file {
    const char *path;
    int fd;
    uint64_t rows_offset; /* blocks end there */
    weft_spill_footer footer;
    weft_spill_entry entry; /* of the partition; all zero when it has no records */
} spill_file;

struct weft_spill_blocks {
    char *const *paths;
    int count, next_file, partition;
    weft_packer *packer;
    spill_file file;              /* fd -1: none is open */
    uint64_t row, bytes, records; /* of the entry: read so far */
    weft_spill_row window[WINDOW];
    bool any;
    uint32_t partitions;
    size_t record_bytes;
};

static weft_status check_footer(const char *path, const weft_spill_footer *f, uint64_t size) {
    if (memcmp(f->magic, WEFT_SPILL_MAGIC, sizeof f->magic) != 0)
        return weft_work_damaged(path, "not a weft spill, or not all of it");
    if (f->version != WEFT_SPILL_VERSION)
        return weft_work_damaged(path, "a spill of another version of weft");
    if (f->xxh3 != weft_spill_footer_check(f))
        return weft_work_damaged(path, "the hash of its footer does not match");
    if (f->file_bytes != size) return weft_work_damaged(path, "not as long as it was written");
    uint64_t left = size - sizeof *f;
    bool sound = f->partitions >= 1 && f->partitions <= WEFT_SPILL_MAX_PARTITIONS &&
                 f->record_bytes <= UINT32_MAX && f->entries <= f->partitions &&
                 f->entries * sizeof(weft_spill_entry) <= left &&
                 f->rows <= (left - f->entries * sizeof(weft_spill_entry)) / sizeof(weft_spill_row);
    return sound ? WEFT_OK : weft_work_damaged(path, "the numbers in its footer do not agree");
}

static weft_status read_entry(spill_file *f, int partition) {
    const weft_spill_footer *foot = &f->footer;
    uint64_t entries = foot->file_bytes - sizeof *foot - foot->entries * sizeof(weft_spill_entry), before = 0;
    f->rows_offset = entries - foot->rows * sizeof(weft_spill_row);
    if (partition < 0 || (uint32_t)partition >= foot->partitions)
        WEFT_FAIL(WEFT_EINTERNAL, "%s: partition %d of %u", f->path, partition, foot->partitions);
    uint64_t word = foot->present[partition / 64], bit = (uint64_t)1 << partition % 64;
    if (!(word & bit)) return WEFT_OK;
    for (int i = 0; i < partition / 64; i++) before += (uint64_t)__builtin_popcountll(foot->present[i]);
    before += (uint64_t)__builtin_popcountll(word & (bit - 1));
    if (before >= foot->entries) return weft_work_damaged(f->path, "the numbers in its footer do not agree");
    weft_spill_entry *e = &f->entry;
    WEFT_TRY(weft_work_read_at(f->fd, f->path, e, sizeof *e, entries + before * sizeof *e));
    if (e->xxh3 != weft_spill_entry_check((uint32_t)partition, e))
        return weft_work_damaged(f->path, "the hash of an entry of its index does not match");
    if (e->rows > foot->rows || e->first > foot->rows - e->rows)
        return weft_work_damaged(f->path, "the numbers in its index do not agree");
    return WEFT_OK;
}

static weft_status open_file(spill_file *f, const char *path, int partition) {
    uint64_t size;
    *f = (spill_file){.path = path, .fd = -1};
    WEFT_TRY(weft_work_open(path, &f->fd, &size));
    weft_status st = size < sizeof f->footer ? weft_work_damaged(path, "not a weft spill, or not all of it")
                                             : weft_work_read_at(f->fd, path, &f->footer, sizeof f->footer,
                                                                 size - sizeof f->footer);
    if (st == WEFT_OK) st = check_footer(path, &f->footer, size);
    if (st == WEFT_OK) st = read_entry(f, partition);
    if (st != WEFT_OK) close(f->fd);
    return st;
}

weft_status weft_spill_blocks_open(weft_spill_blocks **out, char *const *paths, int count, int partition) {
    weft_spill_blocks *b = calloc(1, sizeof *b);
    if (!b) WEFT_FAIL(WEFT_ENOMEM, "no memory to read a partition");
    b->paths = paths;
    b->count = count;
    b->partition = partition;
    b->file.fd = -1;
    weft_status st = weft_packer_new(&b->packer, true);
    if (st != WEFT_OK) {
        free(b);
        return st;
    }
    *out = b;
    return WEFT_OK;
}

static void close_file(weft_spill_blocks *b) {
    if (b->file.fd >= 0) close(b->file.fd);
    b->file.fd = -1;
}

void weft_spill_blocks_close(weft_spill_blocks *b) {
    if (!b) return;
    close_file(b);
    weft_packer_free(b->packer);
    free(b);
}

static weft_status next_file(weft_spill_blocks *b) {
    const weft_spill_footer *foot = &b->file.footer;
    spill_file f;
    WEFT_TRY(open_file(&f, b->paths[b->next_file], b->partition));
    b->file = f;
    b->next_file++;
    b->row = b->bytes = b->records = 0;
    if (!b->any) {
        b->any = true;
        b->partitions = foot->partitions;
        b->record_bytes = foot->record_bytes;
    }
    if (b->partitions != foot->partitions || b->record_bytes != foot->record_bytes)
        WEFT_FAIL(
            WEFT_EINPUT,
            "%s: %u partitions of records of %llu bytes, but %s has %u of %zu; remove the work directory and "
            "build again",
            f.path, foot->partitions, (unsigned long long)foot->record_bytes, b->paths[0], b->partitions,
            b->record_bytes);
    return WEFT_OK;
}

/* A row whose block cannot be what its entry says; it keeps damage from asking for more memory than the file
 * has bytes. */
static bool row_sound(const weft_spill_blocks *b, const weft_spill_row *row) {
    uint64_t end = b->file.rows_offset, least = b->record_bytes ? b->record_bytes : WEFT_SPILL_LENGTH;
    bool stored = row->stored <= end && row->offset <= end - row->stored &&
                  (row->stored == row->bytes || (row->stored < row->bytes && row->bytes <= WEFT_SPILL_BLOCK));
    return stored && row->records >= 1 && row->records <= row->bytes / least &&
           row->bytes <= b->file.entry.bytes - b->bytes && row->records <= b->file.entry.records - b->records;
}

weft_status weft_spill_blocks_next(weft_spill_blocks *b, const weft_spill_row **row) {
    const weft_spill_entry *e = &b->file.entry;
    while (b->file.fd < 0 || b->row == e->rows) {
        if (b->file.fd >= 0 && (b->bytes != e->bytes || b->records != e->records))
            return weft_work_damaged(b->file.path, "its blocks do not add up to its index");
        close_file(b);
        if (b->next_file == b->count) {
            *row = NULL;
            return WEFT_OK;
        }
        WEFT_TRY(next_file(b));
    }
    size_t at = b->row % WINDOW;
    if (at == 0) {
        uint64_t left = e->rows - b->row, n = left < WINDOW ? left : WINDOW;
        WEFT_TRY(weft_work_read_at(b->file.fd, b->file.path, b->window, n * sizeof *b->window,
                                   b->file.rows_offset + (e->first + b->row) * sizeof *b->window));
    }
    if (!row_sound(b, &b->window[at]))
        return weft_work_damaged(b->file.path, "its index names an impossible block");
    *row = &b->window[at];
    return WEFT_OK;
}

static bool whole_records(const weft_spill_blocks *b, const weft_spill_row *row, const char *data) {
    if (b->record_bytes) return row->bytes == row->records * b->record_bytes;
    uint64_t at = 0, n = 0;
    for (uint32_t length; row->bytes - at >= WEFT_SPILL_LENGTH; at += WEFT_SPILL_LENGTH + length, n++) {
        memcpy(&length, data + at, WEFT_SPILL_LENGTH);
        if (length > row->bytes - at - WEFT_SPILL_LENGTH) return false;
    }
    return at == row->bytes && n == row->records;
}

weft_status weft_spill_blocks_read(weft_spill_blocks *b, char *data) {
    const weft_spill_row *row = &b->window[b->row % WINDOW];
    bool packed = row->stored < row->bytes;
    char *stored = packed ? weft_packer_input(b->packer) : data;
    WEFT_TRY(weft_work_read_at(b->file.fd, b->file.path, stored, row->stored, row->offset));
    bool good = row->xxh3 == weft_spill_check((uint32_t)b->partition, b->row, row, stored) &&
                (!packed || weft_unpack(b->packer, b->record_bytes, row->stored, data, row->bytes)) &&
                whole_records(b, row, data);
    if (!good) return weft_work_damaged(b->file.path, "the hash of a block does not match");
    b->row++;
    b->bytes += row->bytes;
    b->records += row->records;
    return WEFT_OK;
}

size_t weft_spill_blocks_record_bytes(const weft_spill_blocks *b) {
    return b->record_bytes;
}
