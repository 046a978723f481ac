#include "data/build/recipe_fields.h"
#include "runtime/fs.h"
#include "runtime/text.h"
#include "runtime/yaml.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- making and freeing ---- */
weft_status weft_recipe_init(weft_recipe *r) {
    memset(r, 0, sizeof *r);
    for (int i = 0; i < weft_recipe_section_count; i++) {
        /* Numbers out of their range ("") are texts only. */
        WEFT_TRY(weft_recipe_fields_preset(weft_recipe_sections[i].fields, weft_recipe_sections[i].count, r));
    }
    return WEFT_OK;
}

void weft_recipe_free(weft_recipe *r) {
    for (int i = 0; i < weft_recipe_section_count; i++)
        weft_recipe_fields_free(weft_recipe_sections[i].fields, weft_recipe_sections[i].count, r);
    for (int i = 0; i < r->source_count; i++)
        weft_recipe_fields_free(weft_recipe_source_fields, weft_recipe_source_field_count, &r->sources[i]);
    for (int i = 0; i < r->filter_count; i++) {
        free(r->filters[i].domains);
        for (int k = 0; k < WEFT_FILTER_MAX_RULES; k++) free(r->filters[i].options[k]);
    }
    free(r->sources);
    memset(r, 0, sizeof *r);
}

/* ---- sources ---- */
static weft_status new_source(weft_recipe *r, const char *name, size_t length, weft_recipe_source **out) {
    for (int i = 0; i < r->source_count; i++)
        if (strlen(r->sources[i].name) == length && strncmp(r->sources[i].name, name, length) == 0) {
            *out = &r->sources[i];
            return WEFT_OK;
        }
    weft_recipe_source *more = realloc(r->sources, ((size_t)r->source_count + 1) * sizeof *more);
    if (!more) WEFT_FAIL(WEFT_ENOMEM, "no memory for a recipe");
    r->sources = more;
    weft_recipe_source *s = &more[r->source_count];
    memset(s, 0, sizeof *s);
    memcpy(s->name, name, length);
    r->source_count++;
    *out = s;
    return weft_recipe_fields_preset(weft_recipe_source_fields, weft_recipe_source_field_count, s);
}

weft_status weft_recipe_add_source(weft_recipe *r, const char *name, const char *path, const char *domain,
                                   const char *otherwise) {
    weft_recipe_source *s = NULL;
    WEFT_TRY(new_source(r, name, strlen(name), &s));
    WEFT_TRY(weft_recipe_text_set(&s->path, path));
    WEFT_TRY(weft_recipe_text_set(&s->domain, domain));
    return weft_recipe_text_set(&s->otherwise, otherwise);
}

/* ---- keys ---- */
static weft_status unknown(const char *where, const char *what, const char *word, const char *const *names,
                           int count) {
    int near = weft_nearest(word, names, count);
    if (near >= 0)
        WEFT_FAIL(WEFT_EINPUT, "%s: unknown %s '%s'; did you mean '%s'? (weft data recipe lists all)", where,
                  what, word, names[near]);
    WEFT_FAIL(WEFT_EINPUT, "%s: unknown %s '%s' (weft data recipe lists all)", where, what, word);
}

static weft_status set_in(const weft_recipe_field *fields, int count, void *base, const char *key,
                          const char *value, const char *where) {
    const char *names[64];
    for (int i = 0; i < count; i++) {
        names[i] = fields[i].key;
        if (strcmp(fields[i].key, key) == 0) return weft_recipe_field_set(&fields[i], base, value, where);
    }
    return unknown(where, "key", key, names, count);
}

static weft_status set_source(weft_recipe *r, const char *rest, const char *value, const char *where) {
    weft_recipe_source *s = NULL;
    size_t n = strcspn(rest, ".");
    if (!weft_domain_name_ok(rest, n))
        WEFT_FAIL(WEFT_EINPUT, "%s: '%s' is no name for a source: 1 to 63 letters, digits, '_', '.' or '-'",
                  where, rest);
    WEFT_TRY(new_source(r, rest, n, &s));
    if (!rest[n]) {
        if (value)
            WEFT_FAIL(WEFT_EINPUT, "%s: source '%s' must have keys below it: path, domain, ...", where, rest);
        return WEFT_OK;
    }
    if (!value) WEFT_FAIL(WEFT_EINPUT, "%s: sources.%s is not a value", where, rest);
    return set_in(weft_recipe_source_fields, weft_recipe_source_field_count, s, rest + n + 1, value, where);
}

static weft_status new_filter(weft_recipe *r, const char *name, const char *where, weft_recipe_filter **out) {
    const char *names[64];
    for (int i = 0; i < r->filter_count; i++)
        if (strcmp(r->filters[i].kind->name, name) == 0) {
            *out = &r->filters[i];
            return WEFT_OK;
        }
    for (int i = 0; i < weft_filter_kind_count; i++) {
        const weft_filter_kind *k = weft_filter_kinds[i];
        names[i] = k->name;
        if (strcmp(k->name, name) != 0) continue;
        weft_recipe_filter *f = &r->filters[r->filter_count];
        if (r->filter_count == WEFT_RECIPE_MAX_FILTERS) WEFT_FAIL(WEFT_EINPUT, "%s: too many filters", where);
        *f = (weft_recipe_filter){.kind = k};
        for (int rule = 0; rule < k->rule_count; rule++) f->bounds[rule] = k->rules[rule].bound;
        r->filter_count++;
        *out = f;
        return weft_recipe_text_set(&f->domains, "");
    }
    return unknown(where, "filter", name, names, weft_filter_kind_count);
}

static weft_status set_rule(weft_recipe_filter *f, int rule, const char *value, const char *where) {
    const weft_rule *k = &f->kind->rules[rule];
    double bound;
    if (strcmp(value, "off") == 0) {
        f->bounds[rule] = NAN;
        return WEFT_OK;
    }
    if (k->kind == WEFT_RULE_FLAG) {
        if (strcmp(value, "on") != 0)
            WEFT_FAIL(WEFT_EINPUT, "%s: %s is '%s'; it must be on or off", where, k->name, value);
        f->bounds[rule] = k->bound;
        return WEFT_OK;
    }
    if (!weft_recipe_number(value, &bound))
        WEFT_FAIL(WEFT_EINPUT, "%s: %s is '%s'; it must be a number, or off", where, k->name, value);
    f->bounds[rule] = bound;
    return WEFT_OK;
}

static weft_status set_filter(weft_recipe *r, const char *rest, const char *value, const char *where) {
    weft_recipe_filter *f = NULL;
    char name[WEFT_RECIPE_NAME];
    const char *names[2 * WEFT_FILTER_MAX_RULES + 2] = {"tag", "domains"};
    int count = 2;
    size_t n = strcspn(rest, ".");
    snprintf(name, sizeof name, "%.*s", (int)n, rest);
    WEFT_TRY(new_filter(r, name, where, &f));
    if (!rest[n] && !value) return WEFT_OK;
    if (!rest[n] || !value)
        WEFT_FAIL(WEFT_EINPUT, "%s: filters.%s takes keys below it, or {} for the defaults", where, rest);
    const char *key = rest + n + 1;
    if (strcmp(key, "tag") == 0) {
        const weft_recipe_field tag = {"tag", FIELD_BOOL, offsetof(weft_recipe_filter, tag), "", 0, 0,
                                       NULL,  ""};
        return weft_recipe_field_set(&tag, f, value, where);
    }
    if (strcmp(key, "domains") == 0) return weft_recipe_text_set(&f->domains, value);
    for (int i = 0; i < f->kind->rule_count; i++) {
        names[count++] = f->kind->rules[i].name;
        if (strcmp(f->kind->rules[i].name, key) == 0) return set_rule(f, i, value, where);
    }
    for (int i = 0; i < f->kind->option_count; i++) {
        names[count++] = f->kind->options[i];
        if (strcmp(f->kind->options[i], key) == 0) return weft_recipe_text_set(&f->options[i], value);
    }
    return unknown(where, "rule or option", key, names, count);
}

/* A key that opens a mapping has value NULL. */
static weft_status set_key(weft_recipe *r, const char *key, const char *value, const char *where) {
    const char *names[64];
    int count = 0;
    if (strncmp(key, "sources.", 8) == 0) return set_source(r, key + 8, value, where);
    if (strncmp(key, "filters.", 8) == 0) return set_filter(r, key + 8, value, where);
    if (strcmp(key, "sources") == 0 || strcmp(key, "filters") == 0) {
        if (value) WEFT_FAIL(WEFT_EINPUT, "%s: '%s' takes names below it", where, key);
        return WEFT_OK;
    }
    for (int i = 0; i < weft_recipe_sections[0].count; i++) {
        names[count++] = weft_recipe_sections[0].fields[i].key;
        if (strcmp(weft_recipe_sections[0].fields[i].key, key) != 0) continue;
        if (!value) WEFT_FAIL(WEFT_EINPUT, "%s: '%s' takes a value", where, key);
        return weft_recipe_field_set(&weft_recipe_sections[0].fields[i], r, value, where);
    }
    for (int i = 1; i < weft_recipe_section_count; i++) {
        const weft_recipe_section *s = &weft_recipe_sections[i];
        size_t n = strlen(s->name);
        names[count++] = s->name;
        if (strncmp(key, s->name, n) != 0 || (key[n] && key[n] != '.')) continue;
        bool *present = (bool *)((char *)r + s->present);
        *present = true;
        if (!key[n] && value && strcmp(value, "off") == 0) {
            *present = false;
            return WEFT_OK;
        }
        if (!key[n] && !value) return WEFT_OK;
        if (!key[n] || !value)
            WEFT_FAIL(WEFT_EINPUT, "%s: '%s' takes keys below it, or {} for the defaults", where, key);
        return set_in(s->fields, s->count, r, key + n + 1, value, where);
    }
    names[count++] = "sources";
    names[count++] = "filters";
    char first[WEFT_RECIPE_NAME];
    snprintf(first, sizeof first, "%.*s", (int)strcspn(key, "."), key);
    return unknown(where, "step or key", first, names, count);
}

/* ---- reading ---- */
weft_status weft_recipe_read(weft_recipe *r, const char *path) {
    char *text = NULL, where[WEFT_PATH_SIZE + 32];
    size_t bytes;
    weft_yaml yaml = {0};
    WEFT_TRY(weft_fs_read_file(path, (size_t)16 << 20, &text, &bytes));
    weft_status st = weft_yaml_parse(&yaml, text, bytes, path);
    for (int i = 0; st == WEFT_OK && i < yaml.count; i++) {
        const weft_yaml_entry *e = &yaml.entries[i];
        snprintf(where, sizeof where, "%s:%zu", path, e->line);
        st = set_key(r, e->key, e->value, where);
    }
    weft_yaml_free(&yaml);
    free(text);
    return st;
}

weft_status weft_recipe_set(weft_recipe *r, const char *assignment) {
    const char *equals = strchr(assignment, '=');
    if (!equals) WEFT_FAIL(WEFT_EINPUT, "'%s' is not KEY=VALUE", assignment);
    char *key = strndup(assignment, (size_t)(equals - assignment));
    if (!key) WEFT_FAIL(WEFT_ENOMEM, "no memory for a recipe");
    const char *value = strcmp(equals + 1, "{}") == 0 ? NULL : equals + 1;
    weft_status st = set_key(r, key, value, "command line");
    free(key);
    return st;
}

/* ---- checking ---- */
static weft_status check_domain(const weft_recipe_source *s, const char *domain) {
    if (*domain && !weft_domain_name_ok(domain, strlen(domain)))
        WEFT_FAIL(WEFT_EINPUT,
                  "source '%s': '%s' is no name for a domain: 1 to 63 letters, digits, '_', '.' or '-'",
                  s->name, domain);
    return WEFT_OK;
}

static weft_status check_source(weft_recipe_source *s) {
    if (!*s->path) WEFT_FAIL(WEFT_EINPUT, "source '%s' has no path", s->name);
    WEFT_TRY(check_domain(s, s->domain));
    WEFT_TRY(check_domain(s, s->otherwise));
    s->options = (weft_source_options){.format = (weft_format_kind)s->format,
                                       .text_field = s->text_field,
                                       .url_field = s->url_field,
                                       .max_document = (size_t)s->max_document_mib << 20,
                                       .oversize = (weft_on_bad)s->oversize,
                                       .invalid_utf8 = (weft_on_bad)s->invalid_utf8,
                                       .nul_bytes = (weft_on_bad)s->nul_bytes,
                                       .damaged_files = (weft_on_bad)s->damaged_files};
    return WEFT_OK;
}

weft_status weft_recipe_check_sources(weft_recipe *r) {
    if (r->source_count == 0) WEFT_FAIL(WEFT_EINPUT, "the recipe has no sources");
    for (int i = 0; i < r->source_count; i++) WEFT_TRY(check_source(&r->sources[i]));
    return WEFT_OK;
}

weft_status weft_recipe_check(weft_recipe *r) {
    WEFT_TRY(weft_recipe_check_sources(r));
    if (!*r->tokenizer) WEFT_FAIL(WEFT_EINPUT, "no tokenizer is named (weft tokenizer train makes one)");
    if (!*r->out) WEFT_FAIL(WEFT_EINPUT, "no directory to make is named (out: DIR, or -o DIR)");
    if (r->heldout >= 1)
        WEFT_FAIL(WEFT_EINPUT, "the held-out share is %g; it must be at least 0 and below 1", r->heldout);
    bool tags = false, best = (r->has_exact && r->exact_keep == WEFT_KEEP_BEST) ||
                              (r->has_near && r->near_keep == WEFT_KEEP_BEST);
    for (int i = 0; i < r->filter_count; i++) tags = tags || r->filters[i].tag;
    if (best && !tags)
        WEFT_FAIL(WEFT_EINPUT,
                  "keep: best is the document that the fewest filters tag, but no filter has tag: true");
    if (r->has_decontaminate && !*r->decontaminate_files)
        WEFT_FAIL(WEFT_EINPUT, "decontaminate.files is missing: the evaluation texts to look for");
    if (r->near_bands * r->near_rows > 4096)
        WEFT_FAIL(WEFT_EINPUT, "near: %lld bands of %lld rows are more than 4096 hashes",
                  (long long)r->near_bands, (long long)r->near_rows);
    return WEFT_OK;
}
