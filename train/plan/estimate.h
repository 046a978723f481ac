/* How long a step takes, from what its operations work (kernels/tally.h), what its collectives move, and the
 * description of a machine. */
#ifndef WEFT_ESTIMATE_H
#define WEFT_ESTIMATE_H

#include "tally.h"
#include "train/plan/machine_file.h"
#include "train/trainer.h"

typedef struct weft_estimate {
    weft_work work[WEFT_WORK_KINDS]; /* of a rank, in a step; seconds: estimated */
    int64_t calls[WEFT_WORK_KINDS];
    double wire[WEFT_AXES + 1]; /* seconds of collectives by axis; the last: control */
    double compute, blocking,
        beside;     /* seconds: operations; collectives that they wait for; those that run beside */
    double exposed; /* of `beside`, what operations do not cover */
    double step;
    double peak; /* FLOP/s of matrix products of a rank, before efficiency */
    weft_product_type type;
} weft_estimate;

/* Seconds of one operation, products in `type`:
 *   launch + the largest of  FLOP / rate of products (by the smallest of m, n, k),  bytes / bandwidth,
 *                            special / rate,  additions and multiplications / rate */
double weft_estimate_work(const weft_machine *m, weft_product_type type, const weft_work *w);

/* Seconds of one collective for a rank that counts `bytes` (comm.h) in a group of `size` ranks, `near` of
 * them, itself included, on its node. Gathers go round in a ring: what comes from other nodes comes through
 * the links of all near members; everything else goes from rank to rank, each through its own link. latency *
 * log2(size) besides. */
double weft_estimate_collective(const weft_machine *m, weft_collective op, int size, int near, double bytes);

/* A step of the dry trainer on its mesh:
 *   step = operations + collectives, of which those of fsdp, where the machine's overlap is true, cost only
 * what exceeds the operations' time. WEFT_EINPUT when the machine has no products of the type that the
 * configuration computes in, or no link as far as the mesh reaches. */
weft_status weft_estimate_step(const weft_machine *m, weft_trainer *dry, weft_estimate *out);

#endif
