#define _XOPEN_SOURCE 700
#include "train/made_ckpt.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const weft_fragment g_tensors[] = {
    {.name = "param/embedding", .dtype = WEFT_F32, .ndim = 2, .shape = {37, 19}},
    {.name = "param/layers.0.mamba.A_log", .dtype = WEFT_F32, .ndim = 1, .shape = {5}},
    {.name = "adam_m/layers.1.experts", .dtype = WEFT_F64, .ndim = 3, .shape = {3, 4, 6}},
    {.name = "adam_v/layers.1.conv", .dtype = WEFT_BF16, .ndim = 4, .shape = {2, 3, 4, 5}},
    {.name = "half", .dtype = WEFT_F16, .ndim = 2, .shape = {7, 7}},
    {.name = "counts/i32", .dtype = WEFT_I32, .ndim = 2, .shape = {1, 11}},
    {.name = "counts/i64", .dtype = WEFT_I64, .ndim = 1, .shape = {1}},
    {.name = "flags", .dtype = WEFT_U8, .ndim = 1, .shape = {3001}},
};
const int made_tensors = sizeof g_tensors / sizeof *g_tensors;

weft_fragment made_tensor(int index) {
    weft_fragment f = g_tensors[index];
    memcpy(f.extent, f.shape, sizeof f.extent);
    return f;
}

static void cut_dim(weft_fragment *f, int d, int64_t part, int64_t parts) {
    int64_t first = f->shape[d] * part / parts, end = f->shape[d] * (part + 1) / parts;
    f->offset[d] = first;
    f->extent[d] = end - first;
}

static int64_t volume(const weft_fragment *f) {
    int64_t n = 1;
    for (int d = 0; d < f->ndim; d++) n *= f->extent[d];
    return n;
}

/* Bytes of the element at this place of the fragment. */
static void value_at(const weft_fragment *f, int64_t index, int salt, unsigned char out[8]) {
    uint64_t key[2] = {0, (uint64_t)salt};
    int64_t rest = index, stride = 1;
    for (int d = f->ndim - 1; d >= 0; d--) {
        key[0] += (uint64_t)((f->offset[d] + rest % f->extent[d]) * stride);
        rest /= f->extent[d];
        stride *= f->shape[d];
    }
    uint64_t h = weft_hash64(key, sizeof key, weft_hash64_str(f->name, 0));
    memcpy(out, &h, sizeof h);
}

made_fragments made_new(made_cut cut, int rank, int size, int salt) {
    made_fragments r = {.list =
                            malloc((size_t)(made_tensors * cut.rows * cut.columns) * sizeof(weft_fragment))};
    int64_t number = 0;
    for (int t = 0; t < made_tensors; t++) {
        for (int64_t i = 0; i < cut.rows; i++) {
            for (int64_t j = 0; j < cut.columns; j++) {
                weft_fragment f = made_tensor(t);
                if (f.ndim == 1 && j > 0) continue;
                cut_dim(&f, 0, i, cut.rows);
                if (f.ndim > 1) cut_dim(&f, f.ndim - 1, j, cut.columns);
                if (number++ % size != rank) continue;
                size_t element = weft_dtype_size(f.dtype);
                f.data = malloc((size_t)volume(&f) * element + 1);
                memset(f.data, 0xEE, (size_t)volume(&f) * element);
                for (int64_t k = 0; salt >= 0 && k < volume(&f); k++) {
                    unsigned char v[8];
                    value_at(&f, k, salt, v);
                    memcpy((char *)f.data + (size_t)k * element, v, element);
                }
                r.list[r.count++] = f;
            }
        }
    }
    return r;
}

void made_free(made_fragments f) {
    for (int64_t i = 0; i < f.count; i++) free(f.list[i].data);
    free(f.list);
}

bool made_equals(made_fragments r, int salt) {
    for (int64_t i = 0; i < r.count; i++) {
        const weft_fragment *f = &r.list[i];
        size_t element = weft_dtype_size(f->dtype);
        for (int64_t k = 0; k < volume(f); k++) {
            unsigned char v[8];
            value_at(f, k, salt, v);
            if (memcmp((char *)f->data + (size_t)k * element, v, element) != 0) return false;
        }
    }
    return true;
}

void made_run(const weft_world *w, char out[256]) {
    if (w->rank == 0) {
        const char *base = getenv("TMPDIR");
        snprintf(out, 256, "%s/weft-ckpt.XXXXXX", base ? base : "/tmp");
        if (!mkdtemp(out)) abort();
    }
    weft_world_bcast(out, 256, 0);
}

static int remove_entry(const char *path, const struct stat *s, int type, struct FTW *f) {
    (void)s, (void)type, (void)f;
    return remove(path);
}

void made_remove(const char *path) {
    nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

weft_ckpt_state made_state(int64_t step) {
    static char config[] = "model:\n  layers: 8 # \"quoted\", \xc3\xa9\n";
    return (weft_ckpt_state){.step = step,
                             .samples = (uint64_t)step * 64,
                             .tokens = step * 4096,
                             .seed = UINT64_MAX - 1,
                             .tokenizer = {1, 2},
                             .data = {0, 0xffffffffffffffffull},
                             .config_yaml = config};
}
