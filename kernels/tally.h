/* What operations work: a table of operations that takes the place of a device's own, tells what each call
 * does, and passes it on. On a dry device this counts a step that nobody computes; on the CPU it can take the
 * time of each.
 *
 * Counted is what the operation's contract (ops.h) makes necessary, whatever a backend does: every array once
 * in and once out, in the device's types. Where the contract leaves it to the data:
 *   attention     every query sees all keys up to its own (one document a sequence)
 *   experts       the rows that a dry device makes room for are those that all members of the ep group could
 *                 send; counted are a member's even share of them. Groups are of one size. */
#ifndef WEFT_TALLY_H
#define WEFT_TALLY_H

#include "ops.h"

typedef enum weft_work_kind {
    WEFT_WORK_PRODUCT, /* matrix products of linear layers, the head's and the router's included */
    WEFT_WORK_EXPERTS, /* those of groups of rows */
    WEFT_WORK_ATTENTION,
    WEFT_WORK_SCAN,
    WEFT_WORK_CONV,
    WEFT_WORK_NORM,
    WEFT_WORK_ELEMENTWISE,
    WEFT_WORK_ROUTING, /* choice of experts, rows to them and back */
    WEFT_WORK_EMBEDDING,
    WEFT_WORK_LOSS,
    WEFT_WORK_OPTIMIZER, /* sums of gradients, their norm, the update */
    WEFT_WORK_KINDS
} weft_work_kind;
const char *weft_work_name(weft_work_kind k); /* "matrix products" ... */

typedef struct weft_work {
    weft_work_kind kind;
    const char *op; /* "linear_fwd" */
    /* `groups` products C[m,n] of depth k; of the scan m tokens, n channels, k states, of
     * the convolution m tokens, n channels; else 0. */
    int64_t m, n, k, groups;
    double product; /* FLOP of matrix products: 2 for each multiplication */
    double vector;  /* additions and multiplications besides */
    double special; /* exponentials, logarithms, roots, quotients */
    double bytes;   /* read and written */
    double seconds; /* by the tally's clock */
} weft_work;

typedef struct weft_tally {
    weft_ops ops; /* the table; the first member, by which an operation finds its tally */
    const weft_ops *inner;
    int64_t calls[WEFT_WORK_KINDS];
    weft_work sum[WEFT_WORK_KINDS]; /* without shapes */
    double (*clock)(void);          /* seconds; on a device that queues nothing; NULL: times are not taken */
    void (*see)(void *of, const weft_work *w); /* of each call, or NULL */
    void *of;
    int64_t slots;    /* of the last moe_sort: M*k */
    int64_t came;     /* of the last moe_regroup: rows; 0: none */
    bool expert_rows; /* the last product was of groups of rows */
} weft_tally;

/* From start to stop the device's operations are counted. `see`, `of` and `clock` are set by the caller, the
 * rest is 0. The tally stays where it is meanwhile. */
void weft_tally_start(weft_tally *t, weft_device *d);
void weft_tally_stop(weft_tally *t, weft_device *d);

#endif
