/* What the reducing stages decided about one unit's documents. Private to data/build/. */
#ifndef WEFT_BUILD_DECISIONS_H
#define WEFT_BUILD_DECISIONS_H

#include "data/build/build_internal.h"

typedef struct build_decisions {
    weft_drop *drops; /* ascending by id */
    int64_t drop_count;
    weft_line_drop *lines; /* ascending by id, number */
    int64_t line_count;
    weft_repeat *repeats; /* ascending by id, first */
    int64_t repeat_count;
} build_decisions;

/* Each adds one kind, from the spills FOLDER/000000.ENDING ... of `files` pieces. */
weft_status build_load_drops(const build *b, build_decisions *d, const char *folder, const char *ending,
                             int64_t files, uint64_t unit);
weft_status build_load_lines(const build *b, build_decisions *d, uint64_t unit);
weft_status build_load_repeats(const build *b, build_decisions *d, int64_t files, uint64_t unit);
void build_decisions_free(build_decisions *d);

/* What was decided about a document, or NULL. The entry of one that stays, of a cluster, names itself as
 * kept. */
const weft_drop *build_find_drop(const build_decisions *d, weft_doc_id id);
/* The same for a document that goes; NULL for one that stays. */
static inline const weft_drop *build_goes(const build_decisions *d, weft_doc_id id) {
    const weft_drop *found = build_find_drop(d, id);
    return found && found->kept != id ? found : NULL;
}
/* The range of a document's entries in a list: first, and their number. */
int64_t build_find_lines(const build_decisions *d, weft_doc_id id, int64_t *count);
int64_t build_find_repeats(const build_decisions *d, weft_doc_id id, int64_t *count);

#endif
