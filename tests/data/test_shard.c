/* data/shard_*: what is written is read back, by weft and by the HDF5 library; what is damaged is refused. */
#include "made_data.h"
#include "data/shard/h5z_zstd.h"
#include "data/shard/shard_format.h"
#include "runtime/fs.h"
#include "support/suite.h"

#include <fcntl.h>
#include <hdf5.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const made_domain web = {.name = "web", .documents = 300, .longest = 1500, .per_shard = 1000};

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
        ck_assert_int_eq(weft_shard_writer_add(w, ids, n, n + 5), WEFT_OK);
        free(ids);
    }
    ck_assert_int_eq(weft_shard_writer_finish(w, info), WEFT_OK);
    return path;
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
        ck_assert_int_eq(weft_shard_writer_add(w, ids, 3, 3), WEFT_EINTERNAL);
        weft_shard_writer_abandon(w);
        ck_assert_int_ne(access(path, F_OK), 0);
        free(path);
    }
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

SUITE_MAIN("data/shard", written_is_read_u16, written_is_read_u16_limit, written_is_read_u32,
           hdf5_reads_it_too, hdf5_compresses_with_the_filter, same_documents_same_bytes,
           control_tokens_and_strangers_are_refused, foreign_files_are_refused, truncated_files_are_refused,
           flipped_bits_are_found)
