/* For tests/oracle/compare: runs a Hugging Face directory's model on token ids, forward and backward.
 *   dump MODEL IDS OUT    IDS: one sequence a line, all of one length
 * Writes OUT/logits.bin (float32, [batch, tokens, vocab]) and the gradients of the total loss, under their
 * Hugging Face names, as OUT/grads/model.safetensors; prints the losses as JSON. */
#include "train/hf.h"
#include "train/modelfile.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct batch {
    int32_t *tokens, *targets;
    int64_t B, T;
} batch;

static int read_batch(const char *path, batch *out) {
    FILE *f = fopen(path, "r");
    char *line = NULL;
    size_t capacity = 0;
    int64_t count = 0;
    *out = (batch){.tokens = malloc(1 << 20), .targets = malloc(1 << 20)};
    if (!f || !out->tokens || !out->targets) return 1;
    while (getline(&line, &capacity, f) > 0) {
        char *p = line, *end;
        for (long id; (id = strtol(p, &end, 10)), end != p; p = end) out->tokens[count++] = (int32_t)id;
        out->B++;
    }
    free(line);
    fclose(f);
    out->T = count / out->B;
    /* The last token of a sequence predicts nothing. */
    for (int64_t i = 0; i < count; i++) out->targets[i] = (i + 1) % out->T ? out->tokens[i + 1] : -1;
    return 0;
}

static int run(weft_modelfile *f, const batch *b, const char *out) {
    const weft_model_config *c = &f->config.model;
    int64_t M = b->B * b->T, V = c->vocab_size;
    float *logits = malloc((size_t)(M * V) * sizeof *logits);
    weft_real *grads = calloc((size_t)f->model.table.flat, sizeof *grads);
    weft_microbatch mb = {.B = b->B, .T = b->T, .tokens = b->tokens, .targets = b->targets};
    weft_objective o = {.ce_scale = 1.0 / (double)(b->B * (b->T - 1)), .extra_scale = 1, .loss_chunk = 7};
    weft_loss loss;
    char path[WEFT_PATH_SIZE];
    if (!logits || !grads || weft_device_measure(&f->device) != WEFT_OK) return 1;
    weft_model_train(&f->model, &f->device, weft_model_whole(&f->model, f->params, grads), &mb, &o, &loss);
    weft_model_logits(&f->model, &f->device, f->params, &mb, logits);
    if (weft_device_size(&f->device, f->device.act.peak) != WEFT_OK) return 1;
    weft_model_logits(&f->model, &f->device, f->params, &mb, logits);
    weft_model_train(&f->model, &f->device, weft_model_whole(&f->model, f->params, grads), &mb, &o, &loss);

    if (weft_fs_path(path, "%s/logits.bin", out) != WEFT_OK || weft_fs_mkdirs(out) != WEFT_OK) return 1;
    if (weft_fs_replace_file(path, logits, (size_t)(M * V) * sizeof *logits) != WEFT_OK) return 1;
    if (weft_fs_path(path, "%s/grads", out) != WEFT_OK) return 1;
    if (weft_hf_export(path, c, &f->model.table, grads, WEFT_F32, (int64_t)1 << 40, NULL) != WEFT_OK)
        return 1;
    printf("{\"loss\": %.17g, \"aux\": %.17g, \"total\": %.17g}\n", loss.ce_sum * o.ce_scale, loss.aux,
           loss.ce_sum * o.ce_scale + c->router_aux_loss_coef * loss.aux);
    free(logits);
    free(grads);
    return 0;
}

int main(int argc, char **argv) {
    weft_world w;
    batch b;
    if (weft_world_init(&argc, &argv, &w) != WEFT_OK) return 1;
    if (argc != 4 || read_batch(argv[2], &b)) {
        fprintf(stderr, "usage: dump MODEL IDS OUT\n");
        return 2;
    }
    weft_modelfile *f = calloc(1, sizeof *f);
    int code = !f || weft_modelfile_open(f, &w, argv[1]) != WEFT_OK || run(f, &b, argv[3]);
    weft_modelfile_close(f);
    free(f);
    free(b.tokens);
    free(b.targets);
    weft_world_finalize();
    return code;
}
