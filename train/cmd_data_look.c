/* `weft data ls`, `show` and `trace`: from shards, clusters and training steps back to documents and their
 * sources. */
#include "train/cmd_data.h"

#include "data/build/evidence.h"
#include "data/build/recipe.h"
#include "data/loader/trace.h"
#include "data/shard/manifest.h"
#include "data/source/source.h"
#include "runtime/fs.h"
#include "train/options.h"
#include "train/output.h"
#include "train/trainer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(array) ((int)(sizeof(array) / sizeof *(array)))

static const char *source_name(const weft_manifest *m, uint64_t file) {
    return file < (uint64_t)m->source_count ? m->sources[file].file : "?";
}

/* ---- ls ---- */
typedef struct listing {
    const weft_manifest *m;
    const char *dir;
    bool json;
    int64_t left; /* documents still to be shown; below 0: all */
} listing;

static weft_status list_document(const listing *l, const char *shard, int64_t number, int64_t tokens,
                                 uint32_t bytes, const weft_shard_origin *o) {
    const char *file = source_name(l->m, o->file);
    if (!l->json) {
        printf("%-28s %9lld %9lld %10u  %s:%llu", shard, (long long)number, (long long)tokens, bytes, file,
               (unsigned long long)o->place);
        if (o->cluster) printf("  cluster %llu", (unsigned long long)o->cluster - 1);
        putchar('\n');
        return WEFT_OK;
    }
    json_t *one = json_pack("{s:s, s:I, s:I, s:I, s:s, s:I, s:I}", "shard", shard, "document",
                            (json_int_t)number, "tokens", (json_int_t)tokens, "bytes", (json_int_t)bytes,
                            "file", file, "place", (json_int_t)o->place, "id", (json_int_t)o->id);
    if (!one) WEFT_FAIL(WEFT_ENOMEM, "no memory for JSON");
    json_object_set_new(one, "cluster",
                        o->cluster ? json_integer((json_int_t)(o->cluster - 1)) : json_null());
    int failed = json_dumpf(one, stdout, JSON_COMPACT);
    putchar('\n');
    json_decref(one);
    if (failed) WEFT_FAIL(WEFT_EIO, "the list cannot be written");
    return WEFT_OK;
}

static weft_status list_shard(listing *l, const weft_manifest_domain *d, const weft_manifest_file *f) {
    weft_shard *shard;
    uint64_t *ends = NULL;
    uint32_t *bytes = NULL;
    weft_shard_origin *origins = NULL;
    WEFT_TRY(weft_manifest_open_shard(l->m, l->dir, d, f, &shard));
    weft_status st = weft_shard_read_documents(shard, &ends, &bytes);
    if (st == WEFT_OK) st = weft_shard_read_origins(shard, &origins);
    for (int64_t i = 0; st == WEFT_OK && i < f->documents && l->left != 0; i++, l->left--)
        st = list_document(l, f->name, i, (int64_t)(ends[i] - (i ? ends[i - 1] : 0)), bytes[i], &origins[i]);
    weft_shard_close(shard);
    free(ends);
    free(bytes);
    free(origins);
    return st;
}

weft_status weft_data_ls_command(int argc, char **argv) {
    const char *domain = NULL, *split = NULL;
    int64_t n = -1;
    bool json = false, help;
    int count;
    const weft_option options[] = {
        {"domain", WEFT_OPT_STRING, &domain, "NAME", "of this domain only"},
        {"split", WEFT_OPT_STRING, &split, "NAME", "train or heldout only"},
        {"n", WEFT_OPT_INT, &n, "N", "the first N documents (default: all)"},
        {"json", WEFT_OPT_FLAG, &json, NULL, "one JSON object a line"},
    };
    const weft_usage usage = {
        "weft data ls", "DIR",
        "The documents of a data directory in the order of its shards: tokens, bytes, the file and\n"
        "line that each came from, and its cluster of duplicates.",
        1, 1};
    WEFT_TRY(weft_options_parse(&usage, options, COUNT(options), argc, argv, &count, &help));
    if (help) return WEFT_OK;
    if (split && weft_split_of(split) < 0)
        WEFT_FAIL(WEFT_EINPUT, "there is no split '%s'; the splits are train and heldout", split);
    weft_manifest m;
    WEFT_TRY(weft_manifest_read(&m, argv[1]));
    listing l = {&m, argv[1], json, n};
    weft_status st = WEFT_OK;
    bool known = !domain;
    if (!json) printf("%-28s %9s %9s %10s  %s\n", "shard", "document", "tokens", "bytes", "source:line");
    for (int d = 0; d < m.domain_count; d++) {
        if (domain && strcmp(m.domains[d].name, domain) != 0) continue;
        known = true;
        for (int s = 0; s < WEFT_SPLITS; s++)
            for (int f = 0; st == WEFT_OK && f < m.domains[d].split[s].count; f++)
                if (!split || weft_split_of(split) == s)
                    st = list_shard(&l, &m.domains[d], &m.domains[d].split[s].files[f]);
    }
    if (st == WEFT_OK && !known) st = weft_fail(WEFT_EINPUT, "%s: there is no domain '%s'", argv[1], domain);
    weft_manifest_free(&m);
    return st == WEFT_OK ? weft_output_finish() : st;
}

/* ---- show ---- */
/* The options that the build read this file with: of the source in whose list it is. */
static const weft_source_options *options_of(const weft_recipe *r, const char *file) {
    for (int i = 0; i < r->source_count; i++) {
        char **files;
        int count;
        bool here = false;
        const weft_source_options *o = &r->sources[i].options;
        if (weft_source_list(r->sources[i].path, o->format, &files, &count) != WEFT_OK) continue;
        for (int k = 0; k < count; k++) here = here || strcmp(files[k], file) == 0;
        weft_source_list_free(files, count);
        if (here) return o;
    }
    return NULL;
}

/* Cuts at a character's start. */
static int shown_bytes(const char *text, size_t bytes, int64_t most) {
    size_t n = (int64_t)bytes < most ? bytes : (size_t)most;
    while (n > 0 && n < bytes && ((unsigned char)text[n] & 0xc0) == 0x80) n--;
    return (int)n;
}

static weft_status show_cluster(const weft_recipe *r, const weft_evidence *e, int64_t most) {
    printf("cluster %llu: %lld documents, %s\n", (unsigned long long)e->cluster, (long long)e->size,
           e->exact ? "exact copies" : "near duplicates");
    for (int64_t i = 0; i < e->count; i++) {
        const weft_evidence_document *d = &e->documents[i];
        char *text = NULL;
        size_t bytes = 0;
        printf("\n---- %s:%lld, document %llu, ", d->file, (long long)d->place, (unsigned long long)d->id);
        if (d->id == d->kept)
            printf("kept\n");
        else
            printf("dropped: similarity %.4f to %llu\n", d->similarity, (unsigned long long)d->kept);
        fflush(stdout);
        if (weft_source_fetch(d->file, options_of(r, d->file), d->place, &text, &bytes) == WEFT_OK) {
            int n = shown_bytes(text, bytes, most);
            printf("%.*s%s\n", n, text, (size_t)n < bytes ? " ..." : "");
        } else
            printf("(its text cannot be read: the file has moved or changed since)\n");
        free(text);
    }
    return weft_output_finish();
}

static weft_status list_cluster(void *arg, const weft_evidence *e) {
    int64_t *left = arg;
    double least = 1;
    int64_t dropped = 0;
    for (int64_t i = 0; i < e->count; i++) {
        if (e->documents[i].similarity < least) least = e->documents[i].similarity;
        dropped += e->documents[i].id != e->documents[i].kept;
    }
    if ((*left)-- > 0)
        printf("%-16llu %-6s %6lld documents, %6lld dropped, similarity from %.4f\n",
               (unsigned long long)e->cluster, e->exact ? "exact" : "near", (long long)e->size,
               (long long)dropped, least);
    return WEFT_OK;
}

weft_status weft_data_show_command(int argc, char **argv) {
    int64_t most = 400, n = 50;
    bool help;
    int count;
    char *end;
    const weft_option options[] = {
        {"bytes", WEFT_OPT_INT, &most, "N", "of each text, from its start (default 400)"},
        {"n", WEFT_OPT_INT, &n, "N", "clusters in the list (default 50)"},
    };
    const weft_usage usage = {
        "weft data show", "DIR [CLUSTER]",
        "A cluster of duplicates, its documents one below the other, from their files: which stayed,\n"
        "and how similar to it those are that went. Without CLUSTER: a list of clusters.",
        1, 2};
    WEFT_TRY(weft_options_parse(&usage, options, COUNT(options), argc, argv, &count, &help));
    if (help) return WEFT_OK;
    if (count == 1) {
        WEFT_TRY(weft_evidence_each(argv[1], list_cluster, &n));
        if (n < 0) printf("... and %lld more\n", (long long)-n);
        return weft_output_finish();
    }
    uint64_t cluster = strtoull(argv[2], &end, 10);
    if (!*argv[2] || *end) WEFT_FAIL(WEFT_EINPUT, "weft data show: '%s' is no number of a cluster", argv[2]);
    char path[WEFT_PATH_SIZE];
    weft_recipe r;
    weft_evidence e = {0};
    WEFT_TRY(weft_fs_path(path, "%s/recipe.yaml", argv[1]));
    weft_status st = weft_recipe_init(&r);
    if (st == WEFT_OK) st = weft_recipe_read(&r, path);
    if (st == WEFT_OK) st = weft_recipe_check_sources(&r);
    if (st == WEFT_OK) st = weft_evidence_find(argv[1], cluster, &e);
    if (st == WEFT_OK) st = show_cluster(&r, &e, most);
    weft_evidence_free(&e);
    weft_recipe_free(&r);
    return st;
}

/* ---- trace ---- */
typedef struct tracing {
    weft_trace *trace;
    int64_t step, batch;
    bool json;
} tracing;

static void print_part(const weft_trace_part *p) {
    printf("  %6lld %7lld tokens  %s:%llu  document %llu, from its token %lld of %lld", (long long)p->at,
           (long long)p->tokens, p->source, (unsigned long long)p->origin.place,
           (unsigned long long)p->origin.id, (long long)p->document_at, (long long)p->document_tokens);
    if (p->origin.cluster) printf(", cluster %llu", (unsigned long long)p->origin.cluster - 1);
    printf("  (%s, document %lld)\n", p->shard, (long long)p->document);
}

static json_t *part_json(const weft_trace_part *p) {
    json_t *o =
        json_pack("{s:I, s:I, s:s, s:I, s:I, s:I, s:I, s:s, s:I, s:I}", "at", (json_int_t)p->at, "tokens",
                  (json_int_t)p->tokens, "file", p->source, "place", (json_int_t)p->origin.place, "id",
                  (json_int_t)p->origin.id, "document_at", (json_int_t)p->document_at, "document_tokens",
                  (json_int_t)p->document_tokens, "shard", p->shard, "document", (json_int_t)p->document,
                  "first", (json_int_t)p->first);
    if (o)
        json_object_set_new(o, "cluster",
                            p->origin.cluster ? json_integer((json_int_t)(p->origin.cluster - 1))
                                              : json_null());
    return o;
}

static weft_status print_sequence(const tracing *t, int64_t sequence, uint64_t sample) {
    weft_traced s;
    WEFT_TRY(weft_trace_sample(t->trace, sample, &s));
    if (t->json) {
        json_t *parts = json_array();
        for (int64_t i = 0; i < s.count; i++) json_array_append_new(parts, part_json(&s.parts[i]));
        json_t *o = json_pack("{s:I, s:I, s:I, s:s, s:I, s:I, s:I, s:o}", "step", (json_int_t)t->step,
                              "sequence", (json_int_t)sequence, "sample", (json_int_t)sample, "domain",
                              s.domain_name, "index", (json_int_t)s.index, "epoch", (json_int_t)s.epoch,
                              "padded", (json_int_t)s.padded, "parts", parts);
        int failed = o ? json_dumpf(o, stdout, JSON_COMPACT) : -1;
        json_decref(o);
        putchar('\n');
        if (failed) WEFT_FAIL(WEFT_EIO, "the sequence cannot be written");
        return WEFT_OK;
    }
    printf("step %lld, sequence %lld: sample %llu, %s number %lld of epoch %lld\n", (long long)t->step,
           (long long)sequence, (unsigned long long)sample, s.domain_name, (long long)s.index,
           (long long)s.epoch);
    for (int64_t i = 0; i < s.count; i++) print_part(&s.parts[i]);
    if (s.padded) printf("  %lld tokens fill it up\n", (long long)s.padded);
    return WEFT_OK;
}

/* Step s, from 1, trains on samples (s - 1) * global_batch and on. */
static weft_status print_step(const tracing *t, int64_t sequence) {
    uint64_t first = (uint64_t)(t->step - 1) * (uint64_t)t->batch;
    for (int64_t i = 0; i < t->batch; i++)
        if (sequence < 0 || sequence == i) WEFT_TRY(print_sequence(t, i, first + (uint64_t)i));
    return weft_output_finish();
}

weft_status weft_data_trace_command(int argc, char **argv) {
    int64_t step = 0, sequence = -1;
    bool json = false, help;
    int count;
    const weft_option options[] = {
        {"step", WEFT_OPT_INT, &step, "S", "of training, from 1 (required)"},
        {"sequence", WEFT_OPT_INT, &sequence, "I", "of the step's global batch, from 0 (default: all)"},
        {"json", WEFT_OPT_FLAG, &json, NULL, "one JSON object a line"},
    };
    const weft_usage usage = {
        "weft data trace", "CONFIG.yaml [key=value...]",
        "The documents that a training step reads, sequence by sequence: source file and line, and the\n"
        "cluster of duplicates. CONFIG and the keys are the run's.",
        1, -1};
    WEFT_TRY(weft_options_parse(&usage, options, COUNT(options), argc, argv, &count, &help));
    if (help) return WEFT_OK;
    weft_config *c = malloc(sizeof *c);
    if (!c) WEFT_FAIL(WEFT_ENOMEM, "no memory for the configuration");
    weft_status st = weft_config_read(c, argv[1], count - 1, argv + 2);
    tracing t = {.step = step, .json = json};
    weft_trainer_weights weights;
    if (st == WEFT_OK) {
        const weft_loader_options o = weft_trainer_loader_options(c, &weights);
        t.batch = c->train.global_batch;
        if (step < 1)
            st = weft_fail(WEFT_EINPUT, "weft data trace: --step S is missing, the step of training, from 1");
        else if (sequence >= t.batch)
            st = weft_fail(WEFT_EINPUT, "a step has the sequences 0 to %lld", (long long)t.batch - 1);
        else
            st = weft_trace_open(&t.trace, &o);
    }
    if (st == WEFT_OK) st = print_step(&t, sequence);
    weft_trace_close(t.trace);
    free(c);
    return st;
}
