#include "runtime/fs.h"
#include "runtime/log.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

/* ---- names ---- */

weft_status weft_fs_path(char out[WEFT_PATH_SIZE], const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(out, WEFT_PATH_SIZE, fmt, ap);
    va_end(ap);
    if (n < 0 || n >= WEFT_PATH_SIZE) WEFT_FAIL(WEFT_EINPUT, "path is too long: %.80s...", out);
    return WEFT_OK;
}

char *weft_format(const char *fmt, ...) {
    va_list ap;
    char *s = NULL;
    va_start(ap, fmt);
    int n = vasprintf(&s, fmt, ap);
    va_end(ap);
    return n < 0 ? NULL : s;
}

/* "a/b/" and "a/b" -> "a"; "b" -> "."; "/b" -> "/". */
static weft_status parent_of(const char *path, char out[WEFT_PATH_SIZE]) {
    WEFT_TRY(weft_fs_path(out, "%s", path));
    size_t n = strlen(out);
    while (n > 1 && out[n - 1] == '/') out[--n] = '\0';
    char *slash = strrchr(out, '/');
    if (!slash) return weft_fs_path(out, ".");
    while (slash > out && slash[-1] == '/') slash--;
    slash[slash == out] = '\0';
    return WEFT_OK;
}

/* ---- files ---- */

weft_status weft_fs_write_all(int fd, const void *data, size_t bytes, const char *path) {
    const char *p = data;
    while (bytes > 0) {
        /* Linux writes at most 2 GiB less a page at once. */
        ssize_t n = write(fd, p, bytes < ((size_t)1 << 30) ? bytes : (size_t)1 << 30);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0)
            WEFT_FAIL(WEFT_EIO, "%s: cannot be written: %s", path, n < 0 ? strerror(errno) : "no progress");
        p += n;
        bytes -= (size_t)n;
    }
    return WEFT_OK;
}

/* Opens `path` with O_EXCL or O_TRUNC, writes what `fill` writes, syncs and closes it; a file that failed is
 * removed. */
static weft_status write_new(const char *path, int how,
                             weft_status (*fill)(int fd, const char *path, const void *arg),
                             const void *arg) {
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | how, 0666);
    if (fd < 0) WEFT_FAIL(WEFT_EIO, "%s: cannot be created: %s", path, strerror(errno));
    weft_status st = fill(fd, path, arg);
    if (st == WEFT_OK && fsync(fd) != 0)
        st = weft_fail(WEFT_EIO, "%s: cannot be synced to the disk: %s", path, strerror(errno));
    if (close(fd) != 0 && st == WEFT_OK)
        st = weft_fail(WEFT_EIO, "%s: cannot be closed: %s", path, strerror(errno));
    if (st != WEFT_OK) unlink(path);
    return st;
}

typedef struct bytes_of {
    const void *data;
    size_t bytes;
} bytes_of;

static weft_status fill_bytes(int fd, const char *path, const void *arg) {
    const bytes_of *b = arg;
    return weft_fs_write_all(fd, b->data, b->bytes, path);
}

weft_status weft_fs_create_file(const char *path, const void *data, size_t bytes) {
    return write_new(path, O_EXCL, fill_bytes, &(bytes_of){data, bytes});
}

weft_status weft_fs_replace_file(const char *path, const void *data, size_t bytes) {
    char parent[WEFT_PATH_SIZE], temporary[WEFT_PATH_SIZE];
    const char *slash = strrchr(path, '/');
    WEFT_TRY(parent_of(path, parent));
    WEFT_TRY(weft_fs_path(temporary, "%s/.%s.tmp", parent, slash ? slash + 1 : path));
    /* A crash may have left a temporary of this name. */
    WEFT_TRY(write_new(temporary, O_TRUNC, fill_bytes, &(bytes_of){data, bytes}));
    if (rename(temporary, path) != 0) {
        int code = errno;
        unlink(temporary);
        WEFT_FAIL(WEFT_EIO, "%s: cannot be replaced: %s", path, strerror(code));
    }
    return weft_fs_sync_dir(parent);
}

static weft_status fill_copy(int fd, const char *path, const void *arg) {
    enum { CHUNK = 1 << 20 };
    const char *from = arg;
    weft_status st = WEFT_OK;
    char *buf = NULL;
    int in = open(from, O_RDONLY | O_CLOEXEC);
    if (in < 0) WEFT_FAIL(WEFT_EIO, "%s: cannot be opened: %s", from, strerror(errno));
    if (!(buf = malloc(CHUNK))) {
        st = weft_fail(WEFT_ENOMEM, "%s: no memory to copy it", from);
        goto done;
    }
    for (;;) {
        ssize_t n = read(in, buf, CHUNK);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) st = weft_fail(WEFT_EIO, "%s: read error: %s", from, strerror(errno));
        if (n <= 0) break;
        WEFT_GOTO(st, done, weft_fs_write_all(fd, buf, (size_t)n, path));
    }
done:
    free(buf);
    close(in);
    return st;
}

weft_status weft_fs_copy_file(const char *from, const char *to) {
    return write_new(to, O_TRUNC, fill_copy, from);
}

weft_status weft_fs_read_file(const char *path, size_t limit, char **data, size_t *bytes) {
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

/* ---- directories ---- */

weft_status weft_fs_sync_dir(const char *path) {
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) WEFT_FAIL(WEFT_EIO, "%s: cannot be opened to sync it: %s", path, strerror(errno));
    int bad = fsync(fd) != 0, code = errno;
    if (close(fd) != 0 && !bad) bad = 1, code = errno;
    if (bad) WEFT_FAIL(WEFT_EIO, "%s: cannot be synced to the disk: %s", path, strerror(code));
    return WEFT_OK;
}

weft_status weft_fs_mkdir(const char *path) {
    if (mkdir(path, 0777) != 0)
        WEFT_FAIL(WEFT_EIO, "%s: the directory cannot be made: %s", path, strerror(errno));
    return WEFT_OK;
}

static weft_status make_if_missing(const char *path) {
    char parent[WEFT_PATH_SIZE];
    if (mkdir(path, 0777) != 0) {
        struct stat s;
        if (errno == EEXIST && stat(path, &s) == 0 && S_ISDIR(s.st_mode)) return WEFT_OK;
        WEFT_FAIL(WEFT_EIO, "%s: the directory cannot be made: %s", path, strerror(errno));
    }
    WEFT_TRY(parent_of(path, parent));
    return weft_fs_sync_dir(parent);
}

weft_status weft_fs_mkdirs(const char *path) {
    char part[WEFT_PATH_SIZE];
    WEFT_TRY(weft_fs_path(part, "%s", path));
    for (char *p = part + 1; part[0] && *p; p++) {
        if (*p != '/') continue;
        *p = '\0';
        struct stat s;
        /* Directories above may be readable but not writable: only what is missing is made. */
        if (stat(part, &s) != 0) WEFT_TRY(make_if_missing(part));
        *p = '/';
    }
    return make_if_missing(part);
}

weft_status weft_fs_free_space(const char *path, uint64_t *bytes) {
    struct statvfs s;
    if (statvfs(path, &s) != 0) WEFT_FAIL(WEFT_EIO, "%s: free space is unknown: %s", path, strerror(errno));
    *bytes = (uint64_t)s.f_bavail * (uint64_t)s.f_frsize;
    return WEFT_OK;
}

weft_status weft_fs_publish_dir(const char *from, const char *to) {
    char parent[WEFT_PATH_SIZE];
    WEFT_TRY(parent_of(to, parent));
    if (renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE) != 0) {
        int error = errno;
        /* Some file systems know no RENAME_NOREPLACE: there an empty directory of that name would be
         * replaced. */
        if (error != EINVAL || access(to, F_OK) == 0 || rename(from, to) != 0)
            WEFT_FAIL(error == EEXIST ? WEFT_EINPUT : WEFT_EIO, "%s: cannot be renamed to %s: %s", from, to,
                      strerror(error));
    }
    return weft_fs_sync_dir(parent);
}

static int remove_one(const char *path, const struct stat *info, int kind, struct FTW *walk) {
    (void)info, (void)kind, (void)walk;
    if (remove(path) != 0) weft_warn("%s: cannot be removed: %s", path, strerror(errno));
    return 0;
}

void weft_fs_remove_tree(const char *path) {
    nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static bool is_dot(const char *name) {
    return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

weft_status weft_fs_remove_ours(const char *path, bool (*ours)(const char *name), bool *removed,
                                char why_not[256]) {
    weft_status st = WEFT_OK;
    bool foreign = false;
    struct dirent *e;
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (!dir) {
        int code = errno;
        if (fd >= 0) close(fd);
        WEFT_FAIL(WEFT_EIO, "%s: cannot be read: %s", path, strerror(code));
    }
    for (int pass = 0; pass < 2 && !foreign && st == WEFT_OK; pass++) {
        rewinddir(dir);
        while ((errno = 0, e = readdir(dir)) != NULL) {
            struct stat s;
            if (is_dot(e->d_name)) continue;
            if (pass == 0) {
                bool file = fstatat(fd, e->d_name, &s, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(s.st_mode);
                if (file && ours(e->d_name)) continue;
                if (why_not) snprintf(why_not, 256, "%s", e->d_name);
                foreign = true;
                break;
            }
            if (unlinkat(fd, e->d_name, 0) != 0 && errno != ENOENT) {
                st = weft_fail(WEFT_EIO, "%s/%s: cannot be removed: %s", path, e->d_name, strerror(errno));
                break;
            }
        }
        if (!e && errno != 0) st = weft_fail(WEFT_EIO, "%s: cannot be read: %s", path, strerror(errno));
    }
    closedir(dir);
    if (st == WEFT_OK && !foreign && rmdir(path) != 0)
        st = weft_fail(WEFT_EIO, "%s: cannot be removed: %s", path, strerror(errno));
    if (st == WEFT_OK) *removed = !foreign;
    return st;
}
