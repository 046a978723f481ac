#include "data/work/work_file.h"
#include "runtime/fs.h"
#include "runtime/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { STREAM_BUFFER = 1 << 18 };

weft_status weft_work_create(weft_work_file *f, const char *path) {
    f->path = weft_format("%s", path);
    f->temporary = weft_format("%s.tmp", path);
    if (!f->path || !f->temporary) WEFT_FAIL(WEFT_ENOMEM, "%s: no memory to write it", path);
    if (!(f->stream = fopen(f->temporary, "we"))) {
        weft_status st = weft_fail(WEFT_EIO, "%s: cannot be created: %s", f->temporary, strerror(errno));
        free(f->temporary);
        f->temporary = NULL; /* nothing to remove */
        return st;
    }
    f->buffer = malloc(STREAM_BUFFER);
    if (!f->buffer || setvbuf(f->stream, f->buffer, _IOFBF, STREAM_BUFFER) != 0)
        WEFT_FAIL(WEFT_ENOMEM, "%s: no memory to write it", path);
    return WEFT_OK;
}

static weft_status unwritten(const weft_work_file *f) {
    WEFT_FAIL(WEFT_EIO, "%s: cannot be written: %s; build again when that is mended, it goes on from here",
              f->temporary, strerror(errno));
}

weft_status weft_work_write(weft_work_file *f, const void *data, size_t bytes) {
    if (bytes > 0 && fwrite(data, 1, bytes, f->stream) != bytes) return unwritten(f);
    f->bytes += bytes;
    return WEFT_OK;
}

/* The directory's entry of a file. */
static weft_status sync_entry(const char *path) {
    char parent[WEFT_PATH_SIZE];
    WEFT_TRY(weft_fs_path(parent, "%s", path));
    char *slash = strrchr(parent, '/');
    if (!slash) return weft_fs_sync_dir(".");
    slash[slash == parent] = '\0';
    return weft_fs_sync_dir(parent);
}

weft_status weft_work_publish(weft_work_file *f) {
    if (fflush(f->stream) != 0 || fsync(fileno(f->stream)) != 0) return unwritten(f);
    FILE *stream = f->stream;
    f->stream = NULL;
    if (fclose(stream) != 0) return unwritten(f);
    if (rename(f->temporary, f->path) != 0)
        WEFT_FAIL(WEFT_EIO, "%s: cannot be renamed to %s: %s", f->temporary, f->path, strerror(errno));
    char *gone = f->temporary;
    f->temporary = NULL;
    free(gone);
    return sync_entry(f->path);
}

void weft_work_discard(weft_work_file *f) {
    if (f->stream) fclose(f->stream);
    if (f->temporary && unlink(f->temporary) != 0 && errno != ENOENT)
        weft_warn("%s: cannot be removed: %s", f->temporary, strerror(errno));
    free(f->temporary);
    free(f->path);
    free(f->buffer);
    *f = (weft_work_file){0};
}

weft_status weft_work_damaged(const char *path, const char *why) {
    WEFT_FAIL(WEFT_EINPUT, "%s: damaged: %s; remove the work directory and build again", path, why);
}

weft_status weft_work_open(const char *path, int *fd, uint64_t *size) {
    struct stat info;
    int opened = open(path, O_RDONLY | O_CLOEXEC);
    if (opened < 0)
        WEFT_FAIL(errno == ENOENT ? WEFT_EINPUT : WEFT_EIO, "%s: cannot be opened: %s", path,
                  strerror(errno));
    if (fstat(opened, &info) != 0 || !S_ISREG(info.st_mode)) {
        close(opened);
        return weft_work_damaged(path, "not a regular file");
    }
    *fd = opened;
    *size = (uint64_t)info.st_size;
    return WEFT_OK;
}

weft_status weft_work_read_at(int fd, const char *path, void *data, size_t bytes, uint64_t offset) {
    char *p = data;
    while (bytes > 0) {
        ssize_t n = pread(fd, p, bytes, (off_t)offset);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0)
            WEFT_FAIL(WEFT_EIO, "%s: read error at byte %llu: %s", path, (unsigned long long)offset,
                      strerror(errno));
        if (n == 0) return weft_work_damaged(path, "it ends before its index says");
        p += n;
        offset += (uint64_t)n;
        bytes -= (size_t)n;
    }
    return WEFT_OK;
}
