/* The selective scan's state over parts of a sequence, of each of which the last state is known for a
 * beginning from zeros, and the sum of delta, sigma: one that begins with h ends with exp(A sigma) h + that
 * state. */
#include "cuda/scan.cuh"

#define THREADS 128

/* A document's start within the part cuts off what came before, whatever A is. */
static __device__ __forceinline__ float pass(float state, float part, float sigma, float rate) {
    return sigma == INFINITY ? part : expf(-rate * sigma) * state + part;
}

/* Chunk k of a sequence in zig-zag order: the rank that holds it, and its place there. A thread has a state.
 */
static __global__ void __launch_bounds__(THREADS) carry_kernel(weft_carry a) {
    const int64_t me = static_cast<int64_t>(blockIdx.x) * THREADS + threadIdx.x, width = a.E * a.N;
    const int64_t b = me / width, e = me % width / a.N, sigmas = a.B * 2 * width;
    if (b >= a.B) return;
    const int last = 2 * a.cp - 1;
    const float rate = expf(a.A_log[me % width]);
    float state = 0;
    for (int step = 0; step <= last - a.rank; step++) { /* the later of this rank's chunks ends the walk */
        const int k = a.reverse ? last - step : step, slot = k >= a.cp, owner = slot ? last - k : k;
        const int64_t row = b * 2 + slot, at = row * width + me % width;
        const float *part = a.parts + owner * a.stride;
        if (owner == a.rank) a.out[at] = state;
        state = pass(state, part[at], part[sigmas + row * a.E + e], rate);
    }
}

extern "C" void cuda_scan_carry(weft_device *d, const weft_carry *a) {
    const int64_t states = a->B * a->E * a->N;
    if (!d->dry && states > 0)
        launch(carry_kernel, cuda_blocks(states, THREADS, INT32_MAX), THREADS, 0, d, *a);
}

static __global__ void __launch_bounds__(THREADS)
    walks_kernel(weft_scan a, bool reverse, int64_t count, const float *from, float *states,
                 const float *sigma, float *to, float *total) {
    const int64_t me = static_cast<int64_t>(blockIdx.x) * THREADS + threadIdx.x, width = a.E * a.N;
    const int64_t b = me / width, e = me % width / a.N;
    if (b >= a.B) return;
    const float rate = expf(a.A_log[me % width]);
    float state = from ? from[me] : 0, sum = 0;
    for (int64_t step = 0; step < count; step++) {
        const int64_t walk = b * count + (reverse ? count - 1 - step : step), at = walk * width + me % width;
        const float before = state;
        if (step + 1 < count || to || total) {
            const float s = sigma[walk * a.E + e];
            state = pass(state, states[at], s, rate);
            sum += s;
        }
        states[at] = before;
    }
    if (to) to[me] = state;
    if (total && me % a.N == 0) total[b * a.E + e] = sum;
}

void scan_carry_walks(weft_device *d, const weft_scan *a, bool reverse, scan_walks w, const float *from,
                      float *states, const float *sigma, float *to, float *total) {
    launch(walks_kernel, cuda_blocks(a->B * a->E * a->N, THREADS, INT32_MAX), THREADS, 0, d, *a, reverse,
           w.count, from, states, sigma, to, total);
}
