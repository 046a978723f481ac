/* What is removed, and when: temporaries and trash of dead jobs before a save, old checkpoints after it. A
 * directory is renamed first and then emptied, so that no half-removed one bears a checkpoint's name.
 * Directories that hold anything that weft did not write are never touched. */
#include "runtime/log.h"
#include "train/ckpt_internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

void weft_ckpt_sweep(const char *run) {
    char folder[WEFT_PATH_SIZE], path[WEFT_PATH_SIZE], foreign[256];
    struct dirent *e;
    if (weft_ckpt_folder(folder, run) != WEFT_OK) return;
    DIR *dir = opendir(folder);
    while (dir && (e = readdir(dir)) != NULL) {
        int64_t step;
        bool removed;
        struct stat s;
        weft_ckpt_kind kind = weft_ckpt_name_kind(e->d_name, &step);
        if (kind != WEFT_CKPT_TMP && kind != WEFT_CKPT_TRASH) continue;
        if (fstatat(dirfd(dir), e->d_name, &s, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISDIR(s.st_mode)) continue;
        if (weft_fs_path(path, "%s/%s", folder, e->d_name) != WEFT_OK) continue;
        if (weft_fs_remove_ours(path, weft_ckpt_is_ours, &removed, foreign) != WEFT_OK) continue;
        if (removed)
            weft_info("removed %s, left by a job that ended while it was saving or pruning", path);
        else
            weft_warn("%s is left alone: it holds '%s', which weft did not write", path, foreign);
    }
    if (dir) closedir(dir);
}

weft_status weft_ckpt_discard(const char *path, const char *trash) {
    bool removed;
    char foreign[256];
    if (rename(path, trash) != 0)
        WEFT_FAIL(WEFT_EIO, "%s: cannot be renamed to %s: %s", path, trash, strerror(errno));
    WEFT_TRY(weft_fs_remove_ours(trash, weft_ckpt_is_ours, &removed, foreign));
    if (!removed) weft_warn("%s is left alone: it holds '%s', which weft did not write", trash, foreign);
    return WEFT_OK;
}

static bool holds_only_ours(const char *path) {
    struct stat s;
    struct dirent *e;
    bool ours = true;
    if (lstat(path, &s) != 0 || !S_ISDIR(s.st_mode)) return false; /* a symbolic link is the user's */
    DIR *dir = opendir(path);
    if (!dir) return false;
    while (ours && (e = readdir(dir)) != NULL)
        ours = strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0 || weft_ckpt_is_ours(e->d_name);
    closedir(dir);
    return ours;
}

/* Steps above the saved one belong to a run that was taken back to an older step: they neither count nor go.
 */
void weft_ckpt_prune(const char *run, int64_t saved, int64_t keep, int64_t keep_every, const char *id) {
    int64_t *steps, count, others, valid = 0;
    char path[WEFT_PATH_SIZE], trash[WEFT_PATH_SIZE];
    if (weft_ckpt_list(run, &steps, &count, &others, NULL) != WEFT_OK) return;
    for (int64_t i = 0; i < count; i++) {
        weft_ckpt_manifest m;
        weft_ckpt_why why;
        if (steps[i] > saved) continue;
        if (weft_ckpt_step_path(path, run, steps[i]) != WEFT_OK) break;
        /* One that is broken neither counts nor goes: it is evidence, and `weft ckpt ls` shows it. */
        if (weft_ckpt_check_quick(path, &m, &why) != WEFT_OK) continue;
        weft_ckpt_manifest_free(&m);
        if (valid++ < keep || (keep_every > 0 && steps[i] % keep_every == 0)) continue;
        if (!holds_only_ours(path)) {
            weft_warn("%s is kept: it is a link or holds something that weft did not write", path);
            continue;
        }
        if (weft_fs_path(trash, "%s.trash.%s", path, id) != WEFT_OK ||
            weft_ckpt_discard(path, trash) != WEFT_OK)
            break;
    }
    free(steps);
}
