#include "train/sampling.h"
#include "runtime/rng.h"

#include <math.h>
#include <stdlib.h>

weft_status weft_sampling_check(const weft_sampling *how) {
    if (!(how->temperature >= 0))
        WEFT_FAIL(WEFT_EINPUT, "--temperature %g: must be 0 or more", how->temperature);
    if (!(how->top_p > 0 && how->top_p <= 1))
        WEFT_FAIL(WEFT_EINPUT, "--top-p %g: must be above 0 and at most 1", how->top_p);
    if (how->top_k < 0) WEFT_FAIL(WEFT_EINPUT, "--top-k %lld: must be 0 or more", (long long)how->top_k);
    return WEFT_OK;
}

weft_status weft_sampler_open(weft_sampler *s, int64_t vocab) {
    *s = (weft_sampler){.vocab = vocab,
                        .p = malloc((size_t)vocab * sizeof *s->p),
                        .order = malloc((size_t)vocab * sizeof *s->order)};
    if (s->p && s->order) return WEFT_OK;
    weft_sampler_close(s);
    WEFT_FAIL(WEFT_ENOMEM, "no memory for %lld probabilities", (long long)vocab);
}

void weft_sampler_close(weft_sampler *s) {
    free(s->p);
    free(s->order);
    *s = (weft_sampler){0};
}

static int by_probability(const void *a, const void *b, void *context) {
    const double *p = context;
    int32_t i = *(const int32_t *)a, j = *(const int32_t *)b;
    if (p[i] != p[j]) return p[i] < p[j] ? 1 : -1;
    return i < j ? -1 : i > j;
}

int32_t weft_sampler_pick(weft_sampler *s, const weft_sampling *how, const weft_real *logits,
                          uint64_t index) {
    int64_t best = 0, kept = s->vocab;
    for (int64_t i = 1; i < s->vocab; i++)
        if (logits[i] > logits[best]) best = i;
    if (how->temperature == 0) return (int32_t)best;

    double total = 0;
    for (int64_t i = 0; i < s->vocab; i++) {
        s->p[i] = exp(((double)logits[i] - (double)logits[best]) / how->temperature);
        s->order[i] = (int32_t)i;
        total += s->p[i];
    }
    qsort_r(s->order, (size_t)s->vocab, sizeof *s->order, by_probability, s->p);
    if (how->top_k > 0 && how->top_k < kept) {
        kept = how->top_k;
        total = 0;
        for (int64_t i = 0; i < kept; i++) total += s->p[s->order[i]];
    }
    double mass = 0;
    int64_t n = 0;
    while (n < kept && (n == 0 || mass < how->top_p * total)) mass += s->p[s->order[n++]];
    double u = weft_rng_uniform(weft_rng_make(how->seed, "generate"), index) * mass;
    for (int64_t i = 0; i < n; i++) {
        u -= s->p[s->order[i]];
        if (u < 0) return s->order[i];
    }
    return s->order[n - 1];
}
