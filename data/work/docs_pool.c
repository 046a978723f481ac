#include "data/work/docs.h"
#include "runtime/fs.h"

#include <stdlib.h>

typedef struct opened {
    weft_docs *store; /* NULL: free */
    uint64_t unit;
    uint64_t used; /* the clock's value then */
} opened;

struct weft_docs_pool {
    int count;
    uint64_t clock;
    weft_status (*path_of)(void *arg, uint64_t unit, char path[]);
    void *arg;
    opened at[];
};

weft_status weft_docs_pool_new(weft_docs_pool **out, int open,
                               weft_status (*path_of)(void *arg, uint64_t unit, char path[]), void *arg) {
    if (open < 1) WEFT_FAIL(WEFT_EINTERNAL, "%d stores to hold open", open);
    weft_docs_pool *s = calloc(1, sizeof *s + (size_t)open * sizeof *s->at);
    if (!s) WEFT_FAIL(WEFT_ENOMEM, "no memory to read documents");
    s->count = open;
    s->path_of = path_of;
    s->arg = arg;
    *out = s;
    return WEFT_OK;
}

void weft_docs_pool_free(weft_docs_pool *s) {
    if (!s) return;
    for (int i = 0; i < s->count; i++) weft_docs_close(s->at[i].store);
    free(s);
}

/* The unit's store, opened where it is not; a free place or the one longest not used gives way (used is 0 in
 * a free one). A few dozen stores: looking at all of them costs less than a document. */
static weft_status find(weft_docs_pool *s, uint64_t unit, opened **out) {
    char path[WEFT_PATH_SIZE];
    opened *oldest = &s->at[0];
    for (int i = 0; i < s->count; i++) {
        opened *o = &s->at[i];
        if (o->store && o->unit == unit) {
            *out = o;
            return WEFT_OK;
        }
        if (o->used < oldest->used) oldest = o;
    }
    WEFT_TRY(s->path_of(s->arg, unit, path));
    weft_docs_close(oldest->store);
    *oldest = (opened){.unit = unit};
    WEFT_TRY(weft_docs_open(&oldest->store, path));
    *out = oldest;
    return WEFT_OK;
}

weft_status weft_docs_pool_read(weft_docs_pool *s, weft_doc_id id, const weft_docs_row **about,
                                const char **text, const void **extra) {
    opened *o;
    uint64_t unit = weft_doc_unit(id), index = weft_doc_index(id);
    WEFT_TRY(find(s, unit, &o));
    o->used = ++s->clock;
    int64_t row = weft_docs_find(o->store, (uint32_t)index);
    if (row < 0)
        WEFT_FAIL(WEFT_EINTERNAL, "unit %llu has no document %llu", (unsigned long long)unit,
                  (unsigned long long)index);
    WEFT_TRY(weft_docs_read(o->store, row, text, extra));
    *about = weft_docs_about(o->store, row);
    return WEFT_OK;
}
