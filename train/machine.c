#include "train/machine.h"
#include "parallel/world.h"
#include "train/clock.h"

double weft_machine_gemm_flops(weft_device *d) {
    enum { M = 1024, N = 512, K = 512, RUNS = 20 };
    const size_t bytes = (size_t)(M * K + N * K + M * N) * sizeof(weft_real);
    double best = 0;
    weft_arena scratch = {0};
    if (weft_arena_init(&scratch, "calibration", bytes) == WEFT_OK) {
        weft_real *x = weft_arena_push(&scratch, 0), *wt = x + M * K, *y = wt + N * K;
        for (int i = 0; i < M * K + N * K; i++) x[i] = (weft_real)(1 + i % 7);
        for (int run = 0; run < RUNS; run++) {
            double begin = weft_clock();
            d->ops->linear_fwd(d, y, N, x, K, wt, NULL, M, N, K, false);
            double rate = 2.0 * M * N * K / (weft_clock() - begin);
            if (rate > best) best = rate;
        }
        weft_arena_destroy(&scratch);
    }
    int64_t all = weft_world_sum_i64((int64_t)best);
    return all > 0 ? (double)all : 1;
}
