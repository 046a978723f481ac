/* Control collectives, on 1, 2 and 4 ranks. */
#include "parallel/comm.h"
#include "parallel/world.h"
#include "support/suite.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static weft_world g_w;

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
        ck_assert_uint_eq(bytes, 0);
    }
    free(all);
    ck_assert_int_eq(weft_world_gather_bytes(NULL, 0, &all, &bytes), WEFT_OK);
    ck_assert_uint_eq(bytes, 0);
    free(all);
}
END_TEST

START_TEST(numbers_reach_every_rank) {
    int32_t mine = 10 + g_w.rank, all[64], told = g_w.rank == g_w.size - 1 ? 77 : 0;
    ck_assert_int_eq(weft_world_sum_i64(g_w.rank + 1), g_w.size * (g_w.size + 1) / 2);
    ck_assert_int_eq(weft_world_max_i64(g_w.rank), g_w.size - 1);
    ck_assert_int_eq(weft_world_max_i64(-5), -5);
    weft_world_allgather(&mine, all, sizeof mine);
    for (int r = 0; r < g_w.size; r++) ck_assert_int_eq(all[r], 10 + r);
    weft_world_bcast(&told, sizeof told, g_w.size - 1);
    ck_assert_int_eq(told, 77);
    weft_world_barrier();
}
END_TEST

/* Ranks of one machine are consecutive, in the order of their local ranks. */
START_TEST(ranks_are_numbered_by_machine) {
    int first = g_w.rank - g_w.local_rank, all[64], here = 0;
    weft_world_allgather(&first, all, sizeof first);
    for (int r = 0; r < g_w.size; r++) {
        bool within = r >= first && r < first + g_w.local_size;
        ck_assert_int_eq(all[r] == first, within);
        here += within;
    }
    ck_assert_int_eq(here, g_w.local_size);
}
END_TEST

/* Each part is a world of its own: other numbers, other sums; then the whole is back. */
START_TEST(a_world_comes_apart_and_together) {
    for (int parts = 1; parts <= g_w.size; parts++) {
        weft_world sub;
        int part = -1, of[64], ranks[64];
        weft_world_split(&g_w, parts, &sub, &part);
        ck_assert(part >= 0 && part < parts);
        ck_assert_int_ge(sub.size, g_w.size / parts);
        ck_assert_int_le(sub.size, (g_w.size + parts - 1) / parts);
        ck_assert_int_eq(weft_world_sum_i64(1), sub.size);
        ck_assert_int_eq(weft_world_sum_i64(part), part * sub.size);
        weft_world_allgather(&sub.rank, ranks, sizeof sub.rank);
        for (int r = 0; r < sub.size; r++) ck_assert_int_eq(ranks[r], r);
        /* One part's failure is not another's. */
        ck_assert_int_eq(weft_world_agree(part == 0 ? WEFT_EIO : WEFT_OK), part == 0 ? WEFT_EIO : WEFT_OK);
        weft_world_join(&g_w);
        weft_world_allgather(&part, of, sizeof part);
        for (int r = 0; r < g_w.size; r++) {
            ck_assert_int_ge(of[r], r ? of[r - 1] : 0); /* neighbours */
            ck_assert_int_le(of[r], r ? of[r - 1] + 1 : 0);
        }
        ck_assert_int_eq(of[g_w.size - 1], parts - 1);
        ck_assert_int_eq(weft_world_sum_i64(1), g_w.size);
    }
}
END_TEST

/* Counted and recorded once a communicator with a ledger is attached, and not before or after. */
START_TEST(an_attached_ledger_sees_them) {
    weft_mesh_sizes want = {.size = {g_w.size, 1, 1, 1, 1}};
    weft_mesh mesh;
    weft_comm c;
    char dir[] = "/tmp/weft_world_XXXXXX", command[64];
    ck_assert_int_eq(weft_mesh_make(&mesh, &want, g_w.size, g_w.rank), WEFT_OK);
    ck_assert_int_eq(weft_comm_open(&c, &mesh, 1, false, NULL), WEFT_OK);
    ck_assert(g_w.rank != 0 || mkdtemp(dir));
    weft_world_bcast(dir, sizeof dir, 0);
    ck_assert_int_eq(weft_ledger_open(&c.ledger, dir, &mesh, 1), WEFT_OK);
    weft_world_attach(&c);
    weft_ledger_step_begin(c.ledger, 1);
    ck_assert_int_eq(weft_world_agree(WEFT_OK), WEFT_OK);
    (void)weft_world_sum_i64(1);
    weft_world_barrier();
    weft_ledger_step_end(c.ledger);
    int64_t step[WEFT_AXES + 1], expected = 2 * 8 * (g_w.size - 1);
    weft_ledger_step_bytes(c.ledger, step);
    ck_assert_int_eq(c.bytes[WEFT_AXES], expected);
    ck_assert_int_eq(step[WEFT_AXES], expected);

    weft_ledger *ledger = c.ledger;
    c.ledger = NULL;
    weft_ledger_close(ledger);
    weft_world_barrier();
    weft_comm_close(&c);
    (void)weft_world_sum_i64(1); /* the communicator is gone */
    snprintf(command, sizeof command, "rm -r %s", dir);
    if (g_w.rank == 0) ck_assert_int_eq(system(command), 0);
}
END_TEST

int main(int argc, char **argv) {
    const TTest *const tests[] = {status_is_agreed,
                                  bytes_are_gathered_in_rank_order,
                                  numbers_reach_every_rank,
                                  ranks_are_numbered_by_machine,
                                  a_world_comes_apart_and_together,
                                  an_attached_ledger_sees_them};
    if (weft_world_init(&argc, &argv, &g_w) != WEFT_OK) return 1;
    int code = weft_world_exit_code(suite_run("world", tests, (int)(sizeof tests / sizeof *tests)));
    weft_world_finalize();
    return code;
}
