#include "data/source/source_private.h"
#include "runtime/fs.h"
#include "runtime/log.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LOOKED_AT = 8000 /* bytes of a file in which a NUL says that it is no code (git looks at as many) */ };

typedef struct listing {
    weft_format_kind format;
    char **files;
    int count, capacity;
    int parquet; /* files that were left out */
} listing;

static weft_status add(listing *l, const char *path) {
    if (l->count == l->capacity) {
        if (l->capacity > INT_MAX / 2) WEFT_FAIL(WEFT_EINPUT, "%s: too many files", path);
        int capacity = l->capacity ? 2 * l->capacity : 64;
        char **files = realloc(l->files, (size_t)capacity * sizeof *files);
        if (!files) WEFT_FAIL(WEFT_ENOMEM, "%s: no memory to list files", path);
        l->files = files;
        l->capacity = capacity;
    }
    l->files[l->count] = weft_format("%s", path);
    if (!l->files[l->count]) WEFT_FAIL(WEFT_ENOMEM, "%s: no memory to list files", path);
    l->count++;
    return WEFT_OK;
}

static weft_status is_text(const char *path, bool *text) {
    char data[LOOKED_AT];
    size_t done = 0;
    ssize_t n = 1;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    while (fd >= 0 && n != 0 && done < sizeof data) {
        n = read(fd, data + done, sizeof data - done);
        if (n < 0 && errno != EINTR) break;
        if (n > 0) done += (size_t)n;
    }
    int error = errno;
    if (fd >= 0) close(fd);
    if (fd < 0 || n < 0) WEFT_FAIL(WEFT_EIO, "%s: cannot be read: %s", path, strerror(error));
    *text = !memchr(data, 0, done);
    return WEFT_OK;
}

/* A file found, not one that was named: added if the format reads it. */
static weft_status consider(listing *l, const char *path) {
    weft_packing packing;
    size_t length = strlen(path);
    bool reads = false;
    if (l->format == WEFT_FORMAT_CODE)
        WEFT_TRY(is_text(path, &reads));
    else
        reads = weft_source_kind(path, l->format, &packing) != WEFT_FORMAT_AUTO;
    if (!reads && length > 8 && strcmp(path + length - 8, ".parquet") == 0) l->parquet++;
    return reads ? add(l, path) : WEFT_OK;
}

static weft_status walk(listing *l, const char *path);

static weft_status walk_entry(listing *l, const char *path, const struct dirent *e) {
    struct stat info;
    size_t length = strlen(path);
    if (e->d_name[0] == '.') return WEFT_OK;
    char *below = weft_format("%s%s%s", path, length && path[length - 1] == '/' ? "" : "/", e->d_name);
    if (!below) WEFT_FAIL(WEFT_ENOMEM, "%s: no memory to list it", path);
    weft_status st = WEFT_OK;
    if (e->d_type == DT_DIR)
        st = walk(l, below);
    else if (e->d_type == DT_REG)
        st = consider(l, below);
    else if (lstat(below, &info) == 0 && S_ISDIR(info.st_mode))
        st = walk(l, below);
    else if (stat(below, &info) == 0 && S_ISREG(info.st_mode)) /* a link that leads nowhere is no file */
        st = consider(l, below);
    free(below);
    return st;
}

static weft_status walk(listing *l, const char *path) {
    DIR *dir = opendir(path);
    if (!dir) WEFT_FAIL(WEFT_EIO, "%s: cannot be listed: %s", path, strerror(errno));
    weft_status st = WEFT_OK;
    struct dirent *e = NULL;
    while (st == WEFT_OK && (errno = 0, e = readdir(dir))) st = walk_entry(l, path, e);
    if (st == WEFT_OK && errno != 0)
        st = weft_fail(WEFT_EIO, "%s: cannot be listed: %s", path, strerror(errno));
    closedir(dir);
    return st;
}

static weft_status match(listing *l, const char *pattern) {
    glob_t found = {0};
    struct stat info;
    weft_status st = WEFT_OK;
    int code = glob(pattern, GLOB_NOSORT, NULL, &found);
    if (code != 0 && code != GLOB_NOMATCH)
        st = code == GLOB_NOSPACE ? weft_fail(WEFT_ENOMEM, "%s: no memory to list the files", pattern)
                                  : weft_fail(WEFT_EIO, "%s: cannot be listed", pattern);
    for (size_t i = 0; code == 0 && st == WEFT_OK && i < found.gl_pathc; i++) {
        const char *path = found.gl_pathv[i];
        if (stat(path, &info) != 0) continue;
        if (S_ISDIR(info.st_mode))
            st = walk(l, path);
        else if (S_ISREG(info.st_mode))
            st = l->format == WEFT_FORMAT_CODE ? consider(l, path) : add(l, path);
    }
    globfree(&found);
    return st;
}

static int by_name(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static weft_status list(listing *l, const char *path) {
    static const char *const read[] = {".txt, .jsonl, .ndjson, .warc, .wet, .synthetic",
                                       ".txt",
                                       ".jsonl, .ndjson",
                                       ".warc",
                                       ".wet",
                                       "text",
                                       ".synthetic"};
    struct stat info;
    bool there = stat(path, &info) == 0;
    if (!there && !strpbrk(path, "*?["))
        WEFT_FAIL(errno == ENOENT ? WEFT_EINPUT : WEFT_EIO, "%s: cannot be opened: %s", path,
                  strerror(errno));
    if (!there)
        WEFT_TRY(match(l, path));
    else if (S_ISDIR(info.st_mode))
        WEFT_TRY(walk(l, path));
    else
        WEFT_TRY(add(l, path));
    if (l->count == 0)
        WEFT_FAIL(WEFT_EINPUT, "%s: no file there that can be read (%s)%s", path, read[l->format],
                  l->parquet ? "; make .parquet files .jsonl first, with duckdb for example" : "");
    if (l->parquet)
        weft_warn("%s: %d .parquet files are left out; duckdb, for example, makes them .jsonl", path,
                  l->parquet);
    qsort(l->files, (size_t)l->count, sizeof *l->files, by_name);
    return WEFT_OK;
}

weft_status weft_source_list(const char *path, weft_format_kind format, char ***files, int *count) {
    listing l = {.format = format};
    weft_status st = list(&l, path);
    if (st != WEFT_OK) {
        weft_source_list_free(l.files, l.count);
        return st;
    }
    *files = l.files;
    *count = l.count;
    return WEFT_OK;
}

void weft_source_list_free(char **files, int count) {
    for (int i = 0; i < count; i++) free(files[i]);
    free(files);
}
