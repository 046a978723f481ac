/* data/dedup/substring: what it reports is what comparing every pair of windows finds, in one piece or in
 * parts. */
#include "data/dedup/substring.h"
#include "made_data.h"
#include "runtime/fs.h"
#include "runtime/rng.h"
#include "support/suite.h"

#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MOST = 1024, UNITS = 11 };
static const weft_dedup_job job = {.partitions = 3, .units = UNITS, .memory = 1 << 20};

typedef struct stream {
    int32_t tokens[MOST];
    int64_t ends[MOST];
    weft_doc_id ids[MOST];
    int64_t documents, count;
} stream;

static void add_document(stream *s, int64_t tokens) {
    s->count += tokens;
    s->ends[s->documents] = s->count;
    s->ids[s->documents] =
        weft_doc_id_of((uint64_t)(s->documents % MOST) * UNITS / MOST, 3 * (uint64_t)s->documents);
    s->documents++;
}

/* Documents [from, to) as a part; its ends are new memory. */
static weft_substring_part part_of(const stream *s, int64_t from, int64_t to) {
    int64_t start = from > 0 ? s->ends[from - 1] : 0;
    int64_t *ends = malloc((size_t)(to - from + 1) * sizeof *ends);
    for (int64_t d = from; d < to; d++) ends[d - from] = s->ends[d] - start;
    return (weft_substring_part){
        .tokens = s->tokens + start, .ends = ends, .ids = s->ids + from, .documents = to - from};
}

/* ---- the model ---- */
static int64_t document_of(const stream *s, int64_t token) {
    int64_t d = 0;
    while (s->ends[d] <= token) d++;
    return d;
}

static bool window(const stream *s, int64_t at, int64_t length) {
    return at + length <= s->ends[document_of(s, at)];
}

/* covered[token]: it lies in a window that occurs earlier. */
static void model(const stream *s, int64_t length, bool covered[MOST]) {
    memset(covered, 0, MOST * sizeof *covered);
    for (int64_t at = 0; at < s->count; at++) {
        if (!window(s, at, length)) continue;
        for (int64_t before = 0; before < at; before++) {
            if (!window(s, before, length) ||
                memcmp(s->tokens + before, s->tokens + at, (size_t)length * sizeof *s->tokens) != 0)
                continue;
            for (int64_t i = 0; i < length; i++) covered[at + i] = true;
            break;
        }
    }
}

/* ---- what was found ---- */
/* Adds the ranges of the files; fails for one that is not sorted, not inside its document, or in another
 * partition. `apart`: they neither touch nor overlap. Returns how many tokens they have. */
static int64_t gather(const stream *s, char *const *files, int count, bool apart, bool covered[MOST]) {
    int64_t tokens = 0;
    char *temp = weft_format("%s.sort", files[0]);
    for (int p = 0; p < job.partitions; p++) {
        weft_spilled *in;
        const void *record;
        size_t bytes;
        weft_repeat last = {0};
        ck_assert_int_eq(weft_spilled_open(&in, files, count, p, WEFT_REPEAT_BYTES, 1 << 20, temp), WEFT_OK);
        while (weft_spilled_next(in, &record, &bytes) == WEFT_OK && record) {
            weft_repeat r;
            ck_assert_uint_eq(bytes, WEFT_REPEAT_BYTES);
            weft_repeat_unpack(record, &r);
            ck_assert_int_eq(weft_doc_partition(r.id, UNITS, job.partitions), p);
            if (apart && last.count > 0)
                ck_assert(r.id > last.id || (r.id == last.id && r.first > last.first + last.count));
            last = r;
            int64_t d = 0;
            while (d < s->documents && s->ids[d] != r.id) d++;
            ck_assert_int_lt(d, s->documents);
            int64_t start = d > 0 ? s->ends[d - 1] : 0;
            ck_assert_int_le(start + r.first + r.count, s->ends[d]);
            for (uint32_t i = 0; i < r.count; i++) covered[start + r.first + i] = true;
            tokens += r.count;
        }
        weft_spilled_close(in);
    }
    free(temp);
    return tokens;
}

static char *run(const char *dir, int number, int64_t length, int64_t vocab, const weft_substring_part *a,
                 const weft_substring_part *b, weft_substring_counts *counts) {
    char *path = weft_format("%s/%d", dir, number);
    ck_assert_int_eq(weft_substring_search(&job, length, vocab, a, b, path, counts), WEFT_OK);
    return path;
}

static int64_t tokens_in(const bool covered[MOST]) {
    int64_t n = 0;
    for (int i = 0; i < MOST; i++) n += covered[i];
    return n;
}

static void in_one_piece(const char *dir, const stream *s, int64_t length, int64_t vocab,
                         const bool want[MOST]) {
    bool got[MOST] = {0};
    weft_substring_counts counts;
    weft_substring_part all = part_of(s, 0, s->documents);
    char *file = run(dir, 0, length, vocab, &all, NULL, &counts);
    ck_assert_int_eq(gather(s, &file, 1, true, got), tokens_in(want));
    ck_assert_mem_eq(got, want, sizeof got);
    ck_assert_int_eq(counts.tokens, s->count);
    ck_assert_int_eq(counts.repeated, tokens_in(want));
    free(file);
    free((void *)all.ends);
}

static void in_parts(const char *dir, const stream *s, int64_t length, int64_t vocab, const int64_t *cuts,
                     int parts, const bool want[MOST]) {
    bool got[MOST] = {0};
    char *files[8];
    int count = 0;
    weft_substring_part part[3];
    for (int i = 0; i < parts; i++) part[i] = part_of(s, cuts[i], cuts[i + 1]);
    for (int j = 0; j < parts; j++)
        for (int i = 0; i <= j; i++) {
            bool pair[MOST] = {0};
            weft_substring_counts counts;
            files[count] = run(dir, count, length, vocab, &part[i], i < j ? &part[j] : NULL, &counts);
            ck_assert_int_eq(gather(s, &files[count], 1, true, pair), counts.repeated);
            int64_t from = cuts[j] > 0 ? s->ends[cuts[j] - 1] : 0,
                    to = cuts[j + 1] > 0 ? s->ends[cuts[j + 1] - 1] : 0;
            ck_assert_int_eq(counts.tokens, to - from);
            for (int64_t t = 0; t < s->count; t++)
                if (pair[t]) ck_assert(t >= from && t < to);
            count++;
        }
    gather(s, files, count, false, got);
    ck_assert_mem_eq(got, want, sizeof got);
    for (int i = 0; i < count; i++) free(files[i]);
    for (int i = 0; i < parts; i++) free((void *)part[i].ends);
}

/* ---- the tests ---- */
/* Tokens whose bytes also match where none begins. */
static const int32_t two_bytes[] = {0x0101, 0x0100, 0x0001, 0x0000, 0xffff};
static const int32_t four_bytes[] = {0x00010001, 0x00010000, 0x00000100, 0x00000001, 0x7ffffffe};

static void random_streams(int64_t vocab, const int32_t alphabet[5]) {
    const char *dir = made_dir();
    weft_rng r = weft_rng_make((uint64_t)vocab, "substring");
    uint64_t at = 0;
    int64_t found = 0, all = 0;
    for (int trial = 0; trial < 40; trial++) {
        static stream s;
        bool want[MOST];
        s.documents = s.count = 0;
        uint64_t letters = 1 + weft_rng_below(r, at++, 5), longest = 1 + weft_rng_below(r, at++, 40);
        for (uint64_t n = weft_rng_below(r, at++, 25); n > 0; n--)
            add_document(&s, weft_rng_below(r, at++, 4) == 0 ? 0 : (int64_t)weft_rng_below(r, at++, longest));
        for (int64_t i = 0; i < s.count; i++) s.tokens[i] = alphabet[weft_rng_below(r, at++, letters)];
        int64_t length = 1 + (int64_t)weft_rng_below(r, at++, 9);
        model(&s, length, want);
        in_one_piece(dir, &s, length, vocab, want);
        int64_t cuts[4] = {0, 0, 0, s.documents};
        for (int i = 1; i < 3; i++) cuts[i] = (int64_t)weft_rng_below(r, at++, (uint64_t)s.documents + 1);
        if (cuts[1] > cuts[2]) {
            int64_t first = cuts[2];
            cuts[2] = cuts[1];
            cuts[1] = first;
        }
        in_parts(dir, &s, length, vocab, cuts, 3, want);
        found += tokens_in(want);
        all += s.count;
    }
    ck_assert(found > all / 10 && found < all / 10 * 9); /* neither nothing nor everything */
}

START_TEST(against_every_pair_of_windows) {
    random_streams(65536, two_bytes);
}
END_TEST

START_TEST(against_every_pair_of_windows_four_bytes) {
    random_streams(INT64_C(0x7fffffff), four_bytes);
}
END_TEST

START_TEST(one_token_repeated) {
    enum { LENGTH = 50, TOKENS = 300000 };
    const char *dir = made_dir();
    int32_t *tokens = malloc(TOKENS * sizeof *tokens);
    for (int i = 0; i < TOKENS; i++) tokens[i] = 7;
    static const int64_t ends[] = {100, 149, 149, TOKENS};
    static const weft_doc_id ids[] = {0, 1, 2, 3};
    weft_substring_part part = {.tokens = tokens, .ends = ends, .ids = ids, .documents = 4};
    weft_substring_counts counts;
    char *file = run(dir, 0, LENGTH, 32000, &part, NULL, &counts), *temp = weft_format("%s/temp", dir);
    ck_assert_int_eq(counts.tokens, TOKENS);
    ck_assert_int_eq(counts.repeated, 99 + TOKENS - 149); /* the first window stays; 49 tokens hold none */
    weft_spilled *in;
    const void *record;
    size_t bytes;
    weft_repeat r[2];
    ck_assert_int_eq(weft_spilled_open(&in, &file, 1, 0, WEFT_REPEAT_BYTES, 1 << 20, temp), WEFT_OK);
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(weft_spilled_next(in, &record, &bytes), WEFT_OK);
        ck_assert_ptr_nonnull(record);
        weft_repeat_unpack(record, &r[i]);
    }
    ck_assert(r[0].id == 0 && r[0].first == 1 && r[0].count == 99);
    ck_assert(r[1].id == 3 && r[1].first == 0 && r[1].count == TOKENS - 149);
    ck_assert_int_eq(weft_spilled_next(in, &record, &bytes), WEFT_OK);
    ck_assert_ptr_null(record);
    weft_spilled_close(in);
    free(tokens);
    free(file);
    free(temp);
}
END_TEST

START_TEST(nothing_to_search) {
    const char *dir = made_dir();
    static const int64_t ends[] = {0, 0};
    static const weft_doc_id ids[] = {4, 5};
    weft_substring_part none = {0}, empty = {.ends = ends, .ids = ids, .documents = 2};
    const weft_substring_part *parts[] = {&none, &empty};
    for (int i = 0; i < 2; i++)
        for (int j = 0; j < 3; j++) {
            weft_substring_counts counts = {-1, -1};
            stream s = {0};
            bool covered[MOST];
            char *file = run(dir, 3 * i + j, 5, 100, parts[i], j < 2 ? parts[j] : NULL, &counts);
            ck_assert_int_eq(counts.tokens, 0);
            ck_assert_int_eq(counts.repeated, 0);
            ck_assert_int_eq(gather(&s, &file, 1, true, covered), 0);
            free(file);
        }
}
END_TEST

START_TEST(the_same_file_again) {
    const char *dir = made_dir();
    static stream s;
    s.documents = s.count = 0;
    while (s.count < 900) add_document(&s, 30);
    weft_rng r = weft_rng_make(3, "again");
    for (int64_t i = 0; i < s.count; i++) s.tokens[i] = (int32_t)weft_rng_below(r, (uint64_t)i, 3);
    char *data[2];
    size_t bytes[2];
    for (int i = 0; i < 2; i++) {
        weft_substring_counts counts;
        weft_substring_part all = part_of(&s, 0, s.documents);
        char *file = run(dir, i, 6, 3, &all, NULL, &counts);
        ck_assert_int_eq(weft_fs_read_file(file, 1 << 20, &data[i], &bytes[i]), WEFT_OK);
        free(file);
        free((void *)all.ends);
    }
    ck_assert_uint_eq(bytes[0], bytes[1]);
    ck_assert_mem_eq(data[0], data[1], bytes[0]);
    free(data[0]);
    free(data[1]);
}
END_TEST

/* What cannot be is refused, and leaves no file. */
static weft_status refused_status;
static void search_outside(void *arg) {
    int32_t tokens[] = {0, 100, 2};
    int64_t ends[] = {3};
    weft_doc_id ids[] = {0};
    weft_substring_part part = {.tokens = tokens, .ends = ends, .ids = ids, .documents = 1};
    weft_substring_counts counts;
    refused_status = weft_substring_search(&job, 1, 100, &part, NULL, arg, &counts);
}
static void search_nothing_long(void *arg) {
    weft_substring_part part = {0};
    weft_substring_counts counts;
    refused_status = weft_substring_search(&job, 0, 100, &part, NULL, arg, &counts);
}
START_TEST(what_cannot_be_is_refused) {
    char *path = weft_format("%s/out", made_dir());
    ck_assert_ptr_nonnull(strstr(made_errors(search_outside, path), "vocabulary of 100"));
    ck_assert_int_eq(refused_status, WEFT_EINTERNAL);
    ck_assert_ptr_nonnull(strstr(made_errors(search_nothing_long, path), "of 0 tokens"));
    ck_assert_int_eq(refused_status, WEFT_EINPUT);
    ck_assert_int_ne(access(path, F_OK), 0);
    free(path);
}
END_TEST

/* ---- memory ---- */
static size_t resident_peak(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (size_t)usage.ru_maxrss << 10;
}

static int32_t *random_tokens(int64_t count, int64_t vocab, uint64_t seed) {
    int32_t *tokens = malloc((size_t)count * sizeof *tokens);
    weft_rng r = weft_rng_make(seed, "memory");
    for (int64_t i = 0; i < count; i++) tokens[i] = (int32_t)weft_rng_below(r, (uint64_t)i, (uint64_t)vocab);
    return tokens;
}

/* In a process of its own: its peak counts from here. Exits with the percentage of `memory` that was used. */
static void use_memory(size_t memory, int64_t vocab, const char *out) {
    size_t before = resident_peak();
    int64_t count = weft_substring_part_tokens(memory, weft_substring_token_bytes(vocab));
    weft_doc_id ids[] = {1, 2};
    weft_substring_counts counts;
    weft_substring_part a = {
        .tokens = random_tokens(count, vocab, 1), .ends = &count, .ids = ids, .documents = 1};
    weft_substring_part b = {
        .tokens = random_tokens(count, vocab, 2), .ends = &count, .ids = ids + 1, .documents = 1};
    if (weft_substring_search(&job, 50, vocab, &a, &b, out, &counts) != WEFT_OK) _exit(255);
    size_t percent = (resident_peak() - before) * 100 / memory;
    _exit(percent < 254 ? (int)percent : 254);
}

/* A sanitizer's own memory would be counted. */
#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
#define SANITIZED true
#elif defined __has_feature
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED true
#endif
#endif
#ifndef SANITIZED
#define SANITIZED false
#endif

START_TEST(memory_is_what_the_parts_are_made_for) {
    char *path = weft_format("%s/out", made_dir());
    static const int64_t vocab[] = {65536, 65537};
    for (int i = 0; i < 2 && !SANITIZED; i++) {
        int status;
        pid_t child = fork();
        ck_assert_int_ge(child, 0);
        if (child == 0) use_memory((size_t)40 << 20, vocab[i], path);
        ck_assert_int_eq(waitpid(child, &status, 0), child);
        ck_assert(WIFEXITED(status));
        ck_assert_int_le(WEXITSTATUS(status), 100);
        ck_assert_int_ge(WEXITSTATUS(status), 75);
    }
    free(path);
    ck_assert_int_eq(weft_substring_part_tokens(0, 2), 0);
    ck_assert_int_eq(weft_substring_part_tokens(WEFT_SUBSTRING_OVERHEAD, 2), 0);
    ck_assert_int_eq(weft_substring_part_tokens((size_t)1 << 50, 2), INT32_MAX / 4);
    ck_assert_int_eq(weft_substring_part_tokens((size_t)1 << 50, 4), INT32_MAX / 8);
}
END_TEST

SUITE_MAIN("substring", against_every_pair_of_windows, against_every_pair_of_windows_four_bytes,
           one_token_repeated, nothing_to_search, the_same_file_again, what_cannot_be_is_refused,
           memory_is_what_the_parts_are_made_for)
