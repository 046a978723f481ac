#include "data/build/answers.h"

#include <stdlib.h>
#include <string.h>

static weft_status look_at(build_answers *a, const build *b, uint32_t file) {
    const build_file *f = &b->files[file];
    int64_t documents;
    if (a->file == (int64_t)file + 1) return WEFT_OK;
    a->only = false;
    if (weft_source_reads(f->path, b->r->sources[f->source].options.format) == WEFT_FORMAT_SYNTHETIC) {
        WEFT_TRY(weft_synthetic_read(&a->options, &documents, f->path));
        a->only = a->options.answers_only;
    }
    a->file = (int64_t)file + 1;
    return WEFT_OK;
}

weft_status build_mask_drawn(build_answers *a, const build *b, const weft_docs_row *row,
                             const build_passage *p, size_t **ranges, size_t *count, size_t *capacity) {
    WEFT_TRY(look_at(a, b, row->file));
    if (!a->only) return WEFT_OK;
    weft_synthetic_document *d = &a->made;
    WEFT_TRY(weft_synthetic_make(&a->options, (uint64_t)row->place - 1, d));
    /* White space at the end may be gone. */
    if (p->bytes > d->bytes || memcmp(p->text, d->text, p->bytes) != 0 ||
        (d->answers_count && p->bytes < d->answers[d->answers_count - 1].end))
        WEFT_FAIL(WEFT_EINPUT,
                  "%s: a step of the recipe has changed document %lld, so its answers are not where they "
                  "were; keep the step from this source, or say loss: all in it",
                  b->files[row->file].shown, (long long)row->place);
    size_t needed = 2 * (d->answers_count + 1), at = 0;
    if (*capacity < needed) {
        size_t *grown = realloc(*ranges, needed * sizeof *grown);
        if (!grown) WEFT_FAIL(WEFT_ENOMEM, "no memory for the %zu answers of a document", d->answers_count);
        *ranges = grown;
        *capacity = needed;
    }
    for (size_t i = 0, from = 0; i <= d->answers_count; i++) {
        size_t end = i < d->answers_count ? d->answers[i].begin : p->bytes;
        if (end > from) (*ranges)[at++] = from, (*ranges)[at++] = end;
        if (i < d->answers_count) from = d->answers[i].end;
    }
    *count = at;
    return WEFT_OK;
}

void build_answers_free(build_answers *a) {
    weft_synthetic_free(&a->made);
}
