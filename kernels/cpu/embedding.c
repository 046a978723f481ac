/* Embedding table: rows out, gradients of rows in. */
#include "cpu/rows.h"

#include <omp.h>

/* Place of `id` in a table of V rows from `first` on, or -1. */
static inline int64_t place_of(int32_t id, int64_t first, int64_t V) {
    int64_t place = id - first;
    return place >= 0 && place < V ? place : -1;
}

void CPU_OP(embedding_fwd)(weft_device *d, weft_act *y_, const weft_act *table_, const int32_t *ids,
                           int64_t M, int64_t D, int64_t first, int64_t V) {
    if (d->dry) return;
    weft_real *y = y_;
    const weft_real *table = table_;
#pragma omp parallel for schedule(static) num_threads(cpu_team(d, M *D))
    for (int64_t m = 0; m < M; m++) {
        int64_t ahead = m + CPU_AHEAD < M ? place_of(ids[m + CPU_AHEAD], first, V) : -1;
        int64_t place = place_of(ids[m], first, V);
        if (ahead >= 0) cpu_prefetch(table + ahead * D, D);
        if (place >= 0)
            memcpy(y + m * D, table + place * D, (size_t)D * sizeof *y);
        else
            memset(y + m * D, 0, (size_t)D * sizeof *y);
    }
}

/* Every thread walks all tokens in order, over columns of its own: no two threads meet in one element, and
 * the order of the sum is that of m. Columns are cut at cache lines. */
void CPU_OP(embedding_bwd)(weft_device *d, weft_real *dtable, const weft_act *dy_, const int32_t *ids,
                           int64_t M, int64_t D, int64_t first, int64_t V) {
    if (d->dry) return;
    const weft_real *dy = dy_;
    const int64_t line = 64 / (int64_t)sizeof *dtable;
#pragma omp parallel num_threads(cpu_team(d, M *D))
    {
        int64_t begin, end;
        cpu_slice(D, line, omp_get_thread_num(), omp_get_num_threads(), &begin, &end);
        for (int64_t m = 0; m < M && begin < end; m++) {
            int64_t ahead = m + CPU_AHEAD < M ? place_of(ids[m + CPU_AHEAD], first, V) : -1;
            int64_t place = place_of(ids[m], first, V);
            if (ahead >= 0) cpu_prefetch(dtable + ahead * D + begin, end - begin);
            if (place < 0) continue;
            weft_real *to = dtable + place * D + begin;
            const weft_real *from = dy + m * D + begin;
            V_LOOP(j, n, end - begin, v_store_n(to + j, v_load_n(to + j, n) + v_load_n(from + j, n), n););
        }
    }
}
