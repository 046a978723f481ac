#include "train/fragments.h"

#include <stdio.h>
#include <stdlib.h>

static const char *const kind_names[WEFT_FRAGMENT_KINDS] = {"param", "adam_m", "adam_v"};

enum { MAX_BOXES = 3 }; /* of a run of elements of a matrix: rest of a row, whole rows, beginning of a row */

static weft_status allocate(weft_fragment_list *l, int64_t rows, int boxes) {
    *l = (weft_fragment_list){.fragments = calloc((size_t)(rows * boxes), sizeof *l->fragments),
                              .names = calloc((size_t)rows, sizeof *l->names)};
    if (!l->fragments || !l->names) {
        weft_fragments_free(l);
        WEFT_FAIL(WEFT_ENOMEM, "no memory to list %lld tensors", (long long)rows);
    }
    return WEFT_OK;
}

/* A fragment that covers the row's slice, for the caller to narrow down. */
static weft_fragment slice_of(const weft_param *row, const char *name, weft_real *data) {
    weft_fragment f = {.name = name, .dtype = WEFT_REAL_DTYPE, .ndim = row->ndim, .data = data};
    for (int d = 0; d < row->ndim; d++) {
        f.shape[d] = row->shape[d];
        f.offset[d] = row->start[d];
        f.extent[d] = row->extent[d];
    }
    return f;
}

weft_status weft_fragments_whole(weft_fragment_list *out, const weft_params *p, weft_real *const *flats,
                                 int kinds) {
    weft_fragment_list l;
    WEFT_TRY(allocate(&l, kinds * p->count, 1));
    for (int k = 0; k < kinds; k++)
        for (int64_t i = 0; i < p->count; i++) {
            const weft_param *row = &p->rows[i];
            char *name = l.names[l.count];
            snprintf(name, sizeof *l.names, "%s/%s", kind_names[k], row->name);
            l.fragments[l.count++] = slice_of(row, name, flats[k] + row->at);
        }
    *out = l;
    return WEFT_OK;
}

/* Appends elements [first, first + count) of the row's slice, which lie at `data`: rows of the matrix cut
 * into boxes. */
static void add_boxes(weft_fragment_list *l, const weft_param *row, const char *name, int64_t first,
                      int64_t count, weft_real *data) {
    int64_t width = row->ndim == 2 ? row->extent[1] : 1;
    while (count > 0) {
        int64_t column = first % width, n = width - column;
        if (n > count)
            n = count;
        else if (column == 0)
            n = count / width * width;
        weft_fragment f = slice_of(row, name, data);
        f.offset[0] += first / width;
        f.extent[0] = n <= width ? 1 : n / width;
        if (row->ndim == 2) {
            f.offset[1] += column;
            if (n < width) f.extent[1] = n;
        } else {
            f.extent[0] = n;
        }
        l->fragments[l->count++] = f;
        first += n, count -= n, data += n;
    }
}

weft_status weft_fragments_shards(weft_fragment_list *out, const weft_params *p, weft_real *const *shards,
                                  weft_replica dense, weft_replica expert, bool save) {
    weft_fragment_list l;
    weft_piece piece;
    int64_t names = 0;
    WEFT_TRY(allocate(&l, WEFT_FRAGMENT_KINDS * p->count, MAX_BOXES));
    for (int64_t i = 0; i < p->count; i++) {
        const weft_param *row = &p->rows[i];
        weft_replica same = row->expert >= 0 ? expert : dense;
        int number = row->copy * same.ranks + same.rank; /* among all that hold these elements */
        if (save && i % (row->copies * same.ranks) != number) continue;
        if (!weft_params_piece(p, row, &piece)) continue;
        WEFT_CHECK(row->ndim <= 2, "%s: a shard of a tensor of %d dims", row->name, row->ndim);
        for (int k = 0; k < WEFT_FRAGMENT_KINDS; k++) {
            char *name = l.names[names++];
            snprintf(name, sizeof *l.names, "%s/%s", kind_names[k], row->name);
            add_boxes(&l, row, name, piece.first, piece.count, shards[k] + piece.at);
        }
    }
    *out = l;
    return WEFT_OK;
}

void weft_fragments_free(weft_fragment_list *l) {
    free(l->fragments);
    free(l->names);
    *l = (weft_fragment_list){0};
}
