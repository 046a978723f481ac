/* `weft bench`: its parts. */
#ifndef WEFT_BENCH_H
#define WEFT_BENCH_H

#include "parallel/world.h"
#include "train/plan/machine_file.h"
#include "train/trainer.h"

enum { WEFT_BENCH_ROUNDS = 101 }; /* at most */

/* Collective. Rates of this rank's device while all ranks work, the mean over ranks: products of the type
 * that it is opened for, and, the first time, all else. A rate is the median of `rounds` measurements, which
 * come in turn, so that what else the machine does meets all rates. */
weft_status weft_bench_machine(const weft_world *w, weft_device *d, weft_product_type type, int rounds,
                               weft_machine *out);
/* Of the links between ranks: fills out->link; out->node is known. By the wall's clock. */
weft_status weft_bench_links(const weft_world *w, weft_device *d, int rounds, weft_machine *out);

/* A clock for what this rank computes: with one thread on the CPU the process's own time, so that what else
 * the machine does does not count; otherwise the wall's. */
typedef double weft_bench_clock(void);
weft_bench_clock *weft_bench_clock_of(const weft_device *d);
bool weft_bench_own_time(const weft_device *d); /* is it the process's? */

weft_status weft_cmd_bench_machine(const weft_world *w, int argc, char **argv);
weft_status weft_cmd_bench_step(const weft_world *w, int argc, char **argv);

#endif
