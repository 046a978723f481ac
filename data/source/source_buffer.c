#include "data/source/source_private.h"
#include "runtime/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Room behind the unread bytes. A document that is held has max_document bytes at most, so that one block
 * more than those is always enough. */
static weft_status make_room(weft_source *s) {
    if (s->start > 0) {
        memmove(s->buffer, s->buffer + s->start, s->end - s->start);
        s->before += (int64_t)s->start;
        s->end -= s->start;
        s->start = 0;
    }
    if (s->end < s->capacity) return WEFT_OK;
    size_t most = s->o.max_document + WEFT_SOURCE_BLOCK;
    size_t more = s->capacity ? 2 * s->capacity : WEFT_SOURCE_BLOCK;
    if (more > most) more = most;
    char *buffer = realloc(s->buffer, more + WEFT_JSON_PADDING);
    if (!buffer) WEFT_FAIL(WEFT_ENOMEM, "%s: no memory for a document of %zu bytes", s->path, more);
    memset(buffer + more, 0, WEFT_JSON_PADDING);
    s->buffer = buffer;
    s->capacity = more;
    return WEFT_OK;
}

static weft_status read_more(weft_source *s) {
    WEFT_TRY(make_room(s));
    size_t want = s->capacity - s->end;
    if (want > WEFT_SOURCE_BLOCK) want = WEFT_SOURCE_BLOCK;
    size_t got = weft_stream_read(s->stream, s->buffer + s->end, want);
    s->ended = got < want;
    s->end += got;
    if (!s->begun && got >= 3 && memcmp(s->buffer, "\xef\xbb\xbf", 3) == 0)
        s->start = 3; /* byte-order mark */
    s->begun = true;
    return WEFT_OK;
}

weft_status weft_source_need(weft_source *s, size_t bytes) {
    while (!s->ended && (s->end - s->start < bytes || !s->begun)) WEFT_TRY(read_more(s));
    return WEFT_OK;
}

weft_status weft_source_pass(weft_source *s, int64_t bytes, int64_t *missing) {
    for (;;) {
        int64_t unread = (int64_t)(s->end - s->start), dropped = unread < bytes ? unread : bytes;
        s->start += (size_t)dropped;
        bytes -= dropped;
        *missing = bytes;
        if (bytes == 0 || s->ended) return WEFT_OK;
        WEFT_TRY(read_more(s));
    }
}

static weft_status end_early(weft_source *s, weft_status status, const char *what) {
    s->finished = true;
    if (s->o.damaged_files == WEFT_BAD_ERROR) WEFT_FAIL(status, "%s: %s", s->path, what);
    s->tally->damaged_files++;
    if (!s->quiet)
        weft_warn("%s: %s; what comes before is kept, the rest of the file is left out", s->path, what);
    return WEFT_OK;
}

weft_status weft_source_finish(weft_source *s) {
    weft_status status;
    const char *what = weft_stream_damage(s->stream, &status);
    s->finished = true;
    return what ? end_early(s, status, what) : WEFT_OK;
}

weft_status weft_source_damaged(weft_source *s, const char *what) {
    weft_status status;
    char text[256];
    if (weft_stream_damage(s->stream, &status)) return weft_source_finish(s); /* that is why */
    snprintf(text, sizeof text, "%s at byte %lld%s", what, (long long)(s->before + (int64_t)s->start),
             s->packed ? " of the unpacked data" : "");
    return end_early(s, WEFT_EINPUT, text);
}
