/* `weft ckpt ls` and `weft ckpt verify`. */
#include "runtime/log.h"
#include "train/ckpt_internal.h"
#include "train/commands.h"
#include "train/options.h"
#include "train/output.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* One checkpoint, and what a check found. */
typedef struct finding {
    char path[WEFT_PATH_SIZE];
    weft_status status;
    weft_ckpt_manifest m; /* when status is OK */
    weft_ckpt_why why;
} finding;

static int64_t bytes_of(const weft_ckpt_manifest *m) {
    int64_t total = 0; /* the parser has made sure that it does not overflow */
    for (int64_t i = 0; i < m->file_count; i++) total += m->files[i].bytes;
    return total;
}

static json_t *u64_json(uint64_t v) {
    char digits[24];
    if (v <= INT64_MAX) return json_integer((json_int_t)v);
    snprintf(digits, sizeof digits, "%" PRIu64, v);
    return json_string(digits);
}

static json_t *finding_json(const finding *f) {
    json_t *o = json_pack("{s:s, s:b, s:s?}", "path", f->path, "valid", f->status == WEFT_OK, "problem",
                          f->status == WEFT_OK ? NULL : f->why.text);
    if (f->status != WEFT_OK) return o;
    const weft_ckpt_state *s = &f->m.state;
    json_t *more =
        json_pack("{s:I, s:o, s:I, s:o, s:I, s:I, s:I, s:I}", "step", (json_int_t)s->step, "samples",
                  u64_json(s->samples), "tokens", (json_int_t)s->tokens, "seed", u64_json(s->seed), "bytes",
                  (json_int_t)bytes_of(&f->m), "files", (json_int_t)f->m.file_count, "fragments",
                  (json_int_t)f->m.piece_count, "world_size", (json_int_t)f->m.world_size);
    if (!more || json_object_update(o, more) != 0) {
        json_decref(o);
        o = NULL;
    }
    json_decref(more);
    return o;
}

static void examine(finding *f, bool deep) {
    f->status =
        deep ? weft_ckpt_check_deep(f->path, &f->m, &f->why) : weft_ckpt_check_quick(f->path, &f->m, &f->why);
}

static const char *last_part(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static void print_line(const finding *f, bool deep) {
    if (f->status != WEFT_OK) {
        printf("%-14s  INVALID: %s\n", last_part(f->path), f->why.text);
        return;
    }
    const weft_ckpt_state *s = &f->m.state;
    printf("%-14s  step %" PRId64 "  samples %" PRIu64 "  tokens %" PRId64 "  %.1f MiB in %" PRId64
           " files, written by %" PRId64 " ranks%s\n",
           last_part(f->path), s->step, s->samples, s->tokens, (double)bytes_of(&f->m) / (1 << 20),
           f->m.file_count, f->m.world_size, deep ? "  OK: every hash is right" : "");
}

/* Examines and reports all steps of a run; *bad counts those that are invalid. */
static weft_status report_run(const char *run, bool deep, bool json, int64_t *bad, int64_t *count) {
    int64_t *steps, others;
    finding f = {0};
    json_t *list = json_array();
    *bad = 0;
    weft_status st = weft_ckpt_list(run, &steps, count, &others, NULL);
    if (st != WEFT_OK) {
        json_decref(list);
        return st;
    }
    for (int64_t i = 0; i < *count && st == WEFT_OK; i++) {
        st = weft_ckpt_step_path(f.path, run, steps[i]);
        if (st != WEFT_OK) break;
        examine(&f, deep);
        *bad += f.status != WEFT_OK;
        if (!json)
            print_line(&f, deep);
        else if (json_array_append_new(list, finding_json(&f)) != 0)
            st = weft_fail(WEFT_ENOMEM, "no memory for a report");
        if (f.status == WEFT_OK) weft_ckpt_manifest_free(&f.m);
    }
    free(steps);
    if (st == WEFT_OK && json)
        return weft_output_json(json_pack("{s:s, s:o}", "run", run, "checkpoints", list), JSON_INDENT(2));
    json_decref(list);
    return st;
}

static bool is_dir(const char *fmt, const char *path) {
    char full[WEFT_PATH_SIZE];
    struct stat s;
    int n = snprintf(full, sizeof full, "%s%s", path, fmt);
    return n < (int)sizeof full && stat(full, &s) == 0 && S_ISDIR(s.st_mode);
}

static weft_status list_run(const char *run, bool json) {
    int64_t bad, count;
    if (!is_dir("", run)) WEFT_FAIL(WEFT_EINPUT, "%s is no directory", run);
    if (!is_dir("/checkpoints", run))
        WEFT_FAIL(WEFT_EINPUT, "%s is no run directory: it has no checkpoints", run);
    return report_run(run, false, json, &bad, &count);
}

static weft_status verify(const char *path, bool json) {
    finding f = {0};
    weft_status st;
    if (!is_dir("", path)) WEFT_FAIL(WEFT_EINPUT, "%s is no directory", path);
    if (is_dir("/checkpoints", path)) {
        int64_t bad, count;
        WEFT_TRY(report_run(path, true, json, &bad, &count));
        if (count == 0) WEFT_FAIL(WEFT_EINPUT, "%s/checkpoints holds no checkpoint", path);
        if (bad)
            WEFT_FAIL(WEFT_EINPUT, "%s: %" PRId64 " of %" PRId64 " checkpoints are invalid", path, bad,
                      count);
        return WEFT_OK;
    }
    WEFT_TRY(weft_fs_path(f.path, "%s", path));
    for (size_t n = strlen(f.path); n > 1 && f.path[n - 1] == '/';) f.path[--n] = '\0';
    examine(&f, true);
    st = WEFT_OK;
    if (json)
        st = weft_output_json(finding_json(&f), JSON_INDENT(2));
    else if (f.status == WEFT_OK)
        print_line(&f, true);
    if (f.status != WEFT_OK) WEFT_FAIL(f.status, "%s is invalid: %s", f.path, f.why.text);
    weft_ckpt_manifest_free(&f.m);
    return st;
}

weft_status weft_cmd_ckpt(const weft_world *w, int argc, char **argv) {
    bool json = false, help = false;
    int positional = 0;
    const weft_option options[] = {
        {"json", WEFT_OPT_FLAG, &json, NULL, "print a JSON object instead of a table"}};
    const weft_usage usage = {
        .command = "weft ckpt",
        .positional = "ls RUN | verify CHECKPOINT|RUN",
        .text = "ls lists the checkpoints of a run directory (manifests and sizes of files are checked, "
                "contents are\n"
                "not). verify reads everything and checks every hash; its exit status is 2 when anything is "
                "invalid.",
        .min_positional = 2,
        .max_positional = 2,
    };
    (void)w; /* never more than one rank */
    WEFT_TRY(weft_options_parse(&usage, options, 1, argc, argv, &positional, &help));
    if (help) return WEFT_OK;
    bool ls = strcmp(argv[1], "ls") == 0;
    if (!ls && strcmp(argv[1], "verify") != 0)
        WEFT_FAIL(WEFT_EINPUT, "weft ckpt: '%s' is not one of ls, verify", argv[1]);
    WEFT_TRY(ls ? list_run(argv[2], json) : verify(argv[2], json));
    return weft_output_finish();
}
