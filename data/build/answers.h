/* Masks of documents whose source trains on answers only (data/source/synthetic.h). Private to data/build. */
#ifndef WEFT_BUILD_ANSWERS_H
#define WEFT_BUILD_ANSWERS_H

#include "data/build/build_internal.h"
#include "data/source/synthetic.h"

typedef struct build_answers {
    int64_t file; /* the one that `options` are of, + 1 */
    bool only;    /* it is a synthetic one with `loss: answers` */
    weft_synthetic options;
    weft_synthetic_document made;
} build_answers;

/* If the document's source is such: the bytes between its answers, as begin and end of each range, in *ranges
 * (grown with realloc, *capacity elements), their number in *count; otherwise nothing is changed. WEFT_EINPUT
 * when a step has changed the text, so that nobody knows where its answers are. */
weft_status build_mask_drawn(build_answers *a, const build *b, const weft_docs_row *row,
                             const build_passage *p, size_t **ranges, size_t *count, size_t *capacity);
void build_answers_free(build_answers *a);

#endif
