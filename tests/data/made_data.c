#include "made_data.h"
#include "runtime/fs.h"
#include "runtime/rng.h"
#include "support/suite.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static char *g_dirs[64];
static int g_dir_count;

static void remove_dirs(void) {
    for (int i = 0; i < g_dir_count; i++) {
        weft_fs_remove_tree(g_dirs[i]);
        free(g_dirs[i]);
    }
}

const char *made_dir(void) {
    const char *tmp = getenv("TMPDIR");
    char *path = weft_format("%s/weft-test.XXXXXX", tmp ? tmp : "/tmp");
    ck_assert_ptr_nonnull(mkdtemp(path));
    ck_assert_int_lt(g_dir_count, 64);
    if (g_dir_count == 0) atexit(remove_dirs);
    g_dirs[g_dir_count++] = path;
    return path;
}

int made_documents(const made_domain *d, int split) {
    return split == WEFT_SPLIT_TRAIN ? d->documents : (d->documents + 3) / 4;
}

int32_t *made_document(int64_t vocab, const made_domain *d, int split, int doc, size_t *count) {
    weft_rng r = weft_rng_make((uint64_t)doc, d->name);
    uint64_t at = (uint64_t)split << 32;
    *count = (size_t)weft_rng_below(r, at++, (uint64_t)d->longest + 1);
    int32_t *ids = malloc((*count + 1) * sizeof *ids);
    for (size_t i = 0; i < *count; i++) ids[i] = 3 + (int32_t)weft_rng_below(r, at++, (uint64_t)vocab - 3);
    return ids;
}

size_t made_masked(const made_domain *d, int doc, size_t ids, weft_shard_range out[MADE_MASKED]) {
    if (!d->masked || doc % 3 == 0 || ids < 8) return 0;
    out[0] = (weft_shard_range){.first = doc % 2 ? 0 : 2, .count = ids / 3};
    out[1] = (weft_shard_range){.first = ids - 3, .count = doc % 2 ? 3 : 1};
    return doc % 3;
}

weft_shard_origin made_origin(int domain, int split, int doc) {
    return (weft_shard_origin){.file = (uint64_t)(domain + doc) % MADE_SOURCES,
                               .place = (uint64_t)doc + 1,
                               .id = (uint64_t)domain << 40 | (uint64_t)split << 32 | (uint64_t)doc,
                               .cluster = (uint64_t)doc % 7};
}

char *made_stream_masks(int64_t vocab, const made_domain *d, int split) {
    int docs = made_documents(d, split);
    char *all = calloc((size_t)docs * ((size_t)d->longest + 2), 1), *at = all;
    for (int i = 0; i < docs; i++) {
        size_t n;
        weft_shard_range masked[MADE_MASKED];
        free(made_document(vocab, d, split, i, &n));
        size_t ranges = made_masked(d, i, n, masked);
        for (size_t r = 0; r < ranges; r++) memset(at + 1 + masked[r].first, 1, masked[r].count);
        at += n + 2;
    }
    return all;
}

int32_t *made_stream(int64_t vocab, const made_domain *d, int split, int64_t *count) {
    int64_t n = 0;
    int docs = made_documents(d, split);
    int32_t *all = malloc((size_t)docs * ((size_t)d->longest + 2) * sizeof *all);
    for (int i = 0; i < docs; i++) {
        size_t k;
        int32_t *ids = made_document(vocab, d, split, i, &k);
        all[n++] = 1;
        memcpy(all + n, ids, k * sizeof *ids);
        n += (int64_t)k;
        all[n++] = 2;
        free(ids);
    }
    *count = n;
    return all;
}

static void write_split(const char *dir, int64_t vocab, const made_domain *d, int domain, int split,
                        weft_hash128 tokenizer, weft_manifest_split *out) {
    int docs = made_documents(d, split), shards = (docs + d->per_shard - 1) / d->per_shard;
    weft_shard_info about = {
        .vocab_size = vocab, .bos = 1, .eos = 2, .tokenizer = tokenizer, .pipeline = {7, 7}};
    snprintf(about.domain, sizeof about.domain, "%s", d->name);
    *out = (weft_manifest_split){.files = calloc((size_t)shards, sizeof *out->files), .count = shards};
    for (int s = 0; s < shards; s++) {
        weft_shard_writer *w;
        weft_shard_info info;
        weft_manifest_file *f = &out->files[s];
        f->name = weft_format("%s/%s-%05d.h5", weft_split_names[split], d->name, s);
        char *path = weft_format("%s/%s", dir, f->name);
        ck_assert_int_eq(weft_shard_writer_open(&w, path, &about), WEFT_OK);
        for (int i = s * d->per_shard; i < docs && i < (s + 1) * d->per_shard; i++) {
            size_t n;
            int32_t *ids = made_document(vocab, d, split, i, &n);
            weft_shard_origin origin = made_origin(domain, split, i);
            weft_shard_range masked[MADE_MASKED];
            size_t ranges = made_masked(d, i, n, masked);
            ck_assert_int_eq(weft_shard_writer_add(w, ids, n, 3 * n, &origin, masked, ranges), WEFT_OK);
            free(ids);
        }
        ck_assert_int_eq(weft_shard_writer_finish(w, &info), WEFT_OK);
        ck_assert_int_eq(weft_hash_file(path, &f->hash, &f->size), WEFT_OK);
        f->documents = info.documents, f->tokens = info.tokens, f->bytes = info.bytes,
        f->content = info.content;
        out->documents += f->documents, out->tokens += f->tokens, out->bytes += f->bytes;
        free(path);
    }
}

void made_write(const char *dir, int64_t vocab, const made_domain *domains, int count) {
    static const char model[] = "stands for a tokenizer.model";
    static const char *const parts[] = {"tokenizer", "train", "heldout"};
    char path[4096];
    weft_manifest m = {.vocab_size = vocab,
                       .bos = 1,
                       .eos = 2,
                       .heldout = 0.2,
                       .tokenizer = weft_hash128_of(model, sizeof model)};
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, parts[i]);
        ck_assert_int_eq(weft_fs_mkdir(path), WEFT_OK);
    }
    snprintf(path, sizeof path, "%s/tokenizer/tokenizer.model", dir);
    ck_assert_int_eq(weft_fs_create_file(path, model, sizeof model), WEFT_OK);
    m.sources = calloc(MADE_SOURCES, sizeof *m.sources);
    m.source_count = MADE_SOURCES;
    for (int i = 0; i < MADE_SOURCES; i++) m.sources[i].file = weft_format("corpus/%d.jsonl", i);
    m.domains = calloc((size_t)count, sizeof *m.domains);
    m.domain_count = count;
    for (int d = 0; d < count; d++) {
        snprintf(m.domains[d].name, sizeof m.domains[d].name, "%s", domains[d].name);
        for (int s = 0; s < WEFT_SPLITS; s++)
            write_split(dir, vocab, &domains[d], d, s, m.tokenizer, &m.domains[d].split[s]);
    }
    ck_assert_int_eq(weft_manifest_content(&m, &m.content), WEFT_OK);
    ck_assert_int_eq(weft_manifest_write(&m, dir), WEFT_OK);
    weft_manifest_free(&m);
}

void made_manifest_again(const char *dir, int sources) {
    weft_manifest m;
    char path[4096];
    ck_assert_int_eq(weft_manifest_read(&m, dir), WEFT_OK);
    for (int d = 0; d < m.domain_count; d++)
        for (int s = 0; s < WEFT_SPLITS; s++)
            for (int i = 0; i < m.domains[d].split[s].count; i++) {
                weft_manifest_file *f = &m.domains[d].split[s].files[i];
                snprintf(path, sizeof path, "%s/%s", dir, f->name);
                ck_assert_int_eq(weft_hash_file(path, &f->hash, &f->size), WEFT_OK);
            }
    int listed = m.source_count;
    ck_assert_int_le(sources, listed);
    snprintf(path, sizeof path, "%s/manifest.json", dir);
    ck_assert_int_eq(unlink(path), 0);
    m.source_count = sources;
    ck_assert_int_eq(weft_manifest_write(&m, dir), WEFT_OK);
    m.source_count = listed;
    weft_manifest_free(&m);
}

long made_size(const char *path) {
    struct stat info;
    ck_assert_int_eq(stat(path, &info), 0);
    return (long)info.st_size;
}

void made_flip(const char *path, long at) {
    unsigned char byte;
    int fd = open(path, O_RDWR);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(pread(fd, &byte, 1, at), 1);
    byte ^= 1;
    ck_assert_int_eq(pwrite(fd, &byte, 1, at), 1);
    ck_assert_int_eq(close(fd), 0);
}

void made_cut(const char *path, long size) {
    ck_assert_int_eq(truncate(path, size), 0);
}

const char *made_errors(void (*f)(void *), void *arg) {
    static char text[16384];
    FILE *log = tmpfile();
    ck_assert_ptr_nonnull(log);
    fflush(stderr);
    int saved = dup(STDERR_FILENO);
    dup2(fileno(log), STDERR_FILENO);
    f(arg);
    fflush(stderr);
    dup2(saved, STDERR_FILENO);
    close(saved);
    rewind(log);
    text[fread(text, 1, sizeof text - 1, log)] = 0;
    fclose(log);
    return text;
}

void made_limit_files(unsigned long long bytes) {
    struct rlimit limit;
    signal(SIGXFSZ, SIG_IGN);
    ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = bytes < limit.rlim_max ? bytes : limit.rlim_max;
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
}
