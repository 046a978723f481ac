#include "data/text/normalise.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unicode/uchar.h>
#include <unicode/unorm2.h>
#include <unicode/utf8.h>
#include <unicode/utf16.h>

/* What becomes of a code point, in a table for the Basic Multilingual Plane. The steps look at each other's
 * results in few places only, which is why one pass will do: a number is replaced before its separator can
 * become a space, white space is joined before the marks between it are taken out, and a capital sigma looks
 * at its neighbours. */
enum { PLANE = 0x10000, KIND_SHIFT = 28, LENGTH_SHIFT = 24 };
typedef enum kind {
    KEEP, /* its small letter without marks, the UTF-8 of which is in the low bytes of the entry */
    SPACE,
    DIGIT,
    MARK, /* taken out */
    LONG, /* KEEP, of more than three bytes */
    SIGMA,
} kind;

static uint32_t table[PLANE];
static const UNormalizer2 *nfd;
static UErrorCode made_error = U_ZERO_ERROR;
static pthread_once_t made = PTHREAD_ONCE_INIT;

enum { CAPITAL_SIGMA = 0x3a3, SMALL_SIGMA = 0x3c3, FINAL_SIGMA = 0x3c2 };

/* datatrove's punctuation above ASCII (all of ASCII's is in it) and the C1 controls. */
static const uint16_t PUNCTUATION[] = {0x00ab, 0x00b4, 0x00bb, 0x2013, 0x2014, 0x2019, 0x201c, 0x201d, 0x201e,
                                       0x2026, 0x2236, 0x2501, 0x25ba, 0x3001, 0x3002, 0x3008, 0x3009, 0x300a,
                                       0x300b, 0x300c, 0x300d, 0x3010, 0x3011, 0xff01, 0xff05, 0xff08, 0xff09,
                                       0xff0c, 0xff0e, 0xff1a, 0xff1b, 0xff1f, 0xff5e};

static bool punctuation(UChar32 c) {
    if (c < 0xa0) return !u_isalnum(c);
    for (size_t i = 0; i < sizeof PUNCTUATION / sizeof *PUNCTUATION; i++)
        if (PUNCTUATION[i] == c) return true;
    return false;
}

/* Between the digits of a number. */
static bool separator(UChar32 c) {
    return c == '.' || c == ',' || c == 0x060c || c == 0x066b || (c >= 0x2396 && c <= 0x2398);
}

/* The small letter `c` decomposed, without marks, as UTF-8. */
enum { MOST = 64 };
static size_t decomposed(UChar32 c, char out[MOST]) {
    UErrorCode error = U_ZERO_ERROR;
    UChar parts[MOST / 4];
    int32_t n = unorm2_getDecomposition(nfd, c, parts, MOST / 4, &error);
    if (U_FAILURE(error) || n < 0) {
        n = 0;
        U16_APPEND_UNSAFE(parts, n, c);
    }
    size_t bytes = 0;
    for (int32_t i = 0; i < n;) {
        UChar32 part;
        U16_NEXT(parts, i, n, part);
        if (u_charType(part) != U_NON_SPACING_MARK) U8_APPEND_UNSAFE(out, bytes, part);
    }
    return bytes;
}

static uint32_t entry_of(UChar32 c) {
    if (c == CAPITAL_SIGMA) return (uint32_t)SIGMA << KIND_SHIFT;
    c = u_tolower(c); /* the one longer mapping, of U+0130, adds a mark */
    if (u_isdigit(c)) return (uint32_t)DIGIT << KIND_SHIFT;
    if (u_isUWhiteSpace(c) || punctuation(c)) return (uint32_t)SPACE << KIND_SHIFT;
    char utf8[MOST];
    size_t bytes = decomposed(c, utf8);
    if (bytes == 0) return (uint32_t)MARK << KIND_SHIFT;
    if (bytes > 3) return (uint32_t)LONG << KIND_SHIFT;
    uint32_t entry = 0;
    memcpy(&entry, utf8, bytes);
    return entry | (uint32_t)bytes << LENGTH_SHIFT;
}

static void make(void) {
    nfd = unorm2_getNFDInstance(&made_error);
    if (U_FAILURE(made_error)) return;
    for (UChar32 c = 0; c < PLANE; c++)
        if (!U_IS_SURROGATE(c)) table[c] = entry_of(c);
}

/* ---- one text ---- */

typedef struct pass {
    const char *text;
    size_t at, end;
    weft_text *out;
    bool space; /* white space would be one too many here */
} pass;

static uint32_t look_up(UChar32 c) {
    return c < PLANE ? table[c] : entry_of(c);
}

/* Final_Sigma of the Unicode Standard, table 3-17: a cased letter before, none after; case-ignorable ones
 * between do not count. `from` is where the sigma starts, p->at where it ends. */
static bool sigma_is_final(const pass *p, size_t from) {
    UChar32 c = 0;
    bool cased = false;
    for (size_t i = from; i > 0;) {
        U8_PREV_UNSAFE(p->text, i, c);
        if (u_hasBinaryProperty(c, UCHAR_CASE_IGNORABLE)) continue;
        cased = u_hasBinaryProperty(c, UCHAR_CASED);
        break;
    }
    if (!cased) return false;
    for (size_t i = p->at; i < p->end;) {
        U8_NEXT_UNSAFE(p->text, i, c);
        if (!u_hasBinaryProperty(c, UCHAR_CASE_IGNORABLE)) return !u_hasBinaryProperty(c, UCHAR_CASED);
    }
    return true;
}

/* Goes on behind the digits that start at p->at, of which there may be none. */
static bool digits(pass *p) {
    size_t before = p->at;
    while (p->at < p->end) {
        size_t next = p->at;
        UChar32 c;
        U8_NEXT_UNSAFE(p->text, next, c);
        if (look_up(c) >> KIND_SHIFT != DIGIT) break;
        p->at = next;
    }
    return p->at > before;
}

/* The number whose first digit was just read. */
static void number(pass *p) {
    digits(p);
    size_t whole = p->at;
    if (whole == p->end) return;
    UChar32 c;
    U8_NEXT_UNSAFE(p->text, p->at, c);
    if (!separator(c) || !digits(p)) p->at = whole;
}

/* Room for what is left, if no character is LONG: two bytes become three at most. */
static weft_status reserve(const pass *p) {
    weft_text *t = p->out;
    size_t left = p->end - p->at, needed = t->bytes + left + left / 2 + MOST;
    if (t->capacity >= needed) return WEFT_OK;
    size_t capacity = needed + needed / 4;
    char *data = realloc(t->data, capacity);
    if (!data) WEFT_FAIL(WEFT_ENOMEM, "no memory for the compared form of a text of %zu bytes", p->end);
    t->data = data;
    t->capacity = capacity;
    return WEFT_OK;
}

/* The next character, by the whole table. */
static weft_status one(pass *p) {
    weft_text *out = p->out;
    size_t from = p->at;
    UChar32 c;
    U8_NEXT_UNSAFE(p->text, p->at, c);
    uint32_t entry = look_up(c);
    switch ((kind)(entry >> KIND_SHIFT)) {
    case KEEP:
        memcpy(out->data + out->bytes, &entry, 4);
        out->bytes += entry >> LENGTH_SHIFT;
        break;
    case SPACE:
        if (!p->space) out->data[out->bytes++] = ' ';
        p->space = true;
        return WEFT_OK;
    case DIGIT:
        number(p);
        out->data[out->bytes++] = '0';
        break;
    case MARK:
        if (out->bytes > 0) p->space = false;
        return WEFT_OK;
    case LONG:
        out->bytes += decomposed(u_tolower(c), out->data + out->bytes);
        WEFT_TRY(reserve(p));
        break;
    case SIGMA:
        c = sigma_is_final(p, from) ? FINAL_SIGMA : SMALL_SIGMA;
        U8_APPEND_UNSAFE(out->data, out->bytes, c);
        break;
    }
    p->space = false;
    return WEFT_OK;
}

/* Characters of ASCII but digits, which is where most of a text is: no branch but the loop's. */
static void ascii(pass *p) {
    const unsigned char *text = (const unsigned char *)p->text;
    char *out = p->out->data;
    size_t i = p->at, n = p->out->bytes;
    bool space = p->space;
    for (; i < p->end && text[i] < 0x80; i++) {
        uint32_t entry = table[text[i]];
        if (entry >> KIND_SHIFT > SPACE) break;
        bool blank = entry >> KIND_SHIFT == SPACE;
        out[n] = blank ? ' ' : (char)entry;
        n += !(blank & space);
        space = blank;
    }
    p->at = i;
    p->out->bytes = n;
    p->space = space;
}

weft_status weft_normalise_compared(const char *text, size_t bytes, weft_text *out) {
    pthread_once(&made, make);
    if (U_FAILURE(made_error))
        WEFT_FAIL(WEFT_EINTERNAL, "Unicode normalisation (ICU): %s", u_errorName(made_error));
    pass p = {.text = text, .end = bytes, .out = out, .space = true};
    out->bytes = 0;
    WEFT_TRY(reserve(&p));
    while (p.at < p.end) {
        ascii(&p);
        if (p.at < p.end) WEFT_TRY(one(&p));
    }
    while (out->bytes > 0 && out->data[out->bytes - 1] == ' ') out->bytes--;
    return WEFT_OK;
}
