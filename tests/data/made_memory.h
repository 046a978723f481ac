/* The largest single allocation of the process since made_memory_reset(): what shows that a piece of work
 * that streams does not hold. Include it in one file of a program; sanitizers bring their own allocator and
 * see 0. */
#ifndef WEFT_TEST_MADE_MEMORY_H
#define WEFT_TEST_MADE_MEMORY_H

#include <stdatomic.h>
#include <stddef.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(memory_sanitizer) || __has_feature(thread_sanitizer)
#define MADE_SANITIZED 1
#endif
#elif defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define MADE_SANITIZED 1
#endif

static atomic_size_t made_memory_largest;

static inline void made_memory_reset(void) {
    atomic_store(&made_memory_largest, 0);
}

#ifndef MADE_SANITIZED
extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t);
static void made_memory_note(size_t n) {
    if (n > atomic_load(&made_memory_largest)) atomic_store(&made_memory_largest, n);
}
void *malloc(size_t n) {
    made_memory_note(n);
    return __libc_malloc(n);
}
void *calloc(size_t n, size_t k) {
    made_memory_note(n * k);
    return __libc_calloc(n, k);
}
void *realloc(void *p, size_t n) {
    made_memory_note(n);
    return __libc_realloc(p, n);
}
#endif

#endif
