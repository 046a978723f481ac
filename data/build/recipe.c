#include "data/build/recipe.h"
#include "runtime/fs.h"
#include "runtime/text.h"
#include "runtime/yaml.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- the keys ---- */
typedef enum field_type { FIELD_TEXT, FIELD_INT, FIELD_REAL, FIELD_BOOL, FIELD_CHOICE } field_type;

typedef struct field {
    const char *key;
    field_type type;
    size_t offset;
    const char *preset;
    double low, high;    /* of numbers */
    const char *choices; /* "first|longest|best": the value is the choice's number */
    const char *doc;
} field;

typedef struct section {
    const char *name; /* "" : keys of the recipe itself */
    size_t present;   /* offset of its bool; 0: always there */
    const char *doc;
    const field *fields;
    int count;
} section;

#define AT(member) offsetof(weft_recipe, member)
#define SOURCE_AT(member) offsetof(weft_recipe_source, member)
#define COUNT(array) ((int)(sizeof(array) / sizeof *(array)))
#define BAD "error|skip|repair"
#define BAD_FILE "error|skip"

static const field top_fields[] = {
    {"tokenizer", FIELD_TEXT, AT(tokenizer), "", 0, 0, NULL,
     "tokenizer.model, or a directory that holds one"},
    {"out", FIELD_TEXT, AT(out), "", 0, 0, NULL, "directory to make; it must not exist"},
    {"heldout", FIELD_REAL, AT(heldout), "0.01", 0, 1, NULL,
     "share of the documents held out, chosen by a hash of the text"},
    {"max_errors", FIELD_INT, AT(max_errors), "100", 0, 1e15, NULL,
     "malformed jsonl lines, over all files, that are skipped; one more is an error"},
    {"shard_tokens", FIELD_INT, AT(shard_tokens), "268435456", 1, 1e12, NULL,
     "a shard ends with the document that reaches this"},
    {"shuffle", FIELD_BOOL, AT(shuffle), "true", 0, 0, NULL,
     "documents of a domain in an order drawn by the seed; false: in the order of the input"},
    {"seed", FIELD_INT, AT(seed), "0", 0, 9e15, NULL, "of that order"},
    {"unit_kib", FIELD_INT, AT(unit_kib), "32768", 1, 1 << 20, NULL,
     "text of one piece of work: what a killed build may have to do again"},
    {"memory_mib", FIELD_INT, AT(memory_mib), "1024", 8, 1e7, NULL,
     "of a rank, to sort, cache and search; shared by its threads"},
    {"keep_work", FIELD_BOOL, AT(keep_work), "false", 0, 0, NULL,
     "keep OUT.work, the steps' files, when all is done"},
};

static const field source_fields[] = {
    {"path", FIELD_TEXT, SOURCE_AT(path), "", 0, 0, NULL, "file, directory or pattern (required)"},
    {"format", FIELD_CHOICE, SOURCE_AT(format), "auto", 0, 0, "auto|txt|jsonl|warc|wet|code",
     "auto: by the name's ending; code: every text file is a document"},
    {"domain", FIELD_TEXT, SOURCE_AT(domain), "", 0, 0, NULL, "of all its documents; \"\": what each names"},
    {"otherwise", FIELD_TEXT, SOURCE_AT(otherwise), "", 0, 0, NULL,
     "domain of documents that name none; \"\": the source's name"},
    {"text_field", FIELD_TEXT, SOURCE_AT(text_field), "text", 0, 0, NULL, "member of a jsonl object"},
    {"url_field", FIELD_TEXT, SOURCE_AT(url_field), "url", 0, 0, NULL, "member of a jsonl object"},
    {"max_document_mib", FIELD_INT, SOURCE_AT(max_document_mib), "1024", 1, 1024, NULL,
     "of a document or jsonl line"},
    {"oversize", FIELD_CHOICE, SOURCE_AT(oversize), "error", 0, 0, BAD_FILE, "a longer document"},
    {"invalid_utf8", FIELD_CHOICE, SOURCE_AT(invalid_utf8), "error", 0, 0, BAD,
     "repair: U+FFFD takes its place"},
    {"nul_bytes", FIELD_CHOICE, SOURCE_AT(nul_bytes), "error", 0, 0, BAD, "repair: they are taken out"},
    {"damaged_files", FIELD_CHOICE, SOURCE_AT(damaged_files), "error", 0, 0, BAD_FILE,
     "truncated or damaged packing, read errors; skip: what comes before is kept"},
};

static const field normalise_fields[] = {
    {"nfc", FIELD_BOOL, AT(normalise.nfc), "true", 0, 0, NULL, "Unicode NFC"},
    {"newlines", FIELD_BOOL, AT(normalise.newlines), "true", 0, 0, NULL, "CR LF and CR become LF"},
    {"controls", FIELD_BOOL, AT(normalise.controls), "true", 0, 0, NULL, "control characters are taken out"},
    {"trim", FIELD_BOOL, AT(normalise.trim), "true", 0, 0, NULL,
     "white space at the ends of lines, and more than one empty line"},
};
static const field exact_fields[] = {
    {"keep", FIELD_CHOICE, AT(exact_keep), "first", 0, 0, "first|longest|best",
     "which copy stays; best: the one that the fewest filters tag"},
};
static const field lines_fields[] = {
    {"paragraphs", FIELD_BOOL, AT(lines_paragraphs), "false", 0, 0, NULL, "paragraphs instead of lines"},
    {"min_characters", FIELD_INT, AT(lines_min_characters), "40", 1, 1e9, NULL, "shorter ones may repeat"},
    {"copies", FIELD_INT, AT(lines_copies), "2", 2, 1e9, NULL,
     "occurrences from which on a line counts as repeated"},
};
static const field near_fields[] = {
    {"bands", FIELD_INT, AT(near_bands), "14", 1, 1024, NULL, "of the signature"},
    {"rows", FIELD_INT, AT(near_rows), "8", 1, 1024, NULL, "hashes of a band"},
    {"shingle", FIELD_INT, AT(near_shingle), "5", 1, 64, NULL, "words of a shingle"},
    {"threshold", FIELD_REAL, AT(near_threshold), "0.75", 0.01, 1, NULL,
     "Jaccard similarity of the shingles, verified exactly, from which on a document may go"},
    {"keep", FIELD_CHOICE, AT(near_keep), "first", 0, 0, "first|longest|best",
     "which document of a cluster stays"},
    {"seed", FIELD_INT, AT(near_seed), "1", 0, 4294967295.0, NULL, "of the hashes"},
};
static const field substring_fields[] = {
    {"length", FIELD_INT, AT(substring_length), "50", 4, 1e6, NULL, "tokens"},
    {"cut", FIELD_BOOL, AT(substring_cut), "false", 0, 0, NULL,
     "take repeated text out; false: keep it, but do not train on it"},
};
static const field decontaminate_fields[] = {
    {"files", FIELD_TEXT, AT(decontaminate_files), "", 0, 0, NULL,
     "evaluation texts, jsonl or txt, separated by commas (required)"},
    {"ngram", FIELD_INT, AT(decontaminate_ngram), "13", 1, 1000, NULL, "words of an n-gram"},
    {"shortest", FIELD_INT, AT(decontaminate_shortest), "8", 1, 1000, NULL,
     "a shorter evaluation text of at least this many words is matched as a whole"},
    {"max_matches", FIELD_INT, AT(decontaminate_max_matches), "0", 0, 1e15, NULL,
     "a document with more places that match goes"},
};
static const field scrub_fields[] = {
    {"kinds", FIELD_TEXT, AT(scrub_kinds), "email,ip", 0, 0, NULL, "email, ip, phone"},
};

static const section sections[] = {
    {"", 0, "", top_fields, COUNT(top_fields)},
    {"normalise", AT(has_normalise), "every document's text", normalise_fields, COUNT(normalise_fields)},
    {"exact", AT(has_exact), "documents that are the same but for case and white space", exact_fields,
     COUNT(exact_fields)},
    {"lines", AT(has_lines), "lines or paragraphs that occur before", lines_fields, COUNT(lines_fields)},
    {"near", AT(has_near), "near duplicates: MinHash-LSH candidates, each verified", near_fields,
     COUNT(near_fields)},
    {"substring", AT(has_substring), "passages that occur before, token for token", substring_fields,
     COUNT(substring_fields)},
    {"decontaminate", AT(has_decontaminate), "documents that hold evaluation texts", decontaminate_fields,
     COUNT(decontaminate_fields)},
    {"scrub", AT(has_scrub), "personal data", scrub_fields, COUNT(scrub_fields)},
};

/* ---- values ---- */
/* Length of the choice at `p`; its number is how many come before. */
static int choice_number(const char *choices, const char *value) {
    size_t n = strlen(value);
    int number = 0;
    for (const char *p = choices; *p; number++) {
        size_t length = strcspn(p, "|");
        if (length == n && strncmp(p, value, n) == 0) return number;
        p += length + (p[length] == '|');
    }
    return -1;
}

static const char *choice_text(const char *choices, int64_t number, int *length) {
    const char *p = choices;
    while (number-- > 0) p += strcspn(p, "|") + 1;
    *length = (int)strcspn(p, "|");
    return p;
}

static weft_status set_text(char **at, const char *value) {
    char *copy = strdup(value);
    if (!copy) WEFT_FAIL(WEFT_ENOMEM, "no memory for a recipe");
    free(*at);
    *at = copy;
    return WEFT_OK;
}

static bool parse_number(const char *text, double *out) {
    char *end;
    errno = 0;
    *out = strtod(text, &end);
    return *text && !*end && errno == 0 && isfinite(*out);
}

static weft_status set_field(const field *f, void *base, const char *value, const char *where) {
    void *at = (char *)base + f->offset;
    double number;
    int choice;
    switch (f->type) {
    case FIELD_TEXT:
        return set_text(at, value);
    case FIELD_BOOL:
        if (strcmp(value, "true") != 0 && strcmp(value, "false") != 0)
            WEFT_FAIL(WEFT_EINPUT, "%s: %s is '%s'; it must be true or false", where, f->key, value);
        *(bool *)at = value[0] == 't';
        return WEFT_OK;
    case FIELD_CHOICE:
        if ((choice = choice_number(f->choices, value)) < 0)
            WEFT_FAIL(WEFT_EINPUT, "%s: %s is '%s'; it must be one of %s", where, f->key, value, f->choices);
        *(int64_t *)at = choice;
        return WEFT_OK;
    default:
        if (!parse_number(value, &number) || number < f->low || number > f->high)
            WEFT_FAIL(WEFT_EINPUT, "%s: %s is '%s'; it must be a number from %.9g to %.9g", where, f->key,
                      value, f->low, f->high);
        if (f->type == FIELD_REAL) {
            *(double *)at = number;
            return WEFT_OK;
        }
        if (number != floor(number))
            WEFT_FAIL(WEFT_EINPUT, "%s: %s is '%s'; it must be whole", where, f->key, value);
        *(int64_t *)at = (int64_t)number;
        return WEFT_OK;
    }
}

static weft_status preset(const field *fields, int count, void *base) {
    for (int i = 0; i < count; i++) WEFT_TRY(set_field(&fields[i], base, fields[i].preset, "default"));
    return WEFT_OK;
}

static void free_texts(const field *fields, int count, void *base) {
    for (int i = 0; i < count; i++)
        if (fields[i].type == FIELD_TEXT) free(*(char **)((char *)base + fields[i].offset));
}

/* ---- making and freeing ---- */
weft_status weft_recipe_init(weft_recipe *r) {
    memset(r, 0, sizeof *r);
    for (int i = 0; i < COUNT(sections); i++) {
        /* Numbers out of their range ("") are texts only. */
        WEFT_TRY(preset(sections[i].fields, sections[i].count, r));
    }
    return WEFT_OK;
}

void weft_recipe_free(weft_recipe *r) {
    for (int i = 0; i < COUNT(sections); i++) free_texts(sections[i].fields, sections[i].count, r);
    for (int i = 0; i < r->source_count; i++) free_texts(source_fields, COUNT(source_fields), &r->sources[i]);
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
    return preset(source_fields, COUNT(source_fields), s);
}

weft_status weft_recipe_add_source(weft_recipe *r, const char *name, const char *path, const char *domain,
                                   const char *otherwise) {
    weft_recipe_source *s = NULL;
    WEFT_TRY(new_source(r, name, strlen(name), &s));
    WEFT_TRY(set_text(&s->path, path));
    WEFT_TRY(set_text(&s->domain, domain));
    return set_text(&s->otherwise, otherwise);
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

static weft_status set_in(const field *fields, int count, void *base, const char *key, const char *value,
                          const char *where) {
    const char *names[64];
    for (int i = 0; i < count; i++) {
        names[i] = fields[i].key;
        if (strcmp(fields[i].key, key) == 0) return set_field(&fields[i], base, value, where);
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
    return set_in(source_fields, COUNT(source_fields), s, rest + n + 1, value, where);
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
        return set_text(&f->domains, "");
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
    if (!parse_number(value, &bound))
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
        const field tag = {"tag", FIELD_BOOL, offsetof(weft_recipe_filter, tag), "", 0, 0, NULL, ""};
        return set_field(&tag, f, value, where);
    }
    if (strcmp(key, "domains") == 0) return set_text(&f->domains, value);
    for (int i = 0; i < f->kind->rule_count; i++) {
        names[count++] = f->kind->rules[i].name;
        if (strcmp(f->kind->rules[i].name, key) == 0) return set_rule(f, i, value, where);
    }
    for (int i = 0; i < f->kind->option_count; i++) {
        names[count++] = f->kind->options[i];
        if (strcmp(f->kind->options[i], key) == 0) return set_text(&f->options[i], value);
    }
    return unknown(where, "rule or option", key, names, count);
}

/* A key that opens a mapping has value NULL. */
static weft_status set_key(weft_recipe *r, const char *key, const char *value, const char *where) {
    const char *names[COUNT(sections) + COUNT(top_fields) + 2];
    int count = 0;
    if (strncmp(key, "sources.", 8) == 0) return set_source(r, key + 8, value, where);
    if (strncmp(key, "filters.", 8) == 0) return set_filter(r, key + 8, value, where);
    if (strcmp(key, "sources") == 0 || strcmp(key, "filters") == 0) {
        if (value) WEFT_FAIL(WEFT_EINPUT, "%s: '%s' takes names below it", where, key);
        return WEFT_OK;
    }
    for (int i = 0; i < COUNT(top_fields); i++) {
        names[count++] = top_fields[i].key;
        if (strcmp(top_fields[i].key, key) != 0) continue;
        if (!value) WEFT_FAIL(WEFT_EINPUT, "%s: '%s' takes a value", where, key);
        return set_field(&top_fields[i], r, value, where);
    }
    for (int i = 1; i < COUNT(sections); i++) {
        const section *s = &sections[i];
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

/* ---- printing ---- */
static void print_text(const char *value, FILE *out) {
    putc('"', out);
    for (const unsigned char *p = (const unsigned char *)value; *p; p++) {
        if (*p == '"' || *p == '\\')
            fprintf(out, "\\%c", *p);
        else if (*p < 0x20)
            fprintf(out, "\\x%02x", *p);
        else
            putc(*p, out);
    }
    putc('"', out);
}

static void print_field(const field *f, const void *base, FILE *out) {
    const void *at = (const char *)base + f->offset;
    int length;
    const char *choice;
    switch (f->type) {
    case FIELD_TEXT:
        print_text(*(char *const *)at, out);
        break;
    case FIELD_INT:
        fprintf(out, "%lld", (long long)*(const int64_t *)at);
        break;
    case FIELD_REAL:
        fprintf(out, "%.17g", *(const double *)at);
        break;
    case FIELD_BOOL:
        fputs(*(const bool *)at ? "true" : "false", out);
        break;
    case FIELD_CHOICE:
        choice = choice_text(f->choices, *(const int64_t *)at, &length);
        fprintf(out, "%.*s", length, choice);
        break;
    }
}

static void print_fields(const field *fields, int count, const void *base, const char *indent, FILE *out) {
    for (int i = 0; i < count; i++) {
        fprintf(out, "%s%s: ", indent, fields[i].key);
        print_field(&fields[i], base, out);
        putc('\n', out);
    }
}

static void print_filter(const weft_recipe_filter *f, FILE *out) {
    fprintf(out, "  %s:\n    tag: %s\n    domains: ", f->kind->name, f->tag ? "true" : "false");
    print_text(f->domains, out);
    putc('\n', out);
    for (int i = 0; i < f->kind->rule_count; i++) {
        const weft_rule *rule = &f->kind->rules[i];
        if (isnan(f->bounds[i]))
            fprintf(out, "    %s: off\n", rule->name);
        else if (rule->kind == WEFT_RULE_FLAG)
            fprintf(out, "    %s: on\n", rule->name);
        else
            fprintf(out, "    %s: %.17g\n", rule->name, f->bounds[i]);
    }
    for (int i = 0; i < f->kind->option_count; i++)
        if (f->options[i]) {
            fprintf(out, "    %s: ", f->kind->options[i]);
            print_text(f->options[i], out);
            putc('\n', out);
        }
}

weft_status weft_recipe_print(const weft_recipe *r, FILE *out) {
    print_fields(top_fields, COUNT(top_fields), r, "", out);
    fprintf(out, "sources:\n");
    for (int i = 0; i < r->source_count; i++) {
        fprintf(out, "  %s:\n", r->sources[i].name);
        print_fields(source_fields, COUNT(source_fields), &r->sources[i], "    ", out);
    }
    if (r->filter_count > 0) fprintf(out, "filters:\n");
    for (int i = 0; i < r->filter_count; i++) print_filter(&r->filters[i], out);
    for (int i = 1; i < COUNT(sections); i++) {
        if (!*(const bool *)((const char *)r + sections[i].present)) continue;
        fprintf(out, "%s:\n", sections[i].name);
        print_fields(sections[i].fields, sections[i].count, r, "  ", out);
    }
    if (ferror(out)) WEFT_FAIL(WEFT_EIO, "the recipe cannot be written");
    return WEFT_OK;
}

static void explain_fields(const field *fields, int count, FILE *out) {
    for (int i = 0; i < count; i++) {
        const char *value = *fields[i].preset ? fields[i].preset : "\"\"";
        fprintf(out, "  %-18s %-14s %s%s%s%s\n", fields[i].key, value, fields[i].doc,
                fields[i].choices ? " (" : "", fields[i].choices ? fields[i].choices : "",
                fields[i].choices ? ")" : "");
    }
}

weft_status weft_recipe_explain(FILE *out) {
    fprintf(out, "of the recipe itself\n");
    explain_fields(top_fields, COUNT(top_fields), out);
    fprintf(out, "\nsources.NAME: where documents come from\n");
    explain_fields(source_fields, COUNT(source_fields), out);
    fprintf(out,
            "\nfilters.KIND: in the recipe's order; tag: true notes the verdict and keeps the document;\n"
            "domains: only these; a rule's value is its bound, or off\n");
    for (int i = 0; i < weft_filter_kind_count; i++) {
        const weft_filter_kind *k = weft_filter_kinds[i];
        fprintf(out, "\n  filters.%s: %s\n", k->name, k->summary);
        for (int j = 0; j < k->option_count; j++) fprintf(out, "    %s\n", k->options[j]);
        for (int j = 0; j < k->rule_count; j++) {
            const weft_rule *rule = &k->rules[j];
            if (rule->kind == WEFT_RULE_FLAG)
                fprintf(out, "    %-28s on          %s (%s)\n", rule->name, rule->meaning, rule->source);
            else
                fprintf(out, "    %-28s %s %-8.4g %s (%s)\n", rule->name,
                        rule->kind == WEFT_RULE_MIN ? ">=" : "<=", rule->bound, rule->meaning, rule->source);
        }
    }
    for (int i = 1; i < COUNT(sections); i++) {
        fprintf(out, "\n%s: %s\n", sections[i].name, sections[i].doc);
        explain_fields(sections[i].fields, sections[i].count, out);
    }
    if (ferror(out)) WEFT_FAIL(WEFT_EIO, "the keys cannot be written");
    return WEFT_OK;
}
