/* Collectives, on 1, 2 and 4 ranks. */
#include "parallel/world.h"
#include "runtime/rng.h"
#include "support/suite.h"

#include <string.h>

static weft_world g_w;

/* Value that rank r (of leaves) holds at i: exact sums would hide the order, so these round. */
static weft_real leaf(int r, int64_t i) {
    return (weft_real)weft_rng_normal(weft_rng_make((uint64_t)r, "leaf"), (uint64_t)i);
}

START_TEST(sums_follow_the_tree) {
    /* 4 leaves in a tree: the ranks hold 4/size each, summed locally in the same tree. */
    const int64_t sizes[] = {1, 3, 1000, (1 << 20) + 7};
    for (int s = 0; s < 4; s++) {
        int64_t n = sizes[s];
        weft_real *x = malloc((size_t)n * sizeof *x);
        void *work = malloc(weft_world_sum_work(n, g_w.size) + 1);
        int each = 4 / g_w.size, first = g_w.rank * each;
        for (int64_t i = 0; i < n; i++) {
            weft_real l[4] = {0};
            for (int k = 0; k < each; k++) l[k] = leaf(first + k, i);
            x[i] = each == 4 ? (l[0] + l[1]) + (l[2] + l[3]) : each == 2 ? l[0] + l[1] : l[0];
        }
        weft_world_sum_real(x, n, work);
        for (int64_t i = 0; i < n; i += 1 + n / 1000) {
            weft_real want = (leaf(0, i) + leaf(1, i)) + (leaf(2, i) + leaf(3, i));
            ck_assert_msg(memcmp(&want, &x[i], sizeof want) == 0, "element %lld of %lld: %.9g, wanted %.9g",
                          (long long)i, (long long)n, (double)x[i], (double)want);
        }
        free(work);
        free(x);
    }
}
END_TEST

START_TEST(status_is_agreed) {
    ck_assert_int_eq(weft_world_agree(WEFT_OK), WEFT_OK);
    int last = g_w.size - 1;
    weft_status st = weft_world_agree(g_w.rank == last ? WEFT_EIO : WEFT_OK);
    ck_assert_int_eq(st, g_w.rank == last ? WEFT_EIO : WEFT_EREMOTE);
    ck_assert_int_eq(weft_world_exit_code(g_w.rank == last ? 2 : 0), 2);
    ck_assert(weft_world_any(g_w.rank == last));
    ck_assert(!weft_world_any(false));
}
END_TEST

START_TEST(bytes_are_gathered_in_rank_order) {
    char mine[8], *all = NULL;
    size_t bytes = 0;
    memset(mine, 'a' + g_w.rank, sizeof mine);
    ck_assert_int_eq(weft_world_gather_bytes(mine, (size_t)g_w.rank + 1, &all, &bytes), WEFT_OK);
    if (g_w.rank == 0) {
        size_t at = 0;
        for (int r = 0; r < g_w.size; r++)
            for (int k = 0; k <= r; k++) ck_assert_int_eq(all[at++], 'a' + r);
        ck_assert_uint_eq(at, bytes);
    } else {
        ck_assert_ptr_null(all);
    }
    free(all);
    ck_assert_int_eq(weft_world_sum_i64(g_w.rank + 1), g_w.size * (g_w.size + 1) / 2);
    ck_assert_int_eq(weft_world_max_i64(g_w.rank), g_w.size - 1);
}
END_TEST

int main(int argc, char **argv) {
    const TTest *const tests[] = {sums_follow_the_tree, status_is_agreed, bytes_are_gathered_in_rank_order};
    if (weft_world_init(&argc, &argv, &g_w) != WEFT_OK) return 1;
    int code = weft_world_exit_code(suite_run("world", tests, 3));
    weft_world_finalize();
    return code;
}
