/* Embedding table: rows out, gradients of rows in. */
#include "cpu/rows.h"

#include <omp.h>

void CPU_OP(embedding_fwd)(weft_device *d, weft_act *y_, const weft_act *table_, const int32_t *ids,
                           int64_t M, int64_t D) {
    if (d->dry) return;
    weft_real *y = y_;
    const weft_real *table = table_;
#pragma omp parallel for schedule(static) num_threads(cpu_team(d, M *D))
    for (int64_t m = 0; m < M; m++) {
        if (m + CPU_AHEAD < M) cpu_prefetch(table + ids[m + CPU_AHEAD] * D, D);
        memcpy(y + m * D, table + ids[m] * D, (size_t)D * sizeof *y);
    }
}

/* Every thread walks all tokens in order, over columns of its own: no two threads meet in one element, and
 * the order of the sum is that of m. Columns are cut at cache lines. */
void CPU_OP(embedding_bwd)(weft_device *d, weft_real *dtable, const weft_act *dy_, const int32_t *ids,
                           int64_t M, int64_t D, int64_t V) {
    (void)V;
    if (d->dry) return;
    const weft_real *dy = dy_;
    const int64_t line = 64 / (int64_t)sizeof *dtable;
#pragma omp parallel num_threads(cpu_team(d, M *D))
    {
        int64_t begin, end;
        cpu_slice(D, line, omp_get_thread_num(), omp_get_num_threads(), &begin, &end);
        for (int64_t m = 0; m < M && begin < end; m++) {
            if (m + CPU_AHEAD < M) cpu_prefetch(dtable + ids[m + CPU_AHEAD] * D + begin, end - begin);
            weft_real *to = dtable + ids[m] * D + begin;
            const weft_real *from = dy + m * D + begin;
            V_LOOP(j, n, end - begin, v_store_n(to + j, v_load_n(to + j, n) + v_load_n(from + j, n), n););
        }
    }
}
