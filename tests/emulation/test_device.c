/* The CUDA device (kernels/cuda/device.cu), as far as runtime/device.h promises. */
#include "cuda/stream.h"
#include "ops.h"
#include "emulation/each.h"

#include <string.h>

static const weft_cuda_options in_float = {.act = WEFT_F32, .attention = WEFT_ATTENTION_WEFT};

START_TEST(opens_the_gpu_of_its_rank) {
    weft_device d = {0};
    weft_cuda_options o = in_float;
    setenv("WEFT_EMULATED_GPUS", "2", 1);
    ck_assert_int_eq(weft_cuda_devices(), 2);
    ck_assert_str_eq(weft_cuda_version(), "emulated");
    o.act = WEFT_BF16;
    o.local_rank = 1;
    ck_assert_int_eq(weft_device_open_cuda(&d, &o), WEFT_OK);
    ck_assert_str_eq(d.name, "cuda");
    ck_assert_str_eq(d.ops->name, "cuda");
    ck_assert(d.act_dtype == WEFT_BF16 && d.threads == 1 && !d.dry && d.driver->overlaps);
    weft_device_close(&d);
    weft_device_close(&d);
    o.local_rank = 2;
    ck_assert_int_eq(weft_device_open_cuda(&d, &o), WEFT_EINPUT);
    unsetenv("WEFT_EMULATED_GPUS");
}
END_TEST

START_TEST(without_a_gpu_only_a_dry_device_opens) {
    weft_device d = {0};
    weft_cuda_options o = in_float;
    setenv("WEFT_EMULATED_GPUS", "0", 1);
    ck_assert_int_eq(weft_cuda_devices(), 0);
    ck_assert_int_eq(weft_device_open_cuda(&d, &o), WEFT_EINPUT);
    ck_assert_ptr_null(d.state);
    o.dry = true;
    ck_assert_int_eq(weft_device_open_cuda(&d, &o), WEFT_OK);
    ck_assert(d.dry);
    ck_assert_int_eq(weft_device_measure(&d), WEFT_OK);
    weft_mark m;
    ck_assert_int_eq(weft_mark_make(&d, &m), WEFT_OK);
    weft_mark_set(&d, &m);
    weft_wait_mark(&d, &m);
    weft_host_wait(&d, &m);
    weft_mark_free(&d, &m);
    weft_upload(&d, weft_arena_push(&d.act, 1000), "", 1);
    weft_device_finish(&d);
    ck_assert_uint_ge(d.act.peak, 1000);
    weft_device_close(&d);
    unsetenv("WEFT_EMULATED_GPUS");
}
END_TEST

START_TEST(arenas_are_zeroed_and_may_not_fit) {
    weft_device d;
    weft_arena a = {0};
    enum { BYTES = 4096 };
    void *host;
    ck_assert_int_eq(weft_device_open_cuda(&d, &in_float), WEFT_OK);
    ck_assert_int_eq(weft_host_memory(&d, BYTES, &host), WEFT_OK);
    for (int i = 0; i < BYTES; i++) ck_assert_int_eq(((char *)host)[i], 0);
    memset(host, 1, BYTES);
    ck_assert_int_eq(weft_device_arena(&d, &a, "test", BYTES - 1), WEFT_OK);
    ck_assert_uint_eq(a.capacity, BYTES);
    weft_download(&d, host, a.base, BYTES);
    weft_device_finish(&d);
    for (int i = 0; i < BYTES; i++) ck_assert_int_eq(((char *)host)[i], 0);
    weft_device_arena_free(&d, &a);

    setenv("WEFT_EMULATED_MEMORY", "100000", 1);
    ck_assert_int_eq(weft_device_arena(&d, &a, "test", 100001), WEFT_ENOMEM);
    ck_assert_ptr_null(a.base);
    ck_assert_int_eq(weft_device_size(&d, 100001), WEFT_ENOMEM);
    ck_assert_int_eq(weft_device_size(&d, 50000), WEFT_OK);
    ck_assert_int_eq(weft_device_size(&d, 90000), WEFT_OK);
    unsetenv("WEFT_EMULATED_MEMORY");
    weft_host_memory_free(&d, host);
    weft_device_close(&d);
}
END_TEST

static int polled;
static void count_polls(void *of) {
    (void)of;
    polled++;
}

/* A number goes through both streams, each waiting for the other, and the host for both. */
START_TEST(marks_order_the_streams_and_the_host) {
    weft_device d;
    weft_mark there, back, never;
    void *host;
    ck_assert_int_eq(weft_device_open_cuda(&d, &in_float), WEFT_OK);
    ck_assert_int_eq(weft_device_size(&d, 64), WEFT_OK);
    ck_assert_int_eq(weft_host_memory(&d, 2 * sizeof(int), &host), WEFT_OK);
    ck_assert_int_eq(weft_mark_make(&d, &there), WEFT_OK);
    ck_assert_int_eq(weft_mark_make(&d, &back), WEFT_OK);
    ck_assert_int_eq(weft_mark_make(&d, &never), WEFT_OK);
    ck_assert_ptr_ne(weft_cuda_stream(&d), NULL);
    weft_device_set_poll(count_polls, NULL);
    weft_host_wait(&d, &never);
    volatile int *numbers = host;
    for (int i = 1; i < 4; i++) {
        numbers[0] = i;
        void *compute = weft_cuda_stream(&d);
        weft_upload(&d, d.act.base, host, sizeof(int));
        weft_mark_set(&d, &there);
        d.stream = WEFT_STREAM_COMM;
        ck_assert_ptr_ne(weft_cuda_stream(&d), compute);
        weft_wait_mark(&d, &there);
        weft_download(&d, (int *)host + 1, d.act.base, sizeof(int));
        weft_mark_set(&d, &back);
        d.stream = WEFT_STREAM_COMPUTE;
        weft_host_wait(&d, &back);
        ck_assert_int_eq(numbers[1], i);
    }
    const char *policy = getenv("WEFT_EMULATED_STREAMS");
    if (!policy || strcmp(policy, "late") == 0) ck_assert_int_ge(polled, 3);
    weft_device_set_poll(NULL, NULL);
    weft_mark_free(&d, &there);
    weft_mark_free(&d, &back);
    weft_mark_free(&d, &never);
    weft_mark_free(&d, &never);
    weft_host_memory_free(&d, host);
    weft_device_close(&d);
}
END_TEST

/* Through pinned memory, piece by piece, both ways. */
START_TEST(large_arrays_are_written_and_read) {
    weft_device d;
    const size_t bytes = ((size_t)40 << 20) + 5;
    unsigned char *there = malloc(bytes), *back = calloc(1, bytes);
    ck_assert(there && back);
    for (size_t i = 0; i < bytes; i++) there[i] = (unsigned char)(i * 7 + (i >> 20));
    ck_assert_int_eq(weft_device_open_cuda(&d, &in_float), WEFT_OK);
    ck_assert_int_eq(weft_device_size(&d, bytes), WEFT_OK);
    ck_assert_int_eq(weft_device_write(&d, d.act.base, there, bytes), WEFT_OK);
    ck_assert_int_eq(weft_device_read(&d, back, d.act.base, bytes), WEFT_OK);
    ck_assert(memcmp(there, back, bytes) == 0);
    weft_device_close(&d);
    free(there);
    free(back);
}
END_TEST

SUITE_MAIN_EACH("cuda device", "WEFT_EMULATED_STREAMS", "late eager random", opens_the_gpu_of_its_rank,
                without_a_gpu_only_a_dry_device_opens, arenas_are_zeroed_and_may_not_fit,
                marks_order_the_streams_and_the_host, large_arrays_are_written_and_read)
