#include "runtime/log.h"
#include "train/parity.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- the record ---------------------------------------------------------------------------------------- */

/* Embedding, blocks, final norm; and back. */
static int64_t one_way(const weft_model *m) {
    return m->block_count + 2;
}

const char *weft_parity_name(const weft_model *m, int64_t i) {
    int64_t n = one_way(m);
    if (i >= n) i = 2 * n - 1 - i;
    return i == 0 ? "embed_tokens" : i == n - 1 ? "final_layernorm" : m->blocks[i - 1].name;
}

int64_t weft_parity_row(const weft_config *c, const weft_mesh *at, int64_t row) {
    int64_t B = c->train.micro_batch, T = c->train.seq_len;
    int cp = at->size[WEFT_AXIS_CP], tp = at->size[WEFT_AXIS_TP], chunks = weft_chunks_held(cp);
    int64_t local = T / cp, L = local / chunks;
    row += at->index[WEFT_AXIS_TP] * (B * local / tp);
    int64_t sequence = row / local, slot = row % local / L;
    return sequence * T + weft_chunk_of(cp, at->index[WEFT_AXIS_CP], (int)slot) * L + row % L;
}

/* Of a trainer that may be dry. */
static weft_parity_record record_of(const weft_trainer *t) {
    const int *size = t->comm.mesh.size;
    int64_t tokens = t->config->train.micro_batch * t->config->train.seq_len;
    return (weft_parity_record){.tensors = 2 * one_way(&t->model),
                                .micro = t->micro_local,
                                .rows = tokens / size[WEFT_AXIS_CP] / size[WEFT_AXIS_TP],
                                .width = t->model.config.hidden_size,
                                .spoiled = -1,
                                .of = &t->model};
}

static size_t record_bytes(const weft_parity_record *r) {
    return (size_t)(r->tensors * r->micro * r->rows * r->width) * sizeof *r->data;
}

static void see(void *of, const char *name, const weft_act *x, int64_t rows, int64_t width) {
    weft_parity_record *r = of;
    int64_t tensor = r->seen % r->tensors, micro = r->seen / r->tensors, n = rows * width;
    r->seen++;
    WEFT_CHECK(micro < r->micro && rows == r->rows && width == r->width &&
                   strcmp(name, weft_parity_name(r->of, tensor)) == 0,
               "parity: %s came as tensor %lld of microbatch %lld", name, (long long)tensor,
               (long long)micro);
    weft_real *seen = r->data + (tensor * r->micro + micro) * n;
    weft_status st = weft_device_read(r->device, seen, x, (size_t)n * sizeof *r->data);
    /* A watch must not change what it sees; a fault made on purpose must. */
    weft_real spoiled = seen[0] * (weft_real)1.5;
    if (st == WEFT_OK && tensor == r->spoiled)
        st = weft_device_write(r->device, (weft_real *)(uintptr_t)x, &spoiled, sizeof spoiled);
    WEFT_CHECK(st == WEFT_OK, "parity: %s could not be read", name);
}

/* WEFT_PARITY_FAULT; checked on every rank, so that all of them refuse a wrong one. */
static weft_status read_fault(weft_parity_record *r, const weft_world *w) {
    const char *text = getenv("WEFT_PARITY_FAULT");
    if (!text || !*text) return WEFT_OK;
    char *end;
    long rank = strtol(text, &end, 10);
    if (end == text || *end != ':' || rank < 0 || rank >= w->size)
        WEFT_FAIL(WEFT_EINPUT, "WEFT_PARITY_FAULT=%s: want RANK:TENSOR, ranks are 0 to %d", text,
                  w->size - 1);
    for (int64_t i = 0; i < r->tensors / 2; i++)
        if (strcmp(end + 1, weft_parity_name(r->of, i)) == 0) {
            r->spoiled = rank == w->rank ? i : -1;
            return WEFT_OK;
        }
    WEFT_FAIL(WEFT_EINPUT,
              "WEFT_PARITY_FAULT=%s: the model has no tensor %s (the table's forward part lists them)", text,
              end + 1);
}

/* ---- a step -------------------------------------------------------------------------------------------- */

static weft_status prepare(weft_parity_side *s, const weft_world *w) {
    weft_parity_record *r = &s->record;
    weft_trainer *t = &s->trainer;
    size_t params = (size_t)t->model.table.shards * sizeof *s->before;
    bool alone = w->size == 1;
    *r = record_of(t);
    r->device = &t->device;
    if (t->device.act_dtype != WEFT_REAL_DTYPE)
        WEFT_FAIL(WEFT_EINPUT,
                  "precision=bf16: layouts are compared in fp32, where they agree to rounding; add "
                  "precision=fp32");
    if (!alone) WEFT_TRY(read_fault(r, w));
    r->data = malloc(record_bytes(r));
    s->grads = malloc(params), s->params = malloc(params);
    if (alone) s->before = malloc(params);
    if (!r->data || !s->grads || !s->params || (alone && !s->before))
        WEFT_FAIL(WEFT_ENOMEM,
                  "no memory to record %.2f GiB of activations; make the model or the batch smaller",
                  (double)record_bytes(r) / (1 << 30));
    WEFT_TRY(weft_trainer_init(t));
    return alone ? weft_device_read(&t->device, s->before, t->params, params) : WEFT_OK;
}

/* The batch of step 0. It lies in the loader. */
static weft_status take_batch(const weft_trainer *t, weft_loader **loader, weft_batch *batch) {
    int64_t n = weft_trainer_batch_size(t);
    uint64_t *samples = malloc((size_t)n * sizeof *samples);
    if (!samples) WEFT_FAIL(WEFT_ENOMEM, "no memory for a batch");
    weft_trainer_batch_samples(t, 0, samples);
    weft_status st = weft_trainer_open_loader(t, loader);
    if (st == WEFT_OK) st = weft_loader_request(*loader, samples, n);
    if (st == WEFT_OK) st = weft_loader_take(*loader, batch, NULL);
    free(samples);
    return st;
}

static weft_status step(weft_parity_side *s, const weft_batch *batch) {
    weft_trainer *t = &s->trainer;
    size_t bytes = (size_t)t->model.table.shards * sizeof *s->grads;
    t->model.watch = (weft_watch){.see = see, .of = &s->record};
    const weft_real *grads = weft_trainer_gradients(t, batch);
    t->model.watch = (weft_watch){0};
    WEFT_TRY(weft_device_read(&t->device, s->grads, grads, bytes));
    weft_trainer_update(t, grads);
    weft_trainer_finish(t, &s->result);
    WEFT_CHECK(s->record.seen == s->record.tensors * s->record.micro,
               "parity: %lld tensors were seen, not %lld", (long long)s->record.seen,
               (long long)(s->record.tensors * s->record.micro));
    return weft_device_read(&t->device, s->params, t->params, bytes);
}

weft_status weft_parity_run(weft_parity_side *s, const weft_config *c, const weft_world *w) {
    weft_loader *loader = NULL;
    weft_batch batch;
    bool alone = w->size == 1;
    *s = (weft_parity_side){0};
    WEFT_TRY(weft_trainer_open(&s->trainer, c, w, false));
    weft_status st = prepare(s, w);
    if (st == WEFT_OK) st = take_batch(&s->trainer, &loader, &batch);
    if (!alone) st = weft_world_agree(st);
    if (st == WEFT_OK) {
        st = step(s, &batch);
        if (!alone) st = weft_world_agree(st);
    }
    if (st != WEFT_OK) weft_parity_close(s);
    weft_loader_close(loader);
    return st;
}

void weft_parity_close(weft_parity_side *s) {
    if (s->trainer.config) weft_trainer_close(&s->trainer);
    free(s->record.data);
    free(s->grads);
    free(s->params);
    free(s->before);
    *s = (weft_parity_side){0};
}

weft_status weft_parity_bytes(const weft_config *c, const weft_world *w, size_t *bytes) {
    weft_trainer t;
    WEFT_TRY(weft_trainer_open(&t, c, w, true));
    weft_parity_record r = record_of(&t);
    weft_trainer_memory m = weft_trainer_bytes(&t);
    *bytes = m.total + record_bytes(&r) + (w->size == 1 ? 3 : 2) * m.parameters;
    weft_trainer_close(&t);
    return WEFT_OK;
}
