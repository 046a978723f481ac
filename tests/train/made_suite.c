#include "made_suite.h"
#include "support/capture.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static char root[64];
weft_tokenizer *made_suite_tokenizer;

const char *made_suite_path(const char *name) {
    static char paths[4][256];
    static int next = 0;
    char *p = paths[next++ % 4];
    snprintf(p, sizeof paths[0], "%s/%s", root, name);
    return p;
}

void made_suite_file(const char *path, const char *text) {
    FILE *f = fopen(path, "w");
    ck_assert_ptr_nonnull(f);
    ck_assert_int_ge(fputs(text, f), 0);
    ck_assert_int_eq(fclose(f), 0);
}

void made_suite_open(void) {
    snprintf(root, sizeof root, "/tmp/weft-suite.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(root));
    weft_tokenizer_training o = {.vocab_size = 600, .max_sample_bytes = 1 << 20, .seed = 1};
    const char *file = made_suite_path("corpus.jsonl");
    FILE *out = fopen(file, "w");
    ck_assert_ptr_nonnull(out);
    for (int i = 0; i < 400; i++)
        fprintf(out, "{\"text\": \"%s %s => %s The magic word of %s is\"}\n", weft_synthetic_words[i % 256],
                weft_synthetic_words[i * 7 % 64], weft_synthetic_words[i * 3 % 96],
                weft_synthetic_words[i * i % 32]);
    fclose(out);
    capture();
    weft_status st = weft_tokenizer_train(&o, &file, 1, made_suite_path("tok"));
    release();
    ck_assert_msg(st == WEFT_OK, "%s", message);
    ck_assert_int_eq(weft_tokenizer_open(&made_suite_tokenizer, made_suite_path("tok")), WEFT_OK);
}

void made_suite_close(void) {
    weft_tokenizer_close(made_suite_tokenizer);
    weft_fs_remove_tree(root);
}

/* ---- models ------------------------------------------------------------------------------------- */

weft_modelfile *made_suite_model(const char *words) {
    char all[256];
    snprintf(all, sizeof all, "model.vocab_size=%lld train.seq_len=128 %s",
             (long long)weft_tokenizer_vocab_size(made_suite_tokenizer), words);
    weft_modelfile *f = made_model(all);
    snprintf(f->tokenizer, sizeof f->tokenizer, "%s", made_suite_path("tok/tokenizer.model"));
    return f;
}

weft_real *made_suite_row(weft_modelfile *f, const char *name, int64_t row) {
    const weft_param *p = weft_params_find(&f->model.table, name);
    ck_assert_msg(p != NULL, "no parameter %s", name);
    return f->params + p->at + row * (p->ndim == 1 ? 1 : p->shape[1]);
}

weft_modelfile *made_suite_planted(const int32_t *next) {
    char words[128];
    int64_t V = weft_tokenizer_vocab_size(made_suite_tokenizer);
    snprintf(words, sizeof words,
             "model.hidden_size=%lld model.num_hidden_layers=1 model.mixer_pattern=A model.ffn_pattern=.",
             (long long)V);
    weft_modelfile *f = made_suite_model(words);
    memset(f->params, 0, (size_t)f->model.table.flat * sizeof *f->params);
    for (int64_t i = 0; i < V; i++) {
        made_suite_row(f, "embed_tokens", i)[i] = 1;
        *made_suite_row(f, "final_layernorm", i) = 1;
        made_suite_row(f, "lm_head", next[i])[i] = (weft_real)0.2;
    }
    return f;
}

/* ---- by hand ------------------------------------------------------------------------------------ */

/* Logits of all rows of one sequence, in double precision. */
static void logits_of(weft_modelfile *f, const int32_t *tokens, int64_t T, double *logits) {
    int64_t V = f->config.model.vocab_size;
    weft_microbatch mb = {.B = 1, .T = T, .tokens = tokens};
    weft_real *out = malloc((size_t)(T * V) * sizeof *out);
    ck_assert_ptr_nonnull(out);
    ck_assert_int_eq(weft_device_measure(&f->device), WEFT_OK);
    weft_model_logits(&f->model, &f->device, f->params, &mb, out);
    ck_assert_int_eq(weft_device_size(&f->device, f->device.act.peak), WEFT_OK);
    weft_model_logits(&f->model, &f->device, f->params, &mb, out);
    for (int64_t i = 0; i < T * V; i++) logits[i] = (double)out[i];
    free(out);
}

static void score_row(const double *x, int64_t V, int32_t target, bool first, made_suite_score *s) {
    double most = -INFINITY, sum = 0;
    int32_t best = 0;
    for (int32_t v = 0; v < V; v++)
        if (x[v] > most) most = x[v], best = v;
    for (int32_t v = 0; v < V; v++) sum += exp(x[v] - most);
    s->nll += most + log(sum) - x[target];
    s->right &= best == target;
    if (first) s->guess = best, s->first = target;
}

void made_suite_scores(weft_modelfile *f, const char *text, size_t bytes, const weft_answer *answers,
                       size_t many, made_suite_score *out) {
    int32_t *ids = NULL;
    size_t count, capacity = 0, p = 0;
    int64_t V = f->config.model.vocab_size;
    ck_assert_int_eq(weft_tokenizer_encode(made_suite_tokenizer, text, bytes, &ids, &count, &capacity),
                     WEFT_OK);
    int32_t *tokens = malloc((count + 1) * sizeof *tokens);
    double *logits = malloc(count * (size_t)V * sizeof *logits);
    ck_assert(tokens && logits);
    tokens[0] = weft_tokenizer_bos(made_suite_tokenizer);
    memcpy(tokens + 1, ids, count * sizeof *ids);
    logits_of(f, tokens, (int64_t)count, logits);
    for (size_t a = 0; a < many; a++) out[a] = (made_suite_score){.right = true, .first = -1};
    for (size_t i = 0; i < count; i++) {
        size_t behind = p + (size_t)weft_tokenizer_piece_bytes(made_suite_tokenizer, ids[i]);
        for (size_t a = 0; a < many; a++)
            if (p < answers[a].end && behind > answers[a].begin)
                score_row(logits + (int64_t)i * V, V, ids[i], out[a].first < 0, &out[a]);
        p = behind;
    }
    free(ids);
    free(tokens);
    free(logits);
}

json_t *made_suite_result(weft_modelfile *f, const char *const *settings, int count) {
    static const weft_world w = {.size = 1, .local_size = 1};
    weft_suite s;
    json_t *out = NULL;
    weft_suite_defaults(&s);
    for (int i = 0; i < count; i++) ck_assert_int_eq(weft_suite_set(&s, settings[i], "here"), WEFT_OK);
    ck_assert_int_eq(weft_suite_finish(&s), WEFT_OK);
    ck_assert_int_eq(weft_suite_run(&s, f, &w, NULL, &out), WEFT_OK);
    ck_assert_ptr_nonnull(out);
    ck_assert(f->model.watch.inside == NULL);
    return out;
}

double made_suite_number(const json_t *o, const char *key) {
    const json_t *n = json_object_get(o, key);
    ck_assert_msg(json_is_number(n), "no number %s", key);
    return json_number_value(n);
}

void made_suite_same(double got, double want, const char *what) {
    ck_assert_msg(fabs(got - want) <= 2e-5 * (1 + fabs(want)), "%s: %.9g, by hand %.9g", what, got, want);
}
