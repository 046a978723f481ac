/* Paired differences with confidence intervals, and medians. */
#ifndef WEFT_STATISTICS_H
#define WEFT_STATISTICS_H

#include <stdint.h>

typedef struct weft_interval {
    double mean, low, high; /* low and high NaN for fewer than two pairs */
    int64_t pairs;
} weft_interval;

/* Of x[i] - y[i], Student's t, two-sided, at `level` (0.95). NaN throughout without pairs. With weights w
 * (NULL: all alike) the mean is sum w (x - y) / sum w, and its error that of a ratio of two means (Cochran,
 * Sampling Techniques, 1977, 2.11). */
weft_interval weft_paired_difference(const double *x, const double *y, const double *w, int64_t n,
                                     double level);
/* Quantile of Student's t with df degrees of freedom, 0 < p < 1. */
double weft_student_quantile(double p, double df);
double weft_median(double *x, int64_t n); /* sorts x; NaN when n is 0 */

#endif
