/* The MANIFEST: JSON whose last line is the XXH3-128 of all that stands before it, so that one changed bit
 * anywhere is found before anything is parsed.
 *
 *   {"format":"weft-checkpoint", "version":1, "step":..., "samples":..., "tokens":..., "seed":...,
 *    "tokenizer_xxh3_128":..., "data_xxh3_128":..., "world_size":..., "config_xxh3_128":..., "config":"YAML",
 *    "files":[{"name","bytes","xxh3_128"}],
 *    "fragments":[{"tensor","dtype","shape","offset","extent","file" (index in files),"xxh3_128" (of the raw
 *                  little-endian elements),"dataset" (only when it is not called as the tensor)}],
 *    "manifest_xxh3_128":...}
 *
 * Integers are JSON integers; those above 2^63-1 are decimal strings. */
#include "train/ckpt_internal.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define FORMAT "weft-checkpoint"
enum { VERSION = 1 };
static const int64_t max_manifest = (int64_t)1
                                    << 30; /* bytes: a guard against nonsense, far above any real one */

#define TRAILER_HEAD "\"manifest_xxh3_128\":\""
#define TRAILER_TAIL "\"}\n"
enum { TRAILER = sizeof(TRAILER_HEAD) - 1 + WEFT_HASH128_HEX - 1 + sizeof(TRAILER_TAIL) - 1 };

weft_status weft_ckpt_because(weft_ckpt_why *why, weft_status status, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(why->text, sizeof why->text, fmt, ap);
    va_end(ap);
    return status;
}
#define BECAUSE(why, status, ...) return weft_ckpt_because((why), (status), __VA_ARGS__)

void weft_ckpt_state_free(weft_ckpt_state *s) {
    free(s->config_yaml);
    s->config_yaml = NULL;
}

void weft_ckpt_manifest_free(weft_ckpt_manifest *m) {
    weft_ckpt_state_free(&m->state);
    free(m->files);
    free(m->pieces);
    json_decref(m->json);
    *m = (weft_ckpt_manifest){0};
}

bool weft_ckpt_name_ok(const char *tensor) {
    size_t n = strlen(tensor);
    if (n == 0 || n > 512) return false;
    for (const char *part = tensor;;) {
        size_t length = strcspn(part, "/");
        if (length == 0 || (part[0] == '.' && (length == 1 || (length == 2 && part[1] == '.')))) return false;
        for (size_t i = 0; i < length; i++)
            if (part[i] <= ' ' || part[i] > '~') return false;
        if (part[length] == '\0') return true;
        part += length + 1;
    }
}

static void hash_hex(const void *data, size_t bytes, char hex[WEFT_HASH128_HEX]) {
    weft_hash128_hex(weft_hash128_of(data, bytes), hex);
}

/* ---- reading ---- */

weft_status weft_ckpt_manifest_text(const char *dir, char **text, size_t *bytes, weft_ckpt_why *why) {
    weft_status st = WEFT_OK;
    char path[WEFT_PATH_SIZE], *buf = NULL;
    struct stat s;
    WEFT_TRY(weft_fs_path(path, "%s/" WEFT_CKPT_MANIFEST, dir));
    FILE *f = fopen(path, "rb");
    if (!f && errno == ENOENT) BECAUSE(why, WEFT_EINPUT, "it has no MANIFEST");
    if (!f) BECAUSE(why, WEFT_EIO, "its MANIFEST cannot be opened: %s", strerror(errno));
    if (fstat(fileno(f), &s) != 0 || !S_ISREG(s.st_mode)) {
        st = weft_ckpt_because(why, WEFT_EINPUT, "its MANIFEST is no regular file");
    } else if (s.st_size < TRAILER || s.st_size > max_manifest) {
        st = weft_ckpt_because(why, WEFT_EINPUT, "its MANIFEST has an impossible size of %lld bytes",
                               (long long)s.st_size);
    } else if (!(buf = malloc((size_t)s.st_size))) {
        st = weft_fail(WEFT_ENOMEM, "%s: no memory for %lld bytes", path, (long long)s.st_size);
    } else if (fread(buf, 1, (size_t)s.st_size, f) != (size_t)s.st_size) {
        st = weft_ckpt_because(why, WEFT_EIO, "its MANIFEST cannot be read: %s",
                               ferror(f) ? strerror(errno) : "it became shorter");
    }
    fclose(f);
    if (st != WEFT_OK) {
        free(buf);
        return st;
    }
    *text = buf;
    *bytes = (size_t)s.st_size;
    return WEFT_OK;
}

static bool get_i64(const json_t *o, const char *key, int64_t lowest, int64_t *out) {
    const json_t *v = json_object_get(o, key);
    if (!json_is_integer(v) || json_integer_value(v) < lowest) return false;
    *out = json_integer_value(v);
    return true;
}

static bool get_u64(const json_t *o, const char *key, uint64_t *out) {
    int64_t small;
    const char *s = json_string_value(json_object_get(o, key));
    if (!s) {
        if (!get_i64(o, key, 0, &small)) return false;
        *out = (uint64_t)small;
        return true;
    }
    if (!isdigit((unsigned char)s[0])) return false;
    char *end;
    errno = 0;
    unsigned long long v = strtoull(s, &end, 10);
    if (errno != 0 || *end != '\0') return false;
    *out = v;
    return true;
}

static bool get_hash(const json_t *o, const char *key, weft_hash128 *out) {
    const char *s = json_string_value(json_object_get(o, key));
    if (!s || strlen(s) != WEFT_HASH128_HEX - 1) return false;
    uint64_t half[2] = {0, 0};
    for (int i = 0; i < WEFT_HASH128_HEX - 1; i++) {
        static const char digits[] = "0123456789abcdef";
        const char *d = strchr(digits, s[i]);
        if (!d) return false;
        half[i / 16] = half[i / 16] << 4 | (uint64_t)(d - digits);
    }
    *out = (weft_hash128){.hi = half[0], .lo = half[1]};
    return true;
}

static bool get_dims(const json_t *o, const char *key, int64_t *out, int *ndim) {
    const json_t *v = json_object_get(o, key);
    size_t n = json_array_size(v); /* 0 for what is no array */
    if (n < 1 || n > WEFT_CKPT_MAX_DIMS) return false;
    for (size_t d = 0; d < n; d++) {
        const json_t *x = json_array_get(v, d);
        if (!json_is_integer(x)) return false;
        out[d] = json_integer_value(x);
    }
    *ndim = (int)n;
    return true;
}

static bool get_dtype(const json_t *o, weft_dtype *out) {
    const char *s = json_string_value(json_object_get(o, "dtype"));
    for (weft_dtype t = WEFT_F32; s && t <= WEFT_U8; t++) {
        if (strcmp(s, weft_dtype_name(t)) == 0) {
            *out = t;
            return true;
        }
    }
    return false;
}

static weft_status parse_state(json_t *root, weft_ckpt_manifest *m, weft_ckpt_why *why) {
    weft_ckpt_state *s = &m->state;
    weft_hash128 config_hash;
    const char *format = json_string_value(json_object_get(root, "format"));
    int64_t version;
    if (!format || strcmp(format, FORMAT) != 0) BECAUSE(why, WEFT_EINPUT, "its MANIFEST is not one of weft");
    if (!get_i64(root, "version", 1, &version)) BECAUSE(why, WEFT_EINPUT, "its MANIFEST has no version");
    if (version > VERSION)
        BECAUSE(why, WEFT_EINPUT,
                "its MANIFEST has version %" PRId64 ", written by a newer weft (this one reads %d)", version,
                VERSION);
    if (!get_i64(root, "step", 0, &s->step)) BECAUSE(why, WEFT_EINPUT, "its MANIFEST has no valid step");
    if (!get_u64(root, "samples", &s->samples))
        BECAUSE(why, WEFT_EINPUT, "its MANIFEST has no valid samples");
    if (!get_i64(root, "tokens", 0, &s->tokens))
        BECAUSE(why, WEFT_EINPUT, "its MANIFEST has no valid tokens");
    if (!get_u64(root, "seed", &s->seed)) BECAUSE(why, WEFT_EINPUT, "its MANIFEST has no valid seed");
    if (!get_hash(root, "tokenizer_xxh3_128", &s->tokenizer) || !get_hash(root, "data_xxh3_128", &s->data))
        BECAUSE(why, WEFT_EINPUT, "its MANIFEST has no valid digests of tokenizer and data");
    if (!get_i64(root, "world_size", 1, &m->world_size))
        BECAUSE(why, WEFT_EINPUT, "its MANIFEST has no valid world_size");
    const char *config = json_string_value(json_object_get(root, "config"));
    if (!config || !get_hash(root, "config_xxh3_128", &config_hash))
        BECAUSE(why, WEFT_EINPUT, "its MANIFEST has no configuration");
    weft_hash128 h = weft_hash128_of(config, strlen(config));
    if (h.hi != config_hash.hi || h.lo != config_hash.lo)
        BECAUSE(why, WEFT_EINPUT, "its configuration has not the hash that its MANIFEST states");
    if (!(s->config_yaml = strdup(config))) WEFT_FAIL(WEFT_ENOMEM, "no memory for a configuration");
    return WEFT_OK;
}

static weft_status parse_files(json_t *root, weft_ckpt_manifest *m, weft_ckpt_why *why) {
    json_t *list = json_object_get(root, "files"), *o;
    size_t i, n = json_array_size(list);
    int64_t total = 0;
    if (!json_is_array(list)) BECAUSE(why, WEFT_EINPUT, "its MANIFEST has no list of files");
    if (!(m->files = calloc(n ? n : 1, sizeof *m->files)))
        WEFT_FAIL(WEFT_ENOMEM, "no memory for %zu files", n);
    m->file_count = (int64_t)n;
    json_array_foreach(list, i, o) {
        weft_ckpt_file *f = &m->files[i];
        f->name = json_string_value(json_object_get(o, "name"));
        /* Only names that a save gives: no path leads out of the directory. */
        if (!f->name || !weft_ckpt_is_ours(f->name) || strcmp(f->name, WEFT_CKPT_MANIFEST) == 0)
            BECAUSE(why, WEFT_EINPUT, "its MANIFEST names file %zu in a way that weft does not", i);
        if (!get_i64(o, "bytes", 0, &f->bytes) || __builtin_add_overflow(total, f->bytes, &total))
            BECAUSE(why, WEFT_EINPUT, "its MANIFEST has no valid size of %s", f->name);
        if (!get_hash(o, "xxh3_128", &f->hash))
            BECAUSE(why, WEFT_EINPUT, "its MANIFEST has no valid hash of %s", f->name);
    }
    return WEFT_OK;
}

static weft_status parse_piece(json_t *o, size_t i, weft_ckpt_manifest *m, weft_ckpt_why *why) {
    weft_ckpt_piece *p = &m->pieces[i];
    int shape_dims, offset_dims;
    p->tensor = json_string_value(json_object_get(o, "tensor"));
    if (!p->tensor || !weft_ckpt_name_ok(p->tensor))
        BECAUSE(why, WEFT_EINPUT, "its MANIFEST has no valid tensor name in fragment %zu", i);
    json_t *dataset = json_object_get(o, "dataset");
    p->dataset = dataset ? json_string_value(dataset) : p->tensor;
    if (!p->dataset || !weft_ckpt_name_ok(p->dataset) || !get_dtype(o, &p->dtype) ||
        !get_hash(o, "xxh3_128", &p->hash) || !get_i64(o, "file", 0, &p->file) || p->file >= m->file_count ||
        strcmp(m->files[p->file].name, WEFT_CKPT_TOKENIZER) == 0)
        BECAUSE(why, WEFT_EINPUT, "its MANIFEST describes a fragment of %s badly", p->tensor);
    if (!get_dims(o, "shape", p->shape, &shape_dims) || !get_dims(o, "offset", p->box.offset, &offset_dims) ||
        !get_dims(o, "extent", p->box.extent, &p->box.ndim) || shape_dims != p->box.ndim ||
        offset_dims != p->box.ndim || !weft_box_inside(&p->box, p->shape) || weft_box_volume(&p->box) == 0)
        BECAUSE(why, WEFT_EINPUT, "its MANIFEST has a fragment of %s that is not inside the tensor",
                p->tensor);
    return WEFT_OK;
}

static int by_tensor(const void *a, const void *b) {
    const weft_ckpt_piece *x = a, *y = b;
    int order = strcmp(x->tensor, y->tensor);
    for (int d = 0; order == 0 && d < x->box.ndim && d < y->box.ndim; d++)
        order = (x->box.offset[d] > y->box.offset[d]) - (x->box.offset[d] < y->box.offset[d]);
    return order;
}

static _Thread_local int g_sweep_dim;
static int by_sweep_dim(const void *a, const void *b) {
    int64_t x = ((const weft_ckpt_piece *)a)->box.offset[g_sweep_dim];
    int64_t y = ((const weft_ckpt_piece *)b)->box.offset[g_sweep_dim];
    return (x > y) - (x < y);
}

/* The pieces of one tensor must agree on dtype and shape, be apart from each other, and fill it. */
static weft_status check_tensor(weft_ckpt_piece *p, int64_t n, weft_ckpt_why *why) {
    int64_t volume = 0, cuts[WEFT_CKPT_MAX_DIMS] = {0};
    int ndim = p[0].box.ndim;
    for (int64_t i = 0; i < n; i++) {
        if (p[i].dtype != p[0].dtype || p[i].box.ndim != ndim ||
            memcmp(p[i].shape, p[0].shape, (size_t)ndim * sizeof *p[i].shape) != 0)
            BECAUSE(why, WEFT_EINPUT, "its fragments of %s disagree on dtype or shape", p[0].tensor);
        for (int d = 0; d < ndim; d++) cuts[d] += p[i].box.extent[d] < p[i].shape[d];
        if (__builtin_add_overflow(volume, weft_box_volume(&p[i].box), &volume))
            BECAUSE(why, WEFT_EINPUT, "its fragments of %s overlap", p[0].tensor);
    }
    /* Along the dim that is cut most often, only near neighbours can meet. */
    g_sweep_dim = 0;
    for (int d = 1; d < ndim; d++)
        if (cuts[d] > cuts[g_sweep_dim]) g_sweep_dim = d;
    int sweep = g_sweep_dim;
    qsort(p, (size_t)n, sizeof *p, by_sweep_dim);
    for (int64_t i = 0; i < n; i++) {
        int64_t end = p[i].box.offset[sweep] + p[i].box.extent[sweep];
        for (int64_t j = i + 1; j < n && p[j].box.offset[sweep] < end; j++) {
            weft_box common;
            if (weft_box_intersect(&p[i].box, &p[j].box, &common))
                BECAUSE(why, WEFT_EINPUT, "its fragments of %s overlap", p[0].tensor);
        }
    }
    if (volume != weft_box_volume(&(weft_box){
                      .ndim = ndim, .extent = {p[0].shape[0], p[0].shape[1], p[0].shape[2], p[0].shape[3]}}))
        BECAUSE(why, WEFT_EINPUT, "its fragments of %s do not fill the tensor", p[0].tensor);
    return WEFT_OK;
}

static weft_status parse_pieces(json_t *root, weft_ckpt_manifest *m, weft_ckpt_why *why) {
    json_t *list = json_object_get(root, "fragments"), *o;
    size_t i, n = json_array_size(list);
    if (!json_is_array(list)) BECAUSE(why, WEFT_EINPUT, "its MANIFEST has no list of fragments");
    if (!(m->pieces = calloc(n ? n : 1, sizeof *m->pieces)))
        WEFT_FAIL(WEFT_ENOMEM, "no memory for %zu fragments", n);
    m->piece_count = (int64_t)n;
    json_array_foreach(list, i, o) {
        WEFT_TRY(parse_piece(o, i, m, why));
    }
    qsort(m->pieces, n, sizeof *m->pieces, by_tensor);
    for (size_t first = 0, end; first < n; first = end) {
        for (end = first + 1; end < n && strcmp(m->pieces[end].tensor, m->pieces[first].tensor) == 0;) end++;
        WEFT_TRY(check_tensor(&m->pieces[first], (int64_t)(end - first), why));
    }
    return WEFT_OK;
}

weft_status weft_ckpt_manifest_parse(const char *text, size_t bytes, weft_ckpt_manifest *out,
                                     weft_ckpt_why *why) {
    char trailer[TRAILER + 1], hex[WEFT_HASH128_HEX];
    if (bytes < TRAILER) BECAUSE(why, WEFT_EINPUT, "its MANIFEST is cut off");
    hash_hex(text, bytes - TRAILER, hex);
    snprintf(trailer, sizeof trailer, TRAILER_HEAD "%s" TRAILER_TAIL, hex);
    if (memcmp(text + bytes - TRAILER, trailer, TRAILER) != 0)
        BECAUSE(why, WEFT_EINPUT, "its MANIFEST is damaged or cut off (its hash does not match)");
    json_error_t error;
    json_t *root = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &error);
    if (!root) BECAUSE(why, WEFT_EINPUT, "its MANIFEST is no JSON: line %d: %s", error.line, error.text);
    weft_ckpt_manifest m = {.json = root};
    weft_status st;
    WEFT_GOTO(st, failed, parse_state(root, &m, why));
    WEFT_GOTO(st, failed, parse_files(root, &m, why));
    WEFT_GOTO(st, failed, parse_pieces(root, &m, why));
    *out = m;
    return WEFT_OK;
failed:
    weft_ckpt_manifest_free(&m);
    return st;
}

/* ---- writing ---- */

static json_t *u64_json(uint64_t v) {
    char digits[24];
    if (v <= INT64_MAX) return json_integer((json_int_t)v);
    snprintf(digits, sizeof digits, "%" PRIu64, v);
    return json_string(digits);
}

static json_t *hash_json(weft_hash128 h) {
    char hex[WEFT_HASH128_HEX];
    weft_hash128_hex(h, hex);
    return json_string(hex);
}

static json_t *dims_json(const int64_t *dims, int n) {
    json_t *list = json_array();
    for (int d = 0; d < n; d++) json_array_append_new(list, json_integer(dims[d]));
    return list;
}

static json_t *file_json(const weft_ckpt_file *f) {
    return json_pack("{s:s, s:I, s:o}", "name", f->name, "bytes", (json_int_t)f->bytes, "xxh3_128",
                     hash_json(f->hash));
}

weft_status weft_ckpt_part(const weft_ckpt_file *file, const weft_fragment *fragments,
                           const char *const *datasets, const weft_hash128 *hashes, int64_t count,
                           char **line, size_t *bytes) {
    json_t *files = json_array(), *list = json_array();
    bool bad = file && json_array_append_new(files, file_json(file)) != 0;
    for (int64_t i = 0; i < count && !bad; i++) {
        const weft_fragment *f = &fragments[i];
        json_t *o = json_pack("{s:s, s:s, s:o, s:o, s:o, s:i, s:o}", "tensor", f->name, "dtype",
                              weft_dtype_name(f->dtype), "shape", dims_json(f->shape, f->ndim), "offset",
                              dims_json(f->offset, f->ndim), "extent", dims_json(f->extent, f->ndim), "file",
                              0, "xxh3_128", hash_json(hashes[i]));
        if (o && strcmp(datasets[i], f->name) != 0)
            bad = json_object_set_new(o, "dataset", json_string(datasets[i])) != 0;
        bad |= json_array_append_new(list, o) != 0;
    }
    json_t *part = json_pack("{s:o, s:o}", "files", files, "fragments", list);
    char *text = bad || !part ? NULL : json_dumps(part, JSON_COMPACT);
    json_decref(part);
    if (!text) WEFT_FAIL(WEFT_ENOMEM, "no memory for the list of %" PRId64 " fragments", count);
    *bytes = strlen(text);
    text[(*bytes)++] = '\n'; /* in the place of the terminating zero */
    *line = text;
    return WEFT_OK;
}

/* Moves the entries of one rank's part behind those of the ranks before it. */
static weft_status append_part(const char *text, size_t bytes, json_t *files, json_t *pieces) {
    json_error_t error;
    size_t i, first = json_array_size(files);
    json_t *o, *part = json_loadb(text, bytes, 0, &error);
    if (!part) WEFT_FAIL(WEFT_EINTERNAL, "a rank's list of fragments is no JSON: %s", error.text);
    json_t *list = json_object_get(part, "fragments");
    bool bad = false;
    json_array_foreach(list, i, o) {
        bad |= json_object_set_new(o, "file", json_integer((json_int_t)first)) != 0;
    }
    bad |=
        json_array_extend(files, json_object_get(part, "files")) != 0 || json_array_extend(pieces, list) != 0;
    json_decref(part);
    if (bad) WEFT_FAIL(WEFT_ENOMEM, "no memory for a MANIFEST");
    return WEFT_OK;
}

/* One entry a line: a person can read it and diff can compare it. */
static void print_list(FILE *out, const char *key, json_t *list) {
    size_t i;
    json_t *o;
    fprintf(out, "\"%s\":[\n", key);
    json_array_foreach(list, i, o) {
        json_dumpf(o, out, JSON_COMPACT);
        fputs(i + 1 < json_array_size(list) ? ",\n" : "\n", out);
    }
    fputs("],\n", out);
}

/* Everything but the trailer. NULL without memory. */
static char *print_body(json_t *head, json_t *files, json_t *pieces, size_t *bytes) {
    char *text = NULL;
    FILE *out = open_memstream(&text, bytes);
    const char *key;
    json_t *value;
    if (!out) return NULL;
    fputs("{", out);
    json_object_foreach(head, key, value) {
        fprintf(out, "\"%s\":", key);
        json_dumpf(value, out, JSON_ENCODE_ANY | JSON_COMPACT);
        fputs(",\n", out);
    }
    print_list(out, "files", files);
    print_list(out, "fragments", pieces);
    bool bad = ferror(out);
    if (fclose(out) != 0 || bad) {
        free(text);
        return NULL;
    }
    return text;
}

weft_status weft_ckpt_manifest_make(const weft_ckpt_state *s, int64_t world_size, const char *parts,
                                    size_t bytes, const weft_ckpt_file *extra, char **text,
                                    size_t *text_bytes) {
    weft_status st = WEFT_OK;
    const char *config = s->config_yaml ? s->config_yaml : "";
    json_t *files = json_array(), *pieces = json_array();
    char *body = NULL, *whole = NULL, hex[WEFT_HASH128_HEX];
    size_t body_bytes = 0;
    json_t *head = json_pack("{s:s, s:i, s:I, s:o, s:I, s:o, s:o, s:o, s:I, s:o, s:s}", "format", FORMAT,
                             "version", VERSION, "step", (json_int_t)s->step, "samples", u64_json(s->samples),
                             "tokens", (json_int_t)s->tokens, "seed", u64_json(s->seed), "tokenizer_xxh3_128",
                             hash_json(s->tokenizer), "data_xxh3_128", hash_json(s->data), "world_size",
                             (json_int_t)world_size, "config_xxh3_128",
                             hash_json(weft_hash128_of(config, strlen(config))), "config", config);
    if (!head || !files || !pieces) {
        st = weft_fail(WEFT_EINTERNAL,
                       "no MANIFEST can be made: no memory, or the configuration is not UTF-8");
        goto done;
    }
    for (const char *line = parts, *end; line < parts + bytes; line = end + 1) {
        end = memchr(line, '\n', (size_t)(parts + bytes - line));
        if (!end) {
            st = weft_fail(WEFT_EINTERNAL, "a rank's list of fragments is cut off");
            goto done;
        }
        WEFT_GOTO(st, done, append_part(line, (size_t)(end - line), files, pieces));
    }
    bool bad = extra && json_array_append_new(files, file_json(extra)) != 0;
    body = bad ? NULL : print_body(head, files, pieces, &body_bytes);
    whole = body ? malloc(body_bytes + TRAILER + 1) : NULL;
    if (!whole) {
        st = weft_fail(WEFT_ENOMEM, "no memory for a MANIFEST");
        goto done;
    }
    hash_hex(body, body_bytes, hex);
    memcpy(whole, body, body_bytes);
    snprintf(whole + body_bytes, TRAILER + 1, TRAILER_HEAD "%s" TRAILER_TAIL, hex);
    *text = whole;
    *text_bytes = body_bytes + TRAILER;
done:
    free(body);
    json_decref(files);
    json_decref(pieces);
    json_decref(head);
    return st;
}
