/* The rules that FineWeb adds to C4's and Gopher's. Lines are cut at LF; those of white space only do not
 * count. */
#include "data/filter/signals.h"

#include <stdlib.h>

#define PENEDO "FineWeb (Penedo et al. 2024, section 3.5); datatrove's fineweb_quality_filter"

enum { TERMINAL_LINES, SHORT_LINES, REPEATED, NEWLINES, RULES };
enum { SHORT = 30 }; /* characters of a short line, at most */

static const weft_rule rules[RULES] = {
    [TERMINAL_LINES] = {"min_terminal_lines", WEFT_RULE_MIN, 0.12, WEFT_SCALE_SHARE,
                        "share of lines that end in a mark that ends sentences", PENEDO},
    [SHORT_LINES] = {"max_short_lines", WEFT_RULE_MAX, 0.67, WEFT_SCALE_SHARE,
                     "share of lines of at most 30 characters", PENEDO},
    [REPEATED] = {"max_repeated_characters", WEFT_RULE_MAX, 0.01, WEFT_SCALE_SHARE,
                  "share of characters in lines that repeat an earlier one",
                  PENEDO " (the paper says 0.1, the published data set was made with 0.01)"},
    [NEWLINES] = {"max_newlines", WEFT_RULE_MAX, 0.3, WEFT_SCALE_SHARE, "newlines per word of any kind",
                  PENEDO},
};

static bool is_short(weft_span line) {
    return line.bytes <= SHORT || (line.bytes <= 4 * SHORT && weft_characters(line.at, line.bytes) <= SHORT);
}

static weft_status look(weft_hash_set *seen, const weft_filter_input *in, double *values) {
    size_t newlines = weft_count_byte(in->text, in->bytes, '\n'), terminal = 0, shorter = 0;
    WEFT_TRY(weft_hash_set_clear(seen, newlines + 1));
    weft_repeats lines = {0};
    weft_span rest = {in->text, in->bytes}, line;
    while (weft_next_piece(&rest, 1, &line)) {
        if (weft_strip(line).bytes == 0) continue;
        terminal += weft_ends_sentence(line);
        shorter += is_short(line);
        weft_repeats_add(&lines, seen, line);
    }
    size_t characters = weft_characters(in->text, in->bytes) - newlines;
    values[TERMINAL_LINES] = (double)terminal / (double)lines.pieces; /* without lines NaN: breaks */
    values[SHORT_LINES] = (double)shorter / (double)lines.pieces;
    values[REPEATED] = (double)lines.repeated_characters / (double)characters;
    values[NEWLINES] = (double)newlines / (double)in->word_count;
    return WEFT_OK;
}

static weft_status make(void **item) {
    *item = calloc(1, sizeof(weft_hash_set));
    if (!*item) WEFT_FAIL(WEFT_ENOMEM, "no memory for the filter fineweb");
    return WEFT_OK;
}

static void destroy(void *item) {
    weft_hash_set_free(item);
    free(item);
}

static weft_status open_filter(void **state, const char *const *values) {
    (void)values;
    weft_pool *pool;
    WEFT_TRY(weft_pool_new(&pool, make, destroy));
    *state = pool;
    return WEFT_OK;
}

static void close_filter(void *state) {
    weft_pool_free(state);
}

static weft_status signals(void *state, const weft_filter_input *in, double *values, weft_text *changed,
                           bool *has_changed) {
    (void)changed;
    *has_changed = false;
    void *seen;
    WEFT_TRY(weft_pool_take(state, &seen));
    weft_status st = look(seen, in, values);
    weft_hash_set_shrink(seen);
    weft_pool_give(state, seen);
    return st;
}

const weft_filter_kind weft_filter_fineweb = {
    .name = "fineweb",
    .summary = "lines without an end mark, short lines, repeated lines, and too many lines for the words",
    .rules = rules,
    .rule_count = RULES,
    .open = open_filter,
    .close = close_filter,
    .signals = signals,
};
