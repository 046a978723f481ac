/* What two configurations differ in. */
#include "runtime/fs.h"
#include "train/ablate/ablation_internal.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_FILE = 1 << 20 };

/* Every key as the configuration's own printer writes it, with dots. */
static weft_status flatten(const weft_config *c, weft_yaml *out) {
    char *text = weft_config_to_yaml(c);
    if (!text) WEFT_FAIL(WEFT_ENOMEM, "no memory for the configuration's text");
    weft_status st = weft_yaml_parse(out, text, strlen(text), "configuration");
    free(text);
    return st;
}

static const char *value_of(const weft_yaml *y, const char *key) {
    for (int i = 0; i < y->count; i++)
        if (strcmp(y->entries[i].key, key) == 0) return y->entries[i].value;
    return NULL;
}

/* A mapping's member that only one of the two has counts as "" in the other. */
static bool compare(const weft_yaml *a, const weft_yaml *b, json_t *out) {
    for (int i = 0; i < b->count; i++) {
        const weft_yaml_entry *e = &b->entries[i];
        const char *other = value_of(a, e->key);
        if (e->value && (!other || strcmp(other, e->value) != 0) &&
            json_object_set_new(out, e->key, json_string(e->value)) != 0)
            return false;
    }
    for (int i = 0; i < a->count; i++) {
        const weft_yaml_entry *e = &a->entries[i];
        if (e->value && !value_of(b, e->key) && json_object_set_new(out, e->key, json_string("")) != 0)
            return false;
    }
    return true;
}

weft_status weft_ablation_differences(const weft_config *a, const weft_config *b, json_t **out) {
    weft_yaml x = {0}, y = {0};
    json_t *found = json_object();
    weft_status st = found ? flatten(a, &x) : WEFT_ENOMEM;
    if (st == WEFT_OK) st = flatten(b, &y);
    if (st == WEFT_OK && !compare(&x, &y, found)) st = weft_fail(WEFT_ENOMEM, "no memory");
    weft_yaml_free(&x);
    weft_yaml_free(&y);
    if (st != WEFT_OK) {
        json_decref(found);
        return st;
    }
    *out = found;
    return WEFT_OK;
}

/* Keys that a run may be gone on with changed: the losses do not depend on them. */
static bool is_free(const char *key) {
    static const char *const keys[] = {"run",
                                       "log.every",
                                       "data.cache_mib",
                                       "train.recompute",
                                       "train.recompute_layers",
                                       "mesh.dp",
                                       "mesh.fsdp",
                                       "mesh.cp",
                                       "mesh.tp",
                                       "mesh.ep",
                                       "mesh.ep_passes",
                                       "mesh.reshard",
                                       "mesh.prefetch",
                                       "mesh.timeout"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (strcmp(key, keys[i]) == 0) return true;
    return strncmp(key, "checkpoint.", strlen("checkpoint.")) == 0;
}

static weft_status compare_run(const weft_ablation *a, const weft_ablation_run *r, const weft_config *old) {
    json_t *now = NULL, *before = NULL, *value;
    const char *key, *other;
    weft_status st = weft_ablation_differences(old, &r->config, &now);
    if (st == WEFT_OK) st = weft_ablation_differences(&r->config, old, &before);
    json_object_foreach(now, key, value) {
        if (st != WEFT_OK || is_free(key)) continue;
        other = json_string_value(json_object_get(before, key));
        st = weft_fail(
            WEFT_EINPUT,
            "%s was begun with %s: %s, and %s now says %s; to train it again remove that directory, to "
            "keep it choose another `out`",
            r->dir, key, other && *other ? other : "\"\"", a->path,
            *json_string_value(value) ? json_string_value(value) : "\"\"");
    }
    json_decref(now);
    json_decref(before);
    return st;
}

weft_status weft_ablation_check(const weft_ablation *a, int i) {
    const weft_ablation_run *r = a->runs[i];
    char path[WEFT_PATH_SIZE], *text;
    size_t bytes;
    WEFT_TRY(weft_fs_path(path, "%s/config.yaml", r->dir));
    if (access(path, F_OK) != 0) return WEFT_OK;
    WEFT_TRY(weft_fs_read_file(path, MAX_FILE, &text, &bytes));
    weft_config *old = malloc(sizeof *old);
    weft_status st = old ? WEFT_OK : weft_fail(WEFT_ENOMEM, "%s: no memory", path);
    if (old) weft_config_defaults(old);
    if (st == WEFT_OK) st = weft_config_parse(old, text, bytes, path);
    if (st == WEFT_OK) st = weft_config_finish(old);
    if (st == WEFT_OK) st = compare_run(a, r, old);
    free(old);
    free(text);
    return st;
}
