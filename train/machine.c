#include "train/machine.h"
#include "ops.h"
#include "parallel/world.h"
#include "train/clock.h"

enum { LEAST = 512, MOST = 4096, RUNS = 20 };
#define LONG_ENOUGH 0.005 /* seconds */

/* Matrices of n x n/2 x n/2, as often as asked; seconds. */
static double time_product(weft_device *d, void *memory, int64_t n, int runs) {
    int64_t k = n / 2;
    char *x = memory, *w = x + (size_t)(n * k) * weft_dtype_size(d->act_dtype),
         *y = w + (size_t)(k * k) * weft_dtype_size(d->act_dtype);
    weft_device_finish(d);
    double begin = weft_clock();
    for (int i = 0; i < runs; i++) d->ops->linear_fwd(d, y, k, x, k, w, NULL, n, k, k, false);
    weft_device_finish(d);
    return weft_clock() - begin;
}

/* The best of a few; on a device that is fast, of larger matrices and several at a time. */
static double measure(weft_device *d) {
    weft_arena scratch = {0};
    double best = 0;
    int64_t n = weft_device_on_host(d) ? 2 * LEAST : LEAST, most = weft_device_on_host(d) ? n : MOST;
    if (weft_device_arena(d, &scratch, "calibration", (size_t)(5 * most * most / 4) * sizeof(weft_real)) !=
        WEFT_OK)
        return 0;
    d->ops->zero(d, scratch.base, scratch.capacity);
    int runs = 1;
    for (;; n *= 2) {
        time_product(d, scratch.base, n, 1); /* the first of a size loads libraries and kernels */
        if (n == most || time_product(d, scratch.base, n, 1) >= LONG_ENOUGH) break;
    }
    while (!weft_device_on_host(d) && time_product(d, scratch.base, n, runs) < LONG_ENOUGH) runs *= 2;
    for (int i = 0; i < RUNS; i++) {
        double rate = 2.0 * (double)(n * (n / 2) * (n / 2)) * runs / time_product(d, scratch.base, n, runs);
        if (rate > best) best = rate;
        if (runs == 1 && !weft_device_on_host(d)) break;
    }
    weft_device_arena_free(d, &scratch);
    return best;
}

double weft_machine_gemm_flops(weft_device *d) {
    int64_t all = weft_world_sum_i64((int64_t)measure(d));
    return all > 0 ? (double)all : 1;
}
