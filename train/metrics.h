/* What a run tells: one JSON object a step in RUN/metrics.jsonl, lines on the console, a progress bar on a
 * terminal. */
#ifndef WEFT_METRICS_H
#define WEFT_METRICS_H

#include "train/trainer.h"

typedef struct weft_metrics {
    FILE *file;
    char *path;
    bool terminal;
    int64_t every, steps, first_step;
    double started, last_drawn;
} weft_metrics;

typedef struct weft_step_times {
    double seconds;      /* of the whole step */
    double data_seconds; /* of it, waiting for the loader */
    double mfu;          /* 0..1: FLOP/s of matrix products over the machine's measured rate */
    size_t mem_bytes;    /* arenas of this rank */
} weft_step_times;

/* Rank 0 only. Opens RUN/metrics.jsonl for a run that continues behind `step` updates: records of later
 * steps, from a run that was interrupted behind its last checkpoint, are dropped. */
weft_status weft_metrics_open(weft_metrics *m, const char *run, int64_t step, const weft_config *c);
weft_status weft_metrics_write(weft_metrics *m, int64_t step, const weft_step_result *r,
                               const weft_step_times *t);
weft_status weft_metrics_close(weft_metrics *m); /* flushes to the disk; also of a zeroed struct */

/* Clears the progress bar's line: for the log's hook. */
void weft_metrics_clear_line(void);

#endif
