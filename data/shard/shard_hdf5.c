/* The HDF5 side of shards: but for the zstd filter, the only file of data/ that includes hdf5.h. */
#include "data/shard/shard_format.h"

#include "data/shard/h5z_zstd.h"
#include "runtime/fs.h"
#include "runtime/log.h"

#include <errno.h>
#include <fcntl.h>
#include <hdf5.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct weft_shard_h5 {
    char *path;
    hid_t file, tokens;
};

static weft_status g_library;

static void start_library(void) {
    /* The library's exit handler crashes on a file that could not be closed (a failing disk). Files are
     * closed by then anyway. Without effect when the library runs already. */
    H5dont_atexit();
    if (H5open() < 0)
        g_library = weft_fail(WEFT_EINTERNAL, "the HDF5 library does not start");
    else
        g_library = weft_h5z_zstd_register();
}

static herr_t innermost(unsigned n, const H5E_error2_t *e, void *text) {
    (void)n;
    if (e->desc && e->desc[0]) *(const char **)text = e->desc;
    return 0;
}

/* The first cause, of whose several lines only the system's message is of use. */
static void first_cause(char out[256]) {
    static const char mark[] = "error message = '";
    const char *text = "no reason given";
    H5Ewalk2(H5E_DEFAULT, H5E_WALK_DOWNWARD, innermost, &text);
    const char *message = strstr(text, mark);
    if (message) text = message + strlen(mark);
    snprintf(out, 256, "%.*s", (int)strcspn(text, message ? "'\n" : "\n"), text);
}

static weft_status h5_fail(const weft_shard_h5 *h, const char *what) {
    char cause[256];
    first_cause(cause);
    WEFT_FAIL(WEFT_EIO, "%s: %s cannot be written: %s", h->path, what, cause);
}

static weft_status create_tokens(weft_shard_h5 *h, size_t token_bytes) {
    hsize_t none = 0, any = H5S_UNLIMITED, chunk = WEFT_SHARD_CHUNK_TOKENS;
    unsigned level = 3;
    hid_t plist = H5Pcreate(H5P_DATASET_CREATE);
    hid_t space = H5Screate_simple(1, &none, &any);
    hid_t type = token_bytes == 2 ? H5T_STD_U16LE : H5T_STD_U32LE;
    if (plist >= 0 && space >= 0 && H5Pset_obj_track_times(plist, false) >= 0 &&
        H5Pset_chunk(plist, 1, &chunk) >= 0 &&
        H5Pset_filter(plist, WEFT_H5Z_ZSTD, H5Z_FLAG_MANDATORY, 1, &level) >= 0)
        h->tokens = H5Dcreate2(h->file, "tokens", type, space, H5P_DEFAULT, plist, H5P_DEFAULT);
    weft_status st = h->tokens >= 0 ? WEFT_OK : h5_fail(h, "the dataset 'tokens'");
    H5Sclose(space);
    H5Pclose(plist);
    return st;
}

weft_status weft_shard_h5_create(weft_shard_h5 **out, const char *path, size_t token_bytes) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, start_library);
    WEFT_TRY(g_library);
    /* Failures are reported by weft, with the file's name, not by a stack of the library's. Set per thread.
     */
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    weft_status st = WEFT_OK;
    weft_shard_h5 *h = calloc(1, sizeof *h);
    char *copy = weft_format("%s", path);
    if (!h || !copy) {
        free(h);
        free(copy);
        WEFT_FAIL(WEFT_ENOMEM, "%s: no memory to write it", path);
    }
    *h = (weft_shard_h5){.path = copy, .file = H5I_INVALID_HID, .tokens = H5I_INVALID_HID};
    hid_t plist = H5Pcreate(H5P_FILE_CREATE);
    if (plist >= 0 && H5Pset_userblock(plist, WEFT_SHARD_USER_BLOCK) >= 0 &&
        H5Pset_obj_track_times(plist, false) >= 0)
        h->file = H5Fcreate(path, H5F_ACC_EXCL, plist, H5P_DEFAULT);
    if (h->file < 0) st = h5_fail(h, "the file");
    H5Pclose(plist);
    if (st == WEFT_OK) st = create_tokens(h, token_bytes);
    if (st != WEFT_OK) {
        weft_shard_h5_abandon(h);
        return st;
    }
    *out = h;
    return WEFT_OK;
}

weft_status weft_shard_h5_chunk(weft_shard_h5 *h, uint64_t chunk, uint64_t tokens, const void *frame,
                                size_t bytes) {
    hsize_t extent = tokens, offset = chunk * WEFT_SHARD_CHUNK_TOKENS;
    if (H5Dset_extent(h->tokens, &extent) < 0 ||
        H5Dwrite_chunk(h->tokens, H5P_DEFAULT, 0, &offset, bytes, frame) < 0)
        return h5_fail(h, "a chunk of tokens");
    return WEFT_OK;
}

/* Releases of HDF5 differ in whether a chunk's address counts from the file's start or from the end of the
 * user block: the first chunk's hash tells. */
static weft_status find_base(const weft_shard_h5 *h, const weft_shard_chunk *first, uint64_t *base) {
    static const uint64_t candidates[] = {0, WEFT_SHARD_USER_BLOCK};
    weft_status st = WEFT_OK;
    bool found = false;
    void *bytes = malloc(first->bytes);
    int fd = open(h->path, O_RDONLY | O_CLOEXEC);
    if (!bytes || fd < 0) {
        st = weft_fail(bytes ? WEFT_EIO : WEFT_ENOMEM, "%s: cannot be read back: %s", h->path,
                       strerror(errno));
        goto done;
    }
    for (int i = 0; i < 2 && !found; i++) {
        ssize_t n = pread(fd, bytes, first->bytes, (off_t)(first->offset + candidates[i]));
        found = n == (ssize_t)first->bytes && weft_hash64(bytes, first->bytes, 0) == first->xxh3;
        if (found) *base = candidates[i];
    }
    if (!found) st = weft_fail(WEFT_EIO, "%s: the first chunk does not read back as it was written", h->path);
done:
    if (fd >= 0) close(fd);
    free(bytes);
    return st;
}

weft_status weft_shard_h5_locate(weft_shard_h5 *h, weft_shard_chunk *rows, uint64_t chunks) {
    uint64_t base = 0;
    if (H5Fflush(h->file, H5F_SCOPE_GLOBAL) < 0) return h5_fail(h, "the file");
    for (uint64_t i = 0; i < chunks; i++) {
        hsize_t offset = i * WEFT_SHARD_CHUNK_TOKENS, size = 0;
        unsigned mask = 0;
        haddr_t address = HADDR_UNDEF;
        if (H5Dget_chunk_info_by_coord(h->tokens, &offset, &mask, &address, &size) < 0 ||
            address == HADDR_UNDEF || size != rows[i].bytes)
            return h5_fail(h, "the index of the chunks");
        rows[i].offset = address;
    }
    if (chunks > 0) WEFT_TRY(find_base(h, &rows[0], &base));
    for (uint64_t i = 0; i < chunks; i++) rows[i].offset += base;
    return WEFT_OK;
}

weft_status weft_shard_h5_dataset(weft_shard_h5 *h, const char *name, const void *data, uint64_t rows,
                                  uint64_t columns, size_t width, uint64_t *offset) {
    hsize_t dims[2] = {rows, columns};
    hid_t type = width == 8 ? H5T_STD_U64LE : H5T_STD_U32LE;
    hid_t plist = H5Pcreate(H5P_DATASET_CREATE);
    hid_t space = H5Screate_simple(columns > 1 ? 2 : 1, dims, NULL);
    hid_t set = H5I_INVALID_HID;
    haddr_t address = HADDR_UNDEF;
    if (plist >= 0 && space >= 0 && H5Pset_obj_track_times(plist, false) >= 0 &&
        H5Pset_alloc_time(plist, H5D_ALLOC_TIME_EARLY) >= 0 &&
        H5Pset_fill_time(plist, H5D_FILL_TIME_NEVER) >= 0)
        set = H5Dcreate2(h->file, name, type, space, H5P_DEFAULT, plist, H5P_DEFAULT);
    if (set >= 0 && rows == 0)
        address = 0; /* a dataset without rows has no place */
    else if (set >= 0 && H5Dwrite(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) >= 0)
        address = H5Dget_offset(set);
    weft_status st = address == HADDR_UNDEF ? h5_fail(h, name) : WEFT_OK;
    if (set >= 0 && H5Dclose(set) < 0 && st == WEFT_OK) st = h5_fail(h, name);
    H5Sclose(space);
    H5Pclose(plist);
    if (st == WEFT_OK) *offset = address;
    return st;
}

static bool put_attribute(const weft_shard_h5 *h, const char *name, hid_t type, const void *value) {
    hid_t space = H5Screate(H5S_SCALAR);
    hid_t a = H5Acreate2(h->file, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
    bool ok = a >= 0 && H5Awrite(a, type, value) >= 0;
    ok = (a < 0 || H5Aclose(a) >= 0) && ok;
    H5Sclose(space);
    return ok;
}

static bool put_text(const weft_shard_h5 *h, const char *name, const char *value) {
    hid_t type = H5Tcopy(H5T_C_S1);
    bool ok = type >= 0 && H5Tset_size(type, strlen(value) + 1) >= 0 && put_attribute(h, name, type, value);
    H5Tclose(type);
    return ok;
}

static bool put_hash(const weft_shard_h5 *h, const char *name, weft_hash128 value) {
    char hex[WEFT_HASH128_HEX];
    weft_hash128_hex(value, hex);
    return put_text(h, name, hex);
}

static bool put_number(const weft_shard_h5 *h, const char *name, int64_t value) {
    return put_attribute(h, name, H5T_STD_I64LE, &value);
}

static weft_status put_attributes(const weft_shard_h5 *h, const weft_shard_info *info) {
    bool ok = put_text(h, "format", "weft shard") && put_number(h, "version", WEFT_SHARD_VERSION) &&
              put_text(h, "dtype", weft_shard_token_bytes(info->vocab_size) == 2 ? "u16" : "u32") &&
              put_number(h, "vocab_size", info->vocab_size) && put_number(h, "bos", info->bos) &&
              put_number(h, "eos", info->eos) && put_text(h, "domain", info->domain) &&
              put_number(h, "token_count", info->tokens) && put_number(h, "doc_count", info->documents) &&
              put_number(h, "byte_count", info->bytes) && put_hash(h, "tokenizer", info->tokenizer) &&
              put_hash(h, "pipeline", info->pipeline) && put_hash(h, "content", info->content);
    return ok ? WEFT_OK : h5_fail(h, "the attributes");
}

weft_status weft_shard_h5_finish(weft_shard_h5 *h, const weft_shard_info *info) {
    weft_status st = put_attributes(h, info);
    if (st == WEFT_OK) {
        hid_t tokens = h->tokens;
        h->tokens = H5I_INVALID_HID;
        if (H5Dclose(tokens) < 0) st = h5_fail(h, "the dataset 'tokens'");
    }
    if (st == WEFT_OK && H5Fflush(h->file, H5F_SCOPE_GLOBAL) < 0) st = h5_fail(h, "the file");
    if (st == WEFT_OK) {
        hid_t file = h->file;
        h->file = H5I_INVALID_HID;
        if (H5Fclose(file) < 0) st = h5_fail(h, "the file");
    }
    weft_shard_h5_abandon(h);
    return st;
}

void weft_shard_h5_abandon(weft_shard_h5 *h) {
    if (!h) return;
    /* With a full disk the library cannot write its last metadata, and would try again until the process
     * ends. Emptying the unwanted file first makes room for them. */
    if (h->file >= 0 && truncate(h->path, 0) != 0)
        weft_warn("%s: cannot be emptied: %s", h->path, strerror(errno));
    if (h->tokens >= 0) H5Dclose(h->tokens);
    if (h->file >= 0) H5Fclose(h->file);
    free(h->path);
    free(h);
}
