/* The HDF5 files of a checkpoint: one dataset per fragment under the tensor's name, contiguous or, when
 * compressed, chunked with shuffle and zstd; attributes shape and offset say where the fragment lies in the
 * tensor.
 *
 * The HDF5 library crashes when a write fails (disk full, RLIMIT_FSIZE): its caches cannot be given up. Files
 * are therefore written through a driver of our own that never tells the library of a failure: element data
 * go straight to the file, the little metadata are kept in memory and written when the library has closed the
 * file; the first error is remembered, and ends the save. */
#include "data/shard/h5z_zstd.h"
#include "train/ckpt_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <hdf5.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "files and hashes are of little-endian elements");

/* ---- the driver ---- */

typedef struct extent {
    haddr_t at;
    size_t bytes;
    char *data;
} extent;

typedef struct sink { /* one file being written */
    int fd;
    int error;        /* errno of the first failure */
    haddr_t end;      /* of the file, as the library has allocated it */
    extent *metadata; /* in the order of writing: later ones win */
    size_t count, room;
} sink;

typedef struct sink_info {
    sink *to;
} sink_info;

typedef struct sink_file {
    H5FD_t base;
    sink *to;
    haddr_t eoa, eof;
} sink_file;

static void sink_failed(sink *s, int code) {
    if (s->error == 0) s->error = code ? code : EIO;
}

static void sink_pwrite(sink *s, haddr_t at, const void *data, size_t bytes) {
    const char *p = data;
    while (bytes > 0 && s->error == 0) {
        size_t piece = bytes < ((size_t)1 << 30) ? bytes : (size_t)1 << 30;
        ssize_t n = pwrite(s->fd, p, piece, (off_t)at);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) {
            sink_failed(s, n < 0 ? errno : EIO);
            return;
        }
        p += n;
        at += (haddr_t)n;
        bytes -= (size_t)n;
    }
}

static H5FD_t *sink_open(const char *name, unsigned flags, hid_t fapl, haddr_t maxaddr) {
    (void)name, (void)flags, (void)maxaddr;
    const sink_info *info = H5Pget_driver_info(fapl);
    sink_file *f = info ? calloc(1, sizeof *f) : NULL;
    if (!f) return NULL;
    f->to = info->to;
    return &f->base;
}

static herr_t sink_close(H5FD_t *file) {
    sink_file *f = (sink_file *)file;
    f->to->end = f->eoa;
    free(f);
    return 0;
}

static herr_t sink_query(const H5FD_t *file, unsigned long *flags) {
    (void)file;
    *flags = H5FD_FEAT_AGGREGATE_METADATA | H5FD_FEAT_ACCUMULATE_METADATA | H5FD_FEAT_DATA_SIEVE |
             H5FD_FEAT_AGGREGATE_SMALLDATA;
    return 0;
}

static haddr_t sink_get_eoa(const H5FD_t *file, H5FD_mem_t type) {
    (void)type;
    return ((const sink_file *)file)->eoa;
}

static herr_t sink_set_eoa(H5FD_t *file, H5FD_mem_t type, haddr_t at) {
    (void)type;
    ((sink_file *)file)->eoa = at;
    return 0;
}

static haddr_t sink_get_eof(const H5FD_t *file, H5FD_mem_t type) {
    (void)type;
    return ((const sink_file *)file)->eof;
}

static herr_t sink_write(H5FD_t *file, H5FD_mem_t type, hid_t dxpl, haddr_t at, size_t bytes,
                         const void *data) {
    sink_file *f = (sink_file *)file;
    sink *s = f->to;
    (void)dxpl;
    if (at + bytes > f->eof) f->eof = at + bytes;
    if (type == H5FD_MEM_DRAW) {
        sink_pwrite(s, at, data, bytes);
        return 0;
    }
    if (s->count == s->room) {
        size_t room = s->room ? 2 * s->room : 256;
        extent *more = realloc(s->metadata, room * sizeof *more);
        if (!more) {
            sink_failed(s, ENOMEM);
            return 0;
        }
        s->metadata = more;
        s->room = room;
    }
    extent *e = &s->metadata[s->count];
    *e = (extent){.at = at, .bytes = bytes, .data = malloc(bytes ? bytes : 1)};
    if (!e->data) {
        sink_failed(s, ENOMEM);
        return 0;
    }
    memcpy(e->data, data, bytes);
    s->count++;
    return 0;
}

static herr_t sink_read(H5FD_t *file, H5FD_mem_t type, hid_t dxpl, haddr_t at, size_t bytes, void *data) {
    sink *s = ((sink_file *)file)->to;
    char *p = data;
    (void)dxpl;
    memset(data, 0, bytes);
    if (type == H5FD_MEM_DRAW) {
        for (size_t done = 0; done < bytes;) {
            ssize_t n = pread(s->fd, p + done, bytes - done, (off_t)(at + done));
            if (n < 0 && errno == EINTR) continue;
            if (n < 0) sink_failed(s, errno);
            if (n <= 0) break; /* behind the end: zeros */
            done += (size_t)n;
        }
        return 0;
    }
    for (size_t i = 0; i < s->count; i++) {
        const extent *e = &s->metadata[i];
        haddr_t from = e->at > at ? e->at : at;
        haddr_t to = e->at + e->bytes < at + bytes ? e->at + e->bytes : at + bytes;
        if (from < to) memcpy(p + (from - at), e->data + (from - e->at), (size_t)(to - from));
    }
    return 0;
}

static const H5FD_class_t sink_class = {
    .name = "weft_sink",
    .maxaddr = ((haddr_t)1 << 62) - 1,
    .fc_degree = H5F_CLOSE_STRONG,
    .fapl_size = sizeof(sink_info),
    .open = sink_open,
    .close = sink_close,
    .query = sink_query,
    .get_eoa = sink_get_eoa,
    .set_eoa = sink_set_eoa,
    .get_eof = sink_get_eof,
    .read = sink_read,
    .write = sink_write,
    .fl_map = H5FD_FLMAP_DICHOTOMY,
};

/* What the library has left in memory, when it has closed the file. */
static void sink_finish(sink *s) {
    for (size_t i = 0; i < s->count; i++)
        sink_pwrite(s, s->metadata[i].at, s->metadata[i].data, s->metadata[i].bytes);
    if (s->error == 0 && ftruncate(s->fd, (off_t)s->end) != 0) sink_failed(s, errno);
    if (s->error == 0 && fsync(s->fd) != 0) sink_failed(s, errno);
    if (close(s->fd) != 0) sink_failed(s, errno);
    for (size_t i = 0; i < s->count; i++) free(s->metadata[i].data);
    free(s->metadata);
}

/* ---- small parts ---- */

static herr_t keep_first(unsigned n, const H5E_error2_t *e, void *text) {
    if (n == 0) snprintf(text, 256, "%s", e->desc ? e->desc : "no reason given");
    return 0;
}

static weft_status hdf5_failed(const char *path, const char *dataset, const char *what) {
    char text[256] = "no reason given";
    H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, keep_first, text);
    WEFT_FAIL(WEFT_EIO, "%s: HDF5 cannot %s%s%s: %s", path, what, dataset ? " " : "", dataset ? dataset : "",
              text);
}

/* Failures are reported by us, with the file's name; and the library's exit handler, which crashes when a
 * file could not be closed, is left out. */
static void quiet(void) {
    H5dont_atexit();
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
}

/* A new type that the caller closes; negative on failure. */
static hid_t float_type(size_t bytes, size_t exponent_bits, size_t exponent_bias) {
    size_t mantissa_bits = 8 * bytes - 1 - exponent_bits;
    hid_t t = H5Tcopy(H5T_IEEE_F32LE);
    if (t < 0) return t;
    if (H5Tset_fields(t, 8 * bytes - 1, mantissa_bits, exponent_bits, 0, mantissa_bits) < 0 ||
        H5Tset_size(t, bytes) < 0 || H5Tset_ebias(t, exponent_bias) < 0) {
        H5Tclose(t);
        return -1;
    }
    return t;
}

static hid_t type_of(weft_dtype t) {
    switch (t) {
    case WEFT_F32:
        return H5Tcopy(H5T_IEEE_F32LE);
    case WEFT_F64:
        return H5Tcopy(H5T_IEEE_F64LE);
    case WEFT_BF16:
        return float_type(2, 8, 127);
    case WEFT_F16:
        return float_type(2, 5, 15);
    case WEFT_I32:
        return H5Tcopy(H5T_STD_I32LE);
    case WEFT_I64:
        return H5Tcopy(H5T_STD_I64LE);
    case WEFT_U8:
        return H5Tcopy(H5T_STD_U8LE);
    }
    return -1;
}

static void dims_of(const int64_t *from, int n, hsize_t *to) {
    for (int d = 0; d < n; d++) to[d] = (hsize_t)from[d];
}

/* ---- writing ---- */

static bool set_chunks(hid_t dcpl, const weft_fragment *f) {
    const int64_t target = 1 << 20;
    hsize_t chunk[WEFT_CKPT_MAX_DIMS];
    for (int d = 0; d < f->ndim; d++) {
        int64_t row;
        if (!weft_box_bytes(f->extent + d + 1, f->ndim - d - 1, weft_dtype_size(f->dtype), &row))
            return false;
        int64_t rows = row < target ? target / row : 1;
        chunk[d] = (hsize_t)(rows < f->extent[d] ? rows : f->extent[d]);
    }
    unsigned level = 1;
    return H5Pset_chunk(dcpl, f->ndim, chunk) >= 0 && H5Pset_shuffle(dcpl) >= 0 &&
           H5Pset_filter(dcpl, WEFT_H5Z_ZSTD, H5Z_FLAG_MANDATORY, 1, &level) >= 0;
}

static bool put_attribute(hid_t dataset, const char *name, const int64_t *values, int n) {
    hsize_t size = (hsize_t)n;
    hid_t space = H5Screate_simple(1, &size, NULL);
    hid_t a = space < 0 ? -1 : H5Acreate2(dataset, name, H5T_STD_I64LE, space, H5P_DEFAULT, H5P_DEFAULT);
    bool ok = a >= 0 && H5Awrite(a, H5T_NATIVE_INT64, values) >= 0;
    if (a >= 0) H5Aclose(a);
    if (space >= 0) H5Sclose(space);
    return ok;
}

static weft_status write_one(hid_t file, const char *path, const weft_fragment *f, const char *name,
                             bool compress) {
    weft_status st = WEFT_OK;
    hsize_t extent[WEFT_CKPT_MAX_DIMS];
    dims_of(f->extent, f->ndim, extent);
    hid_t type = type_of(f->dtype), space = H5Screate_simple(f->ndim, extent, NULL), dataset = -1;
    hid_t lcpl = H5Pcreate(H5P_LINK_CREATE), dcpl = H5Pcreate(H5P_DATASET_CREATE);
    bool ok = type >= 0 && space >= 0 && lcpl >= 0 && dcpl >= 0 &&
              H5Pset_create_intermediate_group(lcpl, 1) >= 0 &&
              H5Pset_fill_time(dcpl, H5D_FILL_TIME_NEVER) >= 0 && H5Pset_obj_track_times(dcpl, false) >= 0 &&
              (!compress || set_chunks(dcpl, f));
    if (ok) dataset = H5Dcreate2(file, name, type, space, lcpl, dcpl, H5P_DEFAULT);
    if (dataset < 0 || !put_attribute(dataset, "shape", f->shape, f->ndim) ||
        !put_attribute(dataset, "offset", f->offset, f->ndim))
        st = hdf5_failed(path, name, "create");
    else if (H5Dwrite(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, f->data) < 0)
        st = hdf5_failed(path, name, "write");
    if (dataset >= 0 && H5Dclose(dataset) < 0 && st == WEFT_OK) st = hdf5_failed(path, name, "close");
    if (dcpl >= 0) H5Pclose(dcpl);
    if (lcpl >= 0) H5Pclose(lcpl);
    if (space >= 0) H5Sclose(space);
    if (type >= 0) H5Tclose(type);
    return st;
}

static weft_status create_with_sink(const char *path, sink *s, hid_t *file) {
    static hid_t driver = -1;
    sink_info info = {.to = s};
    if (driver < 0) driver = H5FDregister(&sink_class);
    hid_t fapl = H5Pcreate(H5P_FILE_ACCESS);
    *file = -1;
    if (driver >= 0 && fapl >= 0 && H5Pset_driver(fapl, driver, &info) >= 0 &&
        H5Pset_fclose_degree(fapl, H5F_CLOSE_STRONG) >= 0 &&
        H5Pset_alignment(fapl, 1 << 16, 4096) >= 0) /* large datasets at whole pages: faster to copy */
        *file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, fapl);
    weft_status st = *file < 0 ? hdf5_failed(path, NULL, "create the file") : WEFT_OK;
    if (fapl >= 0) H5Pclose(fapl);
    return st;
}

/* Slabs of at most 16 MiB (or one row): a file as large as this rank's state is compared in little memory. */
static weft_status compare_one(int64_t file, const char *path, const weft_fragment *f, const char *name) {
    weft_status st = WEFT_OK;
    int64_t row;
    weft_box box = {.ndim = f->ndim}, slab;
    memcpy(box.offset, f->offset, sizeof box.offset);
    memcpy(box.extent, f->extent, sizeof box.extent);
    if (!weft_box_bytes(f->extent + 1, f->ndim - 1, weft_dtype_size(f->dtype), &row))
        WEFT_FAIL(WEFT_EINTERNAL, "%s: size of %s", path, name);
    int64_t rows = row < (16 << 20) ? (16 << 20) / row : 1;
    if (rows > f->extent[0]) rows = f->extent[0];
    char *buf = malloc((size_t)(rows * row));
    if (!buf) WEFT_FAIL(WEFT_ENOMEM, "%s: no memory to read back %" PRId64 " bytes", path, rows * row);
    for (int64_t at = 0; at < f->extent[0]; at += rows) {
        slab = box;
        slab.offset[0] = f->offset[0] + at;
        slab.extent[0] = rows < f->extent[0] - at ? rows : f->extent[0] - at;
        WEFT_GOTO(st, done, weft_ckpt_hdf5_read(file, path, name, f->dtype, &box, &slab, &slab, buf));
        if (memcmp(buf, (const char *)f->data + at * row, (size_t)(slab.extent[0] * row)) != 0) {
            st = weft_fail(WEFT_EIO,
                           "%s: %s reads back otherwise than it was written: disk or memory is faulty", path,
                           name);
            goto done;
        }
    }
done:
    free(buf);
    return st;
}

weft_status weft_ckpt_hdf5_write(const char *path, const weft_fragment *fragments,
                                 const char *const *datasets, int64_t count, bool compress) {
    weft_status st = WEFT_OK;
    sink s = {.fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666)};
    hid_t file = -1;
    int64_t back;
    if (s.fd < 0) WEFT_FAIL(WEFT_EIO, "%s: cannot be created: %s", path, strerror(errno));
    quiet();
    if (compress) st = weft_h5z_zstd_register();
    if (st == WEFT_OK) st = create_with_sink(path, &s, &file);
    for (int64_t i = 0; i < count && st == WEFT_OK && s.error == 0; i++)
        st = write_one(file, path, &fragments[i], datasets[i], compress);
    if (file >= 0 && H5Fclose(file) < 0 && st == WEFT_OK) st = hdf5_failed(path, NULL, "close the file");
    sink_finish(&s);
    if (st == WEFT_OK && s.error != 0)
        st = weft_fail(WEFT_EIO, "%s: write failed: %s", path, strerror(s.error));
    WEFT_TRY(st);
    WEFT_TRY(weft_ckpt_hdf5_open(path, &back));
    for (int64_t i = 0; i < count && st == WEFT_OK; i++)
        st = compare_one(back, path, &fragments[i], datasets[i]);
    weft_ckpt_hdf5_close(back);
    return st;
}

/* ---- reading ---- */

weft_status weft_ckpt_hdf5_open(const char *path, int64_t *file) {
    quiet();
    WEFT_TRY(weft_h5z_zstd_register());
    hid_t fapl = H5Pcreate(H5P_FILE_ACCESS), f = -1;
    /* No lock: file systems of clusters often have none, and nothing writes a file that has its final name.
     */
    if (fapl >= 0 && H5Pset_file_locking(fapl, false, true) >= 0 &&
        H5Pset_fclose_degree(fapl, H5F_CLOSE_STRONG) >= 0)
        f = H5Fopen(path, H5F_ACC_RDONLY, fapl);
    weft_status st = f < 0 ? hdf5_failed(path, NULL, "open the file") : WEFT_OK;
    if (fapl >= 0) H5Pclose(fapl);
    if (st == WEFT_OK) *file = f;
    return st;
}

void weft_ckpt_hdf5_close(int64_t file) {
    H5Fclose((hid_t)file);
}

/* Whether the dataset is what the manifest says. */
static bool dataset_is(hid_t dataset, hid_t type, hid_t space, const weft_box *box) {
    hsize_t extent[H5S_MAX_RANK];
    hid_t stored = H5Dget_type(dataset);
    bool same = stored >= 0 && H5Tequal(stored, type) > 0 && H5Sget_simple_extent_ndims(space) == box->ndim &&
                H5Sget_simple_extent_dims(space, extent, NULL) == box->ndim;
    for (int d = 0; d < box->ndim && same; d++) same = extent[d] == (hsize_t)box->extent[d];
    if (stored >= 0) H5Tclose(stored);
    return same;
}

static bool select_box(hid_t space, const weft_box *whole, const weft_box *part) {
    hsize_t start[WEFT_CKPT_MAX_DIMS], extent[WEFT_CKPT_MAX_DIMS];
    for (int d = 0; d < part->ndim; d++) start[d] = (hsize_t)(part->offset[d] - whole->offset[d]);
    dims_of(part->extent, part->ndim, extent);
    return H5Sselect_hyperslab(space, H5S_SELECT_SET, start, NULL, extent, NULL) >= 0;
}

weft_status weft_ckpt_hdf5_read(int64_t file, const char *path, const char *dataset, weft_dtype dtype,
                                const weft_box *box, const weft_box *what, const weft_box *memory,
                                void *data) {
    weft_status st = WEFT_OK;
    hsize_t extent[WEFT_CKPT_MAX_DIMS];
    dims_of(memory->extent, memory->ndim, extent);
    hid_t d = H5Dopen2((hid_t)file, dataset, H5P_DEFAULT);
    if (d < 0) return hdf5_failed(path, dataset, "open");
    hid_t type = type_of(dtype), from = H5Dget_space(d), to = H5Screate_simple(memory->ndim, extent, NULL);
    if (type < 0 || from < 0 || to < 0)
        st = hdf5_failed(path, dataset, "describe");
    else if (!dataset_is(d, type, from, box))
        st = weft_fail(WEFT_EINPUT, "%s: dataset %s has not the type and shape that MANIFEST states", path,
                       dataset);
    else if (!select_box(from, box, what) || !select_box(to, memory, what) ||
             H5Dread(d, type, to, from, H5P_DEFAULT, data) < 0)
        st = hdf5_failed(path, dataset, "read");
    if (to >= 0) H5Sclose(to);
    if (from >= 0) H5Sclose(from);
    if (type >= 0) H5Tclose(type);
    H5Dclose(d);
    return st;
}
