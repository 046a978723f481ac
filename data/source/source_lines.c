/* jsonl: a document is an object on a line. */
#include "data/source/source_private.h"
#include "data/source/source_utf8.h"

#include <string.h>

/* How long the line is that begins at the first unread byte, read on for no further than the limit; *whole:
 * its end was found. */
static weft_status measure(weft_source *s, size_t *length, bool *whole) {
    size_t searched = 0;
    for (;;) {
        size_t unread = s->end - s->start;
        const char *from = s->buffer + s->start;
        const char *stop = unread > searched ? memchr(from + searched, '\n', unread - searched) : NULL;
        *length = stop ? (size_t)(stop - from) : unread;
        *whole = stop != NULL;
        if (stop || s->ended || unread > s->o.max_document) return WEFT_OK;
        searched = unread;
        WEFT_TRY(weft_source_need(s, unread + 1));
    }
}

/* Drops a line, and its end, block by block. */
static weft_status pass_line(weft_source *s) {
    int64_t missing;
    for (;;) {
        size_t unread = s->end - s->start;
        const char *from = s->buffer + s->start, *stop = unread ? memchr(from, '\n', unread) : NULL;
        size_t length = stop ? (size_t)(stop - from) : unread;
        s->tally->skipped_bytes += (int64_t)length;
        WEFT_TRY(weft_source_pass(s, (int64_t)length + (stop != NULL), &missing));
        if (stop || s->ended) return WEFT_OK;
        WEFT_TRY(weft_source_need(s, 1));
    }
}

/* The next line without its end; it stays in the buffer until the next call. NULL: there is none. */
static weft_status next_line(weft_source *s, char **line, size_t *bytes) {
    *line = NULL;
    for (;;) {
        weft_status damage;
        size_t length;
        bool whole;
        WEFT_TRY(weft_source_need(s, 1));
        WEFT_TRY(measure(s, &length, &whole));
        bool too_long = length > s->o.max_document,
             cut_off = !whole && weft_stream_damage(s->stream, &damage);
        if (!too_long && !whole && (length == 0 || cut_off)) {
            s->tally->skipped_bytes += (int64_t)length;
            return weft_source_finish(s);
        }
        s->line++;
        if (!too_long) {
            *line = s->buffer + s->start;
            *bytes = length;
            s->start += length + whole;
            return WEFT_OK;
        }
        WEFT_TRY(weft_source_skip_long(s, "a line", 0));
        WEFT_TRY(pass_line(s));
    }
}

static bool blank(const char *line, size_t bytes) {
    for (size_t i = 0; i < bytes; i++)
        if (line[i] != ' ' && line[i] != '\t' && line[i] != '\r') return false;
    return true;
}

static size_t without_nul(char *line, size_t bytes) {
    size_t kept = 0;
    for (size_t i = 0; i < bytes; i++)
        if (line[i]) line[kept++] = line[i];
    return kept;
}

/* The value of the escape \uXXXX at p, or -1. */
static int escape(const char *p, const char *end) {
    int value = 0;
    if (end - p < 6 || p[0] != '\\' || p[1] != 'u') return -1;
    for (int i = 2; i < 6; i++) {
        int c = p[i] | 0x20, digit = c >= '0' && c <= '9'   ? c - '0'
                                     : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                                            : -1;
        if (digit < 0) return -1;
        value = value << 4 | digit;
    }
    return value;
}

/* Escapes of half a surrogate pair become that of U+FFFD; false: there are none. */
static bool mend_surrogates(char *line, size_t bytes) {
    const char *end = line + bytes;
    bool mended = false;
    for (char *p = line; (p = memchr(p, '\\', (size_t)(end - p)));) {
        int first = escape(p, end), second = first >= 0 ? escape(p + 6, end) : -1;
        if (first >= 0xd800 && first <= 0xdbff && second >= 0xdc00 && second <= 0xdfff) {
            p += 12;
        } else if (first >= 0xd800 && first <= 0xdfff) {
            memcpy(p, "\\ufffd", 6);
            mended = true;
            p += 6;
        } else {
            p += end - p < 2 ? end - p : 2;
        }
    }
    return mended;
}

/* What the options allow to be done about a line that does not parse; *again: it was changed. */
static weft_status mend(weft_source *s, weft_json_result kind, const char *why, char **line, size_t *bytes,
                        bool *again) {
    *again = true;
    if (memchr(*line, 0, *bytes)) {
        if (s->o.nul_bytes == WEFT_BAD_REPAIR) {
            *bytes = without_nul(*line, *bytes);
            return WEFT_OK;
        }
        *again = false;
        return weft_source_skip(s, WEFT_NUL_BYTES, *bytes, "the line has a NUL byte");
    }
    if (s->o.invalid_utf8 == WEFT_BAD_REPAIR && kind == WEFT_JSON_BAD_UTF8) {
        static const char padding[WEFT_JSON_PADDING];
        s->made.bytes = 0;
        WEFT_TRY(weft_utf8_repair(*line, *bytes, &s->made));
        *bytes = s->made.bytes;
        WEFT_TRY(weft_text_append(&s->made, padding, sizeof padding));
        *line = s->made.data;
        return WEFT_OK;
    }
    if (s->o.invalid_utf8 == WEFT_BAD_REPAIR && kind == WEFT_JSON_BAD_STRING &&
        mend_surrogates(*line, *bytes))
        return WEFT_OK;
    *again = false;
    bool skip = kind == WEFT_JSON_BAD_UTF8 && s->o.invalid_utf8 == WEFT_BAD_SKIP;
    return weft_source_skip(s, skip ? WEFT_INVALID_UTF8 : WEFT_MALFORMED, *bytes, why);
}

static weft_status take(weft_source *s, const weft_json_document *found, size_t bytes, bool repaired,
                        weft_document *doc, bool *delivered) {
    memset(s->domain, 0, sizeof s->domain);
    if (found->domain && !weft_domain_name_ok(found->domain, found->domain_bytes))
        return weft_source_skip(s, WEFT_MALFORMED, bytes,
                                "\"domain\" is not a name of 1 to 63 letters, digits, '_', '.' or '-'");
    if (found->domain) memcpy(s->domain, found->domain, found->domain_bytes);
    WEFT_TRY(weft_source_set_url(s, found->url, found->url_bytes));
    return weft_source_offer(s, (weft_found){found->text, found->text_bytes, true, repaired}, doc, delivered);
}

static weft_status parse(weft_source *s, char *line, size_t bytes, weft_document *doc, bool *delivered) {
    weft_json_document found;
    bool repaired = false;
    for (;;) {
        weft_json_result result = weft_json_parse(s->json, line, bytes, &found);
        if (result == WEFT_JSON_OK) return take(s, &found, bytes, repaired, doc, delivered);
        if (result == WEFT_JSON_NO_MEMORY)
            WEFT_FAIL(WEFT_ENOMEM, "%s:%lld: no memory to parse a line of %zu bytes", s->path,
                      (long long)s->line, bytes);
        WEFT_TRY(mend(s, result, found.why, &line, &bytes, &repaired));
        if (!repaired) return WEFT_OK;
    }
}

weft_status weft_source_next_line(weft_source *s, weft_document *doc) {
    for (bool delivered = false; !delivered;) {
        char *line;
        size_t bytes;
        WEFT_TRY(next_line(s, &line, &bytes));
        if (!line) return WEFT_OK;
        if (blank(line, bytes)) continue;
        if (s->only && s->line < s->only) continue;
        if (s->only && s->line > s->only) {
            s->finished = true;
            return WEFT_OK;
        }
        WEFT_TRY(parse(s, line, bytes, doc, &delivered));
    }
    return WEFT_OK;
}
