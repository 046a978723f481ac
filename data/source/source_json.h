/* simdjson for data/source: one line of jsonl, and UTF-8. */
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
    const char *text, *domain, *url; /* domain, url NULL: none. Valid until the next line. */
    size_t text_bytes, domain_bytes, url_bytes;
    const char *why; /* what is wrong with the line */
} weft_json_document;

typedef enum weft_json_result {
    WEFT_JSON_OK,
    WEFT_JSON_MALFORMED,
    WEFT_JSON_BAD_STRING, /* malformed: an escape that is none, or half a surrogate pair */
    WEFT_JSON_BAD_UTF8,
    WEFT_JSON_NO_MEMORY
} weft_json_result;

/* The fields: a member's name, or names with dots between them ("meta.url") for members of members. They must
 * outlive the parser. NULL: no memory. */
weft_json *weft_json_new(const char *text_field, const char *url_field);
void weft_json_free(weft_json *j);
/* Parses line[0 .. bytes), with WEFT_JSON_PADDING readable bytes behind it. */
weft_json_result weft_json_parse(weft_json *j, const char *line, size_t bytes, weft_json_document *out);

bool weft_utf8_valid(const char *text, size_t bytes);

#ifdef __cplusplus
}
#endif

#endif
