/* data/source: documents of txt and jsonl, plain, .gz and .zst, and what is done with bad ones. */
#include "made_data.h"
#include "data/source/source.h"
#include "runtime/fs.h"
#include "support/suite.h"

#include <stdio.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

typedef enum packing { PLAIN, GZIP, ZSTD } packing;
static const char *const endings[] = {"", ".gz", ".zst"};

/* Appends to what is there: gzip members and zstd frames may follow one another. */
static void append(const char *path, const void *data, size_t bytes, packing how) {
    size_t room = bytes + (bytes >> 3) + 1024, n = bytes;
    char *out = malloc(room);
    if (how == GZIP) {
        z_stream z = {.next_in = (unsigned char *)data,
                      .avail_in = (unsigned)bytes,
                      .next_out = (unsigned char *)out,
                      .avail_out = (unsigned)room};
        ck_assert_int_eq(deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
        ck_assert_int_eq(deflate(&z, Z_FINISH), Z_STREAM_END);
        n = z.total_out;
        deflateEnd(&z);
    } else if (how == ZSTD) {
        n = ZSTD_compress(out, room, data, bytes, 1);
        ck_assert_int_eq((int)ZSTD_isError(n), 0);
    }
    FILE *f = fopen(path, "ab");
    ck_assert_ptr_nonnull(f);
    ck_assert_uint_eq(fwrite(how == PLAIN ? data : out, 1, n, f), n);
    ck_assert_int_eq(fclose(f), 0);
    free(out);
}

static char *file_with(const char *name, const void *data, size_t bytes, packing how) {
    char *path = weft_format("%s/%s%s", made_dir(), name, endings[how]);
    append(path, data, bytes, how);
    return path;
}

typedef struct reading {
    const char *path;
    weft_source_tally tally;
    weft_status status;
    char *text; /* "domain|text\n" for each document */
    size_t bytes;
    int64_t last_line;
} reading;

static void read_all(void *arg) {
    reading *r = arg;
    weft_source *s;
    FILE *out = open_memstream(&r->text, &r->bytes);
    r->status = weft_source_open(&s, r->path, &r->tally);
    if (r->status == WEFT_OK) {
        weft_document doc;
        bool end = false;
        while ((r->status = weft_source_next(s, &doc, &end)) == WEFT_OK && !end) {
            fprintf(out, "%s|", doc.domain);
            fwrite(doc.text, 1, doc.bytes, out);
            fputc('\n', out);
            ck_assert_str_eq(doc.file, r->path);
            r->last_line = doc.line;
        }
        weft_source_close(s);
    }
    fclose(out);
}

static void reads(const char *path, int64_t max_malformed, const char *want) {
    reading r = {.path = path, .tally = {.max_malformed = max_malformed}};
    read_all(&r);
    ck_assert_int_eq(r.status, WEFT_OK);
    ck_assert_str_eq(r.text, want);
    free(r.text);
}

static void refused(const char *path, int64_t max_malformed, const char *why) {
    reading r = {.path = path, .tally = {.max_malformed = max_malformed}};
    const char *text = made_errors(read_all, &r);
    ck_assert_int_eq(r.status, WEFT_EINPUT);
    ck_assert_msg(strstr(text, path) && strstr(text, why), "'%s' lacks the path or '%s'", text, why);
    free(r.text);
}

static const char lines[] =
    "{\"text\": \"one \\u00e9 \\ud83d\\ude00\", \"domain\": \"web\"}\n"
    "\n"
    "{\"domain\": \"code\", \"n\": [1, {\"text\": \"inner\"}], \"text\": \"two\\nlines\"}\r\n"
    "{\"text\": \"\"}\n"
    "{\"text\": \"three\"}";
static const char documents[] = "web|one \xc3\xa9 \xf0\x9f\x98\x80\ncode|two\nlines\n|three\n";

START_TEST(jsonl_in_each_packing) {
    for (int p = 0; p < 3; p++) {
        char *path = file_with("a.jsonl", lines, sizeof lines - 1, (packing)p);
        reading r = {.path = path};
        read_all(&r);
        ck_assert_int_eq(r.status, WEFT_OK);
        ck_assert_str_eq(r.text, documents);
        ck_assert_int_eq(r.last_line, 5);
        ck_assert_int_eq(r.tally.documents, 3);
        ck_assert_int_eq(r.tally.bytes, 11 + 9 + 5);
        ck_assert_int_eq(r.tally.empty, 1);
        ck_assert_int_eq(r.tally.malformed, 0);
        free(r.text);
        free(path);
    }
}
END_TEST

START_TEST(txt_is_one_document) {
    for (int p = 0; p < 3; p++) {
        char *path = file_with("a.txt", "\xef\xbb\xbfline\n\nline \xe2\x82\xac\n", 18, (packing)p);
        reads(path, 0, "|line\n\nline \xe2\x82\xac\n\n");
        free(path);
    }
    char *path = file_with("empty.txt", "", 0, PLAIN);
    reads(path, 0, "");
    free(path);
}
END_TEST

START_TEST(members_and_frames_are_one_stream) {
    for (int p = 1; p < 3; p++) {
        char *path = file_with("a.jsonl", lines, 60, (packing)p);
        append(path, lines + 60, sizeof lines - 1 - 60, (packing)p);
        reads(path, 0, documents);
        free(path);
    }
}
END_TEST

/* Larger than every buffer inside, lines of all lengths, in each packing. */
START_TEST(long_files_and_lines) {
    char *text, *want;
    size_t bytes, want_bytes;
    FILE *f = open_memstream(&text, &bytes), *w = open_memstream(&want, &want_bytes);
    fprintf(f, "\xef\xbb\xbf");
    for (int i = 0; i < 60; i++) {
        int n = (int)((int64_t)i * i * i * 17 % 500000);
        if (i == 40) n = 3000000;
        fprintf(f, "{\"text\": \"");
        fprintf(w, "|");
        for (int k = 0; k < n + 1; k++) {
            int c = 'a' + (int)(((int64_t)k * k + i) % 26);
            fputc(c, f);
            fputc(c, w);
        }
        fprintf(f, "\"}\n");
        fprintf(w, "\n");
    }
    fclose(f);
    fclose(w);
    for (int p = 0; p < 3; p++) {
        char *path = file_with("long.jsonl", text, bytes, (packing)p);
        reads(path, 0, want);
        free(path);
        path = file_with("long.txt", want, want_bytes, (packing)p);
        char *whole = weft_format("|%s\n", want);
        reads(path, 0, whole);
        free(whole);
        free(path);
    }
    free(text);
    free(want);
}
END_TEST

START_TEST(malformed_lines_are_counted_up_to_the_limit) {
    static const char bad[] = "{\"text\": \"good\"}\n"
                              "{\"text\": \"cut\n"
                              "{\"txt\": \"no text\"}\n"
                              "{\"text\": 7}\n"
                              "[\"text\"]\n"
                              "{\"text\": \"\xff\"}\n"
                              "{\"text\": \"\\ud800\"}\n"
                              "{\"text\": \"x\", \"domain\": \"../up\"}\n"
                              "{\"text\": \"x\", \"domain\": 3}\n"
                              "{\"text\": \"x\"} {}\n"
                              "{\"text\": \"last\"}\n";
    char *path = file_with("bad.jsonl", bad, sizeof bad - 1, PLAIN);
    reading r = {.path = path, .tally = {.max_malformed = 9}};
    const char *text = made_errors(read_all, &r);
    ck_assert_int_eq(r.status, WEFT_OK);
    ck_assert_str_eq(r.text, "|good\n|last\n");
    ck_assert_int_eq(r.tally.malformed, 9);
    ck_assert_ptr_nonnull(strstr(text, "bad.jsonl:2: malformed line skipped"));
    ck_assert_ptr_nonnull(strstr(text, "bad.jsonl:3: malformed line skipped: it has no \"text\""));
    ck_assert_ptr_nonnull(strstr(text, "bad.jsonl:6: "));
    ck_assert_ptr_null(strstr(text, "bad.jsonl:7: ")); /* only the first few are shown */
    free(r.text);
    refused(path, 8, ":10: malformed line");
    refused(path, 0, ":2: malformed line");
    free(path);
}
END_TEST

START_TEST(invalid_utf8_in_txt_is_fatal_with_its_byte) {
    static const struct {
        const char *text, *why;
    } cases[] = {
        {"abc\xff", "at byte 3"},       {"ab\xc3", "at byte 2"},           {"\xc0\x80", "at byte 0"},
        {"a\xed\xa0\x80", "at byte 1"}, {"\xe0\x9f\xbf", "at byte 0"},     {"\xf4\x90\x80\x80", "at byte 0"},
        {"\xc3\xa9\x80", "at byte 2"},  {"\xf0\x8f\xbf\xbf", "at byte 0"}, {"\xef\xbb\xbf\x80", "at byte 3"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *path = file_with("bad.txt", cases[i].text, strlen(cases[i].text), PLAIN);
        refused(path, 100, cases[i].why);
        free(path);
    }
    char *path = file_with("bad.txt", "a\xff", 2, ZSTD);
    refused(path, 100, "at byte 1 of the unpacked text");
    free(path);
}
END_TEST

START_TEST(damaged_packing_is_fatal_with_its_byte) {
    size_t bytes = 3 << 20;
    char *noise = malloc(bytes), why[64];
    uint32_t x = 1;
    for (size_t i = 0; i < bytes; i++) noise[i] = (char)('a' + ((x = x * 1664525 + 1013904223) >> 24) % 26);
    for (int p = 1; p < 3; p++)
        for (int i = 0; i < 3; i++) {
            char *path = file_with("cut.txt", noise, bytes, (packing)p);
            long size = made_size(path), cut = i == 0 ? size - 1 : i == 1 ? size / 2 : 0;
            made_cut(path, cut);
            snprintf(why, sizeof why, "truncated %s data: the file ends at byte %ld",
                     p == 1 ? "gzip" : "zstd", cut);
            refused(path, 100, why);
            free(path);
        }
    char *flipped = file_with("flip.txt", noise, bytes, GZIP);
    made_flip(flipped, made_size(flipped) - 2); /* the length at the end */
    refused(flipped, 100, "damaged gzip data near byte");
    free(flipped);
    char *path = file_with("foreign.txt", "not zstd at all", 15, PLAIN),
         *renamed = weft_format("%s.zst", path);
    ck_assert_int_eq(rename(path, renamed), 0);
    refused(renamed, 100, "damaged zstd data near byte 0");
    free(path);
    free(renamed);
    free(noise);
}
END_TEST

START_TEST(names_and_missing_files) {
    refused("/nonexistent/a.txt", 0, "No such file");
    refused("/nonexistent/a.parquet", 0, "not a name that ends in .txt or .jsonl");
    refused("/nonexistent/.gz", 0, "not a name that ends in");
    char *dir = weft_format("%s/a.txt", made_dir());
    ck_assert_int_eq(weft_fs_mkdir(dir), WEFT_OK);
    refused(dir, 0, "a directory");
    free(dir);
    static const struct {
        const char *name;
        bool ok;
    } names[] = {{"web", true},  {"a.b-c_9", true}, {"", false},        {".x", false},
                 {"a/b", false}, {"a b", false},    {"\xc3\xa9", false}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        ck_assert_int_eq(weft_domain_name_ok(names[i].name, strlen(names[i].name)), names[i].ok);
    char longest[65];
    memset(longest, 'a', sizeof longest);
    ck_assert_int_eq(weft_domain_name_ok(longest, 63), true);
    ck_assert_int_eq(weft_domain_name_ok(longest, 64), false);
}
END_TEST

SUITE_MAIN("data/source", jsonl_in_each_packing, txt_is_one_document, members_and_frames_are_one_stream,
           long_files_and_lines, malformed_lines_are_counted_up_to_the_limit,
           invalid_utf8_in_txt_is_fatal_with_its_byte, damaged_packing_is_fatal_with_its_byte,
           names_and_missing_files)
