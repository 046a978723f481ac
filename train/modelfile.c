#include "train/modelfile.h"
#include "runtime/hash.h"
#include "runtime/log.h"
#include "train/checkpoint.h"
#include "train/fragments.h"
#include "train/hf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static bool exists(const char *dir, const char *name) {
    char path[WEFT_PATH_SIZE];
    struct stat info;
    return weft_fs_path(path, "%s/%s", dir, name) == WEFT_OK && stat(path, &info) == 0;
}

/* Parameters in an arena of their own. */
static weft_status make_model(weft_modelfile *f, const weft_world *w) {
    WEFT_TRY(
        weft_model_build(&f->model, &f->config.model, WEFT_RECOMPUTE_NONE, "", 0, WEFT_REAL_DTYPE, NULL));
    WEFT_TRY(weft_device_open_cpu(&f->device));
    f->device.threads = weft_world_threads(w);
    size_t bytes = (size_t)f->model.table.flat * sizeof(weft_real);
    WEFT_TRY(weft_arena_init(&f->arena, "parameter", bytes));
    f->params = weft_arena_push(&f->arena, bytes);
    return WEFT_OK;
}

static weft_status load_params(weft_modelfile *f, const weft_world *w) {
    weft_fragment_list list = {0};
    WEFT_TRY(weft_world_agree(weft_fragments_whole(&list, &f->model.table, &f->params, 1)));
    weft_status st = weft_ckpt_load(w, f->path, list.fragments, list.count);
    weft_fragments_free(&list);
    return st;
}

static weft_status open_checkpoint(weft_modelfile *f, const weft_world *w) {
    weft_ckpt_state state = {0};
    WEFT_TRY(weft_ckpt_read_state(w, f->path, &state));
    f->step = state.step;
    f->tokenizer_digest = state.tokenizer;
    weft_config_defaults(&f->config);
    weft_status st = weft_config_parse(&f->config, state.config_yaml, strlen(state.config_yaml), f->path);
    weft_ckpt_state_free(&state);
    if (st == WEFT_OK) st = weft_config_finish(&f->config);
    if (st == WEFT_OK) st = make_model(f, w);
    WEFT_TRY(weft_world_agree(st));
    return load_params(f, w);
}

static weft_status open_run(weft_modelfile *f, const weft_world *w, const char *run) {
    bool found = false;
    weft_log_replicated(false); /* ranks share the search: each says what it finds */
    weft_status st = weft_ckpt_find(w, run, &found, f->path, sizeof f->path);
    weft_log_replicated(true);
    WEFT_TRY(st);
    if (!found) WEFT_FAIL(WEFT_EINPUT, "%s: holds no checkpoint yet", run);
    return open_checkpoint(f, w);
}

static weft_status open_hf(weft_modelfile *f, const weft_world *w) {
    f->is_hf = true;
    weft_config_defaults(&f->config);
    WEFT_TRY(weft_hf_read_config(f->path, &f->config));
    WEFT_TRY(make_model(f, w));
    return weft_hf_read_weights(f->path, &f->model.table, f->params);
}

static bool same(weft_hash128 a, weft_hash128 b) {
    return a.hi == b.hi && a.lo == b.lo;
}

static weft_status find_tokenizer(weft_modelfile *f) {
    weft_hash128 digest = {0, 0};
    if (exists(f->path, "tokenizer.model")) {
        WEFT_TRY(weft_fs_path(f->tokenizer, "%s/tokenizer.model", f->path));
        WEFT_TRY(weft_hash_file(f->tokenizer, &digest, NULL));
    }
    if (f->is_hf) f->tokenizer_digest = digest;
    if (!same(f->tokenizer_digest, digest))
        WEFT_FAIL(WEFT_EINPUT, "%s: its tokenizer.model is %s", f->path,
                  *f->tokenizer ? "not the one that it was trained with" : "missing");
    return WEFT_OK;
}

typedef enum place { NOWHERE, CHECKPOINT, RUN, HUGGING_FACE } place;

static place look(const char *path) {
    if (exists(path, "MANIFEST")) return CHECKPOINT;
    if (exists(path, "checkpoints")) return RUN;
    return weft_hf_is_dir(path) ? HUGGING_FACE : NOWHERE;
}

static weft_status open_place(weft_modelfile *f, const weft_world *w, place where, const char *path) {
    WEFT_TRY(weft_fs_path(f->path, "%s", path));
    switch (where) {
    case CHECKPOINT:
        return open_checkpoint(f, w);
    case RUN:
        return open_run(f, w, path);
    case HUGGING_FACE:
        return open_hf(f, w);
    default:
        WEFT_FAIL(WEFT_EINPUT,
                  "%s: no model here: neither a run directory, nor a checkpoint (MANIFEST), nor a Hugging "
                  "Face directory (config.json)",
                  path);
    }
}

weft_status weft_modelfile_open(weft_modelfile *f, const weft_world *w, const char *path) {
    /* One rank looks: all must go the same way, also on a file system that shows them different things. */
    place where = w->rank == 0 ? look(path) : NOWHERE;
    weft_world_bcast(&where, sizeof where, 0);
    memset(f, 0, sizeof *f);
    weft_log_replicated(true);
    weft_status st = open_place(f, w, where, path);
    if (st == WEFT_OK) st = find_tokenizer(f);
    st = weft_world_agree(st);
    weft_log_replicated(false);
    if (st != WEFT_OK) weft_modelfile_close(f);
    return st;
}

void weft_modelfile_close(weft_modelfile *f) {
    weft_model_free(&f->model);
    weft_device_close(&f->device);
    weft_arena_destroy(&f->arena);
    memset(f, 0, sizeof *f);
}

bool weft_modelfile_fits(const weft_modelfile *f, weft_hash128 digest) {
    return same(f->tokenizer_digest, (weft_hash128){0, 0}) || same(f->tokenizer_digest, digest);
}

weft_status weft_modelfile_tokenizer(const weft_modelfile *f, weft_tokenizer **out) {
    if (!*f->tokenizer)
        WEFT_FAIL(WEFT_EINPUT, "%s: holds no tokenizer.model (trained on random tokens?)", f->path);
    weft_tokenizer *t = NULL;
    WEFT_TRY(weft_tokenizer_open(&t, f->tokenizer));
    weft_status st = WEFT_OK;
    if (weft_tokenizer_vocab_size(t) != f->config.model.vocab_size)
        st = weft_fail(WEFT_EINPUT, "%s: has %lld tokens, the model has %lld", f->tokenizer,
                       (long long)weft_tokenizer_vocab_size(t), (long long)f->config.model.vocab_size);
    if (st == WEFT_OK)
        *out = t;
    else
        weft_tokenizer_close(t);
    return st;
}

weft_status weft_modelfile_size(weft_modelfile *f, int64_t B, int64_t T) {
    weft_microbatch mb = {.B = B, .T = T};
    WEFT_TRY(weft_device_measure(&f->device));
    weft_model_losses(&f->model, &f->device, f->params, &mb, f->config.train.loss_chunk, NULL);
    return weft_device_size(&f->device, f->device.act.peak);
}
