/* Drawing tokens from logits. */
#include "train/sampling.h"
#include "support/suite.h"

#include <math.h>
#include <string.h>

enum { V = 8, DRAWS = 20000 };

/* Probabilities 0.4, 0.3, 0.1 (three times), ~0 ... in an order that is not sorted; 1, 3 and 6 tie. */
static const double p[V] = {1e-9, 0.1, 0.4, 0.1, 0, 0.3, 0.1, 1e-12};
static weft_real logits[V];
static weft_sampler sampler;

static void set_up(void) {
    for (int i = 0; i < V; i++) logits[i] = p[i] > 0 ? (weft_real)log(p[i]) : -INFINITY;
    ck_assert_int_eq(weft_sampler_open(&sampler, V), WEFT_OK);
}

/* How often each token is drawn. */
static void draw(const weft_sampling *how, int64_t counts[V]) {
    memset(counts, 0, V * sizeof *counts);
    for (uint64_t i = 0; i < DRAWS; i++) {
        int32_t token = weft_sampler_pick(&sampler, how, logits, i);
        ck_assert(token >= 0 && token < V);
        counts[token]++;
    }
}

/* Counts within five standard deviations of what the probabilities (which need not sum to 1) say; none of 0.
 */
static void assert_distribution(const weft_sampling *how, const double want[V]) {
    int64_t counts[V];
    double sum = 0;
    draw(how, counts);
    for (int i = 0; i < V; i++) sum += want[i];
    for (int i = 0; i < V; i++) {
        double q = want[i] / sum, mean = q * DRAWS, deviation = sqrt(DRAWS * q * (1 - q));
        if (want[i] == 0)
            ck_assert_int_eq(counts[i], 0);
        else
            ck_assert_msg(fabs((double)counts[i] - mean) <= 5 * deviation + 1,
                          "token %d: %lld times, wanted about %.0f", i, (long long)counts[i], mean);
    }
}

START_TEST(the_whole_distribution) {
    set_up();
    assert_distribution(&(weft_sampling){.temperature = 1, .top_p = 1, .seed = 3}, p);
    double sharper[V], flatter[V];
    for (int i = 0; i < V; i++) sharper[i] = p[i] * p[i], flatter[i] = sqrt(p[i]);
    assert_distribution(&(weft_sampling){.temperature = 0.5, .top_p = 1, .seed = 3}, sharper);
    assert_distribution(&(weft_sampling){.temperature = 2, .top_p = 1, .seed = 3}, flatter);
    weft_sampler_close(&sampler);
}
END_TEST

START_TEST(the_likeliest) {
    set_up();
    const double only_2[V] = {[2] = 1};
    assert_distribution(&(weft_sampling){.temperature = 0, .top_p = 1}, only_2);
    assert_distribution(&(weft_sampling){.temperature = 1, .top_k = 1, .top_p = 1}, only_2);
    assert_distribution(&(weft_sampling){.temperature = 1, .top_p = 1e-6}, only_2);
    assert_distribution(&(weft_sampling){.temperature = 1e-300, .top_p = 1}, only_2);
    weft_sampler_close(&sampler);
}
END_TEST

START_TEST(top_k_and_top_p) {
    set_up();
    /* Ties go to the lower ids: of 1, 3 and 6 the first one or two. */
    const double k3[V] = {[2] = 0.4, [5] = 0.3, [1] = 0.1},
                 k4[V] = {[2] = 0.4, [5] = 0.3, [1] = 0.1, [3] = 0.1};
    assert_distribution(&(weft_sampling){.temperature = 1, .top_k = 3, .top_p = 1, .seed = 5}, k3);
    assert_distribution(&(weft_sampling){.temperature = 1, .top_k = 4, .top_p = 1, .seed = 5}, k4);
    assert_distribution(&(weft_sampling){.temperature = 1, .top_k = V + 5, .top_p = 1, .seed = 5}, p);
    /* As few as reach the mass: 0.4 is enough for 0.39, 0.7 for 0.69, then one of the ties. */
    const double p1[V] = {[2] = 1}, p2[V] = {[2] = 0.4, [5] = 0.3};
    assert_distribution(&(weft_sampling){.temperature = 1, .top_p = 0.39, .seed = 7}, p1);
    assert_distribution(&(weft_sampling){.temperature = 1, .top_p = 0.69, .seed = 7}, p2);
    assert_distribution(&(weft_sampling){.temperature = 1, .top_p = 0.75, .seed = 7}, k3);
    /* After top-k: 0.4 of 0.7 is 0.571, which reaches 0.55 of what is left, but not of the whole. */
    assert_distribution(&(weft_sampling){.temperature = 1, .top_k = 2, .top_p = 0.55, .seed = 7}, p1);
    assert_distribution(&(weft_sampling){.temperature = 1, .top_k = 5, .top_p = 0.55, .seed = 7}, p2);
    weft_sampler_close(&sampler);
}
END_TEST

START_TEST(ties) {
    set_up();
    for (int i = 0; i < V; i++) logits[i] = -3;
    const double first[V] = {1}, three[V] = {1, 1, 1}, all[V] = {1, 1, 1, 1, 1, 1, 1, 1};
    assert_distribution(&(weft_sampling){.temperature = 0, .top_p = 1}, first);
    assert_distribution(&(weft_sampling){.temperature = 1, .top_k = 1, .top_p = 1}, first);
    assert_distribution(&(weft_sampling){.temperature = 1, .top_k = 3, .top_p = 1}, three);
    assert_distribution(&(weft_sampling){.temperature = 1, .top_p = 3.0 / V}, three);
    assert_distribution(&(weft_sampling){.temperature = 1, .top_p = 1}, all);
    weft_sampler_close(&sampler);
}
END_TEST

/* A token depends on the logits, the options and its index, on nothing that was drawn before. */
START_TEST(a_function_of_seed_and_index) {
    set_up();
    int differ = 0;
    int32_t tokens[100];
    const weft_sampling a = {.temperature = 1, .top_p = 1, .seed = 1},
                        b = {.temperature = 1, .top_p = 1, .seed = 2};
    for (int i = 0; i < 100; i++) tokens[i] = weft_sampler_pick(&sampler, &a, logits, (uint64_t)i);
    for (int i = 99; i >= 0; i--) {
        differ += weft_sampler_pick(&sampler, &b, logits, (uint64_t)i) != tokens[i];
        ck_assert_int_eq(weft_sampler_pick(&sampler, &a, logits, (uint64_t)i), tokens[i]);
    }
    ck_assert_int_gt(differ, 40); /* 1 - 0.4^2 - 0.3^2 - 3 * 0.1^2 = 0.72 of them are expected to */
    weft_sampler_close(&sampler);
}
END_TEST

/* Differences that overflow or vanish in exp leave a valid token: the only likely one. */
START_TEST(extreme_logits) {
    static const weft_real sets[][V] = {
        {-1e30f, -1e30f, 1e30f, -1e30f, 0, -INFINITY, 0, -1e30f},
        {-3e38f, -3e38f, 3e38f, -3e38f, -3e38f, -3e38f, -3e38f, -3e38f},
        {-INFINITY, -INFINITY, -5e4f, -INFINITY, -INFINITY, -INFINITY, -INFINITY, -INFINITY},
        {-2e4f, -2e4f, -1e4f, -2e4f, -2e4f, -2e4f, -2e4f, -2e4f},
    };
    static const double temperatures[] = {0, 5e-324, 1e-300, 1, 10};
    set_up();
    for (size_t i = 0; i < sizeof sets / sizeof *sets; i++)
        for (size_t t = 0; t < sizeof temperatures / sizeof *temperatures; t++)
            for (uint64_t index = 0; index < 200; index++) {
                weft_sampling how = {.temperature = temperatures[t], .top_p = index % 2 ? 1 : 0.9};
                ck_assert_int_eq(weft_sampler_pick(&sampler, &how, sets[i], index), 2);
            }
    /* A temperature without bounds makes all that are possible alike. */
    const double possible[V] = {1, 1, 1, 1, 0, 1, 1, 1};
    assert_distribution(&(weft_sampling){.temperature = 1e308, .top_p = 1}, possible);
    weft_sampler_close(&sampler);
    ck_assert_int_eq(weft_sampler_open(&sampler, 1), WEFT_OK);
    ck_assert_int_eq(weft_sampler_pick(&sampler, &(weft_sampling){.temperature = 1, .top_p = 1}, sets[0], 9),
                     0);
    weft_sampler_close(&sampler);
}
END_TEST

START_TEST(options_out_of_range) {
    static const weft_sampling bad[] = {
        {.temperature = -0.1, .top_p = 1}, {.temperature = NAN, .top_p = 1},
        {.temperature = 1, .top_p = 0},    {.temperature = 1, .top_p = 1.01},
        {.temperature = 1, .top_p = NAN},  {.temperature = 1, .top_p = 1, .top_k = -1}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        ck_assert_msg(weft_sampling_check(&bad[i]) == WEFT_EINPUT, "case %zu was accepted", i);
    ck_assert_int_eq(weft_sampling_check(&(weft_sampling){.temperature = 0, .top_p = 1}), WEFT_OK);
    ck_assert_int_eq(weft_sampling_check(&(weft_sampling){.temperature = 2, .top_p = 1e-9, .top_k = 5}),
                     WEFT_OK);
}
END_TEST

SUITE_MAIN("sampling", the_whole_distribution, the_likeliest, top_k_and_top_p, ties,
           a_function_of_seed_and_index, extreme_logits, options_out_of_range)
