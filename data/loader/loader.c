#include "data/loader/loader.h"
#include "data/loader/loader_cache.h"
#include "data/loader/loader_order.h"
#include "data/shard/manifest.h"
#include "runtime/fs.h"
#include "runtime/log.h"

#include <errno.h>
#include <math.h>
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
    int64_t seq_len, max_batch, vocab_size;
    int32_t bos;
    weft_loader_domain domains[WEFT_LOADER_MAX_DOMAINS];
    int domain_count;
    weft_order order;
    weft_hash128 tokenizer, content;
    char *tokenizer_path;
    weft_cache *cache; /* NULL: random tokens */
    weft_rng random;
    int32_t *sequence; /* [seq_len + 1] */
    buffer buffers[BUFFERS];

    pthread_t thread;
    bool thread_started;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    uint64_t requested, filled, taken; /* batches; number n uses buffer n % BUFFERS */
    atomic_bool stop;
};

/* ---- one sample ---- */
/* Four tokens from each block of the generator. BOS comes first: a random sample is one document. */
static void random_sequence(const weft_loader *l, int64_t index) {
    int64_t n = l->seq_len + 1;
    uint64_t block = (uint64_t)index * (uint64_t)((n + 3) / 4);
    for (int64_t i = 0; i < n; block++) {
        uint32_t w[4];
        weft_rng_block(l->random, block, w);
        for (int k = 0; k < 4 && i < n; k++)
            l->sequence[i++] = (int32_t)((uint64_t)w[k] * (uint64_t)l->vocab_size >> 32);
    }
    if (l->bos >= 0) l->sequence[0] = l->bos;
}

static weft_status fill_sample(weft_loader *l, buffer *b, int64_t row) {
    int domain = b->items[row].domain;
    int64_t index = b->items[row].index, n = l->seq_len;
    int32_t *tokens = b->tokens + row * n, *targets = b->targets + row * n,
            *doc_start = b->doc_start + row * n;
    const int32_t *x = l->sequence;
    b->domain[row] = domain;
    if (!l->cache) {
        random_sequence(l, index);
        memcpy(tokens, x, (size_t)n * sizeof *tokens);
        memcpy(targets, x + 1, (size_t)n * sizeof *targets);
        memset(doc_start, 0, (size_t)n * sizeof *doc_start);
        b->targets_counted += n;
        return WEFT_OK;
    }
    WEFT_TRY(weft_cache_read(l->cache, domain, index * n, n + 1, l->sequence));
    int32_t start = 0;
    for (int64_t i = 0; i < n; i++) {
        /* Shards hold BOS at the start of documents and nowhere else. */
        if (x[i] == l->bos) start = (int32_t)i;
        bool same_document = x[i + 1] != l->bos;
        tokens[i] = x[i];
        targets[i] = same_document ? x[i + 1] : -1;
        doc_start[i] = start;
        b->targets_counted += same_document;
    }
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
static void list_domains(const weft_loader *l, char *text, size_t size) {
    size_t used = 0;
    text[0] = 0;
    for (int d = 0; d < l->domain_count && used < size; d++)
        used += (size_t)snprintf(text + used, size - used, "%s%s", d ? ", " : "", l->domains[d].name);
}

static weft_status set_weights(weft_loader *l, const weft_loader_options *o) {
    double sum = 0;
    char known[1024];
    bool given = o->weights_count > 0;
    list_domains(l, known, sizeof known);
    for (int d = 0; d < l->domain_count; d++) l->domains[d].weight = given ? 0 : (double)l->domains[d].tokens;
    for (int i = 0; i < o->weights_count; i++) {
        const char *name = o->weights[i].name;
        double weight = o->weights[i].weight;
        int found = -1;
        for (int d = 0; d < l->domain_count; d++)
            if (strcmp(l->domains[d].name, name) == 0) found = d;
        if (found < 0)
            WEFT_FAIL(WEFT_EINPUT, "%s: there is no domain '%s' to give a weight to; it has: %s", o->path,
                      name, known);
        if (!isfinite(weight) || weight < 0)
            WEFT_FAIL(WEFT_EINPUT, "the weight of domain '%s' is %g; it must not be negative", name, weight);
        l->domains[found].weight = weight;
    }
    for (int d = 0; d < l->domain_count; d++) {
        weft_loader_domain *domain = &l->domains[d];
        if (domain->samples == 0 && domain->weight > 0 && given)
            WEFT_FAIL(
                WEFT_EINPUT,
                "%s: domain '%s' has a weight, but its %lld tokens (%s) are too few for one sequence of %lld",
                o->path, domain->name, (long long)domain->tokens, o->split, (long long)l->seq_len + 1);
        if (domain->samples == 0) {
            if (!given)
                weft_warn(
                    "%s: domain '%s' is left out: its %lld tokens (%s) are too few for one sequence of %lld",
                    o->path, domain->name, (long long)domain->tokens, o->split, (long long)l->seq_len + 1);
            domain->weight = 0;
        }
        sum += domain->weight;
    }
    if (!isfinite(sum)) WEFT_FAIL(WEFT_EINPUT, "the weights of the domains are too large to add up");
    if (sum <= 0 && given) WEFT_FAIL(WEFT_EINPUT, "the weights of the domains add up to 0");
    if (sum <= 0)
        WEFT_FAIL(WEFT_EINPUT,
                  "%s: no domain's %s split has the tokens for one sequence of %lld; take a shorter "
                  "seq_len or more text",
                  o->path, o->split, (long long)l->seq_len + 1);
    for (int d = 0; d < l->domain_count; d++) l->domains[d].weight /= sum;
    return WEFT_OK;
}

static weft_status check_tokenizer(weft_loader *l, const char *dir) {
    weft_hash128 found;
    l->tokenizer_path = weft_format("%s/tokenizer/tokenizer.model", dir);
    if (!l->tokenizer_path) WEFT_FAIL(WEFT_ENOMEM, "%s: no memory to read it", dir);
    WEFT_TRY(weft_hash_file(l->tokenizer_path, &found, NULL));
    if (found.hi != l->tokenizer.hi || found.lo != l->tokenizer.lo)
        WEFT_FAIL(WEFT_EINPUT, "%s: not the tokenizer that made the shards beside it", l->tokenizer_path);
    return WEFT_OK;
}

static weft_status open_directory(weft_loader *l, const weft_loader_options *o) {
    weft_status st = WEFT_OK;
    weft_manifest m = {0};
    int split = weft_split_of(o->split);
    WEFT_TRY(weft_manifest_read(&m, o->path));
    if (m.vocab_size != o->vocab_size) {
        st = weft_fail(WEFT_EINPUT,
                       "%s: made with a tokenizer of %lld tokens, but the model's vocabulary is %lld",
                       o->path, (long long)m.vocab_size, (long long)o->vocab_size);
        goto done;
    }
    l->bos = m.bos;
    l->tokenizer = m.tokenizer;
    l->content = m.content;
    l->domain_count = m.domain_count;
    for (int d = 0; d < m.domain_count; d++) {
        const weft_manifest_split *s = &m.domains[d].split[split];
        weft_loader_domain *domain = &l->domains[d];
        *domain = (weft_loader_domain){.documents = s->documents, .tokens = s->tokens, .bytes = s->bytes};
        memcpy(domain->name, m.domains[d].name, sizeof m.domains[d].name);
        domain->samples = s->tokens > 0 ? (s->tokens - 1) / l->seq_len : 0;
    }
    WEFT_GOTO(st, done, check_tokenizer(l, o->path));
    WEFT_GOTO(st, done, set_weights(l, o));
    WEFT_GOTO(st, done, weft_cache_open(&l->cache, o->path, &m, split, o->cache_bytes));
done:
    weft_manifest_free(&m);
    return st;
}

static weft_status open_random(weft_loader *l, const weft_loader_options *o) {
    char name[32];
    if (o->bos >= o->vocab_size)
        WEFT_FAIL(WEFT_EINPUT, "BOS is %d, but the vocabulary has %lld tokens", o->bos,
                  (long long)o->vocab_size);
    snprintf(name, sizeof name, "data/random/%s", o->split);
    l->random = weft_rng_make(o->seed, name);
    l->bos = o->bos;
    l->domain_count = 1;
    l->domains[0] =
        (weft_loader_domain){.name = "random", .tokens = INT64_MAX, .samples = INT64_MAX, .weight = 1};
    l->tokenizer_path = weft_format("%s", "");
    if (!l->tokenizer_path) WEFT_FAIL(WEFT_ENOMEM, "no memory for random tokens");
    return WEFT_OK;
}

static weft_status make_buffers(weft_loader *l) {
    size_t rows = (size_t)l->max_batch, cells = rows * (size_t)l->seq_len;
    bool ok = (l->sequence = malloc(((size_t)l->seq_len + 1) * sizeof *l->sequence)) != NULL;
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
    bool random = strcmp(o->path, "random") == 0;
    if (weft_split_of(o->split) < 0)
        WEFT_FAIL(WEFT_EINPUT, "there is no split '%s'; the splits are train and heldout", o->split);
    if (o->seq_len < 1 || o->seq_len > INT32_MAX - 1 || o->max_batch < 1 || o->max_batch > INT32_MAX ||
        o->vocab_size < 2 || o->vocab_size > INT32_MAX)
        WEFT_FAIL(WEFT_EINPUT, "batches of %lld sequences of %lld tokens out of %lld cannot be loaded",
                  (long long)o->max_batch, (long long)o->seq_len, (long long)o->vocab_size);
    weft_loader *l = calloc(1, sizeof *l);
    if (!l) WEFT_FAIL(WEFT_ENOMEM, "%s: no memory to load it", o->path);
    l->seq_len = o->seq_len;
    l->max_batch = o->max_batch;
    l->vocab_size = o->vocab_size;
    atomic_init(&l->stop, false);
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->changed, NULL);
    WEFT_GOTO(st, failed, random ? open_random(l, o) : open_directory(l, o));
    weft_order_init(&l->order, o->seed, l->domains, l->domain_count);
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
    weft_cache_close(l->cache);
    pthread_cond_destroy(&l->changed);
    pthread_mutex_destroy(&l->lock);
    free(l->sequence);
    free(l->tokenizer_path);
    free(l);
}

int weft_loader_domain_count(const weft_loader *l) {
    return l->domain_count;
}
const weft_loader_domain *weft_loader_domains(const weft_loader *l) {
    return l->domains;
}
weft_hash128 weft_loader_tokenizer_digest(const weft_loader *l) {
    return l->tokenizer;
}
const char *weft_loader_tokenizer_path(const weft_loader *l) {
    return l->tokenizer_path;
}
weft_hash128 weft_loader_content_digest(const weft_loader *l) {
    return l->content;
}

void weft_loader_locate(const weft_loader *l, uint64_t sample, int *domain, int64_t *index, int64_t *epoch) {
    if (l->cache) {
        weft_order_locate(&l->order, sample, domain, index, epoch);
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
    for (int64_t i = 0; i < count; i++)
        weft_loader_locate(l, samples[i], &b->items[i].domain, &b->items[i].index, &epoch);
    submit(l);
    return WEFT_OK;
}

weft_status weft_loader_request_sequential(weft_loader *l, int domain, int64_t first, int64_t count) {
    buffer *b = NULL;
    if (domain < 0 || domain >= l->domain_count || first < 0 || count > l->domains[domain].samples - first)
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
