/* The evidence that a build leaves beside its data: reading it again. Written by evidence.c (a build's). */
#ifndef WEFT_EVIDENCE_H
#define WEFT_EVIDENCE_H

#include "runtime/status.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct weft_evidence_document {
    uint64_t id, kept; /* equal: this one stayed */
    char *file;
    int64_t place;     /* as weft_source_fetch takes it */
    double similarity; /* to the kept one: verified Jaccard of the shingles; 1 for exact copies */
} weft_evidence_document;

typedef struct weft_evidence {
    uint64_t cluster;
    bool exact; /* exact copies; otherwise near duplicates */
    int64_t size;
    weft_evidence_document *documents; /* ascending by id */
    int64_t count;
} weft_evidence;

/* The cluster of that number in a data directory, the near duplicates' before the exact copies'. WEFT_EINPUT
 * when there is none, or no evidence. Reads one of 16 files. */
weft_status weft_evidence_find(const char *dir, uint64_t cluster, weft_evidence *out);
/* Calls `show` for every cluster, of all files, until it fails. */
weft_status weft_evidence_each(const char *dir, weft_status (*show)(void *arg, const weft_evidence *e),
                               void *arg);
void weft_evidence_free(weft_evidence *e); /* a zeroed one is allowed */

#endif
