/* One Check suite per test program. */
#ifndef WEFT_TEST_SUITE_H
#define WEFT_TEST_SUITE_H

#include <check.h>
#include <stdlib.h>

/* SUITE_MAIN("name", test_a, test_b, ...): main() that runs the START_TEST functions given, in this process
 * (no fork: MPI and OpenMP do not survive one), and prints Check's summary. */
int suite_run(const char *name, const TTest *const *tests, int count);
#define SUITE_MAIN(name, ...)                                                                                \
    int main(void) {                                                                                         \
        const TTest *const tests[] = {__VA_ARGS__};                                                          \
        return suite_run(name, tests, (int)(sizeof tests / sizeof *tests));                                  \
    }

#endif
