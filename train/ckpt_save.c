/* Writing a checkpoint: see weft_ckpt_save for the protocol. Steps that only rank 0 takes are followed by an
 * agreement, so that no rank waits for one that has failed.
 *
 * A checkpoint of the same step that is there already is replaced: the two directories change names in one
 * system call, and the old one is removed afterwards. File systems that cannot do that get two renames; a
 * crash between them leaves the older checkpoints and no step_N. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* renameat2 */
#endif
#include "runtime/log.h"
#include "train/ckpt_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

typedef struct save {
    const weft_world *w;
    const char *run;
    const weft_ckpt_state *state;
    const weft_ckpt_options *options;
    /* This rank's fragments that are not empty, ordered by name, and the names of their datasets. */
    weft_fragment *fragments;
    char **datasets;
    weft_hash128 *hashes;
    int64_t count, bytes;
    char tmp[WEFT_PATH_SIZE]; /* the same on every rank */
    char final[WEFT_PATH_SIZE], id[17];
    int lock;
    bool made; /* tmp is there */
} save;

/* ---- this rank's fragments ---- */

static weft_status check_fragment(const weft_fragment *f, int64_t *bytes) {
    weft_box b = {.ndim = f->ndim};
    memcpy(b.offset, f->offset, sizeof b.offset);
    memcpy(b.extent, f->extent, sizeof b.extent);
    if (!f->name || !weft_ckpt_name_ok(f->name))
        WEFT_FAIL(WEFT_EINTERNAL, "'%s' cannot be a tensor's name in a checkpoint", f->name ? f->name : "");
    if ((int)f->dtype < WEFT_F32 || f->dtype > WEFT_U8 || !weft_box_inside(&b, f->shape) ||
        !weft_box_bytes(f->extent, f->ndim, weft_dtype_size(f->dtype), bytes) || (*bytes > 0 && !f->data))
        WEFT_FAIL(WEFT_EINTERNAL, "the fragment of %s is not inside the tensor, or has no data", f->name);
    return WEFT_OK;
}

static int by_name(const void *a, const void *b) {
    const weft_fragment *x = a, *y = b;
    int order = strcmp(x->name, y->name);
    for (int d = 0; order == 0 && d < x->ndim && d < y->ndim; d++)
        order = (x->offset[d] > y->offset[d]) - (x->offset[d] < y->offset[d]);
    return order;
}

/* The first fragment of a tensor in a file is called as the tensor, the next NAME#1, and so on. */
static weft_status name_datasets(save *s) {
    int64_t nth = 0;
    for (int64_t i = 0; i < s->count; i++) {
        const char *name = s->fragments[i].name;
        nth = i > 0 && strcmp(name, s->fragments[i - 1].name) == 0 ? nth + 1 : 0;
        size_t size = strlen(name) + 24;
        if (!(s->datasets[i] = malloc(size))) WEFT_FAIL(WEFT_ENOMEM, "no memory for the name of %s", name);
        snprintf(s->datasets[i], size, nth ? "%s#%" PRId64 : "%s", name, nth);
    }
    return WEFT_OK;
}

static weft_status take_fragments(save *s, const weft_fragment *fragments, int64_t count) {
    size_t n = count > 0 ? (size_t)count : 1;
    s->fragments = malloc(n * sizeof *s->fragments);
    s->datasets = calloc(n, sizeof *s->datasets);
    s->hashes = malloc(n * sizeof *s->hashes);
    if (!s->fragments || !s->datasets || !s->hashes)
        WEFT_FAIL(WEFT_ENOMEM, "no memory for a list of %" PRId64 " fragments", count);
    for (int64_t i = 0; i < count; i++) {
        int64_t bytes;
        WEFT_TRY(check_fragment(&fragments[i], &bytes));
        if (bytes == 0) continue;
        s->fragments[s->count++] = fragments[i];
        s->bytes += bytes;
    }
    qsort(s->fragments, (size_t)s->count, sizeof *s->fragments, by_name);
    return name_datasets(s);
}

static weft_status check_arguments(const save *s) {
    const weft_ckpt_state *t = s->state;
    if (t->step < 0 || t->step >= (int64_t)1e18 || t->tokens < 0)
        WEFT_FAIL(WEFT_EINTERNAL, "a checkpoint of step %" PRId64 " and %" PRId64 " tokens", t->step,
                  t->tokens);
    if (s->options->keep < 1 || s->options->keep_every < 0)
        WEFT_FAIL(WEFT_EINPUT,
                  "checkpoints to keep: %" PRId64 " and every %" PRId64 "; at least 1 and 0 are needed",
                  s->options->keep, s->options->keep_every);
    return WEFT_OK;
}

/* ---- before writing (rank 0) ---- */

static void make_id(char id[17]) {
    struct {
        char host[256];
        struct timespec now;
        long pid;
    } seed;
    memset(&seed, 0, sizeof seed);
    gethostname(seed.host, sizeof seed.host - 1);
    clock_gettime(CLOCK_REALTIME, &seed.now);
    seed.pid = (long)getpid();
    snprintf(id, 17, "%016" PRIx64, weft_hash64(&seed, sizeof seed, 0));
}

/* While it is held, every temporary of another job is a dead one's. Where the file system has no locks, jobs
 * that share a run directory are the user's care. */
static weft_status lock_folder(save *s, const char *folder) {
    char path[WEFT_PATH_SIZE];
    WEFT_TRY(weft_fs_path(path, "%s/.lock", folder));
    s->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (s->lock < 0) WEFT_FAIL(WEFT_EIO, "%s: cannot be opened: %s", path, strerror(errno));
    if (flock(s->lock, LOCK_EX | LOCK_NB) == 0) return WEFT_OK;
    if (errno == EWOULDBLOCK)
        WEFT_FAIL(WEFT_EINPUT, "another job is saving into %s; each job needs a run directory of its own",
                  folder);
    weft_debug("%s: no lock: %s", path, strerror(errno));
    return WEFT_OK;
}

static weft_status check_space(const char *folder, int64_t data_bytes, int64_t fragments) {
    /* Headers of HDF5 and the line in MANIFEST: about 2 KiB a fragment; 1 MiB for the rest. */
    uint64_t need = (uint64_t)data_bytes + (uint64_t)fragments * 4096 + (1u << 20), have;
    WEFT_TRY(weft_fs_free_space(folder, &have));
    if (have < need)
        WEFT_FAIL(WEFT_EIO, "%s: a checkpoint needs %.1f MiB, but only %.1f MiB are free", folder,
                  (double)need / (1 << 20), (double)have / (1 << 20));
    return WEFT_OK;
}

static weft_status prepare(save *s, int64_t data_bytes, int64_t fragments) {
    char folder[WEFT_PATH_SIZE];
    struct stat there;
    WEFT_TRY(weft_ckpt_folder(folder, s->run));
    WEFT_TRY(weft_ckpt_step_path(s->final, s->run, s->state->step));
    WEFT_TRY(weft_fs_mkdirs(folder));
    WEFT_TRY(lock_folder(s, folder));
    if (lstat(s->final, &there) == 0 && !S_ISDIR(there.st_mode))
        WEFT_FAIL(WEFT_EINPUT, "%s is in the way: it is no directory", s->final);
    weft_ckpt_sweep(s->run);
    WEFT_TRY(check_space(folder, data_bytes, fragments));
    make_id(s->id);
    WEFT_TRY(weft_fs_path(s->tmp, "%s.tmp.%s", s->final, s->id));
    WEFT_TRY(weft_fs_mkdir(s->tmp));
    s->made = true;
    return WEFT_OK;
}

/* ---- writing ---- */

/* This rank's file, and its line for the manifest. A rank without fragments has no file. */
static weft_status write_mine(save *s, char **line, size_t *bytes) {
    char path[WEFT_PATH_SIZE], name[32];
    weft_ckpt_file file = {.name = name};
    const char *const *datasets = (const char *const *)s->datasets;
    uint64_t size;
    if (s->count == 0) return weft_ckpt_part(NULL, NULL, NULL, NULL, 0, line, bytes);
    snprintf(name, sizeof name, "rank_%05d.h5", s->w->rank);
    WEFT_TRY(weft_fs_path(path, "%s/%s", s->tmp, name));
    for (int64_t i = 0; i < s->count; i++) {
        const weft_fragment *f = &s->fragments[i];
        int64_t n;
        WEFT_TRY(check_fragment(f, &n));
        s->hashes[i] = weft_hash128_of(f->data, (size_t)n);
    }
    WEFT_TRY(weft_ckpt_hdf5_write(path, s->fragments, datasets, s->count, s->options->compress));
    WEFT_TRY(weft_fs_sync_dir(s->tmp));
    WEFT_TRY(weft_hash_file(path, &file.hash, &size));
    file.bytes = (int64_t)size;
    return weft_ckpt_part(&file, s->fragments, datasets, s->hashes, s->count, line, bytes);
}

static weft_status copy_tokenizer(const save *s, weft_ckpt_file *file) {
    char path[WEFT_PATH_SIZE];
    uint64_t size;
    WEFT_TRY(weft_fs_path(path, "%s/" WEFT_CKPT_TOKENIZER, s->tmp));
    WEFT_TRY(weft_fs_copy_file(s->options->tokenizer_model, path));
    WEFT_TRY(weft_hash_file(path, &file->hash, &size));
    file->name = WEFT_CKPT_TOKENIZER;
    file->bytes = (int64_t)size;
    return WEFT_OK;
}

/* Rank 0: MANIFEST, which the loader's own parser must accept before it is written. */
static weft_status write_manifest(const save *s, const char *parts, size_t parts_bytes) {
    char path[WEFT_PATH_SIZE], *text;
    size_t bytes;
    weft_ckpt_file tokenizer;
    weft_ckpt_manifest m;
    weft_ckpt_why why = {"no memory"};
    bool has_tokenizer = s->options->tokenizer_model != NULL;
    if (has_tokenizer) WEFT_TRY(copy_tokenizer(s, &tokenizer));
    WEFT_TRY(weft_ckpt_manifest_make(s->state, s->w->size, parts, parts_bytes,
                                     has_tokenizer ? &tokenizer : NULL, &text, &bytes));
    weft_status st = weft_ckpt_manifest_parse(text, bytes, &m, &why);
    if (st == WEFT_OK)
        weft_ckpt_manifest_free(&m);
    else if (st == WEFT_EINPUT)
        st = weft_fail(WEFT_EINTERNAL, "%s cannot be committed: %s", s->tmp, why.text);
    if (st == WEFT_OK) st = weft_fs_path(path, "%s/" WEFT_CKPT_MANIFEST, s->tmp);
    if (st == WEFT_OK) st = weft_fs_replace_file(path, text, bytes);
    free(text);
    return st;
}

/* ---- commit (rank 0) ---- */

static weft_status rename_failed(const save *s) {
    WEFT_FAIL(WEFT_EIO, "%s: cannot be renamed to %s: %s", s->tmp, s->final, strerror(errno));
}

static weft_status replace_old(save *s, const char *trash) {
    if (renameat2(AT_FDCWD, s->tmp, AT_FDCWD, s->final, RENAME_EXCHANGE) == 0) {
        s->made = false; /* what bears that name now is the old checkpoint */
        if (rename(s->tmp, trash) != 0) return rename_failed(s);
        return WEFT_OK;
    }
    if (errno != EINVAL && errno != ENOSYS && errno != EOPNOTSUPP) return rename_failed(s);
    if (rename(s->final, trash) != 0) return rename_failed(s);
    if (rename(s->tmp, s->final) != 0) {
        weft_status st = rename_failed(s);
        if (rename(trash, s->final) != 0) weft_warn("%s was left as %s", s->final, trash);
        return st;
    }
    s->made = false;
    return WEFT_OK;
}

static weft_status commit(save *s) {
    char folder[WEFT_PATH_SIZE], trash[WEFT_PATH_SIZE], path[WEFT_PATH_SIZE], name[64], foreign[256];
    struct stat there;
    bool replaces = lstat(s->final, &there) == 0, removed;
    WEFT_TRY(weft_ckpt_folder(folder, s->run));
    WEFT_TRY(weft_fs_path(trash, "%s.trash.%s", s->final, s->id));
    WEFT_TRY(weft_fs_path(path, "%s/latest", folder));
    if (replaces) {
        WEFT_TRY(replace_old(s, trash));
    } else {
        if (rename(s->tmp, s->final) != 0) return rename_failed(s);
        s->made = false;
    }
    WEFT_TRY(weft_fs_sync_dir(folder));
    /* The checkpoint is safe. What follows is housekeeping: its failures are reported, but the save has
     * succeeded. */
    int n = snprintf(name, sizeof name, "step_%08" PRId64 "\n", s->state->step);
    if (weft_fs_replace_file(path, name, (size_t)n) != WEFT_OK)
        weft_warn("%s still names an older checkpoint; nothing depends on it", path);
    if (replaces && weft_fs_remove_ours(trash, weft_ckpt_is_ours, &removed, foreign) == WEFT_OK && !removed)
        weft_warn("%s is left alone: it holds '%s', which weft did not write", trash, foreign);
    weft_ckpt_prune(s->run, s->state->step, s->options->keep, s->options->keep_every, s->id);
    return WEFT_OK;
}

/* ---- the whole ---- */

static weft_status run_save(save *s, const weft_fragment *fragments, int64_t count) {
    char *line = NULL, *parts = NULL;
    size_t line_bytes = 0, parts_bytes = 0;
    weft_status st = check_arguments(s);
    if (st == WEFT_OK) st = take_fragments(s, fragments, count);
    WEFT_TRY(weft_world_agree(st));
    int64_t all_bytes = weft_world_sum_i64(s->bytes), all_count = weft_world_sum_i64(s->count);
    if (s->w->rank == 0) st = prepare(s, all_bytes, all_count);
    WEFT_TRY(weft_world_agree(st));
    weft_world_bcast(s->tmp, sizeof s->tmp, 0);
    WEFT_GOTO(st, done, weft_world_agree(write_mine(s, &line, &line_bytes)));
    WEFT_GOTO(st, done, weft_world_gather_bytes(line, line_bytes, &parts, &parts_bytes));
    if (s->w->rank == 0) {
        st = write_manifest(s, parts, parts_bytes);
        if (st == WEFT_OK) st = commit(s);
    }
    st = weft_world_agree(st);
done:
    free(line);
    free(parts);
    return st;
}

weft_status weft_ckpt_save(const weft_world *w, const char *run, const weft_ckpt_state *state,
                           const weft_fragment *fragments, int64_t count, const weft_ckpt_options *options) {
    save s = {.w = w, .run = run, .state = state, .options = options, .lock = -1};
    weft_status st = run_save(&s, fragments, count);
    if (s.made) { /* every rank has stopped writing: they have agreed */
        bool removed;
        if (weft_fs_remove_ours(s.tmp, weft_ckpt_is_ours, &removed, NULL) != WEFT_OK || !removed)
            weft_warn("%s is left over; the next save removes it", s.tmp);
    }
    if (s.lock >= 0) close(s.lock);
    for (int64_t i = 0; s.datasets && i < s.count; i++) free(s.datasets[i]);
    free(s.datasets);
    free(s.fragments);
    free(s.hashes);
    return st;
}
