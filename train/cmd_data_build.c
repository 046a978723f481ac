/* `weft data build` and `weft data recipe`. */
#include "train/cmd_data.h"

#include "data/build/build.h"
#include "data/dedup/minhash.h"
#include "parallel/world.h"
#include "runtime/log.h"
#include "train/clock.h"
#include "train/options.h"
#include "train/output.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- progress: one line on a terminal; elsewhere a line for each stage that takes long ---- */
static struct {
    double began, last;
    bool shown, terminal;
    int stage;
} g_progress;

static void clear_line(void) {
    if (g_progress.shown) fputs("\r\033[K", stderr);
    g_progress.shown = false;
}

static void time_text(double seconds, char text[24]) {
    if (seconds < 0)
        snprintf(text, 24, "?");
    else if (seconds < 3600)
        snprintf(text, 24, "%d:%02d", (int)seconds / 60, (int)seconds % 60);
    else
        snprintf(text, 24, "%d:%02d:%02d", (int)(seconds / 3600), (int)(seconds / 60) % 60,
                 (int)seconds % 60);
}

static void show_progress(const weft_work_progress *p) {
    char left[24];
    double now = weft_clock();
    time_text(p->left, left);
    if (g_progress.terminal) {
        fprintf(stderr, "\r\033[K[%d/%d] %s  %lld of %lld  %.0f%%  %s left", p->number, p->of, p->stage,
                (long long)p->done, (long long)p->pieces,
                100.0 * (double)p->done / (double)(p->pieces ? p->pieces : 1), left);
        g_progress.shown = true;
        return;
    }
    if (now - g_progress.last < 30) return;
    g_progress.last = now;
    weft_info("[%d/%d] %s: %lld of %lld, %s left", p->number, p->of, p->stage, (long long)p->done,
              (long long)p->pieces, left);
}

/* ---- the recipe ---- */
typedef struct build_arguments {
    const char *tokenizer, *out;
    double heldout;
    int64_t max_errors, shard_tokens, threads;
    bool json;
} build_arguments;

static bool is_recipe(const char *arg) {
    size_t n = strlen(arg);
    return (n > 5 && strcmp(arg + n - 5, ".yaml") == 0) || (n > 4 && strcmp(arg + n - 4, ".yml") == 0);
}

static weft_status set_number(weft_recipe *r, const char *key, double value) {
    char text[80];
    snprintf(text, sizeof text, "%s=%.17g", key, value);
    return weft_recipe_set(r, text);
}

static weft_status set_text(weft_recipe *r, const char *key, const char *value) {
    size_t n = strlen(key) + strlen(value) + 2;
    char *text = malloc(n);
    if (!text) WEFT_FAIL(WEFT_ENOMEM, "no memory for a recipe");
    snprintf(text, n, "%s=%s", key, value);
    weft_status st = weft_recipe_set(r, text);
    free(text);
    return st;
}

/* "NAME=FILE" gives FILE's documents a domain, unless a file of that whole name exists. */
static weft_status add_file(weft_recipe *r, const char *arg) {
    char name[WEFT_RECIPE_NAME], domain[WEFT_DOMAIN_NAME] = "";
    const char *equals = strchr(arg, '='), *file = arg;
    if (equals && access(arg, F_OK) != 0) {
        size_t n = (size_t)(equals - arg);
        if (!weft_domain_name_ok(arg, n))
            WEFT_FAIL(
                WEFT_EINPUT,
                "%s: neither a file nor DOMAIN=FILE; a domain is 1 to 63 letters, digits, '_', '.' or '-'",
                arg);
        memcpy(domain, arg, n);
        domain[n] = 0;
        file = equals + 1;
    }
    snprintf(name, sizeof name, "file%d", r->source_count + 1);
    return weft_recipe_add_source(r, name, file, domain, WEFT_BUILD_DOMAIN);
}

/* A recipe and changes of it, or files of the command line with nothing done to their text. */
static weft_status make_recipe(weft_recipe *r, const build_arguments *a, int count, char **args) {
    if (is_recipe(args[0])) {
        WEFT_TRY(weft_recipe_read(r, args[0]));
        for (int i = 1; i < count; i++) WEFT_TRY(weft_recipe_set(r, args[i]));
    } else {
        r->shuffle = false;
        for (int i = 0; i < count; i++) WEFT_TRY(add_file(r, args[i]));
    }
    if (a->tokenizer) WEFT_TRY(set_text(r, "tokenizer", a->tokenizer));
    if (a->out) WEFT_TRY(set_text(r, "out", a->out));
    if (a->heldout >= 0) WEFT_TRY(set_number(r, "heldout", a->heldout));
    if (a->max_errors >= 0) WEFT_TRY(set_number(r, "max_errors", (double)a->max_errors));
    if (a->shard_tokens >= 0) WEFT_TRY(set_number(r, "shard_tokens", (double)a->shard_tokens));
    return weft_recipe_check(r);
}

static weft_status build(const weft_world *w, const build_arguments *a, int count, char **args) {
    const weft_team team = {
        .rank = w->rank, .size = w->size, .agree = weft_world_agree, .bcast = weft_world_bcast};
    weft_build_options o = {.threads = a->threads ? (int)a->threads : weft_world_threads(w),
                            .progress = show_progress};
    weft_recipe r;
    weft_status st = weft_recipe_init(&r);
    if (st == WEFT_OK) st = make_recipe(&r, a, count, args);
    st = weft_world_agree(st);
    if (st == WEFT_OK) st = weft_data_build(&r, &team, &o);
    clear_line();
    if (st == WEFT_OK && w->rank == 0) st = weft_data_print_summary(r.out, a->json);
    weft_recipe_free(&r);
    return weft_world_agree(st);
}

weft_status weft_data_build_command(const weft_world *w, int argc, char **argv) {
    build_arguments a = {.heldout = -1, .max_errors = -1, .shard_tokens = -1};
    bool help;
    int count;
    const weft_option options[] = {
        {"tokenizer", WEFT_OPT_STRING, &a.tokenizer, "DIR",
         "tokenizer.model, or a directory that holds one (required, here or in the recipe)"},
        {"o", WEFT_OPT_STRING, &a.out, "DIR",
         "directory to make; it must not exist (required, here or there)"},
        {"heldout", WEFT_OPT_REAL, &a.heldout, "SHARE",
         "of the documents, chosen by a hash of the text (default 0.01)"},
        {"max-errors", WEFT_OPT_INT, &a.max_errors, "N",
         "malformed jsonl lines, over all files, that are skipped; one more is an error (default 100)"},
        {"shard-tokens", WEFT_OPT_INT, &a.shard_tokens, "N",
         "a shard has up to about this many (default 268435456)"},
        {"threads", WEFT_OPT_INT, &a.threads, "N",
         "of each rank (default: OMP_NUM_THREADS, or its cores); the result does not depend on it"},
        {"json", WEFT_OPT_FLAG, &a.json, NULL, "the summary as JSON"},
    };
    const weft_usage usage = {
        "weft data build", "RECIPE.yaml [key=value...] | [DOMAIN=]FILE...",
        "Makes a data directory of text: shards of tokens for training and held-out ones, by domain.\n\n"
        "A recipe says what is read and what is done to it: filters, deduplication, decontamination,\n"
        "scrubbing (weft data recipe lists every key; configs/data/ has examples). With files in its\n"
        "place their documents are tokenised as they are. Runs under mpirun as well; the result does not\n"
        "depend on the number of ranks. What was done lies in DIR.work: the same command goes on with it\n"
        "after an interruption. DIR appears when all is written and checked, or not at all.\n\n"
        "FILE is .txt (one document), .jsonl (one object a line: \"text\", and \"domain\" if it likes),\n"
        ".warc or .wet, each also as .gz or .zst, or .synthetic (documents of a made task, see\n"
        "configs/data/synthetic). DOMAIN=FILE puts all documents of FILE into DOMAIN; a\n"
        "document that names no domain is in \"default\". At most 32 domains.",
        1, -1};
    weft_log_replicated(true); /* all ranks read the same */
    WEFT_TRY(weft_options_parse(&usage, options, (int)(sizeof options / sizeof *options), argc, argv, &count,
                                &help));
    if (help) return WEFT_OK;
    if (a.threads < 0 || a.threads > 1024)
        WEFT_FAIL(WEFT_EINPUT, "weft data build: --threads must be 1 to 1024");
    g_progress.terminal = isatty(STDERR_FILENO);
    g_progress.last = weft_clock();
    weft_log_set_hook(clear_line);
    weft_status st = build(w, &a, count, argv + 1);
    weft_log_set_hook(NULL);
    return st;
}

/* Which near duplicates the recipe's bands find, as comments that YAML allows. */
static void print_curve(const weft_recipe *r) {
    if (!r->has_near) return;
    printf("# near: a pair of this Jaccard similarity is a candidate with this probability\n#");
    for (int i = 8; i < 20; i++) printf(" %8.2f", 0.05 * i);
    printf("\n#");
    for (int i = 8; i < 20; i++)
        printf(" %8.4f", weft_minhash_probability((int)r->near_bands, (int)r->near_rows, 0.05 * i));
    printf("\n# and verified: at %g and above one of the two may go\n", r->near_threshold);
}

weft_status weft_data_recipe_command(int argc, char **argv) {
    bool help;
    int count;
    const weft_usage usage = {
        "weft data recipe", "[RECIPE.yaml [key=value...]]",
        "Every key of a recipe with its default and what it does, and the filters' rules with\n"
        "their sources; or a recipe with all its values, checked.",
        0, -1};
    weft_recipe r;
    WEFT_TRY(weft_options_parse(&usage, NULL, 0, argc, argv, &count, &help));
    if (help) return WEFT_OK;
    if (count == 0) {
        WEFT_TRY(weft_recipe_explain(stdout));
        return weft_output_finish();
    }
    weft_status st = weft_recipe_init(&r);
    if (st == WEFT_OK) st = weft_recipe_read(&r, argv[1]);
    for (int i = 2; st == WEFT_OK && i <= count; i++) st = weft_recipe_set(&r, argv[i]);
    if (st == WEFT_OK) st = weft_recipe_check(&r);
    if (st == WEFT_OK) st = weft_recipe_print(&r, stdout);
    if (st == WEFT_OK) print_curve(&r);
    weft_recipe_free(&r);
    return st == WEFT_OK ? weft_output_finish() : st;
}
