/* data/loader/trace: the parts it names, read from the documents as they were written, are the loader's
 * batch. */
#include "made_loader.h"
#include "data/loader/trace.h"
#include "runtime/fs.h"
#include "support/suite.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static weft_trace *open_trace(const weft_loader_options *o) {
    weft_trace *t = NULL;
    ck_assert_int_eq(weft_trace_open(&t, o), WEFT_OK);
    return t;
}

/* The document that a part claims to be of, and all that the part says about it. Returns its tokens. */
static int32_t *check_part(const weft_trace_part *p, int domain, int split) {
    const made_domain *made = &made_domains_masked[domain];
    int doc = (int)(p->origin.id & UINT32_MAX), shard = doc / made->per_shard;
    weft_shard_origin origin = made_origin(domain, split, doc);
    char name[128];
    size_t n;
    int64_t before = 0;
    ck_assert_mem_eq(&p->origin, &origin, sizeof origin);
    snprintf(name, sizeof name, "corpus/%d.jsonl", (int)origin.file);
    ck_assert_str_eq(p->source, name);
    snprintf(name, sizeof name, "%s/%s-%05d.h5", weft_split_names[split], made->name, shard);
    ck_assert_str_eq(p->shard, name);
    ck_assert_int_eq(p->document, doc % made->per_shard);
    for (int i = shard * made->per_shard; i < doc; i++) {
        free(made_document(VOCAB, made, split, i, &n));
        before += (int64_t)n + 2;
    }
    int32_t *ids = made_document(VOCAB, made, split, doc, &n), *all = malloc((n + 2) * sizeof *all);
    all[0] = 1;
    memcpy(all + 1, ids, n * sizeof *ids);
    all[n + 1] = 2;
    free(ids);
    ck_assert_int_eq(p->first, before + p->document_at);
    ck_assert_int_eq(p->document_tokens, (int64_t)n + 2);
    ck_assert_int_ge(p->document_at, 0);
    ck_assert_int_gt(p->tokens, 0);
    ck_assert_int_le(p->document_at + p->tokens, p->document_tokens);
    return all;
}

static void check_sequence(const weft_traced *s, const weft_batch *b, int split) {
    int64_t at = 0;
    ck_assert_str_eq(s->domain_name, made_domains[s->domain].name);
    ck_assert_int_eq(b->domain[0], s->domain);
    for (int64_t i = 0; i < s->count; i++) {
        const weft_trace_part *p = &s->parts[i];
        int32_t *doc = check_part(p, s->domain, split);
        ck_assert_int_eq(p->at, at);
        ck_assert_int_eq(b->doc_start[at], at);
        ck_assert_mem_eq(b->tokens + at, doc + p->document_at, (size_t)p->tokens * sizeof *doc);
        free(doc);
        at += p->tokens;
    }
    ck_assert_int_eq(at + s->padded, T);
    for (; at < T; at++) ck_assert_int_eq(b->tokens[at], 2);
}

static void check_samples(bool whole, int64_t max_epochs, int split) {
    weft_loader_options o = made_options(made_masked_dir());
    const made_weight given[] = {{"web", 1}, {"books", 2}, {"code", 1}};
    o.whole = whole;
    o.max_epochs = max_epochs;
    o.split = weft_split_names[split];
    o.weights_count = 3;
    o.weights = (const void *)given;
    weft_loader *l = made_loader(&o);
    o.vocab_size = 0;
    o.max_batch = 0;
    weft_trace *t = open_trace(&o);
    uint64_t end = weft_loader_samples(l) < 20000 ? weft_loader_samples(l) : 20000, many = 0;
    for (uint64_t sample = 0; sample < end; sample += end / 500 + 1) {
        int d;
        int64_t index, epoch;
        weft_traced s;
        weft_batch b = made_batch(l, &sample, 1);
        weft_loader_locate(l, sample, &d, &index, &epoch);
        ck_assert_int_eq(weft_trace_sample(t, sample, &s), WEFT_OK);
        ck_assert_int_eq(s.domain, d);
        ck_assert_int_eq(s.index, index);
        ck_assert_int_eq(s.epoch, epoch);
        check_sequence(&s, &b, split);
        many += s.count > 2;
    }
    ck_assert_uint_gt(many, 10);
    weft_trace_close(t);
    weft_loader_close(l);
}

START_TEST(parts_are_what_the_loader_reads) {
    check_samples(false, 0, WEFT_SPLIT_TRAIN);
    check_samples(true, 0, WEFT_SPLIT_TRAIN);
    check_samples(false, 2, WEFT_SPLIT_TRAIN);
    check_samples(true, 2, WEFT_SPLIT_HELDOUT);
}
END_TEST

/* Every token of every domain is in exactly one part; a sequence may lie in two shards. */
START_TEST(file_order_covers_all) {
    weft_loader_options o = made_options(made_shared_dir());
    for (int whole = 0; whole < 2; whole++) {
        o.whole = whole;
        weft_trace *t = open_trace(&o);
        int count;
        const weft_loader_domain *domains = weft_trace_domains(t, &count);
        ck_assert_int_eq(count, DOMAINS);
        for (int d = 0; d < DOMAINS; d++) {
            int64_t tokens = 0, two_shards = 0;
            for (int64_t i = 0; i < domains[d].samples; i++) {
                weft_traced s;
                ck_assert_int_eq(weft_trace_sequence(t, d, i, &s), WEFT_OK);
                ck_assert_int_eq(s.epoch, 0);
                for (int64_t p = 0; p < s.count; p++) {
                    tokens += s.parts[p].tokens;
                    two_shards += strcmp(s.parts[p].shard, s.parts[0].shard) != 0;
                }
            }
            ck_assert_int_eq(tokens, whole ? domains[d].tokens : domains[d].samples * T);
            if (d == 0) ck_assert_int_gt(two_shards, 0);
        }
        weft_trace_close(t);
    }
}
END_TEST

struct tracing {
    weft_loader_options o;
    uint64_t sample;
    weft_status status;
};

static void try_trace(void *arg) {
    struct tracing *x = arg;
    weft_trace *t = NULL;
    weft_traced s;
    x->status = weft_trace_open(&t, &x->o);
    if (x->status == WEFT_OK) x->status = weft_trace_sample(t, x->sample, &s);
    weft_trace_close(t);
}

static void refused(const weft_loader_options *o, uint64_t sample, const char *why) {
    struct tracing x = {.o = *o, .sample = sample};
    const char *text = made_errors(try_trace, &x);
    ck_assert_int_eq(x.status, WEFT_EINPUT);
    ck_assert_msg(strstr(text, why) != NULL, "'%s' lacks '%s'", text, why);
}

START_TEST(what_cannot_be_traced_is_refused) {
    weft_loader_options o = made_options("random");
    refused(&o, 0, "random tokens come from nowhere");
    o = made_options("/nonexistent/data");
    refused(&o, 0, "/nonexistent/data");
    o = made_options(made_shared_dir());
    o.split = "test";
    refused(&o, 0, "there is no split 'test'");
    o.split = "train";
    o.vocab_size = 7;
    refused(&o, 0, "a tokenizer of 1000 tokens, not 7");
    o.vocab_size = 0;
    o.max_epochs = 1;
    refused(&o, 1000000, "the data are used up");
    weft_trace *t = open_trace(&o);
    weft_traced s;
    int count;
    int64_t samples = weft_trace_domains(t, &count)[1].samples;
    ck_assert_int_eq(weft_trace_sequence(t, DOMAINS, 0, &s), WEFT_EINPUT);
    ck_assert_int_eq(weft_trace_sequence(t, 1, samples, &s), WEFT_EINPUT);
    ck_assert_int_eq(weft_trace_sequence(t, 1, samples - 1, &s), WEFT_OK);
    weft_trace_close(t);
}
END_TEST

/* A shard that names a file beyond the manifest's list. */
START_TEST(a_file_that_is_not_listed_is_refused) {
    static const made_domain one[] = {{"books", 100, 900, 100, false}};
    const char *dir = made_dir();
    made_write(dir, VOCAB, one, 1);
    weft_loader_options o = made_options(dir);
    weft_trace *t = open_trace(&o);
    uint64_t sample = 0;
    for (bool found = false; !found; sample += !found) {
        weft_traced s;
        ck_assert_int_eq(weft_trace_sample(t, sample, &s), WEFT_OK);
        for (int64_t i = 0; i < s.count; i++) found |= s.parts[i].origin.file == MADE_SOURCES - 1;
    }
    weft_trace_close(t);
    made_manifest_again(dir, MADE_SOURCES - 1);
    refused(&o, sample, "comes from file 4, but the manifest lists 4");
}
END_TEST

SUITE_MAIN("data/trace", parts_are_what_the_loader_reads, file_order_covers_all,
           what_cannot_be_traced_is_refused, a_file_that_is_not_listed_is_refused)
