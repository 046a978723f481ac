/* Which sequence a global sample number is. A pure function of seed, weights and the domains' sizes: no
 * state. Private to data/loader*.c. */
#ifndef WEFT_LOADER_ORDER_H
#define WEFT_LOADER_ORDER_H

#include "data/loader/loader.h"
#include "runtime/rng.h"

#define WEFT_ORDER_SLOTS 4096

typedef struct weft_order {
    uint8_t domain[WEFT_ORDER_SLOTS];          /* of each slot of the cycle */
    uint16_t before[WEFT_ORDER_SLOTS];         /* slots of that domain before this one */
    uint16_t slots[WEFT_LOADER_MAX_DOMAINS];   /* of each domain in a cycle */
    uint64_t samples[WEFT_LOADER_MAX_DOMAINS]; /* in one epoch */
    weft_rng key[WEFT_LOADER_MAX_DOMAINS];
} weft_order;

/* Divides the cycle among the domains by their weights (which sum to 1) with the largest remainder; a weight
 * above 0 gets at least one slot. Sets each weight to the share that its slots are. At least one weight is
 * above 0, and a domain without samples has weight 0. */
void weft_order_init(weft_order *o, uint64_t seed, weft_loader_domain *domains, int count);

/* O(1). */
void weft_order_locate(const weft_order *o, uint64_t sample, int *domain, int64_t *index, int64_t *epoch);

#endif
