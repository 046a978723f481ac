/* Selective scan, forward. */
#include "cuda/scan.cuh"

#define CHANNELS 32
typedef scan_share<CHANNELS> share;

typedef struct alignas(16) fwd_shared {
    float delta[SCAN_CHUNK * share::row], x[SCAN_CHUNK * share::row]; /* x = delta u */
    float sum[SCAN_CHUNK * share::row];                               /* over n of C h */
    float B[SCAN_CHUNK * SCAN_STATES], C[SCAN_CHUNK * SCAN_STATES];
} fwd_shared;

template <class T>
static __device__ __forceinline__ void prepare(fwd_shared *s, const share &me, const scan_raw<T> &u,
                                               const scan_raw<T> &dt, const scan_eight &bias, int t0) {
    const scan_eight raw = dt.numbers();
    scan_eight delta, x = u.numbers();
    for (int i = 0; i < SCAN_SHARE; i++) {
        delta.v[i] = me.there(t0) ? softplus(raw.v[i] + bias.v[i]) : 0;
        x.v[i] *= delta.v[i];
    }
    store_floats(s->delta + me.at, delta);
    store_floats(s->x + me.at, x);
}

/* y = sum + D u; out = y silu(z). */
template <class T>
static __device__ __forceinline__ void finish(const weft_scan &a, const fwd_shared *s, const share &me,
                                              const scan_raw<T> &u, const scan_raw<T> &z, const scan_eight &D,
                                              int t0) {
    const scan_eight uf = u.numbers(), gate = z.numbers();
    scan_eight y = load_floats<SCAN_SHARE>(s->sum + me.at), out;
    for (int i = 0; i < SCAN_SHARE; i++) {
        y.v[i] += D.v[i] * uf.v[i];
        out.v[i] = y.v[i] * gate.v[i] * sigmoid(gate.v[i]);
    }
    me.write<T>(a.y, a.ldy, t0, y);
    me.write<T>(a.out, a.ldy, t0, out);
}

/* The tokens of a chunk, four at a time: then each lane of a channel ends with the sum of one of them.
 * `more`: the sums of other states are there already. */
static __device__ __forceinline__ void walk(fwd_shared *s, const scan_lane<CHANNELS> &lane,
                                            const scan_four &A2, scan_four &h, unsigned resets, int rows,
                                            bool more) {
    for (int t0 = 0; t0 < rows; t0 += SCAN_LANES) {
        float sum[SCAN_LANES];
#pragma unroll
        for (int k = 0; k < SCAN_LANES; k++) {
            const int t = t0 + k;
            const bool reset = resets >> t & 1;
            const float delta = s->delta[t * share::row + lane.channel],
                        x = s->x[t * share::row + lane.channel];
            const scan_four B = load_floats<SCAN_EACH>(s->B + t * SCAN_STATES + lane.n0);
            const scan_four C = load_floats<SCAN_EACH>(s->C + t * SCAN_STATES + lane.n0);
            sum[k] = 0;
            for (int i = 0; i < SCAN_EACH; i++) {
                h.v[i] = (reset ? 0 : exp2f(delta * A2.v[i]) * h.v[i]) + x * B.v[i];
                sum[k] += h.v[i] * C.v[i];
            }
        }
        float *out = s->sum + (t0 + threadIdx.x % SCAN_LANES) * share::row + lane.channel;
        const float of_states = quad_sum(sum);
        *out = more ? *out + of_states : of_states;
    }
}

/* ONE: N <= SCAN_STATES, and the states stay in registers from the first chunk to the last. from, to: the
 * states before and behind each walk; `to` also between its chunks, or NULL with ONE. */
template <class T, bool ONE>
static __global__ void __launch_bounds__(share::threads, ONE ? 4 : 3)
    fwd_kernel(weft_scan a, scan_walks w, bool wide, const float *from, float *to) {
    SHARED(fwd_shared, s, 1);
    const scan_stretch<CHANNELS> at(a, w, 0, w.count);
    const share me(a, at, wide);
    const scan_lane<CHANNELS> lane(a, at.e0);
    const scan_eight bias = me.parameter(a.dt_bias), D = me.parameter(a.D);
    const int64_t chunks = (a.T + SCAN_CHUNK - 1) / SCAN_CHUNK, state_row = at.walk * a.E + lane.e;
    scan_raw<T> u = me.read<T>(a.u, a.ldu, at.start), dt = me.read<T>(a.dt, a.lddt, at.start);
    scan_four h, A2;
    for (int t0 = at.start; t0 < at.end; t0 += SCAN_CHUNK) {
        const int rows = at.rows(t0);
        const int64_t row0 = at.b * a.T + t0;
        const int64_t saved_row = (at.b * chunks + t0 / SCAN_CHUNK) * a.E + lane.e;
        const unsigned resets = scan_resets(a, at.b, t0, rows);
        const bool begin = t0 == at.start, end = t0 + SCAN_CHUNK >= at.end;
        prepare<T>(s, me, u, dt, bias, t0);
        /* Underway while the states are. */
        const scan_raw<T> z = me.read<T>(a.z, a.ldz, t0), next_u = me.read<T>(a.u, a.ldu, t0 + SCAN_CHUNK);
        dt = me.read<T>(a.dt, a.lddt, t0 + SCAN_CHUNK);
        for (int n = 0; n < (ONE ? 1 : a.N); n += SCAN_STATES) {
            scan_stage<T>(s->B, a.Bm, a, row0, rows, n);
            scan_stage<T>(s->C, a.Cm, a, row0, rows, n);
            __syncthreads();
            if (!ONE || begin) h = lane.load(begin ? from : to, state_row, n), A2 = lane.load_A2(a.A_log, n);
            lane.store(a.states, saved_row, n, h);
            walk(s, lane, A2, h, resets, rows, !ONE && n > 0);
            if (!ONE || end) lane.store(to, state_row, n, h);
            __syncthreads();
        }
        finish<T>(a, s, me, u, z, D, t0);
        u = next_u;
    }
}

template <class T>
static void run(weft_device *d, const weft_scan *a, scan_walks w, const float *from, float *to) {
    launch(a->N <= SCAN_STATES ? fwd_kernel<T, true> : fwd_kernel<T, false>,
           scan_blocks<CHANNELS>(a, w.count), share::threads, 0, d, *a, w, scan_fits<T>(a), from, to);
}

extern "C" void cuda_scan_fwd(weft_device *d, const weft_scan *a) {
    if (a->B * a->E * a->N == 0) return;
    const scan_walks w = scan_cut(a);
    const bool outputs = a->y && a->T > 0, ends = a->hT || a->sigma;
    const int64_t all = a->B * w.count * a->E;
    const size_t mark = weft_arena_mark(&d->act);
    const float *from = a->h0;
    float *to = a->hT;
    if (w.count > 1) {
        float *states = scan_push(d, all * a->N), *sigma = scan_push(d, all);
        from = to = states;
        if (!d->dry) {
            scan_states(d, a, false, w, 0, outputs && !ends ? w.count - 1 : w.count, nullptr, states, sigma);
            scan_carry_walks(d, a, false, w, a->h0, states, sigma, a->hT, a->sigma);
        }
    } else if (outputs && !to && a->N > SCAN_STATES) {
        to = scan_push(d, all * a->N);
    }
    if (!d->dry && w.count == 1 && (!outputs || a->sigma))
        scan_states(d, a, false, w, 0, 1, a->h0, outputs ? nullptr : a->hT, a->sigma);
    if (!d->dry && outputs) cuda_with_act(d, [&](auto t) { run<decltype(t)>(d, a, w, from, to); });
    weft_arena_release(&d->act, mark);
}
