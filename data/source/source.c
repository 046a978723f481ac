#include "data/source/source.h"
#include "data/source/source_json.h"
#include "data/source/source_stream.h"
#include "runtime/log.h"

#include <stdlib.h>
#include <string.h>

enum { BLOCK = 1 << 20, REPORTED = 5 };

struct weft_source {
    const char *path;
    weft_source_tally *tally;
    weft_stream *stream;
    weft_json *json;             /* NULL: txt */
    int64_t line;                /* lines read */
    char *buffer;                /* [capacity + WEFT_JSON_PADDING] */
    size_t capacity, start, end; /* unread: [start, end) */
    bool packed, begun, ended;
    size_t mark; /* bytes of the byte-order mark that was dropped */
    char domain[WEFT_DOMAIN_NAME];
};

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

static bool strip(const char *path, size_t *length, const char *ending) {
    size_t n = strlen(ending);
    if (*length <= n || strncmp(path + *length - n, ending, n) != 0) return false;
    *length -= n;
    return true;
}

weft_status weft_source_open(weft_source **out, const char *path, weft_source_tally *tally) {
    size_t length = strlen(path);
    weft_packing packing = WEFT_PLAIN;
    if (strip(path, &length, ".gz"))
        packing = WEFT_GZIP;
    else if (strip(path, &length, ".zst"))
        packing = WEFT_ZSTD;
    bool jsonl = strip(path, &length, ".jsonl");
    if (!jsonl && !strip(path, &length, ".txt"))
        WEFT_FAIL(WEFT_EINPUT, "%s: not a name that ends in .txt or .jsonl, or one of these with .gz or .zst",
                  path);
    weft_source *s = calloc(1, sizeof *s);
    if (!s) WEFT_FAIL(WEFT_ENOMEM, "%s: no memory to read it", path);
    s->path = path;
    s->tally = tally;
    s->packed = packing != WEFT_PLAIN;
    weft_status st = WEFT_OK;
    if (jsonl && !(s->json = weft_json_new())) st = weft_fail(WEFT_ENOMEM, "%s: no memory to read it", path);
    if (st == WEFT_OK) st = weft_stream_open(&s->stream, path, packing);
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
    free(s->buffer);
    free(s);
}

void weft_source_progress(const weft_source *s, int64_t *done, int64_t *total) {
    weft_stream_progress(s->stream, done, total);
}

/* Appends to the unread bytes, which move to the front when that makes room. */
static weft_status read_more(weft_source *s) {
    if (s->start > 0) {
        memmove(s->buffer, s->buffer + s->start, s->end - s->start);
        s->end -= s->start;
        s->start = 0;
    }
    if (s->end == s->capacity) {
        if (s->capacity >= WEFT_SOURCE_MAX_DOCUMENT) {
            if (s->json)
                WEFT_FAIL(WEFT_EINPUT, "%s:%lld: a line longer than %zu MiB", s->path, (long long)s->line + 1,
                          WEFT_SOURCE_MAX_DOCUMENT >> 20);
            WEFT_FAIL(WEFT_EINPUT,
                      "%s: a text longer than %zu MiB; split it, or make it a .jsonl of documents", s->path,
                      WEFT_SOURCE_MAX_DOCUMENT >> 20);
        }
        size_t more = s->capacity ? 2 * s->capacity : BLOCK;
        char *buffer = realloc(s->buffer, more + WEFT_JSON_PADDING);
        if (!buffer) WEFT_FAIL(WEFT_ENOMEM, "%s: no memory for a document of %zu bytes", s->path, more);
        memset(buffer + more, 0, WEFT_JSON_PADDING);
        s->buffer = buffer;
        s->capacity = more;
    }
    size_t want = s->capacity - s->end, got = 0;
    WEFT_TRY(weft_stream_read(s->stream, s->buffer + s->end, want, &got));
    s->ended = got < want;
    if (!s->begun && got >= 3 && memcmp(s->buffer, "\xef\xbb\xbf", 3) == 0) {
        s->mark = 3;
        got -= s->mark;
        memmove(s->buffer, s->buffer + s->mark, got);
    }
    s->begun = true;
    s->end += got;
    return WEFT_OK;
}

/* The next line without its end; it stays in the buffer until the next call. */
static weft_status next_line(weft_source *s, const char **line, size_t *bytes, bool *end) {
    size_t searched = 0;
    for (;;) {
        size_t unread = s->end - s->start;
        const char *from = s->buffer ? s->buffer + s->start : "";
        const char *stop = unread > searched ? memchr(from + searched, '\n', unread - searched) : NULL;
        if (stop || (s->ended && unread > 0)) {
            *line = from;
            *bytes = stop ? (size_t)(stop - from) : unread;
            s->start += *bytes + (stop != NULL);
            s->line++;
            *end = false;
            return WEFT_OK;
        }
        if (s->ended) {
            *end = true;
            return WEFT_OK;
        }
        searched = unread;
        WEFT_TRY(read_more(s));
    }
}

static weft_status malformed(weft_source *s, const char *why) {
    weft_source_tally *t = s->tally;
    if (++t->malformed > t->max_malformed)
        WEFT_FAIL(WEFT_EINPUT, "%s:%lld: malformed line: %s (%lld malformed lines so far; the limit is %lld)",
                  s->path, (long long)s->line, why, (long long)t->malformed, (long long)t->max_malformed);
    if (t->malformed <= REPORTED)
        weft_warn("%s:%lld: malformed line skipped: %s%s", s->path, (long long)s->line, why,
                  t->malformed == REPORTED ? " (further ones are only counted)" : "");
    return WEFT_OK;
}

static bool blank(const char *line, size_t bytes) {
    for (size_t i = 0; i < bytes; i++)
        if (line[i] != ' ' && line[i] != '\t' && line[i] != '\r') return false;
    return true;
}

static void deliver(weft_source *s, weft_document *doc, const char *text, size_t bytes) {
    *doc = (weft_document){
        .text = text, .bytes = bytes, .domain = s->domain, .file = s->path, .line = s->json ? s->line : 0};
    s->tally->documents++;
    s->tally->bytes += (int64_t)bytes;
}

static weft_status next_json(weft_source *s, weft_document *doc, bool *end) {
    for (;;) {
        const char *line;
        size_t bytes;
        weft_json_document found;
        WEFT_TRY(next_line(s, &line, &bytes, end));
        if (*end) return WEFT_OK;
        if (blank(line, bytes)) continue;
        const char *why = weft_json_parse(s->json, line, bytes, &found);
        if (!why && found.domain && !weft_domain_name_ok(found.domain, found.domain_bytes))
            why = "\"domain\" is not a name of 1 to 63 letters, digits, '_', '.' or '-'";
        if (why) {
            WEFT_TRY(malformed(s, why));
            continue;
        }
        if (found.text_bytes == 0) {
            s->tally->empty++;
            continue;
        }
        memset(s->domain, 0, sizeof s->domain);
        if (found.domain) memcpy(s->domain, found.domain, found.domain_bytes);
        deliver(s, doc, found.text, found.text_bytes);
        return WEFT_OK;
    }
}

/* Bytes before the first that no UTF-8 can have there (RFC 3629, section 4). */
static size_t valid_prefix(const unsigned char *p, size_t bytes) {
    size_t i = 0;
    while (i < bytes) {
        unsigned char c = p[i], low = 0x80, high = 0xbf;
        size_t more = c < 0x80                 ? 0
                      : c >= 0xc2 && c <= 0xdf ? 1
                      : c >= 0xe0 && c <= 0xef ? 2
                      : c >= 0xf0 && c <= 0xf4 ? 3
                                               : 4;
        if (more == 4) return i;
        if (c == 0xe0) low = 0xa0;
        if (c == 0xed) high = 0x9f;
        if (c == 0xf0) low = 0x90;
        if (c == 0xf4) high = 0x8f;
        for (size_t k = 1; k <= more; k++, low = 0x80, high = 0xbf)
            if (i + k >= bytes || p[i + k] < low || p[i + k] > high) return i;
        i += 1 + more;
    }
    return i;
}

static weft_status next_text(weft_source *s, weft_document *doc, bool *end) {
    *end = true;
    if (s->ended) return WEFT_OK;
    while (!s->ended) WEFT_TRY(read_more(s));
    const char *text = s->buffer;
    size_t bytes = s->end;
    if (!weft_utf8_valid(text, bytes))
        WEFT_FAIL(WEFT_EINPUT, "%s: not UTF-8 at byte %zu%s", s->path,
                  s->mark + valid_prefix((const unsigned char *)text, bytes),
                  s->packed ? " of the unpacked text" : "");
    if (bytes == 0) {
        s->tally->empty++;
        return WEFT_OK;
    }
    *end = false;
    deliver(s, doc, text, bytes);
    return WEFT_OK;
}

weft_status weft_source_next(weft_source *s, weft_document *doc, bool *end) {
    bool over;
    WEFT_TRY(s->json ? next_json(s, doc, &over) : next_text(s, doc, &over));
    *end = over;
    return WEFT_OK;
}
