/* A file that is one document. */
#include "data/source/source_private.h"
#include "data/source/source_utf8.h"

weft_status weft_source_next_text(weft_source *s, weft_document *doc) {
    weft_status damage;
    bool delivered;
    WEFT_TRY(weft_source_need(s, s->o.max_document + 1));
    const char *text = s->buffer + s->start;
    size_t bytes = s->end - s->start;
    if (bytes > s->o.max_document) {
        s->finished = true; /* what else the file holds is not read */
        return weft_source_skip_long(s, "a text", bytes);
    }
    bool cut_off = weft_stream_damage(s->stream, &damage) != NULL;
    WEFT_TRY(weft_source_finish(s));
    if (cut_off) { /* perhaps inside a character: that is no invalid UTF-8 */
        size_t bad, good = weft_utf8_valid_prefix(text, bytes, &bad);
        if (good + bad == bytes) bytes = good;
    }
    return weft_source_offer(s, (weft_found){text, bytes, false, false}, doc, &delivered);
}
