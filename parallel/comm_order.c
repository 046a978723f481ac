#include "parallel/comm_order.h"
#include "parallel/comm_backend.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { OPEN = 256, TENSOR = 48 };

typedef struct open_collective {
    weft_mark done;
    weft_ledger *ledger;
    uint64_t record;
    weft_group_kind group;
    char tensor[TENSOR];
} open_collective;

struct weft_comm_order {
    weft_comm *comm;
    weft_device side;
    weft_mark before;
    open_collective open[OPEN]; /* ticket t lies at t % OPEN */
    uint64_t first, next;       /* those from first on, below next, are not known to be done */
    weft_comm_order *more;
};

static weft_comm_order *g_orders; /* of all open communicators */

static open_collective *at(weft_comm_order *o, uint64_t ticket) {
    return &o->open[ticket % OPEN];
}

/* ---- what is done, and what has failed ---- */

static void close_done(weft_comm_order *o) {
    const weft_driver *driver = o->side.driver;
    for (; o->first < o->next; o->first++) {
        open_collective *c = at(o, o->first);
        if (!driver->reached(&o->side, &c->done)) break;
        /* The ledger may have been replaced, or taken away, since. */
        if (c->ledger == o->comm->ledger) weft_ledger_leave(c->ledger, c->record);
    }
}

static void end_if_failed(weft_comm_order *o) {
    char why[512], at_what[128] = "no collective of this rank is under way";
    if (!weft_nccl_failed(why, sizeof why)) return;
    if (o->first < o->next) {
        const open_collective *c = at(o, o->first);
        snprintf(at_what, sizeof at_what, "this rank was in, or on the way to, %s of the %s group", c->tensor,
                 weft_group_name(c->group));
    }
    (void)weft_fail(WEFT_EINTERNAL, "NCCL: %s; %s", why, at_what);
    weft_nccl_abort();
    _exit(1); /* mpirun ends the other ranks */
}

/* What the device is in, or comes to next: the oldest open collective, or the one that the host is queuing.
 */
static void tell_ledger(weft_comm_order *o, uint64_t queuing) {
    const open_collective *c = at(o, o->first);
    if (o->first == o->next)
        weft_ledger_wait_device(o->comm->ledger, queuing);
    else if (c->ledger == o->comm->ledger)
        weft_ledger_wait_device(c->ledger, c->record);
}

void weft_order_poll(weft_comm_order *o) {
    if (!o) return;
    close_done(o);
    end_if_failed(o);
    tell_ledger(o, 0);
}

static void poll_all(void *of) {
    (void)of;
    for (weft_comm_order *o = g_orders; o; o = o->more) weft_order_poll(o);
}

/* ---- open and close ---- */

static void release(weft_comm_order *o) {
    for (int i = 0; i < OPEN; i++) weft_mark_free(&o->side, &o->open[i].done);
    weft_mark_free(&o->side, &o->before);
    free(o);
}

weft_status weft_order_open(weft_comm_order **out, weft_comm *c) {
    weft_comm_order *o = calloc(1, sizeof *o);
    if (!o) WEFT_FAIL(WEFT_ENOMEM, "no memory for the order of collectives");
    o->comm = c;
    o->side = *c->device;
    o->side.stream = WEFT_STREAM_COMM;
    o->side.act = (weft_arena){.name = "communication"};
    weft_status st = weft_mark_make(&o->side, &o->before);
    for (int i = 0; i < OPEN && st == WEFT_OK; i++) st = weft_mark_make(&o->side, &o->open[i].done);
    if (st != WEFT_OK) {
        release(o);
        return st;
    }
    o->more = g_orders;
    g_orders = o;
    weft_device_set_poll(poll_all, NULL);
    *out = o;
    return WEFT_OK;
}

void weft_order_close(weft_comm_order *o) {
    if (!o) return;
    weft_device_finish(&o->side);
    weft_order_poll(o);
    weft_comm_order **link = &g_orders;
    while (*link != o) link = &(*link)->more;
    *link = o->more;
    if (!g_orders) weft_device_set_poll(NULL, NULL);
    release(o);
}

weft_device *weft_order_side(weft_comm_order *o) {
    return &o->side;
}

/* ---- one collective ---- */

void weft_order_begin(weft_comm_order *o, uint64_t record) {
    tell_ledger(o, record); /* NCCL may wait for the other hosts while it is queued */
    weft_mark_set(o->comm->device, &o->before);
    weft_wait_mark(&o->side, &o->before);
}

uint64_t weft_order_end(weft_comm_order *o, weft_group_kind g, const char *tensor, uint64_t record) {
    if (o->next - o->first == OPEN) {
        weft_host_wait(&o->side, &at(o, o->first)->done);
        close_done(o);
    }
    open_collective *c = at(o, o->next);
    c->ledger = o->comm->ledger;
    c->record = record;
    c->group = g;
    snprintf(c->tensor, sizeof c->tensor, "%s", tensor);
    weft_mark_set(&o->side, &c->done);
    return o->next++;
}

void weft_order_wait(weft_comm_order *o, uint64_t ticket) {
    if (ticket >= o->first) weft_wait_mark(o->comm->device, &at(o, ticket)->done);
}
