/* What deduplication decided, kept beside the data: evidence/clusters-NN.jsonl.zst, a line for each cluster
 * with the place, the kept copy and the similarity of every document; evidence/contaminated.jsonl and
 * evidence/tagged.jsonl, a line for each document that holds evaluation text, or that a filter tags. */
#include "data/build/build_internal.h"
#include "runtime/hash.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zstd.h>

void build_pack_evidence(const build_evidence_row *r, unsigned char out[EVIDENCE_BYTES]) {
    weft_put_u64(out, r->cluster);
    weft_put_u32(out + 8, r->step);
    weft_put_u64(out + 12, r->id);
    weft_put_u64(out + 20, r->kept);
    weft_put_u64(out + 28, r->place);
    weft_put_u32(out + 36, r->size);
    weft_put_u32(out + 40, r->file);
    memcpy(out + 44, &r->similarity, 4);
}

void build_unpack_evidence(const unsigned char in[EVIDENCE_BYTES], build_evidence_row *r) {
    r->cluster = weft_get_u64(in);
    r->step = weft_get_u32(in + 8);
    r->id = weft_get_u64(in + 12);
    r->kept = weft_get_u64(in + 20);
    r->place = weft_get_u64(in + 28);
    r->size = weft_get_u32(in + 36);
    r->file = weft_get_u32(in + 40);
    memcpy(&r->similarity, in + 44, 4);
}

weft_status build_note_evidence(weft_spill *s, int step, const weft_drop *d, const weft_docs_row *row) {
    unsigned char record[EVIDENCE_BYTES];
    const build_evidence_row r = {.cluster = d->cluster,
                                  .id = d->id,
                                  .kept = d->kept,
                                  .place = row->place,
                                  .step = (uint32_t)step,
                                  .size = d->size,
                                  .file = row->file,
                                  .similarity = d->similarity};
    build_pack_evidence(&r, record);
    return weft_spill_add(
        s, weft_spill_partition(weft_hash64(&d->cluster, sizeof d->cluster, 0), EVIDENCE_PARTS), record,
        sizeof record);
}

/* ---- one part ---- */
typedef struct packing {
    build *b;
    ZSTD_CCtx *zstd;
    int fd;
    char path[WEFT_PATH_SIZE];
    char buffer[1 << 16];
    build_evidence_row of; /* the cluster being put together */
    json_t *members;
    int64_t clusters;
} packing;

static weft_status put(packing *p, const char *data, size_t bytes, ZSTD_EndDirective how) {
    ZSTD_inBuffer in = {data, bytes, 0};
    size_t left;
    do {
        ZSTD_outBuffer out = {p->buffer, sizeof p->buffer, 0};
        left = ZSTD_compressStream2(p->zstd, &out, &in, how);
        if (ZSTD_isError(left)) WEFT_FAIL(WEFT_EINTERNAL, "%s: %s", p->path, ZSTD_getErrorName(left));
        WEFT_TRY(weft_fs_write_all(p->fd, p->buffer, out.pos, p->path));
    } while (how == ZSTD_e_end ? left > 0 : in.pos < in.size);
    return WEFT_OK;
}

static weft_status end_cluster(packing *p) {
    if (!p->members) return WEFT_OK;
    json_t *line = json_pack("{s:I, s:s, s:I, s:o}", "cluster", (json_int_t)p->of.cluster, "step",
                             p->of.step == STEP_EXACT ? "exact" : "near", "size", (json_int_t)p->of.size,
                             "documents", p->members);
    p->members = NULL;
    char *text = line ? json_dumps(line, JSON_COMPACT | JSON_REAL_PRECISION(7)) : NULL;
    weft_status st = text ? put(p, text, strlen(text), ZSTD_e_continue)
                          : weft_fail(WEFT_ENOMEM, "no memory for a cluster");
    if (st == WEFT_OK) st = put(p, "\n", 1, ZSTD_e_continue);
    free(text);
    json_decref(line);
    p->clusters++;
    return st;
}

static weft_status add_row(packing *p, const build_evidence_row *r) {
    if (p->members && (p->of.cluster != r->cluster || p->of.step != r->step)) WEFT_TRY(end_cluster(p));
    if (!p->members) {
        p->of = *r;
        p->members = json_array();
    }
    json_t *one = json_pack("{s:I, s:I, s:s, s:I, s:f}", "id", (json_int_t)r->id, "kept", (json_int_t)r->kept,
                            "file", p->b->files[r->file].shown, "place", (json_int_t)r->place, "similarity",
                            (double)r->similarity);
    if (!p->members || !one || json_array_append_new(p->members, one) != 0)
        WEFT_FAIL(WEFT_ENOMEM, "no memory for a cluster");
    return WEFT_OK;
}

static weft_status pack_rows(packing *p, char **paths, int count, int part) {
    weft_spilled *in = NULL;
    char temp[WEFT_PATH_SIZE];
    const void *record;
    size_t bytes;
    build_evidence_row r;
    WEFT_TRY(weft_work_path(&p->b->work, temp, "evidence", part, "sort"));
    weft_status st = weft_spilled_open(&in, paths, count, part, 0, p->b->job.memory, temp);
    while (st == WEFT_OK && (st = weft_spilled_next(in, &record, &bytes)) == WEFT_OK && record) {
        build_unpack_evidence(record, &r);
        st = add_row(p, &r);
    }
    if (st == WEFT_OK) st = end_cluster(p);
    weft_spilled_close(in);
    return st;
}

/* The rows of the exact step (written with sign) and of the near one (with finish). */
static weft_status list_rows(const build *b, char ***out, int *count) {
    char **near = NULL, **exact = NULL;
    bool signed_ = b->r->has_exact;
    WEFT_TRY(build_paths(b, "evidence", "near", b->units, &near));
    weft_status st = build_paths(b, "evidence", "exact", signed_ ? b->units : 0, &exact);
    char **all = st == WEFT_OK ? realloc(near, (size_t)(2 * b->units + 1) * sizeof *all) : NULL;
    if (!all) {
        build_paths_free(near, b->units);
        build_paths_free(exact, signed_ ? b->units : 0);
        return st != WEFT_OK ? st : weft_fail(WEFT_ENOMEM, "no memory for a list of files");
    }
    *count = (int)b->units;
    for (int64_t i = 0; signed_ && i < b->units; i++) all[(*count)++] = exact[i];
    free(exact);
    *out = all;
    return WEFT_OK;
}

static weft_status evidence_piece(void *arg, int64_t piece, int thread, int64_t *counters) {
    (void)thread;
    build *b = arg;
    char **paths = NULL;
    int count = 0;
    packing *p = calloc(1, sizeof *p);
    if (!p) WEFT_FAIL(WEFT_ENOMEM, "no memory for the evidence");
    p->b = b;
    p->fd = -1;
    p->zstd = ZSTD_createCCtx();
    weft_status st =
        p->zstd ? list_rows(b, &paths, &count) : weft_fail(WEFT_ENOMEM, "zstd cannot be started");
    if (st == WEFT_OK)
        st = weft_fs_path(p->path, "%s/out/evidence/clusters-%02d.jsonl.zst", b->work.dir, (int)piece);
    if (st == WEFT_OK && (p->fd = open(p->path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666)) < 0)
        st = weft_fail(WEFT_EIO, "%s: %s", p->path, strerror(errno));
    if (st == WEFT_OK) st = pack_rows(p, paths, count, (int)piece);
    if (st == WEFT_OK) st = put(p, "", 0, ZSTD_e_end);
    if (st == WEFT_OK && fsync(p->fd) != 0) st = weft_fail(WEFT_EIO, "%s: %s", p->path, strerror(errno));
    if (p->fd >= 0) close(p->fd);
    counters[0] = p->clusters;
    build_paths_free(paths, count);
    json_decref(p->members);
    ZSTD_freeCCtx(p->zstd);
    free(p);
    return st;
}

/* ---- lists that units left ---- */
static weft_status copy_unit(build *b, int64_t unit, const char *name, FILE *out) {
    char path[WEFT_PATH_SIZE], *text = NULL;
    size_t bytes;
    WEFT_TRY(weft_work_path(&b->work, path, "evidence", unit, name));
    WEFT_TRY(weft_work_get_text(path, &text, &bytes));
    if (!text) return WEFT_OK;
    json_t *list = json_loadb(text, bytes, 0, NULL);
    free(text);
    if (!json_is_array(list)) {
        json_decref(list);
        WEFT_FAIL(WEFT_EINPUT, "%s: damaged; remove %s and build again", path, b->work.dir);
    }
    size_t i;
    json_t *one;
    json_array_foreach(list, i, one) {
        json_dumpf(one, out, JSON_COMPACT | JSON_SORT_KEYS | JSON_REAL_PRECISION(6));
        putc('\n', out);
    }
    json_decref(list);
    return WEFT_OK;
}

static weft_status write_lines(build *b, const char *name) {
    char path[WEFT_PATH_SIZE], *text = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&text, &bytes);
    if (!out) WEFT_FAIL(WEFT_ENOMEM, "no memory for a list of documents");
    weft_status st = WEFT_OK;
    for (int64_t u = 0; st == WEFT_OK && u < b->units; u++) st = copy_unit(b, u, name, out);
    if (fclose(out) != 0 && st == WEFT_OK) st = weft_fail(WEFT_ENOMEM, "no memory for a list of documents");
    if (st == WEFT_OK) st = weft_fs_path(path, "%s/out/evidence/%s.jsonl", b->work.dir, name);
    if (st == WEFT_OK) st = weft_fs_replace_file(path, text, bytes);
    free(text);
    return st;
}

weft_status build_evidence(build *b) {
    const weft_stage s = {.name = "evidence", .pieces = EVIDENCE_PARTS, .counters = 1, .run = evidence_piece};
    int64_t clusters;
    WEFT_TRY(weft_work_folder(&b->work, "out/evidence"));
    if (b->r->has_exact || b->r->has_near) WEFT_TRY(build_stage(b, &s, b, &clusters, NULL));
    weft_status st = WEFT_OK;
    bool tags = false;
    for (int i = 0; i < b->r->filter_count; i++) tags = tags || b->r->filters[i].tag;
    if (b->team->rank == 0 && b->r->has_decontaminate) st = write_lines(b, "contaminated");
    if (st == WEFT_OK && b->team->rank == 0 && tags) st = write_lines(b, "tagged");
    return b->team->agree(st);
}
