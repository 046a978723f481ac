/* data/loader: the batches are the tokens written, in an order that is a pure function of seed and sample
 * number. */
#include "made_data.h"
#include "data/loader/loader.h"
#include "runtime/fs.h"
#include "support/suite.h"

#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(memory_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#elif defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#endif

#ifndef SANITIZED
static atomic_long g_allocations;

/* Every allocation of this process, the libraries' included, is counted. */
extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t);
void *malloc(size_t n) {
    atomic_fetch_add(&g_allocations, 1);
    return __libc_malloc(n);
}
void *calloc(size_t n, size_t k) {
    atomic_fetch_add(&g_allocations, 1);
    return __libc_calloc(n, k);
}
void *realloc(void *p, size_t n) {
    atomic_fetch_add(&g_allocations, 1);
    return __libc_realloc(p, n);
}
#endif

enum { VOCAB = 1000, T = 64, BATCH = 8 };

static const made_domain domains[] = {
    {"books", 400, 900, 150}, {"code", 60, 900, 1000}, {"web", 900, 40, 300}};
enum { DOMAINS = 3 };

/* One directory serves the tests that do not damage it. */
static const char *shared_dir(void) {
    static const char *dir;
    if (!dir) {
        dir = made_dir();
        made_write(dir, VOCAB, domains, DOMAINS);
    }
    return dir;
}

typedef struct named_weight {
    const char *name;
    double weight;
} named_weight;

static weft_loader_options options(const char *path) {
    return (weft_loader_options){.path = path,
                                 .split = "train",
                                 .seed = 5,
                                 .seq_len = T,
                                 .max_batch = BATCH,
                                 .cache_bytes = 1 << 20,
                                 .vocab_size = VOCAB};
}

static weft_loader *open_loader(const weft_loader_options *o) {
    weft_loader *l = NULL;
    ck_assert_int_eq(weft_loader_open(&l, o), WEFT_OK);
    return l;
}

static weft_batch get(weft_loader *l, const uint64_t *samples, int64_t count) {
    weft_batch b;
    double waited = -1;
    ck_assert_int_eq(weft_loader_request(l, samples, count), WEFT_OK);
    ck_assert_int_eq(weft_loader_take(l, &b, &waited), WEFT_OK);
    ck_assert_int_eq(b.count, count);
    ck_assert_double_ge(waited, 0);
    return b;
}

/* One row of a batch against the stream it must come from, by the definitions in the header. */
static int64_t check_row(const weft_batch *b, int64_t row, const int32_t *stream, int64_t index) {
    const int32_t *x = stream + index * T;
    int64_t counted = 0;
    int32_t start = 0;
    for (int64_t i = 0; i < T; i++) {
        if (x[i] == 1) start = (int32_t)i;
        ck_assert_int_eq(b->tokens[row * T + i], x[i]);
        ck_assert_int_eq(b->targets[row * T + i], x[i + 1] == 1 ? -1 : x[i + 1]);
        ck_assert_int_eq(b->doc_start[row * T + i], start);
        counted += x[i + 1] != 1;
    }
    return counted;
}

static void check_split(const char *dir, int64_t vocab, int split, int64_t cache_bytes) {
    weft_loader_options o = options(dir);
    o.split = weft_split_names[split];
    o.cache_bytes = cache_bytes;
    o.vocab_size = vocab;
    weft_loader *l = open_loader(&o);
    ck_assert_int_eq(weft_loader_domain_count(l), DOMAINS);
    int borders = 0;
    for (int d = 0; d < DOMAINS; d++) {
        int64_t tokens;
        int32_t *stream = made_stream(vocab, &domains[d], split, &tokens);
        const weft_loader_domain *about = &weft_loader_domains(l)[d];
        ck_assert_str_eq(about->name, domains[d].name);
        ck_assert_int_eq(about->tokens, tokens);
        ck_assert_int_eq(about->samples, (tokens - 1) / T);
        for (int64_t first = 0; first < about->samples; first += BATCH) {
            weft_batch b;
            int64_t n = about->samples - first < BATCH ? about->samples - first : BATCH, counted = 0;
            ck_assert_int_eq(weft_loader_request_sequential(l, d, first, n), WEFT_OK);
            ck_assert_int_eq(weft_loader_take(l, &b, NULL), WEFT_OK);
            for (int64_t i = 0; i < n; i++) {
                ck_assert_int_eq(b.domain[i], d);
                counted += check_row(&b, i, stream, first + i);
            }
            ck_assert_int_eq(b.targets_counted, counted);
            borders += counted < n * T;
        }
        free(stream);
    }
    ck_assert_int_gt(borders, 10);
    weft_loader_close(l);
}

START_TEST(sequential_is_what_was_written) {
    check_split(shared_dir(), VOCAB, WEFT_SPLIT_TRAIN, 1 << 20);
    check_split(shared_dir(), VOCAB, WEFT_SPLIT_HELDOUT, 1 << 20);
}
END_TEST

/* With two slots nearly every read replaces a chunk; with u32 tokens the widths differ. */
START_TEST(a_small_cache_changes_nothing) {
    const char *dir = made_dir();
    made_write(dir, 70000, domains, DOMAINS);
    check_split(dir, 70000, WEFT_SPLIT_TRAIN, 0);
}
END_TEST

START_TEST(batches_hold_what_locate_says) {
    weft_loader_options o = options(shared_dir());
    o.cache_bytes = 0;
    weft_loader *l = open_loader(&o);
    int32_t *stream[DOMAINS];
    int64_t tokens;
    for (int d = 0; d < DOMAINS; d++) stream[d] = made_stream(VOCAB, &domains[d], 0, &tokens);
    for (uint64_t first = 1000; first < 1400; first += BATCH) {
        uint64_t samples[BATCH];
        for (int i = 0; i < BATCH; i++) samples[i] = first * 7919 + (uint64_t)i * 13;
        weft_batch b = get(l, samples, BATCH);
        for (int i = 0; i < BATCH; i++) {
            int domain;
            int64_t index, epoch;
            weft_loader_locate(l, samples[i], &domain, &index, &epoch);
            ck_assert_int_eq(b.domain[i], domain);
            check_row(&b, i, stream[domain], index);
        }
    }
    for (int d = 0; d < DOMAINS; d++) free(stream[d]);
    weft_loader_close(l);
}
END_TEST

/* In each epoch of each domain every sample comes once; the next epoch has another order. */
START_TEST(an_epoch_is_a_permutation) {
    weft_loader_options o = options(shared_dir());
    weft_loader *l = open_loader(&o);
    enum { EPOCHS = 3 };
    int64_t *order[DOMAINS][EPOCHS], seen[DOMAINS][EPOCHS] = {0}, left = 0;
    for (int d = 0; d < DOMAINS; d++)
        for (int e = 0; e < EPOCHS; e++) {
            order[d][e] = calloc((size_t)weft_loader_domains(l)[d].samples, sizeof **order[d]);
            left += weft_loader_domains(l)[d].samples;
        }
    for (uint64_t s = 0; left > 0; s++) {
        int d;
        int64_t index, epoch;
        weft_loader_locate(l, s, &d, &index, &epoch);
        if (epoch >= EPOCHS) continue;
        ck_assert_int_lt(index, weft_loader_domains(l)[d].samples);
        if (epoch > 0) ck_assert_int_eq(seen[d][epoch - 1], weft_loader_domains(l)[d].samples);
        order[d][epoch][seen[d][epoch]++] = index;
        left--;
    }
    for (int d = 0; d < DOMAINS; d++) {
        int64_t n = weft_loader_domains(l)[d].samples, same = 0, fixed = 0;
        char *hit = malloc((size_t)n);
        for (int e = 0; e < EPOCHS; e++) {
            memset(hit, 0, (size_t)n);
            for (int64_t i = 0; i < n; i++) {
                ck_assert_int_eq(hit[order[d][e][i]], 0);
                hit[order[d][e][i]] = 1;
                fixed += order[d][e][i] == i;
                same += e > 0 && order[d][e][i] == order[d][e - 1][i];
            }
        }
        ck_assert_int_lt(same, 12);
        ck_assert_int_lt(fixed, 12);
        free(hit);
        for (int e = 0; e < EPOCHS; e++) free(order[d][e]);
    }
    weft_loader_close(l);
}
END_TEST

static void count_cycle(const weft_loader *l, int count[DOMAINS]) {
    memset(count, 0, DOMAINS * sizeof *count);
    for (uint64_t s = 4096 * 5; s < 4096 * 6; s++) {
        int d;
        int64_t index, epoch;
        weft_loader_locate(l, s, &d, &index, &epoch);
        count[d]++;
    }
}

START_TEST(weights_are_kept) {
    int count[DOMAINS];
    weft_loader_options o = options(shared_dir());
    weft_loader *l = open_loader(&o);
    double all = 0;
    for (int d = 0; d < DOMAINS; d++) all += (double)weft_loader_domains(l)[d].tokens;
    count_cycle(l, count);
    for (int d = 0; d < DOMAINS; d++) {
        ck_assert_double_le(fabs(count[d] - 4096 * (double)weft_loader_domains(l)[d].tokens / all), 1);
        ck_assert_double_eq(weft_loader_domains(l)[d].weight, count[d] / 4096.0);
    }
    weft_loader_close(l);

    const named_weight given[] = {{"web", 3}, {"books", 1}};
    o.weights_count = 2;
    o.weights = (const void *)given;
    l = open_loader(&o);
    count_cycle(l, count);
    ck_assert_int_eq(count[0], 1024);
    ck_assert_int_eq(count[1], 0);
    ck_assert_int_eq(count[2], 3072);
    weft_loader_close(l);

    const named_weight tiny[] = {{"web", 1}, {"books", 1e-9}, {"code", 1e-9}};
    o.weights_count = 3;
    o.weights = (const void *)tiny;
    l = open_loader(&o);
    count_cycle(l, count);
    ck_assert_int_eq(count[0], 1);
    ck_assert_int_eq(count[1], 1);
    ck_assert_int_eq(count[2], 4094);
    weft_loader_close(l);
}
END_TEST

/* Any start, any batch size, any cache: the same sample is the same tokens. Another seed is another order. */
START_TEST(resume_needs_one_counter) {
    enum { N = 96 };
    static int32_t once[N][T];
    weft_loader_options o = options(shared_dir());
    weft_loader *l = open_loader(&o);
    for (uint64_t s = 0; s < N; s++) memcpy(once[s], get(l, &s, 1).tokens, sizeof once[s]);
    weft_loader_close(l);
    o.cache_bytes = 0;
    for (uint64_t start = 0; start + 5 <= N; start += 17) {
        uint64_t samples[5];
        for (int i = 0; i < 5; i++) samples[i] = start + (uint64_t)i;
        l = open_loader(&o);
        weft_batch b = get(l, samples, 5);
        for (int i = 0; i < 5; i++)
            ck_assert_mem_eq(b.tokens + i * T, once[start + (uint64_t)i], sizeof once[0]);
        weft_loader_close(l);
    }
    o.seed = 6;
    l = open_loader(&o);
    int same = 0;
    for (uint64_t s = 0; s < N; s++) same += memcmp(get(l, &s, 1).tokens, once[s], sizeof once[s]) == 0;
    ck_assert_int_lt(same, 5);
    weft_loader_close(l);
}
END_TEST

START_TEST(two_batches_are_in_flight) {
    weft_loader_options o = options(shared_dir());
    weft_loader *l = open_loader(&o);
    weft_batch a, b;
    const uint64_t first[] = {1, 2, 3}, second[] = {4, 5}, third[] = {6};
    static int32_t kept[3 * T];
    ck_assert_int_eq(weft_loader_take(l, &a, NULL), WEFT_EINTERNAL);
    ck_assert_int_eq(weft_loader_request(l, first, 3), WEFT_OK);
    ck_assert_int_eq(weft_loader_request(l, second, 2), WEFT_OK);
    ck_assert_int_eq(weft_loader_request(l, third, 1), WEFT_EINTERNAL);
    ck_assert_int_eq(weft_loader_take(l, &a, NULL), WEFT_OK);
    memcpy(kept, a.tokens, sizeof kept);
    ck_assert_int_eq(weft_loader_take(l, &b, NULL), WEFT_OK);
    ck_assert_int_eq(b.count, 2);
    ck_assert_mem_eq(a.tokens, kept, sizeof kept);
    ck_assert_mem_ne(a.tokens, b.tokens, T * sizeof *a.tokens);
    ck_assert_int_eq(weft_loader_request(l, first, BATCH + 1), WEFT_EINTERNAL);
    ck_assert_int_eq(weft_loader_request(l, first, 3), WEFT_OK); /* closing does not wait for takers */
    weft_loader_close(l);
}
END_TEST

START_TEST(nothing_is_allocated_after_open) {
#ifdef SANITIZED
    printf("skipped: a sanitizer owns malloc\n");
#else
    weft_loader_options o = options(shared_dir());
    o.cache_bytes = 0;
    weft_loader *l = open_loader(&o);
    uint64_t samples[BATCH];
    weft_batch b;
    int failures = 0; /* Check's assertions allocate */
    long before = atomic_load(&g_allocations);
    for (uint64_t s = 0; s < 400; s += BATCH) {
        for (int i = 0; i < BATCH; i++) samples[i] = s + (uint64_t)i;
        failures += weft_loader_request(l, samples, BATCH) != WEFT_OK;
        if (s > 0) failures += weft_loader_take(l, &b, NULL) != WEFT_OK;
    }
    long after = atomic_load(&g_allocations);
    ck_assert_int_eq(failures, 0);
    char *volatile probe = malloc(1);
    free(probe);
    ck_assert_int_gt(atomic_load(&g_allocations), after); /* the counter counts */
    ck_assert_int_eq(after, before);
    weft_loader_close(l);
#endif
}
END_TEST

START_TEST(random_tokens) {
    weft_loader_options o = options("random");
    const named_weight configured[] = {
        {"books", 1}}; /* a run's configuration with only the path overridden */
    o.bos = 1;
    o.weights_count = 1;
    o.weights = (const void *)configured;
    weft_loader *l = open_loader(&o);
    ck_assert_int_eq(weft_loader_domain_count(l), 1);
    ck_assert_str_eq(weft_loader_domains(l)->name, "random");
    ck_assert_str_eq(weft_loader_tokenizer_path(l), "");
    const uint64_t samples[] = {0, 1, 123456789012345, 1};
    weft_batch b = get(l, samples, 4);
    ck_assert_int_eq(b.targets_counted, 4 * T);
    double sum = 0;
    for (int i = 0; i < 4 * T; i++) {
        ck_assert_int_ge(b.targets[i], 0);
        ck_assert_int_lt(b.targets[i], VOCAB);
        ck_assert_int_eq(b.doc_start[i], 0);
        if (i % T)
            ck_assert_int_eq(b.tokens[i], b.targets[i - 1]);
        else
            ck_assert_int_eq(b.tokens[i], 1);
        sum += b.targets[i];
    }
    ck_assert_double_lt(fabs(sum / (4 * T) - VOCAB / 2.0), VOCAB / 10.0);
    ck_assert_mem_eq(b.tokens + T, b.tokens + 3 * T, T * sizeof *b.tokens);
    ck_assert_mem_ne(b.tokens + T, b.tokens, T * sizeof *b.tokens);
    weft_loader *other = open_loader(&o);
    ck_assert_mem_eq(get(other, &samples[2], 1).tokens, b.tokens + 2 * T, T * sizeof *b.tokens);
    weft_loader_close(other);
    o.split = "heldout";
    other = open_loader(&o);
    ck_assert_mem_ne(get(other, &samples[2], 1).tokens, b.tokens + 2 * T, T * sizeof *b.tokens);
    weft_loader_close(other);
    weft_loader_close(l);
}
END_TEST

/* ---- what must be refused ---- */
struct opening {
    weft_loader_options o;
    weft_status status;
};

static void try_open(void *arg) {
    struct opening *t = arg;
    weft_loader *l;
    t->status = weft_loader_open(&l, &t->o);
    if (t->status == WEFT_OK) weft_loader_close(l);
}

static void refused(const weft_loader_options *o, const char *why) {
    struct opening t = {.o = *o};
    const char *text = made_errors(try_open, &t);
    ck_assert_int_eq(t.status, WEFT_EINPUT);
    ck_assert_msg(strstr(text, why) != NULL, "'%s' lacks '%s'", text, why);
    ck_assert_msg(strstr(strstr(text, "error:") + 1, "error:") == NULL, "reported twice: %s", text);
}

START_TEST(bad_options_are_refused) {
    weft_loader_options o = options(shared_dir());
    o.vocab_size = 2000;
    refused(&o, "a tokenizer of 1000 tokens, but the model's vocabulary is 2000");
    o = options("/nonexistent/data");
    refused(&o, "/nonexistent/data");
    o = options(shared_dir());
    o.split = "test";
    refused(&o, "there is no split 'test'");
    o.split = "train";
    const named_weight unknown[] = {{"books", 1}, {"wob", 1}}, zero[] = {{"books", 0}},
                       negative[] = {{"books", -1}}, nan_weight[] = {{"books", NAN}};
    o.weights_count = 2;
    o.weights = (const void *)unknown;
    refused(&o, "no domain 'wob' to give a weight to; it has: books, code, web");
    o.weights_count = 1;
    o.weights = (const void *)zero;
    refused(&o, "add up to 0");
    o.weights = (const void *)negative;
    refused(&o, "must not be negative");
    o.weights = (const void *)nan_weight;
    refused(&o, "must not be negative");
    o = options(shared_dir());
    o.seq_len = 1 << 20;
    refused(&o, "no domain's train split has the tokens for one sequence of 1048577");
    o = options("random");
    o.bos = VOCAB;
    refused(&o, "BOS is 1000");
}
END_TEST

/* A domain too small for one sequence is left out with a warning, and an error when a weight asks for it. */
START_TEST(small_domains) {
    static const made_domain two[] = {{"large", 100, 200, 100}, {"small", 2, 5, 10}};
    const char *dir = made_dir();
    made_write(dir, VOCAB, two, 2);
    weft_loader_options o = options(dir);
    struct opening t = {.o = o};
    const char *text = made_errors(try_open, &t);
    ck_assert_int_eq(t.status, WEFT_OK);
    ck_assert_ptr_nonnull(strstr(text, "warning: "));
    ck_assert_ptr_nonnull(strstr(text, "'small' is left out"));
    const named_weight both[] = {{"large", 1}, {"small", 1}};
    o.weights_count = 2;
    o.weights = (const void *)both;
    refused(&o, "domain 'small' has a weight");
}
END_TEST

static void take_all(void *arg) {
    weft_loader *l = arg;
    weft_batch b;
    ck_assert_int_eq(weft_loader_request_sequential(l, 0, 0, BATCH), WEFT_OK);
    ck_assert_int_eq(weft_loader_take(l, &b, NULL), WEFT_EINPUT);
}

START_TEST(damaged_data_are_refused) {
    static const made_domain one[] = {{"books", 100, 900, 100}};
    const char *dir = made_dir();
    made_write(dir, VOCAB, one, 1);
    weft_loader_options o = options(dir);
    char *shard = weft_format("%s/train/books-00000.h5", dir),
         *manifest = weft_format("%s/manifest.json", dir);
    char *model = weft_format("%s/tokenizer/tokenizer.model", dir),
         *heldout = weft_format("%s/heldout/books-00000.h5", dir);
    struct opening t = {.o = o};
    try_open(&t);
    ck_assert_int_eq(t.status, WEFT_OK);

    made_flip(model, 3);
    refused(&o, "not the tokenizer that made the shards");
    made_flip(model, 3);
    made_flip(manifest, made_size(manifest) / 2);
    struct opening damaged = {.o = o};
    ck_assert_ptr_nonnull(strstr(made_errors(try_open, &damaged), "manifest.json"));
    ck_assert_int_eq(damaged.status, WEFT_EINPUT);
    made_flip(manifest, made_size(manifest) / 2);

    /* A chunk is damaged: found when it is read, in the background, and reported to the taker. */
    made_flip(shard, 10000);
    weft_loader *l = open_loader(&o);
    const char *text = made_errors(take_all, l);
    ck_assert_msg(strstr(text, shard) && strstr(text, "the hash of chunk 0"), "%s", text);
    weft_loader_close(l);
    made_flip(shard, 10000);

    /* A whole and sound shard, but another one. */
    char *kept = weft_format("%s/kept", dir);
    ck_assert_int_eq(rename(shard, kept), 0);
    refused(&o, "No such file");
    ck_assert_int_eq(link(heldout, shard), 0);
    refused(&o, shard);
    ck_assert_int_eq(unlink(shard), 0);
    ck_assert_int_eq(rename(kept, shard), 0);
    made_cut(shard, made_size(shard) - 100);
    refused(&o, "truncated");
    free(kept);
    free(shard);
    free(manifest);
    free(model);
    free(heldout);
}
END_TEST

/* A shard of another tokenizer, put into the directory by hand. */
START_TEST(another_tokenizers_shard_is_refused) {
    static const made_domain one[] = {{"books", 100, 900, 100}};
    const char *dir = made_dir(), *other = made_dir();
    made_write(dir, VOCAB, one, 1);
    made_write(other, VOCAB + 1, one, 1);
    char *from = weft_format("%s/train/books-00000.h5", other),
         *to = weft_format("%s/train/books-00000.h5", dir);
    ck_assert_int_eq(rename(from, to), 0);
    weft_loader_options o = options(dir);
    refused(&o, "made with another tokenizer");
    free(from);
    free(to);
}
END_TEST

SUITE_MAIN("data/loader", sequential_is_what_was_written, a_small_cache_changes_nothing,
           batches_hold_what_locate_says, an_epoch_is_a_permutation, weights_are_kept,
           resume_needs_one_counter, two_batches_are_in_flight, nothing_is_allocated_after_open,
           random_tokens, bad_options_are_refused, small_domains, damaged_data_are_refused,
           another_tokenizers_shard_is_refused)
