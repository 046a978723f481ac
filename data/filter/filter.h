/* Rules that decide by a document's own text whether it stays: published thresholds as defaults, each with
 * its source. A rule compares one signal, a number computed from the text, with a bound. Signals are computed
 * for every document that reaches their filter, so that thresholds can be chosen by their histograms. */
#ifndef WEFT_FILTER_H
#define WEFT_FILTER_H

#include "data/text/normalise.h"
#include "data/text/words.h"
#include "runtime/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What a filter may look at; words are split once for all filters. */
typedef struct weft_filter_input {
    const char *text;
    size_t bytes;
    const char *url;  /* "" where the source gives none */
    const char *file; /* the source's name, for the language of code */
    const weft_word *words;
    size_t word_count;
} weft_filter_input;

typedef enum weft_signal_scale {
    WEFT_SCALE_SHARE,
    WEFT_SCALE_COUNT
} weft_signal_scale; /* bins: 0..1, or powers of 2 */

/* One rule. It rejects when the signal is below (MIN) or above (MAX) the bound; WEFT_RULE_FLAG rejects when
 * the signal is not 0 and has no bound. */
typedef enum weft_rule_kind { WEFT_RULE_MIN, WEFT_RULE_MAX, WEFT_RULE_FLAG } weft_rule_kind;
typedef struct weft_rule {
    const char *name; /* the key in the recipe: unique in its filter */
    weft_rule_kind kind;
    double bound; /* the default */
    weft_signal_scale scale;
    const char *meaning; /* "share of words without a letter" */
    const char *source;  /* "Rae et al. 2021, table A1", "FineWeb, datatrove fineweb_quality_filter" */
} weft_rule;

enum { WEFT_FILTER_MAX_RULES = 24 };

/* A kind of filter. `signals` fills values[rule_count], each the signal of the rule of that index. A filter
 * that also changes the text (C4 removes lines) leaves the new text in `changed` and sets *has_changed;
 * signals are then those that lead to its verdict. `state` is what `open` made of the filter's options, or
 * NULL. Thread-safe on one state.
 *
 * A rule that does not apply to a document (comments in a language that is not known) has a signal that no
 * bound breaks: +infinity for a minimum, -infinity for a maximum. */
typedef struct weft_filter_kind {
    const char *name; /* "gopher_quality" */
    const char *summary;
    const weft_rule *rules;
    int rule_count;
    const char *const *options; /* names of text options besides the rules' ("list", "languages"), or NULL */
    int option_count;
    weft_status (*open)(void **state,
                        const char *const *values); /* by option, NULL: not given. NULL: no state */
    void (*close)(void *state);
    weft_status (*signals)(void *state, const weft_filter_input *in, double *values, weft_text *changed,
                           bool *has_changed);
} weft_filter_kind;

/* gopher_quality, gopher_repetition, c4, fineweb, code, language, url_list, word_list: each in a file of its
 * own. */
extern const weft_filter_kind *const weft_filter_kinds[];
extern const int weft_filter_kind_count;

/* Index of the first rule that the values break with these bounds, -1: none. A NaN breaks its rule: a signal
 * that cannot be computed never lets a document pass. bounds[i] NaN: rule i is off. */
int weft_filter_verdict(const weft_filter_kind *k, const double *bounds, const double *values);

/* ---- personal data ---- */
typedef struct weft_scrubber weft_scrubber;
/* e-mail addresses (those of example.com, .org and .net stay), public IPv4 addresses (private and reserved
 * ranges stay) and IPv6 ones, telephone numbers in international form (+ and 8 to 15 digits, E.164); the
 * first two as in datatrove's PIIFormatter. `kinds`: "email,ip,phone" or fewer. One may be used by many
 * threads. */
weft_status weft_scrubber_new(weft_scrubber **out, const char *kinds);
void weft_scrubber_free(weft_scrubber *s);
/* Replaces each by a fixed stand-in (email@example.com, 22.214.171.124, +1 555 0100). counts[3]: how many of
 * each. `map` (may be NULL; [map_count] positions, ascending) are byte positions in the text that are moved
 * along: one inside something replaced goes to the stand-in's start. */
weft_status weft_scrub(const weft_scrubber *s, const char *text, size_t bytes, weft_text *out,
                       int64_t counts[3], size_t *map, size_t map_count);

/* ---- decontamination ---- */
typedef struct weft_contaminants weft_contaminants; /* read-only once made */
/* The n-grams of words (of the compared form, normalise.h) of evaluation files: jsonl (every string member of
 * each object, also nested ones) or txt, either packed as sources are. n = 13 as in GPT-3 (Brown et al. 2020,
 * appendix C). Texts shorter than n words are taken whole if they have at least `shortest` words (8, as
 * there), else left out and counted. `files`: paths separated by commas. */
weft_status weft_contaminants_open(weft_contaminants **out, const char *files, int n, int shortest);
void weft_contaminants_close(weft_contaminants *c);
int64_t weft_contaminants_count(const weft_contaminants *c, int64_t *too_short); /* evaluation texts */
typedef struct weft_contamination {
    int64_t matches;   /* places in the document where an n-gram begins that is an evaluation text's */
    double share;      /* of its words that lie in such n-grams */
    int32_t file;      /* of the first: which file (from 0) */
    int64_t text;      /* and which line of it, from 1 */
    char excerpt[160]; /* the first match's words, zero-terminated */
} weft_contamination;
/* `words`: the caller's scratch, one per thread. */
weft_status weft_contaminated(const weft_contaminants *c, weft_words *words, const char *text, size_t bytes,
                              weft_contamination *out);

#endif
