#include "data/loader/loader.h"
#include "data/loader/loader_fill.h"
#include "runtime/fs.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { BUFFERS = 2 }; /* one taken or being taken, one ahead */

typedef struct buffer {
    int64_t count;
    struct {
        int domain;
        int64_t index;
    } * items; /* [max_batch] */
    int32_t *tokens, *targets, *doc_start, *domain;
    int64_t targets_counted;
    weft_status status;
} buffer;

struct weft_loader {
    int64_t seq_len, max_batch, max_epochs;
    bool is_random;
    weft_corpus corpus;
    weft_filler filler;
    struct {
        int64_t vocab_size;
        int32_t bos;
        weft_rng rng;
    } random; /* tokens of path "random" */
    buffer buffers[BUFFERS];

    pthread_t thread;
    bool thread_started;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    uint64_t requested, filled, taken; /* batches; number n uses buffer n % BUFFERS */
    atomic_bool stop;
};

/* ---- samples ---- */
/* Token i of the sequence is one of four words of block i / 4. BOS comes first: a random sample is one
 * document. */
static void random_sample(const weft_loader *l, int64_t index, int32_t *tokens, int32_t *targets) {
    int64_t n = l->seq_len;
    uint64_t block = (uint64_t)index * (uint64_t)((n + 1 + 3) / 4);
    for (int64_t i = 0; i <= n; block++) {
        uint32_t w[4];
        weft_rng_block(l->random.rng, block, w);
        for (int k = 0; k < 4 && i <= n; k++, i++) {
            int32_t id = (int32_t)((uint64_t)w[k] * (uint64_t)l->random.vocab_size >> 32);
            if (i < n) tokens[i] = id;
            if (i > 0) targets[i - 1] = id;
        }
    }
    if (l->random.bos >= 0) tokens[0] = l->random.bos;
}

static weft_status fill_sample(weft_loader *l, buffer *b, int64_t row) {
    int domain = b->items[row].domain;
    int64_t index = b->items[row].index, n = l->seq_len, counted = n;
    int32_t *tokens = b->tokens + row * n, *targets = b->targets + row * n,
            *doc_start = b->doc_start + row * n;
    b->domain[row] = domain;
    if (l->is_random) {
        random_sample(l, index, tokens, targets);
        memset(doc_start, 0, (size_t)n * sizeof *doc_start);
    } else {
        WEFT_TRY(weft_filler_sample(&l->filler, domain, index, tokens, targets, doc_start, &counted));
    }
    b->targets_counted += counted;
    return WEFT_OK;
}

static void fill(weft_loader *l, buffer *b) {
    b->targets_counted = 0;
    b->status = WEFT_OK;
    for (int64_t i = 0; i < b->count && b->status == WEFT_OK && !atomic_load(&l->stop); i++)
        b->status = fill_sample(l, b, i);
}

static void *run(void *arg) {
    weft_loader *l = arg;
    pthread_mutex_lock(&l->lock);
    for (;;) {
        while (!atomic_load(&l->stop) && l->filled == l->requested) pthread_cond_wait(&l->changed, &l->lock);
        if (atomic_load(&l->stop)) break;
        buffer *b = &l->buffers[l->filled % BUFFERS];
        pthread_mutex_unlock(&l->lock);
        fill(l, b);
        pthread_mutex_lock(&l->lock);
        l->filled++;
        pthread_cond_broadcast(&l->changed);
    }
    pthread_mutex_unlock(&l->lock);
    return NULL;
}

/* ---- opening ---- */
static weft_status open_directory(weft_loader *l, const weft_loader_options *o) {
    weft_manifest m = {0};
    WEFT_TRY(weft_manifest_read(&m, o->path));
    weft_status st = WEFT_OK;
    if (m.vocab_size != o->vocab_size)
        st = weft_fail(WEFT_EINPUT,
                       "%s: made with a tokenizer of %lld tokens, but the model's vocabulary is %lld",
                       o->path, (long long)m.vocab_size, (long long)o->vocab_size);
    if (st == WEFT_OK) st = weft_corpus_open(&l->corpus, o, &m);
    weft_manifest_free(&m);
    WEFT_TRY(st);
    return weft_filler_open(&l->filler, &l->corpus, o->cache_bytes);
}

static weft_status open_random(weft_loader *l, const weft_loader_options *o) {
    char name[32];
    if (o->bos >= o->vocab_size)
        WEFT_FAIL(WEFT_EINPUT, "BOS is %d, but the vocabulary has %lld tokens", o->bos,
                  (long long)o->vocab_size);
    snprintf(name, sizeof name, "data/random/%s", o->split);
    l->random.rng = weft_rng_make(o->seed, name);
    l->random.vocab_size = o->vocab_size;
    l->random.bos = o->bos;
    l->corpus.domain_count = 1;
    l->corpus.domains[0] =
        (weft_loader_domain){.name = "random", .tokens = INT64_MAX, .samples = INT64_MAX, .weight = 1};
    l->corpus.order.total = UINT64_MAX;
    l->corpus.tokenizer_path = weft_format("%s", "");
    if (!l->corpus.tokenizer_path) WEFT_FAIL(WEFT_ENOMEM, "no memory for random tokens");
    return WEFT_OK;
}

static weft_status make_buffers(weft_loader *l) {
    size_t rows = (size_t)l->max_batch, cells = rows * (size_t)l->seq_len;
    bool ok = true;
    for (int i = 0; i < BUFFERS; i++) {
        buffer *b = &l->buffers[i];
        b->items = malloc(rows * sizeof *b->items);
        b->tokens = malloc(cells * sizeof *b->tokens);
        b->targets = malloc(cells * sizeof *b->targets);
        b->doc_start = malloc(cells * sizeof *b->doc_start);
        b->domain = malloc(rows * sizeof *b->domain);
        ok = ok && b->items && b->tokens && b->targets && b->doc_start && b->domain;
    }
    if (!ok)
        WEFT_FAIL(WEFT_ENOMEM, "no memory for batches of %zu sequences of %lld tokens", rows,
                  (long long)l->seq_len);
    return WEFT_OK;
}

/* Signals are for the main thread: it finishes the step and saves. */
static weft_status start_thread(weft_loader *l) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&l->thread, NULL, run, l);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error) WEFT_FAIL(WEFT_EINTERNAL, "the thread that reads data cannot be started: %s", strerror(error));
    l->thread_started = true;
    return WEFT_OK;
}

weft_status weft_loader_open(weft_loader **out, const weft_loader_options *o) {
    weft_status st;
    WEFT_TRY(weft_corpus_check_options(o));
    if (o->max_batch < 1 || o->max_batch > INT32_MAX || o->vocab_size < 2 || o->vocab_size > INT32_MAX)
        WEFT_FAIL(WEFT_EINPUT, "batches of %lld sequences of %lld tokens out of %lld cannot be loaded",
                  (long long)o->max_batch, (long long)o->seq_len, (long long)o->vocab_size);
    weft_loader *l = calloc(1, sizeof *l);
    if (!l) WEFT_FAIL(WEFT_ENOMEM, "%s: no memory to load it", o->path);
    l->seq_len = o->seq_len;
    l->max_batch = o->max_batch;
    l->is_random = strcmp(o->path, "random") == 0;
    l->max_epochs = o->max_epochs;
    atomic_init(&l->stop, false);
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->changed, NULL);
    WEFT_GOTO(st, failed, l->is_random ? open_random(l, o) : open_directory(l, o));
    WEFT_GOTO(st, failed, make_buffers(l));
    WEFT_GOTO(st, failed, start_thread(l));
    *out = l;
    return WEFT_OK;
failed:
    weft_loader_close(l);
    return st;
}

void weft_loader_close(weft_loader *l) {
    if (!l) return;
    if (l->thread_started) {
        pthread_mutex_lock(&l->lock);
        atomic_store(&l->stop, true);
        pthread_cond_broadcast(&l->changed);
        pthread_mutex_unlock(&l->lock);
        pthread_join(l->thread, NULL);
    }
    for (int i = 0; i < BUFFERS; i++) {
        free(l->buffers[i].items);
        free(l->buffers[i].tokens);
        free(l->buffers[i].targets);
        free(l->buffers[i].doc_start);
        free(l->buffers[i].domain);
    }
    weft_filler_close(&l->filler);
    weft_corpus_close(&l->corpus);
    pthread_cond_destroy(&l->changed);
    pthread_mutex_destroy(&l->lock);
    free(l);
}

int weft_loader_domain_count(const weft_loader *l) {
    return l->corpus.domain_count;
}
const weft_loader_domain *weft_loader_domains(const weft_loader *l) {
    return l->corpus.domains;
}
weft_hash128 weft_loader_tokenizer_digest(const weft_loader *l) {
    return l->corpus.tokenizer;
}
const char *weft_loader_tokenizer_path(const weft_loader *l) {
    return l->corpus.tokenizer_path;
}
weft_hash128 weft_loader_content_digest(const weft_loader *l) {
    return l->corpus.content;
}

uint64_t weft_loader_samples(const weft_loader *l) {
    return l->corpus.order.total;
}

bool weft_loader_same_order(const weft_loader *l, uint64_t samples, int64_t max_epochs) {
    if (l->is_random) return true;
    return weft_order_limit(&l->corpus.order, max_epochs) >= samples &&
           weft_order_limit(&l->corpus.order, l->max_epochs) >= samples;
}

void weft_loader_locate(const weft_loader *l, uint64_t sample, int *domain, int64_t *index, int64_t *epoch) {
    if (!l->is_random) {
        WEFT_CHECK(sample < l->corpus.order.total, "sample %llu of %llu", (unsigned long long)sample,
                   (unsigned long long)l->corpus.order.total);
        weft_order_locate(&l->corpus.order, sample, domain, index, epoch);
        return;
    }
    *domain = 0;
    *index = (int64_t)sample;
    *epoch = 0;
}

/* ---- batches ---- */
/* The buffer of the next request: its last batch has been taken, and the thread is not at it. */
static weft_status next_buffer(weft_loader *l, int64_t count, buffer **out) {
    pthread_mutex_lock(&l->lock);
    uint64_t waiting = l->requested - l->taken;
    pthread_mutex_unlock(&l->lock);
    if (waiting >= BUFFERS)
        WEFT_FAIL(WEFT_EINTERNAL, "a third batch was requested before the first was taken");
    if (count < 1 || count > l->max_batch)
        WEFT_FAIL(WEFT_EINTERNAL, "a batch of %lld sequences was requested; the most is %lld",
                  (long long)count, (long long)l->max_batch);
    *out = &l->buffers[l->requested % BUFFERS];
    (*out)->count = count;
    return WEFT_OK;
}

static void submit(weft_loader *l) {
    pthread_mutex_lock(&l->lock);
    l->requested++;
    pthread_cond_broadcast(&l->changed);
    pthread_mutex_unlock(&l->lock);
}

weft_status weft_loader_request(weft_loader *l, const uint64_t *samples, int64_t count) {
    buffer *b = NULL;
    int64_t epoch;
    WEFT_TRY(next_buffer(l, count, &b));
    for (int64_t i = 0; i < count; i++) {
        if (!l->is_random) WEFT_TRY(weft_corpus_check(&l->corpus, samples[i]));
        weft_loader_locate(l, samples[i], &b->items[i].domain, &b->items[i].index, &epoch);
    }
    submit(l);
    return WEFT_OK;
}

weft_status weft_loader_request_sequential(weft_loader *l, int domain, int64_t first, int64_t count) {
    buffer *b = NULL;
    if (domain < 0 || domain >= l->corpus.domain_count || first < 0 ||
        count > l->corpus.domains[domain].samples - first)
        WEFT_FAIL(WEFT_EINTERNAL, "sequences %lld to %lld of domain %d were requested; it does not have them",
                  (long long)first, (long long)(first + count), domain);
    WEFT_TRY(next_buffer(l, count, &b));
    for (int64_t i = 0; i < count; i++) {
        b->items[i].domain = domain;
        b->items[i].index = first + i;
    }
    submit(l);
    return WEFT_OK;
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

weft_status weft_loader_take(weft_loader *l, weft_batch *out, double *waited_seconds) {
    double start = now();
    pthread_mutex_lock(&l->lock);
    if (l->taken == l->requested) {
        pthread_mutex_unlock(&l->lock);
        WEFT_FAIL(WEFT_EINTERNAL, "a batch was taken that nobody requested");
    }
    while (l->filled == l->taken) pthread_cond_wait(&l->changed, &l->lock);
    const buffer *b = &l->buffers[l->taken % BUFFERS];
    l->taken++;
    pthread_mutex_unlock(&l->lock);
    WEFT_TRY(b->status);
    *out = (weft_batch){.count = b->count,
                        .tokens = b->tokens,
                        .targets = b->targets,
                        .doc_start = b->doc_start,
                        .domain = b->domain,
                        .targets_counted = b->targets_counted};
    if (waited_seconds) *waited_seconds = now() - start;
    return WEFT_OK;
}
