/* data/source: WARC and WET: records, HTTP responses with their codings and charsets, what is no text,
 * damage. */
#include "made_data.h"
#include "made_source.h"
#include "runtime/fs.h"
#include "support/suite.h"

#include <stdio.h>
#include <string.h>

/* A file being made; each record is a member or frame of its own, as Common Crawl packs them. */
typedef struct archive {
    char *path;
    packing how;
} archive;

static archive begin(const char *name, packing how) {
    return (archive){made_file(name, "", 0, PLAIN), how};
}

/* The path, with the packing's ending. */
static char *done(archive a) {
    static const char *const endings[] = {"", ".gz", ".zst"};
    char *path = weft_format("%s%s", a.path, endings[a.how]);
    if (a.how != PLAIN) ck_assert_int_eq(rename(a.path, path), 0);
    free(a.path);
    return path;
}

static void record(const archive *a, const char *type, const char *uri, const void *block, size_t bytes) {
    char *data;
    size_t n;
    FILE *f = open_memstream(&data, &n);
    fprintf(f, "WARC/1.0\r\nWARC-Type: %s\r\nWARC-Record-ID: <urn:uuid:1>\r\n", type);
    if (uri) fprintf(f, "WARC-Target-URI: %s\r\n", uri);
    fprintf(f, "Content-Type: application/http; msgtype=response\r\nContent-Length: %zu\r\n\r\n", bytes);
    fwrite(block, 1, bytes, f);
    fprintf(f, "\r\n\r\n");
    fclose(f);
    made_append(a->path, data, n, a->how);
    free(data);
}

static void response(const archive *a, const char *uri, const char *header, const void *body, size_t bytes) {
    char *data;
    size_t n;
    FILE *f = open_memstream(&data, &n);
    fputs(header, f);
    fwrite(body, 1, bytes, f);
    fclose(f);
    record(a, "response", uri, data, n);
    free(data);
}

#define TEXT(s) s, sizeof s - 1
#define OK "HTTP/1.1 200 OK\r\n"
#define HTML OK "Content-Type: text/html\r\n"

static weft_source_tally reads_one(const char *header, const void *body, size_t bytes,
                                   const weft_source_options *o, const char *want) {
    archive a = begin("one.warc", GZIP);
    response(&a, "http://a/", header, body, bytes);
    char *path = done(a), *all = want ? weft_format("1||http://a/|%s\n", want) : weft_format("%s", "");
    weft_source_tally t = made_reads(path, o, 1, all);
    ck_assert_int_eq(t.documents + t.malformed + t.empty + t.oversize + t.invalid + t.other, 1);
    free(all);
    free(path);
    return t;
}

START_TEST(warc_in_each_packing) {
    for (int p = 0; p < 3; p++) {
        archive a = begin("a.warc", (packing)p);
        record(&a, "warcinfo", NULL, TEXT("software: x\r\n"));
        record(&a, "request", "http://a/", TEXT("GET / HTTP/1.1\r\n\r\n"));
        response(&a, "http://a/", HTML "\r\n", TEXT("<p>one<p>two"));
        record(&a, "metadata", "http://a/", TEXT("x: y\r\n"));
        response(&a, "<http://b/>", "HTTP/1.1 404 Not Found\r\nContent-Type: text/html\r\n\r\n",
                 TEXT("<p>no"));
        response(&a, "http://c/", OK "Content-Type: image/png\r\n\r\n", TEXT("\x89PNG\0"));
        record(&a, "response", "dns:d", TEXT("20200101 d 1.2.3.4"));
        record(&a, "conversion", "http://c/", TEXT("not of a .warc"));
        response(&a, "<http://e/>", "HTTP/2 200\ncontent-type:Text/Plain;charset=UTF-8\n\n", TEXT("plain\n"));
        response(&a, "http://f/", HTML "\r\n", TEXT("<script>x</script>"));
        record(&a, "response", "http://g/", "", 0);
        char *path = done(a);
        weft_source_tally t = made_reads(path, NULL, 0, "3||http://a/|one\n\ntwo\n9||http://e/|plain\n\n");
        ck_assert_int_eq(t.documents, 2);
        ck_assert_int_eq(t.other, 8);
        ck_assert_int_eq(t.empty, 1);
        free(path);
    }
}
END_TEST

START_TEST(wet_is_taken_as_it_is) {
    weft_source_options skip = {.invalid_utf8 = WEFT_BAD_SKIP,
                                .nul_bytes = WEFT_BAD_SKIP,
                                .max_document = 30,
                                .oversize = WEFT_BAD_SKIP};
    weft_source_options repair = {.invalid_utf8 = WEFT_BAD_REPAIR,
                                  .nul_bytes = WEFT_BAD_REPAIR,
                                  .max_document = 30,
                                  .oversize = WEFT_BAD_SKIP};
    for (int p = 0; p < 3; p++) {
        archive a = begin("a.warc.wet", (packing)p);
        record(&a, "warcinfo", NULL, TEXT("software: x, with a text that is over the limit\r\n"));
        record(&a, "conversion", "http://a/", TEXT("<b>\xc3\xa9</b>\nline\n"));
        record(&a, "conversion", "http://b/", TEXT("bad \xff"));
        record(&a, "conversion", "http://c/", "", 0);
        record(&a, "conversion", "http://d/", TEXT("\0nul"));
        record(&a, "conversion", "http://e/", TEXT("1234567890123456789012345678901"));
        record(&a, "response", "http://e/", TEXT(HTML "\r\n<p>x"));
        record(&a, "conversion", NULL, TEXT("123456789012345678901234567890"));
        char *path = done(a);
        weft_source_tally t = made_reads(
            path, &skip, 0, "2||http://a/|<b>\xc3\xa9</b>\nline\n\n8|||123456789012345678901234567890\n");
        ck_assert_int_eq(t.other, 2);
        ck_assert_int_eq(t.invalid, 2);
        ck_assert_int_eq(t.empty, 1);
        ck_assert_int_eq(t.oversize, 1);
        ck_assert_int_eq(t.skipped_bytes, 5 + 4 + 31);
        t = made_reads(
            path, &repair, 0,
            "2||http://a/|<b>\xc3\xa9</b>\nline\n\n3||http://b/|bad \xef\xbf\xbd\n5||http://d/|nul\n"
            "8|||123456789012345678901234567890\n");
        ck_assert_int_eq(t.repaired, 2);
        made_refused(path, NULL, 100, ":3: not UTF-8 at byte 4 of its text");
        repair.oversize = WEFT_BAD_ERROR;
        made_refused(path, &repair, 100, ":6: a record longer than 30 bytes");
        repair.oversize = WEFT_BAD_SKIP;
        free(path);
    }
}
END_TEST

START_TEST(chunked_bodies_are_joined) {
    const char *header = HTML "Transfer-Encoding: chunked\r\n\r\n";
    reads_one(header, TEXT("5\r\n<p>on\r\n6;x=y\r\ne<p>tw\r\n1 \r\no\r\n0\r\n\r\n"), NULL, "one\n\ntwo");
    reads_one(header, TEXT("A\n<p>chunked\n0\n\n"), NULL, "chunked");
    reads_one(header, TEXT("5\r\n<p>on\r\nff\r\ne is cut off"), NULL, "one is cut off");
    reads_one(header, TEXT("5\r\n<p>on\r\nzz\r\ngarbage"), NULL, "on");
    reads_one(header, TEXT("<p>joined by the crawler"), NULL, "joined by the crawler");
    reads_one(header, TEXT("10000000000000002\r\nno chunk is so long"), NULL,
              "10000000000000002 no chunk is so long");
    ck_assert_int_eq(reads_one(header, TEXT("0\r\n\r\n"), NULL, NULL).empty, 1);
}
END_TEST

START_TEST(packed_bodies_are_unpacked) {
    static const char page[] = "<p>packed, packed, packed, packed, packed, packed, packed";
    static const struct {
        int window;
        const char *coding;
    } cases[] = {{15 + 16, "gzip"},
                 {15 + 16, "x-gzip"},
                 {15, "deflate"},
                 {-15, "deflate"},
                 {15 + 16, "identity, gzip"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t n;
        unsigned char *packed = made_deflated(TEXT(page), cases[i].window, &n);
        char *header = weft_format(HTML "Content-Encoding: %s\r\n\r\n", cases[i].coding);
        reads_one(header, packed, n, NULL, page + 3);
        reads_one(header, TEXT(page), NULL, page + 3); /* unpacked by the crawler, which left the header */
        free(header);
        header = weft_format(HTML "transfer-encoding: %s, chunked\r\n\r\n", cases[i].coding);
        char *chunked;
        size_t bytes;
        FILE *f = open_memstream(&chunked, &bytes);
        fprintf(f, "%zx\r\n", n);
        fwrite(packed, 1, n, f);
        fprintf(f, "\r\n0\r\n\r\n");
        fclose(f);
        reads_one(header, chunked, bytes, NULL, page + 3);
        free(header);
        free(chunked);
        free(packed);
    }
    ck_assert_int_eq(reads_one(HTML "Content-Encoding: br\r\n\r\n", TEXT("<p>x"), NULL, NULL).other, 1);
}
END_TEST

/* A crawler that stops at a length leaves a page without its end. */
START_TEST(packed_bodies_that_are_cut_off) {
    static const int windows[] = {15 + 16, 15, -15};
    char page[20001] = "<p>";
    uint32_t x = 1;
    for (int i = 3; i < 20000; i++) page[i] = (char)('a' + ((x = x * 1664525 + 1013904223) >> 24) % 26);
    for (int i = 0; i < 3; i++) {
        size_t n;
        unsigned char *packed = made_deflated(page, 20000, windows[i], &n);
        archive a = begin("cut.warc", PLAIN);
        response(&a, "http://a/", HTML "Content-Encoding: deflate\r\n\r\n", packed, n / 2);
        char *path = done(a);
        reading r = {.path = path};
        made_read(&r);
        ck_assert_int_eq(r.tally.documents, 1);
        ck_assert_int_gt(r.tally.bytes, 9000);
        ck_assert_int_lt(r.tally.bytes, 11000);
        ck_assert_int_eq(strncmp(r.text + strlen("1||http://a/|"), page + 3, (size_t)r.tally.bytes), 0);
        free(r.text);
        free(path);
        free(packed);
    }
}
END_TEST

START_TEST(a_bomb_is_too_long) {
    size_t bytes = 20 << 20, n;
    char *zeros = malloc(bytes);
    memset(zeros, ' ', bytes);
    zeros[0] = 'a';
    unsigned char *packed = made_deflated(zeros, bytes, 15 + 16, &n);
    weft_source_options o = {.max_document = 1 << 20, .oversize = WEFT_BAD_SKIP};
    weft_source_tally t = reads_one(HTML "Content-Encoding: gzip\r\n\r\n", packed, n, &o, NULL);
    ck_assert_int_eq(t.oversize, 1);
    ck_assert_int_lt(t.skipped_bytes, 2 << 20); /* what was unpacked of it */
    free(packed);
    free(zeros);
}
END_TEST

START_TEST(charsets) {
#define PLAIN_TEXT OK "Content-Type: text/plain"
    weft_source_options repair = {.invalid_utf8 = WEFT_BAD_REPAIR}, skip = {.invalid_utf8 = WEFT_BAD_SKIP};
    reads_one(PLAIN_TEXT "; charset=ISO-8859-1\r\n\r\n", TEXT("caf\xe9 \x93q\x94"), NULL,
              "caf\xc3\xa9 \xe2\x80\x9cq\xe2\x80\x9d");
    reads_one(PLAIN_TEXT "\r\n\r\n", TEXT("caf\xe9"), NULL, "caf\xc3\xa9");
    reads_one(PLAIN_TEXT "\r\n\r\n", TEXT("caf\xc3\xa9"), NULL, "caf\xc3\xa9");
    reads_one(PLAIN_TEXT "; charset=\"koi8-r\"\r\n\r\n", TEXT("\xd0\xd2\xc9"), NULL,
              "\xd0\xbf\xd1\x80\xd0\xb8");
    reads_one(PLAIN_TEXT "; charset=no-such-thing\r\n\r\n", TEXT("caf\xc3\xa9"), NULL, "caf\xc3\xa9");
    reads_one(PLAIN_TEXT "; charset=../../etc/passwd\r\n\r\n", TEXT("x"), NULL, "x");
    reads_one(PLAIN_TEXT "; Charset=utf8\r\n\r\n", TEXT("bad \xff"), &repair, "bad \xef\xbf\xbd");
    ck_assert_int_eq(reads_one(PLAIN_TEXT "; charset=utf-8\r\n\r\n", TEXT("bad \xff"), &skip, NULL).invalid,
                     1);
    reads_one(OK "Content-Type: application/xhtml+xml; x=y; charset=Shift_JIS\r\n\r\n",
              TEXT("<p>\x93\xfa\x96\x7b</p>"), NULL, "\xe6\x97\xa5\xe6\x9c\xac");
    reads_one(HTML "\r\n", TEXT("<meta charset='gb2312'><p>\xc4\xe3\xba\xc3"), NULL,
              "\xe4\xbd\xa0\xe5\xa5\xbd");
}
END_TEST

START_TEST(a_header_without_end_is_malformed) {
    size_t bytes = 100000;
    char *header = malloc(bytes + 1);
    memset(header, 'x', bytes);
    header[bytes] = 0;
    memcpy(header, TEXT(OK));
    archive a = begin("bad.warc", PLAIN);
    record(&a, "response", "http://a/", TEXT(OK "Content-Type: text/html\r\n"));
    response(&a, "http://b/", header, "", 0);
    response(&a, "http://c/", HTML "\r\n", TEXT("<p>good"));
    char *path = done(a);
    ck_assert_int_eq(made_reads(path, NULL, 2, "3||http://c/|good\n").malformed, 2);
    made_refused(path, NULL, 1, ":2: malformed record: a response whose HTTP header does not end");
    free(path);
    free(header);
}
END_TEST

START_TEST(long_records) {
    size_t bytes = 3 << 20;
    char *page = malloc(bytes + 1);
    memset(page, 'a', bytes);
    page[bytes] = 0;
    memcpy(page, "<p>", 3);
    archive a = begin("long.warc", GZIP);
    response(&a, "http://video/", OK "Content-Type: video/mp4\r\n\r\n", page,
             bytes); /* over the limit, but no text */
    response(&a, "http://a/", HTML "\r\n", page, bytes);
    response(&a, "http://b/", HTML "\r\n", page, 1 << 20);
    response(&a, "http://c/", HTML "\r\n", TEXT("<p>end"));
    char *path = done(a),
         *want = weft_format("3||http://b/|%.*s\n4||http://c/|end\n", (1 << 20) - 3, page + 3);
    weft_source_options o = {.max_document = 2 << 20, .oversize = WEFT_BAD_SKIP};
    weft_source_tally t = made_reads(path, &o, 0, want);
    ck_assert_int_eq(t.other, 1);
    ck_assert_int_eq(t.oversize, 1);
    o.oversize = WEFT_BAD_ERROR;
    made_refused(path, &o, 0, ":2: a record longer than 2097152 bytes");
    free(want);
    free(path);
    free(page);
}
END_TEST

/* Cut off at every byte: what is whole is delivered, and the damage is counted. */
START_TEST(cut_off_anywhere) {
    weft_source_options o = {.damaged_files = WEFT_BAD_SKIP};
    archive a = begin("cut.warc", PLAIN);
    response(&a, "http://a/", HTML "\r\n", TEXT("<p>one"));
    long first = made_size(a.path);
    record(&a, "metadata", "http://a/", TEXT("x: y\r\n"));
    response(&a, "http://b/", HTML "\r\n", TEXT("<p>two"));
    char *path = done(a);
    long size = made_size(path);
    for (long cut = size - 1; cut >= 0; cut--) {
        made_cut(path, cut);
        reading r = {.path = path, .options = &o};
        const char *log = made_errors(made_read, &r);
        bool whole = cut >= size - 4 || cut == 0, one = cut >= first - 4;
        ck_assert_int_eq(r.status, WEFT_OK);
        ck_assert_str_eq(r.text, cut >= size - 4 ? "1||http://a/|one\n3||http://b/|two\n"
                                 : one           ? "1||http://a/|one\n"
                                                 : "");
        ck_assert_int_eq(r.tally.documents + r.tally.other,
                         cut >= size - 4 ? 3 : r.tally.documents + r.tally.other);
        if (whole) ck_assert_int_eq(r.tally.damaged_files, 0);
        if (r.tally.damaged_files)
            ck_assert_msg(strstr(log, "cut.warc: ") && strstr(log, " at byte "), "'%s'", log);
        bool between = cut >= first - 4 && cut <= first;
        if (!whole && !between && r.tally.other == 0) ck_assert_int_eq(r.tally.damaged_files, 1);
        free(r.text);
    }
    free(path);
}
END_TEST

START_TEST(damage_says_where) {
    static const char good[] = "WARC/1.0\r\nWARC-Type: x\r\nContent-Length: 3\r\n\r\nabc\r\n\r\n";
    static const struct {
        const char *tail, *why;
    } cases[] = {
        {"garbage", "no WARC record begins at byte 52"},
        {"WARC/1.0\r\nWARC-Type: x\r\n\r\n", "no Content-Length in the WARC header that begins at byte 52"},
        {"WARC/1.0\r\nContent-Length: -3\r\n\r\nabc", "no Content-Length"},
        {"WARC/1.0\r\nContent-Length: 99999999999999999999\r\n\r\nabc", "no Content-Length"},
        {"WARC/1.0\r\nContent-Length: 999999999999\r\n\r\nabc", "ends inside a WARC record"},
        {"WARC/1.0\r\nContent-Length: 3\r\n", "no end of a WARC header that begins at byte 52"}};
    weft_source_options o = {.damaged_files = WEFT_BAD_SKIP};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *path = made_file("bad.warc", TEXT(good), PLAIN);
        made_append(path, cases[i].tail, strlen(cases[i].tail), PLAIN);
        made_refused(path, NULL, 100, cases[i].why);
        weft_source_tally t = made_reads(path, &o, 0, "");
        ck_assert_int_eq(t.other, 1);
        ck_assert_int_eq(t.damaged_files, 1);
        free(path);
    }
    archive a = begin("cut.warc", GZIP);
    response(&a, "http://a/", HTML "\r\n", TEXT("<p>one"));
    response(&a, "http://b/", HTML "\r\n", TEXT("<p>two"));
    char *path = done(a);
    made_cut(path, made_size(path) - 12);
    ck_assert_int_eq(made_reads(path, &o, 0, "1||http://a/|one\n").damaged_files, 1);
    made_refused(path, NULL, 0, "truncated gzip data: the file ends at byte");
    free(path);
}
END_TEST

SUITE_MAIN("data/source: WARC", warc_in_each_packing, wet_is_taken_as_it_is, chunked_bodies_are_joined,
           packed_bodies_are_unpacked, packed_bodies_that_are_cut_off, a_bomb_is_too_long, charsets,
           a_header_without_end_is_malformed, long_records, cut_off_anywhere, damage_says_where)
