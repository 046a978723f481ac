/* Depthwise causal convolution with SiLU.
 *
 * A thread takes V neighbouring channels and a run of rows. The rows that a result needs are read again for
 * each of its K taps: they are in the nearest cache. K = 4 and channels in packs of 16 bytes are the common
 * case, compiled with all taps in registers; any other K or alignment runs the same code with V = 1 and what
 * it keeps per tap in shared memory. */
#include "cuda/walk.cuh"

#define COMMON_TAPS 4
#define FWD_THREADS 128
#define FWD_ROWS 32
#define BWD_THREADS 64
#define BWD_ROWS 64  /* at least */
#define BWD_RUNS 256 /* about so many at most: each leaves a partial sum of the gradients of w and bias */

/* Tap i (0: the newest) of row t of sequence b counts if i <= the result. */
static __device__ __forceinline__ int64_t valid_taps(const weft_conv &a, int64_t b, int64_t t) {
    int64_t taps = a.K - 1;
    if (!a.halo && t < taps) taps = t;
    if (a.doc_start) {
        const int64_t within = a.pos0 + t - a.doc_start[b * a.T + t];
        if (within < taps) taps = within;
    }
    return taps;
}

/* Row t of sequence b of x, also for the K-1 rows before it, from channel e on. */
template <class T>
static __device__ __forceinline__ const T *row_of_x(const weft_conv &a, int64_t b, int64_t t, int64_t e) {
    if (t >= 0) return static_cast<const T *>(a.x) + (b * a.T + t) * a.ldx + e;
    return static_cast<const T *>(a.halo) + (b * (a.K - 1) + a.K - 1 + t) * a.E + e;
}

/* The weights of tap j of V channels: in registers where the number of taps is a constant. */
template <class T, int V, int K> struct weights {
    floats<V * K> w;
    __device__ __forceinline__ weights(const weft_conv &a, int64_t e)
        : w(load_floats<V * K>(static_cast<const T *>(a.w) + e * K)) {}
    __device__ __forceinline__ float at(int64_t j, int v) const { return w.v[v * K + j]; }
};
template <class T, int V> struct weights<T, V, 0> {
    const T *w;
    int64_t K;
    __device__ __forceinline__ weights(const weft_conv &a, int64_t e)
        : w(static_cast<const T *>(a.w) + e * a.K), K(a.K) {}
    __device__ __forceinline__ float at(int64_t j, int v) const { return to_float(w[v * K + j]); }
};

/* A number per tap and channel: registers, or columns of shared memory, `before` of them behind others. */
template <int V, int K> struct per_tap {
    float x[K][V];
    __device__ __forceinline__ explicit per_tap(int64_t) {}
    __device__ __forceinline__ float &at(int64_t j, int v) { return x[j][v]; }
};
template <int V> struct per_tap<V, 0> {
    float *x; /* [K][V][BWD_THREADS] */
    __device__ __forceinline__ explicit per_tap(int64_t before) {
        SHARED_DYN(float, shared);
        x = shared + before * BWD_THREADS + threadIdx.x;
    }
    __device__ __forceinline__ float &at(int64_t j, int v) { return x[(j * V + v) * BWD_THREADS]; }
};

/* The work of the calling thread. */
template <int V> struct run {
    int64_t b, e, index, t0, t1;
    bool any;
    __device__ __forceinline__ run(const weft_conv &a, int64_t rows, int64_t runs) {
        const int64_t me = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x, columns = a.E / V;
        e = me % columns * V, index = me / columns, b = index / runs, t0 = index % runs * rows;
        t1 = t0 + rows < a.T ? t0 + rows : a.T;
        any = b < a.B;
    }
};

/* c of row t, of which `valid` taps count. */
template <class T, int V, int KC>
static __device__ __forceinline__ floats<V> convolve(const weft_conv &a, const weights<T, V, KC> &w,
                                                     int64_t b, int64_t t, int64_t e, int64_t valid) {
    const int64_t K = KC ? KC : a.K;
    floats<V> c;
    if (a.bias)
        c = load_floats<V>(static_cast<const T *>(a.bias) + e);
    else
        for (int v = 0; v < V; v++) c.v[v] = 0;
#pragma unroll(KC ? KC : 1)
    for (int64_t j = 0; j < K; j++) {
        const int64_t i = K - 1 - j;
        if (i > valid) continue;
        const floats<V> x = load_floats<V>(row_of_x<T>(a, b, t - i, e));
        for (int v = 0; v < V; v++) c.v[v] += w.at(j, v) * x.v[v];
    }
    return c;
}

template <class T, int V, int KC>
static __global__ void __launch_bounds__(FWD_THREADS) conv_fwd_kernel(weft_conv a, int64_t runs) {
    const run<V> r(a, FWD_ROWS, runs);
    if (!r.any) return;
    const weights<T, V, KC> w(a, r.e);
    for (int64_t t = r.t0; t < r.t1; t++) {
        floats<V> y = convolve<T, V, KC>(a, w, r.b, t, r.e, valid_taps(a, r.b, t));
        for (int v = 0; v < V; v++) y.v[v] *= sigmoid(y.v[v]);
        store_floats(static_cast<T *>(a.y) + (r.b * a.T + t) * a.ldy + r.e, y);
    }
}

/* halo_out may be halo: a thread has a channel of a sequence, and what it reads of halo lies at or behind the
 * row that it writes. */
template <class T> static __global__ void __launch_bounds__(FWD_THREADS) halo_kernel(weft_conv a) {
    const int64_t me = static_cast<int64_t>(blockIdx.x) * FWD_THREADS + threadIdx.x;
    const int64_t b = me / a.E, e = me % a.E;
    if (b >= a.B) return;
    for (int64_t i = 0; i < a.K - 1; i++) {
        const int64_t t = a.T - (a.K - 1) + i;
        const T x = t >= 0 || a.halo ? *row_of_x<T>(a, b, t, e) : from_float<T>(0);
        static_cast<T *>(a.halo_out)[(b * (a.K - 1) + i) * a.E + e] = x;
    }
}

/* Row t gives the gradient of its c, dc, to the K rows of x that it was made of; dx of a row is complete K-1
 * rows later. So a run goes on for K-1 rows after its last, which count for dx alone; the rows of the halo
 * are the first run's. partials: [run][K+1][E], the last row of a run for bias. */
template <class T, int V, int KC>
static __global__ void __launch_bounds__(BWD_THREADS)
    conv_bwd_kernel(weft_conv a, int64_t rows, int64_t runs, float *partials) {
    const int64_t K = KC ? KC : a.K;
    const run<V> r(a, rows, runs);
    if (!r.any) return;
    const weights<T, V, KC> w(a, r.e);
    per_tap<V, KC> dx(0), dw(K * V); /* dx at i: of row t - i */
    floats<V> dbias;
    for (int v = 0; v < V; v++) dbias.v[v] = 0;
#pragma unroll(KC ? KC : 1)
    for (int64_t j = 0; j < K; j++)
        for (int v = 0; v < V; v++) dx.at(j, v) = dw.at(j, v) = 0;

    for (int64_t t = r.t0; t < r.t1 + K - 1; t++) {
        const int64_t valid = t < a.T ? valid_taps(a, r.b, t) : -1;
        if (t < a.T) {
            const floats<V> dy = load_floats<V>(static_cast<const T *>(a.dy) + (r.b * a.T + t) * a.ldy + r.e);
            floats<V> dc = convolve<T, V, KC>(a, w, r.b, t, r.e, valid);
            for (int v = 0; v < V; v++) {
                const float s = sigmoid(dc.v[v]);
                dc.v[v] = dy.v[v] * s * (1 + dc.v[v] * (1 - s));
            }
#pragma unroll(KC ? KC : 1)
            for (int64_t i = 0; i < K; i++) {
                if (i > valid) continue;
                for (int v = 0; v < V; v++) dx.at(i, v) += w.at(K - 1 - i, v) * dc.v[v];
                if (t >= r.t1) continue;
                const floats<V> x = load_floats<V>(row_of_x<T>(a, r.b, t - i, r.e));
                for (int v = 0; v < V; v++) dw.at(K - 1 - i, v) += dc.v[v] * x.v[v];
            }
            for (int v = 0; v < V && t < r.t1; v++) dbias.v[v] += dc.v[v];
        }
        const int64_t done = t - (K - 1);
        floats<V> out;
        for (int v = 0; v < V; v++) out.v[v] = dx.at(K - 1, v);
        if (done >= r.t0)
            store_floats(static_cast<T *>(a.dx) + (r.b * a.T + done) * a.ldx + r.e, out);
        else if (done < 0 && r.t0 == 0 && a.dhalo)
            store_floats(static_cast<T *>(a.dhalo) + (r.b * (K - 1) + K - 1 + done) * a.E + r.e, out);
#pragma unroll(KC ? KC : 1)
        for (int64_t i = K - 1; i > 0; i--)
            for (int v = 0; v < V; v++) dx.at(i, v) = dx.at(i - 1, v);
        for (int v = 0; v < V; v++) dx.at(0, v) = 0;
    }
    float *sums = partials + r.index * (K + 1) * a.E + r.e;
#pragma unroll(KC ? KC : 1)
    for (int64_t j = 0; j < K; j++) {
        floats<V> out;
        for (int v = 0; v < V; v++) out.v[v] = dw.at(j, v);
        store_floats(sums + j * a.E, out);
    }
    store_floats(sums + K * a.E, dbias);
}

/* The runs' sums in order; a thread has a tap, or bias, of a channel. */
static __global__ void __launch_bounds__(FWD_THREADS)
    add_runs_kernel(weft_conv a, int64_t runs, const float *partials) {
    const int64_t me = static_cast<int64_t>(blockIdx.x) * FWD_THREADS + threadIdx.x;
    const int64_t j = me / a.E, e = me % a.E;
    if (j > a.K) return;
    float sum = 0;
    for (int64_t r = 0; r < runs; r++) sum += partials[r * (a.K + 1) * a.E + me];
    if (j < a.K)
        a.dw[e * a.K + j] += sum;
    else if (a.dbias)
        a.dbias[e] += sum;
}

/* f(std::integral_constant<int, V>(), <int, K>()): how a kernel is compiled for these arrays. */
template <class T, class F> static void with_shape(const weft_conv &a, F f) {
    constexpr int N = pack<T>::size;
    const void *dense[] = {a.w, a.bias, a.halo, a.dhalo}, *x[] = {a.x, a.dx}, *y[] = {a.y, a.dy};
    bool wide = a.K == COMMON_TAPS;
    for (const void *p : dense) wide = wide && fits<N>(static_cast<const T *>(p), a.E, a.E);
    for (const void *p : x) wide = wide && fits<N>(static_cast<const T *>(p), a.E, a.ldx);
    for (const void *p : y) wide = wide && fits<N>(static_cast<const T *>(p), a.E, a.ldy);
    if (wide)
        f(std::integral_constant<int, N>(), std::integral_constant<int, COMMON_TAPS>());
    else
        f(std::integral_constant<int, 1>(), std::integral_constant<int, 0>());
}

extern "C" void cuda_conv_fwd(weft_device *d, const weft_conv *a) {
    if (d->dry || a->B * a->E == 0) return;
    cuda_with_act(d, [&](auto t) {
        typedef decltype(t) T;
        with_shape<T>(*a, [&](auto width, auto taps) {
            constexpr int V = decltype(width)::value, K = decltype(taps)::value;
            const int64_t runs = (a->T + FWD_ROWS - 1) / FWD_ROWS;
            if (runs == 0) return;
            launch(conv_fwd_kernel<T, V, K>, cuda_blocks(a->B * runs * (a->E / V), FWD_THREADS, INT32_MAX),
                   FWD_THREADS, 0, d, *a, runs);
        });
        if (a->halo_out && a->K > 1)
            launch(halo_kernel<T>, cuda_blocks(a->B * a->E, FWD_THREADS, INT32_MAX), FWD_THREADS, 0, d, *a);
    });
}

extern "C" void cuda_conv_bwd(weft_device *d, const weft_conv *a) {
    if (a->B * a->E == 0) return;
    const int64_t share = (a->B * a->T + BWD_RUNS - 1) / BWD_RUNS;
    const int64_t rows = share > BWD_ROWS ? share : BWD_ROWS,
                  runs = a->T > rows ? (a->T + rows - 1) / rows : 1;
    const size_t mark = weft_arena_mark(&d->act);
    float *partials = static_cast<float *>(
        weft_arena_push(&d->act, static_cast<size_t>(a->B * runs * (a->K + 1) * a->E) * sizeof *partials));
    if (!d->dry)
        cuda_with_act(d, [&](auto t) {
            typedef decltype(t) T;
            with_shape<T>(*a, [&](auto width, auto taps) {
                constexpr int V = decltype(width)::value, K = decltype(taps)::value;
                const size_t shared = K ? 0 : static_cast<size_t>(2 * a->K * V * BWD_THREADS) * sizeof(float);
                launch(conv_bwd_kernel<T, V, K>,
                       cuda_blocks(a->B * runs * (a->E / V), BWD_THREADS, INT32_MAX), BWD_THREADS, shared, d,
                       *a, rows, runs, partials);
            });
            launch(add_runs_kernel, cuda_blocks((a->K + 1) * a->E, FWD_THREADS, INT32_MAX), FWD_THREADS, 0, d,
                   *a, a->B * runs, partials);
        });
    weft_arena_release(&d->act, mark);
}
