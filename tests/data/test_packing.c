/* data/loader with whole documents: each sequence against a packer written from the description in
 * loader_pack.h, and against what must hold for any packer. */
#include "made_loader.h"
#include "support/suite.h"

#include <stdbool.h>
#include <string.h>

/* ---- the reference ---- */
typedef struct row {
    int32_t *tokens, *targets, *doc_start; /* [t] */
    int64_t used;
    bool open, closed;
} row;

typedef struct reference {
    int64_t t, count, closed, tokens;
    row *rows;       /* [count] in the order of opening */
    int64_t *number; /* [closed] row of each sequence */
    int64_t place[64];
} reference;

static int64_t new_row(reference *r) {
    row *x = &r->rows[r->count];
    size_t bytes = (size_t)r->t * sizeof *x->tokens;
    *x = (row){.tokens = malloc(bytes), .targets = malloc(bytes), .doc_start = malloc(bytes)};
    for (int64_t i = 0; i < r->t; i++) x->tokens[i] = 2, x->targets[i] = -1, x->doc_start[i] = (int32_t)i;
    return r->count++;
}

static void close_row(reference *r, int64_t i) {
    r->rows[i].closed = true;
    r->number[r->closed++] = i;
}

/* Puts tokens [from, from + n) of a document of `size` tokens behind what the row holds. */
static void put(reference *r, int64_t i, const int32_t *doc, const char *masks, int64_t from, int64_t n,
                int64_t size) {
    row *x = &r->rows[i];
    int64_t at = x->used;
    for (int64_t k = 0; k < n; k++) {
        int64_t next = from + k + 1;
        x->tokens[at + k] = doc[from + k];
        x->targets[at + k] = next < size && !masks[next] ? doc[next] : -1;
        x->doc_start[at + k] = (int32_t)at;
    }
    x->used += n;
    r->tokens += n;
}

static void place_tail(reference *r, const int32_t *doc, const char *masks, int64_t from, int64_t size) {
    int64_t n = size - from, best = -1, fullest = 0;
    int place = -1;
    for (int p = 0; p < 64; p++) {
        int64_t room = r->place[p] < 0 ? 0 : r->t - r->rows[r->place[p]].used;
        if (room >= n && (best < 0 || room < best)) best = room, place = p;
    }
    for (int p = 0; best < 0 && p < 64; p++) {
        int64_t used = r->place[p] < 0 ? r->t : r->rows[r->place[p]].used;
        if (used > fullest) fullest = used, place = p;
    }
    if (n == r->t) {
        int64_t i = new_row(r);
        put(r, i, doc, masks, from, n, size);
        close_row(r, i);
        return;
    }
    if (best < 0) {
        if (r->place[place] >= 0) close_row(r, r->place[place]);
        r->place[place] = new_row(r);
    }
    put(r, r->place[place], doc, masks, from, n, size);
    if (r->rows[r->place[place]].used == r->t) {
        close_row(r, r->place[place]);
        r->place[place] = -1;
    }
}

static void pack(reference *r, int64_t t, const made_domain *d, int split) {
    int64_t all;
    int32_t *stream = made_stream(VOCAB, d, split, &all);
    char *masks = made_stream_masks(VOCAB, d, split);
    *r = (reference){.t = t,
                     .rows = calloc((size_t)all, sizeof *r->rows),
                     .number = calloc((size_t)all, sizeof *r->number)};
    for (int p = 0; p < 64; p++) r->place[p] = -1;
    for (int64_t at = 0, size; at < all; at += size) {
        int64_t from = 0;
        for (size = 1; stream[at + size - 1] != 2;) size++;
        for (; size - from > t; from += t) {
            int64_t i = new_row(r);
            put(r, i, stream + at, masks + at, from, t, size);
            close_row(r, i);
        }
        place_tail(r, stream + at, masks + at, from, size);
    }
    for (int p = 0; p < 64; p++)
        if (r->place[p] >= 0) close_row(r, r->place[p]);
    ck_assert_int_eq(r->closed, r->count);
    ck_assert_int_eq(r->tokens, all);
    free(stream);
    free(masks);
}

static void free_reference(reference *r) {
    for (int64_t i = 0; i < r->count; i++)
        free(r->rows[i].tokens), free(r->rows[i].targets), free(r->rows[i].doc_start);
    free(r->rows);
    free(r->number);
}

/* ---- the comparison ---- */
static int64_t check_row(const weft_batch *b, int64_t row_number, const row *want, int64_t t) {
    size_t bytes = (size_t)t * sizeof *b->tokens;
    int64_t counted = 0;
    ck_assert_mem_eq(b->tokens + row_number * t, want->tokens, bytes);
    ck_assert_mem_eq(b->targets + row_number * t, want->targets, bytes);
    ck_assert_mem_eq(b->doc_start + row_number * t, want->doc_start, bytes);
    for (int64_t i = 0; i < t; i++) counted += want->targets[i] >= 0;
    return counted;
}

static void check_domain(weft_loader *l, int d, const reference *want) {
    const weft_loader_domain *about = &weft_loader_domains(l)[d];
    ck_assert_int_eq(about->samples, want->closed);
    ck_assert_int_eq(about->padded, want->closed * want->t - want->tokens);
    for (int64_t first = 0; first < about->samples; first += BATCH) {
        weft_batch b;
        int64_t n = about->samples - first < BATCH ? about->samples - first : BATCH, counted = 0;
        ck_assert_int_eq(weft_loader_request_sequential(l, d, first, n), WEFT_OK);
        ck_assert_int_eq(weft_loader_take(l, &b, NULL), WEFT_OK);
        for (int64_t i = 0; i < n; i++)
            counted += check_row(&b, i, &want->rows[want->number[first + i]], want->t);
        ck_assert_int_eq(b.targets_counted, counted);
    }
}

static void check_all(const char *dir, const made_domain *made, int64_t t, int split, int64_t cache_bytes) {
    weft_loader_options o = made_options(dir);
    o.whole = true;
    o.seq_len = t;
    o.split = weft_split_names[split];
    o.cache_bytes = cache_bytes;
    weft_loader *l = made_loader(&o);
    for (int d = 0; d < DOMAINS; d++) {
        reference r;
        pack(&r, t, &made[d], split);
        check_domain(l, d, &r);
        free_reference(&r);
    }
    weft_loader_close(l);
}

START_TEST(sequences_are_those_of_the_description) {
    static const int64_t lengths[] = {1, 2, 3, 42, 64, 500, 902, 5000};
    for (int i = 0; i < 8; i++)
        check_all(made_masked_dir(), made_domains_masked, lengths[i], WEFT_SPLIT_TRAIN, 1 << 20);
    check_all(made_masked_dir(), made_domains_masked, 300, WEFT_SPLIT_HELDOUT, 0);
    check_all(made_shared_dir(), made_domains, 300, WEFT_SPLIT_TRAIN, 0);
}
END_TEST

/* Without a reference: the tokens are those of the stream, each as often; documents that fit are not cut. */
START_TEST(every_token_comes_once) {
    enum { LENGTH = 700 };
    weft_loader_options o = made_options(made_shared_dir());
    o.whole = true;
    o.seq_len = LENGTH;
    weft_loader *l = made_loader(&o);
    for (int d = 0; d < DOMAINS; d++) {
        static int64_t times[VOCAB];
        const weft_loader_domain *about = &weft_loader_domains(l)[d];
        int64_t tokens, begun = 0, fillers = 0;
        int32_t *stream = made_stream(VOCAB, &made_domains[d], 0, &tokens);
        memset(times, 0, sizeof times);
        for (int64_t s = 0; s < about->samples; s++) {
            weft_batch b;
            ck_assert_int_eq(weft_loader_request_sequential(l, d, s, 1), WEFT_OK);
            ck_assert_int_eq(weft_loader_take(l, &b, NULL), WEFT_OK);
            for (int64_t i = 0; i < LENGTH; i++) {
                bool first = b.doc_start[i] == i, filler = first && b.tokens[i] == 2 && i > 0;
                times[b.tokens[i]]++;
                fillers += filler;
                begun += first && b.tokens[i] == 1;
                if (i > 0 && !first) ck_assert_int_eq(b.targets[i - 1], b.tokens[i]);
                if (i > 0 && first && b.tokens[i] == 1) /* what was before has ended */
                    ck_assert(b.tokens[i - 1] == 2);
            }
        }
        for (int64_t i = 0; i < tokens; i++) times[stream[i]]--;
        for (int id = 0; id < VOCAB; id++)
            if (id != 2) ck_assert_int_eq(times[id], 0);
        ck_assert_int_eq(times[2], about->padded);
        ck_assert_int_ge(fillers, about->padded); /* and tails of nothing but EOS */
        ck_assert_int_eq(begun, about->documents);
        ck_assert_int_lt(about->padded, tokens / 10);
        free(stream);
    }
    weft_loader_close(l);
}
END_TEST

/* The order of the samples, and a run that goes on in the middle, are as without packing. */
START_TEST(random_samples_are_what_locate_says) {
    weft_loader_options o = made_options(made_masked_dir());
    reference r[DOMAINS];
    o.whole = true;
    o.max_epochs = 3;
    o.cache_bytes = 0;
    for (int d = 0; d < DOMAINS; d++) pack(&r[d], T, &made_domains_masked[d], 0);
    weft_loader *l = made_loader(&o);
    uint64_t total = weft_loader_samples(l), want = 0;
    for (int d = 0; d < DOMAINS; d++) want += 3 * (uint64_t)weft_loader_domains(l)[d].samples;
    ck_assert_uint_eq(total, want);
    for (uint64_t first = 0; first + 7 * BATCH < total; first += 331) {
        uint64_t samples[BATCH];
        for (int i = 0; i < BATCH; i++) samples[i] = first + (uint64_t)i * 7;
        weft_batch b = made_batch(l, samples, BATCH);
        for (int i = 0; i < BATCH; i++) {
            int d;
            int64_t index, epoch;
            weft_loader_locate(l, samples[i], &d, &index, &epoch);
            ck_assert_int_eq(b.domain[i], d);
            check_row(&b, i, &r[d].rows[r[d].number[index]], T);
        }
    }
    for (int d = 0; d < DOMAINS; d++) free_reference(&r[d]);
    weft_loader_close(l);
}
END_TEST

/* A domain with less text than one sequence has one all the same. */
START_TEST(a_small_domain_is_one_sequence) {
    static const made_domain two[] = {{"large", 100, 200, 100, false}, {"small", 2, 5, 10, false}};
    const char *dir = made_dir();
    made_write(dir, VOCAB, two, 2);
    weft_loader_options o = made_options(dir);
    const made_weight both[] = {{"large", 1}, {"small", 1}};
    o.whole = true;
    o.weights_count = 2;
    o.weights = (const void *)both;
    weft_loader *l = made_loader(&o);
    ck_assert_int_eq(weft_loader_domains(l)[1].samples, 1);
    ck_assert_int_eq(weft_loader_domains(l)[1].padded, T - weft_loader_domains(l)[1].tokens);
    weft_loader_close(l);
}
END_TEST

SUITE_MAIN("data/packing", sequences_are_those_of_the_description, every_token_comes_once,
           random_samples_are_what_locate_says, a_small_domain_is_one_sequence)
