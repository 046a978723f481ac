/* `weft report RUN...`: one HTML page about runs and ablations. */
#include "runtime/fs.h"
#include "runtime/log.h"
#include "train/commands.h"
#include "train/options.h"
#include "train/report/report.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What is shown, with the names that it points to. */
typedef struct shown {
    weft_report_run *runs;
    int count, capacity;
    char **texts;
    int text_count, text_capacity;
    json_t *results; /* of the only ablation, where nothing else is shown */
} shown;

/* Keeps a text of weft_format's until the end. */
static const char *keep(shown *s, char *text) {
    if (text && s->text_count == s->text_capacity) {
        int capacity = s->text_capacity ? 2 * s->text_capacity : 32;
        char **texts = realloc(s->texts, (size_t)capacity * sizeof *texts);
        if (!texts) {
            free(text);
            return NULL;
        }
        s->texts = texts;
        s->text_capacity = capacity;
    }
    if (text) s->texts[s->text_count++] = text;
    return text;
}

static void shown_free(shown *s) {
    for (int i = 0; i < s->text_count; i++) free(s->texts[i]);
    free(s->texts);
    free(s->runs);
    json_decref(s->results);
}

/* Takes name, group and dir. */
static weft_status add(shown *s, char *name, char *group, char *dir) {
    weft_report_run run = {keep(s, name), keep(s, group), keep(s, dir)};
    if (!run.name || !run.group || !run.dir) WEFT_FAIL(WEFT_ENOMEM, "no memory for the list of runs");
    if (s->count == s->capacity) {
        int capacity = s->capacity ? 2 * s->capacity : 16;
        weft_report_run *runs = realloc(s->runs, (size_t)capacity * sizeof *runs);
        if (!runs) WEFT_FAIL(WEFT_ENOMEM, "no memory for the list of runs");
        s->runs = runs;
        s->capacity = capacity;
    }
    s->runs[s->count++] = run;
    return WEFT_OK;
}

/* The directory's own name: "c" of a/b/c/, that of where it is for "." */
static char *own_name(const char *path) {
    char *full = NULL;
    size_t n = strlen(path), from;
    while (n > 1 && path[n - 1] == '/') n--;
    for (from = n; from > 0 && path[from - 1] != '/'; from--) {
    }
    bool dots = strspn(path + from, "./") == strlen(path + from);
    if (dots && (full = realpath(path, NULL))) {
        path = full;
        n = strlen(path);
        from = (size_t)(strrchr(path, '/') - path) + 1;
    }
    char *name = weft_format("%.*s", (int)(n - from), path + from);
    free(full);
    return name;
}

/* Every run that results.json names, by variant. `prefix`: the ablation's name and a slash, among others. */
static weft_status add_ablation(shown *s, const char *dir, const char *path, const char *prefix,
                                const json_t *results) {
    size_t i, j;
    const json_t *variant, *run;
    int before = s->count;
    json_array_foreach(json_object_get(results, "variants"), i, variant) {
        const char *group = json_string_value(json_object_get(variant, "name"));
        json_array_foreach(json_object_get(variant, "runs"), j, run) {
            const char *name = json_string_value(run);
            if (!group || !name || !*name || strchr(name, '/') || strcmp(name, "..") == 0)
                WEFT_FAIL(WEFT_EINPUT, "%s: variants[%zu].runs[%zu] is no name of a run", path, i, j);
            WEFT_TRY(add(s, weft_format("%s%s", prefix, name), weft_format("%s%s", prefix, group),
                         weft_format("%s/%s", dir, name)));
        }
    }
    if (s->count == before) WEFT_FAIL(WEFT_EINPUT, "%s: names no runs", path);
    return WEFT_OK;
}

static weft_status add_directory(shown *s, const char *dir, bool alone) {
    char path[WEFT_PATH_SIZE];
    json_error_t error;
    WEFT_TRY(weft_fs_path(path, "%s/results.json", dir));
    if (access(path, F_OK) != 0) return add(s, own_name(dir), weft_format("%s", ""), weft_format("%s", dir));
    json_t *results = json_load_file(path, 0, &error);
    if (!results) WEFT_FAIL(WEFT_EINPUT, "%s:%d:%d: %s", path, error.line, error.column, error.text);
    char *name = own_name(dir),
         *prefix = name ? weft_format("%s%s", alone ? "" : name, alone ? "" : "/") : NULL;
    weft_status st = prefix ? add_ablation(s, dir, path, prefix, results)
                            : weft_fail(WEFT_ENOMEM, "%s: no memory for its name", dir);
    free(name);
    free(prefix);
    if (alone && st == WEFT_OK)
        s->results = results;
    else
        json_decref(results);
    return st;
}

/* Directories of one name are told apart by their paths; of one path, not at all. */
static weft_status check_names(const shown *s) {
    for (int i = 0; i < s->count; i++)
        for (int j = 0; j < i; j++)
            if (strcmp(s->runs[i].dir, s->runs[j].dir) == 0)
                WEFT_FAIL(WEFT_EINPUT, "weft report: %s is given twice", s->runs[i].dir);
    if (s->count < 2) return WEFT_OK;
    bool *shared = calloc((size_t)s->count, sizeof *shared);
    if (!shared) WEFT_FAIL(WEFT_ENOMEM, "no memory for the list of runs");
    for (int i = 0; i < s->count; i++)
        for (int j = 0; j < s->count; j++)
            shared[i] = shared[i] || (i != j && strcmp(s->runs[i].name, s->runs[j].name) == 0);
    for (int i = 0; i < s->count; i++)
        if (shared[i]) s->runs[i].name = s->runs[i].dir;
    free(shared);
    return WEFT_OK;
}

static const char *default_title(shown *s) {
    const char *title = json_string_value(json_object_get(s->results, "title"));
    if (title) return title;
    return s->count == 1 ? s->runs[0].name : keep(s, weft_format("%d runs", s->count));
}

static weft_status write_report(shown *s, int count, char **dirs, const char *out, const char *title) {
    for (int i = 0; i < count; i++) WEFT_TRY(add_directory(s, dirs[i], count == 1));
    WEFT_TRY(check_names(s));
    if (!out) out = keep(s, weft_format("%s/report.html", dirs[0]));
    if (!title) title = default_title(s);
    if (!out || !title) WEFT_FAIL(WEFT_ENOMEM, "no memory for the report's name");
    WEFT_TRY(weft_report_write(out, title, s->runs, s->count, s->results));
    weft_info("%s: %d %s", out, s->count, s->count == 1 ? "run" : "runs");
    return WEFT_OK;
}

weft_status weft_cmd_report(const weft_world *w, int argc, char **argv) {
    const char *out = NULL, *title = NULL;
    bool help = false;
    int n = 0;
    const weft_usage usage = {
        .command = "weft report",
        .positional = "RUN...",
        .text =
            "One HTML page, complete in itself, about runs: loss curves, bits per byte, tasks, needles,\n"
            "induction heads, stability, experts, throughput and memory, and where their configurations\n"
            "differ. RUN is a run directory or that of an ablation (one that holds results.json): then all\n"
            "its runs, by variant, with its results. The first RUN is what others are compared with.",
        .min_positional = 1,
        .max_positional = -1};
    const weft_option options[] = {
        {"o", WEFT_OPT_STRING, &out, "FILE.html", "the page (RUN/report.html; needed for several)"},
        {"title", WEFT_OPT_STRING, &title, "TEXT", "its title (the run's or ablation's)"},
    };
    (void)w;
    WEFT_TRY(weft_options_parse(&usage, options, 2, argc, argv, &n, &help));
    if (help) return WEFT_OK;
    if (n > 1 && !out)
        WEFT_FAIL(WEFT_EINPUT, "weft report: %d directories, so say where the page is to be: -o FILE.html",
                  n);
    shown s = {0};
    weft_status st = write_report(&s, n, argv + 1, out, title);
    shown_free(&s);
    return st;
}
