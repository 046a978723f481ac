/* The scheduler of the emulation: fibers, barriers, warps, shared memory. */
#include "emulation/simt.h"
#include "emulation/sanitizers.h"

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <numeric>
#include <sys/mman.h>
#include <vector>

#ifndef __x86_64__
#error "the emulation's change of stack is written for x86-64"
#endif

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

/* Pushes what a call must preserve, leaves the stack pointer in *from, and goes on at `to`. */
extern "C" void simt_change_stack(void **from, void *to);
asm(".text\n"
    ".globl simt_change_stack\n"
    ".type simt_change_stack,@function\n"
    "simt_change_stack:\n"
    "  pushq %rbp\n  pushq %rbx\n  pushq %r12\n  pushq %r13\n  pushq %r14\n  pushq %r15\n"
    "  movq %rsp,(%rdi)\n"
    "  movq %rsi,%rsp\n"
    "  popq %r15\n  popq %r14\n  popq %r13\n  popq %r12\n  popq %rbx\n  popq %rbp\n"
    "  ret\n"
    ".size simt_change_stack,.-simt_change_stack\n");

namespace simt {

enum { WARP = 32, MOST_THREADS = 1024, MOST_WARPS = MOST_THREADS / WARP };
/* Limits of a GPU of compute capability 9.0 or 10.0. */
enum { STATIC_SHARED = 48 << 10, ALL_SHARED = 227 << 10, ARGUMENTS = 32764 };
constexpr size_t STACK = 256 << 10;
constexpr size_t GUARD = 4096;

/* What the lanes of a warp bring to one intrinsic. */
struct exchange {
    unsigned mask, arrived, left; /* lanes: that take part, that are here, that have gone on */
    const char *what;
    site at;
    union {
        uint64_t values[WARP];
        struct {
            float a[16][16], b[8][16]; /* [m][k], [n][k] */
        } factors;
    };
    tsan_point point;
};

enum fiber_state { READY, AT_BARRIER, AT_EXCHANGE, EXITED };

struct fiber {
    int number;
    uint3 index;
    fiber_state state;
    void *stack, *at; /* its lowest byte; where it stands */
    void *tsan, *asan;
    /* What it waits for, and with what. */
    const char *what;
    site where;
    exchange *met;
    int barriers; /* passed */
    int lane() const { return number % WARP; }
    int warp() const { return number / WARP; }
};

struct warp {
    unsigned exited;
    exchange *meeting[WARP]; /* with lanes still to come */
    int meetings;
};

enum fiber_order { FORWARD, REVERSE, RANDOM };

static struct {
    fiber_order order;
    uint64_t random;
} config;

/* The kernel that runs. */
static struct {
    const grid *what; /* NULL: none */
    const call *thread;
    tsan_point start, end, fence;
    void *stack, *asan, *tsan; /* of who started it */
    const void *stack_low;
    size_t stack_bytes;
} run;

/* The block that runs. */
static struct {
    int threads, exited, waiting;
    const fiber *first_waiting;
    int votes[2]; /* of this barrier and the next, in turn */
    tsan_point barrier[2];
    warp warps[MOST_WARPS];
    void *dynamic;
    std::vector<std::pair<const void *, void *>> shared;
    size_t shared_bytes;
} block;

static fiber fibers[MOST_THREADS];
static fiber *current; /* NULL: none, who started the kernel */
static struct {
    fiber *at[MOST_THREADS]; /* a ring: first in, first out in order FORWARD */
    unsigned first, count;
} ready;
static std::vector<std::unique_ptr<exchange>> exchanges;
static std::vector<exchange *> spare; /* of them */

static bool equal(const char *a, const char *b) {
    return a == b || strcmp(a, b) == 0;
}
static bool equal(site a, site b) {
    return a.line == b.line && equal(a.file, b.file);
}

/* ---- messages ---- */

/* The first argument of launch(), which may have commas in angle brackets or parentheses. */
static int kernel_name_length(const char *text) {
    int depth = 0;
    const char *p = text;
    for (; *p && (depth > 0 || *p != ','); p++) {
        if (strchr("<([{", *p)) depth++;
        if (strchr(">)]}", *p)) depth--;
    }
    return static_cast<int>(p - text);
}

[[noreturn]] static void fail_at(const grid *g, const char *format, va_list args) {
    fprintf(stderr, "SIMT error: ");
    if (g)
        fprintf(stderr, "%s:%d: kernel %.*s: ", g->at.file, g->at.line, kernel_name_length(g->text), g->text);
    if (run.what) fprintf(stderr, "block (%u,%u,%u): ", blockIdx.x, blockIdx.y, blockIdx.z);
    if (current) fprintf(stderr, "thread (%u,%u,%u): ", current->index.x, current->index.y, current->index.z);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    fflush(nullptr);
    _Exit(86);
}

[[noreturn]] __attribute__((format(printf, 2, 3))) static void fail_in(const grid *g, const char *format,
                                                                       ...) {
    va_list args;
    va_start(args, format);
    fail_at(g, format, args);
}

/* ---- order ---- */

static uint64_t random_below(uint64_t n) {
    uint64_t z = config.random += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return (z ^ z >> 31) % n;
}

static void configure() {
    static bool done;
    if (done) return;
    done = true;
    const char *order = getenv("WEFT_SIMT_ORDER"), *seed = getenv("WEFT_SIMT_SEED");
    if (!order || !strcmp(order, "random"))
        config.order = RANDOM;
    else if (!strcmp(order, "forward"))
        config.order = FORWARD;
    else if (!strcmp(order, "reverse"))
        config.order = REVERSE;
    else
        emu_fail("WEFT_SIMT_ORDER=%s: forward, reverse or random", order);
    config.random = seed ? strtoull(seed, nullptr, 10) : 1;
}

static fiber *&ready_at(unsigned i) {
    return ready.at[(ready.first + i) % MOST_THREADS];
}

static fiber *take_ready() {
    if (!ready.count) return nullptr;
    ready.count--;
    if (config.order == FORWARD) return ready.at[ready.first++ % MOST_THREADS];
    if (config.order == RANDOM)
        std::swap(ready_at(ready.count), ready_at(static_cast<unsigned>(random_below(ready.count + 1))));
    return ready_at(ready.count);
}

static void wake(fiber &f) {
    f.state = READY;
    ready_at(ready.count++) = &f;
}

/* ---- fibers ---- */

[[noreturn]] static void fail_deadlock() {
    const fiber *at_barrier = nullptr, *in_warp = nullptr;
    int barrier = 0, warps = 0;
    for (int i = 0; i < block.threads; i++) {
        const fiber &f = fibers[i];
        if (f.state == AT_BARRIER) at_barrier = &f, barrier++;
        if (f.state == AT_EXCHANGE) in_warp = &f, warps++;
    }
    char text[512] = "";
    int n = 0;
    if (at_barrier)
        n = snprintf(text, sizeof text, "; %d at a barrier (thread %d: %s, %s:%d)", barrier,
                     at_barrier->number, at_barrier->what, at_barrier->where.file, at_barrier->where.line);
    if (in_warp)
        snprintf(text + n, sizeof text - static_cast<size_t>(n),
                 "; %d wait for lanes (thread %d: %s of mask 0x%08x, %s:%d)", warps, in_warp->number,
                 in_warp->what, in_warp->met->mask, in_warp->where.file, in_warp->where.line);
    current = nullptr;
    emu_fail("deadlock: of %d threads %d have exited%s", block.threads, block.exited, text);
}

/* To another fiber, or to who started the kernel (NULL). */
static void change_to(fiber *to) {
    fiber *from = current;
    current = to;
    if (to) threadIdx = to->index;
#ifdef SIMT_ASAN
    void **save = from ? &from->asan : &run.asan;
    if (from && from->state == EXITED) save = nullptr; /* ASan's stack of it may go */
    __sanitizer_start_switch_fiber(save, to ? to->stack : run.stack_low, to ? STACK : run.stack_bytes);
#endif
    tsan_switch(to ? to->tsan : run.tsan);
    simt_change_stack(from ? &from->at : &run.stack, to ? to->at : run.stack);
#ifdef SIMT_ASAN
    __sanitizer_finish_switch_fiber(from ? from->asan : run.asan, nullptr, nullptr);
#endif
}

/* The current fiber waits, or is done. */
static void go_on() {
    fiber *next = take_ready();
    if (next == current) return;
    if (!next && block.exited < block.threads) fail_deadlock();
    change_to(next);
}

static void exit_thread() {
    fiber &me = *current;
    if (block.waiting)
        emu_fail("divergent barrier: this thread has left the kernel, thread %d waits at %s:%d",
                 block.first_waiting->number, block.first_waiting->where.file,
                 block.first_waiting->where.line);
    warp &w = block.warps[me.warp()];
    for (int i = 0; i < w.meetings; i++)
        if (const exchange *x = w.meeting[i]; x->mask >> me.lane() & 1)
            emu_fail("lane %d has left the kernel, and %s of mask 0x%08x (%s:%d) waits for it", me.lane(),
                     x->what, x->mask, x->at.file, x->at.line);
    w.exited |= 1u << me.lane();
    block.exited++;
    me.state = EXITED;
}

static void thread_main() {
#ifdef SIMT_ASAN
    const void *low;
    size_t bytes;
    __sanitizer_finish_switch_fiber(nullptr, &low, &bytes);
    if (!run.stack_low) run.stack_low = low, run.stack_bytes = bytes;
#endif
    run.start.acquire();
    run.thread->run();
    exit_thread();
    run.end.release();
    go_on();
    __builtin_unreachable();
}

/* TSan's idea of a thread outlives the block: what two blocks do in the same one cannot race. So blocks take
 * turns with several sets of them, and every stream has its own. A stack is one thread's, or TSan would see
 * races on it. */
struct strand {
    void *stack, *tsan;
};

#ifdef SIMT_TSAN
constexpr unsigned STRAND_SETS = 2;
#else
constexpr unsigned STRAND_SETS = 1;
#endif

struct strands {
    std::vector<strand> sets[STRAND_SETS];
    unsigned turn = 0;
};

static strand make_strand() {
    tsan_quiet quiet;
    void *p = mmap(nullptr, GUARD + STACK, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED || mprotect(p, GUARD, PROT_NONE) != 0) emu_fail("no memory for a fiber");
    return {static_cast<char *>(p) + GUARD, tsan_create()};
}

static std::vector<strand> &take_strands(unsigned stream, size_t threads) {
    static std::vector<strands> of_streams;
    if (of_streams.size() <= stream) of_streams.resize(stream + 1);
    strands &s = of_streams[stream];
    std::vector<strand> &set = s.sets[s.turn++ % STRAND_SETS];
    while (set.size() < threads) set.push_back(make_strand());
    return set;
}

static void prepare_fiber(int number, const strand &s) {
    fiber &f = fibers[number];
    f.stack = s.stack;
    f.tsan = s.tsan;
#ifdef SIMT_ASAN
    __asan_unpoison_memory_region(f.stack, STACK);
#endif
    const unsigned n = static_cast<unsigned>(number);
    f.number = number;
    f.index = {n % blockDim.x, n / blockDim.x % blockDim.y, n / (blockDim.x * blockDim.y)};
    f.barriers = 0;
    f.asan = nullptr;
    /* What simt_change_stack pops: six registers and where to return to; above it no one's return address. */
    /* Not all at the same place of a page, or they would fight for the same lines of the cache. */
    char *end = static_cast<char *>(f.stack) + STACK - n % 64 * 64;
    void **top = reinterpret_cast<void **>(end) - 8;
    *--top = nullptr;
    *--top = reinterpret_cast<void *>(thread_main);
    for (int i = 0; i < 6; i++) *--top = nullptr;
    f.at = top;
    wake(f);
}

/* ---- barriers ---- */

int barrier(bool vote, const char *what, site at) {
    fiber &me = *current;
    const int turn = me.barriers++ & 1;
    me.what = what;
    me.where = at;
    if (block.exited)
        emu_fail("divergent barrier: %s %s:%d after %d threads of the block have left the kernel", what,
                 at.file, at.line, block.exited);
    if (!block.waiting) {
        block.first_waiting = &me;
        block.votes[turn] = 0;
    } else if (const site first = block.first_waiting->where; !equal(first, at)) {
        emu_fail("divergent barrier: thread %d waits at %s:%d, this one has come to %s:%d",
                 block.first_waiting->number, first.file, first.line, at.file, at.line);
    }
    block.votes[turn] += vote;
    block.barrier[turn].release();
    me.state = AT_BARRIER;
    if (++block.waiting == block.threads) {
        block.waiting = 0;
        for (int i = 0; i < block.threads; i++) wake(fibers[i]);
    }
    go_on();
    block.barrier[turn].acquire();
    return block.votes[turn];
}

void fence() {
    run.fence.acquire();
    run.fence.release();
}

/* ---- warps ---- */

unsigned lane() {
    return static_cast<unsigned>(current->lane());
}

static exchange *make_exchange() {
    tsan_quiet quiet;
    if (spare.empty()) {
        exchanges.push_back(std::make_unique<exchange>());
        spare.push_back(exchanges.back().get());
    }
    exchange *x = spare.back();
    spare.pop_back();
    return x;
}

static exchange *find_exchange(warp &w, unsigned mask, const char *what, site at) {
    for (int i = 0; i < w.meetings; i++) {
        exchange *x = w.meeting[i];
        if (!(x->mask & mask)) continue;
        if (x->mask != mask || !equal(x->what, what) || !equal(x->at, at))
            emu_fail("%s of mask 0x%08x (%s:%d) meets %s of mask 0x%08x (%s:%d)", what, mask, at.file,
                     at.line, x->what, x->mask, x->at.file, x->at.line);
        return x;
    }
    exchange *x = make_exchange();
    x->mask = mask;
    x->arrived = x->left = 0;
    x->what = what;
    x->at = at;
    return w.meeting[w.meetings++] = x;
}

/* The current lane comes to an intrinsic; then it puts its value there, waits, reads, and leaves. */
static exchange *arrive(unsigned mask, const char *what, site at) {
    fiber &me = *current;
    warp &w = block.warps[me.warp()];
    const int lanes = std::min<int>(WARP, block.threads - me.warp() * WARP);
    if (!(mask >> me.lane() & 1))
        emu_fail("%s %s:%d: mask 0x%08x lacks lane %d, which calls", what, at.file, at.line, mask, me.lane());
    if (lanes < WARP) mask &= (1u << lanes) - 1; /* a block need not fill its last warp */
    if (mask & w.exited)
        emu_fail("%s %s:%d: mask 0x%08x names lanes that have left the kernel: 0x%08x", what, at.file,
                 at.line, mask, mask & w.exited);
    me.what = what;
    me.where = at;
    return me.met = find_exchange(w, mask, what, at);
}

static void wait_for_lanes(exchange *x) {
    fiber &me = *current;
    warp &w = block.warps[me.warp()];
    x->arrived |= 1u << me.lane();
    me.state = AT_EXCHANGE;
    if (x->arrived == x->mask) {
        *std::find(w.meeting, w.meeting + w.meetings, x) = w.meeting[w.meetings - 1];
        w.meetings--;
        for (int i = 0; i < WARP; i++)
            if (x->mask >> i & 1) wake(fibers[me.warp() * WARP + i]);
    }
    go_on();
}

static void leave(exchange *x) {
    x->left |= 1u << current->lane();
    if (x->left != x->mask) return;
    tsan_quiet quiet;
    x->point.forget();
    spare.push_back(x);
}

void warp_barrier(unsigned mask, site at) {
    exchange *x = arrive(mask, "__syncwarp", at);
    x->point.release();
    wait_for_lanes(x);
    x->point.acquire(); /* the other intrinsics do not order memory */
    leave(x);
}

uint64_t shuffle(unsigned mask, uint64_t value, unsigned from, const char *what, site at) {
    exchange *x = arrive(mask, what, at);
    if (from >= WARP || !(x->mask >> from & 1))
        emu_fail("%s %s:%d reads lane %u, which mask 0x%08x lacks", what, at.file, at.line, from, x->mask);
    x->values[lane()] = value;
    wait_for_lanes(x);
    value = x->values[from];
    leave(x);
    return value;
}

/* f(lane, value) for every lane that takes part. */
template <class F> static void gather(unsigned mask, uint64_t value, const char *what, site at, F f) {
    exchange *x = arrive(mask, what, at);
    x->values[lane()] = value;
    wait_for_lanes(x);
    for (unsigned i = 0; i < WARP; i++)
        if (x->mask >> i & 1) f(i, x->values[i]);
    leave(x);
}

unsigned ballot(unsigned mask, bool vote, const char *what, site at) {
    unsigned votes = 0;
    gather(mask, vote, what, at, [&](unsigned i, uint64_t v) { votes |= static_cast<unsigned>(v) << i; });
    return votes;
}

unsigned reduce_add(unsigned mask, unsigned value, site at) {
    unsigned sum = 0;
    gather(mask, value, "__reduce_add_sync", at,
           [&](unsigned, uint64_t v) { sum += static_cast<unsigned>(v); });
    return sum;
}

unsigned match_any(unsigned mask, uint64_t value, site at) {
    unsigned equal = 0;
    gather(mask, value, "__match_any_sync", at,
           [&](unsigned i, uint64_t v) { equal |= static_cast<unsigned>(v == value) << i; });
    return equal;
}

static float bf16_half(unsigned pair, int high) {
    const unsigned bits = high ? pair & 0xffff0000 : pair << 16;
    return simt::bits<float>(bits);
}

/* The lanes' fragments are put together to whole matrices; then every lane computes its part of the product.
 */
void mma_m16n8k16_bf16(float d[4], const unsigned a[4], const unsigned b[2], const float c[4],
                       const char *file, int line) {
    exchange *x = arrive(0xffffffff, "mma", {file, line});
    auto &m = x->factors;
    if (block.threads < (current->warp() + 1) * WARP)
        emu_fail("mma %s:%d in a warp that is not full", file, line);
    const unsigned row = lane() / 4, k = lane() % 4 * 2;
    for (unsigned i = 0; i < 2; i++) {
        for (unsigned r = 0; r < 4; r++) m.a[row + r % 2 * 8][k + r / 2 * 8 + i] = bf16_half(a[r], i);
        for (unsigned r = 0; r < 2; r++) m.b[row][k + r * 8 + i] = bf16_half(b[r], i);
    }
    wait_for_lanes(x);
    for (unsigned r = 0; r < 4; r++) {
        const float *p = m.a[row + r / 2 * 8], *q = m.b[k + r % 2];
        float sum = c[r];
        for (int i = 0; i < 16; i++) sum += p[i] * q[i];
        d[r] = sum;
    }
    leave(x);
}

/* ---- shared memory ---- */

/* Bytes of its own for every block, so that ASan sees its ends and TSan does not mix up blocks. */
static void *fresh(size_t bytes) {
    tsan_quiet quiet;
    void *p = malloc(bytes ? bytes : 1);
    if (!p) emu_fail("no memory for %zu bytes of shared memory", bytes);
    memset(p, 0xff, bytes);
    return p;
}

void *shared_memory(const void *place, size_t bytes, site at) {
    for (const auto &s : block.shared)
        if (s.first == place) return s.second;
    block.shared_bytes += bytes;
    if (block.shared_bytes > STATIC_SHARED)
        emu_fail("%s:%d: %zu bytes of static shared memory, CUDA allows %d", at.file, at.line,
                 block.shared_bytes, STATIC_SHARED);
    if (block.shared_bytes + run.what->shared > ALL_SHARED)
        emu_fail("%s:%d: %zu bytes of static and dynamic shared memory, CUDA allows %d", at.file, at.line,
                 block.shared_bytes + run.what->shared, ALL_SHARED);
    tsan_quiet quiet;
    block.shared.push_back({place, fresh(bytes)});
    return block.shared.back().second;
}

void *dynamic_memory(site at) {
    if (!run.what->shared) emu_fail("%s:%d: started without dynamic shared memory", at.file, at.line);
    return block.dynamic;
}

/* ---- blocks and grids ---- */

static void run_block(unsigned stream) {
    block.threads = static_cast<int>(blockDim.x * blockDim.y * blockDim.z);
    block.exited = block.waiting = 0;
    for (warp &w : block.warps) w.exited = 0, w.meetings = 0;
    for (tsan_point &p : block.barrier) p.forget();
    block.shared_bytes = 0;
    block.dynamic = fresh(run.what->shared);
    const std::vector<strand> &set = take_strands(stream, static_cast<size_t>(block.threads));
    for (int i = 0; i < block.threads; i++) prepare_fiber(i, set[static_cast<size_t>(i)]);
    change_to(take_ready());
    tsan_quiet quiet;
    free(block.dynamic);
    for (const auto &s : block.shared) free(s.second);
    block.shared.clear();
}

static void run_grid(const grid &g, cudaStream_t stream, const call &thread) {
    if (run.what) fail_in(&g, "started from a kernel");
    run.what = &g;
    run.thread = &thread;
    run.tsan = tsan_current();
    run.start.release();
    blockDim = g.threads;
    gridDim = g.blocks;
    const size_t count = static_cast<size_t>(g.blocks.x) * g.blocks.y * g.blocks.z;
    std::vector<unsigned> numbers(count);
    std::iota(numbers.begin(), numbers.end(), 0u);
    if (config.order == REVERSE) std::reverse(numbers.begin(), numbers.end());
    if (config.order == RANDOM)
        for (size_t i = count; i > 1; i--) std::swap(numbers[i - 1], numbers[random_below(i)]);
    for (unsigned n : numbers) {
        blockIdx = {n % g.blocks.x, n / g.blocks.x % g.blocks.y, n / g.blocks.x / g.blocks.y};
        run_block(STRAND_SETS > 1 ? emu_stream_number(stream) : 0);
    }
    run.end.acquire();
    for (tsan_point *p : {&run.start, &run.end, &run.fence}) p->forget();
    run.what = nullptr;
}

void check_argument(const grid &g, int number, const void *p) {
    if (p && !emu_on_device(p, 0)) fail_in(&g, "argument %d, %p, does not point to device memory", number, p);
}

void enqueue(const grid &g, cudaStream_t stream, size_t argument_bytes, std::shared_ptr<const call> thread) {
    configure();
    const dim3 t = g.threads, b = g.blocks;
    if (!t.x || !t.y || !t.z || t.x > 1024 || t.y > 1024 || t.z > 64 ||
        static_cast<uint64_t>(t.x) * t.y * t.z > MOST_THREADS)
        fail_in(&g, "a block of %u x %u x %u threads", t.x, t.y, t.z);
    if (!b.x || !b.y || !b.z || b.x > 0x7fffffff || b.y > 65535 || b.z > 65535)
        fail_in(&g, "a grid of %u x %u x %u blocks", b.x, b.y, b.z);
    if (g.shared > ALL_SHARED)
        fail_in(&g, "%zu bytes of dynamic shared memory, CUDA allows %d", g.shared, ALL_SHARED);
    if (argument_bytes > ARGUMENTS)
        fail_in(&g, "%zu bytes of arguments, CUDA allows %d", argument_bytes, ARGUMENTS);
    emu_enqueue(stream, g.text, [g, stream, thread = std::move(thread)] { run_grid(g, stream, *thread); });
}

} // namespace simt

void emu_fail(const char *format, ...) {
    va_list args;
    va_start(args, format);
    simt::fail_at(simt::run.what, format, args);
}
