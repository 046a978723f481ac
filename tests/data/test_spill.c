/* data/work/spill_*: what comes out of a partition is what a sort of all its records in memory gives,
 * whatever the memory. */
#include "made_records.h"
#include "runtime/fs.h"
#include "support/suite.h"

#include <fcntl.h>
#include <malloc.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void round_trip(made_kind k, size_t record_bytes, size_t key_bytes, int partitions, int files,
                       size_t count, size_t buffer, size_t memory) {
    made_records m = made_records_write(k, record_bytes, key_bytes, partitions, files, count, buffer);
    made_records_check_all(&m, memory);
    made_records_free(&m);
}

/* ---- order ---- */

START_TEST(fixed_records_in_memory) {
    static const size_t widths[] = {1, 3, 8, 9, 16, 20, 24, 28, 30, 32, 100};
    for (size_t i = 0; i < sizeof widths / sizeof *widths; i++) {
        round_trip(RANDOM, widths[i], 0, 5, 4, 5000, 1 << 20, 64 << 20);
        round_trip(FEW_KEYS, widths[i], 0, 5, 4, 2000, 1 << 20, 64 << 20);
    }
    round_trip(EQUAL, 20, 0, 3, 3, 3000, 1 << 20, 64 << 20);
}
END_TEST

START_TEST(any_records_in_memory) {
    static const size_t keys[] = {0, 1, 4, 8, 9, 16, 24, 31};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        round_trip(RANDOM, 0, keys[i], 5, 4, 3000, 1 << 20, 64 << 20);
        round_trip(FEW_KEYS, 0, keys[i], 5, 4, 3000, 1 << 20, 64 << 20);
    }
    round_trip(EQUAL, 0, 12, 3, 3, 3000, 1 << 20, 64 << 20);
    round_trip(EQUAL, 0, 4096, 3, 3, 300, 1 << 20, 64 << 20);
    round_trip(LARGE, 0, 12, 1, 3, 400, 1 << 20, 64 << 20);
}
END_TEST

START_TEST(little_memory) {
    round_trip(ONE_PARTITION, 20, 0, 4, 5, 180000, 1 << 20, 0); /* more runs than can be merged at once */
    round_trip(EQUAL, 24, 0, 2, 3, 100000, 1 << 20, 1000);
    round_trip(ONE_PARTITION, 0, 12, 4, 5, 60000, 1 << 20, 0);
    round_trip(FEW_KEYS, 0, 12, 1, 5, 60000, 1 << 20, 0);
    round_trip(EQUAL, 0, 30, 1, 5, 60000, 1 << 20, 0);
    round_trip(LARGE, 0, 12, 1, 3, 1500, 1 << 20, 0); /* records larger than the memory */
    round_trip(ONE_PARTITION, 70000, 0, 2, 2, 30, 1 << 20, 0);
    round_trip(ONE_PARTITION, 600000, 0, 1, 2, 5, 1 << 20, 0);
}
END_TEST

START_TEST(little_buffer) {
    round_trip(RANDOM, 20, 0, 40, 3, 30000, 0, 64 << 20);
    round_trip(BY_PARTITION, 20, 0, 40, 3, 30000, 20000, 64 << 20);
    round_trip(LARGE, 0, 12, 3, 3, 300, 0, 64 << 20);
}
END_TEST

START_TEST(few_records) {
    round_trip(RANDOM, 20, 0, 3, 1, 0, 1 << 20, 1 << 20);
    round_trip(RANDOM, 20, 0, 1, 1, 1, 1 << 20, 1 << 20);
    round_trip(RANDOM, 0, 8, 1, 1, 1, 1 << 20, 1 << 20);
    round_trip(RANDOM, 0, 8, 200, 3, 7, 1 << 20, 1 << 20);
    weft_spilled *s;
    const void *got;
    size_t bytes;
    ck_assert_int_eq(weft_spilled_open(&s, NULL, 0, 0, 0, 1 << 20, "no"), WEFT_OK);
    ck_assert_int_eq(weft_spilled_next(s, &got, &bytes), WEFT_OK);
    ck_assert_ptr_null(got);
    weft_spilled_close(s);
    weft_spilled_close(NULL);
    weft_spill_abandon(NULL);
}
END_TEST

START_TEST(most_partitions) {
    made_records m = made_records_write(RANDOM, 12, 0, WEFT_SPILL_MAX_PARTITIONS, 2, 200000, 0);
    static const int some[] = {0, 1, 63, 64, 65, 2047, 2048, 4094, 4095};
    for (size_t i = 0; i < sizeof some / sizeof *some; i++)
        ck_assert_int_eq(made_records_check(&m, some[i], 1 << 20), WEFT_OK);
    made_records_free(&m);
}
END_TEST

START_TEST(numbers_sort_as_bytes) {
    static const uint64_t x[] = {0, 1, 255, 256, 1ull << 32, (1ull << 56) - 1, UINT64_MAX};
    unsigned char a[8], b[8];
    for (size_t i = 0; i < 7; i++) {
        weft_put_u64(b, x[i]);
        ck_assert_uint_eq(weft_get_u64(b), x[i]);
        if (i > 0) ck_assert_int_lt(memcmp(a, b, 8), 0);
        memcpy(a, b, 8);
        weft_put_u32(b, (uint32_t)x[i]);
        ck_assert_uint_eq(weft_get_u32(b), (uint32_t)x[i]);
    }
    ck_assert_int_eq(weft_spill_partition(0, 7), 0);
    ck_assert_int_eq(weft_spill_partition(UINT64_MAX, 7), 6);
    ck_assert_int_eq(weft_spill_partition(UINT64_MAX / 2, 4096), 2047);
    ck_assert_int_eq(weft_spill_partition(UINT64_MAX / 2 + 1, 4096), 2048);
}
END_TEST

/* ---- memory ---- */

#if defined(__SANITIZE_ADDRESS__)
enum { SANITIZED = 1 };
#elif defined(__has_feature)
enum { SANITIZED = __has_feature(address_sanitizer) };
#else
enum { SANITIZED = 0 };
#endif

/* The most that is resident from `reset` on, in KiB; -1 where the system does not say. */
static long peak(bool reset) {
    long kib = -1;
    char line[256];
    if (reset) {
        malloc_trim(0); /* what earlier tests freed would hide what is taken now */
        int fd = open("/proc/self/clear_refs", O_WRONLY);
        bool ok = fd >= 0 && write(fd, "5", 1) == 1;
        if (fd >= 0) close(fd);
        if (!ok) return -1;
    }
    FILE *f = fopen("/proc/self/status", "r");
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "VmHWM: %ld", &kib) == 1) break;
    if (f) fclose(f);
    return kib;
}

START_TEST(memory_is_bounded) {
    enum { RECORDS = 600000, WIDTH = 24, BUFFER = 1 << 20, MEMORY = 3 << 20, SLACK_KIB = 1500 };
    weft_spill *s;
    weft_spilled *t;
    const char *dir = made_dir();
    char *path = weft_format("%s/a", dir), *temp = weft_format("%s/t", dir);
    long before = peak(true), written, n = 0;
    ck_assert_int_eq(weft_spill_create(&s, path, 64, WIDTH, BUFFER), WEFT_OK);
    for (int i = 0; i < RECORDS; i++) {
        uint64_t record[3] = {made_random(), (uint64_t)i, 5};
        MUST(weft_spill_add(s, i % 2 ? 3 : i / 2 % 64, record, WIDTH) == WEFT_OK);
    }
    ck_assert_int_eq(weft_spill_finish(s), WEFT_OK);
    written = peak(false) - before;
    before = peak(true);
    ck_assert_int_eq(weft_spilled_open(&t, &path, 1, 3, 0, MEMORY, temp), WEFT_OK);
    for (size_t bytes; n < RECORDS; n++) {
        const void *got;
        MUST(weft_spilled_next(t, &got, &bytes) == WEFT_OK);
        if (!got) break;
    }
    long read = peak(false) - before;
    weft_spilled_close(t);
    ck_assert_int_gt(n, RECORDS / 2);
    if (before >= 0 && !SANITIZED) {
        ck_assert_int_lt(written, BUFFER / 1024 + SLACK_KIB);
        ck_assert_int_lt(read, MEMORY / 1024 + SLACK_KIB);
    }
    free(path);
    free(temp);
}
END_TEST

SUITE_MAIN("data/spill", fixed_records_in_memory, any_records_in_memory, little_memory, little_buffer,
           few_records, most_partitions, numbers_sort_as_bytes, memory_is_bounded)
