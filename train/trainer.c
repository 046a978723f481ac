#include "train/trainer.h"
#include "model/layout.h"
#include "runtime/hash.h"
#include "runtime/log.h"
#include "train/schedule.h"

#include <stdlib.h>
#include <string.h>

/* ---- memory ---- */

static void lay_out(weft_trainer *t, weft_arena *a) {
    size_t shards = (size_t)t->model.table.shards * sizeof(weft_real);
    size_t local = (size_t)t->micro_local * sizeof(weft_loss);
    t->params = weft_arena_push(a, shards);
    t->adam_m = weft_arena_push(a, shards);
    t->adam_v = weft_arena_push(a, shards);
    t->params_act = NULL;
    if (t->device.act_dtype != WEFT_REAL_DTYPE)
        t->params_act =
            weft_arena_push(a, (size_t)t->model.table.shards * weft_dtype_size(t->device.act_dtype));
    for (int i = 0; i < t->grads_count; i++) t->grads[i] = weft_arena_push(a, shards);
    weft_store_place(t->store, a, t->params, t->params_act);
    t->losses_local = weft_arena_push(a, local);
    t->losses_all = weft_arena_push(a, local * (size_t)t->comm.mesh.ranks);
    t->squares = weft_arena_push(a, sizeof *t->squares);
    t->clip = weft_arena_push(a, sizeof *t->clip);
    weft_trainer_place_batch(t, a);
}

weft_trainer_memory weft_trainer_bytes(const weft_trainer *t) {
    size_t shards = (size_t)t->model.table.shards * sizeof(weft_real);
    weft_store_bytes store = weft_store_memory(t->store);
    size_t working = t->params_act ? (size_t)t->model.table.shards * weft_dtype_size(t->device.act_dtype) : 0;
    weft_trainer_memory m = {.parameters = shards + working,
                             .optimizer = 2 * shards,
                             .gradients = (size_t)t->grads_count * shards,
                             .gathered = store.weights + store.gradients,
                             .activations = t->model.kept_bytes};
    m.workspace = (t->device.dry ? t->device.act.peak : t->device.act.capacity) - m.activations;
    m.total = t->state.peak + m.activations + m.workspace;
    m.buffers = t->state.peak - m.parameters - m.optimizer - m.gradients - m.gathered;
    return m;
}

/* ---- opening ---- */

static weft_objective objective(const weft_trainer *t, int64_t targets) {
    return (weft_objective){.ce_scale = targets > 0 ? 1.0 / (double)targets : 0,
                            .extra_scale = 1.0 / (double)t->micro_total,
                            .loss_chunk = t->config->train.loss_chunk};
}

static void find_norm(weft_trainer *t, const weft_real *grads);
static void gather_losses(weft_trainer *t);

/* A whole step on the dry device: the arena's peak is the memory that a step needs, the communicator's count
 * its traffic. */
static void measure_step(weft_trainer *t) {
    weft_objective o = objective(t, 1);
    int64_t targets = 0;
    memset(t->comm.bytes, 0, sizeof t->comm.bytes);
    weft_all_reduce_i64_host(&t->comm, WEFT_GROUP_WORLD, "targets", &targets, 1);
    const weft_real *grads = weft_trainer_sum_gradients(t, &o);
    gather_losses(t);
    find_norm(t, grads);
    weft_store_changed(t->store);
    memcpy(t->traffic, t->comm.bytes, sizeof t->traffic);
}

/* What the configuration asks for and this binary and machine have. A dry one needs no GPU. */
static weft_status open_device(weft_trainer *t, bool dry) {
    const weft_config *c = t->config;
    bool cuda = c->device == WEFT_DEVICE_CUDA || (c->device == WEFT_DEVICE_AUTO && weft_cuda_devices() > 0);
    bool bf16 = c->precision == WEFT_PRECISION_BF16, bf16_sums = c->mesh.reduce == WEFT_PRECISION_BF16;
    if (cuda)
        return weft_device_open_cuda(&t->device, &(weft_cuda_options){.local_rank = t->world.local_rank,
                                                                      .act = bf16 ? WEFT_BF16 : WEFT_F32,
                                                                      .tf32 = c->tf32,
                                                                      .dry = dry,
                                                                      .attention = c->attention});
    if (bf16 || bf16_sums)
        WEFT_FAIL(WEFT_EINPUT, "%s=bf16 needs a GPU, and this run is on the CPU; use %s=fp32%s",
                  bf16 ? "precision" : "mesh.reduce", bf16 ? "precision" : "mesh.reduce",
                  c->device == WEFT_DEVICE_AUTO ? ", or say device=cuda for the reason why there is none"
                                                : "");
    WEFT_TRY(weft_device_open_cpu(&t->device));
    t->device.threads = weft_world_threads(&t->world);
    return WEFT_OK;
}

static weft_dtype reduce_type(const weft_config *c) {
    return c->mesh.reduce == WEFT_PRECISION_BF16 ? WEFT_BF16 : WEFT_REAL_DTYPE;
}

static weft_status open_model(weft_trainer *t, bool dry) {
    const weft_config *c = t->config;
    weft_mesh mesh;
    WEFT_TRY(weft_mesh_make(&mesh, &c->mesh.sizes, t->world.size, t->world.rank));
    WEFT_TRY(weft_layout_check(&c->model, c->train.micro_batch, c->train.seq_len, &mesh));
    WEFT_TRY(open_device(t, dry));
    WEFT_TRY(weft_comm_open(&t->comm, &mesh, weft_layout_kv_ranks(&c->model, &mesh), true, &t->device));
    WEFT_TRY(weft_trainer_divide(t));
    WEFT_TRY(weft_model_build(&t->model, &c->model, c->train.recompute, c->train.recompute_layers,
                              c->mesh.ep_passes, t->device.act_dtype, &t->comm));
    WEFT_TRY(weft_store_open(&t->store, &(weft_store_options){.comm = &t->comm,
                                                              .device = &t->device,
                                                              .buckets = t->model.table.buckets,
                                                              .bucket_count = t->model.table.bucket_count,
                                                              .units = t->model.units,
                                                              .reshard = c->mesh.reshard,
                                                              .act = t->device.act_dtype,
                                                              .reduce = reduce_type(c),
                                                              .prefetch = c->mesh.prefetch}));
    return WEFT_OK;
}

static weft_status measure(weft_trainer *t, bool dry) {
    WEFT_TRY(open_model(t, dry));
    WEFT_TRY(weft_device_measure(&t->device));
    WEFT_TRY(weft_arena_init_measuring(&t->state, "state"));
    lay_out(t, &t->state);
    measure_step(t);
    return WEFT_OK;
}

static weft_status allocate(weft_trainer *t) {
    size_t state = t->state.peak, act = t->device.act.peak;
    weft_arena_destroy(&t->state);
    WEFT_TRY(weft_device_arena(&t->device, &t->state, "state", state));
    WEFT_TRY(weft_device_size(&t->device, act));
    lay_out(t, &t->state);
    WEFT_TRY(weft_trainer_open_staging(t));
    WEFT_TRY(weft_trainer_open_results(t));
    return weft_model_counts(&t->model, &t->device);
}

/* The real communicator takes the place of the dry one. Collective. */
static weft_status connect(weft_trainer *t) {
    weft_mesh mesh = t->comm.mesh;
    int kv_ranks = t->comm.kv_ranks;
    weft_comm_close(&t->comm);
    return weft_comm_open(&t->comm, &mesh, kv_ranks, false, &t->device);
}

/* Ranks that have read different files would train different models, or wait for each other for ever. */
static weft_status check_same_config(const weft_config *c) {
    char *text = weft_config_to_yaml(c);
    weft_status st = text ? WEFT_OK : weft_fail(WEFT_ENOMEM, "no memory for the configuration's text");
    st = weft_world_agree(st);
    if (st == WEFT_OK) st = weft_world_same(weft_hash64_str(text, 0), "the configuration");
    free(text);
    return st;
}

weft_status weft_trainer_open(weft_trainer *t, const weft_config *c, const weft_world *w, bool dry) {
    bool alone = w->size == 1; /* perhaps one of many: nothing is collective then */
    *t = (weft_trainer){.config = c, .world = *w};
    if (!dry && !alone) WEFT_TRY(check_same_config(c));
    weft_status st = measure(t, dry);
    if (!dry) {
        if (st == WEFT_OK) st = allocate(t);
        if (!alone) st = weft_world_agree(st);
        if (st == WEFT_OK) st = connect(t);
        if (!alone) st = weft_world_agree(st);
    }
    if (st != WEFT_OK) weft_trainer_close(t);
    return st;
}

void weft_trainer_close(weft_trainer *t) {
    weft_device_finish(&t->device);
    weft_trainer_close_results(t);
    weft_trainer_close_staging(t);
    weft_model_counts_free(&t->model, &t->device);
    weft_store_close(t->store);
    weft_model_free(&t->model);
    weft_comm_close(&t->comm);
    weft_device_arena_free(&t->device, &t->state);
    weft_device_close(&t->device);
    *t = (weft_trainer){0};
}

weft_status weft_trainer_init(weft_trainer *t) {
    size_t bytes = (size_t)t->model.table.shards * sizeof(weft_real);
    bool on_host = weft_device_on_host(&t->device);
    weft_real *params = on_host ? t->params : malloc(bytes ? bytes : 1);
    if (!params) WEFT_FAIL(WEFT_ENOMEM, "no memory for %zu bytes of initial weights", bytes);
    weft_params_init_shards(&t->model.table, params, (uint64_t)t->config->seed);
    weft_status st = weft_device_write(&t->device, t->params, params, bytes);
    if (!on_host) free(params);
    if (st != WEFT_OK) return st;
    t->device.ops->zero(&t->device, t->adam_m, bytes);
    t->device.ops->zero(&t->device, t->adam_v, bytes);
    weft_trainer_params_changed(t);
    t->step = t->tokens = 0;
    t->samples = 0;
    return WEFT_OK;
}

void weft_trainer_params_changed(weft_trainer *t) {
    if (t->params_act)
        t->device.ops->cast(&t->device, t->params_act, t->device.act_dtype, t->params, WEFT_REAL_DTYPE,
                            t->model.table.shards);
    weft_store_changed(t->store);
}

/* ---- the batch ---- */

int64_t weft_trainer_batch_size(const weft_trainer *t) {
    return t->micro_local * t->config->train.micro_batch;
}

void weft_trainer_batch_samples(const weft_trainer *t, uint64_t samples, uint64_t *out) {
    const int *index = t->comm.mesh.index;
    int64_t B = t->config->train.micro_batch;
    for (int64_t i = 0; i < t->micro_local; i++) {
        int64_t first = weft_trainer_micro(t, index[WEFT_AXIS_DP], index[WEFT_AXIS_FSDP], i) * B;
        for (int64_t b = 0; b < B; b++) *out++ = samples + (uint64_t)(first + b);
    }
}

/* A run whose data would be used up before its end does not start. (Sizes: at most 10^18 tokens, so that the
 * product fits.) */
static weft_status check_epochs(const weft_config *c, const weft_loader *loader) {
    uint64_t samples = weft_loader_samples(loader), batch = (uint64_t)c->train.global_batch;
    if ((uint64_t)c->train.steps * batch <= samples) return WEFT_OK;
    WEFT_FAIL(
        WEFT_EINPUT,
        "%s: with data.max_epochs=%lld there are %llu sequences of %lld tokens, enough for %llu steps of "
        "train.global_batch=%lld, but train.steps=%lld; lower it, raise data.max_epochs or add data",
        c->data.path, (long long)c->data.max_epochs, (unsigned long long)samples, (long long)c->train.seq_len,
        (unsigned long long)(samples / batch), (long long)batch, (long long)c->train.steps);
}

weft_loader_options weft_trainer_loader_options(const weft_config *c, weft_trainer_weights *weights) {
    for (int64_t i = 0; i < c->data.weights_count; i++) {
        weights->domains[i].name = c->data.weights[i].name;
        weights->domains[i].weight = c->data.weights[i].weight;
    }
    return (weft_loader_options){.path = c->data.path,
                                 .split = "train",
                                 .seed = (uint64_t)c->seed,
                                 .seq_len = c->train.seq_len,
                                 .cache_bytes = c->data.cache_mib << 20,
                                 .vocab_size = c->model.vocab_size,
                                 .bos = (int32_t)c->model.bos_token_id,
                                 .whole = c->data.packing == WEFT_PACKING_WHOLE,
                                 .max_epochs = c->data.max_epochs,
                                 .weights_count = (int)c->data.weights_count,
                                 .weights = (const void *)weights->domains};
}

weft_status weft_trainer_open_loader(const weft_trainer *t, weft_loader **out) {
    const weft_config *c = t->config;
    weft_trainer_weights weights;
    if (!*c->data.path) /* on every rank: the configuration is the same */
        WEFT_FAIL(WEFT_EINPUT, "no data: add data.path=DIR (made by `weft data build`) or data.path=random");
    weft_loader_options o = weft_trainer_loader_options(c, &weights);
    o.max_batch = weft_trainer_batch_size(t);
    weft_status st = weft_loader_open(out, &o);
    if (st == WEFT_OK) st = check_epochs(c, *out);
    if (t->comm.mesh.ranks > 1) st = weft_world_agree(st);
    if (st != WEFT_OK || t->comm.mesh.ranks == 1) return st;
    weft_hash128 digest = weft_loader_content_digest(*out);
    return weft_world_same(digest.hi ^ digest.lo, c->data.path);
}

static void gather_losses(weft_trainer *t) {
    int64_t bytes = t->micro_local * (int64_t)sizeof(weft_loss);
    t->device.ops->copy(&t->device, t->losses_all + t->comm.mesh.rank * t->micro_local, t->losses_local,
                        (size_t)bytes);
    weft_all_gather(&t->comm, WEFT_GROUP_WORLD, "losses", t->losses_all, bytes);
}

/* ---- the update ---- */

/* Adds the squares of `count` elements that lie at `at` in the array of shards and at `place` in their
 * bucket. Blocks are counted from the bucket's beginning, so that they are the same wherever it is cut into
 * shards. */
static void add_run(weft_trainer *t, const weft_real *grads, int64_t at, int64_t place, int64_t count,
                    weft_exact *sum) {
    int64_t head = (WEFT_SUM_BLOCK - place % WEFT_SUM_BLOCK) % WEFT_SUM_BLOCK;
    if (head > count) head = count;
    if (head) t->device.ops->sumsq(&t->device, sum, grads + at, head);
    t->device.ops->sumsq(&t->device, sum, grads + at + head, count - head);
}

/* Adds the squares of what this rank stands for among those that hold the same elements: replicas, and tp
 * ranks with the same slice. */
static void add_squares(weft_trainer *t, int bucket, const weft_real *grads, weft_exact *sum) {
    const weft_params *p = &t->model.table;
    const weft_bucket *b = &p->buckets[bucket];
    if (t->comm.group[weft_bucket_replicas(b)].rank != 0) return;
    if (b->unit == WEFT_UNIT_ALWAYS && t->comm.mesh.index[WEFT_AXIS_TP] != 0)
        return; /* shared: all tp ranks hold all */
    if (!b->copied || b->unit == WEFT_UNIT_ALWAYS) {
        add_run(t, grads, b->shard_at, b->shard.start, b->shard.count, sum);
        return;
    }
    weft_piece piece;
    for (int64_t i = 0; i < p->count; i++) {
        const weft_param *r = &p->rows[i];
        if (r->bucket == bucket && r->copy == 0 && weft_params_piece(p, r, &piece))
            add_run(t, grads, piece.at, r->offset + piece.first, piece.count, sum);
    }
}

/* Of all parameters once, exact: the same bits however they are cut over dp and fsdp. */
static void find_norm(weft_trainer *t, const weft_real *grads) {
    const weft_ops *ops = t->device.ops;
    ops->zero(&t->device, t->squares, sizeof *t->squares);
    for (int i = 0; i < t->model.table.bucket_count; i++) add_squares(t, i, grads, t->squares);
    ops->exact_carry(&t->device, t->squares);
    weft_all_reduce_i64(&t->comm, WEFT_GROUP_WORLD, "gradient norm", (int64_t *)t->squares,
                        sizeof *t->squares / sizeof(int64_t));
    ops->clip(&t->device, t->clip, t->squares, t->config->optim.clip);
}

/* Runs of neighbouring pieces with the same weight decay are updated together. */
static void update(weft_trainer *t, const weft_real *grads, double lr) {
    const weft_params *p = &t->model.table;
    weft_adamw a = {.lr = (weft_real)lr,
                    .beta1 = (weft_real)t->config->optim.beta1,
                    .beta2 = (weft_real)t->config->optim.beta2,
                    .eps = (weft_real)t->config->optim.eps,
                    .step = t->step,
                    .clip = t->clip};
    for (int64_t i = 0; i < p->count;) {
        weft_piece piece;
        int64_t j = i + 1;
        if (!weft_params_piece(p, &p->rows[i], &piece)) {
            i = j;
            continue;
        }
        int64_t begin = piece.at, end = piece.at + piece.count;
        for (; j < p->count && p->rows[j].decay == p->rows[i].decay &&
               p->rows[j].bucket == p->rows[i].bucket && weft_params_piece(p, &p->rows[j], &piece);
             j++)
            end = piece.at + piece.count;
        a.weight_decay = p->rows[i].decay ? (weft_real)t->config->optim.weight_decay : 0;
        weft_act *copy = t->params_act ? weft_act_at(t->params_act, t->device.act_dtype, begin) : NULL;
        t->device.ops->adamw(&t->device, t->params + begin, copy, grads + begin, t->adam_m + begin,
                             t->adam_v + begin, end - begin, &a);
        i = j;
    }
}

void weft_trainer_dry_step(weft_trainer *t) {
    measure_step(t);
    update(t, t->grads[0], 0);
}

const weft_real *weft_trainer_gradients(weft_trainer *t, const weft_batch *batch) {
    bool tells = t->comm.group[WEFT_GROUP_TOKENS].rank == 0; /* its ranks have the same sequences */
    int64_t targets = tells ? batch->targets_counted : 0;
    weft_all_reduce_i64_host(&t->comm, WEFT_GROUP_WORLD, "targets", &targets, 1);
    weft_objective o = objective(t, targets);
    weft_trainer_send_batch(t, batch);
    const weft_real *grads = weft_trainer_sum_gradients(t, &o);
    gather_losses(t);
    find_norm(t, grads);
    t->targets = targets;
    return grads;
}

void weft_trainer_update(weft_trainer *t, const weft_real *grads) {
    const weft_config *c = t->config;
    t->step++;
    t->samples += (uint64_t)c->train.global_batch;
    t->tokens += c->train.global_batch * c->train.seq_len;
    double lr = weft_schedule_lr(c, t->step);
    update(t, grads, lr);
    weft_store_changed(t->store);
    weft_trainer_send_result(t, t->targets, lr);
}

bool weft_trainer_step(weft_trainer *t, const weft_batch *batch, weft_step_result *out) {
    memset(t->comm.bytes, 0, sizeof t->comm.bytes);
    weft_ledger_step_begin(t->comm.ledger, t->step + 1);
    weft_trainer_update(t, weft_trainer_gradients(t, batch));
    weft_ledger_step_end(t->comm.ledger);
    return weft_trainer_take_result(t, weft_device_on_host(&t->device), out);
}

bool weft_trainer_finish(weft_trainer *t, weft_step_result *out) {
    return weft_trainer_take_result(t, true, out);
}
