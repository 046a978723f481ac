/* data/text/words: the words of a text, against cases by hand and against ICU over the whole text. */
#include "data/text/words.h"
#include "support/suite.h"

#include <stdio.h>
#include <string.h>
#include <unicode/ubrk.h>
#include <unicode/uchar.h>
#include <unicode/utext.h>
#include <unicode/utf8.h>

static weft_words *splitter(void) {
    static weft_words *w;
    if (!w) ck_assert_int_eq(weft_words_new(&w), WEFT_OK);
    return w;
}

/* ---- the contract, from ICU's segments of the whole text ---- */

typedef struct segments {
    UBreakIterator *breaks;
    UText text;
    weft_word words[4096];
    size_t count;
} segments;

static bool blank(UChar32 c) {
    return u_isUWhiteSpace(c) || u_charType(c) == U_CONTROL_CHAR ||
           u_hasBinaryProperty(c, UCHAR_DEFAULT_IGNORABLE_CODE_POINT);
}

static bool same_run(const char *text, const weft_word *last, const weft_word *next) {
    if (!last->symbol || !next->symbol || next->characters != 1 || last->start + last->bytes != next->start)
        return false;
    for (uint32_t i = 0; i < last->bytes; i++)
        if (text[last->start + i] != text[next->start + i % next->bytes]) return false;
    return last->bytes % next->bytes == 0;
}

static void take(segments *s, const char *text, int32_t from, int32_t to) {
    weft_word word = {.symbol = true};
    bool begun = false;
    for (int32_t i = from; i < to;) {
        uint32_t at = (uint32_t)i;
        UChar32 c;
        U8_NEXT(text, i, to, c);
        if (!begun && blank(c)) continue;
        if (!begun) word.start = at;
        begun = true;
        word.characters++;
        word.letters |= u_isUAlphabetic(c);
        word.symbol &= !u_isUAlphabetic(c) && !u_isdigit(c);
    }
    if (!begun) return;
    word.bytes = (uint32_t)to - word.start;
    if (s->count > 0 && same_run(text, &s->words[s->count - 1], &word)) {
        s->words[s->count - 1].bytes += word.bytes;
        s->words[s->count - 1].characters++;
        return;
    }
    if (s->count == sizeof s->words / sizeof *s->words) ck_abort();
    s->words[s->count++] = word;
}

/* ICU's own rules leave the annex for '@' (a letter, in version 72) and for Hangul syllables (apart from
 * digits and from other letters): it is given characters of the class that the annex has for them. Swedish
 * has the annex's colon, other languages have not. */
static void as_in_the_annex(char *text, size_t bytes) {
    for (size_t i = 0; i < bytes; i++) {
        if (text[i] == '@') text[i] = '#';
        UChar32 c = 0;
        size_t next = i;
        U8_NEXT(text, next, bytes, c);
        if (c >= 0xac00 && c <= 0xd7a3) memcpy(text + i, "\u1e01", 3);
    }
}

static segments *by_icu(const char *text, size_t bytes) {
    static segments s = {.text = UTEXT_INITIALIZER};
    UErrorCode error = U_ZERO_ERROR;
    char given[4096];
    if (bytes > sizeof given) ck_abort();
    memcpy(given, text, bytes);
    as_in_the_annex(given, bytes);
    if (!s.breaks) s.breaks = ubrk_open(UBRK_WORD, "sv", NULL, 0, &error);
    utext_openUTF8(&s.text, given, (int64_t)bytes, &error);
    ubrk_setUText(s.breaks, &s.text, &error);
    if (U_FAILURE(error)) ck_abort_msg("ICU: %s", u_errorName(error));
    s.count = 0;
    int32_t from = ubrk_first(s.breaks), to;
    while ((to = ubrk_next(s.breaks)) != UBRK_DONE) {
        take(&s, text, from, to);
        from = to;
    }
    return &s;
}

static void as_icu(const char *text, size_t bytes) {
    const weft_word *words;
    size_t count;
    /* Check writes a record for each assertion: here there are millions of cases. */
    if (weft_words_split(splitter(), text, bytes, &words, &count) != WEFT_OK) ck_abort();
    segments *want = by_icu(text, bytes);
    bool same = count == want->count;
    for (size_t i = 0; same && i < count; i++) {
        const weft_word *a = &words[i], *b = &want->words[i];
        same = a->start == b->start && a->bytes == b->bytes && a->characters == b->characters &&
               a->letters == b->letters && a->symbol == b->symbol;
    }
    if (same) return;
    char *got = NULL;
    size_t room = 0;
    FILE *f = open_memstream(&got, &room);
    for (size_t i = 0; i < bytes; i++) fprintf(f, "%02x ", (unsigned char)text[i]);
    for (size_t i = 0; i < count; i++) fprintf(f, "[%u+%u]", words[i].start, words[i].bytes);
    fprintf(f, " not ");
    for (size_t i = 0; i < want->count; i++)
        fprintf(f, "[%u+%u]", want->words[i].start, want->words[i].bytes);
    fclose(f);
    ck_abort_msg("%s", got);
}

/* ---- by hand ---- */

/* Words separated by '|'; "L" words with letters, "S" symbols, "N" others. */
static void are(const char *text, const char *want, const char *kinds) {
    char got[512] = "", kind[64] = "";
    const weft_word *words;
    size_t count, n = 0;
    ck_assert_int_eq(weft_words_split(splitter(), text, strlen(text), &words, &count), WEFT_OK);
    for (size_t i = 0; i < count; i++) {
        n += (size_t)snprintf(got + n, sizeof got - n, "%s%.*s", i ? "|" : "", (int)words[i].bytes,
                              text + words[i].start);
        kind[i] = words[i].letters ? 'L' : words[i].symbol ? 'S' : 'N';
        ck_assert_int_eq(words[i].letters && words[i].symbol, 0);
    }
    ck_assert_str_eq(got, want);
    ck_assert_str_eq(kind, kinds);
}

START_TEST(words_of_ascii) {
    are("", "", "");
    are(" \t\r\n\x01\x7f", "", "");
    are("The quick (\"brown\") fox can't jump 32.3 feet, right?",
        "The|quick|(|\"|brown|\"|)|fox|can't|jump|32.3|feet|,|right|?", "LLSSLSSLLLNLSLS");
    are("a.b a:b a'b a,b a;b a. .b", "a.b|a:b|a'b|a|,|b|a|;|b|a|.|.|b", "LLLLSLLSLLSSL");
    are("1.2 1:2 1'2 1,2 1;2 1. .2", "1.2|1|:|2|1'2|1,2|1;2|1|.|.|2", "NNSNNNNNSSN");
    are("a.1 1.a a1.2 1a.b x_1 _ __ _a", "a|.|1|1|.|a|a1.2|1a.b|x_1|_|__|_a", "LSNNSLLLLSSL");
    are("wait... what?! --- -- +++", "wait|...|what|?|!|---|--|+++", "LSLSSSSS");
    are("a..b 1,,2 a''b", "a|..|b|1|,,|2|a|''|b", "LSLNSNLSL");
}
END_TEST

START_TEST(words_of_other_scripts) {
    are("l\u2019été \u201cna\u00efve\u201d\u2014co\u00f6p",
        "l\u2019été|\u201c|na\u00efve|\u201d|\u2014|co\u00f6p", "LSLSSL");
    are("cafe\u0301s \u00a0\u3000\u200b\ufeff x", "cafe\u0301s|x",
        "LL"); /* marks join, blanks are no words */
    are("\u65e5\u672c\u8a9e\u30c6\u30b9\u30c8", "\u65e5\u672c\u8a9e|\u30c6\u30b9\u30c8",
        "LL");                                                                 /* a dictionary's */
    are("\u05e6\u05d4\"\u05dc \u05d2'", "\u05e6\u05d4\"\u05dc|\u05d2'", "LL"); /* quotes in Hebrew */
    are("\U0001f44d\U0001f3fd\U0001f44d \U0001f600\U0001f600 \u2026\u2026.",
        "\U0001f44d\U0001f3fd|\U0001f44d|\U0001f600\U0001f600|\u2026\u2026|.", "SSSSS");
    are("\U0001f1e9\U0001f1ea\U0001f1eb\U0001f1f7\U0001f1e9",
        "\U0001f1e9\U0001f1ea|\U0001f1eb\U0001f1f7|\U0001f1e9", "SSS");
    are("\u0661\u0662\u066b\u0663 \u00bd", "\u0661\u0662\u066b\u0663|\u00bd", "NS");
    are("\u202fx \u0301", "x|\u0301", "LS");
}
END_TEST

START_TEST(characters_are_counted_in_code_points) {
    static const char text[] = "naïve\u0301 日本 ascii …… \U0001f468\u200d\U0001f469";
    static const uint32_t want[] = {6, 2, 5, 2, 3};
    const weft_word *words;
    size_t count;
    ck_assert_int_eq(weft_words_split(splitter(), text, sizeof text - 1, &words, &count), WEFT_OK);
    ck_assert_uint_eq(count, 5);
    for (size_t i = 0; i < count; i++) ck_assert_uint_eq(words[i].characters, want[i]);
}
END_TEST

/* ---- against ICU ---- */

static uint32_t state = 1;
static uint32_t below(uint32_t n) {
    state = state * 1664525u + 1013904223u;
    return (uint32_t)(((uint64_t)state * n) >> 32);
}

/* Random texts of up to `most` of `letters`, strings one after the other, each ended by a zero. */
static void random_texts(const char *const *letters, uint32_t kinds, int texts, uint32_t most) {
    for (int t = 0; t < texts; t++) {
        char text[512];
        size_t n = 0;
        for (uint32_t i = below(most) + 1; i > 0; i--) {
            const char *letter = letters[below(kinds)];
            memcpy(text + n, letter, strlen(letter));
            n += strlen(letter);
        }
        /* An allocation of its own, so that the sanitizer sees a read past the end. */
        char *exact = malloc(n);
        memcpy(exact, text, n);
        as_icu(exact, n);
        free(exact);
    }
}

START_TEST(random_ascii_as_icu) {
    for (int t = 0; t < 20000; t++) {
        char text[64];
        size_t n = below(sizeof text);
        for (size_t i = 0; i < n; i++) text[i] = (char)below(128);
        as_icu(text, n);
    }
    static const char *const few[] = {"a", "b", "1", "2", "_", ".", ",", ":", ";", "'", "\"", " ", "-", "\n"};
    random_texts(few, sizeof few / sizeof *few, 100000, 12);
}
END_TEST

START_TEST(random_mixtures_as_icu) {
    static const char *const kinds[] = {
        "a",      "b",      "7",      "_",      ".",          ",",          ":",      "'",      "\"",
        " ",      " ",      "\r",     "\n",     "\t",         "é",          "Ж",      "ß",      "\u0301",
        "\u00ad", "\u200d", "\u200b", "\ufeff", "\u05d0",     "\u05d1",     "カ",     "ー",     "日",
        "本",     "ひ",     "ไ",      "ท",      "한",         "\u2019",     "\u2014", "\u2026", "\u00a0",
        "\u202f", "\u3000", "\u0661", "\u066b", "\U0001f600", "\U0001f1e6", "☺",      "\u2028", "\xc2\x85",
        "\u203f", "：",     "\u00b7", "\u0e33", "\U0001d7d8", "\U00010400", "…",      "\u0903", "\u0915"};
    random_texts(kinds, sizeof kinds / sizeof *kinds, 150000, 10);
    random_texts(kinds, sizeof kinds / sizeof *kinds, 3000, 100);
}
END_TEST

START_TEST(every_code_point_as_icu) {
    static const char *const around[][2] = {{"a", "b"},           {"1", "2"},  {"", "a"},
                                            {"1", "1"},           {" ", " a"}, {"a.", ""},
                                            {"\u05d0", "\u05d0"}, {"a", ".b"}, {"_", "_"}};
    for (UChar32 c = 1; c < 0x30000; c++) {
        /* Above the BMP one context will do: ICU cuts all of it. */
        if (U_IS_SURROGATE(c) || (c >= 0x10000 && c % 64 != 0)) continue;
        for (size_t k = 0; k < sizeof around / sizeof *around; k++) {
            char text[32];
            size_t n = strlen(strcpy(text, around[k][0]));
            U8_APPEND_UNSAFE(text, n, c);
            if (k == 3) U8_APPEND_UNSAFE(text, n, c);
            strcpy(text + n, around[k][1]);
            as_icu(text, strlen(text));
        }
    }
}
END_TEST

/* The array of words grows, and is used again. */
START_TEST(long_texts) {
    enum { TIMES = 100000, BYTES = 12, WORDS = 5 };
    char *text = malloc(BYTES * TIMES);
    for (int i = 0; i < TIMES; i++) memcpy(text + BYTES * i, "c\xc3\xa9 d ab, x ", BYTES);
    const weft_word *words;
    size_t count;
    ck_assert_int_eq(weft_words_split(splitter(), text, BYTES * TIMES, &words, &count), WEFT_OK);
    ck_assert_uint_eq(count, WORDS * TIMES);
    ck_assert_uint_eq(words[count - 1].start, BYTES * TIMES - 2);
    ck_assert_int_eq(weft_words_split(splitter(), text, 0, &words, &count), WEFT_OK);
    ck_assert_uint_eq(count, 0);
    free(text);
}
END_TEST

SUITE_MAIN("data/words", words_of_ascii, words_of_other_scripts, characters_are_counted_in_code_points,
           random_ascii_as_icu, random_mixtures_as_icu, every_code_point_as_icu, long_texts)
