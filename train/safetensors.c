#include "train/safetensors.h"
#include "runtime/fs.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "the format is little-endian, and bytes are used as they are");

enum { PREFIX_BYTES = 8, BUFFER_ELEMENTS = 1 << 16, NAME_IN_MESSAGE = 200 };
#define MAX_TRANSFER ((size_t)1 << 30) /* Linux moves at most 2 GiB in one call */

/* ---- number formats ----------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    int bytes;
    weft_st_kind kind;
} g_dtypes[] = {
    {"F32", 4, WEFT_ST_F32},       {"BF16", 2, WEFT_ST_BF16},     {"F16", 2, WEFT_ST_F16},
    {"F64", 8, WEFT_ST_F64},       {"I64", 8, WEFT_ST_OTHER},     {"U64", 8, WEFT_ST_OTHER},
    {"I32", 4, WEFT_ST_OTHER},     {"U32", 4, WEFT_ST_OTHER},     {"I16", 2, WEFT_ST_OTHER},
    {"U16", 2, WEFT_ST_OTHER},     {"I8", 1, WEFT_ST_OTHER},      {"U8", 1, WEFT_ST_OTHER},
    {"F8_E4M3", 1, WEFT_ST_OTHER}, {"F8_E5M2", 1, WEFT_ST_OTHER}, {"BOOL", 1, WEFT_ST_OTHER},
};

static int kind_bytes(weft_st_kind kind) {
    return kind == WEFT_ST_F64 ? 8 : kind == WEFT_ST_F32 ? 4 : 2;
}

static float float_from_bits(uint32_t bits) {
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static float float_from_half(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16, exponent = (h >> 10) & 0x1fu, fraction = h & 0x3ffu;
    if (exponent == 0x1f) return float_from_bits(sign | 0x7f800000u | fraction << 13);
    if (exponent == 0) { /* zero and subnormals: fraction * 2^-24, exact in float */
        float v = (float)fraction * 0x1p-24f;
        return sign ? -v : v;
    }
    return float_from_bits(sign | (exponent + 112) << 23 | fraction << 13);
}

static uint16_t bf16_from_float(float f) {
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    if ((bits & 0x7fffffffu) > 0x7f800000u)
        return (uint16_t)(bits >> 16 | 0x40); /* rounding could make it infinite */
    return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1)) >> 16);
}

/* ---- reading ------------------------------------------------------------------------------------------ */

struct weft_st_file {
    char *path;
    int fd;
    json_t *header; /* owns the names */
    weft_st_tensor *tensors;
    int64_t count;
};

static weft_status read_all(const weft_st_file *f, void *buffer, size_t bytes, int64_t at) {
    char *p = buffer;
    while (bytes) {
        ssize_t n = pread(f->fd, p, bytes < MAX_TRANSFER ? bytes : MAX_TRANSFER, at);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) WEFT_FAIL(WEFT_EIO, "%s: cannot read: %s", f->path, strerror(errno));
        if (n == 0) WEFT_FAIL(WEFT_EINPUT, "%s: is truncated: it became shorter while it was read", f->path);
        p += n, at += n, bytes -= (size_t)n;
    }
    return WEFT_OK;
}

static bool printable(const char *s) {
    if (!*s) return false;
    for (; *s; s++)
        if ((unsigned char)*s < 0x20 || *s == 0x7f) return false;
    return true;
}

/* Errors about tensor `name` of this file begin alike. */
#define FAIL_TENSOR(f, name, fmt, ...)                                                                       \
    WEFT_FAIL(WEFT_EINPUT, "%s: tensor %.*s: " fmt, (f)->path, NAME_IN_MESSAGE, (name), ##__VA_ARGS__)

static weft_status parse_shape(const weft_st_file *f, const json_t *shape, weft_st_tensor *t) {
    if (!json_is_array(shape)) FAIL_TENSOR(f, t->name, "has no shape array");
    if (json_array_size(shape) > WEFT_ST_DIMS)
        FAIL_TENSOR(f, t->name, "has %zu dimensions; at most %d are read", json_array_size(shape),
                    WEFT_ST_DIMS);
    t->ndim = (int)json_array_size(shape);
    t->numel = 1;
    for (int i = 0; i < t->ndim; i++) {
        const json_t *dim = json_array_get(shape, (size_t)i);
        if (!json_is_integer(dim) || json_integer_value(dim) < 0)
            FAIL_TENSOR(f, t->name, "dimension %d of its shape is not a size", i);
        t->shape[i] = json_integer_value(dim);
        if (__builtin_mul_overflow(t->numel, t->shape[i], &t->numel))
            FAIL_TENSOR(f, t->name, "its shape overflows 64 bits");
    }
    return WEFT_OK;
}

static weft_status parse_tensor(const weft_st_file *f, const json_t *entry, int64_t data_at,
                                int64_t data_bytes, weft_st_tensor *t) {
    if (!json_is_object(entry)) FAIL_TENSOR(f, t->name, "its entry is not a JSON object");
    const char *dtype = json_string_value(json_object_get(entry, "dtype"));
    if (!dtype) FAIL_TENSOR(f, t->name, "has no dtype");
    int element_bytes = 0;
    for (size_t i = 0; i < sizeof g_dtypes / sizeof *g_dtypes; i++)
        if (strcmp(dtype, g_dtypes[i].name) == 0) {
            element_bytes = g_dtypes[i].bytes;
            t->dtype = g_dtypes[i].name;
            t->kind = g_dtypes[i].kind;
        }
    if (!element_bytes) FAIL_TENSOR(f, t->name, "unknown dtype %.*s", printable(dtype) ? 32 : 0, dtype);
    WEFT_TRY(parse_shape(f, json_object_get(entry, "shape"), t));
    const json_t *offsets = json_object_get(entry, "data_offsets");
    const json_t *begin = json_array_get(offsets, 0), *end = json_array_get(offsets, 1);
    if (json_array_size(offsets) != 2 || !json_is_integer(begin) || !json_is_integer(end))
        FAIL_TENSOR(f, t->name, "data_offsets is not a pair of integers");
    int64_t b = json_integer_value(begin), e = json_integer_value(end), bytes;
    if (b < 0 || e < b || e > data_bytes)
        FAIL_TENSOR(
            f, t->name,
            "its bytes %lld to %lld are not within the file's %lld bytes of data; is the file truncated?",
            (long long)b, (long long)e, (long long)data_bytes);
    if (__builtin_mul_overflow(t->numel, (int64_t)element_bytes, &bytes) || bytes != e - b)
        FAIL_TENSOR(f, t->name, "its shape and dtype do not make the %lld bytes that its offsets say",
                    (long long)(e - b));
    t->begin = data_at + b;
    t->end = data_at + e;
    return WEFT_OK;
}

static int by_position(const void *a, const void *b) {
    const weft_st_tensor *s = a, *t = b;
    if (s->begin != t->begin) return s->begin < t->begin ? -1 : 1;
    return (s->end > t->end) - (s->end < t->end);
}

static weft_status parse_header(weft_st_file *f, int64_t data_at, int64_t file_bytes) {
    f->tensors = calloc(json_object_size(f->header) + 1, sizeof *f->tensors);
    if (!f->tensors) WEFT_FAIL(WEFT_ENOMEM, "%s: no memory for its list of tensors", f->path);
    const char *name;
    json_t *entry;
    json_object_foreach(f->header, name, entry) {
        if (strcmp(name, "__metadata__") == 0) {
            const char *key;
            json_t *value;
            if (!json_is_object(entry))
                WEFT_FAIL(WEFT_EINPUT, "%s: __metadata__ is not a JSON object", f->path);
            json_object_foreach(entry, key, value) if (!json_is_string(value))
                WEFT_FAIL(WEFT_EINPUT, "%s: __metadata__ holds something other than strings", f->path);
            continue;
        }
        if (!printable(name))
            WEFT_FAIL(WEFT_EINPUT, "%s: a tensor's name is empty or has control characters", f->path);
        weft_st_tensor *t = &f->tensors[f->count++];
        t->name = name;
        WEFT_TRY(parse_tensor(f, entry, data_at, file_bytes - data_at, t));
    }
    qsort(f->tensors, (size_t)f->count, sizeof *f->tensors, by_position);
    int64_t at = data_at;
    for (int64_t i = 0; i < f->count; i++) {
        const weft_st_tensor *t = &f->tensors[i];
        if (t->begin != at)
            FAIL_TENSOR(f, t->name, "%s",
                        t->begin < at ? "overlaps the tensor before it" : "there is a gap before its data");
        at = t->end;
    }
    if (at != file_bytes)
        WEFT_FAIL(WEFT_EINPUT, "%s: %lld bytes behind the last tensor belong to none", f->path,
                  (long long)(file_bytes - at));
    return WEFT_OK;
}

static weft_status open_and_check(weft_st_file *f) {
    struct stat st;
    f->fd = open(f->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a FIFO must not make this wait */
    if (f->fd < 0) WEFT_FAIL(WEFT_EIO, "%s: cannot open: %s", f->path, strerror(errno));
    if (fstat(f->fd, &st) != 0) WEFT_FAIL(WEFT_EIO, "%s: cannot stat: %s", f->path, strerror(errno));
    if (!S_ISREG(st.st_mode)) WEFT_FAIL(WEFT_EINPUT, "%s: is not a regular file", f->path);
    uint64_t length;
    int64_t size = (int64_t)st.st_size;
    if (size < PREFIX_BYTES)
        WEFT_FAIL(WEFT_EINPUT, "%s: %lld bytes are too few for a safetensors file", f->path, (long long)size);
    WEFT_TRY(read_all(f, &length, PREFIX_BYTES, 0));
    if (length > WEFT_ST_MAX_HEADER)
        WEFT_FAIL(WEFT_EINPUT, "%s: is not a safetensors file (its header would have %llu bytes)", f->path,
                  (unsigned long long)length);
    if ((int64_t)length > size - PREFIX_BYTES)
        WEFT_FAIL(WEFT_EINPUT, "%s: is truncated: the header has %llu bytes, the file %lld", f->path,
                  (unsigned long long)length, (long long)size);
    char *text = malloc((size_t)length + 1);
    if (!text)
        WEFT_FAIL(WEFT_ENOMEM, "%s: no memory for its header of %llu bytes", f->path,
                  (unsigned long long)length);
    weft_status status = read_all(f, text, (size_t)length, PREFIX_BYTES);
    if (status == WEFT_OK && (length == 0 || text[0] != '{'))
        status = weft_fail(WEFT_EINPUT, "%s: is not a safetensors file (its header does not begin with '{')",
                           f->path);
    if (status == WEFT_OK) {
        json_error_t error;
        f->header = json_loadb(text, (size_t)length, JSON_REJECT_DUPLICATES, &error);
        if (!f->header)
            status = weft_fail(WEFT_EINPUT, "%s: its header is not JSON: %s", f->path,
                               printable(error.text) ? error.text : "bad text");
    }
    free(text);
    WEFT_TRY(status);
    return parse_header(f, PREFIX_BYTES + (int64_t)length, size);
}

weft_status weft_st_open(weft_st_file **out, const char *path) {
    weft_st_file *f = calloc(1, sizeof *f);
    if (f) f->path = strdup(path);
    if (!f || !f->path) {
        free(f);
        WEFT_FAIL(WEFT_ENOMEM, "%s: no memory to open it", path);
    }
    f->fd = -1;
    weft_status status = open_and_check(f);
    if (status != WEFT_OK) {
        weft_st_close(f);
        return status;
    }
    *out = f;
    return WEFT_OK;
}

void weft_st_close(weft_st_file *f) {
    if (!f) return;
    if (f->fd >= 0) close(f->fd);
    json_decref(f->header);
    free(f->tensors);
    free(f->path);
    free(f);
}

const char *weft_st_path(const weft_st_file *f) {
    return f->path;
}
int64_t weft_st_count(const weft_st_file *f) {
    return f->count;
}
const weft_st_tensor *weft_st_at(const weft_st_file *f, int64_t i) {
    return &f->tensors[i];
}

static void convert(weft_st_kind kind, const void *in, int64_t count, weft_real *out) {
    const uint16_t *half = in;
    switch (kind) {
    case WEFT_ST_F32:
        for (int64_t i = 0; i < count; i++) out[i] = (weft_real)((const float *)in)[i];
        break;
    case WEFT_ST_F64:
        for (int64_t i = 0; i < count; i++) out[i] = (weft_real)((const double *)in)[i];
        break;
    case WEFT_ST_BF16:
        for (int64_t i = 0; i < count; i++) out[i] = (weft_real)float_from_bits((uint32_t)half[i] << 16);
        break;
    case WEFT_ST_F16:
        for (int64_t i = 0; i < count; i++) out[i] = (weft_real)float_from_half(half[i]);
        break;
    case WEFT_ST_OTHER:
        break;
    }
}

weft_status weft_st_read(const weft_st_file *f, const weft_st_tensor *t, int64_t first, int64_t count,
                         weft_real *out) {
    WEFT_CHECK(first >= 0 && count >= 0 && first <= t->numel - count,
               "elements %lld + %lld of tensor %s, which has %lld", (long long)first, (long long)count,
               t->name, (long long)t->numel);
    if (t->kind == WEFT_ST_OTHER)
        FAIL_TENSOR(f, t->name, "has dtype %s; weights are F32, F16, BF16 or F64", t->dtype);
    const int bytes = kind_bytes(t->kind);
    int64_t at = t->begin + first * bytes;
    if (t->kind == (sizeof(weft_real) == 4 ? WEFT_ST_F32 : WEFT_ST_F64))
        return read_all(f, out, (size_t)count * sizeof(weft_real), at);
    void *buffer = malloc(BUFFER_ELEMENTS * sizeof(double));
    if (!buffer) WEFT_FAIL(WEFT_ENOMEM, "%s: no memory to convert tensor %s", f->path, t->name);
    weft_status status = WEFT_OK;
    while (count > 0 && status == WEFT_OK) {
        int64_t n = count < BUFFER_ELEMENTS ? count : BUFFER_ELEMENTS;
        status = read_all(f, buffer, (size_t)(n * bytes), at);
        if (status == WEFT_OK) convert(t->kind, buffer, n, out);
        out += n, count -= n, at += n * bytes;
    }
    free(buffer);
    return status;
}

/* ---- writing ------------------------------------------------------------------------------------------ */

struct weft_st_writer {
    char *path;
    int fd;
    weft_dtype dtype;
    int64_t expected, appended;       /* elements of the whole file */
    uint64_t buffer[BUFFER_ELEMENTS]; /* aligned for every format */
};

/* The JSON text, padded with spaces so that the data begins at a multiple of 8; malloc'ed, NULL without
 * memory. */
static char *header_text(const char *dtype, int element_bytes, const weft_st_decl *tensors, int64_t count,
                         size_t *bytes) {
    json_t *root = json_pack("{s:{s:s}}", "__metadata__", "format", "pt");
    bool ok = root != NULL;
    int64_t at = 0;
    for (int64_t i = 0; ok && i < count; i++) {
        json_t *shape = json_array();
        int64_t numel = 1;
        for (int k = 0; k < tensors[i].ndim; k++) {
            numel *= tensors[i].shape[k];
            if (json_array_append_new(shape, json_integer(tensors[i].shape[k])) != 0) ok = false;
        }
        json_t *entry = json_pack("{s:s, s:o, s:[I,I]}", "dtype", dtype, "shape", shape, "data_offsets",
                                  (json_int_t)at, (json_int_t)(at + numel * element_bytes));
        at += numel * element_bytes;
        if (json_object_set_new(root, tensors[i].name, entry) != 0) ok = false;
    }
    char *text = ok ? json_dumps(root, JSON_COMPACT) : NULL;
    json_decref(root);
    if (!text) return NULL;
    size_t length = strlen(text), padded = (length + 7) / 8 * 8;
    char *grown = realloc(text, padded + 1);
    if (!grown) {
        free(text);
        return NULL;
    }
    memset(grown + length, ' ', padded - length);
    *bytes = padded;
    return grown;
}

static weft_status write_header(weft_st_writer *w, const weft_st_decl *tensors, int64_t count) {
    const char *dtype = w->dtype == WEFT_BF16 ? "BF16" : w->dtype == WEFT_F64 ? "F64" : "F32";
    size_t bytes = 0;
    char *text = header_text(dtype, (int)weft_dtype_size(w->dtype), tensors, count, &bytes);
    if (!text) WEFT_FAIL(WEFT_ENOMEM, "%s: no memory for its header", w->path);
    uint64_t length = bytes;
    weft_status status = WEFT_OK;
    if (length > WEFT_ST_MAX_HEADER)
        status = weft_fail(WEFT_EINPUT,
                           "%s: %lld tensors make a header above the format's limit; use smaller files",
                           w->path, (long long)count);
    if (status == WEFT_OK) status = weft_fs_write_all(w->fd, &length, PREFIX_BYTES, w->path);
    if (status == WEFT_OK) status = weft_fs_write_all(w->fd, text, bytes, w->path);
    free(text);
    return status;
}

weft_status weft_st_create(weft_st_writer **out, const char *path, weft_dtype dtype,
                           const weft_st_decl *tensors, int64_t count) {
    WEFT_CHECK(dtype == WEFT_F32 || dtype == WEFT_F64 || dtype == WEFT_BF16,
               "safetensors are not written as %s", weft_dtype_name(dtype));
    weft_st_writer *w = calloc(1, sizeof *w);
    if (w) w->path = strdup(path);
    if (!w || !w->path) {
        free(w);
        WEFT_FAIL(WEFT_ENOMEM, "%s: no memory to write it", path);
    }
    w->dtype = dtype;
    for (int64_t i = 0; i < count; i++) {
        int64_t numel = 1;
        for (int k = 0; k < tensors[i].ndim; k++) numel *= tensors[i].shape[k];
        w->expected += numel;
    }
    w->fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    weft_status status = WEFT_OK;
    if (w->fd < 0) status = weft_fail(WEFT_EIO, "%s: cannot create: %s", path, strerror(errno));
    if (status == WEFT_OK) status = write_header(w, tensors, count);
    if (status != WEFT_OK) {
        weft_st_abandon(w);
        return status;
    }
    *out = w;
    return WEFT_OK;
}

weft_status weft_st_append(weft_st_writer *w, const weft_real *data, int64_t count) {
    WEFT_CHECK(count <= w->expected - w->appended, "%s: more elements than declared", w->path);
    w->appended += count;
    if (w->dtype == WEFT_REAL_DTYPE)
        return weft_fs_write_all(w->fd, data, (size_t)count * sizeof *data, w->path);
    while (count > 0) {
        int64_t n = count < BUFFER_ELEMENTS ? count : BUFFER_ELEMENTS;
        void *buffer = w->buffer;
        for (int64_t i = 0; i < n; i++) {
            if (w->dtype == WEFT_BF16)
                ((uint16_t *)buffer)[i] = bf16_from_float((float)data[i]);
            else if (w->dtype == WEFT_F64)
                ((double *)buffer)[i] = (double)data[i];
            else
                ((float *)buffer)[i] = (float)data[i];
        }
        WEFT_TRY(weft_fs_write_all(w->fd, buffer, (size_t)n * weft_dtype_size(w->dtype), w->path));
        data += n, count -= n;
    }
    return WEFT_OK;
}

weft_status weft_st_finish(weft_st_writer *w) {
    weft_status status = WEFT_OK;
    if (w->appended != w->expected)
        status = weft_fail(WEFT_EINTERNAL, "%s: %lld of %lld elements were written", w->path,
                           (long long)w->appended, (long long)w->expected);
    if (status == WEFT_OK && fsync(w->fd) != 0)
        status = weft_fail(WEFT_EIO, "%s: cannot sync: %s", w->path, strerror(errno));
    int fd = w->fd;
    w->fd = -1;
    if (close(fd) != 0 && status == WEFT_OK)
        status = weft_fail(WEFT_EIO, "%s: cannot close: %s", w->path, strerror(errno));
    weft_st_abandon(w);
    return status;
}

void weft_st_abandon(weft_st_writer *w) {
    if (!w) return;
    if (w->fd >= 0) close(w->fd);
    free(w->path);
    free(w);
}
