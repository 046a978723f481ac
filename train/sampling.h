/* Drawing the next token from logits. */
#ifndef WEFT_SAMPLING_H
#define WEFT_SAMPLING_H

#include "runtime/real.h"
#include "runtime/status.h"

typedef struct weft_sampling {
    double temperature; /* >= 0; 0: the likeliest */
    int64_t top_k;      /* 0: all */
    double top_p;       /* (0, 1]; nucleus (Holtzman et al., arXiv 1904.09751), after top_k */
    uint64_t seed;
} weft_sampling;

typedef struct weft_sampler {
    int64_t vocab;
    double *p;
    int32_t *order;
} weft_sampler;

weft_status weft_sampling_check(const weft_sampling *how);
weft_status weft_sampler_open(weft_sampler *s, int64_t vocab);
void weft_sampler_close(weft_sampler *s);

/* Token number `index` of a text: a function of (logits, how, index) only. Ties go to the lower id. Logits
 * must be finite, or -infinity for tokens that are never taken (one at least must be finite). */
int32_t weft_sampler_pick(weft_sampler *s, const weft_sampling *how, const weft_real *logits, uint64_t index);

#endif
