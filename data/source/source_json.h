/* simdjson for data/source/source.c: one line of jsonl, and UTF-8. */
#ifndef WEFT_SOURCE_JSON_H
#define WEFT_SOURCE_JSON_H

#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

#define WEFT_JSON_PADDING 64 /* readable bytes behind a line */

typedef struct weft_json weft_json;

typedef struct weft_json_document {
    const char *text, *domain; /* domain NULL: none. Valid until the next line. */
    size_t text_bytes, domain_bytes;
} weft_json_document;

weft_json *weft_json_new(void); /* NULL: no memory */
void weft_json_free(weft_json *j);
/* Parses line[0 .. bytes), with WEFT_JSON_PADDING readable bytes behind it. NULL, or what is wrong with the
 * line. */
const char *weft_json_parse(weft_json *j, const char *line, size_t bytes, weft_json_document *out);

bool weft_utf8_valid(const char *text, size_t bytes);

#ifdef __cplusplus
}
#endif

#endif
