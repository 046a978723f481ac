/* Linear layers of groups of rows (experts): the tiles of all groups form one list, so that a large group is
 * shared by all threads and small ones fill the gaps. */
#include "cpu/blas.h"

enum product { FORWARD, DATA_GRADIENT, WEIGHT_GRADIENT };

typedef struct problem {
    enum product product;
    const int64_t *offsets;
    int64_t g, n, k;
} problem;

/* The tiles of group i, whose C is [*rows, *cols]. */
static blas_grid group_tiles(const problem *p, int64_t i, int64_t *rows, int64_t *cols) {
    const int64_t r = p->offsets[i + 1] - p->offsets[i], n = p->n, k = p->k;
    *rows = p->product == WEIGHT_GRADIENT ? n : r;
    *cols = p->product == FORWARD ? n : k;
    if (r == 0) return (blas_grid){0};
    return p->product == FORWARD         ? blas_tiles(r, n, k, k, k)
           : p->product == DATA_GRADIENT ? blas_tiles(r, k, n, n, k)
                                         : blas_tiles(n, k, r, n, k);
}

/* First tile of each group in the list; first[g] is their number. */
static int64_t list_tiles(const problem *p, int64_t *first) {
    int64_t rows, cols;
    first[0] = 0;
    for (int64_t i = 0; i < p->g; i++) {
        const blas_grid grid = group_tiles(p, i, &rows, &cols);
        first[i + 1] = first[i] + grid.rows * grid.cols;
    }
    return first[p->g];
}

static int64_t group_of(const int64_t *first, int64_t g, int64_t index) {
    int64_t low = 0, high = g; /* first[low] <= index < first[high] */
    while (high - low > 1) {
        int64_t mid = (low + high) / 2;
        if (first[mid] <= index)
            low = mid;
        else
            high = mid;
    }
    return low;
}

/* c, a and b are y, x, w | dx, dy, w | dw, dy, x. */
static void run(weft_device *d, const problem *p, weft_real *c, const weft_real *a, const weft_real *b,
                int64_t stride) {
    const int64_t n = p->n, k = p->k;
    size_t mark = weft_arena_mark(&d->act);
    int64_t *first = weft_arena_push(&d->act, (size_t)(p->g + 1) * sizeof *first);
    if (!d->dry) {
        const int64_t tiles = list_tiles(p, first);
        int threads = blas_begin();
#pragma omp parallel for schedule(dynamic, 1) num_threads(tiles > 1 ? d->threads : 1)
        for (int64_t index = 0; index < tiles; index++) {
            const int64_t i = group_of(first, p->g, index), row = p->offsets[i];
            int64_t rows, cols;
            const blas_grid grid = group_tiles(p, i, &rows, &cols);
            const blas_tile t = blas_tile_at(&grid, index - first[i], rows, cols);
            if (p->product == FORWARD)
                blas_gemm(false, true, t.m, t.n, k, a + (row + t.i) * k, k, b + i * stride + t.j * k, k,
                          c + (row + t.i) * n + t.j, n, false);
            else if (p->product == DATA_GRADIENT)
                blas_gemm(false, false, t.m, t.n, n, a + (row + t.i) * n, n, b + i * stride + t.j, k,
                          c + (row + t.i) * k + t.j, k, false);
            else
                blas_gemm(true, false, t.m, t.n, p->offsets[i + 1] - row, a + row * n + t.i, n,
                          b + row * k + t.j, k, c + i * stride + t.i * k + t.j, k, true);
        }
        blas_end(threads);
    }
    weft_arena_release(&d->act, mark);
}

void CPU_OP(grouped_fwd)(weft_device *d, weft_act *y, const weft_act *x, const weft_act *w, int64_t stride,
                         const int64_t *offsets, int64_t g, int64_t m_max, int64_t n, int64_t k) {
    (void)m_max;
    run(d, &(problem){FORWARD, offsets, g, n, k}, y, x, w, stride);
}

void CPU_OP(grouped_dgrad)(weft_device *d, weft_act *dx, const weft_act *dy, const weft_act *w,
                           int64_t stride, const int64_t *offsets, int64_t g, int64_t m_max, int64_t n,
                           int64_t k) {
    (void)m_max;
    run(d, &(problem){DATA_GRADIENT, offsets, g, n, k}, dx, dy, w, stride);
}

void CPU_OP(grouped_wgrad)(weft_device *d, weft_real *dw, int64_t stride, const weft_act *dy,
                           const weft_act *x, const int64_t *offsets, int64_t g, int64_t m_max, int64_t n,
                           int64_t k) {
    (void)m_max;
    run(d, &(problem){WEIGHT_GRADIENT, offsets, g, n, k}, dw, dy, x, stride);
}
