/* Checks in a test of several ranks. A rank that left a test at its first failure would let the others wait
 * in the next collective: failures are counted, the first is printed, and the test fails on all ranks at its
 * end. */
#ifndef WEFT_TEST_RANKS_H
#define WEFT_TEST_RANKS_H

#include "parallel/comm_backend.h"

#include <check.h>
#include <stdarg.h>
#include <stdio.h>

static int g_wrong;

__attribute__((format(printf, 2, 3))) static void expect(bool ok, const char *fmt, ...) {
    if (ok || g_wrong++ > 0) return;
    va_list list;
    va_start(list, fmt);
    fprintf(stderr, "rank %d: ", weft_world_rank());
    vfprintf(stderr, fmt, list);
    fputc('\n', stderr);
    va_end(list);
}

static void none_is_wrong(void) {
    int64_t wrong = weft_world_sum_i64(g_wrong);
    g_wrong = 0;
    ck_assert_msg(wrong == 0, "%lld failures on all ranks", (long long)wrong);
}

#endif
