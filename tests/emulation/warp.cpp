/* What lanes of a warp do together. */
#include "emulation/block.h"

#include <algorithm>
#include <memory>

namespace simt {

/* What the lanes bring to one intrinsic. */
struct exchange {
    unsigned mask, arrived, left; /* lanes: that take part, that are here, that have gone on */
    const char *what;
    site at;
    union {
        uint64_t values[WARP];
        struct {
            float a[16][16], b[8][16]; /* [m][k], [n][k] */
        } factors;
    };
    tsan_point point;
};

static std::vector<std::unique_ptr<exchange>> exchanges;
static std::vector<exchange *> spare; /* of them */

unsigned lane() {
    return static_cast<unsigned>(current->lane());
}

/* ---- meeting ---- */

static exchange *make_exchange() {
    tsan_quiet quiet;
    if (spare.empty()) {
        exchanges.push_back(std::make_unique<exchange>());
        spare.push_back(exchanges.back().get());
    }
    exchange *x = spare.back();
    spare.pop_back();
    return x;
}

static exchange *find_exchange(warp &w, unsigned mask, const char *what, site at) {
    for (int i = 0; i < w.meetings; i++) {
        exchange *x = w.meeting[i];
        if (!(x->mask & mask)) continue;
        if (x->mask != mask || strcmp(x->what, what) != 0 || !same_site(x->at, at))
            emu_fail("%s of mask 0x%08x (%s:%d) meets %s of mask 0x%08x (%s:%d)", what, mask, at.file,
                     at.line, x->what, x->mask, x->at.file, x->at.line);
        return x;
    }
    exchange *x = make_exchange();
    x->mask = mask;
    x->arrived = x->left = 0;
    x->what = what;
    x->at = at;
    return w.meeting[w.meetings++] = x;
}

/* The current lane comes to an intrinsic; then it puts its value there, waits, reads, and leaves. */
static exchange *arrive(unsigned mask, const char *what, site at) {
    fiber &me = *current;
    warp &w = block.warps[me.warp()];
    const int lanes = std::min<int>(WARP, block.threads - me.warp() * WARP);
    if (!(mask >> me.lane() & 1))
        emu_fail("%s %s:%d: mask 0x%08x lacks lane %d, which calls", what, at.file, at.line, mask, me.lane());
    if (lanes < WARP) mask &= (1u << lanes) - 1; /* a block need not fill its last warp */
    if (mask & w.exited)
        emu_fail("%s %s:%d: mask 0x%08x names lanes that have left the kernel: 0x%08x", what, at.file,
                 at.line, mask, mask & w.exited);
    me.what = what;
    me.where = at;
    return me.met = find_exchange(w, mask, what, at);
}

static void wait_for_lanes(exchange *x) {
    fiber &me = *current;
    warp &w = block.warps[me.warp()];
    x->arrived |= 1u << me.lane();
    me.state = AT_EXCHANGE;
    if (x->arrived == x->mask) {
        *std::find(w.meeting, w.meeting + w.meetings, x) = w.meeting[w.meetings - 1];
        w.meetings--;
        for (int i = 0; i < WARP; i++)
            if (x->mask >> i & 1) wake(fibers[me.warp() * WARP + i]);
    }
    let_others_run();
}

static void leave(exchange *x) {
    x->left |= 1u << current->lane();
    if (x->left != x->mask) return;
    tsan_quiet quiet;
    x->point.forget();
    spare.push_back(x);
}

void exit_warp() {
    const fiber &me = *current;
    warp &w = block.warps[me.warp()];
    for (int i = 0; i < w.meetings; i++)
        if (const exchange *x = w.meeting[i]; x->mask >> me.lane() & 1)
            emu_fail("lane %d has left the kernel, and %s of mask 0x%08x (%s:%d) waits for it", me.lane(),
                     x->what, x->mask, x->at.file, x->at.line);
    w.exited |= 1u << me.lane();
}

unsigned awaited_mask(const fiber &f) {
    return f.met->mask;
}

/* ---- intrinsics ---- */

void warp_barrier(unsigned mask, site at) {
    exchange *x = arrive(mask, "__syncwarp", at);
    x->point.release();
    wait_for_lanes(x);
    x->point.acquire(); /* the other intrinsics do not order memory */
    leave(x);
}

uint64_t shuffle(unsigned mask, uint64_t value, unsigned from, const char *what, site at) {
    exchange *x = arrive(mask, what, at);
    if (from >= WARP || !(x->mask >> from & 1))
        emu_fail("%s %s:%d reads lane %u, which mask 0x%08x lacks", what, at.file, at.line, from, x->mask);
    x->values[lane()] = value;
    wait_for_lanes(x);
    value = x->values[from];
    leave(x);
    return value;
}

/* f(lane, value) for every lane that takes part. */
template <class F> static void gather(unsigned mask, uint64_t value, const char *what, site at, F f) {
    exchange *x = arrive(mask, what, at);
    x->values[lane()] = value;
    wait_for_lanes(x);
    for (unsigned i = 0; i < WARP; i++)
        if (x->mask >> i & 1) f(i, x->values[i]);
    leave(x);
}

unsigned ballot(unsigned mask, bool vote, const char *what, site at) {
    unsigned votes = 0;
    gather(mask, vote, what, at, [&](unsigned i, uint64_t v) { votes |= static_cast<unsigned>(v) << i; });
    return votes;
}

unsigned reduce_add(unsigned mask, unsigned value, site at) {
    unsigned sum = 0;
    gather(mask, value, "__reduce_add_sync", at,
           [&](unsigned, uint64_t v) { sum += static_cast<unsigned>(v); });
    return sum;
}

unsigned match_any(unsigned mask, uint64_t value, site at) {
    unsigned alike = 0;
    gather(mask, value, "__match_any_sync", at,
           [&](unsigned i, uint64_t v) { alike |= static_cast<unsigned>(v == value) << i; });
    return alike;
}

static float bf16_half(unsigned pair, int high) {
    return bits<float>(high ? pair & 0xffff0000 : pair << 16);
}

/* The lanes' fragments are put together to whole matrices; then every lane computes its part of D. */
void mma_m16n8k16_bf16(float d[4], const unsigned a[4], const unsigned b[2], const float c[4],
                       const char *file, int line) {
    if (block.threads < (current->warp() + 1) * WARP)
        emu_fail("mma %s:%d in a warp that is not full", file, line);
    exchange *x = arrive(0xffffffff, "mma", {file, line});
    auto &m = x->factors;
    const unsigned row = lane() / 4, k = lane() % 4 * 2;
    for (unsigned i = 0; i < 2; i++) {
        for (unsigned r = 0; r < 4; r++) m.a[row + r % 2 * 8][k + r / 2 * 8 + i] = bf16_half(a[r], i);
        for (unsigned r = 0; r < 2; r++) m.b[row][k + r * 8 + i] = bf16_half(b[r], i);
    }
    wait_for_lanes(x);
    for (unsigned r = 0; r < 4; r++) {
        const float *p = m.a[row + r / 2 * 8], *q = m.b[k + r % 2];
        float sum = c[r];
        for (int i = 0; i < 16; i++) sum += p[i] * q[i];
        d[r] = sum;
    }
    leave(x);
}

} // namespace simt
