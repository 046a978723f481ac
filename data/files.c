#include "data/files.h"
#include "runtime/log.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

char *weft_format(const char *fmt, ...) {
    va_list ap;
    char *s = NULL;
    va_start(ap, fmt);
    int n = vasprintf(&s, fmt, ap);
    va_end(ap);
    return n < 0 ? NULL : s;
}

weft_status weft_file_write(const char *path, const void *data, size_t bytes) {
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0) WEFT_FAIL(WEFT_EIO, "%s: cannot be created: %s", path, strerror(errno));
    const char *p = data;
    while (bytes > 0) {
        ssize_t n = write(fd, p, bytes);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) {
            weft_status st =
                weft_fail(WEFT_EIO, "%s: cannot be written: %s", path, strerror(n < 0 ? errno : ENOSPC));
            close(fd);
            return st;
        }
        p += n;
        bytes -= (size_t)n;
    }
    if (fsync(fd) != 0) {
        weft_status st = weft_fail(WEFT_EIO, "%s: cannot be synced to the disk: %s", path, strerror(errno));
        close(fd);
        return st;
    }
    if (close(fd) != 0) WEFT_FAIL(WEFT_EIO, "%s: cannot be closed: %s", path, strerror(errno));
    return WEFT_OK;
}

weft_status weft_file_read(const char *path, size_t limit, char **data, size_t *bytes) {
    weft_status st = WEFT_OK;
    char *buffer = NULL;
    struct stat info;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        WEFT_FAIL(errno == ENOENT ? WEFT_EINPUT : WEFT_EIO, "%s: cannot be opened: %s", path,
                  strerror(errno));
    if (fstat(fd, &info) != 0) {
        st = weft_fail(WEFT_EIO, "%s: %s", path, strerror(errno));
        goto done;
    }
    if (!S_ISREG(info.st_mode) || (uint64_t)info.st_size > limit) {
        st = weft_fail(WEFT_EINPUT, "%s: not a regular file of at most %zu bytes", path, limit);
        goto done;
    }
    size_t want = (size_t)info.st_size, have = 0;
    buffer = malloc(want + 1);
    if (!buffer) {
        st = weft_fail(WEFT_ENOMEM, "%s: no memory for its %zu bytes", path, want);
        goto done;
    }
    while (have < want) {
        ssize_t n = read(fd, buffer + have, want - have);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) {
            st = weft_fail(WEFT_EIO, "%s: read error at byte %zu: %s", path, have,
                           n < 0 ? strerror(errno) : "end of file");
            goto done;
        }
        have += (size_t)n;
    }
    buffer[want] = 0;
    *data = buffer;
    *bytes = want;
    buffer = NULL;
done:
    free(buffer);
    close(fd);
    return st;
}

weft_status weft_file_sync(const char *path) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) WEFT_FAIL(WEFT_EIO, "%s: cannot be opened: %s", path, strerror(errno));
    int failed = fsync(fd) != 0, error = errno;
    close(fd);
    if (failed) WEFT_FAIL(WEFT_EIO, "%s: cannot be synced to the disk: %s", path, strerror(error));
    return WEFT_OK;
}

weft_status weft_dir_make(const char *path) {
    if (mkdir(path, 0777) != 0)
        WEFT_FAIL(WEFT_EIO, "%s: the directory cannot be made: %s", path, strerror(errno));
    return WEFT_OK;
}

weft_status weft_dir_publish(const char *from, const char *to) {
    if (renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE) != 0) {
        int error = errno;
        /* Some file systems know no RENAME_NOREPLACE: there an empty directory of that name would be
         * replaced. */
        if (error != EINVAL || access(to, F_OK) == 0 || rename(from, to) != 0)
            WEFT_FAIL(error == EEXIST ? WEFT_EINPUT : WEFT_EIO, "%s: cannot be renamed to %s: %s", from, to,
                      strerror(error));
    }
    char *parent = weft_format("%s", to);
    if (!parent) WEFT_FAIL(WEFT_ENOMEM, "%s: no memory for a name", to);
    char *slash = strrchr(parent, '/');
    if (slash == parent)
        slash[1] = 0;
    else if (slash)
        *slash = 0;
    weft_status st = weft_file_sync(slash ? parent : ".");
    free(parent);
    return st;
}

static int remove_one(const char *path, const struct stat *info, int kind, struct FTW *walk) {
    (void)info, (void)kind, (void)walk;
    if (remove(path) != 0) weft_warn("%s: cannot be removed: %s", path, strerror(errno));
    return 0;
}

void weft_dir_remove(const char *path) {
    nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}
