/* What a document is turned into before anything looks at it, and what of it is compared. */
#ifndef WEFT_NORMALISE_H
#define WEFT_NORMALISE_H

#include "runtime/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A text that grows: the scratch of these functions. Zero it; weft_text_free when done. */
typedef struct weft_text {
    char *data;
    size_t bytes, capacity;
} weft_text;
weft_status weft_text_append(weft_text *t, const char *data, size_t bytes);
void weft_text_free(weft_text *t);

typedef struct weft_normalise_options {
    bool nfc;      /* Unicode NFC */
    bool newlines; /* CRLF and CR become LF */
    bool controls; /* control characters other than tab and LF are removed, NUL among them; so are U+FEFF,
                      U+FFFE, U+FFFF */
    bool trim; /* white space at the end of lines, and empty lines at both ends, are removed; three or more
                  newlines in a row become two */
} weft_normalise_options;
/* `out` is replaced. Valid UTF-8 in, valid UTF-8 out. Pure ASCII without anything to change costs one scan
 * and a copy. */
weft_status weft_normalise(const weft_normalise_options *o, const char *text, size_t bytes, weft_text *out);

/* The form in which datatrove's MinHash compares texts (0.6: utils/text.py, TextNormConfig): lower case;
 * numbers (\p{Nd}+, and once a decimal separator and \p{Nd}+) become 0; its list of punctuation, and control
 * characters, become a space; runs of white space become one space, none at the ends; NFD with the combining
 * marks (Mn) taken out. As there, two spaces stay where there was nothing but marks between them. `out` is
 * replaced. */
weft_status weft_normalise_compared(const char *text, size_t bytes, weft_text *out);

#endif
