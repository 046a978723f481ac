/* data/source: documents of txt, code and jsonl, plain, .gz and .zst; what is done with bad ones; lists of
 * files. */
#include "made_data.h"
#include "made_source.h"
#include "runtime/fs.h"
#include "support/suite.h"

#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define TEXT(s) s, sizeof s - 1

static const char lines[] =
    "\xef\xbb\xbf{\"text\": \"one \\u00e9 \\ud83d\\ude00\", \"domain\": \"web\"}\n"
    "\n"
    "{\"domain\": \"code\", \"n\": [1, {\"text\": \"inner\"}], \"text\": \"two\\nlines\"}\r\n"
    " \t\r\n"
    "{\"text\": \"\"}\r\n"
    "{\"text\": \"three\", \"url\": \"http://x/\", \"domain\": null}";
static const char documents[] =
    "1|web||one \xc3\xa9 \xf0\x9f\x98\x80\n3|code||two\nlines\n6||http://x/|three\n";

START_TEST(jsonl_in_each_packing) {
    for (int p = 0; p < 3; p++) {
        char *path = made_file("a.jsonl", TEXT(lines), (packing)p);
        weft_source_tally t = made_reads(path, NULL, 0, documents);
        ck_assert_int_eq(t.documents, 3);
        ck_assert_int_eq(t.bytes, 11 + 9 + 5);
        ck_assert_int_eq(t.empty, 1);
        ck_assert_int_eq(t.malformed + t.oversize + t.invalid + t.repaired + t.other + t.damaged_files, 0);
        ck_assert_int_eq(t.skipped_bytes, 0);
        free(path);
    }
}
END_TEST

START_TEST(fields_of_other_names_and_members_of_members) {
    static const char data[] =
        "{\"body\": {\"raw\": \"one\"}, \"meta\": {\"x\": {\"link\": \"u1\"}}}\n"
        "{\"body.raw\": \"two\", \"meta\": {\"x\": {\"link\": null}}, \"url\": \"not this\"}\n"
        "{\"body\": {\"raw\": \"three\"}, \"meta\": {\"x\": 5}}\n"
        "{\"body\": {\"raw\": \"four\"}, \"meta\": {\"x\": {\"link\": \"a\\u0000b\"}}}\n"
        "{\"body\": {\"text\": \"none\"}}\n"
        "{\"body\": \"none\"}\n"
        "{\"body\": {\"raw\": \"none\"}, \"meta\": {\"x\": {\"link\": 7}}}\n";
    weft_source_options o = {.text_field = "body.raw", .url_field = "meta.x.link"};
    char *path = made_file("fields.jsonl", TEXT(data), PLAIN);
    weft_source_tally t = made_reads(path, &o, 3, "1||u1|one\n2|||two\n3|||three\n4|||four\n");
    ck_assert_int_eq(t.malformed, 3);
    made_refused(path, &o, 0, ":5: malformed line: it has no \"body.raw\"");
    made_refused(path, &o, 2, ":7: malformed line: \"meta.x.link\" is not a string");
    free(path);
}
END_TEST

START_TEST(txt_is_one_document) {
    for (int p = 0; p < 3; p++) {
        char *path = made_file("a.txt", TEXT("\xef\xbb\xbfline\n\nline \xe2\x82\xac\n"), (packing)p);
        made_reads(path, NULL, 0, "0|||line\n\nline \xe2\x82\xac\n\n");
        free(path);
    }
    char *path = made_file("empty.txt", "", 0, PLAIN);
    ck_assert_int_eq(made_reads(path, NULL, 0, "").empty, 1);
    free(path);
    path = made_file("mark.txt", TEXT("\xef\xbb\xbf"), PLAIN);
    ck_assert_int_eq(made_reads(path, NULL, 0, "").empty, 1);
    free(path);
}
END_TEST

START_TEST(a_format_asked_for_holds_for_any_name) {
    char *path = made_file("main.c", TEXT("int x;\n"), PLAIN),
         *packed = made_file("run.py", TEXT("x = 1"), ZSTD);
    char *data = made_file("part-0001", TEXT("{\"text\": \"a\"}\n"), PLAIN);
    made_reads(path, &(weft_source_options){.format = WEFT_FORMAT_CODE}, 0, "0|||int x;\n\n");
    made_reads(packed, &(weft_source_options){.format = WEFT_FORMAT_CODE}, 0, "0|||x = 1\n");
    made_reads(data, &(weft_source_options){.format = WEFT_FORMAT_JSONL}, 0, "1|||a\n");
    made_reads(data, &(weft_source_options){.format = WEFT_FORMAT_TXT}, 0, "0|||{\"text\": \"a\"}\n\n");
    made_refused(path, NULL, 0, "give its format");
    free(path);
    free(packed);
    free(data);
}
END_TEST

START_TEST(members_and_frames_are_one_stream) {
    for (int p = 1; p < 3; p++) {
        char *path = made_file("a.jsonl", lines, 60, (packing)p);
        made_append(path, lines + 60, sizeof lines - 1 - 60, (packing)p);
        made_reads(path, NULL, 0, documents);
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
    for (int i = 0; i < 20; i++) {
        int n = (int)((int64_t)i * i * i * 17 % 150000);
        if (i == 14) n = 2500000;
        fprintf(f, "{\"text\": \"");
        fprintf(w, "%d|||", i + 1);
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
        char *path = made_file("long.jsonl", text, bytes, (packing)p);
        made_reads(path, NULL, 0, want);
        free(path);
        path = made_file("long.txt", want, want_bytes, (packing)p);
        char *whole = weft_format("0|||%s\n", want);
        made_reads(path, NULL, 0, whole);
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
    char *path = made_file("bad.jsonl", TEXT(bad), PLAIN);
    reading r = {.path = path, .tally = {.max_malformed = 9}};
    const char *text = made_errors(made_read, &r);
    ck_assert_int_eq(r.status, WEFT_OK);
    ck_assert_str_eq(r.text, "1|||good\n11|||last\n");
    ck_assert_int_eq(r.tally.malformed, 9);
    ck_assert_int_eq(r.tally.skipped_bytes, sizeof bad - 1 - 17 - 17 - 9);
    ck_assert_ptr_nonnull(strstr(text, "bad.jsonl:2: malformed line skipped"));
    ck_assert_ptr_nonnull(strstr(text, "bad.jsonl:3: malformed line skipped: it has no \"text\""));
    ck_assert_ptr_nonnull(strstr(text, "bad.jsonl:6: "));
    ck_assert_ptr_null(strstr(text, "bad.jsonl:7: ")); /* only the first few are shown */
    ck_assert_ptr_null(
        strstr(strstr(text, "bad.jsonl:2: ") + 1, "bad.jsonl:2: ")); /* and not again by fetch */
    free(r.text);
    made_refused(path, NULL, 8, ":10: malformed line");
    made_refused(path, NULL, 0, ":2: malformed line");
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
        char *path = made_file("bad.txt", cases[i].text, strlen(cases[i].text), PLAIN);
        made_refused(path, NULL, 100, cases[i].why);
        free(path);
    }
    char *path = made_file("bad.txt", TEXT("a\xff"), ZSTD);
    made_refused(path, NULL, 100, "at byte 1 of the unpacked text");
    free(path);
}
END_TEST

/* U+FFFD in place of each R. */
static void with_marks(const char *from, char *out) {
    for (; *from; from++)
        if (*from == 'R') {
            memcpy(out, "\xef\xbf\xbd", 3);
            out += 3;
        } else {
            *out++ = *from;
        }
    *out = 0;
}

/* The maximal parts of table 3-8 of the Unicode standard (15.0, section 3.9) and of its neighbours 3-9 to
 * 3-11. */
START_TEST(invalid_utf8_is_skipped_or_repaired) {
    static const struct {
        const char *bad, *good;
    } cases[] = {
        {"\xc0\xaf\xe0\x80\xbf\xf0\x81\x82\x41", "RRRRRRRRA"},
        {"\xed\xa0\x80\xed\xbf\xbf\xed\xaf\x41", "RRRRRRRRA"},
        {"\xf4\x91\x92\x93\xff\x41\x80\xbf\x42", "RRRRRARRB"},
        {"\xe1\x80\xe2\xf0\x91\x92\xf1\xbf\x41", "RRRRA"},
        {"\x61\xf1\x80\x80\xe1\x80\xc2\x62\x80\x63", "aRRRbRc"},
        {"a\xf0\x9f\x98\x80\xe2\x82", "a\xf0\x9f\x98\x80R"},
    };
    weft_source_options repair = {.invalid_utf8 = WEFT_BAD_REPAIR}, skip = {.invalid_utf8 = WEFT_BAD_SKIP};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char good[64], data[128], want[128];
        with_marks(cases[i].good, good);
        char *path = made_file("bad.txt", cases[i].bad, strlen(cases[i].bad), GZIP);
        snprintf(want, sizeof want, "0|||%s\n", good);
        ck_assert_int_eq(made_reads(path, &repair, 0, want).repaired, 1);
        weft_source_tally t = made_reads(path, &skip, 0, "");
        ck_assert_int_eq(t.invalid, 1);
        ck_assert_int_eq(t.skipped_bytes, strlen(cases[i].bad));
        free(path);
        int n = snprintf(data, sizeof data, "{\"text\": \"%s\"}\n{\"text\": \"b\"}", cases[i].bad);
        path = made_file("bad.jsonl", data, (size_t)n, PLAIN);
        snprintf(want, sizeof want, "1|||%s\n2|||b\n", good);
        t = made_reads(path, &repair, 0, want);
        ck_assert_int_eq(t.repaired, 1);
        ck_assert_int_eq(t.documents, 2);
        t = made_reads(path, &skip, 0, "2|||b\n");
        ck_assert_int_eq(t.invalid, 1);
        ck_assert_int_eq(t.malformed, 0);
        made_refused(path, NULL, 0, ":1: malformed line");
        free(path);
    }
}
END_TEST

START_TEST(half_surrogates_are_repaired) {
    static const char data[] = "{\"text\": \"a\\ud800b\\\\ud800\\ud83d\\ude00\\uDC00\\ud83d\"}\n"
                               "{\"text\": \"\\ud83dx\\q\"}\n{\"text\": \"\\u12\"}\n{\"text\": \"\\";
    char *path = made_file("half.jsonl", TEXT(data), PLAIN);
    weft_source_tally t = made_reads(path, &(weft_source_options){.invalid_utf8 = WEFT_BAD_REPAIR}, 3,
                                     "1|||a\xef\xbf\xbd"
                                     "b\\ud800\xf0\x9f\x98\x80\xef\xbf\xbd\xef\xbf\xbd\n");
    ck_assert_int_eq(t.repaired, 1);
    ck_assert_int_eq(t.malformed, 3);
    made_refused(path, &(weft_source_options){.invalid_utf8 = WEFT_BAD_SKIP}, 0, ":1: malformed line");
    free(path);
}
END_TEST

START_TEST(nul_bytes_are_fatal_skipped_or_taken_out) {
    static const char data[] = "{\"text\": \"a\\u0000b\"}\n{\"text\": \"c\0d\", \"\0\": 0}\n"
                               "{\"text\": \"\\u0000\"}\n{\"x\": \"\\u0000\", \"text\": \"e\"}\n"
                               "{\"text\": \"\0\xff\"}\n";
    weft_source_options skip = {.nul_bytes = WEFT_BAD_SKIP}, repair = {.nul_bytes = WEFT_BAD_REPAIR};
    weft_source_options both = {.nul_bytes = WEFT_BAD_REPAIR, .invalid_utf8 = WEFT_BAD_REPAIR};
    char *path = made_file("nul.jsonl", TEXT(data), PLAIN);
    weft_source_tally t = made_reads(path, &skip, 0, "4|||e\n");
    ck_assert_int_eq(t.invalid, 4);
    t = made_reads(path, &repair, 1, "1|||ab\n2|||cd\n4|||e\n");
    ck_assert_int_eq(t.repaired, 2);
    ck_assert_int_eq(t.empty, 1);
    ck_assert_int_eq(t.malformed, 1);
    t = made_reads(path, &both, 0, "1|||ab\n2|||cd\n4|||e\n5|||\xef\xbf\xbd\n");
    ck_assert_int_eq(t.repaired, 3);
    made_refused(path, NULL, 100, "nul.jsonl:1: its text has a NUL byte");
    free(path);
    path = made_file("raw.jsonl", TEXT("{\"text\": \"a\"}\n\0\n"), PLAIN);
    made_refused(path, NULL, 100, "raw.jsonl:2: the line has a NUL byte");
    free(path);
    path = made_file("nul.txt", TEXT("\0a\0\0b\0"), PLAIN);
    ck_assert_int_eq(made_reads(path, &skip, 0, "").invalid, 1);
    ck_assert_int_eq(made_reads(path, &repair, 0, "0|||ab\n").repaired, 1);
    made_refused(path, NULL, 100, "NUL byte");
    free(path);
    path = made_file("both.txt", TEXT("\xff\0a"), PLAIN);
    reading r = {.path = path, .options = &both};
    const char *log = strstr(made_errors(made_read, &r), "both.txt: repaired");
    ck_assert_ptr_nonnull(log);
    ck_assert_ptr_null(strstr(log + 1, "both.txt")); /* by fetch, again */
    free(r.text);
    ck_assert_int_eq(made_reads(path, &both, 0,
                                "0|||\xef\xbf\xbd"
                                "a\n")
                         .repaired,
                     1);
    free(path);
}
END_TEST

START_TEST(too_long_is_fatal_or_skipped) {
    static const char data[] = "{\"text\": \"123456789\"}\n{\"text\": \"1234567890\"}\r\n"
                               "{\"text\": \"a\"}\n{\"text\": \"12345678901234567890\"}";
    weft_source_options skip = {.max_document = 21, .oversize = WEFT_BAD_SKIP}, fail = {.max_document = 21};
    for (int p = 0; p < 3; p++) {
        char *path = made_file("long.jsonl", TEXT(data), (packing)p);
        weft_source_tally t = made_reads(path, &skip, 0, "1|||123456789\n3|||a\n");
        ck_assert_int_eq(t.oversize, 2);
        ck_assert_int_eq(t.skipped_bytes, 23 + 32);
        made_refused(path, &fail, 100, ":2: a line longer than 21 bytes");
        free(path);
        path = made_file("long.txt", TEXT("1234567890123456789012"), (packing)p);
        ck_assert_int_eq(made_reads(path, &skip, 0, "").oversize, 1);
        made_refused(path, &fail, 100, ": a text longer than 21 bytes");
        free(path);
        path = made_file("fits.txt", TEXT("123456789012345678901"), (packing)p);
        made_reads(path, &fail, 0, "0|||123456789012345678901\n");
        free(path);
    }
    skip.invalid_utf8 = WEFT_BAD_REPAIR; /* which makes a text longer */
    char *path = made_file("grows.txt", TEXT("\xff\xff\xff\xff\xff\xff\xff\xff"), PLAIN);
    weft_source_tally t = made_reads(path, &skip, 0, "");
    ck_assert_int_eq(t.oversize, 1);
    ck_assert_int_eq(t.repaired, 0);
    free(path);
}
END_TEST

/* A line of 300 MB in a sparse file: it is passed over without being held. */
START_TEST(a_line_over_the_limit_is_not_held) {
    struct rusage before, after;
    weft_source_options o = {.max_document = 1 << 20, .oversize = WEFT_BAD_SKIP};
    char *path = made_file("huge.jsonl", TEXT("{\"text\": \"a\"}\n"), PLAIN);
    ck_assert_int_eq(truncate(path, (off_t)300 << 20), 0);
    made_append(path, TEXT("\n{\"text\": \"b\"}\n"), PLAIN);
    reading r = {.path = path, .options = &o};
    getrusage(RUSAGE_SELF, &before);
    made_read(&r);
    getrusage(RUSAGE_SELF, &after);
    ck_assert_str_eq(r.text, "1|||a\n3|||b\n");
    ck_assert_int_eq(r.tally.oversize, 1);
    ck_assert_int_eq(r.tally.skipped_bytes, ((int64_t)300 << 20) - 14);
    ck_assert_int_lt(after.ru_maxrss - before.ru_maxrss, 64 << 10);
    ck_assert_int_eq(remove(path), 0);
    free(r.text);
    free(path);
}
END_TEST

static char *noise(size_t bytes) {
    char *data = malloc(bytes);
    uint32_t x = 1;
    for (size_t i = 0; i < bytes; i++) data[i] = (char)('a' + ((x = x * 1664525 + 1013904223) >> 24) % 26);
    return data;
}

START_TEST(damaged_packing_is_fatal_with_its_byte) {
    size_t bytes = 3 << 20;
    char *data = noise(bytes), why[64];
    for (int p = 1; p < 3; p++)
        for (int i = 0; i < 3; i++) {
            char *path = made_file("cut.txt", data, bytes, (packing)p);
            long size = made_size(path), cut = i == 0 ? size - 1 : i == 1 ? size / 2 : 0;
            made_cut(path, cut);
            snprintf(why, sizeof why, "truncated %s data: the file ends at byte %ld",
                     p == 1 ? "gzip" : "zstd", cut);
            made_refused(path, NULL, 100, why);
            free(path);
        }
    char *flipped = made_file("flip.txt", data, bytes, GZIP);
    made_flip(flipped, made_size(flipped) - 2); /* the length at the end */
    made_refused(flipped, NULL, 100, "damaged gzip data near byte");
    free(flipped);
    char *path = made_file("foreign.txt", TEXT("not zstd at all"), PLAIN),
         *renamed = weft_format("%s.zst", path);
    ck_assert_int_eq(rename(path, renamed), 0);
    made_refused(renamed, NULL, 100, "damaged zstd data near byte 0");
    free(path);
    free(renamed);
    free(data);
}
END_TEST

/* What comes before the damage is delivered, whole lines only. */
START_TEST(damaged_files_are_kept_up_to_the_damage) {
    enum { LINES = 40, LONG = 50000 };
    weft_source_options o = {.damaged_files = WEFT_BAD_SKIP};
    char *data, *texts = noise((size_t)LINES * LONG);
    size_t bytes;
    FILE *f = open_memstream(&data, &bytes);
    for (int i = 0; i < LINES; i++) fprintf(f, "{\"text\": \"%.*s\"}\n", LONG, texts + (size_t)i * LONG);
    fclose(f);
    for (int p = 1; p < 3; p++) {
        char *path = made_file("cut.jsonl", data, bytes, (packing)p);
        made_cut(path, made_size(path) / 2);
        reading r = {.path = path, .options = &o};
        const char *log = made_errors(made_read, &r);
        ck_assert_int_eq(r.status, WEFT_OK);
        ck_assert_int_eq(r.tally.damaged_files, 1);
        ck_assert_int_eq(r.tally.malformed, 0);
        ck_assert_int_ge(r.tally.documents, LINES / 2 - 4); /* a block of zstd holds more than two lines */
        ck_assert_int_le(r.tally.documents, LINES / 2);
        ck_assert_int_eq(r.tally.bytes, r.tally.documents * LONG);
        ck_assert_ptr_nonnull(strstr(log, "cut.jsonl"));
        ck_assert_ptr_nonnull(strstr(log, p == 1 ? "truncated gzip data: the file ends at byte"
                                                 : "truncated zstd data: the file ends at byte"));
        free(r.text);
        made_refused(path, NULL, 0, "truncated");
        free(path);
        path = made_file("cut.txt", texts, (size_t)LINES * LONG, (packing)p);
        made_cut(path, made_size(path) / 2);
        r = (reading){.path = path, .options = &o};
        made_errors(made_read, &r);
        ck_assert_int_eq(r.tally.damaged_files, 1);
        ck_assert_int_eq(r.tally.documents, 1);
        ck_assert_int_ge(r.tally.bytes, LINES / 2 * LONG - (128 << 10) - LONG);
        ck_assert_int_eq(strncmp(r.text + 4, texts, (size_t)r.tally.bytes), 0);
        free(r.text);
        free(path);
    }
    free(data);
    free(texts);
}
END_TEST

START_TEST(damage_inside_a_character_is_no_invalid_utf8) {
    weft_source_options o = {.damaged_files = WEFT_BAD_SKIP};
    char *path = made_file("cut.txt", TEXT("a\xe2\x82"), GZIP);
    made_cut(path, made_size(path) - 4); /* the data are whole, their length is not */
    weft_source_tally t = made_reads(path, &o, 0, "0|||a\n");
    ck_assert_int_eq(t.damaged_files, 1);
    free(path);
    path = made_file("none.txt", "", 0, PLAIN);
    char *renamed = weft_format("%s.gz", path);
    ck_assert_int_eq(rename(path, renamed), 0);
    t = made_reads(renamed, &o, 0, "");
    ck_assert_int_eq(t.damaged_files, 1);
    ck_assert_int_eq(t.empty, 1);
    free(path);
    free(renamed);
}
END_TEST

START_TEST(names_and_missing_files) {
    made_refused("/nonexistent/a.txt", NULL, 0, "No such file");
    made_refused("/nonexistent/a.html", NULL, 0, "not a name that ends in .txt, .jsonl");
    made_refused("/nonexistent/a.parquet", NULL, 0, "duckdb");
    made_refused("/nonexistent/.gz", NULL, 0, "not a name that ends in");
    char *dir = weft_format("%s/a.txt", made_dir());
    ck_assert_int_eq(weft_fs_mkdir(dir), WEFT_OK);
    made_refused(dir, NULL, 0, "a directory");
    made_refused(dir, &(weft_source_options){.max_document = WEFT_SOURCE_MAX_DOCUMENT + 1}, 0,
                 "max_document");
    made_refused(dir, &(weft_source_options){.oversize = WEFT_BAD_REPAIR}, 0, "not repaired");
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

static void fetch_absent(void *path) {
    char *text;
    size_t bytes;
    ck_assert_int_eq(weft_source_fetch(path, NULL, 2, &text, &bytes), WEFT_EINPUT);
    ck_assert_int_eq(weft_source_fetch(path, NULL, 4, &text, &bytes), WEFT_EINPUT);
    ck_assert_int_eq(weft_source_fetch(path, NULL, 0, &text, &bytes), WEFT_EINPUT);
}

START_TEST(fetch_of_what_is_not_there) {
    char *path = made_file("gone.jsonl", TEXT("{\"text\": \"a\"}\nnone\n{\"text\": \"b\"}\n"), PLAIN), *text;
    size_t bytes;
    ck_assert_int_eq(weft_source_fetch(path, NULL, 3, &text, &bytes), WEFT_OK);
    ck_assert_int_eq(bytes, 1);
    ck_assert_int_eq(text[0], 'b');
    free(text);
    const char *log = made_errors(fetch_absent, path);
    ck_assert_ptr_nonnull(strstr(log, "gone.jsonl:2: no such document"));
    ck_assert_ptr_nonnull(strstr(log, "gone.jsonl:4: no such document"));
    ck_assert_ptr_null(strstr(log, "malformed"));
    free(path);
}
END_TEST

/* ---- lists ---- */

static char *g_tree;

static void make(const char *name, const char *data, size_t bytes) {
    char *path = weft_format("%s/%s", g_tree, name), *slash = strrchr(path, '/');
    *slash = 0;
    ck_assert_int_eq(weft_fs_mkdirs(path), WEFT_OK);
    *slash = '/';
    made_append(path, data, bytes, PLAIN);
    free(path);
}

static void lists(const char *pattern, weft_format_kind format, const char *want) {
    char **files, *path = weft_format("%s%s", g_tree, pattern), got[1024] = "";
    int count;
    ck_assert_int_eq(weft_source_list(path, format, &files, &count), WEFT_OK);
    for (int i = 0; i < count; i++) {
        ck_assert_int_eq(strncmp(files[i], g_tree, strlen(g_tree)), 0);
        strcat(strcat(got, files[i] + strlen(g_tree) + 1), " ");
    }
    ck_assert_str_eq(got, want);
    weft_source_list_free(files, count);
    free(path);
}

static void list_nothing(void *path) {
    char **files;
    int count;
    ck_assert_int_eq(weft_source_list(path, WEFT_FORMAT_AUTO, &files, &count), WEFT_EINPUT);
}

START_TEST(lists_of_files) {
    g_tree = weft_format("%s", made_dir());
    static const char *const names[] = {
        "b.jsonl",       "a/z.txt.gz", "a.txt",    "a/B.ndjson.zst", "a/c/d/e.warc.wet.gz",
        "a/.hidden.txt", ".git/x.txt", "a/x.warc", "a/main.c",       "a-b/y.txt"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) make(names[i], "x", 1);
    make("a/pic.png", TEXT("\x89PNG\0"));
    char *link = weft_format("%s/loop", g_tree), *file_link = weft_format("%s/link.txt", g_tree);
    ck_assert_int_eq(symlink(g_tree, link), 0);
    ck_assert_int_eq(symlink("a.txt", file_link), 0);
    lists("", WEFT_FORMAT_AUTO,
          "a-b/y.txt a.txt a/B.ndjson.zst a/c/d/e.warc.wet.gz a/x.warc a/z.txt.gz b.jsonl link.txt ");
    lists("/a/", WEFT_FORMAT_AUTO, "a/B.ndjson.zst a/c/d/e.warc.wet.gz a/x.warc a/z.txt.gz ");
    lists("", WEFT_FORMAT_JSONL, "a/B.ndjson.zst b.jsonl ");
    lists("", WEFT_FORMAT_WET, "a/c/d/e.warc.wet.gz ");
    lists("/a", WEFT_FORMAT_CODE, "a/B.ndjson.zst a/c/d/e.warc.wet.gz a/main.c a/x.warc a/z.txt.gz ");
    lists("/a/main.c", WEFT_FORMAT_AUTO, "a/main.c ");
    lists("/a*", WEFT_FORMAT_TXT, "a-b/y.txt a.txt a/z.txt.gz ");
    lists("/a/*.[pc]*", WEFT_FORMAT_AUTO, "a/main.c a/pic.png ");
    lists("/a/*.[pc]*", WEFT_FORMAT_CODE, "a/main.c ");
    make("[x].txt", "x", 1);
    lists("/[x].txt", WEFT_FORMAT_AUTO, "[x].txt ");
    free(link);
    free(file_link);
    make("p/x.parquet", "PAR1", 4);
    char *parquet = weft_format("%s/p", g_tree), *absent = weft_format("%s/*.html", g_tree);
    ck_assert_ptr_nonnull(strstr(made_errors(list_nothing, parquet), "duckdb"));
    ck_assert_ptr_nonnull(strstr(made_errors(list_nothing, absent), "*.html: no file there"));
    free(parquet);
    free(absent);
    free(g_tree);
}
END_TEST

SUITE_MAIN("data/source", jsonl_in_each_packing, fields_of_other_names_and_members_of_members,
           txt_is_one_document, a_format_asked_for_holds_for_any_name, members_and_frames_are_one_stream,
           long_files_and_lines, malformed_lines_are_counted_up_to_the_limit,
           invalid_utf8_in_txt_is_fatal_with_its_byte, invalid_utf8_is_skipped_or_repaired,
           half_surrogates_are_repaired, nul_bytes_are_fatal_skipped_or_taken_out,
           too_long_is_fatal_or_skipped, a_line_over_the_limit_is_not_held,
           damaged_packing_is_fatal_with_its_byte, damaged_files_are_kept_up_to_the_damage,
           damage_inside_a_character_is_no_invalid_utf8, names_and_missing_files, fetch_of_what_is_not_there,
           lists_of_files)
