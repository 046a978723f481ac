/* Near duplicates, in pieces of work: candidates -> verify -> components -> resolve.
 *
 * A document goes only if the exact Jaccard similarity of its shingles and the kept document's is at least
 * the threshold: candidates that LSH finds are verified, and a cluster (a connected component of verified
 * pairs) is not dropped as a whole, which would chain dissimilar documents together. In each cluster, in the
 * policy's order, a document that no kept one is similar to stays, and all that have a verified pair with it
 * go. Every output depends on the inputs only. */
#ifndef WEFT_NEAR_H
#define WEFT_NEAR_H

#include "data/dedup/exact.h"
#include "data/text/shingles.h"

/* Record of the spill that signing a document adds `bands` of: band key (partition by it), order of the
 * policy, id. */
enum { WEFT_BAND_BYTES = 20 };
void weft_band_pack(uint64_t key, uint32_t order, weft_doc_id id, unsigned char out[WEFT_BAND_BYTES]);

/* A group of documents that share a band key gives all its pairs up to WEFT_GROUP_FULL members; in a larger
 * one each is paired with the first WEFT_GROUP_STARS in the policy's order and with as many before it. Pairs
 * (smaller id, larger id) go to the partition of the smaller one's unit. Memory does not grow with a group.
 */
enum { WEFT_GROUP_FULL = 32, WEFT_GROUP_STARS = 8 };
typedef struct weft_candidate_counts {
    int64_t keys, groups, pairs, largest; /* groups: of two or more; largest: members of the largest */
} weft_candidate_counts;
weft_status weft_near_candidates(const weft_dedup_job *job, int partition, char *const *bands, int files,
                                 const char *out, weft_candidate_counts *counts);

enum { WEFT_SIMILARITY_BINS = 20 };
typedef struct weft_verify_counts {
    int64_t pairs;                            /* distinct candidates */
    int64_t verified;                         /* of them at or above the threshold */
    int64_t similarity[WEFT_SIMILARITY_BINS]; /* candidates by Jaccard, bins of 0.05; 1 is in the last */
} weft_verify_counts;
typedef struct weft_verify_options {
    int shingle_words;
    double threshold;
    weft_keep keep;
} weft_verify_options;
/* Reads the texts and takes the exact Jaccard of each distinct pair. `stores` opens the units of the stage
 * that was signed. Half of job->memory holds shingles of smaller ids while the larger ids that they are
 * paired with are read, in ascending order: the fewer documents are read twice, the more there is. Edges,
 * both ways round, go to the partition of the hash of the first id. */
weft_status weft_near_verify(const weft_dedup_job *job, int partition, const weft_verify_options *o,
                             char *const *pairs, int files, weft_docs_pool *stores, const char *out,
                             weft_verify_counts *counts);

/* Components by alternating large-star and small-star (Kiveris et al. 2014, "Connected components in
 * MapReduce and beyond"), on spills of (node, neighbour). Round 0 reads the edges of weft_near_verify, the
 * others the output of the one before; even rounds are large stars, odd ones small stars. *changed: whether
 * this partition's records changed; when two rounds in a row (one of either kind) change none on any
 * partition, every component is a star about its smallest id, and the last round's output is to be given to
 * weft_near_label. Rounds end: one that changes anything makes the sum of all edges' ends smaller. Memory
 * does not grow with a node's neighbours. */
weft_status weft_components_round(const weft_dedup_job *job, int round, int partition, char *const *in,
                                  int files, const char *out, bool *changed);
/* Joins edges and components of a partition: edges with their component, to the partition of its hash. */
weft_status weft_near_label(const weft_dedup_job *job, int partition, char *const *edges, int edge_files,
                            char *const *components, int component_files, const char *out);

typedef struct weft_resolve_counts {
    int64_t clusters, documents, dropped, largest;
    int64_t sizes[32]; /* clusters by size: bin floor(log2(size)) */
} weft_resolve_counts;
/* Decides each component of a partition. Its edges pass by in the policy's order; what is held are the
 * documents of one component, 32 bytes each: more than half of job->memory is WEFT_ENOMEM that says so.
 * A record for each document, partitioned by unit, to `out`. */
weft_status weft_near_resolve(const weft_dedup_job *job, int partition, char *const *labelled, int files,
                              const char *out, weft_resolve_counts *counts);

#endif
