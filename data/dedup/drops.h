/* Decisions of deduplication: which documents go, for whose sake, and which copy of several stays. */
#ifndef WEFT_DROPS_H
#define WEFT_DROPS_H

#include "data/work/spill.h"
#include "data/work/docs.h"

/* Which copy stays. Ties: the one that comes first in the input. */
typedef enum weft_keep { WEFT_KEEP_FIRST, WEFT_KEEP_LONGEST, WEFT_KEEP_BEST } weft_keep;

/* A number that orders documents by the policy, the better the smaller: its place is before the id's. LONGEST
 * counts bytes; BEST takes NaN as the worst quality. */
uint32_t weft_keep_order(weft_keep keep, const weft_docs_row *about);

/* A document of a cluster: it goes, or stays when `kept` is itself. Spills of these are partitioned by unit
 * (weft_doc_partition), and read sorted by id. */
typedef struct weft_drop {
    weft_doc_id id, kept;
    uint64_t cluster; /* the smallest id in the cluster; exact duplicates: of the copies */
    uint32_t size;    /* documents in the cluster */
    float similarity; /* to `kept`: verified Jaccard; exact duplicates, and a kept one: 1 */
} weft_drop;
enum { WEFT_DROP_BYTES = 32 };
void weft_drop_pack(const weft_drop *d, unsigned char out[WEFT_DROP_BYTES]);
void weft_drop_unpack(const unsigned char in[WEFT_DROP_BYTES], weft_drop *d);

/* Units are dealt out in ranges, so that partitions hold neighbouring documents. */
static inline int weft_unit_partition(uint64_t unit, uint64_t units, int partitions) {
    return (int)((unsigned __int128)unit * (unsigned)partitions / units);
}
static inline int weft_doc_partition(weft_doc_id id, uint64_t units, int partitions) {
    return weft_unit_partition(weft_doc_unit(id), units, partitions);
}

#endif
