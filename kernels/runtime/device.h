/* A device: where arrays live and which table of operations works on them.
 *
 * Two stacks of memory belong to it: `act`, which holds what the forward pass saves for the backward pass
 * and, on top of it, every workspace. With dry = true no array is touched: operations take their workspace
 * from the measuring arena and return. Running a step against a dry device gives the exact bytes that a step
 * needs; this is how `weft plan` and the trainer size the arenas. */
#ifndef WEFT_DEVICE_H
#define WEFT_DEVICE_H

#include "runtime/arena.h"
#include "runtime/real.h"
#include "runtime/status.h"

#include <stdbool.h>

struct weft_ops;

typedef struct weft_device {
    const char *name;           /* "cpu" */
    const struct weft_ops *ops; /* kernels/ops.h */
    weft_dtype act_dtype;       /* element type behind weft_act */
    int threads;                /* host threads that the operations use */
    bool dry;
    weft_arena act;
} weft_device;

/* Opens the CPU: picks the widest instruction set that this binary holds and this processor has (WEFT_ISA in
 * the environment asks for a narrower one: "v2", "v3", "v4", "native"), and as many threads as
 * OMP_NUM_THREADS says. The act arena is left empty: see weft_device_size. Fails with WEFT_EINPUT when the
 * wanted ISA is not there. */
weft_status weft_device_open_cpu(weft_device *d);

/* The act arena: measuring and dry (bytes == 0), or real with that many bytes. Replaces the one before. */
weft_status weft_device_measure(weft_device *d);
weft_status weft_device_size(weft_device *d, size_t act_bytes);
void weft_device_close(weft_device *d);

#endif
