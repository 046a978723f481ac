/* Boxes of tensors: where they meet, and how they lie in memory. */
#include "train/ckpt_internal.h"

#include <string.h>

bool weft_box_bytes(const int64_t *dims, int n, size_t element, int64_t *bytes) {
    int64_t product = (int64_t)element;
    for (int d = 0; d < n; d++)
        if (dims[d] < 0 || __builtin_mul_overflow(product, dims[d], &product)) return false;
    *bytes = product;
    return true;
}

int64_t weft_box_volume(const weft_box *b) {
    int64_t product = 1;
    for (int d = 0; d < b->ndim; d++) product *= b->extent[d];
    return product;
}

bool weft_box_inside(const weft_box *b, const int64_t *shape) {
    int64_t bytes;
    if (b->ndim < 1 || b->ndim > WEFT_CKPT_MAX_DIMS) return false;
    for (int d = 0; d < b->ndim; d++) {
        if (shape[d] < 1 || b->offset[d] < 0 || b->extent[d] < 0) return false;
        if (b->extent[d] > shape[d] || b->offset[d] > shape[d] - b->extent[d]) return false;
    }
    return weft_box_bytes(shape, b->ndim, sizeof(double), &bytes);
}

bool weft_box_intersect(const weft_box *a, const weft_box *b, weft_box *out) {
    weft_box r = {.ndim = a->ndim};
    for (int d = 0; d < a->ndim; d++) {
        int64_t end_a = a->offset[d] + a->extent[d], end_b = b->offset[d] + b->extent[d];
        int64_t end = end_a < end_b ? end_a : end_b;
        r.offset[d] = a->offset[d] > b->offset[d] ? a->offset[d] : b->offset[d];
        if (end <= r.offset[d]) return false;
        r.extent[d] = end - r.offset[d];
    }
    *out = r;
    return true;
}

bool weft_box_equal(const weft_box *a, const weft_box *b) {
    if (a->ndim != b->ndim) return false;
    for (int d = 0; d < a->ndim; d++)
        if (a->offset[d] != b->offset[d] || a->extent[d] != b->extent[d]) return false;
    return true;
}

int64_t weft_box_start(const weft_box *outer, const weft_box *inner) {
    int64_t at = 0;
    for (int d = 0; d < outer->ndim; d++) at = at * outer->extent[d] + (inner->offset[d] - outer->offset[d]);
    return at;
}

bool weft_box_dense(const weft_box *outer, const weft_box *inner) {
    int d = 0;
    while (d < outer->ndim && inner->extent[d] == 1) d++;
    /* The first dim that is longer than one may be cut; those behind it must be whole. */
    for (d++; d < outer->ndim; d++)
        if (inner->extent[d] != outer->extent[d]) return false;
    return true;
}

void weft_box_copy(const weft_box *what, const weft_box *from_box, const void *from, const weft_box *to_box,
                   void *to, size_t element) {
    int last = what->ndim - 1;
    size_t row = (size_t)what->extent[last] * element;
    int64_t rows = weft_box_volume(what) / what->extent[last];
    weft_box at = *what;
    for (int64_t r = 0; r < rows; r++) {
        int64_t rest = r;
        for (int d = last - 1; d >= 0; d--) {
            at.offset[d] = what->offset[d] + rest % what->extent[d];
            rest /= what->extent[d];
        }
        memcpy((char *)to + (size_t)weft_box_start(to_box, &at) * element,
               (const char *)from + (size_t)weft_box_start(from_box, &at) * element, row);
    }
}
