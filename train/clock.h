/* Seconds from a clock that never goes back. */
#ifndef WEFT_CLOCK_H
#define WEFT_CLOCK_H

#include <time.h>

static inline double weft_clock(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

#endif
