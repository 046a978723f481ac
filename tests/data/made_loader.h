/* Loaders of made data, for the tests of order, packing and batches. */
#ifndef WEFT_TEST_MADE_LOADER_H
#define WEFT_TEST_MADE_LOADER_H

#include "made_data.h"
#include "data/loader/loader.h"

enum { VOCAB = 1000, T = 64, BATCH = 8, DOMAINS = 3 };

/* The second list has the same documents as the first, with masked tokens. */
extern const made_domain made_domains[DOMAINS], made_domains_masked[DOMAINS];
/* A directory of each, made once, for tests that do not damage it. */
const char *made_shared_dir(void);
const char *made_masked_dir(void);

typedef struct made_weight { /* as of weft_loader_options */
    const char *name;
    double weight;
} made_weight;

weft_loader_options made_options(const char *path);
weft_loader *made_loader(const weft_loader_options *o);
/* Requests and takes. */
weft_batch made_batch(weft_loader *l, const uint64_t *samples, int64_t count);

typedef struct made_opening {
    weft_loader_options o;
    weft_status status;
} made_opening;

/* Opens and closes; for made_errors. */
void made_try_open(void *opening);
/* Opening is refused, with one error that holds `why`. */
void made_loader_refused(const weft_loader_options *o, const char *why);

#endif
