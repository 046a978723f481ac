/* The CUDA runtime on the host's heap, for tests: as much of it as the project uses.
 *
 * A stream is a queue of closures. What is queued runs as late as the program allows: when the host waits for
 * a stream or an event (or asks for the second time whether it is reached), and then only that stream up to
 * that point and what it waits for. So what a program forgot to wait for has not been done yet.
 * WEFT_EMULATED_STREAMS=late (the default); eager: everything runs when it is queued, the other extreme;
 * random: now and then some of some stream runs (WEFT_SIMT_SEED). With TSan a stream is a thread, ordered
 * with others by events and by what the host waits for alone, and every order shows a missing wait.
 *
 * Device memory starts as NaN. The host's side of a copy must be pinned. Where an upload will read is hashed
 * when it is queued, and where a download will write is filled with 0xff bytes until it is done. */
#include "emulation/sanitizers.h"
#include "emulation/streams.h"

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

/* A record is shared by the event and by the streams that wait for it: recording the event again does not
 * change what they wait for. */
struct record {
    CUstream_st *stream;
    uint64_t number; /* of the item in its stream */
    bool asked = false;
    tsan_point point;
};

struct item {
    const char *what;
    uint64_t order; /* among the items of all streams */
    std::function<void()> work;
    tsan_point queued;
};

struct CUstream_st {
    bool closed = false;
    unsigned number = 0; /* its place in `strands`; 0: stream 0 */
    std::deque<std::unique_ptr<item>> items;
    uint64_t queued = 0, done = 0;
};

/* What TSan takes for the thread of a stream; it is expensive, so another stream gets it next. */
struct strand {
    bool taken = false;
    void *tsan = nullptr;
};

struct CUevent_st {
    bool closed = false;
    std::shared_ptr<record> last; /* NULL: never recorded */
};

struct allocation {
    size_t bytes;
    bool pinned;
    bool fresh = true; /* not yet set by the host */
};

/* Host memory that a queued copy reads or writes. */
struct transfer {
    const char *from;
    size_t bytes;
    bool download;
};

static struct {
    std::vector<std::unique_ptr<CUstream_st>> streams; /* closed ones stay, to be recognised */
    std::vector<strand> strands;
    std::vector<std::unique_ptr<CUevent_st>> events;
    CUstream_st standard; /* stream 0, which is like any other here */
    std::map<const char *, allocation> memory;
    std::vector<transfer> transfers;
    size_t used = 0;
    uint64_t order = 0;
    int device = 0;
    cudaError_t error = cudaSuccess;
} g;

static cudaError_t result(cudaError_t e) {
    if (e != cudaSuccess) g.error = e;
    return e;
}

/* ---- streams ---- */

/* The caller's, which must be the host thread that called first: what is queued runs on it, unguarded. */
static CUstream_st *open_stream(cudaStream_t s) {
    static const std::thread::id owner = std::this_thread::get_id();
    if (std::this_thread::get_id() != owner) emu_fail("two threads of the host use the emulation");
    if (!s) s = &g.standard;
    if (s->closed) emu_fail("a stream is used that was destroyed");
    return s;
}

static strand &strand_of(unsigned number) {
    if (g.strands.size() <= number) g.strands.resize(number + 1);
    strand &s = g.strands[number];
    if (!s.tsan) s.tsan = tsan_create();
    return s;
}

unsigned emu_stream_number(cudaStream_t stream) {
    return open_stream(stream)->number;
}

static std::unique_ptr<item> take_first(CUstream_st *s) {
    tsan_quiet quiet;
    std::unique_ptr<item> i = std::move(s->items.front());
    s->items.pop_front();
    return i;
}

static void run_one(CUstream_st *s) {
    std::unique_ptr<item> i = take_first(s);
    void *caller = tsan_current();
    tsan_switch(strand_of(s->number).tsan);
    i->queued.acquire();
    i->work();
    {
        tsan_quiet quiet;
        i.reset();
    }
    tsan_switch(caller);
    s->done++;
}

static void run_until(CUstream_st *s, uint64_t number) {
    while (s->done < number) run_one(s);
}

void emu_run_all() {
    for (;;) {
        CUstream_st *first = nullptr;
        auto consider = [&](CUstream_st *s) {
            if (!s->items.empty() && (!first || s->items.front()->order < first->items.front()->order))
                first = s;
        };
        consider(&g.standard);
        for (const auto &s : g.streams) consider(s.get());
        if (!first) return;
        run_one(first);
    }
}

/* ---- when what is queued runs ---- */

enum policy { LATE, EAGER, RANDOM };

static policy stream_policy() {
    static const policy chosen = [] {
        const char *name = getenv("WEFT_EMULATED_STREAMS");
        if (!name || !strcmp(name, "late")) return LATE;
        if (!strcmp(name, "eager")) return EAGER;
        if (!strcmp(name, "random")) return RANDOM;
        emu_fail("WEFT_EMULATED_STREAMS=%s: late, eager or random", name);
    }();
    return chosen;
}

static uint64_t random_below(uint64_t n) {
    static uint64_t state = [] {
        const char *seed = getenv("WEFT_SIMT_SEED");
        return seed ? strtoull(seed, nullptr, 10) : 1;
    }();
    state = state * 6364136223846793005 + 1442695040888963407;
    return (state >> 33) % n;
}

static void run_some() {
    if (stream_policy() == EAGER) emu_run_all();
    if (stream_policy() != RANDOM || random_below(2)) return;
    std::vector<CUstream_st *> waiting;
    if (!g.standard.items.empty()) waiting.push_back(&g.standard);
    for (const auto &s : g.streams)
        if (!s->items.empty()) waiting.push_back(s.get());
    if (waiting.empty()) return;
    CUstream_st *s = waiting[random_below(waiting.size())];
    run_until(s, s->done + 1 + random_below(s->items.size()));
}

static uint64_t enqueue(CUstream_st *s, const char *what, std::function<void()> work) {
    auto i = std::make_unique<item>();
    i->what = what;
    i->order = g.order++;
    i->work = std::move(work);
    i->queued.release();
    s->items.push_back(std::move(i));
    return ++s->queued;
}

void emu_enqueue(cudaStream_t stream, const char *what, std::function<void()> work) {
    enqueue(open_stream(stream), what, std::move(work));
    run_some();
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t *s, unsigned, int) {
    unsigned number = 1;
    while (strand_of(number).taken) number++;
    strand_of(number).taken = true;
    g.streams.push_back(std::make_unique<CUstream_st>());
    *s = g.streams.back().get();
    (*s)->number = number;
    return cudaSuccess;
}
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *s, unsigned flags) {
    return cudaStreamCreateWithPriority(s, flags, 0);
}
cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest) {
    *least = 0;
    *greatest = -5;
    return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    CUstream_st *s = open_stream(stream);
    tsan_point end;
    enqueue(s, "cudaStreamSynchronize", [&] { end.release(); });
    run_until(s, s->queued);
    end.acquire();
    return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
    if (!stream) return result(cudaErrorInvalidResourceHandle);
    cudaStreamSynchronize(stream);
    stream->closed = true;
    strand_of(stream->number).taken = false;
    return cudaSuccess;
}
cudaError_t cudaDeviceSynchronize() {
    emu_run_all();
    cudaStreamSynchronize(nullptr);
    for (const auto &s : g.streams)
        if (!s->closed) cudaStreamSynchronize(s.get());
    return cudaSuccess;
}

/* ---- events ---- */

static CUevent_st *open_event(cudaEvent_t e) {
    if (!e || e->closed) emu_fail("an event is used that was destroyed");
    return e;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *e, unsigned) {
    g.events.push_back(std::make_unique<CUevent_st>());
    *e = g.events.back().get();
    return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t e) {
    CUevent_st *event = open_event(e);
    event->closed = true;
    event->last.reset();
    return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t stream) {
    CUevent_st *event = open_event(e);
    CUstream_st *s = open_stream(stream);
    auto r = std::make_shared<record>();
    r->stream = s;
    r->number = enqueue(s, "cudaEventRecord", [r] { r->point.release(); });
    event->last = r;
    run_some();
    return cudaSuccess;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t e, unsigned) {
    std::shared_ptr<record> r = open_event(e)->last;
    if (!r) return cudaSuccess;
    emu_enqueue(stream, "cudaStreamWaitEvent", [r] {
        run_until(r->stream, r->number);
        r->point.acquire();
    });
    return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t e) {
    std::shared_ptr<record> r = open_event(e)->last;
    if (!r) return cudaSuccess;
    run_until(r->stream, r->number);
    r->point.acquire();
    return cudaSuccess;
}
cudaError_t cudaEventQuery(cudaEvent_t e) {
    const std::shared_ptr<record> r = open_event(e)->last;
    if (r && r->stream->done < r->number && !r->asked) {
        r->asked = true;
        return cudaErrorNotReady;
    }
    return cudaEventSynchronize(e);
}

/* ---- memory ---- */

/* The allocation that holds the range, or NULL. */
static allocation *find_memory(const void *p, size_t bytes) {
    const char *at = static_cast<const char *>(p);
    auto next = g.memory.upper_bound(at);
    if (next == g.memory.begin()) return nullptr;
    auto it = std::prev(next);
    const size_t offset = static_cast<size_t>(at - it->first);
    return offset <= it->second.bytes && bytes <= it->second.bytes - offset ? &it->second : nullptr;
}

bool emu_on_device(const void *p, size_t bytes) {
    const allocation *m = find_memory(p, bytes);
    return m && !m->pinned;
}

static size_t memory_limit() {
    const char *bytes = getenv("WEFT_EMULATED_MEMORY");
    return bytes ? strtoull(bytes, nullptr, 10) : 16ull << 30;
}

static void *allocate(size_t bytes, bool pinned) {
    tsan_quiet quiet;
    void *p = nullptr;
    if (posix_memalign(&p, 256, bytes ? bytes : 1) != 0) return nullptr;
    memset(p, 0xff, bytes);
    g.memory[static_cast<char *>(p)] = {bytes, pinned};
    return p;
}

static cudaError_t release(void *p, bool pinned, const char *what) {
    if (!p) return cudaSuccess;
    cudaDeviceSynchronize();
    auto it = g.memory.find(static_cast<char *>(p));
    if (it == g.memory.end() || it->second.pinned != pinned)
        emu_fail("%s of %p, which is not one's to free", what, p);
    if (!pinned) g.used -= it->second.bytes;
    g.memory.erase(it);
    free(p);
    return cudaSuccess;
}

cudaError_t cudaMalloc(void **p, size_t bytes) {
    if (g.used > memory_limit() || bytes > memory_limit() - g.used || !(*p = allocate(bytes, false)))
        return result(cudaErrorMemoryAllocation);
    g.used += bytes;
    return cudaSuccess;
}
cudaError_t cudaFree(void *p) {
    return release(p, false, "cudaFree");
}
cudaError_t cudaMallocHost(void **p, size_t bytes) {
    return (*p = allocate(bytes, true)) ? cudaSuccess : result(cudaErrorMemoryAllocation);
}
cudaError_t cudaHostAlloc(void **p, size_t bytes, unsigned) {
    return cudaMallocHost(p, bytes);
}
cudaError_t cudaFreeHost(void *p) {
    return release(p, true, "cudaFreeHost");
}
cudaError_t cudaMemGetInfo(size_t *unused, size_t *total) {
    *total = memory_limit();
    *unused = *total - std::min(*total, g.used);
    return cudaSuccess;
}

/* ---- copies ---- */

static void check_side(const void *p, size_t bytes, bool pinned, const char *what) {
    const allocation *m = find_memory(p, bytes);
    if (!m)
        emu_fail("%s: %zu bytes at %p are not within %s memory", what, bytes, p,
                 pinned ? "pinned host" : "device");
    if (m->pinned != pinned) emu_fail("%s: %p is %s memory", what, p, m->pinned ? "host" : "device");
}

static uint64_t hash(const void *p, size_t bytes) {
    uint64_t h = 14695981039346656037u;
    for (size_t i = 0; i < bytes; i++) h = (h ^ static_cast<const unsigned char *>(p)[i]) * 1099511628211;
    return h;
}

static bool under_way(const void *p, size_t bytes, bool download) {
    const char *from = static_cast<const char *>(p);
    return std::any_of(g.transfers.begin(), g.transfers.end(), [&](const transfer &t) {
        return t.download == download && from < t.from + t.bytes && t.from < from + bytes;
    });
}

static void transfer_begins(const void *p, size_t bytes, bool download) {
    tsan_quiet quiet;
    g.transfers.push_back({static_cast<const char *>(p), bytes, download});
}

static void transfer_ends(const void *p, size_t bytes, bool download) {
    tsan_quiet quiet;
    g.transfers.erase(std::find_if(g.transfers.begin(), g.transfers.end(), [&](const transfer &t) {
        return t.from == p && t.bytes == bytes && t.download == download;
    }));
}

static void upload(void *to, const void *from, size_t bytes, cudaStream_t stream) {
    check_side(from, bytes, true, "upload");
    check_side(to, bytes, false, "upload");
    /* What is still being downloaded there is another's to change. */
    const bool settled = !under_way(from, bytes, true);
    const uint64_t before = settled ? hash(from, bytes) : 0;
    transfer_begins(from, bytes, false);
    emu_enqueue(stream, "upload", [=] {
        if (settled && hash(from, bytes) != before)
            emu_fail("%zu bytes of host memory at %p were changed while an upload of them was under way",
                     bytes, from);
        memcpy(to, from, bytes);
        transfer_ends(from, bytes, false);
    });
}

static void download(void *to, const void *from, size_t bytes, cudaStream_t stream) {
    check_side(from, bytes, false, "download");
    check_side(to, bytes, true, "download");
    if (!under_way(to, bytes, false)) {
        tsan_quiet quiet; /* no one else's write */
        memset(to, 0xff, bytes);
    }
    transfer_begins(to, bytes, true);
    emu_enqueue(stream, "download", [=] {
        memcpy(to, from, bytes);
        transfer_ends(to, bytes, true);
    });
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
    if (!bytes) return cudaSuccess;
    if (kind == cudaMemcpyHostToDevice) {
        upload(to, from, bytes, stream);
    } else if (kind == cudaMemcpyDeviceToHost) {
        download(to, from, bytes, stream);
    } else if (kind == cudaMemcpyDeviceToDevice) {
        check_side(to, bytes, false, "copy");
        check_side(from, bytes, false, "copy");
        if (static_cast<const char *>(to) < static_cast<const char *>(from) + bytes &&
            static_cast<const char *>(from) < static_cast<const char *>(to) + bytes)
            emu_fail("copy: %p and %p overlap in %zu bytes", to, from, bytes);
        emu_enqueue(stream, "copy", [=] { memcpy(to, from, bytes); });
    } else {
        emu_fail("cudaMemcpyAsync of kind %d", kind);
    }
    return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void *p, int value, size_t bytes, cudaStream_t stream) {
    if (!bytes) return cudaSuccess;
    check_side(p, bytes, false, "memset");
    /* WEFT_EMULATED_POISON=1: memory is not zero when a program starts to use it. */
    const char *poison = getenv("WEFT_EMULATED_POISON");
    allocation *m = find_memory(p, bytes);
    if (m->fresh && m->bytes == bytes && poison && !strcmp(poison, "1")) value = 0xff;
    m->fresh = false;
    emu_enqueue(stream, "memset", [=] { memset(p, value, bytes); });
    return cudaSuccess;
}

/* ---- devices ---- */

static int device_count() {
    const char *gpus = getenv("WEFT_EMULATED_GPUS");
    return gpus ? atoi(gpus) : 8;
}

cudaError_t cudaGetDeviceCount(int *count) {
    *count = device_count();
    return *count > 0 ? cudaSuccess : result(cudaErrorNoDevice);
}
cudaError_t cudaSetDevice(int device) {
    if (device < 0 || device >= device_count()) return result(cudaErrorInvalidDevice);
    g.device = device;
    return cudaSuccess;
}
cudaError_t cudaGetDevice(int *device) {
    *device = g.device;
    return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr which, int device) {
    if (device < 0 || device >= device_count()) return result(cudaErrorInvalidDevice);
    switch (which) {
    case cudaDevAttrMultiProcessorCount:
        *value = 148;
        return cudaSuccess;
    case cudaDevAttrComputeCapabilityMajor:
        *value = 10;
        return cudaSuccess;
    case cudaDevAttrComputeCapabilityMinor:
        *value = 0;
        return cudaSuccess;
    default:
        return result(cudaErrorInvalidValue);
    }
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp *p, int device) {
    if (device < 0 || device >= device_count()) return result(cudaErrorInvalidDevice);
    memset(p, 0, sizeof *p);
    strcpy(p->name, "emulated");
    p->major = 10;
    p->multiProcessorCount = 148;
    p->totalGlobalMem = memory_limit();
    p->sharedMemPerBlock = 48 << 10;
    p->sharedMemPerBlockOptin = 227 << 10;
    p->warpSize = 32;
    return cudaSuccess;
}
cudaError_t cudaFuncSetAttribute(const void *, cudaFuncAttribute, int) {
    return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int *version) {
    *version = CUDART_VERSION;
    return cudaSuccess;
}
cudaError_t cudaDriverGetVersion(int *version) {
    *version = device_count() > 0 ? CUDART_VERSION : 0;
    return cudaSuccess;
}

/* ---- errors ---- */

cudaError_t cudaPeekAtLastError() {
    return g.error;
}
cudaError_t cudaGetLastError() {
    return std::exchange(g.error, cudaSuccess);
}
const char *cudaGetErrorName(cudaError_t e) {
    switch (e) {
    case cudaSuccess:
        return "cudaSuccess";
    case cudaErrorMemoryAllocation:
        return "cudaErrorMemoryAllocation";
    case cudaErrorNoDevice:
        return "cudaErrorNoDevice";
    case cudaErrorNotReady:
        return "cudaErrorNotReady";
    case cudaErrorInvalidDevice:
        return "cudaErrorInvalidDevice";
    default:
        return "cudaErrorUnknown";
    }
}
const char *cudaGetErrorString(cudaError_t e) {
    switch (e) {
    case cudaSuccess:
        return "no error";
    case cudaErrorMemoryAllocation:
        return "out of memory";
    case cudaErrorNoDevice:
        return "no CUDA-capable device is detected";
    case cudaErrorNotReady:
        return "device not ready";
    case cudaErrorInvalidDevice:
        return "invalid device ordinal";
    default:
        return "unknown error";
    }
}
