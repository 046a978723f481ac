/* A recipe: what `weft data build` makes of which files, step by step. YAML of nested mappings
 * (runtime/yaml.h); a step that is not there is not taken. Unknown steps, filters, rules and keys are errors
 * with file:line and the nearest known name. `weft data recipe` prints every key from the tables that parse
 * them. */
#ifndef WEFT_RECIPE_H
#define WEFT_RECIPE_H

#include "data/dedup/exact.h"
#include "data/dedup/near.h"
#include "data/filter/filter.h"
#include "data/source/source.h"
#include "data/text/normalise.h"

#include <stdio.h>

#define WEFT_RECIPE_MAX_FILTERS 32
#define WEFT_RECIPE_NAME 64
#define WEFT_RECIPE_MEMORY_MIB 1024 /* the default of memory_mib */

typedef struct weft_recipe_source {
    char name[WEFT_RECIPE_NAME];
    char *path;      /* file, directory or pattern */
    char *domain;    /* of all its documents; "": what each names, or else... */
    char *otherwise; /* ...this; "": the source's name */
    char *text_field, *url_field;
    int64_t format, invalid_utf8, nul_bytes, oversize, damaged_files; /* as weft_source_options has them */
    int64_t max_document_mib;
    weft_source_options options; /* made of the above */
} weft_recipe_source;

typedef struct weft_recipe_filter {
    const weft_filter_kind *kind;
    bool tag;      /* note its verdict, keep the document */
    char *domains; /* names separated by commas: only theirs; "": all */
    double bounds[WEFT_FILTER_MAX_RULES];
    char *options[WEFT_FILTER_MAX_RULES]; /* by the kind's options; NULL: not given */
} weft_recipe_filter;

typedef struct weft_recipe {
    char *tokenizer;
    char *out;
    double heldout;       /* share of the documents, by a hash of their text */
    int64_t max_errors;   /* malformed lines over all files */
    int64_t shard_tokens; /* a shard ends with the document that reaches it */
    bool shuffle;         /* documents within a domain; false: in the order of the input */
    int64_t seed;
    int64_t unit_kib;   /* text of a piece of work */
    int64_t memory_mib; /* of a rank: to sort, cache and search, over its threads */
    bool keep_work;

    weft_recipe_source *sources;
    int source_count;

    bool has_normalise;
    weft_normalise_options normalise;
    weft_recipe_filter filters[WEFT_RECIPE_MAX_FILTERS]; /* in the recipe's order */
    int filter_count;

    bool has_exact;
    int64_t exact_keep; /* weft_keep */
    bool has_lines;
    bool lines_paragraphs;
    int64_t lines_min_characters, lines_copies;
    bool has_near;
    int64_t near_bands, near_rows, near_shingle, near_keep, near_seed;
    double near_threshold;
    bool has_substring;
    int64_t substring_length;
    bool substring_cut; /* false: masked */
    bool has_decontaminate;
    char *decontaminate_files;
    int64_t decontaminate_ngram, decontaminate_shortest, decontaminate_max_matches;
    bool has_scrub;
    char *scrub_kinds;
} weft_recipe;

/* The defaults, without sources. Free it also after a failure. */
weft_status weft_recipe_init(weft_recipe *r);
void weft_recipe_free(weft_recipe *r);
weft_status weft_recipe_read(weft_recipe *r, const char *path);
/* One "key=value" of the command line, over what the file says. */
weft_status weft_recipe_set(weft_recipe *r, const char *assignment);
/* A source from the command line. `domain` "": what each document names, else `otherwise`. */
weft_status weft_recipe_add_source(weft_recipe *r, const char *name, const char *path, const char *domain,
                                   const char *otherwise);
/* What is required of every recipe is there, and sources have their options. */
weft_status weft_recipe_check_sources(weft_recipe *r);
/* The same, and what a build needs besides: call it before one. */
weft_status weft_recipe_check(weft_recipe *r);
/* The whole recipe with every value, as YAML that parses to the same: its identity, kept beside the data. */
weft_status weft_recipe_print(const weft_recipe *r, FILE *out);
/* Every key, its default and what it does; filters with the source of each bound. */
weft_status weft_recipe_explain(FILE *out);

#endif
