/* CUDA C++ for the host's compiler: kernels run on the CPU, for tests.
 *
 * One fiber per CUDA thread, one block at a time. A fiber runs until a barrier or a warp intrinsic, so the
 * order of fibers between two such points is ours to choose: WEFT_SIMT_ORDER=forward, reverse or random (the
 * default), WEFT_SIMT_SEED=n for another random order. Blocks are ordered likewise. Shared memory starts as
 * NaN. What CUDA leaves undefined ends the process with a message: threads that meet at different barriers or
 * not at all, warp intrinsics whose masks do not agree or name lanes that have left the kernel, too much
 * shared memory, too large a block. With ASan an index out of bounds is found in shared, dynamic and global
 * memory; with TSan races between the threads of a block, between blocks, and between streams, whether or not
 * the order at hand exposes them.
 *
 * Not all of CUDA C++ is here; what is missing fails to compile, and so do atomic sums of floating point and
 * plain __shared__ variables. Mathematical functions are the host's. */
#ifndef WEFT_EMULATION_SIMT_H
#define WEFT_EMULATION_SIMT_H

#include "emulation/streams.h"

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstdint>
#include <cstring>
#include <memory>
#include <tuple>
#include <type_traits>
#include <utility>

#undef __global__
#undef __device__
#undef __host__
#undef __shared__ /* SHARED and SHARED_DYN instead */
#undef __constant__
#undef __launch_bounds__
#undef __forceinline__
#undef __noinline__
#define __global__
#define __device__
#define __host__
#define __constant__ static const
#define __launch_bounds__(...)
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))

/* The thread that runs now. */
extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;
constexpr int warpSize = 32;

struct weft_device;
extern "C" void *weft_cuda_stream(const struct weft_device *d);

namespace simt {

/* The line that calls, as a default argument. */
struct site {
    const char *file;
    int line;
    static constexpr site here(const char *file = __builtin_FILE(), int line = __builtin_LINE()) {
        return {file, line};
    }
};

/* ---- inside a kernel (block.cpp, warp.cpp) ---- */

/* Returns how many threads of the block came with `vote`. */
int barrier(bool vote, const char *what, site at);
void warp_barrier(unsigned mask, site at);
/* The value that lane `from` brings. */
uint64_t shuffle(unsigned mask, uint64_t value, unsigned from, const char *what, site at);
unsigned ballot(unsigned mask, bool vote, const char *what, site at);
unsigned reduce_add(unsigned mask, unsigned value, site at);
unsigned match_any(unsigned mask, uint64_t value, site at);
unsigned lane();
void fence();
/* Memory of the block that runs, the same for all threads that come from one `place`. */
void *shared_memory(const void *place, size_t bytes, site at);
void *dynamic_memory(site at);

/* mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32, with the fragments of the PTX ISA. d may be c. */
void mma_m16n8k16_bf16(float d[4], const unsigned a[4], const unsigned b[2], const float c[4],
                       const char *file, int line);

/* ---- starting one ---- */

struct grid {
    const char *text; /* the arguments of launch() as written; the first is the kernel */
    site at;
    dim3 blocks, threads;
    size_t shared;
};

/* A kernel with its arguments: what every thread runs. */
struct call {
    virtual ~call() = default;
    virtual void run() const = 0;
};

template <class... P> class call_of : public call {
    void (*kernel)(P...);
    std::tuple<P...> arguments;

    template <size_t... I> void run(std::index_sequence<I...>) const { kernel(std::get<I>(arguments)...); }

  public:
    call_of(void (*k)(P...), P... p) : kernel(k), arguments(p...) {}
    void run() const override { run(std::index_sequence_for<P...>()); }
};

void enqueue(const grid &g, cudaStream_t stream, size_t argument_bytes, std::shared_ptr<const call> thread);
void check_argument(const grid &g, int number, const void *p);

template <class T> inline void check_argument(const grid &g, int number, const T &x) {
    if constexpr (std::is_pointer_v<T>) check_argument(g, number, static_cast<const void *>(x));
}

inline cudaStream_t stream_of(const weft_device *d) {
    return static_cast<cudaStream_t>(weft_cuda_stream(d));
}
inline cudaStream_t stream_of(cudaStream_t stream) {
    return stream;
}

template <class On, class... P, class... A>
inline void start(const char *text, site at, void (*kernel)(P...), dim3 blocks, dim3 threads, size_t shared,
                  On on, A... a) {
    static_assert(sizeof...(P) == sizeof...(A), "launch() wants every argument of the kernel");
    static_assert((... && std::is_trivially_copyable_v<P>), "arguments of a kernel are copied as bytes");
    const grid g = {text, at, blocks, threads, shared};
    int number = 0;
    (..., check_argument(g, ++number, static_cast<P>(a)));
    enqueue(g, stream_of(on), (size_t(0) + ... + sizeof(P)),
            std::make_shared<call_of<P...>>(kernel, static_cast<P>(a)...));
}

} // namespace simt

#define launch(...) simt::start(#__VA_ARGS__, simt::site::here(), __VA_ARGS__)
#define SHARED(T, name, n)                                                                                   \
    static char simt_place_##name;                                                                           \
    T *const name =                                                                                          \
        static_cast<T *>(simt::shared_memory(&simt_place_##name, sizeof(T) * (n), simt::site::here()))
#define SHARED_DYN(T, name) T *name = static_cast<T *>(simt::dynamic_memory(simt::site::here()))

/* ---- barriers ---- */

inline void __syncthreads(simt::site at = simt::site::here()) {
    simt::barrier(false, "__syncthreads", at);
}
inline int __syncthreads_count(int vote, simt::site at = simt::site::here()) {
    return simt::barrier(vote, "__syncthreads_count", at);
}
inline int __syncthreads_or(int vote, simt::site at = simt::site::here()) {
    return simt::barrier(vote, "__syncthreads_or", at) > 0;
}
inline int __syncthreads_and(int vote, simt::site at = simt::site::here()) {
    return simt::barrier(!vote, "__syncthreads_and", at) == 0;
}
inline void __syncwarp(unsigned mask = 0xffffffff, simt::site at = simt::site::here()) {
    simt::warp_barrier(mask, at);
}
inline void __threadfence() {
    simt::fence();
}

/* ---- warps ---- */

namespace simt {
template <class T> constexpr bool is_word = std::is_arithmetic_v<T> && (sizeof(T) == 4 || sizeof(T) == 8);
template <class T>
constexpr bool shuffles = is_word<T> || std::is_same_v<T, __nv_bfloat16> || std::is_same_v<T, __nv_bfloat162>;

template <class T> inline T shuffled(unsigned mask, T x, unsigned from, const char *what, site at) {
    static_assert(shuffles<T>, "not a type that CUDA shuffles");
    uint64_t bits = 0;
    memcpy(&bits, &x, sizeof x);
    bits = shuffle(mask, bits, from, what, at);
    memcpy(static_cast<void *>(&x), &bits, sizeof x);
    return x;
}
} // namespace simt

/* Lanes in groups of `width`; one that would read outside its group reads itself. */
template <class T>
inline T __shfl_sync(unsigned mask, T x, int from, int width = 32, simt::site at = simt::site::here()) {
    const unsigned lane = simt::lane(), in = static_cast<unsigned>(width) - 1;
    return simt::shuffled(mask, x, (lane & ~in) | (static_cast<unsigned>(from) & in), "__shfl_sync", at);
}
template <class T>
inline T __shfl_xor_sync(unsigned mask, T x, int by, int width = 32, simt::site at = simt::site::here()) {
    const unsigned lane = simt::lane(), in = static_cast<unsigned>(width) - 1;
    const unsigned from = lane ^ static_cast<unsigned>(by);
    return simt::shuffled(mask, x, from > (lane | in) ? lane : from, "__shfl_xor_sync", at);
}
template <class T>
inline T __shfl_up_sync(unsigned mask, T x, unsigned by, int width = 32, simt::site at = simt::site::here()) {
    const unsigned lane = simt::lane(), in = static_cast<unsigned>(width) - 1;
    return simt::shuffled(mask, x, (lane & in) >= by ? lane - by : lane, "__shfl_up_sync", at);
}
template <class T>
inline T __shfl_down_sync(unsigned mask, T x, unsigned by, int width = 32,
                          simt::site at = simt::site::here()) {
    const unsigned lane = simt::lane(), in = static_cast<unsigned>(width) - 1;
    return simt::shuffled(mask, x, by <= in - (lane & in) ? lane + by : lane, "__shfl_down_sync", at);
}
inline unsigned __ballot_sync(unsigned mask, int vote, simt::site at = simt::site::here()) {
    return simt::ballot(mask, vote, "__ballot_sync", at);
}
inline int __any_sync(unsigned mask, int vote, simt::site at = simt::site::here()) {
    return simt::ballot(mask, vote, "__any_sync", at) != 0;
}
inline int __all_sync(unsigned mask, int vote, simt::site at = simt::site::here()) {
    return simt::ballot(mask, !vote, "__all_sync", at) == 0;
}
inline unsigned __reduce_add_sync(unsigned mask, unsigned x, simt::site at = simt::site::here()) {
    return simt::reduce_add(mask, x, at);
}
inline int __reduce_add_sync(unsigned mask, int x, simt::site at = simt::site::here()) {
    return static_cast<int>(simt::reduce_add(mask, static_cast<unsigned>(x), at));
}
template <class T> inline unsigned __match_any_sync(unsigned mask, T x, simt::site at = simt::site::here()) {
    static_assert(simt::is_word<T>, "not a type that CUDA matches");
    uint64_t bits = 0;
    memcpy(&bits, &x, sizeof x);
    return simt::match_any(mask, bits, at);
}

/* ---- atomics: of integers only, so that sums have an order ---- */

namespace simt {
/* T for an argument that does not decide what T is. */
template <class T> struct type { typedef T of; };
template <class T>
constexpr bool has_atomics =
    std::is_same_v<T, int> || std::is_same_v<T, unsigned> || std::is_same_v<T, unsigned long long>;

/* *p = f(*p); returns what it was. */
template <class T, class F> inline T atomically(T *p, F f) {
    static_assert(has_atomics<T>, "atomics: int, unsigned and unsigned long long");
    T old = __atomic_load_n(p, __ATOMIC_RELAXED);
    while (!__atomic_compare_exchange_n(p, &old, f(old), false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) continue;
    return old;
}
} // namespace simt

#define SIMT_ATOMIC(name, result)                                                                            \
    template <class T> inline T name(T *p, typename simt::type<T>::of x) {                                   \
        return simt::atomically(p, [x](T old) -> T { return result; });                                      \
    }
SIMT_ATOMIC(atomicAdd, old + x)
SIMT_ATOMIC(atomicSub, old - x)
SIMT_ATOMIC(atomicMax, old > x ? old : x)
SIMT_ATOMIC(atomicMin, old < x ? old : x)
SIMT_ATOMIC(atomicAnd, (old) & (x))
SIMT_ATOMIC(atomicOr, old | x)
SIMT_ATOMIC(atomicXor, old ^ x)
#undef SIMT_ATOMIC
template <class T> inline T atomicExch(T *p, typename simt::type<T>::of x) {
    return simt::atomically(p, [x](T) { return x; });
}
template <class T>
inline T atomicCAS(T *p, typename simt::type<T>::of expected, typename simt::type<T>::of x) {
    return simt::atomically(p, [=](T old) { return old == expected ? x : old; });
}

#include "emulation/numbers.h"

#endif
