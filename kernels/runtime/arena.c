#include "runtime/arena.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

/* Larger than any model on one rank; address space only. Halved until the system grants it. */
#define MEASURE_RANGE ((size_t)1 << 45)

weft_status weft_arena_init_measuring(weft_arena *a, const char *name) {
    for (size_t bytes = MEASURE_RANGE; bytes >= ((size_t)1 << 32); bytes >>= 1) {
        void *p = mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (p == MAP_FAILED) continue;
        *a = (weft_arena){.name = name, .base = p, .capacity = bytes, .measuring = true};
        return WEFT_OK;
    }
    WEFT_FAIL(WEFT_ENOMEM, "no address space to measure the %s arena (is `ulimit -v` set?)", name);
}

weft_status weft_arena_init(weft_arena *a, const char *name, size_t capacity) {
    capacity = weft_arena_round(capacity);
    size_t bytes = capacity ? capacity : 1;
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        WEFT_FAIL(WEFT_ENOMEM,
                  "the %s arena needs %.2f GiB: %s (see `weft plan`; make the batch, the sequence or the "
                  "model smaller)",
                  name, (double)capacity / (1 << 30), strerror(errno));
    /* Few and large pages: the arena is walked end to end in every step. */
    (void)madvise(p, bytes, MADV_HUGEPAGE);
    *a = (weft_arena){.name = name, .base = p, .capacity = capacity};
    return WEFT_OK;
}

void weft_arena_destroy(weft_arena *a) {
    if (a->base && !a->foreign) munmap(a->base, a->capacity ? a->capacity : 1);
    *a = (weft_arena){0};
}

void *weft_arena_push(weft_arena *a, size_t bytes) {
    size_t need = weft_arena_round(bytes);
    WEFT_CHECK(need >= bytes && need <= a->capacity - a->top,
               "the %s arena of %zu bytes is full: %zu in use, %zu more wanted", a->name, a->capacity, a->top,
               need);
    void *p = a->base + a->top;
    a->top += need;
    if (a->top > a->peak) a->peak = a->top;
    return p;
}

void weft_arena_release(weft_arena *a, size_t mark) {
    WEFT_CHECK(mark <= a->top, "the %s arena is released to %zu, above its top %zu", a->name, mark, a->top);
    a->top = mark;
}
