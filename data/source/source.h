/* Documents of text from files: .txt (one file is one document) and .jsonl (one object a line), each also as
 * .gz or .zst. Reads as a stream: memory is bounded by the largest document, not by the file.
 *
 * jsonl: "text" (a string, required), "domain" (a string, optional), other fields are ignored. A line that is
 * not such an object, or not UTF-8, is malformed: it is counted, the first few are reported with file:line,
 * and it is skipped until the limit is passed; then reading fails. Blank lines are ignored. A document
 * without text ("" or an empty file) is counted as empty and skipped. txt must be UTF-8: the first invalid
 * byte is an error. A byte-order mark at the start of a file is dropped. */
#ifndef WEFT_SOURCE_H
#define WEFT_SOURCE_H

#include "runtime/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WEFT_SOURCE_MAX_DOCUMENT ((size_t)1 << 30) /* bytes of one document, or of one jsonl line */
#define WEFT_SOURCE_MAX_ERRORS 100                 /* the default limit of malformed lines */
#define WEFT_DOMAIN_NAME 64                        /* bytes of a domain's name with its zero */

typedef struct weft_document {
    const char *text; /* valid UTF-8, not empty, not zero-terminated; valid until the next call */
    size_t bytes;
    const char *domain; /* "" where the source names none */
    const char *file;   /* as passed to weft_source_open */
    int64_t line;       /* of a jsonl, from 1; 0 for txt */
} weft_document;

/* Counts of all files of one job: the limit holds for their sum. Zero it, set the limit, pass it to each
 * open. */
typedef struct weft_source_tally {
    int64_t max_malformed; /* more malformed lines than this are fatal; 0: the first one is */
    int64_t documents, bytes;
    int64_t malformed, empty;
} weft_source_tally;

typedef struct weft_source weft_source;

/* WEFT_EINPUT: no such file, a directory, or a name that ends in none of .txt .jsonl (.gz .zst). `tally` and
 * `path` must outlive the source. Not thread-safe; different sources with different tallies may be read at
 * once. */
weft_status weft_source_open(weft_source **out, const char *path, weft_source_tally *tally);
void weft_source_close(weft_source *s); /* NULL is allowed */

/* The next document, or *end. WEFT_EINPUT for damaged compressed data (file and byte), invalid UTF-8 in txt
 * (file and byte), a document over the limit, and too many malformed lines (file:line). */
weft_status weft_source_next(weft_source *s, weft_document *doc, bool *end);

/* Bytes of the file read so far and its size, for progress. */
void weft_source_progress(const weft_source *s, int64_t *done, int64_t *total);

/* A domain's name: 1 to 63 of A-Z a-z 0-9 _ . - and no dot first, for it becomes part of a file name. */
bool weft_domain_name_ok(const char *name, size_t bytes);

#endif
