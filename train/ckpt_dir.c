/* Names under RUN/checkpoints: step_00000100 (a checkpoint), step_00000100.tmp.ID (being written) and
 * step_00000100.trash.ID (being removed), where ID is 16 hexadecimal digits. Anything else is the user's. */
#include "train/ckpt_internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { ID_DIGITS = 16, STEP_DIGITS = 8, MAX_DIGITS = 18 };

static bool is_id(const char *s) {
    return strlen(s) == ID_DIGITS && strspn(s, "0123456789abcdef") == ID_DIGITS;
}

weft_ckpt_kind weft_ckpt_name_kind(const char *name, int64_t *step) {
    static const char prefix[] = "step_";
    if (strncmp(name, prefix, sizeof prefix - 1) != 0) return WEFT_CKPT_FOREIGN;
    const char *digits = name + sizeof prefix - 1;
    size_t n = strspn(digits, "0123456789");
    /* One name per step: eight digits with leading zeros, more without. */
    if (n < STEP_DIGITS || n > MAX_DIGITS || (n > STEP_DIGITS && digits[0] == '0')) return WEFT_CKPT_FOREIGN;
    *step = strtoll(digits, NULL, 10);
    const char *rest = digits + n;
    if (*rest == '\0') return WEFT_CKPT_STEP;
    if (strncmp(rest, ".tmp.", 5) == 0 && is_id(rest + 5)) return WEFT_CKPT_TMP;
    if (strncmp(rest, ".trash.", 7) == 0 && is_id(rest + 7)) return WEFT_CKPT_TRASH;
    return WEFT_CKPT_FOREIGN;
}

bool weft_ckpt_is_ours(const char *file) {
    static const char prefix[] = "rank_";
    if (strcmp(file, WEFT_CKPT_MANIFEST) == 0 || strcmp(file, WEFT_CKPT_TOKENIZER) == 0) return true;
    if (strcmp(file, "." WEFT_CKPT_MANIFEST ".tmp") == 0) return true;
    if (strncmp(file, prefix, sizeof prefix - 1) != 0) return false;
    const char *digits = file + sizeof prefix - 1;
    size_t n = strspn(digits, "0123456789");
    return n >= 5 && n <= 10 && strcmp(digits + n, ".h5") == 0;
}

weft_status weft_ckpt_folder(char out[WEFT_PATH_SIZE], const char *run) {
    return weft_fs_path(out, "%s/checkpoints", run);
}

weft_status weft_ckpt_step_path(char out[WEFT_PATH_SIZE], const char *run, int64_t step) {
    return weft_fs_path(out, "%s/checkpoints/step_%08" PRId64, run, step);
}

static int newest_first(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x < y) - (x > y);
}

weft_status weft_ckpt_list(const char *run, int64_t **steps, int64_t *count, int64_t *others,
                           char first_other[256]) {
    weft_status st = WEFT_OK;
    char folder[WEFT_PATH_SIZE];
    int64_t *list = NULL, n = 0, room = 0, foreign = 0;
    struct dirent *e;
    WEFT_TRY(weft_ckpt_folder(folder, run));
    DIR *dir = opendir(folder);
    if (!dir && errno != ENOENT) WEFT_FAIL(WEFT_EIO, "%s: cannot be read: %s", folder, strerror(errno));
    while (dir && (errno = 0, e = readdir(dir)) != NULL) {
        int64_t step;
        struct stat s;
        if (e->d_name[0] == '.') continue;
        bool is_step = weft_ckpt_name_kind(e->d_name, &step) == WEFT_CKPT_STEP &&
                       fstatat(dirfd(dir), e->d_name, &s, 0) == 0 && S_ISDIR(s.st_mode);
        if (!is_step) {
            if (foreign++ == 0 && first_other) snprintf(first_other, 256, "%s", e->d_name);
            continue;
        }
        if (n == room) {
            room = room ? 2 * room : 16;
            int64_t *more = realloc(list, (size_t)room * sizeof *list);
            if (!more) {
                st = weft_fail(WEFT_ENOMEM, "%s: no memory to list it", folder);
                goto done;
            }
            list = more;
        }
        list[n++] = step;
    }
    if (dir && errno != 0) {
        st = weft_fail(WEFT_EIO, "%s: cannot be read: %s", folder, strerror(errno));
        goto done;
    }
    if (n > 0) qsort(list, (size_t)n, sizeof *list, newest_first);
    *steps = list;
    *count = n;
    *others = foreign;
    list = NULL;
done:
    free(list);
    if (dir) closedir(dir);
    return st;
}
