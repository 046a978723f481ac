/* Document quality as in Gopher. Words are segments of UAX #29, punctuation among them. */
#include "data/filter/signals.h"

#include <string.h>

#define RAE "Rae et al. 2021 (Gopher), appendix A.1.1"

enum {
    MIN_WORDS,
    MAX_WORDS,
    MIN_MEAN,
    MAX_MEAN,
    HASHES,
    ELLIPSES,
    BULLETS,
    ELLIPSIS_LINES,
    LETTERS,
    STOP_WORDS,
    RULES
};

static const weft_rule rules[RULES] = {
    [MIN_WORDS] = {"min_words", WEFT_RULE_MIN, 50, WEFT_SCALE_COUNT, "words that hold a letter or a digit",
                   RAE},
    [MAX_WORDS] = {"max_words", WEFT_RULE_MAX, 100000, WEFT_SCALE_COUNT,
                   "words that hold a letter or a digit", RAE},
    [MIN_MEAN] = {"min_mean_word", WEFT_RULE_MIN, 3, WEFT_SCALE_COUNT, "mean characters of those words", RAE},
    [MAX_MEAN] = {"max_mean_word", WEFT_RULE_MAX, 10, WEFT_SCALE_COUNT, "mean characters of those words",
                  RAE},
    [HASHES] = {"max_hashes", WEFT_RULE_MAX, 0.1, WEFT_SCALE_SHARE, "hash signs per word of any kind", RAE},
    [ELLIPSES] = {"max_ellipses", WEFT_RULE_MAX, 0.1, WEFT_SCALE_SHARE, "ellipses per word of any kind", RAE},
    [BULLETS] = {"max_bullet_lines", WEFT_RULE_MAX, 0.9, WEFT_SCALE_SHARE,
                 "share of lines that begin with a bullet or a hyphen", RAE},
    [ELLIPSIS_LINES] = {"max_ellipsis_lines", WEFT_RULE_MAX, 0.3, WEFT_SCALE_SHARE,
                        "share of lines that end in an ellipsis", RAE},
    [LETTERS] = {"min_letter_words", WEFT_RULE_MIN, 0.8, WEFT_SCALE_SHARE,
                 "share of words of any kind that hold a letter", RAE},
    [STOP_WORDS] = {"min_stop_words", WEFT_RULE_MIN, 2, WEFT_SCALE_COUNT,
                    "how many of: the, be, to, of, and, that, have, with (in lower case)", RAE},
};

#define ELLIPSIS "\xe2\x80\xa6" /* U+2026 */
#define BULLET "\xe2\x80\xa2"   /* U+2022 */

/* The bit of a stop word, 0: none. */
static unsigned stop_word(const char *word, size_t bytes) {
    static const char words[][4] = {"the", "be", "to", "of", "and", "that", "have", "with"};
    if (bytes < 2 || bytes > 4) return 0;
    char padded[4] = {0};
    memcpy(padded, word, bytes);
    for (unsigned i = 0; i < sizeof words / sizeof *words; i++)
        if (memcmp(padded, words[i], 4) == 0) return 1u << i;
    return 0;
}

static void look_at_words(const weft_filter_input *in, double *values) {
    size_t plain = 0, characters = 0, letters = 0;
    unsigned stops = 0;
    for (size_t i = 0; i < in->word_count; i++) {
        const weft_word *w = &in->words[i];
        letters += w->letters;
        if (w->symbol) continue;
        plain++;
        characters += w->characters;
        stops |= stop_word(in->text + w->start, w->bytes);
    }
    values[MIN_WORDS] = values[MAX_WORDS] = (double)plain;
    values[MIN_MEAN] = values[MAX_MEAN] = (double)characters / (double)plain; /* without words NaN: breaks */
    values[LETTERS] = (double)letters / (double)in->word_count;
    values[STOP_WORDS] = __builtin_popcount(stops);
}

/* "..." and U+2026, none of them counted twice. */
static size_t count_ellipses(const char *text, size_t bytes) {
    size_t n = 0;
    const char *end = text + bytes;
    for (const char *p = text; end - p >= 3 && (p = memchr(p, '.', (size_t)(end - p))) != NULL;) {
        size_t run = 1;
        while (p + run < end && p[run] == '.') run++;
        n += run / 3;
        p += run;
    }
    for (const char *p = text; end - p >= 3 && (p = memchr(p, '\xe2', (size_t)(end - p))) != NULL; p += 3)
        n += memcmp(p, ELLIPSIS, 3) == 0;
    return n;
}

static void look_at_lines(const weft_filter_input *in, double *values) {
    size_t lines = 0, bullets = 0, ellipses = 0;
    weft_span rest = {in->text, in->bytes}, line;
    while (weft_next_line(&rest, &line)) {
        line = weft_strip(line);
        lines++;
        bullets += weft_starts(line, "-") || weft_starts(line, BULLET);
        ellipses += weft_ends(line, "...") || weft_ends(line, ELLIPSIS);
    }
    values[BULLETS] = (double)bullets / (double)lines;
    values[ELLIPSIS_LINES] = (double)ellipses / (double)lines;
}

static weft_status signals(void *state, const weft_filter_input *in, double *values, weft_text *changed,
                           bool *has_changed) {
    (void)state, (void)changed;
    *has_changed = false;
    look_at_words(in, values);
    look_at_lines(in, values);
    double words = (double)in->word_count;
    values[HASHES] = (double)weft_count_byte(in->text, in->bytes, '#') / words;
    values[ELLIPSES] = (double)count_ellipses(in->text, in->bytes) / words;
    return WEFT_OK;
}

const weft_filter_kind weft_filter_gopher_quality = {
    .name = "gopher_quality",
    .summary = "the number and length of words, symbols, bullets, letters and stop words of English prose",
    .rules = rules,
    .rule_count = RULES,
    .signals = signals,
};
