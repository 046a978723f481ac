#include "made_spill.h"
#include "runtime/fs.h"

#include <stdlib.h>
#include <string.h>

made_spills made_spills_named(const char *dir, const char *stage, int count, int partitions) {
    made_spills s = {.count = count, .partitions = partitions};
    ck_assert_int_le(count, MADE_MAX_FILES);
    for (int i = 0; i < count; i++) s.paths[i] = weft_format("%s/%s.%d", dir, stage, i);
    return s;
}

void made_spills_free(made_spills *s) {
    for (int i = 0; i < s->count; i++) free(s->paths[i]);
    *s = (made_spills){0};
}

void made_spills_reverse(made_spills *s) {
    for (int i = 0, j = s->count - 1; i < j; i++, j--) {
        char *path = s->paths[i];
        s->paths[i] = s->paths[j];
        s->paths[j] = path;
    }
}

void made_spills_write(const made_spills *s, const void *records, size_t count, size_t record_bytes,
                       int (*partition_of)(const unsigned char *record, const void *arg), const void *arg) {
    for (int f = 0; f < s->count; f++) {
        weft_spill *out;
        ck_assert_int_eq(weft_spill_create(&out, s->paths[f], s->partitions, record_bytes, 1 << 16), WEFT_OK);
        for (size_t i = (size_t)f; i < count; i += (size_t)s->count) {
            const unsigned char *record = (const unsigned char *)records + i * record_bytes;
            made_must(weft_spill_add(out, partition_of(record, arg), record, record_bytes) == WEFT_OK);
        }
        ck_assert_int_eq(weft_spill_finish(out), WEFT_OK);
    }
}

unsigned char *made_spills_read(const made_spills *s, size_t record_bytes, size_t *count) {
    unsigned char *all = NULL;
    size_t room = 0;
    *count = 0;
    char *temp = weft_format("%s.read", s->paths[0]);
    for (int p = 0; p < s->partitions; p++) {
        weft_spilled *in;
        ck_assert_int_eq(weft_spilled_open(&in, s->paths, s->count, p, record_bytes, 1 << 20, temp), WEFT_OK);
        for (;;) {
            const void *record;
            size_t bytes;
            made_must(weft_spilled_next(in, &record, &bytes) == WEFT_OK);
            if (!record) break;
            made_must(bytes == record_bytes);
            if (*count == room) {
                room = room ? 2 * room : 256;
                all = realloc(all, room * record_bytes);
                made_must(all);
            }
            memcpy(all + (*count)++ * record_bytes, record, record_bytes);
        }
        weft_spilled_close(in);
    }
    free(temp);
    return all;
}
