/* A stack of bytes, sized before the first step.
 *
 * An arena lives in one of two modes. A measuring arena hands out addresses inside a reserved range that is
 * never mapped (touching one faults), and only counts: running the program against it tells the exact peak.
 * A real arena has that many bytes and panics on overflow. Both hand out the same offsets. */
#ifndef WEFT_ARENA_H
#define WEFT_ARENA_H

#include "runtime/status.h"

#include <stdbool.h>
#include <stddef.h>

#define WEFT_ARENA_ALIGN 64

typedef struct weft_arena {
    const char *name;
    char *base;
    size_t top, peak, capacity;
    bool measuring;
    bool foreign; /* the memory is its device's: weft_device_arena */
} weft_arena;

static inline size_t weft_arena_round(size_t bytes) { /* what a push of so many takes */
    return (bytes + WEFT_ARENA_ALIGN - 1) / WEFT_ARENA_ALIGN * WEFT_ARENA_ALIGN;
}

/* `name` is kept by reference. */
weft_status weft_arena_init_measuring(weft_arena *a, const char *name);
weft_status weft_arena_init(weft_arena *a, const char *name, size_t capacity); /* zeroed pages */
void weft_arena_destroy(weft_arena *a);                                        /* also of a zeroed struct */

/* Next `bytes` bytes, 64-byte aligned. Never NULL; bytes may be 0. */
void *weft_arena_push(weft_arena *a, size_t bytes);

/* Stack discipline: everything pushed after the mark is given back. */
static inline size_t weft_arena_mark(const weft_arena *a) {
    return a->top;
}
void weft_arena_release(weft_arena *a, size_t mark);

#endif
