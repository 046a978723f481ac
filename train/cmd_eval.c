/* `weft eval MODEL`: collective. Loss, perplexity and bits per byte of held-out text, by domain. */
#include "data/loader/loader.h"
#include "runtime/log.h"
#include "train/commands.h"
#include "train/modelfile.h"
#include "train/options.h"
#include "train/output.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct score {
    double nats;     /* sum of -log p over counted targets */
    int64_t targets; /* how many */
    int64_t bytes;   /* of text that they stand for */
} score;

typedef struct evaluation {
    weft_modelfile file;
    weft_loader *loader;
    const weft_world *world;
    int32_t *piece_bytes; /* [V]: of the text that each token stands for */
    weft_real *loss;
    int64_t batch, seq_len, limit;
} evaluation;

/* Factors of sizes: so that their product is one. */
#define MAX_BATCH (INT64_C(1) << 20)
#define MAX_SEQ_LEN (INT64_C(1) << 30)

static weft_status count_piece_bytes(evaluation *e, const weft_tokenizer *t) {
    int64_t V = e->file.config.model.vocab_size;
    if (weft_tokenizer_vocab_size(t) != V)
        WEFT_FAIL(WEFT_EINPUT, "%s: has %lld tokens, the model has %lld",
                  weft_loader_tokenizer_path(e->loader), (long long)weft_tokenizer_vocab_size(t),
                  (long long)V);
    e->piece_bytes = malloc((size_t)V * sizeof *e->piece_bytes);
    if (!e->piece_bytes) WEFT_FAIL(WEFT_ENOMEM, "no memory for the lengths of %lld tokens", (long long)V);
    for (int64_t i = 0; i < V; i++) e->piece_bytes[i] = weft_tokenizer_piece_bytes(t, (int32_t)i);
    return WEFT_OK;
}

static weft_status open_data(evaluation *e, const char *path, const char *split) {
    const weft_config *c = &e->file.config;
    weft_loader_options o = {.path = path,
                             .split = split,
                             .seed = (uint64_t)c->seed,
                             .seq_len = e->seq_len,
                             .max_batch = e->batch,
                             .cache_bytes = 64 << 20,
                             .vocab_size = c->model.vocab_size,
                             .bos = (int32_t)c->model.bos_token_id,
                             .whole = c->data.packing == WEFT_PACKING_WHOLE};
    WEFT_TRY(weft_loader_open(&e->loader, &o));
    if (!weft_modelfile_fits(&e->file, weft_loader_tokenizer_digest(e->loader)))
        WEFT_FAIL(WEFT_EINPUT, "%s: its shards were made with another tokenizer than the model of %s", path,
                  e->file.path);
    weft_tokenizer *t = NULL;
    WEFT_TRY(weft_tokenizer_open(&t, weft_loader_tokenizer_path(e->loader)));
    weft_status st = count_piece_bytes(e, t);
    weft_tokenizer_close(t);
    return st;
}

static void add_batch(evaluation *e, const weft_batch *b, score *s) {
    weft_microbatch mb = {.B = b->count,
                          .T = e->seq_len,
                          .tokens = b->tokens,
                          .targets = b->targets,
                          .doc_start = e->file.config.data.document_mask ? b->doc_start : NULL};
    weft_model_losses(&e->file.model, &e->file.device, e->file.params, &mb, e->file.config.train.loss_chunk,
                      e->loss);
    for (int64_t i = 0; i < b->count * e->seq_len; i++) {
        if (b->targets[i] < 0) continue;
        s->nats += (double)e->loss[i];
        s->targets++;
        s->bytes += e->piece_bytes[b->targets[i]];
    }
}

/* Ranks take batches in turn; their sums are added in the order of ranks. */
static weft_status score_domain(evaluation *e, int domain, score *out) {
    int64_t samples = weft_loader_domains(e->loader)[domain].samples;
    score mine = {0}, *all = NULL;
    weft_status st = WEFT_OK;
    if (e->limit > 0 && samples > e->limit) samples = e->limit;
    for (int64_t first = e->world->rank * e->batch; first < samples && st == WEFT_OK;
         first += e->batch * e->world->size) {
        int64_t count = samples - first < e->batch ? samples - first : e->batch;
        weft_batch batch;
        st = weft_loader_request_sequential(e->loader, domain, first, count);
        if (st == WEFT_OK) st = weft_loader_take(e->loader, &batch, NULL);
        if (st == WEFT_OK) add_batch(e, &batch, &mine);
    }
    if (st == WEFT_OK && !(all = malloc((size_t)e->world->size * sizeof *all)))
        st = weft_fail(WEFT_ENOMEM, "no memory");
    st = weft_world_agree(st);
    if (st == WEFT_OK) {
        weft_world_allgather(&mine, all, sizeof mine);
        *out = (score){0};
        for (int r = 0; r < e->world->size; r++) {
            out->nats += all[r].nats;
            out->targets += all[r].targets;
            out->bytes += all[r].bytes;
        }
    }
    free(all);
    return st;
}

/* NaN where nothing was counted. */
static double mean_loss(const score *s) {
    return s->nats / (double)s->targets;
}
static double bits_per_byte(const score *s) {
    return s->bytes ? s->nats / M_LN2 / (double)s->bytes : NAN;
}

static json_t *score_json(const score *s) {
    double loss = mean_loss(s);
    return json_pack("{s:o, s:o, s:I, s:I, s:o}", "loss", weft_output_real(loss), "perplexity",
                     weft_output_real(exp(loss)), "tokens", (json_int_t)s->targets, "bytes",
                     (json_int_t)s->bytes, "bits_per_byte", weft_output_real(bits_per_byte(s)));
}

static void score_text(const char *name, const score *s) {
    double loss = mean_loss(s);
    printf("%-16s %12" PRId64 " ", name, s->targets);
    if (s->targets)
        printf("%10.4f %12.3f %14.4f\n", loss, exp(loss), bits_per_byte(s));
    else
        printf("%10s %12s %14s\n", "-", "-", "-");
}

static weft_status report(evaluation *e, const score *scores, int count, const char *split, bool json) {
    const weft_loader_domain *domains = weft_loader_domains(e->loader);
    score total = {0};
    for (int i = 0; i < count; i++)
        total.nats += scores[i].nats, total.targets += scores[i].targets, total.bytes += scores[i].bytes;
    if (!json) {
        printf("%s, %s, sequences of %" PRId64 " tokens\n%-16s %12s %10s %12s %14s\n", e->file.path, split,
               e->seq_len, "domain", "tokens", "loss", "perplexity", "bits per byte");
        for (int i = 0; i < count; i++) score_text(domains[i].name, &scores[i]);
        score_text("all", &total);
        return weft_output_finish();
    }
    json_t *by = json_object(),
           *o = json_pack("{s:s, s:I, s:s, s:I, s:o, s:o}", "model", e->file.path, "step",
                          (json_int_t)e->file.step, "split", split, "seq_len", (json_int_t)e->seq_len,
                          "domains", by, "all", score_json(&total));
    for (int i = 0; o && i < count; i++) json_object_set_new(by, domains[i].name, score_json(&scores[i]));
    return weft_output_json(o, JSON_INDENT(2));
}

static weft_status evaluate(evaluation *e, const char *data, const char *split, bool json) {
    weft_log_replicated(true);
    weft_status st = WEFT_OK;
    const weft_config *c = &e->file.config;
    if (e->seq_len == 0) e->seq_len = c->train.seq_len;
    if (!data) data = c->data.path;
    if (!*data)
        st = weft_fail(WEFT_EINPUT, "%s: names no data; add --data DIR", e->file.path);
    else if (strcmp(data, "random") == 0)
        st = weft_fail(WEFT_EINPUT, "data.path=random has no held-out text; add --data DIR");
    if (st == WEFT_OK) st = open_data(e, data, split);
    if (st == WEFT_OK) st = weft_modelfile_size(&e->file, e->batch, e->seq_len);
    if (st == WEFT_OK && !(e->loss = malloc((size_t)(e->batch * e->seq_len) * sizeof *e->loss)))
        st = weft_fail(WEFT_ENOMEM, "no memory");
    weft_log_replicated(false);
    WEFT_TRY(weft_world_agree(st));

    score scores[WEFT_LOADER_MAX_DOMAINS];
    int count = weft_loader_domain_count(e->loader);
    for (int i = 0; i < count; i++) WEFT_TRY(score_domain(e, i, &scores[i]));
    if (e->world->rank == 0) st = report(e, scores, count, split, json);
    return weft_world_agree(st);
}

static weft_status check_options(int64_t batch, int64_t seq_len, int64_t limit) {
    if (batch < 1 || batch > MAX_BATCH)
        WEFT_FAIL(WEFT_EINPUT, "--batch %lld: must be from 1 to %lld", (long long)batch,
                  (long long)MAX_BATCH);
    if (seq_len < 0 || seq_len > MAX_SEQ_LEN)
        WEFT_FAIL(WEFT_EINPUT, "--seq-len %lld: must be from 0 to %lld", (long long)seq_len,
                  (long long)MAX_SEQ_LEN);
    if (limit < 0) WEFT_FAIL(WEFT_EINPUT, "--max-sequences %lld: must be 0 or more", (long long)limit);
    return WEFT_OK;
}

weft_status weft_cmd_eval(const weft_world *w, int argc, char **argv) {
    const char *data = NULL, *split = "heldout";
    int64_t seq_len = 0, batch = 8, limit = 0;
    bool json = false, help = false;
    int n = 0;
    const weft_usage usage = {
        .command = "weft eval",
        .positional = "MODEL",
        .text =
            "Loss, perplexity and bits per byte on held-out text, by domain. MODEL is a run directory, a\n"
            "checkpoint or a Hugging Face directory. Under mpirun the ranks share the work.",
        .min_positional = 1,
        .max_positional = 1};
    const weft_option options[] = {
        {"data", WEFT_OPT_STRING, &data, "DIR", "made by `weft data build` (default: the run's data.path)"},
        {"split", WEFT_OPT_STRING, &split, "NAME", "heldout or train (heldout)"},
        {"seq-len", WEFT_OPT_INT, &seq_len, "N", "tokens of a sequence (default: the run's train.seq_len)"},
        {"batch", WEFT_OPT_INT, &batch, "N", "sequences at a time (8)"},
        {"max-sequences", WEFT_OPT_INT, &limit, "N", "stop after N sequences of a domain (0: all)"},
        {"json", WEFT_OPT_FLAG, &json, NULL, "print one JSON object"},
    };
    weft_log_replicated(true);
    weft_status st = weft_options_parse(&usage, options, 6, argc, argv, &n, &help);
    if (st == WEFT_OK && !help) st = check_options(batch, seq_len, limit);
    evaluation *e = calloc(1, sizeof *e);
    if (!e) st = weft_fail(WEFT_ENOMEM, "no memory");
    weft_log_replicated(false);
    st = weft_world_agree(st);
    if (st != WEFT_OK || help) {
        free(e);
        return st;
    }
    e->world = w;
    e->batch = batch, e->seq_len = seq_len, e->limit = limit;
    st = weft_modelfile_open(&e->file, w, argv[1]);
    if (st == WEFT_OK) {
        st = evaluate(e, data, split, json);
        weft_loader_close(e->loader);
        weft_modelfile_close(&e->file);
    }
    free(e->piece_bytes);
    free(e->loss);
    free(e);
    return st;
}
