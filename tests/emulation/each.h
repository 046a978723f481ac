/* A suite that runs several times, each in a process of its own: the emulation reads its settings once. */
#ifndef WEFT_EMULATION_EACH_H
#define WEFT_EMULATION_EACH_H

#include "support/suite.h"

#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* SUITE_MAIN with the environment's `variable` set to each of the words of `values`. */
#define SUITE_MAIN_EACH(name, variable, values, ...)                                                         \
    int main(void) {                                                                                         \
        const TTest *const tests[] = {__VA_ARGS__};                                                          \
        return suite_run_each(name, variable, values, tests, (int)(sizeof tests / sizeof *tests));           \
    }

static inline int suite_run_each(const char *name, const char *variable, const char *values,
                                 const TTest *const *tests, int count) {
    char value[32];
    int failed = 0, length;
    for (; sscanf(values, "%31s%n", value, &length) == 1; values += length) {
        int status = -1;
        printf("%s=%s\n", variable, value);
        fflush(stdout);
        pid_t child = fork();
        if (child == 0) {
            setenv(variable, value, 1);
            exit(suite_run(name, tests, count));
        }
        failed |= child < 0 || waitpid(child, &status, 0) != child || status != 0;
    }
    return failed;
}

#endif
