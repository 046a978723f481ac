/* Streams and events.
 *
 * A stream is a queue of closures. What is queued runs as late as the program allows: when the host waits for
 * a stream or an event (or asks for the second time whether it is reached), and then only that stream up to
 * that point and what it waits for. So what a program forgot to wait for has not been done yet.
 * WEFT_EMULATED_STREAMS=late (the default); eager: everything runs when it is queued, the other extreme;
 * random: now and then some of some stream runs. With TSan a stream is a thread, ordered with others by
 * events and by what the host waits for alone, and every order shows a missing wait. */
#include "emulation/streams.h"
#include "emulation/sanitizers.h"

#include <cstdlib>
#include <cstring>
#include <deque>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

namespace {

/* A record is shared by the event and by the streams that wait for it: recording the event again does not
 * change what they wait for. */
struct record {
    CUstream_st *stream;
    uint64_t number; /* of the item in its stream */
    uint64_t asked = 0; /* what had been queued when a query last found it not reached, plus 1 */
    tsan_point point;
};

struct item {
    const char *what;
    uint64_t order; /* among the items of all streams */
    std::function<void()> work;
    tsan_point queued;
};

/* What TSan takes for the thread of a stream; it is expensive, so another stream gets it next. */
struct strand {
    bool taken = false;
    void *tsan = nullptr;
};

} // namespace

struct CUstream_st {
    bool closed = false;
    unsigned number = 0; /* its place in `strands`; 0: stream 0 */
    std::deque<std::unique_ptr<item>> items;
    uint64_t queued = 0, done = 0;
};

struct CUevent_st {
    bool closed = false;
    std::shared_ptr<record> last; /* NULL: never recorded */
};

static struct {
    CUstream_st standard;                              /* stream 0, which is like any other here */
    std::vector<std::unique_ptr<CUstream_st>> streams; /* closed ones stay, to be recognised */
    std::vector<strand> strands;
    std::vector<std::unique_ptr<CUevent_st>> events;
    uint64_t order = 0;
    const char *running = nullptr;
} g;

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

const char *emu_running() {
    return g.running;
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
    const char *outer = std::exchange(g.running, i->what);
    void *caller = tsan_current();
    tsan_switch(strand_of(s->number).tsan);
    i->queued.acquire();
    i->work();
    {
        tsan_quiet quiet;
        i.reset();
    }
    tsan_switch(caller);
    g.running = outer;
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

/* splitmix64 */
uint64_t emu_random_below(uint64_t n) {
    static uint64_t state = [] {
        const char *seed = getenv("WEFT_SIMT_SEED");
        return seed ? strtoull(seed, nullptr, 10) : 1;
    }();
    uint64_t z = state += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return (z ^ z >> 31) % n;
}

static void run_some() {
    if (stream_policy() == EAGER) emu_run_all();
    if (stream_policy() != RANDOM || emu_random_below(2)) return;
    std::vector<CUstream_st *> waiting;
    if (!g.standard.items.empty()) waiting.push_back(&g.standard);
    for (const auto &s : g.streams)
        if (!s->items.empty()) waiting.push_back(s.get());
    if (waiting.empty()) return;
    CUstream_st *s = waiting[emu_random_below(waiting.size())];
    run_until(s, s->done + 1 + emu_random_below(s->items.size()));
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
    if (!stream) emu_fail("stream 0 is destroyed");
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
/* A host that asks again without having queued anything is waiting; one that asks now and then is not. */
cudaError_t cudaEventQuery(cudaEvent_t e) {
    const std::shared_ptr<record> r = open_event(e)->last;
    if (r && r->stream->done < r->number && r->asked != g.order + 1) {
        r->asked = g.order + 1;
        return cudaErrorNotReady;
    }
    return cudaEventSynchronize(e);
}
