/* Which sequence a global sample number is. A pure function of seed, weights, the domains' sizes and the
 * limit of epochs: no state. Private to data/loader. */
#ifndef WEFT_LOADER_ORDER_H
#define WEFT_LOADER_ORDER_H

#include "data/loader/loader.h"
#include "runtime/rng.h"

#define WEFT_ORDER_SLOTS 4096

/* From one global sample number on, the domains take turns by this cycle. The next segment begins where a
 * domain is drawn that is used up. */
typedef struct weft_segment {
    uint64_t first;                          /* the global sample number */
    uint64_t drawn[WEFT_LOADER_MAX_DOMAINS]; /* samples of each domain before it */
    uint16_t slots[WEFT_LOADER_MAX_DOMAINS]; /* of each domain in a cycle */
    uint8_t domain[WEFT_ORDER_SLOTS];        /* of each slot of the cycle */
    uint16_t before[WEFT_ORDER_SLOTS];       /* slots of that domain before this one */
} weft_segment;

typedef struct weft_order {
    weft_segment *segments; /* [count], by first; one without a limit of epochs */
    int count;
    uint64_t total;                            /* samples; UINT64_MAX: no end */
    uint64_t samples[WEFT_LOADER_MAX_DOMAINS]; /* in one epoch */
    weft_rng key[WEFT_LOADER_MAX_DOMAINS];
} weft_order;

/* Divides each cycle among the domains by their weights (which sum to 1) with the largest remainder; a weight
 * above 0 gets at least one slot. Sets each weight to the share that its slots are at first. At least one
 * weight is above 0, and a domain without samples has weight 0. `max_epochs` 0: no limit. */
weft_status weft_order_init(weft_order *o, uint64_t seed, weft_loader_domain *domains, int count,
                            int64_t max_epochs);
void weft_order_free(weft_order *o); /* a zeroed one is allowed */

/* The first sample that a limit of so many epochs changes: one that would draw a domain that is used up.
 * UINT64_MAX: none, as with 0. */
uint64_t weft_order_limit(const weft_order *o, int64_t max_epochs);

/* `sample` must be below `total`. O(1). */
void weft_order_locate(const weft_order *o, uint64_t sample, int *domain, int64_t *index, int64_t *epoch);

#endif
