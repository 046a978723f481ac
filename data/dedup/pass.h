/* What the pieces of work of deduplication have in common: sorted records of one partition in, one spill out.
 * Private to data/dedup. */
#ifndef WEFT_DEDUP_PASS_H
#define WEFT_DEDUP_PASS_H

#include "data/dedup/exact.h"

typedef struct weft_pass {
    weft_spilled *in;
    weft_spill *out;
} weft_pass;

/* Shares of job->memory: a quarter to sort, for each of at most two readers, and an eighth to write. */
weft_status weft_pass_open(weft_pass *p, const weft_dedup_job *job, int partition, char *const *files,
                           int count, size_t record_bytes, const char *out, size_t out_bytes);
/* A reader alone; `name` tells its temporary files from those of others with the same `out`. */
weft_status weft_pass_reader(weft_spilled **in, const weft_dedup_job *job, int partition, char *const *files,
                             int count, size_t record_bytes, const char *out, const char *name);
/* Finishes the output when st is OK, otherwise removes it; returns the first failure. */
weft_status weft_pass_close(weft_pass *p, weft_status st);

/* The next record, or NULL in *record. WEFT_EINTERNAL when it has not record_bytes bytes. */
weft_status weft_pass_next(weft_spilled *in, size_t record_bytes, const unsigned char **record);

#endif
