#include "data/source/source_stream.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

enum {
    INPUT_BYTES = 1 << 17,
    MAX_WINDOW_LOG = 31, /* what zstd --long=31 wrote is read too */
};

struct weft_stream {
    int fd;
    weft_packing packing;
    int64_t offset;    /* in the file, of what follows the input buffer */
    char *input;       /* [INPUT_BYTES] */
    size_t at, filled; /* input not yet decoded: [at, filled) */
    bool file_ended;
    bool whole; /* at the end of a member or frame */
    bool gz_ready;
    z_stream gz;
    ZSTD_DStream *zstd;
    weft_status damage; /* not WEFT_OK: the data end here */
    char what[256];
};

void weft_stream_close(weft_stream *s) {
    if (!s) return;
    if (s->gz_ready) inflateEnd(&s->gz);
    ZSTD_freeDStream(s->zstd);
    if (s->fd >= 0) close(s->fd);
    free(s->input);
    free(s);
}

static weft_status prepare(weft_stream *s, const char *path) {
    if (s->packing == WEFT_GZIP) {
        s->gz_ready = inflateInit2(&s->gz, 15 + 16) == Z_OK; /* largest window, gzip header */
        if (!s->gz_ready) WEFT_FAIL(WEFT_ENOMEM, "%s: zlib cannot be started", path);
    }
    if (s->packing == WEFT_ZSTD) {
        s->zstd = ZSTD_createDStream();
        if (!s->zstd || ZSTD_isError(ZSTD_DCtx_setParameter(s->zstd, ZSTD_d_windowLogMax, MAX_WINDOW_LOG)))
            WEFT_FAIL(WEFT_ENOMEM, "%s: zstd cannot be started", path);
    }
    return WEFT_OK;
}

weft_status weft_stream_open(weft_stream **out, const char *path, weft_packing packing) {
    struct stat info;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        WEFT_FAIL(errno == ENOENT ? WEFT_EINPUT : WEFT_EIO, "%s: cannot be opened: %s", path,
                  strerror(errno));
    if (fstat(fd, &info) != 0 || S_ISDIR(info.st_mode)) {
        close(fd);
        WEFT_FAIL(WEFT_EINPUT, "%s: a directory; name the files in it", path);
    }
    weft_stream *s = calloc(1, sizeof *s);
    if (!s) {
        close(fd);
        WEFT_FAIL(WEFT_ENOMEM, "%s: no memory to read it", path);
    }
    s->fd = fd;
    s->packing = packing;
    s->input = malloc(INPUT_BYTES);
    weft_status st = s->input ? prepare(s, path) : weft_fail(WEFT_ENOMEM, "%s: no memory to read it", path);
    if (st != WEFT_OK) {
        weft_stream_close(s);
        return st;
    }
    *out = s;
    return WEFT_OK;
}

__attribute__((format(printf, 3, 4))) static void damaged(weft_stream *s, weft_status status, const char *fmt,
                                                          ...) {
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(s->what, sizeof s->what, fmt, ap);
    va_end(ap);
    s->damage = status;
}

static size_t read_file(weft_stream *s, void *data, size_t capacity) {
    ssize_t n;
    do n = read(s->fd, data, capacity);
    while (n < 0 && errno == EINTR);
    if (n < 0) {
        damaged(s, WEFT_EIO, "read error at byte %lld: %s", (long long)s->offset, strerror(errno));
        return 0;
    }
    s->offset += n;
    s->file_ended = n == 0;
    return (size_t)n;
}

static long long position(const weft_stream *s) {
    return (long long)(s->offset - (int64_t)(s->filled - s->at));
}

/* Each decodes some of the input into out[*done ...capacity): returns the decoder's complaint, or NULL. */
static const char *decode_gzip(weft_stream *s, char *out, size_t capacity, size_t *done) {
    if (s->whole && s->at < s->filled) inflateReset(&s->gz); /* the next member */
    size_t room = capacity - *done;
    s->gz.next_in = (unsigned char *)s->input + s->at;
    s->gz.avail_in = (unsigned)(s->filled - s->at);
    s->gz.next_out = (unsigned char *)out + *done;
    s->gz.avail_out = room > INPUT_BYTES ? INPUT_BYTES : (unsigned)room;
    unsigned offered = s->gz.avail_out;
    int code = inflate(&s->gz, Z_NO_FLUSH);
    s->at = s->filled - s->gz.avail_in;
    *done += offered - s->gz.avail_out;
    s->whole = code == Z_STREAM_END;
    if (code == Z_OK || code == Z_STREAM_END || code == Z_BUF_ERROR) return NULL;
    return s->gz.msg ? s->gz.msg : zError(code);
}

/* A call that meets damage does not say what it had decoded: a block at a time, so that no more is lost. */
static const char *decode_zstd(weft_stream *s, char *out, size_t capacity, size_t *done) {
    size_t room = capacity - *done < ZSTD_DStreamOutSize() ? capacity - *done : ZSTD_DStreamOutSize();
    ZSTD_inBuffer from = {.src = s->input, .size = s->filled, .pos = s->at};
    ZSTD_outBuffer to = {.dst = out, .size = *done + room, .pos = *done};
    size_t code = ZSTD_decompressStream(s->zstd, &to, &from);
    if (ZSTD_isError(code)) return ZSTD_getErrorName(code);
    s->at = from.pos;
    *done = to.pos;
    s->whole = code == 0;
    return NULL;
}

/* Decodes until there is something, or the data end. */
static size_t unpack(weft_stream *s, char *out, size_t capacity) {
    const char *kind = s->packing == WEFT_GZIP ? "gzip" : "zstd";
    size_t done = 0;
    while (done == 0) {
        if (s->at == s->filled && !s->file_ended) {
            s->at = 0;
            s->filled = read_file(s, s->input, INPUT_BYTES);
            if (s->damage != WEFT_OK) return 0;
        }
        if (s->at == s->filled && s->file_ended && s->whole) return 0;
        size_t at = s->at;
        const char *complaint = s->packing == WEFT_GZIP ? decode_gzip(s, out, capacity, &done)
                                                        : decode_zstd(s, out, capacity, &done);
        if (complaint) {
            damaged(s, WEFT_EINPUT, "damaged %s data near byte %lld: %s", kind, position(s), complaint);
            return done;
        }
        bool progress = done > 0 || s->at > at || s->whole;
        if (s->file_ended && s->at == s->filled && !progress) {
            damaged(s, WEFT_EINPUT, "truncated %s data: the file ends at byte %lld, inside the data", kind,
                    position(s));
            return 0;
        }
    }
    return done;
}

size_t weft_stream_read(weft_stream *s, void *data, size_t capacity) {
    size_t done = 0;
    while (done < capacity && s->damage == WEFT_OK) {
        char *out = (char *)data + done;
        size_t n =
            s->packing == WEFT_PLAIN ? read_file(s, out, capacity - done) : unpack(s, out, capacity - done);
        if (n == 0) break;
        done += n;
    }
    return done;
}

const char *weft_stream_damage(const weft_stream *s, weft_status *status) {
    if (s->damage == WEFT_OK) return NULL;
    *status = s->damage;
    return s->what;
}
