/* The table, and the JSON, of what a data directory holds: `weft data stats`, and the end of `weft data
 * build`. */
#include "train/cmd_data.h"

#include "data/shard/manifest.h"
#include "runtime/fs.h"
#include "train/output.h"

#include <stdio.h>
#include <string.h>

typedef struct amounts {
    int64_t documents, tokens, bytes, shards;
    uint64_t stored;
} amounts;

static void add(amounts *sum, const weft_manifest_split *s) {
    sum->documents += s->documents;
    sum->tokens += s->tokens;
    sum->bytes += s->bytes;
    sum->shards += s->count;
    for (int i = 0; i < s->count; i++) sum->stored += s->files[i].size;
}

static amounts of(const weft_manifest_split *s) {
    amounts a = {0};
    add(&a, s);
    return a;
}

static json_t *amounts_json(amounts a) {
    json_t *o = json_pack("{s:I, s:I, s:I, s:I, s:I}", "documents", (json_int_t)a.documents, "tokens",
                          (json_int_t)a.tokens, "bytes", (json_int_t)a.bytes, "shards", (json_int_t)a.shards,
                          "stored_bytes", (json_int_t)a.stored);
    if (o)
        json_object_set_new(o, "bytes_per_token",
                            a.tokens ? json_real((double)a.bytes / (double)a.tokens) : json_null());
    return o;
}

static void amounts_row(const char *domain, const char *split, amounts a) {
    printf("%-16s %-8s %12lld %15lld %15lld %12.3f\n", domain, split, (long long)a.documents,
           (long long)a.tokens, (long long)a.bytes, a.tokens ? (double)a.bytes / (double)a.tokens : 0);
}

static void totals(const weft_manifest *m, amounts sum[WEFT_SPLITS], int64_t *malformed, int64_t *empty) {
    memset(sum, 0, WEFT_SPLITS * sizeof *sum);
    *malformed = *empty = 0;
    for (int d = 0; d < m->domain_count; d++)
        for (int s = 0; s < WEFT_SPLITS; s++) add(&sum[s], &m->domains[d].split[s]);
    for (int i = 0; i < m->source_count; i++) {
        *malformed += m->sources[i].malformed;
        *empty += m->sources[i].empty;
    }
}

static weft_status print_json(const weft_manifest *m, const char *dir) {
    amounts sum[WEFT_SPLITS];
    int64_t malformed, empty;
    char tokenizer[WEFT_HASH128_HEX], content[WEFT_HASH128_HEX];
    json_t *domains = json_array(), *sources = json_array();
    totals(m, sum, &malformed, &empty);
    weft_hash128_hex(m->tokenizer, tokenizer);
    weft_hash128_hex(m->content, content);
    for (int d = 0; d < m->domain_count; d++)
        json_array_append_new(domains,
                              json_pack("{s:s, s:o, s:o}", "name", m->domains[d].name, "train",
                                        amounts_json(of(&m->domains[d].split[WEFT_SPLIT_TRAIN])), "heldout",
                                        amounts_json(of(&m->domains[d].split[WEFT_SPLIT_HELDOUT]))));
    for (int i = 0; i < m->source_count; i++)
        json_array_append_new(sources, json_pack("{s:s, s:I, s:I, s:I, s:I}", "file", m->sources[i].file,
                                                 "documents", (json_int_t)m->sources[i].documents, "bytes",
                                                 (json_int_t)m->sources[i].bytes, "malformed",
                                                 (json_int_t)m->sources[i].malformed, "empty",
                                                 (json_int_t)m->sources[i].empty));
    return weft_output_json(json_pack("{s:s, s:I, s:s, s:s, s:f, s:f, s:o, s:{s:o, s:o}, s:{s:I, s:I}, s:o}",
                                      "path", dir, "vocab_size", (json_int_t)m->vocab_size, "tokenizer",
                                      tokenizer, "content", content, "heldout", m->heldout, "unigram_entropy",
                                      m->unigram_entropy, "domains", domains, "total", "train",
                                      amounts_json(sum[WEFT_SPLIT_TRAIN]), "heldout",
                                      amounts_json(sum[WEFT_SPLIT_HELDOUT]), "skipped", "malformed",
                                      (json_int_t)malformed, "empty", (json_int_t)empty, "sources", sources),
                            JSON_INDENT(2));
}

static void print_table(const weft_manifest *m, const char *dir) {
    amounts sum[WEFT_SPLITS];
    int64_t malformed, empty;
    totals(m, sum, &malformed, &empty);
    printf("%-16s %-8s %12s %15s %15s %12s\n", "domain", "split", "documents", "tokens", "bytes of text",
           "bytes/token");
    for (int d = 0; d < m->domain_count; d++)
        for (int s = 0; s < WEFT_SPLITS; s++)
            amounts_row(m->domains[d].name, weft_split_names[s], of(&m->domains[d].split[s]));
    for (int s = 0; s < WEFT_SPLITS; s++) amounts_row("all", weft_split_names[s], sum[s]);
    printf("unigram entropy of the training tokens: %.4f nats a token\n", m->unigram_entropy);
    printf("%s: vocabulary %lld, %lld shards of %.1f MB", dir, (long long)m->vocab_size,
           (long long)(sum[0].shards + sum[1].shards), (double)(sum[0].stored + sum[1].stored) / 1e6);
    if (malformed || empty)
        printf("; skipped: %lld malformed lines, %lld empty documents", (long long)malformed,
               (long long)empty);
    printf("\n");
}

/* What each step did, from the report that the build left. */
static void print_steps(const char *dir) {
    char path[WEFT_PATH_SIZE];
    size_t i, k;
    json_t *step, *domain;
    if (weft_fs_path(path, "%s/report.json", dir) != WEFT_OK) return;
    json_t *report = json_load_file(path, 0, NULL), *steps = json_object_get(report, "steps");
    if (json_array_size(steps) > 0)
        printf("%-20s %12s %15s %12s %15s\n", "step", "dropped", "bytes", "changed", "bytes gained");
    json_array_foreach(steps, i, step) {
        json_int_t sum[4] = {0};
        static const char *const names[4] = {"dropped", "dropped_bytes", "changed", "gained_bytes"};
        json_array_foreach(json_object_get(step, "domains"), k, domain) {
            for (int n = 0; n < 4; n++) sum[n] += json_integer_value(json_object_get(domain, names[n]));
        }
        printf("%-20s %12lld %15lld %12lld %15lld\n", json_string_value(json_object_get(step, "step")),
               (long long)sum[0], (long long)sum[1], (long long)sum[2], (long long)sum[3]);
    }
    json_decref(report);
}

weft_status weft_data_print_summary(const char *dir, bool json) {
    weft_manifest m;
    WEFT_TRY(weft_manifest_read(&m, dir));
    weft_status st;
    if (json)
        st = print_json(&m, dir);
    else {
        print_steps(dir);
        print_table(&m, dir);
        st = weft_output_finish();
    }
    weft_manifest_free(&m);
    return st;
}
