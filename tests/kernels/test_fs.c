/* Files and directories: new against replaced, appearing whole, and what is never removed. */
#include "runtime/fs.h"
#include "support/suite.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char g_dir[] = "/tmp/weft-fs.XXXXXX";

static const char *in(const char *name) {
    static char path[4][WEFT_PATH_SIZE];
    static int next;
    char *out = path[next++ % 4];
    ck_assert_int_eq(weft_fs_path(out, "%s/%s", g_dir, name), WEFT_OK);
    return out;
}

static void holds(const char *name, const char *want) {
    char *text;
    size_t bytes;
    ck_assert_int_eq(weft_fs_read_file(in(name), 100, &text, &bytes), WEFT_OK);
    ck_assert_uint_eq(bytes, strlen(want));
    ck_assert_str_eq(text, want);
    free(text);
}

START_TEST(new_files_and_replaced_ones) {
    char *text = NULL;
    size_t bytes;
    ck_assert_int_eq(weft_fs_create_file(in("a"), "one", 3), WEFT_OK);
    ck_assert_int_ne(weft_fs_create_file(in("a"), "two", 3), WEFT_OK);
    holds("a", "one");
    ck_assert_int_eq(weft_fs_replace_file(in("a"), "three", 5), WEFT_OK);
    holds("a", "three");
    ck_assert_int_eq(weft_fs_copy_file(in("a"), in("b")), WEFT_OK);
    holds("b", "three");
    ck_assert_int_ne(weft_fs_read_file(in("a"), 4, &text, &bytes), WEFT_OK);
    ck_assert_int_ne(weft_fs_read_file(in("nothing"), 4, &text, &bytes), WEFT_OK);
    ck_assert_ptr_null(text);
    ck_assert_int_ne(weft_fs_replace_file(in("no/such/a"), "x", 1), WEFT_OK);
}
END_TEST

START_TEST(a_directory_appears_once) {
    ck_assert_int_eq(weft_fs_mkdirs(in("deep/er/still")), WEFT_OK);
    ck_assert_int_eq(weft_fs_mkdirs(in("deep/er/still")), WEFT_OK);
    ck_assert_int_ne(weft_fs_mkdir(in("deep")), WEFT_OK);
    ck_assert_int_eq(weft_fs_mkdir(in("made")), WEFT_OK);
    ck_assert_int_eq(weft_fs_create_file(in("made/x"), "x", 1), WEFT_OK);
    ck_assert_int_eq(weft_fs_publish_dir(in("deep"), in("made")), WEFT_EINPUT);
    holds("made/x", "x");
    ck_assert_int_eq(weft_fs_publish_dir(in("made"), in("published")), WEFT_OK);
    holds("published/x", "x");
    ck_assert_int_ne(access(in("made"), F_OK), 0);
}
END_TEST

static bool is_h5(const char *name) {
    size_t n = strlen(name);
    return n > 3 && strcmp(name + n - 3, ".h5") == 0;
}

START_TEST(foreign_files_are_kept) {
    bool removed = true;
    char why[256] = "";
    ck_assert_int_eq(weft_fs_mkdir(in("ours")), WEFT_OK);
    ck_assert_int_eq(weft_fs_create_file(in("ours/1.h5"), "x", 1), WEFT_OK);
    ck_assert_int_eq(weft_fs_create_file(in("ours/notes.txt"), "x", 1), WEFT_OK);
    ck_assert_int_eq(weft_fs_remove_ours(in("ours"), is_h5, &removed, why), WEFT_OK);
    ck_assert(!removed);
    ck_assert_str_eq(why, "notes.txt");
    holds("ours/1.h5", "x");
    ck_assert_int_eq(unlink(in("ours/notes.txt")), 0);
    ck_assert_int_eq(weft_fs_remove_ours(in("ours"), is_h5, &removed, why), WEFT_OK);
    ck_assert(removed);
    ck_assert_int_ne(access(in("ours"), F_OK), 0);
}
END_TEST

int main(void) {
    const TTest *const tests[] = {new_files_and_replaced_ones, a_directory_appears_once,
                                  foreign_files_are_kept};
    if (!mkdtemp(g_dir)) return 1;
    int code = suite_run("fs", tests, 3);
    weft_fs_remove_tree(g_dir);
    return code || access(g_dir, F_OK) == 0;
}
