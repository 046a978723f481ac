/* Rotary position embedding.
 *
 * Angles grow to pos * 1, far beyond what float resolves, so they are formed in double. libm is called once
 * per run of up to BLOCK rows and once per distance below BLOCK; the rows between come by adding angles:
 * e^{i(p+j)f} = e^{ipf} e^{ijf}. */
#include "cpu/rows.h"

#include <math.h>
#include <omp.h>

#define BLOCK 64

/* cos and sin of pos * theta^(-2i/d), i < half; sign -1 turns backwards. */
static void angles(double *c, double *s, int64_t pos, int64_t half, double theta, double sign) {
    for (int64_t i = 0; i < half; i++) {
        const double angle = (double)pos * pow(theta, -(double)i / (double)half);
        c[i] = cos(angle);
        s[i] = sign * sin(angle);
    }
}

static void turn_row(weft_real *x, const weft_real *c, const weft_real *s, int64_t heads, int64_t half) {
    for (int64_t h = 0; h < heads; h++) {
        weft_real *low = x + h * 2 * half, *high = low + half;
        V_LOOP(i, n, half, {
            vreal a = v_load_n(low + i, n);
            vreal b = v_load_n(high + i, n);
            vreal cos_i = v_load_n(c + i, n);
            vreal sin_i = v_load_n(s + i, n);
            v_store_n(low + i, a * cos_i - b * sin_i, n);
            v_store_n(high + i, b * cos_i + a * sin_i, n);
        });
    }
}

void CPU_OP(rope)(weft_device *d, weft_act *x_, int64_t ldx, int64_t B, int64_t T, int64_t heads,
                  int64_t head_dim, weft_real theta, int64_t pos0, const int32_t *doc_start, bool inverse) {
    const int64_t half = head_dim / 2, near = T < BLOCK ? T : BLOCK, blocks = (T + BLOCK - 1) / BLOCK;
    const double sign = inverse ? -1 : 1;
    const int threads = cpu_team(d, B * T * heads * head_dim);
    size_t mark = weft_arena_mark(&d->act);
    double *steps = weft_arena_push(&d->act, (size_t)(near * 2 * half) * sizeof *steps);
    double *starts = weft_arena_push(&d->act, (size_t)(d->threads * 2 * half) * sizeof *starts);
    weft_real *turns = weft_arena_push(&d->act, (size_t)(d->threads * 2 * half) * sizeof *turns);
    if (!d->dry) {
        weft_real *x = x_;
#pragma omp parallel num_threads(threads)
        {
            double *c0 = starts + omp_get_thread_num() * 2 * half, *s0 = c0 + half;
            weft_real *c = turns + omp_get_thread_num() * 2 * half, *s = c + half;
#pragma omp for schedule(static)
            for (int64_t j = 0; j < near; j++)
                angles(steps + j * 2 * half, steps + j * 2 * half + half, j, half, (double)theta, sign);
#pragma omp for schedule(static)
            for (int64_t task = 0; task < B * blocks; task++) {
                const int64_t b = task / blocks, t0 = task % blocks * BLOCK,
                              t1 = t0 + BLOCK < T ? t0 + BLOCK : T;
                int64_t start = 0, previous = -2;
                for (int64_t t = t0; t < t1; t++) {
                    const int64_t pos = pos0 + t - (doc_start ? doc_start[b * T + t] : 0);
                    if (pos != previous + 1) angles(c0, s0, start = pos, half, (double)theta, sign);
                    const double *cj = steps + (pos - start) * 2 * half, *sj = cj + half;
                    for (int64_t i = 0; i < half; i++) {
                        c[i] = (weft_real)(c0[i] * cj[i] - s0[i] * sj[i]);
                        s[i] = (weft_real)(s0[i] * cj[i] + c0[i] * sj[i]);
                    }
                    turn_row(x + (b * T + t) * ldx, c, s, heads, half);
                    previous = pos;
                }
            }
        }
    }
    weft_arena_release(&d->act, mark);
}
