/* The file of an ablation. */
#include "runtime/fs.h"
#include "runtime/log.h"
#include "runtime/text.h"
#include "train/ablate/ablation_internal.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_FILE = 1 << 20, WHERE = 4300 };

static const char *const own_keys[WEFT_ABLATION_KEYS] = {[WEFT_ABLATION_OUT] = "out",
                                                         [WEFT_ABLATION_RUNS] = "runs",
                                                         [WEFT_ABLATION_TITLE] = "title",
                                                         [WEFT_ABLATION_BASE] = "base",
                                                         [WEFT_ABLATION_SEEDS] = "seeds",
                                                         [WEFT_ABLATION_BASELINE] = "baseline",
                                                         [WEFT_ABLATION_MATCH_BY] = "match.by",
                                                         [WEFT_ABLATION_MATCH_KEY] = "match.key",
                                                         [WEFT_ABLATION_MATCH_MULTIPLE] = "match.multiple"};

static int own_key(const char *key) {
    for (int i = 0; i < WEFT_ABLATION_KEYS; i++)
        if (strcmp(own_keys[i], key) == 0) return i;
    return -1;
}

static weft_status no_memory(const char *what) {
    return weft_fail(WEFT_ENOMEM, "%s: no memory", what);
}

bool weft_ablation_item(const char **text, char *item, size_t size) {
    const char *p = *text;
    if (!p || !*p) return false;
    size_t n = strcspn(p, ",");
    *text = p[n] ? p + n + 1 : p + n;
    while (n > 0 && (*p == ' ' || *p == '\t')) p++, n--;
    while (n > 0 && (p[n - 1] == ' ' || p[n - 1] == '\t')) n--;
    snprintf(item, size, "%.*s", (int)(n < size ? n : size - 1), p);
    return true;
}

/* ---- keys of the file --------------------------------------------------------------------------- */

static weft_status unknown_key(const char *key, const char *where) {
    const char *names[] = {"out",   "runs",     "title", "base", "set",      "variants",  "grid",
                           "seeds", "baseline", "match", "eval", "match.by", "match.key", "match.multiple"};
    int near = weft_nearest(key, names, (int)(sizeof names / sizeof *names));
    if (near >= 0)
        WEFT_FAIL(WEFT_EINPUT, "%s: unknown key '%.200s'; did you mean '%s'?", where, key, names[near]);
    WEFT_FAIL(WEFT_EINPUT,
              "%s: unknown key '%.200s'; an ablation has out, runs, title, base, set, variants, grid, seeds, "
              "baseline, match and eval (keys of a configuration go under set)",
              where, key);
}

static weft_status give(weft_ablation_file *f, int key, const char *value, const char *where) {
    weft_ablation_given *g = &f->own[key];
    char *text = strdup(value), *place = strdup(where);
    if (!text || !place) {
        free(text);
        free(place);
        return no_memory(f->path);
    }
    free(g->text);
    free(g->where);
    *g = (weft_ablation_given){text, place};
    return WEFT_OK;
}

static weft_status set_suite(weft_suite *s, const char *key, const char *value, const char *where) {
    char *assignment = weft_format("%s=%s", key, value);
    if (!assignment) return no_memory(where);
    weft_status st = weft_suite_set(s, assignment, where);
    free(assignment);
    return st;
}

static bool starts(const char *text, const char *with) {
    return strncmp(text, with, strlen(with)) == 0;
}

static weft_status take_entry(weft_ablation *a, weft_ablation_file *f, const weft_yaml_entry *e) {
    char where[WHERE];
    int own = own_key(e->key);
    snprintf(where, sizeof where, "%s:%zu:%zu", f->path, e->line, e->column);
    if (own >= 0 && !e->value) WEFT_FAIL(WEFT_EINPUT, "%s: %s wants one value, not a mapping", where, e->key);
    if (own >= 0) return give(f, own, e->value, where);
    if (starts(e->key, "eval.")) {
        if (!e->value && !e->empty) return WEFT_OK; /* its members follow */
        return set_suite(&a->suite, e->key + strlen("eval."), e->value ? e->value : "", where);
    }
    if (starts(e->key, "set.") || starts(e->key, "variants.") || starts(e->key, "grid.")) return WEFT_OK;
    const char *const sections[] = {"set", "variants", "grid", "match", "eval"};
    for (size_t i = 0; i < sizeof sections / sizeof *sections; i++) {
        if (strcmp(e->key, sections[i]) != 0) continue;
        if (!e->value || (!e->quoted && !*e->value)) return WEFT_OK; /* all of it may be commented out */
        WEFT_FAIL(WEFT_EINPUT, "%s: %s wants keys on lines of their own below it, indented", where, e->key);
    }
    return unknown_key(e->key, where);
}

static weft_status read_file(weft_ablation *a, weft_ablation_file *f) {
    size_t bytes;
    WEFT_TRY(weft_fs_read_file(a->path, MAX_FILE, &a->text, &bytes));
    WEFT_TRY(weft_yaml_parse(&f->yaml, a->text, bytes, a->path));
    for (int i = 0; i < f->yaml.count; i++) WEFT_TRY(take_entry(a, f, &f->yaml.entries[i]));
    return WEFT_OK;
}

/* ---- overrides ---------------------------------------------------------------------------------- */

/* Those of the file's own keys; *used tells whether this was one. */
static weft_status take_override(weft_ablation *a, weft_ablation_file *f, const char *text, bool *used) {
    const char *equals = strchr(text, '=');
    *used = false;
    if (!equals) return WEFT_OK;
    char *key = strndup(text, (size_t)(equals - text));
    if (!key) return no_memory(f->path);
    int own = own_key(key);
    weft_status st = WEFT_OK;
    *used = own >= 0 || starts(key, "eval.");
    if (own >= 0)
        st = give(f, own, equals + 1, "command line");
    else if (*used)
        st = weft_suite_set(&a->suite, text + strlen("eval."), "command line");
    free(key);
    return st;
}

/* What the copy of the definition says of the command line. */
static weft_status note_overrides(weft_ablation *a, int count, char **overrides) {
    for (int i = 0; i < count; i++) {
        char *longer =
            weft_format("%s%s# command line: %s\n", a->text,
                        *a->text && a->text[strlen(a->text) - 1] != '\n' ? "\n" : "", overrides[i]);
        if (!longer) return no_memory(a->path);
        free(a->text);
        a->text = longer;
    }
    return WEFT_OK;
}

weft_status weft_ablation_assign(weft_config *c, const char *key, const char *value, const char *where) {
    if (strcmp(key, "run") == 0)
        WEFT_FAIL(WEFT_EINPUT, "%s: run is made from `out`, the variant and the seed; leave it out", where);
    if (strcmp(key, "resume") == 0)
        WEFT_FAIL(WEFT_EINPUT, "%s: an ablation always goes on where it stopped; leave resume out", where);
    char *assignment = weft_format("%s=%s", key, value);
    if (!assignment) return no_memory(where);
    weft_status st = weft_config_override(c, assignment, where);
    free(assignment);
    return st;
}

weft_status weft_ablation_apply(weft_config *c, const weft_ablation_file *f, const char *prefix) {
    char where[WHERE];
    for (int i = 0; i < f->yaml.count; i++) {
        const weft_yaml_entry *e = &f->yaml.entries[i];
        if (!starts(e->key, prefix)) continue;
        if (!e->value && !e->empty) continue; /* its members follow */
        snprintf(where, sizeof where, "%s:%zu:%zu", f->path, e->line, e->column);
        if (strcmp(e->key + strlen(prefix), "seed") == 0 && !starts(prefix, "set."))
            WEFT_FAIL(WEFT_EINPUT, "%s: a variant has the seeds of all; leave it out, and use `seeds`",
                      where);
        WEFT_TRY(weft_ablation_assign(c, e->key + strlen(prefix), e->value ? e->value : "{}", where));
    }
    return WEFT_OK;
}

/* ---- what all runs share ------------------------------------------------------------------------ */

static weft_status load_base(weft_ablation *a, const weft_ablation_file *f) {
    const weft_ablation_given *g = &f->own[WEFT_ABLATION_BASE];
    const char *slash = strrchr(a->path, '/');
    if (!g->text || !*g->text)
        WEFT_FAIL(WEFT_EINPUT, "%s: no base; add `base: CONFIG.yaml`, the configuration that is varied",
                  a->path);
    if (!(a->shared = malloc(sizeof *a->shared))) return no_memory(a->path);
    bool relative = slash && *g->text != '/' && strcmp(g->where, "command line") != 0;
    char *path = weft_format("%.*s%s", relative ? (int)(slash - a->path) + 1 : 0, a->path, g->text);
    if (!path) return no_memory(a->path);
    weft_config_defaults(a->shared);
    weft_status st = weft_config_load(a->shared, path);
    if (st == WEFT_OK && strcmp(a->shared->start.resume, "auto") != 0)
        st = weft_fail(WEFT_EINPUT,
                       "%s: resume: %s: an ablation always goes on where it stopped; leave it out", path,
                       a->shared->start.resume);
    free(path);
    return st;
}

static weft_status make_shared(weft_ablation *a, const weft_ablation_file *f, int count, char **overrides,
                               const bool *used) {
    WEFT_TRY(load_base(a, f));
    WEFT_TRY(weft_ablation_apply(a->shared, f, "set."));
    for (int i = 0; i < count; i++) {
        const char *equals = strchr(overrides[i], '=');
        if (used[i]) continue;
        if (!equals || equals == overrides[i])
            return weft_config_override(a->shared, overrides[i], "command line");
        char *key = strndup(overrides[i], (size_t)(equals - overrides[i]));
        if (!key) return no_memory(a->path);
        weft_status st = weft_ablation_assign(a->shared, key, equals + 1, "command line");
        free(key);
        WEFT_TRY(st);
    }
    return WEFT_OK;
}

/* "configs/ablations/ratio.yaml" -> "ratio" */
static char *bare_name(const char *path) {
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path, *dot = strrchr(name, '.');
    return strndup(name, dot && dot > name ? (size_t)(dot - name) : strlen(name));
}

/* Without slashes at the end; false: nothing is left. */
static bool trim(char *dir) {
    size_t n = strlen(dir);
    while (n > 1 && dir[n - 1] == '/') dir[--n] = '\0';
    return n > 0;
}

static weft_status make_names(weft_ablation *a, const weft_ablation_file *f) {
    const weft_ablation_given *out = &f->own[WEFT_ABLATION_OUT], *title = &f->own[WEFT_ABLATION_TITLE],
                              *runs = &f->own[WEFT_ABLATION_RUNS];
    char *name = bare_name(a->path);
    if (!name) return no_memory(a->path);
    a->title = strdup(title->text && *title->text ? title->text : name);
    a->out = out->text ? strdup(out->text) : weft_format("runs/ablations/%s", name);
    free(name);
    a->folder = runs->text ? strdup(runs->text) : a->out ? strdup(a->out) : NULL;
    if (!a->title || !a->out || !a->folder) return no_memory(a->path);
    if (!trim(a->out)) WEFT_FAIL(WEFT_EINPUT, "%s: out has no value; give a directory", out->where);
    if (!trim(a->folder)) WEFT_FAIL(WEFT_EINPUT, "%s: runs has no value; give a directory", runs->where);
    return WEFT_OK;
}

/* ---- all of it ---------------------------------------------------------------------------------- */

static weft_status read_all(weft_ablation *a, weft_ablation_file *f, int count, char **overrides,
                            bool *used) {
    weft_ablation_match_rule match;
    weft_config *configs = NULL;
    weft_status st;
    WEFT_TRY(read_file(a, f));
    for (int i = 0; i < count; i++) WEFT_TRY(take_override(a, f, overrides[i], &used[i]));
    WEFT_TRY(note_overrides(a, count, overrides));
    WEFT_TRY(make_names(a, f));
    WEFT_TRY(weft_ablation_match_read(&match, f));
    WEFT_TRY(make_shared(a, f, count, overrides, used));
    WEFT_GOTO(st, done, weft_ablation_variants(a, f, &configs));
    WEFT_GOTO(st, done, weft_ablation_baseline(a, f));
    WEFT_GOTO(st, done, weft_ablation_match(a, &match, configs));
    WEFT_GOTO(st, done, weft_ablation_runs(a, f, configs));
    st = weft_suite_finish(&a->suite);
    /* The message before names keys, not files. */
    if (st != WEFT_OK) st = weft_fail(st, "%s: its `eval` is no valid suite", a->path);
done:
    free(configs);
    return st;
}

weft_status weft_ablation_read(weft_ablation *a, const char *path, int count, char **overrides) {
    weft_ablation_file f = {0};
    bool *used = calloc((size_t)count + 1, sizeof *used);
    *a = (weft_ablation){0};
    weft_suite_defaults(&a->suite);
    a->path = strdup(path);
    f.path = a->path;
    weft_status st = used && a->path ? read_all(a, &f, count, overrides, used) : no_memory(path);
    for (int i = 0; i < WEFT_ABLATION_KEYS; i++) {
        free(f.own[i].text);
        free(f.own[i].where);
    }
    weft_yaml_free(&f.yaml);
    free(used);
    return st;
}

void weft_ablation_free(weft_ablation *a) {
    for (int i = 0; i < a->run_count; i++) {
        free(a->runs[i]->name);
        free(a->runs[i]->dir);
        free(a->runs[i]);
    }
    for (int i = 0; i < a->variant_count; i++) {
        free(a->variants[i].name);
        free(a->variants[i].matched);
    }
    free(a->runs);
    free(a->variants);
    free(a->shared);
    free(a->text);
    free(a->out);
    free(a->folder);
    free(a->title);
    free(a->path);
    *a = (weft_ablation){0};
}
