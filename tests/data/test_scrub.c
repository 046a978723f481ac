/* data/filter: personal data is found, what only looks like it stays, and positions move with the text. */
#include "data/filter/filter.h"
#include "runtime/rng.h"
#include "support/capture.h"
#include "support/suite.h"

#include <string.h>

#define EMAIL "email@example.com"
#define IP "22.214.171.124"
#define PHONE "+1 555 0100"
#define NBSP "\xc2\xa0"
#define E_ACUTE "\xc3\xa9"
#define ADDRESS_ZH "\xe5\x9c\xb0\xe5\x9d\x80"

static weft_scrubber *scrubber(const char *kinds) {
    weft_scrubber *s;
    ck_assert_int_eq(weft_scrubber_new(&s, kinds), WEFT_OK);
    return s;
}

typedef struct expected {
    const char *in, *out;
} expected;

static void scrubs(const char *kinds, const expected *list, size_t count) {
    weft_scrubber *s = scrubber(kinds);
    weft_text out = {0};
    for (size_t i = 0; i < count; i++) {
        int64_t counts[3];
        ck_assert_int_eq(weft_scrub(s, list[i].in, strlen(list[i].in), &out, counts, NULL, 0), WEFT_OK);
        ck_assert_msg(out.bytes == strlen(list[i].out) && memcmp(out.data, list[i].out, out.bytes) == 0,
                      "'%s' became '%.*s', not '%s'", list[i].in, (int)out.bytes, out.data, list[i].out);
        int64_t want = strcmp(list[i].in, list[i].out) != 0;
        ck_assert_msg((counts[0] + counts[1] + counts[2] > 0) == want, "counts of '%s'", list[i].in);
    }
    weft_text_free(&out);
    weft_scrubber_free(s);
}
#define SCRUBS(kinds, list) scrubs(kinds, list, sizeof(list) / sizeof *(list))
#define STAYS(text)                                                                                          \
    { text, text }

START_TEST(email) {
    static const expected list[] = {
        {"write to jane.doe@mail.org.", "write to " EMAIL "."},
        {"a_b+c%d@x-y.co.uk, z@w.io", EMAIL ", " EMAIL},
        {"<o'brien@irish.ie>", "<" EMAIL ">"},
        {"'quoted@one.org'", "'" EMAIL "'"},
        {"..x@one.org", ".." EMAIL},
        {"x..y@one.org", "x.." EMAIL},
        {"mailto:me@one.org?subject=x", "mailto:" EMAIL "?subject=x"},
        {"?mail=me@one.org&x=1", "?mail=" EMAIL "&x=1"},
        {"a@b.org@c.org", EMAIL "@c.org"},
        {"me@one.org..two", EMAIL "..two"},
        {"me@one-.org me@two.org-", "me@one-.org " EMAIL "-"},
        {"me@one.org.5 times", EMAIL ".5 times"},
        {"root@[8.8.8.8] root@[8.8.8.888]", EMAIL " root@[8.8.8.888]"},
        {ADDRESS_ZH "me@one.org" ADDRESS_ZH, ADDRESS_ZH EMAIL ADDRESS_ZH},
        {"ren" E_ACUTE "@one.org ren" E_ACUTE "x@one.org", "ren" E_ACUTE "@one.org ren" E_ACUTE EMAIL},
        STAYS("me@example.com ME@Mail.Example.ORG me@example.net"),
        {"me@myexample.com me@example.com.org", EMAIL " " EMAIL},
        STAYS("npm i lodash@4.17.21 vue@3.0.0-beta.1"),
        STAYS("y = x@W.T + a@b"),
        STAYS("@user, a @ b.org, .@x.org, me@.org, me@org, @"),
        STAYS("https://social.org/@jane.doe"),
    };
    SCRUBS("email", list);
}
END_TEST

START_TEST(ipv4) {
    static const expected list[] = {
        {"from 8.8.8.8, 1.1.1.1.", "from " IP ", " IP "."},
        {"http://151.101.1.140:80/ [93.184.216.34]", "http://" IP ":80/ [" IP "]"},
        {ADDRESS_ZH "8.8.4.4" ADDRESS_ZH, ADDRESS_ZH IP ADDRESS_ZH},
        {"255.1.1.1 223.255.255.254 9.255.255.255 11.0.0.0", "255.1.1.1 " IP " " IP " " IP},
        STAYS("0.1.2.3 10.0.0.1 100.64.0.1 100.127.255.255 127.0.0.1 169.254.1.1 172.16.0.1 172.31.255.255"),
        STAYS("192.0.0.5 192.0.2.1 192.168.1.1 198.18.0.1 198.19.255.255 198.51.100.7 203.0.113.9 224.0.0.1"),
        STAYS("239.255.255.255 240.0.0.1 255.255.255.255"),
        {"100.63.0.1 100.128.0.1 172.15.0.1 172.32.0.1", IP " " IP " " IP " " IP},
        {"192.0.1.1 192.167.1.1 198.17.0.1 198.20.0.1", IP " " IP " " IP " " IP},
        STAYS("8.8.8 8.8.8.256 8.8.8.999 08.8.8.8 1234.8.8.8 8.8.8.8888"),
        STAYS("1.3.6.1.4.1 v1.2.3.4 1.2.3.4rc1 8..8.8.8 .8 8."),
        {"8.8.8.8", IP},
        {"::ffff:8.8.8.8 ::ffff:10.0.0.1", "::ffff:" IP " ::ffff:10.0.0.1"},
    };
    SCRUBS("ip", list);
}
END_TEST

START_TEST(ipv6) {
    static const expected list[] = {
        {"at 2001:4860:4860::8888, yes", "at " IP ", yes"},
        {"[2a00:1450:4001:0830:0000:0000:0000:200E]:443", "[" IP "]:443"},
        {"IPv6:2607:f8b0::1: it", "IPv6:" IP ": it"},
        {"2600:: 2600::/12", IP " " IP "/12"},
        {"2001:1ff::1 2001:200::1 3001::1", "2001:1ff::1 " IP " " IP},
        STAYS("::1 fe80::1 fd00::2 ff02::1 2001:db8::1 2001:0:1::1 3fff::1 100::1"),
        STAYS("2001: 2001:4860 2001:4860:1:2:3:4:5 2600:1:2:3:4:5:6:7:8 2600::4860::1 2600:::1 2600:4860::g"),
        STAYS("fe80::2001:4860:0:1 x2001:4860::1 12001:4860::1 2024:01:15 std::min 2::3 4000::1"),
    };
    SCRUBS("ip", list);
}
END_TEST

START_TEST(phone) {
    static const expected list[] = {
        {"call +1 (415) 555-2671 now", "call " PHONE " now"},
        {"+44 20 7946 0958, +442079460958.", PHONE ", " PHONE "."},
        {"+49 (0)30 901820; Tel:+49-30-901820", PHONE "; Tel:" PHONE},
        {"+33" NBSP "1" NBSP "23" NBSP "45" NBSP "67" NBSP "89" NBSP "!", PHONE NBSP "!"},
        {"+1\xe2\x80\x91"
         "415\xe2\x80\x91"
         "555\xe2\x80\x91"
         "2671",
         PHONE},
        {"+33.1.23.45.67.89", PHONE},
        {"+49 30 12345678 2021", PHONE " 2021"},
        {"+49 30 901820\n12 more", PHONE "\n12 more"},
        STAYS("2+12345678 x+12345678 ++12345678 +0123456789 +1234567 + 12345678"),
        STAYS("+3.14159265 +1,234,567,890 +1234567890123456 +123456789x +1 2 3"),
        STAYS("415-555-2671 +1 (41) 5552"),
        {"+491 (0)123456789012 +491 (02)123456789012", PHONE " +491 (02)123456789012"},
        {"(+49 30 901820)", "(" PHONE ")"},
    };
    SCRUBS("phone", list);
}
END_TEST

START_TEST(together) {
    static const expected list[] = {
        {"+15550100999@sms.org 8.8.8.8@one.org", "+" EMAIL " " EMAIL},
        {"+49 30 901820 0999@sms.org", PHONE " " EMAIL},
        {"8.8.8.8.me@one.org", IP "." EMAIL},
        {"me@8.8.8.8, +49 30 901820", "me@" IP ", " PHONE},
        {"+49 30 9018 2600:1901::1", PHONE ":1901::1"},
        STAYS(""),
        STAYS("@"),
        STAYS("+"),
        STAYS("."),
        STAYS(":"),
    };
    SCRUBS("email,ip,phone", list);
    static const expected only_phone[] = {{"me@one.org 8.8.8.8 +49 30 901820", "me@one.org 8.8.8.8 " PHONE}};
    SCRUBS(" phone", only_phone);
}
END_TEST

START_TEST(counts_by_kind) {
    weft_scrubber *s = scrubber("phone, email,ip");
    static const char text[] =
        "a@b.org 8.8.8.8 2600::1 +49 30 901820 c@d.org e@f.org me@example.com 10.0.0.1";
    int64_t counts[3] = {-1, -1, -1};
    weft_text out = {0};
    ck_assert_int_eq(weft_scrub(s, text, sizeof text - 1, &out, counts, NULL, 0), WEFT_OK);
    ck_assert_int_eq(counts[0], 3);
    ck_assert_int_eq(counts[1], 2);
    ck_assert_int_eq(counts[2], 1);
    weft_text_free(&out);
    weft_scrubber_free(s);
}
END_TEST

/* ---- against a model that knows which pieces a text is made of ---- */
typedef struct piece {
    const char *in, *out;
} piece;
static const piece pieces[] = {
    {"jane.doe@mail.org", EMAIL},
    {"8.8.8.8", IP},
    {"2600:1901::1", IP},
    {"+49 30 901820", PHONE},
    {"+1 (415) 555-2671", PHONE},
    STAYS("10.0.0.1"),
    STAYS("me@example.com"),
    STAYS("@@"),
    STAYS("plain"),
    STAYS(ADDRESS_ZH),
    STAYS("3.14"),
    STAYS(E_ACUTE),
    STAYS(""),
};
static const char *const between[] = {" | ", ", ", "\n", " " ADDRESS_ZH " ", "\xf0\x9f\x98\x80", "<", ";;"};
enum { PIECES = sizeof pieces / sizeof *pieces, BETWEEN = sizeof between / sizeof *between, ROOM = 4096 };

typedef struct model {
    char in[ROOM], out[ROOM];
    size_t in_bytes, out_bytes;
    size_t to[ROOM]; /* where each position of `in` goes */
} model;

static void add(model *m, const char *in, const char *out) {
    size_t n = strlen(in), k = strlen(out);
    bool same = strcmp(in, out) == 0;
    ck_assert_uint_lt(m->in_bytes + n, ROOM);
    ck_assert_uint_lt(m->out_bytes + k, ROOM);
    for (size_t i = 0; i < n; i++) m->to[m->in_bytes + i] = m->out_bytes + (same ? i : 0);
    memcpy(m->in + m->in_bytes, in, n);
    memcpy(m->out + m->out_bytes, out, k);
    m->in_bytes += n;
    m->out_bytes += k;
    m->to[m->in_bytes] = m->out_bytes;
}

START_TEST(positions_move_with_the_text) {
    static model m;
    weft_scrubber *s = scrubber("email,ip,phone");
    weft_rng r = weft_rng_make(1, "scrub");
    weft_text out = {0};
    uint64_t at = 0;
    for (int trial = 0; trial < 500; trial++) {
        m.in_bytes = m.out_bytes = m.to[0] = 0;
        for (uint64_t n = weft_rng_below(r, at++, 20); n > 0; n--) {
            const piece *p = &pieces[weft_rng_below(r, at++, PIECES)];
            const char *gap = between[weft_rng_below(r, at++, BETWEEN)];
            add(&m, p->in, p->out);
            add(&m, gap, gap);
        }
        size_t map[3 * ROOM], want[3 * ROOM], count = 0;
        for (size_t i = 0; i <= m.in_bytes; i++)
            for (uint64_t k = weft_rng_below(r, at++, 4); k-- > 1;) {
                map[count] = i;
                want[count++] = m.to[i];
            }
        int64_t counts[3];
        ck_assert_int_eq(weft_scrub(s, m.in, m.in_bytes, &out, counts, map, count), WEFT_OK);
        ck_assert_msg(out.bytes == m.out_bytes && (out.bytes == 0 || memcmp(out.data, m.out, out.bytes) == 0),
                      "'%.*s' became '%.*s'", (int)m.in_bytes, m.in, (int)out.bytes, out.data);
        for (size_t i = 0; i < count; i++) ck_assert_uint_eq(map[i], want[i]);
    }
    weft_text_free(&out);
    weft_scrubber_free(s);
}
END_TEST

/* Time that grew with the square of the text, or a stack that did, would show here: 4 MiB of each. */
START_TEST(long_runs) {
    static const char *const runs[] = {"a",   "a.", "a-", "a@", "a@a.", "1.",  "1",     "+1",
                                       "+1 ", ":",  "2a", "@",  ".",    "::2", "2001:", "a@1."};
    enum { BYTES = 4 << 20 };
    char *text = malloc(BYTES);
    ck_assert_ptr_nonnull(text);
    weft_scrubber *s = scrubber("email,ip,phone");
    weft_text out = {0};
    for (size_t i = 0; i < sizeof runs / sizeof *runs; i++) {
        size_t n = strlen(runs[i]);
        for (size_t k = 0; k < BYTES; k++) text[k] = runs[i][k % n];
        memcpy(text, "@b-", 3);
        int64_t counts[3];
        ck_assert_int_eq(weft_scrub(s, text, BYTES, &out, counts, NULL, 0), WEFT_OK);
        ck_assert_int_eq(counts[1] + counts[2], 0);
    }
    free(text);
    weft_text_free(&out);
    weft_scrubber_free(s);
}
END_TEST

START_TEST(unknown_kinds_are_refused) {
    static const char *const bad[] = {"", "emails", "email,,ip", "email,phones"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        weft_scrubber *s = NULL;
        capture();
        weft_status st = weft_scrubber_new(&s, bad[i]);
        release();
        ck_assert_int_eq(st, WEFT_EINPUT);
        ck_assert_ptr_null(s);
        ck_assert_ptr_nonnull(strstr(message, "email, ip, phone"));
    }
    ck_assert_ptr_nonnull(strstr(message, "did you mean 'phone'?"));
}
END_TEST

SUITE_MAIN("scrub", email, ipv4, ipv6, phone, together, counts_by_kind, positions_move_with_the_text,
           long_runs, unknown_kinds_are_refused)
