/* data/shard_*: what is written is read back, by weft and by the HDF5 library; what is damaged is refused. */
#include "made_data.h"
#include "data/shard/h5z_zstd.h"
#include "data/shard/shard_format.h"
#include "data/shard/verify.h"
#include "runtime/fs.h"
#include "support/suite.h"

#include <fcntl.h>
#include <hdf5.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const made_domain web = {
    .name = "web", .documents = 300, .longest = 1500, .per_shard = 1000, .masked = true};

static weft_shard_info about(int64_t vocab) {
    return (weft_shard_info){
        .domain = "web", .vocab_size = vocab, .bos = 1, .eos = 2, .tokenizer = {1, 2}, .pipeline = {3, 4}};
}

static char *write_one(const char *name, int64_t vocab, weft_shard_info *info) {
    char *path = weft_format("%s/%s", made_dir(), name);
    weft_shard_writer *w;
    weft_shard_info want = about(vocab);
    ck_assert_int_eq(weft_shard_writer_open(&w, path, &want), WEFT_OK);
    for (int i = 0; i < web.documents; i++) {
        size_t n;
        int32_t *ids = made_document(vocab, &web, 0, i, &n);
        weft_shard_origin origin = made_origin(3, 0, i);
        weft_shard_range masked[MADE_MASKED];
        size_t ranges = made_masked(&web, i, n, masked);
        ck_assert_int_eq(weft_shard_writer_add(w, ids, n, n + 5, &origin, masked, ranges), WEFT_OK);
        free(ids);
    }
    ck_assert_int_eq(weft_shard_writer_finish(w, info), WEFT_OK);
    return path;
}

/* Origins and masks in bulk, and each document by its number and by its tokens. */
static void check_documents(const weft_shard *s, const uint64_t *ends, int64_t vocab) {
    weft_shard_origin *origins, origin;
    weft_shard_range *masked;
    size_t ranges;
    uint64_t before = 0;
    char *want = made_stream_masks(vocab, &web, 0), *got = calloc(ends[web.documents - 1], 1);
    ck_assert_int_eq(weft_shard_read_origins(s, &origins), WEFT_OK);
    ck_assert_int_eq(weft_shard_read_masked(s, &masked, &ranges), WEFT_OK);
    ck_assert_uint_gt(ranges, 100);
    for (size_t i = 0; i < ranges; i++) memset(got + masked[i].first, 1, masked[i].count);
    ck_assert_mem_eq(got, want, ends[web.documents - 1]);
    for (int i = 0; i < web.documents; i++) {
        weft_shard_origin made = made_origin(3, 0, i);
        uint64_t first, end, tokens[] = {before, before + 1, (before + ends[i]) / 2, ends[i] - 1};
        int64_t document;
        ck_assert_mem_eq(&origins[i], &made, sizeof made);
        ck_assert_int_eq(weft_shard_document(s, i, &first, &end, &origin), WEFT_OK);
        ck_assert_mem_eq(&origin, &made, sizeof made);
        ck_assert_uint_eq(first, before);
        ck_assert_uint_eq(end, ends[i]);
        for (int k = 0; k < 4; k++) {
            ck_assert_int_eq(weft_shard_find(s, tokens[k], &document, &first, &origin), WEFT_OK);
            ck_assert_int_eq(document, i);
            ck_assert_uint_eq(first, before);
            ck_assert_mem_eq(&origin, &made, sizeof made);
        }
        before = ends[i];
    }
    free(origins);
    free(masked);
    free(want);
    free(got);
}

static void check_round_trip(int64_t vocab) {
    weft_shard_info info;
    weft_shard *s;
    weft_shard_decoder *d;
    char *path = write_one("a.h5", vocab, &info);
    int64_t count;
    int32_t *want = made_stream(vocab, &web, 0, &count);
    ck_assert_int_eq(weft_shard_open(&s, path), WEFT_OK);
    ck_assert_int_eq(weft_shard_decoder_new(&d, vocab), WEFT_OK);
    const weft_shard_info *got = weft_shard_about(s);
    ck_assert_mem_eq(got, &info, sizeof info);
    ck_assert_int_eq(got->tokens, count);
    ck_assert_int_eq(got->documents, web.documents);
    ck_assert_int_gt(got->chunks, 2);
    char *chunk = malloc(weft_shard_chunk_bytes(vocab));
    for (int64_t c = 0; c < got->chunks; c++) {
        ck_assert_int_eq(weft_shard_read_chunk(s, c, d, chunk), WEFT_OK);
        for (int64_t i = 0; i < WEFT_SHARD_CHUNK_TOKENS; i++) {
            int64_t at = c * WEFT_SHARD_CHUNK_TOKENS + i;
            int64_t id = vocab <= 65536 ? ((uint16_t *)chunk)[i] : ((uint32_t *)chunk)[i];
            ck_assert_int_eq(id, at < count ? want[at] : 0);
        }
    }
    uint64_t *ends, before = 0;
    uint32_t *bytes;
    ck_assert_int_eq(weft_shard_read_documents(s, &ends, &bytes), WEFT_OK);
    for (int i = 0; i < web.documents; i++) {
        ck_assert_int_eq(want[before], 1);
        ck_assert_int_eq(want[ends[i] - 1], 2);
        ck_assert_uint_eq(bytes[i], ends[i] - before - 2 + 5);
        before = ends[i];
    }
    ck_assert_uint_eq(before, (uint64_t)count);
    check_documents(s, ends, vocab);
    free(ends);
    free(bytes);
    free(chunk);
    free(want);
    free(path);
    weft_shard_decoder_free(d);
    weft_shard_close(s);
}

START_TEST(written_is_read_u16) {
    check_round_trip(50000);
}
END_TEST
START_TEST(written_is_read_u16_limit) {
    check_round_trip(65536);
}
END_TEST
START_TEST(written_is_read_u32) {
    check_round_trip(65537);
}
END_TEST

static void check_tables(hid_t file) {
    hsize_t dims[2];
    uint64_t *origins = malloc((size_t)web.documents * 4 * sizeof *origins);
    hid_t set = H5Dopen2(file, "doc_origin", H5P_DEFAULT), space = H5Dget_space(set);
    ck_assert_int_eq(H5Sget_simple_extent_dims(space, dims, NULL), 2);
    ck_assert_uint_eq(dims[0], (hsize_t)web.documents);
    ck_assert_uint_eq(dims[1], 4);
    ck_assert_int_ge(H5Dread(set, H5T_NATIVE_UINT64, H5S_ALL, H5S_ALL, H5P_DEFAULT, origins), 0);
    weft_shard_origin want = made_origin(3, 0, 17);
    ck_assert_mem_eq(origins + (size_t)17 * 4, &want, sizeof want);
    free(origins);
    H5Sclose(space);
    H5Dclose(set);
    set = H5Dopen2(file, "masked", H5P_DEFAULT), space = H5Dget_space(set);
    ck_assert_int_eq(H5Sget_simple_extent_dims(space, dims, NULL), 2);
    ck_assert_uint_gt(dims[0], 100);
    ck_assert_uint_eq(dims[1], 2);
    H5Sclose(space);
    H5Dclose(set);
}

START_TEST(hdf5_reads_it_too) {
    weft_shard_info info;
    char *path = write_one("b.h5", 50000, &info), text[64] = {0};
    int64_t count;
    int32_t *want = made_stream(50000, &web, 0, &count), *got = malloc((size_t)count * sizeof *got);
    hid_t file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
    ck_assert_int_ge(file, 0);
    hid_t set = H5Dopen2(file, "tokens", H5P_DEFAULT), space = H5Dget_space(set);
    ck_assert_int_eq(H5Sget_simple_extent_npoints(space), count);
    ck_assert_int_ge(H5Dread(set, H5T_NATIVE_INT32, H5S_ALL, H5S_ALL, H5P_DEFAULT, got), 0);
    ck_assert_mem_eq(got, want, (size_t)count * sizeof *got);
    H5Sclose(space);
    H5Dclose(set);
    check_tables(file);
    int64_t docs;
    hid_t a = H5Aopen(file, "doc_count", H5P_DEFAULT);
    ck_assert_int_ge(H5Aread(a, H5T_NATIVE_INT64, &docs), 0);
    ck_assert_int_eq(docs, web.documents);
    H5Aclose(a);
    a = H5Aopen(file, "tokenizer", H5P_DEFAULT);
    hid_t type = H5Aget_type(a);
    ck_assert_int_ge(H5Aread(a, type, text), 0);
    ck_assert_str_eq(text, "00000000000000010000000000000002");
    H5Tclose(type);
    H5Aclose(a);
    H5Fclose(file);
    free(got);
    free(want);
    free(path);
}
END_TEST

/* The registered filter compresses as well: a chunk that HDF5 itself wrote comes back. */
START_TEST(hdf5_compresses_with_the_filter) {
    char *path = weft_format("%s/filter.h5", made_dir());
    hsize_t n = 100000, chunk = 4096;
    ck_assert_int_eq(weft_h5z_zstd_register(), WEFT_OK);
    int32_t *x = malloc(n * sizeof *x), *y = calloc(n, sizeof *y);
    for (hsize_t i = 0; i < n; i++) x[i] = (int32_t)(i / 7);
    hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    hid_t space = H5Screate_simple(1, &n, NULL), plist = H5Pcreate(H5P_DATASET_CREATE);
    ck_assert_int_ge(H5Pset_chunk(plist, 1, &chunk), 0);
    ck_assert_int_ge(H5Pset_filter(plist, WEFT_H5Z_ZSTD, 0, 0, NULL), 0);
    hid_t set = H5Dcreate2(file, "x", H5T_STD_I32LE, space, H5P_DEFAULT, plist, H5P_DEFAULT);
    ck_assert_int_ge(H5Dwrite(set, H5T_NATIVE_INT32, H5S_ALL, H5S_ALL, H5P_DEFAULT, x), 0);
    ck_assert_uint_lt(H5Dget_storage_size(set), n * sizeof *x / 2);
    H5Dclose(set);
    H5Fclose(file);
    file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
    set = H5Dopen2(file, "x", H5P_DEFAULT);
    ck_assert_int_ge(H5Dread(set, H5T_NATIVE_INT32, H5S_ALL, H5S_ALL, H5P_DEFAULT, y), 0);
    ck_assert_mem_eq(x, y, n * sizeof *x);
    H5Dclose(set);
    H5Pclose(plist);
    H5Sclose(space);
    H5Fclose(file);
    free(x);
    free(y);
    free(path);
}
END_TEST

START_TEST(same_documents_same_bytes) {
    weft_shard_info i, j;
    weft_hash128 a, b;
    char *p = write_one("a.h5", 50000, &i);
    sleep(1); /* a time stamp in the file would differ */
    char *q = write_one("b.h5", 50000, &j);
    ck_assert_int_eq(weft_hash_file(p, &a, NULL), WEFT_OK);
    ck_assert_int_eq(weft_hash_file(q, &b, NULL), WEFT_OK);
    ck_assert_mem_eq(&a, &b, sizeof a);
    free(p);
    free(q);
}
END_TEST

START_TEST(control_tokens_and_strangers_are_refused) {
    const int32_t wrong[] = {1, 2, -1, 50000};
    for (int i = 0; i < 4; i++) {
        weft_shard_writer *w;
        weft_shard_info want = about(50000);
        char *path = weft_format("%s/x.h5", made_dir());
        const int32_t ids[] = {5, wrong[i], 6};
        ck_assert_int_eq(weft_shard_writer_open(&w, path, &want), WEFT_OK);
        ck_assert_int_eq(weft_shard_writer_add(w, ids, 3, 3, &(weft_shard_origin){0}, NULL, 0),
                         WEFT_EINTERNAL);
        weft_shard_writer_abandon(w);
        ck_assert_int_ne(access(path, F_OK), 0);
        free(path);
    }
}
END_TEST

START_TEST(masked_ranges_outside_their_document_are_refused) {
    static const weft_shard_range wrong[][2] = {{{0, 0}, {1, 1}},         {{0, 4}, {4, 1}}, {{3, 1}, {0, 0}},
                                                {{2, 1}, {0, 1}},         {{0, 2}, {1, 1}}, {{0, 1}, {2, 2}},
                                                {{0, 1}, {UINT64_MAX, 2}}};
    const int32_t ids[] = {5, 6, 7};
    weft_shard_writer *w;
    weft_shard_info want = about(50000), info;
    char *path = weft_format("%s/x.h5", made_dir());
    ck_assert_int_eq(weft_shard_writer_open(&w, path, &want), WEFT_OK);
    for (int i = 0; i < 7; i++)
        ck_assert_int_eq(weft_shard_writer_add(w, ids, 3, 3, &(weft_shard_origin){0}, wrong[i], 2),
                         WEFT_EINTERNAL);
    static const weft_shard_range right[2] = {{0, 2}, {2, 1}};
    ck_assert_int_eq(weft_shard_writer_add(w, ids, 3, 3, &(weft_shard_origin){0}, right, 2), WEFT_OK);
    ck_assert_int_eq(weft_shard_writer_finish(w, &info), WEFT_OK);
    ck_assert_int_eq(info.documents, 1);
    free(path);
}
END_TEST

/* What is masked is part of what a run trains on, so the content's digest covers it; origins are not. */
START_TEST(content_covers_masks) {
    const int32_t ids[] = {5, 6, 7, 8};
    weft_hash128 content[4];
    for (int i = 0; i < 4; i++) {
        weft_shard_writer *w;
        weft_shard_info want = about(50000), info;
        char *path = weft_format("%s/x.h5", made_dir());
        const weft_shard_range masked = {1, i == 1 ? 1 : 2};
        ck_assert_int_eq(weft_shard_writer_open(&w, path, &want), WEFT_OK);
        ck_assert_int_eq(
            weft_shard_writer_add(w, ids, 4, 4, &(weft_shard_origin){.id = (uint64_t)i}, &masked, i > 0),
            WEFT_OK);
        ck_assert_int_eq(weft_shard_writer_finish(w, &info), WEFT_OK);
        content[i] = info.content;
        free(path);
    }
    ck_assert_mem_ne(&content[0], &content[1], sizeof *content);
    ck_assert_mem_ne(&content[0], &content[2], sizeof *content);
    ck_assert_mem_ne(&content[1], &content[2], sizeof *content);
    ck_assert_mem_eq(&content[2], &content[3], sizeof *content);
}
END_TEST

struct opening {
    const char *path;
    weft_status status;
};

static void try_open(void *arg) {
    struct opening *o = arg;
    weft_shard *s = NULL;
    o->status = weft_shard_open(&s, o->path);
    if (o->status == WEFT_OK) weft_shard_close(s);
}

static void refused(const char *path, const char *why) {
    struct opening o = {.path = path};
    const char *text = made_errors(try_open, &o);
    ck_assert_int_eq(o.status, WEFT_EINPUT);
    ck_assert_msg(strstr(text, path) && strstr(text, why), "'%s' lacks the path or '%s'", text, why);
}

START_TEST(foreign_files_are_refused) {
    const char *dir = made_dir();
    char *path = weft_format("%s/foreign.h5", dir);
    refused(path, "No such file");
    hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    hsize_t n = 4000;
    hid_t space = H5Screate_simple(1, &n, NULL);
    hid_t set = H5Dcreate2(file, "tokens", H5T_STD_U16LE, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    char zeros[8000] = {0};
    ck_assert_int_ge(H5Dwrite(set, H5T_STD_U16LE, H5S_ALL, H5S_ALL, H5P_DEFAULT, zeros), 0);
    H5Dclose(set);
    H5Sclose(space);
    H5Fclose(file);
    refused(path, "an HDF5 file, but not a weft shard");
    ck_assert_int_eq(unlink(path), 0);
    ck_assert_int_eq(weft_fs_create_file(path, "", 0), WEFT_OK);
    refused(path, "truncated");
    ck_assert_int_eq(unlink(path), 0);
    char text[3000];
    memset(text, 'x', sizeof text);
    ck_assert_int_eq(weft_fs_create_file(path, text, sizeof text), WEFT_OK);
    refused(path, "not a weft shard");
    refused(dir, "not a weft shard");
    free(path);
}
END_TEST

START_TEST(truncated_files_are_refused) {
    weft_shard_info info;
    char *path = write_one("cut.h5", 50000, &info);
    long size = made_size(path);
    const long cuts[] = {size - 1, size / 2, 2000, 1024, 100};
    const char *why[] = {"truncated", "truncated", "truncated", "truncated", "truncated"};
    for (int i = 0; i < 5; i++) {
        made_cut(path, cuts[i]);
        refused(path, why[i]);
    }
    free(path);
}
END_TEST

/* Any one flipped bit of the header, the index or a chunk is found by whoever reads it. */
START_TEST(flipped_bits_are_found) {
    weft_shard_info info;
    weft_shard_header h;
    char *path = write_one("flip.h5", 50000, &info);
    int fd = open(path, O_RDONLY);
    ck_assert_int_eq(pread(fd, &h, sizeof h, 0), sizeof h);
    close(fd);
    for (long at = 0; at < (long)sizeof h; at += 3) {
        struct opening o = {.path = path};
        made_flip(path, at);
        made_errors(try_open, &o);
        ck_assert_int_eq(o.status, WEFT_EINPUT);
        made_flip(path, at);
    }
    for (long at = 0; at < (long)h.index.bytes; at += 5) {
        made_flip(path, (long)h.index.offset + at);
        refused(path, "the index of its chunks");
        made_flip(path, (long)h.index.offset + at);
    }
    weft_shard *s;
    weft_shard_decoder *d;
    uint64_t *ends;
    uint32_t *bytes;
    made_flip(path, (long)h.doc_end.offset + 9);
    ck_assert_int_eq(weft_shard_open(&s, path), WEFT_OK);
    ck_assert_int_eq(weft_shard_read_documents(s, &ends, &bytes), WEFT_EINPUT);
    made_flip(path, (long)h.doc_end.offset + 9);
    weft_shard_origin *origins;
    weft_shard_range *masked;
    size_t ranges;
    made_flip(path, (long)h.doc_origin.offset + 9);
    ck_assert_int_eq(weft_shard_read_origins(s, &origins), WEFT_EINPUT);
    made_flip(path, (long)h.masked.offset + 9);
    ck_assert_int_eq(weft_shard_read_masked(s, &masked, &ranges), WEFT_EINPUT);
    made_flip(path, (long)h.doc_origin.offset + 9);
    made_flip(path, (long)h.masked.offset + 9);
    weft_shard_chunk row;
    fd = open(path, O_RDONLY);
    ck_assert_int_eq(pread(fd, &row, sizeof row, (off_t)h.index.offset + 24), sizeof row);
    close(fd);
    ck_assert_int_eq(weft_shard_decoder_new(&d, 50000), WEFT_OK);
    char *chunk = malloc(weft_shard_chunk_bytes(50000));
    made_flip(path, (long)(row.offset + row.bytes / 2));
    ck_assert_int_eq(weft_shard_read_chunk(s, 0, d, chunk), WEFT_OK);
    ck_assert_int_eq(weft_shard_read_chunk(s, 1, d, chunk), WEFT_EINPUT);
    made_flip(path, (long)(row.offset + row.bytes / 2));
    ck_assert_int_eq(weft_shard_read_chunk(s, 1, d, chunk), WEFT_OK);
    free(chunk);
    weft_shard_decoder_free(d);
    weft_shard_close(s);
    free(path);
}
END_TEST

/* ---- weft data verify ---- */
struct verifying {
    const char *dir;
    weft_status status;
    int damaged;
};

static void try_verify(void *arg) {
    struct verifying *x = arg;
    weft_verification v;
    x->status = weft_data_verify(x->dir, &v);
    x->damaged = v.damaged;
    weft_verification_free(&v);
}

static void verify_says(const char *dir, int damaged, const char *why) {
    struct verifying x = {.dir = dir};
    const char *text = made_errors(try_verify, &x);
    ck_assert_msg(x.status == (damaged ? WEFT_EINPUT : WEFT_OK), "%s", text);
    ck_assert_int_eq(x.damaged, damaged);
    ck_assert_msg(strstr(text, why) != NULL, "'%s' lacks '%s'", text, why);
}

/* Puts a range in place of one of a shard's, with hashes that match: what a faulty writer would have left. */
static void plant_range(const char *path, size_t at, weft_shard_range range) {
    weft_shard_header h;
    int fd = open(path, O_RDWR);
    ck_assert_int_eq(pread(fd, &h, sizeof h, 0), sizeof h);
    ck_assert_int_eq(pwrite(fd, &range, sizeof range, (off_t)(h.masked.offset + at * sizeof range)),
                     sizeof range);
    char *all = malloc(h.masked.bytes);
    ck_assert_int_eq(pread(fd, all, h.masked.bytes, (off_t)h.masked.offset), (ssize_t)h.masked.bytes);
    h.masked.xxh3 = weft_hash64(all, h.masked.bytes, 0);
    h.xxh3 = weft_hash64(&h, offsetof(weft_shard_header, xxh3), 0);
    ck_assert_int_eq(pwrite(fd, &h, sizeof h, 0), sizeof h);
    ck_assert_int_eq(close(fd), 0);
    free(all);
}

START_TEST(verify_finds_what_hashes_do_not) {
    static const made_domain one[] = {{"books", 100, 900, 1000, true}};
    const char *dir = made_dir();
    made_write(dir, 1000, one, 1);
    verify_says(dir, 0, "");
    made_manifest_again(dir, MADE_SOURCES - 1); /* both splits have documents of the last file */
    verify_says(dir, 2, "comes from file 4, but the manifest lists 4");

    dir = made_dir();
    made_write(dir, 1000, one, 1);
    char *path = weft_format("%s/train/books-00000.h5", dir);
    weft_shard *s;
    weft_shard_range *masked;
    size_t ranges, last;
    weft_shard_origin origin;
    uint64_t first, end;
    int64_t document;
    ck_assert_int_eq(weft_shard_open(&s, path), WEFT_OK);
    ck_assert_int_eq(weft_shard_read_masked(s, &masked, &ranges), WEFT_OK);
    last = ranges - 1;
    uint64_t tokens = (uint64_t)weft_shard_about(s)->tokens, id = masked[last].first, begin;
    ck_assert_int_eq(weft_shard_find(s, masked[0].first, &document, &begin, &origin), WEFT_OK);
    ck_assert_int_eq(weft_shard_find(s, id, &document, &first, &origin), WEFT_OK);
    ck_assert_int_eq(weft_shard_document(s, document, &first, &end, &origin), WEFT_OK);
    const struct {
        size_t at;
        weft_shard_range range;
        const char *why;
    } wrong[] = {{0, {begin, 1}, "is not inside a document"},        /* BOS */
                 {last, {id, end - id}, "is not inside a document"}, /* EOS too */
                 {last, {end - 1, 1}, "is not inside a document"},   /* EOS alone */
                 {last, {id, end - id + 3}, "is not inside a document"},
                 {last, {masked[last - 1].first, 1}, "out of order"},
                 {last, {tokens + 5, 1}, "out of order"},
                 {last, {id, 0}, "out of order"},
                 {last, {id, UINT64_MAX}, "out of order"},
                 {last, {id, masked[last].count == 1 ? 2 : 1}, "not those that its header describes"}};
    for (int i = 0; i < 9; i++) {
        plant_range(path, wrong[i].at, wrong[i].range);
        made_manifest_again(dir, MADE_SOURCES);
        verify_says(dir, 1, wrong[i].why);
        plant_range(path, wrong[i].at, masked[wrong[i].at]);
    }
    made_manifest_again(dir, MADE_SOURCES);
    verify_says(dir, 0, "");
    weft_shard_close(s);
    free(masked);
    free(path);
}
END_TEST

SUITE_MAIN("data/shard", written_is_read_u16, written_is_read_u16_limit, written_is_read_u32,
           hdf5_reads_it_too, hdf5_compresses_with_the_filter, same_documents_same_bytes,
           control_tokens_and_strangers_are_refused, masked_ranges_outside_their_document_are_refused,
           content_covers_masks, verify_finds_what_hashes_do_not, foreign_files_are_refused,
           truncated_files_are_refused, flipped_bits_are_found)
