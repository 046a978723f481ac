/* Selective scan, backward. Only the state before every chunk was kept: chunks are walked from the last to
 * the first, and each computes its states again. The recurrence is never inverted: the decay underflows.
 *
 *   g = dout silu(z);  dh[t] = C[t] g[t] + a[t+1] dh[t+1];  dC = sum_e g h;  dB = sum_e dh delta u
 *   du = D g + delta sum_n dh B;  q = a h[t-1];  ddelta = u sum_n dh B + sum_n A dh q;  dA = sum_t delta dh q
 *
 * A chunk is walked in spans of four tokens, from the last to the first. On the way there only the states
 * before each span are kept, in shared memory; those within a span, and their decays, stay in registers.
 *
 * dB and dC are summed over the channels of a block here, and over the blocks in order afterwards. These
 * partial sums take as much room as an array of activations in bf16 (N = 16). That they may not grow with T,
 * a walk is cut into pieces, one launch each, of at most PIECE_TOKENS tokens of all walks together: 64 MiB
 * for E = 8192. */
#include "cuda/scan.cuh"

#define CHANNELS 64
#define THREADS (CHANNELS * SCAN_LANES)
#define WARPS (THREADS / 32)
#define SPAN SCAN_LANES /* tokens: each lane of a channel ends with the sums of one */
#define ROUND 8         /* tokens: of so many dB and dC are added up at a time */
#define PIECE_TOKENS 4096
typedef scan_share<CHANNELS> share;

template <bool ONE> struct alignas(16) bwd_shared {
    float delta[SCAN_CHUNK * share::row];
    float u[SCAN_CHUNK * share::row], g[SCAN_CHUNK * share::row]; /* become du and ddt */
    /* sum_n dh B and sum_n A dh q / ln 2 of the groups of states so far; not needed for one group. */
    float dh_B[ONE ? 1 : SCAN_CHUNK * share::row], dh_qA[ONE ? 1 : SCAN_CHUNK * share::row];
    alignas(16) float B[SCAN_CHUNK * SCAN_STATES], C[SCAN_CHUNK * SCAN_STATES];
    float before[SCAN_CHUNK / SPAN][THREADS * SCAN_EACH]; /* the states before each span */
    float dB_dC[WARPS][ROUND][2 * SCAN_STATES];           /* sums over the channels of a warp */
};

/* What lasts from piece to piece, per walk, and is then added up. */
typedef struct bwd_sums {
    float *dh, *dA;    /* [B,count,E,N] a[t+1] dh[t+1], sum_t delta dh q */
    float *dD, *dbias; /* [B,count,E] */
} bwd_sums;

/* Tokens `from` .. from + length of every walk. */
typedef struct bwd_piece {
    int64_t from, length;
    bool first;      /* the sums begin */
    float *partials; /* [blocks of channels][B,count][length][dB N | dC N] */
} bwd_piece;

/* delta, u and g of a chunk; dz. */
template <class T, class S>
static __device__ __forceinline__ void prepare(const weft_scan &a, S *s, const share &me, int t0) {
    const scan_raw<T> z = me.read<T>(a.z, a.ldz, t0), y = me.read<T>(a.y, a.ldy, t0);
    const scan_raw<T> dout = me.read<T>(a.dout, a.ldy, t0);
    const scan_raw<T> u = me.read<T>(a.u, a.ldu, t0), dt = me.read<T>(a.dt, a.lddt, t0);
    const scan_eight gate = z.numbers(), d = dout.numbers();
    scan_eight g, dz = y.numbers();
    for (int i = 0; i < SCAN_SHARE; i++) {
        const float open = sigmoid(gate.v[i]);
        g.v[i] = d.v[i] * gate.v[i] * open;
        dz.v[i] *= d.v[i] * open * (1 + gate.v[i] * (1 - open));
    }
    store_floats(s->g + me.at, g);
    me.write<T>(a.dz, a.ldz, t0, dz);
    const scan_eight bias = me.parameter(a.dt_bias);
    scan_eight delta = dt.numbers();
    for (int i = 0; i < SCAN_SHARE; i++) delta.v[i] = me.there(t0) ? softplus(delta.v[i] + bias.v[i]) : 0;
    store_floats(s->delta + me.at, delta);
    store_floats(s->u + me.at, u.numbers());
}

/* What a lane has of its channel. */
typedef struct bwd_lane {
    scan_four A2, h, dh, dA; /* dh: a[t+1] dh[t+1] */
    float D, dD, dbias;
} bwd_lane;

template <class S>
static __device__ __forceinline__ void advance(const S *s, const scan_lane<CHANNELS> &lane,
                                               const scan_four &A2, scan_four &h, unsigned resets, int t,
                                               scan_four &decay) {
    const int at = t * share::row + lane.channel;
    const float delta = s->delta[at], x = delta * s->u[at];
    const scan_four B = load_floats<SCAN_EACH>(s->B + t * SCAN_STATES + lane.n0);
    const bool reset = resets >> t & 1;
    for (int i = 0; i < SCAN_EACH; i++) {
        decay.v[i] = reset ? 0 : exp2f(delta * A2.v[i]);
        h.v[i] = decay.v[i] * h.v[i] + x * B.v[i];
    }
}

/* The sums over this group's states for a span, which begins with token t0: each lane of a channel gets those
 * of one token. `more`: those of other groups are there already; last: they are complete. */
template <class S>
static __device__ __forceinline__ void end_span(S *s, const scan_lane<CHANNELS> &lane, bwd_lane &m, int t0,
                                                const float (&dh_B)[SPAN], const float (&dh_qA)[SPAN],
                                                bool more, bool last) {
    const int at = (t0 + threadIdx.x % SCAN_LANES) * share::row + lane.channel;
    float sum_B = quad_sum(dh_B), sum_A = quad_sum(dh_qA);
    if (more) sum_B += s->dh_B[at], sum_A += s->dh_qA[at];
    if (!last) {
        s->dh_B[at] = sum_B, s->dh_qA[at] = sum_A;
        return;
    }
    const float delta = s->delta[at], u = s->u[at], g = s->g[at];
    const float slope = -expm1f(-delta); /* of softplus: sigmoid(dt + bias) = 1 - exp(-delta) */
    const float ddt = (u * sum_B + LN_2 * sum_A) * slope;
    m.dD += g * u, m.dbias += ddt;
    __syncwarp(); /* all lanes have read u and g */
    s->u[at] = m.D * g + delta * sum_B, s->g[at] = ddt;
}

/* A span, which begins with token t0 of the chunk, backwards. */
template <class S>
static __device__ __forceinline__ void span(S *s, const scan_lane<CHANNELS> &lane, bwd_lane &m,
                                            unsigned resets, int t0, bool more, bool last) {
    scan_four before[SPAN], decay[SPAN];
    m.h = load_floats<SCAN_EACH>(s->before[t0 / SPAN] + threadIdx.x * SCAN_EACH);
#pragma unroll
    for (int k = 0; k < SPAN; k++) {
        before[k] = m.h;
        advance(s, lane, m.A2, m.h, resets, t0 + k, decay[k]);
    }
    float dh_B[SPAN], dh_qA[SPAN];
    /* octet_sum gives the four dB to the first four channels' lanes, the four dC to the others'. */
    const int column = threadIdx.x % 32 / 16 * SCAN_STATES + lane.n0 + threadIdx.x / SCAN_LANES % SCAN_EACH;
#pragma unroll
    for (int k = SPAN - 1; k >= 0; k--) {
        const int t = t0 + k, at = t * share::row + lane.channel;
        const float delta = s->delta[at], x = delta * s->u[at], g = s->g[at];
        const scan_four B = load_floats<SCAN_EACH>(s->B + t * SCAN_STATES + lane.n0);
        const scan_four C = load_floats<SCAN_EACH>(s->C + t * SCAN_STATES + lane.n0);
        float dB_dC[2 * SCAN_EACH];
        dh_B[k] = dh_qA[k] = 0;
        for (int i = 0; i < SCAN_EACH; i++) {
            const float dh = m.dh.v[i] + g * C.v[i];
            dB_dC[i] = dh * x;
            dB_dC[SCAN_EACH + i] = g * m.h.v[i];
            dh_B[k] += dh * B.v[i];
            m.dh.v[i] = dh * decay[k].v[i];
            m.h.v[i] = before[k].v[i];
            const float dh_q = m.dh.v[i] * m.h.v[i];
            dh_qA[k] += dh_q * m.A2.v[i];
            m.dA.v[i] += dh_q * delta;
        }
        s->dB_dC[threadIdx.x / 32][t % ROUND][column] = octet_sum(dB_dC);
    }
    end_span(s, lane, m, t0, dh_B, dh_qA, more, last);
}

/* The block's share of dB and dC of a round, which begins with token t0 of the sequence: every thread adds up
 * the warps' for one token and state. */
template <class S>
static __device__ __forceinline__ void add_warps(const weft_scan &a, const S *s,
                                                 const scan_stretch<CHANNELS> &at, const bwd_piece &p,
                                                 const scan_walks &w, int t0, int n0) {
    static_assert(THREADS == ROUND * 2 * SCAN_STATES, "every thread has one sum");
    const int k = threadIdx.x / (2 * SCAN_STATES), column = threadIdx.x % (2 * SCAN_STATES);
    const int n = n0 + column % SCAN_STATES;
    if (t0 + k >= at.end || n >= a.N) return;
    const int64_t row = (at.e0 / CHANNELS * a.B * w.count + at.walk) * p.length + t0 + k - at.start;
    float sum = 0;
    for (int i = 0; i < WARPS; i++) sum += s->dB_dC[i][k][column];
    p.partials[(row * 2 + column / SCAN_STATES) * a.N + n] = sum;
}

/* A chunk's walk over the states from n on. */
template <bool ONE>
static __device__ __forceinline__ void walk(const weft_scan &a, bwd_shared<ONE> *s,
                                            const scan_lane<CHANNELS> &lane, bwd_lane &m,
                                            const scan_stretch<CHANNELS> &at, const bwd_piece &p,
                                            const scan_walks &w, unsigned resets, int t0, int n) {
    const int spans = (at.rows(t0) + SPAN - 1) / SPAN;
    for (int i = 0; i < spans; i++) {
        store_floats(s->before[i] + threadIdx.x * SCAN_EACH, m.h);
        if (i + 1 == spans) break;
        scan_four unused;
#pragma unroll
        for (int k = 0; k < SPAN; k++) advance(s, lane, m.A2, m.h, resets, i * SPAN + k, unused);
    }
    for (int i = spans - 1; i >= 0; i--) {
        span(s, lane, m, resets, i * SPAN, !ONE && n > 0, ONE || n + SCAN_STATES >= a.N);
        if (i * SPAN % ROUND > 0) continue;
        __syncthreads();
        add_warps(a, s, at, p, w, t0 + i * SPAN, n);
        __syncthreads();
    }
}

static __device__ __forceinline__ void add_states(const scan_lane<CHANNELS> &lane, float *to, int64_t row,
                                                  int n, const scan_four &more) {
    scan_four sum = lane.load(to, row, n);
    for (int i = 0; i < SCAN_EACH; i++) sum.v[i] += more.v[i];
    lane.store(to, row, n, sum);
}

/* ONE: N <= SCAN_STATES, and what lasts stays in registers from chunk to chunk. */
template <class T, bool ONE>
static __global__ void __launch_bounds__(THREADS, ONE ? 2 : 1)
    bwd_kernel(weft_scan a, scan_walks w, bwd_piece p, bwd_sums sums, bool wide) {
    SHARED_DYN(bwd_shared<ONE>, s);
    scan_stretch<CHANNELS> at(a, w, 0, w.count);
    at.start += static_cast<int>(p.from);
    if (at.start + p.length < at.end) at.end = at.start + static_cast<int>(p.length);
    const scan_lane<CHANNELS> lane(a, at.e0);
    const int64_t row = at.walk * a.E + lane.e, chunks = (a.T + SCAN_CHUNK - 1) / SCAN_CHUNK;
    const scan_four zeros = {};
    bwd_lane m;
    if (p.first)
        for (int n = 0; n < a.N; n += SCAN_STATES) lane.store(sums.dA, row, n, zeros);
    m.D = lane.there ? a.D[lane.e] : 0, m.dD = m.dbias = 0;
    if (ONE) m.A2 = lane.load_A2(a.A_log, 0), m.dh = lane.load(sums.dh, row, 0), m.dA = zeros;

    const int last = at.start + (at.end - at.start - 1) / SCAN_CHUNK * SCAN_CHUNK;
    for (int t0 = last; t0 >= at.start && t0 < at.end; t0 -= SCAN_CHUNK) {
        const int rows = at.rows(t0);
        const int64_t row0 = at.b * a.T + t0;
        const unsigned resets = scan_resets(a, at.b, t0, rows);
        prepare<T>(a, s, share(a, at, wide), t0);
        for (int n = 0; n < (ONE ? 1 : a.N); n += SCAN_STATES) {
            scan_stage<T>(s->B, a.Bm, a, row0, rows, n);
            scan_stage<T>(s->C, a.Cm, a, row0, rows, n);
            m.h = lane.load(a.states, (at.b * chunks + t0 / SCAN_CHUNK) * a.E + lane.e, n);
            if (!ONE) m.A2 = lane.load_A2(a.A_log, n), m.dh = lane.load(sums.dh, row, n), m.dA = zeros;
            __syncthreads();
            walk(a, s, lane, m, at, p, w, resets, t0, n);
            if (!ONE) lane.store(sums.dh, row, n, m.dh), add_states(lane, sums.dA, row, n, m.dA);
        }
        const share me(a, at, wide);
        me.write<T>(a.du, a.ldu, t0, load_floats<SCAN_SHARE>(s->u + me.at));
        me.write<T>(a.ddt, a.lddt, t0, load_floats<SCAN_SHARE>(s->g + me.at));
    }
    if (ONE) lane.store(sums.dh, row, 0, m.dh), add_states(lane, sums.dA, row, 0, m.dA);

    /* Every lane of a channel has every fourth token. */
    const float both[4] = {m.dD, m.dbias, 0, 0}, sum = quad_sum(both);
    float *to = lane.n0 == 0 ? sums.dD : sums.dbias;
    if (lane.there && threadIdx.x % SCAN_LANES < 2) to[row] = p.first ? sum : to[row] + sum;
}

/* dB and dC of a piece: the blocks' shares in order; a thread has one sum. */
template <class T>
static __global__ void __launch_bounds__(THREADS) add_blocks_kernel(weft_scan a, scan_walks w, bwd_piece p) {
    const int64_t me = static_cast<int64_t>(blockIdx.x) * THREADS + threadIdx.x;
    const int64_t size = a.B * w.count * p.length * 2 * a.N, blocks = (a.E + CHANNELS - 1) / CHANNELS;
    if (me >= size) return;
    const int64_t n = me % a.N, token = me / (2 * a.N) % p.length, walk = me / (2 * a.N * p.length);
    const int64_t in_walk = p.from + token, t = walk % w.count * w.length + in_walk;
    if (in_walk >= w.length || t >= a.T) return;
    float sum = 0;
    for (int64_t i = 0; i < blocks; i++) sum += p.partials[i * size + me];
    T *to = static_cast<T *>(me / a.N % 2 ? a.dC : a.dB);
    to[(walk / w.count * a.T + t) * a.ldbc + n] = from_float<T>(sum);
}

/* The parameters' gradients, over the walks in order, and dh0; a thread has a state. */
static __global__ void __launch_bounds__(THREADS) end_kernel(weft_scan a, int64_t count, bwd_sums sums) {
    const int64_t me = static_cast<int64_t>(blockIdx.x) * THREADS + threadIdx.x, width = a.E * a.N,
                  e = me / a.N;
    if (me >= width) return;
    float dA = 0, dD = 0, dbias = 0;
    for (int64_t walk = 0; walk < a.B * count; walk++) {
        dA += sums.dA[walk * width + me];
        if (me % a.N == 0) dD += sums.dD[walk * a.E + e], dbias += sums.dbias[walk * a.E + e];
    }
    a.dA_log[me] -= dA * expf(a.A_log[me]);
    if (me % a.N == 0) a.dD[e] += dD, a.ddt_bias[e] += dbias;
    for (int64_t b = 0; b < a.B && a.dh0; b++) a.dh0[b * width + me] = sums.dh[b * count * width + me];
}

template <class T>
static void run(weft_device *d, const weft_scan *a, scan_walks w, bwd_piece p, const bwd_sums &sums) {
    const int64_t tokens = a->B * w.count * p.length;
    const unsigned blocks = scan_blocks<CHANNELS>(a, w.count);
    const bool wide = scan_fits<T>(a);
    for (p.first = true, p.from = (w.length - 1) / p.length * p.length; p.from >= 0; p.from -= p.length) {
        if (a->N <= SCAN_STATES)
            launch(bwd_kernel<T, true>, blocks, THREADS, sizeof(bwd_shared<true>), d, *a, w, p, sums, wide);
        else
            launch(bwd_kernel<T, false>, blocks, THREADS, sizeof(bwd_shared<false>), d, *a, w, p, sums, wide);
        launch(add_blocks_kernel<T>, cuda_blocks(tokens * 2 * a->N, THREADS, INT32_MAX), THREADS, 0, d, *a, w,
               p);
        p.first = false;
    }
    launch(end_kernel, cuda_blocks(a->E * a->N, THREADS, INT32_MAX), THREADS, 0, d, *a, w.count, sums);
}

extern "C" void cuda_scan_bwd(weft_device *d, const weft_scan *a) {
    if (a->B * a->E * a->N == 0) return;
    const scan_walks w = scan_cut(a);
    const int64_t walks = a->B * w.count, blocks = (a->E + CHANNELS - 1) / CHANNELS;
    bwd_piece p = {};
    p.length = PIECE_TOKENS / walks / SCAN_CHUNK * SCAN_CHUNK;
    if (p.length < SCAN_CHUNK) p.length = SCAN_CHUNK;
    if (p.length > w.length) p.length = w.length;
    const size_t mark = weft_arena_mark(&d->act);
    bwd_sums sums = {scan_push(d, walks * a->E * a->N), scan_push(d, walks * a->E * a->N),
                     scan_push(d, walks * a->E), scan_push(d, walks * a->E)};
    p.partials = scan_push(d, blocks * walks * p.length * 2 * a->N);
    float *sigma = w.count > 1 ? scan_push(d, walks * a->E) : nullptr;
    if (!d->dry) {
        /* dh behind every walk. */
        if (w.count > 1) scan_states(d, a, true, w, 1, w.count - 1, nullptr, sums.dh, sigma);
        scan_carry_walks(d, a, true, w, a->dhT, sums.dh, sigma, nullptr, nullptr);
        cuda_with_act(d, [&](auto t) { run<decltype(t)>(d, a, w, p, sums); });
    }
    weft_arena_release(&d->act, mark);
}
