/* Grids, their blocks one by one, barriers, shared memory. */
#include "emulation/block.h"

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <numeric>

uint3 blockIdx;
dim3 blockDim, gridDim;

namespace simt {

/* Limits of a GPU of compute capability 9.0 or 10.0. */
enum { STATIC_SHARED = 48 << 10, ALL_SHARED = 227 << 10, ARGUMENTS = 32764 };

block_state block;

/* The kernel that runs. */
static struct {
    const grid *what; /* NULL: none */
    const call *thread;
    tsan_point start, end, fence;
} kernel;

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
    if (!g && emu_running()) fprintf(stderr, "%s: ", emu_running());
    if (kernel.what) fprintf(stderr, "block (%u,%u,%u): ", blockIdx.x, blockIdx.y, blockIdx.z);
    if (current) fprintf(stderr, "thread (%u,%u,%u): ", current->index.x, current->index.y, current->index.z);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    fflush(nullptr);
    _Exit(86);
}

[[noreturn]] __attribute__((format(printf, 2, 3))) static void fail_in(const grid &g, const char *format,
                                                                       ...) {
    va_list args;
    va_start(args, format);
    fail_at(&g, format, args);
}

bool same_site(site a, site b) {
    return a.line == b.line && (a.file == b.file || strcmp(a.file, b.file) == 0);
}

[[noreturn]] static void fail_deadlock() {
    const fiber *at_barrier = nullptr, *in_warp = nullptr;
    int barriers = 0, warps = 0;
    for (int i = 0; i < block.threads; i++) {
        const fiber &f = fibers[i];
        if (f.state == AT_BARRIER) at_barrier = &f, barriers++;
        if (f.state == AT_EXCHANGE) in_warp = &f, warps++;
    }
    char text[512] = "";
    int n = 0;
    if (at_barrier)
        n = snprintf(text, sizeof text, "; %d at a barrier (thread %d: %s, %s:%d)", barriers,
                     at_barrier->number, at_barrier->what, at_barrier->where.file, at_barrier->where.line);
    if (in_warp)
        snprintf(text + n, sizeof text - static_cast<size_t>(n),
                 "; %d wait for lanes (thread %d: %s of mask 0x%08x, %s:%d)", warps, in_warp->number,
                 in_warp->what, awaited_mask(*in_warp), in_warp->where.file, in_warp->where.line);
    emu_fail("deadlock: of %d threads %d have left the kernel%s", block.threads, block.exited, text);
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
    } else if (const site first = block.first_waiting->where; !same_site(first, at)) {
        emu_fail("divergent barrier: thread %d waits at %s:%d, this one has come to %s:%d",
                 block.first_waiting->number, first.file, first.line, at.file, at.line);
    }
    block.votes[turn] += vote;
    block.barriers[turn].release();
    me.state = AT_BARRIER;
    if (++block.waiting == block.threads) {
        block.waiting = 0;
        for (int i = 0; i < block.threads; i++) wake(fibers[i]);
    }
    let_others_run();
    block.barriers[turn].acquire();
    return block.votes[turn];
}

/* Before the atomic operation that tells others, and behind the one that was told. */
void fence() {
    kernel.fence.acquire();
    kernel.fence.release();
}

static void exit_block() {
    if (block.waiting)
        emu_fail("divergent barrier: this thread has left the kernel, thread %d waits at %s:%d",
                 block.first_waiting->number, block.first_waiting->where.file,
                 block.first_waiting->where.line);
    block.exited++;
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
    if (block.shared_bytes + kernel.what->shared > ALL_SHARED)
        emu_fail("%s:%d: %zu bytes of static and dynamic shared memory, CUDA allows %d", at.file, at.line,
                 block.shared_bytes + kernel.what->shared, ALL_SHARED);
    tsan_quiet quiet;
    block.shared.push_back({place, fresh(bytes)});
    return block.shared.back().second;
}

void *dynamic_memory(site at) {
    if (!kernel.what->shared) emu_fail("%s:%d: started without dynamic shared memory", at.file, at.line);
    return block.dynamic;
}

/* ---- blocks and grids ---- */

static void run_thread() {
    kernel.start.acquire();
    kernel.thread->run();
    exit_block();
    exit_warp();
    kernel.end.release();
}

static void run_block(unsigned stream) {
    block.threads = static_cast<int>(blockDim.x * blockDim.y * blockDim.z);
    block.exited = block.waiting = 0;
    for (warp &w : block.warps) w.exited = 0, w.meetings = 0;
    for (tsan_point &p : block.barriers) p.forget();
    block.shared_bytes = 0;
    block.dynamic = fresh(kernel.what->shared);
    make_fibers(block.threads, stream);
    run_fibers(run_thread);
    if (block.exited < block.threads) fail_deadlock();
    tsan_quiet quiet;
    free(block.dynamic);
    for (const auto &s : block.shared) free(s.second);
    block.shared.clear();
}

static void run_grid(const grid &g, unsigned stream, const call &thread) {
    kernel.what = &g;
    kernel.thread = &thread;
    kernel.start.release();
    blockDim = g.threads;
    gridDim = g.blocks;
    std::vector<uint64_t> numbers(static_cast<uint64_t>(g.blocks.x) * g.blocks.y * g.blocks.z);
    std::iota(numbers.begin(), numbers.end(), uint64_t(0));
    if (chosen_order() == REVERSE) std::reverse(numbers.begin(), numbers.end());
    if (chosen_order() == RANDOM)
        for (size_t i = numbers.size(); i > 1; i--) std::swap(numbers[i - 1], numbers[emu_random_below(i)]);
    for (uint64_t n : numbers) {
        blockIdx.x = static_cast<unsigned>(n % g.blocks.x);
        blockIdx.y = static_cast<unsigned>(n / g.blocks.x % g.blocks.y);
        blockIdx.z = static_cast<unsigned>(n / g.blocks.x / g.blocks.y);
        run_block(stream);
    }
    kernel.end.acquire();
    for (tsan_point *p : {&kernel.start, &kernel.end, &kernel.fence}) p->forget();
    kernel.what = nullptr;
}

void check_argument(const grid &g, int number, const void *p) {
    if (p && !emu_on_device(p, 0)) fail_in(g, "argument %d, %p, does not point to device memory", number, p);
}

void enqueue(const grid &g, cudaStream_t stream, size_t argument_bytes, std::shared_ptr<const call> thread) {
    const dim3 t = g.threads, b = g.blocks;
    if (!t.x || !t.y || !t.z || t.x > 1024 || t.y > 1024 || t.z > 64 ||
        static_cast<uint64_t>(t.x) * t.y * t.z > MOST_THREADS)
        fail_in(g, "a block of %u x %u x %u threads", t.x, t.y, t.z);
    if (!b.x || !b.y || !b.z || b.x > 0x7fffffff || b.y > 65535 || b.z > 65535)
        fail_in(g, "a grid of %u x %u x %u blocks", b.x, b.y, b.z);
    if (g.shared > ALL_SHARED)
        fail_in(g, "%zu bytes of dynamic shared memory, CUDA allows %d", g.shared, ALL_SHARED);
    if (argument_bytes > ARGUMENTS)
        fail_in(g, "%zu bytes of arguments, CUDA allows %d", argument_bytes, ARGUMENTS);
    const unsigned number = emu_stream_number(stream);
    emu_enqueue(stream, g.text, [g, number, thread = std::move(thread)] { run_grid(g, number, *thread); });
}

} // namespace simt

void emu_fail(const char *format, ...) {
    va_list args;
    va_start(args, format);
    simt::fail_at(simt::kernel.what, format, args);
}
