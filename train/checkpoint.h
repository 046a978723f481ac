/* Checkpoints: RUN/checkpoints/step_00000100/ with one serial HDF5 file per writing rank and a MANIFEST
 * (JSON). Files hold fragments of logical tensors: name, dtype, global shape, box. Any layout reads what any
 * layout wrote. */
#ifndef WEFT_CHECKPOINT_H
#define WEFT_CHECKPOINT_H

#include "parallel/world.h"
#include "runtime/hash.h"
#include "runtime/real.h"

#define WEFT_CKPT_MAX_DIMS 4

/* A box of a logical tensor in this rank's memory, dense and row-major. 1 <= ndim, 1 <= shape, the box lies
 * inside; an extent of 0 is allowed and is nothing to write or read. Names become paths in HDF5: printable
 * characters, parts between single slashes, and no tensor's name is a leading part of another's ("a" and
 * "a/b"). */
typedef struct weft_fragment {
    const char *name; /* "param/layers.0.mamba.A_log", "adam_m/...", "adam_v/..." */
    weft_dtype dtype;
    int ndim;
    int64_t shape[WEFT_CKPT_MAX_DIMS];  /* global */
    int64_t offset[WEFT_CKPT_MAX_DIMS]; /* of the box */
    int64_t extent[WEFT_CKPT_MAX_DIMS];
    void *data; /* read by save, written by load */
} weft_fragment;

/* Everything of a run that is not a tensor. */
typedef struct weft_ckpt_state {
    int64_t step;     /* optimizer updates done */
    uint64_t samples; /* global samples consumed: the data's one counter */
    int64_t tokens;   /* tokens trained on */
    uint64_t seed;
    weft_hash128 tokenizer; /* digest; zero: none */
    weft_hash128 data;      /* content digest of the shards; zero: random */
    char *config_yaml;      /* whole configuration; malloc'ed by load, weft_ckpt_state_free */
} weft_ckpt_state;
void weft_ckpt_state_free(weft_ckpt_state *s);

typedef struct weft_ckpt_options {
    int64_t keep;       /* newest K whole ones stay, the one just saved included; >= 1 */
    int64_t keep_every; /* and each whose step is a multiple; 0: none */
    bool compress;
    const char *tokenizer_model; /* path of a tokenizer.model that is copied in, or NULL */
} weft_ckpt_options;

/* Collective. Saves under RUN/checkpoints by the commit protocol: free space agreed, step_N.tmp.<id>/ written
 * with every return code checked, each file fsynced, read back and hashed, status agreed, MANIFEST written
 * and fsynced by rank 0, directory fsynced, renamed, parent fsynced, `latest` replaced, only then older ones
 * pruned. Each fragment is written once by the rank that passes it: replicated tensors are passed by one rank
 * only, and all fragments together cover each tensor exactly (WEFT_EINTERNAL otherwise). On failure the
 * temporary is removed, earlier checkpoints stay, and every rank returns a failure: WEFT_EREMOTE where
 * another rank has reported it. A checkpoint of the same step that is there already is replaced; until the
 * new one is whole, the old one stays.
 *
 * Removed besides: temporaries and trash of dead jobs. Never removed: what has not the names that a save
 * gives, directories that hold anything else, broken checkpoints, and steps above the saved one (of a run
 * that was taken back to an older step; weft_ckpt_find prefers those: move them away to go on from an older
 * one). One job at a time saves into a run (WEFT_EINPUT for the second, where the file system has locks). */
weft_status weft_ckpt_save(const weft_world *w, const char *run, const weft_ckpt_state *state,
                           const weft_fragment *fragments, int64_t count, const weft_ckpt_options *options);

/* Collective. Path of the newest checkpoint with a valid manifest whose files have the hashes that it states;
 * older ones are tried, with a warning that says what is wrong, when it has not. `latest` decides nothing.
 * *found = false when the checkpoints folder is missing or empty. WEFT_EINPUT when it holds something but
 * nothing valid, so that no used run starts from step 0. `path` has `size` bytes and is written when *found.
 */
weft_status weft_ckpt_find(const weft_world *w, const char *run, bool *found, char *path, size_t size);

/* Reads state only. Collective on w. Cheap: reads and checks the MANIFEST, not the files. The directory may
 * have any name. WEFT_EINPUT, with the reason, when it is no checkpoint. */
weft_status weft_ckpt_read_state(const weft_world *w, const char *path, weft_ckpt_state *out);

/* Collective. Verifies the hashes of the files that this rank needs, then fills each fragment's box from
 * whatever boxes the files hold; a missing tensor, another dtype or shape, or a box not covered exactly is
 * WEFT_EINPUT, by name. Tensors that no rank asks for are left alone. After a failure the content of the
 * boxes is undefined. */
weft_status weft_ckpt_load(const weft_world *w, const char *path, const weft_fragment *fragments,
                           int64_t count);

#endif
