/* Checks every byte of a data directory against its manifest. */
#ifndef WEFT_VERIFY_H
#define WEFT_VERIFY_H

#include "runtime/status.h"

#include <stdint.h>

typedef struct weft_verified_file {
    char *name; /* relative to the directory */
    uint64_t size;
    weft_status status;
} weft_verified_file;

typedef struct weft_verification {
    weft_verified_file *files; /* the tokenizer's model, then the shards */
    int count, damaged;
} weft_verification;

/* For each shard: size, XXH3-128 of the file, header, every chunk decoded, content hash, and that documents
 * begin with BOS, end with EOS, hold neither elsewhere, no id reaches the vocabulary's size, masked ranges
 * lie inside documents (not over BOS or EOS), and origins name files of the manifest. Goes on to the next
 * file after a damaged one; returns the first failure then. The manifest itself and its content digest come
 * first. `out` is set, and to be freed, whenever the manifest could be read (count is 0 otherwise). */
weft_status weft_data_verify(const char *dir, weft_verification *out);
void weft_verification_free(weft_verification *v);

#endif
