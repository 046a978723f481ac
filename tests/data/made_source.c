#include "made_source.h"
#include "data/source/source_json.h"
#include "made_data.h"
#include "runtime/fs.h"
#include "support/suite.h"

#include <stdio.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

unsigned char *made_deflated(const void *data, size_t bytes, int window, size_t *packed) {
    size_t room = bytes + (bytes >> 3) + 1024;
    unsigned char *out = malloc(room);
    z_stream z = {.next_in = (unsigned char *)data,
                  .avail_in = (unsigned)bytes,
                  .next_out = out,
                  .avail_out = (unsigned)room};
    ck_assert_int_eq(deflateInit2(&z, 6, Z_DEFLATED, window, 8, Z_DEFAULT_STRATEGY), Z_OK);
    ck_assert_int_eq(deflate(&z, Z_FINISH), Z_STREAM_END);
    *packed = z.total_out;
    deflateEnd(&z);
    return out;
}

void made_append(const char *path, const void *data, size_t bytes, packing how) {
    size_t n = bytes;
    void *out = NULL;
    if (how == GZIP) out = made_deflated(data, bytes, 15 + 16, &n);
    if (how == ZSTD) {
        out = malloc(ZSTD_compressBound(bytes));
        n = ZSTD_compress(out, ZSTD_compressBound(bytes), data, bytes, 1);
        ck_assert_int_eq((int)ZSTD_isError(n), 0);
    }
    FILE *f = fopen(path, "ab");
    ck_assert_ptr_nonnull(f);
    ck_assert_uint_eq(fwrite(out ? out : data, 1, n, f), n);
    ck_assert_int_eq(fclose(f), 0);
    free(out);
}

char *made_file(const char *name, const void *data, size_t bytes, packing how) {
    static const char *const endings[] = {"", ".gz", ".zst"};
    static const char *dir; /* one for all: a name made again is another file */
    if (!dir) dir = made_dir();
    char *path = weft_format("%s/%s%s", dir, name, endings[how]);
    remove(path);
    made_append(path, data, bytes, how);
    return path;
}

static void check(const reading *r, const weft_document *doc) {
    char *again;
    size_t bytes;
    ck_assert_str_eq(doc->file, r->path);
    ck_assert_uint_gt(doc->bytes, 0);
    ck_assert_ptr_null(memchr(doc->text, 0, doc->bytes));
    ck_assert_int_eq(weft_utf8_valid(doc->text, doc->bytes), true);
    ck_assert_int_eq(weft_source_fetch(r->path, r->options, doc->line, &again, &bytes), WEFT_OK);
    ck_assert_uint_eq(bytes, doc->bytes);
    ck_assert_int_eq(memcmp(again, doc->text, bytes), 0);
    free(again);
}

void made_read(void *a_reading) {
    reading *r = a_reading;
    weft_source *s;
    int64_t documents = 0, bytes = 0;
    FILE *out = open_memstream(&r->text, &r->bytes);
    r->status = weft_source_open(&s, r->path, r->options, &r->tally);
    if (r->status == WEFT_OK) {
        weft_document doc;
        bool end = false;
        while ((r->status = weft_source_next(s, &doc, &end)) == WEFT_OK && !end) {
            fprintf(out, "%lld|%s|%s|", (long long)doc.line, doc.domain, doc.url);
            fwrite(doc.text, 1, doc.bytes, out);
            fputc('\n', out);
            documents++;
            bytes += (int64_t)doc.bytes;
            check(r, &doc);
        }
        if (r->status == WEFT_OK) ck_assert_int_eq(weft_source_next(s, &doc, &end), WEFT_OK);
        if (r->status == WEFT_OK) ck_assert_int_eq(end, true);
        weft_source_close(s);
    }
    fclose(out);
    ck_assert_int_eq(r->tally.documents, documents);
    ck_assert_int_eq(r->tally.bytes, bytes);
}

weft_source_tally made_reads(const char *path, const weft_source_options *o, int64_t max_malformed,
                             const char *want) {
    reading r = {.path = path, .options = o, .tally = {.max_malformed = max_malformed}};
    made_read(&r);
    ck_assert_int_eq(r.status, WEFT_OK);
    ck_assert_str_eq(r.text, want);
    free(r.text);
    return r.tally;
}

void made_refused(const char *path, const weft_source_options *o, int64_t max_malformed, const char *why) {
    reading r = {.path = path, .options = o, .tally = {.max_malformed = max_malformed}};
    const char *text = made_errors(made_read, &r);
    ck_assert_int_eq(r.status, WEFT_EINPUT);
    ck_assert_msg(strstr(text, path) && strstr(text, why), "'%s' lacks the path or '%s'", text, why);
    free(r.text);
}
