#include "data/loader/loader_order.h"

#include <math.h>
#include <stdio.h>

static void divide(const weft_loader_domain *domains, int count, uint16_t *slots) {
    double rest[WEFT_LOADER_MAX_DOMAINS];
    int sum = 0;
    for (int d = 0; d < count; d++) {
        double share = domains[d].weight * WEFT_ORDER_SLOTS;
        slots[d] = (uint16_t)floor(share);
        rest[d] = share - slots[d];
        if (domains[d].weight > 0 && slots[d] == 0) slots[d] = 1, rest[d] = 0;
        sum += slots[d];
    }
    for (; sum < WEFT_ORDER_SLOTS; sum++) {
        int most = -1;
        for (int d = 0; d < count; d++)
            if (domains[d].weight > 0 && (most < 0 || rest[d] > rest[most])) most = d;
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

void weft_order_init(weft_order *o, uint64_t seed, weft_loader_domain *domains, int count) {
    divide(domains, count, o->slots);
    for (int d = 0; d < count; d++) {
        char name[128];
        domains[d].weight = (double)o->slots[d] / WEFT_ORDER_SLOTS;
        o->samples[d] = (uint64_t)domains[d].samples;
        /* By name: the order within a domain does not depend on which others there are. */
        snprintf(name, sizeof name, "data/order/%s", domains[d].name);
        o->key[d] = weft_rng_make(seed, name);
    }
    weft_rng cycle = weft_rng_make(seed, "data/cycle");
    uint32_t next = 0;
    for (int d = 0; d < count; d++)
        for (int i = 0; i < o->slots[d]; i++)
            o->domain[weft_rng_permute(cycle, next++, WEFT_ORDER_SLOTS)] = (uint8_t)d;
    uint16_t seen[WEFT_LOADER_MAX_DOMAINS] = {0};
    for (int s = 0; s < WEFT_ORDER_SLOTS; s++) o->before[s] = seen[o->domain[s]]++;
}

void weft_order_locate(const weft_order *o, uint64_t sample, int *domain, int64_t *index, int64_t *epoch) {
    uint64_t slot = sample % WEFT_ORDER_SLOTS;
    int d = o->domain[slot];
    uint64_t n = sample / WEFT_ORDER_SLOTS * o->slots[d] + o->before[slot];
    uint64_t round = n / o->samples[d];
    weft_rng order = {.key = weft_rng_u64(o->key[d], round)};
    *domain = d;
    *epoch = (int64_t)round;
    *index = (int64_t)weft_rng_permute(order, n % o->samples[d], o->samples[d]);
}
