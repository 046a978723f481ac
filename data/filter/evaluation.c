#include "data/filter/evaluation.h"
#include "data/source/source_private.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK = 1 << 18 };

typedef struct reading {
    const char *path;
    bool json;
    weft_stream *stream;
    char *buffer;
    size_t capacity, start, filled; /* unread: [start, filled) */
    bool ended;
    int64_t line;
    weft_evaluation_piece *piece;
    weft_evaluation_end *end;
    void *arg;
} reading;

/* ---- lines ---- */
static weft_status read_more(reading *r) {
    memmove(r->buffer, r->buffer + r->start, r->filled - r->start);
    r->filled -= r->start;
    r->start = 0;
    if (r->filled == r->capacity) {
        size_t more = 2 * r->capacity;
        if (more > WEFT_SOURCE_MAX_DOCUMENT)
            WEFT_FAIL(WEFT_EINPUT, "%s:%lld: a line longer than %zu MiB", r->path, (long long)r->line + 1,
                      WEFT_SOURCE_MAX_DOCUMENT >> 20);
        char *buffer = realloc(r->buffer, more);
        if (!buffer) WEFT_FAIL(WEFT_ENOMEM, "%s: no memory for a line of %zu bytes", r->path, more);
        r->buffer = buffer;
        r->capacity = more;
    }
    size_t want = r->capacity - r->filled, got = weft_stream_read(r->stream, r->buffer + r->filled, want);
    r->filled += got;
    r->ended = got < want;
    weft_status status;
    const char *damage = r->ended ? weft_stream_damage(r->stream, &status) : NULL;
    if (damage) WEFT_FAIL(status, "%s: %s", r->path, damage);
    return WEFT_OK;
}

/* The next line without its newline, valid until the next call; NULL at the end. */
static weft_status next_line(reading *r, const char **line, size_t *bytes) {
    size_t searched = 0;
    for (;;) {
        size_t unread = r->filled - r->start;
        const char *from = r->buffer + r->start;
        const char *stop = unread > searched ? memchr(from + searched, '\n', unread - searched) : NULL;
        if (stop || r->ended) {
            *bytes = stop ? (size_t)(stop - from) : unread;
            *line = unread > 0 ? from : NULL;
            r->start += *bytes + (stop != NULL);
            r->line++;
            return WEFT_OK;
        }
        searched = unread;
        WEFT_TRY(read_more(r));
    }
}

/* ---- texts ---- */
/* Every string in a value; as deep as jansson parses. */
static weft_status take_strings(const reading *r, json_t *value) {
    if (json_is_string(value)) {
        WEFT_TRY(r->piece(r->arg, json_string_value(value), json_string_length(value), r->line));
        return r->end(r->arg);
    }
    size_t index;
    json_t *inner;
    json_array_foreach(value, index, inner) WEFT_TRY(take_strings(r, inner));
    const char *name;
    json_object_foreach(value, name, inner) WEFT_TRY(take_strings(r, inner));
    return WEFT_OK;
}

static weft_status take_json(const reading *r, const char *line, size_t bytes) {
    size_t blank = 0;
    while (blank < bytes && (line[blank] == ' ' || line[blank] == '\t' || line[blank] == '\r')) blank++;
    if (blank == bytes) return WEFT_OK;
    json_error_t error;
    json_t *root = json_loadb(line, bytes, JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, &error);
    if (!root) WEFT_FAIL(WEFT_EINPUT, "%s:%lld: not JSON: %s", r->path, (long long)r->line, error.text);
    weft_status st = json_is_object(root)
                         ? take_strings(r, root)
                         : weft_fail(WEFT_EINPUT, "%s:%lld: not a JSON object", r->path, (long long)r->line);
    json_decref(root);
    return st;
}

static weft_status take_lines(reading *r) {
    const char *line;
    size_t bytes;
    for (;;) {
        WEFT_TRY(next_line(r, &line, &bytes));
        if (!line) break;
        if (r->line == 1 && bytes >= 3 && memcmp(line, "\xef\xbb\xbf", 3) == 0) line += 3, bytes -= 3;
        if (r->json)
            WEFT_TRY(take_json(r, line, bytes));
        else if (!weft_utf8_valid(line, bytes))
            WEFT_FAIL(WEFT_EINPUT, "%s:%lld: not UTF-8", r->path, (long long)r->line);
        else
            WEFT_TRY(r->piece(r->arg, line, bytes, r->line));
    }
    return r->json ? WEFT_OK : r->end(r->arg);
}

weft_status weft_evaluation_read(const char *path, weft_evaluation_piece *piece, weft_evaluation_end *end,
                                 void *arg) {
    weft_packing packing;
    weft_format_kind kind = weft_source_kind(path, WEFT_FORMAT_AUTO, &packing);
    if (kind != WEFT_FORMAT_JSONL && kind != WEFT_FORMAT_TXT)
        WEFT_FAIL(WEFT_EINPUT,
                  "%s: an evaluation file's name ends in .jsonl, .ndjson or .txt, or one of these with "
                  ".gz or .zst",
                  path);
    reading r = {.path = path,
                 .json = kind == WEFT_FORMAT_JSONL,
                 .capacity = BLOCK,
                 .piece = piece,
                 .end = end,
                 .arg = arg};
    WEFT_TRY(weft_stream_open(&r.stream, path, packing));
    r.buffer = malloc(r.capacity);
    weft_status st = r.buffer ? take_lines(&r) : weft_fail(WEFT_ENOMEM, "%s: no memory to read it", path);
    weft_stream_close(r.stream);
    free(r.buffer);
    return st;
}
