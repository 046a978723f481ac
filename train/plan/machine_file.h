/* The description of a machine: what one rank of it can do, and the links between ranks. Written by `weft
 * bench machine`, or by hand from data sheets (configs/machines). Rates are of one rank, a GPU or a process,
 * while all ranks of its node work. A file is YAML with these keys; {} are optional:
 *
 *   name, {source}                 text
 *   {overlap}                      true: the gathering of weights and the reduction of gradients run beside
 * the computing (false) {memory}                       bytes {node}                         ranks that share
 * the fast link (1) {launch}                       seconds that an operation takes beside its work (0)
 *   bandwidth                      bytes of memory read and written in a second
 *   special                        exponentials, logarithms, roots, quotients in a second
 *   vector                         FLOP/s outside matrix products
 *   products.TYPE.DIRECTION        FLOP/s of matrix products by the smallest of their three sizes. TYPE:
 * fp32, tf32, bf16, one at least; DIRECTION: forward, data, weights; products.TYPE: all three
 *   {attention.forward, .backward} FLOP/s of the products within attention, by the length of the sequence;
 * without: those of matrix products {scan.forward, .backward}      updates of a state in a second; without:
 * from special, vector, bandwidth {conv.forward, .backward}      tokens x channels in a second; without:
 * likewise {link.node, link.network}      .bandwidth, or .gather and .reduce: bytes that a rank receives in a
 * second; .latency: seconds that a collective of two ranks takes at least {efficiency} .products .attention
 * .bandwidth .special .vector .links: the share of a rate that is expected to be reached (1)
 *
 * A rate "by" a size is one number, or a mapping of sizes to numbers, between which it is interpolated. */
#ifndef WEFT_MACHINE_FILE_H
#define WEFT_MACHINE_FILE_H

#include "runtime/status.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum { WEFT_RATE_POINTS = 16 };
typedef struct weft_rates {
    int count; /* of points, by rising size; the size of a single one is 0: for all */
    double at[WEFT_RATE_POINTS], rate[WEFT_RATE_POINTS];
} weft_rates;
/* At `size`: between two points as a power of the size, outside them the nearest one's; 0 without points. */
double weft_rates_at(const weft_rates *r, double size);
double weft_rates_most(const weft_rates *r);
/* A point more, in its place. False when there is no room, or there is one of this size. */
bool weft_rates_add(weft_rates *r, double at, double rate);

typedef enum weft_product_type {
    WEFT_PRODUCT_FP32,
    WEFT_PRODUCT_TF32,
    WEFT_PRODUCT_BF16,
    WEFT_PRODUCT_TYPES
} weft_product_type;
const char *weft_product_type_name(weft_product_type t);
typedef enum weft_direction {
    WEFT_FORWARD,
    WEFT_BACKWARD_DATA,
    WEFT_BACKWARD_WEIGHTS,
    WEFT_DIRECTIONS
} weft_direction;

typedef struct weft_link {
    double gather, reduce, latency; /* gather 0: there is none */
} weft_link;
typedef enum weft_reach { WEFT_NODE, WEFT_NETWORK, WEFT_REACHES } weft_reach;

typedef struct weft_machine {
    char name[128], source[256];
    bool overlap;
    double memory, node, launch, bandwidth, special, vector;
    weft_rates products[WEFT_PRODUCT_TYPES][WEFT_DIRECTIONS];
    weft_rates attention[2], scan[2], conv[2]; /* forward, backward */
    weft_link link[WEFT_REACHES];
    struct {
        double products, attention, bandwidth, special, vector, links;
    } efficiency;
} weft_machine;

/* WEFT_EINPUT with the file, line and column of what is wrong. */
weft_status weft_machine_read(weft_machine *m, const char *path);
/* `which`: a file; or the name of one, which is looked for in machines/ beside the configuration, in
 * machines/ one folder up, and in configs/machines. */
weft_status weft_machine_find(weft_machine *m, const char *which, const char *config);
/* As YAML that weft_machine_read reads; efficiencies of 1 and what is unknown are left out. */
void weft_machine_print(const weft_machine *m, FILE *out);

#endif
