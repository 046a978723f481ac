#include "support/suite.h"

int suite_run(const char *name, const TTest *const *tests, int count) {
    Suite *suite = suite_create(name);
    for (int i = 0; i < count; i++) {
        TCase *tc = tcase_create(tests[i]->name);
        tcase_set_timeout(tc, 0);
        tcase_add_test(tc, tests[i]);
        suite_add_tcase(suite, tc);
    }
    SRunner *runner = srunner_create(suite);
    srunner_set_fork_status(runner, CK_NOFORK);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
