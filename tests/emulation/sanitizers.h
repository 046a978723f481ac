/* What the emulator tells ASan and TSan about its fibers, or nothing in a build without them.
 *
 * The emulator's own files are not instrumented for TSan, or it would report their bookkeeping; they are
 * compiled with -DSIMT_TSAN=1 instead. memcpy, malloc and so on are watched there all the same: `tsan_quiet`
 * hides them. */
#ifndef WEFT_EMULATION_SANITIZERS_H
#define WEFT_EMULATION_SANITIZERS_H

#include <cstddef>
#include <cstdlib>

#if defined(__SANITIZE_ADDRESS__)
#define SIMT_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SIMT_ASAN 1
#endif
#endif

#ifdef SIMT_ASAN
extern "C" void __sanitizer_start_switch_fiber(void **save, const void *stack, size_t bytes);
extern "C" void __sanitizer_finish_switch_fiber(void *saved, const void **stack, size_t *bytes);
extern "C" void __asan_unpoison_memory_region(const volatile void *p, size_t bytes);
#endif

#ifdef SIMT_TSAN

extern "C" void *__tsan_create_fiber(unsigned flags);
extern "C" void __tsan_switch_to_fiber(void *fiber, unsigned flags);
extern "C" void *__tsan_get_current_fiber();
extern "C" void __tsan_acquire(void *p);
extern "C" void __tsan_release(void *p);
extern "C" void AnnotateIgnoreReadsBegin(const char *file, int line);
extern "C" void AnnotateIgnoreReadsEnd(const char *file, int line);
extern "C" void AnnotateIgnoreWritesBegin(const char *file, int line);
extern "C" void AnnotateIgnoreWritesEnd(const char *file, int line);

static inline void *tsan_create() {
    return __tsan_create_fiber(0);
}
static inline void *tsan_current() {
    return __tsan_get_current_fiber();
}
/* The flag: a switch alone orders nothing. */
static inline void tsan_switch(void *fiber) {
    __tsan_switch_to_fiber(fiber, 1);
}
struct tsan_quiet {
    tsan_quiet() {
        AnnotateIgnoreReadsBegin("", 0);
        AnnotateIgnoreWritesBegin("", 0);
    }
    ~tsan_quiet() {
        AnnotateIgnoreWritesEnd("", 0);
        AnnotateIgnoreReadsEnd("", 0);
    }
};
/* What ran before release() happens before what runs behind a later acquire(). In memory of its own, because
 * TSan forgets what it knows of a point when its memory is freed, and not before. */
class tsan_point {
    char *p = nullptr;

  public:
    tsan_point() = default;
    tsan_point(const tsan_point &) = delete;
    tsan_point &operator=(const tsan_point &) = delete;
    ~tsan_point() { forget(); }
    void release() {
        tsan_quiet quiet;
        if (!p) p = static_cast<char *>(malloc(1));
        __tsan_release(p);
    }
    void acquire() {
        if (p) __tsan_acquire(p);
    }
    void forget() {
        tsan_quiet quiet;
        free(p);
        p = nullptr;
    }
};

#else

static inline void *tsan_create() {
    return nullptr;
}
static inline void *tsan_current() {
    return nullptr;
}
static inline void tsan_switch(void *) {}
struct tsan_quiet {
    tsan_quiet() {}
    ~tsan_quiet() {}
};
struct tsan_point {
    void release() {}
    void acquire() {}
    void forget() {}
};

#endif
#endif
