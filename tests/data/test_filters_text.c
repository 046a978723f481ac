/* data/filter: what c4 leaves of a text, repetition against counting by hand, comments by language, lists,
 * languages, and options that are wrong. */
#include "filtered.h"
#include "runtime/rng.h"
#include "support/capture.h"
#include "support/suite.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define COUNT(table) (sizeof(table) / sizeof *(table))
#define WITH(...) ((const char *const[]){__VA_ARGS__, NULL})

static void run(filtered *f, const char *text) {
    filtered_run(f, text, strlen(text), NULL, NULL);
}

/* ---- c4 ---- */

typedef struct c4_case {
    const char *text, *left; /* left NULL: unchanged */
    int sentences;
} c4_case;

static void check_c4(const char *const *options, const c4_case *cases, size_t count) {
    filtered f;
    filtered_open(&f, "c4", options);
    for (size_t i = 0; i < count; i++) {
        run(&f, cases[i].text);
        ck_assert_msg(f.has_changed == (cases[i].left != NULL), "%s", cases[i].text);
        if (cases[i].left) {
            ck_assert_uint_eq(f.changed.bytes, strlen(cases[i].left));
            ck_assert_msg(f.changed.bytes == 0 || memcmp(f.changed.data, cases[i].left, f.changed.bytes) == 0,
                          "%.*s", (int)f.changed.bytes, f.changed.data);
        }
        ck_assert_msg(filtered_value(&f, "min_sentences") == cases[i].sentences, "%s: %g", cases[i].text,
                      filtered_value(&f, "min_sentences"));
    }
    filtered_close(&f);
}

START_TEST(c4_lines) {
    static const c4_case t[] = {
        {"It stays as it is.\nAs does this!", NULL, 2},
        {"It stays.\nNo mark\n\nWill this stay?\n", "Will this stay?", 1}, /* "It stays." has two words */
        {" \u3000It is stripped.\u00a0\r\nThis is too.\v", "It is stripped.\nThis is too.", 2},
        {"It ends in dots...\nIt ends in one\u2026\nIt says \"it is.\"\nIt is 'so'",
         "It says \"it is.\"\nIt is 'so'", 2},
        {"Known since 1990.[12][] It is[edit] so[citation needed].[Edit] [1", "", 0},
        {"Known since 1990.[12][] It is[edit] so[citation needed].[3]\n[[1]] is it.",
         "Known since 1990. It is so.\n[] is it.", 3},
        {"Words [1] count before.[2]\nIt was so. [1]", "Words  count before.",
         1}, /* the space stays: no end mark */
        {"Enable JavaScript to see it.\nRead our Privacy Policy first.\nThis site uses Cookies, yes.\n"
         "Our terms of use apply.\nThe use of cookies is good.\nYou use cookies a lot.\nThe cookie policy is "
         "here.\n"
         "Cookies are good food.",
         "Cookies are good food.", 1},
        {"This is java[1]script now.\nRead our privacy[2] policy first.", "", 0}, /* joined by what was cut */
        {"[1] It was so here.", "It was so here.", 1},
        {"The \u00e4rger is gro\u00df.", NULL, 1},
    };
    check_c4(NULL, t, COUNT(t));
}
END_TEST

START_TEST(c4_options) {
    static const c4_case skipped[] = {
        {"a line\n\nJavaScript [1] privacy policy", "a line\nJavaScript [1] privacy policy", 2},
        {"two words", NULL, 1},
        {"one", "", 0},
    };
    check_c4(WITH("skip", "citations, end_marks,javascript,policies", "min_words_per_line", "2"), skipped,
             COUNT(skipped));
    static const c4_case words[] = {
        {"A word is \u00e4\u00e4\u00e4\u00e4\u00e4.\nA word is \u00e4\u00e4\u00e4\u00e4\u00e4a.",
         "A word is \u00e4\u00e4\u00e4\u00e4\u00e4.", 1}};
    check_c4(WITH("max_word_characters", "6"), words, COUNT(words));

    char text[1100] = "It is ";
    memset(text + 6, 'x', 999);
    strcpy(text + 6 + 999, ".");
    check_c4(NULL, &(c4_case){text, NULL, 1}, 1);
    strcpy(text + 6 + 999, "x.");
    check_c4(NULL, &(c4_case){text, "", 0}, 1);
    check_c4(WITH("max_word_characters", "0"), &(c4_case){text, NULL, 1}, 1);
}
END_TEST

START_TEST(c4_sentences) {
    static const c4_case t[] = {
        {"One is one. Two is two! Three is three? \"Four?\" (Five.) Six", "", 0},
        {"One is one. Two is two! Three is three? \"Four?\" (Five.) Six!?", NULL, 6},
        {"It costs 3.14 at www.example.com today.", NULL, 1},
        {"J. R. R. Tolkien wrote it. He lived in the U.S. for no year.", NULL, 2},
        {"It was plan B. Then came C!", NULL, 1},             /* an initial, by this rule */
        {"\u3042\u3002\u3044\u3002 \u3046 \u3048.", NULL, 3}, /* no spaces between */
        {"He said \u201cno.\u201d She said \u201cyes.\u201d All went home.", NULL, 3},
        {"What ... is it? So ...it is.", NULL, 3},
    };
    check_c4(NULL, t, COUNT(t));
}
END_TEST

/* ---- repetition ---- */

static size_t characters(const char *p, size_t bytes) {
    size_t n = 0;
    for (size_t i = 0; i < bytes; i++) n += (p[i] & 0xc0) != 0x80;
    return n;
}

typedef struct words {
    const char *text;
    const weft_word *at;
    size_t count;
} words;

static bool same(const words *w, size_t a, size_t b, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (w->at[a + i].bytes != w->at[b + i].bytes ||
            memcmp(w->text + w->at[a + i].start, w->text + w->at[b + i].start, w->at[a + i].bytes) != 0)
            return false;
    return true;
}

static size_t length(const words *w, size_t at, size_t n) {
    size_t sum = 0;
    for (size_t i = 0; i < n; i++) sum += w->at[at + i].characters;
    return sum;
}

static size_t top_by_hand(const words *w, size_t n) {
    size_t best = 0, most = 0;
    for (size_t i = 0; i + n <= w->count; i++) {
        size_t copies = 0;
        for (size_t k = 0; k + n <= w->count; k++) copies += same(w, i, k, n);
        if (copies > most) {
            most = copies;
            best = i;
        }
    }
    return most ? most * (length(w, best, n) + n - 1) : 0;
}

static size_t duplicates_by_hand(const words *w, size_t n) {
    size_t sum = 0, visited[512], count = 0;
    for (size_t i = 0; i + n <= w->count;) {
        bool found = false;
        for (size_t k = 0; k < count && !found; k++) found = same(w, visited[k], i, n);
        if (found) {
            sum += length(w, i, n);
            i += n;
        } else {
            visited[count++] = i++;
        }
    }
    return sum;
}

/* Few different words of different lengths, so that everything repeats. */
static size_t make_text(weft_rng r, char text[4096]) {
    static const char *const vocabulary[] = {"a", "bb", "\u00e4", "ccc.", "\u65e5\u672c", "d,"};
    size_t bytes = 0;
    uint64_t at = 0, kinds = 2 + weft_rng_below(r, at++, COUNT(vocabulary) - 1);
    uint64_t count = weft_rng_below(r, at++, 300);
    for (uint64_t i = 0; i < count; i++) {
        uint64_t word = weft_rng_below(r, at++, kinds);
        bytes += (size_t)sprintf(text + bytes, "%s%s", vocabulary[word], i % 7 ? " " : "\n");
    }
    return bytes;
}

START_TEST(ngrams_as_by_hand) {
    filtered f;
    weft_words *splitter;
    filtered_open(&f, "gopher_repetition", NULL);
    ck_assert_int_eq(weft_words_new(&splitter), WEFT_OK);
    for (uint64_t seed = 0; seed < 60; seed++) {
        char text[4096], name[64];
        size_t bytes = make_text(weft_rng_make(seed, "repetition"), text);
        words w = {.text = text};
        if (bytes == 0) continue;
        ck_assert_int_eq(weft_words_split(splitter, text, bytes, &w.at, &w.count), WEFT_OK);
        filtered_run(&f, text, bytes, NULL, NULL);
        for (size_t n = 2; n <= 10; n++) {
            snprintf(name, sizeof name, n < 5 ? "max_top_%zu_gram" : "max_duplicate_%zu_grams", n);
            double expected = (double)(n < 5 ? top_by_hand(&w, n) : duplicates_by_hand(&w, n));
            ck_assert_msg(filtered_value(&f, name) == expected / (double)characters(text, bytes),
                          "%s of seed %d", name, (int)seed);
        }
    }
    weft_words_free(splitter);
    filtered_close(&f);
}
END_TEST

/* ---- code ---- */

START_TEST(comments) {
    static const struct {
        const char *file, *text;
        double comment; /* characters; -1: the rule does not apply */
    } t[] = {
        {"a.c", "/* \u00e4 */x//y\nz", 7 + 3},
        {"dir.x/a.CPP", "\"//\" '\"' /*", 2},
        {"a.js", "s = \"a\\\"//b\"; // c", 4},
        {"a.c", "\"open\n// c", 4}, /* a string ends with its line */
        {"a.py", "x = '#'\n# c\ns = '''#'''\ndef f():\n  '''\u00e4\n#'''\n", 3 + 9},
        {"a.py.gz", "x#c", 2},
        {"a.sh", "echo $# ${x#y} # c\n#d", 3 + 2},
        {"a.pm", "=x y\n#z\n=cut\nx\n =y # c\n=> '#'\n=head1\nd", 12 + 3 + 8},
        {"a.sql", "select '--' -- c\n/* d */", 4 + 7},
        {"a.lua", "--[[ a\nb ]] c -- d", 11 + 4},
        {"a.hs", "f' = x' -- c {- d\n{- e -}", 9 + 7},
        {"a.html", "<p>'<!-- c -->'", 10},
        {"a.css", "a // b /* c */", 7},
        {"a.php", "# a\n// b\n/* c */", 3 + 4 + 7},
        {"a.tex", "50 % c", 3},
        {"a.txt", "// x", -1},
        {"Makefile", "# x", -1},
        {"a.", "# x", -1},
        {"", "# x", -1},
    };
    filtered f;
    filtered_open(&f, "code", NULL);
    for (size_t i = 0; i < COUNT(t); i++) {
        size_t bytes = strlen(t[i].text);
        filtered_run(&f, t[i].text, bytes, NULL, t[i].file);
        double least = filtered_value(&f, "min_comments"), most = filtered_value(&f, "max_comments");
        double share = t[i].comment / (double)characters(t[i].text, bytes);
        bool right =
            t[i].comment < 0 ? least == INFINITY && most == -INFINITY : least == share && most == share;
        ck_assert_msg(right, "%s: %s: %g", t[i].file, t[i].text,
                      least * (double)characters(t[i].text, bytes));
    }
    filtered_close(&f);
}
END_TEST

START_TEST(visible_text) {
    static const struct {
        const char *text;
        double visible;
    } t[] = {
        {"<a href='x'>\u00e4b</a> c<br/>", 4},
        {"<script type=a>if (a<b) \"</p>\"</script>d<SCRIPTS>e</SCRIPTS>", 2},
        {"<style>a</STYLE >b<!-- <c> -->d<unclosed", 2},
        {"<script>never closed </p>", 0},
        {"a&amp;b & c&; &abcdefghijk;", 9 + 14}, /* a reference is one character */
    };
    filtered f;
    filtered_open(&f, "code", NULL);
    for (size_t i = 0; i < COUNT(t); i++) {
        size_t bytes = strlen(t[i].text);
        filtered_run(&f, t[i].text, bytes, NULL, "x.htm");
        double n = filtered_value(&f, "min_visible") * (double)characters(t[i].text, bytes);
        ck_assert_msg(fabs(n - t[i].visible) < 1e-9, "%s: %g", t[i].text, n);
        filtered_run(&f, t[i].text, bytes, NULL, "x.c");
        ck_assert_double_eq(filtered_value(&f, "min_visible"), INFINITY);
    }
    filtered_close(&f);
}
END_TEST

/* ---- lists ---- */

START_TEST(urls) {
    const char *list =
        filtered_file("# bad ones\n\nBad.example\r\n  *.worse.example \nhttp://www.only.example/\n"
                      "https://user@site.example:8080/private/A\nsite2.example?q=\n[::1]\n");
    static const struct {
        const char *url;
        bool listed, word;
    } t[] = {
        {"http://bad.example/x", true, false},
        {"HTTPS://BAD.EXAMPLE", true, false},
        {"http://a.b.bad.example:80?x", true, false},
        {"//bad.example./", true, false},
        {"bad.example/x", true, false},
        {"http://notbad.example/", false, false},
        {"http://bad.example.org/", false, false},
        {"http://example/bad.example", false, false},
        {"http://bad.example@good.example/", false, false},
        {"http://good.example@bad.example/", true, false},
        {"http://x.worse.example/", true, false},
        {"http://www.only.example/", true, false},
        {"http://sub.www.only.example", true, false},
        {"http://only.example/", false, false}, /* the list names www. */
        {"http://site.example/private/A", true, false},
        {"http://www.site.example/private/Ab/c", true, false},
        {"http://site.example/private/a", false, false}, /* paths tell cases apart */
        {"http://site.example/", false, false},
        {"http://sub.site.example/private/A", false, false},
        {"http://site2.example?q=1", true, false},
        {"http://[::1]:80/x", true, false},
        {"http://good.example/CASINO-royale", false, true},
        {"http://good.example/x?to=bad.example/free+money", false, true},
        {"", false, false},
    };
    filtered f;
    filtered_open(&f, "url_list", WITH("list", list, "words", "casino, Free+Money"));
    for (size_t i = 0; i < COUNT(t); i++) {
        filtered_run(&f, "text", 4, t[i].url, NULL);
        ck_assert_msg(filtered_value(&f, "listed") == t[i].listed, "%s", t[i].url);
        ck_assert_msg(filtered_value(&f, "word") == t[i].word, "%s", t[i].url);
        ck_assert(filtered_value(&f, "no_url") == (*t[i].url == '\0'));
    }
    filtered_close(&f);
    filtered_open(&f, "url_list", WITH("words", "casino"));
    filtered_run(&f, "text", 4, "http://bad.example/", NULL);
    ck_assert(filtered_value(&f, "listed") == 0);
    filtered_close(&f);
}
END_TEST

START_TEST(listed_words) {
    const char *list = filtered_file("# words\nFoo\r\n  bar baz quux\nbar  rye\n\u00c4rger\nC++\nbaz");
    static const struct {
        const char *text;
        int listed;
    } t[] = {
        {"food barfoo foobar words", 0},
        {"FOO, foo. (foo)", 3},
        {"bar", 0},
        {"bar baz", 1}, /* baz alone */
        {"bar\nbaz QUUX", 2},
        {"bar bar rye", 1},
        {"bar, rye", 0},
        {"\u00e4RGER", 1},
        {"in C++ and C+ and C", 1},
        {"nothing", 0},
    };
    filtered f;
    filtered_open(&f, "word_list", WITH("list", list));
    for (size_t i = 0; i < COUNT(t); i++) {
        run(&f, t[i].text);
        ck_assert_msg(f.values[0] == t[i].listed, "%s: %g", t[i].text, f.values[0]);
        ck_assert_int_eq(weft_filter_verdict(f.kind, &f.kind->rules[0].bound, f.values),
                         t[i].listed ? 0 : -1);
    }
    filtered_close(&f);
}
END_TEST

/* ---- languages ---- */

#define ENGLISH                                                                                              \
    "The people of the village had never seen such a thing, and they talked about it for the whole of the "  \
    "winter, sitting by the fire with their children. "
#define GERMAN                                                                                               \
    "Die Leute im Dorf hatten so etwas noch nie gesehen, und sie sprachen den ganzen Winter lang "           \
    "dar\u00fcber, "                                                                                         \
    "w\u00e4hrend sie mit ihren Kindern am Feuer sa\u00dfen. "
#define CHINESE "\u6211\u4eec\u5728\u5b66\u4e60\u4e2d\u6587\uff0c\u8fd9\u662f\u4e00\u4e2a\u53e5\u5b50\u3002"

START_TEST(languages) {
    static const struct {
        const char *codes, *text;
        bool other, undecided;
    } t[] = {
        {"en", ENGLISH, false, false},    {"de", ENGLISH, true, false},      {"en", GERMAN, true, false},
        {"en, de", GERMAN, false, false}, {"zh", CHINESE, false, false},     {"zh-CN", CHINESE, false, false},
        {"en", CHINESE, true, false},     {"en", "12345 6789", false, true},
    };
    for (size_t i = 0; i < COUNT(t); i++) {
        filtered f;
        filtered_open(&f, "language", WITH("languages", t[i].codes));
        run(&f, t[i].text);
        ck_assert_msg(filtered_value(&f, "other_language") == t[i].other, "%s: %s", t[i].codes, t[i].text);
        ck_assert_msg(filtered_value(&f, "undecided") == t[i].undecided, "%s: %s", t[i].codes, t[i].text);
        filtered_close(&f);
    }
}
END_TEST

/* Only the first 4096 bytes count, cut between characters. */
START_TEST(only_the_beginning_is_classified) {
    char text[16384] = "";
    while (strlen(text) < 4096) strcat(text, CHINESE);
    while (strlen(text) < 15000) strcat(text, ENGLISH);
    filtered f;
    filtered_open(&f, "language", WITH("languages", "zh"));
    run(&f, text);
    ck_assert(filtered_value(&f, "other_language") == 0 && filtered_value(&f, "undecided") == 0);
    filtered_close(&f);
}
END_TEST

/* ---- options ---- */

START_TEST(wrong_options) {
    const char *empty = filtered_file("# nothing\n\n"), *no_word = filtered_file("\xe2\x80\x8b\n"),
               *no_host = filtered_file("http:///path\n");
    const struct {
        const char *kind, *const *options, *says;
    } t[] = {
        {"c4", WITH("skip", "citation"), "\"citation\""},
        {"c4", WITH("skip", ""), "\"\""},
        {"c4", WITH("min_words_per_line", "three"), "min_words_per_line"},
        {"c4", WITH("max_word_characters", "-1"), "\"-1\""},
        {"language", NULL, "languages"},
        {"language", WITH("languages", "en,xx"), "\"xx\""},
        {"language", WITH("languages", "e"), "\"e\""},
        {"language", WITH("languages", "en,"), "\"\""},
        {"url_list", NULL, "list"},
        {"url_list", WITH("list", "/nonexistent/list"), "/nonexistent/list"},
        {"url_list", WITH("list", empty), "no entry"},
        {"url_list", WITH("list", no_host), "http:///path"},
        {"url_list", WITH("words", "a,,b"), "empty word"},
        {"word_list", NULL, "list"},
        {"word_list", WITH("list", empty), "no word"},
        {"word_list", WITH("list", no_word), "no word"},
        {"word_list", WITH("list", "/nonexistent/list"), "/nonexistent/list"},
    };
    for (size_t i = 0; i < COUNT(t); i++) {
        filtered f;
        capture();
        weft_status st = filtered_try(&f, t[i].kind, t[i].options);
        release();
        ck_assert_msg(st == WEFT_EINPUT || st == WEFT_EIO, "%s: case %d", t[i].kind, (int)i);
        ck_assert_msg(strstr(message, t[i].says) != NULL, "%s: case %d: %s", t[i].kind, (int)i, message);
        ck_assert_int_eq(lines(message), 1);
        ck_assert_ptr_null(f.state);
        weft_words_free(f.words);
    }
}
END_TEST

SUITE_MAIN("filters_text", c4_lines, c4_options, c4_sentences, ngrams_as_by_hand, comments, visible_text,
           urls, listed_words, languages, only_the_beginning_is_classified, wrong_options)
