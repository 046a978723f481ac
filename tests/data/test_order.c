/* data/loader: the order of the samples: weights, epochs, and what happens when data are used up. */
#include "made_loader.h"
#include "runtime/hash.h"
#include "support/suite.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* Hashes of the order and of the batches as they were before there were masks, whole documents and a limit of
 * epochs: who has begun a run goes on with the same data. */
static void check_golden(const weft_loader_options *o, uint64_t order, uint64_t batches) {
    enum { N = 20000 };
    static int64_t all[N][3];
    weft_loader *l = made_loader(o);
    uint64_t hash = 0;
    ck_assert_uint_eq(weft_loader_samples(l), UINT64_MAX);
    for (uint64_t s = 0; s < N; s++) {
        int d;
        weft_loader_locate(l, s * 37, &d, &all[s][1], &all[s][2]);
        all[s][0] = d;
    }
    ck_assert_uint_eq(weft_hash64(all, sizeof all, 0), order);
    for (uint64_t s = 0; s < 2000; s += BATCH) {
        uint64_t samples[BATCH];
        for (int i = 0; i < BATCH; i++) samples[i] = s + (uint64_t)i;
        weft_batch b = made_batch(l, samples, BATCH);
        size_t bytes = BATCH * T * sizeof *b.tokens;
        hash = weft_hash64(b.tokens, bytes, hash);
        hash = weft_hash64(b.targets, bytes, hash);
        hash = weft_hash64(b.doc_start, bytes, hash);
        hash = weft_hash64(&b.targets_counted, sizeof b.targets_counted, hash);
    }
    ck_assert_uint_eq(hash, batches);
    weft_loader_close(l);
}

START_TEST(the_order_is_what_it_was) {
    weft_loader_options o = made_options(made_shared_dir());
    check_golden(&o, 0xeac66ca9545d6f96, 0x0ccb51be1881dc73);
    const made_weight given[] = {{"web", 3}, {"books", 1}};
    o.weights_count = 2;
    o.weights = (const void *)given;
    check_golden(&o, 0x9975d6fe6c4e1420, 0xad7d3a527d3a9c48);
}
END_TEST

/* In each epoch of each domain every sample comes once; the next epoch has another order. */
START_TEST(an_epoch_is_a_permutation) {
    weft_loader_options o = made_options(made_shared_dir());
    weft_loader *l = made_loader(&o);
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
    weft_loader_options o = made_options(made_shared_dir());
    weft_loader *l = made_loader(&o);
    double all = 0;
    for (int d = 0; d < DOMAINS; d++) all += (double)weft_loader_domains(l)[d].tokens;
    count_cycle(l, count);
    for (int d = 0; d < DOMAINS; d++) {
        ck_assert_double_le(fabs(count[d] - 4096 * (double)weft_loader_domains(l)[d].tokens / all), 1);
        ck_assert_double_eq(weft_loader_domains(l)[d].weight, count[d] / 4096.0);
    }
    weft_loader_close(l);

    const made_weight given[] = {{"web", 3}, {"books", 1}};
    o.weights_count = 2;
    o.weights = (const void *)given;
    l = made_loader(&o);
    count_cycle(l, count);
    ck_assert_int_eq(count[0], 1024);
    ck_assert_int_eq(count[1], 0);
    ck_assert_int_eq(count[2], 3072);
    weft_loader_close(l);

    const made_weight tiny[] = {{"web", 1}, {"books", 1e-9}, {"code", 1e-9}};
    o.weights_count = 3;
    o.weights = (const void *)tiny;
    l = made_loader(&o);
    count_cycle(l, count);
    ck_assert_int_eq(count[0], 1);
    ck_assert_int_eq(count[1], 1);
    ck_assert_int_eq(count[2], 4094);
    weft_loader_close(l);
}
END_TEST

/* ---- a limit of epochs ---- */
/* Walks a loader to its end by its own bookkeeping: who may still be drawn, how often each sequence came. */
static void check_limit(const weft_loader_options *o, const weft_loader *unlimited) {
    weft_loader *l = made_loader(o);
    const weft_loader_domain *domains = weft_loader_domains(l);
    uint64_t total = weft_loader_samples(l), sum = 0, first_end = 0;
    int64_t drawn[DOMAINS] = {0}, used_up = 0;
    char *times[DOMAINS];
    for (int d = 0; d < DOMAINS; d++) {
        times[d] = calloc((size_t)domains[d].samples, 1);
        if (domains[d].weight > 0) sum += (uint64_t)(domains[d].samples * o->max_epochs);
    }
    ck_assert_uint_eq(total, sum);
    for (uint64_t s = 0; s < total; s++) {
        int d, free_d;
        int64_t index, epoch, free_index, free_epoch;
        weft_loader_locate(l, s, &d, &index, &epoch);
        ck_assert_int_lt(epoch, o->max_epochs);
        ck_assert_int_eq(epoch, drawn[d] / domains[d].samples);
        ck_assert_int_eq(times[d][index]++, epoch);
        if (used_up == 0) { /* until the first domain is used up, nothing is changed by the limit */
            weft_loader_locate(unlimited, s, &free_d, &free_index, &free_epoch);
            if (free_epoch < o->max_epochs) {
                ck_assert_int_eq(d, free_d);
                ck_assert_int_eq(index, free_index);
            } else {
                first_end = s;
                used_up = 1;
            }
        }
        drawn[d]++;
    }
    ck_assert_uint_gt(first_end, 0);
    /* A run may lift or set the limit up to the sample that would feel it. */
    ck_assert(weft_loader_same_order(unlimited, first_end, o->max_epochs));
    ck_assert(!weft_loader_same_order(unlimited, first_end + 1, o->max_epochs));
    ck_assert(weft_loader_same_order(l, first_end, 0) && !weft_loader_same_order(l, first_end + 1, 0));
    for (int d = 0; d < DOMAINS; d++) {
        for (int64_t i = 0; i < domains[d].samples; i++)
            ck_assert_int_eq(times[d][i], domains[d].weight > 0 ? o->max_epochs : 0);
        free(times[d]);
    }
    weft_loader_close(l);
}

START_TEST(no_domain_comes_too_often) {
    weft_loader_options o = made_options(made_shared_dir());
    for (int k = 0; k < 2; k++) {
        const made_weight given[] = {{"web", 3}, {"books", 1}};
        weft_loader *unlimited = made_loader(&o);
        for (o.max_epochs = 1; o.max_epochs <= 7; o.max_epochs += 2) check_limit(&o, unlimited);
        weft_loader_close(unlimited);
        o.max_epochs = 0;
        o.weights_count = 2;
        o.weights = (const void *)given;
    }
}
END_TEST

/* Shares of the domains in samples [from, to). */
static void shares(const weft_loader *l, uint64_t from, uint64_t to, double out[DOMAINS]) {
    memset(out, 0, DOMAINS * sizeof *out);
    for (uint64_t s = from; s < to; s++) {
        int d;
        int64_t index, epoch;
        weft_loader_locate(l, s, &d, &index, &epoch);
        out[d]++;
    }
    for (int d = 0; d < DOMAINS; d++) out[d] /= (double)(to - from);
}

/* With weights 2 : 1 : 5 code is used up first, then web, which leaves books alone. */
START_TEST(turns_go_to_the_others_by_weight) {
    const made_weight given[] = {{"books", 2}, {"code", 5}, {"web", 1}};
    weft_loader_options o = made_options(made_shared_dir());
    o.max_epochs = 60;
    o.weights_count = 3;
    o.weights = (const void *)given;
    weft_loader *l = made_loader(&o);
    const weft_loader_domain *domains = weft_loader_domains(l);
    uint64_t code = (uint64_t)(domains[1].samples * o.max_epochs), total = weft_loader_samples(l);
    uint64_t code_end = code / 5 * 8; /* about: where it is used up */
    double got[DOMAINS];
    shares(l, 0, 4096, got);
    ck_assert_double_eq(got[0], 0.25);
    ck_assert_double_eq(got[1], 0.625);
    shares(l, code_end + 4096, code_end + 5 * 4096, got);
    ck_assert_double_eq(got[1], 0);
    ck_assert_double_le(fabs(got[0] - 2.0 / 3), 0.01);
    ck_assert_double_le(fabs(got[2] - 1.0 / 3), 0.01);
    shares(l, total - 1000, total, got);
    ck_assert_double_eq(got[0], 1);
    ck_assert_double_eq(domains[1].weight, 0.625);
    weft_loader_close(l);
}
END_TEST

struct asking {
    weft_loader *l;
    uint64_t sample;
    weft_status status;
};

static void ask(void *arg) {
    struct asking *a = arg;
    a->status = weft_loader_request(a->l, &a->sample, 1);
}

START_TEST(used_up_data_are_said_to_be) {
    weft_loader_options o = made_options(made_shared_dir());
    o.max_epochs = 2;
    weft_loader *l = made_loader(&o);
    uint64_t total = weft_loader_samples(l), last = total - 1;
    char number[64];
    snprintf(number, sizeof number, "they end after %llu sequences of 64", (unsigned long long)total);
    made_batch(l, &last, 1);
    struct asking a = {.l = l, .sample = total};
    const char *text = made_errors(ask, &a);
    ck_assert_int_eq(a.status, WEFT_EINPUT);
    ck_assert_msg(strstr(text, "data are used up") && strstr(text, number), "%s", text);
    made_batch(l, &last, 1); /* a refused request leaves nothing behind */
    weft_loader_close(l);
}
END_TEST

/* More than the numbers can count is no limit, and nothing wraps around. */
START_TEST(huge_limits) {
    weft_loader_options o = made_options(made_shared_dir());
    o.max_epochs = INT64_MAX;
    weft_loader *l = made_loader(&o);
    ck_assert_uint_eq(weft_loader_samples(l), UINT64_MAX);
    made_batch(l, &(uint64_t){UINT64_MAX - 1}, 1);
    weft_loader_close(l);

    /* The product of samples and epochs is 2^64 and a little. */
    const made_weight alone[] = {{"books", 1}};
    o.weights_count = 1;
    o.weights = (const void *)alone;
    o.max_epochs = 0;
    l = made_loader(&o);
    int64_t books = weft_loader_domains(l)[0].samples, web = weft_loader_domains(l)[2].samples;
    weft_loader_close(l);
    o.max_epochs = (int64_t)(UINT64_MAX / (uint64_t)books + 1);
    l = made_loader(&o);
    ck_assert_uint_eq(weft_loader_samples(l), UINT64_MAX);
    weft_loader_close(l);

    /* Books are drawn once in a cycle: with 2^52 of them its end would be at 2^64, behind the web's. */
    const made_weight rare[] = {{"books", 1e-9}, {"web", 1}};
    o.weights_count = 2;
    o.weights = (const void *)rare;
    o.max_epochs = ((int64_t)1 << 52) / books + 1;
    l = made_loader(&o);
    ck_assert_uint_eq(weft_loader_samples(l), (uint64_t)(books + web) * (uint64_t)o.max_epochs);
    weft_loader_close(l);
}
END_TEST

SUITE_MAIN("data/order", the_order_is_what_it_was, an_epoch_is_a_permutation, weights_are_kept,
           no_domain_comes_too_often, turns_go_to_the_others_by_weight, used_up_data_are_said_to_be,
           huge_limits)
