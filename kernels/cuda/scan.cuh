/* What the passes of the selective scan share.
 *
 * Threads. A block walks along a stretch of one sequence with some of its channels, in chunks of
 * WEFT_SCAN_CHUNK tokens. Four neighbouring lanes share a channel, and each keeps four of its states in
 * registers; where N is above 16, states are walked in groups of 16 and lie in memory between chunks. So the
 * states of the 8 channels of a warp are read in one piece; sums over the states of a channel run over four
 * lanes, sums over the channels over the rest of the warp.
 *
 * What is elementwise is computed before, by all threads, 8 channels of a token each, and lies in shared
 * memory as [token][channel]. Beyond the last token, channel or state all inputs are 0 and decays are 1: they
 * change nothing.
 *
 * Walks. Few channels do not fill a GPU. Then every sequence is cut into `count` stretches that are walked at
 * the same time: first each for its last state when it begins from zeros and for its sum of delta
 * (scan_states), from which the states between all stretches follow (scan_carry_walks), and then once more
 * from these. That is what context parallelism does between ranks. How a sequence is cut depends on the sizes
 * alone. */
#ifndef WEFT_CUDA_SCAN_CUH
#define WEFT_CUDA_SCAN_CUH

#include "cuda/walk.cuh"

#define SCAN_CHUNK WEFT_SCAN_CHUNK
#define SCAN_LANES 4                         /* of a channel */
#define SCAN_EACH 4                          /* states of a lane */
#define SCAN_STATES (SCAN_LANES * SCAN_EACH) /* walked together */
#define SCAN_SHARE 8                         /* channels of a thread in elementwise work */
#define LOG2_E 1.44269504088896340736f
#define LN_2 0.693147180559945309417f

static_assert(SCAN_CHUNK == 32, "the lanes of a warp stand for the tokens of a chunk");

typedef floats<SCAN_EACH> scan_four;   /* states of a lane */
typedef floats<SCAN_SHARE> scan_eight; /* channels of a token */

/* As it lies in memory: bf16 are taken apart only when they are used, half as many registers until then. */
template <class T> struct alignas(16) scan_raw {
    uint32_t words[SCAN_SHARE * sizeof(T) / sizeof(uint32_t)];
    __device__ __forceinline__ scan_eight numbers() const {
        group<T, SCAN_SHARE> g;
        scan_eight f;
        memcpy(&g, words, sizeof g);
        for (int i = 0; i < SCAN_SHARE; i++) f.v[i] = to_float(g.v[i]);
        return f;
    }
};

/* ---- walks ---- */

/* Stretches of a sequence; tokens of one, a multiple of the chunk (of the last: the rest). */
typedef struct scan_walks {
    int64_t count, length;
} scan_walks;

/* Blocks of 64 channels that keep a large GPU busy; fewest tokens of a stretch, and fewest stretches: a
 * sequence is walked twice for it. */
#define SCAN_BUSY 256
#define SCAN_STRETCH 128
#define SCAN_WORTH 4

static inline scan_walks scan_cut(const weft_scan *a) {
    int64_t count = SCAN_BUSY / (a->B * ((a->E + 63) / 64));
    if (count > a->T / SCAN_STRETCH) count = a->T / SCAN_STRETCH;
    if (count < SCAN_WORTH) count = 1;
    const int64_t chunks = (a->T + count * SCAN_CHUNK - 1) / (count * SCAN_CHUNK);
    const int64_t length = (chunks ? chunks : 1) * SCAN_CHUNK;
    return {a->T > length ? (a->T + length - 1) / length : 1, length};
}

/* The state behind the last token of each walk, or reverse: the gradient of the state before its first token,
 * with `from` before (behind) it; and sigma, the sum of its delta, infinite where a document starts in it.
 * from, to: [B,count,E,N]; sigma [B,count,E]; each may be NULL; `to` may be `from`. Of every sequence the
 * walks first .. first + used. */
void scan_states(weft_device *d, const weft_scan *a, bool reverse, scan_walks w, int64_t first, int64_t used,
                 const float *from, float *to, float *sigma);

/* From `states` and `sigma` of scan_states with zeros for `from`, and the state `from` [B,E,N] (or NULL:
 * zeros) before the first walk (reverse: behind the last): `states` becomes the state before (behind) each
 * walk. to [B,E,N] receives what comes out at the end and total [B,E] the sum of sigma, unless NULL: without
 * both, the walk at the end is not read. `to` may be `from`. */
void scan_carry_walks(weft_device *d, const weft_scan *a, bool reverse, scan_walks w, const float *from,
                      float *states, const float *sigma, float *to, float *total);

static inline float *scan_push(weft_device *d, int64_t n) {
    return static_cast<float *>(weft_arena_push(&d->act, static_cast<size_t>(n) * sizeof(float)));
}

/* ---- numbers ---- */

static __device__ __forceinline__ float softplus(float x) {
    return x > 20 ? x : log1pf(expf(x));
}

/* Of the four lanes of a channel: lane q gets the sum of their x[q]. */
static __device__ __forceinline__ float quad_sum(const float (&x)[4]) {
    const bool high = threadIdx.x & 2, odd = threadIdx.x & 1;
    float two[2];
    for (int i = 0; i < 2; i++)
        two[i] = (high ? x[2 + i] : x[i]) + __shfl_xor_sync(WARP_ALL, high ? x[i] : x[2 + i], 2);
    return (odd ? two[1] : two[0]) + __shfl_xor_sync(WARP_ALL, odd ? two[0] : two[1], 1);
}

/* Of the eight channels of a warp, for each of a channel's lanes: that of channel c gets the sum of their
 * x[c]. */
static __device__ __forceinline__ float octet_sum(const float (&x)[8]) {
    const bool bit4 = threadIdx.x & 16, bit3 = threadIdx.x & 8, bit2 = threadIdx.x & 4;
    float four[4], two[2];
    for (int i = 0; i < 4; i++)
        four[i] = (bit4 ? x[4 + i] : x[i]) + __shfl_xor_sync(WARP_ALL, bit4 ? x[i] : x[4 + i], 16);
    for (int i = 0; i < 2; i++)
        two[i] = (bit3 ? four[2 + i] : four[i]) + __shfl_xor_sync(WARP_ALL, bit3 ? four[i] : four[2 + i], 8);
    return (bit2 ? two[1] : two[0]) + __shfl_xor_sync(WARP_ALL, bit2 ? two[0] : two[1], 4);
}

/* ---- what a thread works on ---- */

/* The walk and the channels of the calling block. Positions in doc_start are int32: so are tokens here. */
template <int CHANNELS> struct scan_stretch {
    int b, walk, e0, start, end; /* walk: in [B,count] */
    __device__ __forceinline__ scan_stretch(const weft_scan &a, const scan_walks &w, int64_t first,
                                            int64_t used) {
        const int blocks = static_cast<int>((a.E + CHANNELS - 1) / CHANNELS), i = blockIdx.x / blocks;
        const int s = static_cast<int>(first + i % used);
        b = static_cast<int>(i / used), walk = static_cast<int>(b * w.count + s),
        e0 = blockIdx.x % blocks * CHANNELS;
        start = static_cast<int>(s * w.length),
        end = static_cast<int>(a.T < start + w.length ? a.T : start + w.length);
    }
    __device__ __forceinline__ int rows(int t0) const { /* of the chunk that begins with token t0 */
        return end - t0 < SCAN_CHUNK ? end - t0 : SCAN_CHUNK;
    }
};
template <int CHANNELS> static inline unsigned scan_blocks(const weft_scan *a, int64_t used) {
    return static_cast<unsigned>(a->B * used * ((a->E + CHANNELS - 1) / CHANNELS));
}

/* States n0 .. n0 + 4 of a channel. */
template <int CHANNELS> struct scan_lane {
    int channel, n0, e; /* of the block; of the group; of all */
    bool there;
    int64_t N;
    __device__ __forceinline__ scan_lane(const weft_scan &a, int e0)
        : channel(threadIdx.x / SCAN_LANES), n0(threadIdx.x % SCAN_LANES * SCAN_EACH), e(e0 + channel),
          there(e < a.E), N(a.N) {}
    /* Of a row of N in x, for the group of states from n on; zeros where x is NULL. */
    __device__ __forceinline__ scan_four load(const float *x, int64_t row, int n) const {
        const float *from = x + row * N + n + n0;
        const int64_t left = x && there ? N - n - n0 : 0;
        if (left >= SCAN_EACH && reinterpret_cast<uintptr_t>(from) % 16 == 0)
            return load_floats<SCAN_EACH>(from);
        scan_four s;
        for (int i = 0; i < SCAN_EACH; i++) s.v[i] = i < left ? from[i] : 0;
        return s;
    }
    __device__ __forceinline__ void store(float *x, int64_t row, int n, const scan_four &s) const {
        float *to = x + row * N + n + n0;
        const int64_t left = x && there ? N - n - n0 : 0;
        if (left >= SCAN_EACH && reinterpret_cast<uintptr_t>(to) % 16 == 0)
            store_floats(to, s);
        else
            for (int i = 0; i < SCAN_EACH; i++)
                if (i < left) to[i] = s.v[i];
    }
    /* A log2(e): decays are powers of 2. */
    __device__ __forceinline__ scan_four load_A2(const float *A_log, int n) const {
        scan_four A = load(A_log, e, n);
        for (int i = 0; i < SCAN_EACH; i++) A.v[i] = there && n + n0 + i < N ? -expf(A.v[i]) * LOG2_E : 0;
        return A;
    }
};

/* The thread's part of elementwise work: SCAN_SHARE channels of a token of the chunk. */
template <int CHANNELS> struct scan_share {
    /* Stride of shared arrays: the lanes of a warp reach 8 channels of 4 tokens without a bank conflict. */
    static constexpr int row = CHANNELS + 8;
    static constexpr int threads = CHANNELS * SCAN_LANES;
    static_assert(threads * SCAN_SHARE == SCAN_CHUNK * CHANNELS, "every thread has one part of a chunk");
    int token, at, e, channels; /* at: in a shared array; channels: how many of them there are */
    int start, end;
    int64_t first_row;
    bool wide;
    __device__ __forceinline__ scan_share(const weft_scan &a, const scan_stretch<CHANNELS> &s,
                                          bool can_wide) {
        const int channel = threadIdx.x % (CHANNELS / SCAN_SHARE) * SCAN_SHARE;
        token = threadIdx.x / (CHANNELS / SCAN_SHARE), at = token * row + channel, e = s.e0 + channel;
        channels = a.E - e < SCAN_SHARE ? static_cast<int>(a.E - e) : SCAN_SHARE;
        start = s.start, end = s.end, first_row = s.b * a.T, wide = can_wide;
    }
    __device__ __forceinline__ bool there(int t0) const { return t0 + token < end; }
    /* Of the chunk that begins with token t0; zeros outside the stretch. */
    template <class T>
    __device__ __forceinline__ scan_raw<T> read(const weft_act *x, int64_t ld, int t0) const {
        const int t = t0 + token, left = start <= t && t < end ? channels : 0;
        const T *from = static_cast<const T *>(x) + (first_row + t) * ld + e;
        if (wide && left > 0) return *reinterpret_cast<const scan_raw<T> *>(from);
        group<T, SCAN_SHARE> g;
        scan_raw<T> raw;
        for (int i = 0; i < SCAN_SHARE; i++) g.v[i] = i < left ? from[i] : from_float<T>(0);
        memcpy(raw.words, &g, sizeof g);
        return raw;
    }
    template <class T>
    __device__ __forceinline__ void write(weft_act *x, int64_t ld, int t0, const scan_eight &f) const {
        const int t = t0 + token, left = t < end ? channels : 0;
        T *to = static_cast<T *>(x) + (first_row + t) * ld + e;
        if (wide && left > 0)
            store_floats(to, f);
        else
            for (int i = 0; i < SCAN_SHARE; i++)
                if (i < left) to[i] = from_float<T>(f.v[i]);
    }
    /* Of one number per channel. */
    __device__ __forceinline__ scan_eight parameter(const float *x) const {
        scan_eight f;
        for (int i = 0; i < SCAN_SHARE; i++) f.v[i] = i < channels ? x[e + i] : 0;
        return f;
    }
};

/* Can eight channels of every row be read at once? */
template <class T> static inline bool scan_fits(const weft_scan *a) {
    const weft_act *u[] = {a->u, a->du}, *dt[] = {a->dt, a->ddt}, *z[] = {a->z, a->dz},
                   *y[] = {a->y, a->out, a->dout};
    bool all = true;
    for (const weft_act *x : u)
        all = all && fits<SCAN_SHARE>(static_cast<const T *>(x), a->E, x ? a->ldu : 0);
    for (const weft_act *x : dt)
        all = all && fits<SCAN_SHARE>(static_cast<const T *>(x), a->E, x ? a->lddt : 0);
    for (const weft_act *x : z)
        all = all && fits<SCAN_SHARE>(static_cast<const T *>(x), a->E, x ? a->ldz : 0);
    for (const weft_act *x : y)
        all = all && fits<SCAN_SHARE>(static_cast<const T *>(x), a->E, x ? a->ldy : 0);
    return all;
}

/* The group of states from n on of B or C for a chunk, by all threads: [token][SCAN_STATES]. */
template <class T>
static __device__ __forceinline__ void scan_stage(float *to, const weft_act *x, const weft_scan &a,
                                                  int64_t row0, int rows, int n) {
    for (int i = threadIdx.x; i < SCAN_CHUNK * SCAN_STATES; i += blockDim.x) {
        const int t = i / SCAN_STATES, k = i % SCAN_STATES;
        to[i] =
            t < rows && n + k < a.N ? to_float(static_cast<const T *>(x)[(row0 + t) * a.ldbc + n + k]) : 0;
    }
}

/* Bit t: token t0 + t of sequence b starts a document. */
static __device__ __forceinline__ unsigned scan_resets(const weft_scan &a, int64_t b, int t0, int rows) {
    const int lane = threadIdx.x % 32;
    const bool starts = a.doc_start && lane < rows && a.doc_start[b * a.T + t0 + lane] == a.pos0 + t0 + lane;
    return __ballot_sync(WARP_ALL, starts);
}

#endif
