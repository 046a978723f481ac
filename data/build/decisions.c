#include "data/build/decisions.h"

#include <stdlib.h>
#include <string.h>

/* ---- lists of records of one unit ---- */
typedef struct list {
    char *data;
    int64_t count, capacity;
    size_t width;
} list;

static weft_status append(list *l, const void *item) {
    if (l->count == l->capacity) {
        int64_t more = l->capacity ? 2 * l->capacity : 64;
        char *data = realloc(l->data, (size_t)more * l->width);
        if (!data) WEFT_FAIL(WEFT_ENOMEM, "no memory for %lld decisions", (long long)more);
        l->data = data;
        l->capacity = more;
    }
    memcpy(l->data + (size_t)l->count++ * l->width, item, l->width);
    return WEFT_OK;
}

static weft_status take_drop(list *l, const void *record, uint64_t unit) {
    weft_drop d;
    weft_drop_unpack(record, &d);
    return weft_doc_unit(d.id) == unit ? append(l, &d) : WEFT_OK;
}
static weft_status take_line(list *l, const void *record, uint64_t unit) {
    weft_line_drop d;
    weft_line_drop_unpack(record, &d);
    return weft_doc_unit(d.id) == unit ? append(l, &d) : WEFT_OK;
}
static weft_status take_repeat(list *l, const void *record, uint64_t unit) {
    weft_repeat r;
    weft_repeat_unpack(record, &r);
    return weft_doc_unit(r.id) == unit ? append(l, &r) : WEFT_OK;
}

/* The records of a unit out of its partition of the spills, in their order. */
static weft_status load(const build *b, const char *folder, const char *ending, int64_t files, uint64_t unit,
                        weft_status (*take)(list *, const void *, uint64_t), list *l) {
    char **paths, temp[WEFT_PATH_SIZE];
    weft_spilled *s = NULL;
    const void *record;
    size_t bytes;
    int partition = weft_unit_partition(unit, b->job.units, b->job.partitions);
    WEFT_TRY(build_paths(b, folder, ending, files, &paths));
    weft_status st = weft_work_path(&b->work, temp, folder, (int64_t)unit, "sort");
    if (st == WEFT_OK) st = weft_spilled_open(&s, paths, (int)files, partition, 0, b->job.memory, temp);
    while (st == WEFT_OK && (st = weft_spilled_next(s, &record, &bytes)) == WEFT_OK && record)
        st = take(l, record, unit);
    weft_spilled_close(s);
    build_paths_free(paths, files);
    if (st != WEFT_OK) free(l->data);
    return st;
}

weft_status build_load_drops(const build *b, build_decisions *d, const char *folder, const char *ending,
                             int64_t files, uint64_t unit) {
    list l = {.width = sizeof(weft_drop)};
    WEFT_TRY(load(b, folder, ending, files, unit, take_drop, &l));
    d->drops = (weft_drop *)(void *)l.data;
    d->drop_count = l.count;
    return WEFT_OK;
}

weft_status build_load_lines(const build *b, build_decisions *d, uint64_t unit) {
    list l = {.width = sizeof(weft_line_drop)};
    WEFT_TRY(load(b, "lines", "drops", b->job.partitions, unit, take_line, &l));
    d->lines = (weft_line_drop *)(void *)l.data;
    d->line_count = l.count;
    return WEFT_OK;
}

/* Several pairs of parts may find ranges of one document; they are merged here. */
weft_status build_load_repeats(const build *b, build_decisions *d, int64_t files, uint64_t unit) {
    list l = {.width = sizeof(weft_repeat)};
    WEFT_TRY(load(b, "substring", "repeats", files, unit, take_repeat, &l));
    weft_repeat *r = (weft_repeat *)(void *)l.data;
    int64_t n = 0;
    for (int64_t i = 0; i < l.count; i++) {
        if (n > 0 && r[n - 1].id == r[i].id && r[i].first <= r[n - 1].first + r[n - 1].count) {
            uint32_t end = r[i].first + r[i].count, before = r[n - 1].first + r[n - 1].count;
            if (end > before) r[n - 1].count = end - r[n - 1].first;
        } else
            r[n++] = r[i];
    }
    d->repeats = r;
    d->repeat_count = n;
    return WEFT_OK;
}

void build_decisions_free(build_decisions *d) {
    free(d->drops);
    free(d->lines);
    free(d->repeats);
    *d = (build_decisions){0};
}

/* ---- finding ---- */
/* The first of `count` entries of `width` bytes that begin with an id not below `id`. */
static int64_t lower_bound(const void *list, int64_t count, size_t width, weft_doc_id id) {
    int64_t low = 0, high = count;
    while (low < high) {
        int64_t mid = low + (high - low) / 2;
        weft_doc_id at;
        memcpy(&at, (const char *)list + (size_t)mid * width, sizeof at);
        if (at < id)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

_Static_assert(offsetof(weft_drop, id) == 0 && offsetof(weft_line_drop, id) == 0 &&
                   offsetof(weft_repeat, id) == 0,
               "lower_bound reads the id first");

const weft_drop *build_find_drop(const build_decisions *d, weft_doc_id id) {
    int64_t i = lower_bound(d->drops, d->drop_count, sizeof *d->drops, id);
    return i < d->drop_count && d->drops[i].id == id ? &d->drops[i] : NULL;
}

int64_t build_find_lines(const build_decisions *d, weft_doc_id id, int64_t *count) {
    int64_t first = lower_bound(d->lines, d->line_count, sizeof *d->lines, id);
    *count = lower_bound(d->lines, d->line_count, sizeof *d->lines, id + 1) - first;
    return first;
}

int64_t build_find_repeats(const build_decisions *d, weft_doc_id id, int64_t *count) {
    int64_t first = lower_bound(d->repeats, d->repeat_count, sizeof *d->repeats, id);
    *count = lower_bound(d->repeats, d->repeat_count, sizeof *d->repeats, id + 1) - first;
    return first;
}
