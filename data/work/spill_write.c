/* Collects records by partition and writes them in blocks: a partition when it has enough for a block, and
 * all of them, in order, when the memory is used up. */
#include "data/work/spill_pack.h"
#include "data/work/work_file.h"

#include <stdlib.h>
#include <string.h>

enum { LEAST = 256 }; /* bytes of memory a partition */

/* A partition: the block being filled, and what is written. */
typedef struct bucket {
    char *data;
    size_t used, capacity;
    uint64_t held;
    uint64_t rows, bytes, records;
} bucket;

typedef struct written_row {
    weft_spill_row row;
    uint32_t partition;
} written_row;

struct weft_spill {
    weft_work_file file;
    weft_packer *packer;
    int partitions;
    size_t record_bytes;
    size_t limit, held; /* held: capacities of all buckets */
    bucket *buckets;    /* [partitions] */
    written_row *rows;  /* as written */
    size_t row_count, row_capacity;
};

static weft_status no_memory(const weft_spill *s) {
    WEFT_FAIL(WEFT_ENOMEM, "%s: no memory to write it", s->file.path);
}

weft_status weft_spill_create(weft_spill **out, const char *path, int partitions, size_t record_bytes,
                              size_t buffer_bytes) {
    if (partitions < 1 || partitions > WEFT_SPILL_MAX_PARTITIONS || record_bytes > UINT32_MAX)
        WEFT_FAIL(WEFT_EINTERNAL, "%s: no spill can have %d partitions of records of %zu bytes", path,
                  partitions, record_bytes);
    weft_spill *s = calloc(1, sizeof *s);
    bucket *buckets = calloc((size_t)partitions, sizeof *buckets);
    if (!s || !buckets) {
        free(s);
        free(buckets);
        WEFT_FAIL(WEFT_ENOMEM, "%s: no memory to write it", path);
    }
    size_t least = (size_t)partitions * LEAST;
    s->partitions = partitions;
    s->record_bytes = record_bytes;
    s->limit = buffer_bytes > least ? buffer_bytes : least;
    s->buckets = buckets;
    weft_status st = weft_packer_new(&s->packer, false);
    if (st == WEFT_OK) st = weft_work_create(&s->file, path);
    if (st != WEFT_OK) {
        weft_spill_abandon(s);
        return st;
    }
    *out = s;
    return WEFT_OK;
}

static weft_status reserve_row(weft_spill *s) {
    if (s->row_count < s->row_capacity) return WEFT_OK;
    size_t more = s->row_capacity ? 2 * s->row_capacity : 256;
    written_row *rows = realloc(s->rows, more * sizeof *rows);
    if (!rows) return no_memory(s);
    s->rows = rows;
    s->row_capacity = more;
    return WEFT_OK;
}

/* Writes what a bucket holds as a block. */
static weft_status put_block(weft_spill *s, bucket *b) {
    const char *stored;
    uint32_t partition = (uint32_t)(b - s->buckets);
    WEFT_TRY(reserve_row(s));
    size_t packed = weft_pack(s->packer, s->record_bytes, b->data, b->used, &stored);
    if (packed == 0) stored = b->data;
    weft_spill_row row = {
        .offset = s->file.bytes, .stored = packed ? packed : b->used, .bytes = b->used, .records = b->held};
    row.xxh3 = weft_spill_check(partition, b->rows, &row, stored);
    WEFT_TRY(weft_work_write(&s->file, stored, row.stored));
    s->rows[s->row_count++] = (written_row){row, partition};
    b->rows++;
    b->bytes += b->used;
    b->records += b->held;
    b->used = b->held = 0;
    return WEFT_OK;
}

static weft_status flush(weft_spill *s) {
    for (int p = 0; p < s->partitions; p++) {
        bucket *b = &s->buckets[p];
        if (b->used > 0) WEFT_TRY(put_block(s, b));
        free(b->data);
        b->data = NULL;
        s->held -= b->capacity;
        b->capacity = 0;
    }
    return WEFT_OK;
}

/* Room for `need` more bytes in a bucket: it is written when it has a block, and grows up to one within what
 * the others leave of the limit; otherwise all are written. */
static weft_status make_room(weft_spill *s, bucket *b, size_t need) {
    if (b->used > 0 && b->used + need > WEFT_SPILL_BLOCK) {
        WEFT_TRY(put_block(s, b));
        if (b->capacity >= need) return WEFT_OK;
    }
    size_t others = s->held - b->capacity, left = others < s->limit ? s->limit - others : 0;
    if (s->held > 0 && b->used + need > left) {
        WEFT_TRY(flush(s));
        left = s->limit;
    }
    size_t want = 2 * b->capacity > LEAST ? 2 * b->capacity : LEAST;
    if (want > WEFT_SPILL_BLOCK) want = WEFT_SPILL_BLOCK;
    if (want > left) want = left;
    if (want < b->used + need) want = b->used + need;
    char *data = realloc(b->data, want);
    if (!data) return no_memory(s);
    s->held += want - b->capacity;
    b->data = data;
    b->capacity = want;
    return WEFT_OK;
}

weft_status weft_spill_add(weft_spill *s, int partition, const void *record, size_t bytes) {
    bool any = s->record_bytes == 0;
    if (partition < 0 || partition >= s->partitions || (any ? bytes > UINT32_MAX : bytes != s->record_bytes))
        WEFT_FAIL(WEFT_EINTERNAL,
                  "%s: a record of %zu bytes for partition %d does not fit (%zu bytes, %d partitions)",
                  s->file.path, bytes, partition, s->record_bytes, s->partitions);
    bucket *b = &s->buckets[partition];
    size_t need = bytes + (any ? WEFT_SPILL_LENGTH : 0);
    if (b->capacity - b->used < need) WEFT_TRY(make_room(s, b, need));
    if (any) {
        uint32_t length = (uint32_t)bytes;
        memcpy(b->data + b->used, &length, WEFT_SPILL_LENGTH);
        b->used += WEFT_SPILL_LENGTH;
    }
    if (bytes > 0) memcpy(b->data + b->used, record, bytes);
    b->used += bytes;
    b->held++;
    return WEFT_OK;
}

/* Rows sorted by partition, entries, footer. */
static weft_status write_index(weft_spill *s) {
    weft_spill_footer footer = {.version = WEFT_SPILL_VERSION,
                                .partitions = (uint32_t)s->partitions,
                                .record_bytes = s->record_bytes,
                                .rows = s->row_count};
    weft_spill_row *sorted = malloc((s->row_count + 1) * sizeof *sorted);
    uint64_t *next = malloc((size_t)s->partitions * sizeof *next), first = 0;
    weft_status st = sorted && next ? WEFT_OK : no_memory(s);
    if (st != WEFT_OK) goto done;
    memcpy(footer.magic, WEFT_SPILL_MAGIC, sizeof footer.magic);
    for (int p = 0; p < s->partitions; p++) {
        next[p] = first;
        first += s->buckets[p].rows;
    }
    for (size_t i = 0; i < s->row_count; i++) sorted[next[s->rows[i].partition]++] = s->rows[i].row;
    WEFT_GOTO(st, done, weft_work_write(&s->file, sorted, s->row_count * sizeof *sorted));
    for (uint32_t p = 0; p < (uint32_t)s->partitions; p++) {
        const bucket *b = &s->buckets[p];
        if (b->rows == 0) continue;
        weft_spill_entry e = {
            .first = next[p] - b->rows, .rows = b->rows, .bytes = b->bytes, .records = b->records};
        e.xxh3 = weft_spill_entry_check(p, &e);
        WEFT_GOTO(st, done, weft_work_write(&s->file, &e, sizeof e));
        footer.present[p / 64] |= (uint64_t)1 << p % 64;
        footer.entries++;
    }
    footer.file_bytes = s->file.bytes + sizeof footer;
    footer.xxh3 = weft_spill_footer_check(&footer);
    st = weft_work_write(&s->file, &footer, sizeof footer);
done:
    free(sorted);
    free(next);
    return st;
}

weft_status weft_spill_finish(weft_spill *s) {
    WEFT_TRY(flush(s));
    WEFT_TRY(write_index(s));
    WEFT_TRY(weft_work_publish(&s->file));
    weft_spill_abandon(s); /* nothing is left to remove */
    return WEFT_OK;
}

void weft_spill_abandon(weft_spill *s) {
    if (!s) return;
    weft_work_discard(&s->file);
    weft_packer_free(s->packer);
    for (int p = 0; p < s->partitions; p++) free(s->buckets[p].data);
    free(s->buckets);
    free(s->rows);
    free(s);
}
