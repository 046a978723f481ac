/* Gradients are summed in a tree that depends on the global batch only. Its leaves are groups of
 * microbatches; a leaf adds its microbatches one after the other into one buffer, and leaves are added
 * pairwise: (0+1), (2+3), then
 * ((0+1)+(2+3)), and so on. A rank holds a contiguous range of 2^a leaves and sums them with a binary
 * counter, which needs a+1 buffers; the tree goes on over the ranks (weft_world_sum_real). So 1, 2, 4, ...
 * ranks get the same bits. With train.deterministic = run, each rank has one leaf, and one buffer. */
#include "train/trainer.h"
#include "runtime/log.h"
#include "train/schedule.h"

#include <math.h>
#include <string.h>

static weft_status divide_batch(weft_trainer *t) {
    const weft_config *c = t->config;
    t->micro_total = c->train.global_batch / c->train.micro_batch;
    if (t->micro_total % t->world.size)
        WEFT_FAIL(WEFT_EINPUT,
                  "train.global_batch=%lld is %lld microbatches of train.micro_batch=%lld, which %d ranks "
                  "cannot share "
                  "evenly; make the global batch a multiple of %lld",
                  (long long)c->train.global_batch, (long long)t->micro_total,
                  (long long)c->train.micro_batch, t->world.size,
                  (long long)c->train.micro_batch * t->world.size);
    t->micro_local = t->micro_total / t->world.size;
    t->groups = 1;
    if (c->train.deterministic == WEFT_DET_LAYOUT)
        while (t->micro_local % (2 * t->groups) == 0) t->groups *= 2;
    t->group_size = t->micro_local / t->groups;
    t->grads_count = 1;
    while (((int64_t)1 << (t->grads_count - 1)) < t->groups) t->grads_count++;
    return WEFT_OK;
}

static void lay_out(weft_trainer *t, weft_arena *a) {
    size_t flat = (size_t)t->model.table.flat * sizeof(weft_real);
    t->params = weft_arena_push(a, flat);
    t->adam_m = weft_arena_push(a, flat);
    t->adam_v = weft_arena_push(a, flat);
    for (int i = 0; i < t->grads_count; i++) t->grads[i] = weft_arena_push(a, flat);
    t->sum_work = weft_arena_push(a, weft_world_sum_work(t->model.table.flat, t->world.size));
    t->losses_local = weft_arena_push(a, (size_t)t->micro_local * sizeof(weft_loss));
    t->losses = weft_arena_push(a, (size_t)t->micro_total * sizeof(weft_loss));
}

static weft_objective objective(const weft_trainer *t, int64_t targets) {
    return (weft_objective){.ce_scale = targets > 0 ? 1.0 / (double)targets : 0,
                            .extra_scale = 1.0 / (double)t->micro_total,
                            .loss_chunk = t->config->train.loss_chunk};
}

/* A microbatch and the norm of the gradients on the dry device: the arena's peak is what a step needs. */
static void measure_step(weft_trainer *t) {
    weft_loss loss;
    double norm;
    weft_microbatch mb = {.B = t->config->train.micro_batch, .T = t->config->train.seq_len};
    weft_objective o = objective(t, 1);
    weft_model_train(&t->model, &t->device, t->params, t->grads[0], &mb, &o, &loss);
    t->device.ops->sumsq(&t->device, &norm, t->grads[0], t->model.table.flat);
}

weft_status weft_trainer_open(weft_trainer *t, const weft_config *c, const weft_world *w, bool dry) {
    weft_status st;
    *t = (weft_trainer){.config = c, .world = *w};
    WEFT_TRY(divide_batch(t));
    WEFT_TRY(weft_model_build(&t->model, &c->model, c->train.recompute, c->train.recompute_layers));
    WEFT_GOTO(st, fail, weft_device_open_cpu(&t->device));
    t->device.threads = weft_world_threads(w);
    WEFT_GOTO(st, fail, weft_device_measure(&t->device));
    WEFT_GOTO(st, fail, weft_arena_init_measuring(&t->state, "state"));
    lay_out(t, &t->state);
    measure_step(t);
    if (dry) return WEFT_OK;

    size_t state = t->state.peak, act = t->device.act.peak;
    weft_arena_destroy(&t->state);
    st = weft_arena_init(&t->state, "state", state);
    if (st == WEFT_OK) st = weft_device_size(&t->device, act);
    if (st != WEFT_OK) goto fail;
    lay_out(t, &t->state);
    return WEFT_OK;
fail:
    weft_trainer_close(t);
    return st;
}

void weft_trainer_close(weft_trainer *t) {
    weft_arena_destroy(&t->state);
    weft_device_close(&t->device);
    weft_model_free(&t->model);
    *t = (weft_trainer){0};
}

weft_trainer_memory weft_trainer_bytes(const weft_trainer *t) {
    size_t flat = (size_t)t->model.table.flat * sizeof(weft_real);
    weft_trainer_memory m = {.parameters = flat,
                             .optimizer = 2 * flat,
                             .gradients = (size_t)t->grads_count * flat,
                             .activations = t->device.dry ? t->device.act.peak : t->device.act.capacity};
    m.communication = t->state.peak - m.parameters - m.optimizer - m.gradients;
    m.total = t->state.peak + m.activations;
    return m;
}

void weft_trainer_init(weft_trainer *t) {
    size_t flat = (size_t)t->model.table.flat * sizeof(weft_real);
    weft_params_init(&t->model.table, t->params, (uint64_t)t->config->seed);
    memset(t->adam_m, 0, flat);
    memset(t->adam_v, 0, flat);
    t->step = t->tokens = 0;
    t->samples = 0;
}

int64_t weft_trainer_batch_size(const weft_trainer *t) {
    return t->micro_local * t->config->train.micro_batch;
}

void weft_trainer_batch_samples(const weft_trainer *t, uint64_t samples, uint64_t *out) {
    int64_t n = weft_trainer_batch_size(t);
    for (int64_t i = 0; i < n; i++) out[i] = samples + (uint64_t)(t->world.rank * n + i);
}

/* Gradients of this rank's microbatches; returns the buffer that holds their sum. */
static weft_real *local_gradients(weft_trainer *t, const weft_batch *batch, const weft_objective *o) {
    const weft_ops *ops = t->device.ops;
    int64_t B = t->config->train.micro_batch, T = t->config->train.seq_len, flat = t->model.table.flat;
    weft_real *held[WEFT_MAX_GRADIENTS] = {NULL}, *spare[WEFT_MAX_GRADIENTS], *sum = NULL;
    int spares = 0;
    for (int i = 0; i < t->grads_count; i++) spare[spares++] = t->grads[i];
    for (int64_t g = 0; g < t->groups; g++) {
        weft_real *leaf = spare[--spares];
        ops->zero(&t->device, leaf, (size_t)flat * sizeof *leaf);
        for (int64_t i = g * t->group_size; i < (g + 1) * t->group_size; i++) {
            int64_t at = i * B * T;
            weft_microbatch mb = {.B = B,
                                  .T = T,
                                  .tokens = batch->tokens + at,
                                  .targets = batch->targets + at,
                                  .doc_start = t->config->data.document_mask ? batch->doc_start + at : NULL};
            weft_model_train(&t->model, &t->device, t->params, leaf, &mb, o, &t->losses_local[i]);
        }
        int level = 0;
        for (; (g >> level) & 1; level++) { /* two sums of 2^level leaves become one */
            ops->add_real(&t->device, held[level], leaf, flat);
            spare[spares++] = leaf;
            leaf = held[level];
        }
        held[level] = sum = leaf;
    }
    return sum;
}

static void gather_losses(weft_trainer *t, int64_t targets, weft_step_result *out) {
    weft_world_allgather(t->losses_local, t->losses, (size_t)t->micro_local * sizeof(weft_loss));
    for (int64_t i = 0; i < t->micro_total; i++) {
        out->loss += t->losses[i].ce_sum;
        out->aux += t->losses[i].aux;
        out->z += t->losses[i].z;
        out->act += t->losses[i].act;
    }
    if (targets > 0) out->loss /= (double)targets;
    out->aux /= (double)t->micro_total;
    out->z /= (double)t->micro_total;
    out->act /= (double)t->micro_total;
}

/* Runs of neighbouring tensors with the same weight decay are updated together. */
static void update(weft_trainer *t, const weft_real *grads, double lr, double scale) {
    const weft_params *p = &t->model.table;
    weft_adamw a = {.lr = (weft_real)lr,
                    .beta1 = (weft_real)t->config->optim.beta1,
                    .beta2 = (weft_real)t->config->optim.beta2,
                    .eps = (weft_real)t->config->optim.eps,
                    .step = t->step,
                    .grad_scale = (weft_real)scale};
    for (int64_t i = 0; i < p->count;) {
        int64_t j = i + 1;
        while (j < p->count && p->rows[j].decay == p->rows[i].decay) j++;
        int64_t begin = p->rows[i].offset, end = j < p->count ? p->rows[j].offset : p->flat;
        a.weight_decay = p->rows[i].decay ? (weft_real)t->config->optim.weight_decay : 0;
        t->device.ops->adamw(&t->device, t->params + begin, grads + begin, t->adam_m + begin,
                             t->adam_v + begin, end - begin, &a);
        i = j;
    }
}

void weft_trainer_step(weft_trainer *t, const weft_batch *batch, weft_step_result *out) {
    *out = (weft_step_result){0};
    int64_t targets = weft_world_sum_i64(batch->targets_counted);
    weft_objective o = objective(t, targets);
    weft_real *grads = local_gradients(t, batch, &o);
    weft_world_sum_real(grads, t->model.table.flat, t->sum_work);
    gather_losses(t, targets, out);

    double sumsq = 0;
    t->device.ops->sumsq(&t->device, &sumsq, grads, t->model.table.flat);
    out->grad_norm = sqrt(sumsq);
    out->finite = isfinite(out->grad_norm) && isfinite(out->loss);
    t->step++;
    t->samples += (uint64_t)t->config->train.global_batch;
    out->tokens = t->config->train.global_batch * t->config->train.seq_len;
    t->tokens += out->tokens;
    out->lr = weft_schedule_lr(t->config, t->step);
    if (!out->finite) return;
    double clip = t->config->optim.clip,
           scale = clip > 0 && out->grad_norm > clip ? clip / out->grad_norm : 1;
    update(t, grads, out->lr, scale);
}
