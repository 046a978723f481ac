/* Flat arrays: sums, copies, norms. Each thread takes one stretch, cut at whole pages of vectors. */
#include "cpu/rows.h"

#include <omp.h>

#define GRAIN 1024

/* The stretch of the calling thread. */
#define MY_SLICE(n, begin, end)                                                                              \
    int64_t begin, end;                                                                                      \
    cpu_slice((n), GRAIN, omp_get_thread_num(), omp_get_num_threads(), &begin, &end)

void CPU_OP(add)(weft_device *d, weft_act *y_, const weft_act *a_, const weft_act *b_, int64_t n) {
    if (d->dry) return;
    weft_real *y = y_;
    const weft_real *a = a_, *b = b_;
#pragma omp parallel num_threads(cpu_team(d, n))
    {
        MY_SLICE(n, i, end);
        V_LOOP(j, l, end - i, v_store_n(y + i + j, v_load_n(a + i + j, l) + v_load_n(b + i + j, l), l););
    }
}

void CPU_OP(axpy)(weft_device *d, weft_act *y_, weft_real alpha, const weft_act *x_, int64_t n) {
    if (d->dry) return;
    weft_real *y = y_;
    const weft_real *x = x_;
    vreal factor = v_set1(alpha);
#pragma omp parallel num_threads(cpu_team(d, n))
    {
        MY_SLICE(n, i, end);
        V_LOOP(j, l, end - i,
               v_store_n(y + i + j, v_load_n(y + i + j, l) + factor * v_load_n(x + i + j, l), l););
    }
}

void CPU_OP(add_real)(weft_device *d, weft_real *y, const weft_real *x, int64_t n) {
    CPU_OP(add)(d, y, y, x, n); /* weft_act is weft_real here */
}

void CPU_OP(zero)(weft_device *d, void *p, size_t bytes) {
    if (d->dry) return;
#pragma omp parallel num_threads(cpu_team(d, (int64_t)(bytes / sizeof(weft_real))))
    {
        MY_SLICE((int64_t)bytes, begin, end);
        memset((char *)p + begin, 0, (size_t)(end - begin));
    }
}

void CPU_OP(copy)(weft_device *d, void *dst, const void *src, size_t bytes) {
    if (d->dry) return;
#pragma omp parallel num_threads(cpu_team(d, (int64_t)(bytes / sizeof(weft_real))))
    {
        MY_SLICE((int64_t)bytes, begin, end);
        memcpy((char *)dst + begin, (const char *)src + begin, (size_t)(end - begin));
    }
}

void CPU_OP(copy_rows)(weft_device *d, weft_act *y_, int64_t ldy, const weft_act *x_, int64_t ldx, int64_t M,
                       int64_t D) {
    if (d->dry) return;
    weft_real *y = y_;
    const weft_real *x = x_;
#pragma omp parallel for schedule(static) num_threads(cpu_team(d, M *D))
    for (int64_t m = 0; m < M; m++) memcpy(y + m * ldy, x + m * ldx, (size_t)D * sizeof *y);
}

/* Vectors of double for the sums of squares, widened from half a vector of float. */
typedef double vdouble __attribute__((vector_size(VBYTES)));
#define DLEN ((int64_t)(VBYTES / sizeof(double)))

V_INLINE vdouble load_double(const weft_real *p) {
#if WEFT_REAL_IS_DOUBLE
    return v_load(p);
#else
    typedef float vhalf __attribute__((vector_size(VBYTES / 2)));
    vhalf half;
    memcpy(&half, p, sizeof half);
    return __builtin_convertvector(half, vdouble);
#endif
}

static double block_sumsq(const weft_real *x, int64_t n) {
    vdouble a = {0}, b = {0}, c = {0}, e = {0};
    int64_t i = 0;
    for (; i + 4 * DLEN <= n; i += 4 * DLEN) {
        vdouble p = load_double(x + i), q = load_double(x + i + DLEN);
        vdouble r = load_double(x + i + 2 * DLEN), s = load_double(x + i + 3 * DLEN);
        a += p * p;
        b += q * q;
        c += r * r;
        e += s * s;
    }
    double sum = 0;
    a = (a + b) + (c + e);
    for (int64_t l = 0; l < DLEN; l++) sum += a[l];
    for (; i < n; i++) sum += (double)x[i] * (double)x[i];
    return sum;
}

/* Blocks by n alone: 16K elements, more when that would be more than 1024 blocks. */
void CPU_OP(sumsq)(weft_device *d, double *out, const weft_real *x, int64_t n) {
    int64_t size = 16384;
    if ((n + size - 1) / size > 1024) size = (n + 1023) / 1024;
    int64_t blocks = (n + size - 1) / size;
    size_t mark = weft_arena_mark(&d->act);
    double *partial = weft_arena_push(&d->act, (size_t)blocks * sizeof *partial);
    if (!d->dry) {
#pragma omp parallel for schedule(static) num_threads(cpu_team(d, n))
        for (int64_t b = 0; b < blocks; b++)
            partial[b] = block_sumsq(x + b * size, n - b * size < size ? n - b * size : size);
        double sum = 0;
        for (int64_t b = 0; b < blocks; b++) sum += partial[b];
        *out = sum;
    }
    weft_arena_release(&d->act, mark);
}

void CPU_OP(sumsq_act)(weft_device *d, double *out, const weft_act *x, int64_t n) {
    CPU_OP(sumsq)(d, out, x, n);
}
