/* Documents of text from files, read as a stream: memory is bounded by the largest document, not by the file.
 *
 * By the name's ending, each also as .gz or .zst:
 *   .txt          one file is one document
 *   .jsonl        one object a line (.ndjson is the same): the text's field (a string, required), "domain"
 *                 and the URL's field (strings or null, optional); other fields are ignored. A field may be
 *                 a member of a member ("meta.url"). Blank lines are ignored.
 *   .warc         response records with status 200 whose payload is HTML (made text, html.h) or plain text
 *   .wet          conversion records (WARC too): their text as it is
 *   .synthetic    documents of a synthetic task, which the file names (synthetic.h); never packed
 * A format that is asked for (not AUTO) holds for the files whatever their names; "code" is as txt, and means
 * the name to decide the language. .parquet is refused with what converts it: no C library of Debian reads
 * it.
 *
 * What is wrong with a single document is dealt with as the options say: longer than the limit, no UTF-8, a
 * NUL byte; and what is malformed (a line that is no such object, a response without an end of its HTTP
 * header) is skipped within the tally's limit. It is always counted, and the first few of a job are reported
 * with file:line. What is wrong with the file (damaged or truncated packing, a record of WARC that is none or
 * is cut off, a read error) is an error unless `damaged_files` says otherwise, and then counted and reported
 * as well: the rest of the file is left out, with the line or record in which the damage is; a txt keeps its
 * text up to there. A document without text is counted as empty and skipped. A byte-order mark at the start
 * of a file is dropped. */
#ifndef WEFT_SOURCE_H
#define WEFT_SOURCE_H

#include "runtime/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WEFT_SOURCE_MAX_DOCUMENT ((size_t)1 << 30) /* the limit's default, and the most it can be */
#define WEFT_SOURCE_MAX_ERRORS 100                 /* the default limit of malformed documents */
#define WEFT_DOMAIN_NAME 64                        /* bytes of a domain's name with its zero */

typedef struct weft_document {
    const char *text; /* valid UTF-8, not empty, not zero-terminated; valid until the next call */
    size_t bytes;
    const char *domain; /* "" where the source names none */
    const char *url;    /* "" where the source names none; zero-terminated */
    const char *file;   /* as passed to weft_source_open */
    int64_t line;       /* of jsonl the line, of WARC the record, of synthetic the document, from 1; 0: the
                           file is the document */
} weft_document;

typedef enum weft_format {
    WEFT_FORMAT_AUTO,
    WEFT_FORMAT_TXT,
    WEFT_FORMAT_JSONL,
    WEFT_FORMAT_WARC,
    WEFT_FORMAT_WET,
    WEFT_FORMAT_CODE,
    WEFT_FORMAT_SYNTHETIC
} weft_format_kind;
typedef enum weft_on_bad { WEFT_BAD_ERROR, WEFT_BAD_SKIP, WEFT_BAD_REPAIR } weft_on_bad;

typedef struct weft_source_options {
    weft_format_kind format;
    const char *text_field, *url_field; /* NULL: "text", "url" */
    size_t max_document;       /* bytes of a text, a jsonl line, a WARC record; 0: WEFT_SOURCE_MAX_DOCUMENT */
    weft_on_bad oversize;      /* ERROR or SKIP: the line is passed over without being held in memory */
    weft_on_bad invalid_utf8;  /* ERROR; SKIP; REPAIR: U+FFFD for each maximal ill-formed part */
    weft_on_bad nul_bytes;     /* ERROR; SKIP; REPAIR: taken out. (weft_source_next never delivers a NUL.) */
    weft_on_bad damaged_files; /* ERROR; SKIP: what comes before the damage is kept */
} weft_source_options;
/* All ERROR. A line of jsonl with invalid UTF-8 is then a malformed one, and skipped within the tally's
 * limit. REPAIR also makes U+FFFD of half a surrogate pair in a JSON string, which is malformed otherwise. */
extern const weft_source_options weft_source_defaults;

/* Counts of all files of one job: the limit holds for their sum. Zero it, set the limit, pass it to each
 * open. Every document that a file holds is in exactly one of documents, malformed, empty, oversize, invalid;
 * every record of WARC in one of these or in other. */
typedef struct weft_source_tally {
    int64_t max_malformed; /* more malformed lines than this are fatal; 0: the first one is */
    int64_t documents, bytes;
    int64_t malformed, empty;
    int64_t oversize, invalid; /* skipped as the options say: too long; no UTF-8 or a NUL byte */
    int64_t repaired;          /* documents, counted in `documents` too */
    int64_t other; /* WARC records that are no text to read: requests, images, redirects, unknown codings */
    int64_t damaged_files;
    int64_t skipped_bytes; /* of text of the documents that were skipped, as far as it was seen */
} weft_source_tally;

typedef struct weft_source weft_source;

/* WEFT_EINPUT: no such file, a directory, or an unknown name. `options` NULL: weft_source_defaults.
 * `tally`, `path` and the options' fields must outlive the source. Not thread-safe; different sources with
 * different tallies may be read at once. */
weft_status weft_source_open(weft_source **out, const char *path, const weft_source_options *options,
                             weft_source_tally *tally);
void weft_source_close(weft_source *s); /* NULL is allowed */

/* The next document, or *end. WEFT_EINPUT for what the options do not allow, and too many malformed lines,
 * with file:line or file and byte. */
weft_status weft_source_next(weft_source *s, weft_document *doc, bool *end);

/* Reads one document again: the one that weft_source_next delivered with this line. Compressed files are read
 * from the start. WEFT_EINPUT when there is none (the file has changed). *text is malloc'ed. */
weft_status weft_source_fetch(const char *path, const weft_source_options *options, int64_t line, char **text,
                              size_t *bytes);

/* What a file of this name is read as where `asked` is the options' format; AUTO: it is refused. */
weft_format_kind weft_source_reads(const char *path, weft_format_kind asked);

/* The files that a recipe's path stands for, sorted by name (bytes): a file itself; the files below a
 * directory that the format reads (hidden ones and those in hidden directories left out; links to directories
 * not followed; for code: files without a NUL byte among their first 8000); a pattern of glob(7). WEFT_EINPUT
 * when there is none. */
weft_status weft_source_list(const char *path, weft_format_kind format, char ***files, int *count);
void weft_source_list_free(char **files, int count);

/* A domain's name: 1 to 63 of A-Z a-z 0-9 _ . - and no dot first, for it becomes part of a file name. */
bool weft_domain_name_ok(const char *name, size_t bytes);

#endif
