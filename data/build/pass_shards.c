/* Shards: runs of buckets of one domain and split, sorted into the order of the corpus, and the manifest's
 * list of them. */
#include "data/build/build_internal.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    SHARD_DOCUMENTS,
    SHARD_TOKENS,
    SHARD_BYTES,
    SHARD_SIZE,
    SHARD_HASH_HI,
    SHARD_HASH_LO,
    SHARD_CONTENT_HI,
    SHARD_CONTENT_LO,
    SHARD_COUNTS
};

typedef struct shard_plan {
    int domain, split, number; /* number: within its domain and split */
    int first, buckets;
} shard_plan;

typedef struct sharding {
    build *b;
    shard_plan *plans;
    int count;
    weft_shard_info about;
} sharding;

/* ---- which buckets make a shard ---- */
/* A shard takes buckets until the next would make it larger than asked; one bucket at least. */
static weft_status plan_shards(sharding *s) {
    build *b = s->b;
    int64_t tokens = 0;
    s->plans = calloc((size_t)b->bucket_count + 1, sizeof *s->plans);
    if (!s->plans) WEFT_FAIL(WEFT_ENOMEM, "no memory for the list of shards");
    for (int i = 0; i < b->bucket_count; i++) {
        const build_bucket *k = &b->buckets[i];
        shard_plan *last = s->count ? &s->plans[s->count - 1] : NULL;
        if (k->tokens == 0) continue;
        bool same = last && last->domain == k->domain && last->split == k->split;
        if (!same || tokens + k->tokens > b->r->shard_tokens) {
            s->plans[s->count++] = (shard_plan){
                .domain = k->domain, .split = k->split, .first = i, .number = same ? last->number + 1 : 0};
            last = &s->plans[s->count - 1];
            tokens = 0;
        }
        last->buckets = i - last->first + 1;
        tokens += k->tokens;
    }
    return WEFT_OK;
}

static char *shard_name(const sharding *s, const shard_plan *p) {
    return weft_format("%s/%s-%05d.h5", weft_split_names[p->split], s->b->domains[p->domain], p->number);
}

/* ---- one shard ---- */
typedef struct filling {
    sharding *s;
    weft_shard_writer *writer;
    int32_t *ids;
    weft_shard_range *masked;
    size_t id_capacity, masked_capacity;
    int64_t *counts; /* [vocabulary], or NULL for held-out shards */
} filling;

static weft_status reserve(void **at, size_t *capacity, size_t count, size_t width) {
    if (count <= *capacity) return WEFT_OK;
    size_t more = 2 * *capacity + count;
    void *p = realloc(*at, more * width);
    if (!p) WEFT_FAIL(WEFT_ENOMEM, "no memory for a document of %zu tokens", count);
    *at = p;
    *capacity = more;
    return WEFT_OK;
}

/* Records are packed: their parts may lie at any address. */
static weft_status add_record(filling *f, const char *record, size_t bytes) {
    build_finished about;
    const char *at = record + FINISHED_KEY + sizeof about;
    size_t width = weft_shard_token_bytes(f->s->about.vocab_size);
    memcpy(&about, record + FINISHED_KEY, sizeof about);
    if (bytes != FINISHED_KEY + sizeof about + about.masked * 8 + about.ids * width)
        WEFT_FAIL(WEFT_EINTERNAL, "a record of %zu bytes cannot hold %u tokens", bytes, about.ids);
    WEFT_TRY(reserve((void **)&f->ids, &f->id_capacity, about.ids, sizeof *f->ids));
    WEFT_TRY(reserve((void **)&f->masked, &f->masked_capacity, about.masked, sizeof *f->masked));
    for (uint32_t i = 0; i < about.masked; i++, at += 8) {
        uint32_t pair[2];
        memcpy(pair, at, sizeof pair);
        f->masked[i] = (weft_shard_range){pair[0], pair[1]};
    }
    for (uint32_t i = 0; i < about.ids; i++, at += width) {
        uint16_t narrow;
        if (width == 2) {
            memcpy(&narrow, at, sizeof narrow);
            f->ids[i] = narrow;
        } else
            memcpy(&f->ids[i], at, sizeof f->ids[i]);
        if (f->counts) f->counts[f->ids[i]]++;
    }
    const weft_shard_origin origin = {about.file, about.place, about.id, about.cluster};
    return weft_shard_writer_add(f->writer, f->ids, about.ids, about.text_bytes, &origin, f->masked,
                                 about.masked);
}

static weft_status add_bucket(filling *f, int bucket, int64_t piece) {
    build *b = f->s->b;
    char **paths, temp[WEFT_PATH_SIZE];
    weft_spilled *in = NULL;
    const void *record;
    size_t bytes;
    WEFT_TRY(weft_work_path(&b->work, temp, "finish", piece, "sort"));
    WEFT_TRY(build_paths(b, "finish", "tokens", b->units, &paths));
    weft_status st = weft_spilled_open(&in, paths, (int)b->units, bucket, FINISHED_KEY, b->job.memory, temp);
    while (st == WEFT_OK && (st = weft_spilled_next(in, &record, &bytes)) == WEFT_OK && record)
        st = add_record(f, record, bytes);
    weft_spilled_close(in);
    build_paths_free(paths, b->units);
    return st;
}

static weft_status write_shard(filling *f, const shard_plan *p, int64_t piece, const char *path,
                               int64_t *counters) {
    weft_shard_info info = f->s->about;
    weft_hash128 hash;
    uint64_t size;
    memcpy(info.domain, f->s->b->domains[p->domain], sizeof info.domain);
    if (unlink(path) != 0 && errno != ENOENT) WEFT_FAIL(WEFT_EIO, "%s: %s", path, strerror(errno));
    WEFT_TRY(weft_shard_writer_open(&f->writer, path, &info));
    for (int i = 0; i < p->buckets; i++) WEFT_TRY(add_bucket(f, p->first + i, piece));
    WEFT_TRY(weft_shard_writer_finish(f->writer, &info));
    f->writer = NULL;
    WEFT_TRY(weft_hash_file(path, &hash, &size));
    const int64_t found[SHARD_COUNTS] = {info.documents,
                                         info.tokens,
                                         info.bytes,
                                         (int64_t)size,
                                         (int64_t)hash.hi,
                                         (int64_t)hash.lo,
                                         (int64_t)info.content.hi,
                                         (int64_t)info.content.lo};
    memcpy(counters, found, sizeof found);
    return WEFT_OK;
}

static weft_status shard_piece(void *arg, int64_t piece, int thread, int64_t *counters) {
    (void)thread;
    sharding *s = arg;
    const shard_plan *p = &s->plans[piece];
    filling f = {.s = s, .counts = p->split == WEFT_SPLIT_TRAIN ? counters + SHARD_COUNTS : NULL};
    char *name = shard_name(s, p), *path = weft_format("%s/out/%s", s->b->work.dir, name ? name : "");
    weft_status st = name && path ? write_shard(&f, p, piece, path, counters)
                                  : weft_fail(WEFT_ENOMEM, "no memory for the name of a shard");
    weft_shard_writer_abandon(f.writer);
    free(f.ids);
    free(f.masked);
    free(name);
    free(path);
    return st;
}

/* ---- the manifest's part ---- */
static weft_hash128 hash_of(const int64_t *two) {
    return (weft_hash128){.hi = (uint64_t)two[0], .lo = (uint64_t)two[1]};
}

static weft_status list_shard(const sharding *s, const shard_plan *p, const int64_t *counts) {
    weft_manifest_split *split = &s->b->manifest.domains[p->domain].split[p->split];
    weft_manifest_file *more = realloc(split->files, ((size_t)split->count + 1) * sizeof *more);
    if (!more) WEFT_FAIL(WEFT_ENOMEM, "no memory for the list of shards");
    split->files = more;
    weft_manifest_file *f = &more[split->count];
    *f = (weft_manifest_file){.name = shard_name(s, p),
                              .size = (uint64_t)counts[SHARD_SIZE],
                              .hash = hash_of(counts + SHARD_HASH_HI),
                              .documents = counts[SHARD_DOCUMENTS],
                              .tokens = counts[SHARD_TOKENS],
                              .bytes = counts[SHARD_BYTES],
                              .content = hash_of(counts + SHARD_CONTENT_HI)};
    if (!f->name) WEFT_FAIL(WEFT_ENOMEM, "no memory for the list of shards");
    split->count++;
    split->documents += f->documents;
    split->tokens += f->tokens;
    split->bytes += f->bytes;
    return WEFT_OK;
}

static double entropy(const int64_t *counts, int64_t vocab) {
    double total = 0, sum = 0;
    for (int64_t i = 0; i < vocab; i++) total += (double)counts[i];
    for (int64_t i = 0; i < vocab; i++)
        if (counts[i]) sum -= (double)counts[i] / total * log((double)counts[i] / total);
    return sum;
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const weft_manifest_domain *)a)->name, ((const weft_manifest_domain *)b)->name);
}

/* Domains without a document left are not listed. */
static weft_status list_shards(sharding *s, const int64_t *each, const int64_t *total) {
    weft_manifest *m = &s->b->manifest;
    m->domains = calloc((size_t)s->b->domain_count, sizeof *m->domains);
    if (!m->domains) WEFT_FAIL(WEFT_ENOMEM, "no memory for the list of shards");
    m->domain_count = s->b->domain_count;
    for (int d = 0; d < m->domain_count; d++)
        memcpy(m->domains[d].name, s->b->domains[d], sizeof m->domains[d].name);
    for (int i = 0; i < s->count; i++)
        WEFT_TRY(list_shard(s, &s->plans[i], each + (int64_t)i * SHARD_COUNTS));
    m->unigram_entropy = entropy(total + SHARD_COUNTS, m->vocab_size);
    int kept = 0;
    for (int d = 0; d < m->domain_count; d++)
        if (m->domains[d].split[0].count + m->domains[d].split[1].count > 0)
            m->domains[kept++] = m->domains[d];
    m->domain_count = kept;
    qsort(m->domains, (size_t)kept, sizeof *m->domains, by_name);
    return WEFT_OK;
}

weft_status build_shards(build *b) {
    sharding s = {.b = b,
                  .about = {.vocab_size = b->manifest.vocab_size,
                            .bos = b->manifest.bos,
                            .eos = b->manifest.eos,
                            .tokenizer = b->manifest.tokenizer,
                            .pipeline = b->manifest.pipeline}};
    WEFT_TRY(b->team->agree(plan_shards(&s)));
    int counters = SHARD_COUNTS + (int)b->manifest.vocab_size;
    /* The HDF5 library takes one thread at a time. */
    const weft_stage stage = {.name = "shards",
                              .pieces = s.count,
                              .counters = counters,
                              .each_count = SHARD_COUNTS,
                              .max_threads = 1,
                              .run = shard_piece};
    int64_t *total = calloc((size_t)counters, sizeof *total);
    int64_t *each = calloc((size_t)s.count * SHARD_COUNTS + 1, sizeof *each);
    weft_status st =
        b->team->agree(total && each ? WEFT_OK : weft_fail(WEFT_ENOMEM, "no memory for the counts"));
    if (st == WEFT_OK) st = weft_work_folder(&b->work, "out/train");
    if (st == WEFT_OK) st = weft_work_folder(&b->work, "out/heldout");
    if (st == WEFT_OK) st = build_stage(b, &stage, &s, total, each);
    if (st == WEFT_OK) st = b->team->agree(list_shards(&s, each, total));
    free(each);
    free(total);
    free(s.plans);
    return st;
}
