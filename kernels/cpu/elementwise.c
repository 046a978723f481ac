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

/* Sixteen sums side by side, whatever the width of vectors, then halves added to halves: every instruction
 * set adds in the same order. (In the reference build a fused multiply-add may still round a square
 * differently; squares of floats are exact.) */
#define SUM_WIDTH 16
#define SUM_VECTORS (SUM_WIDTH * (int64_t)sizeof(double) / VBYTES)

V_INLINE double block_sumsq(const weft_real *x) {
    vdouble sums[SUM_VECTORS] = {{0}};
    for (int64_t i = 0; i < WEFT_SUM_BLOCK / DLEN; i++) {
        vdouble p = load_double(x + i * DLEN);
        sums[i % SUM_VECTORS] += p * p;
    }
    for (int64_t half = SUM_VECTORS / 2; half > 0; half /= 2)
        for (int64_t v = 0; v < half; v++) sums[v] += sums[v + half];
    double lanes[DLEN];
    memcpy(lanes, &sums[0], sizeof lanes);
    for (int64_t half = DLEN / 2; half > 0; half /= 2)
        for (int64_t l = 0; l < half; l++) lanes[l] += lanes[l + half];
    return lanes[0];
}

void CPU_OP(sumsq)(weft_device *d, weft_exact *sum, const weft_real *x, int64_t n) {
    if (d->dry) return;
#pragma omp parallel num_threads(cpu_team(d, n))
    {
        MY_SLICE(n, i, end);
        weft_exact mine = {{0}, 0};
        for (; i + WEFT_SUM_BLOCK <= end; i += WEFT_SUM_BLOCK) weft_exact_add(&mine, block_sumsq(x + i));
        if (i < end) {
            weft_real last[WEFT_SUM_BLOCK] = {0};
            memcpy(last, x + i, (size_t)(end - i) * sizeof *x);
            weft_exact_add(&mine, block_sumsq(last));
        }
#pragma omp critical(weft_sumsq)
        weft_exact_merge(sum, &mine);
    }
}

void CPU_OP(exact_carry)(weft_device *d, weft_exact *sum) {
    if (!d->dry) weft_exact_carry(sum);
}

void CPU_OP(clip)(weft_device *d, weft_clip *out, const weft_exact *sum, double max_norm) {
    if (!d->dry) *out = weft_clip_of(weft_exact_value(sum), max_norm);
}

void CPU_OP(sumsq_act)(weft_device *d, double *out, const weft_act *x, int64_t n, double scale,
                       bool accumulate) {
    if (d->dry) return;
    weft_exact sum = {{0}, 0};
    CPU_OP(sumsq)(d, &sum, x, n); /* weft_act is weft_real here */
    *out = (accumulate ? *out : 0) + scale * weft_exact_value(&sum);
}

void CPU_OP(sum_real)(weft_device *d, double *out, const weft_real *x, int64_t n, double scale,
                      bool accumulate) {
    if (d->dry) return;
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += (double)x[i];
    *out = (accumulate ? *out : 0) + scale * sum;
}

/* Pieces of the cache's size, level by level: every part is read once from memory. */
#define SUM_PIECE 2048

/* parts first .. first + count of one piece, into `into`; larger trees are split at a power of two, as the
 * order of the levels has it. */
static void sum_tree(weft_real *into, const weft_real *parts, int64_t stride, int64_t count, int64_t n) {
    if (count == 1) {
        memcpy(into, parts, (size_t)n * sizeof *into);
        return;
    }
    weft_real right[SUM_PIECE];
    int64_t half = 1;
    while (2 * half < count) half *= 2;
    sum_tree(into, parts, stride, half, n);
    if (count - half == 1) {
        const weft_real *last = parts + half * stride;
        for (int64_t i = 0; i < n; i++) into[i] += last[i];
        return;
    }
    sum_tree(right, parts + half * stride, stride, count - half, n);
    for (int64_t i = 0; i < n; i++) into[i] += right[i];
}

void CPU_OP(tree_sum)(weft_device *d, void *out_, weft_dtype out_type, const void *parts_, weft_dtype type,
                      int64_t stride, int64_t count, int64_t n, bool accumulate) {
    WEFT_CHECK(out_type == WEFT_REAL_DTYPE && type == WEFT_REAL_DTYPE, "a sum of %s into %s",
               weft_dtype_name(type), weft_dtype_name(out_type));
    if (d->dry) return;
    weft_real *out = out_;
    const weft_real *parts = parts_;
#pragma omp parallel for schedule(static) num_threads(cpu_team(d, n *count))
    for (int64_t at = 0; at < n; at += SUM_PIECE) {
        weft_real sum[SUM_PIECE];
        int64_t m = n - at < SUM_PIECE ? n - at : SUM_PIECE;
        sum_tree(sum, parts + at, stride, count, m);
        for (int64_t i = 0; i < m; i++) out[at + i] = accumulate ? out[at + i] + sum[i] : sum[i];
    }
}

void CPU_OP(cast)(weft_device *d, void *y, weft_dtype to, const void *x, weft_dtype from, int64_t n) {
    WEFT_CHECK(to == WEFT_REAL_DTYPE && from == WEFT_REAL_DTYPE, "a cast from %s to %s",
               weft_dtype_name(from), weft_dtype_name(to));
    CPU_OP(copy)(d, y, x, (size_t)n * sizeof(weft_real));
}
