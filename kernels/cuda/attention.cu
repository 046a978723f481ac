/* Attention: cuDNN's kernels where they serve, our own elsewhere.
 *
 * cuDNN knows full causal attention in bf16; documents, chunks of a sequence, decoding and float are ours. It
 * must also be there, have an engine for the shape, keep within the workspace that is set aside for it by
 * shape alone, and agree with our kernel on a probe. All that is found out when a shape is first seen, which
 * takes a second or two; the log says how it ended, and why. From then on a step allocates nothing and asks
 * nobody.
 *
 * The workspace of both is taken whichever runs, so that a dry device tells the bytes of any machine. */
#include "cuda/attention.h"
#include "cuda/flash.h"

extern "C" {
#include "runtime/log.h"
}

#include <cstdio>
#include <cstring>
#include <vector>

static_assert(sizeof(weft_graph_shape) == 9 * sizeof(int64_t) + sizeof(float) + sizeof(int32_t), "padding");

/* Room for cuDNN's backward pass, which is done in parts that fit. The emulation's is small, so that tests
 * have parts. */
#ifdef WEFT_EMULATED
enum { LIMIT = 256 << 10 };
#else
enum { LIMIT = 512 << 20 };
#endif
/* Odd lengths are those of prompts and of short texts: many, and not worth a second each. */
enum { USUAL_LENGTHS = 128 };

namespace {
struct choice {
    weft_graph_shape shape; /* of a part */
    weft_cudnn_plan *plan;  /* NULL: our own kernel */
};
struct verdict {
    weft_graph_shape heads; /* only what tells the probe apart */
    bool agrees;
    weft_cudnn_reason why;
};
struct workspace {
    float *lse, *delta;
    void *cudnn;
};
} // namespace

struct weft_cuda_cudnn {
    weft_cudnn *handle; /* NULL: why_not */
    weft_cudnn_reason why_not;
    std::vector<choice> choices;
    std::vector<verdict> verdicts;
};

static weft_cuda_cudnn *cudnn_of(weft_device *d) {
    weft_cuda *c = cuda_state(d);
    if (!c->cudnn) {
        c->cudnn = new weft_cuda_cudnn();
        c->cudnn->handle = weft_cudnn_open(&c->cudnn->why_not);
    }
    return c->cudnn;
}

weft_status cuda_attention_open(weft_device *d) {
    if (d->dry || cuda_state(d)->attention != WEFT_ATTENTION_CUDNN) return WEFT_OK;
    const weft_cuda_cudnn *c = cudnn_of(d);
    if (!c->handle) WEFT_FAIL(WEFT_EINPUT, "attention by cuDNN was asked for, but: %s", c->why_not.text);
    return WEFT_OK;
}

void cuda_cudnn_close(weft_cuda *c) {
    for (choice &one : c->cudnn->choices) weft_cudnn_plan_free(one.plan);
    weft_cudnn_close(c->cudnn->handle);
    delete c->cudnn;
    c->cudnn = nullptr;
}

/* ---- one part, by cuDNN ---- */

/* cuDNN has a row of its statistics for every head [B,heads,T], we have a column [B*T,H]. */
template <bool TO_OURS>
static __global__ void statistics_kernel(float *theirs, float *ours, int64_t n, int64_t heads, int64_t T,
                                         int64_t H) {
    int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    for (; i < n; i += static_cast<int64_t>(gridDim.x) * blockDim.x) {
        const int64_t b = i / (heads * T), h = i / T % heads, t = i % T;
        float *at = ours + (b * T + t) * H + h;
        if (TO_OURS)
            *at = theirs[i];
        else
            theirs[i] = *at;
    }
}

static void move_statistics(weft_device *d, bool to_ours, float *theirs, float *ours,
                            const weft_graph_shape &s, int64_t H) {
    enum { THREADS = 256 };
    const int64_t n = s.B * s.H * s.T;
    launch(to_ours ? statistics_kernel<true> : statistics_kernel<false>, cuda_blocks(n, THREADS), THREADS, 0,
           d, theirs, ours, n, s.H, s.T, H);
}

static workspace take_workspace(weft_device *d, const weft_graph_shape &s) {
    const size_t statistic = static_cast<size_t>(s.B * s.H * s.T) * sizeof(float);
    workspace w = {};
    w.lse = static_cast<float *>(weft_arena_push(&d->act, statistic));
    if (s.backward) w.delta = static_cast<float *>(weft_arena_push(&d->act, statistic));
    w.cudnn = weft_arena_push(&d->act, weft_graph_workspace(&s));
    return w;
}

bool attention_part(weft_device *d, weft_cudnn *cudnn, const weft_cudnn_plan *plan, const weft_graph_shape &s,
                    const weft_attention &a, int64_t b, int64_t g, weft_cudnn_reason *why) {
    const int64_t row = b * s.T, h = g * (a.H / a.G);
    const int64_t at_q = row * s.ldq + h * s.d, at_o = row * s.ldo + h * s.d;
    const int64_t at_k = row * s.ldk + g * s.d, at_v = row * s.ldv + g * s.d;
    const size_t mark = weft_arena_mark(&d->act);
    const workspace w = take_workspace(d, s);
    const auto at = [](const void *p, int64_t n) -> void * {
        return const_cast<bf16 *>(static_cast<const bf16 *>(p)) + n;
    };
    float *lse = a.lse ? a.lse + row * a.H + h : nullptr;
    void *arrays[WEFT_GRAPH_ROLES] = {};
    arrays[WEFT_GRAPH_Q] = at(a.q, at_q);
    arrays[WEFT_GRAPH_K] = at(a.k, at_k);
    arrays[WEFT_GRAPH_V] = at(a.v, at_v);
    arrays[WEFT_GRAPH_O] = at(a.o, at_o);
    arrays[WEFT_GRAPH_LSE] = w.lse;
    if (s.backward) {
        arrays[WEFT_GRAPH_DOUT] = at(a.dout, at_o);
        arrays[WEFT_GRAPH_DQ] = at(a.dq, at_q);
        arrays[WEFT_GRAPH_DK] = at(a.dk, at_k);
        arrays[WEFT_GRAPH_DV] = at(a.dv, at_v);
        arrays[WEFT_GRAPH_DELTA] = w.delta;
    }
    bool done = true;
    if (!d->dry) {
        if (s.backward) move_statistics(d, false, w.lse, lse, s, a.H);
        done = weft_cudnn_run(cudnn, plan, cuda_stream(d), arrays, w.cudnn, why);
        if (done && !s.backward && lse) move_statistics(d, true, w.lse, lse, s, a.H);
    }
    weft_arena_release(&d->act, mark);
    return done;
}

/* ---- the choice ---- */

static weft_graph_shape shape_of(const weft_attention &a, bool backward) {
    weft_graph_shape s = {a.B, a.H, a.G, a.Tq, a.d, a.ldq, a.ldk, a.ldv, a.ldo, a.scale, backward};
    return s;
}

static bool aligned(const void *p, int64_t ld) {
    return reinterpret_cast<uintptr_t>(p) % 16 == 0 && ld % 8 == 0;
}

/* Is it of the form that cuDNN computes? */
static bool has_the_form(const weft_device *d, const weft_attention &a, bool backward) {
    return d->act_dtype == WEFT_BF16 && !a.doc_start && a.q_pos0 == 0 && a.Tq == a.Tk && a.Tq > 1 &&
           a.B > 0 && a.H > 0 && a.d % 8 == 0 && a.d <= 128 && aligned(a.q, a.ldq) && aligned(a.k, a.ldk) &&
           aligned(a.v, a.ldv) && aligned(a.o, a.ldo) &&
           (!backward ||
            (aligned(a.dout, a.ldo) && aligned(a.dq, a.ldq) && aligned(a.dk, a.ldk) && aligned(a.dv, a.ldv)));
}

/* Would we have cuDNN do it? */
static bool wanted(const weft_device *d, const weft_attention &a, bool backward) {
    const weft_attention_kernel wish = cuda_state(d)->attention;
    return wish != WEFT_ATTENTION_WEFT && has_the_form(d, a, backward) &&
           (wish == WEFT_ATTENTION_CUDNN || a.Tq % USUAL_LENGTHS == 0);
}

/* Makes *s the shape of a part. False: even the smallest wants more workspace than we give. */
static bool cut(const weft_device *d, weft_graph_shape *s) {
    const bool fits = !s->backward || weft_graph_slice(s, LIMIT);
    return fits || cuda_state(d)->attention == WEFT_ATTENTION_CUDNN;
}

/* The probe's answer for heads like these. */
static bool probed(weft_device *d, weft_cuda_cudnn *c, const weft_graph_shape &s, weft_cudnn_reason *why) {
    weft_graph_shape heads = {};
    heads.H = s.H / s.G;
    heads.d = s.d;
    heads.backward = s.backward;
    for (const verdict &v : c->verdicts)
        if (memcmp(&v.heads, &heads, sizeof heads) == 0) {
            *why = v.why;
            return v.agrees;
        }
    verdict v = {heads, false, {}};
    v.agrees = attention_probe(d, c->handle, s, &v.why);
    c->verdicts.push_back(v);
    *why = v.why;
    return v.agrees;
}

static weft_cudnn_plan *make_plan(weft_device *d, weft_cuda_cudnn *c, const weft_graph_shape &s,
                                  weft_cudnn_reason *why) {
    weft_graph g;
    *why = c->why_not;
    if (!c->handle) return nullptr;
    weft_graph_attention(&g, &s);
    weft_cudnn_plan *plan = weft_cudnn_plan_make(c->handle, &g, why);
    if (!plan) return nullptr;
    const size_t wants = weft_cudnn_plan_workspace(plan), bound = weft_graph_workspace(&s);
    if (wants > bound)
        snprintf(why->text, sizeof why->text, "it wants %zu bytes of workspace, and %zu are set aside", wants,
                 bound);
    else if (probed(d, c, s, why))
        return plan;
    weft_cudnn_plan_free(plan);
    return nullptr;
}

/* One line in the log for a shape: which kernel, and why not the other. */
static void tell(const weft_attention &a, const weft_graph_shape &s, bool theirs, const char *why) {
    char parts[48] = "";
    const int64_t n = a.B / s.B * (a.G / s.G);
    if (theirs && n > 1) snprintf(parts, sizeof parts, ", in %lld parts", static_cast<long long>(n));
    weft_info("attention %s, %lld x %lld tokens, %lld heads of %lld over %lld: %s%s%s",
              s.backward ? "backward" : "forward", static_cast<long long>(a.B), static_cast<long long>(a.Tq),
              static_cast<long long>(a.H), static_cast<long long>(a.d), static_cast<long long>(a.G),
              theirs ? weft_cudnn_version() : "weft's kernel, not cuDNN's: ", theirs ? "" : why, parts);
}

/* The plan for a part of a; NULL: our own kernel. */
static const weft_cudnn_plan *choose(weft_device *d, const weft_attention &a, const weft_graph_shape &s,
                                     bool fits) {
    weft_cuda_cudnn *c = cudnn_of(d);
    weft_cudnn_reason why;
    for (const choice &one : c->choices)
        if (memcmp(&one.shape, &s, sizeof s) == 0) return one.plan;
    weft_cudnn_plan *plan = nullptr;
    if (fits)
        plan = make_plan(d, c, s, &why);
    else
        snprintf(why.text, sizeof why.text, "it may want %zu MiB of workspace",
                 weft_graph_workspace(&s) >> 20);
    if (!plan && cuda_state(d)->attention == WEFT_ATTENTION_CUDNN)
        weft_panic(__FILE__, __LINE__, "attention by cuDNN was asked for, but: %s", why.text);
    tell(a, s, plan, why.text);
    c->choices.push_back(choice{s, plan});
    return plan;
}

/* ---- the operations ---- */

static void ours(weft_device *d, const weft_attention *a, bool backward) {
    if (backward)
        cuda_flash_bwd(d, a);
    else
        cuda_flash_fwd(d, a);
}

static void theirs(weft_device *d, const weft_cudnn_plan *plan, const weft_graph_shape &s,
                   const weft_attention &a) {
    weft_cudnn_reason why;
    for (int64_t b = 0; b < a.B; b += s.B)
        for (int64_t g = 0; g < a.G; g += s.G)
            if (!attention_part(d, cuda_state(d)->cudnn->handle, plan, s, a, b, g, &why))
                weft_panic(__FILE__, __LINE__, "attention by cuDNN failed: %s", why.text);
}

static void attention(weft_device *d, const weft_attention *a, bool backward) {
    if (!wanted(d, *a, backward)) {
        ours(d, a, backward);
        return;
    }
    weft_graph_shape s = shape_of(*a, backward);
    const bool fits = cut(d, &s);
    const weft_cudnn_plan *plan = d->dry ? nullptr : choose(d, *a, s, fits);
    /* Take the workspace of either, one after the other. */
    const size_t mark = weft_arena_mark(&d->act);
    if (fits) take_workspace(d, s);
    weft_arena_release(&d->act, mark);
    weft_device dry = *d;
    dry.dry = true;
    ours(&dry, a, backward);
    if (dry.act.peak > d->act.peak) d->act.peak = dry.act.peak;

    if (plan)
        theirs(d, plan, s, *a);
    else if (!d->dry)
        ours(d, a, backward);
}

extern "C" void cuda_attention_fwd(weft_device *d, const weft_attention *a) {
    attention(d, a, false);
}
extern "C" void cuda_attention_bwd(weft_device *d, const weft_attention *a) {
    attention(d, a, true);
}
