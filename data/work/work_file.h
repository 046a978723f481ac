/* Files of a build's work directory: written beside their name and renamed when whole, read at any place. */
#ifndef WEFT_WORK_FILE_H
#define WEFT_WORK_FILE_H

#include "runtime/status.h"

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* ---- writing: zero it, create, write, publish; in any case discard ---- */
typedef struct weft_work_file {
    char *path, *temporary; /* PATH, PATH.tmp */
    FILE *stream;
    char *buffer;   /* of the stream */
    uint64_t bytes; /* written so far */
} weft_work_file;
weft_status weft_work_create(weft_work_file *f, const char *path);
weft_status weft_work_write(weft_work_file *f, const void *data, size_t bytes);
/* Syncs and renames: PATH is there, whole, also after a loss of power. */
weft_status weft_work_publish(weft_work_file *f);
/* Removes what was not published, and frees. */
void weft_work_discard(weft_work_file *f);

/* ---- reading ---- */
/* WEFT_EINPUT when there is no such file. */
weft_status weft_work_open(const char *path, int *fd, uint64_t *size);
/* WEFT_EINPUT when the file ends before. */
weft_status weft_work_read_at(int fd, const char *path, void *data, size_t bytes, uint64_t offset);
/* WEFT_EINPUT: what is wrong with a file of the work directory, and what to do. */
weft_status weft_work_damaged(const char *path, const char *why);

#endif
