/* data/work/docs_*: documents come back as they were put in, one or all; what is damaged is refused.
 */
#include "data/work/docs.h"
#include "data/work/docs_format.h"
#include "made_data.h"
#include "runtime/fs.h"
#include "runtime/rng.h"
#include "support/suite.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

/* ---- documents by formula: a pure function of unit and number ---- */

typedef struct document {
    weft_docs_row about;
    char *text, *extra;
} document;

static const char words[] =
    "weft carries the thread across the warp and back again, under and over, row by row. ";

/* Every third number is left out; sizes from nothing to several blocks; every second has no extra. */
static document make_document(uint64_t unit, uint32_t number, size_t longest) {
    weft_rng r = weft_rng_make(unit, "store");
    uint64_t at = (uint64_t)number << 32;
    document d = {.about = {.index = number + number / 2,
                            .domain = number % 5,
                            .file = (uint32_t)unit,
                            .tags = number * 7,
                            .place = (uint64_t)number << 33,
                            .hash = weft_rng_u64(r, at++),
                            .quality = (float)number / 4}};
    size_t bytes =
        weft_rng_below(r, at++, 4) ? weft_rng_below(r, at++, 3000) : weft_rng_below(r, at++, longest + 1);
    size_t extra = number % 2 ? weft_rng_below(r, at++, 50) : 0;
    if (number == 3) bytes = 0;
    if (number == 5) bytes = longest;
    d.about.text_bytes = (uint32_t)bytes;
    d.about.extra_bytes = (uint32_t)extra;
    d.text = malloc(bytes + 1);
    d.extra = malloc(extra + 1);
    uint64_t start = weft_rng_below(r, at++, 80);
    for (size_t i = 0; i < bytes; i++)
        d.text[i] = i % 50 ? words[(start + i) % (sizeof words - 1)] : (char)weft_rng_u64(r, at++);
    for (size_t i = 0; i < extra; i++) d.extra[i] = (char)weft_rng_u64(r, at++);
    return d;
}

static void drop(document *d) {
    free(d->text);
    free(d->extra);
}

static char *write_store(const char *dir, uint64_t unit, uint32_t count, size_t longest) {
    weft_docs_writer *w;
    int64_t text = 0;
    char *path = weft_format("%s/%llu.store", dir, (unsigned long long)unit);
    ck_assert_int_eq(weft_docs_create(&w, path), WEFT_OK);
    for (uint32_t i = 0; i < count; i++) {
        document d = make_document(unit, i, longest);
        weft_docs_row about = d.about;
        about.text_bytes = about.extra_bytes = 77; /* the store sets them */
        ck_assert_int_eq(weft_docs_add(w, &about, d.text, d.about.text_bytes,
                                       d.about.extra_bytes ? d.extra : NULL, d.about.extra_bytes),
                         WEFT_OK);
        text += d.about.text_bytes;
        ck_assert_int_eq(weft_docs_text_bytes(w), text);
        drop(&d);
    }
    ck_assert_int_eq(weft_docs_finish(w), WEFT_OK);
    return path;
}

static bool same(const document *want, const weft_docs_row *about, const char *text, const void *extra) {
    const weft_docs_row *a = &want->about;
    return a->index == about->index && a->domain == about->domain && a->file == about->file &&
           a->tags == about->tags && a->place == about->place && a->hash == about->hash &&
           a->quality == about->quality && a->text_bytes == about->text_bytes &&
           a->extra_bytes == about->extra_bytes && memcmp(text, want->text, a->text_bytes) == 0 &&
           (a->extra_bytes > 0) == (extra != NULL) &&
           (!extra || ((uintptr_t)extra % 8 == 0 && memcmp(extra, want->extra, a->extra_bytes) == 0));
}

/* A document of an opened store against the formula: the failure, or OK; the test fails on a wrong one. */
static weft_status check_row(weft_docs *s, uint64_t unit, uint32_t number, size_t longest) {
    const char *text;
    const void *extra;
    WEFT_TRY(weft_docs_read(s, number, &text, &extra));
    document want = make_document(unit, number, longest);
    ck_assert_msg(same(&want, weft_docs_about(s, number), text, extra), "document %u is another", number);
    drop(&want);
    return WEFT_OK;
}

/* ---- round trips ---- */

static void round_trip(uint32_t count, size_t longest) {
    weft_docs *s;
    char *path = write_store(made_dir(), 9, count, longest);
    ck_assert_int_eq(weft_docs_open(&s, path), WEFT_OK);
    ck_assert_int_eq(weft_docs_count(s), count);
    for (uint32_t i = 0; i < count; i++) ck_assert_int_eq(check_row(s, 9, i, longest), WEFT_OK);
    weft_rng r = weft_rng_make(1, "rows");
    for (uint32_t i = 0; count > 0 && i < 200; i++)
        ck_assert_int_eq(check_row(s, 9, (uint32_t)weft_rng_below(r, i, count), longest), WEFT_OK);
    for (uint32_t i = 0; i < count; i++) {
        ck_assert_int_eq(weft_docs_find(s, i + i / 2), i);
        if (i % 2) ck_assert_int_eq(weft_docs_find(s, i + i / 2 + 1), -1);
    }
    ck_assert_int_eq(weft_docs_find(s, count + count / 2 + 1), -1);
    weft_docs_close(s);
    free(path);
}

START_TEST(written_is_read) {
    round_trip(0, 0);
    round_trip(1, 100);
    round_trip(10, 0);
    round_trip(3000, 5000);
    round_trip(300, 200000);
    weft_docs_close(NULL);
    weft_docs_abandon(NULL);
    weft_docs_pool_free(NULL);
}
END_TEST

START_TEST(a_document_of_5_mb) {
    round_trip(8, 5 << 20);
}
END_TEST

START_TEST(text_is_packed) {
    char *path = write_store(made_dir(), 9, 3000, 5000);
    document d;
    long text = 0;
    for (uint32_t i = 0; i < 3000; i++) {
        d = make_document(9, i, 5000);
        text += d.about.text_bytes;
        drop(&d);
    }
    ck_assert_int_lt(made_size(path), text / 4);
    free(path);
}
END_TEST

START_TEST(same_documents_same_bytes) {
    weft_hash128 a, b;
    char *p = write_store(made_dir(), 4, 300, 9000), *q = write_store(made_dir(), 4, 300, 9000);
    ck_assert_int_eq(weft_hash_file(p, &a, NULL), WEFT_OK);
    ck_assert_int_eq(weft_hash_file(q, &b, NULL), WEFT_OK);
    ck_assert_mem_eq(&a, &b, sizeof a);
    free(p);
    free(q);
}
END_TEST

START_TEST(appears_whole_or_not) {
    weft_docs_writer *w;
    char *path = weft_format("%s/a", made_dir()), *temporary = weft_format("%s.tmp", path);
    ck_assert_int_eq(weft_fs_create_file(temporary, "left by a killed job", 20), WEFT_OK);
    ck_assert_int_eq(weft_docs_create(&w, path), WEFT_OK);
    for (uint32_t i = 0; i < 200; i++) {
        document d = make_document(1, i, 300000);
        ck_assert_int_eq(weft_docs_add(w, &d.about, d.text, d.about.text_bytes, NULL, 0), WEFT_OK);
        drop(&d);
    }
    ck_assert_int_ne(access(path, F_OK), 0);
    ck_assert_int_gt(made_size(temporary), 100);
    ck_assert_int_eq(weft_docs_finish(w), WEFT_OK);
    ck_assert_int_ne(access(temporary, F_OK), 0);
    long size = made_size(path);
    ck_assert_int_eq(weft_docs_create(&w, path), WEFT_OK);
    weft_docs_abandon(w);
    ck_assert_int_ne(access(temporary, F_OK), 0);
    ck_assert_int_eq(made_size(path), size);
    free(path);
    free(temporary);
}
END_TEST

/* ---- damage ---- */

typedef struct attempt {
    const char *path;
    uint32_t count;
    size_t longest;
    int refused; /* documents */
    weft_status status;
} attempt;

static void try_read(void *arg) {
    attempt *a = arg;
    weft_docs *s;
    a->refused = 0;
    a->status = weft_docs_open(&s, a->path);
    if (a->status != WEFT_OK) return;
    ck_assert_int_eq(weft_docs_count(s), a->count);
    for (uint32_t i = 0; i < a->count; i++) {
        weft_status st = check_row(s, 6, i, a->longest);
        if (st == WEFT_OK) continue;
        a->status = st;
        a->refused++;
    }
    weft_docs_close(s);
}

static int line_count(const char *text) {
    int n = 0;
    for (; *text; text++) n += *text == '\n';
    return n;
}

static void refused(attempt a) {
    const char *text = made_errors(try_read, &a);
    ck_assert_int_eq(a.status, WEFT_EINPUT);
    ck_assert_msg(line_count(text) == 1 && strstr(text, a.path) && strstr(text, "build again"), "%s", text);
}

START_TEST(every_flipped_bit_is_found) {
    char *path = write_store(made_dir(), 6, 12, 900);
    long size = made_size(path);
    attempt a = {.path = path, .count = 12, .longest = 900};
    for (long at = 0; at < size; at++) {
        made_flip(path, at);
        const char *text = made_errors(try_read, &a);
        ck_assert_msg(a.status == WEFT_EINPUT && strstr(text, path), "byte %ld of %ld: %d %s", at, size,
                      a.status, text);
        made_flip(path, at);
    }
    try_read(&a);
    ck_assert_int_eq(a.status, WEFT_OK);
    for (long cut = size - 1; cut >= 0; cut -= 1 + cut / 40) {
        made_cut(path, cut);
        refused(a);
    }
    free(path);
}
END_TEST

START_TEST(foreign_files_are_refused) {
    char *path = weft_format("%s/a", made_dir()), *zeros = calloc(1, 10000);
    attempt a = {.path = path};
    const char *text = made_errors(try_read, &a);
    ck_assert_int_eq(a.status, WEFT_EINPUT);
    ck_assert(strstr(text, path));
    ck_assert_int_eq(weft_fs_create_file(path, zeros, 10000), WEFT_OK);
    refused(a);
    ck_assert_int_eq(unlink(path), 0);
    ck_assert_int_eq(weft_fs_mkdir(path), WEFT_OK);
    refused(a);
    free(zeros);
    free(path);
}
END_TEST

/* A damaged block takes its own documents only; one that is decoded is not read again. */
START_TEST(a_document_reads_its_own_block_only) {
    char *path = write_store(made_dir(), 6, 400, 3000), text[4096];
    weft_docs *s;
    attempt a = {.path = path, .count = 400, .longest = 3000};
    ck_assert_int_eq(weft_docs_open(&s, path), WEFT_OK);
    ck_assert_int_eq(check_row(s, 6, 0, 3000), WEFT_OK);
    made_flip(path, 100);
    ck_assert_int_eq(check_row(s, 6, 1, 3000), WEFT_OK);
    ck_assert_int_eq(check_row(s, 6, 399, 3000), WEFT_OK);
    weft_docs_close(s);
    snprintf(text, sizeof text, "%s", made_errors(try_read, &a));
    ck_assert_int_eq(a.status, WEFT_EINPUT);
    ck_assert_int_gt(a.refused, 30);
    ck_assert_int_lt(a.refused, 200);
    free(path);
}
END_TEST

typedef struct row_attempt {
    weft_docs *s;
    uint32_t row;
    size_t longest;
    weft_status status;
} row_attempt;

static void try_row(void *arg) {
    row_attempt *a = arg;
    a->status = check_row(a->s, 6, a->row, a->longest);
}

/* A block that cannot be read leaves nothing of it, or of the one before, behind. */
START_TEST(a_damaged_block_is_not_kept) {
    row_attempt a = {.row = 5, .longest = 3 << 20}; /* the longest document, a block of its own */
    char *path = write_store(made_dir(), 6, 8, a.longest);
    weft_docs_footer f;
    weft_docs_block *table;
    char *file;
    size_t bytes;
    ck_assert_int_eq(weft_fs_read_file(path, 1 << 25, &file, &bytes), WEFT_OK);
    memcpy(&f, file + bytes - sizeof f, sizeof f);
    table = malloc(f.blocks * sizeof *table);
    memcpy(table, file + bytes - sizeof f - f.rows * sizeof(weft_docs_row) - f.blocks * sizeof *table,
           f.blocks * sizeof *table);
    for (uint64_t b = 0; b < f.blocks; b++)
        if (table[b].bytes >= a.longest) made_flip(path, (long)(table[b].offset + table[b].stored / 2));
    ck_assert_int_eq(weft_docs_open(&a.s, path), WEFT_OK);
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(check_row(a.s, 6, 1, a.longest), WEFT_OK);
        ck_assert_int_eq(line_count(made_errors(try_row, &a)), 1);
        ck_assert_int_eq(a.status, WEFT_EINPUT);
    }
    weft_docs_close(a.s);
    free(table);
    free(file);
    free(path);
}
END_TEST

static void misuse(void *arg) {
    weft_docs_writer *w;
    weft_docs *s;
    weft_docs_pool *t;
    const char *text;
    const void *extra;
    weft_docs_row about = {.index = 5};
    ck_assert_int_eq(weft_docs_create(&w, "/no such directory/a"), WEFT_EIO);
    ck_assert_int_eq(weft_docs_create(&w, arg), WEFT_OK);
    ck_assert_int_eq(weft_docs_add(w, &about, "x", 1, NULL, 0), WEFT_OK);
    ck_assert_int_eq(weft_docs_add(w, &about, "x", 1, NULL, 0), WEFT_EINTERNAL);
    ck_assert_int_eq(weft_docs_add(w, &about, "x", (size_t)1 << 32, NULL, 0), WEFT_EINPUT);
    ck_assert_int_eq(weft_docs_finish(w), WEFT_OK);
    ck_assert_int_eq(weft_docs_open(&s, arg), WEFT_OK);
    ck_assert_int_eq(weft_docs_read(s, 1, &text, &extra), WEFT_EINTERNAL);
    ck_assert_int_eq(weft_docs_read(s, -1, &text, &extra), WEFT_EINTERNAL);
    weft_docs_close(s);
    ck_assert_int_eq(weft_docs_pool_new(&t, 0, NULL, NULL), WEFT_EINTERNAL);
}

START_TEST(misuse_is_refused) {
    char *path = weft_format("%s/a", made_dir());
    ck_assert_int_eq(line_count(made_errors(misuse, path)), 6);
    free(path);
}
END_TEST

static void write_on(void *arg) {
    attempt *a = arg;
    weft_docs_writer *w;
    a->status = weft_docs_create(&w, a->path);
    for (uint32_t i = 0; i < a->count && a->status == WEFT_OK; i++) {
        document d = make_document(1, i, a->longest);
        a->status = weft_docs_add(w, &d.about, d.text, d.about.text_bytes, NULL, 0);
        drop(&d);
    }
    if (a->status == WEFT_OK) a->status = weft_docs_finish(w);
    if (a->status != WEFT_OK) weft_docs_abandon(w);
}

START_TEST(a_full_disk_is_said_once) {
    const char *dir = made_dir();
    char *path = weft_format("%s/a", dir);
    for (uint32_t count = 100; count <= 20000; count *= 20) { /* fails at the end; while adding */
        char text[4096];
        attempt a = {.path = path, .count = count, .longest = 50000};
        made_limit_files(10000);
        snprintf(text, sizeof text, "%s", made_errors(write_on, &a));
        made_limit_files(RLIM_INFINITY);
        ck_assert_int_eq(a.status, WEFT_EIO);
        ck_assert_msg(line_count(text) == 1 && strstr(text, path), "%s", text);
        ck_assert_int_eq(rmdir(dir), 0); /* nothing is left in it */
        ck_assert_int_eq(weft_fs_mkdir(dir), WEFT_OK);
    }
    free(path);
}
END_TEST

/* ---- several stores ---- */

enum { UNITS = 5, EACH = 60, LONGEST = 4000 };

typedef struct finder {
    const char *dir;
    int asked; /* how often a path was: that is, a store opened */
} finder;

static weft_status path_of(void *arg, uint64_t unit, char path[]) {
    finder *f = arg;
    f->asked++;
    return weft_fs_path(path, "%s/%llu.store", f->dir, (unsigned long long)unit);
}

static void check_id(weft_docs_pool *s, uint64_t unit, uint32_t number) {
    const weft_docs_row *about;
    const char *text;
    const void *extra;
    weft_doc_id id = weft_doc_id_of(unit, number + number / 2);
    ck_assert_int_eq(weft_docs_pool_read(s, id, &about, &text, &extra), WEFT_OK);
    document want = make_document(unit, number, LONGEST);
    ck_assert_msg(same(&want, about, text, extra), "document %u of unit %d is another", number, (int)unit);
    drop(&want);
}

static int open_files(void) {
    int n = 0;
    DIR *dir = opendir("/proc/self/fd");
    while (dir && readdir(dir)) n++;
    if (dir) closedir(dir);
    return n;
}

static void check_stores(const char *dir, int open) {
    weft_docs_pool *s;
    finder f = {.dir = dir};
    int before = open_files();
    weft_rng r = weft_rng_make((uint64_t)open, "ids");
    ck_assert_int_eq(weft_docs_pool_new(&s, open, path_of, &f), WEFT_OK);
    for (uint64_t i = 0; i < 200; i++) {
        check_id(s, weft_rng_below(r, 2 * i, UNITS), (uint32_t)weft_rng_below(r, 2 * i + 1, EACH));
        ck_assert_int_le(open_files(), before + open);
    }
    if (open >= UNITS) ck_assert_int_eq(f.asked, UNITS);
    weft_docs_pool_free(s);
    ck_assert_int_eq(open_files(), before);
}

static void read_strangers(void *arg) {
    weft_docs_pool *s = arg;
    const weft_docs_row *about;
    const char *text;
    const void *extra;
    ck_assert_int_eq(weft_docs_pool_read(s, weft_doc_id_of(2, 2), &about, &text, &extra), WEFT_EINTERNAL);
    ck_assert_int_eq(weft_docs_pool_read(s, weft_doc_id_of(77, 0), &about, &text, &extra), WEFT_EINPUT);
}

START_TEST(stores_read_by_id) {
    const char *dir = made_dir();
    for (uint64_t unit = 0; unit < UNITS; unit++) free(write_store(dir, unit, EACH, LONGEST));
    check_stores(dir, 1);
    check_stores(dir, 2);
    check_stores(dir, UNITS);
    check_stores(dir, 100);
    weft_docs_pool *s;
    finder f = {.dir = dir};
    ck_assert_int_eq(weft_docs_pool_new(&s, 3, path_of, &f), WEFT_OK);
    for (uint64_t unit = 0; unit < 3; unit++) check_id(s, unit, 1);
    check_id(s, 0, 2);
    check_id(s, 3, 1); /* unit 1 is the one longest not used */
    check_id(s, 0, 3);
    check_id(s, 2, 3);
    ck_assert_int_eq(f.asked, 4);
    check_id(s, 1, 3);
    ck_assert_int_eq(f.asked, 5);
    ck_assert_int_eq(line_count(made_errors(read_strangers, s)), 2);
    for (uint64_t unit = 0; unit < UNITS; unit++) check_id(s, unit, 9);
    weft_docs_pool_free(s);
}
END_TEST

START_TEST(ids_are_unit_and_index) {
    weft_doc_id id = weft_doc_id_of(WEFT_DOC_MAX_UNIT, WEFT_DOC_MAX_INDEX);
    ck_assert_uint_eq(weft_doc_unit(id), WEFT_DOC_MAX_UNIT);
    ck_assert_uint_eq(weft_doc_index(id), WEFT_DOC_MAX_INDEX);
    ck_assert_uint_lt(weft_doc_id_of(3, WEFT_DOC_MAX_INDEX), weft_doc_id_of(4, 0));
}
END_TEST

SUITE_MAIN("data/docs", written_is_read, a_document_of_5_mb, text_is_packed, same_documents_same_bytes,
           appears_whole_or_not, every_flipped_bit_is_found, foreign_files_are_refused,
           a_document_reads_its_own_block_only, a_damaged_block_is_not_kept, misuse_is_refused,
           a_full_disk_is_said_once, stores_read_by_id, ids_are_unit_and_index)
