/* Speed and memory against the length of the context: a text of random tokens is read in one pass, then
 * tokens follow one by one, as in `weft generate`. Rank 0 measures; the others wait, so that they take
 * nothing of what is measured. */
#include "train/clock.h"
#include "train/output.h"
#include "train/suite/suite_internal.h"

#include <math.h>
#include <stdlib.h>

typedef struct measurement {
    weft_modelfile *file;
    int64_t length, capacity; /* of the context; with what is decoded behind it */
    int32_t *tokens;          /* [capacity] */
    weft_real *logits;        /* [V] */
    weft_block_cache *caches; /* one a block */
    weft_arena cache;
    double prefill, decode; /* seconds */
} measurement;

static weft_status allocate(measurement *m, uint64_t seed) {
    weft_modelfile *f = m->file;
    const weft_model_config *c = &f->config.model;
    weft_rng rng = weft_rng_make(seed, "suite/context");
    m->tokens = malloc((size_t)m->capacity * sizeof *m->tokens);
    m->logits = malloc((size_t)c->vocab_size * sizeof *m->logits);
    m->caches = calloc((size_t)f->model.block_count + 1, sizeof *m->caches);
    if (!m->tokens || !m->logits || !m->caches)
        WEFT_FAIL(WEFT_ENOMEM, "no memory for a context of %lld tokens", (long long)m->capacity);
    for (int64_t i = 0; i < m->capacity; i++)
        m->tokens[i] = (int32_t)weft_rng_below(rng, (uint64_t)i, (uint64_t)c->vocab_size);
    return WEFT_OK;
}

/* The arenas: what a dry run of the longest passes takes. */
static weft_status size(measurement *m) {
    weft_modelfile *f = m->file;
    WEFT_TRY(weft_arena_init_measuring(&m->cache, "cache"));
    weft_model_make_caches(&f->model, &m->cache, m->capacity, f->device.act_dtype, m->caches);
    WEFT_TRY(weft_device_measure(&f->device));
    weft_model_decode(&f->model, &f->device, f->params, m->caches, m->tokens, m->length, 0, m->logits);
    weft_model_decode(&f->model, &f->device, f->params, m->caches, m->tokens, 1, m->capacity - 1, m->logits);
    WEFT_TRY(weft_device_size(&f->device, f->device.act.peak));
    size_t bytes = m->cache.peak;
    weft_arena_destroy(&m->cache);
    return weft_arena_init(&m->cache, "cache", bytes);
}

/* One text from its beginning. */
static void read_text(measurement *m) {
    weft_modelfile *f = m->file;
    weft_arena_release(&m->cache, 0);
    weft_model_make_caches(&f->model, &m->cache, m->capacity, f->device.act_dtype, m->caches);
    double start = weft_clock();
    weft_model_decode(&f->model, &f->device, f->params, m->caches, m->tokens, m->length, 0, m->logits);
    double read = weft_clock();
    for (int64_t i = m->length; i < m->capacity; i++)
        weft_model_decode(&f->model, &f->device, f->params, m->caches, m->tokens + i, 1, i, m->logits);
    m->prefill = read - start;
    m->decode = weft_clock() - read;
}

/* What is over in a moment is measured again, until a quarter of a second has passed; the fastest of each
 * counts. */
static void measure(measurement *m) {
    double start = weft_clock(), prefill = INFINITY, decode = INFINITY;
    do {
        read_text(m);
        if (m->prefill < prefill) prefill = m->prefill;
        if (m->decode < decode) decode = m->decode;
    } while (weft_clock() - start < 0.25);
    m->prefill = prefill;
    m->decode = decode;
}

static json_t *report(const measurement *m) {
    return json_pack(
        "{s:I, s:o, s:o, s:I, s:I}", "tokens", (json_int_t)m->length, "prefill_tokens_per_second",
        weft_output_real((double)m->length / m->prefill), "decode_tokens_per_second",
        weft_output_real((double)(m->capacity - m->length) / m->decode), "cache_bytes",
        (json_int_t)m->cache.capacity, "activation_bytes", (json_int_t)m->file->device.act.capacity);
}

static weft_status measure_length(const weft_suite_job *j, int64_t length, json_t *list) {
    measurement m = {.file = j->file, .length = length, .capacity = length + j->suite->context.decode};
    weft_status st = allocate(&m, (uint64_t)j->suite->seed);
    if (st == WEFT_OK) st = size(&m);
    if (st == WEFT_OK) {
        measure(&m);
        if (json_array_append_new(list, report(&m)) != 0)
            st = weft_fail(WEFT_ENOMEM, "no memory for the speeds of contexts");
    }
    weft_arena_destroy(&m.cache);
    free(m.tokens);
    free(m.logits);
    free(m.caches);
    return st;
}

/* On the other ranks the list stays empty. */
weft_status weft_suite_context(weft_suite_job *j, json_t **out) {
    const weft_suite_list *lengths = &j->suite->context.lengths;
    json_t *list = json_array();
    weft_status st = list ? WEFT_OK : weft_fail(WEFT_ENOMEM, "no memory for the speeds of contexts");
    for (int i = 0; i < lengths->count && j->world->rank == 0 && st == WEFT_OK; i++)
        st = measure_length(j, lengths->of[i], list);
    st = weft_world_agree(st);
    if (st == WEFT_OK)
        *out = list;
    else
        json_decref(list);
    return st;
}
