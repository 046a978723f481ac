#define PCRE2_CODE_UNIT_WIDTH 8
#include "data/filter/personal.h"

#include <arpa/inet.h>
#include <pcre2.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

const char weft_personal_marks[WEFT_PERSONAL_SORTS] = {'@', '.', ':', '+'};
const weft_personal_kind weft_personal_kind_of[WEFT_PERSONAL_SORTS] = {WEFT_EMAIL, WEFT_IP, WEFT_IP,
                                                                       WEFT_PHONE};

/* Patterns are of bytes and all but the separators of telephone numbers are of ASCII: whatever matches starts
 * and ends between characters. They are tried at one place each, and what repeats without a bound does so
 * without going back: no text makes them slow.
 *
 * A domain's last label begins with a letter and has two characters or more, so that neither package@1.2.3
 * nor the matrix product x@W.T is an address. */
#define LABEL "[A-Za-z0-9]++(?:-++[A-Za-z0-9]++)*+"
#define OCTET "(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
#define IPV4 OCTET "(?:\\." OCTET "){3}"
#define GROUP "[0-9A-Fa-f]{1,4}"
/* Space, dot, hyphen, slash; U+00A0, U+2010, U+2011, U+2013, U+202F. */
#define BETWEEN "(?:[ ./-]|\\xc2\\xa0|\\xe2\\x80[\\x90\\x91\\x93\\xaf]){0,2}"
#define NO_WORD "(?![0-9A-Za-z_@])" /* goes on: something longer, or the local part of an e-mail address */

static const char *const expressions[WEFT_PERSONAL_SORTS] = {
    "@(?:(?:" LABEL "\\.){1,126}(?=[A-Za-z]-*+[A-Za-z0-9])" LABEL "|\\[" IPV4 "\\])",
    IPV4 NO_WORD "(?!\\.[0-9])",
    "[23][0-9A-Fa-f]{3}(?::{1,2}" GROUP "){0,7}+(?:::)?" NO_WORD "(?!:[0-9A-Fa-f:])",
    /* E.164: up to 15 digits. An area code, or the 0 that is not dialled from abroad, may stand in
       parentheses. */
    "\\+[1-9](?:[0-9]{0,2}" BETWEEN "\\([0-9]{1,5}\\)(?:" BETWEEN "[0-9]){4,12}|(?:" BETWEEN
    "[0-9]){7,14})" NO_WORD,
};

struct weft_patterns {
    pcre2_code *code[WEFT_PERSONAL_SORTS];
};

weft_status weft_patterns_new(weft_patterns **out) {
    weft_patterns *p = calloc(1, sizeof *p);
    if (!p) WEFT_FAIL(WEFT_ENOMEM, "no memory for the patterns of personal data");
    for (int i = 0; i < WEFT_PERSONAL_SORTS; i++) {
        int error;
        size_t at;
        p->code[i] = pcre2_compile((PCRE2_SPTR)expressions[i], PCRE2_ZERO_TERMINATED, PCRE2_ANCHORED, &error,
                                   &at, NULL);
        if (!p->code[i]) {
            weft_patterns_free(p);
            WEFT_FAIL(WEFT_EINTERNAL, "pattern %d of personal data: PCRE2 error %d at %zu", i, error, at);
        }
        pcre2_jit_compile(p->code[i], PCRE2_JIT_COMPLETE); /* where there is none, matching interprets */
    }
    *out = p;
    return WEFT_OK;
}

void weft_patterns_free(weft_patterns *p) {
    if (!p) return;
    for (int i = 0; i < WEFT_PERSONAL_SORTS; i++) pcre2_code_free(p->code[i]);
    free(p);
}

void weft_search_end(weft_search *s) {
    pcre2_match_data_free(s->match);
    s->match = NULL;
}

/* *end of what the pattern matches at `start`; `start` itself when it does not. */
static weft_status match(weft_search *s, weft_personal_sort sort, size_t start, size_t *end) {
    if (!s->match && !(s->match = pcre2_match_data_create(1, NULL)))
        WEFT_FAIL(WEFT_ENOMEM, "no memory to look for personal data");
    int rc = pcre2_match(s->patterns->code[sort], (PCRE2_SPTR)s->text, s->bytes, start, 0, s->match, NULL);
    if (rc < 0 && rc != PCRE2_ERROR_NOMATCH)
        WEFT_FAIL(WEFT_EINTERNAL, "looking for personal data (pattern %d): PCRE2 error %d", (int)sort, rc);
    *end = rc < 0 ? start : pcre2_get_ovector_pointer(s->match)[1];
    return WEFT_OK;
}

static bool digit(char c) {
    return c >= '0' && c <= '9';
}
static bool hex(char c) {
    return digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}
static bool word(char c) {
    return digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

/* ---- e-mail ---- */
/* RFC 5322's atom without what separates parts of URLs and assignments: / = ? & | */
static bool of_local_part(char c) {
    return word(c) || (c && strchr("!#$%'*+^`{}~-", c));
}

/* RFC 2606 */
static bool is_example(const char *domain, size_t bytes) {
    static const char *const names[] = {"example.com", "example.org", "example.net"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        size_t n = strlen(names[i]);
        if (bytes >= n && strncasecmp(domain + bytes - n, names[i], n) == 0 &&
            (bytes == n || domain[bytes - n - 1] == '.'))
            return true;
    }
    return false;
}

static weft_status email_at(weft_search *s, size_t at, size_t floor, weft_span *found) {
    const char *text = s->text;
    size_t start = at, end;
    while (start > floor &&
           (of_local_part(text[start - 1]) || (text[start - 1] == '.' && start < at && text[start] != '.')))
        start--;
    while (start < at && !word(text[start])) start++; /* quotation marks, as in 'a@b.org' */
    if (start == at) return WEFT_OK;
    WEFT_TRY(match(s, WEFT_PERSONAL_EMAIL, at, &end));
    if (end > at && !is_example(text + at + 1, end - at - 1)) *found = (weft_span){start, end};
    return WEFT_OK;
}

/* ---- addresses ---- */
typedef struct prefix {
    uint32_t address;
    int bits;
} prefix;

static bool among(uint32_t address, const prefix *list, size_t count) {
    for (size_t i = 0; i < count; i++)
        if ((address ^ list[i].address) >> (32 - list[i].bits) == 0) return true;
    return false;
}

/* IANA's registry of special-purpose addresses (RFC 6890), and multicast. */
static bool ipv4_is_public(const char *text) {
    static const prefix special[] = {
        {0x00000000, 8},  /* 0.0.0.0        this network */
        {0x0a000000, 8},  /* 10.0.0.0       private */
        {0x64400000, 10}, /* 100.64.0.0     shared */
        {0x7f000000, 8},  /* 127.0.0.0      loopback */
        {0xa9fe0000, 16}, /* 169.254.0.0    link-local */
        {0xac100000, 12}, /* 172.16.0.0     private */
        {0xc0000000, 24}, /* 192.0.0.0      protocols */
        {0xc0000200, 24}, /* 192.0.2.0      documentation */
        {0xc0a80000, 16}, /* 192.168.0.0    private */
        {0xc6120000, 15}, /* 198.18.0.0     benchmarks */
        {0xc6336400, 24}, /* 198.51.100.0   documentation */
        {0xcb007100, 24}, /* 203.0.113.0    documentation */
        {0xe0000000, 3},  /* 224.0.0.0      multicast; 240.0.0.0 reserved */
    };
    uint32_t address = 0;
    for (int i = 0; i < 4; i++, text++) {
        uint32_t octet = 0;
        for (; digit(*text); text++) octet = 10 * octet + (uint32_t)(*text - '0');
        address = address << 8 | octet;
    }
    return !among(address, special, sizeof special / sizeof *special);
}

/* Not a part of a word (v1.2.3.4) or of a longer number with dots, such as an OID. */
static weft_status ipv4_at(weft_search *s, size_t at, size_t floor, weft_span *found) {
    const char *text = s->text;
    size_t start = at, end;
    if (at == 0 || at + 1 == s->bytes || !digit(text[at + 1])) return WEFT_OK;
    while (start > floor && at - start < 3 && digit(text[start - 1])) start--;
    bool inside = start > 0 &&
                  (word(text[start - 1]) || (text[start - 1] == '.' && start > 1 && digit(text[start - 2])));
    if (start == at || inside) return WEFT_OK;
    WEFT_TRY(match(s, WEFT_PERSONAL_IPV4, start, &end));
    if (end > start && ipv4_is_public(text + start)) *found = (weft_span){start, end};
    return WEFT_OK;
}

/* Of the global addresses, 2000::/3 (RFC 4291). */
static bool ipv6_is_public(const char *text, size_t bytes) {
    static const prefix special[] = {
        {0x20010000, 23}, /* 2001::      protocols */
        {0x20010db8, 32}, /* 2001:db8::  documentation */
        {0x3fff0000, 20}, /* 3fff::      documentation */
    };
    char address[64];
    unsigned char b[16];
    if (bytes >= sizeof address) return false;
    memcpy(address, text, bytes);
    address[bytes] = '\0';
    if (inet_pton(AF_INET6, address, b) != 1) return false;
    uint32_t high = (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
    return !among(high, special, sizeof special / sizeof *special);
}

/* Whether the colon before `start` belongs to an address (fe80::2001:...) and not to a name (IPv6:2001:...).
 */
static bool after_group(const char *text, size_t start) {
    size_t group = start - 1, digits = 0;
    while (group > 0 && digits < 5 && hex(text[group - 1])) group--, digits++;
    if (digits == 0) return group > 0 && text[group - 1] == ':';
    return digits < 5 && (group == 0 || !word(text[group - 1]));
}

static weft_status ipv6_at(weft_search *s, size_t at, size_t floor, weft_span *found) {
    const char *text = s->text;
    size_t start = at - 4, end;
    if (at < floor + 4 || at + 1 == s->bytes || (text[at + 1] != ':' && !hex(text[at + 1]))) return WEFT_OK;
    if (text[start] != '2' && text[start] != '3') return WEFT_OK;
    if (start > 0 && (word(text[start - 1]) || (text[start - 1] == ':' && after_group(text, start))))
        return WEFT_OK;
    WEFT_TRY(match(s, WEFT_PERSONAL_IPV6, start, &end));
    if (end > start && ipv6_is_public(text + start, end - start)) *found = (weft_span){start, end};
    return WEFT_OK;
}

/* ---- telephone numbers ---- */
/* A single dot makes a decimal number of it. */
static bool is_number_of_phone(const char *text, size_t bytes) {
    size_t digits = 0, dots = 0, parentheses = 0;
    for (size_t i = 0; i < bytes; i++) {
        digits += digit(text[i]);
        dots += text[i] == '.';
        parentheses += text[i] == '(';
    }
    bool decimal = dots == 1 && bytes == digits + 2; /* the plus sign, the dot */
    return digits >= 8 && digits <= 15 + parentheses && !decimal;
}

static weft_status phone_at(weft_search *s, size_t at, size_t floor, weft_span *found) {
    const char *text = s->text;
    size_t end;
    if (at > floor && (word(text[at - 1]) || text[at - 1] == '+')) return WEFT_OK;
    if (at + 1 == s->bytes || !digit(text[at + 1])) return WEFT_OK;
    WEFT_TRY(match(s, WEFT_PERSONAL_PHONE, at, &end));
    if (end > at && is_number_of_phone(text + at, end - at)) *found = (weft_span){at, end};
    return WEFT_OK;
}

weft_status weft_search_at(weft_search *s, weft_personal_sort sort, size_t at, size_t floor,
                           weft_span *found) {
    *found = (weft_span){at, at};
    switch (sort) {
    case WEFT_PERSONAL_EMAIL:
        return email_at(s, at, floor, found);
    case WEFT_PERSONAL_IPV4:
        return ipv4_at(s, at, floor, found);
    case WEFT_PERSONAL_IPV6:
        return ipv6_at(s, at, floor, found);
    default:
        return phone_at(s, at, floor, found);
    }
}
