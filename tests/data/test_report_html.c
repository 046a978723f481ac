/* data/build/report_html: the page says the numbers of the report, holds the web's texts as texts, and is
 * well-formed whatever is missing. */
#include "data/build/report_html.h"
#include "data/build/report_html_parts.h"
#include "support/json.h"
#include "support/markup.h"
#include "support/suite.h"

#include <string.h>

static page page_of(const json_t *report, const json_t *times) {
    char *html;
    size_t bytes;
    ck_assert_int_eq(weft_report_html(report, times, &html, &bytes), WEFT_OK);
    return page_parse(html, bytes);
}

/* ---- a report ---- */

/* web: 1500 read, 60 + 200 + 40 dropped, 1200 left; code: 500 read, 10 dropped, 490 left. */
static const char report_text[] =
    "{'files': [{'file': '/data/a.jsonl', 'documents': 1200, 'bytes': 900500, 'malformed': 3, 'empty': 7, "
    "'oversize': 0,"
    "  'invalid': 0, 'repaired': 2, 'other': 0, 'damaged': 0, 'skipped_bytes': 4321},"
    " {'file': '/data/b.warc.gz', 'documents': 800, 'bytes': 500000, 'malformed': 0, 'empty': 0, 'oversize': "
    "0,"
    "  'invalid': 0, 'repaired': 0, 'other': 55, 'damaged': 1, 'skipped_bytes': 0}],"
    "'steps': [{'step': 'gopher_quality', 'domains': ["
    "   {'domain': 'web', 'dropped': 60, 'dropped_bytes': 6000, 'changed': 4, 'gained_bytes': -500},"
    "   {'domain': 'code', 'dropped': 0, 'dropped_bytes': 0, 'changed': 0, 'gained_bytes': 0}]},"
    " {'step': 'exact', 'domains': ["
    "   {'domain': 'web', 'dropped': 200, 'dropped_bytes': 100000, 'changed': 0, 'gained_bytes': 0},"
    "   {'domain': 'code', 'dropped': 10, 'dropped_bytes': 4000, 'changed': 0, 'gained_bytes': 0}]},"
    " {'step': 'near', 'domains': ["
    "   {'domain': 'web', 'dropped': 40, 'dropped_bytes': 30000, 'changed': 0, 'gained_bytes': 0},"
    "   {'domain': 'code', 'dropped': 0, 'dropped_bytes': 0, 'changed': 0, 'gained_bytes': 0}]},"
    " {'step': 'scrub', 'domains': ["
    "   {'domain': 'web', 'dropped': 0, 'dropped_bytes': 0, 'changed': 25, 'gained_bytes': 100},"
    "   {'domain': 'code', 'dropped': 0, 'dropped_bytes': 0, 'changed': 5, 'gained_bytes': -350}]}],"
    "'filters': [{'filter': 'gopher_quality', 'tag': false, 'domains': 'web', 'rules': ["
    "   {'rule': 'min_words', 'kind': 'min', 'scale': 'count', 'bound': 50, 'documents': 45, 'bytes': 4500,"
    "    'meaning': 'words', 'source': 'Rae et al. 2021', 'histogram': [0,0,0,0,10,35,20,400,1035]},"
    "   {'rule': 'max_hash', 'kind': 'max', 'scale': 'share', 'bound': 0.1, 'documents': 5, 'bytes': 500,"
    "    'meaning': '# per word', 'source': 'Rae et al. 2021', 'histogram': "
    "[1400,50,30,5,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,"
    "    0,0,0,0,0,0,0,0,0,0,0,8,7]},"
    "   {'rule': 'max_bullets', 'kind': 'max', 'scale': 'share', 'bound': null, 'documents': 0, 'bytes': 0,"
    "    'meaning': 'bullets', 'source': 'Rae et al. 2021', 'histogram': [1500]}]}],"
    "'examples': {'gopher_quality.min_words': [{'file': '/data/a.jsonl', 'place': 1234, 'value': 12, 'text': "
    "'Go away.'}]},"
    "'domains': [{'domain': 'code', 'split': 'train', 'documents': 480, 'bytes': 245000, 'tokens': 70000, "
    "'shards': 2},"
    " {'domain': 'code', 'split': 'heldout', 'documents': 10, 'bytes': 5000, 'tokens': 1250, 'shards': 1},"
    " {'domain': 'web', 'split': 'train', 'documents': 1190, 'bytes': 1000000, 'tokens': 250000, 'shards': "
    "3},"
    " {'domain': 'web', 'split': 'heldout', 'documents': 10, 'bytes': 9750, 'tokens': 2500, 'shards': 1}],"
    "'exact': {'documents': 1940, 'clusters': 150, 'dropped': 210},"
    "'lines': {'pieces': 123456, 'dropped': 1234},"
    "'near': {'bands': 14, 'rows': 8, 'threshold': 0.8, 'groups': 77, 'largest_group': 19, "
    "'pairs_with_repeats': 4000,"
    "  'pairs': 1111, 'verified': 111, 'similarity': [0,0,0,0,0,0,0,0,0,0,900,50,30,10,5,5,40,40,0,31], "
    "'clusters': 30,"
    "  'documents': 70, 'dropped': 40, 'largest': 9, 'sizes': [0,25,4,1,0,0], 'rounds': 6,"
    "  's_curve': [[0.5, 0.053], [0.75, 0.772], [0.8, 0.924]]},"
    "'substring': {'parts': 3, 'masked_tokens': 98765}, 'contaminated_places': 4242,"
    "'scrubbed': {'email': 31313, 'ip': 17, 'phone': 9}}";
static const char times_text[] = "[['read', 4000], ['clean', 95.5], ['near-verify', 0]]";

static page whole_page(void) {
    json_t *report = json_of(report_text), *times = json_of(times_text);
    page p = page_of(report, times);
    json_decref(report);
    json_decref(times);
    return p;
}

/* ---- what the page says ---- */

#define ACCOUNT "/html/body/main/section[@id='account']"
START_TEST(test_account) {
    page p = whole_page();
    says(&p, "//p[@class='lead']",
         "Of 2,000 documents (1.40 MB) that were read, 1,690 (1.26 MB) are left: 84.5 % of the documents, "
         "90.0 % of the "
         "bytes, 323,750 tokens.");
    ck_assert_int_eq(count(&p, "//p[@class='warning']"), 0);
    row_says(&p, ACCOUNT "/div//tbody/tr[1]",
             "gopher_qualityfilter||2,000|60|3.0 %|4|1,400,500|6,000|\xe2\x88\x92"
             "500|1,394,000");
    row_says(&p, ACCOUNT "/div//tbody/tr[2]",
             "exactexact copies||1,940|210|10.8 %|0|1,394,000|104,000|0|1,290,000");
    row_says(&p, ACCOUNT "/div//tbody/tr[4]",
             "scrubpersonal data||1,690|0|0 %|30|1,260,000|0|\xe2\x88\x92"
             "250|1,259,750");
    row_says(&p, ACCOUNT "/div//tbody/tr[5]",
             "all steps|84.5 %|2,000|310|15.5 %||1,400,500|140,000|\xe2\x88\x92"
             "750|1,259,750");
    page_end(&p);
}
END_TEST

START_TEST(test_account_of_domains) {
    page p = whole_page();
    ck_assert_int_eq(count(&p, ACCOUNT "/details"), 2);
    says(&p, ACCOUNT "/details[1]/summary", "web 1,200 of 1,500 documents left (80.0 %), 1.01 MB");
    row_says(&p, ACCOUNT "/details[1]//tbody/tr[3]",
             "nearnear duplicates||1,240|40|3.2 %|0|1,039,650|30,000|0|1,009,650");
    row_says(&p, ACCOUNT "/details[2]//tbody/tr[5]",
             "all steps|98.0 %|500|10|2.0 %||254,350|4,000|\xe2\x88\x92"
             "350|250,000");
    page_end(&p);
}
END_TEST

START_TEST(test_account_that_does_not_close) {
    json_t *report = json_of(report_text);
    json_object_set_new(json_array_get(json_object_get(report, "files"), 0), "documents", json_integer(1201));
    page p = page_of(report, NULL);
    ck_assert_int_eq(count(&p, "//p[@class='warning']"), 1);
    ck_assert_ptr_nonnull(strstr(p.html, "the files held 2,001 documents"));
    page_end(&p);
    json_decref(report);
}
END_TEST

START_TEST(test_tables) {
    page p = whole_page();
    row_says(&p, "//section[@id='files']//tbody/tr[1]", "/data/a.jsonl|1,200|900,500|3|7|0|0|2|0|0|4,321");
    row_says(&p, "//section[@id='files']//tbody/tr[2]", "/data/b.warc.gz|800|500,000|0|0|0|0|0|55|1|0");
    row_says(&p, "//section[@id='files']//tbody/tr[3]", "all 2|2,000|1,400,500|3|7|0|0|2|55|1|4,321");
    row_says(&p, "//section[@id='kept']//tbody/tr[1]", "code|train|480|245,000|70,000|21.6 %|3.50|2|");
    ck_assert_int_eq(count(&p, "//section[@id='kept']//tbody/tr"), 6);
    row_says(&p, "//section[@id='kept']//tbody/tr[5]",
             "all domains|train|1,670|1,245,000|320,000|98.8 %|3.89|5|");
    row_says(&p, "//section[@id='kept']//tbody/tr[6]", "all domains|heldout|20|14,750|3,750|1.2 %|3.93|2|");
    row_says(&p, "//section[@id='times']//tbody/tr[1]", "read|1 h 07 min|97.7 %|");
    row_says(&p, "//section[@id='times']//tbody/tr[2]", "clean|1 min 36 s|2.3 %|");
    row_says(&p, "//section[@id='times']//tbody/tr[3]", "near-verify|done before|0.0 %|");
    page_end(&p);
}
END_TEST

START_TEST(test_rules) {
    page p = whole_page();
    const char *const row = "//section[@id='filters']//tbody/tr[%d]/*[position()<6]";
    char path[200];
    static const char *const cells[3][5] = {
        {"min_wordswordsRae et al. 2021", "\xe2\x89\xa5 50", "45", "4,500", "3.0 %"},
        {"max_hash# per wordRae et al. 2021", "\xe2\x89\xa4 0.1", "5", "500", "0.33 %"},
        {"max_bulletsbulletsRae et al. 2021", "off", "0", "0", "0 %"}};
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 5; j++) {
            snprintf(path, sizeof path, row, i + 1);
            snprintf(path + strlen(path), sizeof path - strlen(path), "[%d]", j + 1);
            says(&p, path, cells[i][j]);
        }
    /* The step dropped 60, the rules 50: of 10 the filter's changes left nothing. */
    says(&p, "//section[@id='filters']//tbody/tr[4]/td[2]", "10");
    says(&p, "//section[@id='filters']//tbody/tr[4]/td[3]", "1,000");
    ck_assert_int_eq(count(&p, ACCOUNT "/div//a[@href='#filter-0']"), 1);
    ck_assert_int_eq(count(&p, "//h3[@id='filter-0']"), 1);
    says(&p, "//section[@id='filters']//pre", "Go away.");
    says(&p, "//section[@id='filters']//p[@class='from']", "/data/a.jsonl, line or record 1,234; signal 12");
    page_end(&p);
}
END_TEST

START_TEST(test_histograms) {
    page p = whole_page();
    /* min 50: bins to 32..63 are below; 64 and more stay. 9 bins on 320. */
    says(&p, "//section[@id='filters']//tbody/tr[1]//svg/rect[@class='bin'][1]",
         "64 to below 128: 400 documents");
    ck_assert_int_eq(count(&p, "//section[@id='filters']//tbody/tr[1]//svg/rect[@class='bin gone']"), 3);
    ck_assert_int_eq(count(&p, "//section[@id='filters']//tbody/tr[1]//svg/rect[@class='bin']"), 2);
    double mark = number(
        &p, "substring-before(substring-after(//section[@id='filters']//tbody/tr[1]//path[@class='mark']"
            "/@d, 'M'), ' ')");
    ck_assert_double_eq_tol(mark, (5.6438561897747244 + 1) * 320 / 9, 0.06); /* log2(50) */
    /* max 0.1: three bins of 1/30 stay; the next and those of 1 and more go; 7 have no value. */
    ck_assert_int_eq(count(&p, "//section[@id='filters']//tbody/tr[2]//svg/rect[@class='bin']"), 3);
    ck_assert_int_eq(count(&p, "//section[@id='filters']//tbody/tr[2]//svg/rect[@class='bin gone']"), 2);
    says(&p, "//section[@id='filters']//tbody/tr[2]//svg/rect[@class='bin gone'][2]",
         "1 and more: 8 documents");
    says(&p, "//section[@id='filters']//tbody/tr[2]//small[@class='none']", "without a value: 7");
    double wash = number(&p, "number(//section[@id='filters']//tbody/tr[2]//rect[@class='wash']/@x)");
    ck_assert_double_eq_tol(wash, 3 * 320.0 / 31, 0.06);
    /* Heights grow with the square root: 1400 against 50. */
    double full = number(&p, "number(//section[@id='filters']//tbody/tr[2]//rect[@class='bin'][1]/@height)");
    double less = number(&p, "number(//section[@id='filters']//tbody/tr[2]//rect[@class='bin'][2]/@height)");
    ck_assert_double_eq_tol(less / full, 0.1889822365, 0.01);
    /* Without a bound nothing is marked. */
    ck_assert_int_eq(count(&p, "//section[@id='filters']//tbody/tr[3]//*[@class='mark' or @class='wash']"),
                     0);
    page_end(&p);
}
END_TEST

#define DUPLICATES "//section[@id='duplicates']"
START_TEST(test_duplicates) {
    page p = whole_page();
    static const char *const figures[] = {"210", "150", "1,234", "40", "30", "1,111", "111", "77", "98,765"};
    for (int i = 0; i < 9; i++) {
        char path[120];
        snprintf(path, sizeof path, "(" DUPLICATES "//div[@class='tile']/b)[%d]", i + 1);
        says(&p, path, figures[i]);
    }
    ck_assert_ptr_nonnull(strstr(p.html, "with a probability of 92.4 %"));
    ck_assert_int_eq(count(&p, DUPLICATES "//svg[@class='chart']/rect"), 9);
    ck_assert_int_eq(count(&p, DUPLICATES "//svg[@class='chart']/rect[@class='bin gone']"), 3);
    says(&p, DUPLICATES "//svg[@class='chart']/rect[@class='bin gone'][1]", "0.80 to 0.85: 40 pairs");
    double first = number(&p, "number(" DUPLICATES "//svg[@class='chart']/rect[@class='bin gone'][1]/@x)");
    double mark = number(&p, "substring-before(substring-after(" DUPLICATES
                             "//svg[@class='chart']/path[@class='mark']/@d"
                             ", 'M'), ' ')");
    ck_assert_double_eq_tol(first, mark + 1, 0.06);
    ck_assert_int_eq(count(&p, DUPLICATES "//svg[@class='chart']/path[@class='curve']"), 1);
    row_says(&p, DUPLICATES "//tbody/tr[1]", "2 \xe2\x80\x93 3|25|");
    row_says(&p, DUPLICATES "//tbody/tr[3]", "8 \xe2\x80\x93 15|1|");
    ck_assert_int_eq(count(&p, DUPLICATES "//tbody/tr"), 3);
    says(&p, "//section[@id='changes']//div[@class='tile'][1]/b", "4,242");
    says(&p, "//section[@id='changes']//div[@class='tile'][2]/b", "31,313");
    page_end(&p);
}
END_TEST

/* ---- texts of the web ---- */

#define HOSTILE "</pre><script>alert(1)</script><img src=x onerror=alert(1)>&amp;\"'"

/* Every string of the report becomes hostile, but for those that say what a thing is. */
static void make_hostile(json_t *value) {
    const char *key;
    json_t *one;
    void *next;
    size_t i;
    json_object_foreach_safe(value, next, key, one) {
        bool keep = strcmp(key, "kind") == 0 || strcmp(key, "scale") == 0 || strcmp(key, "step") == 0 ||
                    strcmp(key, "filter") == 0 || strcmp(key, "rule") == 0;
        if (json_is_string(one) && !keep) json_object_set_new(value, key, json_string(HOSTILE));
        make_hostile(one);
    }
    json_array_foreach(value, i, one) make_hostile(one);
}

START_TEST(test_hostile_texts) {
    json_t *report = json_of(report_text), *times = json_pack("[[s, f]]", HOSTILE, 2.5);
    make_hostile(report);
    page p = page_of(report, times);
    ck_assert_int_eq(count(&p, "//script | //img | //link | //iframe | //object | //*[@src] | //@onerror"),
                     0);
    ck_assert_int_eq(count(&p, "//@href[not(starts-with(., '#'))]"), 0);
    says(&p, "//section[@id='filters']//pre", HOSTILE);
    says(&p, "//section[@id='files']//tbody/tr[1]//bdi", HOSTILE);
    says(&p, "//section[@id='times']//tbody/tr[1]/th", HOSTILE);
    says(&p, "//section[@id='kept']//tbody/tr[1]/td[1]", HOSTILE);
    page_end(&p);
    json_decref(report);
    json_decref(times);
}
END_TEST

START_TEST(test_hostile_names) {
    json_t *report = json_of("{'steps': [{'step': '<b>', 'domains': [{'domain': '<i>'}, {'domain': 'a&b'}]}],"
                             "'filters': [{'filter': '<b>', 'rules': [{'rule': '<u>', 'documents': 1}]}],"
                             "'examples': {'<b>.<u>': [{'text': 'x'}]}}");
    page p = page_of(report, NULL);
    ck_assert_int_eq(count(&p, "//b/b | //th/b | //a/b | //i[not(parent::small)] | //u"), 0);
    says(&p, ACCOUNT "/div//tbody/tr[1]/th/a", "<b>");
    says(&p, ACCOUNT "/details[1]/summary/b", "<i>");
    says(&p, "//section[@id='filters']//details//h4", "<u>");
    page_end(&p);
    json_decref(report);
}
END_TEST

/* What no page may hold: controls, a zero, U+FFFE. What it may: newlines, other scripts, four bytes. */
START_TEST(test_odd_characters) {
    static const char text[] = "a\0b\x01\x1b\x7f\r\n\tc\xc2\x85\xef\xbf\xbe\xef\xbf\xbf"
                               "\xd9\x85\xe3\x81\x82\xf0\x9f\x98\x80\xef\xbf\xbc";
    json_t *report =
        json_of("{'filters': [{'filter': 'c4', 'rules': [{'rule': 'r'}]}], 'examples': {'c4.r': [{}]}}");
    json_t *example = json_array_get(json_object_get(json_object_get(report, "examples"), "c4.r"), 0);
    json_object_set_new(example, "text", json_stringn(text, sizeof text - 1));
    page p = page_of(report, NULL);
    says(&p, "//pre",
         "a\xe2\x90\x80"
         "b\xe2\x90\x81\xe2\x90\x9b\xe2\x90\xa1\xe2\x90\x8d\n\tc\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"
         "\xd9\x85\xe3\x81\x82\xf0\x9f\x98\x80\xef\xbf\xbc");
    page_end(&p);
    json_decref(report);
}
END_TEST

/* ---- what may be missing ---- */

START_TEST(test_nothing) {
    json_t *empty = json_object();
    page none = page_of(NULL, NULL), p = page_of(empty, NULL);
    ck_assert_str_eq(none.html, p.html);
    ck_assert_int_eq(count(&p, "//section"), 0);
    ck_assert_int_eq(count(&p, "//nav/a"), 0);
    ck_assert_int_eq(count(&p, "//h1"), 1);
    page_end(&none);
    page_end(&p);
    json_decref(empty);
}
END_TEST

/* Each member missing, each alone, each empty, each of another type. */
START_TEST(test_members_missing) {
    json_t *whole = json_of(report_text);
    const char *key;
    json_t *value;
    json_object_foreach(whole, key, value) {
        json_t *without = json_copy(whole), *alone = json_pack("{s:O}", key, value),
               *other = json_copy(whole);
        json_t *bare = json_pack("{s:o}", key, json_is_array(value) ? json_array() : json_object());
        json_object_del(without, key);
        json_object_set_new(other, key, json_string("other"));
        json_t *const all[] = {without, alone, bare, other};
        for (int i = 0; i < 4; i++) {
            page p = page_of(all[i], NULL);
            ck_assert_int_eq(count(&p, "//a[@href='#times']"), 0);
            for (int j = 1, links = count(&p, "//nav/a"); j <= links; j++) {
                char path[100];
                snprintf(path, sizeof path, "//section[concat('#', @id) = //nav/a[%d]/@href]", j);
                ck_assert_msg(i == 3 || count(&p, path) == 1, "%s: link %d leads nowhere", key, j);
            }
            page_end(&p);
            json_decref(all[i]);
        }
    }
    json_decref(whole);
}
END_TEST

/* Lists of nothing and objects without members. */
START_TEST(test_empty_lists) {
    json_t *report = json_of(
        "{'files': [], 'steps': [{}, {'step': 'near', 'domains': []}], 'filters': [{}, {'rules': [{}]}],"
        "'examples': {'a.b': []}, 'domains': [{}], 'near': {'similarity': [], 'sizes': []}}");
    json_t *times = json_of("[[], ['read'], [null, -1]]");
    page p = page_of(report, times);
    ck_assert_int_eq(count(&p, ACCOUNT "/div//tbody/tr"), 3);
    ck_assert_int_eq(count(&p, "//section[@id='files']"), 0);
    ck_assert_int_eq(count(&p, "//svg[@class='chart' or @class='histogram']"), 0);
    page_end(&p);
    json_decref(report);
    json_decref(times);
}
END_TEST

/* `number` files of one document, one of them with a malformed one. */
static page page_of_files(int number, int bad) {
    json_t *files = json_array();
    for (int i = 0; i < number; i++)
        json_array_append_new(files, json_pack("{s:s, s:i, s:i, s:i}", "file", i == bad ? "bad" : "good",
                                               "documents", 1, "bytes", 10, "malformed", i == bad));
    json_t *report = json_pack("{s:o}", "files", files);
    page p = page_of(report, NULL);
    json_decref(report);
    return p;
}

START_TEST(test_many_files) {
    page few = page_of_files(12, 3), some = page_of_files(500, 450), many = page_of_files(900, 700);
    ck_assert_int_eq(count(&few, "//section[@id='files']/div//tbody/tr"), 13);
    ck_assert_int_eq(count(&some, "//section[@id='files']/details//tbody/tr"), 501);
    ck_assert_int_eq(count(&many, "//section[@id='files']/details//tbody/tr"), 2);
    row_says(&many, "//section[@id='files']//tbody/tr[1]", "bad|1|10|1|0|0|0|0|0|0|0");
    row_says(&many, "//section[@id='files']//tbody/tr[2]", "all 900|900|9,000|1|0|0|0|0|0|0|0");
    ck_assert_ptr_null(strstr(some.html, "files are shown"));
    ck_assert_ptr_nonnull(strstr(many.html, "1 of 900 files are shown"));
    page_end(&few);
    page_end(&some);
    page_end(&many);
}
END_TEST

SUITE_MAIN("report_html", test_account, test_account_of_domains, test_account_that_does_not_close,
           test_tables, test_rules, test_histograms, test_duplicates, test_hostile_texts, test_hostile_names,
           test_odd_characters, test_nothing, test_members_missing, test_empty_lists, test_many_files)
