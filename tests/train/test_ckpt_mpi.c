/* Checkpoints over ranks: any layout reads what any layout wrote; a failure of one rank is everyone's. */
#include "runtime/log.h"
#include "support/suite.h"
#include "train/made_ckpt.h"

#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

static weft_world g_w;
static const made_cut g_cuts[] = {{1, 1}, {4, 1}, {1, 3}, {2, 2}, {6, 5}};
enum { CUTS = sizeof g_cuts / sizeof *g_cuts };
static const weft_ckpt_options keep_all = {.keep = 1000};

/* Entries of RUN/checkpoints whose name contains `text`. */
static int entries(const char *run, const char *text) {
    char path[512];
    struct dirent *e;
    int n = 0;
    snprintf(path, sizeof path, "%s/checkpoints", run);
    DIR *d = opendir(path);
    while (d && (e = readdir(d))) n += strstr(e->d_name, text) != NULL;
    if (d) closedir(d);
    return n;
}

START_TEST(any_layout_reads_any_layout) {
    char run[256], path[512];
    bool found;
    made_run(&g_w, run);
    for (int a = 0; a < CUTS; a++) {
        for (int compress = 0; compress < 2; compress++) {
            weft_ckpt_options o = keep_all;
            weft_ckpt_state state = made_state(2 * a + compress + 1);
            o.compress = compress;
            made_fragments f = made_new(g_cuts[a], g_w.rank, g_w.size, 10 * a + compress);
            ck_assert_int_eq(weft_ckpt_save(&g_w, run, &state, f.list, f.count, &o), WEFT_OK);
            made_free(f);
            ck_assert_int_eq(weft_ckpt_find(&g_w, run, &found, path, sizeof path), WEFT_OK);
            ck_assert(found);
            for (int b = 0; b < CUTS; b++) {
                made_fragments g = made_new(g_cuts[b], g_w.size - 1 - g_w.rank, g_w.size, -1);
                ck_assert_int_eq(weft_ckpt_load(&g_w, path, g.list, g.count), WEFT_OK);
                ck_assert_msg(made_equals(g, 10 * a + compress), "written as %d, read as %d", a, b);
                ck_assert(!made_equals(g, 99));
                made_free(g);
            }
            /* Everything on every rank, too. */
            made_fragments all = made_new(g_cuts[a], 0, 1, -1);
            ck_assert_int_eq(weft_ckpt_load(&g_w, path, all.list, all.count), WEFT_OK);
            ck_assert(made_equals(all, 10 * a + compress));
            made_free(all);
        }
    }
    weft_world_barrier();
    if (g_w.rank == 0) made_remove(run);
}
END_TEST

START_TEST(state_comes_back) {
    char run[256], path[512] = "";
    bool found;
    weft_ckpt_state got, state = made_state(7);
    made_run(&g_w, run);
    made_fragments f = made_new(g_cuts[1], g_w.rank, g_w.size, 1);
    ck_assert_int_eq(weft_ckpt_save(&g_w, run, &state, f.list, f.count, &keep_all), WEFT_OK);
    made_free(f);
    ck_assert_int_eq(weft_ckpt_find(&g_w, run, &found, path, sizeof path), WEFT_OK);
    ck_assert_ptr_nonnull(strstr(path, "/checkpoints/step_00000007"));
    ck_assert_int_eq(weft_ckpt_read_state(&g_w, path, &got), WEFT_OK);
    ck_assert_int_eq(got.step, 7);
    ck_assert_uint_eq(got.samples, state.samples);
    ck_assert_int_eq(got.tokens, state.tokens);
    ck_assert_uint_eq(got.seed, UINT64_MAX - 1);
    ck_assert_mem_eq(&got.tokenizer, &state.tokenizer, sizeof got.tokenizer);
    ck_assert_mem_eq(&got.data, &state.data, sizeof got.data);
    ck_assert_str_eq(got.config_yaml, state.config_yaml);
    weft_ckpt_state_free(&got);
    weft_world_barrier();
    if (g_w.rank == 0) made_remove(run);
}
END_TEST

START_TEST(full_disk_of_one_rank_fails_on_all_and_spoils_nothing) {
    char run[256], path[512];
    bool found;
    struct rlimit before, small;
    int last = g_w.size - 1;
    weft_ckpt_state one = made_state(1), two = made_state(2);
    made_run(&g_w, run);
    made_fragments f = made_new(g_cuts[4], g_w.rank, g_w.size, 1);
    ck_assert_int_eq(weft_ckpt_save(&g_w, run, &one, f.list, f.count, &keep_all), WEFT_OK);
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &before);
    small = before;
    small.rlim_cur = 2000;
    if (g_w.rank == last) setrlimit(RLIMIT_FSIZE, &small);
    weft_status st = weft_ckpt_save(&g_w, run, &two, f.list, f.count, &keep_all);
    setrlimit(RLIMIT_FSIZE, &before);
    ck_assert_int_eq(st, g_w.rank == last ? WEFT_EIO : WEFT_EREMOTE);
    weft_world_barrier();
    ck_assert_int_eq(entries(run, ".tmp."), 0);
    ck_assert_int_eq(weft_ckpt_find(&g_w, run, &found, path, sizeof path), WEFT_OK);
    ck_assert_ptr_nonnull(strstr(path, "step_00000001"));
    /* There is room again. */
    ck_assert_int_eq(weft_ckpt_save(&g_w, run, &two, f.list, f.count, &keep_all), WEFT_OK);
    ck_assert_int_eq(weft_ckpt_find(&g_w, run, &found, path, sizeof path), WEFT_OK);
    ck_assert_ptr_nonnull(strstr(path, "step_00000002"));
    made_free(f);
    weft_world_barrier();
    if (g_w.rank == 0) made_remove(run);
}
END_TEST

START_TEST(tensors_passed_twice_or_in_part_are_not_committed) {
    char run[256];
    bool found = true;
    weft_ckpt_state state = made_state(1);
    made_run(&g_w, run);
    made_fragments all = made_new((made_cut){1, 1}, 0, 1, 1);
    weft_status want = g_w.rank == 0 ? WEFT_EINTERNAL : WEFT_EREMOTE;
    if (g_w.size > 1)
        ck_assert_int_eq(weft_ckpt_save(&g_w, run, &state, all.list, all.count, &keep_all), want);
    made_fragments halves = made_new((made_cut){2, 1}, 0, 2, 1);
    int64_t mine = g_w.rank == 0 ? halves.count : 0;
    ck_assert_int_eq(weft_ckpt_save(&g_w, run, &state, halves.list, mine, &keep_all), want);
    weft_world_barrier();
    ck_assert_int_eq(entries(run, "step_"), 0);
    ck_assert_int_eq(weft_ckpt_find(&g_w, run, &found, NULL, 0), WEFT_OK);
    ck_assert(!found);
    made_free(all);
    made_free(halves);
    weft_world_barrier();
    if (g_w.rank == 0) made_remove(run);
}
END_TEST

START_TEST(one_rank_that_asks_for_too_much_fails_on_all) {
    char run[256], path[512];
    bool found;
    weft_ckpt_state state = made_state(1);
    int last = g_w.size - 1;
    made_run(&g_w, run);
    made_fragments f = made_new(g_cuts[3], g_w.rank, g_w.size, 1);
    ck_assert_int_eq(weft_ckpt_save(&g_w, run, &state, f.list, f.count, &keep_all), WEFT_OK);
    made_free(f);
    ck_assert_int_eq(weft_ckpt_find(&g_w, run, &found, path, sizeof path), WEFT_OK);
    made_fragments g = made_new(g_cuts[0], 0, 1, -1);
    if (g_w.rank == last) g.list[0].name = "param/nowhere";
    ck_assert_int_eq(weft_ckpt_load(&g_w, path, g.list, g.count),
                     g_w.rank == last ? WEFT_EINPUT : WEFT_EREMOTE);
    made_free(g);
    weft_world_barrier();
    if (g_w.rank == 0) made_remove(run);
}
END_TEST

int main(int argc, char **argv) {
    const TTest *const tests[] = {
        any_layout_reads_any_layout, state_comes_back, full_disk_of_one_rank_fails_on_all_and_spoils_nothing,
        tensors_passed_twice_or_in_part_are_not_committed, one_rank_that_asks_for_too_much_fails_on_all};
    if (weft_world_init(&argc, &argv, &g_w) != WEFT_OK) return 1;
    int code = weft_world_exit_code(suite_run("ckpt over ranks", tests, sizeof tests / sizeof *tests));
    weft_world_finalize();
    return code;
}
