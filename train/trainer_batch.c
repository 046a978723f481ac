/* The batch on its way to the device: this rank's part is laid out in host memory that the device can reach,
 * and from there uploaded at once, before the first microbatch. */
#include "train/trainer.h"

/* Tokens of a microbatch on this rank. */
static int64_t part_tokens(const weft_trainer *t) {
    return t->config->train.micro_batch * t->config->train.seq_len / t->comm.mesh.size[WEFT_AXIS_CP];
}
static size_t array_bytes(const weft_trainer *t) {
    return (size_t)(t->micro_local * part_tokens(t)) * sizeof(int32_t);
}

/* The arrays of a batch in the order in which they lie: with document masks also where documents start, with
 * cp that counted within the chunk. */
static void set_arrays(const weft_trainer *t, weft_staging *s, int32_t *(*take)(void *from, size_t bytes),
                       void *from) {
    bool mask = t->config->data.document_mask;
    size_t bytes = array_bytes(t);
    s->tokens = take(from, bytes);
    s->targets = take(from, bytes);
    s->doc_start = mask ? take(from, bytes) : NULL;
    s->doc_local = mask && t->comm.mesh.size[WEFT_AXIS_CP] > 1 ? take(from, bytes) : NULL;
}

static int32_t *from_arena(void *from, size_t bytes) {
    return weft_arena_push(from, bytes);
}
static int32_t *from_block(void *from, size_t bytes) {
    char **block = from, *p = *block;
    *block += bytes;
    return (int32_t *)p;
}

void weft_trainer_place_batch(weft_trainer *t, weft_arena *a) {
    set_arrays(t, &t->batch, from_arena, a);
}

weft_status weft_trainer_open_staging(weft_trainer *t) {
    for (int i = 0; i < 2; i++) {
        weft_staging *s = &t->staging[i];
        void *block;
        if (weft_device_on_host(&t->device)) {
            *s = t->batch;
            continue;
        }
        WEFT_TRY(weft_host_memory(&t->device, 4 * array_bytes(t), &block));
        set_arrays(t, s, from_block, &block);
        WEFT_TRY(weft_mark_make(&t->device, &s->sent));
    }
    return WEFT_OK;
}

void weft_trainer_close_staging(weft_trainer *t) {
    for (int i = 0; i < 2; i++) {
        if (!weft_device_on_host(&t->device)) weft_host_memory_free(&t->device, t->staging[i].tokens);
        weft_mark_free(&t->device, &t->staging[i].sent);
        t->staging[i] = (weft_staging){0};
    }
}

/* Of `from` [B, T] this rank's zig-zag chunks, slot after slot. `local` counts positions from the chunk's
 * start. Without cp there is one chunk, the whole sequence. */
static void take_chunks(const weft_trainer *t, int32_t *to, const int32_t *from, bool local) {
    const weft_mesh *mesh = &t->comm.mesh;
    int64_t B = t->config->train.micro_batch, T = t->config->train.seq_len;
    int cp = mesh->size[WEFT_AXIS_CP], held = weft_chunks_held(cp);
    int64_t L = T / cp / held;
    for (int64_t b = 0; b < B; b++)
        for (int slot = 0; slot < held; slot++) {
            int64_t start = weft_chunk_of(cp, mesh->index[WEFT_AXIS_CP], slot) * L;
            for (int64_t i = 0; i < L; i++) *to++ = from[b * T + start + i] - (int32_t)(local ? start : 0);
        }
}

void weft_trainer_send_batch(weft_trainer *t, const weft_batch *batch) {
    weft_staging *s = &t->staging[t->queued % 2];
    const weft_staging *to = &t->batch;
    int64_t B = t->config->train.micro_batch, T = t->config->train.seq_len, part = part_tokens(t);
    weft_host_wait(&t->device, &s->sent);
    for (int64_t i = 0; i < t->micro_local; i++) {
        take_chunks(t, s->tokens + i * part, batch->tokens + i * B * T, false);
        take_chunks(t, s->targets + i * part, batch->targets + i * B * T, false);
        if (s->doc_start) take_chunks(t, s->doc_start + i * part, batch->doc_start + i * B * T, false);
        if (s->doc_local) take_chunks(t, s->doc_local + i * part, batch->doc_start + i * B * T, true);
    }
    weft_upload(&t->device, to->tokens, s->tokens, array_bytes(t));
    weft_upload(&t->device, to->targets, s->targets, array_bytes(t));
    if (s->doc_start) weft_upload(&t->device, to->doc_start, s->doc_start, array_bytes(t));
    if (s->doc_local) weft_upload(&t->device, to->doc_local, s->doc_local, array_bytes(t));
    weft_mark_set(&t->device, &s->sent);
}

weft_microbatch weft_trainer_microbatch(const weft_trainer *t, int64_t i) {
    const weft_staging *b = &t->batch;
    int64_t at = i * part_tokens(t);
    return (weft_microbatch){.B = t->config->train.micro_batch,
                             .T = t->config->train.seq_len / t->comm.mesh.size[WEFT_AXIS_CP],
                             .tokens = b->tokens + at,
                             .targets = b->targets + at,
                             .doc_start = b->doc_start ? b->doc_start + at : NULL,
                             .doc_local = b->doc_local ? b->doc_local + at : NULL};
}
