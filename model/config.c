/* Where values come from: the table's defaults, files with their includes, key=value overrides. */
#include "model/config.h"
#include "model/config_fields.h"
#include "runtime/yaml.h"
#include "runtime/text.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { MAX_FILE = 1 << 20, WHERE = 4200 };

void weft_config_defaults(weft_config *c) {
    memset(c, 0, sizeof *c);
    for (int i = 0; i < weft_fields_count; i++) {
        const weft_field *f = &weft_fields[i];
        weft_status st = weft_field_set(c, f, NULL, f->preset, f->type == WEFT_FIELD_TEXT, "defaults");
        WEFT_CHECK(st == WEFT_OK, "the default of %s does not fit its row", f->key);
    }
}

/* ---- unknown keys ------------------------------------------------------------------------------- */

static const weft_section *find_section(const char *name) {
    for (int i = 1; i < weft_sections_count; i++)
        if (strcmp(weft_sections[i].name, name) == 0) return &weft_sections[i];
    return NULL;
}

/* The known key that was probably meant: the one of the same name in another section, else the nearest
 * spelling. */
static const char *suggest_key(const char *key) {
    const char *last = strrchr(key, '.'), *found = NULL;
    const char **names = calloc((size_t)weft_fields_count, sizeof *names);
    last = last ? last + 1 : key;
    if (!names) return NULL;
    for (int i = 0; i < weft_fields_count; i++) {
        const char *dot = strrchr(weft_fields[i].key, '.');
        names[i] = weft_fields[i].key;
        if (!found && strcmp(dot ? dot + 1 : names[i], last) == 0) found = names[i];
    }
    int near = weft_nearest(key, names, weft_fields_count);
    free(names);
    return found ? found : near >= 0 ? weft_fields[near].key : NULL;
}

static const char *suggest_section(const char *name) {
    const char *names[16];
    int count = 0;
    for (int i = 1; i < weft_sections_count && count < 16; i++) names[count++] = weft_sections[i].name;
    int near = weft_nearest(name, names, count);
    return near >= 0 ? names[near] : NULL;
}

static weft_status unknown_failure(const char *what, const char *key, const char *suggestion,
                                   const char *where) {
    if (suggestion)
        WEFT_FAIL(WEFT_EINPUT, "%s: unknown %s '%.200s'; did you mean '%s'?", where, what, key, suggestion);
    WEFT_FAIL(WEFT_EINPUT, "%s: unknown %s '%.200s'; `weft config doc` lists all", where, what, key);
}

/* ---- one assignment ----------------------------------------------------------------------------- */

weft_status weft_config_override(weft_config *c, const char *assignment, const char *where) {
    char key[256];
    const char *domain, *equals = strchr(assignment, '=');
    if (!equals || equals == assignment)
        WEFT_FAIL(WEFT_EINPUT, "%s: '%.200s' is not key=value, e.g. train.steps=100", where, assignment);
    size_t n = (size_t)(equals - assignment);
    if (n >= sizeof key)
        WEFT_FAIL(WEFT_EINPUT, "%s: unknown key '%.60s...'; `weft config doc` lists all", where, assignment);
    memcpy(key, assignment, n);
    key[n] = '\0';
    if (strcmp(key, "include") == 0)
        WEFT_FAIL(WEFT_EINPUT, "%s: include works in files only; give %s as the configuration", where,
                  equals + 1);
    const weft_field *f = weft_field_find(key, &domain);
    if (!f && find_section(key))
        WEFT_FAIL(WEFT_EINPUT, "%s: %s is a section; set one of its keys, as in train.steps=100", where, key);
    if (!f) return unknown_failure("key", key, suggest_key(key), where);
    return weft_field_set(c, f, domain, equals + 1, f->type == WEFT_FIELD_TEXT, where);
}

static weft_status apply_mapping(weft_config *c, const weft_yaml_entry *e, const char *where) {
    const char *domain;
    const weft_field *f = weft_field_find(e->key, &domain);
    if (!f && find_section(e->key)) return WEFT_OK;
    if (!f && strchr(e->key, '.')) return unknown_failure("key", e->key, suggest_key(e->key), where);
    if (!f) return unknown_failure("section", e->key, suggest_section(e->key), where);
    if (domain || f->type != WEFT_FIELD_WEIGHTS)
        WEFT_FAIL(WEFT_EINPUT, "%s: %s wants %s, not a mapping", where, e->key,
                  domain ? "a number" : weft_field_type_name(f));
    return e->empty ? weft_field_set(c, f, NULL, "{}", false, where) : WEFT_OK;
}

static weft_status apply_scalar(weft_config *c, const weft_yaml_entry *e, const char *where,
                                const char *value_where) {
    const char *domain;
    const weft_field *f = weft_field_find(e->key, &domain);
    bool nothing = !e->quoted && e->value[0] == '\0';
    if (!f && find_section(e->key)) { /* a section whose keys are all commented out is fine */
        if (nothing) return WEFT_OK;
        WEFT_FAIL(WEFT_EINPUT, "%s: %s is a section; its keys go on lines of their own below it, indented",
                  value_where, e->key);
    }
    if (!f) return unknown_failure("key", e->key, suggest_key(e->key), where);
    if (f->type == WEFT_FIELD_WEIGHTS && !domain) {
        if (nothing) return WEFT_OK;
        WEFT_FAIL(WEFT_EINPUT, "%s: %s wants a mapping such as {books: 2, code: 1}", value_where, e->key);
    }
    return weft_field_set(c, f, domain, e->value, e->quoted, value_where);
}

/* ---- files -------------------------------------------------------------------------------------- */

typedef struct source {
    const char *name; /* path, or what stands for it in messages */
    bool file;        /* false: text; it has no folder to include from */
    dev_t device;     /* which file, whatever its spelling */
    ino_t inode;
    const struct source *includer;
} source;

static weft_status load_file(weft_config *c, const char *path, const source *includer, const char *where);

static weft_status include(weft_config *c, const source *s, const weft_yaml_entry *e, const char *where) {
    const char *slash = strrchr(s->name, '/');
    if (!s->file) WEFT_FAIL(WEFT_EINPUT, "%s: include works in files only", where);
    if (!e->value || e->value[0] == '\0')
        WEFT_FAIL(WEFT_EINPUT, "%s: include wants the name of one file, as in `include: base.yaml`", where);
    size_t folder = slash && e->value[0] != '/' ? (size_t)(slash - s->name) + 1 : 0;
    char *path = malloc(folder + strlen(e->value) + 1);
    if (!path) WEFT_FAIL(WEFT_ENOMEM, "%s: out of memory", s->name);
    memcpy(path, s->name, folder);
    strcpy(path + folder, e->value);
    weft_status st = load_file(c, path, s, where);
    free(path);
    return st;
}

static weft_status apply_text(weft_config *c, const source *s, const char *text, size_t bytes) {
    weft_yaml y;
    weft_status st = weft_yaml_parse(&y, text, bytes, s->name);
    char where[WHERE], value_where[WHERE];
    for (int pass = 0; pass < 2 && st == WEFT_OK;
         pass++) /* what a file includes is read before its own keys */
        for (int i = 0; i < y.count && st == WEFT_OK; i++) {
            const weft_yaml_entry *e = &y.entries[i];
            bool is_include = strcmp(e->key, "include") == 0;
            if (is_include != (pass == 0)) continue;
            snprintf(where, sizeof where, "%s:%zu:%zu", s->name, e->line, e->column);
            snprintf(value_where, sizeof value_where, "%s:%zu:%zu", s->name, e->value_line, e->value_column);
            if (is_include)
                st = include(c, s, e, value_where);
            else if (!e->value)
                st = apply_mapping(c, e, where);
            else
                st = apply_scalar(c, e, where, value_where);
        }
    weft_yaml_free(&y);
    return st;
}

static weft_status read_open_file(FILE *file, const char *path, source *s, char **text, size_t *bytes) {
    struct stat info;
    if (fstat(fileno(file), &info) != 0) WEFT_FAIL(WEFT_EIO, "cannot read %s: %s", path, strerror(errno));
    if (S_ISDIR(info.st_mode))
        WEFT_FAIL(WEFT_EINPUT, "%s is a directory; give the configuration file in it", path);
    s->device = info.st_dev;
    s->inode = info.st_ino;
    char *buffer = malloc(MAX_FILE + 1);
    if (!buffer) WEFT_FAIL(WEFT_ENOMEM, "%s: out of memory", path);
    size_t n = fread(buffer, 1, MAX_FILE + 1, file);
    weft_status st = WEFT_OK;
    if (ferror(file))
        st = weft_fail(WEFT_EIO, "cannot read %s: %s", path, strerror(errno));
    else if (n > MAX_FILE)
        st = weft_fail(WEFT_EINPUT, "%s is larger than 1 MiB: not a configuration", path);
    if (st != WEFT_OK) {
        free(buffer);
        return st;
    }
    *text = buffer;
    *bytes = n;
    return WEFT_OK;
}

/* `where`: the line that includes the file; NULL for the first. */
static weft_status load_file(weft_config *c, const char *path, const source *includer, const char *where) {
    source s = {.name = path, .file = true, .includer = includer};
    const char *before = where ? where : "", *colon = where ? ": " : "";
    char *text = NULL;
    size_t bytes = 0;
    FILE *file = fopen(path, "rb");
    if (!file)
        WEFT_FAIL(WEFT_EIO, "%s%scannot open the configuration %s: %s", before, colon, path, strerror(errno));
    weft_status st = read_open_file(file, path, &s, &text, &bytes);
    fclose(file); /* only read from: nothing can be lost */
    WEFT_TRY(st);
    for (const source *p = includer; p && st == WEFT_OK; p = p->includer)
        if (p->device == s.device && p->inode == s.inode)
            st = weft_fail(WEFT_EINPUT,
                           "%s%s%s is already being read: its includes lead back to it; remove one", before,
                           colon, path);
    if (st == WEFT_OK) st = apply_text(c, &s, text, bytes);
    free(text);
    return st;
}

weft_status weft_config_load(weft_config *c, const char *path) {
    weft_config copy;
    memcpy(&copy, c, sizeof copy);
    WEFT_TRY(load_file(&copy, path, NULL, NULL));
    memcpy(c, &copy, sizeof copy);
    return WEFT_OK;
}

weft_status weft_config_parse(weft_config *c, const char *text, size_t bytes, const char *name) {
    weft_config copy;
    source s = {.name = name};
    memcpy(&copy, c, sizeof copy);
    WEFT_TRY(apply_text(&copy, &s, text, bytes));
    memcpy(c, &copy, sizeof copy);
    return WEFT_OK;
}

weft_status weft_config_read(weft_config *c, const char *path, int argc, char **argv) {
    weft_config copy;
    weft_config_defaults(&copy);
    WEFT_TRY(load_file(&copy, path, NULL, NULL));
    for (int i = 0; i < argc; i++) WEFT_TRY(weft_config_override(&copy, argv[i], "command line"));
    WEFT_TRY(weft_config_finish(&copy));
    memcpy(c, &copy, sizeof copy);
    return WEFT_OK;
}
