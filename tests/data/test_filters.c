/* data/filter: every rule on both sides of its bound, the table of rules, the verdict, and documents made to
 * be slow. */
#include "filtered.h"
#include "support/suite.h"

#include <math.h>
#include <pthread.h>
#include <string.h>

/* ---- documents ---- */

typedef struct part {
    const char *text;
    int times;
} part;
enum { PARTS = 6 };

static char *document(const part *parts, size_t *bytes) {
    *bytes = 0;
    for (int i = 0; i < PARTS && parts[i].text; i++) *bytes += strlen(parts[i].text) * (size_t)parts[i].times;
    char *text = malloc(*bytes + 1), *p = text;
    for (int i = 0; i < PARTS && parts[i].text; i++)
        for (int k = 0; k < parts[i].times; k++, p += strlen(parts[i].text))
            memcpy(p, parts[i].text, strlen(parts[i].text));
    return text;
}

typedef struct rule_case {
    const char *kind, *rule;
    double stays_at, goes_at; /* the signals expected */
    part stays[PARTS], goes[PARTS];
    const char *file; /* for code */
} rule_case;

#define LETTERS30 "\u00e42345678901234567890123456789\u00e4"
#define DUPLICATE(n, bound, phrase)                                                                          \
    {                                                                                                        \
        "gopher_repetition", "max_duplicate_" #n "_grams", bound, (100 * bound) / 99,                        \
            {{phrase " ", 2}, {"z", 60}}, {{phrase " ", 2}, {"z", 59}}, NULL                                 \
    }

static const rule_case cases[] = {
    {"gopher_quality", "min_words", 50, 49, {{"word ", 50}}, {{"word ", 49}, {"... ", 10}}, NULL},
    {"gopher_quality", "max_words", 100000, 100001, {{"word, ", 100000}}, {{"word ", 100001}}, NULL},
    {"gopher_quality", "min_mean_word", 3, 2.9, {{"abc , ", 10}}, {{"abc ", 9}, {"\u00e4b", 1}}, NULL},
    {"gopher_quality",
     "max_mean_word",
     10,
     10.1,
     {{"\u00e4bcdefghij , ", 10}},
     {{"abcdefghij ", 9}, {"abcdefghijk", 1}},
     NULL},
    {"gopher_quality",
     "max_hashes",
     0.1,
     2. / 19,
     {{"word ", 9}, {"# ", 1}},
     {{"word ", 17}, {"# ", 2}},
     NULL},
    {"gopher_quality",
     "max_ellipses",
     0.1,
     2. / 19,
     {{"word ", 8}, {"\u2013 \u2026 ", 1}},
     {{"word ", 18}, {"...... ", 1}},
     NULL},
    {"gopher_quality",
     "max_bullet_lines",
     0.9,
     10. / 11,
     {{"- a\n", 9}, {"a\n", 1}},
     {{"\u3000\u2022 a\n", 10}, {"a -\n", 1}},
     NULL},
    {"gopher_quality",
     "max_ellipsis_lines",
     0.3,
     1. / 3,
     {{"a...\n", 2}, {"a\u2026 \n", 1}, {"...a\n\n", 3}, {"a", 1}},
     {{"a...\r\n", 2}, {"a\u2026\u2028", 1}, {"a\n", 6}},
     NULL},
    {"gopher_quality",
     "min_letter_words",
     0.8,
     0.75,
     {{"\u044f ", 4}, {"1 ", 1}},
     {{"a ", 3}, {"1 ", 1}},
     NULL},
    {"gopher_quality", "min_stop_words", 2, 1, {{"the x of y", 1}}, {{"the The the other the be1", 1}}, NULL},

    {"gopher_repetition",
     "max_duplicate_paragraphs",
     0.3,
     1. / 3,
     {{"\n\na\n\nb\n\n\nc\n\nd\n\ne\n\nf\n\ng\nh\n\na\n\nb\n\nc\n\n", 1}},
     {{"a\n\nb\n\nc\n\nd\n\ne\n\nf\n\na\n\nb\n\nc", 1}},
     NULL},
    {"gopher_repetition",
     "max_duplicate_paragraph_characters",
     0.2,
     0.25,
     {{"\u00e4\n\n\u00e4\n", 1}},
     {{"\u00e4\n\n\u00e4", 1}},
     NULL},
    {"gopher_repetition",
     "max_duplicate_lines",
     0.3,
     1. / 3,
     {{"\na\nb\nc\nd\n\n\n\ne\nf\ng\na\nb\nc\n", 1}},
     {{"a\nb\nc\nd\ne\nf\na\nb\nc", 1}},
     NULL},
    {"gopher_repetition",
     "max_duplicate_line_characters",
     0.2,
     0.25,
     {{"\u00e4\n\u00e4\n\n", 1}},
     {{"\u00e4\n\u00e4\n", 1}},
     NULL},
    {"gopher_repetition",
     "max_top_2_gram",
     0.2,
     3. / 14,
     {{"\u00e4 b ccc ddd eee", 1}},
     {{"\u00e4 b ccc ddd ee", 1}},
     NULL},
    {"gopher_repetition",
     "max_top_3_gram",
     0.18,
     9. / 49,
     {{"aaa bbb c ", 1}, {"d", 40}},
     {{"aaa bbb c ", 1}, {"d", 39}},
     NULL},
    {"gopher_repetition",
     "max_top_4_gram",
     0.16,
     8. / 49,
     {{"aa b c d ", 1}, {"e", 41}},
     {{"aa b c d ", 1}, {"e", 40}},
     NULL},
    DUPLICATE(5, 0.15, "aaa bbb \u00e4cc ddd eee"),
    DUPLICATE(6, 0.14, "aaa bbb \u00e4c dd ee ff"),
    DUPLICATE(7, 0.13, "aa bb cc \u00e4d ee ff g"),
    DUPLICATE(8, 0.12, "aa bb \u00e4c dd e f g h"),
    DUPLICATE(9, 0.11, "aa bb c \u00e4 e f g h i"),
    DUPLICATE(10, 0.1, "a b c \u00e4 e f g h i j"),

    {"c4",
     "lorem_ipsum",
     0,
     2,
     {{"lorem and ipsum here.\nWhat is lorem ipsum\n", 1}},
     {{"What is lorem ipsum?\nIt is LOREM[1] Ipsum.\n", 1}},
     NULL},
    {"c4", "curly_bracket", 0, 1, {{"set of { and }\n", 1}}, {{"a set of {.", 1}}, NULL},
    {"c4",
     "min_sentences",
     5,
     4,
     {{"One is two. Two is.\nThree is four! \"Five is?\" ", 1}, {"six\"", 1}},
     {{"One is two. Two is.\nThree is four! \"Five is?\" ", 1}},
     NULL},

    {"fineweb",
     "min_terminal_lines",
     0.12,
     3. / 26,
     {{"a.\n", 1}, {"b?!\n \n", 1}, {"\u3042\u3002\n", 1}, {"b\n", 22}},
     {{"a.\n", 1}, {"b?!\n\n", 1}, {"\u3042\u3002\n", 1}, {"b. \n", 22}, {"\"b.\"\n", 1}},
     NULL},
    {"fineweb",
     "max_short_lines",
     0.67,
     0.68,
     {{LETTERS30 "\n", 67}, {LETTERS30 "a\n\n", 33}},
     {{LETTERS30 "\n", 68}, {LETTERS30 "a\n", 32}},
     NULL},
    {"fineweb",
     "max_repeated_characters",
     0.01,
     1. / 99,
     {{"\u00e4\n", 2}, {"\u00e4", 98}},
     {{"\u00e4\n", 2}, {"\u00e4", 97}},
     NULL},
    {"fineweb", "max_newlines", 0.3, 1. / 3, {{"a a a\n", 2}, {"a a a .\n", 1}}, {{"a a a\n", 3}}, NULL},

    {"code", "max_line", 1000, 1001, {{"\u00e4", 1000}, {"\na", 1}}, {{"a\n", 1}, {"\u00e4", 1001}}, NULL},
    {"code",
     "max_mean_line",
     100,
     100.5,
     {{"\u00e4", 100}, {"\n", 1}, {"a", 100}, {"\n", 1}},
     {{"\u00e4", 101}, {"\n", 1}, {"a", 100}, {"\n", 1}},
     NULL},
    {"code", "min_alphanumeric", 0.25, 0.2, {{"\u00e9---", 1}, {"\u0661_+ ", 1}}, {{"\u00e9----", 1}}, NULL},
    {"code", "min_comments", 0.01, 2. / 201, {{"//\n", 1}, {"a", 197}}, {{"//\n", 1}, {"a", 198}}, "x/y.c"},
    {"code", "max_comments", 0.8, 8. / 9, {{"#234567\u00e4\nx", 1}}, {{"#234567\u00e4\n", 1}}, "y.PY"},
    {"code",
     "xml",
     0,
     1,
     {{"\u00e4", 87}, {"<?xml version=", 1}},
     {{"\u00e4", 86}, {"<?xml version=", 1}},
     NULL},
    {"code", "min_visible", 0.2, 1. / 6, {{"<pp>a", 1}}, {{"<ppp>\u00e4", 1}}, "index.html"},
};

/* Only this rule is on, with its default. */
static int verdict(const filtered *f, int rule) {
    double bounds[WEFT_FILTER_MAX_RULES];
    for (int i = 0; i < WEFT_FILTER_MAX_RULES; i++) bounds[i] = i == rule ? f->kind->rules[i].bound : NAN;
    return weft_filter_verdict(f->kind, bounds, f->values);
}

static void check_side(filtered *f, const rule_case *c, const part *parts, double expected, bool stays) {
    size_t bytes;
    char *text = document(parts, &bytes);
    int rule = filtered_rule(f->kind, c->rule);
    filtered_run(f, text, bytes, NULL, c->file);
    ck_assert_msg(fabs(f->values[rule] - expected) < 1e-12, "%s.%s: %.17g instead of %.17g", c->kind, c->rule,
                  f->values[rule], expected);
    ck_assert_msg(verdict(f, rule) == (stays ? -1 : rule), "%s.%s: %g %s", c->kind, c->rule, f->values[rule],
                  stays ? "goes" : "stays");
    free(text);
}

START_TEST(rules_at_their_bounds) {
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        filtered f;
        filtered_open(&f, cases[i].kind, NULL);
        check_side(&f, &cases[i], cases[i].stays, cases[i].stays_at, true);
        check_side(&f, &cases[i], cases[i].goes, cases[i].goes_at, false);
        filtered_close(&f);
    }
}
END_TEST

/* The filters whose rules need options have their cases in test_filters_text.c. */
START_TEST(every_rule_has_a_case) {
    for (int k = 0; k < weft_filter_kind_count; k++) {
        const weft_filter_kind *kind = weft_filter_kinds[k];
        for (int r = 0; r < kind->rule_count; r++) {
            bool found = strstr("language url_list word_list", kind->name) != NULL;
            for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
                found |=
                    strcmp(cases[i].kind, kind->name) == 0 && strcmp(cases[i].rule, kind->rules[r].name) == 0;
            ck_assert_msg(found, "%s.%s has no case", kind->name, kind->rules[r].name);
        }
    }
}
END_TEST

/* ---- the table ---- */

static void check_name(const char *name) {
    ck_assert_uint_gt(strlen(name), 0);
    ck_assert_uint_eq(strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_"), strlen(name));
}

START_TEST(names_are_unique) {
    ck_assert_int_eq(weft_filter_kind_count, 8);
    for (int k = 0; k < weft_filter_kind_count; k++) {
        const weft_filter_kind *kind = weft_filter_kinds[k];
        check_name(kind->name);
        ck_assert_uint_gt(strlen(kind->summary), 0);
        for (int j = 0; j < k; j++) ck_assert_str_ne(kind->name, weft_filter_kinds[j]->name);
        ck_assert_int_gt(kind->rule_count, 0);
        ck_assert_int_le(kind->rule_count, WEFT_FILTER_MAX_RULES);
        ck_assert(kind->option_count == 0 || kind->open);
        ck_assert((kind->open == NULL) == (kind->close == NULL));
        for (int r = 0; r < kind->rule_count; r++) {
            const weft_rule *rule = &kind->rules[r];
            check_name(rule->name);
            ck_assert(rule->meaning && *rule->meaning && rule->source && *rule->source &&
                      isfinite(rule->bound));
            for (int q = 0; q < r; q++) ck_assert_str_ne(rule->name, kind->rules[q].name);
            for (int o = 0; o < kind->option_count; o++) ck_assert_str_ne(rule->name, kind->options[o]);
        }
    }
}
END_TEST

START_TEST(verdicts) {
    static const weft_rule rules[] = {{.name = "least", .kind = WEFT_RULE_MIN},
                                      {.name = "most", .kind = WEFT_RULE_MAX},
                                      {.name = "flag", .kind = WEFT_RULE_FLAG}};
    static const weft_filter_kind kind = {.name = "made", .rules = rules, .rule_count = 3};
    static const struct {
        double bounds[3], values[3];
        int verdict;
    } t[] = {
        {{1, 2, 0}, {1, 2, 0}, -1},
        {{1, 2, 0}, {0.99, 2, 0}, 0},
        {{1, 2, 0}, {1, 2.01, 0}, 1},
        {{1, 2, 0}, {1, 2, 1}, 2},
        {{1, 2, 9}, {1, 2, 3}, 2},   /* a flag has no bound */
        {{1, 2, 0}, {0, 3, 1}, 0},   /* the first that breaks */
        {{1, 2, 0}, {NAN, 2, 0}, 0}, /* NaN never passes */
        {{1, 2, 0}, {1, NAN, 0}, 1},
        {{1, 2, 0}, {1, 2, NAN}, 2},
        {{NAN, 2, 0}, {0, 3, 1}, 1}, /* off */
        {{NAN, NAN, 0}, {NAN, 3, 1}, 2},
        {{NAN, NAN, NAN}, {0, 3, NAN}, -1},
        {{1e9, -1e9, 0}, {INFINITY, -INFINITY, 0}, -1}, /* a rule that does not apply */
    };
    for (size_t i = 0; i < sizeof t / sizeof *t; i++)
        ck_assert_int_eq(weft_filter_verdict(&kind, t[i].bounds, t[i].values), t[i].verdict);
}
END_TEST

/* ---- documents without anything to count ---- */

START_TEST(nothing_to_count) {
    static const struct {
        const char *kind, *text;
        bool stays;
    } t[] = {
        {"gopher_quality", " \n", false},
        {"gopher_quality", "--- ---", false},
        {"fineweb", "\n \n", false},
        {"gopher_repetition", "\n", true},
        {"gopher_repetition", "one", true},
        {"c4", "\n", false},
        {"code", "\n", false},
    };
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        filtered f;
        double bounds[WEFT_FILTER_MAX_RULES];
        filtered_open(&f, t[i].kind, NULL);
        for (int r = 0; r < f.kind->rule_count; r++) bounds[r] = f.kind->rules[r].bound;
        filtered_run(&f, t[i].text, strlen(t[i].text), NULL, "a.c");
        ck_assert_msg((weft_filter_verdict(f.kind, bounds, f.values) == -1) == t[i].stays, "%s \"%s\"",
                      t[i].kind, t[i].text);
        filtered_close(&f);
    }
}
END_TEST

/* ---- documents made to be slow ---- */

static const char *slow_kinds[] = {"gopher_quality", "gopher_repetition", "c4", "fineweb", "code"};

START_TEST(ten_megabytes_of_the_same) {
    static const part documents[] = {
        {"a ", 5000000},    {"\n", 10000000},   {"[1", 1000000},    {"a", 2000000},
        {"a\n", 1000000},   {"lorem ", 300000}, {"...", 700000},    {"<script ", 250000},
        {"/*\"'#", 400000}, {"J. ", 700000},    {"\u3000", 700000},
    };
    for (size_t d = 0; d < sizeof documents / sizeof *documents; d++) {
        part parts[PARTS] = {documents[d]};
        size_t bytes;
        char *text = document(parts, &bytes);
        for (size_t k = 0; k < sizeof slow_kinds / sizeof *slow_kinds; k++) {
            filtered f;
            filtered_open(&f, slow_kinds[k], NULL);
            filtered_run(&f, text, bytes, NULL, d % 2 ? "a.c" : "a.html");
            if (d == 0 && k == 1) ck_assert_double_gt(filtered_value(&f, "max_duplicate_10_grams"), 0.49);
            filtered_close(&f);
        }
        free(text);
    }
}
END_TEST

/* ---- threads ---- */

typedef struct worker {
    filtered *shared;
    int number;
    bool same;
} worker;

/* Each thread sends its own text through the shared filter, and must always get what it got first. */
static void *work(void *arg) {
    worker *w = arg;
    filtered mine = *w->shared;
    part parts[PARTS] = {{"Some words of a line, and some more.\n", 5 * (w->number + 1)}, {"tail ", 100}};
    size_t bytes;
    char *text = document(parts, &bytes);
    double first[WEFT_FILTER_MAX_RULES];
    mine.changed = (weft_text){0};
    if (weft_words_new(&mine.words) != WEFT_OK) return NULL;
    w->same = true;
    for (int i = 0; i < 50; i++) {
        filtered_run(&mine, text, bytes, NULL, "a.c");
        if (i == 0) memcpy(first, mine.values, sizeof first);
        w->same = w->same && memcmp(first, mine.values, sizeof first) == 0;
    }
    weft_words_free(mine.words);
    weft_text_free(&mine.changed);
    free(text);
    return NULL;
}

START_TEST(threads_share_a_filter) {
    enum { THREADS = 4 };
    for (size_t k = 0; k < sizeof slow_kinds / sizeof *slow_kinds; k++) {
        filtered f;
        worker workers[THREADS];
        pthread_t threads[THREADS];
        filtered_open(&f, slow_kinds[k], NULL);
        for (int i = 0; i < THREADS; i++) {
            workers[i] = (worker){&f, i, false};
            ck_assert_int_eq(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
        }
        for (int i = 0; i < THREADS; i++) {
            pthread_join(threads[i], NULL);
            ck_assert(workers[i].same);
        }
        filtered_close(&f);
    }
}
END_TEST

SUITE_MAIN("filters", rules_at_their_bounds, every_rule_has_a_case, names_are_unique, verdicts,
           nothing_to_count, ten_megabytes_of_the_same, threads_share_a_filter)
