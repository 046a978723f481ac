/* Loss, perplexity and bits per byte of held-out text, by domain and by sequence. */
#include "data/loader/loader.h"
#include "runtime/log.h"
#include "train/output.h"
#include "train/suite/suite_internal.h"

#include <math.h>
#include <stdlib.h>

enum { NATS, TARGETS, BYTES, NUMBERS }; /* of a sequence, or of several */

typedef struct scorer {
    weft_suite_job *job;
    weft_loader *loader;
    int32_t *piece_bytes; /* [V]: of the text that each token stands for */
    weft_real *loss;
    int64_t batch, seq_len;
} scorer;

static weft_status count_piece_bytes(scorer *s, const weft_tokenizer *t) {
    int64_t V = s->job->file->config.model.vocab_size;
    if (weft_tokenizer_vocab_size(t) != V)
        WEFT_FAIL(WEFT_EINPUT, "%s: has %lld tokens, the model has %lld",
                  weft_loader_tokenizer_path(s->loader), (long long)weft_tokenizer_vocab_size(t),
                  (long long)V);
    s->piece_bytes = malloc((size_t)V * sizeof *s->piece_bytes);
    if (!s->piece_bytes) WEFT_FAIL(WEFT_ENOMEM, "no memory for the lengths of %lld tokens", (long long)V);
    for (int64_t i = 0; i < V; i++) s->piece_bytes[i] = weft_tokenizer_piece_bytes(t, (int32_t)i);
    return WEFT_OK;
}

static weft_status open_data(scorer *s) {
    WEFT_TRY(weft_suite_open_data(s->job, weft_suite_data(s->job), s->seq_len, s->batch, &s->loader));
    weft_tokenizer *t = NULL;
    WEFT_TRY(weft_tokenizer_open(&t, weft_loader_tokenizer_path(s->loader)));
    weft_status st = count_piece_bytes(s, t);
    weft_tokenizer_close(t);
    return st;
}

/* values [sequences of the batch, NUMBERS] */
static void score_batch(scorer *s, const weft_batch *b, double *values) {
    weft_modelfile *f = s->job->file;
    weft_microbatch mb = {.B = b->count,
                          .T = s->seq_len,
                          .tokens = b->tokens,
                          .targets = b->targets,
                          .doc_start = f->config.data.document_mask ? b->doc_start : NULL};
    weft_model_losses(&f->model, &f->device, f->params, &mb, f->config.train.loss_chunk, s->loss);
    for (int64_t i = 0; i < b->count * s->seq_len; i++) {
        double *sequence = values + i / s->seq_len * NUMBERS;
        if (b->targets[i] < 0) continue;
        sequence[NATS] += (double)s->loss[i];
        sequence[TARGETS] += 1;
        sequence[BYTES] += s->piece_bytes[b->targets[i]];
    }
}

/* Batches are dealt to the ranks in turn. *values [batches * batch, NUMBERS], of which the first *count
 * sequences are there. */
static weft_status score_domain(scorer *s, int domain, double **values, int64_t *count) {
    const weft_world *w = s->job->world;
    int64_t samples = weft_loader_domains(s->loader)[domain].samples,
            limit = s->job->suite->bits.max_sequences;
    if (limit > 0 && samples > limit) samples = limit;
    int64_t batches = (samples + s->batch - 1) / s->batch;
    *count = samples;
    *values = calloc((size_t)(batches * s->batch) + 1, NUMBERS * sizeof **values);
    weft_status st =
        *values ? WEFT_OK
                : weft_fail(WEFT_ENOMEM, "no memory for the losses of %lld sequences", (long long)samples);
    for (int64_t i = w->rank; i < batches && st == WEFT_OK; i += w->size) {
        int64_t first = i * s->batch, left = samples - first;
        weft_batch batch;
        st = weft_loader_request_sequential(s->loader, domain, first, left < s->batch ? left : s->batch);
        if (st == WEFT_OK) st = weft_loader_take(s->loader, &batch, NULL);
        if (st == WEFT_OK) score_batch(s, &batch, *values + first * NUMBERS);
    }
    WEFT_TRY(weft_world_agree(st));
    return weft_suite_share(s->job, *values, batches, s->batch * NUMBERS);
}

/* null where nothing was counted */
static json_t *score_json(const double sum[NUMBERS]) {
    double loss = sum[NATS] / sum[TARGETS], bits = sum[BYTES] > 0 ? sum[NATS] / M_LN2 / sum[BYTES] : NAN;
    return json_pack("{s:o, s:o, s:I, s:I, s:o}", "loss", weft_output_real(loss), "perplexity",
                     weft_output_real(exp(loss)), "tokens", (json_int_t)sum[TARGETS], "bytes",
                     (json_int_t)sum[BYTES], "bits_per_byte", weft_output_real(bits));
}

static json_t *sequences_json(const double *values, int64_t count) {
    json_t *list = json_array();
    int bad = !list;
    for (int64_t i = 0; i < count && !bad; i++) {
        const double *v = values + i * NUMBERS;
        bad = json_array_append_new(list,
                                    json_pack("[o, I]", weft_output_real(v[NATS]), (json_int_t)v[TARGETS]));
    }
    if (!bad) return list;
    json_decref(list);
    return NULL;
}

static weft_status score_all(scorer *s, json_t *domains, json_t *sequences, double total[NUMBERS]) {
    for (int d = 0; d < weft_loader_domain_count(s->loader); d++) {
        const char *name = weft_loader_domains(s->loader)[d].name;
        double *values = NULL, sum[NUMBERS] = {0};
        int64_t count = 0;
        weft_status st = score_domain(s, d, &values, &count);
        for (int64_t i = 0; st == WEFT_OK && i < count * NUMBERS; i++) sum[i % NUMBERS] += values[i];
        for (int k = 0; k < NUMBERS; k++) total[k] += sum[k];
        if (st == WEFT_OK && (json_object_set_new(domains, name, score_json(sum)) != 0 ||
                              json_object_set_new(sequences, name, sequences_json(values, count)) != 0))
            st = weft_fail(WEFT_ENOMEM, "no memory for the result");
        free(values);
        WEFT_TRY(weft_world_agree(st));
    }
    return WEFT_OK;
}

static weft_status open_scorer(scorer *s) {
    WEFT_TRY(open_data(s));
    WEFT_TRY(weft_modelfile_size(s->job->file, s->batch, s->seq_len));
    s->loss = malloc((size_t)(s->batch * s->seq_len) * sizeof *s->loss);
    if (!s->loss) WEFT_FAIL(WEFT_ENOMEM, "no memory for the losses of a batch");
    return WEFT_OK;
}

static weft_status run(scorer *s, json_t **out) {
    weft_log_replicated(true);
    weft_status st = open_scorer(s);
    json_t *domains = json_object(), *sequences = json_object();
    if (st == WEFT_OK && (!domains || !sequences)) st = weft_fail(WEFT_ENOMEM, "no memory for the result");
    weft_log_replicated(false);
    double total[NUMBERS] = {0};
    st = weft_world_agree(st);
    if (st == WEFT_OK) st = score_all(s, domains, sequences, total);
    if (st == WEFT_OK) {
        json_t *o = json_pack("{s:s, s:I, s:O, s:o, s:O}", "split", s->job->suite->bits.split, "seq_len",
                              (json_int_t)s->seq_len, "domains", domains, "all", score_json(total),
                              "sequences", sequences);
        if (o)
            *out = o;
        else
            st = weft_fail(WEFT_ENOMEM, "no memory for the result");
    }
    json_decref(domains);
    json_decref(sequences);
    return st;
}

weft_status weft_suite_bits(weft_suite_job *j, json_t **out) {
    const weft_suite *suite = j->suite;
    scorer s = {.job = j,
                .batch = suite->batch,
                .seq_len = suite->bits.seq_len ? suite->bits.seq_len : j->file->config.train.seq_len};
    weft_status st = run(&s, out);
    weft_loader_close(s.loader);
    free(s.piece_bytes);
    free(s.loss);
    return st;
}
