#include "data/loader/loader_order.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void divide(const double *weights, int count, uint16_t *slots) {
    double rest[WEFT_LOADER_MAX_DOMAINS];
    int sum = 0;
    for (int d = 0; d < count; d++) {
        double share = weights[d] * WEFT_ORDER_SLOTS;
        slots[d] = (uint16_t)floor(share);
        rest[d] = share - slots[d];
        if (weights[d] > 0 && slots[d] == 0) slots[d] = 1, rest[d] = 0;
        sum += slots[d];
    }
    for (; sum < WEFT_ORDER_SLOTS; sum++) {
        int most = -1;
        for (int d = 0; d < count; d++)
            if (weights[d] > 0 && (most < 0 || rest[d] > rest[most])) most = d;
        slots[most]++;
        rest[most] -= 1;
    }
    /* The single slots given to small domains come from the largest one. */
    for (; sum > WEFT_ORDER_SLOTS; sum--) {
        int most = 0;
        for (int d = 1; d < count; d++)
            if (slots[d] > slots[most]) most = d;
        slots[most]--;
    }
}

static void fill_cycle(weft_segment *s, weft_rng key, int count) {
    uint16_t seen[WEFT_LOADER_MAX_DOMAINS] = {0};
    uint32_t next = 0;
    for (int d = 0; d < count; d++)
        for (int i = 0; i < s->slots[d]; i++)
            s->domain[weft_rng_permute(key, next++, WEFT_ORDER_SLOTS)] = (uint8_t)d;
    for (int i = 0; i < WEFT_ORDER_SLOTS; i++) s->before[i] = seen[s->domain[i]]++;
}

/* Samples from the segment's beginning to the slot that would draw more than `left` of domain d; UINT64_MAX
 * when that is beyond all numbers. */
static uint64_t used_up_after(const weft_segment *s, int d, uint64_t left) {
    uint64_t cycles = left / s->slots[d], slot = 0;
    while (s->domain[slot] != d || s->before[slot] != left % s->slots[d]) slot++;
    if (cycles >= (UINT64_MAX - s->first) / WEFT_ORDER_SLOTS) return UINT64_MAX;
    return cycles * WEFT_ORDER_SLOTS + slot;
}

/* Samples of each domain before the one that comes `length` after the segment's first. */
static void count_drawn(const weft_segment *s, uint64_t length, int count, uint64_t *drawn) {
    for (int d = 0; d < count; d++) drawn[d] = s->drawn[d] + length / WEFT_ORDER_SLOTS * s->slots[d];
    for (uint64_t i = 0; i < length % WEFT_ORDER_SLOTS; i++) drawn[s->domain[i]]++;
}

/* Drops what is used up and scales the other weights to a sum of 1; false when nothing is left. */
static bool drop_used_up(double *weights, const uint64_t *limit, const uint64_t *drawn, int count) {
    double sum = 0;
    for (int d = 0; d < count; d++) {
        if (drawn[d] == limit[d]) weights[d] = 0;
        sum += weights[d];
    }
    for (int d = 0; d < count && sum > 0; d++) weights[d] /= sum;
    return sum > 0;
}

/* Samples from the segment's beginning to the first that cannot be drawn. */
static uint64_t segment_length(const weft_segment *s, const uint64_t *limit, int count) {
    uint64_t length = UINT64_MAX;
    for (int d = 0; d < count; d++) {
        if (s->slots[d] == 0 || limit[d] == UINT64_MAX) continue;
        uint64_t after = used_up_after(s, d, limit[d] - s->drawn[d]);
        if (after < length) length = after;
    }
    return length;
}

static void make_segments(weft_order *o, uint64_t seed, double *weights, const uint64_t *limit, int count) {
    uint64_t drawn[WEFT_LOADER_MAX_DOMAINS] = {0}, first = 0, length;
    do {
        char name[32] = "data/cycle";
        if (o->count > 0) snprintf(name, sizeof name, "data/cycle/%d", o->count);
        weft_segment *s = &o->segments[o->count++];
        s->first = first;
        memcpy(s->drawn, drawn, sizeof drawn);
        divide(weights, count, s->slots);
        fill_cycle(s, weft_rng_make(seed, name), count);
        length = segment_length(s, limit, count);
        o->total = length == UINT64_MAX ? UINT64_MAX : first + length;
        first = o->total;
        if (length != UINT64_MAX) count_drawn(s, length, count, drawn);
    } while (length != UINT64_MAX && drop_used_up(weights, limit, drawn, count));
}

weft_status weft_order_init(weft_order *o, uint64_t seed, weft_loader_domain *domains, int count,
                            int64_t max_epochs) {
    double weights[WEFT_LOADER_MAX_DOMAINS];
    uint64_t limit[WEFT_LOADER_MAX_DOMAINS];
    size_t segments = 0; /* each but the last ends with a domain used up */
    *o = (weft_order){0};
    for (int d = 0; d < count; d++) {
        char name[128];
        uint64_t samples = (uint64_t)domains[d].samples, most = (uint64_t)max_epochs;
        weights[d] = domains[d].weight;
        segments += weights[d] > 0;
        limit[d] = most == 0 || samples > UINT64_MAX / most ? UINT64_MAX : samples * most;
        o->samples[d] = samples;
        /* By name: the order within a domain does not depend on which others there are. */
        snprintf(name, sizeof name, "data/order/%s", domains[d].name);
        o->key[d] = weft_rng_make(seed, name);
    }
    o->segments = calloc(max_epochs ? segments : 1, sizeof *o->segments);
    if (!o->segments) WEFT_FAIL(WEFT_ENOMEM, "no memory for the order of the samples");
    make_segments(o, seed, weights, limit, count);
    for (int d = 0; d < count; d++) domains[d].weight = (double)o->segments->slots[d] / WEFT_ORDER_SLOTS;
    return WEFT_OK;
}

void weft_order_free(weft_order *o) {
    free(o->segments);
    *o = (weft_order){0};
}

void weft_order_locate(const weft_order *o, uint64_t sample, int *domain, int64_t *index, int64_t *epoch) {
    const weft_segment *s = &o->segments[o->count - 1];
    while (s->first > sample) s--;
    uint64_t at = sample - s->first, slot = at % WEFT_ORDER_SLOTS;
    int d = s->domain[slot];
    uint64_t n = s->drawn[d] + at / WEFT_ORDER_SLOTS * s->slots[d] + s->before[slot];
    uint64_t round = n / o->samples[d];
    weft_rng order = {.key = weft_rng_u64(o->key[d], round)};
    *domain = d;
    *epoch = (int64_t)round;
    *index = (int64_t)weft_rng_permute(order, n % o->samples[d], o->samples[d]);
}

/* A domain with k slots in a cycle is drawn for the n-th time (from 0) in cycle n / k, at its slot number n %
 * k. */
uint64_t weft_order_limit(const weft_order *o, int64_t max_epochs) {
    const weft_segment *first = &o->segments[0];
    uint64_t limit = UINT64_MAX;
    if (max_epochs == 0) return limit;
    for (int slot = 0; slot < WEFT_ORDER_SLOTS; slot++) {
        int d = first->domain[slot];
        unsigned __int128 draws = (unsigned __int128)o->samples[d] * (uint64_t)max_epochs;
        if (first->before[slot] != (uint16_t)(draws % first->slots[d])) continue;
        unsigned __int128 at = draws / first->slots[d] * WEFT_ORDER_SLOTS + (unsigned)slot;
        if (at < limit) limit = (uint64_t)at;
    }
    return limit;
}
