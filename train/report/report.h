/* `weft report`: one HTML page about runs, complete in itself. */
#ifndef WEFT_REPORT_H
#define WEFT_REPORT_H

#include "runtime/status.h"

#include <jansson.h>

typedef struct weft_report_run {
    const char *name; /* shown; "attention-s1" */
    const char
        *group;      /* runs of one group differ in the seed only and are drawn in one colour; "" : its own */
    const char *dir; /* config.yaml, metrics.jsonl; eval.json where there is one */
} weft_report_run;

/* Not collective. Writes `path` whole or not at all (weft_fs_replace_file). `results`: of
 * weft_ablation_results, or NULL. Times and rates that were measured stand in one section, id "measured",
 * alone: everything outside it is the same for runs that computed the same. WEFT_EINPUT for a directory that
 * holds no run. */
weft_status weft_report_write(const char *path, const char *title, const weft_report_run *runs, int count,
                              const json_t *results);

#endif
