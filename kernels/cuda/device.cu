/* The CUDA device: which GPU, its memory, its two streams, copies and marks. */
#include "cuda/attention.h"

extern "C" {
#include "cuda/stream.h"
}

#include <cstdio>
#include <cstdlib>
#include <cstring>

extern "C" const weft_ops weft_ops_cuda;

/* Of a device that is only measured: of the largest GPU that is known (B200). */
enum { MOST_PROCESSORS = 148 };
enum { LEAST_CAPABILITY = 8 }; /* Ampere: bf16 products */

/* ---- memory ---- */

static weft_status cuda_alloc(weft_device *d, size_t bytes, void **out) {
    void *p;
    const cudaStream_t stream = cuda_state(d)->stream[WEFT_STREAM_COMPUTE];
    if (cudaMalloc(&p, bytes ? bytes : 1) != cudaSuccess) {
        (void)cudaGetLastError(); /* or the next kernel would be blamed for it */
        return WEFT_ENOMEM;
    }
    CUDA_CHECK(cudaMemsetAsync(p, 0, bytes, stream));
    CUDA_CHECK(cudaStreamSynchronize(stream)); /* the other stream may be the first to use it */
    *out = p;
    return WEFT_OK;
}

static void cuda_free(weft_device *, void *p) {
    CUDA_CHECK(cudaFree(p));
}

static weft_status cuda_alloc_pinned(weft_device *, size_t bytes, void **out) {
    void *p;
    if (cudaMallocHost(&p, bytes) != cudaSuccess) {
        (void)cudaGetLastError();
        return WEFT_ENOMEM;
    }
    memset(p, 0, bytes);
    *out = p;
    return WEFT_OK;
}

static void cuda_free_pinned(weft_device *, void *p) {
    CUDA_CHECK(cudaFreeHost(p));
}

static void cuda_upload(weft_device *d, void *to, const void *pinned, size_t bytes) {
    CUDA_CHECK(cudaMemcpyAsync(to, pinned, bytes, cudaMemcpyHostToDevice, cuda_stream(d)));
}

static void cuda_download(weft_device *d, void *pinned, const void *from, size_t bytes) {
    CUDA_CHECK(cudaMemcpyAsync(pinned, from, bytes, cudaMemcpyDeviceToHost, cuda_stream(d)));
}

/* ---- order ---- */

static cudaEvent_t event_of(const weft_mark *m) {
    return static_cast<cudaEvent_t>(m->event);
}

static weft_status cuda_mark_make(weft_device *, weft_mark *m) {
    cudaEvent_t event;
    const cudaError_t e = cudaEventCreateWithFlags(&event, cudaEventDisableTiming);
    if (e != cudaSuccess)
        WEFT_FAIL(WEFT_EINTERNAL, "cuda: no event could be made: %s", cudaGetErrorString(e));
    m->event = event;
    return WEFT_OK;
}

static void cuda_mark_free(weft_device *, weft_mark *m) {
    CUDA_CHECK(cudaEventDestroy(event_of(m)));
}

static void cuda_mark(weft_device *d, weft_mark *m) {
    CUDA_CHECK(cudaEventRecord(event_of(m), cuda_stream(d)));
}

static void cuda_wait_mark(weft_device *d, const weft_mark *m) {
    CUDA_CHECK(cudaStreamWaitEvent(cuda_stream(d), event_of(m), 0));
}

static bool cuda_reached(weft_device *, const weft_mark *m) {
    const cudaError_t e = cudaEventQuery(event_of(m));
    if (e == cudaErrorNotReady) return false;
    CUDA_CHECK(e);
    return true;
}

static void cuda_finish(weft_device *d) {
    for (cudaStream_t stream : cuda_state(d)->stream) CUDA_CHECK(cudaStreamSynchronize(stream));
}

/* ---- opening and closing ---- */

static void cuda_close(weft_device *d) {
    weft_cuda *c = cuda_state(d);
    if (!c) return;
    for (cudaStream_t stream : c->stream)
        if (stream) CUDA_CHECK(cudaStreamSynchronize(stream));
    if (c->gemm) cuda_gemm_close(c);
    if (c->cudnn) cuda_cudnn_close(c);
    for (cudaStream_t stream : c->stream)
        if (stream) CUDA_CHECK(cudaStreamDestroy(stream));
    free(c);
}

static weft_driver make_driver() {
    weft_driver t = {};
    t.overlaps = true;
    t.alloc = cuda_alloc;
    t.free = cuda_free;
    t.alloc_pinned = cuda_alloc_pinned;
    t.free_pinned = cuda_free_pinned;
    t.upload = cuda_upload;
    t.download = cuda_download;
    t.mark_make = cuda_mark_make;
    t.mark_free = cuda_mark_free;
    t.mark = cuda_mark;
    t.wait_mark = cuda_wait_mark;
    t.reached = cuda_reached;
    t.finish = cuda_finish;
    t.close = cuda_close;
    return t;
}
static const weft_driver driver = make_driver();

int weft_cuda_devices() {
    int count = 0;
    if (cudaGetDeviceCount(&count) == cudaSuccess) return count;
    (void)cudaGetLastError();
    return 0;
}

const char *weft_cuda_version() {
#ifdef WEFT_EMULATED
    return "emulated";
#else
    static char text[32];
    snprintf(text, sizeof text, "%d.%d", CUDART_VERSION / 1000, CUDART_VERSION % 1000 / 10);
    return text;
#endif
}

void *weft_cuda_stream(const weft_device *d) {
    return cuda_stream(d);
}

/* The GPU of this rank, and two streams on it. A rank that sees one GPU only has been given it by whoever
 * started it (srun --gpus-per-task=1); should two ranks share it after all, NCCL refuses. */
static weft_status open_gpu(weft_cuda *c, int rank) {
    int count = 0, ordinal, major = 0, minor = 0, least, greatest;
    cudaError_t e = cudaGetDeviceCount(&count);
    if (e != cudaSuccess) goto failed;
    ordinal = count == 1 ? 0 : rank;
    if (ordinal >= count)
        WEFT_FAIL(
            WEFT_EINPUT,
            "device=cuda: this is rank %d of its machine, where %d GPU%s can be used (CUDA_VISIBLE_DEVICES "
            "narrows them down); start at most one rank per GPU, or use device=cpu",
            rank, count, count == 1 ? "" : "s");
    c->ordinal = ordinal;
    if ((e = cudaSetDevice(ordinal)) != cudaSuccess ||
        (e = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, ordinal)) != cudaSuccess ||
        (e = cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, ordinal)) != cudaSuccess ||
        (e = cudaDeviceGetAttribute(&c->processors, cudaDevAttrMultiProcessorCount, ordinal)) != cudaSuccess)
        goto failed;
    if (major < LEAST_CAPABILITY)
        WEFT_FAIL(WEFT_EINPUT,
                  "device=cuda: GPU %d is of compute capability %d.%d; %d.0 (Ampere) is the least that runs "
                  "this; use device=cpu",
                  ordinal, major, minor, LEAST_CAPABILITY);
    if ((e = cudaDeviceGetStreamPriorityRange(&least, &greatest)) != cudaSuccess) goto failed;
    for (int i = 0; i < WEFT_STREAMS; i++) {
        /* What other ranks wait for goes first. */
        const int priority = i == WEFT_STREAM_COMM ? greatest : least;
        e = cudaStreamCreateWithPriority(&c->stream[i], cudaStreamNonBlocking, priority);
        if (e != cudaSuccess) goto failed;
    }
    return WEFT_OK;
failed:
    (void)cudaGetLastError();
    WEFT_FAIL(WEFT_EINPUT, "device=cuda: no GPU can be used: %s; use device=cpu", cudaGetErrorString(e));
}

weft_status weft_device_open_cuda(weft_device *d, const weft_cuda_options *o) {
    weft_cuda *c = static_cast<weft_cuda *>(calloc(1, sizeof *c));
    if (!c) WEFT_FAIL(WEFT_ENOMEM, "no host memory for a device");
    c->processors = MOST_PROCESSORS;
    c->tf32 = o->tf32;
    c->attention = o->attention;
    weft_device opened = {};
    opened.name = "cuda";
    opened.ops = &weft_ops_cuda;
    opened.driver = &driver;
    opened.state = c;
    opened.act_dtype = o->act;
    opened.threads = 1;
    opened.dry = o->dry;
    weft_status st = o->dry ? WEFT_OK : open_gpu(c, o->local_rank);
    if (st == WEFT_OK) st = cuda_attention_open(&opened);
    if (st != WEFT_OK) {
        cuda_close(&opened);
        return st;
    }
    *d = opened;
    return WEFT_OK;
}
