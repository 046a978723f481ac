#include "data/build/build_split.h"
#include "data/build/build.h"
#include "runtime/fs.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

weft_status weft_splitter_domain(weft_splitter *s, const char *name, const char *where, int *out) {
    weft_manifest *m = s->manifest;
    for (int d = 0; d < m->domain_count; d++)
        if (strcmp(m->domains[d].name, name) == 0) {
            *out = d;
            return WEFT_OK;
        }
    if (m->domain_count == WEFT_LOADER_MAX_DOMAINS)
        WEFT_FAIL(WEFT_EINPUT, "%s: '%s' would be domain number %d; at most %d are possible", where, name,
                  m->domain_count + 1, WEFT_LOADER_MAX_DOMAINS);
    weft_manifest_domain *domains = realloc(m->domains, ((size_t)m->domain_count + 1) * sizeof *domains);
    if (!domains) WEFT_FAIL(WEFT_ENOMEM, "no memory for domain '%s'", name);
    m->domains = domains;
    domains[m->domain_count] = (weft_manifest_domain){0};
    memcpy(domains[m->domain_count].name, name, strlen(name) + 1);
    *out = m->domain_count++;
    return WEFT_OK;
}

static weft_status open_shard(weft_splitter *s, int domain, int split) {
    weft_manifest_domain *d = &s->manifest->domains[domain];
    weft_manifest_split *files = &d->split[split];
    weft_manifest_file *more = realloc(files->files, ((size_t)files->count + 1) * sizeof *more);
    if (!more) WEFT_FAIL(WEFT_ENOMEM, "%s: no memory for another shard", d->name);
    files->files = more;
    char *name = weft_format("%s/%s-%05d.h5", weft_split_names[split], d->name, files->count);
    char *path = weft_format("%s/%s", s->dir, name ? name : "");
    weft_status st =
        name && path ? WEFT_OK : weft_fail(WEFT_ENOMEM, "%s: no memory for another shard", d->name);
    memcpy(s->about.domain, d->name, sizeof d->name);
    if (st == WEFT_OK) st = weft_shard_writer_open(&s->open[domain][split], path, &s->about);
    free(path);
    if (st != WEFT_OK) {
        free(name);
        return st;
    }
    files->files[files->count++] = (weft_manifest_file){.name = name};
    return WEFT_OK;
}

static weft_status close_shard(weft_splitter *s, int domain, int split) {
    weft_shard_info info;
    weft_manifest_split *files = &s->manifest->domains[domain].split[split];
    weft_manifest_file *f = &files->files[files->count - 1];
    WEFT_TRY(weft_shard_writer_finish(s->open[domain][split], &info));
    s->open[domain][split] = NULL;
    char *path = weft_format("%s/%s", s->dir, f->name);
    if (!path) WEFT_FAIL(WEFT_ENOMEM, "%s: no memory to hash it", f->name);
    weft_status st = weft_hash_file(path, &f->hash, &f->size);
    free(path);
    WEFT_TRY(st);
    f->documents = info.documents;
    f->tokens = info.tokens;
    f->bytes = info.bytes;
    f->content = info.content;
    files->documents += info.documents;
    files->tokens += info.tokens;
    files->bytes += info.bytes;
    return WEFT_OK;
}

weft_status weft_splitter_add(weft_splitter *s, int domain, int split, const int32_t *ids, size_t count,
                              size_t text_bytes) {
    if (!s->open[domain][split]) WEFT_TRY(open_shard(s, domain, split));
    weft_shard_writer *w = s->open[domain][split];
    WEFT_TRY(weft_shard_writer_add(w, ids, count, text_bytes));
    if (split == WEFT_SPLIT_TRAIN)
        for (size_t i = 0; i < count; i++) s->counts[ids[i]]++;
    if (weft_shard_writer_tokens(w) >= s->shard_tokens ||
        weft_shard_writer_documents(w) >= WEFT_BUILD_SHARD_DOCUMENTS)
        return close_shard(s, domain, split);
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

weft_status weft_splitter_finish(weft_splitter *s) {
    weft_manifest *m = s->manifest;
    for (int d = 0; d < m->domain_count; d++)
        for (int split = 0; split < WEFT_SPLITS; split++)
            if (s->open[d][split]) WEFT_TRY(close_shard(s, d, split));
    m->unigram_entropy = entropy(s->counts, m->vocab_size);
    qsort(m->domains, (size_t)m->domain_count, sizeof *m->domains, by_name);
    return WEFT_OK;
}

void weft_splitter_abandon(weft_splitter *s) {
    for (int d = 0; d < WEFT_LOADER_MAX_DOMAINS; d++)
        for (int split = 0; split < WEFT_SPLITS; split++) weft_shard_writer_abandon(s->open[d][split]);
}
