/* `weft data`: its parts, and stats, verify, sample. */
#include "train/cmd_data.h"
#include "train/commands.h"
#include "train/options.h"
#include "train/output.h"

#include "data/shard/sample.h"
#include "data/shard/verify.h"
#include "runtime/log.h"
#include "runtime/text.h"

#include <stdio.h>
#include <string.h>

#define COUNT(array) ((int)(sizeof(array) / sizeof *(array)))

static weft_status stats(int argc, char **argv) {
    bool json = false, help;
    int count;
    const weft_option options[] = {{"json", WEFT_OPT_FLAG, &json, NULL, "as JSON"}};
    const weft_usage usage = {
        "weft data stats", "DIR",
        "Documents, tokens and bytes of a data directory, by domain and split, and what was skipped\n"
        "when it was made. Reads the manifest only.",
        1, 1};
    WEFT_TRY(weft_options_parse(&usage, options, COUNT(options), argc, argv, &count, &help));
    if (help) return WEFT_OK;
    return weft_data_print_summary(argv[1], json);
}

static weft_status print_verification(const char *dir, const weft_verification *v, bool sound, bool json) {
    uint64_t bytes = 0;
    for (int i = 0; i < v->count; i++) bytes += v->files[i].size;
    if (!json) {
        for (int i = 0; i < v->count; i++)
            if (v->files[i].status != WEFT_OK) printf("damaged: %s\n", v->files[i].name);
        printf("%s: %s: %d files, %.1f MB read, %d damaged\n", dir, sound ? "sound" : "NOT SOUND", v->count,
               (double)bytes / 1e6, v->damaged);
        return weft_output_finish();
    }
    json_t *files = json_array();
    for (int i = 0; i < v->count; i++)
        json_array_append_new(
            files, json_pack("{s:s, s:b}", "name", v->files[i].name, "sound", v->files[i].status == WEFT_OK));
    return weft_output_json(json_pack("{s:s, s:b, s:I, s:i, s:o}", "path", dir, "sound", sound, "bytes",
                                      (json_int_t)bytes, "damaged", v->damaged, "files", files),
                            JSON_INDENT(2));
}

static weft_status verify(int argc, char **argv) {
    bool json = false, help;
    int count;
    weft_verification v;
    const weft_option options[] = {{"json", WEFT_OPT_FLAG, &json, NULL, "as JSON"}};
    const weft_usage usage = {
        "weft data verify", "DIR",
        "Reads every file of a data directory, checks it against its hash, decodes every chunk and\n"
        "checks every token. Status 2 when anything is damaged.",
        1, 1};
    WEFT_TRY(weft_options_parse(&usage, options, COUNT(options), argc, argv, &count, &help));
    if (help) return WEFT_OK;
    weft_status st = weft_data_verify(argv[1], &v);
    if (v.count > 0) {
        weft_status printed = print_verification(argv[1], &v, st == WEFT_OK, json);
        if (st == WEFT_OK) st = printed;
    }
    weft_verification_free(&v);
    return st;
}

static weft_status show_text(void *arg, const weft_sample *s) {
    (void)arg;
    printf("---- %s, %s, document %lld: %lld tokens, %lld bytes\n", s->domain, s->file,
           (long long)s->document, (long long)s->tokens, (long long)s->bytes);
    fwrite(s->text, 1, s->text_bytes, stdout);
    printf("%s\n", s->text_bytes < (size_t)s->bytes ? " ..." : "");
    return weft_output_finish();
}

static weft_status show_json(void *arg, const weft_sample *s) {
    /* A document cut between two byte tokens ends in part of a character, which JSON cannot hold. */
    size_t bytes = s->text_bytes;
    json_t *text = json_stringn(s->text, bytes);
    for (int i = 0; !text && i < 3 && bytes > 0; i++) text = json_stringn(s->text, --bytes);
    json_t *o = json_pack("{s:s, s:s, s:I, s:I, s:I, s:o}", "domain", s->domain, "file", s->file, "document",
                          (json_int_t)s->document, "tokens", (json_int_t)s->tokens, "bytes",
                          (json_int_t)s->bytes, "text", text);
    if (!o || json_array_append_new(arg, o) != 0) WEFT_FAIL(WEFT_ENOMEM, "no memory for JSON");
    return WEFT_OK;
}

static weft_status sample(int argc, char **argv) {
    weft_sample_options o = {.split = "train", .count = 3, .max_tokens = 200};
    int64_t seed = 0;
    bool json = false, help;
    int count;
    const weft_option options[] = {
        {"domain", WEFT_OPT_STRING, &o.domain, "NAME", "of this domain only"},
        {"split", WEFT_OPT_STRING, &o.split, "NAME", "train (default) or heldout"},
        {"n", WEFT_OPT_INT, &o.count, "N", "documents (default 3)"},
        {"tokens", WEFT_OPT_INT, &o.max_tokens, "N", "of each document, from its start (default 200)"},
        {"seed", WEFT_OPT_INT, &seed, "N", "of the draw (default 0)"},
        {"json", WEFT_OPT_FLAG, &json, NULL, "as JSON"},
    };
    const weft_usage usage = {"weft data sample", "DIR",
                              "Documents drawn from a data directory, their tokens as text again.", 1, 1};
    WEFT_TRY(weft_options_parse(&usage, options, COUNT(options), argc, argv, &count, &help));
    if (help) return WEFT_OK;
    o.dir = argv[1];
    o.seed = (uint64_t)seed;
    if (!json) return weft_data_sample(&o, show_text, NULL);
    json_t *documents = json_array();
    weft_status st =
        documents ? weft_data_sample(&o, show_json, documents) : weft_fail(WEFT_ENOMEM, "no memory for JSON");
    if (st == WEFT_OK) return weft_output_json(documents, JSON_INDENT(2));
    json_decref(documents);
    return st;
}

static const struct {
    const char *name;
    weft_status (*run)(int argc, char **argv);
    const char *arguments, *summary;
} parts[] = {
    {"recipe", weft_data_recipe_command, "[RECIPE.yaml]",
     "every key of a recipe; or a recipe with all its values"},
    {"stats", stats, "DIR", "what a data directory holds"},
    {"verify", verify, "DIR", "whether all of it is sound"},
    {"ls", weft_data_ls_command, "DIR", "its documents and where they came from"},
    {"sample", sample, "DIR", "some of its documents as text"},
    {"show", weft_data_show_command, "DIR [CLUSTER]", "clusters of duplicates; one of them, text by text"},
    {"trace", weft_data_trace_command, "CONFIG.yaml", "the documents that a training step reads"},
};

static weft_status help(void) {
    printf("usage: weft data build RECIPE.yaml [key=value...]\n"
           "                              text, filtered and deduplicated, as shards of tokens\n"
           "       weft data build --tokenizer DIR -o OUT [DOMAIN=]FILE...\n"
           "                              the same of files as they are\n");
    for (int i = 0; i < COUNT(parts); i++)
        printf("       weft data %-8s %-14s%s\n", parts[i].name, parts[i].arguments, parts[i].summary);
    printf("(each with --help)\n");
    return weft_output_finish();
}

weft_status weft_cmd_data(const weft_world *w, int argc, char **argv) {
    const char *names[COUNT(parts) + 1] = {"build"};
    for (int i = 0; i < COUNT(parts); i++) names[i + 1] = parts[i].name;
    if (argc >= 2 && strcmp(argv[1], "build") == 0) return weft_data_build_command(w, argc - 1, argv + 1);
    weft_log_replicated(true);
    if (w->size > 1)
        WEFT_FAIL(WEFT_EINPUT, "of weft data only build runs on several ranks; start it without mpirun");
    if (argc < 2) WEFT_FAIL(WEFT_EINPUT, "weft data: say what (weft data --help lists all)");
    for (int i = 0; i < COUNT(parts); i++)
        if (strcmp(argv[1], parts[i].name) == 0) return parts[i].run(argc - 1, argv + 1);
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) return help();
    int near = weft_nearest(argv[1], names, COUNT(parts) + 1);
    if (near >= 0)
        WEFT_FAIL(WEFT_EINPUT, "weft data: unknown '%s'; did you mean '%s'?", argv[1], names[near]);
    WEFT_FAIL(WEFT_EINPUT, "weft data: unknown '%s' (weft data --help lists all)", argv[1]);
}
