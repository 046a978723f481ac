/* What data/ needs of the file system: paths, whole small files, syncing, appearing whole. */
#ifndef WEFT_DATA_FILES_H
#define WEFT_DATA_FILES_H

#include "runtime/status.h"

#include <stddef.h>
#include <stdint.h>

/* printf into new memory; NULL when there is none. The caller frees. */
char *weft_format(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Creates `path` with this content and syncs it. */
weft_status weft_file_write(const char *path, const void *data, size_t bytes);
/* Whole content in new memory, zero-terminated behind *bytes; a file over `limit` bytes is refused. */
weft_status weft_file_read(const char *path, size_t limit, char **data, size_t *bytes);
/* Syncs a file, or a directory's entries, to the disk. */
weft_status weft_file_sync(const char *path);
weft_status weft_dir_make(const char *path);
/* Renames a directory to a name that nothing bears yet, and syncs the parent. */
weft_status weft_dir_publish(const char *from, const char *to);
/* Removes a directory and all below it; what cannot be removed is warned about. */
void weft_dir_remove(const char *path);

#endif
