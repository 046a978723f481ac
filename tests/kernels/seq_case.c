#include "kernels/seq_case.h"
#include "runtime/rng.h"
#include "support/suite.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static seq_array *new_array(seq_case *c, int64_t rows, int64_t width, int64_t ld) {
    ck_assert_int_lt(c->count, (int)(sizeof c->arrays / sizeof *c->arrays));
    seq_array *a = &c->arrays[c->count++];
    *a = (seq_array){.rows = rows, .width = width, .ld = ld};
    const size_t bytes = (size_t)(rows * ld) * sizeof(weft_real) + 1;
    a->x = malloc(bytes), a->start = malloc(bytes), a->first = malloc(bytes);
    a->ref = calloc((size_t)(rows * width) + 1, sizeof(double));
    for (int64_t i = 0; i < rows * ld; i++) a->start[i] = a->x[i] = (weft_real)NAN;
    return a;
}

static void fill(seq_case *c, seq_array *a, double low, double high) {
    const weft_rng r = weft_rng_make(c->seed * 64 + (uint64_t)c->count, "seq_case");
    for (int64_t m = 0; m < a->rows; m++)
        for (int64_t j = 0; j < a->width; j++) {
            const weft_real v =
                (weft_real)(low + (high - low) * weft_rng_uniform(r, (uint64_t)(m * a->width + j)));
            a->start[m * a->ld + j] = a->x[m * a->ld + j] = v;
            a->ref[m * a->width + j] = (double)v;
        }
}

weft_real *seq_input(seq_case *c, double **ref, int64_t rows, int64_t width, int64_t ld, double low,
                     double high) {
    seq_array *a = new_array(c, rows, width, ld);
    fill(c, a, low, high);
    *ref = a->ref;
    return a->x;
}

weft_real *seq_output(seq_case *c, const char *name, double **ref, int64_t rows, int64_t width, int64_t ld,
                      double tolerance) {
    seq_array *a = new_array(c, rows, width, ld);
    a->name = name, a->tolerance = tolerance;
    *ref = a->ref;
    return a->x;
}

weft_real *seq_sum(seq_case *c, const char *name, double **ref, int64_t rows, int64_t width,
                   double tolerance) {
    seq_array *a = new_array(c, rows, width, width);
    fill(c, a, -1, 1);
    a->name = name, a->tolerance = tolerance;
    a->before = malloc((size_t)(rows * width) * sizeof(double) + 1);
    memcpy(a->before, a->ref, (size_t)(rows * width) * sizeof(double));
    *ref = a->ref;
    return a->x;
}

void seq_give(seq_case *c, const weft_real *x) {
    for (int i = 0; i < c->count; i++) {
        seq_array *a = &c->arrays[i];
        if (a->x != x) continue;
        a->name = NULL;
        for (int64_t m = 0; m < a->rows; m++)
            for (int64_t j = 0; j < a->width; j++) {
                const weft_real v = (weft_real)a->ref[m * a->width + j];
                a->start[m * a->ld + j] = a->x[m * a->ld + j] = v;
            }
    }
}

weft_real *seq_again(seq_case *c, const char *name, const double *ref, int64_t rows, int64_t width,
                     double tolerance) {
    double *mine;
    weft_real *x = seq_output(c, name, &mine, rows, width, width, tolerance);
    memcpy(mine, ref, (size_t)(rows * width) * sizeof *mine);
    return x;
}

void seq_free(seq_case *c) {
    for (int i = 0; i < c->count; i++) {
        seq_array *a = &c->arrays[i];
        free(a->x), free(a->start), free(a->first), free(a->ref), free(a->before);
    }
    c->count = 0;
}

int32_t *seq_documents(uint64_t seed, int64_t B, int64_t T, int64_t pos0, int64_t mean_length) {
    const weft_rng r = weft_rng_make(seed, "seq_documents");
    int32_t *start = malloc((size_t)(B * T) * sizeof *start);
    for (int64_t b = 0; b < B; b++) {
        int64_t now = pos0 > 2 ? pos0 - 2 : 0;
        for (int64_t t = 0; t < T; t++) {
            if (weft_rng_below(r, (uint64_t)(b * T + t), (uint64_t)mean_length) == 0) now = pos0 + t;
            start[b * T + t] = (int32_t)now;
        }
    }
    return start;
}

int32_t *seq_chunk_documents(uint64_t seed, int64_t B, int64_t T, int64_t mean_length) {
    const int64_t before = 9;
    int32_t *start = seq_documents(seed, B, T, before, mean_length);
    for (int64_t i = 0; i < B * T; i++) start[i] -= (int32_t)before;
    return start;
}

static void compare(const seq_array *a, const char *what) {
    double scale = 0, worst = 0;
    int64_t at = 0;
    for (int64_t i = 0; i < a->rows * a->width; i++)
        if (isfinite(a->ref[i])) scale = fmax(scale, fabs(a->ref[i]));
    for (int64_t i = 0; i < a->rows * a->width; i++) {
        const double want = a->ref[i] + (a->before ? a->before[i] : 0);
        const double is = (double)a->x[i / a->width * a->ld + i % a->width];
        double error = is == want ? 0 : fabs(is - want); /* infinities are equal or wrong */
        if (!(error <= worst)) worst = isnan(error) ? INFINITY : error, at = i;
    }
    /* A sum also carries the rounding of what stood there before, of size 1. */
    ck_assert_msg(worst <= a->tolerance * (scale + (a->before ? 1 : 0)) + 1e-30,
                  "%s: %s[%lld,%lld] is off by %.3g, largest %.3g, tolerance %.1g", what, a->name,
                  (long long)(at / a->width), (long long)(at % a->width), worst, scale, a->tolerance);
    for (int64_t m = 0; m < a->rows; m++)
        for (int64_t j = a->width; j < a->ld; j++)
            ck_assert_msg(isnan(a->x[m * a->ld + j]), "%s: %s: written beyond row %lld", what, a->name,
                          (long long)m);
}

void seq_run(seq_case *c, seq_op op, void *argument, const char *what) {
    weft_device dry, real;
    ck_assert_int_eq(weft_device_open_cpu(&dry), WEFT_OK);
    ck_assert_int_eq(weft_device_open_cpu(&real), WEFT_OK);
    for (int threads = 1; threads <= 3; threads++) {
        for (int i = 0; i < c->count; i++)
            memcpy(c->arrays[i].x, c->arrays[i].start,
                   (size_t)(c->arrays[i].rows * c->arrays[i].ld) * sizeof(weft_real));
        dry.threads = real.threads = threads;
        ck_assert_int_eq(weft_device_measure(&dry), WEFT_OK);
        op(&dry, argument);
        ck_assert_uint_eq(dry.act.top, 0);
        ck_assert_int_eq(weft_device_size(&real, dry.act.peak), WEFT_OK);
        op(&real, argument);
        ck_assert_uint_eq(real.act.top, 0);
        ck_assert_uint_eq(real.act.peak, dry.act.peak);
        for (int i = 0; i < c->count; i++) {
            seq_array *a = &c->arrays[i];
            const size_t bytes = (size_t)(a->rows * a->ld) * sizeof(weft_real);
            if (!a->name) continue;
            if (threads == 1) {
                compare(a, what);
                memcpy(a->first, a->x, bytes);
            } else {
                ck_assert_msg(memcmp(a->first, a->x, bytes) == 0, "%s: %s differs between 1 and %d threads",
                              what, a->name, threads);
            }
        }
    }
    weft_device_close(&dry);
    weft_device_close(&real);
}

void seq_finite_difference(double (*loss)(void *), void *argument, double *x, const double *gradient,
                           int64_t n, const char *name) {
    const int64_t step = n > 40 ? n / 40 : 1;
    for (int64_t i = 0; i < n; i += step) {
        const double keep = x[i], h = 1e-5;
        x[i] = keep + h;
        const double up = loss(argument);
        x[i] = keep - h;
        const double down = loss(argument);
        x[i] = keep;
        const double slope = (up - down) / (2 * h);
        ck_assert_msg(fabs(slope - gradient[i]) <= 1e-6 * (1 + fabs(slope)),
                      "reference: d%s[%lld] = %.9g, slope %.9g", name, (long long)i, gradient[i], slope);
    }
}
