/* Files and directories with every return code checked: what checkpoints and reports need so that nothing
 * half-written ever bears a final name. Not collective. Failures are reported here, with the path. */
#ifndef WEFT_FSUTIL_H
#define WEFT_FSUTIL_H

#include "runtime/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WEFT_PATH_SIZE 4096

/* printf into a buffer of WEFT_PATH_SIZE bytes; WEFT_EINPUT when the path is too long for it. */
weft_status weft_fs_path(char out[WEFT_PATH_SIZE], const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* Writes all bytes at the descriptor's position; `path` is for the message only. */
weft_status weft_fs_write_all(int fd, const void *data, size_t bytes, const char *path);
/* Makes a file's content, or a directory's entries, survive a loss of power. */
weft_status weft_fs_sync_file(const char *path);
weft_status weft_fs_sync_dir(const char *path);

/* Creates the directory and those above it, each synced into its parent. OK when it exists. */
weft_status weft_fs_mkdirs(const char *path);
/* Bytes that this user may still write on the file system of `path`. */
weft_status weft_fs_free(const char *path, uint64_t *bytes);

/* Replaces a small file: hidden temporary (.NAME.tmp) beside it, fsync, rename, fsync of the directory. After
 * a crash the old content or the new is there, whole. One writer of a path at a time. */
weft_status weft_fs_write_file(const char *path, const void *data, size_t bytes);
/* Copies a file's content to a new file and syncs it. */
weft_status weft_fs_copy_file(const char *from, const char *to);

/* Removes a directory without subdirectories if all that it holds is `ours` by name; otherwise touches
 * nothing. *removed says which. `why_not` (may be NULL) gets the first foreign name. A symbolic link is never
 * followed. */
weft_status weft_fs_remove_dir(const char *path, bool (*ours)(const char *name), bool *removed,
                               char why_not[256]);

#endif
