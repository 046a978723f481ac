#include "made_records.h"
#include "runtime/fs.h"
#include "runtime/rng.h"
#include "support/suite.h"

#include <dirent.h>
#include <string.h>

uint64_t made_random(void) {
    static uint64_t at;
    return weft_rng_u64(weft_rng_make(7, "spill"), at++);
}

/* Lengths around a key's, a few beyond a block and beyond a third of the least memory. */
static size_t length_of(made_kind k, size_t i) {
    if (k == EQUAL) return 20;
    if (k == LARGE && i % 97 == 0) return i == 97 ? 700000 : 60000 + made_random() % 120000;
    return made_random() % (k == LARGE ? 600 : 60);
}

static made_record make_record(const made_records *m, made_kind k, size_t i) {
    made_record r = {.bytes = m->record_bytes ? m->record_bytes : length_of(k, i), .order = i};
    r.data = malloc(r.bytes + 1);
    for (size_t b = 0; b < r.bytes; b++)
        r.data[b] = (char)(k == EQUAL ? 'x' : k == FEW_KEYS ? made_random() % 2 : made_random());
    /* The last bytes, behind the key of records with a length, tell equal ones apart. */
    if (!m->record_bytes && r.bytes >= m->key_bytes + 8) memcpy(r.data + r.bytes - 8, &i, 8);
    r.partition = (int)(made_random() % (uint64_t)m->partitions);
    if (k == ONE_PARTITION || k == EQUAL || k == LARGE) r.partition = m->partitions / 2;
    if (k == BY_PARTITION) r.partition = (int)(i / 100 % (size_t)m->partitions);
    return r;
}

/* A directory below the program's own, for there are many. */
static char *new_dir(void) {
    static const char *base;
    static int count;
    if (!base) base = made_dir();
    char *dir = weft_format("%s/%d", base, count++);
    ck_assert_int_eq(weft_fs_mkdir(dir), WEFT_OK);
    return dir;
}

made_records made_records_write(made_kind k, size_t record_bytes, size_t key_bytes, int partitions, int files,
                                size_t count, size_t buffer) {
    made_records m = {.dir = new_dir(),
                      .paths = malloc((size_t)files * sizeof(char *)),
                      .files = files,
                      .partitions = partitions,
                      .record_bytes = record_bytes,
                      .key_bytes = key_bytes,
                      .records = malloc((count + 1) * sizeof(made_record)),
                      .count = count};
    size_t at = 0;
    for (int f = 0; f < files; f++) {
        weft_spill *s;
        size_t end = f == files - 1 ? count : count * (size_t)f / (size_t)files; /* the first file is empty */
        m.paths[f] = weft_format("%s/%d.spill", m.dir, f);
        ck_assert_int_eq(weft_spill_create(&s, m.paths[f], partitions, record_bytes, buffer), WEFT_OK);
        for (; at < end; at++) {
            made_record r = m.records[at] = make_record(&m, k, at);
            MUST(weft_spill_add(s, r.partition, r.data, r.bytes) == WEFT_OK);
        }
        ck_assert_int_eq(weft_spill_finish(s), WEFT_OK);
    }
    return m;
}

void made_records_free(made_records *m) {
    for (size_t i = 0; i < m->count; i++) free(m->records[i].data);
    for (int f = 0; f < m->files; f++) free(m->paths[f]);
    weft_fs_remove_tree(m->dir);
    free(m->records);
    free(m->paths);
    free(m->dir);
}

static size_t g_limit; /* of the key */

static int by_key(const void *x, const void *y) {
    const made_record *a = *(const made_record *const *)x, *b = *(const made_record *const *)y;
    for (size_t i = 0; i < g_limit && (i < a->bytes || i < b->bytes); i++) {
        int p = i < a->bytes ? (unsigned char)a->data[i] : 0,
            q = i < b->bytes ? (unsigned char)b->data[i] : 0;
        if (p != q) return p - q;
    }
    return a->order < b->order ? -1 : 1;
}

/* The records of a partition in the order in which they must come. */
static made_record **expected(const made_records *m, int partition, size_t *count) {
    made_record **list = malloc((m->count + 1) * sizeof *list);
    *count = 0;
    for (size_t i = 0; i < m->count; i++)
        if (m->records[i].partition == partition) list[(*count)++] = &m->records[i];
    g_limit = m->record_bytes ? m->record_bytes : m->key_bytes;
    qsort(list, *count, sizeof *list, by_key);
    return list;
}

char *made_records_temp(const made_records *m) {
    return weft_format("%s/temp", m->dir);
}

bool made_records_alone(const made_records *m) {
    DIR *dir = opendir(m->dir);
    bool clean = true;
    for (struct dirent *e; (e = readdir(dir));) {
        const char *dot = strrchr(e->d_name, '.');
        if (e->d_name[0] != '.' && (!dot || strcmp(dot, ".spill") != 0)) clean = false;
    }
    closedir(dir);
    return clean;
}

weft_status made_records_check(const made_records *m, int partition, size_t memory) {
    weft_spilled *s;
    size_t count, n = 0;
    made_record **want = expected(m, partition, &count);
    char *temp = made_records_temp(m);
    weft_status st = weft_spilled_open(&s, m->paths, m->files, partition, m->key_bytes, memory, temp);
    for (const void *got; st == WEFT_OK; n++) {
        size_t bytes;
        st = weft_spilled_next(s, &got, &bytes);
        if (st != WEFT_OK || !got) {
            weft_spilled_close(s);
            break;
        }
        MUST(n < count && bytes == want[n]->bytes);
        MUST(memcmp(got, want[n]->data, bytes) == 0);
    }
    ck_assert(made_records_alone(m));
    if (st == WEFT_OK) ck_assert_uint_eq(n, count);
    free(temp);
    free(want);
    return st;
}

void made_records_check_all(const made_records *m, size_t memory) {
    for (int p = 0; p < m->partitions; p++) ck_assert_int_eq(made_records_check(m, p, memory), WEFT_OK);
}
