#include "data/source/source_private.h"
#include "data/source/source_utf8.h"
#include "runtime/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { REPORTED = 5 }; /* of each kind, in a job */

const weft_source_options weft_source_defaults = {.format = WEFT_FORMAT_AUTO}; /* and zeros: ERROR */

bool weft_domain_name_ok(const char *name, size_t bytes) {
    if (bytes == 0 || bytes >= WEFT_DOMAIN_NAME || name[0] == '.') return false;
    for (size_t i = 0; i < bytes; i++) {
        char c = name[i];
        bool ok = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
                  c == '.' || c == '-';
        if (!ok) return false;
    }
    return true;
}

/* ---- what a file is ---- */

static bool strip(const char *path, size_t *length, const char *ending) {
    size_t n = strlen(ending);
    if (*length <= n || strncmp(path + *length - n, ending, n) != 0) return false;
    *length -= n;
    return true;
}

weft_format_kind weft_source_kind(const char *path, weft_format_kind asked, weft_packing *packing) {
    static const struct {
        const char *ending;
        weft_format_kind kind;
    } endings[] = {{".txt", WEFT_FORMAT_TXT},      {".jsonl", WEFT_FORMAT_JSONL},
                   {".ndjson", WEFT_FORMAT_JSONL}, {".warc", WEFT_FORMAT_WARC},
                   {".wet", WEFT_FORMAT_WET},      {".synthetic", WEFT_FORMAT_SYNTHETIC}};
    weft_format_kind kind = WEFT_FORMAT_AUTO;
    size_t length = strlen(path);
    *packing = strip(path, &length, ".gz")    ? WEFT_GZIP
               : strip(path, &length, ".zst") ? WEFT_ZSTD
                                              : WEFT_PLAIN;
    for (size_t i = 0; i < sizeof endings / sizeof *endings && kind == WEFT_FORMAT_AUTO; i++)
        if (strip(path, &length, endings[i].ending)) kind = endings[i].kind;
    if (kind == WEFT_FORMAT_SYNTHETIC && *packing != WEFT_PLAIN) return WEFT_FORMAT_AUTO;
    return asked == WEFT_FORMAT_AUTO || asked == kind ? kind : WEFT_FORMAT_AUTO;
}

weft_format_kind weft_source_reads(const char *path, weft_format_kind asked) {
    weft_packing packing;
    return weft_source_kind(path, asked, &packing);
}

static weft_status unknown_name(const char *path) {
    size_t length = strlen(path);
    if (strip(path, &length, ".parquet"))
        WEFT_FAIL(WEFT_EINPUT,
                  "%s: parquet is not read; make it jsonl, for example with: duckdb -c \"COPY (SELECT * FROM "
                  "'FILE.parquet') TO 'FILE.jsonl' (FORMAT json)\"",
                  path);
    WEFT_FAIL(
        WEFT_EINPUT,
        "%s: not a name that ends in .txt, .jsonl, .ndjson, .warc or .wet, or one of these with .gz or .zst, "
        "or in .synthetic; give its format",
        path);
}

static weft_status resolve(weft_source *s, const weft_source_options *options) {
    s->o = options ? *options : weft_source_defaults;
    if (!s->o.text_field) s->o.text_field = "text";
    if (!s->o.url_field) s->o.url_field = "url";
    if (s->o.max_document == 0) s->o.max_document = WEFT_SOURCE_MAX_DOCUMENT;
    if (s->o.max_document > WEFT_SOURCE_MAX_DOCUMENT)
        WEFT_FAIL(WEFT_EINPUT, "%s: max_document is %zu bytes; the most is %zu", s->path, s->o.max_document,
                  WEFT_SOURCE_MAX_DOCUMENT);
    if (s->o.oversize == WEFT_BAD_REPAIR || s->o.damaged_files == WEFT_BAD_REPAIR)
        WEFT_FAIL(WEFT_EINPUT,
                  "%s: documents that are too long, and damaged files, can be skipped, not repaired",
                  s->path);
    return WEFT_OK;
}

static weft_status open_it(weft_source *s, const weft_source_options *options) {
    weft_packing packing;
    WEFT_TRY(resolve(s, options));
    weft_format_kind kind = weft_source_kind(s->path, WEFT_FORMAT_AUTO, &packing);
    s->format = s->o.format == WEFT_FORMAT_AUTO ? kind : s->o.format;
    s->packed = packing != WEFT_PLAIN;
    if (s->format == WEFT_FORMAT_AUTO) return unknown_name(s->path);
    if (s->format == WEFT_FORMAT_JSONL && !(s->json = weft_json_new(s->o.text_field, s->o.url_field)))
        WEFT_FAIL(WEFT_ENOMEM, "%s: no memory to read it", s->path);
    if (s->format == WEFT_FORMAT_SYNTHETIC) return weft_source_open_synthetic(s);
    return weft_stream_open(&s->stream, s->path, packing);
}

weft_status weft_source_open(weft_source **out, const char *path, const weft_source_options *options,
                             weft_source_tally *tally) {
    weft_source *s = calloc(1, sizeof *s);
    if (!s) WEFT_FAIL(WEFT_ENOMEM, "%s: no memory to read it", path);
    s->path = path;
    s->tally = tally;
    weft_status st = open_it(s, options);
    if (st != WEFT_OK) {
        weft_source_close(s);
        return st;
    }
    *out = s;
    return WEFT_OK;
}

void weft_source_close(weft_source *s) {
    if (!s) return;
    weft_stream_close(s->stream);
    weft_json_free(s->json);
    weft_source_close_synthetic(s);
    weft_text_free(&s->url);
    weft_text_free(&s->made);
    weft_text_free(&s->mended);
    weft_text_free(&s->unpacked);
    free(s->buffer);
    free(s);
}

/* ---- bad documents ---- */

/* "PATH:LINE" or "PATH", for messages. */
static void place(const weft_source *s, char *out, size_t size) {
    if (s->line > 0)
        snprintf(out, size, "%s:%lld", s->path, (long long)s->line);
    else
        snprintf(out, size, "%s", s->path);
}

static void report(const weft_source *s, int64_t count, const char *done, const char *why) {
    char where[4200];
    if (s->quiet || count > REPORTED) return;
    place(s, where, sizeof where);
    weft_warn("%s: %s: %s%s", where, done, why, count == REPORTED ? " (further ones are only counted)" : "");
}

static weft_status malformed(weft_source *s, size_t bytes, const char *why) {
    const char *what = s->json ? "line" : "record";
    weft_source_tally *t = s->tally;
    if (++t->malformed > t->max_malformed)
        WEFT_FAIL(WEFT_EINPUT, "%s:%lld: malformed %s: %s (%lld malformed so far; the limit is %lld)",
                  s->path, (long long)s->line, what, why, (long long)t->malformed,
                  (long long)t->max_malformed);
    t->skipped_bytes += (int64_t)bytes;
    report(s, t->malformed, s->json ? "malformed line skipped" : "malformed record skipped", why);
    return WEFT_OK;
}

weft_status weft_source_skip(weft_source *s, weft_bad bad, size_t bytes, const char *why) {
    char where[4200];
    if (bad == WEFT_MALFORMED) return malformed(s, bytes, why);
    weft_on_bad what_to_do = bad == WEFT_OVERSIZE       ? s->o.oversize
                             : bad == WEFT_INVALID_UTF8 ? s->o.invalid_utf8
                                                        : s->o.nul_bytes;
    int64_t *count = bad == WEFT_OVERSIZE ? &s->tally->oversize : &s->tally->invalid;
    if (what_to_do == WEFT_BAD_ERROR) {
        place(s, where, sizeof where);
        WEFT_FAIL(WEFT_EINPUT, "%s: %s", where, why);
    }
    ++*count;
    s->tally->skipped_bytes += (int64_t)bytes;
    report(s, *count, "skipped", why);
    return WEFT_OK;
}

weft_status weft_source_skip_long(weft_source *s, const char *what, size_t bytes) {
    char why[160];
    snprintf(why, sizeof why, "%s longer than %zu bytes, the most that is allowed", what, s->o.max_document);
    return weft_source_skip(s, WEFT_OVERSIZE, bytes, why);
}

/* ---- a document's text ---- */

weft_status weft_source_set_url(weft_source *s, const char *url, size_t bytes) {
    s->url.bytes = 0;
    if (bytes == 0 || memchr(url, 0, bytes)) bytes = 0; /* a URL with a NUL byte is none */
    if (bytes > 0) WEFT_TRY(weft_text_append(&s->url, url, bytes));
    return weft_text_append(&s->url, "", 1);
}

/* Both leave found->bytes alone and set *skipped when the document is not to be delivered. */
static weft_status check_utf8(weft_source *s, weft_found *found, bool *skipped) {
    char why[96];
    size_t bad;
    if (found->utf8 || weft_utf8_valid(found->text, found->bytes)) return WEFT_OK;
    if (s->o.invalid_utf8 == WEFT_BAD_REPAIR) {
        s->mended.bytes = 0;
        WEFT_TRY(weft_utf8_repair(found->text, found->bytes, &s->mended));
        *found = (weft_found){s->mended.data, s->mended.bytes, true, true};
        return WEFT_OK;
    }
    int64_t at = (int64_t)weft_utf8_valid_prefix(found->text, found->bytes, &bad);
    if (s->line == 0) at += s->before + (found->text - s->buffer); /* the file's byte, its mark included */
    snprintf(why, sizeof why, "not UTF-8 at byte %lld%s", (long long)at,
             s->line > 0 ? " of its text"
             : s->packed ? " of the unpacked text"
                         : "");
    *skipped = true;
    return weft_source_skip(s, WEFT_INVALID_UTF8, found->bytes, why);
}

static weft_status check_nul(weft_source *s, weft_found *found, bool *skipped) {
    if (found->bytes == 0) return WEFT_OK;
    const char *nul = memchr(found->text, 0, found->bytes);
    if (!nul) return WEFT_OK;
    if (s->o.nul_bytes != WEFT_BAD_REPAIR) {
        *skipped = true;
        return weft_source_skip(s, WEFT_NUL_BYTES, found->bytes, "its text has a NUL byte");
    }
    if (found->text != s->mended.data) {
        s->mended.bytes = 0;
        WEFT_TRY(weft_text_append(&s->mended, found->text, found->bytes));
    }
    char *text = s->mended.data;
    size_t kept = 0;
    for (size_t i = 0; i < found->bytes; i++)
        if (text[i]) text[kept++] = text[i];
    *found = (weft_found){text, kept, true, true};
    return WEFT_OK;
}

weft_status weft_source_offer(weft_source *s, weft_found found, weft_document *doc, bool *delivered) {
    bool skipped = false;
    *delivered = false;
    WEFT_TRY(check_utf8(s, &found, &skipped));
    if (!skipped) WEFT_TRY(check_nul(s, &found, &skipped));
    if (skipped) return WEFT_OK;
    if (found.bytes == 0) {
        s->tally->empty++;
        return WEFT_OK;
    }
    if (found.bytes > s->o.max_document) return weft_source_skip_long(s, "a text", found.bytes);
    if (found.repaired) report(s, ++s->tally->repaired, "repaired", "it was not UTF-8, or had NUL bytes");
    s->tally->documents++;
    s->tally->bytes += (int64_t)found.bytes;
    *doc = (weft_document){.text = found.text,
                           .bytes = found.bytes,
                           .domain = s->domain,
                           .url = s->url.bytes ? s->url.data : "",
                           .file = s->path,
                           .line = s->line};
    *delivered = true;
    return WEFT_OK;
}

weft_status weft_source_next(weft_source *s, weft_document *doc, bool *end) {
    weft_document found = {0};
    if (!s->finished) {
        if (s->format == WEFT_FORMAT_JSONL)
            WEFT_TRY(weft_source_next_line(s, &found));
        else if (s->format == WEFT_FORMAT_WARC || s->format == WEFT_FORMAT_WET)
            WEFT_TRY(weft_source_next_record(s, &found));
        else if (s->format == WEFT_FORMAT_SYNTHETIC)
            WEFT_TRY(weft_source_next_synthetic(s, &found));
        else
            WEFT_TRY(weft_source_next_text(s, &found));
    }
    *end = found.text == NULL;
    if (found.text) *doc = found;
    return WEFT_OK;
}
