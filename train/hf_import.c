/* Reads the weights of a Hugging Face directory. All names and shapes are compared before the first number is
 * read. */
#include "runtime/fs.h"
#include "runtime/log.h"
#include "train/hf_files.h"
#include "train/safetensors.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { MAX_REPORTED = 20, NAME_SHOWN = 200, SHAPE_TEXT = 192, FUSED_NAME = WEFT_PARAM_NAME + 32 };

typedef struct weft_source {
    const weft_st_file *file;
    const weft_st_tensor *tensor;
    bool in_index, used;
} weft_source;

typedef struct weft_import {
    const char *dir;
    weft_st_file **files;
    int64_t file_count;
    weft_source *sources; /* by name */
    int64_t source_count;
    int64_t problems;
} weft_import;

/* ---- finding the files -------------------------------------------------------------------------------- */

static weft_status open_file(weft_import *im, const char *name) {
    char *path = weft_format("%s/%s", im->dir, name);
    if (!path) WEFT_FAIL(WEFT_ENOMEM, "%s/%s: no memory to open it", im->dir, name);
    weft_status status = weft_st_open(&im->files[im->file_count], path);
    free(path);
    if (status == WEFT_OK) im->file_count++;
    return status;
}

static int by_text(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Opens each file that the index names, once. */
static weft_status open_indexed(weft_import *im, json_t *map) {
    size_t count = json_object_size(map), i = 0;
    const char **names = calloc(count + 1, sizeof *names);
    im->files = calloc(count + 1, sizeof *im->files);
    weft_status status = WEFT_OK;
    if (!names || !im->files) status = weft_fail(WEFT_ENOMEM, "%s: no memory for its list of files", im->dir);
    const char *tensor;
    json_t *file;
    if (status == WEFT_OK) json_object_foreach(map, tensor, file) {
            const char *name = json_string_value(file);
            /* The index must not lead out of the directory. */
            if (!name || !*name || strchr(name, '/')) {
                status = weft_fail(WEFT_EINPUT, "%s/%s: names something other than files of this directory",
                                   im->dir, WEFT_HF_INDEX);
                break;
            }
            names[i++] = name;
        }
    if (status == WEFT_OK) qsort(names, count, sizeof *names, by_text);
    for (size_t k = 0; k < count && status == WEFT_OK; k++)
        if (k == 0 || strcmp(names[k], names[k - 1]) != 0) status = open_file(im, names[k]);
    free(names);
    return status;
}

static bool has_file(const char *dir, const char *name) {
    struct stat st;
    char *path = weft_format("%s/%s", dir, name);
    bool yes = path && stat(path, &st) == 0;
    free(path);
    return yes;
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const weft_source *)a)->tensor->name, ((const weft_source *)b)->tensor->name);
}

static weft_source *find_source(const weft_import *im, const char *name) {
    weft_st_tensor wanted = {.name = name};
    weft_source key = {.tensor = &wanted};
    if (im->source_count == 0) return NULL;
    return bsearch(&key, im->sources, (size_t)im->source_count, sizeof key, by_name);
}

static weft_status list_sources(weft_import *im) {
    int64_t total = 0;
    for (int64_t i = 0; i < im->file_count; i++) total += weft_st_count(im->files[i]);
    im->sources = calloc((size_t)total + 1, sizeof *im->sources);
    if (!im->sources) WEFT_FAIL(WEFT_ENOMEM, "%s: no memory for its list of tensors", im->dir);
    for (int64_t i = 0; i < im->file_count; i++)
        for (int64_t k = 0; k < weft_st_count(im->files[i]); k++)
            im->sources[im->source_count++] =
                (weft_source){.file = im->files[i], .tensor = weft_st_at(im->files[i], k)};
    qsort(im->sources, (size_t)total, sizeof *im->sources, by_name);
    for (int64_t i = 1; i < total; i++)
        if (by_name(&im->sources[i - 1], &im->sources[i]) == 0)
            WEFT_FAIL(WEFT_EINPUT, "%s: tensor %.*s is also in %s", weft_st_path(im->sources[i].file),
                      NAME_SHOWN, im->sources[i].tensor->name, weft_st_path(im->sources[i - 1].file));
    return WEFT_OK;
}

/* ---- comparing ---------------------------------------------------------------------------------------- */

static void problem(weft_import *im, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void problem(weft_import *im, const char *fmt, ...) {
    char text[1024];
    if (im->problems++ >= MAX_REPORTED) return;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    for (char *c = text; *c; c++)
        if ((unsigned char)*c < 0x20) *c = '?'; /* names in the index may hold anything */
    weft_log(WEFT_LOG_ERROR, "%s: %s", im->dir, text);
}

/* "[64, 1, 4]" */
static const char *shape_text(int ndim, const int64_t *shape, char text[SHAPE_TEXT]) {
    size_t n = (size_t)snprintf(text, SHAPE_TEXT, "[");
    for (int i = 0; i < ndim; i++)
        n += (size_t)snprintf(text + n, SHAPE_TEXT - n, "%s%lld", i ? ", " : "", (long long)shape[i]);
    snprintf(text + n, SHAPE_TEXT - n, "]");
    return text;
}

/* The index and the files must agree: either could be from another download. */
static void check_index(weft_import *im, json_t *map) {
    const char *name;
    json_t *file;
    json_object_foreach(map, name, file) {
        weft_source *s = find_source(im, name);
        const char *base = s ? strrchr(weft_st_path(s->file), '/') + 1 : "";
        if (!s || strcmp(base, json_string_value(file)) != 0)
            problem(im, "tensor %.*s is not in the file that %s names", NAME_SHOWN, name, WEFT_HF_INDEX);
        else
            s->in_index = true;
    }
    for (int64_t i = 0; i < im->source_count; i++)
        if (!im->sources[i].in_index)
            problem(im, "tensor %.*s is not listed in %s", NAME_SHOWN, im->sources[i].tensor->name,
                    WEFT_HF_INDEX);
}

/* transformers 5 keeps the experts of a layer in two tensors, experts.gate_up_proj [X,2F,D] (gate first) and
 * experts.down_proj [X,D,F]; files made from its memory have these names. The name of the one that would hold
 * "...experts.J.gate_proj.weight", and which part of it; false for other names. */
static bool fused_name(const char *name, char fused[FUSED_NAME], int64_t *expert, int *part) {
    static const char *const tails[] = {".gate_proj.weight", ".up_proj.weight", ".down_proj.weight"};
    const char *marker = strstr(name, ".experts.");
    if (!marker) return false;
    const char *number = marker + strlen(".experts.");
    char *end;
    *expert = strtoll(number, &end, 10);
    for (*part = 0; *part < 3; ++*part)
        if (strcmp(end, tails[*part]) == 0) {
            snprintf(fused, FUSED_NAME, "%.*s%s", (int)(number - name), name,
                     *part == 2 ? "down_proj" : "gate_up_proj");
            return true;
        }
    return false;
}

/* Experts that the table has below the prefix of a fused name ("model.layers.1.feed_forward.experts."). */
static int64_t count_experts(const weft_hf_tensors *wanted, const char *name) {
    int64_t count = 0;
    size_t prefix = (size_t)(strstr(name, ".experts.") - name) + strlen(".experts.");
    for (int64_t i = 0; i < wanted->count; i++) {
        const char *other = wanted->list[i].name;
        count += strncmp(other, name, prefix) == 0 && strstr(other + prefix, ".down_proj.weight") != NULL;
    }
    return count;
}

/* Where the data of a wanted tensor lies: the whole of a tensor, or a part of a fused one. */
typedef struct weft_place {
    const weft_source *source;
    int64_t first;
} weft_place;

static void find_place(weft_import *im, const weft_hf_tensors *wanted, const weft_hf_tensor *t,
                       weft_place *place) {
    char fused[FUSED_NAME], have[SHAPE_TEXT], want[SHAPE_TEXT];
    int64_t expert, shape[WEFT_PARAM_DIMS];
    int part, ndim = t->ndim;
    memcpy(shape, t->shape, sizeof shape);
    weft_source *s = find_source(im, t->name);
    *place = (weft_place){.source = s};
    if (!s && fused_name(t->name, fused, &expert, &part) && (s = find_source(im, fused)) != NULL) {
        int parts = part == 2 ? 1 : 2;
        ndim = 3;
        shape[0] = count_experts(wanted, t->name);
        shape[1] = t->shape[0] * parts;
        shape[2] = t->shape[1];
        *place = (weft_place){.source = s, .first = (expert * parts + part % 2) * t->numel};
    }
    if (!s) {
        problem(im, "missing tensor %s %s", t->name, shape_text(ndim, shape, want));
        return;
    }
    bool first_use = !s->used;
    s->used = true;
    if (!first_use) return; /* another part of a fused tensor that was compared already */
    if (s->tensor->ndim != ndim || memcmp(s->tensor->shape, shape, (size_t)ndim * sizeof *shape) != 0)
        problem(im, "tensor %s has the shape %s; the model needs %s", s->tensor->name,
                shape_text(s->tensor->ndim, s->tensor->shape, have), shape_text(ndim, shape, want));
    else if (s->tensor->kind == WEFT_ST_OTHER)
        problem(im, "tensor %s has dtype %s; weights are F32, F16, BF16 or F64", s->tensor->name,
                s->tensor->dtype);
}

static weft_status compare(weft_import *im, const weft_hf_tensors *wanted, json_t *map, weft_place *places) {
    if (map) check_index(im, map);
    for (int64_t i = 0; i < wanted->count; i++) find_place(im, wanted, &wanted->list[i], &places[i]);
    for (int64_t i = 0; i < im->source_count; i++)
        if (!im->sources[i].used)
            problem(im, "unexpected tensor %.*s: the model of %s has none of that name", NAME_SHOWN,
                    im->sources[i].tensor->name, WEFT_HF_CONFIG);
    if (im->problems > MAX_REPORTED)
        WEFT_FAIL(WEFT_EINPUT, "%s: %lld tensors do not fit the model; the first %d are listed above",
                  im->dir, (long long)im->problems, MAX_REPORTED);
    if (im->problems)
        WEFT_FAIL(WEFT_EINPUT, "%s: %lld tensors do not fit the model", im->dir, (long long)im->problems);
    return WEFT_OK;
}

/* ---- reading ------------------------------------------------------------------------------------------ */

static weft_status read_tensors(const weft_hf_tensors *wanted, const weft_place *places, weft_real *flat) {
    for (int64_t i = 0; i < wanted->count; i++) {
        int64_t at = places[i].first;
        for (int64_t k = 0; k < wanted->list[i].count; k++) {
            const weft_param *row = wanted->list[i].rows[k];
            WEFT_TRY(weft_st_read(places[i].source->file, places[i].source->tensor, at, row->numel,
                                  flat + row->at));
            at += row->numel;
        }
    }
    return WEFT_OK;
}

/* Opens model.safetensors, or what the index names; `*map` is the index' weight_map (borrowed from *index)
 * then. */
static weft_status open_all(weft_import *im, json_t **index, json_t **map) {
    if (has_file(im->dir, WEFT_HF_SINGLE)) {
        im->files = calloc(1, sizeof *im->files);
        if (!im->files) WEFT_FAIL(WEFT_ENOMEM, "%s: no memory for its list of files", im->dir);
        return open_file(im, WEFT_HF_SINGLE);
    }
    if (!has_file(im->dir, WEFT_HF_INDEX))
        WEFT_FAIL(WEFT_EINPUT, "%s: has neither %s nor %s; weights in other formats are not read", im->dir,
                  WEFT_HF_SINGLE, WEFT_HF_INDEX);
    WEFT_TRY(weft_hf_read_json(im->dir, WEFT_HF_INDEX, index));
    *map = json_object_get(*index, "weight_map");
    if (!json_is_object(*map)) WEFT_FAIL(WEFT_EINPUT, "%s/%s: has no weight_map", im->dir, WEFT_HF_INDEX);
    return open_indexed(im, *map);
}

weft_status weft_hf_read_weights(const char *dir, const weft_params *p, weft_real *flat) {
    weft_import im = {.dir = dir};
    json_t *index = NULL, *map = NULL;
    weft_hf_tensors wanted = {0};
    weft_place *places = NULL;
    weft_status status;
    WEFT_GOTO(status, done, open_all(&im, &index, &map));
    WEFT_GOTO(status, done, list_sources(&im));
    WEFT_GOTO(status, done, weft_hf_group(&wanted, p));
    places = calloc((size_t)wanted.count + 1, sizeof *places);
    if (!places) {
        status = weft_fail(WEFT_ENOMEM, "%s: no memory for its list of tensors", dir);
        goto done;
    }
    WEFT_GOTO(status, done, compare(&im, &wanted, map, places));
    memset(flat, 0, (size_t)p->flat * sizeof *flat); /* the gaps between tensors stay zero */
    status = read_tensors(&wanted, places, flat);
done:
    for (int64_t i = 0; i < im.file_count; i++) weft_st_close(im.files[i]);
    free(im.files);
    free(im.sources);
    free(places);
    weft_hf_tensors_free(&wanted);
    json_decref(index);
    return status;
}
