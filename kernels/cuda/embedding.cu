/* Embedding table: rows out, gradients of rows in.
 *
 * The gradients of equal ids must be added in the order of m. So the tokens are sorted by id first, keeping
 * that order (a radix sort by digits of 9 bits: two passes for up to 2^18 words), and then every run of equal
 * ids is added by one row of threads. */
#include "cuda/walk.cuh"

/* ---- rows out ---- */

/* Place of `id` in a table of V rows from `first` on, or V: not in the table. */
static __device__ __forceinline__ int64_t place_of(int32_t id, int64_t first, int64_t V) {
    const int64_t place = id - first;
    return place >= 0 && place < V ? place : V;
}

template <class T> struct embedding_op {
    T *y;
    const T *table;
    const int32_t *ids;
    int64_t D, first, V;
    template <int N> __device__ __forceinline__ void at(int64_t m, int64_t j) const {
        const int64_t place = place_of(ids[m], first, V);
        floats<N> row = {};
        if (place < V) row = load_floats<N>(table + place * D + j);
        store_floats(y + m * D + j, row);
    }
};

extern "C" void cuda_embedding_fwd(weft_device *d, weft_act *y, const weft_act *table, const int32_t *ids,
                                   int64_t M, int64_t D, int64_t first, int64_t V) {
    if (d->dry) return;
    cuda_with_act(d, [&](auto t) {
        typedef decltype(t) T;
        constexpr int N = pack<T>::size;
        const embedding_op<T> f = {static_cast<T *>(y), static_cast<const T *>(table), ids, D, first, V};
        walk_rows<N>(d, f, M, D, fits<N>(f.y, D, D) && fits<N>(f.table, D, D));
    });
}

/* ---- sorting ---- */

/* A pass sorts by one digit, and keeps the order of what it finds. Tiles of tokens count their digits; the
 * counts become first places (all tiles of digit 0, then of digit 1, ...); tiles put their tokens there. */
#define SORT_BITS 9
#define SORT_DIGITS (1 << SORT_BITS)
#define SORT_BLOCK 256
#define SORT_WARPS (SORT_BLOCK / 32)
#define SORT_ROUNDS 4
#define SORT_TILE (SORT_BLOCK * SORT_ROUNDS)

typedef struct sort_keys {
    const int32_t *ids;
    int64_t M, first, V;
} sort_keys;

/* The digit at `shift` of the i-th token in the order so far (NULL: as they came). */
static __device__ __forceinline__ int digit_at(const sort_keys &s, const int32_t *order, int64_t i,
                                               int shift) {
    const int32_t id = s.ids[order ? order[i] : i];
    return static_cast<int>(place_of(id, s.first, s.V) >> shift & (SORT_DIGITS - 1));
}

/* counts[digit, tile] */
static __global__ void __launch_bounds__(SORT_BLOCK)
    sort_count_kernel(int32_t *counts, sort_keys s, const int32_t *order, int shift) {
    SHARED(int, count, SORT_DIGITS);
    for (int i = threadIdx.x; i < SORT_DIGITS; i += SORT_BLOCK) count[i] = 0;
    __syncthreads();
    const int64_t begin = static_cast<int64_t>(blockIdx.x) * SORT_TILE;
    for (int64_t i = begin + threadIdx.x; i < begin + SORT_TILE && i < s.M; i += SORT_BLOCK)
        atomicAdd(&count[digit_at(s, order, i, shift)], 1);
    __syncthreads();
    for (int i = threadIdx.x; i < SORT_DIGITS; i += SORT_BLOCK)
        counts[static_cast<int64_t>(i) * gridDim.x + blockIdx.x] = count[i];
}

/* x[i] becomes the sum of what stands before it. One block: every thread has one stretch. */
#define SCAN_BLOCK 1024
static __global__ void __launch_bounds__(SCAN_BLOCK) sort_scan_kernel(int32_t *x, int64_t n) {
    SHARED(int, warp_total, SCAN_BLOCK / 32);
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int64_t each = (n + SCAN_BLOCK - 1) / SCAN_BLOCK, begin = threadIdx.x * each;
    const int64_t end = begin + each < n ? begin + each : n;
    int mine = 0;
    for (int64_t i = begin; i < end; i++) mine += x[i];
    int before = mine; /* and of the lanes below, at the end */
    for (int by = 1; by < 32; by *= 2) {
        const int below = __shfl_up_sync(WARP_ALL, before, by);
        if (lane >= by) before += below;
    }
    if (lane == 31) warp_total[warp] = before;
    __syncthreads();
    before -= mine;
    for (int w = 0; w < warp; w++) before += warp_total[w];
    for (int64_t i = begin; i < end; i++) {
        const int count = x[i];
        x[i] = before;
        before += count;
    }
}

/* The lanes whose digit is this lane's; of those in `valid`. */
static __device__ __forceinline__ unsigned lanes_with(int digit, unsigned valid) {
    for (int bit = 0; bit < SORT_BITS; bit++) {
        const unsigned set = __ballot_sync(WARP_ALL, digit >> bit & 1);
        valid &= digit >> bit & 1 ? set : ~set;
    }
    return valid;
}

/* Every warp has 32 * SORT_ROUNDS tokens of the tile one after the other. place[warp, digit]: where its next
 * token of that digit goes. */
static __global__ void __launch_bounds__(SORT_BLOCK)
    sort_place_kernel(int32_t *sorted, const int32_t *places, sort_keys s, const int32_t *order, int shift) {
    SHARED(int, place, (SORT_WARPS * SORT_DIGITS));
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int64_t begin = static_cast<int64_t>(blockIdx.x) * SORT_TILE + warp * (32 * SORT_ROUNDS);
    for (int i = threadIdx.x; i < SORT_WARPS * SORT_DIGITS; i += SORT_BLOCK) place[i] = 0;
    __syncthreads();
    for (int r = 0; r < SORT_ROUNDS; r++) {
        const int64_t i = begin + r * 32 + lane;
        if (i < s.M) atomicAdd(&place[warp * SORT_DIGITS + digit_at(s, order, i, shift)], 1);
    }
    __syncthreads();
    for (int digit = threadIdx.x; digit < SORT_DIGITS; digit += SORT_BLOCK) {
        int next = places[static_cast<int64_t>(digit) * gridDim.x + blockIdx.x];
        for (int w = 0; w < SORT_WARPS; w++) {
            const int count = place[w * SORT_DIGITS + digit];
            place[w * SORT_DIGITS + digit] = next;
            next += count;
        }
    }
    __syncthreads();
    for (int r = 0; r < SORT_ROUNDS; r++) {
        const int64_t i = begin + r * 32 + lane;
        const bool valid = i < s.M;
        const int digit = valid ? digit_at(s, order, i, shift) : 0;
        const unsigned same = lanes_with(digit, __ballot_sync(WARP_ALL, valid));
        int *next = &place[warp * SORT_DIGITS + digit];
        const unsigned below = same & ((1u << lane) - 1);
        if (valid) sorted[*next + __popc(below)] = order ? order[i] : static_cast<int32_t>(i);
        __syncwarp();
        if (valid && below == 0) *next += __popc(same);
        __syncwarp();
    }
}

/* The tokens in the order of their places in the table, those that have none at the end. `orders`: two arrays
 * of M; the one that is returned holds the result. */
static const int32_t *sort_tokens(const weft_device *d, const sort_keys &s, int32_t *orders, int32_t *counts,
                                  int64_t tiles) {
    const int32_t *order = nullptr;
    int32_t *next = orders;
    for (int shift = 0; shift == 0 || s.V >> shift; shift += SORT_BITS) {
        launch(sort_count_kernel, static_cast<unsigned>(tiles), SORT_BLOCK, 0, d, counts, s, order, shift);
        launch(sort_scan_kernel, 1, SCAN_BLOCK, 0, d, counts, tiles * SORT_DIGITS);
        launch(sort_place_kernel, static_cast<unsigned>(tiles), SORT_BLOCK, 0, d, next, counts, s, order,
               shift);
        order = next;
        next = order == orders ? orders + s.M : orders;
    }
    return order;
}

/* ---- gradients in ---- */

/* One behind the last token of the run that begins at i: by leaps that double, then by halves. */
static __device__ __forceinline__ int64_t end_of_run(const sort_keys &s, const int32_t *order, int64_t i) {
    const int32_t id = s.ids[order[i]];
    int64_t low = i, leap = 1;
    for (; low + leap < s.M && s.ids[order[low + leap]] == id; leap *= 2) low += leap;
    int64_t high = low + leap < s.M ? low + leap : s.M;
    while (high - low > 1) {
        const int64_t middle = low + (high - low) / 2;
        if (s.ids[order[middle]] == id)
            low = middle;
        else
            high = middle;
    }
    return high;
}

template <int N, class T>
static __global__ void WALK_BOUNDS embedding_bwd_kernel(float *dtable, const T *dy, sort_keys s,
                                                        const int32_t *order, int64_t D) {
    const int64_t j = (static_cast<int64_t>(blockIdx.y) * blockDim.x + threadIdx.x) * N;
    if (j >= D) return;
    const int64_t all = static_cast<int64_t>(gridDim.x) * blockDim.y;
    for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.y + threadIdx.y; i < s.M; i += all) {
        const int32_t id = s.ids[order[i]];
        const int64_t place = place_of(id, s.first, s.V);
        if (place == s.V || (i > 0 && s.ids[order[i - 1]] == id)) continue;
        const int64_t end = end_of_run(s, order, i);
        floats<N> sum = load_floats<N>(dtable + place * D + j);
#pragma unroll 4
        for (int64_t k = i; k < end; k++) {
            const floats<N> more = load_floats<N>(dy + order[k] * D + j);
            for (int l = 0; l < N; l++) sum.v[l] += more.v[l];
        }
        store_floats(dtable + place * D + j, sum);
    }
}

extern "C" void cuda_embedding_bwd(weft_device *d, weft_real *dtable, const weft_act *dy_, const int32_t *ids,
                                   int64_t M, int64_t D, int64_t first, int64_t V) {
    const int64_t tiles = (M + SORT_TILE - 1) / SORT_TILE;
    const size_t mark = weft_arena_mark(&d->act);
    int32_t *orders = static_cast<int32_t *>(weft_arena_push(&d->act, 2 * M * sizeof *orders));
    int32_t *counts = static_cast<int32_t *>(weft_arena_push(&d->act, tiles * SORT_DIGITS * sizeof *counts));
    if (!d->dry && M > 0 && V > 0) {
        const sort_keys s = {ids, M, first, V};
        const int32_t *order = sort_tokens(d, s, orders, counts, tiles);
        cuda_with_act(d, [&](auto t) {
            typedef decltype(t) T;
            constexpr int N = pack<T>::size;
            const T *dy = static_cast<const T *>(dy_);
            const bool packs = fits<N>(dtable, D, D) && fits<N>(dy, D, D);
            const int64_t steps = packs ? D / N : D;
            const dim3 block = rows_block(steps);
            const dim3 grid(cuda_blocks(M, block.y), static_cast<unsigned>((steps + block.x - 1) / block.x));
            launch(packs ? embedding_bwd_kernel<N, T> : embedding_bwd_kernel<1, T>, grid, block, 0, d, dtable,
                   dy, s, order, D);
        });
    }
    weft_arena_release(&d->act, mark);
}
