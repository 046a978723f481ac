#include "data/shard/manifest.h"
#include "runtime/fs.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { MAX_MANIFEST = 1 << 28 };

const char *const weft_split_names[WEFT_SPLITS] = {"train", "heldout"};

int weft_split_of(const char *name) {
    for (int i = 0; i < WEFT_SPLITS; i++)
        if (strcmp(name, weft_split_names[i]) == 0) return i;
    return -1;
}

void weft_manifest_free(weft_manifest *m) {
    for (int d = 0; d < m->domain_count; d++)
        for (int s = 0; s < WEFT_SPLITS; s++) {
            weft_manifest_split *split = &m->domains[d].split[s];
            for (int f = 0; f < split->count; f++) free(split->files[f].name);
            free(split->files);
        }
    free(m->domains);
    for (int i = 0; i < m->source_count; i++) free(m->sources[i].file);
    free(m->sources);
    *m = (weft_manifest){0};
}

weft_status weft_manifest_content(const weft_manifest *m, weft_hash128 *out) {
    char *text = NULL;
    size_t size = 0;
    char hex[WEFT_HASH128_HEX];
    FILE *f = open_memstream(&text, &size);
    if (!f) WEFT_FAIL(WEFT_ENOMEM, "no memory for the digest of the data");
    weft_hash128_hex(m->tokenizer, hex);
    fprintf(f, "%s\n", hex);
    for (int d = 0; d < m->domain_count; d++)
        for (int s = 0; s < WEFT_SPLITS; s++)
            for (int i = 0; i < m->domains[d].split[s].count; i++) {
                weft_hash128_hex(m->domains[d].split[s].files[i].content, hex);
                fprintf(f, "%s %s\n", m->domains[d].split[s].files[i].name, hex);
            }
    bool ok = !ferror(f);
    ok = fclose(f) == 0 && ok;
    if (ok) *out = weft_hash128_of(text, size);
    free(text);
    if (!ok) WEFT_FAIL(WEFT_ENOMEM, "no memory for the digest of the data");
    return WEFT_OK;
}

/* ---- writing ---- */
static json_t *hash_json(weft_hash128 h) {
    char hex[WEFT_HASH128_HEX];
    weft_hash128_hex(h, hex);
    return json_string(hex);
}

static json_t *split_json(const weft_manifest_split *s) {
    json_t *files = json_array();
    for (int i = 0; i < s->count; i++) {
        const weft_manifest_file *f = &s->files[i];
        json_array_append_new(files,
                              json_pack("{s:s, s:I, s:o, s:I, s:I, s:I, s:o}", "name", f->name, "size",
                                        (json_int_t)f->size, "xxh3_128", hash_json(f->hash), "documents",
                                        (json_int_t)f->documents, "tokens", (json_int_t)f->tokens, "bytes",
                                        (json_int_t)f->bytes, "content", hash_json(f->content)));
    }
    if (json_array_size(files) != (size_t)s->count) {
        json_decref(files);
        return NULL;
    }
    return json_pack("{s:I, s:I, s:I, s:o}", "documents", (json_int_t)s->documents, "tokens",
                     (json_int_t)s->tokens, "bytes", (json_int_t)s->bytes, "files", files);
}

static json_t *manifest_json(const weft_manifest *m) {
    json_t *domains = json_array(), *sources = json_array();
    for (int d = 0; d < m->domain_count; d++)
        json_array_append_new(domains,
                              json_pack("{s:s, s:o, s:o}", "name", m->domains[d].name, "train",
                                        split_json(&m->domains[d].split[WEFT_SPLIT_TRAIN]), "heldout",
                                        split_json(&m->domains[d].split[WEFT_SPLIT_HELDOUT])));
    for (int i = 0; i < m->source_count; i++) {
        const weft_manifest_source *s = &m->sources[i];
        json_array_append_new(sources,
                              json_pack("{s:s, s:I, s:I, s:I, s:I}", "file", s->file, "documents",
                                        (json_int_t)s->documents, "bytes", (json_int_t)s->bytes, "malformed",
                                        (json_int_t)s->malformed, "empty", (json_int_t)s->empty));
    }
    if (json_array_size(domains) != (size_t)m->domain_count ||
        json_array_size(sources) != (size_t)m->source_count) {
        json_decref(domains);
        json_decref(sources);
        return NULL;
    }
    return json_pack("{s:s, s:i, s:I, s:i, s:i, s:f, s:f, s:o, s:o, s:o, s:o, s:o}", "format", "weft data",
                     "version", WEFT_MANIFEST_VERSION, "vocab_size", (json_int_t)m->vocab_size, "bos", m->bos,
                     "eos", m->eos, "heldout", m->heldout, "unigram_entropy", m->unigram_entropy, "tokenizer",
                     hash_json(m->tokenizer), "pipeline", hash_json(m->pipeline), "content",
                     hash_json(m->content), "domains", domains, "sources", sources);
}

enum { DUMP_FLAGS = JSON_INDENT(1) | JSON_REAL_PRECISION(17) | JSON_SORT_KEYS };
#define HASH_KEY "xxh3_128"

/* Hash of the manifest's text without the member that holds it; zero when there is no memory. Numbers with 17
 * digits and sorted keys come out of the reader as they went in. */
static weft_hash128 hash_without_itself(json_t *root) {
    json_object_del(root, HASH_KEY);
    char *text = json_dumps(root, DUMP_FLAGS);
    weft_hash128 h = text ? weft_hash128_of(text, strlen(text)) : (weft_hash128){0, 0};
    free(text);
    return h;
}

weft_status weft_manifest_write(const weft_manifest *m, const char *dir) {
    weft_status st;
    json_t *root = manifest_json(m);
    if (root) json_object_set_new(root, HASH_KEY, hash_json(hash_without_itself(root)));
    char *text = root ? json_dumps(root, DUMP_FLAGS) : NULL;
    char *path = weft_format("%s/manifest.json", dir);
    if (!text || !path)
        st = weft_fail(WEFT_ENOMEM, "%s: the manifest cannot be put together", dir);
    else
        st = weft_fs_create_file(path, text, strlen(text));
    free(path);
    free(text);
    json_decref(root);
    return st;
}

/* ---- reading ---- */
static bool same(weft_hash128 a, weft_hash128 b) {
    return a.hi == b.hi && a.lo == b.lo;
}

static bool parse_hash(const char *hex, weft_hash128 *out) {
    uint64_t word[2] = {0};
    if (!hex || strlen(hex) != 32 || strspn(hex, "0123456789abcdef") != 32) return false;
    for (int i = 0; i < 32; i++) {
        int digit = hex[i] <= '9' ? hex[i] - '0' : hex[i] - 'a' + 10;
        word[i / 16] = word[i / 16] << 4 | (uint64_t)digit;
    }
    *out = (weft_hash128){.hi = word[0], .lo = word[1]};
    return true;
}

static bool name_inside(const char *name, const char *split) {
    size_t n = strlen(split);
    return strncmp(name, split, n) == 0 && name[n] == '/' && !strchr(name + n + 1, '/') && name[n + 1] != '.';
}

/* The sums of the files must be the split's, so that a manifest edited by hand does not mislead. */
static bool parse_split(json_t *json, const char *split, weft_manifest_split *out) {
    json_int_t documents, tokens, bytes;
    json_t *files;
    if (json_unpack(json, "{s:I, s:I, s:I, s:o}", "documents", &documents, "tokens", &tokens, "bytes", &bytes,
                    "files", &files))
        return false;
    if (!json_is_array(files)) return false;
    size_t count = json_array_size(files);
    out->files = calloc(count + 1, sizeof *out->files);
    if (!out->files) return false;
    for (size_t i = 0; i < count; i++) {
        json_int_t size, d, t, b;
        const char *name, *hash, *content;
        weft_manifest_file *f = &out->files[i];
        if (json_unpack(json_array_get(files, i), "{s:s, s:I, s:s, s:I, s:I, s:I, s:s}", "name", &name,
                        "size", &size, "xxh3_128", &hash, "documents", &d, "tokens", &t, "bytes", &b,
                        "content", &content))
            return false;
        if (size < 0 || d < 0 || t < 0 || b < 0 || t > INT64_MAX / 4 || !name_inside(name, split))
            return false;
        *f = (weft_manifest_file){.size = (uint64_t)size, .documents = d, .tokens = t, .bytes = b};
        if (!parse_hash(hash, &f->hash) || !parse_hash(content, &f->content)) return false;
        f->name = strdup(name);
        out->count = (int)i + 1;
        if (!f->name) return false;
        out->documents += d;
        out->tokens += t;
        out->bytes += b;
        if (out->tokens > INT64_MAX / 4) return false;
    }
    return out->documents == documents && out->tokens == tokens && out->bytes == bytes;
}

static bool parse_domain(json_t *json, weft_manifest_domain *out) {
    const char *name;
    json_t *split[WEFT_SPLITS];
    if (json_unpack(json, "{s:s, s:o, s:o}", "name", &name, "train", &split[0], "heldout", &split[1]))
        return false;
    if (!weft_domain_name_ok(name, strlen(name))) return false;
    memcpy(out->name, name, strlen(name) + 1);
    for (int s = 0; s < WEFT_SPLITS; s++)
        if (!parse_split(split[s], weft_split_names[s], &out->split[s])) return false;
    return true;
}

static bool parse_source(json_t *json, weft_manifest_source *out) {
    const char *file;
    json_int_t documents, bytes, malformed, empty;
    if (json_unpack(json, "{s:s, s:I, s:I, s:I, s:I}", "file", &file, "documents", &documents, "bytes",
                    &bytes, "malformed", &malformed, "empty", &empty))
        return false;
    *out = (weft_manifest_source){
        .file = strdup(file), .documents = documents, .bytes = bytes, .malformed = malformed, .empty = empty};
    return out->file != NULL;
}

static bool parse_manifest(json_t *root, weft_manifest *m) {
    json_int_t vocab;
    const char *tokenizer, *pipeline, *content;
    json_t *domains, *sources;
    if (json_unpack(root, "{s:I, s:i, s:i, s:F, s:F, s:s, s:s, s:s, s:o, s:o}", "vocab_size", &vocab, "bos",
                    &m->bos, "eos", &m->eos, "heldout", &m->heldout, "unigram_entropy", &m->unigram_entropy,
                    "tokenizer", &tokenizer, "pipeline", &pipeline, "content", &content, "domains", &domains,
                    "sources", &sources))
        return false;
    m->vocab_size = vocab;
    if (!parse_hash(tokenizer, &m->tokenizer) || !parse_hash(pipeline, &m->pipeline) ||
        !parse_hash(content, &m->content))
        return false;
    size_t n = json_array_size(domains), k = json_array_size(sources);
    if (n == 0 || n > WEFT_LOADER_MAX_DOMAINS) return false;
    m->domains = calloc(n, sizeof *m->domains);
    m->sources = calloc(k + 1, sizeof *m->sources);
    if (!m->domains || !m->sources) return false;
    for (size_t i = 0; i < n; i++) {
        m->domain_count = (int)i + 1;
        if (!parse_domain(json_array_get(domains, i), &m->domains[i])) return false;
        if (i > 0 && strcmp(m->domains[i - 1].name, m->domains[i].name) >= 0) return false;
    }
    for (size_t i = 0; i < k; i++) {
        m->source_count = (int)i + 1;
        if (!parse_source(json_array_get(sources, i), &m->sources[i])) return false;
    }
    return true;
}

static weft_status check_hash(const char *path, json_t *root) {
    weft_hash128 stated;
    bool there = parse_hash(json_string_value(json_object_get(root, HASH_KEY)), &stated);
    if (!there || !same(stated, hash_without_itself(root)))
        WEFT_FAIL(WEFT_EINPUT,
                  "%s: damaged or edited: its text has not the hash that it states; build the data again",
                  path);
    return WEFT_OK;
}

static weft_status check_version(const char *path, json_t *root) {
    const char *format = json_string_value(json_object_get(root, "format"));
    json_int_t version = json_integer_value(json_object_get(root, "version"));
    if (!format || strcmp(format, "weft data") != 0)
        WEFT_FAIL(WEFT_EINPUT, "%s: not the manifest of a directory made by weft data build", path);
    if (version != WEFT_MANIFEST_VERSION)
        WEFT_FAIL(WEFT_EINPUT, "%s: version %lld; this weft reads version %d", path, (long long)version,
                  WEFT_MANIFEST_VERSION);
    return WEFT_OK;
}

weft_status weft_manifest_read(weft_manifest *m, const char *dir) {
    weft_status st;
    char *text = NULL;
    size_t bytes;
    json_error_t error;
    json_t *root = NULL;
    weft_manifest parsed = {0};
    struct stat info;
    if (stat(dir, &info) != 0)
        WEFT_FAIL(WEFT_EINPUT, "%s: %s (a directory made by weft data build is wanted)", dir,
                  strerror(errno));
    if (!S_ISDIR(info.st_mode))
        WEFT_FAIL(WEFT_EINPUT, "%s: not a directory (one made by weft data build is wanted)", dir);
    char *path = weft_format("%s/manifest.json", dir);
    if (!path) WEFT_FAIL(WEFT_ENOMEM, "%s: no memory to read it", dir);
    WEFT_GOTO(st, done, weft_fs_read_file(path, MAX_MANIFEST, &text, &bytes));
    root = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &error);
    if (!root) {
        st = weft_fail(WEFT_EINPUT, "%s:%d: not JSON: %s", path, error.line, error.text);
        goto done;
    }
    WEFT_GOTO(st, done, check_version(path, root));
    WEFT_GOTO(st, done, check_hash(path, root));
    if (!parse_manifest(root, &parsed)) {
        st = weft_fail(
            WEFT_EINPUT,
            "%s: damaged: a member is missing, of the wrong kind, or does not agree with the others", path);
        goto done;
    }
    *m = parsed;
    parsed = (weft_manifest){0};
done:
    weft_manifest_free(&parsed);
    json_decref(root);
    free(text);
    free(path);
    return st;
}

static weft_status compare(const weft_manifest *m, const weft_manifest_domain *domain,
                           const weft_manifest_file *file, const char *path, const weft_shard_info *i) {
    if (i->vocab_size != m->vocab_size || !same(i->tokenizer, m->tokenizer))
        WEFT_FAIL(
            WEFT_EINPUT,
            "%s: made with another tokenizer (vocabulary %lld) than the manifest names (vocabulary %lld)",
            path, (long long)i->vocab_size, (long long)m->vocab_size);
    if (strcmp(i->domain, domain->name) != 0 || i->tokens != file->tokens ||
        i->documents != file->documents || i->bytes != file->bytes || i->bos != m->bos || i->eos != m->eos ||
        !same(i->content, file->content))
        WEFT_FAIL(WEFT_EINPUT,
                  "%s: not the shard that the manifest describes (its domain is '%s', it has %lld tokens)",
                  path, i->domain, (long long)i->tokens);
    return WEFT_OK;
}

weft_status weft_manifest_open_shard(const weft_manifest *m, const char *dir,
                                     const weft_manifest_domain *domain, const weft_manifest_file *file,
                                     weft_shard **out) {
    struct stat info;
    weft_shard *s = NULL;
    weft_status st = WEFT_OK;
    char *path = weft_format("%s/%s", dir, file->name);
    if (!path) WEFT_FAIL(WEFT_ENOMEM, "%s: no memory to read it", dir);
    if (stat(path, &info) != 0)
        st = weft_fail(WEFT_EINPUT, "%s: cannot be opened: %s", path, strerror(errno));
    if (st == WEFT_OK) st = weft_shard_open(&s, path);
    /* The header first: it can say that the shard is another tokenizer's, which is more than "another size".
     */
    if (st == WEFT_OK) st = compare(m, domain, file, path, weft_shard_about(s));
    if (st == WEFT_OK && (uint64_t)info.st_size != file->size)
        st = weft_fail(WEFT_EINPUT, "%s: %lld bytes, but the manifest says %llu", path,
                       (long long)info.st_size, (unsigned long long)file->size);
    if (st == WEFT_OK)
        *out = s;
    else
        weft_shard_close(s);
    free(path);
    return st;
}
