/* From files of text to a data directory: tokenise, split off the held-out documents, write shards and
 * manifest. */
#ifndef WEFT_BUILD_H
#define WEFT_BUILD_H

#include "data/source/source.h"
#include "runtime/status.h"

#include <stdint.h>

#define WEFT_BUILD_SHARD_TOKENS ((int64_t)1 << 28)
#define WEFT_BUILD_SHARD_DOCUMENTS ((int64_t)1 << 22)
#define WEFT_BUILD_DOMAIN "default"

typedef struct weft_build_input {
    const char *file;
    char domain[WEFT_DOMAIN_NAME]; /* of all its documents; "": what each names, or WEFT_BUILD_DOMAIN */
} weft_build_input;

typedef struct weft_build_progress {
    const char *file;                 /* being read */
    int64_t done_bytes, total_bytes;  /* of it */
    int64_t documents, tokens, bytes; /* written so far, of all files; bytes of text */
} weft_build_progress;

typedef struct weft_build_options {
    const char *tokenizer; /* a tokenizer.model, or a directory that holds one */
    const char *out;       /* must not exist */
    const weft_build_input *inputs;
    int input_count;
    double heldout;                                /* share of the documents, in [0, 1) */
    int64_t max_malformed;                         /* jsonl lines, over all files */
    int64_t shard_tokens;                          /* a shard is closed behind the document that reaches it */
    int threads;                                   /* that tokenise */
    void (*progress)(const weft_build_progress *); /* now and then; may be NULL */
} weft_build_options;

/* A document is held out when XXH3-64 of its text, under a fixed seed, is below heldout * 2^64: the same text
 * is on the same side in every build, and so are its copies.
 *
 * Works in OUT.tmp.PID and renames it when all is written, read back and synced; after a failure it is
 * removed. The shards' bytes depend on the inputs and the options, not on `threads`. WEFT_EINPUT when `out`
 * exists, when an input is bad (see data/source/source.h), and when the files hold no document, or none for
 * training. */
weft_status weft_data_build(const weft_build_options *o);

#endif
