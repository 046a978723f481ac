/* Stacks, the change from one to another, and the order in which fibers take turns. */
#include "emulation/fiber.h"
#include "emulation/sanitizers.h"

#include <cstdlib>
#include <sys/mman.h>
#include <vector>

#ifndef __x86_64__
#error "the emulation's change of stack is written for x86-64"
#endif

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

uint3 threadIdx;

namespace simt {

fiber fibers[MOST_THREADS];
fiber *current;

/* ---- order ---- */

fiber_order chosen_order() {
    static const fiber_order chosen = [] {
        const char *order = getenv("WEFT_SIMT_ORDER");
        if (!order || !strcmp(order, "random")) return RANDOM;
        if (!strcmp(order, "forward")) return FORWARD;
        if (!strcmp(order, "reverse")) return REVERSE;
        emu_fail("WEFT_SIMT_ORDER=%s: forward, reverse or random", order);
    }();
    return chosen;
}

/* A ring: first in, first out in order FORWARD. */
static struct {
    fiber *at[MOST_THREADS];
    unsigned first, count;
} ready;

static fiber *&ready_at(uint64_t i) {
    return ready.at[(ready.first + i) % MOST_THREADS];
}

void wake(fiber &f) {
    f.state = READY;
    ready_at(ready.count++) = &f;
}

static fiber *take_ready() {
    if (!ready.count) return nullptr;
    ready.count--;
    if (chosen_order() == FORWARD) return ready.at[ready.first++ % MOST_THREADS];
    if (chosen_order() == RANDOM)
        std::swap(ready_at(ready.count), ready_at(emu_random_below(ready.count + 1)));
    return ready_at(ready.count);
}

/* ---- changing ---- */

/* Who started the block. */
static struct {
    void (*body)();
    void *at, *tsan, *asan;
    const void *stack;
    size_t bytes;
} starter;

constexpr size_t STACK = 256 << 10, GUARD = 4096;

static void change_to(fiber *to) {
    fiber *from = current;
    current = to;
    if (to) threadIdx = to->index;
#ifdef SIMT_ASAN
    void **save = from ? &from->asan : &starter.asan;
    if (from && from->state == EXITED) save = nullptr; /* it will not come back */
    __sanitizer_start_switch_fiber(save, to ? to->stack : starter.stack, to ? STACK : starter.bytes);
#endif
    tsan_switch(to ? to->tsan : starter.tsan);
    simt_change_stack(from ? &from->at : &starter.at, to ? to->at : starter.at);
#ifdef SIMT_ASAN
    __sanitizer_finish_switch_fiber(from ? from->asan : starter.asan, nullptr, nullptr);
#endif
}

void let_others_run() {
    fiber *next = take_ready();
    if (next != current) change_to(next);
}

static void fiber_main() {
#ifdef SIMT_ASAN
    const void *low;
    size_t bytes;
    __sanitizer_finish_switch_fiber(nullptr, &low, &bytes);
    if (!starter.stack) starter.stack = low, starter.bytes = bytes;
#endif
    starter.body();
    current->state = EXITED;
    let_others_run();
    __builtin_unreachable();
}

void run_fibers(void (*body)()) {
    starter.body = body;
    starter.tsan = tsan_current();
    change_to(take_ready());
}

/* ---- making ---- */

/* What fibers reuse. A stack and TSan's idea of a thread stay together, or TSan would see races on stacks. */
struct strand {
    void *stack, *tsan;
};

/* What two blocks do in the same strand cannot race for TSan. So blocks take turns with two sets of them, and
 * every stream has its own. */
#ifdef SIMT_TSAN
constexpr unsigned SETS = 2;
#else
constexpr unsigned SETS = 1;
#endif

struct strands {
    std::vector<strand> sets[SETS];
    unsigned turn = 0;
};

static strand make_strand() {
    void *p = mmap(nullptr, GUARD + STACK, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED || mprotect(p, GUARD, PROT_NONE) != 0) emu_fail("no memory for a fiber");
    return {static_cast<char *>(p) + GUARD, tsan_create()};
}

static std::vector<strand> &take_strands(size_t threads, unsigned stream) {
    static std::vector<strands> of_streams;
    if (SETS == 1) stream = 0;
    if (of_streams.size() <= stream) of_streams.resize(stream + 1);
    strands &s = of_streams[stream];
    std::vector<strand> &set = s.sets[s.turn++ % SETS];
    while (set.size() < threads) set.push_back(make_strand());
    return set;
}

static void begin(fiber &f, unsigned number, const strand &s) {
    f.number = static_cast<int>(number);
    f.index = {number % blockDim.x, number / blockDim.x % blockDim.y, number / (blockDim.x * blockDim.y)};
    f.barriers = 0;
    f.stack = s.stack;
    f.tsan = s.tsan;
    f.asan = nullptr;
#ifdef SIMT_ASAN
    __asan_unpoison_memory_region(f.stack, STACK);
#endif
    /* Not all at the same place of a page, or they would fight for the same lines of the cache. What
     * simt_change_stack pops: six registers and where to return to; above it, no one's return address. */
    char *end = static_cast<char *>(f.stack) + STACK - number % 64 * 64;
    void **top = reinterpret_cast<void **>(end) - 8;
    *--top = nullptr;
    *--top = reinterpret_cast<void *>(fiber_main);
    for (int i = 0; i < 6; i++) *--top = nullptr;
    f.at = top;
    wake(f);
}

void make_fibers(int threads, unsigned stream) {
    const unsigned n = static_cast<unsigned>(threads);
    tsan_quiet quiet;
    const std::vector<strand> &set = take_strands(n, stream);
    for (unsigned i = 0; i < n; i++) begin(fibers[i], i, set[i]);
}

} // namespace simt
