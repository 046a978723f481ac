/* data/text/normalise: what documents are turned into, and the form that is compared. */
#include "data/text/normalise.h"
#include "support/suite.h"

#include <string.h>
#include <unicode/unorm2.h>
#include <unicode/ustring.h>
#include <unicode/utf8.h>

/* In an allocation of its own, so that the sanitizer sees a read past the end; "" where that is empty. */
static weft_text out;
static const char *result(weft_status st, const char *copy) {
    ck_assert_int_eq(st, WEFT_OK);
    free((char *)copy);
    ck_assert_int_eq(weft_text_append(&out, "", 1), WEFT_OK);
    return out.data;
}
static const char *exact(const char *text, size_t bytes) {
    char *copy = malloc(bytes + !bytes);
    memcpy(copy, text, bytes);
    return copy;
}
static const char *normalised(weft_normalise_options o, const char *text) {
    const char *copy = exact(text, strlen(text));
    return result(weft_normalise(&o, copy, strlen(text), &out), copy);
}
static const char *compared(const char *text) {
    const char *copy = exact(text, strlen(text));
    return result(weft_normalise_compared(copy, strlen(text), &out), copy);
}

static const weft_normalise_options all = {true, true, true, true};

START_TEST(nothing_asked_changes_nothing) {
    static const char text[] = " \r\n\x01 e\u0301\ufeff \n\n\n\n x \r";
    ck_assert_str_eq(normalised((weft_normalise_options){0}, text), text);
}
END_TEST

START_TEST(newlines) {
    weft_normalise_options o = {.newlines = true};
    ck_assert_str_eq(normalised(o, "a\r\nb\rc\n\r\r\nd\r"), "a\nb\nc\n\n\nd\n");
    ck_assert_str_eq(normalised(o, "é\r\n\x01"), "é\n\x01");
}
END_TEST

START_TEST(controls) {
    weft_normalise_options o = {.controls = true};
    ck_assert_str_eq(normalised(o, "a\x01\x02\tb\n\x7f\x1b[0m\r\xc2\x80\xc2\x9f\xc2\xa0"), "a\tb\n[0m\u00a0");
    ck_assert_str_eq(normalised(o, "\ufeffa\ufeff\ufffd\xef\xbf\xbe\xef\xbf\xbf"), "a\ufffd");
    const char *zeros = exact("a\0b\0", 4);
    ck_assert_str_eq(result(weft_normalise(&o, zeros, 4, &out), zeros), "ab");
}
END_TEST

START_TEST(trimming) {
    weft_normalise_options o = {.trim = true};
    static const char *const cases[][2] = {{"", ""},
                                           {" ", ""},
                                           {"\n", ""},
                                           {"a", "a"},
                                           {"a\n", "a"},
                                           {"\n \n  a", "  a"},
                                           {"a \t\nb\u3000\u00a0\nc ", "a\nb\nc"},
                                           {"a\n\nb", "a\n\nb"},
                                           {"a\n\n\nb", "a\n\nb"},
                                           {"a\n \n\t\n\n\n  b\n\n\n", "a\n\n  b"},
                                           {"a \nb", "a\nb"},
                                           {"a\n\t\n \nb", "a\n\nb"},
                                           {"a\r\nb", "a\nb"},
                                           {"é\n\n\né", "é\n\né"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        ck_assert_str_eq(normalised(o, cases[i][0]), cases[i][1]);
}
END_TEST

START_TEST(composition) {
    weft_normalise_options o = {.nfc = true};
    static const char *const cases[][2] = {{"cafe\u0301 e\u0301", "café é"},
                                           {"\u1112\u1161\u11ab", "한"},
                                           {"\u2126 \u212b \uf900", "Ω Å 豈"},
                                           {"a\u0323\u0307 a\u0307\u0323", "ạ\u0307 ạ\u0307"},
                                           {"q\u031a\u0316", "q\u0316\u031a"},
                                           {"\u0958", "\u0915\u093c"},
                                           {" \u0301 \t\u0301\n", " \u0301 \t\u0301\n"},
                                           {"e\x01\u0301", "e\x01\u0301"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        ck_assert_str_eq(normalised(o, cases[i][0]), cases[i][1]);
}
END_TEST

/* Controls go before the composition, so that what they stood between is composed; white space after it. */
START_TEST(steps_together) {
    ck_assert_str_eq(normalised(all, "\ufeff\r\ne\x01\u0301 \r\n\r\n\r\n\r\nx\x02 \r\n"), "é\n\nx");
}
END_TEST

static uint32_t state = 1;
static uint32_t below(uint32_t n) {
    state = state * 1664525u + 1013904223u;
    return (uint32_t)(((uint64_t)state * n) >> 32);
}

static size_t random_text(const char *const *kinds, uint32_t count, uint32_t most, char *text) {
    size_t n = 0;
    for (uint32_t i = below(most + 1); i > 0; i--) {
        const char *kind = kinds[below(count)];
        memcpy(text + n, kind, strlen(kind));
        n += strlen(kind);
    }
    text[n] = '\0';
    return n;
}

static const char *const pieces[] = {"a",      "e",      "1",      ".",      " ",      " ",      "\n",
                                     "\n",     "\r",     "\t",     "\x01",   "\u0301", "\u0323", "\u0327",
                                     "é",      "\u212b", "\u1112", "\u1161", "\u11ab", "가",     "\u0958",
                                     "\u3000", "\u2028", "\ufeff", "日",     "Σ",      "\u0344", "\U0001d15e",
                                     "😀",      "\u0f73", "\u0f71", "\u00a0"};
enum { PIECES = sizeof pieces / sizeof *pieces };

/* ICU on the whole text at once; long texts are cut where there is no white space. */
START_TEST(composition_as_icu) {
    UErrorCode error = U_ZERO_ERROR;
    const UNormalizer2 *nfc = unorm2_getNFCInstance(&error);
    static char text[40000], want[160000];
    static UChar from[40000], to[120000];
    for (int t = 0; t < 30000; t++) {
        bool is_long = t % 1000 == 0;
        size_t n = random_text(pieces, PIECES, is_long ? 9000 : 12, text);
        for (size_t i = 0; is_long && i < n; i++)
            if (strchr(" \n\r\t", text[i])) text[i] = 'u';
        int32_t units, bytes;
        u_strFromUTF8(from, 40000, &units, text, (int32_t)n, &error);
        units = unorm2_normalize(nfc, from, units, to, 120000, &error);
        u_strToUTF8(want, sizeof want, &bytes, to, units, &error);
        ck_assert_int_eq(U_FAILURE(error), 0);
        if (strcmp(normalised((weft_normalise_options){.nfc = true}, text), want) != 0)
            ck_abort_msg("random text %d, of %zu bytes", t, n);
    }
}
END_TEST

START_TEST(once_is_enough) {
    char text[512];
    for (int t = 0; t < 30000; t++) {
        random_text(pieces, PIECES, 40, text);
        char *once = strdup(normalised(all, text));
        ck_assert_str_eq(normalised(all, once), once);
        ck_assert_ptr_null(strstr(once, "\n\n\n"));
        free(once);
    }
}
END_TEST

/* Texts and what datatrove 0.6's simplify_text makes of them. */
START_TEST(compared_as_datatrove) {
    static const char *const cases[][2] = {
        {"", ""},
        {"   \t\n ", ""},
        {"Hello, World!", "hello world"},
        {"It's 3.14, or 1,234,567.89?", "it s 0 or 0 0"},
        {"1.2.3 1..2 .5 5. a1b2 1,x", "0 0 0 0 0 0 a0b0 0 x"},
        {"tabs\tand\r\nnew\v\flines\x01\x1f\x7f"
         "end",
         "tabs and new lines end"},
        {"!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~", ""},
        {"École Île-de-France NAÏVE", "ecole ile de france naive"},
        {"“Curly” ‘quotes’ — it’s… done", "curly ‘quotes it s done"},
        {"e\u0301te\u0301 \u0301 a\u0301", "ete  a"},
        {"a \u0301 b", "a  b"},
        {"\u0301 a \u0301", "a"},
        {"1\u03012 ١٢٫٣،٤ ４．５ １２", "00 0،0 0 0 0"},
        {"1.\u0662 1\u23962 1\u23982\u23983", "0 0 0\u23980"},
        {"x\u00a0\u3000\u2003\u2028y", "x y"},
        {"İstanbul IĞDIR", "istanbul igdir"},
        {"ΟΔΥΣΣΕΥΣ ΣΑΣ Σ ΑΣ. ΑΣ.Α Σ\u0301Α \u00adΑΣ\u00ad", "οδυσσευς σας σ ας ασ α σα \u00adας\u00ad"},
        {"ẞ Ⱥ ǅ ﬁ \u212a \u212b", "ß ⱥ ǆ ﬁ k a"},
        {"\uac00\uac01 \ud55c\uad6d\uc5b4",
         "\u1100\u1161\u1100\u1161\u11a8 \u1112\u1161\u11ab\u1100\u116e\u11a8\u110b\u1165"},
        {"\uf900 \ufacf \U0001d7d8 \U00010400 😀!", "\u8c48 \U0002284a 0 \U00010428 😀"},
        {"« » „x” ´ ∶ ━ ► 、。〈〉《》「」【】！％（），．：；？～", "x"},
        {"‘ ″ • © ° ½ ²", "‘ ″ • © ° ½ ²"},
        {"\u037e\u1fef\u2000", ";`"},
        {"क\u094dष\u093f ไทย ש\u05b8\u05c1לו\u05b9ם", "कष\u093f ไทย שלום"},
        {"\u0f73\u0344\u0390", "ι"},
        {"a\u200bb\ufeffc\u00ad"
         "d",
         "a\u200bb\ufeffc\u00ad"
         "d"},
        {"Ω\u0308Σ", "ως"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        ck_assert_str_eq(compared(cases[i][0]), cases[i][1]);
}
END_TEST

/* Characters that become longer have room. */
START_TEST(compared_form_grows) {
    enum { TIMES = 20000 };
    static const char *const longer[][2] = {{"\uac01", "\u1100\u1161\u11a8"}, {"Ⱥ", "ⱥ"}};
    for (size_t k = 0; k < 2; k++) {
        size_t n = strlen(longer[k][0]), m = strlen(longer[k][1]);
        char *text = malloc(n * TIMES);
        for (size_t i = 0; i < TIMES; i++) memcpy(text + n * i, longer[k][0], n);
        weft_text fresh = {0};
        ck_assert_int_eq(weft_normalise_compared(text, n * TIMES, &fresh), WEFT_OK);
        ck_assert_uint_eq(fresh.bytes, m * TIMES);
        for (size_t i = 0; i < TIMES; i++)
            if (memcmp(fresh.data + m * i, longer[k][1], m) != 0) ck_abort();
        weft_text_free(&fresh);
        free(text);
    }
}
END_TEST

SUITE_MAIN("data/normalise", nothing_asked_changes_nothing, newlines, controls, trimming, composition,
           steps_together, composition_as_icu, once_is_enough, compared_as_datatrove, compared_form_grows)
