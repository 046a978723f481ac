#include "kernels/cuda/pair.h"
#include "runtime/rng.h"

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { GUARD = 64, PATTERN = 0x5a };

/* ---- numbers ---- */

static float bf16_to_float(uint16_t x) {
    uint32_t bits = (uint32_t)x << 16;
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static uint16_t float_to_bf16(float f) {
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    if (isnan(f)) return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static double value(weft_dtype type, const void *x, int64_t i) {
    switch (type) {
    case WEFT_BF16:
        return bf16_to_float(((const uint16_t *)x)[i]);
    case WEFT_F64:
        return ((const double *)x)[i];
    case WEFT_I32:
        return ((const int32_t *)x)[i];
    case WEFT_I64:
        return (double)((const int64_t *)x)[i];
    case WEFT_U8:
        return ((const uint8_t *)x)[i];
    default:
        return (double)((const float *)x)[i];
    }
}

/* ---- opening ---- */

void pair_open(pair *p, weft_dtype act) {
    const weft_cuda_options o = {.act = act, .attention = WEFT_ATTENTION_WEFT};
    memset(p, 0, sizeof *p);
    if (weft_cuda_devices() == 0) {
        puts("skipped: no CUDA device");
        exit(77);
    }
    ck_assert(weft_device_open_cpu(&p->cpu) == WEFT_OK && weft_device_open_cuda(&p->gpu, &o) == WEFT_OK);
    ck_assert(weft_device_size(&p->cpu, (size_t)64 << 20) == WEFT_OK);
    ck_assert(weft_mark_make(&p->gpu, &p->ready) == WEFT_OK);
    p->seed = 1;
}

void pair_close(pair *p) {
    for (int i = 0; i < p->count; i++) {
        pair_one *a = &p->arrays[i];
        free(a->cpu);
        free(a->before);
        p->gpu.driver->free(&p->gpu, (char *)a->gpu - a->guard);
    }
    for (int i = 0; i < p->stages; i++) weft_host_memory_free(&p->gpu, p->stage[i]);
    weft_mark_free(&p->gpu, &p->ready);
    weft_device_close(&p->cpu);
    weft_device_close(&p->gpu);
}

/* ---- arrays ---- */

static size_t bytes_of(const pair_one *a, weft_dtype type) {
    return (size_t)a->n * weft_dtype_size(type);
}

static void *allocate(size_t bytes) {
    void *p = malloc(bytes ? bytes : 1);
    ck_assert_msg(p != NULL, "no memory for %zu bytes", bytes);
    return p;
}

/* Until what is queued on the stream of operations is done: nothing here may depend on another stream. */
static void settle(pair *p) {
    weft_mark_set(&p->gpu, &p->ready);
    weft_host_wait(&p->gpu, &p->ready);
}

static void *stage(pair *p, size_t bytes) {
    if (p->stage_bytes < bytes) {
        ck_assert(p->stages < PAIR_STAGES);
        p->stage_bytes = bytes < 2 * p->stage_bytes ? 2 * p->stage_bytes : bytes;
        ck_assert(weft_host_memory(&p->gpu, p->stage_bytes, &p->stage[p->stages++]) == WEFT_OK);
    }
    return p->stage[p->stages - 1];
}

static void move(pair *p, void *to, const void *from, size_t bytes, bool up) {
    if (bytes == 0) return;
    void *pinned = stage(p, bytes);
    if (up) {
        memcpy(pinned, from, bytes);
        weft_upload(&p->gpu, to, pinned, bytes);
    } else {
        weft_download(&p->gpu, pinned, from, bytes);
    }
    settle(p);
    if (!up) memcpy(to, pinned, bytes);
}

/* Guards of 64 elements, so that alignment is what the arena would give. */
static pair_array add(pair *p, int64_t n, weft_dtype cpu_type, weft_dtype type) {
    ck_assert(p->count < PAIR_ARRAYS);
    pair_one *a = &p->arrays[p->count];
    void *base;
    *a = (pair_one){.n = n, .cpu_type = cpu_type, .type = type, .guard = GUARD * weft_dtype_size(type)};
    size_t bytes = bytes_of(a, type) + 2 * a->guard;
    a->cpu = allocate(bytes_of(a, cpu_type));
    a->before = allocate(bytes_of(a, cpu_type));
    ck_assert(p->gpu.driver->alloc(&p->gpu, bytes, &base) == WEFT_OK);
    char *pattern = allocate(bytes);
    memset(pattern, PATTERN, bytes);
    move(p, base, pattern, bytes, true);
    free(pattern);
    a->gpu = (char *)base + a->guard;
    return p->count++;
}

/* The CPU's array is what both sides start from. */
static pair_array filled(pair *p, pair_array i) {
    pair_one *a = &p->arrays[i];
    memcpy(a->before, a->cpu, bytes_of(a, a->cpu_type));
    return i;
}

static pair_array numbers(pair *p, int64_t n, weft_dtype type, pair_fill f) {
    pair_array i = add(p, n, WEFT_F32, type);
    float *x = p->arrays[i].cpu;
    weft_rng rng = weft_rng_make(p->seed++, "pair");
    for (int64_t k = 0; k < n; k++) {
        x[k] = (float)(f.low + (f.high - f.low) * weft_rng_uniform(rng, (uint64_t)k));
        if (type == WEFT_BF16) x[k] = bf16_to_float(float_to_bf16(x[k]));
    }
    return filled(p, i);
}

pair_array pair_act(pair *p, int64_t n, pair_fill f) {
    return numbers(p, n, p->gpu.act_dtype, f);
}
pair_array pair_real(pair *p, int64_t n, pair_fill f) {
    return numbers(p, n, WEFT_F32, f);
}

void pair_put(pair *p, pair_array a, int64_t i, double x) {
    pair_one *to = &p->arrays[a];
    ((float *)to->before)[i] = to->type == WEFT_BF16 ? bf16_to_float(float_to_bf16((float)x)) : (float)x;
}

static pair_array output(pair *p, int64_t n, weft_dtype type) {
    pair_array i = add(p, n, WEFT_F32, type);
    for (int64_t k = 0; k < n; k++) ((float *)p->arrays[i].cpu)[k] = NAN;
    return filled(p, i);
}
pair_array pair_act_out(pair *p, int64_t n) {
    return output(p, n, p->gpu.act_dtype);
}
pair_array pair_real_out(pair *p, int64_t n) {
    return output(p, n, WEFT_F32);
}

static pair_array plain(pair *p, const void *x, int64_t n, weft_dtype type, int otherwise) {
    pair_array i = add(p, n, type, type);
    size_t bytes = bytes_of(&p->arrays[i], type);
    if (x)
        memcpy(p->arrays[i].cpu, x, bytes);
    else
        memset(p->arrays[i].cpu, otherwise, bytes);
    return filled(p, i);
}
pair_array pair_i32(pair *p, const int32_t *x, int64_t n) {
    return plain(p, x, n, WEFT_I32, -1);
}
pair_array pair_i64(pair *p, const int64_t *x, int64_t n) {
    return plain(p, x, n, WEFT_I64, -1);
}
pair_array pair_f64(pair *p, const double *x, int64_t n) {
    return plain(p, x, n, WEFT_F64, -1);
}
pair_array pair_bytes(pair *p, const void *x, int64_t bytes) {
    return plain(p, x, bytes, WEFT_U8, 0);
}

void *pair_at(const pair *p, pair_array a) {
    return pair_shift(p, a, 0);
}
void *pair_shift(const pair *p, pair_array a, int64_t elements) {
    if (a < 0) return NULL;
    const pair_one *x = &p->arrays[a];
    return p->on_gpu ? (char *)x->gpu + elements * (int64_t)weft_dtype_size(x->type)
                     : (char *)x->cpu + elements * (int64_t)weft_dtype_size(x->cpu_type);
}

/* ---- running ---- */

static void start_device_array(pair *p, pair_one *a) {
    size_t bytes = bytes_of(a, a->type);
    uint16_t *narrow = NULL;
    const void *from = a->before;
    if (a->type != a->cpu_type) {
        from = narrow = allocate(bytes);
        for (int64_t i = 0; i < a->n; i++) narrow[i] = float_to_bf16(((const float *)a->before)[i]);
    }
    move(p, a->gpu, from, bytes, true);
    free(narrow);
}

/* Phase 0: the CPU. 1: the device, dry, which tells its workspace. 2: the device. */
weft_device *pair_begin(pair *p, int phase) {
    p->on_gpu = phase > 0;
    if (phase == 0) {
        for (int i = 0; i < p->count; i++)
            memcpy(p->arrays[i].cpu, p->arrays[i].before, bytes_of(&p->arrays[i], p->arrays[i].cpu_type));
        return &p->cpu;
    }
    if (phase == 1) ck_assert(weft_device_measure(&p->gpu) == WEFT_OK);
    if (phase == 2) {
        ck_assert(weft_device_size(&p->gpu, p->gpu.act.peak) == WEFT_OK);
        for (int i = 0; i < p->count; i++) start_device_array(p, &p->arrays[i]);
    }
    return &p->gpu;
}

static void check_guards(pair *p, const pair_one *a) {
    unsigned char edge[2][GUARD * 8];
    move(p, edge[0], (char *)a->gpu - a->guard, a->guard, false);
    move(p, edge[1], (char *)a->gpu + bytes_of(a, a->type), a->guard, false);
    for (int side = 0; side < 2; side++)
        for (size_t i = 0; i < a->guard; i++)
            ck_assert_msg(edge[side][i] == PATTERN, "array %d: written %s its end, byte %zu",
                          (int)(a - p->arrays), side ? "behind" : "before", i);
}

void pair_end(pair *p, int phase) {
    weft_device *d = phase ? &p->gpu : &p->cpu;
    ck_assert_msg(d->act.top == 0, "%s keeps %zu bytes of workspace", d->name, d->act.top);
    if (phase < 2) return;
    settle(p);
    ck_assert_msg(d->act.peak == d->act.capacity, "workspace: %zu bytes dry, %zu used", d->act.capacity,
                  d->act.peak);
    for (int i = 0; i < p->count; i++) check_guards(p, &p->arrays[i]);
    p->on_gpu = false;
}

/* ---- comparing ---- */

double pair_cpu_value(const pair *p, pair_array a, int64_t i) {
    return value(p->arrays[a].cpu_type, p->arrays[a].cpu, i);
}

double pair_gpu_value(const pair *p, pair_array a, int64_t i) {
    char element[8];
    const pair_one *x = &p->arrays[a];
    size_t size = weft_dtype_size(x->type);
    move((pair *)p, element, (char *)x->gpu + (size_t)i * size, size, false);
    return value(x->type, element, 0);
}

static bool agree(double cpu, double gpu, double allowed) {
    if (isnan(cpu) || isnan(gpu)) return isnan(cpu) && isnan(gpu);
    if (isinf(cpu) || isinf(gpu)) return cpu == gpu;
    return fabs(cpu - gpu) <= allowed;
}

void pair_check(const pair *p, pair_array a, const char *name, double tolerance) {
    const pair_one *x = &p->arrays[a];
    void *gpu = allocate(bytes_of(x, x->type));
    double squares = 0, worst = -1;
    int64_t at = -1, numbers = 0;
    move((pair *)p, gpu, x->gpu, bytes_of(x, x->type), false);
    for (int64_t i = 0; i < x->n; i++) {
        double v = value(x->cpu_type, x->cpu, i);
        if (isfinite(v)) squares += v * v, numbers++;
    }
    double rms = numbers ? sqrt(squares / (double)numbers) : 0;
    for (int64_t i = 0; i < x->n; i++) {
        double cpu = value(x->cpu_type, x->cpu, i), got = value(x->type, gpu, i);
        double allowed = tolerance * (rms + fabs(cpu)) + (x->type == WEFT_BF16 ? fabs(cpu) / 256 : 0);
        if (x->cpu_type != WEFT_F32 && x->cpu_type != WEFT_F64) allowed = 0;
        if (agree(cpu, got, allowed)) continue;
        double by = isfinite(cpu - got) ? fabs(cpu - got) / (allowed > 0 ? allowed : 1) : INFINITY;
        if (by > worst) worst = by, at = i;
    }
    if (at >= 0)
        ck_abort_msg("%s[%lld] of %lld: CPU %.9g, %s %.9g, rms %.3g, %.3g times the tolerance %g", name,
                     (long long)at, (long long)x->n, value(x->cpu_type, x->cpu, at), p->gpu.name,
                     value(x->type, gpu, at), rms, worst, tolerance);
    free(gpu);
}

void pair_same(const pair *p, pair_array a, const char *name) {
    const pair_one *x = &p->arrays[a];
    void *gpu = allocate(bytes_of(x, x->type));
    move((pair *)p, gpu, x->gpu, bytes_of(x, x->type), false);
    for (int64_t i = 0; i < x->n; i++) {
        double want = value(x->cpu_type, x->cpu, i), got = value(x->type, gpu, i);
        if (x->type == WEFT_BF16) want = bf16_to_float(float_to_bf16((float)want));
        bool same = isnan(want) ? isnan(got) : want == got && signbit(want) == signbit(got);
        ck_assert_msg(same, "%s[%lld] of %lld: %s %.9g, not %.9g", name, (long long)i, (long long)x->n,
                      p->gpu.name, got, want);
    }
    free(gpu);
}
