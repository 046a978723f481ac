/* `weft data build`. */
#include "train/cmd_data.h"

#include "data/build/build.h"
#include "runtime/log.h"
#include "train/clock.h"
#include "train/options.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- progress: one line on a terminal, at most six times a second ---- */
static struct {
    double started, last;
    bool shown;
} g_progress;

static void clear_line(void) {
    if (g_progress.shown) fputs("\r\033[K", stderr);
    g_progress.shown = false;
}

static void show_progress(const weft_build_progress *p) {
    double now = weft_clock(), seconds = now - g_progress.started;
    if (now - g_progress.last < 1.0 / 6) return;
    g_progress.last = now;
    const char *name = strrchr(p->file, '/');
    fprintf(stderr, "\r\033[K%.40s %3.0f%%  %lld documents  %.1f Mtokens  %.1f MB of text  %.1f MB/s",
            name ? name + 1 : p->file,
            p->total_bytes ? 100.0 * (double)p->done_bytes / (double)p->total_bytes : 100.0,
            (long long)p->documents, (double)p->tokens / 1e6, (double)p->bytes / 1e6,
            seconds > 0 ? (double)p->bytes / 1e6 / seconds : 0);
    g_progress.shown = true;
}

/* OMP_NUM_THREADS where it is set, as for training; otherwise the cores that this process may use. */
static int default_threads(void) {
    cpu_set_t set;
    const char *given = getenv("OMP_NUM_THREADS");
    long n = given ? strtol(given, NULL, 10) : 0;
    if (n < 1) n = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    return n > 1024 ? 1024 : (int)n;
}

/* "NAME=FILE" gives FILE's documents a domain, unless a file of that whole name exists. */
static weft_status parse_input(const char *arg, weft_build_input *in) {
    const char *equals = strchr(arg, '=');
    *in = (weft_build_input){.file = arg};
    if (!equals || access(arg, F_OK) == 0) return WEFT_OK;
    size_t n = (size_t)(equals - arg);
    if (!weft_domain_name_ok(arg, n))
        WEFT_FAIL(WEFT_EINPUT,
                  "%s: neither a file nor DOMAIN=FILE; a domain is 1 to 63 letters, digits, '_', '.' or '-'",
                  arg);
    memcpy(in->domain, arg, n);
    in->file = equals + 1;
    return WEFT_OK;
}

weft_status weft_data_build_command(int argc, char **argv) {
    weft_build_options o = {
        .heldout = 0.01, .max_malformed = WEFT_SOURCE_MAX_ERRORS, .shard_tokens = WEFT_BUILD_SHARD_TOKENS};
    int64_t threads = 0;
    bool json = false, help;
    int count;
    const weft_option options[] = {
        {"tokenizer", WEFT_OPT_STRING, &o.tokenizer, "DIR",
         "tokenizer.model, or a directory that holds one (required)"},
        {"o", WEFT_OPT_STRING, &o.out, "DIR", "directory to make; it must not exist (required)"},
        {"heldout", WEFT_OPT_REAL, &o.heldout, "SHARE",
         "of the documents, chosen by a hash of the text (default 0.01)"},
        {"max-errors", WEFT_OPT_INT, &o.max_malformed, "N",
         "malformed jsonl lines, over all files, that are skipped; one more is an error (default 100)"},
        {"shard-tokens", WEFT_OPT_INT, &o.shard_tokens, "N",
         "a shard ends with the document that reaches this (default 268435456)"},
        {"threads", WEFT_OPT_INT, &threads, "N",
         "that tokenise (default: OMP_NUM_THREADS, or all cores); the result does not depend on it"},
        {"json", WEFT_OPT_FLAG, &json, NULL, "the summary as JSON"},
    };
    const weft_usage usage = {
        "weft data build", "[DOMAIN=]FILE...",
        "Tokenises text into a data directory: shards for training and held-out shards, by domain.\n\n"
        "FILE is .txt (one document, UTF-8) or .jsonl (one object a line: \"text\", and \"domain\" if it\n"
        "likes), either also as .gz or .zst. DOMAIN=FILE puts all documents of FILE into DOMAIN; a\n"
        "document that names no domain is in \"default\". At most 32 domains.\n\n"
        "DIR appears when all is written and checked, or not at all.",
        1, -1};
    WEFT_TRY(weft_options_parse(&usage, options, (int)(sizeof options / sizeof *options), argc, argv, &count,
                                &help));
    if (help) return WEFT_OK;
    if (!o.tokenizer)
        WEFT_FAIL(WEFT_EINPUT,
                  "weft data build: --tokenizer DIR is missing (weft tokenizer train makes one)");
    if (!o.out || !*o.out)
        WEFT_FAIL(WEFT_EINPUT, "weft data build: -o DIR is missing, the directory to make");
    if (threads < 0 || threads > 1024) WEFT_FAIL(WEFT_EINPUT, "weft data build: --threads must be 1 to 1024");
    o.threads = threads ? (int)threads : default_threads();
    weft_build_input *inputs = calloc((size_t)count, sizeof *inputs);
    if (!inputs) WEFT_FAIL(WEFT_ENOMEM, "no memory for the list of files");
    weft_status st = WEFT_OK;
    for (int i = 0; st == WEFT_OK && i < count; i++) st = parse_input(argv[1 + i], &inputs[i]);
    o.inputs = inputs;
    o.input_count = count;
    if (isatty(STDERR_FILENO)) {
        o.progress = show_progress;
        g_progress.started = weft_clock();
        weft_log_set_hook(clear_line);
    }
    if (st == WEFT_OK) st = weft_data_build(&o);
    clear_line();
    weft_log_set_hook(NULL);
    free(inputs);
    WEFT_TRY(st);
    return weft_data_print_summary(o.out, json);
}
