/* A sum of doubles that does not depend on the order of its terms: a wide fixed-point number (Kulisch's
 * accumulator). Digits of 32 bits are kept in 64-bit words, so that 2^31 terms, or the words of as many
 * ranks, may be added before a carry would be lost; adding two sums is adding their words. */
#ifndef WEFT_EXACT_H
#define WEFT_EXACT_H

#include <stdint.h>

#define WEFT_EXACT_DIGITS 24 /* 2^-320 .. 2^448 */
#define WEFT_SUM_BLOCK 64

typedef struct weft_exact {
    int64_t digit[WEFT_EXACT_DIGITS]; /* weight of digit i: 2^(32 i - 320) */
    int64_t odd;                      /* terms that were not finite, or too large */
} weft_exact;

/* sum += x. Bits of x below 2^-320 are dropped. */
void weft_exact_add(weft_exact *sum, double x);
/* Brings all digits but the last below 2^32: then 2^31 more terms, or sums that were carried, may be added.
 */
void weft_exact_carry(weft_exact *sum);
void weft_exact_merge(weft_exact *sum, const weft_exact *other);
double weft_exact_value(const weft_exact *sum); /* nearest double (within one ulp); NaN when `odd` */

#endif
