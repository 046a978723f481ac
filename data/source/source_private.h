/* What the readers of the formats share. Private to data/source, but for the evaluation texts of data/filter,
 * which are packed as sources are. */
#ifndef WEFT_SOURCE_PRIVATE_H
#define WEFT_SOURCE_PRIVATE_H

#include "data/source/source.h"
#include "data/source/source_json.h"
#include "data/source/source_stream.h"
#include "data/text/normalise.h"

struct weft_source {
    const char *path;
    weft_format_kind format; /* never AUTO */
    weft_source_options o;   /* without NULL and 0 */
    weft_source_tally *tally;
    weft_stream *stream;
    weft_json *json;                         /* of jsonl */
    struct weft_source_synthetic *synthetic; /* of synthetic */
    int64_t line;                /* lines or records that were begun; 0: the file is the document */
    int64_t only;                /* over 0: this line alone is wanted (weft_source_fetch) */
    bool quiet;                  /* nothing is reported: it was, when the file was read first */
    char *buffer;                /* [capacity + WEFT_JSON_PADDING] */
    size_t capacity, start, end; /* unread: [start, end) */
    int64_t before;              /* bytes of the unpacked file before buffer[0] */
    bool packed, begun;
    bool ended;    /* the stream has no more than the buffer */
    bool finished; /* all was delivered */
    char domain[WEFT_DOMAIN_NAME];
    weft_text url;      /* with its zero */
    weft_text made;     /* by the format's reader: a repaired line, the text of a page */
    weft_text mended;   /* by weft_source_offer */
    weft_text unpacked; /* of an HTTP body */
};

/* ---- source.c: names, limits, counts ---- */

/* What a file of this name is read as, and how it is packed; AUTO: nothing that `asked` allows. */
weft_format_kind weft_source_kind(const char *path, weft_format_kind asked, weft_packing *packing);

typedef enum weft_bad { WEFT_MALFORMED, WEFT_OVERSIZE, WEFT_INVALID_UTF8, WEFT_NUL_BYTES } weft_bad;
/* The current document is not delivered: counts it and reports it, or fails where the options or the limit do
 * not allow it. `bytes`: of it, as far as they were seen. */
weft_status weft_source_skip(weft_source *s, weft_bad bad, size_t bytes, const char *why);
/* The same for a line, record or file of at least `bytes` bytes, which are over max_document. */
weft_status weft_source_skip_long(weft_source *s, const char *what, size_t bytes);

typedef struct weft_found {
    const char *text;
    size_t bytes;
    bool utf8;     /* it is known to be valid */
    bool repaired; /* by the format's reader */
} weft_found;
/* The current document's text, found: checks it as the options say; delivers it, with s->url and s->domain,
 * or counts why not. */
weft_status weft_source_offer(weft_source *s, weft_found found, weft_document *doc, bool *delivered);
weft_status weft_source_set_url(weft_source *s, const char *url, size_t bytes);

/* ---- source_buffer.c: the unread bytes ---- */

/* Makes the unread bytes `bytes` or more, or all that there are. At most max_document and WEFT_SOURCE_BLOCK.
 */
enum { WEFT_SOURCE_BLOCK = 1 << 20 };
weft_status weft_source_need(weft_source *s, size_t bytes);
/* Drops that many bytes, without holding them; *missing: how many of them the file does not have. */
weft_status weft_source_pass(weft_source *s, int64_t bytes, int64_t *missing);
/* The data are read to their end: nothing more is delivered. Fails, or counts and reports, when they were
 * damaged. */
weft_status weft_source_finish(weft_source *s);
/* The same where the reader has found the damage: `what` is wrong at the first unread byte. */
weft_status weft_source_damaged(weft_source *s, const char *what);

/* ---- the formats: the next document, or none because s->finished ---- */

weft_status weft_source_next_line(weft_source *s, weft_document *doc);   /* source_lines.c: jsonl */
weft_status weft_source_next_text(weft_source *s, weft_document *doc);   /* source_text.c: txt, code */
weft_status weft_source_next_record(weft_source *s, weft_document *doc); /* source_warc.c: warc, wet */

/* source_synthetic.c: the file is read when it is opened, and there is no stream. */
weft_status weft_source_open_synthetic(weft_source *s);
void weft_source_close_synthetic(weft_source *s);
weft_status weft_source_next_synthetic(weft_source *s, weft_document *doc);

#endif
