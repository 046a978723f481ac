/* Sorted runs of records on disk, and their merge. All lie in one file, TEMP.0; where they are too many to be
 * merged at once, they go from it to TEMP.1 as fewer and longer ones, and so on. The files lose their names
 * as soon as they are made: they are gone when they are closed, however the process ends. */
#ifndef WEFT_SPILL_RUNS_H
#define WEFT_SPILL_RUNS_H

#include "runtime/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The memory that sorting takes: one mapping, of which only what is touched counts. Its first out_bytes are
 * for the run being written. */
typedef struct weft_area {
    char *at;
    size_t bytes, out_bytes;
} weft_area;
weft_status weft_area_new(weft_area *a, size_t bytes, size_t out_bytes);
/* At least `bytes`; what it holds may move. */
weft_status weft_area_reserve(weft_area *a, size_t bytes);
void weft_area_free(weft_area *a);

typedef struct weft_runs weft_runs;
/* Records of record_bytes, or with a length (record_bytes 0), in the order of their first `limit` bytes. */
weft_status weft_runs_new(weft_runs **out, weft_area *area, const char *temp, size_t record_bytes,
                          size_t limit);
void weft_runs_free(weft_runs *r); /* NULL is allowed */
/* Adds to the run being written, in order, a record as it is stored: behind its length, if it has one. End
 * closes the run. Equal records of an earlier run come first. */
weft_status weft_runs_add(weft_runs *r, const char *stored, size_t bytes);
weft_status weft_runs_end(weft_runs *r);
/* Takes all of the area. Then next gives all records in order, each valid until the next call; NULL at the
 * end. */
weft_status weft_runs_merge(weft_runs *r);
weft_status weft_runs_next(weft_runs *r, const void **record, size_t *bytes);

#endif
