#include "data/dedup/near_edge.h"
#include "data/dedup/pass.h"

void weft_band_pack(uint64_t key, uint32_t order, weft_doc_id id, unsigned char out[WEFT_BAND_BYTES]) {
    weft_put_u64(out, key);
    weft_put_u32(out + 8, order);
    weft_put_u64(out + 12, id);
}

/* Documents of one band key, which arrive in the policy's order. */
typedef struct group {
    uint64_t key;
    int64_t members;
    weft_doc_id first[WEFT_GROUP_FULL];
    weft_doc_id latest[WEFT_GROUP_STARS]; /* member i at i % WEFT_GROUP_STARS; once there are more than
                                             `first` holds */
} group;

typedef struct candidates {
    weft_pass pass;
    const weft_dedup_job *job;
    weft_candidate_counts counts;
    group group;
} candidates;

static weft_status add_pair(candidates *c, weft_doc_id a, weft_doc_id b) {
    if (a == b) return WEFT_OK; /* two bands of one document whose hashes collide */
    weft_doc_id u = a < b ? a : b;
    unsigned char packed[WEFT_PAIR_BYTES];
    weft_pair_pack(u, a < b ? b : a, packed);
    c->counts.pairs++;
    return weft_spill_add(c->pass.out, weft_doc_partition(u, c->job->units, c->job->partitions), packed,
                          sizeof packed);
}

static weft_status pair_with_stars(candidates *c, int64_t member, weft_doc_id id) {
    group *g = &c->group;
    for (int64_t i = 0; i < WEFT_GROUP_STARS && i < member; i++) WEFT_TRY(add_pair(c, g->first[i], id));
    int64_t before = member - WEFT_GROUP_STARS;
    for (int64_t i = before > WEFT_GROUP_STARS ? before : WEFT_GROUP_STARS; i < member; i++)
        WEFT_TRY(add_pair(c, g->latest[i % WEFT_GROUP_STARS], id));
    g->latest[member % WEFT_GROUP_STARS] = id;
    return WEFT_OK;
}

static weft_status add_member(candidates *c, weft_doc_id id) {
    group *g = &c->group;
    int64_t member = g->members++;
    if (member < WEFT_GROUP_FULL) {
        g->first[member] = id;
        return WEFT_OK;
    }
    if (member == WEFT_GROUP_FULL) /* too many for all pairs: those held go the same way */
        for (int64_t i = 0; i < WEFT_GROUP_FULL; i++) WEFT_TRY(pair_with_stars(c, i, g->first[i]));
    return pair_with_stars(c, member, id);
}

static weft_status end_group(candidates *c) {
    group *g = &c->group;
    if (g->members <= WEFT_GROUP_FULL)
        for (int64_t i = 1; i < g->members; i++)
            for (int64_t j = 0; j < i; j++) WEFT_TRY(add_pair(c, g->first[j], g->first[i]));
    c->counts.keys += g->members > 0;
    c->counts.groups += g->members > 1;
    if (g->members > c->counts.largest) c->counts.largest = g->members;
    g->members = 0;
    return WEFT_OK;
}

static weft_status read_groups(candidates *c) {
    for (;;) {
        const unsigned char *record;
        WEFT_TRY(weft_pass_next(c->pass.in, WEFT_BAND_BYTES, &record));
        if (!record) return end_group(c);
        uint64_t key = weft_get_u64(record);
        if (key != c->group.key) {
            WEFT_TRY(end_group(c));
            c->group.key = key;
        }
        WEFT_TRY(add_member(c, weft_get_u64(record + 12)));
    }
}

weft_status weft_near_candidates(const weft_dedup_job *job, int partition, char *const *bands, int files,
                                 const char *out, weft_candidate_counts *counts) {
    candidates c = {.job = job};
    WEFT_TRY(weft_pass_open(&c.pass, job, partition, bands, files, WEFT_BAND_BYTES, out, WEFT_PAIR_BYTES));
    WEFT_TRY(weft_pass_close(&c.pass, read_groups(&c)));
    *counts = c.counts;
    return WEFT_OK;
}
