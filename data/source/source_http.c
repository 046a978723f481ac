#include "data/source/source_http.h"

#include <string.h>
#include <strings.h>
#include <zlib.h>

/* ---- headers ---- */

bool weft_slice_is(weft_slice s, const char *lower) {
    return s.bytes == strlen(lower) && strncasecmp(s.at, lower, s.bytes) == 0;
}

weft_slice weft_slice_trim(weft_slice s) {
    while (s.bytes > 0 && (s.at[0] == ' ' || s.at[0] == '\t')) s.at++, s.bytes--;
    while (s.bytes > 0 && strchr(" \t\r", s.at[s.bytes - 1]) && s.at[s.bytes - 1]) s.bytes--;
    return s;
}

/* The part before the first `c`, which is taken from *rest with it; all of it when there is none. */
static weft_slice part(weft_slice *rest, char c) {
    const char *stop = rest->bytes ? memchr(rest->at, c, rest->bytes) : NULL;
    weft_slice first = {rest->at, stop ? (size_t)(stop - rest->at) : rest->bytes};
    size_t taken = first.bytes + (stop != NULL);
    rest->at += taken;
    rest->bytes -= taken;
    return first;
}

bool weft_header_next(weft_slice *rest, weft_slice *name, weft_slice *value) {
    weft_slice line = weft_slice_trim(part(rest, '\n'));
    if (line.bytes == 0) return false;
    *value = line;
    *name = part(value, ':');
    if (name->bytes == line.bytes) *name = (weft_slice){line.at, 0};
    *name = weft_slice_trim(*name);
    *value = weft_slice_trim(*value);
    return true;
}

size_t weft_header_bytes(const char *data, size_t bytes, size_t searched) {
    const char *end = data + bytes, *p = data + (searched > 2 ? searched - 2 : 0);
    while ((p = memchr(p, '\n', (size_t)(end - p)))) {
        p++;
        if (p < end && *p == '\n') return (size_t)(p + 1 - data);
        if (end - p >= 2 && p[0] == '\r' && p[1] == '\n') return (size_t)(p + 2 - data);
    }
    return 0;
}

/* ---- HTTP ---- */

/* TYPE/SUBTYPE; charset=NAME */
static void content_type(weft_slice value, weft_http *out) {
    weft_slice type = weft_slice_trim(part(&value, ';'));
    out->type = WEFT_HTTP_OTHER;
    out->charset[0] = 0;
    if (weft_slice_is(type, "text/html") || weft_slice_is(type, "application/xhtml+xml"))
        out->type = WEFT_HTTP_HTML;
    if (weft_slice_is(type, "text/plain")) out->type = WEFT_HTTP_PLAIN;
    while (value.bytes > 0) {
        weft_slice named = weft_slice_trim(part(&value, ';'));
        weft_slice name = weft_slice_trim(part(&named, '='));
        if (!weft_slice_is(name, "charset")) continue;
        named = weft_slice_trim(named);
        if (named.bytes >= 2 && strchr("\"'", named.at[0])) named.at++, named.bytes -= 2;
        if (named.bytes >= sizeof out->charset) return;
        memcpy(out->charset, named.at, named.bytes);
        out->charset[named.bytes] = 0;
    }
}

static void codings(weft_slice value, weft_http *out) {
    while (value.bytes > 0) {
        weft_slice coding = weft_slice_trim(part(&value, ','));
        if (weft_slice_is(coding, "chunked"))
            out->chunked = true;
        else if (weft_slice_is(coding, "gzip") || weft_slice_is(coding, "x-gzip") ||
                 weft_slice_is(coding, "deflate"))
            out->packed = true;
        else if (coding.bytes > 0 && !weft_slice_is(coding, "identity"))
            out->foreign = true;
    }
}

void weft_http_parse(const char *data, size_t bytes, weft_http *out) {
    weft_slice rest = {data, bytes}, name, value;
    weft_slice first = weft_slice_trim(part(&rest, '\n')); /* HTTP/1.1 200 OK */
    part(&first, ' ');
    weft_slice status = part(&first, ' ');
    *out = (weft_http){0};
    for (size_t i = 0; i < status.bytes && i < 3 && status.at[i] >= '0' && status.at[i] <= '9'; i++)
        out->status = 10 * out->status + (status.at[i] - '0');
    while (weft_header_next(&rest, &name, &value)) {
        if (weft_slice_is(name, "content-type")) content_type(value, out);
        if (weft_slice_is(name, "transfer-encoding") || weft_slice_is(name, "content-encoding"))
            codings(value, out);
    }
}

/* The length at the start of a chunk's line; false: there is none. Lengths over 2^60 are no chunk's. */
static bool chunk_length(weft_slice line, size_t *length) {
    size_t i = 0;
    *length = 0;
    for (; i < line.bytes && *length < (size_t)1 << 56; i++) {
        int c = line.at[i] | 0x20, digit = c >= '0' && c <= '9'   ? c - '0'
                                           : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                                                  : -1;
        if (digit < 0) break;
        *length = *length << 4 | (size_t)digit;
    }
    return i > 0 && (i == line.bytes || strchr("; \t\r", line.at[i])) && (i == line.bytes || line.at[i]);
}

size_t weft_http_join(char *body, size_t bytes) {
    weft_slice rest = {body, bytes};
    size_t joined = 0, length;
    bool any = false;
    while (rest.bytes > 0) {
        weft_slice line = part(&rest, '\n');
        if (!chunk_length(line, &length)) return any ? joined : bytes;
        if (length == 0) return joined;
        any = true;
        if (length > rest.bytes) length = rest.bytes;
        memmove(body + joined, rest.at, length);
        joined += length;
        rest.at += length;
        rest.bytes -= length;
        part(&rest, '\n'); /* the end of its line */
    }
    return joined;
}

/* False: the data are damaged, or no such data; a body that was cut off is as good as its start. */
static bool inflate_all(const char *body, size_t bytes, int window, size_t limit, weft_text *out,
                        weft_status *st) {
    unsigned char block[1 << 15];
    z_stream z = {.next_in = (unsigned char *)body, .avail_in = (unsigned)bytes};
    int code = inflateInit2(&z, window);
    if (code != Z_OK) {
        *st = weft_fail(WEFT_ENOMEM, "zlib cannot be started: no memory");
        return false;
    }
    while (*st == WEFT_OK && code == Z_OK && out->bytes <= limit) {
        z.next_out = block;
        z.avail_out = sizeof block;
        code = inflate(&z, Z_NO_FLUSH);
        *st = weft_text_append(out, (char *)block, sizeof block - z.avail_out);
    }
    inflateEnd(&z);
    if (code == Z_MEM_ERROR) *st = weft_fail(WEFT_ENOMEM, "no memory to unpack a page");
    return code == Z_OK || code == Z_STREAM_END || code == Z_BUF_ERROR;
}

weft_status weft_http_unpack(const char *body, size_t bytes, size_t limit, weft_text *out, bool *too_long) {
    const unsigned char *b = (const unsigned char *)body;
    weft_status st = WEFT_OK;
    out->bytes = 0;
    bool gzip = bytes > 2 && b[0] == 0x1f && b[1] == 0x8b;
    bool zlib = bytes > 2 && (b[0] & 0x0f) == 8 && (b[0] << 8 | b[1]) % 31 == 0;
    if (gzip || zlib) {
        inflate_all(body, bytes, 15 + 32, limit, out, &st);
    } else if (!inflate_all(body, bytes, -15, limit, out, &st) && st == WEFT_OK) { /* "deflate" may be raw */
        out->bytes = 0;
        st = weft_text_append(out, body, bytes);
    }
    *too_long = out->bytes > limit;
    return st;
}
