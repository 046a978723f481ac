#include "runtime/exact.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

#define LOWEST (-320) /* exponent of the lowest bit */
#define HIGHEST (LOWEST + 32 * WEFT_EXACT_DIGITS)
#define LOW32 0xffffffffu

/* A double is (-1)^sign * mantissa * 2^(exponent - 1075) with 53 bits of mantissa. These start somewhere in a
 * digit, so they touch three digits at most; the last three take the highest bits with a longer shift. */
void weft_exact_add(weft_exact *sum, double x) {
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    const int exponent = (int)(bits >> 52 & 0x7ff);
    if (exponent - 1023 >= HIGHEST) {
        sum->odd++;
        return;
    }
    int place = exponent - 1075 - LOWEST;
    if (place <= -53) return; /* subnormal numbers and zeros as well */
    uint64_t mantissa = (bits & 0xfffffffffffffu) | 0x10000000000000u;
    if (place < 0) {
        mantissa >>= -place;
        place = 0;
    }
    const int first = place / 32 < WEFT_EXACT_DIGITS - 3 ? place / 32 : WEFT_EXACT_DIGITS - 3;
    const unsigned __int128 wide = (unsigned __int128)mantissa << (place - 32 * first);
    const int64_t negative = -(int64_t)(bits >> 63); /* all bits set: (d ^ -1) - -1 = -d */
    int64_t *digit = sum->digit + first;
    digit[0] += ((int64_t)((uint64_t)wide & LOW32) ^ negative) - negative;
    digit[1] += ((int64_t)((uint64_t)wide >> 32) ^ negative) - negative;
    digit[2] += ((int64_t)(wide >> 64) ^ negative) - negative;
}

void weft_exact_merge(weft_exact *sum, const weft_exact *other) {
    for (int i = 0; i < WEFT_EXACT_DIGITS; i++) sum->digit[i] += other->digit[i];
    sum->odd += other->odd;
}

/* Carries upwards: digits in [0, 2^32), and above them a last one that has the sign. */
static void carry(int64_t digit[WEFT_EXACT_DIGITS + 1]) {
    for (int i = 0; i < WEFT_EXACT_DIGITS; i++) {
        digit[i + 1] += digit[i] >> 32;
        digit[i] &= LOW32;
    }
}

void weft_exact_carry(weft_exact *sum) {
    for (int i = 0; i + 1 < WEFT_EXACT_DIGITS; i++) {
        sum->digit[i + 1] += sum->digit[i] >> 32;
        sum->digit[i] &= LOW32;
    }
}

double weft_exact_value(const weft_exact *sum) {
    if (sum->odd) return NAN;
    int64_t padded[2 + WEFT_EXACT_DIGITS + 1] = {0}, *digit = padded + 2;
    memcpy(digit, sum->digit, sizeof sum->digit);
    carry(digit);
    const bool negative = digit[WEFT_EXACT_DIGITS] < 0;
    if (negative) {
        for (int i = 0; i <= WEFT_EXACT_DIGITS; i++) digit[i] = -digit[i];
        carry(digit);
    }
    int top = WEFT_EXACT_DIGITS;
    while (top > 0 && digit[top] == 0) top--;
    /* 65 bits or more (or all there are); a 1 below them is kept in the last bit, where it decides ties. */
    unsigned __int128 wide = (unsigned __int128)digit[top] << 64;
    wide |= (uint64_t)digit[top - 1] << 32 | (uint64_t)digit[top - 2];
    for (int i = 0; i < top - 2; i++) wide |= digit[i] != 0;
    const double value = ldexp((double)wide, 32 * (top - 2) + LOWEST);
    return negative ? -value : value;
}
