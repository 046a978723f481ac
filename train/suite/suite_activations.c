/* How large activations become in every layer, and how evenly the experts are used, over text of the run.
 *
 * Sequences go through the model one by one, each rank looks at its own, and what was seen is added up in the
 * order of the data: the result does not depend on the ranks. */
#include "data/loader/loader.h"
#include "runtime/log.h"
#include "train/output.h"
#include "train/suite/suite_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct survey {
    weft_suite_job *job;
    const char *data; /* directory of shards, or "random" */
    weft_loader *loader;
    int64_t T, sequences;  /* tokens of one; of all domains */
    int32_t *targets;      /* [T] none: no loss is wanted */
    int64_t each;          /* numbers of a sequence */
    double *values, *mine; /* [sequences, each]; of the sequence that is in the pass */
} survey;

/* ---- sequences ---------------------------------------------------------------------------------- */

static int64_t of_domain(const survey *s, int domain) {
    int64_t samples = weft_loader_domains(s->loader)[domain].samples,
            most = s->job->suite->activations.sequences;
    return samples < most ? samples : most;
}

static weft_status open_data(survey *s) {
    WEFT_TRY(weft_suite_open_data(s->job, s->data, s->T, 1, &s->loader));
    for (int d = 0; d < weft_loader_domain_count(s->loader); d++) s->sequences += of_domain(s, d);
    return WEFT_OK;
}

static weft_status prepare(survey *s) {
    WEFT_TRY(open_data(s));
    s->targets = malloc((size_t)s->T * sizeof *s->targets);
    s->values = calloc((size_t)s->sequences, (size_t)(s->each + 1) * sizeof *s->values);
    if (!s->targets || !s->values)
        WEFT_FAIL(WEFT_ENOMEM, "no memory for the activations of %lld sequences", (long long)s->sequences);
    for (int64_t i = 0; i < s->T; i++) s->targets[i] = -1;
    return weft_modelfile_size(s->job->file, 1, s->T);
}

static weft_status look(survey *s, int64_t sequence, const weft_watch *watch) {
    weft_modelfile *f = s->job->file;
    weft_batch batch;
    int64_t index = sequence;
    int domain = 0;
    while (index >= of_domain(s, domain)) index -= of_domain(s, domain++);
    WEFT_TRY(weft_loader_request_sequential(s->loader, domain, index, 1));
    WEFT_TRY(weft_loader_take(s->loader, &batch, NULL));
    weft_microbatch mb = {.B = 1,
                          .T = s->T,
                          .tokens = batch.tokens,
                          .targets = s->targets,
                          .doc_start = f->config.data.document_mask ? batch.doc_start : NULL};
    s->mine = s->values + sequence * s->each;
    f->model.watch = *watch;
    weft_model_losses(&f->model, &f->device, f->params, &mb, f->config.train.loss_chunk, NULL);
    f->model.watch = (weft_watch){0};
    return WEFT_OK;
}

/* Collective: after it every rank holds the numbers of all sequences. */
static weft_status look_at_all(survey *s, const weft_watch *watch) {
    const weft_world *w = s->job->world;
    weft_log_replicated(true);
    weft_status st = prepare(s);
    weft_log_replicated(false);
    WEFT_TRY(weft_world_agree(st));
    for (int64_t i = w->rank; i < s->sequences && st == WEFT_OK; i += w->size) st = look(s, i, watch);
    WEFT_TRY(weft_world_agree(st));
    return weft_suite_share(s->job, s->values, s->sequences, s->each);
}

static survey survey_of(weft_suite_job *j, int64_t each) {
    const weft_suite *suite = j->suite;
    const char *data = weft_suite_data(j);
    return (survey){.job = j,
                    .data = *data ? data : "random",
                    .T = suite->bits.seq_len ? suite->bits.seq_len : j->file->config.train.seq_len,
                    .each = each};
}

static void survey_free(survey *s) {
    weft_loader_close(s->loader);
    free(s->targets);
    free(s->values);
}

/* ---- activations -------------------------------------------------------------------------------- */

/* What is watched of a block, in the order of the computation; those in the middle are Mamba's. */
static const char *const sites[] = {"residual", "x_proj", "dbc", "gated", "out"};
enum { SITES = sizeof sites / sizeof *sites };
enum { LARGEST, SQUARES, ELEMENTS, NUMBERS }; /* of a site: max |x|, sum of x^2, how many */

/* A NaN stays. */
static double larger(double a, double b) {
    return a >= b || isnan(a) ? a : b;
}

static void see(void *of, const weft_block *b, const char *name, const weft_act *x, int64_t ld, int64_t first,
                int64_t rows, int64_t width) {
    const survey *s = of;
    int site = 0;
    (void)first;
    while (site < SITES && strcmp(name, sites[site]) != 0) site++;
    if (site == SITES) return;
    double *number = s->mine + (b->index * SITES + site) * NUMBERS;
    for (int64_t i = 0; i < rows; i++) {
        const weft_real *row = (const weft_real *)x + i * ld;
        for (int64_t k = 0; k < width; k++) {
            double v = (double)row[k];
            number[LARGEST] = larger(number[LARGEST], fabs(v));
            number[SQUARES] += v * v;
        }
    }
    number[ELEMENTS] += (double)(rows * width);
}

static json_t *site_json(const survey *s, const weft_block *b, int site) {
    double sum[NUMBERS] = {0};
    char name[32];
    for (int64_t i = 0; i < s->sequences; i++) {
        const double *number = s->values + i * s->each + (b->index * SITES + site) * NUMBERS;
        sum[LARGEST] = larger(sum[LARGEST], number[LARGEST]);
        sum[SQUARES] += number[SQUARES];
        sum[ELEMENTS] += number[ELEMENTS];
    }
    snprintf(name, sizeof name, "%s.%s", b->kind->name, sites[site]);
    return json_pack("{s:I, s:s, s:o, s:o}", "layer", (json_int_t)b->layer, "name", name, "max",
                     weft_output_real(sum[LARGEST]), "rms",
                     weft_output_real(sqrt(sum[SQUARES] / sum[ELEMENTS])));
}

static weft_status activations_json(const survey *s, json_t **out) {
    const weft_model *m = &s->job->file->model;
    json_t *layers = json_array(),
           *o = json_pack("{s:s, s:I, s:I, s:o}", "data", strcmp(s->data, "random") ? s->data : "random ids",
                          "seq_len", (json_int_t)s->T, "sequences", (json_int_t)s->sequences, "layers",
                          layers);
    int bad = !o;
    for (int64_t i = 0; i < m->block_count * SITES && !bad; i++)
        if (s->values[i * NUMBERS + ELEMENTS] > 0) /* of the first sequence: the block has this site */
            bad = json_array_append_new(layers, site_json(s, &m->blocks[i / SITES], (int)(i % SITES)));
    if (bad) {
        json_decref(o);
        WEFT_FAIL(WEFT_ENOMEM, "no memory for the activations of %lld blocks", (long long)m->block_count);
    }
    *out = o;
    return WEFT_OK;
}

weft_status weft_suite_activations(weft_suite_job *j, json_t **out) {
    survey s = survey_of(j, j->file->model.block_count * SITES * NUMBERS);
    json_t *result = NULL;
    weft_status st = look_at_all(&s, &(weft_watch){.inside = see, .of = &s});
    if (st == WEFT_OK) st = weft_world_agree(activations_json(&s, &result));
    survey_free(&s);
    if (st == WEFT_OK)
        *out = result;
    else
        json_decref(result);
    return st;
}

/* ---- experts ------------------------------------------------------------------------------------ */

static void count(void *of, const weft_block *b, const int32_t *ids, int64_t rows, int64_t k) {
    const survey *s = of;
    double *slots = s->mine + b->moe_index * b->config->num_experts;
    for (int64_t i = 0; i < rows * k; i++) slots[ids[i]] += 1;
}

static json_t *share_json(const survey *s, const weft_block *b) {
    int64_t X = b->config->num_experts;
    double all = (double)(s->sequences * s->T * b->config->num_experts_per_tok);
    json_t *share = json_array();
    int bad = !share;
    for (int64_t e = 0; e < X && !bad; e++) {
        double slots = 0;
        for (int64_t i = 0; i < s->sequences; i++) slots += s->values[i * s->each + b->moe_index * X + e];
        bad = json_array_append_new(share, weft_output_real(slots / all));
    }
    if (!bad) return json_pack("{s:I, s:o}", "layer", (json_int_t)b->layer, "share", share);
    json_decref(share);
    return NULL;
}

static weft_status experts_json(const survey *s, json_t **out) {
    const weft_model *m = &s->job->file->model;
    json_t *list = json_array();
    int bad = !list;
    for (int64_t i = 0; i < m->block_count && !bad; i++)
        if (m->blocks[i].kind == &weft_block_moe)
            bad = json_array_append_new(list, share_json(s, &m->blocks[i]));
    if (bad) {
        json_decref(list);
        WEFT_FAIL(WEFT_ENOMEM, "no memory for the shares of experts");
    }
    *out = list;
    return WEFT_OK;
}

/* An empty list for a model without experts. */
weft_status weft_suite_experts(weft_suite_job *j, json_t **out) {
    const weft_model *m = &j->file->model;
    survey s = survey_of(j, m->moe_count * m->config.num_experts);
    json_t *result = NULL;
    weft_status st = m->moe_count ? look_at_all(&s, &(weft_watch){.routed = count, .of = &s}) : WEFT_OK;
    if (st == WEFT_OK) st = weft_world_agree(experts_json(&s, &result));
    survey_free(&s);
    if (st == WEFT_OK)
        *out = result;
    else
        json_decref(result);
    return st;
}
