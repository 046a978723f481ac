/* `weft eval MODEL`: collective. Loss, perplexity and bits per byte of held-out text, by domain; with --suite
 * the tasks of the evaluation suite. */
#include "runtime/log.h"
#include "train/commands.h"
#include "train/options.h"
#include "train/output.h"
#include "train/suite/suite.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct request {
    weft_suite suite;
    const char *tasks, *settings, *data, *split, *out;
    int64_t seq_len, batch, limit;
    bool json, doc, help;
    bool whole; /* the suite, not its first task alone */
} request;

/* Factors of sizes: so that their product is one. */
#define MAX_BATCH (INT64_C(1) << 20)
#define MAX_SEQ_LEN (INT64_C(1) << 30)
#define NOT_GIVEN INT64_MIN

static weft_status check_options(const request *r) {
    if (r->batch != NOT_GIVEN && (r->batch < 1 || r->batch > MAX_BATCH))
        WEFT_FAIL(WEFT_EINPUT, "--batch %lld: must be from 1 to %lld", (long long)r->batch,
                  (long long)MAX_BATCH);
    if (r->seq_len != NOT_GIVEN && (r->seq_len < 0 || r->seq_len > MAX_SEQ_LEN))
        WEFT_FAIL(WEFT_EINPUT, "--seq-len %lld: must be from 0 to %lld", (long long)r->seq_len,
                  (long long)MAX_SEQ_LEN);
    if (r->limit != NOT_GIVEN && r->limit < 0)
        WEFT_FAIL(WEFT_EINPUT, "--max-sequences %lld: must be 0 or more", (long long)r->limit);
    return WEFT_OK;
}

static weft_status set_text(weft_suite *s, const char *key, const char *option, const char *value) {
    char *assignment = value ? weft_format("%s=%s", key, value) : NULL;
    if (!value) return WEFT_OK;
    weft_status st = assignment ? weft_suite_set(s, assignment, option) : weft_fail(WEFT_ENOMEM, "no memory");
    free(assignment);
    return st;
}

/* Defaults, the file, options, key=value: the later win. */
static weft_status make_suite(request *r, int settings, char **argv) {
    weft_suite *s = &r->suite;
    r->whole = r->tasks || r->settings;
    if (!r->whole && settings > 0)
        WEFT_FAIL(WEFT_EINPUT, "weft eval: '%s' is a setting of the suite; say which tasks: --suite TASKS",
                  argv[0]);
    WEFT_TRY(check_options(r));
    weft_suite_defaults(s);
    if (r->settings) WEFT_TRY(weft_suite_read(s, r->settings));
    WEFT_TRY(set_text(s, "tasks", "--suite", r->whole ? r->tasks : "bits"));
    WEFT_TRY(set_text(s, "bits.data", "--data", r->data));
    WEFT_TRY(set_text(s, "bits.split", "--split", r->split));
    if (r->batch != NOT_GIVEN) s->batch = r->batch;
    if (r->seq_len != NOT_GIVEN) s->bits.seq_len = r->seq_len;
    if (r->limit != NOT_GIVEN) s->bits.max_sequences = r->limit;
    for (int i = 0; i < settings; i++) WEFT_TRY(weft_suite_set(s, argv[i], "weft eval"));
    return weft_suite_finish(s);
}

/* ---- output ------------------------------------------------------------------------------------- */

/* Without a suite: what its task bits says of the domains, in one object. NULL: no memory. */
static json_t *bits_alone(const json_t *result) {
    json_t *o = json_object(), *bits = json_object_get(result, "bits");
    static const char *const of_result[] = {"model", "step"};
    static const char *const of_bits[] = {"split", "seq_len", "domains", "all"};
    int bad = !o;
    for (int i = 0; i < 2; i++)
        bad |= json_object_set(o, of_result[i], json_object_get(result, of_result[i]));
    for (int i = 0; i < 4; i++) bad |= json_object_set(o, of_bits[i], json_object_get(bits, of_bits[i]));
    if (!bad) return o;
    json_decref(o);
    return NULL;
}

/* Before the work, not behind it: can a file be made there? */
static weft_status check_out(const char *path) {
    char dir[WEFT_PATH_SIZE];
    const char *slash = strrchr(path, '/');
    WEFT_TRY(weft_fs_path(dir, "%.*s", slash ? (int)(slash - path + 1) : 1, slash ? path : "."));
    if (access(dir, W_OK | X_OK) != 0)
        WEFT_FAIL(WEFT_EIO, "%s: cannot be written: %s", path, strerror(errno));
    return WEFT_OK;
}

static weft_status write_file(const char *path, const json_t *result) {
    char *text = json_dumps(result, JSON_INDENT(2)), *whole = text ? weft_format("%s\n", text) : NULL;
    weft_status st = whole ? weft_fs_replace_file(path, whole, strlen(whole))
                           : weft_fail(WEFT_ENOMEM, "no memory for the output's JSON");
    free(text);
    free(whole);
    return st;
}

static weft_status report(const request *r, const json_t *result) {
    json_t *shown = r->whole ? json_incref((json_t *)result) : bits_alone(result);
    weft_status st = shown ? WEFT_OK : weft_fail(WEFT_ENOMEM, "no memory for the output's JSON");
    if (st == WEFT_OK && r->out) st = write_file(r->out, shown);
    if (st != WEFT_OK || r->json) {
        if (st == WEFT_OK) return weft_output_json(shown, JSON_INDENT(2));
        json_decref(shown);
        return st;
    }
    json_decref(shown);
    if (r->whole) {
        weft_suite_print(result, stdout);
    } else {
        printf("%s, ", json_string_value(json_object_get(result, "model")));
        weft_suite_print_bits(json_object_get(result, "bits"), stdout);
    }
    return weft_output_finish();
}

/* ---- the command -------------------------------------------------------------------------------- */

/* What the command does, with the names of the tasks; NULL: no memory. */
static char *help_text(void) {
    char *text = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&text, &bytes);
    if (!out) return NULL;
    fputs("Loss, perplexity and bits per byte on held-out text, by domain. MODEL is a run directory, a\n"
          "checkpoint or a Hugging Face directory. Under mpirun the ranks share the work.\n\n"
          "With --suite TASKS it runs tasks of the evaluation suite, separated by commas, or all:\n",
          out);
    for (int i = 0; i < weft_suite_tasks_count; i++)
        fprintf(out, "  %-12s %s\n", weft_suite_tasks[i].name, weft_suite_tasks[i].doc);
    fputs("\nSettings of tasks follow as key=value: --suite recall,needle recall.pairs=4,8 seed=3", out);
    bool failed = ferror(out) != 0;
    if (fclose(out) == 0 && !failed) return text;
    free(text);
    return NULL;
}

static weft_status parse(request *r, int argc, char **argv) {
    int n = 0;
    char *text = help_text();
    if (!text) WEFT_FAIL(WEFT_ENOMEM, "no memory");
    const weft_usage usage = {
        .command = "weft eval", .positional = "MODEL [key=value ...]", .text = text, .max_positional = -1};
    const weft_option options[] = {
        {"suite", WEFT_OPT_STRING, &r->tasks, "TASKS", "run these tasks, or all"},
        {"settings", WEFT_OPT_STRING, &r->settings, "FILE",
         "settings of the suite, YAML; key=value on the command line wins"},
        {"data", WEFT_OPT_STRING, &r->data, "DIR",
         "made by `weft data build` (default: the run's data.path)"},
        {"split", WEFT_OPT_STRING, &r->split, "NAME", "heldout or train (heldout)"},
        {"seq-len", WEFT_OPT_INT, &r->seq_len, "N",
         "tokens of a sequence (default: the run's train.seq_len)"},
        {"batch", WEFT_OPT_INT, &r->batch, "N", "sequences at a time (8)"},
        {"max-sequences", WEFT_OPT_INT, &r->limit, "N", "stop after N sequences of a domain (0: all)"},
        {"json", WEFT_OPT_FLAG, &r->json, NULL, "print one JSON object"},
        {"o", WEFT_OPT_STRING, &r->out, "FILE", "write the JSON object into a file"},
        {"doc", WEFT_OPT_FLAG, &r->doc, NULL, "print the tasks and all settings, as Markdown"},
    };
    weft_status st =
        weft_options_parse(&usage, options, sizeof options / sizeof *options, argc, argv, &n, &r->help);
    free(text);
    if (st != WEFT_OK || r->help || r->doc) return st;
    if (n < 1)
        WEFT_FAIL(WEFT_EINPUT, "weft eval: an argument is missing; usage: weft eval MODEL [key=value ...]");
    return make_suite(r, n - 1, argv + 2);
}

static weft_status evaluate(const request *r, const weft_world *w, const char *path) {
    weft_modelfile *f = calloc(1, sizeof *f);
    json_t *result = NULL;
    weft_status st = f ? WEFT_OK : weft_fail(WEFT_ENOMEM, "no memory");
    if (st == WEFT_OK && r->out && w->rank == 0) st = check_out(r->out);
    st = weft_world_agree(st);
    if (st == WEFT_OK) st = weft_modelfile_open(f, w, path);
    if (st == WEFT_OK) {
        st = weft_suite_run(&r->suite, f, w, NULL, &result);
        if (st == WEFT_OK && w->rank == 0) st = report(r, result);
        st = weft_world_agree(st);
        json_decref(result);
        weft_modelfile_close(f);
    }
    free(f);
    return st;
}

weft_status weft_cmd_eval(const weft_world *w, int argc, char **argv) {
    request *r = calloc(1, sizeof *r);
    if (r) r->seq_len = r->batch = r->limit = NOT_GIVEN;
    weft_log_replicated(true);
    weft_status st = r ? parse(r, argc, argv) : weft_fail(WEFT_ENOMEM, "no memory");
    weft_log_replicated(false);
    st = weft_world_agree(st);
    if (st == WEFT_OK && r->doc && !r->help) {
        weft_suite_print_doc(stdout);
        st = weft_output_finish();
    } else if (st == WEFT_OK && !r->help) {
        st = evaluate(r, w, argv[1]);
    }
    free(r);
    return st;
}
