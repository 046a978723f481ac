#include "data/loader/loader_corpus.h"
#include "runtime/fs.h"
#include "runtime/log.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void list_domains(const weft_corpus *c, char *text, size_t size) {
    size_t used = 0;
    text[0] = 0;
    for (int d = 0; d < c->domain_count && used < size; d++)
        used += (size_t)snprintf(text + used, size - used, "%s%s", d ? ", " : "", c->domains[d].name);
}

static weft_status take_weights(weft_corpus *c, const weft_loader_options *o) {
    char known[1024];
    list_domains(c, known, sizeof known);
    for (int d = 0; d < c->domain_count; d++)
        c->domains[d].weight = o->weights_count > 0 ? 0 : (double)c->domains[d].tokens;
    for (int i = 0; i < o->weights_count; i++) {
        const char *name = o->weights[i].name;
        double weight = o->weights[i].weight;
        int found = -1;
        for (int d = 0; d < c->domain_count; d++)
            if (strcmp(c->domains[d].name, name) == 0) found = d;
        if (found < 0)
            WEFT_FAIL(WEFT_EINPUT, "%s: there is no domain '%s' to give a weight to; it has: %s", o->path,
                      name, known);
        if (!isfinite(weight) || weight < 0)
            WEFT_FAIL(WEFT_EINPUT, "the weight of domain '%s' is %g; it must not be negative", name, weight);
        c->domains[found].weight = weight;
    }
    return WEFT_OK;
}

static weft_status set_weights(weft_corpus *c, const weft_loader_options *o) {
    double sum = 0;
    bool given = o->weights_count > 0;
    WEFT_TRY(take_weights(c, o));
    for (int d = 0; d < c->domain_count; d++) {
        weft_loader_domain *domain = &c->domains[d];
        if (domain->samples == 0 && domain->weight > 0 && given)
            WEFT_FAIL(
                WEFT_EINPUT,
                "%s: domain '%s' has a weight, but its %lld tokens (%s) are too few for one sequence of %lld",
                o->path, domain->name, (long long)domain->tokens, o->split, (long long)c->seq_len + 1);
        if (domain->samples == 0) {
            if (!given)
                weft_warn(
                    "%s: domain '%s' is left out: its %lld tokens (%s) are too few for one sequence of %lld",
                    o->path, domain->name, (long long)domain->tokens, o->split, (long long)c->seq_len + 1);
            domain->weight = 0;
        }
        sum += domain->weight;
    }
    if (!isfinite(sum)) WEFT_FAIL(WEFT_EINPUT, "the weights of the domains are too large to add up");
    if (sum <= 0 && given) WEFT_FAIL(WEFT_EINPUT, "the weights of the domains add up to 0");
    if (sum <= 0)
        WEFT_FAIL(WEFT_EINPUT,
                  "%s: no domain's %s split has the tokens for one sequence of %lld; take a shorter "
                  "seq_len or more text",
                  o->path, o->split, (long long)c->seq_len + 1);
    for (int d = 0; d < c->domain_count; d++) c->domains[d].weight /= sum;
    return WEFT_OK;
}

static weft_status check_tokenizer(weft_corpus *c, const char *dir) {
    weft_hash128 found;
    c->tokenizer_path = weft_format("%s/tokenizer/tokenizer.model", dir);
    if (!c->tokenizer_path) WEFT_FAIL(WEFT_ENOMEM, "%s: no memory to read it", dir);
    WEFT_TRY(weft_hash_file(c->tokenizer_path, &found, NULL));
    if (found.hi != c->tokenizer.hi || found.lo != c->tokenizer.lo)
        WEFT_FAIL(WEFT_EINPUT, "%s: not the tokenizer that made the shards beside it", c->tokenizer_path);
    return WEFT_OK;
}

static weft_status count_samples(weft_corpus *c) {
    for (int d = 0; d < c->domain_count; d++) {
        weft_loader_domain *domain = &c->domains[d];
        domain->samples = domain->tokens > 0 ? (domain->tokens - 1) / c->seq_len : 0;
        if (!c->whole) continue;
        WEFT_TRY(weft_pack_make(&c->packs[d], &c->streams.of[d], c->seq_len));
        domain->samples = c->packs[d].sequences;
        domain->padded = domain->samples * c->seq_len - domain->tokens;
    }
    return WEFT_OK;
}

weft_status weft_corpus_check_options(const weft_loader_options *o) {
    if (weft_split_of(o->split) < 0)
        WEFT_FAIL(WEFT_EINPUT, "there is no split '%s'; the splits are train and heldout", o->split);
    if (o->seq_len < 1 || o->seq_len > INT32_MAX - 1)
        WEFT_FAIL(WEFT_EINPUT, "sequences of %lld tokens cannot be loaded", (long long)o->seq_len);
    if (o->max_epochs < 0)
        WEFT_FAIL(WEFT_EINPUT, "data cannot be read at most %lld times", (long long)o->max_epochs);
    return WEFT_OK;
}

weft_status weft_corpus_open(weft_corpus *c, const weft_loader_options *o, const weft_manifest *m) {
    int split = weft_split_of(o->split);
    *c = (weft_corpus){.seq_len = o->seq_len,
                       .bos = m->bos,
                       .eos = m->eos,
                       .whole = o->whole,
                       .max_epochs = o->max_epochs,
                       .tokenizer = m->tokenizer,
                       .content = m->content,
                       .domain_count = m->domain_count};
    for (int d = 0; d < m->domain_count; d++) {
        const weft_manifest_split *s = &m->domains[d].split[split];
        c->domains[d] =
            (weft_loader_domain){.documents = s->documents, .tokens = s->tokens, .bytes = s->bytes};
        memcpy(c->domains[d].name, m->domains[d].name, sizeof m->domains[d].name);
    }
    WEFT_TRY(check_tokenizer(c, o->path));
    WEFT_TRY(weft_streams_open(&c->streams, o->path, m, split));
    WEFT_TRY(count_samples(c));
    WEFT_TRY(set_weights(c, o));
    return weft_order_init(&c->order, o->seed, c->domains, c->domain_count, o->max_epochs);
}

void weft_corpus_close(weft_corpus *c) {
    for (int d = 0; d < c->domain_count; d++) weft_pack_free(&c->packs[d]);
    weft_streams_close(&c->streams);
    weft_order_free(&c->order);
    free(c->tokenizer_path);
    *c = (weft_corpus){0};
}

weft_status weft_corpus_check(const weft_corpus *c, uint64_t sample) {
    if (sample >= c->order.total)
        WEFT_FAIL(WEFT_EINPUT,
                  "the data are used up: with at most %lld epochs of each domain they end after %llu "
                  "sequences of %lld tokens, and number %llu was wanted; raise data.max_epochs or add data",
                  (long long)c->max_epochs, (unsigned long long)c->order.total, (long long)c->seq_len,
                  (unsigned long long)sample);
    return WEFT_OK;
}
