/* How fast ranks reach each other: collectives of the ranks of a node, and of one rank of each node. */
#include "parallel/comm.h"
#include "train/clock.h"
#include "train/plan/bench.h"
#include "train/statistics.h"

#include <math.h>
#include <stdlib.h>

#define SMALL 64 /* bytes of a block: what such a collective takes is its latency */
enum { REPEAT = 20 };

/* A gather, or a reduction, of blocks of `bytes`; seconds, of the slowest rank. */
static double time_once(weft_comm *c, weft_group_kind g, void *memory, int64_t bytes, bool reduce) {
    const int repeat = bytes == SMALL ? REPEAT : 1;
    weft_device_finish(c->device);
    weft_world_barrier();
    double began = weft_clock();
    for (int i = 0; i < repeat; i++)
        if (reduce)
            weft_reduce_scatter(c, g, "benchmark", WEFT_REAL_DTYPE, memory, memory,
                                bytes / (int64_t)sizeof(weft_real), &c->device->act);
        else
            weft_all_gather(c, g, "benchmark", memory, bytes);
    weft_device_finish(c->device);
    return (double)weft_world_max_i64((int64_t)(1e9 * (weft_clock() - began))) / 1e9 / repeat;
}

static void measure(weft_comm *c, weft_group_kind g, void *memory, int64_t bytes, int rounds,
                    weft_link *out) {
    double gather[WEFT_BENCH_ROUNDS], reduce[WEFT_BENCH_ROUNDS], small[WEFT_BENCH_ROUNDS];
    const int others = c->group[g].size - 1;
    if (!others) return;
    for (int i = -1; i < rounds; i++) { /* the first round opens connections */
        const int at = i < 0 ? 0 : i;
        gather[at] = (double)(others * bytes) / time_once(c, g, memory, bytes, false);
        reduce[at] = (double)(others * bytes) / time_once(c, g, memory, bytes, true);
        small[at] = time_once(c, g, memory, SMALL, false) / ceil(log2(others + 1));
    }
    *out = (weft_link){weft_median(gather, rounds), weft_median(reduce, rounds), weft_median(small, rounds)};
}

weft_status weft_bench_links(const weft_world *w, weft_device *d, int rounds, weft_machine *out) {
    const bool whole = w->size % w->local_size == 0 && !weft_world_any(w->local_size != out->node);
    const int near = whole ? w->local_size : 1;
    const int64_t block = weft_device_on_host(d) ? 4 << 20 : 64 << 20;
    const weft_mesh_sizes sizes = {{1, w->size / near, 1, near, 1}};
    weft_arena memory = {0};
    weft_comm c = {0};
    weft_mesh mesh;
    if (w->size == 1) return WEFT_OK;
    WEFT_TRY(weft_mesh_make(&mesh, &sizes, w->size, w->rank));
    WEFT_TRY(weft_comm_open(&c, &mesh, 1, false, d));
    int widest = near > w->size / near ? near : w->size / near;
    weft_status st = weft_device_size(d, (size_t)widest * (size_t)block * 2);
    if (st == WEFT_OK) st = weft_device_arena(d, &memory, "benchmark", (size_t)widest * (size_t)block);
    st = weft_world_agree(st);
    if (st == WEFT_OK) {
        measure(&c, WEFT_GROUP_TP, memory.base, block, rounds, &out->link[WEFT_NODE]);
        measure(&c, WEFT_GROUP_SHARD, memory.base, block, rounds, &out->link[WEFT_NETWORK]);
    }
    weft_device_arena_free(d, &memory);
    weft_comm_close(&c);
    return st;
}
