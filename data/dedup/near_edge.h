/* Verified pairs between the pieces of work of near deduplication. Private to data/dedup. */
#ifndef WEFT_NEAR_EDGE_H
#define WEFT_NEAR_EDGE_H

#include "data/dedup/near.h"

#include <string.h>

/* A candidate: two ids, the smaller first. A step of the components: node, neighbour. Both sort by the first.
 */
enum { WEFT_PAIR_BYTES = 16 };
static inline void weft_pair_pack(weft_doc_id a, weft_doc_id b, unsigned char out[WEFT_PAIR_BYTES]) {
    weft_put_u64(out, a);
    weft_put_u64(out + 8, b);
}

typedef struct weft_edge {
    weft_doc_id u, v;
    uint32_t order_u, order_v; /* of the policy */
    float similarity;
} weft_edge;

static inline uint32_t weft_edge_bits(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}
static inline float weft_edge_float(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* Begins as a pair does. */
enum { WEFT_EDGE_BYTES = 28 };
static inline void weft_edge_pack(const weft_edge *e, unsigned char out[WEFT_EDGE_BYTES]) {
    weft_pair_pack(e->u, e->v, out);
    weft_put_u32(out + 16, e->order_u);
    weft_put_u32(out + 20, e->order_v);
    weft_put_u32(out + 24, weft_edge_bits(e->similarity));
}
static inline void weft_edge_unpack(const unsigned char in[WEFT_EDGE_BYTES], weft_edge *e) {
    *e = (weft_edge){weft_get_u64(in), weft_get_u64(in + 8), weft_get_u32(in + 16), weft_get_u32(in + 20),
                     weft_edge_float(weft_get_u32(in + 24))};
}

/* With its component, u before v in the policy's order: sorts by component, then by u's place in that order.
 */
enum { WEFT_LABELLED_BYTES = 36 };
static inline void weft_labelled_pack(weft_doc_id component, const weft_edge *e,
                                      unsigned char out[WEFT_LABELLED_BYTES]) {
    weft_put_u64(out, component);
    weft_put_u32(out + 8, e->order_u);
    weft_put_u64(out + 12, e->u);
    weft_put_u32(out + 20, e->order_v);
    weft_put_u64(out + 24, e->v);
    weft_put_u32(out + 32, weft_edge_bits(e->similarity));
}
static inline void weft_labelled_unpack(const unsigned char in[WEFT_LABELLED_BYTES], weft_doc_id *component,
                                        weft_edge *e) {
    *component = weft_get_u64(in);
    *e = (weft_edge){weft_get_u64(in + 12), weft_get_u64(in + 24), weft_get_u32(in + 8),
                     weft_get_u32(in + 20), weft_edge_float(weft_get_u32(in + 32))};
}

/* Documents are nodes here; neighbouring ids must not meet in one partition. */
static inline int weft_node_partition(weft_doc_id id, int partitions) {
    unsigned char key[8];
    weft_put_u64(key, id);
    return weft_spill_partition(weft_hash64(key, sizeof key, 0), partitions);
}

#endif
