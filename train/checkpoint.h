/* Checkpoints: RUN/checkpoints/step_00000100/ with one serial HDF5 file per writing rank and a MANIFEST (JSON).
 * Files hold fragments of logical tensors: name, dtype, global shape, box. Any layout reads what any layout wrote. */
#ifndef WEFT_CHECKPOINT_H
#define WEFT_CHECKPOINT_H

#include "parallel/world.h"
#include "runtime/hash.h"
#include "runtime/real.h"

#define WEFT_CKPT_MAX_DIMS 4

/* A box of a logical tensor in this rank's memory, dense and row-major. */
typedef struct weft_fragment {
    const char *name;                        /* "param/layers.0.mamba.A_log", "adam_m/...", "adam_v/..." */
    weft_dtype dtype;
    int ndim;
    int64_t shape[WEFT_CKPT_MAX_DIMS];       /* global */
    int64_t offset[WEFT_CKPT_MAX_DIMS];      /* of the box */
    int64_t extent[WEFT_CKPT_MAX_DIMS];
    void *data;                              /* read by save, written by load */
} weft_fragment;

/* Everything of a run that is not a tensor. */
typedef struct weft_ckpt_state {
    int64_t step;               /* optimizer updates done */
    uint64_t samples;           /* global samples consumed: the data's one counter */
    int64_t tokens;             /* tokens trained on */
    uint64_t seed;
    weft_hash128 tokenizer;     /* digest; zero: none */
    weft_hash128 data;          /* content digest of the shards; zero: random */
    char *config_yaml;          /* whole configuration; malloc'ed by load, weft_ckpt_state_free */
} weft_ckpt_state;
void weft_ckpt_state_free(weft_ckpt_state *s);

typedef struct weft_ckpt_options {
    int64_t keep;        /* newest K verified ones stay, >= 1 */
    int64_t keep_every;  /* and each whose step is a multiple; 0: none */
    bool compress;
    const char *tokenizer_model; /* path of a tokenizer.model that is copied in, or NULL */
} weft_ckpt_options;

/* Collective. Saves under RUN/checkpoints by the commit protocol: free space agreed, step_N.tmp.<id>/ written with
 * every return code checked, each file fsynced and re-hashed, status agreed, MANIFEST written and fsynced by rank 0,
 * directory fsynced, renamed, parent fsynced, `latest` replaced, only then older ones pruned. Each fragment is
 * written once by the rank that passes it: replicated tensors are passed by one rank only. On failure the temporary
 * is removed, earlier checkpoints stay, and the status is returned on every rank. */
weft_status weft_ckpt_save(const weft_world *w, const char *run, const weft_ckpt_state *state,
                           const weft_fragment *fragments, int64_t count, const weft_ckpt_options *options);

/* Collective. Path of the newest checkpoint with a valid manifest whose files have the hashes that it states; older
 * ones are tried, with a warning, when it has not. *found = false when there is none. Fails when the checkpoints
 * folder holds something but nothing valid. `path` has `size` bytes. */
weft_status weft_ckpt_find(const weft_world *w, const char *run, bool *found, char *path, size_t size);

/* Reads state only. Collective on w. Cheap: reads the MANIFEST, checks nothing else. */
weft_status weft_ckpt_read_state(const weft_world *w, const char *path, weft_ckpt_state *out);

/* Collective. Verifies the hashes of the files that it needs, then fills each fragment's box from whatever boxes the
 * files hold; a missing tensor, another dtype or shape, or a box not covered exactly is an error by name. */
weft_status weft_ckpt_load(const weft_world *w, const char *path, const weft_fragment *fragments, int64_t count);

/* `weft ckpt ls RUN [--json]`, `weft ckpt verify CHECKPOINT|RUN [--json]`. Not collective. */
weft_status weft_ckpt_command(int argc, char **argv);

#endif
