#include "train/statistics.h"

#include <math.h>
#include <stdlib.h>

/* 1 + d1/(1 + d2/(1 + ...)), the continued fraction of the incomplete beta function (DLMF 8.17.22), by
 * Lentz's method; it converges fast for x < (a + 1) / (a + b + 2). */
static double beta_fraction(double a, double b, double x) {
    const double tiny = 1e-300;
    double value = 1, c = 1, d = 0;
    for (int n = 1; n < 10000; n++) {
        double m = n / 2;
        double term = n % 2 == 0 ? m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
                                 : -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
        d = 1 + term * d;
        c = 1 + term / c;
        if (fabs(d) < tiny) d = tiny;
        if (fabs(c) < tiny) c = tiny;
        d = 1 / d;
        value *= c * d;
        if (fabs(c * d - 1) < 1e-15) break;
    }
    return value;
}

/* Regularised: I_x(a, b). */
static double incomplete_beta(double a, double b, double x) {
    if (x <= 0) return 0;
    if (x >= 1) return 1;
    double front = exp(lgamma(a + b) - lgamma(a) - lgamma(b) + a * log(x) + b * log1p(-x));
    if (x < (a + 1) / (a + b + 2)) return front / (a * beta_fraction(a, b, x));
    return 1 - front / (b * beta_fraction(b, a, 1 - x));
}

/* P(T > t) for t >= 0. */
static double upper_tail(double t, double df) {
    return 0.5 * incomplete_beta(df / 2, 0.5, df / (df + t * t));
}

double weft_student_quantile(double p, double df) {
    if (!(p > 0 && p < 1 && df > 0)) return NAN;
    if (p == 0.5) return 0;
    if (p < 0.5) return -weft_student_quantile(1 - p, df);
    double low = 0, high = 1;
    while (upper_tail(high, df) > 1 - p && high < 1e300) low = high, high *= 2;
    for (int i = 0; i < 200; i++) {
        double middle = low + (high - low) / 2;
        if (middle <= low || middle >= high) break;
        if (upper_tail(middle, df) > 1 - p)
            low = middle;
        else
            high = middle;
    }
    return low + (high - low) / 2;
}

weft_interval weft_paired_difference(const double *x, const double *y, const double *w, int64_t n,
                                     double level) {
    weft_interval out = {NAN, NAN, NAN, n};
    if (n < 1) return (weft_interval){NAN, NAN, NAN, 0};
    double sum = 0, weights = 0, squares = 0;
    for (int64_t i = 0; i < n; i++) {
        double weight = w ? w[i] : 1;
        sum += weight * (x[i] - y[i]);
        weights += weight;
    }
    out.mean = sum / weights;
    if (n < 2) return out;
    for (int64_t i = 0; i < n; i++) {
        double d = (w ? w[i] : 1) * (x[i] - y[i] - out.mean) * (double)n / weights;
        squares += d * d;
    }
    double error = sqrt(squares / (double)(n - 1) / (double)n);
    double half = weft_student_quantile(0.5 + level / 2, (double)(n - 1)) * error;
    out.low = out.mean - half;
    out.high = out.mean + half;
    return out;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double weft_median(double *x, int64_t n) {
    if (n < 1) return NAN;
    qsort(x, (size_t)n, sizeof *x, by_value);
    return n % 2 ? x[n / 2] : x[n / 2 - 1] / 2 + x[n / 2] / 2;
}
