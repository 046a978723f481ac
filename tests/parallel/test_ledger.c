/* The ledger and the watchdog, with processes of this program's own as ranks; no MPI. */
#include "parallel/ledger_file.h"
#include "parallel/ledger_read.h"
#include "runtime/fs.h"
#include "runtime/log.h"
#include "support/suite.h"

#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MOST = 8 };

/* ---- a job in this process: every rank's ledger open at once ---- */

static char g_dir[256];

static void new_dir(void) {
    const char *base = getenv("TMPDIR");
    snprintf(g_dir, sizeof g_dir, "%s/weft-ledger.XXXXXX", base ? base : "/tmp");
    ck_assert_ptr_nonnull(mkdtemp(g_dir));
}

static weft_mesh mesh_of(int rank, int dp, int fsdp, int tp) {
    weft_mesh m;
    const weft_mesh_sizes want = {{dp, fsdp, 1, tp, 1}};
    ck_assert_int_eq(weft_mesh_make(&m, &want, dp * fsdp * tp, rank), WEFT_OK);
    return m;
}

static weft_ledger *open_one(int rank, int dp, int fsdp, int tp) {
    weft_ledger *l = NULL;
    weft_mesh m = mesh_of(rank, dp, fsdp, tp);
    ck_assert_int_eq(weft_ledger_open(&l, g_dir, &m, 1), WEFT_OK);
    return l;
}

static void open_all(weft_ledger *l[MOST], int dp, int fsdp, int tp) {
    new_dir();
    for (int r = 0; r < dp * fsdp * tp; r++) l[r] = open_one(r, dp, fsdp, tp);
}

static void close_all(weft_ledger *l[MOST], int n) {
    for (int r = 0; r < n; r++) weft_ledger_close(l[r]);
    weft_fs_remove_tree(g_dir);
}

static uint64_t enter(weft_ledger *l, weft_group_kind g, weft_collective op, const char *tensor,
                      int64_t bytes) {
    uint64_t record = weft_ledger_enter(l, g, op, tensor, bytes);
    weft_ledger_wait(l, record);
    return record;
}

static void pass(weft_ledger *l, weft_group_kind g, weft_collective op, const char *tensor, int64_t bytes) {
    weft_ledger_leave(l, enter(l, g, op, tensor, bytes));
}

/* A rank does not outlive a test that has failed. */
static pid_t fork_rank(void) {
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) prctl(PR_SET_PDEATHSIG, SIGKILL);
    return pid;
}

static void pause_ms(int ms) {
    struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L};
    nanosleep(&t, NULL);
}

/* Without patience: whoever waits, waits for too long. */
static const char *verdict(bool *parted) {
    static char text[4096];
    weft_ledger_job *j;
    ck_assert_int_eq(weft_ledger_job_open(&j, g_dir, NULL, 0), WEFT_OK);
    weft_ledger_job_examine(j, 0, text, sizeof text, parted);
    weft_ledger_job_close(j);
    printf("  %s\n", text);
    return text;
}

#define ck_assert_says(text, part) ck_assert_msg(strstr(text, part), "\"%s\" lacks \"%s\"", text, part)
#define ck_assert_silent(text, part) ck_assert_msg(!strstr(text, part), "\"%s\" has \"%s\"", text, part)

/* ---- records ---- */

START_TEST(the_ring_keeps_the_last_records) {
    weft_ledger *l[MOST];
    weft_ledger_job *j;
    weft_ledger_record r;
    const int total = 2 * WEFT_LEDGER_RECORDS + 100;
    char name[32];
    open_all(l, 1, 2, 1);
    for (int i = 1; i <= total; i++) {
        snprintf(name, sizeof name, "tensor.%d", i);
        pass(l[0], i % 4 ? WEFT_GROUP_SHARD : WEFT_GROUP_WORLD, WEFT_ALL_GATHER, name, i);
    }
    ck_assert_int_eq(weft_ledger_job_open(&j, g_dir, NULL, 0), WEFT_OK);
    const weft_ledger_rank *k = weft_ledger_job_rank(j, 0);
    ck_assert_uint_eq(k->last, total);
    ck_assert_uint_eq(k->first, total - WEFT_LEDGER_RECORDS + 1);
    ck_assert(!weft_ledger_job_record(j, 0, k->first - 1, &r));
    for (uint64_t s = k->first; s <= k->last; s++) {
        snprintf(name, sizeof name, "tensor.%d", (int)s);
        ck_assert(weft_ledger_job_record(j, 0, s, &r));
        ck_assert_str_eq(r.tensor, name);
        ck_assert_int_eq(r.bytes, (int64_t)s);
        ck_assert_int_eq(r.state, WEFT_RECORD_COMPLETE);
        ck_assert_int_eq(r.group, s % 4 ? WEFT_GROUP_SHARD : WEFT_GROUP_WORLD);
        ck_assert_uint_eq(r.group_sequence, s % 4 ? s - s / 4 : s / 4);
        ck_assert(r.entered <= r.waited && r.waited <= r.left);
        weft_ledger_record same;
        ck_assert(weft_ledger_job_group_record(j, 0, r.group, r.group_sequence, &same));
        ck_assert_uint_eq(same.sequence, s);
    }
    ck_assert_uint_eq(k->group_last[WEFT_GROUP_WORLD], total / 4);
    ck_assert(!weft_ledger_job_group_record(j, 0, WEFT_GROUP_WORLD, total / 4 + 1, &r));
    ck_assert_uint_eq(weft_ledger_job_rank(j, 1)->last, 0);
    weft_ledger_job_close(j);
    close_all(l, 2);
}
END_TEST

START_TEST(long_names_are_cut_and_old_records_left_alone) {
    weft_ledger *l[MOST];
    weft_ledger_job *j;
    weft_ledger_record r;
    open_all(l, 1, 1, 1);
    uint64_t first = weft_ledger_enter(l[0], WEFT_GROUP_WORLD, WEFT_BARRIER,
                                       "a.name.of.more.than.forty-seven.characters.is.cut.behind.them", 0);
    for (int i = 0; i < WEFT_LEDGER_RECORDS; i++)
        weft_ledger_enter(l[0], WEFT_GROUP_WORLD, WEFT_AGREE, NULL, 0);
    weft_ledger_leave(l[0], first); /* another record stands there now */
    ck_assert_int_eq(weft_ledger_job_open(&j, g_dir, NULL, 0), WEFT_OK);
    ck_assert(weft_ledger_job_record(j, 0, first + WEFT_LEDGER_RECORDS, &r));
    ck_assert_int_eq(r.state, WEFT_RECORD_STARTED);
    ck_assert_str_eq(r.tensor, "");
    weft_ledger_job_close(j);
    first = weft_ledger_enter(l[0], WEFT_GROUP_WORLD, WEFT_BARRIER,
                              "a.name.of.more.than.forty-seven.characters.is.cut.behind.them", 0);
    ck_assert_int_eq(weft_ledger_job_open(&j, g_dir, NULL, 0), WEFT_OK);
    ck_assert(weft_ledger_job_record(j, 0, first, &r));
    ck_assert_str_eq(r.tensor, "a.name.of.more.than.forty-seven.characters.is.c");
    weft_ledger_job_close(j);
    close_all(l, 1);
}
END_TEST

/* What rank 0 waits in: a record's number, or 0. */
static uint64_t waits_in(void) {
    weft_ledger_job *j;
    ck_assert_int_eq(weft_ledger_job_open(&j, g_dir, NULL, 0), WEFT_OK);
    uint64_t record = weft_ledger_job_rank(j, 0)->waits_in;
    weft_ledger_job_close(j);
    return record;
}

START_TEST(a_device_waits_in_one_record) {
    weft_ledger *l[MOST];
    open_all(l, 1, 1, 1);
    uint64_t a = weft_ledger_enter(l[0], WEFT_GROUP_WORLD, WEFT_ALL_REDUCE, "a", 1);
    uint64_t b = weft_ledger_enter(l[0], WEFT_GROUP_WORLD, WEFT_ALL_REDUCE, "b", 1);
    ck_assert_uint_eq(waits_in(), 0);
    weft_ledger_wait_device(l[0], a);
    weft_ledger_wait_device(l[0], a);
    ck_assert(waits_in() == a && ledger_waits_in(l[0]) == a);
    weft_ledger_leave(l[0], a);
    ck_assert(waits_in() == 0 && ledger_waits_in(l[0]) == 0);
    weft_ledger_wait_device(l[0], b);
    ck_assert(waits_in() == b && ledger_waits_in(l[0]) == b);
    /* The host waits in one of its own, and comes back. */
    uint64_t c = enter(l[0], WEFT_GROUP_WORLD, WEFT_AGREE, "c", 1);
    ck_assert(waits_in() == c && ledger_waits_in(l[0]) == c);
    weft_ledger_leave(l[0], c);
    weft_ledger_wait_device(l[0], b);
    ck_assert(waits_in() == b && ledger_waits_in(l[0]) == b);
    weft_ledger_activity(l[0], "reading the batch");
    ck_assert(waits_in() == 0 && ledger_waits_in(l[0]) == 0);
    weft_ledger_wait_device(l[0], b);
    ck_assert(waits_in() == b && ledger_waits_in(l[0]) == b);
    weft_ledger_leave(l[0], b);
    ck_assert(waits_in() == 0 && ledger_waits_in(l[0]) == 0);
    close_all(l, 1);
}
END_TEST

START_TEST(nothing_is_done_without_a_ledger) {
    int64_t bytes[WEFT_AXES + 1] = {1};
    uint64_t record = weft_ledger_enter(NULL, WEFT_GROUP_WORLD, WEFT_BARRIER, "x", 1);
    weft_ledger_wait(NULL, record);
    weft_ledger_wait_device(NULL, record);
    weft_ledger_leave(NULL, record);
    weft_ledger_activity(NULL, "nothing");
    weft_ledger_step_begin(NULL, 1);
    weft_ledger_step_end(NULL);
    weft_ledger_step_bytes(NULL, bytes);
    ck_assert_int_eq(bytes[0], 0);
    weft_ledger_close(NULL);
    weft_watchdog_stop(NULL);
}
END_TEST

START_TEST(bytes_are_summed_by_axis_and_step) {
    weft_ledger *l[MOST];
    weft_ledger_job *j;
    int64_t bytes[WEFT_AXES + 1], want[WEFT_AXES + 1] = {0};
    open_all(l, 2, 2, 2);
    pass(l[0], WEFT_GROUP_TP, WEFT_ALL_REDUCE, "before", 1 << 20);
    weft_ledger_step_bytes(l[0], bytes);
    ck_assert_mem_eq(bytes, want, sizeof want);
    for (int step = 5; step <= 6; step++) {
        weft_ledger_step_begin(l[0], step);
        pass(l[0], WEFT_GROUP_TP, WEFT_ALL_REDUCE, "a", 3 * step);
        pass(l[0], WEFT_GROUP_KV, WEFT_ALL_REDUCE, "a", 100);
        pass(l[0], WEFT_GROUP_SHARD, WEFT_ALL_GATHER, "b", 10 * step);
        pass(l[0], WEFT_GROUP_SHARD, WEFT_REDUCE_SCATTER, "b", 1);
        pass(l[0], WEFT_GROUP_REPLICA, WEFT_ALL_REDUCE, "c", 7);
        pass(l[0], WEFT_GROUP_WORLD, WEFT_AGREE, "d", 8);
        weft_ledger_step_end(l[0]);
        pass(l[0], WEFT_GROUP_TP, WEFT_ALL_REDUCE, "between", 1 << 20);
    }
    weft_ledger_step_begin(l[0], 7); /* not ended: its bytes do not count */
    pass(l[0], WEFT_GROUP_TP, WEFT_ALL_REDUCE, "a", 1 << 20);
    want[WEFT_AXIS_TP] = 118;
    want[WEFT_AXIS_FSDP] = 61;
    want[WEFT_AXIS_DP] = 7;
    want[WEFT_AXES] = 8;
    weft_ledger_step_bytes(l[0], bytes);
    ck_assert_mem_eq(bytes, want, sizeof want);
    ck_assert_int_eq(weft_ledger_job_open(&j, g_dir, NULL, 0), WEFT_OK);
    const weft_ledger_rank *k = weft_ledger_job_rank(j, 0);
    ck_assert_mem_eq(k->bytes, want, sizeof want);
    ck_assert_int_eq(k->whole_step, 6);
    ck_assert_int_eq(k->step, 7);
    ck_assert_int_eq(weft_ledger_job_rank(j, 1)->whole_step, -1);
    weft_ledger_job_close(j);
    close_all(l, 8);
}
END_TEST

/* A reader never sees half a record: each one's name says its number. */
START_TEST(records_are_read_while_they_are_written) {
    char name[48];
    new_dir();
    weft_ledger *other = open_one(1, 1, 2, 1);
    pid_t pid = fork_rank();
    if (pid == 0) {
        weft_ledger *l = open_one(0, 1, 2, 1);
        for (int64_t i = 1;; i++) {
            snprintf(name, sizeof name, "a.tensor.with.a.rather.long.name.%d", (int)i);
            weft_ledger_activity(l, "%s", name);
            pass(l, WEFT_GROUP_SHARD, WEFT_ALL_GATHER, name, i);
        }
    }
    char path[300];
    snprintf(path, sizeof path, "%s/rank_00000.ledger", g_dir);
    while (access(path, F_OK) != 0) pause_ms(1);
    uint64_t seen = 0;
    for (int round = 0; round < 100; round++) {
        weft_ledger_job *j;
        weft_ledger_record r;
        ck_assert_int_eq(weft_ledger_job_open(&j, g_dir, NULL, 0), WEFT_OK);
        const weft_ledger_rank *k = weft_ledger_job_rank(j, 0);
        ck_assert_int_eq(k->state, WEFT_RANK_ALIVE);
        for (uint64_t s = k->last > 50 ? k->last - 50 : 1; s <= k->last; s++) {
            if (!weft_ledger_job_record(j, 0, s, &r)) continue;
            snprintf(name, sizeof name, "a.tensor.with.a.rather.long.name.%d", (int)s);
            ck_assert_str_eq(r.tensor, name);
            ck_assert_int_eq(r.bytes, (int64_t)s);
        }
        ck_assert(k->last == 0 || strncmp(k->activity, "a.tensor.with.a.rather.long.name.", 33) == 0);
        seen = k->last;
        weft_ledger_job_close(j);
    }
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    ck_assert_uint_gt(seen, WEFT_LEDGER_RECORDS);
    weft_ledger_close(other);
    weft_fs_remove_tree(g_dir);
}
END_TEST

/* ---- verdicts ---- */

START_TEST(all_in_step_and_finished) {
    weft_ledger *l[MOST];
    bool parted;
    open_all(l, 1, 4, 1);
    const char *v = verdict(&parted);
    ck_assert(!parted);
    ck_assert_says(v, "all ranks are in step");
    for (int r = 0; r < 4; r++) pass(l[r], WEFT_GROUP_SHARD, WEFT_ALL_GATHER, "layers.1", 64);
    /* Started ahead, or waiting in what all have entered: nobody waits for another. */
    weft_ledger_enter(l[0], WEFT_GROUP_SHARD, WEFT_ALL_GATHER, "layers.2", 64);
    v = verdict(&parted);
    ck_assert(!parted);
    ck_assert_says(
        v,
        "all ranks are in step: last complete collective layers.1 (all_gather, fsdp group of ranks 0 1 2 3, "
        "number 1)");
    for (int r = 1; r < 4; r++) enter(l[r], WEFT_GROUP_SHARD, WEFT_ALL_GATHER, "layers.2", 64);
    weft_ledger_activity(l[0], "step 2: forward");
    v = verdict(&parted);
    ck_assert(!parted);
    ck_assert_says(
        v,
        "no rank is missing: ranks 1 2 3 have waited in layers.2 (all_gather, fsdp group of ranks 0 1 2 3, "
        "number 2) for 0.");
    ck_assert_says(v, "which all its members have entered; rank 0 (alive, process ");
    ck_assert_says(v, "was at: step 2: forward");
    for (int r = 0; r < 4; r++) weft_ledger_close(l[r]);
    ck_assert_str_eq(verdict(&parted), "all ranks finished");
    ck_assert(!parted);
    weft_fs_remove_tree(g_dir);
}
END_TEST

START_TEST(one_rank_behind) {
    weft_ledger *l[MOST];
    bool parted;
    char text[4096];
    open_all(l, 1, 4, 1);
    for (int r = 0; r < 4; r++) pass(l[r], WEFT_GROUP_SHARD, WEFT_ALL_GATHER, "layers.1", 64);
    weft_ledger_step_begin(l[2], 12);
    weft_ledger_activity(l[2], "step 12: reading the batch");
    for (int r = 0; r < 4; r++)
        if (r != 2) enter(l[r], WEFT_GROUP_SHARD, WEFT_ALL_GATHER, "layers.2", 64);
    const char *v = verdict(&parted);
    ck_assert(parted);
    ck_assert_says(v, "rank 2 never entered layers.2 (all_gather, fsdp group of ranks 0 1 2 3, number 2): "
                      "ranks 0 1 3 have "
                      "waited in it for 0.");
    ck_assert_says(v, "rank 2 (alive, process ");
    ck_assert_says(v, "was at: step 12: reading the batch (for 0.");
    ck_assert_says(v, "last: all_gather of layers.1 (number 1 of fsdp)");
    /* A wait of a moment is no parting of a live job. */
    ck_assert_int_eq(weft_ledger_examine(g_dir, text, sizeof text, &parted), WEFT_OK);
    ck_assert(!parted);
    ck_assert_says(text, "all ranks are in step");
    ck_assert_says(text, "rank 2 has not entered layers.2");
    /* A rank that has finished will never come. */
    weft_ledger_close(l[2]);
    l[2] = NULL;
    ck_assert_int_eq(weft_ledger_examine(g_dir, text, sizeof text, &parted), WEFT_OK);
    ck_assert(parted);
    ck_assert_says(text, "rank 2 (finished,");
    close_all(l, 4);
}
END_TEST

START_TEST(two_ranks_part) {
    weft_ledger *l[MOST];
    bool parted;
    open_all(l, 2, 2, 1);
    for (int r = 0; r < 4; r++) pass(l[r], WEFT_GROUP_SHARD, WEFT_ALL_GATHER, "layers.0", 512);
    enter(l[2], WEFT_GROUP_SHARD, WEFT_ALL_GATHER, "layers.1", 1024);
    enter(l[3], WEFT_GROUP_SHARD, WEFT_REDUCE_SCATTER, "layers.7", 2048);
    const char *v = verdict(&parted);
    ck_assert(parted);
    ck_assert_says(v, "ranks 2 3 part at number 2 of the fsdp group of ranks 2 3: rank 2 all_gather of "
                      "layers.1 (1024 bytes), "
                      "rank 3 reduce_scatter of layers.7 (2048 bytes)");
    close_all(l, 4);
}
END_TEST

START_TEST(sizes_that_must_agree) {
    weft_ledger *l[MOST];
    bool parted;
    open_all(l, 1, 2, 1);
    for (int r = 0; r < 2; r++) pass(l[r], WEFT_GROUP_WORLD, WEFT_BROADCAST, "config", r ? 100 : 0);
    for (int r = 0; r < 2; r++) pass(l[r], WEFT_GROUP_EP, WEFT_ALL_TO_ALL, "layers.1.moe.dispatch", 10 * r);
    verdict(&parted);
    ck_assert(!parted);
    for (int r = 0; r < 2; r++) pass(l[r], WEFT_GROUP_SHARD, WEFT_ALL_GATHER, "layers.1", 64 + r);
    const char *v = verdict(&parted);
    ck_assert(parted);
    ck_assert_says(v, "rank 0 all_gather of layers.1 (64 bytes), rank 1 all_gather of layers.1 (65 bytes)");
    close_all(l, 2);
}
END_TEST

START_TEST(one_rank_leaves_a_collective_out) {
    weft_ledger *l[MOST];
    bool parted;
    const char *const names[] = {"layers.2", "layers.3", "layers.4"};
    open_all(l, 1, 4, 1);
    for (int r = 0; r < 4; r++)
        for (int i = 0; i < 3; i++) pass(l[r], WEFT_GROUP_SHARD, WEFT_ALL_GATHER, names[i], 64);
    for (int r = 0; r < 4; r++) pass(l[r], WEFT_GROUP_SHARD, WEFT_ALL_GATHER, names[0], 64);
    for (int r = 0; r < 4; r++) enter(l[r], WEFT_GROUP_SHARD, WEFT_ALL_GATHER, names[r == 1 ? 2 : 1], 64);
    const char *v = verdict(&parted);
    ck_assert(parted);
    ck_assert_says(
        v, "rank 1 parts from the others at number 5 of the fsdp group of ranks 0 1 2 3: ranks 0 2 3 "
           "all_gather of "
           "layers.3 (64 bytes), rank 1 all_gather of layers.4 (64 bytes); rank 1 left out the all_gather of "
           "layers.3");
    close_all(l, 4);
}
END_TEST

/* In the first step nothing has come before; but the others have gone on to where it is. */
START_TEST(one_rank_is_a_collective_ahead) {
    weft_ledger *l[MOST];
    bool parted;
    open_all(l, 1, 4, 1);
    for (int r = 0; r < 4; r++)
        for (int i = r == 1; i < 3; i++)
            enter(l[r], WEFT_GROUP_SHARD, WEFT_ALL_GATHER,
                  i == 0   ? "layers.3"
                  : i == 1 ? "layers.4"
                           : "layers.5",
                  64);
    ck_assert_says(verdict(&parted), "; rank 1 left out the all_gather of layers.3");
    ck_assert(parted);
    close_all(l, 4);
}
END_TEST

/* 2 x tp 2: rank 0 waits in tp for 1, which waits in fsdp for 3, which waits for none. */
START_TEST(a_chain_is_followed) {
    weft_ledger *l[MOST];
    bool parted;
    open_all(l, 1, 2, 2);
    enter(l[0], WEFT_GROUP_TP, WEFT_ALL_REDUCE, "layers.5.mamba", 8);
    enter(l[1], WEFT_GROUP_SHARD, WEFT_ALL_GATHER, "layers.6", 8);
    weft_ledger_activity(l[3], "writing a checkpoint");
    const char *v = verdict(&parted);
    ck_assert(parted);
    ck_assert_says(
        v,
        "rank 3 never entered layers.6 (all_gather, fsdp group of ranks 1 3, number 1): rank 1 has waited in "
        "it");
    ck_assert_says(v, "rank 0 waits behind it");
    ck_assert_says(v, "rank 3 (alive, process ");
    ck_assert_says(v, "writing a checkpoint");
    ck_assert_silent(v, "rank 1 never");
    close_all(l, 4);
}
END_TEST

START_TEST(ranks_that_wait_for_each_other) {
    weft_ledger *l[MOST];
    bool parted;
    open_all(l, 1, 2, 1);
    enter(l[0], WEFT_GROUP_WORLD, WEFT_BARRIER, "save", 0);
    enter(l[1], WEFT_GROUP_SHARD, WEFT_ALL_GATHER, "layers.0", 8);
    const char *v = verdict(&parted);
    ck_assert(parted);
    ck_assert_says(
        v, "rank 1 never entered save (barrier, world group of ranks 0 1, number 1): rank 0 has waited in it "
           "for 0.");
    ck_assert_says(
        v, "they wait for each other: rank 1 has waited for rank 0 in layers.0 (all_gather, fsdp group of "
           "ranks 0 1, number 1) for 0.");
    close_all(l, 2);
    open_all(l, 1, 2, 2); /* all four in a circle */
    enter(l[0], WEFT_GROUP_TP, WEFT_ALL_REDUCE, "a", 0);
    enter(l[1], WEFT_GROUP_SHARD, WEFT_ALL_GATHER, "b", 8);
    enter(l[3], WEFT_GROUP_TP, WEFT_ALL_REDUCE, "c", 0);
    enter(l[2], WEFT_GROUP_SHARD, WEFT_ALL_GATHER, "d", 8);
    v = verdict(&parted);
    ck_assert(parted);
    ck_assert_says(v, "rank 1 never entered a (");
    ck_assert_says(
        v,
        "they wait for each other: rank 1 has waited for rank 3 in b (all_gather, fsdp group of ranks 1 3, "
        "number 1) for 0.0 s, rank 3 has waited for rank 2 in c (");
    ck_assert_says(v, ", rank 2 has waited for rank 0 in d (");
    close_all(l, 4);
}
END_TEST

/* Rank 1 of 4 leaves out layers.3 and comes to a collective of all ranks, in which nobody meets it. */
START_TEST(past_a_collective_into_another) {
    weft_ledger *l[MOST];
    bool parted;
    open_all(l, 1, 4, 1);
    for (int r = 0; r < 4; r++) {
        if (r != 1) enter(l[r], WEFT_GROUP_SHARD, WEFT_ALL_GATHER, "layers.3", 8);
        if (r == 1) enter(l[r], WEFT_GROUP_WORLD, WEFT_AGREE, "save", 8);
    }
    const char *v = verdict(&parted);
    ck_assert(parted);
    ck_assert_says(
        v,
        "rank 1 never entered layers.3 (all_gather, fsdp group of ranks 0 1 2 3, number 1): ranks 0 2 3 have "
        "waited in it for 0.");
    ck_assert_says(v, "they wait for each other: rank 1 has waited for rank 0 in save (agree, ");
    ck_assert_silent(v, "behind");
    close_all(l, 4);
}
END_TEST

/* Members that do not need to meet, as in a send, may be further on. */
START_TEST(waits_behind_what_a_rank_never_entered) {
    weft_ledger *l[MOST];
    bool parted;
    open_all(l, 1, 8, 1);
    for (int r = 0; r < 8; r++)
        if (r != 5 && r != 6) pass(l[r], WEFT_GROUP_SHARD, WEFT_SEND_RECV, "layers.1.halo", 8);
    for (int r = 0; r < 8; r++)
        if (r != 5 && r != 6) enter(l[r], WEFT_GROUP_SHARD, WEFT_ALL_GATHER, "layers.2", 8);
    const char *v = verdict(&parted);
    ck_assert(parted);
    ck_assert_says(
        v,
        "ranks 5 6 never entered layers.1.halo (send_recv, fsdp group of ranks 0 1 2 3 4 5 6 7, number 1): "
        "ranks 0 1 2 3 4 7 have waited behind it, in layers.2 (all_gather, ");
    ck_assert_says(v, "; rank 5 (alive, process ");
    ck_assert_says(v, "; rank 6 (alive, process ");
    close_all(l, 8);
}
END_TEST

/* ---- death ---- */

/* Starts a process that opens its ledger, runs `work`, tells on a pipe that it is ready, and sleeps. */
static pid_t start_rank(int rank, int dp, int fsdp, void (*work)(weft_ledger *l, int rank)) {
    int ends[2];
    char ready;
    ck_assert_int_eq(pipe(ends), 0);
    pid_t pid = fork_rank();
    if (pid == 0) {
        weft_ledger *l = open_one(rank, dp, fsdp, 1);
        work(l, rank);
        if (write(ends[1], "r", 1) != 1) _exit(9);
        for (;;) pause();
    }
    close(ends[1]);
    ck_assert_int_eq(read(ends[0], &ready, 1), 1);
    close(ends[0]);
    return pid;
}

static void kill_rank(pid_t pid) {
    ck_assert_int_eq(kill(pid, SIGKILL), 0);
    ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
}

static void three_and_a_wait(weft_ledger *l, int rank) {
    weft_ledger_step_begin(l, 3);
    weft_ledger_activity(l, "step 3: forward");
    for (int i = 0; i < 3; i++) pass(l, WEFT_GROUP_SHARD, WEFT_ALL_GATHER, "layers.8", 64);
    if (rank == 0) enter(l, WEFT_GROUP_SHARD, WEFT_ALL_GATHER, "layers.9", 64);
}

START_TEST(records_survive_a_kill) {
    bool parted;
    char text[4096];
    weft_ledger_job *j;
    weft_ledger_record r;
    new_dir();
    pid_t waiting = start_rank(0, 1, 2, three_and_a_wait), pid = start_rank(1, 1, 2, three_and_a_wait);
    verdict(&parted);
    ck_assert(parted);
    kill_rank(pid);
    ck_assert_int_eq(weft_ledger_job_open(&j, g_dir, NULL, 0), WEFT_OK);
    const weft_ledger_rank *k = weft_ledger_job_rank(j, 1);
    ck_assert_int_eq(k->state, WEFT_RANK_DIED);
    ck_assert_int_eq(weft_ledger_job_rank(j, 0)->state, WEFT_RANK_ALIVE);
    ck_assert_int_eq(k->pid, pid);
    ck_assert_uint_eq(k->last, 3);
    ck_assert(weft_ledger_job_record(j, 1, 3, &r));
    ck_assert_str_eq(r.tensor, "layers.8");
    weft_ledger_job_close(j);
    ck_assert_int_eq(weft_ledger_examine(g_dir, text, sizeof text, &parted), WEFT_OK);
    printf("  %s\n", text);
    ck_assert(parted);
    ck_assert_says(text, "rank 1 died (process ");
    ck_assert_says(text, "it was at step 3: forward");
    ck_assert_says(text, "last: all_gather of layers.8 (number 3 of fsdp)");
    ck_assert_says(
        text,
        "rank 1 never entered layers.9 (all_gather, fsdp group of ranks 0 1, number 4): rank 0 has waited in "
        "it");
    kill_rank(waiting);
    ck_assert_says(verdict(&parted), "all ranks died");
    ck_assert(parted);
    weft_fs_remove_tree(g_dir);
}
END_TEST

/* A watchdog's looks tell who was gone first when nobody was left to say so. */
static void live_with_a_watchdog(weft_ledger *l, int rank) {
    weft_watchdog *w;
    (void)rank;
    if (weft_watchdog_start(&w, l, "/nonexistent", 0) != WEFT_OK) _exit(9);
}

START_TEST(the_first_dead_is_named_afterwards) {
    bool parted;
    pid_t pid[3];
    new_dir();
    for (int r = 0; r < 3; r++) pid[r] = start_rank(r, 1, 3, live_with_a_watchdog);
    pause_ms(150);
    kill_rank(pid[1]);
    pause_ms(700);
    kill_rank(pid[0]);
    kill_rank(pid[2]);
    const char *v = verdict(&parted);
    ck_assert(parted);
    ck_assert_says(v, "rank 1 died first (process ");
    ck_assert_says(v, "ranks 0 2 died after it");
    weft_fs_remove_tree(g_dir);
}
END_TEST

/* Whether it has entered or not: a process that is stopped holds up the others. */
START_TEST(a_stopped_process_is_named) {
    bool parted;
    new_dir();
    pid_t pid = start_rank(1, 1, 2, three_and_a_wait);
    weft_ledger *l = open_one(0, 1, 2, 1);
    three_and_a_wait(l, 0);
    kill(pid, SIGSTOP);
    ck_assert_int_eq(waitpid(pid, NULL, WUNTRACED), pid);
    const char *v = verdict(&parted);
    ck_assert(parted);
    ck_assert_says(v, "rank 1 is stopped by a signal (process ");
    ck_assert_says(v, "it was at step 3: forward");
    ck_assert_says(v, "rank 1 never entered layers.9 (");
    ck_assert_silent(v, "in step");
    kill_rank(pid);
    weft_ledger_close(l);
    weft_fs_remove_tree(g_dir);
}
END_TEST

/* exit() at any place is no end in order. */
START_TEST(an_exit_is_a_death) {
    bool parted;
    new_dir();
    pid_t pid = fork_rank();
    if (pid == 0) {
        open_one(0, 1, 1, 1);
        _exit(0);
    }
    ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
    ck_assert_says(verdict(&parted), "rank 0 died");
    ck_assert(parted);
    weft_fs_remove_tree(g_dir);
}
END_TEST

/* ---- files ---- */

START_TEST(a_directory_in_use_is_refused) {
    weft_ledger *l, *second;
    new_dir();
    l = open_one(0, 1, 1, 1);
    weft_mesh m = mesh_of(0, 1, 1, 1);
    weft_log_set_level(WEFT_LOG_ERROR + 1);
    ck_assert_int_eq(weft_ledger_open(&second, g_dir, &m, 1), WEFT_EINPUT);
    weft_log_set_level(WEFT_LOG_INFO);
    weft_ledger_close(l);
    weft_fs_remove_tree(g_dir);
}
END_TEST

START_TEST(a_new_job_replaces_the_old) {
    weft_ledger *l[MOST];
    char path[300];
    bool parted;
    open_all(l, 1, 4, 1);
    for (int r = 0; r < 4; r++) weft_ledger_close(l[r]);
    snprintf(path, sizeof path, "%s/" LEDGER_VERDICT, g_dir);
    ck_assert_int_eq(weft_fs_create_file(path, "rank 3 died\n", 12), WEFT_OK);
    char text[4096];
    ck_assert_int_eq(weft_ledger_examine(g_dir, text, sizeof text, &parted), WEFT_OK);
    ck_assert_str_eq(text, "rank 3 died");
    ck_assert(parted);
    for (int r = 0; r < 2; r++) l[r] = open_one(r, 1, 2, 1);
    ck_assert_int_ne(access(path, F_OK), 0);
    snprintf(path, sizeof path, "%s/rank_00002.ledger", g_dir);
    ck_assert_int_ne(access(path, F_OK), 0);
    ck_assert_says(verdict(&parted), "all ranks are in step");
    close_all(l, 2);
}
END_TEST

static void expect_problem(const char *name, const char *what) {
    char problem[4608] = "";
    weft_ledger_job *j;
    ck_assert_int_eq(weft_ledger_job_open(&j, g_dir, problem, sizeof problem), WEFT_EINPUT);
    printf("  %s\n", problem);
    ck_assert_says(problem, name);
    ck_assert_says(problem, what);
}

static void change_byte(const char *path, off_t at) {
    char c;
    int fd = open(path, O_RDWR);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(pread(fd, &c, 1, at), 1);
    c ^= 0x40;
    ck_assert_int_eq(pwrite(fd, &c, 1, at), 1);
    close(fd);
}

START_TEST(damaged_files_are_named) {
    weft_ledger *l[MOST];
    char path[300], text[64];
    bool parted;
    open_all(l, 1, 2, 1);
    for (int r = 0; r < 2; r++)
        for (int i = 0; i < 10; i++) pass(l[r], WEFT_GROUP_SHARD, WEFT_ALL_GATHER, "layers.8", 64);
    for (int r = 0; r < 2; r++) weft_ledger_close(l[r]);
    snprintf(path, sizeof path, "%s/rank_00001.ledger", g_dir);
    const off_t record = LEDGER_HEADER_BYTES + 4 * (off_t)sizeof(ledger_record);
    const struct {
        off_t at;
        const char *what;
    } damage[] = {{3, "no ledger file"},
                  {8, "format version"},
                  {offsetof(struct ledger_identity, host), "header does not match"},
                  {(off_t)offsetof(struct ledger_identity, rank), "header does not match"},
                  {record + (off_t)offsetof(ledger_record, entry.tensor), "record 4 "},
                  {record + (off_t)offsetof(ledger_record, sequence), "record 4 "},
                  {record + (off_t)offsetof(ledger_record, state), "record 4 "}};
    for (size_t i = 0; i < sizeof damage / sizeof *damage; i++) {
        change_byte(path, damage[i].at);
        expect_problem("rank_00001.ledger", damage[i].what);
        change_byte(path, damage[i].at);
    }
    verdict(&parted); /* whole again */
    const struct {
        off_t bytes;
        const char *what;
    } lengths[] = {{0, "it has 0 bytes"}, {100, "it has 100 bytes"}, {sizeof(ledger_file) / 2, "is damaged"}};
    char *whole;
    size_t bytes;
    ck_assert_int_eq(weft_fs_read_file(path, sizeof(ledger_file), &whole, &bytes), WEFT_OK);
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        ck_assert_int_eq(truncate(path, lengths[i].bytes), 0);
        expect_problem("rank_00001.ledger", lengths[i].what);
    }
    /* As long as it should be, but the latter half is zero: the records up to the tenth are whole here. */
    ck_assert_int_eq(truncate(path, LEDGER_HEADER_BYTES + 3 * sizeof(ledger_record)), 0);
    ck_assert_int_eq(truncate(path, sizeof(ledger_file)), 0);
    expect_problem("rank_00001.ledger", "is no ledger file");
    int fd = open(path, O_RDWR);
    ck_assert_int_eq(pwrite(fd, whole, bytes, 0), (ssize_t)bytes);
    ledger_record zero = {0};
    ck_assert_int_eq(pwrite(fd, &zero, sizeof zero, record), sizeof zero);
    close(fd);
    expect_problem("rank_00001.ledger", "record number 5 is missing");
    ck_assert_int_eq(unlink(path), 0);
    expect_problem("rank_00001.ledger", "is missing: the job had 2 ranks");
    snprintf(path, sizeof path, "%s/rank_00000.ledger", g_dir);
    ck_assert_int_eq(unlink(path), 0);
    expect_problem(g_dir, "holds no ledger");
    free(whole);
    weft_fs_remove_tree(g_dir);
    expect_problem(g_dir, "cannot be opened");
    snprintf(text, sizeof text, "x");
    weft_log_set_level(WEFT_LOG_ERROR + 1);
    ck_assert_int_eq(weft_ledger_examine(g_dir, text, sizeof text, &parted), WEFT_EINPUT);
    weft_log_set_level(WEFT_LOG_INFO);
}
END_TEST

START_TEST(files_of_different_jobs_do_not_mix) {
    weft_ledger *l[MOST];
    new_dir();
    l[0] = open_one(0, 1, 2, 1);
    l[1] = open_one(1, 2, 1, 1);
    expect_problem("rank_00001.ledger", "of another job");
    close_all(l, 2);
}
END_TEST

START_TEST(tables_are_printed) {
    weft_ledger *l[MOST];
    char *text = NULL;
    size_t bytes = 0;
    open_all(l, 1, 2, 1);
    for (int r = 0; r < 2; r++) {
        weft_ledger_step_begin(l[r], 4);
        weft_ledger_activity(l[r], "step 4: optimizer");
        for (int i = 0; i < 3; i++)
            pass(l[r], WEFT_GROUP_SHARD, WEFT_ALL_GATHER, i < 2 ? "layers.8" : "layers.9", 500);
        weft_ledger_step_end(l[r]);
    }
    for (int count = 0; count < 3; count += 2) {
        FILE *f = open_memstream(&text, &bytes);
        ck_assert_int_eq(weft_ledger_print(g_dir, -1, count, f), WEFT_OK);
        fclose(f);
        printf("%s", text);
        ck_assert_says(text, "fsdp=2");
        ck_assert_says(text, "bytes of step 4");
        ck_assert_says(text, "3000                  1500");
        ck_assert_says(text, count ? "layers.9" : "step 4: optimizer");
        free(text);
    }
    weft_log_set_level(WEFT_LOG_ERROR + 1);
    ck_assert_int_eq(weft_ledger_print(g_dir, 2, 0, stdout), WEFT_EINPUT);
    weft_log_set_level(WEFT_LOG_INFO);
    close_all(l, 2);
}
END_TEST

/* ---- the watchdog ---- */

static double now_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Ranks with watchdogs; all that they print goes to the file `log`. `work` runs when all ledgers are open. */
typedef struct guarded_job {
    int ranks;
    pid_t pid[MOST];
    char log[300];
    int go; /* written to when all ledgers are open */
} guarded_job;

static void run_guarded(int rank, int ranks, double limit, const char *log, int ready, int go,
                        void (*work)(weft_ledger *l, int rank)) {
    char c;
    weft_watchdog *w;
    int fd = open(log, O_WRONLY | O_CREAT | O_APPEND, 0666);
    dup2(fd, STDERR_FILENO);
    weft_log_set_rank(rank, ranks);
    weft_ledger *l = open_one(rank, 1, ranks, 1);
    if (write(ready, "r", 1) != 1 || read(go, &c, 1) != 1) _exit(9);
    if (weft_watchdog_start(&w, l, g_dir, limit) != WEFT_OK) _exit(9);
    work(l, rank);
    weft_watchdog_stop(w);
    weft_ledger_close(l);
    _exit(0);
}

static void start_guarded(guarded_job *j, int ranks, double limit, void (*work)(weft_ledger *l, int rank)) {
    int ready[2], go[2];
    char c;
    new_dir();
    j->ranks = ranks;
    snprintf(j->log, sizeof j->log, "%s/stderr", g_dir);
    ck_assert(pipe(ready) == 0 && pipe(go) == 0);
    for (int r = 0; r < ranks; r++) {
        j->pid[r] = fork_rank();
        if (j->pid[r] == 0) run_guarded(r, ranks, limit, j->log, ready[1], go[0], work);
    }
    for (int r = 0; r < ranks; r++) ck_assert_int_eq(read(ready[0], &c, 1), 1);
    for (int r = 0; r < ranks; r++) ck_assert_int_eq(write(go[1], "g", 1), 1);
    for (int i = 0; i < 2; i++) close(ready[i]), close(go[i]);
}

/* Seconds until the last process has ended; *status of each. */
static double wait_for_all(guarded_job *j, int status[MOST]) {
    double begin = now_s();
    for (int r = 0; r < j->ranks; r++) ck_assert_int_eq(waitpid(j->pid[r], &status[r], 0), j->pid[r]);
    return now_s() - begin;
}

static char *printed(const guarded_job *j) {
    char *text;
    size_t bytes;
    ck_assert_int_eq(weft_fs_read_file(j->log, 1 << 16, &text, &bytes), WEFT_OK);
    printf("  %s", text);
    return text;
}

static int count_of(const char *text, const char *part) {
    int n = 0;
    for (; (text = strstr(text, part)); text++) n++;
    return n;
}

/* Rank 2 works on its own for ever, the others wait for it. */
static void wait_for_rank_2(weft_ledger *l, int rank) {
    pass(l, WEFT_GROUP_SHARD, WEFT_ALL_GATHER, "layers.6", 64);
    weft_ledger_activity(l, "step 9: reading the batch");
    if (rank != 2) enter(l, WEFT_GROUP_SHARD, WEFT_ALL_GATHER, "layers.7", 64);
    for (;;) pause();
}

START_TEST(a_death_ends_the_job_with_one_message) {
    guarded_job j;
    int status[MOST];
    char text[4096], want[64];
    bool parted;
    start_guarded(&j, 4, 0, wait_for_rank_2);
    pause_ms(250);
    ck_assert_int_eq(waitpid(j.pid[1], NULL, WNOHANG), 0);
    double killed = now_s();
    kill(j.pid[2], SIGKILL);
    ck_assert_int_eq(waitpid(j.pid[1], &status[1], 0), j.pid[1]); /* the one that looks after rank 2 */
    double reported = now_s() - killed;
    ck_assert_int_eq(WEXITSTATUS(status[1]), 1);
    pid_t rest[MOST] = {j.pid[0], j.pid[2], j.pid[3]};
    memcpy(j.pid, rest, sizeof rest);
    j.ranks = 3;
    wait_for_all(&j, status);
    double ended = now_s() - killed;
    printf("  reported after %.0f ms, all ended after %.0f ms\n", 1e3 * reported, 1e3 * ended);
    ck_assert_double_lt(reported, 0.5); /* 0.1 where nothing else runs */
    ck_assert_double_lt(ended, 1);
    ck_assert(WIFSIGNALED(status[1]) && WTERMSIG(status[1]) == SIGKILL);
    ck_assert(WIFEXITED(status[0]) && WEXITSTATUS(status[0]) == 1);
    ck_assert(WIFEXITED(status[2]) && WEXITSTATUS(status[2]) == 1);
    char *log = printed(&j);
    ck_assert_int_eq(count_of(log, "\n"), 1);
    snprintf(want, sizeof want, "weft: [rank 1] error: rank 2 died (process %d", (int)rest[1]);
    ck_assert_says(log, want);
    ck_assert_says(log, "it was at step 9: reading the batch");
    ck_assert_says(log, "rank 2 never entered layers.7 (all_gather, fsdp group of ranks 0 1 2 3, number 2)");
    /* Later, when all have ended: the verdict of the moment. */
    ck_assert_int_eq(weft_ledger_examine(g_dir, text, sizeof text, &parted), WEFT_OK);
    ck_assert(parted);
    ck_assert(strncmp(text, "rank 2 died (process ", 21) == 0);
    free(log);
    weft_fs_remove_tree(g_dir);
}
END_TEST

/* The same where devices wait: the hosts have queued more, and stand still with a full queue. */
static void queue_for_rank_2(weft_ledger *l, int rank) {
    pass(l, WEFT_GROUP_SHARD, WEFT_ALL_GATHER, "layers.6", 64);
    weft_ledger_activity(l, "step 9: reading the batch");
    const char *const names[] = {"layers.7", "layers.8", "layers.9"};
    uint64_t first = 0;
    for (int i = 0; i < 3 && rank != 2; i++) {
        uint64_t record = weft_ledger_enter(l, WEFT_GROUP_SHARD, WEFT_ALL_GATHER, names[i], 64);
        first = i == 0 ? record : first;
        weft_ledger_wait_device(l, first);
    }
    for (;;) pause();
}

static void a_wait_of_too_long(void (*work)(weft_ledger *l, int rank)) {
    guarded_job j;
    int status[MOST];
    start_guarded(&j, 4, 0.5, work);
    double begin = now_s();
    /* mpirun would end rank 2; here its neighbour's death does. */
    double took = wait_for_all(&j, status);
    printf("  ended after %.2f s\n", now_s() - begin);
    ck_assert_double_gt(took, 0.5);
    ck_assert_double_lt(took, 3);
    for (int r = 0; r < 4; r++) ck_assert(WIFEXITED(status[r]) && WEXITSTATUS(status[r]) == 1);
    char *log = printed(&j);
    ck_assert_int_eq(count_of(log, "\n"), 1);
    ck_assert_says(log, "error: rank 2 never entered layers.7 (all_gather, fsdp group of ranks 0 1 2 3, "
                        "number 2): ranks 0 1 3 "
                        "have waited in it for ");
    ck_assert_says(log, "rank 2 (alive, process ");
    ck_assert_says(log, "was at: step 9: reading the batch");
    free(log);
    weft_fs_remove_tree(g_dir);
}

START_TEST(a_wait_of_too_long_names_the_missing_rank) {
    a_wait_of_too_long(wait_for_rank_2);
    a_wait_of_too_long(queue_for_rank_2);
}
END_TEST

/* Ends at different times, with waits shorter than the limit. */
static void end_in_order(weft_ledger *l, int rank) {
    for (int i = 0; i < 3; i++) {
        uint64_t record = enter(l, WEFT_GROUP_SHARD, WEFT_ALL_GATHER, "layers.6", 64);
        pause_ms(200);
        weft_ledger_leave(l, record);
    }
    pause_ms(200 * rank);
}

START_TEST(an_end_in_order_is_no_death) {
    guarded_job j;
    int status[MOST];
    bool parted;
    start_guarded(&j, 3, 0.4, end_in_order);
    wait_for_all(&j, status);
    for (int r = 0; r < 3; r++) ck_assert(WIFEXITED(status[r]) && WEXITSTATUS(status[r]) == 0);
    char *log = printed(&j);
    ck_assert_str_eq(log, "");
    free(log);
    ck_assert_str_eq(verdict(&parted), "all ranks finished");
    weft_fs_remove_tree(g_dir);
}
END_TEST

SUITE_MAIN("ledger", the_ring_keeps_the_last_records, long_names_are_cut_and_old_records_left_alone,
           a_device_waits_in_one_record, nothing_is_done_without_a_ledger, bytes_are_summed_by_axis_and_step,
           records_are_read_while_they_are_written, all_in_step_and_finished, one_rank_behind, two_ranks_part,
           sizes_that_must_agree, one_rank_leaves_a_collective_out, one_rank_is_a_collective_ahead,
           a_chain_is_followed, ranks_that_wait_for_each_other, past_a_collective_into_another,
           waits_behind_what_a_rank_never_entered, records_survive_a_kill, the_first_dead_is_named_afterwards,
           a_stopped_process_is_named, an_exit_is_a_death, a_directory_in_use_is_refused,
           a_new_job_replaces_the_old, damaged_files_are_named, files_of_different_jobs_do_not_mix,
           tables_are_printed, a_death_ends_the_job_with_one_message,
           a_wait_of_too_long_names_the_missing_rank, an_end_in_order_is_no_death)
