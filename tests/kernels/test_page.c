/* runtime/page: numbers as readers have them, and texts that are never markup. */
#include "runtime/page.h"
#include "support/suite.h"

#include <string.h>

/* ---- numbers ---- */

START_TEST(test_numbers) {
    ck_assert_str_eq(weft_page_count(0).text, "0");
    ck_assert_str_eq(weft_page_count(999).text, "999");
    ck_assert_str_eq(weft_page_count(1000).text, "1,000");
    ck_assert_str_eq(weft_page_count(INT64_MAX).text, "9,223,372,036,854,775,807");
    ck_assert_str_eq(weft_page_count(INT64_MIN).text, "\xe2\x88\x92"
                                                      "9,223,372,036,854,775,808");
    ck_assert_str_eq(weft_page_signed(1234).text, "+1,234");
    ck_assert_str_eq(weft_page_bytes(1).text, "1 byte");
    ck_assert_str_eq(weft_page_bytes(999).text, "999 bytes");
    ck_assert_str_eq(weft_page_bytes(1000).text, "1.00 kB");
    ck_assert_str_eq(weft_page_bytes(999949).text, "999.9 kB");
    ck_assert_str_eq(weft_page_bytes(999950).text, "1.00 MB");
    ck_assert_str_eq(weft_page_bytes(INT64_MAX).text, "9.22 EB");
    ck_assert_str_eq(weft_page_share(0, 0).text, "\xe2\x80\x93");
    ck_assert_str_eq(weft_page_share(0, 7).text, "0 %");
    ck_assert_str_eq(weft_page_share(7, 7).text, "100 %");
    ck_assert_str_eq(weft_page_share(1, 1000000).text, "&lt;0.01 %");
    ck_assert_str_eq(weft_page_share(999999, 1000000).text, "&gt;99.99 %");
    ck_assert_str_eq(weft_page_share(1, 3).text, "33.3 %");
    ck_assert_str_eq(weft_page_seconds(0.5).text, "0.50 s");
    ck_assert_str_eq(weft_page_seconds(59.96).text, "1 min 00 s");
    ck_assert_str_eq(weft_page_seconds(3599.6).text, "1 h 00 min");
}
END_TEST

/* ---- texts ---- */

/* The text as the page holds it. */
static void becomes(const char *text, size_t bytes, const char *expected) {
    char *written = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&written, &size);
    ck_assert_ptr_nonnull(out);
    weft_page_text(out, text, bytes);
    fclose(out);
    ck_assert_msg(strcmp(written, expected) == 0, "'%s', not '%s'", written, expected);
    free(written);
}
#define BECOMES(text, expected) becomes(text, sizeof(text) - 1, expected)
#define BAD "\xef\xbf\xbd"

START_TEST(test_markup) {
    BECOMES("<b a=\"1\" c='2'>&amp;", "&lt;b a=&quot;1&quot; c=&#39;2&#39;&gt;&amp;amp;");
    BECOMES("a\0\x01\x1b\x7f\n\t", "a\xe2\x90\x80\xe2\x90\x81\xe2\x90\x9b\xe2\x90\xa1\n\t");
}
END_TEST

START_TEST(test_utf8) {
    static const char good[] = "\xc3\xa9\xe3\x81\x82\xed\x9f\xbf\xef\xbf\xbc\xf0\x9f\x98\x80\xf4\x8f\xbf\xbd";
    BECOMES(good, good);
    BECOMES("\xc2\x85|\xef\xbf\xbe|\xef\xbf\xbf", BAD "|" BAD "|" BAD);
    BECOMES("\xff|\xe9t\xe9|\x80", BAD "|" BAD "t" BAD "|" BAD);               /* Latin-1, a lone tail */
    BECOMES("\xc0\xaf|\xe0\x80\xaf", BAD BAD "|" BAD BAD BAD);                 /* '/' written too long */
    BECOMES("\xed\xa0\x80|\xf4\x90\x80\x80", BAD BAD BAD "|" BAD BAD BAD BAD); /* a surrogate, too great */
    BECOMES("\xe3\x81", BAD BAD);                                              /* cut off */
}
END_TEST

START_TEST(test_title) {
    char *page = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&page, &size);
    ck_assert_ptr_nonnull(out);
    weft_page_begin(out, "a <b>", ".own{}\n");
    fclose(out);
    ck_assert_ptr_nonnull(strstr(page, "<title>a &lt;b&gt;</title>"));
    ck_assert_ptr_nonnull(strstr(page, "<h1>a &lt;b&gt;</h1>"));
    ck_assert_ptr_nonnull(strstr(page, ".own{}\n</style>"));
    ck_assert_ptr_nonnull(strstr(page, weft_page_style));
    free(page);
}
END_TEST

SUITE_MAIN("page", test_numbers, test_markup, test_utf8, test_title)
