/* What the files of the checkpoint share; used by train/ckpt_*.c and cmd_ckpt.c only. */
#ifndef WEFT_CKPT_INTERNAL_H
#define WEFT_CKPT_INTERNAL_H

#include "runtime/fs.h"
#include "train/checkpoint.h"

#include <stdarg.h>

/* ---- why something is no checkpoint: kept as text, since it is an error in one place and a warning in
 * another ---- */
typedef struct weft_ckpt_why {
    char text[768];
} weft_ckpt_why;
/* Sets the text and returns `status`. */
weft_status weft_ckpt_because(weft_ckpt_why *why, weft_status status, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* ---- boxes (ckpt_box.c) ---- */
typedef struct weft_box {
    int ndim;
    int64_t offset[WEFT_CKPT_MAX_DIMS], extent[WEFT_CKPT_MAX_DIMS];
} weft_box;

/* Product of n dims times `element`; false when it exceeds int64 or a dim is negative. */
bool weft_box_bytes(const int64_t *dims, int n, size_t element, int64_t *bytes);
int64_t weft_box_volume(const weft_box *b); /* of a box that weft_box_inside has accepted */
/* True when 1 <= ndim <= WEFT_CKPT_MAX_DIMS, shape >= 1, the box lies inside it and nothing overflows. */
bool weft_box_inside(const weft_box *b, const int64_t *shape);
bool weft_box_intersect(const weft_box *a, const weft_box *b, weft_box *out); /* false: nothing in common */
bool weft_box_equal(const weft_box *a, const weft_box *b);
/* For `inner` inside `outer`, with outer's elements dense and row-major: element index of inner's first one,
 * and whether inner's elements are consecutive. */
int64_t weft_box_start(const weft_box *outer, const weft_box *inner);
bool weft_box_dense(const weft_box *outer, const weft_box *inner);
/* Copies the elements of `what`, inside both boxes, between two dense arrays. */
void weft_box_copy(const weft_box *what, const weft_box *from_box, const void *from, const weft_box *to_box,
                   void *to, size_t element);

/* ---- the manifest (ckpt_manifest.c) ---- */
#define WEFT_CKPT_MANIFEST "MANIFEST"
#define WEFT_CKPT_TOKENIZER "tokenizer.model"

typedef struct weft_ckpt_file {
    const char *name;
    int64_t bytes;
    weft_hash128 hash;
} weft_ckpt_file;

typedef struct weft_ckpt_piece { /* a fragment in a file */
    const char *tensor, *dataset;
    weft_dtype dtype;
    int64_t shape[WEFT_CKPT_MAX_DIMS];
    weft_box box;
    int64_t file; /* index */
    weft_hash128 hash;
} weft_ckpt_piece;

typedef struct weft_ckpt_manifest {
    weft_ckpt_state state;
    int64_t world_size;
    weft_ckpt_file *files;
    int64_t file_count;
    weft_ckpt_piece *pieces; /* ordered by tensor; each tensor is covered exactly once */
    int64_t piece_count;
    void *json; /* owns the strings */
} weft_ckpt_manifest;
void weft_ckpt_manifest_free(weft_ckpt_manifest *m);

/* Reads DIR/MANIFEST as it lies there; the caller frees. */
weft_status weft_ckpt_manifest_text(const char *dir, char **text, size_t *bytes, weft_ckpt_why *why);
/* Checks the text's own hash, then every member, number and box: nothing of it is trusted. */
weft_status weft_ckpt_manifest_parse(const char *text, size_t bytes, weft_ckpt_manifest *out,
                                     weft_ckpt_why *why);
/* The text of a manifest. `parts` are the ranks' lists (weft_ckpt_part), one line each, in rank order;
 * `extra` is a further file or NULL. The caller frees. */
weft_status weft_ckpt_manifest_make(const weft_ckpt_state *state, int64_t world_size, const char *parts,
                                    size_t bytes, const weft_ckpt_file *extra, char **text,
                                    size_t *text_bytes);
/* One rank's line: its file (NULL: none) and what is in it. The caller frees. */
weft_status weft_ckpt_part(const weft_ckpt_file *file, const weft_fragment *fragments,
                           const char *const *datasets, const weft_hash128 *hashes, int64_t count,
                           char **line, size_t *bytes);
/* Names become HDF5 paths: 1 to 512 printable characters in parts between single slashes, none of them "." or
 * "..". */
bool weft_ckpt_name_ok(const char *tensor);

/* ---- names in a run directory (ckpt_dir.c) ---- */
typedef enum weft_ckpt_kind {
    WEFT_CKPT_FOREIGN,
    WEFT_CKPT_STEP,
    WEFT_CKPT_TMP,
    WEFT_CKPT_TRASH
} weft_ckpt_kind;
weft_ckpt_kind weft_ckpt_name_kind(const char *name, int64_t *step);
bool weft_ckpt_is_ours(const char *file); /* name of a file that a save writes into its directory */
weft_status weft_ckpt_folder(char out[WEFT_PATH_SIZE], const char *run); /* RUN/checkpoints */
weft_status weft_ckpt_step_path(char out[WEFT_PATH_SIZE], const char *run, int64_t step);
/* Steps for which there is a directory step_N, newest first; the caller frees. *others counts what else is
 * there, hidden names apart, and first_other gets one such name. No folder: none of either. */
weft_status weft_ckpt_list(const char *run, int64_t **steps, int64_t *count, int64_t *others,
                           char first_other[256]);

/* ---- checks (ckpt_verify.c) ---- */
/* Size, and with `hash` content, of one file. */
weft_status weft_ckpt_check_file(const char *dir, const weft_ckpt_file *f, bool hash, weft_ckpt_why *why);
/* Manifest and sizes of the files; *m is set on success. */
weft_status weft_ckpt_check_quick(const char *dir, weft_ckpt_manifest *m, weft_ckpt_why *why);
/* The same, and every file's hash, and every fragment's after reading it through HDF5. */
weft_status weft_ckpt_check_deep(const char *dir, weft_ckpt_manifest *m, weft_ckpt_why *why);
/* Collective: rank 0 reads, all parse. The reason is set on rank 0; elsewhere the status is WEFT_EREMOTE. */
weft_status weft_ckpt_manifest_share(const weft_world *w, const char *dir, weft_ckpt_manifest *m,
                                     weft_ckpt_why *why);

/* ---- HDF5 files (ckpt_hdf5.c) ---- */
/* Writes a new file and syncs it; then reads it back and compares. */
weft_status weft_ckpt_hdf5_write(const char *path, const weft_fragment *fragments,
                                 const char *const *datasets, int64_t count, bool compress);
/* Only for files whose hash has been checked: damaged files can crash the HDF5 library. */
weft_status weft_ckpt_hdf5_open(const char *path, int64_t *file);
void weft_ckpt_hdf5_close(int64_t file);
/* Reads the elements of `what` from the dataset that holds `box` into their place in the dense array that
 * holds `memory`. The dataset must have this dtype and the box's extents. */
weft_status weft_ckpt_hdf5_read(int64_t file, const char *path, const char *dataset, weft_dtype dtype,
                                const weft_box *box, const weft_box *what, const weft_box *memory,
                                void *data);

/* ---- retention (ckpt_retention.c): rank 0 only, under the save's lock ---- */
void weft_ckpt_sweep(const char *run);                              /* temporaries and trash of dead jobs */
weft_status weft_ckpt_discard(const char *path, const char *trash); /* rename, then unlink */
void weft_ckpt_prune(const char *run, int64_t saved, int64_t keep, int64_t keep_every, const char *id);

#endif
