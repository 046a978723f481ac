/* WARC (ISO 28500): records of a header, a block whose length the header gives, and two line ends. Common
 * Crawl packs each record as a gzip member of its own, which makes no difference here. */
#include "data/source/html.h"
#include "data/source/source_charset.h"
#include "data/source/source_http.h"
#include "data/source/source_private.h"

#include <string.h>

enum { HEADER_BYTES = 1 << 16 /* the most that a header of WARC or HTTP has */ };

typedef struct record {
    int64_t length; /* of its block */
    bool wanted;    /* a response (.warc) or a conversion (.wet) */
} record;

/* The header's end; 0: there is none within HEADER_BYTES, or the data end before it. */
static weft_status find_header(weft_source *s, size_t most, size_t *bytes) {
    size_t searched = 0;
    for (*bytes = 0; *bytes == 0;) {
        size_t unread = s->end - s->start, seen = unread < most ? unread : most;
        *bytes = weft_header_bytes(s->buffer + s->start, seen, searched);
        if (*bytes > 0 || s->ended || unread >= most) break;
        searched = unread;
        WEFT_TRY(weft_source_need(s, unread + 1));
    }
    return WEFT_OK;
}

static bool content_length(weft_slice value, int64_t *length) {
    *length = 0;
    if (value.bytes == 0 || value.bytes > 18) return false;
    for (size_t i = 0; i < value.bytes; i++) {
        if (value.at[i] < '0' || value.at[i] > '9') return false;
        *length = 10 * *length + (value.at[i] - '0');
    }
    return true;
}

/* False: the header has no length. */
static weft_status parse_header(weft_source *s, const char *data, size_t bytes, record *out, bool *good) {
    weft_slice rest = {data, bytes}, name, value, url = {0};
    const char *wanted = s->format == WEFT_FORMAT_WET ? "conversion" : "response";
    *out = (record){.length = -1};
    *good = true;
    weft_header_next(&rest, &name, &value); /* WARC/1.0 */
    while (weft_header_next(&rest, &name, &value)) {
        if (weft_slice_is(name, "warc-type")) out->wanted = weft_slice_is(value, wanted);
        if (weft_slice_is(name, "warc-target-uri")) url = value;
        if (weft_slice_is(name, "content-length")) *good = *good && content_length(value, &out->length);
    }
    *good = *good && out->length >= 0;
    if (url.bytes > 2 && url.at[0] == '<') url.at++, url.bytes -= 2; /* <URI>, as WARC 1.0 says */
    return weft_source_set_url(s, url.at, url.bytes);
}

/* The header of the next record, if there is one; otherwise s->finished. */
static weft_status next_header(weft_source *s, record *r) {
    size_t bytes;
    bool good;
    for (;; s->start++) { /* the line ends behind the last record */
        WEFT_TRY(weft_source_need(s, 5));
        if (s->start == s->end) return weft_source_finish(s);
        if (s->buffer[s->start] != '\r' && s->buffer[s->start] != '\n') break;
    }
    if (s->end - s->start < 5 || memcmp(s->buffer + s->start, "WARC/", 5) != 0)
        return weft_source_damaged(s, "no WARC record begins");
    WEFT_TRY(find_header(s, HEADER_BYTES, &bytes));
    if (bytes == 0) return weft_source_damaged(s, "no end of a WARC header that begins");
    s->line++;
    WEFT_TRY(parse_header(s, s->buffer + s->start, bytes, r, &good));
    if (!good) return weft_source_damaged(s, "no Content-Length in the WARC header that begins");
    s->start += bytes;
    return WEFT_OK;
}

static weft_status pass_block(weft_source *s, int64_t length) {
    int64_t missing;
    WEFT_TRY(weft_source_pass(s, length, &missing));
    return missing > 0 ? weft_source_damaged(s, "the file ends inside a WARC record,") : WEFT_OK;
}

static weft_status pass_other(weft_source *s, int64_t length) {
    WEFT_TRY(pass_block(s, length));
    s->tally->other += !s->finished;
    return WEFT_OK;
}

/* The whole block in the buffer, at most max_document bytes; NULL when the file ends inside it. */
static weft_status take_block(weft_source *s, size_t length, char **block) {
    *block = NULL;
    WEFT_TRY(weft_source_need(s, length));
    if (s->end - s->start < length)
        return weft_source_damaged(s, "the file ends inside a WARC record that begins");
    *block = s->buffer + s->start;
    s->start += length;
    return WEFT_OK;
}

/* The text of a page, or of a plain text in another charset than UTF-8. */
static weft_status page_text(weft_source *s, const weft_http *http, const char *body, size_t bytes,
                             weft_document *doc, bool *delivered) {
    weft_found found = {.text = body, .bytes = bytes};
    if (http->type == WEFT_HTTP_HTML) {
        WEFT_TRY(weft_html_text(body, bytes, http->charset, &s->made));
        found = (weft_found){s->made.data, s->made.bytes, true, false};
    } else if (!weft_charset_is_utf8(weft_charset_known(http->charset))) {
        WEFT_TRY(weft_charset_decode(weft_charset_of(body, bytes, http->charset), body, bytes, &s->made));
        found = (weft_found){s->made.data, s->made.bytes, true, false};
    }
    return weft_source_offer(s, found, doc, delivered);
}

static weft_status read_body(weft_source *s, const weft_http *http, char *body, size_t bytes,
                             weft_document *doc, bool *delivered) {
    bool too_long = false;
    if (http->chunked) bytes = weft_http_join(body, bytes);
    if (!http->packed) return page_text(s, http, body, bytes, doc, delivered);
    WEFT_TRY(weft_http_unpack(body, bytes, s->o.max_document, &s->unpacked, &too_long));
    if (too_long) return weft_source_skip_long(s, "a page", s->unpacked.bytes);
    return page_text(s, http, s->unpacked.data, s->unpacked.bytes, doc, delivered);
}

/* An HTTP response: of what is no text, the header alone is held. */
static weft_status read_response(weft_source *s, int64_t length, weft_document *doc, bool *delivered) {
    weft_http http = {0};
    char *block;
    size_t most = length < HEADER_BYTES ? (size_t)length : HEADER_BYTES, header = 0;
    WEFT_TRY(weft_source_need(s, most < 5 ? most : 5));
    bool is_http = most >= 5 && s->end - s->start >= 5 && memcmp(s->buffer + s->start, "HTTP/", 5) == 0;
    if (is_http) {
        WEFT_TRY(find_header(s, most, &header));
        if (header == 0 && s->end - s->start < most) return pass_block(s, length); /* it is cut off */
        if (header > 0) weft_http_parse(s->buffer + s->start, header, &http);
    }
    if (is_http && header == 0) {
        WEFT_TRY(
            weft_source_skip(s, WEFT_MALFORMED, (size_t)length, "a response whose HTTP header does not end"));
        return pass_block(s, length);
    }
    if (!is_http || http.status != 200 || http.type == WEFT_HTTP_OTHER || http.foreign)
        return pass_other(s, length);
    if ((uint64_t)length > s->o.max_document) {
        WEFT_TRY(weft_source_skip_long(s, "a record", (size_t)length));
        return pass_block(s, length);
    }
    WEFT_TRY(take_block(s, (size_t)length, &block));
    if (!block) return WEFT_OK;
    return read_body(s, &http, block + header, (size_t)length - header, doc, delivered);
}

static weft_status read_conversion(weft_source *s, int64_t length, weft_document *doc, bool *delivered) {
    char *block;
    if ((uint64_t)length > s->o.max_document) {
        WEFT_TRY(weft_source_skip_long(s, "a record", (size_t)length));
        return pass_block(s, length);
    }
    WEFT_TRY(take_block(s, (size_t)length, &block));
    if (!block) return WEFT_OK;
    return weft_source_offer(s, (weft_found){.text = block, .bytes = (size_t)length}, doc, delivered);
}

weft_status weft_source_next_record(weft_source *s, weft_document *doc) {
    for (bool delivered = false; !delivered && !s->finished;) {
        record r = {0};
        WEFT_TRY(next_header(s, &r));
        if (s->only && s->line > s->only) s->finished = true;
        if (s->finished) return WEFT_OK;
        if (s->only && s->line < s->only) {
            WEFT_TRY(pass_block(s, r.length));
        } else if (!r.wanted) {
            WEFT_TRY(pass_other(s, r.length));
        } else if (s->format == WEFT_FORMAT_WET) {
            WEFT_TRY(read_conversion(s, r.length, doc, &delivered));
        } else {
            WEFT_TRY(read_response(s, r.length, doc, &delivered));
        }
    }
    return WEFT_OK;
}
