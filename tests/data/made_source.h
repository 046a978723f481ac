/* Files of documents, and what comes out of them: for tests of data/source. */
#ifndef WEFT_TEST_MADE_SOURCE_H
#define WEFT_TEST_MADE_SOURCE_H

#include "data/source/source.h"

typedef enum packing { PLAIN, GZIP, ZSTD } packing;

/* Appends to what is there: gzip members and zstd frames may follow one another. */
void made_append(const char *path, const void *data, size_t bytes, packing how);
/* A new file in a new directory, with the packing's ending behind the name. The caller frees the path. */
char *made_file(const char *name, const void *data, size_t bytes, packing how);
/* What `data` is as gzip, zlib or raw deflate (zlib's window bits 15 + 16, 15, -15). The caller frees. */
unsigned char *made_deflated(const void *data, size_t bytes, int window, size_t *packed);

/* For made_read: path, options and the tally's limit go in. */
typedef struct reading {
    const char *path;
    const weft_source_options *options;
    weft_source_tally tally;
    weft_status status;
    char *text; /* "line|domain|url|text\n" for each document; the caller frees */
    size_t bytes;
} reading;

/* Reads all; checks that the tally agrees, that no text is empty, no UTF-8 or has a NUL, and that
 * weft_source_fetch finds each document again. */
void made_read(void *a_reading);
/* The same, and that it comes to this; returns the tally. */
weft_source_tally made_reads(const char *path, const weft_source_options *o, int64_t max_malformed,
                             const char *want);
/* The same with an error that says `path` and `why`. */
void made_refused(const char *path, const weft_source_options *o, int64_t max_malformed, const char *why);

#endif
