#include "train/report_fixture.h"

#include "runtime/fs.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char root[256];

static void remove_root(void) {
    weft_fs_remove_tree(root);
}

const char *fixture_path(const char *name) {
    static char paths[8][1024];
    static int next;
    if (!*root) {
        const char *tmp = getenv("TMPDIR");
        snprintf(root, sizeof root, "%.200s/weft-report-XXXXXX", tmp ? tmp : "/tmp");
        ck_assert_ptr_nonnull(mkdtemp(root));
        atexit(remove_root);
    }
    char *path = paths[next++ % 8];
    snprintf(path, sizeof paths[0], "%s/%s", root, name);
    return path;
}

void fixture_directory(const char *name) {
    ck_assert_int_eq(weft_fs_mkdirs(fixture_path(name)), WEFT_OK);
}

void fixture_file(const char *name, const char *text) {
    FILE *f = fopen(fixture_path(name), "w");
    ck_assert_ptr_nonnull(f);
    fputs(text, f);
    ck_assert_int_eq(fclose(f), 0);
}

void fixture_remove(const char *name) {
    weft_fs_remove_tree(fixture_path(name));
}

static void write_metrics(const fixture_run *r) {
    char name[300];
    snprintf(name, sizeof name, "%s/metrics.jsonl", r->name);
    FILE *f = fopen(fixture_path(name), "w");
    ck_assert_ptr_nonnull(f);
    for (int t = 1; t <= r->steps; t++) {
        double loss = 4 - t / 100.0 + r->offset + (t == r->spike ? 5 : 0);
        char number[32] = "null";
        if (t != r->skipped) snprintf(number, sizeof number, "%.17g", loss);
        fprintf(f,
                "{\"step\": %d, \"loss\": %s, \"grad_norm\": %g, \"lr\": 0.001, \"tokens\": 1000, "
                "\"tokens_per_s\": %.17g, \"mfu\": %.17g, \"mem_bytes\": 4096000, \"step_seconds\": %.17g, "
                "\"data_seconds\": %.17g, \"aux_loss\": 0, \"updated\": %s}\n",
                t, number, t == r->spike ? 30.0 : 2.0, 1000 / r->second, 0.5 / r->second, r->second,
                r->second / 10, t != r->skipped ? "true" : "false");
    }
    ck_assert_int_eq(fclose(f), 0);
}

void fixture_run_write(const fixture_run *r) {
    char name[300];
    fixture_directory(r->name);
    if (r->steps >= 0) write_metrics(r);
    snprintf(name, sizeof name, "%s/config.yaml", r->name);
    if (r->config) fixture_file(name, r->config);
    if (!r->eval) return;
    json_t *eval = json_of(r->eval);
    snprintf(name, sizeof name, "%s/eval.json", r->name);
    ck_assert_int_eq(json_dump_file(eval, fixture_path(name), 0), 0);
    json_decref(eval);
}

const char *fixture_eval(double more) {
    static char text[4096];
    double a = 0.5 + more, b = 2 - more;
    snprintf(
        text, sizeof text,
        "{'model': 'x', 'step': 100, 'suite': {'labels.classes': '4'},"
        "'bits': {'split': 'heldout', 'seq_len': 64, 'domains': {"
        "  'books': {'loss': %g, 'perplexity': 9, 'tokens': 100, 'bytes': 300, 'bits_per_byte': %g},"
        "  'code': {'loss': %g, 'perplexity': 9, 'tokens': 100, 'bytes': 300, 'bits_per_byte': %g}},"
        " 'all': {'loss': %g, 'perplexity': 9, 'tokens': 200, 'bytes': 600, 'bits_per_byte': %g},"
        " 'sequences': {'books': [[%g, 10], [%g, 10], [%g, 10]]}},"
        "'recall': [{'pairs': 4, 'answers': 8, 'accuracy': %g, 'nll': 1}, {'pairs': 16, 'answers': 8, "
        "'accuracy': "
        "0.25, 'nll': 2}],"
        "'copy': [{'words': 8, 'answers': 8, 'accuracy': %g, 'nll': 1}],"
        "'labels': {'random': [{'examples': 2, 'answers': 8, 'accuracy': %g, 'format': 0.75, 'exact': 0.1, "
        "'nll': 1}],"
        "  'named': [{'examples': 2, 'answers': 8, 'accuracy': 0.5, 'format': 1, 'exact': 0.1, 'nll': 1}]},"
        "'needle': {'lengths': [512, 1024], 'depths': [0, 0.25, 1], 'accuracy': [[1, %g, 1], [0.5, %g, 0]],"
        "  'nll': [[1, 1, 1], [1, 1, 1]], 'documents': 8, 'tokens': [500, 1000]},"
        "'induction': {'tokens': 64, 'chance': 0.02, 'heads': [{'layer': 1, 'head': 0, 'score': %g}, "
        "{'layer': 1, "
        "'head': 1, 'score': 0.125}]},"
        "'choices': {'file': 'x.jsonl', 'documents': 40, 'accuracy': %g, 'accuracy_per_byte': 0.5, "
        "'accuracy_per_token': 0.25},"
        "'activations': {'layers': [{'layer': 0, 'name': 'mamba.dbc', 'max': %g, 'rms': 1}, {'layer': 1, "
        "'name': "
        "'attention.out', 'max': 11, 'rms': 1}, {'layer': 1, 'name': 'ffn.hidden', 'max': 7, 'rms': 1}]},"
        "'experts': [{'layer': 1, 'share': [0.25, 0.75]}],"
        "'context': [{'tokens': 1024, 'prefill_tokens_per_second': 5000, 'decode_tokens_per_second': 50, "
        "'cache_bytes': 65536, 'activation_bytes': 100000}, {'tokens': 4096, 'prefill_tokens_per_second': "
        "4000, "
        "'decode_tokens_per_second': 40, 'cache_bytes': 262144, 'activation_bytes': 400000}]}",
        b, b / 2, b, b / 2, b, b / 2, 10 * b, 10 * b + 1, 10 * b + 3, a, a, a, a, a, a, a, 100 * a);
    return text;
}
