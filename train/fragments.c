#include "train/fragments.h"

#include <stdio.h>
#include <stdlib.h>

static const char *const kind_names[WEFT_FRAGMENT_KINDS] = {"param", "adam_m", "adam_v"};

weft_status weft_fragments_make(weft_fragment_list *out, const weft_params *p, weft_real *const *flats,
                                int kinds, int64_t first, int64_t stride) {
    size_t most = (size_t)(kinds * p->count);
    weft_fragment_list l = {.fragments = calloc(most, sizeof *l.fragments),
                            .names = calloc(most, sizeof *l.names)};
    if (!l.fragments || !l.names) {
        weft_fragments_free(&l);
        WEFT_FAIL(WEFT_ENOMEM, "no memory to list %lld tensors", (long long)p->count);
    }
    for (int k = 0; k < kinds; k++)
        for (int64_t i = first; i < p->count; i += stride) {
            const weft_param *row = &p->rows[i];
            weft_fragment *f = &l.fragments[l.count];
            char *name = l.names[l.count++];
            snprintf(name, sizeof *l.names, "%s/%s", kind_names[k], row->name);
            *f = (weft_fragment){
                .name = name, .dtype = WEFT_REAL_DTYPE, .ndim = row->ndim, .data = flats[k] + row->offset};
            for (int d = 0; d < row->ndim; d++) f->shape[d] = f->extent[d] = row->shape[d];
        }
    *out = l;
    return WEFT_OK;
}

void weft_fragments_free(weft_fragment_list *l) {
    free(l->fragments);
    free(l->names);
    *l = (weft_fragment_list){0};
}
