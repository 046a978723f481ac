/* The probe: a small attention, by cuDNN and by our kernel, compared on the host. */
#include "cuda/attention.h"
#include "cuda/flash.h"

extern "C" {
#include "runtime/log.h"
}

#include <cmath>
#include <cstdio>
#include <vector>

/* Several tiles of queries and keys in either kernel, and two of what else is counted. The emulation pays for
 * every thread. */
#ifdef WEFT_EMULATED
enum { TOKENS = 32, SEQUENCES = 2, GROUPS = 2 };
#else
enum { TOKENS = 384, SEQUENCES = 2, GROUPS = 2 };
#endif

namespace {

/* Both kernels round to bf16 what they multiply and what they return, though not at the same places. Measured
 * between such kernels: an array is off by 0.3 % of its size, an element of dk or dv by 5 % of that and its
 * own, for it is a sum over heads that are rounded. A mistake is off by the size itself. */
struct tolerance {
    double whole, element;
};
const tolerance NARROW = {1.0 / 64, 1.0 / 8}, STATISTIC = {1e-4, 1e-3};

/* Multiples of 1/64 from -1 to 1, which bf16 holds. */
float number(uint64_t i) {
    i = (i + 1) * 0x9e3779b97f4a7c15u;
    i = (i ^ i >> 29) * 0xbf58476d1ce4e5b9u;
    return static_cast<float>(static_cast<int>(i >> 40 & 127) - 64) / 64;
}

bf16 *filled(weft_device *d, int64_t n, uint64_t seed, weft_status *st) {
    bf16 *p = static_cast<bf16 *>(weft_arena_push(&d->act, static_cast<size_t>(n) * sizeof(bf16)));
    std::vector<bf16> host(d->dry ? 0 : static_cast<size_t>(n));
    for (size_t i = 0; i < host.size(); i++) host[i] = __float2bfloat16(number(seed << 32 | i));
    if (*st == WEFT_OK && !d->dry) *st = weft_device_write(d, p, host.data(), host.size() * sizeof(bf16));
    return p;
}

template <class T> weft_status fetch(weft_device *d, const T *from, std::vector<double> &to) {
    std::vector<T> host(to.size());
    WEFT_TRY(weft_device_read(d, host.data(), from, host.size() * sizeof(T)));
    for (size_t i = 0; i < host.size(); i++) to[i] = to_float(host[i]);
    return WEFT_OK;
}

/* `width` columns of rows with stride ld. */
template <class T>
bool agree(weft_device *d, const char *name, const T *const by[2], int64_t rows, int64_t width, int64_t ld,
           const tolerance &allowed, weft_cudnn_reason *why) {
    const size_t n = static_cast<size_t>((rows - 1) * ld + width);
    std::vector<double> ours(n), theirs(n);
    double size = 0, apart = 0;
    if (d->dry) return true;
    if (fetch(d, by[0], ours) != WEFT_OK || fetch(d, by[1], theirs) != WEFT_OK) return false;
    const auto each = [&](auto f) {
        for (int64_t r = 0; r < rows; r++)
            for (int64_t c = 0; c < width; c++) f(ours[r * ld + c], theirs[r * ld + c]);
    };
    each([&](double x, double y) { size += x * x, apart += (x - y) * (x - y); });
    const double rms = std::sqrt(size / static_cast<double>(rows * width));
    bool good = std::sqrt(apart) <= allowed.whole * std::sqrt(size); /* false for NaN, as below */
    each([&](double x, double y) {
        good = good && std::fabs(x - y) <= allowed.element * (rms + std::fabs(x));
    });
    if (good) return true;
    /* Either may be wrong: worth more than the line about the choice. */
    weft_warn("attention: cuDNN and weft's kernel disagree on a probe, their %s by %.2g %%", name,
              100 * std::sqrt(apart / size));
    snprintf(why->text, sizeof why->text, "the two disagree on a probe");
    return false;
}

/* Both passes, on d's arena. q, k and v lie side by side in a row, as a model has them, and so do their
 * gradients. */
bool compare(weft_device *d, weft_cudnn *cudnn, const weft_cudnn_plan *plan, const weft_graph_shape &s,
             weft_cudnn_reason *why) {
    const int64_t rows = s.B * s.T, wide = rows * s.ldq, narrow = rows * s.ldo, statistics = rows * s.H;
    const int64_t queries = s.H * s.d, keys = s.G * s.d, at_k = queries, at_v = at_k + keys;
    weft_status st = WEFT_OK;
    bf16 *qkv = filled(d, wide, 1, &st), *dout = filled(d, narrow, 2, &st);
    bf16 *o[2], *gradient[2];
    float *lse[2];
    for (int i = 0; i < 2; i++) {
        o[i] = filled(d, narrow, 3, &st);
        gradient[i] = filled(d, s.backward ? wide : 0, 4, &st);
        lse[i] =
            static_cast<float *>(weft_arena_push(&d->act, static_cast<size_t>(statistics) * sizeof(float)));
    }
    if (st != WEFT_OK) return false;
    weft_attention a = {};
    a.B = s.B, a.Tq = a.Tk = s.T, a.H = s.H, a.G = s.G, a.d = s.d;
    a.ldq = s.ldq, a.ldk = s.ldk, a.ldv = s.ldv, a.ldo = s.ldo, a.scale = s.scale;
    a.q = qkv, a.k = qkv + at_k, a.v = qkv + at_v, a.o = o[0], a.lse = lse[0], a.dout = dout;
    a.dq = gradient[0], a.dk = gradient[0] + at_k, a.dv = gradient[0] + at_v;
    cuda_flash_fwd(d, &a);
    if (!s.backward) {
        a.o = o[1], a.lse = lse[1];
        return attention_part(d, cudnn, plan, s, a, 0, 0, why) &&
               agree(d, "lse", lse, rows, s.H, s.H, STATISTIC, why) &&
               agree(d, "o", o, rows, queries, s.ldo, NARROW, why);
    }
    cuda_flash_bwd(d, &a);
    const bf16 *const dk[2] = {gradient[0] + at_k, gradient[1] + at_k};
    const bf16 *const dv[2] = {gradient[0] + at_v, gradient[1] + at_v};
    a.dq = gradient[1], a.dk = gradient[1] + at_k, a.dv = gradient[1] + at_v;
    return attention_part(d, cudnn, plan, s, a, 0, 0, why) &&
           agree(d, "dq", gradient, rows, queries, s.ldq, NARROW, why) &&
           agree(d, "dk", dk, rows, keys, s.ldk, NARROW, why) &&
           agree(d, "dv", dv, rows, keys, s.ldv, NARROW, why);
}

} // namespace

/* The same on a device with d's streams and an arena of its own. */
static bool compare_apart(weft_device *d, weft_cudnn *cudnn, const weft_cudnn_plan *plan,
                          const weft_graph_shape &s, weft_cudnn_reason *why) {
    weft_device p = *d;
    void *memory;
    p.act = weft_arena{};
    snprintf(why->text, sizeof why->text, "there is no memory for a probe");
    if (weft_device_measure(&p) != WEFT_OK) return false;
    compare(&p, cudnn, plan, s, why);
    const size_t bytes = p.act.peak;
    weft_device_arena_free(&p, &p.act);
    if (d->driver->alloc(d, bytes, &memory) != WEFT_OK) return false;
    p.dry = false;
    p.act.name = "probe";
    p.act.base = static_cast<char *>(memory);
    p.act.capacity = bytes;
    const bool good = compare(&p, cudnn, plan, s, why);
    weft_device_finish(d);
    d->driver->free(d, memory);
    return good;
}

bool attention_probe(weft_device *d, weft_cudnn *cudnn, const weft_graph_shape &like,
                     weft_cudnn_reason *why) {
    const int64_t H = like.H / like.G * GROUPS, row = (H + 2 * GROUPS) * like.d;
    weft_graph_shape s = {};
    s.B = SEQUENCES, s.H = H, s.G = GROUPS, s.T = TOKENS, s.d = like.d;
    s.ldq = s.ldk = s.ldv = row, s.ldo = H * like.d;
    s.scale = 4 / sqrtf(static_cast<float>(like.d)); /* scores between -4 and 4, say */
    s.backward = like.backward;
    weft_graph g;
    weft_graph_attention(&g, &s);
    weft_cudnn_plan *plan = weft_cudnn_plan_make(cudnn, &g, why);
    if (!plan) return false;
    snprintf(why->text, sizeof why->text, "it wants more workspace for a probe than is set aside");
    const bool good =
        weft_cudnn_plan_workspace(plan) <= weft_graph_workspace(&s) && compare_apart(d, cudnn, plan, s, why);
    weft_cudnn_plan_free(plan);
    return good;
}
