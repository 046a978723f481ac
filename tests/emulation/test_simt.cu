/* The emulation of CUDA C++ does what CUDA says, in any order of threads: right programs give their results,
 * and no sanitizer has anything to say about them. */
#include "cuda/cuda.cuh"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <vector>

#include <check.h>
extern "C" {
#include "emulation/each.h"
}

namespace {

cudaStream_t stream() {
    static cudaStream_t s;
    if (!s) CUDA_CHECK(cudaStreamCreateWithPriority(&s, cudaStreamNonBlocking, 0));
    return s;
}

/* An array of the device that starts as zeros. */
template <class T> class array {
    void *device = nullptr, *pinned = nullptr;
    size_t n;

  public:
    explicit array(size_t elements) : n(elements) {
        CUDA_CHECK(cudaMalloc(&device, n * sizeof(T)));
        CUDA_CHECK(cudaMallocHost(&pinned, n * sizeof(T)));
        CUDA_CHECK(cudaMemsetAsync(device, 0, n * sizeof(T), stream()));
    }
    array(const array &) = delete;
    ~array() {
        CUDA_CHECK(cudaFree(device));
        CUDA_CHECK(cudaFreeHost(pinned));
    }
    T *p() const { return static_cast<T *>(device); }
    void set(const std::vector<T> &x) {
        std::copy(x.begin(), x.end(), static_cast<T *>(pinned));
        CUDA_CHECK(cudaMemcpyAsync(device, pinned, n * sizeof(T), cudaMemcpyHostToDevice, stream()));
        CUDA_CHECK(cudaStreamSynchronize(stream()));
    }
    std::vector<T> get() {
        CUDA_CHECK(cudaMemcpyAsync(pinned, device, n * sizeof(T), cudaMemcpyDeviceToHost, stream()));
        CUDA_CHECK(cudaStreamSynchronize(stream()));
        return std::vector<T>(static_cast<T *>(pinned), static_cast<T *>(pinned) + n);
    }
};

/* ---- which thread ---- */

__global__ void number_threads(int *seen) {
    const unsigned block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
    const unsigned thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
    seen[block * blockDim.x * blockDim.y * blockDim.z + thread] += 1 + static_cast<int>(thread);
}

START_TEST(every_thread_runs_once) {
    const dim3 grid(3, 2, 5), block(7, 3, 2);
    const int threads = 7 * 3 * 2, blocks = 3 * 2 * 5;
    array<int> seen(threads * blocks);
    launch(number_threads, grid, block, 0, stream(), seen.p());
    const std::vector<int> got = seen.get();
    for (int i = 0; i < threads * blocks; i++) ck_assert_int_eq(got[i], 1 + i % threads);
}
END_TEST

/* ---- warps ---- */

template <class T> __global__ void shuffles(T *y, int width) {
    const T x = T(static_cast<float>(threadIdx.x));
    const int n = blockDim.x;
    y[threadIdx.x] = __shfl_sync(WARP_ALL, x, 5, width);
    y[n + threadIdx.x] = __shfl_xor_sync(WARP_ALL, x, 3, width);
    y[2 * n + threadIdx.x] = __shfl_up_sync(WARP_ALL, x, 2, width);
    y[3 * n + threadIdx.x] = __shfl_down_sync(WARP_ALL, x, 2, width);
}

template <class T> void check_shuffles() {
    const int n = 64;
    for (int width : {2, 4, 8, 16, 32}) {
        array<T> y(4 * n);
        launch(shuffles<T>, 1, n, 0, stream(), y.p(), width);
        const std::vector<T> got = y.get();
        for (int i = 0; i < n; i++) {
            const int first = i / width * width, in = i % width, x = i ^ 3;
            const int right[4] = {first + 5 % width, x < first + width ? x : i, in < 2 ? i : i - 2,
                                  in + 2 < width ? i + 2 : i};
            for (int which = 0; which < 4; which++)
                ck_assert_msg(static_cast<float>(got[which * n + i]) == static_cast<float>(right[which]),
                              "shuffle %d, width %d, lane %d", which, width, i);
        }
    }
}

START_TEST(shuffles_of_all_types) {
    check_shuffles<int>();
    check_shuffles<unsigned>();
    check_shuffles<long long>();
    check_shuffles<float>();
    check_shuffles<double>();
    check_shuffles<bf16>();
}
END_TEST

/* Lanes that take different ways through warps of which one is not full. */
__global__ void votes(unsigned *y) {
    const unsigned i = threadIdx.x, lane = i % 32, n = blockDim.x;
    const unsigned low = 0x000000ff, high = 0xffffff00;
    y[i] = __ballot_sync(WARP_ALL, lane % 3 == 0);
    y[n + i] = __any_sync(WARP_ALL, lane == 7) + 2 * __any_sync(WARP_ALL, 0);
    y[2 * n + i] = __all_sync(WARP_ALL, 1) + 2 * __all_sync(WARP_ALL, lane != 7);
    y[3 * n + i] = __match_any_sync(WARP_ALL, lane % 4);
    if (lane < 8) {
        y[4 * n + i] = __reduce_add_sync(low, lane);
        __syncwarp(low);
    } else if (i < 32) {
        y[4 * n + i] = __reduce_add_sync(high, lane);
        y[4 * n + i] += __reduce_add_sync(high, 1u);
    }
}

START_TEST(votes_and_masks) {
    const unsigned n = 40;
    array<unsigned> y(5 * n);
    launch(votes, 1, n, 0, stream(), y.p());
    const std::vector<unsigned> got = y.get();
    for (unsigned i = 0; i < n; i++) {
        const unsigned lanes = i < 32 ? 0xffffffff : 0xff, lane = i % 32;
        unsigned thirds = 0, alike = 0;
        for (unsigned l = 0; l < 32; l++) {
            if (l % 3 == 0) thirds |= 1u << l;
            if (l % 4 == lane % 4) alike |= 1u << l;
        }
        ck_assert_uint_eq(got[i], thirds & lanes);
        ck_assert_uint_eq(got[n + i], 1);
        ck_assert_uint_eq(got[2 * n + i], 1);
        ck_assert_uint_eq(got[3 * n + i], alike & lanes);
        ck_assert_uint_eq(got[4 * n + i], lane < 8 ? 28 : 31 * 32 / 2 - 28 + 24);
    }
}
END_TEST

/* Two halves of a warp pass numbers on through shared memory, each at its own pace. */
__global__ void halves(float *y) {
    SHARED(float, s, 32);
    const unsigned lane = threadIdx.x, half = lane / 16, mask = half ? 0xffff0000 : 0x0000ffff;
    float x = static_cast<float>(lane);
    for (unsigned i = 0; i < 3 + 2 * half; i++) {
        s[lane] = x;
        __syncwarp(mask);
        x = s[half * 16 + (lane + 1) % 16];
        __syncwarp(mask);
    }
    y[lane] = x;
}

START_TEST(warp_barriers_of_part_of_a_warp) {
    array<float> y(32);
    launch(halves, 1, 32, 0, stream(), y.p());
    const std::vector<float> got = y.get();
    for (int i = 0; i < 32; i++) {
        const int half = i / 16;
        ck_assert_float_eq(got[i], static_cast<float>(half * 16 + (i + 3 + 2 * half) % 16));
    }
}
END_TEST

__global__ void product(float *c, const bf16 *a, const bf16 *b) {
    const unsigned lane = threadIdx.x, row = lane / 4, k = lane % 4 * 2;
    const float zero[4] = {};
    unsigned fa[4], fb[2];
    float d[4];
    for (unsigned r = 0; r < 4; r++) memcpy(&fa[r], &a[(row + r % 2 * 8) * 16 + k + r / 2 * 8], 4);
    for (unsigned r = 0; r < 2; r++) memcpy(&fb[r], &b[row * 16 + k + r * 8], 4);
    simt::mma_m16n8k16_bf16(d, fa, fb, zero, __FILE__, __LINE__);
    simt::mma_m16n8k16_bf16(d, fa, fb, d, __FILE__, __LINE__);
    for (unsigned r = 0; r < 4; r++) c[(row + r / 2 * 8) * 8 + k + r % 2] = d[r];
}

START_TEST(products_of_fragments) {
    array<bf16> a(16 * 16), b(8 * 16);
    array<float> c(16 * 8);
    std::vector<bf16> x(16 * 16), w(8 * 16);
    for (int i = 0; i < 16 * 16; i++) x[i] = bf16(static_cast<float>(i * 37 % 101 - 50) / 16);
    for (int i = 0; i < 8 * 16; i++) w[i] = bf16(static_cast<float>(i * 53 % 89 - 44) / 16);
    a.set(x);
    b.set(w);
    launch(product, 1, 32, 0, stream(), c.p(), static_cast<const bf16 *>(a.p()),
           static_cast<const bf16 *>(b.p()));
    const std::vector<float> got = c.get();
    for (int m = 0; m < 16; m++)
        for (int n = 0; n < 8; n++) {
            double sum = 0;
            for (int k = 0; k < 16; k++)
                sum += static_cast<double>(static_cast<float>(x[m * 16 + k])) *
                       static_cast<float>(w[n * 16 + k]);
            ck_assert_double_eq_tol(got[m * 8 + n], 2 * sum, 1e-4);
        }
}
END_TEST

/* ---- blocks ---- */

__global__ void block_votes(int *y) {
    const int i = threadIdx.x, n = blockDim.x;
    y[i] = __syncthreads_count(i % 3 == 0);
    y[n + i] = __syncthreads_or(i == 5) + 2 * __syncthreads_or(0);
    y[2 * n + i] = __syncthreads_and(1) + 2 * __syncthreads_and(i != 5);
}

START_TEST(votes_of_a_block) {
    array<int> y(3 * 100);
    launch(block_votes, 1, 100, 0, stream(), y.p());
    const std::vector<int> got = y.get();
    for (int i = 0; i < 100; i++) {
        ck_assert_int_eq(got[i], 34);
        ck_assert_int_eq(got[100 + i], 1);
        ck_assert_int_eq(got[200 + i], 1);
    }
}
END_TEST

/* One array for all calls, another for every other type. */
template <class T> __device__ T mirror(T x) {
    SHARED(T, s, 64);
    __syncthreads();
    s[threadIdx.x] = x;
    __syncthreads();
    return s[63 - threadIdx.x];
}

__global__ void mirrors(double *y) {
    SHARED_DYN(double, kept);
    kept[threadIdx.x] = mirror(static_cast<float>(threadIdx.x));
    kept[threadIdx.x] += 100 * mirror(static_cast<double>(2 * threadIdx.x));
    kept[threadIdx.x] += 10000 * mirror(static_cast<float>(threadIdx.x));
    y[blockIdx.x * 64 + threadIdx.x] = kept[threadIdx.x];
}

START_TEST(shared_memory) {
    array<double> y(3 * 64);
    launch(mirrors, 3, 64, 64 * sizeof(double), stream(), y.p());
    const std::vector<double> got = y.get();
    for (int i = 0; i < 3 * 64; i++) ck_assert_double_eq(got[i], (63 - i % 64) * 10201.0);
}
END_TEST

/* More than 48 KiB of it, and the most that there is. */
__global__ void fills_shared(float *y, int n) {
    SHARED_DYN(float, s);
    for (int i = threadIdx.x; i < n; i += blockDim.x) s[i] = static_cast<float>(i);
    __syncthreads();
    y[threadIdx.x] = s[n - 1 - threadIdx.x];
}

START_TEST(much_dynamic_shared_memory) {
    array<float> y(32);
    launch(fills_shared, 1, 32, 232448, stream(), y.p(), 232448 / 4);
    const std::vector<float> got = y.get();
    for (int i = 0; i < 32; i++) ck_assert_float_eq(got[i], static_cast<float>(232448 / 4 - 1 - i));
}
END_TEST

__global__ void reduces(float *y, int n) {
    SHARED(float, scratch, 1024 / 32);
    float x = 0;
    for (int i = threadIdx.x; i < n; i += blockDim.x) x += static_cast<float>(i);
    for (int round = 0; round < 4; round++) x = block_sum(round ? x / blockDim.x : x, scratch);
    y[blockIdx.x * blockDim.x + threadIdx.x] = x;
}

START_TEST(sums_of_a_block) {
    for (int threads : {32, 64, 1024}) {
        array<float> y(2 * threads);
        launch(reduces, 2, threads, 0, stream(), y.p(), 2000);
        for (float x : y.get()) ck_assert_float_eq(x, 1999000);
    }
}
END_TEST

/* ---- grids ---- */

/* The block that comes last adds up what the others left; the fences make it visible. */
__global__ void last_block_adds(float *y, unsigned *count) {
    SHARED(unsigned, before, 1);
    y[1 + blockIdx.x] = static_cast<float>(blockIdx.x);
    __threadfence();
    if (threadIdx.x == 0) before[0] = atomicAdd(count, 1u);
    __syncthreads();
    if (before[0] != gridDim.x - 1 || threadIdx.x > 0) return;
    __threadfence();
    for (unsigned i = 0; i < gridDim.x; i++) y[0] += y[1 + i];
}

START_TEST(the_last_block_sees_all) {
    array<float> y(1 + 20);
    array<unsigned> count(1);
    launch(last_block_adds, 20, 1, 0, stream(), y.p(), count.p());
    ck_assert_float_eq(y.get()[0], 190);
}
END_TEST

__global__ void counts(int *sum, unsigned *most, unsigned *least, unsigned long long *large, int *bits,
                       int *lock) {
    const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
    atomicAdd(sum, i);
    atomicSub(sum + 1, 1);
    atomicMax(most, static_cast<unsigned>(i));
    atomicMin(least, 1000u - static_cast<unsigned>(i));
    atomicAdd(large, 1ull << 33);
    atomicOr(bits, 1 << i % 20);
    atomicXor(bits + 1, 1 << i % 2);
    atomicAnd(bits + 2, i);
    if (atomicCAS(lock, 0, i + 1) == 0) atomicExch(lock + 1, i + 1);
}

START_TEST(atomics) {
    array<int> sum(2), bits(3), lock(2);
    array<unsigned> most(1), least(1);
    array<unsigned long long> large(1);
    least.set({5000});
    bits.set({0, 0, 255});
    launch(counts, 4, 50, 0, stream(), sum.p(), most.p(), least.p(), large.p(), bits.p(), lock.p());
    ck_assert_int_eq(sum.get()[0], 199 * 100);
    ck_assert_int_eq(sum.get()[1], -200);
    ck_assert_uint_eq(most.get()[0], 199);
    ck_assert_uint_eq(least.get()[0], 801);
    ck_assert(large.get()[0] == 200ull << 33);
    ck_assert_int_eq(bits.get()[0], (1 << 20) - 1);
    ck_assert_int_eq(bits.get()[1], 0);
    ck_assert_int_eq(bits.get()[2], 0);
    ck_assert(lock.get()[0] > 0 && lock.get()[0] == lock.get()[1]);
}
END_TEST

/* ---- numbers ---- */

START_TEST(bits_of_numbers) {
    ck_assert_int_eq(__popc(0xf0f0u), 8);
    ck_assert_int_eq(__popcll(~0ull), 64);
    ck_assert_int_eq(__ffs(0), 0);
    ck_assert_int_eq(__ffs(8), 4);
    ck_assert_int_eq(__ffsll(1ll << 40), 41);
    ck_assert_int_eq(__clz(0), 32);
    ck_assert_int_eq(__clz(1), 31);
    ck_assert_int_eq(__clzll(0), 64);
    ck_assert_int_eq(__clzll(1), 63);
    ck_assert_uint_eq(__float_as_uint(1.0f), 0x3f800000);
    ck_assert_float_eq(__int_as_float(__float_as_int(-2.5f)), -2.5f);
    ck_assert_double_eq(__longlong_as_double(__double_as_longlong(-2.5)), -2.5);
}
END_TEST

START_TEST(bf16_rounds_to_nearest_even) {
    ck_assert_float_eq(to_float(from_float<bf16>(1 + 1.0f / 256)), 1);
    ck_assert_float_eq(to_float(from_float<bf16>(1 + 3.0f / 256)), 1 + 1.0f / 64);
    ck_assert_float_eq(to_float(from_float<bf16>(-3.0f)), -3);
    ck_assert(std::isnan(to_float(from_float<bf16>(NAN))));
    ck_assert(std::isinf(to_float(from_float<bf16>(3.4e38f))));
}
END_TEST

} // namespace

SUITE_MAIN_EACH("simt", "WEFT_SIMT_ORDER", "forward reverse random", every_thread_runs_once,
                shuffles_of_all_types, votes_and_masks, warp_barriers_of_part_of_a_warp,
                products_of_fragments, votes_of_a_block, shared_memory, much_dynamic_shared_memory,
                sums_of_a_block, the_last_block_sees_all, atomics, bits_of_numbers,
                bf16_rounds_to_nearest_even)
