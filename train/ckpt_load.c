/* Reading a checkpoint in any layout: the boxes wanted are met with the boxes in the files. */
#include "train/ckpt_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Not every caller logs the reason: the status of a rank that was told by another has none. */
static weft_status report(weft_status st, const char *path, const weft_ckpt_why *why) {
    if (st == WEFT_EINPUT || st == WEFT_EIO) WEFT_FAIL(st, "%s cannot be used: %s", path, why->text);
    return st;
}

weft_status weft_ckpt_read_state(const weft_world *w, const char *path, weft_ckpt_state *out) {
    weft_ckpt_manifest m;
    weft_ckpt_why why;
    WEFT_TRY(report(weft_ckpt_manifest_share(w, path, &m, &why), path, &why));
    *out = m.state;
    m.state.config_yaml = NULL; /* is the caller's now */
    weft_ckpt_manifest_free(&m);
    return WEFT_OK;
}

/* One read: the elements that a wanted box and a piece have in common. */
typedef struct move {
    const weft_ckpt_piece *piece;
    const weft_fragment *fragment;
    weft_box what;
} move;

typedef struct moves {
    move *list;
    int64_t count, room;
} moves;

static weft_box box_of(const weft_fragment *f) {
    weft_box b = {.ndim = f->ndim};
    memcpy(b.offset, f->offset, sizeof b.offset);
    memcpy(b.extent, f->extent, sizeof b.extent);
    return b;
}

static void shape_text(const int64_t *shape, int ndim, char out[96]) {
    int n = snprintf(out, 96, "[");
    for (int d = 0; d < ndim; d++)
        n += snprintf(out + n, 96 - (size_t)n, d ? ", %" PRId64 : "%" PRId64, shape[d]);
    snprintf(out + n, 96 - (size_t)n, "]");
}

/* First piece of the tensor; they lie together. */
static int64_t find_tensor(const weft_ckpt_manifest *m, const char *name) {
    int64_t low = 0, high = m->piece_count;
    while (low < high) {
        int64_t mid = low + (high - low) / 2;
        if (strcmp(m->pieces[mid].tensor, name) < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return low < m->piece_count && strcmp(m->pieces[low].tensor, name) == 0 ? low : -1;
}

static weft_status check_wanted(const char *path, const weft_fragment *f, const weft_ckpt_piece *p) {
    char want[96], have[96];
    if (f->dtype != p->dtype)
        WEFT_FAIL(WEFT_EINPUT, "%s: tensor %s has type %s there, %s here", path, f->name,
                  weft_dtype_name(p->dtype), weft_dtype_name(f->dtype));
    if (f->ndim != p->box.ndim || memcmp(f->shape, p->shape, (size_t)f->ndim * sizeof *f->shape) != 0) {
        shape_text(p->shape, p->box.ndim, have);
        shape_text(f->shape, f->ndim, want);
        WEFT_FAIL(WEFT_EINPUT, "%s: tensor %s has shape %s there, %s here", path, f->name, have, want);
    }
    return WEFT_OK;
}

static weft_status add_moves(const char *path, const weft_ckpt_manifest *m, const weft_fragment *f,
                             moves *all) {
    weft_box want = box_of(f);
    if (f->ndim < 1 || f->ndim > WEFT_CKPT_MAX_DIMS || !weft_box_inside(&want, f->shape))
        WEFT_FAIL(WEFT_EINTERNAL, "the box of %s is not inside the tensor", f->name);
    int64_t first = find_tensor(m, f->name), covered = 0;
    if (first < 0) WEFT_FAIL(WEFT_EINPUT, "%s has no tensor %s", path, f->name);
    WEFT_TRY(check_wanted(path, f, &m->pieces[first]));
    for (int64_t i = first; i < m->piece_count && strcmp(m->pieces[i].tensor, f->name) == 0; i++) {
        weft_box what;
        if (!weft_box_intersect(&want, &m->pieces[i].box, &what)) continue;
        if (all->count == all->room) {
            int64_t room = all->room ? 2 * all->room : 256;
            move *more = realloc(all->list, (size_t)room * sizeof *more);
            if (!more) WEFT_FAIL(WEFT_ENOMEM, "no memory for %" PRId64 " reads", room);
            all->list = more;
            all->room = room;
        }
        all->list[all->count++] = (move){.piece = &m->pieces[i], .fragment = f, .what = what};
        covered += weft_box_volume(&what);
    }
    if (covered != weft_box_volume(&want))
        WEFT_FAIL(WEFT_EINPUT, "%s: its fragments of %s do not cover the box that is wanted", path, f->name);
    return WEFT_OK;
}

static int by_file(const void *a, const void *b) {
    const move *x = a, *y = b;
    if (x->piece->file != y->piece->file) return x->piece->file < y->piece->file ? -1 : 1;
    return (x->piece > y->piece) - (x->piece < y->piece);
}

static weft_status check_hash(const char *path, const weft_ckpt_piece *p, const void *data) {
    weft_hash128 h = weft_hash128_of(data, (size_t)weft_box_volume(&p->box) * weft_dtype_size(p->dtype));
    if (h.hi != p->hash.hi || h.lo != p->hash.lo)
        WEFT_FAIL(WEFT_EINPUT, "%s: fragment %s has not the hash that MANIFEST states", path, p->tensor);
    return WEFT_OK;
}

static weft_status read_move(int64_t file, const char *path, const move *v) {
    const weft_ckpt_piece *p = v->piece;
    weft_box memory = box_of(v->fragment);
    bool whole = weft_box_equal(&v->what, &p->box), dense = weft_box_dense(&memory, &v->what);
    size_t element = weft_dtype_size(p->dtype);
    char *data = v->fragment->data;
    if (!whole || dense) {
        WEFT_TRY(weft_ckpt_hdf5_read(file, path, p->dataset, p->dtype, &p->box, &v->what, &memory, data));
        return whole ? check_hash(path, p, data + (size_t)weft_box_start(&memory, &v->what) * element)
                     : WEFT_OK;
    }
    /* A whole piece that is scattered in memory: through a buffer, so that its hash can be checked. */
    char *buf = malloc((size_t)weft_box_volume(&p->box) * element);
    if (!buf) WEFT_FAIL(WEFT_ENOMEM, "%s: no memory to read %s", path, p->tensor);
    weft_status st = weft_ckpt_hdf5_read(file, path, p->dataset, p->dtype, &p->box, &p->box, &p->box, buf);
    if (st == WEFT_OK) st = check_hash(path, p, buf);
    if (st == WEFT_OK) weft_box_copy(&p->box, &p->box, buf, &memory, data, element);
    free(buf);
    return st;
}

/* The moves from one file: its hash first, since damaged files can crash the HDF5 library. */
static weft_status read_file(const char *dir, const weft_ckpt_manifest *m, const move *v, int64_t count) {
    const weft_ckpt_file *f = &m->files[v->piece->file];
    weft_status st = WEFT_OK;
    weft_ckpt_why why = {"it could not be examined"};
    char path[WEFT_PATH_SIZE];
    int64_t h5;
    WEFT_TRY(weft_fs_path(path, "%s/%s", dir, f->name));
    WEFT_TRY(report(weft_ckpt_check_file(dir, f, true, &why), dir, &why));
    WEFT_TRY(weft_ckpt_hdf5_open(path, &h5));
    for (int64_t i = 0; i < count && st == WEFT_OK; i++) st = read_move(h5, path, &v[i]);
    weft_ckpt_hdf5_close(h5);
    return st;
}

static weft_status load_mine(const char *dir, const weft_ckpt_manifest *m, const weft_fragment *fragments,
                             int64_t count) {
    moves all = {0};
    weft_status st = WEFT_OK;
    for (int64_t i = 0; i < count; i++) WEFT_GOTO(st, done, add_moves(dir, m, &fragments[i], &all));
    if (all.count > 0) qsort(all.list, (size_t)all.count, sizeof *all.list, by_file);
    for (int64_t first = 0, end; first < all.count; first = end) {
        int64_t file = all.list[first].piece->file;
        for (end = first + 1; end < all.count && all.list[end].piece->file == file;) end++;
        WEFT_GOTO(st, done, read_file(dir, m, &all.list[first], end - first));
    }
done:
    free(all.list);
    return st;
}

weft_status weft_ckpt_load(const weft_world *w, const char *path, const weft_fragment *fragments,
                           int64_t count) {
    weft_ckpt_manifest m;
    weft_ckpt_why why;
    WEFT_TRY(report(weft_ckpt_manifest_share(w, path, &m, &why), path, &why));
    weft_status st = weft_world_agree(load_mine(path, &m, fragments, count));
    weft_ckpt_manifest_free(&m);
    return st;
}
