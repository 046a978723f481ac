/* Losses and the gradient's norm on their way back to the host. The host waits for a step's numbers only when
 * the next step is queued, so the device never waits for the host. */
#include "train/trainer.h"

#include <stdlib.h>
#include <string.h>

static size_t all_bytes(const weft_trainer *t) {
    return (size_t)(t->micro_local * t->comm.mesh.ranks) * sizeof(weft_loss);
}

weft_status weft_trainer_open_results(weft_trainer *t) {
    t->losses = calloc((size_t)t->micro_total, sizeof *t->losses);
    if (!t->losses)
        WEFT_FAIL(WEFT_ENOMEM, "no memory for the losses of %lld microbatches", (long long)t->micro_total);
    for (int i = 0; i < 2; i++) {
        weft_step_pending *p = &t->pending[i];
        void *block;
        if (weft_device_on_host(&t->device)) {
            p->losses = t->losses_all;
            p->clip = t->clip;
            continue;
        }
        WEFT_TRY(weft_host_memory(&t->device, all_bytes(t) + sizeof *p->clip, &block));
        p->losses = block;
        p->clip = (weft_clip *)((char *)block + all_bytes(t));
        WEFT_TRY(weft_mark_make(&t->device, &p->done));
    }
    return WEFT_OK;
}

void weft_trainer_close_results(weft_trainer *t) {
    for (int i = 0; i < 2; i++) {
        if (!weft_device_on_host(&t->device)) weft_host_memory_free(&t->device, t->pending[i].losses);
        weft_mark_free(&t->device, &t->pending[i].done);
        t->pending[i] = (weft_step_pending){0};
    }
    free(t->losses);
    t->losses = NULL;
}

void weft_trainer_send_result(weft_trainer *t, int64_t targets, double lr) {
    weft_step_pending *p = &t->pending[t->queued++ % 2];
    p->waiting = true;
    p->step = t->step;
    p->targets = targets;
    p->lr = lr;
    weft_download(&t->device, p->losses, t->losses_all, all_bytes(t));
    weft_download(&t->device, p->clip, t->clip, sizeof *p->clip);
    weft_mark_set(&t->device, &p->done);
}

/* Of all microbatches in their global order whatever rank had them; of one, its ranks' parts in rank order.
 */
static void order_losses(weft_trainer *t, const weft_loss *all) {
    const weft_mesh *mesh = &t->comm.mesh;
    memset(t->losses, 0, (size_t)t->micro_total * sizeof *t->losses);
    for (int r = 0; r < mesh->ranks; r++) {
        weft_mesh at = weft_mesh_of_rank(mesh, r);
        for (int64_t i = 0; i < t->micro_local; i++) {
            weft_loss *to =
                &t->losses[weft_trainer_micro(t, at.index[WEFT_AXIS_DP], at.index[WEFT_AXIS_FSDP], i)];
            const weft_loss *from = &all[r * t->micro_local + i];
            to->ce_sum += from->ce_sum;
            to->aux += from->aux;
            to->z += from->z;
            to->act += from->act;
        }
    }
}

bool weft_trainer_take_result(weft_trainer *t, bool newest, weft_step_result *out) {
    weft_step_pending *p = &t->pending[(t->queued + (newest ? 1 : 0)) % 2];
    if (!p->waiting) return false;
    weft_host_wait(&t->device, &p->done);
    p->waiting = false;
    order_losses(t, p->losses);
    *out = (weft_step_result){.step = p->step,
                              .lr = p->lr,
                              .tokens = t->config->train.global_batch * t->config->train.seq_len,
                              .grad_norm = p->clip->norm,
                              .finite = p->clip->finite};
    for (int64_t i = 0; i < t->micro_total; i++) {
        out->loss += t->losses[i].ce_sum;
        out->aux += t->losses[i].aux;
        out->z += t->losses[i].z;
        out->act += t->losses[i].act;
    }
    if (p->targets > 0) out->loss /= (double)p->targets;
    out->aux /= (double)t->micro_total;
    out->z /= (double)t->micro_total;
    out->act /= (double)t->micro_total;
    return true;
}
