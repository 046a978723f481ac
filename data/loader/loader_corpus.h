/* A split of a data directory as numbered sequences: its domains, their weights, what each sequence is made
 * of, and in which order they come. All that decides which tokens a sample is, but no tokens. Private to
 * data/loader. */
#ifndef WEFT_LOADER_CORPUS_H
#define WEFT_LOADER_CORPUS_H

#include "data/loader/loader_order.h"
#include "data/loader/loader_pack.h"

typedef struct weft_corpus {
    int64_t seq_len;
    int32_t bos, eos;
    bool whole;
    weft_loader_domain domains[WEFT_LOADER_MAX_DOMAINS];
    int domain_count;
    weft_streams streams;
    weft_pack packs[WEFT_LOADER_MAX_DOMAINS]; /* with `whole` */
    weft_order order;
    int64_t max_epochs;
    weft_hash128 tokenizer, content;
    char *tokenizer_path;
} weft_corpus;

/* What every reader of `o` must refuse: an unknown split, lengths and limits out of range. */
weft_status weft_corpus_check_options(const weft_loader_options *o);
/* The manifest is not kept. *c is to be closed after a failure as well. */
weft_status weft_corpus_open(weft_corpus *c, const weft_loader_options *o, const weft_manifest *m);
void weft_corpus_close(weft_corpus *c); /* a zeroed one is allowed */

/* WEFT_EINPUT, which says how many samples there are, when the data are used up before this one. */
weft_status weft_corpus_check(const weft_corpus *c, uint64_t sample);

#endif
