/* The selective scan's state over the chunks of a sequence: every rank holds every chunk's part and walks
 * them in turn. */
#include "cpu/rows.h"

/* Zig-zag order: the rank that holds chunk k, and its place there. */
static int owner(int cp, int k) {
    return k < cp ? k : 2 * cp - 1 - k;
}
static int slot(int cp, int k) {
    return k >= cp;
}

/* Channel e of sequence b. A channel's states lie together: they are the lanes. */
static void carry_channel(const weft_carry *a, int64_t b, int64_t e) {
    const int last = 2 * a->cp - 1;
    const int64_t N = a->N, sigmas = a->B * 2 * a->E * N;
    V_LOOP(i, n, N, {
        const vreal rate = v_exp(v_load_n(a->A_log + e * N + i, n));
        vreal state = v_set1(0);
        for (int step = 0; step <= last - a->rank;
             step++) { /* the later of this rank's chunks ends the walk */
            const int k = a->reverse ? last - step : step;
            const int64_t row = (b * 2 + slot(a->cp, k)) * a->E + e;
            const weft_real *part = a->parts + owner(a->cp, k) * a->stride;
            const weft_real sigma = part[sigmas + row];
            const vreal sum = v_load_n(part + row * N + i, n);
            if (owner(a->cp, k) == a->rank) v_store_n(a->out + row * N + i, state, n);
            state = isinf(sigma) ? sum : v_exp(-rate * v_set1(sigma)) * state + sum;
        }
    });
}

void CPU_OP(scan_carry)(weft_device *d, const weft_carry *a) {
    const int threads = cpu_team(d, a->B * a->E * a->N * a->cp * 2);
    if (d->dry) return;
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t row = 0; row < a->B * a->E; row++) carry_channel(a, row / a->E, row % a->E);
}
