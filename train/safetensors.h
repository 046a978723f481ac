/* safetensors files: u64 little-endian header length, a JSON object that maps tensor names to dtype, shape
 * and data_offsets, then the tensors' bytes, little-endian and row-major, without gaps. Not collective.
 * Format: https://github.com/huggingface/safetensors. */
#ifndef WEFT_SAFETENSORS_H
#define WEFT_SAFETENSORS_H

#include "runtime/real.h"
#include "runtime/status.h"

#include <stdbool.h>

#define WEFT_ST_DIMS 8
#define WEFT_ST_MAX_HEADER 100000000 /* bytes; the format's own limit */

/* ---- reading ------------------------------------------------------------------------------------------ */

typedef struct weft_st_file weft_st_file;

typedef enum weft_st_kind { WEFT_ST_OTHER, WEFT_ST_F32, WEFT_ST_F64, WEFT_ST_BF16, WEFT_ST_F16 } weft_st_kind;

typedef struct weft_st_tensor {
    const char *name;  /* printable: no control characters; lives as long as the file is open */
    const char *dtype; /* as the format spells it: "BF16" */
    weft_st_kind kind; /* OTHER: integers, booleans, 8-bit floats; weft_st_read refuses these */
    int ndim;
    int64_t shape[WEFT_ST_DIMS];
    int64_t numel;
    int64_t begin, end; /* bytes in the file */
} weft_st_tensor;

/* Opens and checks the whole header: length against the file, JSON, every dtype, shape and offset, and that
 * the tensors cover the data exactly, without overlap. The file is input that nobody vouches for: WEFT_EINPUT
 * with the file's and the tensor's name for anything wrong, WEFT_EIO when it cannot be read. */
weft_status weft_st_open(weft_st_file **out, const char *path);
void weft_st_close(weft_st_file *f); /* NULL is fine */
const char *weft_st_path(const weft_st_file *f);

int64_t weft_st_count(const weft_st_file *f);
const weft_st_tensor *weft_st_at(const weft_st_file *f, int64_t i); /* in the order of the data */

/* Elements [first, first + count) of a tensor of kind F32, F64, BF16 or F16, converted to weft_real. `out`
 * may be partly written when it fails. Thread-safe on one file. */
weft_status weft_st_read(const weft_st_file *f, const weft_st_tensor *t, int64_t first, int64_t count,
                         weft_real *out);

/* ---- writing ------------------------------------------------------------------------------------------ */

typedef struct weft_st_writer weft_st_writer;

typedef struct weft_st_decl {
    const char *name;
    int ndim;
    int64_t shape[WEFT_ST_DIMS];
} weft_st_decl;

/* Creates `path` (must not exist) and writes the header for `count` tensors of one dtype (F32, F64 or BF16),
 * in the order given, with __metadata__ {"format": "pt"}. WEFT_EINPUT when the header would exceed the
 * format's limit. */
weft_status weft_st_create(weft_st_writer **out, const char *path, weft_dtype dtype,
                           const weft_st_decl *tensors, int64_t count);
/* The next `count` elements of the file; the tensors follow each other in the declared order. To BF16: round
 * to nearest, ties to even (from float), NaN stays NaN. */
weft_status weft_st_append(weft_st_writer *w, const weft_real *data, int64_t count);
/* Checks that all elements were appended, syncs and closes. Frees `w` in any case; on failure the file is
 * left to the caller to remove. */
weft_status weft_st_finish(weft_st_writer *w);
void weft_st_abandon(weft_st_writer *w); /* closes without any check; NULL is fine */

#endif
