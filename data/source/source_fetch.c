#include "data/source/source_private.h"

#include <stdlib.h>
#include <string.h>

static weft_status find(weft_source *s, int64_t line, char **text, size_t *bytes) {
    weft_document doc;
    bool end;
    s->only = line;
    s->quiet = true;
    WEFT_TRY(weft_source_next(s, &doc, &end));
    if (end || doc.line != line) {
        if (line > 0)
            WEFT_FAIL(WEFT_EINPUT,
                      "%s:%lld: no such document; the file is not as it was when it was first read", s->path,
                      (long long)line);
        WEFT_FAIL(WEFT_EINPUT, "%s: no such document; the file is not as it was when it was first read",
                  s->path);
    }
    char *copy = malloc(doc.bytes);
    if (!copy) WEFT_FAIL(WEFT_ENOMEM, "%s: no memory for a document of %zu bytes", s->path, doc.bytes);
    memcpy(copy, doc.text, doc.bytes);
    *text = copy;
    *bytes = doc.bytes;
    return WEFT_OK;
}

weft_status weft_source_fetch(const char *path, const weft_source_options *options, int64_t line, char **text,
                              size_t *bytes) {
    weft_source_tally tally = {.max_malformed = INT64_MAX};
    weft_source *s;
    WEFT_TRY(weft_source_open(&s, path, options, &tally));
    weft_status st = find(s, line, text, bytes);
    weft_source_close(s);
    return st;
}
