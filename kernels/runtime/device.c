#include "runtime/device.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

weft_status weft_device_measure(weft_device *d) {
    weft_device_arena_free(d, &d->act);
    WEFT_TRY(weft_arena_init_measuring(&d->act, "activation"));
    d->dry = true;
    return WEFT_OK;
}

weft_status weft_device_size(weft_device *d, size_t act_bytes) {
    weft_device_arena_free(d, &d->act);
    WEFT_TRY(weft_device_arena(d, &d->act, "activation", act_bytes));
    d->dry = false;
    return WEFT_OK;
}

void weft_device_close(weft_device *d) {
    weft_device_arena_free(d, &d->act);
    if (d->driver && d->driver->close) d->driver->close(d);
    *d = (weft_device){0};
}

/* ---- memory ---- */

weft_status weft_device_arena(weft_device *d, weft_arena *a, const char *name, size_t bytes) {
    void *base;
    if (weft_device_on_host(d)) return weft_arena_init(a, name, bytes);
    bytes = weft_arena_round(bytes);
    if (d->driver->alloc(d, bytes, &base) != WEFT_OK)
        WEFT_FAIL(
            WEFT_ENOMEM,
            "%s: the %s arena needs %.2f GiB, more than is free there (see `weft plan`; make the batch, the "
            "sequence or the model smaller, or use more GPUs)",
            d->name, name, (double)bytes / (1 << 30));
    *a = (weft_arena){.name = name, .base = base, .capacity = bytes, .foreign = true};
    return WEFT_OK;
}

void weft_device_arena_free(weft_device *d, weft_arena *a) {
    if (a->foreign && a->base) d->driver->free(d, a->base);
    weft_arena_destroy(a);
}

weft_status weft_host_memory(weft_device *d, size_t bytes, void **out) {
    weft_status st = WEFT_OK;
    void *p = NULL;
    if (weft_device_on_host(d))
        st = (p = calloc(1, bytes ? bytes : 1)) ? WEFT_OK : WEFT_ENOMEM;
    else
        st = d->driver->alloc_pinned(d, bytes ? bytes : 1, &p);
    if (st != WEFT_OK)
        WEFT_FAIL(WEFT_ENOMEM, "no host memory for %zu bytes that %s can reach", bytes, d->name);
    *out = p;
    return WEFT_OK;
}

void weft_host_memory_free(weft_device *d, void *p) {
    if (!p) return;
    if (weft_device_on_host(d))
        free(p);
    else
        d->driver->free_pinned(d, p);
}

static void copy(void *to, const void *from, size_t bytes) {
    if (to != from && bytes) memcpy(to, from, bytes);
}

void weft_upload(weft_device *d, void *to, const void *pinned, size_t bytes) {
    if (d->dry || !bytes) return;
    if (weft_device_on_host(d))
        copy(to, pinned, bytes);
    else
        d->driver->upload(d, to, pinned, bytes);
}

void weft_download(weft_device *d, void *pinned, const void *from, size_t bytes) {
    if (d->dry || !bytes) return;
    if (weft_device_on_host(d))
        copy(pinned, from, bytes);
    else
        d->driver->download(d, pinned, from, bytes);
}

/* Piece by piece through pinned memory. */
static weft_status pass(weft_device *d, char *to, const char *from, size_t bytes, bool up) {
    const size_t piece = (size_t)16 << 20;
    void *pinned = NULL;
    if (d->dry) return WEFT_OK;
    if (weft_device_on_host(d)) {
        copy(to, from, bytes);
        return WEFT_OK;
    }
    WEFT_TRY(weft_host_memory(d, bytes < piece ? bytes : piece, &pinned));
    for (size_t at = 0; at < bytes; at += piece) {
        size_t n = bytes - at < piece ? bytes - at : piece;
        if (up) {
            memcpy(pinned, from + at, n);
            weft_upload(d, to + at, pinned, n);
        } else {
            weft_download(d, pinned, from + at, n);
        }
        weft_device_finish(d);
        if (!up) memcpy(to + at, pinned, n);
    }
    weft_host_memory_free(d, pinned);
    return WEFT_OK;
}
weft_status weft_device_write(weft_device *d, void *to, const void *host, size_t bytes) {
    return pass(d, to, host, bytes, true);
}
weft_status weft_device_read(weft_device *d, void *host, const void *from, size_t bytes) {
    return pass(d, host, from, bytes, false);
}

/* ---- order ---- */

weft_status weft_mark_make(weft_device *d, weft_mark *m) {
    *m = (weft_mark){0};
    return weft_device_on_host(d) || d->dry ? WEFT_OK : d->driver->mark_make(d, m);
}

void weft_mark_free(weft_device *d, weft_mark *m) {
    if (m->event) d->driver->mark_free(d, m);
    *m = (weft_mark){0};
}

void weft_mark_set(weft_device *d, weft_mark *m) {
    if (m->event) d->driver->mark(d, m);
}

void weft_wait_mark(weft_device *d, const weft_mark *m) {
    if (m->event) d->driver->wait_mark(d, m);
}

static void (*g_poll)(void *of);
static void *g_poll_of;

void weft_device_set_poll(void (*poll)(void *of), void *of) {
    g_poll = poll;
    g_poll_of = of;
}

void weft_host_wait(weft_device *d, const weft_mark *m) {
    const struct timespec moment = {.tv_nsec = 20000};
    if (!m->event) return;
    for (int64_t i = 0;; i++) {
        bool reached = d->driver->reached(d, m);
        if (g_poll) g_poll(g_poll_of);
        if (reached) return;
        if (i > 1000) nanosleep(&moment, NULL);
    }
}

void weft_device_finish(weft_device *d) {
    if (!weft_device_on_host(d) && !d->dry) d->driver->finish(d);
}
