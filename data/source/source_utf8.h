/* UTF-8 that is none. Private to data/source. */
#ifndef WEFT_SOURCE_UTF8_H
#define WEFT_SOURCE_UTF8_H

#include "data/text/normalise.h"

/* Bytes before the first that no UTF-8 can have there (RFC 3629, section 4), or before a character that the
 * end cuts off; *bad: the length of the ill-formed part, as long as it begins like a character (Unicode 15,
 * section 3.9, "U+FFFD substitution of maximal subparts"); 0 when all is well. */
size_t weft_utf8_valid_prefix(const char *text, size_t bytes, size_t *bad);
/* Appends the text with U+FFFD in place of each ill-formed part. */
weft_status weft_utf8_repair(const char *text, size_t bytes, weft_text *out);

#endif
