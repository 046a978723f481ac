/* Programs with one mistake each: what the emulation is for must be found, by name, in the build that can. */
#include "cuda/cuda.cuh"

extern "C" {
#include "emulation/broken.h"
}

#include <cstdio>
#include <cstdlib>

namespace {

/* ---- hosts that are right ---- */

cudaStream_t new_stream() {
    cudaStream_t s;
    CUDA_CHECK(cudaStreamCreateWithPriority(&s, cudaStreamNonBlocking, 0));
    return s;
}

template <class T> T *device_memory(size_t n) {
    void *p;
    CUDA_CHECK(cudaMalloc(&p, n * sizeof(T)));
    return static_cast<T *>(p);
}

template <class T> T *pinned_memory(size_t n) {
    void *p;
    CUDA_CHECK(cudaMallocHost(&p, n * sizeof(T)));
    return static_cast<T *>(p);
}

/* Prints "wrong result" unless y, of n elements, is what it should be when stream s is done. */
template <class F> void expect(cudaStream_t s, const float *y, int n, F right) {
    float *host = pinned_memory<float>(n);
    CUDA_CHECK(cudaMemcpyAsync(host, y, n * sizeof *y, cudaMemcpyDeviceToHost, s));
    CUDA_CHECK(cudaStreamSynchronize(s));
    for (int i = 0; i < n; i++)
        if (host[i] != right(i)) {
            fprintf(stderr, "wrong result: y[%d] = %g, not %g\n", i, host[i], static_cast<double>(right(i)));
            return;
        }
}

/* ---- barriers ---- */

__global__ void leave_before_barrier(float *y) {
    if (threadIdx.x >= 40) return;
    __syncthreads();
    y[threadIdx.x] = 1;
}

__global__ void two_barriers(float *y) {
    if (threadIdx.x & 1) {
        y[threadIdx.x] = 1;
        __syncthreads();
    } else {
        __syncthreads();
    }
}

__global__ void one_goes_round_again(float *y) {
    for (unsigned i = 0; i < 2 + threadIdx.x / 63; i++) __syncthreads();
    y[threadIdx.x] = 1;
}

__global__ void barrier_against_warp(float *y) {
    if (threadIdx.x < 16)
        __syncwarp();
    else
        __syncthreads();
    y[threadIdx.x] = 0;
}

/* ---- warps ---- */

__global__ void shuffle_after_exit(float *y) {
    if (threadIdx.x >= 20) return;
    y[threadIdx.x] = __shfl_xor_sync(WARP_ALL, 1.0f, 1);
}

__global__ void masks_differ(float *y) {
    y[threadIdx.x] = __shfl_sync(threadIdx.x == 3 ? 0xffff : WARP_ALL, 1.0f, 0);
}

__global__ void mask_without_caller(float *y) {
    y[threadIdx.x] = __shfl_sync(0xffff, 1.0f, 0);
}

__global__ void shuffle_from_outside(float *y) {
    if (threadIdx.x < 16) y[threadIdx.x] = __shfl_sync(0xffff, 1.0f, 20);
}

__global__ void different_intrinsics(float *y) {
    if (threadIdx.x < 16)
        y[threadIdx.x] = __shfl_xor_sync(WARP_ALL, 1.0f, 1);
    else
        y[threadIdx.x] = static_cast<float>(__ballot_sync(WARP_ALL, 1));
}

__global__ void product_of_half_a_warp(float *y) {
    const unsigned a[4] = {}, b[2] = {};
    const float c[4] = {};
    float d[4];
    simt::mma_m16n8k16_bf16(d, a, b, c, __FILE__, __LINE__);
    y[threadIdx.x] = d[0];
}

/* ---- shared memory ---- */

__global__ void behind_static_shared(float *y) {
    SHARED(float, s, 64);
    s[threadIdx.x + 1] = 1;
    __syncthreads();
    y[threadIdx.x] = s[threadIdx.x];
}

__global__ void behind_dynamic_shared(float *y) {
    SHARED_DYN(float, s);
    s[threadIdx.x + 1] = 1;
    __syncthreads();
    y[threadIdx.x] = s[threadIdx.x];
}

__global__ void between_shared_arrays(float *y) {
    SHARED(float, a, 64);
    SHARED(float, b, 64);
    a[threadIdx.x] = b[threadIdx.x] = 1;
    __syncthreads();
    y[threadIdx.x] = a[threadIdx.x * 2];
}

__global__ void uninitialised_shared(float *y) {
    SHARED(float, s, 64);
    if (threadIdx.x < 63) s[threadIdx.x] = 0;
    __syncthreads();
    y[threadIdx.x] = s[threadIdx.x];
}

/* A block finds nothing of the one before. */
__global__ void shared_of_last_block(float *y) {
    SHARED(float, s, 1);
    if (blockIdx.x == 0 && threadIdx.x == 0) s[0] = 1;
    __syncthreads();
    if (threadIdx.x == 0) y[blockIdx.x] = s[0];
}

__global__ void too_much_static_shared(float *y) {
    SHARED(float, s, 12 * 1024 + 1);
    s[threadIdx.x] = 1;
    y[threadIdx.x] = s[threadIdx.x];
}

/* ---- races ---- */

__global__ void no_barrier(float *y) {
    SHARED(float, s, 256);
    s[threadIdx.x] = static_cast<float>(threadIdx.x);
    y[threadIdx.x] = s[255 - threadIdx.x];
}

__global__ void no_second_barrier(float *y) {
    SHARED(float, s, 64);
    float sum = 0;
    for (int i = 0; i < 3; i++) {
        s[threadIdx.x] = static_cast<float>(i);
        __syncthreads();
        sum += s[63 - threadIdx.x]; /* which the next round may have overwritten */
    }
    y[threadIdx.x] = sum;
}

__global__ void no_warp_barrier(float *y) {
    SHARED(float, s, 32);
    s[threadIdx.x] = static_cast<float>(threadIdx.x);
    y[threadIdx.x] = s[31 - threadIdx.x];
}

/* A shuffle makes lanes meet; it does not order memory. */
__global__ void shuffle_for_a_barrier(float *y) {
    SHARED(float, s, 32);
    s[threadIdx.x] = static_cast<float>(threadIdx.x);
    const float zero = __shfl_sync(WARP_ALL, 0.0f, 0);
    y[threadIdx.x] = s[31 - threadIdx.x] + zero;
}

__global__ void lost_update(float *y) {
    SHARED(float, s, 1);
    if (threadIdx.x == 0) s[0] = 0;
    __syncthreads();
    s[0] += 1;
    __syncthreads();
    y[threadIdx.x] = s[0];
}

__global__ void blocks_add(float *y) {
    if (threadIdx.x == 0) y[0] += 1;
}

__global__ void next_block_reads(float *y) {
    y[blockIdx.x] = 1;
    if (blockIdx.x > 0 && y[blockIdx.x - 1] != 1) y[128 + blockIdx.x] = 1;
}

/* The last block to come adds up what the others left, without a fence between. */
__global__ void last_block_adds(float *y, unsigned *count) {
    y[blockIdx.x] = 1;
    if (atomicAdd(count, 1u) == gridDim.x - 1)
        for (unsigned i = 1; i < gridDim.x; i++) y[0] += y[i];
}

__global__ void atomic_and_plain(int *count) {
    if (threadIdx.x == 0)
        *count += 1;
    else
        atomicAdd(count, 1);
}

/* ---- global memory ---- */

__global__ void fill(float *y, int n, float value) {
    const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < static_cast<unsigned>(n)) y[i] = value;
}

__global__ void misaligned_pack(float *y) {
    store_pack(y + 1, load_pack(y));
}

__global__ void behind_local_array(float *y) {
    float mine[4] = {1, 2, 3, 4};
    mine[threadIdx.x] = y[threadIdx.x];
    y[threadIdx.x] = mine[3 - threadIdx.x % 4];
}

__global__ void copy(float *y, const float *x, int n) {
    const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < static_cast<unsigned>(n)) y[i] = x[i];
}

struct pointers {
    float *y;
};
__global__ void fill_behind(pointers p) {
    p.y[threadIdx.x] = 1;
}

struct large {
    char bytes[40000];
};
__global__ void large_argument(float *y, large x) {
    y[threadIdx.x] = x.bytes[0];
}

/* ---- programs ---- */

void run_uninitialised_global() {
    cudaStream_t s = new_stream();
    float *y = device_memory<float>(64);
    launch(fill, 1, 64, 0, s, y, 63, 0.0f);
    expect(s, y, 64, [](int) { return 0.0f; });
}

void run_behind_global() {
    cudaStream_t s = new_stream();
    launch(fill, 3, 128, 0, s, device_memory<float>(256), 257, 1.0f);
    CUDA_CHECK(cudaStreamSynchronize(s));
}

void run_freed_global() {
    cudaStream_t s = new_stream();
    pointers p = {device_memory<float>(32)};
    CUDA_CHECK(cudaFree(p.y));
    launch(fill_behind, 1, 32, 0, s, p);
    CUDA_CHECK(cudaStreamSynchronize(s));
}

void run_freed_argument() {
    float *y = device_memory<float>(32);
    CUDA_CHECK(cudaFree(y));
    launch(fill, 1, 32, 0, new_stream(), y, 32, 1.0f);
}

void run_host_argument() {
    float y[32];
    launch(fill, 1, 32, 0, new_stream(), y, 32, 1.0f);
}

void run_large_argument() {
    launch(large_argument, 1, 32, 0, new_stream(), device_memory<float>(32), large());
}

void run_large_block() {
    launch(fill, 1, dim3(64, 32), 0, new_stream(), device_memory<float>(32), 32, 1.0f);
}

void run_no_block() {
    launch(fill, 0, 32, 0, new_stream(), device_memory<float>(32), 32, 1.0f);
}

void run_high_grid() {
    launch(fill, dim3(1, 65536), 32, 0, new_stream(), device_memory<float>(32), 32, 1.0f);
}

void run_last_block_adds() {
    cudaStream_t s = new_stream();
    unsigned *count = device_memory<unsigned>(1);
    CUDA_CHECK(cudaMemsetAsync(count, 0, sizeof *count, s));
    launch(last_block_adds, 8, 1, 0, s, device_memory<float>(8), count);
    CUDA_CHECK(cudaStreamSynchronize(s));
}

void run_atomic_and_plain() {
    cudaStream_t s = new_stream();
    int *count = device_memory<int>(1);
    CUDA_CHECK(cudaMemsetAsync(count, 0, sizeof *count, s));
    launch(atomic_and_plain, 1, 32, 0, s, count);
    CUDA_CHECK(cudaStreamSynchronize(s));
}

/* ---- streams, events, copies ---- */

void run_no_wait() {
    cudaStream_t a = new_stream(), b = new_stream();
    float *x = device_memory<float>(32), *y = device_memory<float>(32);
    launch(fill, 1, 32, 0, a, x, 32, 1.0f);
    launch(copy, 1, 32, 0, b, y, static_cast<const float *>(x), 32);
    expect(b, y, 32, [](int) { return 1.0f; });
    CUDA_CHECK(cudaStreamSynchronize(a));
}

/* Waits, but for what was recorded before. */
void run_wait_for_old_record() {
    cudaStream_t a = new_stream(), b = new_stream();
    float *x = device_memory<float>(32), *y = device_memory<float>(32);
    cudaEvent_t e;
    CUDA_CHECK(cudaEventCreateWithFlags(&e, cudaEventDisableTiming));
    CUDA_CHECK(cudaEventRecord(e, a));
    CUDA_CHECK(cudaStreamWaitEvent(b, e, 0));
    launch(fill, 1, 32, 0, a, x, 32, 1.0f);
    CUDA_CHECK(cudaEventRecord(e, a));
    launch(copy, 1, 32, 0, b, y, static_cast<const float *>(x), 32);
    expect(b, y, 32, [](int) { return 1.0f; });
    CUDA_CHECK(cudaStreamSynchronize(a));
}

/* The next content is written before the other stream has read the last. */
void run_overwritten_too_early() {
    cudaStream_t a = new_stream(), b = new_stream();
    float *x = device_memory<float>(32), *y = device_memory<float>(32);
    cudaEvent_t e;
    CUDA_CHECK(cudaEventCreateWithFlags(&e, cudaEventDisableTiming));
    launch(fill, 1, 32, 0, a, x, 32, 1.0f);
    CUDA_CHECK(cudaEventRecord(e, a));
    CUDA_CHECK(cudaStreamWaitEvent(b, e, 0));
    launch(copy, 1, 32, 0, b, y, static_cast<const float *>(x), 32);
    launch(fill, 1, 32, 0, a, x, 32, 2.0f);
    CUDA_CHECK(cudaStreamSynchronize(a));
    expect(b, y, 32, [](int) { return 1.0f; });
}

void run_upload_changed() {
    cudaStream_t s = new_stream();
    float *host = pinned_memory<float>(32), *x = device_memory<float>(32);
    for (int i = 0; i < 32; i++) host[i] = 1;
    CUDA_CHECK(cudaMemcpyAsync(x, host, 32 * sizeof *x, cudaMemcpyHostToDevice, s));
    host[7] = 2;
    CUDA_CHECK(cudaStreamSynchronize(s));
}

void run_download_read_early() {
    cudaStream_t s = new_stream();
    float *host = pinned_memory<float>(32), *x = device_memory<float>(32);
    for (int i = 0; i < 32; i++) host[i] = 1; /* as if a download before had brought the same */
    launch(fill, 1, 32, 0, s, x, 32, 1.0f);
    CUDA_CHECK(cudaMemcpyAsync(host, x, 32 * sizeof *x, cudaMemcpyDeviceToHost, s));
    if (host[5] != 1) fprintf(stderr, "wrong result: %g\n", host[5]);
    CUDA_CHECK(cudaStreamSynchronize(s));
}

void run_pageable_copy() {
    float host[32] = {};
    CUDA_CHECK(
        cudaMemcpyAsync(device_memory<float>(32), host, sizeof host, cudaMemcpyHostToDevice, new_stream()));
}

void run_copy_behind() {
    float *host = pinned_memory<float>(33);
    CUDA_CHECK(cudaMemcpyAsync(device_memory<float>(32), host, 33 * sizeof *host, cudaMemcpyHostToDevice,
                               new_stream()));
}

void run_copy_wrong_way() {
    float *host = pinned_memory<float>(32);
    CUDA_CHECK(cudaMemcpyAsync(device_memory<float>(32), host, 32 * sizeof *host, cudaMemcpyDeviceToHost,
                               new_stream()));
}

void run_copy_overlapping() {
    float *x = device_memory<float>(64);
    CUDA_CHECK(cudaMemcpyAsync(x + 8, x, 32 * sizeof *x, cudaMemcpyDeviceToDevice, new_stream()));
}

void run_set_behind() {
    CUDA_CHECK(cudaMemsetAsync(device_memory<float>(32) + 1, 0, 32 * sizeof(float), new_stream()));
}

void run_destroyed_event() {
    cudaStream_t s = new_stream();
    cudaEvent_t e;
    CUDA_CHECK(cudaEventCreateWithFlags(&e, cudaEventDisableTiming));
    CUDA_CHECK(cudaEventDestroy(e));
    CUDA_CHECK(cudaStreamWaitEvent(s, e, 0));
}

void run_destroyed_stream() {
    cudaStream_t s = new_stream();
    CUDA_CHECK(cudaStreamDestroy(s));
    CUDA_CHECK(cudaStreamSynchronize(s));
}

void run_freed_twice() {
    float *x = device_memory<float>(32);
    CUDA_CHECK(cudaFree(x));
    CUDA_CHECK(cudaFree(x));
}

void run_freed_as_host() {
    CUDA_CHECK(cudaFreeHost(device_memory<float>(32)));
}

} // namespace

/* A program that starts one kernel, of y alone; and one that looks at y's first elements. */
#define STARTS(kernel, blocks, threads, shared)                                                              \
    [] {                                                                                                     \
        cudaStream_t s = new_stream();                                                                       \
        launch(kernel, blocks, threads, shared, s, device_memory<float>(256));                               \
        CUDA_CHECK(cudaStreamSynchronize(s));                                                                \
    }
#define EXPECTS(kernel, blocks, threads, elements, right)                                                    \
    [] {                                                                                                     \
        cudaStream_t s = new_stream();                                                                       \
        float *y = device_memory<float>(256);                                                                \
        launch(kernel, blocks, threads, 0, s, y);                                                            \
        expect(s, y, elements, [](int i) -> float { return (void)i, static_cast<float>(right); });           \
    }

#define EVERYWHERE(message) message, message, message, NULL
#define BY_ASAN(message) NULL, message, NULL, NULL
#define BY_TSAN(message) NULL, NULL, message, NULL
#define BY_UBSAN(message) NULL, NULL, NULL, message
#define BY_RESULT EVERYWHERE("wrong result")
#define BY_RESULT_OR_TSAN(message) "wrong result", "wrong result", message, NULL

const broken_program broken_programs[] = {
    {"leave_before_barrier", STARTS(leave_before_barrier, 1, 64, 0), EVERYWHERE("divergent barrier")},
    {"two_barriers", STARTS(two_barriers, 1, 64, 0), EVERYWHERE("this one has come to")},
    {"one_goes_round_again", STARTS(one_goes_round_again, 1, 64, 0), EVERYWHERE("divergent barrier")},
    {"barrier_against_warp", STARTS(barrier_against_warp, 1, 32, 0), EVERYWHERE("deadlock: of 32 threads")},

    {"shuffle_after_exit", STARTS(shuffle_after_exit, 1, 32, 0), EVERYWHERE("left the kernel")},
    {"masks_differ", STARTS(masks_differ, 1, 32, 0), EVERYWHERE("meets __shfl_sync of mask")},
    {"mask_without_caller", STARTS(mask_without_caller, 1, 32, 0), EVERYWHERE("lacks lane")},
    {"shuffle_from_outside", STARTS(shuffle_from_outside, 1, 32, 0), EVERYWHERE("reads lane 20")},
    {"different_intrinsics", STARTS(different_intrinsics, 1, 32, 0), EVERYWHERE("meets __")},
    {"product_of_half_a_warp", STARTS(product_of_half_a_warp, 1, 16, 0), EVERYWHERE("not full")},

    {"behind_static_shared", STARTS(behind_static_shared, 1, 64, 0), BY_ASAN("heap-buffer-overflow")},
    {"behind_dynamic_shared", STARTS(behind_dynamic_shared, 1, 64, 64 * sizeof(float)),
     BY_ASAN("heap-buffer-overflow")},
    {"between_shared_arrays", STARTS(between_shared_arrays, 1, 64, 0), BY_ASAN("heap-buffer-overflow")},
    {"behind_global", run_behind_global, BY_ASAN("heap-buffer-overflow")},
    {"freed_global", run_freed_global, BY_ASAN("heap-use-after-free")},
    {"misaligned_pack", STARTS(misaligned_pack, 1, 1, 0), BY_UBSAN("misaligned address")},
    {"behind_local_array", STARTS(behind_local_array, 1, 5, 0), NULL, "stack-buffer-overflow", NULL,
     "out of bounds"},
    {"too_much_static_shared", STARTS(too_much_static_shared, 1, 32, 0), EVERYWHERE("49156 bytes of static")},
    {"too_much_dynamic_shared", STARTS(behind_dynamic_shared, 1, 32, 232449), EVERYWHERE("232449 bytes")},
    {"no_dynamic_shared", STARTS(behind_dynamic_shared, 1, 32, 0), EVERYWHERE("without dynamic shared")},

    {"uninitialised_shared", EXPECTS(uninitialised_shared, 1, 64, 64, 0), BY_RESULT},
    {"shared_of_last_block", EXPECTS(shared_of_last_block, 4, 32, 4, 1), BY_RESULT},
    {"uninitialised_global", run_uninitialised_global, BY_RESULT},

    {"no_barrier", EXPECTS(no_barrier, 1, 256, 256, 255 - i), BY_RESULT_OR_TSAN("data race")},
    {"no_second_barrier", EXPECTS(no_second_barrier, 1, 64, 64, 3), BY_RESULT_OR_TSAN("data race")},
    {"no_warp_barrier", EXPECTS(no_warp_barrier, 1, 32, 32, 31 - i), BY_RESULT_OR_TSAN("data race")},
    {"shuffle_for_a_barrier", STARTS(shuffle_for_a_barrier, 1, 32, 0), BY_TSAN("data race")},
    {"lost_update", STARTS(lost_update, 1, 256, 0), BY_TSAN("data race")},
    {"blocks_add", STARTS(blocks_add, 2, 32, 0), BY_TSAN("data race")},
    {"next_block_reads", STARTS(next_block_reads, 32, 1, 0), BY_TSAN("data race")},
    {"last_block_adds", run_last_block_adds, BY_TSAN("data race")},
    {"atomic_and_plain", run_atomic_and_plain, BY_TSAN("data race")},

    {"freed_argument", run_freed_argument, EVERYWHERE("kernel fill: argument 1")},
    {"host_argument", run_host_argument, EVERYWHERE("does not point to device memory")},
    {"large_argument", run_large_argument, EVERYWHERE("bytes of arguments")},
    {"large_block", run_large_block, EVERYWHERE("a block of 64 x 32 x 1 threads")},
    {"no_block", run_no_block, EVERYWHERE("a grid of 0 x 1 x 1 blocks")},
    {"high_grid", run_high_grid, EVERYWHERE("a grid of 1 x 65536 x 1 blocks")},

    {"no_wait", run_no_wait, BY_RESULT_OR_TSAN("data race")},
    {"wait_for_old_record", run_wait_for_old_record, BY_RESULT_OR_TSAN("data race")},
    {"overwritten_too_early", run_overwritten_too_early, BY_RESULT_OR_TSAN("data race")},
    {"upload_changed", run_upload_changed, EVERYWHERE("error: upload: 128 bytes")},
    {"download_read_early", run_download_read_early, BY_RESULT_OR_TSAN("data race")},
    {"pageable_copy", run_pageable_copy, EVERYWHERE("not within pinned host memory")},
    {"copy_behind", run_copy_behind, EVERYWHERE("not within device memory")},
    {"copy_wrong_way", run_copy_wrong_way, EVERYWHERE("is host memory")},
    {"copy_overlapping", run_copy_overlapping, EVERYWHERE("overlap")},
    {"set_behind", run_set_behind, EVERYWHERE("not within device memory")},
    {"destroyed_event", run_destroyed_event, EVERYWHERE("an event is used that was destroyed")},
    {"destroyed_stream", run_destroyed_stream, EVERYWHERE("a stream is used that was destroyed")},
    {"freed_twice", run_freed_twice, EVERYWHERE("not one's to free")},
    {"freed_as_host", run_freed_as_host, EVERYWHERE("not one's to free")},
    {},
};
