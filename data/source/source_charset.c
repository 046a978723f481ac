#include "data/source/source_charset.h"
#include "data/source/source_json.h"
#include "data/source/source_utf8.h"

#include <string.h>
#include <strings.h>
#include <unicode/ucnv.h>

enum { LOOKED_AT = 4096 /* bytes of a page in which its <meta> is looked for */, NAME = 64 };

/* ---- names ---- */

/* Labels that mean another charset on the web than their name says. */
static const char *const aliases[][2] = {
    {"utf8", "UTF-8"},
    {"unicode-1-1-utf-8", "UTF-8"},
    {"utf-16", "UTF-16LE"},
    {"ascii", "windows-1252"},
    {"us-ascii", "windows-1252"},
    {"latin1", "windows-1252"},
    {"l1", "windows-1252"},
    {"iso-8859-1", "windows-1252"},
    {"iso8859-1", "windows-1252"},
    {"iso_8859-1", "windows-1252"},
    {"iso-8859-9", "windows-1254"},
    {"latin5", "windows-1254"},
    {"iso-8859-11", "windows-874"},
    {"tis-620", "windows-874"},
    {"iso-8859-8-i", "ISO-8859-8"},
    {"gb2312", "GB18030"},
    {"gb_2312-80", "GB18030"},
    {"gbk", "GB18030"},
    {"x-gbk", "GB18030"},
    {"euc-kr", "windows-949"},
    {"ks_c_5601-1987", "windows-949"},
    {"ksc5601", "windows-949"},
    {"x-sjis", "Shift_JIS"},
};

const char *weft_charset_known(const char *name) {
    UErrorCode error = U_ZERO_ERROR;
    size_t length = strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.:");
    if (length == 0 || length >= NAME || name[length]) return NULL;
    for (size_t i = 0; i < sizeof aliases / sizeof *aliases; i++)
        if (strcasecmp(name, aliases[i][0]) == 0) return aliases[i][1];
    return ucnv_getAlias(name, 0, &error); /* of ICU's own table: nothing is looked for on the disk */
}

bool weft_charset_is_utf8(const char *known) {
    return known && strcasecmp(known, "UTF-8") == 0;
}

/* ---- which one ---- */

static const char *find(const char *p, const char *end, const char *lower) {
    size_t n = strlen(lower);
    for (; (size_t)(end - p) >= n; p++)
        if (strncasecmp(p, lower, n) == 0) return p;
    return NULL;
}

/* The value behind `word`, "=" and perhaps a quote, in [p, end). */
static const char *value_of(const char *p, const char *end, const char *word) {
    char name[NAME];
    size_t n = 0;
    p = find(p, end, word);
    if (!p) return NULL;
    p += strlen(word);
    while (p < end && memchr(" \t\r\n\f", *p, 5)) p++;
    if (p == end || *p++ != '=') return NULL;
    while (p < end && memchr(" \t\r\n\f\"'", *p, 7)) p++;
    while (p < end && !memchr(" \t\r\n\f\"';>/?", *p, 11) && n < NAME - 1) name[n++] = *p++;
    name[n] = 0;
    const char *known = weft_charset_known(name);
    return known && strncasecmp(known, "UTF-16", 6) == 0 ? "UTF-8"
                                                         : known; /* it was read as bytes until here */
}

static const char *declared(const char *data, size_t bytes) {
    const char *end = data + (bytes < LOOKED_AT ? bytes : LOOKED_AT), *found = NULL;
    if (bytes >= 5 && memcmp(data, "<?xml", 5) == 0) {
        const char *stop = memchr(data, '>', (size_t)(end - data));
        found = value_of(data, stop ? stop : end, "encoding");
    }
    for (const char *p = data; !found && (p = find(p, end, "<meta")); p += 5) {
        const char *stop = memchr(p, '>', (size_t)(end - p));
        found = value_of(p, stop ? stop : end, "charset");
    }
    return found;
}

const char *weft_charset_of(const char *data, size_t bytes, const char *header) {
    const char *found = NULL;
    if (bytes >= 3 && memcmp(data, "\xef\xbb\xbf", 3) == 0) return "UTF-8";
    if (bytes >= 2 && memcmp(data, "\xff\xfe", 2) == 0) return "UTF-16LE";
    if (bytes >= 2 && memcmp(data, "\xfe\xff", 2) == 0) return "UTF-16BE";
    if (header && header[0]) found = weft_charset_known(header);
    if (!found) found = declared(data, bytes);
    if (!found) found = weft_utf8_valid(data, bytes) ? "UTF-8" : "windows-1252";
    return found;
}

/* ---- converting ---- */

static weft_status convert(UConverter *from, UConverter *to, const char *data, size_t bytes, weft_text *out) {
    UChar pivot[4096], *pivot_source = pivot, *pivot_target = pivot;
    char block[1 << 14];
    const char *source = data;
    UErrorCode error = U_BUFFER_OVERFLOW_ERROR;
    for (UBool reset = true; error == U_BUFFER_OVERFLOW_ERROR; reset = false) {
        char *target = block;
        error = U_ZERO_ERROR;
        ucnv_convertEx(to, from, &target, block + sizeof block, &source, data + bytes, pivot, &pivot_source,
                       &pivot_target, pivot + sizeof pivot / sizeof *pivot, reset, true, &error);
        WEFT_TRY(weft_text_append(out, block, (size_t)(target - block)));
    }
    if (U_FAILURE(error)) WEFT_FAIL(WEFT_EINTERNAL, "a text could not be converted: %s", u_errorName(error));
    return WEFT_OK;
}

static weft_status by_icu(const char *known, const char *data, size_t bytes, weft_text *out) {
    UErrorCode error = U_ZERO_ERROR;
    UConverter *from = ucnv_open(known, &error), *to = ucnv_open("UTF-8", &error);
    weft_status st = U_SUCCESS(error) ? convert(from, to, data, bytes, out)
                                      : weft_fail(WEFT_ENOMEM, "%s: the converter cannot be opened: %s",
                                                  known, u_errorName(error));
    ucnv_close(from);
    ucnv_close(to);
    return st;
}

weft_status weft_charset_decode(const char *known, const char *data, size_t bytes, weft_text *out) {
    out->bytes = 0;
    if (bytes >= 3 && memcmp(data, "\xef\xbb\xbf", 3) == 0) data += 3, bytes -= 3;
    if (weft_charset_is_utf8(known)) return weft_utf8_repair(data, bytes, out);
    const char *mark = strcasecmp(known, "UTF-16LE") == 0 ? "\xff\xfe" : "\xfe\xff";
    if (bytes >= 2 && strncasecmp(known, "UTF-16", 6) == 0 && memcmp(data, mark, 2) == 0)
        data += 2, bytes -= 2;
    return by_icu(known, data, bytes, out);
}
