/* A partition in order: its records are read into the memory given and sorted there; each time it is full,
 * what it holds becomes a sorted run on disk, and the runs are merged. */
#include "data/work/spill_blocks.h"
#include "data/work/spill_runs.h"
#include "data/work/spill_sort.h"

#include <stdlib.h>
#include <string.h>

enum {
    LEAST_MEMORY = 1 << 19, /* the output of runs, and the largest block of empty records with its pointers */
    LEAST_OUT = 1 << 16,
    MOST_OUT = 1 << 20,
    POINTER = 16, /* of a record with a length: eight bytes of its key, its offset, both big-endian */
    MOST_KEY = 4096,
};

/* The area: output of runs | records from the front, `data` bytes ... pointers to them from the end. */
struct weft_spilled {
    weft_area area;
    weft_runs *runs; /* NULL: all records are in memory */
    size_t memory, key_bytes;
    const char *temp;
    size_t record_bytes, limit;
    size_t data, records;
    size_t position; /* of the next record in memory */
};

static char *data_of(const weft_spilled *s) {
    return s->area.at + s->area.out_bytes;
}

static char *pointers_of(const weft_spilled *s) {
    return s->area.at + s->area.bytes - s->records * POINTER;
}

static size_t record_count(const weft_spilled *s) {
    return s->record_bytes ? s->data / s->record_bytes : s->records;
}

static const char *stored_at(const weft_spilled *s, size_t i) {
    if (s->record_bytes) return data_of(s) + i * s->record_bytes;
    return data_of(s) + weft_get_u64(pointers_of(s) + i * POINTER + 8);
}

/* ---- sorting ---- */

/* Pointers that agree in the key's bytes before `at` are sorted by what follows; the offset is what decides
 * last, which keeps the order of the input. */
static void sort_pointers(weft_spilled *s, char *pointers, size_t count, size_t at) {
    for (size_t i = 0; i < count; i++) {
        char *p = pointers + i * POINTER;
        const char *stored = data_of(s) + weft_get_u64(p + 8);
        size_t bytes = weft_stored_bytes(stored, 0) - WEFT_SPILL_LENGTH;
        weft_put_u64(p, weft_record_word(stored + WEFT_SPILL_LENGTH, bytes, s->limit, at));
    }
    weft_record_sort(pointers, count, POINTER, s->area.at);
    if (at + 8 >= s->limit) return;
    for (size_t i = 0, j; i < count; i = j) {
        for (j = i + 1; j < count && memcmp(pointers + i * POINTER, pointers + j * POINTER, 8) == 0;) j++;
        if (j - i > 1) sort_pointers(s, pointers + i * POINTER, j - i, at + 8);
    }
}

static void sort(weft_spilled *s) {
    if (s->record_bytes)
        weft_record_sort(data_of(s), record_count(s), s->record_bytes, s->area.at);
    else
        sort_pointers(s, pointers_of(s), s->records, 0);
}

static weft_status write_run(weft_spilled *s) {
    if (!s->runs) WEFT_TRY(weft_runs_new(&s->runs, &s->area, s->temp, s->record_bytes, s->limit));
    sort(s);
    for (size_t i = 0, n = record_count(s); i < n; i++) {
        const char *stored = stored_at(s, i);
        WEFT_TRY(weft_runs_add(s->runs, stored, weft_stored_bytes(stored, s->record_bytes)));
    }
    s->data = s->records = 0;
    return weft_runs_end(s->runs);
}

/* ---- reading ---- */

static weft_status begin(weft_spilled *s, size_t record_bytes) {
    size_t memory = s->memory > LEAST_MEMORY ? s->memory : LEAST_MEMORY, out = memory / 64;
    if (out < LEAST_OUT) out = LEAST_OUT;
    if (out > MOST_OUT) out = MOST_OUT;
    s->record_bytes = record_bytes;
    s->limit = record_bytes ? record_bytes : s->key_bytes;
    if (out < record_bytes) out = record_bytes; /* it is the scratch of sorting, too */
    return weft_area_new(&s->area, memory > out ? memory : out, out);
}

/* Takes the block in, behind what is in memory already. */
static weft_status take_block(weft_spilled *s, weft_spill_blocks *blocks, const weft_spill_row *row) {
    size_t pointers = s->record_bytes ? 0 : row->records * POINTER;
    size_t room = s->area.bytes - s->area.out_bytes - s->data - s->records * POINTER;
    if (row->bytes + pointers > room && s->data > 0) {
        WEFT_TRY(write_run(s));
        room = s->area.bytes - s->area.out_bytes;
    }
    if (row->bytes + pointers > room)
        WEFT_TRY(weft_area_reserve(&s->area, s->area.out_bytes + row->bytes + pointers));
    size_t at = s->data, end = at + row->bytes;
    WEFT_TRY(weft_spill_blocks_read(blocks, data_of(s) + at));
    s->data = end;
    while (!s->record_bytes && at < end) {
        s->records++;
        weft_put_u64(pointers_of(s) + 8, at);
        at += weft_stored_bytes(data_of(s) + at, 0);
    }
    return WEFT_OK;
}

static weft_status take_all(weft_spilled *s, weft_spill_blocks *blocks) {
    for (;;) {
        const weft_spill_row *row;
        WEFT_TRY(weft_spill_blocks_next(blocks, &row));
        if (!row) break;
        if (!s->area.at) WEFT_TRY(begin(s, weft_spill_blocks_record_bytes(blocks)));
        WEFT_TRY(take_block(s, blocks, row));
    }
    if (!s->runs) {
        if (s->data > 0) sort(s);
        return WEFT_OK;
    }
    WEFT_TRY(write_run(s));
    return weft_runs_merge(s->runs);
}

weft_status weft_spilled_open(weft_spilled **out, char *const *paths, int count, int partition,
                              size_t key_bytes, size_t memory, const char *temp) {
    weft_spill_blocks *blocks = NULL;
    if (key_bytes > MOST_KEY) WEFT_FAIL(WEFT_EINTERNAL, "%s: a key of %zu bytes to sort by", temp, key_bytes);
    weft_spilled *s = calloc(1, sizeof *s);
    if (!s) WEFT_FAIL(WEFT_ENOMEM, "%s: no memory to sort", temp);
    s->memory = memory;
    s->key_bytes = key_bytes;
    s->temp = temp;
    weft_status st = weft_spill_blocks_open(&blocks, paths, count, partition);
    if (st == WEFT_OK) st = take_all(s, blocks);
    weft_spill_blocks_close(blocks);
    if (st != WEFT_OK) {
        weft_spilled_close(s);
        return st;
    }
    *out = s;
    return WEFT_OK;
}

void weft_spilled_close(weft_spilled *s) {
    if (!s) return;
    weft_runs_free(s->runs);
    weft_area_free(&s->area);
    free(s);
}

weft_status weft_spilled_next(weft_spilled *s, const void **record, size_t *bytes) {
    if (s->runs) return weft_runs_next(s->runs, record, bytes);
    if (s->position == record_count(s)) {
        *record = NULL;
        *bytes = 0;
        return WEFT_OK;
    }
    const char *stored = stored_at(s, s->position++);
    size_t skip = weft_stored_skip(s->record_bytes);
    *record = stored + skip;
    *bytes = weft_stored_bytes(stored, s->record_bytes) - skip;
    return WEFT_OK;
}
