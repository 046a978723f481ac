/* What the stages of a build share. Private to data/build/. */
#ifndef WEFT_BUILD_INTERNAL_H
#define WEFT_BUILD_INTERNAL_H

#include "data/build/build.h"
#include "data/dedup/minhash.h"
#include "data/dedup/substring.h"
#include "data/shard/manifest.h"
#include "data/tokenizer/tokenizer.h"

#define WEFT_SPLIT_SEED                                                                                      \
    0x77656674u /* of the hash that decides the split: a document must not change its side */

/* Steps that documents pass, in order; the report has a line for each. Filters stand between NORMALISE and
 * EXACT. */
enum {
    STEP_NORMALISE,
    STEP_FILTERS,
    STEP_EXACT = STEP_FILTERS + WEFT_RECIPE_MAX_FILTERS,
    STEP_LINES,
    STEP_NEAR,
    STEP_SUBSTRING,
    STEP_DECONTAMINATE,
    STEP_SCRUB,
    STEPS
};

/* What a step did to a domain. Every document and byte that comes in goes on or is counted here. */
enum {
    FLOW_DROPPED,
    FLOW_DROPPED_BYTES,
    FLOW_CHANGED,
    FLOW_GAINED_BYTES,
    FLOWS
}; /* gained: out - in of changed ones */

enum { HISTOGRAM_BINS = 32 };

/* Places in the counters of clean and finish. */
enum {
    COUNT_FLOW = 0,
    COUNT_FLOW_END = STEPS * WEFT_LOADER_MAX_DOMAINS * FLOWS,
    COUNT_KEPT = COUNT_FLOW_END, /* [domain][split]: documents, bytes */
    COUNT_KEPT_END = COUNT_KEPT + WEFT_LOADER_MAX_DOMAINS * WEFT_SPLITS * 2,
    COUNT_RULES = COUNT_KEPT_END, /* clean: [filter][rule]: documents, bytes */
    COUNT_RULES_END = COUNT_RULES + WEFT_RECIPE_MAX_FILTERS * WEFT_FILTER_MAX_RULES * 2,
    COUNT_SIGNALS = COUNT_RULES_END, /* clean: [filter][rule][bin] */
    COUNT_CLEAN_END = COUNT_SIGNALS + WEFT_RECIPE_MAX_FILTERS * WEFT_FILTER_MAX_RULES * HISTOGRAM_BINS,
    COUNT_SCRUBBED = COUNT_KEPT_END, /* finish: 3 kinds */
    COUNT_MASKED = COUNT_SCRUBBED + 3,
    COUNT_CONTAMINATED, /* matches */
    COUNT_BUCKETS,      /* finish: tokens by bucket */
};
static inline int64_t *count_flow(int64_t *counters, int step, uint32_t domain) {
    return counters + COUNT_FLOW + ((int64_t)step * WEFT_LOADER_MAX_DOMAINS + domain) * FLOWS;
}
static inline int64_t *count_kept(int64_t *counters, uint32_t domain, int split) {
    return counters + COUNT_KEPT + ((int64_t)domain * WEFT_SPLITS + split) * 2;
}
static inline int64_t *count_rule(int64_t *counters, int filter, int rule) {
    return counters + COUNT_RULES + ((int64_t)filter * WEFT_FILTER_MAX_RULES + rule) * 2;
}
static inline int64_t *count_signal(int64_t *counters, int filter, int rule) {
    return counters + COUNT_SIGNALS + ((int64_t)filter * WEFT_FILTER_MAX_RULES + rule) * HISTOGRAM_BINS;
}

/* Counters of read, by file. */
enum {
    READ_UNITS,
    READ_DOCUMENTS,
    READ_BYTES,
    READ_MALFORMED,
    READ_EMPTY,
    READ_OVERSIZE,
    READ_INVALID,
    READ_REPAIRED,
    READ_OTHER,
    READ_DAMAGED,
    READ_SKIPPED_BYTES,
    READ_COUNTS
};

typedef struct build_file {
    char *path;
    const char *shown; /* the same, or what stands for a name that is not UTF-8: JSON is */
    int source;        /* of the recipe */
    int64_t first_unit, units;
    int64_t counts[READ_COUNTS];
    uint32_t domains[WEFT_LOADER_MAX_DOMAINS]; /* its own numbers -> the build's */
} build_file;

/* A range of the documents of a domain and split, in the order of the shards. */
typedef struct build_bucket {
    int domain, split;
    int64_t tokens;
} build_bucket;

typedef struct build {
    const weft_recipe *r;
    const weft_team *team;
    weft_work work;
    weft_tokenizer *tokenizer;
    char *out; /* without slashes at the end */

    build_file *files;
    int file_count;
    char (*domains)[WEFT_DOMAIN_NAME];
    int domain_count;
    int64_t units;
    int *unit_file; /* [units] */
    bool *applies;  /* [filter][domain] */
    weft_dedup_job job;
    int64_t text_bytes; /* read */
    uint64_t heldout_below;

    void *filter_state[WEFT_RECIPE_MAX_FILTERS];
    weft_minhash *minhash;
    weft_contaminants *contaminants;
    weft_scrubber *scrubber;

    int64_t *clean_each;                           /* [units][COUNT_KEPT_END - COUNT_KEPT] */
    int64_t counters[COUNT_CLEAN_END];             /* flows, rules and signals, over all stages */
    int64_t kept[COUNT_KEPT_END - COUNT_KEPT];     /* at the end of clean */
    int64_t finished[COUNT_KEPT_END - COUNT_KEPT]; /* at the end of finish: what is in the shards */
    build_bucket *buckets;                         /* ascending by domain, split */
    int bucket_count;
    int first_bucket[WEFT_LOADER_MAX_DOMAINS][WEFT_SPLITS], buckets_of[WEFT_LOADER_MAX_DOMAINS][WEFT_SPLITS];
    int64_t scrubbed[3], masked, contaminated;
    weft_exact_counts exact;
    weft_lines_counts lines;
    weft_candidate_counts candidates;
    weft_verify_counts verify;
    weft_resolve_counts resolve;
    weft_substring_counts substring;
    int component_rounds, substring_parts;
    double seconds[32]; /* by stage, in their order; 0 where it was done before */
    const char *stage_names[32];
    int stage_count;
    const char *texts; /* folder of the newest texts: read (by unit's file), clean or sign */
    weft_manifest manifest;
} build;

/* ---- running stages (build.c) ---- */
/* weft_stage_run that also notes the time. */
weft_status build_stage(build *b, const weft_stage *s, void *arg, int64_t *total, int64_t *each);
/* The same, its time added to that of a name (kept by the caller), if that was the last. */
weft_status build_stage_of(build *b, const char *name, const weft_stage *s, void *arg, int64_t *total,
                           int64_t *each);
/* Paths of one kind of file for pieces 0 to count - 1; freed by build_paths_free. */
weft_status build_paths(const build *b, const char *folder, const char *ending, int64_t count, char ***out);
void build_paths_free(char **paths, int64_t count);
/* Path of a unit's documents in the newest texts; for weft_docs_pool. */
weft_status build_text_path(void *b, uint64_t unit, char path[WEFT_PATH_SIZE]);
/* Removes the texts, or the files of an ending, in a folder that no later stage reads; not if work is kept.
 */
weft_status build_discard(build *b, const char *folder, const char *ending);
static inline int build_split_of(const build *b, uint64_t hash) {
    return hash < b->heldout_below ? WEFT_SPLIT_HELDOUT : WEFT_SPLIT_TRAIN;
}

/* A document as finish leaves it for the shards: a record of its spill, behind 16 bytes of key (place in the
 * order, id). Then `masked` pairs of u32 (first token, count), then its ids. */
typedef struct build_finished {
    uint64_t place, id, cluster; /* cluster plus 1, or 0 */
    uint32_t file, text_bytes, masked, ids;
} build_finished;
enum { FINISHED_KEY = 16 };

/* What is kept of a decision: a record of fixed size, sorted by cluster, step, id. */
typedef struct build_evidence_row {
    uint64_t cluster, id, kept, place;
    uint32_t step, size, file;
    float similarity;
} build_evidence_row;
enum { EVIDENCE_BYTES = 48, EVIDENCE_PARTS = 16 };
void build_pack_evidence(const build_evidence_row *r, unsigned char out[EVIDENCE_BYTES]);
void build_unpack_evidence(const unsigned char in[EVIDENCE_BYTES], build_evidence_row *r);
weft_status build_note_evidence(weft_spill *s, int step, const weft_drop *d, const weft_docs_row *row);

/* A document's text on its way through the steps. Both count in `counters`: the step takes the document out,
 * and *p is empty; or `to` takes the text's place (counted as a change if it is another text). */
typedef struct build_passage {
    const char *text;
    size_t bytes;
} build_passage;
void build_drop(int64_t *counters, int step, uint32_t domain, build_passage *p);
void build_change(int64_t *counters, int step, uint32_t domain, build_passage *p, const weft_text *to);

/* ---- the stages, in order ---- */
weft_status
build_find_files(build *b); /* before the work directory is opened: the list is part of its identity */
weft_status build_open_tools(build *b); /* also before: what they are made of may be mistyped */
weft_status build_read(build *b);
weft_status build_clean(build *b);
weft_status build_exact(build *b);
weft_status build_sign(build *b);
weft_status build_near(build *b);
weft_status build_substring(build *b);
weft_status build_finish(build *b);
weft_status build_shards(build *b);
weft_status build_evidence(build *b);
weft_status build_publish(build *b);

/* ---- reports ---- */
/* Every document and byte that was read is in the shards or counted as dropped: WEFT_EINTERNAL otherwise. */
weft_status build_check_flows(const build *b);
/* report.html and report.json in the directory. Rank 0. */
weft_status build_report(const build *b, const char *dir);

#endif
