#include "data/dedup/exact.h"
#include "data/dedup/pass.h"

#include <string.h>

/* What a byte counts as: ASCII letters in lower case, ASCII white space as a space, all others as they are.
 */
static unsigned char compared(unsigned char c) {
    if (c >= 'A' && c <= 'Z') return c | 0x20;
    return c >= '\t' && c <= '\r' ? ' ' : c;
}

weft_status weft_exact_key(const char *text, size_t bytes, weft_text *scratch, weft_hash128 *key,
                           int64_t *characters) {
    scratch->bytes = 0;
    WEFT_TRY(weft_text_append(scratch, text, bytes));
    size_t n = 0;
    int64_t points = 0;
    unsigned char before = ' '; /* so that white space at the start goes */
    for (size_t i = 0; i < bytes; i++) {
        unsigned char c = compared((unsigned char)scratch->data[i]);
        bool stays = c != ' ' || before != ' ';
        scratch->data[n] = (char)c;
        n += stays;
        points += stays && (c & 0xC0) != 0x80;
        before = c;
    }
    if (n > 0 && before == ' ') {
        n--;
        points--;
    }
    scratch->bytes = n;
    *key = weft_hash128_of(scratch->data, n);
    if (characters) *characters = points;
    return WEFT_OK;
}

void weft_exact_pack(weft_hash128 key, uint32_t order, weft_doc_id id, unsigned char out[WEFT_EXACT_BYTES]) {
    weft_put_u64(out, key.hi);
    weft_put_u64(out + 8, key.lo);
    weft_put_u32(out + 16, order);
    weft_put_u64(out + 20, id);
}

enum { KEY_BYTES = 16 };

static weft_doc_id id_of(const unsigned char *record) {
    return weft_get_u64(record + 20);
}

/* A cluster's size and smallest id are known at its end only, and it may be too large to hold: a second
 * reader goes over the same records ahead of the one that writes. */
typedef struct scout {
    weft_spilled *in;
    const unsigned char *record; /* the next; NULL at the end */
} scout;

static weft_status scout_cluster(scout *s, weft_doc_id *smallest, int64_t *size) {
    unsigned char key[KEY_BYTES];
    memcpy(key, s->record, KEY_BYTES);
    *smallest = id_of(s->record);
    *size = 0;
    do {
        weft_doc_id id = id_of(s->record);
        if (id < *smallest) *smallest = id;
        ++*size;
        WEFT_TRY(weft_pass_next(s->in, WEFT_EXACT_BYTES, &s->record));
    } while (s->record && memcmp(s->record, key, KEY_BYTES) == 0);
    return WEFT_OK;
}

static weft_status write_cluster(const weft_pass *p, const weft_dedup_job *job, weft_doc_id smallest,
                                 int64_t size) {
    const unsigned char *record;
    unsigned char packed[WEFT_DROP_BYTES];
    weft_drop d = {
        .cluster = smallest, .size = size > UINT32_MAX ? UINT32_MAX : (uint32_t)size, .similarity = 1};
    for (int64_t i = 0; i < size; i++) {
        WEFT_TRY(weft_pass_next(p->in, WEFT_EXACT_BYTES, &record));
        d.id = id_of(record);
        if (i == 0) d.kept = d.id;
        if (size == 1) break;
        weft_drop_pack(&d, packed);
        WEFT_TRY(weft_spill_add(p->out, weft_doc_partition(d.id, job->units, job->partitions), packed,
                                sizeof packed));
    }
    return WEFT_OK;
}

static weft_status reduce(const weft_pass *p, scout *s, const weft_dedup_job *job,
                          weft_exact_counts *counts) {
    WEFT_TRY(weft_pass_next(s->in, WEFT_EXACT_BYTES, &s->record));
    while (s->record) {
        weft_doc_id smallest;
        int64_t size;
        WEFT_TRY(scout_cluster(s, &smallest, &size));
        WEFT_TRY(write_cluster(p, job, smallest, size));
        counts->documents += size;
        counts->clusters += size > 1;
        counts->dropped += size - 1;
    }
    return WEFT_OK;
}

weft_status weft_exact_reduce(const weft_dedup_job *job, int partition, char *const *keys, int files,
                              const char *out, weft_exact_counts *counts) {
    weft_pass p;
    scout s = {0};
    weft_exact_counts n = {0};
    WEFT_TRY(weft_pass_open(&p, job, partition, keys, files, WEFT_EXACT_BYTES, out, WEFT_DROP_BYTES));
    weft_status st = weft_pass_reader(&s.in, job, partition, keys, files, WEFT_EXACT_BYTES, out, "scout");
    if (st == WEFT_OK) {
        st = reduce(&p, &s, job, &n);
        weft_spilled_close(s.in);
    }
    WEFT_TRY(weft_pass_close(&p, st));
    *counts = n;
    return WEFT_OK;
}
