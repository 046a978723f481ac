/* Where the tokens of a sample come from: what `weft data trace` prints. The order is the loader's own; no
 * token is read, no thread started. */
#ifndef WEFT_TRACE_H
#define WEFT_TRACE_H

#include "data/loader/loader.h"
#include "data/shard/shard.h"

/* A document, or the part of it that a sequence holds. */
typedef struct weft_trace_part {
    const char *shard;        /* its name in the directory */
    int64_t document;         /* number in the shard */
    int64_t first, tokens;    /* of the shard's tokens */
    int64_t at;               /* position in the sequence of the first one */
    int64_t document_at;      /* token of the document that comes first; 0: its BOS */
    int64_t document_tokens;  /* of the whole document, with BOS and EOS */
    weft_shard_origin origin; /* as in shard.h */
    const char *source;       /* name of file number origin.file in the manifest */
} weft_trace_part;

typedef struct weft_traced {
    int domain;
    const char *domain_name;
    int64_t index, epoch;         /* sequence of the domain, as in weft_loader_locate */
    const weft_trace_part *parts; /* [count] in the order of the sequence */
    int64_t count;
    int64_t padded; /* tokens behind the last part that fill the sequence up */
} weft_traced;

typedef struct weft_trace weft_trace;

/* As weft_loader_open does, but max_batch, cache_bytes and bos are not used, vocab_size may be 0 (any), and
 * path "random" is refused. */
weft_status weft_trace_open(weft_trace **out, const weft_loader_options *o);
void weft_trace_close(weft_trace *t); /* NULL is allowed */

const weft_loader_domain *weft_trace_domains(const weft_trace *t, int *count);

/* Sample `sample` of weft_loader_request. What *out points to is valid until the next call. WEFT_EINPUT for a
 * sample behind the last. A few reads for each part, whatever the size of the data. */
weft_status weft_trace_sample(weft_trace *t, uint64_t sample, weft_traced *out);
/* Sequence `index` of a domain in file order, as of weft_loader_request_sequential; epoch is 0. */
weft_status weft_trace_sequence(weft_trace *t, int domain, int64_t index, weft_traced *out);

#endif
