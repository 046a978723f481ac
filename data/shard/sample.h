/* A few documents of a data directory as text again, to see what a model is going to read. */
#ifndef WEFT_SAMPLE_H
#define WEFT_SAMPLE_H

#include "runtime/status.h"

#include <stddef.h>
#include <stdint.h>

typedef struct weft_sample_options {
    const char *dir, *split;
    const char *domain; /* NULL: all */
    int64_t count;      /* documents; fewer when there are fewer */
    int64_t max_tokens; /* of each document, from its start */
    uint64_t seed;
} weft_sample_options;

typedef struct weft_sample {
    const char *domain, *file; /* the shard's name in the directory */
    int64_t document;          /* in the shard */
    int64_t tokens, bytes;     /* of the whole document, without BOS and EOS */
    char *text;                /* of its first max_tokens tokens */
    size_t text_bytes;
} weft_sample;

/* Draws documents without repetition, each as likely as any other, and hands them to `show` one by one.
 * WEFT_EINPUT for an unknown split or domain (naming the known ones) and when there is no document. */
weft_status weft_data_sample(const weft_sample_options *o, weft_status (*show)(void *, const weft_sample *),
                             void *arg);

#endif
