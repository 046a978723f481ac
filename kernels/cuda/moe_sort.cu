/* The order in which tokens go to the experts: stable counting sorts, in integers.
 *
 * moe_sort: blocks of slots count their experts; a scan over (expert, block) turns the counts into first
 * places; then a warp a block goes through its slots, 32 at a time, and gives each the next place of its
 * expert: lanes of the same expert in the order of lanes. moe_regroup: the source's counts are known, so a
 * scan over (expert, source) tells where each run of rows goes, and every row finds its run by bisection. */
#include "cuda/cuda.cuh"

enum { SORT_BLOCK = 1024, COUNT_THREADS = 256, SCAN_THREADS = 256, SCAN_ITEMS = 4, ROW_THREADS = 256 };

/* out(i, sum of in(0) .. in(i-1)) for i < n, by one block of SCAN_THREADS threads; returns the whole sum.
 * in(i) and out(i) run in the same thread. */
template <class In, class Out> static __device__ int32_t block_scan(int64_t n, In in, Out out) {
    SHARED(int32_t, sums, SCAN_THREADS / 32);
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    int32_t before = 0; /* of this round's first item */
    for (int64_t base = 0; base < n; base += SCAN_THREADS * SCAN_ITEMS) {
        const int64_t first = base + threadIdx.x * SCAN_ITEMS;
        int32_t x[SCAN_ITEMS], own = 0;
#pragma unroll
        for (int e = 0; e < SCAN_ITEMS; e++) {
            x[e] = first + e < n ? in(first + e) : 0;
            own += x[e];
        }
        int32_t sum = own; /* up to this lane's */
        for (int by = 1; by < 32; by *= 2) {
            const int32_t lower = __shfl_up_sync(WARP_ALL, sum, by);
            if (lane >= by) sum += lower;
        }
        if (lane == 31) sums[warp] = sum;
        __syncthreads();
        int32_t whole = 0;
        for (int w = 0; w < SCAN_THREADS / 32; w++) {
            if (w == warp) sum += whole;
            whole += sums[w];
        }
        int32_t at = before + sum - own;
#pragma unroll
        for (int e = 0; e < SCAN_ITEMS; e++) {
            if (first + e < n) out(first + e, at);
            at += x[e];
        }
        before += whole;
        __syncthreads();
    }
    return before;
}

/* ---- by expert ---- */

/* place[x, b]: how many slots of block b chose expert x. */
static __global__ void __launch_bounds__(COUNT_THREADS)
    sort_count_kernel(int32_t *place, const int32_t *ids, int64_t slots, int64_t X) {
    SHARED_DYN(int32_t, count);
    const int64_t first = static_cast<int64_t>(blockIdx.x) * SORT_BLOCK;
    const int64_t end = first + SORT_BLOCK < slots ? first + SORT_BLOCK : slots;
    for (int64_t x = threadIdx.x; x < X; x += COUNT_THREADS) count[x] = 0;
    __syncthreads();
    for (int64_t i = first + threadIdx.x; i < end; i += COUNT_THREADS) atomicAdd(&count[ids[i]], 1);
    __syncthreads();
    for (int64_t x = threadIdx.x; x < X; x += COUNT_THREADS) place[x * gridDim.x + blockIdx.x] = count[x];
}

/* Counts become first places. */
static __global__ void __launch_bounds__(SCAN_THREADS)
    sort_scan_kernel(int32_t *place, int64_t *offsets, int64_t X, int64_t blocks) {
    const int32_t slots = block_scan(
        X * blocks, [&](int64_t i) { return place[i]; },
        [&](int64_t i, int32_t before) {
            place[i] = before;
            if (i % blocks == 0) offsets[i / blocks] = before;
        });
    if (threadIdx.x == 0) offsets[X] = slots;
}

static __global__ void __launch_bounds__(32)
    sort_place_kernel(int32_t *slot_of, int32_t *row_of, const int32_t *place, const int32_t *ids,
                      int64_t slots, uint32_t k, int64_t X) {
    SHARED_DYN(int32_t, next);
    const int lane = threadIdx.x;
    const int64_t first = static_cast<int64_t>(blockIdx.x) * SORT_BLOCK;
    const int64_t end = first + SORT_BLOCK < slots ? first + SORT_BLOCK : slots;
    for (int64_t x = lane; x < X; x += 32) next[x] = place[x * gridDim.x + blockIdx.x];
    __syncwarp();
    for (int64_t base = first; base < end; base += 32) {
        const int64_t i = base + lane;
        const int32_t id = i < end ? ids[i] : -1;
        const unsigned same = __match_any_sync(WARP_ALL, id);
        int32_t to = 0;
        if (i < end) {
            to = next[id] + __popc(same & ((1u << lane) - 1));
            slot_of[i] = to;
            row_of[to] = static_cast<int32_t>(static_cast<uint32_t>(i) / k);
        }
        __syncwarp();
        if (i < end && same >> lane == 1) next[id] = to + 1; /* the last of its expert */
        __syncwarp();
    }
}

/* Shared memory holds X numbers, so that X may be some 50 thousand. */
extern "C" void cuda_moe_sort(weft_device *d, int64_t *offsets, int32_t *slot_of, int32_t *row_of,
                              const int32_t *ids, int64_t M, int64_t k, int64_t X) {
    const int64_t slots = M * k;
    const unsigned blocks = cuda_blocks(slots, SORT_BLOCK, INT32_MAX);
    const size_t shared = static_cast<size_t>(X) * sizeof(int32_t);
    size_t mark = weft_arena_mark(&d->act);
    int32_t *place =
        static_cast<int32_t *>(weft_arena_push(&d->act, static_cast<size_t>(blocks * X) * sizeof *place));
    if (!d->dry) {
        launch(sort_count_kernel, blocks, COUNT_THREADS, shared, d, place, ids, slots, X);
        launch(sort_scan_kernel, 1, SCAN_THREADS, 0, d, place, offsets, X, static_cast<int64_t>(blocks));
        if (slots > 0)
            launch(sort_place_kernel, blocks, 32, shared, d, slot_of, row_of, place, ids, slots,
                   static_cast<uint32_t>(k), X);
    }
    weft_arena_release(&d->act, mark);
}

/* ---- by expert and source ---- */

/* start[x, s]: place of the first row for expert first + x from source s; came[s]: the first row from s. */
static __global__ void __launch_bounds__(SCAN_THREADS)
    regroup_scan_kernel(int32_t *start, int32_t *came, int64_t *offsets, const int64_t *all, int64_t sources,
                        int64_t X, int64_t first, int64_t count) {
    const int32_t n = block_scan(
        count * sources,
        [&](int64_t i) {
            const int64_t *from = all + i % sources * (X + 1) + first + i / sources;
            return static_cast<int32_t>(from[1] - from[0]);
        },
        [&](int64_t i, int32_t before) {
            start[i] = before;
            if (i % sources == 0) offsets[i / sources] = before;
        });
    if (threadIdx.x == 0) offsets[count] = n;
    block_scan(
        sources,
        [&](int64_t s) {
            const int64_t *from = all + s * (X + 1) + first;
            return static_cast<int32_t>(from[count] - from[0]);
        },
        [&](int64_t s, int32_t before) { came[s] = before; });
}

/* The last i < n with first[i] <= x, where first rises and first[0] <= x: the run that holds x. */
template <class T> static __device__ __forceinline__ int64_t run_of(const T *first, int64_t n, int64_t x) {
    int64_t low = 0, high = n;
    while (high - low > 1) {
        const int64_t middle = (low + high) / 2;
        if (first[middle] <= x)
            low = middle;
        else
            high = middle;
    }
    return low;
}

static __global__ void __launch_bounds__(ROW_THREADS)
    regroup_rows_kernel(int32_t *row_of, int32_t *place_of, const int32_t *start, const int32_t *came,
                        const int64_t *all, int64_t sources, int64_t X, int64_t first, int64_t count,
                        int64_t n) {
    const int64_t step = static_cast<int64_t>(gridDim.x) * ROW_THREADS;
    for (int64_t i = static_cast<int64_t>(blockIdx.x) * ROW_THREADS + threadIdx.x; i < n; i += step) {
        const int64_t s = run_of(came, sources, i);
        const int64_t *from = all + s * (X + 1) + first;
        const int64_t slot = i - came[s] + from[0]; /* its place at the source */
        const int64_t x = run_of(from, count, slot);
        const int32_t to = start[x * sources + s] + static_cast<int32_t>(slot - from[x]);
        place_of[i] = to;
        row_of[to] = static_cast<int32_t>(i);
    }
}

extern "C" void cuda_moe_regroup(weft_device *d, int64_t *offsets, int32_t *row_of, int32_t *place_of,
                                 const int64_t *all, int64_t sources, int64_t X, int64_t first, int64_t count,
                                 int64_t n) {
    size_t mark = weft_arena_mark(&d->act);
    int32_t *start = static_cast<int32_t *>(
        weft_arena_push(&d->act, static_cast<size_t>(count * sources) * sizeof *start));
    int32_t *came =
        static_cast<int32_t *>(weft_arena_push(&d->act, static_cast<size_t>(sources) * sizeof *came));
    if (!d->dry) {
        launch(regroup_scan_kernel, 1, SCAN_THREADS, 0, d, start, came, offsets, all, sources, X, first,
               count);
        if (n > 0)
            launch(regroup_rows_kernel, cuda_blocks(n, ROW_THREADS), ROW_THREADS, 0, d, row_of, place_of,
                   start, came, all, sources, X, first, count, n);
    }
    weft_arena_release(&d->act, mark);
}
