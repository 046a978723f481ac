/* Every program of broken.cu is told from a right one, in words that say what is wrong. */
#include "emulation/broken.h"
#include "support/suite.h"

#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* The first report ends a program: the next could be a consequence. */
const char *__asan_default_options(void);
const char *__asan_default_options(void) {
    return "detect_leaks=0";
}
const char *__tsan_default_options(void);
const char *__tsan_default_options(void) {
    return "halt_on_error=1";
}

#ifdef __clang__
#define BUILT_WITH_ASAN __has_feature(address_sanitizer)
#define BUILT_WITH_TSAN __has_feature(thread_sanitizer)
#define BUILT_WITH_UBSAN 0 /* clang's lets copies of misaligned structs pass */
#else
void __ubsan_handle_out_of_bounds(void *, void *) __attribute__((weak));
#define BUILT_WITH_UBSAN (__ubsan_handle_out_of_bounds != NULL)
#ifdef __SANITIZE_ADDRESS__
#define BUILT_WITH_ASAN 1
#else
#define BUILT_WITH_ASAN 0
#endif
#ifdef __SANITIZE_THREAD__
#define BUILT_WITH_TSAN 1
#else
#define BUILT_WITH_TSAN 0
#endif
#endif

static const char *expected(const broken_program *b) {
    if (BUILT_WITH_UBSAN && b->undefined) return b->undefined;
    return BUILT_WITH_ASAN ? b->address : BUILT_WITH_TSAN ? b->thread : b->plain;
}

/* What the program says, in a process of its own. */
static void run(const broken_program *b, char *said, size_t size) {
    int pipes[2], status;
    fflush(stdout);
    ck_assert(pipe(pipes) == 0);
    pid_t child = fork();
    ck_assert(child >= 0);
    if (child == 0) {
        dup2(pipes[1], STDERR_FILENO);
        close(pipes[0]);
        b->run();
        _exit(0);
    }
    close(pipes[1]);
    size_t n = 0;
    char rest[4096];
    ssize_t got;
    while ((got = read(pipes[0], rest, sizeof rest)) > 0) {
        size_t take = (size_t)got < size - 1 - n ? (size_t)got : size - 1 - n;
        memcpy(said + n, rest, take);
        n += take;
    }
    said[n] = '\0';
    close(pipes[0]);
    ck_assert(waitpid(child, &status, 0) == child);
}

START_TEST(broken_programs_are_found) {
    static char said[1 << 16];
    int missed = 0;
    unsetenv("WEFT_EMULATED_STREAMS"); /* what is missing shows when all is late */
    for (const broken_program *b = broken_programs; b->name; b++) {
        if (!expected(b)) continue;
        run(b, said, sizeof said);
        if (strstr(said, expected(b))) continue;
        missed++;
        printf("%s: \"%s\" was not said, but: %s\n", b->name, expected(b), *said ? said : "nothing");
    }
    ck_assert_msg(missed == 0, "%d broken programs were not found", missed);
}
END_TEST

SUITE_MAIN("broken", broken_programs_are_found)
