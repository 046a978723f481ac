/* The selective scan's state, or its gradient, carried along and nothing else:
 *
 *   forward   h[t] = a[t] h[t-1] + B[t] delta[t] u[t]
 *   reverse   dh[t-1] = a[t] (dh[t] + C[t] g[t]),  g = dout silu(z)
 */
#include "cuda/scan.cuh"

#define CHANNELS 32
typedef scan_share<CHANNELS> share;

typedef struct alignas(16) state_shared {
    float delta[SCAN_CHUNK * share::row], x[SCAN_CHUNK * share::row]; /* x: delta u, or g */
    float m[SCAN_CHUNK * SCAN_STATES];                                /* B, or C */
} state_shared;

/* The elementwise inputs of a thread: dt with u, or with dout and z. */
template <class T> struct inputs { scan_raw<T> dt, x, z; };
template <class T, bool REVERSE>
static __device__ __forceinline__ inputs<T> read(const weft_scan &a, const share &me, int t0) {
    inputs<T> in;
    in.dt = me.read<T>(a.dt, a.lddt, t0);
    if (REVERSE) {
        in.x = me.read<T>(a.dout, a.ldy, t0);
        in.z = me.read<T>(a.z, a.ldz, t0);
    } else {
        in.x = me.read<T>(a.u, a.ldu, t0);
    }
    return in;
}

template <class T, bool REVERSE>
static __device__ __forceinline__ void prepare(state_shared *s, const share &me, const inputs<T> &in,
                                               const scan_eight &bias, int t0) {
    const scan_eight dt = in.dt.numbers();
    scan_eight delta, x = in.x.numbers();
    for (int i = 0; i < SCAN_SHARE; i++) {
        delta.v[i] = me.there(t0) ? softplus(dt.v[i] + bias.v[i]) : 0;
        if (!REVERSE) x.v[i] *= delta.v[i];
    }
    if (REVERSE) {
        const scan_eight z = in.z.numbers();
        for (int i = 0; i < SCAN_SHARE; i++) x.v[i] *= z.v[i] * sigmoid(z.v[i]);
    }
    store_floats(s->delta + me.at, delta);
    store_floats(s->x + me.at, x);
}

/* ONE: N <= SCAN_STATES, and the states stay in registers from the first chunk to the last. */
template <class T, bool ONE, bool REVERSE>
static __global__ void __launch_bounds__(share::threads, 5)
    state_kernel(weft_scan a, scan_walks w, int64_t first, int64_t used, bool wide, const float *from,
                 float *to, float *sigma) {
    SHARED(state_shared, s, 1);
    const scan_stretch<CHANNELS> at(a, w, first, used);
    const share me(a, at, wide);
    const scan_lane<CHANNELS> lane(a, at.e0);
    const scan_eight bias = me.parameter(a.dt_bias);
    const int chunks = (at.end - at.start + SCAN_CHUNK - 1) / SCAN_CHUNK,
              step = REVERSE ? -SCAN_CHUNK : SCAN_CHUNK;
    const int64_t state_row = at.walk * a.E + lane.e;
    int t0 = REVERSE && chunks ? at.start + (chunks - 1) * SCAN_CHUNK : at.start;
    inputs<T> in = read<T, REVERSE>(a, me, t0);
    float total = 0;
    scan_four h, A2;
    for (int c = 0; c == 0 || c < chunks; c++, t0 += step) { /* no token at all is a chunk without rows */
        const int rows = at.rows(t0);
        const int64_t row0 = at.b * a.T + t0;
        const unsigned resets = scan_resets(a, at.b, t0, rows);
        const bool begin = c == 0, end = c + 1 >= chunks;
        prepare<T, REVERSE>(s, me, in, bias, t0);
        in = read<T, REVERSE>(a, me, t0 + step); /* underway while the states are */
        for (int n = 0; n < (ONE ? 1 : a.N); n += SCAN_STATES) {
            scan_stage<T>(s->m, REVERSE ? a.Cm : a.Bm, a, row0, rows, n);
            __syncthreads();
            if (!ONE || begin) h = lane.load(begin ? from : to, state_row, n), A2 = lane.load_A2(a.A_log, n);
            float sum = 0;
#pragma unroll 4
            for (int i = 0; i < rows; i++) {
                const int t = REVERSE ? rows - 1 - i : i;
                const bool reset = resets >> t & 1;
                const float delta = s->delta[t * share::row + lane.channel],
                            x = s->x[t * share::row + lane.channel];
                const scan_four m = load_floats<SCAN_EACH>(s->m + t * SCAN_STATES + lane.n0);
                sum += reset ? INFINITY : delta;
                for (int k = 0; k < SCAN_EACH; k++) {
                    const float decay = exp2f(delta * A2.v[k]);
                    if (REVERSE)
                        h.v[k] = reset ? 0 : (h.v[k] + x * m.v[k]) * decay;
                    else
                        h.v[k] = (reset ? 0 : decay * h.v[k]) + x * m.v[k];
                }
            }
            if (n == 0) total += sum; /* sums of short sums lose the least */
            if (!ONE || end) lane.store(to, state_row, n, h);
            __syncthreads();
        }
    }
    if (sigma && lane.there && lane.n0 == 0) sigma[state_row] = total;
}

template <class T>
static void run(weft_device *d, const weft_scan *a, bool reverse, scan_walks w, int64_t first, int64_t used,
                const float *from, float *to, float *sigma) {
    const bool one = a->N <= SCAN_STATES;
    const auto kernel = reverse ? (one ? state_kernel<T, true, true> : state_kernel<T, false, true>)
                                : (one ? state_kernel<T, true, false> : state_kernel<T, false, false>);
    launch(kernel, scan_blocks<CHANNELS>(a, used), share::threads, 0, d, *a, w, first, used, scan_fits<T>(a),
           from, to, sigma);
}

void scan_states(weft_device *d, const weft_scan *a, bool reverse, scan_walks w, int64_t first, int64_t used,
                 const float *from, float *to, float *sigma) {
    cuda_with_act(d, [&](auto t) { run<decltype(t)>(d, a, reverse, w, first, used, from, to, sigma); });
}

/* dh0 only. */
extern "C" void cuda_scan_bwd_state(weft_device *d, const weft_scan *a) {
    if (a->B * a->E * a->N == 0) return;
    const scan_walks w = scan_cut(a);
    const size_t mark = weft_arena_mark(&d->act);
    if (w.count > 1) {
        float *states = scan_push(d, a->B * w.count * a->E * a->N),
              *sigma = scan_push(d, a->B * w.count * a->E);
        if (!d->dry) {
            scan_states(d, a, true, w, 0, w.count, nullptr, states, sigma);
            scan_carry_walks(d, a, true, w, a->dhT, states, sigma, a->dh0, nullptr);
        }
    } else if (!d->dry) {
        scan_states(d, a, true, w, 0, 1, a->dhT, a->dh0, nullptr);
    }
    weft_arena_release(&d->act, mark);
}
