/* safetensors: what is written is read back, the bytes are those of the format, and no file makes the reader
 * crash. */
#include "runtime/log.h"
#include "runtime/rng.h"
#include "support/suite.h"
#include "train/safetensors.h"

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum { MAX_FILE = 1 << 16, ANY_LENGTH = -1 };
static char g_path[64];

static void put_file(const void *data, size_t bytes) {
    unlink(g_path); /* some file systems write through a file that is truncated and written again */
    FILE *f = fopen(g_path, "wb");
    ck_assert_ptr_nonnull(f);
    ck_assert_uint_eq(fwrite(data, 1, bytes, f), bytes);
    ck_assert_int_eq(fclose(f), 0);
}

static size_t get_file(uint8_t *data) {
    FILE *f = fopen(g_path, "rb");
    ck_assert_ptr_nonnull(f);
    size_t n = fread(data, 1, MAX_FILE, f);
    ck_assert_int_eq(fclose(f), 0);
    return n;
}

/* A file with this header (its length told truthfully, or as `claimed`) and so many bytes of data. */
static size_t make_file(uint8_t *out, const char *header, int64_t claimed, size_t data_bytes) {
    uint64_t length = claimed == ANY_LENGTH ? strlen(header) : (uint64_t)claimed;
    memcpy(out, &length, 8);
    memcpy(out + 8, header, strlen(header));
    for (size_t i = 0; i < data_bytes; i++) out[8 + strlen(header) + i] = (uint8_t)(i * 7 + 1);
    return 8 + strlen(header) + data_bytes;
}

/* Opens the file and reads every tensor that it says it has. */
static weft_status open_and_read(void) {
    weft_st_file *f = NULL;
    weft_status status = weft_st_open(&f, g_path);
    if (status != WEFT_OK) {
        ck_assert_ptr_null(f);
        return status;
    }
    for (int64_t i = 0; i < weft_st_count(f) && status == WEFT_OK; i++) {
        const weft_st_tensor *t = weft_st_at(f, i);
        weft_real *values = malloc((size_t)t->numel * sizeof *values + 1);
        ck_assert_ptr_nonnull(values);
        status = weft_st_read(f, t, 0, t->numel, values);
        free(values);
    }
    weft_st_close(f);
    return status;
}

static const weft_st_decl g_decls[] = {{"model.a.weight", 2, {3, 5}},
                                       {"b", 3, {4, 1, 2}},
                                       {"scalar", 0, {0}},
                                       {"empty", 2, {0, 7}},
                                       {"last", 1, {70001}}};
enum { DECLS = sizeof g_decls / sizeof *g_decls };

static int64_t decl_numel(const weft_st_decl *d) {
    int64_t n = 1;
    for (int i = 0; i < d->ndim; i++) n *= d->shape[i];
    return n;
}

static const weft_st_tensor *find(const weft_st_file *f, const char *name) {
    for (int64_t i = 0; i < weft_st_count(f); i++)
        if (strcmp(weft_st_at(f, i)->name, name) == 0) return weft_st_at(f, i);
    return NULL;
}

/* Element i of tensor k; a bf16 number, so that every format holds it. */
static weft_real value(int k, int64_t i) {
    return (weft_real)((double)((i * 37 + k) % 251 - 125) / 64);
}

START_TEST(round_trip_in_every_written_format) {
    static const weft_dtype dtypes[] = {WEFT_F32, WEFT_F64, WEFT_BF16};
    static const char *const names[] = {"F32", "F64", "BF16"};
    weft_real *values = malloc(70001 * sizeof *values);
    for (int d = 0; d < 3; d++) {
        weft_st_writer *w = NULL;
        unlink(g_path);
        ck_assert_int_eq(weft_st_create(&w, g_path, dtypes[d], g_decls, DECLS), WEFT_OK);
        for (int k = 0; k < DECLS; k++) {
            int64_t n = decl_numel(&g_decls[k]), half = n / 2;
            for (int64_t i = 0; i < n; i++) values[i] = value(k, i);
            ck_assert_int_eq(weft_st_append(w, values, half), WEFT_OK);
            ck_assert_int_eq(weft_st_append(w, values + half, n - half), WEFT_OK);
        }
        ck_assert_int_eq(weft_st_finish(w), WEFT_OK);
        weft_st_file *f = NULL;
        ck_assert_int_eq(weft_st_open(&f, g_path), WEFT_OK);
        ck_assert_int_eq(weft_st_count(f), DECLS);
        for (int k = 0; k < DECLS; k++) {
            const weft_st_tensor *t = find(f, g_decls[k].name);
            ck_assert_ptr_nonnull(t);
            ck_assert_str_eq(t->dtype, names[d]);
            ck_assert_int_eq(t->ndim, g_decls[k].ndim);
            for (int i = 0; i < t->ndim; i++) ck_assert_int_eq(t->shape[i], g_decls[k].shape[i]);
            ck_assert_int_eq(weft_st_read(f, t, 0, t->numel, values), WEFT_OK);
            for (int64_t i = 0; i < t->numel; i++) ck_assert(values[i] == value(k, i));
        }
        const weft_st_tensor *last = find(f, "last"); /* a part, across the conversion's buffer */
        ck_assert_int_eq(weft_st_read(f, last, 100, 69000, values), WEFT_OK);
        for (int64_t i = 0; i < 69000; i++) ck_assert(values[i] == value(DECLS - 1, i + 100));
        weft_st_close(f);
    }
    free(values);
}
END_TEST

START_TEST(bytes_are_those_of_the_format) {
    static const weft_st_decl decl = {"x", 2, {2, 1}};
    static const char header[] = "{\"__metadata__\":{\"format\":\"pt\"},"
                                 "\"x\":{\"dtype\":\"F32\",\"shape\":[2,1],\"data_offsets\":[0,8]}}";
    const weft_real data[2] = {1, -2};
    const float stored[2] = {1, -2};
    uint8_t got[256] = {0};
    weft_st_writer *w = NULL;
    unlink(g_path);
    ck_assert_int_eq(weft_st_create(&w, g_path, WEFT_F32, &decl, 1), WEFT_OK);
    ck_assert_int_eq(weft_st_append(w, data, 2), WEFT_OK);
    ck_assert_int_eq(weft_st_finish(w), WEFT_OK);
    FILE *f = fopen(g_path, "rb");
    size_t bytes = fread(got, 1, sizeof got, f), padded = (sizeof header - 1 + 7) / 8 * 8;
    fclose(f);
    ck_assert_uint_eq(bytes, 8 + padded + 8);
    uint64_t length;
    memcpy(&length, got, 8);
    ck_assert_uint_eq(length, padded);
    ck_assert_mem_eq(got + 8, header, sizeof header - 1);
    for (size_t i = sizeof header - 1; i < padded; i++) ck_assert_int_eq(got[8 + i], ' ');
    ck_assert_mem_eq(got + 8 + padded, stored, 8);
}
END_TEST

static float from_bits(uint32_t bits) {
    float f;
    memcpy(&f, &bits, 4);
    return f;
}

START_TEST(bf16_rounds_to_nearest_even) {
    static const struct {
        uint32_t in;
        uint16_t out;
    } cases[] = {
        {0x3f800000, 0x3f80}, {0x3f807fff, 0x3f80}, {0x3f808000, 0x3f80}, {0x3f808001, 0x3f81},
        {0x3f818000, 0x3f82}, {0xbf818000, 0xbf82}, {0x7f7fffff, 0x7f80}, {0x7f800000, 0x7f80},
        {0x00008000, 0x0000}, {0x00018000, 0x0002}, {0x80000000, 0x8000}, {0x3fffffff, 0x4000},
    };
    enum { N = sizeof cases / sizeof *cases };
    weft_st_decl decl = {"x", 1, {N + 2}};
    weft_real data[N + 2];
    uint8_t got[512];
    for (int i = 0; i < N; i++) data[i] = (weft_real)from_bits(cases[i].in);
    data[N] = (weft_real)from_bits(0x7fc00000);
    data[N + 1] = (weft_real)from_bits(0x7fffffff); /* adding to its bits would carry into the sign */
    weft_st_writer *w = NULL;
    unlink(g_path);
    ck_assert_int_eq(weft_st_create(&w, g_path, WEFT_BF16, &decl, 1), WEFT_OK);
    ck_assert_int_eq(weft_st_append(w, data, N + 2), WEFT_OK);
    ck_assert_int_eq(weft_st_finish(w), WEFT_OK);
    FILE *f = fopen(g_path, "rb");
    size_t bytes = fread(got, 1, sizeof got, f);
    fclose(f);
    uint16_t stored[N + 2];
    memcpy(stored, got + bytes - sizeof stored, sizeof stored);
    for (int i = 0; i < N; i++)
        ck_assert_msg(stored[i] == cases[i].out, "%08x -> %04x", cases[i].in, stored[i]);
    for (int i = N; i < N + 2; i++) ck_assert((stored[i] & 0x7f80) == 0x7f80 && (stored[i] & 0x7f) != 0);
}
END_TEST

START_TEST(half_precision_is_read_exactly) {
    static const struct {
        uint16_t bits;
        double value;
    } cases[] = {{0x0000, 0},        {0x3c00, 1},        {0xc000, -2},
                 {0x7bff, 65504},    {0x0001, 0x1p-24},  {0x03ff, 1023 * 0x1p-24},
                 {0x0400, 0x1p-14},  {0x8001, -0x1p-24}, {0x3555, 1365.0 / 4096},
                 {0xfc00, -INFINITY}};
    enum { N = sizeof cases / sizeof *cases };
    uint8_t file[256];
    size_t n =
        make_file(file, "{\"h\":{\"dtype\":\"F16\",\"shape\":[10],\"data_offsets\":[0,20]}}", ANY_LENGTH, 20);
    for (int i = 0; i < N; i++) memcpy(file + n - 20 + 2 * i, &cases[i].bits, 2);
    put_file(file, n);
    weft_st_file *f = NULL;
    weft_real values[N];
    ck_assert_int_eq(weft_st_open(&f, g_path), WEFT_OK);
    ck_assert_int_eq(weft_st_read(f, weft_st_at(f, 0), 0, N, values), WEFT_OK);
    for (int i = 0; i < N; i++)
        ck_assert_msg((double)values[i] == cases[i].value, "%04x -> %g", cases[i].bits, (double)values[i]);
    weft_st_close(f);
}
END_TEST

START_TEST(lying_headers_are_refused) {
#define X(dtype, shape, offsets)                                                                             \
    "{\"x\":{\"dtype\":" dtype ",\"shape\":" shape ",\"data_offsets\":" offsets "}}"
    static const struct {
        const char *header;
        size_t data;
        int64_t claimed;
    } bad[] = {
        {"", 0, ANY_LENGTH},
        {"[]", 0, ANY_LENGTH},
        {" {}", 0, ANY_LENGTH},
        {"{", 0, ANY_LENGTH},
        {"{}", 0, 100000001},
        {"{}", 0, 4000},
        {"{}", 0, INT64_MIN},
        {"{}", 1, ANY_LENGTH},
        {"{\"x\":1}", 0, ANY_LENGTH},
        {"{\"x\":{}}", 0, ANY_LENGTH},
        {"{\"__metadata__\":3}", 0, ANY_LENGTH},
        {"{\"__metadata__\":{\"a\":1}}", 0, ANY_LENGTH},
        {X("\"F32\"", "[2]", "[0,8]"), 7, ANY_LENGTH},
        {X("\"F32\"", "[2]", "[0,8]"), 9, ANY_LENGTH},
        {X("\"F32\"", "[2]", "[4,12]"), 12, ANY_LENGTH},
        {X("\"F32\"", "[2]", "[8,0]"), 8, ANY_LENGTH},
        {X("\"F32\"", "[2]", "[-8,0]"), 8, ANY_LENGTH},
        {X("\"F32\"", "[2]", "[0,8,8]"), 8, ANY_LENGTH},
        {X("\"F32\"", "[2]", "[0,8.0]"), 8, ANY_LENGTH},
        {X("\"F32\"", "[2]", "8"), 8, ANY_LENGTH},
        {X("\"F32\"", "[3]", "[0,8]"), 8, ANY_LENGTH},
        {X("\"F32\"", "[-2,-1]", "[0,8]"), 8, ANY_LENGTH},
        {X("\"F32\"", "[2.0]", "[0,8]"), 8, ANY_LENGTH},
        {X("\"F32\"", "2", "[0,8]"), 8, ANY_LENGTH},
        {X("\"F33\"", "[2]", "[0,8]"), 8, ANY_LENGTH},
        {X("7", "[2]", "[0,8]"), 8, ANY_LENGTH},
        {X("\"F32\"", "[1,1,1,1,1,1,1,1,2]", "[0,8]"), 8, ANY_LENGTH},
        {X("\"F32\"", "[4294967296,4294967296]", "[0,8]"), 8, ANY_LENGTH}, /* product is 0 modulo 2^64 */
        {X("\"F32\"", "[4611686018427387906]", "[0,8]"), 8, ANY_LENGTH},   /* and so are its bytes: 8 */
        {X("\"F32\"", "[99999999999999999999]", "[0,8]"), 8, ANY_LENGTH},
        {"{\"x\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},"
         "\"y\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[2,6]}}",
         6, ANY_LENGTH},
        {"{\"x\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},"
         "\"y\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[4,6]}}",
         6, ANY_LENGTH},
        {"{\"x\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},"
         "\"x\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[2,4]}}",
         4, ANY_LENGTH},
        {"{\"a\\nb\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}}", 2, ANY_LENGTH},
    };
    uint8_t file[1024];
    weft_st_file *f = NULL;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        put_file(file, make_file(file, bad[i].header, bad[i].claimed, bad[i].data));
        weft_status status = weft_st_open(&f, g_path);
        ck_assert_msg(status == WEFT_EINPUT && !f, "case %zu, %s: status %d", i, bad[i].header, status);
    }
    put_file("short", 5);
    ck_assert_int_eq(weft_st_open(&f, g_path), WEFT_EINPUT);
    ck_assert_int_eq(weft_st_open(&f, "/"), WEFT_EINPUT);
    ck_assert_int_eq(weft_st_open(&f, "no/such/file"), WEFT_EIO);
    /* Integers are fine as a file, but no weights. */
    put_file(file, make_file(file, X("\"I64\"", "[1]", "[0,8]"), ANY_LENGTH, 8));
    ck_assert_int_eq(weft_st_open(&f, g_path), WEFT_OK);
    weft_real value;
    ck_assert_int_eq(weft_st_read(f, weft_st_at(f, 0), 0, 1, &value), WEFT_EINPUT);
    weft_st_close(f);
}
END_TEST

START_TEST(file_that_shrinks_while_open_is_an_error) {
    uint8_t file[256];
    size_t size = make_file(file, X("\"F32\"", "[2]", "[0,8]"), ANY_LENGTH, 8);
    put_file(file, size);
    weft_st_file *f = NULL;
    weft_real values[2];
    ck_assert_int_eq(weft_st_open(&f, g_path), WEFT_OK);
    ck_assert_int_eq(truncate(g_path, (off_t)size - 3), 0);
    ck_assert_int_eq(weft_st_read(f, weft_st_at(f, 0), 0, 2, values), WEFT_EINPUT);
    weft_st_close(f);
}
END_TEST

/* The next number of one random sequence, below n. */
static size_t draw(size_t n) {
    static uint64_t drawn = 0;
    return (size_t)(weft_rng_uniform(weft_rng_make(7, "damage"), drawn++) * (double)n);
}

/* A third of the mutations hits only the data, where every byte is allowed: these must still be read. */
START_TEST(random_damage_never_crashes) {
    static uint8_t file[MAX_FILE], damaged[MAX_FILE];
    static const weft_st_decl decls[] = {{"model.a.weight", 2, {3, 5}}, {"b", 3, {4, 1, 2}}, {"c", 1, {0}}};
    weft_real data[23] = {0};
    weft_st_writer *w = NULL;
    unlink(g_path);
    ck_assert_int_eq(weft_st_create(&w, g_path, WEFT_BF16, decls, 3), WEFT_OK);
    ck_assert_int_eq(weft_st_append(w, data, 23), WEFT_OK);
    ck_assert_int_eq(weft_st_finish(w), WEFT_OK);
    size_t size = get_file(file), head = size - 23 * 2;
    int refused = 0;
    for (int round = 0; round < 2000; round++) {
        static const char spice[] = "{}[]\",:0123456789-eE.\\ \n\0\xff";
        size_t bytes = size, edits = 1 + draw(4);
        bool data_only = round % 3 == 0;
        memcpy(damaged, file, size);
        for (size_t e = 0; e < edits; e++) {
            size_t at = data_only ? head + draw(size - head) : draw(head);
            switch (data_only ? 0 : draw(6)) {
            case 0:
                damaged[at] ^= (uint8_t)(1 + draw(255));
                break;
            case 1:
                damaged[at] = (uint8_t)spice[draw(sizeof spice - 1)];
                break;
            case 2:
                damaged[draw(8)] = (uint8_t)draw(256);
                break;
            case 3:
                bytes = draw(bytes + 1);
                break;
            case 4: /* delete one byte, length field kept */
                memmove(damaged + at, damaged + at + 1, size - at - 1);
                break;
            case 5:
                damaged[8 + draw(head - 8)] = (uint8_t)('0' + draw(10));
                break;
            }
        }
        put_file(damaged, bytes);
        weft_status status = open_and_read();
        if (data_only)
            ck_assert_int_eq(status, WEFT_OK);
        else
            refused += status != WEFT_OK;
    }
    ck_assert_int_gt(refused, 1000); /* a few header bytes are free: a letter of a name */
}
END_TEST

START_TEST(failed_writes_are_reported) {
    static const weft_st_decl decl = {"x", 1, {100000}};
    weft_real *data = calloc(100000, sizeof *data);
    weft_st_writer *w = NULL;
    put_file("x", 1);
    ck_assert_int_eq(weft_st_create(&w, g_path, WEFT_F32, &decl, 1), WEFT_EIO); /* exists */
    ck_assert_ptr_null(w);
    unlink(g_path);
    ck_assert_int_eq(weft_st_create(&w, g_path, WEFT_F32, &decl, 1), WEFT_OK);
    ck_assert_int_eq(weft_st_append(w, data, 99999), WEFT_OK);
    ck_assert_int_eq(weft_st_finish(w), WEFT_EINTERNAL); /* one element is not there */
    unlink(g_path);
    struct rlimit old, small;
    ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &old), 0);
    small = old;
    small.rlim_cur = 4096;
    signal(SIGXFSZ, SIG_IGN);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &small), 0);
    weft_status created = weft_st_create(&w, g_path, WEFT_F32, &decl, 1);
    weft_status appended = created == WEFT_OK ? weft_st_append(w, data, 100000) : WEFT_OK;
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &old), 0);
    ck_assert_int_eq(created, WEFT_OK);
    ck_assert_int_eq(appended, WEFT_EIO);
    weft_st_abandon(w);
    free(data);
}
END_TEST

int main(void) {
    char dir[] = "/tmp/weft-test-XXXXXX";
    if (!mkdtemp(dir)) return EXIT_FAILURE;
    snprintf(g_path, sizeof g_path, "%s/x.safetensors", dir);
    weft_log_set_level((weft_log_level)(WEFT_LOG_ERROR + 1)); /* thousands of errors are expected here */
    const TTest *const tests[] = {
        round_trip_in_every_written_format, bytes_are_those_of_the_format,
        bf16_rounds_to_nearest_even,        half_precision_is_read_exactly,
        lying_headers_are_refused,          file_that_shrinks_while_open_is_an_error,
        random_damage_never_crashes,        failed_writes_are_reported};
    int failed = suite_run("safetensors", tests, sizeof tests / sizeof *tests);
    unlink(g_path);
    rmdir(dir);
    return failed;
}
