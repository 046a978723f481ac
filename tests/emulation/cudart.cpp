/* Memory, copies and devices of the CUDA runtime, on the host's heap: as much as the project uses.
 *
 * Device memory starts as NaN. The host's side of a copy must be pinned. Where an upload will read is hashed
 * when it is queued, and where a download will write is filled with 0xff bytes until it is done.
 *
 *   WEFT_EMULATED_GPUS=n      how many devices there are (8)
 *   WEFT_EMULATED_MEMORY=n    bytes of each (16 GiB)
 *   WEFT_EMULATED_POISON=1    the first cudaMemset of a whole allocation sets NaN: nothing may rely on memory
 *                             that it has not written itself */
#include "emulation/sanitizers.h"
#include "emulation/streams.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>
#include <utility>
#include <vector>

namespace {

struct allocation {
    size_t bytes;
    bool pinned;
    bool fresh = true; /* never set by the host */
};

/* Host memory that a queued copy reads or writes. */
struct transfer {
    const char *from;
    size_t bytes;
    bool download;
};

} // namespace

static struct {
    std::map<const char *, allocation> memory;
    std::vector<transfer> transfers;
    size_t used = 0; /* of device memory */
    int device = 0;
    cudaError_t error = cudaSuccess;
} g;

static cudaError_t result(cudaError_t e) {
    if (e != cudaSuccess) g.error = e;
    return e;
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
    const char *at = static_cast<const char *>(p);
    uint64_t h = bytes;
    for (; bytes > 0;) {
        uint64_t word = 0;
        const size_t n = std::min(bytes, sizeof word);
        if (n == sizeof word)
            memcpy(&word, at, sizeof word);
        else
            for (size_t i = 0; i < n; i++) word = word << 8 | static_cast<unsigned char>(at[i]);
        h = (h ^ word) * 0x9e3779b97f4a7c15;
        h ^= h >> 32;
        at += n;
        bytes -= n;
    }
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
