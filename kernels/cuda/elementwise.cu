/* Flat arrays and rows of them: sums, copies, casts. */
#include "cuda/walk.cuh"

/* ---- sums ---- */

/* y = a + factor * b */
template <class T> struct add_op {
    T *y;
    const T *a, *b;
    template <int N> __device__ __forceinline__ void at(int64_t i) const {
        floats<N> x = load_floats<N>(a + i);
        const floats<N> more = load_floats<N>(b + i);
        for (int k = 0; k < N; k++) x.v[k] += more.v[k];
        store_floats(y + i, x);
    }
};

template <class T> struct axpy_op {
    T *y;
    const T *x;
    float alpha;
    template <int N> __device__ __forceinline__ void at(int64_t i) const {
        floats<N> sum = load_floats<N>(y + i);
        const floats<N> more = load_floats<N>(x + i);
        for (int k = 0; k < N; k++) sum.v[k] += alpha * more.v[k];
        store_floats(y + i, sum);
    }
};

/* Do these arrays begin where packs do? */
template <class T> static bool aligned(const T *a, const T *b, const T *c) {
    return fits<pack<T>::size>(a, 0, 0) && fits<pack<T>::size>(b, 0, 0) && fits<pack<T>::size>(c, 0, 0);
}

template <class T> static void add(const weft_device *d, T *y, const T *a, const T *b, int64_t n) {
    walk_flat<pack<T>::size>(d, add_op<T>{y, a, b}, n, aligned<T>(y, a, b));
}

extern "C" void cuda_add(weft_device *d, weft_act *y, const weft_act *a, const weft_act *b, int64_t n) {
    if (d->dry) return;
    cuda_with_act(d, [&](auto t) {
        typedef decltype(t) T;
        add(d, static_cast<T *>(y), static_cast<const T *>(a), static_cast<const T *>(b), n);
    });
}

extern "C" void cuda_add_real(weft_device *d, weft_real *y, const weft_real *x, int64_t n) {
    if (!d->dry) add<float>(d, y, y, x, n);
}

extern "C" void cuda_axpy(weft_device *d, weft_act *y, weft_real alpha, const weft_act *x, int64_t n) {
    if (d->dry) return;
    cuda_with_act(d, [&](auto t) {
        typedef decltype(t) T;
        const axpy_op<T> f = {static_cast<T *>(y), static_cast<const T *>(x), alpha};
        walk_flat<pack<T>::size>(d, f, n, aligned<T>(f.y, f.x, nullptr));
    });
}

/* ---- copies ---- */

extern "C" void cuda_zero(weft_device *d, void *p, size_t bytes) {
    if (!d->dry && bytes) CUDA_CHECK(cudaMemsetAsync(p, 0, bytes, cuda_stream(d)));
}

extern "C" void cuda_copy(weft_device *d, void *dst, const void *src, size_t bytes) {
    if (!d->dry && bytes)
        CUDA_CHECK(cudaMemcpyAsync(dst, src, bytes, cudaMemcpyDeviceToDevice, cuda_stream(d)));
}

template <class T> struct copy_rows_op {
    T *y;
    int64_t ldy;
    const T *x;
    int64_t ldx;
    template <int N> __device__ __forceinline__ void at(int64_t m, int64_t j) const {
        *reinterpret_cast<group<T, N> *>(y + m * ldy + j) =
            *reinterpret_cast<const group<T, N> *>(x + m * ldx + j);
    }
};

extern "C" void cuda_copy_rows(weft_device *d, weft_act *y, int64_t ldy, const weft_act *x, int64_t ldx,
                               int64_t M, int64_t D) {
    if (d->dry) return;
    cuda_with_act(d, [&](auto t) {
        typedef decltype(t) T;
        constexpr int N = pack<T>::size;
        const copy_rows_op<T> f = {static_cast<T *>(y), ldy, static_cast<const T *>(x), ldx};
        walk_rows<N>(d, f, M, D, fits<N>(f.y, D, ldy) && fits<N>(f.x, D, ldx));
    });
}

struct permute_op {
    float *y;
    const float *x;
    const int32_t *place_of;
    bool inverse;
    template <int N> __device__ __forceinline__ void at(int64_t i) const {
        if (inverse)
            y[i] = x[place_of[i]];
        else
            y[place_of[i]] = x[i];
    }
};

extern "C" void cuda_permute_real(weft_device *d, weft_real *y, const weft_real *x, const int32_t *place_of,
                                  int64_t n, bool inverse) {
    if (!d->dry) walk_flat<1>(d, permute_op{y, x, place_of, inverse}, n, true);
}

/* ---- types ---- */

/* f(To(), From()) for what may stand in a cast or a tree of sums. */
template <class F> static void with_types(weft_dtype to, weft_dtype from, F f) {
    WEFT_CHECK((to == WEFT_F32 || to == WEFT_BF16) && (from == WEFT_F32 || from == WEFT_BF16),
               "from %s to %s", weft_dtype_name(from), weft_dtype_name(to));
    if (to == WEFT_F32 && from == WEFT_F32) f(float(), float());
    if (to == WEFT_F32 && from == WEFT_BF16) f(float(), bf16());
    if (to == WEFT_BF16 && from == WEFT_F32) f(bf16(), float());
    if (to == WEFT_BF16 && from == WEFT_BF16) f(bf16(), bf16());
}

template <class To, class From> struct cast_op {
    To *y;
    const From *x;
    template <int N> __device__ __forceinline__ void at(int64_t i) const {
        store_floats(y + i, load_floats<N>(x + i));
    }
};

extern "C" void cuda_cast(weft_device *d, void *y, weft_dtype to, const void *x, weft_dtype from, int64_t n) {
    if (d->dry) return;
    with_types(to, from, [&](auto t, auto u) {
        typedef decltype(t) To;
        typedef decltype(u) From;
        const cast_op<To, From> f = {static_cast<To *>(y), static_cast<const From *>(x)};
        walk_flat<4>(d, f, n, fits<4>(f.y, 0, 0) && fits<4>(f.x, 0, 0));
    });
}

/* ---- tree of sums ---- */

/* The order is that of a binary counter: part after part comes in, and whenever two subtrees of one size
 * stand side by side they are added. Eight parts at a time are added without it, and are loaded together. */
#define TREE_LEAVES 8
#define TREE_LEVELS 40 /* of subtrees of TREE_LEAVES parts and more */

template <int N> static __device__ __forceinline__ floats<N> plus(floats<N> a, const floats<N> &b) {
    for (int k = 0; k < N; k++) a.v[k] += b.v[k];
    return a;
}

/* The sum of 2^LEVEL parts. */
template <int N, int LEVEL, class T>
static __device__ __forceinline__ floats<N> subtree(const T *part, int64_t stride) {
    if constexpr (LEVEL == 0)
        return load_floats<N>(part);
    else
        return plus(subtree<N, LEVEL - 1>(part, stride),
                    subtree<N, LEVEL - 1>(part + (stride << (LEVEL - 1)), stride));
}

template <class To, class From> struct tree_op {
    To *out;
    const From *parts;
    int64_t stride, count;
    bool accumulate;

    template <int N> __device__ __forceinline__ void at(int64_t i) const {
        floats<N> waiting[TREE_LEVELS], sum;
        const int64_t eights = count / TREE_LEAVES;
        const From *part = parts + i;
        for (int64_t e = 0; e < eights; e++, part += TREE_LEAVES * stride) {
            floats<N> x = subtree<N, 3>(part, stride);
            int level = 0;
            for (; e >> level & 1; level++) x = plus(waiting[level], x);
            waiting[level] = x;
        }
        /* What is left stands to the right, the smallest subtree last. */
        bool any = false;
        const auto before = [&](const floats<N> &x) {
            sum = any ? plus(x, sum) : x;
            any = true;
        };
        if (count & 1) before(load_floats<N>(part + (count & 6) * stride));
        if (count & 2) before(subtree<N, 1>(part + (count & 4) * stride, stride));
        if (count & 4) before(subtree<N, 2>(part, stride));
        for (int level = 0; eights >> level; level++)
            if (eights >> level & 1) before(waiting[level]);
        if (accumulate) sum = plus(load_floats<N>(out + i), sum);
        store_floats(out + i, sum);
    }
};

extern "C" void cuda_tree_sum(weft_device *d, void *out, weft_dtype out_type, const void *parts,
                              weft_dtype type, int64_t stride, int64_t count, int64_t n, bool accumulate) {
    if (d->dry) return;
    with_types(out_type, type, [&](auto t, auto u) {
        typedef decltype(t) To;
        typedef decltype(u) From;
        const tree_op<To, From> f = {static_cast<To *>(out), static_cast<const From *>(parts), stride, count,
                                     accumulate};
        walk_flat<4>(d, f, n, fits<4>(f.out, 0, 0) && fits<4>(f.parts, 0, stride));
    });
}
