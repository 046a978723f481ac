/* Checks of a whole checkpoint, and the search for the newest one that passes them. */
#include "runtime/log.h"
#include "train/ckpt_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

weft_status weft_ckpt_check_file(const char *dir, const weft_ckpt_file *f, bool hash, weft_ckpt_why *why) {
    char path[WEFT_PATH_SIZE], want[WEFT_HASH128_HEX], got[WEFT_HASH128_HEX];
    struct stat s;
    weft_hash128 h;
    uint64_t bytes;
    WEFT_TRY(weft_fs_path(path, "%s/%s", dir, f->name));
    if (stat(path, &s) != 0)
        return weft_ckpt_because(why, errno == ENOENT ? WEFT_EINPUT : WEFT_EIO, "its file %s %s", f->name,
                                 errno == ENOENT ? "is missing" : strerror(errno));
    if (!S_ISREG(s.st_mode)) return weft_ckpt_because(why, WEFT_EINPUT, "its %s is no regular file", f->name);
    if (s.st_size != f->bytes)
        return weft_ckpt_because(why, WEFT_EINPUT, "its file %s has %lld bytes, not %" PRId64, f->name,
                                 (long long)s.st_size, f->bytes);
    if (!hash) return WEFT_OK;
    weft_status st = weft_hash_file(path, &h, &bytes);
    if (st != WEFT_OK) return weft_ckpt_because(why, st, "its file %s cannot be read", f->name);
    weft_hash128_hex(h, got);
    weft_hash128_hex(f->hash, want);
    if (bytes != (uint64_t)f->bytes || strcmp(got, want) != 0)
        return weft_ckpt_because(why, WEFT_EINPUT, "its file %s is damaged: its hash is %s, not %s", f->name,
                                 got, want);
    return WEFT_OK;
}

weft_status weft_ckpt_check_quick(const char *dir, weft_ckpt_manifest *m, weft_ckpt_why *why) {
    char *text;
    size_t bytes;
    weft_ckpt_manifest got;
    *why = (weft_ckpt_why){"it could not be examined"}; /* stands where the detector has logged instead */
    WEFT_TRY(weft_ckpt_manifest_text(dir, &text, &bytes, why));
    weft_status st = weft_ckpt_manifest_parse(text, bytes, &got, why);
    free(text);
    WEFT_TRY(st);
    for (int64_t i = 0; i < got.file_count && st == WEFT_OK; i++)
        st = weft_ckpt_check_file(dir, &got.files[i], false, why);
    if (st == WEFT_OK)
        *m = got;
    else
        weft_ckpt_manifest_free(&got);
    return st;
}

/* Every fragment of one file, whose hash has been checked. */
static weft_status check_pieces(const char *dir, const weft_ckpt_manifest *m, int64_t file,
                                weft_ckpt_why *why) {
    weft_status st = WEFT_OK;
    char path[WEFT_PATH_SIZE], *buf = NULL;
    int64_t h5 = -1, room = 0;
    WEFT_TRY(weft_fs_path(path, "%s/%s", dir, m->files[file].name));
    for (int64_t i = 0; i < m->piece_count; i++) {
        const weft_ckpt_piece *p = &m->pieces[i];
        int64_t bytes = weft_box_volume(&p->box) * (int64_t)weft_dtype_size(p->dtype);
        if (p->file != file) continue;
        if (h5 < 0) WEFT_GOTO(st, done, weft_ckpt_hdf5_open(path, &h5));
        if (bytes > room) {
            free(buf);
            room = bytes;
            if (!(buf = malloc((size_t)room))) {
                st = weft_fail(WEFT_ENOMEM, "%s: no memory for the %" PRId64 " bytes of %s", path, room,
                               p->tensor);
                goto done;
            }
        }
        WEFT_GOTO(st, done,
                  weft_ckpt_hdf5_read(h5, path, p->dataset, p->dtype, &p->box, &p->box, &p->box, buf));
        weft_hash128 h = weft_hash128_of(buf, (size_t)bytes);
        if (h.hi != p->hash.hi || h.lo != p->hash.lo) {
            st = weft_ckpt_because(why, WEFT_EINPUT,
                                   "fragment %s in its file %s has not the hash that MANIFEST states",
                                   p->tensor, m->files[file].name);
            goto done;
        }
    }
done:
    free(buf);
    if (h5 >= 0) weft_ckpt_hdf5_close(h5);
    return st;
}

weft_status weft_ckpt_check_deep(const char *dir, weft_ckpt_manifest *m, weft_ckpt_why *why) {
    weft_ckpt_manifest got;
    WEFT_TRY(weft_ckpt_check_quick(dir, &got, why));
    weft_status st = WEFT_OK;
    for (int64_t i = 0; i < got.file_count && st == WEFT_OK; i++) {
        st = weft_ckpt_check_file(dir, &got.files[i], true, why);
        if (st == WEFT_OK) st = check_pieces(dir, &got, i, why);
    }
    if (st == WEFT_OK)
        *m = got;
    else
        weft_ckpt_manifest_free(&got);
    return st;
}

weft_status weft_ckpt_manifest_share(const weft_world *w, const char *dir, weft_ckpt_manifest *m,
                                     weft_ckpt_why *why) {
    char *text = NULL;
    uint64_t bytes = 0;
    weft_ckpt_manifest got = {0};
    weft_status st = WEFT_OK;
    *why = (weft_ckpt_why){"it could not be examined"};
    if (w->rank == 0) {
        size_t n = 0;
        st = weft_ckpt_manifest_text(dir, &text, &n, why);
        if (st == WEFT_OK) st = weft_ckpt_manifest_parse(text, n, &got, why);
        bytes = n;
    }
    WEFT_GOTO(st, failed, weft_world_agree(st));
    weft_world_bcast(&bytes, sizeof bytes, 0);
    if (w->rank != 0 && !(text = malloc((size_t)bytes)))
        st = weft_fail(WEFT_ENOMEM, "%s: no memory for its MANIFEST", dir);
    WEFT_GOTO(st, failed, weft_world_agree(st));
    weft_world_bcast(text, (size_t)bytes, 0);
    if (w->rank != 0) st = weft_ckpt_manifest_parse(text, (size_t)bytes, &got, why);
    WEFT_GOTO(st, failed, weft_world_agree(st));
    free(text);
    *m = got;
    return WEFT_OK;
failed:
    free(text);
    weft_ckpt_manifest_free(&got);
    return st;
}

/* Collective: whether the checkpoint of this step is whole. Each file is hashed by one rank. Whoever finds
 * something wrong says so; *usable is the same on every rank. */
static weft_status check_step(const weft_world *w, const char *path, int64_t step, bool *usable) {
    weft_ckpt_manifest m;
    weft_ckpt_why why;
    weft_status st = weft_ckpt_manifest_share(w, path, &m, &why);
    if (weft_world_any(st == WEFT_ENOMEM)) return st;
    *usable = false;
    if (st != WEFT_OK) {
        if (w->rank == 0) weft_warn("%s cannot be used: %s", path, why.text);
        return WEFT_OK;
    }
    bool bad = false;
    if (m.state.step != step) {
        bad = true;
        if (w->rank == 0) weft_warn("%s cannot be used: its MANIFEST says step %" PRId64, path, m.state.step);
    }
    for (int64_t i = w->rank; i < m.file_count && !bad; i += w->size) {
        bad = weft_ckpt_check_file(path, &m.files[i], true, &why) != WEFT_OK;
        if (bad) weft_warn("%s cannot be used: %s", path, why.text);
    }
    weft_ckpt_manifest_free(&m);
    *usable = !weft_world_any(bad);
    return WEFT_OK;
}

/* `latest` is advice only, but a name there that is newer than what was found tells of something lost. */
static void compare_latest(const char *run, int64_t found) {
    char path[WEFT_PATH_SIZE], name[64];
    int64_t step;
    if (weft_fs_path(path, "%s/checkpoints/latest", run) != WEFT_OK) return;
    FILE *f = fopen(path, "r");
    if (!f) return;
    if (fgets(name, sizeof name, f)) {
        name[strcspn(name, "\n")] = '\0';
        if (weft_ckpt_name_kind(name, &step) == WEFT_CKPT_STEP && step > found)
            weft_warn("%s names %s, which cannot be used: going on from step %" PRId64, path, name, found);
    }
    fclose(f);
}

weft_status weft_ckpt_find(const weft_world *w, const char *run, bool *found, char *path, size_t size) {
    weft_status st = WEFT_OK;
    int64_t head[2] = {0, 0}, *steps = NULL; /* how many checkpoints, and how much else */
    char other[256] = "", candidate[WEFT_PATH_SIZE];
    if (w->rank == 0) st = weft_ckpt_list(run, &steps, &head[0], &head[1], other);
    WEFT_GOTO(st, done, weft_world_agree(st));
    weft_world_bcast(head, sizeof head, 0);
    if (w->rank != 0 && head[0] > 0 && !(steps = malloc((size_t)head[0] * sizeof *steps)))
        st = weft_fail(WEFT_ENOMEM, "no memory for %" PRId64 " steps", head[0]);
    WEFT_GOTO(st, done, weft_world_agree(st));
    weft_world_bcast(steps, (size_t)head[0] * sizeof *steps, 0);
    for (int64_t i = 0; i < head[0]; i++) {
        bool usable = false;
        WEFT_GOTO(st, done, weft_world_agree(weft_ckpt_step_path(candidate, run, steps[i])));
        WEFT_GOTO(st, done, check_step(w, candidate, steps[i], &usable));
        if (!usable) {
            if (w->rank == 0 && i + 1 < head[0]) weft_warn("falling back to an older checkpoint");
            continue;
        }
        if (w->rank == 0) compare_latest(run, steps[i]);
        size_t n = strlen(candidate);
        if (n >= size) st = weft_fail(WEFT_EINPUT, "path of the checkpoint is too long: %s", candidate);
        WEFT_GOTO(st, done, weft_world_agree(st));
        memcpy(path, candidate, n + 1);
        *found = true;
        goto done;
    }
    if (head[0] + head[1] == 0) {
        *found = false;
    } else if (w->rank != 0) {
        st = WEFT_EREMOTE; /* rank 0 says it */
    } else if (head[0] > 0) {
        st = weft_fail(WEFT_EINPUT,
                       "%s/checkpoints: none of its %" PRId64
                       " checkpoints is valid; restore one, or start in a new run directory",
                       run, head[0]);
    } else {
        st = weft_fail(WEFT_EINPUT,
                       "%s/checkpoints holds no checkpoint, but is not empty ('%s'); remove it if it is of "
                       "no use, or start in a new run directory",
                       run, other);
    }
done:
    free(steps);
    return st;
}
