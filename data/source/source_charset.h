/* Text of the web made UTF-8. Private to data/source. */
#ifndef WEFT_SOURCE_CHARSET_H
#define WEFT_SOURCE_CHARSET_H

#include "data/text/normalise.h"

/* A charset's name as web pages mean it (whatwg.org, "Encoding", labels: latin1 is windows-1252) for a
 * converter; NULL: none that is known. */
const char *weft_charset_known(const char *name);
bool weft_charset_is_utf8(const char *known);
/* `known` is of weft_charset_known. What is ill-formed becomes U+FFFD. `out` is replaced; a byte-order mark
 * is taken off. */
weft_status weft_charset_decode(const char *known, const char *data, size_t bytes, weft_text *out);

/* The charset of a page or a text: its byte-order mark, `header` (of HTTP; NULL or "": none), what its <meta>
 * or its XML declaration says, UTF-8 if it is, windows-1252. */
const char *weft_charset_of(const char *data, size_t bytes, const char *header);

#endif
