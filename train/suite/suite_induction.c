/* Which attention heads look for what followed the same token before: the prefix-matching score of Olsson et
 * al., "In-context Learning and Induction Heads" (2022, Transformer Circuits Thread). A sequence is n random
 * tokens and the same n again. From position i of the second half an induction head attends to position
 * i - n + 1, the one behind the token's earlier occurrence; the score is the mean of that probability.
 *
 * The tokens of a half are distinct as long as there are enough of them, so that each has one earlier
 * occurrence. A model that knows one vocabulary only shows its heads on that: with induction.text=copy the
 * halves are the two lines of a document of the task copy. Sequences go through the model one by one: the
 * result does not depend on the ranks. */
#include "runtime/log.h"
#include "train/output.h"
#include "train/suite/suite_quiz.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct survey {
    weft_suite_job *job;
    int64_t H, layers; /* heads of a layer, layers with attention */
    bool copy;         /* lines of the task copy */
    int32_t *ordinary; /* tokens that texts are made of */
    int64_t ordinary_count;
    weft_synthetic_document text;
    int64_t length, capacity; /* of the sequence, and room for it */
    int64_t first, second, n; /* where its halves begin, and tokens of each */
    size_t ids_capacity;
    int32_t *tokens;         /* [length] */
    int32_t *targets;        /* [length] none: no loss is wanted */
    double *weights;         /* [length] of one query's keys */
    double *scores;          /* [documents, layers * H + 1]; the last: chance */
    int64_t document, layer; /* where the pass is: document, attention layers behind it */
} survey;

/* ---- tokens ------------------------------------------------------------------------------------- */

/* With a tokenizer those that stand for text, else all but the configuration's control tokens. */
static weft_status find_ordinary(survey *s) {
    const weft_modelfile *f = s->job->file;
    const weft_model_config *c = &f->config.model;
    weft_tokenizer *t = NULL;
    s->ordinary = malloc((size_t)c->vocab_size * sizeof *s->ordinary);
    if (!s->ordinary) WEFT_FAIL(WEFT_ENOMEM, "no memory for %lld tokens", (long long)c->vocab_size);
    if (*f->tokenizer) WEFT_TRY(weft_modelfile_tokenizer(f, &t));
    for (int64_t id = 0; id < c->vocab_size; id++) {
        bool control = t ? weft_tokenizer_piece_bytes(t, (int32_t)id) == 0
                         : id == c->bos_token_id || id == c->eos_token_id || id == c->pad_token_id;
        if (!control) s->ordinary[s->ordinary_count++] = (int32_t)id;
    }
    weft_tokenizer_close(t);
    if (s->ordinary_count == 0)
        WEFT_FAIL(WEFT_EINPUT, "%s: its vocabulary of %lld tokens has none that stands for text", f->path,
                  (long long)c->vocab_size);
    return WEFT_OK;
}

static weft_status reserve(survey *s, int64_t length) {
    s->length = length;
    if (length <= s->capacity) return WEFT_OK;
    free(s->targets);
    free(s->weights);
    int32_t *tokens = realloc(s->tokens, (size_t)length * sizeof *tokens);
    s->targets = malloc((size_t)length * sizeof *s->targets);
    s->weights = malloc((size_t)length * sizeof *s->weights);
    if (tokens) s->tokens = tokens;
    if (!tokens || !s->targets || !s->weights)
        WEFT_FAIL(WEFT_ENOMEM, "no memory for the attention of a sequence of %lld tokens", (long long)length);
    for (int64_t i = 0; i < length; i++) s->targets[i] = -1;
    s->capacity = length;
    return weft_modelfile_size(s->job->file, 1, length);
}

/* A draw without replacement for each document, begun anew when every token was drawn. */
static weft_status draw_tokens(survey *s) {
    uint64_t count = (uint64_t)s->ordinary_count;
    int64_t n = s->job->suite->induction.tokens;
    char name[64];
    WEFT_TRY(reserve(s, 2 * n));
    s->first = 0, s->second = s->n = n;
    for (int64_t i = 0; i < n; i++) {
        snprintf(name, sizeof name, "suite/induction/%lld/%lld", (long long)s->document,
                 (long long)((uint64_t)i / count));
        weft_rng rng = weft_rng_make((uint64_t)s->job->suite->seed, name);
        s->tokens[i] = s->tokens[n + i] = s->ordinary[weft_rng_permute(rng, (uint64_t)i % count, count)];
    }
    return WEFT_OK;
}

/* The ids of text[begin, end) behind those that are there. */
static weft_status append_text(survey *s, int32_t **ids, size_t begin, size_t end) {
    size_t count = 0;
    WEFT_TRY(weft_tokenizer_encode(s->job->tokenizer, s->text.text + begin, end - begin, ids, &count,
                                   &s->ids_capacity));
    int64_t at = s->length;
    WEFT_TRY(reserve(s, at + (int64_t)count));
    memcpy(s->tokens + at, *ids, count * sizeof **ids);
    return WEFT_OK;
}

/* BOS, "copy", a line, "again", the line; its words are the halves. Each part ends at a newline. */
static weft_status copy_tokens(survey *s) {
    const weft_suite *suite = s->job->suite;
    weft_synthetic o = weft_suite_synthetic(s->job, WEFT_SYNTHETIC_COPY);
    int64_t words = suite->induction.tokens;
    int32_t *ids = NULL;
    o.words = (weft_range){words, words};
    WEFT_TRY(weft_synthetic_make(&o, weft_suite_document(words, 1, s->document), &s->text));
    size_t head = strlen("copy\n"), line = (s->text.bytes - head - strlen("again\n")) / 2;
    s->length = 0;
    s->ids_capacity = 0;
    weft_status st = reserve(s, 1);
    if (st == WEFT_OK) s->tokens[0] = (int32_t)s->job->file->config.model.bos_token_id;
    if (st == WEFT_OK) st = append_text(s, &ids, 0, head);
    s->first = s->length;
    if (st == WEFT_OK) st = append_text(s, &ids, head, head + line - 1);
    s->n = s->length - s->first;
    if (st == WEFT_OK) st = append_text(s, &ids, head + line - 1, s->text.bytes - line);
    s->second = s->length;
    if (st == WEFT_OK) st = append_text(s, &ids, s->text.bytes - line, s->text.bytes - 1);
    free(ids);
    return st;
}

/* ---- attention ---------------------------------------------------------------------------------- */

static double dot(const weft_real *a, const weft_real *b, int64_t d) {
    double sum = 0;
    for (int64_t i = 0; i < d; i++) sum += (double)a[i] * (double)b[i];
    return sum;
}

/* Probability that a head's query at position i gives to the key at `to`: softmax over positions 0..i. */
static double attention(survey *s, const weft_real *q, const weft_real *k, int64_t ld, int64_t d, int64_t i,
                        int64_t to) {
    double most = -INFINITY, sum = 0, scale = 1 / sqrt((double)d);
    for (int64_t j = 0; j <= i; j++) {
        s->weights[j] = scale * dot(q + i * ld, k + j * ld, d);
        if (s->weights[j] > most) most = s->weights[j];
    }
    for (int64_t j = 0; j <= i; j++) sum += exp(s->weights[j] - most);
    return exp(s->weights[to] - most) / sum;
}

/* q|k|v of a layer [2n, (H + 2G) d], behind RoPE. */
static void see(void *of, const weft_block *b, const char *name, const weft_act *x, int64_t ld, int64_t first,
                int64_t rows, int64_t width) {
    survey *s = of;
    (void)first, (void)rows, (void)width;
    if (strcmp(name, "qkv") != 0) return;
    int64_t d = weft_head_dim(b->config), group = s->H / b->config->num_key_value_heads;
    double *score = s->scores + s->document * (s->layers * s->H + 1) + s->layer++ * s->H;
    const weft_real *q = x, *k = q + s->H * d;
    for (int64_t h = 0; h < s->H; h++) {
        double sum = 0;
        for (int64_t i = 0; i < s->n; i++)
            sum += attention(s, q + h * d, k + h / group * d, ld, d, s->second + i, s->first + i + 1);
        score[h] = sum / (double)s->n;
    }
}

/* What a head would give that attends to every position alike. */
static double chance(const survey *s) {
    double sum = 0;
    for (int64_t i = 0; i < s->n; i++) sum += 1 / (double)(s->second + i + 1);
    return sum / (double)s->n;
}

static weft_status look(survey *s) {
    weft_modelfile *f = s->job->file;
    WEFT_TRY(s->copy ? copy_tokens(s) : draw_tokens(s));
    weft_microbatch mb = {.B = 1, .T = s->length, .tokens = s->tokens, .targets = s->targets};
    s->layer = 0;
    s->scores[(s->document + 1) * (s->layers * s->H + 1) - 1] = chance(s);
    f->model.watch = (weft_watch){.inside = see, .of = s};
    weft_model_losses(&f->model, &f->device, f->params, &mb, f->config.train.loss_chunk, NULL);
    f->model.watch = (weft_watch){0};
    return WEFT_OK;
}

/* ---- the task ----------------------------------------------------------------------------------- */

static weft_status prepare(survey *s) {
    if (!s->copy) WEFT_TRY(find_ordinary(s));
    s->scores = calloc((size_t)s->job->suite->induction.documents,
                       (size_t)(s->layers * s->H + 1) * sizeof *s->scores);
    if (!s->scores)
        WEFT_FAIL(WEFT_ENOMEM, "no memory for the attention of %lld sequences",
                  (long long)s->job->suite->induction.documents);
    return WEFT_OK;
}

static double mean_score(const survey *s, int64_t head) {
    int64_t documents = s->job->suite->induction.documents;
    double sum = 0;
    for (int64_t i = 0; i < documents; i++) sum += s->scores[i * (s->layers * s->H + 1) + head];
    return sum / (double)documents;
}

static weft_status report(const survey *s, json_t **out) {
    const weft_model *m = &s->job->file->model;
    json_t *heads = json_array(),
           *o = json_pack("{s:s, s:I, s:o, s:o}", "text", s->job->suite->induction.text, "tokens",
                          (json_int_t)s->job->suite->induction.tokens, "chance",
                          weft_output_real(mean_score(s, s->layers * s->H)), "heads", heads);
    int64_t head = 0;
    int bad = !o;
    for (int64_t i = 0; i < m->block_count; i++) {
        if (m->blocks[i].kind != &weft_block_attention) continue;
        for (int64_t h = 0; h < s->H && !bad; h++)
            bad = json_array_append_new(
                heads, json_pack("{s:I, s:I, s:o}", "layer", (json_int_t)m->blocks[i].layer, "head",
                                 (json_int_t)h, "score", weft_output_real(mean_score(s, head++))));
    }
    if (bad) {
        json_decref(o);
        WEFT_FAIL(WEFT_ENOMEM, "no memory for the scores of attention heads");
    }
    *out = o;
    return WEFT_OK;
}

static weft_status run(survey *s, json_t **out) {
    const weft_world *w = s->job->world;
    int64_t documents = s->job->suite->induction.documents;
    weft_log_replicated(true);
    weft_status st = prepare(s);
    weft_log_replicated(false);
    WEFT_TRY(weft_world_agree(st));
    for (s->document = w->rank; s->document < documents && st == WEFT_OK; s->document += w->size)
        st = look(s);
    WEFT_TRY(weft_world_agree(st));
    WEFT_TRY(weft_suite_share(s->job, s->scores, documents, s->layers * s->H + 1));
    return weft_world_agree(report(s, out));
}

weft_status weft_suite_induction(weft_suite_job *j, json_t **out) {
    const weft_model *m = &j->file->model;
    json_t *result = NULL;
    survey s = {
        .job = j, .copy = strcmp(j->suite->induction.text, "copy") == 0, .H = m->config.num_attention_heads};
    for (int64_t i = 0; i < m->block_count; i++) s.layers += m->blocks[i].kind == &weft_block_attention;
    weft_status st = run(&s, &result);
    weft_synthetic_free(&s.text);
    free(s.ordinary);
    free(s.tokens);
    free(s.targets);
    free(s.weights);
    free(s.scores);
    if (st == WEFT_OK)
        *out = result;
    else
        json_decref(result);
    return st;
}
