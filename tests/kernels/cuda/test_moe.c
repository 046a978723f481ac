/* Moving rows to experts and back on a CUDA device. */
#include "kernels/cuda/pair.h"
#include "runtime/rng.h"
#include "support/suite.h"

#define COUNT(table) (sizeof(table) / sizeof *(table))

static const weft_dtype types[] = {WEFT_F32, WEFT_BF16};

/* Numbers below `most`. */
static void draw(int32_t *x, int64_t n, int64_t most, uint64_t seed) {
    weft_rng rng = weft_rng_make(seed, "moe");
    for (int64_t i = 0; i < n; i++) x[i] = (int32_t)(weft_rng_uniform(rng, (uint64_t)i) * (double)most);
}

enum choice { ANY, ONE_EXPERT, EVEN_ONLY };

typedef struct shape {
    int64_t M, k, X, D, shift; /* arrays of rows begin `shift` elements behind an aligned address */
    enum choice choice;
    bool accumulate, in_place;
} shape;

static const shape shapes[] = {
    {0, 2, 4, 8, 0, ANY, true, true},
    {1, 1, 1, 1, 0, ANY, false, false},
    {1, 2, 3, 24, 0, ANY, true, true},
    {3, 2, 16, 65, 0, ANY, true, false}, /* more experts than slots */
    {3, 17, 17, 5, 0, ANY, false, true},
    {17, 2, 4, 264, 0, ANY, true, false}, /* 16 bytes at a time, more than a round of a warp of bf16 */
    {9, 2, 4, 264, 3, ANY, false, true},  /* rows that could, at addresses that cannot */
    {19, 2, 4, 66, 0, ONE_EXPERT, false, true},
    {19, 3, 17, 40, 0, EVEN_ONLY, true, true},
    {1100, 2, 5, 1, 0, ANY, false, false}, /* several blocks of slots */
    {1100, 1, 3, 2, 0, ONE_EXPERT, true, true},
    {700, 3, 400, 1, 0, ANY, false, false}, /* several rounds of the scan */
};

typedef struct arrays {
    pair_array ids, offsets, slot_of, row_of, x, xs, dx, dxs, ys, y, w, dw, dy, dys;
} arrays;

static void run(weft_device *d, const pair *p, const shape *s, const arrays *a) {
    const int64_t M = s->M, k = s->k, D = s->D, shift = s->shift;
    const int32_t *slot_of = pair_at(p, a->slot_of);
    d->ops->moe_sort(d, pair_at(p, a->offsets), pair_at(p, a->slot_of), pair_at(p, a->row_of),
                     pair_at(p, a->ids), M, k, s->X);
    d->ops->gather_rows(d, pair_shift(p, a->xs, shift), pair_shift(p, a->x, shift), pair_at(p, a->row_of),
                        M * k, D);
    d->ops->gather_rows_bwd(d, pair_shift(p, a->dx, shift), pair_shift(p, a->dxs, shift), slot_of, M, k, D,
                            s->accumulate);
    d->ops->moe_combine(d, pair_shift(p, a->y, shift), pair_shift(p, a->ys, shift), pair_at(p, a->w), slot_of,
                        M, k, D);
    d->ops->moe_combine_bwd(d, pair_shift(p, s->in_place ? a->ys : a->dys, shift), pair_at(p, a->dw),
                            pair_shift(p, a->dy, shift), pair_shift(p, a->ys, shift), pair_at(p, a->w),
                            slot_of, M, k, D);
}

START_TEST(agrees_with_cpu) {
    for (size_t t = 0; t < COUNT(types); t++)
        for (size_t i = 0; i < COUNT(shapes); i++) {
            const shape *s = &shapes[i];
            const int64_t slots = s->M * s->k, narrow = s->M * s->D + s->shift,
                          wide = slots * s->D + s->shift;
            int32_t ids[2200];
            draw(ids, slots, s->X, i);
            for (int64_t j = 0; j < slots; j++) {
                if (s->choice == ONE_EXPERT) ids[j] = (int32_t)(s->X - 1);
                if (s->choice == EVEN_ONLY) ids[j] &= ~1;
            }
            pair p;
            pair_open(&p, types[t]);
            const pair_fill unit = PAIR_UNIFORM(-1, 1);
            const arrays a = {.ids = pair_i32(&p, ids, slots),
                              .offsets = pair_i64(&p, NULL, s->X + 1),
                              .slot_of = pair_i32(&p, NULL, slots),
                              .row_of = pair_i32(&p, NULL, slots),
                              .x = pair_act(&p, narrow, unit),
                              .xs = pair_act_out(&p, wide),
                              .dx = s->accumulate ? pair_act(&p, narrow, unit) : pair_act_out(&p, narrow),
                              .dxs = pair_act(&p, wide, unit),
                              .ys = pair_act(&p, wide, unit),
                              .y = pair_act_out(&p, narrow),
                              .w = pair_real(&p, slots, unit),
                              .dw = pair_real_out(&p, slots),
                              .dy = pair_act(&p, narrow, unit),
                              .dys = pair_act_out(&p, wide)};
            PAIR_RUN(&p, run(d, pair_now, s, &a));
            pair_check(&p, a.offsets, "offsets", 0);
            pair_check(&p, a.slot_of, "slot_of", 0);
            pair_check(&p, a.row_of, "row_of", 0);
            pair_check(&p, a.xs, "xs", 0);
            pair_check(&p, a.dx, "dx", 1e-6);
            pair_check(&p, a.y, "y", 1e-6);
            pair_check(&p, a.dw, "dw", 2e-6);
            pair_check(&p, a.dys, "dys", 1e-6);
            pair_check(&p, a.ys, "ys", 1e-6);
            pair_close(&p);
        }
}
END_TEST

/* What came from every source for the experts first .. first + count of X. */
static void check_regroup(int64_t sources, int64_t X, int64_t first, int64_t count, int64_t most) {
    enum { MOST = 400 };
    int32_t sizes[MOST];
    int64_t all[MOST], n = 0;
    ck_assert(sources * (X + 1) <= MOST);
    draw(sizes, sources * X, most + 1, (uint64_t)(sources * X + most));
    for (int64_t s = 0; s < sources; s++) {
        int64_t *offsets = all + s * (X + 1);
        offsets[0] = 0;
        for (int64_t x = 0; x < X; x++) offsets[x + 1] = offsets[x] + sizes[s * X + x];
        n += offsets[first + count] - offsets[first];
    }
    pair p;
    pair_open(&p, WEFT_F32);
    pair_array from = pair_i64(&p, all, sources * (X + 1)), offsets = pair_i64(&p, NULL, count + 1);
    pair_array row_of = pair_i32(&p, NULL, n), place_of = pair_i32(&p, NULL, n);
    PAIR_RUN(&p, ops->moe_regroup(d, PAIR(offsets), PAIR(row_of), PAIR(place_of), PAIR(from), sources, X,
                                  first, count, n));
    pair_check(&p, offsets, "offsets", 0);
    pair_check(&p, row_of, "row_of", 0);
    pair_check(&p, place_of, "place_of", 0);
    pair_close(&p);
}

/* One source, one expert, a rank without experts, no rows at all, pairs without rows. */
START_TEST(regroup) {
    static const int64_t cases[][5] = {
        /* sources, X, first, count, most rows of an expert from a source */
        {1, 1, 0, 1, 0}, {1, 1, 0, 1, 5}, {4, 1, 0, 1, 3},  {1, 8, 2, 3, 3},  {4, 3, 3, 0, 2},
        {2, 4, 2, 2, 1}, {3, 9, 0, 9, 2}, {5, 16, 4, 8, 9}, {16, 3, 1, 2, 0}, {40, 9, 3, 6, 2},
    };
    for (size_t i = 0; i < COUNT(cases); i++)
        check_regroup(cases[i][0], cases[i][1], cases[i][2], cases[i][3], cases[i][4]);
}
END_TEST

SUITE_MAIN("cuda moe", agrees_with_cpu, regroup)
