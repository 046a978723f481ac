/* Documents of a synthetic task: the file says which and how many, nothing of it is text. */
#include "data/source/source_private.h"
#include "data/source/synthetic.h"

#include <stdlib.h>

struct weft_source_synthetic {
    weft_synthetic options;
    int64_t documents;
    weft_synthetic_document made;
};

weft_status weft_source_open_synthetic(weft_source *s) {
    s->synthetic = calloc(1, sizeof *s->synthetic);
    if (!s->synthetic) WEFT_FAIL(WEFT_ENOMEM, "%s: no memory to read it", s->path);
    return weft_synthetic_read(&s->synthetic->options, &s->synthetic->documents, s->path);
}

void weft_source_close_synthetic(weft_source *s) {
    if (!s->synthetic) return;
    weft_synthetic_free(&s->synthetic->made);
    free(s->synthetic);
}

weft_status weft_source_next_synthetic(weft_source *s, weft_document *doc) {
    struct weft_source_synthetic *y = s->synthetic;
    for (bool delivered = false; !delivered;) {
        int64_t next = s->line == 0 && s->only ? s->only : s->line + 1;
        s->finished = next > y->documents || (s->only && next > s->only);
        if (s->finished) return WEFT_OK;
        s->line = next;
        WEFT_TRY(weft_synthetic_make(&y->options, (uint64_t)s->line - 1, &y->made));
        WEFT_TRY(
            weft_source_offer(s, (weft_found){y->made.text, y->made.bytes, true, false}, doc, &delivered));
    }
    return WEFT_OK;
}
