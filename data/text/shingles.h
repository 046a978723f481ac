/* Shingles: hashes of every n consecutive words of a text's compared form (normalise.h). */
#ifndef WEFT_SHINGLES_H
#define WEFT_SHINGLES_H

#include "runtime/status.h"

#include <stddef.h>
#include <stdint.h>

typedef struct weft_shingler weft_shingler;                    /* one per thread */
weft_status weft_shingler_new(weft_shingler **out, int words); /* words of a shingle: 5 as in datatrove */
void weft_shingler_free(weft_shingler *s);

/* XXH64 (seed 0) of each shingle, its words joined by a space, in the order of the text, repetitions
 * included. A text of fewer words has none. *hashes is valid until the next call. Words are those of UAX #29
 * (words.h). */
weft_status weft_shingles(weft_shingler *s, const char *text, size_t bytes, const uint64_t **hashes,
                          size_t *count);
/* The same sorted and each once: a set. */
weft_status weft_shingle_set(weft_shingler *s, const char *text, size_t bytes, const uint64_t **hashes,
                             size_t *count);
/* |a and b| / |a or b| of two sorted sets; 0 when both are empty. Exact. */
double weft_jaccard(const uint64_t *a, size_t na, const uint64_t *b, size_t nb);

#endif
