#include "data/shard/verify.h"
#include "data/shard/manifest.h"
#include "runtime/fs.h"

#include <stdlib.h>
#include <string.h>

static bool same(weft_hash128 a, weft_hash128 b) {
    return a.hi == b.hi && a.lo == b.lo;
}

static weft_status check_hash(const char *path, weft_hash128 want, uint64_t *size) {
    weft_hash128 found;
    WEFT_TRY(weft_hash_file(path, &found, size));
    if (!same(found, want))
        WEFT_FAIL(WEFT_EINPUT, "%s: damaged: its hash is not the one in the manifest", path);
    return WEFT_OK;
}

typedef struct walk {
    const char *path;
    const weft_shard_info *info;
    const uint64_t *ends;
    int64_t document, at; /* the next token's */
    int64_t start;        /* of its document */
} walk;

static weft_status check_tokens(walk *w, const void *chunk, int64_t count) {
    const weft_shard_info *info = w->info;
    bool narrow = weft_shard_token_bytes(info->vocab_size) == 2;
    for (int64_t i = 0; i < count; i++, w->at++) {
        uint32_t id = narrow ? ((const uint16_t *)chunk)[i] : ((const uint32_t *)chunk)[i];
        bool first = w->at == w->start;
        bool last = w->document < info->documents && (uint64_t)w->at + 1 == w->ends[w->document];
        bool right = w->document < info->documents && id < (uint64_t)info->vocab_size &&
                     (id == (uint32_t)info->bos) == first && (id == (uint32_t)info->eos) == last;
        if (!right)
            WEFT_FAIL(WEFT_EINPUT, "%s: token %lld is %u, which cannot stand there", w->path,
                      (long long)w->at, id);
        if (last) {
            w->document++;
            w->start = w->at + 1;
        }
    }
    return WEFT_OK;
}

/* Decodes all chunks; hashes[i]: of chunk i's tokens. */
static weft_status check_chunks(const char *path, const weft_shard *s, const uint64_t *ends,
                                uint64_t *hashes) {
    const weft_shard_info *info = weft_shard_about(s);
    size_t chunk_bytes = weft_shard_chunk_bytes(info->vocab_size);
    weft_shard_decoder *d = NULL;
    walk w = {.path = path, .info = info, .ends = ends};
    void *chunk = malloc(chunk_bytes);
    weft_status st = chunk ? weft_shard_decoder_new(&d, info->vocab_size)
                           : weft_fail(WEFT_ENOMEM, "%s: no memory to verify it", path);
    for (int64_t i = 0; st == WEFT_OK && i < info->chunks; i++) {
        int64_t left = info->tokens - w.at;
        st = weft_shard_read_chunk(s, i, d, chunk);
        if (st != WEFT_OK) break;
        hashes[i] = weft_hash64(chunk, chunk_bytes, 0);
        st = check_tokens(&w, chunk, left < WEFT_SHARD_CHUNK_TOKENS ? left : WEFT_SHARD_CHUNK_TOKENS);
    }
    if (st == WEFT_OK && w.document != info->documents)
        st = weft_fail(WEFT_EINPUT, "%s: it ends inside document %lld", path, (long long)w.document);
    weft_shard_decoder_free(d);
    free(chunk);
    return st;
}

/* Ranges ascend and so do documents: both are walked once. */
static weft_status check_masked(const char *path, const uint64_t *ends, int64_t documents,
                                const weft_shard_range *masked, size_t count) {
    int64_t d = 0;
    for (size_t i = 0; i < count; i++) {
        while (d < documents && ends[d] <= masked[i].first) d++;
        uint64_t first = d > 0 ? ends[d - 1] : 0;
        bool inside = d < documents && masked[i].first > first && masked[i].count < ends[d] - masked[i].first;
        if (!inside)
            WEFT_FAIL(WEFT_EINPUT, "%s: masked range %zu (%llu tokens from %llu) is not inside a document",
                      path, i, (unsigned long long)masked[i].count, (unsigned long long)masked[i].first);
    }
    return WEFT_OK;
}

static weft_status check_origins(const char *path, const weft_shard *s, int sources) {
    weft_shard_origin *origins;
    weft_status st = WEFT_OK;
    WEFT_TRY(weft_shard_read_origins(s, &origins));
    for (int64_t i = 0; st == WEFT_OK && i < weft_shard_about(s)->documents; i++)
        if (origins[i].file >= (uint64_t)sources)
            st = weft_fail(WEFT_EINPUT, "%s: document %lld comes from file %llu, but the manifest lists %d",
                           path, (long long)i, (unsigned long long)origins[i].file, sources);
    free(origins);
    return st;
}

typedef struct parts {
    uint64_t *ends;
    uint32_t *sizes;
    weft_shard_range *masked;
    size_t masked_count;
    char *hashed; /* what the content hash is of: hashes of chunks, ends, masked ranges */
} parts;

/* The content hash as data/shard/shard.h defines it. */
static weft_status check_parts(const char *path, const weft_shard *s, parts *p) {
    const weft_shard_info *info = weft_shard_about(s);
    WEFT_TRY(weft_shard_read_documents(s, &p->ends, &p->sizes));
    WEFT_TRY(weft_shard_read_masked(s, &p->masked, &p->masked_count));
    size_t chunks = (size_t)info->chunks * sizeof(uint64_t), ends = (size_t)info->documents * sizeof *p->ends,
           masked = p->masked_count * sizeof *p->masked;
    p->hashed = malloc(chunks + ends + masked);
    if (!p->hashed) WEFT_FAIL(WEFT_ENOMEM, "%s: no memory to verify it", path);
    WEFT_TRY(check_chunks(path, s, p->ends, (uint64_t *)p->hashed));
    WEFT_TRY(check_masked(path, p->ends, info->documents, p->masked, p->masked_count));
    int64_t bytes = 0;
    for (int64_t i = 0; i < info->documents; i++) bytes += p->sizes[i];
    memcpy(p->hashed + chunks, p->ends, ends);
    if (masked > 0) memcpy(p->hashed + chunks + ends, p->masked, masked);
    if (bytes != info->bytes || !same(weft_hash128_of(p->hashed, chunks + ends + masked), info->content))
        WEFT_FAIL(WEFT_EINPUT, "%s: its documents are not those that its header describes", path);
    return WEFT_OK;
}

static weft_status check_content(const char *path, const weft_shard *s) {
    parts p = {0};
    weft_status st = check_parts(path, s, &p);
    free(p.ends);
    free(p.sizes);
    free(p.masked);
    free(p.hashed);
    return st;
}

static weft_status check_shard(const weft_manifest *m, const char *dir, const weft_manifest_domain *d,
                               const weft_manifest_file *f, weft_verified_file *out) {
    weft_shard *s = NULL;
    char *path = weft_format("%s/%s", dir, f->name);
    if (!path) WEFT_FAIL(WEFT_ENOMEM, "%s: no memory to verify it", dir);
    weft_status st = weft_manifest_open_shard(m, dir, d, f, &s);
    if (st == WEFT_OK) st = check_hash(path, f->hash, &out->size);
    if (st == WEFT_OK) st = check_content(path, s);
    if (st == WEFT_OK) st = check_origins(path, s, m->source_count);
    weft_shard_close(s);
    free(path);
    return st;
}

static weft_status check_tokenizer(const weft_manifest *m, const char *dir, weft_verified_file *out) {
    char *path = weft_format("%s/tokenizer/tokenizer.model", dir);
    if (!path) WEFT_FAIL(WEFT_ENOMEM, "%s: no memory to verify it", dir);
    weft_status st = check_hash(path, m->tokenizer, &out->size);
    free(path);
    return st;
}

/* The next entry of the report; NULL when there is no memory for its name. */
static weft_verified_file *next_entry(weft_verification *v, const char *name) {
    weft_verified_file *f = &v->files[v->count];
    *f = (weft_verified_file){.name = weft_format("%s", name)};
    if (!f->name) return NULL;
    v->count++;
    return f;
}

static void note(weft_verification *v, weft_verified_file *f, weft_status status, weft_status *first) {
    f->status = status;
    v->damaged += status != WEFT_OK;
    if (*first == WEFT_OK) *first = status;
}

static weft_status verify_all(const weft_manifest *m, const char *dir, weft_verification *v) {
    weft_status first = WEFT_OK;
    weft_hash128 content;
    WEFT_TRY(weft_manifest_content(m, &content));
    if (!same(content, m->content))
        first = weft_fail(WEFT_EINPUT,
                          "%s/manifest.json: damaged: its content digest is not that of its shards", dir);
    weft_verified_file *f = next_entry(v, "tokenizer/tokenizer.model");
    if (f) note(v, f, check_tokenizer(m, dir, f), &first);
    for (int d = 0; f && d < m->domain_count; d++)
        for (int s = 0; f && s < WEFT_SPLITS; s++) {
            const weft_manifest_split *split = &m->domains[d].split[s];
            for (int i = 0; i < split->count; i++) {
                f = next_entry(v, split->files[i].name);
                if (!f) break;
                note(v, f, check_shard(m, dir, &m->domains[d], &split->files[i], f), &first);
            }
        }
    if (!f) WEFT_FAIL(WEFT_ENOMEM, "%s: no memory to verify it", dir);
    return first;
}

weft_status weft_data_verify(const char *dir, weft_verification *out) {
    weft_manifest m = {0};
    size_t files = 1;
    *out = (weft_verification){0};
    WEFT_TRY(weft_manifest_read(&m, dir));
    for (int d = 0; d < m.domain_count; d++)
        for (int s = 0; s < WEFT_SPLITS; s++) files += (size_t)m.domains[d].split[s].count;
    out->files = calloc(files, sizeof *out->files);
    weft_status st =
        out->files ? verify_all(&m, dir, out) : weft_fail(WEFT_ENOMEM, "%s: no memory to verify it", dir);
    weft_manifest_free(&m);
    return st;
}

void weft_verification_free(weft_verification *v) {
    for (int i = 0; i < v->count; i++) free(v->files[i].name);
    free(v->files);
    *v = (weft_verification){0};
}
