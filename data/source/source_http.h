/* An HTTP response in a WARC record: its header, and its body without the codings of the transfer. Private to
 * data/source. */
#ifndef WEFT_SOURCE_HTTP_H
#define WEFT_SOURCE_HTTP_H

#include "data/text/normalise.h"

typedef struct weft_slice {
    const char *at;
    size_t bytes;
} weft_slice;

bool weft_slice_is(weft_slice s, const char *lower); /* without regard to case */
weft_slice weft_slice_trim(weft_slice s);            /* without spaces and tabs at both ends */

/* The lines of a header, of WARC and of HTTP: takes the next one from *rest. False: *rest begins with the
 * empty line that ends it, or has no whole line more. A line without a colon has an empty name. */
bool weft_header_next(weft_slice *rest, weft_slice *name, weft_slice *value);
/* Bytes of the header with the empty line that ends it; 0: it does not end here. `searched`: bytes known not
 * to hold its end. */
size_t weft_header_bytes(const char *data, size_t bytes, size_t searched);

typedef enum weft_http_type { WEFT_HTTP_OTHER, WEFT_HTTP_HTML, WEFT_HTTP_PLAIN } weft_http_type;
typedef struct weft_http {
    int status;
    weft_http_type type;
    char charset[64];              /* "": not said */
    bool chunked, packed, foreign; /* packed: gzip or deflate; foreign: another coding */
} weft_http;

/* `data` is a whole header. */
void weft_http_parse(const char *data, size_t bytes, weft_http *out);
/* Joins the chunks of a body in its place, as far as they go; returns the bytes that there are then. A body
 * that is not in chunks (crawlers join them and leave the header as it was) stays. */
size_t weft_http_join(char *body, size_t bytes);
/* Unpacks gzip or deflate as far as it goes; a body that is neither is copied. *too_long: it has more than
 * `limit` bytes. `out` is replaced. */
weft_status weft_http_unpack(const char *body, size_t bytes, size_t limit, weft_text *out, bool *too_long);

#endif
