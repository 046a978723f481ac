/* Files and directories with every return code checked: what data, checkpoints and reports need so that
 * nothing half-written ever bears a final name. Not collective. Failures are reported here, with the path. */
#ifndef WEFT_FS_H
#define WEFT_FS_H

#include "runtime/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WEFT_PATH_SIZE 4096

/* printf into a buffer of WEFT_PATH_SIZE bytes; WEFT_EINPUT when the path is too long for it. */
weft_status weft_fs_path(char out[WEFT_PATH_SIZE], const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
/* printf into new memory, for names that structs keep; NULL when there is none. The caller frees. */
char *weft_format(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* ---- files ---- */

/* Writes all bytes at the descriptor's position; `path` is for the message only. */
weft_status weft_fs_write_all(int fd, const void *data, size_t bytes, const char *path);
/* Makes a file of a name that nothing bears yet, and syncs it; not the directory's entry. A file that failed
 * is removed. */
weft_status weft_fs_create_file(const char *path, const void *data, size_t bytes);
/* Replaces a small file: hidden temporary (.NAME.tmp) beside it, fsync, rename, fsync of the directory. After
 * a crash the old content or the new is there, whole. One writer of a path at a time. */
weft_status weft_fs_replace_file(const char *path, const void *data, size_t bytes);
/* Copies a file's content to a new file and syncs it. */
weft_status weft_fs_copy_file(const char *from, const char *to);
/* Whole content in new memory, zero-terminated behind *bytes; a file over `limit` bytes is refused. */
weft_status weft_fs_read_file(const char *path, size_t limit, char **data, size_t *bytes);

/* ---- directories ---- */

/* Makes one directory of a name that nothing bears yet; its parent is not synced. */
weft_status weft_fs_mkdir(const char *path);
/* Makes the directory and those above it, each synced into its parent. OK when it exists. */
weft_status weft_fs_mkdirs(const char *path);
/* Makes a directory's entries survive a loss of power. */
weft_status weft_fs_sync_dir(const char *path);
/* Bytes that this user may still write on the file system of `path`. */
weft_status weft_fs_free_space(const char *path, uint64_t *bytes);
/* Renames a directory to a name that nothing bears yet (WEFT_EINPUT otherwise), and syncs the parent. */
weft_status weft_fs_publish_dir(const char *from, const char *to);

/* Removes a directory and all below it; what cannot be removed is warned about. */
void weft_fs_remove_tree(const char *path);
/* Removes a directory without subdirectories if all that it holds is `ours` by name; otherwise touches
 * nothing. *removed says which. `why_not` (may be NULL) gets the first foreign name. A symbolic link is never
 * followed. */
weft_status weft_fs_remove_ours(const char *path, bool (*ours)(const char *name), bool *removed,
                                char why_not[256]);

#endif
