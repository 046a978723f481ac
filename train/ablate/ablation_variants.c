/* The variants of an ablation: those that the file names, crossed with its grid. */
#include "runtime/fs.h"
#include "train/ablate/ablation_internal.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_VARIANTS = 1000, MAX_AXES = 8, MAX_NAME = 120, WHERE = 4300 };

static const char *const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";

typedef struct axis {
    const weft_yaml_entry *entry;
    const char *key; /* "model.num_experts" */
    char **values;
    int count;
} axis;

typedef struct family {
    const weft_ablation_file *file;
    char **names; /* of `variants` */
    int *entries; /* of the file, where each begins */
    int name_count;
    axis axes[MAX_AXES];
    int axis_count;
} family;

static weft_status no_memory(const family *f) {
    return weft_fail(WEFT_ENOMEM, "%s: no memory", f->file->path);
}

static void place(const family *f, const weft_yaml_entry *e, char where[WHERE]) {
    snprintf(where, WHERE, "%s:%zu:%zu", f->file->path, e->line, e->column);
}

/* ---- variants ----------------------------------------------------------------------------------- */

/* Names become those of files, and stand before the dot of keys. */
static weft_status check_name(const family *f, const char *name, const weft_yaml_entry *e) {
    char where[WHERE];
    place(f, e, where);
    size_t n = strlen(name);
    if (n == 0 || n > 60 || strspn(name, letters) == 0)
        WEFT_FAIL(WEFT_EINPUT,
                  "%s: '%.80s' cannot name a variant; a name begins with a letter or digit and has "
                  "at most 60 of them",
                  where, name);
    for (const char *p = name; *p; p++)
        if (!strchr(letters, *p) && *p != '-' && *p != '_')
            WEFT_FAIL(WEFT_EINPUT,
                      "%s: '%.80s' cannot name a variant: a name is made of letters, digits, - and _", where,
                      name);
    return WEFT_OK;
}

/* `variants.NAME...`: a name that is not known yet is added. */
static weft_status add_variant(family *f, int entry) {
    const weft_yaml_entry *e = &f->file->yaml.entries[entry];
    char where[WHERE];
    const char *rest = e->key + strlen("variants."), *dot = strchr(rest, '.');
    size_t n = dot ? (size_t)(dot - rest) : strlen(rest);
    place(f, e, where);
    for (int i = 0; i < f->name_count; i++)
        if (strlen(f->names[i]) == n && strncmp(f->names[i], rest, n) == 0) return WEFT_OK;
    if (dot && !e->value)
        WEFT_FAIL(WEFT_EINPUT, "%s: '%.80s' cannot name a variant: a dot separates it from a key", where,
                  rest);
    if (!dot && e->value && (e->quoted || *e->value))
        WEFT_FAIL(WEFT_EINPUT,
                  "%s: the variant %s wants keys of a configuration, as in {model: {num_experts: 4}}", where,
                  rest);
    if (f->name_count == MAX_VARIANTS)
        WEFT_FAIL(WEFT_EINPUT, "%s: more than %d variants", where, MAX_VARIANTS);
    char *name = strndup(rest, n);
    if (!name) return no_memory(f);
    f->names[f->name_count] = name;
    f->entries[f->name_count++] = entry;
    return check_name(f, name, e);
}

/* The entry `variants.NAME` itself with nothing behind it is a variant without changes, not a key. */
static weft_status apply_variant(weft_config *c, const family *f, int i) {
    char prefix[MAX_NAME];
    snprintf(prefix, sizeof prefix, "variants.%s.", f->names[i]);
    return weft_ablation_apply(c, f->file, prefix);
}

/* ---- the grid ----------------------------------------------------------------------------------- */

static weft_status add_value(family *f, axis *x, const char *value) {
    char where[WHERE];
    place(f, x->entry, where);
    if (!*value || strspn(value, letters) == 0 || value[strcspn(value, "/ =")])
        WEFT_FAIL(WEFT_EINPUT,
                  "%s: '%s' cannot be a value of the grid: values become part of a variant's name; "
                  "name the variants yourself",
                  where, value);
    for (int i = 0; i < x->count; i++)
        if (strcmp(x->values[i], value) == 0)
            WEFT_FAIL(WEFT_EINPUT, "%s: %s stands twice in the grid's %s", where, value, x->key);
    char **longer = realloc(x->values, ((size_t)x->count + 1) * sizeof *longer);
    if (!longer) return no_memory(f);
    x->values = longer;
    if (!(x->values[x->count] = strdup(value))) return no_memory(f);
    x->count++;
    return WEFT_OK;
}

static weft_status add_axis(family *f, const weft_yaml_entry *e) {
    char where[WHERE], item[64];
    place(f, e, where);
    if (!e->value && !e->empty) return WEFT_OK; /* its members follow */
    if (f->axis_count == MAX_AXES) WEFT_FAIL(WEFT_EINPUT, "%s: a grid has at most %d keys", where, MAX_AXES);
    axis *x = &f->axes[f->axis_count++];
    *x = (axis){.entry = e, .key = e->key + strlen("grid.")};
    for (const char *rest = e->value; weft_ablation_item(&rest, item, sizeof item);)
        WEFT_TRY(add_value(f, x, item));
    if (strcmp(x->key, "seed") == 0)
        WEFT_FAIL(WEFT_EINPUT, "%s: seeds are no part of the grid; use `seeds`", where);
    if (x->count == 0)
        WEFT_FAIL(WEFT_EINPUT, "%s: the grid's %s has no values; write \"4, 8\"", where, x->key);
    return WEFT_OK;
}

/* Value of the axis in combination number `cell`: the last axis changes fastest. */
static const char *value_in(const family *f, int axis, int64_t cell) {
    for (int i = f->axis_count - 1; i > axis; i--) cell /= f->axes[i].count;
    return f->axes[axis].values[cell % f->axes[axis].count];
}

static weft_status apply_cell(weft_config *c, const family *f, int64_t cell) {
    char where[WHERE];
    for (int i = 0; i < f->axis_count; i++) {
        place(f, f->axes[i].entry, where);
        WEFT_TRY(weft_ablation_assign(c, f->axes[i].key, value_in(f, i, cell), where));
    }
    return WEFT_OK;
}

/* ---- together ----------------------------------------------------------------------------------- */

/* "mamba,num_experts=4" */
static weft_status make_name(const family *f, int variant, int64_t cell, char name[MAX_NAME]) {
    size_t n = (size_t)snprintf(name, MAX_NAME, "%s", f->name_count ? f->names[variant] : "");
    for (int i = 0; i < f->axis_count && n < MAX_NAME; i++) {
        const char *dot = strrchr(f->axes[i].key, '.');
        n += (size_t)snprintf(name + n, MAX_NAME - n, "%s%s=%s", n ? "," : "", dot ? dot + 1 : f->axes[i].key,
                              value_in(f, i, cell));
    }
    if (n >= MAX_NAME)
        WEFT_FAIL(WEFT_EINPUT,
                  "%s: the name %.40s... is too long for a directory; name the variants yourself",
                  f->file->path, name);
    return WEFT_OK;
}

static weft_status add(weft_ablation *a, const family *f, int variant, int64_t cell, weft_config *c) {
    char name[MAX_NAME], where[WHERE];
    const weft_yaml_entry *e = f->name_count ? &f->file->yaml.entries[f->entries[variant]] : f->axes[0].entry;
    WEFT_TRY(make_name(f, variant, cell, name));
    for (int i = 0; i < a->variant_count; i++)
        if (strcmp(a->variants[i].name, name) == 0)
            WEFT_FAIL(WEFT_EINPUT,
                      "%s: two keys of the grid have one name, so that two variants are '%s'; name the "
                      "variants yourself",
                      f->file->path, name);
    *c = *a->shared;
    if (f->name_count) WEFT_TRY(apply_variant(c, f, variant));
    WEFT_TRY(apply_cell(c, f, cell));
    weft_status st = weft_config_finish(c);
    place(f, e, where);
    /* The message before speaks of keys, which may stand in the base: this one says whose they are. */
    if (st != WEFT_OK) WEFT_FAIL(st, "%s: the variant '%s' has no valid configuration", where, name);
    weft_ablation_variant *v = &a->variants[a->variant_count];
    v->name = strdup(name);
    v->matched = strdup("");
    a->variant_count++;
    return v->name && v->matched ? WEFT_OK : no_memory(f);
}

static weft_status collect(family *f) {
    for (int i = 0; i < f->file->yaml.count; i++) {
        const weft_yaml_entry *e = &f->file->yaml.entries[i];
        if (strncmp(e->key, "variants.", 9) == 0) WEFT_TRY(add_variant(f, i));
        if (strncmp(e->key, "grid.", 5) == 0) WEFT_TRY(add_axis(f, e));
    }
    if (f->name_count == 0 && f->axis_count == 0)
        WEFT_FAIL(WEFT_EINPUT, "%s: nothing varies: add `variants` or a `grid`", f->file->path);
    return WEFT_OK;
}

static weft_status combine(weft_ablation *a, const family *f, weft_config **configs) {
    int64_t cells = 1, variants = f->name_count ? f->name_count : 1;
    for (int i = 0; i < f->axis_count; i++) {
        cells *= f->axes[i].count;
        if (cells * variants > MAX_VARIANTS)
            WEFT_FAIL(WEFT_EINPUT, "%s: the grid gives more than %d variants", f->file->path, MAX_VARIANTS);
    }
    a->variants = calloc((size_t)(variants * cells), sizeof *a->variants);
    *configs = calloc((size_t)(variants * cells), sizeof **configs);
    if (!a->variants || !*configs) return no_memory(f);
    for (int v = 0; v < variants; v++)
        for (int64_t cell = 0; cell < cells; cell++)
            WEFT_TRY(add(a, f, v, cell, &(*configs)[a->variant_count]));
    return WEFT_OK;
}

weft_status weft_ablation_variants(weft_ablation *a, const weft_ablation_file *file, weft_config **configs) {
    family f = {.file = file,
                .names = calloc(MAX_VARIANTS, sizeof(char *)),
                .entries = calloc(MAX_VARIANTS, sizeof(int))};
    weft_status st = f.names && f.entries ? collect(&f) : no_memory(&f);
    if (st == WEFT_OK) st = combine(a, &f, configs);
    for (int i = 0; i < f.name_count; i++) free(f.names[i]);
    for (int i = 0; i < f.axis_count; i++) {
        for (int k = 0; k < f.axes[i].count; k++) free(f.axes[i].values[k]);
        free(f.axes[i].values);
    }
    free(f.entries);
    free(f.names);
    return st;
}
