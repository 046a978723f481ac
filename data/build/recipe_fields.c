#include "data/build/recipe_fields.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define AT(member) offsetof(weft_recipe, member)
#define SOURCE_AT(member) offsetof(weft_recipe_source, member)
#define COUNT(array) ((int)(sizeof(array) / sizeof *(array)))
#define BAD "error|skip|repair"
#define BAD_FILE "error|skip"

static const weft_recipe_field top_fields[] = {
    {"tokenizer", FIELD_TEXT, AT(tokenizer), "", 0, 0, NULL,
     "tokenizer.model, or a directory that holds one"},
    {"out", FIELD_TEXT, AT(out), "", 0, 0, NULL, "directory to make; it must not exist"},
    {"heldout", FIELD_REAL, AT(heldout), "0.01", 0, 1, NULL,
     "share of the documents held out, chosen by a hash of the text"},
    {"max_errors", FIELD_INT, AT(max_errors), "100", 0, 1e15, NULL,
     "malformed jsonl lines, over all files, that are skipped; one more is an error"},
    {"shard_tokens", FIELD_INT, AT(shard_tokens), "268435456", 1, 1e12, NULL,
     "a shard has up to about this many"},
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

const weft_recipe_field weft_recipe_source_fields[] = {
    {"path", FIELD_TEXT, SOURCE_AT(path), "", 0, 0, NULL, "file, directory or pattern (required)"},
    {"format", FIELD_CHOICE, SOURCE_AT(format), "auto", 0, 0, "auto|txt|jsonl|warc|wet|code|synthetic",
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

static const weft_recipe_field normalise_fields[] = {
    {"nfc", FIELD_BOOL, AT(normalise.nfc), "true", 0, 0, NULL, "Unicode NFC"},
    {"newlines", FIELD_BOOL, AT(normalise.newlines), "true", 0, 0, NULL, "CR LF and CR become LF"},
    {"controls", FIELD_BOOL, AT(normalise.controls), "true", 0, 0, NULL, "control characters are taken out"},
    {"trim", FIELD_BOOL, AT(normalise.trim), "true", 0, 0, NULL,
     "white space at the ends of lines, and more than one empty line"},
};
static const weft_recipe_field exact_fields[] = {
    {"keep", FIELD_CHOICE, AT(exact_keep), "first", 0, 0, "first|longest|best",
     "which copy stays; best: the one that the fewest filters tag"},
};
static const weft_recipe_field lines_fields[] = {
    {"paragraphs", FIELD_BOOL, AT(lines_paragraphs), "false", 0, 0, NULL, "paragraphs instead of lines"},
    {"min_characters", FIELD_INT, AT(lines_min_characters), "40", 1, 1e9, NULL, "shorter ones may repeat"},
    {"copies", FIELD_INT, AT(lines_copies), "2", 2, 1e9, NULL,
     "occurrences from which on a line counts as repeated"},
};
static const weft_recipe_field near_fields[] = {
    {"bands", FIELD_INT, AT(near_bands), "14", 1, 1024, NULL, "of the signature"},
    {"rows", FIELD_INT, AT(near_rows), "8", 1, 1024, NULL, "hashes of a band"},
    {"shingle", FIELD_INT, AT(near_shingle), "5", 1, 64, NULL, "words of a shingle"},
    {"threshold", FIELD_REAL, AT(near_threshold), "0.75", 0.01, 1, NULL,
     "Jaccard similarity of the shingles, verified exactly, from which on a document may go"},
    {"keep", FIELD_CHOICE, AT(near_keep), "first", 0, 0, "first|longest|best",
     "which document of a cluster stays"},
    {"seed", FIELD_INT, AT(near_seed), "1", 0, 4294967295.0, NULL, "of the hashes"},
};
static const weft_recipe_field substring_fields[] = {
    {"length", FIELD_INT, AT(substring_length), "50", 4, 1e6, NULL, "tokens"},
    {"cut", FIELD_BOOL, AT(substring_cut), "false", 0, 0, NULL,
     "take repeated text out; false: keep it, but do not train on it"},
};
static const weft_recipe_field decontaminate_fields[] = {
    {"files", FIELD_TEXT, AT(decontaminate_files), "", 0, 0, NULL,
     "evaluation texts, jsonl or txt, separated by commas (required)"},
    {"ngram", FIELD_INT, AT(decontaminate_ngram), "13", 1, 1000, NULL, "words of an n-gram"},
    {"shortest", FIELD_INT, AT(decontaminate_shortest), "8", 1, 1000, NULL,
     "a shorter evaluation text of at least this many words is matched as a whole"},
    {"max_matches", FIELD_INT, AT(decontaminate_max_matches), "0", 0, 1e15, NULL,
     "a document with more places that match goes"},
};
static const weft_recipe_field scrub_fields[] = {
    {"kinds", FIELD_TEXT, AT(scrub_kinds), "email,ip", 0, 0, NULL, "email, ip, phone"},
};

const weft_recipe_section weft_recipe_sections[] = {
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
const int weft_recipe_source_field_count = COUNT(weft_recipe_source_fields);
const int weft_recipe_section_count = COUNT(weft_recipe_sections);

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

const char *weft_recipe_choice(const char *choices, int64_t number, int *length) {
    const char *p = choices;
    while (number-- > 0) p += strcspn(p, "|") + 1;
    *length = (int)strcspn(p, "|");
    return p;
}

weft_status weft_recipe_text_set(char **at, const char *value) {
    char *copy = strdup(value);
    if (!copy) WEFT_FAIL(WEFT_ENOMEM, "no memory for a recipe");
    free(*at);
    *at = copy;
    return WEFT_OK;
}

bool weft_recipe_number(const char *text, double *out) {
    char *end;
    errno = 0;
    *out = strtod(text, &end);
    return *text && !*end && errno == 0 && isfinite(*out);
}

weft_status weft_recipe_field_set(const weft_recipe_field *f, void *base, const char *value,
                                  const char *where) {
    void *at = (char *)base + f->offset;
    double number;
    int choice;
    switch (f->type) {
    case FIELD_TEXT:
        return weft_recipe_text_set(at, value);
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
        if (!weft_recipe_number(value, &number) || number < f->low || number > f->high)
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

weft_status weft_recipe_fields_preset(const weft_recipe_field *fields, int count, void *base) {
    for (int i = 0; i < count; i++)
        WEFT_TRY(weft_recipe_field_set(&fields[i], base, fields[i].preset, "default"));
    return WEFT_OK;
}

void weft_recipe_fields_free(const weft_recipe_field *fields, int count, void *base) {
    for (int i = 0; i < count; i++)
        if (fields[i].type == FIELD_TEXT) free(*(char **)((char *)base + fields[i].offset));
}
