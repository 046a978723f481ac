/* data/work/spill_*, the files: they appear whole or not at all; what is damaged is refused; a full disk is
 * said once. */
#include "made_records.h"
#include "runtime/fs.h"
#include "support/suite.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

/* ---- how they appear ---- */

START_TEST(appears_whole_or_not) {
    weft_spill *s;
    const char *dir = made_dir();
    char *path = weft_format("%s/a", dir), *temporary = weft_format("%s/a.tmp", dir);
    ck_assert_int_eq(weft_fs_create_file(temporary, "left by a killed job", 20), WEFT_OK);
    ck_assert_int_eq(weft_spill_create(&s, path, 3, 4, 0), WEFT_OK);
    for (int i = 0; i < 200000; i++) {
        uint64_t record = made_random();
        MUST(weft_spill_add(s, i % 3, &record, 4) == WEFT_OK);
    }
    ck_assert_int_ne(access(path, F_OK), 0);
    ck_assert_int_gt(made_size(temporary), 100);
    ck_assert_int_eq(weft_spill_finish(s), WEFT_OK);
    ck_assert_int_ne(access(temporary, F_OK), 0);
    long size = made_size(path);
    ck_assert_int_eq(weft_spill_create(&s, path, 3, 4, 0), WEFT_OK);
    ck_assert_int_eq(weft_spill_add(s, 0, "abcd", 4), WEFT_OK);
    weft_spill_abandon(s);
    ck_assert_int_ne(access(temporary, F_OK), 0);
    ck_assert_int_eq(made_size(path), size);
    free(path);
    free(temporary);
}
END_TEST

START_TEST(same_records_same_bytes) {
    weft_hash128 a, b;
    made_records m = made_records_write(EQUAL, 20, 0, 9, 2, 50000, 10000),
                 n = made_records_write(EQUAL, 20, 0, 9, 2, 50000, 10000);
    ck_assert_int_eq(weft_hash_file(m.paths[1], &a, NULL), WEFT_OK);
    ck_assert_int_eq(weft_hash_file(n.paths[1], &b, NULL), WEFT_OK);
    ck_assert_mem_eq(&a, &b, sizeof a);
    ck_assert_int_lt(made_size(m.paths[1]), 50000 * 20 / 4); /* packed */
    made_records_free(&m);
    made_records_free(&n);
}
END_TEST

/* ---- damage ---- */

typedef struct attempt {
    const made_records *m;
    int partition; /* -1: all; then status is the first failure */
    size_t memory;
    weft_status status;
} attempt;

static void try_read(void *arg) {
    attempt *a = arg;
    a->status = WEFT_OK;
    for (int p = 0; p < a->m->partitions; p++) {
        if (a->partition >= 0 && p != a->partition) continue;
        weft_status st = made_records_check(a->m, p, a->memory);
        if (a->status == WEFT_OK) a->status = st;
    }
}

static int line_count(const char *text) {
    int n = 0;
    for (; *text; text++) n += *text == '\n';
    return n;
}

static void refused(const made_records *m, const char *path) {
    attempt a = {.m = m, .partition = 0, .memory = 1 << 20};
    const char *text = made_errors(try_read, &a);
    ck_assert_int_eq(a.status, WEFT_EINPUT);
    ck_assert_msg(line_count(text) == 1 && strstr(text, path) && strstr(text, "build again"), "%s", text);
}

static void flip_each_byte(size_t record_bytes, made_kind k) {
    made_records m = made_records_write(k, record_bytes, 6, 3, 2, 40, 1 << 20);
    char *path = m.paths[1];
    long size = made_size(path);
    ck_assert_int_lt(size, 6000);
    for (long at = 0; at < size; at++) {
        attempt a = {.m = &m, .partition = -1, .memory = 1 << 20};
        made_flip(path, at);
        const char *text = made_errors(try_read, &a);
        ck_assert_msg(a.status == WEFT_EINPUT && strstr(text, path), "byte %ld of %ld: %d %s", at, size,
                      a.status, text);
        made_flip(path, at);
    }
    made_records_check_all(&m, 1 << 20);
    for (long cut = size - 1; cut >= 0; cut -= 1 + cut / 40) {
        made_cut(path, cut);
        refused(&m, path);
    }
    made_records_free(&m);
}

START_TEST(every_flipped_bit_is_found) {
    flip_each_byte(20, RANDOM);
    flip_each_byte(20, FEW_KEYS); /* packed blocks */
    flip_each_byte(0, RANDOM);
    flip_each_byte(0, FEW_KEYS);
}
END_TEST

START_TEST(foreign_files_are_refused) {
    made_records m = made_records_write(RANDOM, 20, 0, 3, 2, 600, 1 << 20);
    char *path = m.paths[1], *zeros = calloc(1, 10000), *whole;
    size_t bytes;
    int fd = open(path, O_WRONLY | O_APPEND);
    ck_assert_int_eq(write(fd, "x", 1), 1);
    close(fd);
    refused(&m, path);
    made_cut(path, made_size(path) - 1);
    ck_assert_int_eq(weft_fs_read_file(path, 1 << 20, &whole, &bytes), WEFT_OK);
    fd = open(path, O_WRONLY | O_APPEND);
    ck_assert_int_eq(write(fd, whole, bytes), (ssize_t)bytes);
    close(fd);
    refused(&m, path); /* twice the same: its footer is sound */
    ck_assert_int_eq(unlink(path), 0);
    attempt a = {.m = &m, .partition = 1};
    const char *text = made_errors(try_read, &a);
    ck_assert_int_eq(a.status, WEFT_EINPUT);
    ck_assert(strstr(text, path));
    ck_assert_int_eq(weft_fs_create_file(path, zeros, 10000), WEFT_OK);
    refused(&m, path);
    ck_assert_int_eq(unlink(path), 0);
    ck_assert_int_eq(weft_fs_mkdir(path), WEFT_OK);
    refused(&m, path);
    free(zeros);
    free(whole);
    made_records_free(&m);
}
END_TEST

START_TEST(files_of_different_kinds_are_refused) {
    made_records m = made_records_write(RANDOM, 20, 0, 3, 2, 600, 1 << 20);
    for (int i = 0; i < 2; i++) {
        weft_spill *s;
        ck_assert_int_eq(weft_spill_create(&s, m.paths[1], i ? 3 : 4, i ? 24 : 20, 0), WEFT_OK);
        ck_assert_int_eq(weft_spill_finish(s), WEFT_OK);
        refused(&m, m.paths[1]);
    }
    made_records_free(&m);
}
END_TEST

START_TEST(a_partition_reads_its_own_blocks_only) {
    made_records m = made_records_write(BY_PARTITION, 20, 0, 4, 2, 4000, 1 << 20);
    made_flip(m.paths[1], 10); /* the first partition's block stands first */
    attempt a = {.m = &m, .partition = 0};
    made_errors(try_read, &a);
    ck_assert_int_eq(a.status, WEFT_EINPUT);
    for (int p = 1; p < 4; p++) ck_assert_int_eq(made_records_check(&m, p, 1 << 20), WEFT_OK);
    made_records_free(&m);
}
END_TEST

/* Flips a byte of the file without a name that runs lie in; false when there is none. */
static bool damage_runs(long from_end) {
    DIR *dir = opendir("/proc/self/fd");
    bool done = false;
    for (struct dirent *e; dir && (e = readdir(dir));) {
        char path[300], target[4096] = {0};
        snprintf(path, sizeof path, "/proc/self/fd/%s", e->d_name);
        if (readlink(path, target, sizeof target - 1) < 0 || !strstr(target, "/temp.")) continue;
        made_flip(path, made_size(path) - from_end);
        done = true;
    }
    if (dir) closedir(dir);
    return done;
}

typedef struct runs_attempt {
    const made_records *m;
    long from_end;
    bool damaged;
    weft_status status;
} runs_attempt;

static void read_damaged_runs(void *arg) {
    runs_attempt *a = arg;
    weft_spilled *s;
    const void *got = "";
    size_t bytes;
    char *temp = made_records_temp(a->m);
    a->status = weft_spilled_open(&s, a->m->paths, a->m->files, 0, 0, 0, temp);
    ck_assert_int_eq(a->status, WEFT_OK);
    a->damaged = damage_runs(a->from_end);
    while (got && a->status == WEFT_OK) a->status = weft_spilled_next(s, &got, &bytes);
    weft_spilled_close(s);
    free(temp);
}

START_TEST(damaged_runs_are_found) {
    made_records m = made_records_write(ONE_PARTITION, 20, 0, 1, 2, 60000, 1 << 20);
    for (long from_end = 1; from_end < 60000; from_end += 6000) {
        runs_attempt a = {.m = &m, .from_end = from_end};
        const char *text = made_errors(read_damaged_runs, &a);
        ck_assert(a.damaged);
        ck_assert_int_eq(a.status, WEFT_EIO);
        ck_assert_int_eq(line_count(text), 1);
    }
    made_records_free(&m);
}
END_TEST

/* ---- a full disk ---- */

static void write_on(void *arg) {
    attempt *a = arg;
    weft_spill *s;
    a->status = weft_spill_create(&s, a->m->paths[0], 3, 20, 0);
    ck_assert_int_eq(a->status, WEFT_OK);
    for (size_t i = 0; i < a->memory && a->status == WEFT_OK; i++)
        a->status = weft_spill_add(s, (int)(i % 3), a->m->records[i].data, 20);
    a->partition = a->status == WEFT_OK; /* it came to the end */
    if (a->status == WEFT_OK) a->status = weft_spill_finish(s);
    if (a->status != WEFT_OK) weft_spill_abandon(s);
}

START_TEST(a_full_disk_is_said_once) {
    made_records m = made_records_write(ONE_PARTITION, 20, 0, 1, 1, 60000, 1 << 20);
    long size = made_size(m.paths[0]);
    char text[4096];
    for (size_t count = 8000; count <= 60000; count += 52000) { /* fails at the end; while adding */
        attempt a = {.m = &m, .memory = count};
        made_limit_files(100000);
        snprintf(text, sizeof text, "%s", made_errors(write_on, &a));
        made_limit_files(RLIM_INFINITY);
        ck_assert_int_eq(a.status, WEFT_EIO);
        ck_assert_int_eq(a.partition, count == 8000);
        ck_assert_msg(line_count(text) == 1 && strstr(text, m.paths[0]), "%s", text);
        ck_assert_int_eq(made_size(m.paths[0]), size);
        ck_assert(made_records_alone(&m));
    }
    attempt a = {.m = &m, .partition = 0};
    made_limit_files(100000);
    snprintf(text, sizeof text, "%s", made_errors(try_read, &a));
    made_limit_files(RLIM_INFINITY);
    ck_assert_int_eq(a.status, WEFT_EIO);
    ck_assert_msg(line_count(text) == 1 && strstr(text, "/temp.0"), "%s", text);
    made_records_free(&m);
}
END_TEST

static void misuse(void *arg) {
    const char *path = arg;
    weft_spill *s;
    weft_spilled *t;
    char *paths[1] = {(char *)arg};
    ck_assert_int_eq(weft_spill_create(&s, path, 0, 4, 0), WEFT_EINTERNAL);
    ck_assert_int_eq(weft_spill_create(&s, path, 4097, 4, 0), WEFT_EINTERNAL);
    ck_assert_int_eq(weft_spill_create(&s, "/no such directory/x", 3, 4, 0), WEFT_EIO);
    ck_assert_int_eq(weft_spill_create(&s, path, 3, 4, 0), WEFT_OK);
    ck_assert_int_eq(weft_spill_add(s, 3, "abcd", 4), WEFT_EINTERNAL);
    ck_assert_int_eq(weft_spill_add(s, -1, "abcd", 4), WEFT_EINTERNAL);
    ck_assert_int_eq(weft_spill_add(s, 0, "abcde", 5), WEFT_EINTERNAL);
    ck_assert_int_eq(weft_spill_finish(s), WEFT_OK);
    ck_assert_int_eq(weft_spilled_open(&t, paths, 1, 3, 0, 0, "t"), WEFT_EINTERNAL);
    ck_assert_int_eq(weft_spilled_open(&t, paths, 1, 0, 4097, 0, "t"), WEFT_EINTERNAL);
}

START_TEST(misuse_is_refused) {
    char *path = weft_format("%s/a", made_dir());
    const char *text = made_errors(misuse, path);
    ck_assert_int_eq(line_count(text), 8);
    free(path);
}
END_TEST

SUITE_MAIN("data/spill_files", appears_whole_or_not, same_records_same_bytes, every_flipped_bit_is_found,
           foreign_files_are_refused, files_of_different_kinds_are_refused,
           a_partition_reads_its_own_blocks_only, damaged_runs_are_found, a_full_disk_is_said_once,
           misuse_is_refused)
