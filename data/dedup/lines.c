#include "data/dedup/exact.h"
#include "data/dedup/pass.h"

#include <stdlib.h>
#include <string.h>

/* ---- the pieces of a text ---- */
typedef struct piece {
    size_t start, end, next; /* behind its last line's text; behind the separators */
} piece;

static size_t line_end(const char *text, size_t bytes, size_t at) {
    const char *newline = memchr(text + at, '\n', bytes - at);
    return newline ? (size_t)(newline - text) : bytes;
}

static bool blank(const char *text, size_t from, size_t to) {
    for (; from < to; from++)
        if (text[from] != ' ' && (text[from] < '\t' || text[from] > '\r')) return false;
    return true;
}

/* The piece that starts at `at` < bytes. A paragraph takes the empty lines before it at the start of a text
 * in, and ends before those behind it. */
static piece piece_at(bool paragraphs, const char *text, size_t bytes, size_t at) {
    piece p = {.start = at, .end = line_end(text, bytes, at)};
    p.next = p.end < bytes ? p.end + 1 : bytes;
    if (!paragraphs) return p;
    bool begun = false, closed = false;
    for (p.next = at; p.next < bytes;) {
        size_t end = line_end(text, bytes, p.next);
        bool empty = blank(text, p.next, end);
        if (closed && !empty) break;
        if (empty)
            closed = begun;
        else {
            begun = true;
            p.end = end;
        }
        p.next = end < bytes ? end + 1 : bytes;
    }
    return p;
}

/* ---- records ---- */
static void pack(uint64_t key, weft_doc_id id, uint32_t number, unsigned char out[WEFT_LINES_BYTES]) {
    weft_put_u64(out, key);
    weft_put_u64(out + 8, id);
    weft_put_u32(out + 16, number);
}

void weft_line_drop_unpack(const unsigned char in[WEFT_LINE_DROP_BYTES], weft_line_drop *d) {
    d->id = weft_get_u64(in);
    d->number = weft_get_u32(in + 8);
}

weft_status weft_lines_emit(const weft_lines_options *o, weft_spill *keys, int partitions, weft_doc_id id,
                            const char *text, size_t bytes, weft_text *scratch) {
    uint32_t number = 0;
    for (size_t at = 0; at < bytes; number++) {
        piece p = piece_at(o->paragraphs, text, bytes, at);
        weft_hash128 key;
        int64_t characters;
        WEFT_TRY(weft_exact_key(text + p.start, p.end - p.start, scratch, &key, &characters));
        if (characters > 0 && characters >= o->min_characters) {
            unsigned char record[WEFT_LINES_BYTES];
            pack(key.hi, id, number, record);
            WEFT_TRY(weft_spill_add(keys, weft_spill_partition(key.hi, partitions), record, sizeof record));
        }
        at = p.next;
    }
    return WEFT_OK;
}

/* ---- repetitions ---- */
typedef struct occurrences {
    int64_t count; /* of the piece, so far */
    weft_line_drop *held;
    size_t holding, room; /* all but the first, while `count` is too small for a repetition */
} occurrences;

static weft_status drop(const weft_pass *p, const weft_dedup_job *job, weft_line_drop d) {
    unsigned char packed[WEFT_LINE_DROP_BYTES];
    weft_put_u64(packed, d.id);
    weft_put_u32(packed + 8, d.number);
    return weft_spill_add(p->out, weft_doc_partition(d.id, job->units, job->partitions), packed,
                          sizeof packed);
}

static weft_status hold(occurrences *o, weft_line_drop d) {
    if (o->holding == o->room) {
        size_t room = o->room ? 2 * o->room : 64;
        weft_line_drop *held = realloc(o->held, room * sizeof *held);
        if (!held)
            WEFT_FAIL(WEFT_ENOMEM, "no memory to hold %zu occurrences of a line; ask for fewer copies", room);
        o->held = held;
        o->room = room;
    }
    o->held[o->holding++] = d;
    return WEFT_OK;
}

static weft_status occurs(const weft_pass *p, const weft_dedup_job *job, int64_t copies, occurrences *o,
                          weft_line_drop d, int64_t *dropped) {
    if (++o->count == 1) return WEFT_OK;
    if (o->count < copies) return hold(o, d);
    for (size_t i = 0; i < o->holding; i++) WEFT_TRY(drop(p, job, o->held[i]));
    *dropped += (int64_t)o->holding + 1;
    o->holding = 0;
    return drop(p, job, d);
}

static weft_status reduce(const weft_pass *p, const weft_dedup_job *job, int64_t copies, occurrences *o,
                          weft_lines_counts *counts) {
    for (uint64_t key = 0;; counts->pieces++) {
        const unsigned char *record;
        WEFT_TRY(weft_pass_next(p->in, WEFT_LINES_BYTES, &record));
        if (!record) return WEFT_OK;
        if (counts->pieces == 0 || weft_get_u64(record) != key) {
            key = weft_get_u64(record);
            o->count = 0;
            o->holding = 0;
        }
        weft_line_drop d = {weft_get_u64(record + 8), weft_get_u32(record + 16)};
        WEFT_TRY(occurs(p, job, copies, o, d, &counts->dropped));
    }
}

weft_status weft_lines_reduce(const weft_dedup_job *job, int partition, int64_t copies, char *const *keys,
                              int files, const char *out, weft_lines_counts *counts) {
    weft_pass p;
    occurrences o = {0};
    weft_lines_counts n = {0};
    WEFT_TRY(weft_pass_open(&p, job, partition, keys, files, WEFT_LINES_BYTES, out, WEFT_LINE_DROP_BYTES));
    weft_status st = reduce(&p, job, copies, &o, &n);
    free(o.held);
    WEFT_TRY(weft_pass_close(&p, st));
    *counts = n;
    return WEFT_OK;
}

weft_status weft_lines_cut(const weft_lines_options *o, const char *text, size_t bytes,
                           const uint32_t *numbers, size_t count, weft_text *out) {
    size_t next = 0, number = 0;
    size_t ended = 0; /* `out` without the separators behind the last piece that stays */
    out->bytes = 0;
    for (size_t at = 0; at < bytes; number++) {
        piece p = piece_at(o->paragraphs, text, bytes, at);
        if (next < count && numbers[next] == number) {
            next++;
            if (p.end == bytes) out->bytes = ended;
        } else {
            WEFT_TRY(weft_text_append(out, text + p.start, p.next - p.start));
            ended = out->bytes - (p.next - p.end);
        }
        at = p.next;
    }
    if (next < count)
        WEFT_FAIL(WEFT_EINTERNAL, "repeated piece %u is to be cut out of a text of %zu", numbers[next],
                  number);
    return WEFT_OK;
}
