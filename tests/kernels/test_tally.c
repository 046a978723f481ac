/* What operations work: counted by hand, and passed on to the table beneath. */
#include "support/suite.h"
#include "tally.h"

#include <string.h>

static weft_device g_d;
static weft_tally g_t;
static weft_work g_last;
static int g_seen;

static void remember(void *of, const weft_work *w) {
    ck_assert_ptr_eq(of, &g_seen);
    g_last = *w;
    g_seen++;
}

static void open_tally(bool dry) {
    ck_assert_int_eq(weft_device_open_cpu(&g_d), WEFT_OK);
    ck_assert_int_eq(dry ? weft_device_measure(&g_d) : weft_device_size(&g_d, 1 << 20), WEFT_OK);
    g_t = (weft_tally){.see = remember, .of = &g_seen};
    g_seen = 0;
    weft_tally_start(&g_t, &g_d);
}
static void close_tally(void) {
    const weft_ops *beneath = g_t.inner;
    weft_tally_stop(&g_t, &g_d);
    ck_assert_ptr_eq(g_d.ops, beneath);
    weft_device_close(&g_d);
}

#define R ((double)sizeof(weft_real))
#define LAST(KIND, PRODUCT, VECTOR, SPECIAL, BYTES)                                                          \
    do {                                                                                                     \
        ck_assert_int_eq(g_last.kind, KIND);                                                                 \
        ck_assert_double_eq(g_last.product, PRODUCT);                                                        \
        ck_assert_double_eq(g_last.vector, VECTOR);                                                          \
        ck_assert_double_eq(g_last.special, SPECIAL);                                                        \
        ck_assert_double_eq(g_last.bytes, BYTES);                                                            \
    } while (0)
static void shape(int64_t groups, int64_t m, int64_t n, int64_t k) {
    ck_assert_int_eq(g_last.groups, groups);
    ck_assert_int_eq(g_last.m, m);
    ck_assert_int_eq(g_last.n, n);
    ck_assert_int_eq(g_last.k, k);
}

START_TEST(every_operation_is_there) {
    open_tally(true);
#define THERE(NAME) ck_assert_msg(g_t.ops.NAME &&g_t.ops.NAME != g_t.inner->NAME, "%s is not counted", #NAME);
    WEFT_OPS_LIST(THERE)
    ck_assert_str_eq(g_d.ops->name, g_t.inner->name);
    close_tally();
}
END_TEST

START_TEST(products) {
    open_tally(true);
    const weft_ops *ops = g_d.ops;
    ops->linear_fwd(&g_d, NULL, 5, NULL, 7, NULL, NULL, 3, 5, 7, false);
    LAST(WEFT_WORK_PRODUCT, 2 * 3 * 5 * 7, 0, 0, R * (3 * 7 + 5 * 7 + 3 * 5));
    shape(1, 3, 5, 7);
    ops->linear_fwd(&g_d, NULL, 5, NULL, 7, NULL, &g_d, 3, 5, 7, true);
    LAST(WEFT_WORK_PRODUCT, 2 * 3 * 5 * 7, 3 * 5, 0, R * (3 * 7 + 5 * 7 + 2 * 3 * 5 + 5));
    ops->linear_dgrad(&g_d, NULL, 7, NULL, 5, NULL, 3, 5, 7, false);
    LAST(WEFT_WORK_PRODUCT, 2 * 3 * 5 * 7, 0, 0, R * (3 * 7 + 5 * 7 + 3 * 5));
    shape(1, 3, 7, 5);
    ops->linear_wgrad(&g_d, NULL, NULL, NULL, 5, NULL, 7, 3, 5, 7);
    LAST(WEFT_WORK_PRODUCT, 2 * 3 * 5 * 7, 0, 0, R * (3 * 7 + 3 * 5 + 2 * 5 * 7));
    shape(1, 5, 7, 3);
    ck_assert_str_eq(g_last.op, "linear_wgrad");
    /* 6 rows of 2 experts. */
    ops->grouped_fwd(&g_d, NULL, NULL, NULL, 35, NULL, 2, 6, 5, 7);
    LAST(WEFT_WORK_EXPERTS, 2 * 6 * 5 * 7, 0, 0, R * (6 * 7 + 6 * 5 + 2 * 5 * 7));
    shape(2, 3, 5, 7);
    ops->grouped_dgrad(&g_d, NULL, NULL, NULL, 35, NULL, 2, 6, 5, 7);
    shape(2, 3, 7, 5);
    ops->grouped_wgrad(&g_d, NULL, 35, NULL, NULL, NULL, 2, 6, 5, 7);
    LAST(WEFT_WORK_EXPERTS, 2 * 6 * 5 * 7, 0, 0, R * (6 * 7 + 6 * 5 + 2 * 2 * 5 * 7));
    shape(2, 5, 7, 3);
    ck_assert_int_eq(g_t.calls[WEFT_WORK_PRODUCT], 4);
    ck_assert_int_eq(g_t.calls[WEFT_WORK_EXPERTS], 3);
    ck_assert_double_eq(g_t.sum[WEFT_WORK_PRODUCT].product, 4 * 2 * 3 * 5 * 7);
    close_tally();
}
END_TEST

/* Queries see the keys up to their own position, and no more than there are. */
START_TEST(attention_sees_what_came_before) {
    const struct {
        int64_t q_pos0, Tq, Tk;
        double pairs;
    } cases[] = {{0, 4, 4, 10}, {2, 1, 3, 3},         {2, 2, 2, 4},
                 {0, 4, 2, 7},  {5, 3, 8, 6 + 7 + 8}, {3, 3, 5, 4 + 5 + 5}};
    open_tally(true);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        weft_attention a = {
            .B = 3, .Tq = cases[i].Tq, .Tk = cases[i].Tk, .H = 2, .G = 1, .d = 8, .q_pos0 = cases[i].q_pos0};
        double pairs = 3 * 2 * cases[i].pairs, q = R * 3 * 8 * 2 * (double)a.Tq, k = R * 3 * 8 * (double)a.Tk,
               lse = R * 3 * 2 * (double)a.Tq;
        g_d.ops->attention_fwd(&g_d, &a);
        LAST(WEFT_WORK_ATTENTION, 4 * 8 * pairs, 3 * pairs, pairs, 2 * q + 2 * k + lse);
        g_d.ops->attention_bwd(&g_d, &a);
        LAST(WEFT_WORK_ATTENTION, 10 * 8 * pairs, 6 * pairs, pairs, 4 * q + 4 * k + lse);
    }
    close_tally();
}
END_TEST

START_TEST(scans_and_the_rest) {
    open_tally(true);
    const weft_ops *ops = g_d.ops;
    weft_real out[1];
    /* 2 sequences of 33 tokens: 2 chunks each. 5 channels, 3 states. */
    weft_scan s = {.B = 2, .T = 33, .E = 5, .N = 3, .y = out, .out = out, .states = out};
    const double rows = 66, channels = rows * 5, cells = channels * 3;
    ops->scan_fwd(&g_d, &s);
    LAST(WEFT_WORK_SCAN, 0, 6 * cells + 6 * channels, cells + 4 * channels,
         R * (5 * channels + 2 * 3 * rows + 2 * 2 * 5 * 3));
    shape(1, 66, 5, 3);
    s.out = s.y = NULL; /* the state only */
    ops->scan_fwd(&g_d, &s);
    LAST(WEFT_WORK_SCAN, 0, 4 * cells + 2 * channels, cells + 2 * channels, R * (2 * channels + 3 * rows));
    ops->swiglu_fwd(&g_d, NULL, NULL, 4, 6);
    LAST(WEFT_WORK_ELEMENTWISE, 0, 2 * 24, 2 * 24, R * 3 * 24);
    ops->rmsnorm_fwd(&g_d, NULL, 6, NULL, NULL, NULL, 6, out, NULL, 0, 4, 6);
    LAST(WEFT_WORK_NORM, 0, 5 * 24, 0, R * 4 * 24);
    ops->cross_entropy(&g_d, NULL, NULL, NULL, 4, 6, 1, true);
    LAST(WEFT_WORK_LOSS, 0, 4 * 24, 24, R * 2 * 24);
    ops->copy(&g_d, NULL, NULL, 100);
    LAST(WEFT_WORK_ELEMENTWISE, 0, 0, 0, 200);
    ops->embedding_bwd(&g_d, NULL, NULL, NULL, 4, 6, 0, 9);
    LAST(WEFT_WORK_EMBEDDING, 0, 24, 0, R * 3 * 24);
    weft_adamw a = {.step = 1};
    ops->adamw(&g_d, NULL, NULL, NULL, NULL, NULL, 10, &a);
    LAST(WEFT_WORK_OPTIMIZER, 0, 130, 20, 7 * R * 10);
    close_tally();
}
END_TEST

/* 8 slots here, room for 32 that all members could send: counted are as many as each sends. */
START_TEST(experts_of_several_ranks_share_evenly) {
    open_tally(true);
    const weft_ops *ops = g_d.ops;
    ops->grouped_fwd(&g_d, NULL, NULL, NULL, 35, NULL, 2, 32, 5, 7);
    ck_assert_double_eq(g_last.product, 2.0 * 32 * 5 * 7); /* all on one rank */
    ops->moe_sort(&g_d, NULL, NULL, NULL, NULL, 4, 2, 8);
    ops->moe_regroup(&g_d, NULL, NULL, NULL, NULL, 4, 8, 0, 2, 32);
    ops->gather_rows(&g_d, NULL, NULL, NULL, 32, 10);
    ck_assert_double_eq(g_last.bytes, 2 * R * 8 * 10);
    ops->gather_rows(&g_d, NULL, NULL, NULL, 8, 10);
    ck_assert_double_eq(g_last.bytes, 2 * R * 8 * 10);
    ops->grouped_fwd(&g_d, NULL, NULL, NULL, 35, NULL, 2, 32, 5, 7);
    ck_assert_double_eq(g_last.product, 2.0 * 8 * 5 * 7);
    shape(2, 4, 5, 7);
    ops->swiglu_fwd(&g_d, NULL, NULL, 32, 6);
    ck_assert_double_eq(g_last.bytes, R * 3 * 8 * 6);
    ops->linear_fwd(&g_d, NULL, 5, NULL, 7, NULL, NULL, 32, 5, 7, false);
    ops->swiglu_fwd(&g_d, NULL, NULL, 32, 6); /* of a dense layer */
    ck_assert_double_eq(g_last.bytes, R * 3 * 32 * 6);
    close_tally();
}
END_TEST

static double g_time;
static double clock_that_ticks(void) {
    return g_time += 1;
}

START_TEST(operations_are_passed_on) {
    open_tally(false);
    weft_real a[3] = {1, 2, 3}, b[3] = {10, 20, 30}, y[3] = {0};
    g_d.ops->add(&g_d, y, a, b, 3);
    ck_assert_double_eq((double)y[2], 33);
    ck_assert_double_eq(g_last.seconds, 0);
    g_t.clock = clock_that_ticks;
    g_d.ops->add(&g_d, y, y, b, 3);
    ck_assert_double_eq((double)y[0], 21);
    ck_assert_double_eq(g_last.seconds, 1);
    ck_assert_double_eq(g_t.sum[WEFT_WORK_ELEMENTWISE].seconds, 1);
    ck_assert_int_eq(g_seen, 2);
    close_tally();
}
END_TEST

/* The arena sees what it sees without a tally. */
START_TEST(workspace_is_the_same) {
    size_t peak[2];
    for (int i = 0; i < 2; i++) {
        open_tally(true);
        if (i) weft_tally_stop(&g_t, &g_d);
        weft_attention a = {.B = 1, .Tq = 64, .Tk = 64, .H = 2, .G = 1, .d = 8};
        g_d.ops->attention_bwd(&g_d, &a);
        peak[i] = g_d.act.peak;
        if (i) weft_tally_start(&g_t, &g_d);
        close_tally();
    }
    ck_assert_uint_gt(peak[0], 0);
    ck_assert_uint_eq(peak[0], peak[1]);
}
END_TEST

SUITE_MAIN("tally", every_operation_is_there, products, attention_sees_what_came_before, scans_and_the_rest,
           experts_of_several_ranks_share_evenly, operations_are_passed_on, workspace_is_the_same)
