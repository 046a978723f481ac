/* Threads that tokenise documents while the caller reads and writes. Batches come back in the order in which
 * they were submitted, so that the result does not depend on the number of threads. Private to data/build*.c.
 */
#ifndef WEFT_BUILD_ENCODE_H
#define WEFT_BUILD_ENCODE_H

#include "data/tokenizer/tokenizer.h"

#define WEFT_ENCODE_BATCH_BYTES ((size_t)1 << 20) /* text of a batch, unless one document is larger */
#define WEFT_ENCODE_BATCH_DOCUMENTS 4096

typedef struct weft_encode_document {
    int domain;
    size_t text, bytes; /* where in the batch's text */
    size_t ids, count;  /* where in the batch's ids */
    uint64_t hash;      /* XXH3-64 of the text under WEFT_ENCODE_SEED */
} weft_encode_document;

#define WEFT_ENCODE_SEED 0x77656674u /* fixed: a document's side of the split must not change */

typedef struct weft_encode_batch {
    weft_encode_document documents[WEFT_ENCODE_BATCH_DOCUMENTS];
    int count;
    char *text;
    size_t text_bytes, text_capacity;
    int32_t *ids;
    size_t ids_count, ids_capacity;
    weft_status status;
    bool done;
} weft_encode_batch;

typedef struct weft_encoder weft_encoder;

/* `t` must outlive it. All calls from one thread. */
weft_status weft_encoder_open(weft_encoder **out, const weft_tokenizer *t, int threads);
void weft_encoder_close(weft_encoder *e); /* gives up what was not taken; NULL is allowed */

/* The batch to fill next. There is one unless weft_encoder_full. */
weft_encode_batch *weft_encoder_batch(weft_encoder *e);
weft_status weft_encode_batch_add(weft_encode_batch *b, int domain, const char *text, size_t bytes);
void weft_encoder_submit(weft_encoder *e);      /* the batch that weft_encoder_batch gave */
bool weft_encoder_full(const weft_encoder *e);  /* take one before the next is filled */
bool weft_encoder_empty(const weft_encoder *e); /* nothing is left to take */
/* Waits for the oldest batch submitted; valid until the next call of weft_encoder_batch. */
weft_status weft_encoder_take(weft_encoder *e, const weft_encode_batch **out);

#endif
