/* data/loader: the batches are the tokens written, in an order that is a pure function of seed and sample
 * number. */
#include "made_loader.h"
#include "data/loader/loader_mask.h"
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

/* One row of a batch against the stream it must come from, by the definitions in the header. */
static int64_t check_row(const weft_batch *b, int64_t row, const int32_t *stream, const char *masks,
                         int64_t index) {
    const int32_t *x = stream + index * T;
    const char *masked = masks + index * T;
    int64_t counted = 0;
    int32_t start = 0;
    for (int64_t i = 0; i < T; i++) {
        if (x[i] == 1) start = (int32_t)i;
        ck_assert_int_eq(b->tokens[row * T + i], x[i]);
        bool counts = x[i + 1] != 1 && !masked[i + 1];
        ck_assert_int_eq(b->targets[row * T + i], counts ? x[i + 1] : -1);
        ck_assert_int_eq(b->doc_start[row * T + i], start);
        counted += counts;
    }
    return counted;
}

static void check_split(const char *dir, const made_domain *made, int64_t vocab, int split,
                        int64_t cache_bytes) {
    weft_loader_options o = made_options(dir);
    o.split = weft_split_names[split];
    o.cache_bytes = cache_bytes;
    o.vocab_size = vocab;
    weft_loader *l = made_loader(&o);
    ck_assert_int_eq(weft_loader_domain_count(l), DOMAINS);
    int borders = 0;
    for (int d = 0; d < DOMAINS; d++) {
        int64_t tokens;
        int32_t *stream = made_stream(vocab, &made[d], split, &tokens);
        char *masks = made_stream_masks(vocab, &made[d], split);
        const weft_loader_domain *about = &weft_loader_domains(l)[d];
        ck_assert_str_eq(about->name, made_domains[d].name);
        ck_assert_int_eq(about->tokens, tokens);
        ck_assert_int_eq(about->samples, (tokens - 1) / T);
        ck_assert_int_eq(about->padded, 0);
        for (int64_t first = 0; first < about->samples; first += BATCH) {
            weft_batch b;
            int64_t n = about->samples - first < BATCH ? about->samples - first : BATCH, counted = 0;
            ck_assert_int_eq(weft_loader_request_sequential(l, d, first, n), WEFT_OK);
            ck_assert_int_eq(weft_loader_take(l, &b, NULL), WEFT_OK);
            for (int64_t i = 0; i < n; i++) {
                ck_assert_int_eq(b.domain[i], d);
                counted += check_row(&b, i, stream, masks, first + i);
            }
            ck_assert_int_eq(b.targets_counted, counted);
            borders += counted < n * T;
        }
        free(masks);
        free(stream);
    }
    ck_assert_int_gt(borders, 10);
    weft_loader_close(l);
}

START_TEST(sequential_is_what_was_written) {
    check_split(made_shared_dir(), made_domains, VOCAB, WEFT_SPLIT_TRAIN, 1 << 20);
    check_split(made_shared_dir(), made_domains, VOCAB, WEFT_SPLIT_HELDOUT, 1 << 20);
}
END_TEST

START_TEST(masked_tokens_are_no_targets) {
    check_split(made_masked_dir(), made_domains_masked, VOCAB, WEFT_SPLIT_TRAIN, 1 << 20);
    check_split(made_masked_dir(), made_domains_masked, VOCAB, WEFT_SPLIT_HELDOUT, 0);
}
END_TEST

/* What is no target already is not counted again, and ranges end where the row does. */
START_TEST(masks_count_targets_once) {
    weft_shard_range ranges[] = {{2, 1}, {10, 6}, {16, 1}, {18, 5}};
    const weft_mask mask = {.ranges = ranges, .count = 4};
    int32_t targets[8] = {7, 7, -1, 7, 7, 7, 7, 7};
    static const int32_t want[8] = {-1, -1, -1, -1, -1, 7, -1, -1};
    ck_assert_int_eq(weft_mask_apply(&mask, 12, 8, targets), 6);
    ck_assert_mem_eq(targets, want, sizeof want);
    ck_assert_int_eq(weft_mask_apply(&mask, 23, 8, targets), 0);
    ck_assert_int_eq(targets[5], 7);
}
END_TEST

/* With two slots nearly every read replaces a chunk; with u32 tokens the widths differ. */
START_TEST(a_small_cache_changes_nothing) {
    const char *dir = made_dir();
    made_write(dir, 70000, made_domains, DOMAINS);
    check_split(dir, made_domains, 70000, WEFT_SPLIT_TRAIN, 0);
}
END_TEST

START_TEST(batches_hold_what_locate_says) {
    weft_loader_options o = made_options(made_masked_dir());
    o.cache_bytes = 0;
    weft_loader *l = made_loader(&o);
    int32_t *stream[DOMAINS];
    char *masks[DOMAINS];
    int64_t tokens;
    for (int d = 0; d < DOMAINS; d++) {
        stream[d] = made_stream(VOCAB, &made_domains_masked[d], 0, &tokens);
        masks[d] = made_stream_masks(VOCAB, &made_domains_masked[d], 0);
    }
    for (uint64_t first = 1000; first < 1400; first += BATCH) {
        uint64_t samples[BATCH];
        for (int i = 0; i < BATCH; i++) samples[i] = first * 7919 + (uint64_t)i * 13;
        weft_batch b = made_batch(l, samples, BATCH);
        for (int i = 0; i < BATCH; i++) {
            int domain;
            int64_t index, epoch;
            weft_loader_locate(l, samples[i], &domain, &index, &epoch);
            ck_assert_int_eq(b.domain[i], domain);
            check_row(&b, i, stream[domain], masks[domain], index);
        }
    }
    for (int d = 0; d < DOMAINS; d++) free(stream[d]), free(masks[d]);
    weft_loader_close(l);
}
END_TEST

/* Any start, any batch size, any cache: the same sample is the same tokens. Another seed is another order. */
START_TEST(resume_needs_one_counter) {
    enum { N = 96 };
    static int32_t once[N][T];
    weft_loader_options o = made_options(made_shared_dir());
    weft_loader *l = made_loader(&o);
    for (uint64_t s = 0; s < N; s++) memcpy(once[s], made_batch(l, &s, 1).tokens, sizeof once[s]);
    weft_loader_close(l);
    o.cache_bytes = 0;
    for (uint64_t start = 0; start + 5 <= N; start += 17) {
        uint64_t samples[5];
        for (int i = 0; i < 5; i++) samples[i] = start + (uint64_t)i;
        l = made_loader(&o);
        weft_batch b = made_batch(l, samples, 5);
        for (int i = 0; i < 5; i++)
            ck_assert_mem_eq(b.tokens + i * T, once[start + (uint64_t)i], sizeof once[0]);
        weft_loader_close(l);
    }
    o.seed = 6;
    l = made_loader(&o);
    int same = 0;
    for (uint64_t s = 0; s < N; s++)
        same += memcmp(made_batch(l, &s, 1).tokens, once[s], sizeof once[s]) == 0;
    ck_assert_int_lt(same, 5);
    weft_loader_close(l);
}
END_TEST

START_TEST(two_batches_are_in_flight) {
    weft_loader_options o = made_options(made_shared_dir());
    weft_loader *l = made_loader(&o);
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

#ifndef SANITIZED
static void check_allocations(bool whole) {
    weft_loader_options o = made_options(made_masked_dir());
    o.cache_bytes = 0;
    o.whole = whole;
    weft_loader *l = made_loader(&o);
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
}
#endif

START_TEST(nothing_is_allocated_after_open) {
#ifdef SANITIZED
    printf("skipped: a sanitizer owns malloc\n");
#else
    check_allocations(false);
    check_allocations(true);
#endif
}
END_TEST

START_TEST(random_tokens) {
    weft_loader_options o = made_options("random");
    const made_weight configured[] = {{"books", 1}}; /* a run's configuration with only the path overridden */
    o.bos = 1;
    o.whole = true;
    o.max_epochs = 1;
    o.weights_count = 1;
    o.weights = (const void *)configured;
    weft_loader *l = made_loader(&o);
    ck_assert_int_eq(weft_loader_domain_count(l), 1);
    ck_assert_str_eq(weft_loader_domains(l)->name, "random");
    ck_assert_str_eq(weft_loader_tokenizer_path(l), "");
    const uint64_t samples[] = {0, 1, 123456789012345, 1};
    weft_batch b = made_batch(l, samples, 4);
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
    weft_loader *other = made_loader(&o);
    ck_assert_mem_eq(made_batch(other, &samples[2], 1).tokens, b.tokens + 2 * T, T * sizeof *b.tokens);
    weft_loader_close(other);
    o.split = "heldout";
    other = made_loader(&o);
    ck_assert_mem_ne(made_batch(other, &samples[2], 1).tokens, b.tokens + 2 * T, T * sizeof *b.tokens);
    weft_loader_close(other);
    weft_loader_close(l);
}
END_TEST

/* ---- what must be refused ---- */
START_TEST(bad_options_are_refused) {
    weft_loader_options o = made_options(made_shared_dir());
    o.vocab_size = 2000;
    made_loader_refused(&o, "a tokenizer of 1000 tokens, but the model's vocabulary is 2000");
    o = made_options("/nonexistent/data");
    made_loader_refused(&o, "/nonexistent/data");
    o = made_options(made_shared_dir());
    o.split = "test";
    made_loader_refused(&o, "there is no split 'test'");
    o.split = "train";
    const made_weight unknown[] = {{"books", 1}, {"wob", 1}}, zero[] = {{"books", 0}},
                      negative[] = {{"books", -1}}, nan_weight[] = {{"books", NAN}};
    o.weights_count = 2;
    o.weights = (const void *)unknown;
    made_loader_refused(&o, "no domain 'wob' to give a weight to; it has: books, code, web");
    o.weights_count = 1;
    o.weights = (const void *)zero;
    made_loader_refused(&o, "add up to 0");
    o.weights = (const void *)negative;
    made_loader_refused(&o, "must not be negative");
    o.weights = (const void *)nan_weight;
    made_loader_refused(&o, "must not be negative");
    o = made_options(made_shared_dir());
    o.max_epochs = -1;
    made_loader_refused(&o, "data cannot be read at most -1 times");
    o = made_options(made_shared_dir());
    o.seq_len = 1 << 20;
    made_loader_refused(&o, "no domain's train split has the tokens for one sequence of 1048577");
    o = made_options("random");
    o.bos = VOCAB;
    made_loader_refused(&o, "BOS is 1000");
}
END_TEST

/* A domain too small for one sequence is left out with a warning, and an error when a weight asks for it. */
START_TEST(small_domains) {
    static const made_domain two[] = {{"large", 100, 200, 100, false}, {"small", 2, 5, 10, false}};
    const char *dir = made_dir();
    made_write(dir, VOCAB, two, 2);
    weft_loader_options o = made_options(dir);
    made_opening t = {.o = o};
    const char *text = made_errors(made_try_open, &t);
    ck_assert_int_eq(t.status, WEFT_OK);
    ck_assert_ptr_nonnull(strstr(text, "warning: "));
    ck_assert_ptr_nonnull(strstr(text, "'small' is left out"));
    const made_weight both[] = {{"large", 1}, {"small", 1}};
    o.weights_count = 2;
    o.weights = (const void *)both;
    made_loader_refused(&o, "domain 'small' has a weight");
}
END_TEST

static void take_all(void *arg) {
    weft_loader *l = arg;
    weft_batch b;
    ck_assert_int_eq(weft_loader_request_sequential(l, 0, 0, BATCH), WEFT_OK);
    ck_assert_int_eq(weft_loader_take(l, &b, NULL), WEFT_EINPUT);
}

START_TEST(damaged_data_are_refused) {
    static const made_domain one[] = {{"books", 100, 900, 100, false}};
    const char *dir = made_dir();
    made_write(dir, VOCAB, one, 1);
    weft_loader_options o = made_options(dir);
    char *shard = weft_format("%s/train/books-00000.h5", dir),
         *manifest = weft_format("%s/manifest.json", dir);
    char *model = weft_format("%s/tokenizer/tokenizer.model", dir),
         *heldout = weft_format("%s/heldout/books-00000.h5", dir);
    made_opening t = {.o = o};
    made_try_open(&t);
    ck_assert_int_eq(t.status, WEFT_OK);

    made_flip(model, 3);
    made_loader_refused(&o, "not the tokenizer that made the shards");
    made_flip(model, 3);
    made_flip(manifest, made_size(manifest) / 2);
    made_opening damaged = {.o = o};
    ck_assert_ptr_nonnull(strstr(made_errors(made_try_open, &damaged), "manifest.json"));
    ck_assert_int_eq(damaged.status, WEFT_EINPUT);
    made_flip(manifest, made_size(manifest) / 2);

    /* A chunk is damaged: found when it is read, in the background, and reported to the taker. */
    made_flip(shard, 10000);
    weft_loader *l = made_loader(&o);
    const char *text = made_errors(take_all, l);
    ck_assert_msg(strstr(text, shard) && strstr(text, "the hash of chunk 0"), "%s", text);
    weft_loader_close(l);
    made_flip(shard, 10000);

    /* A whole and sound shard, but another one. */
    char *kept = weft_format("%s/kept", dir);
    ck_assert_int_eq(rename(shard, kept), 0);
    made_loader_refused(&o, "No such file");
    ck_assert_int_eq(link(heldout, shard), 0);
    made_loader_refused(&o, shard);
    ck_assert_int_eq(unlink(shard), 0);
    ck_assert_int_eq(rename(kept, shard), 0);
    made_cut(shard, made_size(shard) - 100);
    made_loader_refused(&o, "truncated");
    free(kept);
    free(shard);
    free(manifest);
    free(model);
    free(heldout);
}
END_TEST

/* A shard of another tokenizer, put into the directory by hand. */
START_TEST(another_tokenizers_shard_is_refused) {
    static const made_domain one[] = {{"books", 100, 900, 100, false}};
    const char *dir = made_dir(), *other = made_dir();
    made_write(dir, VOCAB, one, 1);
    made_write(other, VOCAB + 1, one, 1);
    char *from = weft_format("%s/train/books-00000.h5", other),
         *to = weft_format("%s/train/books-00000.h5", dir);
    ck_assert_int_eq(rename(from, to), 0);
    weft_loader_options o = made_options(dir);
    made_loader_refused(&o, "made with another tokenizer");
    free(from);
    free(to);
}
END_TEST

SUITE_MAIN("data/loader", sequential_is_what_was_written, masked_tokens_are_no_targets,
           masks_count_targets_once, a_small_cache_changes_nothing, batches_hold_what_locate_says,
           resume_needs_one_counter, two_batches_are_in_flight, nothing_is_allocated_after_open,
           random_tokens, bad_options_are_refused, small_domains, damaged_data_are_refused,
           another_tokenizers_shard_is_refused)
