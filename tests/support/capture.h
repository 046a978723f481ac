/* What the code under test reports on stderr: capture(); call; release(); then `message` holds it. */
#ifndef WEFT_TEST_CAPTURE_H
#define WEFT_TEST_CAPTURE_H

#include <check.h>
#include <stdio.h>
#include <unistd.h>

static char message[8192];
static int capture_saved;
static FILE *capture_file;

static inline void capture(void) {
    fflush(stderr);
    capture_saved = dup(2);
    capture_file = tmpfile();
    ck_assert_ptr_nonnull(capture_file);
    ck_assert_int_eq(dup2(fileno(capture_file), 2), 2);
}

static inline void release(void) {
    fflush(stderr);
    dup2(capture_saved, 2);
    close(capture_saved);
    rewind(capture_file);
    message[fread(message, 1, sizeof message - 1, capture_file)] = '\0';
    fclose(capture_file);
}

/* Lines of text. */
static inline int lines(const char *text) {
    int n = 0;
    for (; *text; text++) n += *text == '\n';
    return n;
}

#endif
