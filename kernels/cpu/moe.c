/* Moving tokens to experts and back. */
#include "cpu/rows.h"

/* The rows of a later token's slots. */
static inline void fetch_slots(const weft_real *x, const int32_t *slot_of, int64_t m, int64_t M, int64_t k,
                               int64_t D) {
    for (int64_t i = (m + 1) * k; i < (m + 2) * k && m + 1 < M; i++) cpu_prefetch(x + slot_of[i] * D, D);
}

/* A counting sort in blocks of slots: each block counts its experts, the counts become first places (all of
 * expert 0 block by block, then expert 1, ...), each block fills its places. */
#define SORT_BLOCK 8192

void CPU_OP(moe_sort)(weft_device *d, int64_t *offsets, int32_t *slot_of, int32_t *row_of, const int32_t *ids,
                      int64_t M, int64_t k, int64_t X) {
    int64_t slots = M * k, blocks = (slots + SORT_BLOCK - 1) / SORT_BLOCK;
    size_t mark = weft_arena_mark(&d->act);
    int64_t *place = weft_arena_push(&d->act, (size_t)(blocks * X) * sizeof *place);
    if (d->dry) {
        weft_arena_release(&d->act, mark);
        return;
    }
    int team = cpu_team(d, slots);
#pragma omp parallel for schedule(static) num_threads(team)
    for (int64_t b = 0; b < blocks; b++) {
        int64_t end = (b + 1) * SORT_BLOCK < slots ? (b + 1) * SORT_BLOCK : slots;
        memset(place + b * X, 0, (size_t)X * sizeof *place);
        for (int64_t i = b * SORT_BLOCK; i < end; i++) place[b * X + ids[i]]++;
    }
    int64_t first = 0;
    for (int64_t x = 0; x < X; x++) {
        offsets[x] = first;
        for (int64_t b = 0; b < blocks; b++) {
            int64_t count = place[b * X + x];
            place[b * X + x] = first;
            first += count;
        }
    }
    offsets[X] = first;
#pragma omp parallel for schedule(static) num_threads(team)
    for (int64_t b = 0; b < blocks; b++) {
        int64_t end = (b + 1) * SORT_BLOCK < slots ? (b + 1) * SORT_BLOCK : slots;
        for (int64_t i = b * SORT_BLOCK; i < end; i++) {
            int64_t to = place[b * X + ids[i]]++;
            slot_of[i] = (int32_t)to;
            row_of[to] = (int32_t)(i / k);
        }
    }
    weft_arena_release(&d->act, mark);
}

/* offsets[x] first counts on from the first place of expert x, and so ends at that of x + 1. */
void CPU_OP(moe_regroup)(weft_device *d, int64_t *offsets, int32_t *row_of, int32_t *place_of,
                         const int64_t *all, int64_t sources, int64_t X, int64_t first, int64_t count,
                         int64_t n) {
    (void)n;
    if (d->dry) return;
    int64_t place = 0, row = 0;
    for (int64_t x = 0; x < count; x++) {
        offsets[x] = place;
        for (int64_t s = 0; s < sources; s++) {
            const int64_t *from = all + s * (X + 1) + first + x;
            place += from[1] - from[0];
        }
    }
    for (int64_t s = 0; s < sources; s++)
        for (int64_t x = 0; x < count; x++) {
            const int64_t *from = all + s * (X + 1) + first + x, rows = from[1] - from[0], at = offsets[x];
            for (int64_t i = 0; i < rows; i++) {
                row_of[at + i] = (int32_t)(row + i);
                place_of[row + i] = (int32_t)(at + i);
            }
            row += rows;
            offsets[x] += rows;
        }
    for (int64_t x = count; x > 0; x--) offsets[x] = offsets[x - 1];
    offsets[0] = 0;
}

void CPU_OP(gather_rows)(weft_device *d, weft_act *y_, const weft_act *x_, const int32_t *row_of, int64_t n,
                         int64_t D) {
    if (d->dry) return;
    weft_real *y = y_;
    const weft_real *x = x_;
#pragma omp parallel for schedule(static) num_threads(cpu_team(d, n *D))
    for (int64_t i = 0; i < n; i++) {
        if (i + CPU_AHEAD < n) cpu_prefetch(x + row_of[i + CPU_AHEAD] * D, D);
        memcpy(y + i * D, x + row_of[i] * D, (size_t)D * sizeof *y);
    }
}

void CPU_OP(gather_rows_bwd)(weft_device *d, weft_act *dx_, const weft_act *dy_, const int32_t *slot_of,
                             int64_t M, int64_t k, int64_t D, bool accumulate) {
    if (d->dry) return;
    weft_real *dx = dx_;
    const weft_real *dy = dy_;
#pragma omp parallel for schedule(static) num_threads(cpu_team(d, M *k *D))
    for (int64_t m = 0; m < M; m++) {
        const int32_t *slot = slot_of + m * k;
        weft_real *to = dx + m * D;
        fetch_slots(dy, slot_of, m, M, k, D);
        V_LOOP(j, n, D, {
            vreal sum = v_load_n(dy + slot[0] * D + j, n);
            for (int64_t s = 1; s < k; s++) sum += v_load_n(dy + slot[s] * D + j, n);
            if (accumulate) sum += v_load_n(to + j, n);
            v_store_n(to + j, sum, n);
        });
    }
}

void CPU_OP(permute_real)(weft_device *d, weft_real *y, const weft_real *x, const int32_t *place_of,
                          int64_t n, bool inverse) {
    if (d->dry) return;
#pragma omp parallel for schedule(static) num_threads(cpu_team(d, n))
    for (int64_t i = 0; i < n; i++)
        if (inverse)
            y[i] = x[place_of[i]];
        else
            y[place_of[i]] = x[i];
}

void CPU_OP(moe_combine)(weft_device *d, weft_act *y_, const weft_act *x_, const weft_real *w,
                         const int32_t *slot_of, int64_t M, int64_t k, int64_t D) {
    if (d->dry) return;
    weft_real *y = y_;
    const weft_real *x = x_;
#pragma omp parallel for schedule(static) num_threads(cpu_team(d, M *k *D))
    for (int64_t m = 0; m < M; m++) {
        const int32_t *slot = slot_of + m * k;
        const weft_real *share = w + m * k;
        fetch_slots(x, slot_of, m, M, k, D);
        V_LOOP(j, n, D, {
            vreal sum = {0};
            for (int64_t s = 0; s < k; s++) sum += v_set1(share[s]) * v_load_n(x + slot[s] * D + j, n);
            v_store_n(y + m * D + j, sum, n);
        });
    }
}

void CPU_OP(moe_combine_bwd)(weft_device *d, weft_act *dx_, weft_real *dw, const weft_act *dy_,
                             const weft_act *x_, const weft_real *w, const int32_t *slot_of, int64_t M,
                             int64_t k, int64_t D) {
    if (d->dry) return;
    weft_real *dx = dx_;
    const weft_real *dy = dy_, *x = x_;
#pragma omp parallel for schedule(static) num_threads(cpu_team(d, M *k *D))
    for (int64_t i = 0; i < M * k; i++) {
        const weft_real *from = dy + i / k * D, *out = x + slot_of[i] * D;
        weft_real *to = dx + slot_of[i] * D;
        vreal share = v_set1(w[i]), sums[4] = {{0}};
        if (i + CPU_AHEAD < M * k) cpu_prefetch(x + slot_of[i + CPU_AHEAD] * D, D);
        V_LOOP_SUM(j, n, acc, sums, D, {
            vreal g = v_load_n(from + j, n);
            *acc += g * v_load_n(out + j, n);
            v_store_n(to + j, share * g, n);
        });
        dw[i] = v_sum4(sums);
    }
}
