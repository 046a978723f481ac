/* The stages of a build: pieces of work that any rank and thread may do in any order, each done once. A
 * journal in the work directory says which are done and what they counted, so that a build that was killed
 * goes on with the others.
 *
 * WORK/journal/STAGE.RANK: a record for each piece that this rank finished: number, counters (packed with
 * zstd), XXH3; appended and synced behind the piece's own files. A torn record at the end is not there. */
#ifndef WEFT_STAGE_H
#define WEFT_STAGE_H

#include "data/work/team.h"
#include "runtime/fs.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct weft_work_progress {
    const char *stage;
    int number, of;       /* of the stage, as far as they are known */
    int64_t done, pieces; /* of all ranks */
    double seconds;       /* since the stage began here */
    double left;          /* estimated from the pieces done since then; below 0: not known yet */
} weft_work_progress;

typedef struct weft_work {
    char dir[WEFT_PATH_SIZE];
    const weft_team *team;
    int threads;
    int lock;                                     /* of the directory; rank 0's */
    int stage, stages;                            /* run so far; expected, for progress */
    void (*progress)(const weft_work_progress *); /* rank 0, several times a second; may be NULL */
} weft_work;

/* Collective. Makes DIR, or takes up the one that a build of the same `identity` (a text: recipe, sizes and
 * times of the files) left; another's is WEFT_EINPUT, and so is one that another job holds. */
weft_status weft_work_begin(weft_work *w, const char *dir, const char *identity, const weft_team *team,
                            int threads, void (*progress)(const weft_work_progress *));
void weft_work_end(weft_work *w);
/* Path of a file in the work directory; its folder must exist (weft_work_folder, collective: made by rank 0).
 */
weft_status weft_work_path(const weft_work *w, char path[WEFT_PATH_SIZE], const char *folder, int64_t number,
                           const char *ending);
weft_status weft_work_folder(weft_work *w, const char *name);

typedef struct weft_stage {
    const char *name; /* part of a file's name */
    int64_t pieces;
    int counters;               /* int64_t that each piece sets; they are zero before */
    int each_first, each_count; /* of them, those that `each` gets */
    int max_threads;            /* 0: all */
    /* May be called by several threads at once, each with its own `thread` number. */
    weft_status (*run)(void *arg, int64_t piece, int thread, int64_t *counters);
} weft_stage;

/* Collective. Does what is not done yet. `total` [counters] gets the sums over all pieces, `each` (may be
 * NULL) [pieces * each_count] every piece's: the same on all ranks. After a failure in one piece the others
 * in work are finished, and every rank returns a failure. */
weft_status weft_stage_run(weft_work *w, const weft_stage *s, void *arg, int64_t *total, int64_t *each);
/* Collective. All pieces of the stage will be done again: what they made is no longer there. */
weft_status weft_stage_forget(weft_work *w, const char *name);

/* A small file of text between two stages: replaced whole, with its XXH3 in front, so that damage is found.
 * Reading adds a zero behind it; *text is NULL when there is no such file. */
weft_status weft_work_put_text(const char *path, const char *text, size_t bytes);
weft_status weft_work_get_text(const char *path, char **text, size_t *bytes);

#endif
