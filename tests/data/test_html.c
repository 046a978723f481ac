/* data/source: the text of web pages. */
#include "data/source/html.h"
#include "data/source/source_json.h"
#include "support/suite.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

static weft_text text_of(const char *html, size_t bytes, const char *charset) {
    weft_text out = {0};
    ck_assert_int_eq(weft_text_append(&out, "what was there", 14), WEFT_OK);
    ck_assert_int_eq(weft_html_text(html, bytes, charset, &out), WEFT_OK);
    ck_assert_int_eq(weft_utf8_valid(out.data, out.bytes), true);
    size_t bytes_before_zero = out.bytes;
    ck_assert_int_eq(weft_text_append(&out, "", 1), WEFT_OK);
    ck_assert_uint_eq(strlen(out.data), bytes_before_zero);
    return out;
}

static void gives_in(const char *charset, const char *html, size_t bytes, const char *want) {
    weft_text out = text_of(html, bytes, charset);
    ck_assert_str_eq(out.data, want);
    weft_text_free(&out);
}

static void gives(const char *html, const char *want) {
    gives_in(NULL, html, strlen(html), want);
}

#define TEXT(s) s, sizeof s - 1

START_TEST(blocks_are_lines_and_paragraphs_are_apart) {
    gives("<h1>Head</h1>\n<p>one\n  two\t<b>three</b>,<i> four</i>\n</p><p>five",
          "Head\n\none two three, four\n\nfive");
    gives("<body>a<div>b<div>c</div></div>d<section>e</section>f", "a\nb\nc\nd\ne\nf");
    gives("one<br>two<br/><br>three<br><br><br><br>four", "one\ntwo\n\nthree\n\nfour");
    gives("<div><p>a</p></div>\n\n<div><div><p>b</p></div></div><hr>c", "a\n\nb\n\nc");
    gives("x<span>y</span><a href=#>z</a> <span> w </span> .", "xyz w .");
    gives("<blockquote>q</blockquote>t<dl><dt>term<dd>what it is<dt>b<dd>c</dl>",
          "q\n\nt\n\nterm\nwhat it is\nb\nc");
    gives("", "");
    gives("   \n<p>  </p><div></div>", "");
    gives("no tags & no <end", "no tags & no");
}
END_TEST

START_TEST(entities_are_resolved) {
    gives("<p>&lt;b&gt; &amp;amp; &eacute;&#233;&#xE9; &euro; &hellip; &#x1F600;&nbsp;x",
          "<b> &amp; \xc3\xa9\xc3\xa9\xc3\xa9 \xe2\x82\xac \xe2\x80\xa6 \xf0\x9f\x98\x80 x");
    gives("<p>it&#146;s &#147;so&#148; &#129;&#0;&#xD800;&#xFFFFFFF; &nosuch;",
          "it\xe2\x80\x99s \xe2\x80\x9cso\xe2\x80\x9d &nosuch;");
    gives("<p>hy&shy;phen&shy;", "hyphen");
    gives("<p title='&quot;'>a &quot;b&quot;</p>", "a \"b\"");
}
END_TEST

START_TEST(lists_are_marked) {
    gives("t<ul><li>a<li>b</ul>u", "t\n\n- a\n- b\n\nu");
    gives("<ul><li>a<ul><li>a1</li><li>a2<ol><li>x</li><li>y</li></ol></li></ul></li><li>b</li></ul>",
          "- a\n  - a1\n  - a2\n    1. x\n    2. y\n- b");
    gives("<ol start=3><li><p>three</p></li><li><div>four</div></li><li></li><li>five</ol>",
          "3. three\n\n4. four\n5. five");
    gives("<ul><li>a<li><p>b<li><p>c</p></ul>", "- a\n- b\n\n- c");
    gives("<li>alone", "- alone");
    gives("<ul></ul><ul><li></ul>x", "x");
}
END_TEST

START_TEST(cells_are_apart) {
    gives("<table><caption>C</caption><tr><th>h1<th>h2</tr><tr><td>a</td><td><p>b</p></td></tr></table>x",
          "C\nh1\th2\na\tb\n\nx");
    gives("<table><tbody><tr><td></td><td><div>a</div></td><td> </td><td>b</td></tr></tbody></table>",
          "a\tb");
    gives("<table><tr><td>a<p>b</td><td>c</td></tr><tr><td>d</table>", "a\n\nb\n\nc\nd");
    gives(
        "<table><tr><td><table><tr><td>i1<td>i2</tr></table></td><td>o</td></tr><tr><td>p<td>q</tr></table>",
        "i1\ti2\n\no\np\tq");
    gives("<table><tr><td><ul><li>a<li>b</ul></td><td>c</td></table>", "- a\n- b\n\nc");
}
END_TEST

START_TEST(pre_stands_as_it_is) {
    gives("a<pre>\n  one\n\n\n    two &lt;\t<b>three</b>  \n\n</pre>b",
          "a\n\n  one\n\n\n    two <\tthree  \n\nb");
    gives("<pre>x\r\ny\rz<br>w&nbsp;&nbsp;v</pre>", "x\ny\nz\nw  v");
    gives("<pre></pre><pre>\n\n</pre>a", "a");
}
END_TEST

START_TEST(what_is_no_text_is_left_out) {
    gives("<head><title>T</title><style>p{}</style><script>var a = '<p>no</p>';</script></head><p>yes",
          "yes");
    gives("<body>a<nav><ul><li>Home</ul></nav>b<noscript>on!</noscript><!-- c <p>d --><template>t</template>",
          "a\nb");
    gives("<header>site</header><article><header><h1>own</h1></header>x<footer>by</footer></"
          "article><footer>f</footer>",
          "own\n\nx\nby");
    gives("<form>kept <label>L</label><input value=v><select><option>o</select><textarea>t</textarea>"
          "<button>B</button> too</form>",
          "kept too");
    gives("a<p hidden>h</p><p style='color: red; DISPLAY : none'>i</p><p style=visibility:hidden>j<p>b",
          "a\n\nb");
    gives(
        "<body>a<div role=navigation><div>x</div></div><div ROLE='Banner'>y</div>b<dialog>d</dialog><dialog "
        "open>e</dialog>",
        "a\nb\ne");
    gives("<body>a<b hidden><b hidden>x</b>y</b>b<div hidden>x</div>c", "ab\nc");
    gives("<html hidden><body style='display:none'>shown by a script", "shown by a script");
    gives("a<svg><text>s</text><title>t</title></svg><iframe>f</iframe><video>v</video><object>o</object>b",
          "ab");
}
END_TEST

START_TEST(charsets_of_pages) {
    gives_in(NULL, TEXT("<p>caf\xe9 \x93q\x94"), "caf\xc3\xa9 \xe2\x80\x9cq\xe2\x80\x9d");
    gives_in(NULL, TEXT("<p>caf\xc3\xa9"), "caf\xc3\xa9");
    gives_in("windows-1251", TEXT("<meta charset=utf-8><p>\xcf\xf0\xe8"), "\xd0\x9f\xd1\x80\xd0\xb8");
    gives_in("nonsense",
             TEXT("<META http-equiv='Content-Type' content='text/html; charset=iso-8859-2'><p>\xb1"),
             "\xc4\x85");
    gives_in(NULL, TEXT("<?xml version=\"1.0\" encoding=\"euc-jp\"?><html><p>\xc6\xfc</p></html>"),
             "\xe6\x97\xa5");
    gives_in(NULL, TEXT("<meta charset=\"utf-16\"><p>\xc3\xa9"), "\xc3\xa9");
    gives_in("iso-8859-1", TEXT("\xef\xbb\xbf<p>\xc3\xa9"), "\xc3\xa9");
    gives_in("utf-8", TEXT("\xff\xfe<\0p\0>\0\xe9\0\x3d\xd8\0\xde"), "\xc3\xa9\xf0\x9f\x98\x80");
    gives_in("utf-8", TEXT("<p>bad \xff\xc3 \xe9t\xe9"),
             "bad \xef\xbf\xbd\xef\xbf\xbd \xef\xbf\xbdt\xef\xbf\xbd");
    gives_in(NULL, TEXT("<p>a\0b\0</p>\0c"), "ab\n\nc");
}
END_TEST

/* Long texts in a charset that the converter takes in parts, with characters across the parts. */
START_TEST(long_pages_in_other_charsets) {
    enum { WORDS = 40000 };
    char *html = malloc(4 * WORDS + 4), *want = malloc(7 * WORDS + 1);
    strcpy(html, "<p>");
    char *h = html + 3, *w = want;
    for (int i = 0; i < WORDS; i++) {
        h += sprintf(h, "%s\x93\xfa", i % 7 ? "" : "a");
        w += sprintf(w, "%s\xe6\x97\xa5", i % 7 ? "" : "a");
    }
    gives_in("shift_jis", html, (size_t)(h - html), want);
    free(html);
    free(want);
}
END_TEST

START_TEST(broken_markup) {
    gives("<p>a<b>b<i>c</b>d</i></p></div></span>e", "abcd\n\ne");
    gives("<div<p>x</p", "x");
    gives("<p class=\"a>b</p><p>c</p>", "");
    gives("a<!-- never closed <p>b", "a");
    gives("<ul><li>a</div><li>b</p></table>c", "- a\n- bc");
    gives("</p></p><p/>x<p / a=b =c '>y", "x\n\ny");
    gives("<script>never closed <p>x", "");
    gives("</ul></ol></table></pre></article>x</main></tr></td>y", "xy");
}
END_TEST

static char *repeated(const char *before, const char *open, const char *text, const char *close, size_t times,
                      size_t *bytes) {
    char *out;
    FILE *f = open_memstream(&out, bytes);
    fputs(before, f);
    for (size_t i = 0; i < times; i++) fputs(open, f);
    fputs(text, f);
    for (size_t i = 0; i < times; i++) fputs(close, f);
    fclose(f);
    return out;
}

/* The stack holds, nothing is quadratic, and the rest of the page is there. */
START_TEST(nothing_is_too_deep) {
    static const struct {
        const char *open, *text, *close, *want;
    } cases[] = {
        {"<div>", "deep", "</div>", "deep"},       {"<span>", "deep", "</b>", "deep"},
        {"<div><font>", "deep", "</div>", "deep"}, {"<table><tr><td>", "deep", "</td></tr></table>", "deep"},
        {"<b hidden>", "deep", "</b>", "begin"},   {"<a b=c ", ">deep", "", "deep"},
        {"<pre>", "deep", "</pre>", "deep"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t bytes;
        char *html = repeated("<p>begin</p>", cases[i].open, cases[i].text, cases[i].close, 100000, &bytes);
        weft_text out = text_of(html, bytes, NULL);
        ck_assert_msg(strncmp(out.data, "begin", 5) == 0 && strstr(out.data, cases[i].want), "%zu: no '%s'",
                      i, cases[i].want);
        weft_text_free(&out);
        free(html);
    }
    size_t bytes;
    char *html = repeated("<p><span hidden>", "<b>", "x</span>end", "", 100000, &bytes);
    gives(html, "end");
    free(html);
    html = repeated("", "<ul><li>", "deep", "", 100000, &bytes);
    gives(html, "                              - deep"); /* 15 lists around its own are shown */
    free(html);
}
END_TEST

START_TEST(a_tag_has_an_end_of_attributes) {
    char *html;
    size_t bytes;
    FILE *f = open_memstream(&html, &bytes);
    fprintf(f, "<p>a</p><p ");
    for (int i = 0; i < 100000; i++) fprintf(f, " a%d ", i);
    fprintf(f, ">b</p><p ");
    for (int i = 0; i < 100000; i++)
        fprintf(f, "\xc3\xa9%d=\"x > y\"", i); /* it does not end inside a character */
    fprintf(f, ">b</p>");
    fclose(f);
    weft_text out = text_of(html, bytes, NULL);
    ck_assert_int_eq(strncmp(out.data, "a\n\n", 3), 0);
    ck_assert_str_eq(out.data + out.bytes - 3, ">b");
    weft_text_free(&out);
    free(html);
    html = repeated("<p title=\"", "x ", "\">kept", "", 5000, &bytes); /* one attribute, of many words */
    gives(html, "kept");
    free(html);
}
END_TEST

static void *many(void *arg) {
    (void)arg;
    for (int i = 0; i < 200; i++) gives("<p>&eacute;<ul><li>x</ul>", "\xc3\xa9\n\n- x");
    return NULL;
}

START_TEST(pages_in_several_threads) {
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) ck_assert_int_eq(pthread_create(&threads[i], NULL, many, NULL), 0);
    for (int i = 0; i < 4; i++) ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
}
END_TEST

SUITE_MAIN("data/source: HTML", blocks_are_lines_and_paragraphs_are_apart, entities_are_resolved,
           lists_are_marked, cells_are_apart, pre_stands_as_it_is, what_is_no_text_is_left_out,
           charsets_of_pages, long_pages_in_other_charsets, broken_markup, nothing_is_too_deep,
           a_tag_has_an_end_of_attributes, pages_in_several_threads)
