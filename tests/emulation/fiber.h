/* The fibers that CUDA threads run on, and whose turn it is. */
#ifndef WEFT_EMULATION_FIBER_H
#define WEFT_EMULATION_FIBER_H

#include "emulation/simt.h"

namespace simt {

enum { WARP = 32, MOST_THREADS = 1024, MOST_WARPS = MOST_THREADS / WARP };

struct exchange; /* warp.cpp */

enum fiber_state { READY, AT_BARRIER, AT_EXCHANGE, EXITED };

struct fiber {
    int number; /* of the thread in its block */
    uint3 index;
    fiber_state state;
    /* What it waits for, where, and with what. */
    const char *what;
    site where;
    exchange *met;
    int barriers; /* it has come to */

    void *stack, *at; /* the lowest byte; where it stands */
    void *tsan, *asan;

    int lane() const { return number % WARP; }
    int warp() const { return number / WARP; }
};

extern fiber fibers[MOST_THREADS]; /* of the block that runs */
extern fiber *current;             /* NULL: who started the block */

/* WEFT_SIMT_ORDER */
enum fiber_order { FORWARD, REVERSE, RANDOM };
fiber_order chosen_order();

/* Gives fibers to a block of that many threads, ready to begin. `stream` numbers the stream. */
void make_fibers(int threads, unsigned stream);
/* Runs them, each through body(), until none is ready. */
void run_fibers(void (*body)());

void wake(fiber &f);
/* The current fiber waits until it is woken, and others run. */
void let_others_run();

} // namespace simt

#endif
