/* The sum of gradients over the global batch of n microbatches.
 *
 * With train.deterministic = layout it is one fixed tree, whatever rank works on which microbatch: n = 2^a m,
 * m odd. The batch is m blocks of 2^a neighbours; a block is summed pairwise, (0+1), (2+3), then
 * ((0+1)+(2+3)) and so on, and the blocks one after the other. Within a block the levels of the tree are,
 * from the leaves up:
 *
 *   fsdp neighbours, which work at the same time     reduce-scatter in tree order (store.c, comm.c)
 *   a rank's microbatches, one after the other       a binary counter of buffers (here)
 *   dp replicas, each with a contiguous part         all-reduce in tree order (comm.c)
 *
 * so that any powers of two of dp and fsdp give the same bits (on the same cp, tp and ep; with ep > fsdp*cp
 * an expert adds the tokens of several replicas in one product, and its gradient depends on dp). When dp*fsdp
 * does not divide 2^a the batch is one block, summed by the same steps: the same bits again on the same
 * layout only.
 *
 * With deterministic = run, a rank's microbatches are added one after the other into one buffer. */
#include "runtime/log.h"
#include "train/trainer.h"

static int64_t data_ranks(const weft_trainer *t) {
    return (int64_t)t->comm.mesh.size[WEFT_AXIS_DP] * t->comm.mesh.size[WEFT_AXIS_FSDP];
}

weft_status weft_trainer_divide(weft_trainer *t) {
    const weft_config *c = t->config;
    int64_t ranks = data_ranks(t), n = c->train.global_batch / c->train.micro_batch;
    t->micro_total = n;
    if (n % ranks)
        WEFT_FAIL(
            WEFT_EINPUT,
            "train.global_batch=%lld is %lld microbatches of train.micro_batch=%lld, which %lld ranks (dp x "
            "fsdp) cannot share evenly; make the global batch a multiple of %lld",
            (long long)c->train.global_batch, (long long)n, (long long)c->train.micro_batch, (long long)ranks,
            (long long)(c->train.micro_batch * ranks));
    t->micro_local = n / ranks;
    t->blocks = 1;
    t->grads_count = 1;
    if (c->train.deterministic == WEFT_DET_LAYOUT) {
        int64_t odd = n;
        while (odd % 2 == 0) odd /= 2;
        if (n / odd % ranks == 0) t->blocks = odd;
        for (int64_t left = t->micro_local / t->blocks; left > 1; left /= 2) t->grads_count++;
        if (t->blocks > 1) t->grads_count++;
    }
    return WEFT_OK;
}

int64_t weft_trainer_micro(const weft_trainer *t, int dp, int fsdp, int64_t i) {
    const int *size = t->comm.mesh.size;
    int64_t leaves = t->micro_total / t->blocks, steps = t->micro_local / t->blocks;
    return i / steps * leaves + dp * (leaves / size[WEFT_AXIS_DP]) + i % steps * size[WEFT_AXIS_FSDP] + fsdp;
}

static void one_pass(weft_trainer *t, int64_t i, const weft_objective *o, weft_real *grads, bool accumulate) {
    weft_microbatch mb = weft_trainer_microbatch(t, i);
    weft_store_pass_begin(t->store, grads, accumulate);
    weft_model_train(&t->model, &t->device, t->store, &mb, o, &t->losses_local[i]);
    weft_store_pass_end(t->store);
}

/* Buffers that hold nothing. */
typedef struct pool {
    weft_real *spare[WEFT_MAX_GRADIENTS];
    int count;
} pool;

/* Sum over this rank's microbatches of block `b`: a binary counter, whose digits are sums of 2^level
 * neighbours. */
static weft_real *sum_block(weft_trainer *t, int64_t b, const weft_objective *o, pool *p) {
    const weft_ops *ops = t->device.ops;
    weft_real *held[WEFT_MAX_GRADIENTS] = {NULL}, *sum = NULL;
    int64_t steps = t->micro_local / t->blocks, n = t->model.table.shards;
    if (t->config->train.deterministic == WEFT_DET_RUN) {
        sum = p->spare[--p->count];
        for (int64_t i = 0; i < steps; i++) one_pass(t, i, o, sum, i > 0);
        return sum;
    }
    for (int64_t i = 0; i < steps; i++) {
        weft_real *leaf = p->spare[--p->count];
        one_pass(t, b * steps + i, o, leaf, false);
        int level = 0;
        for (; held[level]; level++) {
            ops->add_real(&t->device, held[level], leaf, n);
            p->spare[p->count++] = leaf;
            leaf = held[level];
            held[level] = NULL;
        }
        held[level] = leaf;
    }
    for (int level = 0; level < WEFT_MAX_GRADIENTS; level++) {
        if (!held[level]) continue;
        if (sum) {
            ops->add_real(&t->device, held[level], sum, n);
            p->spare[p->count++] = sum;
        }
        sum = held[level];
    }
    return sum;
}

static void sum_replicas(weft_trainer *t, weft_real *grads) {
    const weft_params *p = &t->model.table;
    for (int i = 0; i < p->bucket_count; i++) {
        const weft_bucket *b = &p->buckets[i];
        weft_all_reduce(&t->comm, weft_bucket_replicas(b), b->name, WEFT_REAL_DTYPE, grads + b->shard_at,
                        b->shard.count, &t->device.act);
    }
}

weft_real *weft_trainer_sum_gradients(weft_trainer *t, const weft_objective *o) {
    const weft_params *p = &t->model.table;
    weft_real *total = NULL;
    pool spare = {.count = t->grads_count};
    for (int i = 0; i < t->grads_count; i++) spare.spare[i] = t->grads[i];
    for (int64_t b = 0; b < t->blocks; b++) {
        weft_real *sum = sum_block(t, b, o, &spare);
        sum_replicas(t, sum);
        if (total) {
            t->device.ops->add_real(&t->device, total, sum, p->shards);
            spare.spare[spare.count++] = sum;
        } else {
            total = sum;
        }
    }
    /* The first bucket is of what tp ranks hold alike: each has a part of its gradient. */
    const weft_bucket *shared = &p->buckets[0];
    weft_all_reduce(&t->comm, WEFT_GROUP_TP, shared->name, WEFT_REAL_DTYPE, total + shared->shard_at,
                    shared->shard.count, &t->device.act);
    return total;
}
