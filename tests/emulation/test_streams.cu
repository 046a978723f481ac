/* Emulated streams, events, copies and memory: a program that orders its work rightly computes the same
 * however late or early that work runs (WEFT_EMULATED_STREAMS=late, eager or random), and nothing runs
 * earlier or later than CUDA would allow. */
#include "cuda/cuda.cuh"

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <string>

#include <check.h>
extern "C" {
#include "emulation/each.h"
}

namespace {

bool runs_late() {
    const char *policy = getenv("WEFT_EMULATED_STREAMS");
    return !policy || !strcmp(policy, "late");
}

cudaStream_t new_stream() {
    cudaStream_t s;
    CUDA_CHECK(cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking));
    return s;
}

cudaEvent_t new_event() {
    cudaEvent_t e;
    CUDA_CHECK(cudaEventCreateWithFlags(&e, cudaEventDisableTiming));
    return e;
}

float *device_memory(size_t n) {
    void *p;
    CUDA_CHECK(cudaMalloc(&p, n * sizeof(float)));
    return static_cast<float *>(p);
}

float *pinned_memory(size_t n) {
    void *p;
    CUDA_CHECK(cudaMallocHost(&p, n * sizeof(float)));
    return static_cast<float *>(p);
}

float value_of(const float *device) {
    cudaStream_t s = new_stream();
    float *host = pinned_memory(1);
    CUDA_CHECK(cudaMemcpyAsync(host, device, sizeof *host, cudaMemcpyDeviceToHost, s));
    CUDA_CHECK(cudaStreamSynchronize(s));
    const float x = *host;
    CUDA_CHECK(cudaFreeHost(host));
    CUDA_CHECK(cudaStreamDestroy(s));
    return x;
}

__global__ void axpy(float *y, const float *x, float a, int n) {
    const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
    if (i < n) y[i] = a * y[i] + x[i];
}

__global__ void fill(float *y, float value) {
    y[threadIdx.x] = value;
}

/* ---- a program in order ---- */

/* Two buffers go from the host to a stream that computes, on to one that adds up, and back; each is used
 * again when the next in line has let go of it. */
START_TEST(a_right_program_is_right_under_every_policy) {
    enum { N = 100, ROUNDS = 12 };
    cudaStream_t compute = new_stream(), other = new_stream();
    cudaEvent_t uploaded[2], computed[2], added[2], downloaded[2];
    float *host[2], *back[2], *x[2], *y[2], *sum = device_memory(N);
    for (int i = 0; i < 2; i++) {
        for (cudaEvent_t *e : {&uploaded[i], &computed[i], &added[i], &downloaded[i]}) *e = new_event();
        host[i] = pinned_memory(N);
        back[i] = pinned_memory(N);
        x[i] = device_memory(N);
        y[i] = device_memory(N);
    }
    CUDA_CHECK(cudaMemsetAsync(sum, 0, N * sizeof *sum, other));
    double right = 0;
    for (int round = 0; round < ROUNDS; round++) {
        const int b = round % 2;
        CUDA_CHECK(cudaEventSynchronize(uploaded[b]));
        for (int i = 0; i < N; i++) host[b][i] = static_cast<float>(round * i);
        CUDA_CHECK(cudaMemcpyAsync(x[b], host[b], N * sizeof(float), cudaMemcpyHostToDevice, compute));
        CUDA_CHECK(cudaEventRecord(uploaded[b], compute));
        CUDA_CHECK(cudaStreamWaitEvent(compute, added[b], 0));
        CUDA_CHECK(cudaMemsetAsync(y[b], 0, N * sizeof(float), compute));
        launch(axpy, 2, 64, 0, compute, y[b], x[b], 1.0f, N);
        launch(axpy, 2, 64, 0, compute, y[b], x[b], 2.0f, N);
        CUDA_CHECK(cudaEventRecord(computed[b], compute));

        while (cudaEventQuery(downloaded[b]) == cudaErrorNotReady) continue;
        if (round >= 2) right += back[b][7];
        CUDA_CHECK(cudaStreamWaitEvent(other, computed[b], 0));
        launch(axpy, 2, 64, 0, other, sum, y[b], 1.0f, N);
        CUDA_CHECK(cudaEventRecord(added[b], other));
        CUDA_CHECK(cudaMemcpyAsync(back[b], sum, N * sizeof(float), cudaMemcpyDeviceToHost, other));
        CUDA_CHECK(cudaEventRecord(downloaded[b], other));
    }
    CUDA_CHECK(cudaStreamSynchronize(other));
    double last = 0, all = 0;
    for (int round = 0; round < ROUNDS; round++) {
        last += 3.0 * round * 7;
        if (round < ROUNDS - 2) all += last;
    }
    ck_assert_double_eq(back[(ROUNDS - 1) % 2][7], last);
    ck_assert_double_eq(right, all);
    CUDA_CHECK(cudaDeviceSynchronize());
    for (int i = 0; i < 2; i++) {
        for (cudaEvent_t e : {uploaded[i], computed[i], added[i], downloaded[i]})
            CUDA_CHECK(cudaEventDestroy(e));
        for (float *p : {x[i], y[i]}) CUDA_CHECK(cudaFree(p));
        for (float *p : {host[i], back[i]}) CUDA_CHECK(cudaFreeHost(p));
    }
    CUDA_CHECK(cudaFree(sum));
    CUDA_CHECK(cudaStreamDestroy(compute));
    CUDA_CHECK(cudaStreamDestroy(other));
}
END_TEST

/* ---- when work runs ---- */

START_TEST(work_runs_when_someone_waits_for_it) {
    std::string ran;
    cudaStream_t a = new_stream(), b = new_stream();
    cudaEvent_t e = new_event(), f = new_event();
    auto queue = [&](cudaStream_t s, const char *name) {
        emu_enqueue(s, name, [&ran, name] { ran += name; });
    };
    queue(a, "1");
    queue(b, "2");
    CUDA_CHECK(cudaEventRecord(e, a));
    queue(a, "3");
    CUDA_CHECK(cudaStreamWaitEvent(b, e, 0));
    queue(b, "4");
    CUDA_CHECK(cudaEventRecord(e, a)); /* b waits for the first record still */
    CUDA_CHECK(cudaEventRecord(f, b));
    queue(b, "5");
    if (runs_late()) {
        ck_assert_str_eq(ran.c_str(), "");
        ck_assert_int_eq(cudaEventQuery(f), cudaErrorNotReady);
        ck_assert_str_eq(ran.c_str(), "");
        ck_assert_int_eq(cudaEventQuery(f), cudaSuccess);
        ck_assert_str_eq(ran.c_str(), "214");
        CUDA_CHECK(cudaEventSynchronize(e));
        ck_assert_str_eq(ran.c_str(), "2143");
        queue(a, "6");
        emu_run_all();
        ck_assert_str_eq(ran.c_str(), "214356");
    } else {
        CUDA_CHECK(cudaEventSynchronize(f));
        ck_assert(ran.find('4') > ran.find('1') && ran.find('4') > ran.find('2') &&
                  ran.find('4') != ran.npos);
        CUDA_CHECK(cudaDeviceSynchronize());
        ck_assert(ran.find('3') > ran.find('1') && ran.find('5') > ran.find('4') && ran.size() == 5);
    }
    CUDA_CHECK(cudaEventDestroy(e));
    CUDA_CHECK(cudaEventDestroy(f));
    CUDA_CHECK(cudaStreamDestroy(a));
    CUDA_CHECK(cudaStreamDestroy(b));
}
END_TEST

START_TEST(events_that_were_never_recorded_hold_nobody_up) {
    cudaStream_t s = new_stream();
    cudaEvent_t e = new_event();
    ck_assert_int_eq(cudaEventQuery(e), cudaSuccess);
    ck_assert_int_eq(cudaEventSynchronize(e), cudaSuccess);
    ck_assert_int_eq(cudaStreamWaitEvent(s, e, 0), cudaSuccess);
    ck_assert_int_eq(cudaStreamSynchronize(s), cudaSuccess);
    CUDA_CHECK(cudaEventRecord(e, s));
    CUDA_CHECK(cudaStreamWaitEvent(s, e, 0)); /* its own */
    CUDA_CHECK(cudaEventDestroy(e));          /* before it is reached */
    CUDA_CHECK(cudaStreamDestroy(s));
}
END_TEST

START_TEST(what_is_destroyed_or_freed_is_used_first) {
    float *x = device_memory(32), *y = device_memory(32), *host = pinned_memory(32);
    cudaStream_t s = new_stream();
    launch(fill, 1, 32, 0, s, x, 3.0f);
    CUDA_CHECK(cudaMemcpyAsync(y, x, sizeof *x, cudaMemcpyDeviceToDevice, s));
    CUDA_CHECK(cudaFree(x));
    ck_assert_float_eq(value_of(y), 3);
    host[0] = 4;
    CUDA_CHECK(cudaMemcpyAsync(y, host, sizeof *host, cudaMemcpyHostToDevice, s));
    CUDA_CHECK(cudaFreeHost(host));
    ck_assert_float_eq(value_of(y), 4);
    launch(fill, 1, 32, 0, s, y, 5.0f);
    CUDA_CHECK(cudaStreamDestroy(s));
    ck_assert_float_eq(value_of(y), 5);
    CUDA_CHECK(cudaFree(y));
    ck_assert_int_eq(cudaFree(nullptr), cudaSuccess);
    ck_assert_int_eq(cudaFreeHost(nullptr), cudaSuccess);
}
END_TEST

/* A number goes down and up again through the same place without the host. */
START_TEST(an_upload_behind_a_download) {
    float *x = device_memory(1), *y = device_memory(1), *host = pinned_memory(1);
    cudaStream_t s = new_stream();
    CUDA_CHECK(cudaMemsetAsync(x, 0, sizeof *x, s));
    for (int i = 0; i < 2; i++) {
        CUDA_CHECK(cudaMemcpyAsync(host, x, sizeof *x, cudaMemcpyDeviceToHost, s));
        CUDA_CHECK(cudaMemcpyAsync(y, host, sizeof *x, cudaMemcpyHostToDevice, s));
    }
    CUDA_CHECK(cudaStreamSynchronize(s));
    ck_assert_float_eq(value_of(y), 0);
    CUDA_CHECK(cudaStreamDestroy(s));
    CUDA_CHECK(cudaFree(x));
    CUDA_CHECK(cudaFree(y));
    CUDA_CHECK(cudaFreeHost(host));
}
END_TEST

/* ---- memory and devices ---- */

START_TEST(memory_starts_as_nan_and_has_an_end) {
    size_t before, now, total;
    void *p;
    setenv("WEFT_EMULATED_MEMORY", "1000000", 1);
    CUDA_CHECK(cudaMemGetInfo(&before, &total));
    ck_assert_uint_eq(total, 1000000);
    float *x = device_memory(8);
    CUDA_CHECK(cudaMemGetInfo(&now, &total));
    ck_assert_uint_eq(before - now, 32);
    ck_assert(std::isnan(value_of(x)));
    ck_assert_int_eq(cudaMalloc(&p, now + 1), cudaErrorMemoryAllocation);
    ck_assert_int_eq(cudaPeekAtLastError(), cudaErrorMemoryAllocation);
    ck_assert_int_eq(cudaGetLastError(), cudaErrorMemoryAllocation);
    ck_assert_int_eq(cudaGetLastError(), cudaSuccess);
    ck_assert_int_eq(cudaMalloc(&p, now), cudaSuccess);
    CUDA_CHECK(cudaFree(p));
    CUDA_CHECK(cudaFree(x));
    CUDA_CHECK(cudaMemGetInfo(&now, &total));
    ck_assert_uint_eq(now, before);
    unsetenv("WEFT_EMULATED_MEMORY");
}
END_TEST

/* The first setting of a whole allocation sets NaN; later ones are a program's own. */
START_TEST(poison) {
    cudaStream_t s = new_stream();
    setenv("WEFT_EMULATED_POISON", "1", 1);
    float *x = device_memory(8);
    CUDA_CHECK(cudaMemsetAsync(x, 0, 8 * sizeof *x, s));
    CUDA_CHECK(cudaStreamSynchronize(s));
    ck_assert(std::isnan(value_of(x)));
    CUDA_CHECK(cudaMemsetAsync(x, 0, 8 * sizeof *x, s));
    CUDA_CHECK(cudaStreamSynchronize(s));
    ck_assert_float_eq(value_of(x), 0);
    unsetenv("WEFT_EMULATED_POISON");
    CUDA_CHECK(cudaFree(x));
    CUDA_CHECK(cudaStreamDestroy(s));
}
END_TEST

START_TEST(devices) {
    int count, device, version;
    setenv("WEFT_EMULATED_GPUS", "0", 1);
    ck_assert_int_eq(cudaGetDeviceCount(&count), cudaErrorNoDevice);
    ck_assert_int_eq(count, 0);
    ck_assert_int_eq(cudaGetLastError(), cudaErrorNoDevice);
    setenv("WEFT_EMULATED_GPUS", "2", 1);
    ck_assert_int_eq(cudaGetDeviceCount(&count), cudaSuccess);
    ck_assert_int_eq(count, 2);
    ck_assert_int_eq(cudaSetDevice(2), cudaErrorInvalidDevice);
    ck_assert_str_eq(cudaGetErrorName(cudaGetLastError()), "cudaErrorInvalidDevice");
    ck_assert_int_eq(cudaSetDevice(1), cudaSuccess);
    ck_assert_int_eq(cudaGetDevice(&device), cudaSuccess);
    ck_assert_int_eq(device, 1);
    unsetenv("WEFT_EMULATED_GPUS");
    CUDA_CHECK(cudaRuntimeGetVersion(&version));
    ck_assert_int_eq(version, CUDART_VERSION);
}
END_TEST

} // namespace

SUITE_MAIN_EACH("streams", "WEFT_EMULATED_STREAMS", "late eager random",
                a_right_program_is_right_under_every_policy, work_runs_when_someone_waits_for_it,
                events_that_were_never_recorded_hold_nobody_up, what_is_destroyed_or_freed_is_used_first,
                an_upload_behind_a_download, memory_starts_as_nan_and_has_an_end, poison, devices)
