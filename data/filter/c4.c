/* C4's rules: lines that are no prose are dropped, marks of citations are deleted, and a document stays if
 * enough sentences are left. Per line, stripped of white space, in this order: dropped for a word of more
 * than max_word_characters; citation marks deleted; dropped unless it ends in . ? ! " or ', and if it ends in
 * "..."; dropped for fewer than min_words_per_line words; "lorem ipsum" noted; dropped for "javascript"; "{"
 * noted; dropped for a phrase of policies. Words are separated by white space here, as in C4.
 *
 * A sentence ends at a run of . ! ? or other marks of Unicode's Sentence_Terminal, with quotes and brackets
 * behind it, before white space or the line's end (before anything, if the mark is not ASCII: such scripts
 * put no space); not at the full stop of an initial, a single capital letter. What is left of a line is a
 * sentence too. */
#include "data/filter/signals.h"

#include <stdlib.h>
#include <string.h>

#define RAFFEL "Raffel et al. 2020 (T5), section 2.2; datatrove's C4QualityFilter"

enum { LOREM_IPSUM, CURLY_BRACKET, MIN_SENTENCES, RULES };

static const weft_rule rules[RULES] = {
    [LOREM_IPSUM] = {"lorem_ipsum", WEFT_RULE_FLAG, 0, WEFT_SCALE_COUNT, "lines with \"lorem ipsum\"",
                     RAFFEL},
    [CURLY_BRACKET] = {"curly_bracket", WEFT_RULE_FLAG, 0, WEFT_SCALE_COUNT, "lines with a {", RAFFEL},
    [MIN_SENTENCES] = {"min_sentences", WEFT_RULE_MIN, 5, WEFT_SCALE_COUNT,
                       "sentences in the lines that stay", RAFFEL},
};

/* What can be left out by the option "skip". */
enum { CITATIONS, END_MARKS, JAVASCRIPT, POLICIES, STEPS };
static const char *const steps[STEPS] = {
    [CITATIONS] = "citations",
    [END_MARKS] = "end_marks",
    [JAVASCRIPT] = "javascript",
    [POLICIES] = "policies",
};
enum { MIN_WORDS_PER_LINE, MAX_WORD_CHARACTERS, SKIP, OPTIONS };
static const char *const options[OPTIONS] = {
    [MIN_WORDS_PER_LINE] = "min_words_per_line",   /* 3 */
    [MAX_WORD_CHARACTERS] = "max_word_characters", /* 1000; 0: any */
    [SKIP] = "skip",                               /* names of `steps`, separated by commas */
};

enum { LOREM, SCRIPT, POLICY, PHRASES = POLICY + 6 };
static const char *const phrases[PHRASES] = {
    [LOREM] = "lorem ipsum",         [SCRIPT] = "javascript",        [POLICY] = "terms of use",
    [POLICY + 1] = "privacy policy", [POLICY + 2] = "cookie policy", [POLICY + 3] = "uses cookies",
    [POLICY + 4] = "use of cookies", [POLICY + 5] = "use cookies",
};

typedef struct c4 {
    int64_t min_words, max_characters;
    bool skip[STEPS];
    weft_pool *texts; /* of weft_text */
} c4;

/* ---- options ---- */

static weft_status parse_skip(c4 *c, const char *value) {
    weft_span rest = {value, value ? strlen(value) : 0}, part;
    while (weft_next_part(&rest, &part)) {
        int i = 0;
        while (i < STEPS && !(strlen(steps[i]) == part.bytes && memcmp(steps[i], part.at, part.bytes) == 0))
            i++;
        if (i == STEPS)
            WEFT_FAIL(
                WEFT_EINPUT,
                "filter c4: skip: no step is called \"%.*s\"; there are citations, end_marks, javascript and "
                "policies",
                (int)(part.bytes < 60 ? part.bytes : 60), part.at);
        c->skip[i] = true;
    }
    return WEFT_OK;
}

static weft_status make(void **item) {
    *item = calloc(1, sizeof(weft_text));
    if (!*item) WEFT_FAIL(WEFT_ENOMEM, "no memory for the filter c4");
    return WEFT_OK;
}

static void destroy(void *item) {
    weft_text_free(item);
    free(item);
}

static void close_filter(void *state) {
    c4 *c = state;
    if (c) weft_pool_free(c->texts);
    free(c);
}

static weft_status open_filter(void **state, const char *const *values) {
    c4 *c = calloc(1, sizeof *c);
    if (!c) WEFT_FAIL(WEFT_ENOMEM, "no memory for the filter c4");
    weft_status st;
    WEFT_GOTO(
        st, failed,
        weft_whole_number("c4", options[MIN_WORDS_PER_LINE], values[MIN_WORDS_PER_LINE], 3, &c->min_words));
    WEFT_GOTO(st, failed,
              weft_whole_number("c4", options[MAX_WORD_CHARACTERS], values[MAX_WORD_CHARACTERS], 1000,
                                &c->max_characters));
    WEFT_GOTO(st, failed, parse_skip(c, values[SKIP]));
    WEFT_GOTO(st, failed, weft_pool_new(&c->texts, make, destroy));
    *state = c;
    return WEFT_OK;
failed:
    close_filter(c);
    return st;
}

/* ---- a line ---- */

/* Counts words between white space; false when one is too long. */
static bool look_at_words(const c4 *c, weft_span line, int64_t *words) {
    const char *p = line.at, *end = p + line.bytes;
    int64_t characters = 0;
    for (*words = 0; p < end;) {
        bool plain = *p > ' '; /* ASCII that is no white space; what is not ASCII is negative */
        size_t bytes = plain ? 1 : weft_space_at(p, end);
        if (!plain && bytes > 0) {
            characters = 0;
        } else {
            *words += characters == 0;
            if (++characters > c->max_characters && c->max_characters > 0) return false;
            if (!plain) weft_character(p, &bytes);
        }
        p += bytes;
    }
    return true;
}

/* Bytes of "[12]", "[]", "[edit]" or "[citation needed]" at p, 0: none. */
static size_t citation_at(const char *p, size_t bytes) {
    weft_span s = {p, bytes};
    if (weft_starts(s, "[edit]")) return strlen("[edit]");
    if (weft_starts(s, "[citation needed]")) return strlen("[citation needed]");
    size_t n = 1;
    while (n < bytes && p[n] >= '0' && p[n] <= '9') n++;
    return n < bytes && p[n] == ']' ? n + 1 : 0;
}

/* Appends the line without marks of citations. */
static weft_status append_without_citations(weft_text *out, weft_span line) {
    const char *p = line.at, *end = p + line.bytes;
    while (p < end) {
        const char *bracket = memchr(p, '[', (size_t)(end - p));
        size_t mark = bracket ? citation_at(bracket, (size_t)(end - bracket)) : 0;
        const char *stop = !bracket ? end : mark ? bracket : bracket + 1;
        WEFT_TRY(weft_text_append(out, p, (size_t)(stop - p)));
        p = stop + mark;
    }
    return WEFT_OK;
}

static bool ends_well(weft_span line) {
    return line.bytes > 0 && strchr(".?!\"'", line.at[line.bytes - 1]) && !weft_ends(line, "...");
}

static bool is_closer(uint32_t c) {
    return c == '"' || c == '\'' || c == ')' || c == ']' || c == '}' || c == 0xbb || c == 0x2019 ||
           c == 0x201d || (c >= 0x300b && c <= 0x300f && c % 2 == 1);
}

/* Whether the full stop at p stands behind a single capital letter. */
static bool initial(const char *start, const char *p) {
    if (p == start || p[-1] < 'A' || p[-1] > 'Z') return false;
    return p - 1 == start || p[-2] == ' ' || p[-2] == '.' || p[-2] == '(';
}

static size_t count_sentences(weft_span line) {
    line = weft_strip(line);
    const char *p = line.at, *end = p + line.bytes, *rest = p;
    size_t n = 0, bytes;
    while (p < end) {
        uint32_t c = weft_character(p, &bytes);
        const char *mark = p;
        p += bytes;
        if (!weft_sentence_terminal(c)) continue;
        bool spaced = c < 0x80, many = false;
        for (; p < end; p += bytes) {
            c = weft_character(p, &bytes);
            if (!weft_sentence_terminal(c) && !is_closer(c)) break;
            many = true;
        }
        if (p < end && spaced && !weft_space_at(p, end)) continue;
        if (!many && *mark == '.' && p < end && initial(line.at, mark)) continue;
        n++;
        rest = p;
    }
    return n + (weft_strip((weft_span){rest, (size_t)(end - rest)}).bytes > 0);
}

/* ---- the document ---- */

static unsigned phrases_in(weft_span lower, unsigned looked_for) {
    unsigned found = 0;
    for (unsigned i = 0; i < PHRASES; i++)
        if (looked_for >> i & 1 && memmem(lower.at, lower.bytes, phrases[i], strlen(phrases[i])))
            found |= 1u << i;
    return found;
}

static weft_status lower_case(weft_text *out, weft_span text) {
    out->bytes = 0;
    WEFT_TRY(weft_text_append(out, text.at, text.bytes));
    for (size_t i = 0; i < out->bytes; i++) out->data[i] = weft_lower(out->data[i]);
    return WEFT_OK;
}

/* Whether a line stays, by the phrases in it. */
static bool phrases_allow(const c4 *c, weft_span line, unsigned found, double *values) {
    values[LOREM_IPSUM] += found >> LOREM & 1;
    if (found >> SCRIPT & 1 && !c->skip[JAVASCRIPT]) return false;
    values[CURLY_BRACKET] += memchr(line.at, '{', line.bytes) != NULL;
    return c->skip[POLICIES] || found >> POLICY == 0;
}

/* Appends the line to `changed` if it stays. `held`: phrases that the document holds somewhere. */
static weft_status do_line(const c4 *c, weft_span line, unsigned held, weft_text *scratch, double *values,
                           weft_text *changed) {
    int64_t words;
    line = weft_strip(line);
    if (!look_at_words(c, line, &words)) return WEFT_OK;
    size_t before = changed->bytes;
    if (before > 0) WEFT_TRY(weft_text_append(changed, "\n", 1));
    size_t start = changed->bytes;
    WEFT_TRY(c->skip[CITATIONS] ? weft_text_append(changed, line.at, line.bytes)
                                : append_without_citations(changed, line));
    size_t bytes = changed->bytes - start;
    if (bytes < line.bytes) held = ~0u; /* what was cut may have joined a phrase */
    line = (weft_span){bytes > 0 ? changed->data + start : "", bytes};
    bool stays = (c->skip[END_MARKS] || ends_well(line)) && words >= c->min_words;
    if (stays) {
        unsigned found = 0;
        if (held) {
            WEFT_TRY(lower_case(scratch, line));
            found = phrases_in((weft_span){scratch->data, scratch->bytes}, held);
        }
        stays = phrases_allow(c, line, found, values);
    }
    if (stays)
        values[MIN_SENTENCES] += (double)count_sentences(line);
    else
        changed->bytes = before;
    return WEFT_OK;
}

static weft_status look(const c4 *c, const weft_filter_input *in, weft_text *scratch, double *values,
                        weft_text *changed, bool *has_changed) {
    weft_span rest = {in->text, in->bytes}, line;
    WEFT_TRY(lower_case(scratch, rest));
    unsigned held = phrases_in((weft_span){scratch->data, scratch->bytes}, ~0u);
    for (int i = 0; i < RULES; i++) values[i] = 0;
    changed->bytes = 0;
    while (weft_next_line(&rest, &line)) WEFT_TRY(do_line(c, line, held, scratch, values, changed));
    if (changed->bytes > 0) {
        line = weft_strip((weft_span){changed->data, changed->bytes});
        memmove(changed->data, line.at, line.bytes);
        changed->bytes = line.bytes;
    }
    *has_changed = changed->bytes != in->bytes || memcmp(changed->data, in->text, in->bytes) != 0;
    return WEFT_OK;
}

static weft_status signals(void *state, const weft_filter_input *in, double *values, weft_text *changed,
                           bool *has_changed) {
    const c4 *c = state;
    void *item;
    WEFT_TRY(weft_pool_take(c->texts, &item));
    weft_text *scratch = item;
    weft_status st = look(c, in, scratch, values, changed, has_changed);
    if (scratch->capacity > WEFT_SCRATCH_KEPT) weft_text_free(scratch);
    weft_pool_give(c->texts, scratch);
    return st;
}

const weft_filter_kind weft_filter_c4 = {
    .name = "c4",
    .summary =
        "drops lines that are no sentences, deletes citation marks; few sentences, code and lorem ipsum",
    .rules = rules,
    .rule_count = RULES,
    .options = options,
    .option_count = OPTIONS,
    .open = open_filter,
    .close = close_filter,
    .signals = signals,
};
