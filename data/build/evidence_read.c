#include "data/build/build_internal.h"
#include "data/build/evidence.h"
#include "data/source/source_stream.h"
#include "runtime/hash.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

void weft_evidence_free(weft_evidence *e) {
    for (int64_t i = 0; i < e->count; i++) free(e->documents[i].file);
    free(e->documents);
    *e = (weft_evidence){0};
}

static weft_status parse(const char *line, size_t bytes, const char *path, weft_evidence *e) {
    const char *step = NULL, *file;
    json_int_t cluster, size, id, kept, place;
    json_t *documents, *root = json_loadb(line, bytes, 0, NULL);
    weft_status st = WEFT_OK;
    *e = (weft_evidence){0};
    if (!root || json_unpack(root, "{s:I, s:s, s:I, s:o}", "cluster", &cluster, "step", &step, "size", &size,
                             "documents", &documents)) {
        json_decref(root);
        WEFT_FAIL(WEFT_EINPUT, "%s: damaged: a line is no cluster; build the data again", path);
    }
    e->cluster = (uint64_t)cluster;
    e->exact = strcmp(step, "exact") == 0;
    e->size = size;
    e->documents = calloc(json_array_size(documents) + 1, sizeof *e->documents);
    if (!e->documents) st = weft_fail(WEFT_ENOMEM, "%s: no memory to read it", path);
    for (size_t i = 0; st == WEFT_OK && i < json_array_size(documents); i++) {
        weft_evidence_document *d = &e->documents[i];
        if (json_unpack(json_array_get(documents, i), "{s:I, s:I, s:s, s:I, s:F}", "id", &id, "kept", &kept,
                        "file", &file, "place", &place, "similarity", &d->similarity)) {
            st = weft_fail(WEFT_EINPUT, "%s: damaged: a document of cluster %lld; build the data again", path,
                           (long long)cluster);
            break;
        }
        d->id = (uint64_t)id;
        d->kept = (uint64_t)kept;
        d->place = place;
        d->file = strdup(file);
        e->count++;
        if (!d->file) st = weft_fail(WEFT_ENOMEM, "%s: no memory to read it", path);
    }
    json_decref(root);
    if (st != WEFT_OK) weft_evidence_free(e);
    return st;
}

/* ---- lines of a part ---- */
typedef struct lines {
    weft_stream *stream;
    char *buffer;
    size_t capacity, start, end;
    bool ended;
} lines;

static weft_status next_line(lines *l, const char *path, const char **line, size_t *bytes) {
    for (;;) {
        char *stop = l->end > l->start ? memchr(l->buffer + l->start, '\n', l->end - l->start) : NULL;
        if (stop) {
            *line = l->buffer + l->start;
            *bytes = (size_t)(stop - *line);
            l->start += *bytes + 1;
            return WEFT_OK;
        }
        if (l->ended) {
            weft_status st = WEFT_OK;
            const char *why = weft_stream_damage(l->stream, &st);
            if (why) WEFT_FAIL(st, "%s: %s; build the data again", path, why);
            *line = NULL;
            return WEFT_OK;
        }
        if (l->start > 0) {
            memmove(l->buffer, l->buffer + l->start, l->end - l->start);
            l->end -= l->start;
            l->start = 0;
        }
        if (l->end == l->capacity) {
            size_t more = l->capacity ? 2 * l->capacity : 1 << 16;
            char *buffer = realloc(l->buffer, more);
            if (!buffer) WEFT_FAIL(WEFT_ENOMEM, "%s: no memory to read it", path);
            l->buffer = buffer;
            l->capacity = more;
        }
        size_t got = weft_stream_read(l->stream, l->buffer + l->end, l->capacity - l->end);
        l->ended = got < l->capacity - l->end;
        l->end += got;
    }
}

/* Calls `show` for the clusters of a part until it fails. */
static weft_status read_part(const char *dir, int part, weft_status (*show)(void *, const weft_evidence *),
                             void *arg) {
    char path[WEFT_PATH_SIZE];
    lines l = {0};
    const char *line = NULL;
    size_t bytes = 0;
    WEFT_TRY(weft_fs_path(path, "%s/evidence/clusters-%02d.jsonl.zst", dir, part));
    weft_status st = weft_stream_open(&l.stream, path, WEFT_ZSTD);
    while (st == WEFT_OK && (st = next_line(&l, path, &line, &bytes)) == WEFT_OK && line) {
        weft_evidence e;
        st = parse(line, bytes, path, &e);
        if (st != WEFT_OK) break;
        st = show(arg, &e);
        weft_evidence_free(&e);
    }
    weft_stream_close(l.stream);
    free(l.buffer);
    return st;
}

weft_status weft_evidence_each(const char *dir, weft_status (*show)(void *, const weft_evidence *),
                               void *arg) {
    for (int i = 0; i < EVIDENCE_PARTS; i++) WEFT_TRY(read_part(dir, i, show, arg));
    return WEFT_OK;
}

/* ---- one cluster ---- */
typedef struct search {
    uint64_t cluster;
    weft_evidence found;
    bool any;
} search;

/* The near duplicates come behind the exact copies, so the last one counts. */
static weft_status look(void *arg, const weft_evidence *e) {
    search *s = arg;
    if (e->cluster != s->cluster) return WEFT_OK;
    weft_evidence_free(&s->found);
    s->found = *e;
    s->found.count = 0;
    s->found.documents = calloc((size_t)e->count + 1, sizeof *e->documents);
    if (!s->found.documents) WEFT_FAIL(WEFT_ENOMEM, "no memory for a cluster");
    for (int64_t i = 0; i < e->count; i++) {
        s->found.documents[i] = e->documents[i];
        s->found.documents[i].file = strdup(e->documents[i].file);
        s->found.count++;
        if (!s->found.documents[i].file) WEFT_FAIL(WEFT_ENOMEM, "no memory for a cluster");
    }
    s->any = true;
    return WEFT_OK;
}

weft_status weft_evidence_find(const char *dir, uint64_t cluster, weft_evidence *out) {
    search s = {.cluster = cluster};
    int part = weft_spill_partition(weft_hash64(&cluster, sizeof cluster, 0), EVIDENCE_PARTS);
    weft_status st = read_part(dir, part, look, &s);
    if (st == WEFT_OK && !s.any)
        st = weft_fail(WEFT_EINPUT, "%s: there is no cluster %llu (weft data show %s lists them)", dir,
                       (unsigned long long)cluster, dir);
    if (st != WEFT_OK) {
        weft_evidence_free(&s.found);
        return st;
    }
    *out = s.found;
    return WEFT_OK;
}
