#include "data/build/build_encode.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* More text than this waits only when a single document is as large: bounds the memory of a build. */
static const size_t max_waiting = (size_t)256 << 20;

struct weft_encoder {
    const weft_tokenizer *tokenizer;
    weft_encode_batch *slots; /* batch number n uses slot n % slot_count */
    uint64_t slot_count, submitted, claimed, taken;
    size_t waiting; /* bytes of text submitted and not taken */
    pthread_t *threads;
    int thread_count;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool stop;
};

static weft_status append_ids(weft_encode_batch *b, const int32_t *ids, size_t count) {
    if (b->ids_capacity - b->ids_count < count) {
        size_t more = 2 * b->ids_capacity + count;
        int32_t *p = realloc(b->ids, more * sizeof *p);
        if (!p) WEFT_FAIL(WEFT_ENOMEM, "no memory for %zu tokens", more);
        b->ids = p;
        b->ids_capacity = more;
    }
    if (count > 0) memcpy(b->ids + b->ids_count, ids, count * sizeof *ids);
    b->ids_count += count;
    return WEFT_OK;
}

static weft_status encode(const weft_tokenizer *t, weft_encode_batch *b, int32_t **scratch,
                          size_t *capacity) {
    b->ids_count = 0;
    for (int i = 0; i < b->count; i++) {
        weft_encode_document *d = &b->documents[i];
        d->hash = weft_hash64(b->text + d->text, d->bytes, WEFT_ENCODE_SEED);
        d->ids = b->ids_count;
        WEFT_TRY(weft_tokenizer_encode(t, b->text + d->text, d->bytes, scratch, &d->count, capacity));
        WEFT_TRY(append_ids(b, *scratch, d->count));
    }
    return WEFT_OK;
}

static void *work(void *arg) {
    weft_encoder *e = arg;
    int32_t *scratch = NULL;
    size_t capacity = 0;
    pthread_mutex_lock(&e->lock);
    for (;;) {
        while (!e->stop && e->claimed == e->submitted) pthread_cond_wait(&e->changed, &e->lock);
        if (e->stop) break;
        weft_encode_batch *b = &e->slots[e->claimed++ % e->slot_count];
        pthread_mutex_unlock(&e->lock);
        weft_status st = encode(e->tokenizer, b, &scratch, &capacity);
        pthread_mutex_lock(&e->lock);
        b->status = st;
        b->done = true;
        pthread_cond_broadcast(&e->changed);
    }
    pthread_mutex_unlock(&e->lock);
    free(scratch);
    return NULL;
}

weft_status weft_encoder_open(weft_encoder **out, const weft_tokenizer *t, int threads) {
    weft_encoder *e = calloc(1, sizeof *e);
    if (!e) WEFT_FAIL(WEFT_ENOMEM, "no memory to tokenise");
    e->tokenizer = t;
    e->slot_count = 2 * (uint64_t)threads + 2;
    e->slots = calloc(e->slot_count, sizeof *e->slots);
    e->threads = calloc((size_t)threads, sizeof *e->threads);
    pthread_mutex_init(&e->lock, NULL);
    pthread_cond_init(&e->changed, NULL);
    weft_status st = e->slots && e->threads
                         ? WEFT_OK
                         : weft_fail(WEFT_ENOMEM, "no memory to tokenise on %d threads", threads);
    for (int i = 0; st == WEFT_OK && i < threads; i++) {
        int error = pthread_create(&e->threads[i], NULL, work, e);
        if (error)
            st = weft_fail(WEFT_EINTERNAL, "thread %d of %d cannot be started: %s", i + 1, threads,
                           strerror(error));
        else
            e->thread_count++;
    }
    if (st != WEFT_OK) {
        weft_encoder_close(e);
        return st;
    }
    *out = e;
    return WEFT_OK;
}

void weft_encoder_close(weft_encoder *e) {
    if (!e) return;
    pthread_mutex_lock(&e->lock);
    e->stop = true;
    pthread_cond_broadcast(&e->changed);
    pthread_mutex_unlock(&e->lock);
    for (int i = 0; i < e->thread_count; i++) pthread_join(e->threads[i], NULL);
    for (uint64_t i = 0; e->slots && i < e->slot_count; i++) {
        free(e->slots[i].text);
        free(e->slots[i].ids);
    }
    pthread_cond_destroy(&e->changed);
    pthread_mutex_destroy(&e->lock);
    free(e->slots);
    free(e->threads);
    free(e);
}

weft_encode_batch *weft_encoder_batch(weft_encoder *e) {
    weft_encode_batch *b = &e->slots[e->submitted % e->slot_count];
    b->count = 0;
    b->text_bytes = 0;
    b->done = false;
    return b;
}

weft_status weft_encode_batch_add(weft_encode_batch *b, int domain, const char *text, size_t bytes) {
    if (b->text_capacity - b->text_bytes < bytes) {
        size_t more = b->text_bytes + bytes + WEFT_ENCODE_BATCH_BYTES;
        char *p = realloc(b->text, more);
        if (!p) WEFT_FAIL(WEFT_ENOMEM, "no memory for a document of %zu bytes", bytes);
        b->text = p;
        b->text_capacity = more;
    }
    memcpy(b->text + b->text_bytes, text, bytes);
    b->documents[b->count++] =
        (weft_encode_document){.domain = domain, .text = b->text_bytes, .bytes = bytes};
    b->text_bytes += bytes;
    return WEFT_OK;
}

void weft_encoder_submit(weft_encoder *e) {
    pthread_mutex_lock(&e->lock);
    e->waiting += e->slots[e->submitted % e->slot_count].text_bytes;
    e->submitted++;
    pthread_cond_broadcast(&e->changed);
    pthread_mutex_unlock(&e->lock);
}

/* One slot stays free: the batch last taken is still in use. */
bool weft_encoder_full(const weft_encoder *e) {
    uint64_t count = e->submitted - e->taken;
    return count >= e->slot_count - 1 || (count > 0 && e->waiting > max_waiting);
}

bool weft_encoder_empty(const weft_encoder *e) {
    return e->submitted == e->taken;
}

weft_status weft_encoder_take(weft_encoder *e, const weft_encode_batch **out) {
    weft_encode_batch *b = &e->slots[e->taken % e->slot_count];
    pthread_mutex_lock(&e->lock);
    while (!b->done) pthread_cond_wait(&e->changed, &e->lock);
    pthread_mutex_unlock(&e->lock);
    e->taken++;
    e->waiting -= b->text_bytes;
    WEFT_TRY(b->status);
    *out = b;
    return WEFT_OK;
}
